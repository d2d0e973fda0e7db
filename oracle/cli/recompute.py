"""``oracle recompute``: make every derived figure anew from fills, or check that rows are what they must be.

Inputs: a state folder. Outputs: a table for people, one JSON object for machines, an exit code. Only what is derived is
ever written; ``--check`` writes nothing.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption

if TYPE_CHECKING:
    from rich.console import Console

    from oracle.recompute import Check, Rebuild

# 65 is EX_DATAERR of sysexits: the rows are not those that were committed.
EXIT_DAMAGED = 65
MOST_SHOWN = 50


def recompute(
    check: Annotated[bool, typer.Option("--check", help="Only look, and name every row that is wrong.")] = False,
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Make every derived figure anew from fills, settlements and equity marks, and say which rows changed.

    The daemon must be stopped; with --check it may run, and nothing is written. A database of an older version is
    brought up to date first.

    Exit codes: 0 done, or all is as it must be; 65 a row is wrong: each is named; 78 no database, or it is in use.
    """
    from oracle import recompute as work

    with ExitStack() as stack:
        progress = _progress(stack)
        found = work.check(state, progress) if check else work.recompute(state, progress)
    if json:
        _print_json(found)
    else:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:
            console.width = 240
        if isinstance(found, work.Check):
            _show_check(found, console)
        else:
            _show_rebuild(found, console)
    if found.faults:
        raise typer.Exit(EXIT_DAMAGED)


def _progress(stack: ExitStack) -> Callable[[str, int, int], None]:
    """A bar on standard error; nothing when it is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        return lambda _what, _done, _total: None
    columns = (TextColumn("{task.description:20}"), BarColumn(), TimeElapsedColumn())
    bar = stack.enter_context(Progress(*columns, console=console, transient=True))
    task = bar.add_task("reading")
    return lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def _print_json(found: "Check | Rebuild") -> None:
    from dataclasses import asdict

    import orjson

    values = {"ok": not found.faults, **asdict(found)}
    print(orjson.dumps(values, option=orjson.OPT_INDENT_2).decode())


def _show_rebuild(found: "Rebuild", console: "Console") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table")
    for name in ("rows", "changed", "removed"):
        table.add_column(name, justify="right")
    for name, rows in found.rows.items():
        table.add_row(name, f"{rows:,}", f"{found.changed[name]:,}", f"{found.removed[name]:,}")
    console.print(table)
    if found.changes == 0:
        console.print("nothing changed: every derived row was what the books make", highlight=False)
    else:
        told = "1 row was" if found.changes == 1 else f"{found.changes:,} rows were"
        console.print(f"{told} missing or not what the books make, and put right", highlight=False)
    _list(found.examples, console)
    if found.examples:
        # What a fill says is taken for true here; only the check compares it with the messages and marks beside it.
        console.print(
            "trades whose rows were wrong are above; oracle recompute --check tells whether fills and marks are as "
            "they were committed", highlight=False, soft_wrap=True,
        )  # fmt: skip
    _faults(found, console)


def _show_check(found: "Check", console: "Console") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table")
    for name in ("rows", "behind", "faults"):
        table.add_column(name, justify="right")
    for name, rows in found.rows.items():
        wrong = sum(fault.table == name for fault in found.faults)
        table.add_row(name, f"{rows:,}", f"{found.behind[name]:,}", f"{wrong:,}")
    console.print(table)
    if any(found.behind.values()):
        console.print(
            "rows that are behind are right as of an earlier trade or session; a running daemon or oracle recompute "
            "brings them up to date", highlight=False, soft_wrap=True,
        )  # fmt: skip
    if not found.faults:
        console.print("every row is as it must be", style="green")
    _faults(found, console)


def _faults(found: "Check | Rebuild", console: "Console") -> None:
    if found.faults:
        count = "1 fault" if len(found.faults) == 1 else f"{len(found.faults):,} faults"
        console.print(count, style="bold red", highlight=False)
        _list([str(fault) for fault in found.faults], console)


def _list(lines: list[str], console: "Console") -> None:
    for line in lines[:MOST_SHOWN]:
        console.print(f"- {line}", highlight=False, markup=False, soft_wrap=True)
    if len(lines) > MOST_SHOWN:
        console.print(f"and {len(lines) - MOST_SHOWN:,} more: --json has them all", highlight=False)

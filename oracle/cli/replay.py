"""``oracle replay``: what a journal holds, and whether this build decides the same again.

Inputs: a journal, a state folder or a date. Outputs: tables for people, one JSON object for machines, an exit code.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oracle.cli.newyork import new_york
from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption

if TYPE_CHECKING:
    from rich.console import Console

    from oracle.difference import Difference
    from oracle.replay import Contents, Progress, Report
    from oracle.store.records import Damage

# 65 is EX_DATAERR of sysexits: the bytes are not those that were written.
EXIT_DIFFERS, EXIT_DAMAGED = 1, 65
WHEN = "%Y-%m-%d %H:%M:%S"


def replay(
    session: Annotated[
        str,
        typer.Argument(metavar="SESSION", help="A journal file, a state folder (all its starts), or YYYY-MM-DD."),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Feed every input to a fresh core and compare what it decides.")
    ] = False,
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Show what a journal holds, or with --check whether the same inputs give the same decisions again.

    A date is New York's and is looked up in --state. Nothing is sent anywhere and no state is changed.

    Exit codes with --check: 0 all outputs are as recorded (a tail torn by a kill is cut, and said); 1 an output
    differs; 65 the journal is damaged or was changed after it was written; 78 there is nothing to replay.
    """
    from oracle.replay import segments

    paths = segments(session, state)
    if check:
        _check(paths, json)
    else:
        _show(paths, json)


def _check(paths: tuple[Path, ...], json: bool) -> None:
    from rich.console import Console

    from oracle.replay import Verdict, check_all

    with ExitStack() as stack:
        reports = list(check_all(paths, _progress(sum(path.stat().st_size for path in paths), stack)))
    code = 0
    if any(report.verdict is Verdict.DIFFERS for report in reports):
        code = EXIT_DIFFERS
    if any(report.verdict is Verdict.DAMAGED for report in reports):
        code = EXIT_DAMAGED
    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode({"ok": code == 0, "segments": reports})).decode())
    else:
        _print_reports(reports, _wide(Console()))
    if code:
        raise typer.Exit(code)


def _show(paths: tuple[Path, ...], json: bool) -> None:
    from rich.console import Console

    from oracle.replay import contents

    found = [contents(path) for path in paths]
    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode({"segments": found})).decode())
        return
    console = _wide(Console())
    for one in found:
        _print_contents(one, console)


def _progress(total: int, stack: ExitStack) -> "Progress | None":
    """A bar on standard error over all bytes; none when it is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    columns = (TextColumn("replay"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = stack.enter_context(Progress(*columns, console=console, transient=True))
    task = bar.add_task("replay", total=total)
    return lambda at, _total: bar.update(task, completed=at)


def _wide(console: "Console") -> "Console":
    """A pipe has no width: rows stay whole for grep and awk."""
    if not console.is_terminal:
        console.width = 240
    return console


def _print_reports(reports: Sequence["Report"], console: "Console") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("started (New York)", "inputs", "compared", "outputs", "s", "inputs/s", "decisions", "verdict"):
        table.add_column(name, no_wrap=True, justify="right" if name[0] in "ico" or name == "s" else "left")
    for one in reports:
        rate = f"{one.compared / one.seconds:,.0f}" if one.seconds > 0 else ""
        table.add_row(
            "unknown" if one.started_ns is None else new_york(one.started_ns, WHEN), f"{one.inputs:,}",
            f"{one.compared:,}", f"{one.outputs:,}", f"{one.seconds:.1f}", rate, one.decisions_sha256[:8],
            f"[{'green' if one.good else 'red'}]{one.verdict}[/]",
        )  # fmt: skip
    console.print(table, highlight=False)
    for one in reports:
        _print_details(one, console)


def _print_details(report: "Report", console: "Console") -> None:
    """All that a table's row does not hold; nothing for a segment that is simply clean, but its hashes."""
    _line(console, "")
    _line(console, report.path, style="bold")
    _line(console, f"  inputs    sha256 {report.inputs_sha256 or 'none'}")
    _line(console, f"  decisions sha256 {report.decisions_sha256 or 'none'}")
    if report.closed and report.good:
        _line(console, "  the closing record's counts and hashes agree")
    for note in report.notes:
        _line(console, f"  note: {note}")
    _print_end(report.damage, report.closed, console)
    if report.difference is not None:
        _print_difference(report.difference, bool(report.notes), console)


def _print_end(damage: "Damage | None", closed: bool, console: "Console") -> None:
    if damage is None:
        if not closed:
            _line(console, "  no closing record: the process did not end in order")
    elif damage.torn:
        _line(console, f"  torn tail: {damage.reason}; {damage.bytes_cut:,} bytes at {damage.offset:,} are left out")
    else:
        _line(console, f"  damaged at input {damage.seq}: {damage.reason} (byte {damage.offset:,})", style="red")
        _line(console, f"  {damage.bytes_cut:,} bytes from there on were not read")


def _print_difference(found: "Difference", build_changed: bool, console: "Console") -> None:
    market = new_york(found.at_ns, WHEN)
    _line(console, f"  first difference at input {found.seq}: {found.reason}", style="red")
    _line(console, f"  time      {_utc(found.at_ns)} UTC, {market} New York")
    _line(console, f"  input     {_flat(found.input)}")
    if found.fields:
        width = max(len(field.path) for field in found.fields)
        for field in found.fields:
            _line(console, f"    {field.path:{width}}  expected {field.expected}  got {field.got}")
    else:
        for name, message in (("expected", found.expected), ("got", found.got)):
            if message is not None:
                _line(console, f"  {name:9} {_flat(message)}")
    if found.before:
        _line(console, "  the turns before it came out as recorded:")
    for turn in found.before:
        outputs = ", ".join(turn.outputs) or "no output"
        _line(console, f"    {turn.seq} {new_york(turn.at_ns)} {turn.input} → {outputs}")
    if build_changed:
        _line(console, "  the code that decides is not the one that wrote the journal: see the notes above")


def _print_contents(one: "Contents", console: "Console") -> None:
    from rich.table import Table

    _line(console, one.path, style="bold")
    if one.started_ns is not None:
        last = "" if one.ended_ns is None else f" to {new_york(one.ended_ns, WHEN)}"
        _line(console, f"  {new_york(one.started_ns, WHEN)}{last} New York, mode {one.mode}, build {one.build}")
        _line(console, f"  settings {one.config_fingerprint}")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    for title, counts in (("inputs", one.inputs), ("outputs", one.outputs)):
        table.add_row(f"{sum(counts.values()):,}", f"[bold]{title}[/]")
        for name, count in sorted(counts.items(), key=lambda row: (-row[1], row[0])):
            table.add_row(f"{count:,}", f"  {name}")
    console.print(table, highlight=False)
    if one.closed:
        _line(console, "  ended in order")
    _print_end(one.damage, one.closed, console)


def _line(console: "Console", text: str, style: str | None = None) -> None:
    console.print(text, style=style, highlight=False, soft_wrap=True, markup=False)


def _flat(message: dict[str, object]) -> str:
    inner = ", ".join(f"{name}={value}" for name, value in message.items() if name != "T")
    return f"{message.get('T', '')}({inner})"


def _utc(at_ns: int) -> str:
    import datetime as dt

    seconds, rest = divmod(at_ns, 1_000_000_000)
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):{WHEN}}.{rest // 1_000_000:03d}"

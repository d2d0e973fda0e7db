"""``oracle criteria``: what a strategy must show before it may trade real money; make it stricter, never looser.

Inputs: a state folder; to change something, the running daemon, because a change is an operator's request that is
journalled and stored with who and why. Exit codes: 0 done, 1 the answer is no, 69 no daemon answers, 78 an argument.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption
from oracle.core.errors import ConfigurationError, RemoteError

if TYPE_CHECKING:
    from pathlib import Path

WAIT_S = 15.0
FRACTIONS = frozenset({"win_rate", "above_break_even", "max_drawdown"})


def criteria(
    strategy: Annotated[
        str | None, typer.Argument(help="One strategy (default: all that ran or are built in).", show_default=False)
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="Make these stricter, e.g. sharpe=2.", show_default=False),
    ] = None,
    why: Annotated[str, typer.Option("--why", help="The reason, for the record beside your user name.")] = "",
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Show what a strategy must meet before it may trade real money, or make a criterion stricter for good.

    Values are fractions where the table shows percent: win_rate=0.7 is 70 %, above_break_even=0.08 is 8 points,
    max_drawdown=0.08 is 8 %. A criterion can never be made looser again: fix a mistake by disabling the strategy, or
    with new books. A change goes through the running daemon.

    Examples: oracle criteria; oracle criteria iron_condor; oracle criteria iron_condor sharpe=2 max_drawdown=0.08
    """
    if strategy is not None and "=" in strategy:
        raise ConfigurationError(
            "STRATEGY", f"{strategy!r} is no strategy", f"write: oracle criteria STRATEGY {strategy}"
        )
    if change and strategy is not None:
        changes = [_parsed(text) for text in change]
        _refuse_looser(_rows(state, strategy)[0], changes)
        _tighten(state, strategy, changes, why, json)
        return
    rows = _rows(state, strategy)
    if json:
        from oracle.cli.performance import print_json

        print_json({"criteria": rows})
        return
    _print(rows)


def _parsed(text: str) -> tuple[str, float]:
    import math

    from oracle.metrics.criteria import NAMES

    name, sign, number = text.partition("=")
    if not sign or name not in NAMES:
        raise ConfigurationError("NAME=VALUE", f"{text!r} names no criterion", f"use one of: {', '.join(NAMES)}")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigurationError(name, f"{number!r} is not a number", f"write e.g. {name}=2")
    return name, value


def _refuse_looser(row: dict[str, Any], changes: list[tuple[str, float]]) -> None:
    """Say so before anything is sent; the daemon judges again.

    Raises:
        ConfigurationError: a value is looser than what stands, or nothing could ever meet it.
    """
    from oracle.core.criteria import is_stricter
    from oracle.metrics.criteria import criteria_for

    name = row["strategy"]
    for criterion, value in changes:
        if criterion in FRACTIONS and value > 1:
            fix = f"{value:g} % is written {criterion}={value / 100:g}"
            raise ConfigurationError(criterion, f"{value:g} is more than the whole", fix)
        present = row["criteria"][criterion]
        if is_stricter(criterion, present, value):
            problem = f"{value:g} is looser than {present:g}, which stands for {name}"
            raise ConfigurationError(criterion, problem, "criteria only get stricter")
        criteria_for(name, {criterion: value})


def _rows(state: "Path", strategy: str | None) -> list[dict[str, Any]]:
    """Built-in floor, what stands now and who made it stricter, by strategy."""
    from oracle.metrics.criteria import ROWS, criteria_for, row_of
    from oracle.store import performance as stored
    from oracle.store import read
    from oracle.strategies.registry import BUILT_IN

    with read.reading(state) as db:
        ran = {key.strategy for key in stored.keys(db) if key.strategy != "account"}
        names = sorted({*ran, *BUILT_IN, *ROWS})
        if strategy is not None and strategy not in names:
            raise ConfigurationError(
                "STRATEGY", f"there is no strategy {strategy!r}", f"use one of: {', '.join(names)}"
            )
        chosen = names if strategy is None else [strategy]
        return [
            {
                "strategy": name,
                "floor": row_of(name).as_dict(),
                "criteria": criteria_for(name, stored.read_criteria(db, name)).as_dict(),
            }
            for name in chosen
        ]


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from oracle.cli.performance import WIDTH, plain_console, print_whole, wrapped
    from oracle.metrics.criteria import NAMES
    from oracle.metrics.report_words import criterion_form, shown

    console = plain_console()
    narrow = console.width < WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    table.add_column("strategy", no_wrap=True)
    for name in NAMES:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = []
        for name in NAMES:
            form = "points" if name == "above_break_even" else criterion_form(name)
            sign = "≤" if name == "max_drawdown" else "≥"
            stricter = "*" if row["criteria"][name] != row["floor"][name] else ""
            cells.append(f"{stricter}{sign} {shown(row['criteria'][name], form)}")
        if narrow:
            told = ", ".join(f"{name} {cell}" for name, cell in zip(NAMES, cells, strict=True))
            wrapped(console, "", f"{row['strategy']}: {told}")
        table.add_row(row["strategy"], *cells)
    if not narrow:
        print_whole(console, table)
    if any(row["criteria"] != row["floor"] for row in rows):
        console.print("* made stricter by an operator", markup=False)


def _tighten(state: "Path", strategy: str, changes: list[tuple[str, float]], why: str, json: bool) -> None:
    import msgspec

    from oracle.cli.control import EXIT_NO, NoDaemonError, ask_daemon, show
    from oracle.cli.performance import print_json
    from oracle.core.control import Tighten

    answers = []
    for name, value in changes:
        try:
            answers.append(ask_daemon(state, Tighten(strategy, name, value), why, WAIT_S))
        except NoDaemonError as error:
            problem = "a stricter criterion goes through the daemon, which journals and stores it"
            raise RemoteError(f"{error}; {problem}") from None
        if not json:
            show(answers[-1], json)
        elif not answers[-1].ok:
            break
    if json and len(changes) == 1:
        show(answers[0], json)
    elif json:
        # Several answers are one object as well.
        ok = len(answers) == len(changes) and all(answer.ok and answer.done for answer in answers)
        print_json({"ok": ok, "answers": msgspec.to_builtins(answers)})
        if not ok:
            raise typer.Exit(EXIT_NO)

"""``oracle readiness``: has a strategy earned live capital, how sure is that, and what is lacking.

Inputs: a state folder, while the daemon runs or after. Outputs: a verdict with each criterion, JSON, a signed record.
Exit codes: 0 done; 1 with ``--check`` when not every strategy asked for is ready; 78 no such strategy. Nothing here
changes the database.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption
from oracle.cli.performance import plain_console, print_json, print_whole, wrapped
from oracle.cli.report import write_file
from oracle.core.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

EXIT_NOT_READY = 1
RESAMPLED = frozenset({"profit_factor", "max_drawdown"})
# Below it the remarks stand under the table of criteria.
ROOM_FOR_REMARKS = 98
STYLE = {"ready": "bold green", "not ready": "bold yellow", "out of reach": "bold red"}


def readiness(
    strategy: Annotated[str | None, typer.Argument(help="One strategy (default: all).", show_default=False)] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit code 1 unless the newest version of each is ready.")
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record", metavar="FILE", show_default=False,
            help="Write the signed, dated record of one strategy into this file, for the live gate.",
        ),
    ] = None,
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Judge whether a strategy has earned live capital, with how sure each criterion is, and what is lacking.

    The score is a probability: 100 times the smallest, over the criteria, of the probability that the criterion truly
    holds given the trades seen. Ready needs every criterion at its confidence, and counts only trades of one code and
    one set of parameters. "Out of reach" names what this kind of trade cannot meet however long it runs.

    Examples: oracle readiness; oracle readiness iron_condor --check; oracle readiness iron_condor --record ready.json
    """
    import time

    from oracle import reporting
    from oracle.store import read

    if record is not None and strategy is None:
        raise ConfigurationError("--record", "a record is of one strategy", "name it: oracle readiness STRATEGY")
    with read.reading(state) as db:
        found = reporting.tracks(db, strategy)
        judged = reporting.judged(db, found, None)
        mode, lacking = reporting.mode_of(db), reporting.incomplete(db, found)
        written = None if record is None else reporting.signed_record(db, state, found[0], time.time_ns())
    if record is not None and written is not None:
        write_file(record, written.encode(), "--record")
    if json:
        print_json({"mode": mode, "incomplete": lacking, "readiness": judged})
    else:
        console = plain_console()
        wrapped(console, "", f"mode {mode}. {reporting.SIMULATED.get(mode, '')}".rstrip())
        _print(console, judged, whole=strategy is not None)
        if lacking:
            wrapped(console, "", lacking, style="yellow")
        if record is not None:
            console.print(f"\nsigned record of the newest version written to {record}", markup=False, soft_wrap=True)
    current = [one for one in judged if one["current"]]
    if check and not (current and all(one["ready"] for one in current)):
        raise typer.Exit(EXIT_NOT_READY)


def _print(console: "Console", judged: list[dict[str, Any]], *, whole: bool) -> None:
    if not judged:
        console.print("nothing to judge: no strategy has a session or a closed trade", markup=False)
    for number, one in enumerate(judged):
        if number:
            console.print()
        _verdict(console, one)
        if whole or one["current"]:
            _criteria(console, one)
            _words(console, one)


def _verdict(console: "Console", one: dict[str, Any]) -> None:
    from oracle.metrics.report_words import shown

    older = "" if one["current"] else " (earlier version)"
    console.print(f"{one['strategy']} {one['strategy_hash'][:8]}{older}: {one['verdict']}", style=STYLE[one["verdict"]])
    console.print(f"  score {shown(one['score'], 'score')} of 100, {one['trades']} trades", markup=False)
    for reason in one["reasons"]:
        wrapped(console, "  - ", reason)


def _criteria(console: "Console", one: dict[str, Any]) -> None:
    from rich.table import Table

    from oracle.metrics.report_words import criterion_form, criterion_label, criterion_required, shown

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("  criterion", no_wrap=True)
    for name in ("seen", "95 % interval", "required", "holds with"):
        table.add_column(name, justify="right", no_wrap=True)
    narrow = console.width < ROOM_FOR_REMARKS
    if not narrow:
        table.add_column("remark", min_width=20)
    remarks = []
    for row in one["criteria"]:
        label, remark = criterion_label(row["name"]), row["note"] or ""
        if row["name"] in RESAMPLED and row["probability"] is None and one["trades"] and not one["bootstrapped"]:
            # Why is said once, below.
            remark = "not resampled yet"
        remarks.append((label, remark))
        form = criterion_form(row["name"])
        between = "–"
        if row["low"] is not None or row["high"] is not None:
            between = f"{shown(row['low'], form)} to {shown(row['high'], form)}"
        table.add_row(
            f"  {label}", shown(row["observed"], form), between,
            criterion_required(row), shown(row["probability"], "certainty"),
            *([] if narrow else [remark]),
        )  # fmt: skip
    print_whole(console, table)
    if narrow:
        for label, remark in remarks:
            if remark:
                wrapped(console, f"  {label}: ", remark)


def _words(console: "Console", one: dict[str, Any]) -> None:
    from oracle.metrics.report_words import shown

    lines = [f"out of reach: {words}" for words in one["out_of_reach"]]
    if one["power"]:
        lines.append(f"power: {one['power']}")
    if one["implied_win_rate"] is not None:
        lines.append(f"win rate that the profit factor implies: {shown(one['implied_win_rate'], 'share')}")
    if one["expected_date"]:
        lines.append(f"trades complete, at the present rate: {one['expected_date']}")
    lines.append(f"versions run on paper or simulated: {one['parameter_sets']}")
    if one["trades"] and not one["bootstrapped"]:
        lines.append("profit factor and drawdown not resampled yet: a cheaper criterion is not met")
    if one["suggest_disable"]:
        lines.append(f"consider: oracle disable {one['strategy']} (score below 50 after {one['trades']} trades)")
    for line in lines:
        wrapped(console, "  ", line)

"""``oracle performance``: what the account and each strategy came to, from closed trades and sessions.

Inputs: a state folder, while the daemon runs or after. Outputs: a table with sparklines of equity, every figure of one
strategy, JSON. Exit codes: 0 done, 78 no such strategy or month. Nothing here writes.
"""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 15
WIDTH = 100
# Two columns of figures need this much; below it there is one.
TWO_COLUMNS = 84
# Tables fit it, and a pipe has no width of its own.
MonthOption = Annotated[
    str | None,
    typer.Option("--month", metavar="YYYY-MM", help="Only this month (default: all time).", show_default=False),
]


def performance(
    strategy: Annotated[
        str | None, typer.Argument(help="One strategy, with every figure (default: all).", show_default=False)
    ] = None,
    month: MonthOption = None,
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Show what the account and each strategy came to: trades, win rate, P&L, Sharpe, drawdown, equity.

    P&L is net of modelled fees (docs/figures.md has each definition). The win rate has its 95 % interval. A dash is a
    figure that is not known or not defined, e.g. a Sharpe of one session. A changed parameter or changed code makes
    another version, which starts from zero trades; earlier ones stand below it.

    Examples: oracle performance --month 2026-01; oracle performance iron_condor; oracle performance --json
    """
    from oracle import reporting
    from oracle.store import read

    with read.reading(state) as db:
        told = reporting.performance(db, strategy=strategy, month=month)
    if json:
        print_json(told)
        return
    console = plain_console()
    if not told["performance"]:
        console.print("nothing yet: no session and no closed trade", markup=False)
        return
    if strategy is None:
        _table(console, told)
    else:
        for row in told["performance"]:
            _whole(console, row, told)
    if all(row["figures"]["trades"] == 0 for row in told["performance"]):
        console.print("no trade has closed", markup=False)
    if told["incomplete"]:
        wrapped(console, "", told["incomplete"], style="yellow")


def _table(console: "Console", told: dict[str, Any]) -> None:
    from rich.table import Table

    from oracle.metrics.report_words import figure

    narrow = console.width < WIDTH
    console.print(f"{_period(told)}, mode {told['mode']}; net of modelled fees", markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    table.add_column("strategy", no_wrap=True)
    for name in ("trades", "won", "95 %", "net USD", "profit f.", "Sharpe", "drawdown"):
        table.add_column(name, justify="right", no_wrap=True)
    if not narrow:
        table.add_column("equity", no_wrap=True)
    for row in told["performance"]:
        seen = row["figures"]
        net = figure("net_pnl_usd", seen["net_pnl_usd"])
        name = row["strategy"] if row["current"] else f"  earlier {row['strategy_hash'][:8]}"
        table.add_row(
            folded(name) if narrow else name, str(seen["trades"]),
            figure("win_rate", seen["win_rate"]), interval(seen["win_rate_low"], seen["win_rate_high"]),
            f"[red]{net}[/red]" if seen["net_pnl_usd"] < 0 else net, figure("profit_factor", seen["profit_factor"]),
            figure("sharpe", seen["sharpe"]), figure("max_drawdown", seen["max_drawdown"]),
            *([] if narrow else [sparkline(row["curve"]["index"])]),
        )  # fmt: skip
    print_whole(console, table)


def _whole(console: "Console", row: dict[str, Any], told: dict[str, Any]) -> None:
    """Every figure of one row, in two columns."""
    from rich.table import Table

    from oracle.metrics.report_words import GROUPS, figure

    span = "no session" if row["first"] is None else f"{row['first']} to {row['last']}"
    version = f" version {row['strategy_hash'][:8]}" if row["strategy_hash"] else ""
    older = "" if row["current"] else " (earlier)"
    console.print(f"{row['strategy']}{version}{older}: {_period(told)}, {span}, mode {told['mode']}", style="bold")
    console.print(f"equity {sparkline(row['curve']['index'], min(60, console.width - 7))}", markup=False)
    columns = 2 if console.width >= TWO_COLUMNS else 1
    for group, members in GROUPS.items():
        console.print(f"\n{group}", style="bold")
        table = Table(box=None, pad_edge=False, show_header=False)
        for _ in range(columns):
            table.add_column(no_wrap=True, min_width=24)
            table.add_column(justify="right", no_wrap=True, min_width=14)
        cells = [(one.label, figure(one.name, row["figures"][one.name])) for one in members]
        for start in range(0, len(cells), columns):
            table.add_row(*(text for cell in cells[start : start + columns] for text in cell))
        print_whole(console, table)
    console.print()


def _period(told: dict[str, Any]) -> str:
    return "all time" if told["period"] == "all" else f"month {told['period']}"


def interval(low: float | None, high: float | None) -> str:
    """Two shares in percent as a range; a dash when they are not known."""
    return "–" if low is None or high is None else f"{low * 100:.0f} to {high * 100:.0f}"


def sparkline(index: list[float], width: int = SPARK_WIDTH) -> str:
    """Draw a curve in one line of text, its lowest value the lowest block; empty when there is no curve."""
    if len(index) < 2:
        return ""
    step = max(1.0, len(index) / width)
    # The last value of each step, so that the line ends where the curve does.
    points = [index[min(len(index), round((i + 1) * step)) - 1] for i in range(min(width, len(index)))]
    low, high = min(points), max(points)
    if high == low:
        return SPARKS[3] * len(points)
    return "".join(SPARKS[round((point - low) / (high - low) * (len(SPARKS) - 1))] for point in points)


def plain_console() -> "Console":
    """A console without highlighting; into a pipe it has no colours and room for a whole row."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def print_whole(console: "Console", table: "Table") -> None:
    """Print a table; the terminal wraps one that is too wide, because a figure that is cut is another figure."""
    from rich.measure import Measurement

    before = console.width
    size = Measurement.get(console, console.options.update(max_width=1_000), table)
    console.width = max(before, size.maximum if all(column.no_wrap for column in table.columns) else size.minimum)
    console.print(table)
    console.width = before


def folded(name: str, width: int = 15) -> str:
    """Break a strategy's name after an underscore, into lines that fit a narrow column."""
    lines = [""]
    for part in re.findall("[^_]*_|[^_]+", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def wrapped(console: "Console", head: str, text: str, style: str | None = None) -> None:
    """Print text within the console's width, further lines below the text and not below its head."""
    import textwrap

    width = max(40, console.width)
    for line in textwrap.wrap(text, width, initial_indent=head, subsequent_indent=" " * len(head)):
        console.print(line, style=style, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON for machines."""
    import orjson

    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())

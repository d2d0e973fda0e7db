"""``oracle divergence``: how a recorded session would have filled on the embedded exchange, beside how it did fill.

Inputs: a journal, a state folder or a date. Outputs: one line first, then a table by trade and one of totals; one JSON
object for machines; an exit code.
"""

import sys
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oracle.cli.newyork import new_york
from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption
from oracle.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from oracle.divergence import Alone, Divergence
    from oracle.divergence_sides import EntryOrders, SideTrade
    from oracle.divergence_totals import Fills, Pair

EXIT_DIFFERS = 1
WIDTH = 98
# A shorter journal is played in a few seconds.
LONG_BYTES = 20_000_000
WHEN = "%Y-%m-%d %H:%M:%S"
COLUMNS = ("", "entered", "price", "n", "left", "price", "ended by", "net P&L")
Cells = list[str]


def divergence(
    session: Annotated[
        str | None,
        typer.Argument(
            metavar="[SESSION]", show_default=False,
            help="A journal file, a state folder, or YYYY-MM-DD (default: the newest session in --state).",
        ),
    ] = None,
    state: StateOption = DEFAULT_STATE,
    tolerance: Annotated[
        str, typer.Option("--tolerance", metavar="USD", help="How far apart fills may be, in dollars a unit.")
    ] = "0.05",
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Play a recorded session's market through the embedded exchange and compare its trades with the real ones.

    Orders of the replay fill against the recorded quotes; nothing of the recorded broker is used but the account that
    the session began with. Nothing is sent anywhere and no state is changed.

    Exit codes: 0 replay and reality agree; 1 trades are missed or extra, or fills are further apart than --tolerance;
    78 there is nothing to compare.
    """
    import asyncio

    from oracle.divergence import diverge

    limit_usd = _tolerance(tolerance)
    with ExitStack() as stack:
        found = asyncio.run(diverge(session, state, limit_usd, _progress(stack, session, state)))
    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print(found)
    if not found.agrees:
        raise typer.Exit(EXIT_DIFFERS)


def _tolerance(text: str) -> Decimal:
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal(-1)
    if not (usd.is_finite() and usd >= 0):
        raise ConfigurationError("--tolerance", f"{text!r} is not an amount of dollars", "write e.g. --tolerance 0.02")
    return usd


def _progress(stack: ExitStack, session: str | None, state: Path) -> "Callable[[int, int], None] | None":
    """A bar on standard error; when it is not a terminal, a line for each tenth of a long journal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        size = _journal_bytes(session, state)
        if size >= LONG_BYTES:
            print(f"reading {size / 1e6:,.0f} MB of journal", file=sys.stderr, flush=True)
        return _tenths()
    bar = stack.enter_context(
        Progress(TextColumn("playing"), BarColumn(), DownloadColumn(), console=console, transient=True)
    )
    task = bar.add_task("playing", total=None)
    return lambda at, total: bar.update(task, completed=at, total=total)


def _journal_bytes(session: str | None, state: Path) -> int:
    """How much may be read: the named file, or all journals of the folder."""
    named = state if session is None or not Path(session).exists() else Path(session)
    return sum(path.stat().st_size for path in ([named] if named.is_file() else named.glob("journal/*.oj")))


def _tenths() -> "Callable[[int, int], None]":
    told = -1

    def tell(at: int, total: int) -> None:
        nonlocal told
        if total >= LONG_BYTES and at * 10 // total > told:
            told = at * 10 // total
            print(f"playing: {told * 10} % of {total / 1e6:,.0f} MB", file=sys.stderr, flush=True)

    return tell


def _print(found: "Divergence") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=WIDTH, highlight=False)
    _line(console, found.summary, style="bold")
    if found.started_ns is not None and found.ended_ns is not None:
        span = f"{new_york(found.started_ns, WHEN)} to {new_york(found.ended_ns, WHEN)} New York"
        parts = f"{len(found.segments)} segment{'' if len(found.segments) == 1 else 's'}"
        modes = "/".join(sorted(set(found.modes)))
        _wrapped(console, "", f"{found.session}: {modes}, {found.inputs:,} inputs in {parts}, {span}")
    if found.matched or found.missed or found.extra:
        _line(console, "")
        header, *lines = _trades(found)
        _line(console, header, style="bold")
        for line in lines:
            _line(console, line)
        _line(console, "diff: replay less reality in time and P&L; of prices, + is better in replay")
    for number, told in _told(found):
        _wrapped(console, f"#{number} ", told, style="yellow")
    _line(console, "")
    console.print(_totals(found))
    _wrapped(console, "", _told_fills(found.fills))
    for note in found.notes:
        _wrapped(console, "note: ", note)
    _line(console, "")
    _line(console, "what the replay assumes:")
    for assumption in found.assumptions:
        _wrapped(console, "  - ", assumption)


def _rows(found: "Divergence") -> "list[tuple[int, Pair | None, Alone | None, str]]":
    """(time of entry, pair, alone, side) of all trades in order of time."""
    rows: list[tuple[int, Pair | None, Alone | None, str]] = [
        *((pair.real.entry_ns, pair, None, "") for pair in found.matched),
        *((alone.trade.entry_ns, None, alone, "real") for alone in found.missed),
        *((alone.trade.entry_ns, None, alone, "replay") for alone in found.extra),
    ]
    return sorted(rows, key=lambda row: row[0])


def _told(found: "Divergence") -> list[tuple[int, str]]:
    """What the table's figures do not say, by the trade's number."""
    told: list[tuple[int, str]] = []
    for number, (_, pair, alone, side) in enumerate(_rows(found), 1):
        if pair is not None and pair.apart:
            told.append((number, "; ".join(pair.apart)))
        if alone is not None:
            other = "replay" if side == "real" else "reality"
            told.append((number, f"{'missed' if side == 'real' else 'extra'}: in {other} {alone.instead}"))
    return told


def _trades(found: "Divergence") -> list[str]:
    """The table by trade: its name on a line of its own, then a row for each side and one for how they differ."""
    rows = _rows(found)
    days = {new_york(at_ns, "%Y-%m-%d") for at_ns, *_ in rows}
    form = "%H:%M:%S" if len(days) == 1 else "%m-%d %H:%M:%S"
    parts: list[tuple[str, list[Cells]]] = []
    for number, (_, pair, alone, side) in enumerate(rows, 1):
        if pair is not None:
            cells = [_side("real", pair.real, form), _side("replay", pair.replay, form), _difference(pair)]
            parts.append((_name(number, pair.real), cells))
        elif alone is not None:
            parts.append((_name(number, alone.trade), [_side(side, alone.trade, form)]))
    widths = [
        max(map(len, column)) for column in zip(COLUMNS, *(row for _, cells in parts for row in cells), strict=True)
    ]
    lines = [_aligned(COLUMNS, widths)]
    for name, cells in parts:
        lines += [name, *(_aligned(row, widths) for row in cells)]
    return lines


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    numeric = ("price", "n", "net P&L")
    padded = [
        cell.rjust(width) if title in numeric else cell.ljust(width)
        for title, cell, width in zip(COLUMNS, cells, widths, strict=True)
    ]
    return ("  " + "  ".join(padded)).rstrip()


def _name(number: int, trade: "SideTrade") -> str:
    from oracle.cli.names import label

    return f"#{number} {trade.strategy} {label(trade.symbol)}"


def _side(side: str, trade: "SideTrade", form: str) -> Cells:
    entry = [side, new_york(trade.entry_ns, form), _price(trade.entry_price_usd), str(trade.contracts)]
    if trade.exit_ns is None or trade.exit_price_usd is None:
        return [*entry, "open", "", "", ""]
    pnl = "unknown" if trade.net_pnl_usd is None else f"{trade.net_pnl_usd:+,.2f}"
    rule = (trade.exit_rule or "").replace("_", " ")
    return [*entry, new_york(trade.exit_ns, form), _price(trade.exit_price_usd), rule, pnl]


def _difference(pair: "Pair") -> Cells:
    exit_s = "" if pair.exit_later_s is None else f"{pair.exit_later_s:+,.0f} s"
    pnl = "" if pair.pnl_difference_usd is None else f"{pair.pnl_difference_usd:+,.2f}"
    n = pair.replay.contracts - pair.real.contracts
    return [
        "diff", f"{pair.entry_later_s:+,.0f} s", _better(pair.entry_better_usd), f"{n:+d}" if n != 0 else "",
        exit_s, _better(pair.exit_better_usd), "", pnl,
    ]  # fmt: skip


def _totals(found: "Divergence") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("in total")
    for name in ("real", "replay", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    pnl, costs = found.pnl, found.slippage
    table.add_row(
        "net P&L USD, all closed", f"{pnl.real_usd:+,.2f}", f"{pnl.replay_usd:+,.2f}",
        f"{pnl.replay_usd - pnl.real_usd:+,.2f}",
    )  # fmt: skip
    table.add_row(
        f"net P&L USD, {pnl.matched} matched", f"{pnl.matched_real_usd:+,.2f}", f"{pnl.matched_replay_usd:+,.2f}",
        f"{pnl.matched_difference_usd:+,.2f}",
    )  # fmt: skip
    table.add_row(
        f"slippage USD, {costs.trades} matched", f"{costs.real_usd:,.2f}", f"{costs.replay_usd:,.2f}",
        f"{costs.difference_usd:+,.2f}",
    )  # fmt: skip
    if costs.mean_difference_usd is not None:
        table.add_row(
            "slippage USD, mean a trade", f"{costs.real_usd / costs.trades:,.2f}",
            f"{costs.replay_usd / costs.trades:,.2f}", f"{costs.mean_difference_usd:+,.2f}",
        )  # fmt: skip
    if costs.mean_difference_bps is not None:
        table.add_row(
            "slippage bps, mean a trade", f"{costs.real_mean_bps:,.1f}", f"{costs.replay_mean_bps:,.1f}",
            f"{costs.mean_difference_bps:+,.1f}",
        )  # fmt: skip
    table.add_row("entry orders filled (contracts)", _rate(found.real_entries), _rate(found.replay_entries), "")
    return table


def _told_fills(fills: "Fills") -> str:
    """The comparable fills in one line."""
    text = f"{fills.compared} comparable fills: {fills.equal} at the same price"
    if fills.compared == fills.equal or fills.most_better_usd is None or fills.most_worse_usd is None:
        return text
    text += f", {fills.better} better in replay, {fills.worse} worse; from {_better(fills.most_worse_usd)}"
    return f"{text} to {_better(fills.most_better_usd)} USD a unit, mean {_better(fills.mean_better_usd)}"


def _rate(entries: "EntryOrders") -> str:
    rate = "" if entries.fill_rate is None else f" ({entries.fill_rate:.0%})"
    return f"{entries.filled} of {entries.orders}{rate}"


def _price(usd: Decimal) -> str:
    text = f"{abs(usd):.4f}".rstrip("0").rstrip(".") if usd % Decimal("0.01") else f"{abs(usd):.2f}"
    return text if usd >= 0 else f"{text} cr"


def _better(usd: Decimal | None) -> str:
    if usd is None:
        return "n/a"
    return f"{usd:+.4f}".rstrip("0") if usd % Decimal("0.01") else f"{usd:+.2f}"


def _line(console: "Console", text: str, style: str | None = None) -> None:
    console.print(text, style=style, soft_wrap=True, markup=False)


def _wrapped(console: "Console", head: str, text: str, style: str | None = None) -> None:
    for line in textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)):
        _line(console, line, style)

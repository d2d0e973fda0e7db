"""Where a recorded session and its replay on the exchange in process differ: per trade and in total.

Inputs: journal segments. Outputs: trades matched, missed and extra with prices, times and results of both sides,
totals, and what the comparison rests on. Invariants: prices are compared only where both sides traded the same
contracts at about the same time for the same reason; a difference is replay less reality; what is unknown is said.
"""

import datetime as dt
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from oracle.core.errors import ConfigurationError
from oracle.divergence_play import Played, Progress, play
from oracle.divergence_sides import EntryOrders, SideRecord, SideTrade, day_of
from oracle.divergence_totals import Costs, Fills, Pair, Results, costs_of, fills_of, known, results_of, rounded
from oracle.replay import HOUR_NS, segments
from oracle.store.journal import JournalReader
from oracle.store.records import OpeningLostError

DEFAULT_TOLERANCE_USD = Decimal("0.05")
# Decisions of one strategy on one underlying that lie further apart are not of the same trade.
MATCH_WITHIN_S = 300
# Fills that lie further apart met another market: their prices say nothing about how orders fill.
FILL_WITHIN_S = 60
ASSUMPTIONS = (
    "an order reaches the exchange in the instant in which it is sent; the network's time is not played",
    "a fill takes the best quote that the core had been told, never worse than its limit; a resting single order "
    "fills at its limit once the opposite side reaches it; legs of a structure fill together",
    "each displayed size is spent once a quote and second; there is no queue: nobody stands before our order",
    "unknown, because no journal holds it: our place in the queue, hidden size, quotes between two that the feed's "
    "conflation let through (up to 0.25 s near the money, 1 s far from it), and what our orders did to the book",
    "cash, positions, buying power (cash less what shorts require), fees and settlements are the exchange's own",
)


class Alone(msgspec.Struct, frozen=True):
    """A trade of one side, and what became of it on the other."""

    trade: SideTrade
    instead: str


class Divergence(msgspec.Struct, frozen=True):
    """A comparison. ``agrees``: nothing missed or extra, nothing apart, and no fill further off than the tolerance."""

    session: str
    segments: tuple[str, ...]
    modes: tuple[str, ...]
    started_ns: int | None
    ended_ns: int | None
    inputs: int
    agrees: bool
    tolerance_usd: Decimal
    summary: str
    matched: tuple[Pair, ...]
    missed: tuple[Alone, ...]
    extra: tuple[Alone, ...]
    fills: Fills
    slippage: Costs
    pnl: Results
    real_entries: EntryOrders
    replay_entries: EntryOrders
    notes: tuple[str, ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS


async def diverge(
    session: str | None, state: Path, tolerance_usd: Decimal = DEFAULT_TOLERANCE_USD, progress: Progress | None = None
) -> Divergence:
    """Play a recorded session on the exchange in process and compare.

    Args:
        session: a journal, a state folder or a New York date in ``state``; None: the newest session recorded there.
        state: the state folder.
        tolerance_usd: how far apart comparable fills may be, per unit.
        progress: hears (bytes read, bytes in all).

    Raises:
        ConfigurationError: there is no such session, or this build cannot play it.
    """
    name, paths, date = find_session(session, state)
    return compare(await play(paths, progress), name, paths, date, tolerance_usd)


def find_session(session: str | None, state: Path) -> tuple[str, tuple[Path, ...], str | None]:
    """The name of a session, its segments in order of start, and its date where it was named by one.

    Raises:
        ConfigurationError: there is no such session.
    """
    name = newest_session(state) if session is None else session
    is_date = re.fullmatch(r"\d{4}-\d{2}-\d{2}", name) is not None and not Path(name).exists()
    return name, segments(name, state), name if is_date else None


def newest_session(state: Path) -> str:
    """The newest session's date (ISO) on which a journal of a state folder has inputs.

    Raises:
        ConfigurationError: there is none.
    """
    if not state.is_dir():
        raise ConfigurationError("--state", f"{state} is not a folder", "name the state folder of a daemon")
    for path in reversed(segments(str(state), state)):
        try:
            reader = JournalReader(path)
        except OpeningLostError:
            continue
        known = {session.date for session in reader.opened.sessions}
        found = known & {day_of(hour * HOUR_NS) for hour in {at_ns // HOUR_NS for at_ns in reader.times()}}
        if found:
            return max(found)
    raise ConfigurationError("--state", f"{state} holds no recorded session", "name a journal or another folder")


def compare(played: Played, name: str, paths: Sequence[Path], date: str | None, tolerance_usd: Decimal) -> Divergence:
    """Match the trades of both sides and say how they differ; with a ``date`` only those entered or left on it."""
    pairs, missed, extra = _matched(played.reality, played.replay)
    if date is not None:
        pairs = [pair for pair in pairs if any(trade.is_of(date) for trade in pair)]
        missed = [trade for trade in missed if trade.is_of(date)]
        extra = [trade for trade in extra if trade.is_of(date)]
    rows = tuple(_pair(real, replay) for real, replay in pairs)
    fills = fills_of(rows)
    lone = [Alone(trade, played.replay.instead(trade)) for trade in missed]
    more = [Alone(trade, played.reality.instead(trade)) for trade in extra]
    off = [usd for usd in (fills.most_better_usd, fills.most_worse_usd) if usd is not None]
    agrees = not (lone or more or any(row.apart for row in rows)) and all(abs(usd) <= tolerance_usd for usd in off)
    return Divergence(
        session=name, segments=tuple(map(str, paths)), modes=tuple(played.modes), started_ns=played.started_ns,
        ended_ns=played.ended_ns, inputs=played.inputs, agrees=agrees, tolerance_usd=tolerance_usd,
        summary=_summary(len(rows), len(lone), len(more), fills), matched=rows, missed=tuple(lone), extra=tuple(more),
        fills=fills, slippage=costs_of(rows), pnl=results_of(rows, missed, extra),
        real_entries=played.reality.entries(date), replay_entries=played.replay.entries(date),
        notes=_notes(played),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ matching


def _matched(
    reality: SideRecord, replay: SideRecord
) -> tuple[list[tuple[SideTrade, SideTrade]], list[SideTrade], list[SideTrade]]:
    """Pairs, then what only reality had, then what only the replay had.

    Trades open at the start are matched by id. Others need the same strategy and underlying and decisions at most
    ``MATCH_WITHIN_S`` apart; the same intent goes first, then the nearest in time.
    """
    real, played = reality.trades(), replay.trades()
    choices = sorted(
        (not _same_start(one, other), one.intent_id is None or one.intent_id != other.intent_id, gap, i, j)
        for i, one in enumerate(real)
        for j, other in enumerate(played)
        if (gap := abs(one.decided_ns - other.decided_ns)) <= MATCH_WITHIN_S * 10**9 and _may_match(one, other)
    )
    pairs: list[tuple[SideTrade, SideTrade]] = []
    left, right = set(range(len(real))), set(range(len(played)))
    for *_, i, j in choices:
        if i in left and j in right:
            left.remove(i)
            right.remove(j)
            pairs.append((real[i], played[j]))
    pairs.sort(key=lambda pair: (pair[0].entry_ns, pair[0].trade_id))
    return pairs, [real[i] for i in sorted(left)], [played[j] for j in sorted(right)]


def _same_start(one: SideTrade, other: SideTrade) -> bool:
    return one.carried and one.trade_id == other.trade_id


def _may_match(one: SideTrade, other: SideTrade) -> bool:
    if one.carried or other.carried:
        return one.trade_id == other.trade_id
    return (one.strategy, one.underlying, one.side) == (other.strategy, other.underlying, other.side)


def _pair(real: SideTrade, replay: SideTrade) -> Pair:
    same = real.symbol == replay.symbol
    apart = [] if same else [f"another contract: {replay.symbol}"]
    if real.contracts != replay.contracts:
        apart.append(f"{replay.contracts} in replay, not {real.contracts}")
    entry_later_s = (replay.entry_ns - real.entry_ns) / 1e9
    entry_better = None
    if abs(entry_later_s) > FILL_WITHIN_S:
        apart.append(f"entered {_later(entry_later_s)}")
    elif same and not real.carried:
        entry_better = real.side.sign * (real.entry_price_usd - replay.entry_price_usd)
    exit_better, exit_later_s = None, None
    if real.exit_ns is None or replay.exit_ns is None:
        if (real.exit_ns is None) is not (replay.exit_ns is None):
            apart.append(f"still open in {'reality' if real.exit_ns is None else 'replay'}")
    else:
        exit_later_s = (replay.exit_ns - real.exit_ns) / 1e9
        if real.exit_rule != replay.exit_rule:
            apart.append(f"ended by {replay.exit_rule} in replay, not {real.exit_rule}")
        if abs(exit_later_s) > FILL_WITHIN_S:
            apart.append(f"left {_later(exit_later_s)}")
        elif same and real.exit_rule == replay.exit_rule:
            exit_better = real.side.sign * (known(replay.exit_price_usd) - known(real.exit_price_usd))
    pnl = None
    if real.net_pnl_usd is not None and replay.net_pnl_usd is not None:
        pnl = replay.net_pnl_usd - real.net_pnl_usd
    return Pair(
        real, replay, rounded(entry_better), entry_later_s, rounded(exit_better), exit_later_s, pnl, tuple(apart)
    )


def _later(seconds: float) -> str:
    span = dt.timedelta(seconds=round(abs(seconds)))
    return f"{span} {'later' if seconds > 0 else 'earlier'} in replay"


def _summary(matched: int, missed: int, extra: int, fills: Fills) -> str:
    trades = f"{matched} trade{'' if matched == 1 else 's'} matched, {missed} missed, {extra} extra"
    mean_usd = fills.mean_better_usd
    if mean_usd is None:
        told = "no fills to compare"
    elif fills.equal == fills.compared:
        told = "all fills at the same prices"
    elif mean_usd == 0:
        told = "fills at the same prices on average"
    else:
        told = f"fills {abs(mean_usd) * 100:.1f} cents {'better' if mean_usd > 0 else 'worse'} in replay on average"
    return f"replay and reality: {trades}; {told}"


def _notes(played: Played) -> tuple[str, ...]:
    notes = list(played.notes)
    if played.operator_requests > 0:
        notes.append(f"{played.operator_requests} operator requests were asked again at their recorded times")
    if played.not_ours > 0:
        what = "executions of others and transfers of cash at the broker"
        notes.append(f"{played.not_ours} {what} are not in the replay: its account holds our orders alone")
    if played.sizeless > 0:
        notes.append(f"{played.sizeless} stock quotes had a price without a size: nothing fills against them")
    return tuple(notes)

"""What the differences of matched trades come to: prices of fills, slippage, P&L. Pure.

Inputs: pairs of trades, and those that one side had alone. Outputs: sums and means, in dollars, seconds and basis
points. A difference is replay less reality; "better" is better in replay.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from oracle.core.money import ZERO
from oracle.divergence_sides import SideTrade

MICRO = Decimal("0.000001")


class Pair(msgspec.Struct, frozen=True):
    """A trade of both sides. ``*_better_usd`` per unit: positive is better in replay, None not comparable.

    ``*_later_s``: how much later the replay's fill is. ``apart``: in words, what else differs.
    """

    real: SideTrade
    replay: SideTrade
    entry_better_usd: Decimal | None
    entry_later_s: float
    exit_better_usd: Decimal | None
    exit_later_s: float | None
    pnl_difference_usd: Decimal | None
    apart: tuple[str, ...]


class Fills(msgspec.Struct, frozen=True):
    """Comparable fills (entries and exits of matched trades, one each): prices per unit, positive better in replay."""

    compared: int
    equal: int
    better: int
    worse: int
    mean_better_usd: Decimal | None
    most_better_usd: Decimal | None
    most_worse_usd: Decimal | None
    mean_later_s: float | None


class Costs(msgspec.Struct, frozen=True):
    """Slippage against the mids at decision of matched trades in which both sides know it: positive is a cost."""

    trades: int
    real_usd: Decimal
    replay_usd: Decimal
    difference_usd: Decimal
    mean_difference_usd: Decimal | None
    real_mean_bps: float | None
    replay_mean_bps: float | None
    mean_difference_bps: float | None


class Results(msgspec.Struct, frozen=True):
    """P&L net of modelled fees of closed trades: of all that a side had, and of those that both sides closed."""

    real_usd: Decimal
    replay_usd: Decimal
    matched: int
    matched_real_usd: Decimal
    matched_replay_usd: Decimal
    matched_difference_usd: Decimal


def fills_of(rows: Sequence[Pair]) -> Fills:
    """Sum up the comparable fills."""
    entries = [(row.entry_better_usd, row.entry_later_s) for row in rows if row.entry_better_usd is not None]
    exits = [(row.exit_better_usd, row.exit_later_s or 0.0) for row in rows if row.exit_better_usd is not None]
    both = entries + exits
    usd = [better for better, _ in both]
    count = len(usd)
    return Fills(
        compared=count,
        equal=sum(x == 0 for x in usd),
        better=sum(x > 0 for x in usd),
        worse=sum(x < 0 for x in usd),
        mean_better_usd=mean_of(usd),
        most_better_usd=max(usd, default=None),
        most_worse_usd=min(usd, default=None),
        mean_later_s=sum(later for _, later in both) / count if count > 0 else None,
    )


def costs_of(rows: Sequence[Pair]) -> Costs:
    """Sum up slippage of the trades in which both sides know it."""
    known = [
        (row.real.slippage_usd, row.replay.slippage_usd)
        for row in rows
        if row.real.slippage_usd is not None and row.replay.slippage_usd is not None
    ]
    bps = [
        (row.real.slippage_bps, row.replay.slippage_bps)
        for row in rows
        if row.real.slippage_bps is not None and row.replay.slippage_bps is not None
    ]
    real, replay = sum((one for one, _ in known), ZERO), sum((other for _, other in known), ZERO)
    real_bps = sum(one for one, _ in bps) / len(bps) if bps else None
    replay_bps = sum(other for _, other in bps) / len(bps) if bps else None
    return Costs(
        trades=len(known),
        real_usd=real,
        replay_usd=replay,
        difference_usd=replay - real,
        mean_difference_usd=mean_of([other - one for one, other in known]),
        real_mean_bps=real_bps,
        replay_mean_bps=replay_bps,
        mean_difference_bps=None if real_bps is None or replay_bps is None else replay_bps - real_bps,
    )


def results_of(rows: Sequence[Pair], missed: Sequence[SideTrade], extra: Sequence[SideTrade]) -> Results:
    """Sum up P&L of closed trades."""
    both = [row for row in rows if row.pnl_difference_usd is not None]
    return Results(
        real_usd=_pnl([*(row.real for row in rows), *missed]),
        replay_usd=_pnl([*(row.replay for row in rows), *extra]),
        matched=len(both),
        matched_real_usd=_pnl([row.real for row in both]),
        matched_replay_usd=_pnl([row.replay for row in both]),
        matched_difference_usd=sum((known(row.pnl_difference_usd) for row in both), ZERO),
    )


def _pnl(trades: Sequence[SideTrade]) -> Decimal:
    return sum((trade.net_pnl_usd for trade in trades if trade.net_pnl_usd is not None), ZERO)


def mean_of(values: Sequence[Decimal]) -> Decimal | None:
    """The mean, to the micro-dollar; None of nothing."""
    return rounded(sum(values, ZERO) / len(values)) if values else None


def rounded(value: Decimal | None) -> Decimal | None:
    """To the micro-dollar."""
    return None if value is None else value.quantize(MICRO).normalize() + ZERO


def known(value: Decimal | None) -> Decimal:
    """A value that the caller has made sure of."""
    assert value is not None
    return value

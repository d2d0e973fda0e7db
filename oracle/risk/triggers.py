"""What an exit plan says of one open trade now: pure judgements of its price, its underlying and the clock.

Inputs: a trade's view, what it is worth, bars, the time. Outputs: a ``Trigger`` or None.
Invariants: a price that is missing is not another price; an unknown input triggers nothing but time and closes.
"""

from collections.abc import Iterable
from decimal import ROUND_FLOOR, Decimal
from typing import Final

import msgspec

from oracle.core.marketdata import Bar
from oracle.core.ports import TradeView
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Purpose
from oracle.risk.worth import Worth

BREAKEVEN: Final = "breakeven"
SCALE_OUT: Final = "scale_out"
SCALED_OUT: Final = "scaled_out"
RANK: Final = {Purpose.TARGET: 1, Purpose.STOP: 2, Purpose.FORCED: 3}


class Trigger(msgspec.Struct, frozen=True):
    """One rule of an exit plan that is met now."""

    purpose: Purpose
    rule: str
    observed: str
    limit: str


def _grown(entry_usd: Decimal, fraction: float) -> Decimal:
    """The entry price and a gain of a fraction of what was paid or, for a credit, received; negative: a loss."""
    share = Decimal(repr(fraction))
    return entry_usd * (1 + share) if entry_usd >= 0 else entry_usd * (1 - share)


def judge_premium(trade: TradeView, worth: Worth, breakeven: bool) -> Trigger | None:
    """Judge the price: the stop (or the entry price, once at break-even) first, then the target by its mid."""
    entry, plan, mark = trade.entry_price_usd, trade.exit_plan, worth.mark_usd
    if mark is None:
        return None
    stop = entry if breakeven else _grown(entry, -plan.stop_fraction)
    if mark <= stop:
        rule = BREAKEVEN if breakeven else "stop"
        return Trigger(Purpose.STOP, rule, f"mark {mark} USD", f"{stop} USD")
    mid = worth.fresh_mid_usd
    if plan.target_fraction is None or mid is None or not worth.sellable:
        return None
    target = _grown(entry, plan.target_fraction)
    return Trigger(Purpose.TARGET, "target", f"mid {mid} USD", f"{target} USD") if mid >= target else None


def breakeven_due(trade: TradeView, worth: Worth) -> bool:
    """Whether the stop moves to the entry price: a fresh mid has gained enough."""
    after = trade.exit_plan.breakeven_after_fraction
    if after is None or worth.fresh_mid_usd is None:
        return False
    return worth.fresh_mid_usd >= _grown(trade.entry_price_usd, after)


def judge_short_delta(trade: TradeView, deltas: Iterable[tuple[str, float | None]]) -> Trigger | None:
    """Judge the |delta| of each short leg; one that is unknown triggers nothing."""
    stop = trade.exit_plan.short_delta_stop
    if stop is None:
        return None
    for symbol, delta in deltas:
        if delta is not None and abs(delta) >= stop:
            return Trigger(Purpose.STOP, "short_delta", f"delta {delta:.4f} of {symbol}", f"below {stop:g} in size")
    return None


def scale_out_contracts(trade: TradeView) -> int:
    """How many contracts are still to be sold at the first target; 0 or less when done or none are.

    The share is of all contracts entered, rounded down: of three, half is one, and one contract has no half. It is
    derived from fills, so that a partly filled order leaves exactly its rest.
    """
    share = trade.exit_plan.scale_out_share
    if share is None:
        return 0
    whole = int((Decimal(repr(share)) * trade.contracts_entered).to_integral_value(ROUND_FLOOR))
    return whole - (trade.contracts_entered - trade.contracts_open)


def share_is_sold(trade: TradeView) -> bool:
    """Whether something was sold, and no less than the share."""
    some = trade.exit_plan.scale_out_share is not None and trade.contracts_open < trade.contracts_entered
    return some and scale_out_contracts(trade) <= 0


def judge_scale_out(trade: TradeView, worth: Worth) -> Trigger | None:
    """Judge the first target by the mid; it needs two fresh sides, and contracts left to sell."""
    at, mid = trade.exit_plan.scale_out_at_fraction, worth.fresh_mid_usd
    if at is None or mid is None or not worth.sellable:
        return None
    limit, contracts = _grown(trade.entry_price_usd, at), scale_out_contracts(trade)
    if mid < limit or contracts <= 0:
        return None
    return Trigger(Purpose.TARGET, SCALE_OUT, f"mid {mid} USD for {contracts} contracts", f"{limit} USD")


def judge_level(trade: TradeView, spot: float | None, worth: Worth) -> Trigger | None:
    """Judge the underlying's target by its mid. The option needs two fresh sides: they make the exit's limits."""
    target = trade.exit_plan.underlying_target
    if target is None or spot is None or not worth.sellable:
        return None
    if trade.exit_plan.direction * (spot - target) >= 0:
        return Trigger(Purpose.TARGET, "underlying_target", f"{trade.underlying} {spot} USD", f"{target} USD")
    return None


def judge_close(trade: TradeView, bar: Bar) -> Trigger | None:
    """Judge the underlying's stop on a one-minute close: at the level or back inside it.

    Every close since the entry counts, back-filled ones too: a stop that was crossed while the feed was down is
    still crossed. A bar that ended before the entry says nothing.
    """
    stop = trade.exit_plan.underlying_stop
    if stop is None or bar.start_ns + MINUTE_NS <= trade.opened_ns:
        return None
    if trade.exit_plan.direction * (bar.close - stop) <= 0:
        return Trigger(Purpose.STOP, "underlying_stop", f"{bar.symbol} closed {bar.close} USD", f"{stop} USD")
    return None


def judge_time(trade: TradeView, at_ns: int) -> Trigger | None:
    """Judge the forced exit."""
    flat_ns = trade.exit_plan.flat_ns
    if at_ns < flat_ns:
        return None
    return Trigger(Purpose.FORCED, "flat", f"{(at_ns - flat_ns) / NS:.1f} s after the time to be flat", "flat by then")

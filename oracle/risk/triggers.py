"""What an exit plan says of one open trade now: pure judgements of its price, its underlying and the clock.

Inputs: a trade's view, quotes, bars, the time. Outputs: a ``Trigger`` or None.
Invariants: a price that is missing is not another price; an unknown input triggers nothing but time and closes.
"""

from decimal import ROUND_FLOOR, Decimal
from typing import Final

import msgspec

from oracle.core.messages import Bar
from oracle.core.money import price_from_float
from oracle.core.ports import OptionQuote, TradeView
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Purpose

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


def mark_usd(quote: OptionQuote, fresh: bool) -> Decimal | None:
    """Value a long option for its stop: the mid when fresh, else the worse side, which is the bid.

    Without a bid the ask, when fresh, bounds the value from above and is used: a stop then triggers only when even
    that bound is at or under it. Taking "no bid" as zero would sell a sound position at the market on one missing
    side of one quote, into no bid. A stale ask bounds nothing; then time and the underlying's level still exit.
    """
    if fresh and quote.mid is not None:
        return price_from_float(quote.mid)
    if quote.bid is not None:
        return price_from_float(quote.bid)
    return price_from_float(quote.ask) if fresh and quote.ask is not None else None


def _grown(entry_usd: Decimal, fraction: float) -> Decimal:
    return entry_usd * (1 + Decimal(repr(fraction)))


def judge_premium(trade: TradeView, quote: OptionQuote | None, fresh: bool, breakeven: bool) -> Trigger | None:
    """Judge the option's price: the stop (or the entry price, once at break-even) first, then the target by its mid."""
    if quote is None:
        return None
    entry, plan = trade.entry_price_usd, trade.exit_plan
    mark = mark_usd(quote, fresh)
    if mark is None:
        return None
    stop = entry if breakeven else _grown(entry, -plan.stop_fraction)
    if mark <= stop:
        rule = BREAKEVEN if breakeven else "stop"
        return Trigger(Purpose.STOP, rule, f"mark {mark} USD", f"{stop} USD")
    if plan.target_fraction is None or not fresh or quote.mid is None or quote.bid is None or quote.bid <= 0:
        return None
    target = _grown(entry, plan.target_fraction)
    if mark >= target:
        return Trigger(Purpose.TARGET, "target", f"mid {mark} USD", f"{target} USD")
    return None


def breakeven_due(trade: TradeView, quote: OptionQuote | None, fresh: bool) -> bool:
    """Whether the stop moves to the entry price: a fresh mid has gained enough."""
    after = trade.exit_plan.breakeven_after_fraction
    if after is None or quote is None or not fresh or quote.mid is None:
        return False
    return price_from_float(quote.mid) >= _grown(trade.entry_price_usd, after)


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


def judge_scale_out(trade: TradeView, quote: OptionQuote | None, fresh: bool) -> Trigger | None:
    """Judge the first target by the option's mid; it needs two fresh sides, and contracts left to sell."""
    at = trade.exit_plan.scale_out_at_fraction
    if at is None or quote is None or not fresh or quote.mid is None or quote.bid is None or quote.bid <= 0:
        return None
    mid, limit = price_from_float(quote.mid), _grown(trade.entry_price_usd, at)
    contracts = scale_out_contracts(trade)
    if mid < limit or contracts <= 0:
        return None
    return Trigger(Purpose.TARGET, SCALE_OUT, f"mid {mid} USD for {contracts} contracts", f"{limit} USD")


def judge_level(trade: TradeView, spot: float | None, quote: OptionQuote | None, fresh: bool) -> Trigger | None:
    """Judge the underlying's target by its mid. The option needs two fresh sides: they make the exit's limits."""
    target = trade.exit_plan.underlying_target
    if target is None or spot is None or not fresh or quote is None:
        return None
    if quote.mid is None or quote.bid is None or quote.bid <= 0:
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

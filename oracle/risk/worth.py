"""What one unit of an open trade is worth now, for its stop and for its gains. Pure reads.

Inputs: a trade's view, its legs' quotes. Output: a ``Worth``. Invariants: a price that is missing is not another price;
a bound is used only in the direction in which it cannot trigger too early; a trade without whole units, or with a short
beyond them, has no price.
"""

from decimal import Decimal

import msgspec

from oracle.core.equity import NEARLY_NOTHING_USD
from oracle.core.instruments import is_option
from oracle.core.money import ZERO, price_from_float
from oracle.core.ports import Context, LegView, OptionQuote, TradeView
from oracle.core.sessions import NS
from oracle.core.structures import is_structure, legs_of
from oracle.risk.priced import seen_ns


class Worth(msgspec.Struct, frozen=True):
    """A unit's value in dollars per share; None is unknown.

    ``mark_usd`` is for the stop; ``fresh_mid_usd`` for gains, where a long leg without a bid counts nothing and a short
    one without a bid its ask; ``sellable``: something of it can be closed at a limit.
    """

    mark_usd: Decimal | None
    fresh_mid_usd: Decimal | None
    sellable: bool


UNKNOWN_WORTH = Worth(None, None, sellable=False)


def held_of(trade: TradeView) -> tuple[LegView, ...]:
    """What a trade really holds, sorted by symbol."""
    return trade.legs if trade.legs or trade.contracts_open <= 0 else units_of(trade)


def units_of(trade: TradeView) -> tuple[LegView, ...]:
    """The legs of a trade's whole units, sorted by symbol."""
    sign = trade.side.sign * trade.contracts_open
    return tuple(LegView(leg.symbol, sign * leg.signed) for leg in legs_of(trade.symbol))


def has_units(trade: TradeView) -> bool:
    """Whether a structure holds whole units, and beyond them nothing but longs, which no short depends on."""
    return trade.contracts_open > 0 and all(is_option(leg.symbol) and leg.qty > 0 for leg in trade.beyond)


def worth_of(trade: TradeView, context: Context, max_age_s: Decimal) -> Worth:
    """Value one unit of a trade by the newest quotes of its legs.

    A wing that nobody bids for and that was offered at next to nothing is quoted seldom. Without a fresh quote it
    counts nothing, as in the account's own valuation: else the stop of the whole would wait for its next quote.
    """
    max_age_ns = int(max_age_s * NS)
    if not is_structure(trade.symbol):
        quote = context.chains.option_quote(trade.symbol)
        fresh = quote is not None and context.at_ns - seen_ns(quote) <= max_age_ns
        return worth_of_contract(quote, fresh)
    if not has_units(trade):
        return UNKNOWN_WORTH
    mark: Decimal | None = ZERO
    mid: Decimal | None = ZERO
    sellable = False
    for leg in legs_of(trade.symbol):
        quote = context.chains.option_quote(leg.symbol)
        if quote is None:
            return UNKNOWN_WORTH
        fresh = context.at_ns - seen_ns(quote) <= max_age_ns
        is_long = leg.signed > 0
        if is_long and not fresh and _is_worthless(quote):
            continue  # counts nothing
        one, gain = _mark(quote, fresh, is_long), _gain(quote, is_long) if fresh else None
        mark = None if mark is None or one is None else mark + leg.signed * one
        mid = None if mid is None or gain is None else mid + leg.signed * gain
        sellable = sellable or not is_long or has_bid(quote)
    return Worth(mark, mid, sellable and mid is not None)


def worth_of_contract(quote: OptionQuote | None, fresh: bool) -> Worth:
    """Value one long contract."""
    if quote is None:
        return UNKNOWN_WORTH
    mid = price_from_float(quote.mid) if fresh and quote.mid is not None else None
    return Worth(mark_usd(quote, fresh), mid, mid is not None and has_bid(quote))


def has_bid(quote: OptionQuote) -> bool:
    """Whether somebody would buy it at all."""
    return quote.bid is not None and quote.bid > 0


def _is_worthless(quote: OptionQuote) -> bool:
    """Whether nobody bids for it, and it is offered at next to nothing."""
    return not has_bid(quote) and quote.ask is not None and quote.ask <= NEARLY_NOTHING_USD


def mark_usd(quote: OptionQuote, fresh: bool) -> Decimal | None:
    """Value a long option for its stop: the mid when fresh, else the worse side, which is the bid.

    Without a bid the ask, when fresh, bounds the value from above and is used: a stop then triggers only when even
    that bound is at or under it. Taking "no bid" as zero would sell a sound position at the market on one missing
    side of one quote, into no bid. A stale ask bounds nothing; then time and the underlying's level still exit.
    """
    return _mark(quote, fresh, is_long=True)


def _mark(quote: OptionQuote, fresh: bool, is_long: bool) -> Decimal | None:
    """The same for either side: a short's worse side is the ask, and its bound, from below, a fresh bid."""
    if fresh and quote.mid is not None:
        return price_from_float(quote.mid)
    worse, bound = (quote.bid, quote.ask) if is_long else (quote.ask, quote.bid)
    if worse is not None:
        return price_from_float(worse)
    return price_from_float(bound) if fresh and bound is not None else None


def _gain(quote: OptionQuote, is_long: bool) -> Decimal | None:
    """What a leg counts when gains are judged: never more than it would bring."""
    if quote.ask is None or (quote.bid is not None and quote.bid > quote.ask):
        return None
    if not has_bid(quote):
        return ZERO if is_long else price_from_float(quote.ask)
    return None if quote.mid is None else price_from_float(quote.mid)

"""Price what an intent wants: its legs' quotes as one net quote, and the ladder that it would get. Pure reads.

Inputs: an intent, the chains' view, limits and ladder settings. Outputs: ``Prices``. Invariant: what cannot be known is
None; a net side exists only where every leg has the side that it needs; the oldest leg gives the age.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from oracle.core.equity import NEARLY_NOTHING_USD
from oracle.core.errors import InvariantError, RemoteError
from oracle.core.instruments import parse_occ
from oracle.core.marketdata import ListedContract
from oracle.core.messages import Intent, LadderStep
from oracle.core.money import ZERO, price_from_float
from oracle.core.ports import ChainsView, OptionQuote
from oracle.core.sessions import NS
from oracle.core.structures import OrderLeg
from oracle.core.vocabulary import Side
from oracle.risk.ladder import PENNY_ALWAYS, TickRule, build_ladder
from oracle.risk.limits import LadderSettings, RiskLimits

# A structure's net price moves in cents, whatever its legs' own increments (alpaca.md section 4).
NET_TICKS: Final = TickRule(penny_class=True, penny_always=True)


def unit_of(intent: Intent) -> tuple[OrderLeg, ...]:
    """The legs of one unit as an order would have them, sorted by symbol."""
    return tuple(sorted(OrderLeg(leg.symbol, leg.side, leg.ratio) for leg in intent.legs))


def wanted_name(intent: Intent) -> str:
    """The intent's symbol; where its legs are no structure, all of them in words."""
    try:
        return intent.symbol
    except (InvariantError, RemoteError):
        return ", ".join(f"{leg.side.value} {leg.ratio} {leg.symbol}" for leg in intent.legs)


def seen_ns(quote: OptionQuote) -> int:
    """The age of a quote counts from the older of the vendor's time and arrival, so no clock can make it younger."""
    return min(quote.quoted_ns, quote.received_ns)


def is_fresh(quote: OptionQuote, at_ns: int, limits: RiskLimits) -> bool:
    """Whether an option's quote is young enough to be a mark."""
    return at_ns - seen_ns(quote) <= limits.max_option_quote_age_s * NS


def money(price: float | None) -> Decimal | None:
    """A quoted side as exact dollars; an absent side stays None."""
    return None if price is None else price_from_float(price)


def listed_contract(chains: ChainsView, underlying: str, symbol: str) -> ListedContract | None:
    """Find a contract in the session's list (sorted by symbol)."""
    listed = chains.listed(underlying)
    if listed is None:
        return None
    at = bisect_left(listed.contracts, symbol, key=lambda contract: contract.symbol)
    found = listed.contracts[at] if at < len(listed.contracts) else None
    return found if found is not None and found.symbol == symbol else None


def ticks_of(chains: ChainsView, underlying: str, unit: Sequence[OrderLeg]) -> TickRule:
    """The tick rule of a contract or a structure. One that is not listed gets the coarse ticks, valid for all."""
    if len(unit) > 1:
        return NET_TICKS
    listed = listed_contract(chains, underlying, unit[0].symbol)
    return TickRule(penny_class=listed is not None and listed.penny_class, penny_always=underlying in PENNY_ALWAYS)


class Sides(msgspec.Struct, frozen=True):
    """What one unit can be sold and bought for now, per share; None where a leg lacks the side that it needs."""

    bid_usd: Decimal | None
    ask_usd: Decimal | None

    @property
    def mid_usd(self) -> Decimal | None:
        """The middle of two uncrossed sides, else None."""
        if self.bid_usd is None or self.ask_usd is None or self.bid_usd > self.ask_usd:
            return None
        return (self.bid_usd + self.ask_usd) / 2


def net_sides(legs: Iterable[tuple[int, Decimal | None, Decimal | None]]) -> Sides:
    """Add up legs given as (signed ratio, bid, ask): a unit is sold at its longs' bids and its shorts' asks."""
    bid: Decimal | None = ZERO
    ask: Decimal | None = ZERO
    for signed, leg_bid, leg_ask in legs:
        worse, better = (leg_bid, leg_ask) if signed > 0 else (leg_ask, leg_bid)
        bid = None if bid is None or worse is None else bid + signed * worse
        ask = None if ask is None or better is None else ask + signed * better
    return Sides(bid, ask)


class Prices(msgspec.Struct, frozen=True):
    """An intent's unit as the market has it, and its ladder; empty where there is none. See ``RiskFacts``."""

    sides: Sides = Sides(None, None)
    quoted_ns: int | None = None
    gross_usd: Decimal | None = None
    one_sided: tuple[str, ...] = ()
    steps: tuple[LadderStep, ...] = ()

    @property
    def worst_usd(self) -> Decimal | None:
        """The ladder's last price."""
        return self.steps[-1].limit_usd if self.steps else None

    @property
    def first_usd(self) -> Decimal | None:
        """The ladder's first price."""
        return self.steps[0].limit_usd if self.steps else None


def price(intent: Intent, chains: ChainsView, settings: LadderSettings) -> Prices:
    """Price an intent by its legs' newest quotes."""
    unit = unit_of(intent)
    quotes = [chains.option_quote(leg.symbol) for leg in unit]
    known = [quote for quote in quotes if quote is not None]
    if len(known) < len(unit):
        return Prices(one_sided=_one_sided(unit, quotes))
    wings = [is_bare_wing(leg, q, unit) for leg, q in zip(unit, known, strict=True)]
    bids = [ZERO if bare else money(q.bid) for q, bare in zip(known, wings, strict=True)]
    rows = [(leg.signed, bid, money(q.ask)) for leg, bid, q in zip(unit, bids, known, strict=True)]
    sides = net_sides(rows)
    gross = None
    if all(bid is not None and ask is not None for _, bid, ask in rows):
        gross = sum((abs(n) * (bid + ask) / 2 for n, bid, ask in rows if bid is not None and ask is not None), ZERO)
    steps: tuple[LadderStep, ...] = ()
    if sides.bid_usd is not None and sides.ask_usd is not None and sides.bid_usd <= sides.ask_usd:
        ticks = ticks_of(chains, intent.underlying, unit)
        steps = build_ladder(sides.bid_usd, sides.ask_usd, Side.BUY, ticks, settings, signed=not _is_single(unit))
    return Prices(sides, min(seen_ns(quote) for quote in known), gross, _one_sided(unit, quotes), steps)


def is_bare_wing(leg: OrderLeg, quote: OptionQuote, unit: Sequence[OrderLeg]) -> bool:
    """Whether a long leg that stands beside a short is offered at next to nothing and nobody bids for it.

    It protects the short whatever it could be sold for: buying it needs the offer alone, and selling it counts nothing.
    """
    beside = any(other.signed < 0 for other in unit)
    cheap = quote.ask is not None and 0 < quote.ask <= NEARLY_NOTHING_USD
    return leg.signed > 0 and beside and cheap and (quote.bid is None or quote.bid == 0)


def _is_single(unit: Sequence[OrderLeg]) -> bool:
    return len(unit) == 1 and unit[0].signed == 1


def _one_sided(unit: Sequence[OrderLeg], quotes: Sequence[OptionQuote | None]) -> tuple[str, ...]:
    """The legs of a structure that cannot be bought and sold now, in words; of a single contract its own rule tells."""
    if _is_single(unit):
        return ()
    out = []
    for leg, quote in zip(unit, quotes, strict=True):
        if quote is None:
            out.append(f"{leg.symbol} is not quoted")
        elif is_bare_wing(leg, quote, unit):
            continue
        elif quote.bid is None or quote.ask is None or quote.bid <= 0 or quote.bid > quote.ask:
            out.append(f"{leg.symbol} bid {_shown(quote.bid)}, ask {_shown(quote.ask)}")
    return tuple(out)


def _shown(side: float | None) -> str:
    return "none" if side is None else f"{price_from_float(side)} USD"


def expiries(unit: Sequence[OrderLeg]) -> tuple[str, ...] | None:
    """The legs' expiry dates, or None when a leg is no option."""
    try:
        return tuple(parse_occ(leg.symbol).expiry for leg in unit)
    except RemoteError:
        return None

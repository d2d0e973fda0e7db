"""The usable contracts of one expiry, and the choice of a structure's legs among them: by delta, moneyness or strike.

Inputs: chain columns with an expiry's model values, what is wanted, the moment. Outputs: contracts with quote, delta,
volatility and dated open interest; legs of one expiry; or why there are none, with counts. Pure functions.
Invariants: what is stale, one-sided, crossed or without a volatility is never a leg; equal inputs give equal legs.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from oracle.core.ports import NotSelected
from oracle.core.sessions import NS
from oracle.core.structurechoice import (
    ChosenLeg,
    LegWanted,
    OfferedContract,
    SelectedStructure,
    StructureRequest,
    UsableContract,
    UsableSlice,
)
from oracle.options.columns import ChainColumns, Ints
from oracle.options.quote_checks import QuoteReason, price_reasons, quote_reasons, reason_name
from oracle.options.selection import YEAR_NS, Facts, Missing, Surface

NOT_TRADABLE = "not_tradable"
NO_OPEN_INTEREST = "open_interest_unknown"
LOW_OPEN_INTEREST = "open_interest_too_low"
NO_LEG_AT_DELTA = "no_contract_at_delta"
NO_LEG_AT_STRIKE = "no_contract_at_strike"
NO_LEG_AT_MONEYNESS = "no_contract_at_moneyness"
SAME_LEG = "legs_coincide"
WIDE_NET_SPREAD = "net_spread_too_wide"
# Quotes of these kinds may still have an offer that a wing can be bought at.
_WITHOUT_BID = (QuoteReason.ZERO_BID, QuoteReason.ONE_SIDED)
# A strike further than this share of the forward from the wanted moneyness is another structure.
MONEYNESS_REACH = 0.02


def usable_slice(
    chain: ChainColumns,
    surface: Surface,
    *,
    expiry: str,
    at_ns: int,
    expires_in_ns: int,
    rate_per_year: float,
    max_age_s: float,
    min_open_interest: int = 0,
) -> UsableSlice | NotSelected:
    """Sort one expiry's contracts into the usable ones and the others by reason.

    The age is that of the oldest quote that a contract's values rest on. The reason of none at all is the one that
    stands nearest to a usable contract: too old, then no volatility, then no two-sided quotes.
    """
    rows = surface.rows
    reasons = _reasons(chain, surface, at_ns, expires_in_ns / YEAR_NS, rate_per_year, max_age_s)
    left_out: Counter[str] = Counter()
    found: dict[bool, list[UsableContract]] = {True: [], False: []}
    for i, code in enumerate(reasons.tolist()):
        row = int(rows[i])
        word = reason_name(code) if code != QuoteReason.USABLE else _listing_reason(chain, row, min_open_interest)
        if word is not None:
            left_out[word] += 1
            continue
        listed, is_call = chain.listed.contracts[row], bool(chain.is_call[row])
        found[is_call].append(
            UsableContract(
                symbol=listed.symbol,
                is_call=is_call,
                strike=float(chain.strike[row]),
                bid=float(chain.bid[row]),
                ask=float(chain.ask[row]),
                quoted_ns=int(chain.quoted_ns[row]),
                delta=float(surface.delta[i]),
                iv=float(surface.iv[i]),
                open_interest=listed.open_interest,
                open_interest_date=listed.open_interest_date,
            )
        )
    if not found[True] and not found[False]:
        facts: Facts = {"expiry": expiry, "listed": len(rows), **dict(sorted(left_out.items()))}
        return NotSelected(_missing(left_out), facts)
    calls, puts = (tuple(sorted(found[right], key=lambda c: (c.strike, c.symbol))) for right in (True, False))
    return UsableSlice(
        underlying=chain.listed.underlying,
        expiry=expiry,
        spot=surface.spot,
        forward=surface.forward,
        forward_source=surface.forward_source,
        calls=calls,
        puts=puts,
        left_out=dict(sorted(left_out.items())),
        offered=_offered(chain, rows, reasons, at_ns - round(max_age_s * NS), min_open_interest),
    )


def _offered(
    chain: ChainColumns, rows: Ints, reasons: np.ndarray, since_ns: int, min_open_interest: int
) -> tuple[OfferedContract, ...]:
    """The contracts without a bid whose offer is fresh, by strike and symbol."""
    found = []
    for row in rows[np.isin(reasons, _WITHOUT_BID)].tolist():
        listed, ask = chain.listed.contracts[row], float(chain.ask[row])
        fresh = chain.received_ns[row] > 0 and chain.quoted_ns[row] >= since_ns
        if fresh and ask > 0 and _listing_reason(chain, row, min_open_interest) is None:
            found.append(
                OfferedContract(
                    listed.symbol, bool(chain.is_call[row]), float(chain.strike[row]), ask, int(chain.quoted_ns[row]),
                    listed.open_interest, listed.open_interest_date,
                )
            )  # fmt: skip
    return tuple(sorted(found, key=lambda c: (c.strike, c.symbol)))


def _reasons(
    chain: ChainColumns, surface: Surface, at_ns: int, years: float, rate_per_year: float, max_age_s: float
) -> np.ndarray:
    """A ``QuoteReason`` for each row of the surface; age and lack of a volatility come after the quote's own faults."""
    rows = surface.rows
    age_s = (at_ns - surface.oldest_ns) / NS
    age_s = np.where(chain.received_ns[rows] == 0, np.nan, age_s)
    own = quote_reasons(chain.bid[rows], chain.ask[rows], age_s, years, max_age_s=max_age_s)
    bare = (own == QuoteReason.USABLE) & ~surface.with_iv
    priced = price_reasons(
        surface.mid, surface.forward, chain.strike[rows], years, chain.is_call[rows],
        float(np.exp(-rate_per_year * years)),
    )  # fmt: skip
    # Its own price may be sound and its volatility still unknown, because it is taken from the other right.
    priced = np.where(priced == QuoteReason.USABLE, np.uint8(QuoteReason.INVALID_INPUT), priced)
    return np.where(bare, priced, own)


def _listing_reason(chain: ChainColumns, row: int, min_open_interest: int) -> str | None:
    if not chain.tradable[row]:
        return NOT_TRADABLE
    if min_open_interest > 0:
        interest = chain.listed.contracts[row].open_interest
        if interest is None:
            return NO_OPEN_INTEREST
        if interest < min_open_interest:
            return LOW_OPEN_INTEREST
    return None


def _missing(left_out: Counter[str]) -> str:
    """The reason for a whole expiry without one usable contract."""
    by_word = (
        (NO_OPEN_INTEREST, NO_OPEN_INTEREST),
        (LOW_OPEN_INTEREST, LOW_OPEN_INTEREST),
        (NOT_TRADABLE, Missing.EXPIRY.value),
        ("stale", Missing.FRESH_OPTION_QUOTES.value),
        *((reason_name(code), Missing.IMPLIED_VOL.value) for code in _WITHOUT_IV),
        ("expired", Missing.EXPIRY.value),
    )
    return next((reason for word, reason in by_word if left_out[word]), Missing.OPTION_QUOTES.value)


_WITHOUT_IV = (
    QuoteReason.INVALID_INPUT, QuoteReason.BELOW_INTRINSIC, QuoteReason.ABOVE_BOUND, QuoteReason.TIME_VALUE_NOISE,
)  # fmt: skip


def choose_structure(one: UsableSlice, request: StructureRequest) -> SelectedStructure | NotSelected:
    """Choose the legs of one expiry, in the order in which they are wanted."""
    legs: list[ChosenLeg] = []
    for number, wanted in enumerate(request.legs):
        chosen = _leg(one, wanted, legs)
        if isinstance(chosen, str):
            return NotSelected(chosen, _facts(one, number, wanted))
        if any(chosen.symbol == leg.contract.symbol for leg in legs):
            return NotSelected(SAME_LEG, {**_facts(one, number, wanted), "strike": chosen.strike})
        legs.append(ChosenLeg(chosen, wanted.side, wanted.ratio))
    wide, net = net_spread(legs), net_mid(legs)
    allowed = min(request.max_spread_usd, request.max_spread_of_mid * abs(net))
    if wide > allowed + 1e-9:  # cents held as floats
        spread: Facts = {"net_spread_usd": round(wide, 9), "net_mid_usd": round(net, 9), "allowed_usd": allowed}
        return NotSelected(WIDE_NET_SPREAD, {"expiry": one.expiry, **spread})
    return SelectedStructure(
        one.underlying, one.expiry, tuple(legs), one.spot, one.forward, one.forward_source
    )  # fmt: skip


def net_mid(legs: Sequence[ChosenLeg]) -> float:
    """The middle of one unit when it is bought, dollars a share; negative is a credit."""
    return sum(leg.side.sign * leg.ratio * leg.contract.mid for leg in legs)


def net_spread(legs: Sequence[ChosenLeg]) -> float:
    """What all legs' spreads come to for one unit, dollars a share."""
    return sum(leg.ratio * (leg.contract.ask - leg.contract.bid) for leg in legs)


def _leg(one: UsableSlice, wanted: LegWanted, before: Sequence[ChosenLeg]) -> UsableContract | str:
    contracts = one.calls if wanted.is_call else one.puts
    if wanted.abs_delta is not None:
        target = wanted.abs_delta
        inside = [c for c in contracts if wanted.abs_delta_low <= abs(c.delta) <= wanted.abs_delta_high]
        # Equal distances: the tighter quote, then the symbol.
        best = min(inside, key=lambda c: (round(abs(abs(c.delta) - target), 9), _width(c), c.symbol), default=None)
        return NO_LEG_AT_DELTA if best is None else best
    if wanted.moneyness is not None:
        centre = one.forward * (1.0 + wanted.moneyness)
        inside = [c for c in contracts if abs(c.strike - centre) <= MONEYNESS_REACH * one.forward]
        best = min(inside, key=lambda c: (round(abs(c.strike - centre), 9), c.strike, c.symbol), default=None)
        return NO_LEG_AT_MONEYNESS if best is None else best
    if wanted.of_leg is None or not 0 <= wanted.of_leg < len(before):
        return NO_LEG_AT_STRIKE
    strike = before[wanted.of_leg].contract.strike + wanted.offset_usd
    return next((c for c in contracts if abs(c.strike - strike) < 5e-4), NO_LEG_AT_STRIKE)


def _facts(one: UsableSlice, number: int, wanted: LegWanted) -> Facts:
    contracts = one.calls if wanted.is_call else one.puts
    return {
        "expiry": one.expiry,
        "leg": number + 1,
        "right": "call" if wanted.is_call else "put",
        "usable": len(contracts),
        **{f"left_out_{word}": count for word, count in one.left_out.items()},
    }


def _width(contract: UsableContract) -> float:
    return round(contract.ask - contract.bid, 9)

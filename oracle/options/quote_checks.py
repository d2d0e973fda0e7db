"""Why a contract has no implied volatility: one code per contract, vectorised, named in snake_case.

Inputs: the two sides of quotes, their ages, time left, and what the price is compared with (forward, strike, discount).
Outputs: arrays of ``QuoteReason`` as uint8. Invariant: a code other than ``USABLE`` and ``EARLY_EXERCISE`` means that
the contract's volatility and greeks are NaN, and the other way round; the first reason found is the one that is told.

    reasons = quote_reasons(bid, ask, age_s, years, max_age_s=60)  # what is wrong with the quote itself
    found = chain_greeks((bid + ask) / 2, forward, strike, years, is_call, rate, reasons=reasons)
    found.reasons  # those, and why a price has no volatility
    reason_name(found.reasons[i])  # "usable", "crossed", "below_intrinsic", …
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from oracle.options.pricing import Array, Bools, Floats, implied_vol

Reasons = npt.NDArray[np.uint8]


class QuoteReason(IntEnum):
    """What is wrong with a contract's quote or price, in the order in which it is told; 0 is nothing."""

    USABLE = 0
    EXPIRED = 1  # no time is left, or the time is unknown
    NO_QUOTE = 2  # neither side is known
    ONE_SIDED = 3  # one side is unknown, or there is no offer
    INVALID_QUOTE = 4  # a negative or infinite side
    CROSSED = 5  # bid above ask; a locked quote (equal sides) is usable
    ZERO_BID = 6  # nobody bids: the middle is no price
    STALE = 7  # older than allowed, or of unknown age
    INVALID_INPUT = 8  # forward, strike, price or discount is unknown or not positive
    BELOW_INTRINSIC = 9  # the price is at or below the discounted intrinsic value
    ABOVE_BOUND = 10  # at or above the discounted forward (call) or strike (put)
    TIME_VALUE_NOISE = 11  # above intrinsic by no more than the rounding of the price in double precision
    EARLY_EXERCISE = 12  # has a volatility, but the European error may exceed half the spread


REASON_NAMES = tuple(reason.name.lower() for reason in QuoteReason)


def reason_name(code: int) -> str:
    """Name a code: ``usable``, ``one_sided``, ``below_intrinsic``, …"""
    return REASON_NAMES[code]


def quote_reasons(bid: Floats, ask: Floats, age_s: Floats, years: Floats, *, max_age_s: float) -> Reasons:
    """Judge quotes by themselves, before any model; NaN is an unknown side, age or time.

    Args:
        bid: dollars; broadcasts with the others.
        ask: dollars; 0 means that nobody offers.
        age_s: seconds since the older of the two sides was seen; negative (a vendor's clock ahead) counts as new.
        years: time to the expiry instant.
        max_age_s: a greater age is stale.
    """
    b, a, age, t = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (bid, ask, age_s, years)))
    no_bid, no_ask = np.isnan(b), np.isnan(a) | (a == 0)
    with np.errstate(invalid="ignore"):
        return first_that_holds(
            b.shape,
            (QuoteReason.EXPIRED, ~(t > 0)),
            (QuoteReason.NO_QUOTE, no_bid & np.isnan(a)),
            (QuoteReason.INVALID_QUOTE, (b < 0) | (a < 0) | np.isinf(b) | np.isinf(a)),
            (QuoteReason.ONE_SIDED, no_bid | no_ask),
            (QuoteReason.CROSSED, b > a),
            (QuoteReason.ZERO_BID, b == 0),
            (QuoteReason.STALE, ~(age <= max_age_s)),
        )


def price_reasons(
    price: Floats, forward: Floats, strike: Floats, years: Floats, is_call: npt.ArrayLike, discount: Floats = 1.0
) -> Reasons:
    """Say why a price has no implied volatility by ``pricing.implied_vol``; ``USABLE`` exactly where it has one.

    Units and shapes are those of ``implied_vol``.
    """
    p, f, k, t, d = (np.asarray(value, dtype=np.float64) for value in (price, forward, strike, years, discount))
    p, f, k, t, d, call = np.broadcast_arrays(p, f, k, t, d, np.asarray(is_call, dtype=bool))
    found = implied_vol(p, f, k, t, call, d)
    return judge_prices(p, f, k, t, call, d, ~np.isnan(found))


def join_reasons(*reasons: Reasons) -> Reasons:
    """The first code that is not ``USABLE`` of each contract; arrays broadcast."""
    told = np.zeros(np.broadcast_shapes(*(codes.shape for codes in reasons)), dtype=np.uint8)
    for codes in reasons:
        told = np.where(told == QuoteReason.USABLE, codes, told)
    return told


def mark_early_exercise(reasons: Reasons, suspect: Bools) -> Reasons:
    """Mark usable contracts whose European volatility is suspect; they keep it (``early_exercise_suspect``)."""
    return join_reasons(reasons, np.where(suspect, np.uint8(QuoteReason.EARLY_EXERCISE), np.uint8(0)))


def has_volatility(reasons: Reasons) -> Bools:
    """Which contracts have a number: ``USABLE`` and ``EARLY_EXERCISE``."""
    found: Bools = (reasons == QuoteReason.USABLE) | (reasons == QuoteReason.EARLY_EXERCISE)
    return found


def judge_prices(p: Array, f: Array, k: Array, t: Array, call: Bools, d: Array, found: Bools) -> Reasons:
    """Codes of prices of which ``found`` says whether they have a volatility; arrays of one shape, no broadcasting."""
    with np.errstate(all="ignore"):
        side = np.where(call, 1.0, -1.0)
        intrinsic = np.maximum(side * (f - k), 0.0)
        known = np.isfinite(p) & (p >= 0) & _positive(f) & _positive(k) & _positive(d) & (t < np.inf)
        value = p / d
        return first_that_holds(
            p.shape,
            (QuoteReason.USABLE, found),
            (QuoteReason.EXPIRED, ~(t > 0)),
            (QuoteReason.INVALID_INPUT, ~known),
            (QuoteReason.BELOW_INTRINSIC, value <= intrinsic),
            # Above intrinsic in the last digits alone; or so near to the bound that no finite volatility reaches it.
            (QuoteReason.ABOVE_BOUND, value - intrinsic > 0.5 * np.minimum(f, k)),
            (QuoteReason.TIME_VALUE_NOISE, np.ones(p.shape, dtype=bool)),
        )


def first_that_holds(shape: tuple[int, ...], *tests: tuple[QuoteReason, Bools]) -> Reasons:
    """The code of the first test that holds, ``USABLE`` where none does."""
    told = np.zeros(shape, dtype=np.uint8)
    for code, holds in reversed(tests):
        told[holds] = code
    return told


def _positive(values: Array) -> Bools:
    positive: Bools = (values > 0) & (values < np.inf)
    return positive

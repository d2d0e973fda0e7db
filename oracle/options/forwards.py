"""The forward of an expiry: from put-call parity where quotes are liquid, else from spot, rate and dividends.

Inputs: spot, rate, cash dividends by their ex-dates, a yield, mids of one expiry. Output: dollars, and where they come
from. Cash dividends follow the escrowed model: their present value leaves the spot, the rest grows at the rate.
Invariant: no forward is made up; None where neither source gives one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from oracle.options.pricing import Array, Floats, parity_forward

# A parity forward further from the carried one than this rests on broken quotes.
PARITY_TO_CARRIED_MAX = 0.05


@dataclass(slots=True, frozen=True)
class Dividend:
    """One cash dividend: years until the instant it leaves the price (the open of its ex-date), and dollars a share."""

    years_to_ex: float
    usd: float


@dataclass(slots=True, frozen=True)
class ExpiryForward:
    """A forward in dollars and its source."""

    usd: float
    source: Literal["parity", "spot"]


def dividends_present_value(years: Floats, rate: float, dividends: Sequence[Dividend]) -> Array:
    """Dollars today of the dividends that leave the price in (0, ``years``], discounted from their ex-dates.

    Shares are paid for some weeks after the ex-date; at 5 % that is 0.4 % of the dividend, which is neglected.
    """
    t = np.asarray(years, dtype=np.float64)
    total = np.zeros(t.shape)
    for dividend in dividends:
        if dividend.years_to_ex > 0:
            worth = dividend.usd * math.exp(-rate * dividend.years_to_ex)
            total = total + np.where(t >= dividend.years_to_ex, worth, 0.0)
    return total


def carried_forward(
    spot: Floats,
    years: Floats,
    rate: float = 0.0,
    dividends: Sequence[Dividend] = (),
    dividend_yield: float = 0.0,
) -> Array:
    """Carry spot to expiries: ``(spot - present value of cash dividends) * exp((rate - yield) * years)``.

    Args:
        spot: dollars; broadcasts with ``years``.
        years: to the expiry instants.
        rate: continuously compounded, per year.
        dividends: cash dividends announced or expected, in any order; those whose ex-date has passed are left out.
        dividend_yield: continuous proportional yield or borrow fee per year.

    Returns:
        Dollars; NaN where spot or time is unknown or negative, or where the dividends are worth more than the spot.
    """
    s, t = np.asarray(spot, dtype=np.float64), np.asarray(years, dtype=np.float64)
    with np.errstate(all="ignore"):
        forward = (s - dividends_present_value(t, rate, dividends)) * np.exp((rate - dividend_yield) * t)
        return np.where((forward > 0) & (forward < np.inf) & (t >= 0), forward, np.nan)


def expiry_forward(
    strikes: Floats,
    call_mid: Floats,
    put_mid: Floats,
    *,
    spot: float | None,
    years: float,
    rate: float = 0.0,
    dividends: Sequence[Dividend] = (),
    dividend_yield: float = 0.0,
) -> ExpiryForward | None:
    """The forward of one expiry: by parity of the strikes given, else carried from spot.

    Args:
        strikes: dollars, of pairs with liquid quotes; the caller leaves out stale and one-sided ones (NaN mids).
        call_mid: mids of the calls at those strikes.
        put_mid: the same for the puts.
        spot: dollars; None when unknown, then parity alone decides.
        years: to the expiry instant.
        rate: as in ``carried_forward``, like the two that follow.

    Returns:
        None when parity has too few strikes (or is more than 5 % off the carried forward) and spot is unknown or unfit.
    """
    carried = math.nan if spot is None else float(carried_forward(spot, years, rate, dividends, dividend_yield))
    implied = parity_forward(strikes, call_mid, put_mid, math.exp(-rate * years))
    if implied is not None and (math.isnan(carried) or abs(implied / carried - 1.0) <= PARITY_TO_CARRIED_MAX):
        return ExpiryForward(implied, "parity")
    return None if math.isnan(carried) else ExpiryForward(carried, "spot")

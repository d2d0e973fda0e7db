"""Black's formula on a forward, its greeks and its inverse, vectorised over a whole chain.

Inputs broadcast: forward, strike and price in dollars; ``years`` to the expiry instant (real time, no floor);
``vol`` per square-root year (0.20 is 20 %); ``discount`` is the price today of 1 dollar at expiry. Exercise
is European: for listed American options the error is the early-exercise premium (``early_exercise``, docs/pricing.md).
Invariants: no NaN for valid inputs; an implied volatility that does not exist is NaN, never a number.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from oracle.options.solver import MAX_TOTAL_VOL, SQRT2PI, ratio, slope, total_vol

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Floats = npt.ArrayLike

# Time value of an in-the-money price below this times the greater of forward and strike is rounding.
NOISE = 8.0 * float(np.finfo(np.float64).eps)


def black_forward(
    forward: Floats,
    strike: Floats,
    years: Floats,
    vol: Floats,
    is_call: npt.ArrayLike,
    discount: Floats = 1.0,
) -> Array:
    """Price European options on a forward; the discounted intrinsic value when ``years`` or ``vol`` is zero.

    Returns:
        Dollars per unit of the underlying, in the broadcast shape. NaN where an input is not a number, where
        forward, strike or discount is not positive, or where time or volatility is negative.
    """
    f, k, t, v, d = _floats(forward, strike, years, vol, discount)
    sign = np.where(is_call, 1.0, -1.0)
    with np.errstate(all="ignore"):
        total = v * np.sqrt(t)
        moneyness = np.abs(np.log(f / k))
        positive = total > 0
        s = np.minimum(np.where(positive, total, 1.0), MAX_TOTAL_VOL)
        scaled = ratio(moneyness, s) * slope(moneyness, s)
        time_value = np.sqrt(f) * np.sqrt(k) * np.where(positive, scaled, 0.0)
        price = d * (np.maximum(sign * (f - k), 0.0) + time_value)
        valid = (f > 0) & (k > 0) & (d > 0) & (t >= 0) & (v >= 0) & np.isfinite(price)
    return np.where(valid, price, np.nan)


def delta_forward(forward: Floats, strike: Floats, years: Floats, vol: Floats, is_call: npt.ArrayLike) -> Array:
    """Spot delta with dividends taken as zero: N(d1) for a call, N(d1) - 1 for a put, from the forward given.

    With a forward implied by parity this is the delta to the present value of that forward. At zero time or
    volatility it is a step: 0, ±0.5 exactly at the money, ±1.
    """
    f, k, t, v = _floats(forward, strike, years, vol)
    call = np.asarray(is_call, dtype=bool)
    d1, valid = _d1(f, k, t, v)
    upper, lower = ndtr(d1), -ndtr(-d1)
    return np.where(valid, np.where(call, upper, lower), np.nan)


def vega(forward: Floats, strike: Floats, years: Floats, vol: Floats, discount: Floats = 1.0) -> Array:
    """Dollars per 1.00 of volatility (100 points), the same for call and put; 0 at zero time."""
    f, k, t, v, d = _floats(forward, strike, years, vol, discount)
    d1, valid = _d1(f, k, t, v)
    with np.errstate(all="ignore"):
        value = d * f * np.exp(-0.5 * d1 * d1) / SQRT2PI * np.sqrt(t)
    return np.where(valid, value, np.nan)


def gamma(forward: Floats, strike: Floats, years: Floats, vol: Floats, discount: Floats = 1.0) -> Array:
    """Change of spot delta per dollar of spot, spot being ``forward * discount`` (dividends zero).

    At zero time or volatility gamma is 0 away from the money and NaN exactly at it, where it is infinite.
    """
    f, k, t, v, d = _floats(forward, strike, years, vol, discount)
    d1, valid = _d1(f, k, t, v)
    with np.errstate(all="ignore"):
        total = v * np.sqrt(t)
        value = np.exp(-0.5 * d1 * d1) / (SQRT2PI * f * d * total)
        value = np.where((total == 0) & np.isinf(d1), 0.0, value)
    return np.where(valid & np.isfinite(value), value, np.nan)


def implied_vol(
    price: Floats,
    forward: Floats,
    strike: Floats,
    years: Floats,
    is_call: npt.ArrayLike,
    discount: Floats = 1.0,
) -> Array:
    """Invert Black's formula, solving the out-of-the-money side reached by put-call parity.

    The price is normalised by ``discount * sqrt(forward * strike)`` and solved by ``solver.total_vol`` to double
    precision: objectives follow P. Jäckel, "Let's Be Rational", 2015.

    Returns:
        Volatility per square-root year. NaN where none exists: a price at or outside the no-arbitrage bounds,
        an in-the-money price whose time value is below its rounding error, no time left, non-finite input.
    """
    p, f, k, t, d = _floats(price, forward, strike, years, discount)
    p, f, k, t, d, call = np.broadcast_arrays(p, f, k, t, d, np.asarray(is_call, dtype=bool))
    with np.errstate(all="ignore"):
        sign = np.where(call, 1.0, -1.0)
        intrinsic = np.maximum(sign * (f - k), 0.0)
        time_value = p / d - intrinsic
        noise = np.where(intrinsic > 0, NOISE * np.maximum(f, k), 0.0)
        exists = (f > 0) & (k > 0) & (d > 0) & (t > 0) & (time_value > noise)
        target = np.where(exists, time_value / (np.sqrt(f) * np.sqrt(k)), np.nan)
        found = total_vol(target.ravel(), np.abs(np.log(f / k)).ravel()).reshape(target.shape) / np.sqrt(t)
        return np.where((found > 0) & (found < np.inf), found, np.nan)


def parity_forward(
    strikes: Floats,
    call_mid: Floats,
    put_mid: Floats,
    discount: float = 1.0,
    *,
    nearest: int = 6,
    at_least: int = 3,
) -> float | None:
    """Imply the forward of one expiry from put-call parity of the strikes nearest the money.

    Nearest the money means the smallest |call - put|, which needs no spot; each gives
    ``strike + (call - put) / discount`` and the median is taken, so one bad quote does not move it.

    Args:
        strikes: one-dimensional, dollars; the caller passes liquid strikes only.
        call_mid: mids of the calls at those strikes; NaN where there is none.
        put_mid: the same for the puts.
        discount: price today of 1 dollar at expiry.
        nearest: strikes used at most.
        at_least: strikes with both mids that are needed.

    Returns:
        Dollars, or None when fewer strikes have both mids or the result is not a positive number.
    """
    k, c, p = _floats(strikes, call_mid, put_mid)
    good = np.isfinite(k) & np.isfinite(c) & np.isfinite(p) & (c > 0) & (p > 0)
    if int(np.count_nonzero(good)) < at_least:
        return None
    gap = (c - p)[good]
    order = np.argsort(np.abs(gap), kind="stable")[:nearest]
    # The median of so few is found faster without numpy.
    implied = sorted((k[good][order] + gap[order] / discount).tolist())
    forward: float = (implied[(len(implied) - 1) // 2] + implied[len(implied) // 2]) / 2
    return forward if math.isfinite(forward) and forward > 0 else None


def _floats(*values: Floats) -> tuple[Array, ...]:
    return tuple(np.asarray(value, dtype=np.float64) for value in values)


def _d1(f: Array, k: Array, t: Array, v: Array) -> tuple[Array, Bools]:
    """d1, at zero total volatility its limit (±inf off the money, 0 at it), and which inputs are valid."""
    with np.errstate(all="ignore"):
        total = v * np.sqrt(t)
        x = np.log(f / k)
        limit = np.where(x == 0, 0.0, np.copysign(np.inf, x))
        d1: Array = np.where(total > 0, x / total + 0.5 * total, limit)
        valid: Bools = (f > 0) & (k > 0) & (t >= 0) & (v >= 0) & ~np.isnan(d1)
    return d1, valid

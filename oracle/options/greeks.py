"""Implied volatility and five greeks of a whole chain in one call, with the reason wherever there is none.

Inputs: prices with what they rest on (forward, strike, years to the expiry instant, interest rate, yield), one value
per contract or one for all. Outputs: ``Greeks``. Units: dollars per unit of the underlying; vega and rho per 1.00 (100
points) of volatility and rate, theta per calendar day. Invariant: NaN with a reason or six numbers, nothing between; a
contract's bytes do not depend on its neighbours or on how many there are.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from oracle.options.pricing import NOISE, Array, Bools, Floats
from oracle.options.quote_checks import QuoteReason, Reasons, judge_prices
from oracle.options.solver import CHUNK, SQRT2PI, total_vol

DAYS_PER_YEAR = 365.0


@dataclass(slots=True, frozen=True)
class Greeks:
    """Model values in the inputs' broadcast shape; all six NaN where ``reasons`` says why there are none.

    Spot is that of the underlying. Cash dividends before expiry are known dollars: they lower the forward and no greek;
    a proportional yield or borrow fee lowers delta and gamma.

    Attributes:
        iv: volatility per square-root year (0.20 is 20 %).
        delta: dollars per dollar of spot; 0 … 1 for calls, -1 … 0 for puts.
        gamma: change of delta per dollar of spot.
        theta: dollars per calendar day (a year's over 365) that passes; spot, volatility, rate and the present value of
            cash dividends stay.
        vega: dollars per 1.00 of volatility.
        rho: dollars per 1.00 of interest rate at constant spot and present value of cash dividends.
        reasons: ``QuoteReason`` codes.
    """

    iv: Array
    delta: Array
    gamma: Array
    theta: Array
    vega: Array
    rho: Array
    reasons: Reasons


def chain_greeks(
    price: Floats,
    forward: Floats,
    strike: Floats,
    years: Floats,
    is_call: npt.ArrayLike,
    rate: Floats = 0.0,
    dividend_yield: Floats = 0.0,
    *,
    reasons: Reasons | None = None,
) -> Greeks:
    """Invert prices and differentiate Black's formula at what is found.

    Args:
        price: dollars today, as quoted; inputs broadcast.
        forward: of the underlying to each contract's expiry, dollars (``forwards``).
        strike: dollars.
        years: to the expiry instant, in real time without a floor; a minute is 1 / 525600.
        is_call: true for calls.
        rate: continuously compounded, per year; it discounts, and theta and rho rest on it.
        dividend_yield: continuous proportional yield or borrow fee per year that is inside ``forward``.
        reasons: codes known before (``quote_reasons``); a contract with one but ``USABLE`` or ``EARLY_EXERCISE`` is
            not solved and keeps it.
    """
    flat, shape = _flat(price, forward, strike, years, rate, dividend_yield)
    call = np.broadcast_to(np.asarray(is_call, dtype=bool), shape).ravel()
    if reasons is not None:
        told = np.broadcast_to(reasons, shape).ravel()
        flat[0] = np.where((told == QuoteReason.USABLE) | (told == QuoteReason.EARLY_EXERCISE), flat[0], np.nan)
    count = call.size
    values, codes = np.empty((6, count)), np.zeros(count, dtype=np.uint8)
    pays_yield = bool(np.any(flat[5]))
    if pays_yield:
        flat[0] = np.where(np.isfinite(flat[5]), flat[0], np.nan)
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        _solve_part([column[part] for column in flat], call[part], pays_yield, values[:, part], codes[part])
    if reasons is not None:
        codes = np.where(told == QuoteReason.USABLE, codes, told)
    iv, delta, gamma, theta, vega, rho = (row.reshape(shape) for row in values)
    return Greeks(iv, delta, gamma, theta, vega, rho, codes.reshape(shape))


def _flat(*inputs: Floats) -> tuple[list[Array], tuple[int, ...]]:
    """Inputs as contiguous columns of one length, and the shape they stand for."""
    arrays = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in inputs))
    return [array.ravel() for array in arrays], arrays[0].shape


def _solve_part(columns: list[Array], call: Bools, pays_yield: bool, out: Array, codes: Reasons) -> None:
    """Fill the rows iv, delta, gamma, theta, vega, rho of ``out``, and ``codes`` where there is nothing to fill in."""
    p, f, k, t, r, q = columns
    with np.errstate(all="ignore"):
        d = np.exp(-r * t)
        root = np.sqrt(t)
        x = np.log(f / k)
        sign = np.where(call, 1.0, -1.0)
        value = p / d
        intrinsic = np.maximum(sign * (f - k), 0.0)
        time_value = value - intrinsic
        noise = (intrinsic > 0) * NOISE * np.maximum(f, k)
        exists = (time_value > noise) & (np.minimum(f, k) > 0)
        target = np.where(exists, time_value / np.sqrt(f * k), np.nan)
        s = total_vol(target, np.abs(x))
        iv = s / root
        lost = ~((iv > 0) & (iv < np.inf))
        if lost.any():
            iv[lost] = s[lost] = np.nan
            codes[lost] = judge_prices(p[lost], f[lost], k[lost], t[lost], call[lost], d[lost], ~lost[lost])
        d1 = x / s + 0.5 * s
        present = f * d
        first = ndtr(sign * d1)
        # Price = sign * (forward * first - strike * second), to the precision of the solver.
        second = np.maximum((f * first - sign * value) / k, 0.0)
        bell = np.exp(-0.5 * d1 * d1) * (1.0 / SQRT2PI)
        vega = present * bell * root
        delta = sign * first
        gamma = bell / (present * s)
        bond = sign * second * k * d  # what the holder owes (call) or is owed (put) at the strike, today
        theta = -0.5 * vega * iv / t - r * bond
        if pays_yield:
            theta += q * present * delta
            paid = np.exp(-q * t)
            delta *= paid
            gamma *= paid * paid
        out[0], out[1], out[2], out[4] = iv, delta, gamma, vega
        np.divide(theta, DAYS_PER_YEAR, out=out[3])
        np.multiply(bond, t, out=out[5])
        absurd = ~(lost | np.isfinite(gamma + theta))
        if absurd.any():  # a derivative is beyond double precision
            out[:, absurd] = np.nan
            codes[absurd] = QuoteReason.INVALID_INPUT

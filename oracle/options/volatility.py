"""At-the-money volatility of one expiry, at a constant 30 days, its term structure and its skew.

Inputs: mids of one expiry by strike with the forward they imply. Outputs: volatilities per square-root year (0.2 is
20 %), or why there is none. Pure functions. At the money is the forward: the volatility is interpolated linearly in
strike between the two strikes around it, each the mean of its call's and put's. Total variance is interpolated in real
time; nothing is ever extrapolated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oracle.core.ports import NotSelected
from oracle.options.columns import ChainColumns
from oracle.options.pricing import Array, delta_forward, implied_vol
from oracle.options.selection import YEAR_NS, Surface

DAYS = 30.0
DAY_NS = YEAR_NS // 365
# Each of the two strikes around the forward lies within this share of it: further off the smile is no longer straight.
ATM_REACH = 0.05
# A quote wider than this share of its middle says too little of the volatility.
MAX_SPREAD_OF_MID = 0.5
# A volatility outside these bounds comes from a broken quote.
IV_LOW, IV_HIGH = 0.01, 5.0
# By parity a strike's call and put have one volatility; further apart than this share of it, one of them is broken.
RIGHTS_APART = 0.25
# The skew is fitted where |ln(K/F)| is at most this many standard deviations to expiry, to at least so many strikes.
SKEW_BAND_SD = 1.0
SKEW_STRIKES = 5
# The strikes that a delta is read between lie at most this far apart in delta.
DELTA_GAP = 0.25
# Which expiries may stand on either side of 30 days.
NEAREST_DAYS, FARTHEST_DAYS = 7.0, 75.0


@dataclass(slots=True, frozen=True)
class Smile:
    """One expiry's volatilities by rising strike; NaN where a right has none."""

    expiry: str
    years: float
    forward: float
    strike: Array
    call_iv: Array
    put_iv: Array

    @property
    def both_iv(self) -> Array:
        """The mean of call and put, or the only one of them; NaN where they contradict each other."""
        mean = (self.call_iv + self.put_iv) / 2
        mean = np.where(np.abs(self.call_iv - self.put_iv) <= RIGHTS_APART * mean, mean, np.nan)
        return np.where(np.isnan(self.call_iv), self.put_iv, np.where(np.isnan(self.put_iv), self.call_iv, mean))

    @property
    def out_iv(self) -> Array:
        """That of the right out of the money, else the other's."""
        call_first = np.where(np.isnan(self.call_iv), self.put_iv, self.call_iv)
        put_first = np.where(np.isnan(self.put_iv), self.call_iv, self.put_iv)
        return np.where(self.strike >= self.forward, call_first, put_first)


@dataclass(slots=True, frozen=True)
class TermPoint:
    """One expiry of the term structure: its at-the-money volatility and the years to its instant."""

    expiry: str
    years: float
    iv: float

    @property
    def total_variance(self) -> float:
        """Volatility squared times years."""
        return self.iv * self.iv * self.years


@dataclass(slots=True, frozen=True)
class ConstantMaturity:
    """A volatility at a constant term, and the one or two expiries that it lies between."""

    iv: float
    near: TermPoint
    next: TermPoint


@dataclass(slots=True, frozen=True)
class Skew:
    """How volatility leans. ``slope``: change per unit of ln(K/F)/sqrt(T), fitted to ``strikes`` strikes.

    ``put25`` and ``call25`` are the volatilities at a delta of -0.25 and 0.25, None where no strikes lie around it.
    """

    slope: float
    strikes: int
    put25: float | None
    call25: float | None

    @property
    def risk_reversal(self) -> float | None:
        """25-delta put minus call; positive when downside protection is dearer."""
        return None if self.put25 is None or self.call25 is None else self.put25 - self.call25


def smile(
    strike: Array, call_mid: Array, put_mid: Array, *, expiry: str, years: float, forward: float, discount: float
) -> Smile:
    """Solve both rights' volatilities of one expiry. Mids are dollars, NaN where there is none; strikes rise."""
    ivs = [
        implied_vol(mid, forward, strike, years, call, discount) for mid, call in ((call_mid, True), (put_mid, False))
    ]
    sane = [np.where((iv >= IV_LOW) & (iv <= IV_HIGH), iv, np.nan) for iv in ivs]
    return Smile(expiry, years, forward, strike, *sane)


def smile_of(
    chain: ChainColumns, surface: Surface, *, expiry: str, years: float, rate: float, fresh_since_ns: int
) -> Smile:
    """One expiry's smile out of a live chain, of two-sided quotes that are fresh and not too wide."""
    rows = surface.rows
    usable = (chain.quoted_ns[rows] >= fresh_since_ns) & (surface.spread <= MAX_SPREAD_OF_MID * surface.mid)
    mid = np.where(usable, surface.mid, np.nan)
    calls = np.flatnonzero(chain.is_call[rows] & (chain.twin[rows] >= 0))
    calls = calls[np.argsort(chain.strike[rows[calls]], kind="stable")]
    puts = np.searchsorted(rows, chain.twin[rows[calls]])
    return smile(
        chain.strike[rows[calls]], mid[calls], mid[puts],
        expiry=expiry, years=years, forward=surface.forward, discount=math.exp(-rate * years),
    )  # fmt: skip


def atm_iv(one: Smile) -> float | NotSelected:
    """The volatility at the forward, interpolated between the nearest strikes around it that have one."""
    iv = one.both_iv
    known = np.isfinite(iv)
    strikes, values = one.strike[known], iv[known]
    facts: dict[str, float | str | bool | None] = {"expiry": one.expiry, "strikes": len(strikes)}
    if len(strikes) == 0:
        return NotSelected("no_implied_vol", facts)
    place = int(np.searchsorted(strikes, one.forward))
    if place < len(strikes) and strikes[place] == one.forward:
        return float(values[place])
    if place in (0, len(strikes)):
        return NotSelected("no_strikes_around_forward", facts)
    low, high = float(strikes[place - 1]), float(strikes[place])
    if max(one.forward - low, high - one.forward) > ATM_REACH * one.forward:
        return NotSelected("strikes_too_far_from_forward", {**facts, "low": low, "high": high})
    share = (one.forward - low) / (high - low)
    return float(values[place - 1] + share * (values[place] - values[place - 1]))


def term_structure(smiles: Sequence[Smile]) -> tuple[TermPoint, ...]:
    """The at-the-money volatility of each expiry that has one, nearest first."""
    points = ((one, atm_iv(one)) for one in smiles)
    found = (TermPoint(one.expiry, one.years, iv) for one, iv in points if not isinstance(iv, NotSelected))
    return tuple(sorted(found, key=lambda point: point.years))


def constant_maturity(points: Sequence[TermPoint], days: float = DAYS) -> ConstantMaturity | NotSelected:
    """Interpolate total variance linearly in real time between the expiries around ``days`` calendar days."""
    target = days / 365.0
    near = max((p for p in points if p.years <= target), key=lambda p: p.years, default=None)
    after = min((p for p in points if p.years >= target), key=lambda p: p.years, default=None)
    if near is None or after is None:
        side = "no_expiry_before_30_days" if near is None else "no_expiry_after_30_days"
        return NotSelected(side, {"days": days, "expiries": len(points)})
    if near.years == after.years:
        return ConstantMaturity(near.iv, near, after)
    share = (target - near.years) / (after.years - near.years)
    variance = near.total_variance + share * (after.total_variance - near.total_variance)
    return ConstantMaturity(math.sqrt(variance / target), near, after)


def skew(one: Smile, band_sd: float = SKEW_BAND_SD) -> Skew | NotSelected:
    """Fit volatility on ln(K/F)/sqrt(T) within ``band_sd`` standard deviations of the money, and read 25 delta."""
    middle = atm_iv(one)
    if isinstance(middle, NotSelected):
        return middle
    iv = one.out_iv
    x = np.log(one.strike / one.forward) / math.sqrt(one.years)
    inside = np.isfinite(iv) & (np.abs(x) <= band_sd * middle)
    count = int(np.count_nonzero(inside))
    if count < SKEW_STRIKES:
        return NotSelected("too_few_strikes_for_skew", {"expiry": one.expiry, "strikes": count})
    away, level = x[inside] - x[inside].mean(), iv[inside] - iv[inside].mean()
    slope = float((away * level).sum() / (away * away).sum())
    return Skew(slope, count, _at_delta(one, iv, is_call=False), _at_delta(one, iv, is_call=True))


def _at_delta(one: Smile, iv: Array, *, is_call: bool) -> float | None:
    """The volatility at |delta| 0.25 of a right, linear in delta between the strikes around it."""
    size = np.abs(delta_forward(one.forward, one.strike, one.years, iv, is_call))
    known = np.isfinite(size)
    order = np.argsort(size[known], kind="stable")
    sizes, values = size[known][order], iv[known][order]
    if len(sizes) == 0 or not sizes[0] <= 0.25 <= sizes[-1]:
        return None
    place = max(int(np.searchsorted(sizes, 0.25)), 1)
    if len(sizes) > 1 and sizes[place] - sizes[place - 1] > DELTA_GAP:
        return None
    return float(np.interp(0.25, sizes, values))

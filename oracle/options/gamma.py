"""Dollar gamma by strike from open interest: the walls, the pin and the spot at which net gamma changes sign.

Inputs: one row per contract (strike, right, years, forward, discount, volatility, open interest) at one spot. Output:
a ``GammaProfile``. Signs rest on an assumption that is said wherever a figure is shown: dealers are long calls and
short puts. Open interest is that of the session before. Pure; invariants: a contract without a known volatility or
open interest adds nothing and is counted with the reason; what cannot be found is None, never another strike.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from oracle.core.instruments import CONTRACT_MULTIPLIER
from oracle.options.pricing import Array, Bools, gamma

ASSUMPTION = "assumes dealers long calls and short puts"
ONE_PERCENT = 0.01
NEAR_FRACTION = 0.005
# The grid on which a change of sign is looked for, as fractions of spot: fine where strikes matter, coarse beyond.
_FLIP_STEPS = np.unique(np.round(np.concatenate([np.arange(-0.03, 0.0301, 0.0015), np.arange(-0.15, 0.151, 0.01)]), 6))
_FLIP_XTOL = 1e-6  # dollars
MAX_OPEN_INTEREST = 1e9  # contracts; beyond it the figure is a broken one


class LeftOut(StrEnum):
    """Why a contract adds nothing to the profile."""

    EXPIRED = "expired"
    NO_OPEN_INTEREST = "no_open_interest"
    ABSURD_OPEN_INTEREST = "absurd_open_interest"
    ZERO_OPEN_INTEREST = "zero_open_interest"
    NO_IMPLIED_VOL = "no_implied_vol"


@dataclass(frozen=True, slots=True)
class GammaRows:
    """Contracts as aligned one-dimensional columns; NaN is unknown.

    Dollars; ``years`` to the expiry instant; ``discount`` the price today of 1 dollar at expiry; ``vol`` per
    square-root year; ``open_interest`` in contracts (NaN: not told).
    """

    strike: Array
    is_call: Bools
    years: Array
    forward: Array
    discount: Array
    vol: Array
    open_interest: Array

    def __len__(self) -> int:
        return len(self.strike)

    def take(self, keep: Bools) -> "GammaRows":
        """The rows where ``keep`` holds."""
        return GammaRows(*(getattr(self, name)[keep] for name in GammaRows.__slots__))

    @classmethod
    def joined(cls, parts: Iterable["GammaRows"]) -> "GammaRows":
        """The rows of all parts, in order."""
        blocks = list(parts)
        return cls(*(np.concatenate([getattr(b, name) for b in blocks]) for name in cls.__slots__))


@dataclass(frozen=True, slots=True)
class GammaProfile:
    """Dollar gamma per 1 % move by strike, in dollars; strikes ascending. Puts and their side are negative.

    ``call_wall``, ``put_wall``: strike of the largest call-side and put-side gamma; ``pin``: of the largest positive
    net; ``flip``: spot at which revalued net gamma is zero, volatility by contract held; each None where there is none.
    ``open_interest_share`` is the part of the told open interest that lies in the contracts used.
    """

    spot: float
    strike: Array
    call_usd: Array
    put_usd: Array
    net_usd: Array
    total_usd: float
    call_wall: float | None
    put_wall: float | None
    pin: float | None
    flip: float | None
    used: int
    left_out: dict[str, int]
    open_interest_share: float

    def near(self, level: float | None, within: float = NEAR_FRACTION) -> bool | None:
        """Whether a level lies within a fraction of spot, by 9 digits; None where there is no such level."""
        return None if level is None else abs(round(level / self.spot - 1.0, 9)) <= within


def dollar_gamma(rows: GammaRows, spot: float) -> Array:
    """Signed dollars per 1 % move of each contract: ``gamma x open interest x 100 x spot^2 x 0.01``, puts negative."""
    per_dollar = gamma(rows.forward, rows.strike, rows.years, rows.vol, rows.discount)
    sign = np.where(rows.is_call, 1.0, -1.0)
    value: Array = sign * per_dollar * rows.open_interest * CONTRACT_MULTIPLIER * spot * spot * ONE_PERCENT
    return value


def gamma_profile(rows: GammaRows, spot: float, *, with_flip: bool = True) -> GammaProfile | None:
    """Fold contracts into a profile by strike.

    Args:
        rows: the contracts; forwards are those at ``spot``.
        spot: dollars, positive.
        with_flip: whether the spot of zero net gamma is looked for, which costs far more than the rest.

    Returns:
        None when no contract has both an open interest above zero and a volatility.
    """
    reasons = _reasons(rows)
    good = rows.take(reasons == "")
    if len(good) == 0 or not spot > 0:
        return None
    told = rows.open_interest[(rows.open_interest > 0) & (rows.open_interest <= MAX_OPEN_INTEREST)]
    each = dollar_gamma(good, spot)
    strike, place = np.unique(good.strike, return_inverse=True)
    call: Array = np.bincount(place, np.where(good.is_call, each, 0.0), len(strike)).astype(np.float64)
    put: Array = np.bincount(place, np.where(good.is_call, 0.0, each), len(strike)).astype(np.float64)
    net: Array = call + put
    names, counts = np.unique(reasons[reasons != ""], return_counts=True)
    return GammaProfile(
        spot=spot,
        strike=strike,
        call_usd=call,
        put_usd=put,
        net_usd=net,
        total_usd=float(net.sum()),
        call_wall=_strike_of_largest(strike, call),
        put_wall=_strike_of_largest(strike, -put),
        pin=_strike_of_largest(strike, net),
        flip=flip_spot(good, spot) if with_flip else None,
        used=len(good),
        left_out=dict(zip(names.tolist(), counts.tolist(), strict=True)),
        open_interest_share=float(good.open_interest.sum() / told.sum()),
    )


def flip_spot(rows: GammaRows, spot: float) -> float | None:
    """The spot nearest the present one at which revalued net gamma is zero, or None within 15 % of it.

    Every contract keeps its own volatility (sticky strike) and its forward moves with spot. Between two points of a
    grid at which the sign differs, the root is found by Brent's method.
    """

    def net_at(at: float) -> float:
        return float(_net_at(rows, spot, np.array([at]))[0])

    spots = spot * (1.0 + _FLIP_STEPS)
    sign = np.sign(_net_at(rows, spot, spots))
    # Where nothing is left of any contract's gamma the sum is zero: a flip is between opposite signs, zeros left out.
    points = np.flatnonzero(sign)
    found = []
    for low, high in zip(points[:-1].tolist(), points[1:].tolist(), strict=True):
        if sign[low] != sign[high]:
            found.append(float(brentq(net_at, float(spots[low]), float(spots[high]), xtol=_FLIP_XTOL)))
    return min(found, key=lambda s: (abs(s - spot), s)) if found else None


def _reasons(rows: GammaRows) -> npt.NDArray[np.str_]:
    """Why each row adds nothing, empty where it counts; the first that applies, in the order of ``LeftOut``."""
    interest = rows.open_interest
    with np.errstate(invalid="ignore"):
        tests = (
            (LeftOut.EXPIRED, ~(rows.years > 0)),
            (LeftOut.NO_OPEN_INTEREST, np.isnan(interest)),
            (LeftOut.ABSURD_OPEN_INTEREST, (interest < 0) | (interest > MAX_OPEN_INTEREST)),
            (LeftOut.ZERO_OPEN_INTEREST, interest == 0),
            (LeftOut.NO_IMPLIED_VOL, ~(np.isfinite(rows.vol) & (rows.vol > 0) & (rows.forward > 0))),
        )
    out = np.full(len(rows), "", dtype="<U24")
    for name, holds in reversed(tests):
        out[holds] = name.value
    return out


def _strike_of_largest(strike: Array, values: Array) -> float | None:
    """The strike of the largest value (the lower one of equals), or None when none is above zero."""
    if len(values) == 0:
        return None
    i = int(np.argmax(values))
    return float(strike[i]) if values[i] > 0 else None


def _each_at(rows: GammaRows, spot: float, spots: Array) -> Array:
    """Signed dollar gamma by (spot, contract)."""
    s = spots[:, np.newaxis]
    forward = rows.forward * (s / spot)
    per_dollar = gamma(forward, rows.strike, rows.years, rows.vol, rows.discount)
    sign = np.where(rows.is_call, 1.0, -1.0)
    value: Array = sign * per_dollar * rows.open_interest * CONTRACT_MULTIPLIER * s * s * ONE_PERCENT
    return value


def _net_at(rows: GammaRows, spot: float, spots: Array) -> Array:
    total: Array = np.nansum(_each_at(rows, spot, spots), axis=1)
    return total

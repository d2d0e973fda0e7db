"""At-the-money volatility from bars of trades, where no quotes are kept: minute closes of contracts and of the stock.

Inputs: closes of one expiry's contracts, each beside the stock's close of the same minute, so that an old trade is not
judged by a new price. Output: a point of the term structure, or why there is none. The forward comes from parity of
pairs that traded in one minute, the volatility from a line through those near the money. Pure functions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from oracle.core.ports import NotSelected
from oracle.options.pricing import Array, implied_vol
from oracle.options.selection import FORWARD_TO_SPOT_MAX, YEAR_NS
from oracle.options.volatility import IV_HIGH, IV_LOW, TermPoint

# Trades used lie within this many standard deviations of the money; at least so many, on both sides of it.
BAND_SD = 0.6
TRADES_NEEDED = 4
# A volatility this far from the median of its kind is a misprint or a stale trade.
OUTLIER_SHARE = 0.25
PAIRS_NEEDED = 3


class OptionClose(NamedTuple):
    """The last trade of one contract's minute, with the stock's close of that minute. Dollars; UTC ns."""

    at_ns: int
    strike: float
    is_call: bool
    price: float
    spot: float


@dataclass(slots=True, frozen=True)
class BarPoint:
    """A point of the term structure, the trades behind it, and whether parity gave the forward (else the rate did)."""

    point: TermPoint
    trades: int
    by_parity: bool


def point_from_bars(
    expiry: str, closes: Sequence[OptionClose], *, at_ns: int, expires_ns: int, rate: float
) -> BarPoint | NotSelected:
    """Estimate the volatility at the forward of one expiry as of ``at_ns``.

    Args:
        expiry: ISO date.
        closes: trades of its contracts not long before.
        at_ns: the instant that the point stands for.
        expires_ns: the instant of expiry.
        rate: continuously compounded, per year.
    """
    facts: dict[str, float | str | bool | None] = {"expiry": expiry, "trades": len(closes)}
    if not closes:
        return NotSelected("no_trades", facts)
    stamp, strike, price, spot = (np.array([row[i] for row in closes], dtype=np.float64) for i in (0, 1, 3, 4))
    is_call = np.array([row.is_call for row in closes])
    years = (expires_ns - stamp) / YEAR_NS
    discount = np.exp(-rate * years)
    ratio = _forward_ratio(closes, discount)
    by_parity = ratio is not None
    forward = spot * (ratio if ratio is not None else 1.0 / discount)
    iv = implied_vol(price, forward, strike, years, is_call, discount)
    iv = np.where((iv >= IV_LOW) & (iv <= IV_HIGH), iv, np.nan)
    if not np.isfinite(iv).any():
        return NotSelected("no_implied_vol", facts)
    x = np.log(strike / forward)
    near = np.isfinite(iv) & (np.abs(x) <= BAND_SD * float(np.nanmedian(iv)) * np.sqrt(years))
    if not near.any():
        return NotSelected("no_trades_near_the_money", facts)
    middle = float(np.median(iv[near]))
    near &= np.abs(np.where(near, iv, middle) / middle - 1.0) <= OUTLIER_SHARE
    count = int(np.count_nonzero(near))
    if count < TRADES_NEEDED or not (x[near].min() <= 0 <= x[near].max()):
        return NotSelected("too_few_trades_around_the_money", {**facts, "near": count})
    return BarPoint(TermPoint(expiry, (expires_ns - at_ns) / YEAR_NS, _at_zero(x[near], iv[near])), count, by_parity)


def _forward_ratio(closes: Sequence[OptionClose], discount: Array) -> float | None:
    """Forward over spot by parity: the median over calls and puts of one strike that traded in one minute."""
    puts = {(row.at_ns, row.strike): row.price for row in closes if not row.is_call}
    found = [
        (row.strike + (row.price - puts[row.at_ns, row.strike]) / d) / row.spot
        for row, d in zip(closes, discount.tolist(), strict=True)
        if row.is_call and (row.at_ns, row.strike) in puts
    ]
    if len(found) < PAIRS_NEEDED:
        return None
    ratio = float(np.median(found))
    return ratio if abs(ratio - 1.0) <= FORWARD_TO_SPOT_MAX else None


def _at_zero(x: Array, iv: Array) -> float:
    """The value at zero of the least-squares line; the mean where all lie at one place."""
    away = x - x.mean()
    spread = float((away * away).sum())
    slope = float((away * iv).sum()) / spread if spread > 0 else 0.0
    level = float(iv.mean()) - slope * float(x.mean())
    return level if math.isfinite(level) and level > 0 else float(iv.mean())

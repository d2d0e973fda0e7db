"""An own volatility index of one underlying, made from its chain by Cboe's published method for VIX.

Inputs: bids and asks of the calls and puts of two expiries around the target term. Outputs: a yearly variance of each
and the index in points (13.93 is 13.93 %), or why there is none. Pure functions. Source: Cboe Volatility Index
Mathematics Methodology; its worked example is a test. It is not VIX: only SPX options make that.
"""

import math
from dataclasses import dataclass

import numpy as np

from oracle.core.ports import NotSelected
from oracle.options.columns import ChainColumns
from oracle.options.pricing import Array, Bools

MINUTES_A_YEAR = 525_600.0
MINUTES_A_DAY = 1_440.0
# A wing ends where this many neighbouring strikes have no bid.
ZERO_BIDS_END = 2


@dataclass(slots=True, frozen=True)
class TermQuotes:
    """One expiry's quotes by rising strike, dollars; NaN or zero is an absent side. ``rate`` is per year.

    ``minutes`` are those left to the instant of expiry. Both sides NaN: nobody told, which is not a missing bid.
    """

    minutes: float
    rate: float
    strike: Array
    call_bid: Array
    call_ask: Array
    put_bid: Array
    put_ask: Array


@dataclass(slots=True, frozen=True)
class Contribution:
    """One strike's part: its price (both rights' mean at ``K0``), the width that it stands for, and its share."""

    strike: float
    price: float
    width: float
    share: float


@dataclass(slots=True, frozen=True)
class TermVariance:
    """One expiry's variance per year. ``puts_ended`` and ``calls_ended``: the wing ended by two strikes without a bid.

    A wing that ran out of quotes instead lacks its far strikes, and the variance reads low.
    """

    minutes: float
    variance: float
    forward: float
    k0: float
    puts_ended: bool
    calls_ended: bool
    strip: tuple[Contribution, ...]


@dataclass(slots=True, frozen=True)
class VixStyle:
    """The index in points, with the variances behind it. ``complete``: no wing of either term ran out of quotes."""

    index: float
    near: TermVariance
    next: TermVariance

    @property
    def complete(self) -> bool:
        """Whether all four wings ended as the method says."""
        return all((self.near.puts_ended, self.near.calls_ended, self.next.puts_ended, self.next.calls_ended))


def term_variance(term: TermQuotes) -> TermVariance | NotSelected:
    """Compute one expiry's variance.

    The forward comes from the strike at which call and put differ least; ``K0`` is the highest strike at or below it.
    A quote without a bid, or crossed, is left out and counts towards the end of its wing.
    """
    if not (term.minutes > 0 and math.isfinite(term.rate)):
        return NotSelected("expired", {"minutes": term.minutes})
    years = term.minutes / MINUTES_A_YEAR
    growth = math.exp(term.rate * years)
    call, put = _mids(term.call_bid, term.call_ask), _mids(term.put_bid, term.put_ask)
    gap = np.abs(call - put)
    if not np.isfinite(gap).any():
        return NotSelected("no_strike_with_call_and_put", {"strikes": len(term.strike)})
    at = int(np.nanargmin(gap))
    forward = float(term.strike[at] + growth * (call[at] - put[at]))
    k0 = int(np.searchsorted(term.strike, forward, side="right")) - 1
    if k0 < 0 or not math.isfinite(gap[k0]):
        return NotSelected("no_quotes_at_k0", {"forward": forward})
    put_told = ~(np.isnan(term.put_bid) & np.isnan(term.put_ask))
    call_told = ~(np.isnan(term.call_bid) & np.isnan(term.call_ask))
    puts, puts_ended = _wing(put[:k0][::-1], put_told[:k0][::-1])
    calls, calls_ended = _wing(call[k0 + 1 :], call_told[k0 + 1 :])
    rows = [*(k0 - 1 - i for i in reversed(puts)), k0, *(k0 + 1 + i for i in calls)]
    if not puts or not calls:
        return NotSelected("too_few_strikes", {"puts": len(puts), "calls": len(calls)})
    strikes = term.strike[rows]
    price = np.where(strikes < strikes[len(puts)], put[rows], call[rows])
    price[len(puts)] = (call[k0] + put[k0]) / 2
    width = _widths(strikes)
    shares = width / strikes**2 * growth * price
    level = float(strikes[len(puts)])
    variance = 2.0 / years * float(shares.sum()) - (forward / level - 1.0) ** 2 / years
    if not variance > 0:
        return NotSelected("variance_not_positive", {"variance": variance})
    strip = tuple(
        Contribution(float(k), float(q), float(w), float(s))
        for k, q, w, s in zip(strikes, price, width, shares, strict=True)
    )
    return TermVariance(term.minutes, variance, forward, level, puts_ended, calls_ended, strip)


def vix_style(near: TermVariance, after: TermVariance, days: float = 30.0) -> VixStyle | NotSelected:
    """Interpolate two variances to a constant term, in minutes; never beyond the terms that there are."""
    target = days * MINUTES_A_DAY
    n1, n2 = near.minutes, after.minutes
    if not (n1 <= target <= n2 and n1 < n2):
        return NotSelected("expiries_not_around", {"near_days": n1 / MINUTES_A_DAY, "next_days": n2 / MINUTES_A_DAY})
    total = n1 * near.variance * (n2 - target) / (n2 - n1) + n2 * after.variance * (target - n1) / (n2 - n1)
    return VixStyle(100.0 * math.sqrt(total / target), near, after)


def term_quotes(
    chain: ChainColumns, expiry: str, *, minutes: float, rate: float, fresh_since_ns: int
) -> TermQuotes | NotSelected:
    """Take one expiry's quotes out of a chain: of the strikes with a quote of vendor time since ``fresh_since_ns``.

    A strike that nobody streams is not one without a bid: it ends no wing, so that the wing shows as run out.
    """
    rows = chain.rows_of.get(expiry)
    if rows is None:
        return NotSelected("expiry", {"expiry": expiry})
    calls = rows[chain.is_call[rows] & (chain.twin[rows] >= 0)]
    calls = calls[np.argsort(chain.strike[calls], kind="stable")]
    fresh = chain.quoted_ns >= fresh_since_ns
    calls = calls[fresh[calls] | fresh[chain.twin[calls]]]
    puts = chain.twin[calls]
    sides = [np.where(fresh[at], side[at], np.nan) for at in (calls, puts) for side in (chain.bid, chain.ask)]
    return TermQuotes(minutes, rate, chain.strike[calls], *sides)


def _mids(bid: Array, ask: Array) -> Array:
    """Middles; NaN where there is no bid or the quote is crossed."""
    good: Bools = (bid > 0) & (ask >= bid) & np.isfinite(ask)
    return np.where(good, (bid + ask) / 2, np.nan)


def _wing(mids: Array, told: Bools) -> tuple[list[int], bool]:
    """Places that a wing takes, going outwards, and whether neighbours without a bid ended it."""
    taken: list[int] = []
    absent = 0
    for place, (mid, is_told) in enumerate(zip(mids.tolist(), told.tolist(), strict=True)):
        if not is_told:
            continue
        absent = absent + 1 if math.isnan(mid) else 0
        if absent == ZERO_BIDS_END:
            return taken, True
        if absent == 0:
            taken.append(place)
    return taken, False


def _widths(strikes: Array) -> Array:
    """Half the distance between a strike's neighbours; at the ends the distance to the only one."""
    steps = np.diff(strikes)
    out: Array = np.concatenate([steps[:1], (steps[:-1] + steps[1:]) / 2, steps[-1:]])
    return out

"""Term structure, skew and an index by Cboe's method of one chain at one instant, for people to look at.

Inputs: a ``ChainModel`` (live over REST, or a recorded day). Output: ``VolatilityPicture``; nothing here decides
anything. Invariants: the rules are those of the daily observation; what a chain does not carry is None with the reason.
"""

import math

import msgspec
import numpy as np

from oracle.core.ports import NotSelected
from oracle.options.pricing import Array
from oracle.options.quote_checks import QuoteReason, has_volatility
from oracle.options.vix_style import MINUTES_A_YEAR, TermQuotes, TermVariance, VixStyle, term_variance, vix_style
from oracle.options.volatility import (
    DAYS,
    FARTHEST_DAYS,
    MAX_SPREAD_OF_MID,
    NEAREST_DAYS,
    Skew,
    Smile,
    atm_iv,
    constant_maturity,
    skew,
    smile,
    term_structure,
)
from oracle.picture import ChainModel


class ExpiryVolatility(msgspec.Struct, frozen=True):
    """One expiry. Volatilities are per square-root year (0.2 is 20 %); ``reason``: why there is none at the money.

    ``index``: 100 times the root of this expiry's variance by Cboe's method; ``index_complete`` False: a wing ran out
    of quotes, so that it reads low.
    """

    expiry: str
    days: float
    forward: float
    forward_source: str
    atm_iv: float | None
    reason: str
    skew_slope: float | None
    put25_iv: float | None
    call25_iv: float | None
    index: float | None
    index_complete: bool | None
    strikes: int


class VolatilityPicture(msgspec.Struct, frozen=True):
    """A chain's volatility: by expiry, at 30 days, and as an index of 30 days (``None`` with the reason)."""

    expiries: tuple[ExpiryVolatility, ...]
    iv_30d: float | None
    iv_30d_reason: str
    between: tuple[str, ...]
    index: float | None
    index_reason: str
    index_complete: bool | None
    index_between: tuple[str, ...]


class _Expiry:
    """One expiry's columns by rising strike, both rights."""

    def __init__(self, found: ChainModel, expiry: str) -> None:
        contracts, picture = found.picture.contracts, found.picture
        rows = [i for i, c in enumerate(contracts) if c.expiry == expiry]
        self.expiry, self.discount = expiry, float(found.discount[rows[0]])
        self.years, self.forward = float(found.years[rows[0]]), float(found.forward[rows[0]])
        self.source = found.forward_source.get(expiry, "")
        told = [i for i in rows if found.greeks.reasons[i] not in (QuoteReason.STALE, QuoteReason.NO_QUOTE)]
        self.strike = np.array(sorted({contracts[i].strike for i in told}), dtype=np.float64)
        place = {k: n for n, k in enumerate(self.strike.tolist())}
        sides = {(right, side): np.full(len(self.strike), np.nan) for right in (True, False) for side in ("bid", "ask")}
        self.mid = {right: np.full(len(self.strike), np.nan) for right in (True, False)}
        usable = has_volatility(found.greeks.reasons)
        for i in told:
            contract, bid, ask = contracts[i], float(picture.bid[i]), float(picture.ask[i])
            at = place[contract.strike]
            sides[contract.is_call, "bid"][at], sides[contract.is_call, "ask"][at] = bid, ask
            if usable[i] and ask - bid <= MAX_SPREAD_OF_MID * (ask + bid) / 2:
                self.mid[contract.is_call][at] = (bid + ask) / 2
        self.sides: list[Array] = [sides[right, side] for right in (True, False) for side in ("bid", "ask")]

    @property
    def around_a_month(self) -> bool:
        """Whether it may stand on a side of 30 days."""
        return NEAREST_DAYS <= self.years * 365.0 <= FARTHEST_DAYS

    def smile(self) -> Smile:
        """Its volatilities by strike."""
        return smile(
            self.strike, self.mid[True], self.mid[False], expiry=self.expiry, years=self.years, forward=self.forward,
            discount=self.discount,
        )  # fmt: skip

    def variance(self) -> TermVariance | NotSelected:
        """Its variance by Cboe's method."""
        rate = -math.log(self.discount) / self.years
        return term_variance(TermQuotes(self.years * MINUTES_A_YEAR, rate, self.strike, *self.sides))


def volatility_picture(found: ChainModel) -> VolatilityPicture:
    """Read a chain's volatility from its model values."""
    alive = sorted({c.expiry for c, f in zip(found.picture.contracts, found.forward.tolist(), strict=True) if f > 0})
    terms = [_Expiry(found, expiry) for expiry in alive]
    smiles = [one.smile() for one in terms]
    variances = [one.variance() for one in terms]
    month = constant_maturity(term_structure([s for s, t in zip(smiles, terms, strict=True) if t.around_a_month]))
    index, between = _index([(t, v) for t, v in zip(terms, variances, strict=True) if t.around_a_month])
    return VolatilityPicture(
        expiries=tuple(_row(*columns) for columns in zip(terms, smiles, variances, strict=True)),
        iv_30d=None if isinstance(month, NotSelected) else month.iv,
        iv_30d_reason=month.reason if isinstance(month, NotSelected) else "",
        between=() if isinstance(month, NotSelected) else (month.near.expiry, month.next.expiry),
        index=index.index if isinstance(index, VixStyle) else None,
        index_reason=index.reason if isinstance(index, NotSelected) else "",
        index_complete=index.complete if isinstance(index, VixStyle) else None,
        index_between=between,
    )


def _row(term: _Expiry, one: Smile, variance: TermVariance | NotSelected) -> ExpiryVolatility:
    middle, lean = atm_iv(one), skew(one)
    return ExpiryVolatility(
        expiry=term.expiry,
        days=term.years * 365.0,
        forward=term.forward,
        forward_source=term.source,
        atm_iv=None if isinstance(middle, NotSelected) else middle,
        reason=middle.reason if isinstance(middle, NotSelected) else "",
        skew_slope=lean.slope if isinstance(lean, Skew) else None,
        put25_iv=lean.put25 if isinstance(lean, Skew) else None,
        call25_iv=lean.call25 if isinstance(lean, Skew) else None,
        index=100.0 * math.sqrt(variance.variance) if isinstance(variance, TermVariance) else None,
        index_complete=variance.puts_ended and variance.calls_ended if isinstance(variance, TermVariance) else None,
        strikes=int(np.count_nonzero(np.isfinite(one.both_iv))),
    )


def _index(
    terms: list[tuple[_Expiry, TermVariance | NotSelected]],
) -> tuple[VixStyle | NotSelected, tuple[str, ...]]:
    """The index from the nearest expiries on both sides of 30 days that have a variance."""
    known = [(t, v) for t, v in terms if isinstance(v, TermVariance)]
    near = max((p for p in known if p[0].years * 365.0 <= DAYS), key=lambda p: p[0].years, default=None)
    after = min((p for p in known if p[0].years * 365.0 > DAYS), key=lambda p: p[0].years, default=None)
    if near is None or after is None:
        side = "before" if near is None else "after"
        return NotSelected(f"no_expiry_{side}_30_days", {"expiries": len(known)}), ()
    return vix_style(near[1], after[1]), (near[0].expiry, after[0].expiry)

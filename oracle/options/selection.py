"""Model values of one expiry at one instant, and the choice of a contract from them.

Inputs: chain columns, spot, rate, time to the expiry instant. Outputs: implied volatilities, deltas and the forward
they rest on; a contract, or why none and how many passed each test. Pure functions.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from oracle.core.ports import DeltaRequest, NotSelected, Selected
from oracle.core.sessions import NS
from oracle.options.columns import ChainColumns, Ints
from oracle.options.pricing import Array, Bools, delta_forward, implied_vol, parity_forward

YEAR_NS = 365 * 24 * 3600 * NS
# A parity forward further from spot than this rests on broken quotes: carry to the longest expiry used (45 days)
# is under 1 %.
FORWARD_TO_SPOT_MAX = 0.05

Facts = dict[str, float | str | bool | None]


class Missing(StrEnum):
    """Reasons of ``NotSelected`` that mean missing data; every other reason is a judgement of known quotes."""

    CHAIN = "chain"
    SPOT = "spot"
    EXPIRY = "expiry"
    OPTION_QUOTES = "option_quotes"
    IMPLIED_VOL = "implied_vol"
    FRESH_OPTION_QUOTES = "fresh_option_quotes"


NO_CONTRACT_IN_BAND = "no_contract_in_delta_band"
SPREAD_TOO_WIDE = "option_spread_too_wide"

# The reason when no contract passes the test of this number.
STAGES = (
    Missing.EXPIRY.value,
    Missing.OPTION_QUOTES.value,
    Missing.IMPLIED_VOL.value,
    NO_CONTRACT_IN_BAND,
    Missing.FRESH_OPTION_QUOTES.value,
    SPREAD_TOO_WIDE,
)


@dataclass(slots=True, frozen=True)
class Surface:
    """One expiry's quotes and model values, aligned with ``rows`` (of the listing, ascending); dollars.

    ``iv`` of a contract in the money is that of the other right at its strike, whose quote carries the information;
    its own where that has none. NaN where no implied volatility exists. ``oldest_ns`` is that of the older of the two
    quotes, its own and the one that its volatility came from.
    """

    rows: Ints
    mid: Array
    spread: Array
    iv: Array
    delta: Array
    abs_delta: Array
    quoted_ns: Ints
    oldest_ns: Ints
    two_sided: Bools
    with_iv: Bools
    calls: Bools
    puts: Bools
    spot: float
    forward: float
    forward_source: str


@dataclass(slots=True, frozen=True)
class Stopped:
    """No contract of an expiry passed all tests: the test (index into ``STAGES``) that none passed, and counts."""

    stage: int
    facts: Facts

    def answer(self) -> NotSelected:
        """The reason in the words of ``STAGES``."""
        return NotSelected(STAGES[self.stage], self.facts)


def compute_surface(
    chain: ChainColumns, rows: Ints, *, spot: float, rate_per_year: float, expires_in_ns: int, fresh_since_ns: int
) -> Surface:
    """Implied volatility and delta of the contracts ``rows`` of one expiry.

    The forward is implied by parity of quotes with vendor times since ``fresh_since_ns``; where too few strikes
    have both, it is spot carried at the rate, and ``forward_source`` says so.
    """
    years = expires_in_ns / YEAR_NS
    discount = float(np.exp(-rate_per_year * years))
    mid, strike, is_call = chain.mids(rows), chain.strike[rows], chain.is_call[rows]
    twin = chain.twin[rows]
    paired = twin >= 0
    twin_at = np.searchsorted(rows, np.where(paired, twin, rows))

    fresh = np.where(chain.quoted_ns[rows] >= fresh_since_ns, mid, np.nan)
    calls = np.flatnonzero(is_call & paired)
    implied = parity_forward(strike[calls], fresh[calls], fresh[twin_at[calls]], discount)
    by_parity = implied is not None and abs(implied / spot - 1.0) <= FORWARD_TO_SPOT_MAX
    forward = implied if implied is not None and by_parity else spot / discount

    own = implied_vol(mid, forward, strike, years, is_call, discount)
    other = np.where(paired, own[twin_at], np.nan)
    use_other = np.where(is_call, strike < forward, strike > forward) & ~np.isnan(other)
    iv = np.where(use_other, other, own)
    delta = delta_forward(forward, strike, years, iv, is_call)
    abs_delta, tradable = np.abs(delta), chain.tradable[rows]
    quoted_ns = chain.quoted_ns[np.where(use_other, twin, rows)]
    return Surface(
        rows=rows,
        mid=mid,
        spread=chain.ask[rows] - chain.bid[rows],
        iv=iv,
        delta=delta,
        abs_delta=abs_delta,
        quoted_ns=quoted_ns,
        oldest_ns=np.minimum(chain.quoted_ns[rows], quoted_ns),
        two_sided=~np.isnan(mid),
        with_iv=~np.isnan(abs_delta),
        calls=is_call & tradable,
        puts=~is_call & tradable,
        spot=spot,
        forward=forward,
        forward_source="parity" if by_parity else "spot",
    )


def choose(chain: ChainColumns, surface: Surface, request: DeltaRequest, expiry: str, at_ns: int) -> Selected | Stopped:
    """The best contract of one expiry: |delta| nearest the band's middle, then tightest spread, then symbol."""
    rows = surface.rows
    keep = surface.calls if request.is_call else surface.puts
    left = int(np.count_nonzero(keep))
    counts: Facts = {"expiry": expiry, "listed": left, "forward_source": surface.forward_source}
    if left == 0:
        return Stopped(0, counts)
    size, spread = surface.abs_delta, surface.spread
    allowed = np.minimum(request.max_spread_usd, request.max_spread_of_mid * surface.mid)
    tests = (
        ("two_sided", surface.two_sided),
        ("with_iv", surface.with_iv),
        ("in_band", (size >= request.abs_delta_low) & (size <= request.abs_delta_high)),
        ("fresh", at_ns - surface.oldest_ns <= request.max_age_s * NS),
        ("tight", spread <= allowed + 1e-9),  # cents held as floats
    )
    for stage, (name, holds) in enumerate(tests, start=1):
        before, keep = keep, keep & holds
        counts[name] = left = int(np.count_nonzero(keep))
        if left == 0:
            if name == "tight":
                counts["narrowest_spread_usd"] = round(float(spread[before].min()), 9)
            return Stopped(stage, counts)
    middle = (request.abs_delta_low + request.abs_delta_high) / 2
    best = min(
        (round(abs(float(size[i]) - middle), 9), round(float(spread[i]), 9), chain.symbol(rows[i]), int(i))
        for i in np.flatnonzero(keep)
    )[3]
    quote = chain.quote(int(rows[best]))
    assert quote is not None  # it has two sides
    return Selected(
        symbol=quote.symbol,
        expiry=expiry,
        quote=quote,
        delta=float(surface.delta[best]),
        iv=float(surface.iv[best]),
        spot=surface.spot,
        forward=surface.forward,
        forward_source=surface.forward_source,
    )

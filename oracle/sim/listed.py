"""Which contracts a synthetic underlying lists on a date, with open interest and the previous closing price.

Inputs: session table, closes before each recent session (strike grids stay centred on every one of them, so a contract
once listed stays listed until it expires). Outputs: ``Chain``, contracts sorted by symbol, as columns and as listings.
Invariant: a pure function of (seed, underlying, date, closes).
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from oracle.core.instruments import OptionContract, Right
from oracle.core.sessions import Session, SessionTable
from oracle.sim import surface
from oracle.sim.noise import Floats, Ints, Keys, key, uniform
from oracle.sim.pathgen import SymbolSpec
from oracle.sim.source import Listing

DAILY_EXPIRIES = 10
LONGEST_DAYS = 60
_DENSE, _WIDE = 0.06, 0.15  # reach of the 1-dollar and 5-dollar strike grids
_OI_SIZE, _OI_ZERO, _OI_DAY = 1, 2, 3
_ROUND = ((100, 5.0), (50, 3.5), (25, 2.9), (10, 2.5), (5, 2.0))  # open interest against strikes not round


@dataclass(frozen=True, slots=True)
class Chain:
    """Columns by contract (sorted by symbol) and by expiry; ``expiry`` maps the one to the other."""

    listings: tuple[Listing, ...]
    index: dict[str, int]
    symbols: tuple[str, ...]
    strike: Floats
    is_call: np.ndarray
    expiry: Ints
    keys: Keys
    expiry_ns: Ints
    sessions_ahead: Ints


def expiries(table: SessionTable, session: Session) -> list[tuple[Session, int]]:
    """List expiry sessions and how many sessions ahead each is: today, each of the next ten, then weekly ones.

    A weekly expiry is the last session of its week (Friday, or Thursday before a holiday), to 60 days, as far
    as the table reaches.
    """
    rows = table.sessions
    here = rows.index(session)
    limit = (dt.date.fromisoformat(session.date) + dt.timedelta(days=LONGEST_DAYS)).isoformat()
    out = []
    for ahead, candidate in enumerate(rows[here:]):
        if candidate.date > limit:
            break
        after = rows[here + ahead + 1] if here + ahead + 1 < len(rows) else None
        if ahead <= DAILY_EXPIRIES or _ends_week(candidate, after):
            out.append((candidate, ahead))
    return out


def make_chain(
    seed: int, spec: SymbolSpec, table: SessionTable, session: Session, *, closes: Sequence[float], log_vol: float
) -> Chain:
    """Build the chain listed on a session.

    Args:
        seed: of the market.
        spec: the underlying.
        table: sessions, for expiries and for the date of the open interest.
        session: the session on which the chain is listed.
        closes: closes before each traded session of the last 60 days; the last is the one before ``session``.
        log_vol: log volatility state at that close, for closing prices.
    """
    dates = expiries(table, session)
    strikes = sorted(set().union(*(_strikes(close) for close in closes)))
    contracts = sorted(
        (OptionContract(spec.symbol, e.date, right, k * 1000).occ, i, k, right)
        for i, (e, _) in enumerate(dates)
        for k in strikes
        for right in (Right.CALL, Right.PUT)
    )
    symbols = tuple(c[0] for c in contracts)
    expiry = np.array([c[1] for c in contracts], dtype=np.int64)
    strike = np.array([float(c[2]) for c in contracts])
    is_call = np.array([c[3] is Right.CALL for c in contracts])
    keys = np.array([key(seed, s) for s in symbols], dtype=np.uint64)
    expiry_ns = np.array([e.close_ns for e, _ in dates], dtype=np.int64)
    ahead = np.array([n for _, n in dates], dtype=np.int64)
    before = table.before(session.date)[-1]
    weight = np.array([_expiry_weight(session, e) for e, _ in dates])[expiry]
    interest = _open_interest(spec, session, keys, is_call, away=np.log(strike / closes[-1]), strike=strike) * weight
    left = (expiry_ns - before.close_ns)[expiry] / surface.YEAR_NS
    variance = surface.later_variance(spec, np.array([log_vol]), int(ahead.max()) + 1)[0, ahead[expiry] + 1]
    closing = surface.model_prices(spec, closes[-1], strike, is_call, atm=np.sqrt(variance / left), years=left)[0]
    rows = zip(
        contracts, np.minimum(interest, 250_000.0).astype(np.int64).tolist(), np.round(closing, 2).tolist(), strict=True
    )
    listings = tuple(
        Listing(s, spec.symbol, dates[i][0].date, right.value, k * 1000, oi, before.date, True, price)
        for (s, i, k, right), oi, price in rows
    )
    index = {s: i for i, s in enumerate(symbols)}
    return Chain(listings, index, symbols, strike, is_call, expiry, keys, expiry_ns, ahead)


def _ends_week(session: Session, after: Session | None) -> bool:
    day = dt.date.fromisoformat(session.date)
    if after is None:
        return day.weekday() == 4
    return day.isocalendar()[:2] != dt.date.fromisoformat(after.date).isocalendar()[:2]


def _strikes(close: float) -> set[int]:
    dense = range(int(np.ceil(close * (1 - _DENSE))), int(close * (1 + _DENSE)) + 1)
    wide = range(5 * int(np.ceil(close * (1 - _WIDE) / 5)), int(close * (1 + _WIDE)) + 1, 5)
    return set(dense) | set(wide)


def _open_interest(
    spec: SymbolSpec, session: Session, keys: Keys, is_call: np.ndarray, *, away: Floats, strike: Floats
) -> Floats:
    """Draw log-normal contracts (sd of ln 1.9) × roundness of the strike × nearness; 15-60 % are zero."""
    roundness = np.ones(len(strike))
    for step, factor in reversed(_ROUND):
        roundness = np.where(strike % step == 0, factor, roundness)
    out_of_money = np.where(is_call, away > 0, away < 0)
    near = (0.12 + np.exp(-0.5 * (away / 0.05) ** 2)) * np.where(out_of_money, 1.0, 0.55)
    level = 5.6 if spec.symbol == "SPY" else 5.1
    normal = ndtri(uniform(keys, 0, _OI_SIZE))
    day = ndtri(uniform(keys, dt.date.fromisoformat(session.date).toordinal(), _OI_DAY))
    contracts = np.exp(level + 1.9 * normal + 0.08 * day) * roundness * near
    empty = uniform(keys, 0, _OI_ZERO) < (0.12 + 3.0 * np.abs(away)) / np.sqrt(roundness)
    return np.where(empty, 0.0, contracts)


def _expiry_weight(session: Session, expiry: Session) -> float:
    day = dt.date.fromisoformat(expiry.date)
    if day.weekday() >= 3 and 15 <= day.day + (4 - day.weekday()) <= 21:
        return 4.0  # the monthly expiry
    if day.weekday() == 4:
        return 1.5
    return 1.0 if expiry.date == session.date else 0.5

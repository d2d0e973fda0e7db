"""Which contracts a synthetic underlying lists on a date, with open interest and the previous closing price.

Inputs: session table, closes before each session so far (strike grids stay centred on every one of them, so a contract
once listed stays listed until it expires). Outputs: ``Chain``, contracts sorted by symbol, as columns and as listings.
Invariant: a pure function of (seed, underlying, date, closes).
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from scipy.special import ndtri

from oracle.core.errors import ConfigurationError
from oracle.core.instruments import OptionContract, Right
from oracle.core.sessions import Session, SessionTable
from oracle.sim import surface
from oracle.sim.noise import Floats, Ints, Keys, key, uniform
from oracle.sim.pathgen import SymbolSpec
from oracle.sim.planted_options import PlantedSweep, PlantedWall, kind_of, resolve, rows_of
from oracle.sim.source import Listing

DAILY_EXPIRIES = 10
LONGEST_DAYS = 60
_DENSE, _WIDE = 0.06, 0.15  # reach of the 1-dollar and 5-dollar strike grids
_OI_SIZE, _OI_ZERO, _OI_DAY = 1, 2, 3
_ROUND = ((100, 5.0), (50, 3.5), (25, 2.9), (10, 2.5), (5, 2.0))  # open interest against strikes not round


@dataclass(frozen=True, slots=True)
class Chain:
    """Columns by contract (sorted by symbol) and by expiry; ``expiry`` maps the one to the other.

    ``interest`` is the open interest, ``planted`` and ``sweeps`` are what was planted in it, with strikes and expiries.
    """

    listings: tuple[Listing, ...]
    index: dict[str, int]
    symbols: tuple[str, ...]
    strike: Floats
    is_call: np.ndarray
    expiry: Ints
    keys: Keys
    expiry_ns: Ints
    sessions_ahead: Ints
    interest: Ints
    planted: tuple[PlantedWall | PlantedSweep, ...] = ()
    sweeps: tuple[PlantedSweep, ...] = ()


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
    seed: int,
    spec: SymbolSpec,
    table: SessionTable,
    session: Session,
    *,
    closes: Sequence[float],
    log_vol: float,
    planted: Sequence[PlantedWall | PlantedSweep] = (),
) -> Chain:
    """Build the chain listed on a session.

    Args:
        seed: of the market.
        spec: the underlying.
        table: sessions, for expiries and for the date of the open interest.
        session: the session on which the chain is listed.
        closes: closes before each session traded so far; the last is the one before ``session``.
        log_vol: log volatility state at that close, for closing prices.
        planted: open interest to plant, of this underlying and session.

    Raises:
        ConfigurationError: a planted contract is not listed.
    """
    dates = expiries(table, session)
    strikes = sorted(set().union(*(strikes_around(close) for close in closes)))
    contracts = [
        OptionContract(spec.symbol, e.date, right, k * 1000)
        for e, _ in dates
        for k in strikes
        for right in (Right.CALL, Right.PUT)
    ]
    resolved = [resolve(plant, closes[-1], [e.date for e, _ in dates]) for plant in planted]
    chain = chain_of(seed, spec, table, session, contracts=contracts, close=closes[-1], log_vol=log_vol)
    return with_interest(chain, resolved) if resolved else chain


def chain_of(
    seed: int,
    spec: SymbolSpec,
    table: SessionTable,
    session: Session,
    *,
    contracts: Collection[OptionContract],
    close: float,
    log_vol: float,
) -> Chain:
    """Describe some contracts of an underlying as a session lists them; those of expiries not listed are left out.

    What is said of a contract does not depend on the others.
    """
    dates = expiries(table, session)
    place = {e.date: i for i, (e, _) in enumerate(dates)}
    kept = sorted((c.occ, c) for c in contracts if c.expiry in place)
    symbols = tuple(occ for occ, _ in kept)
    expiry = np.array([place[c.expiry] for _, c in kept], dtype=np.int64)
    strike = np.array([c.strike for _, c in kept], dtype=np.float64)
    is_call = np.array([c.is_call for _, c in kept], dtype=bool)
    keys = np.array([key(seed, s) for s in symbols], dtype=np.uint64)
    expiry_ns = np.array([e.close_ns for e, _ in dates], dtype=np.int64)
    ahead = np.array([n for _, n in dates], dtype=np.int64)
    before = table.before(session.date)[-1]
    weight = np.array([_expiry_weight(session, e) for e, _ in dates])[expiry]
    drawn = _open_interest(spec, session, keys, is_call, away=np.log(strike / close), strike=strike) * weight
    interest = np.minimum(drawn, 250_000.0).astype(np.int64)
    left = (expiry_ns - before.close_ns)[expiry] / surface.YEAR_NS
    variance = surface.later_variance(spec, np.array([log_vol]), int(ahead.max()) + 1)[0, ahead[expiry] + 1]
    closing = surface.model_prices(spec, close, strike, is_call, atm=np.sqrt(variance / left), years=left)[0]
    rows = zip(kept, interest.tolist(), np.round(closing, 2).tolist(), strict=True)
    listings = tuple(
        Listing(occ, spec.symbol, c.expiry, c.right.value, c.strike_milli, oi, before.date, True, price)
        for (occ, c), oi, price in rows
    )
    index = {s: i for i, s in enumerate(symbols)}
    return Chain(listings, index, symbols, strike, is_call, expiry, keys, expiry_ns, ahead, interest)


def with_interest(chain: Chain, planted: Sequence[PlantedWall | PlantedSweep], *, partial: bool = False) -> Chain:
    """The same chain with planted open interest; ``planted`` are resolved, ``partial`` lets some be of other contracts.

    Raises:
        ConfigurationError: a planted contract is not listed, and ``partial`` is not set.
    """
    rows = [(row.expiry, row.right, row.strike_milli) for row in chain.listings]
    interest, listings = chain.interest.copy(), list(chain.listings)
    here = []
    for plant in planted:
        places = rows_of(plant, rows)
        if not places and not partial:
            raise not_listed(plant)
        for row in places:
            interest[row] = plant.open_interest
            listings[row] = msgspec.structs.replace(listings[row], open_interest=plant.open_interest)
        here += [plant] if places else []
    sweeps = tuple(plant for plant in here if isinstance(plant, PlantedSweep))
    return replace(chain, listings=tuple(listings), interest=interest, planted=tuple(here), sweeps=sweeps)


def not_listed(plant: PlantedWall | PlantedSweep) -> ConfigurationError:
    """The error of a planted contract that its session does not list."""
    what = f"{plant.right} {'of the chosen strike' if plant.strike is None else plant.strike}"
    expiry = f" of {plant.expiry}" if isinstance(plant, PlantedSweep) and plant.expiry is not None else ""
    return ConfigurationError(
        f"plant.{kind_of(plant)}",
        f"{plant.symbol} lists no {what}{expiry} on {plant.date}",
        "choose a whole-dollar strike within 6 % of the close before and a listed expiry",
    )


def _ends_week(session: Session, after: Session | None) -> bool:
    day = dt.date.fromisoformat(session.date)
    if after is None:
        return day.weekday() == 4
    return day.isocalendar()[:2] != dt.date.fromisoformat(after.date).isocalendar()[:2]


def strikes_around(close: float) -> set[int]:
    """The whole-dollar strikes listed for a close: each dollar within 6 %, each five dollars within 15 %."""
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

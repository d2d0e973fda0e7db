"""A market for the throughput benchmark: minutes from memory, and a chain of six contracts instead of hundreds.

Inputs: a seed and a number of bars. Outputs: a ``MinuteMarket``. What it saves is making and quoting contracts that
nobody trades, which is the market's work and not the engine's; the six are quoted from their underlying's last close.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from oracle.calendar import load_sessions
from oracle.core.instruments import OptionContract, Right
from oracle.core.sessions import MINUTE_NS, Session, SessionTable
from oracle.options.pricing import black_forward
from oracle.sim.bar_files import BarFolder, Minutes
from oracle.sim.minute_day import MinuteDay
from oracle.sim.minutes import MinuteMarket
from oracle.sim.noise import Floats, Ints, stream
from oracle.sim.source import Listing, Touch

FIRST_DAY = dt.date(2022, 1, 3)
VOLATILITY, YEAR_NS = 0.16, 365 * 86_400 * 10**9
HALF_SPREAD_CENTS, SIZE = 1, 100


def make_minutes(table: SessionTable, count: int, seed: int = 7) -> Minutes:
    """A random walk of closes, one minute a bar, over the table's sessions; prices in cents."""
    starts = np.concatenate([np.arange(s.open_ns, s.close_ns, MINUTE_NS) for s in table.sessions])[:count]
    rng = stream(seed, "throughput")
    close = np.round(400.0 * np.exp(np.cumsum(rng.normal(0.0, 4e-4, len(starts)))), 2)
    first = np.concatenate([[400.0], close[:-1]])
    high = np.round(np.maximum(first, close) + rng.integers(0, 5, len(starts)) / 100, 2)
    low = np.round(np.minimum(first, close) - rng.integers(0, 5, len(starts)) / 100, 2)
    return Minutes(starts, first, high, low, close, rng.integers(10_000, 200_000, len(starts)))


class MemoryFolder(BarFolder):
    """Bars of one symbol that are in memory already."""

    def __init__(self, symbol: str, minutes: Minutes) -> None:
        self.root, self.recorded = Path("in memory"), False
        self._symbol, self._minutes = symbol, minutes
        self._known: dict[str, Minutes] = {}

    def symbols(self) -> tuple[str, ...]:
        """The one symbol."""
        return (self._symbol,)

    def day(self, symbol: str, date: str, open_ns: int, close_ns: int) -> Minutes | None:
        """Its bars of one session."""
        if symbol != self._symbol:
            return None
        if date not in self._known:
            self._known[date] = self._minutes.between(open_ns, close_ns)
        return self._known[date] if len(self._known[date]) else None


@dataclass(frozen=True, slots=True)
class SmallListing:
    """Listed contracts, sorted by symbol."""

    listings: tuple[Listing, ...]


class SmallChain:
    """Calls and puts at three strikes around the session's first price, for the next session's expiry."""

    def __init__(self, symbol: str, session: Session, expiry: Session, prices: Floats) -> None:
        centre = round(float(prices[0]))
        rows = sorted(
            (OptionContract(symbol, expiry.date, right, strike * 1000).occ, right, strike)
            for right in (Right.CALL, Right.PUT)
            for strike in (centre - 1, centre, centre + 1)
        )
        self.chain = SmallListing(
            tuple(Listing(s, symbol, expiry.date, right.value, k * 1000, 100, None, True) for s, right, k in rows)
        )
        self._symbols = [row[0] for row in rows]
        self._is_call = np.array([row[1] is Right.CALL for row in rows])
        self._strike = np.array([float(row[2]) for row in rows])
        self._made: tuple[int, list[Touch]] = (-1, [])
        self._prices, self._open_ns, self._expiry_ns = prices, session.open_ns, expiry.close_ns

    def rows(self, symbols: Sequence[str]) -> Ints:
        """Row numbers of contracts, rising."""
        return np.array([i for i, symbol in enumerate(self._symbols) if symbol in symbols], dtype=np.int64)

    def touches(self, rows: Ints, at_ns: int) -> list[Touch]:
        """Quotes made at the last whole minute."""
        minute = (at_ns - self._open_ns) // MINUTE_NS
        if self._made[0] != minute:
            self._made = (minute, self._make(minute))
        return [self._made[1][row] for row in rows.tolist()]

    def _make(self, minute: int) -> list[Touch]:
        quoted_ns = self._open_ns + minute * MINUTE_NS
        count = len(self._symbols)
        years = np.full(count, (self._expiry_ns - quoted_ns) / YEAR_NS)
        forward = np.full(count, float(self._prices[minute]))
        vol, one = np.full(count, VOLATILITY), np.ones(count)
        price = black_forward(forward, self._strike, years, vol, self._is_call, one)
        cents = np.maximum(np.rint(price * 100), HALF_SPREAD_CENTS + 1).astype(int).tolist()
        return [
            Touch(symbol, quoted_ns, (c - HALF_SPREAD_CENTS) / 100, SIZE, (c + HALF_SPREAD_CENTS) / 100, SIZE)
            for symbol, c in zip(self._symbols, cents, strict=True)
        ]

    def changes(self, rows: Ints, after_ns: int, to_ns: int) -> list[Touch]:
        """Nothing changes within a minute."""
        del rows, after_ns, to_ns
        return []

    def next_change_ns(self, rows: Ints, after_ns: int) -> int | None:
        """Nothing changes within a minute."""
        del rows, after_ns


class SmallDay(MinuteDay):
    """A recorded day with the small chain."""

    @cached_property
    def _modelled(self) -> SmallChain:  # type: ignore[override]
        expiry = self._table.after(self._session.date)
        assert expiry is not None
        return SmallChain(self._symbol, self._session, expiry, self.minute_prices())


class SmallMarket(MinuteMarket):
    """See the module."""

    day_type = SmallDay


def make_market(count: int, symbol: str = "SPY") -> tuple[SessionTable, Minutes, SmallMarket]:
    """The calendar, the bars, and the market that serves them to a strategy that asks for quotes at times."""
    table = load_sessions(FIRST_DAY, FIRST_DAY + dt.timedelta(days=count // 260 + 40))
    minutes = make_minutes(table, count)
    last = max(s.date for s in table.sessions if s.open_ns <= int(minutes.start_ns[-1]))
    folder = MemoryFolder(symbol, minutes)
    return table, minutes, SmallMarket(folder, (symbol,), FIRST_DAY.isoformat(), last, table, 1, on_demand=(symbol,))

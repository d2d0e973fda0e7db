"""A tiny market for tests: two stocks and twenty option contracts whose quotes a test can set.

By default a stock's mid walks one cent a second around 600 and options are quoted 1.20 x 1.30, ten up. ``set_touch``
fixes a symbol's quote from then on. Bars close every minute.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from oracle.core.instruments import OptionContract, Right
from oracle.core.sessions import MINUTE_NS, NS, Session
from oracle.sim.source import Listing, MarketStep, Print, SourceBar, Status, Touch

OPEN_NS = 1_767_623_400 * NS  # 2026-01-05 09:30 New York
DAY_NS = 86_400 * NS
STRIKES = (590, 595, 600, 605, 610)
FAR = "2026-01-16"


def make_sessions(count: int = 1, minutes: int = 390) -> tuple[Session, ...]:
    """Sessions on consecutive days from Monday 2026-01-05, each ``minutes`` long."""
    days = ("2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08")
    opens = [OPEN_NS + i * DAY_NS for i in range(count)]
    return tuple(Session(days[i], o, o + minutes * MINUTE_NS) for i, o in enumerate(opens))


def occ(strike: int, right: str = "C", expiry: str = FAR) -> str:
    """The OCC symbol of a SPY contract."""
    return OptionContract("SPY", expiry, Right(right), strike * 1000).occ


class ScriptedSource:
    """A ``MarketSource`` that says what it is told."""

    symbols: Sequence[str] = ("QQQ", "SPY")
    labels: Sequence[str] = ("scripted",)

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.sessions = tuple(sessions)
        self.declared: Sequence[Mapping[str, Any]] = ({"kind": "none", "symbol": "SPY", "date": sessions[0].date},)
        self.now_ns = sessions[0].open_ns - 600 * NS
        self.statuses: list[Status] = []
        self._fixed: dict[str, tuple[float | None, int, float | None, int, int]] = {}
        self._watched: set[str] = set()
        self._traded: set[str] = set()

    def set_touch(
        self, symbol: str, bid: float | None, ask: float | None, bid_size: int = 10, ask_size: int = 10
    ) -> None:
        """Fix a symbol's quote from now on."""
        self._fixed[symbol] = (bid, bid_size, ask, ask_size, self.now_ns)

    def listings(self, underlying: str, date: str) -> Sequence[Listing]:
        if underlying != "SPY":
            return []
        rows = [
            Listing(occ(k, r, e), "SPY", e, r, k * 1000, 1000 + k, "2026-01-02", True, 1.25)
            for e in (self.sessions[0].date, FAR)
            for r in ("C", "P")
            for k in STRIKES
            if e >= date
        ]
        return sorted(rows, key=lambda r: r.symbol)

    def watch(self, occ_symbols: Collection[str]) -> None:
        self._watched = set(occ_symbols)

    def watch_trades(self, occ_symbols: Collection[str]) -> None:
        self._traded = set(occ_symbols)

    def touch(self, symbol: str) -> Touch | None:
        if symbol in self._fixed:
            bid, bid_size, ask, ask_size, at_ns = self._fixed[symbol]
            return Touch(symbol, at_ns, bid, bid_size, ask, ask_size)
        if symbol in self.symbols:
            mid = 600.0 + (self.now_ns // NS % 10) / 100
            return Touch(symbol, self.now_ns, round(mid - 0.01, 2), 300, round(mid + 0.01, 2), 200)
        return Touch(symbol, self.now_ns, 1.20, 10, 1.30, 10)

    def last_print(self, symbol: str) -> Print | None:
        if symbol in self.symbols:
            return Print(symbol, self.now_ns, 600.0, 100, self.now_ns // NS)
        return Print(symbol, self.now_ns, 1.25, 3, 7, "C", "I")

    def _bar(self, symbol: str, start_ns: int) -> SourceBar:
        return SourceBar(symbol, start_ns, 600.0, 600.1, 599.9, 600.05, 12_000, 120, 600.02)

    def advance(self, to_ns: int) -> MarketStep:
        assert to_ns >= self.now_ns
        self.now_ns = to_ns
        trading = any(s.open_ns < to_ns <= s.close_ns for s in self.sessions)
        if not trading:
            return MarketStep(to_ns, [], [], [], [], [], [], [], [])
        touches = [t for t in (self.touch(s) for s in self.symbols) if t is not None]
        prints = [p for p in (self.last_print(s) for s in self.symbols) if p is not None]
        closed = to_ns % MINUTE_NS == 0
        bars = [self._bar(s, to_ns - MINUTE_NS) for s in self.symbols] if closed else []
        options = [t for t in (self.touch(s) for s in sorted(self._watched)) if t is not None]
        trade = [Print(occ(600), to_ns, 1.25, 3, 7, "C", "I")]
        statuses, self.statuses = self.statuses, []
        return MarketStep(to_ns, touches, prints, bars, bars, bars, options, trade, statuses)

    def bars(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Sequence[SourceBar]:
        if timeframe == "1Day":
            starts = [OPEN_NS - i * DAY_NS - 9 * 3600 * NS - 1800 * NS for i in (3, 2, 1)]
            return [self._bar(symbol, s) for s in starts if start_ns <= s <= end_ns]
        rows = []
        for session in self.sessions:
            last = min(session.close_ns, self.now_ns) - MINUTE_NS
            rows += [self._bar(symbol, s) for s in range(session.open_ns, last + 1, MINUTE_NS)]
        return [b for b in rows if start_ns <= b.start_ns <= end_ns]

    def option_bars(
        self, symbols: Collection[str], timeframe: str, start_ns: int, end_ns: int
    ) -> Mapping[str, Sequence[SourceBar]]:
        return {s: self.bars(s, timeframe, start_ns, end_ns) for s in symbols}

    def daily_iv(self, underlying: str) -> Sequence[tuple[str, float]]:
        return [("2026-01-02", 0.18)] if underlying == "SPY" else []

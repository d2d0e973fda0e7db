"""Recorded minutes of several symbols and sessions, served as a market: the source of backtests.

Inputs: a ``BarFolder``, symbols, first and last date. Outputs: the ``MarketSource`` protocol. A bar of the minute that
starts at t is told at t + 61 s, quotes that end the minute at t + 60 s, and nothing is known before. Recorded quotes
and chains are used where they are; else the quote is modelled around the last close and the chain by ``modelled``.
Invariant: what ``touch`` says is a pure function of (files, seed, time); ``follow`` only sets how often changes are
told: those of followed contracts as they happen, those of other watched ones as they stand at each minute's end.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import merge
from typing import Any

import numpy as np

from oracle.core.errors import ConfigurationError, ProtocolError, RemoteError
from oracle.core.instruments import is_option, parse_occ
from oracle.core.marketdata import Bar
from oracle.core.sessions import MINUTE_NS, Session, SessionTable
from oracle.sim.bar_files import BarFolder
from oracle.sim.minute_day import BAR_DELAY_NS, MinuteDay
from oracle.sim.modelled import LABEL, MOST_CLOSES
from oracle.sim.recorded_files import Rejected, read_columns
from oracle.sim.source import Listing, MarketStep, Print, SourceBar, Touch

BEFORE_OPEN_NS = 5 * MINUTE_NS
MIDNIGHT_NS = 570 * MINUTE_NS
_DAYS_KEPT = 4


class MinuteMarket:
    """Sessions of recorded minutes. ``missing`` holds (symbol, date) of sessions without bars.

    Raises:
        ConfigurationError: no bars at all between the dates, or a file is unusable.
    """

    day_type: type[MinuteDay] = MinuteDay

    def __init__(
        self,
        folder: BarFolder,
        symbols: Collection[str],
        first: str,
        last: str,
        table: SessionTable,
        seed: int = 0,
        on_demand: Collection[str] = (),
    ) -> None:
        self._on_demand = frozenset(on_demand)
        self._bars_only = ("", False)
        self._only_on_demand = self._on_demand.issuperset(symbols)
        self._folder, self._table, self._seed = folder, table, seed
        self._symbols = tuple(sorted(symbols))
        wanted = [s for s in table.sessions if first <= s.date <= last]
        there = {(x, s.date) for s in wanted for x in self._symbols if self._has(x, s)}
        self.missing = [(x, s.date) for s in wanted for x in self._symbols if (x, s.date) not in there]
        self._sessions = tuple(s for s in wanted if any((x, s.date) in there for x in self._symbols))
        if not self._sessions:
            raise ConfigurationError(
                "--from, --to", f"no bars of {', '.join(self._symbols)} from {first} to {last} in {folder.root}",
                "choose dates that the files hold",
            )  # fmt: skip
        self._days: dict[tuple[str, str], MinuteDay | None] = {}
        self._daily: dict[str, list[tuple[str, SourceBar]]] = {}
        self._place = 0
        self._now = self._sessions[0].open_ns - MIDNIGHT_NS
        self._watched: frozenset[str] = frozenset()
        self._told: dict[str, Touch] = {}
        self.modelled_quotes: set[tuple[str, str]] = set()
        self.modelled_chains: set[tuple[str, str]] = set()
        self.recorded_chains: set[tuple[str, str]] = set()
        self._watched_by_root: dict[str, list[str]] = {}
        self._followed: dict[str, list[str]] = {}

    # ----------------------------------------------------------------------------------------- what it is

    @property
    def symbols(self) -> Sequence[str]:
        """Stock symbols, sorted."""
        return self._symbols

    @property
    def sessions(self) -> Sequence[Session]:
        """The sessions that have bars, oldest first."""
        return self._sessions

    @property
    def declared(self) -> Sequence[Mapping[str, Any]]:
        """Nothing is planted in recorded minutes."""
        return ()

    @property
    def labels(self) -> Sequence[str]:
        """What a reader must know of what was served so far."""
        out = ["recorded minutes", "synthetic vwap"]
        out += ["modelled stock quotes"] if self.modelled_quotes else []
        out += [LABEL] if self.modelled_chains else []
        out += ["recorded options"] if self.recorded_chains else []
        return tuple(out)

    # ----------------------------------------------------------------------------------------- the protocol

    def listings(self, underlying: str, date: str) -> Sequence[Listing]:
        """Contracts listed on a session date, sorted by symbol: the recorded chain's, else the model's."""
        session = self._table.on(date)
        day = None if session is None or underlying not in self._symbols else self._day(underlying, session)
        return () if day is None else day.listings

    def watch(self, occ_symbols: Collection[str]) -> None:
        """Set the contracts whose quote changes are given by ``advance``; unknown ones are ignored."""
        self._watched = frozenset(occ_symbols)
        self._watched_by_root = _by_root(self._watched)
        self._told = {s: t for s, t in self._told.items() if s in self._watched}

    def watch_trades(self, occ_symbols: Collection[str]) -> None:
        """Do nothing: no trades of options are recorded by the minute here, and none are modelled."""

    def follow(self, occ_symbols: Collection[str]) -> None:
        """Set the contracts whose quotes are told as they change: those held or ordered."""
        self._followed = _by_root(occ_symbols)

    def next_event_ns(self, after_ns: int) -> int | None:
        """The next instant at which quotes or a bar can become known, or None past the last session."""
        for session in self._sessions[self._place :]:
            bars_only = self._tells_bars_only(session)
            # The first bar is told a minute after the open; quotes are known from before it.
            early_ns = -MINUTE_NS - BAR_DELAY_NS if bars_only else BEFORE_OPEN_NS
            first, last = session.open_ns - early_ns, session.close_ns + BAR_DELAY_NS
            if after_ns < first:
                return first
            if after_ns < last:
                if bars_only:
                    return after_ns + MINUTE_NS - (after_ns - first) % MINUTE_NS
                into = (after_ns - first) % MINUTE_NS
                due_ns = after_ns + (BAR_DELAY_NS - into if into < BAR_DELAY_NS else MINUTE_NS - into)
                changes = [
                    day.next_option_change_ns(symbols, after_ns)
                    for root, symbols in self._followed.items()
                    if (day := self._day(root, session)) is not None
                ]
                return min([due_ns, *(t for t in changes if t is not None)])
        return None

    def advance(self, to_ns: int) -> MarketStep:
        """Move to ``to_ns`` and give what became known since: bars all, quotes as they stand at ``to_ns``.

        Raises:
            ProtocolError: ``to_ns`` lies before the present.
        """
        if to_ns < self._now:
            raise ProtocolError(f"the market cannot go back from {self._now} to {to_ns}")
        step = MarketStep(to_ns, [], [], [], [], [], [], [], [])
        begin, self._now = self._now, to_ns
        self._turn_page(to_ns)
        session = self._sessions[self._place]
        if to_ns < session.open_ns - BEFORE_OPEN_NS or begin > session.close_ns + BAR_DELAY_NS:
            return step
        for symbol in self._symbols:
            day = self._day(symbol, session)
            if day is None:
                continue
            touch = day.stock_touch(to_ns) if self._tells_quotes(symbol, day) else None
            if touch is not None and self._told.get(symbol) != touch:
                self._told[symbol] = touch
                step.touches.append(touch)
            for bar in day.published(begin, to_ns):
                step.bars.append(bar)
                step.prints.append(day.print_of(bar))
        step.bars.sort(key=lambda bar: (bar.start_ns, bar.symbol))
        step.prints.sort(key=lambda trade: (trade.at_ns, trade.symbol))
        if self._watched and session.open_ns <= to_ns <= session.close_ns:
            self._tell_options(step, session, begin, to_ns)
        return step

    def _tells_quotes(self, symbol: str, day: MinuteDay) -> bool:
        """A modelled quote says nothing that the bar did not: where chains are wanted at times, it is told then."""
        return day.quotes is not None or symbol not in self._on_demand or symbol in self._watched_by_root

    def quiet_bars(self, before_ns: int) -> Iterator[tuple[int, Bar]] | None:
        """The running session's bars told from now on and before an instant, with when; None where more is told.

        Who has taken them says so with ``stand_at``.
        """
        session = self._sessions[self._place]
        if not self._tells_bars_only(session) or self._now < session.open_ns:
            return None
        days = [day for symbol in self._symbols if (day := self._day(symbol, session)) is not None]
        streams = [day.bars_told(self._now, before_ns) for day in days]
        return streams[0] if len(streams) == 1 else merge(*streams, key=lambda row: (row[0], row[1].symbol))

    def stand_at(self, at_ns: int) -> None:
        """Say that everything up to an instant has been told."""
        self._now = max(self._now, at_ns)

    def _tells_bars_only(self, session: Session) -> bool:
        """Whether a session's bars are all that there is to tell at present."""
        if self._watched or not self._only_on_demand:
            return False
        if self._bars_only[0] != session.date:
            days = (self._day(symbol, session) for symbol in self._symbols)
            self._bars_only = (session.date, all(day is None or day.quotes is None for day in days))
        return self._bars_only[1]

    def touch(self, symbol: str) -> Touch | None:
        """The quote in force; None before the first one of the session, and for an unknown symbol."""
        session = self._sessions[self._place]
        root = _root(symbol)
        if root not in self._symbols or self._now < session.open_ns - BEFORE_OPEN_NS:
            return None
        day = self._day(root, session)
        if day is None:
            return None
        at_ns = min(self._now, session.close_ns)
        return day.stock_touch(at_ns) if root == symbol else day.option_touch(symbol, at_ns)

    def last_print(self, symbol: str) -> Print | None:
        """The last minute's trade of the session so far, or None; no trades of options are modelled."""
        session = self._sessions[self._place]
        day = self._day(symbol, session) if symbol in self._symbols else None
        bar = None if day is None else day.last_bar(self._now)
        return None if day is None or bar is None else day.print_of(bar)

    def bars(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Sequence[SourceBar]:
        """Closed bars with start in the interval, oldest first, of all sessions that the files hold.

        Raises:
            ProtocolError: the timeframe is neither ``1Min`` nor ``1Day``.
        """
        if timeframe not in {"1Min", "1Day"}:
            raise ProtocolError(f"timeframe {timeframe!r} is not one of 1Min, 1Day")
        if symbol not in self._symbols:
            return ()
        if timeframe == "1Day":
            return [b for _, b in self._day_bars(symbol) if start_ns <= b.start_ns <= end_ns and self._is_over(b)]
        out: list[SourceBar] = []
        for session in self._table.sessions:
            if session.close_ns <= start_ns or session.open_ns > min(end_ns, self._now):
                continue
            day = self._day(symbol, session)
            rows = () if day is None else day.known(self._now)
            out.extend(b for b in rows if start_ns <= b.start_ns <= end_ns)
        return out

    def option_bars(
        self, symbols: Collection[str], timeframe: str, start_ns: int, end_ns: int
    ) -> Mapping[str, Sequence[SourceBar]]:
        """Nothing: bars of contracts are not in the files, and modelled ones would be no evidence."""
        del symbols, timeframe, start_ns, end_ns
        return {}

    def daily_iv(self, underlying: str) -> Sequence[tuple[str, float]]:  # noqa: ARG002 - the protocol's signature
        """Empty: the files hold no history of implied volatility, and a modelled one would be no evidence."""
        return ()

    # ----------------------------------------------------------------------------------------- inside

    def _turn_page(self, now_ns: int) -> None:
        """Go on to the session whose day has begun; quotes of the day before are forgotten."""
        here = self._place
        while here + 1 < len(self._sessions) and now_ns >= self._sessions[here + 1].open_ns - MIDNIGHT_NS:
            here += 1
        if here != self._place:
            self._place = here
            self._told.clear()

    def _tell_options(self, step: MarketStep, session: Session, begin_ns: int, at_ns: int) -> None:
        new_minute = begin_ns // MINUTE_NS != at_ns // MINUTE_NS
        told, out = self._told, step.option_touches
        for root, symbols in (self._watched_by_root if new_minute else self._followed).items():
            day = self._day(root, session) if root in self._symbols else None
            if day is None:
                continue
            touches = day.option_touches(symbols, at_ns) if new_minute else day.option_changes(symbols, begin_ns, at_ns)
            for touch in touches:
                if told.get(touch.symbol) != touch:
                    told[touch.symbol] = touch
                    out.append(touch)

    def _has(self, symbol: str, session: Session) -> bool:
        return self._folder.day(symbol, session.date, session.open_ns, session.close_ns) is not None

    def _day(self, symbol: str, session: Session) -> MinuteDay | None:
        key = (symbol, session.date)
        if key in self._days:
            return self._days[key]
        minutes = self._folder.day(symbol, session.date, session.open_ns, session.close_ns)
        day = None
        if minutes is not None:
            day = self.day_type(
                self._folder,
                symbol,
                session,
                self._table,
                minutes,
                seed=self._seed,
                closes=self._closes_before,
                centres=self._centres,
            )
            if session in self._sessions:
                (self.modelled_quotes if day.quotes is None else set()).add(key)
                (self.recorded_chains if day.has_recorded_chain else self.modelled_chains).add(key)
        self._days[key] = day
        return day

    def _centres(self, symbol: str, session: Session) -> list[float]:
        """Closes before each session traded so far, on which strikes are centred, so that none is unlisted."""
        end = bisect_right(self._sessions, session.date, key=lambda s: s.date)
        closes = [(self._closes_before(symbol, s) or [0.0])[-1] for s in self._sessions[:end]]
        return [close for close in closes if close > 0]

    def _closes_before(self, symbol: str, session: Session) -> list[float]:
        rows = self._day_bars(symbol)
        end = bisect_left(rows, session.date, key=lambda row: row[0])
        return [bar.close for _, bar in rows[max(0, end - MOST_CLOSES) : end]]

    def _day_bars(self, symbol: str) -> list[tuple[str, SourceBar]]:
        """Daily bars: from a file of daily bars where there is one, else made of the minutes there are."""
        found = self._daily.get(symbol)
        if found is None:
            path = self._folder.root / "bars/1d" / f"{symbol}.csv.gz"
            found = self._recorded_days(symbol) if path.exists() else []
            known = {date for date, _ in found}
            for session in self._table.sessions:
                if session.date in known or session.date > self._sessions[-1].date:
                    continue
                minutes = self._folder.day(symbol, session.date, session.open_ns, session.close_ns)
                if minutes is not None:
                    o, h = float(minutes.open[0]), float(minutes.high.max())
                    low, c, v = float(minutes.low.min()), float(minutes.close[-1]), int(minutes.volume.sum())
                    start = session.open_ns - MIDNIGHT_NS
                    found.append((session.date, SourceBar(symbol, start, o, h, low, c, v, 0, (h + low + c) / 3)))
            found.sort(key=lambda row: row[0])
            self._daily[symbol] = found
        return found

    def _recorded_days(self, symbol: str) -> list[tuple[str, SourceBar]]:
        path, rejected = self._folder.root / "bars/1d" / f"{symbol}.csv.gz", Rejected()
        columns = read_columns(path, "bars/1d", required=("o", "h", "l", "c", "v"), optional=(), out=rejected)
        for reason, example in rejected.first.items():
            raise ConfigurationError(str(path), f"{reason}: {example}", "correct the row or take it out")
        days = {np.datetime64(s.date).astype("datetime64[ns]").astype(np.int64): s for s in self._table.sessions}
        out = []
        rows = zip(columns.at_ns.tolist(), *(columns.numbers[n].tolist() for n in "ohlcv"), strict=True)
        for at_ns, o, h, low, c, v in rows:
            session = days.get(at_ns)
            if session is not None:
                start = session.open_ns - MIDNIGHT_NS
                out.append((session.date, SourceBar(symbol, start, o, h, low, c, int(v), 0, (h + low + c) / 3)))
        return out

    def _is_over(self, bar: SourceBar) -> bool:
        session = self._table.latest(bar.start_ns + MIDNIGHT_NS)
        return session is not None and session.close_ns <= self._now


def _by_root(symbols: Collection[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for symbol in sorted(symbols):
        found.setdefault(_root(symbol), []).append(symbol)
    return found


def _root(symbol: str) -> str:
    if not is_option(symbol):
        return symbol
    try:
        return parse_occ(symbol).root
    except RemoteError:
        return ""

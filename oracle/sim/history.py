"""A recorded day from files, served as a market: one underlying and its option chain, minute by minute.

Inputs: a data folder (gzip CSV, see ``recorded_files``), underlying, date, session table. Outputs: the ``MarketSource``
protocol. A bar or quote of the minute that starts at t is known at t + 60 s and never before; each side of an option
quote stands until it is next updated. Invariant: nothing is invented: what the files do not hold is absent; what
they cannot say (vwap, single trades) is derived as the labels state.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oracle.core.errors import ConfigurationError, ProtocolError, RemoteError
from oracle.core.instruments import OptionContract, parse_occ
from oracle.core.sessions import MINUTE_NS, NS, Session, SessionTable
from oracle.sim.noise import Floats, Ints
from oracle.sim.recorded_files import Columns, Rejected, data_file, read_columns
from oracle.sim.recorded_quotes import RecordedQuotes
from oracle.sim.source import Listing, MarketStep, Print, SourceBar, Touch

_QUOTE = ("bid", "bid_size", "ask", "ask_size")
_BAR = ("o", "h", "l", "c", "v")
_BAR_DELAY_NS = NS
_FIRST_TOUCH_NS = 5 * MINUTE_NS  # before the open
_MIDNIGHT_NS = 570 * MINUTE_NS  # 09:30 after midnight; no clock change falls on a session


class RecordedMarket:
    """One recorded day. ``rejected`` counts skipped rows by ``file kind: reason``, ``first_rejected`` shows one each.

    Raises:
        ConfigurationError: the date is not a session of the table, or a file (stock bars, stock quotes, option
            quotes) is missing or unusable. Option trades, open interest and daily bars may be absent: a label says so.
    """

    def __init__(self, data_dir: Path, underlying: str, date: str, table: SessionTable) -> None:
        session = table.on(date)
        if session is None:
            raise ConfigurationError("date", f"{date} is not a session of the calendar loaded", "choose a trading day")
        self._root, self._underlying, self._table, self._session = Path(data_dir), underlying, table, session
        self._rejects = Rejected()
        self.rejected: dict[str, int] = self._rejects.counts
        self.first_rejected: dict[str, str] = self._rejects.first
        self._labels = ["recorded", "synthetic vwap", "one print a minute", f"{underlying} {date}"]
        self._now = session.open_ns - _MIDNIGHT_NS
        self._bars = self._load_bars(session)
        self._stock = RecordedQuotes.of(self._read("quotes/1m", (), _QUOTE), (underlying,))
        self._options = self._load_options()
        self._trades = self._load_trades()
        self._listings = self._load_listings()
        self._daily = self._load_daily()
        self._earlier: dict[str, list[SourceBar]] = {}
        self._watched: frozenset[str] = frozenset()
        self._traded: frozenset[str] | None = None  # None: those of ``watch``

    @property
    def symbols(self) -> Sequence[str]:
        """The underlying."""
        return (self._underlying,)

    @property
    def sessions(self) -> Sequence[Session]:
        """The recorded session."""
        return (self._session,)

    @property
    def declared(self) -> Sequence[Mapping[str, Any]]:
        """Nothing is planted in a recorded day."""
        return ()

    @property
    def labels(self) -> Sequence[str]:
        """That it is recorded, what is derived, and which files are absent."""
        return tuple(self._labels)

    def listings(self, underlying: str, date: str) -> Sequence[Listing]:
        """Contracts quoted or with open interest on the recorded date, sorted by symbol; else none.

        ``penny_class`` is inferred: some quote below 3 dollars is off the 0.05 grid.
        """
        return self._listings if (underlying, date) == (self._underlying, self._session.date) else ()

    def watch(self, occ_symbols: Collection[str]) -> None:
        """Set the contracts whose quote changes and trades are given by ``advance``; unknown ones are ignored."""
        self._watched = frozenset(occ_symbols)

    def watch_trades(self, occ_symbols: Collection[str]) -> None:
        """Set the contracts whose trades are given by ``advance``, ``*`` for all; before, those of ``watch``."""
        self._traded = frozenset(occ_symbols)

    def advance(self, to_ns: int) -> MarketStep:
        """Move to ``to_ns`` and give what became known at each whole minute on the way, from 09:25 to the close.

        Raises:
            ProtocolError: ``to_ns`` lies before the present.
        """
        if to_ns < self._now:
            raise ProtocolError(f"the market cannot go back from {self._now} to {to_ns}")
        step = MarketStep(to_ns, [], [], [], [], [], [], [], [])
        first = max(self._now + 1, self._session.open_ns - _FIRST_TOUCH_NS)
        last = min(to_ns, self._session.close_ns)
        for at_ns in range(first + -first % MINUTE_NS, last + 1, MINUTE_NS):
            self._happen(step, at_ns)
        # A vendor makes a bar from the minute's trades, so it comes after the quotes that ended the minute.
        for at_ns in range(first + (_BAR_DELAY_NS - first) % MINUTE_NS, to_ns + 1, MINUTE_NS):
            self._emit_bar(step, at_ns - _BAR_DELAY_NS)
        self._now = to_ns
        return step

    def touch(self, symbol: str) -> Touch | None:
        """The quote in force; None before the first one of the day, and for an unknown symbol."""
        quotes = self._stock if symbol == self._underlying else self._options
        return quotes.touch(symbol, min(self._now, self._session.close_ns))

    def quote_at(self, symbol: str, at_ns: int) -> Touch | None:
        """A contract's quote in force at an instant of the recorded day, whatever the market's own time is."""
        return self._options.touch(symbol, min(at_ns, self._session.close_ns))

    def last_print(self, symbol: str) -> Print | None:
        """The last minute's trade of the session so far (its close price, its whole volume), or None."""
        if symbol == self._underlying:
            known = self._known_bars()
            return self._print_of(known[-1]) if known else None
        found = [p for p in self._trades.get(symbol, ()) if p.at_ns <= self._now]
        return found[-1] if found else None

    def bars(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Sequence[SourceBar]:
        """Closed bars with start in the interval, oldest first: this session's and those of files of earlier dates.

        Raises:
            ProtocolError: the timeframe is neither ``1Min`` nor ``1Day``.
            ConfigurationError: an earlier date's file is unusable.
        """
        if timeframe not in {"1Min", "1Day"}:
            raise ProtocolError(f"timeframe {timeframe!r} is not one of 1Min, 1Day")
        if symbol != self._underlying:
            return ()
        if timeframe == "1Day":
            rows = list(self._daily)
            if self._now >= self._session.close_ns and self._bars:
                rows.append(self._day_bar(self._bars))
        else:
            rows = [*self._earlier_bars(start_ns, end_ns), *self._known_bars()]
        return [b for b in rows if start_ns <= b.start_ns <= end_ns]

    def option_bars(
        self, symbols: Collection[str], timeframe: str, start_ns: int, end_ns: int
    ) -> Mapping[str, Sequence[SourceBar]]:
        """Nothing: the files hold a closing price and a volume a minute, which make no bars of contracts."""
        del symbols, timeframe, start_ns, end_ns
        return {}

    def daily_iv(self, underlying: str) -> Sequence[tuple[str, float]]:  # noqa: ARG002 - the protocol's signature
        """Empty: the files hold no history of implied volatility."""
        return ()

    def _happen(self, step: MarketStep, at_ns: int) -> None:
        step.touches.extend(self._stock.changes(at_ns, None))
        traded = self._watched if self._traded is None else self._traded
        if self._watched and at_ns > self._session.open_ns:
            step.option_touches.extend(self._options.changes(at_ns, self._watched))
        if traded and at_ns > self._session.open_ns:
            for symbol in sorted(self._trades if "*" in traded else traded & self._trades.keys()):
                step.option_prints.extend(p for p in self._trades[symbol] if p.at_ns == at_ns)

    def _emit_bar(self, step: MarketStep, end_ns: int) -> None:
        known = self._known_bars(end_ns)
        if known and known[-1].start_ns + MINUTE_NS == end_ns:
            step.bars.append(known[-1])
            step.prints.append(self._print_of(known[-1]))
            step.daily_bars.append(self._day_bar(known))

    def _known_bars(self, at_ns: int | None = None) -> list[SourceBar]:
        now = self._now if at_ns is None else at_ns
        count = int(np.searchsorted(self._bar_ends, now, side="right"))
        return self._bars[:count]

    def _print_of(self, bar: SourceBar) -> Print:
        end = bar.start_ns + MINUTE_NS
        return Print(bar.symbol, end, bar.close, bar.volume, (end - self._session.open_ns) // MINUTE_NS, "", "")

    def _day_bar(self, bars: Sequence[SourceBar]) -> SourceBar:
        high, low, close = max(b.high for b in bars), min(b.low for b in bars), bars[-1].close
        volume = sum(b.volume for b in bars)
        start = self._session.open_ns - _MIDNIGHT_NS
        vwap = (high + low + close) / 3
        return SourceBar(self._underlying, start, bars[0].open, high, low, close, volume, 0, vwap)

    def _read(self, kind: str, required: Sequence[str], optional: Sequence[str]) -> Columns:
        path = data_file(self._root, kind, self._underlying, self._session.date)
        return read_columns(path, kind, required=required, optional=optional, out=self._rejects)

    def _load_bars(self, session: Session) -> list[SourceBar]:
        bars = self._bars_of(session)
        self._bar_ends: Ints = np.array([b.start_ns + MINUTE_NS for b in bars], dtype=np.int64)
        return bars

    def _bars_of(self, session: Session) -> list[SourceBar]:
        """Regular-session minute bars of one date's file."""
        path = data_file(self._root, "bars/1m", self._underlying, session.date)
        columns = read_columns(path, "bars/1m", required=_BAR, optional=(), out=self._rejects)
        inside = (columns.at_ns >= session.open_ns) & (columns.at_ns < session.close_ns)
        made = self._make_bars(columns.at_ns[inside], {n: v[inside] for n, v in columns.numbers.items()}, "bars/1m")
        return sorted({b.start_ns: b for b in made}.values(), key=lambda b: b.start_ns)

    def _make_bars(self, start_ns: Ints, numbers: Mapping[str, Floats], kind: str) -> list[SourceBar]:
        out = []
        rows = zip(start_ns.tolist(), *(numbers[n].tolist() for n in _BAR), strict=True)
        for start, o, h, low, c, volume in rows:
            if not 0 < low <= min(o, c) <= max(o, c) <= h:
                self._rejects.add(kind, "prices out of order", f"{start},{o},{h},{low},{c},{volume}")
                continue
            out.append(SourceBar(self._underlying, start, o, h, low, c, int(volume), 0, (h + low + c) / 3))
        return out

    def _load_options(self) -> RecordedQuotes:
        columns = self._read("options/quotes_1m", (), _QUOTE)
        inside = (columns.at_ns >= self._session.open_ns) & (columns.at_ns < self._session.close_ns)
        return RecordedQuotes.of(self._parsable(columns, inside, "options/quotes_1m"), columns.symbols)

    def _parsable(self, columns: Columns, inside: np.ndarray, kind: str) -> Columns:
        """Keep rows inside the session whose symbol is an option's; count the other symbols."""
        good = np.array([_parse(s) is not None for s in columns.symbols], dtype=bool)
        usable = good[columns.symbol] if len(columns.symbol) else np.zeros(0, dtype=bool)
        if not usable.all():
            name = columns.symbols[int(columns.symbol[np.argmin(usable)])]
            self._rejects.add(kind, "unparsable symbol", name, int(np.count_nonzero(~usable)))
        keep = usable & inside
        numbers = {n: v[keep] for n, v in columns.numbers.items()}
        return Columns(columns.at_ns[keep], numbers, columns.symbols, columns.symbol[keep])

    def _optional(self, kind: str, required: Sequence[str], label: str) -> Columns | None:
        if not data_file(self._root, kind, self._underlying, self._session.date).exists():
            self._labels.append(label)
            return None
        columns = self._read(kind, required, ())
        return self._parsable(columns, np.ones(len(columns.at_ns), dtype=bool), kind)

    def _load_trades(self) -> dict[str, list[Print]]:
        """Each contract's minutes with a trade, as one print at the minute's end."""
        out: dict[str, list[Print]] = {}
        columns = self._optional("options/trades_1m", ("c", "v"), "no option trades")
        if columns is None:
            return out
        rows = zip(
            columns.at_ns.tolist(), columns.symbol.tolist(), columns.numbers["c"].tolist(),
            columns.numbers["v"].tolist(), strict=True,
        )  # fmt: skip
        for start, i, price, size in sorted(rows):
            if self._session.open_ns <= start < self._session.close_ns:
                symbol, end = columns.symbols[i], start + MINUTE_NS
                minute = (end - self._session.open_ns) // MINUTE_NS
                trade_id = minute * 100_000 + i
                out.setdefault(symbol, []).append(Print(symbol, end, price, int(size), trade_id, "", ""))
        return out

    def _load_listings(self) -> tuple[Listing, ...]:
        interest: dict[str, int] = {}
        columns = self._optional("options/open_interest", ("open_interest",), "no open interest")
        if columns is not None:
            pairs = zip(columns.symbol.tolist(), columns.numbers["open_interest"].tolist(), strict=True)
            interest = {columns.symbols[i]: int(n) for i, n in pairs}
        before = self._table.before(self._session.date)
        day = before[-1].date if before else None
        penny = self._options.off_grid()
        out = []
        for symbol in sorted(interest.keys() | self._options.named()):
            contract = _parse(symbol)
            if contract is not None:
                figure = interest.get(symbol)
                out.append(
                    Listing(
                        symbol=symbol,
                        underlying=self._underlying,
                        expiry=contract.expiry,
                        right=contract.right.value,
                        strike_milli=contract.strike_milli,
                        open_interest=figure,
                        open_interest_date=day if figure is not None else None,
                        penny_class=penny,
                    )
                )
        return tuple(out)

    def _load_daily(self) -> list[SourceBar]:
        """Raw daily bars of sessions before the recorded one, as far as the table reaches back."""
        path = self._root / "bars/1d" / f"{self._underlying}.csv.gz"
        if not path.exists():
            self._labels.append("no earlier daily bars")
            return []
        columns = read_columns(path, "bars/1d", required=_BAR, optional=(), out=self._rejects)
        before = self._table.before(self._session.date, len(self._table.sessions))
        starts = {_utc_midnight(s.date): s.open_ns - _MIDNIGHT_NS for s in before}
        keep = np.array([t in starts for t in columns.at_ns.tolist()], dtype=bool)
        at_ns = np.array([starts[t] for t in columns.at_ns[keep].tolist()], dtype=np.int64)
        return self._make_bars(at_ns, {n: v[keep] for n, v in columns.numbers.items()}, "bars/1d")

    def _earlier_bars(self, start_ns: int, end_ns: int) -> list[SourceBar]:
        out: list[SourceBar] = []
        for session in self._table.before(self._session.date, len(self._table.sessions)):
            if session.close_ns <= start_ns or session.open_ns > end_ns:
                continue
            if session.date not in self._earlier:
                there = data_file(self._root, "bars/1m", self._underlying, session.date).exists()
                self._earlier[session.date] = self._bars_of(session) if there else []
            out.extend(self._earlier[session.date])
        return out


def _parse(symbol: str) -> OptionContract | None:
    try:
        return parse_occ(symbol)
    except RemoteError:
        return None


def _utc_midnight(date: str) -> int:
    return round(dt.datetime.fromisoformat(date).replace(tzinfo=dt.UTC).timestamp()) * NS

"""The stock and option feeds: what each subscribes to, how its messages become the core's.

Inputs: raw frames. Outputs: Bar, UpdatedBar, TradingStatus to the sink; quotes to the
conflator. Invariants: no bar is missing between the last one seen and LIVE; ``received`` counts every data message of
the connection, malformed ones too (docs/pacing.md, rule 1).
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

from oracle.alpaca import wire
from oracle.alpaca.bargate import MINUTE_NS, BarGate
from oracle.alpaca.barwatch import BarWatch, Hole
from oracle.alpaca.conflate import Conflator
from oracle.alpaca.feed import BusinessTimers, DeniedError, MessageSink, SupervisedFeed
from oracle.alpaca.fields import MalformedError
from oracle.alpaca.marketdata import MarketData
from oracle.alpaca.streams import Connection, OptionConnection, StockConnection, Undecodable
from oracle.alpaca.supervisor import Phase, Supervisor
from oracle.alpaca.tradebatch import TradeBatcher
from oracle.alpaca.translate import bar_from, quote_from, status_from, updated_bar_from
from oracle.core.errors import ConfigurationError, ProtocolError, RemoteError, TransientError
from oracle.core.marketdata import Bar
from oracle.core.sessions import NS, SessionTable
from oracle.core.vocabulary import Feed

STALE_AFTER_S = 12.0
_DATA = wire.DATA_TYPES
_DAY_NS = 86_400_000_000_000
_ARCHIVE_TRIES = 3
# A fresh bar waits for the minutes before it, which were most likely never traded: not longer than this, wall clock.
HOLE_TIMEOUT_S = 3.0
OPTION_QUOTE_LIMITS = {"basic": 200, "plus": 1000}


def denied_text(asked: Mapping[str, Collection[str]], ack: Mapping[str, Any]) -> str:
    """How an acknowledgement differs from what was asked, by channel; empty when it does not."""
    parts: list[str] = []
    for channel in sorted(asked):
        got = ack.get(channel)
        have = {item for item in got if isinstance(item, str)} if isinstance(got, list | tuple) else set()
        missing, extra = sorted(set(asked[channel]) - have), sorted(have - set(asked[channel]))
        for word, symbols in (("lacks", missing), ("has unasked", extra)):
            if symbols:
                more = f" and {len(symbols) - 5} more" if len(symbols) > 5 else ""
                parts.append(f"{channel} {word} {', '.join(symbols[:5])}{more}")
    return "; ".join(parts)


class StockFeed(SupervisedFeed):
    """Quotes, bars, updated bars and statuses of stocks. The canary is one symbol's quotes.

    A live connection can leave bars out too. The canary trades in every minute: a hole in its bars, or its bar that is
    overdue while its quotes go on, is a gap, and what is missing is fetched, as after a cut, before the feed is LIVE
    again. Another symbol's hole most likely was never traded: its own bars alone wait while the archive is asked.

    Args:
        symbols: what to subscribe to.
        history: REST bars for the back-fill.
        quotes: where stock quotes go.
        canary: the symbol whose quotes never pause in a session; must be among ``symbols``.
    """

    def __init__(
        self,
        endpoints: wire.Endpoints,
        credentials: wire.Credentials,
        *,
        symbols: Collection[str],
        table: SessionTable,
        timers: BusinessTimers,
        sink: MessageSink,
        history: MarketData,
        quotes: Conflator,
        canary: str = "SPY",
        stale_after_s: float = STALE_AFTER_S,
    ) -> None:
        if canary not in symbols:
            raise ConfigurationError("canary", f"{canary} is not subscribed", "name one of the stock symbols")
        super().__init__(Supervisor(Feed.STOCK, table, stale_after_s, f"{canary} quote"), timers, sink)
        self._url, self._credentials = endpoints.stock_stream_url, credentials
        self._symbols = tuple(sorted(set(symbols)))
        self._table, self._history, self._quotes, self._canary = table, history, quotes, canary
        self._archive_tries = 0
        self.gate = BarGate()
        self._watch = BarWatch(table, self.gate, self._symbols, canary, round(stale_after_s * NS))
        self._holes: dict[str, Hole] = {}

    async def warm_up(self, symbols: Collection[str], start_ns: int, end_ns: int) -> int:
        """Emit back-filled bars that start in [start, end]; call it before ``run``. Returns how many.

        Raises:
            TransientError: the bars could not be read.
        """
        fetched = await self._history.bars(symbols, start_ns, end_ns)
        return self._fill(fetched, self._timers.now_ns())

    def _connect(self) -> Connection:
        self.gate.hold()
        self._holes = {}  # the back-fill to come fetches them
        return StockConnection(self._url, self._credentials, self._frame)

    async def _subscribe(self, connection: Connection) -> None:
        asked = dict.fromkeys(("quotes", "bars", "updatedBars", "statuses"), self._symbols)
        ack = await self._acknowledged(lambda: connection.subscribe(asked))
        text = denied_text(asked, ack)
        if text:
            raise DeniedError(text)

    async def _backfill(self, from_ns: int | None) -> None:
        """Emit the bars since ``from_ns``, or since the oldest last bar of a symbol within a day before it.

        Right after a minute's end the archive may lack its bar while the socket's went into the cut; so the canary's
        bar of that minute must be known before the feed counts as gap-free (asked three times, then given up).
        """
        self.gate.hold()
        if from_ns is None:
            return
        lasts = [last for last in map(self.gate.last_start, self._symbols) if last is not None]
        start_ns = max(min([from_ns, *lasts]), from_ns - _DAY_NS)
        fetched = await self._history.bars(self._symbols, start_ns, self._timers.now_ns())
        now_ns = self._timers.now_ns()
        expected_ns = now_ns // MINUTE_NS * MINUTE_NS - MINUTE_NS
        session = self._table.open_at(now_ns)
        if session is not None and expected_ns >= session.open_ns and self._archive_tries < _ARCHIVE_TRIES:
            known = any(bar.symbol == self._canary and bar.start_ns >= expected_ns for bar in fetched)
            if not known and not self.gate.holds(self._canary, expected_ns):
                self._archive_tries += 1
                raise TransientError(f"the archive does not have the last minute of {self._canary} yet")
        self._archive_tries = 0
        self._fill(fetched, now_ns)

    def note_alive(self) -> None:
        """Also ask for the holes that were found, and look once a minute for bars that are overdue."""
        super().note_alive()
        if self._holes and self._connection is not None:
            # Not from the frame handler: the answer's place among the frames of one step would depend on the race.
            holes, self._holes = self._holes, {}
            self._put_job(lambda: self._fill_holes(holes))
        now_ns, phase = self._timers.now_ns(), self.supervisor.phase
        if phase not in (Phase.LIVE, Phase.DENIED) or not self.gate.is_open or not self._watch.is_due(now_ns):
            return
        for symbol, minutes in self._watch.fell_silent(now_ns):
            self._log.warning("bars_overdue", symbol=symbol, minutes=minutes)
        overdue = self._watch.overdue(now_ns)
        if overdue and phase is Phase.LIVE:
            self._miss(overdue)

    def _look_for_hole(self, bar: Bar) -> None:
        """Note minutes that are missing before this bar, and hold it back until they have been asked for."""
        hole = self._watch.hole(bar) if self.gate.is_open else None
        if hole is None:
            return
        if bar.symbol == self._canary and self.supervisor.phase is Phase.LIVE:
            self._miss(f"{(bar.start_ns - hole[0]) // MINUTE_NS} bars of {bar.symbol} did not come")
        else:
            self.gate.hold(bar.symbol)
            self._holes[bar.symbol] = hole

    async def _fill_holes(self, holes: Mapping[str, Hole]) -> None:
        """Emit what the archive has of these minutes, then the bars that waited for them, to be acted on."""
        fetched: list[Bar] = []
        try:
            async with asyncio.timeout(HOLE_TIMEOUT_S):
                first_ns, last_ns = min(first for first, _ in holes.values()), max(last for _, last in holes.values())
                fetched = await self._history.bars(holes, first_ns, last_ns)
        except (RemoteError, TimeoutError) as error:
            self._log.warning("hole_unread", symbols=sorted(holes), problem=str(error) or "no answer in time")
        if not self.gate.is_open:
            return  # the back-fill under way fetches them, and gives what waits
        missing = [b for b in fetched if b.symbol in holes and holes[b.symbol][0] <= b.start_ns <= holes[b.symbol][1]]
        for bar in (*self.gate.fill(missing, self._timers.now_ns(), holes), *self.gate.open(holes)):
            self._emit(bar)

    def _miss(self, text: str) -> None:
        """Hold bars back until what is missing has been fetched."""
        self.gate.hold()
        self._perform(self.supervisor.gap(self._timers.now_ns(), text))

    def _fill(self, fetched: list[Bar], at_ns: int) -> int:
        bars = self.gate.fill(fetched, at_ns)
        for bar in bars:
            self._emit(bar)
        return len(bars)

    def _caught_up(self) -> None:
        self._holes = {}
        for bar in self.gate.open():
            self._emit(bar)

    def _emit(self, bar: Bar) -> None:
        self.supervisor.covered(bar.start_ns)
        self._sink(self.feed, bar)

    def _on_frame(self, messages: list[Any]) -> None:
        for raw in messages:
            try:
                self._on_message(raw)
            except MalformedError as error:
                self._malformed(error)

    def _on_message(self, raw: Any) -> None:
        if not isinstance(raw, dict):
            self.received += isinstance(raw, Undecodable)
            raise MalformedError("frame", "element", f"{str(raw)[:80]!r} is not a message")
        word = raw.get("T")
        if word in _DATA:
            self.received += 1
        if word == "q":
            self._quotes.put_stock(quote_from(raw))
            if raw["S"] == self._canary:
                self._heard = True
        elif word == "b":
            offered = bar_from(raw)
            self._look_for_hole(offered)
            bar = self.gate.offer(offered)
            if bar is not None:
                self._emit(bar)
        elif word == "u":
            self._sink(self.feed, updated_bar_from(raw))
        elif word == "s":
            status = status_from(raw)
            if status is not None:
                self._sink(self.feed, status)
        elif word == "subscription":
            self._on_ack(raw)
        elif word == "error":
            self._on_error(raw)
        elif word not in _DATA and word != "success":
            self.rejections.note("frame.unknown_type", str(word)[:40])


class OptionFeed(SupervisedFeed):
    """Quotes and trades of contracts. Any subscribed contract's quote is a canary: they surround the money.

    Args:
        quotes: where option quotes go.
        trades: where option trades go; None when they are not wanted.
        limit: how many contracts the plan allows.
    """

    def __init__(
        self,
        endpoints: wire.Endpoints,
        credentials: wire.Credentials,
        *,
        table: SessionTable,
        timers: BusinessTimers,
        sink: MessageSink,
        quotes: Conflator,
        trades: TradeBatcher | None = None,
        limit: int = OPTION_QUOTE_LIMITS["plus"],
        stale_after_s: float = STALE_AFTER_S,
    ) -> None:
        super().__init__(Supervisor(Feed.OPTION, table, stale_after_s, "option quote"), timers, sink)
        self._url, self._credentials = endpoints.option_stream_url, credentials
        self._quotes, self._trades, self._limit = quotes, trades, limit
        self._channels = ("quotes",) if trades is None else ("quotes", "trades")
        self._wanted: frozenset[str] = frozenset()
        self._subscribed: frozenset[str] = frozenset()
        self.supervisor.watch(False, 0)

    @property
    def subscribed(self) -> frozenset[str]:
        """The contracts that the vendor last acknowledged."""
        return self._subscribed

    def set_option_symbols(self, symbols: Collection[str]) -> None:
        """Subscribe to exactly these contracts, on the running connection without a gap, or on the next one.

        Returns at once; ``in_flight`` is True until it is acknowledged.

        Raises:
            ProtocolError: they are more than the plan's limit.
        """
        wanted = frozenset(symbols)
        if len(wanted) > self._limit:
            raise ProtocolError(f"{len(wanted)} option contracts exceed the plan's {self._limit}")
        if wanted == self._wanted:
            return
        self._wanted = wanted
        now_ns = self._timers.now_ns()
        self._perform(self.supervisor.watch(bool(wanted), now_ns))
        self._perform(self.supervisor.changed(now_ns))

    def _connect(self) -> Connection:
        self._subscribed = frozenset()
        return OptionConnection(self._url, self._credentials, self._frame)

    async def _subscribe(self, connection: Connection) -> None:
        while self._subscribed != self._wanted:
            for adding, symbols in subscription_steps(self._subscribed, self._wanted, self._limit):
                target = self._subscribed | symbols if adding else self._subscribed - symbols
                asked = dict.fromkeys(self._channels, target)
                if adding:
                    ack = await self._acknowledged(_subscribing(connection, asked))
                else:
                    for channel in self._channels:
                        ack = await self._acknowledged(_unsubscribing(connection, channel, symbols))
                listed = ack.get("quotes")
                have = frozenset(s for s in listed if isinstance(s, str)) if isinstance(listed, list) else frozenset()
                self._subscribed = have
                text = denied_text(asked, ack)
                if text:
                    raise DeniedError(text)

    def _on_frame(self, messages: list[Any]) -> None:
        put, alive = self._quotes.put_option_raw, False
        for raw in messages:
            try:
                if type(raw) is not dict:
                    self.received += isinstance(raw, Undecodable)
                    raise MalformedError("frame", "element", f"{str(raw)[:80]!r} is not a message")
                if raw.get("T") == "q":
                    self.received += 1
                    put(raw)
                    alive = True
                else:
                    self._on_other(raw)
            except MalformedError as error:
                self._malformed(error)
        if alive:
            self._heard = True

    def _on_other(self, raw: dict[str, Any]) -> None:
        word = raw.get("T")
        if word in _DATA:
            self.received += 1
            if word == "t" and self._trades is not None:
                self._trades.put_raw(raw)
        elif word == "subscription":
            self._on_ack(raw)
        elif word == "error":
            self._on_error(raw)
        elif word != "success":
            self.rejections.note("frame.unknown_type", str(word)[:40])


def subscription_steps(have: frozenset[str], wanted: frozenset[str], limit: int) -> list[tuple[bool, frozenset[str]]]:
    """How to get from one set to another: (True, add) and (False, remove), new ones first as far as there is room.

    At no step are more than ``limit`` subscribed, and what is in both sets is never interrupted.
    """
    add, remove = wanted - have, sorted(have - wanted)
    short = max(0, len(have) + len(add) - limit)
    steps = [
        (False, frozenset(remove[:short])),
        (True, add),
        (False, frozenset(remove[short:])),
    ]
    return [step for step in steps if step[1]]


def _subscribing(connection: Connection, asked: Mapping[str, Collection[str]]) -> Callable[[], Any]:
    return lambda: connection.subscribe(asked)


def _unsubscribing(connection: Connection, channel: str, symbols: frozenset[str]) -> Callable[[], Any]:
    if not isinstance(connection, OptionConnection):
        raise DeniedError("this connection has no channels to leave")
    return lambda: connection.unsubscribe(channel, symbols)


__all__ = ["MINUTE_NS", "OptionFeed", "StockFeed", "denied_text", "subscription_steps"]

"""The feeds, the broker and the reference reads of one account, as the daemon drives them.

Inputs: effects of the core, frames of the streams. Outputs: inputs to the inbox. Invariant: ``in_flight`` counts
everything whose result is still to come, so that zero means that nothing more can arrive without time passing.
"""

import asyncio
import datetime as dt
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import structlog

from oracle.alpaca import wire
from oracle.alpaca.broker import Broker
from oracle.alpaca.conflate import Conflator
from oracle.alpaca.feeds import OptionFeed, StockFeed
from oracle.alpaca.gateway import Gateway
from oracle.alpaca.marketdata import MarketData
from oracle.alpaca.ratebudget import RateBudget
from oracle.alpaca.rest import RestClient
from oracle.alpaca.tradebatch import TradeBatcher
from oracle.alpaca.tradingfeed import TradingFeed
from oracle.core.errors import ConfigurationError, InvariantError, TransientError
from oracle.core.marketdata import ChainReadFailed, DailyIvObserved
from oracle.core.message import Message
from oracle.core.messages import Input, ReadChain, ReadOptionQuotes, SetOptionSubscription
from oracle.core.sessions import MINUTE_NS, NS, REGULAR_CLOSE_MIN, REGULAR_LENGTH_NS, Session, SessionTable
from oracle.core.vocabulary import Feed
from oracle.daemon import Effect
from oracle.edgetimers import EdgeTimers
from oracle.inbox import Inbox, Source

# Business windows are minutes, quote ages seconds: a clock this far off would misjudge both.
MAX_CLOCK_OFFSET_S = 2.0
log = structlog.get_logger("oracle.edges")
SOURCE_OF = {Feed.TRADING: Source.TRADING, Feed.STOCK: Source.STOCK, Feed.OPTION: Source.OPTION}


class Edges:
    """One account's connections. ``async with Edges(...)``; then ``warm_up``, then ``start``."""

    def __init__(
        self,
        *,
        endpoints: wire.Endpoints,
        credentials: wire.Credentials,
        table: SessionTable,
        inbox: Inbox,
        timers: EdgeTimers,
        universe: Sequence[str],
        canary: str,
        stale_after_s: float,
        option_limit: int,
        requests_per_min: int,
        reads_apart: bool,
    ) -> None:
        self._inbox = inbox
        self._timers = timers
        self._universe = tuple(universe)
        self.budget = RateBudget(requests_per_min)
        self.rest = RestClient(endpoints, credentials, self._on_headers)
        self.market_data = MarketData(self.rest)
        self.quotes = Conflator()
        self.trades = TradeBatcher(self.quotes)
        self.gateway = Gateway(self.rest, timers.now_ns)
        self.broker = Broker(self.gateway, self.budget, self._on_answer, timers.now_ns, reads_apart)
        symbols = sorted({*universe, canary})
        self.stock = StockFeed(
            endpoints,
            credentials,
            symbols=symbols,
            table=table,
            timers=timers,
            sink=self._on_message,
            history=self.market_data,
            quotes=self.quotes,
            canary=canary,
            stale_after_s=stale_after_s,
        )
        self.option = OptionFeed(
            endpoints,
            credentials,
            table=table,
            timers=timers,
            sink=self._on_message,
            quotes=self.quotes,
            # Trades of the indicative feed come a quarter of an hour late: nothing is concluded from them.
            trades=None if endpoints.option_feed == "indicative" else self.trades,
            limit=option_limit,
            stale_after_s=stale_after_s,
        )
        self.trading = TradingFeed(endpoints, credentials, table=table, timers=timers, sink=self._on_message)
        self._feeds = (self.trading, self.stock, self.option)
        for feed in self._feeds:
            feed.on_activity = inbox.changed.set
        self._tasks: set[asyncio.Task[None]] = set()
        self._reads = 0
        self._lost = 0
        self._sequence = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> "Edges":
        await self.rest.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.failed.cancel()
        await self.rest.__aexit__(None, None, None)

    # ------------------------------------------------------------------------------------------------ start-up

    async def warm_up(self, start_ns: int, end_ns: int) -> int:
        """Put back-filled bars of the universe into the inbox; returns how many.

        Raises:
            TransientError: they could not be read.
        """
        return await self.stock.warm_up(self._universe, start_ns, end_ns)

    async def read_daily_ivs(self) -> int:
        """Put the exchange's daily IVs into the inbox where it has any; returns how many."""
        found = 0
        for underlying in self._universe:
            for date, iv in await self.market_data.daily_ivs(underlying) or ():
                self._inbox.put(Source.ANSWER, DailyIvObserved(underlying, date, iv, "exchange"), self._next())
                found += 1
        return found

    async def check_clock_and_calendar(self, session: Session) -> None:
        """Compare the host's clock and our calendar with the broker's.

        Raises:
            ConfigurationError: the clock is off by more than ``MAX_CLOCK_OFFSET_S``, or the calendars disagree.
        """
        before_ns = self._timers.now_ns()
        clock = await self.market_data.clock()
        offset_s = (clock.at_ns - (before_ns + self._timers.now_ns()) / 2) / NS
        if abs(offset_s) > MAX_CLOCK_OFFSET_S:
            raise ConfigurationError(
                "system clock", f"it is {offset_s:+.1f} s off the broker's", "set it by NTP and start again"
            )
        days = await self.market_data.calendar(session.date, session.date)
        times = [(day.open, day.close) for day in days if day.date == session.date]
        close = REGULAR_CLOSE_MIN - (REGULAR_LENGTH_NS - (session.close_ns - session.open_ns)) // MINUTE_NS
        ours = ("09:30", f"{close // 60:02d}:{close % 60:02d}")
        if times != [ours]:
            raise ConfigurationError(
                "calendar", f"for {session.date} the broker says {times or 'closed'}, exchange-calendars says {ours}",
                "update exchange-calendars",
            )  # fmt: skip

    def watch(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task whose failure ends the process."""
        self._spawn(work)

    def start(self) -> None:
        """Open the feeds and begin to carry effects out."""
        for runner in (self.broker.run(), *(feed.run() for feed in self._feeds)):
            self._spawn(runner)

    # ------------------------------------------------------------------------------------- the daemon's port

    @property
    def in_flight(self) -> int:
        """Requests, connections, acknowledgements and back-fills under way."""
        return self.broker.in_flight + self._reads + sum(feed.in_flight for feed in self._feeds)

    def received(self) -> dict[str, int]:
        """Data messages received by connection id, for every open connection that has one."""
        return {feed.connection_id: feed.received for feed in self._feeds if feed.connection_id is not None}

    def send(self, effect: Effect) -> None:
        """Carry out an effect of the core."""
        if isinstance(effect, SetOptionSubscription):
            self._subscribe(effect.symbols)
        elif isinstance(effect, ReadChain):
            self._read(self._read_chain(effect, self._next()))
        elif isinstance(effect, ReadOptionQuotes):
            self._read(self._read_option_quotes(list(effect.symbols)))
        else:
            self.broker.put(self._next(), effect)

    def drain_quotes(self, at_ns: int) -> Iterable[Input]:
        """Take the conflated quotes that are due; what has been heard by now proves that the feeds are alive."""
        for feed in self._feeds:
            feed.note_alive()
        lost_before = self._lost
        # Trades first: the core judges them by the quotes that they carry, not by those that follow.
        out = [*self.trades.drain(at_ns), *self.quotes.drain(at_ns)]
        self._lost = self.trades.lost
        if self._lost > lost_before:
            log.error("option_trades_lost", trades=self._lost - lost_before)
        return out  # type: ignore[return-value]

    @property
    def malformed(self) -> Mapping[str, int]:
        """Messages that could not be used and were skipped, by where they came from."""
        counts = {feed.feed.value: feed.rejections.total for feed in self._feeds}
        counts[Feed.OPTION.value] += self.trades.lost
        return {**counts, "broker": self.market_data.rejections.total + self.gateway.rejections.total}

    def set_held(self, symbols: Iterable[str]) -> None:
        """Say which contracts are held: their quotes are never delayed."""
        self.quotes.set_held(frozenset(symbols))

    # --------------------------------------------------------------------------------------------------- inside

    def _on_message(self, feed: Feed, message: Message) -> None:
        self._inbox.put(SOURCE_OF[feed], message)  # type: ignore[arg-type]

    def _on_answer(self, sequence: int, message: Message) -> None:
        self._inbox.put(Source.ANSWER, message, sequence)  # type: ignore[arg-type]

    def _on_headers(self, headers: Any) -> None:
        self.budget.on_headers(self._timers.now_ns(), headers)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _subscribe(self, symbols: tuple[str, ...]) -> None:
        added = sorted(set(symbols) - self.option.subscribed)
        self.option.set_option_symbols(symbols)
        if added:
            # A stream says nothing of a contract until its quote changes: the present one comes by REST.
            self._read(self._read_option_quotes(added))

    async def _read_option_quotes(self, symbols: list[str]) -> None:
        try:
            touches = await self.market_data.latest_option_quotes(symbols)
        except TransientError as error:
            log.warning("option_quotes_unread", contracts=len(symbols), problem=str(error))
            return
        for touch in touches:
            self.quotes.put_option(*touch)

    async def _read_chain(self, effect: ReadChain, sequence: int) -> None:
        first, last = dt.date.fromisoformat(effect.expiry_from), dt.date.fromisoformat(effect.expiry_to)
        expiries = [(first + dt.timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
        try:
            listed = await self.market_data.option_contracts(
                effect.underlying, effect.date, expiries, effect.strike_from_usd, effect.strike_to_usd
            )
        except TransientError as error:
            failed = ChainReadFailed(effect.underlying, effect.date, str(error))
            self._inbox.put(Source.ANSWER, failed, sequence)
            return
        self.quotes.set_chain(listed)
        self._inbox.put(Source.ANSWER, listed, sequence)

    def _read(self, work: Coroutine[Any, Any, None]) -> None:
        self._reads += 1

        async def counted() -> None:
            try:
                await work
            finally:
                self._reads -= 1
                self._inbox.changed.set()

        self._spawn(counted())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that fails is a fault of ours: the process must end rather than go on half blind."""
        self._tasks.discard(task)
        if task.cancelled() or self.failed.done():
            return
        error = task.exception()
        if error is not None:
            self.failed.set_exception(error)
            self._inbox.changed.set()


def fault_of(edges: Edges) -> Callable[[], None]:
    """A check that raises what ended an edge's task, for the daemon's loop."""

    def check() -> None:
        if edges.failed.done() and not edges.failed.cancelled():
            edges.failed.result()
            raise InvariantError("an edge ended without a reason")

    return check

"""The edges of a backtest: the exchange in process, spoken to in the vendor's own words, without sockets or waiting.

Inputs: effects of the core, market steps. Outputs: inputs to the inbox. The gateway and the translation of live runs
are used on the exchange's own replies, so that the core is told the same messages. Invariant: requests are carried
out in the order of the turns that asked, at the exchange's present time; what they cause is told afterwards.
"""

import datetime as dt
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from oracle.alpaca import wire
from oracle.alpaca.conflate import Conflator
from oracle.alpaca.gateway import Gateway, fees_since_ns
from oracle.alpaca.marketdata import MarketData
from oracle.alpaca.rest import Reply, RestClient
from oracle.alpaca.tradebatch import TradeBatcher
from oracle.alpaca.translate import trade_update
from oracle.core.errors import InvariantError, TransientError
from oracle.core.instruments import parse_occ
from oracle.core.marketdata import (
    Bar,
    ChainReadFailed,
    DailyIvObserved,
    FeedChanged,
    Quote,
    TradingStatus,
    UpdatedBar,
)
from oracle.core.message import Message
from oracle.core.messages import (
    LookUpOrder,
    ReadAccount,
    ReadChain,
    ReadOptionQuotes,
    SendCancel,
    SendOrder,
    SetOptionSubscription,
)
from oracle.core.reports import AccountReported
from oracle.core.vocabulary import Feed, FeedState
from oracle.daemon import Effect
from oracle.inbox import Inbox, Source
from oracle.sim.errors import RefusedError
from oracle.sim.exchange import Exchange
from oracle.sim.rest import Call, Endpoint
from oracle.sim.rest_reference import ReferenceApi
from oracle.sim.rest_trading import TradingApi
from oracle.sim.source import MarketStep, SourceBar, Touch

IN_PROCESS = "in process"
SOURCE_OF = {Feed.TRADING: Source.TRADING, Feed.STOCK: Source.STOCK, Feed.OPTION: Source.OPTION}


class InProcessRest(RestClient):
    """The trading API answered by the exchange's own endpoints; no connection is ever opened."""

    def __init__(self, exchange: Exchange) -> None:
        endpoints = wire.one_host_endpoints("http://127.0.0.1:1", stock_feed="sip", option_feed="opra")
        super().__init__(endpoints, wire.Credentials(IN_PROCESS, IN_PROCESS))
        rows = [*TradingApi(exchange).routes(), *ReferenceApi(exchange).routes()]
        self._fixed = {(method, path): endpoint for method, path, endpoint in rows if "{" not in path}
        self._patterns: list[tuple[str, re.Pattern[str], Endpoint]] = [
            (method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), endpoint)
            for method, path, endpoint in rows
            if "{" in path
        ]

    async def trading(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Reply:
        """Answer one request of the trading API at once."""
        asked = query or {}
        endpoint, names = self._fixed.get((method, path)), {}
        if endpoint is None:
            for verb, pattern, candidate in self._patterns:
                match = pattern.fullmatch(path) if verb == method else None
                if match is not None:
                    endpoint, names = candidate, match.groupdict()
                    break
        if endpoint is None:
            return Reply(404, {"code": 40410000, "message": "endpoint not found."}, {})
        try:
            answer = endpoint(Call(names, asked, body))
        except RefusedError as refusal:
            return Reply(refusal.status, refusal.body(), {})
        return Reply(answer.status, answer.body, {})


class InProcessGateway(Gateway):
    """Orders and account reads without a wire: nothing can change between the parts of a read."""

    def __init__(self, rest: RestClient, exchange: Exchange) -> None:
        super().__init__(rest, lambda: exchange.now_ns)
        self._exchange = exchange
        self._flat: tuple[tuple[object, ...], AccountReported] | None = None

    async def read_account(self, request: ReadAccount) -> AccountReported:
        """Read account, positions, open orders and activities, each once; what cannot have changed is told again."""
        since_ns = request.fills_since_ns
        standing = self._standing(since_ns)
        if standing is None:
            return await self._read(since_ns)
        if self._flat is None or self._flat[0] != standing:
            self._flat = standing, await self._read(since_ns)
        return msgspec.structs.replace(self._flat[1], at_ns=self._exchange.now_ns, fills_since_ns=since_ns)

    def _standing(self, since_ns: int) -> tuple[object, ...] | None:
        """All that a report of a flat account rests on; None while something is held, works, or has been filled."""
        account, working = self._exchange.account, self._exchange.book.working
        done = account.activities
        if account.positions or working or (done and done[-1].at_ns > since_ns):
            return None
        first = bisect_right(done, fees_since_ns(since_ns), key=lambda activity: activity.at_ns)
        return account.cash_usd, account.last_equity_usd, len(done), first

    async def _read(self, since_ns: int) -> AccountReported:
        account = await self._rest.trading("GET", wire.ACCOUNT_PATH)
        positions = await self._rest.trading("GET", wire.POSITIONS_PATH)
        fills = await self._activities((wire.FILL_ACTIVITY,), since_ns)
        others = await self._activities(wire.NON_TRADE_ACTIVITIES, fees_since_ns(since_ns))
        return await self._report(account, positions, await self._open_orders(), [*fills, *others], since_ns)


class InProcessEdges:
    """One account's feeds and broker on an exchange of this process."""

    def __init__(self, exchange: Exchange, inbox: Inbox, universe: Sequence[str]) -> None:
        self._exchange, self._inbox = exchange, inbox
        self._universe = tuple(universe)
        rest = InProcessRest(exchange)
        self.gateway = InProcessGateway(rest, exchange)
        self.market_data = MarketData(rest)
        self.quotes = Conflator()
        # Each instant's trades are told at that instant: the next one may be minutes away.
        self.trades = TradeBatcher(self.quotes, every_ns=0)
        self._effects: list[tuple[int, Effect]] = []
        self._sequence = 0
        self._subscribed: frozenset[str] = frozenset()

    @property
    def subscribed(self) -> frozenset[str]:
        """The contracts whose quotes are told."""
        return self._subscribed

    @property
    def waiting(self) -> bool:
        """Whether effects have been taken over and not carried out."""
        return bool(self._effects)

    # ------------------------------------------------------------------------------------------- start-up

    def start(self) -> None:
        """Say that the feeds are live: an exchange in process cannot be cut off."""
        for feed in (Feed.TRADING, Feed.STOCK, Feed.OPTION):
            self._inbox.put(SOURCE_OF[feed], FeedChanged(feed, 1, FeedState.LIVE, IN_PROCESS))

    def warm_up(self, start_ns: int, end_ns: int) -> int:
        """Put back-filled bars of the universe into the inbox, by (start, symbol); returns how many."""
        source = self._exchange.source
        rows = [b for s in self._universe for b in source.bars(s, "1Min", start_ns, end_ns)]
        for row in sorted(rows, key=lambda b: (b.start_ns, b.symbol)):
            self._inbox.put(Source.STOCK, bar_of(row, backfilled=True))
        return len(rows)

    def read_daily_ivs(self) -> int:
        """Put the source's daily IVs into the inbox where it has any; returns how many."""
        found = 0
        for underlying in self._universe:
            for date, iv in self._exchange.source.daily_iv(underlying):
                self._inbox.put(Source.ANSWER, DailyIvObserved(underlying, date, iv, "exchange"), self._next())
                found += 1
        return found

    # ------------------------------------------------------------------------------------ what the market says

    def publish(self, step: MarketStep) -> None:
        """Take what happened in a market step, and what the exchange did in it."""
        for touch in step.touches:
            self.quotes.put_stock(quote_of(touch))
        put = self._inbox.put
        for status in step.statuses:
            halted = status.status_code in wire.HALT_STATUS_CODES
            put(
                Source.STOCK,
                TradingStatus(status.symbol, status.at_ns, status.status_code, status.status_message, halted),
            )
        for bar in step.bars:
            put(Source.STOCK, bar_of(bar))
        for bar in step.updated_bars:
            put(Source.STOCK, UpdatedBar(bar_of(bar)))
        # A trade is judged by the quote before it: of one instant trades are told first, as on the stream.
        for trade in step.option_prints:
            self.trades.put(trade.symbol, trade.price, trade.size, trade.at_ns, trade.exchange)
        for touch in step.option_touches:
            self._put_option(touch)
        self.flush()

    def flush(self) -> None:
        """Put the exchange's trade updates into the inbox, in order."""
        for update in self._exchange.drain():
            messages, problems = trade_update(update)
            if problems:
                raise InvariantError(f"the exchange's own update cannot be read: {problems[0]}")
            for message in messages:
                self._inbox.put(Source.TRADING, message)  # type: ignore[arg-type]

    def drain_quotes(self, at_ns: int) -> list[Message]:
        """Take the option trades of the instant and the conflated quotes that are due."""
        return [*self.trades.drain(at_ns), *self.quotes.drain(at_ns)]

    # ---------------------------------------------------------------------------------------------- effects

    def send(self, effect: Effect) -> None:
        """Take over an effect; it is carried out by ``perform``."""
        self._effects.append((self._next(), effect))

    async def perform(self) -> bool:
        """Carry out what was taken over, in order; returns whether there was anything."""
        effects, self._effects = self._effects, []
        for sequence, effect in effects:
            answer = await self._perform(effect)
            if answer is not None:
                self._inbox.put(Source.ANSWER, answer, sequence)  # type: ignore[arg-type]
        if effects:
            self.flush()
        return bool(effects)

    async def _perform(self, effect: Effect) -> Message | None:
        if isinstance(effect, SendOrder):
            return await self.gateway.submit(effect)
        if isinstance(effect, SendCancel):
            return await self.gateway.cancel(effect)
        if isinstance(effect, LookUpOrder):
            return await self.gateway.look_up(effect)
        if isinstance(effect, ReadAccount):
            return await self.gateway.read_account(effect)
        if isinstance(effect, ReadChain):
            return await self._read_chain(effect)
        if isinstance(effect, ReadOptionQuotes):
            self._read_option_quotes(effect.symbols)
            return None
        self._subscribe(effect)
        return None

    async def _read_chain(self, effect: ReadChain) -> Message:
        try:
            listed = await self.market_data.option_contracts(
                effect.underlying, effect.date, _days(effect.expiry_from, effect.expiry_to),
                effect.strike_from_usd, effect.strike_to_usd,
            )  # fmt: skip
        except TransientError as error:
            return ChainReadFailed(effect.underlying, effect.date, str(error))
        self.quotes.set_chain(listed)
        return listed

    def _subscribe(self, effect: SetOptionSubscription) -> None:
        wanted = frozenset(effect.symbols)
        added = sorted(wanted - self._subscribed)
        self._subscribed = wanted
        source = self._exchange.source
        source.watch(wanted)
        # On the indicative feed nothing is concluded from trades: none are made.
        source.watch_trades(wanted if self._exchange.config.plan == "plus" else ())
        for root in sorted({parse_occ(symbol).root for symbol in added}):
            # Where no contract was watched, the stock's own quote may not have been told either.
            stock = source.touch(root)
            if stock is not None:
                self.quotes.put_stock(quote_of(stock))
        # A stream says nothing of a contract until its quote changes: the present one is read.
        self._read_option_quotes(added)

    def _read_option_quotes(self, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            touch = self._exchange.source.touch(symbol)
            if touch is not None:
                self._put_option(touch)

    def _put_option(self, touch: Touch) -> None:
        bid = 0.0 if touch.bid is None else touch.bid
        ask = 0.0 if touch.ask is None else touch.ask
        self.quotes.put_option(touch.symbol, bid, touch.bid_size, ask, touch.ask_size, touch.at_ns)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence


def bar_of(bar: SourceBar, backfilled: bool = False) -> Bar:
    """A source's bar as the core's."""
    return Bar(
        bar.symbol, bar.start_ns, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades, bar.vwap, backfilled
    )


def quote_of(touch: Touch) -> Quote:
    """A source's stock quote as the core's."""
    return Quote(touch.symbol, touch.at_ns, touch.bid, touch.bid_size, touch.ask, touch.ask_size)


def _days(first: str, last: str) -> list[str]:
    day, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    return [(day + dt.timedelta(days=n)).isoformat() for n in range((end - day).days + 1)]

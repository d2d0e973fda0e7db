"""What the tests of the Alpaca edge share: clocks, a paced client, and servers that misbehave on purpose."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgpack
from aiohttp import WSMsgType, web

from oracle.alpaca import wire
from oracle.alpaca.conflate import Conflator
from oracle.alpaca.feed import SupervisedFeed
from oracle.alpaca.feeds import OptionFeed, StockFeed
from oracle.alpaca.fields import rfc3339_ns, rfc3339_text
from oracle.alpaca.gateway import Gateway
from oracle.alpaca.marketdata import MarketData
from oracle.alpaca.rest import RestClient
from oracle.alpaca.tradingfeed import TradingFeed
from oracle.core.marketdata import Bar, FeedChanged
from oracle.core.message import Message
from oracle.core.sessions import NS, Session, SessionTable
from oracle.core.vocabulary import Feed, FeedState
from oracle.sim.config import ExchangeConfig
from oracle.sim.server import serve
from tests.protocol.scripted_source import ScriptedSource, make_sessions

CREDENTIALS = wire.Credentials("SIMKEY", "SIMSECRET")
OPEN_NS = make_sessions(1)[0].open_ns
TABLE = SessionTable(make_sessions(4))


class ManualTimers:
    """A clock that stands still until a test moves it."""

    def __init__(self, at_ns: int = OPEN_NS + 600 * NS) -> None:
        self.at_ns = at_ns
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._next = 0

    def now_ns(self) -> int:
        return self.at_ns

    def call_at(self, at_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        self._next += 1
        number = self._next
        heapq.heappush(self._heap, (at_ns, number, callback))
        return lambda: self._cancelled.add(number)

    def next_ns(self) -> int | None:
        while self._heap and self._heap[0][1] in self._cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def advance_to(self, at_ns: int) -> None:
        """Move to an instant; due timers fire in order, each at its own instant."""
        while True:
            due_ns = self.next_ns()
            if due_ns is None or due_ns > at_ns:
                break
            self.at_ns = max(self.at_ns, due_ns)
            heapq.heappop(self._heap)[2]()
        self.at_ns = max(self.at_ns, at_ns)

    def advance(self, seconds: float) -> None:
        self.advance_to(self.at_ns + round(seconds * NS))


class Heard:
    """Everything a sink was told, with a way to await the next of a kind."""

    def __init__(self) -> None:
        self.all: list[tuple[Feed, Message]] = []
        self._changed = asyncio.Event()

    def __call__(self, feed: Feed, message: Message) -> None:
        self.all.append((feed, message))
        self._changed.set()

    def of(self, kind: type[Message]) -> list[Any]:
        return [m for _, m in self.all if isinstance(m, kind)]

    def states(self, feed: Feed) -> list[FeedState]:
        return [m.state for f, m in self.all if f is feed and isinstance(m, FeedChanged)]

    def last_reason(self, feed: Feed) -> str:
        return next((m.reason for f, m in reversed(self.all) if f is feed and isinstance(m, FeedChanged)), "")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition over what was heard holds."""
        async with asyncio.timeout(8):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def state(self, feed: Feed, state: FeedState, count: int = 1) -> None:
        await self.until(lambda: self.states(feed).count(state) >= count)


@asynccontextmanager
async def running(*feeds: SupervisedFeed) -> AsyncIterator[None]:
    """Run feeds as the daemon would; a fault of ours in one fails the test."""
    tasks = [asyncio.create_task(feed.run()) for feed in feeds]
    try:
        yield
    finally:
        faults = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert faults == []


class Edge:
    """All parts of the edge against one host, wired as the daemon wires them."""

    def __init__(
        self, root_url: str, rest: RestClient, timers: Any, table: SessionTable = TABLE, **options: Any
    ) -> None:
        self.heard, self.timers, self.rest = Heard(), timers, rest
        self.endpoints = wire.one_host_endpoints(root_url)
        self.quotes = Conflator()
        self.data = MarketData(rest)
        self.gateway = Gateway(rest, timers.now_ns)
        common: dict[str, Any] = {"table": table, "timers": timers, "sink": self.heard}
        symbols = options.get("symbols", ("QQQ", "SPY"))
        self.stock = StockFeed(
            self.endpoints, CREDENTIALS, symbols=symbols, history=self.data, quotes=self.quotes, **common
        )
        self.option = OptionFeed(
            self.endpoints, CREDENTIALS, quotes=self.quotes, limit=options.get("limit", 1000), **common
        )
        self.trading = TradingFeed(self.endpoints, CREDENTIALS, **common)
        self.feeds = (self.stock, self.option, self.trading)

    def bars(self) -> list[Bar]:
        return self.heard.of(Bar)


@asynccontextmanager
async def edge_at(root_url: str, timers: Any | None = None, **options: Any) -> AsyncIterator[Edge]:
    """An edge to a host; times out quickly, since everything is on loopback."""
    timeouts = {"connect_timeout_s": 1.0, "total_timeout_s": options.pop("total_timeout_s", 3.0)}
    async with RestClient(wire.one_host_endpoints(root_url), CREDENTIALS, **timeouts) as rest:
        yield Edge(root_url, rest, timers or ManualTimers(), **options)


# -------------------------------------------------------------------------------------------------- the exchange


class PacedEdge(Edge):
    """An edge in step with the embedded exchange, as the daemon keeps step: quiescent before ``handled``."""

    socket: aiohttp.ClientWebSocketResponse
    _owed: int | None = None

    async def step(self) -> dict[str, Any]:
        """Answer what is outstanding, take the next step, and handle it."""
        if self._owed is None:
            await self.socket.send_json({"type": "ready"})
        else:
            await self._answer()
        while True:
            message = await self.socket.receive_json(timeout=5)
            if message["type"] == "end":
                return message
            self._owed = message["n"]
            await self._handle(message)
            if message["type"] == "step":
                return message
            await self._answer()

    async def _answer(self) -> None:
        received = {feed.connection_id: feed.received for feed in self.feeds if feed.connection_id is not None}
        say = {"type": "handled", "n": self._owed, "received": received, "next_timer_ns": self.timers.next_ns()}
        await self.socket.send_json(say)

    async def _handle(self, message: dict[str, Any]) -> None:
        self.timers.advance_to(message["at_ns"])
        async with asyncio.timeout(8):
            while any(f.in_flight for f in self.feeds) or not self._counted(message["sent"]):  # noqa: ASYNC110
                await asyncio.sleep(0)

    def _counted(self, sent: dict[str, int]) -> bool:
        mine = {feed.connection_id: feed.received for feed in self.feeds}
        return all(mine[name] == count for name, count in sent.items() if name in mine)

    async def until(self, at_ns: int) -> None:
        while self.timers.now_ns() < at_ns:
            await self.step()


@asynccontextmanager
async def exchange_edge(sessions: tuple[Session, ...] | None = None, **options: Any) -> AsyncIterator[PacedEdge]:
    """A real exchange on this loop, held until stepped, and an edge to it."""
    days = sessions or make_sessions(1)
    table = SessionTable(days if len(days) > 1 else [*days, make_sessions(4)[-1]])
    config = ExchangeConfig(key=CREDENTIALS.key, secret=CREDENTIALS.secret, hold=True, **options.pop("config", {}))
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    source = ScriptedSource(days)
    task = asyncio.create_task(serve(config, source, table, ready.set_result))
    try:
        url = f"http://127.0.0.1:{await asyncio.wait_for(ready, 5)}"
        timers = ManualTimers(days[0].open_ns - 600 * NS)
        async with RestClient(wire.one_host_endpoints(url), CREDENTIALS) as rest, aiohttp.ClientSession() as http:
            edge = PacedEdge(url, rest, timers, table, **options)
            edge.source = source  # type: ignore[attr-defined]
            edge.socket = await http.ws_connect(url.replace("http", "ws") + "/pacing")
            hello = {"type": "hello", "key": CREDENTIALS.key, "secret": CREDENTIALS.secret, "speed": 0}
            await edge.socket.send_json(hello)
            welcome = await edge.socket.receive_json(timeout=5)
            timers.advance_to(welcome["at_ns"])
            yield edge
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# ----------------------------------------------------------------------------------------------- misbehaving servers

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(*routes: tuple[str, str, Handler]) -> AsyncIterator[str]:
    """A small HTTP server with the given routes; yields its root URL."""
    app = web.Application()
    for method, path, handler in routes:
        app.router.add_route(method, path, handler)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Archive:
    """REST bars of a test: ``rows[symbol]`` are served in pages of two when asked for."""

    def __init__(self) -> None:
        self.rows: dict[str, list[int]] = {}
        self.asked: list[dict[str, str]] = []
        self.failures = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        if self.failures > 0:
            self.failures -= 1
            return web.Response(status=503, text="<html>busy</html>", content_type="text/html")
        start, end = (rfc3339_ns(request.query[name], "query", name) for name in ("start", "end"))
        wanted = request.query["symbols"].split(",")
        found = [(s, at) for s in wanted for at in self.rows.get(s, []) if start <= at <= end]
        first = int(request.query.get("page_token", 0))
        bars: dict[str, list[dict[str, Any]]] = {}
        for symbol, at in found[first : first + 2]:
            bars.setdefault(symbol, []).append(rest_bar(at))
        token = str(first + 2) if first + 2 < len(found) else None
        return web.json_response({"bars": bars, "next_page_token": token})


class StreamDouble:
    """A market-data stream whose every answer a test chooses.

    ``auth`` answers the authentication; ``ack`` maps a subscription to its answer (None: silence); ``opened`` runs
    after each acknowledgement with the live socket.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.open = 0
        self.asked: list[dict[str, Any]] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.auth: list[dict[str, Any]] = [{"T": "success", "msg": "authenticated"}]
        self.current: dict[str, set[str]] = {}
        self.answer: Callable[[dict[str, Any]], Any] = self.full_ack
        self.refuse_upgrade: int | None = None
        self.pongs = True

    def full_ack(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        for channel, symbols in message.items():
            if channel != "action":
                have = self.current.setdefault(channel, set())
                have.update(symbols) if message["action"] == "subscribe" else have.difference_update(symbols)
        return [{"T": "subscription", **{channel: sorted(have) for channel, have in self.current.items()}}]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.refuse_upgrade is not None:
            return web.Response(status=self.refuse_upgrade, text="no")
        socket = web.WebSocketResponse(compress=False, autoping=self.pongs)
        await socket.prepare(request)
        self.connections += 1
        self.open += 1
        self.current = {}
        self.sockets.append(socket)
        try:
            await self.send([{"T": "success", "msg": "connected"}])
            async for message in socket:
                if message.type is not WSMsgType.BINARY:
                    continue
                said = msgpack.unpackb(message.data)
                if said["action"] == "auth":
                    await self.send(self.auth)
                    continue
                self.asked.append(said)
                answer = self.answer(said)
                if answer is not None:
                    await self.send(answer)
        finally:
            self.open -= 1
        return socket

    async def send(self, messages: Any) -> None:
        """Send one frame on the newest connection."""
        await self.sockets[-1].send_bytes(msgpack.packb(messages))

    async def cut(self) -> None:
        """Break the newest connection without a close frame."""
        transport = self.sockets[-1]._req.transport  # type: ignore[union-attr]
        transport.abort()


def wire_time(at_ns: int) -> msgpack.Timestamp:
    """A msgpack timestamp of an instant."""
    return msgpack.Timestamp(at_ns // NS, at_ns % NS)


def quote(symbol: str, at_ns: int, bid: float = 600.0, ask: float = 600.02) -> dict[str, Any]:
    """A raw stock or option quote."""
    return {"T": "q", "S": symbol, "bp": bid, "bs": 3, "ap": ask, "as": 2, "t": wire_time(at_ns)}


def bar(symbol: str, start_ns: int, close: float = 600.0) -> dict[str, Any]:
    """A raw minute bar."""
    prices = {"o": close, "h": close + 1, "l": close - 1, "c": close, "v": 100, "n": 3, "vw": close}
    return {"T": "b", "S": symbol, **prices, "t": wire_time(start_ns)}


def rest_bar(start_ns: int, close: float = 600.0) -> dict[str, Any]:
    """A bar as REST gives it."""
    raw = bar("", start_ns, close)
    return {**{k: raw[k] for k in ("o", "h", "l", "c", "v", "n", "vw")}, "t": rfc3339_text(start_ns)}

"""The trade-update stream over real sockets: logins, acknowledgements, updates that cannot be read."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from oracle.core.reports import ExecutionReported, OrderReported, StructureExecuted
from oracle.core.vocabulary import BrokerEvent, Feed, FeedState
from tests.protocol.edge_fixtures import Edge, edge_at, running, serving
from tests.protocol.test_feeds import LIFE, settle
from tests.unit.test_alpaca_translate import FILL, MLEG

AUTHORIZED = {"stream": "authorization", "data": {"status": "authorized", "action": "authenticate"}}
LISTENING = {"stream": "listening", "data": {"streams": ["trade_updates"]}}


class TradeDouble:
    """A trade-update stream that answers the login and the listen message as a test chooses."""

    def __init__(self) -> None:
        self.login: Any = AUTHORIZED
        self.listening: Any = LISTENING
        self.binary = True
        self.open = 0
        self.socket: web.WebSocketResponse | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.socket = web.WebSocketResponse(compress=False)
        await self.socket.prepare(request)
        self.open += 1
        try:
            async for message in self.socket:
                if message.type is WSMsgType.TEXT:
                    action = json.loads(message.data)["action"]
                    await self.send(self.login if action == "authenticate" else self.listening)
        finally:
            self.open -= 1
        return self.socket

    async def send(self, message: Any) -> None:
        assert self.socket is not None
        text = message if isinstance(message, str) else json.dumps(message)
        await (self.socket.send_bytes(text.encode()) if self.binary else self.socket.send_str(text))

    async def update(self, data: Any) -> None:
        await self.send({"stream": "trade_updates", "data": data})


@asynccontextmanager
async def trading() -> AsyncIterator[tuple[TradeDouble, Edge]]:
    double = TradeDouble()
    async with serving(("GET", "/stream", double.handle)) as url, edge_at(url) as edge:
        yield double, edge


@pytest.mark.parametrize("binary", [True, False])
async def test_updates_come_as_reports_and_executions(binary: bool) -> None:
    async with trading() as (double, edge), running(edge.trading):
        double.binary = binary
        await edge.heard.state(Feed.TRADING, FeedState.LIVE)
        assert edge.heard.states(Feed.TRADING) == LIFE
        await double.update(FILL)
        await double.update(MLEG)
        await double.update({**FILL, "event": "brand_new"})
        await edge.heard.until(lambda: len(edge.heard.of(OrderReported)) == 3)
        assert [e.execution_id for e in edge.heard.of(ExecutionReported)] == ["exec-1"]
        (together,) = edge.heard.of(StructureExecuted)
        assert [leg.execution_id for leg in together.legs] == ["x-a", "x-b"]
        assert edge.heard.of(OrderReported)[-1].event is BrokerEvent.UNKNOWN_EVENT
        assert edge.trading.received == 3


async def test_an_update_that_cannot_be_read_asks_for_the_account_again() -> None:
    async with trading() as (double, edge), running(edge.trading):
        await edge.heard.state(Feed.TRADING, FeedState.LIVE)
        await double.update({**FILL, "order": {"id": "x"}})
        await edge.heard.state(Feed.TRADING, FeedState.LIVE, 2)
        assert "could not be read" in edge.heard.last_reason(Feed.TRADING)
        await double.update({**FILL, "price": "abc"})
        await edge.heard.state(Feed.TRADING, FeedState.LIVE, 3)
        assert [type(m) for _, m in edge.heard.all if isinstance(m, OrderReported | ExecutionReported)] == [
            OrderReported
        ]
        await double.update(FILL)
        await edge.heard.until(lambda: len(edge.heard.of(ExecutionReported)) == 1)
        assert edge.trading.received == 3
        assert edge.trading.rejections.total == 2


async def test_frames_that_are_not_messages_are_counted() -> None:
    async with trading() as (double, edge), running(edge.trading):
        await edge.heard.state(Feed.TRADING, FeedState.LIVE)
        for junk in ("not json", [1], {"stream": "news"}, {"stream": "listening"}):
            await double.send(junk)
        await double.update(FILL)
        await edge.heard.until(lambda: len(edge.heard.of(OrderReported)) == 1)
        assert edge.trading.rejections.total == 4
        # What cannot be decoded may have been a fill: it counts as a message, and the account is read.
        assert edge.trading.received == 2
        assert edge.heard.states(Feed.TRADING).count(FeedState.LIVE) == 2


@pytest.mark.parametrize(
    ("login", "words"),
    [
        ({"stream": "authorization", "data": {"status": "unauthorized", "action": "authenticate"}}, "credentials"),
        ({"action": "error", "data": {"error_message": "connection limit exceeded"}}, "connection_limit"),
        ({"stream": "authorization"}, "credentials"),
        ({"data": None}, "credentials"),
        ("not json", "protocol"),
        ([], "credentials"),
    ],
)
async def test_a_refused_login(login: Any, words: str) -> None:
    async with trading() as (double, edge), running(edge.trading):
        double.login = login
        await edge.heard.state(Feed.TRADING, FeedState.DOWN)
        assert edge.heard.last_reason(Feed.TRADING).startswith(words)
        await settle(lambda: double.open == 0)


@pytest.mark.parametrize(
    "answer", [{"stream": "listening", "data": {"streams": []}}, {"stream": "listening", "data": 5}]
)
async def test_a_stream_that_was_not_granted(answer: Any) -> None:
    async with trading() as (double, edge), running(edge.trading):
        double.listening = answer
        await edge.heard.state(Feed.TRADING, FeedState.DOWN)
        assert "streams lacks trade_updates" in edge.heard.last_reason(Feed.TRADING)


async def test_an_error_ends_the_connection() -> None:
    async with trading() as (double, edge), running(edge.trading):
        await edge.heard.state(Feed.TRADING, FeedState.LIVE)
        await double.send({"action": "error", "data": {"error_message": "internal"}})
        await edge.heard.state(Feed.TRADING, FeedState.DOWN)
        assert "internal" in edge.heard.last_reason(Feed.TRADING)
        await settle(lambda: double.open == 0 and not edge.trading.in_flight)
        edge.timers.advance(60)
        await edge.heard.state(Feed.TRADING, FeedState.LIVE, 2)

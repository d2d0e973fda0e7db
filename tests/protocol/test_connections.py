"""A connection of alpaca-py's, driven by itself: what its consumer is told, over a real socket."""

import asyncio
from typing import Any

import pytest

from oracle.alpaca.streams import StockConnection
from oracle.core.errors import ProtocolError
from tests.protocol.edge_fixtures import CREDENTIALS, OPEN_NS, StreamDouble, quote, serving


async def test_a_fault_of_the_handler_is_raised_as_what_it_is() -> None:
    double = StreamDouble()

    def broken(_messages: list[Any]) -> None:
        raise ProtocolError("ours")

    async with serving(("GET", "/v2/sip", double.handle)) as url:
        connection = StockConnection(url.replace("http", "ws", 1) + "/v2/sip", CREDENTIALS, broken)
        await connection.open()
        consuming = asyncio.create_task(connection.consume())
        await double.send([quote("SPY", OPEN_NS)])
        with pytest.raises(ProtocolError, match="ours"):
            await consuming
        await connection.shut()


async def test_a_consumer_that_was_cancelled_is_told_nothing_more() -> None:
    double, told = StreamDouble(), []
    first = asyncio.Event()

    def take(messages: list[Any]) -> None:
        told.extend(messages)
        first.set()

    async with serving(("GET", "/v2/sip", double.handle)) as url:
        connection = StockConnection(url.replace("http", "ws", 1) + "/v2/sip", CREDENTIALS, take)
        await connection.open()
        consuming = asyncio.create_task(connection.consume())
        await double.send([quote("SPY", OPEN_NS)])
        await first.wait()
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        await double.send([quote("QQQ", OPEN_NS)])
        # The next frame is in the library's queue, which nobody reads any more.
        assert await connection._ws.recv()
        await connection.shut()
    assert [message["S"] for message in told] == ["SPY"]

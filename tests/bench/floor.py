"""The floor: the least a Python process does between a bar's frame and an order's POST, and nothing else.

Inputs: the broker's address and a key. It holds one stock websocket and kept-alive raw connections, decodes each
frame with msgpack, and for a bar writes one HTTP/1.1 request that was built by hand. With a folder it first commits
one small row to SQLite (WAL, synchronous=FULL). ``--burst N``: a bar makes N orders; each connection sends its next
when its last has been answered, as a client must that wants to know which of its orders exist.
"""

import argparse
import asyncio
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgpack
import orjson
import websockets.asyncio.client

ORDER = {
    "symbol": "SPY260109C00600000", "qty": "1", "side": "buy", "type": "limit", "time_in_force": "day",
    "position_intent": "buy_to_open", "limit_price": "5.02",
}  # fmt: skip


class RawHttp(asyncio.Protocol):
    """One kept-alive connection that knows only how to send an order and whom to tell of the answer."""

    def __init__(self, head: bytes, on_answer: Callable[["RawHttp"], None]) -> None:
        self._head = head
        self._left = b""
        self._transport: asyncio.Transport | None = None
        self._on_answer = on_answer

    def connection_made(self, transport: Any) -> None:
        """Keep the transport; small writes leave at once."""
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, number: int) -> None:
        """Write one request."""
        body = orjson.dumps({**ORDER, "client_order_id": f"floor-{number}"})
        assert self._transport is not None
        self._transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body))

    def data_received(self, data: bytes) -> None:
        """See whether the answer is whole."""
        self._left += data
        head, found, rest = self._left.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        if len(rest) >= length:
            self._left = rest[length:]
            self._on_answer(self)


class Committer:
    """One raw SQLite connection that commits one small row."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "floor.db", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS sent (n INTEGER PRIMARY KEY, body TEXT)")

    def commit(self, number: int) -> None:
        """One transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("INSERT INTO sent VALUES (?, ?)", (number, "one small row"))
        self._db.execute("COMMIT")


class Floor:
    """What is done for each frame."""

    def __init__(self, committer: Committer | None, burst: int) -> None:
        self.connections: list[RawHttp] = []
        self._committer = committer
        self._burst = burst
        self._number = self._last = 0

    def on_frame(self, frame: bytes) -> None:
        """Take a frame; when it was a bar, one order has left on each connection when this returns."""
        if not any(message["T"] == "b" for message in msgpack.unpackb(frame)):
            return
        if self._committer is not None:
            self._committer.commit(self._number)
        self._last = self._number + self._burst
        for connection in self.connections:
            self.post(connection)

    def post(self, connection: RawHttp) -> None:
        """Send the bar's next order on a connection that is free; nothing when all have left."""
        if self._number < self._last:
            self._number += 1
            connection.post(self._number)


async def run(url: str, key: str, library: str, state: Path | None, burst: int, connections: int) -> None:
    """Be a floor until killed."""
    host = urlsplit(url)
    head = (
        f"POST /v2/orders HTTP/1.1\r\nHost: {host.netloc}\r\nAPCA-API-KEY-ID: {key}\r\nAPCA-API-SECRET-KEY: secret\r\n"
        "Content-Type: application/json\r\n"
    ).encode()
    floor, loop = Floor(None if state is None else Committer(state), burst), asyncio.get_running_loop()
    for _ in range(connections):
        _, http = await loop.create_connection(lambda: RawHttp(head, floor.post), host.hostname, host.port)
        floor.connections.append(http)
    stream = f"ws://{host.netloc}/v2/iex"
    hello = [{"action": "auth", "key": key, "secret": "secret"}, {"action": "subscribe", "bars": ["SPY", "QQQ", "IWM"]}]
    if library == "websockets":
        async with websockets.asyncio.client.connect(stream, compression=None, ping_interval=None) as socket_:
            for said in hello:
                await socket_.send(msgpack.packb(said))
            async for frame in socket_:
                assert isinstance(frame, bytes)
                floor.on_frame(frame)
    else:
        async with aiohttp.ClientSession() as session, session.ws_connect(stream, compress=0) as stock:
            for said in hello:
                await stock.send_bytes(msgpack.packb(said))
            async for message in stock:
                floor.on_frame(message.data)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--library", choices=("aiohttp", "websockets"), default="aiohttp")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--connections", type=int, default=1)
    asked = parser.parse_args()
    asyncio.run(run(asked.url, asked.key, asked.library, asked.state, asked.burst, asked.connections))


if __name__ == "__main__":
    main()

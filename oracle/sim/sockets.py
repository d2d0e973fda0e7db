"""Websocket connections of the exchange: one place through which everything sent passes.

Inputs: encoded frames and trade updates. Outputs: frames on sockets, counts of data messages per connection
(docs/pacing.md rule 1). Invariants: per-socket order; nothing waits for a reader: one whose unread bytes exceed the
limit gets 407 and is cut off.
"""

import asyncio
from collections import deque
from typing import Any

import msgspec
import structlog
from aiohttp import web

from oracle.sim.config import ExchangeConfig
from oracle.sim.exchange import Exchange
from oracle.sim.feed_wire import FRAME_MESSAGES, Codec, option_messages, select, stock_messages
from oracle.sim.source import MarketStep

log = structlog.get_logger(__name__)
_JSON = msgspec.json.Encoder()
CUT_OFF_S = 5.0


class Connection:
    """One websocket: its id, what it is for, and how many data messages it was sent."""

    __slots__ = ("closed", "codec", "id", "kind", "path", "ready", "sent", "transport", "wanted", "ws")

    def __init__(self, id_text: str, kind: str, path: str, ws: web.WebSocketResponse, codec: Codec) -> None:
        self.id = id_text
        self.kind = kind
        self.path = path
        self.ws = ws
        self.codec = codec
        self.transport: asyncio.Transport | None = None
        self.wanted: dict[str, set[str]] = {}
        self.ready = False
        self.closed = False
        self.sent = 0


class Hub:
    """All open connections. ``kind`` is ``stock``, ``option``, ``trade`` or ``pacing``."""

    def __init__(self, config: ExchangeConfig, exchange: Exchange) -> None:
        self._config = config
        self._exchange = exchange
        self._connections: dict[str, Connection] = {}
        self._opened: dict[str, int] = {}
        self._pending: deque[bytes] = deque()

    async def open(self, request: web.Request, kind: str, codec: Codec) -> Connection:
        """Upgrade a request and register the connection; its id is in the reply's ``X-Connection-Id``."""
        number = self._opened[kind] = self._opened.get(kind, 0) + 1
        ws = web.WebSocketResponse(compress=False, max_msg_size=self._config.max_body_bytes)
        connection = Connection(f"{kind}-{number}", kind, request.path, ws, codec)
        ws.headers["X-Connection-Id"] = connection.id
        await ws.prepare(request)
        transport = request.transport
        if isinstance(transport, asyncio.Transport):
            # Above the cut-off, so that a send never waits: the cut-off decides first.
            transport.set_write_buffer_limits(high=self._config.slow_client_bytes * 4)
            connection.transport = transport
        self._connections[connection.id] = connection
        return connection

    def forget(self, connection: Connection) -> None:
        """Drop a closed connection and stop watching what only it wanted."""
        connection.closed = True
        self._connections.pop(connection.id, None)
        if connection.kind == "option":
            self.watch_options()

    def is_taken(self, connection: Connection) -> bool:
        """Whether another authenticated connection uses the same path (limit 1 per endpoint)."""
        return any(c.path == connection.path and c.ready and c is not connection for c in self._of(connection.kind))

    def counts(self) -> dict[str, int]:
        """Data messages sent so far on every open data and trade-update connection."""
        return {c.id: c.sent for c in self._connections.values() if c.kind != "pacing"}

    def watch_options(self) -> None:
        """Tell the source which contracts' quotes anybody wants."""
        wanted: set[str] = set()
        for connection in self._of("option"):
            wanted |= connection.wanted.get("quotes", set())
        self._exchange.source.watch(sorted(wanted))

    async def publish(self, step: MarketStep) -> None:
        """Send a step's market data: stock connections first, then option connections."""
        for kind, encode in (("stock", stock_messages), ("option", option_messages)):
            coded: dict[bool, Any] = {}
            for connection in self._of(kind):
                if not connection.wanted:
                    continue
                codec = connection.codec
                if codec.is_text not in coded:
                    coded[codec.is_text] = encode(step, codec)
                messages = select(coded[codec.is_text], connection.wanted)
                for start in range(0, len(messages), FRAME_MESSAGES):
                    part = messages[start : start + FRAME_MESSAGES]
                    await self.send(connection, codec.join(part), len(part))

    async def flush(self) -> None:
        """Send trade updates that the exchange has produced, in order, to everyone who listens."""
        for update in self._exchange.drain():
            self._pending.append(_JSON.encode({"stream": "trade_updates", "data": update}))
        while self._pending:
            payload = self._pending.popleft()
            for connection in self._of("trade"):
                if connection.wanted:
                    await self.send(connection, payload, 1)

    async def control(self, connection: Connection, message: Any) -> None:
        """Send a control message: alone in an array on data sockets, bare on the trade-update stream."""
        if connection.kind == "trade":
            await self.send(connection, _JSON.encode(message), 0)
        else:
            await self.send(connection, connection.codec.join([connection.codec.encode(message)]), 0)

    async def send(self, connection: Connection, payload: bytes, messages: int) -> None:
        """Send one frame and count its data messages; cut off a client that does not read."""
        if connection.closed or connection.ws.closed:
            return
        unread = 0 if connection.transport is None else connection.transport.get_write_buffer_size()
        if unread > self._config.slow_client_bytes:
            await self._cut_off(connection, unread)
            return
        connection.sent += messages
        try:
            if connection.codec.is_text and connection.kind != "trade":
                await connection.ws.send_str(payload.decode())
            else:
                await connection.ws.send_bytes(payload)
        except (ConnectionError, RuntimeError) as error:
            # The peer went away between two sends; its reader task ends and forgets the connection.
            connection.closed = True
            log.info("exchange.connection_lost", connection=connection.id, reason=str(error))

    async def _cut_off(self, connection: Connection, unread: int) -> None:
        log.warning("exchange.slow_client", connection=connection.id, unread_bytes=unread)
        transport = connection.transport
        if connection.kind in ("stock", "option"):
            message = connection.codec.encode({"T": "error", "code": 407, "msg": "slow client"})
            await connection.ws.send_bytes(connection.codec.join([message]))
        self.forget(connection)
        if transport is not None:
            transport.close()  # lets what was written drain to a reader that wakes up in time
            asyncio.get_running_loop().call_later(CUT_OFF_S, transport.abort)

    def _of(self, kind: str) -> list[Connection]:
        return [c for c in self._connections.values() if c.kind == kind]

    async def close_all(self) -> None:
        """Close every socket at shutdown."""
        for connection in list(self._connections.values()):
            await connection.ws.close(code=1001, message=b"exchange stops")

"""Websocket connections of the exchange: one place through which everything sent passes.

Inputs: encoded frames and trade updates. Outputs: frames on sockets, counts of data messages per connection
(docs/pacing.md rule 1). Invariants: per-socket order; nothing waits for a reader: one whose unread bytes exceed the
limit gets 407 and is cut off. Faults (docs/faults.md) act here, and what they keep back is not counted as sent.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from aiohttp import web

from oracle.sim.config import ExchangeConfig
from oracle.sim.exchange import Exchange
from oracle.sim.faultlines import Item, Line, close_frame, fragments, oversized, whole_frame
from oracle.sim.faultplan import OPEN_CODES, Fault
from oracle.sim.faults import Faults
from oracle.sim.feed_wire import FRAME_MESSAGES, Codec, Coded, option_messages, select, stock_messages
from oracle.sim.source import MarketStep

log = structlog.get_logger(__name__)
_JSON = msgspec.json.Encoder()
CUT_OFF_S = 5.0
# Text, so that each stream can say in its own shape why it refuses or ends.
STREAM_ERRORS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    409: "insufficient subscription",
    410: "invalid subscribe action for this feed",
    411: "insufficient scope",
    412: "option messages are only available in MsgPack format",
    413: "star subscription is not allowed for option quotes",
    500: "internal error",
}


class Connection:
    """One websocket: its id, what it is for, and how many data messages it was sent."""

    __slots__ = ("closed", "codec", "id", "kind", "line", "path", "ready", "sent", "transport", "wanted", "ws")

    def __init__(self, id_text: str, kind: str, path: str, ws: web.WebSocketResponse, codec: Codec, line: Line) -> None:
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
        self.line = line

    @property
    def is_text(self) -> bool:
        """Whether its data frames are text; the trade-update stream's JSON goes in binary frames, as on paper."""
        return self.codec.is_text and self.kind != "trade"


class Hub:
    """All open connections. ``kind`` is ``stock``, ``option``, ``trade`` or ``pacing``."""

    def __init__(self, config: ExchangeConfig, exchange: Exchange, faults: Faults | None = None) -> None:
        self._config = config
        self._exchange = exchange
        self.faults = Faults(exchange) if faults is None else faults
        self._connections: dict[str, Connection] = {}
        self._opened: dict[str, int] = {}
        self._flushing = asyncio.Lock()

    async def open(self, request: web.Request, kind: str, codec: Codec) -> Connection:
        """Upgrade a request and register the connection; its id is in the reply's ``X-Connection-Id``."""
        number = self._opened[kind] = self._opened.get(kind, 0) + 1
        ws = web.WebSocketResponse(compress=False, max_msg_size=self._config.max_body_bytes)
        connection = Connection(f"{kind}-{number}", kind, request.path, ws, codec, Line(self.faults, kind))
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
        """Tell the source which contracts' quotes and trades anybody wants."""
        wanted = [connection.wanted for connection in self._of("option")]
        self._exchange.source.watch(sorted({s for rows in wanted for s in rows.get("quotes", ())}))
        self._exchange.source.watch_trades(sorted({s for rows in wanted for s in rows.get("trades", ())}))

    async def publish(self, step: MarketStep) -> None:
        """Send a step's market data: stock connections first, then option connections."""
        self._strike()
        for kind, encode in (("stock", stock_messages), ("option", option_messages)):
            coded: dict[bool, dict[str, list[Coded]]] = {}
            for connection in self._of(kind):
                if not connection.wanted:
                    continue
                codec = connection.codec
                if codec.is_text not in coded:
                    coded[codec.is_text] = encode(step, codec)
                if connection.line.idle:
                    await self._send_frames(connection, select(coded[codec.is_text], connection.wanted))
                    continue
                for frame in connection.line.shape(_items(coded[codec.is_text], connection), step.at_ns):
                    await self._send_frames(connection, [item.data for item in frame])

    async def flush(self) -> None:
        """Send trade updates that the exchange has produced, in order, to everyone who listens."""
        async with self._flushing:
            updates = [update_item(data) for data in self._exchange.drain()]
            for connection in self._of("trade"):
                if not connection.wanted or (not updates and connection.line.idle):
                    continue
                line, now_ns = connection.line, self._exchange.now_ns
                frames = [updates] if line.idle else line.shape(updates, now_ns)
                for item in [item for frame in frames for item in frame]:
                    await self.send(connection, item.data, 1)

    async def _send_frames(self, connection: Connection, messages: Sequence[bytes]) -> None:
        for start in range(0, len(messages), FRAME_MESSAGES):
            part = messages[start : start + FRAME_MESSAGES]
            await self.send(connection, connection.codec.join(part), len(part))

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
            log.warning("exchange.slow_client", connection=connection.id, unread_bytes=unread)
            self._end(connection, 407)
            return
        if messages and self._maim(connection, payload, messages):
            return
        connection.sent += messages
        try:
            if connection.is_text:
                await connection.ws.send_str(payload.decode())
            else:
                await connection.ws.send_bytes(payload)
        except (ConnectionError, RuntimeError) as error:
            # The peer went away between two sends; its reader task ends and forgets the connection.
            connection.closed = True
            log.info("exchange.connection_lost", connection=connection.id, reason=str(error))

    # ---------------------------------------------------------------------------------- faults, and the slow client

    def _strike(self) -> None:
        """Let the faults that end or disturb whole connections strike, before a step's frames."""
        for connection in list(self._connections.values()):
            if not connection.ready:
                continue
            for kind, strike in (("error", self._err), ("oversize", self._swell), ("cut", self._cut)):
                fault = self.faults.first(kind, connection.kind) if self.faults.has((kind,), connection.kind) else None
                if fault is not None:
                    strike(connection, fault)

    def _err(self, connection: Connection, fault: Fault) -> None:
        self._end(connection, fault.code, stays_open=fault.code in OPEN_CODES)

    def _swell(self, connection: Connection, fault: Fault) -> None:
        """Send a frame larger than the client takes: it will hang up, so nothing more is counted for it."""
        self.forget(connection)
        _write(connection, oversized(fault.bytes, connection.is_text))

    def _cut(self, connection: Connection, fault: Fault) -> None:
        self.forget(connection)
        if fault.how == "close":
            _write(connection, close_frame(1001, "going away"))
            _hang_up(connection)
        elif connection.transport is not None:
            connection.transport.abort()

    def _end(self, connection: Connection, code: int, stays_open: bool = False) -> None:
        """Say an error; unless it only answers a message, forget the connection and hang up."""
        words = STREAM_ERRORS.get(code, "error")
        if connection.kind == "trade":
            payload = _JSON.encode({"action": "error", "data": {"error_message": words}})
        else:
            codec = connection.codec
            payload = codec.join([codec.encode({"T": "error", "code": code, "msg": words})])
        _write(connection, whole_frame(payload, connection.is_text))
        if not stays_open or connection.kind == "trade":
            self.forget(connection)
            _hang_up(connection)

    def _maim(self, connection: Connection, payload: bytes, messages: int) -> bool:
        """Send a data frame in pieces, or cut short so that it cannot be decoded; says whether it did."""
        if not self.faults.has(("fragment", "garbage"), connection.kind):
            return False
        if self.faults.first("garbage", connection.kind) is not None:
            # A frame that nobody can read counts as one message on both sides (docs/pacing.md).
            connection.sent += 1
            _write(connection, whole_frame(payload[: max(1, len(payload) * 2 // 3)], connection.is_text))
            return True
        if self.faults.first("fragment", connection.kind) is not None:
            connection.sent += messages
            _write(connection, fragments(payload, connection.is_text))
            return True
        return False

    def _of(self, kind: str) -> list[Connection]:
        return [c for c in self._connections.values() if c.kind == kind]

    async def close_all(self) -> None:
        """Close every socket at shutdown."""
        for connection in list(self._connections.values()):
            await connection.ws.close(code=1001, message=b"exchange stops")


def _write(connection: Connection, frames: bytes) -> None:
    """Put frames on the wire beside the library, without waiting for a reader; nothing is compressed here."""
    if connection.transport is not None and not connection.transport.is_closing():
        connection.transport.write(frames)


def _hang_up(connection: Connection) -> None:
    transport = connection.transport
    if transport is not None:
        transport.close()  # lets what was written drain to a reader that wakes up in time
        asyncio.get_running_loop().call_later(CUT_OFF_S, transport.abort)


def _items(coded: Mapping[str, list[Coded]], connection: Connection) -> list[Item]:
    """What a connection asked for, with names; as ``select`` chooses."""
    found = []
    for channel, rows in coded.items():
        symbols = connection.wanted.get(channel, ())
        found += [Item(channel, symbol, data) for symbol, data in rows if "*" in symbols or symbol in symbols]
    return found


def update_item(data: Mapping[str, Any]) -> Item:
    """A trade update with its names; a structure's order has no symbol, so it goes by its first leg's."""
    order = data["order"]
    symbol = order["symbol"] or order["legs"][0]["symbol"]
    return Item(str(data["event"]), str(symbol), _JSON.encode({"stream": "trade_updates", "data": data}))

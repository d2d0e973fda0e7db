"""Exchange time: steps of one second inside sessions, jumps between them, in step with a paced client.

Inputs: the source's sessions, the pacing socket (docs/pacing.md). Outputs: market steps and ``step`` messages. Order
of a step: market, matching, stock frames, option frames, trade updates, ``step``. Wall time is used for transport and
for speeds above zero only; overnight jumps take none.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from oracle.core.sessions import MINUTE_NS, NS, Session, minutes_of
from oracle.sim.config import ExchangeConfig
from oracle.sim.exchange import POST_CLOSE_NS, PRE_OPEN_NS, Exchange
from oracle.sim.feed_wire import JSON
from oracle.sim.recent import Recent
from oracle.sim.sockets import Connection, Hub
from oracle.sim.streams import keys_match

STEP_NS = NS
_JSON = msgspec.json.Encoder()


def schedule(sessions: tuple[Session, ...], until: str | None = None) -> Iterator[int]:
    """The instants of all steps; the first session's first instant is where time already stands.

    ``until`` ends the last session at a New York time (``HH:MM``), if that comes before five minutes past its close.
    """
    for index, session in enumerate(sessions):
        start, stop = session.open_ns - PRE_OPEN_NS, session.close_ns + POST_CLOSE_NS
        if until is not None and session is sessions[-1]:
            stop = min(stop, session.open_ns + round(minutes_of(until) - minutes_of("09:30")) * MINUTE_NS)
        yield from range(start if index else start + STEP_NS, stop + 1, STEP_NS)


class _Paced:
    """The paced client: what it asked for and what it has not answered yet."""

    __slots__ = ("connection", "outstanding", "ready", "speed")

    def __init__(self, connection: Connection, speed: float) -> None:
        self.connection = connection
        self.speed = speed
        self.ready = False
        self.outstanding = False


class Pacer:
    """Moves exchange time. ``run`` is the loop, ``serve`` the pacing socket."""

    def __init__(self, config: ExchangeConfig, exchange: Exchange, hub: Hub, recent: Recent) -> None:
        self._config = config
        self._exchange = exchange
        self._hub = hub
        self._recent = recent
        self._client: _Paced | None = None
        self._changed = asyncio.Event()
        self._number = 0
        self._ended = False
        self._anchor_s = 0.0
        self._played_s = 0.0

    # -- the loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Play every session, then say so; returns when all are played and handled."""
        self._anchor()
        for at_ns in schedule(tuple(self._exchange.source.sessions), self._config.until):
            await self._permission()
            await self._step(at_ns)
        await self._permission(last=True)
        self._ended = True
        await self._say_end()

    async def _step(self, at_ns: int) -> None:
        market = self._exchange.source.advance(at_ns)
        self._exchange.step(at_ns)
        self._hub.faults.fill_due()
        self._recent.record(market)
        self._played_s += 1
        await self._hub.publish(market)
        await self._hub.flush()
        client = self._client
        if client is not None and client.ready:
            self._number += 1
            client.outstanding = True
            await self._say(client, {"type": "step", **self._state()})

    async def _permission(self, last: bool = False) -> None:
        """Wait until the next step may begin; ``last`` waits for the last answer only."""
        while True:
            self._changed.clear()
            client = self._client
            if client is None:
                if last:
                    return
                wait_s = None if self._config.hold else self._wall_wait_s(1.0)
            elif not client.ready or client.outstanding:
                wait_s = None
            elif last or client.speed == 0:
                return
            else:
                wait_s = self._wall_wait_s(client.speed)
            if wait_s is not None and wait_s <= 0:
                await asyncio.sleep(0)
                return
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _anchor(self) -> None:
        self._anchor_s = asyncio.get_running_loop().time()
        self._played_s = 0.0

    def _wall_wait_s(self, speed: float) -> float:
        due = self._anchor_s + (self._played_s + 1) / speed
        return due - asyncio.get_running_loop().time()

    # -- the socket ---------------------------------------------------------------------------------------------

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve the pacing socket."""
        connection = await self._hub.open(request, "pacing", JSON)
        mine: _Paced | None = None
        try:
            mine = await self._hello(connection)
            while mine is not None:
                message = await self._receive(connection)
                if message is None or not await self._on_message(mine, message):
                    break
        finally:
            self._hub.forget(connection)
            if mine is not None and self._client is mine:
                self._client = None
                self._anchor()
                self._changed.set()
        await connection.ws.close()
        return connection.ws

    async def _receive(self, connection: Connection) -> Mapping[str, Any] | None:
        frame = await connection.ws.receive()
        if frame.type is not WSMsgType.TEXT:
            return None
        try:
            message = msgspec.json.decode(frame.data)
        except (msgspec.DecodeError, RecursionError):
            message = None
        if isinstance(message, dict):
            return message
        await self._fail(connection, "not a JSON object")
        return None

    async def _hello(self, connection: Connection) -> _Paced | None:
        try:
            async with asyncio.timeout(self._config.auth_timeout_s):
                message = await self._receive(connection)
        except TimeoutError:
            await self._fail(connection, "no hello in time")
            return None
        if message is None:
            return None
        speed = message.get("speed", 0)
        problem = None
        if message.get("type") != "hello":
            problem = "the first message must be hello"
        elif not keys_match(self._config, message.get("key"), message.get("secret")):
            problem = "auth failed"
        elif isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 <= speed <= 1e6:
            problem = "speed must be a number from 0 to 1000000"
        elif self._client is not None:
            problem = "a paced client is already connected"
        if problem is not None:
            await self._fail(connection, problem)
            return None
        mine = self._client = _Paced(connection, float(speed))
        self._changed.set()
        await self._say(mine, self._welcome())
        return mine

    def _welcome(self) -> dict[str, Any]:
        exchange = self._exchange
        return {
            "type": "welcome",
            "at_ns": exchange.now_ns,
            "session": exchange.session,
            "sessions": list(exchange.source.sessions),
            "declared": list(exchange.source.declared),
            "labels": list(exchange.source.labels),
        }

    async def _on_message(self, mine: _Paced, message: Mapping[str, Any]) -> bool:
        kind = message.get("type")
        if kind == "ready":
            if not mine.ready:
                mine.ready = True
                self._anchor()
                self._changed.set()
                if self._ended:
                    await self._say_end()
            return True
        if kind == "sync":
            # What the client's own requests caused (fills) is on its way: it asks how much, to wait for all of it.
            await self._hub.flush()
            await self._say(mine, {"type": "more", **self._state()})
            return True
        if kind != "handled":
            return await self._fail(mine.connection, f"unknown message type {kind!r}")
        received, number = message.get("received"), message.get("n")
        if not isinstance(received, dict) or number != self._number:
            return await self._fail(mine.connection, f"handled must name step {self._number} and its received counts")
        await self._hub.flush()
        counts = self._hub.counts()
        # A connection that the client does not name is one that it has closed, or another client's.
        if all(received.get(name, count) == count for name, count in counts.items()):
            mine.outstanding = False
            self._changed.set()
        else:
            await self._say(mine, {"type": "more", **self._state()})
        return True

    def _state(self) -> dict[str, Any]:
        return {"n": self._number, "at_ns": self._exchange.now_ns, "sent": self._hub.counts()}

    async def _say(self, client: _Paced, message: dict[str, Any]) -> None:
        await self._hub.send(client.connection, _JSON.encode(message), 0)

    async def _say_end(self) -> None:
        if self._client is not None and self._client.ready:
            await self._say(self._client, {"type": "end", "at_ns": self._exchange.now_ns})

    async def _fail(self, connection: Connection, text: str) -> bool:
        await self._hub.send(connection, _JSON.encode({"type": "error", "message": text}), 0)
        return False

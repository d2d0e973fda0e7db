"""The client's side of the pacing socket: exchange time in, "all handled" out. See docs/pacing.md.

Inputs: step, more and end messages. Outputs: hello, ready, handled. Invariant: one answer for each step or more.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
import orjson

from oracle.core.errors import ConfigurationError, RemoteError

CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the exchange says at the start. ``declared`` are planted truths, ``labels`` what a reader must know."""

    at_ns: int
    sessions: list[dict[str, Any]]
    declared: list[dict[str, Any]]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class Beat:
    """One step, more or end. ``sent`` maps connection id to data messages sent on it so far."""

    kind: str
    n: int
    at_ns: int
    sent: dict[str, int] = field(default_factory=dict)


class _Heard(msgspec.Struct, frozen=True):
    """Any message of the exchange; fields that its type does not have are at their defaults."""

    type: str
    n: int = 0
    at_ns: int | None = None
    sent: dict[str, int] = {}
    sessions: list[dict[str, Any]] = []
    declared: list[dict[str, Any]] = []
    labels: list[str] = []
    message: str = ""

    def time_ns(self) -> int:
        """The exchange's time, which every message that moves us must bring."""
        if self.at_ns is None:
            raise RemoteError(f"pacing: {self.type} without at_ns")
        return self.at_ns


class PacingClient:
    """A websocket to the exchange's ``/pacing``."""

    def __init__(self, url: str, key: str, secret: str, speed: float) -> None:
        self._url = url.replace("http", "ws", 1).rstrip("/") + "/pacing"
        self._hello = {"type": "hello", "key": key, "secret": secret, "speed": speed}
        self._http: aiohttp.ClientSession | None = None
        self._ws: aiohttp.ClientWebSocketResponse | None = None

    async def connect(self) -> Welcome:
        """Join the exchange.

        Raises:
            ConfigurationError: no exchange answers at the URL, or it refuses the key.
        """
        self._http = aiohttp.ClientSession()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                self._ws = await self._http.ws_connect(self._url, max_msg_size=2**24, compress=0)
                await self._send(self._hello)
                heard = await self._receive()
            if heard.type != "welcome":
                problem = f"the exchange refused: {heard.message}"
                if "auth" in str(heard.message):
                    raise ConfigurationError("sim.key", problem, "check key and secret")
                raise ConfigurationError("sim.url", problem, "stop the other daemon or use another exchange")
            return Welcome(heard.time_ns(), heard.sessions, heard.declared, heard.labels)
        except (aiohttp.ClientError, TimeoutError, OSError, RemoteError) as error:
            await self.close()
            why = str(error) or f"nothing heard for {CONNECT_TIMEOUT_S:g} s"
            raise ConfigurationError(
                "sim.url", f"no exchange answers at {self._url} ({why})", "start one with `oracle exchange`"
            ) from None
        except BaseException:
            await self.close()
            raise

    async def ready(self) -> None:
        """Say that stepping may begin."""
        await self._send({"type": "ready"})

    async def beat(self) -> Beat:
        """Wait for the next step, more or end.

        Raises:
            RemoteError: the exchange went away or spoke otherwise.
        """
        heard = await self._receive()
        if heard.type not in ("step", "more", "end"):
            raise RemoteError(f"pacing: the exchange said {heard.type} {heard.message}")
        return Beat(heard.type, heard.n, heard.time_ns(), heard.sent)

    async def sync(self) -> Beat:
        """Ask how many messages have been sent by now."""
        await self._send({"type": "sync"})
        return await self.beat()

    async def handled(self, n: int, received: dict[str, int], next_timer_ns: int | None) -> None:
        """Say that everything up to step ``n`` is handled."""
        await self._send({"type": "handled", "n": n, "received": received, "next_timer_ns": next_timer_ns})

    async def close(self) -> None:
        """Leave."""
        if self._ws is not None:
            await self._ws.close()
        if self._http is not None:
            await self._http.close()
        self._ws = self._http = None

    async def _send(self, message: dict[str, Any]) -> None:
        if self._ws is None:
            raise RemoteError("pacing: not connected")
        try:
            await self._ws.send_str(orjson.dumps(message).decode())
        except (ConnectionError, aiohttp.ClientError) as error:
            raise RemoteError(f"pacing: the exchange went away ({error})") from None

    async def _receive(self) -> _Heard:
        if self._ws is None:
            raise RemoteError("pacing: not connected")
        frame = await self._ws.receive()
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise RemoteError(f"pacing: the exchange went away ({frame.type.name.lower()})")
        try:
            return msgspec.json.decode(frame.data, type=_Heard)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise RemoteError(f"pacing: the exchange sent what cannot be read ({error})") from None

"""The client's side of the pacing socket: exchange time in, "all handled" out. See docs/pacing.md.

Inputs: step, more and end messages. Outputs: hello, ready, handled. Invariant: one answer for each step or more.
"""

from dataclasses import dataclass, field
from typing import Any

import aiohttp
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
            ConfigurationError: nothing listens at the URL, or the exchange refuses the key.
        """
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S))
        try:
            self._ws = await self._http.ws_connect(self._url, max_msg_size=2**24, compress=0)
            await self._send(self._hello)
            welcome = await self._receive()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            await self.close()
            raise ConfigurationError(
                "sim.url", f"no exchange answers at {self._url} ({error})", "start one with `oracle exchange`"
            ) from None
        if welcome["type"] != "welcome":
            await self.close()
            raise ConfigurationError(
                "sim.key", f"the exchange refused: {welcome.get('message')}", "check key and secret"
            )
        return Welcome(welcome["at_ns"], welcome["sessions"], welcome["declared"], welcome["labels"])

    async def ready(self) -> None:
        """Say that stepping may begin."""
        await self._send({"type": "ready"})

    async def beat(self) -> Beat:
        """Wait for the next step, more or end.

        Raises:
            RemoteError: the exchange went away or spoke otherwise.
        """
        message = await self._receive()
        if message["type"] not in ("step", "more", "end"):
            raise RemoteError(f"pacing: the exchange said {message}")
        return Beat(message["type"], message.get("n", 0), message["at_ns"], message.get("sent", {}))

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

    async def _receive(self) -> dict[str, Any]:
        if self._ws is None:
            raise RemoteError("pacing: not connected")
        frame = await self._ws.receive()
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise RemoteError(f"pacing: the exchange went away ({frame.type.name.lower()})")
        message = orjson.loads(frame.data)
        if not isinstance(message, dict) or "type" not in message:
            raise RemoteError("pacing: a message without a type")
        return message

"""alpaca-py's three streams, driven one connection at a time by our own supervisor.

Inputs: URL, credentials, a synchronous frame handler. Outputs: frames as lists of raw messages. The SDK connects,
authenticates, encodes subscriptions and closes. Its ``_run_forever`` is not used: it reconnects by itself for ever,
tells nobody why, and swallows what the supervisor must see (402, 406, normal returns). A contract test pins the
private names used here.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgpack
import msgspec
from alpaca.data.live.option import OptionDataStream
from alpaca.data.live.stock import StockDataStream
from alpaca.data.live.websocket import DataStream
from alpaca.trading.stream import TradingStream
from websockets.exceptions import ConnectionClosed, InvalidHandshake, WebSocketException
from websockets.legacy.client import WebSocketClientProtocol
from websockets.legacy.exceptions import InvalidStatusCode, RedirectHandshake

from oracle.alpaca import wire
from oracle.alpaca.failures import Failure, Kind, kind_of_code, kind_of_status
from oracle.core.errors import RemoteError

MAX_FRAME_BYTES = 2**24
SHUT_TIMEOUT_S = 3.0
FrameHandler = Callable[[list[Any]], None]
# At DEBUG the library logs whole frames, and the first one holds the secret.
_quiet = logging.getLogger("oracle.alpaca.websocket")
_quiet.setLevel(logging.WARNING)
# What the SDK raises when a frame of the handshake is not what it expects.
_MISUNDERSTOOD = (ValueError, TypeError, KeyError, IndexError, AttributeError, msgpack.UnpackException)


class Undecodable(str):
    """Stands for a frame that could not be decoded; it counts as one message (docs/pacing.md)."""

    __slots__ = ()


class RefusedError(RemoteError):
    """The vendor refused in words; ``failure`` has the class and the text."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class _Protocol(WebSocketClientProtocol):
    """The library's client, except that it does not follow redirects: the next frame would carry our keys there.

    Once ``hand_on`` is set, frames go to it from the task that reads the socket: through the library's queue each would
    wait for three more rounds of the loop.
    """

    hand_on: Callable[[bytes | str], None] | None = None
    fault: Exception | None = None

    async def read_message(self) -> bytes | str | None:
        while True:
            frame = await super().read_message()
            if frame is None or self.hand_on is None:
                return frame
            try:
                self.hand_on(frame)
            except Exception as error:
                # The library would take it for a fault of the connection; ``hand_all_on`` raises it as what it is.
                self.fault = error
                return None

    async def hand_all_on(self, hand_on: Callable[[bytes | str], None]) -> None:
        """Hand on every frame, waiting ones first, until the connection ends.

        Raises:
            ConnectionClosed: it ended. Whatever ``hand_on`` raised.
        """
        while self.messages:
            hand_on(await self.recv())
        self.hand_on = hand_on
        try:
            await asyncio.wait([self.transfer_data_task])
        finally:
            self.hand_on = None  # who was cancelled hears nothing any more
        if self.fault is not None:
            raise self.fault
        await self.ensure_open()

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().handshake(*args, **kwargs)
        except RedirectHandshake as error:
            raise InvalidHandshake(f"redirect to {error.uri} refused") from None


def websocket_params() -> dict[str, Any]:
    """All parameters of the connection: passing some would drop the SDK's own defaults for the rest."""
    return {
        "open_timeout": 10,
        "ping_interval": 10,
        "ping_timeout": 20,
        "close_timeout": 1,
        "max_queue": 1024,
        "max_size": MAX_FRAME_BYTES,
        "logger": _quiet,
        "create_protocol": _Protocol,
    }


async def _never(_: Any) -> None:
    """Stand in for the SDK's per-symbol handlers: frames are taken whole, before its dispatch."""


async def _shut(stream: DataStream | TradingStream) -> None:
    """Close a stream's socket, by force when the peer does not answer; a socket left open would earn a 406."""
    socket = stream._ws
    try:
        async with asyncio.timeout(SHUT_TIMEOUT_S):
            await stream.close()
    except (TimeoutError, OSError, WebSocketException):
        _quiet.info("closed by force")
    finally:
        transport = getattr(socket, "transport", None)
        if transport is not None:
            transport.abort()


def _connection_id(stream: DataStream | TradingStream) -> str | None:
    headers = getattr(stream._ws, "response_headers", None)
    return None if headers is None else headers.get(wire.CONNECTION_HEADER)


class _DataConnection(DataStream):
    """What the two market-data streams share. ``on_frame`` is called once for each frame, on the loop."""

    on_frame: FrameHandler
    _ws: Any

    async def open(self) -> None:
        """Connect and authenticate. Raises RefusedError, RemoteError, or what ``failure_of`` classifies."""
        try:
            await self._start_ws()
        except _MISUNDERSTOOD as error:
            if isinstance(error, WebSocketException):
                raise
            raise RemoteError(f"handshake not understood ({error})") from None

    async def _auth(self) -> None:
        """Authenticate as the SDK does, but keep the error's code."""
        await self._ws.send(msgpack.packb({"action": "auth", "key": self._api_key, "secret": self._secret_key}))
        answer = msgpack.unpackb(await self._ws.recv())[0]
        if answer["T"] == "error":
            raise RefusedError(refusal_of(answer))
        if answer["T"] != "success" or answer["msg"] != "authenticated":
            raise RemoteError("the answer to the authentication is neither success nor error")

    async def consume(self) -> None:
        """Hand frames on until the connection ends; a frame that cannot be decoded is handed on as such."""
        on_frame = self.on_frame

        def take(frame: bytes | str) -> None:
            try:
                messages = msgpack.unpackb(frame)
            except (ValueError, TypeError, msgpack.UnpackException) as error:
                messages = [Undecodable(f"undecodable frame ({type(error).__name__})")]
            on_frame(messages if isinstance(messages, list) else [messages])

        await self._ws.hand_all_on(take)

    async def subscribe(self, wanted: Mapping[str, Collection[str]]) -> None:
        """Send the whole wanted set, channel by channel."""
        for channel, symbols in wanted.items():
            self._handlers[channel] = dict.fromkeys(sorted(symbols), _never)
        await self._send_subscribe_msg()

    async def unsubscribe(self, channel: str, symbols: Collection[str]) -> None:
        """Send that symbols of a channel are no longer wanted."""
        for symbol in symbols:
            self._handlers[channel].pop(symbol, None)
        await self._send_unsubscribe_msg(channel, sorted(symbols))

    async def shut(self) -> None:
        """Close the socket within three seconds, whatever the peer does."""
        await _shut(self)

    @property
    def connection_id(self) -> str | None:
        """The exchange's name for this connection; None when closed, and at the real vendor."""
        return _connection_id(self)


class StockConnection(_DataConnection, StockDataStream):
    """One connection to the stock stream."""

    def __init__(self, url: str, credentials: wire.Credentials, on_frame: FrameHandler) -> None:
        StockDataStream.__init__(
            self,
            credentials.key,
            credentials.secret,
            raw_data=True,
            url_override=url,
            websocket_params=websocket_params(),
        )
        self.on_frame = on_frame


class OptionConnection(_DataConnection, OptionDataStream):
    """One connection to the option stream."""

    def __init__(self, url: str, credentials: wire.Credentials, on_frame: FrameHandler) -> None:
        OptionDataStream.__init__(
            self,
            credentials.key,
            credentials.secret,
            raw_data=True,
            url_override=url,
            websocket_params=websocket_params(),
        )
        self.on_frame = on_frame


class TradingConnection(TradingStream):
    """One connection to the trade-update stream."""

    _ws: Any
    _trade_updates_handler: Any

    def __init__(self, url: str, credentials: wire.Credentials, on_frame: FrameHandler) -> None:
        super().__init__(
            credentials.key,
            credentials.secret,
            raw_data=True,
            url_override=url,
            websocket_params=websocket_params(),
        )
        self._trade_updates_handler = _never
        self.on_frame = on_frame

    async def open(self) -> None:
        """Connect and authenticate; ``subscribe`` is a step of its own so that its answer can be awaited."""
        try:
            connect: Any = self._connect
            await connect()
            await self._auth()
        except _MISUNDERSTOOD as error:
            if isinstance(error, WebSocketException):
                raise
            raise RemoteError(f"handshake not understood ({error})") from None

    async def _auth(self) -> None:
        """Authenticate as the SDK does, but survive an answer without data."""
        keys = {"key_id": self._api_key, "secret_key": self._secret_key}
        await self._ws.send(msgspec.json.encode({"action": "authenticate", "data": keys}).decode())
        answer = msgspec.json.decode(await self._ws.recv())
        data = answer.get("data") if isinstance(answer, dict) else None
        status = data.get("status") if isinstance(data, dict) else None
        if status != "authorized":
            told = data.get("error_message") if isinstance(data, dict) else None
            text = f"not authorized ({status or told or 'no reason given'})"
            limit = isinstance(told, str) and "connection limit" in told
            raise RefusedError(Failure(Kind.CONNECTION_LIMIT if limit else Kind.CREDENTIALS, text))

    async def consume(self) -> None:
        """Hand messages on until the connection ends."""
        on_frame = self.on_frame

        def take(frame: bytes | str) -> None:
            try:
                message = msgspec.json.decode(frame)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                message = Undecodable(f"undecodable frame ({type(error).__name__})")
            on_frame([message])

        await self._ws.hand_all_on(take)

    async def subscribe(self, wanted: Mapping[str, Collection[str]]) -> None:
        """Ask for trade updates."""
        del wanted
        await self._subscribe_trade_updates()

    async def shut(self) -> None:
        """Close the socket within three seconds, whatever the peer does."""
        await _shut(self)

    @property
    def connection_id(self) -> str | None:
        """The exchange's name for this connection; None when closed, and at the real vendor."""
        return _connection_id(self)


Connection = StockConnection | OptionConnection | TradingConnection


def refusal_of(message: Mapping[str, Any]) -> Failure:
    """A stream's error message as a failure."""
    code, text = str(message.get("code", "")), message.get("msg")
    words = text if isinstance(text, str) else "no message"
    return Failure(kind_of_code(code) or Kind.PROTOCOL, f"{code} {words}"[:200])


def failure_of(error: BaseException) -> Failure:
    """Classify what ended a connection.

    Raises:
        the error itself, when it is a fault of ours and not of the remote.
    """
    if isinstance(error, RefusedError):
        return error.failure
    if isinstance(error, InvalidStatusCode):
        return Failure(kind_of_status(error.status_code), f"HTTP {error.status_code} refused the upgrade")
    if isinstance(error, ConnectionClosed):
        received, sent = error.rcvd, error.sent
        frame = received or sent
        if frame is None:
            return Failure(Kind.CLOSED, "the connection broke without a close")
        if received is None and frame.code == 1009:
            return Failure(Kind.PROTOCOL, f"a frame was larger than {MAX_FRAME_BYTES} bytes")
        if received is None and frame.code == 1011:
            return Failure(Kind.TIMEOUT, "no answer to pings")
        by = "the vendor" if received is not None else "us"
        return Failure(Kind.CLOSED, f"closed by {by} with code {frame.code} {frame.reason}".rstrip()[:200])
    if isinstance(error, TimeoutError):
        return Failure(Kind.TIMEOUT, str(error) or "no answer in time")
    if isinstance(error, OSError):
        return Failure(Kind.UNREACHABLE, f"cannot connect ({type(error).__name__})")
    if isinstance(error, WebSocketException):
        return Failure(Kind.PROTOCOL, f"{type(error).__name__}: {error}"[:200])
    if isinstance(error, RemoteError):
        return Failure(Kind.PROTOCOL, str(error)[:200])
    raise error

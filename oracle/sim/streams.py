"""Handshake and subscriptions of the data streams, and the trade-update stream.

Inputs: frames of clients. Outputs: control messages and the connection's subscription set. Error codes and their order
are the vendor's (reference sections 1.2, 1.3, 1.6). A failed subscribe leaves the old set.
"""

import asyncio
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from oracle.core.instruments import is_equity, is_option
from oracle.sim.config import ExchangeConfig
from oracle.sim.feed_wire import JSON, MSGPACK
from oracle.sim.sockets import STREAM_ERRORS, Connection, Hub

STOCK_CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds")
OPTION_CHANNELS = ("trades", "quotes")


class StreamError(Exception):
    """A client's message that is answered with a code; ``fatal`` closes the socket."""

    def __init__(self, code: int, fatal: bool = False) -> None:
        super().__init__(STREAM_ERRORS[code])
        self.code = code
        self.fatal = fatal


def keys_match(config: ExchangeConfig, key: object, secret: object) -> bool:
    """Compare credentials in constant time; anything but text is wrong."""
    if not isinstance(key, str) or not isinstance(secret, str):
        return False
    same_key = hmac.compare_digest(key.encode(), config.key.encode())
    return hmac.compare_digest(secret.encode(), config.secret.encode()) and same_key


class DataStreams:
    """Serves /v2/iex, /v2/sip, /v1beta1/indicative and /v1beta1/opra."""

    def __init__(self, config: ExchangeConfig, hub: Hub) -> None:
        self._config = config
        self._hub = hub

    async def stock(self, request: web.Request) -> web.StreamResponse:
        """Serve a stock stream; JSON when the upgrade's Content-Type asks for it."""
        return await self._serve(request, "stock")

    async def option(self, request: web.Request) -> web.StreamResponse:
        """Serve an option stream, msgpack only."""
        return await self._serve(request, "option")

    async def _serve(self, request: web.Request, kind: str) -> web.StreamResponse:
        refused = self._hub.faults.first("refuse_upgrade", kind)
        if refused is not None:
            return web.Response(status=refused.status, text="refused by a fault")
        codec = JSON if request.headers.get("Content-Type", "").startswith("application/json") else MSGPACK
        connection = await self._hub.open(request, kind, codec)
        try:
            await self._hub.control(connection, {"T": "success", "msg": "connected"})
            if codec.is_text and kind == "option":
                raise StreamError(412, fatal=True)
            headers = request.headers
            if "APCA-API-KEY-ID" in headers:
                key, secret = headers["APCA-API-KEY-ID"], headers.get("APCA-API-SECRET-KEY")
                await self._authenticate(connection, key, secret)
            await self._converse(connection)
        except StreamError as error:
            await self._refuse(connection, error.code)
        finally:
            self._hub.forget(connection)
        await connection.ws.close()
        return connection.ws

    async def _converse(self, connection: Connection) -> None:
        deadline = asyncio.get_running_loop().time() + self._config.auth_timeout_s
        while True:
            try:
                async with asyncio.timeout_at(None if connection.ready else deadline):
                    frame = await connection.ws.receive()
            except TimeoutError:
                raise StreamError(404, fatal=True) from None
            if frame.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            try:
                await self._on_frame(connection, frame.data, frame.type is WSMsgType.TEXT)
            except StreamError as error:
                if error.fatal:
                    raise
                await self._refuse(connection, error.code)

    async def _refuse(self, connection: Connection, code: int) -> None:
        await self._hub.control(connection, {"T": "error", "code": code, "msg": STREAM_ERRORS[code]})

    async def _on_frame(self, connection: Connection, data: bytes | str, is_text: bool) -> None:
        if is_text and not connection.codec.is_text and connection.kind == "option":
            raise StreamError(412)
        try:
            message = connection.codec.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise StreamError(400) from None
        if not isinstance(message, Mapping):
            raise StreamError(400)
        action = message.get("action")
        if action == "auth":
            if connection.ready:
                raise StreamError(403)
            await self._authenticate(connection, message.get("key"), message.get("secret"))
        elif action in ("subscribe", "unsubscribe"):
            if not connection.ready:
                raise StreamError(401)
            self._change(connection, message, adding=action == "subscribe")
            await self._hub.control(connection, self._subscription(connection))
        else:
            raise StreamError(400)

    async def _authenticate(self, connection: Connection, key: object, secret: object) -> None:
        if not keys_match(self._config, key, secret):
            raise StreamError(402, fatal=True)
        refused = self._hub.faults.first("refuse_login", connection.kind)
        if refused is not None:
            raise StreamError(refused.code, fatal=True)
        if self._config.plan == "basic" and connection.path in ("/v2/sip", "/v1beta1/opra"):
            raise StreamError(409, fatal=True)
        if self._hub.is_taken(connection):
            raise StreamError(406, fatal=True)
        connection.ready = True
        await self._hub.control(connection, {"T": "success", "msg": "authenticated"})

    def _change(self, connection: Connection, message: Mapping[Any, Any], adding: bool) -> None:
        channels = STOCK_CHANNELS if connection.kind == "stock" else OPTION_CHANNELS
        after = {channel: set(connection.wanted.get(channel, ())) for channel in channels}
        for channel, symbols in message.items():
            if channel == "action":
                continue
            if channel not in channels:
                raise StreamError(410 if channel in STOCK_CHANNELS else 400)
            names = self._names(connection, channel, symbols)
            after[channel] = after[channel] | names if adding else after[channel] - names
        self._check_limits(connection, after)
        connection.wanted = {channel: names for channel, names in after.items() if names}
        if connection.kind == "option":
            self._hub.watch_options()

    @staticmethod
    def _names(connection: Connection, channel: str, symbols: object) -> set[str]:
        if not isinstance(symbols, list | tuple) or not all(isinstance(s, str) for s in symbols):
            raise StreamError(400)
        names: set[str] = set(symbols)
        if "*" in names and connection.kind == "option" and channel == "quotes":
            raise StreamError(413)
        fits = is_equity if connection.kind == "stock" else is_option
        if not all(name == "*" or fits(name) for name in names):
            raise StreamError(400)
        return names

    def _check_limits(self, connection: Connection, after: Mapping[str, set[str]]) -> None:
        if connection.kind == "option":
            if len(after["quotes"]) > self._config.option_quote_limit:
                raise StreamError(405)
            return
        limit = self._config.stock_symbol_limit
        if limit is not None and len(after["trades"] | after["quotes"]) > limit:
            raise StreamError(405)

    @staticmethod
    def _subscription(connection: Connection) -> dict[str, Any]:
        channels = STOCK_CHANNELS if connection.kind == "stock" else OPTION_CHANNELS
        body: dict[str, Any] = {"T": "subscription"}
        body |= {channel: sorted(connection.wanted.get(channel, ())) for channel in channels}
        if connection.kind == "stock":
            body |= {"corrections": body["trades"], "cancelErrors": body["trades"]}
        return body


class TradeStream:
    """Serves /stream: JSON objects in binary frames, as on paper; any number of listeners."""

    def __init__(self, config: ExchangeConfig, hub: Hub) -> None:
        self._config = config
        self._hub = hub

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one trade-update connection."""
        refused = self._hub.faults.first("refuse_upgrade", "trade")
        if refused is not None:
            return web.Response(status=refused.status, text="refused by a fault")
        connection = await self._hub.open(request, "trade", JSON)
        deadline = asyncio.get_running_loop().time() + self._config.auth_timeout_s
        try:
            while True:
                async with asyncio.timeout_at(None if connection.ready else deadline):
                    frame = await connection.ws.receive()
                if frame.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                if not await self._on_frame(connection, frame.data):
                    break
        except TimeoutError:
            await self._fail(connection, "authentication timeout")
        finally:
            self._hub.forget(connection)
        await connection.ws.close()
        return connection.ws

    async def _fail(self, connection: Connection, text: str) -> bool:
        await self._hub.control(connection, {"action": "error", "data": {"error_message": text}})
        return False

    async def _refuse_login(self, connection: Connection, code: int) -> bool:
        data = {"status": "unauthorized", "action": "authenticate", "error_message": STREAM_ERRORS[code]}
        await self._hub.control(connection, {"stream": "authorization", "data": data})
        return False

    async def _on_frame(self, connection: Connection, data: bytes | str) -> bool:
        """Answer one message; False closes the socket."""
        try:
            message = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return await self._fail(connection, "invalid syntax")
        if not isinstance(message, Mapping):
            return await self._fail(connection, "invalid syntax")
        inner = message.get("data")
        detail: Mapping[Any, Any] = inner if isinstance(inner, Mapping) else {}
        action = message.get("action")
        if action in ("authenticate", "auth"):
            key = message.get("key", detail.get("key_id"))
            secret = message.get("secret", detail.get("secret_key"))
            connection.ready = keys_match(self._config, key, secret)
            refused = self._hub.faults.first("refuse_login", "trade") if connection.ready else None
            if refused is not None:
                connection.ready = False
                return await self._refuse_login(connection, refused.code)
            status = "authorized" if connection.ready else "unauthorized"
            reply = {"stream": "authorization", "data": {"status": status, "action": "authenticate"}}
            await self._hub.control(connection, reply)
            return connection.ready
        if action != "listen":
            return await self._fail(connection, "unknown action")
        if not connection.ready:
            return await self._fail(connection, "not authenticated")
        streams = detail.get("streams")
        if not isinstance(streams, list):
            return await self._fail(connection, "invalid syntax")
        listening = ["trade_updates"] if "trade_updates" in streams else []
        connection.wanted = {"trade_updates": set(listening)} if listening else {}
        await self._hub.control(connection, {"stream": "listening", "data": {"streams": listening}})
        return True

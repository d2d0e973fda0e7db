"""How a REST request becomes a reply: keys, rate limit in exchange time, body, endpoint, error body, headers.

Inputs: endpoints as synchronous functions ``Call -> Reply``. Outputs: aiohttp handlers and one middleware through which
every reply passes. Trade updates that a request caused leave after its reply. A malformed request is a 4xx, never a
traceback.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog
from aiohttp import web

from oracle.core.sessions import MINUTE_NS, NS
from oracle.sim.config import ExchangeConfig
from oracle.sim.errors import RefusedError, data_forbidden, too_many_requests, unauthorized
from oracle.sim.exchange import Exchange
from oracle.sim.faultrest import Lost, RequestFaults, json_reply
from oracle.sim.sockets import Hub
from oracle.sim.streams import keys_match

log = structlog.get_logger(__name__)


class Call(msgspec.Struct, frozen=True):
    """One request: path parameters, query (last value wins) and the decoded body (None without one)."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any = None

    def text(self, name: str) -> str | None:
        """A query parameter, None when absent or empty."""
        return self.query.get(name) or None

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole-number query parameter.

        Raises:
            RefusedError: 422, not a number in ``[low, high]``.
        """
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10) or not low <= int(text) <= high:
            raise RefusedError(422, 40010001, f"invalid {name}: must be a number from {low} to {high}")
        return int(text)

    def symbols(self, name: str = "symbols") -> list[str] | None:
        """A comma-separated query parameter, None when absent."""
        text = self.text(name)
        return None if text is None else [s.strip() for s in text.split(",") if s.strip()]


class Reply(msgspec.Struct, frozen=True):
    """What an endpoint answers; ``body`` None is an empty body."""

    body: Any
    status: int = 200


Endpoint = Callable[[Call], Reply]


class RateLimit:
    """Requests per minute of exchange time, in fixed windows."""

    __slots__ = ("_limit", "_used", "_window")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._window = -1
        self._used = 0

    def use(self, now_ns: int) -> tuple[bool, dict[str, str]]:
        """Count one request: whether it is within the limit, and the X-Ratelimit headers."""
        window = now_ns // MINUTE_NS
        if window != self._window:
            self._window, self._used = window, 0
        allowed = self._used < self._limit
        self._used += allowed
        reset = (window + 1) * MINUTE_NS // NS
        return allowed, {
            "X-Ratelimit-Limit": str(self._limit),
            "X-Ratelimit-Remaining": str(self._limit - self._used),
            "X-Ratelimit-Reset": str(reset),
        }


class Gate:
    """Wraps endpoints for one of the two APIs: ``trading`` (401, rate headers) or ``data`` (403)."""

    def __init__(self, config: ExchangeConfig, exchange: Exchange, trading: bool) -> None:
        self._config = config
        self._exchange = exchange
        self._trading = trading
        self._limit = RateLimit(config.trading_requests_per_min if trading else config.data_rate)

    def wrap(self, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """An aiohttp handler for a synchronous endpoint."""

        async def handle(request: web.Request) -> web.StreamResponse:
            headers = request.headers
            key, secret = headers.get("APCA-API-KEY-ID"), headers.get("APCA-API-SECRET-KEY")
            if not keys_match(self._config, key, secret):
                raise unauthorized() if self._trading else data_forbidden()
            allowed, rate = self._limit.use(self._exchange.now_ns)
            try:
                if not allowed:
                    raise too_many_requests()
                call = Call(dict(request.match_info), dict(request.query), await _body(request))
                reply = endpoint(call)
            except RefusedError as refusal:
                return json_reply(refusal.body(), refusal.status, rate)
            return json_reply(reply.body, reply.status, rate)

        return handle


async def _body(request: web.Request) -> Any:
    if request.method in ("GET", "DELETE") or not request.can_read_body:
        return None
    raw = await request.read()
    try:
        return msgspec.json.decode(raw) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(400, 40010000, "request body format is invalid") from None


async def _answer(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The endpoint's own answer; whatever goes wrong becomes a JSON body."""
    try:
        return await handler(request)
    except RefusedError as refusal:
        return json_reply(refusal.body(), refusal.status)
    except web.HTTPRequestEntityTooLarge:
        return json_reply({"code": 41310000, "message": "request entity too large"}, 413)
    except web.HTTPMethodNotAllowed:
        return json_reply({"code": 40510000, "message": "method not allowed"}, 405)
    except web.HTTPNotFound:
        return json_reply({"code": 40410000, "message": "endpoint not found."}, 404)
    except web.HTTPException as error:
        return json_reply({"message": error.reason}, error.status)
    except Exception:  # a fault of ours: the client gets JSON, the log gets the traceback
        log.exception("exchange.request_failed", method=request.method, path=request.path)
        return json_reply({"code": 50010000, "message": "internal server error occurred"}, 500)


def replies(hub: Hub) -> Any:
    """The middleware that every reply passes: faults, error bodies, then the reply itself, then what it caused."""
    faulty = RequestFaults(hub.faults)

    @web.middleware
    async def middleware(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        place = faulty.place(request)
        refused = faulty.before(request, place)
        response = refused or faulty.after(request, place, await _answer(request, handler))
        try:
            if isinstance(response, Lost):
                await hub.flush()
                return await response.lose(request)
            if faulty.tells_fills_first(place):
                await hub.flush()
            await response.prepare(request)
            await response.write_eof()
        finally:
            hub.faults.fill_due()
            await hub.flush()
        return response

    return middleware

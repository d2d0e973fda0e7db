"""One HTTP attempt against Alpaca: no retries, no redirects, bounded time and size, nothing raised.

Inputs: method, path, query, JSON body. Outputs: a ``Reply`` that says what is known. Transport time is the wall clock.
Invariants: keys travel only in headers and appear in no text; a reply that cannot be read has ``body`` None.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
import structlog

from oracle.alpaca import wire
from oracle.core.errors import TransientError

CONNECT_TIMEOUT_S = 3.05
TOTAL_TIMEOUT_S = 10.0
MAX_BODY_BYTES = 32 << 20
# Longer than the 30 s between two reads of the account: an order finds a connection that is open already.
KEEP_ALIVE_S = 60.0
_TEXT_LIMIT = 300
_log = structlog.get_logger(__name__)


class Reply(msgspec.Struct, frozen=True):
    """What one request came to. ``status`` 0: no answer, ``problem`` says why. ``body`` None: not JSON, or empty."""

    status: int
    body: Any
    headers: Mapping[str, str]
    problem: str = ""

    @property
    def code(self) -> str:
        """The vendor's error code, or empty."""
        code = self.body.get("code") if isinstance(self.body, dict) else None
        return str(code) if isinstance(code, int | str) and not isinstance(code, bool) else ""

    @property
    def text(self) -> str:
        """The vendor's message, or what went wrong, in at most 300 characters."""
        if self.problem:
            return self.problem
        message = self.body.get("message") if isinstance(self.body, dict) else None
        words = message if isinstance(message, str) else "the answer has no readable message"
        return f"HTTP {self.status}: {words[:_TEXT_LIMIT]}"

    @property
    def ok(self) -> bool:
        """Whether the status is a success."""
        return 200 <= self.status < 300


RequestSink = Callable[[str, str, float], None]
HeaderSink = Callable[[Mapping[str, str]], None]


class RestClient:
    """A session of one account. Use as an async context manager; one per event loop.

    Args:
        endpoints, credentials: where and who.
        on_trading_headers: told the headers of every reply of the trading API (rate limits).
    """

    def __init__(
        self,
        endpoints: wire.Endpoints,
        credentials: wire.Credentials,
        on_trading_headers: HeaderSink | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        total_timeout_s: float = TOTAL_TIMEOUT_S,
    ) -> None:
        self.endpoints = endpoints
        self._credentials = credentials
        self._on_trading_headers = on_trading_headers
        self._timeout = aiohttp.ClientTimeout(
            total=total_timeout_s, connect=connect_timeout_s, sock_connect=connect_timeout_s
        )
        self._session: aiohttp.ClientSession | None = None
        self.pending = 0
        # Told of every request: endpoint and outcome in the metrics catalogue's words, wall seconds.
        self.on_request: RequestSink = _unobserved

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(keepalive_timeout=KEEP_ALIVE_S),
            timeout=self._timeout,
            headers={
                wire.KEY_HEADER: self._credentials.key,
                wire.SECRET_HEADER: self._credentials.secret,
                "Accept": "application/json",
            },
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        # aiohttp repeats GET and DELETE once when a kept-alive connection turns out to be closed; one attempt is the
        # contract here. The attribute's existence is checked by a test.
        self._session._retry_connection = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def trading(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Reply:
        """Make one request of the trading API."""
        reply = await self._once(method, self.endpoints.trading_url + path, query, body)
        if self._on_trading_headers is not None and reply.headers:
            self._on_trading_headers(reply.headers)
        return reply

    async def data(self, path: str, query: Mapping[str, str]) -> Reply:
        """Make one GET of the market-data API."""
        return await self._once("GET", self.endpoints.data_url + path, query, None)

    async def _once(
        self, method: str, url: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None
    ) -> Reply:
        if self._session is None:
            return Reply(0, None, {}, "not sent: the session is not open")
        content = None if body is None else msgspec.json.encode(body)
        headers = None if body is None else {"Content-Type": "application/json"}
        self.pending += 1
        started_s = time.perf_counter()
        reply = await self._attempt(method, url, query, content, headers)
        self.pending -= 1
        self.on_request(endpoint_word(method, url), outcome_word(reply), time.perf_counter() - started_s)
        return reply

    async def _attempt(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None,
        content: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> Reply:
        if self._session is None:
            return Reply(0, None, {}, "not sent: the session is not open")
        try:
            async with self._session.request(
                method, url, params=query, data=content, headers=headers, allow_redirects=False
            ) as response:
                raw = await _bounded(response)
                return _reply(response.status, raw, response.headers)
        except aiohttp.ClientConnectorError as error:
            return Reply(0, None, {}, f"not sent: cannot connect ({type(error).__name__})")
        except TimeoutError as error:
            return Reply(0, None, {}, f"no answer in time ({type(error).__name__})")
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            return Reply(0, None, {}, f"the connection failed ({type(error).__name__})")


def _unobserved(_endpoint: str, _outcome: str, _seconds: float) -> None:
    """Nobody counts."""


# Longest path first: a path is named by the first fragment that it contains.
_ENDPOINTS = (
    (wire.ORDER_BY_CLIENT_ID_PATH, "look_up"),
    (wire.ORDERS_PATH, "orders"),
    (wire.ACTIVITIES_PATH, "activities"),
    (wire.ACCOUNT_PATH, "account"),
    (wire.POSITIONS_PATH, "positions"),
    (wire.CLOCK_PATH, "clock"),
    (wire.CALENDAR_PATH, "calendar"),
    (wire.CONTRACTS_PATH, "contracts"),
    (wire.STOCK_BARS_PATH, "bars"),
    (wire.OPTION_SNAPSHOTS_PATH, "snapshots"),
)


def endpoint_word(method: str, url: str) -> str:
    """The short name of what a request asks for; ``other`` when it has none."""
    name = next((word for path, word in _ENDPOINTS if path in url), "other")
    return {("orders", "POST"): "submit", ("orders", "DELETE"): "cancel"}.get((name, method), name)


def outcome_word(reply: Reply) -> str:
    """A reply as one word: accepted, rejected, throttled, not_found or unknown."""
    if reply.status in (404, 429):
        return "not_found" if reply.status == 404 else "throttled"
    if 200 <= reply.status < 300:
        return "accepted"
    return "rejected" if 400 <= reply.status < 500 else "unknown"


async def _bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None when it is larger than we would ever read."""
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(1 << 16):
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        parts.append(chunk)
    return b"".join(parts)


def _reply(status: int, raw: bytes | None, headers: Mapping[str, str]) -> Reply:
    if raw is None:
        return Reply(status, None, headers, f"HTTP {status}: the answer is larger than {MAX_BODY_BYTES} bytes")
    if not raw:
        return Reply(status, None, headers)
    try:
        return Reply(status, msgspec.json.decode(raw), headers)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Reply(status, None, headers, f"HTTP {status}: the answer is not JSON")


def must(reply: Reply, what: str) -> Any:
    """The body of a successful reply.

    Raises:
        TransientError: the request failed or its answer is not JSON.
    """
    if not reply.ok or reply.body is None:
        raise TransientError(f"{what}: {reply.text}")
    return reply.body

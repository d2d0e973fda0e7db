"""The loopback console: metrics, health, readiness and status over HTTP, read-only.

Inputs: callables that measure. Outputs: ``/metrics``, ``/healthz``, ``/readyz``, ``/status`` on 127.0.0.1. Invariants:
GET only; a Host header that is not loopback is refused (DNS rebinding), as is any cross-site request; an answer is
measured when asked, never remembered.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from oracle.core.errors import ConfigurationError, ProtocolError

HOST = "127.0.0.1"
_SHUTDOWN_S = 1.0
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SAFE_SITES = frozenset({"none", "same-origin"})
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "oracle",  # else the library and its version are named
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_log = logging.getLogger("oracle.console")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Check(msgspec.Struct, frozen=True):
    """One condition of health or readiness, with its reason in words when it does not hold."""

    ok: bool
    reason: str = ""


class Probes(msgspec.Struct, frozen=True):
    """What the console asks. Each is called per request, on the event loop, and must be quick.

    ``health``: whether loop, core and writer are alive (a vendor's outage is not ill health). ``readiness``: every
    condition for trading. ``status``: plain values for JSON; Decimals become text.
    """

    metrics: Callable[[], bytes]
    health: Callable[[], Mapping[str, Check]]
    readiness: Callable[[], Mapping[str, Check]]
    status: Callable[[], Mapping[str, Any]]


class Console:
    """The HTTP listener."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._runner: web.AppRunner | None = None
        self._hosts: frozenset[str] = frozenset()

    async def start(self, port: int) -> int:
        """Listen on 127.0.0.1.

        Args:
            port: 0 takes any free port.

        Returns:
            The port in use.

        Raises:
            ConfigurationError: the port is taken or not allowed.
        """
        if self._runner is not None:
            raise ProtocolError("console: started twice")
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        for path, handler in (
            ("/metrics", self._metrics),
            ("/healthz", self._health),
            ("/readyz", self._readiness),
            ("/status", self._status),
        ):
            app.router.add_get(path, handler, allow_head=False)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, port).start()
        except (OSError, OverflowError) as error:
            await runner.cleanup()
            raise ConfigurationError(
                "console.port", f"{HOST}:{port} cannot be used ({error})", "choose another"
            ) from error
        self._runner = runner
        bound: int = runner.addresses[0][1]
        self._hosts = frozenset(f"{name}:{bound}" for name in (HOST, "localhost", "[::1]"))
        return bound

    async def stop(self) -> None:
        """Stop listening; requests in flight get a second. Harmless when not started."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = self._refusal(request)
        if response is None:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = _json({"error": error.reason}, error.status)
            except Exception:
                # A probe that raises is a fault to be seen, but it must not take the console down; no detail leaves.
                _log.exception("console probe failed")
                response = _json({"error": "internal error; see the log"}, 500)
        response.headers.update(_HEADERS)
        return response

    def _refusal(self, request: web.Request) -> web.StreamResponse | None:
        if request.method != "GET":
            refused = _json({"error": "only GET is served"}, 405)
            refused.headers["Allow"] = "GET"
            return refused
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return _json({"error": "the Host header is not this console's"}, 403)
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in _SAFE_SITES:
            return _json({"error": "cross-site requests are refused"}, 403)
        return None

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._probes.metrics(), headers={"Content-Type": _METRICS_TYPE})

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        return _checks("healthy", self._probes.health())

    async def _readiness(self, _request: web.Request) -> web.StreamResponse:
        return _checks("ready", self._probes.readiness())

    async def _status(self, _request: web.Request) -> web.StreamResponse:
        return _json(self._probes.status(), 200)


def _checks(word: str, checks: Mapping[str, Check]) -> web.StreamResponse:
    # No check at all means that nothing was measured: that is not health.
    fine = bool(checks) and all(check.ok for check in checks.values())
    return _json({word: fine, "checks": dict(checks)}, 200 if fine else 503)


def _json(content: object, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")

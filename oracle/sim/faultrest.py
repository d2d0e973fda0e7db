"""Faults of requests: refused unheard, carried out and the reply lost, orders that look-ups do not find yet.

Inputs: requests and the endpoints' answers. Outputs: other answers, or none at all. The control endpoint is here too.
Invariant: requests of the simulator's own (``/sim/``, ``/pacing``) are never struck.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from oracle.core.errors import ConfigurationError
from oracle.sim.errors import RefusedError, not_found, too_many_requests, unauthorized
from oracle.sim.faultplan import read_plan
from oracle.sim.faults import Faults

# A reply that never comes: longer than any client waits, and bounded.
HANG_S = 60.0
_PLACES = (
    ("/v2/orders:by_client_order_id", "look_up"),
    ("/v2/orders/", "order"),
    ("/v2/orders", "orders"),
    ("/v2/positions", "positions"),
    ("/v2/account/activities", "activities"),
    ("/v2/account", "account"),
    ("/v2/options/contracts", "contracts"),
    ("/v2/stocks/bars", "bars"),
    ("/v2/stocks", "stock_data"),
    ("/v1beta1/options", "option_data"),
)
_METHODS = {("orders", "POST"): "submit", ("order", "DELETE"): "cancel"}
_STREAMS = ("/v2/iex", "/v2/sip", "/v1beta1/indicative", "/v1beta1/opra", "/stream", "/pacing", "/sim/")


def json_reply(body: Any, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON response (or an empty one for ``body`` None)."""
    if body is None:
        return web.Response(status=status, headers=headers)
    data = msgspec.json.encode(body)
    return web.Response(body=data, status=status, content_type="application/json", headers=headers)


class Lost(web.Response):
    """An answer that never arrives: the connection is dropped, at once or after the client has given up."""

    def __init__(self, hangs: bool) -> None:
        super().__init__(status=504)
        self._hangs = hangs

    async def lose(self, request: web.Request) -> web.StreamResponse:
        """Drop the connection."""
        transport = request.transport
        if self._hangs and transport is not None:
            gone = asyncio.get_running_loop().time() + HANG_S
            # Transport time: nothing tells a handler that its client has left.
            while not transport.is_closing() and asyncio.get_running_loop().time() < gone:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        if transport is not None:
            transport.abort()
        return self


class RequestFaults:
    """Asks the faults about requests."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def place(self, request: web.Request) -> str:
        """The word of a request in ``on``; empty for what is never struck."""
        path = request.path
        if path.startswith(_STREAMS):
            return ""
        word = next((word for start, word in _PLACES if path.startswith(start)), "other")
        return _METHODS.get((word, request.method), word)

    def before(self, request: web.Request, place: str) -> web.Response | None:
        """An answer instead of the endpoint's, which then never hears of the request."""
        fault = self._faults.first("refuse_request", place)
        if fault is not None:
            return failure(503 if "reply" not in fault.model_fields_set else fault.reply)
        if place == "cancel" and self._faults.fills_instead(request.path.rsplit("/", 1)[-1]):
            return json_reply(None, 204)
        return None

    def after(self, request: web.Request, place: str, response: web.StreamResponse) -> web.StreamResponse:
        """What arrives of the endpoint's answer."""
        if not 200 <= response.status < 300:
            return response
        if place in ("look_up", "order") and self._faults.has(("hide_order",), place):
            name = request.query.get("client_order_id") or request.path.rsplit("/", 1)[-1]
            if self._faults.hides(place, name):
                refusal = not_found(f"order not found for {name}")
                return json_reply(refusal.body(), refusal.status)
        fault = self._faults.first("lose_reply", place)
        return response if fault is None else failure(fault.reply)

    def tells_fills_first(self, place: str) -> bool:
        """Whether what a request caused is told on the stream before its reply."""
        return self._faults.first("fill_before_reply", place) is not None


def failure(reply: int | str) -> web.Response:
    """The answer of a fault: a lost one, the vendor's own words where it has some, else the proxy's HTML."""
    if isinstance(reply, str):
        return Lost(hangs=reply == "hang")
    known: dict[int, RefusedError] = {401: unauthorized(), 429: too_many_requests()}
    if reply in known:
        return json_reply(known[reply].body(), reply)
    if reply < 500:
        return json_reply({"code": reply * 100_000, "message": "refused by a fault"}, reply)
    return web.Response(status=reply, text=f"<html><h1>{reply}</h1></html>", content_type="text/html")


class FaultApi:
    """The control endpoint: arm, list and clear faults at run time."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def show(self) -> Any:
        """GET /sim/v1/faults."""
        return self._faults.report()

    def add(self, body: Any) -> Any:
        """POST /sim/v1/faults: one fault, or a plan ``{"seed": 7, "fault": [...]}``.

        Raises:
            RefusedError: 422, it is none.
        """
        try:
            plan = read_plan(body if isinstance(body, Mapping) and "fault" in body else {"fault": [body]})
            return {"ids": self._faults.add(plan)}
        except (ConfigurationError, ValueError) as error:
            raise RefusedError(422, 42210000, str(error)) from None

    def clear(self, number: str | None) -> Any:
        """DELETE /sim/v1/faults[/{id}].

        Raises:
            RefusedError: 404, there is no such fault.
        """
        if number is None:
            return {"cleared": self._faults.remove()}
        if not (number.isascii() and number.isdigit() and len(number) < 10) or self._faults.remove(int(number)) == 0:
            raise not_found(f"fault not found for {number}")
        return {"cleared": 1}

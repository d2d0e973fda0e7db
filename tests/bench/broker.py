"""A broker and vendor on loopback that speaks just enough of Alpaca for a client to be timed.

Inputs: REST and websockets of several accounts, told apart by their key. Outputs: for each account, what it sent and
when: ``arrived_s`` is ``perf_counter`` once the whole body of an order's POST has been read. Ours and the floor are
served by the same code in the same process, so what it costs cancels.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgpack
import orjson
from aiohttp import WSMsgType, web

from oracle.alpaca import wire
from oracle.alpaca.fields import rfc3339_ns, rfc3339_text
from oracle.core.instruments import CONTRACT_MULTIPLIER
from oracle.core.sessions import Session
from tests.bench import market

OPENING_CASH_USD = Decimal(10_000_000)
Json = dict[str, Any]


@dataclass(slots=True)
class Order:
    """One order; its JSON is what REST and the stream tell."""

    body: Json

    @property
    def is_open(self) -> bool:
        """Whether it still works."""
        return self.body["status"] in ("new", "accepted")


@dataclass(slots=True)
class Account:
    """One client: its sockets by path, its orders, and the moments of its POSTs."""

    now_ns: Callable[[], int]
    fills: bool = False
    sockets: dict[str, web.WebSocketResponse] = field(default_factory=dict)
    subscribed: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    activities: list[Json] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    cash_usd: Decimal = OPENING_CASH_USD
    arrived_s: list[float] = field(default_factory=list)
    posted: asyncio.Event = field(default_factory=asyncio.Event)
    requests: int = 0
    last_request_s: float = 0.0


class Broker:
    """The server. ``add`` accounts, then run it with ``start``; ``stop`` ends it."""

    def __init__(self, session: Session) -> None:
        self.accounts: dict[str, Account] = {}
        self.contracts = market.contracts()
        self._session = session
        self._runner: web.AppRunner | None = None

    def add(self, key: str, now_ns: Callable[[], int], fills: bool = False) -> Account:
        """Make an account; ``fills`` executes its orders at once at their limit, or at the bid."""
        self.accounts[key] = Account(now_ns, fills)
        return self.accounts[key]

    async def start(self) -> str:
        """Listen on a free port; returns the root URL."""
        app = web.Application()
        for method, path, handler in (
            ("GET", wire.STOCK_STREAM_PATH.format(feed="iex"), self._data_stream),
            ("GET", wire.STOCK_STREAM_PATH.format(feed="sip"), self._data_stream),
            ("GET", wire.OPTION_STREAM_PATH.format(feed="indicative"), self._data_stream),
            ("GET", wire.OPTION_STREAM_PATH.format(feed="opra"), self._data_stream),
            ("GET", wire.TRADING_STREAM_PATH, self._trading_stream),
            ("POST", wire.ORDERS_PATH, self._submit),
            ("GET", wire.ORDERS_PATH, self._orders),
            ("GET", wire.ORDER_BY_CLIENT_ID_PATH, self._look_up),
            ("DELETE", wire.ORDERS_PATH + "/{name}", self._cancel),
            ("GET", wire.ORDERS_PATH + "/{name}", self._order),
            ("GET", wire.ACCOUNT_PATH, self._account),
            ("GET", wire.POSITIONS_PATH, self._positions),
            ("GET", wire.ACTIVITIES_PATH, self._activities),
            ("GET", wire.CLOCK_PATH, self._clock),
            ("GET", wire.CALENDAR_PATH, self._calendar),
            ("GET", wire.CONTRACTS_PATH, self._contracts),
            ("GET", wire.STOCK_BARS_PATH, self._bars),
            ("GET", wire.OPTION_SNAPSHOTS_PATH, self._snapshots),
        ):
            app.router.add_route(method, path, handler)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Close every connection and the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    # ---------------------------------------------------------------------------------------------------- orders

    async def _submit(self, request: web.Request) -> web.Response:
        raw = await request.read()
        arrived_s = time.perf_counter()
        account = self._of(request)
        account.arrived_s.append(arrived_s)
        account.posted.set()
        asked = orjson.loads(raw)
        number, at = len(account.orders) + 1, rfc3339_text(account.now_ns())
        order = Order({
            **asked, "id": f"00000000-0000-4000-8000-{number:012d}", "status": "new", "created_at": at,
            "updated_at": at, "filled_qty": "0", "filled_avg_price": None, "order_class": "simple", "legs": None,
            "order_type": asked["type"], "asset_class": "us_option",
        })  # fmt: skip
        account.orders[order.body["id"]] = order
        told = orjson.dumps(order.body)
        if account.fills:
            asyncio.get_running_loop().call_soon(self._fill, account, order)
        return web.Response(body=told, content_type="application/json")

    def _fill(self, account: Account, order: Order) -> None:
        body, at = order.body, rfc3339_text(account.now_ns())
        qty, sign = int(body["qty"]), 1 if body["side"] == "buy" else -1
        price = body.get("limit_price") or format(Decimal(repr(self.contracts[body["symbol"]].bid)), "f")
        body.update(status="filled", filled_qty=body["qty"], filled_avg_price=price, updated_at=at)
        account.cash_usd -= sign * qty * Decimal(price) * CONTRACT_MULTIPLIER
        account.held[body["symbol"]] = account.held.get(body["symbol"], 0) + sign * qty
        execution = f"e{len(account.activities) + 1:08d}"
        account.activities.append({
            "id": f"20260105000000000::{execution}", "activity_type": wire.FILL_ACTIVITY, "transaction_time": at,
            "price": price, "qty": body["qty"], "side": body["side"], "symbol": body["symbol"], "order_id": body["id"],
        })  # fmt: skip
        fill = {"execution_id": execution, "price": price, "qty": body["qty"]}
        self._tell(account, {"event": "fill", "timestamp": at, "order": body, **fill})

    def _tell(self, account: Account, data: Json) -> None:
        socket = account.sockets.get(wire.TRADING_STREAM_PATH)
        if socket is not None:
            text = orjson.dumps({"stream": "trade_updates", "data": data})
            self._sending = asyncio.create_task(socket.send_bytes(text))

    async def _cancel(self, request: web.Request) -> web.Response:
        account = self._of(request)
        order = account.orders.get(request.match_info["name"])
        if order is None or not order.is_open:
            return web.json_response({"code": 42210000, "message": "order is not cancelable"}, status=422)
        at = rfc3339_text(account.now_ns())
        order.body.update(status="canceled", updated_at=at)
        self._tell(account, {"event": "canceled", "timestamp": at, "order": order.body})
        return web.Response(status=204)

    async def _orders(self, request: web.Request) -> web.Response:
        account, every = self._of(request), request.query.get("status") == "all"
        return _json([order.body for order in account.orders.values() if every or order.is_open][-500:])

    async def _order(self, request: web.Request) -> web.Response:
        return self._one(self._of(request).orders.get(request.match_info["name"]))

    async def _look_up(self, request: web.Request) -> web.Response:
        name = request.query["client_order_id"]
        orders = self._of(request).orders.values()
        return self._one(next((order for order in orders if order.body["client_order_id"] == name), None))

    def _one(self, order: Order | None) -> web.Response:
        if order is None:
            return web.json_response({"code": 40410000, "message": "order not found"}, status=404)
        return _json(order.body)

    # --------------------------------------------------------------------------------------------------- account

    async def _account(self, request: web.Request) -> web.Response:
        account = self._of(request)
        values = (qty * CONTRACT_MULTIPLIER * Decimal(repr(self.contracts[s].bid)) for s, qty in account.held.items())
        equity, cash = format(account.cash_usd + sum(values), "f"), format(account.cash_usd, "f")
        return _json({
            "equity": equity, "last_equity": format(OPENING_CASH_USD, "f"), "cash": cash, "options_buying_power": cash,
            "options_trading_level": 3, "trading_blocked": False, "account_blocked": False,
            "trade_suspended_by_user": False,
        })  # fmt: skip

    async def _positions(self, request: web.Request) -> web.Response:
        held = self._of(request).held
        return _json([
            {"symbol": symbol, "qty": str(qty), "side": "long", "avg_entry_price": "1"}
            for symbol, qty in held.items() if qty != 0
        ])  # fmt: skip

    async def _activities(self, request: web.Request) -> web.Response:
        after_ns = rfc3339_ns(request.query["after"], "query", "after")
        token = request.query.get("page_token", "")
        rows = [
            row for row in self._of(request).activities
            if row["id"] > token and rfc3339_ns(row["transaction_time"], "activity", "transaction_time") > after_ns
        ]  # fmt: skip
        return _json(rows[: wire.ACTIVITY_PAGE_LIMIT])

    async def _clock(self, request: web.Request) -> web.Response:
        opened, closed = (rfc3339_text(at_ns) for at_ns in (self._session.open_ns, self._session.close_ns))
        now = rfc3339_text(self._of(request).now_ns())
        return _json({"timestamp": now, "is_open": True, "next_open": opened, "next_close": closed})

    async def _calendar(self, request: web.Request) -> web.Response:
        self._of(request)
        return _json([{"date": self._session.date, "open": "09:30", "close": "16:00"}])

    # ------------------------------------------------------------------------------------------------ market data

    async def _contracts(self, request: web.Request) -> web.Response:
        self._of(request)
        wanted = request.query["underlying_symbols"]
        rows = [market.rest_contract(c) for c in self.contracts.values() if c.underlying == wanted]
        return _json({"option_contracts": rows, "next_page_token": None})

    async def _snapshots(self, request: web.Request) -> web.Response:
        at_ns = self._of(request).now_ns()
        asked = request.query["symbols"].split(",")
        found = {symbol: {"latestQuote": market.rest_quote(self.contracts[symbol], at_ns)} for symbol in asked}
        return _json({"snapshots": found, "next_page_token": None})

    async def _bars(self, request: web.Request) -> web.Response:
        self._of(request)
        start, end = (rfc3339_ns(request.query[name], "query", name) for name in ("start", "end"))
        first_ns, last_ns = max(start, self._session.open_ns), min(end, self._session.close_ns)
        bars = {s: market.rest_bars(s, first_ns, last_ns) for s in request.query["symbols"].split(",")}
        return _json({"bars": bars, "next_page_token": None})

    # --------------------------------------------------------------------------------------------------- streams

    async def _data_stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.send_bytes(msgpack.packb([{"T": "success", "msg": "connected"}]))
        said = msgpack.unpackb((await socket.receive()).data)
        account = self.accounts[said["key"]]
        account.sockets[request.path] = socket
        have = account.subscribed[request.path] = {}
        await socket.send_bytes(msgpack.packb([{"T": "success", "msg": "authenticated"}]))
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                continue
            said = msgpack.unpackb(message.data)
            for channel, symbols in said.items():
                if channel != "action":
                    group = have.setdefault(channel, set())
                    group.update(symbols) if said["action"] == "subscribe" else group.difference_update(symbols)
            ack = {"T": "subscription", **{channel: sorted(group) for channel, group in have.items()}}
            await socket.send_bytes(msgpack.packb([ack]))
        return socket

    async def _trading_stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        said = orjson.loads((await socket.receive()).data)
        self.accounts[said["data"]["key_id"]].sockets[request.path] = socket
        await socket.send_bytes(orjson.dumps({"stream": "authorization", "data": {"status": "authorized"}}))
        async for message in socket:
            said = orjson.loads(message.data)
            await socket.send_bytes(orjson.dumps({"stream": "listening", "data": said["data"]}))
        return socket

    def _of(self, request: web.Request) -> Account:
        account = self.accounts[request.headers[wire.KEY_HEADER]]
        account.requests += 1
        account.last_request_s = time.perf_counter()
        return account


def _json(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")

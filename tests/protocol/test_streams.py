"""Unmodified alpaca-py streams against the exchange, in models and raw; and the handshake's error codes."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgpack
import pytest
from alpaca.data.live import OptionDataStream, StockDataStream
from alpaca.trading.stream import TradingStream

from oracle.sim.source import Status
from tests.protocol.conftest import HEADERS, KEY, SECRET, Pace, Running, Start
from tests.protocol.scripted_source import FAR, OPEN_NS, STRIKES, make_sessions, occ

CALL = occ(600)
NS = 10**9
Handler = Callable[[Any], Awaitable[None]]


def into(queue: asyncio.Queue[Any]) -> Handler:
    async def handler(message: Any) -> None:
        queue.put_nowait(message)

    return handler


async def take(queue: asyncio.Queue[Any]) -> Any:
    async with asyncio.timeout(5):
        return await queue.get()


@asynccontextmanager
async def played(stream: Any) -> AsyncIterator[Any]:
    """Run an alpaca-py stream as a task until it is connected; close it afterwards."""
    task = asyncio.create_task(stream._run_forever())
    async with asyncio.timeout(5):
        while not stream._running:  # alpaca-py has no event for it
            assert not task.done(), task
            await asyncio.sleep(0)
    try:
        yield stream
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stream.close()


@asynccontextmanager
async def pacing(running: Running, at_ns: int = OPEN_NS) -> AsyncIterator[Pace]:
    pace = await Pace(running).join()
    await pace.until(at_ns)
    try:
        yield pace
    finally:
        await pace.close()


async def acknowledged(pace: Pace, kind: str, count: int = 1) -> None:
    """Wait until the exchange has begun to send on ``kind``; the subscribe has then been handled."""
    async with asyncio.timeout(5):
        while sum(n for c, n in (await pace.step())["sent"].items() if c.startswith(kind)) < count:
            pass


async def test_stock_stream_in_models(start: Start) -> None:
    running = start()
    queues: dict[str, asyncio.Queue[Any]] = {c: asyncio.Queue() for c in ("q", "t", "b", "u", "d", "s")}
    stream = StockDataStream(KEY, SECRET, url_override=running.ws + "/v2/sip")
    stream.subscribe_quotes(into(queues["q"]), "SPY")
    stream.subscribe_trades(into(queues["t"]), "*")
    stream.subscribe_bars(into(queues["b"]), "SPY", "QQQ")
    stream.subscribe_updated_bars(into(queues["u"]), "QQQ")
    stream.subscribe_daily_bars(into(queues["d"]), "SPY")
    stream.subscribe_trading_statuses(into(queues["s"]), "SPY")
    async with pacing(running) as pace, played(stream):
        running.source.statuses.append(Status("SPY", OPEN_NS + NS, "H", "Halted", "T1", "News"))
        await acknowledged(pace, "stock")
        await pace.until(OPEN_NS + 60 * NS)
        quote, trade = await take(queues["q"]), await take(queues["t"])
        assert (quote.symbol, quote.ask_size, quote.bid_price) == ("SPY", 200.0, round(quote.ask_price - 0.02, 2))
        assert (trade.symbol, trade.conditions) == ("QQQ", ["@"])
        bars = [await take(queues["b"]) for _ in range(2)]
        assert [(b.symbol, b.close, b.vwap, b.trade_count) for b in bars] == [
            ("QQQ", 600.05, 600.02, 120.0),
            ("SPY", 600.05, 600.02, 120.0),
        ]
        assert bars[0].timestamp.timestamp() == OPEN_NS / NS
        assert (await take(queues["u"])).symbol == "QQQ"
        assert (await take(queues["d"])).symbol == "SPY"
        assert (await take(queues["s"])).status_code == "H"


async def test_raw_times_are_msgpack_timestamps(start: Start) -> None:
    running = start()
    queue: asyncio.Queue[Any] = asyncio.Queue()
    stream = StockDataStream(KEY, SECRET, raw_data=True, url_override=running.ws + "/v2/iex")
    stream.subscribe_quotes(into(queue), "SPY")
    async with pacing(running) as pace, played(stream):
        await acknowledged(pace, "stock")
        message = await take(queue)
        assert message["T"] == "q"
        assert message["t"].to_unix_nano() % NS == 0
        assert message["t"].to_unix_nano() > OPEN_NS


async def test_option_stream_in_models(start: Start) -> None:
    running = start()
    quotes: asyncio.Queue[Any] = asyncio.Queue()
    trades: asyncio.Queue[Any] = asyncio.Queue()
    running.source.set_touch(CALL, None, 0.05)
    stream = OptionDataStream(KEY, SECRET, url_override=running.ws + "/v1beta1/opra")
    stream.subscribe_quotes(into(quotes), CALL)
    stream.subscribe_trades(into(trades), CALL)
    async with pacing(running) as pace, played(stream):
        await acknowledged(pace, "option", 2)
        quote, trade = await take(quotes), await take(trades)
        assert (quote.symbol, quote.bid_price, quote.bid_size, quote.ask_price) == (CALL, 0.0, 0.0, 0.05)
        assert (trade.price, trade.size, trade.conditions) == (1.25, 3.0, "I")


async def test_option_stream_in_raw_mode(start: Start) -> None:
    running = start()
    quotes: asyncio.Queue[Any] = asyncio.Queue()
    stream = OptionDataStream(KEY, SECRET, raw_data=True, url_override=running.ws + "/v1beta1/opra")
    stream.subscribe_quotes(into(quotes), CALL)
    async with pacing(running) as pace, played(stream):
        await acknowledged(pace, "option", 1)
        quote = await take(quotes)
        assert (quote["T"], quote["S"]) == ("q", CALL)
        assert isinstance(quote["c"], str)
        assert quote["t"].to_unix_nano() > OPEN_NS


def simple(client_id: str, price: float, qty: int = 1) -> dict[str, Any]:
    return {
        "symbol": CALL,
        "qty": qty,
        "side": "buy",
        "type": "limit",
        "time_in_force": "day",
        "limit_price": price,
        "client_order_id": client_id,
    }


async def test_trade_updates_in_models(start: Start) -> None:
    running = start()
    queue: asyncio.Queue[Any] = asyncio.Queue()
    stream = TradingStream(KEY, SECRET, url_override=running.ws + "/stream")
    stream.subscribe_trade_updates(into(queue))
    async with pacing(running, OPEN_NS + NS) as pace, played(stream):
        await heard_by_stream(running, queue)
        await asyncio.to_thread(running.post, simple("a", 1.30, qty=12))
        new, part = await take(queue), await take(queue)
        await pace.step()
        done = await take(queue)
        assert [u.event for u in (new, part, done)] == ["new", "partial_fill", "fill"]
        assert [(u.qty, u.price, u.position_qty) for u in (part, done)] == [(10.0, 1.3, 10.0), (2.0, 1.3, 12.0)]
        assert part.execution_id != done.execution_id
        assert (done.order.client_order_id, done.order.filled_qty) == ("a", "12")
        resting = (await asyncio.to_thread(running.post, simple("b", 1.00))).json()
        assert (await take(queue)).event == "new"
        await asyncio.to_thread(running.call, "PATCH", f"/v2/orders/{resting['id']}", {"limit_price": 1.01})
        old, fresh = await take(queue), await take(queue)
        assert (old.event, fresh.event) == ("replaced", "new")
        assert str(old.order.replaced_by) == str(fresh.order.id)
        await asyncio.to_thread(running.call, "DELETE", f"/v2/orders/{fresh.order.id}")
        assert (await take(queue)).event == "canceled"


async def heard_by_stream(running: Running, queue: asyncio.Queue[Any]) -> None:
    """Post and cancel orders until the stream, now listening, has told of one cancel."""
    number = 0
    while True:
        number += 1
        order = await asyncio.to_thread(running.post, simple(f"probe-{number}", 0.50))
        await asyncio.to_thread(running.call, "DELETE", f"/v2/orders/{order.json()['id']}")
        try:
            async with asyncio.timeout(0.2):
                while True:
                    update = await queue.get()
                    event = update["data"]["event"] if isinstance(update, dict) else update.event
                    if event == "canceled":
                        return
        except TimeoutError:
            continue


async def test_mleg_fills_are_whole_in_raw_mode(start: Start) -> None:
    running = start()
    queue: asyncio.Queue[Any] = asyncio.Queue()
    stream = TradingStream(KEY, SECRET, raw_data=True, url_override=running.ws + "/stream")
    stream.subscribe_trade_updates(into(queue))
    running.source.set_touch(occ(605), 0.60, 0.65)
    legs = [
        {"symbol": CALL, "ratio_qty": "1", "side": "buy", "position_intent": "buy_to_open"},
        {"symbol": occ(605), "ratio_qty": "1", "side": "sell", "position_intent": "sell_to_open"},
    ]
    body = {
        "qty": "3",
        "type": "limit",
        "time_in_force": "day",
        "order_class": "mleg",
        "limit_price": 0.75,
        "legs": legs,
    }
    async with pacing(running, OPEN_NS + NS), played(stream):
        await heard_by_stream(running, queue)
        await asyncio.to_thread(running.post, body)
        assert (await take(queue))["data"]["event"] == "new"
        fill = (await take(queue))["data"]
        assert (fill["event"], fill["price"], fill["qty"]) == ("fill", "0.7", "3")
        assert fill["position_qtys"] == {CALL: "3", occ(605): "-3"}
        assert [(leg["symbol"], leg["price"], leg["qty"]) for leg in fill["legs"]] == [
            (CALL, "1.3", "3"),
            (occ(605), "0.6", "3"),
        ]
        assert fill["order"]["asset_id"] == "00000000-0000-0000-0000-000000000000"
        assert [leg["id"] for leg in fill["order"]["legs"]] == [leg["order_id"] for leg in fill["legs"]]


# -- the handshake, by hand -----------------------------------------------------------------------------------------


class Raw:
    """A data socket spoken to by hand."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def say(self, message: Any) -> list[dict[str, Any]]:
        await self.ws.send_bytes(msgpack.packb(message))
        return await self.hear()

    async def hear(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = msgpack.unpackb(await self.ws.receive_bytes(timeout=5))
        return found

    async def auth(self) -> list[dict[str, Any]]:
        return await self.say({"action": "auth", "key": KEY, "secret": SECRET})

    async def closed(self) -> bool:
        return (await self.ws.receive(timeout=5)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


@asynccontextmanager
async def raw(running: Running, path: str, **headers: str) -> AsyncIterator[Raw]:
    async with aiohttp.ClientSession() as http, http.ws_connect(running.ws + path, headers=headers) as ws:
        one = Raw(ws)
        if "json" not in headers.get("Content-Type", ""):
            assert await one.hear() == [{"T": "success", "msg": "connected"}]
        yield one


def error(code: int, text: str) -> list[dict[str, Any]]:
    return [{"T": "error", "code": code, "msg": text}]


async def test_errors_before_and_at_auth(start: Start) -> None:
    running = start()
    async with raw(running, "/v2/sip") as one:
        assert await one.say({"action": "subscribe", "quotes": ["SPY"]}) == error(401, "not authenticated")
        assert await one.say({"action": "auth", "key": KEY, "secret": 7}) == error(402, "auth failed")
        assert await one.closed()
    async with raw(running, "/v2/sip") as one:
        assert await one.auth() == [{"T": "success", "msg": "authenticated"}]
        assert await one.auth() == error(403, "already authenticated")
        async with raw(running, "/v2/sip") as second:
            assert await second.auth() == error(406, "connection limit exceeded")
            assert await second.closed()
    async with raw(running, "/v2/sip", **HEADERS) as one:
        assert await one.hear() == [{"T": "success", "msg": "authenticated"}]


async def test_auth_has_a_deadline(start: Start) -> None:
    running = start(auth_timeout_s=0.05)
    async with raw(running, "/v1beta1/opra") as one:
        assert await one.hear() == error(404, "auth timeout")
        assert await one.closed()


async def test_basic_plan_is_refused_sip_and_counted(start: Start) -> None:
    running = start(plan="basic")
    async with raw(running, "/v2/sip") as one:
        assert await one.auth() == error(409, "insufficient subscription")
    async with raw(running, "/v2/iex") as one:
        await one.auth()
        names = [f"S{chr(65 + i)}" for i in range(26)] + [f"T{chr(65 + i)}" for i in range(5)]
        assert await one.say({"action": "subscribe", "quotes": names}) == error(405, "symbol limit exceeded")
        [ack] = await one.say({"action": "subscribe", "quotes": names[:30]})
        assert len(ack["quotes"]) == 30
    async with raw(running, "/v1beta1/indicative") as one:
        await one.auth()
        contracts = [f"SPY260116C{i:08d}" for i in range(1, 202)]
        assert await one.say({"action": "subscribe", "quotes": contracts}) == error(405, "symbol limit exceeded")
        [ack] = await one.say({"action": "subscribe", "quotes": contracts[:200]})
        assert len(ack["quotes"]) == 200


async def test_subscriptions_state_the_full_set(start: Start) -> None:
    running = start()
    async with raw(running, "/v2/sip") as one:
        await one.auth()
        await one.say({"action": "subscribe", "trades": ["SPY"], "bars": ["SPY", "QQQ"]})
        [ack] = await one.say({"action": "unsubscribe", "bars": ["SPY"]})
        assert ack == {
            "T": "subscription",
            "trades": ["SPY"],
            "quotes": [],
            "bars": ["QQQ"],
            "updatedBars": [],
            "dailyBars": [],
            "statuses": [],
            "lulds": [],
            "corrections": ["SPY"],
            "cancelErrors": ["SPY"],
        }
        for wrong in (
            {"action": "dance"},
            [],
            {"action": "subscribe", "quotes": "SPY"},
            {"action": "subscribe", "x": []},
        ):
            assert await one.say(wrong) == error(400, "invalid syntax")
        await one.ws.send_bytes(b"\xc1")
        assert await one.hear() == error(400, "invalid syntax")
    async with raw(running, "/v1beta1/opra") as one:
        await one.auth()
        [refused] = await one.say({"action": "subscribe", "bars": [CALL]})
        assert refused["code"] == 410
        [refused] = await one.say({"action": "subscribe", "quotes": ["*"]})
        assert refused["code"] == 413
        [ack] = await one.say({"action": "subscribe", "trades": ["*"]})
        assert ack == {"T": "subscription", "trades": ["*"], "quotes": []}


async def test_the_codec_follows_the_content_type(start: Start) -> None:
    running = start()
    json_type = {"Content-Type": "application/json"}
    async with raw(running, "/v1beta1/opra", **json_type) as one:
        assert json.loads(await one.ws.receive_str()) == [{"T": "success", "msg": "connected"}]
        assert json.loads(await one.ws.receive_str())[0]["code"] == 412
    async with raw(running, "/v2/sip", **json_type, **HEADERS) as one, pacing(running) as pace:
        await one.ws.receive_str()
        await one.ws.receive_str()
        await one.ws.send_json({"action": "subscribe", "quotes": ["SPY"]})
        await one.ws.receive_str()
        await pace.step()
        [quote] = json.loads(await one.ws.receive_str())
        assert (quote["T"], quote["S"], quote["t"]) == ("q", "SPY", "2026-01-05T14:30:01Z")


async def test_the_trade_stream_refuses_strangers(start: Start) -> None:
    running = start()
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(running.ws + "/stream") as ws:
            await ws.send_json({"action": "auth", "key": KEY, "secret": "no"})
            assert json.loads(await ws.receive_bytes())["data"]["status"] == "unauthorized"
        async with http.ws_connect(running.ws + "/stream") as ws:
            await ws.send_json({"action": "listen", "data": {"streams": ["trade_updates"]}})
            assert json.loads(await ws.receive_bytes())["data"] == {"error_message": "not authenticated"}
        async with http.ws_connect(running.ws + "/stream") as ws:
            await ws.send_json({"action": "auth", "key": KEY, "secret": SECRET})
            assert json.loads(await ws.receive_bytes())["data"]["status"] == "authorized"
            await ws.send_json({"action": "listen", "data": {"streams": ["trade_updates", "other"]}})
            assert json.loads(await ws.receive_bytes())["data"] == {"streams": ["trade_updates"]}


@pytest.mark.parametrize("path", ["/v2/sip", "/stream", "/pacing"])
async def test_every_upgrade_names_its_connection(start: Start, path: str) -> None:
    running = start()
    async with aiohttp.ClientSession() as http:
        ids = []
        for _ in range(2):
            async with http.ws_connect(running.ws + path) as ws:
                ids.append(ws._response.headers["X-Connection-Id"])
    assert len(set(ids)) == 2


async def test_a_client_that_does_not_read_is_cut_off(start: Start) -> None:
    running = start(sessions=make_sessions(1, 120), slow_client_bytes=1 << 16)
    everything = [occ(k, r, e) for k in STRIKES for r in "CP" for e in (FAR, "2026-01-05")]
    async with raw(running, "/v1beta1/opra") as one, pacing(running) as pace:
        await one.auth()
        await one.say({"action": "subscribe", "quotes": everything})
        connection = one.ws._conn
        assert connection is not None
        assert connection.transport is not None
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.protocol.pause_reading()
        async with asyncio.timeout(20):
            while "option-1" in (await pace.step())["sent"]:
                pass
        connection.transport.abort()  # 407 was written, but a client that does not read need not get it

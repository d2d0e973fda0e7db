"""Structures through unmodified alpaca-py: request models in, orders and trade updates out, in models and raw."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.live import OptionDataStream
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderClass, OrderSide, OrderStatus, PositionIntent, TimeInForce, TradeEvent
from alpaca.trading.models import TradeUpdate
from alpaca.trading.requests import LimitOrderRequest, MarketOrderRequest, OptionLegRequest, ReplaceOrderRequest
from alpaca.trading.stream import TradingStream

from tests.protocol.conftest import KEY, SECRET, Running, Start, move_to
from tests.protocol.scripted_source import OPEN_NS, occ
from tests.protocol.test_streams import NS, acknowledged, heard_by_stream, into, pacing, played, take

CONDOR = ((590, "P", "buy"), (595, "P", "sell"), (605, "C", "sell"), (610, "C", "buy"))
OUT = tuple((k, r, {"buy": "sell", "sell": "buy"}[s]) for k, r, s in CONDOR)
NAKED = ((595, "P", "sell"), (605, "C", "sell"))


def legs(rows: Any, intent: str = "open", ratios: tuple[int, ...] = (1, 1, 1, 1), expiry: str = "") -> Any:
    more = (expiry,) if expiry else ()
    return [
        OptionLegRequest(
            symbol=occ(k, r, *more),
            ratio_qty=n,
            side=OrderSide(s),
            position_intent=PositionIntent(f"{s}_to_{intent}"),
        )
        for (k, r, s), n in zip(rows, ratios, strict=False)
    ]


def net(price: float, rows: Any = CONDOR, qty: int = 1, intent: str = "open", **more: Any) -> LimitOrderRequest:
    """A structure at a net price: positive is paid, negative received."""
    return LimitOrderRequest(
        qty=qty,
        order_class=OrderClass.MLEG,
        time_in_force=TimeInForce.DAY,
        legs=legs(rows, intent, **more),
        limit_price=price,
    )


def quoted(running: Running) -> None:
    """Quotes at which a condor pays 0.90 and costs 1.10 to close."""
    for k, r, bid in ((590, "P", 0.50), (595, "P", 1.00), (605, "C", 1.00), (610, "C", 0.50)):
        running.source.set_touch(occ(k, r), bid, bid + 0.05)


def connect(running: Running) -> TradingClient:
    client = TradingClient(KEY, SECRET, paper=True, url_override=running.url)
    client._retry = 0
    return client


@pytest.fixture
def trading(open_market: Running) -> Iterator[TradingClient]:
    quoted(open_market)
    client = connect(open_market)
    yield client
    client._session.close()


def refusal(client: TradingClient, request: Any) -> tuple[int, int, str]:
    with pytest.raises(APIError) as refused:
        client.submit_order(request)
    return refused.value.status_code, refused.value.code, refused.value.message


# -- orders ---------------------------------------------------------------------------------------------------------


def test_the_sign_of_the_limit_is_who_pays(trading: TradingClient) -> None:
    for price, status in ((-0.91, OrderStatus.NEW), (-0.90, OrderStatus.FILLED)):
        order = trading.submit_order(net(price))
        assert trading.get_order_by_id(order.id).status is status
    assert trading.get_account().cash == "100090"
    for price, status in ((1.09, OrderStatus.NEW), (1.10, OrderStatus.FILLED)):
        order = trading.submit_order(net(price, OUT, intent="close"))
        assert trading.get_order_by_id(order.id).status is status
        if status is OrderStatus.NEW:
            trading.cancel_order_by_id(order.id)
    assert trading.get_account().cash == "99980"
    assert trading.get_all_positions() == []


def test_an_order_and_its_legs_as_models(trading: TradingClient) -> None:
    posted = trading.submit_order(net(-0.90, qty=2))
    assert (posted.order_class, posted.limit_price, posted.qty) == (OrderClass.MLEG, "-0.9", "2")
    assert (posted.symbol, posted.side, posted.asset_class, posted.position_intent) == (None, None, None, None)
    found = trading.get_order_by_id(posted.id)
    parts = found.legs or []
    assert [(p.symbol, p.side.value, p.position_intent.value) for p in parts if p.side and p.position_intent] == [
        (occ(k, r), s, f"{s}_to_open") for k, r, s in CONDOR
    ]
    assert [(p.qty, p.filled_qty, p.ratio_qty, p.status) for p in parts] == [("2", "2", "1", OrderStatus.FILLED)] * 4
    ids = [p.id for p in parts]
    assert len({*ids, found.id, *(p.client_order_id for p in parts), found.client_order_id}) == 10
    by_leg = trading.get_order_by_client_id(parts[0].client_order_id)
    assert by_leg.symbol == occ(590, "P")


def test_a_market_structure_takes_every_touch(trading: TradingClient) -> None:
    request = MarketOrderRequest(qty=1, order_class=OrderClass.MLEG, time_in_force=TimeInForce.DAY, legs=legs(CONDOR))
    order = trading.submit_order(request)
    assert trading.get_order_by_id(order.id).filled_avg_price == "-0.9"


def test_replace_and_cancel(trading: TradingClient) -> None:
    first = trading.submit_order(net(-1.00, qty=3))
    second = trading.replace_order_by_id(first.id, ReplaceOrderRequest(limit_price=-0.95))
    assert (second.limit_price, second.replaces) == ("-0.95", first.id)
    assert trading.get_order_by_id(first.id).status is OrderStatus.REPLACED
    for leg in trading.get_order_by_id(second.id).legs or []:
        with pytest.raises(APIError) as alone:
            trading.cancel_order_by_id(leg.id)
        assert alone.value.status_code == 422
    trading.cancel_order_by_id(second.id)
    canceled = trading.get_order_by_id(second.id)
    assert canceled.status is OrderStatus.CANCELED
    assert {leg.status for leg in canceled.legs or []} == {OrderStatus.CANCELED}
    assert trading.get_account().options_buying_power == "100000"


def test_a_partial_fill_keeps_the_ratio_and_the_rest_can_be_canceled(
    trading: TradingClient, open_market: Running
) -> None:
    open_market.source.set_touch(occ(605), 1.00, 1.05, 5, 5)
    rows = ((600, "C", "buy"), (605, "C", "sell"), (610, "C", "buy"))
    order = trading.submit_order(net(0.05, rows, qty=4, ratios=(1, 2, 1)))
    part = trading.get_order_by_id(order.id)
    assert (part.status, part.filled_qty, part.filled_avg_price) == (OrderStatus.PARTIALLY_FILLED, "2", "-0.15")
    assert [leg.filled_qty for leg in part.legs or []] == ["2", "4", "2"]
    trading.cancel_order_by_id(order.id)
    sides = {p.symbol: p.qty for p in trading.get_all_positions()}
    assert sides == {occ(600): "2", occ(605): "-4", occ(610): "2"}


def test_refused_structures(trading: TradingClient, start: Start) -> None:
    eligible = "account not eligible to trade spreads or uncovered contracts"
    assert refusal(trading, net(-2.00, NAKED)) == (403, 40310000, eligible)
    assert refusal(trading, net(-0.905))[:2] == (422, 42210000)
    assert refusal(trading, net(-0.90, ratios=(2, 2, 2, 2)))[2].startswith("leg ratio quantities should be relatively")
    assert refusal(trading, net(5.00, OUT, intent="close"))[2].startswith("position intent mismatch, inferred")
    assert "insufficient options buying power" in refusal(trading, net(-0.10, qty=300))[2]
    assert trading.get_orders() == []
    low = start(options_level=2)
    move_to(low, OPEN_NS + 60 * NS)
    client = connect(low)
    assert refusal(client, net(-0.90)) == (403, 40310000, eligible)
    client._session.close()


def test_no_opening_on_the_last_half_hour_of_any_leg(trading: TradingClient, open_market: Running) -> None:
    today = open_market.source.sessions[0].date
    trading.submit_order(net(0.30, ((595, "P", "sell"), (590, "P", "buy")), expiry=today))
    move_to(open_market, open_market.source.sessions[0].close_ns - 30 * 60 * NS)
    status, code, words = refusal(trading, net(-0.90, expiry=today))
    assert (status, code) == (422, 42210000)
    assert words.endswith("expires soon, unable to open new positions")
    closing = net(0.30, ((595, "P", "buy"), (590, "P", "sell")), intent="close", expiry=today)
    assert trading.get_order_by_id(trading.submit_order(closing).id).status is OrderStatus.FILLED


# -- trade updates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "models"])
async def test_updates_of_a_structure(start: Start, raw: bool) -> None:
    running = start(trading_requests_per_min=10_000)
    quoted(running)
    queue: asyncio.Queue[Any] = asyncio.Queue()
    stream = TradingStream(KEY, SECRET, raw_data=raw, url_override=running.ws + "/stream")
    stream.subscribe_trade_updates(into(queue))
    client = connect(running)
    async with pacing(running, OPEN_NS + NS) as pace, played(stream):
        await heard_by_stream(running, queue)
        running.source.set_touch(occ(605), 1.00, 1.05, 2, 2)
        await asyncio.to_thread(client.submit_order, net(-0.90, qty=3))
        heard = [await take(queue), await take(queue)]
        await pace.step()
        heard.append(await take(queue))
        resting = await asyncio.to_thread(client.submit_order, net(-2.00))
        change = ReplaceOrderRequest(limit_price=-1.90)
        moved = await asyncio.to_thread(client.replace_order_by_id, resting.id, change)
        await asyncio.to_thread(client.cancel_order_by_id, moved.id)
        heard += [await take(queue) for _ in range(4)]
    client._session.close()
    events = ["new", "partial_fill", "fill", "new", "replaced", "new", "canceled"]
    if not raw:
        assert all(isinstance(update, TradeUpdate) for update in heard)
        assert [TradeEvent(update.event).value for update in heard] == events
        assert [(update.qty, update.price) for update in heard[1:3]] == [(2.0, -0.9), (1.0, -0.9)]
        assert [len(update.order.legs or []) for update in heard] == [4] * 7
        return
    data = [update["data"] for update in heard]
    assert [row["event"] for row in data] == events
    for row, units, held in ((data[1], 2, 2), (data[2], 1, 3)):
        assert (row["qty"], row["price"], "position_qty" in row) == (str(units), "-0.9", False)
        signs = {occ(k, r): held if s == "buy" else -held for k, r, s in CONDOR}
        assert row["position_qtys"] == {symbol: str(quantity) for symbol, quantity in signs.items()}
        assert [leg["order_id"] for leg in row["legs"]] == [leg["id"] for leg in row["order"]["legs"]]
        for leg in row["legs"]:
            assert set(leg) == {"execution_id", "qty", "price", "order_id", "symbol", "timestamp"}
            assert (leg["qty"], UUID(leg["execution_id"]).version) == (str(units), 5)
    ids = [leg["execution_id"] for row in data[1:3] for leg in row["legs"]]
    assert len(set(ids)) == 8
    fills = {row["id"].split("::")[1] for row in running.call("GET", "/v2/account/activities/FILL").json()}
    assert fills == set(ids)
    assert data[4]["order"]["replaced_by"] == data[5]["order"]["id"]


async def test_what_the_broker_closes_is_told_like_any_order(start: Start) -> None:
    running = start(behaviour={"pin_risk_sell_out": 1.0}, trading_requests_per_min=10_000)
    quoted(running)
    session = running.source.sessions[0]
    queue: asyncio.Queue[Any] = asyncio.Queue()
    stream = TradingStream(KEY, SECRET, url_override=running.ws + "/stream")
    stream.subscribe_trade_updates(into(queue))
    client = connect(running)
    async with pacing(running, OPEN_NS + NS) as pace, played(stream):
        await heard_by_stream(running, queue)
        mine = await asyncio.to_thread(client.submit_order, net(0.30, CONDOR, expiry=session.date))
        assert [(await take(queue)).event for _ in range(2)] == ["new", "fill"]
        await pace.until(session.close_ns - 15 * 60 * NS)
        new, fill = await take(queue), await take(queue)
    client._session.close()
    assert (new.event, fill.event, fill.order.order_class.value) == ("new", "fill", "simple")
    assert fill.order.client_order_id not in (mine.client_order_id, "")
    shown = running.call("GET", f"/v2/orders/{fill.order.id}").json()
    assert (shown["source"], shown["type"], shown["filled_qty"]) == ("liquidation", "market", "1")
    rows = running.call("GET", "/v2/account/activities/FILL").json()
    assert rows[0]["order_id"] == str(fill.order.id)
    assert len(running.call("GET", "/v2/positions").json()) == 3


# -- trades of options ----------------------------------------------------------------------------------------------


async def test_subscribing_to_trades_watches_them_alone(start: Start) -> None:
    running = start()
    queue: asyncio.Queue[Any] = asyncio.Queue()
    stream = OptionDataStream(KEY, SECRET, raw_data=True, url_override=running.ws + "/v1beta1/opra")
    stream.subscribe_trades(into(queue), "*")
    async with pacing(running, OPEN_NS + NS) as pace, played(stream):
        await acknowledged(pace, "option")
        trade = await take(queue)
        assert (running.source._traded, running.source._watched) == ({"*"}, set())
    assert set(trade) == {"T", "S", "t", "p", "s", "x", "c"}
    assert (trade["T"], trade["S"], type(trade["c"])) == ("t", occ(600), str)

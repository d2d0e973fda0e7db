"""Unmodified alpaca-py against the exchange on loopback: every REST call it serves, in models."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.enums import DataFeed, OptionsFeed
from alpaca.data.historical.option import OptionHistoricalDataClient
from alpaca.data.historical.stock import StockHistoricalDataClient
from alpaca.data.requests import (
    OptionBarsRequest,
    OptionChainRequest,
    OptionLatestQuoteRequest,
    OptionLatestTradeRequest,
    OptionSnapshotRequest,
    OptionTradesRequest,
    StockBarsRequest,
    StockLatestBarRequest,
    StockLatestQuoteRequest,
    StockLatestTradeRequest,
    StockQuotesRequest,
    StockSnapshotRequest,
    StockTradesRequest,
)
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import (
    AssetClass,
    ContractType,
    OrderClass,
    OrderSide,
    OrderStatus,
    PositionIntent,
    PositionSide,
    QueryOrderStatus,
    TimeInForce,
)
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetAssetsRequest,
    GetCalendarRequest,
    GetOptionContractsRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    OptionLegRequest,
    ReplaceOrderRequest,
    StopLimitOrderRequest,
)

from tests.protocol.conftest import KEY, SECRET, Running
from tests.protocol.scripted_source import FAR, occ

CALL, UPPER = occ(600), occ(605)


@pytest.fixture
def trading(open_market: Running) -> Iterator[TradingClient]:
    client = TradingClient(KEY, SECRET, paper=True, url_override=open_market.url)
    client._retry = 0
    yield client
    client._session.close()


@pytest.fixture
def stocks(open_market: Running) -> Iterator[StockHistoricalDataClient]:
    client = StockHistoricalDataClient(KEY, SECRET, url_override=open_market.url)
    client._retry = 0
    yield client
    client._session.close()


@pytest.fixture
def options(open_market: Running) -> Iterator[OptionHistoricalDataClient]:
    client = OptionHistoricalDataClient(KEY, SECRET, url_override=open_market.url)
    client._retry = 0
    yield client
    client._session.close()


def limit(symbol: str = CALL, price: float = 1.00, **more: Any) -> LimitOrderRequest:
    fields: dict[str, Any] = {"side": OrderSide.BUY, "qty": 1, **more}
    return LimitOrderRequest(symbol=symbol, time_in_force=TimeInForce.DAY, limit_price=price, **fields)


def condor(price: float, qty: int = 1, **more: Any) -> LimitOrderRequest:
    legs = [
        OptionLegRequest(
            symbol=occ(k, r),
            ratio_qty=1,
            side=OrderSide(s),
            position_intent=PositionIntent(f"{s}_to_open"),
        )
        for k, r, s in ((590, "P", "buy"), (595, "P", "sell"), (605, "C", "sell"), (610, "C", "buy"))
    ]
    return LimitOrderRequest(
        qty=qty,
        order_class=OrderClass.MLEG,
        time_in_force=TimeInForce.DAY,
        legs=legs,
        limit_price=price,
        **more,
    )


# -- reference and account ------------------------------------------------------------------------------------------


def test_account_clock_calendar_and_assets(trading: TradingClient) -> None:
    account = trading.get_account()
    assert (account.cash, account.options_buying_power, account.equity) == ("100000", "100000", "100000")
    assert account.options_trading_level == 3
    clock = trading.get_clock()
    assert clock.is_open
    assert clock.timestamp == datetime(2026, 1, 5, 14, 31, tzinfo=UTC)
    assert clock.next_close == datetime(2026, 1, 5, 15, 30, tzinfo=UTC)
    days = trading.get_calendar(GetCalendarRequest(start="2026-01-01", end="2026-01-06"))
    assert [(d.date.isoformat(), d.open.hour, d.close.hour) for d in days] == [("2026-01-05", 9, 10)]
    assert [a.symbol for a in trading.get_all_assets()] == ["QQQ", "SPY"]
    assert trading.get_all_assets(GetAssetsRequest(asset_class=AssetClass.CRYPTO)) == []
    asset = trading.get_asset("SPY")
    assert trading.get_asset(str(asset.id)) == asset
    assert asset.attributes == ["has_options"]
    assert trading.get_account_configurations().fractional_trading is False
    with pytest.raises(APIError) as refused:
        trading.get_asset("NOPE")
    assert (refused.value.status_code, refused.value.code) == (404, 40410000)


def test_option_contracts_filter_and_page(trading: TradingClient) -> None:
    near = trading.get_option_contracts(GetOptionContractsRequest(underlying_symbols=["SPY"]))
    assert near.next_page_token is None
    assert {c.expiration_date.isoformat() for c in near.option_contracts} == {"2026-01-05"}
    asked = GetOptionContractsRequest(
        underlying_symbols=["SPY"],
        expiration_date=FAR,
        type=ContractType.CALL,
        strike_price_gte="595",
        strike_price_lte="610",
        limit=3,
    )
    first = trading.get_option_contracts(asked)
    asked.page_token = first.next_page_token
    second = trading.get_option_contracts(asked)
    got = [c.symbol for c in [*first.option_contracts, *second.option_contracts]]
    assert got == [occ(k) for k in (595, 600, 605, 610)]
    assert second.next_page_token is None
    one = trading.get_option_contract(CALL)
    assert (one.open_interest, one.strike_price, one.size, one.underlying_symbol) == ("1600", 600.0, "100", "SPY")
    assert trading.get_option_contract(str(one.id)) == one


# -- orders ---------------------------------------------------------------------------------------------------------


def test_a_marketable_limit_fills_at_the_touch(trading: TradingClient) -> None:
    posted = trading.submit_order(limit(price=1.35, qty=2, client_order_id="one"))
    assert posted.status is OrderStatus.PENDING_NEW
    assert posted.filled_qty == "0"
    found = trading.get_order_by_client_id("one")
    assert (found.id, found.status, found.filled_qty) == (posted.id, OrderStatus.FILLED, "2")
    assert found.filled_avg_price == "1.3"
    assert found.position_intent is PositionIntent.BUY_TO_OPEN
    position = trading.get_open_position(CALL)
    assert (position.qty, position.avg_entry_price, position.cost_basis) == ("2", "1.3", "260")
    assert position.side is PositionSide.LONG
    assert trading.get_open_position(str(position.asset_id)) == position
    assert trading.get_account().cash == "99740"
    [fill] = trading.get("/account/activities/FILL", {"direction": "asc", "page_size": 100})
    assert (fill["price"], fill["qty"], fill["side"], fill["order_id"]) == ("1.3", "2", "buy", str(posted.id))


def test_resting_orders_are_listed_replaced_and_canceled(trading: TradingClient) -> None:
    first = trading.submit_order(limit(price=1.00, client_order_id="a"))
    assert [o.id for o in trading.get_orders()] == [first.id]
    second = trading.replace_order_by_id(first.id, ReplaceOrderRequest(limit_price=1.05, client_order_id="b"))
    assert second.id != first.id
    assert second.replaces == first.id
    old = trading.get_order_by_id(first.id)
    assert (old.status, old.replaced_by) == (OrderStatus.REPLACED, second.id)
    for change in (ReplaceOrderRequest(limit_price=1.05), ReplaceOrderRequest(limit_price=1.05, qty=1)):
        with pytest.raises(APIError) as same:
            trading.replace_order_by_id(second.id, change)
        assert same.value.message == "order parameters are not changed"
    with pytest.raises(APIError) as replaced:
        trading.replace_order_by_id(first.id, ReplaceOrderRequest(limit_price=1.10))
    assert (replaced.value.code, replaced.value.message) == (42210000, "order already replaced")
    assert trading.cancel_order_by_id(second.id) is None
    with pytest.raises(APIError) as again:
        trading.cancel_order_by_id(second.id)
    assert (again.value.status_code, again.value.code) == (422, 42210000)
    assert again.value.message == 'order is already in "canceled" state'
    closed = trading.get_orders(GetOrdersRequest(status=QueryOrderStatus.CLOSED, symbols=[CALL]))
    assert [o.client_order_id for o in closed] == ["b", "a"]
    assert trading.get_orders(GetOrdersRequest(status=QueryOrderStatus.ALL, side=OrderSide.SELL)) == []


def test_cancel_all_and_unknown_orders(trading: TradingClient) -> None:
    ids = {trading.submit_order(limit(price=p)).id for p in (1.00, 1.01)}
    assert {r.id for r in trading.cancel_orders()} == ids
    assert trading.get_orders() == []
    for call in (trading.get_order_by_id, trading.cancel_order_by_id):
        with pytest.raises(APIError) as unknown:
            call("61e69015-8549-4bfd-b9c3-01e75843f47d")
        assert (unknown.value.status_code, unknown.value.code) == (404, 40410000)
    with pytest.raises(APIError):
        trading.get_order_by_client_id("nobody")


def test_an_iron_condor_fills_as_one(trading: TradingClient, open_market: Running) -> None:
    for k, r, bid in ((590, "P", 0.50), (595, "P", 1.00), (605, "C", 1.00), (610, "C", 0.50)):
        open_market.source.set_touch(occ(k, r), bid, bid + 0.05)
    waiting = trading.submit_order(condor(-0.95, client_order_id="too-dear"))
    assert trading.get_order_by_id(waiting.id).status is OrderStatus.NEW
    posted = trading.submit_order(condor(-0.90, qty=2))
    filled = trading.get_order_by_id(posted.id)
    assert (filled.status, filled.filled_avg_price, filled.symbol) == (OrderStatus.FILLED, "-0.9", None)
    assert [(leg.symbol, leg.filled_avg_price) for leg in filled.legs or []] == [
        (occ(590, "P"), "0.55"),
        (occ(595, "P"), "1"),
        (occ(605), "1"),
        (occ(610), "0.55"),
    ]
    account = trading.get_account()
    # 100,000 + 2 x 90 received - 2 x 500 required - the waiting condor's 500 - 95.
    assert account.cash == "100180"
    assert account.options_buying_power == str(100180 - 1000 - 405)
    sides = {p.symbol: p.qty for p in trading.get_all_positions()}
    assert sides == {occ(590, "P"): "2", occ(595, "P"): "-2", occ(605): "-2", occ(610): "2"}
    leg_id = (filled.legs or [])[0].id
    assert trading.get_order_by_id(leg_id).symbol == occ(590, "P")
    with pytest.raises(APIError) as leg:
        trading.cancel_order_by_id(leg_id)
    assert leg.value.status_code == 422
    moved = trading.replace_order_by_id(waiting.id, ReplaceOrderRequest(limit_price=-0.85))
    assert trading.get_order_by_id(moved.id).status is OrderStatus.FILLED


def test_close_position_and_close_all(trading: TradingClient) -> None:
    trading.submit_order(limit(price=1.35, qty=4))
    trading.submit_order(limit(UPPER, price=1.35, qty=1))
    trading.submit_order(MarketOrderRequest(symbol="SPY", qty=10, side=OrderSide.BUY, time_in_force=TimeInForce.DAY))
    trading.close_position(CALL, ClosePositionRequest(qty="1"))
    assert trading.get_open_position(CALL).qty == "3"
    trading.close_position(CALL, ClosePositionRequest(percentage="34"))
    assert trading.get_open_position(CALL).qty == "2"
    rows = trading.close_all_positions(cancel_orders=True)
    assert [(r.symbol, r.status) for r in rows] == [("SPY", 200), (CALL, 200), (UPPER, 200)]
    assert trading.get_all_positions() == []
    with pytest.raises(APIError) as gone:
        trading.close_position(CALL)
    assert (gone.value.code, gone.value.message) == (40410000, "position does not exist")
    history = trading.get_portfolio_history()
    assert history.equity[-1] == float(trading.get_account().equity)


def test_refusals_come_as_api_errors(trading: TradingClient) -> None:
    trading.submit_order(limit(price=1.00, client_order_id="used"))
    with pytest.raises(APIError) as twice:
        trading.submit_order(limit(price=1.00, client_order_id="used"))
    assert (twice.value.status_code, twice.value.code) == (422, 40010001)
    assert twice.value.message == "client_order_id must be unique"
    with pytest.raises(APIError) as naked:
        trading.submit_order(limit(price=1.00, side=OrderSide.SELL, symbol=UPPER))
    assert (naked.value.status_code, naked.value.code) == (403, 40310000)
    assert naked.value.message == "account not eligible to trade uncovered option contracts"
    with pytest.raises(APIError) as dear:
        trading.submit_order(limit(UPPER, price=50.0, qty=100))
    assert dear.value.message == "insufficient options buying power (required: 500000, available: 99900)"


def test_a_stop_limit_waits(trading: TradingClient, open_market: Running) -> None:
    request = StopLimitOrderRequest(
        symbol=CALL, qty=1, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, stop_price=1.40, limit_price=1.50
    )
    order = trading.submit_order(request)
    assert trading.get_order_by_id(order.id).status is OrderStatus.NEW


# -- market data ----------------------------------------------------------------------------------------------------


def test_stock_history(stocks: StockHistoricalDataClient) -> None:
    begin = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    bars = stocks.get_stock_bars(
        StockBarsRequest(symbol_or_symbols=["SPY", "QQQ"], timeframe=TimeFrame.Minute, start=begin)
    )
    assert [b.timestamp for b in bars.data["SPY"]] == [begin]
    five = TimeFrame(5, TimeFrameUnit.Minute)
    wide = stocks.get_stock_bars(StockBarsRequest(symbol_or_symbols="SPY", timeframe=five, start=begin))
    assert wide.data["SPY"][0].volume == 12_000
    daily = stocks.get_stock_bars(
        StockBarsRequest(symbol_or_symbols="SPY", timeframe=TimeFrame.Day, start=datetime(2026, 1, 1, tzinfo=UTC))
    )
    assert len(daily.data["SPY"]) == 3
    quotes = stocks.get_stock_quotes(StockQuotesRequest(symbol_or_symbols="SPY", start=begin, limit=7))
    assert len(quotes.data["SPY"]) == 7
    trades = stocks.get_stock_trades(StockTradesRequest(symbol_or_symbols="SPY", start=begin))
    assert len(trades.data["SPY"]) == 60


def test_pages_add_up(open_market: Running) -> None:
    query = {"symbols": "SPY,QQQ", "start": "2026-01-05T14:30:00Z", "limit": "25"}
    seen: list[tuple[str, str]] = []
    token = None
    while True:
        more = {} if token is None else {"page_token": token}
        body = open_market.call("GET", "/v2/stocks/trades", **query, **more).json()
        seen += [(s, row["t"]) for s, rows in body["trades"].items() for row in rows]
        token = body["next_page_token"]
        if token is None:
            break
    assert len(seen) == 120
    assert seen == sorted(set(seen))


def test_stock_latest_and_snapshot(stocks: StockHistoricalDataClient) -> None:
    assert stocks.get_stock_latest_quote(StockLatestQuoteRequest(symbol_or_symbols="SPY"))["SPY"].ask_price == 600.01
    assert stocks.get_stock_latest_trade(StockLatestTradeRequest(symbol_or_symbols="SPY"))["SPY"].size == 100
    assert stocks.get_stock_latest_bar(StockLatestBarRequest(symbol_or_symbols="SPY"))["SPY"].close == 600.05
    asked = StockSnapshotRequest(symbol_or_symbols=["SPY"], feed=DataFeed.SIP)
    snapshot = stocks.get_stock_snapshot(asked)["SPY"]
    assert snapshot.latest_quote.bid_price == 599.99
    assert snapshot.daily_bar.volume == 12_000
    assert snapshot.previous_daily_bar.timestamp.date().isoformat() == "2026-01-04"


def test_option_data(options: OptionHistoricalDataClient) -> None:
    assert options.get_option_latest_quote(OptionLatestQuoteRequest(symbol_or_symbols=CALL))[CALL].bid_price == 1.20
    assert options.get_option_latest_trade(OptionLatestTradeRequest(symbol_or_symbols=CALL))[CALL].price == 1.25
    begin = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    trades = options.get_option_trades(OptionTradesRequest(symbol_or_symbols=CALL, start=begin))
    assert len(trades.data[CALL]) == 60
    bars = options.get_option_bars(OptionBarsRequest(symbol_or_symbols=CALL, timeframe=TimeFrame.Minute, start=begin))
    assert len(bars.data[CALL]) == 1
    one = options.get_option_snapshot(OptionSnapshotRequest(symbol_or_symbols=[CALL, UPPER]))
    assert sorted(one) == [CALL, UPPER]
    chain = options.get_option_chain(
        OptionChainRequest(
            underlying_symbol="SPY",
            feed=OptionsFeed.OPRA,
            type=ContractType.PUT,
            expiration_date=FAR,
            strike_price_lte=600.0,
        )
    )
    assert sorted(chain) == [occ(k, "P") for k in (590, 595, 600)]
    assert chain[occ(590, "P")].latest_quote.ask_price == 1.30
    assert options.get_option_exchange_codes()

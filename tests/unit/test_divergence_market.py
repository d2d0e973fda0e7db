"""The market as it was told: the last quote by now, nothing while it is unknown, and an exchange that trades on it."""

import math
from decimal import Decimal

import numpy as np
import pytest

from oracle.core.marketdata import Bar, ChainListed, ChainQuotes, FeedChanged, ListedContract, Quote, TradingStatus
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Feed, FeedState
from oracle.sim.config import ExchangeConfig
from oracle.sim.errors import RefusedError
from oracle.sim.told import ToldExchange, ToldMarket
from tests.unit.builders import CALL, DATES, OPEN_NS, OTHER_CALL, PUT, TABLE

AT_NS = OPEN_NS + 30 * MINUTE_NS


def listed(*symbols: str, date: str = DATES[0]) -> ChainListed:
    rows = (ListedContract(symbol, 10, "2026-01-02", True) for symbol in sorted(symbols))
    return ChainListed("SPY", date, tuple(rows))


def quotes(row: int, bid: float, ask: float, size: int = 5, at_ns: int = AT_NS, date: str = DATES[0]) -> ChainQuotes:
    return ChainQuotes(
        "SPY", date, np.array([row], "<i4").tobytes(), np.array([bid], "<f8").tobytes(),
        np.array([ask], "<f8").tobytes(), np.array([size], "<i4").tobytes(), np.array([size], "<i4").tobytes(),
        np.array([at_ns], "<i8").tobytes(),
    )  # fmt: skip


@pytest.fixture
def market() -> ToldMarket:
    made = ToldMarket(TABLE.sessions)
    for message in (listed(CALL, PUT), Quote("SPY", AT_NS, 600.0, 100, 600.02, 200), quotes(0, 1.95, 2.00)):
        made.take(AT_NS, message)
    return made


def test_the_book_is_the_last_quote_told(market: ToldMarket) -> None:
    call, stock = market.touch(CALL), market.touch("SPY")
    assert call is not None
    assert (call.bid, call.ask, call.ask_size, call.at_ns) == (1.95, 2.00, 5, AT_NS)
    assert stock is not None
    assert (stock.bid, stock.ask_size) == (600.0, 200)
    assert market.touch(PUT) is None, "listed and never quoted"
    assert market.touch(OTHER_CALL) is None, "never listed"
    market.take(AT_NS + NS, quotes(0, math.nan, 2.05))
    changed = market.touch(CALL)
    assert changed is not None
    assert (changed.bid, changed.ask) == (None, 2.05)


def test_nothing_is_known_while_a_feed_is_down_a_stock_halted_or_the_process_new(market: ToldMarket) -> None:
    market.take(AT_NS, FeedChanged(Feed.OPTION, 1, FeedState.STALE, "silence"))
    assert market.touch(CALL) is None
    assert market.touch("SPY") is not None
    market.take(AT_NS, FeedChanged(Feed.OPTION, 2, FeedState.LIVE, "again"))
    assert market.touch(CALL) is not None
    market.take(AT_NS, TradingStatus("SPY", AT_NS, "H", "halted", halted=True))
    assert (market.touch(CALL), market.touch("SPY")) == (None, None)
    market.take(AT_NS, TradingStatus("SPY", AT_NS, "T", "trading", halted=False))
    assert market.touch(CALL) is not None
    market.forget()
    assert (market.touch(CALL), market.touch("SPY"), market.listing(CALL)) == (None, None, None)


def test_a_later_listing_of_the_day_keeps_quotes_by_contract_and_another_day_does_not(market: ToldMarket) -> None:
    market.take(AT_NS, listed(CALL, OTHER_CALL, PUT))
    kept = market.touch(CALL)
    assert kept is not None
    assert kept.ask == 2.00
    market.take(AT_NS, quotes(1, 0.90, 0.95))
    other = market.touch(OTHER_CALL)
    assert other is not None
    assert other.ask == 0.95
    market.take(AT_NS, quotes(0, 9.0, 9.1, date=DATES[1]))
    assert market.touch(CALL) == kept, "quotes of a listing that was not told have no rows"
    market.take(AT_NS, listed(CALL, date=DATES[1]))
    assert market.touch(CALL) is None
    assert [row.symbol for row in market.listings("SPY", DATES[1])] == [CALL]
    assert market.listings("SPY", DATES[0]) == ()


def test_a_price_without_a_size_is_counted_and_bars_give_the_last_trade(market: ToldMarket) -> None:
    market.take(AT_NS, Quote("SPY", AT_NS, 600.0, 0, 600.02, 200))
    market.take(AT_NS, Bar("SPY", OPEN_NS, 600.0, 601.0, 599.0, 600.5, 10, 1, 600.0))
    assert market.sizeless == 1
    last = market.last_print("SPY")
    assert last is not None
    assert (last.price, last.at_ns) == (600.5, OPEN_NS + MINUTE_NS)


def order(symbol: str, side: str, qty: int, limit: str, name: str) -> dict[str, object]:
    return {
        "symbol": symbol, "qty": str(qty), "side": side, "type": "limit", "limit_price": limit, "time_in_force": "day",
        "client_order_id": name,
    }  # fmt: skip


def test_the_exchange_fills_at_the_told_book_from_what_the_account_began_with(market: ToldMarket) -> None:
    exchange = ToldExchange(ExchangeConfig(key="k", secret="s"), market, TABLE)
    exchange.begin(Decimal(10_000), Decimal(10_400), {CALL: (2, Decimal("1.50"))})
    exchange.step(AT_NS)
    assert exchange.account.quantities() == {CALL: 2}
    assert exchange.account.positions[CALL].average_price == Decimal("1.50")
    with pytest.raises(RefusedError, match="not found"):
        exchange.submit(order(OTHER_CALL, "buy", 1, "1.00", "unlisted"))
    exchange.submit(order(CALL, "buy", 3, "2.00", "at the ask"))
    assert (exchange.account.quantity(CALL), exchange.account.cash_usd) == (5, Decimal(9_400))
    market.take(AT_NS, listed(CALL, OTHER_CALL, PUT))
    market.take(AT_NS, quotes(1, 0.90, 0.95, size=1))
    exchange.submit(order(OTHER_CALL, "buy", 2, "0.95", "more than is shown"))
    assert exchange.account.quantity(OTHER_CALL) == 1, "a contract can be traded once its listing was told"

"""Option trades at the edge: in batches, none lost in silence, each with the quote that was in force."""

import math

import msgpack
import numpy as np
import pytest

from oracle.alpaca.conflate import Conflator
from oracle.alpaca.fields import MalformedError
from oracle.alpaca.tradebatch import TradeBatcher
from oracle.core.marketdata import ChainListed, ListedContract

NS = 1_000_000_000
T0 = 1_767_623_400 * NS
A, B = "SPY260105C00600000", "SPY260105P00600000"
Q = "QQQ260105C00500000"


def listed(*symbols, date="2026-01-05"):
    contracts = tuple(ListedContract(s, 10, "2026-01-02", True) for s in sorted(symbols))
    return ChainListed(symbols[0][:3], date, contracts)


def batcher(**more):
    quotes = Conflator()
    quotes.set_chain(listed(A, B))
    quotes.set_chain(listed(Q))
    return quotes, TradeBatcher(quotes, **more)


def raw(symbol=A, price=1.05, size=3, at_ns=T0, venue="C", **changes):
    stamp = msgpack.Timestamp(at_ns // NS, at_ns % NS)
    return {"T": "t", "S": symbol, "t": stamp, "p": price, "s": size, "x": venue, "c": "I", **changes}


def unpacked(message):
    kinds = {"rows": "<i4", "price": "<f8", "size": "<i4", "traded_ns": "<i8", "bid": "<f8", "ask": "<f8"}
    return {name: np.frombuffer(getattr(message, name), kind).tolist() for name, kind in kinds.items()}


def test_trades_come_out_in_order_of_arrival_with_rows_and_venues():
    _, trades = batcher()
    trades.put_raw(raw(B, 2.0, 5, T0 + 7, "N"))
    trades.put_raw(raw(A, 1.0, 3, T0 + 5, "C"))
    (message,) = trades.drain(T0 + NS)
    assert (message.underlying, message.date, message.lost, message.venue) == ("SPY", "2026-01-05", 0, b"NC")
    assert unpacked(message)["rows"] == [1, 0]
    assert unpacked(message)["price"] == [2.0, 1.0]
    assert unpacked(message)["size"] == [5, 3]
    assert unpacked(message)["traded_ns"] == [T0 + 7, T0 + 5]
    assert trades.drain(T0 + 3 * NS) == []
    assert trades.pending == 0


def test_a_batch_is_due_once_a_second_and_underlyings_come_sorted():
    _, trades = batcher()
    trades.put_raw(raw(A))
    assert len(trades.drain(T0)) == 1
    trades.put_raw(raw(A))
    trades.put_raw(raw(Q))
    assert trades.drain(T0 + NS - 1) == []
    assert [m.underlying for m in trades.drain(T0 + NS)] == ["QQQ", "SPY"]


def test_each_trade_carries_the_quote_that_was_in_force():
    quotes, trades = batcher()
    trades.put_raw(raw(at_ns=T0))
    quotes.put_option(A, 1.0, 5, 1.1, 6, T0 + 10)
    quotes.drain(T0 + 11)  # what the core has been told is still in force
    trades.put_raw(raw(at_ns=T0 + 20))
    quotes.put_option(A, 2.0, 5, 0.0, 0, T0 + 30)
    trades.put_raw(raw(at_ns=T0 + 25))  # told late: the quote before the newest was in force
    trades.put_raw(raw(at_ns=T0 + 30))
    quotes.put_option(A, 3.0, 5, 3.1, 6, T0 + 40)
    quotes.put_option(A, 4.0, 5, 4.1, 6, T0 + 50)
    trades.put_raw(raw(at_ns=T0 + 35))  # older than the two quotes that are known
    (message,) = trades.drain(T0 + NS)
    bid, ask = unpacked(message)["bid"], unpacked(message)["ask"]
    assert math.isnan(bid[0])
    assert math.isnan(ask[0])
    assert (bid[1:3], ask[1:3]) == ([1.0, 1.0], [1.1, 1.1])
    assert bid[3] == 2.0
    assert math.isnan(ask[3])
    assert math.isnan(bid[4])
    assert math.isnan(ask[4])


def test_after_a_cut_no_quote_of_before_is_in_force():
    quotes, trades = batcher()
    quotes.put_option(A, 1.0, 5, 1.1, 6, T0)
    quotes.clear()
    trades.put_raw(raw(at_ns=T0 + 5))
    assert math.isnan(unpacked(trades.drain(T0 + NS)[0])["bid"][0])


def test_a_full_batch_counts_and_tells_what_it_lost():
    _, trades = batcher(limit=2)
    for n in range(5):
        trades.put_raw(raw(at_ns=T0 + n))
    trades.put_raw(raw(Q))
    assert trades.lost == 4
    first, second = trades.drain(T0 + NS)
    assert (first.underlying, first.lost, first.rows) == ("QQQ", 1, b"")
    assert (second.underlying, second.lost, len(second.rows)) == ("SPY", 3, 8)
    trades.put_raw(raw())
    assert trades.drain(T0 + 2 * NS)[0].lost == 0


def test_trades_of_contracts_that_are_not_listed_are_counted():
    quotes, trades = batcher()
    trades.put_raw(raw("IWM260105C00200000"))
    trades.put_raw(raw(A))
    quotes.set_chain(listed(B))
    assert trades.drain(T0 + NS) == []
    assert trades.unlisted == 2


def test_rows_are_those_of_the_listing_of_the_batch():
    quotes, trades = batcher()
    trades.put_raw(raw(B))
    quotes.set_chain(listed(B, date="2026-01-06"))
    (message,) = trades.drain(T0 + NS)
    assert (message.date, unpacked(message)["rows"]) == ("2026-01-06", [0])


def test_a_stamp_from_the_future_counts_as_the_batchs():
    _, trades = batcher()
    trades.put_raw(raw(at_ns=T0 + 100 * NS))
    assert unpacked(trades.drain(T0 + NS)[0])["traded_ns"] == [T0 + NS]


@pytest.mark.parametrize("venue", ["", "CBOE", "é", None, 7])
def test_a_venue_that_is_no_letter_is_untold(venue):
    _, trades = batcher()
    trades.put_raw(raw(venue=venue))
    assert trades.drain(T0 + NS)[0].venue == b" "


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"S": None}, "S"), ({"p": None}, "p"), ({"p": -1.0}, "p"), ({"p": 0.0}, "p"), ({"p": float("nan")}, "p"),
        ({"p": float("inf")}, "p"), ({"p": 1e12}, "p"), ({"p": True}, "p"), ({"s": 0}, "s"), ({"s": -3}, "s"),
        ({"s": 2.5}, "s"), ({"s": 10**12}, "s"), ({"s": None}, "s"), ({"t": None}, "t"), ({"t": "soon"}, "t"),
        ({"t": msgpack.Timestamp(0, 0)}, "t"),
    ],
)  # fmt: skip
def test_impossible_fields_are_named_and_nothing_is_kept(changes, field):
    _, trades = batcher()
    with pytest.raises(MalformedError) as error:
        trades.put_raw(raw() | changes)
    assert error.value.field == field
    assert trades.pending == 0

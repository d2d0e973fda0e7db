"""Conflation: newest wins, near before far, held at once, columns that the core can read."""

import time

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.alpaca.conflate import Conflator
from oracle.alpaca.fields import MalformedError
from oracle.core.instruments import OptionContract, Right
from oracle.core.marketdata import ChainListed, ChainQuotes, ListedContract, Quote
from oracle.core.message import Message

NS = 1_000_000_000
T0 = 1_767_623_400 * NS
STRIKES = (500, 590, 600, 610, 700)


def occ(strike: int) -> str:
    return OptionContract("SPY", "2026-01-16", Right.CALL, strike * 1000).occ


def chain(underlying: str = "SPY", date: str = "2026-01-05", strikes: tuple[int, ...] = STRIKES) -> ChainListed:
    names = [occ(k).replace("SPY", underlying, 1) for k in strikes]
    return ChainListed(underlying, date, tuple(ListedContract(name, None, None, True) for name in names))


def stock(symbol: str, at_ns: int, bid: float = 599.99, ask: float = 600.01) -> Quote:
    return Quote(symbol, at_ns, bid, 100, ask, 100)


def rows(message: Message) -> list[int]:
    assert isinstance(message, ChainQuotes)
    return [int(n) for n in np.frombuffer(message.rows, dtype="<i4")]


def ready() -> Conflator:
    conflator = Conflator()
    conflator.set_chain(chain())
    conflator.put_stock(stock("SPY", T0))
    conflator.put_option(occ(500), 1.0, 1, 1.1, 1, T0)
    conflator.drain(T0)
    return conflator


def test_newest_quote_wins_and_older_never_replaces_it() -> None:
    conflator = Conflator()
    conflator.set_chain(chain())
    conflator.put_option(occ(600), 1.0, 5, 1.1, 6, T0 + 10)
    conflator.put_option(occ(600), 2.0, 7, 2.1, 8, T0 + 20)
    conflator.put_option(occ(600), 9.0, 9, 9.1, 9, T0 + 15)
    conflator.put_option(occ(500), 0, 0, 0.05, 3, T0)
    (message,) = conflator.drain(T0 + NS)
    assert isinstance(message, ChainQuotes)
    assert (message.underlying, message.date, rows(message)) == ("SPY", "2026-01-05", [0, 2])
    assert np.isnan(np.frombuffer(message.bid, dtype="<f8")[0])
    assert list(np.frombuffer(message.bid, dtype="<f8"))[1:] == [2.0]
    assert list(np.frombuffer(message.ask, dtype="<f8")) == [0.05, 2.1]
    assert list(np.frombuffer(message.bid_size, dtype="<i4")) == [0, 7]
    assert list(np.frombuffer(message.ask_size, dtype="<i4")) == [3, 8]
    assert list(np.frombuffer(message.quoted_ns, dtype="<i8")) == [T0, T0 + 20]
    assert conflator.drain(T0 + 2 * NS) == []
    conflator.put_option(occ(600), 9.0, 9, 9.1, 9, T0 + 19)
    assert conflator.drain(T0 + 3 * NS) == []


def test_near_comes_four_times_a_second_far_once() -> None:
    conflator = ready()
    for strike in STRIKES:
        conflator.put_option(occ(strike), 1.0, 1, 1.1, 1, T0 + 1)
    assert conflator.drain(T0 + NS // 8) == []
    assert conflator.next_due_ns(T0 + NS // 8) == T0 + NS // 4
    (near,) = conflator.drain(T0 + NS // 4)
    assert rows(near) == [1, 2, 3]
    assert conflator.next_due_ns(T0 + NS // 4) == T0 + NS
    assert conflator.drain(T0 + NS // 2) == []
    (far,) = conflator.drain(T0 + NS)
    assert rows(far) == [0, 4]
    assert conflator.next_due_ns(T0 + NS) is None


def test_held_legs_come_at_once() -> None:
    conflator = ready()
    conflator.set_held([occ(700)])
    conflator.put_option(occ(500), 1.0, 1, 1.1, 1, T0 + 1)
    assert conflator.drain(T0 + 1) == []
    conflator.put_option(occ(700), 1.0, 1, 1.1, 1, T0 + 1)
    assert conflator.next_due_ns(T0 + 1) == T0 + 1
    (held,) = conflator.drain(T0 + 1)
    assert rows(held) == [4]
    conflator.put_option(occ(500), 1.0, 1, 1.1, 1, T0 + 2)
    conflator.set_held([occ(500)])
    (held,) = conflator.drain(T0 + 2)
    assert rows(held) == [0]


def test_stock_quotes_and_chains_are_sorted() -> None:
    conflator = Conflator()
    for name in ("SPY", "IWM", "QQQ"):
        conflator.set_chain(chain(name))
        conflator.put_option(occ(600).replace("SPY", name, 1), 1.0, 1, 1.1, 1, T0)
        conflator.put_stock(stock(name, T0, 1.0))
        conflator.put_stock(stock(name, T0 - 5, 2.0))
    out = conflator.drain(T0)
    assert [m.symbol for m in out if isinstance(m, Quote)] == ["IWM", "QQQ", "SPY"]
    assert [m.underlying for m in out if isinstance(m, ChainQuotes)] == ["IWM", "QQQ", "SPY"]
    assert [m.bid for m in out if isinstance(m, Quote)] == [1.0, 1.0, 1.0]
    assert isinstance(out[0], Quote)


def test_a_new_chain_renumbers_rows() -> None:
    conflator = ready()
    conflator.put_option(occ(600), 1.0, 1, 1.1, 1, T0 + 1)
    conflator.set_chain(chain(date="2026-01-06", strikes=(600, 610)))
    assert conflator.drain(T0 + NS) == []
    conflator.put_option(occ(600), 1.0, 1, 1.1, 1, T0 + 2)
    conflator.put_option(occ(500), 1.0, 1, 1.1, 1, T0 + 2)
    (message,) = conflator.drain(T0 + 2 * NS)
    assert isinstance(message, ChainQuotes)
    assert (message.date, rows(message)) == ("2026-01-06", [0])
    assert conflator.unlisted == 1


@pytest.mark.parametrize("field", ["S", "bp", "bs", "ap", "as", "t"])
@pytest.mark.parametrize("value", [None, -1, float("nan"), float("inf"), "1.0", [], {}, 2**63])
def test_a_bad_field_is_malformed_and_leaves_no_trace(field: str, value: object) -> None:
    conflator = ready()
    raw = {"T": "q", "S": occ(600), "bp": 1.0, "bs": 1, "ap": 1.1, "as": 1, "t": msgpack.Timestamp(T0 // NS, 5)}
    if field == "S" and isinstance(value, str):
        conflator.put_option_raw({**raw, field: value})
        assert conflator.unlisted == 1
    else:
        with pytest.raises(MalformedError) as caught:
            conflator.put_option_raw({**raw, field: value})
        assert field in caught.value.field
    assert conflator.drain(T0 + NS) == []
    conflator.put_option_raw(raw)
    assert len(conflator.drain(T0 + 3 * NS)) == 1


def test_clear_drops_what_is_pending() -> None:
    conflator = ready()
    conflator.put_option(occ(600), 1.0, 1, 1.1, 1, T0 + 1)
    conflator.put_stock(stock("SPY", T0 + 1))
    conflator.clear()
    assert conflator.drain(T0 + NS) == []


@given(st.lists(st.tuples(st.sampled_from(STRIKES), st.integers(0, 3 * NS), st.booleans()), max_size=60))
def test_nothing_is_lost_and_the_last_of_each_comes_out(events: list[tuple[int, int, bool]]) -> None:
    conflator = ready()
    now_ns, newest, told = T0, {}, {}
    for n, (strike, wait_ns, drain) in enumerate(events):
        now_ns += wait_ns
        conflator.put_option(occ(strike), n + 1.0, 1, n + 2.0, 1, now_ns)
        newest[STRIKES.index(strike)] = n + 1.0
        due_ns = conflator.next_due_ns(now_ns)
        assert due_ns is not None
        if drain:
            now_ns = max(now_ns, due_ns)
            messages = conflator.drain(now_ns)
            assert messages, "what was said to be due came out"
            for message in messages:
                assert isinstance(message, ChainQuotes)
                assert rows(message) == sorted(set(rows(message)))
                told.update(zip(rows(message), np.frombuffer(message.bid, dtype="<f8"), strict=True))
    for message in conflator.drain(now_ns + NS):
        assert isinstance(message, ChainQuotes)
        told.update(zip(rows(message), np.frombuffer(message.bid, dtype="<f8"), strict=True))
    assert told == newest


def test_an_option_quote_is_cheap() -> None:
    strikes = tuple(range(500, 700))
    conflator = Conflator()
    conflator.set_chain(chain(strikes=strikes))
    conflator.put_stock(stock("SPY", T0))
    names = [occ(k) for k in strikes]
    best_us = 1e9
    for attempt in range(5):
        stamps = [msgpack.Timestamp(T0 // NS + attempt * 20 + i, 0) for i in range(20)]
        fixed = {"T": "q", "bp": 1.0, "bs": 1, "ap": 1.1, "as": 1}
        frames = [{**fixed, "S": name, "t": stamp} for stamp in stamps for name in names]
        started = time.process_time_ns()
        for n, raw in enumerate(frames):
            conflator.put_option_raw(raw)
            if n % 60 == 59:
                conflator.drain(T0 + (attempt * 100 + n // 60 + 1) * NS)
        best_us = min(best_us, (time.process_time_ns() - started) / 1000 / len(frames))
    # The aim is 2 µs on an idle machine; the bound leaves room for a loaded one.
    assert best_us < 8, f"{best_us:.2f} µs a quote"


def test_a_stamp_from_the_future_keeps_no_later_quote_out() -> None:
    conflator = ready()
    conflator.put_option(occ(600), 1.0, 1, 1.1, 1, T0 + 36_000 * NS)
    (poisoned,) = conflator.drain(T0 + 2 * NS)
    assert isinstance(poisoned, ChainQuotes)
    assert list(np.frombuffer(poisoned.quoted_ns, dtype="<i8")) == [T0 + 2 * NS]
    conflator.put_option(occ(600), 2.0, 1, 2.1, 1, T0 + 3 * NS)
    (message,) = conflator.drain(T0 + 4 * NS)
    assert isinstance(message, ChainQuotes)
    assert list(np.frombuffer(message.bid, dtype="<f8")) == [2.0]
    assert list(np.frombuffer(message.quoted_ns, dtype="<i8")) == [T0 + 3 * NS]
    conflator.put_option(occ(600), 1.0, 1, 1.1, 1, T0 + 36_000 * NS)
    conflator.clear()
    conflator.put_option(occ(600), 3.0, 1, 3.1, 1, T0 + 5 * NS)
    assert conflator.pending == 1

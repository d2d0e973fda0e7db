"""Small pure parts of the edge: the bar gate, the request budget, what alpaca-py and aiohttp must still have."""

import inspect
from typing import Any

import pytest
from alpaca.data.live.option import OptionDataStream
from alpaca.data.live.stock import StockDataStream
from alpaca.data.live.websocket import DataStream
from alpaca.trading.stream import TradingStream
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close
from websockets.legacy.client import Connect

from oracle.alpaca import wire
from oracle.alpaca.bargate import BarGate
from oracle.alpaca.failures import Kind
from oracle.alpaca.feeds import denied_text
from oracle.alpaca.ratebudget import MINUTE_NS, RateBudget
from oracle.alpaca.streams import OptionConnection, StockConnection, TradingConnection, failure_of, websocket_params
from oracle.core.errors import ProtocolError, RemoteError
from oracle.core.marketdata import Bar

NS = 1_000_000_000
T0 = 1_767_623_400 * NS
KEYS = wire.Credentials("K", "S")


def bar(minute: int, symbol: str = "SPY", close: float = 600.0, backfilled: bool = False) -> Bar:
    return Bar(symbol, T0 + minute * MINUTE_NS, close, close, close, close, 1, 1, close, backfilled)


class TestBarGate:
    def test_held_until_open_then_straight_through(self) -> None:
        gate = BarGate()
        assert gate.offer(bar(1)) is None
        assert gate.holds("SPY", bar(1).start_ns)
        assert gate.open() == [bar(1)]
        assert gate.offer(bar(2)) == bar(2)
        assert gate.offer(bar(2)) is None
        assert gate.offer(bar(1)) is None
        assert gate.duplicates == 2

    def test_a_minute_that_has_not_ended_is_left_to_the_socket(self) -> None:
        gate = BarGate()
        assert gate.fill([bar(0), bar(1)], T0 + MINUTE_NS + 1) == [bar(0, backfilled=True)]
        gate.open()
        assert gate.offer(bar(1)) == bar(1)

    def test_a_held_bar_that_grew_old_comes_out_as_backfilled_and_stands(self) -> None:
        gate = BarGate()
        gate.offer(bar(1, close=601.0))
        out = gate.fill([bar(0), bar(1, close=599.0)], T0 + 5 * MINUTE_NS)
        assert out == [bar(0, backfilled=True), bar(1, close=601.0, backfilled=True)]

    def test_a_held_bar_that_is_fresh_stands_before_the_archives_and_is_acted_on(self) -> None:
        gate = BarGate()
        gate.offer(bar(4, close=601.0))
        assert gate.fill([bar(3), bar(4, close=599.0)], T0 + 5 * MINUTE_NS + NS) == [bar(3, backfilled=True)]
        assert gate.open() == [bar(4, close=601.0)]

    def test_one_symbol_waits_on_its_own(self) -> None:
        gate = BarGate()
        gate.open()
        gate.hold("QQQ")
        assert gate.is_open
        assert [gate.offer(bar(2, s)) for s in ("QQQ", "SPY")] == [None, bar(2)]
        # Another symbol's waiting bar is not given out with it, however old.
        gate.hold("IWM")
        gate.offer(bar(0, "IWM"))
        assert gate.fill([bar(1, "QQQ")], T0 + 3 * MINUTE_NS, ["QQQ"]) == [bar(1, "QQQ", backfilled=True)]
        assert gate.open(["QQQ"]) == [bar(2, "QQQ")]
        assert gate.offer(bar(3, "QQQ")) == bar(3, "QQQ")
        gate.hold()
        assert gate.open(["IWM"]) == []
        assert gate.open() == [bar(0, "IWM")]

    @given(
        st.lists(st.tuples(st.sampled_from("hfoap"), st.integers(0, 12), st.sampled_from(["QQQ", "SPY"])), max_size=40)
    )
    def test_starts_only_rise_for_each_symbol(self, events: list[tuple[str, int, str]]) -> None:
        gate, out = BarGate(), []
        for kind, minute, symbol in events:
            if kind == "h":
                gate.hold()
                out += gate.fill([bar(m, s) for m in range(minute) for s in ("QQQ", "SPY")], T0 + minute * MINUTE_NS)
            elif kind == "f":
                found = gate.offer(bar(minute, symbol))
                out += [] if found is None else [found]
            elif kind == "a":
                gate.hold(symbol)
            else:
                out += gate.open([symbol] if kind == "p" else None)
        for symbol in ("QQQ", "SPY"):
            starts = [b.start_ns for b in out if b.symbol == symbol]
            assert starts == sorted(set(starts))


class TestRateBudget:
    def test_the_reserve_is_for_urgent_requests(self) -> None:
        budget = RateBudget(200, 60)
        granted = [budget.take(T0, urgent=False) for _ in range(200)]
        assert granted.count(0) == 140
        assert granted[-1] == MINUTE_NS
        assert [budget.take(T0, urgent=True) for _ in range(61)].count(0) == 60
        assert budget.take(T0 + MINUTE_NS, urgent=False) == 0

    @given(st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.sampled_from([1, 6])), max_size=80))
    def test_no_minute_holds_more_than_the_limit(self, asks: list[tuple[int, bool, int]]) -> None:
        budget, now_ns, sent = RateBudget(20, 8), T0, []
        for wait_s, urgent, requests in asks:
            now_ns += wait_s * NS
            wait_ns = budget.take(now_ns, urgent, requests)
            if wait_ns == 0:
                sent += [now_ns] * requests
            else:
                assert budget.take(now_ns + wait_ns, urgent, requests) == 0
                now_ns += wait_ns
                sent += [now_ns] * requests
            assert sum(at > now_ns - MINUTE_NS for at in sent) <= 20

    def test_the_vendors_count_binds(self) -> None:
        budget = RateBudget(200, 60)
        reset_s = T0 // NS + 30
        headers = {
            wire.RATE_LIMIT_HEADER: "200",
            wire.RATE_REMAINING_HEADER: "61",
            wire.RATE_RESET_HEADER: str(reset_s),
        }
        budget.on_headers(T0, headers)
        assert budget.take(T0, urgent=False) == 0
        assert budget.take(T0, urgent=False) == 30 * NS
        assert [budget.take(T0, urgent=True) for _ in range(61)].count(0) == 60
        assert budget.take(T0 + 30 * NS, urgent=False) == 0

    def test_replies_that_overtake_one_another_never_raise_the_count(self) -> None:
        budget, now_ns = RateBudget(200, 60), T0
        window_s = T0 // NS + 30

        def told(remaining: int, reset_s: int = window_s) -> None:
            budget.on_headers(
                now_ns, {wire.RATE_REMAINING_HEADER: str(remaining), wire.RATE_RESET_HEADER: str(reset_s)}
            )

        told(1)
        told(5)  # of an earlier request of the same window
        told(90, window_s - 60)  # of the window before
        assert budget.take(now_ns, urgent=True) == 0
        assert budget.take(now_ns, urgent=True) == 30 * NS
        now_ns = T0 + 30 * NS
        told(150, window_s + 60)
        assert budget.take(now_ns, urgent=True) == 0

    def test_nonsense_in_headers_is_ignored_and_a_far_reset_is_cut(self) -> None:
        budget = RateBudget(200, 60)
        for text in ("", "-1", "1e9", "９", "9" * 30):
            budget.on_headers(T0, {wire.RATE_LIMIT_HEADER: text, wire.RATE_REMAINING_HEADER: text})
        assert budget.take(T0, urgent=False) == 0
        budget.on_headers(T0, {wire.RATE_REMAINING_HEADER: "0", wire.RATE_RESET_HEADER: "99999999999"})
        assert budget.take(T0, urgent=True) == MINUTE_NS
        with pytest.raises(ProtocolError):
            RateBudget(60, 60)


class TestContractWithLibraries:
    """Names that are private to others and that we use: a new version without them must fail here first."""

    @pytest.mark.parametrize("stream", [StockDataStream, OptionDataStream])
    def test_data_streams(self, stream: type[DataStream]) -> None:
        found = stream("k", "s", raw_data=True, url_override="ws://x", websocket_params=websocket_params())
        for name in ("_ws", "_handlers", "_api_key", "_secret_key", "_endpoint", "_websocket_params"):
            assert hasattr(found, name), name
        for name in ("_connect", "_auth", "_start_ws", "_send_subscribe_msg", "_send_unsubscribe_msg", "close"):
            assert inspect.iscoroutinefunction(getattr(found, name)), name
        assert {"quotes", "bars", "updatedBars", "statuses"} <= found._handlers.keys()
        assert list(inspect.signature(stream._send_unsubscribe_msg).parameters) == ["self", "channel", "symbols"]

    def test_trading_stream(self) -> None:
        found = TradingStream("k", "s", raw_data=True, url_override="ws://x", websocket_params=websocket_params())
        for name in ("_ws", "_trade_updates_handler", "_api_key", "_secret_key", "_websocket_params"):
            assert hasattr(found, name), name
        for name in ("_connect", "_auth", "_subscribe_trade_updates", "close"):
            assert inspect.iscoroutinefunction(getattr(found, name)), name

    @pytest.mark.parametrize("connection", [StockConnection, OptionConnection, TradingConnection])
    def test_our_parameters_reach_the_library(self, connection: type[Any]) -> None:
        found = connection("ws://host/path", KEYS, lambda _: None)
        assert found._endpoint == "ws://host/path"
        assert found._raw_data is True
        assert found._websocket_params.keys() == websocket_params().keys()
        assert found._websocket_params["max_size"] == 2**24
        accepted = inspect.signature(Connect.__init__).parameters
        assert websocket_params().keys() <= accepted.keys()
        assert found.connection_id is None


class TestFailures:
    def test_classes(self) -> None:
        closed = Close(1001, "restart")
        cases: list[tuple[BaseException, Kind, str]] = [
            (ConnectionClosedError(closed, None), Kind.CLOSED, "closed by the vendor with code 1001 restart"),
            (ConnectionClosedError(None, Close(1009, "")), Kind.PROTOCOL, "larger"),
            (ConnectionClosedError(None, Close(1011, "")), Kind.TIMEOUT, "pings"),
            (ConnectionClosedError(None, None), Kind.CLOSED, "broke"),
            (TimeoutError(), Kind.TIMEOUT, "in time"),
            (ConnectionRefusedError(), Kind.UNREACHABLE, "ConnectionRefusedError"),
            (RemoteError("odd"), Kind.PROTOCOL, "odd"),
        ]
        for error, kind, words in cases:
            failure = failure_of(error)
            assert failure.kind is kind
            assert words in failure.text

    def test_a_fault_of_ours_is_not_the_remotes(self) -> None:
        for fault in (ZeroDivisionError(), ProtocolError("x"), KeyError("x")):
            with pytest.raises(type(fault)):
                failure_of(fault)


def test_denied_text() -> None:
    asked = {"bars": ["A", "B"], "quotes": list("ABCDEFGH")}
    assert denied_text(asked, {"bars": ["B", "A"], "quotes": list("HGFEDCBA"), "trades": []}) == ""
    assert denied_text(asked, {"bars": ["A", "B", "Z"]}) == (
        "bars has unasked Z; quotes lacks A, B, C, D, E and 3 more"
    )
    assert denied_text(asked, {"bars": 5, "quotes": None}).startswith("bars lacks A, B")

"""Translation of raw messages: exact instants, tolerance of unknown words, named errors for everything else."""

import copy
import datetime as dt
from decimal import Decimal
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.alpaca import wire
from oracle.alpaca.fields import MalformedError, instant_ns, rfc3339_ns, rfc3339_text
from oracle.alpaca.rejections import Rejections
from oracle.alpaca.translate import (
    bar_from,
    chain_listed,
    contract_from,
    fill_from,
    order_from,
    order_reported,
    quote_from,
    status_from,
    trade_update,
)
from oracle.core.reports import ExecutionReported, OrderReported, StructureExecuted
from oracle.core.vocabulary import BrokerEvent, Side

NS = 1_000_000_000
AT = 1_767_623_460 * NS + 123_456_789
STAMP = msgpack.Timestamp(AT // NS, AT % NS)
BAR = {"T": "b", "S": "SPY", "o": 600.1, "h": 600.5, "l": 599.9, "c": 600.2, "v": 12, "n": 3, "vw": 600.15, "t": STAMP}
QUOTE = {"T": "q", "S": "SPY", "bx": "V", "bp": 600.19, "bs": 300, "ax": "V", "ap": 600.21, "as": 200, "t": STAMP}
ORDER: dict[str, Any] = {
    "id": "61e69015",
    "client_order_id": "d1-1",
    "created_at": "2026-01-05T14:31:00.101Z",
    "updated_at": "2026-01-05T14:31:00.105Z",
    "symbol": "SPY260116C00600000",
    "qty": "1",
    "filled_qty": "1",
    "filled_avg_price": "1.24",
    "order_class": "simple",
    "order_type": "limit",
    "type": "limit",
    "side": "buy",
    "limit_price": "1.25",
    "status": "filled",
    "legs": None,
}
FILL: dict[str, Any] = {
    "event": "fill",
    "execution_id": "exec-1",
    "timestamp": "2026-01-05T14:31:02.5Z",
    "price": "1.24",
    "qty": "1",
    "position_qty": "1",
    "order": ORDER,
}
LEG_A, LEG_B = "SPY260116C00600000", "SPY260116C00605000"
MLEG: dict[str, Any] = {
    "event": "fill",
    "timestamp": "2026-01-05T14:31:02.5Z",
    "price": "-0.55",
    "qty": "2",
    "position_qtys": {LEG_A: "-2", LEG_B: "2"},
    "order": {
        **ORDER,
        "symbol": "",
        "side": "",
        "order_class": "mleg",
        "qty": "2",
        "limit_price": "-0.55",
        "legs": [
            {**ORDER, "id": "leg-b", "symbol": LEG_B, "side": "buy", "client_order_id": "auto-2", "ratio_qty": "1"},
            {**ORDER, "id": "leg-a", "symbol": LEG_A, "side": "sell", "client_order_id": "auto-1", "ratio_qty": "1"},
        ],
    },
    "legs": [
        {"execution_id": "x-a", "qty": "2", "price": "1.10", "order_id": "leg-a", "symbol": LEG_A},
        {"execution_id": "x-b", "qty": "2", "price": "0.55", "order_id": "leg-b", "symbol": LEG_B},
    ],
}


class TestInstants:
    @given(st.integers(min_value=0, max_value=4_102_444_800 * NS))
    def test_text_and_back_is_exact(self, at_ns: int) -> None:
        assert rfc3339_ns(rfc3339_text(at_ns), "k", "t") == at_ns
        assert instant_ns(msgpack.Timestamp(at_ns // NS, at_ns % NS), "k", "t") == at_ns

    @given(st.datetimes(timezones=st.just(dt.UTC)), st.integers(-14 * 60, 14 * 60))
    def test_offsets_agree_with_the_standard_library(self, moment: dt.datetime, minutes: int) -> None:
        zoned = moment.replace(tzinfo=dt.timezone(dt.timedelta(minutes=minutes)))
        exact = (zoned - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1) * 1000
        assert rfc3339_ns(zoned.isoformat(), "k", "t") == exact

    def test_examples(self) -> None:
        base = 1_767_623_460 * NS
        assert rfc3339_ns("2026-01-05T14:31:00Z", "k", "t") == base
        assert rfc3339_ns("2026-01-05T09:31:00.5-05:00", "k", "t") == base + NS // 2
        assert rfc3339_ns("2026-01-05t14:31:00.000000001z", "k", "t") == base + 1
        assert rfc3339_ns("2026-01-05 14:31:00.1234567899+00:00", "k", "t") == base + 123_456_789

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "2026-01-05",
            "2026-01-05T14:31:00",
            "2026-02-30T00:00:00Z",
            "2026-01-05T24:00:00Z",
            "2026-01-05T14:31:60Z",
            "2026-01-05T14:31:00+24:00",
            "2026-01-05T14:31:00.Z",
            " 2026-01-05T14:31:00Z",
            "\u0662026-01-05T14:31:00Z",
            "0000-01-01T00:00:00Z",
        ],
    )
    def test_what_is_no_instant_is_refused(self, text: str) -> None:
        with pytest.raises(MalformedError, match=r"k\.t"):
            rfc3339_ns(text, "k", "t")

    @given(st.text(max_size=40))
    def test_any_text_is_an_instant_or_malformed(self, text: str) -> None:
        try:
            rfc3339_ns(text, "k", "t")
        except MalformedError as error:
            assert error.reason == "k.t"


class TestMarketData:
    def test_bar(self) -> None:
        bar = bar_from(BAR)
        assert (bar.symbol, bar.start_ns, bar.vwap, bar.trades, bar.backfilled) == ("SPY", AT, 600.15, 3, False)
        assert bar_from({**BAR, "t": "2026-01-05T14:30:00Z"}, "QQQ", True).symbol == "QQQ"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (field, value)
            for field in ("S", "t", "o", "h", "l", "c", "v", "n", "vw")
            for value in (None, float("nan"), float("inf"), -1, "600", [], True, b"x")
            if not (field == "S" and isinstance(value, str))  # any text is a symbol
        ],
    )
    def test_a_bad_field_is_named(self, field: str, value: object) -> None:
        with pytest.raises(MalformedError) as caught:
            bar_from({**BAR, field: value})
        assert caught.value.reason == f"bar.{field}"

    def test_impossible_prices_are_malformed(self) -> None:
        with pytest.raises(MalformedError, match=r"bar\.prices"):
            bar_from({**BAR, "h": 1.0})
        with pytest.raises(MalformedError, match=r"bar\.v"):
            bar_from({**BAR, "v": 1.5})

    def test_quote_with_an_absent_side(self) -> None:
        quote = quote_from({**QUOTE, "bp": 0, "bs": 0})
        assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size, quote.mid) == (None, 0, 600.21, 200, None)
        with pytest.raises(MalformedError, match=r"quote\.ap"):
            quote_from({**QUOTE, "ap": 1e9})

    @pytest.mark.parametrize(
        ("code", "words", "halted"),
        [
            ("H", "Trading Halt", True),
            ("P", "Volatility Trading Pause", True),
            ("2", "Trading Halt", True),
            ("Q", "Quotation Resumption", True),
            ("T", "Trading Resumption", False),
            ("3", "Resume", False),
            ("Z", "A new kind of halt", True),
            ("Z", "Resumed", False),
            ("E", "Short Sale Restriction", None),
        ],
    )
    def test_status(self, code: str, words: str, halted: bool | None) -> None:
        status = status_from({"S": "SPY", "sc": code, "sm": words, "rc": "", "rm": "", "z": "C", "t": STAMP})
        assert (None if status is None else status.halted) == halted

    def test_contracts(self) -> None:
        raw = {
            "symbol": LEG_A,
            "open_interest": "6168",
            "open_interest_date": "2026-01-02",
            "ppind": True,
            "tradable": True,
        }
        first = contract_from(raw)
        assert (first.open_interest, first.penny_class, first.tradable) == (6168, True, True)
        bare = contract_from({"symbol": LEG_B})
        assert (bare.open_interest, bare.open_interest_date, bare.penny_class) == (None, None, False)
        assert [c.symbol for c in chain_listed("SPY", "d", [bare, first, bare]).contracts] == [LEG_A, LEG_B]
        for bad in ({"symbol": "SPY"}, {"symbol": LEG_A, "open_interest": "-1"}, {"symbol": "SPY269999C00600000"}):
            with pytest.raises(MalformedError):
                contract_from(bad)


class TestOrders:
    def test_a_fill_is_a_report_and_an_execution(self) -> None:
        messages, problems = trade_update(FILL)
        report, execution = messages
        assert problems == []
        assert isinstance(report, OrderReported)
        assert isinstance(execution, ExecutionReported)
        assert (report.event, report.order.filled_avg_price_usd) == (BrokerEvent.FILL, Decimal("1.24"))
        assert (execution.execution_id, execution.side, execution.qty, execution.price_usd) == (
            "exec-1",
            Side.BUY,
            Decimal(1),
            Decimal("1.24"),
        )
        assert execution.at_ns == 1_767_623_462 * NS + NS // 2

    def test_a_multi_leg_fill_is_one_message_with_an_execution_for_each_leg(self) -> None:
        messages, problems = trade_update(MLEG)
        assert problems == []
        assert [type(m) for m in messages] == [OrderReported, StructureExecuted]
        executed = messages[1]
        assert isinstance(executed, StructureExecuted)
        executions = executed.legs
        assert [(e.execution_id, e.symbol, e.side, e.price_usd) for e in executions] == [
            ("x-a", LEG_A, Side.SELL, Decimal("1.10")),
            ("x-b", LEG_B, Side.BUY, Decimal("0.55")),
        ]
        assert {e.order.client_order_id for e in executions} == {"d1-1"}

    def test_one_bad_leg_loses_neither_the_report_nor_the_other(self) -> None:
        raw = copy.deepcopy(MLEG)
        del raw["legs"][0]["execution_id"]
        messages, problems = trade_update(raw)
        assert [type(m) for m in messages] == [OrderReported, StructureExecuted]
        executed = messages[1]
        assert isinstance(executed, StructureExecuted)
        assert [leg.execution_id for leg in executed.legs] == ["x-b"]
        assert [p.reason for p in problems] == ["execution.execution_id"]

    @pytest.mark.parametrize("legs", [None, [], "all"])
    def test_a_multi_leg_fill_without_its_legs_is_never_booked_by_its_net_price(self, legs: object) -> None:
        messages, problems = trade_update({**MLEG, "execution_id": "whole", "legs": legs})
        assert [type(m) for m in messages] == [OrderReported]
        assert [p.reason for p in problems] == ["execution.legs"]

    @pytest.mark.parametrize("word", ["calculated", "restated", "order_replace_rejected", "brand_new", ""])
    def test_unknown_events_are_kept_with_their_word(self, word: str) -> None:
        (report,), _ = trade_update({**FILL, "event": word})
        assert isinstance(report, OrderReported)
        assert (report.event, report.text) == (BrokerEvent.UNKNOWN_EVENT, word)

    def test_unknown_words_inside_an_order_are_kept(self) -> None:
        raw = {
            **ORDER,
            "status": "quantum",
            "order_class": "otoco",
            "type": "pegged",
            "order_type": None,
            "side": "hold",
        }
        order = order_from(raw)
        assert (order.status, order.order_class, order.order_type, order.side) == ("quantum", "otoco", "pegged", None)
        report = order_reported(order, AT)
        assert (report.event, report.text) == (BrokerEvent.UNKNOWN_EVENT, "quantum")

    def test_a_rejection_keeps_its_reason(self) -> None:
        (report,), _ = trade_update({**FILL, "event": "rejected", "reason": "too late"})
        assert isinstance(report, OrderReported)
        assert (report.event, report.text) == (BrokerEvent.REJECTED, "too late")

    def test_every_sdk_event_and_status_is_known_or_deliberately_unknown(self) -> None:
        from alpaca.trading.enums import OrderSide, OrderStatus, OrderType, PositionIntent, TimeInForce, TradeEvent

        unknown = {e.value for e in TradeEvent} - wire.EVENTS.keys()
        assert unknown == {"calculated", "stopped", "suspended", "restated", "order_replace_rejected"} & unknown
        rare = {s.value for s in OrderStatus} - wire.STATUS_EVENTS.keys()
        assert rare <= {"calculated", "stopped", "suspended", "pending_review"}
        intents = {wire.position_intent(side, opening) for side in Side for opening in (True, False)}
        assert intents == {i.value for i in PositionIntent}
        assert {"buy", "sell"} == {s.value for s in OrderSide}
        assert {"limit", "market"} <= {t.value for t in OrderType}
        assert "day" in {t.value for t in TimeInForce}

    def test_a_fill_activity_has_the_streams_execution_id(self) -> None:
        raw = {
            "id": "20260105143102500::exec-1",
            "transaction_time": "2026-01-05T14:31:02.5Z",
            "price": "1.24",
            "qty": "1",
            "side": "sell_short",
            "symbol": LEG_A,
            "order_id": "61e69015",
        }
        execution = fill_from(raw, {"61e69015": order_from(ORDER)})
        assert (execution.execution_id, execution.side) == ("exec-1", Side.SELL)
        with pytest.raises(MalformedError, match=r"fill\.order_id"):
            fill_from(raw, {})

    def test_notional_order_has_what_it_filled(self) -> None:
        assert order_from({**ORDER, "qty": None, "filled_qty": "0.5"}).qty == Decimal("0.5")


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just("NaN")
    | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def mutated(raw: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(sorted(raw)), JUNK, max_size=4).map(lambda change: {**raw, **change})


class TestTolerance:
    @given(mutated(BAR), mutated(QUOTE))
    def test_market_data_raises_nothing_but_malformed(self, bar: dict[str, Any], quote: dict[str, Any]) -> None:
        for translate, raw in ((bar_from, bar), (quote_from, quote), (status_from, quote), (contract_from, bar)):
            try:
                translate(raw)  # type: ignore[operator]
            except MalformedError as error:
                assert error.kind in error.reason

    @given(mutated(FILL), mutated(ORDER), JUNK)
    def test_trade_updates_raise_nothing_but_malformed(
        self, update: dict[str, Any], order: dict[str, Any], junk: Any
    ) -> None:
        for raw in (update, {**FILL, "order": order}, {**MLEG, "legs": junk}, {**MLEG, "legs": [junk]}, junk):
            try:
                messages, _ = trade_update(raw)
            except MalformedError:
                continue
            assert isinstance(messages[0], OrderReported)


def test_rejections_count_by_reason_and_stay_bounded() -> None:
    found = Rejections("test")
    for _ in range(3):
        found.add(MalformedError("bar", "h", "nan"))
    for n in range(500):
        found.note(f"reason-{n}", "text")
    assert found.counts["bar.h"] == 3
    assert found.total == 503
    assert len(found.counts) <= 201


def test_credentials_never_show() -> None:
    keys = wire.Credentials("AKEY", "ASECRET")
    for text in (repr(keys), str(keys), f"{keys}", repr([keys])):
        assert "AKEY" not in text
        assert "ASECRET" not in text


def test_endpoints() -> None:
    live = wire.alpaca_endpoints(False, "sip", "opra")
    assert live.trading_url == "https://api.alpaca.markets"
    assert live.stock_stream_url == "wss://stream.data.alpaca.markets/v2/sip"
    assert live.trading_stream_url == "wss://api.alpaca.markets/stream"
    paper = wire.alpaca_endpoints(True, "iex", "indicative")
    assert paper.trading_url == "https://paper-api.alpaca.markets"
    assert paper.option_stream_url == "wss://stream.data.alpaca.markets/v1beta1/indicative"
    assert wire.one_host_endpoints("http://127.0.0.1:80/").trading_stream_url == "ws://127.0.0.1:80/stream"

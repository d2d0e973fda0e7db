"""Structures on the wire: bodies of orders, orders and fills as they come back, activities without an order."""

import copy
from decimal import Decimal
from typing import Any

import pytest
from alpaca.trading.enums import ActivityType
from alpaca.trading.models import Order
from hypothesis import given
from hypothesis import strategies as st

from oracle.alpaca import wire
from oracle.alpaca.broker import _meet
from oracle.alpaca.fields import MalformedError
from oracle.alpaca.gateway import order_body, position_from
from oracle.alpaca.translate import order_from, settlement_from
from oracle.core.errors import ProtocolError
from oracle.core.messages import SendOrder
from oracle.core.vocabulary import Side
from oracle.execution.outcomes import mismatch
from tests.unit.test_alpaca_translate import MLEG, ORDER

CONDOR = "SPY:+260116C610-260116C605-260116P585+260116P580"
WINGS = ("SPY260116C00605000", "SPY260116C00610000", "SPY260116P00580000", "SPY260116P00585000")
RATIO = "SPY:-260116C605+2x260116C610"
CREATED = "2026-01-05T14:31:00.101Z"
CREATED_NS = 1_767_623_460_101_000_000


def send(symbol: str = CONDOR, side: Side = Side.BUY, limit: str | None = "-1.00", opening: bool = True) -> SendOrder:
    price = None if limit is None else Decimal(limit)
    return SendOrder("t-1", symbol, side, opening, 2, price, not opening)


def told(sent: SendOrder) -> dict[str, Any]:
    """The order that the vendor makes of a body: legs with ids of their own, a parent without symbol or side."""
    body = order_body(sent)
    asked = body.pop("legs", None)
    common = {**ORDER, "created_at": CREATED, "status": "new", "filled_qty": "0", "filled_avg_price": None}
    order = {**common, **body, "id": "parent", "order_type": body["type"], "limit_price": body.get("limit_price")}
    if asked is None:
        return order
    legs = [
        {**common, **leg, "id": f"leg-{n}", "client_order_id": f"auto-{n}", "order_class": "mleg", "limit_price": None}
        for n, leg in enumerate(asked)
    ]
    return {**order, "symbol": "", "side": "", "asset_class": "", "legs": legs}


def test_an_entry_has_its_legs_as_named_and_its_credit_as_a_negative_limit() -> None:
    body = order_body(send())
    assert {k: v for k, v in body.items() if k != "legs"} == {
        "qty": "2", "type": "limit", "time_in_force": "day", "client_order_id": "t-1", "order_class": "mleg",
        "limit_price": "-1.00",
    }  # fmt: skip
    assert [(g["symbol"], g["side"], g["position_intent"], g["ratio_qty"]) for g in body["legs"]] == [
        (WINGS[0], "sell", "sell_to_open", "1"),
        (WINGS[1], "buy", "buy_to_open", "1"),
        (WINGS[2], "buy", "buy_to_open", "1"),
        (WINGS[3], "sell", "sell_to_open", "1"),
    ]


def test_an_exit_has_every_leg_reversed_and_pays_what_it_sells_for_below_zero() -> None:
    body = order_body(send(side=Side.SELL, limit="-0.50", opening=False))
    assert body["limit_price"] == "0.50"
    assert [(g["side"], g["position_intent"]) for g in body["legs"]] == [
        ("buy", "buy_to_close"),
        ("sell", "sell_to_close"),
        ("sell", "sell_to_close"),
        ("buy", "buy_to_close"),
    ]
    assert order_body(send(side=Side.SELL, limit="0.00", opening=False))["limit_price"] == "0.00"
    assert "limit_price" not in order_body(send(side=Side.SELL, limit=None, opening=False))
    assert [g["ratio_qty"] for g in order_body(send(RATIO))["legs"]] == ["1", "2"]


def test_a_structure_of_one_leg_is_never_sent() -> None:
    with pytest.raises(ProtocolError, match="1 legs"):
        order_body(send("SPY:-260116C610"))


def test_single_orders_keep_their_shape_and_shares_have_no_option_intent() -> None:
    option = order_body(SendOrder("t-1", WINGS[0], Side.SELL, False, 3, Decimal("1.20"), True))
    assert (option["symbol"], option["side"], option["position_intent"]) == (WINGS[0], "sell", "sell_to_close")
    shares = order_body(SendOrder("t-1", "SPY", Side.BUY, False, 100, None, True))
    assert shares == {
        "qty": "100", "type": "market", "time_in_force": "day", "client_order_id": "t-1", "symbol": "SPY",
        "side": "buy",
    }  # fmt: skip


@given(
    st.sampled_from((CONDOR, RATIO, WINGS[0])),
    st.sampled_from(Side),
    st.one_of(st.none(), st.decimals("-5", "5", places=2)),
    st.booleans(),
)
def test_what_was_sent_is_recognised_when_it_comes_back(
    symbol: str, side: Side, limit: Decimal | None, opening: bool
) -> None:
    sent = send(symbol, side, None if limit is None else str(limit), opening)
    order = order_from(told(sent))
    assert mismatch(sent, CREATED_NS, order) == ""
    changed = SendOrder("t-1", symbol, side.opposite, opening, 2, sent.limit_usd, not opening)
    assert mismatch(changed, CREATED_NS, order) != ""
    assert mismatch(send(symbol, side, "9.99", opening), CREATED_NS, order).startswith("limit")


def test_an_order_of_legs_is_told_as_the_purchase_of_their_structure() -> None:
    order = order_from(MLEG["order"])
    assert (order.symbol, order.side, order.qty) == ("SPY:-260116C600+260116C605", Side.BUY, Decimal(2))
    assert (order.limit_price_usd, order.filled_qty) == (Decimal("-0.55"), Decimal(1))
    assert [(leg.broker_order_id, leg.side, leg.ratio) for leg in order.legs] == [
        ("leg-a", Side.SELL, 1),
        ("leg-b", Side.BUY, 1),
    ]


def test_a_missing_ratio_follows_from_the_quantities_and_an_impossible_one_is_malformed() -> None:
    raw = copy.deepcopy(MLEG["order"])
    for leg in raw["legs"]:
        del leg["ratio_qty"]
        leg["qty"] = "4" if leg["id"] == "leg-b" else "2"
    assert [leg.ratio for leg in order_from(raw).legs] == [1, 2]
    for bad in ("0", "1.5", "x"):
        raw["legs"][0]["ratio_qty"] = bad
        with pytest.raises(MalformedError, match="ratio_qty"):
            order_from(raw)


def test_legs_that_are_no_structure_of_ours_keep_an_empty_name() -> None:
    raw = copy.deepcopy(MLEG["order"])
    raw["legs"][0]["symbol"] = "SPY"
    order = order_from(raw)
    assert (order.symbol, len(order.legs)) == ("", 2)


def test_our_orders_are_those_that_the_sdk_reads() -> None:
    raw = {**told(send()), "submitted_at": CREATED, "time_in_force": "day", "extended_hours": False}
    legs = [{**leg, "submitted_at": CREATED, "time_in_force": "day", "extended_hours": False} for leg in raw["legs"]]
    ids = "61e69015-8549-4bfd-b9c3-01e75843f47d"
    parsed = Order(**{**raw, "id": ids, "legs": [{**leg, "id": ids} for leg in legs]})
    assert [leg.symbol for leg in parsed.legs or []] == list(WINGS)


def test_orders_of_opposite_sides_wait_for_each_other_leg_by_leg() -> None:
    entry = send()
    assert not _meet(entry, send(RATIO.replace("-260116C605", "-260116C604")))
    assert _meet(entry, send(side=Side.SELL))
    assert _meet(entry, SendOrder("t-2", WINGS[0], Side.BUY, False, 1, None, True))
    assert not _meet(entry, SendOrder("t-2", WINGS[0], Side.SELL, False, 1, None, True))


def test_positions_in_shares_are_signed() -> None:
    row = {"symbol": "SPY", "qty": "100", "side": "short", "avg_entry_price": "610"}
    assert position_from(row).qty == -100
    assert position_from({**row, "side": "long"}).qty == 100


class TestActivities:
    @pytest.mark.parametrize(
        ("raw", "qty", "price", "cash"),
        [
            ({"activity_type": "OPEXP", "symbol": WINGS[0], "qty": "-1", "net_amount": "0"}, -1, None, 0),
            ({"activity_type": "OPASN", "symbol": WINGS[0], "qty": "1", "net_amount": "0"}, 1, None, 0),
            ({"activity_type": "OPTRD", "symbol": "SPY", "qty": "100", "price": "590", "net_amount": "-59000"}, 100,
             590, -59000),
            ({"activity_type": "CSD", "net_amount": "1000"}, 0, None, 1000),
            ({"activity_type": "NEW", "id": "x"}, 0, None, 0),
        ],
    )  # fmt: skip
    def test_each_kind_is_read(self, raw: dict[str, Any], qty: int, price: int | None, cash: int) -> None:
        row = settlement_from({"id": "20260116000000000::a", "date": "2026-01-16", **raw})
        assert (row.kind, row.qty, row.cash_usd) == (raw["activity_type"], Decimal(qty), Decimal(cash))
        assert row.price_usd == (None if price is None else Decimal(price))
        assert row.date == "2026-01-16"

    @given(st.dictionaries(st.sampled_from(["id", "activity_type", "qty", "price", "net_amount", "date"]), st.text()))
    def test_nothing_but_malformed_is_raised(self, raw: dict[str, Any]) -> None:
        try:
            settlement_from(raw)
        except MalformedError as error:
            assert error.kind == "settlement"

    def test_every_kind_that_is_asked_for_is_the_vendors(self) -> None:
        """An unknown word in the query could make the vendor refuse every read of the account."""
        words = {kind.value for kind in ActivityType}
        assert set(wire.NON_TRADE_ACTIVITIES) == words - {"FILL"}

"""Adopting structures that others opened, and what others did to the legs and the shares of ours."""

from decimal import Decimal
from typing import Any

import pytest

from oracle.core.control import AdoptPosition, Flatten
from oracle.core.message import Message
from oracle.core.messages import (
    ForeignExecution,
    LedgerSeeded,
    OrderFilled,
    PositionAdopted,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.reports import BrokerPosition
from oracle.core.sessions import NS
from oracle.core.vocabulary import Purpose, Side
from tests.unit.builders import account, of, one
from tests.unit.structures_house import (
    LONG_CALL,
    LONG_PUT,
    NAME,
    NAMED,
    SHORT_CALL,
    SHORT_PUT,
    StructureHouse,
    held,
)
from tests.unit.test_risk_operator import answer, request

D = Decimal
PRICES = {LONG_PUT: "0.20", SHORT_PUT: "0.70", SHORT_CALL: "0.70", LONG_CALL: "0.20"}


def by_hand(house: StructureHouse, symbol: str, side: Side, qty: int, price: str) -> None:
    """Somebody else's execution, as the desk tells it."""
    house.tell(ForeignExecution(f"h-{symbol}-{side}-{qty}", "by-hand", symbol, side, D(qty), D(price)))


def report(house: StructureHouse, positions: dict[str, int], cash: str, after_s: float = 6) -> list[Message]:
    house.wait(after_s)  # a report of the moment of a fill may not hold it yet, and is not compared
    told = tuple(BrokerPosition(symbol, D(qty), D("0.50")) for symbol, qty in positions.items() if qty)
    return house.tell(account(house.at_ns, cash, positions=told, fills_since_ns=house.at_ns))


def adopt(house: StructureHouse, *symbols: str, name: str = "r1", **terms: Any) -> list[Message]:
    return house.tell(request(AdoptPosition(symbols, **{"stop_fraction": 1.0, **terms}), name))


def sold_two(house: StructureHouse) -> dict[str, int]:
    """Somebody sold two condors at a credit of 1.00: 200 USD."""
    for symbol, side in NAMED.items():
        by_hand(house, symbol, side, 2, PRICES[symbol])
    return held(2)


def test_a_structure_that_others_opened_becomes_one_trade_with_an_exit_plan() -> None:
    house = StructureHouse()
    sold = sold_two(house)
    adopt(house, NAME, target_fraction=0.5)
    out = report(house, sold, "100200")
    adopted = one(PositionAdopted, out)
    order = adopted.order
    assert (order.symbol, order.side, order.contracts, order.worst_price_usd) == (NAME, Side.BUY, 2, D("-1.00"))
    # Five wide, a credit of 1.00: 400 a unit at worst; the stop of one credit plans 100.
    assert (order.worst_case_usd, order.planned_risk_usd) == (D(800), D(200))
    assert {f.symbol: (f.side, f.contracts) for f in of(OrderFilled, out)} == {s: (x, 2) for s, x in NAMED.items()}
    trade = house.ledger.trade(one(TradeOpened, out).trade_id)
    assert trade is not None
    assert (trade.is_whole, trade.contracts_open, trade.entry_price_usd) == (True, 2, D("-1.00"))
    assert house.ledger.cash_usd == D(100_200)
    assert trade.exit_plan.direction == 0
    shown = answer(report(house, sold, "100200", 1))
    assert (shown.ok, shown.facts["differences"]) == (True, [])
    assert {p["trade_id"] for p in shown.facts["positions"]} == {trade.trade_id}
    # Its exits work like those of any other.
    assert one(SubmitOrder, house.requote(**{SHORT_CALL: (1.69, 1.71)})).symbol == NAME


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("SPY:nothing", {}, "not the name of a structure"),
        ("SPY:-260105C615+260105C620", {}, "adopting"),
        ("SPY:-2x260105C615+260105C620", {}, "not a whole number of it"),
        ("SPY:-260105C615", {}, "not covered"),
        (NAME, {LONG_CALL: 1}, "it cannot be a leg"),
    ],
)
def test_only_whole_covered_structures_are_adopted(name: str, change: dict[str, int], words: str) -> None:
    house = StructureHouse()
    sold = {**sold_two(house), **change}
    adopt(house, name)
    out = report(house, sold, "100200")
    assert words in "; ".join(m.text for m in out if type(m).__name__ == "OperatorAnswered")  # type: ignore[attr-defined]
    assert (of(PositionAdopted, out) != []) == (words == "adopting")


def test_a_leg_that_others_closed_leaves_our_trade_and_the_rest_is_closed() -> None:
    house = StructureHouse()
    entry = house.entered()
    n = entry.contracts
    by_hand(house, SHORT_CALL, Side.BUY, n, "0.30")
    adopt(house, SHORT_CALL)
    out = report(house, held(n, **{SHORT_CALL: 0}), str(house.ledger.cash_usd - 30 * n))
    adopted = one(PositionAdopted, out)
    assert (adopted.order.symbol, adopted.order.side, adopted.order.contracts) == (SHORT_CALL, Side.BUY, n)
    assert (adopted.order.trade_id, house.ledger.position(SHORT_CALL)) == (entry.trade_id, 0)
    rest = one(SubmitOrder, [*out, *house.requote()])
    assert rest.symbol == "SPY:+260105C620+260105P580-260105P585"
    assert one(TradeClosed, house.done(rest)).trade_id == entry.trade_id


def test_others_may_not_have_done_more_than_close_a_leg() -> None:
    house = StructureHouse()
    entry = house.entered()
    n = entry.contracts
    by_hand(house, SHORT_CALL, Side.BUY, n + 1, "0.30")
    adopt(house, SHORT_CALL)
    out = report(house, held(n, **{SHORT_CALL: 1}), str(house.ledger.cash_usd - 30 * (n + 1)))
    assert "others did more than close it" in answer(out).text
    assert of(PositionAdopted, out) == []


def test_shares_that_others_sold_end_the_trade_that_had_them() -> None:
    house = StructureHouse()
    entry = house.entered_until_expiry()
    house.at_ns += 59 * NS  # nothing of ours works on the shares before the next open
    n = house.assigned(entry)
    by_hand(house, "SPY", Side.BUY, 100 * n, "616")
    adopt(house, "SPY")
    out = report(house, {}, str(house.ledger.cash_usd - 61_600 * n))
    assert one(PositionAdopted, out).order.purpose is Purpose.FORCED
    assert one(TradeClosed, out).trade_id == entry.trade_id
    assert house.ledger.positions() == []


def test_books_can_begin_with_a_structure() -> None:
    house = StructureHouse(seeded=False)
    positions = tuple(BrokerPosition(s, D(2 * side.sign), D(PRICES[s])) for s, side in NAMED.items())
    house.tell(account(house.at_ns, "100200", positions=positions))
    adopt(house, NAME)
    out = house.tell(account(house.at_ns, "100200", positions=positions))
    assert one(LedgerSeeded, out).cash_usd == D(100_000)
    assert house.ledger.cash_usd == D(100_200)
    trade = house.ledger.trade(one(TradeOpened, out).trade_id)
    assert trade is not None
    assert (trade.symbol, trade.is_whole) == (NAME, True)


def test_a_flatten_closes_structures_and_what_is_left_of_them() -> None:
    house = StructureHouse()
    entry = house.entered()
    order = one(SubmitOrder, house.tell(request(Flatten())))
    assert (order.symbol, order.purpose, order.side) == (NAME, Purpose.FORCED, Side.SELL)
    house.done(order, units=2, end="canceled: by the broker")
    house.settle(entry.trade_id, LONG_PUT, entry.contracts - 2, price="0.10")
    rest = one(SubmitOrder, house.wait(3))
    assert rest.symbol == "SPY:-260105C615+260105C620-260105P585"
    assert one(TradeClosed, house.done(rest)).trade_id == entry.trade_id

"""Structures at the desk: legs booked together, units counted, what is missing asked for, what is adopted compared."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.messages import (
    ForeignExecution,
    LookUpOrder,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    ReadAccount,
    SendCancel,
    SendOrder,
    TradeOpened,
)
from oracle.core.reports import (
    BrokerOrder,
    ExecutionReported,
    LookUpReturned,
    OrderReported,
    StructureExecuted,
    SubmitReturned,
)
from oracle.core.structures import legs_of
from oracle.core.vocabulary import BrokerEvent, OrderState, Outcome, Side
from oracle.execution.desk import Desk
from oracle.execution.works import DeskSettings
from tests.unit.books import broker_structure
from tests.unit.books import executed as fill_of
from tests.unit.builders import FEE, START_NS, House, account, entry_order, of, one

CONDOR = "SPY:-260109C605+260109C610+260109P585-260109P590"
BACKSPREAD = "SPY:-260109C605+2x260109C610"
PRICES = {"C605": "1.40", "C610": "0.70", "P585": "0.60", "P590": "0.90"}


def submitted(symbol: str = CONDOR, contracts: int = 4, **changes: Any) -> tuple[House, SendOrder]:
    house = House(ready=False)
    house.tell(account())
    order = entry_order(symbol=symbol, contracts=contracts, **changes)
    return house, one(SendOrder, house.tell(order))


def executed(sent: SendOrder, name: str, units: int, filled: int) -> StructureExecuted:
    return fill_of(sent, name, units, filled, PRICES)


def told(house: House, sent: SendOrder, event: BrokerEvent, filled: int = 0) -> list[Any]:
    return house.tell(OrderReported(event, broker_structure(sent, event.value, filled), house.at_ns))


def test_all_legs_of_a_fill_are_booked_before_anything_else_is_said() -> None:
    house, sent = submitted()
    assert (sent.symbol, sent.side, sent.contracts) == (CONDOR, Side.BUY, 4)
    out = house.tell(executed(sent, "x", 4, 4))
    assert [type(m) for m in out[:4]] == [OrderFilled] * 4
    assert [(f.side, f.contracts, f.fees_modelled_usd) for f in of(OrderFilled, out)] == [
        (Side.SELL, 4, 4 * FEE),
        (Side.BUY, 4, 4 * FEE),
        (Side.BUY, 4, 4 * FEE),
        (Side.SELL, 4, 4 * FEE),
    ]
    step, end = one(OrderAdvanced, out), one(OrderClosed, out)
    assert (step.to_state, step.filled, end.filled, end.contracts) == (OrderState.FILLED, 4, 4, 4)
    assert one(TradeOpened, out).symbol == CONDOR
    assert {p.symbol: p.qty for p in house.ledger.positions()} == {
        leg.symbol: 4 * leg.signed for leg in legs_of(CONDOR)
    }
    assert house.ledger.cash_usd == 100_000 + 400
    assert house.tell(executed(sent, "x", 4, 4)) == []


def test_partial_fills_count_in_units_and_the_rest_is_sent_on_the_next_step() -> None:
    house, sent = submitted(BACKSPREAD)
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_structure(sent), "", ""))
    step = one(OrderAdvanced, house.tell(executed(sent, "x", 1, 1)))
    assert (step.to_state, step.filled) == (OrderState.PARTIALLY_FILLED, 1)
    assert one(SendCancel, house.wait(5)).broker_order_id == f"b-{sent.client_order_id}"
    again = one(SendOrder, told(house, sent, BrokerEvent.CANCELED, 1))
    assert (again.symbol, again.contracts) == (BACKSPREAD, 3)
    assert {p.symbol[9:]: p.qty for p in house.ledger.positions()} == {"C00605000": -1, "C00610000": 2}


def test_legs_that_lag_keep_the_order_open_and_are_asked_for() -> None:
    house, sent = submitted()
    whole = executed(sent, "x", 4, 4)
    told(house, sent, BrokerEvent.FILL, 4)
    out = house.tell(StructureExecuted(whole.legs[:3]))
    assert of(OrderClosed, out) == []
    out = house.wait(1)
    assert one(ReadAccount, out).reason == f"executions of {sent.client_order_id} are missing"
    assert len(of(LookUpOrder, out)) == 1
    out = house.tell(account(house.at_ns, fills=whole.legs))
    assert (len(of(OrderFilled, out)), one(OrderClosed, out).end) == (1, "filled")


def test_legs_that_the_broker_itself_filled_unevenly_end_the_order_so_that_they_can_be_closed() -> None:
    house, sent = submitted()
    short = executed(sent, "x", 1, 1).legs[0]
    house.tell(msgspec.structs.replace(short, order=broker_structure(sent, "canceled", 1)))
    told(house, sent, BrokerEvent.CANCELED, 1)
    uneven = broker_structure(sent, "canceled", 0, {short.symbol: 1})
    answer = LookUpReturned(sent.client_order_id, Outcome.ACCEPTED, uneven, "")
    house.wait(1)
    assert of(OrderClosed, house.tell(answer)) == []  # the first answer can be older than the executions
    house.wait(10)
    end = one(OrderClosed, house.tell(answer))
    assert (end.filled, end.end) == (0, "canceled: the broker filled its legs unevenly")
    assert [(p.symbol, p.qty) for p in house.ledger.positions()] == [(short.symbol, -1)]


def test_an_execution_under_a_legs_own_id_finds_its_order() -> None:
    """Activities name the leg's order; where its parent could not be listed, the leg is all that is known."""
    house, sent = submitted(contracts=1)
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_structure(sent), "", ""))
    whole = executed(sent, "x", 1, 1)
    rows = []
    for n, leg in enumerate(whole.legs):
        own = BrokerOrder(
            f"auto-{n}", f"b-{sent.client_order_id}-{n}", leg.symbol, leg.side, "mleg", Decimal(1), Decimal(1), None,
            None, "", "filled", START_NS,
        )  # fmt: skip
        rows.append(msgspec.structs.replace(leg, order=own))
    out = house.tell(account(house.at_ns, fills=tuple(rows)))
    assert of(ForeignExecution, out) == []
    assert one(OrderClosed, out).end == "filled"
    assert {fill.broker_order_id for fill in of(OrderFilled, out)} == {f"b-{sent.client_order_id}"}


@pytest.mark.parametrize("change", ["side", "symbol", "qty", "fraction"])
def test_what_cannot_be_an_orders_own_is_foreign(change: str) -> None:
    house, sent = submitted()
    leg = executed(sent, "x", 4, 4).legs[0]
    values = {"side": leg.side.opposite, "symbol": "SPY260109C00620000", "qty": Decimal(5), "fraction": Decimal("1.5")}
    odd = msgspec.structs.replace(leg, **{"qty" if change == "fraction" else change: values[change]})
    out = house.tell(odd)
    assert one(ForeignExecution, out).execution_id == odd.execution_id
    assert of(OrderFilled, out) == []


def test_an_execution_beyond_the_brokers_count_of_units_waits() -> None:
    house, sent = submitted(BACKSPREAD)
    told(house, sent, BrokerEvent.PARTIAL_FILL, 1)
    two = executed(sent, "x", 2, 1)  # two units of legs, one by the broker's count
    out = house.tell(two)
    assert (of(OrderFilled, out), len(of(LookUpOrder, out))) == ([], 1)
    out = house.tell(executed(sent, "x", 2, 2))
    assert [fill.contracts for fill in of(OrderFilled, out)] == [2, 4]


def test_an_exit_is_adopted_in_the_orientation_in_which_the_broker_tells_it() -> None:
    house, sent = submitted(side=Side.SELL, contracts=1)
    house.tell(SubmitReturned(sent.client_order_id, Outcome.UNKNOWN, None, "", "timed out"))
    order = broker_structure(sent)
    assert order.symbol == "SPY:+260109C605-260109C610-260109P585+260109P590"
    assert order.limit_price_usd == -sent.limit_usd if sent.limit_usd is not None else False
    out = house.tell(LookUpReturned(sent.client_order_id, Outcome.ACCEPTED, order, ""))
    assert one(OrderAdvanced, out).to_state is OrderState.ACCEPTED


@pytest.mark.parametrize(
    "changes",
    [
        {"symbol": "SPY:-260109C605+260109C615+260109P585-260109P590"},
        {"limit_price_usd": Decimal("-2.00")},
        {"qty": Decimal(3)},
    ],
)
def test_an_order_that_differs_is_not_adopted(changes: dict[str, Any]) -> None:
    house, sent = submitted()
    wrong = msgspec.structs.replace(broker_structure(sent), **changes)
    step = one(OrderAdvanced, house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, wrong, "", "")))
    assert step.to_state is OrderState.UNKNOWN
    assert step.text.startswith("mismatch: ")


def test_a_restart_counts_the_legs_that_were_booked() -> None:
    house, sent = submitted()
    house.tell(executed(sent, "x", 1, 1))
    lagging = executed(sent, "y", 1, 2)
    house.tell(StructureExecuted(lagging.legs[:2]))
    again = Desk(DeskSettings(FEE))
    again.restore([entry_order(symbol=CONDOR)], of(OrderAdvanced, house.all), of(OrderFilled, house.all), [])
    context = house.engine.context()
    assert list(again.on_structure_executed(StructureExecuted(lagging.legs[:2]), context)) == []
    out = list(again.on_structure_executed(lagging, context))
    assert [fill.symbol for fill in of(OrderFilled, out)] == [leg.symbol for leg in lagging.legs[2:]]
    work = again._works.orders[entry_order().order_id]
    assert (work.filled, work.attempts[0].balanced) == (2, True)


def test_shares_cost_no_modelled_option_fee() -> None:
    house, sent = submitted("SPY", contracts=100)
    order = BrokerOrder(
        sent.client_order_id, "b", "SPY", Side.BUY, "simple", Decimal(100), Decimal(100), None, sent.limit_usd,
        "limit", "filled", START_NS,
    )  # fmt: skip
    out = house.tell(ExecutionReported("x", order, "SPY", Side.BUY, Decimal(100), Decimal("600.00"), START_NS))
    assert (one(OrderFilled, out).fees_modelled_usd, house.ledger.cash_usd) == (0, Decimal(40_000))

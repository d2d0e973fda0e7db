"""Scaling out: a share is sold at the first target, once, whatever fills, stops or restarts come in between."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.errors import InvariantError
from oracle.core.messages import (
    ExitPlan,
    ExitPlanAdvanced,
    ExitTriggered,
    SendCancel,
    SendOrder,
    SubmitOrder,
    TradeClosed,
)
from oracle.core.ports import OptionQuote, TradeView
from oracle.core.reports import OrderReported, SubmitReturned
from oracle.core.vocabulary import BrokerEvent, Outcome, Purpose, Side
from oracle.risk.limits import RiskLimits
from oracle.risk.triggers import judge_scale_out, scale_out_contracts, share_is_sold
from oracle.risk.worth import UNKNOWN_WORTH, worth_of_contract
from tests.unit.builders import CALL, START_NS, House, broker_order, execution, gate_settings, intent, of, one, plan
from tests.unit.test_risk_gate_restart import restarted

PLAN = plan(breakeven_after_fraction=0.25, scale_out_share=0.5, scale_out_at_fraction=0.25)


def trade(entered: int = 4, left: int = 4, **changes: Any) -> TradeView:
    view = TradeView(
        trade_id="t", strategy="scalp", strategy_hash="h", underlying="SPY", symbol=CALL, side=Side.BUY,
        contracts_entered=entered, contracts_open=left, entry_price_usd=Decimal("2.00"), entry_done=True,
        exit_plan=PLAN, planned_risk_usd=Decimal(400), worst_case_usd=Decimal(800), opened_ns=START_NS,
    )  # fmt: skip
    return msgspec.structs.replace(view, **changes)


def entered(house: House, contracts: int = 4, exit_plan: ExitPlan = PLAN) -> SubmitOrder:
    """Buy at 9.98; break-even and the first target are at 12.475, the target at 14.97, the stop at 4.99."""
    out = house.tell(intent(exit_plan=exit_plan))
    order, sent = one(SubmitOrder, out), one(SendOrder, out)
    assert sent.contracts == contracts
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent), "", ""))
    house.tell(execution(sent, "in", contracts, contracts, "9.98"))
    assert isinstance(order, SubmitOrder)
    return order


def sized(contracts: int) -> House:
    return House(gate_settings(limits=RiskLimits(max_contracts_per_order=contracts)))


def accepted(house: House, sent: SendOrder) -> None:
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent), "", ""))


def first_target(house: House) -> SendOrder:
    out = house.quote(CALL, 12.5, 12.6)
    assert one(ExitTriggered, out).rule == "scale_out"
    sent = one(SendOrder, out)
    accepted(house, sent)
    assert isinstance(sent, SendOrder)
    return sent


@pytest.mark.parametrize(
    ("contracts", "left", "to_sell", "sold"),
    [
        (1, 1, 0, False), (2, 2, 1, False), (3, 3, 1, False), (4, 4, 2, False), (5, 5, 2, False),
        (4, 3, 1, False), (4, 2, 0, True), (4, 1, -1, True), (3, 2, 0, True),
    ],
)  # fmt: skip
def test_half_is_rounded_down_and_what_was_sold_is_not_sold_again(
    contracts: int, left: int, to_sell: int, sold: bool
) -> None:
    assert scale_out_contracts(trade(contracts, left)) == to_sell
    assert share_is_sold(trade(contracts, left)) == sold


def test_shares_are_exact() -> None:
    tenths = trade(10, 10, exit_plan=msgspec.structs.replace(PLAN, scale_out_share=0.7))
    assert scale_out_contracts(tenths) == 7
    assert scale_out_contracts(trade(exit_plan=plan())) == 0
    assert not share_is_sold(trade(4, 2, exit_plan=plan()))


@pytest.mark.parametrize(
    ("bid", "ask", "fresh", "met"),
    [
        (2.45, 2.55, True, True), (2.45, 2.54, True, False), (2.60, 2.70, False, False), (None, 2.60, True, False),
        (0.0, 5.0, True, False),
    ],
)  # fmt: skip
def test_the_first_target_is_a_fresh_mid(bid: float | None, ask: float, fresh: bool, met: bool) -> None:
    worth = worth_of_contract(OptionQuote(CALL, bid, 10, ask, 10, START_NS, START_NS), fresh)
    assert (judge_scale_out(trade(), worth) is not None) == met
    assert judge_scale_out(trade(4, 2), worth) is None
    assert judge_scale_out(trade(exit_plan=plan()), worth) is None
    assert judge_scale_out(trade(), UNKNOWN_WORTH) is None


def test_half_at_the_first_target_and_the_rest_at_the_second() -> None:
    house = House()
    entered(house)
    sent = first_target(house)
    assert (sent.contracts, sent.limit_usd, sent.reducing) == (2, Decimal("12.55"), True)
    order = of(SubmitOrder, house.all)[-1]
    assert (order.purpose, order.contracts) == (Purpose.TARGET, 2)
    out = house.tell(execution(sent, "half", 2, 2, "12.55"))
    assert one(ExitPlanAdvanced, out).phase == "scaled_out"
    assert of(TradeClosed, out) == []
    assert of(SubmitOrder, house.quote(CALL, 12.9, 13.0) + house.wait(10)) == []
    rest = one(SendOrder, house.quote(CALL, 15.0, 15.1))
    assert rest.contracts == 2
    closed = one(TradeClosed, house.tell(execution(rest, "rest", 2, 2, "15.05")))
    assert (closed.contracts, closed.exit_rule) == (4, "target")
    assert (closed.entry_price_usd, closed.exit_price_usd) == (Decimal("9.98"), Decimal("13.80"))
    assert closed.gross_pnl_usd == 4 * (Decimal("13.80") - Decimal("9.98")) * 100
    assert closed.fees_modelled_usd == 8 * Decimal("0.65")
    # 4 contracts bought half a cent over the mid of 9.975, sold at the mids of 12.55 and 15.05
    assert closed.slippage_usd == Decimal("2.00")
    assert house.ledger.position(CALL) == 0


def test_one_contract_has_no_half_and_goes_for_the_target_with_break_even() -> None:
    house = sized(1)
    entered(house, 1)
    out = house.quote(CALL, 12.5, 12.6)
    assert [step.phase for step in of(ExitPlanAdvanced, out)] == ["breakeven"]
    assert of(SubmitOrder, out) == []
    sent = one(SendOrder, house.quote(CALL, 15.0, 15.1))
    assert (sent.contracts, one(TradeClosed, house.tell(execution(sent, "x", 1, 1, "15.05"))).exit_rule) == (
        1,
        "target",
    )


def test_of_three_one_is_sold_and_two_stop_at_break_even() -> None:
    house = sized(3)
    entered(house, 3)
    sent = first_target(house)
    assert sent.contracts == 1
    house.tell(execution(sent, "half", 1, 1, "12.55"))
    stop = one(SendOrder, house.quote(CALL, 9.9, 10.0) + house.wait(3))
    assert (stop.contracts, stop.limit_usd) == (2, None)
    assert one(TradeClosed, house.tell(execution(stop, "out", 2, 2, "9.90"))).exit_rule == "breakeven"


def test_a_jump_to_the_second_target_sells_everything_at_once() -> None:
    house = House()
    entered(house)
    out = house.quote(CALL, 15.0, 15.1)
    assert (one(ExitTriggered, out).rule, one(SendOrder, out).contracts) == ("target", 4)


def test_a_partly_filled_first_target_sells_only_its_rest_later() -> None:
    house = House()
    entered(house)
    sent = first_target(house)
    house.tell(execution(sent, "one", 1, 1, "12.55"))
    house.quote(CALL, 12.0, 12.1)
    for _ in range(20):
        out = house.wait(5)
        for cancel in of(SendCancel, out):
            filled = 1 if cancel.client_order_id == sent.client_order_id else 0
            again = next(s for s in of(SendOrder, house.all) if s.client_order_id == cancel.client_order_id)
            told = broker_order(again, "canceled", filled)
            for send in of(SendOrder, house.tell(OrderReported(BrokerEvent.CANCELED, told, house.at_ns))):
                accepted(house, send)
    assert not house.gate._book.working
    assert of(ExitPlanAdvanced, house.all)[-1].phase == "breakeven"
    rest = one(SendOrder, house.quote(CALL, 12.5, 12.6))
    assert rest.contracts == 1
    assert one(ExitPlanAdvanced, house.tell(execution(rest, "two", 1, 1, "12.55"))).phase == "scaled_out"


def test_a_stop_while_the_first_target_works_cancels_it_and_then_sells_all_that_is_left() -> None:
    house = House()
    entered(house)
    sent = first_target(house)
    house.tell(execution(sent, "one", 1, 1, "12.55"))
    out = house.quote(CALL, 9.9, 10.0)
    assert (one(ExitTriggered, out).rule, of(SendOrder, out)) == ("breakeven", [])
    assert one(SendCancel, out).client_order_id == sent.client_order_id
    told = broker_order(sent, "canceled", 1)
    out = house.tell(OrderReported(BrokerEvent.CANCELED, told, house.at_ns))
    stop = one(SendOrder, out)
    assert (stop.contracts, stop.limit_usd) == (3, None)
    assert one(TradeClosed, house.tell(execution(stop, "out", 3, 3, "9.90"))).contracts == 4
    assert "scaled_out" not in [step.phase for step in of(ExitPlanAdvanced, house.all)]


def test_a_fill_that_beats_the_cancel_leaves_less_for_the_stop() -> None:
    house = House()
    entered(house)
    sent = first_target(house)
    house.quote(CALL, 9.9, 10.0)
    out = house.tell(execution(sent, "both", 2, 2, "12.55"))
    assert one(SendOrder, out + house.wait(3)).contracts == 2
    assert one(TradeClosed, house.tell(execution(of(SendOrder, house.all)[-1], "out", 2, 2, "9.90"))).contracts == 4


def test_a_restart_does_not_sell_a_second_half() -> None:
    house = House()
    entered(house)
    sent = first_target(house)
    house.tell(execution(sent, "half", 2, 2, "12.55"))
    restarted(house)
    (watch,) = house.gate._exits.watches.values()
    assert (watch.scaled_out, watch.breakeven) == (True, True)
    assert of(SubmitOrder, house.wait(10) + house.quote(CALL, 13.0, 13.1)) == []
    assert one(SendOrder, house.quote(CALL, 15.0, 15.1)).contracts == 2


def test_a_restart_while_the_first_target_works_goes_on_with_it() -> None:
    house = House()
    entered(house)
    sent = first_target(house)
    house.tell(execution(sent, "one", 1, 1, "12.55"))
    restarted(house)
    assert of(SubmitOrder, house.quote(CALL, 13.0, 13.1)) == []
    assert one(ExitPlanAdvanced, house.tell(execution(sent, "two", 1, 2, "12.55"))).phase == "scaled_out"
    assert of(SubmitOrder, house.wait(10) + house.quote(CALL, 13.0, 13.1)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"scale_out_share": 0.5}, {"scale_out_at_fraction": 0.25},
        {"scale_out_share": 1.0, "scale_out_at_fraction": 0.25},
        {"scale_out_share": 0.0, "scale_out_at_fraction": 0.25}, {"scale_out_share": 0.5, "scale_out_at_fraction": 0.5},
        {"scale_out_share": 0.5, "scale_out_at_fraction": 0.0},
    ],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InvariantError, match="scale_out"):
        ExitPlan(0.5, 0.5, 0.25, None, None, 1, START_NS, **changes)


def test_plans_of_before_scaling_out_read_and_write_as_they_did() -> None:
    """A plan without it has the same bytes as ever, so that stored rows and journals stay what they were."""
    old = b'{"target_fraction":0.5,"stop_fraction":0.5,"breakeven_after_fraction":0.3,"underlying_target":null,' + (
        b'"underlying_stop":null,"direction":1,"flat_ns":%d}' % plan().flat_ns
    )
    assert msgspec.json.decode(old, type=ExitPlan) == plan()
    assert msgspec.json.encode(plan()) == old
    assert msgspec.json.decode(msgspec.json.encode(PLAN), type=ExitPlan) == PLAN

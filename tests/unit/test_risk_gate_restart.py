"""The gate coming back after a restart: exits, timers, latches, what was decided."""

from oracle.core.marketdata import FeedChanged
from oracle.core.messages import (
    CancelOrder,
    ExitPlanAdvanced,
    ExitTriggered,
    LatchChanged,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    SendOrder,
    SetTimer,
    SubmitOrder,
    TimerFired,
    TradeClosed,
    TradeOpened,
)
from oracle.core.reports import OrderReported, SubmitReturned
from oracle.core.vocabulary import BrokerEvent, Feed, FeedState, OrderState, Outcome, Purpose
from oracle.risk.gate import Gate
from oracle.risk.stored import Stored
from tests.unit.builders import (
    CALL,
    PUT,
    START_NS,
    House,
    account,
    broker_order,
    execution,
    gate_settings,
    intent,
    of,
    one,
    plan,
)
from tests.unit.test_risk_execution_flow import filled_entry
from tests.unit.test_risk_gate import refused, small


def stored(house: House) -> Stored:
    """What a store would give back of everything that happened in a house."""
    return Stored(
        orders=of(SubmitOrder, house.all), advanced=of(OrderAdvanced, house.all), fills=of(OrderFilled, house.all),
        ended=of(OrderClosed, house.all), intents=[intent()], opened=of(TradeOpened, house.all),
        closed=of(TradeClosed, house.all), plans=of(ExitPlanAdvanced, house.all),
        exits=of(ExitTriggered, house.all), latches=of(LatchChanged, house.all),
    )  # fmt: skip


def restarted(house: House) -> House:
    """The same house with a new gate that was rebuilt from stored facts."""
    gate = Gate(gate_settings(next_sequence=100))
    gate.restore(stored(house))
    house.gate = gate
    handlers = house.engine.bus._handlers
    for kind, handler in gate.handlers():
        mine = [h for h in handlers[kind] if not isinstance(getattr(h, "__self__", None), Gate)]
        handlers[kind] = [*mine, handler]
    return house


def test_a_restart_keeps_break_even_timers_and_the_intents_decided() -> None:
    house = House()
    order = filled_entry(house)
    house.quote(CALL, 12.95, 13.05)
    restarted(house)
    out = house.tell(FeedChanged(Feed.STOCK, 2, FeedState.LIVE, "connected"))
    assert one(SetTimer, out).timer_id == f"risk:flat:{order.trade_id}"
    assert house.tell(FeedChanged(Feed.OPTION, 2, FeedState.LIVE, "connected")) == []
    assert "duplicate_intent" in refused(house, intent())
    house.gate._book.decided.add("breakout:2026-01-02:SPY:1")
    house.tell(TimerFired("session:open", START_NS))  # a start in session begins with its opening
    assert house.gate._book.decided == {intent().intent_id}
    out = house.quote(CALL, 9.9, 10.0)
    assert one(ExitTriggered, out).rule == "breakeven"
    assert one(SubmitOrder, out).order_id == "tok-20260105-bo-000100"
    assert one(SubmitOrder, out).decision_id == order.decision_id


def test_a_restart_keeps_a_triggered_stop_and_its_working_order() -> None:
    house = House()
    filled_entry(house)
    sent = one(SendOrder, house.quote(CALL, 4.0, 4.1))
    restarted(house)
    assert of(SubmitOrder, house.quote(CALL, 9.0, 9.1)) == []
    out = house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "", "no"))
    assert one(ExitTriggered, out).rule == "stop"
    house.tell(account(house.at_ns))
    assert one(SubmitOrder, house.wait(3)).purpose is Purpose.STOP


def test_a_restart_keeps_working_entries_latches_and_closed_trades() -> None:
    house = House()
    sent = one(SendOrder, filled_exit(house))
    house.tell(execution(sent, "x2", 4, 4, "4.90"))
    house.quote(PUT, 1.95, 2.0)
    lost = one(SendOrder, house.tell(small(2, PUT)))
    house.tell(SubmitReturned(lost.client_order_id, Outcome.UNKNOWN, None, "", "timed out"))
    assert of(OrderAdvanced, house.all)[-1].to_state is OrderState.UNKNOWN
    restarted(house)
    rules = refused(house, small(3, PUT))
    assert {"order_unknown", "duplicate_intent"} <= set(rules)
    house.gate._halts.apply(LatchChanged("drawdown", True, "r", "o", "l", None, START_NS))
    out = house.tell(FeedChanged(Feed.TRADING, 2, FeedState.LIVE, "connected"))
    assert one(CancelOrder, out).order_id == lost.client_order_id[:-2]
    assert house.gate._halts.losses_in_a_row == 1
    assert house.gate._exits.watches == {}


def filled_exit(house: House) -> list[object]:
    filled_entry(house)
    return list(house.quote(CALL, 4.9, 5.0))


def test_a_late_fill_opens_a_trade_again_and_it_is_watched() -> None:
    house = House()
    sent = one(SendOrder, house.tell(intent()))
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent), "", ""))
    house.tell(OrderReported(BrokerEvent.CANCELED, broker_order(sent, "canceled"), house.at_ns))
    assert one(OrderClosed, house.all).end == "canceled: by the broker"
    late = execution(sent, "x1", 1, 1, "9.97")
    assert one(TradeOpened, house.tell(late)).symbol == CALL
    assert one(SubmitOrder, house.quote(CALL, 4.0, 4.1)).contracts == 1
    assert plan().flat_ns > START_NS

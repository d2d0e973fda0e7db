"""What operators ask of risk: halts and flats confirmed from the broker's records, latches cleared, switches kept."""

from typing import Any

import pytest

from oracle.core.control import AdoptOrder, Ask, Flatten, Halt, Reconcile, Resume, Switch
from oracle.core.message import Message
from oracle.core.messages import (
    CancelOrder,
    ExitTriggered,
    IntentRefused,
    LatchChanged,
    OperatorAnswered,
    OperatorRequested,
    ReadAccount,
    SendCancel,
    SendOrder,
    StrategyFailed,
    SubmitOrder,
    TradeClosed,
)
from oracle.core.reports import OrderReported, SubmitReturned
from oracle.core.vocabulary import BrokerEvent, OrderType, Outcome, Purpose, TradingState
from oracle.risk.gate import Gate
from oracle.risk.stored import Stored
from tests.unit.builders import (
    CALL,
    OPEN_NS,
    PUT,
    TABLE,
    House,
    account,
    broker_order,
    execution,
    gate_settings,
    intent,
    of,
    one,
)
from tests.unit.test_risk_execution_flow import filled_entry
from tests.unit.test_risk_gate import refused, small


def request(ask: Ask, name: str = "r1", why: str = "because") -> OperatorRequested:
    return OperatorRequested(name, "alice", why, ask)


def answer(messages: list[Message], *, done: bool = True) -> OperatorAnswered:
    found: OperatorAnswered = one(OperatorAnswered, [m for m in of(OperatorAnswered, messages) if m.done is done])
    return found


def report(house: House, **changes: Any) -> list[Message]:
    """The broker's account as the ledger has it, unless a test says otherwise."""
    held = tuple(house.position(p.symbol, p.qty) for p in house.ledger.positions())
    return house.tell(account(house.at_ns, str(house.ledger.cash_usd), **{"positions": held, **changes}))


# ------------------------------------------------------------------------------------------------------------ halt


def test_a_halt_cancels_at_once_and_is_confirmed_only_by_a_report_without_the_entry() -> None:
    house = House()
    sent = one(SendOrder, house.tell(intent()))
    order = broker_order(sent)
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, order, "", ""))
    out = house.tell(request(Halt()))
    latch = one(LatchChanged, out)
    assert (latch.latch, latch.active, latch.until_date, latch.reason) == ("operator", True, None, "alice: because")
    assert one(SendCancel, out).broker_order_id == order.broker_order_id
    early = answer(out, done=False)
    assert (early.ok, early.who, early.why) == (True, "alice", "because")
    assert early.facts["entries"] == [sent.client_order_id[:-2]]
    assert of(ReadAccount, out) == []  # the cancel has not been confirmed: a read would only show the order
    assert of(ReadAccount, house.wait(1)) == []
    out = house.tell(OrderReported(BrokerEvent.CANCELED, broker_order(sent, "canceled"), house.at_ns))
    assert one(ReadAccount, out).reason == "operator: halt"
    # The broker still shows it: not confirmed, and asked for again.
    assert of(OperatorAnswered, report(house, open_orders=(order,))) == []
    assert one(ReadAccount, house.wait(0.5)).reason == "operator: halt"
    done = answer(report(house))
    assert (done.ok, done.facts["confirmed"], done.facts["orders"]) == (True, True, [])
    assert "trading_state" in refused(house, small(2, PUT, at_ns=house.at_ns))


def test_a_halt_leaves_exits_alone_and_orders_of_others_do_not_hinder_its_confirmation() -> None:
    house = House()
    filled_entry(house)
    exit_sent = one(SendOrder, house.quote(CALL, 4.0, 4.1))
    out = house.tell(request(Halt()))
    assert of(CancelOrder, out) == []
    assert one(ReadAccount, out)
    others = broker_order(exit_sent, client_order_id="by-hand", broker_order_id="b9")
    done = answer(report(house, open_orders=(broker_order(exit_sent), others)))
    assert done.ok
    assert [(o["client_order_id"], o["ours"]) for o in done.facts["orders"]] == [
        (exit_sent.client_order_id, True), ("by-hand", False),
    ]  # fmt: skip


def test_a_failed_read_is_repeated_and_silence_is_no_confirmation() -> None:
    house = House()
    house.tell(request(Halt()))
    assert of(OperatorAnswered, house.tell(account(house.at_ns, None, text="HTTP 504"))) == []
    assert one(ReadAccount, house.wait(0.5))
    out = house.wait(10)
    done = answer(out)
    assert (done.ok, "not confirmed" in done.text) == (False, True)
    assert house.gate.trading_state is TradingState.HALTED
    assert of(OperatorAnswered, house.wait(30)) == []  # one final answer


def test_a_second_halt_is_confirmed_as_well_and_a_halt_survives_a_restart() -> None:
    house = House()
    house.tell(request(Halt()))
    report(house)
    out = house.tell(request(Halt(), "r2"))
    assert of(LatchChanged, out) == []
    assert answer(out, done=False).facts["already"] is True
    assert answer(report(house)).request_id == "r2"
    gate = Gate(gate_settings())
    gate.restore(Stored(latches=of(LatchChanged, house.all)))
    assert gate.trading_state is TradingState.HALTED


# ---------------------------------------------------------------------------------------------------------- resume


def test_resume_clears_what_waits_for_a_person_and_says_so() -> None:
    house = House()
    house.tell(request(Halt()))
    report(house)
    house.tell(StrategyFailed("scalp", "ValueError: x"))
    house.tell(LatchChanged("loss_streak", True, "r", "3", "below 3", "2026-01-06", house.at_ns))
    done = answer(house.tell(request(Resume(), why="looked at it")))
    assert done.facts["cleared"] == ["loss_streak", "operator", "strategy_failed:scalp"]
    assert (done.ok, done.facts["set"], done.facts["state"]) == (True, [], "active")
    cleared = [m for m in of(LatchChanged, house.all) if not m.active]
    assert {(m.latch, m.reason) for m in cleared} == {(name, "alice: looked at it") for name in done.facts["cleared"]}
    assert of(SubmitOrder, house.tell(intent(5))) != []


def test_one_latch_can_be_cleared_alone() -> None:
    house = House()
    house.tell(request(Halt()))
    house.tell(StrategyFailed("scalp", "ValueError: x"))
    done = answer(house.tell(request(Resume("strategy_failed:scalp"))))
    assert (done.facts["cleared"], done.facts["set"]) == (["strategy_failed:scalp"], ["operator"])
    assert house.gate.trading_state is TradingState.HALTED


@pytest.mark.parametrize(
    ("latch", "words"),
    [
        ("day_loss", "until the next session"),
        ("strategy_disabled:breakout", "enable the strategy"),
        ("nonsense", "not set"),
    ],
)
def test_what_an_operator_cannot_clear_is_refused_with_the_reason(latch: str, words: str) -> None:
    house = House()
    house.tell(LatchChanged("day_loss", True, "r", "o", "l", "2026-01-06", house.at_ns))
    house.tell(request(Switch("breakout", False)))
    done = answer(house.tell(request(Resume(latch), "r2")))
    assert not done.ok
    assert words in done.text
    done = answer(house.tell(request(Resume(), "r3")))
    assert (done.ok, done.facts["cleared"]) == (True, [])
    assert done.facts["set"] == ["day_loss", "strategy_disabled:breakout"]


def test_clearing_a_drawdown_starts_the_peak_anew() -> None:
    house = House()
    filled_entry(house)
    house.quote(CALL, 9.9, 10.0)
    house.tell(LatchChanged("drawdown", True, "r", "o", "l", None, house.at_ns))
    house.tell(request(Resume("drawdown")))
    assert house.engine.context().equity.peak_usd == house.engine.context().equity.equity_usd
    assert house.gate.trading_state is TradingState.ACTIVE


# --------------------------------------------------------------------------------------------------------- flatten


def test_flatten_forces_every_exit_and_is_confirmed_when_the_broker_shows_nothing() -> None:
    house = House()
    filled_entry(house)
    house.quote(PUT, 1.95, 2.0)
    entry = one(SendOrder, house.tell(small(2, PUT)))
    out = house.tell(request(Flatten(), why="storm"))
    forced = one(ExitTriggered, out)
    assert (forced.rule, forced.purpose, forced.observed) == ("operator", Purpose.FORCED, "alice: storm")
    leave = one(SubmitOrder, out)
    assert (leave.symbol, leave.contracts, leave.order_type) == (CALL, 4, OrderType.MARKET)
    assert [c.order_id for c in of(CancelOrder, out)] == [entry.client_order_id[:-2]]
    sold = next(m for m in of(SendOrder, out) if m.symbol == CALL)
    # The entry fills before its cancel arrives: it is closed too.
    late = house.tell(execution(entry, "late", entry.contracts, entry.contracts, "1.98"))
    assert one(ExitTriggered, late).rule == "operator"
    second = one(SendOrder, late)
    house.tell(execution(sold, "s1", 4, 4, "9.90"))
    out = house.tell(execution(second, "s2", second.contracts, second.contracts, "1.90"))
    assert one(TradeClosed, out).exit_rule == "operator"
    assert one(ReadAccount, out).reason == "operator: flatten"
    done = answer(report(house))
    assert (done.ok, done.facts["confirmed"], done.facts["positions"]) == (True, True, [])
    assert house.gate.trading_state is TradingState.HALTED


def test_flatten_says_what_is_not_ours_and_what_it_could_not_confirm() -> None:
    house = House()
    house.tell(request(Flatten()))
    theirs = (house.position(PUT, 3),)
    assert of(OperatorAnswered, report(house, positions=theirs)) == []  # they may go yet: it goes on looking
    house.wait(55)
    report(house, positions=theirs)
    done = answer(house.wait(5))
    assert not done.ok
    assert PUT in done.text
    assert "--direct" in done.text
    house = House()
    filled_entry(house)
    house.tell(request(Flatten()))
    done = answer(house.wait(61))
    assert (done.ok, "--direct" in done.text) == (False, True)


def test_flatten_outside_the_session_halts_and_closes_at_the_open() -> None:
    house = House()
    filled_entry(house)
    house.wait((TABLE.sessions[0].close_ns - house.at_ns) / 1e9 + 60)
    done = answer(house.tell(request(Flatten())))
    assert not done.ok
    assert "next open" in done.text
    assert house.gate.trading_state is TradingState.HALTED


# ---------------------------------------------------------------------------------------- switches, reconcile, order


def test_a_disabled_strategy_enters_nothing_until_it_is_enabled() -> None:
    house = House()
    entry = one(SubmitOrder, house.tell(intent()))
    house.quote(PUT, 1.95, 2.0)
    other = one(SubmitOrder, house.tell(small(2, PUT, strategy="scalp")))
    out = house.tell(request(Switch("breakout", False)))
    assert [c.order_id for c in of(CancelOrder, out)] == [entry.order_id]
    assert other.order_id not in [c.order_id for c in of(CancelOrder, out)]
    assert answer(out).ok
    assert house.gate.trading_state is TradingState.ACTIVE
    refusals = one(IntentRefused, house.tell(intent(7))).refusals
    assert "strategy_disabled" in [r.rule for r in refusals]
    again = answer(house.tell(request(Switch("breakout", False), "r2")))
    assert "already" in again.text
    gate = Gate(gate_settings())
    gate.restore(Stored(latches=of(LatchChanged, house.all)))
    assert gate._halts.disabled("breakout")
    assert answer(house.tell(request(Switch("breakout", True), "r3"))).ok
    assert not house.gate._halts.disabled("breakout")


def test_an_unknown_strategy_is_answered_with_those_that_are_known() -> None:
    done = answer(House().tell(request(Switch("breakut", False))))
    assert not done.ok
    assert "breakout, scalp" in done.text


def test_reconcile_answers_with_the_comparison_of_a_fresh_report() -> None:
    house = House()
    assert one(ReadAccount, house.tell(request(Reconcile()))).reason == "operator: reconcile"
    assert answer(report(house)).text == "ledger and broker agree"
    house.tell(request(Reconcile(), "r2"))
    done = answer(report(house, positions=(house.position(PUT, 3),)))
    assert not done.ok
    assert done.facts["differences"] == [f"position: {PUT}: 3 at the broker, 0 by the ledger"]
    assert [(p["symbol"], p["ours"]) for p in done.facts["positions"]] == [(PUT, False)]


def test_a_report_that_cannot_be_compared_is_read_again() -> None:
    house = House()
    filled_entry(house)
    house.tell(request(Reconcile()))
    old = account(OPEN_NS, "100000")  # older than our fill: it proves nothing
    assert of(OperatorAnswered, house.tell(old)) == []
    assert one(ReadAccount, house.wait(0.5))


def test_an_order_of_others_is_adopted_once_it_is_known_and_gone() -> None:
    house = House()
    assert "no open order" in answer(house.tell(request(AdoptOrder("by-hand")))).text
    sent = one(SendOrder, house.tell(intent()))
    foreign = broker_order(sent, client_order_id="by-hand", broker_order_id="b9")
    report(house, open_orders=(foreign,))
    out = house.tell(request(AdoptOrder("by-hand"), "r2"))
    assert one(ReadAccount, out).reason == "operator: adopt_order"
    assert of(OperatorAnswered, report(house, open_orders=(foreign,))) == []
    house.wait(0.5)
    assert answer(report(house)).ok
    told = [(m.done, m.text) for m in of(OperatorAnswered, out)]
    assert told == [(False, "asking the broker to cancel by-hand")]  # on record before the cancel leaves
    ours = answer(house.tell(request(AdoptOrder(sent.client_order_id), "r3")))
    assert not ours.ok

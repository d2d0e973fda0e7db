"""What operators ask for lasts: a flatten over time limits and restarts until a resume; each request is answered."""

from oracle.core.control import AdoptPosition, Flatten, Halt, Reconcile, Resume
from oracle.core.message import Message
from oracle.core.messages import (
    CancelOrder,
    ExitTriggered,
    LatchChanged,
    LedgerSeeded,
    OperatorAnswered,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    ReadAccount,
    SendOrder,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.reports import SubmitReturned
from oracle.core.vocabulary import Outcome, Purpose, TradingState
from oracle.risk.gate import Gate
from oracle.risk.stored import Stored
from oracle.risk.watch import Watch
from tests.unit.builders import (
    CALL,
    LATER_CALL,
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
    plan,
)
from tests.unit.test_risk_execution_flow import filled_entry
from tests.unit.test_risk_operator import answer, report, request


def stored(messages: list[Message]) -> Stored:
    """What the store would give back of this."""
    return Stored(
        orders=of(SubmitOrder, messages), fills=of(OrderFilled, messages), advanced=of(OrderAdvanced, messages),
        ended=of(OrderClosed, messages), opened=of(TradeOpened, messages), closed=of(TradeClosed, messages),
        exits=of(ExitTriggered, messages), latches=of(LatchChanged, messages), answers=of(OperatorAnswered, messages),
    )  # fmt: skip


def restarted(house: House) -> House:
    """A process that has loaded what the other one had stored."""
    new = House(gate_settings(next_sequence=50), ready=False)
    new.at_ns = house.at_ns
    loaded = stored(house.all)
    new.ledger.restore([*of(LedgerSeeded, house.all), *loaded.orders, *loaded.fills, *loaded.ended])
    new.gate.restore(loaded)
    new.desk.restore(loaded.orders, loaded.advanced, loaded.fills, loaded.ended, ())
    new.get_ready()
    return new


def accepted(house: House) -> SendOrder:
    """An entry that the broker holds."""
    entry: SendOrder = one(SendOrder, house.tell(intent()))
    house.tell(SubmitReturned(entry.client_order_id, Outcome.ACCEPTED, broker_order(entry), "", ""))
    return entry


def held_over_night() -> tuple[House, Watch]:
    """A trade that may be held until tomorrow, and the session is over."""
    house = House()
    late = plan(flat_ns=TABLE.sessions[1].late("15:00"))
    house.quote(LATER_CALL, 9.95, 10.0)
    entry = one(SendOrder, house.tell(intent(symbol=LATER_CALL, exit_plan=late, bid="9.95", ask="10.00")))
    house.tell(execution(entry, "x1", 4, 4, "10.00", house.at_ns))
    house.wait((TABLE.sessions[0].close_ns - house.at_ns) / 1e9 + 60)
    (watch,) = house.gate._exits.watches.values()
    return house, watch


def test_an_entry_that_fills_after_the_restart_is_closed_and_the_request_is_answered() -> None:
    house = House()
    entry = accepted(house)
    house.tell(request(Flatten(), why="storm"))
    new = restarted(house)
    told = [m for m in of(OperatorAnswered, new.all) if m.request_id == "r1"]
    assert [(m.action, m.who, m.why, m.ok, m.done) for m in told] == [("flatten", "alice", "storm", False, True)]
    assert "interrupted by a restart" in told[0].text
    assert "stands" in told[0].text
    out = new.tell(execution(entry, "x1", 4, 4, "10.00", new.at_ns))
    forced = one(ExitTriggered, out)
    assert (forced.rule, forced.purpose, forced.observed) == ("operator", Purpose.FORCED, "alice: storm")
    assert one(SendOrder, out).contracts == 4


def test_an_entry_that_fills_after_the_requests_time_limit_is_closed() -> None:
    house = House()
    entry = accepted(house)
    house.tell(request(Flatten()))
    assert not answer(house.wait(61)).ok
    house.quote(CALL, 9.95, 10.0)
    assert one(ExitTriggered, house.tell(execution(entry, "x", 4, 4, "10.00", house.at_ns))).rule == "operator"


def test_a_restart_answers_what_was_left_undone_once() -> None:
    house = House()
    house.tell(request(Halt()))
    house.tell(request(Reconcile(), "r2"))
    house.tell(request(Resume("nonsense"), "r3"))
    new = restarted(house)
    told = of(OperatorAnswered, new.all)
    assert [(m.request_id, m.done, m.ok) for m in told] == [("r1", True, False), ("r2", True, False)]
    assert all("oracle reconcile" in m.text and "stands" not in m.text for m in told)
    house.all += new.all
    assert of(OperatorAnswered, restarted(house).all) == []


def test_resume_ends_a_flatten_that_waits_and_what_opens_later_is_kept() -> None:
    house = House()
    house.tell(request(Flatten()))
    house.wait(5)
    out = house.tell(request(Resume("operator"), "r2"))
    told = {m.request_id: (m.ok, m.text) for m in of(OperatorAnswered, out)}
    assert told["r1"] == (False, "superseded by a resume of alice, not confirmed")
    assert told["r2"][0]
    assert house.gate.trading_state is TradingState.ACTIVE
    house.spot(600.0)
    house.quote(CALL, 9.95, 10.0)
    entry = one(SendOrder, house.tell(intent(at_ns=house.at_ns)))
    out = house.tell(execution(entry, "x", entry.contracts, entry.contracts, "10.00", house.at_ns))
    assert one(TradeOpened, out)
    assert of(ExitTriggered, out) == []
    assert of(OperatorAnswered, house.wait(60)) == []


def test_clearing_another_latch_leaves_a_flatten_alone() -> None:
    house = House()
    house.tell(request(Flatten()))
    house.tell(LatchChanged("drawdown", True, "r", "o", "l", None, house.at_ns))
    out = house.tell(request(Resume("drawdown"), "r2"))
    assert [m.request_id for m in of(OperatorAnswered, out)] == ["r2"]
    assert answer(report(house)).text.startswith("halted and flat")


def test_a_flatten_at_night_is_taken_back_by_resume_also_over_a_restart() -> None:
    house, watch = held_over_night()
    assert "resume" in answer(house.tell(request(Flatten()))).text
    assert watch.wanted is not None
    gate = Gate(gate_settings())
    gate.restore(stored(house.all))
    assert next(iter(gate._exits.watches.values())).wanted is not None
    house.tell(request(Resume(), "r2"))
    assert watch.wanted is None
    gate = Gate(gate_settings())
    gate.restore(stored(house.all))
    assert next(iter(gate._exits.watches.values())).wanted is None


def test_a_stop_that_had_triggered_before_a_flatten_is_wanted_again_after_resume() -> None:
    house, watch = held_over_night()
    house.quote(LATER_CALL, 4.0, 4.1)  # the stop, wanted until the trade is flat
    assert watch.wanted is not None
    stop = watch.wanted
    house.tell(request(Flatten()))
    assert watch.wanted.rule == "operator"
    house.quote(LATER_CALL, 9.9, 10.0)
    out = house.tell(request(Resume(), "r2"))
    assert (watch.wanted, one(ExitTriggered, out).rule) == (stop, stop.rule)


def test_only_a_report_that_was_read_after_the_request_confirms_it() -> None:
    house = House()
    house.tell(request(Reconcile(), "r0"))  # its read is still under way
    out = house.tell(request(Halt()))
    assert one(ReadAccount, out)
    first = of(OperatorAnswered, report(house))
    assert [(m.request_id, m.ok) for m in first] == [("r0", True)]
    assert answer(report(house)).request_id == "r1"


def test_a_report_that_still_shows_what_was_sold_is_no_final_no() -> None:
    house = House()
    filled_entry(house)
    sold = one(SendOrder, house.tell(request(Flatten())))
    house.tell(execution(sold, "x1", 4, 4, "10.00", house.at_ns))
    assert of(OperatorAnswered, report(house, positions=(house.position(CALL, 4),))) == []
    assert one(ReadAccount, house.wait(0.5))
    assert answer(report(house)).ok
    # Without a newer report than the settling time nothing is said of what the broker holds.
    house.tell(request(Flatten(), "r2"))
    house.wait(60)
    assert "not confirmed" in of(OperatorAnswered, house.all)[-1].text


def test_the_broker_is_asked_often_at_first_and_then_less() -> None:
    house = House()
    house.tell(request(Halt()))
    house.tell(account(house.at_ns, None, text="HTTP 504"))
    seen: list[int] = []
    for _ in range(20):
        for _ in of(ReadAccount, house.wait(0.5)):
            seen.append(len(seen))
            house.tell(account(house.at_ns, None, text="HTTP 504"))
    assert len(seen) == 4 + 3  # at 0.5, 1, 1.5, 2, then 4, 6, 8 s; at 10 s it gives up
    assert not of(OperatorAnswered, house.all)[-1].ok


def test_a_second_adoption_waits_for_the_end_of_the_first() -> None:
    house = House()
    house.tell(request(AdoptPosition((PUT,), 0.5), "r1"))
    done = answer(house.tell(request(AdoptPosition((CALL,), 0.5), "r2")))
    assert (done.request_id, done.ok, "under way" in done.text) == ("r2", False, True)
    assert answer(report(house)).request_id == "r1"
    assert answer(house.tell(request(AdoptPosition((CALL,), 0.5), "r3")), done=False).request_id == "r3"


def test_a_second_halt_cancels_only_what_the_first_did_not() -> None:
    house = House()
    accepted(house)
    assert one(CancelOrder, house.tell(request(Halt())))
    assert of(CancelOrder, house.tell(request(Halt(), "r2"))) == []

"""Which events of orders have the account read, and which reads cover its fills. On a real engine with the reader."""

from typing import Any

from oracle.core.messages import ReadAccount, SendOrder
from oracle.core.reports import SubmitReturned
from oracle.core.sessions import NS
from oracle.core.vocabulary import Outcome
from oracle.execution.account import EVERY_S, OVERLAP_NS, AccountReader
from tests.unit.builders import CALL, START_NS, House, account, entry_order, execution, intent, of, one
from tests.unit.test_risk_execution_flow import filled_entry


def watched(**changes: Any) -> House:
    """A house whose account is read, and has just been."""
    house = House(**changes)
    house.engine.bus.subscribe(AccountReader().handlers())
    house.tell(account(house.at_ns, fills_since_ns=0))
    return house


def test_the_account_is_read_when_an_order_becomes_unknown() -> None:
    house = watched()
    sent = one(SendOrder, house.tell(intent()))
    out = house.tell(SubmitReturned(sent.client_order_id, Outcome.UNKNOWN, None, "", "timed out"))
    assert one(ReadAccount, out).reason == f"{sent.client_order_id} is unknown"


def test_the_account_is_read_when_an_exit_is_refused_but_not_for_an_entry() -> None:
    house = watched()
    refused = one(SendOrder, house.tell(intent()))
    assert of(ReadAccount, house.tell(SubmitReturned(refused.client_order_id, Outcome.REJECTED, None, "", "no"))) == []
    house = watched()
    filled_entry(house)
    sent = one(SendOrder, house.quote(CALL, 4.0, 4.1))
    out = house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "40310000", "nothing to close"))
    assert one(ReadAccount, out).reason == f"exit {sent.client_order_id[:-2]} was refused"


def test_exits_that_stay_refused_leave_seldom_and_with_a_read_each() -> None:
    house = watched()
    filled_entry(house)
    sends, reads = [], []

    def serve(out: list[Any]) -> None:
        for m in out:
            if isinstance(m, SendOrder):
                sends.append(house.at_ns)
                serve(house.tell(SubmitReturned(m.client_order_id, Outcome.REJECTED, None, "40310000", "no")))
            elif isinstance(m, ReadAccount):
                reads.append(m)
                serve(house.tell(account(house.at_ns, fills_since_ns=m.fills_since_ns)))

    serve(house.quote(CALL, 4.0, 4.1))
    for _ in range(600):
        serve(house.wait(1))
    assert [round((at_ns - sends[0]) / NS) for at_ns in sends[:6]] == [0, 3, 9, 21, 45, 93]
    assert len(sends) <= 15
    assert len([read for read in reads if "was refused" in read.reason]) == len(sends)


def test_a_read_that_reached_back_less_far_leaves_nothing_uncovered() -> None:
    house = watched()
    house.tell(account(house.at_ns, text="timed out"), after_s=1800)
    house.tell(account(house.at_ns + 1800 * NS, fills_since_ns=house.at_ns + 1740 * NS), after_s=1800)
    assert one(ReadAccount, house.wait(EVERY_S)).fills_since_ns == START_NS - OVERLAP_NS


def test_busy_closes_do_not_put_the_next_read_off() -> None:
    house = watched(ready=False)
    for n in range(10):
        sent = one(SendOrder, house.tell(entry_order(f"tok-20260105-bo-{n:06d}", 1), after_s=1))
        house.tell(execution(sent, f"x{n}", 1, 1, at_ns=house.at_ns))
    periodic = [read for read in of(ReadAccount, house.all) if read.reason == "periodic"]
    assert [read.fills_since_ns for read in periodic] == [START_NS - OVERLAP_NS]

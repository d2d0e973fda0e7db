"""From unknown to known: verdicts, delays, statuses and mismatches."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.messages import SendOrder
from oracle.core.reports import LookUpReturned
from oracle.core.sessions import NS
from oracle.core.vocabulary import Outcome, Side
from oracle.execution.orders import OrderEvent
from oracle.execution.outcomes import Doubt, Verdict, delay_s, event_of_status, mismatch, resolve
from tests.unit.builders import CALL, START_NS, broker_order

SENT = SendOrder("o-1", CALL, Side.BUY, True, 4, Decimal("2.00"), False)


def answer(outcome: Outcome, **changes: Any) -> LookUpReturned:
    order = broker_order(SENT, **changes) if outcome is Outcome.ACCEPTED else None
    return LookUpReturned("o-1", outcome, order, "")


@pytest.mark.parametrize(
    ("reply", "doubt", "after_s", "verdict"),
    [
        (answer(Outcome.ACCEPTED), Doubt(START_NS, False, True), 0, Verdict.ADOPT),
        (answer(Outcome.ACCEPTED, qty=Decimal(5)), Doubt(START_NS, False, True), 0, Verdict.MISMATCH),
        (answer(Outcome.NOT_FOUND), Doubt(START_NS, False, True), 9.9, Verdict.WAIT),
        (answer(Outcome.NOT_FOUND), Doubt(START_NS, False, True), 10, Verdict.RESEND),
        (answer(Outcome.NOT_FOUND), Doubt(START_NS, True, True), 10, Verdict.LOST),
        (answer(Outcome.NOT_FOUND), Doubt(START_NS, False, False), 10, Verdict.LOST),
        (answer(Outcome.NOT_FOUND), Doubt(None, False, True), 99, Verdict.WAIT),
        (answer(Outcome.UNKNOWN), Doubt(START_NS, False, True), 99, Verdict.WAIT),
        (answer(Outcome.THROTTLED), Doubt(START_NS, True, True), 99, Verdict.WAIT),
    ],
)
def test_verdicts(reply: LookUpReturned, doubt: Doubt, after_s: float, verdict: Verdict) -> None:
    assert resolve(reply, SENT, START_NS, doubt, START_NS + round(after_s * NS)) is verdict


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"symbol": "SPY"}, "symbol"),
        ({"side": Side.SELL}, "side"),
        ({"side": None}, "side"),
        ({"qty": Decimal(3)}, "qty 3 instead of 4"),
        ({"limit_price_usd": None}, "limit"),
        ({"created_ns": START_NS - 61 * NS}, "created 61 s before"),
    ],
)
def test_an_order_is_adopted_only_when_every_field_agrees(changes: dict[str, Any], words: str) -> None:
    found = msgspec.structs.replace(broker_order(SENT), **changes)
    assert words in mismatch(SENT, START_NS, found)
    assert mismatch(SENT, START_NS, broker_order(SENT)) == ""


def test_looks_come_ever_later_and_statuses_have_events() -> None:
    assert [delay_s(n) for n in range(8)] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert event_of_status("pending_cancel") is OrderEvent.PENDING
    assert {event_of_status(s) for s in ("suspended", "stopped")} == {OrderEvent.PENDING}
    assert event_of_status("calculated") is OrderEvent.DONE_FOR_DAY
    assert event_of_status("calculated_in_a_new_way") is OrderEvent.UNKNOWN_EVENT

"""Every row of docs/recovery.md's table of unknown outcomes (alpaca.md section 5), one test each."""

from decimal import Decimal
from typing import Any

import pytest

from oracle.core.marketdata import FeedChanged
from oracle.core.messages import (
    CancelOrder,
    LadderStep,
    LookUpOrder,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    SendCancel,
    SendOrder,
)
from oracle.core.reports import CancelReturned, LookUpReturned, SubmitReturned
from oracle.core.sessions import NS
from oracle.core.vocabulary import BrokerEvent, Feed, FeedState, OrderState, OrderType, Outcome, Purpose, Side
from oracle.execution.outcomes import NOT_FOUND_S
from tests.unit.builders import START_NS, House, account, broker_order, entry_order, execution, of, one
from tests.unit.test_execution_desk import accept, end, found, long_market, not_found, submitted, told
from tests.unit.test_execution_restart import live, restarted


def lost(house: House, sent: SendOrder, code: str = "", text: str = "timed out") -> list[Any]:
    """The POST came to nothing that proves anything."""
    return house.tell(SubmitReturned(sent.client_order_id, Outcome.UNKNOWN, None, code, text))


@pytest.mark.parametrize(
    ("code", "text"),
    [("", "timed out"), ("", "connection reset"), ("", "HTTP 504"), ("", "HTTP 500"), ("40010001", "must be unique")],
)
def test_an_unknown_post_whose_order_lives_is_adopted_and_not_sent_again(code: str, text: str) -> None:
    """F8, F17: an error was answered although the order is live."""
    house, sent = submitted()
    step = one(OrderAdvanced, lost(house, sent, code, text))
    assert (step.to_state, step.text) == (OrderState.UNKNOWN, f"{code} {text}".strip())
    assert one(LookUpOrder, house.wait(0.25)).client_order_id == sent.client_order_id
    out = found(house, sent, "new")
    assert one(OrderAdvanced, out).to_state is OrderState.ACCEPTED
    assert of(SendOrder, out + house.wait(20)) == []


def test_an_unknown_post_whose_order_filled_is_adopted_and_its_fill_booked_once() -> None:
    house, sent = submitted()
    lost(house, sent, text="HTTP 504")
    house.tell(execution(sent, "x1", 4, 4))
    found(house, sent, "filled", 4)
    house.tell(account(house.at_ns, fills=(execution(sent, "x1", 4, 4),)))
    assert [fill.execution_id for fill in of(OrderFilled, house.all)] == ["x1"]
    assert one(OrderClosed, house.all).end == "filled"


def test_not_found_before_ten_seconds_waits_because_a_server_may_commit_late() -> None:
    house, sent = long_market()
    lost(house, sent)
    sends = []
    for _ in range(19):
        asked = house.wait(0.5)
        sends += of(SendOrder, asked)
        for _look in of(LookUpOrder, asked):
            sends += of(SendOrder, not_found(house, sent))
    assert sends == []
    assert one(OrderAdvanced, found(house, sent, "new")).to_state is OrderState.ACCEPTED


def test_not_found_for_ten_seconds_sends_the_same_id_once_and_no_later() -> None:
    """F8, F9: one resend, under the same id, after look-ups; never a blind one."""
    house, sent = long_market()
    lost(house, sent)
    for _ in range(NOT_FOUND_S * 4 - 1):
        for _look in of(LookUpOrder, house.wait(0.25)):
            not_found(house, sent)
    assert of(SendOrder, house.all) == [sent]
    assert len(of(LookUpOrder, house.wait(0.25))) == 1, "one look falls on the tenth second"
    assert one(SendOrder, not_found(house, sent)) == sent


def test_a_late_commit_turns_the_second_post_into_40010001_which_is_adopted() -> None:
    house, sent = long_market()
    lost(house, sent)
    house.wait(NOT_FOUND_S)
    assert one(SendOrder, not_found(house, sent)) == sent
    out = house.tell(SubmitReturned(sent.client_order_id, Outcome.UNKNOWN, None, "40010001", "must be unique"))
    assert one(OrderAdvanced, out).to_state is OrderState.UNKNOWN
    order = broker_order(sent, "filled", 4, order_type="market")
    house.tell(LookUpReturned(sent.client_order_id, Outcome.ACCEPTED, order, ""))
    assert end(house.tell(execution(sent, "x1", 4, 4))) == "filled"
    assert len(of(SendOrder, house.all)) == 2


def test_a_readable_refusal_of_the_first_post_is_the_end_and_of_the_second_a_doubt() -> None:
    house, sent = long_market()
    lost(house, sent)
    house.wait(NOT_FOUND_S)
    not_found(house, sent)
    out = house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "40310000", "held"))
    assert one(OrderAdvanced, out).to_state is OrderState.UNKNOWN
    house, sent = long_market()
    out = house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "40310000", "no"))
    assert end(out).startswith("rejected")


def test_a_429_is_sent_again_under_the_same_id_without_a_look_up() -> None:
    house, sent = long_market()
    house.tell(SubmitReturned(sent.client_order_id, Outcome.THROTTLED, None, "42910000", "rate limit exceeded"))
    out = house.wait(1)
    assert one(SendOrder, out) == sent
    assert of(LookUpOrder, out) == []


def test_a_mismatch_adopts_nothing_and_stays_in_doubt() -> None:
    house, sent = submitted()
    lost(house, sent)
    wrong = LookUpReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent, qty=Decimal(9)), "")
    house.tell(wrong)
    assert of(OrderAdvanced, house.all)[-1].to_state is OrderState.UNKNOWN
    assert of(OrderAdvanced, house.tell(wrong)) == []


def test_a_cancels_204_is_only_a_request_and_a_fill_after_it_counts() -> None:
    house, sent = submitted()
    accept(house, sent)
    house.wait(5)
    assert house.tell(CancelReturned(sent.client_order_id, Outcome.ACCEPTED, "", "")) == []
    out = house.tell(execution(sent, "x1", 4, 4))
    assert (one(OrderFilled, out).contracts, end(out)) == (4, "filled")


def test_a_422_on_a_cancel_reads_the_order_and_its_end_is_taken_over() -> None:
    house, sent = submitted()
    accept(house, sent)
    house.wait(5)
    text = 'order is already in "filled" state'
    out = house.tell(CancelReturned(sent.client_order_id, Outcome.REJECTED, "42210000", text))
    assert one(LookUpOrder, out).client_order_id == sent.client_order_id
    found(house, sent, "filled", 4)
    assert of(OrderClosed, house.all) == [], "its executions are still to come"
    assert end(house.tell(execution(sent, "x1", 4, 4))) == "filled"


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.THROTTLED])
def test_a_cancel_without_an_answer_is_asked_for_again_even_while_look_ups_fail(outcome: Outcome) -> None:
    house, sent = submitted()
    accept(house, sent)
    house.tell(CancelOrder(entry_order().order_id, "an exit"))
    cancels = 0
    for _ in range(60):
        asked = house.wait(0.5)
        for _cancel in of(SendCancel, asked):
            house.tell(CancelReturned(sent.client_order_id, outcome, "", "timed out"))
        for _look in of(LookUpOrder, asked):
            again = house.tell(LookUpReturned(sent.client_order_id, Outcome.UNKNOWN, None, "timed out"))
            cancels += len(of(SendCancel, again))
    assert cancels >= 3
    assert of(SendOrder, house.all) == [sent]


def test_an_order_in_doubt_that_the_account_shows_is_adopted() -> None:
    house, sent = submitted()
    lost(house, sent)
    out = house.tell(account(house.at_ns, open_orders=(broker_order(sent),)))
    assert one(OrderAdvanced, out).to_state is OrderState.ACCEPTED
    assert of(OrderAdvanced, house.tell(account(house.at_ns, open_orders=(broker_order(sent),)))) == []


def test_an_order_that_the_broker_held_and_no_longer_finds_is_given_up_and_never_sent_again() -> None:
    house, sent = long_market()
    accept(house, sent)
    house.wait(8)
    assert one(OrderAdvanced, not_found(house, sent)).to_state is OrderState.UNKNOWN
    house.wait(NOT_FOUND_S)
    out = not_found(house, sent)
    assert end(out) == "rejected: the broker no longer knows it"
    assert of(SendOrder, house.all) == [sent]


# -------------------------------------------------------------------------------------------------- over a restart


def test_an_exit_killed_at_its_send_is_sent_again_ten_seconds_after_the_process_began() -> None:
    house, sent = long_market()
    order = one(OrderAdvanced, house.all).order_id
    assert order == sent.client_order_id.rpartition("-")[0]
    commands = [m for m in house.all if type(m) is SendOrder]
    assert commands == [sent]
    again = restarted(house, orders=[long_market_order()])
    again.tell(FeedChanged(Feed.TRADING, 2, FeedState.CONNECTING, "start"))
    again.wait(4)  # the feeds take their time, in which a server commits as well as in any other
    looks = of(LookUpOrder, live(again))
    assert looks != []
    not_found(again, sent)
    sends = []
    for _ in range(23):
        for _look in of(LookUpOrder, again.wait(0.25)):
            sends += of(SendOrder, not_found(again, sent))
    assert sends == []
    assert of(LookUpOrder, again.wait(0.25)) != []
    assert one(SendOrder, not_found(again, sent)) == sent


def test_an_exit_that_the_broker_held_before_a_restart_is_never_sent_again_under_its_id() -> None:
    house, sent = long_market()
    accept(house, sent)
    restarted(house, orders=[long_market_order()])
    live(house)
    house.wait(NOT_FOUND_S)
    out = not_found(house, sent)
    assert of(SendOrder, out) == []
    assert end(out).startswith("rejected: ")


def test_an_entry_in_doubt_after_a_restart_is_adopted_if_found_and_lost_after_the_period_if_not() -> None:
    for is_there in (True, False):
        house, sent = submitted()
        restarted(house, orders=[entry_order()])
        live(house)
        house.wait(NOT_FOUND_S)
        out = found(house, sent, "new") if is_there else not_found(house, sent)
        assert of(SendOrder, out) == []
        if is_there:
            assert one(OrderAdvanced, out).to_state is OrderState.ACCEPTED
        else:
            assert end(out) == "rejected: never reached the broker"


def long_market_order() -> Any:
    """The command behind ``long_market``."""
    return entry_order(
        purpose=Purpose.STOP, side=Side.SELL, order_type=OrderType.MARKET, ladder=(LadderStep(None, 60.0),),
        worst_price_usd=None, window_end_ns=START_NS + 60 * NS, exit_plan=None,
    )  # fmt: skip


def test_a_canceled_event_that_was_missed_is_found_by_the_look_up() -> None:
    house, sent = submitted()
    accept(house, sent)
    house.wait(5)
    house.wait(2)
    out = found(house, sent, "canceled")
    assert one(SendOrder, out).client_order_id.endswith("-2")
    assert of(OrderAdvanced, told(house, sent, BrokerEvent.CANCELED)) == []

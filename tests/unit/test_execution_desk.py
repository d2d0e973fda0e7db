"""The desk: ladders, doubts, throttles, missing executions and late news."""

from decimal import Decimal
from typing import Any

import pytest

from oracle.core.marketdata import FeedChanged
from oracle.core.messages import (
    CancelOrder,
    ForeignExecution,
    LadderStep,
    LookUpOrder,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    ReadAccount,
    SendCancel,
    SendOrder,
)
from oracle.core.reports import BrokerOrder, CancelReturned, LookUpReturned, OrderReported, SubmitReturned
from oracle.core.sessions import NS
from oracle.core.vocabulary import BrokerEvent, Feed, FeedState, OrderState, OrderType, Outcome, Purpose, Side
from oracle.execution import works
from tests.unit.builders import FEE, START_NS, House, account, broker_order, entry_order, execution, of, one


def submitted(**changes: Any) -> tuple[House, SendOrder]:
    house = House(ready=False)
    house.tell(account())
    return house, one(SendOrder, house.tell(entry_order(**changes)))


def accept(house: House, sent: SendOrder, status: str = "new", filled: int = 0) -> list[Any]:
    order = broker_order(sent, status, filled)
    return house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, order, "", ""))


def told(house: House, sent: SendOrder, event: BrokerEvent, filled: int = 0, status: str = "") -> list[Any]:
    return house.tell(OrderReported(event, broker_order(sent, status or event.value, filled), house.at_ns))


def found(house: House, sent: SendOrder, status: str, filled: int = 0) -> list[Any]:
    return house.tell(LookUpReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent, status, filled), ""))


def not_found(house: House, sent: SendOrder) -> list[Any]:
    return house.tell(LookUpReturned(sent.client_order_id, Outcome.NOT_FOUND, None, ""))


def end(messages: list[Any]) -> str:
    return str(one(OrderClosed, messages).end)


def test_the_whole_ladder_is_walked_and_abandoned_at_the_windows_end() -> None:
    house, sent = submitted()
    for limit in ("2.01", "2.02"):
        accept(house, sent)
        assert one(SendCancel, house.wait(5)).broker_order_id == f"b-{sent.client_order_id}"
        assert house.tell(CancelReturned(sent.client_order_id, Outcome.ACCEPTED, "", "")) == []
        sent = one(SendOrder, told(house, sent, BrokerEvent.CANCELED))
        assert sent.limit_usd == Decimal(limit)
    accept(house, sent)
    assert len(of(SendCancel, house.wait(5))) == 1
    assert end(told(house, sent, BrokerEvent.CANCELED)) == "window"
    assert one(OrderClosed, house.all).filled == 0
    assert {type(message).__name__ for message in house.wait(100)} <= {"EquityMarked", "SetTimer"}


def test_a_fill_before_the_posts_reply_and_after_the_cancels_204_are_booked() -> None:
    house, sent = submitted()
    fill = one(OrderFilled, house.tell(execution(sent, "x1", 1, 1, "2.00")))
    assert (fill.fees_broker_usd, fill.fees_modelled_usd, fill.contracts) == (0, FEE, 1)
    accept(house, sent)
    house.wait(5)
    assert end(house.tell(execution(sent, "x2", 3, 4, "2.00"))) == "filled"
    assert of(OrderFilled, house.tell(execution(sent, "x2", 3, 4, "2.00"))) == []
    assert told(house, sent, BrokerEvent.FILL, 4, "filled") == []


def test_a_canceled_order_waits_for_executions_that_the_broker_counts() -> None:
    house, sent = submitted()
    accept(house, sent)
    house.wait(5)
    out = told(house, sent, BrokerEvent.CANCELED, filled=3)
    assert of(SendOrder, out) == []
    out = house.wait(1)
    assert one(ReadAccount, out).fills_since_ns < START_NS
    assert len(of(ReadAccount, house.wait(2))) >= 1
    out = house.tell(account(house.at_ns, fills=(execution(sent, "x1", 3, 3),)))
    assert one(SendOrder, out).contracts == 1


def test_a_failed_account_read_books_nothing() -> None:
    house, sent = submitted()
    assert of(OrderFilled, house.tell(account(fills=(execution(sent, "x1", 1, 1),), text="timed out"))) == []


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (BrokerEvent.REJECTED, "rejected:"),
        (BrokerEvent.EXPIRED, "expired"),
        (BrokerEvent.CANCELED, "canceled: by the broker"),
    ],
)
def test_ends_that_we_did_not_ask_for(event: BrokerEvent, words: str) -> None:
    house, sent = submitted()
    accept(house, sent)
    assert end(told(house, sent, event)).startswith(words)


def test_a_rejected_post_closes_with_its_words() -> None:
    house, sent = submitted()
    out = house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "40310000", "no money"))
    assert end(out) == "rejected: 40310000 no money"


def test_a_cancel_by_risk_gives_up_the_order_once() -> None:
    house, sent = submitted()
    command = CancelOrder(entry_order().order_id, "drain")
    assert of(SendCancel, house.tell(command)) == []  # the broker's id is not known yet
    assert one(SendCancel, accept(house, sent)).client_order_id == sent.client_order_id
    assert of(SendCancel, house.tell(command)) == []
    assert end(told(house, sent, BrokerEvent.CANCELED)) == "canceled: drain"
    assert house.tell(command) == []
    assert house.tell(CancelOrder("unknown", "drain")) == []


def test_a_cancel_that_stays_unconfirmed_is_looked_up_and_asked_for_again() -> None:
    house, sent = submitted()
    accept(house, sent)
    house.wait(5)
    assert of(LookUpOrder, house.tell(CancelReturned(sent.client_order_id, Outcome.REJECTED, "422", ""))) != []
    assert of(SendCancel, found(house, sent, "new")) == []  # too soon to ask again
    assert of(LookUpOrder, house.tell(CancelReturned(sent.client_order_id, Outcome.UNKNOWN, "", ""))) == []
    assert of(LookUpOrder, house.wait(2)) != []
    assert one(SendCancel, found(house, sent, "new")).client_order_id == sent.client_order_id
    out = found(house, sent, "canceled")
    assert one(SendOrder, out).client_order_id.endswith("-2")
    assert house.tell(CancelReturned(sent.client_order_id, Outcome.REJECTED, "422", "")) == []
    assert house.tell(CancelReturned("foreign", Outcome.REJECTED, "422", "")) == []


def test_a_timed_out_post_is_looked_up_adopted_and_goes_on() -> None:
    house, sent = submitted()
    out = house.tell(SubmitReturned(sent.client_order_id, Outcome.UNKNOWN, None, "", "timed out"))
    assert one(OrderAdvanced, out).to_state is OrderState.UNKNOWN
    seen = []
    for wait_s in (0.25, 0.5, 1.0, 2.0):
        seen += of(LookUpOrder, house.wait(wait_s))
        house.tell(LookUpReturned(sent.client_order_id, Outcome.UNKNOWN, None, ""))
    assert len(seen) == 4
    assert one(OrderAdvanced, found(house, sent, "new")).to_state is OrderState.ACCEPTED
    assert len(of(SendCancel, house.wait(2))) == 1


def long_market() -> tuple[House, SendOrder]:
    """A market exit whose one step stands 60 s: long enough for a doubt to be resolved."""
    ladder = (LadderStep(None, 60.0),)
    return submitted(
        purpose=Purpose.STOP, side=Side.SELL, order_type=OrderType.MARKET, ladder=ladder, worst_price_usd=None,
        window_end_ns=START_NS + 60 * NS, exit_plan=None,
    )  # fmt: skip


def test_an_order_that_never_arrived_is_sent_again_and_then_given_up() -> None:
    house, sent = long_market()
    house.tell(SubmitReturned(sent.client_order_id, Outcome.UNKNOWN, None, "", "timed out"))
    house.wait(10)
    out = not_found(house, sent)
    assert one(SendOrder, out) == sent
    out = house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "403", "held by the first"))
    assert one(OrderAdvanced, out).to_state is OrderState.UNKNOWN  # the first may be why: a look-up decides
    assert not_found(house, sent) == []
    house.wait(10)
    assert end(not_found(house, sent)) == "rejected: never reached the broker"
    out = told(house, sent, BrokerEvent.NEW)
    assert of(OrderAdvanced, out)[-1].to_state is OrderState.UNKNOWN
    out = found(house, sent, "new")
    assert one(SendCancel, out).client_order_id == sent.client_order_id  # an order that is over may not live
    assert of(OrderClosed, told(house, sent, BrokerEvent.CANCELED)) == []


def test_a_throttled_second_post_counts_as_not_sent() -> None:
    house, sent = long_market()
    house.tell(SubmitReturned(sent.client_order_id, Outcome.UNKNOWN, None, "", "timed out"))
    house.wait(10)
    not_found(house, sent)
    house.tell(SubmitReturned(sent.client_order_id, Outcome.THROTTLED, None, "429", ""))
    house.wait(10)
    assert one(SendOrder, not_found(house, sent)) == sent


def test_a_throttled_post_goes_out_again_under_the_same_id() -> None:
    house, sent = submitted()
    assert of(OrderAdvanced, house.tell(SubmitReturned(sent.client_order_id, Outcome.THROTTLED, None, "429", ""))) == []
    assert one(SendOrder, house.wait(1)) == sent
    house.tell(SubmitReturned(sent.client_order_id, Outcome.THROTTLED, None, "429", ""))
    assert one(SendOrder, house.wait(2)) == sent
    house.tell(SubmitReturned(sent.client_order_id, Outcome.THROTTLED, None, "429", ""))
    second = one(SendOrder, house.wait(2))  # the step is over: the next limit, a new id, the first never lived
    assert second.client_order_id.endswith("-2")
    house.tell(SubmitReturned(second.client_order_id, Outcome.THROTTLED, None, "429", ""))
    assert end(house.tell(CancelOrder(entry_order().order_id, "drain"))) == "canceled: drain"


def test_a_silent_post_and_a_silent_order_are_looked_up() -> None:
    house, sent = long_market()
    out = house.wait(8)
    assert one(OrderAdvanced, out).text == "no answer"
    assert of(LookUpOrder, out) != []
    found(house, sent, "new")
    assert of(LookUpOrder, house.wait(1)) != []
    assert of(LookUpOrder, house.wait(7)) == []
    assert of(LookUpOrder, house.wait(1)) != []


def test_late_answers_to_a_post_that_is_resolved_change_nothing() -> None:
    house, sent = submitted()
    told(house, sent, BrokerEvent.NEW)
    out = house.tell(SubmitReturned(sent.client_order_id, Outcome.UNKNOWN, None, "", "timed out"))
    assert of(OrderAdvanced, out) == []
    assert len(of(LookUpOrder, out)) == 1
    house.tell(execution(sent, "x1", 4, 4))
    assert house.tell(SubmitReturned(sent.client_order_id, Outcome.UNKNOWN, None, "", "timed out")) == []
    assert house.tell(SubmitReturned("foreign", Outcome.UNKNOWN, None, "", "")) == []
    assert house.tell(LookUpReturned("foreign", Outcome.NOT_FOUND, None, "")) == []


def test_an_acceptance_without_an_order_is_acceptance() -> None:
    house, sent = submitted()
    out = house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, None, "", ""))
    assert one(OrderAdvanced, out).to_state is OrderState.ACCEPTED
    assert of(SendCancel, house.wait(5)) == []
    assert of(LookUpOrder, house.wait(2)) != []
    assert len(of(SendCancel, found(house, sent, "new"))) == 1


def test_a_throttle_that_the_stream_overtakes_sends_nothing_again() -> None:
    house, sent = submitted()
    house.tell(SubmitReturned(sent.client_order_id, Outcome.THROTTLED, None, "429", ""))
    told(house, sent, BrokerEvent.NEW)
    assert of(SendOrder, house.wait(1)) == []


@pytest.mark.parametrize("status", ["suspended", "stopped", "calculated", "novel"])
def test_an_order_in_an_odd_state_is_cancelled_when_it_should_not_live(status: str) -> None:
    house, sent = submitted()
    accept(house, sent)
    out = told(house, sent, BrokerEvent.UNKNOWN_EVENT, status=status)
    assert [s.to_state for s in of(OrderAdvanced, out)] == ([OrderState.UNKNOWN] if status == "novel" else [])
    assert one(SendCancel, house.tell(CancelOrder(entry_order().order_id, "exit"))).client_order_id.endswith("-1")
    house.wait(2)
    out = found(house, sent, status)
    assert (len(of(SendCancel, out)), of(OrderAdvanced, out)) == (1, [])  # asked for again, and no new facts
    assert of(SendCancel, found(house, sent, status)) == []
    assert end(told(house, sent, BrokerEvent.CANCELED)) == "canceled: exit"


@pytest.mark.parametrize("cancelling", [False, True])
def test_a_replaced_order_is_over_and_nothing_more_of_it_is_sent(cancelling: bool) -> None:
    house, sent = submitted()
    accept(house, sent)
    house.wait(5 if cancelling else 0)
    out = told(house, sent, BrokerEvent.REPLACED)
    assert (end(out), of(SendOrder, out)) == ("canceled: replaced at the broker", [])


def test_more_than_was_ordered_is_not_booked_but_told_as_foreign() -> None:
    house, sent = submitted()
    accept(house, sent)
    house.tell(execution(sent, "stream", 4, 4))
    out = house.tell(execution(sent, "activity", 4, 4))
    assert (one(ForeignExecution, out).execution_id, of(OrderFilled, out)) == ("activity", [])
    assert house.ledger.position(sent.symbol) == 4
    assert of(ForeignExecution, house.tell(execution(sent, "activity", 4, 4))) == []


def test_an_execution_beyond_the_brokers_own_count_waits_for_the_count() -> None:
    house, sent = submitted()
    accept(house, sent)
    house.tell(execution(sent, "x1", 2, 2))
    out = house.tell(execution(sent, "x2", 2, 2))
    assert (of(OrderFilled, out), len(of(LookUpOrder, out))) == ([], 1)
    assert one(OrderFilled, house.tell(account(fills=(execution(sent, "x2", 2, 4),)))).execution_id == "x2"


def test_a_mismatch_is_a_fact_and_adopts_nothing() -> None:
    house, sent = submitted()
    wrong = LookUpReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent, qty=Decimal(9)), "")
    step = one(OrderAdvanced, house.tell(wrong))
    assert (step.to_state, step.text) == (OrderState.UNKNOWN, "mismatch: qty 9 instead of 4")


def test_an_unknown_status_is_kept_and_looked_into() -> None:
    house, sent = submitted()
    step = one(OrderAdvanced, accept(house, sent, "novel"))
    assert (step.to_state, step.text) == (OrderState.UNKNOWN, "status novel")
    assert of(LookUpOrder, house.wait(0.25)) != []


def test_foreign_executions_and_orders() -> None:
    house, sent = submitted()
    theirs = SendOrder("theirs", sent.symbol, Side.BUY, True, 1, None, False)
    assert one(ForeignExecution, house.tell(execution(theirs, "x8", 1, 1))).client_order_id == "theirs"
    assert of(ForeignExecution, house.tell(execution(theirs, "x8", 1, 1))) == []
    assert told(house, theirs, BrokerEvent.NEW) == []
    other = SendOrder(sent.client_order_id, "SPY", Side.BUY, True, 4, None, False)
    assert one(ForeignExecution, house.tell(execution(other, "x9", 1, 1))).symbol == "SPY"


def test_an_execution_that_names_only_the_brokers_id_is_ours() -> None:
    house, sent = submitted()
    accept(house, sent)
    made = execution(sent, "x1", 4, 4)
    bare = BrokerOrder("", made.order.broker_order_id, "", None, "", Decimal(0), Decimal(0), None, None, "", "", 0)
    report = account(fills=(type(made)("x1", bare, made.symbol, made.side, made.qty, made.price_usd, made.at_ns),))
    assert end(house.tell(report)) == "filled"


def test_a_late_fill_of_an_earlier_attempt_makes_the_next_one_smaller() -> None:
    house, first = submitted()
    accept(house, first)
    house.wait(5)
    second = one(SendOrder, told(house, first, BrokerEvent.CANCELED))
    accept(house, second)
    out = house.tell(execution(first, "x1", 1, 1))
    assert one(SendCancel, out).client_order_id == second.client_order_id
    third = one(SendOrder, told(house, second, BrokerEvent.CANCELED))
    assert third.contracts == 3


def test_when_the_trading_stream_is_back_open_orders_are_looked_up() -> None:
    house, sent = submitted()
    accept(house, sent)
    assert house.tell(FeedChanged(Feed.STOCK, 2, FeedState.LIVE, "")) == []
    out = house.tell(FeedChanged(Feed.TRADING, 2, FeedState.LIVE, ""))
    assert one(LookUpOrder, out).client_order_id == sent.client_order_id
    assert end(told(house, sent, BrokerEvent.EXPIRED)) == "expired"
    assert house.tell(FeedChanged(Feed.TRADING, 3, FeedState.LIVE, "")) == []


def test_closed_orders_are_forgotten_after_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "MAX_CLOSED", 1)
    house, sent = submitted()
    accept(house, sent)
    told(house, sent, BrokerEvent.EXPIRED)
    second = one(SendOrder, house.tell(entry_order("tok-20260105-bo-000002")))
    assert end(told(house, second, BrokerEvent.REJECTED)).startswith("rejected")
    assert list(house.desk._works.orders) == ["tok-20260105-bo-000002"]

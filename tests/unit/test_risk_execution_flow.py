"""Gate and desk together on a real engine: entry, ladder, fill, target, stop, and back to flat."""

from decimal import Decimal

from oracle.core.messages import (
    ExitTriggered,
    IntentApproved,
    OrderClosed,
    OrderFilled,
    Reconciled,
    SendCancel,
    SendOrder,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.reports import OrderReported, SubmitReturned
from oracle.core.vocabulary import BrokerEvent, Outcome, Purpose
from tests.unit.builders import CALL, House, account, broker_order, execution, intent, of, one


def filled_entry(house: House) -> SubmitOrder:
    """Enter and fill at once."""
    out = house.tell(intent())
    order, sent = one(SubmitOrder, out), one(SendOrder, out)
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent), "", ""))
    house.tell(execution(sent, f"x-{sent.client_order_id}", sent.contracts, sent.contracts, "9.98"))
    assert isinstance(order, SubmitOrder)
    return order


def test_an_intent_becomes_one_order_at_the_size_that_risk_allows() -> None:
    house = House()
    out = house.tell(intent())
    approved, order, sent = one(IntentApproved, out), one(SubmitOrder, out), one(SendOrder, out)
    assert (approved.contracts, approved.bound_by) == (4, "trade_loss")
    assert [str(step.limit_usd) for step in order.ladder] == ["9.97", "9.98", "9.99", "10.00"]
    assert (order.worst_price_usd, order.planned_risk_usd, order.worst_case_usd) == (10, 2000, 4000)
    assert sent.client_order_id == "tok-20260105-bo-000001-1"
    assert (sent.limit_usd, sent.contracts, sent.opening) == (Decimal("9.97"), 4, True)


def test_a_trade_is_opened_watched_and_closed_by_its_stop() -> None:
    house = House()
    filled_entry(house)
    assert one(TradeOpened, house.all).symbol == CALL
    assert house.quote(CALL, 9.0, 9.2) == []
    out = house.quote(CALL, 4.9, 5.0)
    assert (one(ExitTriggered, out).rule, one(ExitTriggered, out).purpose) == ("stop", Purpose.STOP)
    sent = one(SendOrder, out)
    assert (sent.limit_usd, sent.contracts, sent.reducing) == (None, 4, True)
    out = house.tell(execution(sent, "x2", 4, 4, "4.90"))
    closed = one(TradeClosed, out)
    assert closed.gross_pnl_usd == Decimal("-2032.00")
    assert closed.fees_modelled_usd == Decimal("5.20")
    assert closed.exit_rule == "stop"
    assert [c.end for c in of(OrderClosed, house.all)] == ["filled", "filled"]


def test_a_target_exit_gives_way_to_a_stop_and_only_one_exit_lives_at_a_time() -> None:
    house = House()
    filled_entry(house)
    out = house.quote(CALL, 15.0, 15.1)
    target = one(SendOrder, out)
    assert target.limit_usd == Decimal("15.05")
    house.tell(SubmitReturned(target.client_order_id, Outcome.ACCEPTED, broker_order(target), "", ""))
    out = house.quote(CALL, 9.0, 9.1)  # back under the entry price: break-even was armed on the way up
    assert one(ExitTriggered, out).rule == "breakeven"
    assert of(SendOrder, out) == []
    assert one(SendCancel, out).client_order_id == target.client_order_id
    out = house.tell(OrderReported(BrokerEvent.CANCELED, broker_order(target, "canceled", 0), house.at_ns))
    assert one(OrderClosed, out).end == "canceled: exit by breakeven"
    assert one(SendOrder, out).limit_usd is None


def test_the_ladder_walks_by_cancel_confirm_resubmit_and_a_partial_fill_shrinks_the_rest() -> None:
    house = House()
    out = house.tell(intent())
    first = one(SendOrder, out)
    house.tell(SubmitReturned(first.client_order_id, Outcome.ACCEPTED, broker_order(first), "", ""))
    house.tell(execution(first, "x1", 1, 1, "9.97"))
    out = house.wait(5)
    assert one(SendCancel, out).client_order_id == first.client_order_id
    assert of(SendOrder, out) == []
    out = house.tell(OrderReported(BrokerEvent.CANCELED, broker_order(first, "canceled", 1), house.at_ns))
    second = one(SendOrder, out)
    assert (second.client_order_id[-2:], second.contracts, second.limit_usd) == ("-2", 3, Decimal("9.98"))
    house.tell(execution(second, "x2", 3, 3, "9.98"))
    assert sum(f.contracts for f in of(OrderFilled, house.all)) == 4
    assert one(OrderClosed, house.all).filled == 4


def test_books_agree_with_the_broker_after_a_fill_that_only_the_account_told() -> None:
    house = House()
    out = house.tell(intent())
    sent = one(SendOrder, out)
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent), "", ""))
    missed = execution(sent, "x1", 4, 4, "9.97", house.at_ns)
    report = account(house.at_ns, "96012.00", fills=(missed,), positions=(house.position(CALL, 4),))
    out = house.tell(report, after_s=1)
    assert one(OrderFilled, out).execution_id == "x1"
    assert one(Reconciled, out).differences == ()
    assert house.ledger.position(CALL) == 4
    assert one(OrderClosed, out).end == "filled"
    assert of(OrderFilled, house.tell(missed)) == []

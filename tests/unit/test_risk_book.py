"""Risk's memory of its own commands: what holds an exit back, and what rates and premium are after a restart."""

from decimal import Decimal

from oracle.core.messages import (
    ExitTriggered,
    IntentRefused,
    OrderAdvanced,
    OrderClosed,
    SendCancel,
    SendOrder,
    SubmitOrder,
    TradeOpened,
)
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import BrokerEvent, OrderState, Purpose
from oracle.risk.book import HOLD_BACK_NS, OrderBook, Working
from oracle.risk.limits import RiskLimits
from oracle.risk.stored import Stored
from tests.unit.builders import CALL, OPEN_NS, START_NS, House, entry_order, execution, gate_settings, intent, of, one
from tests.unit.test_execution_desk import told
from tests.unit.test_risk_gate_restart import restarted


def stuck_entry() -> tuple[House, SendOrder]:
    """An entry of which one contract filled; its broker answers no cancel from here on."""
    house = House()
    entry = one(SendOrder, house.tell(intent()))
    house.tell(execution(entry, "x1", 1, 1, "10.00", house.at_ns))
    return house, entry


def test_an_entry_that_is_never_confirmed_cancelled_holds_an_exit_back_for_a_limited_time_only() -> None:
    house, entry = stuck_entry()
    out = house.quote(CALL, 4.0, 4.1)
    assert one(SendCancel, out).client_order_id == entry.client_order_id
    assert of(SubmitOrder, out) == []
    assert of(SubmitOrder, house.wait(HOLD_BACK_NS / NS - 0.5)) == []
    stop = one(SubmitOrder, house.wait(0.5))
    assert (stop.purpose, stop.contracts) == (Purpose.STOP, 1)
    house.tell(execution(one(SendOrder, house.all[-8:]), "x2", 1, 1, "4.00", house.at_ns))
    assert house.ledger.position(CALL) == 0
    # Whatever of the entry still fills is closed as well.
    house.tell(execution(entry, "x3", 3, 4, "10.00", house.at_ns))
    again = of(SubmitOrder, [*house.wait(5), *house.quote(CALL, 4.0, 4.1)])
    assert [(order.purpose, order.contracts) for order in again] == [(Purpose.STOP, 3)]


def test_a_confirmed_cancel_lets_the_exit_go_at_once() -> None:
    house, entry = stuck_entry()
    house.quote(CALL, 4.0, 4.1)
    out = told(house, entry, BrokerEvent.CANCELED, 1)
    assert one(SubmitOrder, out).purpose is Purpose.STOP


def test_the_order_rate_counts_orders_and_further_attempts_of_before_a_restart() -> None:
    house = House(gate_settings(limits=RiskLimits(max_orders_per_min=3)))
    steps = [
        OrderAdvanced(entry_order().order_id, f"{entry_order().order_id}-{n}", n, 0, OrderState.INTENT, OrderState.SENT,
                      0, "") for n in (1, 2)
    ]  # fmt: skip
    end = OrderClosed(entry_order().order_id, entry_order().trade_id, Purpose.ENTRY, 0, 4, "window")
    house.gate.restore(
        Stored(
            orders=[entry_order(), entry_order("tok-20260105-bo-000002")], advanced=steps, ended=[end],
            submitted_ns=[START_NS - 50 * NS, START_NS - 30 * NS], advanced_ns=[START_NS - 50 * NS, START_NS - 40 * NS],
        )
    )  # fmt: skip
    refused = one(IntentRefused, house.tell(intent()))
    assert "order_rate" in {refusal.rule for refusal in refused.refusals}
    assert house.gate._book.orders_last_min(START_NS) == 3
    assert house.gate._book.orders_last_min(START_NS + 25 * NS) == 1


def test_premium_of_before_a_restart_counts_until_a_report_can_hold_it() -> None:
    book = OrderBook()
    order = entry_order()  # 4 contracts at 2.02 USD at worst
    book.recall([(order, START_NS)], (), ())
    assert book.unreported_usd(START_NS + 4 * NS) == Decimal("808")
    book.recall([(order, START_NS)], (), [OrderClosed(order.order_id, order.trade_id, Purpose.ENTRY, 1, 4, "window")])
    assert book.unreported_usd(START_NS + 4 * NS) == Decimal("202")
    assert book.unreported_usd(START_NS + 6 * NS) == 0


def test_an_order_without_a_time_is_not_counted() -> None:
    house = House()
    house.gate.restore(Stored(orders=[entry_order()]))
    assert house.gate._book.orders_last_min(START_NS) == 0


def test_a_target_that_was_told_and_still_works_is_not_told_again_after_a_restart() -> None:
    before = House()
    entry = one(SendOrder, before.tell(intent()))
    before.tell(execution(entry, "x1", 4, 4, "10.00", before.at_ns))
    before.wait(5)
    assert one(ExitTriggered, before.quote(CALL, 15.5, 15.6)).purpose is Purpose.TARGET
    house = restarted(before)
    assert of(ExitTriggered, house.quote(CALL, 15.5, 15.6)) == []
    # A stop is stronger, and is told.
    assert one(ExitTriggered, house.quote(CALL, 4.0, 4.1)).purpose is Purpose.STOP


def test_holding_back_begins_when_an_exit_first_waits() -> None:
    book, record = OrderBook(), Working(entry_order())
    assert book.holds_back(record, START_NS + MINUTE_NS)
    assert book.holds_back(record, START_NS + MINUTE_NS + HOLD_BACK_NS - 1)
    assert not book.holds_back(record, START_NS + MINUTE_NS + HOLD_BACK_NS)


def test_a_restart_within_a_session_does_not_forget_in_which_underlying_it_has_traded() -> None:
    book = OrderBook()
    order = entry_order()
    opened = TradeOpened(order.trade_id, "breakout", "hash", "SPY", order.symbol, START_NS)
    end = OrderClosed(order.order_id, order.trade_id, Purpose.ENTRY, 4, 4, "filled")
    book.rebuild(Stored(orders=[order], ended=[end], opened=[opened]))
    # The trade is closed by now, and a start within the session opens it once more.
    book.prune("2026-01-05", OPEN_NS, ())
    assert book.round_trips("breakout", OPEN_NS, "SPY") == 1
    assert book.round_trips("breakout", OPEN_NS, "QQQ") == 0
    book.prune("2026-01-06", START_NS + 1, ())
    assert (book.entries, book.opened) == ({}, [])

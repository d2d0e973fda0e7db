"""Differences between books and broker, each by name; agreement otherwise; never an order."""

from decimal import Decimal
from typing import Any

import pytest

from oracle.core.ledger import Ledger
from oracle.core.messages import Effect, Reconciled, SendOrder, SessionOpened
from oracle.core.reports import OrderReported, SubmitReturned
from oracle.core.sessions import NS
from oracle.core.vocabulary import BrokerEvent, Outcome, Side
from oracle.execution.reconcile import KEEP_NS, OurOrders, Reconciler, reconcile
from tests.unit.builders import (
    CALL,
    DATES,
    OPEN_NS,
    PUT,
    START_NS,
    House,
    account,
    broker_order,
    entry_order,
    execution,
    of,
    one,
)

THEIRS = SendOrder("theirs", PUT, Side.BUY, True, 1, Decimal(1), False)


def holding() -> tuple[House, SendOrder]:
    """Four calls held, bought at 2.00 from 100,000 USD, everything long settled."""
    house = House(ready=False)
    house.tell(account())
    sent = one(SendOrder, house.tell(entry_order()))
    house.tell(execution(sent, "x1", 4, 4, at_ns=house.at_ns))
    return house, sent


def agreed(house: House, sent: SendOrder, **changes: Any) -> Any:
    fills = (execution(sent, "x1", 4, 4),)
    base = {"fills": fills, "positions": (house.position(CALL, 4),)}
    house.at_ns += 10 * NS
    return account(house.at_ns, "99200.00", **{**base, **changes})


def differences(house: House, report: Any) -> tuple[str, ...]:
    house.wait(0)
    out = house.tell(report)
    assert not any(isinstance(message, Effect) for message in out)
    found = one(Reconciled, out).differences
    assert isinstance(found, tuple)
    return found


def test_the_report_that_seeds_the_ledger_agrees_with_it() -> None:
    house = House(ready=False)
    assert one(Reconciled, house.tell(account())).differences == ()
    assert house.engine.context().account.reconciled


def test_agreement() -> None:
    house, sent = holding()
    assert differences(house, agreed(house, sent)) == ()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"text": "timed out"}, "report_failed: timed out"),
        ({"cash_usd": None}, "report_failed: cash is unknown"),
        ({"positions": ()}, f"position: {CALL}: 0 at the broker, 4 by the ledger"),
        ({"cash_usd": Decimal("99199.98")}, "cash: 99199.98 USD at the broker, 99200.00 USD by the ledger"),
        ({"open_orders": (broker_order(THEIRS),)}, f"order_foreign: theirs: {PUT} 1, new"),
        ({"fills": ()}, "fill_not_reported: x1 is not in the broker's activities"),
    ],
)
def test_each_difference_has_a_name(changes: dict[str, Any], line: str) -> None:
    house, sent = holding()
    assert differences(house, agreed(house, sent, **changes)) == (line,)


def test_only_less_than_a_cent_is_forgiven_and_a_foreign_fill_is_named_until_it_is_known() -> None:
    house, sent = holding()
    assert differences(house, agreed(house, sent, cash_usd=Decimal("99199.995"))) == ()
    assert len(differences(house, agreed(house, sent, cash_usd=Decimal("99199.99")))) == 1
    fills = (execution(sent, "x1", 4, 4), execution(THEIRS, "x9", 1, 1, "1.00"))
    positions = (house.position(CALL, 4), house.position(PUT, 1))
    first = differences(house, agreed(house, sent, fills=fills, positions=positions, cash_usd=Decimal(99100)))
    assert first == (
        f"fill_foreign: x9: buy 1 {PUT} at 1.00 USD",
        f"position: {PUT}: 1 at the broker, 0 by the ledger",
        "cash: 99100 USD at the broker, 99200.00 USD by the ledger",
    )
    again = differences(house, agreed(house, sent, fills=fills, positions=positions, cash_usd=Decimal(99100)))
    assert again == first[1:]


def test_a_fill_that_was_not_booked_counts_only_when_positions_show_it() -> None:
    house, sent = holding()
    fills = (execution(sent, "x1", 4, 4), execution(sent, "again", 4, 4))
    assert differences(house, agreed(house, sent, fills=fills)) != ()
    assert differences(house, agreed(house, sent, fills=fills)) == ()
    twice = (house.position(CALL, 8),)
    line = f"position: {CALL}: 8 at the broker, 4 by the ledger"
    assert differences(house, agreed(house, sent, fills=fills, positions=twice)) == (line,)


def test_our_orders_are_missed_and_ended_ones_noticed_but_only_after_a_moment() -> None:
    house, sent = holding()
    order = entry_order("tok-20260105-bo-000002")
    second = one(SendOrder, house.tell(order))
    assert differences(house, agreed(house, sent)) == ()  # in doubt: neither foreign nor missing
    house.tell(SubmitReturned(second.client_order_id, Outcome.ACCEPTED, broker_order(second), "", ""))
    now = account(house.at_ns, "1.00", fills=(execution(sent, "x1", 4, 4),), positions=(house.position(CALL, 4),))
    assert differences(house, now) == ()  # just acknowledged, and cash is not compared while an order works
    assert differences(house, agreed(house, sent, open_orders=(broker_order(second),))) == ()
    missing = f"order_missing: {second.client_order_id} is not open at the broker"
    assert differences(house, agreed(house, sent)) == (missing,)
    house.tell(OrderReported(BrokerEvent.EXPIRED, broker_order(second, "expired"), house.at_ns))
    still = (broker_order(second),)
    young = account(
        house.at_ns,
        "99200",
        fills=(execution(sent, "x1", 4, 4),),
        positions=(house.position(CALL, 4),),
        open_orders=still,
    )
    assert differences(house, young) == ()
    line = f"order_not_ended: {second.client_order_id}: {CALL} 4, new"
    assert differences(house, agreed(house, sent, open_orders=still)) == (line,)


def test_a_report_older_than_our_last_fill_says_nothing() -> None:
    house, _ = holding()
    assert of(Reconciled, house.tell(account(house.at_ns))) == []


def test_what_was_restored_is_known_and_old_rows_are_dropped() -> None:
    house, sent = holding()
    again = Reconciler()
    steps = [m for m in house.all if type(m).__name__ == "OrderAdvanced"]
    fills = [m for m in house.all if type(m).__name__ == "OrderFilled"]
    again.restore(steps[:1], fills, [])
    out = list(again.on_account_reported(agreed(house, sent), house.engine.context()))
    assert one(Reconciled, out).differences == ()
    house.at_ns = OPEN_NS + KEEP_NS + NS * 3600
    assert list(again.on_session_opened(SessionOpened(DATES[0], 0, 1), house.engine.context())) == []
    assert again._booked == {"x1": START_NS}


def test_a_ledger_without_its_opening_cash_agrees_with_nothing() -> None:
    ours = OurOrders({}, {}, {}, {}, frozenset())
    (found,) = reconcile(Ledger(), ours, account())
    assert str(found) == "not_seeded: the opening cash is not known"

"""The order of a start: load, reconcile orders, positions, cash and activities, re-warm, and only then allow entries.

The same comparison follows every 30 s, after each reconnect and at the close; these tests name each.
"""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.marketdata import FeedChanged
from oracle.core.messages import (
    FeeCharged,
    IntentApproved,
    IntentRefused,
    LookUpOrder,
    OrderAdvanced,
    OrderFilled,
    ReadAccount,
    Reconciled,
    SendOrder,
    SessionClosed,
)
from oracle.core.reports import BrokerFee, BrokerPosition
from oracle.core.sessions import NS
from oracle.core.vocabulary import Feed, FeedState, OrderState
from oracle.execution.account import EVERY_S, RETRY_S, AccountReader
from tests.unit.builders import CALL, START_NS, TABLE, House, account, execution, intent, of, one
from tests.unit.test_execution_restart import restarted


def starting() -> House:
    """A house with the account reader in it, before anything has been heard."""
    house = House(ready=False)
    house.engine.bus.subscribe(AccountReader().handlers())
    return house


def feed(house: House, which: Feed, state: FeedState, epoch: int = 1) -> list[Any]:
    return house.tell(FeedChanged(which, epoch, state, ""))


def rules(messages: list[Any]) -> set[str]:
    return {refusal.rule for refused in of(IntentRefused, messages) for refusal in refused.refusals}


def test_entries_wait_for_every_feed_and_for_a_comparison_without_differences() -> None:
    house = starting()
    n = 0

    def try_entry() -> list[Any]:
        nonlocal n
        n += 1
        return house.tell(intent(n))

    assert "feeds" in rules(try_entry())
    for which in (Feed.STOCK, Feed.OPTION):
        feed(house, which, FeedState.LIVE)
        assert "feeds" in rules(try_entry())
    feed(house, Feed.TRADING, FeedState.LIVE)
    house.spot(600.0)
    house.quote(CALL, 9.95, 10.00)
    assert "reconciled" in rules(try_entry()), "nothing has been compared"
    (again,) = of(ReadAccount, house.tell(account(house.at_ns, cash=None, text="timed out")) + house.wait(RETRY_S))
    assert again.reason == "periodic"
    house.spot(600.0)
    house.quote(CALL, 9.95, 10.00)
    assert "reconciled" in rules(try_entry()), "a failed read is no agreement"
    assert one(Reconciled, house.tell(account(house.at_ns))).differences == ()
    assert of(IntentApproved, try_entry()) != []


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("position", {"positions": (BrokerPosition("SPY260105C00600000", Decimal(1), Decimal(1)),)}),
        ("cash", {"cash_usd": Decimal("99999.99")}),
    ],
)
def test_a_start_that_finds_a_difference_allows_no_entry(case: str, changes: dict[str, Any]) -> None:
    house = House()
    feed(house, Feed.TRADING, FeedState.DOWN)
    feed(house, Feed.TRADING, FeedState.LIVE, 2)
    report = msgspec.structs.replace(account(house.at_ns), **changes)
    (difference,) = one(Reconciled, house.tell(report)).differences
    assert difference.startswith(case)
    assert "reconciled" in rules(house.tell(intent()))


def test_fills_that_the_activities_tell_are_booked_before_the_comparison() -> None:
    house, sent = with_entry()
    restarted(house)
    feed(house, Feed.TRADING, FeedState.CONNECTING, 2)
    looks = of(LookUpOrder, feed(house, Feed.TRADING, FeedState.LIVE, 2))
    assert looks != []
    missed = execution(sent, "x1", sent.contracts, sent.contracts, "10.00", house.at_ns - 6 * NS)
    held = BrokerPosition(CALL, Decimal(sent.contracts), Decimal(10))
    cash = str(100_000 - 1000 * sent.contracts)
    out = house.tell(account(house.at_ns, cash, fills=(missed,), positions=(held,), fills_since_ns=0))
    assert one(OrderFilled, out).execution_id == "x1"
    assert one(Reconciled, out).differences == ()


def with_entry() -> tuple[House, SendOrder]:
    house = House()
    return house, one(SendOrder, house.tell(intent()))


def test_an_order_in_doubt_blocks_entries_until_it_is_known() -> None:
    house, _sent = with_entry()
    restarted(house)
    feed(house, Feed.TRADING, FeedState.LIVE, 2)
    house.tell(account(house.at_ns))
    assert of(OrderAdvanced, house.all)[-1].to_state is OrderState.UNKNOWN
    assert "order_unknown" in rules(house.tell(intent(2)))


def test_fees_of_hours_ago_are_booked_once_and_before_the_comparison() -> None:
    house = House()
    fee = BrokerFee("20260102000000000::f", CALL, Decimal("0.04"), "fee")
    out = house.tell(account(house.at_ns, "99999.96", fees=(fee,)))
    assert (one(FeeCharged, out).amount_usd, one(Reconciled, out).differences) == (Decimal("0.04"), ())
    again = house.tell(account(house.at_ns, "99999.96", fees=(fee,)))
    assert (of(FeeCharged, again), one(Reconciled, again).differences) == ([], ())


def test_the_comparison_comes_every_half_minute() -> None:
    house = starting()
    feed(house, Feed.TRADING, FeedState.LIVE)
    for _ in range(2):  # the session's opening asked, then the stream
        house.tell(account(house.at_ns, fills_since_ns=0))
    for _ in range(3):
        assert of(ReadAccount, house.wait(EVERY_S - 1)) == []
        assert len(of(ReadAccount, house.wait(1))) == 1
        assert one(Reconciled, house.tell(account(house.at_ns, fills_since_ns=0))).differences == ()


def test_the_comparison_comes_after_every_reconnect_and_entries_wait_for_it() -> None:
    house = House()
    house.engine.bus.subscribe(AccountReader().handlers())
    assert of(IntentApproved, house.tell(intent(1))) != []
    feed(house, Feed.TRADING, FeedState.DOWN)
    reads = of(ReadAccount, feed(house, Feed.TRADING, FeedState.LIVE, 2))
    assert [read.reason for read in reads] == ["trading stream is live"]
    assert "reconciled" in rules(house.tell(intent(2)))


def test_the_comparison_comes_at_the_close() -> None:
    house = starting()
    feed(house, Feed.TRADING, FeedState.LIVE)
    house.tell(account(house.at_ns, fills_since_ns=0))
    close_ns = TABLE.sessions[0].close_ns
    house.wait((close_ns - START_NS) / NS - 5)
    house.tell(account(house.at_ns, fills_since_ns=0))
    out = house.wait(5)
    assert one(SessionClosed, out).close_ns == close_ns
    assert "session closed" in [read.reason for read in of(ReadAccount, out)]

"""The desk against a broker that answers late, twice, in any order or not at all.

Whatever the order of events: an execution is booked once, two attempts of an order are never alive together, no more
than was ordered is filled, the books end as the broker's, and every order closes exactly once.
"""

from decimal import Decimal
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.core.marketdata import FeedChanged
from oracle.core.messages import (
    CancelOrder,
    LookUpOrder,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    ReadAccount,
    SendCancel,
    SendOrder,
    SubmitOrder,
)
from oracle.core.reports import (
    AccountReported,
    BrokerPosition,
    CancelReturned,
    ExecutionReported,
    LookUpReturned,
    OrderReported,
    SubmitReturned,
)
from oracle.core.vocabulary import BrokerEvent, Feed, FeedState, OrderState, Outcome, Purpose, Side
from oracle.execution.orders import LIFE, OURS, OrderEvent, advance
from tests.unit.builders import (
    CALL,
    OTHER_CALL,
    START_NS,
    House,
    account,
    broker_order,
    entry_order,
    execution,
    intent,
    of,
)
from tests.unit.test_execution_restart import restarted

CONTRACTS = 6


class Broker:
    """An honest book with a dishonest wire: what is accepted and filled is true, what is told is up to chance."""

    def __init__(self, house: House, random: Random) -> None:
        self.house = house
        self.random = random
        self.orders: dict[str, SendOrder] = {}
        self.status: dict[str, str] = {}
        self.fills: dict[str, list[ExecutionReported]] = {}
        self.wire: list[Any] = []
        self.honest = False

    def live(self) -> list[str]:
        return [i for i, status in self.status.items() if status in ("new", "partially_filled")]

    def filled(self, client_id: str) -> int:
        return sum(int(fill.qty) for fill in self.fills[client_id])

    def picture(self, client_id: str) -> Any:
        return broker_order(self.orders[client_id], self.status[client_id], self.filled(client_id))

    def report(self, client_id: str, event: BrokerEvent) -> None:
        self.wire.append(OrderReported(event, self.picture(client_id), self.house.at_ns))

    def fill(self, client_id: str, contracts: int) -> None:
        before = self.filled(client_id)
        after = min(before + contracts, self.orders[client_id].contracts)
        name = f"x-{client_id}-{len(self.fills[client_id])}"
        made = execution(self.orders[client_id], name, after - before, after, "2.00", self.house.at_ns)
        self.fills[client_id].append(made)
        whole = after == self.orders[client_id].contracts
        self.status[client_id] = "filled" if whole else "partially_filled"
        self.wire.append(made)
        self.report(client_id, BrokerEvent.FILL if whole else BrokerEvent.PARTIAL_FILL)

    def hear(self, messages: list[Any]) -> None:
        """Do what the effects ask for, and put the answers on the wire."""
        for effect in messages:
            match effect:
                case SendOrder():
                    self.submit(effect)
                case SendCancel():
                    self.cancel(effect)
                case LookUpOrder(client_order_id=client_id):
                    known = client_id in self.orders
                    order = self.picture(client_id) if known else None
                    outcome = Outcome.ACCEPTED if known else Outcome.NOT_FOUND
                    if not self.honest and self.random.random() < 0.2:
                        outcome, order = Outcome.UNKNOWN, None
                    self.wire.append(LookUpReturned(client_id, outcome, order, ""))
                case ReadAccount():
                    fills = tuple(fill for row in self.fills.values() for fill in row)
                    failed = not self.honest and self.random.random() < 0.3
                    report = account(self.house.at_ns, fills=() if failed else fills, text="failed" if failed else "")
                    self.wire.append(report)
                case _:
                    pass

    def submit(self, sent: SendOrder) -> None:
        client_id = sent.client_order_id
        if client_id in self.orders:
            assert self.orders[client_id] == sent
            self.wire.append(SubmitReturned(client_id, Outcome.UNKNOWN, None, "40010001", "must be unique"))
            return
        faults = ("accept", "accept", "accept", "lose_reply", "time_out", "never_arrived", "throttle", "reject")
        fault = "accept" if self.honest else self.random.choice(faults)
        if fault in ("throttle", "reject", "never_arrived"):
            outcomes = {"throttle": Outcome.THROTTLED, "reject": Outcome.REJECTED, "never_arrived": Outcome.UNKNOWN}
            self.wire.append(SubmitReturned(client_id, outcomes[fault], None, "", fault))
            return
        assert self.live() == [], "two attempts are alive"
        self.orders[client_id], self.status[client_id], self.fills[client_id] = sent, "new", []
        if fault != "lose_reply":
            outcome = Outcome.UNKNOWN if fault == "time_out" else Outcome.ACCEPTED
            order = self.picture(client_id) if fault == "accept" else None
            self.wire.append(SubmitReturned(client_id, outcome, order, "", fault))
        self.report(client_id, BrokerEvent.NEW)

    def cancel(self, asked: SendCancel) -> None:
        client_id = asked.client_order_id
        if self.status[client_id] not in ("new", "partially_filled"):
            self.wire.append(CancelReturned(client_id, Outcome.REJECTED, "42210000", "already over"))
            return
        if not self.honest and self.random.random() < 0.3:
            self.wire.append(CancelReturned(client_id, Outcome.UNKNOWN, "", "timed out"))
            return
        self.status[client_id] = "canceled"
        self.wire.append(CancelReturned(client_id, Outcome.ACCEPTED, "", ""))
        self.report(client_id, BrokerEvent.CANCELED)


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(5, 60))
def test_desk_survives_any_order_of_events(random: Random, steps: int) -> None:
    house = House(ready=False)
    house.tell(account())
    broker = Broker(house, random)
    broker.hear(house.tell(entry_order(contracts=CONTRACTS)))
    for _ in range(steps):
        action = random.choice(("deliver", "deliver", "deliver", "repeat", "drop", "fill", "wait", "cancel"))
        if action in ("deliver", "repeat", "drop") and broker.wire:
            at = random.randrange(len(broker.wire))
            message = broker.wire[at]
            if action != "repeat":
                del broker.wire[at]
            if action != "drop":
                broker.hear(house.tell(message))
        elif action == "fill" and broker.live():
            broker.fill(broker.live()[0], random.randint(1, 4))
        elif action == "wait":
            broker.hear(house.wait(random.choice((0.1, 0.5, 1.0, 3.0, 6.0))))
        elif action == "cancel" and random.random() < 0.1:
            broker.hear(house.tell(CancelOrder(entry_order().order_id, "a test")))
    broker.honest = True
    for _ in range(200):
        while broker.wire:
            broker.hear(house.tell(broker.wire.pop(0)))
        broker.hear(house.wait(1))
    closed = of(OrderClosed, house.all)
    assert len(closed) == 1
    booked = of(OrderFilled, house.all)
    assert len({fill.execution_id for fill in booked}) == len(booked)
    true_fills = {fill.execution_id for row in broker.fills.values() for fill in row}
    assert {fill.execution_id for fill in booked} == true_fills
    total = sum(fill.contracts for fill in booked)
    assert total <= CONTRACTS
    assert closed[0].filled == total
    assert broker.live() == []
    attempts = [step for step in of(OrderAdvanced, house.all) if step.from_state is OrderState.INTENT]
    assert [step.attempt for step in attempts] == list(range(1, len(attempts) + 1))


@given(st.sampled_from(OrderState), st.sampled_from(OrderEvent))
def test_no_remote_event_raises_and_every_row_leads_to_a_state(state: OrderState, event: OrderEvent) -> None:
    if event in OURS and (state, event) not in LIFE:
        return
    assert advance(state, event) in OrderState


SYMBOLS = (CALL, OTHER_CALL, "SPY")


@st.composite
def reports(draw: st.DrawFn, ours: tuple[SendOrder, ...]) -> AccountReported:
    """Any picture of the account: stale, foreign, incomplete, contradictory, or none at all."""
    if draw(st.booleans()) and draw(st.booleans()):
        return account(START_NS, None, text="timed out")
    numbers = st.integers(-8, 8).filter(bool)
    positions = tuple(
        BrokerPosition(symbol, Decimal(draw(numbers)), Decimal(10))
        for symbol in draw(st.lists(st.sampled_from(SYMBOLS), unique=True, max_size=2))
    )
    theirs = SendOrder("foreign-1", CALL, Side.SELL, False, 2, Decimal(9), True)
    known = st.sampled_from((*ours, theirs))
    statuses = st.sampled_from(("new", "partially_filled", "filled", "canceled", "novel"))
    orders = tuple(
        broker_order(draw(known), draw(statuses), draw(st.integers(0, 4))) for _ in range(draw(st.integers(0, 3)))
    )
    fills = tuple(
        execution(draw(known), f"x{draw(st.integers(1, 4))}", draw(st.integers(1, 4)), draw(st.integers(1, 4)), "10.00")
        for _ in range(draw(st.integers(0, 3)))
    )
    cash = str(draw(st.integers(90_000, 110_000)))
    return account(START_NS, cash, positions=positions, open_orders=orders, fills=fills)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.booleans(), st.booleans())
def test_no_account_report_makes_an_order_that_raises_risk(data: st.DataObject, with_entry: bool, anew: bool) -> None:
    """F7: a stale snapshot must never open a position. Closing one that a plan wants closed is allowed; no more."""
    house = House()
    sent = tuple(of(SendOrder, house.tell(intent()))) if with_entry else ()
    if anew:
        restarted(house)
        house.tell(FeedChanged(Feed.TRADING, 2, FeedState.LIVE, ""))
    before = {command.client_order_id for command in of(SendOrder, house.all)}
    for _ in range(data.draw(st.integers(1, 4))):
        out = house.tell(data.draw(reports(sent)))
        out += house.wait(data.draw(st.sampled_from((0.0, 0.3, 2.0))))
        assert [order for order in of(SubmitOrder, out) if order.purpose is Purpose.ENTRY] == []
        for command in of(SendOrder, out):
            opening = command.opening and command.client_order_id not in before
            # An approved entry may go on walking its own ladder in its own process, and never in the next one.
            assert not opening or (with_entry and not anew and command.symbol == sent[0].symbol)
            assert command.side is Side.BUY or command.contracts <= house.ledger.position(command.symbol)

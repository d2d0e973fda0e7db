"""After a restart: what was in doubt is looked up, entries are given up, and no fill of meanwhile is lost."""

from typing import Any

from oracle.core.marketdata import FeedChanged
from oracle.core.messages import (
    ForeignExecution,
    LadderStep,
    LedgerSeeded,
    LookUpOrder,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    ReadAccount,
    Reconciled,
    SendCancel,
    SendOrder,
    SubmitOrder,
)
from oracle.core.reports import LookUpReturned, SubmitReturned
from oracle.core.sessions import NS
from oracle.core.vocabulary import BrokerEvent, Feed, FeedState, OrderState, OrderType, Outcome, Purpose, Side
from oracle.execution.account import OVERLAP_NS, AccountReader
from oracle.execution.desk import Desk
from oracle.execution.works import DeskSettings
from tests.unit.builders import (
    CALL,
    FEE,
    START_NS,
    TABLE,
    House,
    account,
    broker_order,
    entry_order,
    execution,
    intent,
    of,
    one,
)
from tests.unit.test_execution_desk import accept, end, found, not_found, submitted, told


def restarted(house: House, *, orders: list[SubmitOrder] | None = None) -> House:
    desk = Desk(DeskSettings(FEE))
    desk.restore(
        of(SubmitOrder, house.all) or orders or [], of(OrderAdvanced, house.all), of(OrderFilled, house.all),
        of(OrderClosed, house.all), of(ForeignExecution, house.all),
    )  # fmt: skip
    handlers = house.engine.bus._handlers
    for kind, handler in desk.handlers():
        handlers[kind] = [*(h for h in handlers[kind] if not isinstance(getattr(h, "__self__", None), Desk)), handler]
    return house


def live(house: House) -> list[Any]:
    return house.tell(FeedChanged(Feed.TRADING, 2, FeedState.LIVE, ""))


def test_after_a_restart_a_working_order_is_unknown_and_looked_up() -> None:
    house, sent = submitted()
    accept(house, sent)
    house.tell(execution(sent, "x1", 1, 1))
    restarted(house, orders=[entry_order()])
    assert of(OrderFilled, house.tell(execution(sent, "x1", 1, 1))) == []
    out = live(house)
    assert one(OrderAdvanced, out).text == "restarted"
    assert one(LookUpOrder, out).client_order_id == sent.client_order_id
    assert one(SendCancel, house.wait(15)).broker_order_id == f"b-{sent.client_order_id}"  # the fill told it
    assert of(LookUpOrder, live(house)) != []
    assert end(told(house, sent, BrokerEvent.CANCELED, 1)) == "canceled: restarted"
    assert one(OrderClosed, house.all).filled == 1


def test_after_a_restart_an_entry_in_doubt_is_never_sent_again() -> None:
    house, sent = submitted(window_end_ns=START_NS + 600 * NS)
    house.tell(SubmitReturned(sent.client_order_id, Outcome.UNKNOWN, None, "", "timed out"))
    restarted(house, orders=[entry_order(window_end_ns=START_NS + 600 * NS)])
    out = live(house) + house.wait(11) + not_found(house, sent)
    assert of(SendOrder, out) == []
    assert end(out) == "rejected: never reached the broker"


def test_after_a_restart_an_entry_that_lives_is_adopted_cancelled_at_its_windows_end_and_its_fills_booked() -> None:
    house, sent = submitted()
    restarted(house, orders=[entry_order()])
    live(house)
    found(house, sent, "new")
    assert one(SendCancel, house.wait(15)).client_order_id == sent.client_order_id
    assert one(OrderFilled, house.tell(execution(sent, "x1", 1, 1))).contracts == 1
    out = told(house, sent, BrokerEvent.CANCELED, 1)
    assert (end(out), of(SendOrder, out)) == ("canceled: restarted", [])


def test_after_a_restart_missing_executions_are_read_from_when_the_order_was_commanded() -> None:
    house, sent = submitted()
    restarted(house, orders=[entry_order()])
    house.at_ns += 20 * 3600 * NS
    live(house)
    found(house, sent, "filled", 4)
    assert one(ReadAccount, house.wait(1)).fills_since_ns < START_NS


def test_after_a_restart_an_exit_that_was_never_sent_is_sent_and_an_entry_is_closed() -> None:
    house = House(ready=False)
    house.tell(account())
    restarted(house, orders=[entry_order()])
    out = live(house)
    assert (end(out), of(SendOrder, out)) == ("canceled: restarted", [])
    leave = entry_order(
        purpose=Purpose.STOP, side=Side.SELL, order_type=OrderType.MARKET, ladder=(LadderStep(None, 60.0),),
        worst_price_usd=None, window_end_ns=START_NS + 60 * NS, exit_plan=None,
    )  # fmt: skip
    house = House(ready=False)
    house.tell(account())
    restarted(house, orders=[leave])
    assert one(SendOrder, live(house)).contracts == 4
    house = House(ready=False)
    house.tell(account(), after_s=60)
    restarted(house, orders=[leave])
    assert end(live(house)) == "window"


def test_after_a_restart_closed_orders_stay_closed_and_second_attempts_keep_their_size() -> None:
    house, sent = submitted()
    accept(house, sent)
    house.tell(execution(sent, "x1", 1, 1))
    house.wait(5)
    second = one(SendOrder, told(house, sent, BrokerEvent.CANCELED, 1))
    restarted(house, orders=[entry_order()])
    live(house)
    assert one(OrderAdvanced, found(house, second, "new")).to_state is OrderState.ACCEPTED
    out = house.tell(execution(second, "x2", 3, 3, "2.01"))
    assert end(out) == "filled"
    restarted(house, orders=[entry_order()])
    assert live(house) == []


# ------------------------------------------------------------------------------------ what the first read covers


def tomorrow() -> House:
    """A house ten minutes into the next session."""
    house = House(ready=False)
    house.engine.start(TABLE.sessions[1].open_ns + 600 * NS)
    return house


def first_read(reader: AccountReader, house: House) -> int:
    (read,) = reader.on_feed(FeedChanged(Feed.TRADING, 1, FeedState.LIVE, ""), house.engine.context())
    assert isinstance(read, ReadAccount)
    return read.fills_since_ns


def test_the_first_read_goes_back_to_what_was_not_settled() -> None:
    house, sent = submitted()
    house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "", "no"))
    settled: tuple[list[Any], list[Any], list[Any]] = (of(OrderAdvanced, house.all), [], of(OrderClosed, house.all))
    later = tomorrow()
    reader = AccountReader()
    reader.restore([entry_order()], *settled)
    assert first_read(reader, later) == TABLE.sessions[1].open_ns - OVERLAP_NS
    reader = AccountReader()
    reader.restore([entry_order()], settled[0], [], [])
    assert first_read(reader, later) == START_NS - OVERLAP_NS
    reader = AccountReader()
    reader.restore([entry_order()], settled[0][:1], [], settled[2])  # over, and yet an attempt of it was in doubt
    assert first_read(reader, later) == START_NS - OVERLAP_NS


def test_the_first_read_goes_back_to_the_last_fill_that_was_told() -> None:
    house, sent = submitted()
    house.tell(execution(sent, "x1", 1, 1, at_ns=START_NS + NS))
    house.tell(execution(sent, "x2", 3, 4, at_ns=START_NS + 9 * NS))
    later = tomorrow()
    reader = AccountReader()
    kinds = (OrderAdvanced, OrderFilled, OrderClosed)
    reader.restore([entry_order()], *(of(kind, house.all) for kind in kinds))
    assert first_read(reader, later) == START_NS + 9 * NS - OVERLAP_NS


def test_a_fill_while_the_host_was_down_over_the_next_open_is_booked() -> None:
    before = House()
    entry = one(SendOrder, before.tell(intent()))
    before.tell(execution(entry, "x1", 4, 4, "10.00", before.at_ns))
    stop = one(SendOrder, before.quote(CALL, 4.0, 4.1))
    missed = execution(stop, "x2", 4, 4, "4.00", before.at_ns + NS)
    house = House(ready=False)
    orders, advanced, fills, ended = (
        of(kind, before.all) for kind in (SubmitOrder, OrderAdvanced, OrderFilled, OrderClosed)
    )
    house.ledger.restore([m for m in before.all if isinstance(m, LedgerSeeded | SubmitOrder | OrderFilled)])
    house.desk.restore(orders, advanced, fills, ended)
    house.reconciler.restore(advanced, fills, [])
    reader = AccountReader()
    reader.restore(orders, advanced, fills, ended)
    house.engine.bus.subscribe(reader.handlers())
    house.at_ns = TABLE.sessions[1].open_ns + 600 * NS
    house.engine.start(house.at_ns)
    serve(house, house.tell(FeedChanged(Feed.TRADING, 1, FeedState.LIVE, "")), stop, missed)
    for _ in range(60):
        serve(house, house.wait(1), stop, missed)
    assert house.ledger.position(CALL) == 0
    assert of(SendOrder, house.all) == []
    assert of(Reconciled, house.all)[-1].differences == ()


def serve(house: House, messages: list[Any], stop: SendOrder, missed: Any) -> None:
    """Answer as a broker that filled the stop long ago."""
    for asked in messages:
        if isinstance(asked, LookUpOrder):
            order = broker_order(stop, "filled", 4, order_type="market")
            serve(house, house.tell(LookUpReturned(stop.client_order_id, Outcome.ACCEPTED, order, "")), stop, missed)
        elif isinstance(asked, ReadAccount):
            told_fills = (missed,) if missed.at_ns > asked.fills_since_ns else ()
            report = account(house.at_ns, "97600", fills=told_fills, fills_since_ns=asked.fills_since_ns)
            serve(house, house.tell(report), stop, missed)

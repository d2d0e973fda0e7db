"""Adopting what others executed: the books equal the broker to the cent, the trade has an exit, a restart knows it."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.control import AdoptPosition, Flatten
from oracle.core.foreign import Foreign
from oracle.core.ledger import Ledger
from oracle.core.marketdata import FeedChanged
from oracle.core.message import Message
from oracle.core.messages import (
    CashCorrected,
    ExitTriggered,
    FeeCharged,
    ForeignExecution,
    LedgerSeeded,
    OperatorAnswered,
    OrderClosed,
    OrderFilled,
    PositionAdopted,
    ReadAccount,
    Reconciled,
    SendOrder,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.reports import BrokerFee, BrokerPosition, ExecutionReported
from oracle.core.vocabulary import Feed, FeedState, Purpose, Side
from oracle.risk.gate import Gate
from oracle.risk.stored import Stored
from tests.unit.builders import (
    CALL,
    NICKEL_CALL,
    PUT,
    House,
    account,
    broker_order,
    gate_settings,
    intent,
    of,
    one,
)
from tests.unit.test_risk_execution_flow import filled_entry
from tests.unit.test_risk_operator import answer, request

D = Decimal


def by_hand(house: House, name: str, side: Side, qty: str, price: str, symbol: str = PUT) -> ExecutionReported:
    """An execution that somebody else's order had."""
    order = broker_order(SendOrder("by-hand", symbol, side, True, 1, D(price), False), "filled", 1)
    return ExecutionReported(name, order, symbol, side, D(qty), D(price), house.at_ns)


def report(house: House, cash: str, *held: tuple[str, str], **changes: Any) -> list[Message]:
    """The broker's account; the window of its fills begins now."""
    positions = tuple(BrokerPosition(symbol, D(qty), D("1.95")) for symbol, qty in held)
    terms = {"positions": positions, "fills_since_ns": house.at_ns, **changes}
    return house.tell(account(house.at_ns, cash, **terms))


def adopt(house: House, *symbols: str, name: str = "r1", **terms: Any) -> list[Message]:
    return house.tell(request(AdoptPosition(symbols or (PUT,), **{"stop_fraction": 0.5, **terms}), name))


def bought_two(house: House) -> None:
    """Somebody bought two puts: 1 at 1.95, 1 at 1.97, which is 392 USD."""
    house.tell(by_hand(house, "h1", Side.BUY, "1", "1.95"))
    house.tell(by_hand(house, "h2", Side.BUY, "1", "1.97"))
    house.quote(PUT, 1.95, 2.0)


def test_a_position_that_others_bought_becomes_a_trade_with_an_exit_plan() -> None:
    house = House()
    bought_two(house)
    assert one(Reconciled, report(house, "99608", (PUT, "2"))).differences  # shown, and entries are blocked
    out = adopt(house, target_fraction=0.8, flat_at="14:00")
    assert one(ReadAccount, out)
    out = report(house, "99608", (PUT, "2"))
    adopted = one(PositionAdopted, out)
    assert (adopted.covers, adopted.order.contracts, adopted.order.strategy) == (("h1", "h2"), 2, "operator")
    assert (adopted.order.worst_case_usd, adopted.order.planned_risk_usd) == (D("392.00"), D("196.00"))
    assert (adopted.intent.reason, adopted.approved.contracts) == ("adopted by alice: because", 2)
    assert of(SendOrder, out) == []  # an order that is over is booked, never sent
    assert [f.execution_id for f in of(OrderFilled, out)] == ["adopted:h1", "adopted:h2"]
    assert (house.ledger.cash_usd, house.ledger.position(PUT)) == (D("99608.00"), 2)
    trade = house.ledger.trade(one(TradeOpened, out).trade_id)
    assert trade is not None
    assert (trade.entry_price_usd, trade.exit_plan.stop_fraction, trade.exit_plan.target_fraction) == (
        D("1.96"),
        0.5,
        0.8,
    )
    assert trade.exit_plan.direction == -1
    done = answer(report(house, "99608", (PUT, "2")))
    assert (done.ok, done.facts["differences"], done.facts["executions"]) == (True, [], [])
    assert done.facts["positions"][0]["trade_id"] == trade.trade_id
    # Its stop works like any other, and entries are allowed again.
    sold = one(SendOrder, house.quote(PUT, 0.9, 0.95))
    assert (sold.symbol, sold.contracts, sold.limit_usd) == (PUT, 2, None)
    assert of(SubmitOrder, house.tell(intent())) != []


def test_after_a_restart_the_adopted_trade_is_watched_and_settled() -> None:
    house = House()
    bought_two(house)
    adopt(house)
    report(house, "99608", (PUT, "2"))
    adopted = of(PositionAdopted, house.all)
    orders = [*of(SubmitOrder, house.all), *(m.order for m in adopted)]
    ledger = Ledger()
    ledger.restore([*of(LedgerSeeded, house.all), *orders, *of(OrderFilled, house.all), *of(OrderClosed, house.all)])
    assert (ledger.cash_usd, ledger.position(PUT)) == (house.ledger.cash_usd, 2)
    assert ledger.open_trades() == house.ledger.open_trades()
    gate = Gate(gate_settings(next_sequence=50))
    gate.restore(
        Stored(
            orders=orders, fills=of(OrderFilled, house.all), ended=of(OrderClosed, house.all),
            opened=of(TradeOpened, house.all), foreign=of(ForeignExecution, house.all), settled=adopted[0].covers,
        )
    )  # fmt: skip
    assert list(gate._exits.watches) == [orders[-1].trade_id]
    assert gate._operator.foreign.unsettled == {}
    assert gate._book.working == {}


def test_a_sale_by_hand_of_what_a_strategy_holds_ends_its_trade() -> None:
    house = House()
    filled_entry(house)
    house.wait(10)  # a report this old could not have missed our own fill
    house.tell(by_hand(house, "h1", Side.SELL, "4", "10.50", CALL))
    adopt(house, CALL)
    out = report(house, "100208")
    closed = one(TradeClosed, out)
    assert (closed.strategy, closed.contracts, closed.exit_rule) == ("breakout", 4, "operator")
    assert closed.gross_pnl_usd == D("208.00")
    assert one(PositionAdopted, out).order.purpose is Purpose.FORCED
    assert (house.ledger.cash_usd, house.ledger.position(CALL)) == (D("100208.00"), 0)
    assert answer(report(house, "100208")).ok


def test_a_sale_by_hand_of_a_part_leaves_the_rest_to_its_plan_also_over_a_restart() -> None:
    house = House()
    filled_entry(house)
    house.wait(10)
    house.tell(by_hand(house, "h1", Side.SELL, "1", "10.50", CALL))
    adopt(house, CALL)
    out = report(house, "97050", (CALL, "3"))
    assert one(PositionAdopted, out).order.contracts == 1
    assert of(ExitTriggered, out) == []
    gate = Gate(gate_settings(next_sequence=50))
    gate.restore(
        Stored(
            orders=[*of(SubmitOrder, house.all), *(m.order for m in of(PositionAdopted, house.all))],
            fills=of(OrderFilled, house.all), ended=of(OrderClosed, house.all), opened=of(TradeOpened, house.all),
            exits=of(ExitTriggered, house.all),
        )
    )  # fmt: skip
    (watch,) = gate._exits.watches.values()
    assert watch.wanted is None


def test_what_is_left_of_a_position_bought_and_partly_sold_by_hand_is_kept() -> None:
    house = House()
    bought_two(house)
    house.tell(by_hand(house, "h3", Side.SELL, "1", "2.10"))
    adopt(house)
    out = report(house, "99818", (PUT, "1"))
    assert len(of(PositionAdopted, out)) == 2
    assert of(ExitTriggered, out) == []
    assert answer(report(house, "99818", (PUT, "1"))).ok


def test_a_share_trade_by_hand_that_is_over_is_booked_as_cash() -> None:
    house = House()
    house.tell(by_hand(house, "s1", Side.BUY, "10.5", "600.00", "SPY"))
    adopt(house, "SPY")
    assert "close it at the broker" in answer(report(house, "93700", ("SPY", "10.5"))).text
    house.tell(by_hand(house, "s2", Side.SELL, "10.5", "601.00", "SPY"))
    adopt(house, "SPY", name="r2")
    out = report(house, "100010.50")
    booked = one(CashCorrected, out)
    assert (booked.symbol, booked.amount_usd, booked.covers) == ("SPY", D("10.5"), ("s1", "s2"))
    assert (booked.request_id, booked.who, booked.why) == ("r2", "alice", "because")
    assert house.ledger.cash_usd == D("100010.50")
    assert house.ledger.realized_since(0) == D("10.5")
    assert answer(report(house, "100010.50")).ok
    assert house.gate._operator.foreign.unsettled == {}
    assert of(SubmitOrder, house.tell(intent(at_ns=house.at_ns))) != []  # entries are allowed again
    ledger = Ledger()
    ledger.restore([*of(LedgerSeeded, house.all), booked])
    assert ledger.cash_usd == D("100010.50")


def test_an_agreement_settles_what_was_heard_long_enough_before() -> None:
    house = House()
    bought_two(house)
    house.wait(30)
    house.tell(by_hand(house, "h3", Side.SELL, "2", "1.96"))
    assert one(Reconciled, report(house, "100000")).differences == ()
    assert list(house.gate._operator.foreign.unsettled) == ["h1", "h2", "h3"]  # an older report would say the same
    house.wait(40)
    report(house, "100000")
    assert list(house.gate._operator.foreign.unsettled) == ["h3"]
    house.wait(60)
    report(house, "100000")
    assert house.gate._operator.foreign.unsettled == {}


def test_what_is_adopted_after_a_flatten_keeps_its_plan_also_over_a_restart() -> None:
    house = House()
    house.tell(request(Flatten(), "r0"))
    report(house, "100000")
    bought_two(house)
    adopt(house)
    out = report(house, "99608", (PUT, "2"))
    assert one(TradeOpened, out)
    assert of(ExitTriggered, out) == []
    assert of(SendOrder, house.tell(FeedChanged(Feed.TRADING, 2, FeedState.LIVE, "again"))) == []


def test_two_adoptions_at_once_do_not_begin_the_books_twice() -> None:
    house = House(ready=False)
    house.quote(PUT, 1.95, 2.0)
    first = account(house.at_ns, "5000", equity_usd=D("5585"), positions=(BrokerPosition(PUT, D(3), D("1.95")),))
    adopt(house)
    assert not answer(adopt(house, name="r2")).ok
    assert len(of(LedgerSeeded, house.tell(first))) == 1


def test_a_round_trip_by_hand_is_booked_as_one() -> None:
    house = House()
    bought_two(house)
    house.tell(by_hand(house, "h3", Side.SELL, "2", "2.10"))
    assert one(Reconciled, report(house, "100028")).differences == (
        "cash: 100028 USD at the broker, 100000 USD by the ledger",
    )
    adopt(house)
    out = report(house, "100028")
    assert one(TradeClosed, out).gross_pnl_usd == D("28.00")
    assert [m.order.purpose for m in of(PositionAdopted, out)] == [Purpose.ENTRY, Purpose.FORCED]
    assert answer(report(house, "100028")).ok


def test_an_account_that_held_something_at_first_begins_its_books_with_it() -> None:
    house = House(ready=False)
    house.quote(PUT, 1.95, 2.0)
    held = (BrokerPosition(PUT, D(3), D("1.953333333333")),)
    first = account(house.at_ns, "5000", equity_usd=D("5585"), positions=held)
    assert "not ours" in one(Reconciled, house.tell(first)).differences[0]
    assert not house.ledger.seeded
    adopt(house, CALL)
    assert PUT in answer(house.tell(first)).text  # everything has to be named
    adopt(house, name="r2")
    out = house.tell(first)
    assert one(LedgerSeeded, out).equity_usd == D("5585")
    assert (house.ledger.cash_usd, house.ledger.position(PUT)) == (D(5000), 3)
    assert one(TradeOpened, out).strategy == "operator"
    assert answer(house.tell(first)).ok
    assert house.engine.context().account.reconciled


def test_fees_that_were_charged_before_the_books_begin_are_in_the_adopted_opening_cash() -> None:
    house = House(ready=False)
    house.quote(PUT, 1.95, 2.0)
    held, earlier = (BrokerPosition(PUT, D(3), D("1.95")),), BrokerFee("f1", PUT, D("12.34"), "FEE")
    first = account(house.at_ns, "5000", equity_usd=D("5585"), positions=held, fees=(earlier,))
    house.tell(first)
    adopt(house)
    out = house.tell(first)
    assert [(fee.activity_id, fee.in_opening_cash) for fee in of(FeeCharged, out)] == [("f1", True)]
    assert answer(house.tell(first)).ok
    assert (house.ledger.cash_usd, house.ledger.realized_since(0)) == (D(5000), 0)
    later = BrokerFee("f2", PUT, D("0.66"), "FEE")
    house.tell(msgspec.structs.replace(first, at_ns=house.at_ns, cash_usd=D("4999.34"), fees=(earlier, later)))
    assert (house.ledger.cash_usd, house.ledger.realized_since(0)) == (D("4999.34"), D("-0.66"))
    ledger = Ledger()
    orders = [m.order for m in of(PositionAdopted, house.all)]
    booked = [*of(LedgerSeeded, house.all), *of(FeeCharged, house.all), *orders, *of(OrderFilled, house.all)]
    ledger.restore(booked)
    assert ledger.cash_usd == D("4999.34")


def test_orders_of_others_must_go_before_the_books_begin() -> None:
    house = House(ready=False)
    order = broker_order(SendOrder("theirs", PUT, Side.BUY, True, 1, D(1), False))
    adopt(house)
    done = answer(report(house, "5000", (PUT, "1"), open_orders=(order,)))
    assert (done.ok, "cancel theirs first" in done.text) == (False, True)
    assert not house.ledger.seeded


@pytest.mark.parametrize(
    ("executions", "held", "symbols", "words"),
    [
        ((), (), ("SPY",), "only options and structures"),
        ((), (), (PUT,), "nothing to adopt"),
        ((("h1", Side.SELL, "1", "2.00", PUT),), ((PUT, "-1"),), (PUT,), "short"),
        ((("h1", Side.BUY, "0.5", "2.00", PUT),), ((PUT, "0.5"),), (PUT,), "fraction"),
        ((("h1", Side.BUY, "1", "2.00", PUT),), ((PUT, "3"),), (PUT,), "wait for the next report"),
        ((("h1", Side.BUY, "1", "2.00", NICKEL_CALL),), ((NICKEL_CALL, "1"),), (NICKEL_CALL,), "listed"),
        ((("h1", Side.BUY, "1", "2.00", PUT),), ((PUT, "1"),), (PUT, "SPY"), "only options and structures"),
    ],
)
def test_what_cannot_be_adopted_is_refused_with_the_reason_and_changes_nothing(
    executions: tuple[tuple[str, Side, str, str, str], ...],
    held: tuple[tuple[str, str], ...],
    symbols: tuple[str, ...],
    words: str,
) -> None:
    house = House()
    for name, side, qty, price, symbol in executions:
        house.tell(by_hand(house, name, side, qty, price, symbol))
    adopt(house, *symbols)
    out = report(house, "100000", *held)
    done = answer(out)
    assert not done.ok
    assert words in done.text
    assert of(PositionAdopted, out) == []
    assert house.ledger.cash_usd == D(100_000)


def test_a_time_that_is_over_and_a_working_order_of_ours_refuse() -> None:
    house = House()
    filled_entry(house)
    house.wait(10)
    bought_two(house)
    adopt(house, flat_at="09:45")
    assert "is over" in answer(report(house, "1", (PUT, "2"), (CALL, "4"))).text
    house.tell(by_hand(house, "h9", Side.SELL, "4", "10.50", CALL))
    house.quote(CALL, 4.0, 4.1)  # the stop's order is working
    adopt(house, CALL, name="r2")
    assert "working on it" in answer(report(house, "1", (PUT, "2"))).text


def test_without_the_brokers_equity_nothing_is_adopted() -> None:
    house = House()
    bought_two(house)
    adopt(house)
    done = answer(report(house, "99608", (PUT, "2"), equity_usd=None))
    assert (done.ok, "unknown" in done.text) == (False, True)


def test_what_came_with_the_seed_is_in_the_opening_cash() -> None:
    foreign = Foreign()
    one_ = ForeignExecution("a", "c", PUT, Side.BUY, D(1), D(2))
    foreign.heard(one_, 0)
    foreign.seeded(account(fills=(by_hand(House(), "b", Side.BUY, "1", "2"),)))
    for name in ("a", "b", "c"):
        foreign.heard(msgspec.structs.replace(one_, execution_id=name), 0)
    assert [e.execution_id for e in foreign.of(PUT)] == ["c"]
    assert foreign.of(CALL) == ()


def test_the_request_is_answered_before_and_after() -> None:
    house = House()
    bought_two(house)
    adopt(house)
    report(house, "99608", (PUT, "2"))
    report(house, "99608", (PUT, "2"))
    told = [(m.done, m.ok) for m in of(OperatorAnswered, house.all)]
    assert told == [(False, True), (False, True), (True, True)]  # taken up, booked, agreed

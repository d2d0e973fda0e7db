"""Exit plans: what triggers, what does not, and how one exit order at a time is driven to flat."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.marketdata import FeedChanged
from oracle.core.messages import (
    CancelOrder,
    ExitPlanAdvanced,
    ExitTriggered,
    SendCancel,
    SendOrder,
    SetTimer,
    SubmitOrder,
    TradeClosed,
)
from oracle.core.ports import OptionQuote, TradeView
from oracle.core.reports import OrderReported, SubmitReturned
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import BrokerEvent, Feed, FeedState, Outcome, Purpose, Side
from oracle.risk.triggers import breakeven_due, judge_close, judge_level, judge_premium, judge_time
from oracle.risk.worth import UNKNOWN_WORTH, Worth, mark_usd, worth_of_contract
from tests.unit.builders import (
    CALL,
    LATER_CALL,
    OPEN_NS,
    START_NS,
    TABLE,
    House,
    account,
    bar,
    broker_order,
    chain_quotes,
    execution,
    intent,
    of,
    one,
    plan,
)
from tests.unit.test_risk_execution_flow import filled_entry

MARKET_STAND_S = 60


def trade(**changes: Any) -> TradeView:
    view = TradeView(
        trade_id="t", strategy="breakout", strategy_hash="h", underlying="SPY", symbol=CALL, side=Side.BUY,
        contracts_entered=4, contracts_open=4, entry_price_usd=Decimal("2.00"), entry_done=True, exit_plan=plan(),
        planned_risk_usd=Decimal(400), worst_case_usd=Decimal(800), opened_ns=START_NS,
    )  # fmt: skip
    return msgspec.structs.replace(view, **changes)


def quote(bid: float | None, ask: float | None) -> OptionQuote:
    return OptionQuote(CALL, bid, 10, ask, 10, START_NS, START_NS)


def worth(bid: float | None, ask: float | None, fresh: bool = True) -> Worth:
    return worth_of_contract(quote(bid, ask), fresh)


@pytest.mark.parametrize(
    ("bid", "ask", "fresh", "mark"),
    [
        (1.0, 1.2, True, "1.1"),
        (1.0, 1.2, False, "1.0"),
        (1.3, 1.2, True, "1.3"),
        (None, 1.2, True, "1.2"),
        (None, 1.2, False, None),
        (None, None, True, None),
        (0.0, 0.2, True, "0.1"),
    ],
)
def test_marks(bid: float | None, ask: float | None, fresh: bool, mark: str | None) -> None:
    assert mark_usd(quote(bid, ask), fresh) == (None if mark is None else Decimal(mark))


@pytest.mark.parametrize(
    ("bid", "ask", "fresh", "breakeven", "rule"),
    [
        (0.95, 1.05, True, False, "stop"),
        (0.97, 1.05, True, False, None),
        (1.00, 1.50, False, False, "stop"),
        (None, 1.00, True, False, "stop"),
        (None, 1.01, True, False, None),
        (1.95, 2.05, True, True, "breakeven"),
        (1.97, 2.05, True, True, None),
        (2.95, 3.05, True, False, "target"),
        (2.95, 3.03, True, False, None),
        (3.95, 4.05, False, False, None),
        (None, 4.05, True, False, None),
    ],
)
def test_premium(bid: float | None, ask: float | None, fresh: bool, breakeven: bool, rule: str | None) -> None:
    found = judge_premium(trade(), worth(bid, ask, fresh), breakeven)
    assert (None if found is None else found.rule) == rule


def test_no_quote_or_no_target_judges_nothing() -> None:
    assert judge_premium(trade(), UNKNOWN_WORTH, False) is None
    assert judge_premium(trade(exit_plan=plan(target_fraction=None)), worth(9, 9.1), False) is None
    assert not breakeven_due(trade(), UNKNOWN_WORTH)
    assert not breakeven_due(trade(), worth(2.7, 2.8, False))
    assert not breakeven_due(trade(), worth(2.5, 2.6))
    assert not breakeven_due(trade(exit_plan=plan(breakeven_after_fraction=None)), worth(2.7, 2.8))
    assert breakeven_due(trade(), worth(2.55, 2.65))


@pytest.mark.parametrize(
    ("direction", "spot", "met"), [(1, 605.0, True), (1, 604.9, False), (-1, 605.0, True), (-1, 605.1, False)]
)
def test_the_underlying_target_is_by_direction(direction: int, spot: float, met: bool) -> None:
    view = trade(exit_plan=plan(underlying_target=605.0, direction=direction))
    assert (judge_level(view, spot, worth(2.0, 2.1)) is not None) == met
    assert judge_level(view, spot, worth(2.0, 2.1, False)) is None
    assert judge_level(view, spot, worth(None, 2.1, True)) is None
    assert judge_level(view, spot, UNKNOWN_WORTH) is None
    assert judge_level(view, None, worth(2.0, 2.1)) is None


@pytest.mark.parametrize(
    ("direction", "close", "met"), [(1, 598.0, True), (1, 598.1, False), (-1, 598.0, True), (-1, 597.9, False)]
)
def test_the_underlying_stop_is_judged_on_closes_since_the_entry(direction: int, close: float, met: bool) -> None:
    view = trade(exit_plan=plan(underlying_stop=598.0, direction=direction))
    assert (judge_close(view, bar(close, START_NS)) is not None) == met
    assert (judge_close(view, bar(close, START_NS, backfilled=True)) is not None) == met
    assert judge_close(view, bar(close, START_NS - MINUTE_NS)) is None
    assert judge_close(trade(), bar(close, START_NS)) is None


def test_time() -> None:
    flat_ns = plan().flat_ns
    assert judge_time(trade(), flat_ns - 1) is None
    found = judge_time(trade(), flat_ns)
    assert found is not None
    assert found.purpose is Purpose.FORCED


# ------------------------------------------------------------------------------------------------------ driven


def test_break_even_is_armed_once_and_durable() -> None:
    house = House()
    filled_entry(house)
    assert one(ExitPlanAdvanced, house.quote(CALL, 12.95, 13.05)).phase == "breakeven"
    assert of(ExitPlanAdvanced, house.quote(CALL, 12.95, 13.05)) == []
    assert one(ExitTriggered, house.quote(CALL, 9.9, 10.0)).rule == "breakeven"


def test_flat_time_forces_an_exit_on_stale_data_and_in_every_state() -> None:
    house = House()
    filled_entry(house)
    house.tell(FeedChanged(Feed.OPTION, 1, FeedState.DOWN, "gone"))
    out = house.wait((plan().flat_ns - house.at_ns) / NS)
    assert one(ExitTriggered, out).rule == "flat"
    assert one(SubmitOrder, out).purpose is Purpose.FORCED


def test_the_underlyings_close_and_quote_exit() -> None:
    wish = plan(underlying_stop=598.0, underlying_target=605.0)
    for act, rule in (
        (lambda house: house.tell(bar(597.0, house.at_ns - 30 * NS)), "underlying_stop"),
        (lambda house: house.spot(605.1), "underlying_target"),
    ):
        house = House()
        sent = one(SendOrder, house.tell(intent(exit_plan=wish)))
        house.tell(execution(sent, "x1", 4, 4, "9.97"))
        assert house.tell(bar(599.0, house.at_ns)) == []
        assert house.spot(604.9) == []
        assert one(ExitTriggered, act(house)).rule == rule


def test_a_partial_entry_is_cancelled_before_its_exit() -> None:
    house = House()
    sent = one(SendOrder, house.tell(intent()))
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent), "", ""))
    house.tell(execution(sent, "x1", 1, 1, "9.97"))
    out = house.quote(CALL, 4.0, 4.1)
    assert one(CancelOrder, out).order_id == sent.client_order_id[:-2]
    assert of(SubmitOrder, out) == []
    assert of(SubmitOrder, house.quote(CALL, 4.0, 4.1)) == []
    out = house.tell(OrderReported(BrokerEvent.CANCELED, broker_order(sent, "canceled", 1), house.at_ns))
    assert (one(SubmitOrder, out).purpose, one(SubmitOrder, out).contracts) == (Purpose.STOP, 1)


def test_a_target_that_waits_for_an_entrys_end_is_judged_again() -> None:
    house = House()
    sent = one(SendOrder, house.tell(intent()))
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent), "", ""))
    house.tell(execution(sent, "x1", 1, 1, "9.97"))
    assert len(of(CancelOrder, house.quote(CALL, 15.0, 15.1))) == 1
    assert of(ExitTriggered, house.quote(CALL, 15.0, 15.1)) == []
    house.quote(CALL, 14.0, 14.1)
    out = house.tell(OrderReported(BrokerEvent.CANCELED, broker_order(sent, "canceled", 1), house.at_ns))
    assert of(SubmitOrder, out) == []


def test_a_target_left_unfilled_is_tried_again_after_a_while() -> None:
    house = House()
    filled_entry(house)
    sent = one(SendOrder, house.quote(CALL, 15.0, 15.1))
    house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "", "no"))
    assert of(SubmitOrder, house.quote(CALL, 15.0, 15.1)) == []
    house.wait(3)
    assert of(SubmitOrder, house.quote(CALL, 15.0, 15.1)) == []  # no account report yet
    house.tell(account(house.at_ns))
    assert one(SubmitOrder, house.wait(1)).purpose is Purpose.TARGET


def test_a_stop_does_not_sit_out_the_wait_of_a_refused_target() -> None:
    house = House()
    filled_entry(house)
    sent = one(SendOrder, house.quote(CALL, 15.0, 15.1))
    house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "", "no"))
    out = house.quote(CALL, 4.0, 4.1)
    assert (one(ExitTriggered, out).purpose, of(SubmitOrder, out)) == (Purpose.STOP, [])
    assert one(SubmitOrder, house.wait(3)).purpose is Purpose.STOP


def test_a_refused_market_exit_backs_off_and_comes_back() -> None:
    house = House()
    filled_entry(house)
    out = house.quote(CALL, 4.0, 4.1)
    for wait_s in (3, 6, 12, 24, 48, 60, 60):
        sent = one(SendOrder, out)
        out = house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "40310000", "no"))
        assert one(ExitTriggered, out).limit == f"again in {wait_s} s, after an account report"
        assert house.tell(chain_quotes()) == []
        assert of(SubmitOrder, house.tell(account(house.at_ns))) == []
        out = house.wait(wait_s)
        assert one(SubmitOrder, out).purpose is Purpose.STOP


def test_a_refused_exit_waits_for_the_account_but_not_for_ever() -> None:
    house = House()
    filled_entry(house)
    sent = one(SendOrder, house.quote(CALL, 4.0, 4.1))
    house.tell(account(house.at_ns - NS))
    house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "40310000", "no"))
    house.tell(account(house.at_ns - 1))  # read before the refusal
    house.tell(account(house.at_ns, text="timed out"))
    assert of(SubmitOrder, house.wait(59)) == []
    assert one(SubmitOrder, house.wait(1)).purpose is Purpose.STOP


def test_a_fill_in_the_report_after_a_refusal_ends_the_exit() -> None:
    house = House()
    filled_entry(house)
    first = one(SendOrder, house.quote(CALL, 4.0, 4.1))
    house.tell(SubmitReturned(first.client_order_id, Outcome.ACCEPTED, broker_order(first), "", ""))
    house.tell(OrderReported(BrokerEvent.EXPIRED, broker_order(first, "expired"), house.at_ns))
    second = one(SendOrder, house.wait(3))
    house.tell(SubmitReturned(second.client_order_id, Outcome.REJECTED, None, "40310000", "nothing to close"))
    out = house.tell(account(house.at_ns, fills=(execution(first, "x2", 4, 4, "4.00", house.at_ns),)), after_s=30)
    assert len(of(TradeClosed, out)) == 1
    assert of(SubmitOrder, out + house.wait(600)) == []


def test_an_underlying_target_waits_for_a_fresh_option_quote() -> None:
    house = House()
    sent = one(SendOrder, house.tell(intent(exit_plan=plan(underlying_target=605.0))))
    house.tell(execution(sent, "x1", 4, 4, "9.97"))
    house.wait(1800)
    assert of(SubmitOrder, house.spot(605.1)) == []
    house.quote(CALL, 9.95, 10.0)
    assert one(SubmitOrder, house.spot(605.1)).purpose is Purpose.TARGET


def test_a_market_exit_that_stands_unfilled_is_sent_again() -> None:
    house = House()
    filled_entry(house)
    sent = one(SendOrder, house.quote(CALL, 4.0, 4.1))
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent), "", ""))
    out = house.wait(MARKET_STAND_S)
    assert one(SendCancel, out).client_order_id == sent.client_order_id
    house.tell(execution(sent, "x9", 1, 1, "4.00"))
    out = house.tell(OrderReported(BrokerEvent.CANCELED, broker_order(sent, "canceled", 1), house.at_ns))
    again = one(SendOrder, out)
    assert (again.contracts, again.limit_usd) == (3, None)
    assert one(TradeClosed, house.tell(execution(again, "x10", 3, 3, "4.00"))).contracts == 4


def test_outside_the_session_an_exit_waits_for_the_open() -> None:
    house = House()
    far = plan(flat_ns=TABLE.sessions[2].late("15:00"))
    house.quote(LATER_CALL, 9.95, 10.0)
    sent = one(SendOrder, house.tell(intent(symbol=LATER_CALL, exit_plan=far)))
    house.tell(execution(sent, "x1", 4, 4, "9.97"))
    house.wait(390 * 60)
    out = house.quote(LATER_CALL, 4.0, 4.1)
    assert one(ExitTriggered, out).rule == "stop"
    assert of(SubmitOrder, out) == []
    assert of(SetTimer, out) == []
    house.at_ns = TABLE.sessions[1].open_ns
    assert one(SubmitOrder, house.wait(0)).symbol == LATER_CALL
    assert house.at_ns > OPEN_NS

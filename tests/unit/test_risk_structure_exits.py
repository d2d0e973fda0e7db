"""Exits of structures: what triggers, which legs go into the one order, and what becomes of what is left over."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.marketdata import Quote
from oracle.core.messages import (
    CancelOrder,
    ExitTriggered,
    ExitUnjudged,
    OrderFilled,
    SessionOpened,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.ports import LegView, TradeView
from oracle.core.sessions import NS
from oracle.core.vocabulary import Ending, OrderType, Purpose, Side
from oracle.risk.closing import Closing, closing, judge_remains
from oracle.risk.stored import Stored
from oracle.risk.triggers import breakeven_due, judge_premium, judge_short_delta
from oracle.risk.worth import Worth
from tests.unit.builders import START_NS, TABLE, chain_quotes, of, one
from tests.unit.structures_house import (
    LONG_CALL,
    LONG_PUT,
    NAME,
    NAMED,
    NO_WING,
    SHORT_CALL,
    SHORT_PUT,
    TARGET_WITHOUT_WING,
    WITHOUT_WING,
    StructureHouse,
    condor,
    condor_plan,
    held,
    leg,
)

USD = Decimal


def trade(entry: str = "-1.00", legs: dict[str, int] | None = None, units: int = 2, **plan: Any) -> TradeView:
    legs_held = held(units) if legs is None else legs
    return TradeView(
        trade_id="tok-20260105-bo-000001", strategy="breakout", strategy_hash="h", underlying="SPY", symbol=NAME,
        side=Side.BUY, contracts_entered=units, contracts_open=units if legs is None else 0,
        entry_price_usd=USD(entry), entry_done=True, exit_plan=condor_plan(**plan), planned_risk_usd=USD(400),
        worst_case_usd=USD(800), opened_ns=START_NS,
        legs=tuple(LegView(s, n) for s, n in sorted(legs_held.items())), cash_usd=USD(200),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- judgements


@pytest.mark.parametrize(
    ("mark", "rule"),
    [("-3.00", "stop"), ("-2.99", None), ("-0.51", None), ("-0.50", "target"), ("-0.10", "target"), ("0.01", "target")],
)
def test_a_credits_fractions_are_of_the_credit(mark: str, rule: str | None) -> None:
    found = judge_premium(trade(), Worth(USD(mark), USD(mark), sellable=True), breakeven=False)
    assert (None if found is None else found.rule) == rule


def test_a_credits_breakeven_is_a_gain_too() -> None:
    plan = {"breakeven_after_fraction": 0.3}
    assert breakeven_due(trade(**plan), Worth(None, USD("-0.70"), sellable=True))
    assert not breakeven_due(trade(**plan), Worth(None, USD("-0.71"), sellable=True))
    back = judge_premium(trade(**plan), Worth(USD("-1.00"), None, sellable=False), breakeven=True)
    assert back is not None
    assert back.rule == "breakeven"


@pytest.mark.parametrize(("delta", "met"), [(0.40, True), (-0.45, True), (0.399, False), (None, False)])
def test_a_short_legs_delta_ends_the_trade(delta: float | None, met: bool) -> None:
    found = judge_short_delta(trade(), [(SHORT_PUT, -0.1), (SHORT_CALL, delta)])
    assert (found is not None) == met
    assert judge_short_delta(trade(short_delta_stop=None), [(SHORT_CALL, delta)]) is None


# ------------------------------------------------------------------------------------------------- what is closed


@pytest.mark.parametrize(
    ("legs", "quotes", "expected"),
    [
        (None, {}, Closing(NAME, Side.SELL, 2)),
        (None, {LONG_CALL: NO_WING}, Closing(WITHOUT_WING, Side.SELL, 2)),
        (
            None, {LONG_CALL: NO_WING, LONG_PUT: (0.0, 0.02)},
            Closing("SPY:-260105C615-260105P585", Side.SELL, 2),
        ),
        # The broker has sold a long: what is left goes in one order, the shorts in it.
        (
            {LONG_PUT: 2, SHORT_PUT: -2, SHORT_CALL: -2}, {},
            Closing(WITHOUT_WING, Side.SELL, 2),
        ),
        ({SHORT_CALL: -2}, {}, Closing(SHORT_CALL, Side.BUY, 2)),
        ({LONG_CALL: 3}, {}, Closing(LONG_CALL, Side.SELL, 3)),
        ({LONG_CALL: 3}, {LONG_CALL: NO_WING}, None),
        ({LONG_CALL: 3, SHORT_CALL: -2}, {}, Closing("SPY:-2x260105C615+3x260105C620", Side.SELL, 1)),
        # Options go before shares; a long that nobody wants does not hold the shares back.
        ({"SPY": -200, LONG_CALL: 2}, {}, Closing(LONG_CALL, Side.SELL, 2)),
        ({"SPY": -200, LONG_CALL: 2}, {LONG_CALL: NO_WING}, Closing("SPY", Side.BUY, 200)),
        ({"SPY": 100}, {}, Closing("SPY", Side.SELL, 100)),
    ],
)  # fmt: skip
def test_one_order_closes_what_is_really_held(legs: Any, quotes: Any, expected: Closing | None) -> None:
    house = StructureHouse()
    house.requote(**quotes)
    assert closing(trade(legs=legs), house.engine.context(), 2) == expected


def test_a_single_contract_of_which_more_was_sold_than_held_is_bought_back() -> None:
    house = StructureHouse()
    over = msgspec.structs.replace(
        trade(legs={SHORT_CALL: -1}, stop_fraction=0.5), symbol=SHORT_CALL, contracts_open=-1, entry_price_usd=USD("2")
    )
    assert over.is_whole
    assert closing(over, house.engine.context(), over.contracts_open) == Closing(SHORT_CALL, Side.BUY, 1)
    found = judge_remains(over, leaving=True, is_worked=False, context=house.engine.context())
    assert found is not None
    assert found.rule == "orphan_leg"


def test_contracts_that_are_over_are_left_to_the_broker() -> None:
    house = StructureHouse()
    house.at_ns = TABLE.sessions[1].open_ns
    house.wait(0)
    assert closing(trade(), house.engine.context(), 2) is None
    assert closing(trade(legs={SHORT_CALL: -2, "SPY": -100}), house.engine.context(), 2) == Closing(
        "SPY", Side.BUY, 100
    )


# ------------------------------------------------------------------------------------------------------ driven


def test_a_target_buys_the_condor_back_on_a_ladder_and_the_trade_closes() -> None:
    house = StructureHouse()
    entry = house.entered()
    out = house.requote(**{SHORT_PUT: (0.44, 0.46), SHORT_CALL: (0.44, 0.46)})
    assert [(t.rule, t.purpose) for t in of(ExitTriggered, out)] == [("target", Purpose.TARGET)]
    order = one(SubmitOrder, out)
    assert (order.symbol, order.side, order.contracts) == (NAME, Side.SELL, entry.contracts)
    assert [step.limit_usd for step in order.ladder] == [USD(p) for p in ("-0.50", "-0.52", "-0.53", "-0.54")]
    assert (order.order_type, order.decision_mid_usd) == (OrderType.LIMIT, USD("-0.50"))
    out = house.done(order, ("0.45", "0.20", "0.20", "0.45"))
    closed = one(TradeClosed, out)
    assert (closed.trade_id, closed.exit_rule) == (entry.trade_id, "target")
    assert closed.gross_pnl_usd == USD("50.00") * entry.contracts
    assert house.gate._exits.watches == {}


@pytest.mark.parametrize("quote", [(None, 0.0), (0.0, 0.0), (0.0, 0.004)])
def test_a_target_that_no_price_can_be_named_for_waits(quote: Any) -> None:
    """A spread whose long nobody wants and whose short is offered for nothing: absurd, but no reason to fall over."""
    house = StructureHouse()
    legs = (leg(SHORT_CALL, Side.SELL, 0.69, 0.71), leg(LONG_CALL, Side.BUY, 0.19, 0.21))
    order = one(SubmitOrder, house.tell(condor(legs=legs)))
    house.done(order, ("0.70", "0.20"))
    assert of(SubmitOrder, house.requote(**{SHORT_CALL: quote, LONG_CALL: NO_WING})) == []
    last = one(SubmitOrder, house.requote(**{SHORT_CALL: (None, 0.01), LONG_CALL: NO_WING}))
    assert (last.symbol, last.side, [step.limit_usd for step in last.ladder]) == (SHORT_CALL, Side.BUY, [USD("0.01")])


def test_a_stop_is_one_market_order() -> None:
    house = StructureHouse()
    house.entered()
    order = one(SubmitOrder, house.requote(**{SHORT_CALL: (2.69, 2.71)}))
    assert (order.order_type, order.purpose, order.symbol) == (OrderType.MARKET, Purpose.STOP, NAME)
    # While it works, no second order leaves.
    assert of(SubmitOrder, house.requote(**{SHORT_CALL: (3.69, 3.71)})) == []


def test_a_stop_is_met_beside_a_wing_that_nobody_quotes_any_more() -> None:
    house = StructureHouse()
    house.entered()
    house.quote(LONG_PUT, None, 0.02, age_s=600)
    order = one(SubmitOrder, house.quote(SHORT_CALL, 2.69, 2.71))
    assert (order.purpose, order.symbol) == (Purpose.STOP, "SPY:-260105C615+260105C620-260105P585")


def test_the_delta_stop_looks_once_a_second_and_tells_once_what_it_does_not_know() -> None:
    house = StructureHouse()
    house.entered()
    house.wait(1)
    house.chains.deltas[SHORT_CALL] = None
    out = house.tell(chain_quotes())
    assert [(told.rule, told.what) for told in of(ExitUnjudged, out)] == [
        ("short_delta", f"the delta of {SHORT_CALL} is unknown")
    ]
    house.chains.deltas[SHORT_CALL] = 0.41
    assert of(SubmitOrder, house.tell(chain_quotes(), after_s=0.5)) == []
    order = one(SubmitOrder, house.tell(chain_quotes(), after_s=0.5))
    assert order.reason.startswith("short_delta: delta 0.4100")
    assert len(of(ExitUnjudged, house.all)) == 1


def test_flat_at_its_time() -> None:
    house = StructureHouse()
    house.entered()
    house.at_ns = condor_plan().flat_ns - NS
    out = house.wait(1)
    assert one(ExitTriggered, out).rule == "flat"
    assert one(SubmitOrder, out).purpose is Purpose.FORCED


def test_a_wing_without_a_bid_is_left_out_and_sold_when_somebody_bids() -> None:
    house = StructureHouse()
    entry = house.entered()
    order = one(SubmitOrder, house.requote(**TARGET_WITHOUT_WING))
    assert (order.symbol, order.side) == (WITHOUT_WING, Side.SELL)
    assert order.order_type is OrderType.LIMIT
    out = house.done(order)
    assert of(TradeClosed, out) == []
    house.wait(5)
    assert of(SubmitOrder, house.requote(**TARGET_WITHOUT_WING)) == []
    # It is no orphan: the exit has left it out, and its rule stays the trade's reason.
    assert {t.rule for t in of(ExitTriggered, house.all)} == {"target"}
    last = one(SubmitOrder, house.requote(**{**TARGET_WITHOUT_WING, LONG_CALL: (0.01, 0.03)}))
    assert (last.symbol, last.side, last.order_type) == (LONG_CALL, Side.SELL, OrderType.MARKET)
    closed = one(TradeClosed, house.done(last, ("0", "0.01")))
    assert (closed.trade_id, closed.exit_rule) == (entry.trade_id, "target")


def test_a_wing_left_out_of_a_target_that_fills_in_part_is_no_orphan() -> None:
    """Whole units with more wings than they need: the plan goes on for the units, and the wings wait for a bid."""
    house = StructureHouse()
    entry = house.entered()
    order = one(SubmitOrder, house.requote(**TARGET_WITHOUT_WING))
    house.done(order, units=3, end="canceled: not filled in time")
    left = entry.contracts - 3
    # Its target is met as before, and is one of the units that are left.
    house.wait(5)
    again = one(SubmitOrder, house.requote(**TARGET_WITHOUT_WING))
    assert (again.purpose, again.symbol, again.contracts) == (Purpose.TARGET, order.symbol, left)
    assert again.order_type is OrderType.LIMIT
    house.done(again, units=0, end="canceled: not filled in time")
    # Its stop is met too, and takes whole units; what is beyond them goes when they are gone.
    house.wait(5)
    stop = one(SubmitOrder, house.requote(**{SHORT_CALL: (2.69, 2.71)}))
    assert (stop.purpose, stop.symbol, stop.contracts) == (Purpose.STOP, NAME, left)
    house.done(stop)
    last = one(SubmitOrder, house.wait(5))
    assert (last.symbol, last.side, last.contracts) == (LONG_CALL, Side.SELL, 3)
    assert one(TradeClosed, house.done(last)).exit_rule == "stop"
    assert {t.rule for t in of(ExitTriggered, house.all)} == {"target", "stop"}


def test_a_wing_beyond_whole_units_before_any_exit_is_an_orphan() -> None:
    """A torn entry: nothing has left the wing out, so it does not belong to the trade."""
    torn = msgspec.structs.replace(trade(legs=held(2, **{LONG_CALL: 3})), contracts_open=2)
    context = StructureHouse().engine.context()
    assert judge_remains(torn, leaving=True, is_worked=False, context=context) is None
    found = judge_remains(torn, leaving=False, is_worked=False, context=context)
    assert found is not None
    assert found.rule == "orphan_leg"
    assert closing(torn, context, 2) == Closing(NAME, Side.SELL, 2)


def test_a_short_or_shares_beyond_whole_units_are_orphans_in_any_case() -> None:
    context = StructureHouse().engine.context()
    for beyond in ({SHORT_CALL: -3}, {"SPY": 100}):
        torn = msgspec.structs.replace(trade(legs=held(2, **beyond)), contracts_open=2)
        found = judge_remains(torn, leaving=True, is_worked=False, context=context)
        assert found is not None
        assert found.rule == "orphan_leg"


def test_a_wing_that_nobody_buys_expires_with_its_trade() -> None:
    house = StructureHouse()
    house.entered()
    order = one(SubmitOrder, house.requote(**TARGET_WITHOUT_WING))
    house.done(order)
    house.at_ns = TABLE.sessions[0].close_ns + NS
    out = house.settle(order.trade_id, LONG_CALL, order.contracts, Ending.EXPIRED)
    assert one(TradeClosed, out).exit_rule == "target"
    assert "orphan_leg" not in {t.rule for t in of(ExitTriggered, house.all)}


def test_a_leg_that_the_broker_sells_leaves_an_orphan_that_is_closed_at_once() -> None:
    house = StructureHouse()
    entry = house.entered()
    n = entry.contracts
    assert of(SubmitOrder, house.settle(entry.trade_id, LONG_CALL, n, price="0.20")) == []
    out = house.wait(0.001)
    assert [(t.rule, t.purpose) for t in of(ExitTriggered, out)] == [("orphan_leg", Purpose.FORCED)]
    order = one(SubmitOrder, out)
    assert (order.symbol, order.side, order.contracts) == (WITHOUT_WING, Side.SELL, n)
    assert order.order_type is OrderType.MARKET
    assert one(TradeClosed, house.done(order)).trade_id == entry.trade_id


def test_an_exit_that_works_for_a_contract_that_is_gone_is_taken_back_and_planned_anew() -> None:
    house = StructureHouse()
    entry = house.entered()
    working = one(SubmitOrder, house.requote(**{SHORT_CALL: (2.69, 2.71)}))
    out = house.settle(entry.trade_id, LONG_CALL, entry.contracts, price="0.20")
    assert [cancel.order_id for cancel in of(CancelOrder, out)] == [working.order_id]
    assert of(SubmitOrder, house.wait(1)) == []  # until its end is known, nothing else leaves
    house.done(working, units=0, end="canceled: gone")
    order = one(SubmitOrder, house.wait(3))
    assert order.symbol == WITHOUT_WING
    assert [t.rule for t in of(ExitTriggered, house.all)] == ["stop", "orphan_leg"]


def test_shares_of_an_assignment_are_closed_after_the_options() -> None:
    house = StructureHouse()
    entry = house.entered()
    n = entry.contracts
    house.settle(entry.trade_id, SHORT_CALL, n, Ending.ASSIGNED, shares=-100 * n, share_price="615")
    first = one(SubmitOrder, house.wait(0.001))
    assert first.symbol == "SPY:+260105C620+260105P580-260105P585"
    house.done(first)
    house.tell(Quote("SPY", house.at_ns, 616.0, 100, 616.1, 100))
    second = one(SubmitOrder, house.wait(3))
    assert (second.symbol, second.side, second.contracts) == ("SPY", Side.BUY, 100 * n)
    assert one(TradeClosed, house.done(second)).trade_id == entry.trade_id
    assert [t.rule for t in of(ExitTriggered, house.all)] == ["orphan_leg"]


def test_all_legs_that_expire_in_one_turn_are_no_orphans() -> None:
    house = StructureHouse()
    entry = house.entered_until_expiry()
    for symbol in NAMED:
        house.settle(entry.trade_id, symbol, entry.contracts, Ending.EXPIRED)
        house.wait(1)
    assert len(of(TradeClosed, house.all)) == 1
    # The time to be flat has passed, but nothing can be sent for what is gone, and nothing is called an orphan.
    assert {t.rule for t in of(ExitTriggered, house.all)} == {"flat"}
    assert len(house.orders()) == 1


def test_an_orphan_of_the_night_is_closed_at_the_open_and_known_after_a_restart() -> None:
    house = StructureHouse()
    entry = house.entered_until_expiry()
    n = house.assigned(entry)
    assert [t.rule for t in of(ExitTriggered, house.wait(1))] == ["orphan_leg"]
    assert len(house.orders()) == 1
    told = of(ExitTriggered, house.all)
    watches = house.gate._exits
    watches.restore(of(TradeOpened, house.all), (), (), told)
    restored = watches.watches[entry.trade_id]
    assert (restored.orphaned, restored.leaving) == (True, True)
    house.at_ns = TABLE.sessions[1].open_ns
    out = house.wait(0)
    assert of(SessionOpened, out) != []
    order = of(SubmitOrder, house.all)[-1]
    assert (order.symbol, order.side, order.contracts) == ("SPY", Side.BUY, 100 * n)


def test_a_partly_filled_exit_leaves_whole_units_and_goes_on() -> None:
    house = StructureHouse()
    entry = house.entered()
    order = one(SubmitOrder, house.requote(**{SHORT_CALL: (2.69, 2.71)}))
    house.done(order, units=3, end="canceled: by the broker")
    again = one(SubmitOrder, house.wait(3))
    assert (again.symbol, again.contracts) == (NAME, entry.contracts - 3)
    assert {t.rule for t in of(ExitTriggered, house.all)} == {"stop"}


def test_while_an_order_of_the_trade_is_not_over_its_legs_are_not_judged() -> None:
    house = StructureHouse()
    order = one(SubmitOrder, house.tell(condor()))
    part = OrderFilled(
        "x1", order.order_id, f"{order.order_id}-1", "b", order.trade_id, "breakout", SHORT_CALL, Side.SELL,
        Purpose.ENTRY, 3, USD("0.70"), USD(0), USD(0), house.at_ns,
    )  # fmt: skip
    house.tell(part)
    assert of(ExitTriggered, house.requote(**{SHORT_CALL: (4.0, 4.1)})) == []
    # Its end without the other legs, which should not be, is an orphan: a naked short is bought back at once.
    out = house.done(order, units=0, end="canceled: by the broker")
    bought = one(SubmitOrder, out)
    assert (bought.symbol, bought.side, bought.contracts) == (SHORT_CALL, Side.BUY, 3)


def test_a_scale_out_sells_units_of_the_whole_condor() -> None:
    house = StructureHouse()
    plan = condor_plan(target_fraction=0.8, scale_out_at_fraction=0.4, scale_out_share=0.5)
    entry = house.entered(condor(exit_plan=plan))
    quotes: Any = {SHORT_PUT: (0.49, 0.51), SHORT_CALL: (0.49, 0.51)}
    # Without a bid for a wing half of it could not be sold as a whole: it waits.
    assert of(SubmitOrder, house.requote(**{SHORT_PUT: (0.2, 0.22), SHORT_CALL: (0.2, 0.22), LONG_CALL: NO_WING})) == []
    order = one(SubmitOrder, house.requote(**quotes))
    assert (order.symbol, order.contracts) == (NAME, entry.contracts // 2)


def test_restoring_a_gate_keeps_watching_a_structure() -> None:
    house = StructureHouse()
    entry = house.entered()
    opened = one(TradeOpened, house.all)
    fresh = StructureHouse()
    fresh.gate.restore(Stored(orders=(entry,), opened=(opened,)))
    watch = fresh.gate._exits.watches[entry.trade_id]
    assert (watch.symbol, watch.orphaned, watch.leaving) == (NAME, False, False)
    assert fresh.gate._book.working[entry.order_id].left == entry.contracts

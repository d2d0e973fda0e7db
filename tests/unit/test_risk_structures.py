"""Entries of structures: what is refused and why, what a unit may lose, the ladder, the size, what is committed."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.messages import CancelOrder, Intent, IntentApproved, IntentRefused, SubmitOrder
from oracle.core.sessions import MINUTE_NS
from oracle.core.structures import legs_of, structure_name
from oracle.core.vocabulary import OrderType, Side
from oracle.risk.book import Working
from oracle.risk.exposure import committed, net_delta_usd
from oracle.risk.limits import RiskLimits
from oracle.risk.sizing import net_delta
from tests.unit.builders import CALL, LATER_CALL, START_NS, TABLE, account, intent, of, one
from tests.unit.structures_house import (
    LONG_CALL,
    LONG_PUT,
    NAME,
    NAMED,
    QUOTES,
    SHORT_CALL,
    SHORT_PUT,
    StructureHouse,
    condor,
    condor_plan,
    leg,
)
from tests.unit.test_risk_rules import GOOD

USD = Decimal


def refusals(house: StructureHouse, wish: Intent) -> dict[str, str]:
    """What each broken rule saw."""
    answer: IntentRefused = one(IntentRefused, house.tell(wish))
    return {refusal.rule: refusal.observed for refusal in answer.refusals}


def test_a_condor_is_sold_on_a_net_ladder_with_its_worst_case() -> None:
    house = StructureHouse()
    out = house.tell(condor())
    order: SubmitOrder = one(SubmitOrder, out)
    assert (order.symbol, order.side, order.order_type) == (NAME, Side.BUY, OrderType.LIMIT)
    # Mid -1.00, far touch -0.96: 25, 40 and 50 % of a spread of 0.08.
    assert [step.limit_usd for step in order.ladder] == [USD(p) for p in ("-1.00", "-0.98", "-0.97", "-0.96")]
    assert (order.worst_price_usd, order.decision_mid_usd) == (USD("-0.96"), USD("-1.00"))
    # Width 5, credit 0.96: 404 a unit; planned is twice the largest credit, 200. 2 % of equity allows 10, 5 % 12.
    approved: IntentApproved = one(IntentApproved, out)
    assert (approved.headroom["trade_loss"], approved.headroom["position_worst_case"]) == (10, 12)
    assert order.contracts == 10
    assert order.worst_case_usd == USD(4040)
    assert order.planned_risk_usd == USD(2000)
    assert order.max_gain_usd == USD(960)
    assert order.break_evens == (USD("584.0400"), USD("615.9600"))


def test_a_stop_beyond_the_largest_loss_plans_no_more_than_that() -> None:
    house = StructureHouse()
    order = one(SubmitOrder, house.tell(condor(exit_plan=condor_plan(stop_fraction=10.0))))
    assert order.planned_risk_usd == order.worst_case_usd == 404 * order.contracts


def test_a_bought_straddle_costs_its_premium() -> None:
    house = StructureHouse()
    put = "SPY260105P00600000"
    house.quote(put, 9.95, 10.05, -0.5)
    house.quote(CALL, 9.95, 10.05, 0.5)
    legs = (leg(CALL, Side.BUY, 9.95, 10.05), leg(put, Side.BUY, 9.95, 10.05))
    order = one(
        SubmitOrder, house.tell(condor(legs=legs, exit_plan=condor_plan(stop_fraction=0.35, target_fraction=0.3)))
    )
    assert order.worst_price_usd == USD("20.10")
    assert order.worst_case_usd == 2010 * order.contracts
    assert order.planned_risk_usd == USD("703.50") * order.contracts
    assert order.max_gain_usd is None
    assert order.break_evens == (USD("579.9000"), USD("620.1000"))


@pytest.mark.parametrize(
    ("legs", "rule", "observed"),
    [
        ((leg(SHORT_CALL, Side.SELL, 0.69, 0.71),), "naked_short", f"sell {SHORT_CALL} to open"),
        (
            (leg(SHORT_CALL, Side.SELL, 0.69, 0.71, 2), leg(LONG_CALL, Side.BUY, 0.19, 0.21)),
            "naked_short", f"sell {SHORT_CALL} to open",
        ),
        (
            (leg(SHORT_CALL, Side.SELL, 0.69, 0.71), leg(LONG_PUT, Side.BUY, 0.19, 0.21)),
            "naked_short", f"sell {SHORT_CALL} to open",
        ),
        (
            (leg(LATER_CALL, Side.SELL, 1.0, 1.02), leg(CALL, Side.BUY, 0.5, 0.52)),
            "naked_short", f"sell {LATER_CALL} to open",
        ),
        (
            (leg(SHORT_CALL, Side.SELL, 0.69, 0.71, 2), leg(LONG_CALL, Side.BUY, 0.19, 0.21, 2)),
            "structure", "a structure's ratios are whole, positive and in lowest terms",
        ),
        (
            (leg(SHORT_CALL, Side.SELL, 0.69, 0.71), leg("QQQ260105C00620000", Side.BUY, 0.19, 0.21)),
            "structure", "a structure has legs of several underlyings",
        ),
        ((leg("SPY", Side.BUY, 599, 601), leg(LONG_CALL, Side.BUY, 0.19, 0.21)), "structure", None),
    ],
)  # fmt: skip
def test_what_one_order_must_not_be_is_refused(legs: Any, rule: str, observed: str | None) -> None:
    house = StructureHouse()
    house.quote(CALL, 0.5, 0.52, 0.5)
    house.quote(LATER_CALL, 1.0, 1.02, 0.5)
    seen = refusals(house, condor(legs=legs))
    assert rule in seen
    assert observed in (None, seen[rule])
    assert house.orders() == []


@pytest.mark.parametrize(
    ("quotes", "rule", "observed"),
    [
        ({LONG_PUT: (None, 0.11)}, "two_sided", f"{LONG_PUT} bid none, ask 0.11 USD"),
        ({LONG_PUT: (None, 0.0)}, "two_sided", f"{LONG_PUT} bid none, ask 0 USD"),
        ({SHORT_PUT: (None, 0.02)}, "two_sided", f"{SHORT_PUT} bid none, ask 0.02 USD"),
        ({SHORT_CALL: (0.0, 0.02)}, "two_sided", f"{SHORT_CALL} bid 0 USD, ask 0.02 USD"),
        ({SHORT_CALL: (0.80, 0.71)}, "two_sided", f"{SHORT_CALL} bid 0.8 USD, ask 0.71 USD"),
        ({SHORT_CALL: (0.40, 1.00)}, "spread", "0.66 USD on mids of 1.80 USD"),
        # Legs that pay 5.1 for a width of 5 cannot lose: they are quoted wrongly.
        (
            {SHORT_CALL: (2.80, 2.82), SHORT_PUT: (2.80, 2.82)}, "structure",
            "no loss is possible at -5.18 USD: the quotes cannot be right",
        ),
        ({LONG_PUT: (0.69, 0.71), LONG_CALL: (0.69, 0.71)}, "structure", "a net price from 0.00 to 0.04 USD"),
        # One that costs instead of paying can only lose: 35 % of 0.44 would be a small stop for a loss of 5.44.
        ({LONG_PUT: (0.89, 0.91), LONG_CALL: (0.89, 0.91)}, "structure", "no gain is possible at 0.44 USD"),
        ({SHORT_CALL: (1.29, 1.31)}, "price_collar", "-1.00 USD against a mid of -1.60 USD"),
    ],
)  # fmt: skip
def test_prices_that_say_nothing_are_refused(quotes: Any, rule: str, observed: str) -> None:
    house = StructureHouse()
    house.requote(**quotes)
    assert refusals(house, condor())[rule] == observed


@pytest.mark.parametrize("bid", [None, 0.0])
def test_a_wing_that_is_offered_at_next_to_nothing_needs_no_bid(bid: float | None) -> None:
    """It is bought at its offer and counts nothing when sold; its delta is only bounded, so the larger net counts."""
    house = StructureHouse()
    house.requote(**{LONG_CALL: (bid, 0.04)})
    del house.chains.deltas[LONG_CALL]
    legs = tuple(
        leg(symbol, side, *(QUOTES[symbol] if symbol != LONG_CALL else (0.0, 0.04))) for symbol, side in NAMED.items()
    )
    out = house.tell(condor(legs=legs))
    approved = one(IntentApproved, out)
    order = one(SubmitOrder, out)
    assert approved.contracts > 0
    # Touch: 0.69 + 0.69 received, 0.21 + 0.04 paid.
    assert order.worst_price_usd == Decimal("-1.13")
    assert order.worst_case_usd == (500 - 113) * order.contracts


def test_the_oldest_leg_gives_the_age_and_a_leg_without_a_quote_is_unknown() -> None:
    house = StructureHouse()
    house.quote(LONG_PUT, *QUOTES[LONG_PUT], age_s=16)
    assert refusals(house, condor(1))["quote_age"] == "16.0 s"
    del house.chains.quotes[LONG_PUT]
    seen = refusals(house, condor(2))
    assert (seen["quote_age"], seen["structure"], seen["two_sided"]) == (
        "unknown", "unknown", f"{LONG_PUT} is not quoted",
    )  # fmt: skip


def test_structures_need_level_three_and_a_contract_that_is_listed() -> None:
    house = StructureHouse()
    house.tell(account(house.at_ns, options_level=2))
    house.requote()
    assert refusals(house, condor(1))["options_level"] == "level 2"
    house.chains.symbols = tuple(s for s in house.chains.symbols if s != LONG_CALL)
    assert refusals(house, condor(2))["contract_listed"] == "unknown"


def test_nothing_is_opened_late_on_a_legs_expiry_day() -> None:
    house = StructureHouse()
    house.at_ns = TABLE.sessions[0].close_ns - 30 * MINUTE_NS
    seen = refusals(house, condor(at_ns=house.at_ns))
    assert seen["expiry_window"] == "30.0 min before expiry"
    # A calendar's flat time must not be after its first expiry.
    legs = (leg(CALL, Side.SELL, 0.5, 0.52), leg(LATER_CALL, Side.BUY, 1.0, 1.02))
    flat_ns = TABLE.sessions[1].late("15:00")
    early = StructureHouse()
    early.quote(CALL, 0.5, 0.52, 0.5)
    early.quote(LATER_CALL, 1.0, 1.02, 0.5)
    seen = refusals(early, condor(legs=legs, exit_plan=condor_plan(flat_ns=flat_ns)))
    assert set(seen) == {"exit_plan"}


def test_a_leg_against_what_is_held_or_worked_is_refused() -> None:
    house = StructureHouse()
    first = house.tell(condor(1))
    order = one(SubmitOrder, first)
    against = (leg(SHORT_CALL, Side.BUY, 0.69, 0.71), leg(LONG_CALL, Side.SELL, 0.19, 0.21))
    seen = refusals(house, condor(2, legs=against, strategy="scalp"))
    assert seen["self_cross"] == f"working: {order.order_id}"
    house.done(order, ("0.70", "0.20", "0.20", "0.70"))
    seen = refusals(house, condor(3, legs=against, strategy="scalp"))
    assert seen["contract_conflict"] == f"buy against -10 held of {SHORT_CALL}; sell against 10 held of {LONG_CALL}"
    assert "duplicate_intent" not in seen


def test_working_and_open_structures_use_the_open_worst_case() -> None:
    house = StructureHouse()
    order = one(SubmitOrder, house.tell(condor(1)))
    record = Working(order)
    assert (record.worst_each_usd, record.planned_each_usd) == (USD(404), USD(200))
    limits = RiskLimits()

    def used() -> tuple[Decimal | None, Decimal | None]:
        sums = committed(house.engine.context(), limits, house.gate._book, ())
        return sums.planned_usd, sums.worst_usd

    assert used() == (USD(2000), USD(4040))
    house.done(order, ("0.70", "0.20", "0.20", "0.70"), 4, end="canceled: by the broker")
    # Four units at a credit of 1.00: 400 each at worst, 200 each to the stop.
    assert used() == (USD(800), USD(1600))
    # The mark is nearer to the stop: 1.00 of the 2.00 is lost already.
    house.requote(**{SHORT_CALL: (1.69, 1.71)})
    assert used() == (USD(400), USD(1600))


def test_only_whole_units_count_as_filled() -> None:
    house = StructureHouse()
    order = one(SubmitOrder, house.tell(condor(1)))
    record = house.gate._book.working[order.order_id]
    record.leg_fills.update({SHORT_CALL: 3, LONG_CALL: 3, SHORT_PUT: 2, LONG_PUT: 5})
    assert (record.filled, record.left) == (2, 8)


def test_a_single_entry_of_a_leg_that_an_exit_needs_goes_first() -> None:
    house = StructureHouse()
    house.entered()
    wing = intent(5, LONG_CALL, at_ns=house.at_ns, bid="0.19", ask="0.21", strategy="scalp")
    working = one(SubmitOrder, house.tell(msgspec.structs.replace(wing, exit_plan=condor_plan(stop_fraction=0.5))))
    out = house.requote(**{SHORT_CALL: (2.69, 2.71)})
    assert [cancel.order_id for cancel in of(CancelOrder, out)] == [working.order_id]
    assert of(SubmitOrder, out) == []
    out = house.done(working, units=0, end="canceled: exit")
    assert one(SubmitOrder, out).symbol == NAME


def test_a_neutral_structure_has_room_until_the_net_itself_is_too_large() -> None:
    house = StructureHouse()
    assert one(IntentApproved, house.tell(condor(1))).headroom["net_delta"] == 100
    base = msgspec.structs.replace(
        GOOD, unit=legs_of(NAME), symbol=NAME, trade_delta_usd=USD(0), net_delta_usd=USD(-194_002)
    )
    assert net_delta(base).contracts == 100
    assert net_delta(base).equity_needed_usd == USD("97001.00")
    over = net_delta(msgspec.structs.replace(base, net_delta_usd=USD(194_003)))
    assert (over.contracts, over.observed) == (0, "194003.00 USD used and none a contract, of 194002.00 USD")


def test_the_helpers_name_is_the_structures() -> None:
    assert structure_name(legs_of(NAME)) == NAME
    assert condor().legs[0].quoted_ns == START_NS


@pytest.mark.parametrize(("direction", "net"), [(1, 54_000), (-1, -36_000), (0, 54_000)])
def test_a_held_wing_without_a_volatility_counts_as_the_worse_end_of_what_it_can_be(direction: int, net: int) -> None:
    house = StructureHouse()
    house.entered()  # ten units
    house.chains.deltas[LONG_CALL] = None
    gate = house.gate
    # 10 x (-0.06 + 0.15 - 0.15 + x) x 100 x 600 USD, with x from nothing to the 0.15 of the strike next to it.
    assert net_delta_usd(USD(direction), house.engine.context(), gate._house, gate._book) == net
    # So a wing that nobody bids for does not keep everybody else out.
    house.quote(CALL, 9.95, 10.00, 0.5)
    house.tell(intent(at_ns=house.at_ns, valid_until_ns=house.at_ns + MINUTE_NS))
    answer = [m for m in house.all if isinstance(m, IntentApproved | IntentRefused)][-1]
    assert "net_delta" not in {r.rule for r in getattr(answer, "refusals", ())}


def test_a_held_leg_is_bounded_by_known_contracts_of_its_own_kind_only() -> None:
    house = StructureHouse()
    house.entered()
    context, gate = house.engine.context, house.gate
    house.chains.deltas.update({LONG_CALL: None, SHORT_CALL: None, CALL: 0.5})  # the next strike towards the money
    # 10 x (-0.06 + 0.15 - s + x) with s and x each from nothing to 0.50: the worse ends, in either direction.
    assert net_delta_usd(USD(1), context(), gate._house, gate._book) == USD("354000")
    assert net_delta_usd(USD(-1), context(), gate._house, gate._book) == USD("-246000")
    house.chains.deltas[CALL] = None
    assert net_delta_usd(USD(1), context(), gate._house, gate._book) is None

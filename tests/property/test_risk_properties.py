"""No sequence of intents, fills and prices makes the gate exceed a limit at the worst price.

The sums are done here from the orders and fills alone, not with the gate's own memory.
"""

from decimal import Decimal
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.core.messages import IntentApproved, IntentRefused, Leg, OrderClosed, OrderFilled, SendOrder, SubmitOrder
from oracle.core.reports import SubmitReturned
from oracle.core.vocabulary import Outcome, Purpose, Side
from oracle.risk.ladder import TickRule, build_ladder
from oracle.risk.limits import BOUNDS, LadderSettings, RiskLimits
from tests.unit.builders import CALL, OTHER_CALL, PUT, House, broker_order, execution, intent, of, one, plan

SYMBOLS = (CALL, OTHER_CALL, PUT)
DELTAS = {CALL: 0.5, OTHER_CALL: 0.3, PUT: -0.4}
SPOT = Decimal(600)


def check_limits(house: House, orders: list[SubmitOrder], equity: Decimal, day_start: Decimal) -> None:
    """Every limit with a size in it, summed over fills at their price and the rest at the worst price."""
    over = {end.order_id for end in of(OrderClosed, house.all)}
    planned, worst, deltas = Decimal(0), Decimal(0), dict.fromkeys(SYMBOLS, 0)
    for order in orders:
        fills = [fill for fill in of(OrderFilled, house.all) if fill.order_id == order.order_id]
        filled = sum(fill.contracts for fill in fills)
        left = 0 if order.order_id in over else order.contracts - filled
        assert order.worst_price_usd is not None
        assert order.exit_plan is not None
        stop = Decimal(repr(order.exit_plan.stop_fraction))
        paid = sum((fill.price_usd * fill.contracts for fill in fills), Decimal(0)) + left * order.worst_price_usd
        planned += paid * 100 * stop
        worst += paid * 100
        deltas[order.symbol] += filled + left
    last = orders[-1]
    assert last.planned_risk_usd <= equity * Decimal("0.02") + Decimal("0.01")
    assert last.worst_case_usd <= equity * Decimal("0.05")
    assert worst <= equity * Decimal("0.20")
    # With every stop hit, the day ends inside the budget.
    assert planned <= day_start * Decimal("0.03") + Decimal("0.01")
    net = sum(Decimal(str(DELTAS[s])) * 100 * n * SPOT for s, n in deltas.items())
    assert abs(net) <= equity * 2 + 1


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 14), st.integers(3_000, 3_000_000))
def test_no_sequence_of_intents_exceeds_a_limit(random: Random, count: int, cash: int) -> None:
    house = House(cash=str(cash))
    orders: list[SubmitOrder] = []
    for n in range(count):
        house.spot(600.0)
        symbol = random.choice(SYMBOLS)
        cents = random.randint(20, 1500)
        bid, ask = cents / 100, (cents + random.randint(1, max(cents // 15, 1))) / 100
        house.quote(symbol, bid, ask, DELTAS[symbol])
        for held in SYMBOLS:  # what is held stays fresh and where it was bought: the sums above know only fills
            if held != symbol and held in house.chains.quotes:
                old = house.chains.quotes[held]
                house.quote(held, old.bid, old.ask, DELTAS[held])
        leg = Leg(symbol, Side.BUY, 1, Decimal(str(bid)), Decimal(str(ask)), house.at_ns)
        stop = random.choice((0.3, 0.5, 0.75, 1.0))
        wish = plan(stop_fraction=stop, target_fraction=None, breakeven_after_fraction=None)
        strategy = random.choice(("breakout", "scalp"))
        before = house.engine.context().equity
        out = house.tell(intent(n, symbol, at_ns=house.at_ns, legs=(leg,), exit_plan=wish, strategy=strategy))
        assert len(of(IntentApproved, out)) + len(of(IntentRefused, out)) == 1
        if of(IntentApproved, out):
            orders.append(one(SubmitOrder, out))
            assert before.equity_usd is not None
            assert before.day_start_usd is not None
            check_limits(house, orders, before.equity_usd, before.day_start_usd)
            work(house, random, one(SendOrder, out))
        if random.random() < 0.5:
            house.wait(random.choice((1.0, 5.0)))


def work(house: House, random: Random, sent: SendOrder) -> None:
    """Let the broker reject an order, or fill it in part or whole at its limit, or leave it working."""
    if random.random() < 0.2:
        house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "40310000", "no"))
        return
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent), "", ""))
    filled = random.randint(0, sent.contracts)
    if filled:
        price = str(sent.limit_usd)
        house.tell(execution(sent, f"x-{sent.client_order_id}", filled, filled, price, house.at_ns))


@given(
    st.integers(1, 5000),
    st.integers(0, 400),
    st.sampled_from((Side.BUY, Side.SELL)),
    st.booleans(),
    st.booleans(),
)
def test_ladders_walk_towards_the_touch_and_never_beyond(
    bid_cents: int, wide: int, side: Side, penny_class: bool, penny_always: bool
) -> None:
    bid, ask = Decimal(bid_cents) / 100, Decimal(bid_cents + wide) / 100
    ticks = TickRule(penny_class, penny_always)
    prices = [step.limit_usd for step in build_ladder(bid, ask, side, ticks, LadderSettings())]
    known = [price for price in prices if price is not None]
    assert known == prices
    for price in known:
        assert price > 0
        assert price % ticks.tick(price) == 0
        assert price <= ask if side is Side.BUY else price >= bid
    assert known == sorted(set(known), reverse=side is Side.SELL)


@given(st.sampled_from(sorted(BOUNDS)), st.decimals("0.000001", "1000000", places=6))
def test_limits_only_tighten(name: str, value: Decimal) -> None:
    bound = BOUNDS[name]
    whole = isinstance(getattr(RiskLimits(), name), int)
    if whole and value != int(value):
        return
    try:
        made = RiskLimits.model_validate({name: value})
    except ValueError as error:
        assert not bound.allows(value)
        assert name in str(error)
        assert str(bound.value) in str(error)
    else:
        assert bound.allows(value)
        assert getattr(made, name) == value


@given(st.lists(st.sampled_from(list(Purpose)), min_size=1))
def test_only_entries_are_ever_counted_as_exposure(purposes: list[Purpose]) -> None:
    from oracle.risk.book import Working
    from tests.unit.builders import entry_order

    for purpose in purposes:
        record = Working(entry_order(purpose=purpose))
        assert (record.worst_each_usd > 0) == (purpose is Purpose.ENTRY)

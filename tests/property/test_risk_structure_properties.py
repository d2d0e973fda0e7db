"""Structures: no size breaks a rule, no uncovered short is let through, and no exit ever uncovers one.

The sums and the cover are worked out here from legs, orders and the ledger, not with risk's own functions.
"""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.core.errors import InvariantError, RemoteError
from oracle.core.instruments import is_option, parse_occ
from oracle.core.messages import ExitTriggered, IntentApproved, IntentRefused, Leg, SubmitOrder, TradeClosed
from oracle.core.structures import OrderLeg, legs_of, structure_name
from oracle.core.vocabulary import Ending, OrderType, Purpose, Side
from oracle.risk.book import Working
from tests.unit.builders import CALL, LATER_CALL, TABLE, of, one
from tests.unit.structures_house import LONG_CALL, LONG_PUT, NAMED, QUOTES, StructureHouse, condor, condor_plan

STRIKES = (580, 585, 600, 615, 620)
EXPIRIES = ("260105", "260107", "260109")
LISTED = tuple(f"SPY{e}{r}{s * 1000:08d}" for e in EXPIRIES for r in "CP" for s in STRIKES)


def is_covered(legs: Iterable[tuple[str, int]]) -> bool:
    """Give every short, the longest-lived first, a long of its right that lives as long; False when one is left."""
    free: dict[str, list[str]] = {"C": [], "P": []}
    shorts: list[tuple[str, str]] = []
    for symbol, n in legs:
        contract = parse_occ(symbol)
        if n > 0:
            free[contract.right] += [contract.expiry] * n
        else:
            shorts += [(contract.expiry, contract.right)] * -n
    for expiry, right in sorted(shorts, reverse=True):
        able = [date for date in free[right] if date >= expiry]
        if not able:
            return False
        free[right].remove(min(able))
    return True


def drawn_legs(random: Random, house: StructureHouse) -> list[Leg]:
    """One to four legs of different contracts with quotes around a fair-looking price."""
    legs = []
    for symbol in random.sample(LISTED, random.randint(1, 4)):
        contract = parse_occ(symbol)
        strike = float(contract.strike_usd)
        inside = max(0.0, 600 - strike if contract.is_call else strike - 600)
        mid = inside + 4.0 * 0.9 ** abs(strike - 600) + 0.4 * EXPIRIES.index(symbol[3:9])
        wide = random.choice((0.01, 0.02, 0.05))
        bid, ask = round(mid - wide, 2), round(mid + wide, 2)
        house.quote(symbol, bid, ask, random.choice((0.3, 0.1)) * (1 if contract.is_call else -1))
        side, ratio = random.choice(list(Side)), random.choice((1, 1, 1, 2))
        legs.append(Leg(symbol, side, ratio, Decimal(str(bid)), Decimal(str(ask)), house.at_ns))
    return legs


def unit(legs: Iterable[Leg]) -> list[OrderLeg]:
    return [OrderLeg(leg.symbol, leg.side, leg.ratio) for leg in legs]


def worst_by_hand(legs: list[OrderLeg], price: Decimal) -> Decimal:
    """The largest loss of a unit over prices of the underlying in dollar steps, far beyond every strike."""
    rows = [(parse_occ(leg.symbol), leg.signed) for leg in legs]
    values = []
    for spot in range(1300):
        total = Decimal(0)
        for contract, n in rows:
            gain = spot - contract.strike_usd if contract.is_call else contract.strike_usd - spot
            total += n * max(gain, Decimal(0))
        values.append(total - price)
    return max(-min(values), Decimal(0)) * 100


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(5_000, 2_000_000))
def test_a_structure_that_is_let_through_is_covered_and_its_size_breaks_no_rule(random: Random, cash: int) -> None:
    house = StructureHouse(cash=str(cash))
    house.chains.symbols = LISTED
    legs = drawn_legs(random, house)
    stop = random.choice((0.35, 0.75, 1.0, 2.0))
    plan = condor_plan(stop_fraction=stop, short_delta_stop=None, flat_ns=TABLE.sessions[0].late("15:00"))
    out = house.tell(condor(legs=tuple(legs), exit_plan=plan, at_ns=house.at_ns))
    assert len(of(IntentApproved, out)) + len(of(IntentRefused, out)) == 1
    shape = unit(legs)
    try:
        structure_name(shape)
    except (InvariantError, RemoteError):
        assert of(SubmitOrder, out) == []
        return
    if not is_covered((leg.symbol, leg.signed) for leg in shape):
        assert "naked_short" in {r.rule for r in one(IntentRefused, out).refusals}
        return
    if not of(SubmitOrder, out):
        return
    order: SubmitOrder = one(SubmitOrder, out)
    assert sorted(legs_of(order.symbol)) == sorted(shape)
    equity, worst_price = Decimal(cash), order.worst_price_usd
    assert worst_price is not None
    for step in order.ladder:
        assert step.limit_usd is not None
        assert step.limit_usd <= worst_price
        worst = worst_by_hand(shape, step.limit_usd) * order.contracts
        planned = min(abs(step.limit_usd) * 100 * Decimal(repr(stop)) * order.contracts, worst)
        assert worst <= order.worst_case_usd <= equity * Decimal("0.05")
        assert planned <= order.planned_risk_usd <= equity * Decimal("0.02") + Decimal("0.01")
        assert planned <= equity * Decimal("0.03")
    record = Working(order)
    assert record.worst_each_usd * order.contracts == order.worst_case_usd


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_random_structure_with_an_uncovered_short_is_always_refused(random: Random) -> None:
    house = StructureHouse()
    house.chains.symbols = LISTED
    legs = drawn_legs(random, house)
    shape = [(leg.symbol, leg.side.sign * leg.ratio) for leg in legs]
    if is_covered(shape):
        return
    out = house.tell(condor(legs=tuple(legs), at_ns=house.at_ns))
    assert of(SubmitOrder, out) == []
    assert "naked_short" in {refusal.rule for refusal in one(IntentRefused, out).refusals}


# --------------------------------------------------------------------------------------------------- life after entry


def uncovered(held: Counter[str]) -> int:
    """Short contracts without a long of their right (all expire together here)."""
    out = 0
    for right in "CP":
        same = [n for s, n in held.items() if is_option(s) and parse_occ(s).right == right]
        out += max(0, -sum(same))
    return out


def check_exit(house: StructureHouse, order: SubmitOrder, held: Counter[str]) -> None:
    """However many units of it fill, no short loses its cover and nothing is sold or bought beyond flat."""
    sign = order.side.sign
    for k in range(order.contracts + 1):
        after = Counter(held)
        for leg in legs_of(order.symbol):
            after[leg.symbol] += sign * leg.signed * k
        assert uncovered(after) <= uncovered(held), (order.symbol, k)
        for symbol, n in after.items():
            assert abs(n) <= abs(held[symbol]), (order.symbol, symbol)
            assert n * held[symbol] >= 0
    market = order.purpose in (Purpose.STOP, Purpose.FORCED)
    assert (order.order_type is OrderType.MARKET) == market


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_sequence_of_fills_endings_and_cancels_makes_risk_uncover_a_short(random: Random) -> None:
    house = StructureHouse(cash=str(random.choice((9_000, 40_000, 100_000))))
    out = house.tell(condor())
    if not of(SubmitOrder, out):
        return
    entry: SubmitOrder = one(SubmitOrder, out)
    house.done(entry, ("0.70", "0.20", "0.20", "0.70"), random.randint(1, entry.contracts), end="window")
    known, working = 1, None
    for _ in range(14):
        trade = house.ledger.trade(entry.trade_id)
        if trade is None:
            break
        _act(house, random, entry.trade_id, working)
        made = house.orders()[known:]
        if made:
            assert len(made) == 1
            trade = house.ledger.trade(entry.trade_id)
            assert trade is not None
            check_exit(house, made[0], Counter({leg.symbol: leg.qty for leg in trade.legs}))
            known += 1
        working = _working(house)
    rules = {told.rule for told in of(ExitTriggered, house.all)}
    assert rules <= {"target", "stop", "short_delta", "orphan_leg"}
    # Left alone with a market for everything, whatever is left is closed.
    for _ in range(8):
        if working is not None:
            _fill(house, random, working, whole=True)
        house.wait(5)
        house.requote(**{s: (4.0, 4.02) if s not in (LONG_CALL, LONG_PUT) else QUOTES[s] for s in NAMED})
        working = _working(house)
    assert house.ledger.trade(entry.trade_id) is None
    assert house.ledger.positions() == []
    assert len(of(TradeClosed, house.all)) == 1


def _working(house: StructureHouse) -> SubmitOrder | None:
    """The one order that is not over; four legs never become several orders."""
    left = house.open_orders()
    assert len(left) <= 1
    return left[0] if left else None


def _act(house: StructureHouse, random: Random, trade_id: str, working: SubmitOrder | None) -> None:
    """One thing that may happen: prices move, an order fills or is cancelled, the broker ends a part of a leg."""
    kind = random.choice(("quote", "quote", "fill", "cancel", "settle", "wait"))
    if kind == "quote":
        quotes: dict[str, tuple[float | None, float | None]] = {}
        for symbol, side in NAMED.items():
            ask = random.choice((0.05, 0.30, 0.71, 1.70, 3.00))
            no_bid = side is Side.BUY and random.random() < 0.4
            quotes[symbol] = (None if no_bid else round(ask - 0.02, 2), ask)
        house.requote(**quotes)
    elif kind == "fill" and working is not None:
        _fill(house, random, working, whole=False)
    elif kind == "cancel" and working is not None:
        house.done(working, units=0, end="canceled: by the broker")
    elif kind == "settle":
        trade = house.ledger.trade(trade_id)
        options = [] if trade is None else [leg for leg in trade.legs if is_option(leg.symbol)]
        if options:
            leg = random.choice(options)
            n = random.randint(1, abs(leg.qty))
            if leg.qty > 0:
                house.settle(trade_id, leg.symbol, n, Ending.SOLD_OUT, "0.10")
            else:
                shares = -100 * n if parse_occ(leg.symbol).is_call else 100 * n
                strike = str(parse_occ(leg.symbol).strike_usd)
                house.settle(trade_id, leg.symbol, n, Ending.ASSIGNED, shares=shares, share_price=strike)
    else:
        house.wait(random.choice((0.001, 1.0, 4.0)))


def _fill(house: StructureHouse, random: Random, order: SubmitOrder, *, whole: bool) -> None:
    """Fill as many units as are still held, or fewer; the rest is cancelled, as a market in doubt would have it."""
    trade = house.ledger.trade(order.trade_id)
    held = Counter({} if trade is None else {leg.symbol: leg.qty for leg in trade.legs})
    able = min(abs(held[leg.symbol]) // leg.ratio for leg in legs_of(order.symbol))
    able = min(able, order.contracts)
    units = able if whole else random.randint(0, able)
    house.done(order, units=units, end="filled" if units == order.contracts else "canceled: by the broker")


def test_the_listed_contracts_are_the_houses() -> None:
    assert {CALL, LATER_CALL} <= set(LISTED)

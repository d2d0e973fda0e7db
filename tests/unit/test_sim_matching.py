"""Matching: who fills, at what price, how much, and that displayed size is spent once."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.core.errors import InvariantError
from oracle.core.sessions import NS
from oracle.sim.matching import Displayed, Line, Shown, match, net_price, stop_reached
from oracle.sim.source import Touch

D = Decimal
BUY, SELL = Line("A", 1, 1), Line("A", -1, 1)
TOUCH = Touch("A", 0, 1.20, 10, 1.30, 5)


def shown(price: str, size: int) -> Shown:
    return Shown(D(price), size)


@pytest.mark.parametrize(
    ("line", "limit", "resting", "price"),
    [
        (BUY, "1.35", False, "1.30"),  # an arriving buy gets the touch, not its limit
        (BUY, "1.35", True, "1.35"),  # a resting buy gets its limit
        (BUY, "1.30", False, "1.30"),
        (BUY, "1.29", False, None),
        (BUY, None, False, "1.30"),
        (BUY, None, True, "1.30"),  # a market order has no limit to fill at
        (SELL, "1.25", False, "1.30"),
        (SELL, "1.25", True, "1.25"),
        (SELL, "1.31", True, None),
    ],
)
def test_a_single_line(line: Line, limit: str | None, resting: bool, price: str | None) -> None:
    net = None if limit is None else D(limit) * line.sign
    done = match([line], [shown("1.30", 5)], 3, net, resting)
    assert (None if done is None else done.prices[0]) == (None if price is None else D(price))


def test_partial_fill_by_displayed_size() -> None:
    done = match([BUY], [shown("1.30", 5)], 12, D("1.30"), False)
    assert done is not None
    assert done.units == 5


def test_an_absent_side_fills_nothing() -> None:
    displayed = Displayed()
    assert displayed.shown(Touch("A", 0, None, 0, 1.30, 5), -1, 0) is None
    assert displayed.shown(Touch("A", 0, 1.2, 0, 1.30, 5), -1, 0) is None
    assert displayed.shown(None, 1, 0) is None
    assert match([BUY], [None], 1, None, False) is None
    assert match([BUY, Line("B", -1, 1)], [shown("1", 1), None], 1, None, False) is None


def test_a_spread_fills_whole_units_at_the_touches() -> None:
    lines = [Line("A", 1, 1), Line("B", -1, 2)]
    offered = [shown("3.00", 10), shown("1.00", 7)]
    assert net_price(lines, [s.price for s in offered]) == D("1.00")
    done = match(lines, offered, 9, D("1.00"), False)
    assert done is not None
    assert (done.units, done.prices) == (3, (D("3.00"), D("1.00")))
    assert match(lines, offered, 9, D("0.99"), False) is None
    credit = match([Line("A", -1, 1), Line("B", 1, 1)], [shown("2.00", 1), shown("0.80", 1)], 1, D("-1.20"), False)
    assert credit is not None
    assert (
        match([Line("A", -1, 1), Line("B", 1, 1)], [shown("2.00", 1), shown("0.80", 1)], 1, D("-1.21"), False) is None
    )


def test_displayed_size_is_spent_until_the_quote_or_the_second_changes() -> None:
    displayed = Displayed()
    displayed.take(TOUCH, 1, 4, 0)
    left = displayed.shown(TOUCH, 1, NS - 1)
    assert left == Shown(D("1.3"), 1)
    bid = displayed.shown(TOUCH, -1, 0)
    assert bid is not None
    assert bid.size == 10
    displayed.take(TOUCH, 1, 1, 0)
    assert displayed.shown(TOUCH, 1, 0) is None
    with pytest.raises(InvariantError):
        displayed.take(TOUCH, 1, 1, 0)
    assert displayed.shown(Touch("A", 5, 1.20, 10, 1.30, 6), 1, 5) == Shown(D("1.3"), 6)
    assert displayed.shown(TOUCH, 1, NS) == Shown(D("1.3"), 5)


@pytest.mark.parametrize(
    ("sign", "stop", "reached"), [(1, "1.30", True), (1, "1.31", False), (-1, "1.20", True), (-1, "1.19", False)]
)
def test_stops_trigger_by_the_touch(sign: int, stop: str, reached: bool) -> None:
    assert stop_reached(sign, D(stop), TOUCH) is reached
    assert not stop_reached(sign, D(stop), None)
    assert not stop_reached(sign, D(stop), Touch("A", 0, None, 0, None, 0))


prices = st.integers(1, 5000).map(lambda cents: D(cents) / 100)
sides = st.builds(Shown, prices, st.integers(1, 50))
legs = st.lists(st.tuples(st.sampled_from([1, -1]), st.integers(1, 3), sides), min_size=1, max_size=4)


@given(legs, st.integers(1, 100), st.none() | st.integers(-5000, 5000).map(lambda c: D(c) / 100), st.booleans())
def test_a_fill_is_never_worse_than_the_limit_nor_larger_than_shown(
    drawn: list[tuple[int, int, Shown]], units: int, limit: Decimal | None, resting: bool
) -> None:
    lines = [Line(f"S{i}", sign, ratio) for i, (sign, ratio, _) in enumerate(drawn)]
    offered = [s for _, _, s in drawn]
    if len(lines) == 1 and limit is not None:
        limit = abs(limit) * lines[0].sign
    done = match(lines, offered, units, limit, resting)
    if done is None:
        return
    assert 1 <= done.units <= units
    assert all(done.units * line.ratio <= s.size for line, s in zip(lines, offered, strict=True))
    if limit is not None:
        assert net_price(lines, done.prices) <= limit


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3 * NS)), max_size=30))
def test_no_second_ever_gives_more_than_it_shows(takes: list[tuple[int, int]]) -> None:
    displayed = Displayed()
    taken: dict[int, int] = {}
    for size, at_ns in sorted(takes, key=lambda t: t[1]):
        left = displayed.shown(TOUCH, 1, at_ns)
        if left is not None:
            wanted = min(size, left.size)
            displayed.take(TOUCH, 1, wanted, at_ns)
            taken[at_ns // NS] = taken.get(at_ns // NS, 0) + wanted
    assert all(0 < total <= TOUCH.ask_size for total in taken.values())

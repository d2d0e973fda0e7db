"""Money is exact: conversions lose nothing or refuse."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.core import money
from oracle.core.errors import InvariantError, RemoteError


@given(st.integers(-(10**15), 10**15))
def test_micros_round_trip(micros: int) -> None:
    assert money.to_micros(money.from_micros(micros)) == micros


def test_finer_than_a_micro_dollar_is_refused() -> None:
    with pytest.raises(InvariantError):
        money.to_micros(Decimal("0.0000001"))


@pytest.mark.parametrize("bad", ["", "abc", "NaN", "Infinity", None, float("nan")])
def test_remote_numbers_that_are_not_finite_name_the_field(bad: object) -> None:
    with pytest.raises(RemoteError, match="limit_price"):
        money.decimal_from_text(bad, "limit_price")


def test_remote_numbers() -> None:
    assert money.decimal_from_text("1.25", "x") == Decimal("1.25")
    assert money.decimal_from_text(0.1, "x") == Decimal("0.1")
    assert money.decimal_from_text(0, "x") == 0


@given(st.decimals(min_value=0, max_value=10_000, places=4), st.sampled_from(["0.01", "0.05", "0.10"]))
def test_ticks_bracket_the_price(price: Decimal, tick_text: str) -> None:
    tick = Decimal(tick_text)
    down, up = money.tick_down(price, tick), money.tick_up(price, tick)
    assert down <= price <= up
    assert up - down in (0, tick)
    assert down % tick == 0
    assert money.to_tick(price, tick) in (down, up)


@pytest.mark.parametrize(
    ("price", "penny_class", "penny_always", "tick"),
    [
        ("2.99", False, False, "0.05"),
        ("3.00", False, False, "0.10"),
        ("2.99", True, False, "0.01"),
        ("3.00", True, False, "0.05"),
        ("300", False, True, "0.01"),
    ],
)
def test_option_tick(price: str, penny_class: bool, penny_always: bool, tick: str) -> None:
    assert money.option_tick(Decimal(price), penny_class, penny_always) == Decimal(tick)


def test_prices_from_floats() -> None:
    assert money.price_from_float(0.1 + 0.2) == Decimal("0.3")
    assert money.price_from_float(0.0) == 0
    for bad in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(RemoteError):
            money.price_from_float(bad)

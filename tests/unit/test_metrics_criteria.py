"""What is asked of a strategy: the rows, and that nothing can be asked less."""

import math

import pytest

from oracle.core import criteria as core
from oracle.core.errors import ConfigurationError
from oracle.metrics.criteria import DEFAULT, NAMES, Criteria, criteria_for, row_of


def test_the_rows_are_those_that_were_promised() -> None:
    assert Criteria() == DEFAULT == Criteria(100, 0.65, 0.05, 1.5, 2.0, 0.10, 90.0)
    assert row_of("iron_condor") == row_of("opening_range_breakout") == DEFAULT
    assert row_of("momentum_scalping") == Criteria(100, 0.60, 0.05, 1.3, 1.8, 0.12, 90.0)


def test_stricter_values_take_the_place_of_the_rows() -> None:
    asked = criteria_for("iron_condor", {"trades": 150, "max_drawdown": 0.08, "sharpe": None})
    assert asked == Criteria(trades=150, max_drawdown=0.08)
    assert isinstance(asked.trades, int)


def test_values_equal_to_the_row_are_no_change() -> None:
    assert criteria_for("momentum_scalping", row_of("momentum_scalping").as_dict()) == row_of("momentum_scalping")


@pytest.mark.parametrize("strategy", ["iron_condor", "momentum_scalping"])
@pytest.mark.parametrize("name", NAMES)
def test_looser_values_are_refused(strategy: str, name: str) -> None:
    floor = row_of(strategy).as_dict()[name]
    step = 1 if name == "trades" else 0.001
    with pytest.raises(ConfigurationError, match=name):
        criteria_for(strategy, {name: floor + step if name == "max_drawdown" else floor - step})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "0.7"])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ConfigurationError, match="win_rate"):
        criteria_for("iron_condor", {"win_rate": value})


@pytest.mark.parametrize(
    ("name", "value"), [("trades", 100.5), ("win_rate", 1.0), ("max_drawdown", 0.0), ("wins", 1.0)]
)
def test_what_nobody_could_meet_or_does_not_exist_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        criteria_for("iron_condor", {name: value})


def test_the_floors_and_the_bounds_are_the_cores_own() -> None:
    """One table: what the daemon refuses at a request and what readiness asks cannot drift apart."""
    assert set(NAMES) == core.DEFAULT.keys() == core.UTMOST.keys()
    for strategy in ("iron_condor", *core.OF_STRATEGY):
        assert row_of(strategy).as_dict() == core.floors(strategy)
    for name, utmost in core.UTMOST.items():
        assert criteria_for("iron_condor", {name: utmost}).as_dict()[name] == utmost
        beyond = utmost / 2 if name == core.MAX_DRAWDOWN else utmost + 1
        assert not core.is_possible(name, beyond)
        with pytest.raises(ConfigurationError, match=name):
            criteria_for("iron_condor", {name: beyond})

"""What a strategy must show before it may ask for live capital, and how an operator makes that stricter.

Inputs: a strategy's name, the operator's stricter values, the floors of ``core/criteria.py``. Output: ``Criteria``.
Invariant: no value is ever looser than the floor; whoever tries gets a ConfigurationError that names the value.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Final

from oracle.core import criteria as core
from oracle.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Criteria:
    """One strategy's row: cumulative over one code and one set of parameters.

    Attributes:
        trades: closed round trips at least.
        win_rate: share of trades won, at least.
        above_break_even: points by which the win rate must exceed the strategy's own break-even (0.05 is 5 points).
        sharpe: annual Sharpe ratio of daily returns, at least.
        profit_factor: gross profit over gross loss, at least.
        max_drawdown: largest fall from a peak that the next 250 trades may bring, as a fraction.
        confidence: percent at which each of the above must be certain.
    """

    trades: int = int(core.DEFAULT[core.TRADES])
    win_rate: float = core.DEFAULT["win_rate"]
    above_break_even: float = core.DEFAULT["above_break_even"]
    sharpe: float = core.DEFAULT["sharpe"]
    profit_factor: float = core.DEFAULT["profit_factor"]
    max_drawdown: float = core.DEFAULT[core.MAX_DRAWDOWN]
    confidence: float = core.DEFAULT[core.CONFIDENCE]

    def as_dict(self) -> dict[str, float]:
        """Return the values by name."""
        return asdict(self)


DEFAULT: Final = Criteria()
NAMES: Final = tuple(field.name for field in fields(Criteria))


def _made(values: Mapping[str, float]) -> Criteria:
    return Criteria(
        trades=int(values["trades"]), win_rate=values["win_rate"], above_break_even=values["above_break_even"],
        sharpe=values["sharpe"], profit_factor=values["profit_factor"], max_drawdown=values["max_drawdown"],
        confidence=values["confidence"],
    )  # fmt: skip


# The strategies that have a row of their own.
ROWS: Final[Mapping[str, Criteria]] = MappingProxyType({name: _made(core.floors(name)) for name in core.OF_STRATEGY})


def row_of(strategy: str) -> Criteria:
    """Return the built-in row of a strategy; the default where it has none of its own."""
    return ROWS.get(strategy, DEFAULT)


def criteria_for(strategy: str, stricter: Mapping[str, float | None]) -> Criteria:
    """Return a strategy's criteria with the operator's stricter values in place of the row's.

    Args:
        strategy: the strategy's name; an unknown one, or the account, has the default row.
        stricter: value by name of ``Criteria``; None leaves the row's value.

    Raises:
        ConfigurationError: a name that does not exist, no finite number, or a value looser than the row's.
    """
    row = row_of(strategy)
    values: dict[str, float] = row.as_dict()
    for name, value in stricter.items():
        if name not in values:
            known = ", ".join(NAMES)
            raise ConfigurationError(
                f"criteria of {strategy}: {name}", "there is no such criterion", f"use one of {known}"
            )
        if value is not None:
            values[name] = _checked(strategy, name, value, values[name])
    return _made(values)


def _checked(strategy: str, name: str, value: float, floor: float) -> float:
    """Return a value that is no looser than ``floor``; raise ConfigurationError otherwise."""
    field = f"criteria of {strategy}: {name}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or (name == "trades" and value != int(value)):
        raise ConfigurationError(field, f"{value!r} is not a number that can stand here", "give a plain number")
    utmost = core.UTMOST[name]
    if core.is_stricter(name, floor, value):
        bound = "below" if value < floor else "above"
        raise ConfigurationError(
            field, f"{value:g} is {bound} {floor:g}, which is looser", "criteria only get stricter"
        )
    if core.is_stricter(name, value, utmost):
        raise ConfigurationError(
            field, f"{value:g} is beyond {utmost:g}, which nothing can meet", "disable the strategy instead"
        )
    return float(value)

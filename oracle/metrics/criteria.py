"""What a strategy must show before it may ask for live capital, and how an operator makes that stricter.

Inputs: a strategy's name and the operator's stricter values. Output: ``Criteria``. Invariant: no value is ever looser
than the row below; whoever tries gets a ConfigurationError that names the value.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final

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

    trades: int = 100
    win_rate: float = 0.65
    above_break_even: float = 0.05
    sharpe: float = 1.5
    profit_factor: float = 2.0
    max_drawdown: float = 0.10
    confidence: float = 90.0

    def as_dict(self) -> dict[str, float]:
        """Return the values by name."""
        return asdict(self)


DEFAULT: Final = Criteria()
# Scalping takes more and smaller trades: less is asked of each figure, and the same certainty.
ROWS: Final[Mapping[str, Criteria]] = {
    "momentum_scalping": Criteria(win_rate=0.60, sharpe=1.3, profit_factor=1.8, max_drawdown=0.12),
    "opening_range_breakout": DEFAULT,
}
# The most that still makes sense: beyond it a strategy could never be ready, which is what disabling is for.
_UTMOST: Final[Mapping[str, float]] = {
    "trades": 100_000, "win_rate": 0.99, "above_break_even": 0.5, "sharpe": 20.0, "profit_factor": 100.0,
    "max_drawdown": 0.001, "confidence": 99.9,
}  # fmt: skip
_LESS_IS_STRICTER: Final = frozenset({"max_drawdown"})
NAMES: Final = tuple(field.name for field in fields(Criteria))


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
    return Criteria(
        trades=int(values["trades"]), win_rate=values["win_rate"], above_break_even=values["above_break_even"],
        sharpe=values["sharpe"], profit_factor=values["profit_factor"], max_drawdown=values["max_drawdown"],
        confidence=values["confidence"],
    )  # fmt: skip


def _checked(strategy: str, name: str, value: float, floor: float) -> float:
    """Return a value that is no looser than ``floor``; raise ConfigurationError otherwise."""
    field = f"criteria of {strategy}: {name}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or (name == "trades" and value != int(value)):
        raise ConfigurationError(field, f"{value!r} is not a number that can stand here", "give a plain number")
    utmost, sign = _UTMOST[name], -1.0 if name in _LESS_IS_STRICTER else 1.0
    if sign * value < sign * floor:
        bound = "above" if sign < 0 else "below"
        raise ConfigurationError(
            field, f"{value:g} is {bound} {floor:g}, which is looser", "criteria only get stricter"
        )
    if sign * value > sign * utmost:
        raise ConfigurationError(
            field, f"{value:g} is beyond {utmost:g}, which nothing can meet", "disable the strategy instead"
        )
    return float(value)

"""What a strategy must show before it may trade real money, and what "stricter" means of each figure.

Source: PRODUCT section 7. Invariant: these are floors. A person may raise them for a strategy, nobody can lower them.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TRADES: Final = "trades"
CONFIDENCE: Final = "confidence"
MAX_DRAWDOWN: Final = "max_drawdown"

# Closed trades; win rate and its distance to the strategy's own break-even (fractions); Sharpe (a year); profit factor;
# drawdown (fraction of the peak, over the next 250 trades); confidence score (0 to 100).
DEFAULT: Final[Mapping[str, float]] = MappingProxyType(
    {
        TRADES: 100.0,
        "win_rate": 0.65,
        "above_break_even": 0.05,
        "sharpe": 1.5,
        "profit_factor": 2.0,
        MAX_DRAWDOWN: 0.10,
        CONFIDENCE: 90.0,
    }
)
OF_STRATEGY: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {"momentum_scalping": {"win_rate": 0.60, "sharpe": 1.3, "profit_factor": 1.8, MAX_DRAWDOWN: 0.12}}
)
# Stricter than these a criterion could never be met, and it could not be taken back.
UTMOST: Final[Mapping[str, float]] = MappingProxyType(
    {
        TRADES: 100_000.0,
        "win_rate": 0.99,
        "above_break_even": 0.5,
        "sharpe": 20.0,
        "profit_factor": 100.0,
        MAX_DRAWDOWN: 0.001,
        CONFIDENCE: 99.9,
    }
)


def floors(strategy: str) -> dict[str, float]:
    """The criteria of a strategy before anybody made them stricter, by name."""
    return {**DEFAULT, **OF_STRATEGY.get(strategy, {})}


def is_stricter(criterion: str, value: float, than: float) -> bool:
    """Whether a value asks for more than another: less for the drawdown, more for all else."""
    return value < than if criterion == MAX_DRAWDOWN else value > than


def is_possible(criterion: str, value: float) -> bool:
    """Whether the criterion could ever be met with this value; of trades only whole numbers."""
    if not math.isfinite(value) or is_stricter(criterion, value, UTMOST[criterion]):
        return False
    return criterion != TRADES or value == int(value)

"""How many trades it takes to tell two values of a figure apart: with 90 % certainty, and found in four cases of five.

Inputs: two values and what one trade or session scatters by; or a probability as it would be after more of the same.
Outputs: numbers of trades or sessions; infinite where none suffices. Source: the usual sizes of one-sided tests,
n = ((z₉₀ σ₀ + z₈₀ σ₁) / difference)².
"""

import math
from collections.abc import Callable
from typing import Final

from oracle.metrics.performance import SESSIONS_A_YEAR

_Z_90: Final = 1.2815515655446004
_Z_80: Final = 0.8416212335729143


def trades_for_win_rate(low: float, high: float, inflation: float) -> float:
    """Give the trades that tell win rate ``high`` from ``low``; ``inflation`` autocorrelated trades count as one."""
    scatter = _Z_90 * math.sqrt(low * (1 - low)) + _Z_80 * math.sqrt(high * (1 - high))
    return inflation * _square(scatter, high - low)


def sessions_for_sharpe(low: float, high: float) -> float:
    """Give the sessions that tell an annual Sharpe ratio of ``high`` from ``low``; errors as of Lo (2002)."""
    errors = [math.sqrt(SESSIONS_A_YEAR + ratio * ratio / 2) for ratio in (low, high)]
    return _square(_Z_90 * errors[0] + _Z_80 * errors[1], high - low)


def trades_for_profit_factor(low: float, high: float, scatter: float) -> float:
    """Give the trades that tell a profit factor of ``high`` from ``low``; ``scatter`` is its logarithm's error × √n."""
    if low <= 0:
        return math.inf
    return _square((_Z_90 + _Z_80) * scatter, math.log(high / low))


def enough(chance: Callable[[float], float], sure: float, most: float) -> float:
    """Find how many of the same it takes until ``chance`` of that number is ``sure``; infinite if above ``most``."""
    low, high = 0.0, 1.0
    while chance(high) < sure:
        low, high = high, 2 * high
        if low > most:
            return math.inf
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) < sure else (low, middle)
    return high


def _square(scatter: float, difference: float) -> float:
    return math.inf if difference <= 0 else (scatter / difference) ** 2

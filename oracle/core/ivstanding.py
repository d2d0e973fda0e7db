"""Where a volatility stands in its own recent history: the answer of ``ports.VolatilityView``.

Inputs: none; a frozen struct. Invariant: what is unknown is None with a reason, never a default.
"""

import msgspec


class IvStanding(msgspec.Struct, frozen=True):
    """Where an underlying's 30-day at-the-money IV stands among the daily observations of the sessions before.

    ``iv_30d`` is a fraction (0.2 = 20 %). ``rank`` = (IV - min) / (max - min) clamped to 0-1, ``percentile`` = share of
    observations strictly below; None when unknown, with a snake_case ``reason`` (empty when the rank is known).
    ``observations`` of the last ``window`` sessions before today's were there.
    """

    iv_30d: float
    rank: float | None
    percentile: float | None
    observations: int
    window: int
    reason: str

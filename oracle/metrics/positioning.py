"""The gauges of gamma levels and option flow, set from the core's own message.

Inputs: PositioningMeasured. Output: gauges by underlying. Invariant: what is unknown is NaN, never 0 and never the
figure of before.
"""

import math
from collections.abc import Callable
from typing import Any

from oracle.core.messages import PositioningMeasured

GAUGES = {
    "oracle_gamma_call_wall_dollars": "call_wall",
    "oracle_gamma_put_wall_dollars": "put_wall",
    "oracle_gamma_pin_dollars": "pin",
    "oracle_gamma_flip_dollars": "flip",
    "oracle_gamma_net_dollars": "net_gamma_usd",
}
PREMIUM, COUNT = "oracle_flow_premium_dollars", "oracle_flow_activities"


def show(get: Callable[..., Any], measured: PositioningMeasured) -> None:
    """Set the gauges of one underlying; ``get`` gives a series by its name and label values."""
    for name, field in GAUGES.items():
        value = getattr(measured, field)
        get(name, measured.underlying).set(math.nan if value is None else value)
    for direction in ("bullish", "bearish"):
        premium, count = getattr(measured, f"{direction}_usd"), getattr(measured, f"{direction}_n")
        get(PREMIUM, measured.underlying, direction).set(math.nan if premium is None else premium)
        get(COUNT, measured.underlying, direction).set(math.nan if count is None else count)

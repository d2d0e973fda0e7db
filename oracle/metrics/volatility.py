"""The gauges of 30-day volatility and its rank, set from the core's own messages.

Inputs: DailyIvRanked, DailyIvMissing. Outputs: gauges and a counter by underlying. Invariant: what is unknown is NaN.
"""

import math
from collections.abc import Callable
from typing import Any

from oracle.core.marketdata import DailyIvMissing, DailyIvRanked

IV_GAUGES = {
    "oracle_iv_30d": "iv_30d",
    "oracle_iv_rank": "rank",
    "oracle_iv_percentile": "percentile",
    "oracle_iv_observations": "observations",
}


def show_iv(get: Callable[..., Any], ranked: DailyIvRanked) -> None:
    """Set the gauges of one underlying; ``get`` gives a series by its name and label values."""
    for name, field in IV_GAUGES.items():
        value = getattr(ranked, field)
        get(name, ranked.underlying).set(math.nan if value is None else value)


def count_missing(get: Callable[..., Any], missing: DailyIvMissing) -> None:
    """Count a session that ended without an observation."""
    if missing.final:
        get("oracle_iv_missing_total", missing.underlying).inc()

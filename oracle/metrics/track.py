"""The gauges of the track record: what stored statistics and readiness say of each strategy and the account.

Inputs: figures by name, as they were stored. Outputs: gauges by strategy ("account" stands for all of them), and
counters of the work that makes them. Invariant: what is unknown has no series; nothing is computed here.
"""

from collections.abc import Mapping
from typing import Final

from oracle.core.trackrecord import StrategyKey
from oracle.metrics.series import Series

Figure = float | int | bool | None

# Series by the name of the stored figure that they show.
TRACK_GAUGES: Final[Mapping[str, str]] = {
    "oracle_track_trades": "trades",
    "oracle_track_win_rate": "win_rate",
    "oracle_track_profit_factor": "profit_factor",
    "oracle_track_expectancy_r": "expectancy_r",
    "oracle_track_sharpe_ratio": "sharpe",
    "oracle_track_max_drawdown_ratio": "max_drawdown",
    "oracle_track_net_pnl_dollars": "net_pnl_usd",
    "oracle_track_day_pnl_dollars": "day_pnl_usd",
    "oracle_track_cumulative_pnl_dollars": "cumulative_pnl_usd",
    "oracle_readiness_score": "score",
    "oracle_readiness_ready": "ready",
    "oracle_readiness_trades_needed": "trades_needed",
}
_INFO: Final = "oracle_track_info"


class TrackGauges:
    """Shows what was stored last."""

    __slots__ = ("_series",)

    def __init__(self, series: Series) -> None:
        self._series = series

    def show(self, key: StrategyKey, figures: Mapping[str, Figure]) -> None:
        """Set all gauges of a strategy as it is now; a figure that is None or missing takes its series away."""
        for name, figure in TRACK_GAUGES.items():
            self._series.set_late(name, (key.strategy,), figures.get(figure))
        if key.strategy_hash:
            self._series.inform_late(_INFO, (key.strategy,), {"strategy_hash": key.strategy_hash})

    def refreshed(self, seconds: float, ok: bool) -> None:
        """Count a refresh of the stored statistics."""
        self._series.get("oracle_statistics_refreshes_total", "done" if ok else "failed").inc()
        if ok:
            self._series.one("oracle_statistics_refresh_seconds").observe(seconds)
        self._series.one("oracle_statistics_stale").set(not ok)

    def reported(self, report: str, ok: bool) -> None:
        """Count a periodic report: ``month``, ``week`` or ``day``."""
        self._series.get("oracle_reports_total", report, "done" if ok else "failed").inc()

"""Daily 30-day volatilities of earlier sessions, and where a volatility stands among them.

Inputs: DailyIvObserved, the session table. Outputs: ``IvStanding``. The window is of sessions, not of rows: the last 90
before a date; one without an observation is missing from it and is not replaced by an older one. Invariants: rank and
percentile are None below 60 observations, never a default; what is dated on no session counts for nothing.
"""

from collections.abc import Iterable, Sequence

from oracle.core.ivstanding import IvStanding
from oracle.core.marketdata import DailyIvObserved
from oracle.core.sessions import SessionTable

WINDOW_SESSIONS = 90
NEEDED_OBSERVATIONS = 60
TOO_FEW = "iv_history"
# The embedded exchange tells its own figures of all earlier sessions at each start: they fill gaps alone.
EXCHANGE = "exchange"
FLAT = "iv_history_flat"


class IvHistory:
    """Observations by underlying and date; the newest told of a date counts, but the exchange's before any other."""

    __slots__ = ("_by_date", "_needed", "_table", "_window", "_window_of")

    def __init__(self, table: SessionTable, window: int = WINDOW_SESSIONS, needed: int = NEEDED_OBSERVATIONS) -> None:
        self._table = table
        self._window = window
        self._needed = needed
        self._by_date: dict[str, dict[str, DailyIvObserved]] = {}
        self._window_of: tuple[str, tuple[str, ...]] = ("", ())

    def add(self, observations: Iterable[DailyIvObserved]) -> None:
        """Take observations in the order in which they were told."""
        for one in observations:
            rows = self._by_date.setdefault(one.underlying, {})
            known = rows.get(one.date)
            if known is None or one.source != EXCHANGE or known.source == EXCHANGE:
                rows[one.date] = one

    def on(self, underlying: str, date: str) -> DailyIvObserved | None:
        """The observation of a date, or None."""
        return self._by_date.get(underlying, {}).get(date)

    def rows(self, underlying: str) -> Sequence[DailyIvObserved]:
        """All observations of an underlying, oldest first."""
        rows = self._by_date.get(underlying, {})
        return [rows[date] for date in sorted(rows)]

    def window(self, underlying: str, date: str) -> Sequence[DailyIvObserved]:
        """The observations of the window before a date, oldest first; the date itself is not in it."""
        rows = self._by_date.get(underlying, {})
        return [rows[session] for session in self._sessions(date) if session in rows]

    def standing(self, underlying: str, date: str, iv_30d: float) -> IvStanding:
        """Rank a volatility of ``date`` among the window before it."""
        values = [one.iv_30d for one in self.window(underlying, date)]
        rank, percentile, reason = None, None, TOO_FEW
        if len(values) >= self._needed:
            low, high = min(values), max(values)
            percentile = sum(value < iv_30d for value in values) / len(values)
            reason = FLAT
            if high > low:
                rank, reason = min(max((iv_30d - low) / (high - low), 0.0), 1.0), ""
        return IvStanding(iv_30d, rank, percentile, len(values), self._window, reason)

    def _sessions(self, date: str) -> tuple[str, ...]:
        """The dates of the window's sessions; remembered, because it is asked for once a minute all day."""
        if self._window_of[0] != date:
            self._window_of = date, tuple(session.date for session in self._table.before(date, self._window))
        return self._window_of[1]

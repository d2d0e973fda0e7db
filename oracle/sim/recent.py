"""What was published lately: the only tape that the exchange's historical quote and trade endpoints can read.

Inputs: market steps. Outputs: the last ``KEPT`` stock quotes, stock trades and option trades per symbol, and the newest
daily bar of each stock. Bounded; older requests get what is left.
"""

from collections import deque
from collections.abc import Sequence

from oracle.sim.source import MarketStep, Print, SourceBar, Touch

KEPT = 5_000


class Recent:
    """Bounded rings per symbol."""

    __slots__ = ("_prints", "_touches", "daily")

    def __init__(self) -> None:
        self._touches: dict[str, deque[Touch]] = {}
        self._prints: dict[str, deque[Print]] = {}
        self.daily: dict[str, SourceBar] = {}

    def record(self, step: MarketStep) -> None:
        """Keep what a step published."""
        for touch in step.touches:
            self._touches.setdefault(touch.symbol, deque(maxlen=KEPT)).append(touch)
        for group in (step.prints, step.option_prints):
            for trade in group:
                self._prints.setdefault(trade.symbol, deque(maxlen=KEPT)).append(trade)
        for bar in step.daily_bars:
            self.daily[bar.symbol] = bar

    def touches(self, symbol: str, start_ns: int, end_ns: int) -> Sequence[Touch]:
        """Quotes of a stock in ``[start_ns, end_ns]``, oldest first."""
        return [t for t in self._touches.get(symbol, ()) if start_ns <= t.at_ns <= end_ns]

    def prints(self, symbol: str, start_ns: int, end_ns: int) -> Sequence[Print]:
        """Trades of a stock or option in ``[start_ns, end_ns]``, oldest first."""
        return [p for p in self._prints.get(symbol, ()) if start_ns <= p.at_ns <= end_ns]

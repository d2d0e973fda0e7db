"""A strategy or the account over some months: its trades and sessions, and what they add up to.

Inputs: closed trades and sessions' results, in order. Outputs: figures, and the counts that the store's triggers keep.
Invariant: figures are those of ``metrics/performance.py``, whether counted at once or one by one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from oracle.core.trackrecord import ClosedTrade, DayResult
from oracle.metrics.performance import Accumulator, Figures


@dataclass(slots=True)
class Scope:
    """A strategy or the account in one month or in all, as of its last trade and session."""

    trades: list[ClosedTrade] = field(default_factory=list)
    days: list[DayResult] = field(default_factory=list)
    _sums: Accumulator | None = None
    _counted: int = 0
    _days_counted: int = 0

    @property
    def as_of(self) -> tuple[int, str]:
        """The end of the last trade and the date of the last session; 0 and "" before the first."""
        return self.trades[-1].log_id if self.trades else 0, self.days[-1].date if self.days else ""

    def figures(self, bound: float | None) -> Figures:
        """Every figure: the first time from all rows at once, then from what came since."""
        if self._sums is None:
            self._sums = Accumulator.of(self.trades, self.days)
        else:
            for trade in self.trades[self._counted :]:
                self._sums.add(trade)
            for day in self.days[self._days_counted :]:
                self._sums.add_day(day)
        self._counted, self._days_counted = len(self.trades), len(self.days)
        self._sums.bound = bound
        return self._sums.figures()


@dataclass(slots=True)
class Counts:
    """What the triggers keep of trades, counted here once more: the columns of strategy_performance by name."""

    trades: int = 0
    wins: int = 0
    losses: int = 0
    scratches: int = 0
    gross_profit_micros: int = 0
    gross_loss_micros: int = 0
    net_pnl_micros: int = 0
    fees_modelled_micros: int = 0
    fees_broker_micros: int = 0
    largest_win_micros: int = 0
    largest_loss_micros: int = 0
    streak: int = 0
    win_streak: int = 0
    loss_streak: int = 0
    last_log_id: int = 0

    def add(self, trade: ClosedTrade) -> None:
        """Count one trade more."""
        net, fees = trade.net_micros, trade.fees_modelled_micros
        self.trades += 1
        self.net_pnl_micros += net
        self.fees_modelled_micros += fees
        self.fees_broker_micros += trade.fees_broker_micros
        self.last_log_id = trade.log_id
        if net > 0:
            self.gross_profit_micros += net
        else:
            self.gross_loss_micros -= net
        if net > fees:
            self.wins += 1
            self.largest_win_micros = max(self.largest_win_micros, net)
            self.streak = self.streak + 1 if self.streak > 0 else 1
            self.win_streak = max(self.win_streak, self.streak)
        elif net < -fees:
            self.losses += 1
            self.largest_loss_micros = max(self.largest_loss_micros, -net)
            self.streak = self.streak - 1 if self.streak < 0 else -1
            self.loss_streak = max(self.loss_streak, -self.streak)
        else:
            self.scratches += 1
            self.streak = 0

    @classmethod
    def of(cls, trades: Iterable[ClosedTrade]) -> "Counts":
        """Count trades in the order in which they ended."""
        counts = cls()
        for trade in trades:
            counts.add(trade)
        return counts

"""Breakers and what they allow: latches, the trading state, the losing streak, each strategy's record.

Inputs: equity marks, closed trades, sessions, failed strategies, latches set elsewhere. Outputs: LatchChanged.
Invariants: a set latch is cleared only by its session or by an operator's LatchChanged; a latch with a name that is
not known here halts; everything is rebuilt from LatchChanged and TradeClosed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from oracle.core.messages import STRATEGY_DISABLED_LATCH, EquityMarked, LatchChanged, StrategyFailed, TradeClosed
from oracle.core.sessions import SessionTable
from oracle.core.vocabulary import TradingState
from oracle.risk.limits import RiskLimits
from oracle.risk.sizing import Record

DAY_LOSS: Final = "day_loss"
LOSS_STREAK: Final = "loss_streak"
DRAWDOWN: Final = "drawdown"
OPERATOR: Final = "operator"
# While it stands every strategy's trade that is open or opens is closed at once; it halts on its own as well.
FLATTEN: Final = "flatten"
STRATEGY_FAILED: Final = "strategy_failed:"
STRATEGY_DISABLED: Final = STRATEGY_DISABLED_LATCH
# Latches that concern one strategy and leave the account alone.
OF_A_STRATEGY: Final = (STRATEGY_FAILED, STRATEGY_DISABLED)

# What each latch leaves allowed. Names that are not here halt: a latch nobody understands is no reason to trade.
LATCH_STATES: Final[Mapping[str, TradingState]] = MappingProxyType(
    {
        DAY_LOSS: TradingState.REDUCING,
        LOSS_STREAK: TradingState.REDUCING,
        DRAWDOWN: TradingState.HALTED,
        OPERATOR: TradingState.HALTED,
        FLATTEN: TradingState.HALTED,
    }
)


@dataclass(slots=True)
class Halts:
    """The account's breakers."""

    limits: RiskLimits
    active: dict[str, LatchChanged] = field(default_factory=dict)
    losses_in_a_row: int = 0
    records: dict[str, Record] = field(default_factory=dict)
    _lost_ns: dict[str, list[int]] = field(default_factory=dict)

    @property
    def state(self) -> TradingState:
        """What risk allows account-wide; a failed strategy halts only itself."""
        states = {LATCH_STATES.get(name, TradingState.HALTED) for name in self.names}
        if TradingState.HALTED in states:
            return TradingState.HALTED
        return TradingState.REDUCING if states else TradingState.ACTIVE

    @property
    def names(self) -> tuple[str, ...]:
        """Active account-wide latches, sorted."""
        return tuple(sorted(name for name in self.active if not name.startswith(OF_A_STRATEGY)))

    @property
    def clearable(self) -> tuple[str, ...]:
        """Active latches that an operator's resume clears, sorted: a day's loss stands, a switch is switched."""
        return tuple(sorted(n for n in self.active if n != DAY_LOSS and not n.startswith(STRATEGY_DISABLED)))

    def failed(self, strategy: str) -> bool:
        """Whether a strategy is halted because it raised."""
        return STRATEGY_FAILED + strategy in self.active

    def disabled(self, strategy: str) -> bool:
        """Whether an operator has switched a strategy off."""
        return STRATEGY_DISABLED + strategy in self.active

    def barred(self, strategy: str) -> bool:
        """Whether a strategy may not enter, while the account may."""
        return self.failed(strategy) or self.disabled(strategy)

    def record(self, strategy: str) -> Record:
        """A strategy's closed trades so far."""
        return self.records.get(strategy, Record())

    def strategy_losses(self, strategy: str, since_ns: int) -> int:
        """How many of a strategy's newest trades were losses in a row that closed since an instant."""
        return sum(closed_ns >= since_ns for closed_ns in self._lost_ns.get(strategy, ()))

    def apply(self, change: LatchChanged) -> None:
        """Take over a latch's change, from here, from the store or from an operator. Repeats do nothing."""
        if change.active:
            self.active[change.latch] = change
        elif self.active.pop(change.latch, None) is not None and change.latch == LOSS_STREAK:
            self.losses_in_a_row = 0

    def restore(self, latches: Iterable[LatchChanged], trades: Iterable[TradeClosed]) -> None:
        """Rebuild from stored facts, each list in order of time.

        Losses count towards the streak when they closed after the last time that its latch was cleared.
        """
        cleared_ns = 0
        for change in latches:
            self.apply(change)
            if change.latch == LOSS_STREAK and not change.active and change.at_ns is not None:
                cleared_ns = change.at_ns
        for trade in trades:
            self._count(trade)
            if trade.closed_ns <= cleared_ns:
                self.losses_in_a_row = 0

    def on_equity(self, marked: EquityMarked, table: SessionTable) -> list[LatchChanged]:
        """Latch the day's loss until the next session, and the drawdown until an operator.

        A mark that rests on stale quotes latches nothing: one missing bid must not end the day. Entries are refused
        while equity is unknown, and the next fresh mark latches if the loss is real.
        """
        out: list[LatchChanged] = []
        if marked.marks_stale > 0:
            return out
        start, peak, equity = marked.day_start_equity_usd, marked.peak_equity_usd, marked.equity_usd
        if start - equity >= self.limits.day_loss_fraction * start:
            after = table.after(marked.date)
            limit = f"{self.limits.day_loss_fraction:.2%} of start-of-day equity"
            seen = f"{start - equity:.2f} USD lost of {start:.2f} USD"
            until = None if after is None else after.date
            reason = "the day's loss reached its limit"
            out += self._set(LatchChanged(DAY_LOSS, True, reason, seen, limit, until, marked.at_ns))
        if peak - equity >= self.limits.drawdown_fraction * peak:
            limit = f"{self.limits.drawdown_fraction:.2%} of peak equity"
            seen = f"{peak - equity:.2f} USD under {peak:.2f} USD"
            reason = "drawdown reached its limit"
            out += self._set(LatchChanged(DRAWDOWN, True, reason, seen, limit, None, marked.at_ns))
        return out

    def on_trade_closed(self, trade: TradeClosed, table: SessionTable) -> list[LatchChanged]:
        """Count the trade, and latch the streak until the next session."""
        self._count(trade)
        if self.losses_in_a_row < self.limits.consecutive_losses:
            return []
        session = table.latest(trade.closed_ns)
        after = None if session is None else table.after(session.date)
        until = None if after is None else after.date
        seen = f"{self.losses_in_a_row} losing trades in a row"
        reason, limit = "too many losing trades in a row", f"below {self.limits.consecutive_losses}"
        return self._set(LatchChanged(LOSS_STREAK, True, reason, seen, limit, until, trade.closed_ns))

    def on_strategy_failed(self, failed: StrategyFailed, at_ns: int) -> list[LatchChanged]:
        """Latch a strategy that raised until an operator."""
        name = STRATEGY_FAILED + failed.strategy
        return self._set(LatchChanged(name, True, "the strategy raised", failed.error, "no exception", None, at_ns))

    def by_operator(self, latch: str, who: str, why: str, at_ns: int) -> list[LatchChanged]:
        """Latch until an operator clears it; nothing new when it is set already."""
        return self._set(LatchChanged(latch, True, f"{who}: {why}", "", "", None, at_ns))

    def clear(self, latch: str, who: str, why: str, at_ns: int) -> list[LatchChanged]:
        """Clear a latch for an operator; nothing when it is not set."""
        was = self.active.get(latch)
        if was is None:
            return []
        change = LatchChanged(latch, False, f"{who}: {why}", was.observed, was.limit, was.until_date, at_ns)
        self.apply(change)
        return [change]

    def on_session(self, date: str, at_ns: int) -> list[LatchChanged]:
        """Clear the latches that end with this session's open."""
        due = [c for c in self.active.values() if c.until_date is not None and c.until_date <= date]
        out = [
            LatchChanged(c.latch, False, f"session {date} opened", c.observed, c.limit, c.until_date, at_ns)
            for c in sorted(due, key=lambda c: c.latch)
        ]
        for change in out:
            self.apply(change)
        return out

    def _count(self, trade: TradeClosed) -> None:
        net = trade.net_pnl_usd
        self.records[trade.strategy] = self.record(trade.strategy).add(net)
        self.losses_in_a_row = self.losses_in_a_row + 1 if net < 0 else 0
        lost_ns = self._lost_ns.setdefault(trade.strategy, [])
        if net < 0:
            lost_ns.append(trade.closed_ns)
        else:
            lost_ns.clear()

    def _set(self, change: LatchChanged) -> list[LatchChanged]:
        if change.latch in self.active:
            return []
        self.apply(change)
        return [change]

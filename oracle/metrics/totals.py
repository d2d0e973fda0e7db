"""The counts, sums and extremes that every figure follows from, in two forms that hold the same numbers.

Inputs: columns of trades or sessions (batch), or one trade or session more (running). Outputs: totals of trades and of
days. Invariants: after the same rows both forms are equal in every field, bit for bit: sums are integers, and what is
sequential (index, drawdown, streaks) is the same operations in the same order. One row more is O(1).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracle.core.trackrecord import ClosedTrade, DayResult
from oracle.metrics.arrays import POSITION_CAP, DayArrays, Flags, Floats, Ints, TradeArrays
from oracle.metrics.exact import Moments, fits, integer_sum

_CAP_PARTS = round(1 / POSITION_CAP)
# An index that is this near its peak is at it: chained fractions do not come back to the last bit.
_ROUNDING = 1e-12


@dataclass(slots=True)
class TradeTotals:
    """What trades add up to, in micro-dollars, contracts and nanoseconds.

    ``profit`` and ``loss`` are over all trades, ``win_sum`` and ``loss_sum`` over wins and losses without scratches.
    ``known_*`` are over trades whose slippage is known. ``mae_r``, ``mfe_r``, ``r`` are in multiples of planned risk.
    """

    trades: int = 0
    wins: int = 0
    losses: int = 0
    profit: int = 0
    loss: int = 0
    win_sum: int = 0
    loss_sum: int = 0
    largest_win: int | None = None
    largest_loss: int | None = None
    fees_modelled: int = 0
    fees_broker: int = 0
    held_ns: int = 0
    slippage_trades: int = 0
    slippage: int = 0
    known_fees: int = 0
    known_legs: int = 0
    slippage_bps: Moments = field(default_factory=Moments)
    r: Moments = field(default_factory=Moments)
    mae_r: Moments = field(default_factory=Moments)
    mfe_r: Moments = field(default_factory=Moments)
    capacity: Moments = field(default_factory=Moments)
    streak: int = 0
    win_streak: int = 0
    loss_streak: int = 0

    def add(self, trade: ClosedTrade) -> None:
        """Count one trade more, the latest."""
        net, fees = trade.net_micros, trade.fees_modelled_micros
        self.trades += 1
        self.profit += max(net, 0)
        self.loss += max(-net, 0)
        self.fees_modelled += fees
        self.fees_broker += trade.fees_broker_micros
        self.held_ns += trade.closed_ns - trade.opened_ns
        self._outcome(net, fees)
        if trade.slippage_micros is not None:
            self.slippage_trades += 1
            self.slippage += trade.slippage_micros
            self.known_fees += fees
            self.known_legs += trade.leg_contracts
        if trade.slippage_bps is not None:
            if not math.isfinite(trade.slippage_bps):
                raise ValueError(f"trade {trade.trade_id}: slippage of {trade.slippage_bps} basis points")
            self.slippage_bps.add(trade.slippage_bps)
        risk = float(trade.planned_risk_micros)
        if risk > 0:
            self.r.add(float(net) / risk)
            if trade.mae_micros is not None:
                self.mae_r.add(float(trade.mae_micros) / risk)
            if trade.mfe_micros is not None:
                self.mfe_r.add(float(trade.mfe_micros) / risk)
        contracts, worst = float(trade.contracts), float(trade.worst_case_micros)
        if contracts > 0 and worst > 0 and trade.equity_micros > 0:
            most = math.floor(float(trade.equity_micros) * contracts / (_CAP_PARTS * worst))
            self.capacity.add(most * (worst / contracts))

    def _outcome(self, net: int, fees: int) -> None:
        if net > fees:
            self.wins += 1
            self.win_sum += net
            self.largest_win = net if self.largest_win is None else max(self.largest_win, net)
            self.streak = max(self.streak, 0) + 1
            self.win_streak = max(self.win_streak, self.streak)
        elif net < -fees:
            self.losses += 1
            self.loss_sum -= net
            self.largest_loss = -net if self.largest_loss is None else max(self.largest_loss, -net)
            self.streak = min(self.streak, 0) - 1
            self.loss_streak = max(self.loss_streak, -self.streak)
        else:
            self.streak = 0

    @classmethod
    def of(cls, columns: TradeArrays) -> "TradeTotals":
        """Count all trades of the columns."""
        net, fees, known = columns.net, columns.fees_modelled, columns.slippage_known
        won, lost = net > fees, net < -fees
        risk = columns.planned_risk.astype(np.float64)
        streak, win_streak, loss_streak = _streaks(won.astype(np.int64) - lost)
        return cls(
            trades=len(columns),
            wins=int(won.sum()),
            losses=int(lost.sum()),
            profit=integer_sum(np.maximum(net, 0)),
            loss=integer_sum(np.maximum(-net, 0)),
            win_sum=integer_sum(net[won]),
            loss_sum=-integer_sum(net[lost]),
            largest_win=int(net[won].max()) if won.any() else None,
            largest_loss=-int(net[lost].min()) if lost.any() else None,
            fees_modelled=integer_sum(fees),
            fees_broker=integer_sum(columns.fees_broker),
            held_ns=integer_sum(columns.held_ns),
            slippage_trades=int(known.sum()),
            slippage=integer_sum(columns.slippage[known]),
            known_fees=integer_sum(fees[known]),
            known_legs=integer_sum(columns.leg_contracts[known]),
            slippage_bps=Moments.of(columns.slippage_bps[columns.bps_known]),
            r=Moments.of(_multiples(net, risk, risk > 0)),
            mae_r=Moments.of(_multiples(columns.mae, risk, columns.mae_known & (risk > 0))),
            mfe_r=Moments.of(_multiples(columns.mfe, risk, columns.mfe_known & (risk > 0))),
            capacity=Moments.of(_capacities(columns)),
            streak=streak,
            win_streak=win_streak,
            loss_streak=loss_streak,
        )


def r_multiples_of(columns: TradeArrays) -> Floats:
    """Net P&L over planned risk of each trade whose planned risk is known and positive; shape (m,), m ≤ n."""
    risk = columns.planned_risk.astype(np.float64)
    return _multiples(columns.net, risk, risk > 0)


def _multiples(amounts: Ints, risk: Floats, chosen: Flags) -> Floats:
    return np.asarray(amounts[chosen].astype(np.float64) / risk[chosen], dtype=np.float64)


def _capacities(columns: TradeArrays) -> Floats:
    chosen = (columns.contracts > 0) & (columns.worst_case > 0) & (columns.equity > 0)
    contracts, worst = columns.contracts[chosen].astype(np.float64), columns.worst_case[chosen].astype(np.float64)
    most = np.floor(columns.equity[chosen].astype(np.float64) * contracts / (_CAP_PARTS * worst))
    return np.asarray(most * (worst / contracts), dtype=np.float64)


def _streaks(outcomes: Ints) -> tuple[int, int, int]:
    """Give the run now (signed), the longest of 1 and the longest of −1; outcomes are 1, 0 or −1, shape (n,)."""
    if not outcomes.size:
        return 0, 0, 0
    starts = np.flatnonzero(np.concatenate(([True], outcomes[1:] != outcomes[:-1])))
    lengths = np.diff(np.append(starts, outcomes.size))
    kinds = outcomes[starts]
    now = int(kinds[-1] * lengths[-1])
    return now, int(lengths[kinds == 1].max(initial=0)), int(lengths[kinds == -1].max(initial=0))


@dataclass(slots=True)
class DayTotals:
    """What sessions add up to. ``index`` starts at 1; ``pnl`` and ``pnl_peak`` are micro-dollars and start at 0.

    ``under`` is for how many sessions the index has been below its peak, ``under_longest`` the longest of these times.
    """

    sessions: int = 0
    unknown: int = 0
    returns: Moments = field(default_factory=Moments)
    downside: Moments = field(default_factory=Moments)
    drawdowns: Moments = field(default_factory=Moments)
    index: float = 1.0
    peak: float = 1.0
    drawdown_max: float = 0.0
    under: int = 0
    under_longest: int = 0
    pnl: int = 0
    pnl_peak: int = 0
    pnl_drawdown: int = 0
    open_ns: int = 0
    session_ns: int = 0

    def add(self, day: DayResult) -> None:
        """Count one session more, the latest."""
        self.sessions += 1
        self.open_ns += day.open_ns
        self.session_ns += day.session_ns
        if day.pnl_micros is not None:
            self.pnl += day.pnl_micros
            self.pnl_peak = max(self.pnl_peak, self.pnl)
            self.pnl_drawdown = max(self.pnl_drawdown, self.pnl_peak - self.pnl)
        if day.pnl_micros is None or day.start_equity_micros <= 0:
            self.unknown += 1
            return
        change = float(day.pnl_micros) / float(day.start_equity_micros)
        self.returns.add(change)
        self.downside.add(min(change, 0.0))
        self.index *= max(1.0 + change, 0.0)
        self.peak = max(self.peak, self.index)
        drawdown = self.drawdown
        self.drawdowns.add(drawdown)
        self.drawdown_max = max(self.drawdown_max, drawdown)
        self.under = self.under + 1 if drawdown > 0 else 0
        self.under_longest = max(self.under_longest, self.under)

    @property
    def drawdown(self) -> float:
        """How far the index is below its peak now, a fraction of the peak."""
        below = 1.0 - self.index / self.peak
        return below if below > _ROUNDING else 0.0

    @classmethod
    def of(cls, columns: DayArrays) -> "DayTotals":
        """Count all sessions of the columns."""
        index = index_of(columns.returns)
        under = drawdown_of(index)
        at_peak = np.flatnonzero(under == 0)
        pnl = _cumulative(columns.pnl[columns.pnl_known])
        peaks = np.maximum(np.maximum.accumulate(pnl), 0)
        return cls(
            sessions=len(columns),
            unknown=len(columns) - columns.returns.size,
            returns=Moments.of(columns.returns),
            downside=Moments.of(np.minimum(columns.returns, 0.0)),
            drawdowns=Moments.of(under[1:]),
            index=float(index[-1]),
            peak=float(index.max()),
            drawdown_max=float(under.max()),
            under=int(index.size - 1 - at_peak[-1]),
            under_longest=int(np.diff(np.append(at_peak, index.size)).max()) - 1,
            pnl=int(pnl[-1]) if pnl.size else 0,
            pnl_peak=int(peaks[-1]) if pnl.size else 0,
            pnl_drawdown=int((peaks - pnl).max()) if pnl.size else 0,
            open_ns=integer_sum(columns.open_ns),
            session_ns=integer_sum(columns.session_ns),
        )


def index_of(returns: Floats) -> Floats:
    """Chain returns of shape (n,) into an index of shape (n + 1,) that starts at 1; a loss of all is 0 for good."""
    return np.multiply.accumulate(np.concatenate(([1.0], np.maximum(1.0 + returns, 0.0))))


def drawdown_of(index: Floats) -> Floats:
    """How far each point of an index is below the highest until then: fractions ≥ 0 of that peak; shape (n,)."""
    below = 1.0 - index / np.maximum.accumulate(index)
    return np.where(below > _ROUNDING, below, 0.0)


def _cumulative(values: Ints) -> NDArray[Any]:
    """Add up from the first on; Python's integers where 64 bits might not do. Shape (n,)."""
    return np.add.accumulate(values if fits(values) else values.astype(object))

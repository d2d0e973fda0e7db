"""Every figure that performance is told in, written once: from totals, so that batch and running form give equal bits.

Inputs: closed trades and sessions' results of one strategy or of the account. Outputs: ``Figures``; curves, months and
R-multiples for reports. Invariants: what is unknown or undefined is None, never 0 and never infinite; amounts are sums
of integer micro-dollars; no figure depends on the currency's scale unless it is in ``_usd``. See docs/figures.md.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from oracle.core.money import MICROS
from oracle.core.trackrecord import ClosedTrade, DayResult
from oracle.metrics.arrays import DayArrays, Floats, TradeArrays
from oracle.metrics.totals import DayTotals, TradeTotals, drawdown_of, index_of, r_multiples_of

SESSIONS_A_YEAR: Final = 252
# The quantile of the normal distribution for 95 % in the middle.
_Z_95 = 1.959963984540054
# Van Tharp counts at most so many trades, so that a long record does not make a small edge look large.
_SQN_TRADES = 100


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one strategy, or of the account, over some trades and sessions. None is unknown or undefined.

    Amounts are net of modelled fees unless said otherwise; fractions are of 1. W and L are the averages of wins and
    losses, R a trade's net P&L over its planned risk, r a session's P&L over the account's equity at its start.

    Of trades:
        trades, wins, losses, scratches: a scratch is |net| ≤ the trade's modelled fees; wins and losses lie beyond.
        win_rate: wins / trades; a scratch is not a win.
        win_rate_low, win_rate_high: Wilson's score interval, 95 % (Wilson 1927; Brown, Cai, DasGupta 2001).
        average_win_usd, average_loss_usd, largest_win_usd, largest_loss_usd: of wins and of losses; losses positive.
        gross_profit_usd, gross_loss_usd: Σ max(net, 0) and Σ max(−net, 0), scratches included.
        net_pnl_usd: Σ net = gross_profit_usd − gross_loss_usd.
        profit_factor: gross_profit_usd / gross_loss_usd; None without a loss.
        expectancy_usd: net_pnl_usd / trades.
        expectancy_r: mean of R over ``r_trades`` trades, those with a planned risk.
        payoff: W / L.
        break_even_win_rate: L / (W + L), the share of wins among decided trades at which these averages earn nothing.
        break_even_bound: the two-outcome bound of the exit plan, as given.
        fees_modelled_usd, fees_broker_usd: what statistics are net of, and what the broker charged.
        slippage_usd: Σ of signed cost against the mids at decision, over ``slippage_trades``, those where it is known.
        slippage_bps: mean over trades of that cost in basis points of the mids.
        cost_per_leg_usd: (modelled fees + slippage) / contracts bought and sold, over the same trades.
        sqn: √min(n, 100) · mean(R) / deviation(R), the system quality number (Tharp 2008).
        mae_mean_r, mfe_mean_r: mean of the worst (≤ 0) and best (≥ 0) open value over planned risk, before fees, where
            known (Sweeney 1996).
        capacity_usd: mean over trades of the worst case that whole contracts could have had at 5 % of the equity then:
            ⌊0.05 · equity / (worst_case / contracts)⌋ · worst_case / contracts. No depth of market is in it.
        win_streak, loss_streak, streak: longest runs, and the run now (losses negative); a scratch ends a run.
        holding_s: mean time from the first fill to the last.

    Of sessions (T of them with a known r; flat ones count; a year has 252; risk-free rate 0):
        sessions, unknown_sessions: all, and those whose r is unknown (the next known P&L holds theirs).
        sharpe: √252 · mean(r) / deviation(r), with T − 1 (Sharpe 1994).
        sortino: √252 · mean(r) / √(Σ min(r, 0)² / T) (Sortino, Price 1994); None without a losing session.
        annual_volatility: √252 · deviation(r).
        total_return: Π(1 + r) − 1, time-weighted: deposits and withdrawals are in the equity at each start, not in r.
        max_drawdown: max of 1 − index / peak, the index chained from r and starting at 1, which is its first peak.
        max_drawdown_usd: the largest fall of the cumulated P&L from its peak, which is at least 0.
        current_drawdown: the fraction below the peak now.
        drawdown_sessions: the longest run of sessions below a peak, one that has not ended included.
        ulcer_index: √(Σ drawdown² / T), a fraction (Martin, McCann 1989).
        exposure: time with a position open / time of the sessions.
    """

    trades: int
    wins: int
    losses: int
    scratches: int
    win_rate: float | None
    win_rate_low: float | None
    win_rate_high: float | None
    average_win_usd: float | None
    average_loss_usd: float | None
    largest_win_usd: float | None
    largest_loss_usd: float | None
    expectancy_usd: float | None
    expectancy_r: float | None
    r_trades: int
    payoff: float | None
    profit_factor: float | None
    gross_profit_usd: float
    gross_loss_usd: float
    net_pnl_usd: float
    fees_modelled_usd: float
    fees_broker_usd: float
    slippage_usd: float | None
    slippage_bps: float | None
    slippage_trades: int
    cost_per_leg_usd: float | None
    break_even_win_rate: float | None
    break_even_bound: float | None
    sharpe: float | None
    sortino: float | None
    annual_volatility: float | None
    total_return: float | None
    max_drawdown: float | None
    max_drawdown_usd: float | None
    drawdown_sessions: int | None
    current_drawdown: float | None
    ulcer_index: float | None
    sqn: float | None
    exposure: float | None
    mae_mean_r: float | None
    mfe_mean_r: float | None
    capacity_usd: float | None
    win_streak: int
    loss_streak: int
    streak: int
    sessions: int
    unknown_sessions: int
    holding_s: float | None

    def as_dict(self) -> dict[str, int | float | None]:
        """Give plain JSON values by name, in the order of the fields."""
        return {name: getattr(self, name) for name in FIELDS}


FIELDS: Final = tuple(field.name for field in dataclasses.fields(Figures))


def figures(
    trades: Sequence[ClosedTrade] | TradeArrays,
    days: Sequence[DayResult] | DayArrays,
    *,
    bound: float | None = None,
) -> Figures:
    """Work out every figure of one strategy or of the account, from rows in any order or from prepared columns.

    Args:
        bound: the two-outcome break-even win rate of the strategy's exit plan; None is unknown.

    Raises:
        ValueError: a session is there twice; the message has its date.
    """
    of_trades = trades if isinstance(trades, TradeArrays) else TradeArrays.from_trades(trades)
    of_days = days if isinstance(days, DayArrays) else DayArrays.from_days(days)
    return _figures(TradeTotals.of(of_trades), DayTotals.of(of_days), bound)


class Accumulator:
    """The running form of ``figures``: one trade or session more costs the same however many there were."""

    __slots__ = ("_date", "_days", "_log_id", "_trades", "bound")

    def __init__(self, *, bound: float | None = None) -> None:
        self.bound = bound
        self._trades = TradeTotals()
        self._days = DayTotals()
        self._log_id: int | None = None
        self._date: str | None = None

    @classmethod
    def of(
        cls, trades: Sequence[ClosedTrade], days: Sequence[DayResult], *, bound: float | None = None
    ) -> "Accumulator":
        """Begin with rows that there are already, in any order: as if each had been added, at the batch form's cost."""
        made = cls(bound=bound)
        made._trades = TradeTotals.of(TradeArrays.from_trades(trades))
        made._days = DayTotals.of(DayArrays.from_days(days))
        made._log_id = max((trade.log_id for trade in trades), default=None)
        made._date = max((day.date for day in days), default=None)
        return made

    def add(self, trade: ClosedTrade) -> None:
        """Count one trade more.

        Raises:
            ValueError: it counts before one that was added.
        """
        if self._log_id is not None and trade.log_id < self._log_id:
            raise ValueError(f"trade {trade.trade_id}: log id {trade.log_id} is before {self._log_id}")
        self._log_id = trade.log_id
        self._trades.add(trade)

    def add_day(self, day: DayResult) -> None:
        """Count one session more.

        Raises:
            ValueError: it is not after the one added before.
        """
        if self._date is not None and day.date <= self._date:
            raise ValueError(f"session {day.date} is not after {self._date}")
        self._date = day.date
        self._days.add(day)

    def figures(self) -> Figures:
        """Give the figures of what was added so far; the same bits as the batch form's."""
        return _figures(self._trades, self._days, self.bound)


def _figures(t: TradeTotals, d: DayTotals, bound: float | None) -> Figures:
    """Apply each formula to the totals. Sources and definitions: ``Figures``."""
    low, high = wilson(t.wins, t.trades)
    win, loss = _ratio(t.win_sum, t.wins * MICROS), _ratio(t.loss_sum, t.losses * MICROS)
    known = d.sessions - d.unknown
    mean, deviation = d.returns.mean, d.returns.deviation
    downside = d.downside.mean_square
    return Figures(
        trades=t.trades,
        wins=t.wins,
        losses=t.losses,
        scratches=t.trades - t.wins - t.losses,
        win_rate=_ratio(t.wins, t.trades),
        win_rate_low=low,
        win_rate_high=high,
        average_win_usd=win,
        average_loss_usd=loss,
        largest_win_usd=_usd(t.largest_win),
        largest_loss_usd=_usd(t.largest_loss),
        expectancy_usd=_ratio(t.profit - t.loss, t.trades * MICROS),
        expectancy_r=t.r.mean,
        r_trades=t.r.count,
        payoff=_ratio(t.win_sum * t.losses, t.loss_sum * t.wins),
        profit_factor=_ratio(t.profit, t.loss),
        gross_profit_usd=t.profit / MICROS,
        gross_loss_usd=t.loss / MICROS,
        net_pnl_usd=(t.profit - t.loss) / MICROS,
        fees_modelled_usd=t.fees_modelled / MICROS,
        fees_broker_usd=t.fees_broker / MICROS,
        slippage_usd=_usd(t.slippage if t.slippage_trades else None),
        slippage_bps=t.slippage_bps.mean,
        slippage_trades=t.slippage_trades,
        cost_per_leg_usd=_ratio(t.known_fees + t.slippage, t.known_legs * MICROS),
        break_even_win_rate=_break_even(t),
        break_even_bound=bound,
        sharpe=_annual_ratio(mean, deviation),
        sortino=_annual_ratio(mean, None if downside is None else math.sqrt(downside)),
        annual_volatility=None if deviation is None else deviation * math.sqrt(SESSIONS_A_YEAR),
        total_return=d.index - 1.0 if known else None,
        max_drawdown=d.drawdown_max if known else None,
        max_drawdown_usd=_usd(d.pnl_drawdown if known else None),
        drawdown_sessions=d.under_longest if known else None,
        current_drawdown=d.drawdown if known else None,
        ulcer_index=None if d.drawdowns.mean_square is None else math.sqrt(d.drawdowns.mean_square),
        sqn=_system_quality(t),
        exposure=_ratio(d.open_ns, d.session_ns),
        mae_mean_r=t.mae_r.mean,
        mfe_mean_r=t.mfe_r.mean,
        capacity_usd=None if t.capacity.mean is None else t.capacity.mean / MICROS,
        win_streak=t.win_streak,
        loss_streak=t.loss_streak,
        streak=t.streak,
        sessions=d.sessions,
        unknown_sessions=d.unknown,
        holding_s=_ratio(t.held_ns, t.trades * 1_000_000_000),
    )


def wilson(wins: int, trades: int) -> tuple[float | None, float | None]:
    """Give Wilson's 95 % interval of a win rate; (None, None) without a trade.

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n). Wilson, J. Am. Stat. Assoc. 22 (1927) 209; recommended, with
    Jeffreys', for few trades by Brown, Cai and DasGupta, Statistical Science 16 (2001) 101.
    """
    if trades == 0:
        return None, None
    p, z2 = wins / trades, _Z_95 * _Z_95 / trades
    middle = p + z2 / 2
    half = math.sqrt(z2 * (p * (1 - p) + z2 / 4))
    low = 0.0 if wins == 0 else (middle - half) / (1 + z2)
    high = 1.0 if wins == trades else (middle + half) / (1 + z2)
    return low, high


def _ratio(over: int, under: int) -> float | None:
    """Divide integers, correctly rounded; None when nothing is below."""
    return over / under if under != 0 else None


def _usd(micros: int | None) -> float | None:
    return None if micros is None else micros / MICROS


def _break_even(t: TradeTotals) -> float | None:
    """L / (W + L) with W = win_sum / wins and L = loss_sum / losses; None without a win or without a loss."""
    if t.wins == 0 or t.losses == 0:
        return None
    return _ratio(t.loss_sum * t.wins, t.win_sum * t.losses + t.loss_sum * t.wins)


def _annual_ratio(mean: float | None, deviation: float | None) -> float | None:
    """mean / deviation · √252; None without a deviation."""
    if mean is None or deviation is None or deviation <= 0:
        return None
    return mean / deviation * math.sqrt(SESSIONS_A_YEAR)


def _system_quality(t: TradeTotals) -> float | None:
    mean, deviation = t.r.mean, t.r.deviation
    if mean is None or deviation is None or deviation <= 0:
        return None
    return math.sqrt(min(t.r.count, _SQN_TRADES)) * mean / deviation


def equity_curve(days: Sequence[DayResult]) -> tuple[tuple[str, ...], Floats]:
    """Chain the sessions' returns into an index that starts at 1, the starting capital.

    Returns:
        dates and index, both of length n + 1 for n sessions with a known return. The first date is "": the capital
        before the first session.
    """
    columns = DayArrays.from_days(days)
    dates = tuple(date for date, known in zip(columns.dates, columns.known.tolist(), strict=True) if known)
    return ("", *dates), index_of(columns.returns)


def drawdown_curve(index: Floats) -> Floats:
    """Give how far each point of an index is below the highest until then, a fraction ≥ 0 of it; shape of ``index``."""
    return drawdown_of(index)


def r_multiples(trades: Sequence[ClosedTrade]) -> Floats:
    """Give net P&L over planned risk of each trade that has a planned risk, in order of log id; shape (m,)."""
    return r_multiples_of(TradeArrays.from_trades(trades))


def monthly(
    trades: Sequence[ClosedTrade], days: Sequence[DayResult], *, bound: float | None = None
) -> dict[str, Figures]:
    """Work out the figures of each month, "YYYY-MM" ascending: trades by their session, sessions by their date.

    A month's drawdown starts from the equity at its start. A session that is unknown at a month's end counts as unknown
    there, and its P&L in the next month, where it became known.
    """
    months = sorted({t.session[:7] for t in trades} | {d.date[:7] for d in days})
    of_trades: dict[str, list[ClosedTrade]] = {month: [] for month in months}
    of_days: dict[str, list[DayResult]] = {month: [] for month in months}
    for trade in trades:
        of_trades[trade.session[:7]].append(trade)
    for day in days:
        of_days[day.date[:7]].append(day)
    return {month: figures(of_trades[month], of_days[month], bound=bound) for month in months}

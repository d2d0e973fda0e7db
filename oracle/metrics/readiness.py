"""Has a strategy earned live capital? A probability for each criterion, the smallest of them as the score, and words.

Inputs: closed trades and sessions of one strategy (one code, one set of parameters), its criteria, how many sets it was
chosen from. Output: ``Assessment``. Invariants: the same inputs give the same bits, anywhere; the score is the smallest
probability that was asked; nothing is ready without the bootstrap and the number of trades. See docs/readiness.md.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from oracle.core.trackrecord import ClosedTrade, DayResult, StrategyKey
from oracle.metrics.arrays import DayArrays, Flags, Floats, Ints
from oracle.metrics.bootstrap import Resampler, Share
from oracle.metrics.criteria import Criteria
from oracle.metrics.evidence import Evidence, Sessions, Weights, best_of, weigh
from oracle.metrics.readiness_words import Case, expected_date, out_of_reach, power_words, reasons_of
from oracle.metrics.totals import drawdown_of, index_of

DISABLE_BELOW: Final = 50.0
DISABLE_TRADES: Final = 50
_Z_95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """One criterion: what was seen, its 95 % interval, what is asked, and how probable it is that it truly holds.

    ``probability`` is None where it was not asked: the number of trades has none, and the bootstrap comes last.
    Rates and drawdowns are fractions. ``note`` says in words where a number comes from.
    """

    name: str
    observed: float | None
    low: float | None
    high: float | None
    required: float
    probability: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """What may be said of a strategy's readiness after some trades.

    Attributes:
        score: 0–100, 100 x the smallest probability asked.
        reason: the ``reasons`` in one line.
        power: how many more trades would tell the furthest criterion's value from what is asked.
        implied_win_rate: the win rate that the profit factor asks for at the realised payoff.
        out_of_reach: what no further trade like those seen can bring, in words.
        independent_trades: trades / variance inflation by autocorrelation.
        trades_needed: missing to the number of trades asked.
        expected_date: the weekday on which that number is expected at the present rate, "YYYY-MM-DD"; None when it is
            reached or no rate is known.
        bootstrapped: profit factor and drawdown were resampled.
        suggest_disable: below 50 after 50 trades.
    """

    strategy: str
    strategy_hash: str
    score: float
    ready: bool
    reason: str
    reasons: tuple[str, ...]
    criteria: tuple[CriterionResult, ...]
    confidence: float
    power: str
    implied_win_rate: float | None
    out_of_reach: tuple[str, ...]
    trades: int
    independent_trades: float
    trades_needed: int
    expected_date: str | None
    bootstrapped: bool
    suggest_disable: bool
    parameter_sets: int

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values by name."""
        return dataclasses.asdict(self)


def assess(
    key: StrategyKey,
    trades: Sequence[ClosedTrade],
    days: Sequence[DayResult] | DayArrays,
    criteria: Criteria,
    *,
    parameter_sets: int,
    bound: float | None,
    bootstrap: bool = True,
) -> Assessment:
    """Say how sure it is that a strategy meets its criteria, and what is missing.

    Args:
        trades: closed trades of this key alone, in any order.
        days: sessions since it first ran, those without a trade too.
        parameter_sets: sets of parameters run on paper from which this one could have been chosen.
        bound: the exit plan's two-outcome break-even win rate; None is unknown.
        bootstrap: resample when everything else is certain enough; without it nothing is ready.

    Raises:
        ValueError: a trade of another strategy or hash, a session twice, or a negative number of sets.
    """
    for trade in trades:
        if trade.key != key:
            raise ValueError(
                f"trade {trade.trade_id} is of {trade.key.strategy} {trade.key.strategy_hash}, not of {key}"
            )
    columns = days if isinstance(days, DayArrays) else DayArrays.from_days(days)
    evidence, n = Evidence.of(trades), len(trades)
    if n == 0:
        return _without_trades(key, criteria, parameter_sets)
    weights = weigh(evidence, Sessions.of(columns), np.array([n]), criteria, parameter_sets, bound)
    factor = drawdown = None
    sure = criteria.confidence / 100
    bootstrapped = bootstrap and bool(weights.least[0] >= sure)
    if bootstrapped:
        resampler = Resampler(key, evidence, n, float(weights.inflation[0]), parameter_sets)
        factor, drawdown = resampler.profit_factor(criteria.profit_factor), resampler.drawdown(criteria.max_drawdown)
    case = _case(evidence, weights, columns, trades, bound, best_of(parameter_sets))
    results = _results(case, weights, criteria, factor, drawdown, bootstrapped)
    score = 100 * min(r.probability for r in results if r.probability is not None)
    # What is held without a mark may hide a loss that neither trades nor sessions tell yet.
    ready = bootstrapped and n >= criteria.trades and score >= criteria.confidence and case.unmarked == 0
    reasons = reasons_of(case, results, criteria, score, ready, bootstrapped)
    return Assessment(
        strategy=key.strategy, strategy_hash=key.strategy_hash, score=score, ready=ready, reason="; ".join(reasons),
        reasons=reasons, criteria=results, confidence=criteria.confidence, power=power_words(case, results, sure),
        implied_win_rate=case.implied_win_rate(criteria.profit_factor), out_of_reach=out_of_reach(case, results),
        trades=n, independent_trades=n / case.inflation, trades_needed=max(criteria.trades - n, 0),
        expected_date=expected_date(case, criteria.trades), bootstrapped=bootstrapped,
        suggest_disable=n >= DISABLE_TRADES and score < DISABLE_BELOW, parameter_sets=parameter_sets,
    )  # fmt: skip


def first_ready(
    key: StrategyKey,
    trades: Sequence[ClosedTrade],
    days: Sequence[DayResult],
    criteria: Criteria,
    *,
    parameter_sets: int,
    bound: float | None,
    upto: int | None = None,
) -> int | None:
    """Tell after which trade ``assess`` would first have said ready; None if never.

    Each trade is judged on the sessions that were over by then: those before its own, and its own after its last trade.

    Args:
        trades: in the order in which they count; ``upto`` of them at most are looked at.
        days: ordered by date.
    """
    last = min(len(trades), len(trades) if upto is None else upto)
    if last < criteria.trades:
        return None
    evidence, at = Evidence.of(trades), np.arange(criteria.trades, last + 1)
    columns, over = DayArrays.from_days(days), sessions_over(trades, days)[at - 1]
    sessions = Sessions.after(columns, over)
    weights = weigh(evidence, sessions, at, criteria, parameter_sets, bound)
    sure = criteria.confidence / 100
    for place in np.flatnonzero(weights.least >= sure).tolist():
        n = int(at[place])
        if _unmarked(columns.known[: over[place]]) > 0:
            continue
        resampler = Resampler(key, evidence, n, float(weights.inflation[place]), parameter_sets)
        if resampler.profit_factor(criteria.profit_factor).probability >= sure:
            drawdown = resampler.drawdown(criteria.max_drawdown)
            if drawdown is not None and drawdown.probability >= sure:
                return n
    return None


def sessions_over(trades: Sequence[ClosedTrade], days: Sequence[DayResult]) -> Ints:
    """Count the sessions that are over when each trade is judged; shape (n,)."""
    dates = np.array([day.date for day in days], dtype="U10")
    own = np.array([trade.session for trade in trades], dtype="U10")
    last = np.array([*(a.session != b.session for a, b in pairwise(trades)), True][: len(trades)], dtype=np.bool_)
    return np.where(last, np.searchsorted(dates, own, "right"), np.searchsorted(dates, own, "left")).astype(np.int64)


def _case(
    evidence: Evidence,
    weights: Weights,
    days: DayArrays,
    trades: Sequence[ClosedTrade],
    bound: float | None,
    lucky: float,
) -> Case:
    n, wins, lost = len(evidence), int(weights.wins[0]), int(evidence.lost.sum())
    sharpe, error = float(weights.sharpe[0]), float(weights.sharpe_error[0])
    phantom = int(evidence.phantom[-1])
    realised_loss = -int((evidence.net * evidence.lost).sum()) / lost if lost else float(weights.average_loss[0])
    returns = days.returns if days.returns.size else np.nan_to_num(evidence.returns)
    gains, losses = np.maximum(evidence.net, 0).astype(np.float64), np.maximum(-evidence.net, 0).astype(np.float64)
    latest = max((trade.session for trade in trades), default="")
    return Case(
        trades=n, wins=wins, win_rate=wins / n, break_even=float(weights.break_even[0]), bound=bound,
        tail_known=phantom > 0, won_anything=wins > 0, average_win=float(weights.average_win[0]),
        average_loss=realised_loss, inflation=float(weights.inflation[0]),
        sharpe=None if math.isnan(sharpe) else sharpe, sharpe_error=None if math.isnan(error) else error,
        profit_factor=float(gains.sum() / losses.sum()) if losses.any() else None,
        factor_scatter=_factor_scatter(gains, losses), profitable=bool(gains.any()),
        drawdown=float(drawdown_of(index_of(returns)).max()), sessions=len(days),
        latest=max(latest, days.dates[-1] if len(days) else ""),
        lucky=lucky, unmarked=_unmarked(days.known),
    )  # fmt: skip


def _unmarked(known: Flags) -> int:
    """Count the newest sessions whose result is unknown, up to now."""
    told = np.flatnonzero(known)
    return known.size - (int(told[-1]) + 1 if told.size else 0)


def _factor_scatter(gains: Floats, losses: Floats) -> float | None:
    """Give √n × the standard error of the profit factor's logarithm, by the delta method; None without both sides."""
    up, down = float(gains.mean()), float(losses.mean())
    if up <= 0 or down <= 0:
        return None
    # A trade is never both a gain and a loss, so the covariance of the two is −up · down.
    return math.sqrt(float(gains.var()) / (up * up) + float(losses.var()) / (down * down) + 2)


def _results(
    case: Case, weights: Weights, criteria: Criteria, factor: Share | None, drawdown: Share | None, bootstrapped: bool
) -> tuple[CriterionResult, ...]:
    low, high = case.win_rate_interval()
    known = case.break_even_known
    margin = criteria.above_break_even
    needed = case.break_even + margin
    break_even_note = f"break-even {100 * case.break_even:.1f} % after costs, plus {100 * margin:g} points"
    factor_low, factor_high = (factor.low, factor.high) if factor else case.profit_factor_interval()
    later = "" if bootstrapped else "resampled only when all others are certain enough"
    unmeasured = "the equity at some entry is unknown" if bootstrapped and drawdown is None else ""
    missing = max(criteria.trades - case.trades, 0)
    rows = (
        ("trades", case.trades, None, None, criteria.trades, None, f"{missing} more" if missing else "reached"),
        ("win_rate", case.win_rate, low, high, criteria.win_rate, weights.p_win_rate[0],
         f"{case.trades / case.inflation:.0f} independent trades"),
        ("above_break_even", case.win_rate, low, high, needed if known else 1.0, weights.p_above_break_even[0],
         break_even_note if known else "no break-even is known yet"),
        ("sharpe", case.sharpe, *case.sharpe_interval(), criteria.sharpe, weights.p_sharpe[0],
         f"{case.sessions} sessions" if case.sharpe is not None else "no variance seen: the prior alone speaks"),
        ("profit_factor", case.profit_factor, factor_low, factor_high, criteria.profit_factor,
         factor.probability if factor else None, later or "with one phantom trade at the stored worst case"),
        ("max_drawdown", case.drawdown, drawdown.low if drawdown else None, drawdown.high if drawdown else None,
         criteria.max_drawdown, drawdown.probability if drawdown else 0.0 if unmeasured else None,
         unmeasured or later or "the interval is of the next 250 trades"),
    )  # fmt: skip
    return tuple(
        CriterionResult(name, seen, lower, upper, asked, None if chance is None else float(chance), note)
        for name, seen, lower, upper, asked, chance, note in rows
    )


def _without_trades(key: StrategyKey, criteria: Criteria, parameter_sets: int) -> Assessment:
    """Say that nothing is known yet."""
    asked = {**criteria.as_dict()}
    confidence = asked.pop("confidence")
    reason = f"needs {criteria.trades} trades and has none"
    return Assessment(
        strategy=key.strategy, strategy_hash=key.strategy_hash, score=0.0, ready=False, reason=reason,
        reasons=(reason,), criteria=tuple(
            CriterionResult(name, 0 if name == "trades" else None, None, None, value, None, "no trades yet")
            for name, value in asked.items()
        ),
        confidence=confidence, power="no trades yet", implied_win_rate=None, out_of_reach=(), trades=0,
        independent_trades=0.0, trades_needed=criteria.trades, expected_date=None, bootstrapped=False,
        suggest_disable=False, parameter_sets=parameter_sets,
    )  # fmt: skip

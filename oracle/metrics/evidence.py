"""How probable it is, from the trades seen, that a strategy truly wins often enough and earns enough for its risk.

Inputs: closed trades and sessions of one strategy, criteria. Outputs: columns, and the probabilities that need no
resampling, at any number of the trades: at all of them for the daemon, at each of them in a calibration, by the same
operations and so with the same bits. Invariant: what is unknown never speaks for a strategy. See docs/readiness.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Final

import numpy as np
from scipy.special import betaincc, ndtr

from oracle.core.trackrecord import ClosedTrade
from oracle.metrics.arrays import DayArrays, Floats, Ints
from oracle.metrics.criteria import Criteria
from oracle.metrics.exact import Moments
from oracle.metrics.performance import SESSIONS_A_YEAR

# The prior of the win rate counts as so many trades at break-even; that of the annual Sharpe ratio is N(0, 1.25²).
PRIOR_TRADES: Final = 20.0
PRIOR_SHARPE_SD: Final = 1.25
# Autocorrelation of outcomes is looked for up to √n trades back, and never further than this.
_MOST_LAGS: Final = 40
# A tenth of n² sessions count at most: a few trades spread over many sessions are still few trades.
_TRADES_TO_SESSIONS: Final = 0.1
_COLUMNS: Final = tuple(
    map(
        attrgetter,
        ("net_micros", "fees_modelled_micros", "worst_case_micros", "equity_micros", "opened_ns", "closed_ns"),
    )
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Columns of a strategy's trades in the order in which they count, each of shape (n,); micros are micro-dollars.

    ``phantom`` is the loss, fees included, that the strategy stored as its worst case: the largest until each trade, or
    the largest that it really lost if that is more; 0 while none is known. ``returns`` and ``phantom_return`` are
    fractions of the equity at entry; NaN where that is unknown, the latter from then on.
    """

    net: Ints
    won: Ints
    lost: Ints
    phantom: Ints
    returns: Floats
    phantom_return: Floats
    opened_ns: Ints
    closed_ns: Ints

    @classmethod
    def of(cls, trades: Sequence[ClosedTrade]) -> "Evidence":
        """Take the columns out of trades, in any order."""
        rows = sorted(trades, key=attrgetter("log_id"))
        net, fees, worst, equity, opened, closed = (
            np.fromiter(map(column, rows), np.int64, len(rows)) for column in _COLUMNS
        )
        stored = np.where(worst > 0, worst + fees, 0)
        equities = np.where(equity > 0, equity, np.nan)
        return cls(
            net=net,
            won=(net > fees).astype(np.int64),
            lost=(net < -fees).astype(np.int64),
            # Without any stored worst case nothing is known of the tail, whatever was lost so far.
            phantom=np.where(np.maximum.accumulate(stored) > 0, np.maximum.accumulate(np.maximum(stored, -net)), 0),
            returns=net / equities,
            phantom_return=np.maximum.accumulate(np.maximum(stored, -net) / equities),
            opened_ns=opened,
            closed_ns=closed,
        )

    def __len__(self) -> int:
        return self.net.size


@dataclass(frozen=True, slots=True)
class Sessions:
    """Mean and sample deviation of the daily returns after each of some numbers of sessions; shape (m,).

    ``known`` counts the sessions whose return is known. A deviation of 0 says that there is none, or too few sessions.
    """

    known: Ints
    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, days: DayArrays) -> "Sessions":
        """Sum up all sessions; shape (1,)."""
        return cls._from([Moments.of(days.returns)])

    @classmethod
    def after(cls, days: DayArrays, through: Ints) -> "Sessions":
        """Sum up the first sessions, as many as ``through`` says at each place (ascending); shape as ``through``."""
        known = np.concatenate(([0], np.cumsum(days.known)))[through]
        returns, running, found = days.returns.tolist(), Moments(), []
        for count in known.tolist():
            for value in returns[running.count : count]:
                running.add(value)
            found.append(Moments(running.count, running.total, running.squares))
        return cls._from(found)

    @classmethod
    def _from(cls, moments: Sequence[Moments]) -> "Sessions":
        return cls(
            known=np.array([m.count for m in moments], dtype=np.int64),
            mean=np.array([0.0 if m.mean is None else m.mean for m in moments]),
            deviation=np.array([0.0 if m.deviation is None else m.deviation for m in moments]),
        )


@dataclass(frozen=True, slots=True)
class Weights:
    """What some numbers of trades say; each array of shape (m,).

    ``inflation`` is how many autocorrelated trades count as one. ``average_loss`` includes the phantom. ``p_*`` are the
    probabilities that the criteria truly hold. ``sharpe`` and its error are NaN while there is none.
    """

    trades: Ints
    wins: Ints
    average_win: Floats
    average_loss: Floats
    break_even: Floats
    inflation: Floats
    sharpe: Floats
    sharpe_error: Floats
    p_win_rate: Floats
    p_above_break_even: Floats
    p_sharpe: Floats

    @property
    def least(self) -> Floats:
        """The smallest of the probabilities."""
        return np.minimum(np.minimum(self.p_win_rate, self.p_above_break_even), self.p_sharpe)


def weigh(
    evidence: Evidence, sessions: Sessions, at: Ints, criteria: Criteria, parameter_sets: int, bound: float | None
) -> Weights:
    """Give the probabilities of the criteria that need no resampling, after each of some numbers of trades.

    Args:
        sessions: what is known of the sessions then, one place for each of ``at``.
        at: numbers of trades, each at least 1; shape (m,).
        parameter_sets: how many sets of parameters this strategy could have been chosen from.
        bound: the exit plan's own break-even win rate, a floor of the realised one; None is unknown.
    """
    lucky = best_of(parameter_sets)
    wins, losses = _sums(evidence.won)[at], _sums(evidence.lost)[at]
    phantom = evidence.phantom[at - 1]
    average_win = _sums(evidence.net * evidence.won)[at] / np.maximum(wins, 1)
    average_loss = (phantom - _sums(evidence.net * evidence.lost)[at]) / (losses + 1)
    own = np.where((wins > 0) & (phantom > 0), average_loss / np.maximum(average_win + average_loss, 1), 1.0)
    break_even = own if bound is None else np.maximum(own, bound)
    inflation = inflation_of(evidence.won, at)
    # Among many there is one whose runs luck has hidden: Bartlett's estimate errs by √(4 K / 3 n) of itself.
    inflation = inflation * (1 + lucky * np.sqrt(4 * _lags(at) / (3 * at)))
    independent = at / inflation
    share = wins / at
    sharpe, error, p_sharpe = _sharpe(sessions, at, criteria.sharpe, lucky)
    return Weights(
        trades=at, wins=wins, average_win=average_win, average_loss=average_loss, break_even=break_even,
        inflation=inflation, sharpe=sharpe, sharpe_error=error,
        p_win_rate=win_rate_chance(share, independent, break_even, criteria.win_rate, lucky),
        p_above_break_even=win_rate_chance(
            share, independent, break_even, break_even + criteria.above_break_even, lucky
        ),
        p_sharpe=p_sharpe,
    )  # fmt: skip


def win_rate_chance(
    share: Floats | float,
    independent: Floats | float,
    break_even: Floats | float,
    required: Floats | float,
    lucky: float,
) -> Floats:
    """Give P(the win rate is at least ``required``) after a prior of 20 trades at break-even; 0 where 1 is asked.

    Args:
        share: won of the trades seen, ``independent`` of them.
        lucky: standard errors by which the share is lowered first: what the best of many without an edge shows.
    """
    share, independent, break_even = np.asarray(share), np.asarray(independent), np.asarray(break_even)
    luck = lucky * np.sqrt(break_even * (1 - break_even) / independent)
    shown = np.clip(share - luck, 0.0, 1.0)
    for_it = PRIOR_TRADES * break_even + independent * shown
    against = PRIOR_TRADES * (1 - break_even) + independent * (1 - shown)
    reachable = (np.asarray(required) < 1) & (against > 0)
    chance = betaincc(for_it, np.where(reachable, against, 1.0), np.where(reachable, required, 1.0))
    return np.where(reachable, chance, 0.0)


def sharpe_chance(
    daily: Floats | float, sessions: Floats | float, required: float, lucky: Floats | float
) -> tuple[Floats, Floats]:
    """Give the annual Sharpe ratio's standard error, and P(it is at least ``required``) with the prior N(0, 1.25²).

    The error is √(252 (1 + s²/2) / T) with s the daily ratio and T sessions (Lo 2002). The benchmark is raised by
    ``lucky`` standard errors, which is to lower what was seen by as much.
    """
    daily = np.asarray(daily)
    variance = SESSIONS_A_YEAR * (1 + daily * daily / 2) / np.maximum(sessions, 1e-9)
    error, prior = np.sqrt(variance), PRIOR_SHARPE_SD**2
    mean = (daily * math.sqrt(SESSIONS_A_YEAR) - lucky * error) * prior / (prior + variance)
    return error, ndtr((mean - required) / np.sqrt(prior * variance / (prior + variance)))


def _sharpe(sessions: Sessions, at: Ints, required: float, lucky: float) -> tuple[Floats, Floats, Floats]:
    """Give the annual Sharpe ratio, its error and its probability; without a deviation the prior alone speaks."""
    told = (sessions.deviation > 0) & (sessions.known > 1)
    daily = np.where(told, sessions.mean / np.where(told, sessions.deviation, 1.0), 0.0)
    counted = np.where(told, np.minimum(sessions.known.astype(np.float64), _TRADES_TO_SESSIONS * at * at), 0.0)
    error, chance = sharpe_chance(daily, counted, required, np.where(told, lucky, 0.0))
    sharpe = np.where(told, daily * math.sqrt(SESSIONS_A_YEAR), np.nan)
    return sharpe, np.where(told, error, np.nan), chance


def inflation_of(won: Ints, at: Ints) -> Floats:
    """Tell how many trades count as one because outcomes follow each other; at least 1, shape as ``at``.

    1 + 2 Σ (1 − k/(K + 1)) ρ(k) over K = √n lags (Bartlett's weights; Newey, West 1987), ρ the autocorrelation of won
    and not won. Sums are of integers, so that any number of trades gives the same bits alone or among others.
    """
    upto = _sums(won)
    share = upto[at] / at
    variance = share * (1 - share)
    lags = _lags(at)
    excess = np.zeros(at.shape)
    for lag in range(1, int(lags.max(initial=0)) + 1):
        pairs = np.maximum(at - lag, 0)
        both = np.concatenate((np.zeros(min(lag, won.size) + 1, dtype=np.int64), np.cumsum(won[lag:] * won[:-lag])))[at]
        ends = upto[pairs] + upto[at] - upto[np.minimum(lag, at)]
        covariance = (both - share * ends + pairs * share * share) / at
        excess += np.maximum(1 - lag / (lags + 1), 0) * covariance
    told = variance > 0
    return np.maximum(np.where(told, 1 + 2 * excess / np.where(told, variance, 1.0), 1.0), 1.0)


def _lags(at: Ints) -> Floats:
    return np.minimum(np.floor(np.sqrt(at)), _MOST_LAGS)


def _sums(column: Ints) -> Ints:
    """Sum the first 0, 1, …, n values; shape (n + 1,)."""
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(column)))


@lru_cache(maxsize=256)
def best_of(sets: int) -> float:
    """Give the expected best of so many independent standard normal values; 0 for one.

    How far luck alone lifts the best of N tries, in standard errors, as Bailey and López de Prado deflate a Sharpe
    ratio ("The deflated Sharpe ratio", 2014); integrated, where they approximate: ∫ 1 − Φⁿ(x) − Φⁿ(−x) dx over x > 0.

    Raises:
        ValueError: a negative number of sets.
    """
    if sets < 0:
        raise ValueError(f"{sets} sets of parameters")
    if sets <= 1:
        return 0.0
    x = np.linspace(0.0, 12.0, 24_001)
    return float(np.trapezoid((1 - ndtr(x) ** sets) - ndtr(-x) ** sets, x))

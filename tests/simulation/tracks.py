"""Simulated track records: trades and sessions of strategies whose true edge, or lack of one, is known.

Inputs: a shape by name, a seed. Outputs: closed trades and sessions as the store would give them. 1 % of the equity is
risked a trade, with one or two trades a session; each payoff scatters a little, as slippage does, and is net of fees.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from oracle.core.trackrecord import ClosedTrade, DayResult, StrategyKey

TRADES = 300
START_MICROS = 100_000_000_000
RISK = 0.01
# Fees as a share of the average win: so small that no win is a scratch, so large that they are not nothing.
_FEES = 0.03
_SCATTER = 0.1
_DAY_NS = 86_400_000_000_000
_EPOCH, _FIRST = dt.date(1970, 1, 1), dt.date(2026, 1, 5)
_OPEN_NS = 23_400_000_000_000

Outcomes = tuple[NDArray[np.bool_], float]


@dataclass(frozen=True)
class Shape:
    """How a strategy wins and loses. ``outcomes`` gives won or not, and the average win in units of the average loss.

    ``worst`` is between which multiples of the average loss the stored worst case lies.
    """

    name: str
    words: str
    outcomes: Callable[[np.random.Generator, int], Outcomes]
    worst: tuple[float, float] = (1.0, 2.0)


def independent(win_rate: float, payoff: float) -> Callable[[np.random.Generator, int], Outcomes]:
    """Trades that know nothing of each other."""
    return lambda rng, n: (rng.random(n) < win_rate, payoff)


def autocorrelated(rng: np.random.Generator, n: int) -> Outcomes:
    """A chain of outcomes: correlation 0.2, 0.4 or 0.6 from one to the next, fair at a win rate of 50, 65 or 80 %."""
    correlation, share = rng.choice([0.2, 0.4, 0.6]), rng.choice([0.5, 0.65, 0.8])
    draws = rng.random(n).tolist()
    won, before = [], bool(rng.random() < share)
    for draw in draws:
        before = draw < correlation * before + (1 - correlation) * share
        won.append(before)
    return np.array(won), (1 - share) / share


def regimes(rng: np.random.Generator, n: int) -> Outcomes:
    """Good and bad times, 1 to 30 trades long on average, of win rate 75 and 25 % or 85 and 15 %; fair over both."""
    return alternating(rng, n, rng.uniform(1, 30), rng.choice([0.75, 0.85]))


def alternating(rng: np.random.Generator, n: int, mean_length: float, high: float) -> Outcomes:
    """Good times of win rate ``high`` and bad ones of the rest, of geometric length."""
    switched = np.cumsum(rng.random(n) < 1 / mean_length) + rng.integers(2)
    return rng.random(n) < np.where(switched % 2 == 0, high, 1 - high), 1.0


NO_EDGE = (
    Shape("coin", "coin flips", independent(0.5, 1.0)),
    Shape("winners-80", "80 % winners, fair", independent(0.8, 0.25), (1.0, 1.0)),
    Shape("winners-90", "90 % winners, fair", independent(0.9, 1 / 9), (1.0, 1.0)),
    Shape("winners-95", "95 % winners at -20x", independent(0.95, 1 / 20), (1.0, 1.0)),
    Shape("winners-98.5", "98.5 % winners at -70x", independent(0.985, 1 / 70), (1.0, 1.0)),
    Shape("autocorrelated", "outcomes that follow each other", autocorrelated),
    Shape("regimes", "good and bad times", regimes),
)
# Beyond what is asked: each good and bad time lasts 30 trades on average, and is as good or bad as it gets here.
LONG_REGIMES = Shape(
    "regimes-30", "good and bad times of 30 trades, 85 and 15 %", lambda rng, n: alternating(rng, n, 30, 0.85)
)
STRONG = Shape("edge-75", "win 0.75, profit factor 3.0", independent(0.75, 1.0))
FAIR = Shape("edge-70", "win 0.70, profit factor 2.5", independent(0.70, 2.5 * 0.30 / 0.70))
BOUNDARY = Shape("boundary", "win 0.65, profit factor 2.0", independent(0.65, 2.0 * 0.35 / 0.65))


@cache
def weekdays(count: int) -> tuple[dt.date, ...]:
    """The first weekdays from the first Monday of 2026."""
    return tuple(_FIRST + dt.timedelta(days=7 * (i // 5) + i % 5) for i in range(count))


@dataclass(frozen=True)
class Track:
    """One strategy's record."""

    key: StrategyKey
    trades: list[ClosedTrade]
    days: list[DayResult]


def make(shape: Shape, seed: tuple[int, ...], trades: int = TRADES, risk: float = RISK) -> Track:
    """Simulate one strategy's record; equal for equal arguments."""
    rng = np.random.default_rng(seed)
    won, payoff = shape.outcomes(rng, trades)
    scatter = np.exp(_SCATTER * rng.standard_normal(trades) - _SCATTER**2 / 2)
    results = (np.where(won, payoff, -1.0) * scatter * risk).tolist()
    worst = float(rng.uniform(*shape.worst)) * risk
    sessions = (np.cumsum(_first_of_session(rng, trades)) - 1).tolist()
    return _record(StrategyKey(shape.name, "-".join(map(str, seed))), results, sessions, worst, _FEES * payoff * risk)


def _first_of_session(rng: np.random.Generator, trades: int) -> NDArray[np.bool_]:
    """Mark the trades that are their session's first: one or two trades a session, as often."""
    sizes = rng.integers(1, 3, trades)
    first = np.zeros(trades, dtype=np.bool_)
    starts = np.concatenate(([0], np.cumsum(sizes)))
    first[starts[starts < trades]] = True
    return first


def _record(key: StrategyKey, results: list[float], sessions: list[int], worst: float, fees: float) -> Track:
    """Book results, fractions of the equity, one after the other."""
    dates = weekdays(sessions[-1] + 1)
    equity = start = START_MICROS
    rows, days, made = [], [], 0
    for number, (result, session) in enumerate(zip(results, sessions, strict=True)):
        net, fee = round(result * equity), round(fees * equity)
        opened = (dates[session] - _EPOCH).days * _DAY_NS + (number - made + 1) * 3_600_000_000_000
        rows.append(
            _trade(key, number + 1, dates[session].isoformat(), opened, equity, net, fee, round(worst * equity))
        )
        equity += net
        if number + 1 == len(sessions) or sessions[number + 1] != session:
            held = (number + 1 - made) * 1_800_000_000_000
            days.append(DayResult(dates[session].isoformat(), equity - start, start, 0, held, _OPEN_NS))
            start, made = equity, number + 1
    return Track(key, rows, days)


def _trade(
    key: StrategyKey, number: int, session: str, opened_ns: int, equity: int, net: int, fee: int, worst: int
) -> ClosedTrade:
    return ClosedTrade(
        log_id=number, trade_id=f"t{number}", key=key, underlying="SPY", symbol="SPY260116C00600000",
        opened_ns=opened_ns, closed_ns=opened_ns + 1_800_000_000_000, session=session, contracts=1, leg_contracts=2,
        gross_micros=net + fee, net_micros=net, fees_modelled_micros=fee, fees_broker_micros=0, slippage_micros=None,
        slippage_bps=None, planned_risk_micros=round(RISK * equity), worst_case_micros=worst - fee,
        equity_micros=equity, mae_micros=None, mfe_micros=None, exit_rule="target" if net > 0 else "stop", feed="opra",
    )  # fmt: skip

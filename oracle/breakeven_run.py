"""The 0DTE condor over many simulated days: what its target, stop, delta exit and clock make of the break-even.

Inputs: the strategy's parameters, a symbol of the generated market, how many paths, a seed. Outputs: realised averages
and the break-even L/(W+L), beside the two-outcome bound. Drift 0; the day's volatility level, its profile by minute,
Student-t minutes, implied over realised volatility and the smile are the generator's; the level holds all day.
Invariants: a path is a day on which the rule found a condor; the same arguments give the same figures.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from oracle.core.instruments import CONTRACT_MULTIPLIER
from oracle.core.messages import ExitPlan
from oracle.core.sessions import minutes_of
from oracle.options.breakeven import Bound, plan_bound, realised_break_even
from oracle.options.pricing import Array, Bools, black_forward, delta_forward
from oracle.sim.pathgen import LOG_VOL_AR1, LOG_VOL_INNOVATION, SPECS, variance_profile
from oracle.sim.surface import smile
from oracle.strategies.iron_condor import IronCondorParams

# The generator's too (a test compares): innovation and memory of a symbol's own volatility, implied over realised.
OWN_VOL_INNOVATION, OWN_VOL_AR1 = 0.03, 0.97
PREMIUM_NOW = 1.08
SESSION_MIN, YEAR_MIN = 390, 365 * 24 * 60
STEPS_A_MINUTE = 2
STRIKES_EACH_WAY = 45
CHUNK = 500
# Of all days drawn, at least this share must have a condor, else the rule finds none at all.
LEAST_SHARE = 0.002
EXITS = ("target", "stop", "short_delta", "flat")
Ints = np.ndarray


@dataclass(slots=True, frozen=True)
class Outcome:
    """What one exit plan came to over all paths; dollars a unit, net of fees and slippage."""

    win_rate: float
    average_win_usd: float | None
    average_loss_usd: float | None
    expectancy_usd: float
    break_even: float | None
    exits: dict[str, float]


@dataclass(slots=True, frozen=True)
class Simulated:
    """The run: paths traded, days drawn for them, the average credit, the bound at it, and both plans' outcomes."""

    symbol: str
    paths: int
    days: int
    seed: int
    credit_usd: float
    bound: Bound | None
    with_delta_exit: Outcome
    without_delta_exit: Outcome


@dataclass(slots=True)
class _Condors:
    """Entered condors, one row each: level of volatility, spot now, the four strikes, and the credit received."""

    level: Array
    spot: Array
    strikes: Array  # columns: put wing, put short, call short, call wing
    credit: Array


_AUTOREGRESSIONS = ((LOG_VOL_INNOVATION, LOG_VOL_AR1), (OWN_VOL_INNOVATION, OWN_VOL_AR1))
_RIGHTS = np.array([False, False, True, True])
_SIGNS = np.array([1.0, -1.0, -1.0, 1.0])


class _Market:
    """Spot moves and option values of one symbol by step of the session."""

    def __init__(self, symbol: str, seed: int) -> None:
        self.spec = SPECS[symbol]
        self.rng = np.random.default_rng(seed)
        profile = np.repeat(variance_profile(SESSION_MIN) / STEPS_A_MINUTE, STEPS_A_MINUTE)
        self.share = profile
        self.left = np.concatenate([np.cumsum(profile[::-1])[::-1], [profile[-1]]])
        steady = [s / np.sqrt(1 - a * a) for s, a in _AUTOREGRESSIONS]
        self.level_sd = float(np.hypot(*steady))

    def levels(self, count: int) -> Array:
        """Volatility levels of days: log-normal around one, bounded as the generator bounds them."""
        drawn: Array = np.exp(np.clip(self.rng.normal(0.0, self.level_sd, count), -0.9, 0.9))
        return drawn

    def move(self, spot: Array, level: Array, first: int, last: int) -> Array:
        """Spot after the steps [first, last), each minute's variance scattered as a Student t of five degrees."""
        for step in range(first, last):
            factor = 3.0 / np.maximum(self.rng.chisquare(5, len(spot)), 0.25)
            sd = self.spec.intraday_sd * level * np.sqrt(self.share[step] * factor)
            spot = spot * np.exp(sd * self.rng.normal(size=len(spot)) - 0.5 * sd * sd)
        return spot

    def vols(self, level: Array, spot: Array, strike: Array, step: int) -> tuple[Array, float]:
        """Implied volatility of strikes (rows by columns) and the years left."""
        years = max(SESSION_MIN - step / STEPS_A_MINUTE, 1 / 60) / YEAR_MIN
        atm = PREMIUM_NOW * self.spec.intraday_sd * level * np.sqrt(self.left[step] / years)
        x = np.log(strike / spot[:, None]) / np.sqrt(years)
        return smile(np.broadcast_to(atm[:, None], x.shape), x, np.full(x.shape, years)), years


def simulate(
    params: IronCondorParams,
    symbol: str,
    *,
    paths: int,
    seed: int,
    fee_usd: float,
    slippage_usd: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Simulated:
    """Trade ``paths`` days on which the rule finds a condor, once with the delta exit and once without.

    Args:
        params: the strategy's; entries are made at ``entry_start``.
        symbol: of the generated market.
        paths: days with a trade.
        seed: of the draws.
        fee_usd: a contract and side.
        slippage_usd: what a unit's net price is worse than its middle, a share, at entry and at exit.
        progress: told how many paths are done.

    Raises:
        ValueError: the rule finds hardly any condor on this market.
    """
    market = _Market(symbol, seed)
    found: list[tuple[Array, Array, Ints, Array, Ints]] = []
    done = days = 0
    while done < paths:
        entered = _enter(market, params, slippage_usd)
        days += CHUNK
        if done < LEAST_SHARE * days - CHUNK:
            raise ValueError(f"on {days} days of {symbol} the rule found {done} condors; loosen its parameters")
        if not len(entered.credit):
            continue
        (with_delta, by_delta), (without, by_clock) = _run(market, params, entered, slippage_usd)
        found.append((entered.credit, with_delta, by_delta, without, by_clock))
        done += len(entered.credit)
        progress(min(done, paths))
    credit, with_delta, by_delta, without, by_clock = (
        np.concatenate([row[i] for row in found])[:paths] for i in range(5)
    )
    fees = 2 * 4 * fee_usd
    average = float(credit.mean())
    plan = ExitPlan(params.target_fraction, params.stop_fraction, None, None, None, 0, 0)
    bound = plan_bound(
        -average, plan, contracts=4, fee_usd=fee_usd, max_loss_usd=(params.wing_usd - average) * CONTRACT_MULTIPLIER
    )
    outcomes = (_outcome(with_delta, by_delta, fees), _outcome(without, by_clock, fees))
    return Simulated(symbol, paths, days, seed, average, bound, *outcomes)


def _outcome(gain: Array, ended: Ints, fees_usd: float) -> Outcome:
    results = gain * CONTRACT_MULTIPLIER - fees_usd
    wins, losses = results[results > 0], results[results < 0]
    return Outcome(
        win_rate=float((results > 0).mean()),
        average_win_usd=float(wins.mean()) if len(wins) else None,
        average_loss_usd=float(losses.mean()) if len(losses) else None,
        expectancy_usd=float(results.mean()),
        break_even=realised_break_even(results.tolist()),
        exits={name: float((ended == number).mean()) for number, name in enumerate(EXITS)},
    )


def _enter(market: _Market, params: IronCondorParams, slippage_usd: float) -> _Condors:
    """Draw days and sell the condor that the rule chooses at the first moment of entry, where it finds one."""
    step = round((minutes_of(params.entry_start) - minutes_of("09:30")) * STEPS_A_MINUTE)
    level = market.levels(CHUNK)
    spot = market.move(np.full(CHUNK, market.spec.price), level, 0, step)
    away = np.arange(-STRIKES_EACH_WAY, STRIKES_EACH_WAY + 1, dtype=np.float64)
    strike = np.round(spot)[:, None] + away
    vol, years = market.vols(level, spot, strike, step)
    call, put = (black_forward(spot[:, None], strike, years, vol, right) for right in (True, False))
    call_delta, put_delta = (delta_forward(spot[:, None], strike, years, vol, right) for right in (True, False))
    width = round(params.wing_usd)
    calls = _sides(params, call[:, :-width] - call[:, width:], call_delta[:, :-width])
    puts = _sides(params, put[:, width:] - put[:, :-width], put_delta[:, width:])
    chosen = [_best(params, *(a[i] for a in (*calls, *puts))) for i in range(CHUNK)]
    rows = np.array([i for i, pair in enumerate(chosen) if pair is not None], dtype=np.int64)
    at = np.array([pair for pair in chosen if pair is not None], dtype=np.int64).reshape(-1, 2)
    short_call, short_put = at[:, 0], at[:, 1] + width
    index = np.stack([short_put - width, short_put, short_call, short_call + width], axis=1)
    strikes = np.take_along_axis(strike[rows], index, axis=1)
    credit = calls[0][rows, at[:, 0]] + puts[0][rows, at[:, 1]] - slippage_usd
    return _Condors(level[rows], spot[rows], strikes, credit)


def _sides(params: IronCondorParams, credit: Array, delta: Array) -> tuple[Array, Array]:
    """Credits and |delta|s of the spreads by short strike; NaN where the rule does not allow the side."""
    size = np.abs(delta)
    allowed = (size >= params.abs_delta_low) & (size <= params.abs_delta_high)
    allowed &= credit >= params.min_side_credit_of_width * params.wing_usd
    return np.where(allowed, credit, np.nan), np.where(allowed, size, np.nan)


def _best(
    params: IronCondorParams, call_credit: Array, call_size: Array, put_credit: Array, put_size: Array
) -> tuple[int, int] | None:
    """The pair that pays enough in all with the smallest greater |delta|, then the smallest sum; None if none."""
    calls, puts = np.flatnonzero(~np.isnan(call_size)), np.flatnonzero(~np.isnan(put_size))
    pairs = [
        (max(call_size[c], put_size[p]), call_size[c] + put_size[p], int(c), int(p))
        for c in calls
        for p in puts
        if call_credit[c] + put_credit[p] >= params.min_credit_of_width * params.wing_usd
    ]
    return min(pairs)[2:] if pairs else None


def _run(
    market: _Market, params: IronCondorParams, entered: _Condors, slippage_usd: float
) -> tuple[tuple[Array, Ints], tuple[Array, Ints]]:
    """Follow the condors to their ends: gain a share and the number of the exit, with the delta exit and without."""
    first, last = (
        round((minutes_of(t) - minutes_of("09:30")) * STEPS_A_MINUTE) for t in (params.entry_start, params.flat_at)
    )
    count = len(entered.credit)
    gains = np.full((2, count), np.nan)
    ended = np.full((2, count), EXITS.index("flat"))
    live = np.ones((2, count), dtype=bool)
    spot = entered.spot
    for step in range(first, last):
        spot = market.move(spot, entered.level, step, step + 1)
        rows = np.flatnonzero(live.any(axis=0))
        if not len(rows):
            break
        cost, size = _worth(market, entered, spot, rows, step + 1)
        gain = entered.credit[rows] - cost
        for variant, delta_exit in enumerate((True, False)):
            over = _over(params, entered.credit[rows], gain, size, delta_exit)
            over[(over < 0) & (step + 1 == last)] = EXITS.index("flat")
            out = (over >= 0) & live[variant, rows]
            gains[variant, rows[out]] = gain[out] - slippage_usd
            ended[variant, rows[out]] = over[out]
            live[variant, rows[out]] = False
    return (gains[0], ended[0]), (gains[1], ended[1])


def _over(params: IronCondorParams, credit: Array, gain: Array, size: Array, delta_exit: bool) -> Ints:
    """The number of the exit that is due for each condor, -1 for none; the target stands before the others."""
    due = np.full(len(gain), -1)
    if delta_exit:
        due[size >= params.short_delta_stop] = EXITS.index("short_delta")
    due[gain <= -params.stop_fraction * credit] = EXITS.index("stop")
    due[gain >= params.target_fraction * credit] = EXITS.index("target")
    return due


def _worth(market: _Market, entered: _Condors, spot: Array, rows: Ints, step: int) -> tuple[Array, Array]:
    """What closing costs a share at the middle, and the greater |delta| of the shorts."""
    here, strikes = spot[rows], entered.strikes[rows]
    vol, years = market.vols(entered.level[rows], here, strikes, step)
    rights: Bools = np.broadcast_to(_RIGHTS, strikes.shape)
    prices = black_forward(here[:, None], strikes, years, vol, rights)
    shorts = delta_forward(here[:, None], strikes[:, 1:3], years, vol[:, 1:3], rights[:, 1:3])
    cost: Array = -(prices * _SIGNS).sum(axis=1)
    size: Array = np.abs(shorts).max(axis=1)
    return cost, size

"""Synthetic stock paths: the daily skeleton (volatility, gaps, day returns) and a session second by second.

Inputs: seed, symbol specification, session. Outputs: log mid for each second of a session (a Brownian bridge in
realised variance to the day's return, so days chain exactly) and each minute's volume. Figures are measured
on SPY (mean of half hours over five sessions), scaled to each symbol.
Invariant: a session's arrays are a pure function of (seed, symbol, session, opening level, volatility state).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from oracle.core.sessions import NS, Session
from oracle.sim.noise import Floats, stream

SD_BY_HALF_HOUR_BP = (4.32, 3.78, 3.56, 3.50, 3.28, 2.53, 2.36, 2.69, 2.49, 3.62, 2.61, 2.73, 3.68)
VOLUME_BY_HALF_HOUR = (12.9, 9.0, 8.1, 7.8, 6.8, 5.3, 4.2, 5.3, 5.0, 6.4, 4.6, 7.3, 17.2)
LOG_VOL_AR1 = 0.9825
LOG_VOL_INNOVATION = 0.068
LEVERAGE = -0.74  # correlation of the day's return with the innovation of log volatility
_OWN_VOL_AR1 = 0.97
_OWN_VOL_INNOVATION = 0.03
_JUMP_CHANCE = 0.02  # of a session: news that moves everything
_JUMP_S = 120  # in which it does
_LATE_CHANCE = 0.015  # of a minute: trades reported after the bar went out


@dataclass(frozen=True, slots=True)
class SymbolSpec:
    """What sets one symbol apart: level, day's standard deviations at mean volatility, common-factor loading."""

    symbol: str
    price: float
    intraday_sd: float
    overnight_sd: float
    market_corr: float
    daily_shares: float
    dividend_yield: float


SPECS = {
    spec.symbol: spec
    for spec in (
        SymbolSpec("IWM", 240.0, 0.0090, 0.0080, 0.86, 30e6, 0.010),
        SymbolSpec("QQQ", 610.0, 0.0086, 0.0079, 0.94, 45e6, 0.005),
        SymbolSpec("SPY", 680.0, 0.0067, 0.0064, 0.97, 65e6, 0.011),
    )
}


class Skeleton:
    """Daily volatility states and unplanted returns of every session of a table.

    ``vol[symbol][i]`` multiplies the symbol's standard deviations in session i (known at its open; one more
    than there are sessions). ``gap`` and ``intraday`` are log returns, ``jump`` the session's news jump.
    """

    def __init__(self, seed: int, sessions: Sequence[Session], specs: Sequence[SymbolSpec]) -> None:
        count = len(sessions)
        self.vol = {s.symbol: np.ones(count + 1) for s in specs}
        self.gap = {s.symbol: np.zeros(count) for s in specs}
        self.intraday = {s.symbol: np.zeros(count) for s in specs}
        self.jump = np.zeros(count)
        market = float(stream(seed, "vol", sessions[0].date).normal(0.0, 0.25))
        own = {s.symbol: 0.0 for s in specs}
        for i, session in enumerate(sessions):
            rng = stream(seed, "day", session.date)
            overnight = float(rng.standard_t(5)) * 0.6**0.5
            intraday, innovation = float(rng.normal()), float(rng.normal())
            jump = float(rng.choice((-1.0, 1.0)) * rng.uniform(0.004, 0.010)) if rng.random() < _JUMP_CHANCE else 0.0
            self.jump[i] = jump
            for spec in specs:
                symbol = spec.symbol
                rng = stream(seed, "day", session.date, symbol)
                load, rest = spec.market_corr, (1.0 - spec.market_corr**2) ** 0.5
                vol = float(np.exp(np.clip(market + own[symbol], -0.9, 0.9)))
                length = float(np.sum(variance_profile(minutes_in(session))))
                self.vol[symbol][i] = vol
                self.gap[symbol][i] = spec.overnight_sd * vol * (load * overnight + rest * float(rng.normal()))
                shock = spec.intraday_sd * vol * length**0.5 * (load * intraday + rest * float(rng.normal()))
                self.intraday[symbol][i] = shock + jump
                own[symbol] = _OWN_VOL_AR1 * own[symbol] + _OWN_VOL_INNOVATION * float(rng.normal())
            day = 0.69 * overnight + 0.72 * intraday
            shock = LEVERAGE * day + (1.0 - LEVERAGE**2) ** 0.5 * innovation
            market = float(np.clip(LOG_VOL_AR1 * market + LOG_VOL_INNOVATION * shock, -0.8, 0.8))
        for spec in specs:
            self.vol[spec.symbol][count] = float(np.exp(np.clip(market + own[spec.symbol], -0.9, 0.9)))


def minutes_in(session: Session) -> int:
    """Minutes of a session: 390, or 210 on a half-day."""
    return (session.close_ns - session.open_ns) // (60 * NS)


@lru_cache(maxsize=8)
def variance_profile(minutes: int) -> Floats:
    """Share of a full session's variance in each minute; a half-day keeps its first 2½ hours and the last hour."""
    return _by_minute(tuple(sd * sd for sd in SD_BY_HALF_HOUR_BP), minutes)


@lru_cache(maxsize=8)
def volume_profile(minutes: int) -> Floats:
    """Share of a full session's volume in each minute."""
    return _by_minute(VOLUME_BY_HALF_HOUR, minutes)


def _by_minute(half_hours: tuple[float, ...], minutes: int) -> Floats:
    full = np.asarray(half_hours, dtype=np.float64)
    tail = minutes // 30 - 5
    values = full if minutes >= 390 else np.concatenate([full[:5], full[13 - tail :]])
    middles = 30.0 * np.arange(len(values)) + 15.0
    curve: Floats = np.exp(np.interp(np.arange(minutes) + 0.5, middles, np.log(values)))
    return curve * (float(values.sum()) / float(full.sum())) / float(curve.sum())


@lru_cache(maxsize=4)
def _market_noise(seed: int, date: str, minutes: int) -> tuple[Floats, Floats, float]:
    """Common noise of a session: unit normals by second, variance factor by minute, the jump's second as a share.

    The factor is 3 / chi-square(5), which makes minute returns Student t with five degrees of freedom, times
    a slow log-normal that lets calm and busy minutes cluster.
    """
    rng = stream(seed, "path", date)
    slow = np.empty(minutes)
    level = 0.0
    for i, shock in enumerate(rng.normal(size=minutes).tolist()):
        level = 0.95 * level + 0.0775 * shock
        slow[i] = level
    factor = np.exp(2.0 * slow - 0.12) * 3.0 / np.maximum(rng.chisquare(5, size=minutes), 0.25)
    return rng.normal(size=minutes * 60), factor, float(rng.uniform(0.05, 0.95))


def natural_path(
    seed: int, spec: SymbolSpec, session: Session, *, open_log: float, vol: float, intraday: float, jump: float
) -> Floats:
    """Draw the unplanted log mid at each whole second from the open to the close, both included.

    The last value is exactly ``open_log + intraday``.
    """
    minutes = minutes_in(session)
    market, factor, when = _market_noise(seed, session.date, minutes)
    rng = stream(seed, "path", session.date, spec.symbol)
    variance = np.repeat(variance_profile(minutes) * factor / 60.0, 60)
    mixed = spec.market_corr * market + (1.0 - spec.market_corr**2) ** 0.5 * rng.normal(size=minutes * 60)
    walk = spec.intraday_sd * vol * np.cumsum(np.sqrt(variance) * mixed)
    clock = np.cumsum(variance)
    walk += clock / clock[-1] * (intraday - jump - walk[-1])
    walk += jump * np.clip((np.arange(len(walk)) - int(when * len(walk))) / _JUMP_S, 0.0, 1.0)
    path: Floats = open_log + np.concatenate([[0.0], walk])
    return path


def minute_volume(seed: int, spec: SymbolSpec, session: Session, vol: float) -> Floats:
    """Draw each minute's share volume: the U shape, heavier when volatility is high and minutes are busy."""
    minutes = minutes_in(session)
    factor = _market_noise(seed, session.date, minutes)[1]
    rng = stream(seed, "volume", session.date, spec.symbol)
    noise = np.exp(0.25 * rng.normal(size=minutes) - 0.03)
    busy = 0.55 + 0.45 * np.sqrt(np.minimum(factor, 9.0))
    volume: Floats = spec.daily_shares * vol**0.5 * volume_profile(minutes) * noise * busy
    return volume


def late_volume(seed: int, symbol: str, session: Session, volume: Floats) -> Floats:
    """Draw the shares reported late for each minute: zero for most, up to 2 % of the bar for a few."""
    rng = stream(seed, "late", session.date, symbol)
    count = len(volume)
    late = np.where(rng.random(count) < _LATE_CHANCE, volume * rng.uniform(0.002, 0.02, count), 0.0)
    late[-1] = 0.0  # the correction of the last minute would fall after the close
    whole: Floats = np.floor(late)
    return whole

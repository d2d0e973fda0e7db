"""Planted truths: a momentum entry bent into a session's natural path at a declared minute.

Inputs: the natural log path by second, the peer's, minute volumes, the plan. Output: the bent path and volumes.
Invariants: at the declared minute, and not the one before, the EMA(9) of closes is beyond the EMA(21), the close is
beyond the session's VWAP, ahead of the peer over 30 minutes, on at least 2.6 times the usual volume of the minute.
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from oracle.core.errors import ConfigurationError
from oracle.sim.noise import Floats, stream
from oracle.sim.planted import PlantedBreakout, bridge, check_plant

PAIR: Final = {"SPY": "QQQ", "QQQ": "SPY"}
FIRST_MIN, LAST_MIN = 76, 92  # 10:46 to 11:02: averages have forgotten the open, and 11:30 leaves room to pay
_CALM_S, _DIP_S, _RETURN_S = 30 * 60, 8 * 60, 15 * 60
_FAST, _SLOW = 2.0 / 10.0, 2.0 / 22.0  # weights of EMA(9) and EMA(21)
_CROSSED, _APART = 1.2e-4, 0.6e-4  # log gap of the averages after and before the crossing minute
_BEYOND = 5.0e-4  # least log distance beyond VWAP, and ahead of the peer
_FULL_SESSION_MIN = 390


class PlantedMomentum(msgspec.Struct, frozen=True):
    """One momentum entry to plant. ``minute`` counts from the open (80 is the bar that starts at 10:50 New York).

    ``follow_through`` False plants a failure: the move is given back, and more, within ten minutes.
    """

    symbol: str
    date: str
    minute: int
    direction: Literal["up", "down"]
    follow_through: bool = True

    @property
    def sign(self) -> float:
        """+1 for up, -1 for down."""
        return 1.0 if self.direction == "up" else -1.0


Plant = PlantedBreakout | PlantedMomentum


def with_momentum(seed: int, plants: Sequence[PlantedBreakout], half_days: Sequence[str]) -> tuple[Plant, ...]:
    """Turn one breakout of each whole session, SPY's or QQQ's, into a momentum entry; about one in four fails."""
    out: list[Plant] = []
    for plant in plants:
        rng = stream(seed, "momentum", plant.date)
        chosen = sorted(PAIR)[int(rng.integers(0, 2))]
        minute = int(rng.integers(FIRST_MIN, LAST_MIN + 1))
        up, holds = bool(rng.random() < 0.5), bool(rng.random() < 0.76)
        if plant.symbol != chosen or plant.date in half_days:
            out.append(plant)
        else:
            out.append(PlantedMomentum(chosen, plant.date, minute, "up" if up else "down", holds))
    return tuple(out)


def check(plant: Plant, minutes: int) -> None:
    """Refuse a plan that does not fit its session of ``minutes`` minutes.

    Raises:
        ConfigurationError: the minute is not usable, or a momentum entry has no peer or no whole session.
    """
    if isinstance(plant, PlantedBreakout):
        check_plant(plant, minutes)
        return
    what = f"momentum of {plant.symbol} on {plant.date}"
    if plant.symbol not in PAIR:
        raise ConfigurationError("plant.symbol", f"{what} has no peer", f"choose one of {', '.join(PAIR)}")
    if minutes < _FULL_SESSION_MIN:
        raise ConfigurationError("plant.date", f"{what} is a half-day, without time for it", "choose a whole session")
    if not FIRST_MIN <= plant.minute <= LAST_MIN:
        fix = f"choose {FIRST_MIN} to {LAST_MIN}"
        raise ConfigurationError("plant.minute", f"{plant.minute}: {what} is outside the usable minutes", fix)


def bend_momentum_path(
    seed: int, plant: PlantedMomentum, natural: Floats, *, peer: Floats, volume: Floats, day_sd: float
) -> Floats:
    """Bend a natural log path (one value per second from the open) so that the plan is true of it.

    Args:
        seed: of the market; draws the details.
        plant: the plan, already checked.
        natural: log mids; not changed.
        peer: log mids of the peer.
        volume: each minute's shares, the planted minute's included.
        day_sd: the symbol's intraday standard deviation of this session, which sizes the follow-through.
    """
    rng = stream(seed, "momentum path", plant.date, plant.symbol)
    sign, start, stop = plant.sign, plant.minute * 60, plant.minute * 60 + 60
    path = natural.copy()
    ready = _lead(path, natural, sign=sign, start=start, volume=volume)
    beyond = _beyond(path, peer, sign=sign, minute=plant.minute, volume=volume)
    step = np.diff(natural[start : stop + 1])
    path[start : stop - 9] = bridge(ready, 0.3 * step[: stop - 10 - start], beyond)
    path[stop - 10 : stop + 1] = beyond
    size = max(0.0042, 0.62 * day_sd + 0.0008) * float(rng.uniform(1.0, 1.25))
    if plant.follow_through:
        end = min(stop + int(rng.integers(14, 21)) * 60, len(path) - 1)
        path[stop : end + 1] = bridge(beyond, 0.35 * np.diff(natural[stop : end + 1]), beyond + sign * size)
        floor = beyond - sign * 3.0e-4
        path[stop : end + 1] = floor + sign * np.abs(path[stop : end + 1] - floor)
    else:
        end = min(stop + int(rng.integers(6, 11)) * 60, len(path) - 1)
        path[stop : end + 1] = bridge(beyond, 0.4 * np.diff(natural[stop : end + 1]), beyond - sign * size)
    path[end:] = path[end] + natural[end:] - natural[end]
    return path


def bend_momentum_volume(seed: int, plant: PlantedMomentum, volume: Floats, usual: float) -> Floats:
    """Raise the minute's volume to 2.6-3.4 times what is usual (its mean over earlier sessions), the next ones less."""
    rng = stream(seed, "momentum volume", plant.date, plant.symbol)
    out, m = volume.copy(), plant.minute
    least = max(usual, float(out[m - 20 : m].mean()))
    out[m] = max(float(out[m]), float(rng.uniform(2.6, 3.4)) * least)
    after = out[m + 1 : m + 7]
    out[m + 1 : m + 7] = after * np.linspace(1.8, 1.1, len(after))
    return out


def averages(closes: Floats) -> tuple[float, float]:
    """EMA(9) and EMA(21) of log closes, from the first one on."""
    fast = slow = float(closes[0])
    for close in closes[1:].tolist():
        fast += _FAST * (close - fast)
        slow += _SLOW * (close - slow)
    return fast, slow


def vwap_log(path: Floats, volume: Floats, minutes: int) -> float:
    """Log VWAP of the first minutes: each minute's mean log mid, weighted by its volume."""
    means = path[: minutes * 60].reshape(minutes, 60).mean(axis=1)
    return float(np.average(means, weights=volume[:minutes]))


def _lead(path: Floats, natural: Floats, *, sign: float, start: int, volume: Floats) -> float:
    """Lead the path back to its VWAP, calm it, and let it dip until the averages part (changes ``path``)."""
    calm = start - _CALM_S
    first = calm - _RETURN_S
    centre = vwap_log(path, volume, first // 60)
    path[first : calm + 1] = bridge(float(path[first]), 0.3 * np.diff(natural[first : calm + 1]), centre)
    dip = start - _DIP_S
    path[calm : dip + 1] = bridge(centre, 0.15 * np.diff(natural[calm : dip + 1]), centre)
    ready = centre
    while True:
        ready -= sign * 1.0e-4
        path[dip : start + 1] = bridge(centre, 0.08 * np.diff(natural[dip : start + 1]), ready)
        fast, slow = averages(path[60 : start + 1 : 60])
        if sign * (slow - fast) >= _APART:
            return ready


def _beyond(path: Floats, peer: Floats, *, sign: float, minute: int, volume: Floats) -> float:
    """Where the minute must close: the averages cross, VWAP is passed, and the peer is left behind."""
    stop = minute * 60 + 60
    fast, slow = averages(path[60 : minute * 60 + 1 : 60])
    crossed = (sign * _CROSSED - (1.0 - _FAST) * fast + (1.0 - _SLOW) * slow) / (_FAST - _SLOW)
    passed = vwap_log(path, volume, minute) + sign * _BEYOND
    base = stop - _CALM_S
    ahead = float(path[base] + peer[stop] - peer[base]) + sign * _BEYOND
    best = max(sign * crossed, sign * passed, sign * ahead)
    return sign * best

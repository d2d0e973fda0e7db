"""Planted truths: opening-range breakouts bent into a session's natural path at a declared minute.

Inputs: the natural log path by second and the plan. Output: the bent path and minute volumes.
Invariants: before the breakout minute no price leaves the opening range (09:30-10:30); the breakout minute closes
0.20-0.25 % beyond its edge on at least 2.6 times the mean volume of the 20 minutes before; everything is a pure
function of (seed, plan, natural path).
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from oracle.core.errors import ConfigurationError
from oracle.sim.noise import Floats, stream

RANGE_MIN = 60
RANGE_S = RANGE_MIN * 60
BREAK_FRACTION = 0.0015
_ROOM_AFTER_MIN = 30
_PLACES = 3
_EDGE_MARGIN = 1.5e-4  # inside the range by this log distance, so that a print at the far side of the spread stays in
_LEAST_RANGE = 2.0e-3


class PlantedBreakout(msgspec.Struct, frozen=True):
    """One breakout to plant. ``minute`` counts from the open (60 is the bar that starts at 10:30 New York).

    ``follow_through`` False plants a failure: the price is back inside the range within ten minutes.
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


def default_plants(seed: int, dates: Sequence[str], symbols: Sequence[str]) -> tuple[PlantedBreakout, ...]:
    """Choose one breakout per symbol and session between 10:32 and 12:15 New York (so half-days fit too).

    Symbols of a session mostly share a direction; they break one after another, some 45 minutes apart, so that a
    trade on one is mostly over when the next begins; about one in four fails.
    """
    plants = []
    for date in dates:
        rng = stream(seed, "plants", date)
        up = bool(rng.random() < 0.5)
        order = [sorted(symbols)[i] for i in rng.permutation(len(symbols))]
        for place, symbol in enumerate(order):
            rng = stream(seed, "plants", date, symbol)
            rises = up if rng.random() < 0.85 else not up
            minute = 62 + 46 * (place % _PLACES) + int(rng.integers(0, 11))
            holds = bool(rng.random() < 0.76)
            plants.append(PlantedBreakout(symbol, date, minute, "up" if rises else "down", holds))
    plants.sort(key=lambda plant: (plant.date, plant.symbol))
    return tuple(plants)


def check_plant(plant: PlantedBreakout, minutes: int) -> None:
    """Refuse a plan that does not fit its session of ``minutes`` minutes.

    Raises:
        ConfigurationError: the minute is inside the opening range or too near the close.
    """
    latest = minutes - _ROOM_AFTER_MIN
    if not RANGE_MIN + 2 <= plant.minute <= latest:
        raise ConfigurationError(
            "plant.minute",
            f"{plant.minute} on {plant.date} for {plant.symbol} is outside the session's usable minutes",
            f"choose {RANGE_MIN + 2} to {latest}",
        )


def bend_path(seed: int, plant: PlantedBreakout, natural: Floats, day_sd: float) -> Floats:
    """Bend a natural log path (one value per second from the open) so that the plan is true of it.

    Args:
        seed: of the market; draws the details (length and size of the move).
        plant: the plan, already checked.
        natural: log mids; not changed.
        day_sd: the symbol's intraday standard deviation of this session, which sizes the follow-through.
    """
    rng = stream(seed, "breakout", plant.date, plant.symbol)
    path = natural.copy()
    low, high = _opening_range(path)
    edge = high if plant.sign > 0 else low
    start, stop = plant.minute * 60, plant.minute * 60 + 60
    ready = edge - plant.sign * 3.0e-4
    _coil(path, low, high, ready=ready, start=start, day_sd=day_sd)
    beyond = edge + plant.sign * (BREAK_FRACTION + float(rng.uniform(5e-4, 10e-4)))
    step = np.diff(natural[start : stop + 1])
    path[start : stop - 14] = bridge(ready, 0.4 * step[: stop - 15 - start], beyond)
    path[stop - 15 : stop + 1] = bridge(beyond, 0.05 * step[stop - 15 - start :], beyond)
    if plant.follow_through:
        size = max(0.0042, 0.62 * day_sd + 0.0008) * float(rng.uniform(1.0, 1.25))
        end = min(stop + int(rng.integers(32, 52)) * 60, len(path) - 1)
        # Breaks are mostly tested again before they go on: for half a minute the price gives back a part of it.
        back = stop + int(rng.integers(25, 50))
        tested = beyond - plant.sign * 4.5e-4
        path[stop : back + 1] = bridge(beyond, 0.3 * np.diff(natural[stop : back + 1]), tested)
        path[back : end + 1] = bridge(tested, 0.55 * np.diff(natural[back : end + 1]), beyond + plant.sign * size)
        floor = edge + plant.sign * 6.0e-4
        path[stop : end + 1] = floor + plant.sign * np.abs(path[stop : end + 1] - floor)
    else:
        turn = min(stop + int(rng.integers(4, 9)) * 60, len(path) - 1)
        end = min(turn + 40 * 60, len(path) - 1)
        inside = edge - plant.sign * 6.0e-4
        middle = 0.5 * (low + high)
        path[stop : turn + 1] = bridge(beyond, 0.6 * np.diff(natural[stop : turn + 1]), inside)
        path[turn : end + 1] = bridge(inside, 0.6 * np.diff(natural[turn : end + 1]), middle)
    path[end:] = path[end] + natural[end:] - natural[end]
    return path


def bend_volume(seed: int, plant: PlantedBreakout, volume: Floats) -> Floats:
    """Raise the breakout minute's volume to 2.6-3.4 times its trailing mean of 20 minutes, and the next ones less."""
    rng = stream(seed, "breakout volume", plant.date, plant.symbol)
    out = volume.copy()
    m = plant.minute
    out[m] = max(float(out[m]), float(rng.uniform(2.6, 3.4)) * float(out[m - 20 : m].mean()))
    after = out[m + 1 : m + 7]
    out[m + 1 : m + 7] = after * np.linspace(1.8, 1.1, len(after))
    return out


def _opening_range(path: Floats) -> tuple[float, float]:
    """Find the first hour's extremes, widening an hour too quiet to make a range (changes ``path``)."""
    hour = path[:RANGE_S]
    width = float(hour.max() - hour.min())
    if width < _LEAST_RANGE:
        stretched = path[0] + (path[: RANGE_S + 1] - path[0]) * (_LEAST_RANGE / max(width, 1e-6))
        path[RANGE_S + 1 :] += stretched[-1] - path[RANGE_S]
        path[: RANGE_S + 1] = stretched
    return float(path[:RANGE_S].min()), float(path[:RANGE_S].max())


def _coil(path: Floats, low: float, high: float, *, ready: float, start: int, day_sd: float) -> None:
    """Keep the path inside the range from its end to second ``start``, ending at ``ready`` (changes ``path``)."""
    margin = min(_EDGE_MARGIN, 0.2 * (high - low))
    free = day_sd * ((start - RANGE_S) / 23_400) ** 0.5
    scale = float(np.clip(0.8 * (high - low) / free, 0.35, 1.0))
    walk = bridge(float(path[RANGE_S]), scale * np.diff(path[RANGE_S : start + 1]), ready)
    path[RANGE_S : start + 1] = _fold(walk, low + margin, high - margin)


def bridge(first: float, steps: Floats, last: float) -> Floats:
    """Walk by ``steps`` from ``first``, drifting evenly so as to end at ``last``; one value more than steps."""
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    share = np.arange(len(walk)) / max(len(walk) - 1, 1)
    bridged: Floats = first + walk + share * (last - first - walk[-1])
    return bridged


def _fold(walk: Floats, low: float, high: float) -> Floats:
    """Reflect a walk at both ends of a band as often as needed; inside the band nothing changes."""
    width = high - low
    phase = np.mod(walk - low, 2.0 * width)
    folded: Floats = low + np.where(phase > width, 2.0 * width - phase, phase)
    return folded

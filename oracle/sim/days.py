"""Every session of the synthetic market, made on demand and remembered: levels, tapes, bars, volatility states.

Inputs: seed, session table, traded dates, plants. Before the first traded date prices chain backwards from the symbol's
level there; from it on they chain forwards through each session's true close, plants included.
Invariant: what is remembered is only ever a copy of what would be made again.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from oracle.core.errors import ConfigurationError
from oracle.core.sessions import NS, SessionTable
from oracle.sim.noise import Floats, stream
from oracle.sim.pathgen import (
    LEVERAGE,
    LOG_VOL_INNOVATION,
    Skeleton,
    SymbolSpec,
    late_volume,
    minute_volume,
    minutes_in,
    natural_path,
    volume_profile,
)
from oracle.sim.planted import RANGE_MIN, bend_path, bend_volume
from oracle.sim.planted_momentum import (
    PAIR,
    Plant,
    PlantedMomentum,
    bend_momentum_path,
    bend_momentum_volume,
    check,
)
from oracle.sim.planted_options import PlantedVolShock, shock_at
from oracle.sim.source import SourceBar
from oracle.sim.surface import month_iv
from oracle.sim.tape import MIDNIGHT_NS, Tape, make_tape

LEAST_HISTORY = 120
MOST_HISTORY = 300
MINUTE_HISTORY = 40  # sessions of minute bars before the first traded one
USUAL_SESSIONS = 20  # behind a minute's usual volume
_TAPES, _BAR_DAYS = 9, 100  # remembered at most


class Days:
    """The synthetic sessions, by index into ``sessions`` (history first, then to the last traded date).

    Raises:
        ConfigurationError: no dates, a date without a session, dates out of order, too little history, a plant
            that does not fit.
    """

    def __init__(
        self,
        seed: int,
        table: SessionTable,
        dates: Sequence[str],
        specs: Sequence[SymbolSpec],
        plants: Sequence[Plant],
        shocks: Sequence[PlantedVolShock] = (),
    ) -> None:
        _check_dates(table, dates)
        self._shocks: dict[str, list[PlantedVolShock]] = {}
        for shock in shocks:
            self._shocks.setdefault(shock.symbol, []).append(shock)
        self.seed = seed
        self.specs = {s.symbol: s for s in specs}
        history = table.before(dates[0], MOST_HISTORY)
        self.first = len(history)
        self.sessions = history + tuple(s for s in table.sessions if dates[0] <= s.date <= dates[-1])
        self.index = {s.date: i for i, s in enumerate(self.sessions)}
        self.traded = [self.index[d] for d in dates]
        self.plants = self._by_place(plants, set(dates))
        self._usual: dict[tuple[str, int], float] = {}
        self._skeleton = Skeleton(seed, self.sessions, specs)
        self._open_log: dict[str, list[float]] = {s.symbol: self._history_opens(s) for s in specs}
        self._tapes: OrderedDict[tuple[str, int], Tape] = OrderedDict()
        self._minute_bars: OrderedDict[tuple[str, int], list[SourceBar]] = OrderedDict()
        self._day_bars: dict[tuple[str, int], SourceBar] = {}

    def open_log(self, symbol: str, i: int) -> float:
        """Log mid at the open of session i."""
        opens = self._open_log[symbol]
        while len(opens) <= i:
            opens.append(self.close_log(symbol, len(opens) - 1) + float(self._skeleton.gap[symbol][len(opens)]))
        return opens[i]

    def close_log(self, symbol: str, i: int) -> float:
        """Log mid at the close of session i, planted moves included."""
        if (symbol, i) in self.plants:
            return float(self._path(symbol, i)[-1])
        return self.open_log(symbol, i) + float(self._skeleton.intraday[symbol][i])

    def close_before(self, symbol: str, i: int) -> float:
        """Mid at the close of the session before i, in dollars."""
        return float(np.exp(self.open_log(symbol, i) - self._skeleton.gap[symbol][i]))

    def log_vol(self, symbol: str, i: int) -> float:
        """Log volatility state at the close of the session before i, planted shocks included."""
        return self._own_log_vol(symbol, i) + float(self._shock(symbol, i - 1, np.ones(1))[0])

    def _own_log_vol(self, symbol: str, i: int) -> float:
        return float(np.log(self._skeleton.vol[symbol][i]))

    def _shock(self, symbol: str, i: int, share: Floats) -> Floats:
        """What planted shocks add at shares of session i's open time."""
        total: Floats = np.zeros(len(share))
        for shock in self._shocks.get(symbol, ()):
            place = self.index[shock.date]
            total += shock_at(shock, i - place, share, minutes_in(self.sessions[place]))
        return total

    def log_vol_path(self, symbol: str, i: int) -> Floats:
        """Log volatility state at each whole minute of session i: from its open's to its close's, against the price."""
        tape, spec = self.tape(symbol, i), self.specs[symbol]
        moved = (tape.log_mid[::60] - tape.log_mid[0]) / (spec.intraday_sd * self._skeleton.vol[symbol][i])
        push = 0.5 * LEVERAGE * LOG_VOL_INNOVATION * np.clip(moved, -4.0, 4.0)
        first, last = self._own_log_vol(symbol, i), self._own_log_vol(symbol, i + 1)
        state: Floats = first + push + np.linspace(0.0, last - first - float(push[-1]), len(push))
        return state + self._shock(symbol, i, np.linspace(0.0, 1.0, len(push)))

    def month_iv(self, symbol: str, i: int) -> float:
        """30-day at-the-money implied volatility at the close of session i."""
        return month_iv(self.specs[symbol], self.log_vol(symbol, i + 1))

    def tape(self, symbol: str, i: int) -> Tape:
        """The tape of session i (about 10 ms when it is new)."""
        found = self._tapes.get((symbol, i))
        if found is not None:
            self._tapes.move_to_end((symbol, i))
            return found
        session = self.sessions[i]
        volume = self._volume(symbol, i)
        late = late_volume(self.seed, symbol, session, volume)
        tape = make_tape(self.seed, symbol, session, self._path(symbol, i), volume=volume, late=late)
        self._tapes[symbol, i] = tape
        if len(self._tapes) > _TAPES:
            self._tapes.popitem(last=False)
        return tape

    def minute_bars(self, symbol: str, i: int) -> list[SourceBar]:
        """Minute bars of session i with late trades included."""
        found = self._minute_bars.get((symbol, i))
        if found is None:
            tape = self.tape(symbol, i)
            found = [tape.bar(m, updated=True) for m in range(len(tape.bar_volume))]
            self._minute_bars[symbol, i] = found
            if len(self._minute_bars) > _BAR_DAYS:
                self._minute_bars.popitem(last=False)
        return found

    def day_bar(self, symbol: str, i: int) -> SourceBar:
        """The daily bar of the whole session i."""
        found = self._day_bars.get((symbol, i))
        if found is None:
            if i < self.first - MINUTE_HISTORY:
                found = self._old_day_bar(symbol, i)
            else:
                tape = self.tape(symbol, i)
                found = tape.day_bar(len(tape.bar_volume))
            self._day_bars[symbol, i] = found
        return found

    def declare(self, symbol: str, i: int) -> Mapping[str, Any]:
        """Describe the plant of session i as its bars show it; ``at_ns`` is the end of the breakout's bar."""
        plant, tape = self.plants[symbol, i], self.tape(symbol, i)
        m, cents, volume = plant.minute, tape.bar_cents, tape.bar_volume
        if isinstance(plant, PlantedMomentum):
            return self._declare_momentum(plant, i, tape)
        high, low = int(cents[:RANGE_MIN, 1].max()) / 100, int(cents[:RANGE_MIN, 2].min()) / 100
        return {
            "kind": "opening_range_breakout",
            "symbol": symbol,
            "date": plant.date,
            "at_ns": tape.open_ns + (m + 1) * 60 * NS,
            "bar_start_ns": tape.open_ns + m * 60 * NS,
            "minute": m,
            "direction": plant.direction,
            "follow_through": plant.follow_through,
            "level": high if plant.sign > 0 else low,
            "range_high": high,
            "range_low": low,
            "close": int(cents[m, 3]) / 100,
            "volume_ratio": round(float(volume[m] / volume[m - 20 : m].mean()), 4),
        }

    def _declare_momentum(self, plant: PlantedMomentum, i: int, tape: Tape) -> Mapping[str, Any]:
        m = plant.minute
        typical = tape.bar_cents[: m + 1, 1:].mean(axis=1) / 100.0
        return {
            "kind": "momentum_scalping",
            "symbol": plant.symbol,
            "date": plant.date,
            "at_ns": tape.open_ns + (m + 1) * 60 * NS,
            "bar_start_ns": tape.open_ns + m * 60 * NS,
            "minute": m,
            "direction": plant.direction,
            "follow_through": plant.follow_through,
            "peer": PAIR[plant.symbol],
            "close": int(tape.bar_cents[m, 3]) / 100,
            "vwap": round(float(np.average(typical, weights=tape.bar_volume[: m + 1])), 4),
            "volume_ratio": round(float(tape.bar_volume[m]) / self._usual_volume(plant.symbol, i, m), 4),
        }

    def _volume(self, symbol: str, i: int) -> Floats:
        """Each minute's shares of session i, planted ones included."""
        volume = minute_volume(self.seed, self.specs[symbol], self.sessions[i], float(self._skeleton.vol[symbol][i]))
        plant = self.plants.get((symbol, i))
        if isinstance(plant, PlantedMomentum):
            usual = self._usual_volume(symbol, i, plant.minute)
            return bend_momentum_volume(self.seed, plant, volume, usual)
        return volume if plant is None else bend_volume(self.seed, plant, volume)

    def _usual_volume(self, symbol: str, i: int, minute: int) -> float:
        """Mean volume of a minute over the 20 sessions before i that had it, without their plants."""
        found = self._usual.get((symbol, i))
        if found is None:
            rows = [j for j in range(i) if minute < minutes_in(self.sessions[j])][-USUAL_SESSIONS:]
            spec, vol = self.specs[symbol], self._skeleton.vol[symbol]
            days = [minute_volume(self.seed, spec, self.sessions[j], float(vol[j])) for j in rows]
            found = self._usual[symbol, i] = float(np.mean([day[minute] for day in days]))
        return found

    def _old_day_bar(self, symbol: str, i: int) -> SourceBar:
        """Draw the daily bar of a session whose minutes nobody can ask for, in 78 steps instead of 23,400."""
        spec, session = self.specs[symbol], self.sessions[i]
        rng = stream(self.seed, "old day", session.date, symbol)
        vol, minutes = float(self._skeleton.vol[symbol][i]), minutes_in(session)
        walk = np.cumsum(rng.normal(0.0, spec.intraday_sd * vol / 78**0.5, minutes // 5))
        walk += np.arange(1, len(walk) + 1) / len(walk) * (self._skeleton.intraday[symbol][i] - walk[-1])
        path = np.round(np.exp(self.open_log(symbol, i) + np.concatenate([[0.0], walk])), 2)
        shares = spec.daily_shares * vol**0.5 * float(volume_profile(minutes).sum()) * float(rng.uniform(0.8, 1.25))
        return SourceBar(
            symbol=symbol,
            start_ns=session.open_ns - MIDNIGHT_NS,
            open=float(path[0]),
            high=float(path.max()),
            low=float(path.min()),
            close=float(path[-1]),
            volume=int(shares),
            trades=81 * minutes,
            vwap=round(float(path.mean()), 6),
        )

    def _path(self, symbol: str, i: int) -> Floats:
        spec, session, skeleton = self.specs[symbol], self.sessions[i], self._skeleton
        vol = float(skeleton.vol[symbol][i])
        start, intraday = self.open_log(symbol, i), float(skeleton.intraday[symbol][i])
        path = natural_path(
            self.seed, spec, session, open_log=start, vol=vol, intraday=intraday, jump=float(skeleton.jump[i])
        )
        plant, day_sd = self.plants.get((symbol, i)), spec.intraday_sd * vol
        if isinstance(plant, PlantedMomentum):
            peer, volume = self._path(PAIR[symbol], i), self._volume(symbol, i)
            return bend_momentum_path(self.seed, plant, path, peer=peer, volume=volume, day_sd=day_sd)
        return path if plant is None else bend_path(self.seed, plant, path, day_sd)

    def _history_opens(self, spec: SymbolSpec) -> list[float]:
        rng = stream(self.seed, "level", spec.symbol)
        gap, intraday = self._skeleton.gap[spec.symbol], self._skeleton.intraday[spec.symbol]
        opens = [float(np.log(spec.price) + rng.uniform(-0.02, 0.02))]
        for i in range(self.first - 1, -1, -1):
            opens.append(opens[-1] - float(gap[i + 1]) - float(intraday[i]))
        return opens[::-1]

    def _by_place(self, plants: Sequence[Plant], dates: set[str]) -> dict[tuple[str, int], Plant]:
        out: dict[tuple[str, int], Plant] = {}
        for plant in plants:
            if plant.symbol not in self.specs or plant.date not in dates:
                raise ConfigurationError(
                    "plant",
                    f"{plant.symbol} on {plant.date} is not part of this market",
                    f"choose one of {', '.join(sorted(self.specs))} on a traded date",
                )
            i = self.index[plant.date]
            check(plant, minutes_in(self.sessions[i]))
            if (plant.symbol, i) in out:
                raise ConfigurationError(
                    "plant", f"two for {plant.symbol} on {plant.date}", "plant one per symbol and session"
                )
            out[plant.symbol, i] = plant
        for (symbol, i), plant in out.items():
            if isinstance(plant, PlantedMomentum):
                self._check_peer(plant, out.get((PAIR[symbol], i)))
        return out

    def _check_peer(self, plant: PlantedMomentum, beside: Plant | None) -> None:
        """A momentum entry is bent against its peer's path, so the peer must be there and not be bent against it."""
        if PAIR[plant.symbol] not in self.specs or isinstance(beside, PlantedMomentum):
            raise ConfigurationError(
                "plant",
                f"momentum of {plant.symbol} on {plant.date} needs its peer {PAIR[plant.symbol]} without one",
                "generate both symbols and plant momentum on one of them a session",
            )


def _check_dates(table: SessionTable, dates: Sequence[str]) -> None:
    if not dates:
        raise ConfigurationError("dates", "no session date was given", "name at least one")
    if list(dates) != sorted(set(dates)):
        raise ConfigurationError("dates", f"{', '.join(dates)} are not in rising order", "sort them")
    for date in dates:
        if table.on(date) is None:
            raise ConfigurationError(
                "dates", f"{date} is not a session of the calendar loaded", "choose a trading day or load more of it"
            )
    have = len(table.before(dates[0], LEAST_HISTORY))
    if have < LEAST_HISTORY:
        raise ConfigurationError(
            "dates",
            f"the calendar loaded has only {have} sessions before {dates[0]}; the market needs {LEAST_HISTORY}",
            "load the calendar from at least 180 days earlier",
        )

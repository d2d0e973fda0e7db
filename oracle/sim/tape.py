"""A session's tape of one synthetic stock: quotes by second, prints, minute bars, all from one log path.

Inputs: log mids by second, minute volumes. Second 0 is the open; quotes begin at second -300 (09:25). Prints of the
second (s - 1, s] trade at the quote of s - 1. Bars are computed from the prints, so they agree to the share.
Invariant: no quote is locked or crossed; a pure function of its inputs.
"""

from dataclasses import dataclass

import numpy as np

from oracle.core.sessions import NS, Session
from oracle.sim.noise import Floats, Ints, stream
from oracle.sim.source import Print, SourceBar, Touch

PRE_OPEN_S = 300
_PRE_OPEN_STEP = 2.0e-5  # log move a second before the open
_EXTRA_PRINT_CHANCE = 0.35  # of a second print within a second
MIDNIGHT_NS = 570 * 60 * NS  # from New York midnight to 09:30; no clock change falls on a session


@dataclass(frozen=True, slots=True)
class Tape:
    """Arrays of one symbol and session. Quote arrays are indexed by second + 300; cents are integers."""

    symbol: str
    open_ns: int
    seconds: int
    log_mid: Floats
    bid_cents: Ints
    ask_cents: Ints
    bid_size: Ints
    ask_size: Ints
    quote_changed: Ints
    print_second: Ints
    print_ns: Ints
    print_cents: Ints
    print_size: Ints
    bar_cents: Ints
    bar_volume: Ints
    bar_trades: Ints
    bar_vwap: Floats
    late_volume: Ints

    def touch(self, second: int) -> Touch:
        """The quote in force at a second from -300 to the close; its time is that of its last change."""
        index = second + PRE_OPEN_S
        changed = int(self.quote_changed[index])
        return Touch(
            self.symbol,
            self.open_ns + (changed - PRE_OPEN_S) * NS,
            int(self.bid_cents[index]) / 100,
            int(self.bid_size[index]),
            int(self.ask_cents[index]) / 100,
            int(self.ask_size[index]),
        )

    def touches(self, first: int, last: int) -> list[Touch | None]:
        """Quotes of the seconds ``first`` to ``last`` inclusive, None where nothing changed."""
        cut = slice(first + PRE_OPEN_S, last + PRE_OPEN_S + 1)
        index = range(first + PRE_OPEN_S, last + PRE_OPEN_S + 1)
        rows = zip(
            index,
            self.quote_changed[cut].tolist(),
            (self.bid_cents[cut] / 100).tolist(),
            self.bid_size[cut].tolist(),
            (self.ask_cents[cut] / 100).tolist(),
            self.ask_size[cut].tolist(),
            strict=True,
        )
        base = self.open_ns - PRE_OPEN_S * NS
        return [Touch(self.symbol, base + i * NS, b, bs, a, sz) if i == c else None for i, c, b, bs, a, sz in rows]

    def prints(self, first: int, last: int) -> list[list[Print]]:
        """Prints of each second ``first`` to ``last`` inclusive: those in (second - 1, second]."""
        start, stop = np.searchsorted(self.print_second, [first, last + 1]).tolist()
        out: list[list[Print]] = [[] for _ in range(first, last + 1)]
        rows = zip(
            self.print_second[start:stop].tolist(),
            self.print_ns[start:stop].tolist(),
            (self.print_cents[start:stop] / 100).tolist(),
            self.print_size[start:stop].tolist(),
            strict=True,
        )
        for trade_id, (second, at_ns, price, size) in enumerate(rows, start + 1):
            out[second - first].append(Print(self.symbol, at_ns, price, size, trade_id))
        return out

    def last_print(self, second: int) -> Print | None:
        """The last print at or before a whole second."""
        i = int(np.searchsorted(self.print_second, second, side="right")) - 1
        if i < 0:
            return None
        price = int(self.print_cents[i]) / 100
        return Print(self.symbol, int(self.print_ns[i]), price, int(self.print_size[i]), i + 1)

    def bar(self, minute: int, *, updated: bool) -> SourceBar:
        """The bar of a minute since the open; ``updated`` adds the trades reported late."""
        o, h, low, c = (self.bar_cents[minute] / 100).tolist()
        late = int(self.late_volume[minute]) if updated else 0
        trades = int(self.bar_trades[minute]) + (1 if late else 0)
        volume = int(self.bar_volume[minute]) + late
        start = self.open_ns + minute * 60 * NS
        return SourceBar(self.symbol, start, o, h, low, c, volume, trades, round(float(self.bar_vwap[minute]), 6))

    def day_bar(self, minutes: int) -> SourceBar:
        """The daily bar after so many whole minutes (at least one), dated at New York midnight.

        Late trades of a minute count from 30 s after the end of that minute.
        """
        cents, volume = self.bar_cents[:minutes], self.bar_volume[:minutes]
        late = self.late_volume[: minutes if minutes == len(self.bar_volume) else minutes - 1]
        total = int(volume.sum())
        vwap = float((self.bar_vwap[:minutes] * volume).sum()) / total
        o, c = int(cents[0, 0]) / 100, int(cents[-1, 3]) / 100
        high, low = int(cents[:, 1].max()) / 100, int(cents[:, 2].min()) / 100
        trades = int(self.bar_trades[:minutes].sum()) + int(np.count_nonzero(late))
        start = self.open_ns - MIDNIGHT_NS
        return SourceBar(self.symbol, start, o, high, low, c, total + int(late.sum()), trades, round(vwap, 6))


def make_tape(seed: int, symbol: str, session: Session, log_mid: Floats, *, volume: Floats, late: Floats) -> Tape:
    """Quote and print a session's log path (one value per second from the open to the close, both included)."""
    seconds = len(log_mid) - 1
    rng = stream(seed, "tape", session.date, symbol)
    lead = np.cumsum(rng.normal(0.0, _PRE_OPEN_STEP, PRE_OPEN_S))[::-1]
    mid = 100.0 * np.exp(np.concatenate([log_mid[0] + lead, log_mid]))
    bid, ask = _quotes(rng, mid)
    bid_size, ask_size = (100 * _held(rng.integers(1, 15, len(mid) // 2 + 1), 2, len(mid)) for _ in range(2))
    same = np.ones(len(mid), dtype=bool)
    same[0] = False
    for side in (bid, ask, bid_size, ask_size):
        same[1:] &= side[1:] == side[:-1]
    changed = np.maximum.accumulate(np.where(same, 0, np.arange(len(mid))))
    second, offset_ns = _print_times(rng, seconds)
    standing = second - 1 + PRE_OPEN_S
    rising = mid[standing + 1] >= mid[standing]
    buy = rng.random(len(second)) < np.where(rising, 0.75, 0.25)
    cents = np.where(buy, ask[standing], bid[standing])
    size = _print_sizes(rng, second, volume)
    bars = _bars(second, cents, size, len(volume))
    print_ns = session.open_ns + (second - 1) * NS + offset_ns
    return Tape(
        symbol, session.open_ns, seconds, log_mid, bid, ask, bid_size, ask_size, changed,
        second, print_ns, cents, size, *bars, late.astype(np.int64),
    )  # fmt: skip


def _quotes(rng: np.random.Generator, mid: Floats) -> tuple[Ints, Ints]:
    """Bid and ask in cents around the mid: one to three cents wide, six to twelve before the open."""
    draw = _held(rng.random(len(mid) // 3 + 1), 3, len(mid))
    width = np.where(draw < 0.62, 1, np.where(draw < 0.92, 2, 3)).astype(np.int64)
    width[:PRE_OPEN_S] = 6 + (draw[:PRE_OPEN_S] * 7).astype(np.int64)
    bid = np.floor(mid - (width - 1) / 2).astype(np.int64)
    return bid, bid + width


def _held(values: np.ndarray[tuple[int], np.dtype[np.generic]], each: int, count: int) -> np.ndarray:
    return np.repeat(values, each)[:count]


def _print_times(rng: np.random.Generator, seconds: int) -> tuple[Ints, Ints]:
    """One or two prints in each second 1..seconds, in order: the second they end in and the ns after its start."""
    extra = rng.random(seconds) < _EXTRA_PRINT_CHANCE
    count = 1 + extra.astype(np.int64)
    second = np.repeat(np.arange(1, seconds + 1), count)
    is_extra = np.zeros(len(second), dtype=bool)
    is_extra[1:] = second[1:] == second[:-1]
    micros = rng.integers(20_000, 480_000, len(second)) + np.where(is_extra, 500_000, 0)
    return second, micros * 1000


def _print_sizes(rng: np.random.Generator, second: Ints, volume: Floats) -> Ints:
    """Share out each minute's volume over its prints, at least one share each."""
    minute = (second - 1) // 60
    weight = rng.standard_exponential(len(second)) + 1e-3
    total = np.bincount(minute, weight, len(volume))
    return np.maximum(1, np.rint(volume[minute] * weight / total[minute])).astype(np.int64)


def _bars(second: Ints, cents: Ints, size: Ints, minutes: int) -> tuple[Ints, Ints, Ints, Floats]:
    """Fold prints into minutes: (open, high, low, close) cents, volume, trades, true volume-weighted price."""
    minute = (second - 1) // 60
    first = np.searchsorted(minute, np.arange(minutes))
    last = np.searchsorted(minute, np.arange(minutes), side="right") - 1
    high, low = np.maximum.reduceat(cents, first), np.minimum.reduceat(cents, first)
    volume = np.add.reduceat(size, first)
    vwap = np.add.reduceat(cents * size, first) / volume / 100.0
    return np.stack([cents[first], high, low, cents[last]], axis=1), volume, last - first + 1, vwap

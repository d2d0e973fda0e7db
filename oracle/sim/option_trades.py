"""Option trades of one synthetic underlying over one session: when, how many contracts, at which side of the quote.

Inputs: chain with open interest, the quotes in force, planted sweeps. Outputs: prints by minute, last prints, bars.
A contract trades about 0.2 times its open interest a day at the money and 0.02 far away, at most 400 times, when its
underlying trades. Invariant: what is said of a contract depends on (seed, contract, date, second) only.
"""

import datetime as dt
from collections.abc import Callable, Sequence

import numpy as np

from oracle.core.sessions import MINUTE_NS, NS, Session
from oracle.sim.listed import Chain
from oracle.sim.noise import Floats, Ints, uniform
from oracle.sim.planted_options import PlantedSweep
from oracle.sim.source import Print, SourceBar
from oracle.sim.tape import MIDNIGHT_NS

_TRADE, _TIME, _SIDE, _SIZE, _VENUE, _COUNT = 21, 22, 23, 24, 25, 26
_VENUES = "ACNPXZ"
_SINGLES = 4  # last trades made one by one within a second before the whole chain's are made at once
_NEAR_SHARE, _FAR_SHARE = 0.18, 0.02  # of open interest traded in a day, at the money (beyond the far one) and far away
_FLOOR_CONTRACTS = 18.0  # traded in a day at the money however small the open interest
_MEAN_SIZE = 12.0  # of 1 + exp(4.5 u²): median 4, 99th percentile 83
_MOST_TRADES = 400
_DAY_STEP = 1 << 20  # counters of one date
_SWEEP_ID = 10**12
Standing = Callable[[Ints, Ints], tuple[Ints, Ints]]


class OptionTrades:
    """Trades of a whole chain over one session, made when they are first asked for.

    Args:
        chain: contracts, open interest and planted sweeps.
        session: whose trades these are.
        spot: the underlying's mid at the open.
        volume: share of a full session's stock volume in each minute.
        standing: bid and ask in cents in force at pairs of (row, second).
    """

    def __init__(self, chain: Chain, session: Session, spot: float, volume: Floats, standing: Standing) -> None:
        self._chain, self._open_ns, self._standing = chain, session.open_ns, standing
        self._day = dt.date.fromisoformat(session.date).toordinal() * _DAY_STEP
        self._share = np.concatenate([[0.0], np.cumsum(volume)])
        self._spot = spot
        self._made: tuple[Ints, Ints, Floats] | None = None
        self._by_row: tuple[Ints, Ints] | None = None
        self._chosen: tuple[bytes, Ints, Ints] = (b"", np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._last: dict[int, tuple[int, Print]] = {}
        self._misses = (0, 0)
        self._sweeps = {chain.index[sweep.occ]: sweep for sweep in chain.sweeps}

    def prints(self, rows: Ints, minute: int) -> list[list[Print]]:
        """Trades in the seconds 60·minute + 1 … + 60 of these rows, a list for each second."""
        out: list[list[Print]] = [[] for _ in range(60)]
        if minute < 0 or not len(rows):
            return out
        second, row = self._of(rows)
        start, stop = second.searchsorted((60 * minute + 1, 60 * minute + 61)).tolist()
        made = self._make(row[start:stop], second[start:stop])
        for when, trade in zip(second[start:stop].tolist(), made, strict=True):
            out[when - 60 * minute - 1].append(trade)
        for place, sweep in self._sweeps.items():
            if 60 * minute < sweep.second <= 60 * minute + 60 and place in rows:
                out[sweep.second - 60 * minute - 1].extend(self._burst(place, sweep))
        return out

    def last(self, row: int, second: int) -> Print | None:
        """The last trade of a contract at or before a second."""
        sweep = self._sweeps.get(row)
        swept = None if sweep is None or sweep.second > second else self._burst(row, sweep)[-1]
        count = self._until(row, second)
        if count == 0:
            return swept
        held = self._last.get(row)
        if held is None or held[0] != count:
            self._misses = (second, self._misses[1] + 1 if self._misses[0] == second else 1)
            alone = self._misses[1] <= _SINGLES
            self._remember([row] if alone else range(len(self._chain.symbols)), second)
            held = self._last[row]
        return held[1] if swept is None or held[1].at_ns > swept.at_ns else swept

    def bars(self, row: int, until: int) -> list[SourceBar]:
        """Minute bars of one contract's trades in the minutes that have ended by a second; none without a trade."""
        start, stop = self._rows_of(row)
        times = self._seconds[start:stop]
        times = times[times <= until // 60 * 60]
        trades = self._make(np.full(len(times), row), times)
        sweep = self._sweeps.get(row)
        if sweep is not None and sweep.second <= until // 60 * 60:
            trades = sorted([*trades, *self._burst(row, sweep)], key=lambda trade: trade.at_ns)
        minutes: dict[int, list[Print]] = {}
        for trade in trades:
            minutes.setdefault((trade.at_ns - 1 - self._open_ns) // MINUTE_NS, []).append(trade)
        return [_bar(self._open_ns + minute * MINUTE_NS, group) for minute, group in minutes.items()]

    # -- when ---------------------------------------------------------------------------------------------------

    @property
    def _seconds(self) -> Ints:
        """The seconds of all trades, row by row."""
        self._rows_of(0)
        assert self._by_row is not None
        return self._by_row[1]

    def _schedule(self) -> tuple[Ints, Ints, Floats]:
        """(second, row) of every trade, in this order, and what each row's sizes are multiplied by."""
        if self._made is None:
            chain = self._chain
            ahead = chain.sessions_ahead[chain.expiry]
            z = np.abs(np.log(chain.strike / self._spot)) / (0.01 * np.sqrt(ahead + 1.0))
            near = np.exp(-0.5 * (z / 1.5) ** 2)
            volume = chain.interest * (_FAR_SHARE + _NEAR_SHARE * near) + _FLOOR_CONTRACTS * near
            expected = volume / _MEAN_SIZE
            wanted = np.minimum(expected, _MOST_TRADES) * self._share[-1]
            count = (wanted * (0.5 + uniform(chain.keys, self._day, _COUNT)) + 0.5).astype(np.int64)
            row = np.repeat(np.arange(len(count)), count)
            place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
            share = uniform(chain.keys[row], self._day + place, _TRADE) * self._share[-1]
            minute = np.interp(share, self._share, np.arange(len(self._share)))
            second = np.maximum(np.ceil(60.0 * minute).astype(np.int64), 1)
            for swept, sweep in self._sweeps.items():
                keep = (row != swept) | (second != sweep.second)
                row, second = row[keep], second[keep]
            width = max(len(count), 1)
            code = np.unique(second * width + row)
            self._made = code // width, code % width, np.maximum(expected / _MOST_TRADES, 1.0)
        return self._made

    def _rows_of(self, row: int) -> tuple[int, int]:
        """Where a contract's trades stand in ``_seconds``."""
        if self._by_row is None:
            second, rows, _ = self._schedule()
            order = np.argsort(rows, kind="stable")
            first = rows[order].searchsorted(np.arange(len(self._chain.symbols) + 1))
            self._by_row = first, second[order]
        first = self._by_row[0]
        return int(first[row]), int(first[row + 1])

    def _until(self, row: int, second: int) -> int:
        start, stop = self._rows_of(row)
        return int(self._seconds[start:stop].searchsorted(second, side="right"))

    def _of(self, rows: Ints) -> tuple[Ints, Ints]:
        """(second, row) of these rows' trades; the last choice is remembered."""
        name = rows.tobytes()
        if self._chosen[0] != name:
            second, row, _ = self._schedule()
            wanted = np.zeros(len(self._chain.symbols), dtype=bool)
            wanted[rows] = True
            self._chosen = (name, second[wanted[row]], row[wanted[row]])
        return self._chosen[1], self._chosen[2]

    # -- what ---------------------------------------------------------------------------------------------------

    def _remember(self, rows: Sequence[int], second: int) -> None:
        """Make the last trades of many contracts at once, since each call of the model costs as much as a hundred."""
        counts = [(row, self._until(row, second)) for row in rows]
        counts = [(row, count) for row, count in counts if count > 0]
        when = np.array([self._seconds[self._rows_of(row)[0] + count - 1] for row, count in counts])
        made = self._make(np.array([row for row, _ in counts]), when)
        self._last.update((row, (count, last)) for (row, count), last in zip(counts, made, strict=True))

    def _make(self, rows: Ints, second: Ints) -> list[Print]:
        """Trades at the quote in force a second before: half buys at the ask, half sells at the bid."""
        if not len(rows):
            return []
        keys, clock = self._chain.keys[rows], self._day + second
        bid, ask = self._standing(rows, second - 1)
        buys = (uniform(keys, clock, _SIDE) < 0.5) | (bid == 0)
        drawn = 1.0 + np.exp(4.5 * uniform(keys, clock, _SIZE) ** 2)
        size = np.minimum(drawn * self._schedule()[2][rows], 5000.0).astype(np.int64)
        offset = (uniform(keys, clock, _TIME) * 1e6).astype(np.int64) * 1000
        venue = (uniform(keys, clock, _VENUE) * len(_VENUES)).astype(np.int64)
        columns: Sequence[list[int]] = (
            rows.tolist(), second.tolist(), (self._open_ns + (second - 1) * NS + offset + 1000).tolist(),
            np.where(buys, ask, bid).tolist(), size.tolist(), venue.tolist(),
        )  # fmt: skip
        return [
            Print(self._chain.symbols[r], t, cents / 100, n, s * 10_000 + r, _VENUES[v], "I")
            for r, s, t, cents, n, v in zip(*columns, strict=True)
        ]

    def _burst(self, row: int, sweep: PlantedSweep) -> list[Print]:
        """A planted sweep's prints, all at the ask that stands when their second begins."""
        at = np.array([sweep.second - 1])
        cents = int(self._standing(np.array([row]), at)[1][0])
        begin = self._open_ns + (sweep.second - 1) * NS
        head = _SWEEP_ID + sweep.second * 10_000
        return [
            Print(sweep.occ, begin + offset, cents / 100, size, head + n, venue, "S")
            for n, (offset, size, venue) in enumerate(sweep.pieces())
        ]


def _bar(start_ns: int, trades: Sequence[Print]) -> SourceBar:
    prices = [trade.price for trade in trades]
    volume = sum(trade.size for trade in trades)
    vwap = sum(trade.price * trade.size for trade in trades) / volume
    return SourceBar(
        symbol=trades[0].symbol,
        start_ns=start_ns,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        volume=volume,
        trades=len(trades),
        vwap=round(vwap, 6),
    )


def day_of(bars: Sequence[SourceBar], session: Session) -> SourceBar:
    """A session's bars of one contract as one daily bar, dated at New York midnight."""
    volume = sum(bar.volume for bar in bars)
    return SourceBar(
        symbol=bars[0].symbol,
        start_ns=session.open_ns - MIDNIGHT_NS,
        open=bars[0].open,
        high=max(bar.high for bar in bars),
        low=min(bar.low for bar in bars),
        close=bars[-1].close,
        volume=volume,
        trades=sum(bar.trades for bar in bars),
        vwap=round(sum(bar.vwap * bar.volume for bar in bars) / volume, 6),
    )

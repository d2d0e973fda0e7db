"""The synthetic market: SPY, QQQ and IWM with option chains, for the exchange to serve.

Inputs: a seed, a session table, the dates to trade, plants. Outputs: the ``MarketSource`` protocol. Its
label is "synthetic": figures follow measured stylised facts, and nothing here is evidence about a strategy.
Invariant: everything said is a pure function of (arguments, time). Events fall on whole seconds: a print of
(s - 1, s] is given in the step that reaches s.
"""

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oracle.core.errors import ConfigurationError, ProtocolError, RemoteError
from oracle.core.instruments import parse_occ
from oracle.core.sessions import NS, Session, SessionTable
from oracle.sim.chains import Chains
from oracle.sim.days import MINUTE_HISTORY, Days
from oracle.sim.noise import Ints
from oracle.sim.pathgen import SPECS
from oracle.sim.planted import default_plants
from oracle.sim.planted_momentum import Plant, with_momentum
from oracle.sim.planted_options import OptionPlant, PlantedVolShock
from oracle.sim.source import Listing, MarketStep, Print, SourceBar, Touch
from oracle.sim.tape import MIDNIGHT_NS, PRE_OPEN_S, Tape

_SINGLES = 4  # unwatched quotes asked one by one within a second before the whole chain is quoted at once


def momentum_plants(seed: int, table: SessionTable, dates: Sequence[str]) -> tuple[Plant, ...]:
    """The default breakouts, with one of each whole session turned into a momentum entry of SPY or QQQ."""
    half_days = [s.date for s in table.sessions if s.date in dates and s.is_half_day]
    return with_momentum(seed, default_plants(seed, dates, tuple(SPECS)), half_days)


@dataclass(slots=True)
class _Block:
    """What happens in the seconds 60·minute + 1 … + 60 of a session, a list for each second."""

    touches: list[list[Touch]]
    prints: list[list[Print]]
    option_touches: list[list[Touch]]
    option_prints: list[list[Print]]


class GeneratedMarket:
    """A seeded market. ``plant`` None plants ``default_plants``; an empty sequence plants nothing.

    ``option_plants`` are walls, volatility shocks and sweeps; ``option_truths`` says what became of them.

    Raises:
        ConfigurationError: a negative seed, an unknown symbol, dates that the table does not hold in order, fewer
            than 120 sessions before the first, a plant that does not fit.
    """

    def __init__(
        self,
        seed: int,
        table: SessionTable,
        dates: Sequence[str],
        plant: Sequence[Plant] | None = None,
        symbols: Sequence[str] = ("IWM", "QQQ", "SPY"),
        option_plants: Sequence[OptionPlant] = (),
    ) -> None:
        if seed < 0:
            raise ConfigurationError("seed", f"{seed} is negative", "choose zero or more")
        unknown = [s for s in symbols if s not in SPECS]
        if unknown or not symbols:
            raise ConfigurationError("symbols", f"cannot generate {unknown}", f"choose among {', '.join(SPECS)}")
        self._symbols = tuple(sorted(set(symbols)))
        chosen = default_plants(seed, dates, self._symbols) if plant is None else plant
        self._seed, self._table = seed, table
        shocks = [p for p in option_plants if isinstance(p, PlantedVolShock)]
        self._days = Days(seed, table, dates, [SPECS[s] for s in self._symbols], chosen, shocks)
        self._chains = Chains(seed, table, self._days, option_plants)
        self._midnights = [self._session(i).open_ns - MIDNIGHT_NS for i in self._days.traded]
        self._now = self._midnights[0]
        self._watched: frozenset[str] = frozenset()
        self._traded: frozenset[str] | None = None  # None: the contracts whose quotes are watched
        self._rows: dict[tuple[str, int], tuple[Ints, Ints]] = {}
        self._blocks: dict[tuple[int, int], _Block] = {}
        self._asked: dict[str, tuple[int, int, int, list[Touch] | None]] = {}
        self._declared: list[Mapping[str, Any]] | None = None

    @property
    def symbols(self) -> Sequence[str]:
        """Stock symbols, sorted."""
        return self._symbols

    @property
    def sessions(self) -> Sequence[Session]:
        """The sessions that can be traded, oldest first."""
        return [self._session(i) for i in self._days.traded]

    @property
    def declared(self) -> Sequence[Mapping[str, Any]]:
        """The plants as the bars will show them, in order of time and symbol."""
        if self._declared is None:
            found = [self._days.declare(symbol, i) for symbol, i in self._days.plants]
            found += self._chains.declared()
            self._declared = sorted(found, key=lambda d: (d["at_ns"], d["symbol"]))
        return self._declared

    @property
    def option_truths(self) -> tuple[OptionPlant, ...]:
        """The planted walls, shocks and sweeps with the strikes and expiries that were chosen for them."""
        return self._chains.truths

    @property
    def labels(self) -> Sequence[str]:
        """What a reader must know of this market."""
        return ("synthetic", f"seed {self._seed}")

    def listings(self, underlying: str, date: str) -> Sequence[Listing]:
        """Contracts listed on a traded date, sorted by symbol; empty for other dates and symbols."""
        i = self._days.index.get(date, -1)
        if underlying not in self._symbols or i not in self._days.traded:
            return ()
        return self._chains.chain(underlying, i).listings

    def watch(self, occ_symbols: Collection[str]) -> None:
        """Set the contracts whose quote changes and trades are given by ``advance``; unknown ones are ignored."""
        wanted = frozenset(occ_symbols)
        if wanted != self._watched:
            self._watched = wanted
            self._rows.clear()
            self._blocks.clear()

    def watch_trades(self, occ_symbols: Collection[str]) -> None:
        """Set the contracts whose trades are given by ``advance``, ``*`` for all; before, those of ``watch``."""
        wanted = frozenset(occ_symbols)
        if wanted != self._traded:
            self._traded = wanted
            self._rows.clear()
            self._blocks.clear()

    def advance(self, to_ns: int) -> MarketStep:
        """Move to ``to_ns`` and give all that happened at each whole second on the way.

        Raises:
            ProtocolError: ``to_ns`` lies before the present.
        """
        if to_ns < self._now:
            raise ProtocolError(f"the market cannot go back from {self._now} to {to_ns}")
        step = MarketStep(to_ns, [], [], [], [], [], [], [], [])
        begin = max(0, bisect_right(self._midnights, self._now) - 1)
        for i in self._days.traded[begin : bisect_right(self._midnights, to_ns)]:
            session = self._session(i)
            first = max(-PRE_OPEN_S, (self._now - session.open_ns) // NS + 1)
            last = min((session.close_ns - session.open_ns) // NS, (to_ns - session.open_ns) // NS)
            for second in range(first, last + 1):
                self._happen(step, i, second)
        self._now = to_ns
        return step

    def touch(self, symbol: str) -> Touch | None:
        """The quote in force of a stock or listed option; after the close the closing quote stands till midnight."""
        place = self._place()
        if place is None:
            return None
        i, second = place
        if symbol in self._symbols:
            return self._days.tape(symbol, i).touch(second) if second >= -PRE_OPEN_S else None
        found = self._find(symbol, i)
        if found is None or second < 0:
            return None
        return self._option_touch(found[0], i, second, found[1])

    def last_print(self, symbol: str) -> Print | None:
        """The last trade of the session so far, or None."""
        place = self._place()
        if place is None or place[1] < 1:
            return None
        i, second = place
        if symbol in self._symbols:
            return self._days.tape(symbol, i).last_print(second)
        found = self._find(symbol, i)
        return None if found is None else self._chains.book(found[0], i).last_print(found[1], second)

    def bars(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Sequence[SourceBar]:
        """Closed bars with start in the interval, oldest first; of an option where it traded.

        Minute bars reach 40 sessions before the first traded date, daily bars as far as the table (300 at most).

        Raises:
            ProtocolError: the timeframe is neither ``1Min`` nor ``1Day``.
        """
        if timeframe not in {"1Min", "1Day"}:
            raise ProtocolError(f"timeframe {timeframe!r} is not one of 1Min, 1Day")
        if symbol not in self._symbols:
            return self.option_bars((symbol,), timeframe, start_ns, end_ns).get(symbol, ())
        if timeframe == "1Day":
            return self._day_bars(symbol, start_ns, end_ns)
        out: list[SourceBar] = []
        for i in range(max(0, self._days.first - MINUTE_HISTORY), len(self._days.sessions)):
            session = self._session(i)
            if session.open_ns > min(end_ns, self._now):
                break
            if session.close_ns > start_ns:
                out.extend(b for b in self._minute_bars(symbol, i) if start_ns <= b.start_ns <= end_ns)
        return out

    def option_bars(
        self, symbols: Collection[str], timeframe: str, start_ns: int, end_ns: int
    ) -> Mapping[str, Sequence[SourceBar]]:
        """Bars of contracts, listed now or once, by symbol; those without a trade in the interval are left out."""
        return self._chains.bars(symbols, timeframe, start_ns, end_ns, self._now)

    def daily_iv(self, underlying: str) -> Sequence[tuple[str, float]]:
        """30-day at-the-money IV at the close of each session that has closed by now, oldest first."""
        if underlying not in self._symbols:
            return ()
        rows = enumerate(self._days.sessions)
        return [(s.date, self._days.month_iv(underlying, i)) for i, s in rows if s.close_ns <= self._now]

    def _session(self, i: int) -> Session:
        return self._days.sessions[i]

    def _place(self) -> tuple[int, int] | None:
        """The traded session of the present New York day or the last before it, and its second (close at most)."""
        count = bisect_right(self._midnights, self._now)
        if count == 0:
            return None
        here = self._days.traded[count - 1]
        session = self._session(here)
        return here, (min(self._now, session.close_ns) - session.open_ns) // NS

    def _happen(self, step: MarketStep, i: int, second: int) -> None:
        """Add what happens at one second of session i."""
        minute = (second - 1) // 60
        slot = second - 60 * minute - 1
        block = self._block(i, minute)
        step.touches.extend(block.touches[slot])
        step.prints.extend(block.prints[slot])
        step.option_touches.extend(block.option_touches[slot])
        step.option_prints.extend(block.option_prints[slot])
        if slot == 29 and minute >= 1:
            for tape in self._tapes(i):
                if tape.late_volume[minute - 1]:
                    step.updated_bars.append(tape.bar(minute - 1, updated=True))
        if slot == 59 and minute >= 0:
            for tape in self._tapes(i):
                step.bars.append(tape.bar(minute, updated=False))
                step.daily_bars.append(tape.day_bar(minute + 1))

    def _tapes(self, i: int) -> list[Tape]:
        return [self._days.tape(s, i) for s in self._symbols]

    def _block(self, i: int, minute: int) -> _Block:
        block = self._blocks.get((i, minute))
        if block is None:
            self._blocks.clear()
            block = self._blocks[i, minute] = self._make_block(i, minute)
        return block

    def _make_block(self, i: int, minute: int) -> _Block:
        block = _Block(*([[] for _ in range(60)] for _ in range(4)))  # type: ignore[arg-type]
        first = max(60 * minute + 1, -PRE_OPEN_S)
        skip = first - (60 * minute + 1)
        for tape in self._tapes(i):
            for slot, touch in enumerate(tape.touches(first, 60 * minute + 60), skip):
                if touch is not None:
                    block.touches[slot].append(touch)
            if minute >= 0:
                for slot, prints in enumerate(tape.prints(first, 60 * minute + 60)):
                    block.prints[slot].extend(prints)
        for prints in block.prints:
            prints.sort(key=lambda p: (p.at_ns, p.symbol))
        if minute >= -1 and (self._watched or self._traded):
            self._add_options(block, i, minute)
        return block

    def _add_options(self, block: _Block, i: int, minute: int) -> None:
        """Add the quote changes and trades of options to a minute."""
        for symbol in self._symbols:
            rows, traded = self._rows_of(symbol, i)
            if len(rows):
                for slot, touches in enumerate(self._chains.book(symbol, i).block(rows, minute)):
                    block.option_touches[slot].extend(touches)
            if len(traded):
                for slot, trades in enumerate(self._chains.book(symbol, i).prints(traded, minute)):
                    block.option_prints[slot].extend(trades)
        for trades in block.option_prints:
            trades.sort(key=lambda p: (p.at_ns, p.symbol))

    def _rows_of(self, underlying: str, i: int) -> tuple[Ints, Ints]:
        """The chain's rows whose quotes, and those whose trades, are told."""
        found = self._rows.get((underlying, i))
        if found is None:
            rows = self._chains.rows(underlying, i, self._watched)
            traded = rows if self._traded is None else self._chains.rows(underlying, i, self._traded)
            found = self._rows[underlying, i] = (rows, traded)
        return found

    def _find(self, occ: str, i: int) -> tuple[str, int] | None:
        try:
            root = parse_occ(occ).root
        except RemoteError:
            return None
        if root not in self._symbols:
            return None
        row = self._chains.chain(root, i).index.get(occ)
        return None if row is None else (root, row)

    def _option_touch(self, underlying: str, i: int, second: int, row: int) -> Touch:
        """Quote one contract alone, or, when many are asked for in one second, the whole chain once."""
        book = self._chains.book(underlying, i)
        held = self._asked.get(underlying)
        if held is None or held[:2] != (i, second):
            held = (i, second, 0, None)
        quotes = held[3]
        if quotes is None and held[2] >= _SINGLES:
            quotes = book.touches(np.arange(len(book.chain.symbols)), second)
        self._asked[underlying] = (i, second, held[2] + 1, quotes)
        return quotes[row] if quotes is not None else book.touches(np.array([row]), second)[0]

    def _minute_bars(self, symbol: str, i: int) -> list[SourceBar]:
        """Minute bars of session i as known now: those closed, late trades once 30 s have gone."""
        session = self._session(i)
        bars = self._days.minute_bars(symbol, i)
        if session.close_ns <= self._now:
            return bars
        closed = max(0, (self._now - session.open_ns) // (60 * NS))
        known = bars[:closed]
        if closed and (self._now - session.open_ns) % (60 * NS) < 30 * NS:
            known[-1] = self._days.tape(symbol, i).bar(closed - 1, updated=False)
        return known

    def _day_bars(self, symbol: str, start_ns: int, end_ns: int) -> list[SourceBar]:
        out = []
        for i, session in enumerate(self._days.sessions):
            start = session.open_ns - MIDNIGHT_NS
            if start_ns <= start <= end_ns and session.close_ns <= self._now:
                out.append(self._days.day_bar(symbol, i))
        return out

"""One symbol's recorded minutes of one session: bars, stock quotes and option chain, by the instant asked for.

Inputs: bars as columns; files of quotes and of a chain where there are. Outputs: bars, quotes, listings.
Invariants: a bar is told a second after its end; a quote of a minute is known at its end; without recorded quotes the
quote is a cent or a basis point wide, whichever is more, around the last close, and none stands before the first.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np

from oracle.core.errors import ConfigurationError
from oracle.core.marketdata import Bar
from oracle.core.sessions import MINUTE_NS, NS, Session, SessionTable
from oracle.sim.bar_files import BarFolder, Minutes
from oracle.sim.history import RecordedMarket
from oracle.sim.modelled import ModelledChain
from oracle.sim.noise import Floats
from oracle.sim.recorded_files import Rejected, data_file, read_columns
from oracle.sim.recorded_quotes import RecordedQuotes
from oracle.sim.source import Listing, Print, SourceBar, Touch

BAR_DELAY_NS = NS
MODELLED_SIZE = 500
_BASIS_POINT = 1e-4
_QUOTE = ("bid", "bid_size", "ask", "ask_size")
Closes = Callable[[str, Session], list[float]]


class MinuteDay:
    """See the module. ``quotes`` is None where stock quotes are modelled."""

    def __init__(
        self,
        folder: BarFolder,
        symbol: str,
        session: Session,
        table: SessionTable,
        minutes: Minutes,
        *,
        seed: int,
        closes: Closes,
        centres: Closes,
    ) -> None:
        self._folder, self._symbol, self._session, self._table = folder, symbol, session, table
        self._minutes, self._seed, self._closes_of, self._centres_of = minutes, seed, closes, centres
        self._end_array = minutes.start_ns + MINUTE_NS
        # The same as a list: few instants are looked up at a time, and numpy's search costs more than bisect's.
        self._ends: list[int] = self._end_array.tolist()
        self._touch: tuple[int, Touch | None] = (0, None)
        self.quotes = self._read_quotes()
        chain = data_file(folder.root, "options/quotes_1m", symbol, session.date)
        self.has_recorded_chain = folder.recorded and chain.exists()

    # ------------------------------------------------------------------------------------------------ bars

    def _bars(self, first: int, end: int) -> list[SourceBar]:
        """Bars of a range of rows; vwap is (h + l + c) / 3, trades are unknown (0)."""
        if first >= end:
            return []
        m = self._minutes
        columns = (m.start_ns, m.open, m.high, m.low, m.close, m.volume)
        rows = zip(*(column[first:end].tolist() for column in columns), strict=True)
        return [SourceBar(self._symbol, t, o, h, low, c, v, 0, (h + low + c) / 3) for t, o, h, low, c, v in rows]

    def published(self, after_ns: int, to_ns: int) -> list[SourceBar]:
        """Bars told in ``(after, to]``."""
        ends = self._ends
        return self._bars(bisect_right(ends, after_ns - BAR_DELAY_NS), bisect_right(ends, to_ns - BAR_DELAY_NS))

    def bars_told(self, after_ns: int, before_ns: int) -> Iterator[tuple[int, Bar]]:
        """Bars told after one instant and before another as the core's messages, each with when it is told."""
        a, b = bisect_right(self._ends, after_ns - BAR_DELAY_NS), bisect_left(self._ends, before_ns - BAR_DELAY_NS)
        if a >= b:
            return
        m, symbol, delay_ns = self._minutes, self._symbol, MINUTE_NS + BAR_DELAY_NS
        rows = zip(
            *(column[a:b].tolist() for column in (m.start_ns, m.open, m.high, m.low, m.close, m.volume)), strict=True
        )
        for start_ns, o, h, low, c, v in rows:
            yield start_ns + delay_ns, Bar(symbol, start_ns, o, h, low, c, v, 0, (h + low + c) / 3)

    def known(self, now_ns: int) -> list[SourceBar]:
        """Bars that have ended by now."""
        return self._bars(0, bisect_right(self._ends, now_ns))

    def last_bar(self, now_ns: int) -> SourceBar | None:
        """The newest bar that has ended by now, or None."""
        count = bisect_right(self._ends, now_ns)
        return self._bars(count - 1, count)[0] if count else None

    def print_of(self, bar: SourceBar) -> Print:
        """A minute as one trade at its close, of its whole volume."""
        end_ns = bar.start_ns + MINUTE_NS
        number = (end_ns - self._session.open_ns) // MINUTE_NS
        return Print(self._symbol, end_ns, bar.close, bar.volume, number, "", "")

    # ---------------------------------------------------------------------------------------- stock quotes

    def stock_touch(self, at_ns: int) -> Touch | None:
        """The quote in force: the recorded one, else the model's around the last close."""
        if self.quotes is not None:
            return self.quotes.touch(self._symbol, min(at_ns, self._session.close_ns))
        count = bisect_right(self._ends, at_ns)
        if count == 0:
            return None
        if self._touch[0] != count:
            self._touch = (count, modelled_touch(self._bars(count - 1, count)[0]))
        return self._touch[1]

    def _read_quotes(self) -> RecordedQuotes | None:
        path = data_file(self._folder.root, "quotes/1m", self._symbol, self._session.date)
        if not self._folder.recorded or not path.exists():
            return None
        rejected = Rejected()
        columns = read_columns(path, "quotes/1m", required=(), optional=_QUOTE, out=rejected)
        for reason, example in rejected.first.items():
            raise ConfigurationError(str(path), f"{reason}: {example}", "correct the row or take it out")
        return RecordedQuotes.of(columns, (self._symbol,))

    # --------------------------------------------------------------------------------------------- options

    @cached_property
    def _recorded(self) -> RecordedMarket:
        return RecordedMarket(self._folder.root, self._symbol, self._session.date, self._table)

    @cached_property
    def _modelled(self) -> ModelledChain:
        prices = self.minute_prices()
        centres = self._centres_of(self._symbol, self._session) or [float(prices[0])]
        return ModelledChain(
            self._seed,
            self._symbol,
            self._table,
            self._session,
            prices,
            centres=centres,
            closes=self._closes_of(self._symbol, self._session),
        )

    def minute_prices(self) -> Floats:
        """The price known at the open and at the end of each minute: the quote's middle, else the last close.

        Before the first bar and quote its opening price stands, at which nothing is quoted yet.
        """
        marks = np.arange(self._session.open_ns, self._session.close_ns + 1, MINUTE_NS)
        before = np.searchsorted(self._end_array, marks, side="right")
        closes = np.concatenate([self._minutes.open[:1], self._minutes.close])
        prices = closes[before]
        if self.quotes is not None:
            for n, at_ns in enumerate(marks.tolist()):
                touch = self.quotes.touch(self._symbol, at_ns)
                if touch is not None and touch.bid is not None and touch.ask is not None and touch.bid <= touch.ask:
                    prices[n] = (touch.bid + touch.ask) / 2
        return np.asarray(prices, dtype=np.float64)

    @property
    def listings(self) -> Sequence[Listing]:
        """The day's contracts, sorted by symbol."""
        if self.has_recorded_chain:
            return self._recorded.listings(self._symbol, self._session.date)
        return self._modelled.chain.listings

    def option_touches(self, symbols: Sequence[str], at_ns: int) -> list[Touch]:
        """Quotes in force of some contracts, in order of symbol; none before the underlying has a price."""
        if self.has_recorded_chain:
            found = (self._recorded.quote_at(symbol, at_ns) for symbol in symbols)
            return [touch for touch in found if touch is not None]
        if not self._quotes_options(at_ns):
            return []
        return self._modelled.touches(self._modelled.rows(symbols), at_ns)

    def option_changes(self, symbols: Sequence[str], after_ns: int, to_ns: int) -> list[Touch]:
        """Quote changes of some contracts in ``(after, to]`` within a minute; recorded ones change at its end only."""
        if self.has_recorded_chain or not self._quotes_options(after_ns):
            return []
        return self._modelled.changes(self._modelled.rows(symbols), after_ns, to_ns)

    def next_option_change_ns(self, symbols: Sequence[str], after_ns: int) -> int | None:
        """The next instant within the running minute at which one of these contracts' quotes changes, or None."""
        if self.has_recorded_chain or not self._quotes_options(after_ns) or after_ns >= self._session.close_ns:
            return None
        return self._modelled.next_change_ns(self._modelled.rows(symbols), after_ns)

    def _quotes_options(self, at_ns: int) -> bool:
        return self._session.open_ns <= at_ns <= self._session.close_ns and self.stock_touch(at_ns) is not None

    def option_touch(self, symbol: str, at_ns: int) -> Touch | None:
        """The quote in force of one contract, or None."""
        found = self.option_touches((symbol,), at_ns)
        return found[0] if found else None


def modelled_touch(bar: SourceBar) -> Touch:
    """A quote around a bar's close, dated at its end: a cent or a basis point wide, whichever is more, in cents."""
    wide = max(1, math.ceil(bar.close * _BASIS_POINT * 100))
    bid = math.floor(round(bar.close * 100, 6) - wide / 2 + 0.5)
    return Touch(bar.symbol, bar.start_ns + MINUTE_NS, bid / 100, MODELLED_SIZE, (bid + wide) / 100, MODELLED_SIZE)

"""Minute quotes of a recorded day by symbol, each side carried forward until it is next updated.

Inputs: columns of a quote file. Outputs: the quote in force at an instant, and what changed at one.
Invariants: a row that starts at t is not known before t + 60 s; an empty side means "not updated"; a side that never
appeared, or that was quoted as zero, is absent.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np

from oracle.core.sessions import MINUTE_NS
from oracle.sim.noise import Floats, Ints
from oracle.sim.recorded_files import Columns, fill_forward
from oracle.sim.source import Touch


@dataclass(frozen=True, slots=True)
class RecordedQuotes:
    """Rows sorted by (symbol, time). ``spans`` maps a symbol to its rows; ``by_time`` orders the changes by time."""

    known_ns: Ints
    symbol: Ints
    names: tuple[str, ...]
    spans: dict[str, tuple[int, int]]
    sides: dict[str, Floats]
    by_time: Ints
    times: Ints

    @classmethod
    def of(cls, columns: Columns, names: tuple[str, ...]) -> Self:
        """Order rows, carry sides forward within each symbol, find the changes. Of two rows of a minute both stand."""
        order = np.lexsort((columns.at_ns, columns.symbol))
        symbol, known = columns.symbol[order], columns.at_ns[order] + MINUTE_NS
        sides = {name: fill_forward(values[order], symbol) for name, values in columns.numbers.items()}
        changed = np.ones(len(symbol), dtype=bool)
        changed[1:] = symbol[1:] != symbol[:-1]
        for values in sides.values():
            same = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
            changed[1:] |= ~same
        found = np.flatnonzero(changed)
        by_time = found[np.argsort(known[found], kind="stable")]
        first = np.searchsorted(symbol, np.arange(len(names))).tolist()
        last = np.searchsorted(symbol, np.arange(len(names)), side="right").tolist()
        spans = {n: (a, b) for n, a, b in zip(names, first, last, strict=True) if a < b}
        return cls(known, symbol, names, spans, sides, by_time, known[by_time])

    def touch(self, symbol: str, now_ns: int) -> Touch | None:
        """The quote in force, dated at its last row; None before the first or for an unknown symbol."""
        span = self.spans.get(symbol)
        if span is None:
            return None
        row = span[0] + int(np.searchsorted(self.known_ns[slice(*span)], now_ns, side="right")) - 1
        return self._touch(row) if row >= span[0] else None

    def changes(self, at_ns: int, only: Collection[str] | None) -> list[Touch]:
        """Quotes that changed at exactly this instant, in order of symbol; ``only`` None means all."""
        start, stop = np.searchsorted(self.times, [at_ns, at_ns + 1]).tolist()
        rows = self.by_time[start:stop].tolist()
        return [self._touch(r) for r in rows if only is None or self.names[self.symbol[r]] in only]

    def named(self) -> set[str]:
        """Symbols with at least one row."""
        return set(self.spans)

    def off_grid(self) -> bool:
        """Whether some price under 3 dollars is not a multiple of 0.05, as only penny classes allow."""
        for name in ("bid", "ask"):
            prices = self.sides[name]
            cents = np.rint(prices[prices < 3.0] * 100)
            if np.any(np.mod(cents, 5) != 0):
                return True
        return False

    def _touch(self, row: int) -> Touch:
        bid, bid_size = self._side(row, "bid")
        ask, ask_size = self._side(row, "ask")
        name = self.names[int(self.symbol[row])]
        return Touch(name, int(self.known_ns[row]), bid, bid_size, ask, ask_size)

    def _side(self, row: int, name: str) -> tuple[float | None, int]:
        price, size = float(self.sides[name][row]), float(self.sides[f"{name}_size"][row])
        if not price > 0:  # never updated (NaN), or quoted as zero
            return None, 0
        return price, 0 if np.isnan(size) else int(size)

"""The order of bars across a cut: held while missed ones are fetched, each once, never back in time. Pure.

Inputs: bars from the socket, bars from REST. Outputs: bars to emit. Invariants: for each symbol the starts that come
out only rise, so a bar comes out once whichever way it came; a bar too old to act on comes out as back-filled.
"""

from collections.abc import Collection, Iterable

import msgspec

from oracle.core.marketdata import Bar

MINUTE_NS = 60_000_000_000
FRESH_NS = 2 * MINUTE_NS


class BarGate:
    """One feed's bars. It holds all from the start, until ``open`` is called; later all, or those of some symbols."""

    __slots__ = ("_apart", "_held", "_holding", "_last", "duplicates")

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._held: list[Bar] = []
        self._holding = True
        self._apart: set[str] = set()
        self.duplicates = 0

    @property
    def is_open(self) -> bool:
        """Whether bars pass, but for those of symbols that are held on their own."""
        return not self._holding

    def last_start(self, symbol: str) -> int | None:
        """Start of a symbol's newest bar that came out, or None."""
        return self._last.get(symbol)

    def holds(self, symbol: str, start_ns: int) -> bool:
        """Whether a bar has come out or is held."""
        held = any(bar.symbol == symbol and bar.start_ns == start_ns for bar in self._held)
        return held or self._last.get(symbol, -1) >= start_ns

    def hold(self, symbol: str | None = None) -> None:
        """Keep what arrives from now on, of one symbol or of all, until ``open``."""
        if symbol is None:
            self._holding = True
        else:
            self._apart.add(symbol)

    def offer(self, bar: Bar) -> Bar | None:
        """Take a bar from the socket. Returns it when it may be emitted now."""
        if self._holding or bar.symbol in self._apart:
            self._held.append(bar)
            return None
        return self._once(bar)

    def fill(self, fetched: Iterable[Bar], at_ns: int, symbols: Collection[str] | None = None) -> list[Bar]:
        """Merge fetched bars with held ones (of ``symbols``) that are no longer fresh; back-filled, by (start, symbol).

        Bars of a minute that has not ended at ``at_ns`` are left to the socket, and so are held ones that are fresh:
        ``open`` gives them, to be acted on. Nothing fetched can be newer than those, for they are of the last minute.
        """
        old: list[Bar] = []
        kept: list[Bar] = []
        for bar in self._held:
            is_old = bar.start_ns + FRESH_NS <= at_ns and (symbols is None or bar.symbol in symbols)
            (old if is_old else kept).append(bar)
        self._held = kept
        fresh = {(bar.start_ns, bar.symbol) for bar in kept}
        ended = [b for b in fetched if b.start_ns + MINUTE_NS <= at_ns and (b.start_ns, b.symbol) not in fresh]
        # The socket's version of a minute stands before the archive's, as it would have without the cut.
        merged = {(bar.start_ns, bar.symbol): bar for bar in (*ended, *old)}
        out: list[Bar] = []
        for key in sorted(merged):
            found = self._once(merged[key])
            if found is not None:
                out.append(found if found.backfilled else msgspec.structs.replace(found, backfilled=True))
        return out

    def open(self, symbols: Collection[str] | None = None) -> list[Bar]:
        """Stop holding all, or these symbols on their own, and give what was held of them, by (start, symbol)."""
        if symbols is None:
            self._holding = False
            self._apart.clear()
        self._apart.difference_update(symbols or ())
        if self._holding:
            return []
        free = sorted(
            (bar for bar in self._held if bar.symbol not in self._apart), key=lambda bar: (bar.start_ns, bar.symbol)
        )
        self._held = [bar for bar in self._held if bar.symbol in self._apart]
        return [bar for bar in map(self._once, free) if bar is not None]

    def _once(self, bar: Bar) -> Bar | None:
        if bar.start_ns <= self._last.get(bar.symbol, -1):
            self.duplicates += 1
            return None
        self._last[bar.symbol] = bar.start_ns
        return bar

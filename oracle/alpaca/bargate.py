"""The order of bars across a cut: held while missed ones are fetched, each once, never back in time. Pure.

Inputs: bars from the socket, bars from REST. Outputs: bars to emit. Invariants: for each symbol the starts that come
out only rise, so a bar comes out once whichever way it came; a bar too old to act on comes out as back-filled.
"""

from collections.abc import Iterable

import msgspec

from oracle.core.messages import Bar

MINUTE_NS = 60_000_000_000
FRESH_NS = 2 * MINUTE_NS


class BarGate:
    """One feed's bars. It holds from the start, until ``open`` is called."""

    __slots__ = ("_held", "_holding", "_last", "duplicates")

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._held: list[Bar] = []
        self._holding = True
        self.duplicates = 0

    def last_start(self, symbol: str) -> int | None:
        """Start of a symbol's newest bar that came out, or None."""
        return self._last.get(symbol)

    def holds(self, symbol: str, start_ns: int) -> bool:
        """Whether a bar has come out or is held."""
        held = any(bar.symbol == symbol and bar.start_ns == start_ns for bar in self._held)
        return held or self._last.get(symbol, -1) >= start_ns

    def hold(self) -> None:
        """Keep what arrives from now on until ``open``."""
        self._holding = True

    def offer(self, bar: Bar) -> Bar | None:
        """Take a bar from the socket. Returns it when it may be emitted now."""
        if self._holding:
            self._held.append(bar)
            return None
        return self._once(bar)

    def fill(self, fetched: Iterable[Bar], at_ns: int) -> list[Bar]:
        """Merge fetched bars with held ones that are no longer fresh; marked as back-filled, by (start, symbol).

        Bars of a minute that has not ended at ``at_ns`` are left to the socket.
        """
        old = [bar for bar in self._held if bar.start_ns + FRESH_NS <= at_ns]
        self._held = [bar for bar in self._held if bar.start_ns + FRESH_NS > at_ns]
        ended = [bar for bar in fetched if bar.start_ns + MINUTE_NS <= at_ns]
        # The socket's version of a minute stands before the archive's, as it would have without the cut.
        merged = {(bar.start_ns, bar.symbol): bar for bar in (*ended, *old)}
        out: list[Bar] = []
        for key in sorted(merged):
            bar = self._once(merged[key])
            if bar is not None:
                out.append(bar if bar.backfilled else msgspec.structs.replace(bar, backfilled=True))
        return out

    def open(self) -> list[Bar]:
        """Stop holding, and give what was held, by (start, symbol)."""
        self._holding = False
        held = sorted(self._held, key=lambda bar: (bar.start_ns, bar.symbol))
        self._held = []
        return [bar for bar in map(self._once, held) if bar is not None]

    def _once(self, bar: Bar) -> Bar | None:
        if bar.start_ns <= self._last.get(bar.symbol, -1):
            self.duplicates += 1
            return None
        self._last[bar.symbol] = bar.start_ns
        return bar

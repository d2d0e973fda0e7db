"""Business time for the edges (staleness, back-off): a clock and callbacks that the daemon runs, never the loop's.

In paced modes they move with exchange time, otherwise with the wall clock; the edges cannot tell.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Protocol

# So many cancelled entries may wait in the heap beside the live ones before they are swept out.
MOST_CANCELLED = 64


class Clock(Protocol):
    """The clock port."""

    def now_ns(self) -> int:
        """UTC nanoseconds."""
        ...


class EdgeTimers:
    """A heap of (due time, callback); the handle that ``call_at`` returns cancels."""

    __slots__ = ("_clock", "_heap", "_ids", "_live", "_wake")

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._heap: list[tuple[int, int]] = []
        self._ids = count()
        self._live: dict[int, Callable[[], None]] = {}

    @property
    def held(self) -> int:
        """How many entries take up memory, cancelled ones included."""
        return max(len(self._heap), len(self._live))

    def now_ns(self) -> int:
        """The present instant, UTC ns."""
        return self._clock.now_ns()

    def call_at(self, at_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Run ``callback`` once time reaches ``at_ns``, never before this returns; gives a function that cancels."""
        number = next(self._ids)
        self._live[number] = callback
        heappush(self._heap, (at_ns, number))
        if at_ns <= self._clock.now_ns():
            self._wake()
        return lambda: self._cancel(number)

    def next_ns(self) -> int | None:
        """When the earliest live callback is due, or None."""
        while self._heap and self._heap[0][1] not in self._live:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> int:
        """Run everything due by now in order of (time, creation); returns how many ran."""
        ran = 0
        while (due_ns := self.next_ns()) is not None and due_ns <= self._clock.now_ns():
            self._live.pop(heappop(self._heap)[1])()
            ran += 1
        return ran

    def _cancel(self, number: int) -> None:
        self._live.pop(number, None)
        if len(self._heap) > 2 * len(self._live) + MOST_CANCELLED:
            # A timer that is set anew with each frame would otherwise leave a dead entry for every one of them.
            self._heap = [entry for entry in self._heap if entry[1] in self._live]
            heapify(self._heap)

"""Business time for the edges (staleness, back-off): a clock and callbacks that the daemon runs, never the loop's.

In paced modes they move with exchange time, otherwise with the wall clock; the edges cannot tell.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Protocol


class Clock(Protocol):
    """The clock port."""

    def now_ns(self) -> int:
        """UTC nanoseconds."""
        ...


class EdgeTimers:
    """A heap of (due time, callback); the handle that ``call_at`` returns cancels."""

    __slots__ = ("_canceled", "_clock", "_heap", "_ids", "_wake")

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._ids = count()
        self._canceled: set[int] = set()

    def now_ns(self) -> int:
        """The present instant, UTC ns."""
        return self._clock.now_ns()

    def call_at(self, at_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Run ``callback`` once time reaches ``at_ns``, never before this returns; gives a function that cancels."""
        number = next(self._ids)
        heappush(self._heap, (at_ns, number, callback))
        if at_ns <= self._clock.now_ns():
            self._wake()
        return lambda: self._canceled.add(number)

    def next_ns(self) -> int | None:
        """When the earliest live callback is due, or None."""
        while self._heap and self._heap[0][1] in self._canceled:
            self._canceled.discard(heappop(self._heap)[1])
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> int:
        """Run everything due by now in order of (time, creation); returns how many ran."""
        ran = 0
        while (due_ns := self.next_ns()) is not None and due_ns <= self._clock.now_ns():
            heappop(self._heap)[2]()
            ran += 1
        return ran

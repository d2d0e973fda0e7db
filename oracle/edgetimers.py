"""Business-time callbacks for the edges (staleness, back-off): run by the daemon, never by the event loop's clock.

In paced modes they move with exchange time, otherwise with the wall clock; the edges cannot tell.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


class EdgeTimers:
    """A heap of (due time, callback); a handle cancels."""

    __slots__ = ("_canceled", "_heap", "_ids")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._ids = count()
        self._canceled: set[int] = set()

    def call_at(self, at_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Run ``callback`` once time reaches ``at_ns``; returns a function that cancels it."""
        number = next(self._ids)
        heappush(self._heap, (at_ns, number, callback))
        return lambda: self._canceled.add(number)

    def next_ns(self) -> int | None:
        """When the earliest live callback is due, or None."""
        while self._heap and self._heap[0][1] in self._canceled:
            self._canceled.discard(heappop(self._heap)[1])
        return self._heap[0][0] if self._heap else None

    def run_due(self, now_ns: int) -> int:
        """Run everything due by ``now_ns`` in order of (time, creation); returns how many ran."""
        ran = 0
        while (due_ns := self.next_ns()) is not None and due_ns <= now_ns:
            heappop(self._heap)[2]()
            ran += 1
        return ran

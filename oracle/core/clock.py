"""Timers of the core and a clock that only events move.

Business time runs on these timers: ``SetTimer`` in, ``TimerFired`` out, journalled as an input. Order is by
(due time, id), so that equal times fire the same way in every run. No wall clock is read here.
"""

from heapq import heappop, heappush

from oracle.core.errors import InvariantError
from oracle.core.messages import ClearTimer, SetTimer, TimerFired


class Timers:
    """Pending timers. Setting an id again replaces it."""

    __slots__ = ("_due", "_heap")

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def set(self, command: SetTimer) -> None:
        """Arm or re-arm a timer."""
        self._due[command.timer_id] = command.at_ns
        heappush(self._heap, (command.at_ns, command.timer_id))

    def clear(self, command: ClearTimer) -> None:
        """Disarm a timer; unknown ids are ignored."""
        self._due.pop(command.timer_id, None)

    def next_ns(self) -> int | None:
        """When the earliest timer is due, or None."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ns: int) -> TimerFired | None:
        """Take the earliest timer due at or before ``now_ns``, or None."""
        due_ns = self.next_ns()
        if due_ns is None or due_ns > now_ns:
            return None
        _, timer_id = heappop(self._heap)
        del self._due[timer_id]
        return TimerFired(timer_id, due_ns)


class VirtualClock:
    """Time as told by a pacing exchange or a file: moves forward only, and only when told."""

    __slots__ = ("_now_ns",)

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """The time last told."""
        return self._now_ns

    def advance(self, to_ns: int) -> None:
        """Move to ``to_ns``.

        Raises:
            InvariantError: time would run backwards.
        """
        if to_ns < self._now_ns:
            raise InvariantError(f"clock: {to_ns} is before {self._now_ns}")
        self._now_ns = to_ns

"""The inbox: what the edges heard, in a repeatable order, until the core takes it.

Two lanes: first-in-first-out for broker reports, answers, bars and feed states; conflated quotes behind them.
Within one release, inputs are ordered by (source rank, sequence of that source), so that the wall-clock race
between sockets never reaches the core. Bounded: beyond the limit the process must not go on.
"""

import asyncio
from enum import IntEnum

from oracle.core.errors import InvariantError
from oracle.core.messages import Input

# The warm-up of the largest universe that settings allow: 20 symbols x 60 sessions x 390 minutes.
MAX_HELD = 500_000


class Source(IntEnum):
    """Where an input came from; lower ranks are handled first within one release."""

    OPERATOR = 0
    TRADING = 1
    ANSWER = 2
    STOCK = 3
    OPTION = 4


class Inbox:
    """Inputs held for the core, and an event that says that something changed."""

    __slots__ = ("_held", "_order", "changed")

    def __init__(self) -> None:
        self._held: list[tuple[int, int, int, Input]] = []
        self._order = 0
        self.changed = asyncio.Event()

    def put(self, source: Source, message: Input, sequence: int | None = None) -> None:
        """Hold an input. ``sequence`` orders answers by request, not by when they came back.

        Raises:
            InvariantError: the core has stopped taking inputs.
        """
        if len(self._held) >= MAX_HELD:
            raise InvariantError(f"inbox: {MAX_HELD} inputs are waiting; the core is not keeping up")
        self._order += 1
        self._held.append((source, self._order if sequence is None else sequence, self._order, message))
        self.changed.set()

    def __len__(self) -> int:
        return len(self._held)

    def take(self) -> list[Input]:
        """Release everything held, ordered by (source rank, sequence)."""
        held, self._held = self._held, []
        held.sort(key=lambda row: row[:3])
        return [row[3] for row in held]

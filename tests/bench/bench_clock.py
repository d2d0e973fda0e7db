"""A business clock that the bench moves: the operating system's, shifted by what a small shared file says.

The bench writes the shift, the daemon under test reads it. So hours of business time (order rates, quote ages, the
minutes of bars) pass between two events, while each event itself runs at the true pace.
"""

import mmap
import struct
import time
from pathlib import Path

_SHIFT = struct.Struct("<q")


class BenchClock:
    """UTC nanoseconds of the bench's day."""

    def __init__(self, path: Path) -> None:
        """Map the file, which ``create`` made."""
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SHIFT.size)

    @classmethod
    def create(cls, path: Path, at_ns: int) -> "BenchClock":
        """Make the file, so that the clock now shows ``at_ns``."""
        path.write_bytes(_SHIFT.pack(at_ns - time.time_ns()))
        return cls(path)

    def now_ns(self) -> int:
        """The present business time."""
        shift_ns: int = _SHIFT.unpack_from(self._map)[0]
        return time.time_ns() + shift_ns

    def move_to(self, at_ns: int) -> None:
        """Jump ahead; a time that has passed changes nothing."""
        shift_ns: int = _SHIFT.unpack_from(self._map)[0]
        _SHIFT.pack_into(self._map, 0, max(shift_ns, at_ns - time.time_ns()))

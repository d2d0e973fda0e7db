"""The pure table of NYSE sessions: the only place where New York time of day exists inside the program.

Inputs: rows of (date, open_ns, close_ns) loaded at the edge from exchange-calendars. All instants are UTC
integer nanoseconds. A time of day is an offset from the open, so daylight saving cannot move it.
"""

import datetime as dt
from bisect import bisect_right
from collections.abc import Iterable

import msgspec

from oracle.core.errors import InvariantError

NS = 1_000_000_000
MINUTE_NS = 60 * NS
REGULAR_OPEN_MIN = 9 * 60 + 30
REGULAR_CLOSE_MIN = 16 * 60
REGULAR_LENGTH_NS = (REGULAR_CLOSE_MIN - REGULAR_OPEN_MIN) * MINUTE_NS


def minutes_of(text: str) -> float:
    """Minutes since midnight of a New York time of day written ``HH:MM`` or ``HH:MM:SS``.

    Raises:
        ValueError: the text is not a time of day.
    """
    parts = dt.time.fromisoformat(text)
    return parts.hour * 60 + parts.minute + parts.second / 60


class Session(msgspec.Struct, frozen=True):
    """One NYSE trading day. ``date`` is ISO; ``open_ns`` is 09:30 New York, ``close_ns`` 16:00 (13:00 on half-days)."""

    date: str
    open_ns: int
    close_ns: int

    def __post_init__(self) -> None:
        if not self.open_ns < self.close_ns:
            raise InvariantError(f"session {self.date} closes before it opens")

    @property
    def is_half_day(self) -> bool:
        """Whether the session is shorter than 09:30–16:00."""
        return self.close_ns - self.open_ns < REGULAR_LENGTH_NS

    def is_open(self, at_ns: int) -> bool:
        """Whether regular trading is on at ``at_ns`` (the close itself is outside)."""
        return self.open_ns <= at_ns < self.close_ns

    def early(self, time_of_day: str) -> int:
        """The instant of a New York time of day that counts from the open, e.g. an opening range's end."""
        return self.open_ns + round((minutes_of(time_of_day) - REGULAR_OPEN_MIN) * MINUTE_NS)

    def late(self, time_of_day: str) -> int:
        """The instant of a late time of day: the stated time or the same distance before an early close."""
        before_close_ns = round((REGULAR_CLOSE_MIN - minutes_of(time_of_day)) * MINUTE_NS)
        return min(self.early(time_of_day), self.close_ns - before_close_ns)

    def minute_of(self, at_ns: int) -> int:
        """Whole minutes since the open (negative before it)."""
        return (at_ns - self.open_ns) // MINUTE_NS


class SessionTable:
    """Sessions in order of date, with look-ups by instant and by date.

    Raises:
        InvariantError: the rows are empty, overlap or are out of order.
    """

    __slots__ = ("_by_date", "_opens", "sessions")

    def __init__(self, sessions: Iterable[Session]) -> None:
        self.sessions = tuple(sessions)
        if not self.sessions:
            raise InvariantError("the session table is empty")
        for before, after in zip(self.sessions, self.sessions[1:], strict=False):
            if not (before.close_ns < after.open_ns and before.date < after.date):
                raise InvariantError(f"sessions {before.date} and {after.date} overlap or are out of order")
        self._opens = [s.open_ns for s in self.sessions]
        self._by_date = {s.date: i for i, s in enumerate(self.sessions)}

    def on(self, date: str) -> Session | None:
        """The session of an ISO date, or None when the exchange is closed that day or the table ends before it."""
        index = self._by_date.get(date)
        return None if index is None else self.sessions[index]

    def open_at(self, at_ns: int) -> Session | None:
        """The session that is trading at this instant, or None."""
        index = bisect_right(self._opens, at_ns) - 1
        return self.sessions[index] if index >= 0 and self.sessions[index].is_open(at_ns) else None

    def current_or_next(self, at_ns: int) -> Session | None:
        """The session that is trading, else the next one, else None past the table's end."""
        index = bisect_right(self._opens, at_ns) - 1
        if index >= 0 and at_ns < self.sessions[index].close_ns:
            return self.sessions[index]
        return self.sessions[index + 1] if index + 1 < len(self.sessions) else None

    def latest(self, at_ns: int) -> Session | None:
        """The last session that has opened by this instant, or None before the table begins."""
        index = bisect_right(self._opens, at_ns) - 1
        return self.sessions[index] if index >= 0 else None

    def before(self, date: str, count: int = 1) -> tuple[Session, ...]:
        """Up to ``count`` sessions before an ISO date, oldest first."""
        end = next((i for i, s in enumerate(self.sessions) if s.date >= date), len(self.sessions))
        return self.sessions[max(0, end - count) : end]

    def after(self, date: str) -> Session | None:
        """The first session later than an ISO date, or None past the table's end."""
        return next((s for s in self.sessions if s.date > date), None)

    def last_trading(self, expiry: str) -> Session | None:
        """The last session at or before an expiry date (old monthlies are dated Saturday); None outside the table."""
        if not self.sessions[0].date <= expiry <= self.sessions[-1].date:
            return None
        found = self.on(expiry) or (self.before(expiry) or (None,))[-1]
        return found

    def expiry_ns(self, expiry: str) -> int | None:
        """The instant at which a PM-settled option of this expiry stops existing: its last session's close."""
        last = self.last_trading(expiry)
        return None if last is None else last.close_ns

    def days_to(self, expiry: str, date: str) -> int:
        """Calendar days from one ISO date to an expiry (DTE)."""
        return (dt.date.fromisoformat(expiry) - dt.date.fromisoformat(date)).days

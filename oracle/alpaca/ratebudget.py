"""A budget of requests to one REST bucket, with a reserve that only cancels and exits may use. Pure.

Inputs: business instants and the vendor's X-Ratelimit headers. Outputs: how long a request must wait.
Invariant: no window of a minute holds more than the limit, and ordinary requests leave the reserve free; a sliding
window is used because a token bucket of N lets almost 2 N through in its first minute.
"""

from collections import deque
from collections.abc import Mapping

from oracle.alpaca import wire
from oracle.core.errors import ProtocolError

MINUTE_NS = 60_000_000_000
NS = 1_000_000_000


class RateBudget:
    """Requests per minute on business time.

    Args:
        limit_per_min: what the vendor allows.
        reserve: of these, how many only urgent requests may use.
    """

    __slots__ = ("_configured", "_limit", "_remaining", "_reserve", "_reset_ns", "_sent_ns", "_window_s")

    def __init__(self, limit_per_min: int = 200, reserve: int = 60) -> None:
        if not 0 <= reserve < limit_per_min:
            raise ProtocolError("rate budget: the reserve must be smaller than the limit")
        self._limit = self._configured = limit_per_min
        self._reserve = reserve
        self._sent_ns: deque[int] = deque()
        self._remaining: int | None = None
        self._reset_ns = 0
        self._window_s = 0

    def used(self, at_ns: int) -> int:
        """Requests in the minute that ends at ``at_ns``."""
        while self._sent_ns and self._sent_ns[0] <= at_ns - MINUTE_NS:
            self._sent_ns.popleft()
        return len(self._sent_ns)

    def take(self, at_ns: int, urgent: bool, requests: int = 1) -> int:
        """Take requests out of the budget. Returns 0 when granted, else the ns to wait (nothing is taken).

        ``urgent`` may use the reserve. The vendor's own count, when it has told one, binds as well.
        """
        # A group larger than the limit may go when it goes alone.
        limit = max(requests, self._limit if urgent else self._limit - self._reserve)
        used = self.used(at_ns)
        if used + requests > limit:
            return self._sent_ns[used + requests - limit - 1] + MINUTE_NS - at_ns
        if self._remaining is not None and at_ns < self._reset_ns:
            floor = 0 if urgent else min(self._reserve, self._limit - 1)
            if self._remaining - requests < floor:
                return self._reset_ns - at_ns
            self._remaining -= requests
        self._sent_ns.extend([at_ns] * requests)
        return 0

    def on_headers(self, at_ns: int, headers: Mapping[str, str]) -> None:
        """Take over the vendor's limit, remaining count and reset instant (epoch seconds) from a reply."""
        limit = _whole(headers.get(wire.RATE_LIMIT_HEADER))
        if limit is not None and self._reserve < limit:
            # A limit configured tighter than the vendor's stays.
            self._limit = min(limit, self._configured)
        remaining, reset_s = (
            _whole(headers.get(wire.RATE_REMAINING_HEADER)),
            _whole(headers.get(wire.RATE_RESET_HEADER)),
        )
        if remaining is None or reset_s is None:
            return
        if reset_s < self._window_s and at_ns < self._reset_ns:
            return  # of a window that is over: a reply overtaken by another's
        # Replies to reads side by side arrive in any order, and requests under way are not in them yet: within one
        # window the count only falls.
        known = self._remaining if reset_s == self._window_s and at_ns < self._reset_ns else None
        self._remaining = remaining if known is None else min(remaining, known)
        self._window_s = reset_s
        # A reset that is further away than a minute would freeze us on a wrong clock: it is cut to one.
        self._reset_ns = min(reset_s * NS, at_ns + MINUTE_NS)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 12 else None

"""Indicators that cost the same for every bar: EMA and its cross, RSI, ATR, VWAP, returns, opening range, volume.

Inputs: closed one-minute bars of regular hours, each once and in order. Output: ``value``, None until warm.
EMA, RSI, ATR and trailing volume carry over from session to session; VWAP, returns and the opening range begin anew
with each session. Invariant: a value that is not known is None, never 0, 0.5 or 50.
"""

from collections import deque

from oracle.core.errors import InvariantError
from oracle.core.sessions import MINUTE_NS


def _at_least_one(name: str, length: int) -> int:
    if length < 1:
        raise InvariantError(f"{name}: length {length} must be at least 1")
    return length


class Ema:
    """Exponential moving average, weight 2 / (length + 1), seeded with the mean of the first ``length`` values."""

    __slots__ = ("_count", "_length", "_sum", "_weight", "value")

    def __init__(self, length: int) -> None:
        self._length = _at_least_one("EMA", length)
        self._weight = 2.0 / (length + 1.0)
        self._count = 0
        self._sum = 0.0
        self.value: float | None = None

    def update(self, close: float) -> None:
        """Take the next close."""
        if self.value is not None:
            self.value += self._weight * (close - self.value)
            return
        self._count += 1
        self._sum += close
        if self._count == self._length:
            self.value = self._sum / self._length


class Cross:
    """Whether a fast average crossed a slow one on the last value: +1 up, −1 down, 0 not; None until both are warm.

    Averages that touch have not crossed: what counts is the last side that the fast one was on.
    """

    __slots__ = ("_fast", "_side", "_slow", "value")

    def __init__(self, fast: Ema, slow: Ema) -> None:
        self._fast = fast
        self._slow = slow
        self._side = 0
        self.value: int | None = None

    @property
    def fast(self) -> float | None:
        """The fast average."""
        return self._fast.value

    @property
    def slow(self) -> float | None:
        """The slow average."""
        return self._slow.value

    def update(self, close: float) -> None:
        """Take the next close into both averages."""
        self._fast.update(close)
        self._slow.update(close)
        fast, slow = self._fast.value, self._slow.value
        if fast is None or slow is None:
            return
        side = int(fast > slow) - int(fast < slow)
        known, self.value = self._side != 0, 0
        if side != 0:
            self.value = side if known and side != self._side else 0
            self._side = side


class Rsi:
    """Wilder's relative strength index, 0 to 100, seeded with the mean of the first ``length`` differences.

    None before that, and while no price has moved at all (the ratio is then undefined).
    """

    __slots__ = ("_count", "_gain", "_last", "_length", "_loss", "value")

    def __init__(self, length: int = 14) -> None:
        self._length = _at_least_one("RSI", length)
        self._count = 0
        self._gain = 0.0
        self._loss = 0.0
        self._last: float | None = None
        self.value: float | None = None

    def update(self, close: float) -> None:
        """Take the next close."""
        if self._last is None:
            self._last = close
            return
        change = close - self._last
        self._last = close
        gain, loss = max(change, 0.0), max(-change, 0.0)
        n = self._length
        if self._count < n:
            self._count += 1
            self._gain += gain / n
            self._loss += loss / n
            if self._count < n:
                return
        else:
            self._gain += (gain - self._gain) / n
            self._loss += (loss - self._loss) / n
        total = self._gain + self._loss
        self.value = 100.0 * self._gain / total if total > 0.0 else None


class Atr:
    """Wilder's average true range in dollars, seeded with the mean of the first ``length`` true ranges.

    The first bar only supplies a previous close, so ``length + 1`` bars are needed.
    """

    __slots__ = ("_count", "_last", "_length", "_sum", "value")

    def __init__(self, length: int = 14) -> None:
        self._length = _at_least_one("ATR", length)
        self._count = 0
        self._sum = 0.0
        self._last: float | None = None
        self.value: float | None = None

    def update(self, high: float, low: float, close: float) -> None:
        """Take the next bar."""
        last, self._last = self._last, close
        if last is None:
            return
        true_range = max(high, last) - min(low, last)
        if self.value is not None:
            self.value += (true_range - self.value) / self._length
            return
        self._count += 1
        self._sum += true_range
        if self._count == self._length:
            self.value = self._sum / self._length


class SessionVwap:
    """Volume-weighted mean of (high + low + close) / 3 since the session's open; None until volume has traded."""

    __slots__ = ("_amount", "_date", "_volume", "value")

    def __init__(self) -> None:
        self._date = ""
        self._amount = 0.0
        self._volume = 0
        self.value: float | None = None

    def update(self, date: str, high: float, low: float, close: float, volume: int) -> None:
        """Take the next bar of the session of ISO ``date``; another date begins anew."""
        if date != self._date:
            self._date, self._amount, self._volume, self.value = date, 0.0, 0, None
        self._amount += (high + low + close) / 3.0 * volume
        self._volume += volume
        if self._volume > 0:
            self.value = self._amount / self._volume


class SessionReturns:
    """Returns within one session, by minutes since its open; another date begins anew."""

    __slots__ = ("_closes", "_date", "_open")

    def __init__(self) -> None:
        self._date = ""
        self._open: float | None = None
        self._closes: dict[int, float] = {}

    def update(self, date: str, minute: int, open_: float, close: float) -> None:
        """Take the next bar of the session of ISO ``date``: the one that starts ``minute`` minutes after its open."""
        if date != self._date:
            self._date, self._open, self._closes = date, None, {}
        if minute == 0:
            self._open = open_
        self._closes[minute] = close

    def over(self, date: str, minute: int, minutes: int) -> float | None:
        """Return from ``minutes`` before the end of a minute's bar to that end, as a fraction.

        None unless the bars at both ends are there; a span that begins with the session needs its first bar.
        """
        if date != self._date:
            return None
        before = minute - minutes
        base = self._open if before == -1 else self._closes.get(before)
        last = self._closes.get(minute)
        return None if base is None or last is None else last / base - 1.0


class OpeningRange:
    """High and low of the bars that start in [start_ns, end_ns) of one session, in dollars.

    ``value`` is (high, low) from the window's end on, and only when at most ``missing_allowed`` of its minutes had
    no bar: a range with a hole in it is unknown.
    """

    __slots__ = ("_end_ns", "_high", "_low", "_missing_allowed", "_start_ns", "seen")

    def __init__(self, start_ns: int, end_ns: int, missing_allowed: int = 0) -> None:
        if not start_ns < end_ns:
            raise InvariantError("opening range: it ends before it starts")
        self._start_ns = start_ns
        self._end_ns = end_ns
        self._missing_allowed = missing_allowed
        self._high = float("-inf")
        self._low = float("inf")
        self.seen = 0

    @property
    def minutes(self) -> int:
        """Length of the window in minutes."""
        return (self._end_ns - self._start_ns) // MINUTE_NS

    def update(self, start_ns: int, high: float, low: float) -> None:
        """Take the next bar; bars outside the window do not count."""
        if self._start_ns <= start_ns < self._end_ns:
            self._high = max(self._high, high)
            self._low = min(self._low, low)
            self.seen += 1

    def value(self, at_ns: int) -> tuple[float, float] | None:
        """(high, low) as known at ``at_ns``; None while the window runs or when too many minutes are missing."""
        complete = self.seen > 0 and self.minutes - self.seen <= self._missing_allowed
        return (self._high, self._low) if complete and at_ns >= self._end_ns else None


class TrailingVolume:
    """A bar's volume over the mean of the ``count`` bars before it; None until there are so many or their mean is 0."""

    __slots__ = ("_count", "_sum", "_volumes", "value")

    def __init__(self, count: int = 20) -> None:
        self._count = _at_least_one("relative volume", count)
        self._volumes: deque[int] = deque()
        self._sum = 0
        self.value: float | None = None

    def update(self, volume: int) -> None:
        """Take the next bar's volume in shares."""
        full = len(self._volumes) == self._count
        self.value = volume * self._count / self._sum if full and self._sum > 0 else None
        self._volumes.append(volume)
        self._sum += volume
        if full:
            self._sum -= self._volumes.popleft()


class SameMinuteVolume:
    """A bar's volume over the mean of the same minute of the ``sessions`` sessions before that had that minute.

    None until there are so many (early closes and missed minutes reach further back) or while their mean is 0.
    """

    __slots__ = ("_minutes", "_sessions", "value")

    def __init__(self, sessions: int = 20) -> None:
        self._sessions = _at_least_one("relative volume", sessions)
        self._minutes: dict[int, TrailingVolume] = {}
        self.value: float | None = None

    def update(self, minute: int, volume: int) -> None:
        """Take the volume in shares of minute ``minute`` since the open; once per session and minute."""
        past = self._minutes.get(minute)
        if past is None:
            past = self._minutes[minute] = TrailingVolume(self._sessions)
        past.update(volume)
        self.value = past.value

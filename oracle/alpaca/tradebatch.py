"""Option trades between the socket and the core: batched about once a second, never conflated.

Inputs: raw trades as they come off the socket; the conflator, which knows rows and the quote in force. Outputs:
``drain(at_ns)`` → OptionTrades by underlying. Invariants: pure (time comes in); order of arrival is kept; a trade that
finds the batch full is counted, told to the core as ``lost`` and logged by who drains, never dropped in silence.
"""

from typing import Any

import numpy as np

from oracle.alpaca.conflate import Conflator
from oracle.alpaca.fields import MAX_PRICE, MAX_SIZE, MalformedError, instant_ns
from oracle.core.marketdata import OptionTrades
from oracle.core.message import Message

NS = 1_000_000_000
# A busy second of all listed options is far below this; more means that nobody drains.
MAX_PENDING = 100_000
_MAX_NS = 2**63 - 1
_UNTOLD = " "
_KIND = "option_trade"
_Pending = tuple[str, float, int, int, str, float, float]


class TradeBatcher:
    """Trades of one account's option stream. Used on one loop.

    Args:
        quotes: where rows and the quotes in force are known.
        every_ns: least time between batches; 0 gives whatever is there at each drain.
        limit: trades that may wait.
    """

    __slots__ = ("_drained_ns", "_every_ns", "_limit", "_lost", "_pending", "_quotes", "lost", "unlisted")

    def __init__(self, quotes: Conflator, every_ns: int = NS, limit: int = MAX_PENDING) -> None:
        self._quotes, self._every_ns, self._limit = quotes, every_ns, limit
        self._pending: list[_Pending] = []
        self._lost: dict[str, int] = {}
        self._drained_ns = 0
        self.lost = 0
        self.unlisted = 0

    @property
    def pending(self) -> int:
        """Trades waiting for the next batch."""
        return len(self._pending)

    def put_raw(self, raw: dict[str, Any]) -> None:
        """Take a trade as it comes off the socket.

        Raises:
            MalformedError: a field is missing or impossible.
        """
        symbol, price, size, venue = raw.get("S"), raw.get("p"), raw.get("s"), raw.get("x")
        if not isinstance(symbol, str):
            raise MalformedError(_KIND, "S", "missing or not text")
        if not isinstance(price, int | float) or isinstance(price, bool):
            raise MalformedError(_KIND, "p", "missing or not a number")
        if not isinstance(size, int) or isinstance(size, bool):
            raise MalformedError(_KIND, "s", "missing or not a whole number")
        at_ns = instant_ns(raw.get("t"), _KIND, "t")
        self.put(symbol, float(price), size, at_ns, venue if isinstance(venue, str) else "")

    def put(self, symbol: str, price: float, size: int, at_ns: int, venue: str) -> None:
        """Take a trade with the quote that is in force at its time; ``venue`` is the vendor's letter, or empty.

        Raises:
            MalformedError: a number is not positive, not finite or too large.
        """
        if not 0 < price < MAX_PRICE:
            raise MalformedError(_KIND, "p", f"{price} out of range")
        if not 0 < size <= MAX_SIZE:
            raise MalformedError(_KIND, "s", f"{size} out of range")
        if not 0 < at_ns <= _MAX_NS:
            raise MalformedError(_KIND, "t", f"{at_ns} ns is not an instant")
        slot = self._quotes.slot(symbol)
        if slot is None:
            self.unlisted += 1
            return
        if len(self._pending) >= self._limit:
            self.lost += 1
            self._lost[slot[0].underlying] = self._lost.get(slot[0].underlying, 0) + 1
            return
        bid, ask = self._quotes.quote_at(symbol, at_ns)
        letter = venue if len(venue) == 1 and venue.isascii() else _UNTOLD
        self._pending.append((symbol, price, size, at_ns, letter, bid, ask))

    def drain(self, at_ns: int) -> list[Message]:
        """Give everything that waits, by underlying, when a batch is due."""
        if not (self._pending or self._lost) or at_ns < self._drained_ns + self._every_ns:
            return []
        self._drained_ns = at_ns
        pending, self._pending = self._pending, []
        lost, self._lost = self._lost, {}
        found: dict[tuple[str, str], list[tuple[int, _Pending]]] = {}
        for trade in pending:
            # Rows are those of the listing of now: one may have come since the trade.
            slot = self._quotes.slot(trade[0])
            if slot is None:
                self.unlisted += 1
                continue
            found.setdefault((slot[0].underlying, slot[0].date), []).append((slot[1], trade))
        for underlying in lost.keys() - {name for name, _ in found}:
            date = self._quotes.listed_date(underlying)
            if date is not None:
                found[underlying, date] = []
        return [_columns(*key, found[key], at_ns, lost.get(key[0], 0)) for key in sorted(found)]

    def clear(self) -> None:
        """Forget what waits, as after a feed went down."""
        self._pending.clear()


def _columns(underlying: str, date: str, trades: list[tuple[int, _Pending]], at_ns: int, lost: int) -> OptionTrades:
    return OptionTrades(
        underlying=underlying,
        date=date,
        rows=np.array([row for row, _ in trades], "<i4").tobytes(),
        price=np.array([t[1] for _, t in trades], "<f8").tobytes(),
        size=np.array([t[2] for _, t in trades], "<i4").tobytes(),
        traded_ns=np.array([min(t[3], at_ns) for _, t in trades], "<i8").tobytes(),
        venue="".join(t[4] for _, t in trades).encode("ascii"),
        bid=np.array([t[5] for _, t in trades], "<f8").tobytes(),
        ask=np.array([t[6] for _, t in trades], "<f8").tobytes(),
        lost=lost,
    )

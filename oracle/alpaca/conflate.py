"""Conflation of quotes at the edge: the newest stock quote by symbol, option quotes as columns by underlying.

Inputs: raw option quotes as they come off the socket, ``Quote`` messages, listed chains, legs held. Outputs:
``drain(at_ns)`` → sorted Quotes, then sorted ChainQuotes. Near the money 4 Hz, far 1 Hz, legs held at once.
Invariants: pure (time comes in), rows ascending, older quotes never replace newer ones; a stamp from the future counts
as its drain's. Bars and broker reports never come here. An option quote costs a look-up and a tuple until drained.
"""

import math
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from oracle.alpaca.fields import MAX_PRICE, MAX_SIZE, MalformedError, instant_ns
from oracle.core.instruments import parse_occ
from oracle.core.marketdata import ChainListed, ChainQuotes, Quote
from oracle.core.message import Message

NS = 1_000_000_000
NEAR_EVERY_NS = NS // 4
FAR_EVERY_NS = NS
NEAR_BAND = 0.02
_FAR, _NEAR, _HELD = 0, 1, 2
_Pending = tuple[float, int, float, int, int]
_NAN = math.nan
_MAX_NS = 2**63 - 1


class _Book:
    """The undrained quotes of one underlying's chain. ``pending``: row → (bid, size, ask, size, UTC ns)."""

    __slots__ = (
        "before", "date", "far_ns", "last", "listed", "near_ns", "newest_ns", "pending", "strikes", "tiers", "urgent",
    )  # fmt: skip

    def __init__(self, listed: ChainListed) -> None:
        self.listed = listed
        self.date = listed.date
        self.pending: dict[int, _Pending] = {}
        self.newest_ns = [0] * len(listed.contracts)
        # The two newest quotes of each row, drained or not: a trade is judged by the one that was in force.
        self.last: list[_Pending | None] = [None] * len(listed.contracts)
        self.before: list[_Pending | None] = [None] * len(listed.contracts)
        self.strikes = np.array([parse_occ(c.symbol).strike for c in listed.contracts])
        self.tiers = bytearray(len(listed.contracts))
        self.near_ns = 0
        self.far_ns = 0
        self.urgent = False


class Conflator:
    """Quotes between the sockets and the core. One per account; used on one loop."""

    __slots__ = ("_books", "_held", "_slots", "_spots", "_stocks", "_stocks_ns", "unlisted")

    def __init__(self) -> None:
        self._books: dict[str, _Book] = {}
        self._slots: dict[str, tuple[_Book, int]] = {}
        self._held: frozenset[str] = frozenset()
        self._stocks: dict[str, Quote] = {}
        self._stocks_ns = 0
        self._spots: dict[str, float] = {}
        self.unlisted = 0

    def set_chain(self, listed: ChainListed) -> None:
        """Take rows from a chain; what was pending for the underlying's former rows is dropped with them."""
        old = self._books.get(listed.underlying)
        if old is not None:
            for contract in old.listed.contracts:
                self._slots.pop(contract.symbol, None)
        book = _Book(listed)
        self._books[listed.underlying] = book
        for row, contract in enumerate(listed.contracts):
            self._slots[contract.symbol] = (book, row)
        self._retier(book)

    def set_held(self, symbols: Collection[str]) -> None:
        """Say which contracts are held or ordered: their quotes are due at once."""
        self._held = frozenset(symbols)
        for book in self._books.values():
            self._retier(book)

    def put_stock(self, quote: Quote) -> None:
        """Take a stock quote."""
        pending = self._stocks.get(quote.symbol)
        if pending is None or pending.quoted_ns <= quote.quoted_ns:
            self._stocks[quote.symbol] = quote

    def put_option_raw(self, raw: dict[str, Any]) -> None:
        """Take an option quote as it comes off the socket.

        Raises:
            MalformedError: a field is missing or impossible.
        """
        try:
            stamp = raw["t"]
            at_ns = stamp.seconds * NS + stamp.nanoseconds
            self.put_option(raw["S"], raw["bp"], raw["bs"], raw["ap"], raw["as"], at_ns)
        except (KeyError, TypeError, AttributeError):
            raise _explain(raw) from None

    def put_option(self, symbol: str, bid: float, bid_size: int, ask: float, ask_size: int, at_ns: int) -> None:
        """Take an option quote. A price of 0 is an absent side; sizes in contracts.

        Raises:
            MalformedError: a number is negative, not finite or too large.
        """
        # A chained comparison rejects negative, NaN and infinite alike.
        if not (0 <= bid < MAX_PRICE and 0 <= ask < MAX_PRICE):
            raise MalformedError("option_quote", "bp, ap", f"{bid}, {ask} out of range")
        if not (0 <= bid_size <= MAX_SIZE and 0 <= ask_size <= MAX_SIZE):
            raise MalformedError("option_quote", "bs, as", f"{bid_size}, {ask_size} out of range")
        if not 0 < at_ns <= _MAX_NS:
            raise MalformedError("option_quote", "t", f"{at_ns} ns is not an instant")
        slot = self._slots.get(symbol)
        if slot is None:
            if not isinstance(symbol, str):
                raise MalformedError("option_quote", "S", "missing or not text")
            self.unlisted += 1
            return
        book, row = slot
        if at_ns < book.newest_ns[row]:
            return
        book.newest_ns[row] = at_ns
        book.before[row] = book.last[row]
        book.pending[row] = book.last[row] = (bid, bid_size, ask, ask_size, at_ns)
        if book.tiers[row] == _HELD:
            book.urgent = True

    def slot(self, symbol: str) -> tuple[ChainListed, int] | None:
        """The listing that holds a contract, and its row there; None when it is not listed."""
        slot = self._slots.get(symbol)
        return None if slot is None else (slot[0].listed, slot[1])

    def listed_date(self, underlying: str) -> str | None:
        """The session date of an underlying's listing, or None."""
        book = self._books.get(underlying)
        return None if book is None else book.date

    def quote_at(self, symbol: str, at_ns: int) -> tuple[float, float]:
        """Bid and ask of a contract as known of an instant, from its two newest quotes; NaN is unknown or absent."""
        slot = self._slots.get(symbol)
        if slot is not None:
            book, row = slot
            for quote in (book.last[row], book.before[row]):
                if quote is not None and quote[4] <= at_ns:
                    return (quote[0] if quote[0] > 0 else _NAN), (quote[2] if quote[2] > 0 else _NAN)
        return _NAN, _NAN

    def next_due_ns(self, at_ns: int) -> int | None:
        """When ``drain`` would next give something, or None when nothing is pending."""
        due: list[int] = [self._stocks_ns + NEAR_EVERY_NS] if self._stocks else []
        for book in self._books.values():
            if book.urgent:
                return at_ns
            if book.pending:
                near = any(book.tiers[row] for row in book.pending)
                due.append(book.near_ns + NEAR_EVERY_NS if near else book.far_ns + FAR_EVERY_NS)
        return max(at_ns, min(due)) if due else None

    @property
    def pending(self) -> int:
        """Quotes waiting for their turn."""
        return len(self._stocks) + sum(len(book.pending) for book in self._books.values())

    def drain(self, at_ns: int) -> list[Message]:
        """Give what is due at ``at_ns``: Quotes by symbol, then ChainQuotes by underlying."""
        out: list[Message] = []
        if self._stocks and at_ns >= self._stocks_ns + NEAR_EVERY_NS:
            self._stocks_ns = at_ns
            for symbol in sorted(self._stocks):
                quote = self._stocks[symbol]
                mid = quote.mid
                if mid is not None:
                    self._spots[symbol] = mid
                out.append(quote)
            self._stocks.clear()
        for underlying in sorted(self._books):
            book = self._books[underlying]
            if book.pending:
                rows = self._due_rows(book, at_ns)
                if rows:
                    out.append(_columns(book, rows, at_ns))
        return out

    def clear(self) -> None:
        """Drop everything pending, as after a feed went down: old quotes must not come out later."""
        self._stocks.clear()
        for book in self._books.values():
            for row in book.pending:
                book.newest_ns[row] = 0
            book.last = [None] * len(book.last)
            book.before = [None] * len(book.before)
            book.pending.clear()
            book.urgent = False

    def _due_rows(self, book: _Book, at_ns: int) -> list[int]:
        if at_ns >= book.far_ns + FAR_EVERY_NS:
            self._retier(book)
            book.far_ns = book.near_ns = at_ns
            book.urgent = False
            return sorted(book.pending)
        tiers = book.tiers
        lowest = _HELD
        if at_ns >= book.near_ns + NEAR_EVERY_NS:
            book.near_ns = at_ns
            lowest = _NEAR
        elif not book.urgent:
            return []
        book.urgent = False
        return sorted(row for row in book.pending if tiers[row] >= lowest)

    def _retier(self, book: _Book) -> None:
        spot = self._spots.get(book.listed.underlying)
        near = np.abs(book.strikes / spot - 1) <= NEAR_BAND if spot else np.zeros(len(book.strikes), dtype=bool)
        book.tiers = bytearray(near.astype(np.uint8).tobytes())
        for symbol in sorted(self._held):
            slot = self._slots.get(symbol)
            if slot is not None and slot[0] is book:
                book.tiers[slot[1]] = _HELD
                book.urgent = book.urgent or slot[1] in book.pending


def _columns(book: _Book, rows: list[int], at_ns: int) -> ChainQuotes:
    pending = book.pending
    taken: Iterable[_Pending] = [pending.pop(row) for row in rows]
    bids, bid_sizes, asks, ask_sizes, times = zip(*taken, strict=True)
    bid, ask = np.array(bids, dtype="<f8"), np.array(asks, dtype="<f8")
    bid[bid == 0] = _NAN
    ask[ask == 0] = _NAN
    stamps = np.array(times, dtype="<i8")
    # A stamp ahead of time must neither look fresh for too long nor keep the quotes after it out.
    for n in np.flatnonzero(stamps > at_ns):
        book.newest_ns[rows[n]] = at_ns
    return ChainQuotes(
        book.listed.underlying,
        book.date,
        np.array(rows, dtype="<i4").tobytes(),
        bid.tobytes(),
        ask.tobytes(),
        np.array(bid_sizes, dtype="<i4").tobytes(),
        np.array(ask_sizes, dtype="<i4").tobytes(),
        np.minimum(stamps, at_ns).tobytes(),
    )


def _explain(raw: object) -> MalformedError:
    """Name the field of an option quote that could not be read."""
    kind = "option_quote"
    if not isinstance(raw, dict):
        return MalformedError(kind, "frame", f"{type(raw).__name__} is not an object")
    if not isinstance(raw.get("S"), str):
        return MalformedError(kind, "S", "missing or not text")
    for field in ("bp", "bs", "ap", "as"):
        if not isinstance(raw.get(field), int | float):
            return MalformedError(kind, field, "missing or not a number")
    try:
        instant_ns(raw.get("t"), kind, "t")
    except MalformedError as error:
        return error
    return MalformedError(kind, "t", "not a msgpack timestamp")

"""One underlying's listed contracts and their newest quotes as columns, one row per listed contract.

Inputs: ChainListed, ChainQuotes. Output: arrays for the model, ``OptionQuote`` for everybody else.
Invariants: an absent side is NaN inside and None outside; nothing numpy leaves through ``quote``. A contract with
another root than the underlying's is adjusted (it delivers something else): it has a row, but joins no expiry.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oracle.core.errors import InvariantError
from oracle.core.instruments import parse_occ
from oracle.core.marketdata import ChainListed, ChainQuotes
from oracle.core.ports import OptionQuote
from oracle.options.pricing import Array, Bools

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class ChainColumns:
    """Columns aligned with ``listed.contracts``; ``twin`` is the row of the other right at that strike, or -1.

    ``quoted_ns`` is the vendor's time of the quote, at most that of its turn, ``received_ns`` the turn's; both 0 before
    the first quote. ``bid_ns`` and ``ask_ns`` are the vendor's times at which a side took its present price and size: a
    quote that repeats a side does not make it younger. ``adjusted`` counts rows left out of every expiry.
    """

    listed: ChainListed
    row_of: dict[str, int]
    rows_of: dict[str, Ints]
    strike: Array
    is_call: Bools
    twin: Ints
    tradable: Bools
    bid: Array
    ask: Array
    bid_size: Ints
    ask_size: Ints
    quoted_ns: Ints
    received_ns: Ints
    bid_ns: Ints
    ask_ns: Ints
    adjusted: int

    @classmethod
    def from_listing(cls, message: ChainListed) -> "ChainColumns":
        """Columns of a new listing, without any quote."""
        contracts = [parse_occ(c.symbol) for c in message.contracts]
        standard = [(row, c) for row, c in enumerate(contracts) if c.root == message.underlying]
        at = {(c.expiry, c.strike_milli, c.is_call): row for row, c in standard}
        rows_of: dict[str, list[int]] = {}
        for row, contract in standard:
            rows_of.setdefault(contract.expiry, []).append(row)
        twins = [at.get((c.expiry, c.strike_milli, not c.is_call), -1) for c in contracts]
        n = len(contracts)
        return cls(
            listed=message,
            row_of={c.symbol: row for row, c in enumerate(message.contracts)},
            rows_of={expiry: np.array(rows, dtype=np.int64) for expiry, rows in rows_of.items()},
            strike=np.array([c.strike for c in contracts], dtype=np.float64),
            is_call=np.array([c.is_call for c in contracts], dtype=np.bool_),
            twin=np.array(twins, dtype=np.int64),
            tradable=np.array([c.tradable for c in message.contracts], dtype=np.bool_),
            bid=np.full(n, np.nan),
            ask=np.full(n, np.nan),
            bid_size=np.zeros(n, np.int64),
            ask_size=np.zeros(n, np.int64),
            quoted_ns=np.zeros(n, np.int64),
            received_ns=np.zeros(n, np.int64),
            bid_ns=np.zeros(n, np.int64),
            ask_ns=np.zeros(n, np.int64),
            adjusted=n - len(standard),
        )

    def copy_quotes(self, old: "ChainColumns") -> None:
        """Take over the quotes of contracts that an earlier listing held too."""
        pairs = [(row, old.row_of[s]) for s, row in self.row_of.items() if s in old.row_of]
        here = np.array([new for new, _ in pairs], dtype=np.int64)
        there = np.array([before for _, before in pairs], dtype=np.int64)
        for name in ("bid", "ask", "bid_size", "ask_size", "quoted_ns", "received_ns", "bid_ns", "ask_ns"):
            getattr(self, name)[here] = getattr(old, name)[there]

    def take(self, message: ChainQuotes, at_ns: int) -> None:
        """Write changed quotes into their rows.

        Raises:
            InvariantError: a row number lies outside the listing.
        """
        rows = np.frombuffer(message.rows, "<i4")
        if rows.size == 0:
            return
        if rows.min() < 0 or rows.max() >= len(self.listed.contracts):
            raise InvariantError(f"chain quotes {message.underlying}: a row lies outside the listing")
        # A stamp from the future would make the quote fresh for too long.
        stamped = np.minimum(np.frombuffer(message.quoted_ns, "<i8"), at_ns)
        for price, size, since, new, count in (
            (self.bid, self.bid_size, self.bid_ns, message.bid, message.bid_size),
            (self.ask, self.ask_size, self.ask_ns, message.ask, message.ask_size),
        ):
            prices, sizes = np.frombuffer(new, "<f8"), np.frombuffer(count, "<i4")
            # An absent side (NaN) differs from itself, and so is as old as the quote that lacks it.
            changed = (prices != price[rows]) | (sizes != size[rows])
            since[rows] = np.where(changed, stamped, since[rows])
            price[rows], size[rows] = prices, sizes
        self.quoted_ns[rows] = stamped
        self.received_ns[rows] = at_ns

    def symbol(self, row: int) -> str:
        """The OCC symbol of a row."""
        return self.listed.contracts[row].symbol

    def quote(self, row: int) -> OptionQuote | None:
        """The newest quote of a row, or None before the first."""
        if self.received_ns[row] == 0:
            return None
        bid, ask = float(self.bid[row]), float(self.ask[row])
        return OptionQuote(
            symbol=self.symbol(row),
            bid=None if math.isnan(bid) else bid,
            bid_size=int(self.bid_size[row]),
            ask=None if math.isnan(ask) else ask,
            ask_size=int(self.ask_size[row]),
            quoted_ns=int(self.quoted_ns[row]),
            received_ns=int(self.received_ns[row]),
        )

    def quoted_since(self, expiry: str, since_ns: int) -> bool:
        """Whether any contract of an expiry has a quote with a vendor's time of ``since_ns`` or later."""
        rows = self.rows_of.get(expiry)
        return rows is not None and bool((self.quoted_ns[rows] >= since_ns).any())

    def mids(self, rows: Ints) -> Array:
        """Middles in dollars; NaN when a side is absent, the bid is zero or the quote is crossed."""
        bid, ask = self.bid[rows], self.ask[rows]
        return np.where((bid > 0) & (ask >= bid), (bid + ask) / 2, np.nan)

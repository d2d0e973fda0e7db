"""Option quotes of one synthetic underlying over one session, as pure functions of contract and second.

Inputs: chain, surface, log mids by second. A contract is re-quoted every 1, 2, 5 or 15 s, the nearer the money the more
often (chosen for each minute), at a phase of its own; between re-quotes its quote stands.

Full width in cents before rounding outwards: 0.2 + 0.6 x mid in dollars, x (1 + 0.3 per standard deviation beyond one),
x 1 / 1.2 / 1.5 for expiries to 1 / 10 / more sessions, + up to 1 from a draw each 30 s: 1-2 cents at 0.50, 2-3 at 2.00.
"""

from collections.abc import Sequence

import numpy as np

from oracle.core.sessions import NS, Session
from oracle.sim.listed import Chain
from oracle.sim.noise import Floats, Ints, uniform
from oracle.sim.option_trades import OptionTrades
from oracle.sim.pathgen import volume_profile
from oracle.sim.source import Print, Touch
from oracle.sim.surface import Surface

_WIDTH, _BID_SIZE, _ASK_SIZE = 11, 12, 13
_ROUNDING = 1e-6  # cents: an exact price must not be floored a tick lower by its last binary digit


class OptionBook:
    """Quotes of a whole chain over one session, computed for the pairs of contract and second that are asked for."""

    def __init__(self, session: Session, chain: Chain, surface: Surface, log_mid: Floats) -> None:
        self.chain = chain
        self._open_ns = session.open_ns
        self._surface = surface
        self._spot = np.exp(log_mid)
        self._phase = (chain.keys % np.uint64(60)).astype(np.int64)
        ahead = chain.sessions_ahead[chain.expiry]
        self._wideness = np.where(ahead <= 1, 1.0, np.where(ahead <= 10, 1.2, 1.5))
        minutes = (len(log_mid) - 1) // 60
        self.trades = OptionTrades(chain, session, float(self._spot[0]), volume_profile(minutes), self._standing)

    def touches(self, rows: Ints, second: int) -> list[Touch]:
        """Quotes in force at a second (0 is the open), one for each row of the chain."""
        at = self._quoted_at(rows, np.full(len(rows), second))
        return self._make(rows, at, self._quotes(rows, at))

    def block(self, rows: Ints, minute: int) -> list[list[Touch]]:
        """Quote changes of the seconds 60·minute + 1 … + 60; minute -1 holds only the open, where all are new.

        Rows must be in rising order. A list for each of the 60 seconds, in order of symbol.
        """
        out: list[list[Touch]] = [[] for _ in range(60)]
        if minute < 0:
            out[59] = self.touches(rows, 0)
            return out
        seconds = 60 * minute + np.arange(61)
        grid_rows = np.repeat(rows, 61)
        grid_seconds = np.tile(seconds, len(rows))
        at = self._quoted_at(grid_rows, grid_seconds)
        before = grid_seconds == 60 * minute
        pick = before | (at == grid_seconds)
        row, when, before = grid_rows[pick], at[pick], before[pick]
        quotes = self._quotes(row, when)
        changed = np.zeros(len(row), dtype=bool)
        for column in quotes:
            changed[1:] |= column[1:] != column[:-1]
        found = np.flatnonzero(changed & ~before)
        found = found[np.argsort(when[found], kind="stable")]
        slots = (when[found] - 60 * minute - 1).tolist()
        made = self._make(row[found], when[found], [column[found] for column in quotes])
        for slot, touch in zip(slots, made, strict=True):
            out[slot].append(touch)
        return out

    def prints(self, rows: Ints, minute: int) -> list[list[Print]]:
        """Trades in the seconds 60·minute + 1 … + 60 of these rows, a list for each second."""
        return self.trades.prints(rows, minute)

    def last_print(self, row: int, second: int) -> Print | None:
        """The last trade of a contract at or before a second."""
        return self.trades.last(row, second)

    def _standing(self, rows: Ints, second: Ints) -> tuple[Ints, Ints]:
        """Bid and ask in cents (0 = no bid) in force at each second, for pairs of row and second."""
        bid, ask, _, _ = self._quotes(rows, self._quoted_at(rows, second))
        return bid, ask

    def _quoted_at(self, rows: Ints, second: Ints) -> Ints:
        """The second of the last re-quote at or before each second; every contract re-quotes as a minute begins."""
        minute = np.maximum(second - 1, 0) // 60
        start = 60 * minute
        expiry = self.chain.expiry[rows]
        atm, years = self._surface.atm(expiry, start)
        z = np.abs(np.log(self.chain.strike[rows] / self._spot[start])) / (atm * np.sqrt(years))
        period = np.where(z <= 0.7, 1, np.where(z <= 2.0, 2, np.where(z <= 3.5, 5, 15)))
        at = second - np.mod(second - self._phase[rows], period)
        return np.where(second == 0, 0, np.maximum(at, start + 1))

    def _quotes(self, rows: Ints, second: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Bid and ask in cents (0 = no bid) and their sizes in contracts, for pairs of row and re-quote second."""
        chain = self.chain
        price, z = self._surface.prices(
            self._spot[second], chain.strike[rows], chain.is_call[rows], chain.expiry[rows], second
        )
        keys, clock = chain.keys[rows], second + self._phase[rows]
        far = 1.0 + 0.3 * np.minimum(np.maximum(np.abs(z) - 1.0, 0.0), 6.0)
        width = (0.2 + 0.6 * price) * far * self._wideness[rows] + uniform(keys, clock // 30, _WIDTH)
        cents = 100.0 * price
        bid = np.maximum(np.floor(cents - width / 2.0 + _ROUNDING), 0.0).astype(np.int64)
        ask = np.ceil(cents + width / 2.0 - _ROUNDING).astype(np.int64)
        ask = np.maximum(ask, bid + 1)
        most = np.log(np.where(np.abs(z) <= 2.0, 200.0, 60.0))
        bid_size = np.exp(uniform(keys, clock // 5, _BID_SIZE) * most).astype(np.int64)
        ask_size = np.exp(uniform(keys, clock // 5, _ASK_SIZE) * most).astype(np.int64)
        return bid, ask, np.where(bid > 0, bid_size, 0), ask_size

    def _make(self, rows: Ints, at: Ints, quotes: Sequence[Ints]) -> list[Touch]:
        bid, ask, bid_size, ask_size = quotes
        symbols = self.chain.symbols
        columns = zip(
            rows.tolist(),
            (self._open_ns + at * NS).tolist(),
            (bid / 100).tolist(),
            bid_size.tolist(),
            (ask / 100).tolist(),
            ask_size.tolist(),
            strict=True,
        )
        return [Touch(symbols[r], t, b if n else None, n, a, m) for r, t, b, n, a, m in columns]

"""Option chains for an underlying whose own chain was not recorded: listed, quoted and priced as the generator does.

Inputs: a session, the underlying's price at each of its minutes, closes before it. Outputs: listings and quotes.
The volatility is the generator's surface: its level follows the last closes (20 at least, else the generator's mean),
moves against the price within the day, and has the generator's term structure and smile. Invariant: a quote of a
second depends on prices known by that second only. No trades are modelled.
"""

from collections.abc import Sequence

import numpy as np

from oracle.core.sessions import NS, Session, SessionTable
from oracle.sim.listed import Chain, make_chain
from oracle.sim.noise import Floats, Ints
from oracle.sim.pathgen import LEVERAGE, LOG_VOL_INNOVATION, SPECS, SymbolSpec
from oracle.sim.quoting import OptionBook
from oracle.sim.source import Touch
from oracle.sim.surface import make_surface

LABEL = "modelled options"
LEAST_CLOSES, MOST_CLOSES = 21, 61
# A single stock of middling volatility; the level that its own closes show replaces most of it.
_OTHER_INTRADAY_SD, _OTHER_OVERNIGHT_SD = 0.0090, 0.0080
_LOG_VOL_BOUND = 1.5
_SPLIT_MOVE = 0.25  # a close this far from the one before is a split or a new security, not a day's return


def spec_of(symbol: str) -> SymbolSpec:
    """The generator's description of a symbol, or that of a middling stock."""
    known = SPECS.get(symbol)
    if known is not None:
        return known
    return SymbolSpec(symbol, 100.0, _OTHER_INTRADAY_SD, _OTHER_OVERNIGHT_SD, 0.8, 10e6, 0.0)


def log_vol_of(spec: SymbolSpec, closes: Sequence[float]) -> float | None:
    """Log of the closes' volatility over the symbol's mean, bounded; None with fewer than ``LEAST_CLOSES`` of them."""
    if len(closes) < LEAST_CLOSES:
        return None
    moves = np.diff(np.log(np.array(closes[-LEAST_CLOSES:], dtype=np.float64)))
    moves = moves[np.abs(moves) < _SPLIT_MOVE]
    mean = (spec.intraday_sd**2 + spec.overnight_sd**2) ** 0.5
    seen = float(np.sqrt(np.mean(moves**2))) if len(moves) else mean
    return float(np.clip(np.log(max(seen, 1e-6) / mean), -_LOG_VOL_BOUND, _LOG_VOL_BOUND))


class ModelledChain:
    """One underlying's chain over one session.

    Args:
        seed: addresses the small noise of widths, sizes and open interest.
        minute_prices: the price known at the open and at the end of each minute, in dollars (minutes + 1 of them).
        closes: closes before the session, oldest first; at least one, on which the strikes are centred.
    """

    def __init__(
        self,
        seed: int,
        symbol: str,
        table: SessionTable,
        session: Session,
        minute_prices: Floats,
        *,
        centres: Sequence[float],
        closes: Sequence[float],
    ) -> None:
        spec = spec_of(symbol)
        level = log_vol_of(spec, closes)
        log_vol = 0.0 if level is None else level
        self.chain: Chain = make_chain(seed, spec, table, session, closes=centres, log_vol=log_vol)
        self._open_ns = session.open_ns
        log_mid = np.log(minute_prices)
        moved = (log_mid - log_mid[0]) / (spec.intraday_sd * float(np.exp(log_vol)))
        states = log_vol + 0.5 * LEVERAGE * LOG_VOL_INNOVATION * np.clip(moved, -4.0, 4.0)
        surface = make_surface(spec, session.open_ns, states, self.chain.expiry_ns, self.chain.sessions_ahead)
        # A second shows the price that was known when its minute began.
        by_second = np.concatenate([np.repeat(log_mid[:-1], 60), log_mid[-1:]])
        self._book = OptionBook(session, self.chain, surface, by_second)
        self._block: tuple[tuple[int, bytes], list[list[Touch]]] = ((-2, b""), [])

    def rows(self, symbols: Sequence[str]) -> Ints:
        """Row numbers of contracts, rising; symbols that are not listed are left out."""
        index = self.chain.index
        return np.array(sorted(index[s] for s in symbols if s in index), dtype=np.int64)

    def touches(self, rows: Ints, at_ns: int) -> list[Touch]:
        """The quotes in force at an instant of the session, one for each row."""
        return self._book.touches(rows, (at_ns - self._open_ns) // NS) if len(rows) else []

    def changes(self, rows: Ints, after_ns: int, to_ns: int) -> list[Touch]:
        """Quote changes in ``(after, to]``, which must lie within one minute of the session; in order of time."""
        first, last = (after_ns - self._open_ns) // NS + 1, (to_ns - self._open_ns) // NS
        minute = (last - 1) // 60
        block = self._minute_block(rows, minute)
        return [touch for second in range(first, last + 1) for touch in block[second - 60 * minute - 1]]

    def next_change_ns(self, rows: Ints, after_ns: int) -> int | None:
        """The next instant within the running minute at which one of these quotes changes, or None."""
        second = (after_ns - self._open_ns) // NS + 1
        minute = (second - 1) // 60
        block = self._minute_block(rows, minute)
        slot = next((n for n in range(second - 60 * minute - 1, 60) if block[n]), None)
        return None if slot is None else self._open_ns + (60 * minute + slot + 1) * NS

    def _minute_block(self, rows: Ints, minute: int) -> list[list[Touch]]:
        key = (minute, rows.tobytes())
        if self._block[0] != key:
            self._block = (key, self._book.block(rows, minute))
        return self._block[1]

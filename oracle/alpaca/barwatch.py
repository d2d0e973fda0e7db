"""Which bars a connection has left out: holes, the canary's overdue bar, symbols that fell silent. Pure.

Inputs: bars as they arrive, the newest starts that the gate let out, business time. Outputs: missing minutes, words for
the log. Invariants: only minutes of one session count; a hole is no proof of a fault, because a minute without a trade
has no bar (only the canary trades in each).
"""

from collections.abc import Collection

from oracle.alpaca.bargate import MINUTE_NS, BarGate
from oracle.core.marketdata import Bar
from oracle.core.sessions import NS, SessionTable

SILENT_MINUTES = 10
Hole = tuple[int, int]
"""The first and the last start of minutes in a row that have no bar."""


class BarWatch:
    """One feed's bars, as they should come.

    Args:
        gate: knows each symbol's newest bar.
        overdue_ns: how long after its minute's end a bar is missed.
    """

    def __init__(
        self, table: SessionTable, gate: BarGate, symbols: Collection[str], canary: str, overdue_ns: int
    ) -> None:
        self._table, self._gate, self._canary = table, gate, canary
        self._others = [symbol for symbol in symbols if symbol != canary]
        self._overdue_ns, self._next_look_ns = overdue_ns, 0
        self._since_ns: int | None = None
        self._silent: set[str] = set()

    def hole(self, bar: Bar) -> Hole | None:
        """The minutes of this session between a symbol's last bar and this one."""
        last_ns = self._gate.last_start(bar.symbol)
        session = self._table.open_at(bar.start_ns)
        if last_ns is None or session is None:
            return None
        first_ns = max(last_ns + MINUTE_NS, session.open_ns)
        return (first_ns, bar.start_ns - MINUTE_NS) if first_ns < bar.start_ns else None

    def is_due(self, now_ns: int) -> bool:
        """Whether it is time to look for overdue bars: once a minute, when the bars of the last one should be here."""
        if now_ns < self._next_look_ns:
            return False
        self._since_ns = now_ns if self._since_ns is None else self._since_ns
        self._next_look_ns = self._expected(now_ns) + 2 * MINUTE_NS + self._overdue_ns
        return True

    def overdue(self, now_ns: int) -> str:
        """What to say of the canary's bar that should be here; empty when it is."""
        start_ns, last_ns = self._expected(now_ns), self._gate.last_start(self._canary)
        if last_ns is None or last_ns >= start_ns or self._table.open_at(start_ns) is None:
            return ""
        return f"no bar of {self._canary} for the minute that ended {(now_ns - start_ns) // NS - 60} s ago"

    def fell_silent(self, now_ns: int) -> list[tuple[str, int]]:
        """Other symbols without a bar for ``SILENT_MINUTES`` of this session, and for how many.

        Each is named once, until it comes back or another session begins.
        """
        session = self._table.open_at(now_ns)
        if session is None:
            return []
        found: list[tuple[str, int]] = []
        for symbol in self._others:
            last_ns = self._gate.last_start(symbol)
            # Of a symbol that has never had one it is only known since when it is watched.
            known_ns = (self._since_ns or now_ns) if last_ns is None else last_ns + MINUTE_NS
            minutes = (now_ns - self._overdue_ns - max(known_ns, session.open_ns)) // MINUTE_NS
            if minutes < SILENT_MINUTES:
                self._silent.discard(symbol)
            elif symbol not in self._silent:
                self._silent.add(symbol)
                found.append((symbol, minutes))
        return found

    def _expected(self, now_ns: int) -> int:
        """Start of the newest minute whose bar should be here."""
        return (now_ns - self._overdue_ns) // MINUTE_NS * MINUTE_NS - MINUTE_NS

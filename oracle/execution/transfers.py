"""Cash that moved without a trade: deposits, withdrawals, interest. Booked from the broker's activities, once.

Inputs: account reports, what the ledger's cash does not explain. Output: CashTransferred. Invariants: an activity is
booked once, by its id, and only when positions agree and cash shows it, so that books and broker are equal then; what
was listed or dated before the books began is in the opening cash; what no activity explains stays a difference.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import combinations
from typing import Final

from oracle.core.message import Message
from oracle.core.messages import CashTransferred, FeeCharged, LedgerSeeded
from oracle.core.money import CENT, ZERO
from oracle.core.reports import AccountReported, BrokerSettlement
from oracle.core.sessions import SessionTable

TRANSFER_KINDS: Final = frozenset({"ACATC", "CSD", "CSW", "INT", "JNLC"})
"""Deposits, withdrawals, journals and account moves in cash, and interest that was paid to the account.

Fees, dividends, taxes and interest that is charged belong to what the account did: the ledger books them as fees.
"""

WAITS: Final = "booked once positions agree"
MOVED_FIX: Final = "movements of this kind are not booked: once flat, start with a new state folder: it takes this cash"
# So many of the newest movements are combined to explain a difference, and so many to read an ending's cash.
MAX_COMBINED: Final = 10
MAX_READ: Final = 4


class Transfers:
    """What is booked and what is not. The reconciler owns it, so that it compares with what this books."""

    __slots__ = ("_known", "_seeded_ns")

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._seeded_ns: int | None = None

    def restore(self, books: Iterable[Message]) -> None:
        """Rebuild from what the ledger was rebuilt from; other messages are ignored."""
        for message in books:
            if isinstance(message, LedgerSeeded | FeeCharged | CashTransferred):
                self.note(message)

    def note(self, booked: LedgerSeeded | FeeCharged | CashTransferred) -> None:
        """Remember what the books hold. Interest of earlier versions was booked as a fee."""
        if isinstance(booked, LedgerSeeded):
            self._seeded_ns = booked.at_ns
            self._known.update(booked.holds)
        else:
            self._known.add(booked.activity_id)

    def pending(self, report: AccountReported, table: SessionTable) -> tuple[BrokerSettlement, ...]:
        """Transfers that a report lists and the books do not hold, oldest first."""
        latest = None if self._seeded_ns is None else table.latest(self._seeded_ns)
        # The broker tells a date alone. On the day of the seed only cash can tell what came before and what after it.
        first = "" if latest is None else latest.date
        found = {
            activity.activity_id: activity
            for activity in report.settlements
            if activity.kind in TRANSFER_KINDS
            and activity.cash_usd != 0
            and activity.activity_id not in self._known
            and not "" < activity.date < first
        }
        return tuple(sorted(found.values(), key=lambda a: (a.date, a.activity_id)))

    def readings(self, report: AccountReported, table: SessionTable) -> tuple[Decimal, ...]:
        """What pending transfers can have done to the report's cash, each sum once: none of them first."""
        pending = self.pending(report, table)
        sums = [ZERO, total(pending), *(total(some) for some in _choices(pending[-MAX_READ:]))]
        return tuple(dict.fromkeys(sums))

    def book(
        self, report: AccountReported, unexplained_usd: Decimal | None, table: SessionTable, at_ns: int
    ) -> list[CashTransferred]:
        """Book the pending transfers that explain a difference of cash to the cent; none where none do.

        Args:
            report: the account.
            unexplained_usd: the broker's cash less what the books come to with all that the report brings; None while
                it cannot be compared.
            table: the calendar.
            at_ns: the time of booking.
        """
        if unexplained_usd is None or abs(unexplained_usd) < CENT:
            return []
        rows = [
            CashTransferred(a.activity_id, a.kind, a.cash_usd, a.date, a.text, at_ns)
            for a in explaining(self.pending(report, table), unexplained_usd) or ()
        ]
        for row in rows:
            self.note(row)
        return rows

    def unbooked(self, activities: Iterable[BrokerSettlement]) -> list[BrokerSettlement]:
        """Those of some activities that the books do not hold."""
        return [activity for activity in activities if activity.activity_id not in self._known]


def explaining(rows: Sequence[BrokerSettlement], amount_usd: Decimal) -> tuple[BrokerSettlement, ...] | None:
    """Find movements whose sum is an amount to the cent: all of them, else the fewest of the newest; None: none are."""
    for some in (tuple(rows), *_choices(rows[-MAX_COMBINED:])):
        if len(some) > 0 and abs(total(some) - amount_usd) < CENT:
            return some
    return None


def named(rows: Sequence[BrokerSettlement], amount_usd: Decimal) -> str | None:
    """Name the movements that explain a difference and are not booked, and what will be; None where none do."""
    found = explaining(rows, amount_usd)
    if found is None:
        return None
    names = ", ".join(f"{a.kind} of {a.date}: {a.cash_usd} USD {a.text}".strip() for a in found)
    waits = all(a.kind in TRANSFER_KINDS for a in found)
    return f"not in the books: {names}; {WAITS if waits else MOVED_FIX}"


def total(rows: Iterable[BrokerSettlement]) -> Decimal:
    """The sum of some movements of cash, in dollars."""
    return sum((row.cash_usd for row in rows), ZERO)


def _choices(rows: Sequence[BrokerSettlement]) -> Iterator[tuple[BrokerSettlement, ...]]:
    for count in range(1, len(rows) + 1):
        yield from combinations(rows, count)

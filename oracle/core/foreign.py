"""Executions that are not ours: which of them the books do not hold yet.

Inputs: ForeignExecution, agreements, adoptions. Output: what is unsettled, a contract at a time. Invariant: what was
settled once is never unsettled again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from oracle.core.messages import ForeignExecution
from oracle.core.reports import AccountReported
from oracle.core.sessions import MINUTE_NS

# An agreement covers what was heard this long before it: the account that was compared is no older.
COVERED_NS = MINUTE_NS


@dataclass(slots=True)
class Foreign:
    """Executions that are not ours and that the books do not hold yet, by the broker's id."""

    unsettled: dict[str, ForeignExecution] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)
    _heard_ns: dict[str, int] = field(default_factory=dict)

    def heard(self, execution: ForeignExecution, at_ns: int) -> None:
        """Remember one that is not settled. ``at_ns`` 0: before a restart."""
        if execution.execution_id not in self._settled:
            self.unsettled[execution.execution_id] = execution
            self._heard_ns[execution.execution_id] = at_ns

    def agreed(self, at_ns: int) -> None:
        """Ledger and broker agree, so what was heard long enough before needs no adoption any more."""
        self.settle([name for name in self.unsettled if self._heard_ns[name] <= at_ns - COVERED_NS])

    def seeded(self, report: AccountReported | None) -> None:
        """The opening cash holds what was heard before, and what the report told that it came from."""
        self.settle(tuple(self.unsettled))
        self.settle(fill.execution_id for fill in (() if report is None else report.fills))

    def settle(self, execution_ids: Iterable[str]) -> None:
        """The books hold these now."""
        for execution_id in execution_ids:
            self._settled.add(execution_id)
            self.unsettled.pop(execution_id, None)
            self._heard_ns.pop(execution_id, None)

    def of(self, symbol: str) -> tuple[ForeignExecution, ...]:
        """What is unsettled in one contract, in the order in which it was heard."""
        return tuple(e for e in self.unsettled.values() if e.symbol == symbol)

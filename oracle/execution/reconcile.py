"""Compare our books with the broker's account. A pure difference, and the actor that reports it.

Inputs: the ledger's view, what is known of our orders, AccountReported. Outputs: Reconciled, with named differences.
Invariants: nothing here ever proposes an order; a failed read is no agreement; a fill that the same report brings is
counted before comparing, so that a report can never be newer than the books it is compared with.
"""

from collections.abc import Iterable, Mapping, Set
from decimal import Decimal
from enum import StrEnum

import msgspec

from oracle.core.bus import HandlerTable
from oracle.core.instruments import multiplier
from oracle.core.messages import (
    ADOPTED,
    AccountReported,
    ExecutionReported,
    ForeignExecution,
    LedgerSeeded,
    Message,
    OrderAdvanced,
    OrderFilled,
    Reconciled,
    SessionOpened,
)
from oracle.core.money import CENT, ZERO
from oracle.core.ports import Context, LedgerView
from oracle.core.sessions import MINUTE_NS, NS
from oracle.execution.orders import HELD, TERMINAL

# An order that was acknowledged or ended this recently may look different in a report that was read meanwhile.
SETTLE_NS = 5 * NS
# Ended orders and booked fills are kept this long for comparison.
KEEP_NS = 7 * 24 * 60 * MINUTE_NS


class Case(StrEnum):
    """The kinds of difference."""

    REPORT_FAILED = "report_failed"
    NOT_SEEDED = "not_seeded"
    POSITION = "position"
    CASH = "cash"
    ORDER_FOREIGN = "order_foreign"
    ORDER_NOT_ENDED = "order_not_ended"
    ORDER_MISSING = "order_missing"
    FILL_FOREIGN = "fill_foreign"
    FILL_NOT_REPORTED = "fill_not_reported"


class Difference(msgspec.Struct, frozen=True):
    """One disagreement, with both sides' figures in words."""

    case: Case
    text: str

    def __str__(self) -> str:
        """The line that Reconciled carries."""
        return f"{self.case.value}: {self.text}"


class OurOrders(msgspec.Struct, frozen=True):
    """What the reconcile knows of our attempts.

    ``held``: client ids that the broker holds, ``doubtful``: those whose fate is open, ``ended``: those that are
    over, each with when that was learnt; ``booked``: fills by execution id, with when they happened; ``foreign``:
    executions known not to be ours.
    """

    held: Mapping[str, int]
    doubtful: Mapping[str, int]
    ended: Mapping[str, int]
    booked: Mapping[str, int]
    foreign: Set[str]

    def knows(self, client_order_id: str) -> bool:
        """Whether an id was ever ours."""
        return client_order_id in self.held or client_order_id in self.doubtful or client_order_id in self.ended


def is_outdated(ours: OurOrders, report: AccountReported) -> bool:
    """Whether we have booked a fill that the report may have been read too early to hold: then it proves nothing."""
    told = {fill.execution_id for fill in report.fills}
    return any(at_ns > report.at_ns - SETTLE_NS and e not in told for e, at_ns in ours.booked.items())


def reconcile(ledger: LedgerView, ours: OurOrders, report: AccountReported) -> tuple[Difference, ...]:
    """List every difference between our books and a report; empty is agreement.

    Cash is compared to the cent, and only while no order is working: a fill between the broker's two answers would
    make an honest report disagree with itself.
    """
    if report.text or report.cash_usd is None:
        return (Difference(Case.REPORT_FAILED, report.text or "cash is unknown"),)
    if not ledger.seeded:
        return (Difference(Case.NOT_SEEDED, "the opening cash is not known"),)
    coming = [fill for fill in report.fills if fill.execution_id not in ours.booked]
    # What the desk refused to book as more than was ordered counts only if positions show it.
    own = [f for f in coming if ours.knows(f.order.client_order_id) and f.execution_id not in ours.foreign]
    out = [
        Difference(Case.FILL_FOREIGN, f"{f.execution_id}: {f.side.value} {f.qty} {f.symbol} at {f.price_usd} USD")
        for f in coming
        if not ours.knows(f.order.client_order_id) and f.execution_id not in ours.foreign
    ]
    out += _positions(ledger, own, report)
    cash = ledger.cash_usd - sum((f.side.sign * f.qty * f.price_usd * multiplier(f.symbol) for f in own), ZERO)
    if not (ours.held or ours.doubtful) and abs(report.cash_usd - cash) >= CENT:
        out.append(Difference(Case.CASH, f"{report.cash_usd} USD at the broker, {cash} USD by the ledger"))
    out += _orders(ours, report)
    reported = {fill.execution_id for fill in report.fills}
    for execution_id, at_ns in ours.booked.items():
        if execution_id not in reported and report.fills_since_ns < at_ns <= report.at_ns - SETTLE_NS:
            out.append(Difference(Case.FILL_NOT_REPORTED, f"{execution_id} is not in the broker's activities"))
    return tuple(out)


def _positions(ledger: LedgerView, own: Iterable[ExecutionReported], report: AccountReported) -> list[Difference]:
    expected = {position.symbol: Decimal(position.qty) for position in ledger.positions()}
    for fill in own:
        expected[fill.symbol] = expected.get(fill.symbol, ZERO) + fill.side.sign * fill.qty
    broker = {position.symbol: position.qty for position in report.positions}
    return [
        Difference(
            Case.POSITION,
            f"{symbol}: {broker.get(symbol, ZERO)} at the broker, {expected.get(symbol, ZERO)} by the ledger",
        )
        for symbol in sorted(expected.keys() | broker.keys())
        if broker.get(symbol, ZERO) != expected.get(symbol, ZERO)
    ]


def _orders(ours: OurOrders, report: AccountReported) -> list[Difference]:
    out = []
    open_ids = set()
    for order in report.open_orders:
        client_id = order.client_order_id
        open_ids.add(client_id)
        what = f"{client_id}: {order.symbol} {order.qty}, {order.status}"
        if client_id in ours.ended:
            if ours.ended[client_id] < report.at_ns - SETTLE_NS:
                out.append(Difference(Case.ORDER_NOT_ENDED, what))
        elif not ours.knows(client_id):
            out.append(Difference(Case.ORDER_FOREIGN, what))
    for client_id, since_ns in ours.held.items():
        if client_id not in open_ids and since_ns < report.at_ns - SETTLE_NS:
            out.append(Difference(Case.ORDER_MISSING, f"{client_id} is not open at the broker"))
    return out


class Reconciler:
    """The actor: follows our orders by the desk's facts and compares at every account report."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._doubtful: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._booked: dict[str, int] = {}
        self._foreign: set[str] = set()
        self._seeding: AccountReported | None = None

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (OrderAdvanced, self.on_order_advanced),
            (OrderFilled, self.on_order_filled),
            (ForeignExecution, self.on_foreign_execution),
            (AccountReported, self.on_account_reported),
            (LedgerSeeded, self.on_ledger_seeded),
            (SessionOpened, self.on_session_opened),
        )

    def restore(
        self, advanced: Iterable[OrderAdvanced], fills: Iterable[OrderFilled], foreign: Iterable[ForeignExecution]
    ) -> None:
        """Rebuild from stored facts, each list in order of commit. What had not ended is doubtful until looked up."""
        for step in advanced:
            self._follow(step, 0)
        self._doubtful |= self._held
        self._held = {}
        for fill in fills:
            self._note(fill)
        self._foreign.update(execution.execution_id for execution in foreign)

    def on_order_advanced(self, step: OrderAdvanced, context: Context) -> Iterable[Message]:
        """Follow which attempts the broker holds."""
        self._follow(step, context.at_ns)
        return ()

    def on_order_filled(self, fill: OrderFilled, _context: Context) -> Iterable[Message]:
        """Remember a booked execution."""
        self._note(fill)
        return ()

    def _note(self, fill: OrderFilled) -> None:
        """An adopted execution is the broker's under another id, or none at all: no report is missing it."""
        if not fill.execution_id.startswith(ADOPTED):
            self._booked[fill.execution_id] = fill.at_ns

    def on_foreign_execution(self, execution: ForeignExecution, _context: Context) -> Iterable[Message]:
        """Remember an execution that is known not to be ours; positions and cash show what it did."""
        self._foreign.add(execution.execution_id)
        return ()

    def on_account_reported(self, report: AccountReported, context: Context) -> Iterable[Message]:
        """Compare, and say what differs. A report older than our last fill says nothing; the next one will."""
        if not context.ledger.seeded and not report.text:
            self._seeding = report  # this very report seeds the ledger, later in this turn
            return ()
        ours = OurOrders(self._held, self._doubtful, self._ended, self._booked, self._foreign)
        if is_outdated(ours, report):
            return ()
        differences = reconcile(context.ledger, ours, report)
        return (Reconciled(context.at_ns, "account report", tuple(map(str, differences))),)

    def on_ledger_seeded(self, _seed: LedgerSeeded, context: Context) -> Iterable[Message]:
        """Compare the report that seeded the ledger."""
        report, self._seeding = self._seeding, None
        return () if report is None else self.on_account_reported(report, context)

    def on_session_opened(self, _opened: SessionOpened, context: Context) -> Iterable[Message]:
        """Forget what no report reaches back to."""
        cut_ns = context.at_ns - KEEP_NS
        self._ended = {i: at_ns for i, at_ns in self._ended.items() if at_ns >= cut_ns}
        self._booked = {i: at_ns for i, at_ns in self._booked.items() if at_ns >= cut_ns}
        return ()

    def _follow(self, step: OrderAdvanced, at_ns: int) -> None:
        client_id = step.client_order_id
        for group in (self._held, self._doubtful, self._ended):
            group.pop(client_id, None)
        if step.to_state in HELD:
            self._held[client_id] = at_ns
        elif step.to_state in TERMINAL:
            self._ended[client_id] = at_ns
        else:
            self._doubtful[client_id] = at_ns

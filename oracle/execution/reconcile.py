"""Compare our books with the broker's account. A pure difference, and the actor that reports it.

Inputs: the ledger's view, what is known of our orders, AccountReported. Outputs: PositionSettled for what has ended,
CashTransferred for cash that moved, Reconciled with named differences. Invariants: nothing here ever proposes an order;
a failed read is no agreement; a fill, an ending or a transfer that the same report brings is counted before comparing,
so that a report can never be newer than the books it is compared with.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from decimal import Decimal
from enum import StrEnum

import msgspec

from oracle.core.bus import HandlerTable
from oracle.core.foreign import Foreign
from oracle.core.instruments import is_option, multiplier
from oracle.core.message import Message
from oracle.core.messages import (
    ADOPTED,
    CashCorrected,
    CashTransferred,
    FeeCharged,
    ForeignExecution,
    LedgerSeeded,
    OrderAdvanced,
    OrderFilled,
    PositionAdopted,
    PositionSettled,
    ReadAccount,
    Reconciled,
    SessionOpened,
)
from oracle.core.money import CENT, ZERO
from oracle.core.ports import Context, LedgerView
from oracle.core.reports import AccountReported, BrokerOrder, BrokerSettlement
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Ending
from oracle.execution.endings import is_over, is_sell_out, sold_out
from oracle.execution.orders import HELD, TERMINAL
from oracle.execution.settlements import SETTLEMENT_KINDS, Settlements, gone_contracts
from oracle.execution.transfers import Transfers, named

# An order that was acknowledged or ended this recently may look different in a report that was read meanwhile.
SETTLE_NS = 5 * NS
# Ended orders and booked fills are kept this long for comparison.
KEEP_NS = 7 * 24 * 60 * MINUTE_NS
# A signed change of one symbol at a price, as the ledger books it.
Change = tuple[str, Decimal, Decimal]


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
    SETTLEMENT_PENDING = "settlement_pending"
    CASH_MOVED = "cash_moved"


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


def reconcile(
    ledger: LedgerView,
    ours: OurOrders,
    report: AccountReported,
    settled: Sequence[PositionSettled] = (),
    over: Callable[[str], bool] = lambda _symbol: False,
    selling_out: Callable[[BrokerOrder], bool] = lambda _order: False,
    transferred: Sequence[CashTransferred] = (),
    unbooked: Sequence[BrokerSettlement] = (),
) -> tuple[Difference, ...]:
    """List every difference between our books and a report; empty is agreement.

    Args:
        ledger: the books, without what this report brings.
        ours: what is known of our orders.
        report: the account.
        settled: what the same report has shown to have ended; it counts before comparing, as its fills do.
        over: whether a contract's last session has closed.
        selling_out: whether an open order of others is the broker's sell-out of what we hold.
        transferred: transfers of cash that the same report has shown; they count before comparing as well.
        unbooked: movements of cash that may name a difference.
    """
    if report.text or report.cash_usd is None:
        return (Difference(Case.REPORT_FAILED, report.text or "cash is unknown"),)
    if not ledger.seeded:
        return (Difference(Case.NOT_SEEDED, "the opening cash is not known"),)
    covered = {name for row in settled for name in row.covers}
    coming = [fill for fill in report.fills if fill.execution_id not in ours.booked]
    out = [
        Difference(Case.FILL_FOREIGN, f"{f.execution_id}: {f.side.value} {f.qty} {f.symbol} at {f.price_usd} USD")
        for f in coming
        if not ours.knows(f.order.client_order_id) and f.execution_id not in (ours.foreign | covered)
    ]
    out += _positions(ledger, _changes(ledger, ours, report, settled), report, over)
    unexplained = unexplained_cash(ledger, ours, report, settled, selling_out)
    moved = sum((row.amount_usd for row in transferred), ZERO)
    if unexplained is not None and abs(unexplained - moved) >= CENT:
        out.append(_cash(report.cash_usd, report.cash_usd - unexplained + moved, unbooked))
    foreign = (o for o in report.open_orders if not (ours.knows(o.client_order_id) or selling_out(o)))
    out += [Difference(Case.ORDER_FOREIGN, _named(order)) for order in foreign]
    out += _orders(ours, report)
    reported = {fill.execution_id for fill in report.fills}
    for execution_id, at_ns in ours.booked.items():
        if execution_id not in reported and report.fills_since_ns < at_ns <= report.at_ns - SETTLE_NS:
            out.append(Difference(Case.FILL_NOT_REPORTED, f"{execution_id} is not in the broker's activities"))
    return tuple(out)


def unexplained_cash(
    ledger: LedgerView,
    ours: OurOrders,
    report: AccountReported,
    settled: Sequence[PositionSettled] = (),
    selling_out: Callable[[BrokerOrder], bool] = lambda _order: False,
) -> Decimal | None:
    """The broker's cash less the ledger's with what the report brings, in dollars.

    None while an order works: a fill between the broker's answers would make an honest report disagree with itself.
    """
    others = (order for order in report.open_orders if not ours.knows(order.client_order_id))
    if report.cash_usd is None or ours.held or ours.doubtful or any(map(selling_out, others)):
        return None
    changes = _changes(ledger, ours, report, settled)
    paid = sum((qty * price_usd * multiplier(symbol) for symbol, qty, price_usd in changes), ZERO)
    return report.cash_usd - (ledger.cash_usd - paid)


def _changes(
    ledger: LedgerView, ours: OurOrders, report: AccountReported, settled: Iterable[PositionSettled]
) -> list[Change]:
    """What a report brings that the ledger does not hold yet: fills of our orders, and what has ended."""
    # What the desk refused to book as more than was ordered counts only if positions show it.
    own = (f for f in report.fills if ours.knows(f.order.client_order_id) and f.execution_id not in ours.foreign)
    fills = [(f.symbol, f.side.sign * f.qty, f.price_usd) for f in own if f.execution_id not in ours.booked]
    return [*fills, *_settlements(ledger, settled)]


def _settlements(ledger: LedgerView, settled: Iterable[PositionSettled]) -> Iterator[Change]:
    for row in settled:
        yield row.symbol, Decimal(-row.contracts if ledger.position(row.symbol) > 0 else row.contracts), row.price_usd
        if row.share_price_usd is not None:
            yield row.shares_symbol, Decimal(row.shares), row.share_price_usd


def _positions(
    ledger: LedgerView, changes: Iterable[Change], report: AccountReported, over: Callable[[str], bool]
) -> list[Difference]:
    expected = {position.symbol: Decimal(position.qty) for position in ledger.positions()}
    for symbol, qty, _ in changes:
        expected[symbol] = expected.get(symbol, ZERO) + qty
    broker = {position.symbol: position.qty for position in report.positions}
    out = []
    for symbol in sorted(expected.keys() | broker.keys()):
        theirs, ours = broker.get(symbol, ZERO), expected.get(symbol, ZERO)
        if theirs == ours:
            continue
        text = f"{symbol}: {theirs} at the broker, {ours} by the ledger"
        if is_option(symbol) and over(symbol) and abs(theirs) < abs(ours):
            how = "it has expired and neither shares, cash nor activities tell yet how it ended"
            out.append(Difference(Case.SETTLEMENT_PENDING, f"{text}; {how}"))
        else:
            out.append(Difference(Case.POSITION, text))
    return out


def _cash(theirs: Decimal, ours: Decimal, activities: Iterable[BrokerSettlement]) -> Difference:
    """A difference of cash, named by the movements among the activities that explain it where some do."""
    text = f"{theirs} USD at the broker, {ours} USD by the ledger"
    names = named([a for a in activities if a.kind not in SETTLEMENT_KINDS and a.cash_usd != 0], theirs - ours)
    return Difference(Case.CASH, text) if names is None else Difference(Case.CASH_MOVED, f"{text}; {names}")


def _named(order: BrokerOrder) -> str:
    return f"{order.client_order_id}: {order.symbol} {order.qty}, {order.status}"


def _orders(ours: OurOrders, report: AccountReported) -> list[Difference]:
    out = []
    open_ids = set()
    for order in report.open_orders:
        client_id = order.client_order_id
        open_ids.add(client_id)
        if client_id in ours.ended and ours.ended[client_id] < report.at_ns - SETTLE_NS:
            out.append(Difference(Case.ORDER_NOT_ENDED, _named(order)))
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
        self._others = Foreign()
        self._seeding: AccountReported | None = None
        self._settlements = Settlements()
        self._transfers = Transfers()

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (OrderAdvanced, self.on_order_advanced),
            (OrderFilled, self.on_order_filled),
            (ForeignExecution, self.on_foreign_execution),
            (PositionAdopted, self.on_taken_over),
            (CashCorrected, self.on_taken_over),
            (PositionSettled, self.on_position_settled),
            (AccountReported, self.on_account_reported),
            (LedgerSeeded, self.on_ledger_seeded),
            (FeeCharged, self.on_fee_charged),
            (SessionOpened, self.on_session_opened),
        )

    def restore(
        self,
        advanced: Iterable[OrderAdvanced],
        fills: Iterable[OrderFilled],
        foreign: Iterable[ForeignExecution],
        settled: Sequence[PositionSettled] = (),
        booked: Iterable[str] = (),
    ) -> None:
        """Rebuild from stored facts, each list in order of commit. What had not ended is doubtful until looked up.

        ``booked`` are ids of others' executions that the books hold.
        """
        for step in advanced:
            self._follow(step, 0)
        self._doubtful |= self._held
        self._held = {}
        for fill in fills:
            self._note(fill)
        self._others.settle(booked)
        for execution in foreign:
            self._foreign.add(execution.execution_id)
            self._others.heard(execution, 0)
        self._settlements.restore(settled)
        for row in settled:
            self._note_sold(row)

    def restore_transfers(self, books: Iterable[Message]) -> None:
        """Rebuild which movements of cash are booked, from what the ledger was rebuilt from."""
        self._transfers.restore(books)

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

    def on_foreign_execution(self, execution: ForeignExecution, context: Context) -> Iterable[Message]:
        """Remember an execution that is known not to be ours; positions and cash show what it did."""
        self._foreign.add(execution.execution_id)
        self._others.heard(execution, context.at_ns)
        return ()

    def on_taken_over(self, taken: PositionAdopted | CashCorrected, _context: Context) -> Iterable[Message]:
        """The books hold these executions of others from now on."""
        self._others.settle(taken.covers)
        return ()

    def on_position_settled(self, settled: PositionSettled, _context: Context) -> Iterable[Message]:
        """Remember the broker's own executions that ended part of a trade: they are in the books like fills."""
        self._note_sold(settled)
        return ()

    def _note_sold(self, settled: PositionSettled) -> None:
        if settled.ending is Ending.SOLD_OUT:
            self._booked.update(dict.fromkeys(settled.covers, settled.at_ns))

    def on_account_reported(self, report: AccountReported, context: Context) -> Iterable[Message]:
        """Settle what has ended, book cash that moved, compare, and say what differs.

        A report older than our last fill says nothing; the next one will. One that brings fills settles nothing else.
        """
        if not context.ledger.seeded and not report.text:
            self._seeding = report  # this very report seeds the ledger, later in this turn
            return ()
        ours = OurOrders(self._held, self._doubtful, self._ended, self._booked, self._foreign)
        if is_outdated(ours, report):
            return ()
        coming = [f for f in report.fills if f.execution_id not in ours.booked and f.execution_id not in ours.foreign]
        sold, _ = sold_out((f for f in coming if not ours.knows(f.order.client_order_id)), context, ZERO)
        ended: list[PositionSettled] = []
        again: list[Message] = []
        if not report.text and not coming:
            comparable = not (ours.held or ours.doubtful)
            ended = self._settlements.settle(
                report, context, comparable, tuple(self._others.unsettled.values()),
                self._transfers.readings(report, context.table),
            )  # fmt: skip
        elif not report.text and gone_contracts(report, context):
            again = [ReadAccount(report.fills_since_ns, "what has ended is told apart once these fills are booked")]
        moved = self._transferred(ours, report, [*sold, *ended], context)
        differences = reconcile(
            context.ledger, ours, report, [*sold, *ended],
            over=lambda symbol: is_over(context.table, symbol, report.at_ns),
            selling_out=lambda order: is_sell_out(order, context),
            transferred=moved, unbooked=self._transfers.unbooked(report.settlements),
        )  # fmt: skip
        if not differences:
            self._others.agreed(context.at_ns)
        return (*ended, *moved, *again, Reconciled(context.at_ns, "account report", tuple(map(str, differences))))

    def _transferred(
        self, ours: OurOrders, report: AccountReported, settled: Sequence[PositionSettled], context: Context
    ) -> list[CashTransferred]:
        if report.text or not context.ledger.seeded:
            return []
        if _positions(context.ledger, _changes(context.ledger, ours, report, settled), report, lambda _symbol: False):
            return []  # what is not told yet may have moved as much cash
        cash = unexplained_cash(context.ledger, ours, report, settled, lambda order: is_sell_out(order, context))
        return self._transfers.book(report, cash, context.table, context.at_ns)

    def on_fee_charged(self, fee: FeeCharged, _context: Context) -> Iterable[Message]:
        """What is booked as a fee is no transfer."""
        self._transfers.note(fee)
        return ()

    def on_ledger_seeded(self, seed: LedgerSeeded, context: Context) -> Iterable[Message]:
        """Compare the report that seeded the ledger; what it lists is in the opening cash."""
        self._transfers.note(seed)
        report, self._seeding = self._seeding, None
        self._others.seeded(report)
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

"""When the broker's account is read: at start, after a reconnect, every 30 s in session, after fills, at the close,
and at once when an order's fate is unknown or an exit was refused.

Inputs: feeds, sessions, what orders come to, AccountReported, its own timer. Output: ReadAccount.
Invariants: one read at a time is asked for; a failed read is asked for again; what is wished for meanwhile follows;
the reads that succeed leave no moment uncovered, from the last session or what was unsettled before a restart on.
"""

from collections.abc import Iterable, Sequence

from oracle.core.bus import HandlerTable
from oracle.core.instruments import is_option
from oracle.core.marketdata import FeedChanged
from oracle.core.message import Message
from oracle.core.messages import (
    ForeignExecution,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    PositionSettled,
    ReadAccount,
    SessionClosed,
    SessionOpened,
    SetTimer,
    SubmitOrder,
    TimerFired,
)
from oracle.core.ports import Context
from oracle.core.reports import AccountReported
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Ending, Feed, FeedState, OrderState, Purpose
from oracle.execution.endings import is_over
from oracle.execution.orders import TERMINAL, commanded_ns

READ_TIMER = "account:read"
EVERY_S = 30
# A fill's record and its position need a moment to settle before they are compared.
AFTER_ORDER_S = 6
RETRY_S = 10
BEFORE_OPEN_NS = 5 * MINUTE_NS
# What has expired and is not settled is looked at this often outside the session.
EXPIRED_NS = 5 * MINUTE_NS
# Fills are read this far back, so that one that came late to the broker's records is still seen.
OVERLAP_NS = 10 * MINUTE_NS


class AccountReader:
    """Asks for the account; the desk and the reconciler use what comes back."""

    __slots__ = ("_due_ns", "_every_ns", "_pending", "_restored_ns", "_since_ns", "_soon_ns", "_wished")

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_ns = round(every_s * NS)
        self._pending = False
        # A read that is under way may be older than the reason for another: that one follows its answer.
        self._wished = ""
        self._soon_ns = 0
        self._due_ns = 0
        self._since_ns: int | None = None
        self._restored_ns: int | None = None

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (FeedChanged, self.on_feed),
            (SessionOpened, self.on_session_opened),
            (SessionClosed, self.on_session_closed),
            (OrderAdvanced, self.on_order_advanced),
            (OrderClosed, self.on_order_closed),
            (ForeignExecution, self.on_foreign_execution),
            (PositionSettled, self.on_position_settled),
            (AccountReported, self.on_report),
            (TimerFired, self.on_timer),
        )

    def restore(
        self,
        orders: Sequence[SubmitOrder],
        advanced: Sequence[OrderAdvanced],
        fills: Sequence[OrderFilled],
        ended: Sequence[OrderClosed],
        marked_ns: int | None = None,
    ) -> None:
        """Make the first read go back to the oldest order that was not settled, and to the last fill that was told.

        ``marked_ns`` is when equity was last marked: fees and transfers of a long time away are listed from then on.
        """
        over = {end.order_id for end in ended}
        states = {step.client_order_id: step for step in advanced}
        alive = {step.order_id for step in states.values() if step.to_state not in TERMINAL}
        moments = [commanded_ns(o) for o in orders if o.order_id not in over or o.order_id in alive]
        moments += [max(fill.at_ns for fill in fills)] if fills else []
        moments += [] if marked_ns is None else [marked_ns]
        self._restored_ns = min(moments, default=None)

    def on_feed(self, change: FeedChanged, context: Context) -> Iterable[Message]:
        """The trading stream is (again) live: what happened before is only in the account."""
        if change.feed is Feed.TRADING and change.state is FeedState.LIVE:
            return self._read("trading stream is live", context)
        return ()

    def on_session_opened(self, _opened: SessionOpened, context: Context) -> Iterable[Message]:
        """A session begins with a fresh look."""
        return self._read("session opened", context)

    def on_session_closed(self, _closed: SessionClosed, context: Context) -> Iterable[Message]:
        """A session ends with a comparison."""
        return self._read("session closed", context)

    def on_order_closed(self, closed: OrderClosed, context: Context) -> Iterable[Message]:
        """Look again soon when cash has changed; at once when an exit was refused, because our books may be why."""
        if closed.purpose is not Purpose.ENTRY and closed.end.startswith("rejected"):
            return self._read(f"exit {closed.order_id} was refused", context)
        return () if closed.filled == 0 else self._look_soon(context)

    def on_order_advanced(self, step: OrderAdvanced, context: Context) -> Iterable[Message]:
        """An order's fate became unknown: its fills may be in the account."""
        if step.to_state is not OrderState.UNKNOWN:
            return ()
        return self._read(f"{step.client_order_id} is unknown", context)

    def on_foreign_execution(self, _execution: ForeignExecution, context: Context) -> Iterable[Message]:
        """Positions show what it did."""
        return self._look_soon(context)

    def on_position_settled(self, settled: PositionSettled, context: Context) -> Iterable[Message]:
        """The broker sold by itself: cash has changed. What a report showed needs no other."""
        return self._look_soon(context) if settled.ending is Ending.SOLD_OUT else ()

    def on_report(self, report: AccountReported, context: Context) -> Iterable[Message]:
        """Plan the next look."""
        self._pending = False
        if report.text:
            return self._look_at(context.at_ns + RETRY_S * NS)
        if report.fills_since_ns <= self._since(context):
            # A read that others asked for may reach back less far: then what lies before it has not been seen yet.
            self._since_ns = report.at_ns - OVERLAP_NS
        if self._wished:
            return self._read(self._wished, context)
        next_ns = self._next_ns(context)
        return self._look_at(min(next_ns, self._soon_ns) if self._soon_ns > context.at_ns else next_ns)

    def on_timer(self, timer: TimerFired, context: Context) -> Iterable[Message]:
        """The next look is due; while one is under way, its answer plans the next."""
        return self._read("periodic", context) if timer.timer_id == READ_TIMER and not self._pending else ()

    def _look_soon(self, context: Context) -> Iterable[Message]:
        """Look in a moment; what is due before is not put off, or a busy minute would never be looked at."""
        if self._soon_ns <= context.at_ns:
            self._soon_ns = context.at_ns + AFTER_ORDER_S * NS
        if context.at_ns < self._due_ns <= self._soon_ns:
            return ()
        return self._look_at(self._soon_ns)

    def _look_at(self, due_ns: int) -> Iterable[Message]:
        self._due_ns = due_ns
        return (SetTimer(READ_TIMER, due_ns),)

    def _next_ns(self, context: Context) -> int:
        soon_ns = context.at_ns + self._every_ns
        if context.in_session or context.session is None:
            return soon_ns
        if any(is_option(symbol) and is_over(context.table, symbol, context.at_ns) for symbol in context.ledger.held):
            return max(soon_ns, context.at_ns + EXPIRED_NS)
        return max(soon_ns, context.session.open_ns - BEFORE_OPEN_NS)

    def _read(self, reason: str, context: Context) -> Iterable[Message]:
        if self._pending:
            self._wished = reason
            return ()
        self._pending, self._wished = True, ""
        return (ReadAccount(self._since(context), reason),)

    def _since(self, context: Context) -> int:
        """The moment up to which the account's fills are known."""
        if self._since_ns is None:
            # The first look goes back to the last session's open, or further: a restart must find what it missed.
            latest = context.table.latest(context.at_ns)
            begin_ns = context.at_ns if latest is None else latest.open_ns
            restored_ns = begin_ns if self._restored_ns is None else self._restored_ns
            self._since_ns = min(begin_ns, restored_ns) - OVERLAP_NS
        return self._since_ns

"""When the broker's account is read: at start, after a reconnect, every 30 s in session, after fills, at the close.

Inputs: FeedChanged, SessionOpened, SessionClosed, OrderClosed, AccountReported, its own timer. Output: ReadAccount.
Invariant: one read at a time is asked for; a failed read is asked for again.
"""

from collections.abc import Iterable

from oracle.core.bus import HandlerTable
from oracle.core.messages import (
    AccountReported,
    Feed,
    FeedChanged,
    FeedState,
    Message,
    OrderClosed,
    ReadAccount,
    SessionClosed,
    SessionOpened,
    SetTimer,
    TimerFired,
)
from oracle.core.ports import Context
from oracle.core.sessions import MINUTE_NS, NS

READ_TIMER = "account:read"
EVERY_S = 30
# A fill's record and its position need a moment to settle before they are compared.
AFTER_ORDER_S = 6
RETRY_S = 10
BEFORE_OPEN_NS = 5 * MINUTE_NS
# Fills are read this far back, so that one that came late to the broker's records is still seen.
OVERLAP_NS = 10 * MINUTE_NS


class AccountReader:
    """Asks for the account; the desk and the reconciler use what comes back."""

    __slots__ = ("_pending", "_since_ns")

    def __init__(self) -> None:
        self._pending = False
        self._since_ns: int | None = None

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (FeedChanged, self.on_feed),
            (SessionOpened, self.on_session_opened),
            (SessionClosed, self.on_session_closed),
            (OrderClosed, self.on_order_closed),
            (AccountReported, self.on_report),
            (TimerFired, self.on_timer),
        )

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
        """Cash and buying power have changed: look again soon."""
        if closed.filled == 0:
            return ()
        return (SetTimer(READ_TIMER, context.at_ns + AFTER_ORDER_S * NS),)

    def on_report(self, report: AccountReported, context: Context) -> Iterable[Message]:
        """Plan the next look."""
        self._pending = False
        if report.text:
            return (SetTimer(READ_TIMER, context.at_ns + RETRY_S * NS),)
        self._since_ns = report.at_ns - OVERLAP_NS
        return (SetTimer(READ_TIMER, self._next_ns(context)),)

    def on_timer(self, timer: TimerFired, context: Context) -> Iterable[Message]:
        """The next look is due."""
        return self._read("periodic", context) if timer.timer_id == READ_TIMER else ()

    def _next_ns(self, context: Context) -> int:
        soon_ns = context.at_ns + EVERY_S * NS
        if context.in_session or context.session is None:
            return soon_ns
        return max(soon_ns, context.session.open_ns - BEFORE_OPEN_NS)

    def _read(self, reason: str, context: Context) -> Iterable[Message]:
        if self._pending:
            return ()
        self._pending = True
        since_ns = self._since_ns
        if since_ns is None:
            # The first look goes back to the last session's open: a restart must find what it missed.
            latest = context.table.latest(context.at_ns)
            since_ns = (context.at_ns if latest is None else latest.open_ns) - OVERLAP_NS
        return (ReadAccount(since_ns, reason),)

"""One synchronous turn per input: timers first, then the input, then all that follows.

Inputs: messages stamped with a sequence number and time. Outputs: turns, each with every message it caused, in
order. Invariants: sequence numbers have no gaps, time never decreases, timers due at or before an input fire
before it as inputs of their own. The engine reads no clock and awaits nothing.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from oracle.core.bus import Bus
from oracle.core.clock import Timers
from oracle.core.equity import EquityKeeper
from oracle.core.errors import InvariantError
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import FeedChanged
from oracle.core.message import Message
from oracle.core.messages import (
    ClearTimer,
    FeeCharged,
    Input,
    LedgerSeeded,
    Reconciled,
    SessionClosed,
    SessionOpened,
    SetTimer,
    Stamped,
    TimerFired,
)
from oracle.core.money import ZERO
from oracle.core.ports import (
    NO_VOLATILITY,
    AccountView,
    ChainsView,
    Context,
    EquityView,
    VolatilityView,
)
from oracle.core.positioning import NO_POSITIONING, PositioningView
from oracle.core.reports import AccountReported
from oracle.core.sessions import Session, SessionTable
from oracle.core.vocabulary import Feed

_NEVER_NS = 2**63 - 1
SESSION_OPEN_TIMER = "session:open"
SESSION_CLOSE_TIMER = "session:close"
NOT_OURS = "the account holds positions or orders that are not ours: adopt or close them, or use another account"
_NO_EQUITY = EquityView(None, None, None, ZERO, None, 0)
UNKNOWN_ACCOUNT = AccountView(None, None, None, False, None)


class Turn(msgspec.Struct, frozen=True):
    """One input and everything it caused, in order of dispatch."""

    stamped: Stamped
    messages: tuple[Message, ...]


class _TurnContext(Context, frozen=False, kw_only=True):  # type: ignore[misc]
    """The engine's one context. Most turns look at no equity, and valuing positions costs: so it is asked for."""

    equity_of: Callable[[int], EquityView]

    @property  # type: ignore[misc]
    def equity(self) -> EquityView:
        """The account's value now."""
        return self.equity_of(self.at_ns)


class Engine:
    """The core's only entrance. Actors are subscribed by the composition root, in a fixed order."""

    def __init__(
        self,
        table: SessionTable,
        market: MarketState,
        chains: ChainsView,
        ledger: Ledger,
        equity: EquityKeeper,
        volatility: VolatilityView = NO_VOLATILITY,
        positioning: PositioningView = NO_POSITIONING,
    ) -> None:
        self.bus = Bus()
        self._table = table
        self._market = market
        self._chains = chains
        self._ledger = ledger
        self._equity = equity
        self._timers = Timers()
        self._account = UNKNOWN_ACCOUNT
        self._seq = 0
        self._handling: Input | None = None
        self._at_ns = 0
        self._session: Session | None = None
        self._opened_date = ""
        self._told_not_ours = False
        self._context = _TurnContext(
            0, None, table, market, chains, ledger, _NO_EQUITY, self._account, volatility, positioning,
            equity_of=equity.view,
        )  # fmt: skip
        # The core's own bookkeeping hears a message before any actor that decides on it.
        self.bus.subscribe(market.handlers())
        self.bus.subscribe(ledger.handlers())
        self.bus.subscribe(equity.handlers())
        self.bus.subscribe(
            (
                (AccountReported, self._on_account),
                (Reconciled, self._on_reconciled),
                (FeedChanged, self._on_feed),
                (TimerFired, self._on_timer),
            )
        )

    @property
    def at_ns(self) -> int:
        """The time of the last input."""
        return self._at_ns

    @property
    def handling(self) -> Stamped | None:
        """The input whose turn is running or ran last: what to record when a turn raises."""
        return None if self._handling is None else Stamped(self._seq, self._at_ns, self._handling)

    @property
    def seq(self) -> int:
        """The number of inputs so far."""
        return self._seq

    @property
    def next_timer_ns(self) -> int | None:
        """When the earliest core timer is due, or None."""
        return self._timers.next_ns()

    def start(self, at_ns: int) -> None:
        """Arm the session timers. Call once, before the first input."""
        self._at_ns = self._context.at_ns = at_ns  # type: ignore[misc]
        self._equity.begin(self._table, at_ns)
        self._arm_session(at_ns)

    def advance(self, now_ns: int) -> Iterator[Turn]:
        """Fire every timer due at or before ``now_ns``, each as a turn of its own at its due time."""
        while (fired := self._timers.pop_due(now_ns)) is not None:
            yield self._turn(max(fired.due_ns, self._at_ns), fired)

    def handle(self, at_ns: int, message: Input) -> Iterator[Turn]:
        """Fire timers due by ``at_ns``, then handle one input.

        Raises:
            InvariantError: ``at_ns`` is before an earlier input's time.
        """
        if at_ns < self._at_ns:
            raise InvariantError(f"engine: input at {at_ns} after one at {self._at_ns}")
        yield from self.advance(at_ns)
        yield self._turn(at_ns, message)

    def handle_until(
        self, rows: Iterable[tuple[int, Input]], on_quiet: Callable[[Turn], None] | None = None
    ) -> Turn | None:
        """Handle inputs one by one until one causes a message: what ``handle`` does where no timer is due between.

        Args:
            rows: (time, input) in order of time, all before the next timer.
            on_quiet: told of the turns that caused nothing; None when nobody looks at them.

        Returns:
            The turn that caused something, after which the rows may go on; None when the rows have ended.

        Raises:
            InvariantError: time runs backwards, or a timer is due first.
        """
        next_ns = self._timers.next_ns()
        due_ns = _NEVER_NS if next_ns is None else next_ns
        deliver, view = self.bus.deliver, self._context
        last_ns, close_ns = self._at_ns, -1 if self._session is None else self._session.close_ns
        for at_ns, message in rows:
            if not last_ns <= at_ns < due_ns:
                raise InvariantError(f"engine: input at {at_ns} after {last_ns}, with a timer due at {due_ns}")
            self._seq += 1
            last_ns = self._at_ns = view.at_ns = at_ns  # type: ignore[misc]
            self._handling = message
            if at_ns >= close_ns:
                self._set_session(self._table.current_or_next(at_ns))
                close_ns = -1 if self._session is None else self._session.close_ns
            caused = deliver(message, view)
            if caused:
                return self._ended(Stamped(self._seq, at_ns, message), caused)
            if on_quiet is not None:
                on_quiet(Turn(Stamped(self._seq, at_ns, message), ()))
        return None

    def context(self) -> Context:
        """The read-only view for a message of the present turn: one object, whose figures are looked up when read."""
        return self._context

    def _turn(self, at_ns: int, message: Input) -> Turn:
        self._seq += 1
        self._at_ns = self._context.at_ns = at_ns  # type: ignore[misc]
        self._handling = message
        session = self._session
        if session is None or at_ns >= session.close_ns:
            self._set_session(self._table.current_or_next(at_ns))
        return self._ended(Stamped(self._seq, at_ns, message), self.bus.deliver(message, self._context))

    def _ended(self, stamped: Stamped, caused: list[Message]) -> Turn:
        """A turn's end: its timers are armed."""
        for timer in caused:
            if type(timer) is SetTimer:
                self._timers.set(timer)
            elif type(timer) is ClearTimer:
                self._timers.clear(timer)
        return Turn(stamped, tuple(caused))

    def _set_session(self, session: Session | None) -> None:
        self._session = session
        self._context.session = session  # type: ignore[misc]

    def _set_account(self, account: AccountView) -> None:
        self._account = account
        self._context.account = account  # type: ignore[misc]

    def _arm_session(self, at_ns: int) -> None:
        session = self._table.current_or_next(at_ns)
        self._set_session(session)
        if session is None:
            return
        self._timers.set(SetTimer(SESSION_OPEN_TIMER, max(session.open_ns, at_ns)))
        self._timers.set(SetTimer(SESSION_CLOSE_TIMER, session.close_ns))

    def _on_timer(self, timer: TimerFired, context: Context) -> Iterable[Message]:
        if timer.timer_id == SESSION_OPEN_TIMER and context.session is not None:
            self._opened_date = context.session.date
            return (SessionOpened(context.session.date, context.session.open_ns, context.session.close_ns),)
        if timer.timer_id == SESSION_CLOSE_TIMER:
            self._arm_session(context.at_ns)
            return (SessionClosed(self._opened_date, timer.due_ns),)
        return ()

    def _on_account(self, report: AccountReported, context: Context) -> Iterable[Message]:
        if report.text:
            return ()
        self._set_account(
            AccountView(
                report.options_buying_power_usd,
                report.options_level,
                report.trading_blocked,
                self._account.reconciled,
                report.at_ns,
            )
        )
        if context.ledger.seeded or report.cash_usd is None or report.equity_usd is None:
            return ()
        if report.positions or report.open_orders:
            # Cash alone would not be the account's value, and what is held has no plan here: nothing is seeded.
            told, self._told_not_ours = self._told_not_ours, True
            return () if told else (Reconciled(context.at_ns, "opening", (NOT_OURS,)),)
        held = (
            FeeCharged(fee.activity_id, fee.symbol, fee.amount_usd, fee.text, context.at_ns, in_opening_cash=True)
            for fee in report.fees
        )
        seed = LedgerSeeded(report.cash_usd, report.equity_usd, context.at_ns, report.cash_activities)
        return (seed, *held)

    def _on_feed(self, change: FeedChanged, _context: Context) -> Iterable[Message]:
        """A cut of the trading stream may have lost reports: only a comparison after it agrees again."""
        if change.feed is Feed.TRADING:
            self._set_account(msgspec.structs.replace(self._account, reconciled=False))
        return ()

    def _on_reconciled(self, result: Reconciled, _context: Context) -> Iterable[Message]:
        account = self._account
        self._set_account(msgspec.structs.replace(account, reconciled=not result.differences))
        return ()

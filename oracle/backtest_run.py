"""The loop of a backtest: one instant after another, each handled to the end before the next.

Inputs: a market source, the exchange, the core. Outputs: commits, journal records, turns to observers. The order within
an instant is that of a paced live session: market, matching, then trade updates, answers, bars, quotes. Invariants:
nothing is known before its instant; while orders work every second is an instant, else those at which a bar, a quote
(of a held contract: each change of it) or a timer comes due. The generator is looked at each second or less often.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from oracle.backtest_edges import InProcessEdges
from oracle.core.control import BACKTEST, END_OF_DATA, Flatten
from oracle.core.engine import Turn
from oracle.core.message import Message
from oracle.core.messages import Input, OperatorRequested, OrderFilled, PositionSettled, Stamped
from oracle.core.sessions import MINUTE_NS, NS, Session
from oracle.daemon import EFFECTS, JournalPort, StorePort
from oracle.inbox import Inbox, Source
from oracle.running import Core
from oracle.sim.exchange import POST_CLOSE_NS, PRE_OPEN_NS, Exchange
from oracle.sim.minutes import MinuteMarket

NEVER_NS = 2**63 - 1
# Before the last close of the data, what is still open is closed as an operator would: time enough for a ladder.
FLATTEN_BEFORE_NS = 15 * MINUTE_NS
Progress = Callable[[Session, int], None]
TurnObserver = Callable[[Turn, float], None]


class OutputsPort(Protocol):
    """A journal of what was decided, without the inputs: a backtest's inputs are its files."""

    def write_outputs(self, seq: int, messages: Sequence[Message]) -> None:
        """Append what a turn caused."""
        ...


class NoStore:
    """Keeps nothing: for benchmarks of what surrounds it."""

    async def commit(self, messages: Sequence[Message], stamped: Stamped) -> int:
        """Forget a turn's messages."""
        del messages, stamped
        return 0


class BacktestRun:
    """Drives one core through all sessions of a source."""

    def __init__(
        self,
        *,
        core: Core,
        exchange: Exchange,
        edges: InProcessEdges,
        inbox: Inbox,
        store: StorePort,
        is_durable: Callable[[Message], bool],
        journal: JournalPort | OutputsPort,
        observers: Sequence[TurnObserver],
        leave_open: bool = True,
        step_s: int = 1,
    ) -> None:
        """Take the parts.

        Args:
            core, exchange, edges, inbox, store, journal, observers: the wired parts.
            is_durable: whether the store keeps a message.
            leave_open: leave trades open when the data end; else all are closed 15 minutes before the last close.
            step_s: how often a market of seconds is looked at while no order works and no timer comes due.
        """
        self._core, self._engine, self._exchange = core, core.engine, exchange
        self._edges, self._inbox = edges, inbox
        self._store, self._is_durable = store, is_durable
        self._write_outputs = journal.write_outputs
        self._write_input = getattr(journal, "write_input", None)
        self._observers = tuple(observers)
        # Where neither inputs are recorded nor turns observed, nobody looks at a turn that caused nothing.
        self._on_quiet = self._record if self._write_input is not None or self._observers else None
        # A source without it (the generator) has something to tell each second, as over sockets.
        source = exchange.source
        self._minutes = source if isinstance(source, MinuteMarket) else None
        self._step_ns = step_s * NS
        self._flatten_ns = NEVER_NS if leave_open else source.sessions[-1].close_ns - FLATTEN_BEFORE_NS

    async def run(self, progress: Progress | None = None) -> None:
        """Handle what waits at the start, then every session to five minutes past its close."""
        await self._settle(self._exchange.now_ns)
        for index, session in enumerate(self._exchange.source.sessions):
            at_ns, end_ns = session.open_ns - PRE_OPEN_NS, session.close_ns + POST_CLOSE_NS
            if index:
                await self._step(at_ns)
            while at_ns < end_ns:
                if self._minutes is not None and self._is_quiet():
                    at_ns = await self._run_quiet(self._minutes, at_ns)
                at_ns = self._next_ns(at_ns)
                if at_ns > end_ns and self._minutes is not None:
                    break
                await self._step(min(at_ns, end_ns))
            if progress is not None:
                progress(session, index + 1)

    def _next_ns(self, at_ns: int) -> int:
        """The next instant to handle: whole seconds, as in a paced session."""
        if self._exchange.book.working or self._edges.quotes.pending:
            return at_ns + NS
        if self._minutes is None:
            timer_ns, looked_ns = self._timer_ns, (at_ns // self._step_ns + 1) * self._step_ns
            return looked_ns if timer_ns is None else min(looked_ns, max(at_ns + NS, -(-timer_ns // NS) * NS))
        event_ns = self._minutes.next_event_ns(at_ns)
        timer_ns = self._timer_ns
        due = [t for t in (event_ns, None if timer_ns is None else -(-timer_ns // NS) * NS) if t is not None]
        return max(at_ns + NS, min(due)) if due else NEVER_NS

    @property
    def _timer_ns(self) -> int | None:
        """What is due next by the clock: a timer of the core, or the end of the data."""
        timer_ns = self._engine.next_timer_ns
        if self._flatten_ns == NEVER_NS:
            return timer_ns
        return self._flatten_ns if timer_ns is None else min(timer_ns, self._flatten_ns)

    def _is_quiet(self) -> bool:
        """Whether only bars and timers can happen: nothing is held, ordered, watched, waiting or on its way."""
        exchange, edges = self._exchange, self._edges
        return not (
            edges.quotes.pending or edges.subscribed or len(self._inbox) or edges.waiting
            or exchange.book.working or exchange.account.positions
        )  # fmt: skip

    async def _run_quiet(self, source: MinuteMarket, at_ns: int) -> int:
        """Take bar after bar, and the timers between, until a bar causes something or the session's bars end.

        This is where a backtest's speed comes from: what ``_step`` would do besides is nothing for such bars.
        """
        engine, exchange = self._engine, self._exchange
        while True:
            timer_ns = self._timer_ns
            rows = source.quiet_bars(NEVER_NS if timer_ns is None else timer_ns)
            if rows is None:
                return at_ns
            turn = engine.handle_until(rows, self._on_quiet)
            at_ns = max(at_ns, engine.at_ns)
            source.stand_at(at_ns)
            if turn is not None:
                exchange.step(at_ns)
                await self._perform((turn,))
                await self._settle(at_ns)
                return at_ns
            due_ns = self._quiet_timer_ns(source, at_ns)
            if due_ns is None:
                return at_ns
            at_ns = due_ns
            source.stand_at(at_ns)
            exchange.step(at_ns)
            self._edges.flush()
            await self._settle(at_ns)
            if not self._is_quiet():
                return at_ns

    def _quiet_timer_ns(self, source: MinuteMarket, at_ns: int) -> int | None:
        """The instant of the next timer when the market has nothing to tell until then; None when it may have."""
        timer_ns = self._timer_ns
        if timer_ns is None:
            return None
        due_ns = max(at_ns + NS, -(-timer_ns // NS) * NS)
        if due_ns >= self._exchange.session.close_ns:
            return None
        rows = source.quiet_bars(due_ns + 1)
        return due_ns if rows is not None and next(rows, None) is None else None

    def _record(self, turn: Turn) -> None:
        """Note a turn that caused nothing."""
        if self._write_input is not None:
            self._write_input(turn.stamped)
        for observe in self._observers:
            observe(turn, 0.0)

    async def _step(self, at_ns: int) -> None:
        exchange = self._exchange
        market = exchange.source.advance(at_ns)
        exchange.step(at_ns)
        self._edges.publish(market)
        await self._settle(at_ns)

    async def _settle(self, at_ns: int) -> None:
        """Handle everything of one instant; what effects cause is handled at the same instant."""
        engine, edges, inbox = self._engine, self._edges, self._inbox
        if at_ns >= self._flatten_ns:
            self._flatten_ns = NEVER_NS
            inbox.put(Source.OPERATOR, OperatorRequested(END_OF_DATA, BACKTEST, END_OF_DATA, Flatten()))
        while True:
            batch: list[Input] = [*inbox.take(), *edges.drain_quotes(at_ns)]  # type: ignore[list-item]
            await self._perform(engine.advance(at_ns))
            for message in batch:
                await self._perform(engine.handle(at_ns, message))
            if not await edges.perform() and not len(inbox):
                return

    async def _perform(self, turns: Iterable[Turn]) -> None:
        """Store first, then effects, then journal and observers, as the daemon does."""
        for turn in turns:
            messages, stamped = turn.messages, turn.stamped
            if self._is_durable(stamped.input) or any(map(self._is_durable, messages)):
                await self._store.commit(messages, stamped)
            held = False
            for message in messages:
                if isinstance(message, EFFECTS):
                    self._edges.send(message)
                elif type(message) is OrderFilled or type(message) is PositionSettled:
                    held = True
            if held:
                self._follow(frozenset(p.symbol for p in self._core.ledger.positions()))
            if self._write_input is not None:
                self._write_input(stamped)
            if messages:
                self._write_outputs(stamped.seq, messages)
            for observe in self._observers:
                observe(turn, 0.0)

    def _follow(self, held: frozenset[str]) -> None:
        """What is held is told as it changes."""
        self._edges.quotes.set_held(held)
        if self._minutes is not None:
            self._minutes.follow(held)

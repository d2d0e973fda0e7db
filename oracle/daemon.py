"""The loop around the core: take inputs, run turns, make them last, then let their effects leave.

Inputs: the inbox, core and edge timers, a driver that tells time (paced exchange or wall clock). Outputs: commits,
effects, journal records. Invariant: a turn's durable messages are committed before any of its effects is sent.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from oracle.core.engine import Engine, Turn
from oracle.core.errors import RemoteError
from oracle.core.message import Message
from oracle.core.messages import (
    DrainRequested,
    Input,
    LookUpOrder,
    ReadAccount,
    ReadChain,
    ReadOptionQuotes,
    SendCancel,
    SendOrder,
    SetOptionSubscription,
    Stamped,
)
from oracle.edgetimers import Clock, EdgeTimers
from oracle.inbox import Inbox, Source
from oracle.pacing import Beat, PacingClient

log = structlog.get_logger("oracle.daemon")

EFFECTS = (SendOrder, SendCancel, LookUpOrder, ReadAccount, ReadChain, ReadOptionQuotes, SetOptionSubscription)
Effect = SendOrder | SendCancel | LookUpOrder | ReadAccount | ReadChain | ReadOptionQuotes | SetOptionSubscription
# In wall-clock modes quotes are released four times a second (PRODUCT section 2: 4 Hz near the money).
QUOTE_FLUSH_S = 0.25
# A barrier that does not close in this wall time means that an edge is stuck, which a restart may mend.
BARRIER_TIMEOUT_S = 60.0
# A request is on its socket after so many rounds of the loop: its task starts, aiohttp makes its writer, that runs.
ROUNDS_TO_SOCKET = 3
# A drain waits this long for requests in flight; a connection that hangs must not hold up the end of the process.
DRAIN_TIMEOUT_S = 8.0


class StorePort(Protocol):
    """What the daemon needs of the store."""

    async def commit(self, messages: Sequence[Message], stamped: Stamped) -> int:
        """Make a turn's durable messages last, in one transaction; returns how many there were."""
        ...


class JournalPort(Protocol):
    """What the daemon needs of the journal."""

    def write_input(self, stamped: Stamped) -> None:
        """Append an input."""
        ...

    def write_outputs(self, seq: int, messages: Sequence[Message]) -> None:
        """Append what a turn caused."""
        ...


class EdgesPort(Protocol):
    """The feeds and the broker, as the daemon drives them."""

    @property
    def in_flight(self) -> int:
        """Requests, connections, acknowledgements and back-fills under way."""
        ...

    def received(self) -> dict[str, int]:
        """Data messages received so far by connection id, for every open connection."""
        ...

    def send(self, effect: Effect) -> None:
        """Carry out an effect; its result comes back through the inbox."""
        ...

    def drain_quotes(self, at_ns: int) -> Iterable[Input]:
        """Take the conflated quotes that are due."""
        ...


class Daemon:
    """One inbox, one turn at a time."""

    def __init__(
        self,
        *,
        engine: Engine,
        inbox: Inbox,
        edges: EdgesPort,
        store: StorePort,
        journal: JournalPort,
        clock: Clock,
        edge_timers: EdgeTimers,
        observers: Sequence[Callable[[Turn, float], None]],
        check_edges: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._inbox = inbox
        self._edges = edges
        self._store = store
        self._journal = journal
        self._clock = clock
        self._edge_timers = edge_timers
        self._observers = tuple(observers)
        self._check_edges = check_edges
        self._stop_by_s: float | None = None
        self._silence: asyncio.Timeout | None = None
        # For the watchdog: since when a turn and its commit have been under way; None while none is.
        self._turn_since_s: float | None = None
        # Called when a drain is asked for.
        self.on_stop: list[Callable[[], None]] = []

    @property
    def stuck_s(self) -> float:
        """For how many seconds a turn and its commit have not finished; 0 while the loop waits for others."""
        return 0.0 if self._turn_since_s is None else time.perf_counter() - self._turn_since_s

    def request_stop(self, who: str, why: str) -> None:
        """Ask for a drain: the request is an input like any other."""
        for tell in self.on_stop:
            tell()
        now_s = asyncio.get_running_loop().time()
        if self._stop_by_s is None:
            self._stop_by_s = now_s + DRAIN_TIMEOUT_S
        if self._silence is not None:
            self._silence.reschedule(now_s)
        self._inbox.put(Source.OPERATOR, DrainRequested(who, why))

    # ------------------------------------------------------------------------------------------ the paced drive

    async def run_paced(self, pacing: PacingClient, advance_clock: Callable[[int], None]) -> None:
        """Follow a paced exchange until its end or a stop request.

        Raises:
            RemoteError: the exchange went away, or an edge did not come to rest.
        """
        await self._settle(pacing, None)
        await pacing.ready()
        while True:
            beat = await self._beat(pacing)
            if beat is None:
                await self._drain_paced(pacing)
                return
            advance_clock(beat.at_ns)
            await self._settle(pacing, None if beat.kind == "end" else beat.sent)
            if beat.kind == "end" or self._stop_by_s is not None:
                return
            await pacing.handled(beat.n, self._edges.received(), self._next_timer_ns())

    async def _beat(self, pacing: PacingClient) -> Beat | None:
        """The next beat, or None when a stop is asked for while the exchange is silent."""
        if self._stop_by_s is not None:
            return None
        try:
            async with asyncio.timeout(None) as self._silence:
                return await pacing.beat()
        except TimeoutError:
            return None
        finally:
            self._silence = None

    async def _drain_paced(self, pacing: PacingClient) -> None:
        """Handle the stop request at the present time; an exchange that is stuck is not waited for."""
        try:
            async with asyncio.timeout_at(self._stop_by_s):
                await self._settle(pacing, None)
        except TimeoutError:
            log.warning("drain_cut_short", in_flight=self._edges.in_flight)

    async def _settle(self, pacing: PacingClient, sent: dict[str, int] | None) -> None:
        """Handle everything of one step: wait for all its frames, release in order, repeat while effects go out.

        After effects, and after an edge's timer may have opened a connection, the exchange is asked how much it has
        sent, because replies and trade updates race on different sockets: only the full set can be put in a repeatable
        order. ``sent`` None: not known yet.
        """
        at_ns = self._clock.now_ns()
        while True:
            if sent is not None:
                sent = await self._recounted(pacing, sent)
            await self._barrier(sent)
            self._check_edges()
            acted = self._edge_timers.run_due() > 0
            if not acted:
                batch = [*self._inbox.take(), *self._edges.drain_quotes(at_ns)]
                acted = await self._perform(self._engine.advance(at_ns))
                for message in batch:
                    acted |= await self._perform(self._engine.handle(at_ns, message))
            if acted or self._edges.in_flight:
                await self._barrier(None)
                sent = (await pacing.sync()).sent
            elif not self._inbox and not self._edge_timer_is_due():
                return

    async def _recounted(self, pacing: PacingClient, sent: dict[str, int]) -> dict[str, int]:
        """Ask again for what was sent when a connection is missing there.

        It was opened after the exchange had counted, or it is cut: asked again, the exchange names the one and not the
        other.
        """
        await self._barrier(None)
        if self._edges.received().keys() <= sent.keys():
            return sent
        return (await pacing.sync()).sent

    async def _barrier(self, sent: dict[str, int] | None) -> None:
        """Wait until nothing is in flight, every message that was sent is here, and every cut has been noticed."""
        changed = self._inbox.changed
        while not self._at_rest(sent):
            self._check_edges()
            changed.clear()
            try:
                async with asyncio.timeout(BARRIER_TIMEOUT_S):
                    await changed.wait()
            except TimeoutError:
                raise RemoteError(f"no rest for {BARRIER_TIMEOUT_S:g} s: {self._unrest(sent)}") from None

    def _unrest(self, sent: dict[str, int] | None) -> str:
        received, told = self._edges.received(), sent or {}
        missing = [f"{c} {received.get(c, 0)} of {n} messages" for c, n in told.items() if received.get(c, 0) < n]
        cut = [] if sent is None else [f"{c} was cut and still counts as open" for c in received if c not in sent]
        return ", ".join([f"{self._edges.in_flight} in flight", *missing, *cut])

    def _at_rest(self, sent: dict[str, int] | None) -> bool:
        if self._edges.in_flight:
            return False
        if sent is None:
            return True
        received = self._edges.received()
        # A connection that the exchange names no more is cut there: the moment at which its feed notices must be this
        # step, not whichever one the race between sockets makes it.
        return received.keys() <= sent.keys() and all(received.get(c, count) >= count for c, count in sent.items())

    def _edge_timer_is_due(self) -> bool:
        due_ns = self._edge_timers.next_ns()
        return due_ns is not None and due_ns <= self._clock.now_ns()

    # ------------------------------------------------------------------------------------------- the wall drive

    async def run_wall(self, prepare: Callable[[], bool] = lambda: False) -> None:
        """Follow the wall clock until a stop request, then handle what is waiting or in flight, for a limited time.

        Args:
            prepare: called in idle moments, again and again while it says that it had something to do.
        """
        while True:
            await self._wait_for_work(prepare)
            self._check_edges()
            self._edge_timers.run_due()
            at_ns = max(self._clock.now_ns(), self._engine.at_ns)
            await self._perform(self._engine.advance(at_ns))
            for message in [*self._inbox.take(), *self._edges.drain_quotes(at_ns)]:
                await self._perform(self._engine.handle(at_ns, message))
            if self._stop_by_s is not None and len(self._inbox) == 0:
                if self._edges.in_flight == 0:
                    return
                if asyncio.get_running_loop().time() >= self._stop_by_s:
                    log.warning("drain_cut_short", in_flight=self._edges.in_flight)
                    return

    async def _wait_for_work(self, prepare: Callable[[], bool]) -> None:
        wait_s = QUOTE_FLUSH_S
        next_ns = self._next_timer_ns()
        if next_ns is not None:
            wait_s = min(wait_s, max(0.0, (next_ns - self._clock.now_ns()) / 1e9))
        if len(self._inbox):
            return
        self._inbox.changed.clear()
        while not self._inbox.changed.is_set() and prepare():  # noqa: ASYNC110 - it works, it does not wait
            await asyncio.sleep(0)  # what arrives meanwhile goes first
        try:
            async with asyncio.timeout(wait_s):
                await self._inbox.changed.wait()
        except TimeoutError:
            return

    # -------------------------------------------------------------------------------------------------- a turn

    async def _perform(self, turns: Iterable[Turn]) -> bool:
        """Store first, then effects, then journal and counters. Returns whether any effect left."""
        steps = iter(turns)
        sending = False
        while True:
            started_s = self._turn_since_s = time.perf_counter()
            before = self._engine.seq
            try:
                turn = next(steps, None)
                if turn is None:
                    self._turn_since_s = None
                    return sending
                took_s = time.perf_counter() - started_s
                await self._store.commit(turn.messages, turn.stamped)
            except BaseException:
                # The input that broke the core, or whose turn could not be made to last, is the one that a replay
                # needs most. An input that the engine refused has not become one.
                handling = self._engine.handling
                if handling is not None and self._engine.seq != before:
                    self._journal.write_input(handling)
                raise
            try:
                if self._send(turn):
                    sending = True
                    # The bookkeeping below takes longer than a request needs to its socket: an order goes first.
                    for _ in range(ROUNDS_TO_SOCKET):
                        await asyncio.sleep(0)
            finally:
                self._journal.write_input(turn.stamped)
                self._journal.write_outputs(turn.stamped.seq, turn.messages)
            for observe in self._observers:
                observe(turn, took_s)

    def _send(self, turn: Turn) -> bool:
        """Let a turn's effects leave; whether there were any."""
        effects = [message for message in turn.messages if isinstance(message, EFFECTS)]
        for effect in effects:
            self._edges.send(effect)
        return bool(effects)

    def _next_timer_ns(self) -> int | None:
        due = [t for t in (self._engine.next_timer_ns, self._edge_timers.next_ns()) if t is not None]
        return min(due) if due else None

"""The loop around the core, on an event loop whose time is virtual: order of commit and effects, barriers, drains."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import pytest

from oracle.core.clock import VirtualClock
from oracle.core.engine import Engine, Turn
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.errors import InvariantError, RemoteError, StoreError
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import ChainReadFailed, Quote
from oracle.core.message import Message
from oracle.core.messages import DrainRequested, Input, SendCancel, SetTimer, Stamped, TimerFired
from oracle.core.ports import Context
from oracle.daemon import BARRIER_TIMEOUT_S, DRAIN_TIMEOUT_S, QUOTE_FLUSH_S, ROUNDS_TO_SOCKET, Daemon, Effect
from oracle.edgetimers import Clock, EdgeTimers
from oracle.inbox import Inbox, Source
from oracle.pacing import Beat
from tests.unit.builders import OPEN_NS, TABLE, Chains

T0 = OPEN_NS
NS = 1_000_000_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: when nothing is ready, its time jumps to the next timer."""

    def __init__(self) -> None:
        self.now_s = 0.0
        loop = self

        class Jump(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> Any:
                if timeout is None:
                    raise AssertionError("nothing will ever happen: a deadlock")
                loop.now_s += max(0.0, timeout)
                return super().select(0)

        super().__init__(Jump())

    def time(self) -> float:
        return self.now_s


class LoopClock:
    """A wall clock that follows the loop's virtual time, and may be set back."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.shift_ns = T0

    def now_ns(self) -> int:
        return self.shift_ns + round(self._loop.time() * NS)


class Talker:
    """An actor that answers a note with what its script says."""

    def __init__(self) -> None:
        self.script: dict[str, tuple[Message, ...]] = {}
        self.heard: list[tuple[int, str]] = []

    def on_note(self, note: ChainReadFailed, context: Context) -> Iterable[Message]:
        self.heard.append((context.at_ns, note.text))
        return self.script.get(note.text, ())

    def on_other(self, message: Message, context: Context) -> Iterable[Message]:
        if not (isinstance(message, TimerFired) and message.timer_id.startswith(("session:", "equity:"))):
            self.heard.append((context.at_ns, type(message).__name__))
        return ()

    @property
    def words(self) -> list[str]:
        return [word for _, word in self.heard]


class Edges:
    """Hand-made edges: what was sent, what is in flight, what has been received, quotes that are due."""

    def __init__(self, trace: list[str]) -> None:
        self._trace = trace
        self.in_flight = 0
        self.counts: dict[str, int] = {}
        self.on_send: Callable[[Effect], None] = lambda _effect: None
        self.quotes: list[Input] = []
        self.drained_ns: list[int] = []

    def received(self) -> dict[str, int]:
        return dict(self.counts)

    def send(self, effect: Effect) -> None:
        self._trace.append(f"send {getattr(effect, 'client_order_id', '?')}")
        self.on_send(effect)

    def drain_quotes(self, at_ns: int) -> Iterable[Input]:
        self.drained_ns.append(at_ns)
        due, self.quotes = self.quotes, []
        return due


class Store:
    """Notes each commit and when it is over; may fail."""

    def __init__(self, trace: list[str]) -> None:
        self._trace = trace
        self.fault: StoreError | None = None

    async def commit(self, messages: Sequence[Message], stamped: Stamped) -> int:
        self._trace.append(f"begin {word_of(stamped.input)}")
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        self._trace.append(f"commit {word_of(stamped.input)}")
        return len(messages)


class Journal:
    """Notes what is appended."""

    def __init__(self, trace: list[str]) -> None:
        self._trace = trace

    def write_input(self, stamped: Stamped) -> None:
        self._trace.append(f"input {stamped.seq}")

    def write_outputs(self, seq: int, messages: Sequence[Message]) -> None:
        self._trace.append(f"outputs {seq}:{len(messages)}")


class Exchange:
    """The exchange's end of the pacing socket as a list of beats; ``on_sync`` gives the counts of a sync."""

    def __init__(self, beats: Sequence[Beat]) -> None:
        self._beats = list(beats)
        self.said: list[tuple[Any, ...]] = []
        self.on_sync: Callable[[], dict[str, int]] = dict

    async def ready(self) -> None:
        self.said.append(("ready",))

    async def beat(self) -> Beat:
        if not self._beats:
            await asyncio.get_running_loop().create_future()
        return self._beats.pop(0)

    async def sync(self) -> Beat:
        self.said.append(("sync",))
        await asyncio.sleep(0)
        return Beat("more", 0, 0, self.on_sync())

    async def handled(self, n: int, received: Mapping[str, int], next_timer_ns: int | None) -> None:
        self.said.append(("handled", n, dict(received), next_timer_ns))


def word_of(message: Message) -> str:
    return message.text if isinstance(message, ChainReadFailed) else type(message).__name__


def note(word: str) -> Input:
    return ChainReadFailed("SPY", "2026-01-05", word)


def quote(symbol: str = "SPY") -> Quote:
    return Quote(symbol, T0, 1.0, 1, 1.1, 1)


def cancel(name: str) -> SendCancel:
    return SendCancel(name, "b")


class World:
    """A daemon around a real engine, with every port in the test's hands."""

    def __init__(self, loop: VirtualLoop, clock: Clock | None = None) -> None:
        self.loop = loop
        self.virtual = VirtualClock(T0)
        self.clock = clock or self.virtual
        self.trace: list[str] = []
        self.edges, self.store = Edges(self.trace), Store(self.trace)
        self.talker, self.inbox = Talker(), Inbox()
        self.timers = EdgeTimers(self.clock, self.inbox.changed.set)
        self.fault: Exception | None = None
        self.turns: list[Turn] = []
        market, ledger, chains = MarketState(), Ledger(), Chains()
        self.engine = Engine(
            TABLE, market, chains, ledger, EquityKeeper(ledger, Marks(market, chains, 15, ledger.held))
        )
        others = (Quote, TimerFired, DrainRequested)
        self.engine.bus.subscribe(
            ((ChainReadFailed, self.talker.on_note), *((kind, self.talker.on_other) for kind in others))
        )
        self.engine.start(T0)
        self.daemon = Daemon(
            engine=self.engine, inbox=self.inbox, edges=self.edges, store=self.store, journal=Journal(self.trace),
            clock=self.clock, edge_timers=self.timers, observers=(lambda turn, _s: self.turns.append(turn),),
            check_edges=self.check,
        )  # fmt: skip

    def check(self) -> None:
        if self.fault is not None:
            raise self.fault

    def paced(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        return self.daemon.run_paced(exchange, self.virtual.advance)  # type: ignore[arg-type]


def play(work: Callable[[VirtualLoop], Coroutine[Any, Any, None]]) -> None:
    """Run a test on a loop of its own."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(work(loop))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def end(n: int = 1, sent: dict[str, int] | None = None) -> Beat:
    return Beat("end", n, T0 + n * NS, sent or {})


def test_a_commit_precedes_its_effects_and_the_journal_follows() -> None:
    async def work(loop: VirtualLoop) -> None:
        world = World(loop)
        world.talker.script["go"] = (cancel("a"), SetTimer("x:y", T0 + 5 * NS), cancel("b"))
        world.inbox.put(Source.STOCK, note("go"))
        await world.paced(Exchange([end()]))
        at = world.trace.index("begin go")
        seq = next(t.stamped.seq for t in world.turns if t.stamped.input == note("go"))
        assert world.trace[at : at + 6] == [
            "begin go", "commit go", "send a", "send b", f"input {seq}", f"outputs {seq}:3",
        ]  # fmt: skip

    play(work)


def test_each_turn_is_finished_before_the_next_is_made() -> None:
    async def work(loop: VirtualLoop) -> None:
        world = World(loop)
        world.talker.script["one"] = (cancel("a"),)
        for word in ("one", "two"):
            world.inbox.put(Source.STOCK, note(word))
        await world.paced(Exchange([end()]))
        assert world.trace.index("send a") < world.trace.index("begin two")
        assert [t.stamped.seq for t in world.turns] == list(range(1, len(world.turns) + 1))

    play(work)


def test_a_failing_commit_sends_nothing_and_ends_the_run() -> None:
    async def work(loop: VirtualLoop) -> None:
        world = World(loop)
        list(world.engine.advance(T0))  # the session's opening is not what this test is about
        world.talker.script["go"] = (cancel("a"),)
        world.inbox.put(Source.STOCK, note("go"))
        world.inbox.put(Source.STOCK, note("after"))
        world.store.fault = StoreError("disk full")
        with pytest.raises(StoreError, match="disk full"):
            await world.paced(Exchange([end()]))
        # Nothing left, and the input is on record without its outputs.
        assert world.trace == ["begin go", f"input {world.engine.seq}"]
        assert world.turns == []

    play(work)


def test_an_input_that_breaks_the_core_is_on_record_and_one_that_it_refuses_is_not() -> None:
    async def work(loop: VirtualLoop) -> None:
        world = World(loop)

        def broken(_message: Message, _context: Context) -> Iterable[Message]:
            raise InvariantError("broken")

        world.engine.bus.subscribe(((Quote, broken),))
        list(world.engine.advance(T0))
        world.inbox.put(Source.STOCK, quote())
        with pytest.raises(InvariantError, match="broken"):
            await world.paced(Exchange([end()]))
        assert world.trace == [f"input {world.engine.seq}"]
        with pytest.raises(InvariantError, match="after one at"):
            await world.daemon._perform(world.engine.handle(T0 - 1, note("late")))
        assert world.trace == [f"input {world.engine.seq}"]

    play(work)


def test_after_effects_only_the_full_set_is_handled_and_in_order() -> None:
    """The answer comes first on the wall, the trade update last: the core hears the trade update first."""

    async def work(loop: VirtualLoop) -> None:
        world, exchange = World(loop), Exchange([Beat("step", 1, T0 + NS, {"t": 1}), end(2, {"t": 1})])

        def answered() -> None:
            world.inbox.put(Source.ANSWER, note("answer"), 1)
            world.edges.in_flight = 0

        def told() -> None:
            world.inbox.put(Source.TRADING, note("trade update"))
            world.edges.counts["t"] = 1

        def on_send(_effect: Effect) -> None:
            world.edges.in_flight = 1
            world.edges.counts.setdefault("t", 0)
            loop.call_later(0.1, answered)

        def on_sync() -> dict[str, int]:
            assert world.edges.in_flight == 0, "asked before every request was answered"
            if world.edges.counts["t"] == 0:
                loop.call_later(0.2, told)
            return {"t": 1}

        world.edges.on_send, exchange.on_sync = on_send, on_sync
        world.talker.script["go"] = (cancel("a"),)
        world.inbox.put(Source.STOCK, note("go"))
        await world.paced(exchange)
        assert world.talker.words[:3] == ["go", "trade update", "answer"]
        assert {at_ns for at_ns, _ in world.talker.heard} == {T0}, "time moved while something was in flight"
        assert exchange.said[:3] == [("sync",), ("ready",), ("handled", 1, {"t": 1}, world.engine.next_timer_ns)]

    play(work)


def test_a_step_is_handled_only_when_all_its_frames_are_here() -> None:
    async def work(loop: VirtualLoop) -> None:
        world = World(loop)
        world.edges.counts = {"stock": 1, "option": 0}

        def late() -> None:
            world.inbox.put(Source.OPTION, note("option frame"))
            world.edges.counts["option"] = 2
            world.inbox.changed.set()

        def early() -> None:
            world.inbox.put(Source.STOCK, note("stock frame"))
            world.edges.counts["stock"] = 3
            world.inbox.changed.set()

        loop.call_later(1, late)
        loop.call_later(2, early)
        step = Beat("step", 1, T0 + NS, {"stock": 3, "option": 2})
        await world.paced(Exchange([step, end(2, step.sent)]))
        assert world.talker.heard == [(T0 + NS, "stock frame"), (T0 + NS, "option frame")]
        assert loop.now_s == pytest.approx(2)

    play(work)


def test_a_cut_is_noticed_in_the_step_of_the_cut() -> None:
    """The exchange names a connection no more: time waits until its feed has noticed and said so."""

    async def work(loop: VirtualLoop) -> None:
        world = World(loop)
        world.edges.counts = {"stock-1": 5}

        def noticed() -> None:
            world.edges.counts = {}
            world.inbox.put(Source.STOCK, note("feed is down"))

        loop.call_later(3, noticed)
        await world.paced(Exchange([Beat("step", 1, T0 + NS, {}), end(2)]))
        assert world.talker.heard == [(T0 + NS, "feed is down")]
        assert loop.now_s == pytest.approx(3)

    play(work)


def test_a_cut_that_is_never_noticed_ends_the_run_and_is_named() -> None:
    async def work(loop: VirtualLoop) -> None:
        world = World(loop)
        world.edges.counts = {"stock-1": 5}
        with pytest.raises(RemoteError, match=r"stock-1 was cut"):
            await world.paced(Exchange([Beat("step", 1, T0 + NS, {})]))

    play(work)


def test_a_connection_that_a_timer_opens_is_compared_with_fresh_counts() -> None:
    """The step was sent before the connection existed: its counts say nothing of it."""

    async def work(loop: VirtualLoop) -> None:
        world = World(loop)
        exchange = Exchange([Beat("step", 1, T0 + NS, {}), end(2, {"stock-2": 0})])
        exchange.on_sync = lambda: {"stock-2": 0}
        world.timers.call_at(T0 + NS, lambda: world.edges.counts.update({"stock-2": 0}))
        await world.paced(exchange)
        assert ("handled", 1, {"stock-2": 0}, world.engine.next_timer_ns) in exchange.said

    play(work)


def test_an_edge_that_does_not_come_to_rest_ends_the_run_and_is_named() -> None:
    async def work(loop: VirtualLoop) -> None:
        world = World(loop)
        world.edges.counts = {"stock": 1}
        with pytest.raises(RemoteError, match=r"stock 1 of 7"):
            await world.paced(Exchange([Beat("step", 1, T0 + NS, {"stock": 7})]))
        assert loop.now_s == pytest.approx(BARRIER_TIMEOUT_S)

    play(work)


@pytest.mark.parametrize("busy", [0, 1])
def test_a_failed_edge_ends_a_paced_run_at_rest_or_not(busy: int) -> None:
    async def work(loop: VirtualLoop) -> None:
        world = World(loop)
        world.edges.in_flight = busy
        world.fault = InvariantError("an edge's task failed")
        with pytest.raises(InvariantError, match="task failed"):
            await world.paced(Exchange([Beat("step", 1, T0 + NS), end(2)]))

    play(work)


def test_timers_of_core_and_edge_run_before_inputs_at_the_same_time() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, exchange = World(loop), Exchange([Beat("step", 1, T0 + 10 * NS), end(20)])
        world.talker.script["arm"] = (SetTimer("x:y", T0 + 10 * NS),)
        world.inbox.put(Source.STOCK, note("arm"))
        world.timers.call_at(T0 + 10 * NS, lambda: world.inbox.put(Source.OPTION, note("by the edge's timer")))
        world.edges.on_send = lambda _effect: None
        await world.paced(exchange)
        assert world.talker.words == ["arm", "TimerFired", "by the edge's timer"]

    play(work)


def test_what_an_edge_timer_starts_is_waited_for_within_the_step() -> None:
    async def work(loop: VirtualLoop) -> None:
        world = World(loop)

        def reconnected() -> None:
            world.edges.in_flight = 0
            world.inbox.put(Source.STOCK, note("feed is live"))

        def reconnect() -> None:
            world.edges.in_flight = 1
            loop.call_later(3, reconnected)

        world.timers.call_at(T0 + NS, reconnect)
        exchange = Exchange([Beat("step", 1, T0 + NS), end(2)])
        await world.paced(exchange)
        assert world.talker.heard == [(T0 + NS, "feed is live")]
        # An edge's timer must not be slept over: it is named while it is the earliest.
        assert exchange.said[0] == ("ready",)

    play(work)


def test_the_earliest_timer_is_told_whoever_set_it() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, exchange = World(loop), Exchange([Beat("step", 1, T0 + NS), end(2)])
        world.timers.call_at(T0 + 7 * NS, lambda: None)
        await world.paced(exchange)
        assert exchange.said[-1] == ("handled", 1, {}, T0 + 7 * NS)

    play(work)


def test_a_stop_request_ends_a_paced_run_even_while_the_exchange_is_silent() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, exchange = World(loop), Exchange([])
        world.talker.script["x"] = (cancel("a"),)
        loop.call_later(5, world.daemon.request_stop, "test", "enough")
        await world.paced(exchange)
        assert world.talker.words == ["DrainRequested"]
        assert loop.now_s == pytest.approx(5)

    play(work)


def test_a_stop_request_within_a_step_lets_the_step_finish() -> None:
    async def work(loop: VirtualLoop) -> None:
        world = World(loop)
        exchange = Exchange([Beat("step", n, T0 + n * NS) for n in range(1, 100)])
        world.timers.call_at(T0 + 3 * NS, lambda: world.daemon.request_stop("test", "enough"))
        await world.paced(exchange)
        assert world.talker.words == ["DrainRequested"]
        assert [row[1] for row in exchange.said if row[0] == "handled"] == [1, 2]

    play(work)


# --------------------------------------------------------------------------------------------------- the wall drive


def wall(loop: VirtualLoop) -> tuple[World, LoopClock]:
    clock = LoopClock(loop)
    return World(loop, clock), clock


def test_on_the_wall_clock_inputs_are_handled_at_once_and_timers_when_due() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, _ = wall(loop)
        world.talker.script["arm"] = (SetTimer("x:y", T0 + 1_100_000_000),)
        loop.call_later(0.61, world.inbox.put, Source.STOCK, note("arm"))
        loop.call_later(2, world.daemon.request_stop, "test", "enough")
        await world.daemon.run_wall()
        assert [word for _, word in world.talker.heard] == ["arm", "TimerFired", "DrainRequested"]
        times_s = [(at_ns - T0) / NS for at_ns, _ in world.talker.heard]
        assert times_s == pytest.approx([0.61, 1.1, 2.0], abs=1e-6)

    play(work)


def test_on_the_wall_clock_quotes_wait_no_longer_than_a_flush() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, _ = wall(loop)
        loop.call_later(1.01, lambda: world.edges.quotes.append(quote()))
        loop.call_later(3, world.daemon.request_stop, "test", "enough")
        await world.daemon.run_wall()
        ((at_ns, word), _) = world.talker.heard
        assert word == "Quote"
        assert 0 <= (at_ns - T0) / NS - 1.01 <= QUOTE_FLUSH_S
        gaps = [b - a for a, b in zip(world.edges.drained_ns, world.edges.drained_ns[1:], strict=False)]
        assert max(gaps) <= QUOTE_FLUSH_S * NS + 1_000
        assert len(gaps) < 3 / QUOTE_FLUSH_S + 10, "the loop spins"

    play(work)


def test_on_the_wall_clock_edge_timers_run_when_due() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, _ = wall(loop)
        ran: list[float] = []
        world.timers.call_at(T0 + 700_000_000, lambda: ran.append(loop.now_s))
        loop.call_later(1, world.daemon.request_stop, "test", "enough")
        await world.daemon.run_wall()
        assert ran == pytest.approx([0.7])

    play(work)


def test_a_clock_that_is_set_back_does_not_move_the_core_back() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, clock = wall(loop)
        loop.call_later(5, world.inbox.put, Source.STOCK, note("before"))
        loop.call_later(6, lambda: setattr(clock, "shift_ns", T0 - 3600 * NS))
        loop.call_later(7, world.inbox.put, Source.STOCK, note("after"))
        loop.call_later(8, world.daemon.request_stop, "test", "enough")
        await world.daemon.run_wall()
        times = [at_ns for at_ns, _ in world.talker.heard]
        assert world.talker.words == ["before", "after", "DrainRequested"]
        assert times == sorted(times)

    play(work)


def test_a_drain_waits_for_what_is_in_flight() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, _ = wall(loop)

        def canceled() -> None:
            world.edges.in_flight = 0
            world.inbox.put(Source.TRADING, note("canceled"))

        def on_send(_effect: Effect) -> None:
            world.edges.in_flight = 1
            loop.call_later(1.5, canceled)

        world.edges.on_send = on_send
        world.talker.script["last"] = (cancel("a"),)
        world.inbox.put(Source.STOCK, note("last"))
        world.daemon.request_stop("test", "enough")
        await world.daemon.run_wall()
        assert world.talker.words == ["DrainRequested", "last", "canceled"]
        assert loop.now_s == pytest.approx(1.5, abs=0.01)

    play(work)


def test_a_drain_does_not_wait_for_an_edge_that_never_rests() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, _ = wall(loop)
        world.edges.in_flight = 1
        loop.call_later(4, world.daemon.request_stop, "test", "enough")
        await world.daemon.run_wall()
        assert loop.now_s == pytest.approx(4 + DRAIN_TIMEOUT_S, abs=2 * QUOTE_FLUSH_S)

    play(work)


def test_a_failed_edge_ends_a_run_on_the_wall_clock() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, _ = wall(loop)
        loop.call_later(1, lambda: setattr(world, "fault", InvariantError("an edge's task failed")))
        with pytest.raises(InvariantError, match="task failed"):
            await world.daemon.run_wall()
        assert loop.now_s <= 1 + 2 * QUOTE_FLUSH_S

    play(work)


def test_an_effect_has_rounds_of_the_loop_to_leave_before_the_bookkeeping() -> None:
    async def work(loop: VirtualLoop) -> None:
        world = World(loop)
        world.talker.script["go"] = (cancel("a"),)

        async def request() -> None:
            for _ in range(ROUNDS_TO_SOCKET - 1):
                await asyncio.sleep(0)
            world.trace.append("on the socket")

        running: list[asyncio.Task[None]] = []
        world.edges.on_send = lambda _effect: running.append(loop.create_task(request()))
        world.inbox.put(Source.STOCK, note("go"))
        await world.paced(Exchange([end()]))
        at = world.trace.index("send a")
        assert world.trace[at + 1] == "on the socket"
        assert world.trace[at + 2].startswith("input ")

    play(work)


def test_idle_moments_prepare_until_there_is_nothing_left_or_an_input_comes() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, _ = wall(loop)
        left = [3]

        def prepare() -> bool:
            world.trace.append("prepare" if left[0] else "nothing to prepare")
            if left[0] == 2:
                world.inbox.put(Source.STOCK, note("comes"))
            left[0] = max(0, left[0] - 1)
            return left[0] > 0

        loop.call_later(0.5, world.daemon.request_stop, "test", "enough")
        await world.daemon.run_wall(prepare)
        told = [entry for entry in world.trace if entry.startswith(("prepare", "begin comes", "nothing"))]
        assert told[:4] == ["prepare", "prepare", "begin comes", "prepare"]
        assert len(told) < 20, "the loop spins"

    play(work)

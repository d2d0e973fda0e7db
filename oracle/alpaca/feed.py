"""A supervised feed: carries out what its ``Supervisor`` decides, one connection at a time.

Inputs: a socket, business timers, wishes (symbols). Outputs: core messages to a synchronous sink. Business time comes
from ``BusinessTimers``; connecting, acknowledgements and pings run on the wall clock. Invariants: a malformed message
costs itself only; every connection is closed before the next is opened.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import structlog

from oracle.alpaca.failures import Failure, Kind, kind_of_code
from oracle.alpaca.fields import MalformedError
from oracle.alpaca.rejections import Rejections
from oracle.alpaca.streams import Connection, RefusedError, failure_of, refusal_of
from oracle.alpaca.supervisor import (
    Action,
    Alarm,
    Backfill,
    Close,
    Connect,
    Phase,
    Subscribe,
    Supervisor,
    WaitUntil,
)
from oracle.core.errors import ProtocolError, RemoteError
from oracle.core.marketdata import FeedChanged
from oracle.core.message import Message
from oracle.core.vocabulary import Feed

HANDSHAKE_TIMEOUT_S = 10.0
ACK_TIMEOUT_S = 10.0
MessageSink = Callable[[Feed, Message], None]
Cancel = Callable[[], None]


class BusinessTimers(Protocol):
    """Time as the feeds' watchdogs and back-off know it: exchange time when paced, else the wall clock.

    Both run on the event loop. A timer that is pending counts for the pacing protocol's ``next_timer_ns``.
    """

    def now_ns(self) -> int:
        """The present instant, UTC ns."""
        ...

    def call_at(self, at_ns: int, callback: Callable[[], None]) -> Cancel:
        """Call back once at ``at_ns`` (at once when past, but not before returning). Returns a cancel function."""
        ...


def _nothing() -> None:
    """Nobody waits."""


class DeniedError(RemoteError):
    """A subscription was refused, or acknowledged as something else than was asked."""


class SupervisedFeed(ABC):
    """What the three feeds share. Run ``run()`` as a task; cancel it to close the feed."""

    def __init__(self, supervisor: Supervisor, timers: BusinessTimers, sink: MessageSink) -> None:
        self.feed = supervisor.feed
        self.supervisor = supervisor
        self.received = 0
        self.reconnects = 0
        self.rejections = Rejections(f"{self.feed.value}_stream")
        self._timers = timers
        self._sink = sink
        self._connection: Connection | None = None
        self._connect_wanted = asyncio.Event()
        self._close_wanted: asyncio.Future[Failure] | None = None
        # Bounded by what can be asked: a subscription that waits serves every later wish for one.
        self._jobs: asyncio.Queue[Subscribe | Backfill | Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._subscribe_waits = False
        self._working = 0
        self._ack: asyncio.Future[dict[str, Any]] | None = None
        self._ended: Failure | None = None
        self._timer: Cancel | None = None
        self._heard = False
        # Called after each frame and each finished piece of work: who waits for the feed to rest looks again.
        self.on_activity: Callable[[], None] = _nothing
        self._log = structlog.get_logger(__name__).bind(feed=self.feed.value)

    # ---------------------------------------------------------------------------------------- what others may read

    @property
    def connection_id(self) -> str | None:
        """The exchange's name for the open connection; None when there is none, and at the real vendor."""
        return None if self._connection is None else self._connection.connection_id

    @property
    def in_flight(self) -> bool:
        """Whether transport work is under way: connecting, closing, awaiting an acknowledgement, back-filling."""
        return self._working > 0 or self.supervisor.phase in (Phase.CONNECTING, Phase.CLOSING)

    # ------------------------------------------------------------------------------------------- what subclasses do

    @abstractmethod
    def _connect(self) -> Connection:
        """Make a connection object, not yet open."""

    @abstractmethod
    async def _subscribe(self, connection: Connection) -> None:
        """Bring subscriptions to what is wanted; raises DeniedError."""

    @abstractmethod
    def _on_frame(self, messages: list[Any]) -> None:
        """Count and hand on a frame; never raises for what the remote sent."""

    async def _backfill(self, from_ns: int | None) -> None:
        """Fetch and emit what was missed. Raises RemoteError. Nothing to do for most feeds."""
        del from_ns

    def _caught_up(self) -> None:  # noqa: B027 - most feeds hold nothing back
        """Called when everything missed has been emitted, after FeedChanged(LIVE) where the feed is live."""

    # ------------------------------------------------------------------------------------------------------ the life

    async def run(self) -> None:
        """Keep the feed connected until cancelled. Raises only for faults of ours."""
        self._perform(self.supervisor.start(self._timers.now_ns()))
        try:
            while True:
                await self._connect_wanted.wait()
                self._connect_wanted.clear()
                failure = await self._one_connection()
                self.reconnects += 1
                self._perform(self.supervisor.failed(self._timers.now_ns(), failure))
                self.on_activity()
        finally:
            self._wait_until(None)

    async def _one_connection(self) -> Failure:
        """Live through one connection and say why it ended; it is closed when this returns."""
        connection = self._connect()
        tasks: list[asyncio.Task[Any]] = []
        self._close_wanted = asyncio.get_running_loop().create_future()
        self._ended = None
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await connection.open()
            self._connection, self.received = connection, 0
            self._perform(self.supervisor.opened(self._timers.now_ns()))
            tasks = [asyncio.create_task(connection.consume()), asyncio.create_task(self._work(connection))]
            await asyncio.wait([*tasks, self._close_wanted], return_when=asyncio.FIRST_COMPLETED)
            return self._ending(tasks)
        except Exception as error:
            return failure_of(error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await connection.shut()
            self._connection = None
            # Last, without awaiting after it: a wish made while closing must not count as work in flight.
            self._drop_jobs()

    def _ending(self, tasks: list[asyncio.Task[Any]]) -> Failure:
        """Why a connection ended: what the vendor said, then the watchdog, then what a task raised."""
        faults = [task.exception() for task in tasks if task.done()]
        for fault in faults:
            if fault is not None:
                failure = failure_of(fault)
                return self._ended or failure
        if self._ended is not None:
            return self._ended
        if self._close_wanted is not None and self._close_wanted.done():
            return self._close_wanted.result()
        return Failure(Kind.CLOSED, "the stream ended without an error")

    async def _work(self, connection: Connection) -> None:
        """Carry out subscriptions, back-fills and what else is asked for on this connection, one after another."""
        while True:
            job = await self._jobs.get()
            if isinstance(job, Subscribe):
                self._subscribe_waits = False
                try:
                    await self._subscribe(connection)
                except DeniedError as error:
                    actions = self.supervisor.denied(self._timers.now_ns(), str(error))
                else:
                    actions = self.supervisor.acked(self._timers.now_ns())
                self._perform(actions)
            elif not isinstance(job, Backfill):
                await job()
            else:
                try:
                    await self._backfill(job.from_ns)
                except RemoteError as error:
                    self._perform(self.supervisor.backfill_failed(self._timers.now_ns(), str(error)))
                else:
                    self._perform(self.supervisor.backfilled(self._timers.now_ns()))
                    # While a part of the subscription is denied, the rest flows: exits use it.
                    if self.supervisor.phase in (Phase.LIVE, Phase.DENIED):
                        self._caught_up()
            self._working -= 1
            self.on_activity()

    def _frame(self, messages: list[Any]) -> None:
        self._on_frame(messages)
        self.on_activity()

    def _drop_jobs(self) -> None:
        while not self._jobs.empty():
            self._jobs.get_nowait()
        self._working, self._subscribe_waits = 0, False
        self._ack = None

    # --------------------------------------------------------------------------------------------------- actions

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, FeedChanged):
                self._log.debug("feed", state=action.state.value, epoch=action.epoch, reason=action.reason)
                self._sink(self.feed, action)
            elif isinstance(action, WaitUntil):
                self._wait_until(action.at_ns)
            elif isinstance(action, Connect):
                self._connect_wanted.set()
            elif isinstance(action, Close):
                if self._close_wanted is not None and not self._close_wanted.done():
                    self._close_wanted.set_result(action.failure)
            elif isinstance(action, Alarm):
                self._log.error("feed_alarm", reason=action.text)
            elif not (isinstance(action, Subscribe) and self._subscribe_waits):
                self._subscribe_waits = self._subscribe_waits or isinstance(action, Subscribe)
                self._put_job(action)

    def _put_job(self, job: Subscribe | Backfill | Callable[[], Awaitable[None]]) -> None:
        """Let the open connection's worker carry something out; it is dropped when the connection ends before."""
        self._jobs.put_nowait(job)
        self._working += 1

    def _wait_until(self, at_ns: int | None) -> None:
        if self._timer is not None:
            self._timer()
        self._timer = None if at_ns is None else self._timers.call_at(at_ns, self._due)

    def note_alive(self) -> None:
        """Tell the supervisor of the canaries heard since the last call; the daemon calls it in every round.

        Not from the frame handler: when frames race with the step that they belong to, their time would depend on it.
        """
        if self._heard:
            self._heard = False
            self.supervisor.canary(self._timers.now_ns())

    def _due(self) -> None:
        self._timer = None
        self.note_alive()
        self._perform(self.supervisor.due(self._timers.now_ns()))

    # --------------------------------------------------------------------------------------------- control messages

    async def _acknowledged(self, send: Callable[[], Any]) -> dict[str, Any]:
        """Send something and await its acknowledgement. Raises TimeoutError, or DeniedError when it is refused."""
        if self._ack is not None:
            raise ProtocolError("two acknowledgements are awaited at once")
        ack: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._ack = ack
        try:
            await send()
            async with asyncio.timeout(ACK_TIMEOUT_S):
                return await ack
        except TimeoutError:
            raise TimeoutError(f"no acknowledgement within {ACK_TIMEOUT_S} s") from None
        finally:
            self._ack = None

    def _on_ack(self, message: dict[str, Any]) -> None:
        if self._ack is not None and not self._ack.done():
            self._ack.set_result(message)
        else:
            self.rejections.note("control.unasked_ack", str(message)[:200])

    def _on_error(self, message: Mapping[str, Any]) -> None:
        """An error message: some end the connection, others answer a subscription."""
        failure = refusal_of(message)
        if kind_of_code(str(message.get("code", ""))) is not None:
            self._end(failure)
        elif self._ack is not None and not self._ack.done():
            self._ack.set_exception(DeniedError(failure.text))
        else:
            self.rejections.note(f"error.{message.get('code')}"[:40], failure.text)

    def _end(self, failure: Failure) -> None:
        """Give the connection up for a reason that the vendor told."""
        self._ended = self._ended or failure
        if self._close_wanted is not None and not self._close_wanted.done():
            self._close_wanted.set_result(failure)

    def _malformed(self, error: MalformedError) -> None:
        self.rejections.add(error)


__all__ = ["BusinessTimers", "DeniedError", "MessageSink", "RefusedError", "SupervisedFeed"]

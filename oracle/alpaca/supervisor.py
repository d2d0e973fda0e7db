"""The life of one supervised feed as a pure state machine: no sockets, no loop, no clock (``at_ns`` comes in).

Inputs: what happened (opened, acknowledged, back-filled, failed, a canary, a timer). Outputs: actions to take and
``FeedChanged`` facts. Invariants: LIVE only after acknowledgement and back-fill; back-off never shrinks below its
class's floor; a mute socket is told from a quiet one by the canary, in session only.
"""

from enum import StrEnum

import msgspec

from oracle.alpaca.failures import POLICIES, Failure, Kind, backoff_ns
from oracle.core.errors import ProtocolError
from oracle.core.marketdata import FeedChanged
from oracle.core.sessions import SessionTable
from oracle.core.vocabulary import Feed, FeedState

NS = 1_000_000_000
STABLE_AFTER_NS = 60 * NS
DENIED_RETRY_NS = 60 * NS
BACKFILL_OVERLAP_NS = 120 * NS


# --------------------------------------------------------------------------------------------------- what to do


class Connect(msgspec.Struct, frozen=True):
    """Open a new connection."""

    epoch: int


class Subscribe(msgspec.Struct, frozen=True):
    """Bring the connection's subscriptions to what is wanted now, then report ``acked`` or ``denied``."""


class Backfill(msgspec.Struct, frozen=True):
    """Fetch what was missed since ``from_ns`` (None: nothing was ever seen), then report."""

    from_ns: int | None


class Close(msgspec.Struct, frozen=True):
    """Close the connection, then report ``failed``."""

    failure: Failure


class WaitUntil(msgspec.Struct, frozen=True):
    """Call ``due`` at this instant; replaces the earlier wish. None: no wish."""

    at_ns: int | None


class Alarm(msgspec.Struct, frozen=True):
    """Tell the operator."""

    text: str


Action = Connect | Subscribe | Backfill | Close | WaitUntil | Alarm | FeedChanged


# ------------------------------------------------------------------------------------------------------- table


class Phase(StrEnum):
    """Where the feed is."""

    IDLE = "idle"
    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"
    DENIED = "denied"
    BACKFILLING = "backfilling"
    LIVE = "live"
    CLOSING = "closing"
    WAITING = "waiting"


class Event(StrEnum):
    """What can happen to it."""

    START = "start"
    RETRY = "retry"
    OPENED = "opened"
    CHANGED = "changed"
    ACKED = "acked"
    DENIED = "denied"
    GAP = "gap"
    BACKFILLED = "backfilled"
    BACKFILL_FAILED = "backfill_failed"
    MUTE = "mute"
    FAILED = "failed"


P, E = Phase, Event
TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (P.IDLE, E.START): P.CONNECTING,
    (P.WAITING, E.RETRY): P.CONNECTING,
    (P.CONNECTING, E.OPENED): P.SUBSCRIBING,
    (P.SUBSCRIBING, E.ACKED): P.BACKFILLING,
    (P.SUBSCRIBING, E.DENIED): P.DENIED,
    (P.BACKFILLING, E.BACKFILLED): P.LIVE,
    (P.BACKFILLING, E.BACKFILL_FAILED): P.BACKFILLING,
    (P.BACKFILLING, E.RETRY): P.BACKFILLING,
    # A bar that should have come did not: the connection is fine, what it left out is fetched.
    (P.LIVE, E.GAP): P.BACKFILLING,
    # A subscription is changed on an open connection without leaving the state; only a refusal does.
    (P.LIVE, E.CHANGED): P.LIVE,
    (P.LIVE, E.ACKED): P.LIVE,
    (P.LIVE, E.DENIED): P.DENIED,
    (P.BACKFILLING, E.CHANGED): P.BACKFILLING,
    (P.BACKFILLING, E.ACKED): P.BACKFILLING,
    (P.BACKFILLING, E.DENIED): P.DENIED,
    # Denied data still flow for what was accepted (exits use them); the wish is repeated on the same socket.
    (P.DENIED, E.CHANGED): P.SUBSCRIBING,
    (P.DENIED, E.RETRY): P.SUBSCRIBING,
    # Two changes in a row: the first was refused, the second stands.
    (P.DENIED, E.ACKED): P.BACKFILLING,
    (P.DENIED, E.DENIED): P.DENIED,
    # A back-fill that was under way when a later change was denied; another follows the next acknowledgement.
    (P.DENIED, E.BACKFILLED): P.DENIED,
    (P.DENIED, E.BACKFILL_FAILED): P.DENIED,
    (P.SUBSCRIBING, E.BACKFILLED): P.SUBSCRIBING,
    (P.SUBSCRIBING, E.BACKFILL_FAILED): P.SUBSCRIBING,
    # Results of work that was under way when the connection was given up.
    (P.CLOSING, E.ACKED): P.CLOSING,
    (P.CLOSING, E.DENIED): P.CLOSING,
    (P.CLOSING, E.BACKFILLED): P.CLOSING,
    (P.CLOSING, E.BACKFILL_FAILED): P.CLOSING,
    # Wishes made while there is no usable connection are read when there is one.
    (P.IDLE, E.CHANGED): P.IDLE,
    (P.CONNECTING, E.CHANGED): P.CONNECTING,
    (P.SUBSCRIBING, E.CHANGED): P.SUBSCRIBING,
    (P.CLOSING, E.CHANGED): P.CLOSING,
    (P.WAITING, E.CHANGED): P.WAITING,
    (P.DENIED, E.MUTE): P.CLOSING,
    (P.BACKFILLING, E.MUTE): P.CLOSING,
    (P.LIVE, E.MUTE): P.CLOSING,
    (P.CONNECTING, E.FAILED): P.WAITING,
    (P.SUBSCRIBING, E.FAILED): P.WAITING,
    (P.DENIED, E.FAILED): P.WAITING,
    (P.BACKFILLING, E.FAILED): P.WAITING,
    (P.LIVE, E.FAILED): P.WAITING,
    (P.CLOSING, E.FAILED): P.WAITING,
}
del P, E
_WATCHED = (Phase.DENIED, Phase.BACKFILLING, Phase.LIVE)


class Supervisor:
    """One feed's state. Methods are named after what happened and return what to do, in order.

    Args:
        feed: which stream.
        table: sessions; the watchdog works in regular hours only.
        stale_after_s: business seconds without a canary that mean mute; None switches the watchdog off.
        canary: what the canary is, in words for the reason (``SPY quote``).
    """

    def __init__(self, feed: Feed, table: SessionTable, stale_after_s: float | None = 12.0, canary: str = "") -> None:
        self.feed = feed
        self.phase = Phase.IDLE
        self.epoch = 0
        self._table = table
        self._stale_after_ns = None if stale_after_s is None else round(stale_after_s * NS)
        self._canary = canary
        self._state: FeedState | None = None
        self._failures = 0
        self._backfill_failures = 0
        self._retry_ns: int | None = None
        self._alive_ns = 0
        self._live_ns: int | None = None
        self._covered_ns: int | None = None
        self._watching = True

    # ------------------------------------------------------------------------------------------- what happened

    def start(self, at_ns: int) -> list[Action]:
        """Begin."""
        self._move(Event.START)
        return self._connect(at_ns, "start")

    def due(self, at_ns: int) -> list[Action]:
        """The instant that ``WaitUntil`` named has come (an early or repeated call does no harm)."""
        if self._retry_ns is not None and at_ns >= self._retry_ns:
            self._retry_ns = None
            before = self.phase
            self._move(Event.RETRY)
            if before is Phase.WAITING:
                return self._connect(at_ns, "retry")
            action: Action = Backfill(self._from_ns()) if before is Phase.BACKFILLING else Subscribe()
            return [action, self._wait(at_ns)]
        deadline_ns = self._mute_at(at_ns)
        if deadline_ns is not None and at_ns >= deadline_ns:
            silent_s = (at_ns - self._alive_ns) / NS
            text = f"no {self._canary or 'message'} for {silent_s:.1f} s in session"
            self._move(Event.MUTE)
            self._retry_ns = None
            return [*self._tell(FeedState.STALE, text), Close(Failure(Kind.STALE, text)), self._wait(at_ns)]
        return [self._wait(at_ns)]

    def opened(self, at_ns: int) -> list[Action]:
        """Connected and authenticated."""
        self._move(Event.OPENED)
        return [Subscribe(), self._wait(at_ns)]

    def changed(self, at_ns: int) -> list[Action]:
        """The wanted subscriptions changed."""
        before = self.phase
        self._move(Event.CHANGED)
        if before is Phase.DENIED:
            self._retry_ns = None
        subscribe = before in (Phase.LIVE, Phase.BACKFILLING, Phase.DENIED)
        return [Subscribe(), self._wait(at_ns)] if subscribe else []

    def acked(self, at_ns: int) -> list[Action]:
        """The acknowledgement equals what was asked."""
        before = self.phase
        self._move(Event.ACKED)
        if before not in (Phase.SUBSCRIBING, Phase.DENIED):
            return []
        self._retry_ns = None
        self._alive_ns = at_ns
        state = self._tell(FeedState.BACKFILLING, "subscribed and acknowledged")
        return [*state, Backfill(self._from_ns()), self._wait(at_ns)]

    def denied(self, at_ns: int, text: str) -> list[Action]:
        """The subscription was refused or acknowledged in part. What was accepted is back-filled and flows."""
        before = self.phase
        self._move(Event.DENIED)
        if self.phase is not Phase.DENIED:
            return []
        self._alive_ns = max(self._alive_ns, at_ns)
        self._live_ns = None
        self._retry_ns = at_ns + DENIED_RETRY_NS
        told = self._tell(FeedState.DOWN, f"subscription denied: {text}")
        missed: list[Action] = [Backfill(self._from_ns())] if before is Phase.SUBSCRIBING else []
        return [*told, Alarm(text), *missed, self._wait(at_ns)]

    def backfilled(self, at_ns: int) -> list[Action]:
        """Everything missed has been emitted."""
        self._move(Event.BACKFILLED)
        self._backfill_failures = 0
        if self.phase is not Phase.LIVE:
            return []
        # A gap on a connection that goes on does not make it a young one.
        self._live_ns = at_ns if self._live_ns is None else self._live_ns
        return [*self._tell(FeedState.LIVE, "gap-free"), self._wait(at_ns)]

    def backfill_failed(self, at_ns: int, text: str) -> list[Action]:
        """The missed data could not be fetched: not live until they can."""
        self._move(Event.BACKFILL_FAILED)
        if self.phase is not Phase.BACKFILLING:
            return []
        self._backfill_failures += 1
        wait_ns = backoff_ns(self.feed, self.epoch, self._backfill_failures, POLICIES[Kind.SERVER])
        self._retry_ns = at_ns + wait_ns
        return [*self._tell(FeedState.BACKFILLING, f"back-fill failed: {text}"), self._wait(at_ns)]

    def failed(self, at_ns: int, failure: Failure) -> list[Action]:
        """The connection is over and closed on our side."""
        self._move(Event.FAILED)
        stable = self._live_ns is not None and at_ns - self._live_ns >= STABLE_AFTER_NS
        self._failures = 1 if stable else self._failures + 1
        self._live_ns = None
        self._backfill_failures = 0
        policy = POLICIES[failure.kind]
        wait_ns = backoff_ns(self.feed, self.epoch, self._failures, policy)
        self._retry_ns = at_ns + wait_ns
        text = f"{failure.kind.value}: {failure.text}; next attempt in {wait_ns / NS:.1f} s"
        told = [] if failure.kind is Kind.STALE else self._tell(FeedState.DOWN, text)
        alarms: list[Action] = [Alarm(text)] if policy.alarm else []
        return [*told, *alarms, self._wait(at_ns)]

    def gap(self, at_ns: int, text: str) -> list[Action]:
        """Data that counted as whole are not, on a connection that goes on: fetch what is missing."""
        self._move(Event.GAP)
        return [*self._tell(FeedState.BACKFILLING, text), Backfill(self._from_ns()), self._wait(at_ns)]

    def unreadable(self, text: str) -> list[Action]:
        """A message that must not be lost could not be read: say LIVE anew, so that the account is read again."""
        return [FeedChanged(self.feed, self.epoch, FeedState.LIVE, text)] if self.phase is Phase.LIVE else []

    def canary(self, at_ns: int) -> None:
        """A message of the canary arrived. Called for each: it only notes the time."""
        self._alive_ns = at_ns

    def covered(self, start_ns: int) -> None:
        """Bars up to the one that starts at ``start_ns`` have been emitted."""
        if self._covered_ns is None or start_ns > self._covered_ns:
            self._covered_ns = start_ns

    def watch(self, on: bool, at_ns: int, canary: str | None = None) -> list[Action]:
        """Switch the watchdog on or off, as when nothing is subscribed, and name another canary."""
        if on and not self._watching:
            self._alive_ns = max(self._alive_ns, at_ns)
        self._watching = on
        self._canary = self._canary if canary is None else canary
        return [self._wait(at_ns)]

    # --------------------------------------------------------------------------------------------------- inside

    def _move(self, event: Event) -> None:
        to = TRANSITIONS.get((self.phase, event))
        if to is None:
            raise ProtocolError(f"{self.feed.value} feed: {event.value} cannot happen while {self.phase.value}")
        self.phase = to

    def _connect(self, at_ns: int, reason: str) -> list[Action]:
        self.epoch += 1
        return [*self._tell(FeedState.CONNECTING, reason), Connect(self.epoch), self._wait(at_ns)]

    def _tell(self, state: FeedState, reason: str) -> list[Action]:
        self._state = state
        return [FeedChanged(self.feed, self.epoch, state, reason)]

    def _from_ns(self) -> int | None:
        return None if self._covered_ns is None else self._covered_ns - BACKFILL_OVERLAP_NS

    def _mute_at(self, at_ns: int) -> int | None:
        """When silence becomes muteness; None while the watchdog rests."""
        if self._stale_after_ns is None or not self._watching or self.phase not in _WATCHED:
            return None
        session = self._table.current_or_next(at_ns)
        if session is None:
            return None
        return max(self._alive_ns, session.open_ns) + self._stale_after_ns

    def _wait(self, at_ns: int) -> WaitUntil:
        wishes = [at for at in (self._retry_ns, self._mute_at(at_ns)) if at is not None]
        return WaitUntil(min(wishes) if wishes else None)

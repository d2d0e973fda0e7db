"""The feed's state machine: every row of its table, its back-off, its watchdog, over simulated time."""

import itertools

import pytest

from oracle.alpaca.failures import POLICIES, Failure, Kind, backoff_ns, kind_of_code, kind_of_status
from oracle.alpaca.supervisor import (
    TRANSITIONS,
    Action,
    Alarm,
    Backfill,
    Close,
    Connect,
    Event,
    Phase,
    Subscribe,
    Supervisor,
    WaitUntil,
)
from oracle.core.errors import ProtocolError
from oracle.core.marketdata import FeedChanged
from oracle.core.sessions import MINUTE_NS, NS, Session, SessionTable
from oracle.core.vocabulary import Feed, FeedState

DAY_NS = 86_400 * NS
OPEN_NS = 1_767_623_400 * NS
LENGTH_NS = 390 * MINUTE_NS
T0 = OPEN_NS + 600 * NS
CLOSED = Failure(Kind.CLOSED, "gone")


def sessions(count: int) -> SessionTable:
    names = [f"d{i:04d}" for i in range(count)]
    starts = [OPEN_NS + i * DAY_NS for i in range(count)]
    return SessionTable([Session(n, at, at + LENGTH_NS) for n, at in zip(names, starts, strict=True)])


def supervisor(feed: Feed = Feed.STOCK, days: int = 3) -> Supervisor:
    return Supervisor(feed, sessions(days), 12.0, "SPY quote")


def live(at_ns: int = T0) -> Supervisor:
    machine = supervisor()
    machine.start(at_ns)
    machine.opened(at_ns)
    machine.acked(at_ns)
    machine.backfilled(at_ns)
    assert machine.phase is Phase.LIVE
    return machine


def states(actions: list[Action]) -> list[FeedState]:
    return [a.state for a in actions if isinstance(a, FeedChanged)]


def wait_of(actions: list[Action]) -> int | None:
    found = [a.at_ns for a in actions if isinstance(a, WaitUntil)]
    assert len(found) == 1
    return found[0]


def test_the_order_of_a_connection() -> None:
    machine = supervisor()
    start = machine.start(T0)
    assert states(start) == [FeedState.CONNECTING]
    assert Connect(1) in start
    opened = machine.opened(T0)
    assert states(opened) == []
    assert Subscribe() in opened
    acked = machine.acked(T0)
    assert states(acked) == [FeedState.BACKFILLING]
    assert Backfill(None) in acked
    done = machine.backfilled(T0)
    assert states(done) == [FeedState.LIVE]
    assert [a.epoch for a in done if isinstance(a, FeedChanged)] == [1]


def test_backfill_starts_two_minutes_before_the_last_bar() -> None:
    machine = live()
    machine.covered(T0 - MINUTE_NS)
    machine.covered(T0 - 3 * MINUTE_NS)
    machine.failed(T0, CLOSED)
    machine.due(T0 + 60 * NS)
    machine.opened(T0 + 60 * NS)
    assert Backfill(T0 - 3 * MINUTE_NS) in machine.acked(T0 + 60 * NS)


def test_a_denied_subscription_is_down_keeps_the_socket_and_asks_again() -> None:
    machine = supervisor()
    machine.start(T0)
    machine.opened(T0)
    denied = machine.denied(T0, "quotes lacks QQQ")
    assert states(denied) == [FeedState.DOWN]
    assert Alarm("quotes lacks QQQ") in denied
    assert not any(isinstance(a, Close) for a in denied)
    assert Backfill(None) in denied
    assert states(machine.backfilled(T0)) == []
    assert machine.phase is Phase.DENIED
    for _ in range(6):
        machine.canary(T0 + 59 * NS)
    retry = machine.due(T0 + 60 * NS)
    assert Subscribe() in retry
    assert states(machine.acked(T0 + 61 * NS)) == [FeedState.BACKFILLING]
    assert states(machine.backfilled(T0 + 61 * NS)) == [FeedState.LIVE]


def test_a_change_on_a_live_feed_does_not_leave_live() -> None:
    machine = live()
    assert Subscribe() in machine.changed(T0)
    assert machine.acked(T0) == []
    assert machine.phase is Phase.LIVE
    machine.changed(T0)
    assert states(machine.denied(T0, "405 symbol limit exceeded")) == [FeedState.DOWN]


def test_backfill_is_repeated_until_it_succeeds() -> None:
    machine = supervisor()
    machine.start(T0)
    machine.opened(T0)
    machine.acked(T0)
    at_ns = T0
    waits = []
    for _ in range(5):
        actions = machine.backfill_failed(at_ns, "HTTP 500")
        assert states(actions) == [FeedState.BACKFILLING]
        machine.canary(at_ns)
        next_ns = wait_of(actions)
        assert next_ns is not None
        machine.canary(next_ns)
        waits.append(machine._retry_ns - at_ns)  # type: ignore[operator]
        at_ns = machine._retry_ns or 0
        machine.canary(at_ns)
        assert any(isinstance(a, Backfill) for a in machine.due(at_ns))
    assert waits == sorted(waits)
    assert states(machine.backfilled(at_ns)) == [FeedState.LIVE]


class TestBackOff:
    @pytest.mark.parametrize("kind", list(Kind))
    def test_waits_stay_within_their_class(self, kind: Kind) -> None:
        policy = POLICIES[kind]
        for failures, epoch in itertools.product(range(1, 40), range(1, 20)):
            wait_s = backoff_ns(Feed.STOCK, epoch, failures, policy) / NS
            assert max(policy.floor_s, policy.first_s / 2) <= wait_s <= policy.cap_s

    def test_jitter_is_repeatable_and_differs(self) -> None:
        policy = POLICIES[Kind.CLOSED]
        waits = [backoff_ns(feed, epoch, 3, policy) for feed in Feed for epoch in range(50)]
        assert waits == [backoff_ns(feed, epoch, 3, policy) for feed in Feed for epoch in range(50)]
        assert len(set(waits)) == len(waits)

    @pytest.mark.parametrize(
        ("kind", "least_s"), [(Kind.CONNECTION_LIMIT, 10), (Kind.THROTTLED, 15), (Kind.CREDENTIALS, 30)]
    )
    def test_some_classes_wait_long_at_once(self, kind: Kind, least_s: int) -> None:
        machine = live()
        actions = machine.failed(T0, Failure(kind, "text"))
        assert (wait_of(actions) or 0) - T0 >= least_s * NS
        assert "text" in next(a.reason for a in actions if isinstance(a, FeedChanged))

    def test_a_flapping_connection_backs_off_and_a_stable_one_starts_anew(self) -> None:
        machine = live()
        at_ns, waits = T0, []
        for _ in range(6):
            wait_ns = wait_of(machine.failed(at_ns, CLOSED))
            assert wait_ns is not None
            waits.append(wait_ns - at_ns)
            at_ns = wait_ns
            assert any(isinstance(a, Connect) for a in machine.due(at_ns))
            machine.opened(at_ns)
            machine.acked(at_ns)
            machine.backfilled(at_ns)
        assert waits[-1] > 8 * waits[0]
        at_ns += 61 * NS
        machine.canary(at_ns)
        stable = wait_of(machine.failed(at_ns, CLOSED))
        assert stable is not None
        assert stable - at_ns <= NS

    def test_no_reconnect_storm_in_ten_minutes_of_refusals(self) -> None:
        machine = supervisor(days=3)
        machine.start(T0)
        at_ns, attempts = T0, 1
        while at_ns < T0 + 600 * NS:
            wait_ns = wait_of(machine.failed(at_ns, Failure(Kind.UNREACHABLE, "refused")))
            assert wait_ns is not None
            at_ns = wait_ns
            machine.due(at_ns)
            attempts += 1
        assert attempts < 40

    def test_classes_of_codes(self) -> None:
        assert kind_of_code("402") is Kind.CREDENTIALS
        assert kind_of_code("406") is Kind.CONNECTION_LIMIT
        assert kind_of_code("407") is Kind.SLOW_CLIENT
        assert kind_of_code("409") is Kind.PLAN
        assert kind_of_code("405") is None
        assert kind_of_code("999") is None
        assert [kind_of_status(s) for s in (401, 403, 402, 429, 503, 404)] == [
            Kind.CREDENTIALS,
            Kind.CREDENTIALS,
            Kind.PLAN,
            Kind.THROTTLED,
            Kind.SERVER,
            Kind.PROTOCOL,
        ]
        assert set(POLICIES) == set(Kind)
        assert [k for k in Kind if POLICIES[k].alarm] == [Kind.CREDENTIALS, Kind.PLAN, Kind.SLOW_CLIENT, Kind.PROTOCOL]


class TestGap:
    def test_a_gap_on_a_live_connection_is_fetched_before_it_counts_as_live_again(self) -> None:
        machine = live()
        machine.covered(T0 - 60 * NS)
        actions = machine.gap(T0, "no bar")
        assert states(actions) == [FeedState.BACKFILLING]
        assert Backfill(T0 - 180 * NS) in actions
        assert states(machine.backfilled(T0)) == [FeedState.LIVE]
        assert machine.epoch == 1

    @pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.LIVE])
    def test_only_what_counted_as_whole_can_have_one(self, phase: Phase) -> None:
        machine = supervisor()
        machine.phase = phase
        with pytest.raises(ProtocolError, match="gap cannot happen"):
            machine.gap(T0, "no bar")

    def test_it_does_not_make_a_stable_connection_a_young_one(self) -> None:
        """After some failures LIVE for an hour, but for a gap: the next wait is a first one."""
        machine = live()
        for _ in range(3):
            machine.failed(T0, Failure(Kind.CLOSED, "x"))
            machine.due(T0 + 60 * NS)
            machine.opened(T0)
        machine.acked(T0)
        machine.backfilled(T0)
        machine.gap(T0 + 3600 * NS, "no bar")
        machine.backfilled(T0 + 3601 * NS)
        machine.failed(T0 + 3602 * NS, Failure(Kind.CLOSED, "x"))
        assert machine._failures == 1

    def test_it_does_not_silence_the_watchdog(self) -> None:
        machine = live()
        machine.canary(T0)
        machine.gap(T0 + 10 * NS, "no bar")
        assert states(machine.due(T0 + 12 * NS)) == [FeedState.STALE]


class TestWatchdog:
    def test_a_mute_socket_is_noticed_within_fifteen_seconds(self) -> None:
        machine = live()
        machine.canary(T0 + 30 * NS)
        at_ns = T0
        while True:
            at_ns += NS  # paced time moves in steps of a second
            actions = machine.due(at_ns)
            if states(actions) == [FeedState.STALE]:
                break
            assert at_ns < T0 + 60 * NS
        assert at_ns - (T0 + 30 * NS) <= 15 * NS
        assert any(isinstance(a, Close) and a.failure.kind is Kind.STALE for a in actions)
        assert "SPY quote" in next(a.reason for a in actions if isinstance(a, FeedChanged))
        assert machine.phase is Phase.CLOSING
        after = machine.failed(at_ns, Failure(Kind.STALE, "mute"))
        assert states(after) == []
        assert states(machine.due(wait_of(after) or 0)) == [FeedState.CONNECTING]

    def test_silence_outside_the_session_is_quiet(self) -> None:
        machine = live(OPEN_NS - 3600 * NS)
        actions = machine.due(OPEN_NS - 1)
        assert states(actions) == []
        assert wait_of(actions) == OPEN_NS + 12 * NS
        machine.canary(OPEN_NS + LENGTH_NS - 5 * NS)
        late = machine.due(OPEN_NS + LENGTH_NS + 7 * NS)
        assert states(late) == []
        assert wait_of(late) == OPEN_NS + DAY_NS + 12 * NS

    def test_silence_from_the_open_on_is_muteness(self) -> None:
        machine = live(OPEN_NS - 3600 * NS)
        assert states(machine.due(OPEN_NS + 12 * NS)) == [FeedState.STALE]

    def test_250_quiet_sessions_without_a_false_trip(self) -> None:
        days = 250
        machine = supervisor(days=days)
        machine.start(OPEN_NS - 600 * NS)
        machine.opened(OPEN_NS - 600 * NS)
        machine.acked(OPEN_NS - 600 * NS)
        wait_ns = wait_of(machine.backfilled(OPEN_NS - 600 * NS))
        checks = 0
        for day in range(days):
            open_ns = OPEN_NS + day * DAY_NS
            # The quietest market that is not mute: one canary in ten seconds or so, nothing overnight.
            for n in range(1, LENGTH_NS // (11 * NS) + 1):
                at_ns = open_ns + n * 11 * NS + (n * 7919 % 900) * NS // 1000
                while wait_ns is not None and wait_ns <= at_ns:
                    actions = machine.due(wait_ns)
                    checks += 1
                    assert states(actions) == []
                    wait_ns = wait_of(actions)
                machine.canary(at_ns)
        assert machine.phase is Phase.LIVE
        assert checks > days * 100

    def test_trading_feed_has_no_watchdog(self) -> None:
        machine = Supervisor(Feed.TRADING, sessions(2), None)
        machine.start(T0)
        machine.opened(T0)
        machine.acked(T0)
        assert wait_of(machine.backfilled(T0)) is None

    def test_switched_off_while_nothing_is_subscribed(self) -> None:
        machine = live()
        machine.watch(False, T0)
        assert states(machine.due(T0 + 3600 * NS)) == []
        machine.watch(True, T0 + 3600 * NS)
        assert states(machine.due(T0 + 3611 * NS)) == []
        assert states(machine.due(T0 + 3612 * NS)) == [FeedState.STALE]


def drive(machine: Supervisor, event: Event) -> None:
    calls = {
        Event.START: lambda: machine.start(T0),
        Event.OPENED: lambda: machine.opened(T0),
        Event.CHANGED: lambda: machine.changed(T0),
        Event.ACKED: lambda: machine.acked(T0),
        Event.DENIED: lambda: machine.denied(T0, "text"),
        Event.BACKFILLED: lambda: machine.backfilled(T0),
        Event.BACKFILL_FAILED: lambda: machine.backfill_failed(T0, "text"),
        Event.FAILED: lambda: machine.failed(T0, CLOSED),
    }
    if event in calls:
        calls[event]()
    else:
        machine._move(event)


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, Event)))
def test_every_pair_moves_as_the_table_says_or_is_our_fault(phase: Phase, event: Event) -> None:
    machine = supervisor()
    machine.phase = phase
    if (phase, event) in TRANSITIONS:
        drive(machine, event)
        assert machine.phase is TRANSITIONS[phase, event]
    else:
        with pytest.raises(ProtocolError, match=event.value):
            drive(machine, event)


def test_a_failed_connection_is_retried_from_every_connected_phase() -> None:
    for phase in Phase:
        if phase not in (Phase.IDLE, Phase.WAITING):
            assert TRANSITIONS[phase, Event.FAILED] is Phase.WAITING
    reachable, frontier = {Phase.IDLE}, [Phase.IDLE]
    while frontier:
        at = frontier.pop()
        for (source, _), to in TRANSITIONS.items():
            if source is at and to not in reachable:
                reachable.add(to)
                frontier.append(to)
    assert reachable == set(Phase)

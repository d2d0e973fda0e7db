"""Business timers of the edges: run by the daemon in order of time and creation, cancelled for good, nothing kept."""

from collections.abc import Callable

from oracle.core.clock import VirtualClock
from oracle.edgetimers import EdgeTimers


class Wakes:
    """Counts wake-ups."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def build() -> tuple[EdgeTimers, VirtualClock, Wakes, list[str]]:
    clock, wakes = VirtualClock(100), Wakes()
    return EdgeTimers(clock, wakes), clock, wakes, []


def test_due_callbacks_run_by_time_then_by_creation() -> None:
    timers, clock, _, ran = build()
    for at_ns, word in ((130, "c"), (110, "a"), (130, "d"), (120, "b"), (500, "never")):
        timers.call_at(at_ns, lambda word=word: ran.append(word))  # type: ignore[misc]
    assert timers.next_ns() == 110
    assert timers.run_due() == 0
    clock.advance(130)
    assert timers.run_due() == 4
    assert ran == ["a", "b", "c", "d"]
    assert timers.next_ns() == 500


def test_a_due_time_in_the_past_wakes_the_daemon_and_runs_later() -> None:
    timers, _, wakes, ran = build()
    timers.call_at(100, lambda: ran.append("now"))
    assert (wakes.count, ran) == (1, [])
    timers.call_at(101, lambda: ran.append("soon"))
    assert wakes.count == 1
    assert timers.run_due() == 1
    assert ran == ["now"]


def test_cancelled_callbacks_never_run() -> None:
    timers, clock, _, ran = build()
    cancel = timers.call_at(110, lambda: ran.append("no"))
    timers.call_at(120, lambda: ran.append("yes"))
    cancel()
    cancel()
    assert timers.next_ns() == 120
    clock.advance(200)
    assert timers.run_due() == 1
    assert ran == ["yes"]
    assert timers.next_ns() is None


def test_a_callback_may_cancel_another_that_is_due_at_the_same_time() -> None:
    timers, clock, _, ran = build()
    handles: list[Callable[[], None]] = []

    def first() -> None:
        handles[0]()

    timers.call_at(110, first)
    handles.append(timers.call_at(110, lambda: ran.append("no")))
    clock.advance(110)
    assert timers.run_due() == 1
    assert ran == []


def test_a_callback_may_set_the_next_one_and_a_chain_in_the_past_ends() -> None:
    timers, clock, _, ran = build()

    def again() -> None:
        ran.append("x")
        if len(ran) < 3:
            timers.call_at(clock.now_ns(), again)

    timers.call_at(110, again)
    clock.advance(110)
    assert timers.run_due() == 3
    assert timers.next_ns() is None


def test_cancelling_what_has_run_leaves_nothing_behind() -> None:
    timers, clock, _, _ = build()
    for n in range(100):
        cancel = timers.call_at(110 + n, lambda: None)
        clock.advance(110 + n)
        timers.run_due()
        cancel()
    assert timers.held == 0


def test_a_cancelled_callback_far_in_the_future_is_let_go() -> None:
    timers, _, _, _ = build()
    for _ in range(1_000):
        timers.call_at(10**18, lambda: None)()
    assert timers.held <= 100

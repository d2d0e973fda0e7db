"""Timers fire in one order, the virtual clock only moves forward, the bus dispatches first-in-first-out."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.core.bus import MAX_MESSAGES_PER_TURN, Bus
from oracle.core.clock import Timers, VirtualClock
from oracle.core.errors import InvariantError
from oracle.core.message import Message
from oracle.core.messages import ClearTimer, DrainRequested, NoData, NoSignal, SetTimer, TimerFired


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 20), st.booleans()), max_size=40))
def test_timers_fire_once_in_order_of_time_and_id(script: list[tuple[str, int, bool]]) -> None:
    timers, expected = Timers(), {}
    for timer_id, at_ns, clear in script:
        if clear:
            timers.clear(ClearTimer(timer_id))
            expected.pop(timer_id, None)
        else:
            timers.set(SetTimer(timer_id, at_ns))
            expected[timer_id] = at_ns
    assert timers.next_ns() == min(expected.values(), default=None)
    fired = []
    while (timer := timers.pop_due(10)) is not None:
        fired.append(timer)
    assert fired == [TimerFired(i, t) for t, i in sorted((t, i) for i, t in expected.items() if t <= 10)]
    assert timers.next_ns() == min((t for t in expected.values() if t > 10), default=None)


def test_clock_moves_only_forward() -> None:
    clock = VirtualClock(5)
    clock.advance(7)
    clock.advance(7)
    assert clock.now_ns() == 7
    with pytest.raises(InvariantError):
        clock.advance(6)


def test_dispatch_is_breadth_first_and_in_order_of_subscription() -> None:
    seen: list[str] = []

    def first(message: NoSignal, _context: Any) -> Iterable[Message]:
        seen.append(f"first {message.reason}")
        return (NoData("s", "X", "one", {}), NoData("s", "X", "two", {}))

    def second(message: NoSignal, _context: Any) -> Iterable[Message]:
        seen.append(f"second {message.reason}")
        return (NoData("s", "X", "three", {}),)

    def third(message: NoData, _context: Any) -> Iterable[Message]:
        seen.append(message.what)
        return ()

    bus = Bus()
    bus.subscribe(((NoSignal, first), (NoData, third)))
    bus.subscribe(((NoSignal, second),))
    caused = bus.dispatch(NoSignal("s", "X", "r", {}), lambda: None)  # type: ignore[arg-type,return-value]
    assert seen == ["first r", "second r", "one", "two", "three"]
    assert [m.what for m in caused] == ["one", "two", "three"]  # type: ignore[attr-defined]
    assert bus.dispatch(DrainRequested("w", "y"), lambda: None) == []  # type: ignore[arg-type,return-value]


def test_a_turn_that_never_ends_is_stopped() -> None:
    bus = Bus()
    bus.subscribe(((NoData, lambda message, _context: (message,)),))
    with pytest.raises(InvariantError, match=str(MAX_MESSAGES_PER_TURN)):
        bus.dispatch(NoData("s", "X", "again", {}), lambda: None)  # type: ignore[arg-type,return-value]

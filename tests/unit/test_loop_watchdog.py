"""What the loop tells the watchdog: a turn that does not finish, and a drain that was asked for."""

import asyncio
from collections.abc import Sequence

import pytest

import oracle.daemon
from oracle.core.message import Message
from oracle.core.messages import Stamped
from oracle.inbox import Source
from tests.unit.test_loop_daemon import Exchange, VirtualLoop, World, end, note, play


class HangingStore:
    """A store whose commits of notes wait until they are let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def commit(self, messages: Sequence[Message], stamped: Stamped) -> int:
        del stamped
        self.begun.set()
        await self.go_on.wait()
        return len(messages)


def test_a_commit_that_does_not_return_makes_the_core_stuck_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(oracle.daemon.time, "perf_counter", lambda: now_s)

    async def work(loop: VirtualLoop) -> None:
        nonlocal now_s
        world = World(loop)
        store = HangingStore()
        monkeypatch.setattr(world.daemon, "_store", store)
        world.inbox.put(Source.STOCK, note("go"))
        assert world.daemon.stuck_s == 0
        task = asyncio.create_task(world.paced(Exchange([end()])))
        await store.begun.wait()
        now_s += 12
        assert world.daemon.stuck_s == 12
        store.go_on.set()
        await task
        now_s += 12
        assert world.daemon.stuck_s == 0

    play(work)


def test_waiting_for_the_exchange_is_not_being_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(oracle.daemon.time, "perf_counter", lambda: now_s)

    async def work(loop: VirtualLoop) -> None:
        nonlocal now_s
        world = World(loop)
        exchange = Exchange([])
        task = asyncio.create_task(world.paced(exchange))
        quiet = asyncio.Event()
        loop.call_later(1, quiet.set)
        await quiet.wait()
        assert exchange.said == [("ready",)]
        now_s += 3600
        assert world.daemon.stuck_s == 0
        world.daemon.request_stop("signal", "SIGTERM")
        await task

    play(work)


def test_who_asks_for_a_drain_is_heard_at_once() -> None:
    async def work(loop: VirtualLoop) -> None:
        world, told = World(loop), []
        world.daemon.on_stop.append(lambda: told.append("stopping"))
        world.daemon.request_stop("signal", "SIGTERM")
        assert told == ["stopping"]
        await world.paced(Exchange([]))

    play(work)

"""Health, readiness and status are measured when asked, each with its reason. On real parts and a virtual loop."""

import asyncio
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from oracle.alpaca import wire
from oracle.alpaca.failures import Failure, Kind
from oracle.app import WallClock
from oracle.config import load
from oracle.core.clock import VirtualClock
from oracle.core.errors import StoreError
from oracle.core.marketdata import FeedChanged
from oracle.core.messages import DrainRequested
from oracle.core.vocabulary import Feed, FeedState
from oracle.edges import Edges
from oracle.edgetimers import EdgeTimers
from oracle.inbox import Inbox, Source
from oracle.metrics.catalogue import VALUES, Labels
from oracle.metrics.observer import Observer
from oracle.monitor import (
    EVERY_S,
    FEED_STUCK_AFTER_S,
    START_GRACE_S,
    STORE_AGE_S,
    STUCK_AFTER_S,
    UNHEALTHY_LAG_S,
    Monitor,
)
from oracle.running import Core, Running
from oracle.tally import Tally
from tests.unit.builders import START_NS, TABLE, House, account
from tests.unit.test_loop_daemon import VirtualLoop, play

NOWHERE = wire.one_host_endpoints("http://127.0.0.1:9")


class World:
    """The parts that a monitor watches; nothing is connected."""

    def __init__(self, loop: VirtualLoop, *, ready: bool = True) -> None:
        self.loop = loop
        self.house = House(ready=ready)
        core = Core(self.house.engine, self.house.ledger, self.house.market, self.house.gate, ())
        self.inbox = Inbox()
        clock = VirtualClock(START_NS)
        self.edges = Edges(
            endpoints=NOWHERE, credentials=wire.Credentials("k", "s"), table=TABLE, inbox=self.inbox,
            timers=EdgeTimers(clock, self.inbox.changed.set), universe=("SPY",), canary="SPY", stale_after_s=12,
            option_limit=200, requests_per_min=200, reads_apart=False,
        )  # fmt: skip
        self.observer = Observer(Labels(), {"version": "1"}, START_NS)
        running = Running(load(environment={}), core, Tally(), clock, TABLE, None, Path("state"))
        self.fault: StoreError | None = None
        self.hang = False
        self.core_stuck_s = 0.0
        self.monitor = Monitor(self.observer, running, self.edges, self.inbox, self.probe, lambda: self.core_stuck_s)

    async def probe(self) -> None:
        if self.hang:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault

    async def watch(self, seconds: float) -> None:
        """Let the monitor run for a while."""
        task = asyncio.create_task(self.monitor.run())
        done = asyncio.Event()
        self.loop.call_later(seconds, done.set)
        await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def missing(self) -> dict[str, str]:
        """What keeps it from being ready, with the reasons."""
        return {name: check.reason for name, check in self.monitor.readiness().items() if not check.ok}

    def state(self) -> str:
        text = self.monitor.probes().metrics().decode()
        (found,) = [line for line in text.splitlines() if line.startswith("oracle_state{") and line.endswith(" 1.0")]
        return found.split('"')[1]


def on_loop(test: Callable[[World], Coroutine[Any, Any, None]], *, ready: bool = True) -> None:
    """Run a test with its world on a virtual loop."""

    async def work(loop: VirtualLoop) -> None:
        await test(World(loop, ready=ready))

    play(work)


def test_at_first_every_condition_is_missing_and_says_why() -> None:
    async def test(world: World) -> None:
        missing = world.missing()
        assert missing == {
            "feed_stock": "the stock feed is connecting", "feed_option": "the option feed is connecting",
            "feed_trading": "the trading feed is connecting", "store": "the store has not been tried yet",
            "reconciled": "ledger and broker have not been found equal",
        }  # fmt: skip
        assert world.state() == "reconciling"
        assert all(check.ok for check in world.monitor.health().values())

    on_loop(test, ready=False)


def test_it_is_ready_when_all_hold_and_no_reason_is_left() -> None:
    async def test(world: World) -> None:
        await world.watch(1)
        checks = world.monitor.readiness()
        assert all(check.ok and check.reason == "" for check in checks.values())
        assert len(checks) == 6
        assert world.state() == "ready"
        assert world.monitor.status()["ready"] is True

    on_loop(test)


@pytest.mark.parametrize("feed", list(Feed))
@pytest.mark.parametrize("state", [FeedState.STALE, FeedState.DOWN])
def test_a_feeds_outage_is_named_and_is_no_ill_health(feed: Feed, state: FeedState) -> None:
    async def test(world: World) -> None:
        await world.watch(1)
        world.house.tell(FeedChanged(feed, 2, state, "silence"))
        missing = world.missing()
        assert missing.pop(f"feed_{feed.value}") == f"the {feed.value} feed is {state.value}"
        # What the broker did while its stream was away is unknown until the account has been compared again.
        assert list(missing) == (["reconciled"] if feed is Feed.TRADING else [])
        assert world.state() == ("reconciling" if feed is Feed.TRADING else "degraded")
        assert all(check.ok for check in world.monitor.health().values())

    on_loop(test)


def test_a_difference_with_the_broker_takes_readiness_away_until_it_is_gone() -> None:
    async def test(world: World) -> None:
        await world.watch(1)
        world.house.tell(account(world.house.at_ns, "99999"), after_s=1)
        assert list(world.missing()) == ["reconciled"]
        assert world.state() == "reconciling"
        world.house.tell(account(world.house.at_ns, "100000"), after_s=1)
        assert world.missing() == {}

    on_loop(test)


def test_a_store_that_fails_or_hangs_is_told() -> None:
    async def test(world: World) -> None:
        await world.watch(1)
        world.fault = StoreError("database is locked")
        await world.watch(1)
        assert world.missing() == {"store": "database is locked"}
        world.fault = None
        await world.watch(1)
        assert world.missing() == {}
        world.loop.now_s += STORE_AGE_S + 5
        (reason,) = world.missing().values()
        assert reason.startswith("the store last took a transaction")

    on_loop(test)


def test_draining_and_halts_are_reasons_not_to_be_ready() -> None:
    async def test(world: World) -> None:
        await world.watch(1)
        world.house.tell(DrainRequested("operator", "deploy"))
        assert world.missing() == {"trading": "the daemon is draining"}
        assert world.state() == "draining"
        assert all(check.ok for check in world.monitor.health().values())

    on_loop(test)


def test_a_loop_that_is_late_is_ill_and_well_again_afterwards() -> None:
    async def test(world: World) -> None:
        def block() -> None:
            world.loop.now_s += UNHEALTHY_LAG_S + EVERY_S + 1

        world.loop.call_later(EVERY_S / 2, block)
        await world.watch(EVERY_S + 0.1)
        late = world.monitor.health()["loop"]
        assert not late.ok
        assert "late" in late.reason
        await world.watch(3 * EVERY_S)
        assert world.monitor.health()["loop"].ok

    on_loop(test)


def test_a_failed_edge_is_ill_health() -> None:
    async def test(world: World) -> None:
        world.edges.failed.set_exception(RuntimeError("bug"))
        assert not world.monitor.health()["edges"].ok
        assert world.edges.failed.exception() is not None

    on_loop(test)


def test_status_and_depth_are_measured_at_the_moment_of_asking() -> None:
    async def test(world: World) -> None:
        status = world.monitor.status()
        assert (status["session"], status["in_session"], status["open_trades"]) == ("2026-01-05", True, 0)
        assert (status["equity_usd"], status["trading_state"]) == (Decimal(100_000), "active")
        before = status["inputs"]
        world.house.spot(601.0)
        assert world.monitor.status()["inputs"] == before + 1
        world.inbox.put(Source.OPERATOR, DrainRequested("x", "y"))
        assert 'oracle_inbox_depth{lane="ordered"} 1.0' in world.monitor.probes().metrics().decode()

    on_loop(test)


def test_a_part_that_does_not_get_on_is_named_and_a_vendors_outage_is_not() -> None:
    async def test(world: World) -> None:
        await world.watch(STUCK_AFTER_S + 5)
        assert world.monitor.stuck() == {}
        for feed in Feed:
            world.house.tell(FeedChanged(feed, 2, FeedState.DOWN, "outage"))
        world.fault = StoreError("database is locked")
        await world.watch(STUCK_AFTER_S + 5)
        assert world.monitor.stuck() == {}
        world.core_stuck_s = STUCK_AFTER_S + 0.5
        assert world.monitor.stuck() == {"core": STUCK_AFTER_S + 0.5}

    on_loop(test)


def test_a_writer_that_does_not_answer_is_stuck_and_the_loop_is_not() -> None:
    async def test(world: World) -> None:
        world.hang = True
        await world.watch(STUCK_AFTER_S - 1)
        assert world.monitor.stuck() == {}
        await world.watch(2)
        assert list(world.monitor.stuck()) == ["writer"]

    on_loop(test)


def test_a_loop_that_no_longer_runs_its_tasks_is_stuck() -> None:
    async def test(world: World) -> None:
        await world.watch(1)
        world.loop.now_s += STUCK_AFTER_S + 1
        assert "loop" in world.monitor.stuck()

    on_loop(test)


def test_a_feed_that_cannot_end_its_own_connecting_is_stuck() -> None:
    async def test(world: World) -> None:
        world.edges.stock.supervisor.start(START_NS)
        await world.watch(FEED_STUCK_AFTER_S - 1)
        assert world.monitor.stuck() == {}
        assert world.monitor.heartbeats_s()["stock"] > FEED_STUCK_AFTER_S - 3
        await world.watch(4)
        assert list(world.monitor.stuck()) == ["stock"]
        world.edges.stock.supervisor.failed(START_NS, Failure(Kind.UNREACHABLE, "refused"))
        assert world.monitor.stuck() == {}

    on_loop(test)


def test_start_up_is_over_when_all_but_a_halt_is_in_order() -> None:
    async def test(world: World) -> None:
        assert not world.monitor.serving()
        await world.watch(1)
        assert world.monitor.serving()
        world.house.tell(DrainRequested("operator", "deploy"))
        assert world.monitor.serving()

    on_loop(test)


def test_start_up_does_not_wait_for_a_vendor_for_ever() -> None:
    async def test(world: World) -> None:
        await world.watch(START_GRACE_S - 1)
        assert not world.monitor.serving()
        await world.watch(2)
        assert world.monitor.serving()
        assert world.monitor.headline() == (
            "sim, reconciling; feeds: stock connecting, option connecting, trading connecting; open trades: 0"
        )

    on_loop(test, ready=False)


def test_the_probes_gauges_say_what_the_daemon_says_of_itself() -> None:
    async def test(world: World) -> None:
        await world.watch(1)
        world.house.tell(FeedChanged(Feed.STOCK, 2, FeedState.STALE, "silence"))
        text = world.monitor.probes().metrics().decode().splitlines()
        assert 'oracle_ready{check="feed_stock"} 0.0' in text
        assert 'oracle_ready{check="store"} 1.0' in text
        assert "oracle_market_open 1.0" in text
        assert 'oracle_heartbeat_age_seconds{part="core"} 0.0' in text

    on_loop(test)


def test_every_condition_for_trading_is_in_the_catalogue() -> None:
    async def test(world: World) -> None:
        assert set(world.monitor.readiness()) <= set(VALUES["check"])
        assert set(world.monitor.heartbeats_s()) == set(VALUES["part"])

    on_loop(test)


def test_the_wall_clock_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([50, 40, 60])
    monkeypatch.setattr("oracle.app.time.time_ns", lambda: next(times))
    clock = WallClock()
    assert [clock.now_ns() for _ in range(3)] == [50, 50, 60]

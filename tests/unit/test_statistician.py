"""Statistics beside the trades: they follow, they coalesce, they fail without harm, and nothing stays behind."""

import asyncio
import datetime as dt
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from oracle import derive
from oracle.core.engine import Turn
from oracle.core.marketdata import Quote
from oracle.core.message import Message
from oracle.core.messages import LedgerSeeded, NoteAdded, SessionClosed, SessionOpened, Stamped
from oracle.core.trackrecord import ACCOUNT, StrategyKey
from oracle.jobs import Job, Refresh, Result
from oracle.metrics.catalogue import Labels
from oracle.metrics.observer import Observer
from oracle.statistician import ACCOUNT_KEY, EXTREMES, EXTREMES_AT_ONCE, Statistician, parts
from oracle.store import read
from oracle.store.performance import DerivedRow
from oracle.store.sqlite import Store
from oracle.store.state import DATABASE_NAME
from oracle.worker import Aside, JobError
from tests.unit.report_books import CASH, HASH_NEW, ORB, Books, S

DATE = "2026-01-05"
OPEN_NS = int(dt.datetime.fromisoformat(f"{DATE}T14:30:00+00:00").timestamp()) * S
CLOSE_NS = OPEN_NS + 23_400 * S
KEY = StrategyKey(ORB, HASH_NEW)
TABLES = ("strategy_performance", "strategy_days", "trade_extremes", "performance_snapshots", "trading_sessions")


class Gated(Aside):
    """The real work, begun when the gate is open; a fault for each job that a test plans one for."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.jobs: list[Job] = []
        self.faults: list[Exception | None] = []

    async def run(self, job: Job) -> Result:
        self.jobs.append(job)
        await self.gate.wait()
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return await super().run(job)


class Live(Books):
    """Books whose turns an observer sees after they are durable, as in the daemon."""

    on_turn: Callable[[Turn], None] | None = None

    async def put(self, at_ns: int, *messages: Message) -> None:
        await super().put(at_ns, *messages)
        if self.on_turn is not None:
            self.on_turn(Turn(Stamped(self.turn, at_ns, Quote("SPY", at_ns, 600.0, 1, 600.1, 2)), messages))

    async def open(self) -> None:
        await self.put(OPEN_NS - S, LedgerSeeded(CASH, CASH, OPEN_NS - S))
        await self.put(OPEN_NS, SessionOpened(DATE, OPEN_NS, CLOSE_NS), self.mark(DATE, OPEN_NS, "open", CASH))

    async def close(self) -> None:
        await self.put(CLOSE_NS, SessionClosed(DATE, CLOSE_NS), self.mark(DATE, CLOSE_NS, "close", CASH))

    async def win(self, cents: int = 260) -> None:
        await self.trade(ORB, HASH_NEW, OPEN_NS + (600 + self.number * 60) * S, cents, "target")


class Scene:
    """A store, books, a worker that can be held, the statistician, and what Prometheus would see."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store, self.worker = folder, store, Gated()
        self.observer = Observer(Labels(strategy=(ORB,)), {"version": "0"}, 0)
        self.books = Live(store, seed=3)
        self.statistician = self.another()
        self.books.on_turn = self.statistician.on_turn

    def another(self) -> Statistician:
        return Statistician(self.worker, self.store, self.folder, self.observer.track, [KEY], date=DATE)

    def gauge(self, name: str, **labels: str) -> float | None:
        wanted = {"strategy": ORB, **labels}
        for family in text_string_to_metric_families(self.observer.text().decode()):
            for sample in family.samples:
                if sample.name == name and sample.labels.items() <= wanted.items():
                    return sample.value
        return None

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.folder / DATABASE_NAME)) as db:
            return db.execute(sql).fetchall()

    def behind(self) -> int:
        return len(self.rows("SELECT 1 FROM strategy_performance WHERE coalesce(stats_log_id, -1) < last_log_id"))

    def derived(self) -> dict[str, list[tuple[object, ...]]]:
        return {table: sorted(self.rows(f"SELECT * FROM {table}"), key=repr) for table in TABLES}


@asynccontextmanager
async def at(folder: Path) -> AsyncIterator[Scene]:
    store = await Store.open(folder, "paper", 1, token="tok", feed="indicative")
    scene = Scene(folder, store)
    try:
        yield scene
    finally:
        scene.worker.gate.set()
        await scene.statistician.finish(10)
        await store.close()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with at(tmp_path) as made:
        await made.books.open()
        yield made


async def test_after_a_close_the_statistics_and_the_gauges_follow(scene: Scene) -> None:
    await scene.books.win()
    await scene.statistician.finish()
    assert scene.behind() == 0
    rows = scene.rows("SELECT strategy, trades, win_rate FROM strategy_performance WHERE month = 'all' ORDER BY 1")
    assert rows == [(ACCOUNT, 1, 1.0), (ORB, 1, 1.0)]
    assert scene.gauge("oracle_track_trades") == 1
    assert scene.gauge("oracle_track_trades", strategy=ACCOUNT) == 1
    assert scene.gauge("oracle_track_net_pnl_dollars") == pytest.approx(120 - 2.6)
    assert scene.gauge("oracle_readiness_ready") == 0
    assert scene.gauge("oracle_track_profit_factor") is None  # no loss yet: unknown, not 0 and not infinite
    assert scene.gauge("oracle_statistics_stale") == 0


async def test_closes_during_a_refresh_make_one_more_and_no_queue(scene: Scene) -> None:
    scene.worker.gate.clear()
    for _ in range(6):
        await scene.books.win()
    scene.worker.gate.set()
    await scene.statistician.finish()
    assert len(scene.worker.jobs) == 2
    assert scene.behind() == 0
    assert scene.gauge("oracle_track_trades") == 6


async def test_a_sessions_end_refreshes_everything_with_its_snapshot(scene: Scene) -> None:
    await scene.books.win()
    await scene.books.close()
    await scene.statistician.finish()
    last = scene.worker.jobs[-1]
    assert isinstance(last, Refresh)
    assert last.everything
    assert scene.rows("SELECT date, trades FROM performance_snapshots") == [(DATE, 1)]
    assert scene.rows("SELECT date, trades FROM trading_sessions") == [(DATE, 1)]
    assert scene.gauge("oracle_track_cumulative_pnl_dollars", strategy=ACCOUNT) is not None


async def test_a_failure_is_told_counted_and_made_up_for(scene: Scene) -> None:
    scene.worker.faults = [JobError("ValueError: a planned fault")]
    with capture_logs() as said:
        await scene.books.win()
        await scene.statistician.finish(everything=False)
    assert [line["event"] for line in said if line["log_level"] == "error"] == ["statistics_failed"]
    assert said[0]["problem"] == scene.statistician.fault == "ValueError: a planned fault"
    assert scene.gauge("oracle_statistics_stale") == 1
    assert scene.gauge("oracle_statistics_refreshes_total", result="failed") == 1
    # The books are as they must be, and the statistics say of themselves that they are behind.
    assert scene.rows("SELECT count(*) FROM trades WHERE closed_ns IS NOT NULL") == [(1,)]
    assert scene.behind() > 0
    await scene.books.trade(ORB, "other" * 8, OPEN_NS + 9_000 * S, 250, "target")
    await scene.statistician.finish()
    assert scene.behind() == 0
    assert scene.statistician.fault == ""
    assert scene.gauge("oracle_statistics_stale") == 0


async def test_rows_that_cannot_be_written_leave_the_books_and_the_turns(scene: Scene) -> None:
    with closing(sqlite3.connect(scene.folder / DATABASE_NAME, isolation_level=None)) as db:
        db.execute(
            "CREATE TRIGGER planned BEFORE UPDATE OF figures ON strategy_performance"
            " BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    with capture_logs() as said:
        await scene.books.win()
        await scene.statistician.finish()
    assert "full" in said[0]["problem"]
    await scene.books.win()
    assert scene.rows("SELECT count(*) FROM fills") == [(4,)]
    with closing(sqlite3.connect(scene.folder / DATABASE_NAME, isolation_level=None)) as db:
        db.execute("DROP TRIGGER planned")
    await scene.books.win()
    await scene.statistician.finish()
    assert scene.behind() == 0


async def test_what_a_crash_left_behind_is_found_at_the_start(tmp_path: Path) -> None:
    async with at(tmp_path) as first:
        first.books.on_turn = None  # killed before it could refresh
        await first.books.open()
        await first.books.win()
        await first.books.close()
        assert first.behind() > 0
    async with at(tmp_path) as second:
        await second.statistician.start()
        await second.statistician.finish()
        assert len(second.worker.jobs) == 1
        assert second.behind() == 0
        assert second.rows("SELECT date FROM performance_snapshots") == [(DATE,)]
    async with at(tmp_path) as third:
        await third.statistician.start()
        assert third.worker.jobs == []  # nothing was behind: only shown
        assert third.gauge("oracle_track_trades") == 1


async def test_an_empty_database_shows_no_trades_and_knows_nothing_else(tmp_path: Path) -> None:
    async with at(tmp_path) as scene:
        await scene.statistician.start()
        assert scene.worker.jobs == []
        assert scene.gauge("oracle_track_trades") == 0
        assert scene.gauge("oracle_track_win_rate") is None
        assert scene.gauge("oracle_readiness_score") is None


async def test_the_end_waits_only_so_long(scene: Scene) -> None:
    scene.worker.gate.clear()
    await scene.books.win()
    with capture_logs() as said:
        await scene.statistician.finish(0.01)
    assert [line["event"] for line in said] == ["statistics_cut_short"]
    assert scene.behind() > 0


async def test_a_note_reaches_the_record_of_a_session_that_is_over(scene: Scene) -> None:
    await scene.books.close()
    await scene.books.put(CLOSE_NS + S, NoteAdded("r9", DATE, "the feed was slow", "alice", CLOSE_NS + S))
    await scene.statistician.finish()
    ((notes,),) = scene.rows("SELECT notes FROM trading_sessions")
    assert "the feed was slow" in str(notes)


async def test_what_a_run_leaves_does_not_depend_on_when_refreshes_ran(tmp_path: Path) -> None:
    left = []
    for name, follow in (("often", True), ("once", False)):
        async with at(tmp_path / name) as scene:
            if not follow:
                scene.books.on_turn = None
            await scene.books.open()
            for cents in (260, 150, 270, 120):
                await scene.books.win(cents)
                if follow:
                    await scene.statistician.finish()
            await scene.books.close()
            await scene.statistician.finish(everything=True)
            left.append(scene.derived())
    assert left[0] == left[1]
    assert all(left[0].values())


async def test_the_stored_rows_are_those_that_a_fresh_derivation_makes(scene: Scene) -> None:
    await scene.books.win()
    await scene.books.win(150)
    await scene.books.close()
    await scene.statistician.finish()
    with read.reading(scene.folder) as db:
        fresh = [
            row.values
            for row in derive.Deriver().refresh(db, [KEY, ACCOUNT_KEY])
            if row.table == "strategy_performance"
        ]
        for row in fresh:
            where = {name: row[name] for name in ("strategy", "strategy_hash", "month")}
            stored = db.execute(
                "SELECT * FROM strategy_performance WHERE strategy = :strategy AND strategy_hash = :strategy_hash"
                " AND month = :month",
                where,
            ).fetchone()
            assert {name: stored[name] for name in row} == row
    assert len(fresh) >= 2


def test_parts_keep_extremes_in_order_and_the_rest_together() -> None:
    rest = [DerivedRow("strategy_days", {"date": str(n)}) for n in range(5)]
    count = 2 * EXTREMES_AT_ONCE + 1
    rows = [*rest, *(DerivedRow(EXTREMES, {"log_id": n}) for n in reversed(range(count)))]
    made = list(parts(rows))
    assert [len(part) for part in made] == [EXTREMES_AT_ONCE, EXTREMES_AT_ONCE, 1, len(rest)]
    assert [row.values["log_id"] for part in made[:-1] for row in part] == list(range(count))
    assert list(made[-1]) == rest
    assert list(parts([])) == []

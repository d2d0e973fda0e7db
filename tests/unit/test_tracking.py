"""The track record beside a run: its faults stay its own, and its end is waited for once."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from oracle import tracking
from oracle.config import Config
from oracle.core.engine import Turn
from oracle.core.messages import SessionClosed, SessionOpened, Stamped, TimerFired
from oracle.jobs import Job, Result
from oracle.metrics.catalogue import Labels
from oracle.metrics.observer import Observer
from oracle.store.sqlite import Store
from oracle.tracking import Tracking
from oracle.worker import Aside
from tests.unit.books import CLOSE_NS
from tests.unit.builders import DATES, OPEN_NS, TABLE


def closed(date: str) -> Turn:
    return Turn(Stamped(7, CLOSE_NS, TimerFired("x", CLOSE_NS)), (SessionClosed(date, CLOSE_NS),))


async def made(folder: Path, store: Store) -> Tracking:
    track = Observer(Labels(), {"version": "0"}, 0).track
    return Tracking(store, folder, TABLE, Config(), (), track, date=DATES[0], paced=True)


async def test_a_fault_while_it_looks_at_a_turn_is_told_and_does_not_reach_the_loop(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", OPEN_NS, token="tok", feed="opra")
    beside = await made(tmp_path, store)
    try:
        with capture_logs() as said:
            beside.on_turn(closed("0000"))  # no date: its week cannot be told
        (line,) = said
        assert (line["event"], line["seq"]) == ("tracking_failed", 7)
        assert line["problem"].startswith("ValueError")
        opened = SessionOpened(DATES[0], OPEN_NS, CLOSE_NS)
        beside.on_turn(Turn(Stamped(8, OPEN_NS, TimerFired("x", OPEN_NS)), (opened,)))
        assert beside.periodic._task is not None
    finally:
        await beside.close()
        await store.close()


async def test_a_stop_waits_once_for_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(Aside):
        async def run(self, job: Job) -> Result:
            return await asyncio.Future[Result]()

    monkeypatch.setattr(tracking, "Aside", Stuck)
    monkeypatch.setattr(tracking, "COMPLETE_S", 0.2)
    store = await Store.open(tmp_path, "sim", OPEN_NS, token="tok", feed="opra")
    beside = await made(tmp_path, store)
    beside.on_turn(closed(DATES[0]))
    waited: list[float] = []
    wait = asyncio.wait

    async def noted(tasks: Iterable[asyncio.Task[None]], *, timeout: float | None = None) -> object:  # noqa: ASYNC109
        waited.extend(() if timeout is None else (timeout,))
        return await wait(tasks, timeout=timeout)

    monkeypatch.setattr(asyncio, "wait", noted)
    await beside.finish()
    await store.close()
    assert len(waited) == 2
    assert sum(waited) <= 0.2 + 1e-9
    assert beside.periodic._task is not None
    assert beside.periodic._task.done()

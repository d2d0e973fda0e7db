"""Copies of the database: consistent, private, and only so many."""

import asyncio
import datetime as dt
import sqlite3
from pathlib import Path

from oracle.core.errors import StoreError
from oracle.housekeeping import KEEP, Housekeeping
from oracle.store.sqlite import Store


async def test_copies_are_databases_and_the_oldest_go(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "s", "sim", 1)
    keeper = Housekeeping(tmp_path / "s", store.backup)
    days = [dt.date(2026, 1, 1) + dt.timedelta(days=n) for n in range(KEEP + 2)]
    for day in days:
        target = await keeper.copy(day)
        assert target is not None
        assert target.stat().st_mode & 0o077 == 0
    again = await keeper.copy(days[-1])
    kept = sorted(path.stem for path in (tmp_path / "s" / "backups").iterdir())
    assert kept == [day.isoformat() for day in days[-KEEP:]]
    assert again is not None
    with sqlite3.connect(again) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    await store.close()


async def test_a_failed_copy_is_no_reason_to_stop(tmp_path: Path) -> None:
    async def broken(_: Path) -> None:
        raise StoreError("disk full")

    assert await Housekeeping(tmp_path, broken).copy(dt.date(2026, 1, 1)) is None


async def test_the_job_is_planned_for_weekdays_after_the_close(tmp_path: Path) -> None:
    async def nothing(_: Path) -> None: ...

    keeper = Housekeeping(tmp_path, nothing)
    keeper.start()
    (job,) = keeper._scheduler.get_jobs()
    friday = dt.datetime(2026, 3, 6, 17, 0, tzinfo=dt.UTC)
    first = job.trigger.get_next_fire_time(None, friday)
    second = job.trigger.get_next_fire_time(first, first + dt.timedelta(seconds=1))
    # The clocks change on the Sunday between them; the New York hour stays.
    assert first.isoformat() == "2026-03-06T16:30:00-05:00"
    assert second.isoformat() == "2026-03-09T16:30:00-04:00"
    keeper.stop()
    keeper.stop()


async def test_old_journal_segments_go_when_a_number_of_days_is_wished_and_the_newest_stays(tmp_path: Path) -> None:
    async def copied(target: Path) -> None:
        await asyncio.to_thread(target.touch)

    journals = tmp_path / "journal"
    journals.mkdir()
    names = [f"{date}T143000.000000000Z.oj" for date in ("20260102", "20260105", "20260110", "20260111")]
    for name in names:
        (journals / name).touch()
    (journals / "notes.txt").touch()
    kept = lambda: sorted(path.name for path in journals.glob("*.oj"))  # noqa: E731
    await Housekeeping(tmp_path, copied).copy(dt.date(2026, 1, 12))
    assert kept() == names
    await Housekeeping(tmp_path, copied, journal_days=7).copy(dt.date(2026, 1, 12))
    assert kept() == names[1:]
    await Housekeeping(tmp_path, copied, journal_days=7).copy(dt.date(2026, 6, 1))
    assert kept() == names[-1:]
    assert (journals / "notes.txt").exists()

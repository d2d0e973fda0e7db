"""Housekeeping by the wall clock: a copy of the database after each weekday's close. Never anything that trades.

Inputs: the store's backup. Outputs: ``<state>/backups/YYYY-MM-DD.db``, the newest ``KEEP`` of them; journal segments
older than the wished number of days are deleted then, if any is wished. Paced and replayed sessions do not use it.
"""

import datetime as dt
from collections.abc import Awaitable, Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from oracle.core.errors import StoreError

log = structlog.get_logger("oracle.housekeeping")
NEW_YORK = ZoneInfo("America/New_York")
KEEP = 14
# A host that slept through the hour still makes its copy when it wakes the same day.
MISFIRE_GRACE_S = 6 * 3600


class Housekeeping:
    """Runs while the daemon does; ``start`` and ``stop``."""

    def __init__(self, state: Path, backup: Callable[[Path], Awaitable[None]], journal_days: int = 0) -> None:
        self._folder = state / "backups"
        self._journals = state / "journal"
        self._journal_days = journal_days
        self._backup = backup
        self._scheduler = AsyncIOScheduler(timezone=NEW_YORK)

    def start(self) -> None:
        """Plan the jobs."""
        trigger = CronTrigger(day_of_week="mon-fri", hour=16, minute=30, timezone=NEW_YORK)
        self._scheduler.add_job(
            self.copy, trigger, id="backup", misfire_grace_time=MISFIRE_GRACE_S, coalesce=True, max_instances=1
        )
        self._scheduler.start()

    def stop(self) -> None:
        """Plan nothing more; a copy under way is finished by the store."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def copy(self, today: dt.date | None = None) -> Path | None:
        """Make today's copy and drop the oldest; a failure is logged and tried again the next day."""
        day = today or dt.datetime.now(NEW_YORK).date()
        target = self._folder / f"{day.isoformat()}.db"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            fresh = target.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            await self._backup(fresh)
            # A copy that failed leaves the one before it.
            fresh.replace(target)
            for old in sorted(self._folder.glob("????-??-??.db"))[:-KEEP]:
                old.unlink()
            self._drop_journals(day)
        except (OSError, StoreError) as error:
            log.error("backup_failed", problem=str(error))
            return None
        log.info("backup_made", file=target.name, bytes=target.stat().st_size)
        return target

    def _drop_journals(self, today: dt.date) -> None:
        """Delete segments that began too long ago, by the UTC date in their names; 0 days keep all."""
        if self._journal_days == 0:
            return
        oldest = f"{today - dt.timedelta(days=self._journal_days):%Y%m%d}"
        # The newest is the running process's own, however long ago it was started.
        for segment in sorted(self._journals.glob("????????T*.oj"))[:-1]:
            if segment.name[:8] < oldest:
                segment.unlink()
                log.info("journal_dropped", file=segment.name)

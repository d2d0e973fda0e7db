"""What the daemon does by the calendar: a line for each session, a review for each week, a report for each month.

Inputs: turns in which a session opened or closed, so that business time decides. Outputs: log lines; files that
``oracle/reviews.py`` writes in the worker. Invariants: one job at a time, few wait; a failure is logged and counted,
and made up for at the next session's open or close, because a missing file is due again.
"""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from oracle.core.engine import Turn
from oracle.core.messages import SessionClosed, SessionOpened
from oracle.core.sessions import SessionTable
from oracle.jobs import Made, MakeReports, Reports, Summarise, Summary
from oracle.metrics.track import TrackGauges
from oracle.worker import Worker

log = structlog.get_logger("oracle.periodic")
# Sessions whose line waits; in a simulation at full speed one closes every few seconds.
MOST_WAITING = 64
DRAIN_S = 5.0
DAY, MONTH, WEEK = "day", "month", "week"
SAID_EACH = 20


class Periodic:
    """One observer of turns, one task at most."""

    def __init__(
        self, make_worker: Callable[[], Worker], state: Path, table: SessionTable, gauges: TrackGauges
    ) -> None:
        """Take the parts.

        Args:
            make_worker: makes what carries out the jobs; it is let go when there are none.
            state: the folder whose database is meant, and in which ``reports`` is made.
            table: tells a week's last session.
            gauges: where reports are counted.
        """
        self._make_worker, self._state = make_worker, str(state)
        self._table, self._gauges = table, gauges
        self._lines: list[str] = []
        self._reports: MakeReports | None = None
        self._task: asyncio.Task[None] | None = None

    def on_turn(self, turn: Turn, _seconds: float = 0.0) -> None:
        """Note what a turn makes due, and begin."""
        for message in turn.messages:
            kind = type(message)
            if kind is SessionOpened:
                self._due(message.date, week_over=False)  # type: ignore[attr-defined]
            elif kind is SessionClosed and message.date:  # type: ignore[attr-defined]
                self._closed(message.date)  # type: ignore[attr-defined]

    async def finish(self, limit_s: float = DRAIN_S) -> None:
        """Do what waits and end; what is not done by the limit is due again at the next start."""
        task = self._task
        if task is None or task.done():
            return
        _, late = await asyncio.wait((task,), timeout=limit_s)
        if late:
            await self.abandon()
            log.warning("reports_cut_short", limit_s=limit_s)

    async def abandon(self) -> None:
        """Give up what is under way."""
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait((task,))

    def _closed(self, date: str) -> None:
        if len(self._lines) >= MOST_WAITING:
            self._failed(DAY, self._lines.pop(0), "too many sessions wait for their line")
        self._lines.append(date)
        after = self._table.after(date)
        self._due(date, week_over=after is not None and week_of(after.date) != week_of(date))

    def _due(self, date: str, *, week_over: bool) -> None:
        """The newest date stands for all before it: what is missing is found by looking at the files."""
        self._reports = MakeReports(self._state, date, week_over)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        # Something may become due while a worker is let go.
        while self._lines or self._reports is not None:
            worker = self._make_worker()
            try:
                await self._do_all(worker)
            finally:
                await worker.close()

    async def _do_all(self, worker: Worker) -> None:
        while self._lines or self._reports is not None:
            if self._lines:
                date = self._lines.pop(0)
                await self._tried(DAY, date, self._say(worker, date))
            elif self._reports is not None:
                job, self._reports = self._reports, None
                await self._tried(MONTH, job.date[:7], self._make(worker, job))

    async def _tried(self, kind: str, name: str, work: Awaitable[None]) -> None:
        """One failure, whatever it is, keeps nothing else from being written."""
        try:
            await work
        except Exception as error:
            self._failed(kind, name, str(error) or type(error).__name__)

    async def _say(self, worker: Worker, date: str) -> None:
        done = await worker.run(Summarise(self._state, date))
        assert isinstance(done, Summary)
        log.info("session_summary", **done.facts)
        self._gauges.reported(DAY, True)

    async def _make(self, worker: Worker, job: MakeReports) -> None:
        done = await worker.run(job)
        assert isinstance(done, Reports)
        for made in done.made:
            self._tell(made)

    def _tell(self, made: Made) -> None:
        if made.problem:
            self._failed(made.kind, made.name, made.problem)
            return
        self._gauges.reported(made.kind, True)
        if made.kind == MONTH:
            log.info("month_reported", month=made.name, file=made.file)
            return
        facts = dict(made.facts)
        against = facts.pop("trades_against_plan", ())
        log.info("week_reviewed", file=made.file, **facts)
        for row in against[:SAID_EACH]:
            log.warning("went_against_plan", **row)

    def _failed(self, kind: str, name: str, problem: str) -> None:
        self._gauges.reported(kind, False)
        log.error("report_failed", report=kind, name=name, problem=problem)


def week_of(date: str) -> str:
    """The ISO week of a date, ``YYYY-Www``; its year is that of its Thursday."""
    year, week, _ = dt.date.fromisoformat(date).isocalendar()
    return f"{year}-W{week:02d}"

"""What is written by the calendar: what is due, that it is written once, and what happens when it cannot be."""

import asyncio
import datetime as dt
import json
import sqlite3
from collections.abc import MutableMapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from oracle.core.engine import Turn
from oracle.core.message import Message
from oracle.core.messages import SessionClosed, SessionOpened, Stamped, TimerFired
from oracle.core.sessions import Session, SessionTable
from oracle.jobs import Job, MakeReports, Reports, Result, Summarise
from oracle.metrics.catalogue import Labels
from oracle.metrics.observer import Observer
from oracle.periodic import MOST_WAITING, Periodic, week_of
from oracle.reviews import FOLDER, make_missing, summarise, summary
from oracle.store import performance, read
from oracle.store.state import DATABASE_NAME
from oracle.worker import Aside, JobError, Worker
from tests.unit.report_books import CONDOR, MARKUP, ORB, make_books

DAY_S = 86_400
NS = 1_000_000_000


def table(first: str, days: int) -> SessionTable:
    """Every weekday from a date on."""
    start = dt.date.fromisoformat(first)
    dates = [start + dt.timedelta(days=n) for n in range(days)]
    opens = {d: int(dt.datetime(d.year, d.month, d.day, 14, 30, tzinfo=dt.UTC).timestamp()) * NS for d in dates}
    return SessionTable(Session(d.isoformat(), at, at + 23_400 * NS) for d, at in opens.items() if d.weekday() < 5)


TABLE = table("2026-01-05", 60)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 sessions, 2026-01-05 to 2026-02-06."""
    return make_books(tmp_path_factory.mktemp("books"), sessions=25)


@pytest.fixture
def books(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may write beside."""
    with closing(sqlite3.connect(made / DATABASE_NAME)) as db:
        db.execute("VACUUM INTO ?", (str(tmp_path / DATABASE_NAME),))
    return tmp_path


def files(state: Path) -> list[str]:
    return sorted(path.name for path in (state / FOLDER).iterdir()) if (state / FOLDER).exists() else []


def make(state: Path, date: str, *, week_over: bool = False) -> Reports:
    return make_missing(MakeReports(str(state), date, week_over))


# ----------------------------------------------------------------------------------------------------- what is due


def test_a_week_is_named_by_its_thursday() -> None:
    assert [week_of(d) for d in ("2026-01-01", "2025-12-29", "2027-01-01")] == ["2026-W01", "2026-W01", "2026-W53"]


def test_nothing_is_due_in_the_first_week(books: Path) -> None:
    assert make(books, "2026-01-07").made == ()
    assert files(books) == []


def test_a_week_is_due_after_its_last_close_and_a_month_with_the_next_ones_first_session(books: Path) -> None:
    assert [(m.kind, m.name) for m in make(books, "2026-01-09", week_over=True).made] == [("week", "2026-W02")]
    told = make(books, "2026-02-02").made
    assert [(m.kind, m.name, m.problem) for m in told] == [
        ("month", "2026-01", ""), ("week", "2026-W03", ""), ("week", "2026-W04", ""), ("week", "2026-W05", ""),
    ]  # fmt: skip
    assert files(books) == [
        "2026-01.html", "week-2026-W02.md", "week-2026-W03.md", "week-2026-W04.md", "week-2026-W05.md",
    ]  # fmt: skip


def test_a_file_that_is_there_is_never_written_again_and_a_missing_one_is(books: Path) -> None:
    make(books, "2026-02-02")
    kept, lost = books / FOLDER / "2026-01.html", books / FOLDER / "week-2026-W03.md"
    kept.write_text("signed by hand")
    text = lost.read_text()
    lost.unlink()
    assert [m.name for m in make(books, "2026-02-04").made] == ["2026-W03"]
    assert kept.read_text() == "signed by hand"
    assert lost.read_text() == text


def test_files_are_whole_and_their_owners_alone(books: Path) -> None:
    make(books, "2026-02-02")
    assert (books / FOLDER).stat().st_mode & 0o777 == 0o700
    for path in (books / FOLDER).iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_size > 100
    page = (books / FOLDER / "2026-01.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert MARKUP not in page


def test_one_that_cannot_be_written_does_not_keep_the_others(books: Path) -> None:
    (books / FOLDER).mkdir()
    (books / FOLDER / ".week-2026-W03.md.new").mkdir()
    problems = {m.name: m.problem for m in make(books, "2026-02-02").made}
    assert "Error" in problems.pop("2026-W03")
    assert set(problems.values()) == {""}
    assert "2026-01.html" in files(books)
    (books / FOLDER / ".week-2026-W03.md.new").rmdir()
    assert [m.name for m in make(books, "2026-02-03").made] == ["2026-W03"]


# ------------------------------------------------------------------------------------------------------- contents


def test_each_trade_stands_in_one_review(books: Path) -> None:
    told = make(books, "2026-02-06", week_over=True).made
    weeks = [m.facts for m in told if m.kind == "week"]
    with read.reading(books) as db:
        trades = performance.read_trades(db)
    assert sum(week["trades"] for week in weeks) == len(trades)
    assert sum(week["net_pnl_usd"] for week in weeks) == pytest.approx(sum(t.net_micros for t in trades) / 1e6)


def test_a_review_names_what_went_against_its_plan(books: Path) -> None:
    told = make(books, "2026-02-06", week_over=True).made
    facts = [m.facts for m in told if m.kind == "week"]
    against = [row for week in facts for row in week["trades_against_plan"]]
    assert against
    assert any(row["strategy"] == CONDOR and row["exit_rule"] == "orphan leg" for row in against)
    for name, row in ((one["week"], row) for one in facts for row in one["trades_against_plan"]):
        text = (books / FOLDER / f"week-{name}.md").read_text()
        assert row["trade_id"] in text
        assert row["why"][0] in text


def test_a_sessions_summary_adds_up_with_the_books(books: Path) -> None:
    date = "2026-01-08"  # the fourth: two trades, two breakers, one of them cleared
    facts = summarise(Summarise(str(books), date)).facts
    assert json.loads(json.dumps(facts)) == facts
    with read.reading(books) as db:
        trades = [t for t in performance.read_trades(db) if t.session == date]
    assert facts["trades"] == len(trades) == 2
    assert facts["wins"] + facts["losses"] + facts["scratches"] == 2
    assert set(facts["strategies"]) == {ORB, CONDOR}
    assert facts["net_pnl_usd"] == pytest.approx(sum(t.net_micros for t in trades) / 1e6)
    assert facts["net_pnl_usd"] == pytest.approx(sum(row["net_pnl_usd"] for row in facts["strategies"].values()))
    assert facts["day_pnl_usd"] == pytest.approx(facts["net_pnl_usd"])
    assert facts["equity_usd"] > 0
    assert 0 <= facts["drawdown"] < 1
    assert facts["breakers"] == ["day_loss", "drawdown"]
    assert facts["standing"] == ["day_loss"]
    assert facts["open_trades"] == 0


def test_a_session_without_trades_or_marks_says_that_it_knows_nothing(books: Path) -> None:
    with read.reading(books) as db:
        facts = summary(db, "2026-03-02")
    assert (facts["trades"], facts["net_pnl_usd"], facts["strategies"]) == (0, 0.0, {})
    assert (facts["equity_usd"], facts["day_pnl_usd"], facts["drawdown"]) == (None, None, None)


# ----------------------------------------------------------------------------------------------------- the observer


class Counting(Aside):
    """The real work; which jobs came, and a planned fault."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.ending, self.let_go = asyncio.Event(), asyncio.Event()
        self.ending.set()
        self.closed = 0

    async def run(self, job: Job) -> Result:
        self.jobs.append(job)
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await super().run(job)

    async def close(self) -> None:
        self.closed += 1
        self.let_go.set()
        await self.ending.wait()


class Calendar:
    """A periodic observer on its books."""

    def __init__(self, books: Path) -> None:
        self.worker = Counting()
        self.observer = Observer(Labels(), {"version": "0"}, 0)
        self.periodic = Periodic(self.take, books, TABLE, self.observer.track)

    def take(self) -> Worker:
        return self.worker

    def tell(self, *messages: Message) -> None:
        self.periodic.on_turn(Turn(Stamped(1, 1, TimerFired("x", 1)), messages))

    def opened(self, date: str) -> None:
        session = TABLE.on(date)
        assert session is not None
        self.tell(SessionOpened(date, session.open_ns, session.close_ns))

    def closed(self, date: str) -> None:
        session = TABLE.on(date)
        assert session is not None
        self.tell(SessionClosed(date, session.close_ns))

    def count(self, report: str, result: str) -> float:
        series = f'oracle_reports_total{{report="{report}",result="{result}"}} '
        (line,) = [x for x in self.observer.text().decode().splitlines() if x.startswith(series)]
        return float(line.rpartition(" ")[2])


def events(said: Sequence[MutableMapping[str, Any]]) -> list[object]:
    return [line["event"] for line in said]


async def test_a_friday_tells_its_day_and_its_week(books: Path) -> None:
    calendar = Calendar(books)
    with capture_logs() as said:
        calendar.closed("2026-01-09")
        await calendar.periodic.finish(60)
    assert events(said)[:2] == ["session_summary", "week_reviewed"]
    assert said[0]["session"] == "2026-01-09"
    assert said[1]["trades"] == 7
    assert events(said).count("went_against_plan") == said[1]["against_plan"] > 0
    assert files(books) == ["week-2026-W02.md"]
    assert calendar.count("day", "done") == calendar.count("week", "done") == 1
    assert calendar.worker.closed == 1


async def test_a_thursday_tells_its_day_only(books: Path) -> None:
    calendar = Calendar(books)
    calendar.closed("2026-01-08")
    await calendar.periodic.finish(60)
    assert files(books) == []
    assert calendar.count("day", "done") == 1


async def test_the_first_session_of_a_month_brings_the_report_of_the_last(books: Path) -> None:
    calendar = Calendar(books)
    with capture_logs() as said:
        calendar.opened("2026-02-02")
        await calendar.periodic.finish(60)
        calendar.opened("2026-02-03")
        await calendar.periodic.finish(60)
    assert events(said).count("month_reported") == 1
    assert calendar.count("month", "done") == 1
    assert "2026-01.html" in files(books)


@pytest.mark.parametrize("fault", [JobError("OSError: no space"), ValueError("what nobody thought of")])
async def test_a_failure_is_told_counted_and_due_again(books: Path, fault: Exception) -> None:
    calendar = Calendar(books)
    calendar.worker.fault = fault
    with capture_logs() as said:
        calendar.closed("2026-01-09")
        await calendar.periodic.finish(60)
    assert {line["event"] for line in said} == {"report_failed"}
    assert calendar.count("day", "failed") == 1
    assert calendar.count("month", "failed") == 1
    calendar.worker.fault = None
    calendar.opened("2026-01-12")
    await calendar.periodic.finish(60)
    assert files(books) == ["week-2026-W02.md"]


async def test_what_waits_has_a_limit_and_the_newest_date_stands_for_all(books: Path) -> None:
    calendar = Calendar(books)
    calendar.worker.gate.clear()
    dates = [session.date for session in TABLE.sessions][:30]
    with capture_logs() as said:
        for date in dates * 3:
            calendar.opened(date)
            calendar.closed(date)
        calendar.worker.gate.set()
        await calendar.periodic.finish(60)
    assert events(said).count("session_summary") == MOST_WAITING
    assert events(said).count("report_failed") == 3 * len(dates) - MOST_WAITING
    assert sum(isinstance(job, MakeReports) for job in calendar.worker.jobs) == 1


async def test_what_becomes_due_while_the_worker_is_let_go_is_done_as_well(books: Path) -> None:
    calendar = Calendar(books)
    calendar.worker.ending.clear()
    calendar.closed("2026-01-08")
    await calendar.worker.let_go.wait()
    calendar.closed("2026-01-09")
    calendar.worker.ending.set()
    await calendar.periodic.finish(60)
    assert files(books) == ["week-2026-W02.md"]
    assert calendar.count("day", "done") == 2


async def test_a_close_without_a_session_is_no_session(books: Path) -> None:
    calendar = Calendar(books)
    calendar.tell(SessionClosed("", 5))
    await calendar.periodic.finish(60)
    assert calendar.worker.jobs == []


async def test_the_end_waits_only_so_long(books: Path) -> None:
    calendar = Calendar(books)
    calendar.worker.gate.clear()
    calendar.closed("2026-01-09")
    with capture_logs() as said:
        await calendar.periodic.finish(0.01)
    assert events(said) == ["reports_cut_short"]
    assert calendar.worker.closed == 1

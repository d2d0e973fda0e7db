"""What the daemon writes by the calendar: reports of months, reviews of weeks, one line for each session.

Inputs: a state folder and the newest session's date. Outputs: ``reports/YYYY-MM.html``, ``reports/week-YYYY-Www.md``
and facts for the log. Invariants: a file that is there is never written again, so that a missed one is made at the next
session and none twice; a file is there whole or not at all; figures are those of ``metrics/performance.py``.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from oracle.core.errors import OracleError, StoreError
from oracle.core.money import MICROS
from oracle.core.trackrecord import ClosedTrade
from oracle.jobs import Made, MakeReports, Reports, Summarise, Summary
from oracle.metrics.performance import Figures, figures
from oracle.periodic import MONTH, WEEK, week_of
from oracle.store import performance, read
from oracle.store.rows import QUERIES

FOLDER = "reports"
# A database of many years, opened for the first time by this program, is caught up with over several sessions.
MOST_AT_ONCE = 24
Facts = dict[str, Any]


# ------------------------------------------------------------------------------------------------------ a session


def summarise(job: Summarise) -> Summary:
    """Say what a session came to."""
    with read.reading(Path(job.state)) as db:
        return Summary(summary(db, job.date))


def summary(db: sqlite3.Connection, date: str) -> Facts:
    """A session's trades by strategy, the account at its end, and what stopped it; None is unknown."""
    trades = [trade for trade in performance.read_trades(db) if trade.session == date]
    names = sorted({trade.key.strategy for trade in trades})
    equity = db.execute(QUERIES["review_equity"], {"date": date}).fetchone()
    known = equity is not None
    return {
        "session": date,
        **_counts(trades),
        "strategies": {name: _counts([t for t in trades if t.key.strategy == name]) for name in names},
        "equity_usd": equity["equity_micros"] / MICROS if known else None,
        "day_pnl_usd": (equity["equity_micros"] - equity["day_start_equity_micros"]) / MICROS if known else None,
        "drawdown": _drawdown(equity["equity_micros"], equity["peak_equity_micros"]) if known else None,
        "marks_stale": equity["marks_stale"] if known else None,
        "breakers": [row["latch"] for row in db.execute(QUERIES["review_breakers"], {"date": date})],
        "standing": [row["latch"] for row in db.execute(QUERIES["load_latches"]) if row["active"]],
        "open_trades": db.execute(QUERIES["review_open"]).fetchone()[0],
    }


def _counts(trades: Sequence[ClosedTrade]) -> Facts:
    made = figures(trades, ())
    return {
        "trades": made.trades, "wins": made.wins, "losses": made.losses, "scratches": made.scratches,
        "net_pnl_usd": made.net_pnl_usd if trades else 0.0,
    }  # fmt: skip


def _drawdown(equity: int, peak: int) -> float | None:
    return 1 - equity / peak if peak > 0 else None


# --------------------------------------------------------------------------------------------- months and weeks


def make_missing(job: MakeReports) -> Reports:
    """Write the reports of months and the reviews of weeks that are over and have none; what fails is told."""
    folder = Path(job.state) / FOLDER
    with read.reading(Path(job.state)) as db:
        due = [one for one in _due(db, job) if not _file(folder, *one).exists()]
        return Reports(tuple(_make(db, folder, kind, name) for kind, name in due[:MOST_AT_ONCE]))


def _due(db: sqlite3.Connection, job: MakeReports) -> list[tuple[str, str]]:
    """What is over and had a session, oldest first: (kind, name)."""
    held = [row["date"] for row in db.execute(QUERIES["review_sessions"])]
    month, week = job.date[:7], week_of(job.date)
    months = {date[:7] for date in held if date[:7] < month}
    weeks = {week_of(date) for date in held if date <= job.date}
    over = {one for one in weeks if one < week or (job.week_over and one == week)}
    return [*((MONTH, name) for name in sorted(months)), *((WEEK, name) for name in sorted(over))]


def _file(folder: Path, kind: str, name: str) -> Path:
    return folder / (f"{name}.html" if kind == MONTH else f"week-{name}.md")


def _make(db: sqlite3.Connection, folder: Path, kind: str, name: str) -> Made:
    """Write one file; one that cannot be made does not keep the others from it."""
    target = _file(folder, kind, name)
    try:
        text, facts = (_page().report(db, month=name), {}) if kind == MONTH else review(db, name)
        _write(target, text)
    except (OracleError, OSError, sqlite3.Error, ValueError, ArithmeticError) as error:
        return Made(kind, name, str(target), problem=f"{type(error).__name__}: {error}")
    return Made(kind, name, str(target), facts)


def _page() -> Any:
    """What draws charts takes seconds to load: only when something is written."""
    return import_module("oracle.reporting_page")


def _write(target: Path, text: str) -> None:
    """Put a file in its place whole, for its owner alone."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(target)


# --------------------------------------------------------------------------------------------------------- a week


def review(db: sqlite3.Connection, week: str) -> tuple[str, Facts]:
    """The review of a week as Markdown, and the facts of its line in the log.

    It tells of the trades that ended since the last close of the week before: what is settled after a week's last close
    stands in the next review, so that each trade stands in one.
    """
    sessions = [row for row in db.execute(QUERIES["review_sessions"]) if week_of(row["date"]) <= week]
    within = [row for row in sessions if week_of(row["date"]) == week]
    if not within:
        raise StoreError(f"no session of week {week} is recorded")
    before_ns = max((row["close_ns"] for row in sessions if week_of(row["date"]) < week), default=-1)
    until_ns = within[-1]["close_ns"]
    trades = [t for t in performance.read_trades(db) if before_ns < t.closed_ns <= until_ns]
    against: list[Facts] = _page().against_plan(db, trades)
    made = figures(trades, ())
    facts: Facts = {
        "week": week, "sessions": len(within), **_counts(trades), "against_plan": len(against),
        "trades_against_plan": against,
    }  # fmt: skip
    return "\n".join(_lines(week, within, trades, against, made)), facts


def _lines(
    week: str, sessions: Sequence[sqlite3.Row], trades: Sequence[ClosedTrade], against: Sequence[Facts], made: Figures
) -> Iterator[str]:
    yield f"# Week {week}"
    yield ""
    span = f"{sessions[0]['date']} to {sessions[-1]['date']} ({len(sessions)})"
    yield f"Sessions {span}. Dollars are net of modelled fees."
    yield ""
    yield "| strategy | trades | wins | losses | scratches | net P&L, USD |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name in sorted({trade.key.strategy for trade in trades}):
        yield _row(name, _counts([trade for trade in trades if trade.key.strategy == name]))
    yield _row("all", _counts(trades))
    yield ""
    yield "## Trades that went against their plan"
    yield ""
    if not against:
        yield f"None of {made.trades}."
    for row in against:
        what = f"{row['closed']} {row['strategy']} {row['instrument']}: {row['net_usd']:+,.2f} USD"
        yield f"- {what}, ended by {row['exit_rule']} ({row['trade_id']})"
        for why in row["why"]:
            yield f"    - {why}"
    yield ""


def _row(name: str, counts: Facts) -> str:
    cells = [name, *(str(counts[key]) for key in ("trades", "wins", "losses", "scratches"))]
    return f"| {' | '.join(cells)} | {counts['net_pnl_usd']:+,.2f} |"

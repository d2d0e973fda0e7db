"""Performance and readiness of what a database holds: the one place from which commands, pages and reviews take them.

Inputs: an open store (read-only). Outputs: plain values that JSON can hold. Invariants: figures are those of
``metrics/performance.py`` over stored trades and sessions, nothing is computed twice; what is unknown is None.
"""

import dataclasses
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from oracle.core.criteria import TRADES
from oracle.core.errors import ConfigurationError
from oracle.core.money import MICROS
from oracle.core.trackrecord import ACCOUNT, ClosedTrade, DayResult, StrategyKey
from oracle.derive import bound_of
from oracle.metrics.criteria import criteria_for
from oracle.metrics.performance import drawdown_curve, equity_curve, figures, monthly, r_multiples
from oracle.metrics.readiness import Assessment, assess
from oracle.metrics.record import make_record, record_text, signing_key, worst_feed
from oracle.store import performance as stored
from oracle.store import read
from oracle.store.rows import QUERIES

Facts = dict[str, Any]
ACCOUNT_KEY: Final = StrategyKey(ACCOUNT, "")
SIMULATED: Final[Mapping[str, str]] = {
    "backtest": "Simulated: a backtest. No figure here was earned, not even on paper.",
    "sim": "Simulated: the embedded exchange. No figure here was earned, not even on paper.",
    "paper": "Paper trading: the broker simulates the fills, and no money was at risk.",
}
READY, NOT_READY, OUT_OF_REACH = "ready", "not ready", "out of reach"
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


@dataclass(slots=True, frozen=True)
class Track:
    """What one version of a strategy, or the account, has done; ``current``: no other version of it ran later."""

    key: StrategyKey
    trades: list[ClosedTrade]
    days: list[DayResult]
    current: bool

    def within(self, first: str, last: str) -> "Track":
        """Only what happened from one month to another, each YYYY-MM and itself included."""
        return Track(
            self.key, [trade for trade in self.trades if first <= trade.session[:7] <= last],
            [day for day in self.days if first <= day.date[:7] <= last], self.current,
        )  # fmt: skip

    @property
    def span(self) -> tuple[str, str] | None:
        """First and last session; None before the first."""
        dates = [day.date for day in self.days] + [trade.session for trade in self.trades]
        return (min(dates), max(dates)) if dates else None


def tracks(db: sqlite3.Connection, strategy: str | None = None) -> list[Track]:
    """Read every track: the account first, then strategies by name, each with its newest version first.

    Raises:
        ConfigurationError: the strategy has never run here.
        StoreError: a stored row cannot be read.
    """
    keys = [key for key in stored.keys(db) if key.strategy != ACCOUNT]
    if strategy is not None and strategy not in {key.strategy for key in keys}:
        there = ", ".join(sorted({key.strategy for key in keys}))
        fix = f"use one of: {there}" if there else "no strategy has run on this database yet"
        raise ConfigurationError("STRATEGY", f"{strategy!r} has no session and no trade here", fix)
    if strategy is not None:
        return _of_strategy(db, [key for key in keys if key.strategy == strategy])
    found = [Track(ACCOUNT_KEY, stored.read_trades(db), stored.read_days(db, ACCOUNT_KEY), True)]
    for name in sorted({key.strategy for key in keys}):
        found += _of_strategy(db, [key for key in keys if key.strategy == name])
    return found


def _of_strategy(db: sqlite3.Connection, keys: Iterable[StrategyKey]) -> list[Track]:
    """The versions of one strategy, newest first."""
    read = [(key, stored.read_trades(db, key), stored.read_days(db, key)) for key in keys]
    started = {(row["strategy"], row["strategy_hash"]): row["at_ns"] for row in db.execute(QUERIES["report_starts"])}
    # As v_latest_strategy_performance: by the last start, in older databases by the last trade.
    read.sort(
        key=lambda one: (started.get((one[0].strategy, one[0].strategy_hash), 0), one[1][-1].log_id if one[1] else 0)
    )
    return [Track(key, trades, days, number == 0) for number, (key, trades, days) in enumerate(reversed(read))]


def performance(db: sqlite3.Connection, *, strategy: str | None = None, month: str | None = None) -> Facts:
    """What the account and each version of each strategy came to: what ``oracle performance --json`` prints.

    Args:
        db: an open store.
        strategy: only this one; None is the account and all.
        month: figures, curve and distributions of this month alone, YYYY-MM; None is all time. ``months`` are all.

    Raises:
        ConfigurationError: the strategy or the month is not there.
    """
    found = tracks(db, strategy)
    return {
        "mode": mode_of(db),
        "period": month or "all",
        "incomplete": incomplete(db, found),
        "performance": rows(db, found, month),
    }


def rows(db: sqlite3.Connection, found: Sequence[Track], month: str | None) -> list[Facts]:
    """One row of figures for each track.

    Raises:
        ConfigurationError: ``month`` is not a month, or nothing happened in it.
    """
    if month is not None:
        check_month(found, month)
    return [_row(db, track, month) for track in found]


def _row(db: sqlite3.Connection, track: Track, month: str | None) -> Facts:
    chosen = track if month is None else track.within(month, month)
    dates, index = equity_curve(chosen.days)
    span = chosen.span
    by_month = {
        # A month's bound is that of its own last trade.
        name: dataclasses.replace(made, break_even_bound=_bound(db, track.within(name, name)))
        for name, made in monthly(track.trades, track.days).items()
    }
    return {
        "strategy": track.key.strategy,
        "strategy_hash": track.key.strategy_hash,
        "current": track.current,
        "first": None if span is None else span[0],
        "last": None if span is None else span[1],
        "figures": figures(chosen.trades, chosen.days, bound=_bound(db, chosen)).as_dict(),
        "months": {name: made.as_dict() for name, made in by_month.items()},
        # The first point is the capital before the first session, which has no date.
        "curve": {
            "dates": [date or None for date in dates],
            "index": index.tolist(),
            "drawdown": drawdown_curve(index).tolist(),
        },
        "net_pnl_usd": [trade.net_micros / MICROS for trade in chosen.trades],
        "r_multiples": r_multiples(chosen.trades).tolist(),
    }


def readiness(
    db: sqlite3.Connection, *, strategy: str | None = None, month: str | None = None, bootstrap: bool = True
) -> list[Facts]:
    """Judge each version of each strategy: what ``oracle readiness --json`` prints.

    ``month``: as it stood at its end. Newest versions have ``current``.

    Raises:
        ConfigurationError: the strategy is not there.
    """
    return judged(db, tracks(db, strategy), month, bootstrap=bootstrap)


def judged(db: sqlite3.Connection, found: Sequence[Track], month: str | None, *, bootstrap: bool = True) -> list[Facts]:
    """The assessments of tracks as plain values, with the verdict in a word."""
    out = []
    for track in found:
        if track.key.strategy == ACCOUNT:
            continue
        chosen = track if month is None else track.within("", month)
        made = assessment(db, chosen, bootstrap=bootstrap)
        told = made.as_dict()
        required = [row["required"] for row in told["criteria"] if row["name"] == TRADES]
        told["trades_required"] = required[0] if required else None
        out.append({**told, "verdict": verdict(made), "current": track.current})
    return out


def assessment(db: sqlite3.Connection, track: Track, *, bootstrap: bool = True) -> Assessment:
    """Judge one track against its strategy's criteria."""
    name = track.key.strategy
    return assess(
        track.key, track.trades, track.days, criteria_for(name, stored.read_criteria(db, name)),
        parameter_sets=stored.parameter_sets(db, name), bound=_bound(db, track), bootstrap=bootstrap,
    )  # fmt: skip


def signed_record(db: sqlite3.Connection, state: Path, track: Track, at_ns: int) -> str:
    """Write the signed, dated record of one version of a strategy, for the gate to live capital, as text.

    Args:
        state: the folder that has, or gets, the key to sign with.
        at_ns: now, UTC.

    Raises:
        ConfigurationError: the key cannot be used, or no equity is on record.
    """
    equity = read.status(db)["equity"]
    if equity is None:
        raise ConfigurationError("--record", "no equity of the account is on record", "run a session first")
    made = assessment(db, track)
    seen = figures(track.trades, track.days, bound=_bound(db, track))
    record = make_record(
        made, seen, equity["equity_usd"], worst_feed(track.trades), track.trades, signing_key(state), at_ns,
        mode=mode_of(db),
    )  # fmt: skip
    return record_text(record)


def _bound(db: sqlite3.Connection, track: Track) -> float | None:
    """The two-outcome bound of the exit plan of the last trade, as stored figures have it."""
    return bound_of(db, track.key, track.trades[-1].log_id if track.trades else 0)


def verdict(made: Assessment) -> str:
    """``ready``, ``out of reach`` (a criterion that its kind of trade cannot meet) or ``not ready``."""
    if made.ready:
        return READY
    return OUT_OF_REACH if made.out_of_reach else NOT_READY


def incomplete(db: sqlite3.Connection, found: Sequence[Track]) -> str:
    """What is not known because derived rows are missing, in words; empty when nothing is.

    A session that is over and in which a trade ended has a result of its strategy; one that still runs has none yet.
    """
    sessions = db.execute(QUERIES["fold_sessions"], {"after": ""}).fetchall()
    over = {row["date"] for row in sessions[:-1]} | {row["date"] for row in sessions if row["ended_ns"] is not None}
    lacking: dict[str, set[str]] = {}
    for track in found:
        missing = {trade.session for trade in track.trades} & over - {day.date for day in track.days}
        if missing:
            lacking.setdefault(track.key.strategy, set()).update(missing)
    if not lacking:
        return ""
    dates = sorted(set().union(*lacking.values()))
    when = dates[0] if len(dates) == 1 else f"{len(dates)} sessions from {dates[0]} to {dates[-1]}"
    return (
        f"There are trades but no results of sessions of {', '.join(sorted(lacking))} ({when}), so that curves, Sharpe "
        "and drawdown are not known, or wrong. Stop the daemon and run oracle recompute."
    )


def mode_of(db: sqlite3.Connection) -> str:
    """The mode of the books."""
    return str(db.execute(QUERIES["get_meta"], {"key": "mode"}).fetchone()[0])


def check_month(found: Sequence[Track], month: str) -> None:
    """Refuse what is not a month, or one in which nothing happened.

    Raises:
        ConfigurationError: it is.
    """
    if not _MONTH.fullmatch(month):
        raise ConfigurationError("--month", f"{month!r} is not a month", "write YYYY-MM")
    there = sorted({day.date[:7] for t in found for day in t.days} | {x.session[:7] for t in found for x in t.trades})
    if month not in there:
        fix = f"there are: {', '.join(there)}" if there else "no session is recorded yet"
        raise ConfigurationError("--month", f"nothing is recorded of {month}", fix)

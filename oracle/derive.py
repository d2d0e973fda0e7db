"""The rows that are derived from the books: sessions' results, extremes of trades, statistics, readiness. One place.

Inputs: an open database. Outputs: ``DerivedRow`` values, for the running daemon, for ``oracle recompute`` and for
backtests, so that a refreshed row and a recomputed one are the same bytes. Pure: nothing is written, no clock is read.
Invariant: going on from where it stood gives what beginning anew gives.
"""

import sqlite3
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from oracle.core.messages import SubmitOrder
from oracle.core.money import MICROS, from_micros
from oracle.core.structures import legs_of, payoff
from oracle.core.trackrecord import ACCOUNT, DayResult, StrategyKey
from oracle.metrics.criteria import criteria_for
from oracle.metrics.performance import Accumulator, Figures
from oracle.metrics.readiness import assess
from oracle.options.breakeven import plan_bound
from oracle.scopes import Counts, Scope
from oracle.store import performance
from oracle.store.dayfold import ACCOUNT_KEY, DayFold, SessionEnd
from oracle.store.performance import LAST_LOG_ID, DerivedRow
from oracle.store.rows import QUERIES, decoded

ALL: Final = "all"
# Databases that a process keeps the fold of: a daemon has one, a test run several.
_KEPT = 4
_STATISTICS = (
    "win_rate", "expectancy_usd", "expectancy_r", "profit_factor", "sharpe", "sortino", "max_drawdown", "exposure",
)  # fmt: skip


class Deriver:
    """Everything derived from one database, kept, so that one trade more costs little."""

    def __init__(self) -> None:
        self.fold = DayFold()
        self.scopes: dict[tuple[StrategyKey, str], Scope] = {}
        self.snapshots: list[DerivedRow] = []
        self._log_id = 0
        self._days_taken: dict[StrategyKey, int] = {}
        self._ends_taken = 0
        self._curve = Accumulator()  # of sessions alone
        self._counts = Counts()
        self._cumulative = 0
        self._last_end = 0
        self._pnl: dict[str, int | None] = {}
        self._ran: dict[str, set[str]] = {}
        self._extreme_ids: list[int] = []

    # -------------------------------------------------------------------------------------------------- reading

    def take(self, db: sqlite3.Connection) -> None:
        """Read what was committed since the last time.

        Raises:
            StoreError: a row does not hold what it must.
        """
        self.fold.advance(db)
        self._extreme_ids += list(self.fold.extremes)[len(self._extreme_ids) :]
        for trade in performance.read_trades(db, after_log_id=self._log_id, extremes=self.fold.extremes):
            self._log_id = trade.log_id
            for key in (trade.key, ACCOUNT_KEY):
                for month in (ALL, trade.session[:7]):
                    self._scope(key, month).trades.append(trade)
        for key, days in self.fold.days.items():
            for day in days[self._days_taken.get(key, 0) :]:
                for month in (ALL, day.date[:7]):
                    self._scope(key, month).days.append(day)
                if key == ACCOUNT_KEY:
                    self._pnl[day.date] = day.pnl_micros
                else:
                    self._ran.setdefault(day.date, set()).add(key.strategy)
            self._days_taken[key] = len(days)
        self._take_ends(db)

    def _scope(self, key: StrategyKey, month: str) -> Scope:
        found = self.scopes.get((key, month))
        if found is None:
            found = self.scopes[key, month] = Scope()
        return found

    def _take_ends(self, db: sqlite3.Connection) -> None:
        """Make the account's snapshot at each session's end that is new."""
        mode, account = performance.identity(db)
        everything = self._scope(ACCOUNT_KEY, ALL)
        for end in self.fold.ends[self._ends_taken :]:
            day, before = everything.days[self._ends_taken], self._counts.trades
            for trade in everything.trades[before:]:
                if trade.log_id > end.log_id:
                    break
                self._counts.add(trade)
            self._curve.add_day(day)
            self._cumulative += day.pnl_micros or 0
            span = {"after": self._last_end, "up_to": end.log_id}
            breakers = db.execute(QUERIES["breakers_between"], span).fetchone()[0]
            row = {"date": end.date, "mode": mode, "account": account, "breakers": breakers}
            self.snapshots.append(DerivedRow("performance_snapshots", row | self._snapshot(end, day, before)))
            self._ends_taken += 1
            self._last_end = end.log_id

    def _snapshot(self, end: SessionEnd, day: DayResult, before: int) -> dict[str, Any]:
        counts, curve = self._counts, self._curve.figures()
        won, lost = counts.gross_profit_micros, counts.gross_loss_micros
        return {
            "log_id": end.log_id, "balance_micros": end.cash_micros, "equity_micros": end.equity_micros,
            "day_pnl_micros": day.pnl_micros,
            "cumulative_pnl_micros": None if day.pnl_micros is None else self._cumulative,
            "day_trades": counts.trades - before, "trades": counts.trades, "wins": counts.wins,
            "losses": counts.losses, "scratches": counts.scratches,
            "win_rate": counts.wins / counts.trades if counts.trades else None,
            "profit_factor": won / lost if lost else None, "sharpe": curve.sharpe,
            "drawdown": curve.current_drawdown, "max_drawdown": curve.max_drawdown, "streak": counts.streak,
            "win_streak": counts.win_streak, "loss_streak": counts.loss_streak,
            "largest_loss_micros": counts.largest_loss_micros,
        }  # fmt: skip

    # ------------------------------------------------------------------------------------------------------ rows

    def refresh(
        self, db: sqlite3.Connection, keys: Iterable[StrategyKey] | None = None, *, bootstrap: bool = True
    ) -> list[DerivedRow]:
        """Make the rows that are new or may have changed since those that are stored.

        Args:
            db: an open database, in one snapshot.
            keys: whose statistics are wanted; None is everybody's.
            bootstrap: let readiness resample where everything else is certain enough.

        Raises:
            StoreError: a row does not hold what it must.
        """
        self.take(db)
        marks = db.execute(QUERIES["derived_marks"]).fetchone()
        rows = self._extremes_after(marks["extremes_log_id"] or 0)
        rows += self.day_rows(since=marks["days_date"] or "")
        since = marks["snapshots_date"] or ""
        rows += [row for row in self.snapshots if row.values["date"] >= since]
        noted = {row["date"] for row in db.execute(QUERIES["sessions_with_later_notes"])}
        rows += self.session_rows(db, since=marks["sessions_date"] or "", also=noted)
        for key in self.keys(db) if keys is None else sorted(set(keys)):
            stored = {row["month"]: row for row in db.execute(QUERIES["stats_marks"], _named(key))}
            for month in self.months(key):
                known, scope = stored.get(month), self._scope(key, month)
                if month == ALL or known is None or (known["stats_log_id"], known["stats_date"]) != scope.as_of:
                    rows.append(self.performance_row(db, key, month, bootstrap=bootstrap))
        return rows

    def keys(self, db: sqlite3.Connection) -> list[StrategyKey]:
        """Everybody on record or with a session."""
        return sorted({*performance.keys(db), *(key for key, _ in self.scopes)})

    def months(self, key: StrategyKey) -> list[str]:
        """The months of a strategy's trades and sessions, and all of them; there always is 'all'."""
        return sorted({ALL, *(month for one, month in self.scopes if one == key)})

    def _extremes_after(self, log_id: int) -> list[DerivedRow]:
        return [self.extremes_row(one) for one in self._extreme_ids[bisect_right(self._extreme_ids, log_id) :]]

    def extremes_row(self, log_id: int) -> DerivedRow:
        """How far the trade that ended with this message went."""
        return DerivedRow("trade_extremes", {"log_id": log_id, **self.fold.extremes[log_id]._asdict()})

    def day_rows(self, since: str = "") -> list[DerivedRow]:
        """Sessions' results from a date on."""
        found = []
        for key, days in sorted(self.fold.days.items()):
            first = len(days)
            while first > 0 and days[first - 1].date >= since:
                first -= 1
            found += [DerivedRow("strategy_days", _named(key) | msgspec.structs.asdict(day)) for day in days[first:]]
        return found

    def session_rows(self, db: sqlite3.Connection, since: str = "", also: Iterable[str] = ()) -> list[DerivedRow]:
        """Sessions from a date on, and some others."""
        dates = [row["date"] for row in db.execute(QUERIES["fold_sessions"], {"after": ""})]
        wanted = set(also)
        return [self.session_row(db, date) for date in dates if date >= since or date in wanted]

    def session_row(self, db: sqlite3.Connection, date: str, up_to: int = LAST_LOG_ID) -> DerivedRow:
        """One session, with what was recorded up to a message."""
        row = dict(db.execute(QUERIES["session_facts"], {"date": date, "up_to": up_to}).fetchone())
        ran = {*msgspec.json.decode(row["strategies"]), *self._ran.get(date, ())}
        row["strategies"] = msgspec.json.encode(sorted(ran)).decode()
        unknown = {"vix_open": None, "regime": None}
        values = {
            **row,
            **unknown,
            "date": date,
            "mode": performance.identity(db)[0],
            "pnl_micros": self._pnl.get(date),
        }
        return DerivedRow("trading_sessions", values)

    def performance_row(
        self,
        db: sqlite3.Connection,
        key: StrategyKey,
        month: str,
        *,
        bootstrap: bool,
        scope: Scope | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> DerivedRow:
        """The statistics of one scope.

        Args:
            scope: as it stood at another time; None is now.
            inputs: what else the assessment rests on, as stored with a row; None is what holds now.
        """
        at = self._scope(key, month) if scope is None else scope
        log_id, date = at.as_of
        bound = bound_of(db, key, log_id)
        values: dict[str, Any] = dict.fromkeys(("score", "ready", "reason", "assessment", "inputs"))
        if month == ALL and key.strategy != ACCOUNT:
            asked = _inputs(db, key, bootstrap) if inputs is None else inputs
            made = assess(
                key, at.trades, at.days, criteria_for(key.strategy, asked["criteria"]),
                parameter_sets=asked["parameter_sets"], bound=bound, bootstrap=asked["bootstrap"],
            )  # fmt: skip
            values = {
                "score": made.score, "ready": int(made.ready), "reason": made.reason,
                "assessment": _json(made.as_dict()), "inputs": _json(asked),
            }  # fmt: skip
        mode, _ = performance.identity(db)
        values |= {"month": month, "mode": mode, "stats_log_id": log_id, "stats_date": date, **_named(key)}
        return DerivedRow("strategy_performance", values | _statistics(at.figures(bound)))


def refresh(
    db: sqlite3.Connection,
    keys: Iterable[StrategyKey] | None = None,
    *,
    now_date: str | None = None,  # noqa: ARG001 - what is derived rests on rows alone
    bootstrap: bool = True,
) -> list[DerivedRow]:
    """Make the rows that are new or may have changed, going on from the last call for the same database.

    Args:
        db: an open database, in one snapshot.
        keys: whose statistics are wanted; None is everybody's.
        now_date: the newest session's date; it changes nothing.
        bootstrap: let readiness resample where everything else is certain enough.

    Raises:
        StoreError: a row does not hold what it must.
    """
    name, deriver = _taken(db)
    # Kept only if all went well: what read half of something would go on from there.
    rows = deriver.refresh(db, keys, bootstrap=bootstrap)
    _DERIVERS[name] = deriver
    while len(_DERIVERS) > _KEPT:
        _DERIVERS.popitem(last=False)
    return rows


_DERIVERS: "OrderedDict[tuple[str, str, str], Deriver]" = OrderedDict()


def _taken(db: sqlite3.Connection) -> tuple[tuple[str, str, str], Deriver]:
    """The deriver of a database, not kept any more.

    A new one when the database holds less than was read of it, because a backup was restored, or when a session came on
    record that began before what was read: a trade may be another session's and month's by it.
    """
    path = db.execute("PRAGMA database_list").fetchone()["file"]
    meta = dict(db.execute(QUERIES["read_meta"]).fetchall())
    name = (path, meta["instance_token"], meta["created_ns"])
    found = _DERIVERS.pop(name, None)
    newest = db.execute(QUERIES["newest_log_id"]).fetchone()[0] or 0
    if found is None or found.fold.log_id > newest or found.fold.is_overtaken(db):
        found = Deriver()
    return name, found


def bound_of(db: sqlite3.Connection, key: StrategyKey, log_id: int) -> float | None:
    """The two-outcome break-even of the exit plan of the trade that ended with a message, at the fees it had."""
    if key.strategy == ACCOUNT:
        return None
    row = db.execute(QUERIES["ended_entry"], {"log_id": log_id}).fetchone()
    if row is None or row["price_micros"] is None or row["leg_contracts"] == 0:
        return None
    order = decoded(SubmitOrder, row["message"])
    if order.exit_plan is None:
        return None
    legs, entry = legs_of(order.symbol), from_micros(row["price_micros"])
    most = payoff(legs, entry).max_loss_usd
    fee_usd = Decimal(row["fees_micros"]) / row["leg_contracts"] / MICROS
    found = plan_bound(
        float(entry), order.exit_plan, contracts=sum(leg.ratio for leg in legs), fee_usd=float(fee_usd),
        max_loss_usd=None if most is None else float(most),
    )  # fmt: skip
    return None if found is None else found.win_rate


def _inputs(db: sqlite3.Connection, key: StrategyKey, bootstrap: bool) -> dict[str, Any]:
    return {
        "bootstrap": bootstrap,
        "criteria": performance.read_criteria(db, key.strategy),
        "parameter_sets": performance.parameter_sets(db, key.strategy),
    }


def _statistics(figures: Figures) -> dict[str, Any]:
    return {**{name: getattr(figures, name) for name in _STATISTICS}, "figures": _json(figures.as_dict())}


def _named(key: StrategyKey) -> dict[str, Any]:
    return {"strategy": key.strategy, "strategy_hash": key.strategy_hash}


def _json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return msgspec.json.encode(value).decode()

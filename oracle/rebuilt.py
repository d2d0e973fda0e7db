"""Every derived row made anew from the books, and how the stored ones differ from it.

Inputs: an open database. Outputs: rows by table and key; differences that name the row and the columns. Pure: nothing
is written. Invariants: counts and statistics come from ``derive.py``; a stored row that is as of an earlier trade or
session is compared with what was true then, and is behind, not wrong.
"""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgspec

from oracle.core.trackrecord import StrategyKey
from oracle.derive import ALL, Deriver
from oracle.scopes import Counts, Scope
from oracle.store.performance import TABLES, DerivedRow, identity
from oracle.store.roundtrips import Fault
from oracle.store.rows import QUERIES

Key = tuple[Any, ...]
Rows = dict[Key, dict[str, Any]]
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "trade_extremes": ("log_id",),
    "strategy_days": ("strategy", "strategy_hash", "date"),
    "performance_snapshots": ("date", "mode", "account"),
    "trading_sessions": ("date", "mode"),
    "strategy_performance": ("strategy", "strategy_hash", "month", "mode"),
}
COUNTS: Final = (
    "trades", "wins", "losses", "scratches", "gross_profit_micros", "gross_loss_micros", "net_pnl_micros",
    "fees_modelled_micros", "fees_broker_micros", "largest_win_micros", "largest_loss_micros", "streak", "win_streak",
    "loss_streak", "last_log_id",
)  # fmt: skip
# Their newest rows are written again until the session is over.
_GROWING: Final = "trading_sessions"


@dataclass(slots=True)
class Rebuilt:
    """All derived rows as the books make them now."""

    deriver: Deriver
    rows: dict[str, Rows] = field(default_factory=dict)


def rebuild(
    db: sqlite3.Connection, *, statistics: bool = True, progress: Callable[[str], None] | None = None
) -> Rebuilt:
    """Make every derived row anew, telling which table is begun.

    Whether readiness resamples is left as it was when a row was stored, so that an unchanged row stays the same.

    Args:
        statistics: also those of strategy_performance; without them it has counts alone.

    Raises:
        StoreError: a row of the books does not hold what it must; it is named.
    """
    made = Rebuilt(Deriver())
    deriver, tell = made.deriver, progress or (lambda _table: None)
    tell("sessions and trades")
    deriver.take(db)
    extremes = (deriver.extremes_row(log_id) for log_id in deriver.fold.extremes)
    for row in (*extremes, *deriver.day_rows(), *deriver.snapshots, *deriver.session_rows(db)):
        _put(made.rows, row)
    tell("statistics")
    mode, _ = identity(db)
    asked = {
        key_of("strategy_performance", row): row["inputs"] for row in stored_rows(db, "strategy_performance").values()
    }
    performance: Rows = made.rows.setdefault("strategy_performance", {})
    if statistics:
        for key in deriver.keys(db):
            for month in deriver.months(key):
                resample = _resampled(asked.get((key.strategy, key.strategy_hash, month, mode)))
                values = deriver.performance_row(db, key, month, bootstrap=resample).values
                performance[key_of("strategy_performance", values)] = {**dict.fromkeys(COUNTS, 0), **values}
    for (key, month), scope in deriver.scopes.items():
        if scope.trades or statistics:
            name = (key.strategy, key.strategy_hash, month, mode)
            counted = {"strategy": name[0], "strategy_hash": name[1], "month": month, "mode": mode}
            performance[name] = {**performance.get(name, counted), **asdict(Counts.of(scope.trades))}
    return made


def _resampled(inputs: str | None) -> bool:
    try:
        return inputs is None or bool(msgspec.json.decode(inputs)["bootstrap"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return True


def stored_rows(db: sqlite3.Connection, table: str) -> Rows:
    """The rows of a derived table by their keys."""
    return {key_of(table, row): dict(row) for row in db.execute(QUERIES[f"derived_{table}"])}


def key_of(table: str, row: Mapping[str, Any] | sqlite3.Row) -> Key:
    """A row's primary key."""
    return tuple(row[name] for name in KEYS[table])


def changes(db: sqlite3.Connection, made: Rebuilt) -> dict[str, tuple[list[DerivedRow], list[DerivedRow]]]:
    """What must be written and what deleted, by table, for the stored rows to be the rebuilt ones."""
    found = {}
    for table in TABLES:
        stored, wanted = stored_rows(db, table), made.rows.get(table, {})
        put = [DerivedRow(table, row) for key, row in wanted.items() if stored.get(key) != row]
        drop = [DerivedRow(table, row) for key, row in stored.items() if key not in wanted]
        found[table] = (put, drop)
    return found


@dataclass(slots=True)
class Comparison:
    """Stored rows that are wrong, and how many are merely behind, by table."""

    faults: list[Fault] = field(default_factory=list)
    behind: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


def compare(db: sqlite3.Connection, made: Rebuilt) -> Comparison:
    """Compare every stored row with what the books made of it at its time; nothing is skipped.

    ``made`` may be without statistics: those are made here, as of each row's own trade and session.
    """
    result = Comparison()
    statistics = stored_rows(db, "strategy_performance")
    for table in TABLES:
        stored, wanted = stored_rows(db, table), made.rows.get(table, {})
        result.rows[table] = len(stored)
        result.behind[table] = 0
        written = _written(table, stored, statistics)
        for key, row in wanted.items():
            if key in stored:
                continue
            if table == "strategy_performance":
                whole = statistics.get((*key[:2], ALL, key[3]))
                late = row["trades"] == 0 and (whole is None or (whole["stats_date"] or "")[:7] < key[2])
            else:
                late = written is None or _age(table, key) > written
            if late:
                result.behind[table] += 1
            else:
                result.faults.append(Fault(table, _words(table, key), "it is missing"))
        newest = max((_age(table, key) for key in stored), default=None)
        for key, row in stored.items():
            problem, behind = _judge(db, made, table, key, row, wanted.get(key), is_newest=_age(table, key) == newest)
            result.behind[table] += behind
            if problem:
                result.faults.append(Fault(table, _words(table, key), problem))
    return result


def _written(table: str, stored: Rows, statistics: Rows) -> Any:
    """How far a table is: by its newest row, and by the statistics, which are written after it. None: it never was."""
    column = "stats_log_id" if table == "trade_extremes" else "stats_date"
    marks = [row[column] for row in statistics.values() if row[column] is not None]
    return max([*(_age(table, key) for key in stored), *marks], default=None)


def _judge(
    db: sqlite3.Connection, made: Rebuilt, table: str, key: Key, row: dict[str, Any], wanted: dict[str, Any] | None,
    *, is_newest: bool,
) -> tuple[str, bool]:  # fmt: skip
    """What is wrong with a stored row in words ("" is nothing), and whether it is behind."""
    if table == "strategy_performance":
        return _judge_statistics(db, made, key, row, wanted)
    if wanted is None:
        return "nothing in the books makes it", False
    if row == wanted:
        return "", False
    if table == _GROWING:
        then = made.deriver.session_row(db, row["date"], row["log_id"]).values
        if row["vix_close"] is None:
            then = {**then, "vix_close": None}  # it may have been told long after the session
        if is_newest and row["pnl_micros"] is None:
            then = {**then, "pnl_micros": None, "vix_close": row["vix_close"], "strategies": row["strategies"]}
        return (_differing(row, then), True) if then != row else ("", True)
    return _differing(row, wanted), False


def _judge_statistics(
    db: sqlite3.Connection, made: Rebuilt, key: Key, row: dict[str, Any], wanted: dict[str, Any] | None
) -> tuple[str, bool]:
    counted = {name: (wanted or {}).get(name, 0) for name in COUNTS}
    problem = _differing({name: row[name] for name in COUNTS}, counted)
    if row["stats_log_id"] is None or row["stats_date"] is None:
        return problem, True
    one, month = StrategyKey(key[0], key[1]), key[2]
    whole = made.deriver.scopes.get((one, month), Scope())
    scope = _as_of(whole, row["stats_log_id"], row["stats_date"])
    behind = whole.as_of != (row["stats_log_id"], row["stats_date"])
    try:
        inputs = None if row["inputs"] is None else msgspec.json.decode(row["inputs"])
        then = made.deriver.performance_row(db, one, month, bootstrap=True, scope=scope, inputs=inputs).values
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        return "; ".join(filter(None, (problem, f"inputs cannot be read ({error})"))), behind
    statistics = _differing({name: row[name] for name in then}, then)
    return "; ".join(filter(None, (problem, statistics))), behind


def _as_of(scope: Scope, log_id: int, date: str) -> Scope:
    """A scope as it stood after a trade and a session."""
    if scope.as_of == (log_id, date):
        return scope
    return Scope([t for t in scope.trades if t.log_id <= log_id], [d for d in scope.days if d.date <= date])


def _differing(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    wrong = [name for name in wanted if row.get(name) != wanted[name]]
    return "; ".join(f"{name} is {_short(row.get(name))}, by the books {_short(wanted[name])}" for name in wrong)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _age(table: str, key: Key) -> Any:
    """What the rows of a table are written in order of."""
    return key[KEYS[table].index("date")] if "date" in KEYS[table] else key[0]


def _words(table: str, key: Key) -> str:
    if table == "trade_extremes":
        return f"of the trade that ended with message {key[0]}"
    return " ".join(str(part) for part in key if part != "")


def _put(rows: dict[str, Rows], row: DerivedRow) -> None:
    rows.setdefault(row.table, {})[key_of(row.table, row.values)] = row.values

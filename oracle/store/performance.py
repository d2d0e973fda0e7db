"""What performance is judged on, read from the store, and the rows derived from it, written back.

Inputs: an open database (see ``read.reading``). Outputs: ClosedTrade and DayResult values, criteria, sessions.
Invariants: readers change nothing; trades come in the order in which they ended; derived rows are written in
transactions of their own, and a failure there is a DerivedError that leaves fills, orders and trades as they were.
"""

import itertools
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from oracle.core.criteria import floors, is_stricter
from oracle.core.errors import StoreError
from oracle.core.trackrecord import ACCOUNT, ClosedTrade, DayResult, StrategyKey
from oracle.store.dayfold import Extremes
from oracle.store.rows import QUERIES

LAST_LOG_ID: Final = (1 << 63) - 1
LAST_DATE: Final = "9999-12-31"
# The order in which they are written: what others rest on first, figures last.
TABLES: Final = ("trade_extremes", "strategy_days", "performance_snapshots", "trading_sessions", "strategy_performance")
_STATISTICS: Final = (
    "stats_log_id", "stats_date", "win_rate", "expectancy_usd", "expectancy_r", "profit_factor", "sharpe", "sortino",
    "max_drawdown", "exposure", "figures", "score", "ready", "reason", "assessment", "inputs",
)  # fmt: skip
# Extremes of trades come by the hundred thousand at the first start on an old database; commits of turns go between.
_AT_ONCE = 2_000


class DerivedRow(NamedTuple):
    """One row of a derived table, by the names of its columns."""

    table: str
    values: dict[str, Any]


class ParameterSet(NamedTuple):
    """A strategy as it starts: its code and parameters by hash, and the parameters as plain values."""

    strategy: str
    strategy_hash: str
    params: Mapping[str, Any]


def keys(db: sqlite3.Connection) -> list[StrategyKey]:
    """Every strategy and hash on record (started, wished or traded), and the account, in order."""
    return [StrategyKey(row["strategy"], row["strategy_hash"]) for row in db.execute(QUERIES["performance_keys"])]


def read_trades(
    db: sqlite3.Connection,
    key: StrategyKey | None = None,
    *,
    up_to_log_id: int | None = None,
    after_log_id: int = 0,
    extremes: Mapping[int, Extremes] | None = None,
) -> list[ClosedTrade]:
    """Round trips that are over, in the order of their ends; all of them for no key or the account's.

    Args:
        up_to_log_id: the last end to take; None is all.
        after_log_id: the last end not to take.
        extremes: worst and best values by the log id of the end, instead of the stored ones.

    Raises:
        StoreError: a row lacks what a trade that is over has; its log id is named.
    """
    everyone = key is None or key.strategy == ACCOUNT
    values = {
        "after": after_log_id,
        "up_to": LAST_LOG_ID if up_to_log_id is None else up_to_log_id,
        "strategy": None if everyone or key is None else key.strategy,
        "strategy_hash": None if everyone or key is None else key.strategy_hash,
    }
    shared: dict[tuple[str, str], StrategyKey] = {}
    return [_trade(row, shared, extremes) for row in db.execute(QUERIES["performance_trades"], values)]


def _trade(
    row: sqlite3.Row, shared: dict[tuple[str, str], StrategyKey], extremes: Mapping[int, Extremes] | None
) -> ClosedTrade:
    (
        log_id, trade_id, strategy, strategy_hash, underlying, symbol, opened_ns, closed_ns, session, contracts,
        leg_contracts, gross, net, fees_modelled, fees_broker, slippage, slippage_bps, planned, worst, equity, mae, mfe,
        exit_rule, feed,
    ) = row  # fmt: skip
    if None in (closed_ns, contracts, gross, fees_modelled, fees_broker, exit_rule):
        raise StoreError(f"database: trade {trade_id} ended with message {log_id}, but its row lacks what an end tells")
    key = shared.get((strategy, strategy_hash))
    if key is None:
        key = shared[strategy, strategy_hash] = StrategyKey(strategy, strategy_hash)
    if extremes is not None:
        mae, mfe, _ = extremes[log_id]
    return ClosedTrade(
        log_id, trade_id, key, underlying, symbol, opened_ns, closed_ns, session, contracts, leg_contracts, gross, net,
        fees_modelled, fees_broker, slippage, slippage_bps, planned, worst, equity, mae, mfe, exit_rule, feed,
    )  # fmt: skip


def read_days(db: sqlite3.Connection, key: StrategyKey, *, up_to: str | None = None) -> list[DayResult]:
    """What each session brought a strategy or the account, as stored, oldest first; ``up_to`` is the last date."""
    values = {
        "strategy": key.strategy, "strategy_hash": key.strategy_hash, "up_to": LAST_DATE if up_to is None else up_to,
    }  # fmt: skip
    return [DayResult(*row) for row in db.execute(QUERIES["performance_days"], values)]


def read_criteria(db: sqlite3.Connection, strategy: str) -> dict[str, float]:
    """What an operator made stricter than the program's own row for a strategy, by criterion."""
    own = floors(strategy)
    rows = db.execute(QUERIES["performance_criteria"], {"strategy": strategy})
    return {name: value for name, value in rows if is_stricter(name, value, own[name])}


def parameter_sets(db: sqlite3.Connection, strategy: str) -> int:
    """How many sets of parameters or code of a strategy ran in simulation or on paper on this database."""
    count: int = db.execute(QUERIES["count_parameter_sets"], {"strategy": strategy}).fetchone()[0]
    return count


def read_sessions(db: sqlite3.Connection, *, since: str = "") -> list[dict[str, Any]]:
    """Sessions as they are kept, oldest first: lists decoded, amounts in micros."""
    rows = db.execute(QUERIES["read_trading_sessions"], {"since": since})
    lists = ("strategies", "breakers", "notes")
    return [{**dict(row), **{name: msgspec.json.decode(row[name]) for name in lists}} for row in rows]


def read_snapshots(db: sqlite3.Connection, *, since: str = "") -> list[dict[str, Any]]:
    """The account at the end of each session, oldest first: amounts in micros."""
    rows = db.execute(QUERIES["read_performance_snapshots"], {"since": since})
    return [{**dict(row), "breakers": msgspec.json.decode(row["breakers"])} for row in rows]


def identity(db: sqlite3.Connection) -> tuple[str, str]:
    """The database's mode and instance token."""
    found = dict(db.execute(QUERIES["read_meta"]).fetchall())
    return found["mode"], found["instance_token"]


# ------------------------------------------------------------------------------------------------------- writing


def batches(rows: Iterable[DerivedRow]) -> Iterable[Sequence[DerivedRow]]:
    """Rows by transaction: tables in their order; extremes so many at a time, all else together.

    Extremes are in the order of their trades, so that whatever was stored before a kill has no gaps.
    """
    by_table: dict[str, list[DerivedRow]] = {table: [] for table in TABLES}
    for row in rows:
        by_table[row.table].append(row)
    extremes = sorted(by_table.pop("trade_extremes"), key=lambda row: row.values["log_id"])
    for first in range(0, max(0, len(extremes) - _AT_ONCE), _AT_ONCE):
        yield extremes[first : first + _AT_ONCE]
    written = (len(extremes) - 1) // _AT_ONCE * _AT_ONCE if extremes else 0
    rest = [*extremes[written:], *itertools.chain.from_iterable(by_table.values())]
    if rest:
        yield rest


def write_batch(db: sqlite3.Connection, rows: Sequence[DerivedRow]) -> None:
    """Write derived rows in one transaction, or none of them."""
    _transaction(db, [(QUERIES[f"put_{row.table}"], row.values) for row in rows])


def rewrite(
    db: sqlite3.Connection, put: Iterable[DerivedRow], drop: Iterable[DerivedRow], trades: Iterable[Mapping[str, Any]]
) -> None:
    """Make stored rows the rebuilt ones, in one transaction: write, delete, mend what trades keep of their fills."""
    statements: list[tuple[str, Mapping[str, Any]]] = [(QUERIES["mend_trade"], values) for values in trades]
    statements += [(QUERIES[f"drop_{row.table}"], row.values) for row in drop]
    for row in put:
        whole = row.table == "strategy_performance"
        values = {**dict.fromkeys(_STATISTICS), **row.values} if whole else row.values
        statements.append((QUERIES[f"{'restore' if whole else 'put'}_{row.table}"], values))
    _transaction(db, statements)


def register(db: sqlite3.Connection, sets: Iterable[ParameterSet], at_ns: int) -> None:
    """Put on record what a process starts with, after the last message that is stored, in one transaction.

    Args:
        at_ns: the start's time; a later start replaces what ran.
    """
    newest = db.execute(QUERIES["newest_log_id"]).fetchone()[0]
    statements = []
    for one in sets:
        row = {
            "strategy": one.strategy, "strategy_hash": one.strategy_hash, "at_ns": at_ns,
            "params": msgspec.json.encode(one.params, order="deterministic").decode(), "after_log_id": newest or 0,
        }  # fmt: skip
        statements += [(QUERIES["put_parameter_set"], row), (QUERIES["put_strategy_start"], row)]
    _transaction(db, statements)


def _transaction(db: sqlite3.Connection, statements: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement, values in statements:
            db.execute(statement, values)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise

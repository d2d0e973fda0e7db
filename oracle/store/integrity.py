"""Whether the stored rows can be what was committed: every fault is named with its row, and nothing is passed over.

Inputs: an open database. Outputs: faults in words. Looked for: damage of the file, rows without parents, rows that are
no message, numbers of messages and orders that are missing or out of order, a clock that went back, cash that the rows
do not make, marks without a session. Round trips are checked in ``roundtrips.py``, derived rows in ``rebuilt.py``.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final

from oracle.core.errors import OracleError
from oracle.core.instruments import multiplier
from oracle.core.messages import (
    CashTransferred,
    ExitTriggered,
    FeeCharged,
    ForeignExecution,
    LatchChanged,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    StrategyFailed,
    TradeOpened,
)
from oracle.store.roundtrips import Fault
from oracle.store.rows import (
    QUERIES,
    answer_of,
    correction_of,
    equity_of,
    intent_of,
    message_of,
    seed_of,
    settlement_of,
)
from oracle.store.windows import windows

MICRO_CENTS: Final = 1_000  # amounts that a remote told finer than a micro-dollar are rounded one by one
NS: Final = 1_000_000_000

_ROWS: Final[tuple[tuple[str, str, Callable[[sqlite3.Row], Any]], ...]] = (
    ("account_seed", "load_seed", seed_of),
    ("intents", "check_intents", intent_of),
    ("order_events", "load_order_events", lambda row: message_of(OrderAdvanced, row)),
    ("orders", "load_order_ends", lambda row: message_of(OrderClosed, row)),
    ("fills", "load_fills", lambda row: message_of(OrderFilled, row)),
    ("position_settlements", "load_settlements", settlement_of),
    ("foreign_executions", "load_foreign", lambda row: message_of(ForeignExecution, row)),
    ("fees", "load_fees", lambda row: message_of(FeeCharged, row)),
    ("cash_transfers", "load_cash_transfers", lambda row: message_of(CashTransferred, row)),
    ("cash_corrections", "load_cash_corrections", correction_of),
    ("trades", "load_opened", lambda row: message_of(TradeOpened, row)),
    ("exit_events", "load_triggered", lambda row: message_of(ExitTriggered, row)),
    ("latch_events", "load_latch_events", lambda row: message_of(LatchChanged, row)),
    ("equity_snapshots", "check_equity", equity_of),
    ("operator_answers", "load_operator_answers", answer_of),
    ("strategy_failures", "load_failures", lambda row: message_of(StrategyFailed, row)),
)  # fmt: skip
STEPS: Final = len(_ROWS) + 5


def faults(db: sqlite3.Connection, progress: Callable[[int], None] = lambda _: None) -> Iterator[Fault]:
    """Look at everything, telling how many of ``STEPS`` are done."""
    yield from _file(db)
    yield from _parents(db)
    progress(1)
    for done, (table, query, build) in enumerate(_ROWS, 2):
        yield from _rows(db, table, query, build)
        progress(done)
    for done, check in enumerate((_clock, _sequence, _sessions, _cash), len(_ROWS) + 2):
        yield from check(db)
        progress(done)


def _file(db: sqlite3.Connection) -> Iterator[Fault]:
    for row in db.execute("PRAGMA quick_check(20)"):
        if row[0] != "ok":
            yield Fault("database", "file", row[0])


def _parents(db: sqlite3.Connection) -> Iterator[Fault]:
    for table, rowid, parent, _ in db.execute("PRAGMA foreign_key_check").fetchall():
        name = "without a number" if rowid is None else f"{rowid}"
        yield Fault(table, name, f"it refers to a row of {parent} that is not there", rowid)


def _rows(db: sqlite3.Connection, table: str, query: str, build: Callable[[sqlite3.Row], Any]) -> Iterator[Fault]:
    for row in db.execute(QUERIES[query]):
        try:
            build(row)
        except (OracleError, ValueError, ArithmeticError, TypeError, KeyError) as error:
            yield Fault(table, _name(row), f"it is no message: {error}", row["log_id"])


def _name(row: sqlite3.Row) -> str:
    """What people call a row: its own id, else the number of its message."""
    columns = set(row.keys())
    for column in ("execution_id", "settlement_id", "intent_id", "order_id", "trade_id", "activity_id", "request_id"):
        if column in columns:
            return str(row[column])
    return f"message {row['log_id']}"


def _clock(db: sqlite3.Connection) -> Iterator[Fault]:
    """Messages are recorded in the order of their numbers, each number once."""
    for row in db.execute(QUERIES["check_clock"]):
        back_s = (row["before_ns"] - row["recorded_ns"]) / NS
        text = f"the clock went back by {back_s:.3f} s, to {row['recorded_ns']} ns"
        yield Fault(row["tbl"], f"message {row['log_id']}", text, row["log_id"])
    for row in db.execute(QUERIES["check_numbers"]):
        yield Fault(row["tbl"], f"message {row['log_id']}", "another message has the same number", row["log_id"])
    for row in db.execute(QUERIES["check_trade_times"]):
        yield Fault("trades", row["trade_id"], "it ended before it was opened", row["log_id"])


def _sequence(db: sqlite3.Connection) -> Iterator[Fault]:
    for row in db.execute(QUERIES["check_sequence"]):
        gone, after = row["sequence"] - row["before"] - 1, f"before {row['order_id']}"
        text = f"{gone} orders are missing {after}" if gone > 0 else f"its number {row['sequence']} is there before"
        yield Fault("orders", row["order_id"], text, row["log_id"])


def _sessions(db: sqlite3.Connection) -> Iterator[Fault]:
    for row in db.execute(QUERIES["check_sessions"]):
        yield Fault("sessions", row["date"], row["problem"])


def _cash(db: sqlite3.Connection) -> Iterator[Fault]:
    """Cash at every mark is the opening cash and all that moved it; what is missing before a mark is told there.

    Of several fills in one turn a mark may have seen the first alone and be stored after the last: it is what cash was
    at some time of its turn.
    """
    cash: int | None = None
    off, turn_ns = 0, -1
    seen: list[int] = []
    held: defaultdict[tuple[str, str], int] = defaultdict(int)
    for _, rows in windows(db, ("check_cash", "check_cash_flows")):
        for log_id, _, kind, recorded_ns, *values in rows:
            if kind == "seed":
                cash = values[0]
                continue
            if cash is None:
                yield Fault(_CASH_TABLES[kind], f"message {log_id}", "it is before the opening cash", log_id)
                return
            if recorded_ns != turn_ns:
                turn_ns, seen = recorded_ns, [cash]
            if kind == "mark":
                if all(abs(values[0] - off - one) > MICRO_CENTS for one in seen):
                    gone = (values[0] - cash - off) / 1_000_000
                    text = f"cash is {gone:+.6f} USD off what the rows since the mark before make"
                    yield Fault("equity_snapshots", f"message {log_id}", text, log_id)
                    off = values[0] - cash
            else:
                cash += values[0] if kind == "money" else -_paid(kind, held, *values)
                seen.append(cash)


def _paid(
    kind: str, held: defaultdict[tuple[str, str], int], trade_id: str, symbol: str, signed: int, price: int, fees: int
) -> int:
    """What a movement cost; a settlement takes towards zero what its trade held."""
    if kind == "settlement":
        signed = -signed if held[trade_id, symbol] > 0 else signed
    held[trade_id, symbol] += signed
    return signed * price * multiplier(symbol) + fees


_CASH_TABLES: Final = {
    "mark": "equity_snapshots", "fill": "fills", "settlement": "position_settlements", "shares": "position_settlements",
    "money": "fees, corrections or transfers",
}  # fmt: skip

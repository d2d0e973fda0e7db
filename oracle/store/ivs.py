"""Daily 30-day volatilities in the database, read and written by commands while the daemon runs or not.

Inputs: a state folder, observations. Outputs: rows of ``iv_history``, one for an underlying and date. Invariants: all
of a call's rows are written or none, in one short transaction of its own connection; what is there with another value
is replaced only when that is asked for. A running daemon reads what was written at its next start.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import msgspec

from oracle.core.errors import ConfigurationError, StoreError
from oracle.core.marketdata import DailyIvObserved
from oracle.store.read import reading
from oracle.store.rows import QUERIES, message_of
from oracle.store.state import DATABASE_NAME, StateLock

BUSY_TIMEOUT_S = 5.0
SHOWN = 5


class Written(msgspec.Struct, frozen=True):
    """What a call came to; ``daemon_running``: it will see the rows at its next start.

    ``kept``: in words, what is stored with another value than the one given and was left alone.
    """

    added: int
    replaced: int
    unchanged: int
    daemon_running: bool
    kept: tuple[str, ...] = ()


def observations(folder: Path) -> list[DailyIvObserved]:
    """All stored observations, by underlying and date.

    Raises:
        ConfigurationError: there is no database of this program's version.
        StoreError: it cannot be read.
    """
    with reading(folder) as db:
        return _rows(db)


def write(folder: Path, rows: Sequence[DailyIvObserved], *, replace: bool = False, keep: bool = False) -> Written:
    """Add observations. What is stored with the same value stays as it is, whoever said it.

    Args:
        folder: the state folder.
        rows: one of each underlying and date.
        replace: replace what is stored with another value.
        keep: leave that alone and fill gaps; ``replace`` goes before it.

    Raises:
        ConfigurationError: there is no database, or rows differ from what is stored and neither is set.
        StoreError: the database cannot be written, or was busy for too long. Nothing was written.
    """
    with reading(folder):
        pass  # says what is wrong with the database before anything is opened for writing
    path = folder / DATABASE_NAME
    lock = StateLock(folder)
    try:
        lock.acquire()  # no daemon starts while rows are written
        running = False
    except ConfigurationError:
        running = True
    try:
        name = f"file:{quote(str(path))}?mode=rw"
        with closing(sqlite3.connect(name, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)) as db:
            db.row_factory = sqlite3.Row
            for pragma in ("synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
                db.execute(f"PRAGMA {pragma}")
            return _write(db, rows, replace, keep, running)
    except sqlite3.Error as error:
        raise StoreError(f"database {path}: {error}; nothing was written") from error
    finally:
        lock.release()


def _write(
    db: sqlite3.Connection, rows: Sequence[DailyIvObserved], replace: bool, keep: bool, running: bool
) -> Written:
    db.execute("BEGIN IMMEDIATE")
    try:
        known = {(one.underlying, one.date): one for one in _rows(db)}
        others = [row for row in rows if known.get((row.underlying, row.date), row).iv_30d != row.iv_30d]
        if others and not replace and not keep:
            raise _conflict(others, known)
        new = [row for row in rows if (row.underlying, row.date) not in known]
        for row in (*new, *(others if replace else ())):
            db.execute(QUERIES["put_iv"], msgspec.structs.asdict(row))
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    unchanged = len(rows) - len(new) - len(others)
    kept = () if replace else tuple(_differs(row, known) for row in others)
    return Written(len(new), len(others) if replace else 0, unchanged, running, kept)


def _conflict(
    others: Sequence[DailyIvObserved], known: Mapping[tuple[str, str], DailyIvObserved]
) -> ConfigurationError:
    shown = [_differs(row, known) for row in others[:SHOWN]]
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    return ConfigurationError(
        "iv history", f"{len(others)} dates are stored already: {'; '.join(shown)}{more}",
        "nothing was written; leave them out, or give --replace",
    )  # fmt: skip


def _differs(row: DailyIvObserved, known: Mapping[tuple[str, str], DailyIvObserved]) -> str:
    there = known[row.underlying, row.date]
    return f"{row.underlying} {row.date}: stored {there.iv_30d:.4f} ({there.source}), given {row.iv_30d:.4f}"


def _rows(db: sqlite3.Connection) -> list[DailyIvObserved]:
    return [message_of(DailyIvObserved, row) for row in db.execute(QUERIES["load_iv"])]

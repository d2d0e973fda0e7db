"""Rows of several tables in the order of their messages, a window of messages at a time, so that memory stays bounded.

Inputs: an open database, names of queries whose rows begin with (log id, rank within it). Outputs: lists of plain rows.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, Final

from oracle.store.rows import QUERIES

_MESSAGES: Final = 50_000
_MESSAGE, _RANK = itemgetter(0), itemgetter(1)


def newest_log_id(db: sqlite3.Connection) -> int:
    """The number of the last message; 0 when there is none."""
    newest: int | None = db.execute(QUERIES["newest_log_id"]).fetchone()[0]
    return 0 if newest is None else newest


def windows(
    db: sqlite3.Connection, names: Sequence[str], after: int = 0
) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
    """Give (last log id, rows) window by window. A window without rows doubles the next: numbers may be far apart."""
    newest, size, cursor = newest_log_id(db), _MESSAGES, db.cursor()
    cursor.row_factory = None  # plain tuples: names are looked up one by one, and there are millions
    while after < newest:
        up_to = min(after + size, newest)
        rows: list[tuple[Any, ...]] = []
        for name in names:
            rows += cursor.execute(QUERIES[name], {"after": after, "up_to": up_to}).fetchall()
        # Nearly sorted runs: sorting them is cheaper than merging, and twice by a number than once by a pair.
        rows.sort(key=_RANK)
        rows.sort(key=_MESSAGE)
        yield up_to, rows
        size = _MESSAGES if rows else size * 2
        after = up_to

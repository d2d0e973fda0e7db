"""``oracle recompute``: make every derived row anew from the books, or check rows and books without a change.

Inputs: a state folder. Outputs: what was rebuilt and what differed, by table; faults that name their row. Invariants:
the books themselves are never changed, only what is a cache of them; a check writes nothing and runs beside a daemon;
what could not be looked at is told as a fault.
"""

import asyncio
import gc
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from oracle.core.errors import DerivedError, OracleError
from oracle.rebuilt import Comparison, changes, compare, rebuild
from oracle.store import integrity, read
from oracle.store.performance import TABLES, DerivedRow
from oracle.store.roundtrips import Fault, RoundTrips, differences
from oracle.store.sqlite import Store
from oracle.store.windows import newest_log_id

# (what is being done, how much of it is done, how much it is)
Progress = Callable[[str, int, int], None]
TRADES: Final = "trades"
# Messages from which on a process of its own for the trades is worth its start.
_MANY: Final = 300_000


def _silent(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class Rebuild:
    """What a rebuild came to, by table: rows as the books make them, and how many were not so; the faults it met."""

    rows: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """How many rows were written or deleted."""
        return sum(self.changed.values()) + sum(self.removed.values())


@dataclass(slots=True)
class Check:
    """What a check found: rows looked at and rows behind by table, and the faults."""

    rows: dict[str, int] = field(default_factory=dict)
    behind: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def recompute(folder: Path, progress: Progress = _silent) -> Rebuild:
    """Make every derived row of a stopped daemon's database anew, an older version's too.

    Raises:
        ConfigurationError: there is no database, or a daemon runs on it.
        StoreError: the database is damaged; nothing is written.
        DerivedError: a row of the books cannot be read; it is named, and nothing is written.
    """
    with _no_collection():
        return asyncio.run(_recompute(folder, progress))


async def _recompute(folder: Path, progress: Progress) -> Rebuild:
    mode, created_ns = read.mode_of(folder)
    store = await Store.open(folder, mode, created_ns)
    try:
        mended, (changed, put, drop) = await _both(folder, progress)
        if mended.rows:
            # What trades came to has changed, and all that follows from it.
            await store.rewrite([], [], mended.rows)
            changed, put, drop = _changed(folder, progress)
        await store.rewrite(put, drop, [])
    finally:
        await store.close()
    return Rebuild(
        {TRADES: mended.trades, **changed.rows}, {TRADES: len(mended.rows), **changed.changed},
        {TRADES: 0, **changed.removed}, mended.examples, mended.faults,
    )  # fmt: skip


Changed = tuple[Rebuild, list[DerivedRow], list[DerivedRow]]


async def _both(folder: Path, progress: Progress) -> tuple["Mended", Changed]:
    """Fold the trades and make the derived rows: of a large database at the same time, the trades in a process."""
    with read.reading(folder) as db:
        many = newest_log_id(db) > _MANY
    if not many:
        return mend(folder, progress), _changed(folder, progress)
    command = (sys.executable, "-m", "oracle.recompute", str(folder))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        beside = asyncio.create_task(process.communicate())
        changed = await asyncio.to_thread(_changed, folder, progress)
        told, _ = await beside
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise DerivedError(f"nothing is rebuilt: the fold of trades ended with code {process.returncode}")
    return msgspec.msgpack.decode(told, type=Mended), changed


class Mended(msgspec.Struct):
    """What the fold of all trades found: how many, rows to mend, each in words, and faults that it cannot mend."""

    trades: int
    rows: list[dict[str, Any]]
    examples: list[str]
    faults: list[Fault]


def mend(folder: Path, progress: Progress = _silent) -> Mended:
    """Find what the rows of trades keep of their fills and is not what the fills make."""
    with read.reading(folder) as db:
        folded = _folded(db, progress)
        found = Mended(len(folded.closed), [], [], list(folded.faults))
        for fault, values in differences(db, folded):
            if values is None:
                found.faults.append(fault)
            else:
                found.rows.append(values)
                found.examples.append(str(fault))
    return found


def _changed(folder: Path, progress: Progress) -> Changed:
    """Make all derived rows and tell which of the stored ones differ."""
    result, steps = Rebuild(), _Steps(progress, ("sessions and trades", "statistics"))
    put: list[DerivedRow] = []
    drop: list[DerivedRow] = []
    with read.reading(folder) as db:
        try:
            made = rebuild(db, progress=steps.next)
        except OracleError as error:
            raise DerivedError(f"nothing is rebuilt: {error}; oracle recompute --check names every such row") from error
        steps.next("comparing")
        for table, (written, deleted) in changes(db, made).items():
            result.rows[table] = len(made.rows.get(table, {}))
            result.changed[table], result.removed[table] = len(written), len(deleted)
            put += written
            drop += deleted
    return result, put, drop


def check(folder: Path, progress: Progress = _silent) -> Check:
    """Look at every row of the books and every derived row; changes nothing, and a daemon may run.

    Raises:
        ConfigurationError: there is no database of this version.
        StoreError: the database cannot be read at all.
    """
    with _no_collection(), read.reading(folder) as db:
        return check_database(db, progress)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no cycles of garbage: rows make none, and looking through millions of them is a quarter of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def check_database(db: sqlite3.Connection, progress: Progress = _silent) -> Check:
    """Look at every row of an open database."""
    found = Check()
    found.faults += integrity.faults(db, lambda step: progress("rows", step, integrity.STEPS))
    folded = _folded(db, progress, thorough=True)
    found.rows[TRADES], found.behind[TRADES] = len(folded.closed), 0
    found.faults += folded.faults
    found.faults += [fault for fault, _ in differences(db, folded)]
    steps = _Steps(progress, ("sessions and trades", "statistics"))
    try:
        compared: Comparison = compare(db, rebuild(db, statistics=False, progress=steps.next))
    except (OracleError, ValueError, KeyError, TypeError, ArithmeticError) as error:
        # A broken book makes no figures. What was not compared is told, so that a clean check is one of everything.
        text = f"not compared with the books, which cannot be folded: {error}"
        found.faults += [Fault(table, "all rows", text) for table in TABLES]
        return found
    found.rows |= compared.rows
    found.behind |= compared.behind
    found.faults += compared.faults
    return found


def _folded(db: sqlite3.Connection, progress: Progress, *, thorough: bool = False) -> RoundTrips:
    return RoundTrips(thorough=thorough).fold(db, lambda done, total: progress("round trips", done, total))


class _Steps:
    """Turns the names of steps into progress."""

    def __init__(self, progress: Progress, names: tuple[str, ...]) -> None:
        self._progress = progress
        self._total = len(names)
        self._done = 0

    def next(self, name: str) -> None:
        """Begin a step."""
        self._progress(name, self._done, self._total)
        self._done += 1


def main() -> None:
    """``python -m oracle.recompute FOLDER``: fold the trades for a process that makes the derived rows meanwhile."""
    with _no_collection():
        sys.stdout.buffer.write(msgspec.msgpack.encode(mend(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()

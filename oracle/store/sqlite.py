"""The durable truth: one SQLite database in WAL mode, one writer, one transaction for each turn that has facts.

Inputs: a turn's messages. Outputs: rows on disk before ``commit`` returns; everything a start needs from ``load``.
Invariants: all of a turn's durable messages are stored or none; amounts are integer micros; a database belongs to
one mode. A failing write raises StoreError: the caller must end the process, because effects may not leave.
"""

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TypeVar

import aiosqlite

from oracle.core.errors import ConfigurationError, DerivedError, StoreError
from oracle.core.message import Message
from oracle.core.messages import Stamped
from oracle.store.loading import Loaded, load
from oracle.store.performance import DerivedRow, ParameterSet, batches, register, rewrite, write_batch
from oracle.store.rows import QUERIES, WRITERS, Stamp
from oracle.store.state import DATABASE_NAME, FILE_MODE, StateLock, make_private, prepare_folder

T = TypeVar("T")
APPLICATION_ID = 0x4F52434C  # "ORCL": tells our databases from other programs'
_BUSY_TIMEOUT_MS = 5_000


def is_durable(message: Message) -> bool:
    """Whether the store keeps this message."""
    return type(message) in WRITERS


def durable(stamped: Stamped, messages: Sequence[Message]) -> list[Message]:
    """What of a turn must be stored, in order: the input itself when it is durable, then what it caused."""
    kept = [message for message in messages if type(message) in WRITERS]
    if type(stamped.input) in WRITERS:
        kept.insert(0, stamped.input)
    return kept


def schema_files() -> list[tuple[int, str]]:
    """The numbered schema files as (version, SQL), in order."""
    folder = resources.files("oracle.store").joinpath("schema")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name.partition("_")[0]), folder.joinpath(name).read_text("utf-8")) for name in names]


class Store:
    """The writer. Open with ``Store.open``; one task calls ``commit`` and awaits it before the turn's effects leave."""

    def __init__(
        self, connection: aiosqlite.Connection, lock: StateLock, path: Path, on_commit_s: Callable[[float], None] | None
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._on_commit_s = on_commit_s
        self._log_id = 0
        self._feed: str | None = None
        self.path = path

    @classmethod
    async def open(
        cls,
        folder: Path,
        mode: str,
        created_ns: int,
        *,
        token: str | None = None,
        feed: str | None = None,
        on_commit_s: Callable[[float], None] | None = None,
    ) -> "Store":
        """Lock the state folder, open or create its database and bring the schema up to date.

        Args:
            folder: the state folder; made with mode 0700 when missing.
            mode: the account's mode; a database made in another mode is refused, so that books never mix.
            created_ns: the present time, stored when the database is new.
            token: the instance token of a new database; random when None. Simulations pass one to repeat order ids.
            feed: the option feed's quality (``opra``, ``indicative``), kept with each trade; None is unknown.
            on_commit_s: called with each commit's duration in seconds.

        Raises:
            ConfigurationError: the folder or file cannot be used, belongs to another process, mode or program, or was
                written by a newer version.
            StoreError: the database is damaged.
        """
        prepare_folder(folder)
        lock = StateLock(folder)
        lock.acquire()
        try:
            path = folder / DATABASE_NAME
            connection = await _connect(path)
            store = cls(connection, lock, path, on_commit_s)
            store._feed = feed
            try:
                await store._call(_prepare, path, mode, created_ns, token)
                store._log_id = await store._call(_newest_log_id)
            except BaseException:
                await connection.close()
                raise
        except BaseException:
            lock.release()
            raise
        return store

    async def commit(self, messages: Sequence[Message], stamped: Stamped) -> int:
        """Store a turn's durable messages, its input included, in one transaction; durable when this returns.

        Returns:
            How many messages were stored; 0 costs nothing.

        Raises:
            StoreError: nothing of the turn is stored; the process must end.
        """
        kept = durable(stamped, messages)
        if not kept:
            return 0
        started = time.perf_counter()
        await self._call(self._write, kept, stamped)
        if self._on_commit_s is not None:
            self._on_commit_s(time.perf_counter() - started)
        return len(kept)

    async def load(self) -> Loaded:
        """Read what a start needs.

        Raises:
            StoreError: the database cannot be read or holds an invalid row.
        """
        return await self._call(load)

    async def write_derived(self, rows: Sequence[DerivedRow]) -> int:
        """Write rows that are derived from the books, in transactions of their own; returns how many.

        Raises:
            DerivedError: some are not written; fills, orders and trades are as they were, and turns go on.
        """
        for batch in batches(rows):
            await self._call_beside(write_batch, batch)
        return len(rows)

    async def rewrite(
        self, put: Sequence[DerivedRow], drop: Sequence[DerivedRow], trades: Sequence[Mapping[str, object]]
    ) -> None:
        """Make the stored derived rows, and what rows of trades keep of their fills, the rebuilt ones, or leave all.

        Raises:
            DerivedError: nothing is written.
        """
        if put or drop or trades:
            await self._call_beside(rewrite, put, drop, trades)

    async def register(self, sets: Sequence[ParameterSet], at_ns: int) -> None:
        """Put on record which code and parameters a process starts with, before its first turn.

        Raises:
            DerivedError: it could not be written; nothing that was booked is touched.
        """
        await self._call_beside(register, sets, at_ns)

    async def backup(self, target: Path) -> None:
        """Write a consistent copy to a new file of mode 0600 (``VACUUM INTO``).

        Raises:
            StoreError: the file exists or cannot be written.
        """
        await self._call(_backup, target)

    async def relax(self) -> None:
        """Stop waiting for the disk at each commit: for a backtest, whose loss costs a repetition."""
        await self._call(lambda db: db.execute("PRAGMA synchronous = OFF"))

    async def probe(self) -> None:
        """Try that a write transaction can begin; changes nothing.

        Raises:
            StoreError: it cannot.
        """
        await self._call(_probe)

    async def close(self) -> None:
        """Fold the write-ahead log into the database and let go of the folder."""
        try:
            await self._connection.close()
        finally:
            self._lock.release()

    def _write(self, db: sqlite3.Connection, messages: list[Message], stamped: Stamped) -> None:
        log_id = self._log_id
        db.execute("BEGIN IMMEDIATE")
        try:
            for message in messages:
                log_id += 1
                WRITERS[type(message)](db, message, Stamp(log_id, stamped.seq, stamped.at_ns, self._feed))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._log_id = log_id

    async def _call_beside(self, work: Callable[..., None], *args: object) -> None:
        try:
            await self._call(work, *args)
        except StoreError as error:
            raise DerivedError(str(error)) from error

    async def _call(self, work: Callable[..., T], *args: object) -> T:
        # One hop to the connection's thread for a whole transaction. Separate awaits for BEGIN, rows and COMMIT would
        # leave it half done when the task is cancelled between two of them; aiosqlite has no public way to say this.
        connection = self._connection
        try:
            result: T = await connection._execute(  # type: ignore[no-untyped-call]
                lambda: work(connection._conn, *args)
            )
        except (sqlite3.Error, ValueError) as error:
            raise StoreError(f"database {self.path}: {error}") from error
        return result


async def _connect(path: Path) -> aiosqlite.Connection:
    make_private(path)  # before SQLite makes it: the write-ahead log and its index take the database's mode
    try:
        # isolation_level=None: transactions are ours, not the driver's; `autocommit=` needs Python 3.12.
        connection = aiosqlite.connect(path, isolation_level=None)
        # A process that ends on a fault must end; nothing that this thread has not confirmed counts as stored.
        connection._thread.daemon = True
        return await connection
    except sqlite3.Error as error:
        # aiosqlite stops its thread without waiting; it would speak to a loop that is closed by then.
        await asyncio.to_thread(connection._thread.join)
        raise ConfigurationError("state", f"{path} cannot be opened ({error})", "move it away") from error


def _probe(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.execute("ROLLBACK")


def _backup(db: sqlite3.Connection, target: Path) -> None:
    try:
        target.touch(mode=FILE_MODE, exist_ok=False)
    except OSError as error:
        raise StoreError(f"backup {target}: {error.strerror or error}") from error
    db.execute("VACUUM INTO ?", (str(target),))


def _newest_log_id(db: sqlite3.Connection) -> int:
    newest: int | None = db.execute(QUERIES["newest_log_id"]).fetchone()[0]
    return 0 if newest is None else newest


def _prepare(db: sqlite3.Connection, path: Path, mode: str, created_ns: int, token: str | None) -> None:
    db.row_factory = sqlite3.Row
    try:
        db.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        application_id = db.execute("PRAGMA application_id").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(
            "state", f"{path} is not a readable database ({error})", "move the file away or restore a backup"
        ) from error
    if application_id != APPLICATION_ID and tables:
        raise ConfigurationError("state", f"{path} belongs to another program", "choose another state folder")
    # trusted_schema off: functions named in a tampered schema do not run.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        db.execute(f"PRAGMA {pragma}")
    _check_integrity(db, path)
    _migrate(db, path)
    _settle_meta(db, path, mode, created_ns, token)


def _check_integrity(db: sqlite3.Connection, path: Path) -> None:
    try:
        faults = [row[0] for row in db.execute("PRAGMA quick_check(3)")]
        orphans = db.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        faults, orphans = [str(error)], []
    if orphans:
        faults = [*faults, f"{len(orphans)} rows without their parents"]
    if faults != ["ok"]:
        raise StoreError(f"database {path} is damaged ({'; '.join(faults)}); stop and restore a backup")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    files = schema_files()
    newest = files[-1][0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > newest:
        raise ConfigurationError(
            "state",
            f"{path} has schema version {version}, this program knows {newest}",
            "install the newer program or restore the backup made before its first start",
        )
    for number, sql in files:
        if number > version:
            # executescript runs outside the driver's transactions, so the script brings its own.
            stamp = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
            try:
                db.executescript(f"BEGIN IMMEDIATE;\n{sql}\n{stamp}\nCOMMIT;")
            except sqlite3.Error:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise


def _settle_meta(db: sqlite3.Connection, path: Path, mode: str, created_ns: int, token: str | None) -> None:
    stored = db.execute(QUERIES["get_meta"], {"key": "mode"}).fetchone()
    if stored is None:
        values = {
            "instance_token": secrets.token_hex(4) if token is None else token,
            "mode": mode,
            "created_ns": str(created_ns),
        }
        db.execute("BEGIN IMMEDIATE")
        for key, value in values.items():
            db.execute(QUERIES["put_meta"], {"key": key, "value": value})
        db.execute("COMMIT")
    elif stored[0] != mode:
        raise ConfigurationError(
            "mode", f"{path} holds the books of mode {stored[0]!r}, not {mode!r}", "use a state folder for each mode"
        )

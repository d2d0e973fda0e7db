"""Trades, fills, settlements, days and snapshots as CSV or Parquet, so that anybody can check the figures.

Inputs: an open store, a folder. Outputs: one file for each table. Invariants: amounts are exact decimal dollars; what
is unknown is an empty field or a null; the same database gives the same bytes; files appear whole or not at all.
"""

import csv
import datetime as dt
import io
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from oracle.core.errors import ConfigurationError
from oracle.core.money import from_micros
from oracle.store.rows import QUERIES

FORMATS: Final = ("csv", "parquet")
TABLES: Final = ("trades", "fills", "settlements", "days", "snapshots")
_AMOUNT, _TIME = "_micros", "_ns"
# Spans of time, not instants.
_SPANS: Final = frozenset({"open_ns", "session_ns"})
_DIGITS, _DECIMALS = 20, 6


def export(db: sqlite3.Connection, folder: Path, form: str, *, force: bool = False) -> dict[str, int]:
    """Write every table into a folder and return the number of rows of each file by its name.

    Args:
        db: an open store.
        folder: made when it is missing.
        form: ``csv`` or ``parquet``.
        force: replace files of an earlier export.

    Raises:
        ConfigurationError: the form is unknown, Parquet needs a package that is not installed, or a file is in the way
            or cannot be written.
    """
    if form not in FORMATS:
        raise ConfigurationError("--format", f"{form!r} is no format", f"use one of: {', '.join(FORMATS)}")
    write = _csv if form == "csv" else _parquet_writer()
    paths = {name: folder / f"{name}.{form}" for name in TABLES}
    there = [path.name for path in paths.values() if path.exists()]
    if there and not force:
        raise ConfigurationError(
            "--out", f"{folder} holds {', '.join(there)}", "choose another folder, or give --force to replace them"
        )
    counts = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in paths.items():
            columns, rows = table(db, name)
            beside = path.with_name(f".{path.name}.part")
            beside.write_bytes(write(columns, rows))
            beside.replace(path)
            counts[path.name] = len(rows)
    except OSError as error:
        problem = f"{folder} cannot be written ({error.strerror or error})"
        raise ConfigurationError("--out", problem, "choose another folder") from None
    return counts


def table(db: sqlite3.Connection, name: str) -> tuple[list[str], list[list[Any]]]:
    """Read one table: column names and rows, amounts as Decimal dollars (``x_usd``), instants as UTC (``x_at``)."""
    cursor = db.execute(QUERIES[f"export_{name}"])
    sources = [column[0] for column in cursor.description]
    makers = [_maker(source) for source in sources]
    rows = [[make(value) for make, value in zip(makers, row, strict=True)] for row in cursor]
    return [_renamed(source) for source in sources], rows


def _renamed(source: str) -> str:
    if source.endswith(_AMOUNT):
        return source.removesuffix(_AMOUNT) + "_usd"
    if source.endswith(_TIME) and source not in _SPANS:
        return source.removesuffix(_TIME) + "_at"
    return source


def _maker(source: str) -> Callable[[Any], Any]:
    """What a stored value becomes; NULL stays None."""
    if source.endswith(_AMOUNT):
        return lambda value: None if value is None else from_micros(value)
    if source.endswith(_TIME) and source not in _SPANS:
        return lambda value: None if value is None else _instant(value)
    return lambda value: value


def _instant(at_ns: int) -> str:
    """ISO 8601 in UTC with all nine digits: no float can hold them."""
    second, rest = divmod(at_ns, 1_000_000_000)
    return f"{dt.datetime.fromtimestamp(second, dt.UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """RFC 4180 with a header; None is an empty field, decimals are written out in full."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_text(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return repr(value) if isinstance(value, float) else str(value)


def _parquet_writer() -> Callable[[Sequence[str], Sequence[Sequence[Any]]], bytes]:
    """A writer of Parquet.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]  # noqa: PLC0415  # an extra, which only this form needs
        import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigurationError(
            "--format parquet", "needs pyarrow, which is not installed",
            'install it: .venv/bin/python -m pip install "trade-oracle[data]" or pyarrow, or use --format csv',
        ) from None  # fmt: skip

    def write(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
        made = {name: _column(pyarrow, name, [row[i] for row in rows]) for i, name in enumerate(columns)}
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(made), buffer, compression="zstd")
        return buffer.getvalue()

    return write


def _column(pyarrow: ModuleType, name: str, values: list[Any]) -> Any:
    """A column with the type that its name says, whatever its rows hold."""
    if name.endswith("_usd"):
        return pyarrow.array(values, pyarrow.decimal128(_DIGITS, _DECIMALS))
    if name.endswith("_at"):
        nanoseconds = list(_nanoseconds(values))
        return pyarrow.array(nanoseconds, pyarrow.timestamp("ns", tz="UTC"))
    kinds = {type(value) for value in values if value is not None}
    kind = pyarrow.float64() if float in kinds else pyarrow.int64() if kinds == {int} else pyarrow.string()
    return pyarrow.array(values, kind)


def _nanoseconds(values: list[Any]) -> Iterator[int | None]:
    for value in values:
        if value is None:
            yield None
            continue
        whole, _, rest = value.removesuffix("Z").partition(".")
        moment = dt.datetime.fromisoformat(whole).replace(tzinfo=dt.UTC)
        yield int(moment.timestamp()) * 1_000_000_000 + int(rest)

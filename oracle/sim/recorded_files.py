"""Reading recorded market files: gzip CSV with one header line, an empty field meaning unknown.

Inputs: a data folder. Outputs: columns (UTC ns, floats with NaN for an empty field, symbols as indices). A row that
cannot be used is skipped and counted in ``Rejected`` with its first example; a file that cannot be used is a
ConfigurationError that names it.
"""

import csv
import datetime as dt
import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oracle.core.errors import ConfigurationError
from oracle.core.sessions import MINUTE_NS, NS
from oracle.sim.noise import Floats, Ints

_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()


@dataclass(slots=True)
class Rejected:
    """Rows skipped, by ``file kind: reason``, and the first example of each."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, reason: str, example: str, count: int = 1) -> None:
        """Count skipped rows."""
        name = f"{kind}: {reason}"
        self.counts[name] = self.counts.get(name, 0) + count
        self.first.setdefault(name, example)


@dataclass(frozen=True, slots=True)
class Columns:
    """Usable rows of one file: start instants, numbers by column name, and symbols (by index) where there are any."""

    at_ns: Ints
    numbers: dict[str, Floats]
    symbols: tuple[str, ...]
    symbol: Ints


def data_file(root: Path, kind: str, symbol: str, date: str) -> Path:
    """Name the file of a kind, e.g. ``bars/1m``, for a symbol and ISO date."""
    return root / kind / symbol / f"{date}.csv.gz"


def read_columns(path: Path, kind: str, *, required: Sequence[str], optional: Sequence[str], out: Rejected) -> Columns:
    """Read a file of timed rows.

    Args:
        path: the file; its header must hold ``t`` (or ``date``), perhaps ``symbol``, and the named columns.
        kind: what to call it in ``out``.
        required: number columns in which an empty field makes the row useless.
        optional: number columns in which an empty field is NaN.
        out: where skipped rows are counted.

    Raises:
        ConfigurationError: the file is missing, is not gzip CSV or lacks a column.
    """
    header, rows = _read(path)
    when = "t" if "t" in header else "date"
    for name in (when, *required, *optional):
        if name not in header:
            raise ConfigurationError(str(path), f"has no column {name!r}", "restore the file from its source")
    whole = [row for row in rows if len(row) == len(header)]
    if len(whole) != len(rows):
        example = next(row for row in rows if len(row) != len(header))
        out.add(kind, "wrong number of fields", ",".join(example), len(rows) - len(whole))
    if not whole:
        return Columns(
            np.zeros(0, np.int64), {n: np.zeros(0) for n in (*required, *optional)}, (), np.zeros(0, np.int64)
        )
    texts = dict(zip(header, zip(*whole, strict=True), strict=True))
    good = np.ones(len(whole), dtype=bool)

    def drop(bad: np.ndarray, reason: str) -> None:
        bad = bad & good
        if bad.any():
            out.add(kind, reason, ",".join(whole[int(np.argmax(bad))]), int(np.count_nonzero(bad)))
            good[bad] = False

    at_ns = _times(texts[when], _date_ns if when == "date" else _minute_ns)
    drop(at_ns < 0, "unparsable time")
    numbers: dict[str, Floats] = {}
    for name in (*required, *optional):
        value, bad = _numbers(texts[name])
        drop(bad, "bad number")
        drop(value < 0, "negative number")
        if name in required:
            drop(np.isnan(value), "empty field")
        numbers[name] = value
    names, symbol = _indices(texts["symbol"]) if "symbol" in texts else ((), np.zeros(len(whole), np.int64))
    return Columns(at_ns[good], {n: v[good] for n, v in numbers.items()}, names, symbol[good])


def fill_forward(values: Floats, group: Ints) -> Floats:
    """Carry the last known value forward within each run of equal ``group``; NaN before the first."""
    index = np.arange(len(values))
    starts = np.zeros(len(values), dtype=bool)
    starts[:1] = True
    starts[1:] = group[1:] != group[:-1]
    last = np.maximum.accumulate(np.where(~np.isnan(values) | starts, index, 0))
    return values[last]


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except FileNotFoundError:
        raise ConfigurationError(
            str(path), "the file does not exist", "choose a recorded day that has it, or check the data folder"
        ) from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(path), f"cannot be read ({error})", "restore the file from its source") from None
    rows = list(csv.reader(io.StringIO(text)))
    if not rows:
        raise ConfigurationError(str(path), "is empty, without even a header", "restore the file from its source")
    return rows[0], rows[1:]


def _times(texts: Sequence[str], parse: Callable[[str], int]) -> Ints:
    known = {text: parse(text) for text in set(texts)}
    return np.fromiter((known[text] for text in texts), dtype=np.int64, count=len(texts))


def _minute_ns(text: str) -> int:
    """UTC ns of ``2015-12-24T14:30:00Z``; -1 when it is not such a time or not a whole minute."""
    try:
        stamp = dt.datetime.fromisoformat(text)
    except ValueError:
        return -1
    if stamp.utcoffset() != dt.timedelta(0):
        return -1
    at_ns = round(stamp.timestamp()) * NS
    return at_ns if at_ns % MINUTE_NS == 0 and stamp.microsecond == 0 else -1


def _date_ns(text: str) -> int:
    """UTC midnight of an ISO date, only to name the day; -1 when it is not a date."""
    try:
        return (dt.date.fromisoformat(text).toordinal() - _EPOCH_DAY) * 86_400 * NS
    except ValueError:
        return -1


def _numbers(texts: Sequence[str]) -> tuple[Floats, np.ndarray]:
    """Parse a column: values (NaN where empty or bad) and which texts are neither empty nor a finite number."""
    empty = np.fromiter((not text for text in texts), dtype=bool, count=len(texts))
    try:
        values = np.fromiter((float(text) if text else np.nan for text in texts), np.float64, count=len(texts))
    except ValueError:
        values = np.array([_number(text) for text in texts])
    bad = ~empty & ~np.isfinite(values)
    return np.where(bad, np.nan, values), bad


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _indices(texts: Sequence[str]) -> tuple[tuple[str, ...], Ints]:
    names = tuple(sorted(set(texts)))
    place = {name: i for i, name in enumerate(names)}
    return names, np.fromiter((place[text] for text in texts), dtype=np.int64, count=len(texts))

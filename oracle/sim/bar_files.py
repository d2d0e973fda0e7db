"""Minute bars from files, read strictly: a row that cannot be true stops the run and is named.

Inputs: a folder in the recorded layout (``bars/1m/SYM/DATE.csv.gz``) or one with a file a symbol (``SYM.csv``,
``SYM.csv.gz``, ``SYM.parquet``), with the columns t, o, h, l, c, v. Outputs: columns in order of time.
Invariants: starts are whole minutes in UTC and only rise; prices are positive, finite and in order; volumes are counts.
"""

import csv
import datetime as dt
import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np

from oracle.core.errors import ConfigurationError
from oracle.core.instruments import is_equity
from oracle.core.sessions import MINUTE_NS, NS
from oracle.sim.noise import Floats, Ints

COLUMNS = ("t", "o", "h", "l", "c", "v")
SUFFIXES = (".csv", ".csv.gz", ".parquet")
RECORDED_BARS = "bars/1m"
# An epoch's unit follows from its size: these bound the years 1973 to 2286 in each.
_UNITS = ((10**10, NS), (10**13, NS // 10**3), (10**16, NS // 10**6), (10**19, 1))
_TIMESTAMP_UNITS = {"s": NS, "ms": NS // 10**3, "us": NS // 10**6, "ns": 1}
_LEAST_EPOCH = 10**8
_MINUTE_FIX = "write the start of the minute in UTC, e.g. 2024-03-01T14:30:00Z, or as seconds, ms, µs or ns since 1970"


@dataclass(frozen=True, slots=True)
class Minutes:
    """Bars of one symbol as columns, oldest first. ``start_ns`` is UTC, ``volume`` in shares."""

    start_ns: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints

    def between(self, first_ns: int, end_ns: int) -> Self:
        """Bars that start in ``[first_ns, end_ns)``."""
        a, b = np.searchsorted(self.start_ns, [first_ns, end_ns]).tolist()
        return type(self)(*(getattr(self, name)[a:b] for name in self.__slots__))

    def __len__(self) -> int:
        return len(self.start_ns)


class BarFolder:
    """Where the minute bars of symbols are. ``recorded`` says whether it has the layout of recorded days.

    Raises:
        ConfigurationError: the folder does not exist or holds no bars.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ConfigurationError("--data", f"{root} is not a folder", "name the folder that holds the bars")
        self.root = root
        self.recorded = (root / RECORDED_BARS).is_dir()
        self._files = {} if self.recorded else _plain_files(root)
        self._whole: dict[str, Minutes] = {}
        self._days: dict[tuple[str, str], Minutes] = {}
        if not self.recorded and not self._files:
            shown = ", ".join(f"SYM{suffix}" for suffix in SUFFIXES)
            raise ConfigurationError(
                "--data", f"{root} holds neither {RECORDED_BARS}/SYM/DATE.csv.gz nor {shown}",
                "put a file of t,o,h,l,c,v for each symbol there",
            )  # fmt: skip

    def symbols(self) -> tuple[str, ...]:
        """Symbols with bars, sorted."""
        if self.recorded:
            return tuple(sorted(p.name for p in (self.root / RECORDED_BARS).iterdir() if p.is_dir()))
        return tuple(sorted(self._files))

    def day(self, symbol: str, date: str, open_ns: int, close_ns: int) -> Minutes | None:
        """Bars of one regular session, or None when the files hold nothing of it.

        Raises:
            ConfigurationError: a file is unusable; names file, line, field and fix.
        """
        found = self._days.get((symbol, date))
        if found is None:
            if self.recorded:
                path = self.root / RECORDED_BARS / symbol / f"{date}.csv.gz"
                if not path.exists():
                    return None
                found = read_minutes(path)
            elif symbol in self._files:
                if symbol not in self._whole:
                    self._whole[symbol] = read_minutes(self._files[symbol])
                found = self._whole[symbol]
            else:
                return None
            found = self._days[symbol, date] = found.between(open_ns, close_ns)
        return found if len(found) else None


def _plain_files(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        suffix = next((s for s in SUFFIXES if path.name.endswith(s)), None)
        symbol = "" if suffix is None else path.name.removesuffix(suffix)
        if not path.is_file() or not is_equity(symbol):
            continue
        if symbol in found:
            raise ConfigurationError(
                str(path), f"{found[symbol].name} holds bars of {symbol} as well", "keep one of them in the folder"
            )
        found[symbol] = path
    return found


def read_minutes(path: Path) -> Minutes:
    """Read one file of minute bars.

    Raises:
        ConfigurationError: it cannot be read, lacks a column, or a row cannot be true; names file, line, field, fix.
    """
    if path.suffix == ".parquet":
        start_ns, numbers = _parquet(path)
        return _checked(path, start_ns, numbers, lambda row: f"row {row + 1}")
    start_ns, numbers = _csv(path)
    return _checked(path, start_ns, numbers, lambda row: f"line {row + 2}")


def _csv(path: Path) -> tuple[Ints, dict[str, Floats]]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigurationError(str(path), f"cannot be read ({why})", "restore the file from its source") from None
    rows = list(csv.reader(io.StringIO(text)))
    header = [name.strip() for name in rows[0]] if rows else []
    _require(path, header)
    body = rows[1:]
    for number, row in enumerate(body):
        if len(row) != len(header):
            raise _bad(path, f"line {number + 2}", "fields", f"{len(row)} instead of {len(header)}", "mend the row")
    columns: Sequence[Sequence[str]] = list(zip(*body, strict=True)) if body else [()] * len(header)
    texts = dict(zip(header, columns, strict=True))
    numbers = {name: _numbers(path, name, texts[name]) for name in COLUMNS[1:]}
    return _times(path, texts["t"]), numbers


def _numbers(path: Path, name: str, texts: Sequence[str]) -> Floats:
    try:
        return np.fromiter((float(text) for text in texts), np.float64, count=len(texts))
    except ValueError:
        for number, text in enumerate(texts):
            try:
                float(text)
            except ValueError:
                fix = "write a plain number; leave a minute without trades out of the file"
                raise _bad(path, f"line {number + 2}", name, f"{text!r} is not a number", fix) from None
        raise


def _times(path: Path, texts: Sequence[str]) -> Ints:
    out = np.zeros(len(texts), dtype=np.int64)
    for number, text in enumerate(texts):
        at_ns = _epoch_ns(int(text)) if text.isascii() and text.isdigit() else _iso_ns(text)
        if at_ns is None:
            raise _bad(path, f"line {number + 2}", "t", f"{text!r} is not an instant in UTC", _MINUTE_FIX)
        out[number] = at_ns
    return out


def _iso_ns(text: str) -> int | None:
    try:
        stamp = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if stamp.utcoffset() != dt.timedelta(0):
        return None
    whole = stamp.replace(microsecond=0)
    return int(whole.timestamp()) * NS + stamp.microsecond * 1000


def _epoch_ns(value: int) -> int | None:
    if value < _LEAST_EPOCH:
        return None
    return next((value * unit for bound, unit in _UNITS if value < bound), None)


def _parquet(path: Path) -> tuple[Ints, dict[str, Floats]]:
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise ConfigurationError(
            str(path), "reading Parquet needs pyarrow", "install the extra: uv pip install 'trade-oracle[data]'"
        ) from None
    try:
        table = parquet.read_table(path)
    except Exception as error:  # pyarrow raises a family of its own for what is not Parquet
        raise ConfigurationError(str(path), f"cannot be read ({error})", "restore the file from its source") from None
    _require(path, table.column_names)
    for name in COLUMNS:
        if table.column(name).null_count:
            row = table.column(name).is_null().to_pylist().index(True)
            raise _bad(path, f"row {row + 1}", name, "is null", "leave a minute without trades out of the file")
    return _parquet_times(path, table.column("t")), {n: _parquet_numbers(path, n, table.column(n)) for n in COLUMNS[1:]}


def _parquet_times(path: Path, column: Any) -> Ints:
    kind = str(column.type)
    if kind.startswith("timestamp[") and "tz=UTC" in kind:
        return np.asarray(column.cast("int64").to_numpy(), dtype=np.int64) * _TIMESTAMP_UNITS[column.type.unit]
    if kind in ("int64", "uint64"):
        values = column.to_pylist()
        stamps = [_epoch_ns(value) for value in values]
        if None in stamps:
            row = stamps.index(None)
            raise _bad(path, f"row {row + 1}", "t", f"{values[row]} is not an instant", _MINUTE_FIX)
        return np.array(stamps, dtype=np.int64)
    if kind in ("string", "large_string"):
        return _times(path, column.to_pylist())
    fix = "store timestamps with time zone UTC, or whole numbers since 1970"
    raise _bad(path, "column", "t", f"its type {kind} says no instant in UTC", fix)


def _parquet_numbers(path: Path, name: str, column: Any) -> Floats:
    try:
        return np.asarray(column.cast("float64").to_numpy(), dtype=np.float64)
    except Exception:
        raise _bad(path, "column", name, f"its type {column.type} is not a number", "store numbers") from None


def _require(path: Path, header: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise _bad(path, "header", missing[0], "there is no such column", f"name the columns {','.join(COLUMNS)}")


def _checked(path: Path, start_ns: Ints, numbers: dict[str, Floats], where: Callable[[int], str]) -> Minutes:
    o, h, low, c, v = (numbers[name] for name in COLUMNS[1:])
    fix = "correct the row or take it out"

    def refuse(bad: np.ndarray, field: str, problem: Callable[[int], str]) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            raise _bad(path, where(row), field, problem(row), fix)

    for name in COLUMNS[1:5]:
        values = numbers[name]
        refuse(~(np.isfinite(values) & (values > 0)), name, lambda i, x=values: f"{x[i]:g} is no price")  # type: ignore[misc]
    refuse(~(h >= np.maximum(np.maximum(o, c), low)), "h", lambda i: f"{h[i]:g} is below another price of the bar")
    refuse(~(low <= np.minimum(o, c)), "l", lambda i: f"{low[i]:g} is above another price of the bar")
    refuse(~((v >= 0) & (v < 2**53) & (v == np.floor(v))), "v", lambda i: f"{v[i]:g} is no count of shares")
    off = start_ns % MINUTE_NS != 0
    if off.any():
        row = int(np.argmax(off))
        raise _bad(path, where(row), "t", f"{int(start_ns[row])} ns is not a whole minute", _MINUTE_FIX)
    steps = np.zeros(len(start_ns), dtype=bool)
    steps[1:] = np.diff(start_ns) <= 0
    if steps.any():
        row = int(np.argmax(steps))
        raise _bad(path, where(row), "t", "it is not later than the row before", "sort the rows, each minute once")
    return Minutes(start_ns, o, h, low, c, v.astype(np.int64))


def _bad(path: Path, where: str, field: str, problem: str, fix: str) -> ConfigurationError:
    return ConfigurationError(f"{path}, {where}, {field}", problem, fix)


def gaps(minutes: Minutes, open_ns: int, close_ns: int) -> int:
    """How many minutes of a session have no bar."""
    return (close_ns - open_ns) // MINUTE_NS - len(minutes)

"""Read a CSV file of daily volatilities that people bring: every line is checked, and all problems are told at once.

Inputs: a file with a header ``underlying,date,iv_30d`` and perhaps ``source``, the session table, today. Outputs:
observations whose source begins with ``import:``, or an error that names each bad line and its fix; never a part.
"""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from oracle.core.errors import ConfigurationError
from oracle.core.marketdata import DailyIvObserved
from oracle.core.sessions import SessionTable
from oracle.options.volatility import IV_HIGH, IV_LOW

COLUMNS = ("underlying", "date", "iv_30d")
OPTIONAL = ("source",)
PREFIX = "import:"
MAX_BYTES = 8 << 20
_SYMBOL = re.compile(r"[A-Z][A-Z0-9.]{0,9}", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NUMBER = re.compile(r"\d{0,4}\.?\d{0,17}(?:[eE][+-]?\d{1,2})?", re.ASCII)
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,39}", re.ASCII)


class BadLine(msgspec.Struct, frozen=True):
    """What is wrong with one line of the file, and what to do about it."""

    line: int
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.problem}; {self.fix}"


class BadFileError(ConfigurationError):
    """A file of which nothing was taken; ``lines`` are all of its bad lines."""

    def __init__(self, path: Path, lines: tuple[BadLine, ...]) -> None:
        what = f"{len(lines)} line{'s' if len(lines) > 1 else ''} cannot be used"
        super().__init__(str(path), what, "nothing was imported; correct these lines and import again")
        self.lines = lines


def read_file(path: Path, table: SessionTable, today: str) -> list[DailyIvObserved]:
    """Read a whole file.

    Args:
        path: the file; UTF-8, comma separated, one header line.
        table: NYSE sessions; a date that is none of them is refused.
        today: ISO date; later ones are refused.

    Raises:
        ConfigurationError: it cannot be read, is no such file, or (``BadFileError``) has bad lines.
    """
    rows = _lines(path)
    _, header = next(rows, (1, []))
    names = [name.strip().lower() for name in header]
    _check_header(path, names)
    bad: list[BadLine] = []
    found: dict[tuple[str, str], DailyIvObserved] = {}
    first_at: dict[tuple[str, str], int] = {}
    for line, row in rows:
        if not any(field.strip() for field in row):
            continue
        if len(row) != len(names):
            bad.append(BadLine(line, f"{len(row)} fields instead of {len(names)}", f"write {','.join(names)}"))
            continue
        given = _observation(line, dict(zip(names, (field.strip() for field in row), strict=True)), table, today)
        if isinstance(given, BadLine):
            bad.append(given)
            continue
        key = given.underlying, given.date
        if key in found:
            bad.append(BadLine(line, f"{' '.join(key)} is on line {first_at[key]} already", "keep one of them"))
            continue
        found[key], first_at[key] = given, line
    if bad:
        raise BadFileError(path, tuple(bad))
    if not found:
        raise ConfigurationError(str(path), "it has no line but the header", "add lines and import again")
    return list(found.values())


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # a pipe or a device does not say how large it is
        if len(content) > MAX_BYTES:
            raise ConfigurationError(str(path), f"it is larger than {MAX_BYTES >> 20} MB", "import it in parts")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            str(path), f"it cannot be read ({error.strerror})", "name a readable CSV file"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            str(path), f"it is not UTF-8 text (byte {error.start})", "save it as CSV in UTF-8"
        ) from None
    if "\0" in text:
        raise ConfigurationError(str(path), "it holds NUL bytes, so it is not CSV", "save it as CSV in UTF-8")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise BadFileError(path, (BadLine(reader.line_num, f"not CSV ({error})", "correct its quotes"),)) from None


def _check_header(path: Path, names: list[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    unknown = [name for name in names if name not in (*COLUMNS, *OPTIONAL)]
    if missing or unknown or len(set(names)) != len(names):
        problem = (
            f"line 1 lacks {', '.join(missing)}" if missing else f"line 1 has {', '.join(unknown) or 'a name twice'}"
        )
        raise ConfigurationError(str(path), problem, f"begin it with {','.join((*COLUMNS, *OPTIONAL))}")


def _observation(line: int, row: Mapping[str, str], table: SessionTable, today: str) -> DailyIvObserved | BadLine:
    underlying, date, text, source = (row.get(name, "") for name in (*COLUMNS, *OPTIONAL))
    if not _SYMBOL.fullmatch(underlying):
        return BadLine(line, f"{_cut(underlying)} is not a stock's symbol", "write one such as SPY, in capitals")
    if not _DATE.fullmatch(date):
        return BadLine(line, f"{_cut(date)} is not a date", "write YYYY-MM-DD")
    if date > today:
        return BadLine(line, f"{date} is in the future", "leave it out")
    if table.on(date) is None:
        covered = table.sessions[0].date <= date
        problem = "is not a day on which NYSE trades" if covered else "is too long ago to matter for any rank"
        return BadLine(line, f"{date} {problem}", "leave it out")
    iv = _iv(line, text)
    if isinstance(iv, BadLine):
        return iv
    if source and not _SOURCE.fullmatch(source):
        return BadLine(line, f"{_cut(source)} is not a source", "use letters, digits and _.:- only, 40 at most")
    return DailyIvObserved(underlying, date, iv, f"{PREFIX}{source or 'csv'}")


def _iv(line: int, text: str) -> float | BadLine:
    if "%" in text:
        return BadLine(line, f"{_cut(text)} is a percentage", "write a fraction, 0.185 for 18.5 %")
    try:
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
    except ValueError:  # digits are missing: ".", "e5"
        value = math.nan
    if math.isnan(value):
        return BadLine(line, f"{_cut(text)} is not a positive number", "write a fraction such as 0.185")
    if value > 100 * IV_HIGH:
        return BadLine(line, f"{text} is too large", f"leave it out; above {IV_HIGH:.0%} is no volatility")
    if value > IV_HIGH:
        return BadLine(line, f"{text} would be {value:.0%}", f"write a fraction: {value / 100:g} for {value:g} %")
    if value < IV_LOW:
        return BadLine(line, f"{text} would be {value:.2%}", f"leave it out; below {IV_LOW:.0%} is no volatility")
    return value


def _cut(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")

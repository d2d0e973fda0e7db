"""CSV files of volatilities from people: what is taken, and that one bad line keeps everything out."""

import datetime as dt
import os
from pathlib import Path

import pytest

from oracle.calendar import load_sessions
from oracle.core.errors import ConfigurationError
from oracle.core.marketdata import DailyIvObserved
from oracle.core.sessions import SessionTable
from oracle.ivfile import MAX_BYTES, BadFileError, read_file

TODAY = "2025-11-19"
HEAD = "underlying,date,iv_30d,source\n"


@pytest.fixture(scope="module")
def table() -> SessionTable:
    return load_sessions(dt.date(2024, 1, 2), dt.date(2025, 12, 31))


def read(tmp_path: Path, table: SessionTable, content: str | bytes) -> list[DailyIvObserved]:
    """Read a file of this content."""
    file = tmp_path / "iv.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file(file, table, TODAY)


def test_a_good_file_is_taken_whole(tmp_path: Path, table: SessionTable) -> None:
    rows = read(
        tmp_path, table, HEAD + "SPY,2025-11-18,0.1834,vendor\nQQQ,2025-11-18,.2,\n\nBRK.B,2025-11-17,1.5e-1,x:y\n"
    )
    assert rows == [
        DailyIvObserved("SPY", "2025-11-18", 0.1834, "import:vendor"),
        DailyIvObserved("QQQ", "2025-11-18", 0.2, "import:csv"),
        DailyIvObserved("BRK.B", "2025-11-17", 0.15, "import:x:y"),
    ]


def test_columns_in_any_order_without_source_with_a_mark_and_windows_line_ends(
    tmp_path: Path, table: SessionTable
) -> None:
    content = b"\xef\xbb\xbfDate, IV_30d ,Underlying\r\n2025-11-18, 0.18 ,SPY\r\n"
    assert read(tmp_path, table, content) == [DailyIvObserved("SPY", "2025-11-18", 0.18, "import:csv")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("spy,2025-11-18,0.18,", "is not a stock's symbol"),
        ("=SPY(),2025-11-18,0.18,", "is not a stock's symbol"),
        (",2025-11-18,0.18,", "is not a stock's symbol"),
        ("SPY,18.11.2025,0.18,", "write YYYY-MM-DD"),
        ("SPY,2025-02-30,0.18,", "is not a day on which NYSE trades"),
        ("SPY,2025-11-16,0.18,", "is not a day on which NYSE trades"),
        ("SPY,2025-11-20,0.18,", "is in the future"),
        ("SPY,1999-01-04,0.18,", "too long ago"),
        ("SPY,２０２５-11-18,0.18,", "write YYYY-MM-DD"),
        ("SPY,2025-11-18,18.5,", "0.185 for 18.5 %"),
        ("SPY,2025-11-18,18.5%,", "write a fraction"),
        ("SPY,2025-11-18,0,", "would be 0.00%"),
        ("SPY,2025-11-18,0.0001,", "below 1%"),
        ("SPY,2025-11-18,-0.18,", "not a positive number"),
        ("SPY,2025-11-18,nan,", "not a positive number"),
        ("SPY,2025-11-18,inf,", "not a positive number"),
        ("SPY,2025-11-18,,", "not a positive number"),
        ("SPY,2025-11-18,.,", "not a positive number"),
        ("SPY,2025-11-18,.e5,", "not a positive number"),
        ("SPY,2025-11-18,0_1,", "not a positive number"),
        ("SPY,2025-11-18,0x1p-2,", "not a positive number"),
        ("SPY,2025-11-18,1e99,", "above 500%"),
        ("SPY,2025-11-18,600,", "above 500% is no volatility"),
        ("SPY,2025-11-18,0.18", "3 fields instead of 4"),
        ("SPY,2025-11-18,0,18,me", "5 fields instead of 4"),
        ("SPY,2025-11-18,0.18,a b\x1b[2J", "is not a source"),
        ("SPY,2025-11-18,0.18," + "x" * 41, "is not a source"),
        ("SPY,2025-11-17,0.19,", "is on line 2 already"),
        ('SPY,2025-11-18,"0.18', "not CSV"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_nothing_is_taken(
    tmp_path: Path, table: SessionTable, line: str, words: str
) -> None:
    with pytest.raises(BadFileError) as caught:
        read(tmp_path, table, f"{HEAD}SPY,2025-11-17,0.18,\n{line}\n")
    (bad,) = caught.value.lines
    assert bad.line in (3, 4)  # an open quote is found at the end
    assert words in str(bad)
    assert "\x1b" not in str(bad)
    assert "nothing was imported" in str(caught.value)


def test_all_bad_lines_are_told_at_once(tmp_path: Path, table: SessionTable) -> None:
    with pytest.raises(BadFileError) as caught:
        read(tmp_path, table, HEAD + "".join(f"SPY,2025-11-{day},9,\n" for day in (17, 18, 19)))
    assert [bad.line for bad in caught.value.lines] == [2, 3, 4]
    assert "3 lines" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "lacks underlying"),
        ("underlying,date\nSPY,2025-11-18\n", "lacks iv_30d"),
        ("underlying,date,iv_30d,iv_30d\n", "a name twice"),
        ("underlying,date,iv_30d,comment\n", "has comment"),
        (HEAD, "no line but the header"),
        (b"\x00\x01", "NUL"),
        (b"underlying,date,iv_30d\nSPY,2025-11-18,\xff\n", "UTF-8"),
        ("x" * (MAX_BYTES + 1), "larger than 8 MB"),
    ],
)
def test_what_is_no_such_file_says_so(tmp_path: Path, table: SessionTable, content: str | bytes, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read(tmp_path, table, content)


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path, table: SessionTable) -> None:
    for path in (tmp_path / "no.csv", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            read_file(path, table, TODAY)


@pytest.mark.timeout(20)
def test_a_file_without_an_end_is_too_large(table: SessionTable) -> None:
    """A device says that it is empty and never stops giving; a pipe says so and is a good file."""
    with pytest.raises(ConfigurationError, match="larger than 8 MB"):
        read_file(Path("/dev/zero"), table, TODAY)


def test_a_pipe_is_read_as_a_file(table: SessionTable) -> None:
    out, into = os.pipe()
    os.write(into, f"{HEAD}SPY,2025-11-18,0.18,\n".encode())
    os.close(into)
    try:
        (row,) = read_file(Path(f"/dev/fd/{out}"), table, TODAY)
    finally:
        os.close(out)
    assert row.iv_30d == 0.18

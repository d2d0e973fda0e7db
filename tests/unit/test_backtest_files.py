"""Files of minute bars: what is read, and what each wrong row is called."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from oracle.core.errors import ConfigurationError
from oracle.core.sessions import MINUTE_NS, NS
from oracle.sim.bar_files import BarFolder, read_minutes

START_NS = 1_709_303_400 * NS  # 2024-03-01T14:30:00Z
ROW = "2024-03-01T14:30:00Z,10,11,9,10.5,100"
NEXT = "2024-03-01T14:31:00Z,10.5,10.5,10,10.25,0"


def written(folder: Path, *rows: str, header: str = "t,o,h,l,c,v", name: str = "ABC.csv") -> Path:
    path = folder / name
    text = "\n".join((header, *rows)) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["ABC.csv", "ABC.csv.gz"])
def test_columns_come_in_any_order_and_others_are_left(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, "100,x,2024-03-01T14:30:00+00:00,10,11,9,10.5", header="v,note,t,o,h,l,c", name=name)
    found = read_minutes(path)
    assert found.start_ns.tolist() == [START_NS]
    assert (found.open[0], found.high[0], found.low[0], found.close[0], found.volume[0]) == (10, 11, 9, 10.5, 100)


@pytest.mark.parametrize("unit", [NS, NS // 10**3, NS // 10**6, 1])
def test_times_may_be_whole_numbers_since_1970_in_any_of_four_units(tmp_path: Path, unit: int) -> None:
    path = written(tmp_path, f"{START_NS // unit},10,11,9,10.5,100")
    assert read_minutes(path).start_ns.tolist() == [START_NS]


@pytest.mark.parametrize(
    ("rows", "where", "problem"),
    [
        ((ROW, "2024-03-01T14:31:00Z,10,11,9,10.5"), "line 3, fields", "5 instead of 6"),
        (("2024-03-01T14:30:00,10,11,9,10.5,100",), "line 2, t", "not an instant in UTC"),
        (("2024-03-01T09:30:00-05:00,10,11,9,10.5,100",), "line 2, t", "not an instant in UTC"),
        (("12,10,11,9,10.5,100",), "line 2, t", "not an instant in UTC"),
        (("2024-03-01T14:30:01Z,10,11,9,10.5,100",), "line 2, t", "not a whole minute"),
        ((NEXT, ROW), "line 3, t", "not later than the row before"),
        ((ROW, ROW), "line 3, t", "not later than the row before"),
        (("2024-03-01T14:30:00Z,ten,11,9,10.5,100",), "line 2, o", "'ten' is not a number"),
        (("2024-03-01T14:30:00Z,,11,9,10.5,100",), "line 2, o", "'' is not a number"),
        (("2024-03-01T14:30:00Z,10,11,9,nan,100",), "line 2, c", "nan is no price"),
        (("2024-03-01T14:30:00Z,10,11,0,10.5,100",), "line 2, l", "0 is no price"),
        ((ROW, "2024-03-01T14:31:00Z,10,10.4,9,10.5,1"), "line 3, h", "10.4 is below another price"),
        ((ROW, "2024-03-01T14:31:00Z,10,11,10.2,10.5,1"), "line 3, l", "10.2 is above another price"),
        (("2024-03-01T14:30:00Z,10,11,9,10.5,-1",), "line 2, v", "-1 is no count"),
        (("2024-03-01T14:30:00Z,10,11,9,10.5,1.5",), "line 2, v", "1.5 is no count"),
    ],
)
def test_a_row_that_cannot_be_true_is_named_by_file_line_and_field(
    tmp_path: Path, rows: tuple[str, ...], where: str, problem: str
) -> None:
    path = written(tmp_path, *rows)
    with pytest.raises(ConfigurationError) as caught:
        read_minutes(path)
    assert f"{path}, {where}" in str(caught.value)
    assert problem in str(caught.value)


def test_a_missing_column_and_a_broken_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="header, v: there is no such column"):
        read_minutes(written(tmp_path, header="t,o,h,l,c"))
    (tmp_path / "BAD.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(ConfigurationError, match=r"BAD\.csv\.gz.*cannot be read"):
        read_minutes(tmp_path / "BAD.csv.gz")


def parquet(folder: Path, make: Callable[[object], dict[str, object]]) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    columns = {"o": [10.0, 10.5], "h": [11.0, 10.5], "l": [9.0, 10.0], "c": [10.5, 10.25], "v": [100, 0]} | make(pa)
    pq.write_table(pa.table(columns), folder / "ABC.parquet")
    return folder / "ABC.parquet"


def test_parquet_holds_timestamps_in_utc_or_whole_numbers(tmp_path: Path) -> None:
    times = [START_NS, START_NS + MINUTE_NS]
    stamps = parquet(tmp_path, lambda pa: {"t": pa.array(times, pa.timestamp("ns", tz="UTC"))})  # type: ignore[attr-defined]
    assert read_minutes(stamps).start_ns.tolist() == times
    numbers = parquet(tmp_path, lambda _: {"t": [t // NS for t in times]})
    assert read_minutes(numbers).start_ns.tolist() == times


def test_parquet_rows_are_judged_as_well(tmp_path: Path) -> None:
    times = [START_NS, START_NS + MINUTE_NS]
    naive = parquet(tmp_path, lambda pa: {"t": pa.array(times, pa.timestamp("ns"))})  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="column, t"):
        read_minutes(naive)
    null = parquet(tmp_path, lambda _: {"t": times, "c": [10.5, None]})
    with pytest.raises(ConfigurationError, match="row 2, c: is null"):
        read_minutes(null)
    low = parquet(tmp_path, lambda _: {"t": times, "l": [9.0, 10.4]})
    with pytest.raises(ConfigurationError, match="row 2, l"):
        read_minutes(low)


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ABC.parquet").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigurationError, match=r"needs pyarrow.*trade-oracle\[data\]"):
        read_minutes(tmp_path / "ABC.parquet")


def test_a_folder_has_a_file_for_each_symbol_and_says_when_two_claim_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a folder"):
        BarFolder(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="holds neither"):
        BarFolder(tmp_path)
    written(tmp_path, ROW, NEXT)
    written(tmp_path, ROW, name="notes.csv")
    folder = BarFolder(tmp_path)
    assert folder.symbols() == ("ABC",)
    day = folder.day("ABC", "2024-03-01", START_NS, START_NS + MINUTE_NS)
    assert day is not None
    assert day.start_ns.tolist() == [START_NS]
    assert folder.day("ABC", "2024-03-04", START_NS + 3 * 86_400 * NS, START_NS + 4 * 86_400 * NS) is None
    written(tmp_path, ROW, name="ABC.csv.gz")
    with pytest.raises(ConfigurationError, match="holds bars of ABC as well"):
        BarFolder(tmp_path)

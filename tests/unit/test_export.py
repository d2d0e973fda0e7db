"""Exports: exact amounts in CSV and Parquet, every row of the books, nothing overwritten by accident."""

import builtins
import csv
import io
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from oracle.core.errors import ConfigurationError
from oracle.core.money import from_micros
from oracle.export import TABLES, export, table
from oracle.store import read
from tests.unit.report_books import FEED, make_books


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_books(tmp_path_factory.mktemp("export") / "state", sessions=8)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def counted(db: sqlite3.Connection) -> dict[str, int]:
    names = ("trades", "fills", "position_settlements", "strategy_days", "performance_snapshots")
    return {
        file: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for file, name in zip(TABLES, names, strict=True)
    }


def test_csv_has_every_row_with_exact_amounts(state: Path, tmp_path: Path) -> None:
    with read.reading(state) as db:
        found = export(db, tmp_path / "out", "csv")
        assert found == {f"{name}.csv": count for name, count in counted(db).items()}
        trades = rows(tmp_path / "out" / "trades.csv")
        net = db.execute("SELECT sum(net_pnl_micros) FROM trades").fetchone()[0]
        days = db.execute("SELECT sum(pnl_micros) FROM strategy_days WHERE strategy = 'account'").fetchone()[0]
    assert sum(Decimal(one["net_pnl_usd"]) for one in trades) == from_micros(net)
    by_day = [one for one in rows(tmp_path / "out" / "days.csv") if one["strategy"] == "account"]
    assert sum(Decimal(one["pnl_usd"]) for one in by_day) == from_micros(days)
    assert {one["feed"] for one in trades} == {FEED}
    assert trades[0]["opened_at"] == "2026-01-05T15:30:01.000000000Z"
    assert any(one["slippage_usd"] == "" for one in trades)
    assert {one["slippage_usd"] for one in trades} <= {"", "3.5"}


def test_parquet_holds_the_same_values_with_types(state: Path, tmp_path: Path) -> None:
    with read.reading(state) as db:
        export(db, tmp_path, "parquet")
        columns, wanted = table(db, "trades")
    made = pyarrow.parquet.read_table(tmp_path / "trades.parquet")
    assert made.column_names == columns
    assert made.schema.field("net_pnl_usd").type == pyarrow.decimal128(20, 6)
    assert made.schema.field("opened_at").type == pyarrow.timestamp("ns", tz="UTC")
    at = columns.index("net_pnl_usd")
    assert made.column("net_pnl_usd").to_pylist() == [one[at] for one in wanted]
    opened = made.column("opened_at").cast(pyarrow.int64()).to_pylist()
    with read.reading(state) as db:
        assert opened == [one[0] for one in db.execute("SELECT opened_ns FROM trades ORDER BY log_id")]
    # Without a row, columns still have their types.
    empty = pyarrow.parquet.read_table(tmp_path / "settlements.parquet")
    assert empty.num_rows == 0
    assert empty.schema.field("price_usd").type == pyarrow.decimal128(20, 6)


def test_two_exports_are_the_same_bytes(state: Path, tmp_path: Path) -> None:
    with read.reading(state) as db:
        for name in ("a", "b"):
            export(db, tmp_path / name, "csv")
    for file in TABLES:
        assert (tmp_path / "a" / f"{file}.csv").read_bytes() == (tmp_path / "b" / f"{file}.csv").read_bytes()


def test_an_earlier_export_is_replaced_only_when_told(state: Path, tmp_path: Path) -> None:
    (tmp_path / "fills.csv").write_text("mine")
    with read.reading(state) as db:
        with pytest.raises(ConfigurationError, match=r"holds fills.csv; choose another folder, or give --force"):
            export(db, tmp_path, "csv")
        assert (tmp_path / "fills.csv").read_text() == "mine"
        assert not (tmp_path / "trades.csv").exists()
        export(db, tmp_path, "csv", force=True)
    assert (tmp_path / "fills.csv").read_text() != "mine"


def test_without_pyarrow_the_fix_is_named(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def lacking(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with read.reading(state) as db, pytest.raises(ConfigurationError, match=r"pyarrow.*not installed.*--format csv"):
        export(db, tmp_path / "out", "parquet")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_is_named(state: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with read.reading(state) as db:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            export(db, tmp_path / "file" / "below", "csv")
        with pytest.raises(ConfigurationError, match="'xml' is no format; use one of: csv, parquet"):
            export(db, tmp_path, "xml")


def test_text_of_others_stays_one_field(state: Path) -> None:
    with read.reading(state) as db:
        columns, found = table(db, "trades")
    text = io.StringIO()
    csv.writer(text).writerows([columns, *found])
    text.seek(0)
    assert all(len(one) == len(columns) for one in csv.reader(text))

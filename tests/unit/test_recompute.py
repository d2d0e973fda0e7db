import asyncio
import shutil
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from typer.testing import CliRunner

from oracle import derive
from oracle.cli.root import app
from oracle.core.errors import ConfigurationError, DerivedError
from oracle.core.messages import EquityMarked, OrderFilled
from oracle.recompute import Check, check, recompute
from oracle.store import read
from oracle.store.performance import TABLES
from oracle.store.roundtrips import RoundTrips, differences
from oracle.store.sqlite import Store
from tests.unit.store_day import T0
from tests.unit.store_day import turns as a_day
from tests.unit.track_made import Maker, dump, write


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three months of trades with every derived row, as a daemon leaves them."""
    folder = tmp_path_factory.mktemp("made")

    async def make() -> None:
        store = await Store.open(folder, "sim", 1, token="tok", feed="opra")
        await store._call(write, Maker(3).turns(200))
        with read.reading(folder) as db:
            rows = derive.refresh(db)
        await store.write_derived(rows)
        await store.close()

    asyncio.run(make())
    return folder


@pytest.fixture
def books(made: Path, tmp_path: Path) -> Path:
    """Books of a test's own, to be spoilt."""
    shutil.copy(made / "oracle.db", tmp_path / "oracle.db")
    return tmp_path


def spoil(folder: Path, *statements: str, values: tuple[object, ...] = ()) -> None:
    """Change rows as somebody with sqlite3 would: without the program's own guards."""
    with sqlite3.connect(folder / "oracle.db", isolation_level=None) as db:
        for statement in statements:
            assert db.execute(statement, values).rowcount != 0, statement
    db.close()


def state(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    with read.reading(folder) as db:
        return dump(db, TABLES)


def faults(folder: Path) -> list[str]:
    return [str(fault) for fault in check(folder).faults]


def one(folder: Path, sql: str) -> Any:
    with read.reading(folder) as db:
        return db.execute(sql).fetchone()[0]


# -------------------------------------------------------------------------------------------------- nothing wrong


async def test_recompute_changes_nothing(books: Path) -> None:
    before = state(books)
    done = await _aside(books)
    assert (done.changes, done.faults, done.examples) == (0, [], [])
    assert state(books) == before
    assert done.rows["trades"] == done.rows["trade_extremes"] == len(before["trade_extremes"])


async def _aside(folder: Path) -> Any:
    return await asyncio.to_thread(recompute, folder)


async def test_a_check_of_whole_books_is_clean(books: Path) -> None:
    found = check(books)
    assert found.faults == []
    assert set(found.behind.values()) == {0}
    assert found.rows.keys() == {"trades", *TABLES}


async def test_rows_that_were_never_made_are_behind_and_are_made(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", 1, token="tok")
    await store._call(write, Maker(3).turns(60))
    await store.close()
    found = check(tmp_path)
    assert found.faults == []
    assert all(found.behind[table] > 0 for table in TABLES)
    done = await _aside(tmp_path)
    assert done.changed["trade_extremes"] == 60
    assert set(check(tmp_path).behind.values()) == {0}


async def test_what_is_as_of_an_earlier_trade_is_behind_and_not_wrong(tmp_path: Path) -> None:
    turns = list(Maker(3).turns(80))
    store = await Store.open(tmp_path, "sim", 1, token="tok")
    log_id = 0
    for first in range(0, len(turns), 25):
        log_id = await store._call(write, turns[first : first + 25], log_id)
        found = check(tmp_path)
        assert found.faults == []
        with read.reading(tmp_path) as db:
            rows = derive.refresh(db)
        # A kill can leave the statistics of the refresh before.
        kept = [row for row in rows if first % 2 or row.table != "strategy_performance"]
        await store.write_derived(kept)
        assert check(tmp_path).faults == []
    await store.close()


async def test_the_ledgers_own_trades_are_those_of_the_fold(tmp_path: Path) -> None:
    """Late fills, rests, settlements and exits: what the ledger told is what the fold tells, by every column."""
    store = await Store.open(tmp_path, "sim", 1, token="tok")
    await store._call(write, Maker(7).turns(150))
    await store.close()
    with read.reading(tmp_path) as db:
        folded = RoundTrips().fold(db)
        assert len(folded.closed) == 150
        assert (list(differences(db, folded)), folded.faults) == ([], [])


# ------------------------------------------------------------------------------------------------- what is wrong


async def test_a_corrupted_row_is_named(books: Path) -> None:
    name = one(books, "SELECT execution_id FROM fills ORDER BY log_id LIMIT 1 OFFSET 10")
    spoil(books, "UPDATE fills SET price_micros = price_micros + 5000 WHERE execution_id = ?", values=(name,))
    told = faults(books)
    trade = one(books, f"SELECT trade_id FROM fills WHERE execution_id = '{name}'")
    assert any(text.startswith(f"trades {trade}: ") and "gross_pnl_micros is " in text for text in told)
    assert any("cash is" in text and "off what the rows" in text for text in told)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE orders SET message = substr(message, 1, 40) WHERE sequence = 3", "orders tok-x-00000003: "),
        ("UPDATE intents SET exit_plan = 'oops' WHERE log_id = (SELECT max(log_id) FROM intents)", "intents "),
        ("UPDATE equity_snapshots SET marks = '[' WHERE log_id = (SELECT max(log_id) FROM equity_snapshots)",
         "equity_snapshots message "),
        ("UPDATE orders SET worst_case_micros = worst_case_micros + 1 WHERE sequence = 3",
         "orders tok-x-00000003: worst_case_micros is "),
        ("UPDATE orders SET equity_micros = 1, strategy_hash = 'x' WHERE sequence = 3",
         "orders tok-x-00000003: strategy_hash is 'x', by its command 'aaaa'; equity_micros is 1, "),
        ("UPDATE trades SET slippage_bps = slippage_bps + 1 WHERE trade_id = 't5'", "trades t5: slippage_bps is "),
        ("UPDATE trades SET strategy_hash = 'other' WHERE trade_id = 't5'", "trades t5: strategy_hash is 'other'"),
        ("UPDATE fills SET side = 'buy' WHERE log_id = (SELECT max(log_id) FROM fills)", "trades t"),
    ],
)  # fmt: skip
async def test_every_kind_of_corruption_is_named(books: Path, statement: str, expected: str) -> None:
    spoil(books, statement)
    told = faults(books)
    assert any(text.startswith(expected) for text in told), told[:5]


async def test_a_fill_without_an_order_is_named(books: Path) -> None:
    order = one(books, "SELECT order_id FROM fills ORDER BY log_id LIMIT 1")
    fill = one(books, f"SELECT execution_id FROM fills WHERE order_id = '{order}' ORDER BY log_id LIMIT 1")
    spoil(books, "DELETE FROM orders WHERE order_id = ?", values=(order,))
    told = faults(books)
    assert f"fills {fill}: its order {order} is not on record, or not readable" in told
    assert any("refers to a row of orders that is not there" in text for text in told)
    assert any(text.startswith("orders ") and "1 orders are missing" in text for text in told)


MONTH = "2024-02"


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        (f"DELETE FROM strategy_performance WHERE month = '{MONTH}'", "strategy_performance"),
        (f"DELETE FROM strategy_days WHERE date LIKE '{MONTH}%'", "strategy_days"),
        (f"DELETE FROM performance_snapshots WHERE date LIKE '{MONTH}%'", "performance_snapshots"),
        (f"DELETE FROM trading_sessions WHERE date LIKE '{MONTH}%'", "trading_sessions"),
        ("DELETE FROM trade_extremes WHERE log_id > 900", "trade_extremes"),
        ("DELETE FROM strategy_performance WHERE month = (SELECT max(month) FROM strategy_performance "
         "WHERE month <> 'all')", "strategy_performance"),
        ("DELETE FROM strategy_days WHERE date > '2024-03-01'", "strategy_days"),
    ],
)  # fmt: skip
async def test_a_deleted_month_of_derived_rows_is_named_and_made_again(books: Path, statement: str, table: str) -> None:
    before = state(books)
    spoil(books, statement)
    gone = len(before[table]) - len(state(books)[table])
    assert gone > 0
    told = faults(books)
    assert sum(text.startswith(f"{table} ") and text.endswith(": it is missing") for text in told) == gone
    done = await _aside(books)
    assert done.changed[table] == gone
    assert state(books) == before


async def test_a_deleted_month_of_the_books_is_named(books: Path) -> None:
    with read.reading(books) as db:
        first, last = db.execute(
            f"SELECT min(log_id), max(log_id) FROM equity_snapshots WHERE date LIKE '{MONTH}%'"
        ).fetchone()
    tables = ("fills", "trades", "orders", "decisions", "intents", "equity_snapshots")
    spoil(books, *(f"DELETE FROM {table} WHERE log_id BETWEEN {first} AND {last}" for table in tables))
    told = faults(books)
    assert any("orders are missing before" in text for text in told)
    assert any("cash is" in text for text in told)
    assert any(text.startswith("strategy_performance ") for text in told)


async def test_a_clock_that_went_back_is_named(books: Path) -> None:
    log_id = one(books, "SELECT log_id FROM fills ORDER BY log_id LIMIT 1 OFFSET 20")
    spoil(books, "UPDATE fills SET recorded_ns = recorded_ns - 7500000000 WHERE log_id = ?", values=(log_id,))
    assert any(text.startswith(f"fills message {log_id}: the clock went back by 7.500 s") for text in faults(books))


async def test_a_count_that_was_changed_is_named_and_mended(books: Path) -> None:
    before = state(books)
    spoil(books, "UPDATE strategy_performance SET wins = wins + 1, sharpe = 9 WHERE strategy = 'iron_condor'")
    told = faults(books)
    (whole,) = (text for text in told if text.startswith("strategy_performance iron_condor cccc all sim: wins is "))
    assert "sharpe is 9.0" in whole
    await _aside(books)
    assert state(books) == before
    assert faults(books) == []


async def test_rows_that_nothing_makes_are_named_and_taken_away(books: Path) -> None:
    before = state(books)
    spoil(
        books, "INSERT INTO trade_extremes VALUES (999999, NULL, NULL, 0)",
        "INSERT INTO strategy_days VALUES ('ghost', 'x', '2024-01-05', 1, 1, 0, 0, 1)",
    )  # fmt: skip
    told = faults(books)
    assert "trade_extremes of the trade that ended with message 999999: nothing in the books makes it" in told
    assert "strategy_days ghost x 2024-01-05: nothing in the books makes it" in told
    done = await _aside(books)
    assert (done.removed["trade_extremes"], done.removed["strategy_days"]) == (1, 1)
    assert state(books) == before


async def test_a_trades_row_is_mended_from_its_fills(books: Path) -> None:
    before = state(books)
    spoil(books, "UPDATE trades SET gross_pnl_micros = 1, exit_rule = 'fun' WHERE trade_id = 't9'")
    done = await _aside(books)
    assert done.changed["trades"] == 1
    assert "t9" in done.examples[0]
    assert state(books) == before
    assert faults(books) == []


async def test_a_large_database_is_rebuilt_by_two_processes(books: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(books)
    monkeypatch.setattr("oracle.recompute._MANY", 0)
    spoil(books, "UPDATE trades SET gross_pnl_micros = 1 WHERE trade_id = 't9'", "DELETE FROM strategy_days")
    done = await _aside(books)
    assert (done.changed["trades"], done.changed["strategy_days"]) == (1, len(before["strategy_days"]))
    assert state(books) == before


async def test_fills_of_one_turn_may_be_marked_one_by_one(tmp_path: Path) -> None:
    """Legs that fill in one report are marked as each is booked, and the marks are stored after all of them."""
    turns = list(Maker(1).turns(1))
    number = next(i for i, (_, out) in enumerate(turns) if sum(isinstance(m, OrderFilled) for m in out) > 1)
    at_ns, out = turns[number]
    first = next(i for i, message in enumerate(out) if isinstance(message, OrderFilled))
    after = next(m for _, later in turns[number:] for m in later if isinstance(m, EquityMarked))
    fill = out[first]
    assert isinstance(fill, OrderFilled)
    cash = Decimal(1_000_000) - fill.side.sign * fill.contracts * fill.price_usd * 100 - fill.fees_broker_usd
    for gone, wrong in ((cash, 0), (cash + 1, 1)):
        folder = tmp_path / str(wrong)
        store = await Store.open(folder, "sim", 1, token="tok")
        told = [*out, msgspec.structs.replace(after, at_ns=at_ns, kind="fill", cash_usd=gone, marks={})]
        await store._call(write, [*turns[:number], (at_ns, told)])
        await store.close()
        assert sum("cash is" in text for text in faults(folder)) == wrong


async def test_what_cannot_be_compared_is_a_fault_of_each_table(books: Path) -> None:
    spoil(books, "UPDATE equity_snapshots SET marks = '[' WHERE log_id = (SELECT log_id FROM equity_snapshots "
                 "WHERE marks <> '{}' ORDER BY log_id LIMIT 1)")  # fmt: skip
    told = faults(books)
    assert sum("not compared with the books" in text for text in told) == len(TABLES)
    with pytest.raises(DerivedError, match=r"nothing is rebuilt: .*cannot be folded"):
        await _aside(books)


# ----------------------------------------------------------------------------------------------------- command


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def test_the_command_names_and_ends_with_65(books: Path, runner: CliRunner) -> None:
    clean = runner.invoke(app, ["recompute", "--check", "--state", str(books)])
    assert (clean.exit_code, "every row is as it must be" in clean.stdout) == (0, True)
    spoil(books, f"DELETE FROM strategy_performance WHERE month = '{MONTH}'")
    bad = runner.invoke(app, ["recompute", "--check", "--state", str(books)])
    assert bad.exit_code == 65
    assert f"- strategy_performance account {MONTH} sim: it is missing" in bad.stdout
    told = orjson.loads(runner.invoke(app, ["recompute", "--check", "--state", str(books), "--json"]).stdout)
    assert told["ok"] is False
    assert {fault["table"] for fault in told["faults"]} == {"strategy_performance"}


def test_the_command_rebuilds_and_says_what_changed(books: Path, runner: CliRunner) -> None:
    spoil(books, f"DELETE FROM strategy_days WHERE date LIKE '{MONTH}%'")
    first = runner.invoke(app, ["recompute", "--state", str(books)])
    assert first.exit_code == 0, first.output
    assert "rows were missing or not what the books make, and put right" in first.stdout
    again = runner.invoke(app, ["recompute", "--state", str(books)])
    assert "nothing changed: every derived row was what the books make" in again.stdout


def test_a_database_that_is_in_use_is_left_alone(books: Path) -> None:
    async def held() -> None:
        store = await Store.open(books, "sim", 1)
        try:
            with pytest.raises(ConfigurationError, match="in use by process"):
                await asyncio.to_thread(recompute, books)
            assert isinstance(check(books), Check)  # a check runs beside it
        finally:
            await store.close()

    asyncio.run(held())


def test_no_database_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        recompute(tmp_path)


async def test_a_made_up_day_is_named_for_what_is_made_up(tmp_path: Path) -> None:
    """The scripted day of the store's tests has cash that no fill makes: the check says so and goes on."""
    store = await Store.open(tmp_path, "sim", T0, token="tok")
    for stamped, out in a_day():
        await store.commit(out, stamped)
    await store.close()
    told = faults(tmp_path)
    assert any("cash is" in text for text in told)

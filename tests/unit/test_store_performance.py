import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from oracle import derive, recompute
from oracle.core.errors import ConfigurationError, DerivedError
from oracle.core.messages import SessionClosed, SessionOpened, TradeClosed
from oracle.core.trackrecord import ACCOUNT, StrategyKey
from oracle.metrics.performance import figures
from oracle.store import performance, read
from oracle.store.dayfold import ACCOUNT_KEY
from oracle.store.performance import DerivedRow, ParameterSet
from oracle.store.sqlite import Store, schema_files
from tests.unit.track_made import Maker, multiply, stamped, write

COUNTED = {
    "trades": "trades", "wins": "wins", "losses": "losses", "scratches": "scratches", "streak": "streak",
    "win_streak": "win_streak", "loss_streak": "loss_streak",
}  # fmt: skip
SUMMED = {
    "gross_profit_micros": "gross_profit_usd", "gross_loss_micros": "gross_loss_usd", "net_pnl_micros": "net_pnl_usd",
    "fees_modelled_micros": "fees_modelled_usd", "fees_broker_micros": "fees_broker_usd",
    "largest_win_micros": "largest_win_usd", "largest_loss_micros": "largest_loss_usd",
}  # fmt: skip


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    one = await Store.open(tmp_path, "sim", 1, token="tok", feed="opra")
    yield one
    await one.close()


@pytest.fixture
async def traded(store: Store) -> Store:
    await store._call(write, Maker(3).turns(200))
    return store


def counts_of(db: sqlite3.Connection, table: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    columns = ["strategy", "strategy_hash", "month", *COUNTED, *SUMMED]
    rows = db.execute(f"SELECT {', '.join(columns)} FROM {table}")
    return {tuple(row)[:3]: dict(row) for row in rows}


def check_counts(db: sqlite3.Connection) -> int:
    """The trigger's counts, the view's and the Python figures are equal; how many rows there are."""
    kept = counts_of(db, "strategy_performance")
    assert kept == counts_of(db, "performance_counts")
    trades = performance.read_trades(db)
    for (strategy, strategy_hash, month), row in kept.items():
        key = StrategyKey(strategy, strategy_hash)
        own = [t for t in trades if key in (t.key, ACCOUNT_KEY) or strategy == ACCOUNT]
        mine = [t for t in own if (strategy == ACCOUNT or t.key == key) and month in ("all", t.session[:7])]
        made = figures(mine, [])
        assert {name: row[name] for name in COUNTED} == {name: getattr(made, f) for name, f in COUNTED.items()}
        assert {name: row[name] for name in SUMMED} == {
            name: round((getattr(made, f) or 0) * 1_000_000) for name, f in SUMMED.items()
        }
    return len(kept)


async def test_triggers_view_and_python_count_alike(traded: Store, tmp_path: Path) -> None:
    with read.reading(tmp_path) as db:
        assert check_counts(db) > 10


async def test_they_count_alike_over_months_of_copies(store: Store, tmp_path: Path) -> None:
    await store._call(write, Maker(5, trades_a_session=50, everything=False).turns(500))
    await store._call(multiply, 8)
    with read.reading(tmp_path) as db:
        assert db.execute("SELECT count(*) FROM trades").fetchone()[0] == 4_000
        assert check_counts(db) >= 20


async def test_counts_are_there_with_the_commit_that_closes_a_trade(store: Store, tmp_path: Path) -> None:
    closed = 0
    for seq, (at_ns, messages) in enumerate(Maker(4).turns(6), 1):
        await store.commit(messages, stamped(seq, at_ns))
        closed += sum(isinstance(message, TradeClosed) for message in messages)
        with read.reading(tmp_path) as db:
            row = db.execute("SELECT trades FROM strategy_performance WHERE strategy = 'account' AND month = 'all'")
            found = row.fetchone()
            assert (0 if found is None else found[0]) == closed
    assert closed >= 6


async def test_the_month_is_that_of_the_session_it_ended_in_or_after(store: Store, tmp_path: Path) -> None:
    """A fill of the new month that is booked before its session is on record moves when the session is."""
    made = list(Maker(1).turns(3))
    fills = [i for i, (_, out) in enumerate(made) if any(isinstance(m, TradeClosed) for m in out)]
    await store._call(write, made[: fills[-1] + 1])
    with read.reading(tmp_path) as db:
        assert {row["month"] for row in db.execute("SELECT month FROM strategy_performance")} == {"all", "2024-01"}
        last = performance.read_trades(db)[-1]
    opened = SessionOpened("2024-02-01", last.closed_ns, last.closed_ns + 1_000)
    await store.commit([opened], stamped(9_999, last.closed_ns))
    with read.reading(tmp_path) as db:
        rows = db.execute("SELECT month, trades FROM strategy_performance WHERE strategy = 'account' ORDER BY month")
        months = {row["month"]: row["trades"] for row in rows}
        assert months["2024-02"] == 1
        assert months["2024-01"] == months["all"] - 1
        assert performance.read_trades(db)[-1].session == "2024-02-01"
        check_counts(db)


# ---------------------------------------------------------------------------------------------------- criteria

TIGHTEN = (
    "INSERT INTO strategy_criteria (strategy, criterion, value, who, why, at_ns, log_id, turn_seq, recorded_ns) "
    "VALUES ('iron_condor', ?, ?, 'ann', 'why', 1, 1, 1, 1)"
)


async def test_criteria_only_get_stricter(store: Store, tmp_path: Path) -> None:
    def play(db: sqlite3.Connection) -> None:
        db.execute(TIGHTEN, ("win_rate", 0.7))
        db.execute(TIGHTEN, ("max_drawdown", 0.08))
        db.execute("UPDATE strategy_criteria SET value = 0.75 WHERE criterion = 'win_rate'")
        db.execute("UPDATE strategy_criteria SET value = 0.07 WHERE criterion = 'max_drawdown'")
        looser = (
            "UPDATE strategy_criteria SET value = 0.74 WHERE criterion = 'win_rate'",
            "UPDATE strategy_criteria SET value = 0.071 WHERE criterion = 'max_drawdown'",
            "UPDATE strategy_criteria SET strategy = 'other' WHERE criterion = 'win_rate'",
            "DELETE FROM strategy_criteria",
            "INSERT OR REPLACE" + TIGHTEN.removeprefix("INSERT").replace("?, ?", "'win_rate', 0.5"),
            TIGHTEN.replace("?, ?", "'win_rate', 0.5") + " ON CONFLICT DO UPDATE SET value = excluded.value",
        )
        for statement in looser:
            with pytest.raises(sqlite3.IntegrityError, match="criteria only get stricter"):
                db.execute(statement)
        for criterion, value in (("fun", 1.0), ("sharpe", -1.0), ("sharpe", float("inf"))):
            with pytest.raises(sqlite3.IntegrityError):
                db.execute(TIGHTEN, (criterion, value))

    await store._call(play)
    with read.reading(tmp_path) as db:
        assert performance.read_criteria(db, "iron_condor") == {"win_rate": 0.75, "max_drawdown": 0.07}
        assert performance.read_criteria(db, "momentum_scalping") == {}


async def test_a_row_looser_than_the_programs_own_says_nothing(store: Store, tmp_path: Path) -> None:
    await store._call(lambda db: db.execute(TIGHTEN, ("win_rate", 0.1)))
    with read.reading(tmp_path) as db:
        assert performance.read_criteria(db, "iron_condor") == {}


# ---------------------------------------------------------------------------------------------------- registry


async def test_parameter_sets_are_counted_and_kept(traded: Store, tmp_path: Path) -> None:
    await traded.register([ParameterSet("momentum_scalping", "n3w", {"b": 1, "a": 2})], 5)
    await traded.register([ParameterSet("momentum_scalping", "n3w", {"b": 1, "a": 2})], 9)
    with read.reading(tmp_path) as db:
        assert performance.parameter_sets(db, "momentum_scalping") == 3
        assert performance.parameter_sets(db, "iron_condor") == 1
        row = db.execute("SELECT * FROM v_parameter_sets WHERE strategy_hash = 'n3w'").fetchone()
        assert (row["params"], row["first_seen_ns"], row["last_seen_ns"]) == ('{"a":2,"b":1}', 5, 9)
        assert StrategyKey("momentum_scalping", "n3w") in performance.keys(db)


# ----------------------------------------------------------------------------------------------------- writing


async def test_a_failure_of_a_derived_write_touches_no_fill(traded: Store, tmp_path: Path) -> None:
    with read.reading(tmp_path) as db:
        fills = db.execute("SELECT count(*), sum(price_micros) FROM fills").fetchone()
        good = derive.refresh(db, [])
    bad = DerivedRow("trade_extremes", {"log_id": 1, "mae_micros": 5, "mfe_micros": None, "marks": 0})
    with pytest.raises(DerivedError, match="CHECK constraint"):
        await traded.write_derived([*good, bad])
    with read.reading(tmp_path) as db:
        assert tuple(db.execute("SELECT count(*), sum(price_micros) FROM fills").fetchone()) == tuple(fills)
        assert db.execute("SELECT count(*) FROM strategy_days").fetchone()[0] == 0
    # The next turn commits, and so does the next refresh.
    await traded.commit([SessionClosed("2024-01-02", 1)], stamped(1, 1))
    assert await traded.write_derived(good) == len(good)


async def test_views_tell_what_the_tables_hold(traded: Store, tmp_path: Path) -> None:
    with read.reading(tmp_path) as db:
        rows = derive.refresh(db)
    await traded.write_derived(rows)
    with read.reading(tmp_path) as db:
        trades, days = performance.read_trades(db), performance.read_days(db, ACCOUNT_KEY)
        curve = db.execute("SELECT * FROM v_equity_curve").fetchall()
        made = figures(trades, days)
        assert [row["date"] for row in curve] == [day.date for day in days]
        known = sum(day.pnl_micros or 0 for day in days)
        assert curve[-1]["cumulative_pnl_micros"] == known
        assert max(row["drawdown_micros"] for row in curve) / 1e6 == pytest.approx(made.max_drawdown_usd, abs=1e-9)
        recent = db.execute("SELECT * FROM v_recent_trades").fetchall()
        assert [row["trade_id"] for row in recent] == [t.trade_id for t in reversed(trades)][:100]
        assert [row["session"] for row in recent] == [t.session for t in reversed(trades)][:100]
        latest = db.execute("SELECT strategy, strategy_hash, sharpe FROM v_latest_strategy_performance").fetchall()
        assert [tuple(row)[:2] for row in latest] == [
            ("account", ""), ("iron_condor", "cccc"), ("momentum_scalping", "b2b2"), ("opening_range_breakout", "aaaa"),
        ]  # fmt: skip
        assert latest[0]["sharpe"] == made.sharpe
        snapshot = performance.read_snapshots(db)[-1]
        assert (snapshot["trades"], snapshot["wins"], snapshot["streak"]) == (made.trades, made.wins, made.streak)
        assert (snapshot["win_rate"], snapshot["profit_factor"]) == (made.win_rate, made.profit_factor)
        assert (snapshot["sharpe"], snapshot["max_drawdown"], snapshot["drawdown"]) == (
            made.sharpe, made.max_drawdown, made.current_drawdown,
        )  # fmt: skip
        assert snapshot["largest_loss_micros"] == round((made.largest_loss_usd or 0) * 1e6)


# --------------------------------------------------------------------------------------------------- migration


def _as_before_version_4(path: Path) -> None:
    """Take away what schemas 4 and 5 brought."""
    with sqlite3.connect(path, isolation_level=None) as db:
        fresh, old = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
        for number, sql in schema_files():
            fresh.executescript(sql)
            if number <= 3:
                old.executescript(sql)
        kept = {row[0] for row in old.execute("SELECT name FROM sqlite_schema")}
        for kind in ("trigger", "view", "index", "table"):
            names = fresh.execute("SELECT name FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL", (kind,))
            for (name,) in names.fetchall():
                if name not in kept:
                    db.execute(f"DROP {kind} IF EXISTS {name}")
        db.execute("ALTER TABLE account_seed DROP COLUMN holds")
        db.execute("PRAGMA user_version = 3")
        fresh.close()
        old.close()
    db.close()


async def test_an_older_database_has_its_counts_at_the_next_start(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", 1, token="tok")
    made = [(at, [m for m in out if type(m).__name__ != "CashTransferred"]) for at, out in Maker(8).turns(60)]
    await store._call(write, made)
    with read.reading(tmp_path) as db:
        before = counts_of(db, "strategy_performance")
    await store.close()
    _as_before_version_4(tmp_path / "oracle.db")
    with pytest.raises(ConfigurationError, match="schema version 3"), read.reading(tmp_path):
        pass
    store = await Store.open(tmp_path, "sim", 1)
    with read.reading(tmp_path) as db:
        assert counts_of(db, "strategy_performance") == before
        rows = derive.refresh(db)
    await store.write_derived(rows)
    await store.close()
    with read.reading(tmp_path) as db:
        assert recompute.check_database(db).behind == dict.fromkeys(("trades", *performance.TABLES), 0)

import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from oracle.core.errors import ConfigurationError, StoreError
from oracle.core.ledger import Ledger
from oracle.core.messages import OrderClosed
from oracle.core.vocabulary import Purpose, Side
from oracle.store import read
from oracle.store.sqlite import Store
from tests.unit.store_day import CALL, DATE, PUT, T0, S, fill, order, turns

D = Decimal


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    one = await Store.open(tmp_path, "sim", T0, token="tok", feed="indicative")
    for stamped, out in turns():
        await one.commit(out, stamped)
    yield one
    await one.close()


async def test_positions_are_the_fold_of_fills(store: Store, tmp_path: Path) -> None:
    with read.reading(tmp_path) as db:
        assert read.positions(db) == [
            {"symbol": PUT, "qty": 1, "avg_price_usd": D("0.9"), "cost_usd": D("90")},
        ]


async def test_positions_follow_partial_exits_and_turns(store: Store, tmp_path: Path) -> None:
    stop = order(4, "t2", Purpose.STOP, symbol=PUT, contracts=1)
    more = msgspec.structs.replace(fill(order(3, "t2", Purpose.ENTRY, symbol=PUT), "y1", 3, "1.1", T0), side=Side.BUY)
    await store.commit((more, fill(stop, "y2", 2, "2", T0)), turns()[0][0])
    with read.reading(tmp_path) as db:
        (held,) = read.positions(db)
        assert (held["qty"], held["avg_price_usd"]) == (2, D("1.05"))
    await store.commit((fill(stop, "y3", 5, "2", T0),), turns()[0][0])
    with read.reading(tmp_path) as db:
        (short,) = read.positions(db)
        assert (short["qty"], short["avg_price_usd"], short["cost_usd"]) == (-3, D(2), D(-600))


async def test_status_says_what_the_books_say(store: Store, tmp_path: Path) -> None:
    with read.reading(tmp_path) as db:
        found = read.status(db)
    assert (found["mode"], found["instance_token"]) == ("sim", "tok")
    assert found["equity"]["equity_usd"] == D("100060.75")
    assert found["session"]["date"] == DATE
    assert found["reconcile"]["differences"] == ["SPY: ledger 0, broker -1.5"]
    assert [latch["latch"] for latch in found["latches"]] == ["day_loss"]
    assert (found["working_orders"], found["unknown_orders"], found["foreign_executions"]) == (1, 1, 1)
    assert (found["open_trades"], found["closed_trades"]) == (1, 1)


async def test_status_of_an_empty_database(tmp_path: Path) -> None:
    await (await Store.open(tmp_path, "paper", T0)).close()
    with read.reading(tmp_path) as db:
        found = read.status(db)
        assert (found["equity"], found["session"], found["reconcile"], found["latches"]) == (None, None, None, [])
        assert read.positions(db) == []
        assert read.trades(db) == []


async def test_orders_come_with_ladders_and_lives(store: Store, tmp_path: Path) -> None:
    with read.reading(tmp_path) as db:
        assert [one["order_id"][-1] for one in read.orders(db)] == ["4", "3", "2", "1"]
        assert [one["order_id"][-1] for one in read.orders(db, limit=1)] == ["4"]
        (working,) = read.orders(db, working_only=True)
        assert working["state"] == "unknown"
        assert working["ladder"] == [{"limit_usd": None, "stand_s": 30.0}]
        life = [event["to_state"] for event in read.order_events(db, working["order_id"])]
        assert life == ["sent", "unknown"]


async def test_what_an_order_has_filled_is_the_sum_of_its_fills(store: Store, tmp_path: Path) -> None:
    stop = order(4, "t2", Purpose.STOP, symbol=PUT, contracts=3)
    await store.commit((fill(stop, "y1", 1, "2", T0),), turns()[0][0])
    await store.commit((fill(stop, "y2", 1, "2", T0),), turns()[0][0])
    with read.reading(tmp_path) as db:
        assert [(one["order_id"][-1], one["filled"]) for one in read.orders(db)] == [
            ("4", 2), ("3", 1), ("2", 3), ("1", 3),
        ]  # fmt: skip
        assert [one["filled"] for one in read.orders(db, working_only=True)] == [2]


async def test_trades_have_every_field_of_the_product_page(store: Store, tmp_path: Path) -> None:
    with read.reading(tmp_path) as db:
        (only,) = read.trades(db, open_only=True)
        assert (only["symbol"], only["closed_ns"], only["net_pnl_usd"]) == (PUT, None, None)
        assert read.trades(db, strategy="nobody") == []
        closed = read.trades(db, strategy="opening_range_breakout")[-1]
    assert closed["symbol"] == CALL
    expected = {
        "expected_entry_usd": D("1.225"),
        "expected_exit_usd": D("1.225"),
        "entry_price_usd": D("1.236667"),
        "exit_price_usd": D("1.5"),
        "slippage_usd": D("3.5"),
        "slippage_bps": 95.238095238,
        "fees_broker_usd": D("0.16"),
        "fees_modelled_usd": D("3.9"),
        "equity_usd": D("100000.25"),
        "planned_risk_usd": D("150"),
        "worst_case_usd": D("375"),
        "mode": "sim",
        "strategy_hash": "h4sh",
        "reason": "breakout",
        "feed": "indicative",
        "exit_rule": "target",
        "gross_pnl_usd": D("79"),
        "net_pnl_usd": D("75.1"),
        "opened_ns": T0 + 11 * S,
        "closed_ns": T0 + 600 * S,
    }
    assert {name: closed[name] for name in expected} == expected
    assert closed["worst_case_share"] == pytest.approx(375 / 100000.25)
    assert closed["legs"][0]["symbol"] == CALL
    assert closed["exit_plan"]["flat_ns"] == T0 + 19_800 * S


async def test_decisions_show_why_not(store: Store, tmp_path: Path) -> None:
    with read.reading(tmp_path) as db:
        found = read.decisions(db)
    assert [one["approved"] for one in found] == [1, 1, 0]
    assert found[-1]["refusals"][0] == {"rule": "spread", "observed": "0.12 USD", "limit": "0.08 USD"}
    assert found[-1]["equity_usd"] is None
    assert found[0]["headroom"] == {"planned_loss": 3, "position": 13}


async def test_equity_and_sessions(store: Store, tmp_path: Path) -> None:
    with read.reading(tmp_path) as db:
        assert [mark["kind"] for mark in read.equity(db)] == ["open", "trade", "close"]
        assert [mark["kind"] for mark in read.equity(db, since_ns=T0 + 700 * S)] == ["close"]
        (day,) = read.sessions(db)
        assert (day["date"], day["fills"], day["net_pnl_usd"]) == (DATE, 4, D("75.1"))


async def test_a_reader_keeps_its_snapshot_while_the_daemon_writes(store: Store, tmp_path: Path) -> None:
    end = OrderClosed("tok-20260120-orb-000004", "t2", Purpose.STOP, 0, 1, "canceled")
    with read.reading(tmp_path) as db:
        assert len(read.orders(db, working_only=True)) == 1
        await store.commit((end,), turns()[0][0])
        assert len(read.orders(db, working_only=True)) == 1
    with read.reading(tmp_path) as db:
        assert read.orders(db, working_only=True) == []


async def test_a_reader_cannot_write(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="readonly"), read.reading(tmp_path) as db:
        db.execute("DELETE FROM fills")


def test_a_missing_database_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"oracle\.db does not exist"), read.reading(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "oracle.db").write_bytes(b"no rows here" * 1000)
    with pytest.raises(ConfigurationError, match="not a readable database"), read.reading(tmp_path):
        pass
    (tmp_path / "oracle.db").unlink()
    with sqlite3.connect(tmp_path / "oracle.db") as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(ConfigurationError, match="another program"), read.reading(tmp_path):
        pass


async def test_another_version_is_refused(store: Store, tmp_path: Path) -> None:
    await store._call(lambda db: db.execute("PRAGMA user_version = 99"))
    with pytest.raises(ConfigurationError, match="version 99"), read.reading(tmp_path):
        pass


async def test_a_restored_ledger_agrees_with_the_positions_that_commands_show(store: Store, tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.restore((await store.load()).books)
    with read.reading(tmp_path) as db:
        shown = [(one["symbol"], one["qty"], one["avg_price_usd"]) for one in read.positions(db)]
    assert [(one.symbol, one.qty, one.avg_price_usd) for one in ledger.positions()] == shown
    assert [trade.trade_id for trade in ledger.open_trades()] == ["t2"]
    # 100,000.25 - (1.23 + 2 x 1.24 - 3 x 1.50) x 100 - 0.90 x 100 - 4 fees of 0.04
    assert ledger.cash_usd == D("99989.09")

"""Derived rows rest on the stored rows alone: not on when refreshes ran, what failed, or which trade held what."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from oracle import derive
from oracle.core.errors import StoreError
from oracle.core.messages import OrderFilled, SubmitOrder
from oracle.core.vocabulary import Purpose
from oracle.rebuilt import changes, rebuild
from oracle.recompute import check
from oracle.store import performance, read
from oracle.store.dayfold import ACCOUNT_KEY
from oracle.store.sqlite import Store
from tests.unit.test_derive import folded, held_overnight, refreshed
from tests.unit.test_derive import store as store  # noqa: PLC0414 - a fixture
from tests.unit.track_made import Maker, sessions, write


async def unlike_the_books(store: Store, folder: Path) -> dict[str, int]:
    """How many stored rows a rebuild from the books would write or delete, by table."""
    with read.reading(folder) as db:
        found = changes(db, rebuild(db))
    return {table: len(put) + len(drop) for table, (put, drop) in found.items() if put or drop}


async def test_a_session_that_comes_on_record_after_its_first_fill_leaves_no_trace(
    store: Store, tmp_path: Path
) -> None:
    """After a crash: a start at noon is told of this morning's fill, and a refresh runs before the session opens."""
    opened, entered, _, second, left, ended = held_overnight(close_mark=None)
    log_id = await store._call(write, [opened, entered, left])
    await refreshed(store, tmp_path)
    await store._call(write, [(left[0], second[1]), ended], log_id)
    rows = await refreshed(store, tmp_path)
    assert await unlike_the_books(store, tmp_path) == {}
    days = [row.values for row in rows if row.table == "strategy_days" and row.values["strategy"] == "account"]
    dates = [date for date, _ in sessions(2)]
    assert [(day["date"], day["pnl_micros"] is None) for day in days] == [(dates[0], True), (dates[1], False)]


async def test_a_refresh_that_failed_halfway_leaves_no_trace(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = list(Maker(6).turns(20))
    await store._call(write, turns)
    whole = derive.Deriver._take_ends

    def failing(self: derive.Deriver, db: sqlite3.Connection) -> None:
        whole(self, db)
        raise StoreError("the disk is gone for a moment")

    with monkeypatch.context() as patched, read.reading(tmp_path) as db:
        patched.setattr(derive.Deriver, "_take_ends", failing)
        with pytest.raises(StoreError, match="for a moment"):
            derive.refresh(db)
    with read.reading(tmp_path) as db:
        assert not [one for name, one in derive._DERIVERS.items() if name[0] == str(tmp_path / "oracle.db")]
        assert derive.refresh(db) == derive.Deriver().refresh(db)


async def test_a_vix_that_comes_later_is_no_fault_and_is_taken(store: Store, tmp_path: Path) -> None:
    await store._call(write, Maker(6).turns(40))
    await refreshed(store, tmp_path)
    (date, _), *_ = sessions(1)
    late = "INSERT INTO iv_history (underlying, date, iv_30d, source) VALUES ('VIX', ?, 0.17, 'csv')"
    await store._call(lambda db: db.execute(late, (date,)))
    found = check(tmp_path)
    assert found.faults == []
    assert found.behind["trading_sessions"] == 1
    await refreshed(store, tmp_path)
    with read.reading(tmp_path) as db:
        (first, *_) = performance.read_sessions(db)
    assert (first["date"], first["vix_close"]) == (date, pytest.approx(17.0))
    assert await unlike_the_books(store, tmp_path) == {}


async def test_what_others_bought_back_needs_no_mark(store: Store, tmp_path: Path) -> None:
    """More was sold than held, and bought back under another trade: nothing is held, so nothing is unknown."""
    turns = held_overnight(close_mark="9.00")
    entry = next(m for _, out in turns for m in out if isinstance(m, SubmitOrder))
    bought = next(m for _, out in turns for m in out if isinstance(m, OrderFilled))
    sold = next(m for _, out in turns for m in out if isinstance(m, OrderFilled) and m.purpose is not Purpose.ENTRY)
    late = msgspec.structs.replace(sold, execution_id="late", contracts=1, at_ns=sold.at_ns + 1)
    order = msgspec.structs.replace(entry, order_id="tok-x-00000099", trade_id="t9")
    back = msgspec.structs.replace(
        bought, execution_id="back", order_id=order.order_id, trade_id="t9", contracts=1, at_ns=sold.at_ns + 2
    )
    at_ns = turns[-2][0]
    fold = await folded(store, tmp_path, [*turns[:-1], (at_ns, [late, order, back]), turns[-1]])
    account = fold.days[ACCOUNT_KEY]
    assert [day.pnl_micros is None for day in account] == [False, False]

import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oracle import derive
from oracle.core.errors import StoreError
from oracle.core.messages import (
    CashTransferred,
    EquityMarked,
    NoteAdded,
    OrderFilled,
    SessionClosed,
    SessionOpened,
    TradeClosed,
)
from oracle.core.trackrecord import DayResult, StrategyKey
from oracle.metrics.performance import figures
from oracle.store import performance, read
from oracle.store.dayfold import ACCOUNT_KEY, DayFold
from oracle.store.performance import TABLES, DerivedRow, ParameterSet
from oracle.store.sqlite import Store
from tests.unit.track_made import CALL, CASH, MINUTE_NS, Maker, dump, sessions, stamped, write

D = Decimal
ORB = StrategyKey("opening_range_breakout", "aaaa")
Turns = list[tuple[int, list[Any]]]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    one = await Store.open(tmp_path, "sim", 1, token="tok", feed="opra")
    yield one
    await one.close()


async def refreshed(store: Store, folder: Path, keys: list[StrategyKey] | None = None) -> list[DerivedRow]:
    with read.reading(folder) as db:
        rows = derive.refresh(db, keys)
    await store.write_derived(rows)
    return rows


def anew(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """What a deriver that knows nothing makes of the books, by the rows that stand in the tables."""
    with read.reading(folder) as db:
        return dump(db, TABLES)


# ------------------------------------------------------------------------------------------------- going on


async def test_going_on_gives_what_beginning_anew_gives(store: Store, tmp_path: Path) -> None:
    turns = list(Maker(6).turns(120))
    log_id, written = 0, 0
    for first in range(0, len(turns), 37):
        log_id = await store._call(write, turns[first : first + 37], log_id)
        rows = await refreshed(store, tmp_path)
        written += sum(row.table == "trade_extremes" for row in rows)
    went_on = anew(tmp_path)
    with read.reading(tmp_path) as db:
        trades = db.execute("SELECT count(*) FROM trades").fetchone()[0]
        rows = derive.Deriver().refresh(db)
    assert written == trades  # each once
    other = tmp_path / "other"
    fresh = await Store.open(other, "sim", 1, token="tok")
    await fresh._call(write, turns)
    with read.reading(other) as db:
        await fresh.write_derived(derive.Deriver().refresh(db))
    assert anew(other) == went_on
    await fresh.close()


async def test_a_refresh_is_of_the_keys_asked_for(store: Store, tmp_path: Path) -> None:
    await store._call(write, Maker(6).turns(40))
    rows = await refreshed(store, tmp_path, [ORB, ACCOUNT_KEY])
    asked = {(row.values["strategy"], row.values["month"]) for row in rows if row.table == "strategy_performance"}
    assert {name for name, _ in asked} == {"opening_range_breakout", "account"}
    again = await refreshed(store, tmp_path, [ORB])
    assert [row.values["month"] for row in again if row.table == "strategy_performance"] == ["all"]
    assert not [row for row in again if row.table == "trade_extremes"]


async def test_rows_survive_the_way_through_a_pipe(store: Store, tmp_path: Path) -> None:
    await store._call(write, Maker(6).turns(10))
    with read.reading(tmp_path) as db:
        rows = derive.refresh(db)
    packed = msgspec.msgpack.encode(rows)
    assert msgspec.msgpack.decode(packed, type=list[DerivedRow]) == rows


async def test_an_older_refresh_does_not_replace_a_newer_one(store: Store, tmp_path: Path) -> None:
    turns = list(Maker(6).turns(40))
    log_id = await store._call(write, turns[:60])
    with read.reading(tmp_path) as db:
        early = [row for row in derive.Deriver().refresh(db) if row.table == "strategy_performance"]
    await store._call(write, turns[60:], log_id)
    await refreshed(store, tmp_path)
    now = anew(tmp_path)
    await store.write_derived(early)
    assert anew(tmp_path) == now


async def test_a_restored_backup_begins_anew(store: Store, tmp_path: Path) -> None:
    turns = list(Maker(6).turns(30))
    log_id = await store._call(write, turns[:40])
    copy = tmp_path / "copy.db"
    await store.backup(copy)
    await store._call(write, turns[40:], log_id)
    with read.reading(tmp_path) as db:
        whole = derive.refresh(db)
    await store.close()
    for name in ("oracle.db", "oracle.db-wal", "oracle.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    copy.rename(tmp_path / "oracle.db")
    with read.reading(tmp_path) as db:
        back = derive.refresh(db)
        assert back == derive.Deriver().refresh(db)
    assert len(back) < len(whole)


async def test_figures_are_those_of_the_trades_and_days(store: Store, tmp_path: Path) -> None:
    await store._call(write, Maker(11).turns(150))
    await refreshed(store, tmp_path)
    with read.reading(tmp_path) as db:
        for key in performance.keys(db):
            trades, days = performance.read_trades(db, key), performance.read_days(db, key)
            row = db.execute(
                "SELECT * FROM strategy_performance WHERE strategy = ? AND strategy_hash = ? AND month = 'all'",
                (key.strategy, key.strategy_hash),
            ).fetchone()
            bound = derive.bound_of(db, key, trades[-1].log_id)
            made = figures(trades, days, bound=bound).as_dict()
            assert msgspec.json.decode(row["figures"]) == msgspec.json.decode(msgspec.json.encode(made))
            assert (row["sharpe"], row["win_rate"]) == (made["sharpe"], made["win_rate"])
            assert (row["assessment"] is None) == (key == ACCOUNT_KEY)
            assert (bound is None) == (key == ACCOUNT_KEY)


# ---------------------------------------------------------------------------------------------------- the days


async def folded(store: Store, folder: Path, turns: Turns) -> DayFold:
    await store._call(write, turns)
    fold = DayFold()
    with read.reading(folder) as db:
        fold.advance(db)
    return fold


def marked(
    date: str, at_ns: int, kind: str, equity: Decimal, marks: dict[str, Decimal], start: Decimal
) -> EquityMarked:
    return EquityMarked(date, at_ns, kind, equity, equity, start, equity, D(0), D(0), 0, marks)


def held_overnight(*, close_mark: str | None) -> Turns:
    """One call bought in the first session and sold in the second: at 2.00, marked, at 2.50."""
    maker, days = Maker(3), sessions(2)
    (first, open_ns), (second, next_ns) = days
    made = list(maker.turns(1))
    return _rebuilt(made, first, open_ns, second, next_ns, close_mark)


def _rebuilt(made: Turns, first: str, open_ns: int, second: str, next_ns: int, close_mark: str | None) -> Turns:
    """The entry and the exit of a made trade, told anew at chosen times and prices."""
    messages = [message for _, out in made for message in out]
    closing = {SessionOpened, SessionClosed, EquityMarked}
    kept = [message for message in messages if type(message) not in closing]
    entry_fill = next(i for i, m in enumerate(kept) if isinstance(m, OrderFilled))
    cut = next(i for i, m in enumerate(kept) if type(m).__name__ == "ExitTriggered")
    assert entry_fill < cut
    at = open_ns + 60 * MINUTE_NS
    before = [_at(message, at, at) for message in kept[:cut]]
    after = [_at(message, next_ns + 30 * MINUTE_NS, at) for message in kept[cut:]]
    close_ns = open_ns + 390 * MINUTE_NS
    symbol = next(m.symbol for m in kept if isinstance(m, OrderFilled))
    ended = [SessionClosed(first, close_ns)]
    if close_mark is not None:
        ended.append(marked(first, close_ns, "close", CASH, {symbol: D(close_mark)}, CASH))  # type: ignore[arg-type]
    return [
        (open_ns, [before[0], SessionOpened(first, open_ns, close_ns), marked(first, open_ns, "open", CASH, {}, CASH)]),
        (at, before[1:]),
        (close_ns, ended),
        (next_ns, [SessionOpened(second, next_ns, next_ns + 390 * MINUTE_NS)]),
        (next_ns + 30 * MINUTE_NS, after),
        (next_ns + 390 * MINUTE_NS, [
            SessionClosed(second, next_ns + 390 * MINUTE_NS),
            marked(second, next_ns + 390 * MINUTE_NS, "close", CASH, {}, CASH),
        ]),
    ]  # fmt: skip


def _at(message: Any, at_ns: int, opened_ns: int) -> Any:
    times = {"at_ns": at_ns, "opened_ns": opened_ns, "closed_ns": at_ns}
    own = {name: value for name, value in times.items() if name in message.__struct_fields__}
    return msgspec.structs.replace(message, **own)


async def test_a_day_is_marked_to_market_at_its_close(store: Store, tmp_path: Path) -> None:
    turns = held_overnight(close_mark="9.00")
    fold = await folded(store, tmp_path, turns)
    fills = [m for _, out in turns for m in out if isinstance(m, OrderFilled)]
    entries = [f for f in fills if f.purpose.value == "entry"]
    trade = next(m for _, out in turns for m in out if isinstance(m, TradeClosed))
    key = StrategyKey(trade.strategy, trade.strategy_hash)
    first, second = fold.days[key]
    paid = sum(f.side.sign * f.contracts * f.price_usd * 100 + f.fees_modelled_usd for f in entries)
    assert {f.symbol for f in entries} == {CALL}
    value = sum(f.contracts for f in entries) * D(900)
    assert first.pnl_micros == (value - paid) * 1_000_000
    net = trade.net_pnl_usd * 1_000_000
    assert (first.pnl_micros or 0) + (second.pnl_micros or 0) == net
    assert fold.days[ACCOUNT_KEY] == fold.days[key]
    assert (first.start_equity_micros, first.session_ns) == (int(CASH) * 1_000_000, 390 * MINUTE_NS)
    assert (first.open_ns, second.open_ns) == (330 * MINUTE_NS, 30 * MINUTE_NS)


async def test_an_unknown_close_is_unknown_and_the_next_day_holds_both(store: Store, tmp_path: Path) -> None:
    turns = held_overnight(close_mark=None)
    fold = await folded(store, tmp_path, turns)
    trade = next(m for _, out in turns for m in out if isinstance(m, TradeClosed))
    first, second = fold.days[StrategyKey(trade.strategy, trade.strategy_hash)]
    assert first.pnl_micros is None
    assert second.pnl_micros == trade.net_pnl_usd * 1_000_000
    assert [end.equity_micros for end in fold.ends] == [None, CASH * 1_000_000]


async def test_deposits_are_in_the_start_and_not_in_the_result(store: Store, tmp_path: Path) -> None:
    (one, one_ns), (two, two_ns) = sessions(2)
    length = 390 * MINUTE_NS
    moved = CashTransferred("a1", "CSD", D(5_000), one, "", one_ns + MINUTE_NS)
    later = CashTransferred("a2", "CSW", D(-700), one, "", one_ns + length + MINUTE_NS)
    base = Maker(1)
    seed = next(iter(base.turns(1)))[1]
    turns: Turns = [
        (one_ns, [*seed, SessionOpened(one, one_ns, one_ns + length), marked(one, one_ns, "open", CASH, {}, CASH)]),
        (one_ns + MINUTE_NS, [moved]),
        (one_ns + length, [
            SessionClosed(one, one_ns + length), marked(one, one_ns + length, "close", CASH + 5_000, {}, CASH + 5_000),
        ]),
        (one_ns + length + MINUTE_NS, [later]),
        (two_ns, [
            SessionOpened(two, two_ns, two_ns + length), marked(two, two_ns, "open", CASH + 4_300, {}, CASH + 4_300),
        ]),
        (two_ns + length, [SessionClosed(two, two_ns + length)]),
    ]  # fmt: skip
    fold = await folded(store, tmp_path, turns)
    assert fold.days[ACCOUNT_KEY] == [
        DayResult(one, 0, int(CASH + 5_000) * 1_000_000, 5_000_000_000, 0, length),
        DayResult(two, 0, int(CASH + 4_300) * 1_000_000, -700_000_000, 0, length),
    ]


async def test_a_session_without_an_end_is_over_when_the_next_one_opens(store: Store, tmp_path: Path) -> None:
    turns = list(Maker(5, everything=False).turns(12))
    dropped = [(at, [m for m in out if not isinstance(m, SessionClosed)]) for at, out in turns]
    unmarked = [(at, [m for m in out if getattr(m, "kind", "") != "close"]) for at, out in dropped]
    fold = await folded(store, tmp_path, unmarked)
    assert [end.date for end in fold.ends] == [date for date, _ in sessions(2)]  # the third is not over
    assert all(day.pnl_micros is not None for day in fold.days[ACCOUNT_KEY])  # nothing was held


async def test_extremes_are_of_marks_while_it_was_open(store: Store, tmp_path: Path) -> None:
    await store._call(write, Maker(9).turns(100))
    await refreshed(store, tmp_path)
    with read.reading(tmp_path) as db:
        trades = performance.read_trades(db)
        marks = {row["log_id"]: row["marks"] for row in db.execute("SELECT * FROM trade_extremes")}
    assert {t.log_id for t in trades} == marks.keys()
    assert {0, 1} <= set(marks.values())
    for trade in trades:
        known = marks[trade.log_id] > 0
        assert (trade.mae_micros is not None) == known == (trade.mfe_micros is not None)
        if trade.mae_micros is not None and trade.mfe_micros is not None:
            assert trade.mae_micros <= min(0, trade.gross_micros)
            assert trade.mfe_micros >= max(0, trade.gross_micros)


# ---------------------------------------------------------------------------------------------------- what ran


async def test_the_registry_says_what_ran_in_a_session(store: Store, tmp_path: Path) -> None:
    """A set runs from its start until the next start; sessions without a trade are rows too."""
    length = 390 * MINUTE_NS
    seed = next(iter(Maker(1).turns(1)))[1]
    log_id = await store._call(write, [(1, seed)])
    for number, (date, open_ns) in enumerate(sessions(4)):
        if number == 0:
            await store.register([ParameterSet("orb", "one", {}), ParameterSet("iron", "two", {})], open_ns - 1)
        if number == 2:
            await store.register([ParameterSet("orb", "new", {})], open_ns - 1)
        day = [
            (open_ns, [SessionOpened(date, open_ns, open_ns + length), marked(date, open_ns, "open", CASH, {}, CASH)]),
            (open_ns + length, [
                SessionClosed(date, open_ns + length), marked(date, open_ns + length, "close", CASH, {}, CASH),
            ]),
        ]  # fmt: skip
        log_id = await store._call(write, day, log_id)
    await refreshed(store, tmp_path)
    dates = [date for date, _ in sessions(4)]
    with read.reading(tmp_path) as db:
        ran = {key: [day.date for day in performance.read_days(db, key)] for key in performance.keys(db)}
    assert ran == {
        ACCOUNT_KEY: dates, StrategyKey("iron", "two"): dates[:2], StrategyKey("orb", "new"): dates[2:],
        StrategyKey("orb", "one"): dates[:2],
    }  # fmt: skip


async def test_a_session_tells_its_breakers_interventions_and_notes(store: Store, tmp_path: Path) -> None:
    log_id = await store._call(write, Maker(12).turns(120))
    await refreshed(store, tmp_path)
    with read.reading(tmp_path) as db:
        found = performance.read_sessions(db)
        assert sum(row["trades"] for row in found) == len(performance.read_trades(db))
    broken = [row for row in found if row["breakers"]]
    assert broken
    assert {tuple(row["breakers"]) for row in broken} == {("day_loss",)}
    assert sum(row["interventions"] for row in found) == len(broken)
    date = broken[0]["date"]
    store._log_id = log_id  # what was written around it
    note = NoteAdded("r9", date, "the feed was slow", "ann", 7)
    await store.commit([note], stamped(1, 7))
    await refreshed(store, tmp_path)
    with read.reading(tmp_path) as db:
        (row,) = [row for row in performance.read_sessions(db) if row["date"] == date]
    assert row["notes"] == [{"who": "ann", "text": "the feed was slow", "at_ns": 7}]


# ------------------------------------------------------------------------------------------------- a bad book


async def test_a_broken_book_is_named_by_its_message(store: Store, tmp_path: Path) -> None:
    await store._call(write, Maker(6).turns(5))

    def spoil(db: sqlite3.Connection) -> int:
        row = db.execute("SELECT log_id FROM equity_snapshots WHERE marks <> '{}' ORDER BY log_id LIMIT 1").fetchone()
        db.execute("UPDATE equity_snapshots SET marks = '{\"X\": oops}' WHERE log_id = ?", (row[0],))
        return int(row[0])

    log_id = await store._call(spoil)
    with read.reading(tmp_path) as db, pytest.raises(StoreError, match=f"mark {log_id} cannot be folded"):
        derive.Deriver().refresh(db)

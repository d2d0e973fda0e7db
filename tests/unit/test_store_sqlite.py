import asyncio
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from oracle.core.errors import ConfigurationError, InvariantError, StoreError
from oracle.core.marketdata import DailyIvObserved, Quote
from oracle.core.messages import (
    CashCorrected,
    CashTransferred,
    CriterionTightened,
    EquityMarked,
    ExitTriggered,
    FeeCharged,
    ForeignExecution,
    Intent,
    LatchChanged,
    LedgerSeeded,
    NoSignal,
    NoteAdded,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    PositionAdopted,
    PositionSettled,
    SessionOpened,
    Stamped,
    StrategyFailed,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.vocabulary import Purpose
from oracle.store.rows import QUERIES, WRITERS, order_sequence, rounded_micros
from oracle.store.sqlite import Store, durable, is_durable, schema_files
from tests.unit.store_day import DATE, PUT, T0, S, an_intent, approved, closed_trade, fill, messages, order, turns

D = Decimal
AT = Stamped(1, T0, Quote("SPY", T0, 1.0, 1, 1.1, 1))


async def opened(folder: Path, **options: object) -> Store:
    return await Store.open(folder, "sim", T0, token="tok", feed="indicative", **options)  # type: ignore[arg-type]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    one = await opened(tmp_path)
    yield one
    await one.close()


@pytest.fixture
async def full(store: Store) -> Store:
    for stamped, out in turns():
        await store.commit(out, stamped)
    return store


def rows(store: Store, sql: str, *values: object) -> list[sqlite3.Row]:
    with sqlite3.connect(f"file:{store.path}?mode=ro", uri=True) as db:
        db.row_factory = sqlite3.Row
        found = db.execute(sql, values).fetchall()
    db.close()
    return found


# ---------------------------------------------------------------------------------------------- round trip


async def test_a_day_loads_back_as_it_was_committed(full: Store) -> None:
    loaded = await full.load()
    day = messages()

    def of(*kinds: type) -> list[object]:
        return [message for message in day if isinstance(message, kinds)]

    assert list(loaded.submits) == of(SubmitOrder)
    assert list(loaded.fills) == of(OrderFilled)
    assert list(loaded.order_ends) == of(OrderClosed)
    assert list(loaded.opened) == of(TradeOpened)
    assert list(loaded.closed) == of(TradeClosed)
    assert list(loaded.triggered) == of(ExitTriggered)
    assert list(loaded.foreign) == of(ForeignExecution)
    assert list(loaded.failures) == of(StrategyFailed)
    assert [loaded.seed] == of(LedgerSeeded)
    assert [loaded.session] == of(SessionOpened)
    assert list(loaded.equity) == of(EquityMarked)
    assert loaded.last_equity == of(EquityMarked)[-1]
    assert list(loaded.intents) == of(Intent)
    assert loaded.iv_history == (DailyIvObserved("SPY", DATE, 0.1875, "own"),)
    assert (loaded.token, loaded.mode, loaded.created_ns, loaded.next_order_sequence) == ("tok", "sim", T0, 5)
    # The fold's input is one sequence, in the order in which the core produced it.
    kinds = (LedgerSeeded, FeeCharged, SubmitOrder, OrderFilled, OrderClosed, ExitTriggered, TradeOpened, TradeClosed)
    assert list(loaded.books) == of(*kinds)


async def test_working_orders_and_open_trades_bring_their_history(full: Store) -> None:
    loaded = await full.load()
    assert [submit.order_id for submit in loaded.working] == ["tok-20260120-orb-000004"]
    assert list(loaded.order_events) == [message for message in messages() if isinstance(message, OrderAdvanced)]
    assert [phase.trade_id for phase in loaded.phases] == ["t2"]


async def test_latches_load_as_their_newest_state(full: Store) -> None:
    assert [message for message in messages() if isinstance(message, LatchChanged)] == list(
        (await full.load()).latch_events
    )
    states = {latch.latch: latch for latch in (await full.load()).latches}
    assert states["day_loss"] == LatchChanged("day_loss", True, "loss reached", "-3.1 %", "-3 %", "2026-01-21", T0)
    assert states["drawdown"].active is False


async def test_results_count_net_of_modelled_fees(full: Store) -> None:
    (result,) = (await full.load()).results
    assert (result.trades, result.wins, result.losses) == (1, 1, 0)
    assert result.won_usd == D("75.1")
    assert result.lost_usd == 0


async def test_everything_survives_a_restart_and_numbering_goes_on(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    for stamped, out in turns():
        await first.commit(out, stamped)
    before = await first.load()
    await first.close()
    second = await Store.open(tmp_path, "sim", T0 + 1, token="other")
    after = await second.load()
    assert after == before
    late = fill(order(4, "t2", Purpose.STOP, symbol=PUT, contracts=1), "x5", 1, "0.5", T0 + 800 * S)
    assert await second.commit((late,), AT) == 1
    assert (await second.load()).books[-1] == late
    await second.close()


async def test_a_new_database_gets_a_random_token(tmp_path: Path) -> None:
    tokens = set()
    for name in "ab":
        store = await Store.open(tmp_path / name, "sim", T0)
        tokens.add((await store.load()).token)
        await store.close()
    assert len(tokens) == 2
    assert all(re.fullmatch("[0-9a-f]{8}", token) for token in tokens)


# -------------------------------------------------------------------------------------------- what is a row


async def test_columns_hold_exact_micros_and_tie_ids_together(full: Store) -> None:
    chain = rows(
        full,
        "SELECT i.reason, d.bound_by, o.state, o.closed_filled, f.price_micros, f.fees_modelled_micros, t.feed, "
        "t.exit_rule FROM fills f JOIN orders o USING (order_id) JOIN decisions d USING (decision_id) JOIN intents i "
        "USING (intent_id) JOIN trades t ON t.trade_id = f.trade_id WHERE f.execution_id = 'x2'",
    )
    assert [tuple(row) for row in chain] == [
        ("close 0.2 % above the range", "planned_loss", "filled", 3, 1_240_000, 1_300_000, "indicative", "target")
    ]


async def test_refusals_are_rows_with_numbers(full: Store) -> None:
    found = rows(full, 'SELECT rule, observed, "limit" FROM refusals WHERE decision_id = ? ORDER BY position', "d0")
    assert [tuple(row) for row in found] == [("spread", "0.12 USD", "0.08 USD"), ("quote_age", "9 s", "5 s")]
    (refused,) = rows(full, "SELECT * FROM decisions WHERE approved = 0")
    assert refused["equity_micros"] is None
    assert refused["equity_needed_micros"] == 25_000_000_000


async def test_trade_facts_show_every_field_of_a_trade(full: Store) -> None:
    one, two = rows(full, "SELECT * FROM trade_facts ORDER BY log_id")
    assert one["expected_entry_micros"] == one["expected_exit_micros"] == 1_225_000
    assert one["entry_price_micros"] == 1_236_667
    assert one["net_pnl_micros"] == 75_100_000
    assert one["planned_risk_share"] == pytest.approx(150 / 100000.25)
    assert (one["mode"], one["side"], one["intent_id"]) == ("sim", "buy", an_intent(1).intent_id)
    assert msgspec.json.decode(one["legs"])[0]["bid_usd"] == "1.20"
    assert msgspec.json.decode(one["exit_plan"])["stop_fraction"] == 0.4
    assert two["closed_ns"] is None
    assert two["expected_exit_micros"] is None
    assert two["exit_phase"] == "breakeven"


async def test_session_summary_sums_the_session(full: Store) -> None:
    (day,) = rows(full, "SELECT * FROM session_summary")
    assert (day["strategies"], day["intents"], day["refused"], day["fills"]) == ("opening_range_breakout", 3, 1, 4)
    assert (day["trades_closed"], day["latches_set"], day["net_pnl_micros"]) == (1, 2, 75_100_000)
    assert day["ended_ns"] is not None


async def test_a_repeated_intent_is_counted_and_its_refusal_kept(full: Store) -> None:
    again = an_intent(1)
    await full.commit((again, approved(again, 9)), AT)
    (row,) = rows(full, "SELECT repeats FROM intents WHERE intent_id = ?", again.intent_id)
    assert row["repeats"] == 1


async def test_a_trade_that_reopens_is_a_round_trip_of_its_own(full: Store) -> None:
    reopened = TradeOpened("t1", "opening_range_breakout", "h4sh", "SPY", PUT, T0 + 900 * S)
    closed = msgspec.structs.replace(closed_trade(T0 + 950 * S), opened_ns=T0 + 900 * S)
    await full.commit((reopened,), AT)
    await full.commit((closed,), AT)
    assert len(rows(full, "SELECT * FROM trades WHERE trade_id = 't1' AND closed_ns IS NOT NULL")) == 2


async def test_a_session_rejoined_is_one_session(full: Store) -> None:
    await full.commit((SessionOpened(DATE, T0, T0 + 23_400 * S),), AT)
    (row,) = rows(full, "SELECT starts, first_ns FROM sessions")
    assert row["starts"] == 2


# -------------------------------------------------------------------------------------- all of a turn or none


async def test_a_turn_is_stored_whole_or_not_at_all(store: Store) -> None:
    wish = an_intent(1)
    bad = fill(order(7, "t9", Purpose.ENTRY), "x9", 1, "1", T0)  # its order was never submitted
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        await store.commit((wish, approved(wish, 1), bad), AT)
    assert rows(store, "SELECT * FROM intents") == []
    assert await store.commit((wish,), AT) == 1


async def test_an_execution_cannot_be_stored_twice(full: Store) -> None:
    again = next(message for message in messages() if isinstance(message, OrderFilled))
    with pytest.raises(StoreError, match="UNIQUE"):
        await full.commit((again,), AT)


async def test_ends_without_a_beginning_are_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="open trade t1"):
        await store.commit((closed_trade(T0),), AT)
    with pytest.raises(StoreError, match="order o-1"):
        await store.commit((OrderClosed("o-1", "t", Purpose.ENTRY, 0, 1, "canceled"),), AT)


async def test_money_finer_than_a_micro_is_refused(full: Store) -> None:
    stop = order(4, "t2", Purpose.STOP, symbol=PUT, contracts=1)
    with pytest.raises(InvariantError, match="micro"):
        await full.commit((fill(stop, "x6", 1, "0.5000001", T0),), AT)
    assert rows(full, "SELECT * FROM fills WHERE execution_id = 'x6'") == []


async def test_a_turn_without_facts_costs_no_transaction(tmp_path: Path) -> None:
    durations: list[float] = []
    store = await opened(tmp_path, on_commit_s=durations.append)
    assert await store.commit((NoSignal("s", "SPY", "quiet", {}),), AT) == 0
    assert durations == []
    assert await store.commit((), Stamped(2, T0, DailyIvObserved("SPY", DATE, 0.2, "own"))) == 1
    assert len(durations) == 1
    assert durations[0] > 0
    await store.close()


async def test_a_cancelled_commit_leaves_no_open_transaction(store: Store) -> None:
    task = asyncio.create_task(store.commit((an_intent(1),), AT))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.commit((an_intent(2),), AT) == 1
    assert len(rows(store, "SELECT * FROM intents")) == 2


def test_durable_takes_the_input_first_when_it_lasts() -> None:
    seen, mark = DailyIvObserved("SPY", DATE, 0.2, "own"), an_intent(1)
    assert durable(Stamped(1, T0, seen), (NoSignal("s", "SPY", "quiet", {}), mark)) == [seen, mark]
    assert is_durable(seen)
    assert not is_durable(AT.input)


def test_every_durable_type_occurs_in_the_scripted_day() -> None:
    day = {type(message) for stamped, out in turns() for message in durable(stamped, out)}
    # What an operator has booked or added, and what ended or moved by itself, have days of their own in
    # test_store_operator.py, test_store_record.py, test_store_structures.py and test_store_transfers.py.
    elsewhere = {PositionAdopted, CashCorrected, PositionSettled, CashTransferred, NoteAdded, CriterionTightened}
    assert day == set(WRITERS) - elsewhere


# ------------------------------------------------------------------------------------------- files and faults


async def test_files_are_private_and_writes_are_full(store: Store) -> None:
    await store.commit((an_intent(1),), AT)
    folder = store.path.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in os.listdir(folder)}
    assert set(modes) == {"oracle.db", "oracle.db-wal", "oracle.db-shm", "lock"}
    assert set(modes.values()) == {0o600}

    def settings(db: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "trusted_schema")
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await store._call(settings) == ["wal", 2, 1, 0]


async def test_a_new_folder_is_made_private_and_a_loose_one_of_others_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o755)
    await (await opened(empty)).close()
    assert stat.S_IMODE(empty.stat().st_mode) == 0o700
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "letter.txt").touch()
    with pytest.raises(ConfigurationError, match="chmod 700"):
        await opened(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", Path("/proc/oracle-state")):
        with pytest.raises(ConfigurationError, match=re.escape(str(folder))):
            await opened(folder)


async def test_a_database_path_that_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "oracle.db").mkdir()
    with pytest.raises((ConfigurationError, StoreError), match=r"oracle\.db"):
        await opened(tmp_path)


async def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "oracle.db"
    path.write_bytes(b"these are not the rows you are looking for" * 100)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="not a readable database"):
        await opened(tmp_path)
    assert path.read_bytes() == before
    path.unlink()
    await (await opened(tmp_path)).close()  # the lock was let go


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "oracle.db") as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(ConfigurationError, match="another program"):
        await opened(tmp_path)


async def test_a_newer_schema_is_refused_with_both_versions(tmp_path: Path) -> None:
    await (await opened(tmp_path)).close()
    newest = schema_files()[-1][0]
    with sqlite3.connect(tmp_path / "oracle.db") as db:
        db.execute(f"PRAGMA user_version = {newest + 1}")
    db.close()
    with pytest.raises(ConfigurationError, match=rf"version {newest + 1}, this program knows {newest}") as caught:
        await opened(tmp_path)
    assert str(tmp_path / "oracle.db") in str(caught.value)


async def test_damage_is_found_at_the_start(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    for number in range(200):
        await store.commit((an_intent(number),), AT)
    await store.close()
    path = tmp_path / "oracle.db"
    data = bytearray(path.read_bytes())
    at = len(data) * 3 // 4  # among the rows: where the schema itself is damaged, nothing can be read at all
    data[at : at + 8192] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        await opened(tmp_path)


async def test_rows_without_parents_are_damage(tmp_path: Path) -> None:
    await (await opened(tmp_path)).close()
    with sqlite3.connect(tmp_path / "oracle.db") as db:
        db.execute("INSERT INTO refusals VALUES ('nobody', 0, 'r', 'o', 'l')")
    db.close()
    with pytest.raises(StoreError, match="1 rows without their parents"):
        await opened(tmp_path)


async def test_books_of_another_mode_are_refused(tmp_path: Path) -> None:
    await (await opened(tmp_path)).close()
    with pytest.raises(ConfigurationError, match="'sim', not 'live'"):
        await Store.open(tmp_path, "live", T0)


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder's lock until it is killed."""
    code = (
        "import sys; from pathlib import Path; from oracle.store.state import StateLock\n"
        "lock = StateLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


async def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with hold(tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigurationError, match=f"in use by process {holder.pid}") as caught:
            await opened(tmp_path)
        assert str(tmp_path) in str(caught.value)
        holder.kill()  # the kernel lets go of the lock, whatever way a process ends
    await (await opened(tmp_path)).close()


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.commit((an_intent(1),), AT)


async def test_a_probe_tries_a_write_and_changes_nothing(full: Store) -> None:
    before = await full.load()
    await full.probe()
    assert await full.load() == before
    await full._connection.close()
    with pytest.raises(StoreError, match="closed"):
        await full.probe()


async def test_a_full_disk_is_a_store_error_and_leaves_the_books_whole(full: Store) -> None:
    before = await full.load()
    await full._call(lambda db: db.execute("PRAGMA max_page_count = 1"))
    pages = (await full._call(lambda db: db.execute("PRAGMA page_count").fetchone()))[0]
    wishes = [an_intent(100 + number) for number in range(pages * 20)]
    with pytest.raises(StoreError, match="full"):
        await full.commit(wishes, AT)
    assert await full.load() == before


async def test_a_backup_is_a_database_of_its_own(full: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    await full.backup(copy / "oracle.db")
    assert stat.S_IMODE((copy / "oracle.db").stat().st_mode) == 0o600
    with pytest.raises(StoreError, match="exists"):
        await full.backup(copy / "oracle.db")
    restored = await opened(copy)
    assert await restored.load() == await full.load()
    await restored.close()


# ------------------------------------------------------------------------------------------------ small parts


def test_averages_round_half_even() -> None:
    assert [rounded_micros(D(text)) for text in ("0.0000005", "0.0000015", "-1.2345678")] == [0, 2, -1_234_568]


@pytest.mark.parametrize("bad", ["tok", "tok-20260120-orb-", "tok-x1", "tok-²"])
def test_an_order_id_without_a_sequence_is_refused(bad: str) -> None:
    with pytest.raises(InvariantError):
        order_sequence(bad)
    assert order_sequence("tok-20260120-orb-000042") == 42


def test_every_query_is_used() -> None:
    sources = "".join(path.read_text() for path in Path("oracle").rglob("*.py"))
    # Names that are put together: what stands before the computed part.
    begun = (*re.findall(r"QUERIES\[f\"(\w+?)\{", sources), "restore_")
    assert [name for name in QUERIES if f'"{name}"' not in sources and not name.startswith(begun)] == []

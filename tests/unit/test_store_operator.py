"""The second schema: answers and adoptions come back as they were committed; an older database is brought up."""

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from oracle.core.ledger import Ledger
from oracle.core.marketdata import Quote
from oracle.core.messages import (
    ADOPTED,
    CashCorrected,
    ExitPlan,
    ForeignExecution,
    Intent,
    IntentApproved,
    LadderStep,
    LedgerSeeded,
    Leg,
    OperatorAnswered,
    OrderClosed,
    OrderFilled,
    PositionAdopted,
    Reconciled,
    Stamped,
    SubmitOrder,
    TradeOpened,
)
from oracle.core.vocabulary import OrderType, Purpose, Side
from oracle.store import read
from oracle.store.sqlite import Store, schema_files
from oracle.store.state import DATABASE_NAME
from tests.unit.store_day import CALL, PLAN, T0, turns

D = Decimal
ORDER = "tok-20260120-op-000009"


def stamped(seq: int, at_ns: int = T0) -> Stamped:
    return Stamped(seq, at_ns, Quote("SPY", at_ns, 1.0, 1, 1.1, 1))


def foreign(name: str) -> ForeignExecution:
    return ForeignExecution(name, "by-hand", CALL, Side.BUY, D(1), D("2.005"))


def entry(plan: ExitPlan = PLAN) -> PositionAdopted:
    intent = Intent(
        "operator:r1:X", "operator", "", "SPY", (Leg(CALL, Side.BUY, 1, D(2), D(2), T0),), plan, 1.0, 0.0, "adopted",
        {"who": "alice"}, T0,
    )  # fmt: skip
    approved = IntentApproved(
        "operator:r1:X@1", intent.intent_id, "operator", "SPY", 2, "operator", D(80), D("401.0"), D(100_000), {}
    )
    order = SubmitOrder(
        order_id=ORDER, trade_id=ORDER, decision_id=approved.decision_id, strategy="operator", strategy_hash="",
        underlying="SPY", purpose=Purpose.ENTRY, symbol=CALL, side=Side.BUY, contracts=2, order_type=OrderType.LIMIT,
        ladder=(LadderStep(D("2.005"), 0.0),), worst_price_usd=D("2.005"), decision_mid_usd=None, window_end_ns=T0,
        exit_plan=plan, planned_risk_usd=D(80), worst_case_usd=D("401.0"), equity_usd=D(100_000), reason="adopted",
        config_fingerprint="fp",
    )  # fmt: skip
    return PositionAdopted("r1", intent, approved, order, ("h1", "h2"))


def fill(name: str) -> OrderFilled:
    return OrderFilled(
        ADOPTED + name, ORDER, "by-hand", "", ORDER, "operator", CALL, Side.BUY, Purpose.ENTRY, 1, D("2.005"), D(0),
        D(0), T0,
    )  # fmt: skip


def answer(done: bool, **facts: object) -> OperatorAnswered:
    return OperatorAnswered("r1", "halt", "alice", "storm", True, done, "halted", facts, T0)


async def test_an_adoption_is_an_order_with_its_decision_fills_and_trade(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", T0, token="tok")
    await store.commit([LedgerSeeded(D(100_000), D(100_000), T0), foreign("h0")], stamped(1))
    await store.commit([foreign("h1"), foreign("h2"), foreign("h3")], stamped(2))
    out = [
        entry(), fill("h1"), fill("h2"), OrderClosed(ORDER, ORDER, Purpose.ENTRY, 2, 2, "adopted"),
        TradeOpened(ORDER, "operator", "", "SPY", CALL, T0),
    ]  # fmt: skip
    await store.commit(out, stamped(3, T0 + 5))
    loaded = await store.load()
    await store.close()
    assert loaded.submits == (entry().order,)
    # In the opening cash, because it came with the seed; and adopted. h3 is still to be settled.
    assert loaded.settled == ("h0", "h1", "h2")
    ledger = Ledger()
    ledger.restore(loaded.books)
    assert (ledger.cash_usd, ledger.position(CALL)) == (D("99599.000"), 2)
    (trade,) = ledger.open_trades()
    assert (trade.strategy, trade.exit_plan, trade.entry_done) == ("operator", PLAN, True)
    assert loaded.next_order_sequence == 10
    with read.reading(tmp_path) as db:
        assert [row["execution_id"] for row in read.unsettled(db)] == ["h3"]
        (row,) = read.trades(db)
        assert (row["strategy"], row["reason"], row["planned_risk_usd"]) == ("operator", "adopted", D(80))
        assert [p["qty"] for p in read.positions(db)] == [2]


async def test_a_correction_of_cash_settles_what_it_covers_and_is_folded_again(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", T0, token="tok")
    await store.commit([LedgerSeeded(D(100_000), D(100_000), T0)], stamped(1))
    await store.commit([foreign("s1"), foreign("s2"), foreign("s3")], stamped(2, T0 + 1))
    booked = CashCorrected("r1", "SPY", D("-1.25"), "alice", "by mistake", ("s1", "s2"), T0 + 5)
    await store.commit([booked], stamped(3, T0 + 5))
    loaded = await store.load()
    await store.close()
    assert (loaded.books[-1], loaded.settled) == (booked, ("s1", "s2"))
    ledger = Ledger()
    ledger.restore(loaded.books)
    assert ledger.cash_usd == D("99998.75")
    with read.reading(tmp_path) as db:
        assert [row["execution_id"] for row in read.unsettled(db)] == ["s3"]
    store = await Store.open(tmp_path, "sim", T0)
    await store.commit([answer(True)], stamped(1))  # numbered after it
    await store.close()


async def test_an_agreement_settles_what_was_heard_a_minute_before(tmp_path: Path) -> None:
    second = 1_000_000_000
    store = await Store.open(tmp_path, "sim", T0, token="tok")
    await store.commit([LedgerSeeded(D(100_000), D(100_000), T0)], stamped(1))
    await store.commit([foreign("h1")], stamped(2, T0 + second))
    await store.commit([foreign("h2")], stamped(3, T0 + 2 * second))
    await store.commit([Reconciled(T0 + 61 * second, "account report", ())], stamped(4, T0 + 61 * second))
    await store.commit([Reconciled(T0 + 90 * second, "account report", ("cash: 1",))], stamped(5, T0 + 90 * second))
    assert (await store.load()).settled == ("h1",)
    await store.close()
    with read.reading(tmp_path) as db:
        assert [row["execution_id"] for row in read.unsettled(db)] == ["h2"]


async def test_answers_come_back_with_their_facts_and_number_the_log(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", T0, token="tok")
    first, last = answer(False), answer(True, orders=[], confirmed=True, worst_usd="1.50", unknown=None)
    await store.commit([first], stamped(1))
    await store.commit([last], stamped(2))
    assert (await store.load()).operator == (first, last)
    await store.close()
    store = await Store.open(tmp_path, "sim", T0)
    await store.commit([answer(True)], stamped(1))
    assert len((await store.load()).operator) == 3
    await store.close()
    with read.reading(tmp_path) as db:
        newest = read.interventions(db)[0]
        assert (newest["who"], newest["why"], newest["action"], newest["done"]) == ("alice", "storm", "halt", 1)


async def test_a_database_of_the_first_schema_is_brought_up_with_everything_in_it(tmp_path: Path) -> None:
    new = await Store.open(tmp_path / "new", "sim", T0, token="tok")
    old = tmp_path / "old"
    await new.close()
    make_first(old)
    expected = await Store.open(tmp_path / "new", "sim", T0)
    for at, out in turns():
        await expected.commit(out, at)
    wanted = await expected.load()
    await expected.close()
    copy_rows(tmp_path / "new" / DATABASE_NAME, old / DATABASE_NAME)
    upgraded = await Store.open(old, "sim", T0)
    found = await upgraded.load()
    assert found.books == wanted.books
    assert found.latches == wanted.latches
    assert found.operator == ()
    await upgraded.commit([answer(True)], stamped(99))
    assert (await upgraded.load()).operator == (answer(True),)
    await upgraded.close()


def make_first(folder: Path) -> None:
    """A database as the first version of the program made it."""
    folder.mkdir(mode=0o700)
    number, sql = schema_files()[0]
    assert number == 1
    db = sqlite3.connect(folder / DATABASE_NAME, isolation_level=None)
    db.executescript(f"BEGIN;{sql};PRAGMA application_id = {0x4F52434C}; PRAGMA user_version = 1;COMMIT;")
    db.close()


def copy_rows(source: Path, target: Path) -> None:
    """Everything that the first schema has a place for."""
    db = sqlite3.connect(target, isolation_level=None)
    db.execute("ATTACH ? AS source", (str(source),))
    tables = [r[0] for r in db.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY rowid")]
    for table in tables:
        columns = ", ".join(f'"{r[1]}"' for r in db.execute(f"PRAGMA main.table_info({table})"))
        db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM source.{table}")
    assert db.execute("SELECT count(*) FROM fills").fetchone()[0] > 0
    db.close()


async def test_an_adopted_execution_counts_once(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", T0, token="tok")
    await store.commit([entry()], stamped(1))
    with pytest.raises(Exception, match="UNIQUE"):
        await store.commit([entry()], stamped(2))
    await store.close()

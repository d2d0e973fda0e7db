"""The third schema: structures, settlements and marks come back as they were committed; older databases follow."""

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oracle.core.errors import InvariantError, StoreError
from oracle.core.ledger import Ledger
from oracle.core.marketdata import Quote
from oracle.core.message import Message
from oracle.core.messages import (
    EquityMarked,
    ForeignExecution,
    Intent,
    IntentApproved,
    LadderStep,
    LedgerSeeded,
    Leg,
    OrderClosed,
    OrderFilled,
    PositionSettled,
    Stamped,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.structures import legs_of, reduced
from oracle.core.vocabulary import Ending, OrderType, Purpose, Side
from oracle.store import read
from oracle.store.rows import QUERIES
from oracle.store.sqlite import Store, schema_files
from oracle.store.state import DATABASE_NAME
from tests.unit.store_day import DATE, PLAN, PUT, T0, turns

D = Decimal
P585, P590 = "SPY260220P00585000", "SPY260220P00590000"
C610, C615 = "SPY260220C00610000", "SPY260220C00615000"
NAME, _ = reduced([(C610, -1), (C615, 1), (P585, 1), (P590, -1)])
PRICES = {C610: "1.10", C615: "0.60", P585: "0.70", P590: "1.20"}
ORDER = "tok-20260120-ic-000001"


def stamped(seq: int, at_ns: int | None = None) -> Stamped:
    at_ns = T0 + seq if at_ns is None else at_ns
    return Stamped(seq, at_ns, Quote("SPY", at_ns, 1.0, 1, 1.1, 1))


def command(order_id: str = ORDER, **changes: object) -> SubmitOrder:
    made = SubmitOrder(
        order_id=order_id, trade_id=ORDER, decision_id="d1", strategy="iron_condor", strategy_hash="h",
        underlying="SPY", purpose=Purpose.ENTRY, symbol=NAME, side=Side.BUY, contracts=2, order_type=OrderType.LIMIT,
        ladder=(LadderStep(D("-1.00"), 5.0),), worst_price_usd=D("-0.95"), decision_mid_usd=D("-1.00"),
        window_end_ns=T0, exit_plan=PLAN, planned_risk_usd=D(400), worst_case_usd=D(810), equity_usd=D(100_000),
        reason="rank 0.7", config_fingerprint="fp", max_gain_usd=D("95.00"), break_evens=(D("589.05"), D("610.95")),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def decision() -> list[Message]:
    legs = tuple(Leg(x.symbol, x.side, x.ratio, D(PRICES[x.symbol]), D(PRICES[x.symbol]), T0) for x in legs_of(NAME))
    intent = Intent("i1", "iron_condor", "h", "SPY", legs, PLAN, 0.9, 0.8, "rank 0.7", {"iv_rank": 0.7}, T0)
    return [intent, IntentApproved("d1", "i1", "iron_condor", "SPY", 2, "planned_loss", D(400), D(810), D(10**5), {})]


def fills(order: SubmitOrder, units: int, prices: dict[str, str] | None = None) -> list[Message]:
    found: list[Message] = []
    for one in legs_of(order.symbol):
        side = one.side if order.side is Side.BUY else one.side.opposite
        found.append(
            OrderFilled(
                f"{order.order_id}:{one.symbol}:{units}", order.order_id, f"{order.order_id}-1", "b", order.trade_id,
                order.strategy, one.symbol, side, order.purpose, units * one.ratio,
                D((prices or PRICES)[one.symbol]), D(0), D("0.65") * units, T0 + 5,
            )
        )  # fmt: skip
    return found


def settled(
    name: str, symbol: str, contracts: int = 2, shares: int = 0, covers: tuple[str, ...] = ()
) -> PositionSettled:
    return PositionSettled(
        name, ORDER, Ending.ASSIGNED if shares else Ending.EXPIRED, symbol, contracts, D(0), "SPY" if shares else "",
        shares, D(590) if shares else None, D("0.10"), "positions", covers, T0 + 20,
    )  # fmt: skip


class _Now:
    at_ns = T0 + 6


NOW: Any = _Now()


def told(*messages: Message) -> list[Message]:
    """The messages and what the ledger says to them, as in turns."""
    ledger, out = Ledger(), []
    for message in messages:
        out.append(message)
        handler = dict(ledger.handlers()).get(type(message))
        if handler is not None:
            out += handler(message, NOW)
    return out


def opening() -> list[Message]:
    return [
        LedgerSeeded(D(100_000), D(100_000), T0), *decision(), command(), *fills(command(), 2),
    ]  # fmt: skip


async def committed(folder: Path, *messages: Message) -> Store:
    store = await Store.open(folder, "sim", T0, token="tok")
    for seq, message in enumerate(messages, 1):
        await store.commit([message], stamped(seq, T0 + 7))
    return store


async def test_a_settlement_comes_back_and_is_folded_in_its_place(tmp_path: Path) -> None:
    assigned = settled("s1", P590, shares=200, covers=("a1", "x9"))
    late = ForeignExecution("x9", "", P590, Side.SELL, D(2), D("1.00"))
    store = await committed(tmp_path, late, *told(*opening(), assigned, settled("s2", C610)))
    await store.commit([settled("s3", C615)], stamped(99))
    loaded = await store.load()
    assert loaded.settlements == (assigned, settled("s2", C610), settled("s3", C615))
    assert loaded.books[-3:] == loaded.settlements
    assert loaded.settled == ("a1", "x9")
    ledger = Ledger()
    ledger.restore(loaded.books)
    assert ledger.cash_usd == 100_000 + 200 - 200 * 590
    (trade,) = ledger.open_trades()
    assert {one.symbol: one.qty for one in trade.legs} == {"SPY": 200, P585: 2}
    await store.close()
    again = await Store.open(tmp_path, "sim", T0)
    await again.commit([settled("s4", P585)], stamped(100))  # numbered after the others
    assert (await again.load()).settlements[-1].settlement_id == "s4"
    with pytest.raises(StoreError, match="UNIQUE"):
        await again.commit([settled("s4", P585)], stamped(101))
    await again.close()


async def test_prices_of_settlements_are_exact_or_refused(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", T0)
    with pytest.raises(InvariantError, match="finer"):
        await store.commit([msgspec.structs.replace(settled("s1", C610), price_usd=D("0.0000005"))], stamped(1))
    await store.close()


async def test_positions_and_trades_are_what_the_ledger_says(tmp_path: Path) -> None:
    marks = {"SPY": D("588.10"), C615: D("0.02"), P585: D("0.40")}
    mark = EquityMarked(DATE, T0 + 30, "minute", D(1), D(1), D(1), D(1), D(0), D(0), 0, marks)
    messages = told(*opening(), settled("s1", P590, shares=200), settled("s2", C610))
    store = await committed(tmp_path, *messages, mark)
    ledger = Ledger()
    ledger.restore((await store.load()).books)
    assert (await store.load()).equity == (mark,)
    await store.close()
    with read.reading(tmp_path) as db:
        rows, (held,) = read.positions(db), read.holdings(db)
        (order,), (trade,) = read.orders(db), read.trades(db)
        assert read.status(db)["settlements"] == 2
        assert [row["settlement_id"] for row in read.settlements(db, trade_id=ORDER)] == ["s2", "s1"]
        assert read.settlements(db, trade_id="other") == []
    assert {row["symbol"]: row["qty"] for row in rows} == {p.symbol: p.qty for p in ledger.positions()}
    assert {r["symbol"]: r["avg_price_usd"] for r in rows} == {p.symbol: p.avg_price_usd for p in ledger.positions()}
    (view,) = ledger.open_trades()
    assert (held["symbol"], held["whole"], held["cash_usd"]) == (NAME, False, view.cash_usd)
    assert held["pnl_usd"] == view.cash_usd + 200 * D("588.10") + 4 + 80
    assert (held["mark_usd"], held["marked_ns"]) == (None, T0 + 30)
    assert [leg["mark_usd"] for leg in held["legs"]] == [marks[leg["symbol"]] for leg in held["legs"]]
    assert (order["filled"], order["filled_legs"][C610], len(order["legs"])) == (2, 2, 4)
    # Two units at the real credit of 1.00; the order could have taken 0.95.
    assert (trade["max_loss_usd"], trade["max_gain_usd"], trade["worst_case_usd"]) == (D(800), D(200), D(810))
    assert trade["break_evens"] == [D(589), D(611)]
    assert (trade["contracts"], trade["entry_price_usd"], trade["exit_price_usd"]) == (2, D("-1.00"), None)
    legs = {leg["symbol"]: leg for leg in trade["legs"]}
    assert sum(leg["cash_usd"] for leg in legs.values()) == view.cash_usd
    assert (legs["SPY"]["side"], legs["SPY"]["contracts"], legs["SPY"]["entry_price_usd"]) == ("buy", 200, D(590))
    assert (legs[C610]["settled"], legs[C610]["exited"], legs[C610]["exit_price_usd"]) == (2, 2, D(0))
    assert legs[P585] == {
        "symbol": P585, "side": "buy", "contracts": 2, "entry_price_usd": D("0.70"), "exited": 0,
        "exit_price_usd": None, "settled": 0, "cash_usd": D(-140),
    }  # fmt: skip


async def test_the_result_of_a_trade_can_be_checked_from_its_legs(tmp_path: Path) -> None:
    leave = command("tok-20260120-ic-000002", purpose=Purpose.STOP, side=Side.SELL, exit_plan=None)
    over = OrderClosed(ORDER, ORDER, Purpose.ENTRY, 2, 2, "filled")
    out = {C610: "2.00", C615: "1.00", P585: "0.10", P590: "0.20"}
    await (await committed(tmp_path, *told(*opening(), over, leave, *fills(leave, 2, out)))).close()
    with read.reading(tmp_path) as db:
        (trade,), (sold, bought) = read.trades(db), read.orders(db)
    for leg in trade["legs"]:
        symbol = leg["symbol"]
        assert (leg["contracts"], leg["exited"], leg["settled"]) == (2, 2, 0)
        assert (leg["entry_price_usd"], leg["exit_price_usd"]) == (D(PRICES[symbol]), D(out[symbol]))
    assert {leg["symbol"]: leg["side"] for leg in trade["legs"]} == {
        C610: "sell", C615: "buy", P585: "buy", P590: "sell",
    }  # fmt: skip
    assert sum(leg["cash_usd"] for leg in trade["legs"]) == trade["gross_pnl_usd"] == D(-20)
    assert [leg["symbol"] for leg in trade["intent_legs"]] == [leg.symbol for leg in legs_of(NAME)]
    assert {leg["symbol"]: leg["side"] for leg in bought["legs"]}[C610] == "sell"
    assert {leg["symbol"]: leg["side"] for leg in sold["legs"]}[C610] == "buy"


async def test_a_whole_structure_is_marked_at_its_net_price(tmp_path: Path) -> None:
    marks = {C610: D("0.40"), C615: D("0.15"), P585: D("0.20"), P590: D("0.45")}
    mark = EquityMarked(DATE, T0 + 30, "minute", D(1), D(1), D(1), D(1), D(0), D(0), 0, marks)
    store = await committed(tmp_path, *told(*opening()), mark)
    with read.reading(tmp_path) as db:
        (held,) = read.holdings(db)
    assert (held["mark_usd"], held["pnl_usd"], held["whole"]) == (D("-0.50"), D(100), True)
    await store.commit([msgspec.structs.replace(mark, marks={C610: D(1)})], stamped(50))
    await store.close()
    with read.reading(tmp_path) as db:
        (held,) = read.holdings(db)
    assert (held["mark_usd"], held["pnl_usd"], held["marked_ns"]) == (None, None, None)


async def test_a_trade_that_was_opened_again_begins_anew(tmp_path: Path) -> None:
    entry = command()
    over = OrderClosed(ORDER, ORDER, Purpose.ENTRY, 2, 2, "filled")
    ends = [settled(f"s{n}", leg.symbol) for n, leg in enumerate(legs_of(NAME))]
    first = told(*opening(), over, *ends)
    assert isinstance(first[-1], TradeClosed)
    store = await committed(tmp_path, *first)
    with read.reading(tmp_path) as db:
        assert (read.positions(db), read.holdings(db)) == ([], [])
    late = fills(entry, 1)
    new = msgspec.structs.replace(late[0], at_ns=T0 + 900)
    reopened = TradeOpened(ORDER, "iron_condor", "h", "SPY", NAME, T0 + 900)
    await store.commit([new, reopened, *late[1:]], stamped(60))
    ledger = Ledger()
    ledger.restore((await store.load()).books)
    await store.close()
    with read.reading(tmp_path) as db:
        (held,) = read.holdings(db)
    (view,) = ledger.open_trades()
    assert (held["contracts_open"], held["cash_usd"]) == (view.contracts_open, view.cash_usd) == (1, D(100))


async def test_the_expected_exit_is_that_of_the_whole_unit_only(tmp_path: Path) -> None:
    def leave(order_id: str, symbol: str, mid: str, contracts: int = 1) -> list[Message]:
        order = command(
            order_id, purpose=Purpose.FORCED, side=Side.SELL, symbol=symbol, exit_plan=None, contracts=contracts,
            decision_mid_usd=D(mid),
        )  # fmt: skip
        return [order, *fills(order, contracts)]

    half, rest = leave("tok-20260120-ic-000002", NAME, "-0.40"), leave("tok-20260120-ic-000003", NAME, "-0.60")
    store = await committed(tmp_path, *told(*opening(), *half))
    with read.reading(tmp_path) as db:
        assert read.trades(db)[0]["expected_exit_usd"] == D("-0.40")
    for seq, message in enumerate(rest, 70):
        await store.commit([message], stamped(seq))
    with read.reading(tmp_path) as db:
        assert read.trades(db)[0]["expected_exit_usd"] == D("-0.50")
    for seq, message in enumerate(leave("tok-20260120-ic-000004", C610, "3.00"), 80):
        await store.commit([message], stamped(seq))
    await store.close()
    with read.reading(tmp_path) as db:
        assert read.trades(db)[0]["expected_exit_usd"] is None


@pytest.mark.parametrize("version", [1, 2])
async def test_an_older_database_is_brought_up_with_everything_in_it(tmp_path: Path, version: int) -> None:
    expected = await Store.open(tmp_path / "new", "sim", T0, token="tok")
    for at, out in turns():
        await expected.commit(out, at)
    wanted = await expected.load()
    await expected.close()
    old = tmp_path / "old"
    make(old, version)
    copy_rows(tmp_path / "new" / DATABASE_NAME, old / DATABASE_NAME)
    upgraded = await Store.open(old, "sim", T0)
    found = await upgraded.load()
    assert (found.books, found.latches, found.closed) == (wanted.books, wanted.latches, wanted.closed)
    assert found.equity == tuple(msgspec.structs.replace(mark, marks={}) for mark in wanted.equity)
    assert found.settlements == ()
    await upgraded.commit([settled("s1", C610)], stamped(999))
    assert (await upgraded.load()).settlements == (settled("s1", C610),)
    await upgraded.close()
    with read.reading(old) as db:
        assert len(read.trades(db)) == 2
        assert [row["symbol"] for row in read.holdings(db)] == [PUT]


def make(folder: Path, version: int) -> None:
    """A database as an earlier version of the program made it."""
    folder.mkdir(mode=0o700)
    db = sqlite3.connect(folder / DATABASE_NAME, isolation_level=None)
    for number, sql in schema_files():
        if number <= version:
            stamp = f"PRAGMA application_id = {0x4F52434C}; PRAGMA user_version = {number};"
            db.executescript(f"BEGIN;{sql};{stamp}COMMIT;")
    db.close()


def copy_rows(source: Path, target: Path) -> None:
    """Everything that the older schema has a place for."""
    db = sqlite3.connect(target, isolation_level=None)
    db.execute("ATTACH ? AS source", (str(source),))
    tables = [r[0] for r in db.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY rowid")]
    for table in tables:
        columns = ", ".join(f'"{r[1]}"' for r in db.execute(f"PRAGMA main.table_info({table})"))
        db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM source.{table}")
    assert db.execute("SELECT count(*) FROM fills").fetchone()[0] > 0
    db.close()


def test_every_table_with_a_number_is_asked_for_the_newest() -> None:
    db = sqlite3.connect(":memory:")
    for _, sql in schema_files():
        db.executescript(sql)
    numbered = {
        name
        for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if "log_id" in {row[1] for row in db.execute(f"PRAGMA table_info({name})")}
    }
    # These only point to a message that has its number elsewhere.
    pointing = {"latches", "adopted_executions", "trade_extremes", "performance_snapshots", "trading_sessions"}
    missing = [name for name in numbered - pointing if name not in QUERIES["newest_log_id"]]
    assert missing == []

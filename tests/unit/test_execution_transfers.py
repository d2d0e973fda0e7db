"""Deposits, withdrawals and interest: booked once, when cash shows them, and no gain or loss to anybody."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.errors import InvariantError
from oracle.core.ledger import Ledger
from oracle.core.messages import (
    CashTransferred,
    EquityMarked,
    FeeCharged,
    LatchChanged,
    LedgerSeeded,
    PositionSettled,
    Reconciled,
    SessionOpened,
)
from oracle.core.reports import BrokerFee, BrokerSettlement
from oracle.core.sessions import MINUTE_NS
from oracle.execution.transfers import WAITS, Transfers, explaining
from tests.unit.books import CASH, CLOSE_NS, Bookkeeping
from tests.unit.builders import CALL, DATES, START_NS, TABLE, House, account, entry_order, of, one
from tests.unit.test_execution_settlements import CONDOR, LEGS, P590, PRICES, held

D = Decimal


def moved(kind: str, cash: str, name: str = "", date: str = DATES[0], text: str = "") -> BrokerSettlement:
    """One line of the account's history that moves cash alone."""
    return BrokerSettlement(f"20260105000000000::{name or kind}", kind, "", D(0), None, D(cash), date, text)


def differences(messages: list[Any]) -> tuple[str, ...]:
    found: Reconciled = one(Reconciled, messages)
    return found.differences


def booked(messages: list[Any]) -> list[tuple[str, str]]:
    return [(row.kind, str(row.amount_usd)) for row in of(CashTransferred, messages)]


@pytest.mark.parametrize(
    ("kind", "cash"), [("CSD", "2500.05"), ("CSW", "-1000"), ("JNLC", "-12.34"), ("ACATC", "77"), ("INT", "3.21")]
)
def test_a_transfer_is_booked_when_cash_shows_it_and_moves_what_gains_are_counted_from(kind: str, cash: str) -> None:
    books = Bookkeeping().seeded()
    row = moved(kind, cash, text="as told")
    out = books.tell(books.report(cash=cash, activities=(row,)))
    (told,) = of(CashTransferred, out)
    assert told == CashTransferred(row.activity_id, kind, D(cash), DATES[0], "as told", books.at_ns)
    assert differences(out) == ()
    assert books.ledger.cash_usd == CASH + D(cash)
    (mark,) = of(EquityMarked, out)
    assert mark.kind == "transfer"
    assert mark.equity_usd == mark.day_start_equity_usd == mark.peak_equity_usd == CASH + D(cash)
    assert (mark.realized_today_usd, mark.unrealized_usd) == (0, 0)
    assert books.engine.context().account.reconciled
    again = books.tell(books.report(activities=(row, row)))
    assert (booked(again), differences(again)) == ([], ())


def test_a_listed_transfer_waits_until_cash_shows_it() -> None:
    books = Bookkeeping().seeded()
    row = moved("CSD", "1000")
    out = books.tell(books.report(activities=(row,)))
    assert (booked(out), differences(out)) == ([], ())
    out = books.tell(books.report(cash=999, activities=(row,)))
    assert booked(out) == []
    assert differences(out)[0].startswith("cash: 1000999 USD at the broker, 1000000 USD by the ledger")
    out = books.tell(books.report(cash=1000, activities=(row,)))
    assert (booked(out), differences(out)) == ([("CSD", "1000")], ())


def test_cash_that_moved_before_its_activity_is_listed_is_a_difference_until_then() -> None:
    books = Bookkeeping().seeded()
    assert differences(books.tell(books.report(cash=1000)))[0].startswith("cash: ")
    assert not books.engine.context().account.reconciled
    out = books.tell(books.report(cash=1000, activities=(moved("CSD", "1000", date=DATES[1]),)))
    assert (booked(out), differences(out)) == ([("CSD", "1000")], ())
    assert books.engine.context().account.reconciled


def test_of_several_only_those_that_cash_shows_are_booked() -> None:
    books = Bookkeeping().seeded()
    rows = (moved("CSD", "1000", "a"), moved("CSD", "250", "b"), moved("CSW", "-500", "c"))
    out = books.tell(books.report(cash=500, activities=rows))
    assert booked(out) == [("CSD", "1000"), ("CSW", "-500")]
    out = books.tell(books.report(cash=250, activities=rows))
    assert (booked(out), differences(out)) == ([("CSD", "250")], ())


def test_all_that_is_listed_goes_before_a_part_of_it_that_comes_to_the_same() -> None:
    rows = tuple(moved("JNLC", cash, name) for name, cash in (("a", "300"), ("b", "200"), ("c", "500"), ("d", "-500")))
    assert explaining(rows, D(500)) == rows
    assert explaining(rows, D(-200)) == (rows[0], rows[3])
    assert explaining(rows, D("500.01")) is None
    assert explaining((), D(0)) is None
    many = tuple(moved("CSD", str(n), str(n)) for n in range(1, 40))
    assert explaining(many, D(sum(range(1, 40)))) == many
    assert explaining(many, D(39)) == (many[-1],)


def test_what_was_listed_or_dated_before_the_books_began_is_in_the_opening_cash() -> None:
    early, listed = moved("CSD", "1000", "early", "2026-01-02"), moved("CSD", "700", "listed")
    books = Bookkeeping()
    out = books.tell(account(books.at_ns, str(CASH), settlements=(listed, moved("OPEXP", "0", "none"))))
    assert one(LedgerSeeded, out).holds == (listed.activity_id,)
    later = moved("CSD", "700", "later")
    for house in (books, books.restarted()):
        for row in (early, listed):
            out = house.tell(house.report(cash=row.cash_usd, activities=(early, listed)))
            assert booked(out) == []
            assert differences(out)[0].startswith("cash_moved: ") or differences(out)[0].startswith("cash: ")
    out = books.tell(books.report(cash=700, activities=(early, listed, later)))
    assert [row.activity_id for row in of(CashTransferred, out)] == [later.activity_id]


def test_dividends_and_charged_interest_stay_fees_and_are_no_transfer() -> None:
    """What an earlier version booked as a fee is known by its id as well."""
    books = Bookkeeping().seeded()
    row = moved("INT", "5", "old")
    fee = BrokerFee(row.activity_id, "", D(-5), "INT")
    out = books.tell(books.report(cash=5, fees=(fee,)))
    assert (len(of(FeeCharged, out)), booked(out), differences(out)) == (1, [], ())
    assert books.ledger.realized_since(0) == 5
    for house in (books, books.restarted()):
        out = house.tell(house.report(cash=5, activities=(row,)))
        assert (booked(out), len(differences(out))) == ([], 1)


def test_a_transfer_while_a_trade_is_open_and_while_an_order_works() -> None:
    books = Bookkeeping().seeded()
    books.enter(CONDOR, 2, PRICES)
    row = moved("CSD", "5000")
    working = books.tell(entry_order("tok-20260105-bo-000002", 1, symbol=CALL))
    assert working
    out = books.tell(books.report(cash=5000, activities=(row,)))
    # A fill between the broker's two answers would make an honest report disagree: cash is not compared.
    assert booked(out) == []
    books = Bookkeeping().seeded()
    books.enter(CONDOR, 2, PRICES)
    before = books.engine.context().equity
    out = books.tell(books.report(cash=5000, activities=(row,)))
    assert (booked(out), differences(out)) == ([("CSD", "5000")], ())
    after = books.engine.context().equity
    # Nothing is quoted here, so equity is unknown and there is no mark: the start and the peak have moved all the same.
    assert (before.equity_usd, of(EquityMarked, out)) == (None, [])
    assert after.day_start_usd == CASH + 5000
    assert after.peak_usd == CASH + 5000
    restarted = books.restarted().engine.context().equity
    assert (restarted.day_start_usd, restarted.peak_usd) == (CASH + 5000, CASH + 5000)


def test_a_transfer_in_a_report_that_brings_a_fill_of_ours() -> None:
    books = Bookkeeping().seeded()
    sent = books.enter(CONDOR, 2, PRICES)
    assert sent
    told, books.told = books.told, []
    fresh = Bookkeeping().seeded()
    order = entry_order("tok-20260105-bo-000001", 2, symbol=CONDOR)
    fresh.tell(order)
    fresh.told = told
    paid = sum((f.side.sign * f.qty * f.price_usd * 100 for f in told), D(0))
    qty = {f.symbol: f.side.sign * int(f.qty) for f in told}
    row = moved("CSD", "5000")
    fresh.tell(fresh.report(cash=5000 - paid, activities=(row,), qty=qty))
    out = fresh.tell(fresh.report(cash=5000 if not of(CashTransferred, fresh.all) else 0, activities=(row,)))
    assert differences(out) == ()
    assert fresh.ledger.cash_usd == CASH - paid + 5000
    assert booked(fresh.all) == [("CSD", "5000")]


# ------------------------------------------------------------------------------------ beside what ends by itself


def test_an_ending_is_read_from_cash_without_the_deposit_beside_it() -> None:
    books = held(spot=600.0)
    out = books.tell(books.report(LEGS, cash="1234.56", activities=(moved("CSD", "1234.56"),)))
    assert {row.ending.value for row in of(PositionSettled, out)} == {"expired"}
    assert (booked(out), differences(out)) == ([("CSD", "1234.56")], ())


def test_an_assignment_is_read_with_a_withdrawal_beside_it() -> None:
    books = held()
    row = moved("CSW", "-20000")
    out = books.tell(books.report(LEGS, shares=200, cash=-118_000 - 20_000, activities=(row,)))
    assert [(s.symbol, s.ending.value) for s in of(PositionSettled, out) if s.shares] == [(P590, "assigned")]
    assert (booked(out), differences(out)) == ([("CSW", "-20000")], ())


def test_where_a_transfer_could_be_a_loss_of_the_same_size_nothing_is_guessed() -> None:
    """1,000 USD withdrawn and all worthless, or both wings of a side in the money and the withdrawal still to come."""
    books = held()
    rows = [moved("CSW", "-1000")]
    out = books.tell(books.report(LEGS, cash=-1000, activities=tuple(rows)))
    assert of(PositionSettled, out) == []
    assert {line.split(":")[0] for line in differences(out)} == {"settlement_pending", "cash_moved"}
    assert differences(out)[-1].endswith(f"CSW of 2026-01-05: -1000 USD; {WAITS}")
    assert booked(out) == []
    ends = tuple(BrokerSettlement(f"x::{s}", "OPEXP", s, D(2), None, D(0), DATES[0], "") for s in LEGS)
    out = books.tell(books.report(LEGS, cash=-1000, activities=(*rows, *ends)))
    assert len(of(PositionSettled, out)) == 4
    assert (booked(out), differences(out)) == ([("CSW", "-1000")], ())


@pytest.mark.parametrize(
    ("spot", "told", "waits"), [(600.0, {"expired"}, False), (580.0, {"expired", "assigned", "exercised"}, True)]
)
def test_the_price_of_the_close_tells_a_withdrawal_from_a_loss_of_its_size(
    spot: float, told: set[str], waits: bool
) -> None:
    books = held(spot=spot)
    row = moved("CSW", "-1000")
    out = books.tell(books.report(LEGS, cash=-1000, activities=(row,)))
    assert {s.ending.value for s in of(PositionSettled, out)} == told
    assert (booked(out), differences(out)) == ([] if waits else [("CSW", "-1000")], ())
    out = books.tell(books.report(cash=-1000 if waits else 0, activities=(row,)))
    assert (booked(out), differences(out)) == ([("CSW", "-1000")] if waits else [], ())


# --------------------------------------------------------------------------------------------- breakers and days


def test_neither_a_deposit_nor_a_withdrawal_sets_a_breaker_and_entries_go_on() -> None:
    house = House()
    for cash, total in (("-40000", 60_000), ("200000", 260_000)):
        house.wait(30)
        row = moved("JNLC", cash, cash)
        out = house.tell(account(house.at_ns, str(total), settlements=(row,)))
        assert booked(out) == [("JNLC", cash)]
        assert (of(LatchChanged, out), house.gate.halts.active if hasattr(house.gate, "halts") else {}) == ([], {})
        view = house.engine.context()
        assert (view.equity.equity_usd, view.equity.day_start_usd, view.equity.peak_usd) == (total, total, total)
        assert view.account.reconciled


def test_a_days_loss_stays_what_it_was_in_dollars_and_a_drawdown_what_it_was_as_a_share() -> None:
    house = House()
    before = house.ledger.cash_usd
    fee = BrokerFee("f", "", D(1000), "FEE")
    out = house.tell(account(house.at_ns, "99000", fees=(fee,)), 30)
    out = house.tell(account(house.at_ns, "149000", fees=(fee,), settlements=(moved("CSD", "50000"),)), 30)
    (mark,) = of(EquityMarked, out)
    assert mark.day_start_equity_usd - mark.equity_usd == 1000
    assert (mark.equity_usd, mark.peak_equity_usd) == (149_000, D("150505.050505"))  # 100,000 x 149,000 / 99,000
    assert (mark.realized_today_usd, mark.day_start_equity_usd) == (-1000, before + 50_000)


def test_a_withdrawal_while_a_drawdown_stands_is_no_deeper_drawdown() -> None:
    house = House()
    day = house.ledger.cash_usd
    fee = BrokerFee("f", "", D(6000), "FEE")
    house.tell(account(house.at_ns, "94000", fees=(fee,)), 30)
    before = house.engine.context().equity
    assert (before.peak_usd, before.equity_usd) == (day, 94_000)
    out = house.tell(account(house.at_ns, "24000", fees=(fee,), settlements=(moved("CSW", "-70000"),)), 30)
    after = house.engine.context().equity
    assert after.equity_usd is not None
    assert after.peak_usd is not None
    # 6 % under the peak as before; by the dollar it would be 20 % and stop the account.
    assert 1 - after.equity_usd / after.peak_usd == pytest.approx(D("0.06"), abs=D("1e-9"))
    assert "drawdown" not in {change.latch for change in of(LatchChanged, out)}


def test_a_deposit_overnight_is_in_the_next_days_start() -> None:
    books = Bookkeeping().seeded()
    books.go_to(CLOSE_NS + MINUTE_NS)
    books.tell(books.report(cash=1000, activities=(moved("CSD", "1000"),)))
    out = books.go_to(TABLE.sessions[1].open_ns)
    assert of(SessionOpened, out)
    mark = of(EquityMarked, out)[-1]
    assert (mark.date, mark.kind) == (DATES[1], "open")
    assert mark.day_start_equity_usd == mark.equity_usd == mark.peak_equity_usd == CASH + 1000


# ------------------------------------------------------------------------------------------------------- the parts


def test_a_ledger_books_a_transfer_once_and_not_before_its_opening_cash() -> None:
    row = CashTransferred("a", "CSD", D(10), DATES[0], "", START_NS)
    ledger = Ledger()
    with pytest.raises(Exception, match="before the opening cash"):
        ledger.restore([row])
    ledger = Ledger()
    ledger.restore([LedgerSeeded(D(100), D(100), START_NS), row])
    assert (ledger.cash_usd, ledger.realized_since(0)) == (110, 0)
    with pytest.raises(InvariantError, match="transfer a booked twice"):
        ledger.restore([row])


def test_readings_begin_with_none_and_name_each_sum_once() -> None:
    transfers = Transfers()
    rows = (moved("CSD", "5", "a"), moved("CSD", "5", "b"), moved("DIV", "9", "c"), moved("CSW", "0", "d"))
    report = account(settlements=rows)
    assert transfers.readings(report, TABLE) == (0, 10, 5)
    assert transfers.readings(account(), TABLE) == (0,)
    transfers.note(CashTransferred(rows[0].activity_id, "CSD", D(5), DATES[0], "", 1))
    assert transfers.pending(report, TABLE) == (rows[1],)
    assert transfers.book(report, None, TABLE, 1) == []
    assert transfers.book(report, D("0.004"), TABLE, 1) == []


def test_a_seed_without_listed_movements_has_the_bytes_that_it_always_had() -> None:
    plain = msgspec.json.decode(msgspec.json.encode(LedgerSeeded(D(1), D(1), 1)))
    assert plain == {"T": "LedgerSeeded", "cash_usd": "1", "equity_usd": "1", "at_ns": 1}

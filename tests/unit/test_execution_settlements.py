"""What ends without an order: told from positions or activities, once, into the right trade, to the cent."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.messages import (
    CashCorrected,
    ForeignExecution,
    PositionSettled,
    ReadAccount,
    Reconciled,
    SendOrder,
    SetTimer,
    TradeClosed,
)
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Ending, Side
from oracle.execution.account import EXPIRED_NS, READ_TIMER
from oracle.execution.endings import SELL_OUT_NS, Gone, delivered
from oracle.execution.settlements import CLOSING_PRICE_NS
from oracle.execution.transfers import MOVED_FIX
from tests.unit.books import CLOSE_NS, Bookkeeping, activity, executed
from tests.unit.builders import FEE, TABLE, broker_order, entry_order, execution, of, one

CONDOR = "SPY:-260105C605+260105C610+260105P585-260105P590"
LATER = "SPY:-260109P590+260109P585"
LONG_CALL, LONG_PUT = "SPY260105C00600000", "SPY260105P00600000"
C605, C610, P585, P590 = (f"SPY260105{x}00{k}000" for x, k in (("C", 605), ("C", 610), ("P", 585), ("P", 590)))
LEGS = (C605, C610, P585, P590)
PRICES = {"C600": "2.00", "P600": "2.00", "C605": "1.40", "C610": "0.70", "P585": "0.60", "P590": "0.90"}
TRADE = "tok-20260105-bo-000001"
AFTER_NS = CLOSE_NS + MINUTE_NS


def held(symbol: str = CONDOR, units: int = 2, spot: float | None = None, until_ns: int = AFTER_NS) -> Bookkeeping:
    books = Bookkeeping().seeded()
    books.enter(symbol, units, PRICES)
    books.go_to(min(until_ns, CLOSE_NS))
    if spot is not None:
        books.spot(spot)
    books.go_to(until_ns)
    return books


def endings(messages: list[Any]) -> list[tuple[str, str, int, int]]:
    return [(s.ending.value, s.symbol, s.contracts, s.shares) for s in of(PositionSettled, messages)]


def agreed(messages: list[Any]) -> bool:
    found: Reconciled = one(Reconciled, messages)
    return found.differences == ()


# ------------------------------------------------------------------------------------------------ from positions


def test_a_condor_that_expires_worthless_ends_its_trade_in_the_turn_that_shows_it() -> None:
    books = held(spot=600.0)
    out = books.tell(books.report(LEGS))
    assert endings(out) == [("expired", symbol, 2, 0) for symbol in LEGS]
    assert {s.source for s in of(PositionSettled, out)} == {"positions"}
    assert agreed(out)
    closed = one(TradeClosed, out)
    assert (closed.trade_id, closed.gross_pnl_usd, closed.contracts) == (TRADE, Decimal("200.00"), 2)
    again = books.tell(books.report())
    assert (of(PositionSettled, again), agreed(again)) == ([], True)


@pytest.mark.parametrize(
    ("shares", "cash", "told"),
    [
        # Between 605 and 610: the short call alone is assigned.
        (-200, 121_000, {C605: ("assigned", -200)}),
        # Between 585 and 590: the short put.
        (200, -118_000, {P590: ("assigned", 200)}),
        (0, -1000 + 4, {}),
    ],
)
def test_shares_and_cash_tell_which_strikes_were_in_the_money(shares: int, cash: int, told: dict[str, Any]) -> None:
    books = held()
    out = books.tell(books.report(LEGS, shares=shares, cash=cash))
    if not told:
        assert (endings(out), agreed(out)) == ([], False)
        return
    expected = [(*((told[s][0], s, 2, told[s][1]) if s in told else ("expired", s, 2, 0)),) for s in LEGS]
    assert endings(out) == expected
    assert agreed(out)
    assert books.ledger.position("SPY") == shares


@pytest.mark.parametrize(("spot", "told"), [(615.0, (C605, C610)), (580.0, (P585, P590))])
def test_wings_that_cost_the_same_are_told_apart_by_the_price_of_the_close(spot: float, told: tuple[str, str]) -> None:
    books = held(spot=spot)
    out = books.tell(books.report(LEGS, cash=-1000))
    assert {s.symbol for s in of(PositionSettled, out) if s.shares} == set(told)
    assert agreed(out)
    assert one(TradeClosed, out).gross_pnl_usd == 200 - 1000


def test_wings_that_cost_the_same_stay_pending_without_a_price_until_activities_tell() -> None:
    """Puts below 585 cost as much as calls above 610: shares are 0 and cash is the same for both."""
    books = held()
    out = books.tell(books.report(LEGS, cash=-1000))
    assert endings(out) == []
    found: Reconciled = one(Reconciled, out)
    assert {line.split(":")[0] for line in found.differences} == {"settlement_pending", "cash"}
    rows = tuple(activity(kind, symbol, qty) for kind, symbol, qty in (
        ("OPASN", P590, 2), ("OPEXC", P585, -2), ("OPEXP", C605, 2), ("OPEXP", C610, -2),
    ))  # fmt: skip
    out = books.tell(books.report(LEGS, cash=-1000, activities=rows))
    assert endings(out) == [
        ("expired", C605, 2, 0), ("expired", C610, 2, 0), ("exercised", P585, 2, -200), ("assigned", P590, 2, 200),
    ]  # fmt: skip
    assert agreed(out)


def test_one_that_was_clearly_in_the_money_is_not_called_worthless_before_its_shares_have_come() -> None:
    books = held(LONG_CALL, 1, spot=610.0)
    out = books.tell(books.report([LONG_CALL]))
    assert (endings(out), agreed(out)) == ([], False)
    assert "settlement_pending" in one(Reconciled, out).differences[0]
    out = books.tell(books.report([LONG_CALL], shares=100, cash=-60_000))
    assert endings(out) == [("exercised", LONG_CALL, 1, 100)]
    # The broker may let it lapse for want of money: then its activity says so.
    books = held(LONG_CALL, 1, spot=610.0)
    out = books.tell(books.report([LONG_CALL], activities=(activity("OPEXP", LONG_CALL, -1),)))
    assert (endings(out), agreed(out)) == ([("expired", LONG_CALL, 1, 0)], True)


def test_a_price_from_long_after_the_close_says_nothing_about_the_expiry() -> None:
    books = held(LONG_CALL, 1)
    books.go_to(CLOSE_NS + 2 * CLOSING_PRICE_NS)
    books.spot(650.0)
    assert endings(books.tell(books.report([LONG_CALL]))) == [("expired", LONG_CALL, 1, 0)]


def test_an_early_assignment_is_a_short_that_vanished_with_its_shares() -> None:
    books = held(LATER, 3, until_ns=CLOSE_NS + 1000 * MINUTE_NS)
    short, long = "SPY260109P00590000", "SPY260109P00585000"
    out = books.tell(books.report(qty={short: -1}, shares=200, cash=-118_000))
    assert endings(out) == [("assigned", short, 2, 200)]
    assert agreed(out)
    trade = books.ledger.trade(TRADE)
    assert trade is not None
    assert ([(leg.symbol, leg.qty) for leg in trade.legs], trade.is_whole) == (
        [("SPY", 200), (long, 3), (short, -1)],
        False,
    )
    # Its activity comes the next day, and another contract is assigned in the night: the old line is not taken for it.
    told = activity("OPASN", short, 2, name="old")
    assert endings(books.tell(books.report(activities=(told,)))) == []
    out = books.tell(books.report([short], shares=100, cash=-59_000, activities=(told,)))
    assert endings(out) == [("assigned", short, 1, 100)]
    assert one(PositionSettled, out).settlement_id == f"{TRADE}:{short}:assigned:2"


def test_what_is_gone_without_a_reason_stays_a_difference() -> None:
    books = held(LATER, 1, until_ns=CLOSE_NS + 1000 * MINUTE_NS)
    short = "SPY260109P00590000"
    for shares, cash in ((0, 0), (200, 0), (-100, 59_000)):
        out = books.tell(books.report([short], shares=shares, cash=cash))
        assert (endings(out), agreed(out)) == ([], False)
    # Shares that can be of nothing else end it; cash that does not fit stays named.
    out = books.tell(books.report([short], shares=100, cash=-58_999))
    assert endings(out) == [("assigned", short, 1, 100)]
    assert [line.split(":")[0] for line in one(Reconciled, out).differences] == ["cash"]


def test_trades_share_what_ended_in_order_of_their_ids() -> None:
    books = Bookkeeping().seeded()
    books.enter(CONDOR, 1, PRICES, number=2)
    books.enter(CONDOR, 2, PRICES, number=1)
    books.go_to(AFTER_NS)
    out = books.tell(books.report(LEGS, shares=-100, cash=60_500))
    rows = [(s.trade_id[-1], s.ending.value, s.contracts) for s in of(PositionSettled, out) if s.symbol == C605]
    assert rows == [("1", "assigned", 1), ("1", "expired", 1), ("2", "expired", 1)]
    assert agreed(out)
    assert one(TradeClosed, out).trade_id.endswith("2")


# ------------------------------------------------------------------------------------------------ from activities


def test_activities_that_come_the_next_day_confirm_and_are_never_booked_again_even_after_a_restart() -> None:
    rows = tuple(activity(kind, symbol, qty, cash) for kind, symbol, qty, cash in (
        ("OPASN", C605, 2, "0"), ("OPTRD", "SPY", -200, "121000"), ("OPEXP", C610, -2, "0"),
        ("OPEXP", P585, -2, "0"), ("OPEXP", P590, 2, "0"),
    ))  # fmt: skip
    books = held()
    assert agreed(books.tell(books.report(LEGS, shares=-200, cash=121_000)))
    for later in (books, books.restarted()):
        out = later.tell(later.report(activities=rows))
        assert (endings(out), agreed(out)) == ([], True)


def test_activities_before_positions_wait_and_a_cash_settlement_has_its_price() -> None:
    books = held(LONG_CALL, 2)
    row = activity("OPCSH", LONG_CALL, -2, "1500", "7.50")
    assert endings(books.tell(books.report(activities=(row,)))) == []
    out = books.tell(books.report([LONG_CALL], cash=1500, activities=(row,)))
    settled = one(PositionSettled, out)
    assert (settled.ending, settled.price_usd, settled.covers) == (
        Ending.CASH_SETTLED,
        Decimal("7.50"),
        (row.activity_id,),
    )
    assert agreed(out)
    # Without a price it follows from the cash.
    books = held(LONG_CALL, 2)
    out = books.tell(books.report([LONG_CALL], cash=1500, activities=(activity("OPCSH", LONG_CALL, -2, "1500"),)))
    assert one(PositionSettled, out).price_usd == Decimal("7.50")


def test_an_assignment_whose_shares_have_not_come_waits() -> None:
    books = held()
    rows = tuple(activity("OPASN" if s == P590 else "OPEXP", s, 2) for s in LEGS)
    assert endings(books.tell(books.report(LEGS, activities=rows))) == []
    out = books.tell(books.report(LEGS, shares=200, cash=-118_000, activities=rows))
    assert ("assigned", P590, 2, 200) in endings(out)
    assert agreed(out)


def test_movements_of_cash_that_cannot_be_booked_are_named() -> None:
    books = held(until_ns=CLOSE_NS - 200 * MINUTE_NS)
    rows = (activity("REORG", "", 0, "1000"), activity("MA", "SPY", 0, "12.5"), activity("OPTRD", "SPY", 0, "7"))
    out = books.tell(books.report(cash="1000", activities=rows))
    (line,) = one(Reconciled, out).differences
    assert line.startswith("cash_moved: ")
    assert line.endswith(f"not in the books: REORG of 2026-01-05: 1000 USD; {MOVED_FIX}")
    (line,) = one(Reconciled, books.tell(books.report(cash="1012.5", activities=rows))).differences
    assert line.endswith(f"REORG of 2026-01-05: 1000 USD, MA of 2026-01-05: 12.5 USD; {MOVED_FIX}")
    (line,) = one(Reconciled, books.tell(books.report(cash="7", activities=rows))).differences
    assert line.startswith("cash: ")


# --------------------------------------------------------------------------------------------- the broker's sales


def sale(symbol: str, qty: int, at_ns: int, side: Side = Side.SELL, price: str = "5.00") -> Any:
    theirs = SendOrder("theirs", symbol, side, False, qty, None, True)
    return execution(theirs, f"sale-{symbol}-{qty}", qty, qty, price, at_ns)


def test_the_brokers_sale_in_the_last_hour_ends_a_leg_of_the_trade_and_is_no_foreign_fill() -> None:
    at_ns = CLOSE_NS - 15 * MINUTE_NS
    books = held(until_ns=at_ns)
    fill = sale(C610, 2, at_ns)
    out = books.tell(fill)
    settled = one(PositionSettled, out)
    assert (settled.ending, settled.price_usd, settled.source, settled.covers, settled.fees_modelled_usd) == (
        Ending.SOLD_OUT, Decimal("5.00"), "execution", (fill.execution_id,), 2 * FEE,
    )  # fmt: skip
    assert of(ForeignExecution, out) == []
    assert any(type(m) is SetTimer and m.timer_id == READ_TIMER for m in out)
    assert books.tell(fill) == []
    books.told.append(fill)
    for later in (books, books.restarted()):
        out = later.tell(later.report())
        assert (endings(out), agreed(out)) == ([], True)
        assert later.tell(fill) == []


@pytest.mark.parametrize(
    ("minutes", "side", "qty", "is_foreign"),
    [(15, Side.SELL, 2, False), (90, Side.SELL, 2, True), (15, Side.BUY, 2, True), (15, Side.SELL, 3, True)],
)
def test_the_brokers_sale_that_still_works_is_no_foreign_order(
    minutes: int, side: Side, qty: int, is_foreign: bool
) -> None:
    at_ns = CLOSE_NS - minutes * MINUTE_NS
    books = held(until_ns=at_ns)
    works = broker_order(SendOrder("theirs", C610, side, False, qty, None, True), "new")
    out = books.tell(msgspec.structs.replace(books.report(), open_orders=(works,)))
    assert ["order_foreign" in line for line in one(Reconciled, out).differences] == [True] * is_foreign


def test_a_sale_that_only_the_account_tells_is_settled_in_that_turn() -> None:
    at_ns = CLOSE_NS - 15 * MINUTE_NS
    books = held(until_ns=at_ns)
    books.told += [sale(C610, 1, at_ns), sale(C610, 1, at_ns, price="4.00")]
    books.told[-1] = execution(SendOrder("theirs", C610, Side.SELL, False, 1, None, True), "other", 1, 1, "4.00", at_ns)
    out = books.tell(books.report([C610], cash=900))
    assert [(s.contracts, s.price_usd) for s in of(PositionSettled, out)] == [(1, 5), (1, 4)]
    assert agreed(out)
    assert agreed(books.tell(books.report()))


@pytest.mark.parametrize(
    ("symbol", "qty", "before_ns", "side"),
    [
        (C610, 2, SELL_OUT_NS + NS, Side.SELL),  # too early: somebody's
        (C610, 3, 15 * MINUTE_NS, Side.SELL),  # more than is held
        (C605, 1, 15 * MINUTE_NS, Side.SELL),  # adds to a short
        ("SPY260109C00610000", 1, 15 * MINUTE_NS, Side.SELL),  # does not expire today
        ("SPY", 100, 15 * MINUTE_NS, Side.SELL),
    ],
)
def test_other_executions_of_others_are_foreign(symbol: str, qty: int, before_ns: int, side: Side) -> None:
    books = held(until_ns=CLOSE_NS - before_ns)
    out = books.tell(sale(symbol, qty, books.at_ns, side))
    assert of(PositionSettled, out) == []
    assert one(ForeignExecution, out).symbol == symbol


def test_more_of_our_own_order_than_was_ordered_is_never_taken_for_a_sell_out() -> None:
    at_ns = CLOSE_NS - 15 * MINUTE_NS
    books = held(LONG_CALL, 2, until_ns=at_ns)
    order = books.exit_order(LONG_CALL, 1, 2)
    sent = one(SendOrder, books.tell(order))
    books.tell(execution(sent, "own", 1, 1, at_ns=at_ns))
    out = books.tell(execution(sent, "more", 1, 1, at_ns=at_ns))
    assert (len(of(ForeignExecution, out)), of(PositionSettled, out)) == (1, [])


# ----------------------------------------------------------------------------------------------------- the reads


def test_a_report_that_brings_fills_settles_nothing_yet_and_another_is_asked_for() -> None:
    books = Bookkeeping().seeded()
    sent = one(SendOrder, books.tell(entry_order(symbol=CONDOR, contracts=2)))
    fill = executed(sent, "x1", 2, 2, PRICES)
    books.tell(type(fill)(fill.legs[:3]))
    books.told += fill.legs
    books.go_to(AFTER_NS)
    out = books.tell(books.report(LEGS, cash=Decimal("180.00")))
    assert endings(out) == []
    assert any(m.reason.startswith("what has ended") for m in of(ReadAccount, out))
    out = books.tell(books.report(LEGS))
    assert len(endings(out)) == 4
    assert one(TradeClosed, out).gross_pnl_usd == 200


def test_what_has_expired_and_is_still_there_is_looked_at_every_few_minutes() -> None:
    books = held()
    books.tell(books.report())
    out = books.tell(books.report())
    assert (endings(out), agreed(out)) == ([], True)
    due = [m.at_ns for m in of(SetTimer, out) if m.timer_id == READ_TIMER]
    assert due == [books.at_ns + EXPIRED_NS]
    out = books.tell(books.report(LEGS))
    due = [m.at_ns for m in of(SetTimer, out) if m.timer_id == READ_TIMER]
    books.tell(books.report())
    assert due[0] >= books.at_ns


def test_a_failed_read_settles_nothing() -> None:
    books = held()
    assert endings(books.tell(books.report(LEGS, text="timed out"))) == []
    assert endings(books.tell(books.report(LEGS, cash_usd=None))) == []


# --------------------------------------------------------------------------------------------------- the reading


def test_too_many_readings_are_told_apart_by_price_alone() -> None:
    rows = [Gone(symbol, sign, 50, True) for symbol, sign in zip(LEGS, (-1, 1, 1, -1), strict=True)]
    found = delivered(rows, {"SPY": -5000}, Decimal(5000 * 605))
    assert found == {C605: 50, C610: 0, P585: 0, P590: 0}
    assert delivered(rows, {"SPY": -4900}, Decimal(4900 * 605)) is None


def test_several_underlyings_are_read_together_by_one_cash() -> None:
    qqq = "QQQ260105P00500000"
    rows = [Gone(P590, -1, 1, True), Gone(qqq, -1, 2, True)]
    assert delivered(rows, {"SPY": 100, "QQQ": 100}, Decimal(-59_000 - 50_000)) == {P590: 1, qqq: 1}
    assert delivered(rows, {"SPY": 100, "QQQ": 200}, None) == {P590: 1, qqq: 2}
    assert delivered(rows, {"SPY": 100, "QQQ": 100}, None) is None


def test_the_last_session_of_a_saturday_expiry_counts() -> None:
    books = held(LONG_PUT, 1)
    assert TABLE.expiry_ns("2026-01-05") == CLOSE_NS
    assert endings(books.tell(books.report([LONG_PUT]))) == [("expired", LONG_PUT, 1, 0)]


# ------------------------------------------------------------------------------------------- what others have closed


def by_hand(books: Bookkeeping, cash: str, **sides: tuple[Side, int, str]) -> Any:
    """Others trade each symbol; the account that shows it, its cash changed by what they paid."""
    for symbol, (side, qty, price) in sides.items():
        fill = execution(SendOrder("theirs", symbol, side, False, qty, None, True), f"hand-{symbol}", qty, qty, price)
        books.told.append(fill)
        assert len(of(ForeignExecution, books.tell(fill))) == 1
    return cash


CLOSED_BY_HAND = {
    C605: (Side.BUY, 2, "0.50"), C610: (Side.SELL, 2, "0.20"),
    P585: (Side.SELL, 2, "0.20"), P590: (Side.BUY, 2, "0.40"),
}  # fmt: skip


@pytest.mark.parametrize("working", [False, True])
def test_a_condor_that_somebody_closes_by_hand_has_not_been_assigned(working: bool) -> None:
    """Assigned as a whole it would leave as few shares: none."""
    books = held(until_ns=CLOSE_NS - 200 * MINUTE_NS)
    if working:  # then cash cannot be compared
        books.tell(entry_order("tok-20260105-bo-000009", symbol=LATER))
    cash = by_hand(books, "-100", **CLOSED_BY_HAND)
    for later in (books, books.restarted()):
        out = later.tell(later.report(LEGS, cash=cash))
        assert endings(out) == []
        lines = one(Reconciled, out).differences
        assert [line.split(":")[1].strip() for line in lines if line.startswith("position")] == sorted(LEGS)


@pytest.mark.parametrize("working", [False, True])
def test_legs_that_vanish_in_session_without_shares_have_not_ended(working: bool) -> None:
    """A spread that is gone, at the price of its width or any other, without a fill that says why."""
    books = held(LATER, 2, until_ns=CLOSE_NS - 200 * MINUTE_NS)
    if working:
        books.tell(entry_order("tok-20260105-bo-000009", symbol=LONG_CALL))
    legs = ("SPY260109P00590000", "SPY260109P00585000")
    for cash in (-1000, -300, 0):
        out = books.tell(books.report(legs, cash=cash))
        assert (endings(out), agreed(out)) == ([], False)
    rows = (activity("OPASN", legs[0], 2), activity("OPEXC", legs[1], -2))
    assert len(endings(books.tell(books.report(legs, cash=-1000, activities=rows)))) == 2


def test_what_others_have_left_of_a_condor_ends_with_it() -> None:
    books = held(until_ns=CLOSE_NS - 200 * MINUTE_NS)
    half = {symbol: (side, 1, price) for symbol, (side, _, price) in CLOSED_BY_HAND.items()}
    cash = by_hand(books, "-50", **half)
    books.go_to(AFTER_NS)
    for later in (books, books.restarted()):
        out = later.tell(later.report(LEGS, cash=cash))
        assert endings(out) == [("expired", symbol, 1, 0) for symbol in LEGS]
        assert endings(later.tell(later.report(LEGS, cash=cash))) == []


def test_shares_that_others_traded_are_no_assignment() -> None:
    books = held(LATER, 1, until_ns=CLOSE_NS - 200 * MINUTE_NS)
    short = "SPY260109P00590000"
    cash = by_hand(books, "-59100", **{short: (Side.BUY, 1, "1.00"), "SPY": (Side.BUY, 100, "590.00")})
    assert endings(books.tell(books.report([short], shares=100, cash=cash))) == []


def test_what_was_added_by_hand_leaves_the_ending_open() -> None:
    books = held(LONG_CALL, 1, until_ns=CLOSE_NS - 200 * MINUTE_NS)
    cash = by_hand(books, "-200", **{LONG_CALL: (Side.BUY, 1, "2.00")})
    books.go_to(AFTER_NS)
    assert endings(books.tell(books.report([LONG_CALL], cash=cash))) == []


def test_an_agreement_and_an_adoption_settle_what_was_heard_of_others() -> None:
    """Once the books hold it, or it has proved to be nothing, the same contract can end like any other."""
    for settled in (None, CashCorrected("r1", C610, Decimal("40.00"), "ann", "why", (f"hand-{C610}",), CLOSE_NS)):
        books = held(until_ns=CLOSE_NS - 200 * MINUTE_NS)
        by_hand(books, "0", **{C610: (Side.SELL, 1, "0.40")})
        if settled is None:
            books.go_to(books.at_ns + 2 * MINUTE_NS)
            assert agreed(books.tell(books.report()))
        else:
            books.tell(settled)
        books.go_to(AFTER_NS)
        assert len(endings(books.tell(books.report(LEGS)))) == 4

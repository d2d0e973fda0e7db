"""The ledger is a fold of fills: cash, positions and round trips agree with arithmetic done another way."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.core.errors import InvariantError, ProtocolError
from oracle.core.ledger import Ledger
from oracle.core.message import Message
from oracle.core.messages import (
    ExitPlan,
    ExitTriggered,
    FeeCharged,
    LadderStep,
    LedgerSeeded,
    OrderClosed,
    OrderFilled,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.reports import AccountReported, BrokerFee
from oracle.core.vocabulary import OrderType, Purpose, Side

CALL = "SPY260116C00600000"
PLAN = ExitPlan(0.5, 0.4, 0.3, None, None, 1, 10**18)


class _Now:
    at_ns = 77


NOW: Any = _Now()


def order(order_id: str, purpose: Purpose, side: Side, *, trade: str = "t1", mid: str | None = "2.00") -> SubmitOrder:
    return SubmitOrder(
        order_id=order_id, trade_id=trade, decision_id="d", strategy="s", strategy_hash="h", underlying="SPY",
        purpose=purpose, symbol=CALL, side=side, contracts=10, order_type=OrderType.LIMIT,
        ladder=(LadderStep(Decimal("2.05"), 5),), worst_price_usd=Decimal("2.05"),
        decision_mid_usd=None if mid is None else Decimal(mid), window_end_ns=100,
        exit_plan=PLAN if purpose is Purpose.ENTRY else None, planned_risk_usd=Decimal(800),
        worst_case_usd=Decimal(2000), equity_usd=Decimal(100_000), reason="r", config_fingerprint="c",
    )  # fmt: skip


def fill(
    n: int, order_: SubmitOrder, contracts: int, price: str, fee: str = "0", trade: str | None = None
) -> OrderFilled:
    return OrderFilled(
        execution_id=f"x{n}", order_id=order_.order_id, client_order_id=f"{order_.order_id}-1", broker_order_id="b",
        trade_id=trade or order_.trade_id, strategy="s", symbol=CALL, side=order_.side, purpose=order_.purpose,
        contracts=contracts, price_usd=Decimal(price), fees_broker_usd=Decimal(fee),
        fees_modelled_usd=Decimal("0.65") * contracts, at_ns=50 + n,
    )  # fmt: skip


def seeded() -> Ledger:
    ledger = Ledger()
    list(ledger.on_seeded(LedgerSeeded(Decimal(100_000), Decimal(100_000), 1), NOW))
    return ledger


def test_one_round_trip_to_the_cent() -> None:
    ledger, out = seeded(), []
    entry, exit_ = order("e", Purpose.ENTRY, Side.BUY), order("x", Purpose.TARGET, Side.SELL, mid="3.00")
    out += ledger.on_submit(entry, NOW)
    out += ledger.on_filled(fill(1, entry, 4, "2.03", "1.00"), NOW)
    out += ledger.on_filled(fill(2, entry, 6, "2.05"), NOW)
    assert ledger.cash_usd == Decimal(100_000) - (4 * Decimal("2.03") + 6 * Decimal("2.05")) * 100 - 1
    assert ledger.position(CALL) == 10
    (position,) = ledger.positions()
    assert position.avg_price_usd == Decimal("2.042")
    (view,) = ledger.open_trades()
    assert (view.contracts_entered, view.contracts_open, view.entry_done) == (10, 10, False)
    out += ledger.on_order_closed(OrderClosed("e", "t1", Purpose.ENTRY, 10, 10, "filled"), NOW)
    assert ledger.trade("t1") == ledger.open_trades()[0]
    assert ledger.trade("t1").entry_done  # type: ignore[union-attr]
    out += ledger.on_submit(exit_, NOW)
    out += ledger.on_exit_triggered(ExitTriggered("t1", "target", "3", "3", Purpose.TARGET), NOW)
    out += ledger.on_filled(fill(3, exit_, 10, "2.98"), NOW)
    opened, closed = out
    assert isinstance(opened, TradeOpened)
    assert isinstance(closed, TradeClosed)
    assert closed.gross_pnl_usd == (Decimal("29.80") - Decimal("20.42")) * 100
    assert closed.fees_broker_usd == 1
    assert closed.fees_modelled_usd == Decimal("13.00")
    assert closed.net_pnl_usd == closed.gross_pnl_usd - 13
    # cost against the mids: 4 x .03 + 6 x .05 on the way in, 10 x .02 on the way out
    assert closed.slippage_usd == Decimal(62)
    assert closed.slippage_bps == pytest.approx(62 / 5000 * 1e4)
    assert closed.exit_rule == "target"
    assert ledger.positions() == []
    assert ledger.open_trades() == ()
    assert ledger.cash_usd == 100_000 + closed.gross_pnl_usd - 1


def test_a_trade_that_is_sold_in_parts_averages_all_of_them() -> None:
    ledger = seeded()
    entry = order("e", Purpose.ENTRY, Side.BUY)
    half = order("h", Purpose.TARGET, Side.SELL, mid="2.50")
    rest = order("r", Purpose.STOP, Side.SELL, mid="2.00")
    for o in (entry, half, rest):
        ledger.on_submit(o, NOW)
    ledger.on_filled(fill(1, entry, 3, "2.02"), NOW)
    ledger.on_order_closed(OrderClosed("e", "t1", Purpose.ENTRY, 3, 3, "filled"), NOW)
    ledger.on_exit_triggered(ExitTriggered("t1", "scale_out", "2.5", "2.5", Purpose.TARGET), NOW)
    assert list(ledger.on_filled(fill(2, half, 1, "2.49", "0.10"), NOW)) == []
    view = ledger.trade("t1")
    assert view is not None
    assert (view.contracts_entered, view.contracts_open, view.entry_price_usd) == (3, 2, Decimal("2.02"))
    assert ledger.realized_since(0) == (Decimal("2.49") - Decimal("2.02")) * 100 - Decimal("0.10")
    ledger.on_exit_triggered(ExitTriggered("t1", "breakeven", "2", "2.02", Purpose.STOP), NOW)
    (closed,) = ledger.on_filled(fill(3, rest, 2, "1.96", "0.20"), NOW)
    assert isinstance(closed, TradeClosed)
    assert (closed.contracts, closed.exit_rule) == (3, "breakeven")
    assert round(closed.exit_price_usd, 6) == Decimal("2.136667")
    assert closed.gross_pnl_usd == (Decimal("2.49") + 2 * Decimal("1.96") - 3 * Decimal("2.02")) * 100
    assert (closed.fees_broker_usd, closed.fees_modelled_usd) == (Decimal("0.30"), 6 * Decimal("0.65"))
    # against the mids of each order's own decision: 3 x .02 in, .01 on the half, 2 x .04 on the rest
    assert closed.slippage_usd == Decimal(15)
    assert closed.slippage_bps == pytest.approx(15 / (3 * 200 + 250 + 2 * 200) * 1e4)
    assert ledger.cash_usd == 100_000 + closed.gross_pnl_usd - closed.fees_broker_usd


def test_a_trade_waits_for_its_entry_to_be_over() -> None:
    ledger = seeded()
    entry, exit_ = order("e", Purpose.ENTRY, Side.BUY), order("x", Purpose.STOP, Side.SELL)
    for o in (entry, exit_):
        ledger.on_submit(o, NOW)
    ledger.on_filled(fill(1, entry, 3, "2"), NOW)
    assert list(ledger.on_filled(fill(2, exit_, 3, "1"), NOW)) == []
    (closed,) = ledger.on_order_closed(OrderClosed("e", "t1", Purpose.ENTRY, 3, 10, "abandoned"), NOW)
    assert isinstance(closed, TradeClosed)
    assert closed.gross_pnl_usd == -300


def test_an_unknown_mid_leaves_slippage_unknown() -> None:
    ledger = seeded()
    entry, exit_ = order("e", Purpose.ENTRY, Side.BUY), order("x", Purpose.STOP, Side.SELL, mid=None)
    for o in (entry, exit_):
        ledger.on_submit(o, NOW)
    ledger.on_filled(fill(1, entry, 1, "2"), NOW)
    ledger.on_order_closed(OrderClosed("e", "t1", Purpose.ENTRY, 1, 10, "x"), NOW)
    (closed,) = ledger.on_filled(fill(2, exit_, 1, "1"), NOW)
    assert isinstance(closed, TradeClosed)
    assert closed.slippage_usd is None
    assert closed.slippage_bps is None


def test_a_fill_after_the_end_was_confirmed_is_booked_and_its_trade_open() -> None:
    ledger = seeded()
    entry = order("e", Purpose.ENTRY, Side.BUY)
    ledger.on_submit(entry, NOW)
    assert list(ledger.on_order_closed(OrderClosed("e", "t1", Purpose.ENTRY, 0, 10, "canceled"), NOW)) == []
    (opened,) = ledger.on_filled(fill(1, entry, 2, "2"), NOW)
    assert isinstance(opened, TradeOpened)
    assert ledger.open_trades()[0].entry_done


def test_an_exit_fill_beyond_what_is_held_moves_the_books_not_a_trade() -> None:
    ledger = seeded()
    exit_ = order("x", Purpose.STOP, Side.SELL)
    ledger.on_submit(exit_, NOW)
    assert list(ledger.on_filled(fill(1, exit_, 2, "2"), NOW)) == []
    assert ledger.position(CALL) == -2


def test_what_must_not_be() -> None:
    ledger, entry = Ledger(), order("e", Purpose.ENTRY, Side.BUY)
    assert not ledger.seeded
    with pytest.raises(ProtocolError):
        _ = ledger.cash_usd
    ledger.on_submit(entry, NOW)
    with pytest.raises(ProtocolError):
        ledger.on_filled(fill(1, entry, 1, "2"), NOW)
    ledger = seeded()
    with pytest.raises(InvariantError, match="twice"):
        ledger.on_seeded(LedgerSeeded(Decimal(1), Decimal(1), 1), NOW)
    with pytest.raises(InvariantError, match="unknown order"):
        ledger.on_filled(fill(1, entry, 1, "2"), NOW)
    ledger.on_submit(entry, NOW)
    ledger.on_filled(fill(2, entry, 1, "2"), NOW)
    with pytest.raises(InvariantError, match="booked twice"):
        ledger.on_filled(fill(2, entry, 1, "2"), NOW)


cents = st.decimals(min_value="0.01", max_value=50, places=2)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), cents, cents), min_size=1, max_size=30))
def test_cash_and_positions_are_the_sum_of_fills(script: list[tuple[bool, int, Decimal, Decimal]]) -> None:
    ledger = seeded()
    cash, held, out = Decimal(100_000), 0, list[Message]()
    buy, sell = order("b", Purpose.ENTRY, Side.BUY), order("s", Purpose.ENTRY, Side.SELL, trade="t2")
    ledger.on_submit(buy, NOW)
    ledger.on_submit(sell, NOW)
    for n, (is_buy, contracts, price, fee) in enumerate(script):
        out += ledger.on_filled(fill(n, buy if is_buy else sell, contracts, str(price), str(fee)), NOW)
        signed = contracts if is_buy else -contracts
        cash -= signed * price * 100 + fee
        held += signed
    assert ledger.cash_usd == cash
    assert ledger.position(CALL) == held
    assert [p.qty for p in ledger.positions()] == ([held] if held else [])
    assert all(p.avg_price_usd > 0 for p in ledger.positions())
    unrealized = sum((-p.avg_price_usd * p.qty * 100 for p in ledger.positions()), Decimal(0))  # all marked at zero
    assert ledger.realized_since(0) + unrealized == pytest.approx(cash - 100_000, abs=Decimal("1e-15"))


def test_restoring_from_stored_messages_gives_the_same_books() -> None:
    ledger, entry, exit_ = seeded(), order("e", Purpose.ENTRY, Side.BUY), order("x", Purpose.STOP, Side.SELL)
    books: list[Message] = [
        LedgerSeeded(Decimal(100_000), Decimal(100_000), 1),
        entry,
        fill(1, entry, 4, "2.03"),
        OrderClosed("e", "t1", Purpose.ENTRY, 4, 10, "abandoned"),
        exit_,
        ExitTriggered("t1", "stop", "1", "1", Purpose.STOP),
        fill(2, exit_, 1, "1.00"),
    ]
    for message in books[1:]:
        handler = dict(ledger.handlers())[type(message)]
        list(handler(message, NOW))
    again = Ledger()
    again.restore([*books, TradeOpened("t1", "s", "h", "SPY", CALL, 1)])
    assert again.cash_usd == ledger.cash_usd
    assert again.positions() == ledger.positions()
    assert again.open_trades() == ledger.open_trades()
    rest = fill(3, exit_, 3, "1.00")
    assert list(again.on_filled(rest, NOW)) == list(ledger.on_filled(rest, NOW))


def account_with(*fees: BrokerFee) -> AccountReported:
    none = (None,) * 6
    return AccountReported(5, *none, (), (), (), 0, fees=fees)


def test_fees_are_charged_once_and_those_in_the_opening_cash_never() -> None:
    ledger = seeded()
    old, new = BrokerFee("f0", "", Decimal(9), "old"), BrokerFee("f1", CALL, Decimal("1.30"), "orf")
    list(ledger.on_fee(FeeCharged("f0", "", Decimal(9), "old", 1, in_opening_cash=True), NOW))
    (charged,) = ledger.on_account(account_with(old, new), NOW)
    assert charged == FeeCharged("f1", CALL, Decimal("1.30"), "orf", NOW.at_ns, in_opening_cash=False)
    assert ledger.cash_usd == Decimal("99998.70")
    list(ledger.on_fee(charged, NOW))
    assert list(ledger.on_account(account_with(old, new), NOW)) == []
    assert ledger.cash_usd == Decimal("99998.70")
    again = Ledger()
    again.restore([LedgerSeeded(Decimal(100_000), Decimal(100_000), 1), charged])
    assert again.cash_usd == ledger.cash_usd
    unseeded = Ledger()
    assert list(unseeded.on_account(account_with(new), NOW)) == []
    with pytest.raises(ProtocolError):
        unseeded.restore([charged])


def test_results_are_realised_as_parts_fill_and_belong_to_their_time() -> None:
    ledger, entry, exit_ = seeded(), order("e", Purpose.ENTRY, Side.BUY), order("x", Purpose.STOP, Side.SELL)
    for o in (entry, exit_):
        ledger.on_submit(o, NOW)
    assert ledger.realized_since(0) == 0
    ledger.on_filled(fill(1, entry, 4, "2.00", "0.50"), NOW)
    assert ledger.realized_since(0) == Decimal("-0.50")
    ledger.on_filled(fill(2, exit_, 1, "2.30"), NOW)
    assert ledger.realized_since(0) == Decimal("29.50")
    ledger.on_filled(fill(3, exit_, 6, "1.00"), NOW)  # three beyond what is held: short, at its own price
    assert ledger.realized_since(52) == 30 - 300
    assert ledger.realized_since(53) == -300
    list(ledger.on_account(account_with(BrokerFee("f", CALL, Decimal("0.25"), "orf")), NOW))
    assert ledger.realized_since(54) == Decimal("-0.25")

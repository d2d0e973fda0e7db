"""Trades of several legs: what goes in and out of them, however it comes, sums up to the cent and ends once."""

import itertools
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.core.errors import InvariantError
from oracle.core.ledger import Ledger
from oracle.core.message import Message
from oracle.core.messages import (
    ExitPlan,
    ExitTriggered,
    LadderStep,
    LedgerSeeded,
    OrderClosed,
    OrderFilled,
    PositionSettled,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.ports import LegView, TradeView
from oracle.core.structures import legs_of, reduced
from oracle.core.vocabulary import Ending, OrderType, Purpose, Side

D = Decimal
P585, P590 = "SPY260116P00585000", "SPY260116P00590000"
C610, C615 = "SPY260116C00610000", "SPY260116C00615000"
CONDOR = "SPY:+260116C615-260116C610+260116P585-260116P590"
NAME, _ = reduced([(C610, -1), (C615, 1), (P585, 1), (P590, -1)])
PLAN = ExitPlan(0.5, 2.0, None, None, None, 0, 10**18, short_delta_stop=0.3)
OPENING = D(100_000)


class _Now:
    at_ns = 77


NOW: Any = _Now()


def command(order_id: str, purpose: Purpose, symbol: str = NAME, side: Side = Side.BUY, **changes: Any) -> SubmitOrder:
    values: dict[str, Any] = {
        "order_id": order_id, "trade_id": "t1", "decision_id": "d", "strategy": "s", "strategy_hash": "h",
        "underlying": "SPY", "purpose": purpose, "symbol": symbol, "side": side, "contracts": 3,
        "order_type": OrderType.LIMIT, "ladder": (LadderStep(D("-1.00"), 5),), "worst_price_usd": D("-0.95"),
        "decision_mid_usd": D("-1.00"), "window_end_ns": 100,
        "exit_plan": PLAN if purpose is Purpose.ENTRY else None, "planned_risk_usd": D(600),
        "worst_case_usd": D(1215), "equity_usd": OPENING, "reason": "r", "config_fingerprint": "c",
        **changes,
    }  # fmt: skip
    return SubmitOrder(**values)


_numbers = itertools.count(1)


def leg(order: SubmitOrder, symbol: str, side: Side, contracts: int, price: str | Decimal) -> OrderFilled:
    n = next(_numbers)
    return OrderFilled(
        f"x{n}", order.order_id, f"{order.order_id}-1", "b", order.trade_id, "s", symbol, side, order.purpose,
        contracts, D(price), D(0), D("0.65") * contracts, 50 + n,
    )  # fmt: skip


def unit(order: SubmitOrder, units: int, prices: dict[str, str]) -> list[OrderFilled]:
    """One execution of whole units, leg by leg."""
    return [
        leg(order, one.symbol, one.side if order.side is Side.BUY else one.side.opposite, units * one.ratio,
            prices[one.symbol])
        for one in legs_of(order.symbol)
    ]  # fmt: skip


def settled(
    symbol: str, contracts: int, ending: Ending, *, shares: int = 0, at: str | None = None, price: str = "0",
    name: str = "",
) -> PositionSettled:  # fmt: skip
    return PositionSettled(
        name or f"s{next(_numbers)}", "t1", ending, symbol, contracts, D(price), "SPY" if shares else "", shares,
        None if at is None else D(at), D(0), "positions", (), 90,
    )  # fmt: skip


class Books:
    """A ledger that is told messages, and all that came of them."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.out: list[Message] = []
        self.told: list[Message] = []
        self.tell(LedgerSeeded(OPENING, OPENING, 1))

    def tell(self, *messages: Message) -> list[Message]:
        new: list[Message] = []
        for message in messages:
            self.told.append(message)
            new += dict(self.ledger.handlers())[type(message)](message, NOW)
        self.out += new
        return new

    def view(self) -> TradeView:
        (trade,) = self.ledger.open_trades()
        return trade

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.out if type(message) is kind]


ENTRY_PRICES = {C610: "1.10", C615: "0.60", P585: "0.70", P590: "1.20"}  # a credit of 1.00
EXIT_PRICES = {C610: "0.40", C615: "0.15", P585: "0.20", P590: "0.45"}  # half of it to buy back


def held_condor(units: int = 3) -> tuple[Books, SubmitOrder]:
    books, entry = Books(), command("e", Purpose.ENTRY)
    books.tell(entry, *unit(entry, units, ENTRY_PRICES))
    books.tell(OrderClosed("e", "t1", Purpose.ENTRY, units, 3, "filled"))
    return books, entry


def test_a_name_is_the_same_whoever_makes_it() -> None:
    assert legs_of(CONDOR) == legs_of(NAME)


def test_a_condor_is_one_trade_from_its_credit_to_its_debit() -> None:
    books, _ = held_condor()
    assert [type(m) for m in books.out] == [TradeOpened]
    view = books.view()
    assert (view.contracts_entered, view.contracts_open, view.entry_price_usd) == (3, 3, D("-1.00"))
    assert view.cash_usd == 300
    assert view.is_whole
    assert view.legs == (LegView(C610, -3), LegView(C615, 3), LegView(P585, 3), LegView(P590, -3))
    assert books.ledger.cash_usd == OPENING + 300
    leave = command("x", Purpose.TARGET, side=Side.SELL, decision_mid_usd=D("-0.48"))
    books.tell(leave, ExitTriggered("t1", "target", "52 %", "50 %", Purpose.TARGET))
    (closed,) = books.tell(*unit(leave, 3, EXIT_PRICES))
    assert isinstance(closed, TradeClosed)
    assert (closed.symbol, closed.contracts, closed.exit_rule) == (NAME, 3, "target")
    assert (closed.entry_price_usd, closed.exit_price_usd) == (D("-1.00"), D("-0.50"))
    assert closed.gross_pnl_usd == 150 == (closed.exit_price_usd - closed.entry_price_usd) * 3 * 100
    # Nothing on the way in, 0.02 a unit on the way out, of mids of 1.00 and 0.48.
    assert closed.slippage_usd == 6
    assert closed.slippage_bps == pytest.approx(6 / 444 * 1e4)
    assert closed.fees_modelled_usd == D("0.65") * 24
    assert books.ledger.cash_usd == OPENING + 150
    assert (books.ledger.positions(), books.ledger.open_trades()) == ([], ())


def test_units_are_whole_only_while_every_leg_is_there() -> None:
    books, entry = Books(), command("e", Purpose.ENTRY)
    books.tell(entry, leg(entry, C610, Side.SELL, 3, "1.10"), leg(entry, C615, Side.BUY, 2, "0.60"))
    view = books.view()
    assert (view.contracts_entered, view.contracts_open, view.is_whole) == (0, 0, False)
    assert view.entry_price_usd == D("-0.50")
    assert [one.qty for one in view.legs] == [-3, 2]
    books.tell(leg(entry, P585, Side.BUY, 2, "0.70"), leg(entry, P590, Side.SELL, 2, "1.20"))
    view = books.view()
    assert (view.contracts_entered, view.contracts_open, view.is_whole) == (2, 2, False)
    books.tell(leg(entry, C615, Side.BUY, 1, "0.60"), *(leg(entry, *row) for row in (
        (P585, Side.BUY, 1, "0.70"), (P590, Side.SELL, 1, "1.20"),
    )))  # fmt: skip
    assert books.view().is_whole
    assert books.view().entry_price_usd == D("-1.00")


def test_a_ratio_counts_units_not_contracts() -> None:
    name, _ = reduced([(C610, 1), (C615, -2)])
    books, entry = Books(), command("e", Purpose.ENTRY, name, decision_mid_usd=None)
    books.tell(entry, leg(entry, C610, Side.BUY, 3, "2.00"), leg(entry, C615, Side.SELL, 6, "0.75"))
    view = books.view()
    assert (view.contracts_entered, view.contracts_open, view.entry_price_usd, view.is_whole) == (3, 3, D("0.50"), True)


def test_a_trade_that_never_was_whole_has_a_result_and_unknown_slippage() -> None:
    books, entry = Books(), command("e", Purpose.ENTRY)
    books.tell(entry, leg(entry, C610, Side.SELL, 2, "1.10"), OrderClosed("e", "t1", Purpose.ENTRY, 0, 3, "canceled"))
    leave = command("x", Purpose.FORCED, C610, Side.BUY, decision_mid_usd=D("1.15"))
    books.tell(leave, ExitTriggered("t1", "orphan_leg", "", "", Purpose.FORCED))
    (closed,) = books.tell(leg(leave, C610, Side.BUY, 2, "1.25"))
    assert isinstance(closed, TradeClosed)
    assert (closed.gross_pnl_usd, closed.contracts, closed.exit_rule) == (D(-30), 2, "orphan_leg")
    assert (closed.exit_price_usd - closed.entry_price_usd) * 200 == -30
    assert closed.slippage_usd is None


def test_a_long_left_out_of_the_exit_expires_in_the_same_trade() -> None:
    books, _ = held_condor()
    rest, units = reduced([(C610, -3), (P585, 3), (P590, -3)])
    assert units == 3
    leave = command("x", Purpose.STOP, rest, Side.SELL, decision_mid_usd=None)
    books.tell(leave, ExitTriggered("t1", "stop", "", "", Purpose.STOP))
    assert books.tell(*unit(leave, 3, EXIT_PRICES)) == []
    view = books.view()
    assert (view.contracts_open, view.is_whole, view.legs) == (0, False, (LegView(C615, 3),))
    (closed,) = books.tell(settled(C615, 3, Ending.EXPIRED))
    assert isinstance(closed, TradeClosed)
    assert closed.exit_rule == "stop"  # what sold the rest; a worthless leg did not end the trade
    assert closed.gross_pnl_usd == 300 - 3 * 65


def test_a_worthless_leg_sold_later_leaves_the_rule_that_closed_the_rest() -> None:
    books, _ = held_condor()
    rest, _ = reduced([(C610, -3), (P585, 3), (P590, -3)])
    leave = command("x", Purpose.STOP, rest, Side.SELL, decision_mid_usd=None)
    books.tell(leave, ExitTriggered("t1", "short_delta", "", "", Purpose.STOP), *unit(leave, 3, EXIT_PRICES))
    for rule in ("orphan_leg", "flat"):
        books.tell(ExitTriggered("t1", rule, "", "", Purpose.FORCED))
    last = command("y", Purpose.FORCED, C615, Side.SELL, decision_mid_usd=None)
    (closed,) = books.tell(last, leg(last, C615, Side.SELL, 3, "0.01"))
    assert isinstance(closed, TradeClosed)
    assert closed.exit_rule == "short_delta"


def test_the_last_rule_stands_while_whole_units_remain_or_nothing_has_been_filled() -> None:
    books, _ = held_condor()
    first = command("x", Purpose.TARGET, side=Side.SELL)
    books.tell(first, ExitTriggered("t1", "target", "", "", Purpose.TARGET), *unit(first, 1, EXIT_PRICES))
    books.tell(ExitTriggered("t1", "short_delta", "", "", Purpose.STOP))
    second = command("y", Purpose.STOP, side=Side.SELL)
    (closed,) = books.tell(second, *unit(second, 2, EXIT_PRICES))
    assert closed.exit_rule == "short_delta"  # type: ignore[attr-defined]
    books, entry = Books(), command("e", Purpose.ENTRY)
    books.tell(entry, leg(entry, C610, Side.SELL, 2, "1.10"), OrderClosed("e", "t1", Purpose.ENTRY, 0, 3, "canceled"))
    for rule in ("orphan_leg", "flat"):
        books.tell(ExitTriggered("t1", rule, "", "", Purpose.FORCED))
    leave = command("x", Purpose.FORCED, C610, Side.BUY)
    (closed,) = books.tell(leave, leg(leave, C610, Side.BUY, 2, "1.25"))
    assert closed.exit_rule == "flat"  # type: ignore[attr-defined]


def test_a_condor_that_expires_keeps_its_credit() -> None:
    books, _ = held_condor()
    out = books.tell(*(settled(symbol, 3, Ending.EXPIRED) for symbol in (C610, C615, P585, P590)))
    (closed,) = out
    assert isinstance(closed, TradeClosed)
    assert (closed.gross_pnl_usd, closed.exit_price_usd, closed.exit_rule) == (D(300), D(0), "expired")
    assert (books.ledger.cash_usd, books.ledger.positions()) == (OPENING + 300, [])


def test_shares_of_an_assignment_are_a_leg_until_they_are_sold() -> None:
    books, _ = held_condor(1)
    books.tell(settled(P590, 1, Ending.ASSIGNED, shares=100, at="590"))
    view = books.view()
    assert view.legs == (LegView("SPY", 100), LegView(C610, -1), LegView(C615, 1), LegView(P585, 1))
    assert (view.contracts_open, view.is_whole, view.cash_usd) == (0, False, D(100 - 59_000))
    assert books.ledger.position("SPY") == 100
    for symbol in (C610, C615):
        assert books.tell(settled(symbol, 1, Ending.EXPIRED)) == []
    books.tell(ExitTriggered("t1", "orphan_leg", "", "", Purpose.FORCED))
    options = command("x1", Purpose.FORCED, P585, Side.SELL, decision_mid_usd=D("3.00"))
    stock = command("x2", Purpose.FORCED, "SPY", Side.SELL, decision_mid_usd=D("587.00"), contracts=100)
    books.tell(options, leg(options, P585, Side.SELL, 1, "2.90"), stock)
    assert books.view().legs == (LegView("SPY", 100),)
    (closed,) = books.tell(leg(stock, "SPY", Side.SELL, 100, "586.95"))
    assert isinstance(closed, TradeClosed)
    assert closed.gross_pnl_usd == 100 - 59_000 + 290 + 58_695
    assert closed.exit_rule == "assigned"
    assert (closed.exit_price_usd - closed.entry_price_usd) * 100 == closed.gross_pnl_usd
    assert closed.slippage_usd == 10 + 5
    assert books.ledger.cash_usd == OPENING + closed.gross_pnl_usd


def test_the_gravest_ending_is_told_and_a_sale_by_the_broker_has_its_price() -> None:
    books, _ = held_condor(1)
    books.tell(settled(C610, 1, Ending.EXPIRED), settled(C615, 1, Ending.EXPIRED))
    books.tell(settled(P585, 1, Ending.SOLD_OUT, price="2.40"))
    (closed,) = books.tell(settled(P590, 1, Ending.ASSIGNED, shares=100, at="590")) or books.tell(
        command("x", Purpose.FORCED, "SPY", Side.SELL, decision_mid_usd=None),
        leg(command("x", Purpose.FORCED, "SPY", Side.SELL), "SPY", Side.SELL, 100, "588"),
    )
    assert isinstance(closed, TradeClosed)
    assert (closed.exit_rule, closed.gross_pnl_usd) == ("assigned", D(100 + 240 - 200))


def test_what_is_not_held_cannot_be_settled_and_nothing_is_settled_twice() -> None:
    books, _ = held_condor(1)
    with pytest.raises(InvariantError, match="settles 2 of -1"):
        books.tell(settled(C610, 2, Ending.EXPIRED))
    one = settled(C610, 1, Ending.EXPIRED, name="once")
    books.tell(one)
    with pytest.raises(InvariantError, match="booked twice"):
        books.tell(one)
    assert books.ledger.cash_usd == OPENING + 100


def test_a_settlement_of_no_trade_moves_positions_all_the_same() -> None:
    books, entry = Books(), command("e", Purpose.ENTRY, C610)
    books.tell(entry, leg(entry, C610, Side.BUY, 1, "1.00"), OrderClosed("e", "t1", Purpose.ENTRY, 1, 1, "filled"))
    leave = command("x", Purpose.STOP, C610, Side.SELL)
    books.tell(leave, leg(leave, C610, Side.SELL, 1, "1.50"), leg(leave, C610, Side.SELL, 1, "1.50"))  # one too many
    assert books.ledger.position(C610) == -1
    assert books.tell(settled(C610, 1, Ending.ASSIGNED, shares=-100, at="610")) == []
    assert (books.ledger.position(C610), books.ledger.position("SPY")) == (0, -100)
    assert books.ledger.cash_usd == OPENING + 200 + 61_000


def test_a_late_execution_opens_the_trade_again_and_it_ends_again() -> None:
    books, _ = held_condor(1)
    books.tell(*(settled(symbol, 1, Ending.EXPIRED) for symbol in (C610, C615, P585, P590)))
    entry = command("e", Purpose.ENTRY)
    books.tell(*unit(entry, 1, ENTRY_PRICES))
    assert (books.view().contracts_open, books.view().entry_done, books.view().cash_usd) == (1, True, D(100))
    leave = command("x", Purpose.FORCED, side=Side.SELL)
    books.tell(leave, *unit(leave, 1, EXIT_PRICES))
    assert [one.gross_pnl_usd for one in books.of(TradeClosed)] == [100, 50]
    assert len(books.of(TradeOpened)) == 2


# ------------------------------------------------------------------------------------------------- properties

cents = st.decimals(min_value="0", max_value=20, places=2)


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[Message], Decimal]:
    """A structure's entry, then each leg's way out in parts, by order, settlement or delivery, in any interleaving, and
    at last what is left of the shares.

    Returns the messages and what they come to in cash.
    """
    legs = draw(st.sampled_from([NAME, reduced([(C610, 1), (C615, -1)])[0], reduced([(C610, 1), (C615, -2)])[0], C610]))
    units = draw(st.integers(1, 4))
    entry, leave = command("e", Purpose.ENTRY, legs), command("x", Purpose.FORCED, legs, Side.SELL)
    ways_in: list[Message] = []
    ways_out: dict[str, list[Message]] = {}
    cash, delivered = D(0), 0
    for one in legs_of(legs):
        price = draw(cents)
        contracts = units * one.ratio
        ways_in.append(leg(entry, one.symbol, one.side, contracts, price))
        cash -= one.side.sign * contracts * price * 100
        out: list[Message] = []
        left = contracts
        while left > 0:
            some, price = draw(st.integers(1, left)), draw(cents)
            left -= some
            how = draw(st.sampled_from(["order", "settled", "delivered"]))
            if how == "order":
                out.append(leg(leave, one.symbol, one.side.opposite, some, price))
                cash += one.side.sign * some * price * 100
            elif how == "settled":
                out.append(settled(one.symbol, some, Ending.SOLD_OUT, price=str(price)))
                cash += one.side.sign * some * price * 100
            else:
                shares = draw(st.sampled_from([-100, 100])) * some
                out.append(settled(one.symbol, some, Ending.ASSIGNED, shares=shares, at="600"))
                cash -= shares * 600
                delivered += shares
        ways_out[one.symbol] = out
    order = draw(st.permutations(ways_in))
    messages: list[Message] = [entry, leave, *order, OrderClosed("e", "t1", Purpose.ENTRY, units, units, "filled")]
    queues = {symbol: list(out) for symbol, out in ways_out.items()}
    while queues:
        symbol = draw(st.sampled_from(sorted(queues)))
        messages.append(queues[symbol].pop(0))
        if not queues[symbol]:
            del queues[symbol]
    if delivered != 0:
        stock, price = command("st", Purpose.FORCED, "SPY"), draw(cents)
        back = Side.SELL if delivered > 0 else Side.BUY
        messages += [stock, leg(stock, "SPY", back, abs(delivered), price)]
        cash += delivered * price
    return messages, cash


@given(lives())
def test_every_interleaving_ends_once_with_the_sum_of_its_flows(life: tuple[list[Message], Decimal]) -> None:
    messages, cash = life
    books = Books()
    for message in messages[:-1]:
        assert not [m for m in books.tell(message) if type(m) is TradeClosed]
        held = {leg.symbol: leg.qty for trade in books.ledger.open_trades() for leg in trade.legs}
        assert held == {p.symbol: p.qty for p in books.ledger.positions()}
        assert sum(t.cash_usd for t in books.ledger.open_trades()) == books.ledger.cash_usd - OPENING
    (closed,) = books.tell(messages[-1])
    assert isinstance(closed, TradeClosed)
    assert closed.gross_pnl_usd == cash == books.ledger.cash_usd - OPENING
    assert books.ledger.positions() == []
    assert books.ledger.realized_since(0) == pytest.approx(cash, abs=D("1e-15"))
    units = closed.contracts
    assert (closed.exit_price_usd - closed.entry_price_usd) * units * 100 == pytest.approx(cash, abs=D("1e-15"))
    again = Ledger()
    again.restore(books.told)
    assert (again.cash_usd, again.positions(), again.open_trades()) == (books.ledger.cash_usd, [], ())


@given(lives(), st.data())
def test_a_restart_anywhere_goes_on_as_if_nothing_had_been(
    life: tuple[list[Message], Decimal], data: st.DataObject
) -> None:
    messages, _ = life
    cut = data.draw(st.integers(0, len(messages) - 1))
    first, whole = Books(), Books()
    first.tell(*messages[:cut])
    second = Books()
    second.ledger = Ledger()
    second.ledger.restore(first.told)
    assert second.ledger.open_trades() == first.ledger.open_trades()
    rest = second.tell(*messages[cut:])
    whole.tell(*messages)
    ends: Iterable[Message] = (m for m in whole.out if type(m) is TradeClosed)
    assert [m for m in rest if type(m) is TradeClosed] == list(ends)
    assert second.ledger.cash_usd == whole.ledger.cash_usd


prices = st.decimals(min_value="0.01", max_value=50, places=2)


@given(
    st.lists(st.tuples(st.integers(1, 9), prices), min_size=1, max_size=5),
    prices,
    st.sampled_from([Side.BUY, Side.SELL]),
)
def test_a_single_contract_has_the_averages_of_its_fills(
    script: list[tuple[int, Decimal]], mid: Decimal, side: Side
) -> None:
    """The arithmetic of one leg, as it was before there were more: sums of contracts x price, divided once."""
    books = Books()
    entry = command("e", Purpose.ENTRY, C610, side, decision_mid_usd=mid)
    leave = command("x", Purpose.STOP, C610, side.opposite, decision_mid_usd=mid)
    books.tell(entry, leave)
    total = sum(n for n, _ in script)
    into = sum((n * price for n, price in script), D(0))
    for n, price in script:
        books.tell(leg(entry, C610, side, n, price))
    assert books.view().entry_price_usd == into / total
    books.tell(OrderClosed("e", "t1", Purpose.ENTRY, total, total, "filled"))
    out = D(0)
    for n, price in reversed(script):
        out += n * (price + 1)
        books.tell(leg(leave, C610, side.opposite, n, price + 1))
    (closed,) = books.of(TradeClosed)
    assert (closed.entry_price_usd, closed.exit_price_usd) == (into / total, out / total)
    assert str(closed.exit_price_usd) == str(out / total)  # the journal's bytes too
    assert closed.gross_pnl_usd == side.sign * (out - into) * 100
    assert closed.slippage_usd == side.sign * ((into - mid * total) - (out - mid * total)) * 100

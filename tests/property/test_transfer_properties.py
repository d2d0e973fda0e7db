"""Deposits, withdrawals and interest among trades, kills and reads that come early or late.

Whatever is listed before cash shows it or after, and wherever the process is killed: books and broker end equal to the
cent, the day's start has moved by exactly what was transferred, the drawdown's share by nothing.
"""

from decimal import Decimal
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.core.messages import CashTransferred, LatchChanged, Reconciled, SendOrder, TradeClosed
from oracle.core.ports import EquityView, OptionQuote
from oracle.core.reports import BrokerPosition, BrokerSettlement
from oracle.core.vocabulary import Purpose, Side
from tests.unit.books import CASH, Bookkeeping
from tests.unit.builders import CALL, DATES, account, chain_quotes, entry_order, execution, of, one

KINDS = ("CSD", "CSW", "JNLC", "INT")


class Bank:
    """Books beside an account whose cash and list of activities are told at different moments."""

    def __init__(self, random: Random) -> None:
        self.random, self.books = random, Bookkeeping().seeded()
        self.traded = Decimal(0)
        self.rows: list[BrokerSettlement] = []
        self.hidden: set[str] = set()  # cash does not show these
        self.unlisted: set[str] = set()
        self.orders, self.open_price = 0, Decimal(0)

    @property
    def moved(self) -> Decimal:
        return sum((row.cash_usd for row in self.rows if row.activity_id not in self.hidden), Decimal(0))

    def transfer(self) -> None:
        kind = self.random.choice(KINDS)
        size = Decimal(self.random.randint(1, 5_000_000)) / 100
        cash = -size if kind == "CSW" or (kind == "JNLC" and self.random.random() < 0.5) else size
        name = f"{len(self.rows):04d}"
        self.rows.append(BrokerSettlement(name, kind, "", Decimal(0), None, cash, DATES[0], ""))
        when = self.random.random()
        if when < 0.3:
            self.hidden.add(name)
        elif when < 0.6:
            self.unlisted.add(name)

    def trade(self, price: Decimal) -> None:
        """Buy one contract, or sell the one that is held; its quote is the price that was paid."""
        holds = self.books.ledger.position(CALL) > 0
        self.orders += 1
        name = f"tok-20260105-bo-{self.orders:06d}"
        if holds:
            trade = f"tok-20260105-bo-{self.orders - 1:06d}"
            order = entry_order(
                name, 1, side=Side.SELL, exit_plan=None, trade_id=trade, purpose=Purpose.STOP, window_end_ns=2**62
            )
        else:
            order = entry_order(name, 1, window_end_ns=2**62)
            self.quote(price)
        sent: SendOrder = one(SendOrder, self.books.tell(order))
        fill = execution(sent, f"x{self.orders}", 1, 1, str(price), self.books.at_ns)
        self.books.told.append(fill)
        self.books.tell(fill)
        self.traded -= fill.side.sign * price * 100

    def quote(self, price: Decimal) -> None:
        self.open_price = price
        self.requote()

    def requote(self) -> None:
        """The same middle, fresh."""
        chains: Any = self.books.engine.context().chains
        at_ns, mid = self.books.at_ns, float(self.open_price)
        chains.quotes[CALL] = OptionQuote(CALL, mid - 0.01, 1, mid + 0.01, 1, at_ns, at_ns)
        self.books.tell(chain_quotes())

    def read(self) -> tuple[str, ...]:
        self.books.at_ns += 20_000_000_000
        self.requote()
        held = self.books.ledger.position(CALL)
        positions = (BrokerPosition(CALL, Decimal(held), Decimal(1)),) if held else ()
        listed = tuple(row for row in self.rows if row.activity_id not in self.unlisted)
        before = self.books.engine.context().equity
        out = self.books.tell(
            account(
                self.books.at_ns, str(CASH + self.traded + self.moved), positions=positions,
                fills=tuple(self.books.told), settlements=listed,
            )
        )  # fmt: skip
        # A price above the peak since the last mark is a new peak at this one.
        assert abs(drawdown(self.books.engine.context().equity) - max(Decimal(0), drawdown(before))) < Decimal("1e-9")
        found: Reconciled = one(Reconciled, out)
        return found.differences

    def settle_down(self) -> None:
        self.hidden.clear()
        self.unlisted.clear()

    def kill(self) -> None:
        self.books = self.books.restarted()
        self.requote()

    @property
    def equity(self) -> EquityView:
        self.requote()
        return self.books.engine.context().equity


def drawdown(view: EquityView) -> Decimal:
    assert view.equity_usd is not None
    assert view.peak_usd is not None
    return 1 - view.equity_usd / view.peak_usd


ACTIONS = st.lists(
    st.sampled_from(("transfer", "transfer", "trade", "read", "read", "show", "list", "kill")), min_size=1, max_size=40
)


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), ACTIONS)
def test_books_and_broker_end_equal_and_no_loss_is_moved(random: Random, actions: list[str]) -> None:
    bank, twin = Bank(random), Bank(Random(0))
    for action in actions:
        if action == "transfer":
            bank.transfer()
        elif action == "show":
            bank.hidden.clear()
        elif action == "list":
            bank.unlisted.clear()
        elif action == "kill":
            bank.kill()
        elif action == "trade":
            price = Decimal(random.randint(100, 900)) / 100
            twin.books.at_ns = bank.books.at_ns
            bank.trade(price)
            twin.trade(price)
        elif bank.read() == ():
            assert bank.books.ledger.cash_usd == CASH + bank.traded + bank.moved
    bank.settle_down()
    assert bank.read() == ()
    assert bank.books.ledger.cash_usd == CASH + bank.traded + bank.moved
    told = of(CashTransferred, bank.books.all)
    assert len({row.activity_id for row in told}) == len(told)
    assert sum((row.amount_usd for row in told), Decimal(0)) == bank.moved
    with_it, without = bank.equity, twin.equity
    figures = [(view.equity_usd, view.day_start_usd) for view in (with_it, without)]
    # Each by exactly what came and left; so the day's loss in dollars is what it is without.
    assert [a - b for a, b in zip(*figures, strict=True) if a is not None and b is not None] == [bank.moved] * 2
    assert with_it.realized_today_usd == without.realized_today_usd
    assert with_it.unrealized_usd == without.unrealized_usd
    assert of(TradeClosed, bank.books.all) == of(TradeClosed, twin.books.all)
    assert of(LatchChanged, bank.books.all) == []

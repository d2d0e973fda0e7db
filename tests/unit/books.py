"""A small house for the tests of execution: real engine, ledger, desk, account reader and reconciler, no risk.

``Bookkeeping`` holds structures as risk would have ordered them and gives account reports that agree with the books,
except where a test says otherwise.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from oracle.core.engine import Engine
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import Quote
from oracle.core.message import Message
from oracle.core.messages import (
    CashTransferred,
    EquityMarked,
    FeeCharged,
    ForeignExecution,
    LedgerSeeded,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    PositionSettled,
    SendOrder,
    SubmitOrder,
)
from oracle.core.reports import (
    AccountReported,
    BrokerLeg,
    BrokerOrder,
    BrokerPosition,
    BrokerSettlement,
    ExecutionReported,
    StructureExecuted,
)
from oracle.core.sessions import NS
from oracle.core.structures import legs_of
from oracle.core.vocabulary import Purpose, Side
from oracle.execution.account import AccountReader
from oracle.execution.desk import Desk
from oracle.execution.outcomes import as_traded
from oracle.execution.reconcile import Reconciler
from oracle.execution.works import DeskSettings
from tests.unit.builders import FEE, OPEN_NS, START_NS, TABLE, Chains, account, entry_order, of, one

CASH = Decimal(1_000_000)
CLOSE_NS = TABLE.sessions[0].close_ns


def broker_structure(
    sent: SendOrder, status: str = "new", filled: int = 0, legs: dict[str, int] | None = None
) -> BrokerOrder:
    """The broker's picture of a structure's order; ``legs`` are contracts filled by symbol where they are uneven."""
    symbol, side, limit = as_traded(sent)
    name = f"b-{sent.client_order_id}"
    rows = tuple(
        BrokerLeg(
            f"{name}-{n}", leg.symbol, leg.side, leg.ratio,
            Decimal(filled * leg.ratio if legs is None else legs.get(leg.symbol, 0)), None,
        )
        for n, leg in enumerate(legs_of(symbol))
    )  # fmt: skip
    return BrokerOrder(
        sent.client_order_id, name, symbol, side, "mleg", Decimal(sent.contracts), Decimal(filled), None, limit,
        "limit", status, START_NS, rows,
    )  # fmt: skip


def executed(
    sent: SendOrder, name: str, units: int, filled: int, prices: dict[str, str], at_ns: int = START_NS
) -> StructureExecuted:
    """One fill of all legs; ``filled`` is the broker's count of units after it, ``prices`` by right and strike."""
    order = broker_structure(sent, "filled" if filled == sent.contracts else "partially_filled", filled)
    legs = tuple(
        ExecutionReported(
            f"{name}-{leg.symbol}", order, leg.symbol, leg.side, Decimal(units * leg.ratio),
            Decimal(prices[f"{leg.symbol[9]}{int(leg.symbol[10:]) // 1000}"]), at_ns,
        )
        for leg in legs_of(order.symbol)
    )  # fmt: skip
    return StructureExecuted(legs)


def activity(
    kind: str, symbol: str, qty: int, cash: str = "0", price: str | None = None, name: str = ""
) -> BrokerSettlement:
    """One line of the account's history without an order."""
    told = f"20260105000000000::{name or kind + symbol}"
    return BrokerSettlement(
        told, kind, symbol, Decimal(qty), None if price is None else Decimal(price), Decimal(cash), "2026-01-05", ""
    )


class Bookkeeping:
    """The engine and its bookkeepers; ``told`` are all executions, ``all`` all messages."""

    def __init__(self) -> None:
        market, chains = MarketState(), Chains()
        self.ledger = Ledger()
        marks = Marks(market, chains, 15, self.ledger.held)
        self.equity = EquityKeeper(self.ledger, marks)
        self.engine = Engine(TABLE, market, chains, self.ledger, self.equity)
        self.desk, self.reader, self.reconciler = Desk(DeskSettings(FEE)), AccountReader(), Reconciler()
        for actor in (marks, self.desk, self.reader, self.reconciler):
            self.engine.bus.subscribe(actor.handlers())
        self.at_ns = START_NS
        self.all: list[Message] = []
        self.told: list[ExecutionReported] = []
        self.engine.start(OPEN_NS)

    def seeded(self) -> "Bookkeeping":
        self.tell(account(self.at_ns, str(CASH)))
        return self

    def tell(self, message: Any, after_s: float = 0) -> list[Message]:
        """Give an input to the engine; all that came of it."""
        self.at_ns += round(after_s * NS)
        out = [m for turn in self.engine.handle(self.at_ns, message) for m in turn.messages]
        self.all += [message, *out] if isinstance(message, SubmitOrder) else out
        return out

    def go_to(self, at_ns: int) -> list[Message]:
        """Let time pass to an instant; what due timers caused."""
        self.at_ns = max(self.at_ns, at_ns)
        out = [m for turn in self.engine.advance(self.at_ns) for m in turn.messages]
        self.all += out
        return out

    def spot(self, price: float) -> None:
        """Quote the underlying two cents wide."""
        self.tell(Quote("SPY", self.at_ns, price - 0.01, 100, price + 0.01, 100))

    def enter(self, symbol: str, units: int, prices: dict[str, str], number: int = 1) -> SendOrder:
        """Order a structure and have all of it filled at once."""
        order = entry_order(f"tok-20260105-bo-{number:06d}", units, symbol=symbol)
        sent: SendOrder = one(SendOrder, self.tell(order))
        fill = executed(sent, f"x{number}", units, units, prices, self.at_ns)
        self.told += fill.legs
        self.tell(fill)
        return sent

    def exit_order(self, symbol: str, units: int, number: int, trade: int = 1, side: Side = Side.SELL) -> SubmitOrder:
        """What risk would command to close a trade."""
        return entry_order(
            f"tok-20260105-bo-{number:06d}", units, symbol=symbol, side=side, exit_plan=None,
            trade_id=f"tok-20260105-bo-{trade:06d}", purpose=Purpose.STOP,
        )  # fmt: skip

    def report(
        self,
        gone: Iterable[str] = (),
        *,
        shares: int = 0,
        cash: Decimal | str | int = 0,
        activities: tuple[BrokerSettlement, ...] = (),
        after_s: float = 20,
        **changes: Any,
    ) -> AccountReported:
        """The books as the broker's, without the symbols that are ``gone``, with changes of shares and cash."""
        self.at_ns += round(after_s * NS)
        held = {p.symbol: p.qty for p in self.ledger.positions() if p.symbol not in gone}
        held["SPY"] = held.get("SPY", 0) + shares
        held |= changes.pop("qty", {})
        positions = tuple(BrokerPosition(s, Decimal(q), Decimal(1)) for s, q in sorted(held.items()) if q != 0)
        money = str(self.ledger.cash_usd + Decimal(cash))
        base: dict[str, Any] = {"positions": positions, "fills": tuple(self.told), "settlements": activities}
        return account(self.at_ns, money, **{**base, **changes})

    def restarted(self) -> "Bookkeeping":
        """A new process with what the store holds."""
        again = Bookkeeping()
        again.at_ns, again.told, again.all = self.at_ns, self.told, list(self.all)
        kinds = (LedgerSeeded, SubmitOrder, OrderFilled, OrderClosed, PositionSettled, FeeCharged, CashTransferred)
        books = [m for m in self.all if isinstance(m, kinds)]
        again.ledger.restore(books)
        marks = [n for n, m in enumerate(self.all) if isinstance(m, EquityMarked)]
        unmarked = of(CashTransferred, self.all[marks[-1] if marks else 0 :])
        seed = of(LedgerSeeded, self.all)
        again.equity.restore(of(EquityMarked, self.all)[-1:], seed[0] if seed else None, unmarked=unmarked)
        submits, advanced = of(SubmitOrder, self.all), of(OrderAdvanced, self.all)
        fills, ended, foreign = (of(k, self.all) for k in (OrderFilled, OrderClosed, ForeignExecution))
        settled = of(PositionSettled, self.all)
        again.desk.restore(submits, advanced, fills, ended, foreign, settled)
        again.reader.restore(submits, advanced, fills, ended)
        again.reconciler.restore(advanced, fills, foreign, settled)
        again.reconciler.restore_transfers(books)
        again.engine.start(self.at_ns)
        return again

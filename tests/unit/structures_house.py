"""A house for structures: engine, ledger and gate are real; what the desk and the broker would do is told by the test.

A condor of 0DTE SPY options: 580/585 puts and 615/620 calls, quoted so that its net mid is a credit of 1.00.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from oracle.core.engine import Engine
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import FeedChanged
from oracle.core.message import Message
from oracle.core.messages import Intent, Leg, OrderClosed, OrderFilled, PositionSettled, SubmitOrder
from oracle.core.ports import OptionQuote
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.structures import legs_of
from oracle.core.vocabulary import Ending, Feed, FeedState, Side
from oracle.execution.reconcile import Reconciler
from oracle.risk.gate import Gate
from tests.unit.builders import (
    OPEN_NS,
    START_NS,
    TABLE,
    Chains,
    House,
    account,
    chain_quotes,
    gate_settings,
    of,
    one,
    plan,
)

LONG_PUT, SHORT_PUT = "SPY260105P00580000", "SPY260105P00585000"
SHORT_CALL, LONG_CALL = "SPY260105C00615000", "SPY260105C00620000"
NAMED = {LONG_PUT: Side.BUY, SHORT_PUT: Side.SELL, SHORT_CALL: Side.SELL, LONG_CALL: Side.BUY}
# Mids of 0.20 and 0.70: a credit of 1.00, a spread of 0.02 in each leg.
QUOTES = {LONG_PUT: (0.19, 0.21), SHORT_PUT: (0.69, 0.71), SHORT_CALL: (0.69, 0.71), LONG_CALL: (0.19, 0.21)}
DELTAS = {LONG_PUT: -0.06, SHORT_PUT: -0.15, SHORT_CALL: 0.15, LONG_CALL: 0.06}
NAME = "SPY:-260105C615+260105C620+260105P580-260105P585"
# Quotes at which the target is met while nobody bids for the call wing, and the order that then leaves it out.
NO_WING = (None, 0.02)
TARGET_WITHOUT_WING = {SHORT_PUT: (0.19, 0.21), SHORT_CALL: (0.19, 0.21), LONG_CALL: NO_WING}
WITHOUT_WING = "SPY:-260105C615+260105P580-260105P585"


def condor_plan(**changes: Any) -> Any:
    """Half of the credit, a loss of twice the credit, a short delta of 0.40, flat at 15:00."""
    base = {"target_fraction": 0.5, "stop_fraction": 2.0, "breakeven_after_fraction": None, "direction": 0}
    return plan(**{**base, "short_delta_stop": 0.4, **changes})


def leg(symbol: str, side: Side, bid: float, ask: float, ratio: int = 1, at_ns: int = START_NS) -> Leg:
    """A leg with the quote that the decision saw."""
    return Leg(symbol, side, ratio, Decimal(str(bid)), Decimal(str(ask)), at_ns)


def condor(n: int = 1, at_ns: int = START_NS, **changes: Any) -> Intent:
    """The condor as an intent."""
    legs = tuple(leg(symbol, side, *QUOTES[symbol], at_ns=at_ns) for symbol, side in NAMED.items())
    made = Intent(
        intent_id=f"breakout:2026-01-05:SPY:{n}", strategy="breakout", strategy_hash="hash", underlying="SPY",
        legs=legs, exit_plan=condor_plan(), confidence=0.9, confidence_needed=0.8, reason="calm", facts={},
        valid_until_ns=at_ns + MINUTE_NS,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def held(units: int, **changes: int) -> dict[str, int]:
    """What so many condors hold of each contract, with what differs."""
    return {**{symbol: side.sign * units for symbol, side in NAMED.items()}, **changes}


class StructureHouse(House):
    """The house without a desk: ``done`` fills orders leg by leg, ``settle`` lets contracts end."""

    def __init__(self, cash: str = "100000", *, quoted: bool = True, seeded: bool = True) -> None:
        self.chains = Chains()
        self.chains.symbols = (*self.chains.symbols, *NAMED)
        self.market = MarketState()
        self.ledger = Ledger()
        marks = Marks(self.market, self.chains, 15, self.ledger.held)
        self.engine = Engine(TABLE, self.market, self.chains, self.ledger, EquityKeeper(self.ledger, marks))
        self.gate = Gate(gate_settings())
        self.reconciler = Reconciler()
        for actor in (marks, self.gate, self.reconciler):
            self.engine.bus.subscribe(actor.handlers())
        self.at_ns = START_NS
        self.all: list[Message] = []
        self.engine.start(OPEN_NS)
        for feed in Feed:
            self.tell(FeedChanged(feed, 1, FeedState.LIVE, "connected"))
        if seeded:
            self.tell(account(self.at_ns, cash))
        self.spot(600.0)
        self._fills = 0
        self._ended: set[str] = set()
        if quoted:
            self.requote()

    def requote(self, **quotes: tuple[float | None, float | None]) -> list[Message]:
        """Quote all legs anew, some of them otherwise."""
        for symbol in NAMED:
            bid, ask = quotes.get(symbol, QUOTES[symbol])
            self.chains.quotes[symbol] = OptionQuote(symbol, bid, 50, ask, 50, self.at_ns, self.at_ns)
            self.chains.deltas[symbol] = DELTAS[symbol]
        return self.tell(chain_quotes())

    def done(
        self, order: SubmitOrder, prices: Iterable[str] = (), units: int | None = None, *, end: str = "filled",
        only: Iterable[str] | None = None,
    ) -> list[Message]:  # fmt: skip
        """Fill units of an order in one turn each leg, then close it; ``only`` fills some of its legs."""
        given = dict(zip(sorted(NAMED), prices, strict=False))
        units = order.contracts if units is None else units
        out: list[Message] = []
        for part in legs_of(order.symbol):
            if units == 0 or (only is not None and part.symbol not in only):
                continue
            self._fills += 1
            side = part.side if order.side is Side.BUY else part.side.opposite
            price = Decimal(given.get(part.symbol, "0.50"))
            out += self.tell(
                OrderFilled(
                    f"x{self._fills}", order.order_id, f"{order.order_id}-1", "b", order.trade_id, order.strategy,
                    part.symbol, side, order.purpose, units * part.ratio, price, Decimal(0), Decimal(0), self.at_ns,
                )
            )  # fmt: skip
        self._ended.add(order.order_id)
        closed = OrderClosed(order.order_id, order.trade_id, order.purpose, units, order.contracts, end)
        return out + self.tell(closed)

    def settle(
        self, trade_id: str, symbol: str, contracts: int, ending: Ending = Ending.SOLD_OUT, price: str = "0",
        shares: int = 0, share_price: str | None = None,
    ) -> list[Message]:  # fmt: skip
        """Let contracts of a trade end without an order of ours."""
        self._fills += 1
        return self.tell(
            PositionSettled(
                f"s{self._fills}", trade_id, ending, symbol, contracts, Decimal(price), "SPY" if shares else "", shares,
                None if share_price is None else Decimal(share_price), Decimal(0), "positions", (), self.at_ns,
            )
        )  # fmt: skip

    def entered(self, intent: Intent | None = None) -> SubmitOrder:
        """Enter the condor at its mid: the order, whose trade is open now."""
        order: SubmitOrder = one(SubmitOrder, self.tell(intent or condor(at_ns=self.at_ns)))
        self.done(order, ("0.70", "0.20", "0.20", "0.70"))
        return order

    def entered_until_expiry(self) -> SubmitOrder:
        """Enter the condor with a plan that ends at its last close, and let that close pass."""
        order = self.entered(condor(exit_plan=condor_plan(flat_ns=TABLE.sessions[0].close_ns)))
        self.at_ns = TABLE.sessions[0].close_ns + NS
        return order

    def assigned(self, entry: SubmitOrder) -> int:
        """All legs but the short call expire, which is assigned at 615; how many units there were."""
        for symbol in NAMED:
            if symbol != SHORT_CALL:
                self.settle(entry.trade_id, symbol, entry.contracts, Ending.EXPIRED)
        shares = -100 * entry.contracts
        self.settle(entry.trade_id, SHORT_CALL, entry.contracts, Ending.ASSIGNED, shares=shares, share_price="615")
        return entry.contracts

    def open_orders(self) -> list[SubmitOrder]:
        """The orders that ``done`` has not ended."""
        return [order for order in self.orders() if order.order_id not in self._ended]

    def orders(self) -> list[SubmitOrder]:
        """Every order that the gate has made."""
        return of(SubmitOrder, self.all)

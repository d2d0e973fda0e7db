"""One round trip as the ledger keeps it: what went in and out of each leg, and what that comes to.

Inputs: the entry's command, executions of its orders, settlements. Outputs: TradeView, TradeClosed. Pure state, no
position or account-wide cash. Invariants: the result is the sum of the trade's own cash flows; a trade is flat when no
leg is held, shares included.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from oracle.core.instruments import multiplier
from oracle.core.messages import ExitPlan, OrderFilled, PositionSettled, SubmitOrder, TradeClosed
from oracle.core.money import ZERO
from oracle.core.ports import LegView, TradeView
from oracle.core.structures import OrderLeg, legs_of
from oracle.core.vocabulary import Ending, Purpose

# What the broker did to a trade by itself outlives the reason of the orders that clear away the rest of it.
_LASTING = (Ending.ASSIGNED, Ending.EXERCISED, Ending.SOLD_OUT, Ending.CASH_SETTLED)


@dataclass(slots=True)
class _Entered:
    """Contracts of one leg that entries have bought or sold, and their prices."""

    contracts: int = 0
    amount_usd: Decimal = ZERO  # sum of contracts x price, without the multiplier

    def add(self, contracts: int, price_usd: Decimal) -> None:
        self.contracts += contracts
        self.amount_usd += contracts * price_usd


@dataclass(slots=True)
class _Done:
    """What the executions of one order came to: contracts a leg, and the signed cost in dollars."""

    order: SubmitOrder
    contracts: dict[str, int] = field(default_factory=dict)
    cost_usd: Decimal = ZERO

    @property
    def units(self) -> int | None:
        """Whole units that were executed; None while the legs do not match."""
        legs = legs_of(self.order.symbol)
        units = min(self.contracts.get(leg.symbol, 0) // leg.ratio for leg in legs)
        return units if self.contracts == {leg.symbol: units * leg.ratio for leg in legs} else None


@dataclass(slots=True)
class Trade:
    """The private state of one round trip."""

    entry: SubmitOrder
    plan: ExitPlan
    opened_ns: int
    entry_over: bool
    legs: tuple[OrderLeg, ...] = ()
    held: dict[str, int] = field(default_factory=dict)
    fees_broker_usd: Decimal = ZERO
    fees_modelled_usd: Decimal = ZERO
    entry_cash_usd: Decimal = ZERO
    exit_cash_usd: Decimal = ZERO
    exit_rule: str = ""
    _entered: dict[str, _Entered] = field(default_factory=dict)
    _done: dict[str, _Done] = field(default_factory=dict)
    _exited: bool = False
    _ending: Ending | None = None
    _view: TradeView | None = None

    def __post_init__(self) -> None:
        self.legs = legs_of(self.entry.symbol)
        self._entered = {leg.symbol: _Entered() for leg in self.legs}

    @property
    def is_flat(self) -> bool:
        """Whether nothing is held, no leg and no share."""
        return not self.held

    def fill(self, order: SubmitOrder, fill: OrderFilled) -> None:
        """Take an execution of one of the trade's orders."""
        self._view = None
        cost = fill.side.sign * fill.contracts * fill.price_usd * multiplier(fill.symbol)
        if order.purpose is Purpose.ENTRY:
            self._entered.setdefault(fill.symbol, _Entered()).add(fill.contracts, fill.price_usd)
            self.entry_cash_usd -= cost
        else:
            self._exited = True
            self.exit_cash_usd -= cost
        self._hold(fill.symbol, fill.side.sign * fill.contracts)
        self.fees_broker_usd += fill.fees_broker_usd
        self.fees_modelled_usd += fill.fees_modelled_usd
        done = self._done.setdefault(order.order_id, _Done(order))
        done.contracts[fill.symbol] = done.contracts.get(fill.symbol, 0) + fill.contracts
        done.cost_usd += cost

    def settle(self, settled: PositionSettled) -> None:
        """Take what ended without an order of ours, of which at least as much is held, and the shares that came."""
        self._view = None
        leaving = settled.contracts if self.held[settled.symbol] > 0 else -settled.contracts
        self.exit_cash_usd += leaving * settled.price_usd * multiplier(settled.symbol)
        self._hold(settled.symbol, -leaving)
        if settled.share_price_usd is not None:
            self.exit_cash_usd -= settled.shares * settled.share_price_usd * multiplier(settled.shares_symbol)
            self._hold(settled.shares_symbol, settled.shares)
        self.fees_modelled_usd += settled.fees_modelled_usd
        self._note_ending(settled.ending)

    def _note_ending(self, ending: Ending) -> None:
        """Of several endings the gravest is told. What merely expires does not hide the exit that sold the rest."""
        if ending in _LASTING:
            if self._ending is None or _LASTING.index(ending) < _LASTING.index(self._ending):
                self._ending = ending
                self.exit_rule = ending.value
        elif self._ending is None and not (self._exited and self.exit_rule):
            self.exit_rule = ending.value

    def note_exit(self, rule: str) -> None:
        """Remember why it is being closed: the last reason stands, unless the broker ended part of it by itself.

        Once an exit has been filled and no whole unit is left, what closes the rest (a leg that nobody bid for, a leg
        that stayed alone) does not change why the trade was closed.
        """
        if self._ending is None and not (self._exited and self.exit_rule and self.units_open == 0):
            self.exit_rule = rule

    def end_entry(self) -> None:
        """No entry can come any more."""
        self.entry_over = True
        self._view = None

    def _hold(self, symbol: str, change: int) -> None:
        after = self.held.get(symbol, 0) + change
        if after == 0:
            del self.held[symbol]
        else:
            self.held[symbol] = after

    @property
    def units_entered(self) -> int:
        """Whole units that entries have brought."""
        return min(self._entered[leg.symbol].contracts // leg.ratio for leg in self.legs)

    @property
    def units_open(self) -> int:
        """Whole units that are held; of one contract also below zero, when more was sold than held."""
        sign = self.entry.side.sign
        whole = min(sign * leg.side.sign * self.held.get(leg.symbol, 0) // leg.ratio for leg in self.legs)
        return whole if len(self.legs) == 1 else max(whole, 0)

    @property
    def entry_price_usd(self) -> Decimal:
        """Net average price of a unit, over the legs that have been entered."""
        net = ZERO
        for leg in self.legs:
            entered = self._entered[leg.symbol]
            if entered.contracts > 0:
                net += leg.signed * (entered.amount_usd / entered.contracts)
        return net

    @property
    def cash_usd(self) -> Decimal:
        """What all flows have paid, before fees."""
        return self.entry_cash_usd + self.exit_cash_usd

    def view(self) -> TradeView:
        """What others may see of it."""
        if self._view is None:
            entry = self.entry
            self._view = TradeView(
                trade_id=entry.trade_id,
                strategy=entry.strategy,
                strategy_hash=entry.strategy_hash,
                underlying=entry.underlying,
                symbol=entry.symbol,
                side=entry.side,
                contracts_entered=self.units_entered,
                contracts_open=self.units_open,
                entry_price_usd=self.entry_price_usd,
                entry_done=self.entry_over,
                exit_plan=self.plan,
                planned_risk_usd=entry.planned_risk_usd,
                worst_case_usd=entry.worst_case_usd,
                opened_ns=self.opened_ns,
                legs=tuple(LegView(symbol, quantity) for symbol, quantity in sorted(self.held.items())),
                cash_usd=self.cash_usd,
            )
        return self._view

    def closed(self, at_ns: int) -> TradeClosed:
        """Tell what it came to.

        Prices are net per unit, and ``side x (exit - entry)`` of all units is the gross P&L. Of a structure that never
        was whole the units are those that its largest leg began.
        """
        entry, gross = self.entry, self.cash_usd
        units = self.units_entered or max(-(-self._entered[leg.symbol].contracts // leg.ratio) for leg in self.legs)
        whole = {symbol: flow.contracts for symbol, flow in self._entered.items()} == {
            leg.symbol: units * leg.ratio for leg in self.legs
        }
        price, scale = self.entry_price_usd, units * multiplier(entry.symbol)
        exit_price = entry.side.sign * self.exit_cash_usd / scale
        if not whole:
            exit_price = price + entry.side.sign * gross / scale
        slippage, slippage_bps = self._slippage()
        return TradeClosed(
            trade_id=entry.trade_id,
            strategy=entry.strategy,
            strategy_hash=entry.strategy_hash,
            underlying=entry.underlying,
            symbol=entry.symbol,
            contracts=units,
            opened_ns=self.opened_ns,
            closed_ns=at_ns,
            entry_price_usd=price,
            exit_price_usd=exit_price,
            gross_pnl_usd=gross,
            fees_broker_usd=self.fees_broker_usd,
            fees_modelled_usd=self.fees_modelled_usd,
            slippage_usd=slippage,
            slippage_bps=slippage_bps,
            exit_rule=self.exit_rule,
        )

    def _slippage(self) -> tuple[Decimal | None, float | None]:
        """Signed cost against the mids at decision, in dollars and basis points of them.

        Unknown of one order, or of legs without their partners, is unknown of the whole trade.
        """
        slippage, notional = ZERO, ZERO
        for done in self._done.values():
            mid, units = done.order.decision_mid_usd, done.units
            if mid is None or units is None:
                return None, None
            expected = mid * units * multiplier(done.order.symbol)
            slippage += done.cost_usd - done.order.side.sign * expected
            notional += abs(expected)
        return slippage, round(float(slippage / notional) * 10_000, 9) if notional > 0 else None

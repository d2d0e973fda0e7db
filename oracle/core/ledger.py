"""Positions, cash and round trips: a fold over fills and nothing else.

Inputs: LedgerSeeded, SubmitOrder (what a fill belongs to), OrderFilled, OrderClosed, ExitTriggered (why it ended),
fees of AccountReported, CashCorrected. Outputs: TradeOpened, TradeClosed, FeeCharged. Invariants: cash = opening cash -
sum(side x contracts x price x multiplier) - fees + corrections; an execution counts once; a trade closes when its entry
is over and it is flat.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from oracle.core.bus import HandlerTable
from oracle.core.errors import InvariantError, ProtocolError
from oracle.core.instruments import multiplier
from oracle.core.messages import (
    AccountReported,
    CashCorrected,
    ExitPlan,
    ExitTriggered,
    FeeCharged,
    LedgerSeeded,
    Message,
    OrderClosed,
    OrderFilled,
    PositionAdopted,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.money import ZERO
from oracle.core.ports import Context, PositionView, TradeView
from oracle.core.vocabulary import Purpose


@dataclass(slots=True)
class _Flow:
    """Contracts and money through one side of a trade."""

    contracts: int = 0
    amount_usd: Decimal = ZERO  # sum of contracts x price, without the multiplier

    def add(self, contracts: int, price_usd: Decimal) -> None:
        self.contracts += contracts
        self.amount_usd += contracts * price_usd

    @property
    def average_usd(self) -> Decimal:
        return self.amount_usd / self.contracts


@dataclass(slots=True)
class _Trade:
    """The private state of one round trip."""

    entry: SubmitOrder
    plan: ExitPlan
    bought_or_sold: _Flow = field(default_factory=_Flow)
    exited: _Flow = field(default_factory=_Flow)
    fees_broker_usd: Decimal = ZERO
    fees_modelled_usd: Decimal = ZERO
    slippage_usd: Decimal | None = ZERO
    mid_notional_usd: Decimal = ZERO
    opened_ns: int = 0
    entry_over: bool = False
    exit_rule: str = ""

    @property
    def open_contracts(self) -> int:
        return self.bought_or_sold.contracts - self.exited.contracts

    def book_slippage(self, order: SubmitOrder, fill: OrderFilled) -> None:
        """Add the signed cost against the mid at decision; unknown stays unknown for the whole trade."""
        if order.decision_mid_usd is None or self.slippage_usd is None:
            self.slippage_usd = None
            return
        units = fill.contracts * multiplier(fill.symbol)
        self.slippage_usd += fill.side.sign * (fill.price_usd - order.decision_mid_usd) * units
        self.mid_notional_usd += order.decision_mid_usd * units

    def view(self) -> TradeView:
        return TradeView(
            trade_id=self.entry.trade_id,
            strategy=self.entry.strategy,
            strategy_hash=self.entry.strategy_hash,
            underlying=self.entry.underlying,
            symbol=self.entry.symbol,
            side=self.entry.side,
            contracts_entered=self.bought_or_sold.contracts,
            contracts_open=self.open_contracts,
            entry_price_usd=self.bought_or_sold.average_usd,
            entry_done=self.entry_over,
            exit_plan=self.plan,
            planned_risk_usd=self.entry.planned_risk_usd,
            worst_case_usd=self.entry.worst_case_usd,
            opened_ns=self.opened_ns,
        )


class Ledger:
    """The books; satisfies ``ports.LedgerView``."""

    __slots__ = (
        "_cash_usd", "_costs", "_fees", "_orders", "_over", "_quantities", "_realized", "_realized_sum", "_seen",
        "_trades", "_views",
    )  # fmt: skip

    def __init__(self) -> None:
        self._cash_usd: Decimal | None = None
        self._orders: dict[str, SubmitOrder] = {}
        self._over: set[str] = set()
        self._trades: dict[str, _Trade] = {}
        self._seen: set[str] = set()
        self._fees: set[str] = set()
        self._quantities: dict[str, int] = {}
        self._costs: dict[str, Decimal] = {}
        self._realized: list[tuple[int, Decimal]] = []
        self._realized_sum: tuple[int, Decimal] | None = None
        self._views: tuple[TradeView, ...] | None = None

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (LedgerSeeded, self.on_seeded),
            (SubmitOrder, self.on_submit),
            (PositionAdopted, self.on_adopted),
            (OrderFilled, self.on_filled),
            (OrderClosed, self.on_order_closed),
            (ExitTriggered, self.on_exit_triggered),
            (AccountReported, self.on_account),
            (FeeCharged, self.on_fee),
            (CashCorrected, self.on_corrected),
        )

    def restore(self, books: Iterable[Message]) -> None:
        """Fold stored messages in order of commit, as after a restart; what they caused then is stored already."""
        for message in books:
            match message:
                case LedgerSeeded():
                    self._seed(message)
                case SubmitOrder():
                    self._orders[message.order_id] = message
                case OrderFilled():
                    self._fill(message)
                case OrderClosed():
                    self._end(message, 0)
                case ExitTriggered():
                    self._note_exit(message)
                case FeeCharged():
                    self._charge(message)
                case CashCorrected():
                    self._correct(message)
                case _:
                    pass

    def on_seeded(self, seed: LedgerSeeded, _context: Context) -> Iterable[Message]:
        """Set the opening cash, once."""
        self._seed(seed)
        return ()

    def _seed(self, seed: LedgerSeeded) -> None:
        if self._cash_usd is not None:
            raise InvariantError("ledger: seeded twice")
        self._cash_usd = seed.cash_usd

    def on_submit(self, order: SubmitOrder, _context: Context) -> Iterable[Message]:
        """Remember what coming fills belong to."""
        self._orders[order.order_id] = order
        return ()

    def on_adopted(self, adopted: PositionAdopted, _context: Context) -> Iterable[Message]:
        """Remember what the fills of an adoption belong to; a restart finds its order among all others."""
        self._orders[adopted.order.order_id] = adopted.order
        return ()

    def on_exit_triggered(self, exit_: ExitTriggered, _context: Context) -> Iterable[Message]:
        """Remember why a trade is being closed; the last reason stands."""
        self._note_exit(exit_)
        return ()

    def _note_exit(self, exit_: ExitTriggered) -> None:
        trade = self._trades.get(exit_.trade_id)
        if trade is not None:
            trade.exit_rule = exit_.rule

    def on_account(self, report: AccountReported, context: Context) -> Iterable[Message]:
        """Book fees that are new; at once, so that whoever compares cash in this turn sees them."""
        if self._cash_usd is None or report.text:
            return ()
        new = [
            FeeCharged(fee.activity_id, fee.symbol, fee.amount_usd, fee.text, context.at_ns, in_opening_cash=False)
            for fee in report.fees
            if fee.activity_id not in self._fees
        ]
        for fee in new:
            self._charge(fee)
        return new

    def on_fee(self, fee: FeeCharged, _context: Context) -> Iterable[Message]:
        """Remember fees that the opening cash holds; what ``on_account`` booked is known already."""
        self._charge(fee)
        return ()

    def _charge(self, fee: FeeCharged) -> None:
        if fee.activity_id in self._fees:
            return
        self._fees.add(fee.activity_id)
        if fee.in_opening_cash:
            return
        if self._cash_usd is None:
            raise ProtocolError("ledger: a fee before the opening cash is known")
        self._cash_usd -= fee.amount_usd
        self._realize(fee.at_ns, -fee.amount_usd)

    def on_corrected(self, correction: CashCorrected, _context: Context) -> Iterable[Message]:
        """Book what a round trip of others left, which an operator has taken over."""
        self._correct(correction)
        return ()

    def _correct(self, correction: CashCorrected) -> None:
        if self._cash_usd is None:
            raise ProtocolError("ledger: a correction before the opening cash is known")
        self._cash_usd += correction.amount_usd
        self._realize(correction.at_ns, correction.amount_usd)

    def on_filled(self, fill: OrderFilled, _context: Context) -> Iterable[Message]:
        """Book an execution: cash, position, trade.

        Raises:
            InvariantError: the execution was booked before, or its order was never submitted.
        """
        return self._fill(fill)

    def _fill(self, fill: OrderFilled) -> Iterable[Message]:
        if fill.execution_id in self._seen:
            raise InvariantError(f"ledger: execution {fill.execution_id} booked twice")
        order = self._orders.get(fill.order_id)
        if order is None:
            raise InvariantError(f"ledger: fill {fill.execution_id} of unknown order {fill.order_id}")
        self._seen.add(fill.execution_id)
        self._views = None
        self._book_position(fill)
        out: list[Message] = []
        trade = self._trades.get(fill.trade_id)
        if trade is None:
            if order.purpose is not Purpose.ENTRY or order.exit_plan is None:
                # The broker filled more than was held: the books follow it, and the reconcile shows the position.
                return ()
            # A fill can still arrive after an order's end was confirmed; its trade then needs no further entry.
            over = order.order_id in self._over
            trade = _Trade(order, order.exit_plan, opened_ns=fill.at_ns, entry_over=over)
            self._trades[fill.trade_id] = trade
            out.append(_opened(order, fill))
        flow = trade.bought_or_sold if order.purpose is Purpose.ENTRY else trade.exited
        flow.add(fill.contracts, fill.price_usd)
        trade.fees_broker_usd += fill.fees_broker_usd
        trade.fees_modelled_usd += fill.fees_modelled_usd
        trade.book_slippage(order, fill)
        out.extend(self._close_if_flat(trade, fill.at_ns))
        return out

    def on_order_closed(self, closed: OrderClosed, context: Context) -> Iterable[Message]:
        """An entry that is over lets its trade end once flat."""
        return self._end(closed, context.at_ns)

    def _end(self, closed: OrderClosed, at_ns: int) -> Iterable[Message]:
        self._over.add(closed.order_id)
        trade = self._trades.get(closed.trade_id)
        if trade is None or closed.purpose is not Purpose.ENTRY:
            return ()
        trade.entry_over = True
        self._views = None
        return self._close_if_flat(trade, at_ns)

    def _book_position(self, fill: OrderFilled) -> None:
        if self._cash_usd is None:
            raise ProtocolError("ledger: a fill before the opening cash is known")
        signed = fill.side.sign * fill.contracts
        self._cash_usd -= signed * fill.price_usd * multiplier(fill.symbol) + fill.fees_broker_usd
        held = self._quantities.get(fill.symbol, 0)
        before = self._costs.get(fill.symbol, ZERO)
        after = held + signed
        gain = ZERO
        if held * signed >= 0:
            cost = before + signed * fill.price_usd
        elif held * after >= 0:
            cost = before * after / held
            gain = -signed * fill.price_usd - (before - cost)
        else:
            cost = after * fill.price_usd
            gain = held * fill.price_usd - before
        self._realize(fill.at_ns, gain * multiplier(fill.symbol) - fill.fees_broker_usd)
        if after == 0:
            self._quantities.pop(fill.symbol, None)
            self._costs.pop(fill.symbol, None)
        else:
            self._quantities[fill.symbol] = after
            self._costs[fill.symbol] = cost

    def _realize(self, at_ns: int, amount_usd: Decimal) -> None:
        if amount_usd != ZERO:
            self._realized.append((at_ns, amount_usd))
            self._realized_sum = None

    def _close_if_flat(self, trade: _Trade, at_ns: int) -> Iterable[Message]:
        if not trade.entry_over or trade.open_contracts != 0:
            return ()
        del self._trades[trade.entry.trade_id]
        self._views = None
        units = multiplier(trade.entry.symbol)
        gross = trade.entry.side.sign * (trade.exited.amount_usd - trade.bought_or_sold.amount_usd) * units
        bps = None
        if trade.slippage_usd is not None and trade.mid_notional_usd > 0:
            bps = round(float(trade.slippage_usd / trade.mid_notional_usd) * 10_000, 9)
        return (
            TradeClosed(
                trade_id=trade.entry.trade_id,
                strategy=trade.entry.strategy,
                strategy_hash=trade.entry.strategy_hash,
                underlying=trade.entry.underlying,
                symbol=trade.entry.symbol,
                contracts=trade.bought_or_sold.contracts,
                opened_ns=trade.opened_ns,
                closed_ns=at_ns,
                entry_price_usd=trade.bought_or_sold.average_usd,
                exit_price_usd=trade.exited.average_usd,
                gross_pnl_usd=gross,
                fees_broker_usd=trade.fees_broker_usd,
                fees_modelled_usd=trade.fees_modelled_usd,
                slippage_usd=trade.slippage_usd,
                slippage_bps=bps,
                exit_rule=trade.exit_rule,
            ),
        )

    # ---------------------------------------------------------------------------------------------- the view

    @property
    def seeded(self) -> bool:
        """Whether the opening cash is known."""
        return self._cash_usd is not None

    @property
    def cash_usd(self) -> Decimal:
        """Cash by the ledger.

        Raises:
            ProtocolError: the opening cash is not known yet.
        """
        if self._cash_usd is None:
            raise ProtocolError("ledger: cash asked for before it is seeded")
        return self._cash_usd

    def realized_since(self, at_ns: int) -> Decimal:
        """P&L in dollars of what was closed from ``at_ns`` on, at average cost, net of the broker's fees."""
        if self._realized_sum is None or self._realized_sum[0] != at_ns:
            self._realized_sum = (at_ns, sum((usd for when, usd in self._realized if when >= at_ns), ZERO))
        return self._realized_sum[1]

    @property
    def held(self) -> Collection[str]:
        """The symbols that are not flat, in the order in which they came; what is returned follows the ledger."""
        return self._quantities.keys()

    def position(self, symbol: str) -> int:
        """Signed quantity held; 0 when flat."""
        return self._quantities.get(symbol, 0)

    def positions(self) -> Sequence[PositionView]:
        """All non-flat positions, sorted by symbol."""
        return [PositionView(s, q, self._costs[s] / q) for s, q in sorted(self._quantities.items())]

    def open_trades(self) -> Sequence[TradeView]:
        """All open trades, in order of trade id."""
        if self._views is None:
            self._views = tuple(t.view() for _, t in sorted(self._trades.items()))
        return self._views

    def trade(self, trade_id: str) -> TradeView | None:
        """An open trade, or None."""
        trade = self._trades.get(trade_id)
        return None if trade is None else trade.view()


def _opened(order: SubmitOrder, fill: OrderFilled) -> TradeOpened:
    return TradeOpened(order.trade_id, order.strategy, order.strategy_hash, order.underlying, order.symbol, fill.at_ns)

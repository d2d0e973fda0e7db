"""Positions, cash and round trips: a fold over fills and nothing else.

Inputs: LedgerSeeded, SubmitOrder (what a fill belongs to), OrderFilled, OrderClosed, ExitTriggered (why it ended),
PositionSettled, fees of AccountReported, CashCorrected, CashTransferred. Outputs: TradeOpened, TradeClosed, FeeCharged.
Invariants: cash = opening cash - sum(side x contracts x price x multiplier) - fees + corrections + transfers,
settlements included; an execution, a settlement or a transfer counts once; a transfer is no P&L; a trade closes when
its entry is over and every leg of it is flat.
"""

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal

from oracle.core.bus import HandlerTable
from oracle.core.errors import InvariantError, ProtocolError
from oracle.core.instruments import multiplier
from oracle.core.message import Message
from oracle.core.messages import (
    CashCorrected,
    CashTransferred,
    ExitTriggered,
    FeeCharged,
    LedgerSeeded,
    OrderClosed,
    OrderFilled,
    PositionAdopted,
    PositionSettled,
    SubmitOrder,
    TradeOpened,
)
from oracle.core.money import ZERO
from oracle.core.ports import Context, PositionView, TradeView
from oracle.core.reports import AccountReported
from oracle.core.trades import Trade
from oracle.core.vocabulary import Purpose


class Ledger:
    """The books; satisfies ``ports.LedgerView``."""

    __slots__ = (
        "_cash_usd", "_costs", "_fees", "_orders", "_over", "_quantities", "_realized", "_realized_sum", "_seen",
        "_settled", "_trades", "_transfers", "_views",
    )  # fmt: skip

    def __init__(self) -> None:
        self._cash_usd: Decimal | None = None
        self._orders: dict[str, SubmitOrder] = {}
        self._over: set[str] = set()
        self._trades: dict[str, Trade] = {}
        self._seen: set[str] = set()
        self._settled: set[str] = set()
        self._fees: set[str] = set()
        self._transfers: set[str] = set()
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
            (PositionSettled, self.on_settled),
            (CashCorrected, self.on_corrected),
            (CashTransferred, self.on_transferred),
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
                case PositionSettled():
                    self._settle(message)
                case CashCorrected():
                    self._correct(message)
                case CashTransferred():
                    self._transfer(message)
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
        """Remember why a trade is being closed; the last reason stands until only a rest of the trade is left."""
        self._note_exit(exit_)
        return ()

    def _note_exit(self, exit_: ExitTriggered) -> None:
        trade = self._trades.get(exit_.trade_id)
        if trade is not None:
            trade.note_exit(exit_.rule)

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

    def on_transferred(self, moved: CashTransferred, _context: Context) -> Iterable[Message]:
        """Book cash that came or left without a trade: it is nobody's gain.

        Raises:
            InvariantError: the activity was booked before.
        """
        self._transfer(moved)
        return ()

    def _transfer(self, moved: CashTransferred) -> None:
        if moved.activity_id in self._transfers:
            raise InvariantError(f"ledger: transfer {moved.activity_id} booked twice")
        if self._cash_usd is None:
            raise ProtocolError("ledger: a transfer before the opening cash is known")
        self._transfers.add(moved.activity_id)
        self._cash_usd += moved.amount_usd

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
        self._book(fill.symbol, fill.side.sign * fill.contracts, fill.price_usd, fill.fees_broker_usd, fill.at_ns)
        out: list[Message] = []
        trade = self._trades.get(fill.trade_id)
        if trade is None:
            if order.purpose is not Purpose.ENTRY or order.exit_plan is None:
                # The broker filled more than was held: the books follow it, and the reconcile shows the position.
                return ()
            # A fill can still arrive after an order's end was confirmed; its trade then needs no further entry.
            trade = Trade(order, order.exit_plan, fill.at_ns, order.order_id in self._over)
            self._trades[fill.trade_id] = trade
            out.append(_opened(order, fill))
        trade.fill(order, fill)
        out.extend(self._close_if_flat(trade, fill.at_ns))
        return out

    def on_settled(self, settled: PositionSettled, _context: Context) -> Iterable[Message]:
        """Book what ended without an order of ours: the contracts that left, and the shares that came.

        Raises:
            InvariantError: the settlement was booked before, or is of more than is held.
        """
        return self._settle(settled)

    def _settle(self, settled: PositionSettled) -> Iterable[Message]:
        if settled.settlement_id in self._settled:
            raise InvariantError(f"ledger: settlement {settled.settlement_id} booked twice")
        trade, position = self._trades.get(settled.trade_id), self._quantities.get(settled.symbol, 0)
        held = position if trade is None else trade.held.get(settled.symbol, 0)
        if settled.contracts > abs(held):
            raise InvariantError(f"ledger: {settled.settlement_id} settles {settled.contracts} of {held} held")
        self._settled.add(settled.settlement_id)
        self._views = None
        leaving = -settled.contracts if held > 0 else settled.contracts
        self._book(settled.symbol, leaving, settled.price_usd, ZERO, settled.at_ns)
        if settled.share_price_usd is not None:
            self._book(settled.shares_symbol, settled.shares, settled.share_price_usd, ZERO, settled.at_ns)
        if trade is None:
            return ()
        trade.settle(settled)
        return self._close_if_flat(trade, settled.at_ns)

    def on_order_closed(self, closed: OrderClosed, context: Context) -> Iterable[Message]:
        """An entry that is over lets its trade end once flat."""
        return self._end(closed, context.at_ns)

    def _end(self, closed: OrderClosed, at_ns: int) -> Iterable[Message]:
        self._over.add(closed.order_id)
        trade = self._trades.get(closed.trade_id)
        if trade is None or closed.purpose is not Purpose.ENTRY:
            return ()
        trade.end_entry()
        self._views = None
        return self._close_if_flat(trade, at_ns)

    def _book(self, symbol: str, signed: int, price_usd: Decimal, fee_usd: Decimal, at_ns: int) -> None:
        """Move cash and one position: ``signed`` units are bought or sold at a price, less a fee."""
        if self._cash_usd is None:
            raise ProtocolError("ledger: a fill before the opening cash is known")
        units = multiplier(symbol)
        self._cash_usd -= signed * price_usd * units + fee_usd
        held = self._quantities.get(symbol, 0)
        before = self._costs.get(symbol, ZERO)
        after = held + signed
        gain = ZERO
        if held * signed >= 0:
            cost = before + signed * price_usd
        elif held * after >= 0:
            cost = before * after / held
            gain = -signed * price_usd - (before - cost)
        else:
            cost = after * price_usd
            gain = held * price_usd - before
        self._realize(at_ns, gain * units - fee_usd)
        if after == 0:
            self._quantities.pop(symbol, None)
            self._costs.pop(symbol, None)
        else:
            self._quantities[symbol] = after
            self._costs[symbol] = cost

    def _realize(self, at_ns: int, amount_usd: Decimal) -> None:
        if amount_usd != ZERO:
            self._realized.append((at_ns, amount_usd))
            self._realized_sum = None

    def _close_if_flat(self, trade: Trade, at_ns: int) -> Iterable[Message]:
        if not trade.entry_over or not trade.is_flat:
            return ()
        del self._trades[trade.entry.trade_id]
        self._views = None
        return (trade.closed(at_ns),)

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

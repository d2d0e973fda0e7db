"""What one side of a comparison did: its trades with their fills, and what became of every intent and entry order.

Inputs: the messages of turns, recorded or played, and the state that a start loaded. Outputs: plain rows by trade.
Both sides are read by this same code. Invariant: a message that is told twice counts once.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec

from oracle.core.message import Message
from oracle.core.messages import (
    IntentApproved,
    IntentRefused,
    OrderClosed,
    OrderFilled,
    PositionAdopted,
    SubmitOrder,
    TradeClosed,
)
from oracle.core.trades import Trade
from oracle.core.vocabulary import Purpose, Side
from oracle.store.loading import Loaded

NEW_YORK = ZoneInfo("America/New_York")


class SideTrade(msgspec.Struct, frozen=True):
    """One round trip as one side had it. Times UTC ns, prices net USD per unit (a credit is negative), None unknown.

    ``decided_ns`` is when the entry was commanded, ``entry_ns`` its first fill; ``exit_decided_ns`` when the order that
    closed it was commanded (None: it ended without one), ``exit_ns`` when it was flat (None: still open). ``carried``:
    it was open when the first segment began. P&L is net of modelled fees, slippage as ``TradeClosed`` has it.
    """

    trade_id: str
    intent_id: str | None
    strategy: str
    underlying: str
    symbol: str
    side: Side
    carried: bool
    contracts: int
    decided_ns: int
    entry_ns: int
    entry_price_usd: Decimal
    exit_decided_ns: int | None = None
    exit_ns: int | None = None
    exit_price_usd: Decimal | None = None
    exit_rule: str | None = None
    net_pnl_usd: Decimal | None = None
    slippage_usd: Decimal | None = None
    slippage_bps: float | None = None

    def is_of(self, date: str) -> bool:
        """Whether it was entered or left on a New York date."""
        return date in (day_of(self.entry_ns), None if self.exit_ns is None else day_of(self.exit_ns))


class EntryOrders(msgspec.Struct, frozen=True):
    """Entry orders of a side: how many were commanded, filled at all, and their contracts."""

    orders: int
    filled: int
    contracts: int
    contracts_filled: int

    @property
    def fill_rate(self) -> float | None:
        """Filled contracts over ordered ones; None without an order."""
        return self.contracts_filled / self.contracts if self.contracts > 0 else None


@dataclass(slots=True)
class SideRecord:
    """Collects one side."""

    orders: dict[str, tuple[SubmitOrder, int]] = field(default_factory=dict)
    fills: dict[str, OrderFilled] = field(default_factory=dict)
    ends: dict[str, OrderClosed] = field(default_factory=dict)
    closed: dict[str, TradeClosed] = field(default_factory=dict)
    carried: frozenset[str] = frozenset()
    over_before: frozenset[str] = frozenset()
    _before: frozenset[str] = frozenset()
    _intents: dict[str, str] = field(default_factory=dict)
    _refused: dict[str, IntentRefused] = field(default_factory=dict)

    def begin(self, loaded: Loaded) -> None:
        """Take the state of the first start: what was over by then is not compared."""
        self.restore(loaded)
        self.carried = frozenset(trade.trade_id for trade in loaded.still_open)
        self.over_before = frozenset(self.closed) - self.carried
        self._before = frozenset(self.orders)

    def restore(self, loaded: Loaded) -> None:
        """Take the state of a start, which tells what the end of a torn segment has lost."""
        for order, at_ns in zip(loaded.submits, loaded.submitted_ns, strict=False):
            self.orders.setdefault(order.order_id, (order, at_ns))
        for message in (*loaded.fills, *loaded.order_ends, *loaded.closed):
            self.take(0, message)

    def take(self, at_ns: int, message: Message) -> None:
        """Take one message of a turn at ``at_ns``."""
        match message:
            case SubmitOrder():
                self.orders.setdefault(message.order_id, (message, at_ns))
            case PositionAdopted():
                self.orders.setdefault(message.order.order_id, (message.order, at_ns))
            case OrderFilled():
                self.fills.setdefault(message.execution_id, message)
            case OrderClosed():
                self.ends[message.order_id] = message
            case TradeClosed():
                self.closed[message.trade_id] = message
            case IntentApproved():
                self._intents.setdefault(message.decision_id, message.intent_id)
            case IntentRefused():
                self._refused.setdefault(message.intent_id, message)
            case _:
                pass

    def trades(self) -> list[SideTrade]:
        """All trades that were not over before the first start, by time of their first fill."""
        by_trade: dict[str, list[tuple[SubmitOrder, int]]] = {}
        for order, at_ns in self.orders.values():
            by_trade.setdefault(order.trade_id, []).append((order, at_ns))
        fills: dict[str, list[OrderFilled]] = {}
        for fill in self.fills.values():
            fills.setdefault(fill.trade_id, []).append(fill)
        rows = [
            self._trade(orders, fills[trade_id])
            for trade_id, orders in by_trade.items()
            if trade_id in fills and trade_id not in self.over_before
        ]
        return sorted((row for row in rows if row is not None), key=lambda row: (row.entry_ns, row.trade_id))

    def entries(self, date: str | None) -> EntryOrders:
        """Entry orders that were commanded after the first start, of one New York date or of all."""
        chosen = [
            order
            for order, at_ns in self.orders.values()
            if order.purpose is Purpose.ENTRY and order.order_id not in self._before
            and (date is None or day_of(at_ns) == date)
        ]  # fmt: skip
        filled = [self._units(order) for order in chosen]
        return EntryOrders(
            len(chosen), sum(units > 0 for units in filled), sum(order.contracts for order in chosen), sum(filled)
        )

    def instead(self, other: SideTrade) -> str:
        """What became here of a trade that only the other side had, in words."""
        if other.intent_id is None:
            return "its entry is not on record"
        for order, _ in self.orders.values():
            if order.purpose is Purpose.ENTRY and self._intents.get(order.decision_id) == other.intent_id:
                if self._units(order) > 0:
                    return "entered at another time"
                end = self.ends.get(order.order_id)
                return "order still worked at the end" if end is None else f"order not filled ({end.end})"
        refused = self._refused.get(other.intent_id)
        if refused is not None:
            return "refused: " + ", ".join(f"{r.rule} {r.observed}" for r in refused.refusals[:2])
        return "not wanted"

    def _trade(self, orders: list[tuple[SubmitOrder, int]], fills: list[OrderFilled]) -> SideTrade | None:
        entries = [row for row in orders if row[0].purpose is Purpose.ENTRY]
        filled = Counter(fill.order_id for fill in fills)
        if not any(filled[order.order_id] for order, _ in entries):
            return None
        (entry, decided_ns), known = entries[0], {order.order_id: order for order, _ in orders}
        if entry.exit_plan is None:
            return None
        trade = Trade(entry, entry.exit_plan, min(fill.at_ns for fill in fills), entry_over=True)
        for fill in fills:
            if fill.order_id in known:
                trade.fill(known[fill.order_id], fill)
        row = SideTrade(
            entry.trade_id, self._intents.get(entry.decision_id), entry.strategy, entry.underlying, entry.symbol,
            entry.side, entry.trade_id in self.carried, trade.units_entered, decided_ns, trade.opened_ns,
            trade.entry_price_usd,
        )  # fmt: skip
        closed = self.closed.get(entry.trade_id)
        if closed is None:
            return row
        exits = [at_ns for order, at_ns in orders if order.purpose is not Purpose.ENTRY and filled[order.order_id] > 0]
        return msgspec.structs.replace(
            row, contracts=closed.contracts, exit_decided_ns=max(exits, default=None), exit_ns=closed.closed_ns,
            exit_price_usd=closed.exit_price_usd, exit_rule=closed.exit_rule, net_pnl_usd=closed.net_pnl_usd,
            slippage_usd=closed.slippage_usd, slippage_bps=closed.slippage_bps,
        )  # fmt: skip

    def _units(self, order: SubmitOrder) -> int:
        """Whole units that an order brought: as its end says, else by its fills."""
        end = self.ends.get(order.order_id)
        if end is not None:
            return end.filled
        trade = Trade(order, order.exit_plan, 0, entry_over=True) if order.exit_plan is not None else None
        if trade is None:
            return 0
        for fill in self.fills.values():
            if fill.order_id == order.order_id:
                trade.fill(order, fill)
        return trade.units_entered


def day_of(at_ns: int) -> str:
    """The New York date of an instant."""
    return dt.datetime.fromtimestamp(at_ns // 10**9, NEW_YORK).date().isoformat()


def take_all(record: SideRecord, at_ns: int, messages: Iterable[Message]) -> None:
    """Take all messages of a turn."""
    for message in messages:
        record.take(at_ns, message)

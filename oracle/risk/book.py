"""What risk remembers of its own commands: working orders, intents decided, orders sent, premium just spent.

Inputs: orders as the gate makes them, and the desk's OrderAdvanced, OrderFilled and OrderClosed. Outputs: look-ups.
Invariant: an order counts from the moment it is made, so two intents of one turn cannot use the same headroom.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from oracle.core.errors import InvariantError
from oracle.core.instruments import CONTRACT_MULTIPLIER
from oracle.core.messages import CancelOrder, OrderAdvanced, OrderClosed, OrderFilled, SubmitOrder, TradeOpened
from oracle.core.money import ZERO
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.structures import legs_of, payoff
from oracle.core.vocabulary import OrderState, Purpose
from oracle.risk.stored import Stored

# The broker's report may be this much older than its arrival; premium committed since then is not in it yet.
REPORT_LAG_NS = 5 * NS
# An entry whose cancel is not confirmed holds an exit of its contract back this long at most: a broker that refuses
# the crossing order says so, but a position without its stop says nothing.
HOLD_BACK_NS = 20 * NS


@dataclass(slots=True)
class Working:
    """An order whose end is not known yet. ``leg_fills`` counts each leg's contracts."""

    order: SubmitOrder
    leg_fills: Counter[str] = field(default_factory=Counter)
    cancel_asked: bool = False
    holding_back_ns: int | None = None

    @property
    def filled(self) -> int:
        """Whole units that are filled."""
        return min(self.leg_fills[leg.symbol] // leg.ratio for leg in legs_of(self.order.symbol))

    @property
    def left(self) -> int:
        """Units that may still fill."""
        return max(self.order.contracts - self.filled, 0)

    @property
    def worst_each_usd(self) -> Decimal:
        """Worst case of one unit still working; zero for exits.

        Raises:
            InvariantError: an entry's loss has no bound, which no rule lets through.
        """
        if self.order.purpose is not Purpose.ENTRY or self.order.worst_price_usd is None:
            return ZERO
        worst = payoff(legs_of(self.order.symbol), self.order.worst_price_usd).max_loss_usd
        if worst is None:
            raise InvariantError(f"order {self.order.order_id} works an entry whose loss has no bound")
        return worst

    @property
    def planned_each_usd(self) -> Decimal:
        """Planned loss of one unit still working; zero for exits."""
        plan, worst = self.order.exit_plan, self.order.worst_price_usd
        if plan is None or self.order.purpose is not Purpose.ENTRY or worst is None:
            return ZERO
        prices = [abs(worst), *(abs(step.limit_usd) for step in self.order.ladder if step.limit_usd is not None)]
        planned = max(prices) * CONTRACT_MULTIPLIER * Decimal(repr(plan.stop_fraction))
        return min(planned, self.worst_each_usd)


@dataclass(slots=True)
class OrderBook:
    """The gate's memory of orders; ``unknown`` are client order ids, oldest first. Times are UTC ns."""

    working: dict[str, Working] = field(default_factory=dict)
    entries: dict[str, SubmitOrder] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)
    decided: set[str] = field(default_factory=set)
    opened: list[tuple[int, str, str]] = field(default_factory=list)
    _sent_ns: deque[int] = field(default_factory=deque)
    _spent: dict[str, tuple[int, Decimal]] = field(default_factory=dict)

    def add(self, order: SubmitOrder, at_ns: int) -> None:
        """Count a new order."""
        self.restore(order)
        self._sent_ns.append(at_ns)
        if order.purpose is Purpose.ENTRY:
            self._spent[order.order_id] = (at_ns, order.worst_case_usd)

    def restore(self, order: SubmitOrder) -> None:
        """Count an order of before the restart; its fills and end follow."""
        self.working[order.order_id] = Working(order)
        if order.purpose is Purpose.ENTRY:
            self.entries[order.trade_id] = order

    def rebuild(self, stored: Stored) -> None:
        """Take over what the store gives back after a restart."""
        ended = {end.order_id for end in stored.ended}
        for order in stored.orders:
            self.restore(order)
        for fill in stored.fills:
            self.filled(fill)
        for end in stored.ended:
            self.closed(end)
        for step in stored.advanced:
            if step.order_id not in ended:
                self.advanced(step, 0)
        times = zip(stored.orders, stored.submitted_ns, strict=False)
        self.recall(tuple(times), zip(stored.advanced, stored.advanced_ns, strict=False), stored.ended)
        self.decided.update(intent.intent_id for intent in stored.intents)
        for opened in stored.opened:
            self.trade_opened(opened)

    def filled(self, fill: OrderFilled) -> None:
        """Shrink what may still fill."""
        record = self.working.get(fill.order_id)
        if record is not None:
            record.leg_fills[fill.symbol] += fill.contracts

    def advanced(self, step: OrderAdvanced, at_ns: int) -> None:
        """Follow attempts: the desk's further attempts count as orders, and unknown ones are kept."""
        if step.to_state is OrderState.UNKNOWN:
            self.unknown[step.client_order_id] = None
        else:
            self.unknown.pop(step.client_order_id, None)
        if step.to_state is OrderState.SENT and step.attempt > 1:
            self._sent_ns.append(at_ns)

    def closed(self, end: OrderClosed) -> Working | None:
        """Forget a working order and return it; its unfilled premium is free again."""
        record = self.working.pop(end.order_id, None)
        spent = self._spent.get(end.order_id)
        if spent is not None and record is not None:
            self._spent[end.order_id] = (spent[0], end.filled * record.worst_each_usd)
        return record

    def trade_opened(self, opened: TradeOpened) -> None:
        """Count a round trip."""
        if all(trade_id != opened.trade_id for _, _, trade_id in self.opened):
            self.opened.append((opened.at_ns, opened.strategy, opened.trade_id))

    def prune(self, date: str, open_ns: int, open_trades: Iterable[str]) -> None:
        """Drop what a session does not need: intent ids carry their date, round trips count per session."""
        self.opened = [row for row in self.opened if row[0] >= open_ns]
        keep = {record.order.trade_id for record in self.working.values()} | set(open_trades)
        keep.update(trade_id for _, _, trade_id in self.opened)  # a restart within the session opens it once more
        self.entries = {trade_id: order for trade_id, order in self.entries.items() if trade_id in keep}
        self.decided = {intent_id for intent_id in self.decided if f":{date}:" in intent_id}

    def entering(self) -> Iterator[Working]:
        """Working entries, in order of submission."""
        return (w for w in self.working.values() if w.order.purpose is Purpose.ENTRY)

    def cancel(self, records: Iterable[Working], reason: str) -> list[CancelOrder]:
        """Ask for cancels, once per order."""
        out = []
        for record in records:
            if not record.cancel_asked:
                record.cancel_asked = True
                out.append(CancelOrder(record.order.order_id, reason))
        return out

    def holds_back(self, record: Working, at_ns: int) -> bool:
        """Whether an exit that is wanted must still wait for this working entry's end; for a limited time only."""
        if record.holding_back_ns is None:
            record.holding_back_ns = at_ns
        return at_ns - record.holding_back_ns < HOLD_BACK_NS

    def recall(
        self, orders: Sequence[tuple[SubmitOrder, int]], advanced: Iterable[tuple[OrderAdvanced, int]],
        ended: Iterable[OrderClosed],
    ) -> None:  # fmt: skip
        """Take over when orders and attempts of before a restart were made: rates and premium count on. UTC ns."""
        sent = [at_ns for _, at_ns in orders]
        sent += [at_ns for step, at_ns in advanced if step.to_state is OrderState.SENT and step.attempt > 1]
        self._sent_ns = deque(sorted(sent))
        over = {end.order_id: end.filled for end in ended}
        for order, at_ns in orders:
            if order.purpose is Purpose.ENTRY:
                each_usd = Working(order).worst_each_usd
                filled = over.get(order.order_id)
                self._spent[order.order_id] = (at_ns, order.worst_case_usd if filled is None else filled * each_usd)

    def orders_last_min(self, at_ns: int) -> int:
        """Orders and further attempts in the last 60 s, whatever their purpose."""
        while self._sent_ns and self._sent_ns[0] <= at_ns - MINUTE_NS:
            self._sent_ns.popleft()
        return len(self._sent_ns)

    def round_trips(self, strategy: str, since_ns: int, underlying: str | None = None) -> int:
        """A strategy's trades opened since an instant, and entries not yet filled; in one underlying or all."""
        trades = {t for at_ns, s, t in self.opened if s == strategy and at_ns >= since_ns}
        trades.update(w.order.trade_id for w in self.entering() if w.order.strategy == strategy)
        if underlying is None:
            return len(trades)
        return sum(t in self.entries and self.entries[t].underlying == underlying for t in trades)

    def unreported_usd(self, report_ns: int) -> Decimal:
        """Premium committed since the broker's last account report; older rows are dropped once they are over."""
        cut_ns = report_ns - REPORT_LAG_NS
        self._spent = {o: row for o, row in self._spent.items() if row[0] >= cut_ns}
        return sum((usd for _, usd in self._spent.values()), ZERO)

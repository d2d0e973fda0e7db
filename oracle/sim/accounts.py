"""The account: cash, positions, activities. Pure state; money is Decimal, exact.

Inputs: executions, fees, settlements. Invariant: cash changes by exactly −sign × quantity × price × multiplier − fees.
A position's cost is carried as a total, so averages never accumulate rounding.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from oracle.core.errors import InvariantError
from oracle.core.instruments import multiplier
from oracle.core.money import ZERO
from oracle.sim.shapes import money, new_york, rfc3339


@dataclass(slots=True)
class Position:
    """Signed quantity of one symbol; ``cost_usd`` is what it cost (negative for a short: what was received)."""

    symbol: str
    quantity: int
    cost_usd: Decimal

    @property
    def average_price(self) -> Decimal:
        """Average entry price per share."""
        return abs(self.cost_usd) / (abs(self.quantity) * multiplier(self.symbol))


@dataclass(slots=True)
class Activity:
    """One line of the account's history; they sort by (time, sequence)."""

    id: str
    kind: str
    at_ns: int
    sequence: int
    body: dict[str, Any]


@dataclass(slots=True)
class Account:
    """Cash, positions and history of one account; ``unlisted`` are activities (when, kind, id, body) not yet shown."""

    id: str
    number: str
    created_ns: int
    cash_usd: Decimal
    last_equity_usd: Decimal
    fees_usd: Decimal = ZERO
    positions: dict[str, Position] = field(default_factory=dict)
    activities: list[Activity] = field(default_factory=list)
    unlisted: list[tuple[int, str, str, dict[str, Any]]] = field(default_factory=list)
    equity_history: list[tuple[int, Decimal]] = field(default_factory=list)

    def quantity(self, symbol: str) -> int:
        """Signed quantity held, zero when flat."""
        held = self.positions.get(symbol)
        return 0 if held is None else held.quantity

    def quantities(self) -> dict[str, int]:
        """Signed quantities by symbol."""
        return {symbol: p.quantity for symbol, p in self.positions.items()}

    def trade(self, symbol: str, sign: int, quantity: int, price: Decimal, fee_usd: Decimal) -> None:
        """Apply one execution of one symbol; through zero it closes first and opens with the rest.

        Raises:
            InvariantError: the quantity is not positive.
        """
        if quantity <= 0:
            raise InvariantError(f"{symbol}: a trade of {quantity}")
        self.cash_usd -= sign * price * quantity * multiplier(symbol) + fee_usd
        self.fees_usd += fee_usd
        held = self.positions.get(symbol)
        if held is not None and (held.quantity > 0) != (sign > 0):
            closing = min(quantity, abs(held.quantity))
            self._reduce(held, closing)
            quantity -= closing
            held = None
        if quantity == 0:
            return
        value = sign * price * quantity * multiplier(symbol)
        if held is None:
            self.positions[symbol] = Position(symbol, sign * quantity, value)
        else:
            held.quantity += sign * quantity
            held.cost_usd += value

    def _reduce(self, held: Position, quantity: int) -> None:
        size = abs(held.quantity)
        if quantity == size:
            del self.positions[held.symbol]
            return
        held.cost_usd = (held.cost_usd * (size - quantity) / size).quantize(Decimal("0.000001"))
        held.quantity += -quantity if held.quantity > 0 else quantity

    def remove(self, symbol: str, quantity: int) -> None:
        """Take contracts away without cash, whatever their side: exercise and assignment pay in shares.

        Raises:
            InvariantError: more are taken than are held.
        """
        held = self.positions.get(symbol)
        if held is None or quantity > abs(held.quantity):
            raise InvariantError(f"{symbol}: {quantity} taken away, more than are held")
        self._reduce(held, quantity)

    def settle(self, symbol: str, price: Decimal) -> Decimal:
        """Close a whole position at a settlement price and return the cash received (negative: paid)."""
        held = self.positions.pop(symbol)
        value = price * held.quantity * multiplier(symbol)
        self.cash_usd += value
        return value

    def record(self, kind: str, at_ns: int, id_text: str, body: dict[str, Any]) -> None:
        """Append a line of history; ``id_text`` is the UUID part of its id."""
        stamp = new_york(at_ns).strftime("%Y%m%d%H%M%S%f")[:17]
        self._append(kind, at_ns, {"id": f"{stamp}::{id_text}", "activity_type": kind, **body})

    def _append(self, kind: str, at_ns: int, line: dict[str, Any]) -> None:
        self.activities.append(Activity(line["id"], kind, at_ns, len(self.activities), line))

    def reveal(self, now_ns: int) -> None:
        """List the activities that were held back until now; they count as of the moment at which they were due."""
        due = [row for row in self.unlisted if row[0] <= now_ns]
        self.unlisted = [row for row in self.unlisted if row[0] > now_ns]
        for at_ns, kind, id_text, body in due:
            stamp = body["date"].replace("-", "") + "0" * 9
            self._append(kind, at_ns, {"id": f"{stamp}::{id_text}", "activity_type": kind, **body})

    def record_fill(
        self,
        at_ns: int,
        id_text: str,
        *,
        symbol: str,
        side: str,
        price: Decimal,
        quantity: int,
        order: dict[str, Any],
    ) -> None:
        """Append a FILL; ``order`` holds order_id, cum_qty, leaves_qty, order_status and type."""
        body = {"transaction_time": rfc3339(at_ns), "price": money(price), "qty": str(quantity), "side": side}
        self.record("FILL", at_ns, id_text, {**body, "symbol": symbol, **order})

    def record_event(
        self,
        kind: str,
        at_ns: int,
        id_text: str,
        *,
        net_usd: Decimal,
        description: str,
        symbol: str | None = None,
        quantity: int | None = None,
        price: Decimal | None = None,
        due_ns: int | None = None,
    ) -> None:
        """Append a non-trade activity (OPEXP, OPASN, FEE and the like).

        One with ``due_ns`` is listed from then on, under an id that tells its date alone, as the vendor's are.
        """
        body: dict[str, Any] = {"date": new_york(at_ns).date().isoformat(), "net_amount": money(net_usd)}
        body["description"] = description
        if symbol is not None:
            body["symbol"] = symbol
        if quantity is not None:
            body["qty"] = str(quantity)
        if price is not None:
            body["price"] = money(price)
        body["status"] = "executed"
        if due_ns is None:
            self.record(kind, at_ns, id_text, body)
        else:
            self.unlisted.append((due_ns, kind, id_text, body))
            self.reveal(at_ns)

"""Orders of the exchange: their state, the table of their life, and Alpaca's JSON of them.

A simple order has one leg inside; an mleg order has two to four and its parent shows no symbol or side. Quantities are
whole units; ``filled_value`` is units × net price. Invariant: ``filled`` never exceeds ``qty``.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from oracle.core.errors import InvariantError
from oracle.core.instruments import is_option
from oracle.core.money import ZERO
from oracle.sim.matching import Line
from oracle.sim.shapes import money, rfc3339, rfc3339_or_none

ZERO_UUID = "00000000-0000-0000-0000-000000000000"

# (status, event) -> status. "accepted" is an order that waits for the session; "pending_new" one on its way to a venue.
LIFE: dict[tuple[str, str], str] = {
    ("accepted", "new"): "new",
    ("pending_new", "new"): "new",
    ("new", "partial_fill"): "partially_filled",
    ("new", "fill"): "filled",
    ("partially_filled", "partial_fill"): "partially_filled",
    ("partially_filled", "fill"): "filled",
    ("accepted", "rejected"): "rejected",
    ("pending_new", "rejected"): "rejected",
    ("accepted", "canceled"): "canceled",
    ("pending_new", "canceled"): "canceled",
    ("new", "canceled"): "canceled",
    ("partially_filled", "canceled"): "canceled",
    ("accepted", "expired"): "expired",
    ("new", "expired"): "expired",
    ("partially_filled", "expired"): "expired",
    ("new", "replaced"): "replaced",
    ("partially_filled", "replaced"): "replaced",
}
DONE = frozenset({"filled", "canceled", "expired", "replaced", "rejected"})


@dataclass(slots=True)
class OrderLeg:
    """One symbol of an order and what was done in it (``filled`` in contracts or shares)."""

    id: str
    client_order_id: str
    asset_id: str
    line: Line
    intent: str
    filled: int = 0
    filled_value: Decimal = ZERO

    @property
    def side(self) -> str:
        """``buy`` or ``sell``."""
        return "buy" if self.line.sign > 0 else "sell"

    @property
    def closes(self) -> bool:
        """Whether the leg reduces a position."""
        return self.intent.endswith("_to_close")


@dataclass(slots=True)
class Order:
    """One order of the account. Times are UTC ns of exchange time; ``sequence`` is the order of acceptance.

    ``most`` is how many units the market gives it, where a fault limits them.
    """

    id: str
    client_order_id: str
    sequence: int
    order_class: str
    type: str
    tif: str
    qty: int
    legs: list[OrderLeg]
    limit_price: Decimal | None
    stop_price: Decimal | None
    extended_hours: bool
    status: str
    created_ns: int
    updated_ns: int
    expires_ns: int
    hold_usd: Decimal = ZERO
    source: str | None = None
    triggered: bool = False
    resting: bool = False
    most: int | None = None
    filled: int = 0
    filled_value: Decimal = ZERO
    stamps: dict[str, int] = field(default_factory=dict)
    replaces: str | None = None
    replaced_by: str | None = None

    @property
    def is_mleg(self) -> bool:
        """Whether the legs fill together at a net price."""
        return self.order_class == "mleg"

    @property
    def left(self) -> int:
        """Units not yet filled."""
        return self.qty - self.filled

    @property
    def fillable(self) -> int:
        """Units that may still fill: those left, or fewer where a fault limits them."""
        return self.left if self.most is None else min(self.left, max(0, self.most - self.filled))

    @property
    def working(self) -> bool:
        """Whether the order can still change."""
        return self.status not in DONE

    @property
    def lines(self) -> list[Line]:
        """What matching needs of the legs."""
        return [leg.line for leg in self.legs]

    @property
    def net_limit(self) -> Decimal | None:
        """The most paid per unit (negative: least received, negated), or None for a market order."""
        if self.limit_price is None:
            return None
        return self.limit_price if self.is_mleg else self.limit_price * self.legs[0].line.sign

    @property
    def waits_for_stop(self) -> bool:
        """Whether a stop has not triggered yet."""
        return self.stop_price is not None and not self.triggered

    def held_units(self, symbol: str, sign: int) -> int:
        """Contracts or shares of ``symbol`` that this order still wants to close on one side."""
        return sum(
            leg.line.ratio * self.left
            for leg in self.legs
            if leg.line.symbol == symbol and leg.line.sign == sign and leg.closes
        )

    def move(self, event: str, at_ns: int) -> None:
        """Apply an event of the table.

        Raises:
            InvariantError: the table has no such row.
        """
        after = LIFE.get((self.status, event))
        if after is None:
            raise InvariantError(f"order {self.id} cannot take {event} in status {self.status}")
        self.status = after
        self.updated_ns = at_ns
        if after in DONE:
            self.stamps[after] = at_ns

    def record_fill(self, units: int, prices: tuple[Decimal, ...], net: Decimal) -> None:
        """Add an execution to the order and its legs.

        Raises:
            InvariantError: more is filled than was ordered.
        """
        if units > self.left:
            raise InvariantError(f"order {self.id} overfilled by {units - self.left}")
        self.filled += units
        self.filled_value += net * units
        for leg, price in zip(self.legs, prices, strict=True):
            quantity = units * leg.line.ratio
            leg.filled += quantity
            leg.filled_value += price * quantity


def _average(value: Decimal, quantity: int) -> str | None:
    return money((value / quantity).quantize(Decimal("0.000001"))) if quantity else None


def _common(order: Order) -> dict[str, Any]:
    stamps = order.stamps
    return {
        "created_at": rfc3339(order.created_ns),
        "updated_at": rfc3339(order.updated_ns),
        "submitted_at": rfc3339(order.created_ns),
        "filled_at": rfc3339_or_none(stamps.get("filled")),
        "expired_at": rfc3339_or_none(stamps.get("expired")),
        "expires_at": rfc3339(order.expires_ns),
        "canceled_at": rfc3339_or_none(stamps.get("canceled")),
        "failed_at": rfc3339_or_none(stamps.get("rejected")),
        "replaced_at": rfc3339_or_none(stamps.get("replaced")),
        "notional": None,
        "order_class": order.order_class,
        "time_in_force": order.tif,
        "status": order.status,
        "extended_hours": order.extended_hours,
        "trail_percent": None,
        "trail_price": None,
        "hwm": None,
        "subtag": None,
        "source": order.source,
    }


def leg_json(order: Order, leg: OrderLeg) -> dict[str, Any]:
    """One leg of an mleg order as an order of its own."""
    return {
        **_common(order),
        "id": leg.id,
        "client_order_id": leg.client_order_id,
        "replaced_by": None,
        "replaces": None,
        "asset_id": leg.asset_id,
        "symbol": leg.line.symbol,
        "asset_class": "us_option",
        "qty": str(order.qty * leg.line.ratio),
        "filled_qty": str(leg.filled),
        "filled_avg_price": _average(leg.filled_value, leg.filled),
        "order_type": "",
        "type": "",
        "side": leg.side,
        "position_intent": leg.intent,
        "limit_price": None,
        "stop_price": None,
        "legs": None,
        "ratio_qty": str(leg.line.ratio),
    }


def order_json(order: Order, on_stream: bool = False) -> dict[str, Any]:
    """Alpaca's JSON of an order; on the stream the parent of an mleg shows the zero asset id."""
    body = _common(order)
    body |= {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "replaced_by": order.replaced_by,
        "replaces": order.replaces,
        "qty": str(order.qty),
        "filled_qty": str(order.filled),
        "filled_avg_price": _average(order.filled_value, order.filled),
        "order_type": order.type,
        "type": order.type,
        "limit_price": None if order.limit_price is None else money(order.limit_price),
        "stop_price": None if order.stop_price is None else money(order.stop_price),
    }
    if order.is_mleg:
        legs = [leg_json(order, leg) for leg in order.legs]
        blank = ZERO_UUID if on_stream else ""
        return body | {
            "asset_id": blank,
            "symbol": "",
            "asset_class": "",
            "side": "",
            "position_intent": "",
            "legs": legs,
        }
    leg = order.legs[0]
    option = is_option(leg.line.symbol)
    body |= {
        "asset_id": leg.asset_id,
        "symbol": leg.line.symbol,
        "asset_class": "us_option" if option else "us_equity",
        "side": leg.side,
        "position_intent": leg.intent,
        "legs": None,
    }
    return body

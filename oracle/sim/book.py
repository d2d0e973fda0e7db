"""All orders of the account: by id, by client id, by leg, working ones in order of acceptance. Pure state.

Invariant: a client_order_id is used once for ever; ``working`` holds exactly the orders that can still change.
"""

from collections.abc import Collection
from typing import Any

from oracle.sim.errors import RefusedError, invalid, not_found
from oracle.sim.orders import Order, leg_json, order_json


class OrderBook:
    """Orders and their indexes."""

    __slots__ = ("_client_ids", "_legs", "orders", "working")

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.working: dict[str, Order] = {}
        self._client_ids: dict[str, str] = {}
        self._legs: dict[str, tuple[str, int]] = {}

    def check_client_id(self, client_order_id: str) -> None:
        """Refuse a client_order_id that was ever used."""
        if client_order_id in self._client_ids:
            raise invalid("client_order_id must be unique")

    def add(self, order: Order) -> None:
        """Index a new order."""
        self.orders[order.id] = order
        self.working[order.id] = order
        self._client_ids[order.client_order_id] = order.id
        if order.is_mleg:
            for index, leg in enumerate(order.legs):
                self._legs[leg.id] = (order.id, index)
                self._client_ids[leg.client_order_id] = leg.id

    def settle(self, order: Order) -> None:
        """Take an order that is done out of the working set."""
        if not order.working:
            self.working.pop(order.id, None)

    def find(self, order_id: str) -> Order:
        """The order of an id.

        Raises:
            RefusedError: 404, unknown.
        """
        found = self.orders.get(order_id.lower())
        if found is None:
            raise not_found(f"order not found for {order_id}")
        return found

    def named(self, name: str) -> Order | None:
        """The order with an id or a client's id, or None."""
        return self.orders.get(self._client_ids.get(name, name.lower()))

    def is_leg(self, order_id: str) -> bool:
        """Whether an id is that of an mleg order's leg."""
        return order_id in self._legs

    def show(self, order_id: str) -> dict[str, Any]:
        """The JSON of an order or of a leg."""
        place = self._legs.get(order_id.lower())
        if place is not None:
            parent = self.orders[place[0]]
            return leg_json(parent, parent.legs[place[1]])
        return order_json(self.find(order_id))

    def show_by_client_id(self, client_order_id: str) -> dict[str, Any]:
        """The JSON of the order with a client id.

        Raises:
            RefusedError: 404, unknown.
        """
        order_id = self._client_ids.get(client_order_id)
        if order_id is None:
            raise not_found(f"order not found for {client_order_id}")
        return self.show(order_id)

    def query(
        self,
        *,
        status: str,
        limit: int,
        after_ns: int | None,
        until_ns: int | None,
        newest_first: bool,
        side: str | None,
        symbols: Collection[str] | None,
    ) -> list[dict[str, Any]]:
        """Orders by submission time; ``after`` and ``until`` are exclusive as at the vendor.

        Raises:
            RefusedError: 422, unknown status.
        """
        if status not in ("open", "closed", "all"):
            raise RefusedError(422, 40010001, "invalid status")
        pool = self.working.values() if status == "open" else self.orders.values()
        chosen = [
            o
            for o in pool
            if (status != "closed" or not o.working)
            and (after_ns is None or o.created_ns > after_ns)
            and (until_ns is None or o.created_ns < until_ns)
            and (side is None or any(leg.side == side for leg in o.legs))
            and (symbols is None or any(leg.line.symbol in symbols for leg in o.legs))
        ]
        chosen.sort(key=lambda o: o.sequence, reverse=newest_first)
        return [order_json(o) for o in chosen[:limit]]

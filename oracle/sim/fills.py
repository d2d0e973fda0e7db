"""The life of an accepted order: events of its table, executions, activities, the updates that the stream sends.

Inputs: orders and the quotes of the moment. Outputs: changed orders and account, trade updates through ``drain``.
Invariant: every change of an order makes exactly one update, in the order in which the changes happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from oracle.core.instruments import is_option
from oracle.sim.matching import Displayed, Execution, match, net_price, stop_reached
from oracle.sim.orders import Order, order_json
from oracle.sim.shapes import make_id, money, rfc3339

if TYPE_CHECKING:
    from oracle.sim.exchange import Exchange


class Fills:
    """Moves orders and tells of it."""

    __slots__ = ("_displayed", "_events", "_exchange", "_updates")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._displayed = Displayed()
        self._updates: list[dict[str, Any]] = []
        self._events = 0

    def drain(self) -> list[dict[str, Any]]:
        """Trade updates since the last call, in order."""
        done, self._updates = self._updates, []
        return done

    def apply(self, order: Order, event: str) -> None:
        """Move an order along its table and tell the stream."""
        order.move(event, self._exchange.now_ns)
        self._exchange.book.settle(order)
        self._emit(event, order)

    def attempt(self, order: Order) -> None:
        """Match an order against the quotes of the moment; a stop is looked at first."""
        lines = order.lines
        touches = [self._exchange.source.touch(line.symbol) for line in lines]
        if order.waits_for_stop and order.stop_price is not None:
            if not stop_reached(lines[0].sign, order.stop_price, touches[0]):
                return
            order.triggered = True
        shown = [self._displayed.shown(t, s.sign, self._exchange.now_ns) for t, s in zip(touches, lines, strict=True)]
        execution = match(lines, shown, order.fillable, order.net_limit, order.resting)
        order.resting = True
        if execution is None:
            return
        for line, touch in zip(lines, touches, strict=True):
            if touch is not None:
                self._displayed.take(touch, line.sign, execution.units * line.ratio, self._exchange.now_ns)
        self._fill(order, execution)

    def fill_rest(self, order: Order) -> bool:
        """Fill what is left of a working simple limit order at its own limit; says whether it could be."""
        if not order.working or order.is_mleg or order.limit_price is None:
            return False
        self._fill(order, Execution(order.left, (order.limit_price,)))
        return True

    def _fill(self, order: Order, execution: Execution) -> None:
        net = net_price(order.lines, execution.prices)
        net = net if order.is_mleg else abs(net)
        order.record_fill(execution.units, execution.prices, net)
        event = "fill" if order.left == 0 else "partial_fill"
        order.move(event, self._exchange.now_ns)
        self._exchange.book.settle(order)
        execution_id = make_id(self._exchange.space, "execution", f"{order.id}/{order.filled}")
        rows = [self._fill_leg(order, i, price, execution.units, event) for i, price in enumerate(execution.prices)]
        data: dict[str, Any] = {
            "execution_id": execution_id,
            "price": money(net),
            "qty": str(execution.units),
        }
        if order.is_mleg:
            quantities = {s.symbol: str(self._exchange.account.quantity(s.symbol)) for s in order.lines}
            data |= {"position_qtys": quantities, "legs": rows}
        else:
            data["position_qty"] = str(self._exchange.account.quantity(order.legs[0].line.symbol))
        self._emit(event, order, data)

    def _fill_leg(self, order: Order, index: int, price: Decimal, units: int, event: str) -> dict[str, Any]:
        leg = order.legs[index]
        symbol, sign, quantity = leg.line.symbol, leg.line.sign, units * leg.line.ratio
        fee = self._exchange.config.fees.per_unit(is_option(symbol), sign > 0) * quantity
        self._exchange.account.trade(symbol, sign, quantity, price, fee)
        execution_id = make_id(self._exchange.space, "execution", f"{leg.id}/{leg.filled}")
        total = order.qty * leg.line.ratio
        detail = {
            "type": event,
            "order_id": leg.id,
            "cum_qty": str(leg.filled),
            "leaves_qty": str(total - leg.filled),
            "order_status": order.status,
        }
        self._exchange.account.record_fill(
            self._exchange.now_ns,
            execution_id,
            symbol=symbol,
            side=leg.side,
            price=price,
            quantity=quantity,
            order=detail,
        )
        if fee != 0:
            fee_id = make_id(self._exchange.space, "fee", execution_id)
            self._exchange.account.record_event(
                "FEE",
                self._exchange.now_ns,
                fee_id,
                net_usd=-fee,
                description=f"fee for {quantity} {symbol}",
                symbol=symbol,
            )
        return {
            "execution_id": execution_id,
            "qty": str(quantity),
            "price": money(price),
            "order_id": leg.id,
            "symbol": symbol,
            "timestamp": rfc3339(self._exchange.now_ns),
        }

    def _emit(self, event: str, order: Order, data: Mapping[str, Any] | None = None) -> None:
        self._events += 1
        now = rfc3339(self._exchange.now_ns)
        head = {"event": event, "event_id": f"{self._events:020d}", "at": now, "timestamp": now}
        self._updates.append({**head, **(data or {}), "order": order_json(order, on_stream=True)})

"""Orders of others at the broker: known from the account's reports, cancelled when an operator takes one over.

Inputs: AccountReported, an operator's AdoptOrder. Output: SendCancel. Invariants: an order that one of our own ids
names is the desk's and is never touched here; nothing is cancelled without a person's request.
"""

from collections.abc import Iterable

from oracle.core.bus import HandlerTable
from oracle.core.control import AdoptOrder
from oracle.core.message import Message
from oracle.core.messages import OperatorRequested, SendCancel
from oracle.core.ports import Context
from oracle.core.reports import AccountReported


class ForeignOrders:
    """The actor. ``token`` begins every order id of ours."""

    __slots__ = ("_broker_ids", "_token")

    def __init__(self, token: str) -> None:
        self._token = token
        self._broker_ids: dict[str, str] = {}

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return ((AccountReported, self.on_report), (OperatorRequested, self.on_operator))

    def on_report(self, report: AccountReported, _context: Context) -> Iterable[Message]:
        """Remember which orders of others are open; a failed read changes nothing."""
        if not report.text:
            others = (o for o in report.open_orders if not o.client_order_id.startswith(f"{self._token}-"))
            self._broker_ids = {order.client_order_id: order.broker_order_id for order in others}
        return ()

    def on_operator(self, request: OperatorRequested, _context: Context) -> Iterable[Message]:
        """Cancel the order that a person takes over; risk confirms its end and answers."""
        ask = request.ask
        broker_id = self._broker_ids.get(ask.client_order_id) if isinstance(ask, AdoptOrder) else None
        if broker_id is None or not isinstance(ask, AdoptOrder):
            return ()
        return (SendCancel(ask.client_order_id, broker_id),)

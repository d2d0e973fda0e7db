"""Inputs that say what the broker tells: orders, executions, answers to requests, the account.

Units are in names; ``*_ns`` are UTC nanoseconds; ``None`` is unknown. Amounts are Decimal dollars. Invariants are
checked on construction; a broker's own words are kept even when they are unknown to us.
"""

from decimal import Decimal

import msgspec

from oracle.core.errors import InvariantError
from oracle.core.message import Message
from oracle.core.vocabulary import BrokerEvent, Outcome, Side


class BrokerLeg(msgspec.Struct, frozen=True):
    """One leg of a multi-leg order as the broker tells it; ``filled_qty`` in contracts."""

    broker_order_id: str
    symbol: str
    side: Side
    ratio: int
    filled_qty: Decimal
    filled_avg_price_usd: Decimal | None


class BrokerOrder(msgspec.Struct, frozen=True):
    """An order as the broker tells it. ``status`` is the broker's own word, kept even when unknown to us.

    A multi-leg order is told as the purchase of a structure: ``symbol`` is the name of its legs as the broker trades
    them, ``side`` BUY, ``qty`` in units, prices net per unit (positive a debit, negative a credit).
    """

    client_order_id: str
    broker_order_id: str
    symbol: str
    side: Side | None
    order_class: str
    qty: Decimal
    filled_qty: Decimal
    filled_avg_price_usd: Decimal | None
    limit_price_usd: Decimal | None
    order_type: str
    status: str
    created_ns: int
    legs: tuple[BrokerLeg, ...] = ()


class OrderReported(Message, frozen=True):
    """The broker told of an order's change, on the stream or in an answer."""

    event: BrokerEvent
    order: BrokerOrder
    at_ns: int
    text: str = ""


class ExecutionReported(Message, frozen=True):
    """One execution. Idempotent by ``execution_id``. ``qty`` in shares or contracts of this execution, positive."""

    execution_id: str
    order: BrokerOrder
    symbol: str
    side: Side
    qty: Decimal
    price_usd: Decimal
    at_ns: int

    def __post_init__(self) -> None:
        if not (self.qty > 0 and self.price_usd >= 0):
            raise InvariantError(f"execution {self.execution_id}: quantity or price out of range")


class StructureExecuted(Message, frozen=True):
    """One execution of a multi-leg order: its legs' executions, which happened together and are booked in one turn."""

    legs: tuple[ExecutionReported, ...]

    def __post_init__(self) -> None:
        if not self.legs:
            raise InvariantError("a structure was executed without a leg")


class SubmitReturned(Message, frozen=True):
    """What one POST of an order came to. UNKNOWN means that the order may be live."""

    client_order_id: str
    outcome: Outcome
    order: BrokerOrder | None
    code: str
    text: str


class CancelReturned(Message, frozen=True):
    """What one cancel request came to. ACCEPTED means requested, not canceled."""

    client_order_id: str
    outcome: Outcome
    code: str
    text: str


class LookUpReturned(Message, frozen=True):
    """What a look-up by client order id found. ``order`` is None with NOT_FOUND, and with UNKNOWN."""

    client_order_id: str
    outcome: Outcome
    order: BrokerOrder | None
    text: str


class BrokerPosition(msgspec.Struct, frozen=True):
    """A position as the broker tells it; ``qty`` is signed."""

    symbol: str
    qty: Decimal
    avg_entry_price_usd: Decimal


class BrokerFee(msgspec.Struct, frozen=True):
    """A fee as the broker's activities tell it: ``amount_usd`` positive is charged, negative a rebate."""

    activity_id: str
    symbol: str
    amount_usd: Decimal
    text: str


class BrokerSettlement(msgspec.Struct, frozen=True):
    """What the broker's activities say of a contract that ended, or of the shares that it delivered.

    ``qty`` is the signed change of the position in ``symbol``; ``price_usd`` per share or contract where one is told;
    ``cash_usd`` the signed change of cash; ``date`` the broker's own.
    """

    activity_id: str
    kind: str
    symbol: str
    qty: Decimal
    price_usd: Decimal | None
    cash_usd: Decimal
    date: str
    text: str


class AccountReported(Message, frozen=True):
    """The broker's account, open orders, positions and the fills since a moment: one consistent read at the edge.

    ``fills_since_ns`` is the activity window's start. ``text`` is non-empty when the read failed: then the
    figures are None and nothing may be concluded from the empty lists.
    """

    at_ns: int
    equity_usd: Decimal | None
    last_equity_usd: Decimal | None
    cash_usd: Decimal | None
    options_buying_power_usd: Decimal | None
    options_level: int | None
    trading_blocked: bool | None
    positions: tuple[BrokerPosition, ...]
    open_orders: tuple[BrokerOrder, ...]
    fills: tuple[ExecutionReported, ...]
    fills_since_ns: int
    text: str = ""
    fees: tuple[BrokerFee, ...] = ()
    settlements: tuple[BrokerSettlement, ...] = ()

    @property
    def cash_activities(self) -> tuple[str, ...]:
        """Ids of the listed movements of cash that are neither fills nor fees."""
        return tuple(activity.activity_id for activity in self.settlements if activity.cash_usd != 0)

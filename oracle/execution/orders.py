"""The life of one order attempt as a literal table, and what an attempt remembers.

Inputs: a state and an event. Output: the next state.
Invariants: an event from outside never raises; a pair that cannot be gives UNKNOWN, and a look-up decides. Only
pairs that we caused ourselves raise. Executions are counted by the desk; states only tell whether more can come.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from oracle.core.errors import ProtocolError
from oracle.core.messages import SendOrder, SubmitOrder
from oracle.core.sessions import NS
from oracle.core.structures import legs_of
from oracle.core.vocabulary import OrderState, Side


class OrderEvent(StrEnum):
    """What can happen to an attempt: three things that we do, one that we fail to learn, and the broker's words."""

    SEND = "send"
    RESEND = "resend"
    CANCEL = "cancel"
    LOSE = "lose"
    NEW = "new"
    PARTIAL_FILL = "partial_fill"
    FILL = "fill"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    REPLACED = "replaced"
    DONE_FOR_DAY = "done_for_day"
    PENDING = "pending"
    CANCEL_REJECTED = "cancel_rejected"
    UNKNOWN_EVENT = "unknown_event"


OURS: Final = frozenset({OrderEvent.SEND, OrderEvent.RESEND, OrderEvent.CANCEL})
TERMINAL: Final = frozenset({OrderState.FILLED, OrderState.CANCELED, OrderState.REJECTED, OrderState.EXPIRED})
# States in which the broker is known to hold the order.
HELD: Final = frozenset({OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, OrderState.CANCEL_SENT})

_S, _E = OrderState, OrderEvent
LIFE: Final[Mapping[tuple[OrderState, OrderEvent], OrderState]] = MappingProxyType(
    {
        (_S.INTENT, _E.SEND): _S.SENT,
        # The stream can be faster than the POST's reply, so everything may follow SENT.
        (_S.SENT, _E.NEW): _S.ACCEPTED,
        (_S.SENT, _E.PENDING): _S.ACCEPTED,
        (_S.SENT, _E.DONE_FOR_DAY): _S.ACCEPTED,
        (_S.SENT, _E.PARTIAL_FILL): _S.PARTIALLY_FILLED,
        (_S.SENT, _E.FILL): _S.FILLED,
        (_S.SENT, _E.CANCELED): _S.CANCELED,
        (_S.SENT, _E.EXPIRED): _S.EXPIRED,
        (_S.SENT, _E.REJECTED): _S.REJECTED,
        # A replaced order is over under this id; its replacement has another one and is not ours.
        (_S.SENT, _E.REPLACED): _S.CANCELED,
        (_S.SENT, _E.LOSE): _S.UNKNOWN,
        # After a 429 the order was not taken: the same id goes out again.
        (_S.SENT, _E.RESEND): _S.SENT,
        (_S.ACCEPTED, _E.NEW): _S.ACCEPTED,
        (_S.ACCEPTED, _E.PENDING): _S.ACCEPTED,
        (_S.ACCEPTED, _E.PARTIAL_FILL): _S.PARTIALLY_FILLED,
        (_S.ACCEPTED, _E.FILL): _S.FILLED,
        (_S.ACCEPTED, _E.CANCELED): _S.CANCELED,
        (_S.ACCEPTED, _E.EXPIRED): _S.EXPIRED,
        (_S.ACCEPTED, _E.REPLACED): _S.CANCELED,
        # A 200 can still be followed by a rejection: acceptance is not even a routing (alpaca.md 3.4).
        (_S.ACCEPTED, _E.REJECTED): _S.REJECTED,
        # Done for the day is not over: the day order's expiry is still to come.
        (_S.ACCEPTED, _E.DONE_FOR_DAY): _S.ACCEPTED,
        (_S.ACCEPTED, _E.CANCEL): _S.CANCEL_SENT,
        # The POST failed in transport after the stream had told of the order: the stream knows better.
        (_S.ACCEPTED, _E.LOSE): _S.ACCEPTED,
        (_S.ACCEPTED, _E.CANCEL_REJECTED): _S.ACCEPTED,
        # "new" after the first fill: the stream and the POST's reply race.
        (_S.PARTIALLY_FILLED, _E.NEW): _S.PARTIALLY_FILLED,
        (_S.PARTIALLY_FILLED, _E.PENDING): _S.PARTIALLY_FILLED,
        (_S.PARTIALLY_FILLED, _E.PARTIAL_FILL): _S.PARTIALLY_FILLED,
        (_S.PARTIALLY_FILLED, _E.FILL): _S.FILLED,
        (_S.PARTIALLY_FILLED, _E.CANCELED): _S.CANCELED,
        (_S.PARTIALLY_FILLED, _E.EXPIRED): _S.EXPIRED,
        (_S.PARTIALLY_FILLED, _E.REPLACED): _S.CANCELED,
        (_S.PARTIALLY_FILLED, _E.DONE_FOR_DAY): _S.PARTIALLY_FILLED,
        (_S.PARTIALLY_FILLED, _E.CANCEL): _S.CANCEL_SENT,
        (_S.PARTIALLY_FILLED, _E.LOSE): _S.PARTIALLY_FILLED,
        (_S.PARTIALLY_FILLED, _E.CANCEL_REJECTED): _S.PARTIALLY_FILLED,
        # A 204 means "requested": fills, late acknowledgements and refusals of the cancel may all follow it.
        (_S.CANCEL_SENT, _E.NEW): _S.CANCEL_SENT,
        (_S.CANCEL_SENT, _E.PENDING): _S.CANCEL_SENT,
        (_S.CANCEL_SENT, _E.PARTIAL_FILL): _S.CANCEL_SENT,
        (_S.CANCEL_SENT, _E.FILL): _S.FILLED,
        (_S.CANCEL_SENT, _E.CANCELED): _S.CANCELED,
        (_S.CANCEL_SENT, _E.EXPIRED): _S.EXPIRED,
        (_S.CANCEL_SENT, _E.REPLACED): _S.CANCELED,
        (_S.CANCEL_SENT, _E.REJECTED): _S.REJECTED,
        (_S.CANCEL_SENT, _E.DONE_FOR_DAY): _S.CANCEL_SENT,
        (_S.CANCEL_SENT, _E.CANCEL_REJECTED): _S.CANCEL_SENT,
        (_S.CANCEL_SENT, _E.LOSE): _S.CANCEL_SENT,
        (_S.CANCEL_SENT, _E.CANCEL): _S.CANCEL_SENT,
        # Whatever the broker says of an unknown order is news.
        (_S.UNKNOWN, _E.NEW): _S.ACCEPTED,
        (_S.UNKNOWN, _E.PENDING): _S.ACCEPTED,
        (_S.UNKNOWN, _E.DONE_FOR_DAY): _S.ACCEPTED,
        (_S.UNKNOWN, _E.PARTIAL_FILL): _S.PARTIALLY_FILLED,
        (_S.UNKNOWN, _E.FILL): _S.FILLED,
        (_S.UNKNOWN, _E.CANCELED): _S.CANCELED,
        (_S.UNKNOWN, _E.EXPIRED): _S.EXPIRED,
        (_S.UNKNOWN, _E.REPLACED): _S.CANCELED,
        (_S.UNKNOWN, _E.REJECTED): _S.REJECTED,
        (_S.UNKNOWN, _E.LOSE): _S.UNKNOWN,
        (_S.UNKNOWN, _E.RESEND): _S.SENT,
        # Asking to cancel what we do not understand teaches nothing about it: it stays in doubt until the broker says.
        (_S.UNKNOWN, _E.CANCEL): _S.UNKNOWN,
        # Ends stay ends when older news arrives late or twice.
        (_S.FILLED, _E.NEW): _S.FILLED,
        (_S.FILLED, _E.PENDING): _S.FILLED,
        (_S.FILLED, _E.PARTIAL_FILL): _S.FILLED,
        (_S.FILLED, _E.FILL): _S.FILLED,
        (_S.FILLED, _E.CANCEL_REJECTED): _S.FILLED,
        (_S.FILLED, _E.DONE_FOR_DAY): _S.FILLED,
        (_S.FILLED, _E.LOSE): _S.FILLED,
        (_S.CANCELED, _E.NEW): _S.CANCELED,
        (_S.CANCELED, _E.PENDING): _S.CANCELED,
        (_S.CANCELED, _E.PARTIAL_FILL): _S.CANCELED,
        # The last contracts filled before the cancel and their execution was told after it.
        (_S.CANCELED, _E.FILL): _S.FILLED,
        (_S.CANCELED, _E.CANCELED): _S.CANCELED,
        (_S.CANCELED, _E.REPLACED): _S.CANCELED,
        (_S.CANCELED, _E.CANCEL_REJECTED): _S.CANCELED,
        (_S.CANCELED, _E.DONE_FOR_DAY): _S.CANCELED,
        (_S.CANCELED, _E.LOSE): _S.CANCELED,
        (_S.EXPIRED, _E.NEW): _S.EXPIRED,
        (_S.EXPIRED, _E.PENDING): _S.EXPIRED,
        (_S.EXPIRED, _E.PARTIAL_FILL): _S.EXPIRED,
        (_S.EXPIRED, _E.FILL): _S.FILLED,
        (_S.EXPIRED, _E.EXPIRED): _S.EXPIRED,
        (_S.EXPIRED, _E.CANCEL_REJECTED): _S.EXPIRED,
        (_S.EXPIRED, _E.DONE_FOR_DAY): _S.EXPIRED,
        (_S.EXPIRED, _E.LOSE): _S.EXPIRED,
        # A rejected order that turns out to be new or filled is UNKNOWN (no row), looked up, and cancelled if alive.
        (_S.REJECTED, _E.PENDING): _S.REJECTED,
        (_S.REJECTED, _E.REJECTED): _S.REJECTED,
        (_S.REJECTED, _E.CANCEL_REJECTED): _S.REJECTED,
        (_S.REJECTED, _E.LOSE): _S.REJECTED,
    }
)


def advance(state: OrderState, event: OrderEvent) -> OrderState:
    """Find the next state; UNKNOWN for a pair that the table does not have.

    Raises:
        ProtocolError: the event is ours and does not fit: a bug of ours.
    """
    found = LIFE.get((state, event))
    if found is not None:
        return found
    if event in OURS:
        raise ProtocolError(f"an order cannot {event.value} in state {state.value}")
    return OrderState.UNKNOWN


def commanded_ns(order: SubmitOrder) -> int:
    """When an order was commanded, at the earliest: its window's end less its whole ladder. UTC ns.

    No attempt can have left before, so it bounds what was sent before a restart.
    """
    return order.window_end_ns - round(sum(step.stand_s for step in order.ladder) * NS)


@dataclass(slots=True)
class Attempt:
    """One client order id's life. ``told_filled`` is the broker's count of units, ``done`` ours by executions.

    ``done`` counts contracts (or shares) of each leg by symbol. ``told_legs`` is the same as the broker's answer to a
    look-up tells it of an order that is over. ``doubt_ns`` is since when the fate is unknown, ``cancel_ns`` when a
    cancel was last asked for. An attempt of before a restart has the earliest moment at which it can have been sent.
    """

    command: SendOrder
    number: int
    step: int
    sent_ns: int
    state: OrderState = OrderState.INTENT
    broker_order_id: str = ""
    leg_ids: set[str] = field(default_factory=set)
    done: dict[str, int] = field(default_factory=dict)
    told_filled: int = 0
    told_legs: dict[str, int] | None = None
    text: str = ""
    cancel_wanted: bool = False
    resend_due: bool = False
    resent: bool = False
    doubt_ns: int | None = None
    cancel_ns: int = 0
    looks: int = 0

    @property
    def client_order_id(self) -> str:
        """The id under which the broker knows the attempt."""
        return self.command.client_order_id

    @property
    def booked(self) -> int:
        """Whole units that our executions make up: the leg with the fewest counts."""
        return min(self.done.get(leg.symbol, 0) // leg.ratio for leg in legs_of(self.command.symbol))

    @property
    def balanced(self) -> bool:
        """Whether every leg has as many executions as the others; always so for a single leg."""
        units = self.booked
        return all(self.done.get(leg.symbol, 0) == units * leg.ratio for leg in legs_of(self.command.symbol))

    @property
    def left(self) -> int:
        """Units that may still fill under this id."""
        return 0 if self.settled else max(self.command.contracts - self.booked, 0)

    @property
    def settled(self) -> bool:
        """Whether it is over and every execution that the broker counts is booked.

        Legs that differ mean that executions are missing, unless the broker itself counts the legs just as we do.
        """
        if self.state not in TERMINAL:
            return False
        return (self.booked >= self.told_filled and self.balanced) or self.torn

    @property
    def torn(self) -> bool:
        """Whether the broker, asked after the order's end, counts the very legs that we have, uneven as they are."""
        return self.told_legs is not None and not self.balanced and self.told_legs == self.done

    def units_with(self, symbol: str, side: Side, contracts: int) -> int | None:
        """Units that the broker must have filled once these contracts are booked too; None: they cannot be its own."""
        for leg in legs_of(self.command.symbol):
            ours = leg.side if self.command.side is Side.BUY else leg.side.opposite
            if leg.symbol == symbol and ours is side:
                units = -(-(self.done.get(symbol, 0) + contracts) // leg.ratio)
                return units if units <= self.command.contracts else None
        return None

    def book(self, symbol: str, contracts: int) -> None:
        """Count an execution."""
        self.done[symbol] = self.done.get(symbol, 0) + contracts

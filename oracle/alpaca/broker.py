"""The worker that carries the core's broker effects out and brings their results back.

Inputs: (sequence, effect) in the order of the core's turns. Outputs: result messages to a sink, with the sequence of
the turn that asked. Orders and cancels start first in, first out; several orders may await their answers at once, but
a cancel waits for what is under way of its own order, an order for every cancel before it (which does not name its
contract) and for orders of the other side of its contract. Reads have a lane of their own and never delay an exit.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from oracle.alpaca.gateway import Gateway
from oracle.alpaca.ratebudget import RateBudget
from oracle.core.errors import ProtocolError
from oracle.core.message import Message
from oracle.core.messages import LookUpOrder, ReadAccount, SendCancel, SendOrder
from oracle.core.reports import AccountReported, CancelReturned, LookUpReturned, SubmitReturned
from oracle.core.structures import legs_of
from oracle.core.vocabulary import Outcome

BrokerEffect = SendOrder | SendCancel | LookUpOrder | ReadAccount
ResultSink = Callable[[int, Message], None]
ACCOUNT_READ_REQUESTS = 7
QUEUE_LIMIT = 10_000
# So many orders may await their answers at once: a burst of exits must not take a round trip for each of them.
ORDERS_AT_ONCE = 8


class Lane:
    """Effects that start in order; ``at_once`` of them may be under way."""

    __slots__ = ("_at_once", "_carry_out", "_group", "_number", "_under_way", "_waiting")

    def __init__(self, at_once: int, carry_out: Callable[[int, BrokerEffect], Coroutine[Any, Any, None]]) -> None:
        self._at_once = at_once
        self._carry_out = carry_out
        self._waiting: deque[tuple[int, BrokerEffect]] = deque()
        self._under_way: dict[int, BrokerEffect] = {}
        self._number = 0
        self._group: asyncio.TaskGroup | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, sequence: int, effect: BrokerEffect) -> None:
        """Take an effect; it starts at once when nothing is in its way."""
        self._waiting.append((sequence, effect))
        self._start()

    def open(self, group: asyncio.TaskGroup) -> None:
        """Begin to start effects, as tasks of this group."""
        self._group = group
        self._start()

    def _start(self) -> None:
        while self._group is not None and self._waiting and self._may_start(self._waiting[0][1]):
            sequence, effect = self._waiting.popleft()
            self._number += 1
            self._under_way[self._number] = effect
            self._group.create_task(self._one(self._number, sequence, effect))

    def _may_start(self, effect: BrokerEffect) -> bool:
        if not self._under_way:
            return True
        if len(self._under_way) >= self._at_once or not isinstance(effect, SendOrder | SendCancel):
            return False
        if isinstance(effect, SendCancel):
            # An order of another name that hangs must not hold back this cancel, nor the exits that wait for it.
            return all(_order_of(other) != effect.client_order_id for other in self._under_way.values())
        return all(isinstance(other, SendOrder) and not _meet(other, effect) for other in self._under_way.values())

    async def _one(self, number: int, sequence: int, effect: BrokerEffect) -> None:
        await self._carry_out(sequence, effect)
        del self._under_way[number]
        self._start()


class Broker:
    """One account's effect worker.

    Args:
        gateway: the REST edge.
        budget: requests per minute; an effect that it refuses returns THROTTLED without having been sent.
        sink: called on the loop with (sequence of the request, result).
        now_ns: business time.
        reads_apart: whether reads run beside orders, and orders beside each other. A paced exchange answers at once
            and its days must repeat, so there one effect at a time keeps what each sees independent of the race.
    """

    def __init__(
        self,
        gateway: Gateway,
        budget: RateBudget,
        sink: ResultSink,
        now_ns: Callable[[], int],
        reads_apart: bool = True,
    ) -> None:
        self._gateway = gateway
        self._budget = budget
        self._sink = sink
        self._now_ns = now_ns
        self._orders = Lane(ORDERS_AT_ONCE if reads_apart else 1, self._carry_out)
        self._reads = Lane(1, self._carry_out) if reads_apart else self._orders
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Effects taken over whose result has not been handed to the sink."""
        return self._in_flight

    def put(self, sequence: int, effect: BrokerEffect) -> None:
        """Take over an effect. Raises ProtocolError when it is none of the broker's or the queue is full."""
        if not isinstance(effect, SendOrder | SendCancel | LookUpOrder | ReadAccount):
            raise ProtocolError(f"{type(effect).__name__} is not an effect of the broker")
        lane = self._orders if isinstance(effect, SendOrder | SendCancel) else self._reads
        if len(lane) >= QUEUE_LIMIT:
            raise ProtocolError(f"broker: more than {QUEUE_LIMIT} effects are waiting")
        self._in_flight += 1
        lane.put(sequence, effect)

    async def run(self) -> None:
        """Carry effects out until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._orders.open(group)
                if self._reads is not self._orders:
                    self._reads.open(group)
                await asyncio.Event().wait()
        except BaseExceptionGroup as faults:
            # What ends the process is the fault itself, which says whose it is.
            raise faults.exceptions[0] from None

    async def _carry_out(self, sequence: int, effect: BrokerEffect) -> None:
        result = await self._perform(effect)
        self._sink(sequence, result)
        self._in_flight -= 1

    async def _perform(self, effect: BrokerEffect) -> Message:
        urgent = not (isinstance(effect, ReadAccount) or (isinstance(effect, SendOrder) and not effect.reducing))
        requests = ACCOUNT_READ_REQUESTS if isinstance(effect, ReadAccount) else 1
        wait_ns = self._budget.take(self._now_ns(), urgent, requests)
        if wait_ns > 0:
            return _throttled(effect, wait_ns, self._now_ns())
        if isinstance(effect, SendOrder):
            return await self._gateway.submit(effect)
        if isinstance(effect, SendCancel):
            return await self._gateway.cancel(effect)
        if isinstance(effect, LookUpOrder):
            return await self._gateway.look_up(effect)
        return await self._gateway.read_account(effect)


def _meet(one: SendOrder, other: SendOrder) -> bool:
    """Whether two orders would trade one contract from opposite sides: the exchange may refuse the later one."""
    sides = {leg.symbol: leg.side.sign * one.side.sign for leg in legs_of(one.symbol)}
    return any(sides.get(leg.symbol) == -leg.side.sign * other.side.sign for leg in legs_of(other.symbol))


def _order_of(effect: BrokerEffect) -> str | None:
    """The client order id that an effect is about; None for a read of the account."""
    return None if isinstance(effect, ReadAccount) else effect.client_order_id


def _throttled(effect: BrokerEffect, wait_ns: int, at_ns: int) -> Message:
    """The result of an effect that was not sent because the request budget is used up."""
    text = f"not sent: the request budget is used up for {wait_ns / 1e9:.1f} s"
    code = "budget"
    if isinstance(effect, SendOrder):
        return SubmitReturned(effect.client_order_id, Outcome.THROTTLED, None, code, text)
    if isinstance(effect, SendCancel):
        return CancelReturned(effect.client_order_id, Outcome.THROTTLED, code, text)
    if isinstance(effect, LookUpOrder):
        return LookUpReturned(effect.client_order_id, Outcome.THROTTLED, None, text)
    nothing = (None, None, None, None, None, None)
    return AccountReported(at_ns, *nothing, (), (), (), effect.fills_since_ns, text)

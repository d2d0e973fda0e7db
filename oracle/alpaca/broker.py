"""The worker that carries the core's broker effects out, one by one, and brings their results back.

Inputs: (sequence, effect) in the order of the core's turns. Outputs: result messages to a sink, with the sequence of
the turn that asked. Orders and cancels leave strictly first in, first out: a cancel must not overtake the order that
it cancels, nor an exit the cancel before it. Reads have a lane of their own, so that a slow one never delays an exit.
"""

import asyncio
from collections.abc import Callable

from oracle.alpaca.gateway import Gateway
from oracle.alpaca.ratebudget import RateBudget
from oracle.core.errors import ProtocolError
from oracle.core.messages import (
    AccountReported,
    CancelReturned,
    LookUpOrder,
    LookUpReturned,
    Message,
    Outcome,
    ReadAccount,
    SendCancel,
    SendOrder,
    SubmitReturned,
)

BrokerEffect = SendOrder | SendCancel | LookUpOrder | ReadAccount
Lane = asyncio.Queue[tuple[int, BrokerEffect]]
ResultSink = Callable[[int, Message], None]
ACCOUNT_READ_REQUESTS = 6
QUEUE_LIMIT = 10_000


class Broker:
    """One account's effect worker.

    Args:
        gateway: the REST edge.
        budget: requests per minute; an effect that it refuses returns THROTTLED without having been sent.
        sink: called on the loop with (sequence of the request, result).
        now_ns: business time.
        reads_apart: whether reads run beside orders. A paced exchange answers at once and its days must repeat, so
            there one lane keeps what a read sees independent of the race.
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
        self._orders: Lane = asyncio.Queue(QUEUE_LIMIT)
        self._reads: Lane = asyncio.Queue(QUEUE_LIMIT) if reads_apart else self._orders
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
        try:
            lane.put_nowait((sequence, effect))
        except asyncio.QueueFull:
            raise ProtocolError(f"broker: more than {QUEUE_LIMIT} effects are waiting") from None
        self._in_flight += 1

    async def run(self) -> None:
        """Carry effects out until cancelled."""
        if self._reads is self._orders:
            await self._work(self._orders)
        else:
            await asyncio.gather(self._work(self._orders), self._work(self._reads))

    async def _work(self, lane: Lane) -> None:
        while True:
            sequence, effect = await lane.get()
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

"""The broker's lanes: what may be under way together, and what waits for what."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from oracle.alpaca.broker import ORDERS_AT_ONCE, Broker, BrokerEffect, Lane
from oracle.core.messages import LookUpOrder, SendCancel, SendOrder
from oracle.core.vocabulary import Side

CALL, PUT = "SPY260109C00600000", "SPY260109P00600000"


def order(name: str, symbol: str = CALL, side: Side = Side.SELL) -> SendOrder:
    return SendOrder(name, symbol, side, side is Side.BUY, 1, Decimal(1), side is Side.SELL)


class Answers:
    """Holds each effect's answer back until the test gives it."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self._open: dict[str, asyncio.Future[None]] = {}

    async def carry_out(self, _sequence: int, effect: BrokerEffect) -> None:
        name = effect.client_order_id if not isinstance(effect, SendCancel) else f"cancel {effect.client_order_id}"  # type: ignore[union-attr]
        self.started.append(name)
        self._open[name] = asyncio.get_running_loop().create_future()
        await self._open[name]

    async def answer(self, name: str) -> None:
        self._open.pop(name).set_result(None)
        await rounds()


async def rounds() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def lane_of(at_once: int, *effects: BrokerEffect) -> AsyncIterator[Answers]:
    answers = Answers()
    lane = Lane(at_once, answers.carry_out)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            lane.open(group)
            await asyncio.Event().wait()

    for n, effect in enumerate(effects):
        lane.put(n, effect)
    task = asyncio.create_task(run())
    await rounds()
    try:
        yield answers
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_orders_start_in_order_and_so_many_await_their_answers_at_once() -> None:
    names = [f"o{n}" for n in range(ORDERS_AT_ONCE + 2)]
    async with lane_of(ORDERS_AT_ONCE, *(order(name) for name in names)) as answers:
        assert answers.started == names[:ORDERS_AT_ONCE]
        await answers.answer("o3")
        assert answers.started == names[: ORDERS_AT_ONCE + 1]


async def test_a_cancel_waits_for_its_order_and_what_follows_for_the_cancel() -> None:
    async with lane_of(8, order("entry"), SendCancel("entry", "b1"), order("exit"), order("other", PUT)) as answers:
        assert answers.started == ["entry"]
        await answers.answer("entry")
        assert answers.started == ["entry", "cancel entry"]
        await answers.answer("cancel entry")
        assert answers.started == ["entry", "cancel entry", "exit", "other"]


async def test_an_order_that_hangs_holds_no_other_orders_cancel_back() -> None:
    hung, cancels = order("hung", side=Side.BUY), (SendCancel("first", "b1"), SendCancel("second", "b2"))
    async with lane_of(8, hung, *cancels, SendCancel("second", "b2"), order("exit", PUT)) as answers:
        assert answers.started == ["hung", "cancel first", "cancel second"]
        await answers.answer("cancel second")
        assert answers.started[3:] == ["cancel second"]
        # A cancel does not name its contract: the exit waits for each of them, and not for the order that hangs.
        await answers.answer("cancel second")
        assert answers.started[4:] == []
        await answers.answer("cancel first")
        assert answers.started[4:] == ["exit"]


async def test_an_order_waits_for_the_other_side_of_its_contract_and_nothing_overtakes_it() -> None:
    async with lane_of(8, order("buy", side=Side.BUY), order("sell"), order("put", PUT)) as answers:
        assert answers.started == ["buy"]
        await answers.answer("buy")
        assert answers.started == ["buy", "sell", "put"]


async def test_one_at_once_is_strictly_one_after_another() -> None:
    async with lane_of(1, order("a"), LookUpOrder("b"), order("c", PUT)) as answers:
        for seen in (["a"], ["a", "b"], ["a", "b", "c"]):
            assert answers.started == seen
            await answers.answer(seen[-1])


class Broken:
    """A gateway with a fault of ours."""

    async def submit(self, _request: SendOrder) -> None:
        raise ZeroDivisionError


class Free:
    """A budget that always grants."""

    def take(self, _at_ns: int, _urgent: bool, _requests: int) -> int:
        return 0


async def test_a_fault_of_ours_ends_the_worker_as_itself() -> None:
    broker = Broker(Broken(), Free(), lambda *_: None, lambda: 0)  # type: ignore[arg-type]
    broker.put(1, order("a"))
    with pytest.raises(ZeroDivisionError):
        await broker.run()

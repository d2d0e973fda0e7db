"""The runner: a strategy that raises is halted alone, stays so over a restart, and runs again when it is resumed."""

from collections.abc import Iterable
from typing import Any

import msgspec

from oracle.core.message import Message
from oracle.core.messages import LatchChanged, NoData, NoSignal, OptionsWanted, Reevaluated, StrategyFailed
from oracle.core.sessions import MINUTE_NS
from oracle.strategies.registry import load
from oracle.strategies.runner import StrategyRunner
from tests.unit.builders import START_NS, House, bar

CONTEXT = House(ready=False).engine.context()


class Scripted:
    """A strategy that answers, or raises while told to."""

    def __init__(self, name: str) -> None:
        self.name, self.broken = name, False

    def handle(self, _message: Message, _context: Any) -> Iterable[Message]:
        if self.broken:
            raise ValueError("broken")
        return (NoData(self.name, "SPY", "bars", {}),)


def pair() -> tuple[Scripted, StrategyRunner]:
    first = Scripted("a")
    strategies: Any = (first, Scripted("b"))
    return first, StrategyRunner(strategies)


def tell(runner: StrategyRunner, message: Message) -> list[Message]:
    return list(dict(runner.handlers())[type(message)](message, CONTEXT))


def spoke(runner: StrategyRunner) -> list[str]:
    return [m.strategy for m in tell(runner, bar(600.0, START_NS)) if isinstance(m, NoData)]


def latch(name: str, *, active: bool) -> LatchChanged:
    return LatchChanged(name, active, "", "", "", None, START_NS)


def test_a_strategy_that_raises_is_halted_until_its_latch_is_cleared() -> None:
    first, runner = pair()
    first.broken = True
    out = tell(runner, bar(600.0, START_NS))
    assert out[0] == StrategyFailed("a", "ValueError: broken")
    first.broken = False
    assert spoke(runner) == ["b"]
    for change in (latch("strategy_failed:a", active=True), latch("strategy_failed:b", active=False)):
        assert tell(runner, change) == []
    assert tell(runner, latch("drawdown", active=False)) == []
    assert spoke(runner) == ["b"]
    tell(runner, latch("strategy_failed:a", active=False))
    assert spoke(runner) == ["a", "b"]


def test_a_restart_halts_the_strategies_it_is_given() -> None:
    _, runner = pair()
    runner.restore(["b"])
    assert spoke(runner) == ["a"]


def test_every_evaluation_of_a_real_strategy_is_in_the_output_told_or_not() -> None:
    strategy = load("iron_condor", {})
    runner = StrategyRunner((strategy,))
    house = House(ready=False)
    house.at_ns = START_NS
    said = []
    for n in range(3):
        context = msgspec.structs.replace(house.engine.context(), at_ns=START_NS + (n + 1) * MINUTE_NS)
        said += list(runner.on_message(bar(600.0, START_NS + n * MINUTE_NS), context))
    said = [m for m in said if not isinstance(m, OptionsWanted)]
    reasons = [m.reason if isinstance(m, NoSignal) else m.verdict.reason for m in said]
    assert [type(m) for m in said] == [NoSignal, Reevaluated, Reevaluated]
    assert reasons == ["after_entry_window"] * 3

"""The example strategy, and what it leans on: chains wanted at times, inputs handled in one stretch."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from examples.ema_cross import EmaCross, EmaCrossParams
from oracle.core.errors import InvariantError
from oracle.core.marketdata import Bar, Quote
from oracle.core.message import Message
from oracle.core.messages import Input, LedgerSeeded, NoData, OptionsWanted, ReadChain, SetOptionSubscription
from oracle.core.sessions import MINUTE_NS, NS
from oracle.options.chain import Chains
from oracle.options.keeper import ChainKeeper
from oracle.strategies.registry import code_hash
from oracle.strategies.runner import StrategyRunner
from tests.unit.builders import OPEN_NS, TABLE
from tests.unit.test_options_keeper import listing


def bar(minute: int, close: float, symbol: str = "SPY") -> Bar:
    return Bar(symbol, OPEN_NS + minute * MINUTE_NS, close, close, close, close, 1, 0, close)


class House:
    """An engine with real chains, a keeper that reads on demand, and the example."""

    def __init__(self, **params: Any) -> None:
        from oracle.core.engine import Engine
        from oracle.core.equity import EquityKeeper, Marks
        from oracle.core.ledger import Ledger
        from oracle.core.market import MarketState

        market, ledger = MarketState(), Ledger()
        ledger.restore([LedgerSeeded(Decimal(100_000), Decimal(100_000), 0)])
        chains = Chains(TABLE, rate_per_year=0.0)
        self.strategy = EmaCross(made := EmaCrossParams(**params), code_hash(EmaCross, made))
        self.engine = Engine(
            TABLE, market, chains, ledger, EquityKeeper(ledger, Marks(market, chains, 15, ledger.held))
        )
        keeper = ChainKeeper({"SPY": 1}, 20, on_demand={"SPY"})
        for actor in (chains, keeper, StrategyRunner((self.strategy,))):
            self.engine.bus.subscribe(actor.handlers())
        self.engine.start(OPEN_NS - NS)

    def give(self, at_ns: int, message: Input) -> Sequence[Message]:
        *_, turn = self.engine.handle(at_ns, message)
        return turn.messages

    def bars(self, closes: Iterable[float], first: int = 0) -> list[Message]:
        out: list[Message] = []
        for minute, close in enumerate(closes, first):
            out += self.give(OPEN_NS + minute * MINUTE_NS + 61 * NS, bar(minute, close))
        return out


def of(messages: Iterable[Message], *kinds: type[Message]) -> list[Message]:
    return [m for m in messages if isinstance(m, kinds)]


def test_the_chain_is_asked_for_when_the_next_close_could_cross_and_left_when_it_cannot() -> None:
    house = House(fast=3, slow=10, reach=0.01)
    quiet = house.bars([600.0 - n for n in range(20)])
    assert of(quiet, OptionsWanted, ReadChain) == []
    assert of(house.give(OPEN_NS + 20 * MINUTE_NS + 2 * NS, Quote("SPY", OPEN_NS, 580.0, 1, 580.1, 1)), ReadChain) == []
    near = house.bars([584.0], 20)
    assert of(near, OptionsWanted) == [OptionsWanted("ema_cross", "SPY", True)]
    assert [m.underlying for m in of(near, ReadChain)] == ["SPY"]  # type: ignore[attr-defined]
    subscribed = of(house.give(OPEN_NS + 21 * MINUTE_NS + 2 * NS, listing(centre=584)), SetOptionSubscription)
    assert len(subscribed) == 1
    assert len(subscribed[0].symbols) == 20  # type: ignore[attr-defined]
    crossed = house.bars([620.0], 21)
    assert of(crossed, OptionsWanted) == [OptionsWanted("ema_cross", "SPY", False)]
    assert of(crossed, SetOptionSubscription) == [SetOptionSubscription(())]
    assert len(of(crossed, NoData)) == 1  # no contract was quoted


def test_who_never_says_when_always_wants_its_chain() -> None:
    keeper = ChainKeeper({"SPY": 1}, 20)
    house = House()
    said = list(keeper.on_quote(Quote("SPY", OPEN_NS, 600.0, 1, 600.1, 1), house.engine.context()))
    assert len(of(said, ReadChain)) == 1


def test_a_stretch_of_inputs_ends_at_the_first_that_causes_something() -> None:
    house = House(fast=3, slow=10, reach=0.01)
    engine = house.engine
    list(engine.advance(OPEN_NS + NS))
    closes = [600.0 - n for n in range(20)] + [584.0, 585.0]
    rows = iter([(OPEN_NS + n * MINUTE_NS + 61 * NS, bar(n, close)) for n, close in enumerate(closes)])
    seen: list[Any] = []
    turn = engine.handle_until(rows, seen.append)
    assert turn is not None
    assert isinstance(turn.stamped.input, Bar)
    assert turn.stamped.input.close == 584.0
    assert of(turn.messages, OptionsWanted)
    assert [t.stamped.seq for t in seen] == list(range(turn.stamped.seq - 20, turn.stamped.seq))
    assert all(t.messages == () for t in seen)
    assert next(rows)[1].close == 585.0


def test_a_stretch_may_not_pass_a_timer_or_run_backwards() -> None:
    house = House()
    engine = house.engine
    list(engine.advance(OPEN_NS + NS))
    due_ns = engine.next_timer_ns
    assert due_ns is not None
    with pytest.raises(InvariantError, match="timer due"):
        engine.handle_until([(due_ns, bar(0, 600.0))])
    with pytest.raises(InvariantError, match="after"):
        engine.handle_until([(OPEN_NS - NS, bar(0, 600.0))])


def test_the_example_is_added_to_the_commands_by_running_it(tmp_path: Any) -> None:
    import subprocess
    import sys

    from tests.conftest import ROOT

    done = subprocess.run(
        [sys.executable, "examples/ema_cross.py", "backtest", "--data", str(tmp_path), "--from", "2024-03-01", "--to",
         "2024-03-01", "--strategy", "ema_cross"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert "holds neither" in done.stderr
    rows = "t,o,h,l,c,v\n2024-03-01T14:30:00Z,1,1,1,1,1\n"
    (tmp_path / "SPY.csv").write_text(rows)
    done = subprocess.run(
        [sys.executable, "examples/ema_cross.py", "backtest", "--data", str(tmp_path), "--from", "2024-03-01", "--to",
         "2024-03-01", "--strategy", "ema_cross", "--set", "fast=5", "--state", str(tmp_path / "s"), "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

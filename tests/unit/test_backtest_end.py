"""When a backtest's data end with trades open, they are closed as an operator would, or left when that is wished."""

from pathlib import Path

from examples.ema_cross import EmaCross, EmaCrossParams
from oracle.backtest import Backtest, make_exchange, wire
from oracle.cli.backtest import ONE_QUOTE_A_MINUTE
from oracle.config import load
from oracle.core.control import BACKTEST, END_OF_DATA, Flatten
from oracle.core.engine import Turn
from oracle.core.messages import OperatorRequested, TradeClosed
from oracle.core.sessions import MINUTE_NS
from oracle.store.sqlite import Store
from oracle.strategies.registry import code_hash
from oracle.tally import Tally
from tests.bench.small_market import make_market

BEFORE_NS = 15 * MINUTE_NS


class _Unwritten:
    """No journal: what is asked for is what the turns say."""

    def write_outputs(self, seq: int, messages: object) -> None:
        """Nothing is kept."""


async def trade(folder: Path, *, leave_open: bool) -> tuple[Tally, list[Turn], int]:
    """Two sessions of a strategy that trades all day long: the tally, its turns, and the last close."""
    table, _, source = make_market(2 * 390)
    params = EmaCrossParams(fast=3, slow=8, hold_minutes=45)
    strategy = EmaCross(params, code_hash(EmaCross, params))
    config = load(None, (), {}, base={
        "mode": "sim", "strategies": {}, "risk": {**ONE_QUOTE_A_MINUTE, "max_round_trips_per_session": "50"},
    })  # fmt: skip
    store = await Store.open(folder, "backtest", source.sessions[0].open_ns, token="end")
    try:
        exchange = make_exchange(config, source, table, Backtest(folder, "", ""))
        tally, turns = Tally(), list[Turn]()
        _, run = wire(
            config, table, await store.load(), (strategy,), exchange, store=store, journal=_Unwritten(),
            observers=(tally.on_turn, lambda turn, _s: turns.append(turn)), leave_open=leave_open,
        )  # fmt: skip
        await run.run()
    finally:
        await store.close()
    return tally, turns, source.sessions[-1].close_ns


def asked(turns: list[Turn]) -> list[Turn]:
    return [turn for turn in turns if isinstance(turn.stamped.input, OperatorRequested)]


async def test_what_is_open_is_closed_before_the_last_close_and_named(tmp_path: Path) -> None:
    tally, turns, close_ns = await trade(tmp_path, leave_open=False)
    (request,) = asked(turns)
    assert request.stamped.at_ns == close_ns - BEFORE_NS
    assert request.stamped.input == OperatorRequested(END_OF_DATA, BACKTEST, END_OF_DATA, Flatten())
    assert tally.open_trades == {}
    assert tally.differences == ()
    rules = [t.exit_rule for t in tally.trades if t.closed_ns >= close_ns - BEFORE_NS]
    assert rules
    assert set(rules) == {END_OF_DATA}
    assert tally.outcome()["open_trades"] == []
    assert [day["after_close"] for day in tally.outcome()["compared"].values()] == [True, True]
    assert max(t.opened_ns for t in tally.trades) < close_ns - BEFORE_NS


async def test_left_open_means_that_the_trades_own_plans_go_on(tmp_path: Path) -> None:
    tally, turns, close_ns = await trade(tmp_path, leave_open=True)
    assert asked(turns) == []
    closed = [m for turn in turns for m in turn.messages if isinstance(m, TradeClosed)]
    assert END_OF_DATA not in {t.exit_rule for t in closed}
    assert max(t.closed_ns for t in closed) >= close_ns - BEFORE_NS
    assert tally.outcome()["by_strategy"]["ema_cross"]["trades"] == len(closed)

"""The generator's planted truths, seen through the whole core: a wall at its strike, a sweep in its contract."""

from pathlib import Path

import pytest

from oracle.backtest import Backtest, calendar_of, make_exchange, wire
from oracle.backtest_run import NoStore
from oracle.build import load_strategies
from oracle.config import load
from oracle.core.marketdata import ChainListed, OptionTrades
from oracle.core.messages import NoData, NoSignal, PositioningMeasured
from oracle.core.sessions import MINUTE_NS
from oracle.sim.market import GeneratedMarket
from oracle.sim.planted_options import PlantedSweep, PlantedWall
from oracle.store.sqlite import Store

DATE = "2026-01-06"
PLANTS = (
    PlantedWall("SPY", DATE, "C", away=0.003, open_interest=400_000),
    PlantedWall("SPY", DATE, "P", away=0.009, open_interest=400_000),
    PlantedSweep("SPY", DATE, minute=40, right="C", expiry=DATE, away=0.001, open_interest=4000, volume_ratio=0.75),
)


class Seen:
    """What the turns of a run said, and the inputs that they were about."""

    def __init__(self):
        self.measured, self.trades, self.verdicts, self.listed = [], [], [], []

    def on_turn(self, turn, _seconds):
        source = turn.stamped.input
        if isinstance(source, OptionTrades):
            self.trades.append((turn.stamped.at_ns, source))
        if isinstance(source, ChainListed):
            self.listed.append(source)
        self.measured += [m for m in turn.messages if isinstance(m, PositioningMeasured)]
        self.verdicts += [m for m in turn.messages if isinstance(m, NoSignal | NoData)]

    def write_outputs(self, seq, messages):
        """Nothing is kept: the turns are looked at instead."""


async def run(tmp_path: Path, plan: str, plants=PLANTS):
    """One generated session, in process; what was said, and the market's declared truths."""
    strategy = 'strategies={momentum_scalping={universe=["SPY"]}}'
    config = load(None, [f"alpaca.plan={plan}", strategy, "feeds.option_quotes_limit=200"], environment={})
    table = calendar_of(DATE, DATE)
    source = GeneratedMarket(3, table, [DATE], plant=(), option_plants=plants)
    strategies, what, seen = load_strategies(config), Backtest(tmp_path, DATE, DATE, seed=3), Seen()
    store = await Store.open(tmp_path / plan, "backtest", source.sessions[0].open_ns, token="t3", feed="simulated")
    try:
        loaded = await store.load()
    finally:
        await store.close()
    _, drive = wire(
        config, table, loaded, strategies, make_exchange(config, source, table, what), store=NoStore(), journal=seen,
        observers=(seen.on_turn,),
    )  # fmt: skip
    await drive.run()
    return seen, {(d["kind"], d.get("right")): d for d in source.declared}, source.sessions[0]


@pytest.mark.timeout(110)
async def test_planted_walls_and_sweep_are_found(tmp_path):
    seen, declared, session = await run(tmp_path, "algo_trader_plus")
    measured = [m for m in seen.measured if m.underlying == "SPY"]
    known = [m for m in measured if m.gamma_reason == ""]
    assert len(known) > 60
    call_wall, put_wall = declared["wall", "C"]["strike"], declared["wall", "P"]["strike"]
    early = [m for m in known if m.at_ns <= session.open_ns + 60 * MINUTE_NS]
    assert {m.call_wall for m in early} == {call_wall}
    assert {m.put_wall for m in early} == {put_wall}
    assert all(m.open_interest_date == "2026-01-05" for m in known)

    sweep = declared["sweep", "C"]
    row = [c.symbol for c in seen.listed[-1].contracts].index(sweep["contract"])
    burst = [t for at_ns, t in seen.trades if abs(at_ns - sweep["at_ns"]) < 2 * 10**9]
    assert any(row.to_bytes(4, "little") in t.rows for t in burst)
    before = [m for m in measured if m.at_ns < sweep["at_ns"]][-1]
    after = next(m for m in measured if m.at_ns > sweep["at_ns"])
    assert before.flow_reason == after.flow_reason == ""
    assert after.bullish_n >= before.bullish_n + 1
    assert after.bullish_usd > before.bullish_usd + 50_000
    assert after.bullish_usd > after.bearish_usd
    later = next(m for m in measured if m.at_ns > sweep["at_ns"] + 31 * MINUTE_NS)
    assert later.bullish_usd < after.bullish_usd


@pytest.mark.timeout(110)
async def test_on_the_indicative_feed_flow_is_no_data_and_gamma_is_not(tmp_path):
    seen, _, _ = await run(tmp_path, "basic", PLANTS[:2])
    assert seen.trades == []
    assert {m.flow_reason for m in seen.measured} == {"indicative_feed"}
    assert any(m.gamma_reason == "" for m in seen.measured)
    told = [v for v in seen.verdicts if "gamma" in v.facts]
    assert told
    assert {v.facts["flow"] for v in told} == {"no data: indicative_feed"}
    assert any(v.facts["gamma"] == "known" for v in told)

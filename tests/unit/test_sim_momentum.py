"""Planted momentum entries: what is declared is what the strategy sees on the bars, and only when asked for."""

import datetime as dt
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oracle.calendar import load_sessions
from oracle.core.errors import ConfigurationError
from oracle.core.marketdata import Bar
from oracle.core.ports import NotSelected
from oracle.core.positioning import NO_POSITIONING
from oracle.core.sessions import MINUTE_NS, SessionTable
from oracle.sim.market import GeneratedMarket, momentum_plants
from oracle.sim.planted import PlantedBreakout, default_plants
from oracle.sim.planted_momentum import FIRST_MIN, LAST_MIN, PAIR, PlantedMomentum, with_momentum
from oracle.strategies.registry import load

DAY, HALF_DAY = "2026-01-05", "2025-11-28"
WARMUP_SESSIONS = 22


@pytest.fixture(scope="module")
def table() -> SessionTable:
    return load_sessions(dt.date(2025, 3, 1), dt.date(2026, 4, 1))


class Asked:
    """Chains that know nothing and remember who asked for an option: every condition was met then."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool, int]] = []

    def spot(self, symbol: str, at_ns: int) -> None:
        del symbol, at_ns

    def select(self, request: Any, at_ns: int) -> NotSelected:
        self.asked.append((request.underlying, request.is_call, at_ns))
        return NotSelected("chain", {})


def entries(market: GeneratedMarket, table: SessionTable) -> list[tuple[str, bool, int]]:
    """Where momentum_scalping would enter on the market's bars: symbol, call or not, minute of the bar."""
    strategy, chains = load("momentum_scalping", {}), Asked()
    session = market.sessions[0]
    market.advance(session.close_ns)
    first = table.before(session.date, WARMUP_SESSIONS)[0]
    bars = [bar for symbol in PAIR for bar in market.bars(symbol, "1Min", first.open_ns, session.close_ns)]
    for b in sorted(bars, key=lambda bar: (bar.start_ns, bar.symbol)):
        early = b.start_ns < session.open_ns
        bar = Bar(b.symbol, b.start_ns, b.open, b.high, b.low, b.close, b.volume, b.trades, b.vwap, early)
        at_ns = b.start_ns + MINUTE_NS
        context: Any = SimpleNamespace(
            at_ns=at_ns, session=table.current_or_next(at_ns), table=table, chains=chains, positioning=NO_POSITIONING
        )  # fmt: skip
        list(strategy.handle(bar, context))
    return [(symbol, call, session.minute_of(at_ns) - 1) for symbol, call, at_ns in chains.asked]


@pytest.mark.parametrize("seed", range(1, 7))
def test_the_strategy_enters_where_an_entry_is_declared(table: SessionTable, seed: int) -> None:
    market = GeneratedMarket(seed, table, [DAY], momentum_plants(seed, table, [DAY]))
    (told,) = [row for row in market.declared if row["kind"] == "momentum_scalping"]
    up = told["direction"] == "up"
    assert told["peer"] == PAIR[told["symbol"]]
    assert told["volume_ratio"] >= 2.5
    assert (told["close"] > told["vwap"]) == up
    assert FIRST_MIN <= told["minute"] <= LAST_MIN
    assert (told["symbol"], up, told["minute"]) in entries(market, table)


def test_a_planted_move_goes_on_or_is_given_back(table: SessionTable) -> None:
    for holds in (True, False):
        for direction in ("up", "down"):
            plan = PlantedMomentum("SPY", DAY, 80, direction, holds)
            market = GeneratedMarket(4, table, [DAY], [plan])
            market.advance(market.sessions[0].close_ns)
            bars = market.bars("SPY", "1Min", market.sessions[0].open_ns, market.sessions[0].close_ns)
            moved = plan.sign * (np.array([bar.close for bar in bars]) / bars[80].close - 1.0)
            assert (moved[81:102].max() > 0.003) == holds
            assert (moved[81:102].min() < -0.003) != holds


def test_nothing_changes_unless_asked_for(table: SessionTable) -> None:
    plain, planted = (GeneratedMarket(3, table, [DAY], p) for p in (None, momentum_plants(3, table, [DAY])))
    assert all(row["kind"] == "opening_range_breakout" for row in plain.declared)
    (told,) = [row for row in planted.declared if row["kind"] == "momentum_scalping"]
    for market in (plain, planted):
        market.advance(market.sessions[0].close_ns)
    ends = market.sessions[0].open_ns, market.sessions[0].close_ns
    for symbol in plain.symbols:
        same = plain.bars(symbol, "1Min", *ends) == planted.bars(symbol, "1Min", *ends)
        assert same == (symbol != told["symbol"])


def test_one_breakout_of_each_whole_session_gives_way(table: SessionTable) -> None:
    dates = [s.date for s in table.before(DAY, 60)]
    plants = momentum_plants(5, table, dates)
    assert plants == momentum_plants(5, table, dates)
    assert len(plants) == 3 * len(dates)
    moved = [p for p in plants if isinstance(p, PlantedMomentum)]
    halves = {s.date for s in table.sessions if s.is_half_day}
    assert {p.date for p in moved} == set(dates) - halves
    assert {p.symbol for p in moved} == set(PAIR)
    assert 0.6 < sum(p.follow_through for p in moved) / len(moved) < 0.9
    kept = [p for p in plants if isinstance(p, PlantedBreakout)]
    assert set(kept) < set(default_plants(5, dates, ["IWM", "QQQ", "SPY"]))
    assert with_momentum(5, (), ()) == ()


@pytest.mark.parametrize(
    ("field", "plants"),
    [
        ("plant.minute", [PlantedMomentum("SPY", DAY, FIRST_MIN - 1, "up")]),
        ("plant.minute", [PlantedMomentum("SPY", DAY, LAST_MIN + 1, "up")]),
        ("plant.symbol", [PlantedMomentum("IWM", DAY, 80, "up")]),
        ("plant.date", [PlantedMomentum("SPY", HALF_DAY, 80, "up")]),
        ("plant", [PlantedMomentum("SPY", DAY, 80, "up"), PlantedMomentum("QQQ", DAY, 90, "up")]),
    ],
)
def test_plans_that_do_not_fit_are_refused(table: SessionTable, field: str, plants: list[PlantedMomentum]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        GeneratedMarket(1, table, sorted({plant.date for plant in plants}), plants)
    assert caught.value.field == field
    assert caught.value.fix


def test_a_peer_that_is_not_generated_is_refused(table: SessionTable) -> None:
    with pytest.raises(ConfigurationError, match="needs its peer QQQ"):
        GeneratedMarket(1, table, [DAY], [PlantedMomentum("SPY", DAY, 80, "up")], symbols=["SPY"])

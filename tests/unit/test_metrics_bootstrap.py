"""The resampling: blocks, shares against a plain reading of the same draws, the phantom, and bits that repeat."""

import math

import msgspec
import numpy as np
import pytest

from oracle.core.trackrecord import StrategyKey
from oracle.metrics.bootstrap import HORIZON_TRADES, RESAMPLES, Resampler, mean_block, seed_of
from oracle.metrics.evidence import Evidence
from tests.simulation.tracks import NO_EDGE, STRONG, Shape, independent, make

HOUR_NS = 3_600_000_000_000
KEY = StrategyKey("iron_condor", "a1")


def resampler(shape: Shape = STRONG, n: int = 150, *, sets: int = 1, inflation: float = 1.0) -> Resampler:
    track = make(shape, (21,), n)
    return Resampler(track.key, Evidence.of(track.trades), n, inflation, sets)


def drawn(made: Resampler, purpose: str, length: int) -> np.ndarray:
    """The indices that blocks stand for, one row a resample, in the plainest way."""
    starts, lengths = made._blocks(purpose, length)
    pool = made._net.size
    rows = [
        [(start + i) % pool for start, long in zip(row, longs, strict=True) for i in range(long)]
        for row, longs in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]
    return np.array(rows)


def test_blocks_fill_each_resample_and_are_as_long_as_asked() -> None:
    made = resampler(inflation=3.0)
    starts, lengths = made._blocks("x", 5_000)
    assert (lengths >= 0).all()
    assert (lengths.sum(axis=1) == 5_000).all()
    assert starts.min() == 0
    assert starts.max() == made._net.size - 1
    assert lengths[:, :100].mean() == pytest.approx(made.block, rel=0.02)
    # A geometric length has the deviation b √(1 − 1/b).
    assert lengths[:, :100].std() == pytest.approx(made.block * math.sqrt(1 - 1 / made.block), rel=0.02)


def test_the_profit_factors_share_is_that_of_a_plain_reading() -> None:
    made = resampler()
    chosen = made._net[drawn(made, "profit factor", 150)]
    factors = np.maximum(chosen, 0).sum(axis=1) / np.maximum(-chosen, 0).sum(axis=1)
    found = made.profit_factor(2.0)
    assert found.probability == np.count_nonzero(factors >= 2.0) / RESAMPLES
    ordered = np.sort(factors)
    assert found.low == ordered[50]
    assert found.high == ordered[1950]


def test_the_drawdowns_share_is_that_of_a_plain_reading() -> None:
    made = resampler(NO_EDGE[0])
    falls = []
    for row in made._returns[drawn(made, "drawdown", HORIZON_TRADES)].tolist():
        equity = peak = 1.0
        fall = 0.0
        for change in row:
            equity *= 1 + change
            peak = max(peak, equity)
            fall = max(fall, 1 - equity / peak)
        falls.append(fall)
    found = made.drawdown(0.15)
    assert found is not None
    assert found.probability == sum(fall < 0.15 for fall in falls) / RESAMPLES
    assert 0.05 < found.probability < 0.95
    assert found.high == pytest.approx(sorted(falls)[1950], rel=1e-12)


def test_the_pool_holds_one_phantom_at_the_stored_worst_case() -> None:
    never_lost = Shape("x", "x", independent(1.0, 1.0), (30.0, 30.0))
    made = resampler(never_lost, 100)
    assert made._net.size == 101
    assert made._net[-1] < -29_000_000_000
    assert made._returns[-1] == pytest.approx(-0.30, rel=1e-6)
    # No phantom among 250 draws of 101 is about e^-2.5; without it there is no fall at all.
    found = made.drawdown(0.10)
    assert found is not None
    assert found.probability == pytest.approx((1 - 1 / 101) ** 250, abs=0.04)
    assert made.profit_factor(2.0).probability < 1


def test_without_a_loss_in_a_resample_the_profit_factor_has_no_upper_bound() -> None:
    found = resampler(Shape("x", "x", independent(1.0, 1.0)), 100).profit_factor(2.0)
    assert found.high is None
    assert found.low is not None
    assert found.probability > 0.9


def test_a_record_without_a_win_meets_nothing() -> None:
    found = resampler(Shape("x", "x", independent(0.0, 1.0)), 100).profit_factor(2.0)
    assert (found.probability, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_same_strategy_draws_the_same_bits_and_another_hash_or_number_does_not() -> None:
    one, other = resampler(), resampler()
    assert one.profit_factor(2.0) == other.profit_factor(2.0) == one.profit_factor(2.0)
    assert one.drawdown(0.1) == other.drawdown(0.1)
    seeds = {
        seed_of(StrategyKey(name, code), n, what)
        for name in ("a", "b") for code in ("1", "2") for n in (100, 101) for what in ("x", "y")
    }  # fmt: skip
    assert len(seeds) == 16


def test_independent_trades_give_the_interval_of_the_delta_method() -> None:
    track = make(STRONG, (33,), 3_000, 1e-4)
    made = Resampler(track.key, Evidence.of(track.trades), 3_000, 1.0, 1)
    net = np.array([t.net_micros for t in track.trades], dtype=np.float64)
    up, down = np.maximum(net, 0), np.maximum(-net, 0)
    scatter = math.sqrt((up.var() / up.mean() ** 2 + down.var() / down.mean() ** 2 + 2) / net.size)
    found = made.profit_factor(2.0)
    assert found.low is not None
    assert found.high is not None
    assert math.log(found.high / found.low) == pytest.approx(2 * 1.96 * scatter, rel=0.1)
    assert found.low < up.sum() / down.sum() < found.high


def test_the_best_of_many_sets_is_lowered_by_what_luck_added() -> None:
    one, many = resampler(), resampler(sets=50)
    assert many.profit_factor(2.0).probability < one.profit_factor(2.0).probability
    first, second = one.drawdown(0.05), many.drawdown(0.05)
    assert first is not None
    assert second is not None
    assert second.probability < first.probability


def test_blocks_are_at_least_the_holding_period_in_trades() -> None:
    track = make(STRONG, (1,), 120)
    brief = Evidence.of(track.trades)
    # One trade starts each hour and lasts twelve.
    spread = [
        msgspec.structs.replace(t, opened_ns=i * HOUR_NS, closed_ns=(i + 12) * HOUR_NS)
        for i, t in enumerate(track.trades)
    ]
    assert mean_block(brief, 120, 1.0) == pytest.approx(120 ** (1 / 3))
    assert mean_block(Evidence.of(spread), 120, 1.0) == pytest.approx(120 * 12 / 131)
    assert mean_block(brief, 120, 8.0) == pytest.approx(4 * 120 ** (1 / 3))
    assert mean_block(brief, 1, 1.0) == 1.0


def test_one_trade_can_be_resampled() -> None:
    track = make(STRONG, (2,), 1)
    made = Resampler(track.key, Evidence.of(track.trades), 1, 1.0, 1)
    assert 0 <= made.profit_factor(2.0).probability <= 1
    assert made.drawdown(0.1) is not None


def test_without_equity_at_entry_there_is_no_drawdown() -> None:
    track = make(STRONG, (2,), 100)
    blank = [msgspec.structs.replace(t, equity_micros=0) if i == 50 else t for i, t in enumerate(track.trades)]
    assert Resampler(KEY, Evidence.of(blank), 100, 1.0, 1).drawdown(0.1) is None
    assert Resampler(KEY, Evidence.of(blank), 50, 1.0, 1).drawdown(0.1) is not None

"""Batch and running form give the same bits after every row; figures do not depend on currency or order of rows."""

import json
import math
from collections.abc import Callable
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.core.trackrecord import ClosedTrade, DayResult
from oracle.metrics.arrays import DayArrays, TradeArrays
from oracle.metrics.exact import Moments
from oracle.metrics.performance import FIELDS, Accumulator, Figures, drawdown_curve, equity_curve, figures
from oracle.metrics.totals import DayTotals, TradeTotals
from tests.unit.test_metrics_performance import KEY, SESSION_NS

AMOUNTS = st.one_of(st.integers(-(10**12), 10**12), st.sampled_from((0, 1, -1, 1_300_000, -1_300_000, 10**15)))
POSITIVE = st.one_of(st.integers(1, 10**12), st.just(10**15))
MAYBE = st.one_of(st.none(), AMOUNTS)


@st.composite
def closed_trades(draw: Callable[..., int]) -> list[ClosedTrade]:
    """Up to 15 trades in the order of their log ids, of any result, with gaps in what is known."""
    count = draw(st.integers(0, 15))
    out = []
    for n in range(count):
        net, fees = draw(AMOUNTS), draw(st.sampled_from((0, 1_300_000, 2_600_000)))
        out.append(
            ClosedTrade(
                log_id=n, trade_id=f"T-{n}", key=KEY, underlying="SPY", symbol="SPY", opened_ns=n,
                closed_ns=n + draw(st.integers(0, 10**15)), session="2026-01-05",
                contracts=draw(st.integers(0, 50)), leg_contracts=draw(st.integers(0, 400)), gross_micros=net + fees,
                net_micros=net, fees_modelled_micros=fees, fees_broker_micros=draw(st.integers(0, 10**6)),
                slippage_micros=draw(MAYBE), slippage_bps=draw(st.one_of(st.none(), st.floats(-1e4, 1e4))),
                planned_risk_micros=draw(st.one_of(st.just(0), POSITIVE)),
                worst_case_micros=draw(st.one_of(st.just(0), POSITIVE)),
                equity_micros=draw(st.one_of(st.just(0), POSITIVE)), mae_micros=draw(MAYBE), mfe_micros=draw(MAYBE),
                exit_rule="stop", feed=None,
            )
        )  # fmt: skip
    return out


@st.composite
def day_results(draw: Callable[..., int]) -> list[DayResult]:
    """Up to 25 sessions, ascending; flat, unknown, ruinous and ordinary ones."""
    count = draw(st.integers(0, 25))
    starts = st.one_of(st.just(0), st.integers(10**9, 10**13))
    pnl = st.one_of(st.none(), st.just(0), st.integers(-(10**10), 10**10))
    dates = [f"2026-{1 + n // 28:02d}-{n % 28 + 1:02d}" for n in range(count)]
    return [DayResult(date, draw(pnl), draw(starts), 0, draw(st.integers(0, SESSION_NS)), SESSION_NS) for date in dates]


def bits(found: Figures) -> list[object]:
    """Every figure, floats to the last bit; the sign of zero is one."""
    return [value.hex() if isinstance(value, float) else value for value in found.as_dict().values()]


@settings(max_examples=40, deadline=None)
@given(closed_trades(), day_results())
def test_the_running_form_is_the_batch_form_to_the_last_bit(trades: list[ClosedTrade], days: list[DayResult]) -> None:
    running = Accumulator(bound=0.7)
    assert bits(running.figures()) == bits(figures([], [], bound=0.7))
    for n, trade in enumerate(trades, 1):
        running.add(trade)
        assert bits(running.figures()) == bits(figures(trades[:n], [], bound=0.7))
    for n, day in enumerate(days, 1):
        running.add_day(day)
        assert bits(running.figures()) == bits(figures(trades, days[:n], bound=0.7))


@settings(max_examples=40, deadline=None)
@given(closed_trades(), day_results())
def test_both_forms_hold_the_same_totals(trades: list[ClosedTrade], days: list[DayResult]) -> None:
    of_trades, of_days = TradeTotals(), DayTotals()
    for trade in trades:
        of_trades.add(trade)
    for day in days:
        of_days.add(day)
    assert of_trades == TradeTotals.of(TradeArrays.from_trades(trades))
    assert of_days == DayTotals.of(DayArrays.from_days(days))


@settings(max_examples=40, deadline=None)
@given(closed_trades(), day_results())
def test_figures_are_plain_finite_and_in_bounds(trades: list[ClosedTrade], days: list[DayResult]) -> None:
    found = figures(trades, days)
    json.dumps(found.as_dict(), allow_nan=False)
    assert found.trades == found.wins + found.losses + found.scratches == len(trades)
    if found.trades:
        assert found.win_rate is not None
        assert found.win_rate_low is not None
        assert found.win_rate_high is not None
        assert 0 <= found.win_rate_low <= found.win_rate <= found.win_rate_high <= 1
    else:
        assert found.win_rate is found.win_rate_low is found.expectancy_usd is None
    for share in (found.break_even_win_rate, found.max_drawdown, found.ulcer_index, found.exposure):
        assert share is None or 0 <= share <= 1
    if found.max_drawdown is not None:
        assert found.current_drawdown is not None
        assert found.ulcer_index is not None
        assert found.current_drawdown <= found.max_drawdown
        assert found.ulcer_index <= found.max_drawdown * (1 + 1e-12)
    if found.average_win_usd is not None and found.average_loss_usd is not None:
        assert found.break_even_win_rate is not None
        both = found.average_win_usd + found.average_loss_usd
        assert math.isclose(found.break_even_win_rate, found.average_loss_usd / both, rel_tol=1e-12)


@settings(max_examples=40, deadline=None)
@given(closed_trades(), day_results(), st.randoms(use_true_random=False))
def test_the_order_of_rows_given_does_not_matter(
    trades: list[ClosedTrade], days: list[DayResult], random: Random
) -> None:
    shuffled, other_days = list(trades), list(days)
    random.shuffle(shuffled)
    random.shuffle(other_days)
    assert bits(figures(shuffled, other_days)) == bits(figures(trades, days))


@settings(max_examples=40, deadline=None)
@given(closed_trades(), day_results(), st.sampled_from((2, 3, 7, 100)))
def test_the_currencys_scale_changes_dollars_alone(
    trades: list[ClosedTrade], days: list[DayResult], scale: int
) -> None:
    """Sharpe and every other pure number are the same in yen as in dollars, to the last bit."""

    def times(value: int | None) -> int | None:
        return None if value is None else value * scale

    columns = [f for f in ClosedTrade.__struct_fields__ if f.endswith("_micros")]
    other = [msgspec.structs.replace(t, **{c: times(getattr(t, c)) for c in columns}) for t in trades]
    other_days = [
        msgspec.structs.replace(d, pnl_micros=times(d.pnl_micros), start_equity_micros=d.start_equity_micros * scale)
        for d in days
    ]
    one, two = figures(trades, days), figures(other, other_days)
    in_dollars = [name for name in FIELDS if name.endswith("_usd")]
    pure = [n for n, name in enumerate(FIELDS) if name not in in_dollars]
    assert [bits(one)[n] for n in pure] == [bits(two)[n] for n in pure]
    for name in in_dollars:
        before, after = getattr(one, name), getattr(two, name)
        assert (before is None) is (after is None)
        assert before is None or math.isclose(after, before * scale, rel_tol=1e-12, abs_tol=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), max_size=60))
def test_moments_are_exact_sums(values: list[float]) -> None:
    batch, running = Moments.of(np.array(values, dtype=np.float64)), Moments()
    for value in values:
        running.add(value)
    assert batch == running
    if not values:
        assert batch.mean is batch.deviation is batch.mean_square is None
        return
    assert batch.mean == pytest.approx(math.fsum(values) / len(values), rel=1e-14, abs=1e-30)
    if len(values) > 1:
        mean = math.fsum(values) / len(values)
        expected = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
        assert batch.deviation == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.floats(-0.5, 0.5), st.integers(2, 300))
def test_equal_values_have_no_deviation_at_all(value: float, count: int) -> None:
    assert Moments.of(np.full(count, value)).deviation == 0


@settings(max_examples=40, deadline=None)
@given(day_results())
def test_curves_tell_what_the_figures_tell(days: list[DayResult]) -> None:
    found, (dates, index) = figures([], days), equity_curve(days)
    assert len(dates) == len(index) == found.sessions - found.unknown_sessions + 1
    assert index[0] == 1
    if len(index) > 1:
        under = drawdown_curve(index)
        assert found.total_return == index[-1] - 1
        assert found.max_drawdown == under.max()
        assert found.current_drawdown == under[-1]

"""What an assessment says in words, and what its numbers may not depend on."""

import dataclasses

import msgspec
import pytest

from oracle.metrics.criteria import Criteria
from oracle.metrics.performance import figures
from oracle.metrics.readiness import CriterionResult, assess
from tests.simulation.tracks import FAIR, NO_EDGE, STRONG, Shape, Track, independent, make
from tests.unit.test_metrics_readiness import KEY, alternating, judged, of, record, strong


def test_reasons_name_what_is_missing_in_words() -> None:
    made = judged([60.0, -40.0, -40.0] * 21)
    assert made.reasons[0] == "needs 37 more trades"
    assert "win rate 33.3 % below 65 %" in made.reasons
    assert "Sharpe -2.23 below 1.5" in made.reasons
    assert "profit factor 0.75 below 2" in made.reasons
    assert made.reason == "; ".join(made.reasons)


def test_disabling_is_suggested_below_50_once_50_trades_exist() -> None:
    poor = [60.0, -40.0] * 40
    assert not judged(poor[:49]).suggest_disable
    assert judged(poor[:50]).suggest_disable
    assert not judged(strong()).suggest_disable


def test_the_date_of_the_hundredth_trade_is_told_in_weekdays() -> None:
    trades, days = record(alternating(40, 10, 100.0, 100.0))
    # One trade a session for ten weeks from Monday the 5th of January; fifty more take ten weeks more.
    made = assess(KEY, trades, days, Criteria(), parameter_sets=1, bound=None)
    assert days[-1].date == "2026-03-13"
    assert made.expected_date == "2026-05-22"
    assert judged(strong()).expected_date is None


def test_power_says_how_many_more_trades_would_tell() -> None:
    made = judged(alternating(63, 37, 100.0, 40.0))
    # ((1.2816 √(0.63 · 0.37) + 0.8416 √(0.65 · 0.35)) / 0.02)² = 2602 in all.
    assert made.power == "could tell 65 % from 63 % with 2502 more trades"
    assert judged(strong()).power.endswith("with the trades at hand")


def test_what_power_names_is_enough_if_it_goes_on_like_that() -> None:
    nets = [net + i % 7 for i, net in enumerate(alternating(56, 20, 100.0, 100.0))]
    made = judged(nets)
    assert made.power.startswith("could tell ")
    more = int(made.power.split(" with ")[1].split()[0])
    later = judged((nets * (2 + more // len(nets)))[: len(nets) + more])
    furthest = min((r for r in made.criteria if r.probability is not None), key=lambda r: r.probability or 0)
    assert of(later, furthest.name).probability >= 0.89  # type: ignore[operator]


def test_what_the_profit_factor_needs_at_a_small_payoff_is_out_of_reach() -> None:
    made = judged(alternating(160, 40, 25.0, 100.0))
    assert any(
        words.startswith("profit factor 2: at this payoff it takes a win rate of 88.9 %") for words in made.out_of_reach
    )


def test_intervals_hold_what_was_seen() -> None:
    for track in (make(STRONG, (8,)), make(NO_EDGE[5], (8,)), make(FAIR, (9,), 40)):
        for result in _all(track):
            if result.observed is not None and result.low is not None and result.name != "max_drawdown":
                assert result.low <= result.observed
                assert result.high is None or result.observed <= result.high


def _all(track: Track) -> tuple[CriterionResult, ...]:
    return assess(track.key, track.trades, track.days, Criteria(), parameter_sets=1, bound=None).criteria


def test_scale_of_the_currency_does_not_matter() -> None:
    track = make(STRONG, (6,), 150)
    fields = (
        "gross_micros",
        "net_micros",
        "fees_modelled_micros",
        "planned_risk_micros",
        "worst_case_micros",
        "equity_micros",
    )
    trades = [msgspec.structs.replace(t, **{f: 100 * getattr(t, f) for f in fields}) for t in track.trades]
    days = [
        msgspec.structs.replace(
            d, pnl_micros=100 * (d.pnl_micros or 0), start_equity_micros=100 * d.start_equity_micros
        )
        for d in track.days
    ]
    one, other = (
        assess(track.key, t, d, Criteria(), parameter_sets=1, bound=None)
        for t, d in ((track.trades, track.days), (trades, days))
    )
    assert other.score == pytest.approx(one.score, rel=1e-12)
    assert other.ready == one.ready


def test_an_assessment_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        judged(strong()[:5]).ready = True  # type: ignore[misc]


def test_a_win_within_fees_is_no_win() -> None:
    assert of(judged([0.5] * 10 + [50.0] * 10), "win_rate").observed == 0.5


def test_shapes_are_what_they_say() -> None:
    shape = Shape("x", "x", independent(0.75, 1.0))
    track = make(shape, (1,), 300)
    told = figures(track.trades, track.days)
    assert told.scratches == 0
    assert told.trades == 300
    assert track.days[-1].start_equity_micros + (track.days[-1].pnl_micros or 0) == pytest.approx(
        100_000_000_000 + sum(t.net_micros for t in track.trades)
    )

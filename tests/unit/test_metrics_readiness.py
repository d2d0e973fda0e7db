"""The readiness score: its probabilities by hand, its guards, and that every way to it gives the same bits."""

import math
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from oracle.core.trackrecord import ClosedTrade, DayResult, StrategyKey
from oracle.metrics.criteria import Criteria, row_of
from oracle.metrics.evidence import Evidence, best_of, inflation_of, sharpe_chance, win_rate_chance
from oracle.metrics.performance import figures
from oracle.metrics.readiness import Assessment, CriterionResult, assess, first_ready, sessions_over
from tests.simulation.tracks import BOUNDARY, FAIR, NO_EDGE, STRONG, Shape, make, weekdays

KEY = StrategyKey("iron_condor", "a1")
EQUITY = 100_000_000_000
USD = 1_000_000


def trade(
    number: int, net_usd: float, *, worst_usd: float = 100.0, fee_usd: float = 1.0, **changes: object
) -> ClosedTrade:
    """One trade a session; changes are fields of ClosedTrade."""
    opened = number * 86_400_000_000_000
    made = ClosedTrade(
        log_id=number + 1, trade_id=f"t{number}", key=KEY, underlying="SPY", symbol="SPY", opened_ns=opened,
        closed_ns=opened + 3_600_000_000_000, session=weekdays(number + 1)[number].isoformat(), contracts=1,
        leg_contracts=2, gross_micros=round((net_usd + fee_usd) * USD), net_micros=round(net_usd * USD),
        fees_modelled_micros=round(fee_usd * USD), fees_broker_micros=0, slippage_micros=None, slippage_bps=None,
        planned_risk_micros=100 * USD, worst_case_micros=round((worst_usd - fee_usd) * USD), equity_micros=EQUITY,
        mae_micros=None, mfe_micros=None, exit_rule="target", feed="opra",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def day(number: int, pnl_usd: float | None) -> DayResult:
    pnl = None if pnl_usd is None else round(pnl_usd * USD)
    return DayResult(weekdays(number + 1)[number].isoformat(), pnl, EQUITY, 0, 0, 23_400_000_000_000)


def record(nets_usd: list[float], **changes: object) -> tuple[list[ClosedTrade], list[DayResult]]:
    return [trade(i, net, **changes) for i, net in enumerate(nets_usd)], [day(i, net) for i, net in enumerate(nets_usd)]


def judged(nets_usd: list[float], *, bound: float | None = None, sets: int = 1, **changes: object) -> Assessment:
    trades, days = record(nets_usd, **changes)
    return assess(KEY, trades, days, Criteria(), parameter_sets=sets, bound=bound)


def of(made: Assessment, name: str) -> CriterionResult:
    (found,) = (result for result in made.criteria if result.name == name)
    return found


def alternating(wins: int, losses: int, win_usd: float, loss_usd: float) -> list[float]:
    """Spread losses evenly among wins, so that nothing clusters."""
    n = wins + losses
    lost = {int((i + 0.5) * n / losses) for i in range(losses)}
    return [-loss_usd if i in lost else win_usd for i in range(n)]


def test_no_trades_say_nothing() -> None:
    made = assess(KEY, [], [], Criteria(), parameter_sets=0, bound=None)
    assert (made.score, made.ready, made.trades_needed, made.expected_date) == (0.0, False, 100, None)
    assert made.reason == "needs 100 trades and has none"


def test_the_win_rates_probability_is_the_posteriors() -> None:
    def posterior(p: float) -> float:
        return p ** (20 * 0.6 - 1 + 70) * (1 - p) ** (20 * 0.4 - 1 + 30)

    above, whole = (integrate.quad(posterior, low, 1, epsabs=0, epsrel=1e-12)[0] for low in (0.65, 0))
    assert float(win_rate_chance(0.7, 100.0, 0.6, 0.65, 0.0)) == pytest.approx(above / whole, rel=1e-9)
    # Autocorrelated trades count for fewer.
    assert float(win_rate_chance(0.7, 50.0, 0.6, 0.65, 0.0)) == pytest.approx(stats.beta.sf(0.65, 12 + 35, 8 + 15))


def test_the_sharpe_ratios_probability_is_the_posteriors() -> None:
    daily, sessions = 0.2, 120
    error, chance = sharpe_chance(daily, sessions, 1.5, 0.0)
    expected = math.sqrt(252 * (1 + daily**2 / 2) / sessions)
    assert float(error) == pytest.approx(expected, rel=1e-12)
    seen = daily * math.sqrt(252)

    def posterior(x: float) -> float:
        return float(stats.norm.pdf(x, 0, 1.25) * stats.norm.pdf(seen, x, expected))

    above, whole = (integrate.quad(posterior, low, 20, epsabs=0, epsrel=1e-10)[0] for low in (1.5, -20))
    assert float(chance) == pytest.approx(above / whole, rel=1e-7)


@pytest.mark.parametrize(
    ("sets", "expected"), [(0, 0.0), (1, 0.0), (2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi))]
)
def test_what_the_best_of_some_owes_to_luck(sets: int, expected: float) -> None:
    assert best_of(sets) == pytest.approx(expected, abs=1e-9)


def test_a_negative_number_of_sets_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        best_of(-1)


def test_break_even_is_from_realised_averages_and_one_phantom_at_the_worst_case() -> None:
    made = judged([100.0, 100.0, 100.0, -150.0], worst_usd=250.0)
    # L = (150 + 250) / 2 = 200, W = 100.
    assert of(made, "above_break_even").required == pytest.approx(200 / 300 + 0.05)
    assert made.implied_win_rate == pytest.approx(2 * 150 / (100 + 2 * 150))


def test_a_loss_beyond_the_stored_worst_case_takes_its_place() -> None:
    made = judged([100.0, 100.0, 100.0, -600.0], worst_usd=250.0)
    assert of(made, "above_break_even").required == pytest.approx(600 / 700 + 0.05)


def test_the_plans_bound_is_the_floor_of_the_break_even() -> None:
    nets = alternating(78, 22, 100.0, 100.0)
    assert of(judged(nets, bound=0.3), "above_break_even").required == pytest.approx(0.55)
    assert of(judged(nets, bound=0.7), "above_break_even").required == pytest.approx(0.75)


def test_the_sharpe_ratio_is_that_of_the_figures_to_the_bit() -> None:
    track = make(FAIR, (3,))
    made = assess(track.key, track.trades, track.days, Criteria(), parameter_sets=1, bound=None)
    told = figures(track.trades, track.days)
    assert of(made, "sharpe").observed == told.sharpe
    assert of(made, "win_rate").observed == told.win_rate
    assert of(made, "profit_factor").observed == told.profit_factor
    assert of(made, "max_drawdown").observed == told.max_drawdown


def test_without_variance_the_prior_alone_speaks() -> None:
    made = judged([100.0] * 120, worst_usd=150.0)
    assert of(made, "sharpe").observed is None
    assert of(made, "sharpe").probability == pytest.approx(1 - stats.norm.cdf(1.5 / 1.25))
    assert not made.ready


def test_without_sessions_the_prior_alone_speaks() -> None:
    trades, _ = record([100.0, -50.0] * 60)
    made = assess(KEY, trades, [], Criteria(), parameter_sets=1, bound=None)
    assert of(made, "sharpe").probability == pytest.approx(1 - stats.norm.cdf(1.5 / 1.25))
    assert made.expected_date is None


def test_sessions_of_unknown_return_are_no_evidence() -> None:
    nets = [100.0, 100.0, -50.0] * 40
    trades, days = record(nets)
    blank = [day(i, None) if i % 2 else one for i, one in enumerate(days)]
    sure, unsure = (
        of(assess(KEY, trades, x, Criteria(), parameter_sets=1, bound=None), "sharpe") for x in (days, blank)
    )
    assert unsure.high - unsure.low > sure.high - sure.low  # type: ignore[operator]


def test_independent_outcomes_are_not_inflated_and_runs_are() -> None:
    alternate = np.array([1, 0] * 50)
    runs = np.array(([1] * 10 + [0] * 10) * 5)
    assert inflation_of(alternate, np.array([100])) == 1.0
    (found,) = inflation_of(runs, np.array([100]))
    assert found == pytest.approx(_inflation_by_hand(runs), rel=1e-12)
    assert found > 3
    assert inflation_of(np.ones(30, dtype=np.int64), np.array([1, 2, 30])).tolist() == [1.0, 1.0, 1.0]


def _inflation_by_hand(won: np.ndarray) -> float:
    y = won - won.mean()
    lags = int(math.sqrt(y.size))
    return 1 + 2 * sum((1 - k / (lags + 1)) * float(y[k:] @ y[:-k]) / float(y @ y) for k in range(1, lags + 1))


@pytest.mark.parametrize("shape", [*NO_EDGE, STRONG, BOUNDARY], ids=lambda shape: shape.name)
def test_a_walk_gives_the_bits_that_assess_gives_on_lists(shape: Shape) -> None:
    track = make(shape, (11,), 160)
    over = sessions_over(track.trades, track.days)
    first = None
    for n in range(100, 161):
        made = assess(track.key, track.trades[:n], track.days[: over[n - 1]], Criteria(), parameter_sets=1, bound=None)
        if made.ready:
            first = n
            break
    found = first_ready(track.key, track.trades, track.days, Criteria(), parameter_sets=1, bound=None, upto=160)
    assert found == first


@pytest.mark.parametrize("sets", [1, 50])
def test_each_probability_is_the_same_alone_and_in_a_walk(sets: int) -> None:
    from oracle.metrics.arrays import DayArrays
    from oracle.metrics.evidence import Sessions, weigh

    for shape in (*NO_EDGE, STRONG):
        track = make(shape, (5,))
        at = np.arange(1, 301)
        over = sessions_over(track.trades, track.days)
        sessions = Sessions.after(DayArrays.from_days(track.days), over)
        walked = weigh(Evidence.of(track.trades), sessions, at, Criteria(), sets, 0.4)
        for n in (1, 2, 5, 9, 99, 100, 233, 300):
            trades, days = track.trades[:n], track.days[: over[n - 1]]
            made = assess(track.key, trades, days, Criteria(), parameter_sets=sets, bound=0.4, bootstrap=False)
            assert made.score == 100 * float(walked.least[n - 1])


def test_rows_count_in_their_own_order_whatever_the_order_given() -> None:
    track = make(STRONG, (4,), 130)
    trades, days = list(track.trades), list(track.days)
    random.Random(1).shuffle(trades)
    random.Random(2).shuffle(days)
    one, other = (
        assess(track.key, t, d, Criteria(), parameter_sets=1, bound=None)
        for t, d in ((track.trades, track.days), (trades, days))
    )
    assert one == other


def test_a_strong_record_is_ready_and_says_so() -> None:
    made = judged(strong())
    assert made.bootstrapped
    assert made.ready
    assert made.reason.startswith("ready: 200 trades, each criterion at least ")
    assert all(result.probability is None or result.probability >= 0.9 for result in made.criteria)
    assert made.score == 100 * min(r.probability for r in made.criteria if r.probability is not None)
    assert msgspec.json.decode(msgspec.json.encode(made.as_dict()))["criteria"][1]["name"] == "win_rate"


def strong() -> list[float]:
    return [net + (i % 7) for i, net in enumerate(alternating(160, 40, 100.0, 100.0))]


def test_nothing_is_ready_without_the_bootstrap() -> None:
    trades, days = record(strong())
    made = assess(KEY, trades, days, Criteria(), parameter_sets=1, bound=None, bootstrap=False)
    assert not made.ready
    assert made.score >= 90
    assert made.reason == "profit factor and drawdown are not resampled yet"


def test_nothing_is_ready_while_something_is_held_that_has_no_mark() -> None:
    trades, days = record(strong())
    for unknown in (1, 3):
        dark = [*days, *(day(len(days) + i, None) for i in range(unknown))]
        made = assess(KEY, trades, dark, Criteria(), parameter_sets=1, bound=None)
        assert made.score >= 90
        assert not made.ready
        last = "session" if unknown == 1 else "3 sessions"
        assert made.reason == f"the result of its last {last} is unknown: what it holds has no mark"
        marked = assess(KEY, trades, [*dark, day(len(dark), 0.0)], Criteria(), parameter_sets=1, bound=None)
        assert marked.ready
    for odd in (0, 1):  # a walk looks at every other session alone
        blank = [day(i, None) if i % 2 == odd else one for i, one in enumerate(days)]
        found = first_ready(KEY, trades, blank, Criteria(), parameter_sets=1, bound=None)
        assert found is not None
        assert found % 2 == odd


def test_nothing_is_ready_before_the_number_of_trades() -> None:
    trades, days = record(strong()[:99])
    made = assess(KEY, trades, days, Criteria(), parameter_sets=1, bound=None)
    assert not made.ready
    assert made.trades_needed == 1
    assert made.reasons[0] == "needs 1 more trades"


def test_more_sets_of_parameters_ask_for_more() -> None:
    scores = [judged(strong()[:120], sets=sets).score for sets in (1, 2, 5, 20, 50, 1000)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] + 20
    assert judged(strong(), sets=0).score == judged(strong(), sets=1).score


def test_a_condor_that_wins_78_percent_is_not_ready_because_it_loses_money() -> None:
    # 50 % target and a stop at twice the credit of 1.00, four legs: 50 - 5.20 against 200 + 5.20 dollars.
    gain, loss = 50 - 5.2, 200 + 5.2
    made = judged(
        [net + i % 3 * 0.01 for i, net in enumerate(alternating(312, 88, gain, loss))],
        bound=loss / (gain + loss), worst_usd=405.2, fee_usd=5.2,
    )  # fmt: skip
    assert not made.ready
    assert made.score < 5
    (clause,) = (words for words in made.reasons if "break even" in words)
    assert clause.startswith("wins 78 %, needs 82.")
    assert clause.endswith("% to break even after costs")


def test_the_plans_own_bound_is_named_where_the_tail_has_not_been_seen() -> None:
    made = judged(alternating(156, 44, 100.0, 100.0), bound=0.821)
    assert "wins 78 %, needs 82.1 % to break even after costs by its exit plan" in made.reasons


def test_rare_losses_are_out_of_reach() -> None:
    made = judged([10.0 + i % 3 * 0.1 for i in range(150)], worst_usd=700.0)
    assert not made.ready
    assert made.score == 0
    assert any("break-even 98.6 %" in words and "100 % or more" in words for words in made.out_of_reach)


def test_without_a_stored_worst_case_nothing_is_known() -> None:
    made = judged(strong(), worst_usd=1.0)
    assert made.score == 0
    assert "no worst case is stored, so no break-even is known" in made.reasons
    assert made.implied_win_rate is None


def test_without_the_equity_at_an_entry_the_drawdown_is_unknown_and_nothing_is_ready() -> None:
    trades, days = record(strong())
    trades[17] = msgspec.structs.replace(trades[17], equity_micros=0)
    made = assess(KEY, trades, days, Criteria(), parameter_sets=1, bound=None)
    assert made.bootstrapped
    assert not made.ready
    assert "the equity at some entry is unknown" in made.reasons


def test_another_code_or_parameter_starts_from_zero_trades() -> None:
    trades, days = record(strong())
    changed = StrategyKey(KEY.strategy, "b2")
    with pytest.raises(ValueError, match="a1"):
        assess(changed, trades, days, Criteria(), parameter_sets=2, bound=None)
    own = [one for one in trades if one.key == changed]
    assert assess(changed, own, [], Criteria(), parameter_sets=2, bound=None).trades_needed == 100


@settings(max_examples=300, deadline=None)
@given(
    wins=st.lists(st.floats(1.5, 5_000), min_size=5, max_size=5),
    gaps=st.lists(st.integers(0, 30), min_size=5, max_size=5),
    worst=st.floats(2, 5_000),
    row=st.sampled_from(["default", "momentum_scalping"]),
)
def test_five_straight_wins_score_under_20(wins: list[float], gaps: list[int], worst: float, row: str) -> None:
    trades, days, session = [], [], 0
    for number, (win, gap) in enumerate(zip(wins, gaps, strict=True)):
        days += [day(session + i, 0.0) for i in range(gap)]
        session += gap
        trades.append(trade(session, win, worst_usd=worst, log_id=number + 1))
        days.append(day(session, win))
        session += 1
    assert assess(KEY, trades, days, row_of(row), parameter_sets=1, bound=None).score < 20

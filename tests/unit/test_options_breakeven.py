"""Break-evens: the two-outcome bound of exit plans and the figure from realised averages."""

import msgspec
import pytest

from oracle.breakeven_run import OWN_VOL_AR1, OWN_VOL_INNOVATION, PREMIUM_NOW, simulate
from oracle.core.messages import ExitPlan
from oracle.options.breakeven import break_even, plan_bound, realised_break_even
from oracle.sim import pathgen, surface
from oracle.strategies.iron_condor import IronCondorParams

CONDOR = ExitPlan(0.5, 2.0, None, None, None, 0, 1, short_delta_stop=0.4)
COSTS = {"fee_usd": 0.65, "slippage_usd": 0.02}


def test_the_condor_at_one_dollar_needs_82_percent():
    bound = plan_bound(-1.0, CONDOR, contracts=4, fee_usd=0.65, max_loss_usd=400.0)
    assert bound.fees_usd == pytest.approx(5.20)
    assert (bound.gain_usd, bound.loss_usd) == (pytest.approx(44.8), pytest.approx(205.2))
    assert bound.win_rate == pytest.approx(0.8208, abs=1e-4)


def test_the_loss_is_never_more_than_the_structure_can_lose():
    assert plan_bound(-2.0, CONDOR, contracts=4, fee_usd=0.0, max_loss_usd=300.0).loss_usd == 300.0


def test_a_part_sold_early_counts_at_its_own_target():
    plan = msgspec.structs.replace(CONDOR, stop_fraction=0.5, scale_out_share=0.5, scale_out_at_fraction=0.25)
    assert plan_bound(2.0, plan, contracts=1, fee_usd=0.0).gain_usd == pytest.approx(75.0)


def test_without_a_target_or_a_price_there_is_no_bound():
    open_ended = msgspec.structs.replace(CONDOR, target_fraction=None)
    assert plan_bound(-1.0, open_ended, contracts=4, fee_usd=0.65) is None
    assert plan_bound(0.0, CONDOR, contracts=4, fee_usd=0.65) is None
    eaten = plan_bound(-0.05, CONDOR, contracts=4, fee_usd=0.65)
    assert eaten.win_rate is None, "the fees are more than the gain"


def test_realised_break_even_is_from_average_win_and_loss():
    assert realised_break_even([50.0, 30.0, -160.0, 0.0]) == pytest.approx(160 / 200)
    assert realised_break_even([50.0]) is None
    assert realised_break_even([]) is None
    assert break_even(0.0, 10.0) is None


def test_the_simulation_repeats_and_the_delta_exit_lowers_what_is_needed():
    first = simulate(IronCondorParams(), "SPY", paths=300, seed=3, **COSTS)
    again = simulate(IronCondorParams(), "SPY", paths=300, seed=3, **COSTS)
    assert first == again
    assert first != simulate(IronCondorParams(), "SPY", paths=300, seed=4, **COSTS)
    assert first.credit_usd >= 0.18 * 5 - 0.02
    guarded, bare = first.with_delta_exit, first.without_delta_exit
    assert sum(guarded.exits.values()) == pytest.approx(1.0)
    assert bare.exits["short_delta"] == 0.0
    assert guarded.exits["short_delta"] > 0.2
    assert guarded.break_even < bare.break_even
    assert bare.break_even == pytest.approx(first.bound.win_rate, abs=0.06)
    assert guarded.win_rate < bare.win_rate


def test_a_rule_that_finds_nothing_says_so():
    with pytest.raises(ValueError, match="condors"):
        simulate(IronCondorParams(min_credit_of_width=0.9), "SPY", paths=10, seed=1, **COSTS)


def test_its_market_is_the_generators():
    assert (OWN_VOL_INNOVATION, OWN_VOL_AR1) == (pathgen._OWN_VOL_INNOVATION, pathgen._OWN_VOL_AR1)
    assert PREMIUM_NOW == surface._PREMIUM_NOW

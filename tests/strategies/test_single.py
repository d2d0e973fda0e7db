"""What a preflight sizes of the strategies that buy one option, whatever their signal says."""

import pytest

from oracle.core.instruments import parse_occ
from oracle.core.messages import Intent, NoData, NoSignal
from oracle.strategies.registry import load

DATE, HALF_DAY = "2025-11-19", "2025-11-28"
BANDS = {"momentum_scalping": (0.30, 0.50), "opening_range_breakout": (0.40, 0.60)}


def quoted(make_stage, name, date=DATE, clock="12:30"):
    """A stage without any signal, and its moment."""
    stage = make_stage(load(name, {}), date)
    stage.vol = 0.40  # several strikes in each band
    stage.open()
    stage.list_chain("SPY", 600.0)
    stage.bar("SPY", stage.at(clock), 600.0)
    return stage, stage.context(stage.at(clock) + 62 * 10**9)


@pytest.mark.parametrize("name", BANDS)
def test_without_a_signal_the_call_of_the_band_is_shown_and_nothing_changes(make_stage, name):
    stage, now = quoted(make_stage, name)
    before = stage.strategy.evaluate("SPY", now)
    assert isinstance(before, NoSignal | NoData)
    intent = stage.strategy.structure_now("SPY", now)
    assert isinstance(intent, Intent)
    (leg,) = intent.legs
    contract, (low, high) = parse_occ(leg.symbol), BANDS[name]
    assert (contract.is_call, contract.expiry) == (True, DATE)
    assert low <= leg.delta <= high
    p = stage.strategy.params
    assert (intent.exit_plan.stop_fraction, intent.exit_plan.flat_ns) == (p.stop_fraction, now.session.late(p.flat_at))
    assert stage.strategy.evaluate("SPY", now) == before


@pytest.mark.parametrize("name", BANDS)
def test_what_cannot_be_bought_says_why(make_stage, name):
    stage = make_stage(load(name, {}), DATE)
    stage.open()
    verdict = stage.strategy.structure_now("SPY", stage.context(stage.at("12:00")))
    assert (type(verdict), verdict.what) == (NoData, "chain")
    assert stage.strategy.structure_now("SPY", stage.context(stage.session.close_ns)) is None


def test_a_half_days_own_expiry_is_not_shown(make_stage):
    stage, now = quoted(make_stage, "momentum_scalping", HALF_DAY, "10:30")
    verdict = stage.strategy.structure_now("SPY", now)
    assert (type(verdict), verdict.reason) == (NoSignal, "no_expiry_allowed")
    stage, now = quoted(make_stage, "opening_range_breakout", HALF_DAY, "10:30")
    (leg,) = stage.strategy.structure_now("SPY", now).legs
    assert parse_occ(leg.symbol).expiry == stage.table.after(HALF_DAY).date

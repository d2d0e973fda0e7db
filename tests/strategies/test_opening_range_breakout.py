"""Opening range breakout: every condition alone, warm-up, early closes, daylight saving, restart."""

from decimal import Decimal

import pytest

from oracle.core.errors import ConfigurationError
from oracle.core.instruments import parse_occ
from oracle.core.messages import Intent, NoData, NoSignal
from oracle.core.sessions import MINUTE_NS
from oracle.core.vocabulary import Side
from oracle.strategies.registry import load

NAME = "opening_range_breakout"
DATE = "2025-11-19"
HALF_DAY = "2025-11-28"
UP, DOWN, INSIDE = 602.5, 597.5, 600.1  # the range of ``first_hour`` is 599 to 601


def strategy(**settings):
    return load(NAME, {"universe": ["SPY"], "volume_sessions": 5, **settings})


def warm(stage, sessions=5, backfilled=True):
    """Bars of the sessions before: 1,000 shares a minute, closes that go nowhere."""
    for session in stage.table.before(stage.session.date, sessions):
        for minute in range((session.close_ns - session.open_ns) // MINUTE_NS):
            stage.bar("SPY", session.open_ns + minute * MINUTE_NS, flat(minute), backfilled=backfilled)


def flat(minute):
    return 600.0 + 0.2 * (minute % 2)


def first_hour(stage, backfilled=False, skip=()):
    """09:30 to 10:30 with a high of 601 and a low of 599."""
    for minute in range(60):
        if minute not in skip:
            start_ns = stage.session.open_ns + minute * MINUTE_NS
            stage.bar("SPY", start_ns, flat(minute), high=601.0, low=599.0, backfilled=backfilled)


def ready(make_stage, date=DATE, **settings):
    """A stage at 10:30 with everything known."""
    stage = make_stage(strategy(**settings), date)
    warm(stage)
    stage.open()
    stage.list_chain("SPY", 600)
    first_hour(stage)
    stage.open()  # forget what was told during the first hour
    stage.said.clear()
    return stage


def breakout(stage, close=UP, clock="10:30", volume=2000, **more):
    """One bar; the single thing said about it."""
    said = stage.bar("SPY", stage.at(clock), close, volume, **more)
    assert len(said) == 1
    return said[0]


def test_break_up_buys_a_call_with_the_stated_plan(make_stage):
    stage = ready(make_stage)
    intent = breakout(stage)
    assert isinstance(intent, Intent)
    assert intent.intent_id == f"{NAME}:{DATE}:SPY:up-1"
    assert (intent.underlying, intent.strategy_hash) == ("SPY", stage.strategy.code_hash)
    (leg,) = intent.legs
    contract = parse_occ(leg.symbol)
    assert contract.is_call
    assert contract.expiry == DATE
    assert leg.side is Side.BUY
    assert leg.ratio == 1
    assert 0.40 <= leg.delta <= 0.60
    assert Decimal("0.01") <= leg.ask_usd - leg.bid_usd <= Decimal("0.03")
    plan = intent.exit_plan
    assert (plan.underlying_stop, plan.underlying_target, plan.direction) == (601.0, 604.0, 1)
    assert (plan.target_fraction, plan.stop_fraction, plan.breakeven_after_fraction) == (0.5, 0.4, 0.3)
    assert plan.flat_ns == stage.at("15:00")
    assert intent.valid_until_ns == stage.at("14:00")
    assert intent.confidence >= intent.confidence_needed
    assert intent.facts["range_high"] == 601.0
    assert intent.facts["relative_volume"] == 2.0
    assert intent.facts["forward_source"] == "parity"
    assert "602.50" in intent.reason


def test_break_down_buys_a_put(make_stage):
    intent = breakout(ready(make_stage), DOWN)
    contract = parse_occ(intent.legs[0].symbol)
    assert not contract.is_call
    assert -0.60 <= intent.legs[0].delta <= -0.40
    plan = intent.exit_plan
    assert (plan.underlying_stop, plan.underlying_target, plan.direction) == (599.0, 596.0, -1)
    assert intent.intent_id.endswith(":SPY:down-1")


@pytest.mark.parametrize(
    ("bar", "reason"),
    [
        ({"close": INSIDE}, "inside_range"),
        ({"close": 601.0}, "inside_range"),
        ({"close": 601.8}, "break_too_small"),
        ({"close": 598.2}, "break_too_small"),
        ({"volume": 1499}, "volume_too_low"),
        ({"close": 604.0}, "target_already_reached"),
        ({"clock": "14:00"}, "after_entry_window"),
        ({"clock": "13:59"}, "after_entry_window"),  # its close is known at 14:00
    ],
)
def test_each_condition_alone_stops_the_entry_and_is_told(make_stage, bar, reason):
    said = breakout(ready(make_stage), **bar)
    assert isinstance(said, NoSignal)
    assert said.reason == reason


def test_volume_of_exactly_the_least_multiple_is_enough(make_stage):
    intent = breakout(ready(make_stage), volume=1500)
    assert isinstance(intent, Intent)
    assert intent.facts["relative_volume"] == 1.5


def test_yesterdays_range_is_not_todays(make_stage):
    stage = ready(make_stage)
    tomorrow = stage.table.on("2025-11-20")
    said = stage.strategy.evaluate("SPY", stage.context(tomorrow.early("10:31")))
    assert isinstance(said, NoData)
    assert said.facts["range_high"] is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"confidence": 0.7}, "confidence_too_low"),
        ({"abs_delta_low": 0.94, "abs_delta_high": 0.9401}, "no_contract_in_delta_band"),
        ({"max_spread_of_mid": 0.001}, "option_spread_too_wide"),
        ({"max_spread_usd": 0.01}, "option_spread_too_wide"),
    ],
)
def test_each_parameter_that_refuses_is_told(make_stage, settings, reason):
    said = breakout(ready(make_stage, **settings))
    assert isinstance(said, NoSignal)
    assert said.reason == reason


@pytest.mark.parametrize(("far", "close"), [(603.9, 602.3), (596.1, 597.7)])
def test_rsi_on_the_wrong_side_stops_the_entry(make_stage, far, close):
    """Price stays beyond the range but its last moves point back."""
    stage = ready(make_stage)
    for minute in range(30):
        stage.bar("SPY", stage.at("10:30") + minute * MINUTE_NS, far - 0.1 * (minute % 2))
    said = breakout(stage, close, "11:00")
    assert isinstance(said, NoSignal)
    assert said.reason == "rsi_disagrees"
    assert said.facts["volume_holds"] is True


def test_the_bar_that_ends_the_range_is_not_an_entry_and_the_next_may_be(make_stage):
    stage = make_stage(strategy(), DATE)
    warm(stage)
    stage.list_chain("SPY", 600)
    first_hour(stage)
    assert [type(m).__name__ for m in stage.said] == ["NoSignal", "NoSignal"]
    assert [m.reason for m in stage.said] == ["before_entry_window", "inside_range"]
    assert isinstance(breakout(stage), Intent)


@pytest.mark.parametrize(
    ("settings", "what"),
    [({"warmup_bars": 2000, "volume_mode": "trailing"}, "rsi"), ({"volume_sessions": 6}, "relative_volume")],
)
def test_indicators_that_are_not_warm_are_missing_data(make_stage, settings, what):
    stage = make_stage(strategy(**settings), DATE)
    warm(stage, 4 if what == "rsi" else 5)
    stage.list_chain("SPY", 600)
    first_hour(stage)
    said = [m for m in stage.said if isinstance(m, NoData)]
    assert [m.what for m in said] == [what]
    assert stage.bar("SPY", stage.at("10:30"), UP, 2000) == []  # the same reason is told once


def test_a_hole_in_the_opening_range_is_missing_data(make_stage):
    stage = make_stage(strategy(), DATE)
    warm(stage)
    stage.list_chain("SPY", 600)
    first_hour(stage, skip={31})
    said = stage.said[-1]
    assert isinstance(said, NoData)
    assert said.what == "opening_range"
    assert said.facts["range_minutes_seen"] == 59
    tolerant = make_stage(strategy(range_missing_minutes=1), DATE)
    warm(tolerant)
    tolerant.list_chain("SPY", 600)
    first_hour(tolerant, skip={31})
    assert isinstance(breakout(tolerant), Intent)


def test_a_bar_that_comes_too_late_is_missing_data(make_stage):
    said = breakout(ready(make_stage), delay_s=76)
    assert isinstance(said, NoData)
    assert said.what == "fresh_bar"


def test_without_a_chain_or_quotes_there_is_no_data(make_stage):
    stage = make_stage(strategy(), DATE)
    warm(stage)
    first_hour(stage)
    assert breakout(stage).what == "chain"
    stage.quoted = False
    stage.list_chain("SPY", 600)
    assert breakout(stage, clock="10:31").what == "option_quotes"


def test_stale_option_quotes_are_missing_data(make_stage):
    stage = ready(make_stage)
    stage.quote_age_s = 10.5
    said = breakout(stage)
    assert isinstance(said, NoData)
    assert said.what == "fresh_option_quotes"
    assert said.facts["option_in_band"] >= 1


def test_next_expiry_when_todays_contracts_are_too_wide(make_stage):
    stage = ready(make_stage, max_spread_usd=0.10)
    stage.half_spread_usd = 0.04
    intent = breakout(stage)
    assert parse_occ(intent.legs[0].symbol).expiry == "2025-11-20"


def test_one_entry_per_direction_and_session(make_stage):
    stage = ready(make_stage)
    assert isinstance(breakout(stage), Intent)
    again = breakout(stage, clock="10:31")
    assert again.reason == "entry_used"
    assert isinstance(breakout(stage, DOWN, "10:32"), Intent)
    twice = ready(make_stage, max_entries_per_direction=2)
    ids = [breakout(twice, clock=clock).intent_id[-4:] for clock in ("10:30", "10:31")]
    assert ids == ["up-1", "up-2"]


def test_the_next_session_may_enter_again(make_stage):
    stage = ready(make_stage)
    breakout(stage)
    following = make_stage(stage.strategy, "2025-11-20")
    following.open()
    following.list_chain("SPY", 600)
    first_hour(following)
    assert isinstance(breakout(following), Intent)


def test_a_reason_is_told_once_until_it_changes_or_a_session_opens(make_stage):
    stage = ready(make_stage)
    said = [
        stage.bar("SPY", stage.at("10:30") + n * MINUTE_NS, close)
        for n, close in enumerate([INSIDE, INSIDE, 601.8, INSIDE])
    ]
    assert [[m.reason for m in one] for one in said] == [["inside_range"], [], ["break_too_small"], ["inside_range"]]
    stage.open()
    assert len(stage.bar("SPY", stage.at("10:34"), INSIDE)) == 1


def test_back_filled_bars_warm_and_never_enter(make_stage):
    stage = ready(make_stage)
    assert stage.bar("SPY", stage.at("10:30"), UP, 5000, backfilled=True) == []
    assert isinstance(breakout(stage, clock="10:31"), Intent)


def test_restart_in_mid_session_sees_the_same_and_remembers_its_entry(make_stage):
    through = ready(make_stage)
    restarted = make_stage(strategy(), DATE)
    warm(restarted)
    first_hour(restarted, backfilled=True)
    restarted.list_chain("SPY", 600)
    first, second = breakout(through), breakout(restarted)
    assert first == second
    again = make_stage(strategy(), DATE)
    warm(again)
    first_hour(again, backfilled=True)
    again.list_chain("SPY", 600)
    again.strategy.on_intent_sent(first.intent_id)
    assert breakout(again).reason == "entry_used"
    assert isinstance(breakout(again, DOWN, "10:31"), Intent)


def test_a_bar_sent_twice_counts_once(make_stage):
    stage = make_stage(strategy(), DATE)
    warm(stage)
    stage.list_chain("SPY", 600)
    first_hour(stage)
    first_hour(stage)
    single = ready(make_stage)
    assert breakout(stage).facts == breakout(single).facts


def test_half_day_times_and_no_option_of_the_day(make_stage):
    stage = ready(make_stage, HALF_DAY)
    intent = breakout(stage)
    assert parse_occ(intent.legs[0].symbol).expiry == "2025-12-01"
    assert intent.exit_plan.flat_ns == stage.session.close_ns - 60 * MINUTE_NS
    assert intent.valid_until_ns == stage.at("11:00")
    late = ready(make_stage, HALF_DAY)
    assert breakout(late, clock="10:59").reason == "after_entry_window"
    same_day = breakout(ready(make_stage, HALF_DAY, zero_dte_on_half_days=True), 602.0)
    assert parse_occ(same_day.legs[0].symbol).expiry == HALF_DAY
    none = breakout(ready(make_stage, HALF_DAY, max_expiry_sessions=0))
    assert none.reason == "no_expiry_allowed"


@pytest.mark.parametrize("date", ["2025-03-07", "2025-03-10", "2025-10-31", "2025-11-03"])
def test_times_follow_new_york_across_daylight_saving(make_stage, date):
    stage = ready(make_stage, date)
    intent = breakout(stage, clock="10:30")
    assert isinstance(intent, Intent)
    assert intent.exit_plan.flat_ns - stage.session.open_ns == 330 * MINUTE_NS
    assert stage.session.close_ns - intent.exit_plan.flat_ns == 60 * MINUTE_NS


def test_hours_outside_the_session_are_neither_counted_nor_judged(make_stage):
    stage = ready(make_stage)
    reference = ready(make_stage)
    for clock in ("08:00", "16:00", "17:30"):
        session = stage.table.before(DATE)[0]
        assert stage.bar("SPY", session.early(clock), 700.0, 9999) == []
    assert stage.bar("QQQ", stage.at("10:30"), 500.0, 9999) == []
    assert breakout(stage).facts == breakout(reference).facts


def test_trailing_volume_mode(make_stage):
    stage = make_stage(strategy(volume_mode="trailing", volume_bars=10), DATE)
    warm(stage, stage.strategy.warmup_sessions)
    stage.list_chain("SPY", 600)
    first_hour(stage)
    assert breakout(stage, volume=1499).reason == "volume_too_low"
    intent = breakout(stage, clock="10:31", volume=1600)
    assert intent.facts["relative_volume"] == pytest.approx(16000 / 10499)


def test_evaluating_on_demand_changes_nothing(make_stage):
    stage = ready(make_stage)
    at_ns = stage.at("10:30") + 30 * 10**9
    before = stage.strategy.evaluate("SPY", stage.context(at_ns))
    assert before.reason == "inside_range"
    assert isinstance(breakout(stage), Intent)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"rsi_lenght": 14}, "rsi_lenght"),
        ({"range_minutes": 90}, "times must be in order"),
        ({"abs_delta_low": 0.7}, "abs_delta_low must be below"),
        ({"universe": ["SPY", "SPY"]}, "different stock symbols"),
        ({"min_relative_volume": float("nan")}, "min_relative_volume"),
        ({"entry_end": "2pm"}, "entry_end"),
        ({"min_expiry_sessions": 2}, "min_expiry_sessions"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, names):
    with pytest.raises(ConfigurationError, match=names):
        load(NAME, settings)

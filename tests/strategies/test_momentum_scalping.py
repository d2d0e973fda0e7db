"""Momentum scalping: each of the six conditions alone, the pairing of minutes, warm-up, half-days, restart."""

from decimal import Decimal

import pytest

from oracle.core.errors import ConfigurationError
from oracle.core.instruments import parse_occ
from oracle.core.marketdata import Quote
from oracle.core.messages import Intent, NoData, NoSignal
from oracle.core.ports import StrategyCaps
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Side
from oracle.strategies.registry import load

NAME = "momentum_scalping"
DATE = "2025-11-19"
HALF_DAY = "2025-11-28"
CROSS_MIN = 40  # the bar that starts at 10:10
PEER = 500.0


def strategy(**settings):
    return load(NAME, {"universe": ["SPY"], "volume_sessions": 5, **settings})


def staged(make_stage, date=DATE, **settings):
    """A stage with earlier sessions' bars, on which today's options are quoted a cent wide."""
    stage = make_stage(strategy(**settings), date)
    stage.half_spread_usd = 0.005
    warm(stage)
    return stage


def flat(minute):
    return 600.0 + 0.02 * (minute % 2)


def start(stage, minute):
    return stage.session.open_ns + minute * MINUTE_NS


def warm(stage, sessions=5):
    """Bars of the sessions before: 1,000 shares a minute, closes that go nowhere."""
    for session in stage.table.before(stage.session.date, sessions):
        for minute in range((session.close_ns - session.open_ns) // MINUTE_NS):
            at = session.open_ns + minute * MINUTE_NS
            stage.bar("QQQ", at, PEER, backfilled=True)
            stage.bar("SPY", at, flat(minute), backfilled=True)


def morning(stage, sign=1, minutes=CROSS_MIN, first=0, backfilled=False, skip=(), peer_skip=()):
    """A flat half hour, then a slow drift against ``sign``, so that the averages are apart before the cross."""
    for minute in range(first, minutes):
        if minute not in peer_skip:
            stage.bar("QQQ", start(stage, minute), PEER, backfilled=backfilled)
        if minute not in skip:
            drift = 0.02 * sign * max(0, minute - (minutes - 10))
            stage.bar("SPY", start(stage, minute), flat(0) - drift, backfilled=backfilled)


def ready(make_stage, date=DATE, sign=1, **settings):
    """A stage at the cross's minute with everything known."""
    stage = staged(make_stage, date, **settings)
    stage.open()
    stage.list_chain("SPY", 600)
    morning(stage, sign)
    stage.open()  # forget what was told during the morning
    stage.said.clear()
    return stage


def cross(stage, close=601.0, volume=2000, minute=CROSS_MIN, peer=PEER, **more):
    """The minute of the cross, the peer's bar first; the single thing said about it."""
    said = stage.bar("QQQ", start(stage, minute), peer)
    said += stage.bar("SPY", start(stage, minute), close, volume, **more)
    assert len(said) == 1
    return said[0]


def test_a_cross_up_buys_a_call_of_today_with_the_stated_plan(make_stage):
    stage = ready(make_stage)
    intent = cross(stage)
    assert isinstance(intent, Intent)
    assert intent.intent_id == f"{NAME}:{DATE}:SPY:up-{CROSS_MIN}"
    assert (intent.underlying, intent.strategy_hash) == ("SPY", stage.strategy.code_hash)
    (leg,) = intent.legs
    contract = parse_occ(leg.symbol)
    assert (contract.is_call, contract.expiry) == (True, DATE)
    assert (leg.side, leg.ratio) == (Side.BUY, 1)
    assert 0.30 <= leg.delta <= 0.50
    assert leg.ask_usd - leg.bid_usd <= min(Decimal("0.10"), leg.mid_usd * Decimal("0.04"))
    plan = intent.exit_plan
    assert (plan.target_fraction, plan.stop_fraction, plan.breakeven_after_fraction) == (0.5, 0.5, 0.25)
    assert (plan.scale_out_share, plan.scale_out_at_fraction) == (0.5, 0.25)
    assert (plan.underlying_target, plan.underlying_stop, plan.direction) == (None, None, 1)
    assert plan.flat_ns == intent.valid_until_ns == stage.at("11:30")
    assert (intent.confidence, intent.confidence_needed) == (0.85, 0.80)
    assert intent.facts["crossed"] == 1
    assert intent.facts["relative_volume"] == 2.0
    assert intent.facts["own_return"] == pytest.approx(601 / 600 - 1)
    assert intent.facts["peer_return"] == 0.0
    assert "ahead of QQQ" in intent.reason


def test_a_cross_down_buys_a_put(make_stage):
    intent = cross(ready(make_stage, sign=-1), 599.0)
    assert not parse_occ(intent.legs[0].symbol).is_call
    assert -0.50 <= intent.legs[0].delta <= -0.30
    assert intent.exit_plan.direction == -1
    assert intent.intent_id.endswith(f":SPY:down-{CROSS_MIN}")
    assert "behind QQQ" in intent.reason


@pytest.mark.parametrize(
    ("bar", "reason"),
    [
        ({"close": 599.9}, "no_cross"),
        ({"volume": 1999}, "volume_too_low"),
        ({"peer": 500.9}, "peer_is_stronger"),
        ({"high": 9000.0, "volume": 9000}, "wrong_side_of_vwap"),
    ],
)
def test_each_condition_alone_stops_the_entry_and_is_told(make_stage, bar, reason):
    said = cross(ready(make_stage), **bar)
    assert isinstance(said, NoSignal)
    assert said.reason == reason


def test_a_cross_down_needs_a_weaker_index(make_stage):
    assert cross(ready(make_stage, sign=-1), 599.0, peer=499.0).reason == "peer_is_weaker"


def test_volume_of_exactly_the_least_multiple_is_enough(make_stage):
    assert isinstance(cross(ready(make_stage), volume=2000), Intent)


def test_equal_strength_is_not_enough(make_stage):
    stage = ready(make_stage)
    assert cross(stage, 603.0, peer=PEER * 603.0 / 600.0).reason == "peer_is_stronger"


@pytest.mark.parametrize(
    ("settings", "sign", "close"),
    [({"rsi_long_above": 99.9}, 1, 601.0), ({"rsi_short_below": 0.1}, -1, 599.0)],
)
def test_rsi_on_the_wrong_side_stops_the_entry(make_stage, settings, sign, close):
    said = cross(ready(make_stage, sign=sign, **settings), close)
    assert said.reason == "rsi_disagrees"
    assert said.facts["volume_holds"] is True


def test_only_the_crossing_bar_is_a_signal(make_stage):
    stage = ready(make_stage)
    assert isinstance(cross(stage), Intent)
    assert cross(stage, 601.2, minute=CROSS_MIN + 1).reason == "no_cross"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"confidence": 0.7}, "confidence_too_low"),
        ({"abs_delta_low": 0.94, "abs_delta_high": 0.9401}, "no_contract_in_delta_band"),
        ({"max_spread_of_mid": 0.001}, "option_spread_too_wide"),
    ],
)
def test_each_parameter_that_refuses_is_told(make_stage, settings, reason):
    said = cross(ready(make_stage, **settings))
    assert isinstance(said, NoSignal)
    assert said.reason == reason


def test_tomorrows_options_are_no_substitute(make_stage):
    stage = ready(make_stage)
    stage.half_spread_usd = 0.05
    assert cross(stage).reason == "option_spread_too_wide"


@pytest.mark.parametrize(("minute", "enters"), [(118, True), (119, False)])
def test_the_window_ends_when_the_close_is_known_at_eleven_thirty(make_stage, minute, enters):
    stage = staged(make_stage)
    stage.open()
    stage.list_chain("SPY", 600)
    morning(stage, minutes=minute)
    said = cross(stage, minute=minute)
    assert isinstance(said, Intent) == enters
    if not enters:
        assert said.reason == "after_entry_window"


@pytest.mark.parametrize(("minute", "known"), [(8, False), (9, True)])
def test_relative_strength_is_unknown_before_nine_forty(make_stage, minute, known):
    stage = staged(make_stage)
    stage.list_chain("SPY", 600)
    morning(stage, minutes=minute)
    stage.open()
    said = cross(stage, minute=minute)
    assert isinstance(said, NoData) != known
    if not known:
        assert (said.what, said.facts["own_return"]) == ("relative_strength", None)


def test_strength_is_from_the_open_until_ten_and_over_thirty_minutes_then(make_stage):
    """The open is at 599; from 10:00 on it has left the window."""
    seen = {}
    for minute in (29, 30, 45):
        stage = staged(make_stage)
        stage.bar("QQQ", start(stage, 0), PEER)
        stage.bar("SPY", start(stage, 0), 599.0)
        morning(stage, first=1, minutes=minute)
        stage.open()
        seen[minute] = cross(stage, minute=minute).facts["own_return"]
    assert seen[29] == pytest.approx(601 / 599 - 1)
    assert seen[30] == pytest.approx(601 / 599 - 1)  # 30 minutes before 10:01 is the close of the first bar
    assert seen[45] == pytest.approx(601 / 600 - 1)


@pytest.mark.parametrize("who", ["skip", "peer_skip"])
def test_a_missing_minute_at_the_windows_begin_is_missing_data(make_stage, who):
    stage = staged(make_stage)
    stage.list_chain("SPY", 600)
    morning(stage, **{who: {CROSS_MIN - 30}})
    stage.open()
    said = cross(stage)
    assert isinstance(said, NoData)
    assert said.what == "relative_strength"


def test_whichever_bar_of_the_minute_comes_first_the_signal_is_the_same(make_stage):
    reference = cross(ready(make_stage))
    stage = ready(make_stage)
    assert stage.bar("SPY", start(stage, CROSS_MIN), 601.0, 2000) == []
    (intent,) = stage.bar("QQQ", start(stage, CROSS_MIN), PEER)
    assert intent == reference


def test_a_peer_that_falls_silent_is_told_with_the_next_bar(make_stage):
    stage = ready(make_stage)
    assert stage.bar("SPY", start(stage, CROSS_MIN), 601.0, 2000) == []
    (said,) = stage.bar("SPY", start(stage, CROSS_MIN + 1), 601.1)
    assert isinstance(said, NoData)
    assert said.what == "peer_bar"
    assert stage.bar("SPY", start(stage, CROSS_MIN + 2), 601.1) == []
    # The peer's bar of an earlier minute does not bring the missed signal back.
    assert stage.bar("QQQ", start(stage, CROSS_MIN), PEER) == []


def test_the_sessions_first_minute_waits_for_the_peer_without_a_word(make_stage):
    stage = staged(make_stage)
    stage.open()
    assert stage.bar("SPY", start(stage, 0), 600.0) == []
    assert [m.what for m in stage.bar("QQQ", start(stage, 0), PEER)] == ["relative_strength"]


def test_both_indices_are_judged_when_both_are_traded(make_stage):
    stage = staged(make_stage, universe=["SPY", "QQQ"])
    stage.list_chain("SPY", 600)
    stage.list_chain("QQQ", 500)
    morning(stage)
    stage.open()
    said = stage.bar("QQQ", start(stage, CROSS_MIN), PEER)
    said += stage.bar("SPY", start(stage, CROSS_MIN), 601.0, 2000)
    assert [(type(m).__name__, getattr(m, "underlying", m.symbol)) for m in said] == [
        ("Intent", "SPY"),
        ("NoData", "QQQ"),
    ]


def test_peers_that_are_not_traded_are_watched(make_stage):
    assert strategy().universe == ("SPY", "QQQ")
    stage = ready(make_stage)
    assert stage.strategy.evaluate("QQQ", stage.context(start(stage, CROSS_MIN) + 30)) is None
    assert load(NAME, {"universe": ["IWM"], "peers": ["IWM:SPY"]}).universe == ("IWM", "SPY")


@pytest.mark.parametrize(
    ("settings", "sessions", "what"),
    [({"volume_mode": "trailing", "warmup_bars": 2000}, 4, "ema"), ({"volume_sessions": 6}, 5, "relative_volume")],
)
def test_indicators_that_are_not_warm_are_missing_data(make_stage, settings, sessions, what):
    stage = make_stage(strategy(**settings), DATE)
    warm(stage, sessions)
    stage.list_chain("SPY", 600)
    morning(stage)
    stage.open()
    said = cross(stage)
    assert isinstance(said, NoData)
    assert said.what == what


def test_trailing_volume_mode(make_stage):
    said = cross(ready(make_stage, volume_mode="trailing", volume_bars=10), volume=1999)
    assert said.reason == "volume_too_low"
    assert isinstance(cross(ready(make_stage, volume_mode="trailing", volume_bars=10)), Intent)


def test_a_bar_that_comes_too_late_is_missing_data(make_stage):
    assert cross(ready(make_stage), delay_s=76).what == "fresh_bar"


def test_without_a_chain_there_is_no_data(make_stage):
    stage = staged(make_stage)
    morning(stage)
    stage.open()
    said = cross(stage)
    assert isinstance(said, NoData)
    assert said.what == "chain"


def test_half_days_have_no_window_and_no_option_of_the_day(make_stage):
    assert cross(ready(make_stage, HALF_DAY)).reason == "after_entry_window"
    late = {"entry_end": "15:00", "flat_at": "15:30", "max_spread_of_mid": 0.2, "abs_delta_low": 0.1}
    assert cross(ready(make_stage, HALF_DAY, **late)).reason == "no_expiry_allowed"
    stage = ready(make_stage, HALF_DAY, zero_dte_on_half_days=True, **late)
    intent = cross(stage)
    assert parse_occ(intent.legs[0].symbol).expiry == HALF_DAY
    assert stage.session.close_ns - intent.exit_plan.flat_ns == 30 * MINUTE_NS


@pytest.mark.parametrize("date", ["2025-03-07", "2025-03-10", "2025-10-31", "2025-11-03"])
def test_times_follow_new_york_across_daylight_saving(make_stage, date):
    stage = ready(make_stage, date)
    intent = cross(stage)
    assert intent.exit_plan.flat_ns - stage.session.open_ns == 120 * MINUTE_NS


def test_back_filled_bars_warm_and_never_enter(make_stage):
    stage = ready(make_stage)
    assert stage.bar("SPY", start(stage, CROSS_MIN), 601.0, 5000, backfilled=True) == []
    # The peer's live bar completes the minute, but the cross itself was back-filled.
    assert stage.bar("QQQ", start(stage, CROSS_MIN), PEER) == []


def test_one_cross_is_entered_once(make_stage):
    stage = ready(make_stage)
    first = cross(stage)
    at_ns = start(stage, CROSS_MIN + 1) + 20 * NS
    stage.quote_chain("SPY", 601.0, at_ns)
    used = stage.strategy.evaluate("SPY", stage.context(at_ns))
    assert (type(used), used.reason) == (NoSignal, "entry_used")
    # After a restart the bar is read back, and the store tells what left.
    restarted = staged(make_stage)
    morning(restarted, minutes=CROSS_MIN, backfilled=True)
    restarted.bar("QQQ", start(stage, CROSS_MIN), PEER, backfilled=True)
    restarted.bar("SPY", start(stage, CROSS_MIN), 601.0, 2000, backfilled=True)
    restarted.list_chain("SPY", 600)
    restarted.quote_chain("SPY", 601.0, at_ns)
    restarted.chains.on_stock_quote(Quote("SPY", at_ns, 600.99, 1, 601.01, 1), restarted.context(at_ns))
    assert isinstance(restarted.strategy.evaluate("SPY", restarted.context(at_ns)), Intent)
    restarted.strategy.on_intent_sent(first.intent_id)
    assert restarted.strategy.evaluate("SPY", restarted.context(at_ns)).reason == "entry_used"


def test_restart_in_mid_session_sees_the_same_and_can_enter_the_next_cross(make_stage):
    first = cross(ready(make_stage))
    restarted = staged(make_stage)
    morning(restarted, backfilled=True)
    restarted.list_chain("SPY", 600)
    assert cross(restarted) == first
    later = CROSS_MIN + 5
    again = staged(make_stage)
    morning(again, minutes=later, backfilled=True)
    again.list_chain("SPY", 600)
    again.strategy.on_intent_sent(first.intent_id)
    assert cross(again, minute=later).intent_id == f"{NAME}:{DATE}:SPY:up-{later}"


def test_a_bar_sent_twice_counts_once(make_stage):
    stage = ready(make_stage)
    assert stage.bar("SPY", start(stage, CROSS_MIN - 1), 700.0, 9000) == []
    assert cross(stage).facts == cross(ready(make_stage)).facts


def test_its_caps_are_its_parameters():
    assert strategy().caps == StrategyCaps(trades_per_session=4, losses_in_a_row=2, open_trades=3)
    changed = strategy(max_trades_per_session=2, max_losses_in_a_row=1, max_open_trades=1)
    assert changed.caps == StrategyCaps(2, 1, 1)
    assert load("opening_range_breakout", {}).caps == StrategyCaps()


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"universe": ["IWM"]}, "a pair for IWM"),
        ({"peers": ["SPY"]}, "pairs of different stock symbols"),
        ({"peers": ["SPY:SPY"]}, "pairs of different stock symbols"),
        ({"peers": ["SPY:QQQ", "SPY:IWM"]}, "one peer"),
        ({"ema_fast": 21}, "ema_fast must be below"),
        ({"entry_end": "11:31"}, "times must be in order"),
        ({"scale_out_at_fraction": 0.5}, "scale_out_at_fraction must be below"),
        ({"strength_from_minute": 31}, "strength_from_minute"),
        ({"abs_delta_low": 0.5}, "abs_delta_low must be below"),
        ({"universe": ["SPY", "SPY"]}, "different stock symbols"),
        ({"gamma_walls": True}, "gamma_walls"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, names):
    with pytest.raises(ConfigurationError, match=names):
        load(NAME, settings)

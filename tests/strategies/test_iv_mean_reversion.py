"""IV mean reversion: which rank buys and which sells, what it trades, when it ends, which quotes it asks for."""

import datetime as dt

import pytest
from pydantic import ValidationError

from oracle.core.instruments import parse_occ
from oracle.core.messages import Intent, NoData, NoSignal, OptionsWanted
from oracle.core.ports import NotSelected, StrategyCaps
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.structures import is_structure
from oracle.core.vocabulary import Side
from oracle.strategies.iv_mean_reversion import IvMeanReversionParams
from oracle.strategies.registry import load
from tests.strategies.conftest import VOL, holding

DATE = "2025-11-19"
NAME = "iv_mean_reversion"


def strategy(**settings):
    return load(NAME, settings)


def ready(make_stage, low, high, sessions=60, days=(23, 30, 37, 44), **settings):
    """SPY at 600 and a 30-day volatility of 0.14, with a history between two volatilities."""
    stage = make_stage(strategy(**settings), DATE)
    stage.expire_in(*days)
    stage.reach_usd = 75
    stage.remember_ivs("SPY", low, high, sessions)
    stage.list_chain("SPY", 600.0)
    stage.open()
    return stage


@pytest.fixture
def cheap(make_stage):
    """The lowest volatility of its history."""
    return ready(make_stage, 0.15, 0.40)


@pytest.fixture
def dear(make_stage):
    """The highest volatility of its history."""
    return ready(make_stage, 0.08, 0.13)


def minute(stage, clock, close=600.0):
    said = stage.bar("SPY", stage.at(clock) - MINUTE_NS, close)
    return [m for m in said if not isinstance(m, OptionsWanted)]


def sole(messages, kind):
    assert [type(m) for m in messages] == [kind], messages
    return messages[0]


def test_a_low_rank_buys_the_straddle_at_the_money(cheap):
    intent = sole(minute(cheap, "10:00"), Intent)
    call, put = (parse_occ(leg.symbol) for leg in intent.legs)
    assert (call.is_call, put.is_call) == (True, False)
    assert call.strike == put.strike
    assert abs(call.strike - intent.facts["forward"]) <= 0.5
    assert {leg.side for leg in intent.legs} == {Side.BUY}
    assert call.expiry == put.expiry == cheap.expiries[1]
    assert intent.facts["days"] == 30
    assert intent.facts["iv_rank"] == 0.0
    assert intent.facts["iv_30d"] == pytest.approx(VOL, abs=0.002)
    assert intent.facts["debit_usd"] > 0
    assert intent.facts["max_loss_usd"] == pytest.approx(100 * intent.facts["debit_usd"])
    plan = intent.exit_plan
    assert (plan.target_fraction, plan.stop_fraction, plan.short_delta_stop) == (0.30, 0.35, None)
    assert plan.direction == 0
    assert "buys the straddle" in intent.reason


def test_a_high_rank_sells_the_condor(dear):
    intent = sole(minute(dear, "10:00"), Intent)
    put_wing, put, call, call_wing = intent.legs
    assert [leg.side for leg in intent.legs] == [Side.BUY, Side.SELL, Side.SELL, Side.BUY]
    for leg, target in ((put_wing, 0.08), (put, 0.20), (call, 0.20), (call_wing, 0.08)):
        assert abs(leg.delta) == pytest.approx(target, abs=0.015)
    strikes = [parse_occ(leg.symbol).strike for leg in intent.legs]
    assert strikes == sorted(strikes)
    assert is_structure(intent.symbol)
    assert intent.facts["iv_rank"] == 1.0
    credit, widest = intent.facts["credit_usd"], max(strikes[1] - strikes[0], strikes[3] - strikes[2])
    assert intent.facts["max_loss_usd"] == pytest.approx(100 * (widest - credit))
    assert intent.facts["break_even_low"] == pytest.approx(strikes[1] - credit)
    assert intent.facts["break_even_high"] == pytest.approx(strikes[2] + credit)
    plan = intent.exit_plan
    assert (plan.target_fraction, plan.stop_fraction, plan.short_delta_stop) == (0.50, 1.0, None)
    assert intent.facts["break_even_win_rate"] == pytest.approx(1 / 1.5)


def test_a_rank_in_between_does_nothing_and_says_where_it_stands(make_stage):
    stage = ready(make_stage, 0.10, 0.18)
    verdict = sole(minute(stage, "10:00"), NoSignal)
    assert verdict.reason == "iv_rank_between"
    assert verdict.facts["iv_rank"] == pytest.approx(0.5, abs=0.02)
    assert (verdict.facts["buy_holds"], verdict.facts["sell_holds"]) == (False, False)
    assert verdict.facts["iv_observations"] == 60


def test_the_trade_ends_on_the_last_session_with_21_days_left(cheap):
    intent = sole(minute(cheap, "10:00"), Intent)
    expiry = dt.date.fromisoformat(intent.facts["expiry"])
    flat = cheap.table.open_at(intent.exit_plan.flat_ns)
    assert (expiry - dt.date.fromisoformat(flat.date)).days >= 21
    following = cheap.table.after(flat.date)
    assert (expiry - dt.date.fromisoformat(following.date)).days < 21
    assert intent.exit_plan.flat_ns == flat.late("15:45")
    assert intent.valid_until_ns == cheap.at("15:30")


def test_on_a_half_day_of_21_days_the_exit_moves_with_the_close(make_stage):
    # 2025-11-28 closes at 13:00 and lies 21 days before 2025-12-19.
    stage = make_stage(strategy(), "2025-11-19")
    flat_ns = stage.strategy._flat_ns("2025-12-19", stage.context(stage.session.open_ns))
    short = stage.table.on("2025-11-28")
    assert short.is_half_day
    assert flat_ns == short.close_ns - 15 * MINUTE_NS


@pytest.mark.parametrize(("word", "is_call", "direction"), [("call", True, 1), ("put", False, -1)])
def test_a_single_long_option_is_a_parameter(make_stage, word, is_call, direction):
    stage = ready(make_stage, 0.15, 0.40, buy_structure=word)
    intent = sole(minute(stage, "10:00"), Intent)
    (leg,) = intent.legs
    assert parse_occ(leg.symbol).is_call is is_call
    assert (intent.exit_plan.direction, intent.symbol) == (direction, leg.symbol)


def test_it_enters_only_between_ten_and_half_past_three(cheap):
    assert sole(minute(cheap, "09:59"), NoSignal).reason == "before_entry_window"
    assert sole(minute(cheap, "15:30"), NoSignal).reason == "after_entry_window"


def test_one_entry_a_session_two_open_and_attempts_apart(cheap):
    assert sole(minute(cheap, "10:00"), Intent).intent_id == f"{NAME}:{DATE}:SPY:vol-30"
    assert sole(minute(cheap, "10:01"), NoSignal).reason == "attempt_under_way"
    assert sole(minute(cheap, "10:05"), Intent).intent_id.endswith("vol-35")
    cheap.ledger = holding(cheap, NAME, cheap.session.open_ns + NS)
    assert sole(minute(cheap, "10:10"), NoSignal).reason == "entered_today"
    before = cheap.session.open_ns - 86_400 * NS
    cheap.ledger = holding(cheap, NAME, before, before)
    assert sole(minute(cheap, "10:11"), NoSignal).reason == "open_trades_used"
    cheap.ledger = holding(cheap, NAME, before)
    assert sole(minute(cheap, "10:12"), Intent)
    assert sole(minute(cheap, "10:30"), NoSignal).reason == "attempts_used"
    assert cheap.strategy.caps == StrategyCaps(open_per_underlying=2, trades_per_underlying_session=1)


def test_a_restart_knows_the_attempts(cheap):
    for at in ("30", "31", "40"):
        cheap.strategy.on_intent_sent(f"{NAME}:{DATE}:SPY:vol-{at}")
    assert sole(minute(cheap, "11:00"), NoSignal).reason == "attempts_used"


def test_the_farther_expiry_is_taken_when_the_nearer_has_no_structure(make_stage):
    stage = ready(make_stage, 0.15, 0.40, max_spread_usd=0.05, days=(23, 30, 37))
    stage.half_spread_usd = 0.05
    verdict = sole(minute(stage, "10:00"), NoSignal)
    assert verdict.reason == "net_spread_too_wide"
    assert verdict.facts["option_expiry"] == stage.expiries[1]


# ------------------------------------------------------------------------------------------------- quotes on demand


def wishes(stage, clock):
    said = stage.bar("SPY", stage.at(clock) - MINUTE_NS, 600.0)
    return [m for m in said if isinstance(m, OptionsWanted)]


def test_it_asks_for_the_money_around_30_days_and_for_more_once_the_rank_says_so(make_stage):
    stage = ready(make_stage, 0.10, 0.18)
    assert wishes(stage, "09:54") == []
    near, after = stage.expiries[1], stage.expiries[2]
    asked = wishes(stage, "09:56")
    # 30 days from 09:56 end before the close of the expiry in 30 days: that one is after, the one in 23 before.
    assert asked == [OptionsWanted(NAME, "SPY", True, (stage.expiries[0], near), 0.01)]
    assert wishes(stage, "10:05") == [], "nothing changed"
    stage.remember_ivs("SPY", 0.15, 0.40)
    assert wishes(stage, "10:06") == [OptionsWanted(NAME, "SPY", True, (stage.expiries[0], near, after))]
    for attempt in ("1", "2"):
        stage.strategy.on_intent_sent(f"{NAME}:{DATE}:SPY:vol-{attempt}")
    assert wishes(stage, "10:20") == [OptionsWanted(NAME, "SPY", False)]


def test_before_the_chain_is_listed_the_wish_is_what_has_it_listed(make_stage):
    stage = make_stage(strategy(), DATE)
    stage.open()
    assert wishes(stage, "09:56") == [OptionsWanted(NAME, "SPY", True, (DATE,), 0.01)]


def test_it_needs_expiries_on_both_sides_of_30_days():
    assert strategy().max_expiry_sessions >= 33
    assert strategy(min_days=25, max_days=26).max_expiry_sessions >= 28
    assert strategy().needs_iv_history


# ------------------------------------------------------------------------------------------------------- bad input


def test_too_short_a_history_is_no_data(make_stage):
    stage = ready(make_stage, 0.15, 0.40, sessions=59)
    verdict = sole(minute(stage, "10:00"), NoData)
    assert verdict.what == "iv_history"
    assert verdict.facts["iv_observations"] == 59
    assert verdict.facts["iv_rank"] is None


def test_no_volatility_of_the_moment_is_no_data(make_stage):
    stage = ready(make_stage, 0.15, 0.40, days=(23, 29))
    verdict = sole(minute(stage, "10:00"), NoData)
    assert verdict.what == "iv_now"
    assert verdict.facts["iv_reason"]
    bare = make_stage(strategy(), DATE)
    bare.open()
    assert sole(minute(bare, "10:00"), NoData).what == "iv_now"


def test_a_known_rank_without_an_expiry_in_the_window_is_no_data(make_stage):
    stage = ready(make_stage, 0.15, 0.40, min_days=31, max_days=36)
    assert sole(minute(stage, "10:00"), NoData).what == "expiry"


def test_one_strike_gives_no_volatility_and_no_trade(make_stage):
    stage = make_stage(strategy(), DATE)
    stage.expire_in(23, 30, 37)
    stage.reach_usd = 0
    stage.remember_ivs("SPY", 0.15, 0.40)
    stage.list_chain("SPY", 600.0)
    stage.open()
    assert sole(minute(stage, "10:00"), NoData).what == "iv_now"


def test_open_interest_that_is_asked_for_and_unknown_is_no_data(make_stage):
    stage = make_stage(strategy(min_open_interest=1), DATE)
    stage.expire_in(23, 30, 37)
    stage.reach_usd, stage.open_interest = 75, None
    stage.remember_ivs("SPY", 0.15, 0.40)
    stage.list_chain("SPY", 600.0)
    stage.open()
    assert sole(minute(stage, "10:00"), NoData).what == "open_interest_unknown"


def test_absurd_quotes_are_never_traded(make_stage):
    for half_spread in (-1.0, 400.0):
        stage = ready(make_stage, 0.15, 0.40)
        stage.half_spread_usd = half_spread
        assert not [m for m in minute(stage, "10:00") if isinstance(m, Intent)]


def test_structure_now_needs_no_rank(make_stage):
    stage = ready(make_stage, 0.15, 0.40, sessions=1)
    minute(stage, "09:40")
    now = stage.context(stage.at("09:40") + NS)
    verdict = stage.strategy.structure_now("SPY", now)
    assert isinstance(verdict, Intent)
    assert "rank is unknown" in verdict.reason
    dear = ready(make_stage, 0.08, 0.13)
    minute(dear, "09:40")
    assert len(dear.strategy.structure_now("SPY", dear.context(dear.at("09:40") + NS)).legs) == 4


@pytest.mark.parametrize(
    "settings",
    [
        {"min_days": 20}, {"max_days": 29}, {"rank_buy_below": 0.8}, {"entry_start": "16:00"}, {"exit_at": "16:30"},
        {"wing_abs_delta": 0.18}, {"universe": []}, {"buy_structure": "strangle"}, {"long_stop_fraction": 1.5},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValidationError):
        IvMeanReversionParams.model_validate(settings)


def test_a_view_without_an_observer_is_no_data(cheap):
    class Nothing:
        def standing(self, underlying, at_ns):
            return NotSelected("not_observed", {})

    cheap.volatility = Nothing()
    assert sole(minute(cheap, "10:00"), NoData).facts["iv_reason"] == "not_observed"

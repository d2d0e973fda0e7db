"""The 0DTE condor: when it sells, which strikes it chooses, what it records, and why not."""

import dataclasses
from decimal import Decimal

import numpy as np
import pytest
from pydantic import ValidationError

from oracle.core.instruments import parse_occ
from oracle.core.marketdata import ChainQuotes
from oracle.core.messages import Intent, NoData, NoSignal, OptionsWanted
from oracle.core.ports import StrategyCaps
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.structures import is_structure, legs_of, payoff
from oracle.core.vocabulary import Side
from oracle.strategies.iron_condor import IronCondorParams
from oracle.strategies.registry import load
from tests.strategies.conftest import holding

DATE, HALF_DAY = "2025-11-19", "2025-11-28"


def strategy(**settings):
    return load("iron_condor", settings)


@pytest.fixture
def stage(make_stage):
    """A wild day on which every side pays enough; SPY at 600."""
    return ready(make_stage(strategy(), DATE))


def ready(stage, vol=0.40):
    stage.vol = vol
    stage.list_chain("SPY", 600.0)
    stage.open()
    return stage


def minute(stage, clock, close=600.0):
    """The bar that ends at a time of day; the verdict, wishes left out."""
    said = stage.bar("SPY", stage.at(clock) - MINUTE_NS, close)
    return [m for m in said if not isinstance(m, OptionsWanted)]


def sole(messages, kind):
    assert [type(m) for m in messages] == [kind], messages
    return messages[0]


def evaluate(stage, clock):
    return stage.strategy.evaluate("SPY", stage.context(stage.at(clock)))


def test_the_first_minute_of_the_window_sells_one_structure_of_four_legs(stage):
    assert sole(minute(stage, "09:30:30"), NoSignal).reason == "before_entry_window"
    intent = sole(minute(stage, "09:31"), Intent)
    assert [leg.side for leg in intent.legs] == [Side.BUY, Side.SELL, Side.SELL, Side.BUY]
    put_wing, put, call, call_wing = (parse_occ(leg.symbol) for leg in intent.legs)
    assert (put.strike - put_wing.strike, call_wing.strike - call.strike) == (5.0, 5.0)
    assert {c.expiry for c in (put_wing, put, call, call_wing)} == {DATE}
    assert (put.is_call, call.is_call) == (False, True)
    assert put.strike < 600 < call.strike
    assert is_structure(intent.symbol)
    assert len(legs_of(intent.symbol)) == 4


def test_the_shorts_are_the_farthest_that_pay_enough(stage):
    p = stage.strategy.params
    intent = sole(minute(stage, "09:31"), Intent)
    facts = intent.facts
    for side in ("call", "put"):
        assert facts[f"{side}_credit_usd"] >= 0.08 * 5 - 1e-9
    assert facts["credit_usd"] >= 0.18 * 5 - 1e-9
    assert facts["credit_usd"] == pytest.approx(facts["call_credit_usd"] + facts["put_credit_usd"])
    shorts = [abs(leg.delta) for leg in intent.legs[1:3]]
    assert all(p.abs_delta_low <= size <= p.abs_delta_high for size in shorts)
    # No pair further out pays enough: that is what "smallest delta" means.
    one = stage.chains.usable("SPY", DATE, stage.at("09:31") + 10**9, 10.0)
    mids = {(c.is_call, c.strike): c for c in (*one.calls, *one.puts)}
    put, call = (parse_occ(leg.symbol).strike for leg in intent.legs[1:3])

    def credit(is_call, strike):
        away = 5 if is_call else -5
        return mids[is_call, strike].mid - mids[is_call, strike + away].mid

    for other_put, other_call in ((put - 1, call), (put, call + 1), (put - 1, call + 1)):
        sides = credit(False, other_put), credit(True, other_call)
        sizes = abs(mids[False, other_put].delta), abs(mids[True, other_call].delta)
        farther = max(sizes) < max(shorts) - 1e-9
        assert not (farther and min(sides) >= 0.4 and sum(sides) >= 0.9)


def test_the_exit_plan_and_the_recorded_figures_belong_to_the_structure(stage):
    intent = sole(minute(stage, "09:31"), Intent)
    plan = intent.exit_plan
    assert (plan.target_fraction, plan.stop_fraction, plan.short_delta_stop) == (0.5, 2.0, 0.4)
    assert plan.flat_ns == stage.at("15:00")
    assert (plan.direction, plan.underlying_stop, plan.underlying_target) == (0, None, None)
    legs = legs_of(intent.symbol)
    credit = Decimal(repr(intent.facts["credit_usd"]))
    outcome = payoff(legs, -credit)
    assert intent.facts["max_loss_usd"] == float(outcome.max_loss_usd) == pytest.approx(500 - float(credit) * 100)
    assert (intent.facts["break_even_low"], intent.facts["break_even_high"]) == tuple(map(float, outcome.break_evens))
    assert intent.facts["break_even_win_rate"] == 0.8  # 2x of the credit against half of it, before fees
    assert intent.facts["leg_2"] == f"sell {intent.legs[1].symbol}"
    assert intent.facts["leg_2_open_interest"] == 500
    assert intent.facts["leg_2_open_interest_date"] == "2025-01-02"
    assert intent.valid_until_ns == stage.at("09:45")
    assert "of the width" in intent.reason


def test_a_calm_day_pays_too_little_and_says_how_little(make_stage):
    stage = ready(make_stage(strategy(), DATE), vol=0.30)
    verdict = sole(minute(stage, "09:31"), NoSignal)
    assert verdict.reason == "credit_too_small"
    assert 0 < verdict.facts["call_side_pays_of_width"] < 0.18
    assert verdict.facts["credit_holds"] is False
    assert sole([stage.strategy.structure_now("SPY", stage.context(stage.at("09:31") + 10**9))], Intent)


def test_the_touch_pays_less_than_the_middle(make_stage):
    by_mid, by_touch = (ready(make_stage(strategy(credit_at=word), DATE), vol=0.38) for word in ("mid", "touch"))
    assert sole(minute(by_mid, "09:31"), Intent)
    assert sole(minute(by_touch, "09:31"), NoSignal).reason == "credit_too_small"


def test_the_window_ends_and_an_alternative_one_can_be_set(make_stage):
    late = ready(make_stage(strategy(), DATE))
    assert sole(minute(late, "09:45"), NoSignal).reason == "after_entry_window"
    other = ready(make_stage(strategy(entry_start="10:00", entry_end="11:00"), DATE))
    assert sole(minute(other, "09:59"), NoSignal).reason == "before_entry_window"
    assert sole(minute(other, "10:00"), Intent).valid_until_ns == other.at("11:00")


def test_half_days_are_left_out_by_default(make_stage):
    stage = ready(make_stage(strategy(), HALF_DAY), vol=0.6)
    assert sole(minute(stage, "09:31"), NoSignal).reason == "no_expiry_allowed"
    wanted = ready(make_stage(strategy(zero_dte_on_half_days=True), HALF_DAY), vol=0.6)
    intent = sole(minute(wanted, "09:31"), Intent)
    assert intent.exit_plan.flat_ns == wanted.session.close_ns - 60 * MINUTE_NS


def test_attempts_are_counted_apart_and_restored(stage):
    first = sole(minute(stage, "09:31"), Intent)
    assert first.intent_id == f"iron_condor:{DATE}:SPY:condor-1"
    assert sole(minute(stage, "09:32"), NoSignal).reason == "attempt_under_way"
    assert sole(minute(stage, "09:36"), Intent).intent_id.endswith("condor-6")
    again = strategy()
    for attempt in ("1", "6", "6", "11"):
        again.on_intent_sent(f"iron_condor:{DATE}:SPY:condor-{attempt}")
    stage.strategy = again
    assert sole(minute(stage, "09:44"), NoSignal).reason == "attempts_used"
    assert stage.strategy.caps == StrategyCaps(open_per_underlying=1, trades_per_underlying_session=1)


def test_an_open_condor_is_not_doubled(stage):
    stage.ledger = holding(stage, "iron_condor", stage.session.open_ns)
    assert sole(minute(stage, "09:31"), NoSignal).reason == "position_open"


def test_it_asks_for_todays_quotes_until_the_window_ends(make_stage):
    stage = make_stage(strategy(), DATE)
    stage.vol = 0.16
    wish = OptionsWanted("iron_condor", "SPY", True, (DATE,))
    said = stage.strategy.handle(sole_open(stage), stage.context(stage.session.open_ns))
    assert wish in said
    stage.list_chain("SPY", 600.0)
    assert not [m for m in stage.bar("SPY", stage.at("09:31"), 600.0) if isinstance(m, OptionsWanted)]
    assert OptionsWanted("iron_condor", "SPY", False) in stage.bar("SPY", stage.at("09:44"), 600.0)
    assert not [m for m in stage.bar("SPY", stage.at("09:45"), 600.0) if isinstance(m, OptionsWanted)]


def sole_open(stage):
    from oracle.core.messages import SessionOpened

    return SessionOpened(stage.session.date, stage.session.open_ns, stage.session.close_ns)


def test_structure_now_needs_neither_time_nor_attempts(stage):
    for attempt in range(5):
        stage.strategy.on_intent_sent(f"iron_condor:{DATE}:SPY:condor-{attempt}")
    minute(stage, "10:30")
    now = stage.context(stage.at("10:30") + 10**9)
    assert isinstance(stage.strategy.structure_now("SPY", now), Intent)
    assert stage.strategy.structure_now("IWM", now) is None


# ------------------------------------------------------------------------------------------------------- bad input


def test_without_open_interest_it_trades_unless_some_is_asked_for(make_stage):
    stage = make_stage(strategy(), DATE)
    stage.open_interest = None
    intent = sole(minute(ready(stage), "09:31"), Intent)
    assert intent.facts["leg_1_open_interest"] is None
    asked = make_stage(strategy(min_open_interest=100), DATE)
    asked.open_interest = None
    verdict = sole(minute(ready(asked), "09:31"), NoData)
    assert verdict.what == "open_interest_unknown"
    low = make_stage(strategy(min_open_interest=501), DATE)
    assert sole(minute(ready(low), "09:31"), NoSignal).reason == "open_interest_too_low"


def test_a_chain_of_one_strike_is_no_condor(make_stage):
    stage = make_stage(strategy(), DATE)
    stage.reach_usd = 0
    assert sole(minute(ready(stage), "09:31"), NoSignal).reason == "no_short_in_delta_band"


def unbid(stage, *symbols, ask, bid=0.0):
    """Quote contracts at an offer of the last minute's end, and at a bid of nothing."""
    listed = stage.chains.listed("SPY").contracts
    rows = np.array([n for n, c in enumerate(listed) if c.symbol in symbols], dtype="<i4")
    at_ns, n = stage.at("09:31") + NS, len(rows)
    sides = (np.full(n, value, kind).tobytes() for value, kind in ((bid, "<f8"), (ask, "<f8"), (0, "<i4"), (5, "<i4")))
    stamps = np.full(n, at_ns, "<i8").tobytes()
    stage.chains.on_quotes(ChainQuotes("SPY", DATE, rows.tobytes(), *sides, stamps), stage.context(at_ns))
    return stage.context(at_ns)


@pytest.mark.parametrize("bid", [0.0, float("nan")])
def test_a_wing_without_a_bid_is_bought_at_its_offer(make_stage, bid):
    """It protects its short whatever it could be sold for; the middle between nothing and an offer is no price."""
    stage = ready(make_stage(strategy(min_credit_of_width=0.1), DATE))
    before = sole(minute(stage, "09:31"), Intent)
    wing = before.legs[3]
    now = unbid(stage, wing.symbol, ask=0.08, bid=bid)
    again = stage.strategy.structure_now("SPY", now)
    assert [leg.symbol for leg in again.legs] == [leg.symbol for leg in before.legs]
    leg = again.legs[3]
    assert (leg.bid_usd, leg.ask_usd, leg.delta, leg.iv) == (0, Decimal("0.08"), None, None)
    short = again.legs[2]
    assert again.facts["call_credit_usd"] == pytest.approx(float(short.mid_usd) - 0.08)
    assert again.facts["net_delta"] is None


def test_a_wing_without_a_bid_that_costs_more_than_next_to_nothing_is_none(make_stage):
    stage = ready(make_stage(strategy(), DATE))
    wings = [c.symbol for c in stage.chains.listed("SPY").contracts]
    minute(stage, "09:31")
    for ask in (0.11, 0.0):
        verdict = stage.strategy.structure_now("SPY", unbid(stage, *(w for w in wings if "C006" in w), ask=ask))
        assert verdict.reason in ("no_short_in_delta_band", "no_wing_at_its_strike")


def test_wings_that_nobody_bids_for_are_no_wings_at_a_price(make_stage):
    stage = make_stage(strategy(abs_delta_low=0.01), DATE)
    stage.half_spread_usd = 0.5  # far strikes lose their bids
    assert sole(minute(ready(stage, vol=0.14), "09:31"), NoSignal).reason in (
        "no_wing_at_its_strike", "no_short_in_delta_band",
    )  # fmt: skip


def test_an_expiry_that_is_gone_is_no_data(make_stage):
    stage = make_stage(strategy(), DATE)
    stage.expiries = (stage.table.after(DATE).date,)
    assert sole(minute(ready(stage), "09:31"), NoData).what == "expiry"


def test_no_chain_no_quotes_and_old_quotes_are_no_data(make_stage):
    bare = make_stage(strategy(), DATE)
    bare.open()
    assert sole(minute(bare, "09:31"), NoData).what == "chain"
    unquoted = make_stage(strategy(), DATE)
    unquoted.quoted = False
    assert sole(minute(ready(unquoted), "09:31"), NoData).what == "option_quotes"
    old = make_stage(strategy(), DATE)
    old.quote_age_s = 30.0
    verdict = sole(minute(ready(old), "09:31"), NoData)
    assert verdict.what == "fresh_option_quotes"
    assert verdict.facts["option_stale"] > 0


@pytest.mark.parametrize("half_spread", [-0.05, 300.0])
def test_crossed_and_absurd_quotes_never_trade(make_stage, half_spread):
    stage = make_stage(strategy(), DATE)
    stage.half_spread_usd = half_spread
    (verdict,) = minute(ready(stage), "09:31")
    assert not isinstance(verdict, Intent)


def test_a_spread_too_wide_for_the_credit_is_refused(make_stage):
    stage = make_stage(strategy(), DATE)
    stage.half_spread_usd = 0.05
    verdict = sole(minute(ready(stage), "09:31"), NoSignal)
    assert verdict.reason == "net_spread_too_wide"
    assert verdict.facts["net_spread_usd"] == pytest.approx(0.4)


def test_an_old_bar_is_no_data(stage):
    minute(stage, "09:31")
    assert evaluate(stage, "09:33").what == "fresh_bar"


@pytest.mark.parametrize(
    "settings",
    [
        {"entry_start": "09:50"}, {"entry_end": "15:30"}, {"flat_at": "16:30"}, {"abs_delta_low": 0.3},
        {"short_delta_stop": 0.15}, {"universe": ["SPY", "SPY"]}, {"universe": ["spy 1"]}, {"wing_usd": 0},
        {"stop_fraction": 11}, {"credit_at": "last"}, {"unknown": 1},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValidationError):
        IronCondorParams.model_validate(settings)


def test_params_are_the_products():
    p = IronCondorParams()
    assert (p.universe, p.wing_usd, p.abs_delta_low, p.abs_delta_high) == (("SPY", "QQQ"), 5.0, 0.10, 0.20)
    assert (p.min_side_credit_of_width, p.min_credit_of_width) == (0.08, 0.18)
    assert dataclasses.is_dataclass(p) is False

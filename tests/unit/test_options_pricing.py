"""Prices, greeks and implied volatilities against QuantLib, against their bounds and against each other."""

import csv
import datetime as dt
import gzip
import itertools
import math

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813 the name the library is known by
from hypothesis import given
from hypothesis import strategies as st

from oracle.core.instruments import parse_occ
from oracle.options.pricing import (
    black_forward,
    delta_forward,
    gamma,
    implied_vol,
    parity_forward,
    vega,
)
from tests.conftest import real_folder

MINUTE_YEARS = 1 / (365 * 24 * 60)
FORWARD = 600.0
YEARS = (MINUTE_YEARS, 5 * MINUTE_YEARS, 60 * MINUTE_YEARS, 6.5 / 24 / 365, 7 / 365, 30 / 365, 0.5, 2.0)
VOLS = (0.05, 0.12, 0.3, 0.8, 1.5, 3.0)
RATIOS = (0.3, 0.6, 0.8, 0.9, 0.97, 0.99, 0.999, 1.0, 1.001, 1.01, 1.03, 1.1, 1.25, 1.7, 3.0)
GRID = [(FORWARD * r, t, v, c) for r, t, v, c in itertools.product(RATIOS, YEARS, VOLS, (True, False))]
STRIKE, TIME, VOL, CALL = (np.array(column) for column in zip(*GRID, strict=True))


def ql_type(is_call: bool) -> int:
    return ql.Option.Call if is_call else ql.Option.Put


def test_price_equals_quantlib_over_the_grid():
    ours = black_forward(FORWARD, STRIKE, TIME, VOL, CALL, 0.97)
    theirs = [
        ql.blackFormula(ql_type(bool(c)), float(k), FORWARD, float(v) * math.sqrt(t), 0.97) for k, t, v, c in GRID
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12 * FORWARD)


def test_delta_gamma_vega_equal_quantlib():
    discount = 0.97
    deltas, gammas, vegas = [], [], []
    for k, t, v, c in GRID:
        payoff = ql.PlainVanillaPayoff(ql_type(bool(c)), float(k))
        calculator = ql.BlackCalculator(payoff, FORWARD, float(v) * math.sqrt(t), discount)
        spot = FORWARD * discount  # dividends zero
        deltas.append(calculator.delta(spot))
        gammas.append(calculator.gamma(spot))
        vegas.append(calculator.vega(float(t)))
    np.testing.assert_allclose(delta_forward(FORWARD, STRIKE, TIME, VOL, CALL), deltas, rtol=0, atol=1e-11)
    np.testing.assert_allclose(gamma(FORWARD, STRIKE, TIME, VOL, discount), gammas, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(vega(FORWARD, STRIKE, TIME, VOL, discount), vegas, rtol=1e-9, atol=1e-10)


def test_round_trip_recovers_the_volatility_wherever_the_price_carries_it():
    price = black_forward(FORWARD, STRIKE, TIME, VOL, CALL, 0.97)
    found = implied_vol(price, FORWARD, STRIKE, TIME, CALL, 0.97)
    slope = vega(FORWARD, STRIKE, TIME, VOL, 0.97)
    use = slope > 1e-6 * FORWARD
    assert use.sum() > 700
    # An in-the-money price holds its time value only to the rounding of the whole price.
    in_the_money = np.where(CALL, STRIKE < FORWARD, STRIKE > FORWARD)[use]
    rounding = np.where(in_the_money, 2e-15 * np.maximum(STRIKE, FORWARD)[use] / slope[use], 0.0)
    assert np.all(np.abs(found - VOL)[use] <= 1e-8 + rounding)
    again = black_forward(FORWARD, STRIKE, TIME, found, CALL, 0.97)
    known = ~np.isnan(found)
    assert np.all(np.abs(again - price)[known] <= 1e-12 * FORWARD)


def test_out_of_the_money_precision_is_relative_even_for_vanishing_prices():
    strikes = np.array([700.0, 800.0, 1200.0, 500.0, 350.0])
    calls = strikes > FORWARD
    price = black_forward(FORWARD, strikes, 0.1, 0.15, calls)
    assert price.min() < 1e-20
    np.testing.assert_allclose(implied_vol(price, FORWARD, strikes, 0.1, calls), 0.15, rtol=1e-12)


def test_implied_vol_equals_quantlib_near_the_money():
    for k, t, v in itertools.product((585.0, 599.0, 600.0, 604.0), (6.5 / 24 / 365, 0.1, 1.0), (0.1, 0.4)):
        price = float(black_forward(FORWARD, k, t, v, True, 0.99))
        total = ql.blackFormulaImpliedStdDev(ql.Option.Call, k, FORWARD, price, 0.99, 0.0, v * math.sqrt(t), 1e-13, 500)
        ours = float(implied_vol(price, FORWARD, k, t, True, 0.99))
        if float(vega(FORWARD, k, t, v)) > 1e-3:
            assert ours == pytest.approx(total / math.sqrt(t), abs=1e-8)


@pytest.mark.parametrize(("years", "vol"), [(0.0, 0.2), (0.1, 0.0), (0.0, 0.0)])
def test_without_time_or_volatility_the_price_is_intrinsic(years, vol):
    strikes = np.array([590.0, 600.0, 610.0])
    np.testing.assert_array_equal(black_forward(600, strikes, years, vol, True, 0.9), [9.0, 0.0, 0.0])
    np.testing.assert_array_equal(black_forward(600, strikes, years, vol, False, 0.9), [0.0, 0.0, 9.0])
    np.testing.assert_array_equal(delta_forward(600, strikes, years, vol, True), [1.0, 0.5, 0.0])
    np.testing.assert_array_equal(delta_forward(600, strikes, years, vol, False), [0.0, -0.5, -1.0])


@pytest.mark.parametrize(
    ("price", "forward", "strike", "years", "is_call"),
    [
        (0.0, 600, 610, 0.1, True),  # no time value
        (-1.0, 600, 610, 0.1, True),
        (10.0, 600, 590, 0.1, True),  # exactly intrinsic
        (9.99, 600, 590, 0.1, True),  # below intrinsic
        (600.0, 600, 590, 0.1, True),  # a call is worth less than the forward
        (590.0, 600, 590, 0.1, False),  # a put is worth less than the strike
        (5.0, 600, 600, 0.0, True),
        (5.0, 600, 600, -0.1, True),
        (math.nan, 600, 600, 0.1, True),
        (math.inf, 600, 600, 0.1, True),
        (5.0, math.nan, 600, 0.1, True),
        (5.0, 0.0, 600, 0.1, True),
        (5.0, 600, -600, 0.1, True),
        (5.0, 600, 600, math.inf, True),
        (10.0 + 1e-13, 600, 590, 0.1, True),  # time value that is only rounding
    ],
)
def test_no_implied_volatility_is_nan(price, forward, strike, years, is_call):
    assert np.isnan(implied_vol(price, forward, strike, years, is_call))


def test_one_bad_quote_does_not_touch_its_neighbours():
    prices = np.array([5.0, math.nan, 5.0, 0.0])
    found = implied_vol(prices, 600.0, 600.0, 0.1, True)
    assert list(np.isnan(found)) == [False, True, False, True]
    assert found[0] == found[2] == implied_vol(5.0, 600.0, 600.0, 0.1, True)


@pytest.mark.parametrize("bad", [{"forward": -1.0}, {"years": -0.1}, {"vol": -0.1}, {"strike": math.nan}])
def test_invalid_input_gives_nan_and_not_a_price(bad):
    arguments = {"forward": 600.0, "strike": 600.0, "years": 0.1, "vol": 0.2} | bad
    assert np.isnan(black_forward(**arguments, is_call=True))
    assert np.isnan(delta_forward(**arguments, is_call=True))
    assert np.isnan(vega(**arguments))
    assert np.isnan(gamma(**arguments))


def test_inputs_broadcast():
    grid = black_forward(600.0, np.array([590.0, 600.0, 610.0])[:, None], np.array([0.1, 0.2]), 0.2, True)
    assert grid.shape == (3, 2)
    assert implied_vol(grid, 600.0, np.array([[590.0], [600.0], [610.0]]), 0.1, True).shape == (3, 2)


normal = {"allow_nan": False, "allow_infinity": False}


@given(
    ratio=st.floats(0.2, 5.0, **normal),
    years=st.floats(MINUTE_YEARS, 3.0, **normal),
    vol=st.floats(0.01, 5.0, **normal),
    is_call=st.booleans(),
)
def test_prices_lie_within_their_bounds_and_invert(ratio, years, vol, is_call):
    strike = 100.0 * ratio
    price = float(black_forward(100.0, strike, years, vol, is_call))
    intrinsic = max(100.0 - strike, 0.0) if is_call else max(strike - 100.0, 0.0)
    ceiling = 100.0 if is_call else strike
    assert intrinsic <= price <= ceiling
    found = float(implied_vol(price, 100.0, strike, years, is_call))
    if not math.isnan(found):
        assert float(black_forward(100.0, strike, years, found, is_call)) == pytest.approx(price, abs=1e-10)
    else:
        assert price - intrinsic <= 1e-12 * max(100.0, strike) or ceiling - price <= 1e-12 * ceiling


@given(
    ratio=st.floats(0.5, 2.0, **normal),
    years=st.floats(0.0, 2.0, **normal),
    vol=st.floats(0.0, 3.0, **normal),
)
def test_put_call_parity_holds(ratio, years, vol):
    strike = 100.0 * ratio
    call = float(black_forward(100.0, strike, years, vol, True, 0.95))
    put = float(black_forward(100.0, strike, years, vol, False, 0.95))
    assert call - put == pytest.approx(0.95 * (100.0 - strike), abs=1e-11)
    delta = float(delta_forward(100.0, strike, years, vol, True))
    assert delta - float(delta_forward(100.0, strike, years, vol, False)) == pytest.approx(1.0, abs=1e-12)
    assert 0.0 <= delta <= 1.0


@given(price=st.floats(allow_nan=True, allow_infinity=True), years=st.floats(allow_nan=True))
def test_any_number_gives_a_positive_volatility_or_nan(price, years):
    found = float(implied_vol(price, 100.0, 105.0, years, True))
    assert math.isnan(found) or (found > 0 and 0 < price < 100 and years > 0)


def test_error_of_ignoring_early_exercise_is_small_for_short_options():
    """Measured: at-the-money American puts of up to 45 days at 4 % rates and no dividend."""
    spot, rate, years = 600.0, 0.04, 45 / 365
    today = ql.Date(2, 1, 2025)
    ql.Settings.instance().evaluationDate = today
    count = ql.Actual365Fixed()
    process = ql.BlackScholesProcess(
        ql.QuoteHandle(ql.SimpleQuote(spot)),
        ql.YieldTermStructureHandle(ql.FlatForward(today, rate, count)),
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), 0.15, count)),
    )
    option = ql.VanillaOption(ql.PlainVanillaPayoff(ql.Option.Put, spot), ql.AmericanExercise(today, today + 45))
    option.setPricingEngine(ql.FdBlackScholesVanillaEngine(process, 800, 800))
    discount = math.exp(-rate * years)
    found = float(implied_vol(option.NPV(), spot / discount, spot, years, False, discount))
    assert 0.15 < found < 0.155


def test_parity_forward_is_the_median_of_the_strikes_nearest_the_money():
    strikes = np.arange(560.0, 641.0, 5.0)
    call = black_forward(601.3, strikes, 0.05, 0.2, True, 0.998)
    put = black_forward(601.3, strikes, 0.05, 0.2, False, 0.998)
    assert parity_forward(strikes, call, put, 0.998) == pytest.approx(601.3, abs=1e-9)
    call[8] += 3.0  # one bad quote at the money
    assert parity_forward(strikes, call, put, 0.998) == pytest.approx(601.3, abs=1e-9)


def test_parity_forward_needs_enough_strikes():
    strikes = np.array([595.0, 600.0, 605.0])
    call, put = np.array([8.0, 5.0, math.nan]), np.array([3.0, 5.0, 8.0])
    assert parity_forward(strikes, call, put) is None
    assert parity_forward(strikes, call, put, at_least=2) == 600.0
    assert parity_forward([], [], []) is None


def real_rows(*parts):
    with gzip.open(real_folder().joinpath(*parts), "rt") as file:
        yield from csv.DictReader(file)


def minute_of(text):
    return dt.datetime.fromisoformat(text)


@pytest.mark.real_data
def test_at_the_money_volatility_of_a_real_day_equals_the_published_figures():
    """TWX 2014-06-05, expiry 2014-06-21: each side filled forward, strike nearest the bar's close, r 0.2 %."""
    closes = {row["t"]: float(row["c"]) for row in real_rows("bars", "1m", "TWX", "2014-06-05.csv.gz")}
    changes = {}
    for row in real_rows("options", "quotes_1m", "TWX", "2014-06-05.csv.gz"):
        contract = parse_occ(row["symbol"])
        if contract.expiry == "2014-06-21":
            changes.setdefault(row["t"], []).append((contract.strike, contract.is_call, row["bid"], row["ask"]))
    expires = minute_of("2014-06-21T20:00:00+00:00")
    sides, found = {}, []
    for stamp in sorted(changes.keys() | closes.keys()):
        for strike, is_call, bid, ask in changes.get(stamp, ()):
            old = sides.get((strike, is_call), (math.nan, math.nan))
            sides[strike, is_call] = (float(bid or old[0]), float(ask or old[1]))
        if not ("13:30" <= stamp[11:16] < "20:00" and stamp in closes and sides):
            continue
        spot = closes[stamp]
        strike = min({k for k, _ in sides}, key=lambda k: abs(k - spot))
        years = (expires - minute_of(stamp)).total_seconds() / (365 * 86400)
        discount = math.exp(-0.002 * years)
        mids = [sum(sides.get((strike, call), (math.nan, math.nan))) / 2 for call in (True, False)]
        found.append(float(np.mean(implied_vol(mids, spot / discount, strike, years, [True, False], discount))))
    assert len(found) > 380
    assert np.nanmean(found) == pytest.approx(0.1756, abs=5e-4)
    assert np.nanmin(found) == pytest.approx(0.1671, abs=1e-3)
    assert np.nanmax(found) == pytest.approx(0.1864, abs=1e-3)

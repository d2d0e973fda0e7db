"""Forwards from parity and from spot, rate and dividends."""

import math

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813 the name the library is known by
from hypothesis import given
from hypothesis import strategies as st

from oracle.options.forwards import Dividend, carried_forward, dividends_present_value, expiry_forward
from oracle.options.pricing import black_forward

STRIKES = np.arange(560.0, 641.0, 5.0)


def mids(forward: float, years: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
    discount = math.exp(-rate * years)
    call = black_forward(forward, STRIKES, years, 0.2, True, discount)
    return call, black_forward(forward, STRIKES, years, 0.2, False, discount)


def test_only_dividends_inside_the_life_lower_the_forward():
    dividends = (Dividend(-0.01, 9.0), Dividend(0.1, 1.5), Dividend(0.35, 1.6))
    years = np.array([0.05, 0.1, 0.2, 0.5])
    worth = dividends_present_value(years, 0.04, dividends)
    first, second = 1.5 * math.exp(-0.004), 1.6 * math.exp(-0.014)
    np.testing.assert_allclose(worth, [0, first, first, first + second], rtol=1e-14)
    found = carried_forward(600.0, years, 0.04, dividends)
    np.testing.assert_allclose(found, (600 - worth) * np.exp(0.04 * years), rtol=1e-14)


def test_the_price_on_the_forward_equals_quantlib_with_an_escrowed_dividend():
    today = ql.Date(2, 1, 2025)
    ql.Settings.instance().evaluationDate = today
    count, rate = ql.Actual365Fixed(), 0.04
    process = ql.BlackScholesProcess(
        ql.QuoteHandle(ql.SimpleQuote(600.0)),
        ql.YieldTermStructureHandle(ql.FlatForward(today, rate, count)),
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), 0.25, count)),
    )
    option = ql.VanillaOption(ql.PlainVanillaPayoff(ql.Option.Call, 610.0), ql.EuropeanExercise(today + 45))
    paid = ql.DividendVector([today + 20], [2.5])
    option.setPricingEngine(ql.AnalyticDividendEuropeanEngine(process, paid))
    forward = carried_forward(600.0, 45 / 365, rate, (Dividend(20 / 365, 2.5),))
    ours = black_forward(forward, 610.0, 45 / 365, 0.25, True, math.exp(-rate * 45 / 365))
    assert float(ours) == pytest.approx(option.NPV(), rel=1e-12)


@pytest.mark.parametrize(("spot", "years"), [(math.nan, 0.1), (-1.0, 0.1), (0.0, 0.1), (600.0, -0.1), (2.0, 0.5)])
def test_a_forward_that_does_not_exist_is_nan(spot, years):
    assert np.isnan(carried_forward(spot, years, 0.04, (Dividend(0.2, 5.0),)))


def test_parity_is_preferred_and_spot_is_the_fallback():
    dividends = (Dividend(0.05, 1.7),)
    true = float(carried_forward(600.0, 0.1, 0.04, dividends))
    call, put = mids(true, 0.1, 0.04)
    found = expiry_forward(STRIKES, call, put, spot=600.0, years=0.1, rate=0.04, dividends=dividends)
    assert found is not None
    assert found.source == "parity"
    assert found.usd == pytest.approx(true, abs=1e-9)
    nothing = np.full(STRIKES.shape, math.nan)
    found = expiry_forward(STRIKES, nothing, put, spot=600.0, years=0.1, rate=0.04, dividends=dividends)
    assert found is not None
    assert (found.usd, found.source) == (true, "spot")
    assert expiry_forward(STRIKES, nothing, put, spot=None, years=0.1, rate=0.04) is None
    alone = expiry_forward(STRIKES, call, put, spot=None, years=0.1, rate=0.04)
    assert alone is not None
    assert alone.source == "parity"


def test_parity_that_disagrees_with_spot_is_not_believed():
    call, put = mids(700.0, 0.1, 0.04)
    found = expiry_forward(STRIKES, call, put, spot=600.0, years=0.1, rate=0.04)
    assert found is not None
    assert found.source == "spot"


@given(st.floats(0.001, 2), st.floats(-0.02, 0.1), st.floats(0, 20), st.floats(0.001, 2))
def test_a_dividend_lowers_the_forward_by_its_value_at_expiry(years, rate, usd, ex):
    plain = float(carried_forward(600.0, years, rate))
    paying = float(carried_forward(600.0, years, rate, (Dividend(ex, usd),)))
    lost = usd * math.exp(rate * (years - ex)) if ex <= years else 0.0
    assert plain - paying == pytest.approx(lost, abs=1e-9)

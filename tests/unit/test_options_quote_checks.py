"""Reasons of quotes and prices: each code, their order, and that none but a usable price gets past."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.options.greeks import chain_greeks
from oracle.options.pricing import implied_vol
from oracle.options.quote_checks import (
    REASON_NAMES,
    QuoteReason,
    has_volatility,
    join_reasons,
    mark_early_exercise,
    price_reasons,
    quote_reasons,
    reason_name,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("bid", "ask", "age_s", "years", "reason"),
    [
        (5.0, 5.2, 1.0, 0.1, "usable"),
        (5.0, 5.0, 1.0, 0.1, "usable"),  # locked
        (5.0, 5.2, 60.0, 0.1, "usable"),
        (5.0, 5.2, -0.5, 0.1, "usable"),  # the vendor's clock is ahead
        (5.0, 5.2, 60.1, 0.1, "stale"),
        (5.0, 5.2, NAN, 0.1, "stale"),
        (5.0, 5.2, 1.0, 0.0, "expired"),
        (5.0, 5.2, 1.0, -1.0, "expired"),
        (5.0, 5.2, 1.0, NAN, "expired"),
        (NAN, NAN, 1.0, 0.1, "no_quote"),
        (NAN, 5.2, 1.0, 0.1, "one_sided"),
        (5.0, NAN, 1.0, 0.1, "one_sided"),
        (5.0, 0.0, 1.0, 0.1, "one_sided"),  # nobody offers
        (5.3, 5.2, 1.0, 0.1, "crossed"),
        (0.0, 0.05, 1.0, 0.1, "zero_bid"),
        (-0.01, 0.05, 1.0, 0.1, "invalid_quote"),
        (5.0, INF, 1.0, 0.1, "invalid_quote"),
        (NAN, -5.0, 1.0, 0.1, "invalid_quote"),
    ],
)
def test_each_fault_of_a_quote_has_its_name(bid, ask, age_s, years, reason):
    code = quote_reasons(bid, ask, age_s, years, max_age_s=60)
    assert code.dtype == np.uint8
    assert reason_name(int(code)) == reason


def test_names_are_those_of_the_codes():
    assert [QuoteReason(code).name.lower() for code in range(len(REASON_NAMES))] == list(REASON_NAMES)


def test_a_chain_is_judged_at_once_and_joined_with_its_prices():
    bid = np.array([5.0, NAN, 6.0, 0.0, 5.0, 12.0])
    ask = np.array([5.2, 5.2, 5.0, 0.1, 5.2, 12.2])
    age_s = np.array([1, 1, 1, 1, 99, 1])
    strike = np.array([600.0, 600, 600, 700, 600, 580])
    reasons = quote_reasons(bid, ask, age_s, 0.1, max_age_s=60)
    found = chain_greeks((bid + ask) / 2, 600.0, strike, 0.1, True, reasons=reasons)
    told = [reason_name(code) for code in found.reasons.tolist()]
    assert told == ["usable", "one_sided", "crossed", "zero_bid", "stale", "below_intrinsic"]
    np.testing.assert_array_equal(has_volatility(found.reasons), ~np.isnan(found.iv))


def test_the_first_reason_is_kept():
    first = np.array([0, QuoteReason.STALE, 0], dtype=np.uint8)
    second = np.array([QuoteReason.ABOVE_BOUND, QuoteReason.ABOVE_BOUND, 0], dtype=np.uint8)
    assert join_reasons(first, second).tolist() == [QuoteReason.ABOVE_BOUND, QuoteReason.STALE, 0]
    marked = mark_early_exercise(join_reasons(first, second), np.array([True, True, True]))
    assert marked.tolist() == [QuoteReason.ABOVE_BOUND, QuoteReason.STALE, QuoteReason.EARLY_EXERCISE]
    assert marked.dtype == np.uint8
    assert has_volatility(marked).tolist() == [False, False, True]


anything = st.floats(allow_nan=True, allow_infinity=True)


@given(anything, anything, anything, anything)
def test_a_usable_quote_is_two_sided_fresh_and_alive(bid, ask, age_s, years):
    code = int(quote_reasons(bid, ask, age_s, years, max_age_s=60))
    fit = 0 < bid <= ask < INF and age_s <= 60 and years > 0
    assert (code == QuoteReason.USABLE) is fit


@given(st.floats(-10, 700), st.floats(1, 1200), st.floats(-0.1, 2), st.booleans(), st.floats(-1, 2))
def test_a_price_has_a_reason_exactly_where_it_has_no_volatility(price, strike, years, is_call, discount):
    code = int(price_reasons(price, 600.0, strike, years, is_call, discount))
    assert (code == QuoteReason.USABLE) is not np.isnan(implied_vol(price, 600.0, strike, years, is_call, discount))

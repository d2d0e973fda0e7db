"""Implied volatility and greeks of whole chains: against 50-digit arithmetic, QuantLib, bounds, garbage, neighbours."""

import decimal
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from decimal import Decimal

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813 the name the library is known by
from hypothesis import given
from hypothesis import strategies as st

from oracle.options.greeks import DAYS_PER_YEAR, Greeks, chain_greeks
from oracle.options.pricing import black_forward, implied_vol
from oracle.options.quote_checks import QuoteReason, has_volatility
from oracle.options.solver import CHUNK, total_vol
from tests.unit.black_reference import black, working_digits

MINUTE = 1 / 525_600
SPOT = 600.0
NAMES = ("iv", "delta", "gamma", "theta", "vega", "rho")
# From one minute to two years; the last minutes of 0DTE and the first weeks weigh most.
YEARS = (MINUTE, 2 * MINUTE, 5 * MINUTE, 30 * MINUTE, 120 * MINUTE, 390 * MINUTE, 1 / 365, 3 / 365, 7 / 365, 21 / 365)
YEARS += (45 / 365, 0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Contracts:
    """Columns of generated contracts, with the volatility that each was priced at, to 50 digits and then rounded."""

    forward: np.ndarray
    strike: np.ndarray
    years: np.ndarray
    rate: np.ndarray
    vol: np.ndarray
    is_call: np.ndarray
    price: np.ndarray

    def greeks(self) -> Greeks:
        return chain_greeks(self.price, self.forward, self.strike, self.years, self.is_call, self.rate)


@pytest.fixture(autouse=True)
def digits() -> Iterator[None]:
    with decimal.localcontext() as context:
        context.prec = working_digits()
        yield


def exact(forward: float, strike: float, years: float, rate: float, vol: float, is_call: bool) -> Decimal:
    f, k, t, r, v = (Decimal(float(x)) for x in (forward, strike, years, rate, vol))
    return black(f, k, t, v, is_call, (-r * t).exp())


def contracts(count: int, seed: int) -> Contracts:
    """A third within two deviations of the money, a third to eight, a third from 0.2 to 5 times the forward."""
    random = np.random.default_rng(seed)
    years = random.choice(YEARS, count)
    vol = np.exp(random.uniform(math.log(0.03), math.log(5.0), count))
    rate = random.choice([0.0, 0.002, 0.045, 0.08], count)
    forward = SPOT * np.exp((rate - random.choice([0.0, 0.013], count)) * years)
    deviations = random.uniform(-1, 1, count) * np.where(random.random(count) < 0.5, 2.0, 8.0)
    anywhere = random.uniform(math.log(0.2), math.log(5.0), count)
    log_strike = np.where(random.random(count) < 2 / 3, deviations * vol * np.sqrt(years), anywhere)
    strike = np.clip(np.round(forward * np.exp(log_strike), 2), 0.5, 20 * SPOT)
    strike[::50] = forward[::50]  # exactly at the money
    is_call = random.random(count) < 0.5
    rows = zip(forward, strike, years, rate, vol, is_call, strict=True)
    price = np.array([float(exact(*row)) for row in rows])
    return Contracts(forward, strike, years, rate, vol, is_call, price)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_contracts_against_fifty_digits():
    """Reprice error at most 1e-12 of spot, volatility error at most 1e-8 where vega is above 1e-6 of spot."""
    them = contracts(10_500, seed=1)
    found = them.greeks()
    has = ~np.isnan(found.iv)
    exact_vega = black_vega(them, them.vol)
    tells = exact_vega > 1e-6 * SPOT
    assert tells.sum() > 5_000
    assert has[tells].all()
    assert np.abs(found.iv - them.vol)[tells].max() <= 1e-8
    # Whatever has a number reprices, told by the quote or not.
    assert has.sum() > 7_000
    columns = (them.forward, them.strike, them.years, them.rate, found.iv, them.is_call)
    worst = max(
        abs(exact(*row) - Decimal(price))
        for row, price, use in zip(zip(*columns, strict=True), them.price.tolist(), has, strict=True)
        if use
    )
    assert worst <= Decimal("1e-12") * Decimal(SPOT)
    # No number means: the time value is not there in double precision.
    intrinsic = np.maximum(np.where(them.is_call, 1, -1) * (them.forward - them.strike), 0.0)
    time_value = them.price * np.exp(them.rate * them.years) - intrinsic
    assert (time_value[~has] <= 4e-15 * np.maximum(them.forward, them.strike)[~has]).all()
    assert {QuoteReason(code) for code in np.unique(found.reasons[~has])} <= {
        QuoteReason.BELOW_INTRINSIC, QuoteReason.TIME_VALUE_NOISE,
    }  # fmt: skip
    assert (found.reasons[has] == QuoteReason.USABLE).all()


def black_vega(them: Contracts, vol: np.ndarray) -> np.ndarray:
    total = vol * np.sqrt(them.years)
    d1 = np.log(them.forward / them.strike) / total + total / 2
    discounted = them.forward * np.exp(-them.rate * them.years)
    return discounted * np.exp(-0.5 * d1 * d1) / math.sqrt(2 * math.pi) * np.sqrt(them.years)


def test_greeks_equal_finite_differences_of_fifty_digit_prices():
    them = contracts(400, seed=2)
    dividend_yield = 0.02
    found = chain_greeks(them.price, them.forward, them.strike, them.years, them.is_call, them.rate, dividend_yield)
    cash, step = Decimal("1.75"), Decimal("1e-18")
    compared = 0
    for i in np.flatnonzero(~np.isnan(found.iv)):
        f, k, t, r, v = (Decimal(float(x[i])) for x in (them.forward, them.strike, them.years, them.rate, found.iv))
        q, is_call = Decimal(dividend_yield), bool(them.is_call[i])
        spot = f * ((q - r) * t).exp() + cash

        def value(s: Decimal, t: Decimal, v: Decimal, r: Decimal, *, k=k, q=q, is_call=is_call) -> Decimal:
            return black((s - cash) * ((r - q) * t).exp(), k, t, v, is_call, (-r * t).exp())

        here = value(spot, t, v, r)
        up, down = value(spot + step, t, v, r), value(spot - step, t, v, r)
        expected = {
            "delta": (up - down) / (2 * step),
            "gamma": (up - 2 * here + down) / step**2,
            "theta": -(value(spot, t + step * t, v, r) - value(spot, t - step * t, v, r))
            / (2 * step * t * Decimal(DAYS_PER_YEAR)),
            "vega": (value(spot, t, v + step, r) - value(spot, t, v - step, r)) / (2 * step),
            "rho": (value(spot, t, v, r + step) - value(spot, t, v, r - step)) / (2 * step),
        }
        size = float(f * v / t.sqrt()) / DAYS_PER_YEAR  # theta grows without bound as time runs out
        absolute = {"delta": 1e-11, "gamma": 1e-13, "theta": 1e-11 * size, "vega": 1e-9, "rho": 1e-9}
        for name, number in expected.items():
            ours = float(getattr(found, name)[i])
            assert ours == pytest.approx(float(number), rel=1e-8, abs=absolute[name]), (name, i)
        compared += 1
    assert compared > 250


def test_greeks_equal_quantlib():
    for is_call in (True, False):
        strikes = np.array([480.0, 570.0, 598.0, 600.0, 612.5, 640.0, 720.0])
        years, rate, dividend_yield, vol = 0.17, 0.043, 0.013, 0.31
        forward = SPOT * math.exp((rate - dividend_yield) * years)
        discount = math.exp(-rate * years)
        price = black_forward(forward, strikes, years, vol, is_call, discount)
        found = chain_greeks(price, forward, strikes, years, is_call, rate, dividend_yield)
        for i, strike in enumerate(strikes.tolist()):
            payoff = ql.PlainVanillaPayoff(ql.Option.Call if is_call else ql.Option.Put, strike)
            their = ql.BlackCalculator(payoff, forward, vol * math.sqrt(years), discount)
            assert found.iv[i] == pytest.approx(vol, abs=1e-12)
            assert found.delta[i] == pytest.approx(their.delta(SPOT), abs=1e-12)
            assert found.gamma[i] == pytest.approx(their.gamma(SPOT), rel=1e-10)
            assert found.vega[i] == pytest.approx(their.vega(years), rel=1e-10)
            assert found.rho[i] == pytest.approx(their.rho(years), rel=1e-10)
            assert found.theta[i] == pytest.approx(their.theta(SPOT, years) / 365, rel=1e-10)


def test_in_the_last_minute_time_is_real():
    """A floor of a day would find a 38th of the volatility."""
    price = float(black_forward(SPOT, 600.5, MINUTE, 0.5, True))
    found = chain_greeks(price, SPOT, 600.5, MINUTE, True)
    assert float(found.iv) == pytest.approx(0.5, abs=1e-10)
    assert float(found.theta) == pytest.approx(-57.34, abs=0.01)  # dollars a day; it has cents and a minute left


@pytest.mark.parametrize(
    ("price", "forward", "strike", "years", "is_call", "reason"),
    [
        (5.0, 600, 600, 0.0, True, QuoteReason.EXPIRED),
        (5.0, 600, 600, -0.1, True, QuoteReason.EXPIRED),
        (5.0, 600, 600, math.nan, True, QuoteReason.EXPIRED),
        (math.nan, 600, 600, 0.1, True, QuoteReason.INVALID_INPUT),
        (math.inf, 600, 600, 0.1, True, QuoteReason.INVALID_INPUT),
        (-1.0, 600, 610, 0.1, True, QuoteReason.INVALID_INPUT),
        (5.0, math.nan, 600, 0.1, True, QuoteReason.INVALID_INPUT),
        (5.0, 0.0, 600, 0.1, True, QuoteReason.INVALID_INPUT),
        (5.0, -600, -600, 0.1, True, QuoteReason.INVALID_INPUT),
        (5.0, 600, 600, math.inf, True, QuoteReason.INVALID_INPUT),
        (0.0, 600, 610, 0.1, True, QuoteReason.BELOW_INTRINSIC),
        (10.0, 600, 590, 0.1, True, QuoteReason.BELOW_INTRINSIC),
        (9.99, 600, 590, 0.1, True, QuoteReason.BELOW_INTRINSIC),
        (10.0 + 1e-13, 600, 590, 0.1, True, QuoteReason.TIME_VALUE_NOISE),
        (600.0, 600, 590, 0.1, True, QuoteReason.ABOVE_BOUND),
        (5000.0, 600, 610, 0.1, True, QuoteReason.ABOVE_BOUND),
        (590.0, 600, 590, 0.1, False, QuoteReason.ABOVE_BOUND),
    ],
)
def test_what_has_no_volatility_says_why(price, forward, strike, years, is_call, reason):
    found = chain_greeks(price, forward, strike, years, is_call)
    assert all(np.isnan(getattr(found, name)) for name in NAMES)
    assert QuoteReason(int(found.reasons)) is reason
    assert np.isnan(implied_vol(price, forward, strike, years, is_call))


def test_zero_numbers_where_no_volatility_exists():
    """10,000 prices outside the bounds, of them some by a cent, none of which may get a number."""
    random = np.random.default_rng(5)
    count = 10_000
    strike, years = random.uniform(300, 1200, count), random.choice(YEARS, count)
    is_call = random.random(count) < 0.5
    discount = np.exp(-0.045 * years)
    intrinsic = discount * np.maximum(np.where(is_call, 1, -1) * (SPOT - strike), 0)
    bound = discount * np.where(is_call, SPOT, strike)
    off = random.choice([0.01, 1.0, 50.0], count)
    low = random.random(count) < 0.5
    price = np.where(low, intrinsic - off, bound + off)
    found = chain_greeks(price, SPOT, strike, years, is_call, 0.045)
    assert all(np.isnan(getattr(found, name)).all() for name in NAMES)
    below = (found.reasons == QuoteReason.BELOW_INTRINSIC) | (found.reasons == QuoteReason.INVALID_INPUT)
    np.testing.assert_array_equal(below, low)
    np.testing.assert_array_equal(found.reasons == QuoteReason.ABOVE_BOUND, ~low)


def test_reasons_given_are_kept_and_leave_no_number():
    codes = np.array([0, QuoteReason.CROSSED, QuoteReason.EARLY_EXERCISE, 0], dtype=np.uint8)
    found = chain_greeks([5.0, 5.0, 5.0, 0.0], SPOT, 600.0, 0.1, True, reasons=codes)
    assert list(np.isnan(found.iv)) == [False, True, False, True]
    assert found.reasons.tolist() == [0, QuoteReason.CROSSED, QuoteReason.EARLY_EXERCISE, QuoteReason.BELOW_INTRINSIC]
    np.testing.assert_array_equal(has_volatility(found.reasons), ~np.isnan(found.iv))


def test_a_contract_gets_the_same_bytes_in_any_company():
    them = contracts(300, seed=3)
    whole = them.greeks()

    def column(name: str) -> np.ndarray:
        return np.asarray(getattr(them, name))

    for size in (1, 2, 3, 5, 7, 8, 9, 64, 299):
        for start in (0, 1, 17, 100):
            part = slice(start, start + size)
            names = ("price", "forward", "strike", "years", "is_call", "rate")
            found = chain_greeks(*(column(name)[part] for name in names))
            for field in fields(Greeks):
                one, other = getattr(found, field.name), getattr(whole, field.name)[part]
                assert one.tobytes() == other.tobytes(), (field.name, size, start)
    # Longer than a chunk, so that each contract sits at another place of another chunk.
    repeats = 2 * CHUNK // 300 + 3
    many = chain_greeks(*(np.tile(column(name), repeats) for name in names))
    for field in fields(Greeks):
        assert getattr(many, field.name).tobytes() == np.tile(getattr(whole, field.name), repeats).tobytes()


def test_scalars_and_broadcast_shapes():
    strikes = np.array([590.0, 600.0, 610.0])
    grid = black_forward(SPOT, strikes[:, None], np.array([0.1, 0.2]), 0.2, True)
    found = chain_greeks(grid, SPOT, strikes[:, None], np.array([0.1, 0.2]), True)
    assert {getattr(found, name).shape for name in (*NAMES, "reasons")} == {(3, 2)}
    np.testing.assert_allclose(found.iv, 0.2, atol=1e-12)
    one = chain_greeks(float(grid[1, 0]), SPOT, 600.0, 0.1, True)
    assert one.iv.shape == ()
    assert float(one.delta) == found.delta[1, 0]
    nothing = chain_greeks([], SPOT, [], 0.1, True)
    assert nothing.iv.shape == nothing.reasons.shape == (0,)


def test_the_solver_reaches_double_precision_inside_its_table_and_outside():
    random = np.random.default_rng(11)
    total = np.exp(random.uniform(math.log(1e-3), math.log(6.0), 20_000))
    a = total * random.uniform(0, 20, total.size)
    undiscounted = black_forward(np.exp(-0.5 * a), np.exp(0.5 * a), 1.0, total, True)
    use = (undiscounted > 1e-280) & (undiscounted < np.exp(-0.5 * a) * (1 - 1e-3))
    found = total_vol(undiscounted[use], a[use])
    assert use.sum() > 15_000
    assert np.abs(found / total[use] - 1).max() < 5e-11


normal = {"allow_nan": False, "allow_infinity": False}
garbage = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, -0.0, 5e-324, 1e308, math.nan, math.inf])
)


@given(garbage, garbage, garbage, garbage, st.booleans(), garbage, garbage)
def test_garbage_gives_a_reason_or_six_numbers(price, forward, strike, years, is_call, rate, dividend_yield):
    found = chain_greeks(price, forward, strike, years, is_call, rate, dividend_yield)
    missing = [bool(np.isnan(getattr(found, name))) for name in NAMES]
    usable = int(found.reasons) == QuoteReason.USABLE
    assert missing == [not usable] * 6
    if usable:
        assert all(np.isfinite(getattr(found, name)) for name in NAMES)
        assert found.iv > 0
        assert price > 0
        assert years > 0


@given(
    ratio=st.floats(0.6, 1.6, **normal),
    years=st.floats(MINUTE, 2.0, **normal),
    vol=st.floats(0.05, 3.0, **normal),
    rate=st.floats(-0.01, 0.1, **normal),
)
def test_greeks_keep_bounds_and_parity(ratio, years, vol, rate):
    strike, discount = 100.0 * ratio, math.exp(-rate * years)
    prices = black_forward(100.0, strike, years, vol, [True, False], discount)
    found = chain_greeks(prices, 100.0, strike, years, [True, False], rate)
    if np.isnan(found.iv).any():
        return
    (call, put), step = found.delta.tolist(), 1e-12
    assert -step <= call <= 1 + step
    assert -1 - step <= put <= step
    assert (found.gamma >= 0).all()
    assert (found.vega >= 0).all()
    assert found.rho[0] >= 0 >= found.rho[1]
    # Where one of the two is deep in the money its volatility is rounded; compare where both carry it.
    if found.vega[0] < 1e-3:
        return
    assert call - put == pytest.approx(1.0, abs=1e-9)
    assert found.vega[0] == pytest.approx(found.vega[1], rel=1e-6)
    assert found.gamma[0] == pytest.approx(found.gamma[1], rel=1e-6)
    assert found.rho[0] - found.rho[1] == pytest.approx(years * strike * discount, rel=1e-9, abs=1e-9)
    carry = -rate * strike * discount / DAYS_PER_YEAR
    assert found.theta[0] - found.theta[1] == pytest.approx(carry, abs=1e-6 * abs(found.theta[0]) + 1e-9)


@given(
    ratio=st.floats(0.7, 1.4, **normal),
    years=st.floats(MINUTE, 1.0, **normal),
    low=st.floats(0.05, 3.0, **normal),
    more=st.floats(1e-3, 1.0, **normal),
    is_call=st.booleans(),
)
def test_a_dearer_option_has_more_volatility(ratio, years, low, more, is_call):
    prices = black_forward(100.0, 100.0 * ratio, years, [low, low + more], is_call)
    found = chain_greeks(prices, 100.0, 100.0 * ratio, years, is_call)
    if prices[1] > prices[0] and not np.isnan(found.iv).any():
        assert found.iv[0] < found.iv[1]

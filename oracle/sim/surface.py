"""The synthetic implied-volatility surface: forward variance to each expiry and a smile in x = ln(K/F)/sqrt(T).

Inputs: a symbol's volatility state by minute and its sessions to each expiry. Time to expiry T is real time (ACT/365
to the expiry's close). At-the-money total variance is a sum of non-negative pieces (rest of today, then each night
and session, reverting to the mean with a growing risk premium), so it rises with expiry: no calendar arbitrage.
Invariant: finite at every instant up to and including the expiry.
"""

from dataclasses import dataclass

import numpy as np

from oracle.core.sessions import NS
from oracle.options.pricing import black_forward
from oracle.sim.noise import Floats, Ints
from oracle.sim.pathgen import LOG_VOL_AR1, SymbolSpec, variance_profile

YEAR_NS = 365 * 86_400 * NS
RATE = 0.04
_SKEW_SHORT, _SKEW_LONG, _CURVATURE = -0.105, -0.075, 0.10
_SMILE_WIDTH = 3.0  # standard deviations at which the smile flattens, smoothly, so that far wings stay sane
_PREMIUM_NOW, _PREMIUM_LATER = 1.08, 1.20  # implied over realised volatility, today and a month out


@dataclass(frozen=True, slots=True)
class Surface:
    """One underlying's surface over one session.

    ``log_vol`` is the log volatility state by minute of the session (one more than minutes); ``expiry_ns`` and
    ``sessions_ahead`` (0 for today's expiry) describe the expiries; ``later`` is the variance beyond today's close by
    (minute, expiry); ``today_left`` the share of a full session's variance left after each second.
    """

    spec: SymbolSpec
    open_ns: int
    log_vol: Floats
    expiry_ns: Ints
    sessions_ahead: Ints
    later: Floats
    today_left: Floats

    def atm(self, expiry: Ints, second: Ints) -> tuple[Floats, Floats]:
        """At-the-money volatility and years to expiry, for pairs of expiry index and second of the session."""
        minute = np.maximum(second - 1, 0) // 60
        left_ns = self.expiry_ns[expiry] - (self.open_ns + second * NS)
        years = np.maximum(left_ns, NS) / YEAR_NS
        today = (_PREMIUM_NOW * self.spec.intraday_sd) ** 2 * np.exp(2.0 * self.log_vol[minute])
        variance = today * self.today_left[second] + self.later[minute, expiry]
        return np.sqrt(variance / years), years

    def prices(
        self, spot: Floats, strike: Floats, is_call: np.ndarray, expiry: Ints, second: Ints
    ) -> tuple[Floats, Floats]:
        """Model mids and standardised moneyness ln(K/F)/(a sqrt T), for pairs of contract and second.

        European prices, never below the immediate exercise value; exactly that value at expiry.
        """
        a, years = self.atm(expiry, second)
        price, z = model_prices(self.spec, spot, strike, is_call, atm=a, years=years)
        exercise = np.maximum(np.where(is_call, spot - strike, strike - spot), 0.0)
        expired = self.expiry_ns[expiry] <= self.open_ns + second * NS
        return np.where(expired, exercise, price), z


def smile(atm: Floats, x: Floats, years: Floats) -> Floats:
    """Volatility at x = ln(K/F)/sqrt(T): a + b x + c x², b from -.105 (today) to -.075 (60 days), flat far out."""
    slope = _SKEW_SHORT + (_SKEW_LONG - _SKEW_SHORT) * np.minimum(years * (365.0 / 60.0), 1.0)
    reach = _SMILE_WIDTH * atm
    bounded = reach * np.tanh(x / reach)
    vol: Floats = atm + slope * bounded + _CURVATURE * bounded * bounded
    return vol


def make_surface(spec: SymbolSpec, open_ns: int, log_vol: Floats, expiry_ns: Ints, sessions_ahead: Ints) -> Surface:
    """Precompute a session's variance pieces; ``log_vol`` has one value per minute and one for the close."""
    minutes = len(log_vol) - 1
    profile = np.repeat(variance_profile(minutes) / 60.0, 60)
    left = np.concatenate([np.cumsum(profile[::-1])[::-1], [0.0]])
    left = np.maximum(left, profile[-1])  # the last second's variance keeps the volatility finite at the close
    pieces = later_variance(spec, log_vol, int(sessions_ahead.max()) if len(sessions_ahead) else 0)
    return Surface(spec, open_ns, log_vol, expiry_ns, sessions_ahead, pieces[:, sessions_ahead], left)


def later_variance(spec: SymbolSpec, log_vol: Floats, ahead: int) -> Floats:
    """Implied variance of the next 0, 1, … ``ahead`` whole sessions (night included), by row of ``log_vol``."""
    day = np.arange(1, ahead + 1)
    premium = _PREMIUM_NOW + (_PREMIUM_LATER - _PREMIUM_NOW) * (1.0 - np.exp(-day / 8.0))
    base = (spec.intraday_sd**2 + spec.overnight_sd**2) * premium**2
    each = base * np.exp(2.0 * log_vol[:, None] * LOG_VOL_AR1**day)
    zero = np.zeros((len(log_vol), 1))
    total: Floats = np.concatenate([zero, np.cumsum(each, axis=1)], axis=1)
    return total


def month_iv(spec: SymbolSpec, log_vol: float) -> float:
    """30-day at-the-money volatility at a close: 30 calendar days hold 20.7 sessions on average."""
    total = later_variance(spec, np.array([log_vol]), 21)[0]
    variance = float(total[20]) + 0.7 * float(total[21] - total[20])
    return float(np.sqrt(variance * 365.0 / 30.0))


def model_prices(
    spec: SymbolSpec, spot: Floats | float, strike: Floats, is_call: np.ndarray, *, atm: Floats, years: Floats
) -> tuple[Floats, Floats]:
    """Price contracts off an at-the-money volatility: European mids, never below the immediate exercise value.

    Returns:
        Dollars, and the standardised moneyness ln(K/F)/(a sqrt T).
    """
    forward = spot * np.exp((RATE - spec.dividend_yield) * years)
    x = np.log(strike / forward) / np.sqrt(years)
    price = black_forward(forward, strike, years, smile(atm, x, years), is_call, np.exp(-RATE * years))
    exercise = np.maximum(np.where(is_call, spot - strike, strike - spot), 0.0)
    return np.maximum(price, exercise), x / atm

"""At the money, 30 days, term structure and skew: known smiles, real days, and chains that have no answer."""

import csv
import datetime as dt
import gzip
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from oracle.core.instruments import parse_occ
from oracle.core.ports import NotSelected
from oracle.options.pricing import black_forward, delta_forward
from oracle.options.volatility import (
    ConstantMaturity,
    Skew,
    Smile,
    TermPoint,
    atm_iv,
    constant_maturity,
    skew,
    smile,
    term_structure,
)

F, YEARS, D = 600.0, 30 / 365, 0.9967
STRIKES = np.arange(520.0, 681.0, 5.0)


def vol_at(strike: np.ndarray | float, atm: float = 0.18, slope: float = -0.09, forward: float = F) -> np.ndarray:
    """A straight smile in ln(K/F)/sqrt(T)."""
    return atm + slope * np.log(np.asarray(strike) / forward) / math.sqrt(YEARS)


def mids(strikes: np.ndarray = STRIKES, vol: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Fair calls and puts."""
    iv = vol_at(strikes) if vol is None else vol
    call, put = (black_forward(F, strikes, YEARS, iv, right, D) for right in (True, False))
    return call, put


def made(strikes: np.ndarray = STRIKES, **quotes: np.ndarray) -> Smile:
    """The smile of fair prices, or of those given."""
    call, put = mids(strikes)
    return smile(
        strikes, quotes.get("call", call), quotes.get("put", put), expiry="E", years=YEARS, forward=F, discount=D
    )


def nearest_atm_iv(one: Smile, centre: float) -> float | None:
    """The reference's convention: the mean of call and put at the strike nearest to spot."""
    if len(one.strike) == 0:
        return None
    at = int(np.argmin(np.abs(one.strike - centre)))
    iv = float((one.call_iv[at] + one.put_iv[at]) / 2)
    return iv if math.isfinite(iv) else None


def word(found: object) -> str:
    """Why there is nothing."""
    assert isinstance(found, NotSelected)
    return found.reason


def test_at_the_money_is_the_volatility_at_the_forward() -> None:
    assert atm_iv(made()) == pytest.approx(0.18, abs=1e-9)  # 600 is a strike
    between = np.array([590.0, 595.0, 604.0, 610.0])
    expected = float(np.interp(F, between, vol_at(between)))
    assert atm_iv(made(between)) == pytest.approx(expected, abs=1e-9)
    assert nearest_atm_iv(made(), 603.0) == pytest.approx(float(vol_at(605.0)), abs=1e-9)


def test_the_mean_of_call_and_put_cancels_a_forward_that_is_slightly_wrong() -> None:
    """A dividend that nobody told of moves call and put volatilities apart by equal amounts."""
    call, put = mids()
    off = smile(STRIKES, call, put, expiry="E", years=YEARS, forward=F * 1.002, discount=D)
    at = int(np.flatnonzero(STRIKES == 600)[0])
    assert off.call_iv[at] < 0.175 < 0.185 < off.put_iv[at]
    assert nearest_atm_iv(off, 600.0) == pytest.approx(0.18, abs=5e-4)
    assert atm_iv(off) == pytest.approx(0.18, abs=2e-3)


def test_one_right_alone_will_do_and_none_will_not() -> None:
    gone = np.full(len(STRIKES), np.nan)
    assert atm_iv(made(put=gone)) == pytest.approx(0.18, abs=1e-9)
    assert nearest_atm_iv(made(put=gone), F) is None
    assert word(atm_iv(made(call=gone, put=gone))) == "no_implied_vol"


@pytest.mark.parametrize(
    ("strikes", "reason"),
    [
        ([595.0], "no_strikes_around_forward"),
        ([605.0, 610.0, 615.0], "no_strikes_around_forward"),
        ([540.0, 660.0], "strikes_too_far_from_forward"),
        ([], "no_implied_vol"),
    ],
)
def test_a_chain_without_strikes_around_the_forward_says_so(strikes: list[float], reason: str) -> None:
    assert word(atm_iv(made(np.array(strikes)))) == reason
    assert isinstance(skew(made(np.array(strikes))), NotSelected)


def test_absurd_prices_have_no_volatility_and_are_passed_over() -> None:
    call, put = mids()
    at = int(np.flatnonzero(STRIKES == 600)[0])
    for absurd in (-3.0, 0.0, 1e-9, 700.0, 595.0, math.inf):
        call[at] = put[at] = absurd
        assert atm_iv(made(call=call, put=put)) == pytest.approx(0.18, abs=1e-4)


@pytest.mark.parametrize("broken", [1.25, 4.0, 25.0, 60.0])
@pytest.mark.parametrize("right", ["call", "put"])
def test_a_call_and_a_put_that_contradict_each_other_say_nothing(right: str, broken: float) -> None:
    """A stuck quote has a volatility; by parity both rights of a strike have the same one, and this one has not."""
    quotes = dict(zip(("call", "put"), mids(), strict=True))
    quotes[right][int(np.flatnonzero(STRIKES == 600)[0])] = broken  # 12.3 is fair
    assert atm_iv(made(**quotes)) == pytest.approx(0.18, abs=1e-4)


def test_total_variance_is_interpolated_in_time() -> None:
    near, after = TermPoint("a", 20 / 365, 0.20), TermPoint("b", 45 / 365, 0.30)
    found = constant_maturity((after, near))
    assert isinstance(found, ConstantMaturity)
    # By hand: w(20) = .04*20, w(45) = .09*45; at 30 days w = .8 + (10/25)*(4.05-.8) = 2.1; 2.1/30 = .07.
    assert found.iv == pytest.approx(math.sqrt(0.07))
    assert (found.near.expiry, found.next.expiry) == ("a", "b")
    closer = TermPoint("c", 28 / 365, 0.25)
    found = constant_maturity((after, closer, near))
    assert isinstance(found, ConstantMaturity)
    assert found.near == closer
    exact = constant_maturity((TermPoint("d", 30 / 365, 0.22), near, after))
    assert isinstance(exact, ConstantMaturity)
    assert exact.iv == 0.22


def test_nothing_is_extrapolated() -> None:
    points = [TermPoint(str(days), days / 365, 0.2) for days in (8, 15, 29)]
    assert word(constant_maturity(points)) == "no_expiry_after_30_days"
    assert word(constant_maturity([TermPoint("x", 31 / 365, 0.2)])) == "no_expiry_before_30_days"
    assert word(constant_maturity([])) == "no_expiry_before_30_days"


def test_the_term_structure_leaves_out_what_has_none() -> None:
    points = term_structure([made(), made(np.array([700.0]))])
    assert [(p.expiry, p.iv) for p in points] == [("E", pytest.approx(0.18))]
    assert points[0].total_variance == pytest.approx(0.18**2 * YEARS)


def test_the_skew_of_a_straight_smile_is_its_slope() -> None:
    found = skew(made())
    assert isinstance(found, Skew)
    assert found.slope == pytest.approx(-0.09, abs=1e-6)
    assert found.strikes >= 5
    assert found.put25 is not None
    assert found.call25 is not None
    # The strikes whose deltas are 0.25 by the same smile.
    fine = np.arange(540.0, 660.0, 0.01)
    deltas = {right: np.abs(delta_forward(F, fine, YEARS, vol_at(fine), right)) for right in (True, False)}
    at = {right: float(vol_at(fine[np.argmin(np.abs(deltas[right] - 0.25))])) for right in deltas}
    assert found.put25 == pytest.approx(at[False], abs=3e-4)
    assert found.call25 == pytest.approx(at[True], abs=3e-4)
    assert found.risk_reversal == pytest.approx(at[False] - at[True], abs=5e-4)


def test_a_skew_needs_strikes() -> None:
    assert word(skew(made(np.array([595.0, 600.0, 605.0])))) == "too_few_strikes_for_skew"
    near = skew(made(np.arange(592.0, 609.0, 2.0)))
    assert isinstance(near, Skew)
    assert (near.put25, near.call25, near.risk_reversal) == (None, None, None)


def test_no_25_delta_is_read_across_a_wide_gap_of_strikes() -> None:
    """Puts at deltas of 0.01 and 0.5 lie around 0.25 and say nothing of it."""
    strikes = np.array([530.0, *np.arange(590.0, 631.0, 5.0)])
    found = skew(made(strikes))
    assert isinstance(found, Skew)
    assert found.put25 is None
    assert found.call25 is not None


# ------------------------------------------------------------------------------------------------- a real day


def rows_of(root: Path, *parts: str) -> Iterator[dict[str, str]]:
    """The rows of one recorded file."""
    with gzip.open(root.joinpath(*parts), "rt") as file:
        yield from csv.DictReader(file)


def real_smiles(root: Path, expiry: str, rate: float) -> list[tuple[float, Smile]]:
    """Each minute's spot and smile of GOOG on 2015-12-24, with the figures' conventions (each side filled forward)."""
    closes = {row["t"]: float(row["c"]) for row in rows_of(root, "bars", "1m", "GOOG", "2015-12-24.csv.gz")}
    changes: dict[str, list[tuple[tuple[float, bool], str, str]]] = {}
    strikes = set()
    for row in rows_of(root, "options", "quotes_1m", "GOOG", "2015-12-24.csv.gz"):
        contract = parse_occ(row["symbol"])
        if contract.expiry == expiry:
            changes.setdefault(row["t"], []).append(((contract.strike, contract.is_call), row["bid"], row["ask"]))
            strikes.add(contract.strike)
    ordered = np.array(sorted(strikes))
    sides: dict[tuple[float, bool], tuple[float, float]] = {}
    expires = dt.datetime.fromisoformat(f"{expiry}T21:00:00+00:00")
    out = []
    for stamp in sorted(changes.keys() | closes.keys()):
        for key, bid, ask in changes.get(stamp, ()):
            old = sides.get(key, (math.nan, math.nan))
            sides[key] = (float(bid or old[0]), float(ask or old[1]))
        if not ("14:30" <= stamp[11:16] < "18:00" and stamp in closes and sides):
            continue
        years = (expires - dt.datetime.fromisoformat(stamp)).total_seconds() / (365 * 86400)
        discount = math.exp(-rate * years)
        both = [np.array([_mid(sides.get((k, right))) for k in ordered.tolist()]) for right in (True, False)]
        spot = closes[stamp]
        found = smile(ordered, *both, expiry=expiry, years=years, forward=spot / discount, discount=discount)
        out.append((spot, found))
    return out


def _mid(quote: tuple[float, float] | None) -> float:
    if quote is None or not (quote[0] > 0 and quote[1] > quote[0]):
        return math.nan
    return (quote[0] + quote[1]) / 2


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("expiry", "mean", "low", "high"),
    [
        ("2016-01-15", 0.1879, 0.1766, 0.1926),
        ("2015-12-31", 0.1598, None, None),
        ("2016-03-18", 0.2575, None, None),
    ],
)
def test_a_real_day_agrees_with_its_reference(
    real_data: Path, expiry: str, mean: float, low: float | None, high: float | None
) -> None:
    days = real_smiles(real_data, expiry, 0.004)
    found = [iv for spot, one in days if (iv := nearest_atm_iv(one, spot)) is not None]
    assert len(found) > 200
    assert np.mean(found) == pytest.approx(mean, abs=5e-4)
    if low is not None:
        assert (min(found), max(found)) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


@pytest.mark.real_data
def test_the_interpolated_volatility_of_a_real_day_is_the_nearest_strike_s_within_the_noise(real_data: Path) -> None:
    """The program's own convention moves the mean by less than the reference's tolerance and jumps less."""
    days = real_smiles(real_data, "2016-01-15", 0.004)
    own = np.array([iv if isinstance(iv := atm_iv(one), float) else math.nan for _, one in days])
    nearest = np.array([nearest_atm_iv(one, spot) or math.nan for spot, one in days])
    assert np.isfinite(own).sum() > 200
    assert np.nanmean(own) == pytest.approx(0.1879, abs=0.003)
    assert np.nanmedian(np.abs(np.diff(own))) <= np.nanmedian(np.abs(np.diff(nearest)))


@pytest.mark.real_data
def test_30_days_of_a_real_chain_lie_between_its_neighbours(real_data: Path) -> None:
    """15 January is 22 days off, 22 January 29, 29 January 36: the last two stand around 30 days."""
    points = []
    for expiry in ("2016-01-15", "2016-01-22", "2016-01-29"):
        noon = real_smiles(real_data, expiry, 0.004)[100][1]
        points += term_structure([noon])
    found = constant_maturity(points)
    assert isinstance(found, ConstantMaturity)
    assert (found.near.expiry, found.next.expiry) == ("2016-01-22", "2016-01-29")
    low, high = sorted((found.near.iv, found.next.iv))
    assert low <= found.iv <= high

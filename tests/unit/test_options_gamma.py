"""Dollar gamma: the figures of a hand-made chain, what is left out and why, the flip, and the real days' references."""

import csv
import datetime as dt
import gzip
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from oracle.core.instruments import parse_occ
from oracle.options.gamma import GammaProfile, GammaRows, LeftOut, dollar_gamma, flip_spot, gamma_profile
from oracle.options.pricing import gamma, implied_vol

SPOT = 100.0


def rows(*contracts, years=0.1, vol=0.2, forward=SPOT):
    """Contracts as (strike, right, open interest), or with years and volatility of their own."""
    full = [(*c, *(years, vol)[len(c) - 3 :]) for c in contracts]
    n = len(full)
    return GammaRows(
        strike=np.array([c[0] for c in full], dtype=float),
        is_call=np.array([c[1] == "C" for c in full]),
        years=np.array([c[3] for c in full], dtype=float),
        forward=np.full(n, forward),
        discount=np.ones(n),
        vol=np.array([c[4] for c in full], dtype=float),
        open_interest=np.array([c[2] for c in full], dtype=float),
    )


def test_one_contract_is_gamma_times_interest_times_a_hundred_shares_times_a_percent_of_spot_squared():
    found = dollar_gamma(rows((100, "C", 10)), SPOT)
    # N'(d1) / (S sigma sqrt(T)) with d1 = sigma sqrt(T) / 2, by hand.
    per_dollar = np.exp(-0.5 * (0.2 * np.sqrt(0.1) / 2) ** 2) / np.sqrt(2 * np.pi) / (100 * 0.2 * np.sqrt(0.1))
    assert found[0] == pytest.approx(per_dollar * 10 * 100 * 100**2 * 0.01, rel=1e-12)


def test_calls_are_positive_and_puts_negative_and_the_levels_follow():
    profile = gamma_profile(rows((105, "C", 500), (110, "C", 100), (95, "P", 400), (90, "P", 50), (100, "C", 10)), SPOT)
    assert (profile.call_wall, profile.put_wall, profile.pin) == (105.0, 95.0, 105.0)
    assert profile.strike.tolist() == [90.0, 95.0, 100.0, 105.0, 110.0]
    assert (profile.call_usd >= 0).all()
    assert (profile.put_usd <= 0).all()
    assert profile.total_usd == pytest.approx(profile.call_usd.sum() + profile.put_usd.sum())
    assert profile.used == 5
    assert profile.left_out == {}
    assert profile.open_interest_share == 1.0


def test_the_pin_is_the_largest_positive_net_and_not_the_call_wall():
    profile = gamma_profile(rows((100, "C", 500), (100, "P", 490), (102, "C", 300)), SPOT)
    assert profile.call_wall == 100.0
    assert profile.pin == 102.0


def test_expiries_of_one_strike_add_up():
    one = gamma_profile(rows((100, "C", 10)), SPOT)
    two = gamma_profile(rows((100, "C", 10), (100, "C", 10, 0.4, 0.2)), SPOT)
    assert len(two.strike) == 1
    assert two.total_usd == pytest.approx(one.total_usd * 1.5, rel=1e-3)


def test_without_calls_there_is_no_call_wall_and_no_pin():
    profile = gamma_profile(rows((95, "P", 400), (90, "P", 50)), SPOT)
    assert profile.call_wall is None
    assert profile.pin is None
    assert profile.flip is None
    assert profile.put_wall == 95.0
    assert profile.total_usd < 0


def test_a_chain_of_one_strike_has_levels_and_no_flip():
    profile = gamma_profile(rows((100, "C", 7)), SPOT)
    assert (profile.call_wall, profile.pin, profile.put_wall, profile.flip) == (100.0, 100.0, None, None)


def test_what_cannot_count_is_left_out_with_the_reason():
    nan = float("nan")
    chain = rows(
        (100, "C", 10), (101, "C", nan), (102, "C", 0), (103, "C", -5), (104, "C", 1e12), (105, "C", 10, 0.1, nan),
        (106, "C", 10, 0.0, 0.2), (107, "C", 10, -0.1, 0.2), (108, "C", float("inf")), (109, "C", 10, 0.1, 0.0),
    )  # fmt: skip
    profile = gamma_profile(chain, SPOT)
    assert profile.used == 1
    assert profile.left_out == {
        LeftOut.NO_OPEN_INTEREST: 1, LeftOut.ZERO_OPEN_INTEREST: 1, LeftOut.ABSURD_OPEN_INTEREST: 3,
        LeftOut.NO_IMPLIED_VOL: 2, LeftOut.EXPIRED: 2,
    }  # fmt: skip
    assert np.isfinite(profile.total_usd)
    assert profile.open_interest_share == pytest.approx(10 / 50)


@pytest.mark.parametrize(
    "chain",
    [rows(), rows((100, "C", float("nan"))), rows((100, "C", 0)), rows((100, "C", 10, 0.1, float("nan")))],
    ids=["empty", "no interest", "zero interest", "no volatility"],
)
def test_no_usable_contract_is_no_profile(chain):
    assert gamma_profile(chain, SPOT) is None


@pytest.mark.parametrize("spot", [0.0, -1.0, float("nan")])
def test_no_spot_is_no_profile(spot):
    assert gamma_profile(rows((100, "C", 10)), spot) is None


def test_the_flip_is_where_the_revalued_net_is_zero():
    chain = rows((105, "C", 500), (95, "P", 600))
    flip = flip_spot(chain, SPOT)
    assert 95 < flip < 105
    moved = rows((105, "C", 500), (95, "P", 600), forward=flip)
    each = gamma(moved.forward, moved.strike, moved.years, moved.vol) * moved.open_interest
    assert each[0] - each[1] == pytest.approx(0.0, abs=1e-6 * each[0])


def test_the_flip_nearest_to_spot_is_told():
    # Puts between calls on both sides: two changes of sign.
    for spot, flip in ((99.0, 98.5), (101.0, 101.5)):
        chain = rows((97, "C", 500), (100, "P", 500), (103, "C", 500), years=0.002, vol=0.1, forward=spot)
        assert flip_spot(chain, spot) == pytest.approx(flip, abs=0.2)


def test_a_change_of_sign_beyond_the_grid_is_none():
    assert flip_spot(rows((100, "C", 1000), (70, "P", 1000), years=0.01, vol=0.1), SPOT) is None


def test_near_is_half_a_percent_of_spot():
    profile = gamma_profile(rows((100, "C", 7)), 100.4)
    assert profile.near(100.0) is True
    assert profile.near(99.0) is False
    assert profile.near(None) is None


# ---------------------------------------------------------------------------------------------------- real days


def columns(path):
    with gzip.open(path, "rt") as file:
        return list(csv.DictReader(file))


def real_rows(folder, underlying, date, until, rate):
    """The references' own conventions: sides filled forward, own volatility, ACT/365 to 16:00, spot carried."""
    sides, spot = {}, None
    for row in columns(folder / "options/quotes_1m" / underlying / f"{date}.csv.gz"):
        if row["t"] <= until:
            known = sides.setdefault(row["symbol"], {})
            known.update({side: float(row[side]) for side in ("bid", "ask") if row[side]})
    for row in columns(folder / "bars/1m" / underlying / f"{date}.csv.gz"):
        spot = float(row["c"]) if row["t"] == until else spot
    interest = {
        row["symbol"]: float(row["open_interest"])
        for row in columns(folder / "options/open_interest" / underlying / f"{date}.csv.gz")
    }
    now_s = dt.datetime.fromisoformat(until).timestamp()
    strike, is_call, years, mid, told = [], [], [], [], []
    for symbol, quote in sorted(sides.items()):
        contract = parse_occ(symbol)
        end = dt.datetime.fromisoformat(f"{contract.expiry}T16:00").replace(tzinfo=ZoneInfo("America/New_York"))
        bid, ask = quote.get("bid", 0.0), quote.get("ask", 0.0)
        strike.append(contract.strike)
        is_call.append(contract.is_call)
        years.append((end.timestamp() - now_s) / (365 * 86_400))
        mid.append((bid + ask) / 2 if 0 < bid < ask else np.nan)
        told.append(interest.get(symbol, np.nan))
    k, t, call = np.array(strike), np.array(years), np.array(is_call)
    discount = np.exp(-rate * t)
    vol = implied_vol(np.array(mid), spot / discount, k, t, call, discount)
    return GammaRows(k, call, t, spot / discount, discount, vol, np.array(told)), spot


@pytest.mark.real_data
def test_the_reference_of_goog_is_reproduced(real_data):
    chain, spot = real_rows(real_data, "GOOG", "2015-12-24", "2015-12-24T16:14:00Z", 0.004)
    assert spot == 750.59
    profile = gamma_profile(chain, spot)
    print(f"GOOG: net {profile.total_usd / 1e6:+.1f} M$, {profile.used} contracts, left out {profile.left_out}")
    assert profile.total_usd == pytest.approx(152.7e6, rel=0.10)
    assert profile.used == pytest.approx(1106, abs=20)
    assert (profile.call_wall, profile.put_wall, profile.pin) == (750.0, 750.0, 750.0)
    by_call = profile.strike[np.argsort(-profile.call_usd)][:5].tolist()
    assert by_call[:3] == [750.0, 745.0, 752.5]
    assert set(by_call[3:]) == {760.0, 755.0}
    assert profile.call_usd.max() == pytest.approx(95.5e6, rel=0.05)
    by_put = np.argsort(profile.put_usd)[:5]
    assert profile.strike[by_put].tolist() == [750.0, 725.0, 752.5, 747.5, 800.0]
    assert profile.put_usd[by_put][:2] == pytest.approx([-29.2e6, -19.5e6], rel=0.05)
    assert profile.strike[np.argmin(profile.net_usd)] == 725.0
    assert 735 < profile.flip < 750
    assert profile.near(profile.call_wall)


@pytest.mark.real_data
def test_the_reference_of_twx_is_reproduced(real_data):
    chain, spot = real_rows(real_data, "TWX", "2014-06-05", "2014-06-05T16:44:00Z", 0.002)
    profile = gamma_profile(chain, spot)
    print(f"TWX: net {profile.total_usd / 1e6:+.2f} M$, {profile.used} contracts, left out {profile.left_out}")
    assert (profile.call_wall, profile.put_wall) == (70.0, 67.5)
    assert profile.total_usd == pytest.approx(9.26e6, rel=0.10)


@pytest.mark.real_data
def test_sides_filled_forward_apart_leave_the_stated_share_of_contract_minutes_valid(real_data):
    rows = columns(real_data / "options/quotes_1m/GOOG/2015-12-24.csv.gz")
    minutes = sorted({row["t"] for row in rows if "14:30" <= row["t"][11:16] < "18:00"})
    assert len(minutes) == 210
    by_minute = {}
    for row in rows:
        by_minute.setdefault(row["t"], []).append(row)
    sides, valid, updated = {}, 0, 0
    for minute in minutes:
        for row in by_minute[minute]:
            known = sides.setdefault(row["symbol"], {})
            fresh = {side: float(row[side]) for side in ("bid", "ask") if row[side]}
            known.update(fresh)
            updated += 0 < fresh.get("bid", 0.0) < fresh.get("ask", 0.0)
        valid += sum(0 < q.get("bid", 0.0) < q.get("ask", 0.0) for q in sides.values())
    contracts = len({row["symbol"] for row in rows})
    share = valid / (contracts * len(minutes))
    print(f"GOOG contract-minutes valid: {share:.1%} filled forward by side ({contracts} contracts, 210 minutes)")
    assert share == pytest.approx(0.838, abs=0.01)


@pytest.mark.parametrize("spot", [200.0, 400.0, 600.0, 800.0])
def test_a_level_on_the_limit_is_near_on_both_sides(spot):
    profile = GammaProfile(
        spot, *(np.zeros(1) for _ in range(4)), total_usd=0.0, call_wall=None, put_wall=None, pin=None, flip=None,
        used=1, left_out={}, open_interest_share=1.0,
    )  # fmt: skip
    assert [profile.near(spot * 1.005), profile.near(spot * 0.995)] == [True, True]
    assert [profile.near(spot * 1.0051), profile.near(spot * 0.9949), profile.near(None)] == [False, False, None]

"""The option side of the synthetic market: planted walls, shocks and sweeps; trades, bars of past days, snapshots."""

import datetime as dt
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from oracle.calendar import load_sessions
from oracle.core.errors import ConfigurationError
from oracle.core.instruments import parse_occ
from oracle.core.sessions import MINUTE_NS, NS, SessionTable
from oracle.options.pricing import gamma, implied_vol
from oracle.sim.config import ExchangeConfig
from oracle.sim.exchange import Exchange
from oracle.sim.market import GeneratedMarket
from oracle.sim.planted_options import (
    OptionPlant,
    PlantedSweep,
    PlantedVolShock,
    PlantedWall,
    read_option_plants,
)
from oracle.sim.rest import Call
from oracle.sim.rest_option_bars import OptionBarsApi
from oracle.sim.rest_option_snapshots import OptionSnapshotApi
from oracle.sim.source import Print, SourceBar
from oracle.sim.surface import RATE, YEAR_NS

DAY = "2026-01-15"


@pytest.fixture(scope="module")
def table() -> SessionTable:
    return load_sessions(dt.date(2025, 3, 3), dt.date(2026, 6, 30))


def make(table: SessionTable, *plants: OptionPlant, seed: int = 5, days: int = 1, symbols: Any = ("SPY",)) -> Any:
    dates = [s.date for s in table.sessions if s.date >= DAY][:days]
    return GeneratedMarket(seed, table, dates, (), symbols, plants)


def put_call_gamma(market: GeneratedMarket, at_ns: int) -> dict[str, dict[float, float]]:
    """Dollar gamma per 1 % by right and strike, from quotes and open interest, over all expiries within 45 days."""
    market.advance(at_ns)
    spot = market.bars("SPY", "1Min", 0, 2**62)[-1].close
    out: dict[str, dict[float, float]] = {"C": defaultdict(float), "P": defaultdict(float)}
    last = (dt.date.fromisoformat(DAY) + dt.timedelta(days=45)).isoformat()
    rows = [r for r in market.listings("SPY", DAY) if r.expiry <= last and abs(r.strike_milli / 1000 / spot - 1) < 0.06]
    for row in rows:
        touch, strike = market.touch(row.symbol), row.strike_milli / 1000
        years = (dt.date.fromisoformat(row.expiry) - dt.date.fromisoformat(DAY)).days / 365 + 0.5 / 365
        if touch is None or touch.bid is None or touch.ask is None:
            continue
        vol = implied_vol((touch.bid + touch.ask) / 2, spot, strike, years, row.right == "C")
        each = float(gamma(spot, strike, years, vol))
        if np.isfinite(each):
            out[row.right][strike] += each * (row.open_interest or 0) * 100 * spot**2 * 0.01
    return out


# -- walls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_planted_wall_is_the_strike_of_the_largest_gamma(table: SessionTable, seed: int) -> None:
    market = make(table, PlantedWall("SPY", DAY, "C"), PlantedWall("SPY", DAY, "P", away=0.015), seed=seed)
    call, put = market.option_truths
    found = put_call_gamma(market, market.sessions[0].open_ns + 3600 * NS)
    assert max(found["C"], key=lambda k: found["C"][k]) == call.strike
    assert max(found["P"], key=lambda k: found["P"][k]) == put.strike
    assert put.strike < market.bars("SPY", "1Day", 0, 2**62)[-1].close < call.strike


def test_a_wall_changes_open_interest_alone(table: SessionTable) -> None:
    plain, walled = make(table), make(table, PlantedWall("SPY", DAY, "C"))
    [truth] = walled.option_truths
    different = [(a, b) for a, b in zip(plain.listings("SPY", DAY), walled.listings("SPY", DAY), strict=True) if a != b]
    assert len(different) >= 10
    for before, after in different:
        assert (after.strike_milli, after.right) == (round(truth.strike * 1000), "C")
        assert (after.open_interest, after.close_price) == (truth.open_interest, before.close_price)
    at_ns = plain.sessions[0].open_ns + 60 * NS
    plain.advance(at_ns)
    walled.advance(at_ns)
    symbol = different[0][0].symbol
    assert plain.touch(symbol) == walled.touch(symbol)


# -- shocks ---------------------------------------------------------------------------------------------------------


def test_a_shock_halves_every_half_life_and_leaves_the_stock_alone(table: SessionTable) -> None:
    dates = [s.date for s in table.sessions if s.date >= DAY][:12]
    shock = PlantedVolShock("SPY", dates[3], jump=0.6, half_life_sessions=3.0)
    plain, shocked = make(table, days=12), make(table, shock, days=12)
    for market in (plain, shocked):
        market.advance(market.sessions[-1].close_ns)
    assert plain.bars("SPY", "1Min", 0, 2**62) == shocked.bars("SPY", "1Min", 0, 2**62)
    one, other = dict(plain.daily_iv("SPY")), dict(shocked.daily_iv("SPY"))
    lift = [float(np.log(other[d] / one[d])) for d in dates]
    assert lift[:3] == [0.0, 0.0, 0.0]
    assert lift[3] > 0.35
    ratios = [b / a for a, b in itertools.pairwise(lift[3:])]
    assert ratios == pytest.approx([0.5 ** (1 / 3)] * len(ratios), rel=0.02)
    assert [d for d in one if d < DAY and one[d] != other[d]] == []


def test_a_shock_is_in_the_quotes_from_its_minute_on(table: SessionTable) -> None:
    plain, shocked = make(table), make(table, PlantedVolShock("SPY", DAY, jump=0.5, minute=120))
    expiry = max(e for e in {r.expiry for r in plain.listings("SPY", DAY)} if e <= "2026-02-20")
    close = plain.bars("SPY", "1Day", 0, 2**62)[-1].close
    symbol = next(r.symbol for r in plain.listings("SPY", DAY) if r.expiry == expiry and r.strike_milli / 1000 >= close)
    middles = []
    for minute in (119, 121, 380):
        at_ns = plain.sessions[0].open_ns + minute * MINUTE_NS
        for market in (plain, shocked):
            market.advance(at_ns)
            touch = market.touch(symbol)
            middles.append((touch.bid + touch.ask) / 2)
    assert middles[0] == middles[1]
    assert middles[3] / middles[2] > 1.35
    assert middles[5] / middles[4] > 1.25


# -- trades ---------------------------------------------------------------------------------------------------------


def prints_of(market: GeneratedMarket, symbols: Sequence[str]) -> list[Print]:
    market.watch_trades(symbols)
    return market.advance(market.sessions[-1].close_ns).option_prints


def test_a_sweep_crosses_venues_at_the_ask_within_a_second(table: SessionTable) -> None:
    market = make(table, PlantedSweep("SPY", DAY, minute=100))
    [truth] = market.option_truths
    listing = next(r for r in market.listings("SPY", DAY) if r.symbol == truth.occ)
    assert listing.open_interest == truth.open_interest
    start_ns = market.sessions[0].open_ns + (truth.second - 1) * NS
    market.advance(start_ns)
    touch = market.touch(truth.occ)
    market.watch_trades(["*"])
    burst = [p for p in market.advance(start_ns + NS).option_prints if p.symbol == truth.occ]
    assert len(burst) == truth.prints
    assert {p.price for p in burst} == {touch.ask}
    assert len({p.exchange for p in burst}) >= 5
    assert start_ns < burst[0].at_ns < burst[-1].at_ns <= start_ns + NS
    assert sum(p.size for p in burst) == 5 * truth.open_interest
    assert market.last_print(truth.occ) == burst[-1]
    assert [p for p in market.advance(start_ns + 2 * NS).option_prints if p.symbol == truth.occ] == []
    assert [row["kind"] for row in market.declared] == ["sweep"]
    assert market.declared[0]["contract"] == truth.occ


def test_trades_do_not_depend_on_who_watches(table: SessionTable) -> None:
    everything = prints_of(make(table), ["*"])
    near = sorted({p.symbol for p in everything})[::37]
    quotes = make(table)
    quotes.watch(near)
    followed = quotes.advance(quotes.sessions[0].close_ns).option_prints
    assert [p for p in everything if p.symbol in near] == prints_of(make(table), near) == followed
    silent = make(table)
    silent.watch(near)
    assert prints_of(silent, []) == []
    assert everything == sorted(everything, key=lambda p: (p.at_ns, p.symbol))


def test_volume_follows_open_interest_and_sits_near_the_money(table: SessionTable) -> None:
    market = make(table)
    trades = prints_of(market, ["*"])
    spot = market.bars("SPY", "1Min", 0, 2**62)[-1].close
    interest = {r.symbol: r.open_interest or 0 for r in market.listings("SPY", DAY)}
    volume: dict[str, int] = defaultdict(int)
    for trade in trades:
        volume[trade.symbol] += trade.size
    near = [s for s in interest if abs(parse_occ(s).strike / spot - 1) < 0.01]
    far = [s for s in interest if abs(parse_occ(s).strike / spot - 1) > 0.08]
    share = [sum(volume[s] for s in group) / sum(interest[s] for s in group) for group in (near, far)]
    assert 0.1 < share[0] < 0.25
    assert share[1] < 0.1
    assert 2.5 <= np.median([t.size for t in trades]) <= 10
    assert 5_000 < len(trades) < 150_000


def test_trades_are_others_on_another_day(table: SessionTable) -> None:
    market = make(table, days=2)
    market.watch_trades(["*"])
    one = market.advance(market.sessions[0].close_ns).option_prints
    two = market.advance(market.sessions[1].close_ns).option_prints
    both = {p.symbol for p in one} & {p.symbol for p in two}
    seconds = [
        {((p.at_ns - s.open_ns) // NS, p.symbol) for p in rows if p.symbol in both}
        for rows, s in zip((one, two), market.sessions, strict=True)
    ]
    assert len(seconds[0] & seconds[1]) < 0.1 * len(seconds[0])


# -- bars -----------------------------------------------------------------------------------------------------------


def test_bars_of_today_are_the_prints(table: SessionTable) -> None:
    market = make(table, PlantedSweep("SPY", DAY, minute=100))
    trades = prints_of(market, ["*"])
    swept = market.option_truths[0].occ
    busy = sorted({p.symbol for p in trades if p.size > 80})[:5]
    for symbol in (swept, *busy):
        mine = [p for p in trades if p.symbol == symbol]
        bars = market.bars(symbol, "1Min", market.sessions[0].open_ns, market.sessions[0].close_ns)
        assert sum(b.volume for b in bars) == sum(p.size for p in mine)
        assert sum(b.trades for b in bars) == len(mine)
        assert (bars[0].open, bars[-1].close) == (mine[0].price, mine[-1].price)
        assert [b.start_ns for b in bars] == sorted({(p.at_ns - 1) // MINUTE_NS * MINUTE_NS for p in mine})


def test_a_bar_is_known_when_its_minute_is_over(table: SessionTable) -> None:
    market = make(table, PlantedSweep("SPY", DAY, minute=100))
    symbol, open_ns = market.option_truths[0].occ, market.sessions[0].open_ns
    for second, count in ((59, 0), (60, 1)):
        market.advance(open_ns + 100 * MINUTE_NS + second * NS)
        found = market.bars(symbol, "1Min", open_ns + 100 * MINUTE_NS, 2**62)
        assert len(found) == count
    assert market.bars(symbol, "1Day", open_ns - 12 * 3600 * NS, 2**62) == ()


def test_bars_of_contracts_that_have_long_expired(table: SessionTable) -> None:
    market = make(table)
    days = {b.start_ns: b for b in market.bars("SPY", "1Day", 0, 2**62)}
    past = [s for s in table.sessions if "2025-11-03" <= s.date <= "2025-11-21"]
    strike = round(next(b.close for t, b in sorted(days.items()) if t >= past[0].open_ns - 12 * 3600 * NS))
    symbols = [f"SPY251121{right}{strike * 1000:08d}" for right in "CP"]
    found = market.option_bars(symbols, "1Day", past[0].open_ns - 12 * 3600 * NS, past[-1].close_ns)
    assert sorted(found) == sorted(symbols)
    for symbol, rows in found.items():
        assert len(rows) >= 8
        assert rows == market.bars(symbol, "1Day", past[0].open_ns - 12 * 3600 * NS, past[-1].close_ns)
        for bar in rows:
            stock, contract = days[bar.start_ns], parse_occ(symbol)
            left_s = (table.expiry_ns(contract.expiry) or 0) - bar.start_ns - 16 * 3600 * NS
            worth = (stock.high - strike) if contract.is_call else (strike - stock.low)
            assert bar.low <= bar.close <= bar.high
            assert bar.high < max(worth, 0.0) + 0.03 * strike
            if left_s > 5 * 86_400 * NS and bar.trades > 3:
                vol = implied_vol(bar.close, stock.close, strike, left_s / YEAR_NS, contract.is_call, 1.0)
                assert not vol > 0.6
    assert market.option_bars(["SPY251121C99999000", "nonsense", "MSFT251121C00400000"], "1Min", 0, 2**62) == {}


def test_the_endpoints_speak_as_the_vendor_does(table: SessionTable) -> None:
    market = make(table, symbols=("IWM", "QQQ", "SPY"))
    exchange = Exchange(ExchangeConfig(key="k", secret="s"), market, table)
    at_ns = market.sessions[0].open_ns + 3 * 3600 * NS
    market.advance(at_ns)
    exchange.step(at_ns)
    api = OptionSnapshotApi(exchange)
    for underlying in market.symbols:
        query = {"expiration_date_gte": "2026-02-14", "expiration_date_lte": "2026-03-01", "limit": "1000"}
        body = api.chain(Call({"underlying": underlying}, query)).body
        assert body["next_page_token"] is None
        rows: dict[str, dict[str, Any]] = body["snapshots"]
        assert len({parse_occ(s).expiry for s in rows}) >= 2
        assert all({"latestQuote"} <= set(row) for row in rows.values())
        known = {s: row for s, row in rows.items() if "greeks" in row}
        assert 40 < len(known) < len(rows)
        for symbol, row in known.items():
            greeks, contract = row["greeks"], parse_occ(symbol)
            assert set(greeks) == {"delta", "gamma", "rho", "theta", "vega"}
            assert 0.03 < row["impliedVolatility"] < 1.0
            assert (greeks["delta"] > 0) is contract.is_call
            assert greeks["gamma"] > 0 > greeks["theta"] - 0.01
    today = api.chain(Call({"underlying": "SPY"}, {"expiration_date": DAY, "limit": "1000"})).body["snapshots"]
    assert today
    assert not any("greeks" in row or "impliedVolatility" in row for row in today.values())
    bars = OptionBarsApi(exchange)
    named = ",".join(sorted(today, key=lambda s: abs(parse_occ(s).strike - 690))[:50])
    for timeframe in ("1Min", "1Hour", "1Day"):
        query = {"symbols": named, "timeframe": timeframe, "start": "2026-01-12", "limit": "10000"}
        found = bars.bars(Call({}, query)).body["bars"]
        assert found
        assert set(next(iter(found.values()))[0]) == {"t", "o", "h", "l", "c", "v", "n", "vw"}


def test_greeks_are_slopes_of_the_price() -> None:
    from oracle.options.pricing import black_forward
    from oracle.sim.rest_option_snapshots import greeks

    spot, strike, years, vol = 600.0, 610.0, 0.1, 0.2

    def price(s: float = spot, t: float = years, v: float = vol, r: float = RATE) -> float:
        grown = s * np.exp(r * t)
        return float(black_forward(grown, strike, t, v, True, np.exp(-r * t)))

    one = np.ones(1)
    [found] = greeks(price() * one, spot * one, strike * one, years * one, one)
    assert found is not None
    shown = found["greeks"]
    assert found["impliedVolatility"] == pytest.approx(vol, abs=1e-6)
    assert shown["delta"] == pytest.approx((price(spot + 0.01) - price(spot - 0.01)) / 0.02, abs=1e-5)
    assert shown["gamma"] == pytest.approx((price(spot + 0.1) + price(spot - 0.1) - 2 * price()) / 0.01, abs=1e-5)
    assert shown["vega"] == pytest.approx((price(v=vol + 1e-4) - price(v=vol - 1e-4)) / 0.02, abs=1e-5)
    assert shown["theta"] == pytest.approx((price(t=years - 1e-5) - price(t=years + 1e-5)) / 2e-5 / 365, abs=1e-4)
    assert shown["rho"] == pytest.approx((price(r=RATE + 1e-4) - price(r=RATE - 1e-4)) / 0.02, abs=1e-4)


# -- plans ----------------------------------------------------------------------------------------------------------


def test_plans_are_read_as_they_are_written() -> None:
    dates = ["2026-01-05", "2026-01-06"]
    assert read_option_plants(["wall:SPY"], dates) == tuple(PlantedWall("SPY", d, "C") for d in dates)
    text = "vol_shock:QQQ:session=2,jump=-0.25,half_life_sessions=6"
    assert read_option_plants([text], dates) == (PlantedVolShock("QQQ", dates[1], -0.25, 6.0),)
    text = "sweep:IWM:date=2026-01-06,right=P,minute=30,prints=4"
    assert read_option_plants([text], dates) == (PlantedSweep("IWM", dates[1], 30, "P", prints=4),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wall", "is no plan"),
        ("hole:SPY", "is no plan"),
        ("wall:SPY:size=3", "no 'size'"),
        ("wall:SPY:session=9", "no session 9"),
        ("wall:SPY:right=X", "Invalid enum value"),
        ("wall:SPY:away=much", "Expected `float`"),
        ("wall:SPY:session=²", "no session ²"),
        ("wall:SPY:session=1,date=2026-01-05", "not both"),
        ("wall:SPY:symbol=QQQ", "no 'symbol'"),
        ("wall:SPY:away=0.02,away=0.03", "twice"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read_option_plants([text], ["2026-01-05"])


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (PlantedWall("MSFT", DAY, "C"), "not part of this market"),
        (PlantedWall("SPY", "2026-01-14", "C"), "not part of this market"),
        (PlantedVolShock("SPY", DAY, jump=0.0), "makes no sense"),
        (PlantedVolShock("SPY", DAY, minute=389), "outside the session"),
        (PlantedSweep("SPY", DAY, prints=1), "choose 2 to 60"),
        (PlantedWall("SPY", DAY, "P", open_interest=0), "makes no sense"),
        (PlantedWall("SPY", DAY, "P", open_interest=10**24), "makes no sense"),
        (PlantedWall("SPY", DAY, "P", strike=math.nan), "lists no"),
        (PlantedWall("SPY", DAY, "P", strike=math.inf), "lists no"),
        (PlantedWall("SPY", DAY, "P", strike=1e308), "lists no"),
        (PlantedWall("SPY", DAY, "P", strike=-5.0), "lists no"),
        (PlantedWall("SPY", DAY, "P", strike=2000.0), "lists no"),
        (PlantedWall("SPY", DAY, "P", strike=660.5), "lists no"),
        (PlantedSweep("SPY", DAY, expiry="9999-99-99"), "lists no"),
        (PlantedSweep("SPY", DAY, expiry="2026-01-17"), "lists no"),
        (PlantedSweep("SPY", DAY, volume_ratio=math.inf), "makes no sense"),
        (PlantedSweep("SPY", DAY, volume_ratio=math.nan), "makes no sense"),
        (PlantedSweep("SPY", DAY, volume_ratio=1e12), "makes no sense"),
    ],
)
def test_plans_that_do_not_fit_are_refused(table: SessionTable, plant: OptionPlant, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make(table, plant)


def test_a_strike_that_is_not_listed_is_refused(table: SessionTable) -> None:
    with pytest.raises(ConfigurationError, match="lists no C 680"):
        make(table, PlantedWall("SPY", DAY, "C", strike=680.5)).listings("SPY", DAY)


# -- a quarter ------------------------------------------------------------------------------------------------------


def test_a_contract_once_listed_stays_quoted_till_it_expires(table: SessionTable) -> None:
    dates = [s.date for s in table.sessions if s.date >= "2026-01-05"][:22]
    market = GeneratedMarket(8, table, dates, (), ("QQQ",))
    first = market.sessions[0]
    rows = [r for r in market.listings("QQQ", first.date) if "2026-01-28" <= r.expiry <= "2026-01-30"]
    close = market.bars("QQQ", "1Day", 0, 2**62)[-1].close
    near = min(rows, key=lambda r: abs(r.strike_milli / 1000 - close))
    ends = [rows[0].symbol, rows[-1].symbol, near.symbol]
    bars: list[SourceBar] = []
    for session in market.sessions:
        market.advance(session.open_ns + 3600 * NS)
        for symbol in ends:
            alive = parse_occ(symbol).expiry >= session.date
            touch = market.touch(symbol)
            assert (touch is not None and touch.ask is not None) is alive
        bars.extend(market.bars(ends[2], "1Min", session.open_ns, session.close_ns))
    assert bars

"""The synthetic market: purity, consistency of bars with prints, stylised facts, planted truths, no arbitrage."""

import datetime as dt
import hashlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator

import msgspec
import numpy as np
import pytest

from oracle.calendar import load_sessions
from oracle.core.errors import ConfigurationError, ProtocolError
from oracle.core.sessions import NS, Session, SessionTable
from oracle.options.pricing import delta_forward, implied_vol
from oracle.sim.days import Days
from oracle.sim.market import GeneratedMarket
from oracle.sim.pathgen import SD_BY_HALF_HOUR_BP, SPECS, VOLUME_BY_HALF_HOUR
from oracle.sim.planted import PlantedBreakout, default_plants
from oracle.sim.source import Listing, MarketStep, Print, SourceBar, Touch
from oracle.sim.surface import RATE, YEAR_NS

DAY, NEXT = "2026-01-15", "2026-01-16"
HALF_DAY = "2025-11-28"


@pytest.fixture(scope="module")
def table() -> SessionTable:
    return load_sessions(dt.date(2024, 9, 3), dt.date(2026, 4, 30))


@pytest.fixture(scope="module")
def market(table: SessionTable) -> GeneratedMarket:
    """One market moved to the close of its day; tests that move time make their own."""
    made = GeneratedMarket(7, table, [DAY], plant=())
    made.advance(made.sessions[0].close_ns)
    return made


def occ(listing: Listing) -> str:
    y, m, d = listing.expiry.split("-")
    return f"{listing.underlying}{y[2:]}{m}{d}{listing.right}{listing.strike_milli:08d}"


def near_money(market: GeneratedMarket, underlying: str, count: int, *, until: str = NEXT) -> list[str]:
    spot = market.bars(underlying, "1Day", 0, 2**62)[-1].close
    rows = [r for r in market.listings(underlying, market.sessions[0].date) if r.expiry <= until]
    return [occ(r) for r in sorted(rows, key=lambda r: (abs(r.strike_milli / 1000 - spot), occ(r)))[:count]]


def play(market: GeneratedMarket, end_ns: int, step_s: int) -> Iterator[MarketStep]:
    at = market.sessions[0].open_ns - 310 * NS
    while at < end_ns:
        at = min(at + step_s * NS, end_ns)
        yield market.advance(at)


def digest(steps: Collection[MarketStep], only: frozenset[str] | None = None) -> str:
    """Hash all events, whatever the steps they came in; ``only`` selects option symbols."""
    lists: dict[str, list[object]] = {}
    for step in steps:
        for name in step.__struct_fields__[1:]:
            events = getattr(step, name)
            if only is not None and name.startswith("option"):
                events = [e for e in events if e.symbol in only]
            lists.setdefault(name, []).extend(events)
    return hashlib.sha256(msgspec.msgpack.encode(lists)).hexdigest()


# --- purity


def test_events_do_not_depend_on_watched_contracts_nor_on_steps(table: SessionTable) -> None:
    first, second = (GeneratedMarket(3, table, [DAY]) for _ in range(2))
    end = first.sessions[0].open_ns + 700 * NS
    wide = [*near_money(first, "SPY", 30), *near_money(first, "QQQ", 10)]
    narrow = frozenset(wide[3:9])
    first.watch(wide)
    second.watch(narrow)
    one = list(play(first, end, 1))
    other = []
    for n, step in enumerate(play(second, end, 37)):
        other.append(step)
        second.touch(wide[n % len(wide)])
        second.bars("SPY", "1Min", 0, end)
    assert sum(len(s.option_touches) for s in other) > 1000
    assert digest(one, narrow) == digest(other, narrow)


def test_changing_the_watch_set_on_the_way_changes_nothing_said_of_the_rest(table: SessionTable) -> None:
    steady, fickle = (GeneratedMarket(3, table, [DAY]) for _ in range(2))
    end = steady.sessions[0].open_ns + 200 * NS
    contracts = near_money(steady, "IWM", 12)
    kept = frozenset(contracts[:6])
    steady.watch(kept)
    fickle.watch(kept)
    one = list(play(steady, end, 1))
    other = []
    for n, step in enumerate(play(fickle, end, 1)):
        other.append(step)
        fickle.watch(contracts if n % 3 else kept)
    assert digest(one, kept) == digest(other, kept)


def test_an_unwatched_quote_equals_the_watched_one(table: SessionTable) -> None:
    watching, asking = (GeneratedMarket(5, table, [DAY]) for _ in range(2))
    everything = [occ(r) for r in watching.listings("IWM", DAY)][::9]
    watching.watch(everything)
    said: dict[str, Touch] = {}
    for step in play(watching, watching.sessions[0].open_ns + 130 * NS, 1):
        said.update((t.symbol, t) for t in step.option_touches)
        seconds = (step.at_ns - watching.sessions[0].open_ns) // NS
        if seconds in {0, 1, 59, 60, 61, 127}:
            asking.advance(step.at_ns)
            for symbol in everything:  # the first few are quoted alone, the rest from a whole chain
                alone, heard = asking.touch(symbol), said[symbol]
                assert alone == watching.touch(symbol)
                assert alone is not None
                assert alone.at_ns >= heard.at_ns
                assert msgspec.structs.replace(alone, at_ns=heard.at_ns) == heard


def test_the_same_under_any_hash_seed() -> None:
    code = (
        "import datetime as dt, hashlib, msgspec\n"
        "from oracle.calendar import load_sessions\n"
        "from oracle.sim.market import GeneratedMarket\n"
        "t = load_sessions(dt.date(2025, 6, 2), dt.date(2026, 3, 2))\n"
        f"m = GeneratedMarket(11, t, ['{DAY}'])\n"
        f"m.watch({{'SPY260115C00680000', 'QQQ260116P00610000', 'SPY260115P00675000'}})\n"
        "s = m.advance(m.sessions[0].open_ns + 240 * 10**9)\n"
        "assert s.option_touches\n"
        f"both = (s, m.declared, m.listings('IWM', '{DAY}'), m.daily_iv('QQQ'))\n"
        "print(hashlib.sha256(msgspec.msgpack.encode(both)).hexdigest())\n"
    )
    seen = set()
    for hash_seed in ("0", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        seen.add(run.stdout.strip())
    assert len(seen) == 1
    assert len(seen.pop()) == 64


def test_other_seeds_are_other_markets(table: SessionTable) -> None:
    closes = {GeneratedMarket(s, table, [DAY]).bars("SPY", "1Day", 0, 2**62)[-1].close for s in range(4)}
    assert len(closes) == 4


def test_a_second_market_that_jumps_to_noon_says_what_the_first_one_said(
    table: SessionTable, market: GeneratedMarket
) -> None:
    late = GeneratedMarket(7, table, [DAY], plant=())
    noon = late.sessions[0].open_ns + 9000 * NS
    late.advance(noon)
    before = market.bars("QQQ", "1Min", late.sessions[0].open_ns, noon - 61 * NS)
    assert list(late.bars("QQQ", "1Min", late.sessions[0].open_ns, noon - 61 * NS)) == list(before)


# --- bars, prints, quotes


def whole_day(market: GeneratedMarket) -> MarketStep:
    return market.advance(market.sessions[-1].close_ns + 300 * NS)


def fold(prints: list[Print], symbol: str, start_ns: int) -> tuple[float, float, float, float, int, int, float]:
    mine = [p for p in prints if p.symbol == symbol and start_ns < p.at_ns <= start_ns + 60 * NS]
    prices = [p.price for p in mine]
    volume = sum(p.size for p in mine)
    vwap = sum(p.price * p.size for p in mine) / volume
    return prices[0], max(prices), min(prices), prices[-1], volume, len(mine), vwap


def test_bars_are_the_prints(table: SessionTable) -> None:
    market = GeneratedMarket(2, table, [DAY])
    day = whole_day(market)
    assert len(day.bars) == 3 * 390
    for bar in day.bars[::41]:
        o, h, low, c, volume, trades, vwap = fold(day.prints, bar.symbol, bar.start_ns)
        assert (bar.open, bar.high, bar.low, bar.close) == (o, h, low, c)
        assert (bar.volume, bar.trades) == (volume, trades)
        assert bar.vwap == pytest.approx(vwap, abs=1e-6)
    assert {p.trade_id for p in day.prints if p.symbol == "SPY"} == set(
        range(1, sum(p.symbol == "SPY" for p in day.prints) + 1)
    )


def test_events_are_in_order_of_time_and_symbol(table: SessionTable) -> None:
    market = GeneratedMarket(2, table, [DAY])
    market.watch(near_money(market, "SPY", 20))
    day = market.advance(market.sessions[0].open_ns + 300 * NS)
    for events in (day.touches, day.prints, day.option_touches, day.option_prints):
        assert events
        order = [(e.at_ns, e.symbol) for e in events]
        assert order == sorted(order)
    assert all(e.at_ns <= day.at_ns for e in day.prints)


def test_a_bar_comes_when_its_minute_is_over_and_its_update_thirty_seconds_later(table: SessionTable) -> None:
    market = GeneratedMarket(2, table, [DAY])
    session = market.sessions[0]
    known: dict[tuple[str, int], SourceBar] = {}
    updates = 0
    for step in play(market, session.close_ns, 1):
        for bar in step.bars:
            assert bar.start_ns + 60 * NS == step.at_ns
            known[bar.symbol, bar.start_ns] = bar
        for bar in step.updated_bars:
            first = known[bar.symbol, bar.start_ns]
            assert step.at_ns == bar.start_ns + 90 * NS
            assert first.volume < bar.volume < 1.03 * first.volume
            assert (first.open, first.high, first.low, first.close) == (bar.open, bar.high, bar.low, bar.close)
            assert market.bars(bar.symbol, "1Min", bar.start_ns, bar.start_ns)[0] == bar
            updates += 1
        assert len({b.symbol for b in step.daily_bars}) == len(step.daily_bars)
    assert 3 <= updates <= 60


def test_daily_bars_sum_up_the_minutes(table: SessionTable) -> None:
    market = GeneratedMarket(2, table, [DAY])
    session = market.sessions[0]
    assert market.bars("SPY", "1Day", session.open_ns - 86_400 * NS // 2, 2**62) == []
    whole_day(market)
    for before in (session, table.before(DAY)[-1]):
        day = market.bars("SPY", "1Day", before.open_ns - 12 * 3600 * NS, before.open_ns)
        minutes = market.bars("SPY", "1Min", before.open_ns, before.close_ns)
        assert len(day) == 1
        assert day[0].volume == sum(b.volume for b in minutes)
        assert (day[0].open, day[0].close) == (minutes[0].open, minutes[-1].close)
        assert (day[0].high, day[0].low) == (max(b.high for b in minutes), min(b.low for b in minutes))


def test_stock_quotes_are_never_crossed_and_tight(table: SessionTable) -> None:
    market = GeneratedMarket(2, table, [DAY])
    session = market.sessions[0]
    day = whole_day(market)
    spread: dict[str, list[float]] = {s: [] for s in market.symbols}
    for q in day.touches:
        assert q.bid is not None
        assert q.ask is not None
        assert 0 < q.bid < q.ask
        assert q.at_ns >= session.open_ns - 300 * NS
        if q.at_ns >= session.open_ns:
            spread[q.symbol].append(q.ask - q.bid)
    for symbol in market.symbols:
        assert np.median(spread[symbol]) == pytest.approx(0.01)
        assert max(spread[symbol]) < 0.035
    assert min(q.at_ns for q in day.touches) == session.open_ns - 300 * NS


def test_nothing_before_the_first_quote_and_the_closing_quote_after_the_close(table: SessionTable) -> None:
    market = GeneratedMarket(2, table, [DAY])
    session = market.sessions[0]
    contract = near_money(market, "SPY", 1)[0]
    market.advance(session.open_ns - 301 * NS)
    assert market.touch("SPY") is None
    market.advance(session.open_ns - NS)
    assert market.touch("SPY") is not None
    assert market.touch(contract) is None
    assert market.last_print("SPY") is None
    market.advance(session.close_ns)
    last = market.touch("SPY"), market.touch(contract), market.last_print("SPY"), market.last_print(contract)
    assert None not in last
    market.advance(session.close_ns + 3600 * NS)
    assert last == (
        market.touch("SPY"), market.touch(contract), market.last_print("SPY"), market.last_print(contract)
    )  # fmt: skip
    assert market.touch("MSFT") is None
    assert market.touch("SPY260115C99999000") is None


def test_last_prints_are_those_of_the_tape(table: SessionTable) -> None:
    market = GeneratedMarket(2, table, [DAY])
    contracts = near_money(market, "SPY", 60, until=DAY)
    market.watch(contracts)
    last: dict[str, Print] = {}
    for step in play(market, market.sessions[0].open_ns + 1200 * NS, 1):
        for p in (*step.prints, *step.option_prints):
            last[p.symbol] = p
    assert len(last) > 15
    for symbol in (*market.symbols, *contracts):
        assert market.last_print(symbol) == last.get(symbol)


def test_a_half_day_ends_at_one(table: SessionTable) -> None:
    market = GeneratedMarket(2, table, [HALF_DAY])
    day = whole_day(market)
    bars = [b for b in day.bars if b.symbol == "SPY"]
    assert len(bars) == 210
    assert bars[-1].start_ns + 60 * NS == market.sessions[0].close_ns
    assert max(q.at_ns for q in day.touches) <= market.sessions[0].close_ns
    assert {d["date"] for d in market.declared} == {HALF_DAY}


def test_the_next_session_goes_on_from_the_true_close(table: SessionTable) -> None:
    market = GeneratedMarket(2, table, [DAY, NEXT])
    step = market.advance(market.sessions[1].close_ns)
    for symbol in market.symbols:
        first = [b for b in step.bars if b.symbol == symbol][:780]
        gap = np.log(first[390].open / first[389].close)
        assert 0 < abs(gap) < 0.05


# --- stylised facts


@pytest.fixture(scope="module")
def minutes(table: SessionTable) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Log returns in bp and volumes by (session, minute) over 40 full sessions, through public bars."""
    market = GeneratedMarket(1, table, [DAY], plant=())
    out = {}
    for symbol in market.symbols:
        returns, volumes = [], []
        for session in table.before(DAY, 40):
            bars = market.bars(symbol, "1Min", session.open_ns, session.close_ns)
            if len(bars) == 390:
                price = np.array([bars[0].open, *(b.close for b in bars)])
                returns.append(np.diff(np.log(price)) * 1e4)
                volumes.append([b.volume for b in bars])
        out[symbol] = (np.array(returns), np.array(volumes, dtype=float))
    return out


def test_volatility_by_half_hour(minutes: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    returns = minutes["SPY"][0]
    assert len(returns) >= 35
    found = returns.reshape(len(returns), 13, 30).std(axis=(0, 2))
    wanted = np.array(SD_BY_HALF_HOUR_BP)
    ratio = (found / found.mean()) / (wanted / wanted.mean())
    assert np.all((ratio > 0.75) & (ratio < 1.3)), ratio
    assert 1.8 < returns.std() < 6.0


def test_volume_by_half_hour(minutes: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    for _, volume in minutes.values():
        share = volume.reshape(len(volume), 13, 30).sum(axis=(0, 2)) / volume.sum()
        wanted = np.array(VOLUME_BY_HALF_HOUR) / sum(VOLUME_BY_HALF_HOUR)
        assert np.all(np.abs(share / wanted - 1.0) < 0.18), share
    assert 3e7 < minutes["SPY"][1].sum(axis=1).mean() < 1.5e8


def test_fat_tails_clustering_and_no_trend(minutes: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    returns = minutes["SPY"][0]
    sd = returns.std()
    kurtosis = float(((returns - returns.mean()) ** 4).mean() / sd**4 - 3)
    assert 1.5 < kurtosis < 25
    assert 0.001 < (np.abs(returns) > 4 * sd).mean() < 0.01
    size = np.abs(returns)
    assert 0.05 < np.corrcoef(size[:, 1:].ravel(), size[:, :-1].ravel())[0, 1] < 0.30
    assert abs(np.corrcoef(returns[:, 1:].ravel(), returns[:, :-1].ravel())[0, 1]) < 0.05


def test_symbols_move_together(minutes: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    flat = {s: r.ravel() for s, (r, _) in minutes.items()}
    assert 0.80 < np.corrcoef(flat["SPY"], flat["QQQ"])[0, 1] < 0.97
    assert 0.70 < np.corrcoef(flat["SPY"], flat["IWM"])[0, 1] < 0.93


def test_overnight_gaps_and_daily_iv(market: GeneratedMarket) -> None:
    daily = market.bars("SPY", "1Day", 0, 2**62)
    assert len(daily) >= 120
    gaps = [np.log(b.open / a.close) for a, b in itertools.pairwise(daily)]
    assert 0.003 < np.std(gaps) < 0.012
    for symbol in market.symbols:
        rows = market.daily_iv(symbol)
        assert len(rows) >= 90
        assert rows[-1][0] == DAY
        values = [v for _, v in rows]
        assert 0.07 < min(values) < max(values) < 0.6
        assert max(values) / min(values) > 1.2
    assert market.daily_iv("MSFT") == ()


# --- options


def chain_at(table: SessionTable, seconds: int, symbol: str = "SPY") -> list[tuple[Listing, Touch]]:
    market = GeneratedMarket(9, table, [DAY], plant=())
    market.advance(market.sessions[0].open_ns + seconds * NS)
    pairs = [(r, market.touch(occ(r))) for r in market.listings(symbol, DAY)]
    assert all(t is not None for _, t in pairs)
    return [(r, t) for r, t in pairs if t is not None]


@pytest.mark.parametrize("seconds", [0, 1800, 12_345, 23_000, 23_399, 23_400])
def test_every_quote_is_sane_at_every_time(table: SessionTable, seconds: int) -> None:
    for listing, quote in chain_at(table, seconds, "IWM"):
        assert quote.ask is not None, listing
        assert quote.ask >= 0.01
        assert quote.ask_size >= 1
        assert abs(quote.ask * 100 - round(quote.ask * 100)) < 1e-6
        if quote.bid is None:
            assert quote.bid_size == 0
        else:
            assert 0.01 <= quote.bid < quote.ask
            assert 1 <= quote.bid_size <= 200


@pytest.mark.parametrize("seconds", [5, 9000, 21_000])
def test_no_arbitrage_at_the_quotes_near_the_money(table: SessionTable, seconds: int) -> None:
    quotes = {(r.expiry, r.right, r.strike_milli): t for r, t in chain_at(table, seconds)}
    spot = 680.0
    checked = 0
    for (expiry, right, strike), mid in quotes.items():
        low, high = (quotes.get((expiry, right, strike + d)) for d in (-1000, 1000))
        if low is None or high is None or not 0.95 < strike / 1000 / spot < 1.05:
            continue
        assert low.ask is not None
        assert high.ask is not None
        assert low.ask + high.ask - 2 * (mid.bid or 0.0) > -1e-9, (expiry, right, strike)  # butterfly
        bought, sold = (low, high) if right == "C" else (high, low)
        assert bought.ask is not None
        assert bought.ask - (sold.bid or 0.0) > 0  # vertical
        checked += 1
    assert checked > 1000
    dates = sorted({e for e, _, _ in quotes})
    for near, far in itertools.pairwise(dates):
        for strike in range(660, 701):
            one, two = quotes.get((near, "C", strike * 1000)), quotes.get((far, "C", strike * 1000))
            if one is not None and two is not None:
                assert two.ask is not None
                assert two.ask >= (one.bid or 0.0)  # calendar


@pytest.mark.parametrize("symbol", ["SPY", "QQQ", "IWM"])
@pytest.mark.parametrize("seconds", [600, 5400, 12_600])
def test_near_dated_options_at_the_money_are_tight(table: SessionTable, symbol: str, seconds: int) -> None:
    market = GeneratedMarket(9, table, [DAY], plant=())
    session = market.sessions[0]
    market.advance(session.open_ns + seconds * NS)
    stock = market.touch(symbol)
    assert stock is not None
    assert stock.bid is not None
    good = total = 0
    for r in market.listings(symbol, DAY):
        if r.expiry > NEXT:
            continue
        q = market.touch(occ(r))
        close = session.close_ns if r.expiry == DAY else session.close_ns + 86_400 * NS
        years = (close - session.open_ns - seconds * NS) / YEAR_NS
        if q is None or q.bid is None or q.ask is None:
            continue
        mid = (q.bid + q.ask) / 2
        forward = stock.bid * float(np.exp((RATE - SPECS[symbol].dividend_yield) * years))
        vol = implied_vol(mid, forward, r.strike_milli / 1000, years, r.right == "C")
        delta = abs(float(delta_forward(forward, r.strike_milli / 1000, years, vol, r.right == "C")))
        if 0.40 <= delta <= 0.60:
            total += 1
            good += q.ask - q.bid <= min(0.08, 0.04 * mid) + 1e-9
    assert total >= 4
    assert good / total >= 0.9, (good, total)


def test_the_smile_and_the_term_are_index_like(table: SessionTable) -> None:
    rows = chain_at(table, 9000)
    market = GeneratedMarket(9, table, [DAY], plant=())
    at_ns = market.sessions[0].open_ns + 9000 * NS
    market.advance(at_ns)
    stock = market.touch("SPY")
    assert stock is not None
    assert stock.bid is not None
    expiry = "2026-02-20"
    close = table.expiry_ns(expiry)
    assert close is not None
    years = (close - at_ns) / YEAR_NS
    forward = stock.bid * np.exp((RATE - SPECS["SPY"].dividend_yield) * years)
    points = []
    for r, q in rows:
        strike = r.strike_milli / 1000
        if r.expiry == expiry and q.bid is not None and q.ask is not None and (r.right == "C") == (strike > forward):
            vol = implied_vol((q.bid + q.ask) / 2 * np.exp(RATE * years), forward, strike, years, r.right == "C")
            points.append((np.log(strike / forward) / np.sqrt(years), float(vol)))
    curve = np.polyfit(*np.array([p for p in points if abs(p[0]) < 0.2]).T, 2)
    assert -0.12 < curve[1] < -0.05
    assert 0.10 < curve[2] < 0.35


def test_listings_open_interest_and_expiries(market: GeneratedMarket, table: SessionTable) -> None:
    before = table.before(DAY)[-1].date
    for symbol in market.symbols:
        rows = market.listings(symbol, DAY)
        assert [occ(r) for r in rows] == sorted(occ(r) for r in rows)
        assert 1000 < len(rows) < 5000
        dates = sorted({r.expiry for r in rows})
        assert dates[:2] == [DAY, NEXT]
        assert len(dates) >= 14
        assert max(dates) > "2026-03-01"
        assert all(table.on(d) is not None for d in dates)
        assert {r.open_interest_date for r in rows} == {before}
        interest = np.array([r.open_interest for r in rows])
        spot = market.bars(symbol, "1Day", 0, 2**62)[-2].close
        dense = np.array([abs(r.strike_milli / 1000 / spot - 1) < 0.06 for r in rows]) & (interest > 0)
        tens = np.array([r.strike_milli % 10_000 == 0 for r in rows])
        odd = np.array([r.strike_milli % 5_000 != 0 for r in rows])
        assert 1.8 < np.exp(np.log(interest[dense & tens]).mean() - np.log(interest[dense & odd]).mean()) < 6
        assert 0.10 < (interest == 0).mean() < 0.5
        logs = np.log(interest[interest > 0])
        assert 1.5 < logs.std() < 2.7
    assert market.listings("SPY", "2026-01-17") == ()
    assert market.listings("MSFT", DAY) == ()


def test_a_listed_contract_stays_listed_until_it_expires(table: SessionTable) -> None:
    dates = [s.date for s in table.sessions if "2025-11-03" <= s.date <= "2025-12-12"]
    market = GeneratedMarket(4, table, dates, plant=())
    held: set[str] = set()
    for date in dates:
        now = {occ(r) for r in market.listings("IWM", date)}
        alive = {o for o in held if "20" + o[3:9] >= date.replace("-", "")}
        assert alive <= now
        held = now


# --- planted breakouts


@pytest.mark.parametrize("seed", range(4))
def test_a_plant_is_the_first_breakout_and_has_the_volume(table: SessionTable, seed: int) -> None:
    market = GeneratedMarket(seed, table, [DAY, NEXT, "2026-01-20"])
    market.advance(market.sessions[-1].close_ns)
    assert len(market.declared) == 9
    for told in market.declared:
        session = table.on(told["date"])
        assert session is not None
        bars = list(market.bars(told["symbol"], "1Min", session.open_ns, session.close_ns))
        high, low = max(b.high for b in bars[:60]), min(b.low for b in bars[:60])
        beyond = [n for n, b in enumerate(bars) if n >= 60 and (b.close > high * 1.0015 or b.close < low * 0.9985)]
        m = told["minute"]
        assert beyond[0] == m
        assert all(low <= b.low and b.high <= high for b in bars[60:m])
        assert told["bar_start_ns"] == bars[m].start_ns
        assert told["at_ns"] == bars[m].start_ns + 60 * NS
        assert told["level"] == (high if told["direction"] == "up" else low)
        assert (bars[m].close > high) == (told["direction"] == "up")
        assert told["close"] == bars[m].close
        assert bars[m].volume >= 2.0 * np.mean([b.volume for b in bars[m - 20 : m]])
        sign = 1 if told["direction"] == "up" else -1
        assert sign * (rsi([b.close for b in bars[: m + 1]]) - 50) > 0


def rsi(closes: list[float], length: int = 14) -> float:
    moves = np.diff(closes)
    gain, loss = np.maximum(moves, 0), np.maximum(-moves, 0)
    up, down = gain[:length].mean(), loss[:length].mean()
    for g, x in zip(gain[length:], loss[length:], strict=True):
        up, down = (up * (length - 1) + g) / length, (down * (length - 1) + x) / length
    return float(100 * up / (up + down))


def trade_of(market: GeneratedMarket, told: dict[str, object], seconds: int) -> tuple[float, bool]:
    """Best gain of the option nearest the money bought at the ask 5 s after the signal, and whether a trade fell back.

    The option expires today; quotes are looked at every half minute; a trade back inside the range ends it.
    """
    symbol, date = str(told["symbol"]), str(told["date"])
    start = int(str(told["at_ns"])) + 5 * NS
    market.advance(start)
    spot = float(str(told["close"]))
    right = "C" if told["direction"] == "up" else "P"
    rows = [r for r in market.listings(symbol, date) if r.right == right]
    rows = [r for r in rows if r.expiry == date]
    contract = occ(min(rows, key=lambda r: abs(r.strike_milli / 1000 - spot)))
    bought = market.touch(contract)
    assert bought is not None
    assert bought.ask is not None
    best, back = -1.0, False
    for at in range(start, start + seconds * NS, 30 * NS):
        market.advance(at)
        quote, last = market.touch(contract), market.last_print(symbol)
        assert quote is not None
        assert last is not None
        inside = float(str(told["range_low"])) < last.price < float(str(told["range_high"]))
        back = back or inside
        if not back:
            best = max(best, (quote.bid or 0.0) / bought.ask - 1)
    return best, back


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("symbol", ["SPY", "QQQ", "IWM"])
def test_following_through_pays_and_failing_comes_back(table: SessionTable, symbol: str, direction: str) -> None:
    for seed in range(3):
        for holds in (True, False):
            plan = PlantedBreakout(symbol, DAY, 75 + 40 * seed, direction, holds)  # type: ignore[arg-type]
            market = GeneratedMarket(seed, table, [DAY], plant=[plan])
            best, back = trade_of(market, dict(market.declared[0]), 3600 if holds else 900)
            if holds:
                assert not back
                assert best >= 0.5, (seed, best)
            else:
                assert back
                assert best < 0.5


def test_default_plants_cover_each_symbol_and_mostly_succeed() -> None:
    dates = [f"2026-{m:02d}-{d:02d}" for m in range(1, 7) for d in range(1, 21)]
    plants = default_plants(5, dates, ["SPY", "QQQ", "IWM"])
    assert len(plants) == 3 * len(dates)
    assert plants == default_plants(5, dates, ["IWM", "QQQ", "SPY"])
    assert plants != default_plants(6, dates, ["SPY", "QQQ", "IWM"])
    assert all(62 <= p.minute <= 240 for p in plants)
    assert 0.65 < sum(p.follow_through for p in plants) / len(plants) < 0.88
    assert 0.35 < sum(p.direction == "up" for p in plants) / len(plants) < 0.65


# --- refusals


def test_what_cannot_be_generated_is_refused_with_the_fix(table: SessionTable) -> None:
    short = SessionTable(s for s in table.sessions if s.date >= "2025-11-03")
    cases: list[tuple[str, SessionTable, list[str], dict[str, object]]] = [
        ("dates", short, [DAY], {}),
        ("dates", table, [], {}),
        ("dates", table, ["2026-01-17"], {}),
        ("dates", table, [NEXT, DAY], {}),
        ("symbols", table, [DAY], {"symbols": ["SPY", "XYZ"]}),
        ("plant.minute", table, [DAY], {"plant": [PlantedBreakout("SPY", DAY, 30, "up")]}),
        ("plant.minute", table, [HALF_DAY], {"plant": [PlantedBreakout("SPY", HALF_DAY, 200, "up")]}),
        ("plant", table, [DAY], {"plant": [PlantedBreakout("SPY", NEXT, 90, "up")]}),
        ("plant", table, [DAY], {"plant": [PlantedBreakout("SPY", DAY, m, "up") for m in (90, 91)]}),
    ]
    for field, rows, dates, more in cases:
        with pytest.raises(ConfigurationError) as caught:
            GeneratedMarket(1, rows, dates, **more)  # type: ignore[arg-type]
        assert caught.value.field == field
        assert caught.value.fix
    with pytest.raises(ConfigurationError):
        GeneratedMarket(-1, table, [DAY])


def test_time_does_not_go_back_and_timeframes_are_named(table: SessionTable) -> None:
    market = GeneratedMarket(1, table, [DAY], plant=())
    market.advance(market.sessions[0].open_ns)
    with pytest.raises(ProtocolError):
        market.advance(market.sessions[0].open_ns - 1)
    with pytest.raises(ProtocolError):
        market.bars("SPY", "5Min", 0, 1)


def test_remembering_is_bounded_and_changes_nothing(table: SessionTable) -> None:
    dates = [s.date for s in table.before(DAY, 30)]
    days = Days(1, table, dates, [SPECS["SPY"]], default_plants(1, dates, ["SPY"]))
    last = days.tape("SPY", days.traded[-1])
    for i in days.traded[:-1]:
        days.tape("SPY", i)
    again = days.tape("SPY", days.traded[-1])
    assert again is not last
    assert np.array_equal(again.print_cents, last.print_cents)
    fresh = Days(1, table, dates, [SPECS["SPY"]], default_plants(1, dates, ["SPY"]))
    assert np.array_equal(fresh.tape("SPY", fresh.traded[-1]).log_mid, last.log_mid)


@pytest.mark.slow
def test_a_full_session_with_two_hundred_contracts_is_quick(
    table: SessionTable, capsys: pytest.CaptureFixture[str]
) -> None:
    market = GeneratedMarket(1, table, [DAY])
    market.watch([c for s in market.symbols for c in near_money(market, s, 67)])
    session: Session = market.sessions[0]
    start = time.process_time()
    touches = sum(len(s.option_touches) for s in play(market, session.close_ns, 1))
    spent = time.process_time() - start
    with capsys.disabled():
        print(f"\n23,400 steps, 201 contracts, {touches:,} option quotes: {spent:.1f} s of CPU")
    assert touches > 200_000
    assert spent < 25

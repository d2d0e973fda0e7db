"""The recorded day: timing, one-sided updates, refused rows on a fabricated folder; figures of the real files."""

import datetime as dt
import gzip
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from oracle.calendar import load_sessions
from oracle.core.errors import ConfigurationError, ProtocolError
from oracle.core.sessions import MINUTE_NS, NS, SessionTable
from oracle.sim.history import RecordedMarket
from oracle.sim.source import Touch
from tests.conftest import real_folder

DAY, BEFORE = "2015-12-24", "2015-12-23"
CALL, PUT, QUIET = "ABC151224C00050000", "ABC151224P00050000", "ABC160115C00060000"
FILES = {
    f"bars/1m/ABC/{DAY}": """t,o,h,l,c,v
2015-12-24T14:29:00Z,49,49,49,49,10
2015-12-24T14:30:00Z,50,50.5,49.75,50.25,1000
2015-12-24T14:31:00Z,50.25,50.5,50.25,50.5,2000
2015-12-24T14:33:00Z,50.5,50.5,50.25,50.25,500
2015-12-24T17:59:00Z,51,51.5,51,51.25,700
2015-12-24T18:00:00Z,51.25,51.25,51.25,51.25,9
""",
    f"bars/1m/ABC/{BEFORE}": """t,o,h,l,c,v
2015-12-23T14:30:00Z,48,48,48,48,300
""",
    f"quotes/1m/ABC/{DAY}": """t,bid,bid_size,ask,ask_size
2015-12-24T09:00:00Z,48,100,52,200
2015-12-24T14:27:00Z,49.9,100,50.1,200
2015-12-24T14:30:00Z,50.2,300,50.3,400
2015-12-24T14:31:00Z,,,50.35,500
""",
    f"options/quotes_1m/ABC/{DAY}": f"""t,symbol,bid,bid_size,ask,ask_size
2015-12-24T14:30:00Z,{CALL},1.01,10,1.2,11
2015-12-24T14:30:00Z,{PUT},,,0.9,5
2015-12-24T14:31:00Z,{CALL},,,1.25,12
2015-12-24T14:31:00Z,{PUT},0,0,,
2015-12-24T14:32:00Z,{CALL},1.05,20,,
2015-12-24T14:32:00Z,{PUT},0.8,7,,
2015-12-24T14:33:00Z,{CALL},1.05,20,1.25,12
""",
    f"options/trades_1m/ABC/{DAY}": f"""t,symbol,o,h,l,c,v
2015-12-24T14:31:00Z,{CALL},1.1,1.2,1.1,1.15,33
""",
    f"options/open_interest/ABC/{DAY}": f"""symbol,open_interest,t
{CALL},120,2015-12-24T11:31:00Z
{QUIET},7,2015-12-24T11:32:00Z
""",
    "bars/1d/ABC": """date,o,h,l,c,v,price_factor,split_factor
2015-12-22,47,47.5,46.5,47.25,90000,1,1
2015-12-23,47.25,48.5,47,48,80000,1,1
2015-12-24,50,51.5,49.75,51.25,4200,1,1
""",
}


@pytest.fixture(scope="module")
def table() -> SessionTable:
    return load_sessions(dt.date(2013, 1, 2), dt.date(2016, 12, 30))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, FILES)


def at(text: str) -> int:
    return round(dt.datetime.fromisoformat(f"{DAY}T{text}Z").timestamp()) * NS


def test_a_bar_is_known_only_when_its_minute_is_over(folder: Path, table: SessionTable) -> None:
    market = RecordedMarket(folder, "ABC", DAY, table)
    market.advance(at("14:30:59"))
    assert market.bars("ABC", "1Min", at("14:00:00"), at("18:00:00")) == []
    assert market.last_print("ABC") is None
    assert market.advance(at("14:31:00")).bars == []  # quotes first: a bar is made from the minute's trades
    step = market.advance(at("14:31:01"))
    assert [b.start_ns for b in step.bars] == [at("14:30:00")]
    bar = step.bars[0]
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades) == (50, 50.5, 49.75, 50.25, 1000, 0)
    assert bar.vwap == pytest.approx((50.5 + 49.75 + 50.25) / 3)
    assert [(p.price, p.size, p.at_ns) for p in step.prints] == [(50.25, 1000, at("14:31:00"))]
    assert market.last_print("ABC") == step.prints[0]


def test_only_the_regular_session_has_bars_and_a_half_day_ends_at_one(folder: Path, table: SessionTable) -> None:
    market = RecordedMarket(folder, "ABC", DAY, table)
    step = market.advance(at("19:00:00"))
    minutes = [(b.start_ns - at("14:30:00")) // MINUTE_NS for b in step.bars]
    assert minutes == [0, 1, 3, 209]
    assert [(d.volume, d.close, d.high) for d in step.daily_bars][-1] == (4200, 51.25, 51.5)
    assert [d.volume for d in step.daily_bars] == [1000, 3000, 3500, 4200]
    assert market.sessions[0].close_ns == at("18:00:00")


def test_one_step_or_many_say_the_same(folder: Path, table: SessionTable) -> None:
    def told(step_s: int) -> list[object]:
        market = RecordedMarket(folder, "ABC", DAY, table)
        market.watch([CALL, PUT])
        out: list[list[object]] = [[] for _ in range(8)]
        now = at("14:20:00")
        while now < at("18:10:00"):
            now += step_s * NS
            step = market.advance(now)
            for held, name in zip(out, step.__struct_fields__[1:], strict=True):
                held.extend(getattr(step, name))
        return [msgspec.to_builtins(o) for o in out]

    assert told(1) == told(7) == told(13_800)


def test_sides_of_option_quotes_stand_until_each_is_updated(folder: Path, table: SessionTable) -> None:
    market = RecordedMarket(folder, "ABC", DAY, table)
    market.watch([CALL, PUT])
    told: list[Touch] = []
    seen = []
    for text in ("14:30:59", "14:31:00", "14:32:00", "14:33:00", "14:34:00"):
        told.extend(market.advance(at(text)).option_touches)
        seen.append((market.touch(CALL), market.touch(PUT)))
    calls = [None if c is None else (c.bid, c.bid_size, c.ask, c.ask_size) for c, _ in seen]
    assert calls == [None, (1.01, 10, 1.2, 11), (1.01, 10, 1.25, 12), (1.05, 20, 1.25, 12), (1.05, 20, 1.25, 12)]
    puts = [None if p is None else (p.bid, p.bid_size, p.ask, p.ask_size) for _, p in seen]
    assert puts == [None, (None, 0, 0.9, 5), (None, 0, 0.9, 5), (0.8, 7, 0.9, 5), (0.8, 7, 0.9, 5)]
    assert [t.at_ns for t in told if t.symbol == CALL] == [at("14:31:00"), at("14:32:00"), at("14:33:00")]
    assert market.touch(QUIET) is None
    assert market.touch("XYZ") is None


def test_premarket_rows_serve_the_stock_quote(folder: Path, table: SessionTable) -> None:
    market = RecordedMarket(folder, "ABC", DAY, table)
    assert market.advance(at("14:00:00")).touches == []
    early = market.touch("ABC")
    assert early is not None
    assert (early.bid, early.ask) == (48, 52)
    step = market.advance(at("14:30:00"))
    assert [(t.bid, t.ask, t.at_ns) for t in step.touches] == [(49.9, 50.1, at("14:28:00"))]
    market.advance(at("14:32:00"))
    late = market.touch("ABC")
    assert late is not None
    assert (late.bid, late.bid_size, late.ask, late.ask_size) == (50.2, 300, 50.35, 500)


def test_listings_are_the_union_of_quotes_and_open_interest(folder: Path, table: SessionTable) -> None:
    market = RecordedMarket(folder, "ABC", DAY, table)
    rows = market.listings("ABC", DAY)
    assert [(r.symbol, r.open_interest, r.open_interest_date) for r in rows] == [
        (CALL, 120, BEFORE),
        (PUT, None, None),
        (QUIET, 7, BEFORE),
    ]
    assert [(r.expiry, r.right, r.strike_milli) for r in rows][2] == ("2016-01-15", "C", 60_000)
    assert all(r.penny_class for r in rows)  # 1.01 is off the 0.05 grid
    assert market.listings("ABC", BEFORE) == ()
    assert market.daily_iv("ABC") == ()
    assert market.declared == ()
    assert {"recorded", "synthetic vwap"} <= set(market.labels)


def test_option_trades_are_one_print_a_minute(folder: Path, table: SessionTable) -> None:
    market = RecordedMarket(folder, "ABC", DAY, table)
    market.watch([CALL])
    assert market.advance(at("14:31:59")).option_prints == []
    step = market.advance(at("14:32:00"))
    assert [(p.symbol, p.price, p.size, p.at_ns) for p in step.option_prints] == [(CALL, 1.15, 33, at("14:32:00"))]
    assert market.last_print(CALL) == step.option_prints[0]
    assert market.last_print(PUT) is None
    unwatched = RecordedMarket(folder, "ABC", DAY, table)
    assert unwatched.advance(at("18:00:00")).option_prints == []


def test_earlier_bars_are_those_of_the_files(folder: Path, table: SessionTable) -> None:
    market = RecordedMarket(folder, "ABC", DAY, table)
    daily = market.bars("ABC", "1Day", 0, 2**62)
    assert [(b.close, b.volume) for b in daily] == [(47.25, 90_000), (48, 80_000)]
    assert dt.datetime.fromtimestamp(daily[-1].start_ns / NS, dt.UTC).isoformat() == "2015-12-23T05:00:00+00:00"
    assert [b.volume for b in market.bars("ABC", "1Min", 0, 2**62)] == [300]
    market.advance(at("18:00:00"))
    assert [b.volume for b in market.bars("ABC", "1Day", 0, 2**62)] == [90_000, 80_000, 4200]
    assert len(market.bars("ABC", "1Min", 0, 2**62)) == 5
    assert market.bars("XYZ", "1Min", 0, 2**62) == ()
    with pytest.raises(ProtocolError):
        market.bars("ABC", "5Min", 0, 1)
    with pytest.raises(ProtocolError):
        market.advance(at("17:00:00"))


def test_malformed_rows_are_skipped_and_counted(tmp_path: Path, table: SessionTable) -> None:
    bad_bars = """2015-12-24T14:34:00Z,50,nan,50,50,1
2015-12-24T14:35:00Z,50,50,50,50,-1
2015-12-24T14:36:00Z,50,50,50,50
yesterday,50,50,50,50,1
2015-12-24T14:37:00,50,50,50,50,1
2015-12-24T14:37:30Z,50,50,50,50,1
2015-12-24T14:38:00Z,50,49,51,50,1
2015-12-24T14:39:00Z,50,,50,50,1
2015-12-24T14:40:00Z,50,inf,50,50,1
"""
    bad_quotes = f"""2015-12-24T14:34:00Z,{CALL},abc,1,2,1
2015-12-24T14:34:00Z,{CALL},-1,1,2,1
2015-12-24T14:34:00Z,NOT AN OPTION,1,1,2,1
2015-12-24T14:34:00Z,ABC151399C00050000,1,1,2,1
"""
    files = dict(FILES)
    files[f"bars/1m/ABC/{DAY}"] += bad_bars
    files[f"options/quotes_1m/ABC/{DAY}"] += bad_quotes
    market = RecordedMarket(write(tmp_path, files), "ABC", DAY, table)
    assert market.rejected == {
        "bars/1m: wrong number of fields": 1,
        "bars/1m: unparsable time": 3,
        "bars/1m: bad number": 2,
        "bars/1m: empty field": 1,
        "bars/1m: negative number": 1,
        "bars/1m: prices out of order": 1,
        "options/quotes_1m: bad number": 1,
        "options/quotes_1m: negative number": 1,
        "options/quotes_1m: unparsable symbol": 2,
    }
    assert market.first_rejected["bars/1m: bad number"] == "2015-12-24T14:34:00Z,50,nan,50,50,1"
    assert set(market.first_rejected) == set(market.rejected)
    clean = RecordedMarket(write(tmp_path / "clean", FILES), "ABC", DAY, table)
    assert clean.rejected == {}
    for m in (market, clean):
        m.watch([CALL, PUT])
    assert market.advance(at("18:00:00")) == clean.advance(at("18:00:00"))


@pytest.mark.parametrize("kind", ["bars/1m", "quotes/1m", "options/quotes_1m"])
def test_a_missing_file_is_named(tmp_path: Path, table: SessionTable, kind: str) -> None:
    files = {n: t for n, t in FILES.items() if n != f"{kind}/ABC/{DAY}"}
    with pytest.raises(ConfigurationError) as caught:
        RecordedMarket(write(tmp_path, files), "ABC", DAY, table)
    assert caught.value.field.endswith(f"{kind}/ABC/{DAY}.csv.gz")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        (f"options/trades_1m/ABC/{DAY}", "no option trades"),
        (f"options/open_interest/ABC/{DAY}", "no open interest"),
        ("bars/1d/ABC", "no earlier daily bars"),
    ],
)
def test_what_may_be_absent_is_labelled(tmp_path: Path, table: SessionTable, kind: str, label: str) -> None:
    market = RecordedMarket(write(tmp_path, {n: t for n, t in FILES.items() if n != kind}), "ABC", DAY, table)
    assert label in market.labels
    assert len(market.listings("ABC", DAY)) >= 2


def test_unusable_files_are_refused(tmp_path: Path, table: SessionTable) -> None:
    path = write(tmp_path, FILES) / f"bars/1m/ABC/{DAY}.csv.gz"
    for content in (b"not gzip", gzip.compress(b""), gzip.compress(b"t,o,h,l,c\n")):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError) as caught:
            RecordedMarket(tmp_path, "ABC", DAY, table)
        assert caught.value.field == str(path)
    with pytest.raises(ConfigurationError):
        RecordedMarket(tmp_path, "ABC", "2015-12-25", table)


# --- real files


@pytest.fixture(scope="module")
def long_table() -> SessionTable:
    return load_sessions(dt.date(2013, 1, 2), dt.date(2018, 3, 1))


@pytest.mark.real_data
def test_goog_half_day_agrees_with_its_reference(long_table: SessionTable, capsys: pytest.CaptureFixture[str]) -> None:
    root = real_folder()
    start = time.process_time()
    market = RecordedMarket(root, "GOOG", DAY, long_table)
    spent = time.process_time() - start
    with capsys.disabled():
        print(f"\nGOOG {DAY} loaded in {spent:.1f} s of CPU")
    assert spent < 8
    assert market.rejected == {}
    rows = market.listings("GOOG", DAY)
    assert len(rows) == 2192
    assert len({r.expiry for r in rows}) == 12
    interest = [(r, r.open_interest) for r in rows if r.open_interest is not None]
    assert len(interest) == 2058
    assert sum(n for r, n in interest if r.right == "C") == 85_583
    assert sum(n for r, n in interest if r.right == "P") == 93_919
    assert {r.open_interest_date for r, _ in interest} == {BEFORE}
    assert sum(n == 0 for _, n in interest) / len(interest) == pytest.approx(0.361, abs=0.001)

    market.watch([r.symbol for r in rows])
    valid = 0
    session = market.sessions[0]
    bars, trades, volume = 0, 0, 0
    for minute in range(1, 211):
        step = market.advance(session.open_ns + minute * MINUTE_NS + NS)
        bars += len(step.bars)
        trades += len(step.option_prints)
        volume += sum(p.size for p in step.option_prints)
        quotes = [market.touch(r.symbol) for r in rows]
        valid += sum(q is not None and q.bid is not None and q.ask is not None and q.ask > q.bid for q in quotes)
    assert bars == 210
    assert (trades, volume) == (958, 7471)
    assert valid / (2192 * 210) == pytest.approx(0.838, abs=0.001)
    assert len(market.bars("GOOG", "1Day", 0, 2**62)) > 200


@pytest.mark.real_data
def test_goog_rows_have_one_side_or_both_as_measured(long_table: SessionTable) -> None:
    path = real_folder() / f"options/quotes_1m/GOOG/{DAY}.csv.gz"
    text = gzip.decompress(path.read_bytes()).decode().splitlines()[1:]
    sides = np.array([[bool(f[2]), bool(f[4])] for f in (line.split(",") for line in text)])
    assert len(sides) == 275_552
    assert sides.all(axis=1).mean() == pytest.approx(0.592, abs=0.0005)
    market = RecordedMarket(real_folder(), "GOOG", DAY, long_table)
    market.watch([r.symbol for r in market.listings("GOOG", DAY)])
    changes = market.advance(market.sessions[0].close_ns + NS).option_touches
    both = sum(q.bid is not None and q.ask is not None for q in changes) / len(changes)
    assert both > 0.85  # carried forward, not dropped


@pytest.mark.real_data
def test_twx_full_day_with_saturday_expiries(long_table: SessionTable) -> None:
    market = RecordedMarket(real_folder(), "TWX", "2014-06-05", long_table)
    rows = market.listings("TWX", "2014-06-05")
    assert len(rows) == 184
    assert "2014-06-21" in {r.expiry for r in rows}
    assert sum(r.open_interest or 0 for r in rows if r.right == "C") == 48_332
    assert sum(r.open_interest or 0 for r in rows if r.right == "P") == 42_555
    market.watch([r.symbol for r in rows])
    step = market.advance(market.sessions[0].close_ns + NS)
    assert len(step.bars) == 390
    assert len(step.option_prints) == 79
    assert market.rejected == {}

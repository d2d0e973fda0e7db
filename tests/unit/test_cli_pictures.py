"""``oracle chain`` and ``oracle gamma`` of recorded days: ages by side, no looking ahead, no data with a reason."""

import datetime as dt
import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oracle.alpaca.chainread import ChainReader, OptionSnapshot, Spot
from oracle.alpaca.marketdata import BrokerClock, MarketData
from oracle.alpaca.wire import Credentials, one_host_endpoints
from oracle.calendar import load_sessions
from oracle.cli.chain import _draw
from oracle.cli.gamma import draw
from oracle.cli.root import app
from oracle.core.marketdata import ChainListed, ListedContract
from oracle.core.sessions import NS
from oracle.options.gamma import gamma_profile
from oracle.options.selection import YEAR_NS
from oracle.picture import model, read_live, read_recorded

DATE = "2026-01-05"  # 14:30Z is the open
C, P, FAR = "XYZ260116C00100000", "XYZ260116P00100000", "XYZ260116C00110000"


def write(root: Path, kind: str, *lines: str, name: str = f"XYZ/{DATE}.csv.gz") -> None:
    path = root / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write(root, "bars/1m", "t,o,h,l,c,v", f"{DATE}T14:59:00Z,100,100,100,100,10", f"{DATE}T15:30:00Z,200,200,200,200,1")
    write(
        root, "options/quotes_1m", "t,symbol,bid,bid_size,ask,ask_size",
        f"{DATE}T14:35:00Z,{C},1.80,5,,", f"{DATE}T14:36:00Z,{C},,,1.90,5", f"{DATE}T14:50:00Z,{C},1.85,5,,",
        f"{DATE}T14:40:00Z,{P},1.80,5,1.90,5", f"{DATE}T14:41:00Z,{FAR},,,0.05,5",
        f"{DATE}T15:10:00Z,{C},9.00,5,9.10,5",  # later than any time asked for
    )  # fmt: skip
    write(
        root,
        "options/open_interest",
        "symbol,open_interest,t",
        f"{C},500,{DATE}T11:30:00Z",
        f"{P},300,{DATE}T11:30:00Z",
    )
    write(
        root, "options/trades_1m", "t,symbol,o,h,l,c,v",
        f"{DATE}T14:45:00Z,{C},1.9,1.9,1.9,1.9,7", f"{DATE}T15:20:00Z,{C},9,9,9,9,100",
    )  # fmt: skip
    return root


def run(*words: str, root: Path, time: str = "10:00", symbol: str = "XYZ"):
    done = CliRunner().invoke(app, [words[0], symbol, "--data", str(root), "--date", DATE, "--time", time, *words[1:]])
    return done


def test_each_side_has_its_own_age_and_nothing_later_is_known(folder: Path) -> None:
    told = json.loads(run("chain", "--json", root=folder).stdout)
    call = next(row for row in told["contracts"] if row["symbol"] == C)
    assert (call["bid"], call["bid_age_s"], call["ask"], call["ask_age_s"]) == (1.85, 540.0, 1.90, 1380.0)
    assert (call["volume"], call["open_interest"]) == (7.0, 500.0)
    assert (told["spot"], told["spot_source"], told["open_interest_date"]) == (100.0, "bar", "2026-01-02")
    far = next(row for row in told["contracts"] if row["symbol"] == FAR)
    assert (far["bid"], far["state"], far["iv"], far["open_interest"]) == (None, "one_sided", None, None)


def test_gamma_of_a_recorded_time(folder: Path) -> None:
    done = run("gamma", "--json", root=folder)
    told = json.loads(done.stdout)
    assert (told["call_wall"], told["put_wall"], told["pin"], told["flip"]) == (100.0, 100.0, 100.0, None)
    assert told["contracts_used"] == 2
    assert told["left_out"] == {"no_open_interest": 1}
    assert told["near"]["call_wall"] is True


def test_a_folder_without_open_interest_has_a_chain_and_no_gamma(folder: Path) -> None:
    (folder / f"options/open_interest/XYZ/{DATE}.csv.gz").unlink()
    assert run("chain", root=folder).exit_code == 0
    done = run("gamma", root=folder)
    assert done.exit_code == 1
    assert "no open interest is told for any of 3 contracts" in done.stderr


def test_negative_and_absurd_figures_are_never_a_level(folder: Path) -> None:
    write(
        folder, "options/quotes_1m", "t,symbol,bid,bid_size,ask,ask_size", f"{DATE}T14:35:00Z,{C},-1.80,5,1.90,5",
        f"{DATE}T14:35:00Z,{P},2.50,5,1.90,5", f"{DATE}T14:35:00Z,{FAR},500,5,501,5", "rubbish,,,,,",
        f"{DATE}T14:35:00Z,NOT A SYMBOL,1,1,2,2",
    )  # fmt: skip
    told = json.loads(run("chain", "--json", root=folder).stdout)
    assert {row["iv"] for row in told["contracts"]} == {None}
    assert {row["symbol"]: row["state"] for row in told["contracts"]} == {
        C: "no_quote",
        P: "crossed",
        FAR: "above_bound",
    }
    done = run("gamma", root=folder)
    assert done.exit_code == 1
    assert "no implied volatility" in done.stderr


@pytest.mark.parametrize("command", ["chain", "gamma"])
def test_missing_files_are_no_data_with_the_reason(folder: Path, command: str) -> None:
    done = run(command, root=folder, symbol="ABC")
    assert done.exit_code == 1
    assert "no data: no chain" in done.stderr
    done = run(command, root=folder, time="09:45")
    assert done.exit_code == 1
    assert "no price of XYZ" in done.stderr
    (folder / f"bars/1m/XYZ/{DATE}.csv.gz").unlink()
    done = run(command, root=folder)
    assert (done.exit_code, "no minute bars" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--time", "25:00"], "--time"), (["--time", "03:00"], "--time"), (["--date", "2026-01-04"], "--date"),
        (["--date", "someday"], "--date"), (["--expiry", "soon"], "--expiry"), (["--plot", "x.pdf"], "--plot"),
        (["--date", "0001-01-01"], "--date"), (["--date", "9999-12-31"], "--date"),
        (["--expiry", "20260116"], "--expiry"), (["--expiry", "9999-12-31"], "--expiry"),
        (["--plot", "/nowhere/x.png"], "--plot"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["chain", "gamma"])
def test_wrong_options_name_themselves(folder: Path, command: str, words: list[str], named: str) -> None:
    from oracle.core.errors import ConfigurationError

    done = CliRunner().invoke(app, [command, "XYZ", "--data", str(folder), *_flat(words)])
    assert isinstance(done.exception, ConfigurationError)
    assert done.exception.field == named


def test_a_venue_that_cannot_be_reached_is_named() -> None:
    from oracle.core.errors import TransientError

    done = CliRunner().invoke(app, ["gamma", "SPY", "--set", "sim.url=http://127.0.0.1:9"])
    assert isinstance(done.exception, TransientError)
    assert str(done.exception).startswith("http://127.0.0.1:9: ")
    assert "oracle exchange --hold" in str(done.exception)
    assert "--data FOLDER" in str(done.exception)


async def test_now_is_after_the_quotes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a fast exchange 18 s pass between two requests."""
    table = load_sessions(dt.date(2026, 1, 2), dt.date(2026, 2, 28))
    now = {"ns": table.sessions[1].open_ns + 3600 * NS}

    def later(_self: object = None) -> int:
        now["ns"] += 18 * NS
        return now["ns"]

    async def clock(self: MarketData) -> BrokerClock:
        return BrokerClock(later(), True, 0, 0)

    async def listed(*_: object) -> ChainListed:
        later()
        contracts = tuple(ListedContract(symbol, 10, DATE, True) for symbol in (C, P))
        return ChainListed("XYZ", DATE, contracts)

    async def snapshots(*_: object) -> list[OptionSnapshot]:
        return [OptionSnapshot(symbol, 1.8, 1.9, later(), 1) for symbol in (C, P)]

    async def spot(*_: object) -> Spot:
        return Spot(100.0, later(), "quote")

    monkeypatch.setattr(MarketData, "clock", clock)
    monkeypatch.setattr(MarketData, "option_contracts", listed)
    monkeypatch.setattr(ChainReader, "snapshots", snapshots)
    monkeypatch.setattr(ChainReader, "spot", spot)
    account = (one_host_endpoints("http://127.0.0.1:9", stock_feed="sip", option_feed="opra"), Credentials("k", "s"))
    found = model(await read_live(account, "XYZ", table), table)
    assert found.picture.age_s(found.picture.bid_ns).tolist() == [54.0, 36.0]
    assert found.picture.at_ns == now["ns"]
    expiry_ns = table.expiry_ns("2026-01-16")
    assert expiry_ns is not None
    assert found.years.tolist() == [(expiry_ns - now["ns"]) / YEAR_NS] * 2


def test_the_smile_is_drawn_of_the_side_out_of_the_money_and_levels_have_markers(folder: Path) -> None:
    far = "XYZ260116C00120000"
    write(
        folder, "options/quotes_1m", "t,symbol,bid,bid_size,ask,ask_size",
        *(f"{DATE}T14:40:00Z,XYZ260116{right}{strike:05d}000,{bid},5,{bid + 0.1:.2f},5"
          for right, strike, bid in (("C", 90, 10.2), ("P", 90, 0.1), ("C", 100, 1.8), ("P", 100, 1.8),
                                     ("C", 110, 0.1), ("P", 110, 10.2))),
    )  # fmt: skip
    interest = [f"{s},{n},{DATE}T11:30:00Z" for s, n in ((C, 500), ("XYZ260116P00090000", 800), (far, 5))]
    write(folder, "options/open_interest", "symbol,open_interest,t", *interest)
    table = load_sessions(dt.date(2026, 1, 2), dt.date(2026, 2, 28))
    found = model(read_recorded(folder, "XYZ", DATE, "10:00", table), table)
    smile = _draw(found, "2026-01-16").axes[0]
    drawn = {line.get_label(): [float(x) for x in line.get_xdata()] for line in smile.lines}
    assert drawn["calls"] == [100.0, 110.0, 120.0]
    assert drawn["puts"] == [90.0]
    profile = gamma_profile(found.gamma_rows(), found.picture.spot)
    assert profile is not None
    lines = {str(line.get_label()): line for line in draw(found, profile).axes[0].lines}
    assert [float(x) for x in lines["call wall 100"].get_xdata()] == [100.0]
    (height,) = lines["put wall 90"].get_ydata()
    assert float(height) == pytest.approx(float(profile.put_usd.min()) / 1e6)
    assert [float(x) for x in lines["pin 100"].get_xdata()] == [100.0]


def _flat(words: list[str]) -> list[str]:
    options = {"--date": DATE, "--time": "10:00"} | dict([words])
    return [part for pair in options.items() for part in pair]


def test_recorded_days_need_all_three_options(folder: Path) -> None:
    from oracle.core.errors import ConfigurationError

    for words in (["--data", str(folder)], ["--date", DATE, "--time", "10:00"]):
        done = CliRunner().invoke(app, ["gamma", "XYZ", *words])
        assert isinstance(done.exception, ConfigurationError)


def test_the_same_drawing_twice_is_the_same_file(folder: Path, tmp_path: Path) -> None:
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        assert run("gamma", "--plot", str(page), root=folder).exit_code == 0
        assert run("chain", "--plot", str(page.with_suffix(".png")), root=folder).exit_code == 0
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert b"dealers long calls" in pages[0].read_bytes()


@pytest.mark.real_data
def test_the_daemons_way_agrees_with_the_references(real_data: Path) -> None:
    for symbol, date, time, rate, walls, net in (
        ("GOOG", "2015-12-24", "11:15", "0.004", (750.0, 750.0), 152.7e6),
        ("TWX", "2014-06-05", "12:45", "0.002", (70.0, 67.5), 9.26e6),
    ):
        words = ["gamma", symbol, "--data", str(real_data), "--date", date, "--time", time, "--rate", rate, "--json"]
        told = json.loads(CliRunner().invoke(app, words).stdout)
        assert (told["call_wall"], told["put_wall"]) == walls
        assert told["net_gamma_usd"] == pytest.approx(net, rel=0.10)

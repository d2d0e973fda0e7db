"""``oracle iv term`` and the early-exercise mark of ``oracle chain``, on recorded days made up and real."""

import datetime as dt
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from oracle.cli.root import app
from oracle.core.errors import ConfigurationError
from oracle.core.instruments import OptionContract, Right
from oracle.options.pricing import black_forward
from oracle.options.volatility import TermPoint, constant_maturity

DATE, AT = "2026-01-05", dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)  # 10:00 in New York
EXPIRIES = ("2026-01-09", "2026-01-30", "2026-02-06", "2026-03-20")
SPOT, SLOPE = 100.0, -0.05


def years(expiry: str) -> float:
    """From 10:00 of the day to 16:00 New York of the expiry (March: summer time)."""
    hour = 20 if expiry > "2026-03-08" else 21
    return (dt.datetime.fromisoformat(f"{expiry}T{hour}:00:00+00:00") - AT).total_seconds() / (365 * 86400)


def atm(expiry: str) -> float:
    """A rising term structure."""
    return 0.20 + 0.1 * years(expiry)


def write(root: Path, kind: str, lines: list[str]) -> None:
    path = root / kind / "XYZ" / f"{DATE}.csv.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


def quotes(expiries: tuple[str, ...] = EXPIRIES, half: float = 0.005, strikes: range = range(50, 161)) -> list[str]:
    """Fair two-sided quotes told at 09:50, and nothing later."""
    out = ["t,symbol,bid,bid_size,ask,ask_size"]
    for expiry in expiries:
        for strike in strikes:
            vol = max(atm(expiry) + SLOPE * math.log(strike / SPOT) / math.sqrt(years(expiry)), 0.05)
            for right in Right:
                fair = float(black_forward(SPOT, strike, years(expiry), vol, right is Right.CALL))
                name = OptionContract("XYZ", expiry, right, strike * 1000).occ
                bid = f"{fair - half:.6f}" if fair > 2 * half else "0"
                out.append(f"{DATE}T14:50:00Z,{name},{bid},5,{fair + half:.6f},5")
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write(root, "bars/1m", ["t,o,h,l,c,v", f"{DATE}T14:59:00Z,100,100,100,100,10"])
    write(root, "options/quotes_1m", quotes())
    return root


def run(*words: str, root: Path, command: str = "iv term", time: str = "10:00") -> Result:
    known = [*command.split(), "XYZ", "--data", str(root), "--date", DATE, "--time", time]
    return CliRunner().invoke(app, [*known, *words])


def told(*words: str, root: Path, command: str = "iv term") -> Any:
    done = run(*words, "--json", root=root, command=command)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_each_expiry_has_the_volatility_and_skew_that_it_was_priced_at(folder: Path) -> None:
    found = told(root=folder)
    assert [row["expiry"] for row in found["expiries"]] == list(EXPIRIES)
    for row in found["expiries"]:
        assert row["days"] == pytest.approx(years(row["expiry"]) * 365)
        assert row["forward"] == pytest.approx(SPOT, abs=1e-4)
        assert row["atm_iv"] == pytest.approx(atm(row["expiry"]), abs=1e-5)
        assert row["skew_slope"] == pytest.approx(SLOPE, abs=1e-3)
        assert row["put25_iv"] > row["atm_iv"] > row["call25_iv"]


def test_the_month_is_total_variance_between_the_expiries_around_it(folder: Path) -> None:
    found = told(root=folder)
    pair = ("2026-01-30", "2026-02-06")
    month = constant_maturity([TermPoint(e, years(e), atm(e)) for e in pair])
    assert tuple(found["between"]) == tuple(found["index_between"]) == pair
    assert found["iv_30d"] == pytest.approx(month.iv, abs=1e-5)  # type: ignore[union-attr]


def test_the_index_is_the_variance_of_the_whole_smile(folder: Path) -> None:
    """Against the log contract integrated over the same smile: the strip's steps are all that differs."""
    found = told(root=folder)
    for row in found["expiries"][1:3]:
        t = years(row["expiry"])
        strike = np.linspace(40, 200, 64_001)
        vol = np.maximum(atm(row["expiry"]) + SLOPE * np.log(strike / SPOT) / math.sqrt(t), 0.05)
        out = black_forward(SPOT, strike, t, vol, strike >= SPOT)
        exact = 100 * math.sqrt(2 / t * float(np.trapezoid(out / strike**2, strike)))
        assert row["index"] == pytest.approx(exact, abs=0.15)
        assert row["index_complete"] is True
    low, high = sorted(row["index"] for row in found["expiries"][1:3])
    assert low <= found["index"] <= high
    assert found["index_complete"] is True


def test_what_the_chain_does_not_carry_is_null_with_the_reason(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, "bars/1m", ["t,o,h,l,c,v", f"{DATE}T14:59:00Z,100,100,100,100,10"])
    write(tmp_path, "options/quotes_1m", quotes(("2026-01-09", "2026-02-06"), strikes=range(98, 103)))
    found = told(root=tmp_path)
    assert (found["iv_30d"], found["iv_30d_reason"]) == (None, "no_expiry_before_30_days")  # 9 January is too near
    assert (found["index"], found["index_reason"]) == (None, "no_expiry_before_30_days")
    assert [row["index_complete"] for row in found["expiries"]] == [False, False]
    assert [row["put25_iv"] for row in found["expiries"]][1] is None
    table = run(root=tmp_path).output
    assert "30-day IV unknown (no_expiry_before_30_days)" in table
    assert "+" in table
    # Wide, crossed, one-sided and absurd quotes: no expiry has a volatility, which is said and is no table.
    for half in (30.0, -1.0):
        write(tmp_path, "options/quotes_1m", quotes(half=half))
        done = run("--json", root=tmp_path)
        assert done.exit_code == 1
        assert "no expiry of XYZ has a volatility" in done.stderr
        assert "no_data" in json.loads(done.stdout)


def test_a_time_before_the_quotes_has_no_data(folder: Path) -> None:
    done = run(root=folder, time="09:45")
    assert done.exit_code == 1
    assert "no data" in done.stderr


def test_contracts_whose_european_error_may_exceed_half_the_spread_are_marked(folder: Path) -> None:
    """A dividend right before expiry: calls in the money; without one and at no rate nothing is marked."""
    asked = ("--expiry", "2026-02-06", "--strikes", "41")
    plain = told(*asked, root=folder, command="chain")["contracts"]
    assert {row["state"] for row in plain} <= {"usable", "zero_bid"}
    rows = told(*asked, "--dividend", "2026-02-05=1.00", root=folder, command="chain")["contracts"]
    marked = {row["symbol"] for row in rows if row["state"] == "early_exercise"}
    assert "XYZ260206C00095000" in marked
    assert not any("P" in name[3:] for name in marked), "a put at a rate of zero gains nothing"
    assert all(row["iv"] is not None and row["theta"] < 0 < row["vega"] for row in rows if row["symbol"] in marked)
    dear = told(*asked, "--rate", "0.05", root=folder, command="chain")["contracts"]
    assert any(row["state"] == "early_exercise" and "P" in row["symbol"][3:] for row in dear)
    late = told(*asked, "--dividend", "2026-02-09=1.00", root=folder, command="chain")["contracts"]
    assert [row["state"] for row in late] == [row["state"] for row in plain], "after expiry it touches nothing"


@pytest.mark.parametrize("text", ["2026-02-05", "2026-02-05=", "2026-02-05=nan", "2026-02-05=-1", "soon=1", "=1"])
@pytest.mark.parametrize("command", ["chain", "iv term"])
def test_a_dividend_that_is_none_is_refused(folder: Path, command: str, text: str) -> None:
    done = run("--dividend", text, root=folder, command=command)
    assert isinstance(done.exception, ConfigurationError)
    assert "--dividend" in str(done.exception)
    weekend = run("--dividend", "2026-02-07=1", root=folder, command=command)
    assert "not a session" in str(weekend.exception)


@pytest.mark.real_data
def test_a_real_chain_has_its_reference_volatility(real_data: Path) -> None:
    words = f"iv term GOOG --date 2015-12-24 --time 11:14 --rate 0.004 --json --data {real_data}"
    done = CliRunner().invoke(app, words.split())
    rows = {row["expiry"]: row for row in json.loads(done.stdout)["expiries"]}
    # Half-hour means of the reference around 16:14Z: .1875 and .1870; .1723 to .1582 over the day's short expiry.
    assert rows["2016-01-15"]["atm_iv"] == pytest.approx(0.188, abs=0.003)
    assert rows["2015-12-31"]["atm_iv"] == pytest.approx(0.1594, abs=0.003)
    assert rows["2016-01-15"]["skew_slope"] < 0

"""``oracle chain`` and ``oracle iv term`` over REST of an exchange on loopback, minutes into a generated session."""

import datetime as dt
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from oracle.calendar import load_sessions
from oracle.cli.root import app
from oracle.core.sessions import NS
from oracle.sim.market import GeneratedMarket
from tests.protocol import conftest
from tests.protocol.conftest import Running, Start, move_to

DAY = "2026-01-05"


@pytest.fixture
def market(start: Start, monkeypatch: pytest.MonkeyPatch) -> Running:
    """The generated market, two minutes after the open, standing still."""
    table = load_sessions(dt.date(2025, 1, 2), dt.date(2026, 6, 30))
    session, after = table.on(DAY), table.after(DAY)
    assert session is not None
    assert after is not None
    monkeypatch.setattr(conftest, "ScriptedSource", lambda _: GeneratedMarket(7, table, [DAY], plant=[]))
    monkeypatch.setattr(conftest, "make_sessions", lambda *_: (after,))
    running = start((session,), plan="plus")
    move_to(running, session.open_ns + 120 * NS)
    return running


def told(running: Running, *words: str) -> Any:
    done = CliRunner().invoke(app, [
        *words, "--json", "--set", f"sim.url={running.url}", "--set", f"sim.key={conftest.KEY}",
        "--set", f"sim.secret={conftest.SECRET}",
    ])  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.mark.timeout(120)
def test_a_live_chain_has_greeks_a_term_structure_and_an_index(market: Running) -> None:
    found = told(market, "iv", "term", "spy")
    assert found["underlying"] == "SPY"
    with_iv = [row for row in found["expiries"] if row["atm_iv"] is not None]
    assert len(with_iv) >= 5
    assert 0.05 < found["iv_30d"] < 0.6
    assert found["between"][0] < "2026-02-04" < found["between"][1]
    assert found["index"] / 100 == pytest.approx(found["iv_30d"], rel=0.25)
    month = next(row for row in found["expiries"] if row["expiry"] == found["between"][0])
    assert month["put25_iv"] > month["call25_iv"]
    chain = told(market, "chain", "SPY", "--expiry", found["between"][0], "--strikes", "4")["contracts"]
    assert len(chain) == 8
    for row in chain:
        assert row["theta"] < 0 < row["gamma"]
        assert row["vega"] > 0
        assert (row["rho"] > 0) is (row["delta"] > 0)
    assert {row["state"] for row in chain} == {"usable"}
    last = found["between"][0]
    paid = told(market, "chain", "SPY", "--expiry", last, "--strikes", "4", "--dividend", f"{last}=5")["contracts"]
    assert {row["state"] for row in paid if row["delta"] > 0} == {"early_exercise"}, "calls would be exercised for it"

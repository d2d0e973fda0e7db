"""The quarter in small: structures on days of high volatility, in process with every early end, and over sockets."""

from pathlib import Path

import pytest

from tests.simulation import quarter

SHOCKS = [f"vol_shock:{symbol}:session=1,jump=0.8" for symbol in ("SPY", "QQQ", "IWM")]
PLANTS = [word for shock in SHOCKS for word in ("--plant", shock)]


def kept(found: quarter.Judged, strategy: str) -> None:
    assert found.problems == []
    assert found.trades[strategy] >= 1
    assert found.structures >= found.trades[strategy]


@pytest.mark.long
@pytest.mark.timeout(280)
def test_structures_in_process_leave_no_leg_and_equal_books(tmp_path: Path) -> None:
    first, last = quarter.dates(2)
    arguments = [
        "backtest", "--simulated", "--from", first, "--to", last, "--step", "5", "--cash", "250000", *PLANTS,
        "--exchange", quarter.EARLY_ENDS, *quarter.held(), *quarter.chosen(("iron_condor", "iv_mean_reversion")),
    ]  # fmt: skip
    found = quarter.run("in process", arguments, tmp_path / "state")
    kept(found, "iron_condor")
    assert found.settlements["expired"] >= 1


@pytest.mark.long
@pytest.mark.timeout(280)
def test_structures_over_sockets_leave_no_leg_and_equal_books(tmp_path: Path) -> None:
    arguments = ["demo", "--sessions", "1", *PLANTS, "--set", "strategies.iron_condor={}"]
    kept(quarter.run("over sockets", arguments, tmp_path / "state"), "iron_condor")


@pytest.mark.long
def test_what_is_not_as_it_must_be_is_named(tmp_path: Path) -> None:
    """The judgement can fail: trades left open on purpose are found, and the contracts that they hold."""
    first, last = quarter.dates(1)
    arguments = ["backtest", "--simulated", "--from", first, "--to", last, "--leave-open", *PLANTS, "--step", "30",
                 *quarter.chosen(("iv_mean_reversion",)), "--cash", "250000"]  # fmt: skip
    found = quarter.run("left open", arguments, tmp_path / "state")
    assert any("still open" in problem for problem in found.problems)
    assert any("never closed nor settled" in problem for problem in found.problems)

"""``oracle preflight``: each structure's smallest equity with the rule that asks for it; go or no-go with reasons."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from oracle.cli.control import NoDaemonError
from oracle.cli.preflight import _show
from oracle.cli.root import app
from oracle.core.control import Evaluate
from oracle.core.marketdata import FeedChanged
from oracle.core.messages import NoSignal, OperatorAnswered, OrderFilled, SubmitOrder
from oracle.core.ports import Context
from oracle.core.vocabulary import Feed, FeedState
from oracle.preflight import Report, report
from oracle.strategies.base import Verdict
from oracle.strategies.runner import StrategyRunner
from tests.unit.builders import TABLE, House, account, of
from tests.unit.structures_house import NAME, StructureHouse, condor
from tests.unit.test_risk_operator import answer, request
from tests.unit.test_trade_by_hand import Told


class Shaped(Told):
    """A strategy whose structure of the moment differs from what its conditions allow."""

    universe = ("SPY",)

    def structure_now(self, symbol: str, context: Context) -> Verdict | None:
        return condor(at_ns=context.at_ns)


def asked(house: House) -> OperatorAnswered:
    strategy = Shaped()
    strategy.says = {"SPY": NoSignal("breakout", "SPY", "after_entry_window", {})}
    house.engine.bus.subscribe(StrategyRunner((strategy,)).handlers())
    return answer(house.tell(request(Evaluate("breakout", structure=True))))


def judged(house: House) -> Report:
    found = asked(house)
    return report({"breakout": (found.ok, found.text, found.facts)})


def failing(found: Report) -> dict[str, str]:
    return {check.name: check.seen for check in found.checks if not check.ok}


def test_everything_holds_and_the_structure_fits() -> None:
    found = judged(StructureHouse())
    assert (found.go, found.reasons, failing(found)) == (True, (), {})
    (need,) = found.needs
    assert (need.strategy, need.symbol, need.structure, need.net_mid_usd) == ("breakout", "SPY", NAME, "-1.00")
    # Twice a credit of 1.00 is 200: at 2 % of equity 10,000; 404 at worst at 5 % 8,080.
    assert (need.max_loss_usd, need.planned_loss_usd) == ("404.00", "200.00")
    assert (need.equity_needed_usd, need.needed_by) == ("10000.00", "trade_loss")
    assert need.break_evens == ("584.04", "615.96")
    assert (need.fits, need.contracts_now, need.why) == (True, 10, "")
    assert {check.name for check in found.checks} >= {
        "options level",
        "buying power",
        "clock",
        "calendar",
        "stock feed",
    }


def test_a_small_account_gets_the_figure_and_a_no() -> None:
    found = judged(StructureHouse(cash="9999"))
    (need,) = found.needs
    assert (need.fits, need.equity_needed_usd, need.contracts_now) == (False, "10000.00", 0)
    assert "trade_loss" in need.why
    assert found.reasons == ("no structure of any strategy fits the account now",)
    assert judged(StructureHouse(cash="10000")).go


def test_looking_changes_nothing_and_asks_without_the_entry_conditions() -> None:
    house = StructureHouse()
    found = asked(house)
    assert found.facts["verdicts"][0]["contract"] == NAME
    assert [leg["side"] for leg in found.facts["verdicts"][0]["legs"]] == ["buy", "sell", "sell", "buy"]
    assert (of(SubmitOrder, house.all), of(OrderFilled, house.all)) == ([], [])
    assert answer(house.tell(request(Evaluate("breakout"), "r2"))).facts["verdicts"][0]["verdict"] == "no_signal"
    assert "house" not in answer(house.tell(request(Evaluate("breakout"), "r3"))).facts


@pytest.mark.parametrize(
    ("change", "check", "seen"),
    [
        ({"options_level": 2}, "options level", "2"),
        ({"options_level": None}, "options level", "unknown"),
        ({"options_buying_power_usd": None}, "buying power", "unknown USD"),
        ({"options_buying_power_usd": Decimal(0)}, "buying power", "0.00 USD"),
        ({"trading_blocked": True}, "account", "blocked"),
        ({"trading_blocked": None}, "account", "unknown"),
    ],
)
def test_what_the_account_lacks_is_a_no(change: dict[str, Any], check: str, seen: str) -> None:
    house = StructureHouse()
    house.tell(account(house.at_ns, **change))
    found = judged(house)
    assert not found.go
    assert failing(found) == {check: seen}


def test_a_feed_that_is_down_an_old_report_and_a_clock_that_differs_are_named() -> None:
    house = StructureHouse()
    house.wait(151)
    house.requote()
    house.spot(600.0)
    house.tell(FeedChanged(Feed.OPTION, 2, FeedState.DOWN, "closed"))
    assert failing(judged(house)) == {"account report": "151 s old", "option feed": "down"}
    late = StructureHouse()
    made = msgspec.structs.replace(late.market.quote("SPY"), quoted_ns=late.at_ns - 20 * 10**9)
    late.tell(made)
    assert failing(judged(late)) == {"clock": "SPY +20.0 s"}


def test_outside_the_session_nothing_is_known_and_the_time_is_told() -> None:
    house = StructureHouse()
    house.at_ns = TABLE.sessions[1].open_ns - 90 * 60 * 10**9
    house.wait(0)
    found = judged(house)
    assert not found.go
    assert failing(found)["calendar"] == "session of 2026-01-06, opens in 90 min"


def test_a_strategy_that_the_daemon_does_not_know_is_a_no() -> None:
    found = report({"nobody": (False, "no strategy nobody is configured", {})})
    assert not found.go
    assert [check.name for check in found.checks if not check.ok] == ["nobody", "daemon"]


def test_a_structure_that_cannot_be_named_says_why() -> None:
    verdict = {"symbol": "SPY", "verdict": "no_data", "reason": "fresh_chain", "facts": {}}
    need = report({"breakout": (True, "", {"verdicts": [verdict]})}).needs[0]
    assert (need.structure, need.fits, need.why) == (None, None, "no data: fresh chain")


def test_a_structure_without_quotes_is_named_as_not_checked_beside_a_go() -> None:
    found = asked(StructureHouse())
    quiet = {"symbol": "QQQ", "verdict": "no_data", "reason": "fresh_option_quotes", "facts": {}}
    other = {**found.facts, "verdicts": [quiet]}
    both = report({"breakout": (True, "", found.facts), "iron_condor": (True, "", other)})
    assert (both.go, both.not_checked) == (True, ("iron_condor QQQ: no data: fresh option quotes",))
    need = both.needs[1]
    assert (need.checked, need.fits) == (False, None)
    assert "until its entry window ends" in need.priced_when
    alone = report({"iron_condor": (True, "", other)})
    assert (alone.go, len(alone.not_checked)) == (False, 1)


def test_what_is_not_checked_is_printed_with_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(StructureHouse())
    quiet = {"symbol": "QQQ", "verdict": "no_data", "reason": "fresh_option_quotes", "facts": {}}
    _show(report({"breakout": (True, "", {**found.facts, "verdicts": [*found.facts["verdicts"], quiet]})}))
    told = capsys.readouterr().out
    assert "breakout QQQ: could not be priced now (no data: fresh option quotes); its options are quoted" in told
    assert told.endswith("go, with 1 not checked:\n  not checked: breakout QQQ: no data: fresh option quotes\n")


def test_amounts_are_told_to_the_cent_and_never_in_our_favour() -> None:
    found = asked(StructureHouse())
    (verdict,) = found.facts["verdicts"]
    figures = {"net_mid_usd": "778.4000", "max_loss_usd": "404.001", "equity_needed_usd": "9000.0001"}
    other = {**verdict, "prospects": {**verdict["prospects"], **figures}}
    (need,) = report({"breakout": (True, "", {**found.facts, "verdicts": [other]})}).needs
    assert (need.net_mid_usd, need.max_loss_usd, need.equity_needed_usd) == ("778.40", "404.01", "9000.01")


def test_without_a_daemon_there_are_no_figures(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["preflight", "--state", str(tmp_path)])
    assert isinstance(done.exception, NoDaemonError)
    assert "start it with: oracle run" in str(done.exception)
    assert done.stdout == ""

"""Why it did not trade: every evaluation counts, told or not, live and read back from a journal."""

import asyncio
import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oracle.cli.root import app
from oracle.core.errors import ConfigurationError
from oracle.core.message import Message
from oracle.core.messages import (
    Intent,
    JournalOpened,
    LatchChanged,
    NoData,
    NoSignal,
    Reevaluated,
    SessionOpened,
    Stamped,
    StrategyFailed,
    TimerFired,
)
from oracle.evaluated import last_picture
from oracle.evaluations import Evaluations, conditions, reasons_in_words, why_not
from oracle.metrics.catalogue import Labels
from oracle.metrics.observer import Observer
from oracle.store import read
from oracle.store.journal import JournalWriter, journal_path
from oracle.store.sqlite import Store
from oracle.strategy_report import break_evens, report
from tests.unit.builders import intent
from tests.unit.store_day import DATE, T0, S, turns

QUIET = NoSignal("breakout", "SPY", "inside_range", {"close": 600.0, "rsi_holds": False})
CLOSER = NoSignal("breakout", "SPY", "inside_range", {"close": 601.0, "rsi_holds": True})
BLIND = NoData("condor", "QQQ", "chain", {})
LATE = NoSignal("breakout", "SPY", "after_entry_window", {})


def folded(*messages: Message) -> Evaluations:
    seen = Evaluations({"breakout": ("SPY",), "condor": ("QQQ",)}, "0.65")
    for n, message in enumerate(messages):
        seen.take((message,), n)
    return seen


def test_told_and_untold_evaluations_count_and_the_newest_is_shown() -> None:
    seen = folded(SessionOpened(DATE, 1, 2), QUIET, Reevaluated(CLOSER), BLIND, Reevaluated(CLOSER))
    spy, qqq = sorted(seen.rows(), key=lambda row: row["symbol"], reverse=True)
    assert (spy["at_ns"], spy["since_ns"], spy["outcome"], spy["reason"]) == (4, 1, "no_signal", "inside_range")
    assert spy["facts"] == CLOSER.facts
    assert spy["conditions"] == {"rsi": True}
    assert spy["session"] == {"no_signal:inside_range": 3}
    assert qqq["session"] == {"no_data:chain": 1}
    assert seen.picture()["strategies"] == {"breakout": ["SPY"], "condor": ["QQQ"]}


def test_the_last_one_that_judged_the_market_outlives_the_window() -> None:
    (row,) = folded(QUIET, LATE, Reevaluated(LATE)).rows()
    assert row["reason"] == "after_entry_window"
    assert row["judged"] == {"at_ns": 0, "outcome": "no_signal", "reason": "inside_range", "facts": QUIET.facts}
    assert reasons_in_words(row["session"]) == ["2x after entry window", "1x inside range"]


def test_a_new_session_begins_anew_and_the_same_one_does_not() -> None:
    opened = SessionOpened(DATE, 1, 2)
    assert folded(opened, QUIET, opened).rows() != []
    assert folded(opened, QUIET, SessionOpened("2026-01-21", 1, 2)).rows() == []
    assert folded(StrategyFailed("condor", "ValueError: x")).picture()["failed"] == {"condor": "ValueError: x"}


def test_an_intent_is_told_in_its_own_words() -> None:
    (row,) = folded(intent()).rows()
    assert why_not(row) == "wants to trade: it broke out"
    assert row["session"] == {"intent": 1}
    assert why_not(folded(BLIND).rows()[0]) == "no data: chain"
    assert conditions({"a_holds": True, "b_holds": None, "rsi": 3.0}) == {"a": True}


# ------------------------------------------------------------------------------------------------ a state folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A stopped daemon's folder: the store of a day, and a journal with evaluations."""

    async def fill() -> None:
        store = await Store.open(tmp_path, "sim", T0, token="tok", feed="indicative")
        for stamped, out in turns():
            await store.commit(out, stamped)
        await store.close()

    asyncio.run(fill())
    config = json.dumps({"fees": {"modelled_per_contract_usd": "0.65"}}).encode()
    names = {"opening_range_breakout": "hash", "condor": "hash"}
    journal = JournalWriter(
        journal_path(tmp_path, T0), JournalOpened("b", "sim", "fp", T0, b"", config, strategies=names)
    )  # fmt: skip
    out: list[Message] = [SessionOpened(DATE, T0, T0 + 100 * S), BLIND, Reevaluated(BLIND)]
    journal.write_input(Stamped(1, T0, TimerFired("x", T0)))
    journal.write_outputs(1, out)
    journal.write_input(Stamped(2, T0 + 60 * S, TimerFired("x", T0)))
    journal.write_outputs(2, (Reevaluated(BLIND),))
    journal.close()
    return tmp_path


def test_a_journal_gives_the_picture_of_the_run_that_wrote_it(state: Path) -> None:
    picture = last_picture(state)
    assert picture is not None
    assert (picture["date"], picture["at_ns"], picture["fee_usd"]) == (DATE, T0 + 60 * S, "0.65")
    assert picture["evaluations"][0]["session"] == {"no_data:chain": 3}
    empty = JournalWriter(journal_path(state, T0 + 200 * S), JournalOpened("b", "sim", "fp", T0, b""))
    empty.close()
    assert last_picture(state) == picture, "a start without an evaluation is passed over"


def test_a_torn_journal_is_told_as_far_as_it_goes(state: Path) -> None:
    (path,) = (state / "journal").glob("*.oj")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"Reevaluated") - 40])
    picture = last_picture(state)
    assert picture is not None
    assert picture["evaluations"][0]["session"] == {"no_data:chain": 2}


def test_the_report_joins_evaluations_with_the_store(state: Path) -> None:
    picture = last_picture(state)
    assert picture is not None
    with read.reading(state) as db:
        condor, breakout = report(db, picture)
        with pytest.raises(ConfigurationError, match="no strategy gamma is configured"):
            report(db, picture, "gamma")
    assert (condor["name"], condor["state"], condor["why"]) == ("condor", "halted", "day_loss")
    assert condor["trades"] == condor["intents"] == []
    assert condor["break_even"] == {"bound": None, "realised": None, "win_rate": None, "trades": 0}
    assert breakout["evaluations"] == []
    assert breakout["trades"]
    assert 0 < breakout["break_even"]["bound"] < 1


def test_a_backtest_that_closed_what_was_open_at_its_end_is_ended_and_not_halted(state: Path) -> None:
    """Its end uses the operator's flatten; a reader of the day should not look for the person who halted it."""

    async def end(why: str) -> None:
        store = await Store.open(state, "sim", T0, token="tok", feed="indicative")
        day = LatchChanged("day_loss", False, "session", "", "", None, T0)
        latches = (LatchChanged(name, True, why, "", "", None, T0) for name in ("operator", "flatten"))
        await store.commit((day, *latches), Stamped(10**6, T0 + 200 * S, TimerFired("x", T0)))
        await store.close()

    picture = last_picture(state)
    assert picture is not None
    for why, told in (
        ("backtest: end_of_data", ("ended", "the backtest's data had ended and what was open was closed")),
        ("ann: rain", ("halted", "operator, flatten")),
    ):
        asyncio.run(end(why))
        with read.reading(state) as db:
            assert (report(db, picture)[0]["state"], report(db, picture)[0]["why"]) == told
    assert "halted (operator, flatten)" in CliRunner().invoke(app, ["strategies", "--state", str(state)]).output


def test_the_command_prints_tables_and_json(state: Path) -> None:
    shown = CliRunner().invoke(app, ["strategies", "--state", str(state)])
    assert shown.exit_code == 0, shown.output
    assert "condor: halted (day_loss)" in shown.output
    assert "no data: chain" in shown.output
    assert "3x no data: chain" in shown.output
    told = CliRunner().invoke(app, ["strategies", "condor", "--state", str(state), "--json"])
    (row,) = json.loads(told.output)["strategies"]
    assert row["evaluations"][0]["reason"] == "chain"
    bare = state / "none"
    bare.mkdir()
    assert isinstance(CliRunner().invoke(app, ["strategies", "--state", str(bare)]).exception, ConfigurationError)


def test_both_break_evens_come_from_stored_trades() -> None:
    plan = {
        "target_fraction": 0.5, "stop_fraction": 2.0, "breakeven_after_fraction": None, "underlying_target": None,
        "underlying_stop": None, "direction": 0, "flat_ns": 1, "short_delta_stop": 0.4,
    }  # fmt: skip
    name = "SPY:-260105C610+260105C615+260105P585-260105P590"
    rows = [
        {"net_pnl_usd": result, "entry_price_usd": -1.0, "expected_entry_usd": -1.0, "exit_plan": plan, "symbol": name}
        for result in (44.8, -205.2, 44.8)
    ]
    found = break_evens(rows, "0.65")
    assert found["bound"] == pytest.approx(0.8208, abs=1e-4)
    assert found["realised"] == pytest.approx(0.8208, abs=1e-4)
    assert (found["win_rate"], found["trades"]) == (pytest.approx(2 / 3), 3)
    assert break_evens(rows, None)["bound"] is None
    # A credit of 2.00 stopped at twice itself would lose 400, and the structure cannot lose more than 300.
    rich = {**rows[0], "entry_price_usd": -2.0}
    assert break_evens([rich], "0.00")["bound"] == pytest.approx(300 / (100 + 300))


# ----------------------------------------------------------------------------------------------------- the gauges


def value(observer: Observer, name: str, **labels: str) -> float | None:
    return observer.registry.get_sample_value(name, labels)


def test_the_gauges_show_the_newest_evaluation_and_nothing_older() -> None:
    observer = Observer(Labels(strategy=("breakout",), underlying=("SPY",)), {"version": "1"}, T0)
    stamped = Stamped(1, T0, TimerFired("x", T0))
    whose = {"strategy": "breakout", "symbol": "SPY"}
    observer.observe_turn(stamped, (QUIET,))
    assert value(observer, "oracle_strategy_condition", **whose, condition="rsi") == 0
    assert value(observer, "oracle_strategy_value", **whose, value="close") == 600.0
    assert value(observer, "oracle_strategy_last_evaluation", **whose, outcome="no_signal") == 1
    observer.observe_turn(stamped, (Reevaluated(CLOSER),))
    assert value(observer, "oracle_strategy_condition", **whose, condition="rsi") == 1
    assert value(observer, "oracle_evaluations_total", strategy="breakout", outcome="no_signal") == 2
    observer.observe_turn(stamped, (NoData("breakout", "SPY", "rsi", {}),))
    found = value(observer, "oracle_strategy_condition", **whose, condition="rsi")
    assert found is not None
    assert math.isnan(found)
    assert value(observer, "oracle_strategy_last_evaluation", **whose, outcome="no_signal") == 0
    assert isinstance(intent(), Intent)

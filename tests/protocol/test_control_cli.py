"""What a person reads: the commands against a real socket, with answers as the core makes them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click.testing
import pytest
import typer.main

from oracle.cli.root import app
from oracle.console.control import ControlServer, socket_path
from oracle.core.control import (
    AdoptOrder,
    AdoptPosition,
    Ask,
    Evaluate,
    Flatten,
    Halt,
    Note,
    Reconcile,
    Resume,
    Switch,
    Trade,
)
from oracle.core.engine import Turn
from oracle.core.errors import ConfigurationError, RemoteError
from oracle.core.messages import OperatorAnswered, OperatorRequested, Stamped, TimerFired
from tests.end_to_end.commands import ORACLE

CALL = "SPY260105C00600000"
DECISION = {
    "approved": True, "contracts": 4, "bound_by": "trade_loss", "worst_price_usd": "10.00",
    "planned_risk_usd": "2000.00", "worst_case_usd": "4000.00", "equity_usd": "100000",
    "equity_needed_usd": "25000", "refusals": [],
}  # fmt: skip
INTENT = {
    "symbol": "SPY", "verdict": "intent", "reason": "SPY closed above its range", "facts": {}, "intent_id": "i",
    "contract": CALL, "side": "buy", "bid_usd": "9.95", "ask_usd": "10.00", "confidence": 0.8,
    "exit_plan": {"target_fraction": 0.5, "stop_fraction": 0.4}, "decision": DECISION,
}  # fmt: skip
REFUSED = {
    **INTENT, "symbol": "QQQ",
    "decision": {
        **DECISION, "approved": False, "contracts": 0,
        "refusals": [{"rule": "trading_state", "observed": "halted (operator)", "limit": "active"}],
    },
}  # fmt: skip
QUIET = {"symbol": "IWM", "verdict": "no_signal", "reason": "inside_range", "facts": {}}


class Desk:
    """A socket whose answers a test chooses; commands run in a thread, as the server needs the loop."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.asked: list[Ask] = []
        self.answers: list[tuple[bool, str, dict[str, Any]]] = []
        self.server = ControlServer(socket_path(state), self.take)

    def take(self, request: OperatorRequested) -> None:
        self.asked.append(request.ask)
        ok, text, facts = self.answers.pop(0)
        out = OperatorAnswered(request.request_id, "x", request.who, request.why, ok, True, text, facts, 1)
        turn = Turn(Stamped(1, 1, TimerFired("x", 1)), (out,))
        asyncio.get_running_loop().call_soon(self.server.on_turn, turn)

    async def oracle(self, *arguments: str) -> click.testing.Result:
        command = typer.main.get_command(app)
        given = [*arguments, "--state", str(self.state)]
        return await asyncio.to_thread(click.testing.CliRunner().invoke, command, given)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    one = Desk(tmp_path)
    await one.server.start()
    yield one
    await one.server.stop()


@pytest.mark.parametrize(
    ("arguments", "ask"),
    [
        (("halt", "--why", "x"), Halt()),
        (("flatten",), Flatten()),
        (("resume",), Resume()),
        (("resume", "--latch", "drawdown"), Resume("drawdown")),
        (("disable", "orb"), Switch("orb", False)),
        (("enable", "orb"), Switch("orb", True)),
        (("reconcile",), Reconcile()),
        (("note", "the feed was slow"), Note("the feed was slow")),
        (("note", "x", "--session", "2026-01-05"), Note("x", "2026-01-05")),
        (("adopt", "--order", "abc"), AdoptOrder("abc")),
        (("adopt", "--position", CALL, "--stop-fraction", "0.5"), AdoptPosition((CALL,), 0.5)),
        (
            (
                *("adopt", "--position", CALL, "--position", "X", "--stop-fraction", "0.5"),
                *("--target-fraction", "2", "--flat-at", "12:30"),
            ),
            AdoptPosition((CALL, "X"), 0.5, 2.0, "12:30"),
        ),
    ],
)
async def test_each_command_asks_for_what_it_says(arguments: tuple[str, ...], ask: Ask, desk: Desk) -> None:
    desk.answers = [(True, "done", {})]
    done = await desk.oracle(*arguments)
    assert (done.exit_code, done.output) == (0, "done\n")
    assert desk.asked == [ask]


@pytest.mark.parametrize("wrong", [("note", ""), ("note", "x" * 1001), ("note", "x", "--session", "yesterday")])
async def test_a_note_that_cannot_be_kept_is_refused_before_it_is_sent(wrong: tuple[str, ...], desk: Desk) -> None:
    done = await desk.oracle(*wrong)
    assert isinstance(done.exception, ConfigurationError)
    assert desk.asked == []


async def test_a_stopped_daemon_takes_no_notes_and_it_is_said_why(tmp_path: Path) -> None:
    done = await Desk(tmp_path / "nobody").oracle("note", "x")
    assert isinstance(done.exception, RemoteError)
    assert "note it again once it runs" in str(done.exception)


async def test_a_no_is_told_with_what_the_broker_shows_and_ends_with_1(desk: Desk) -> None:
    facts = {
        "differences": ["cash: 1 USD at the broker, 2 USD by the ledger"],
        "positions": [
            {"symbol": CALL, "qty": "3", "avg_price_usd": "1.5", "by_ledger": 0, "trade_id": None, "ours": False},
            {"symbol": "B", "qty": "1", "avg_price_usd": "2", "by_ledger": 1, "trade_id": "t-1", "ours": True},
        ],
        "orders": [
            {"client_order_id": "abc", "symbol": CALL, "qty": "1", "side": "buy", "status": "new", "ours": False}
        ],
        "executions": [{"execution_id": "e1", "symbol": CALL, "side": "buy", "qty": "3", "price_usd": "1.5"}],
    }
    desk.answers = [(False, "1 differences", facts)]
    done = await desk.oracle("reconcile")
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "1 differences",
        "  difference: cash: 1 USD at the broker, 2 USD by the ledger",
        f"  position: 3 {CALL} at 1.5 (not ours)",
        "  position: 1 B at 2 (t-1)",
        f"  order: buy 1 {CALL}, new, abc (not ours)",
        f"  execution of others: buy 3 {CALL} at 1.5 (e1)",
    ]
    assert "\x1b" not in done.output


def test_a_flatten_without_a_daemon_names_the_way_without_one(tmp_path: Path) -> None:
    done = click.testing.CliRunner().invoke(typer.main.get_command(app), ["flatten", "--state", str(tmp_path)])
    assert "no daemon answers" in str(done.exception)
    assert "oracle flatten --direct" in str(done.exception)
    done = click.testing.CliRunner().invoke(typer.main.get_command(app), ["halt", "--state", str(tmp_path)])
    assert "no daemon answers" in str(done.exception)
    assert "--direct" not in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("adopt",), "--position SYMBOL or --order ID"),
        (("adopt", "--order", "a", "--position", "b"), "--position SYMBOL or --order ID"),
        (("adopt", "--position", CALL), "--stop-fraction 0.5"),
        (("adopt", "--position", CALL, "--stop-fraction", "1.5"), "stop_fraction"),
        (("adopt", "--position", CALL, "--stop-fraction", "0.5", "--flat-at", "3pm"), "flat_at"),
    ],
)
async def test_arguments_that_make_no_sense_are_told_before_anything_is_asked(
    arguments: tuple[str, ...], words: str, desk: Desk
) -> None:
    done = await desk.oracle(*arguments)
    assert isinstance(done.exception, ConfigurationError)
    assert words in str(done.exception)
    assert desk.asked == []


async def test_a_look_shows_intents_refusals_and_reasons_and_sends_nothing_without_a_yes(desk: Desk) -> None:
    desk.answers = [(True, "it would trade SPY, QQQ", {"verdicts": [INTENT, REFUSED, QUIET]})]
    done = await desk.oracle("trade", "orb")
    assert done.exit_code == 0
    assert desk.asked == [Evaluate("orb")]
    lines = done.output.splitlines()
    assert "    buy SPY260105C00600000, quoted 9.95 x 10.00, confidence 0.8" in lines
    assert "    exits: stop -40%, target +50%" in lines
    assert any("risk says yes: 4 contracts (bound by trade_loss), at most 10.00 USD each" in one for one in lines)
    assert "      trading_state: halted (operator) (limit active)" in lines
    assert "  IWM: inside range" in lines
    assert lines[-1] == f"not sent: no terminal to ask on; add --yes to send {CALL}"


async def test_a_yes_sends_what_was_approved_and_nothing_else(desk: Desk) -> None:
    looked = (True, "it would trade SPY, QQQ", {"verdicts": [INTENT, REFUSED, QUIET]})
    desk.answers = [looked, (True, "sent: 4", {"verdicts": [INTENT]})]
    done = await desk.oracle("trade", "orb", "--yes")
    assert done.exit_code == 0
    assert desk.asked == [Evaluate("orb"), Trade("orb", "SPY", CALL)]
    desk.answers = [looked, (False, "refused: feeds", {})]
    assert (await desk.oracle("trade", "orb", "--yes", "--json")).exit_code == 1


async def test_a_script_gets_one_document_for_two_underlyings(desk: Desk) -> None:
    looked = (True, "it would trade SPY, QQQ", {"verdicts": [INTENT, {**INTENT, "symbol": "QQQ"}]})
    desk.answers = [looked, (True, "sent: 4", {"n": 1}), (False, "refused: feeds", {"n": 2})]
    done = await desk.oracle("trade", "orb", "--yes", "--json")
    assert done.exit_code == 1
    told = json.loads(done.output)
    assert (told["ok"], told["done"], told["text"]) == (False, True, "sent: 4; refused: feeds")
    assert [(one["ok"], one["facts"]) for one in told["facts"]["answers"]] == [(True, {"n": 1}), (False, {"n": 2})]


async def test_a_no_to_one_underlying_does_not_keep_the_next_from_being_sent(desk: Desk) -> None:
    looked = (True, "it would trade SPY, QQQ", {"verdicts": [INTENT, {**INTENT, "symbol": "QQQ"}]})
    desk.answers = [looked, (False, "refused: feeds", {}), (True, "sent: 4", {})]
    done = await desk.oracle("trade", "orb", "--yes")
    assert done.exit_code == 1
    assert desk.asked[1:] == [Trade("orb", "SPY", CALL), Trade("orb", "QQQ", CALL)]
    assert done.output.splitlines()[-2:] == ["refused: feeds", "sent: 4"]


async def test_with_nothing_to_send_a_script_is_told_by_the_exit_code(desk: Desk) -> None:
    quiet = (True, "it would not trade now", {"verdicts": [QUIET]})
    desk.answers = [quiet, quiet, quiet, (False, "no strategy orb", {})]
    assert (await desk.oracle("trade", "orb")).exit_code == 0
    assert (await desk.oracle("trade", "orb", "--yes")).exit_code == 1
    assert (await desk.oracle("trade", "orb", "--json")).exit_code == 0
    assert (await desk.oracle("trade", "orb")).exit_code == 1


@pytest.mark.parametrize(("typed", "asked"), [(b"y\n", 2), (b"\n", 1)])
async def test_on_a_terminal_a_person_is_asked_and_silence_is_no(typed: bytes, asked: int, desk: Desk) -> None:
    looked = (True, "it would trade SPY", {"verdicts": [INTENT]})
    desk.answers = [looked, (True, "sent: 4", {"verdicts": [INTENT]})]
    master, slave = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *ORACLE, "trade", "orb", "--state", str(desk.state), stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    os.write(master, typed)
    assert await process.wait() == 0
    said = os.read(master, 65536).decode()
    os.close(master)
    assert f"send it: buy 4 {CALL}? [y/N]" in said
    assert ("sent: 4" in said) == (asked == 2)
    assert len(desk.asked) == asked


async def test_preflight_asks_for_the_strategies_that_the_daemon_runs_with(tmp_path: Path) -> None:
    """Whatever the settings of the shell that it is typed in say."""
    desk, watched = Desk(tmp_path), {"iron_condor": ["SPY"], "mine": ["IWM"]}
    desk.server = ControlServer(socket_path(tmp_path), desk.take, {"strategies": lambda: {"strategies": watched}})
    await desk.server.start()
    house = {"house": None, "verdicts": [QUIET]}
    desk.answers = [(True, "looked", house), (True, "looked", house)]
    done = await desk.oracle("preflight")
    await desk.server.stop()
    assert desk.asked == [Evaluate("iron_condor", structure=True), Evaluate("mine", structure=True)]
    assert done.exit_code == 1
    assert "mine IWM: no structure now (inside range)" in done.stdout

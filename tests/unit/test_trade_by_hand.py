"""``oracle trade`` in the core: looking changes nothing, sending goes through the gate, switched off means off."""

from typing import Any

import msgspec
import pytest

from oracle.core.control import Evaluate, Trade
from oracle.core.marketdata import Bar
from oracle.core.message import Message
from oracle.core.messages import (
    Intent,
    IntentApproved,
    LatchChanged,
    NoData,
    NoSignal,
    OperatorAnswered,
    SendOrder,
    SessionOpened,
    StrategyFailed,
    SubmitOrder,
    TradeEvaluated,
)
from oracle.core.ports import Context
from oracle.strategies.base import Strategy, StrategyParams, Verdict
from oracle.strategies.runner import StrategyRunner
from tests.unit.builders import CALL, OPEN_NS, OTHER_CALL, TABLE, House, bar, intent, of, one
from tests.unit.test_risk_operator import answer, request


class Told(Strategy):
    """A strategy that says what a test tells it to say."""

    name = "breakout"
    Params = StrategyParams
    universe = ("SPY", "QQQ")
    warmup_sessions = 0
    max_expiry_sessions = 0

    def __init__(self) -> None:
        super().__init__(StrategyParams(), "hash")
        self.says: dict[str, Verdict | None] = {}
        self.error: Exception | None = None
        self.seen: list[Bar] = []
        self.sent: list[str] = []

    def on_warmup_bar(self, bar: Bar, context: Context) -> None:
        self.seen.append(bar)

    def evaluate(self, symbol: str, context: Context) -> Verdict | None:
        if self.error is not None:
            raise self.error
        return self.says.get(symbol)

    def on_intent_sent(self, intent_id: str) -> None:
        self.sent.append(intent_id)


def staged() -> tuple[House, Told, StrategyRunner]:
    house, strategy = House(), Told()
    runner = StrategyRunner((strategy,))
    house.engine.bus.subscribe(runner.handlers())
    strategy.says = {"SPY": intent(), "QQQ": NoSignal("breakout", "QQQ", "inside_range", {"rsi": 51.0})}
    return house, strategy, runner


def memory(house: House, strategy: Told) -> Any:
    """Everything that a look must not change."""
    gate = house.gate
    return (
        set(gate._book.decided), dict(gate._book.working), gate._names._sequence, gate._names._last_decision,
        list(strategy.sent), house.ledger.cash_usd, gate._decided,
    )  # fmt: skip


def test_a_look_shows_intent_and_decision_and_changes_nothing() -> None:
    house, strategy, _ = staged()
    before = memory(house, strategy)
    out = house.tell(request(Evaluate("breakout")))
    assert {type(m) for m in out} == {TradeEvaluated, OperatorAnswered}
    done = answer(out)
    spy, qqq = done.facts["verdicts"]
    assert (done.ok, done.text) == (True, "it would trade SPY")
    assert (spy["contract"], spy["side"], spy["bid_usd"], spy["ask_usd"]) == (CALL, "buy", "9.95", "10.00")
    assert spy["decision"] == {
        "approved": True, "contracts": 4, "bound_by": "trade_loss", "worst_price_usd": "10.00",
        "planned_risk_usd": "2000.00", "worst_case_usd": "4000.00", "equity_usd": "100000",
        "equity_needed_usd": spy["decision"]["equity_needed_usd"], "refusals": [],
    }  # fmt: skip
    assert (qqq["verdict"], qqq["reason"], qqq["facts"]) == ("no_signal", "inside_range", {"rsi": 51.0})
    assert memory(house, strategy) == before
    # The same intent is not a duplicate afterwards, and a second look says the same.
    assert answer(house.tell(request(Evaluate("breakout"), "r2"))).facts == done.facts


def test_a_look_tells_why_risk_would_refuse() -> None:
    house, _, _ = staged()
    house.tell(LatchChanged("drawdown", True, "r", "o", "l", None, house.at_ns))
    spy = answer(house.tell(request(Evaluate("breakout", "SPY")))).facts["verdicts"][0]
    assert not spy["decision"]["approved"]
    assert spy["decision"]["contracts"] == 0
    assert {"rule": "trading_state", "observed": "halted (drawdown)", "limit": "active"} in spy["decision"]["refusals"]


def test_a_yes_sends_the_intent_through_the_gate() -> None:
    house, strategy, _ = staged()
    out = house.tell(request(Trade("breakout", "SPY", CALL)))
    assert [type(m) for m in out[:2]] == [Intent, TradeEvaluated]
    assert one(IntentApproved, out).contracts == 4
    assert (one(SubmitOrder, out).strategy, one(SendOrder, out).symbol) == ("breakout", CALL)
    done = answer(out)
    assert (done.ok, done.text) == (True, f"sent: 4 of {CALL}, bound by trade_loss")
    assert strategy.sent == [intent().intent_id]
    again = answer(house.tell(request(Trade("breakout", "SPY", CALL), "r2")))
    assert not again.ok
    assert "duplicate_intent" in again.text


def test_what_has_changed_since_the_yes_is_not_sent() -> None:
    house, strategy, _ = staged()
    strategy.says["SPY"] = msgspec.structs.replace(
        intent(), legs=(msgspec.structs.replace(intent().legs[0], symbol=OTHER_CALL),)
    )
    out = house.tell(request(Trade("breakout", "SPY", CALL)))
    assert f"now chooses {OTHER_CALL} instead of {CALL}" in answer(out).text
    strategy.says["SPY"] = NoData("breakout", "SPY", "rsi", {})
    assert "(no data: rsi)" in answer(house.tell(request(Trade("breakout", "SPY", CALL), "r2"))).text
    strategy.says["SPY"] = None
    assert "(watched_only)" in answer(house.tell(request(Trade("breakout", "SPY", CALL), "r3"))).text
    house.wait((TABLE.sessions[0].close_ns - house.at_ns) / 1e9 + 60)
    assert "(outside_session)" in answer(house.tell(request(Trade("breakout", "SPY", CALL), "r4"))).text
    assert strategy.sent == []
    assert of(SubmitOrder, house.all) == []


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Evaluate("breakot"), "there are: breakout"),
        (Evaluate("breakout", "IWM"), "it watches: SPY, QQQ"),
        (Trade("breakot", "SPY", CALL), "there are: breakout"),
    ],
)
def test_an_unknown_name_is_answered_with_those_that_are_known(ask: Any, words: str) -> None:
    house, _, _ = staged()
    done = answer(house.tell(request(ask)))
    assert (done.ok, words in done.text) == (False, True)


def test_a_strategy_that_raises_when_looked_at_is_not_halted_by_the_look() -> None:
    house, strategy, _ = staged()
    strategy.error = ValueError("odd")
    out = house.tell(request(Evaluate("breakout")))
    assert "raised ValueError: odd" in answer(out).text
    assert of(StrategyFailed, out) == []
    house.tell(bar(600.0, OPEN_NS))
    assert of(StrategyFailed, house.all) != []
    assert "resume --latch strategy_failed:breakout" in answer(house.tell(request(Evaluate("breakout"), "r2"))).text


def test_a_strategy_that_is_switched_off_stays_warm_and_says_once_why() -> None:
    house, strategy, runner = staged()
    off = LatchChanged("strategy_disabled:breakout", True, "", "", "", None, house.at_ns)
    house.tell(off)
    bars = [bar(600.0 + n, OPEN_NS + n * 60_000_000_000) for n in range(3)]
    said: list[Message] = [m for one_bar in bars for m in house.tell(one_bar)]
    assert strategy.seen == bars
    assert [m.reason for m in of(NoSignal, said)] == ["disabled"]
    assert of(Intent, said) == []
    house.tell(bar(603.0, OPEN_NS, "IWM"))
    assert strategy.seen == bars  # not of its universe
    # A look still shows what it would do, and that risk would refuse it.
    spy = answer(house.tell(request(Evaluate("breakout", "SPY")))).facts["verdicts"][0]
    assert "strategy_disabled" in [r["rule"] for r in spy["decision"]["refusals"]]
    house.tell(msgspec.structs.replace(off, active=False))
    assert of(Intent, house.tell(bar(604.0, OPEN_NS + 240_000_000_000))) != []
    restarted = StrategyRunner((strategy,))
    restarted.restore((), ("breakout",))
    (told,) = restarted.on_message(bar(605.0, OPEN_NS), house.engine.context())
    assert isinstance(told, NoSignal)
    assert told.reason == "disabled"
    assert list(runner.on_message(SessionOpened("2026-01-05", OPEN_NS, OPEN_NS + 1), house.engine.context())) == []

"""Log lines tell of transitions: each once, with its ids and level; never of ticks."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from oracle.core.engine import Turn
from oracle.core.marketdata import FeedChanged
from oracle.core.message import Message
from oracle.core.messages import (
    EquityMarked,
    ExitTriggered,
    ForeignExecution,
    Input,
    LatchChanged,
    OrderAdvanced,
    OrderFilled,
    PositionSettled,
    Reconciled,
    SetTimer,
    Stamped,
    StrategyFailed,
)
from oracle.core.vocabulary import Ending, Feed, FeedState, OrderState, Purpose, Side
from oracle.eventlog import TABLE, EventLog
from tests.unit.builders import CALL, DATES, FEE, OPEN_NS, account, bar, chain_quotes, entry_order, intent
from tests.unit.test_tally import QUIET, closed


def lines(log: EventLog, *messages: Message, source: Input = QUIET) -> list[Any]:
    """What a turn writes."""
    with capture_logs() as found:
        log.on_turn(Turn(Stamped(5, OPEN_NS, source), messages))
    return found


def test_ticks_bars_marks_and_timers_write_nothing() -> None:
    marked = EquityMarked(DATES[0], 9, "minute", *(Decimal(1) for _ in range(6)), marks_stale=0)
    for source in (QUIET, bar(1.0, OPEN_NS), chain_quotes(), account()):
        assert lines(EventLog(), marked, SetTimer("a:b", 1), source=source) == []


def test_a_line_has_the_turns_number_and_market_time_and_the_ids() -> None:
    fill = OrderFilled(
        "e1", "o", "o-1", "b7", "t1", "breakout", CALL, Side.BUY, Purpose.ENTRY, 4, Decimal("2.00"), Decimal(0), FEE,
        OPEN_NS,
    )  # fmt: skip
    (line,) = lines(EventLog(), fill)
    assert line == {
        "event": "order_filled", "log_level": "info", "seq": 5, "market_time": "2026-01-05T14:30:00+00:00",
        "trade_id": "t1", "client_order_id": "o-1", "broker_order_id": "b7", "execution_id": "e1", "symbol": CALL,
        "side": "buy", "contracts": 4, "price_usd": "2.00", "purpose": "entry",
    }  # fmt: skip


def test_each_transition_of_a_turn_is_one_line_in_order() -> None:
    step = OrderAdvanced("o", "o-1", 1, 0, OrderState.INTENT, OrderState.SENT, 0, "")
    found = lines(EventLog(), intent(1), entry_order(), step, closed())
    assert [line["event"] for line in found] == ["intent", "order_submitted", "order_advanced", "trade_closed"]
    assert (found[2]["from_state"], found[2]["to_state"]) == ("intent", "sent")


def test_reconciling_is_told_at_its_edges_only() -> None:
    log, clean, off = EventLog(), Reconciled(1, "r", ()), Reconciled(2, "r", ("cash: 1 USD",))
    told = [lines(log, message) for message in (clean, clean, off, off, msgspec.structs.replace(off, at_ns=9), clean)]
    assert [[line["log_level"] for line in found] for found in told] == [["info"], [], ["error"], [], [], ["info"]]
    assert told[2][0]["differences"] == ["cash: 1 USD"]
    assert len(lines(log, Reconciled(3, "r", ("cash: 2 USD",)))) == 1


@pytest.mark.parametrize(
    ("state", "level"), [(FeedState.LIVE, "info"), (FeedState.STALE, "info"), (FeedState.DOWN, "error")]
)
def test_feeds_are_told_with_their_level(state: FeedState, level: str) -> None:
    (line,) = lines(EventLog(), source=FeedChanged(Feed.STOCK, 3, state, "why"))
    assert (line["event"], line["log_level"]) == ("feed_changed", level)
    assert (line["feed"], line["state"], line["epoch"], line["reason"]) == ("stock", state.value, 3, "why")


def test_an_account_that_could_not_be_read_is_a_warning() -> None:
    (line,) = lines(EventLog(), source=account(cash=None, text="timed out"))
    assert (line["event"], line["log_level"], line["text"]) == ("account_unread", "warning", "timed out")


def test_a_breaker_is_an_error_when_set_and_news_when_cleared() -> None:
    change = LatchChanged("loss_streak", True, "3 losses", "3", "below 3", DATES[1], 1)
    assert lines(EventLog(), change)[0]["log_level"] == "error"
    (line,) = lines(EventLog(), msgspec.structs.replace(change, active=False))
    assert (line["log_level"], line["active"], line["latch"]) == ("info", False, "loss_streak")


def test_what_an_operator_must_see_is_an_error() -> None:
    foreign = ForeignExecution("e9", "not-ours", CALL, Side.SELL, Decimal(1), Decimal(2))
    found = lines(EventLog(), foreign, StrategyFailed("breakout", "ValueError: x"))
    assert [(line["event"], line["log_level"]) for line in found] == [
        ("foreign_execution", "error"), ("strategy_failed", "error"),
    ]  # fmt: skip


def test_every_event_has_its_own_name() -> None:
    names = [row[0] for row in TABLE.values()]
    assert len(set(names)) == len(names)


def test_an_ending_that_nobody_ordered_is_a_warning_and_a_worthless_expiry_is_not() -> None:
    expired = PositionSettled(
        "s1", "t1", Ending.EXPIRED, CALL, 4, Decimal(0), "", 0, None, Decimal(0), "positions", (), 9
    )
    assigned = PositionSettled(
        "s2", "t1", Ending.ASSIGNED, CALL, 4, Decimal(0), "SPY", -400, Decimal(600), Decimal(0), "activities", ("a",), 9
    )
    first, second = lines(EventLog(), expired, assigned)
    assert (first["event"], first["log_level"], second["log_level"]) == ("position_settled", "info", "warning")
    assert "shares" not in first
    assert (second["ending"], second["shares"], second["share_price_usd"]) == ("assigned", -400, "600")
    (orphan,) = lines(EventLog(), ExitTriggered("t1", "orphan_leg", "4 legs", "none", Purpose.FORCED))
    (stop,) = lines(EventLog(), ExitTriggered("t1", "stop", "1", "2", Purpose.STOP))
    assert (orphan["log_level"], stop["log_level"]) == ("error", "info")

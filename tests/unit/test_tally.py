"""The run's figures are counted from messages and nothing else."""

from decimal import Decimal
from typing import Any

import msgspec

from oracle.core.engine import Turn
from oracle.core.marketdata import Quote
from oracle.core.message import Message
from oracle.core.messages import (
    EquityMarked,
    ExitTriggered,
    Input,
    IntentRefused,
    NoData,
    NoSignal,
    OrderFilled,
    PositionSettled,
    Reconciled,
    Refusal,
    SessionClosed,
    SessionOpened,
    Stamped,
    TradeClosed,
    TradeOpened,
)
from oracle.core.sessions import MINUTE_NS
from oracle.core.vocabulary import Ending, Purpose, Side
from oracle.tally import RECENT, Tally
from tests.unit.builders import CALL, DATES, FEE, OPEN_NS, TABLE, bar, entry_order, intent

QUIET = Quote("QQQ", 1, None, 0, 1.0, 1)


def tell(tally: Tally, *messages: Message, source: Input = QUIET, at_ns: int = 7) -> Tally:
    tally.on_turn(Turn(Stamped(1, at_ns, source), messages))
    return tally


def filled(n: int, fee: str = "0") -> OrderFilled:
    return OrderFilled(
        f"e{n}", "o", "o-1", "b", "t1", "breakout", CALL, Side.BUY, Purpose.ENTRY, 4, Decimal("2.00"), Decimal(fee),
        4 * FEE, OPEN_NS,
    )  # fmt: skip


def closed(trade_id: str = "t1", gross: str = "110.00", **changes: Any) -> TradeClosed:
    made = TradeClosed(
        trade_id, "breakout", "hash", "SPY", CALL, 4, 1, 2, Decimal("2.00"), Decimal("2.275"), Decimal(gross),
        Decimal("0.10"), Decimal("5.20"), None, None, "target",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def test_a_new_tally_knows_nothing() -> None:
    assert Tally().figures() == {
        "sessions": 0, "bars": 0, "intents": 0, "refusals": 0, "orders": 0, "fills": 0, "trades": 0,
        "realized_pnl": "0.00", "fees_broker": "0.00", "equity": None,
    }  # fmt: skip


def test_every_figure_comes_from_its_message() -> None:
    refused = IntentRefused(
        "d", "i", "breakout", "SPY", (Refusal("spread", "1", "0"), Refusal("age", "2", "1")), None, None
    )
    tally = tell(Tally(), intent(1), refused, intent(2), entry_order(), filled(1, "0.04"), filled(2, "0.06"))
    tell(tally, TradeOpened("t1", "breakout", "hash", "SPY", CALL, 5))
    assert list(tally.open_trades) == ["t1"]
    marked = EquityMarked(
        DATES[0], 9, "trade", *(Decimal(n) for n in ("1", "100104.905", "3", "4", "5", "6")), marks_stale=0
    )
    tell(tally, closed(), closed("t2", "-10.00"), marked)
    assert tally.figures() == {
        "sessions": 0, "bars": 0, "intents": 2, "refusals": 1, "orders": 1, "fills": 2, "trades": 2,
        "realized_pnl": "99.80", "fees_broker": "0.10", "equity": "100104.90",
    }  # fmt: skip
    assert tally.open_trades == {}
    assert tally.fees_modelled_usd == Decimal("10.40")
    assert tally.refusals_by_rule == {"spread": 1, "age": 1}


def test_bars_count_when_live_or_missed_in_this_session_and_never_from_the_warm_up() -> None:
    tally = tell(Tally(), source=bar(1.0, OPEN_NS - MINUTE_NS, backfilled=True))
    tell(tally, source=bar(1.0, OPEN_NS, backfilled=True))
    assert tally.bars == 0, "before the session is open, back-fill is warm-up"
    tell(tally, SessionOpened(DATES[0], OPEN_NS, TABLE.sessions[0].close_ns))
    tell(tally, source=bar(1.0, OPEN_NS - MINUTE_NS, backfilled=True))
    assert tally.bars == 0
    tell(tally, source=bar(1.0, OPEN_NS, backfilled=True))
    tell(tally, source=bar(1.0, OPEN_NS + MINUTE_NS))
    assert tally.bars == 2
    tell(tally, SessionClosed(DATES[0], 1))
    tell(tally, source=bar(1.0, OPEN_NS + MINUTE_NS, backfilled=True))
    assert (tally.sessions, tally.bars) == (1, 2)


def test_the_live_view_sees_the_newest_of_each() -> None:
    tally = tell(Tally(), source=Quote("SPY", 1, 1.0, 1, 3.0, 1), at_ns=11)
    assert tally.mids == {"SPY": 2.0}
    tell(tally, source=Quote("SPY", 1, None, 0, 3.0, 1), at_ns=12)
    assert tally.mids == {"SPY": None}, "a one-sided market has no middle"
    tell(tally, NoSignal("breakout", "SPY", "inside_range", {}), NoData("breakout", "QQQ", "volume", {}))
    assert tally.reasons == {("breakout", "SPY"): "inside_range", ("breakout", "QQQ"): "no data: volume"}
    assert tally.at_ns == 7
    tell(tally, Reconciled(1, "r", ("cash: 1",)))
    assert tally.differences == ("cash: 1",)
    tell(tally, Reconciled(1, "r", ()))
    assert tally.differences == ()


def test_only_the_last_events_are_kept() -> None:
    tally = Tally()
    for n in range(RECENT + 5):
        tell(tally, filled(n), NoSignal("breakout", "SPY", "x", {}), at_ns=n)
    assert [at_ns for at_ns, _ in tally.recent] == list(range(5, RECENT + 5))


def test_trades_of_before_a_restart_are_open_from_the_start_and_counted_when_they_close() -> None:
    marked = EquityMarked(
        DATES[0], 9, "minute", *(Decimal(n) for n in ("1", "100104.905", "3", "4", "5", "6")), marks_stale=0
    )
    tally = Tally()
    tally.restore([TradeOpened(name, "breakout", "hash", "SPY", CALL, 5) for name in ("t1", "t2")], marked)
    assert (list(tally.open_trades), tally.figures()["equity"]) == (["t1", "t2"], "100104.90")
    assert tally.figures()["trades"] == tally.figures()["fills"] == 0, "what earlier runs did is theirs"
    tell(tally, closed())
    assert (list(tally.open_trades), tally.figures()["trades"], tally.figures()["realized_pnl"]) == (
        ["t2"], 1, "109.90",
    )  # fmt: skip


def test_a_trade_of_before_a_restart_is_counted_when_it_closes() -> None:
    tally = tell(Tally(), closed("opened-yesterday"))
    assert (len(tally.trades), tally.open_trades) == (1, {})


def compared(tally: Tally, *differences: str) -> None:
    tell(tally, Reconciled(9, "account report", differences))


def test_each_session_says_whether_ledger_and_broker_agreed_after_its_close() -> None:
    tally = Tally()
    first, second = TABLE.sessions[:2]
    compared(tally)  # before any session: of no day
    for session in (first, second):
        tell(tally, SessionOpened(session.date, session.open_ns, session.close_ns))
        compared(tally, *(("cash: 1 USD",) if session is second else ()))
        if session is first:
            tell(tally, SessionClosed(session.date, session.close_ns))
            compared(tally)
    assert tally.outcome()["compared"] == {
        first.date: {"times": 2, "after_close": True, "differing": 0, "differences": []},
        second.date: {"times": 1, "after_close": False, "differing": 1, "differences": ["cash: 1 USD"]},
    }


def test_ends_are_counted_by_strategy_rule_and_kind() -> None:
    tally = Tally()
    losing = closed("t2", "-10.00", strategy="iron_condor", exit_rule="assigned")
    tell(tally, closed(), losing, closed("t3", "-1.00", strategy="iron_condor", exit_rule="assigned"))
    for n, ending in enumerate((Ending.ASSIGNED, Ending.EXPIRED, Ending.EXPIRED)):
        legs = (Decimal(0), "", 0, None, Decimal(0), "positions", (), 9)
        tell(tally, PositionSettled(f"s{n}", "t2", ending, CALL, 1, *legs))
    for trade in ("t2", "t2", "t3"):
        tell(tally, ExitTriggered(trade, "orphan_leg", "", "", Purpose.FORCED))
    tell(tally, ExitTriggered("t9", "stop", "", "", Purpose.STOP))
    found = tally.outcome()
    assert found["settlements"] == {"assigned": 1, "expired": 2}
    assert found["orphans"] == 2
    assert found["by_strategy"]["iron_condor"] == {
        "trades": 2, "wins": 0, "gross_usd": "-11.00", "net_usd": "-21.40", "ends": {"assigned": 2},
    }  # fmt: skip
    assert found["by_strategy"]["breakout"]["net_usd"] == "104.80"

"""One scripted session as turns: every durable message type at least once, one trade closed and one left open."""

import itertools
from collections.abc import Iterator
from decimal import Decimal

from oracle.core.marketdata import (
    Bar,
    ChainQuotes,
    DailyIvMissing,
    DailyIvObserved,
    DailyIvRanked,
    FeedChanged,
    Quote,
)
from oracle.core.message import Message
from oracle.core.messages import (
    EquityMarked,
    ExitPlan,
    ExitPlanAdvanced,
    ExitTriggered,
    FeeCharged,
    ForeignExecution,
    Intent,
    IntentApproved,
    IntentRefused,
    LadderStep,
    LatchChanged,
    LedgerSeeded,
    Leg,
    NoData,
    NoSignal,
    OperatorAnswered,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    Reconciled,
    Refusal,
    SessionClosed,
    SessionOpened,
    SetTimer,
    Stamped,
    StrategyFailed,
    SubmitOrder,
    TimerFired,
    TradeClosed,
    TradeOpened,
)
from oracle.core.reports import AccountReported
from oracle.core.vocabulary import Feed, FeedState, OrderState, OrderType, Purpose, Side

D = Decimal
T0 = 1_768_919_400_000_000_000  # 2026-01-20 14:30 UTC, a session's open
S = 1_000_000_000
DATE = "2026-01-20"
CALL = "SPY260120C00600000"
PUT = "SPY260120P00590000"
PLAN = ExitPlan(0.5, 0.4, 0.3, 603.25, None, 1, T0 + 19_800 * S)
Turns = list[tuple[Stamped, tuple[Message, ...]]]


def an_intent(number: int, symbol: str = CALL) -> Intent:
    leg = Leg(symbol, Side.BUY, 1, D("1.20"), D("1.25"), T0 + S, 0.51, 0.123456789)
    return Intent(
        f"opening_range_breakout:{DATE}:SPY:{number}",
        "opening_range_breakout",
        "h4sh",
        "SPY",
        (leg,),
        PLAN,
        0.85,
        0.8,
        "close 0.2 % above the range",
        {"range_high": 600.1, "note": "ä", "ready": True, "vix": None},
        T0 + 7_200 * S,
    )


def approved(intent: Intent, number: int) -> IntentApproved:
    return IntentApproved(
        f"d{number}",
        intent.intent_id,
        intent.strategy,
        "SPY",
        3,
        "planned_loss",
        D("150"),
        D("375.0"),
        D("100000.25"),
        {"planned_loss": 3, "position": 13},
    )


def order(sequence: int, trade: str, purpose: Purpose, *, symbol: str = CALL, contracts: int = 3) -> SubmitOrder:
    entry = purpose is Purpose.ENTRY
    market = purpose is Purpose.STOP
    ladder = (LadderStep(None, 30.0),) if market else (LadderStep(D("1.23"), 5.0), LadderStep(D("1.25"), 5.0))
    return SubmitOrder(
        f"tok-20260120-orb-{sequence:06d}",
        trade,
        f"d{sequence}" if entry else f"exit{sequence}",
        "opening_range_breakout",
        "h4sh",
        "SPY",
        purpose,
        symbol,
        Side.BUY if entry else Side.SELL,
        contracts,
        OrderType.MARKET if market else OrderType.LIMIT,
        ladder,
        None if market else D("1.25"),
        D("1.225"),
        T0 + 7_200 * S,
        PLAN if entry else None,
        D("150") if entry else D(0),
        D("375") if entry else D(0),
        D("100000.25"),
        "breakout" if entry else "exit",
        "cfg",
    )


def moved(submit: SubmitOrder, from_: OrderState, to: OrderState, filled: int = 0, attempt: int = 1) -> OrderAdvanced:
    return OrderAdvanced(
        submit.order_id, f"{submit.order_id}-{attempt}", attempt, attempt - 1, from_, to, filled, "as told"
    )


def fill(submit: SubmitOrder, execution: str, contracts: int, price: str, at_ns: int) -> OrderFilled:
    return OrderFilled(
        execution,
        submit.order_id,
        f"{submit.order_id}-1",
        "b-1",
        submit.trade_id,
        submit.strategy,
        submit.symbol,
        submit.side,
        submit.purpose,
        contracts,
        D(price),
        D("0.04"),
        D("0.65") * contracts,
        at_ns,
    )


def mark(at_ns: int, kind: str, equity: str) -> EquityMarked:
    return EquityMarked(DATE, at_ns, kind, D("99000.5"), D(equity), D("100000.25"), D("100400"), D("-12.5"), D("0"), 1)


def closed_trade(at_ns: int) -> TradeClosed:
    return TradeClosed(
        "t1",
        "opening_range_breakout",
        "h4sh",
        "SPY",
        CALL,
        3,
        T0 + 11 * S,
        at_ns,
        D("3.71") / 3,  # an average that no whole number of micros holds
        D("1.5"),
        D("79"),
        D("0.16"),
        D("3.90"),
        D("3.5"),
        95.238095238,
        "target",
    )


def _entry() -> Iterator[tuple[object, tuple[Message, ...]]]:
    wish, entry = an_intent(1), order(1, "t1", Purpose.ENTRY)
    yield (
        Bar("SPY", T0, 600.0, 600.5, 599.5, 600.2, 9_000, 80, 600.1),
        (
            an_intent(0),
            IntentRefused(
                "d0",
                an_intent(0).intent_id,
                "opening_range_breakout",
                "SPY",
                (Refusal("spread", "0.12 USD", "0.08 USD"), Refusal("quote_age", "9 s", "5 s")),
                None,
                D("25000"),
            ),
            NoSignal("momentum_scalping", "SPY", "no_cross", {}),
            NoData("momentum_scalping", "QQQ", "warm_up", {}),
        ),
    )
    yield (
        Bar("SPY", T0 + 60 * S, 600.0, 601.5, 599.5, 601.2, 9_000, 80, 600.1),
        (
            wish,
            approved(wish, 1),
            entry,
            moved(entry, OrderState.INTENT, OrderState.SENT),
            SetTimer("desk:x", T0 + 70 * S),
        ),
    )
    yield TimerFired("desk:x", T0 + 70 * S), (moved(entry, OrderState.SENT, OrderState.ACCEPTED),)
    yield (
        Quote("SPY", T0, 600.0, 1, 600.1, 2),
        (
            moved(entry, OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, 1),
            fill(entry, "x1", 1, "1.23", T0 + 11 * S),
            TradeOpened("t1", entry.strategy, "h4sh", "SPY", CALL, T0 + 11 * S),
        ),
    )
    yield (
        Quote("SPY", T0, 600.0, 1, 600.1, 2),
        (
            moved(entry, OrderState.PARTIALLY_FILLED, OrderState.FILLED, 3),
            fill(entry, "x2", 2, "1.24", T0 + 12 * S),
            OrderClosed(entry.order_id, "t1", Purpose.ENTRY, 3, 3, "filled"),
        ),
    )


def _exit() -> Iterator[tuple[object, tuple[Message, ...]]]:
    leave = order(2, "t1", Purpose.TARGET)
    yield (
        Quote("SPY", T0, 601.0, 1, 601.1, 2),
        (
            ExitPlanAdvanced("t1", "breakeven"),
            ExitTriggered("t1", "target", "+50 %", "+50 %", Purpose.TARGET),
            leave,
            moved(leave, OrderState.INTENT, OrderState.SENT),
        ),
    )
    yield (
        Quote("SPY", T0, 601.0, 1, 601.1, 2),
        (
            moved(leave, OrderState.SENT, OrderState.FILLED, 3),
            fill(leave, "x3", 3, "1.5", T0 + 600 * S),
            OrderClosed(leave.order_id, "t1", Purpose.TARGET, 3, 3, "filled"),
            closed_trade(T0 + 600 * S),
            mark(T0 + 600 * S, "trade", "100079"),
        ),
    )


def _second() -> Iterator[tuple[object, tuple[Message, ...]]]:
    wish, entry = an_intent(2, PUT), order(3, "t2", Purpose.ENTRY, symbol=PUT, contracts=1)
    stop = order(4, "t2", Purpose.STOP, symbol=PUT, contracts=1)
    yield (
        Quote("SPY", T0, 601.0, 1, 601.1, 2),
        (
            wish,
            approved(wish, 3),
            entry,
            moved(entry, OrderState.INTENT, OrderState.FILLED, 1),
            fill(entry, "x4", 1, "0.9", T0 + 700 * S),
            OrderClosed(entry.order_id, "t2", Purpose.ENTRY, 1, 1, "filled"),
            TradeOpened("t2", entry.strategy, "h4sh", "SPY", PUT, T0 + 700 * S),
        ),
    )
    yield (
        Quote("SPY", T0, 601.0, 1, 601.1, 2),
        (
            ExitPlanAdvanced("t2", "breakeven"),
            ExitTriggered("t2", "stop", "0.53", "0.54", Purpose.STOP),
            stop,
            moved(stop, OrderState.INTENT, OrderState.SENT),
            moved(stop, OrderState.SENT, OrderState.UNKNOWN),
        ),
    )


def turns() -> Turns:
    """The day, stamped."""
    account = AccountReported(T0, D(100000), None, D(100000), D(50000), 3, False, (), (), (), T0)
    rest = (
        (
            account,
            (
                LedgerSeeded(D("100000.25"), D("100000.25"), T0),
                FeeCharged("fee-0", "SPY", D("1.25"), "earlier", T0, in_opening_cash=True),
                Reconciled(T0, "start", ()),
            ),
        ),
        (FeedChanged(Feed.STOCK, 1, FeedState.LIVE, "subscribed"), ()),
        (FeedChanged(Feed.STOCK, 2, FeedState.STALE, "mute"), ()),
        (ChainQuotes("SPY", DATE, b"", b"", b"", b"", b"", b""), ()),
        (
            DailyIvObserved("SPY", DATE, 0.1875, "own"),
            (
                DailyIvRanked("SPY", DATE, 0.1875, 0.4, 0.55, 61, 90, ""),
                DailyIvMissing("QQQ", DATE, "no_iv_after_30_days", {"because": "no_expiry"}, True),
            ),
        ),
        (TimerFired("session:open", T0), (SessionOpened(DATE, T0, T0 + 23_400 * S), mark(T0, "open", "100000.25"))),
        *_entry(),
        *_exit(),
        *_second(),
        (
            TimerFired("risk:x", T0),
            (
                LatchChanged("day_loss", True, "loss reached", "-3.1 %", "-3 %", "2026-01-21", T0),
                LatchChanged("drawdown", True, "10 %", "10.2 %", "10 %", None),
                LatchChanged("drawdown", False, "resumed", "", "", None),
                ForeignExecution("f1", "manual", "SPY", Side.SELL, D("1.5"), D("600.12")),
                StrategyFailed("iron_condor", "ValueError: x"),
                OperatorAnswered("r1", "halt", "alice", "storm", True, True, "halted", {"orders": []}, T0),
                Reconciled(T0 + S, "foreign", ("SPY: ledger 0, broker -1.5",)),
            ),
        ),
        (
            TimerFired("session:close", T0 + 23_400 * S),
            (SessionClosed(DATE, T0 + 23_400 * S), mark(T0 + 23_400 * S, "close", "100060.75")),
        ),
    )
    numbers = itertools.count(1)
    return [(Stamped(n := next(numbers), T0 + n * S, cause), tuple(out)) for cause, out in rest]  # type: ignore[arg-type]


def messages() -> list[Message]:
    """All outputs of the day, in order."""
    return [message for _, out in turns() for message in out]

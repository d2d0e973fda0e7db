"""The engine: timers before inputs, sessions opened and closed on time, account and equity known or None."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.engine import NOT_OURS, Engine, Turn
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.errors import InvariantError
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import FeedChanged, Quote, TradingStatus
from oracle.core.message import Message
from oracle.core.messages import (
    ClearTimer,
    EquityMarked,
    Input,
    LedgerSeeded,
    OrderClosed,
    OrderFilled,
    Reconciled,
    SessionClosed,
    SessionOpened,
    SetTimer,
    TimerFired,
)
from oracle.core.ports import ChainsView, Context, OptionQuote
from oracle.core.reports import AccountReported, BrokerOrder, BrokerPosition
from oracle.core.sessions import MINUTE_NS, NS, Session, SessionTable
from oracle.core.vocabulary import Feed, FeedState, Purpose, Side
from tests.unit.test_core_ledger import CALL, fill, order

DAY = 86_400 * NS
OPEN = 1_767_364_200 * NS
SESSIONS = [
    Session("2026-01-02", OPEN, OPEN + 390 * MINUTE_NS),
    Session("2026-01-05", OPEN + 3 * DAY, OPEN + 3 * DAY + 390 * MINUTE_NS),
]


class Chains:
    """A chain book of hand-set quotes."""

    def __init__(self) -> None:
        self.quotes: dict[str, OptionQuote] = {}

    def option_quote(self, symbol: str) -> OptionQuote | None:
        return self.quotes.get(symbol)


def build() -> tuple[Engine, Chains, list[Message]]:
    chains, market, ledger = Chains(), MarketState(), Ledger()
    view: ChainsView = chains  # type: ignore[assignment]
    engine = Engine(
        SessionTable(SESSIONS), market, view, ledger, EquityKeeper(ledger, Marks(market, view, 15, ledger.held))
    )
    return engine, chains, []


def account(text: str = "", cash: str | None = "100000") -> AccountReported:
    money = None if cash is None else Decimal(cash)
    return AccountReported(1, money, money, money, money, 3, False, (), (), (), 0, text)


def run(engine: Engine, at_ns: int, *messages: Input) -> list[Turn]:
    return [turn for message in messages for turn in engine.handle(at_ns, message)]


def quote(at_ns: int = 0, bid: float | None = 1.0, ask: float | None = 1.1) -> Quote:
    return Quote("SPY", at_ns, bid, 1, ask, 1)


def test_timers_fire_before_the_input_and_sessions_open_and_close_on_time() -> None:
    engine, _, _ = build()
    engine.start(OPEN - MINUTE_NS)
    turns = run(engine, OPEN + 5, quote())
    assert [type(t.stamped.input) for t in turns] == [TimerFired, Quote]
    assert turns[0].stamped.at_ns == OPEN
    assert turns[0].messages[0] == SessionOpened("2026-01-02", OPEN, SESSIONS[0].close_ns)
    assert [t.stamped.seq for t in turns] == [1, 2]
    close = [m for t in engine.advance(SESSIONS[0].close_ns) for m in t.messages if isinstance(m, SessionClosed)]
    assert close == [SessionClosed("2026-01-02", SESSIONS[0].close_ns)]
    opened = [m for t in engine.advance(SESSIONS[1].open_ns) for m in t.messages if isinstance(m, SessionOpened)]
    assert [m.date for m in opened] == ["2026-01-05"]
    list(engine.advance(SESSIONS[1].close_ns))
    assert engine.context().session is None
    assert not engine.context().in_session


def test_a_start_within_a_session_opens_it_at_once() -> None:
    engine, _, _ = build()
    engine.start(OPEN + MINUTE_NS)
    (turn,) = engine.advance(OPEN + MINUTE_NS)
    assert isinstance(turn.messages[0], SessionOpened)
    assert engine.context().in_session


def test_time_never_decreases() -> None:
    engine, _, _ = build()
    engine.start(OPEN)
    run(engine, OPEN + 5, quote())
    with pytest.raises(InvariantError):
        run(engine, OPEN + 4, quote())
    assert engine.at_ns == OPEN + 5


def test_set_and_clear_timers_are_consumed_by_the_engine() -> None:
    engine, _, heard = build()

    def on_quote(message: Quote, context: Context) -> Iterable[Message]:
        return (
            SetTimer("mine:a", context.at_ns + 10),
            SetTimer("mine:b", context.at_ns + 20),
            ClearTimer("mine:a"),
        )

    def on_timer(message: TimerFired, context: Context) -> Iterable[Message]:
        heard.append(message)
        return ()

    engine.bus.subscribe(((Quote, on_quote), (TimerFired, on_timer)))
    engine.start(OPEN - DAY)
    run(engine, OPEN - DAY, quote())
    assert engine.next_timer_ns == OPEN - DAY + 20
    run(engine, OPEN - DAY + 30, quote())
    assert heard == [TimerFired("mine:b", OPEN - DAY + 20)]
    assert engine.seq == 3


def test_market_state_keeps_the_newest_and_invents_nothing() -> None:
    engine, _, _ = build()
    engine.start(OPEN)
    market = engine.context().market
    assert market.quote("SPY") is None
    assert market.received_ns("SPY") is None
    assert market.halted("SPY") is None
    assert market.feed(Feed.STOCK) is FeedState.CONNECTING
    run(
        engine,
        OPEN + 1,
        quote(bid=None),
        FeedChanged(Feed.STOCK, 1, FeedState.LIVE, "subscribed"),
        TradingStatus("SPY", 1, "H", "halt", True),
    )
    newest = market.quote("SPY")
    assert newest is not None
    assert newest.mid is None
    assert market.received_ns("SPY") == OPEN + 1
    assert market.halted("SPY")
    assert market.feed(Feed.STOCK) is FeedState.LIVE
    assert quote(bid=1.2).mid is None
    assert quote().mid == pytest.approx(1.05)


def test_the_account_seeds_the_ledger_once_and_a_failed_read_concludes_nothing() -> None:
    engine, _, _ = build()
    engine.start(OPEN - MINUTE_NS)
    (failed,) = run(engine, OPEN - 9, account(text="500", cash=None))
    assert failed.messages == ()
    assert engine.context().account.options_level is None
    (first,) = run(engine, OPEN - 8, account())
    assert first.messages == (LedgerSeeded(Decimal(100_000), Decimal(100_000), OPEN - 8),)
    (second,) = run(engine, OPEN - 7, account(cash="5"))
    assert second.messages == ()
    context = engine.context()
    assert context.ledger.cash_usd == 100_000
    assert context.equity.equity_usd == 100_000
    assert context.equity.peak_usd == 100_000
    assert not context.account.reconciled


def reconciled(engine: Engine, *differences: str) -> bool:
    engine.bus.subscribe(((Quote, lambda _m, c: (Reconciled(c.at_ns, "test", differences),)),))
    run(engine, engine.at_ns, quote())
    return engine.context().account.reconciled


def test_a_clean_comparison_reconciles_and_a_difference_does_not() -> None:
    for differences in ((), ("cash differs",)):
        engine, _, _ = build()
        engine.start(OPEN)
        assert reconciled(engine, *differences) is (not differences)


def at(at_ns: int, filled: OrderFilled) -> OrderFilled:
    return msgspec.structs.replace(filled, at_ns=at_ns)


def positioned() -> tuple[Engine, Chains, Any]:
    """An engine that holds two calls bought at 2.00."""
    engine, chains, _ = build()
    entry = order("e", Purpose.ENTRY, Side.BUY)
    script: dict[str, Message] = {"submit": entry, "fill": at(OPEN, fill(1, entry, 2, "2.00"))}

    def on_status(message: TradingStatus, _context: Context) -> Iterable[Message]:
        return (script[message.code],)

    engine.bus.subscribe(((TradingStatus, on_status),))
    engine.start(OPEN - 5)
    run(engine, OPEN - 4, account())
    run(engine, OPEN, TradingStatus("X", 0, "submit", "", False), TradingStatus("X", 0, "fill", "", False))
    return engine, chains, script


def option(bid: float | None, ask: float | None, received_ns: int = OPEN) -> OptionQuote:
    return OptionQuote(CALL, bid, 1, ask, 1, received_ns, received_ns)


def test_equity_is_cash_plus_marks_and_unknown_without_a_quote() -> None:
    engine, chains, _ = positioned()
    assert engine.context().equity.equity_usd is None
    assert engine.context().equity.unrealized_usd is None
    chains.quotes[CALL] = option(2.10, 2.20)
    view = engine.context().equity
    assert view.equity_usd == 100_000 - 400 + 430
    assert view.unrealized_usd == 30
    assert view.marks_stale == 0
    chains.quotes[CALL] = option(2.10, 2.20, OPEN - 16 * NS)
    assert engine.context().equity.equity_usd == 100_000 - 400 + 420
    assert engine.context().equity.marks_stale == 1


def test_equity_snapshots_keep_the_day_start_and_the_peak() -> None:
    engine, chains, script = positioned()
    chains.quotes[CALL] = option(3.0, 3.0, OPEN + MINUTE_NS)
    snapshots = [m for t in engine.advance(OPEN + 61 * NS) for m in t.messages if isinstance(m, EquityMarked)]
    assert [s.kind for s in snapshots] == ["minute"]
    assert snapshots[0].peak_equity_usd == 100_200
    assert snapshots[0].day_start_equity_usd == 100_000
    exit_ = order("x", Purpose.STOP, Side.SELL)
    script["submit"], script["fill"] = exit_, at(OPEN + 62 * NS, fill(2, exit_, 2, "1.00", "1.30"))
    script["close"] = OrderClosed("e", "t1", Purpose.ENTRY, 2, 10, "filled")
    now = OPEN + 62 * NS
    turns = run(engine, now, *(TradingStatus("X", 0, code, "", False) for code in ("submit", "fill", "close")))
    trade = [m for t in turns for m in t.messages if isinstance(m, EquityMarked)]
    assert [s.kind for s in trade] == ["fill", "trade"]
    assert trade[1].realized_today_usd == Decimal("-201.30")
    assert trade[1].equity_usd == Decimal(100_000) - 200 - Decimal("1.30")
    assert trade[1].peak_equity_usd == 100_200
    (close,) = (
        m for t in engine.advance(SESSIONS[0].close_ns) for m in t.messages
        if isinstance(m, EquityMarked) and m.kind == "close"
    )  # fmt: skip
    assert close.date == "2026-01-02"
    (opened,) = (
        m for t in engine.advance(SESSIONS[1].open_ns) for m in t.messages
        if isinstance(m, EquityMarked) and m.kind == "open"
    )  # fmt: skip
    assert opened.day_start_equity_usd == close.equity_usd
    assert opened.realized_today_usd == 0


def test_marks_of_stocks() -> None:
    engine, chains, _ = build()
    engine.start(OPEN)
    marks = Marks(engine.context().market, chains, 15, ())  # type: ignore[arg-type]
    assert marks.mark("SPY", 1, OPEN) is None
    run(engine, OPEN, quote(OPEN, bid=10.0, ask=10.2))
    assert marks.mark("SPY", 1, OPEN) == (Decimal("10.1"), False)
    assert marks.mark("SPY", 1, OPEN + 16 * NS) == (Decimal(10), True)
    assert marks.mark("SPY", -1, OPEN + 16 * NS) == (Decimal("10.2"), True)
    run(engine, OPEN, quote(OPEN - 16 * NS, bid=10.0, ask=10.2))
    assert marks.mark("SPY", 1, OPEN) == (Decimal(10), True)  # arrived now, but old by the vendor's time
    run(engine, OPEN, quote(OPEN, bid=10.0, ask=None))
    assert marks.mark("SPY", -1, OPEN + 61 * NS) is None


def test_an_account_with_foreign_positions_or_orders_is_not_seeded_and_says_so_once() -> None:
    held = BrokerPosition("AAPL", Decimal(10), Decimal(200))
    working = BrokerOrder("c", "b", "AAPL", Side.BUY, "simple", Decimal(1), Decimal(0), None, None, "limit", "new", 1)
    for change in ({"positions": (held,)}, {"open_orders": (working,)}):
        engine, _, _ = build()
        engine.start(OPEN)
        foreign = msgspec.structs.replace(account(), **change)
        first, second = run(engine, OPEN + 1, foreign, foreign)[-2:]
        assert first.messages == (Reconciled(OPEN + 1, "opening", (NOT_OURS,)),)
        assert second.messages == ()
        context = engine.context()
        assert not context.ledger.seeded
        assert not context.account.reconciled
        assert context.equity.equity_usd is None
        (clean,) = run(engine, OPEN + 2, account())
        assert LedgerSeeded(Decimal(100_000), Decimal(100_000), OPEN + 2) in clean.messages


def test_a_change_of_the_trading_stream_needs_a_new_comparison() -> None:
    for state in FeedState:
        engine, _, _ = build()
        engine.start(OPEN)
        assert reconciled(engine)
        run(engine, OPEN + 1, FeedChanged(Feed.STOCK, 2, state, ""), FeedChanged(Feed.OPTION, 2, state, ""))
        assert engine.context().account.reconciled
        run(engine, OPEN + 2, FeedChanged(Feed.TRADING, 2, state, ""))
        assert not engine.context().account.reconciled

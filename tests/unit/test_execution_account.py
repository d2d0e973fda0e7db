"""When the account is read: one at a time, again after a failure, seldom overnight. On a real engine."""

from collections.abc import Iterable
from typing import Any

from oracle.core.engine import Engine, Turn
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import ChainReadFailed, FeedChanged, Quote
from oracle.core.message import Message
from oracle.core.messages import OrderClosed, ReadAccount
from oracle.core.ports import Context
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Feed, FeedState, Purpose
from oracle.execution.account import (
    AFTER_ORDER_S,
    BEFORE_OPEN_NS,
    EVERY_S,
    OVERLAP_NS,
    RETRY_S,
    AccountReader,
)
from tests.unit.builders import OPEN_NS, TABLE, Chains, account, of

SESSION, TOMORROW = TABLE.sessions[0], TABLE.sessions[1]


class World:
    """A real engine with the reader; the account answers when a test says so."""

    def __init__(self, at_ns: int = OPEN_NS + 30 * MINUTE_NS) -> None:
        market, ledger, chains = MarketState(), Ledger(), Chains()
        self.engine = Engine(
            TABLE, market, chains, ledger, EquityKeeper(ledger, Marks(market, chains, 15, ledger.held))
        )
        self.engine.bus.subscribe(((ChainReadFailed, desk), *AccountReader().handlers()))
        self.at_ns = at_ns
        self.since_ns = 0
        self.engine.start(at_ns)

    def tell(self, message: Any, after_s: float = 0) -> list[ReadAccount]:
        self.at_ns += round(after_s * NS)
        return self.reads(self.engine.handle(self.at_ns, message))

    def wait(self, seconds: float) -> list[ReadAccount]:
        self.at_ns += round(seconds * NS)
        return self.reads(self.engine.advance(self.at_ns))

    def reads(self, turns: Iterable[Turn]) -> list[ReadAccount]:
        """What is asked of the account; the answer will say the same window."""
        found = of(ReadAccount, (m for turn in turns for m in turn.messages))
        for read in found:
            self.since_ns = read.fills_since_ns
        return found

    def report(self, after_s: float = 0, text: str = "") -> list[ReadAccount]:
        cash = None if text else "100000"
        return self.tell(account(self.at_ns, cash, text=text, fills_since_ns=self.since_ns), after_s)

    def live(self) -> list[ReadAccount]:
        return self.tell(FeedChanged(Feed.TRADING, 1, FeedState.LIVE, "connected"))

    def closed(self, filled: int) -> list[ReadAccount]:
        return self.tell(ChainReadFailed("SPY", SESSION.date, str(filled)))


def desk(note: ChainReadFailed, _context: Context) -> tuple[Message, ...]:
    """Stands where the desk does: an input ends an order, with as many contracts filled as the note says."""
    return (OrderClosed("o", "t", Purpose.ENTRY, int(note.text), 4, "filled"),)


def test_the_account_is_read_when_the_trading_stream_is_live_and_then_every_half_minute() -> None:
    world = World()
    assert len(world.wait(0)) == 1
    world.report()
    assert world.tell(FeedChanged(Feed.STOCK, 1, FeedState.LIVE, "x")) == []
    assert world.tell(FeedChanged(Feed.TRADING, 1, FeedState.BACKFILLING, "x")) == []
    assert len(world.live()) == 1
    world.report()
    for _ in range(3):
        assert world.wait(EVERY_S - 1) == []
        assert len(world.wait(1)) == 1
        assert world.report() == []


def test_only_one_read_is_under_way() -> None:
    world = World()
    assert [r.reason for r in world.wait(0)] == ["session opened"]
    assert world.live() == []
    assert world.wait(600) == []


def test_a_read_that_was_wished_for_meanwhile_follows_the_answer() -> None:
    """What was asked before the stream was live again may miss a fill that fell in between."""
    world = World()
    world.wait(0)
    assert world.live() == []
    (again,) = world.report(after_s=1)
    assert again.reason == "trading stream is live"
    assert world.report(after_s=1) == [], "once"


def test_a_failed_read_is_repeated_soon_and_concludes_nothing() -> None:
    world = World()
    (first,) = world.wait(0)
    for _ in range(3):
        assert world.report(text="timed out") == []
        assert world.wait(RETRY_S - 1) == []
        (again,) = world.wait(1)
        assert again.fills_since_ns == first.fills_since_ns


def test_fills_are_read_from_the_sessions_open_first_and_then_from_the_last_report() -> None:
    world = World()
    (first,) = world.wait(0)
    assert first.fills_since_ns == OPEN_NS - OVERLAP_NS
    world.report()
    read_ns = world.at_ns
    (second,) = world.wait(EVERY_S)
    assert second.fills_since_ns == read_ns - OVERLAP_NS


def test_before_the_first_session_of_the_calendar_fills_are_read_from_now() -> None:
    world = World(OPEN_NS - 3600 * NS)
    (first,) = world.live()
    assert first.fills_since_ns == world.at_ns - OVERLAP_NS


def test_after_an_order_with_fills_the_account_is_read_soon() -> None:
    world = World()
    world.wait(0)
    world.report()
    world.closed(filled=0)
    assert world.wait(AFTER_ORDER_S) == []
    world.closed(filled=4)
    assert world.wait(AFTER_ORDER_S - 1) == []
    assert len(world.wait(1)) == 1


def test_an_order_that_closes_while_a_read_is_under_way_is_looked_at_soon_all_the_same() -> None:
    world = World()
    world.wait(0)
    world.closed(filled=4)
    world.report(after_s=1)
    assert len(world.wait(AFTER_ORDER_S)) == 1


def test_the_night_takes_one_read_not_thousands() -> None:
    world = World(SESSION.close_ns - 10 * NS)
    world.wait(0)
    world.report()
    (at_close,) = world.wait(10)
    assert at_close.reason == "session closed"
    world.report()
    world.at_ns = TOMORROW.open_ns - BEFORE_OPEN_NS - NS
    assert world.tell(Quote("SPY", 1, 1.0, 1, 1.1, 1)) == []
    (morning,) = world.wait(1)
    assert morning.reason == "periodic"
    world.report()
    # Five minutes before the open it is read as often as in session.
    assert len(world.wait(EVERY_S)) == 1


def test_a_jump_over_hours_of_a_session_takes_one_read() -> None:
    world = World()
    world.wait(0)
    world.report()
    assert len(world.wait(3 * 3600)) == 1
    world.report()
    assert world.wait(EVERY_S - 1) == []


def test_the_session_is_closed_with_a_comparison_even_when_a_read_is_under_way() -> None:
    world = World(SESSION.close_ns - 10 * NS)
    world.wait(0)
    assert world.wait(10) == []
    (again,) = world.report()
    assert again.reason == "session closed"


def test_past_the_calendars_end_it_goes_on_quietly() -> None:
    last = TABLE.sessions[-1]
    world = World(last.close_ns + NS)
    assert len(world.live()) == 1
    world.report()
    assert len(world.wait(EVERY_S)) == 1

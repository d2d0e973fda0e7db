"""The account's value: unknown without a mark, a day start and a peak that survive restarts, results as they fill."""

from decimal import Decimal

import msgspec
import pytest

from oracle.core.engine import Engine
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import Quote
from oracle.core.message import Message
from oracle.core.messages import (
    EquityMarked,
    IntentApproved,
    LatchChanged,
    LedgerSeeded,
    OrderClosed,
    PositionSettled,
    SessionOpened,
)
from oracle.core.ports import EquityView, OptionQuote
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Ending, Purpose, Side
from tests.unit.builders import CALL, OPEN_NS, PUT, START_NS, TABLE, Chains, House, chain_quotes, intent, of
from tests.unit.test_core_engine import at
from tests.unit.test_core_ledger import fill, order
from tests.unit.test_risk_execution_flow import filled_entry

SEED = LedgerSeeded(Decimal(100_000), Decimal(100_000), OPEN_NS - 3600 * NS)
ENTRY, EXIT = order("e", Purpose.ENTRY, Side.BUY), order("x", Purpose.TARGET, Side.SELL)
SYMBOL = ENTRY.symbol
NEXT = TABLE.sessions[1]


class Books:
    """A ledger, chains that a test sets, and a keeper, restored and in an engine."""

    def __init__(
        self,
        *books: Message,
        last: EquityMarked | None = None,
        at_ns: int = START_NS,
        latches: tuple[LatchChanged, ...] = (),
    ) -> None:
        self.chains, self.ledger, market = Chains(), Ledger(), MarketState()
        marks = Marks(market, self.chains, 15, self.ledger.held)
        self.keeper = EquityKeeper(self.ledger, marks)
        self.ledger.restore([SEED, *books])
        self.keeper.restore(() if last is None else (last,), SEED, latches)
        self.engine = Engine(TABLE, market, self.chains, self.ledger, self.keeper)
        self.engine.bus.subscribe(marks.handlers())
        self.engine.start(at_ns)

    def quote(self, bid: float | None, ask: float | None, quoted_ns: int, received_ns: int | None = None) -> None:
        received_ns = quoted_ns if received_ns is None else received_ns
        self.chains.quotes[SYMBOL] = OptionQuote(SYMBOL, bid, 1, ask, 1, quoted_ns, received_ns)

    def tell(self, bid: float | None, ask: float | None, at_ns: int, age_s: int = 0) -> None:
        """Let a quote arrive in a turn."""
        self.quote(bid, ask, at_ns - age_s * NS, at_ns)
        list(self.engine.handle(at_ns, chain_quotes()))

    def advance(self, at_ns: int) -> list[EquityMarked]:
        turns = self.engine.advance(at_ns)
        return [m for turn in turns for m in turn.messages if isinstance(m, EquityMarked)]

    def dispatch(self, message: Message) -> list[EquityMarked]:
        return [m for m in self.engine.bus.dispatch(message, self.engine.context) if isinstance(m, EquityMarked)]

    @property
    def view(self) -> EquityView:
        return self.engine.context().equity


def marked(date: str, equity: int = 99_500, start: int = 99_000, peak: int = 101_000) -> EquityMarked:
    figures = (Decimal(n) for n in (99_000, equity, start, peak, 5, 6))
    return EquityMarked(date, OPEN_NS, "minute", *figures, 0)


def held(contracts: int = 2, at_ns: int = START_NS) -> tuple[Message, ...]:
    return ENTRY, at(at_ns, fill(1, ENTRY, contracts, "2.00"))


def test_a_restart_before_the_first_mark_starts_from_the_seed() -> None:
    books = Books(at_ns=OPEN_NS - 600 * NS)
    assert (books.view.day_start_usd, books.view.peak_usd) == (100_000, 100_000)
    (opened,) = books.advance(OPEN_NS)
    assert (opened.day_start_equity_usd, opened.peak_equity_usd) == (100_000, 100_000)


def test_without_seed_and_mark_all_is_unknown() -> None:
    keeper = EquityKeeper(Ledger(), Marks(MarketState(), Chains(), 15, ()))
    keeper.restore(())
    view = keeper.view(OPEN_NS)
    assert (view.equity_usd, view.day_start_usd, view.peak_usd, view.realized_today_usd) == (None, None, None, 0)
    opened = SessionOpened(TABLE.sessions[0].date, OPEN_NS, TABLE.sessions[0].close_ns)
    assert len(list(keeper.on_open(opened, House(ready=False).engine.context()))) == 1  # only the timer


def test_a_restart_within_the_session_keeps_the_day() -> None:
    books = Books(last=marked(TABLE.sessions[0].date))
    (opened,) = books.advance(START_NS)
    assert (opened.day_start_equity_usd, opened.peak_equity_usd) == (99_000, 101_000)


def test_the_day_starts_at_the_last_known_equity_when_the_open_cannot_be_marked() -> None:
    yesterday = marked(TABLE.sessions[0].date)
    books = Books(*held(), last=yesterday, at_ns=NEXT.open_ns - NS)
    assert books.advance(NEXT.open_ns) == []
    assert books.view.day_start_usd == yesterday.equity_usd
    assert books.view.equity_usd is None


def test_the_day_starts_at_the_last_known_equity_when_marks_are_stale_at_the_open() -> None:
    books = Books(*held(), last=marked(TABLE.sessions[0].date), at_ns=NEXT.open_ns - NS)
    books.quote(1.0, 1.2, NEXT.open_ns - 3600 * NS)
    (opened,) = books.advance(NEXT.open_ns)
    assert (opened.day_start_equity_usd, opened.equity_usd, opened.marks_stale) == (99_500, 99_800, 1)


def test_the_day_starts_at_the_opening_equity_when_marks_are_fresh() -> None:
    books = Books(*held(), last=marked(TABLE.sessions[0].date), at_ns=NEXT.open_ns - NS)
    books.quote(1.0, 1.2, NEXT.open_ns)
    (opened,) = books.advance(NEXT.open_ns)
    assert opened.day_start_equity_usd == opened.equity_usd == 99_820


def test_a_long_whose_bid_is_gone_keeps_its_last_mark_for_a_minute_and_is_then_unknown() -> None:
    books = Books(*held())
    books.tell(None, 0.11, START_NS)
    assert books.view.equity_usd is None
    # A middle that was old when it arrived is no fresh mark.
    books.tell(2.0, 2.2, START_NS, age_s=16)
    books.tell(None, 0.11, START_NS)
    assert books.view.equity_usd is None
    books.tell(2.0, 2.2, START_NS)
    for bid, ask in ((None, 0.11), (2.3, 2.2)):
        books.tell(bid, ask, START_NS + NS)
        at_60, later = (books.keeper.view(START_NS + 60 * NS + ns) for ns in (0, 1))
        assert (at_60.equity_usd, at_60.marks_stale, later.equity_usd) == (100_020, 1, None)
    books.tell(0.0, None, START_NS + NS)
    assert (books.view.equity_usd, books.view.marks_stale) == (99_600, 1)


def test_what_is_bought_has_the_mark_of_its_last_quote_and_what_is_sold_loses_it() -> None:
    books = Books()
    books.tell(2.0, 2.2, START_NS)
    books.ledger.restore([ENTRY, EXIT])
    books.dispatch(at(START_NS, fill(1, ENTRY, 2, "2.00")))
    books.tell(None, 2.2, START_NS + NS)
    assert books.view.equity_usd == 100_020
    books.dispatch(at(START_NS + NS, fill(2, EXIT, 2, "2.00")))
    books.dispatch(at(START_NS + NS, fill(3, ENTRY, 2, "2.00")))
    assert books.view.equity_usd is None


def test_a_look_at_the_account_changes_no_decision() -> None:
    said = []
    for asking in (False, True):
        house = House()
        filled_entry(house)
        for _ in range(23):
            house.wait(5)
            house.quote(CALL, 9.95, 10.0)
            house.spot(600.0)
        if asking:
            house.engine.context().equity  # noqa: B018 - looking is the point
        house.wait(2)
        house.quote(CALL, None, 10.0)
        house.wait(8)
        house.spot(600.0)
        house.quote(PUT, 1.98, 2.0)
        house.quote(CALL, None, 10.0)
        said.append(house.tell(intent(9, PUT, at_ns=house.at_ns, bid="1.98", ask="2.00")))
    assert said[0] == said[1]
    assert len(of(IntentApproved, said[0])) == 1


@pytest.mark.parametrize("asks", [(0,), (0, 1, 2, 3)])
def test_asking_for_the_value_changes_no_later_value(asks: tuple[int, ...]) -> None:
    values = []
    for asking in (False, True):
        books = Books(*held())
        steps = ((2.0, 2.2, 0), (None, 2.2, 30), (2.3, 2.2, 50), (None, 2.2, 58))
        for n, (bid, ask, after_s) in enumerate(steps):
            books.tell(bid, ask, START_NS + after_s * NS)
            if asking and n in asks:
                books.keeper.view(START_NS + after_s * NS)
        values.append([books.keeper.view(START_NS + s * NS) for s in (58, 60, 61, 100)])
    assert values[0] == values[1]
    assert [view.equity_usd for view in values[0]] == [100_020, 100_020, None, None]


@pytest.mark.parametrize(("vendor_s", "arrival_s"), [(16, 0), (0, 16)])
def test_a_quote_is_as_old_as_the_older_of_vendor_time_and_arrival(vendor_s: int, arrival_s: int) -> None:
    marks = Marks(MarketState(), (chains := Chains()), 15, ())
    times = START_NS - vendor_s * NS, START_NS - arrival_s * NS
    chains.quotes[CALL] = OptionQuote(CALL, 12.0, 1, 20.0, 1, *times)
    assert marks.mark(CALL, 1, START_NS) == (Decimal(12), True)
    assert marks.mark(CALL, -1, START_NS) == (Decimal(20), True)


def test_stale_marks_do_not_raise_the_peak() -> None:
    books = Books(*held(), last=marked(TABLE.sessions[0].date, peak=100_000))
    books.quote(9.0, 9.2, START_NS - MINUTE_NS)
    (stale,) = books.advance(START_NS)
    assert (stale.peak_equity_usd, stale.marks_stale) == (100_000, 1)
    books.quote(9.0, 9.2, START_NS + MINUTE_NS)
    assert books.advance(START_NS + MINUTE_NS)[0].peak_equity_usd == 101_420


def cleared(latch: str = "drawdown", *, active: bool = False) -> LatchChanged:
    return LatchChanged(latch, active, "resumed", "", "", None, START_NS)


def test_resuming_after_a_drawdown_rebases_the_peak() -> None:
    books = Books(last=marked(TABLE.sessions[0].date, peak=120_000))
    books.advance(START_NS)
    assert books.dispatch(cleared(active=True)) == books.dispatch(cleared("day_loss")) == []
    (fact,) = books.dispatch(cleared())
    assert (fact.kind, fact.peak_equity_usd, fact.equity_usd) == ("rebase", 100_000, 100_000)
    again = Books(last=fact)
    assert again.view.peak_usd == 100_000


def test_a_rebase_waits_for_a_known_equity() -> None:
    books = Books(*held(), last=marked(TABLE.sessions[0].date, peak=120_000))
    books.advance(START_NS)
    assert books.dispatch(cleared()) == []
    books.quote(1.0, 1.2, START_NS + MINUTE_NS)
    fact, later = books.advance(START_NS + 2 * MINUTE_NS)
    assert (fact.kind, fact.peak_equity_usd) == ("rebase", 99_820)
    assert later.kind == "minute"


@pytest.mark.parametrize(
    ("latches", "peak"),
    [
        ((), 120_000),
        ((cleared(),), 100_000),
        ((cleared(active=True),), 120_000),
        ((cleared("day_loss"),), 120_000),
    ],
)
def test_a_rebase_that_waits_survives_a_restart(latches: tuple[LatchChanged, ...], peak: int) -> None:
    last = msgspec.structs.replace(marked(TABLE.sessions[0].date, peak=120_000), at_ns=START_NS - NS)
    (fact,) = Books(last=last, latches=latches).advance(START_NS)
    assert (fact.kind, fact.peak_equity_usd) == ("rebase" if peak == 100_000 else "open", peak)


def test_a_rebase_that_was_marked_is_not_repeated_by_a_restart() -> None:
    books = Books(last=marked(TABLE.sessions[0].date, peak=120_000))
    books.advance(START_NS)
    (fact,) = books.dispatch(cleared())
    high = msgspec.structs.replace(fact, kind="minute", peak_equity_usd=Decimal(130_000))
    again = Books()
    again.keeper.restore((fact, high), SEED, (cleared(),))
    assert again.advance(START_NS)[0].peak_equity_usd == 130_000


def test_parts_of_an_exit_are_realised_as_they_fill_and_survive_a_restart() -> None:
    books = Books(*held(4), EXIT, last=marked(TABLE.sessions[0].date))
    books.advance(START_NS)
    books.quote(3.0, 3.0, START_NS)
    assert (books.view.realized_today_usd, books.view.unrealized_usd) == (0, 400)
    part = at(START_NS, fill(2, EXIT, 3, "2.50", "1.30"))
    (fact,) = books.dispatch(part)
    assert (fact.kind, fact.realized_today_usd, fact.unrealized_usd) == ("fill", Decimal("148.70"), 100)
    assert fact.equity_usd == 100_000 + fact.realized_today_usd + fact.unrealized_usd
    again = Books(*held(4), EXIT, part, at_ns=START_NS + NS)
    assert again.view.realized_today_usd == Decimal("148.70")
    again.quote(3.0, 3.0, NEXT.open_ns)
    opened = again.advance(NEXT.open_ns)[-1]
    assert (opened.kind, opened.date, opened.realized_today_usd) == ("open", NEXT.date, 0)


def settled(contracts: int, shares: int = 0) -> PositionSettled:
    ending = Ending.EXERCISED if shares else Ending.EXPIRED
    return PositionSettled(
        f"s{contracts}", ENTRY.trade_id, ending, SYMBOL, contracts, Decimal(0), "SPY" if shares else "", shares,
        Decimal(600) if shares else None, Decimal(0), "positions", (), START_NS,
    )  # fmt: skip


def test_a_settlement_is_marked_at_once_and_its_shares_by_their_own_quote() -> None:
    over = OrderClosed(ENTRY.order_id, ENTRY.trade_id, Purpose.ENTRY, 2, 2, "filled")
    books = Books(*held(), over)
    books.tell(1.9, 2.1, START_NS)
    list(books.engine.handle(START_NS, Quote("SPY", START_NS, 603.9, 1, 604.1, 1)))
    (first,) = books.dispatch(settled(1, 100))
    assert (first.kind, first.marks) == ("fill", {"SPY": Decimal("604.0"), SYMBOL: Decimal("2.0")})
    assert first.equity_usd == 100_000 - 400 - 60_000 + 60_400 + 200
    (second,) = books.dispatch(msgspec.structs.replace(settled(1), settlement_id="s2"))
    assert second.marks == {"SPY": Decimal("604.0")}
    assert second.realized_today_usd == -400  # both premiums are gone; the shares' gain is not realised


def test_what_has_expired_and_is_not_settled_has_no_invented_price() -> None:
    books = Books(*held())
    books.tell(1.9, 2.1, START_NS)
    books.quote(None, 0.11, START_NS + NS)
    assert books.keeper.view(START_NS + 59 * NS).marks_stale == 1  # the last fresh mark, for a minute
    assert books.keeper.view(START_NS + 61 * NS).equity_usd is None
    books.dispatch(settled(2))
    assert books.keeper.view(START_NS + 61 * NS).equity_usd == 100_000 - 400


def test_a_far_wing_without_a_bid_is_worth_nothing_once_its_last_mark_is_old() -> None:
    books = Books(*held())
    books.tell(0.05, 0.07, START_NS)
    books.tell(None, 0.10, START_NS + NS)
    assert books.keeper.view(START_NS + 60 * NS).marks_stale == 1  # a moment's missing side is not a price
    books.tell(None, 0.10, START_NS + 61 * NS)
    view = books.keeper.view(START_NS + 62 * NS)
    assert (view.equity_usd, view.marks_stale) == (100_000 - 400, 0)
    assert books.keeper.view(START_NS + 90 * NS).marks_stale == 1  # and that quote ages like any other


def test_a_short_is_worth_its_middle_else_what_it_costs_to_buy_back() -> None:
    sell = order("e", Purpose.ENTRY, Side.SELL)
    books = Books(sell, at(START_NS, fill(1, sell, 2, "2.00")))
    books.quote(1.8, 2.2, START_NS)
    assert books.keeper.view(START_NS).unrealized_usd == 0
    view = books.keeper.view(START_NS + 20 * NS)
    assert (view.unrealized_usd, view.marks_stale) == (Decimal("-40.0"), 1)
    assert books.keeper.view(START_NS + 20 * NS).equity_usd == 100_000 - 40

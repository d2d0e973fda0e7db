"""The account's value: unknown without a mark, a day start and a peak that survive restarts, results as they fill."""

from decimal import Decimal

import pytest

from oracle.core.engine import Engine
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.messages import EquityMarked, LatchChanged, LedgerSeeded, Message, Purpose, SessionOpened, Side
from oracle.core.ports import EquityView, OptionQuote
from oracle.core.sessions import MINUTE_NS, NS
from tests.unit.builders import CALL, OPEN_NS, START_NS, TABLE, Chains, House
from tests.unit.test_core_engine import at
from tests.unit.test_core_ledger import fill, order

SEED = LedgerSeeded(Decimal(100_000), Decimal(100_000), OPEN_NS - 3600 * NS)
ENTRY, EXIT = order("e", Purpose.ENTRY, Side.BUY), order("x", Purpose.TARGET, Side.SELL)
SYMBOL = ENTRY.symbol
NEXT = TABLE.sessions[1]


class Books:
    """A ledger, chains that a test sets, and a keeper, restored and in an engine."""

    def __init__(self, *books: Message, last: EquityMarked | None = None, at_ns: int = START_NS) -> None:
        self.chains, self.ledger, market = Chains(), Ledger(), MarketState()
        self.keeper = EquityKeeper(self.ledger, Marks(market, self.chains, 15))
        self.ledger.restore([SEED, *books])
        self.keeper.restore(last, SEED)
        self.engine = Engine(TABLE, market, self.chains, self.ledger, self.keeper)
        self.engine.start(at_ns)

    def quote(self, bid: float | None, ask: float | None, quoted_ns: int, received_ns: int | None = None) -> None:
        received_ns = quoted_ns if received_ns is None else received_ns
        self.chains.quotes[SYMBOL] = OptionQuote(SYMBOL, bid, 1, ask, 1, quoted_ns, received_ns)

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
    keeper = EquityKeeper(Ledger(), Marks(MarketState(), Chains(), 15))
    keeper.restore(None)
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
    marks = Marks(MarketState(), (chains := Chains()), 15)
    chains.quotes[CALL] = OptionQuote(CALL, None, 0, 0.05, 1, START_NS, START_NS)
    assert marks.mark(CALL, 1, START_NS) is None
    chains.quotes[CALL] = OptionQuote(CALL, 2.0, 1, 2.2, 1, START_NS, START_NS)
    assert marks.mark(CALL, 1, START_NS) == (Decimal("2.1"), False)
    for bid, ask in ((None, 0.05), (2.3, 2.2)):
        chains.quotes[CALL] = OptionQuote(CALL, bid, 0, ask, 1, START_NS + NS, START_NS + NS)
        assert marks.mark(CALL, 1, START_NS + 60 * NS) == (Decimal("2.1"), True)
        assert marks.mark(CALL, 1, START_NS + 60 * NS + 1) is None
    chains.quotes[CALL] = OptionQuote(CALL, 0.0, 1, None, 0, START_NS, START_NS)
    assert marks.mark(CALL, 1, START_NS) == (Decimal(0), True)


@pytest.mark.parametrize(("vendor_s", "arrival_s"), [(16, 0), (0, 16)])
def test_a_quote_is_as_old_as_the_older_of_vendor_time_and_arrival(vendor_s: int, arrival_s: int) -> None:
    marks = Marks(MarketState(), (chains := Chains()), 15)
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

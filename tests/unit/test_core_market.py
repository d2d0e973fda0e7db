"""Whether a stock trades: unknown at each new connection, shown by its trading, decided by a status."""

from typing import Any

import msgspec
import pytest

from oracle.core.market import MarketState
from oracle.core.marketdata import FeedChanged, Quote, TradingStatus
from oracle.core.messages import IntentRefused
from oracle.core.sessions import MINUTE_NS
from oracle.core.vocabulary import Feed, FeedState
from tests.unit.builders import OPEN_NS, START_NS, TABLE, House, bar, intent, of, one

CLOSE_NS = TABLE.sessions[0].close_ns


class Tape:
    """A market state with a clock in its first session."""

    def __init__(self) -> None:
        self.market = MarketState()
        self.base = House(ready=False).engine.context()

    def tell(self, message: Any, at_ns: int = START_NS, **context: Any) -> bool | None:
        now = msgspec.structs.replace(self.base, at_ns=at_ns, **context)
        assert list(dict(self.market.handlers())[type(message)](message, now)) == []
        return self.market.halted("SPY")

    def connect(self, epoch: int = 1, at_ns: int = START_NS, state: FeedState = FeedState.CONNECTING) -> None:
        self.tell(FeedChanged(Feed.STOCK, epoch, state, ""), at_ns)


def quote(quoted_ns: int, bid: float | None = 600.0, ask: float = 600.1) -> Quote:
    return Quote("SPY", quoted_ns, bid, 1, ask, 1)


def status(*, halted: bool) -> TradingStatus:
    return TradingStatus("SPY", START_NS, "H" if halted else "T", "", halted)


def test_before_any_connection_nothing_shows_trading() -> None:
    assert Tape().tell(quote(START_NS)) is None


@pytest.mark.parametrize(
    ("shown", "known"),
    [
        (quote(START_NS), False),
        (quote(START_NS - 1), None),
        (quote(START_NS, bid=None), None),
        (quote(START_NS, bid=600.2), None),
        (quote(CLOSE_NS), None),
        (bar(600.0, START_NS), False),
        (bar(600.0, START_NS - MINUTE_NS), None),
        (bar(600.0, START_NS, backfilled=True), None),
        (msgspec.structs.replace(bar(600.0, START_NS), volume=0), None),
        (status(halted=True), True),
        (status(halted=False), False),
    ],
)
def test_what_shows_that_a_stock_trades(shown: Any, known: bool | None) -> None:
    tape = Tape()
    tape.connect()
    assert tape.tell(shown) is known


def test_before_the_open_and_without_a_session_a_quote_shows_nothing() -> None:
    tape = Tape()
    tape.connect(at_ns=OPEN_NS - MINUTE_NS)
    assert tape.tell(quote(OPEN_NS - 1), OPEN_NS - 1) is None
    assert tape.tell(quote(OPEN_NS), OPEN_NS, session=None) is None
    assert tape.tell(quote(OPEN_NS), OPEN_NS) is False


def test_a_status_decides_until_the_next_connection() -> None:
    tape = Tape()
    tape.connect()
    tape.tell(status(halted=True))
    assert tape.tell(quote(START_NS + 1)) is True
    tape.connect(state=FeedState.LIVE)
    tape.connect(state=FeedState.STALE)
    assert tape.market.halted("SPY") is True
    tape.connect(state=FeedState.DOWN, at_ns=START_NS + 2)
    assert tape.market.halted("SPY") is None
    assert tape.tell(quote(START_NS + 1)) is None
    assert tape.tell(quote(START_NS + 3)) is False
    tape.connect(epoch=2, state=FeedState.BACKFILLING, at_ns=START_NS + 4)
    assert tape.market.halted("SPY") is None


def test_an_entry_is_refused_while_nothing_shows_that_its_underlying_trades() -> None:
    house = House()
    house.tell(FeedChanged(Feed.STOCK, 2, FeedState.CONNECTING, ""), 1)
    house.tell(FeedChanged(Feed.STOCK, 2, FeedState.LIVE, ""))
    refused = one(IntentRefused, house.tell(intent(at_ns=house.at_ns)))
    assert [r.rule for r in refused.refusals] == ["underlying_halted"]
    house.spot(600.0)
    assert of(IntentRefused, house.tell(intent(2, at_ns=house.at_ns))) == []

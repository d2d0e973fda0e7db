"""Which contracts are asked for and subscribed when quotes are broken, the process restarts or the session is over."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.marketdata import ChainListed, ChainReadFailed, ListedContract, Quote
from oracle.core.message import Message
from oracle.core.messages import OrderFilled, ReadChain, SetOptionSubscription, SetTimer, TimerFired
from oracle.core.ports import PositionView
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Purpose, Side
from oracle.options.keeper import ChainKeeper
from tests.unit.builders import CALL, DATES, OPEN_NS, START_NS, TABLE, House, of, one

FAR = "SPY260105C00700000"
NEXT_OPEN_NS = TABLE.sessions[1].open_ns


def listing(date: str = DATES[0], extra: Iterable[str] = ()) -> ChainListed:
    symbols = [f"SPY260105{right}00{strike:03d}000" for right in "CP" for strike in range(590, 711)]
    return ChainListed("SPY", date, tuple(ListedContract(s, 1, None, True) for s in sorted([*symbols, *extra])))


class Desk:
    """A keeper alone, with the house's market for quotes and positions that a test sets."""

    def __init__(self) -> None:
        self.house = House(ready=False)
        self.keeper = ChainKeeper({"SPY": 0}, 20)
        self.held: list[PositionView] = []
        self.at_ns = START_NS

    def positions(self) -> list[PositionView]:
        return self.held

    def hold(self, *symbols: str) -> None:
        self.held = [PositionView(symbol, 4, Decimal(1)) for symbol in symbols]

    def tell(self, message: Any) -> list[Message]:
        list(self.house.engine.handle(self.at_ns, message))
        context = msgspec.structs.replace(self.house.engine.context(), ledger=self)
        return list(dict(self.keeper.handlers())[type(message)](message, context))

    def spot(self, price: float = 600.0, bid: float | None = 0.0) -> list[Message]:
        bid = price - 0.01 if bid == 0.0 else bid
        return self.tell(Quote("SPY", self.at_ns, bid, 1, price + 0.01, 1))

    def fire(self, out: Iterable[Message]) -> list[Message]:
        """Wait for the timer that was asked for."""
        timer = one(SetTimer, out)
        self.at_ns = timer.at_ns
        return self.tell(TimerFired(timer.timer_id, timer.at_ns))


def crossed(desk: Desk) -> list[Message]:
    return desk.spot(bid=601.0)


def one_sided(desk: Desk) -> list[Message]:
    return desk.spot(bid=None)


@pytest.mark.parametrize("broken", [crossed, one_sided])
def test_a_listing_that_comes_while_spot_is_unknown_is_subscribed_at_the_next_middle(broken: Any) -> None:
    desk = Desk()
    assert of(ReadChain, desk.spot())
    assert broken(desk) == []
    assert desk.tell(listing()) == []
    (subscription,) = desk.spot(605.0)
    assert CALL.replace("600", "605") in one(SetOptionSubscription, [subscription]).symbols
    assert desk.spot(605.0) == []


def test_a_retry_waits_for_spot_and_ends_with_the_listing() -> None:
    desk = Desk()
    desk.spot()
    failed = desk.tell(ChainReadFailed("SPY", DATES[0], "timeout"))
    one_sided(desk)
    again = desk.fire(failed)
    assert of(ReadChain, again) == []
    desk.spot()
    assert [type(m) for m in desk.fire(again)] == [ReadChain]
    desk.tell(listing())
    assert desk.fire(again) == []
    assert desk.tell(TimerFired("equity:mark", desk.at_ns)) == []


def test_the_next_session_is_asked_for_a_quarter_of_an_hour_before_it_opens() -> None:
    desk = Desk()
    desk.spot()
    desk.tell(listing())
    for at_ns in (TABLE.sessions[0].close_ns + NS, NEXT_OPEN_NS - 15 * MINUTE_NS - 1):
        desk.at_ns = at_ns
        assert desk.spot() == []
    desk.at_ns = NEXT_OPEN_NS - 15 * MINUTE_NS
    assert one(ReadChain, desk.spot()).date == DATES[1]
    assert desk.spot() == []


def test_a_retry_that_fires_after_the_close_waits_for_the_next_session() -> None:
    desk = Desk()
    desk.spot()
    failed = desk.tell(ChainReadFailed("SPY", DATES[0], "timeout"))
    desk.at_ns = TABLE.sessions[0].close_ns - NS
    desk.spot()
    desk.at_ns = TABLE.sessions[0].close_ns + NS
    assert desk.tell(TimerFired(one(SetTimer, failed).timer_id, desk.at_ns)) == []
    desk.at_ns = NEXT_OPEN_NS
    assert one(ReadChain, desk.spot()).date == DATES[1]


def test_a_leg_held_before_a_restart_is_subscribed_with_the_listing() -> None:
    desk = Desk()
    desk.hold(FAR, "SPY")
    desk.spot()
    symbols = one(SetOptionSubscription, desk.tell(listing())).symbols
    assert FAR in symbols
    assert "SPY" not in symbols
    assert len(symbols) == 20


def test_a_held_leg_that_is_not_subscribed_is_seen_at_the_next_quote_or_fill() -> None:
    fill = OrderFilled(
        "x", "o-1", "o-1-1", "b", "t", "s", FAR, Side.BUY, Purpose.ENTRY, 1, Decimal(1), Decimal(0), Decimal(0), 1
    )
    context = House(ready=False).engine.context()
    for by_quote in (True, False):
        desk = Desk()
        desk.spot()
        assert FAR not in one(SetOptionSubscription, desk.tell(listing())).symbols
        desk.hold(FAR)
        now = msgspec.structs.replace(context, ledger=desk, at_ns=START_NS)
        out = desk.spot() if by_quote else list(desk.keeper.on_filled(fill, now))
        assert FAR in one(SetOptionSubscription, out).symbols
        assert desk.spot() == []


def test_adjusted_contracts_are_never_subscribed() -> None:
    desk = Desk()
    desk.spot()
    extra = [f"SPY1260105C00{strike:03d}000" for strike in range(595, 606)]
    symbols = one(SetOptionSubscription, desk.tell(listing(extra=extra))).symbols
    assert not set(symbols) & set(extra)


def test_nothing_is_asked_for_before_the_first_session_is_near() -> None:
    desk = Desk()
    desk.at_ns = OPEN_NS  # the house has started at the open
    desk.spot()
    assert desk.tell(Quote("QQQ", OPEN_NS, 1.0, 1, 1.1, 1)) == []
    assert desk.tell(msgspec.structs.replace(listing(), underlying="QQQ")) == []

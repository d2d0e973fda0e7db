"""Which chains are read and which contracts are subscribed, on a real engine with a real ledger."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.core.engine import Engine
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.instruments import OptionContract, Right
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import ChainListed, ChainReadFailed, ListedContract, Quote
from oracle.core.message import Message
from oracle.core.messages import (
    LedgerSeeded,
    OptionsWanted,
    OrderFilled,
    ReadChain,
    SetOptionSubscription,
    SubmitOrder,
)
from oracle.core.sessions import NS
from oracle.core.vocabulary import Purpose, Side
from oracle.options.keeper import RECENTRE_SHARE, RETRY_S, ChainKeeper
from tests.unit.builders import DATES, FEE, OPEN_NS, TABLE, Chains, entry_order, of, one

EARLY_NS = OPEN_NS - 300 * NS


def occ(strike: int, expiry: str = DATES[0], underlying: str = "SPY", right: str = "C") -> str:
    return OptionContract(underlying, expiry, Right(right), strike * 1000).occ


def listing(
    underlying: str = "SPY", date: str = DATES[0], centre: int = 600, reach: int = 30, expiries: tuple[str, ...] = ()
) -> ChainListed:
    """Calls and puts a dollar apart around a centre."""
    rows = [
        occ(strike, expiry, underlying, right)
        for expiry in expiries or (date,)
        for right in "CP"
        for strike in range(centre - reach, centre + reach + 1)
    ]
    return ChainListed(underlying, date, tuple(ListedContract(s, 1, None, True) for s in sorted(rows)))


def bought(symbol: str, n: int = 1, side: Side = Side.BUY, contracts: int = 1) -> tuple[SubmitOrder, OrderFilled]:
    """An order for a contract and its whole fill."""
    order_id = f"tok-20260105-bo-{n:06d}"
    order = entry_order(order_id, contracts, symbol=symbol, side=side)
    fill = OrderFilled(
        f"e{n}", order_id, f"{order_id}-1", "b", order_id, "breakout", symbol, side, Purpose.ENTRY, contracts,
        Decimal(1), Decimal(0), FEE, EARLY_NS,
    )  # fmt: skip
    return order, fill


class World:
    """A real engine with the keeper; ``held`` contracts are in the restored ledger."""

    def __init__(
        self, limit: int = 40, held: tuple[str, ...] = (), on_demand: tuple[str, ...] = (), **ahead: int
    ) -> None:
        self.ledger, market, chains = Ledger(), MarketState(), Chains()
        chains.spots["SPY"] = 600.0
        books: list[Message] = [LedgerSeeded(Decimal(100_000), Decimal(100_000), EARLY_NS)]
        for n, symbol in enumerate(held):
            books.extend(bought(symbol, 100 + n))
        self.ledger.restore(books)
        equity = EquityKeeper(self.ledger, Marks(market, chains, 15, self.ledger.held))
        self.engine = Engine(TABLE, market, chains, self.ledger, equity)
        self.keeper = ChainKeeper(ahead or {"SPY": 0}, limit, on_demand)
        self.engine.bus.subscribe(self.keeper.handlers())
        self.engine.start(EARLY_NS)
        self.at_ns = EARLY_NS

    def tell(self, message: Any, after_s: float = 1) -> list[Message]:
        self.at_ns += round(after_s * NS)
        return [m for turn in self.engine.handle(self.at_ns, message) for m in turn.messages]

    def spot(self, price: float, symbol: str = "SPY", after_s: float = 1) -> list[Message]:
        return self.tell(Quote(symbol, self.at_ns, price - 0.01, 1, price + 0.01, 1), after_s)

    def crossed(self, symbol: str = "SPY") -> list[Message]:
        return self.tell(Quote(symbol, self.at_ns, 600.5, 1, 600.0, 1))

    def subscribed(self, messages: list[Message]) -> tuple[str, ...]:
        symbols: tuple[str, ...] = one(SetOptionSubscription, messages).symbols
        assert list(symbols) == sorted(set(symbols))
        return symbols

    def buy(self, symbol: str, n: int = 1) -> list[Message]:
        order, fill = bought(symbol, n)
        self.ledger.on_submit(order, self.engine.context())
        return self.tell(fill)


def test_the_chain_is_asked_for_once_when_spot_is_known() -> None:
    world = World(SPY=2)
    assert world.crossed() == []
    assert world.spot(650.0, symbol="QQQ") == []
    asked = one(ReadChain, world.spot(600.125))
    # Two sessions ahead of Monday is Wednesday; strikes within a fifth of spot.
    assert asked == ReadChain("SPY", DATES[0], DATES[0], DATES[2], Decimal("480.10"), Decimal("720.14"))
    assert world.spot(601.0) == []


def test_the_nearest_strikes_are_subscribed_within_the_limit() -> None:
    world = World(limit=10)
    world.spot(600.2)
    symbols = world.subscribed(world.tell(listing()))
    assert symbols == tuple(sorted(occ(k, right=r) for k in (598, 599, 600, 601, 602) for r in "CP"))


def test_the_limit_is_shared_over_underlyings_and_expiries() -> None:
    world = World(limit=12, SPY=1, QQQ=0)
    world.spot(600.2)
    world.spot(500.2, "QQQ")
    world.tell(listing(expiries=DATES[:2]))
    symbols = world.subscribed(world.tell(listing("QQQ", centre=500)))
    groups = [sum(s.startswith(head) for s in symbols) for head in ("SPY260105", "SPY260106", "QQQ260105")]
    assert groups == [4, 4, 4]


def test_the_subscription_follows_spot_once_it_has_moved_far_enough() -> None:
    world = World(limit=40)
    world.spot(600.0)
    world.tell(listing())
    half_width = 10
    assert of(SetOptionSubscription, world.spot(600 + RECENTRE_SHARE * half_width - 0.2)) == []
    moved = world.subscribed(world.spot(600 + RECENTRE_SHARE * half_width + 0.2))
    assert occ(613) in moved
    assert occ(590) not in moved
    assert of(SetOptionSubscription, world.spot(603.9)) == [], "it is centred anew"
    assert of(SetOptionSubscription, world.crossed()) == []


def test_legs_held_come_first_and_stay_however_far_spot_goes() -> None:
    world = World(limit=10)
    world.spot(600.0)
    world.tell(listing())
    far = occ(629)
    assert far in world.subscribed(world.buy(far))
    for price in (605.0, 610.0, 580.0):
        assert far in world.subscribed(world.spot(price))


def test_a_fill_in_what_is_subscribed_changes_nothing() -> None:
    world = World(limit=10)
    world.spot(600.0)
    world.tell(listing())
    assert of(SetOptionSubscription, world.buy(occ(600))) == []


def test_legs_held_before_a_restart_are_subscribed() -> None:
    far = occ(629)
    world = World(limit=10, held=(far,))
    world.spot(600.0)
    symbols = world.subscribed(world.tell(listing()))
    assert far in symbols
    assert len(symbols) <= 10


def test_what_is_held_of_a_chain_on_demand_is_listed_and_watched_after_a_restart() -> None:
    far = occ(629)
    world = World(limit=10, held=(far,), on_demand=("SPY", "QQQ"), SPY=0, QQQ=0)
    assert world.spot(500.0, "QQQ") == []
    assert one(ReadChain, world.spot(600.0)).underlying == "SPY"
    # No strategy wants the chain: what is held is all that is subscribed, wherever spot goes.
    assert world.subscribed(world.tell(listing())) == (far,)
    assert world.spot(628.0) == []


def test_what_is_held_of_a_chain_on_demand_is_listed_again_the_next_session() -> None:
    tomorrow = occ(600, DATES[1])
    world = World(limit=10, on_demand=("SPY",), SPY=1)
    assert world.spot(600.0) == []
    assert one(ReadChain, world.tell(OptionsWanted("any", "SPY", True))).date == DATES[0]
    world.tell(listing(expiries=DATES[:2]))
    world.buy(tomorrow)
    assert world.subscribed(world.tell(OptionsWanted("any", "SPY", False))) == (tomorrow,)
    asked = one(ReadChain, world.spot(601.0, after_s=24 * 3600))
    assert asked.date == DATES[1]
    world.tell(listing(date=DATES[1]))
    order, fill = bought(tomorrow, 2, Side.SELL)
    world.ledger.on_submit(order, world.engine.context())
    assert world.subscribed(world.tell(fill)) == ()
    assert world.spot(640.0) == []


def test_more_legs_than_the_limit_never_exceed_it() -> None:
    world = World(limit=4, held=tuple(occ(k) for k in range(610, 620)))
    world.spot(600.0)
    assert len(world.subscribed(world.tell(listing()))) == 4


def test_a_failed_read_is_repeated_until_it_succeeds() -> None:
    world = World()
    world.spot(600.0)
    for _ in range(3):
        world.tell(ChainReadFailed("SPY", DATES[0], "429"))
        assert of(ReadChain, world.spot(600.0, after_s=RETRY_S - 2)) == []
        assert one(ReadChain, world.spot(600.0, after_s=3)).date == DATES[0]
    world.subscribed(world.tell(listing()))
    assert of(ReadChain, world.spot(600.0, after_s=RETRY_S + 1)) == []


def test_a_retry_that_meets_a_crossed_market_is_not_lost() -> None:
    world = World()
    world.spot(600.0)
    world.tell(ChainReadFailed("SPY", DATES[0], "timeout"))
    world.crossed()
    found: list[Message] = []
    for _ in range(4):
        found += world.tell(Quote("OTHER", 1, 1.0, 1, 1.1, 1), after_s=RETRY_S)
    assert of(ReadChain, found) == [], "there is no spot to centre a read on"
    found = world.spot(600.0) + world.spot(600.0, after_s=RETRY_S + 1)
    assert len(of(ReadChain, found)) == 1


def test_a_listing_that_meets_a_crossed_market_is_used_with_the_next_quote() -> None:
    world = World(limit=10)
    world.spot(600.0)
    world.crossed()
    assert of(SetOptionSubscription, world.tell(listing())) == []
    assert len(world.subscribed(world.spot(600.0))) == 10


def test_the_next_session_asks_anew_and_forgets_yesterdays_contracts() -> None:
    world = World(limit=10)
    world.spot(600.0)
    world.tell(listing())
    asked = one(ReadChain, world.spot(640.0, after_s=24 * 3600))
    assert (asked.date, asked.expiry_from) == (DATES[1], DATES[1])
    symbols = world.subscribed(world.tell(listing(date=DATES[1], centre=640)))
    assert all(s.startswith("SPY260106") for s in symbols)
    assert occ(640, DATES[1]) in symbols


def test_a_listing_of_another_day_or_underlying_is_not_subscribed() -> None:
    world = World(limit=10)
    world.spot(600.0)
    assert of(SetOptionSubscription, world.tell(listing("GME"))) == []
    assert of(SetOptionSubscription, world.tell(listing(date=DATES[3]))) == []
    assert len(world.subscribed(world.tell(listing()))) == 10


def test_past_the_calendars_end_nothing_is_asked() -> None:
    world = World(SPY=3)
    last = TABLE.sessions[-1]
    world.at_ns = last.open_ns - 60 * NS
    assert one(ReadChain, world.spot(600.0)).expiry_to == last.date
    world.at_ns = last.close_ns
    assert of(ReadChain, world.spot(600.0)) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("spot"), st.floats(560, 640)),
        st.tuples(st.just("list"), st.integers(1, 40)),
        st.tuples(st.just("buy"), st.integers(570, 630)),
        st.tuples(st.just("crossed"), st.just(0)),
        st.tuples(st.just("fail"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(limit=st.integers(2, 60), steps=STEPS, expiries=st.integers(1, 3))
def test_whatever_happens_the_limit_holds_and_legs_held_are_in(
    limit: int, steps: list[tuple[str, float]], expiries: int
) -> None:
    world = World(limit=limit, SPY=expiries - 1)
    current: tuple[str, ...] = ()
    world.spot(600.0)
    for n, (kind, value) in enumerate(steps, 1):
        match kind:
            case "spot":
                out = world.spot(value)
            case "list":
                out = world.tell(listing(reach=int(value), expiries=DATES[:expiries]))
            case "buy":
                out = world.buy(occ(int(value)), n)
            case "crossed":
                out = world.crossed()
            case _:
                out = world.tell(ChainReadFailed("SPY", DATES[0], "x"))
        for change in of(SetOptionSubscription, out):
            current = change.symbols
            assert len(current) <= limit
            assert list(current) == sorted(set(current))
        held = [p.symbol for p in world.ledger.positions()]
        if current and kind in ("buy", "list", "spot"):
            assert set(held[:limit]) <= set(current)


@pytest.mark.parametrize("hash_order", [("SPY", "QQQ", "IWM"), ("IWM", "SPY", "QQQ")])
def test_the_order_of_configuration_does_not_show(hash_order: tuple[str, ...]) -> None:
    world = World(limit=9, **dict.fromkeys(hash_order, 0))
    for symbol in ("QQQ", "IWM", "SPY"):
        world.spot(600.0, symbol)
    out: list[Message] = []
    for symbol in ("QQQ", "IWM", "SPY"):
        out = world.tell(listing(symbol))
    symbols = world.subscribed(out)
    assert len(symbols) == 9
    assert [sum(s.startswith(u) for s in symbols) for u in ("IWM", "QQQ", "SPY")] == [3, 3, 3]

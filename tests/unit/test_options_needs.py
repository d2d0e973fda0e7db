"""Several needs at once: streamed by name, read once a minute, legs of working orders, listings of what is held."""

from typing import Any

from oracle.core.instruments import parse_occ
from oracle.core.marketdata import ChainListed, ListedContract, Quote
from oracle.core.message import Message
from oracle.core.messages import (
    OptionsWanted,
    OrderClosed,
    ReadChain,
    ReadOptionQuotes,
    SetOptionSubscription,
    SetTimer,
    TimerFired,
)
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.structures import OrderLeg, structure_name
from oracle.core.vocabulary import Purpose, Side
from oracle.options.keeper import READ_TIMER, ChainKeeper
from oracle.options.needs import NEAREST_STRIKES, Slot, read_at_times, share_out
from tests.unit.builders import DATES, OPEN_NS, entry_order, of, one
from tests.unit.test_options_keeper import World, listing, occ

FAR = DATES[4]
OPEN = OPEN_NS + 30 * MINUTE_NS


class Needs(World):
    """A world whose keeper serves one strategy that always looks at today, and others at times."""

    def __init__(self, limit: int = 60, always: dict[str, int] | None = None, held: tuple[str, ...] = ()) -> None:
        super().__init__(limit, held)
        on_demand = () if always else ("SPY",)
        self.keeper = ChainKeeper(
            {"SPY": 4}, limit, on_demand, always_ahead=always or {}, ahead_of={"cross": 1}
        )  # fmt: skip
        for kind, handler in self.keeper.handlers():
            handlers = self.engine.bus._handlers
            handlers[kind] = [h for h in handlers[kind] if not isinstance(getattr(h, "__self__", None), ChainKeeper)]
            handlers[kind].append(handler)
        self.at_ns = OPEN
        self.engine.advance(OPEN)

    def list_all(self) -> list[Message]:
        self.spot(600.0)
        # Who wants an expiry that does not exist has the chain listed, and gets nothing of it.
        self.want("idle", "2026-03-20")
        return self.tell(listing(expiries=(DATES[0], DATES[1], FAR)))

    def want(self, strategy: str = "vol", *expiries: str, reach: float | None = None, wanted: bool = True) -> Any:
        return self.tell(OptionsWanted(strategy, "SPY", wanted, expiries, reach))


def expiries(symbols: tuple[str, ...]) -> set[str]:
    return {parse_occ(symbol).expiry for symbol in symbols}


def test_an_always_wanted_chain_streams_only_as_far_as_it_is_looked_at() -> None:
    world = Needs(always={"SPY": 0})
    assert one(ReadChain, world.spot(600.0)).expiry_to == FAR, "it is listed as far as anybody may look"
    symbols = world.subscribed(world.tell(listing(expiries=(DATES[0], DATES[1], FAR))))
    assert expiries(symbols) == {DATES[0]}


def test_a_near_expiry_by_name_is_streamed_with_far_strikes_out_of_the_money() -> None:
    world = Needs(limit=40)
    world.want("condor", DATES[0])
    symbols = world.subscribed(world.list_all())
    assert expiries(symbols) == {DATES[0]}
    strikes = sorted(parse_occ(s).strike for s in symbols)
    assert len(symbols) == 40
    assert strikes[-1] - strikes[0] > 30, "both rights of all strikes would reach 10 each way"
    far = [parse_occ(s) for s in symbols if abs(parse_occ(s).strike - 600) > NEAREST_STRIKES]
    assert far
    assert all(c.is_call is (c.strike > 600) for c in far)
    assert world.subscribed(world.want("condor", wanted=False)) == ()


def test_a_wide_expiry_gets_twice_the_share_of_the_limit() -> None:
    rows = [(float(k), occ(k, e, right=r), r == "C") for k in range(560, 641) for r in "CP" for e in DATES[:1]]
    wide, plain = Slot("SPY", rows, 600.0, wide=True), Slot("QQQ", rows, 600.0, wide=False)
    chosen, widths = share_out([wide], 60)
    assert len(chosen) == 60
    chosen, widths = share_out([plain], 60)
    assert (len(chosen), widths) == (60, {"QQQ": 15.0})
    _, widths = share_out([wide, plain], 60)
    assert widths["SPY"] > widths["QQQ"] == 5.0


def test_a_later_expiry_is_read_at_once_and_then_once_a_minute() -> None:
    world = Needs()
    world.list_all()
    out = world.want("vol", FAR, reach=0.01)
    assert of(SetOptionSubscription, out) == []
    read = one(ReadOptionQuotes, out)
    assert expiries(read.symbols) == {FAR}
    assert {parse_occ(s).strike for s in read.symbols} == set(range(594, 607))
    timer = one(SetTimer, out)
    assert (timer.timer_id, timer.at_ns % MINUTE_NS) == (READ_TIMER, 56 * NS)
    world.at_ns = timer.at_ns
    again = world.tell(Quote("OTHER", world.at_ns, 1.0, 1, 1.1, 1), after_s=1)
    assert one(ReadOptionQuotes, again) == read
    assert one(SetTimer, again).at_ns == timer.at_ns + MINUTE_NS
    world.want("vol", wanted=False)
    over = world.tell(Quote("OTHER", world.at_ns, 1.0, 1, 1.1, 1), after_s=60)
    assert of(ReadOptionQuotes, over) == []
    assert of(SetTimer, over) == []


def test_without_a_reach_all_strikes_out_of_the_money_are_read() -> None:
    world = Needs()
    world.list_all()
    read = one(ReadOptionQuotes, world.want("vol", FAR))
    strikes = {(parse_occ(s).strike, parse_occ(s).is_call) for s in read.symbols}
    assert (630.0, True) in strikes
    assert (570.0, False) in strikes
    assert (630.0, False) not in strikes
    assert (588.0, True) in strikes, "both rights within 2 % of spot"


def test_at_least_the_nearest_strikes_are_read() -> None:
    rows = [(float(k), f"{k}", True) for k in range(100, 200, 10)]
    assert len(read_at_times(rows, 150.0, 0.001)) == NEAREST_STRIKES


def test_who_names_no_expiry_and_is_no_strategy_gets_the_money_of_all_that_is_not_streamed() -> None:
    world = Needs(always={"SPY": 0})
    world.list_all()
    read = one(ReadOptionQuotes, world.want("volatility"))
    assert expiries(read.symbols) == {DATES[1], FAR}
    near = Needs()
    near.list_all()
    symbols = near.subscribed(near.want("cross"))
    assert expiries(symbols) == {DATES[0], DATES[1]}, "a strategy looks as far as it says"


def test_nothing_is_read_outside_the_session_or_before_the_listing() -> None:
    world = Needs()
    world.spot(600.0)
    assert of(ReadOptionQuotes, world.want("vol", FAR)) == []
    assert of(ReadOptionQuotes, world.tell(listing(expiries=(DATES[0], FAR)))) != []
    closed = Needs()
    closed.list_all()
    closed.at_ns = OPEN_NS + 391 * MINUTE_NS
    assert of(ReadOptionQuotes, closed.want("vol", FAR)) == []


def test_legs_of_a_working_structure_are_streamed_until_it_is_over() -> None:
    world = Needs()
    world.list_all()
    legs = [OrderLeg(occ(620, FAR), Side.SELL), OrderLeg(occ(630, FAR), Side.BUY)]
    order = entry_order("tok-1", 1, symbol=structure_name(legs))
    out = list(world.keeper.on_submit(order, world.engine.context()))
    assert world.subscribed(out) == tuple(sorted(leg.symbol for leg in legs))
    assert list(world.keeper.on_submit(order, world.engine.context())) == []
    world.keeper.on_order_closed(OrderClosed("tok-1", "tok-1", Purpose.ENTRY, 0, 1, "canceled"), world.engine.context())
    assert world.subscribed(world.want("condor", DATES[0]))[0].startswith("SPY260105")


def test_the_listing_reaches_as_far_as_what_is_held() -> None:
    strike, late = 800, "2026-02-20"
    world = World(held=(occ(strike, late),))
    asked = one(ReadChain, world.spot(600.0))
    assert (asked.expiry_to, asked.strike_to_usd) == (late, strike)
    assert asked.strike_from_usd == 480
    gone = World(held=(occ(900, "2025-12-19"),))
    assert one(ReadChain, gone.spot(600.0)).expiry_to == DATES[0], "what has expired is not listed any more"


def test_a_listing_of_one_strike_is_read_whole() -> None:
    world = Needs()
    world.spot(600.0)
    world.want("idle", "2026-03-20")
    rows = tuple(ListedContract(s, 1, None, True) for s in sorted(occ(600, FAR, right=r) for r in "CP"))
    world.tell(ChainListed("SPY", DATES[0], rows))
    assert len(one(ReadOptionQuotes, world.want("vol", FAR)).symbols) == 2


def test_a_foreign_timer_is_not_its_own() -> None:
    world = Needs()
    assert list(world.keeper.on_timer(TimerFired("equity:mark", OPEN), world.engine.context())) == []

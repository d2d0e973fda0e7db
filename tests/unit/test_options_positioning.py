"""Positioning in the core: levels once a minute, flow of the window, and a reason wherever nothing is known."""

import datetime as dt
import math

import msgspec
import numpy as np
import pytest

from oracle.calendar import load_sessions
from oracle.core.errors import InvariantError
from oracle.core.instruments import OptionContract, Right
from oracle.core.marketdata import Bar, ChainListed, ChainQuotes, FeedChanged, ListedContract, OptionTrades
from oracle.core.messages import PositioningMeasured, SessionClosed, SetOptionSubscription
from oracle.core.positioning import FlowSeen, GammaLevels, NotKnown
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Feed, FeedState
from oracle.options.chain import Chains
from oracle.options.positioning import Positioning
from oracle.options.pricing import black_forward
from oracle.options.selection import YEAR_NS
from tests.unit.contexts import context_at

TABLE = load_sessions(dt.date(2025, 12, 1), dt.date(2026, 1, 30))
DATE = "2026-01-05"
SESSION = TABLE.on(DATE)
AT = SESSION.open_ns + 60 * MINUTE_NS
SPOT, VOL = 600.0, 0.15
STRIKES = range(590, 611)
INTEREST = {(602, "C"): 50_000, (597, "P"): 40_000}


def occ(strike, right, expiry=DATE):
    return OptionContract("SPY", expiry, Right(right), strike * 1000).occ


def listing(strikes=STRIKES, interest=INTEREST, told=500, date=DATE, expiry=DATE):
    contracts = sorted((occ(k, r, expiry), interest.get((k, r), told)) for k in strikes for r in "CP")
    return ChainListed("SPY", date, tuple(ListedContract(s, n, "2026-01-02", True) for s, n in contracts))


class Desk:
    """Chains and positioning, told one after the other as the bus does."""

    def __init__(self, no_flow="", live=True):
        self.chains = Chains(TABLE, rate_per_year=0.0)
        self.positioning = Positioning(self.chains, TABLE, rate_per_year=0.0, no_flow=no_flow)
        if live:
            self.tell(FeedChanged(Feed.OPTION, 1, FeedState.LIVE, "connected"), SESSION.open_ns - MINUTE_NS)

    def tell(self, message, at_ns=AT):
        out = []
        for actor in (self.chains, self.positioning):
            for kind, handler in actor.handlers():
                if kind is type(message):
                    out += handler(message, context_at(TABLE, at_ns, self.chains, positioning=self.positioning))
        return out

    def quoted(self, listed=None, at_ns=AT, spot=SPOT, vol=VOL):
        listed = listing() if listed is None else listed
        self.tell(listed, at_ns)
        self.tell(quotes(listed, at_ns, spot, vol), at_ns)
        self.tell(Bar("SPY", at_ns - MINUTE_NS, spot, spot, spot, spot, 1000, 10, spot), at_ns)
        return self

    def gamma(self, at_ns=AT, **more):
        return self.positioning.gamma("SPY", at_ns, **more)

    def flow(self, at_ns=AT):
        return self.positioning.flow("SPY", at_ns)


def quotes(listed, at_ns, spot, vol):
    strike = np.array([int(c.symbol[-8:]) / 1000 for c in listed.contracts])
    is_call = np.array([c.symbol[-9] == "C" for c in listed.contracts])
    expiry = [f"20{c.symbol[3:5]}-{c.symbol[5:7]}-{c.symbol[7:9]}" for c in listed.contracts]
    years = np.array([max(TABLE.expiry_ns(e) - at_ns, 1) / YEAR_NS for e in expiry])
    price = black_forward(spot, strike, years, vol, is_call)
    n = len(strike)
    return ChainQuotes(
        "SPY", listed.date, np.arange(n, dtype="<i4").tobytes(), np.maximum(price - 0.005, 0.0).astype("<f8").tobytes(),
        (price + 0.005).astype("<f8").tobytes(), np.full(n, 5, "<i4").tobytes(), np.full(n, 5, "<i4").tobytes(),
        np.full(n, at_ns, "<i8").tobytes(),
    )  # fmt: skip


def traded(listed, *rows, at_ns=AT, lost=0, date=None):
    """Trades as (symbol, price, size, ns before at_ns, venue, bid, ask)."""
    place = {c.symbol: i for i, c in enumerate(listed.contracts)}
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    return OptionTrades(
        "SPY", listed.date if date is None else date, np.array([place[s] for s in columns[0]], "<i4").tobytes(),
        np.array(columns[1], "<f8").tobytes(), np.array(columns[2], "<i4").tobytes(),
        np.array([at_ns - n for n in columns[3]], "<i8").tobytes(), "".join(columns[4]).encode(),
        np.array(columns[5], "<f8").tobytes(), np.array(columns[6], "<f8").tobytes(), lost,
    )  # fmt: skip


def block(symbol=None, size=300, ns=0, bought=True):
    symbol = occ(602, "C") if symbol is None else symbol
    return (symbol, 2.0, size, ns, "A", 1.9, 2.0) if bought else (symbol, 1.9, size, ns, "A", 1.9, 2.0)


# ------------------------------------------------------------------------------------------------------- gamma


def test_walls_lie_where_the_open_interest_was_put():
    levels = Desk().quoted().gamma()
    assert isinstance(levels, GammaLevels)
    assert (levels.call_wall, levels.put_wall, levels.pin) == (602.0, 597.0, 602.0)
    assert levels.open_interest_date == "2026-01-02"
    assert levels.spot == SPOT
    assert levels.at_ns == AT
    assert levels.net_gamma_usd > 0
    assert 597 < levels.flip < 602
    assert levels.contracts_used + sum(levels.left_out.values()) == len(listing().contracts)


def test_levels_are_computed_once_a_minute_and_again_in_the_next():
    desk = Desk().quoted()
    first = desk.gamma()
    desk.tell(quotes(listing(), AT + NS, 601.5, 0.3), AT + NS)
    assert desk.gamma(AT + 2 * NS) is first
    assert desk.gamma(AT + MINUTE_NS) is not first


def test_levels_that_nobody_needs_now_are_those_measured_last():
    at_ns = AT + MINUTE_NS
    desk = Desk().quoted(at_ns=at_ns)
    assert desk.gamma(at_ns, fresh=False) == NotKnown("not_measured", {})
    measured = desk.gamma(at_ns)
    assert desk.gamma(at_ns + 5 * MINUTE_NS, fresh=False) is measured
    assert desk.gamma(at_ns + 5 * MINUTE_NS + 1, fresh=False) == NotKnown("not_measured", {})


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (None, "chain"), (ChainListed("SPY", DATE, ()), "chain"), (listing(told=None, interest={}), "open_interest"),
        (listing(told=0, interest={}), "open_interest"),
    ],
    ids=["no chain", "empty chain", "no interest told", "zero interest"],
)  # fmt: skip
def test_what_is_missing_is_named(listed, reason):
    desk = Desk()
    if listed is not None:
        desk.quoted(listed) if listed.contracts else desk.tell(listed)
    assert desk.gamma().reason == reason


def test_without_spot_or_without_quotes_there_are_no_levels():
    desk = Desk()
    desk.tell(listing())
    assert desk.gamma().reason == "spot"
    desk.tell(Bar("SPY", AT - MINUTE_NS, SPOT, SPOT, SPOT, SPOT, 1, 1, SPOT))
    assert desk.gamma().reason == "implied_vol"


def test_a_chain_of_one_strike_has_a_wall_and_no_flip():
    levels = Desk().quoted(listing(range(600, 601), {(600, "C"): 10, (600, "P"): 1})).gamma()
    assert (levels.call_wall, levels.put_wall, levels.flip) == (600.0, 600.0, None)


def test_expired_and_stale_contracts_are_left_out_with_the_reason():
    desk = Desk().quoted()
    later = AT + 20 * MINUTE_NS
    desk.tell(Bar("SPY", later - MINUTE_NS, SPOT, SPOT, SPOT, SPOT, 1, 1, SPOT), later)
    assert desk.gamma(later).reason == "implied_vol"
    both = ChainListed("SPY", DATE, tuple(sorted(
        (*listing().contracts, *listing(expiry="2026-01-02").contracts), key=lambda c: c.symbol)))  # fmt: skip
    levels = Desk().quoted(both).gamma()
    assert levels.left_out["expired"] == len(listing().contracts)
    assert levels.call_wall == 602.0


def test_adjusted_contracts_weigh_nothing():
    odd = ListedContract("SPY1260105C00605000", 900_000, "2026-01-02", True)
    listed = listing()
    with_odd = ChainListed("SPY", DATE, (*listed.contracts, odd))
    desk = Desk()
    desk.tell(with_odd)
    desk.tell(quotes(listed, AT, SPOT, VOL))
    desk.tell(Bar("SPY", AT - MINUTE_NS, SPOT, SPOT, SPOT, SPOT, 1, 1, SPOT))
    assert desk.gamma().call_wall == 602.0


# -------------------------------------------------------------------------------------------------------- flow


def test_the_window_tells_premium_and_activities_by_direction():
    desk, listed = Desk().quoted(), listing()
    desk.tell(traded(listed, block(), block(occ(597, "P"), 400), block(occ(600, "C"), 500, bought=False)))
    seen = desk.flow()
    assert isinstance(seen, FlowSeen)
    assert (seen.bullish_usd, seen.bearish_usd) == (60_000.0, 80_000.0 + 95_000.0)
    assert (seen.bullish_n, seen.bearish_n) == (1, 2)
    assert desk.flow(AT + 31 * MINUTE_NS).bullish_n == 0


def test_no_trade_heard_is_no_data_and_trades_without_activity_are_zero():
    desk = Desk().quoted()
    assert desk.flow() == NotKnown("option_trades", {})
    desk.tell(traded(listing(), block(size=1)))
    assert (desk.flow().bullish_usd, desk.flow().bullish_n) == (0.0, 0)


def test_the_indicative_feed_says_nothing_of_flow_and_everything_of_gamma():
    desk = Desk(no_flow="indicative_feed").quoted()
    desk.tell(traded(listing(), block()))
    assert desk.flow() == NotKnown("indicative_feed", {})
    assert isinstance(desk.gamma(), GammaLevels)


def test_nothing_is_concluded_across_a_hole_in_the_trades():
    desk = Desk().quoted()
    desk.tell(traded(listing(), block()))
    desk.tell(traded(listing(), block(size=200), at_ns=AT + NS, lost=7), AT + NS)
    seen = desk.flow(AT + NS)
    assert (seen.bullish_n, seen.bullish_usd, seen.since_ns) == (0, 0.0, AT + NS)
    assert desk.positioning.lost == 7
    desk.tell(FeedChanged(Feed.OPTION, 1, FeedState.DOWN, "cut"), AT + 2 * NS)
    assert desk.flow(AT + 2 * NS) == NotKnown("option_feed_down", {})
    desk.tell(FeedChanged(Feed.OPTION, 2, FeedState.LIVE, "back"), AT + 3 * NS)
    assert desk.flow(AT + 3 * NS).since_ns == AT + 3 * NS
    desk.tell(traded(listing(), block(), at_ns=AT + 4 * NS), AT + 4 * NS)
    assert desk.flow(AT + 4 * NS).bullish_n == 1


def test_a_new_listing_of_the_session_keeps_the_flow_and_one_of_another_session_does_not():
    desk = Desk().quoted()
    desk.tell(traded(listing(), block()))
    desk.tell(listing(range(595, 606)))
    assert desk.flow().bullish_n == 1
    desk.tell(listing(date="2026-01-06"))
    assert desk.flow() == NotKnown("option_trades", {})


def test_a_listing_of_an_earlier_session_says_nothing_of_this_one():
    listed = listing(expiry="2026-01-09")
    desk = Desk().quoted(listed)
    desk.tell(traded(listed, block(occ(602, "C", "2026-01-09"))))
    assert isinstance(desk.gamma(), GammaLevels)
    assert isinstance(desk.flow(), FlowSeen)
    later = TABLE.on("2026-01-06").open_ns + 60 * MINUTE_NS
    assert desk.gamma(later) == NotKnown("chain", {})
    assert desk.gamma(later, fresh=False) == NotKnown("chain", {})
    assert desk.flow(later) == NotKnown("chain", {})


def test_trades_of_another_sessions_listing_are_dropped_and_a_row_outside_is_a_fault():
    desk = Desk().quoted()
    desk.tell(traded(listing(), block(), date="2026-01-02"))
    assert desk.flow() == NotKnown("option_trades", {})
    assert desk.positioning.misdated == 1
    with pytest.raises(InvariantError):
        desk.tell(msgspec.structs.replace(traded(listing(), block()), rows=np.array([10_000], "<i4").tobytes()))


def test_columns_of_different_lengths_are_a_fault():
    with pytest.raises(InvariantError):
        msgspec.structs.replace(traded(listing(), block()), venue=b"")


def test_averages_come_from_whole_sessions_and_make_volume_unusual():
    expiry, symbol = "2026-01-16", occ(602, "C", "2026-01-16")
    desk = Desk()
    quiet = listing(expiry=expiry, interest={}, told=100)
    for session in [s for s in TABLE.sessions if "2025-12-26" <= s.date <= "2026-01-05"]:
        listed = msgspec.structs.replace(quiet, date=session.date)
        noon = session.open_ns + 60 * MINUTE_NS
        desk.tell(listed, session.open_ns - 10 * MINUTE_NS)
        desk.tell(SetOptionSubscription((symbol,)), session.open_ns - 9 * MINUTE_NS)
        desk.tell(traded(listed, (symbol, 2.0, 10, 0, "A", 1.9, 2.0), at_ns=noon), noon)
        if session.date < DATE:
            assert desk.flow(noon).bullish_n == 0
            desk.tell(SessionClosed(session.date, session.close_ns), session.close_ns)
    # Seven sessions of ten contracts: above twenty, and above half of the hundred of open interest, is unusual.
    desk.tell(traded(listed, (symbol, 2.0, 41, 0, "A", 1.9, 2.0)))
    assert desk.flow().bullish_n == 1
    assert desk.flow().bullish_usd == 41 * 200.0


def test_a_session_whose_trades_were_not_all_heard_counts_for_no_average():
    expiry, symbol = "2026-01-16", occ(602, "C", "2026-01-16")
    desk = Desk()
    for session in [s for s in TABLE.sessions if "2025-12-26" <= s.date <= "2026-01-05"]:
        listed = msgspec.structs.replace(listing(expiry=expiry, interest={}, told=100), date=session.date)
        noon = session.open_ns + 60 * MINUTE_NS
        desk.tell(listed, session.open_ns - 10 * MINUTE_NS)
        desk.tell(SetOptionSubscription(()), session.open_ns)
        desk.tell(SetOptionSubscription((symbol,)), session.open_ns + 6 * MINUTE_NS)
        desk.tell(traded(listed, (symbol, 2.0, 10, 0, "A", 1.9, 2.0), at_ns=noon), noon)
        if session.date < DATE:
            desk.tell(SessionClosed(session.date, session.close_ns), session.close_ns)
    desk.tell(traded(listed, (symbol, 2.0, 41, 0, "A", 1.9, 2.0)))
    assert desk.flow().bullish_n == 0


# -------------------------------------------------------------------------------------------------- for people


def bar(at_ns, backfilled=False):
    return Bar("SPY", at_ns - MINUTE_NS, SPOT, SPOT, SPOT, SPOT, 1, 1, SPOT, backfilled)


def test_people_are_told_every_five_minutes_and_after_somebody_asked():
    desk = Desk().quoted()
    assert AT // MINUTE_NS % 5 == 0
    (message,) = desk.tell(bar(AT))
    assert isinstance(message, PositioningMeasured)
    assert (message.call_wall, message.gamma_reason, message.flow_reason) == (602.0, "", "option_trades")
    assert message.bullish_usd is None
    assert desk.tell(bar(AT + MINUTE_NS), AT + MINUTE_NS) == []
    desk.gamma(AT + MINUTE_NS)
    assert len(desk.tell(bar(AT + 2 * MINUTE_NS), AT + 2 * MINUTE_NS)) == 1
    assert desk.tell(bar(AT + 5 * MINUTE_NS, backfilled=True), AT + 5 * MINUTE_NS) == []
    assert desk.tell(bar(SESSION.close_ns), SESSION.close_ns) == []


def test_a_message_can_be_recorded_and_holds_no_numpy_value():
    desk = Desk().quoted()
    desk.tell(traded(listing(), block()))
    message = desk.positioning.measured("SPY", AT)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=PositioningMeasured) == message
    assert all(type(v) in (str, int, float, type(None)) for v in msgspec.structs.asdict(message).values())
    assert math.isfinite(message.net_gamma_usd)

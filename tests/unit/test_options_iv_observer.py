"""The daily observation on the live chain: when it is made, what it says when it cannot be, and its view."""

import datetime as dt
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest

from oracle.calendar import load_sessions
from oracle.core.engine import Engine
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.instruments import OptionContract, Right
from oracle.core.ivstanding import IvStanding
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import (
    ChainListed,
    ChainQuotes,
    DailyIvMissing,
    DailyIvObserved,
    DailyIvRanked,
    ListedContract,
    Quote,
)
from oracle.core.message import Message
from oracle.core.messages import OptionsWanted
from oracle.core.ports import NotSelected
from oracle.core.sessions import MINUTE_NS, NS, Session
from oracle.options.chain import Chains
from oracle.options.columns import ChainColumns
from oracle.options.iv_observer import SOURCE, VolatilityObserver
from oracle.options.pricing import black_forward
from oracle.options.selection import YEAR_NS
from oracle.store.sqlite import is_durable

TABLE = load_sessions(dt.date(2025, 1, 2), dt.date(2026, 3, 31))
DAY, HALF_DAY = "2025-11-19", "2025-11-28"
# 30 days after 19 November is 19 December, a Friday and one of the expiries; at 15:45 it lies just beyond 30 days.
EXPIRIES = ("2025-11-21", "2025-12-12", "2025-12-19", "2026-01-16", "2026-02-20")
STRIKES = tuple(range(560, 641, 5))
SPOT = 600.3


def vol_of(expiry: str) -> float:
    """A term structure that rises with the expiry."""
    return 0.14 + 0.0005 * (dt.date.fromisoformat(expiry) - dt.date.fromisoformat(DAY)).days


def of(kind: type[Any], messages: Sequence[Message]) -> list[Any]:
    """The messages of one class."""
    return [message for message in messages if type(message) is kind]


def one(kind: type[Any], messages: Sequence[Message]) -> Any:
    """The only message of a class."""
    (found,) = of(kind, messages)
    return found


class World:
    """A real engine, real chains and the observer."""

    def __init__(
        self, date: str = DAY, history: Sequence[DailyIvObserved] = (), *, rate: float = 0.0, start: str = "09:00"
    ) -> None:
        session = TABLE.on(date)
        assert session is not None
        self.session: Session = session
        market, ledger = MarketState(), Ledger()
        self.chains = Chains(TABLE, rate_per_year=rate)
        self.observer = VolatilityObserver(self.chains, TABLE, ("SPY",), history=history, rate_per_year=rate)
        equity = EquityKeeper(ledger, Marks(market, self.chains, 15, ledger.held))
        self.engine = Engine(TABLE, market, self.chains, ledger, equity, self.observer)
        for actor in (self.chains, self.observer):
            self.engine.bus.subscribe(actor.handlers())
        self.rate = rate
        self.at_ns = self.session.early(start)
        self.engine.start(self.at_ns)

    def until(self, clock: str) -> list[Message]:
        """Let time pass to a time of day that counts from the open; what was said."""
        return self.to(self.session.early(clock))

    def to(self, at_ns: int) -> list[Message]:
        self.at_ns = at_ns
        return [m for turn in self.engine.advance(at_ns) for m in turn.messages]

    def tell(self, message: Any) -> list[Message]:
        return [m for turn in self.engine.handle(self.at_ns, message) for m in turn.messages]

    def spot(self, price: float = SPOT) -> list[Message]:
        return self.tell(Quote("SPY", self.at_ns, price - 0.01, 1, price + 0.01, 1))

    def list_chain(self, expiries: Collection[str] = EXPIRIES, strikes: Collection[int] = STRIKES) -> list[Message]:
        names = sorted(OptionContract("SPY", e, r, k * 1000).occ for e in expiries for r in Right for k in strikes)
        rows = tuple(ListedContract(name, None, None, True) for name in names)
        return self.tell(ChainListed("SPY", self.session.date, rows))

    def quote(self, expiries: Collection[str] = EXPIRIES, half_spread: float = 0.02, **changes: float) -> list[Message]:
        """Quote whole expiries at fair value; ``bid``, ``ask``, ``age_s`` or ``dividend`` spoil them."""
        listed = self.chains.listed("SPY")
        assert listed is not None
        chain = ChainColumns.from_listing(listed)
        rows = np.concatenate([chain.rows_of[e] for e in expiries])
        vols = np.concatenate([np.full(len(chain.rows_of[e]), vol_of(e)) for e in expiries])
        left = np.concatenate(
            [np.full(len(chain.rows_of[e]), (TABLE.expiry_ns(e) or 0) - self.at_ns) for e in expiries]
        )
        years = left / YEAR_NS
        discount = np.exp(-self.rate * years)
        forward = (SPOT - changes.get("dividend", 0.0)) / discount
        fair = black_forward(forward, chain.strike[rows], years, vols, chain.is_call[rows], discount)
        bid, ask = fair - half_spread, fair + half_spread
        bid[:], ask[:] = changes.get("bid", bid), changes.get("ask", ask)
        order, n = np.argsort(rows), len(rows)
        stamp = np.full(n, self.at_ns - round(changes.get("age_s", 0.0) * NS), "<i8")
        ones = np.ones(n, "<i4").tobytes()
        columns = (column[order].astype(kind).tobytes() for column, kind in ((rows, "<i4"), (bid, "<f8"), (ask, "<f8")))
        return self.tell(ChainQuotes("SPY", self.session.date, *columns, ones, ones, stamp.tobytes()))

    def ready(self, **changes: Any) -> "World":
        """Listed, with spot and quotes a moment before the observation."""
        self.until("15:44")
        self.list_chain(changes.pop("expiries", EXPIRIES), changes.pop("strikes", STRIKES))
        self.at_ns += 55 * NS
        self.spot()
        self.quote(**changes)
        return self


def thirty_days(at_ns: int) -> float:
    """What the term structure of ``vol_of`` is at 30 days, between 12 and 19 December."""
    a, b = (((TABLE.expiry_ns(e) or 0) - at_ns) / YEAR_NS for e in ("2025-12-12", "2025-12-19"))
    w_a, w_b = (vol_of(e) ** 2 * t for e, t in (("2025-12-12", a), ("2025-12-19", b)))
    target = 30 / 365
    return math.sqrt((w_a + (w_b - w_a) * (target - a) / (b - a)) / target)


def test_it_wants_the_chain_five_minutes_before_and_lets_go_once_it_has_observed() -> None:
    world = World()
    assert of(OptionsWanted, world.until("15:39")) == []
    wanted = one(OptionsWanted, world.until("15:40"))
    assert (wanted.strategy, wanted.underlying, wanted.wanted, wanted.expiries) == ("volatility", "SPY", True, ())
    world.ready()
    said = world.until("15:45")
    observed = one(DailyIvObserved, said)
    assert (observed.underlying, observed.date, observed.source) == ("SPY", DAY, SOURCE)
    assert observed.iv_30d == pytest.approx(thirty_days(world.session.early("15:45")), abs=2e-5)
    assert one(OptionsWanted, said) == OptionsWanted("volatility", "SPY", False)
    assert is_durable(observed)
    assert world.observer.observed("SPY", world.at_ns) == [observed]
    world.spot()
    assert of(DailyIvObserved, world.until("15:59")) == [], "once a session"


def test_it_names_the_expiries_next_to_30_days_once_they_are_listed() -> None:
    world = World()
    world.until("15:41")
    (wanted,) = of(OptionsWanted, world.list_chain())
    assert wanted.expiries == ("2025-12-12", "2025-12-19")
    assert wanted.reach is not None
    known = World()
    known.until("15:00")
    assert of(OptionsWanted, known.list_chain()) == [], "it is not the time"
    assert one(OptionsWanted, known.until("15:40")).expiries == ("2025-12-12", "2025-12-19")


def test_on_a_half_day_it_is_fifteen_minutes_before_the_early_close() -> None:
    world = World(HALF_DAY)
    wanted = world.until("12:40")
    assert one(OptionsWanted, wanted).wanted
    world.until("12:44")
    expiries = ("2025-12-26", "2026-01-02")
    world.list_chain(expiries)
    world.at_ns += 50 * NS
    world.spot()
    world.quote(expiries)
    assert of(DailyIvObserved, world.to(world.session.early("12:45") - 1)) == []
    assert one(DailyIvObserved, world.until("12:45")).date == HALF_DAY


def test_it_tries_again_each_minute_and_tells_a_reason_once() -> None:
    world = World()
    first = one(DailyIvMissing, world.until("15:45"))
    assert (first.what, first.final) == ("chain", False)
    assert of(DailyIvMissing, world.until("15:48")) == []
    world.list_chain()
    assert one(DailyIvMissing, world.until("15:49")).what == "spot"
    world.at_ns += 50 * NS
    world.spot()
    assert one(DailyIvMissing, world.until("15:50")).what == "no_iv_before_30_days"
    world.at_ns += 50 * NS
    world.spot()
    world.quote()
    assert one(DailyIvObserved, world.until("15:51")).iv_30d > 0


def test_a_session_that_ends_without_one_says_so_and_leaves_no_number() -> None:
    world = World()
    world.until("15:45")
    said = world.to(world.session.close_ns)
    last = one(DailyIvMissing, said)
    assert (last.what, last.final) == ("chain", True)
    assert one(OptionsWanted, said) == OptionsWanted("volatility", "SPY", False)
    assert of(DailyIvObserved, said) == []
    assert list(world.observer.observed("SPY", world.at_ns)) == []
    # The next session begins anew.
    nxt = TABLE.after(DAY)
    assert nxt is not None
    assert one(OptionsWanted, world.to(nxt.late("15:40"))).wanted


def test_after_a_restart_it_observes_what_is_missing_and_nothing_twice() -> None:
    late = World(start="15:52")
    assert one(OptionsWanted, late.until("15:52")).wanted
    late.list_chain()
    late.spot()
    late.at_ns += 45 * NS
    late.spot()
    late.quote()
    assert one(DailyIvObserved, late.until("15:53")).date == DAY
    known = World(history=(DailyIvObserved("SPY", DAY, 0.2, SOURCE),), start="15:52")
    said = known.to(known.session.close_ns)
    assert of(OptionsWanted, said) + of(DailyIvMissing, said) == []


@pytest.mark.parametrize(
    ("spoiled", "what", "because"),
    [
        ({"strikes": (600,)}, "no_iv_before_30_days", "no_strikes_around_forward"),
        ({"expiries": ("2025-11-21", "2025-12-12")}, "no_iv_after_30_days", "no_expiry"),
        ({"expiries": ("2025-12-19", "2026-01-16")}, "no_iv_before_30_days", "no_expiry"),
        ({"bid": -2.0}, "no_iv_before_30_days", "no_implied_vol"),
        ({"bid": math.nan}, "no_iv_before_30_days", "no_implied_vol"),
        ({"bid": 0.0, "ask": 0.0}, "no_iv_before_30_days", "no_implied_vol"),
        ({"bid": 5.0, "ask": 4.0}, "no_iv_before_30_days", "no_implied_vol"),
        ({"bid": 0.01, "ask": 900.0}, "no_iv_before_30_days", "no_implied_vol"),
        ({"bid": 1e6, "ask": 1e6}, "no_iv_before_30_days", "no_implied_vol"),
        ({"half_spread": 400.0}, "no_iv_before_30_days", "no_implied_vol"),
        ({"age_s": 120.0}, "no_iv_before_30_days", "no_fresh_quotes"),
    ],
)
def test_bad_chains_give_no_number(spoiled: dict[str, Any], what: str, because: str) -> None:
    expiries = spoiled.get("expiries", EXPIRIES)
    world = World()
    world.until("15:44")
    world.list_chain(expiries, spoiled.pop("strikes", STRIKES))
    world.at_ns += 55 * NS
    world.spot()
    spoiled.pop("expiries", None)
    world.quote(expiries, **spoiled)
    said = world.until("15:45")
    assert of(DailyIvObserved, said) == []
    missing = one(DailyIvMissing, said)
    assert missing.what == what
    assert str(missing.facts["because"]).startswith(because)


def test_a_dividend_before_expiry_moves_the_forward_and_not_the_volatility() -> None:
    plain, paid = World().ready(), World().ready(dividend=4.0)
    values = [one(DailyIvObserved, world.until("15:45")).iv_30d for world in (plain, paid)]
    assert values[1] == pytest.approx(values[0], abs=2e-4)


def test_the_rate_is_used_where_it_is_known() -> None:
    world = World(rate=0.04).ready()
    assert one(DailyIvObserved, world.until("15:45")).iv_30d == pytest.approx(
        thirty_days(world.session.early("15:45")), abs=2e-5
    )


def past(count: int, level: float = 0.15) -> list[DailyIvObserved]:
    """Observations of the sessions before the day."""
    rows = TABLE.before(DAY, count)
    return [DailyIvObserved("SPY", session.date, level + 0.001 * n, "test") for n, session in enumerate(rows)]


def test_the_view_ranks_the_volatility_of_this_moment() -> None:
    world = World(history=past(90)).ready()
    stood = world.engine.context().volatility.standing("SPY", world.at_ns)
    assert isinstance(stood, IvStanding)
    iv = thirty_days(world.at_ns)
    assert stood.iv_30d == pytest.approx(iv, abs=2e-5)
    assert stood.rank == pytest.approx((iv - 0.15) / 0.089, abs=1e-3)
    assert (stood.observations, stood.window, stood.reason) == (90, 90, "")
    assert len(world.observer.observed("SPY", world.at_ns)) == 90


def test_the_view_says_what_is_missing() -> None:
    world = World(history=past(30))
    assert world.observer.standing("SPY", world.at_ns) == NotSelected("chain", {})
    world.ready()
    stood = world.observer.standing("SPY", world.at_ns)
    assert isinstance(stood, IvStanding)
    assert (stood.rank, stood.percentile, stood.observations, stood.reason) == (None, None, 30, "iv_history")
    later = world.observer.standing("SPY", world.at_ns + 10 * MINUTE_NS)
    assert isinstance(later, NotSelected), "no spot for so long"


def test_where_the_last_observation_stands_is_told_at_the_open_and_with_each_new_one() -> None:
    world = World(history=past(90))
    opened = one(DailyIvRanked, world.until("09:30"))
    assert opened.date == TABLE.before(DAY)[0].date
    assert (opened.rank, opened.observations) == (1.0, 89)
    ranked = one(DailyIvRanked, world.ready().until("15:45"))
    assert (ranked.date, ranked.observations, ranked.window) == (DAY, 90, 90)
    assert not is_durable(ranked)


def test_what_others_tell_is_taken_into_the_history() -> None:
    world = World()
    told = DailyIvObserved("QQQ", "2025-11-18", 0.21, "exchange")
    world.tell(told)
    assert world.observer.observed("QQQ", world.at_ns) == [told]


def test_the_open_tells_no_later_session_and_none_that_is_older_than_the_window() -> None:
    """A simulated session may lie before days that somebody imported."""
    old, before = TABLE.before(DAY, 91)[0].date, TABLE.before(DAY)[0].date
    later = DailyIvObserved("SPY", "2026-01-05", 0.9, "import:csv")
    own = DailyIvObserved("SPY", before, 0.2, "chain")
    world = World(history=(own, later))
    assert one(DailyIvRanked, world.until("09:31")).date == before
    assert world.observer.observed("SPY", world.at_ns) == [own]
    stale = World(history=(DailyIvObserved("SPY", old, 0.2, "chain"), later))
    assert of(DailyIvRanked, stale.until("09:31")) == [], "what is so old says nothing of today"

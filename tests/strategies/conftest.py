"""A stage for strategies: real calendar, real chains, quotes at fair value, bars as the test writes them."""

import datetime as dt
import math
from decimal import Decimal

import numpy as np
import pytest

from oracle.calendar import load_sessions
from oracle.core.instruments import OptionContract, Right
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import Bar, ChainListed, ChainQuotes, DailyIvObserved, ListedContract
from oracle.core.messages import LedgerSeeded, OrderFilled, SessionOpened
from oracle.core.ports import AccountView, Context, EquityView
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Purpose, Side
from oracle.options.chain import Chains
from oracle.options.columns import ChainColumns
from oracle.options.iv_observer import VolatilityObserver
from oracle.options.pricing import black_forward
from oracle.options.selection import YEAR_NS
from tests.unit.builders import entry_order

VOL, RATE = 0.14, 0.04


@pytest.fixture(scope="session")
def table():
    return load_sessions(dt.date(2025, 1, 2), dt.date(2026, 1, 30))


class Stage:
    """One strategy on one session date. ``quoted`` and ``half_spread_usd`` shape the option quotes of each bar."""

    def __init__(self, table, strategy, date):
        self.table = table
        self.strategy = strategy
        self.session = table.on(date)
        self.chains = Chains(table, rate_per_year=RATE)
        self.market, self.ledger = MarketState(), Ledger()
        self.half_spread_usd = 0.01
        self.quote_age_s = 0.0
        self.vol, self.reach_usd, self.open_interest = VOL, 25, 500
        self.volatility = VolatilityObserver(self.chains, table, (), rate_per_year=RATE)
        self.expiries = (date, table.after(date).date)
        self.quoted = True
        self.said = []

    def context(self, at_ns):
        return Context(
            at_ns=at_ns,
            session=self.table.current_or_next(at_ns),
            table=self.table,
            market=self.market,
            chains=self.chains,
            ledger=self.ledger,
            equity=EquityView(None, None, None, Decimal(0), None, 0),
            account=AccountView(None, None, None, False, None),
            volatility=self.volatility,
        )

    def expire_in(self, *days):
        """List only expiries so many calendar days ahead of the session (their last trading days)."""
        start = dt.date.fromisoformat(self.session.date)
        dates = ((start + dt.timedelta(days=n)).isoformat() for n in days)
        self.expiries = tuple(sorted({self.table.last_trading(date).date for date in dates}))

    def remember_ivs(self, symbol, low, high, sessions=60):
        """Give the underlying a history: one observation a session, from low to high."""
        for n, day in enumerate(self.table.before(self.session.date, sessions)):
            iv = low + (high - low) * n / max(sessions - 1, 1)
            self.volatility.on_observed(DailyIvObserved(symbol, day.date, iv, "test"), self.context(day.close_ns))

    def open(self):
        """Tell the strategy that the session began."""
        s = self.session
        self.strategy.handle(SessionOpened(s.date, s.open_ns, s.close_ns), self.context(s.open_ns))

    def list_chain(self, symbol, centre):
        """List strikes around a price for the stage's expiries."""
        strikes = range(round(centre) - self.reach_usd, round(centre) + self.reach_usd + 1)
        contracts = sorted(
            OptionContract(symbol, e, r, k * 1000).occ for e in self.expiries for r in Right for k in strikes
        )
        listing = ChainListed(
            symbol,
            self.session.date,
            tuple(ListedContract(c, self.open_interest, "2025-01-02", True) for c in contracts),
        )
        self.chains.on_listed(listing, self.context(self.session.open_ns))

    def quote_chain(self, symbol, spot, at_ns):
        """Quote every listed contract at fair value."""
        rows, bids, asks = [], [], []
        chain = ChainColumns.from_listing(self.chains.listed(symbol))
        for expiry, members in chain.rows_of.items():
            years = (self.table.expiry_ns(expiry) - at_ns) / YEAR_NS
            discount = math.exp(-RATE * years)
            price = black_forward(
                spot / discount, chain.strike[members], years, self.vol, chain.is_call[members], discount
            )
            rows.append(members)
            bids.append(np.maximum(np.round(price - self.half_spread_usd, 2), 0.0))
            asks.append(np.round(price + self.half_spread_usd, 2))
        order = np.argsort(np.concatenate(rows), kind="stable")
        n = order.size
        self.chains.on_quotes(
            ChainQuotes(
                symbol,
                self.session.date,
                np.concatenate(rows)[order].astype("<i4").tobytes(),
                np.concatenate(bids)[order].astype("<f8").tobytes(),
                np.concatenate(asks)[order].astype("<f8").tobytes(),
                np.full(n, 5, "<i4").tobytes(),
                np.full(n, 5, "<i4").tobytes(),
                np.full(n, at_ns - round(self.quote_age_s * NS), "<i8").tobytes(),
            ),
            self.context(at_ns),
        )

    def bar(self, symbol, start_ns, close, volume=1000, high=None, low=None, backfilled=False, delay_s=1.0):
        """Send one bar at its end plus ``delay_s``; returns what the strategy said."""
        high = max(close, close if high is None else high)
        low = min(close, close if low is None else low)
        bar = Bar(symbol, start_ns, close, high, low, close, volume, 50, close, backfilled)
        at_ns = start_ns + MINUTE_NS + round(delay_s * NS)
        if not backfilled:
            self.chains.on_bar(bar, self.context(at_ns))
            if self.quoted and self.chains.listed(symbol) is not None:
                self.quote_chain(symbol, close, at_ns)
        said = list(self.strategy.handle(bar, self.context(at_ns)))
        self.said += said
        return said

    def at(self, clock):
        """Start of the session's minute at a New York time of day counted from the open."""
        return self.session.early(clock)


def holding(stage, strategy, *opened_ns, symbol="SPY"):
    """A ledger with open trades of a strategy, by the moments in which they were opened."""
    ledger = Ledger()
    books = [LedgerSeeded(Decimal(100_000), Decimal(100_000), stage.session.open_ns)]
    for n, at_ns in enumerate(opened_ns):
        contract = OptionContract(symbol, stage.expiries[-1], Right.CALL, (600 + n) * 1000).occ
        order = entry_order(f"tok-x-{n:06d}", 1, symbol=contract, strategy=strategy, underlying=symbol)
        fill = OrderFilled(
            f"e{n}", order.order_id, f"{order.order_id}-1", "b", order.trade_id, strategy, contract, Side.BUY,
            Purpose.ENTRY, 1, Decimal(1), Decimal(0), Decimal("0.65"), at_ns,
        )  # fmt: skip
        books += [order, fill]
    ledger.restore(books)
    return ledger


@pytest.fixture(scope="session")
def make_stage(table):
    """Build a stage from a strategy and an ISO date."""
    return lambda strategy, date: Stage(table, strategy, date)

"""The live chain: what it keeps, what it calls unusable, its volatilities and deltas, and how it chooses."""

import datetime as dt
import math
from decimal import Decimal

import msgspec
import numpy as np
import pytest

from oracle.core.errors import InvariantError
from oracle.core.instruments import OptionContract, Right
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import Bar, ChainListed, ChainQuotes, ListedContract, Quote
from oracle.core.ports import AccountView, Context, DeltaRequest, EquityView, NotSelected, Selected
from oracle.core.sessions import NS, Session, SessionTable
from oracle.options.chain import Chains
from oracle.options.pricing import black_forward, delta_forward
from oracle.options.selection import YEAR_NS

RATE = 0.04


def session(date, close="21:00"):
    def instant(clock):
        return int(dt.datetime.fromisoformat(f"{date}T{clock}+00:00").timestamp()) * NS

    return Session(date, instant("14:30"), instant(close))


TODAY, TOMORROW, HALF = session("2025-11-19"), session("2025-11-20"), session("2025-11-28", "18:00")
TABLE = SessionTable([TODAY, TOMORROW, HALF])
AT = TODAY.open_ns + 3600 * NS
STRIKES = [float(k) for k in range(580, 621)]
SPOT, VOL = 600.25, 0.16
EXPIRIES = (TODAY.date, TOMORROW.date)


def occ(expiry, right, strike):
    return OptionContract("SPY", expiry, Right(right), round(strike * 1000)).occ


LISTING = ChainListed(
    "SPY",
    TODAY.date,
    tuple(
        ListedContract(symbol, 100, "2025-11-18", True)
        for symbol in sorted(occ(e, r, k) for e in EXPIRIES for r in "CP" for k in STRIKES)
    ),
)
ROW = {c.symbol: row for row, c in enumerate(LISTING.contracts)}


def fair(symbol_expiry, right, strike, at_ns=AT):
    years = (TABLE.expiry_ns(symbol_expiry) - at_ns) / YEAR_NS
    discount = math.exp(-RATE * years)
    return float(black_forward(SPOT / discount, strike, years, VOL, right == "C", discount))


def quotes(changes, quoted_ns=AT, date=TODAY.date):
    """Columns of {symbol: (bid, ask)}."""
    rows = sorted((ROW[symbol], bid, ask) for symbol, (bid, ask) in changes.items())
    n = len(rows)
    return ChainQuotes(
        "SPY",
        date,
        np.array([r[0] for r in rows], "<i4").tobytes(),
        np.array([r[1] for r in rows], "<f8").tobytes(),
        np.array([r[2] for r in rows], "<f8").tobytes(),
        np.full(n, 7, "<i4").tobytes(),
        np.full(n, 9, "<i4").tobytes(),
        np.full(n, quoted_ns, "<i8").tobytes(),
    )


def market(half_spread=0.02, at_ns=AT):
    """Both expiries quoted symmetrically around fair value."""
    out = {}
    for expiry in EXPIRIES:
        for right in "CP":
            for strike in STRIKES:
                price = fair(expiry, right, strike, at_ns)
                out[occ(expiry, right, strike)] = (max(price - half_spread, 0.0), price + half_spread)
    return out


class Desk:
    """Chains with a clock that the test moves."""

    def __init__(self):
        self.chains = Chains(TABLE, rate_per_year=RATE)
        self.at_ns = AT

    def context(self):
        return Context(
            at_ns=self.at_ns,
            session=TODAY,
            table=TABLE,
            market=MarketState(),
            chains=self.chains,
            ledger=Ledger(),
            equity=EquityView(None, None, None, Decimal(0), None, 0),
            account=AccountView(None, None, None, False, None),
        )

    def feed(self, *messages):
        table = dict(self.chains.handlers())
        for message in messages:
            assert list(table[type(message)](message, self.context())) == []
        return self


def spot_quote(price=SPOT, at_ns=AT):
    return Quote("SPY", at_ns, price - 0.01, 1, price + 0.01, 1)


def left_out(chains, at_ns):
    """How many of today's contracts cannot be used for which reason, at an age of 10 s."""
    found = chains.usable("SPY", TODAY.date, at_ns, 10)
    return found.facts if isinstance(found, NotSelected) else found.left_out


@pytest.fixture
def desk():
    return Desk().feed(LISTING, quotes(market()), spot_quote())


def ask_for(**changes):
    base = DeltaRequest("SPY", EXPIRIES, True, 0.40, 0.60, 0.08, 0.04, 10.0)
    return msgspec.structs.replace(base, **changes)


def test_quotes_come_back_as_plain_values(desk):
    symbol = occ(TODAY.date, "C", 600)
    quote = desk.chains.option_quote(symbol)
    assert (quote.bid_size, quote.ask_size, quote.quoted_ns, quote.received_ns) == (7, 9, AT, AT)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(quote))["symbol"] == symbol
    assert desk.chains.option_quote(occ(TODAY.date, "C", 999)) is None
    assert desk.chains.option_quote("QQQ251119C00600000") is None
    assert desk.chains.listed("SPY") is LISTING
    assert desk.chains.listed("QQQ") is None


def test_delta_and_volatility_are_those_the_quotes_were_made_from(desk):
    for expiry in EXPIRIES:
        years = (TABLE.expiry_ns(expiry) - AT) / YEAR_NS
        forward = SPOT * math.exp(RATE * years)
        for right, strike in (("C", 600), ("P", 600), ("C", 605), ("P", 596)):
            symbol = occ(expiry, right, strike)
            assert desk.chains.iv(symbol, AT) == pytest.approx(VOL, abs=1e-6)
            expected = float(delta_forward(forward, strike, years, VOL, right == "C"))
            assert desk.chains.delta(symbol, AT) == pytest.approx(expected, abs=1e-6)


def test_in_the_money_contract_takes_the_volatility_of_the_other_right(desk):
    call, put = occ(TOMORROW.date, "C", 595), occ(TOMORROW.date, "P", 595)
    bid, ask = SPOT - 595 - 0.5, SPOT - 595 - 0.3  # below intrinsic value
    desk.feed(quotes({call: (bid, ask)}))
    assert desk.chains.iv(call, AT) == desk.chains.iv(put, AT) == pytest.approx(VOL, abs=1e-6)
    assert desk.chains.delta(call, AT) - desk.chains.delta(put, AT) == pytest.approx(1.0)


def test_time_to_expiry_is_real_time_without_a_floor(desk):
    at_ns = TODAY.close_ns - 60 * NS
    desk.at_ns = at_ns
    desk.feed(spot_quote(at_ns=at_ns), quotes(market(0.001, at_ns), quoted_ns=at_ns))
    assert desk.chains.iv(occ(TODAY.date, "C", 600), at_ns) == pytest.approx(VOL, abs=1e-3)
    expired = TODAY.close_ns
    assert desk.chains.surface("SPY", TODAY.date, expired) is None
    assert desk.chains.delta(occ(TODAY.date, "C", 600), expired) is None


def test_surface_belongs_to_the_chains_last_change_whoever_asks_and_when(desk):
    first = desk.chains.surface("SPY", TODAY.date, AT)
    assert desk.chains.surface("SPY", TODAY.date, AT + NS) is first
    desk.feed(quotes({occ(TODAY.date, "C", 600): (9.0, 9.1)}))
    changed = desk.chains.surface("SPY", TODAY.date, AT)
    assert changed is not first
    desk.feed(spot_quote(SPOT + 1))
    assert desk.chains.surface("SPY", TODAY.date, AT) is not changed


def test_what_was_asked_for_is_prepared_after_a_change_and_is_the_same_as_when_asked(desk):
    assert not desk.chains.prepare(AT)  # nobody has asked
    desk.chains.surface("SPY", TODAY.date, AT)
    assert not desk.chains.prepare(AT)
    desk.at_ns = AT + NS
    desk.feed(spot_quote(SPOT + 1, at_ns=AT + NS))
    asked = Desk().feed(LISTING, quotes(market()), spot_quote())
    asked.at_ns = AT + NS
    asked.feed(spot_quote(SPOT + 1, at_ns=AT + NS))
    assert desk.chains.prepare(AT + NS)
    assert not desk.chains.prepare(AT + NS)
    prepared = desk.chains.surface("SPY", TODAY.date, AT + 2 * NS)
    late = asked.chains.surface("SPY", TODAY.date, AT + 5 * NS)
    assert prepared.iv.tobytes() == late.iv.tobytes()
    assert prepared.delta.tobytes() == late.delta.tobytes()


def test_a_surface_is_not_given_once_spot_is_too_old_or_the_expiry_is_over(desk):
    assert desk.chains.surface("SPY", TODAY.date, AT) is not None
    assert desk.chains.surface("SPY", TODAY.date, AT + 91 * NS) is None
    desk.at_ns = TODAY.close_ns
    desk.feed(spot_quote(at_ns=TODAY.close_ns))
    assert desk.chains.surface("SPY", TODAY.date, TODAY.close_ns) is None
    assert not desk.chains.prepare(TODAY.close_ns)


def test_forward_comes_from_parity_and_otherwise_says_spot(desk):
    assert desk.chains.surface("SPY", TOMORROW.date, AT).forward_source == "parity"
    bare = Desk().feed(LISTING, quotes({occ(TOMORROW.date, "C", 600): (4.0, 4.1)}), spot_quote())
    surface = bare.chains.surface("SPY", TOMORROW.date, AT)
    years = (TOMORROW.close_ns - AT) / YEAR_NS
    assert surface.forward_source == "spot"
    assert surface.forward == pytest.approx(SPOT * math.exp(RATE * years))


def test_stale_quotes_join_no_forward(desk):
    later = desk.at_ns = AT + 61 * NS
    desk.feed(spot_quote(at_ns=later))
    assert desk.chains.surface("SPY", TODAY.date, later).forward_source == "spot"
    assert desk.chains.delta(occ(TODAY.date, "C", 600), later) is None


@pytest.mark.parametrize(
    ("bid", "ask", "reason"),
    [
        (2.0, 2.1, None),
        (2.0, 2.0, None),  # locked
        (math.nan, 2.1, "one_sided"),
        (2.0, math.nan, "one_sided"),
        (0.0, 0.05, "zero_bid"),
        (2.2, 2.1, "crossed"),
    ],
)
def test_why_a_quote_cannot_be_used(desk, bid, ask, reason):
    symbol = occ(TODAY.date, "C", 600)
    before = left_out(desk.chains, AT)
    desk.feed(quotes({symbol: (bid, ask)}))
    assert left_out(desk.chains, AT) == before | ({} if reason is None else {reason: before.get(reason, 0) + 1})
    if reason is not None:
        row = np.flatnonzero(desk.chains.surface("SPY", TODAY.date, AT).rows == ROW[symbol])
        found = desk.chains.select(ask_for(abs_delta_low=0.4, abs_delta_high=0.6), AT)
        assert row.size == 1
        assert found.symbol != symbol


def test_age_and_absence_of_quotes(desk):
    symbol = occ(TODAY.date, "C", 600)
    assert "stale" not in left_out(desk.chains, AT + 10 * NS)
    assert desk.chains.usable("SPY", TODAY.date, AT + 10 * NS + 1, 10).reason == "fresh_option_quotes"
    bare = Desk().feed(LISTING, spot_quote())
    assert left_out(bare.chains, AT)["no_quote"] == 2 * len(STRIKES)
    assert bare.chains.option_quote(symbol) is None


def test_choice_is_nearest_to_the_middle_of_the_band_in_the_nearest_expiry(desk):
    found = desk.chains.select(ask_for(), AT)
    assert isinstance(found, Selected)
    assert (found.symbol, found.expiry, found.forward_source) == (occ(TODAY.date, "C", 600), TODAY.date, "parity")
    deltas = [desk.chains.delta(occ(TODAY.date, "C", k), AT) for k in STRIKES]
    assert abs(found.delta - 0.5) == min(abs(d - 0.5) for d in deltas if d is not None)
    put = desk.chains.select(ask_for(is_call=False), AT)
    assert put.delta < 0
    assert -0.6 <= put.delta <= -0.4


def test_choice_falls_to_the_next_expiry_when_none_fits(desk):
    wide = {occ(TODAY.date, "C", k): (fair(TODAY.date, "C", k) * 0.8, fair(TODAY.date, "C", k) * 1.2) for k in STRIKES}
    desk.feed(quotes(wide))
    found = desk.chains.select(ask_for(), AT)
    assert found.expiry == TOMORROW.date


def test_contracts_equally_near_the_middle_go_to_the_tighter_spread(desk):
    symbols = occ(TODAY.date, "C", 600), occ(TODAY.date, "C", 601)
    high, low = (desk.chains.delta(s, AT) for s in symbols)
    request = ask_for(abs_delta_low=low - 0.01, abs_delta_high=high + 0.01, max_spread_of_mid=0.2)
    for wide, tight in (symbols, symbols[::-1]):
        prices = {s: fair(TODAY.date, "C", 600 + symbols.index(s)) for s in symbols}
        desk.feed(
            quotes(
                {wide: (prices[wide] - 0.03, prices[wide] + 0.03), tight: (prices[tight] - 0.02, prices[tight] + 0.02)}
            )
        )
        assert desk.chains.select(request, AT).symbol == tight


@pytest.mark.parametrize("bad", ["wide", "zero_bid", "crossed"])
def test_the_best_delta_with_a_bad_quote_is_passed_over(desk, bad):
    best = desk.chains.select(ask_for(), AT)
    mid = best.quote.mid
    changed = {"wide": (mid - 0.5, mid + 0.5), "zero_bid": (0.0, 2 * mid), "crossed": (mid + 0.01, mid - 0.01)}
    desk.feed(quotes({best.symbol: changed[bad]}))
    limits = {} if bad == "wide" else {"max_spread_usd": 9.0, "max_spread_of_mid": 9.0}
    found = desk.chains.select(ask_for(**limits), AT)
    assert isinstance(found, Selected)
    assert found.symbol != best.symbol


def test_a_contract_is_as_old_as_the_quote_its_volatility_came_from(desk):
    band = {"expiries": (TOMORROW.date,), "abs_delta_low": 0.85, "abs_delta_high": 0.95}
    limits = {"max_spread_usd": 9.0, "max_spread_of_mid": 9.0}
    assert isinstance(desk.chains.select(ask_for(**band, **limits), AT), Selected)
    puts = {
        occ(TOMORROW.date, "P", k): (p - 0.02, p + 0.02) for k in STRIKES if (p := fair(TOMORROW.date, "P", k)) > 0.03
    }
    desk.feed(quotes(puts, quoted_ns=AT - 11 * NS))
    assert desk.chains.select(ask_for(**band, **limits), AT).reason == "fresh_option_quotes"


def test_in_the_money_contract_without_the_other_right_keeps_its_own_volatility(desk):
    call, put = occ(TOMORROW.date, "C", 597), occ(TOMORROW.date, "P", 597)
    desk.feed(quotes({put: (math.nan, 1.0)}))
    assert desk.chains.iv(put, AT) is None
    assert desk.chains.iv(call, AT) == pytest.approx(VOL, abs=1e-6)


def test_a_parity_forward_far_from_spot_is_not_believed(desk):
    desk.feed(spot_quote(SPOT * 1.06))
    surface = desk.chains.surface("SPY", TODAY.date, AT)
    assert surface.forward_source == "spot"
    assert surface.forward == pytest.approx(SPOT * 1.06, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"underlying": "QQQ"}, "chain"),
        ({"expiries": ("2026-01-16",)}, "expiry"),
        ({"expiries": ()}, "expiry"),
        ({"abs_delta_low": 0.501, "abs_delta_high": 0.502}, "no_contract_in_delta_band"),
        ({"max_spread_usd": 0.01}, "option_spread_too_wide"),
        ({"max_spread_of_mid": 0.001}, "option_spread_too_wide"),
    ],
)
def test_why_nothing_was_chosen(desk, change, reason):
    found = desk.chains.select(ask_for(**change), AT)
    assert isinstance(found, NotSelected)
    assert found.reason == reason
    msgspec.msgpack.encode(found)


def test_missing_data_are_named(desk):
    later = AT + 11 * NS
    assert desk.chains.select(ask_for(), later).reason == "fresh_option_quotes"
    assert desk.chains.select(ask_for(), AT + 91 * NS).reason == "spot"
    assert Desk().feed(LISTING, spot_quote()).chains.select(ask_for(), AT).reason == "option_quotes"
    below = {occ(e, "C", k): (1e-9, 2e-9) for e in EXPIRIES for k in STRIKES if k < 600}
    nothing = Desk().feed(LISTING, spot_quote(), quotes(below)).chains.select(ask_for(), AT)
    assert nothing.reason == "implied_vol"
    assert nothing.facts["two_sided"] == 20


def test_untradable_contracts_are_not_chosen():
    contracts = tuple(msgspec.structs.replace(c, tradable=False) for c in LISTING.contracts)
    desk = Desk().feed(msgspec.structs.replace(LISTING, contracts=contracts), quotes(market()), spot_quote())
    assert desk.chains.select(ask_for(), AT).reason == "expiry"


def test_a_relisting_of_the_session_keeps_quotes_and_another_session_drops_them(desk):
    symbol = occ(TODAY.date, "C", 600)
    before = desk.chains.option_quote(symbol)
    fewer = msgspec.structs.replace(LISTING, contracts=LISTING.contracts[10:])
    desk.feed(fewer)
    assert desk.chains.option_quote(symbol) == before
    desk.feed(msgspec.structs.replace(LISTING, date=TOMORROW.date))
    assert desk.chains.option_quote(symbol) is None


def test_quotes_numbered_by_another_listing_are_counted_and_dropped(desk):
    symbol = occ(TODAY.date, "C", 600)
    before = desk.chains.option_quote(symbol)
    desk.feed(quotes({symbol: (1.0, 1.1)}, date="2025-11-18"))
    assert desk.chains.option_quote(symbol) == before
    assert desk.chains.misdated == 1


def test_a_row_outside_the_listing_is_our_own_fault(desk):
    desk.feed(msgspec.structs.replace(LISTING, contracts=LISTING.contracts[:5]))
    with pytest.raises(InvariantError, match="outside the listing"):
        desk.feed(quotes({LISTING.contracts[6].symbol: (1.0, 1.1)}))


def test_spot_is_the_newest_of_quote_and_bar():
    desk = Desk()
    assert desk.chains.spot("SPY", AT) is None
    bar = Bar("SPY", AT - 60 * NS, 599.0, 599.5, 598.0, 599.2, 1000, 10, 599.1)
    desk.feed(bar)
    assert desk.chains.spot("SPY", AT) == 599.2
    desk.feed(spot_quote(600.0, AT - 1))  # older than the bar's end
    assert desk.chains.spot("SPY", AT) == 599.2
    desk.feed(spot_quote(601.0, AT + NS), Quote("SPY", AT + 2 * NS, None, 0, 700.0, 1))
    assert desk.chains.spot("SPY", AT + 2 * NS) == 601.0
    assert desk.chains.spot("SPY", AT + 92 * NS) is None


def test_a_stamp_from_the_future_does_not_freeze_spot_or_keep_a_quote_fresh():
    desk = Desk().feed(LISTING)
    desk.feed(spot_quote(500.0, AT + 3600 * NS))
    desk.feed(Bar("SPY", AT + 3600 * NS, 510.0, 510.0, 510.0, 510.0, 1, 1, 510.0))
    assert desk.chains.spot("SPY", AT + 91 * NS) is None
    desk.at_ns = AT + NS
    desk.feed(spot_quote(600.0, AT + NS))
    assert desk.chains.spot("SPY", AT + NS) == 600.0
    symbol = occ(TODAY.date, "C", 600)
    desk.feed(quotes({symbol: (1.0, 1.1)}, quoted_ns=AT + 3600 * NS))
    assert desk.chains.option_quote(symbol).quoted_ns == AT + NS
    assert left_out(desk.chains, AT + 12 * NS)["stale"] == 1


def test_adjusted_contracts_are_counted_and_join_no_expiry():
    adjusted = [ListedContract(c.symbol.replace("SPY", "SPY1", 1), 1, None, True) for c in LISTING.contracts[:9]]
    both = sorted((*LISTING.contracts, *adjusted), key=lambda c: c.symbol)
    desk = Desk().feed(msgspec.structs.replace(LISTING, contracts=tuple(both)))
    assert desk.chains.adjusted == 9
    desk.feed(spot_quote())
    surface = desk.chains.surface("SPY", TODAY.date, AT)
    assert {both[row].symbol[:4] for row in surface.rows} == {"SPY2"}
    assert Desk().feed(LISTING).chains.adjusted == 0


def test_each_side_is_as_old_as_its_own_last_change(desk):
    symbol = occ(TODAY.date, "C", 600)
    desk.feed(quotes({symbol: (5.00, 5.10)}, quoted_ns=AT + NS))
    desk.at_ns = AT + 9 * NS
    desk.feed(quotes({symbol: (5.00, 5.20)}, quoted_ns=AT + 5 * NS))
    columns, row = desk.chains.columns("SPY"), ROW[symbol]
    assert (columns.bid_ns[row], columns.ask_ns[row], columns.quoted_ns[row]) == (AT, AT + 5 * NS, AT + 5 * NS)
    desk.feed(quotes({symbol: (float("nan"), 5.20)}, quoted_ns=AT + 60 * NS))
    assert (columns.bid_ns[row], columns.ask_ns[row]) == (AT + 9 * NS, AT + 5 * NS), "at most the turn's time"
    desk.feed(LISTING)
    assert desk.chains.columns("SPY").ask_ns[row] == AT + 5 * NS

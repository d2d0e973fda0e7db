"""Usable contracts of an expiry, why others are not, and legs chosen by delta, moneyness and strike."""

import msgspec
import pytest

from oracle.core.marketdata import ChainListed
from oracle.core.ports import NotSelected
from oracle.core.sessions import NS
from oracle.core.structurechoice import LegWanted, SelectedStructure, StructureRequest
from oracle.core.vocabulary import Side
from oracle.options.structure_selection import net_mid, net_spread
from tests.unit.test_options_chain import (
    AT,
    EXPIRIES,
    LISTING,
    SPOT,
    TODAY,
    TOMORROW,
    Desk,
    market,
    occ,
    quotes,
    spot_quote,
)

SHORT = LegWanted(True, Side.SELL, abs_delta=0.20, abs_delta_low=0.15, abs_delta_high=0.25)


@pytest.fixture
def desk():
    return Desk().feed(LISTING, quotes(market()), spot_quote())


def request(*legs, **changes):
    base = StructureRequest("SPY", (TOMORROW.date,), legs, 10.0, 1.0, 0.5)
    return msgspec.structs.replace(base, **changes)


def usable(desk, at_ns=AT, age_s=10.0, least=0):
    return desk.chains.usable("SPY", TOMORROW.date, at_ns, age_s, least)


def test_a_slice_holds_each_right_by_strike_with_dated_open_interest(desk):
    one = usable(desk)
    assert [c.strike for c in one.calls] == sorted(c.strike for c in one.calls)
    assert {c.is_call for c in one.puts} == {False}
    assert {(c.open_interest, c.open_interest_date) for c in one.calls} == {(100, "2025-11-18")}
    contract = next(c for c in one.calls if c.strike == 600)
    assert contract.mid == pytest.approx((contract.bid + contract.ask) / 2)
    assert contract.delta == desk.chains.delta(contract.symbol, AT)
    assert desk.chains.expiries("SPY") == EXPIRIES
    assert desk.chains.expiries("QQQ") == ()


def test_what_is_not_usable_is_counted_by_reason(desk):
    date = TOMORROW.date
    desk.feed(
        quotes({
            occ(date, "C", 590): (float("nan"), 12.0), occ(date, "C", 591): (12.0, 11.0),
            occ(date, "C", 592): (0.0, 9.0), occ(date, "P", 610): (0.01, 0.02),
        })
    )  # fmt: skip
    desk.feed(quotes({occ(date, "C", 593): (8.0, 8.1)}, quoted_ns=AT - 11 * NS))
    left_out = usable(desk).left_out
    assert left_out["one_sided"] == 1
    assert left_out["crossed"] == 1
    assert left_out["zero_bid"] > 1  # far strikes, too
    assert left_out["stale"] >= 1
    assert sum(left_out.values()) + len(usable(desk).calls) + len(usable(desk).puts) == 82


def test_the_reason_of_none_is_the_nearest_to_a_usable_one(desk):
    assert usable(desk, AT + 11 * NS).reason == "fresh_option_quotes"
    bare = Desk().feed(LISTING, spot_quote())
    assert usable(bare).reason == "option_quotes"
    assert desk.chains.usable("QQQ", TOMORROW.date, AT, 10.0).reason == "chain"
    assert desk.chains.usable("SPY", "2025-11-21", AT, 10.0).reason == "expiry"
    assert Desk().feed(LISTING).chains.usable("SPY", TODAY.date, AT, 10.0).reason == "spot"
    assert usable(desk, least=101).reason == "open_interest_too_low"


def test_contracts_that_are_not_tradable_or_of_unknown_interest_are_left_out(desk):
    rows = tuple(
        msgspec.structs.replace(c, tradable="C006" not in c.symbol, open_interest=None if "P00590" in c.symbol else 100)
        for c in LISTING.contracts
    )
    changed = Desk().feed(ChainListed("SPY", TODAY.date, rows), quotes(market()), spot_quote())
    left_out = usable(changed, least=1).left_out
    assert left_out.keys() == {"not_tradable", "open_interest_unknown", "zero_bid"}
    assert left_out["open_interest_unknown"] == 1
    assert not [c for c in usable(changed, least=1).calls if c.strike >= 600]


def test_a_vertical_by_delta_and_offset(desk):
    found = desk.chains.select_structure(
        request(SHORT, LegWanted(True, Side.BUY, of_leg=0, offset_usd=5.0)), AT
    )  # fmt: skip
    assert isinstance(found, SelectedStructure)
    short, wing = found.legs
    assert wing.contract.strike == short.contract.strike + 5
    others = [abs(abs(c.delta) - 0.20) for c in usable(desk).calls]
    assert abs(short.contract.delta - 0.20) == pytest.approx(min(others))
    assert net_mid(found.legs) < 0
    assert net_spread(found.legs) == pytest.approx(0.08)


def test_at_the_money_is_the_strike_nearest_the_forward(desk):
    straddle = (LegWanted(True, Side.BUY, moneyness=0.0), LegWanted(False, Side.BUY, of_leg=0))
    found = desk.chains.select_structure(request(*straddle), AT)
    assert [leg.contract.strike for leg in found.legs] == [600.0, 600.0]
    assert found.forward == pytest.approx(SPOT, abs=0.2)


@pytest.mark.parametrize(
    ("legs", "reason"),
    [
        (
            (LegWanted(True, Side.SELL, abs_delta=0.2, abs_delta_low=0.201, abs_delta_high=0.2011),),
            "no_contract_at_delta",
        ),
        ((LegWanted(True, Side.BUY, moneyness=0.2),), "no_contract_at_moneyness"),
        ((SHORT, LegWanted(True, Side.BUY, of_leg=0, offset_usd=5.5)), "no_contract_at_strike"),
        ((LegWanted(True, Side.BUY, of_leg=0),), "no_contract_at_strike"),
        ((SHORT, SHORT), "legs_coincide"),
    ],
)
def test_legs_that_are_not_there_are_a_reason_with_counts(desk, legs, reason):
    found = desk.chains.select_structure(request(*legs), AT)
    assert isinstance(found, NotSelected)
    assert found.reason == reason
    assert found.facts["usable"] > 0


def test_the_first_expiry_that_has_the_structure_is_taken_and_the_first_reason_told(desk):
    legs = (SHORT, LegWanted(True, Side.BUY, of_leg=0, offset_usd=5.0))
    # Today's wings have no bid five dollars beyond the short.
    found = desk.chains.select_structure(request(*legs, expiries=("2025-12-01", *EXPIRIES)), AT)
    assert found.expiry == TOMORROW.date
    missing = desk.chains.select_structure(request(*legs, expiries=("2025-11-21", "2025-12-01")), AT)
    assert (missing.reason, missing.facts) == ("expiry", {"expiry": "2025-11-21"})
    assert desk.chains.select_structure(request(*legs, expiries=()), AT).reason == "expiry"


def test_spreads_together_are_limited(desk):
    legs = (LegWanted(True, Side.BUY, moneyness=0.0), LegWanted(False, Side.BUY, of_leg=0))
    tight = desk.chains.select_structure(request(*legs, max_spread_usd=0.07), AT)
    assert tight.reason == "net_spread_too_wide"
    assert tight.facts["net_spread_usd"] == pytest.approx(0.08)

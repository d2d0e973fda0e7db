"""How options end at the exchange: expiry, exercise, assignment, sell-outs; cash and positions exact to the cent."""

from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from oracle.core.errors import InvariantError
from oracle.core.instruments import OptionContract, Right, multiplier
from oracle.core.sessions import MINUTE_NS, NS, SessionTable
from oracle.sim.accounts import Account
from oracle.sim.behaviour import Behaviour
from oracle.sim.checks import check_expiry
from oracle.sim.errors import RefusedError
from oracle.sim.exchange import PRE_OPEN_NS
from oracle.sim.expiring import after_expiry, not_carried
from oracle.sim.intake import LegRequest
from oracle.sim.matching import Line
from oracle.sim.rest import Call
from oracle.sim.rest_trading import TradingApi
from tests.protocol.scripted_source import DAY_NS, FAR, OPEN_NS, make_sessions, occ
from tests.unit.test_sim_exchange import TODAY, World

D = Decimal
CLOSE_NS = make_sessions(1)[0].close_ns
CONDOR = ((590, "P", "buy"), (595, "P", "sell"), (605, "C", "sell"), (610, "C", "buy"))


def world(sessions: int = 2, cash: str = "100000", **behaviour: Any) -> World:
    return World(sessions=sessions, starting_cash_usd=D(cash), behaviour=Behaviour.model_validate(behaviour))


def structure(rows: Any, limit: str, qty: int = 1, expiry: str = TODAY, intent: str = "open") -> dict[str, Any]:
    legs = [
        {"symbol": occ(k, r, expiry), "ratio_qty": 1, "side": s, "position_intent": f"{s}_to_{intent}"}
        for k, r, s in rows
    ]
    return {
        "order_class": "mleg",
        "type": "limit",
        "time_in_force": "day",
        "qty": qty,
        "limit_price": limit,
        "legs": legs,
    }


def bought(place: World, rows: Any, qty: int = 1, expiry: str = TODAY) -> Decimal:
    """Open a structure at the touches; returns the cash after it."""
    order = place.exchange.submit(structure(rows, "5.00", qty, expiry))
    assert place.status(order) == "filled"
    return place.cash


def end_at(place: World, spot: float) -> None:
    """Close the session with the stock at a price."""
    place.source.set_touch("SPY", spot - 0.01, spot + 0.01, 500, 500)
    place.go(CLOSE_NS)


def next_day(place: World) -> None:
    place.go(OPEN_NS + DAY_NS - PRE_OPEN_NS)


def told(place: World) -> list[tuple[str, str, str, str]]:
    """(kind, symbol, quantity, cash) of what REST lists, without fills."""
    rows = TradingApi(place.exchange).activities(Call({}, {"direction": "asc"})).body
    return [(r["activity_type"], r["symbol"], r["qty"], r["net_amount"]) for r in rows if r["activity_type"] != "FILL"]


def held(place: World) -> dict[str, int]:
    return place.exchange.account.quantities()


# -- the last close -------------------------------------------------------------------------------------------------


def test_worthless_contracts_leave_at_zero() -> None:
    place = world()
    cash = bought(place, CONDOR)
    end_at(place, 600.0)
    assert (held(place), place.cash) == ({}, cash)
    assert told(place) == []
    next_day(place)
    signs = {"buy": "-1", "sell": "1"}
    expected = [("OPEXP", occ(k, r, TODAY), signs[s], "0") for k, r, s in CONDOR]
    assert sorted(told(place)) == sorted(expected)


def test_a_long_call_in_the_money_becomes_a_hundred_shares() -> None:
    place = world()
    symbol = occ(595, "C", TODAY)
    place.order(symbol)
    cash = place.cash
    end_at(place, 595.01)
    assert held(place) == {"SPY": 100}
    assert place.cash == cash - 59_500
    shares = place.exchange.account.positions["SPY"]
    assert shares.average_price == 595
    assert place.exchange.account.last_equity_usd == place.cash + D("59501")
    next_day(place)
    assert told(place) == [("OPEXC", symbol, "-1", "0"), ("OPTRD", "SPY", "100", "-59500")]
    row = place.exchange.account.activities[-1].body
    assert (row["date"], row["price"], row["id"][:19]) == (TODAY, "595", "20260105000000000::")


def test_less_than_a_cent_in_the_money_is_not_exercised() -> None:
    place = world(activities_next_day=False)
    place.order(occ(595, "C", TODAY))
    place.source.set_touch("SPY", 595.0, 595.01, 500, 500)
    place.go(CLOSE_NS)
    assert [row[0] for row in told(place)] == ["OPEXP"]
    assert held(place) == {}


def test_a_spread_in_the_money_nets_its_shares() -> None:
    place = world(activities_next_day=False)
    cash = bought(place, ((590, "C", "buy"), (595, "C", "sell")), qty=3)
    end_at(place, 600.0)
    assert held(place) == {}
    assert place.cash == cash + 3 * 500
    assert sorted(row[0] for row in told(place)) == ["OPASN", "OPEXC", "OPTRD", "OPTRD"]


@pytest.mark.parametrize(("spot", "shares", "strike"), [(607.0, -200, 605), (592.5, 200, 595)])
def test_a_condor_with_one_short_assigned_leaves_shares_that_can_be_closed(
    spot: float, shares: int, strike: int
) -> None:
    place = world(cash="300000")
    cash = bought(place, CONDOR, qty=2)
    end_at(place, spot)
    assert held(place) == {"SPY": shares}
    assert place.cash == cash - shares * strike
    place.source.set_touch("SPY", spot - 0.01, spot + 0.01, 150, 150)
    place.go(OPEN_NS + DAY_NS + NS)
    side = "sell" if shares > 0 else "buy"
    place.order("SPY", side=side, qty=50)
    price = D(str(spot)) + (D("0.01") if side == "buy" else D("-0.01"))
    limit = place.order("SPY", side=side, qty=150, limit_price=str(price))
    assert place.exchange.book.show(limit["id"])["position_intent"] == f"{side}_to_close"
    place.second()
    assert held(place) == {}
    assert place.cash == cash - shares * strike + shares * price


def test_a_long_straddle_is_exercised_on_one_side() -> None:
    place = world(activities_next_day=False)
    cash = bought(place, ((600, "C", "buy"), (600, "P", "buy")))
    end_at(place, 590.0)
    # The put delivers a hundred shares that are not there: short stock, held at half again its price.
    assert held(place) == {"SPY": -100}
    assert place.cash == cash + 60_000
    assert place.power == place.cash - D("590.00") * 100 * D("1.5")
    assert [row[0] for row in told(place)] == ["OPEXP", "OPEXC", "OPTRD"]


def test_both_shorts_in_the_money_leave_cash_only() -> None:
    rows = ((605, "P", "sell"), (595, "C", "sell"), (590, "P", "buy"), (610, "C", "buy"))
    place = world(cash="200000", activities_next_day=False)
    cash = bought(place, rows)
    end_at(place, 600.0)
    assert held(place) == {}
    assert place.cash == cash + 59_500 - 60_500
    assert sorted(row[0] for row in told(place)) == ["OPASN", "OPASN", "OPEXP", "OPEXP", "OPTRD", "OPTRD"]


def test_a_covered_call_delivers_the_shares() -> None:
    place = world(activities_next_day=False)
    place.source.set_touch("SPY", 600.0, 600.0, 500, 500)
    place.order("SPY", qty=100)
    place.order(occ(595, "C", TODAY), side="sell")
    cash = place.cash
    end_at(place, 600.0)
    assert held(place) == {}
    assert place.cash == cash + 59_500


def test_what_expires_later_stays() -> None:
    place = world()
    place.order(occ(595, "C"))
    end_at(place, 610.0)
    next_day(place)
    assert held(place) == {occ(595, "C"): 1}
    assert told(place) == []


def test_settlement_in_cash_is_a_switch() -> None:
    for switches in ({"cash_settled_roots": ("SPY",)}, {"exercise": False}):
        place = world(activities_next_day=False, **switches)
        cash = bought(place, ((590, "C", "buy"), (595, "C", "sell")))
        end_at(place, 600.0)
        assert held(place) == {}
        assert place.cash == cash + 500
        assert {row[0] for row in told(place)} == {"OPCSH"}


# -- sell-outs ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_carried_is_sold_fifteen_minutes_before_the_close() -> None:
    place = world(cash="60000")
    rich, cheap = occ(590, "C", TODAY), occ(595, "C", TODAY)
    for symbol, bid in ((rich, 9.90), (cheap, 4.90)):
        place.source.set_touch(symbol, bid, bid + 0.2)
        place.order(symbol)
    mine = place.order(rich, side="sell", limit_price="30.00")
    place.source.set_touch("SPY", 599.99, 600.01)
    place.go(CLOSE_NS - 15 * MINUTE_NS - NS)
    assert set(held(place)) == {rich, cheap}
    place.exchange.drain()
    before = place.cash
    place.go(CLOSE_NS - 15 * MINUTE_NS)
    # 60,000 dollars carry neither 59,000 and 59,500 together, nor one of them after what both cost.
    assert held(place) == {}
    assert place.cash == before + 990 + 490
    updates = place.exchange.drain()
    assert [u["event"] for u in updates] == ["new", "fill", "canceled", "new", "fill"]
    assert updates[2]["order"]["id"] == mine["id"]
    sold = updates[-1]["order"]
    assert (sold["source"], sold["side"], sold["client_order_id"] != "") == ("liquidation", "sell", True)


def test_a_spread_is_never_sold_out_for_want_of_cash() -> None:
    place = world(cash="1000")
    bought(place, ((590, "C", "buy"), (595, "C", "sell")))
    place.source.set_touch("SPY", 599.99, 600.01)
    place.go(CLOSE_NS - NS)
    assert held(place) == {occ(590, "C", TODAY): 1, occ(595, "C", TODAY): -1}


def test_pin_risk_may_take_one_leg() -> None:
    place = world(pin_risk_sell_out=1.0)
    bought(place, CONDOR, qty=2)
    place.source.set_touch("SPY", 599.99, 600.01)
    place.exchange.drain()
    place.go(CLOSE_NS - 15 * MINUTE_NS)
    updates = place.exchange.drain()
    assert [u["event"] for u in updates] == ["new", "fill"]
    taken = updates[-1]["order"]
    assert (taken["source"], taken["order_class"], taken["qty"]) == ("liquidation", "simple", "2")
    assert len(held(place)) == 3
    fill = place.exchange.account.activities[-1].body
    assert (fill["activity_type"], fill["symbol"], fill["order_id"]) == ("FILL", taken["symbol"], taken["id"])
    place.go(CLOSE_NS - NS)
    assert len(held(place)) == 3


def test_the_plan_closes_what_helps_most() -> None:
    call, put = (OptionContract("SPY", TODAY, r, k * 1000) for r, k in ((Right.CALL, 590), (Right.PUT, 610)))
    expiring = {call.occ: call, put.occ: put}
    positions = {call.occ: 2, put.occ: -1, "QQQ": 10}
    spots = {"SPY": D(600)}
    left, cash = after_expiry(positions, expiring, spots)
    assert (left, cash) == ({"QQQ": 10, "SPY": 300}, D(-118_000 - 61_000))
    plan = {"cash_usd": D(70_000), "spots": spots, "marks": {}}
    assert not_carried(positions, expiring, **plan) == [call.occ]
    assert not_carried(positions, expiring, **{**plan, "cash_usd": D(50_000)}) == [call.occ, put.occ]
    assert not_carried(positions, expiring, **{**plan, "cash_usd": D(200_000)}) == []


def test_no_more_can_be_exercised_than_is_held() -> None:
    account = Account("id", "number", 0, D(0), D(0))
    account.trade(occ(600), 1, 2, D(1), D(0))
    with pytest.raises(InvariantError, match="more than are held"):
        account.remove(occ(600), 3)


# -- before the open ------------------------------------------------------------------------------------------------


def test_a_short_without_time_value_may_be_assigned_before_the_open() -> None:
    place = world(early_assignment=1.0)
    rows = ((610, "P", "sell"), (590, "P", "buy"))
    place.source.set_touch(occ(610, "P"), 12.40, 12.60)
    cash = bought(place, rows, qty=5, expiry=FAR)
    place.source.set_touch(occ(610, "P"), 19.98, 20.04)
    place.source.set_touch(occ(590, "P"), 0.50, 0.60)
    end_at(place, 590.0)
    assert held(place) == {occ(610, "P"): -5, occ(590, "P"): 5}
    next_day(place)
    shares = held(place)["SPY"]
    assigned = shares // 100
    assert 1 <= assigned <= 5
    assert held(place).get(occ(610, "P"), 0) == assigned - 5
    assert place.cash == cash - assigned * 61_000
    assert told(place) == []
    place.go(CLOSE_NS + DAY_NS)
    assert told(place) == []


def test_time_value_keeps_a_short_from_being_assigned() -> None:
    place = world(early_assignment=1.0)
    bought(place, ((595, "C", "sell"), (610, "C", "buy")), expiry=FAR)
    place.source.set_touch(occ(595, "C"), 5.90, 6.10)
    end_at(place, 600.0)
    next_day(place)
    assert "SPY" not in held(place)


def test_a_dividend_makes_early_exercise_worth_it_and_is_owed_on_short_shares() -> None:
    dividends = {"SPY": {"2026-01-06": "1.75", "2026-01-07": "1.00"}}
    place = world(sessions=3, early_assignment=1.0, dividends=dividends, activities_next_day=False)
    cash = bought(place, ((595, "C", "sell"), (610, "C", "buy")), expiry=FAR)
    place.source.set_touch(occ(595, "C"), 5.90, 6.10)
    end_at(place, 600.0)
    next_day(place)
    assert held(place) == {"SPY": -100, occ(610, "C"): 1}
    # Whoever exercised the evening before has the shares on the ex-date, so the one assigned owes its dividend.
    assert told(place) == [
        ("OPASN", occ(595, "C"), "1", "0"), ("OPTRD", "SPY", "-100", "59500"), ("DIV", "SPY", "-100", "-175"),
    ]  # fmt: skip
    place.go(OPEN_NS + 2 * DAY_NS - PRE_OPEN_NS)
    assert told(place)[-1] == ("DIV", "SPY", "-100", "-100")
    assert place.cash == cash + 59_500 - 175 - 100


def test_shares_called_away_before_the_ex_date_get_no_dividend_and_a_dividend_is_paid_in_cents() -> None:
    dividends = {"SPY": {"2026-01-06": "1.75", "2026-01-07": "0.33333"}}
    place = world(sessions=3, early_assignment=1.0, dividends=dividends, activities_next_day=False)
    place.order("SPY", qty=107)
    place.order(occ(595, "C"), side="sell", limit_price="1.00")
    place.source.set_touch(occ(595, "C"), 5.90, 6.10)
    end_at(place, 600.0)
    cash = place.cash
    next_day(place)
    shares = held(place)["SPY"]
    assert shares == 7
    assert place.cash == cash + 59_500 + 7 * D("1.75")
    place.go(OPEN_NS + 2 * DAY_NS - PRE_OPEN_NS)
    assert place.cash == cash + 59_500 + 7 * D("1.75") + D("2.33")


@pytest.mark.parametrize("amount", ["nan", "inf", "-1", "1e40"])
def test_a_dividend_that_cannot_be_is_refused(amount: str) -> None:
    with pytest.raises(ValidationError):
        Behaviour.model_validate({"dividends": {"SPY": {"2026-01-06": amount}}})


@pytest.mark.parametrize("date", ["soon", "2026-13-01", "20260106"])
def test_a_dividend_without_a_date_is_refused(date: str) -> None:
    with pytest.raises(ValidationError, match="not a date"):
        Behaviour.model_validate({"dividends": {"SPY": {date: "1"}}})


def test_an_order_that_outlives_its_contract_ends_with_it() -> None:
    place = World(sessions=2, options_gtc=True)
    gone = place.order(occ(610, "C", TODAY), limit_price="0.01", time_in_force="gtc")
    stays = place.order(occ(610, "C", FAR), limit_price="0.01", time_in_force="gtc")
    body = {**structure(((605, "C", "buy"), (610, "C", "sell")), "0.01"), "time_in_force": "gtc"}
    both = place.exchange.submit(body)
    end_at(place, 600.0)
    assert [place.status(order) for order in (gone, both, stays)] == ["expired", "expired", "new"]


def test_the_dice_depend_on_the_seed_alone() -> None:
    seen = set()
    for seed in range(12):
        taken = []
        for _ in range(2):
            place = World(sessions=2, seed=seed, behaviour=Behaviour.model_validate({"pin_risk_sell_out": 0.5}))
            bought(place, CONDOR)
            place.go(CLOSE_NS - 14 * MINUTE_NS)
            taken.append(tuple(sorted(held(place))))
        assert taken[0] == taken[1]
        seen.add(taken[0])
    assert len(seen) > 2


# -- the last half hour ---------------------------------------------------------------------------------------------


def test_no_leg_of_an_opening_structure_may_expire_today_in_the_last_half_hour() -> None:
    place = world()
    rows = ((595, "P", "sell"), (590, "P", "buy"))
    bought(place, rows)
    place.go(CLOSE_NS - 30 * MINUTE_NS)
    mixed = structure(((605, "C", "sell"), (610, "C", "buy")), "5.00", expiry=FAR)
    mixed["legs"][0]["symbol"] = occ(605, "C", TODAY)
    for body in (structure(CONDOR, "5.00"), mixed):
        with pytest.raises(RefusedError) as refused:
            place.exchange.submit(body)
        assert refused.value.message.endswith("expires soon, unable to open new positions")
    closing = [(k, r, {"buy": "sell", "sell": "buy"}[s]) for k, r, s in rows]
    order = place.exchange.submit(structure(closing, "5.00", intent="close"))
    assert place.status(order) == "filled"
    assert held(place) == {}


def test_a_contract_dated_after_its_last_session_is_not_opened_in_the_last_half_hour_of_that() -> None:
    session, holiday, *later = make_sessions(4)
    leg = LegRequest(Line(occ(600, "C", holiday.date), 1, 1), None)
    table = SessionTable((session, *later))
    check_expiry([leg], ["buy_to_open"], session, session.close_ns - 31 * MINUTE_NS, table)
    with pytest.raises(RefusedError, match="expires soon"):
        check_expiry([leg], ["buy_to_open"], session, session.close_ns - 30 * MINUTE_NS, table)
    check_expiry([leg], ["buy_to_close"], session, session.close_ns - 30 * MINUTE_NS, table)


# -- what never breaks ----------------------------------------------------------------------------------------------


def folded(place: World) -> tuple[Decimal, dict[str, int]]:
    """Cash and positions as the account's own activities tell them."""
    cash, positions = D(100_000), dict[str, int]()
    for row in (a.body for a in place.exchange.account.activities):
        symbol, quantity = row["symbol"], int(row.get("qty", "0"))
        if row["activity_type"] == "FILL":
            sign = 1 if row["side"] == "buy" else -1
            cash -= sign * quantity * D(row["price"]) * multiplier(symbol)
            quantity *= sign
        else:
            cash += D(row["net_amount"])
            quantity *= row["activity_type"] not in ("DIV", "FEE")
        positions[symbol] = positions.get(symbol, 0) + quantity
    return cash, {symbol: quantity for symbol, quantity in sorted(positions.items()) if quantity}


def trade_anything(place: World, dice: Random) -> None:
    """Open a few structures and closings at random; what is refused is refused."""
    for _ in range(4):
        strikes = sorted(dice.sample((590, 595, 600, 605, 610), 2))
        right, expiry = dice.choice("CP"), dice.choice((TODAY, FAR))
        sides = dice.choice((("buy", "sell"), ("sell", "buy")))
        rows = list(zip(strikes, right * 2, sides, strict=True))
        with suppress(RefusedError):
            place.exchange.submit(structure(rows, "9.00", dice.randint(1, 3), expiry))
    if dice.random() < 0.5:
        with suppress(RefusedError):
            place.order(occ(dice.choice((590, 610)), dice.choice("CP"), TODAY))


@pytest.mark.parametrize("seed", range(40))
def test_activities_tell_cash_and_positions_to_the_cent(seed: int) -> None:
    dice = Random(seed)
    switches = {
        "pin_risk_sell_out": dice.choice((0.0, 0.7)),
        "early_assignment": dice.choice((0.0, 0.7)),
        "activities_next_day": dice.random() < 0.5,
        "exercise": dice.random() < 0.9,
        "dividends": dice.choice(({}, {"SPY": {"2026-01-06": "1.85"}})),
    }
    place = World(sessions=4, seed=seed, behaviour=Behaviour.model_validate(switches))
    trade_anything(place, dice)
    for day in range(3):
        spot = round(dice.uniform(588, 612), 2)
        place.source.set_touch("SPY", spot - 0.01, spot + 0.01, 500, 500)
        for strike, right in ((k, r) for k in (590, 595, 600, 605, 610) for r in "CP"):
            worth = max(0.0, spot - strike if right == "C" else strike - spot)
            place.source.set_touch(occ(strike, right), round(worth + 0.01, 2), round(worth + 0.05, 2))
            place.source.set_touch(occ(strike, right, TODAY), round(worth, 2) or None, round(worth + 0.02, 2))
        close_ns = CLOSE_NS + day * DAY_NS
        for minute in (15, 14, 7, 0):
            place.go(close_ns - minute * MINUTE_NS)
        place.go(OPEN_NS + (day + 1) * DAY_NS - PRE_OPEN_NS)
        place.go(OPEN_NS + (day + 1) * DAY_NS + NS)
        if not place.exchange.account.unlisted:
            assert folded(place) == (place.cash, dict(sorted(held(place).items())))
        for symbol, quantity in sorted(held(place).items(), key=lambda row: row[1]):
            if dice.random() < 0.5:
                with suppress(RefusedError):
                    place.order(symbol, side="sell" if quantity > 0 else "buy", qty=abs(quantity))
    place.go(OPEN_NS + 3 * DAY_NS + NS)
    place.exchange.account.reveal(2**62)
    assert folded(place) == (place.cash, dict(sorted(held(place).items())))
    assert len({a.id for a in place.exchange.account.activities}) == len(place.exchange.account.activities)

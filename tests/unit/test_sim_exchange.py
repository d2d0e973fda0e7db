"""The exchange in process: acceptance rules, holds, life of orders, the end of a session, and what never breaks."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.core.instruments import multiplier
from oracle.core.sessions import MINUTE_NS, NS, SessionTable
from oracle.sim.config import ExchangeConfig, FeeSchedule
from oracle.sim.errors import RefusedError
from oracle.sim.exchange import Exchange
from tests.protocol.scripted_source import OPEN_NS, STRIKES, ScriptedSource, make_sessions, occ

D = Decimal
CALL, PUT = occ(600), occ(600, "P")
TODAY = "2026-01-05"


class World:
    """An exchange and its market, moved together."""

    def __init__(self, sessions: int = 1, at_ns: int = OPEN_NS + NS, **config: Any) -> None:
        days = make_sessions(sessions)
        self.source = ScriptedSource(days)
        table = SessionTable(make_sessions(4))
        self.exchange = Exchange(ExchangeConfig(key="k", secret="s", **config), self.source, table)
        self.go(at_ns)

    def go(self, at_ns: int) -> None:
        self.source.advance(at_ns)
        self.exchange.step(at_ns)

    def second(self) -> None:
        self.go(self.exchange.now_ns + NS)

    def order(self, symbol: str = CALL, side: str = "buy", qty: int = 1, **more: Any) -> dict[str, Any]:
        body = {"symbol": symbol, "side": side, "qty": qty, "type": "market", "time_in_force": "day", **more}
        if "limit_price" in more and "type" not in more:
            body["type"] = "limit"
        return self.exchange.submit(body)

    def refused(self, *args: Any, **kwargs: Any) -> str:
        with pytest.raises(RefusedError) as refusal:
            self.order(*args, **kwargs)
        return refusal.value.message

    def status(self, order: dict[str, Any]) -> str:
        return str(self.exchange.book.show(order["id"])["status"])

    @property
    def cash(self) -> Decimal:
        return self.exchange.account.cash_usd

    @property
    def power(self) -> Decimal:
        return self.exchange.valuation.buying_power(self.exchange.book.working.values())

    def events(self) -> list[str]:
        return [u["event"] for u in self.exchange.drain()]


def spread(limit: str, qty: int = 1, legs: Any = None) -> dict[str, Any]:
    legs = legs or [(600, "C", "sell", 1), (605, "C", "buy", 1)]
    rows = [{"symbol": occ(k, r), "side": s, "ratio_qty": n, "position_intent": f"{s}_to_open"} for k, r, s, n in legs]
    return {
        "order_class": "mleg",
        "type": "limit",
        "time_in_force": "day",
        "qty": qty,
        "limit_price": limit,
        "legs": rows,
    }


def test_a_resting_buy_fills_at_its_own_limit() -> None:
    world = World()
    order = world.order(limit_price="1.25")
    world.second()
    assert world.status(order) == "new"
    world.source.set_touch(CALL, 1.10, 1.20)
    world.second()
    assert world.status(order) == "filled"
    assert world.cash == D(100_000) - 125
    assert world.events() == ["new", "fill"]


def test_two_orders_cannot_take_the_same_contracts() -> None:
    world = World()
    world.source.set_touch(CALL, 1.20, 1.30, 10, 5)
    first, second = world.order(qty=4, limit_price="1.30"), world.order(qty=4, limit_price="1.30")
    assert world.status(first) == "filled"
    assert world.exchange.book.show(second["id"])["filled_qty"] == "1"
    world.second()
    assert world.status(second) == "filled"


def test_stop_orders_become_market_when_touched() -> None:
    world = World()
    stop = world.order(type="stop", stop_price="1.40")
    world.second()
    assert world.status(stop) == "new"
    world.source.set_touch(CALL, 1.40, 1.50)
    world.second()
    assert world.exchange.book.show(stop["id"])["filled_avg_price"] == "1.5"


def test_intents_and_held_quantities() -> None:
    world = World()
    world.order(qty=2)
    assert world.refused(side="sell", qty=1, position_intent="sell_to_open").startswith("position intent mismatch")
    assert world.refused(side="sell", qty=3, limit_price="2.00") == (
        "insufficient qty available for order (requested: 3, available: 2)"
    )
    closing = world.order(side="sell", qty=2, limit_price="2.00")
    assert closing["position_intent"] == "sell_to_close"
    with pytest.raises(RefusedError) as refusal:
        world.order(side="sell", qty=1, limit_price="2.00")
    assert refusal.value.extra == {"available": "0", "existing_qty": "2", "held_for_orders": "2", "symbol": CALL}
    assert world.refused(side="buy", limit_price="2.10") == "potential wash trade detected. use complex orders"
    assert world.order(side="buy", limit_price="1.00")["status"] == "pending_new"


def test_buying_power_holds_working_orders_and_short_requirements() -> None:
    world = World(starting_cash_usd=D(2000))
    world.order(qty=5, limit_price="1.00")
    assert world.power == D(1500)
    world.source.set_touch(occ(605), 0.50, 0.55)
    credit = world.exchange.submit(spread("-0.65", qty=2))
    # 1.20 - 0.55 received twice; 500 of width required twice.
    assert world.exchange.book.show(credit["id"])["filled_avg_price"] == "-0.65"
    assert (world.cash, world.power) == (D(2130), D(630))
    with pytest.raises(RefusedError) as refusal:
        world.exchange.submit(spread("-0.65", qty=2))
    assert refusal.value.message == "insufficient options buying power (required: 870, available: 630)"


def test_shorts_must_be_covered_or_secured() -> None:
    world = World(starting_cash_usd=D(200_000))
    naked = "account not eligible to trade uncovered option contracts"
    assert world.refused(side="sell") == naked
    assert world.order(PUT, side="sell", limit_price="1.20")["position_intent"] == "sell_to_open"
    assert world.power == D(200_000) + 120 - 60_000
    world.source.set_touch("SPY", 600.0, 600.1, 500, 500)
    world.order("SPY", qty=150)
    world.order(side="sell", limit_price="1.20")
    partly = world.refused(side="sell", limit_price="1.20")
    assert partly == "insufficient underlying qty available for covered call (required: 100, available: 50)"
    assert world.refused("SPY", side="sell", qty=100) == naked
    with pytest.raises(RefusedError) as refusal:
        World().exchange.submit(spread("0.10", legs=[(600, "C", "buy", 1), (605, "C", "sell", 2)]))
    assert refusal.value.message == "account not eligible to trade spreads or uncovered contracts"


def test_a_long_leg_that_covers_cannot_be_sold_alone() -> None:
    world = World()
    world.exchange.submit(spread("0.20"))
    assert world.exchange.account.quantities() == {CALL: -1, occ(605): 1}
    assert world.refused(occ(605), side="sell") == "account not eligible to trade uncovered option contracts"
    world.order(CALL, side="buy")
    world.order(occ(605), side="sell")
    assert world.exchange.account.quantities() == {}


def test_when_the_broker_took_a_cover_only_what_closes_or_covers_again_is_taken() -> None:
    world = World()
    world.exchange.submit(spread("0.20"))
    world.exchange.sell_out(occ(605), 1, "test")
    assert world.exchange.account.quantities() == {CALL: -1}
    naked = "account not eligible to trade uncovered option contracts"
    assert world.refused(side="sell") == naked
    assert world.refused(PUT, side="sell", limit_price="1.20") == naked
    with pytest.raises(RefusedError, match="uncovered"):
        world.exchange.submit(spread("0.20", legs=[(595, "C", "sell", 1), (605, "C", "buy", 1)]))
    assert world.status(world.order(occ(610))) == "filled"  # a cover again
    assert world.status(world.order(CALL)) == "filled"


def test_what_the_broker_closes_is_not_closed_again_by_an_order_that_waited() -> None:
    world = World()
    world.exchange.submit(spread("0.20"))
    legs = [(600, "C", "buy", 1), (605, "C", "sell", 1)]
    closing = spread("-3.00", legs=legs)
    for leg in closing["legs"]:
        leg["position_intent"] = leg["position_intent"].replace("open", "close")
    order = world.exchange.submit(closing)
    assert world.status(order) == "new"
    world.exchange.sell_out(occ(605), 1, "test")
    assert world.status(order) == "canceled"
    assert world.exchange.account.quantities() == {CALL: -1}


def test_an_uncovered_underlying_does_not_free_another() -> None:
    world = World()
    world.exchange.account.trade("QQQ260116C00500000", -1, 1, D(1), D(0))
    assert world.refused(side="sell") == "account not eligible to trade uncovered option contracts"


def test_a_cover_promised_to_another_order_does_not_cover() -> None:
    world = World()
    world.order(CALL)
    world.order(CALL, side="sell", limit_price="2.00")
    with pytest.raises(RefusedError) as refusal:
        world.exchange.submit(spread("-3.00", legs=[(605, "C", "sell", 1), (595, "P", "sell", 1)]))
    assert refusal.value.message == "account not eligible to trade spreads or uncovered contracts"


def test_short_stock_is_held_at_half_again_its_price() -> None:
    world = World()
    world.source.set_touch("SPY", 600.0, 600.0, 500, 500)
    world.order("SPY", side="sell", qty=100)
    assert world.exchange.account.quantities() == {"SPY": -100}
    assert (world.cash, world.power) == (D(160_000), D(70_000))
    assert world.order("SPY", side="buy", qty=100)["side"] == "buy"
    assert world.power == D(100_000)


@pytest.mark.parametrize(
    ("level", "what", "refused"),
    [
        (0, {"symbol": CALL}, True),
        (1, {"symbol": CALL}, True),
        (1, {"symbol": PUT, "side": "sell"}, False),
        (2, {"symbol": CALL}, False),
        (0, {"symbol": "SPY"}, False),
    ],
)
def test_options_levels(level: int, what: dict[str, Any], refused: bool) -> None:
    world = World(options_level=level)
    if refused:
        assert world.refused(**what).startswith("account not eligible")
    else:
        world.order(**what)


def test_mleg_needs_level_three() -> None:
    with pytest.raises(RefusedError) as refusal:
        World(options_level=2).exchange.submit(spread("-0.10"))
    assert refusal.value.message == "account not eligible to trade spreads or uncovered contracts"


def test_no_opening_in_the_last_half_hour_of_an_expiring_contract() -> None:
    close_ns = make_sessions(1)[0].close_ns
    expiring = occ(600, "C", TODAY)
    world = World(at_ns=close_ns - 31 * MINUTE_NS)
    world.order(expiring, qty=2)
    world.go(close_ns - 30 * MINUTE_NS)
    assert world.refused(expiring) == f'contract "{expiring}" expires soon, unable to open new positions'
    assert world.order(expiring, side="sell")["position_intent"] == "sell_to_close"


def test_orders_before_the_open_wait_for_it() -> None:
    world = World(at_ns=OPEN_NS - 60 * NS)
    order = world.order(limit_price="1.30")
    assert order["status"] == "accepted"
    world.go(OPEN_NS - NS)
    assert world.events() == []
    world.go(OPEN_NS)
    assert world.events() == ["new", "fill"]


def test_day_orders_expire_at_the_close_and_gtc_stays() -> None:
    close_ns = make_sessions(1)[0].close_ns
    world = World(sessions=2, options_gtc=True)
    day = world.order(limit_price="0.50")
    gtc = world.order(limit_price="0.51", time_in_force="gtc")
    world.go(close_ns - NS)
    world.exchange.drain()
    world.go(close_ns)
    assert world.events() == ["expired"]
    assert (world.status(day), world.status(gtc)) == ("expired", "new")
    world.go(OPEN_NS + 86_400 * NS)
    world.source.set_touch(occ(600), 0.40, 0.45)
    world.second()
    assert world.status(gtc) == "filled"


def test_fees_are_charged_and_recorded() -> None:
    fees = FeeSchedule.model_validate({"option_buy_usd_per_contract": "0.02", "option_sell_usd_per_contract": "0.03"})
    world = World(fees=fees)
    world.order(qty=2)
    world.order(side="sell", qty=2)
    assert world.cash == D(100_000) - 260 + 240 - D("0.04") - D("0.06")
    rows = [a.body for a in world.exchange.account.activities if a.kind == "FEE"]
    assert [r["net_amount"] for r in rows] == ["-0.04", "-0.06"]


def test_replace_carries_what_is_left() -> None:
    world = World()
    world.source.set_touch(CALL, 1.20, 1.30, 10, 2)
    old = world.order(qty=5, limit_price="1.30")
    world.exchange.drain()
    world.source.set_touch(CALL, 1.20, 1.40, 10, 10)
    new = world.exchange.replace(old["id"], {"qty": 4, "limit_price": "1.35"})
    assert (new["qty"], new["replaces"], new["status"]) == ("2", old["id"], "pending_new")
    assert world.events() == ["replaced", "new"]
    with pytest.raises(RefusedError) as refusal:
        world.exchange.replace(new["id"], {"qty": 2})
    assert refusal.value.message == "order parameters are not changed"
    with pytest.raises(RefusedError):
        World(mleg_replace=False).exchange.replace("61e69015-8549-4bfd-b9c3-01e75843f47d", {"qty": 2})


def test_mleg_replace_can_be_switched_off() -> None:
    world = World(mleg_replace=False)
    order = world.exchange.submit(spread("-1.00"))
    with pytest.raises(RefusedError) as refusal:
        world.exchange.replace(order["id"], {"limit_price": "-0.90"})
    assert (refusal.value.status, refusal.value.message) == (403, "replace mleg order is disabled")


def test_a_market_order_needs_a_quote_to_be_priced() -> None:
    world = World()
    world.source.set_touch(CALL, 1.20, None)
    assert world.refused() == f"no available quote for {CALL}, submit a limit order"


# -- what never breaks ----------------------------------------------------------------------------------------------

SYMBOLS = [occ(k, r) for k in STRIKES for r in "CP"] + ["SPY"]
orders = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(SYMBOLS),
        "side": st.sampled_from(["buy", "sell"]),
        "qty": st.integers(1, 15),
        "type": st.sampled_from(["market", "limit"]),
        "time_in_force": st.just("day"),
        "limit_price": st.integers(90, 150).map(lambda c: str(D(c) / 100)),
    }
)
mlegs = st.builds(
    lambda strikes, right, limit, qty, first: spread(
        str(D(limit) / 100),
        qty,
        [(strikes[0], right, first, 1), (strikes[1], right, "buy" if first == "sell" else "sell", 1)],
    ),
    st.permutations(STRIKES),
    st.sampled_from("CP"),
    st.integers(-60, 60),
    st.integers(1, 4),
    st.sampled_from(["buy", "sell"]),
)
quotes = st.tuples(
    st.sampled_from(SYMBOLS[:-1]),
    st.none() | st.integers(80, 120),
    st.none() | st.integers(121, 160),
    st.integers(0, 9),
)
actions = st.lists(st.one_of(orders, mlegs, quotes, st.just("cancel"), st.just("second")), max_size=40)


@settings(max_examples=60, deadline=None)
@given(actions)
def test_money_and_positions_are_conserved(script: list[Any]) -> None:
    fees = FeeSchedule.model_validate({"option_buy_usd_per_contract": "0.02", "stock_sell_usd_per_share": "0.01"})
    world = World(fees=fees)
    ids: list[str] = []
    for action in script:
        try:
            _act(world, action, ids)
        except RefusedError:
            continue
    account = world.exchange.account
    fills = [a.body for a in account.activities if a.kind == "FILL"]
    cash, held = D(100_000) - account.fees_usd, dict.fromkeys(SYMBOLS, 0)
    for fill in fills:
        signed = int(fill["qty"]) * (1 if fill["side"] == "buy" else -1)
        cash -= signed * D(fill["price"]) * multiplier(fill["symbol"])
        held[fill["symbol"]] += signed
    assert account.cash_usd == cash
    assert account.quantities() == {s: q for s, q in held.items() if q}
    assert sum((D(a.body["net_amount"]) for a in account.activities if a.kind == "FEE"), D(0)) == -account.fees_usd
    client_ids = [o.client_order_id for o in world.exchange.book.orders.values()]
    assert len(set(client_ids)) == len(client_ids)
    for order in world.exchange.book.orders.values():
        assert 0 <= order.filled <= order.qty
        assert (order.status == "filled") == (order.left == 0)
        assert all(leg.filled == order.filled * leg.line.ratio for leg in order.legs)
    assert all(o.working for o in world.exchange.book.working.values())


def _act(world: World, action: Any, ids: list[str]) -> None:
    if action == "second":
        world.second()
    elif action == "cancel":
        if ids:
            world.exchange.cancel(ids.pop())
    elif isinstance(action, tuple):
        symbol, bid, ask, size = action
        cents = [None if c is None else c / 100 for c in (bid, ask)]
        world.source.set_touch(symbol, cents[0], cents[1], size, size)
    else:
        body = {k: v for k, v in action.items() if k != "limit_price" or action["type"] == "limit"}
        ids.append(world.exchange.submit(body)["id"])

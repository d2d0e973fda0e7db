"""Structures at the exchange: filling together, absent sides, units, and the faults that break them on purpose."""

from decimal import Decimal
from typing import Any

import pytest

from oracle.core.sessions import NS
from oracle.sim.errors import RefusedError
from oracle.sim.faultplan import read_plan
from oracle.sim.faults import Faults
from tests.protocol.scripted_source import FAR, occ
from tests.unit.test_sim_exchange import World
from tests.unit.test_sim_expiry import CONDOR, held, structure

D = Decimal
OUT = tuple((k, r, {"buy": "sell", "sell": "buy"}[s]) for k, r, s in CONDOR)


def broken(*faults: dict[str, Any], **config: Any) -> World:
    place = World(**config)
    Faults(place.exchange, read_plan({"seed": 7, "fault": list(faults)}))
    return place


def opened(place: World, qty: int = 1) -> dict[str, Any]:
    return place.exchange.submit(structure(CONDOR, "5.00", qty, FAR))


def quantities(units: int) -> dict[str, int]:
    return {occ(k, r): units if s == "buy" else -units for k, r, s in CONDOR} if units else {}


def test_a_market_structure_fills_at_the_touches() -> None:
    place = World()
    body = structure(CONDOR, "0", 2, FAR)
    del body["limit_price"]
    order = place.exchange.submit({**body, "type": "market"})
    shown = place.exchange.book.show(order["id"])
    assert (shown["status"], shown["filled_avg_price"]) == ("filled", "0.2")
    assert held(place) == quantities(2)
    assert place.cash == D(100_000) - 40


def test_a_structure_with_an_absent_side_never_fills() -> None:
    place = World()
    opened(place)
    place.source.set_touch(occ(590, "P"), None, 0.05)
    closing = place.exchange.submit(structure(OUT, "5.00", 1, FAR, "close"))
    for _ in range(3):
        place.second()
    assert place.status(closing) == "new"
    assert held(place) == quantities(1)
    place.source.set_touch(occ(590, "P"), 0.01, 0.05)
    place.second()
    assert place.status(closing) == "filled"
    assert held(place) == {}


def test_units_are_limited_by_the_leg_with_the_smallest_size_over_its_ratio() -> None:
    place = World()
    place.source.set_touch(occ(605), 1.20, 1.30, 5, 5)
    rows = [(600, "C", "buy", 1), (605, "C", "sell", 2), (610, "C", "buy", 1)]
    legs = [{"symbol": occ(k, r), "ratio_qty": n, "side": s, "position_intent": f"{s}_to_open"} for k, r, s, n in rows]
    order = place.exchange.submit({**structure(CONDOR, "0.20", 4, FAR), "legs": legs})
    updates = place.exchange.drain()
    assert [u["event"] for u in updates] == ["new", "partial_fill"]
    fill = updates[1]
    assert (fill["qty"], fill["price"]) == ("2", "0.2")
    assert fill["position_qtys"] == {occ(600): "2", occ(605): "-4", occ(610): "2"}
    assert [(leg["symbol"], leg["qty"], leg["price"]) for leg in fill["legs"]] == [
        (occ(600), "2", "1.3"), (occ(605), "4", "1.2"), (occ(610), "2", "1.3"),
    ]  # fmt: skip
    assert len({leg["execution_id"] for leg in fill["legs"]} | {fill["execution_id"]}) == 4
    place.second()
    assert place.status(order) == "filled"
    assert held(place) == {occ(600): 4, occ(605): -8, occ(610): 4}


def test_a_refused_structure_leaves_no_trace() -> None:
    place = broken({"kind": "refuse_mleg", "count": 1})
    with pytest.raises(RefusedError) as refused:
        opened(place)
    assert (refused.value.status, refused.value.message) == (403, "submit mleg order is disabled")
    assert (held(place), place.exchange.book.orders) == ({}, {})
    assert place.status(opened(place)) == "filled"


def test_a_rejected_structure_was_accepted_first() -> None:
    place = broken({"kind": "reject_mleg", "count": 1})
    order = opened(place)
    assert order["status"] == "pending_new"
    [update] = place.exchange.drain()
    assert (update["event"], update["order"]["status"]) == ("rejected", "rejected")
    assert update["order"]["failed_at"] is not None
    place.second()
    assert held(place) == {}
    assert place.power == D(100_000)


def test_a_structure_may_fill_in_part_and_rest() -> None:
    place = broken({"kind": "partial_mleg", "units": 2, "count": 1})
    order = opened(place, qty=5)
    for _ in range(3):
        place.second()
    assert place.exchange.book.show(order["id"])["filled_qty"] == "2"
    assert held(place) == quantities(2)
    place.exchange.cancel(order["id"])
    assert place.status(order) == "canceled"
    closing = place.exchange.submit(structure(OUT, "5.00", 2, FAR, "close"))
    assert place.status(closing) == "filled"
    assert held(place) == {}


def test_a_structure_may_not_fill_at_all() -> None:
    place = broken({"kind": "partial_mleg", "units": 0})
    order = opened(place)
    place.second()
    assert place.status(order) == "new"


@pytest.mark.parametrize("side", ["long", "short"])
def test_the_broker_may_take_a_leg(side: str) -> None:
    place = broken({"kind": "sell_out_leg", "side": side, "from": "09:31"})
    opened(place, qty=3)
    place.exchange.drain()
    place.second()
    assert held(place) == quantities(3)
    place.go(place.exchange.session.open_ns + 60 * NS)
    gone = [s for s in quantities(3) if s not in held(place)]
    assert len(gone) == 1
    assert quantities(3)[gone[0]] == (3 if side == "long" else -3)
    assert [u["order"]["source"] for u in place.exchange.drain()] == ["liquidation", "liquidation"]
    left = {s: q for s, q in quantities(3).items() if s not in gone}
    for symbol in sorted(left, key=lambda s: left[s]):
        place.order(symbol, side="buy" if left[symbol] < 0 else "sell", qty=3)
    assert held(place) == {}


def test_a_lone_long_is_no_leg_to_take() -> None:
    place = broken({"kind": "sell_out_leg"})
    place.order(occ(600))
    place.second()
    assert held(place) == {occ(600): 1}


def test_a_leg_to_take_can_be_named() -> None:
    place = broken({"kind": "sell_out_leg", "symbols": [occ(610)]}, {"kind": "sell_out_leg", "symbols": ["QQQ"]})
    opened(place)
    place.second()
    assert set(quantities(1)) - set(held(place)) == {occ(610)}

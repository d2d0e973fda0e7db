"""``oracle flatten --direct``: nothing but keys, and the broker's own records as the proof."""

import asyncio
from typing import Any

import pytest

from oracle import direct
from oracle.alpaca import wire
from oracle.core.errors import ConfigurationError, RemoteError
from oracle.direct import flatten_account
from tests.protocol.conftest import Running
from tests.protocol.scripted_source import occ

KEYS = wire.Credentials("SIMKEY", "SIMSECRET")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "LOOK_EVERY_S", 0.1)


def account_of(running: Running, keys: wire.Credentials = KEYS) -> tuple[wire.Endpoints, wire.Credentials]:
    return wire.one_host_endpoints(running.url), keys


def flatten(running: Running, wait_s: float = 10.0, keys: wire.Credentials = KEYS) -> Any:
    return asyncio.run(flatten_account(account_of(running, keys), wait_s))


def buy(running: Running, **changes: Any) -> dict[str, Any]:
    order = {"symbol": "SPY", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day", **changes}
    answer = running.post(order)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_everything_is_cancelled_and_closed_whoever_made_it(open_market: Running) -> None:
    buy(open_market)
    buy(open_market, type="limit", limit_price="1.00", client_order_id="somebody-elses")
    assert len(open_market.call("GET", "/v2/positions").json()) == 1
    answer = flatten(open_market)
    assert (answer.ok, answer.done) == (True, True)
    assert answer.facts == {"positions": [], "orders": [], "executions": []}
    assert open_market.call("GET", "/v2/positions").json() == []
    assert open_market.call("GET", "/v2/orders", status="open").json() == []


CONDOR = ((590, "P", "buy"), (595, "P", "sell"), (605, "C", "sell"), (610, "C", "buy"))


def condor(running: Running, units: int = 2) -> None:
    """Open a condor as one order."""
    for strike, right, bid in ((590, "P", 0.50), (595, "P", 1.00), (605, "C", 1.00), (610, "C", 0.50)):
        running.source.set_touch(occ(strike, right), bid, bid + 0.05)
    legs = [
        {"symbol": occ(k, r), "side": side, "ratio_qty": "1", "position_intent": f"{side}_to_open"}
        for k, r, side in CONDOR
    ]
    order = {"order_class": "mleg", "qty": str(units), "type": "market", "time_in_force": "day", "legs": legs}
    answer = running.post(order)
    assert answer.status_code == 200, answer.text


def test_shorts_are_bought_back_before_what_covers_them_is_sold(
    open_market: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    condor(open_market)
    buy(open_market)  # shares of the underlying may cover a short call: they wait as well
    asked: list[tuple[str, str]] = []
    whole = direct._Patient.trading

    async def noted(rest: Any, method: str, path: str, query: Any = None) -> Any:
        asked.append((method, path))
        return await whole(rest, method, path, query)

    monkeypatch.setattr(direct._Patient, "trading", noted)
    answer = flatten(open_market)
    assert (answer.ok, answer.facts["positions"]) == (True, [])
    closes = [path for method, path in asked if method == "DELETE" and path != wire.ORDERS_PATH]
    assert sorted(closes[:2]) == sorted(f"{wire.POSITIONS_PATH}/{occ(k, r)}" for k, r, s in CONDOR if s == "sell")
    assert closes[2:] == [wire.POSITIONS_PATH]
    orders = open_market.call("GET", "/v2/orders", status="all", limit="50").json()
    assert {o["status"] for o in orders} == {"filled"}  # no close was refused for what it would have uncovered


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        ([("SPY", "10"), (occ(600), "2")], None),
        ([(occ(605), "-1"), (occ(610), "1")], [occ(605)]),
        ([(occ(605), "-1"), ("SPY", "100"), ("QQQ", "-5")], [occ(605), "QQQ"]),
        ([("SPY", "-100")], None),
    ],
)
def test_what_is_closed_first(rows: list[tuple[str, str]], first: list[str] | None) -> None:
    assert direct._closed_first([{"symbol": symbol, "qty": qty} for symbol, qty in rows]) == first


def test_an_account_that_is_flat_is_told_so_at_once(open_market: Running) -> None:
    assert flatten(open_market, 0.0).ok


def test_what_cannot_be_closed_is_named_and_is_not_called_flat(
    open_market: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    buy(open_market)

    async def refuse(_rest: Any) -> list[str]:
        return ["SPY: market is closed"]

    monkeypatch.setattr(direct, "_close", refuse)
    answer = flatten(open_market, 0.6)
    assert (answer.ok, answer.done) == (False, False)
    assert answer.text == "not flat after 0.6 s: 1 positions, 0 open orders; SPY: market is closed"
    assert [(p["symbol"], p["qty"]) for p in answer.facts["positions"]] == [("SPY", "10")]


def test_a_wrong_key_and_a_broker_that_is_away_are_told(open_market: Running) -> None:
    with pytest.raises(ConfigurationError, match="check key and secret"):
        flatten(open_market, 5.0, wire.Credentials("WRONG", "WRONG-SECRET"))
    nowhere = (wire.one_host_endpoints("http://127.0.0.1:9"), KEYS)
    with pytest.raises(RemoteError, match="nothing is known"):
        asyncio.run(flatten_account(nowhere, 0.0))

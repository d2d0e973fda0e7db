"""``oracle flatten --direct``: nothing but keys, and the broker's own records as the proof."""

import asyncio
from typing import Any

import pytest

from oracle import direct
from oracle.alpaca import wire
from oracle.core.errors import ConfigurationError, RemoteError
from oracle.direct import flatten_account
from tests.protocol.conftest import Running

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

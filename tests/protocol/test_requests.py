"""Requests that no client library would send: the exchange answers each with Alpaca's JSON, never a traceback."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.core.sessions import NS
from oracle.sim.config import ExchangeConfig
from tests.protocol.conftest import KEY, SECRET, Running, Start, move_to
from tests.protocol.scripted_source import OPEN_NS, make_sessions, occ

CALL, UPPER = occ(600), occ(605)
SIMPLE = {"symbol": CALL, "qty": 1, "side": "buy", "type": "limit", "time_in_force": "day", "limit_price": "1.00"}
LEG = {"symbol": CALL, "ratio_qty": 1, "side": "buy", "position_intent": "buy_to_open"}
OTHER = {"symbol": UPPER, "ratio_qty": 1, "side": "sell", "position_intent": "sell_to_open"}
MLEG = {
    "qty": 1,
    "type": "limit",
    "time_in_force": "day",
    "order_class": "mleg",
    "limit_price": 1,
    "legs": [LEG, OTHER],
}
BAD_ORDERS: list[tuple[object, int, int, str]] = [
    (None, 422, 40010001, "request body"),
    ([], 422, 40010001, "request body"),
    ({}, 422, 40010001, "type is required"),
    ({**SIMPLE, "symbol": "lower"}, 422, 42210000, "not found"),
    ({**SIMPLE, "symbol": "SPY260116C00601000"}, 422, 42210000, "not found"),
    ({**SIMPLE, "symbol": 7}, 422, 42210000, "not found"),
    ({**SIMPLE, "qty": 1.5}, 422, 42210000, "whole number"),
    ({**SIMPLE, "qty": "x"}, 422, 40010001, "invalid qty"),
    ({**SIMPLE, "qty": "Infinity"}, 422, 40010001, "invalid qty"),
    ({**SIMPLE, "qty": 0}, 422, 42210000, "must be > 0"),
    ({**SIMPLE, "side": "hold"}, 422, 40010001, "invalid side"),
    ({**SIMPLE, "limit_price": None}, 422, 42210000, "require a limit price"),
    ({**SIMPLE, "limit_price": -1}, 422, 42210000, "must be > 0"),
    ({**SIMPLE, "limit_price": "1.001"}, 422, 42210000, "increment"),
    ({**SIMPLE, "limit_price": "1E-999999"}, 422, 40010001, "invalid limit_price"),
    ({**SIMPLE, "limit_price": {}}, 422, 40010001, "invalid limit_price"),
    ({**SIMPLE, "time_in_force": "gtc"}, 422, 42210000, "time_in_force provided not supported"),
    ({**SIMPLE, "time_in_force": []}, 422, 40010001, "invalid time_in_force"),
    ({**SIMPLE, "order_class": "bracket"}, 422, 42210000, "complex orders not supported"),
    ({**SIMPLE, "position_intent": "buy_to_close"}, 422, 42210000, "position intent mismatch, inferred: buy_to_open"),
    ({**SIMPLE, "client_order_id": "x" * 129}, 422, 40010001, "128"),
    ({**SIMPLE, "notional": 5}, 422, 42210000, "notional"),
    ({**SIMPLE, "symbol": "SPY", "limit_price": "600.001"}, 422, 42210000, "sub-penny"),
    ({**MLEG, "legs": [LEG]}, 422, 42210000, "between 2 and 4"),
    ({**MLEG, "legs": [LEG, LEG]}, 422, 42210000, "unique"),
    ({**MLEG, "legs": [LEG, {**OTHER, "symbol": "SPY"}]}, 422, 42210000, "equity legs"),
    ({**MLEG, "legs": [{**LEG, "ratio_qty": 2}, {**OTHER, "ratio_qty": 2}]}, 422, 42210000, "GCD[2 2] = 2"),
    ({**MLEG, "legs": [LEG, {"symbol": UPPER, "ratio_qty": 1}]}, 422, 42210000, "leg.1 position intent is required"),
    ({**MLEG, "legs": [LEG, 3]}, 422, 40010001, "invalid leg.1"),
    ({**MLEG, "type": "stop", "stop_price": 1}, 422, 42210000, "multi-leg"),
    ({**MLEG, "legs": [{**LEG, "ratio_qty": 1}, {**OTHER, "ratio_qty": 2}]}, 403, 40310000, "uncovered"),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """One exchange, ten seconds into its session, for requests that must leave no trace."""
    config = ExchangeConfig(key=KEY, secret=SECRET, hold=True, trading_requests_per_min=10_000)
    running = Running(config, make_sessions(1, 60))
    move_to(running, OPEN_NS + 10 * NS)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Running]:
    """One exchange for whatever a fuzzer thinks of."""
    config = ExchangeConfig(key=KEY, secret=SECRET, hold=True, trading_requests_per_min=10_000)
    running = Running(config, make_sessions(1, 60))
    move_to(running, OPEN_NS + 10 * NS)
    yield running
    running.stop()


@pytest.mark.parametrize(("body", "status", "code", "text"), BAD_ORDERS)
def test_bad_orders_get_the_vendors_errors(shared: Running, body: object, status: int, code: int, text: str) -> None:
    answer = shared.post(body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert text in answer.json()["message"]
    assert shared.state()["orders"] == 0


BAD_PATHS = [
    ("GET", "/v2/nothing", {}, 404),
    ("PUT", "/v2/orders", {}, 405),
    ("GET", "/v2/orders", {"limit": "0"}, 422),
    ("GET", "/v2/orders", {"limit": "²"}, 422),
    ("GET", "/v2/orders", {"limit": "9" * 5000}, 422),
    ("GET", "/v2/orders", {"after": "yesterday"}, 400),
    ("GET", "/v2/orders", {"status": "odd"}, 422),
    ("GET", "/v2/account/activities", {"page_token": "none"}, 422),
    ("GET", "/v2/options/contracts", {"expiration_date": "soon"}, 422),
    ("GET", "/v2/options/contracts", {"strike_price_gte": "NaN"}, 422),
    ("GET", "/v2/calendar", {"start": "x"}, 422),
    ("GET", "/v2/stocks/bars", {}, 400),
    ("GET", "/v2/stocks/bars", {"symbols": "SPY", "timeframe": "7Weeks"}, 400),
    ("GET", "/v2/stocks/bars", {"symbols": "SPY", "timeframe": "1Min", "start": "9999-99-99"}, 400),
    ("GET", "/v2/stocks/quotes", {"symbols": "spy!"}, 400),
    ("GET", "/v2/stocks/trades", {"symbols": "SPY", "page_token": "!"}, 400),
    ("GET", "/v1beta1/options/snapshots", {"symbols": ",".join(f"SPY260116C{i:08d}" for i in range(1, 102))}, 400),
    ("GET", "/v2/positions/SPY", {}, 404),
    ("DELETE", "/v2/positions/SPY", {"qty": "1", "percentage": "1"}, 404),
    ("GET", "/sim/v1/daily_iv/NOPE", {}, 404),
]


@pytest.mark.parametrize(("method", "path", "query", "status"), BAD_PATHS)
def test_bad_requests_are_json_4xx(shared: Running, method: str, path: str, query: dict[str, str], status: int) -> None:
    answer = shared.call(method, path, **query)
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]


def test_bodies_that_are_not_json_or_too_large(shared: Running) -> None:
    broken = shared.http.post(shared.url + "/v2/orders", data=b"{nope", timeout=5)
    assert (broken.status_code, broken.json()["code"]) == (400, 40010000)
    deep = shared.http.post(shared.url + "/v2/orders", data=b"[" * 100_000, timeout=5)
    assert deep.status_code == 400
    large = shared.http.post(shared.url + "/v2/orders", data=b" " * (2 << 20), timeout=5)
    assert large.status_code == 413


def test_wrong_keys(shared: Running) -> None:
    wrong = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": "no"}
    trading = shared.http.get(shared.url + "/v2/account", headers=wrong, timeout=5)
    assert (trading.status_code, trading.json()) == (401, {"message": "unauthorized."})
    data = shared.http.get(shared.url + "/v2/stocks/bars?symbols=SPY", headers=wrong, timeout=5)
    assert (data.status_code, data.json()) == (403, {"message": "forbidden."})


def test_the_rate_limit_counts_exchange_time(start: Start) -> None:
    running = start(trading_requests_per_min=3)
    answers = [running.call("GET", "/v2/account") for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    assert [a.headers["X-Ratelimit-Remaining"] for a in answers] == ["2", "1", "0", "0"]
    assert answers[0].headers["X-Ratelimit-Limit"] == "3"
    assert answers[3].json() == {"code": 42910000, "message": "rate limit exceeded"}
    assert int(answers[3].headers["X-Ratelimit-Reset"]) == running.source.now_ns // 10**9 + 60


def test_basic_plan_has_no_sip_and_no_opra(start: Start) -> None:
    running = start(plan="basic")
    sip = running.call("GET", "/v2/stocks/snapshots", symbols="SPY", feed="sip")
    assert (sip.status_code, sip.json()["message"]) == (
        403,
        "subscription does not permit querying recent SIP data",
    )
    opra = running.call("GET", "/v1beta1/options/snapshots/SPY", feed="opra")
    assert (opra.status_code, opra.json()["message"]) == (403, "OPRA agreement is not signed")


def test_before_the_open_orders_are_accepted_and_wait(start: Start) -> None:
    running = start()
    body = running.post(SIMPLE).json()
    assert body["status"] == "accepted"
    replace = running.call("PATCH", f"/v2/orders/{body['id']}", {"limit_price": 1.1})
    assert replace.json()["message"] == "cannot replace order in accepted status"
    market = running.post({k: v for k, v in SIMPLE.items() if k != "limit_price"} | {"type": "market"})
    assert market.json()["message"] == "options market orders are only allowed during market hours"


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from([CALL, UPPER, "SPY", "buy", "sell", "limit", "market", "mleg", "day", "1.00", "1e400"]),
    st.lists(st.sampled_from([LEG, OTHER, 1, None, {}]), max_size=5),
)
bodies = st.dictionaries(st.sampled_from(sorted({*SIMPLE, *MLEG, "stop_price", "client_order_id"})), values)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([SIMPLE, MLEG, {}]), bodies)
def test_no_body_makes_the_exchange_fail(fuzzed: Running, base: dict[str, object], change: dict[str, object]) -> None:
    answer = fuzzed.post({**base, **change})
    assert answer.status_code in (200, 403, 422), answer.text
    if answer.status_code != 200:
        assert answer.json()["code"] in (40010001, 42210000, 40310000)
    else:
        fuzzed.call("DELETE", "/v2/orders")
        fuzzed.call("DELETE", "/v2/positions")

"""The REST gateway: every outcome class over real HTTP, against the exchange and servers that fail on purpose."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from oracle.alpaca.broker import Broker
from oracle.alpaca.ratebudget import RateBudget
from oracle.core.errors import ProtocolError
from oracle.core.messages import LookUpOrder, ReadAccount, SendCancel, SendOrder, SetOptionSubscription
from oracle.core.reports import ExecutionReported, OrderReported
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Outcome, Side
from tests.protocol.edge_fixtures import OPEN_NS, Edge, edge_at, exchange_edge, running, serving
from tests.protocol.scripted_source import FAR, occ


def order(name: str = "t-1", limit: str | None = "1.35", contracts: int = 2) -> SendOrder:
    price = None if limit is None else Decimal(limit)
    return SendOrder(name, occ(600), Side.BUY, True, contracts, price, False)


class TestExchange:
    async def test_an_order_fills_and_the_account_agrees(self) -> None:
        async with exchange_edge() as edge, running(*edge.feeds):
            await edge.until(OPEN_NS + MINUTE_NS)
            since_ns = edge.timers.now_ns() - NS
            returned = await edge.gateway.submit(order())
            assert returned.outcome is Outcome.ACCEPTED, returned
            assert returned.order is not None
            assert returned.order.limit_price_usd == Decimal("1.35")
            await edge.until(edge.timers.now_ns() + 10 * NS)
            reports, executions = edge.heard.of(OrderReported), edge.heard.of(ExecutionReported)
            assert [r.event.value for r in reports][:1] == ["new"]
            assert sum(e.qty for e in executions) == 2
            account = await edge.gateway.read_account(ReadAccount(since_ns, "test"))
            assert account.text == ""
            assert [(p.symbol, p.qty) for p in account.positions] == [(occ(600), Decimal(2))]
            assert {e.execution_id for e in account.fills} == {e.execution_id for e in executions}
            assert account.fills[0].order.client_order_id == "t-1"
            assert account.cash_usd == 100_000 - sum(e.qty * e.price_usd * 100 for e in executions)
            assert account.options_level == 3
            assert account.trading_blocked is False
            assert account.open_orders == ()

    async def test_resting_order_is_found_cancelled_and_never_doubled(self) -> None:
        async with exchange_edge() as edge, running(*edge.feeds):
            await edge.until(OPEN_NS + MINUTE_NS)
            first = await edge.gateway.submit(order(limit="0.50"))
            assert first.order is not None
            again = await edge.gateway.submit(order(limit="0.50"))
            assert (again.outcome, again.code) == (Outcome.UNKNOWN, "40010001")
            found = await edge.gateway.look_up(LookUpOrder("t-1"))
            assert found.outcome is Outcome.ACCEPTED
            assert found.order is not None
            assert found.order.broker_order_id == first.order.broker_order_id
            assert (await edge.gateway.look_up(LookUpOrder("t-2"))).outcome is Outcome.NOT_FOUND
            account = await edge.gateway.read_account(ReadAccount(OPEN_NS, "test"))
            assert [o.client_order_id for o in account.open_orders] == ["t-1"]
            cancel = SendCancel("t-1", first.order.broker_order_id)
            assert (await edge.gateway.cancel(cancel)).outcome is Outcome.ACCEPTED
            await edge.step()
            refused = await edge.gateway.cancel(cancel)
            assert refused.outcome is Outcome.REJECTED, refused
            lost = await edge.gateway.cancel(SendCancel("t-9", "00000000-0000-0000-0000-000000000000"))
            assert lost.outcome is Outcome.NOT_FOUND

    async def test_a_refusal_is_definite(self) -> None:
        async with exchange_edge() as edge:
            refused = await edge.gateway.submit(order(limit="1.35", contracts=100_000))
            assert refused.outcome is Outcome.REJECTED
            assert refused.code == "40310000"
            assert refused.order is None

    async def test_reference_data(self) -> None:
        async with exchange_edge() as edge:
            chain = await edge.data.option_contracts("SPY", "2026-01-05", [FAR], Decimal(595), Decimal(605))
            assert [c.symbol for c in chain.contracts] == sorted(occ(k, r) for k in (595, 600, 605) for r in "CP")
            assert chain.contracts[0].open_interest == 1595
            clock = await edge.data.clock()
            assert (clock.is_open, clock.next_open_ns) == (False, OPEN_NS)
            days = await edge.data.calendar("2026-01-05", "2026-01-05")
            assert [(d.date, d.open) for d in days] == [("2026-01-05", "09:30")]
            touches = await edge.data.latest_option_quotes([occ(600), occ(605)])
            assert [(t[0], t[1], t[3]) for t in touches] == [(occ(600), 1.2, 1.3), (occ(605), 1.2, 1.3)]
            assert edge.data.rejections.total == 0
            ivs = await edge.data.daily_ivs("SPY")
            assert ivs is not None


class Fault:
    """A trading API that answers every request in one chosen way, and counts."""

    def __init__(self, status: int = 200, body: str = "", kind: str = "application/json", **headers: str) -> None:
        self.status, self.body, self.kind, self.headers = status, body, kind, headers
        self.requests: list[tuple[str, str, Any]] = []
        self.wait: asyncio.Event | None = None
        self.drop = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.requests.append((request.method, request.path_qs, json.loads(text) if text else None))
        if self.drop:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.wait is not None:
            await self.wait.wait()
        return web.Response(status=self.status, text=self.body, content_type=self.kind, headers=self.headers)


@asynccontextmanager
async def faulty(fault: Fault, **options: Any) -> AsyncIterator[Edge]:
    async with serving(("*", "/{tail:.*}", fault.handle)) as url, edge_at(url, **options) as edge:
        yield edge


def error(code: int | None, message: str = "so it is") -> str:
    return json.dumps({"message": message} if code is None else {"code": code, "message": message})


HTML = "<html><body>Bad gateway</body></html>"
ORDER = {
    "id": "61e69015-8549-4bfd-b9c3-01e75843f47d",
    "client_order_id": "t-1",
    "created_at": "2026-01-05T14:31:00.101Z",
    "symbol": "SPY260116C00600000",
    "qty": "2",
    "filled_qty": "0",
    "filled_avg_price": None,
    "order_class": "simple",
    "type": "limit",
    "side": "buy",
    "limit_price": "1.35",
    "status": "pending_new",
}
U, R, T, N, A = Outcome.UNKNOWN, Outcome.REJECTED, Outcome.THROTTLED, Outcome.NOT_FOUND, Outcome.ACCEPTED
ANSWERS = [
    # status, body, of a submit, of a cancel, of a look-up
    (200, json.dumps(ORDER), A, A, A),
    (200, json.dumps({**ORDER, "client_order_id": "other"}), U, A, U),
    (200, json.dumps({**ORDER, "status": "brand_new_status"}), A, A, A),
    (200, json.dumps({**ORDER, "qty": "NaN"}), U, A, U),
    (200, "{}", U, A, U),
    (200, "[]", U, A, U),
    (200, '{"id": ', U, A, U),
    (200, "", U, A, U),
    (204, "", U, A, U),
    (302, HTML, U, U, U),
    (400, error(40010000), R, R, U),
    (401, error(None, "unauthorized."), R, R, U),
    (403, error(40310000, "insufficient buying power"), R, R, U),
    (403, HTML, U, U, U),
    (404, error(40410000, "order not found"), R, N, N),
    (404, HTML, U, U, U),
    (408, error(40810000), U, U, U),
    (409, error(40910000), U, U, U),
    (422, error(40010001, "client_order_id must be unique"), U, R, U),
    (422, error(42210000, "order is already in filled state"), R, R, U),
    (422, "not json", U, U, U),
    (429, error(42910000, "rate limit exceeded"), T, T, T),
    (429, HTML, T, T, T),
    (500, error(50010000), U, U, U),
    (502, HTML, U, U, U),
    (503, "", U, U, U),
    (504, HTML, U, U, U),
]


class TestOutcomes:
    @pytest.mark.parametrize(("status", "body", "submit", "cancel", "look_up"), ANSWERS)
    async def test_every_answer_has_its_class(
        self, status: int, body: str, submit: Outcome, cancel: Outcome, look_up: Outcome
    ) -> None:
        fault = Fault(status, body, "text/html" if body == HTML else "application/json")
        async with faulty(fault) as edge:
            submitted = await edge.gateway.submit(order())
            cancelled = await edge.gateway.cancel(SendCancel("t-1", ORDER["id"] or ""))
            found = await edge.gateway.look_up(LookUpOrder("t-1"))
            report = await edge.gateway.read_account(ReadAccount(OPEN_NS, "test"))
        assert (submitted.outcome, cancelled.outcome, found.outcome) == (submit, cancel, look_up)
        assert (submitted.order is not None) == (submit is A)
        assert (found.order is not None) == (look_up is A)
        assert report.text or body == "[]"
        assert report.equity_usd is None
        for result in (submitted, cancelled, found):
            assert (result.text == "") == (result.outcome is A)
            assert "SIMSECRET" not in result.text
        # Three effects and a report that stops at its first unreadable part: nobody asked twice.
        methods = [method for method, _, _ in fault.requests]
        assert methods[:3] == ["POST", "DELETE", "GET"]
        assert methods.count("POST") == methods.count("DELETE") == 1

    async def test_a_silent_server_is_unknown_after_the_timeout_and_one_attempt(self) -> None:
        fault = Fault(200, json.dumps(ORDER))
        fault.wait = asyncio.Event()
        async with faulty(fault, total_timeout_s=0.1) as edge:
            results = (
                await edge.gateway.submit(order()),
                await edge.gateway.cancel(SendCancel("t-1", "abc")),
                await edge.gateway.look_up(LookUpOrder("t-1")),
            )
            fault.wait.set()
        assert [r.outcome for r in results] == [Outcome.UNKNOWN] * 3
        assert all("no answer in time" in r.text for r in results)
        assert len(fault.requests) == 3

    async def test_a_dropped_connection_is_unknown_and_not_repeated(self) -> None:
        fault = Fault(200, json.dumps(ORDER))
        async with faulty(fault) as edge:
            assert (await edge.gateway.look_up(LookUpOrder("t-1"))).outcome is Outcome.ACCEPTED
            # The connection is kept alive now: a library that repeats on a lost one would show here.
            fault.drop = True
            fault.requests.clear()
            results = (
                await edge.gateway.submit(order()),
                await edge.gateway.cancel(SendCancel("t-1", "abc")),
                await edge.gateway.look_up(LookUpOrder("t-1")),
            )
        assert [r.outcome for r in results] == [Outcome.UNKNOWN] * 3
        assert len(fault.requests) == 3

    async def test_nobody_listens(self) -> None:
        async with edge_at("http://127.0.0.1:9") as edge:
            returned = await edge.gateway.submit(order())
        assert returned.outcome is Outcome.UNKNOWN
        assert "not sent" in returned.text

    async def test_a_redirect_is_not_followed(self) -> None:
        fault = Fault(307, "", Location="/elsewhere")
        async with faulty(fault) as edge:
            assert (await edge.gateway.submit(order())).outcome is Outcome.UNKNOWN
        assert len(fault.requests) == 1

    async def test_throttled_tells_when_to_come_back(self) -> None:
        headers = {"X-Ratelimit-Limit": "200", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "1767623460"}
        async with faulty(Fault(429, error(42910000), **headers)) as edge:
            returned = await edge.gateway.submit(order())
        assert (returned.outcome, returned.code) == (Outcome.THROTTLED, "42910000")
        assert "1767623460" in returned.text

    @pytest.mark.parametrize("name", ["", "../account", "a/b", "a?b", "x" * 65])
    async def test_a_cancel_without_a_proper_id_is_never_sent(self, name: str) -> None:
        fault = Fault(207, "[]")
        async with faulty(fault) as edge:
            returned = await edge.gateway.cancel(SendCancel("t-1", name))
        assert returned.outcome is Outcome.UNKNOWN
        assert "not sent" in returned.text
        assert fault.requests == []

    async def test_the_body_is_exact(self) -> None:
        fault = Fault(200, json.dumps(ORDER))
        async with faulty(fault) as edge:
            await edge.gateway.submit(order(limit="1.10"))
            await edge.gateway.submit(SendOrder("t-2", occ(600), Side.SELL, False, 3, None, True))
        limit, market = (body for _, _, body in fault.requests)
        assert limit == {
            "symbol": occ(600),
            "qty": "2",
            "side": "buy",
            "type": "limit",
            "time_in_force": "day",
            "client_order_id": "t-1",
            "position_intent": "buy_to_open",
            "limit_price": "1.10",
        }
        assert (market["type"], market["position_intent"]) == ("market", "sell_to_close")
        assert "limit_price" not in market


class Books:
    """A trading API whose account a test writes by hand."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "/v2/account": {
                "equity": "100000.5",
                "cash": "99000",
                "options_trading_level": 3,
                "trading_blocked": False,
            },
            "/v2/positions": [],
            "/v2/orders": [],
            "/v2/account/activities": [],
        }
        self.fills_after: list[list[Any]] = []
        self.fees: list[Any] = []
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        if request.query.get("activity_types", "").startswith("FEE,"):
            return web.json_response(self.fees)
        if request.path == "/v2/account/activities" and self.fills_after:
            page = self.fills_after.pop(0)
            return web.json_response(page)
        return web.json_response(self.answers[request.path])


@asynccontextmanager
async def booked(books: Books) -> AsyncIterator[Edge]:
    async with serving(("GET", "/{tail:.*}", books.handle)) as url, edge_at(url) as edge:
        yield edge


def fill(n: int, order_id: str = "o-1") -> dict[str, str]:
    stamp = f"2026-01-05T14:31:{n % 60:02d}.5Z"
    head = {"id": f"20260105143100{n:03d}::exec-{n}", "activity_type": "FILL", "transaction_time": stamp}
    return {**head, "price": "1.24", "qty": "1", "side": "buy", "symbol": occ(600), "order_id": order_id}


class TestAccount:
    async def test_a_read_during_a_fill_is_repeated(self) -> None:
        books = Books()
        books.answers["/v2/orders"] = [{**ORDER, "id": "o-1"}]
        books.answers["/v2/positions"] = [{"symbol": occ(600), "qty": "1", "side": "long", "avg_entry_price": "1.24"}]
        books.fills_after = [[], [fill(1)], [fill(1)]]
        async with booked(books) as edge:
            report = await edge.gateway.read_account(ReadAccount(OPEN_NS, "test"))
        assert report.text == ""
        assert [e.execution_id for e in report.fills] == ["exec-1"]
        assert books.asked.count("/v2/account") == 2

    async def test_an_account_that_never_rests_is_not_reported(self) -> None:
        books = Books()
        books.answers["/v2/orders"] = [{**ORDER, "id": "o-1"}]
        books.fills_after = [[fill(i) for i in range(n)] for n in range(9)]
        async with booked(books) as edge:
            report = await edge.gateway.read_account(ReadAccount(OPEN_NS, "test"))
        assert "changing" in report.text
        assert report.equity_usd is None
        assert report.fills == ()

    async def test_fills_come_through_all_pages(self) -> None:
        books = Books()
        books.answers["/v2/orders"] = [{**ORDER, "id": "o-1"}]
        pages = [[fill(n) for n in range(100)], [fill(n) for n in range(100, 130)]]
        books.fills_after = [*pages, *pages]
        async with booked(books) as edge:
            report = await edge.gateway.read_account(ReadAccount(OPEN_NS, "test"))
        assert len(report.fills) == 130
        assert any("page_token=20260105143100099" in path for path in books.asked)

    async def test_fees_are_asked_for_by_whole_days_because_they_are_told_by_date_alone(self) -> None:
        """A daemon that was down for hours, or a fee that is told the day after, must miss none."""
        books = Books()
        told = {"activity_type": "FEE", "id": "20260105000000000::fee-1", "date": "2026-01-05", "net_amount": "-0.04"}
        books.fees = [told]
        async with booked(books) as edge:
            report = await edge.gateway.read_account(ReadAccount(OPEN_NS, "test"))
        assert [(fee.activity_id, fee.amount_usd) for fee in report.fees] == [(told["id"], Decimal("0.04"))]
        (asked,) = (path for path in books.asked if "activity_types=FEE" in path)
        assert "after=2025-12-29T00:00:00Z" in asked

    async def test_a_leg_is_told_under_its_parent_and_a_lost_order_is_read_alone(self) -> None:
        books = Books()
        leg = {**ORDER, "id": "leg-1", "client_order_id": "auto", "ratio_qty": "1"}
        parent = {**ORDER, "id": "parent", "symbol": "", "side": "", "order_class": "mleg"}
        books.answers["/v2/orders"] = [{**parent, "legs": [leg]}]
        books.answers["/v2/orders/old-1"] = {**ORDER, "id": "old-1", "client_order_id": "foreign"}
        books.answers["/v2/account/activities"] = [fill(1, "leg-1"), fill(2, "old-1")]
        async with booked(books) as edge:
            report = await edge.gateway.read_account(ReadAccount(OPEN_NS, "test"))
        assert [(e.order.client_order_id, e.symbol) for e in report.fills] == [("t-1", occ(600)), ("foreign", occ(600))]

    async def test_absent_figures_are_unknown_and_shorts_are_signed(self) -> None:
        books = Books()
        books.answers["/v2/positions"] = [
            {"symbol": occ(605), "qty": "2", "side": "short", "avg_entry_price": "1.1"},
            {"symbol": occ(600), "qty": "-3", "side": "short", "avg_entry_price": "1.1"},
        ]
        async with booked(books) as edge:
            report = await edge.gateway.read_account(ReadAccount(OPEN_NS, "test"))
        assert (report.equity_usd, report.last_equity_usd) == (Decimal("100000.5"), None)
        assert report.options_buying_power_usd is None
        assert [(p.symbol, p.qty) for p in report.positions] == [(occ(600), -3), (occ(605), -2)]

    @pytest.mark.parametrize("path", ["/v2/account", "/v2/positions", "/v2/orders", "/v2/account/activities"])
    async def test_any_unreadable_part_fails_the_whole_report(self, path: str) -> None:
        books = Books()
        books.answers[path] = [{"id": "x"}] if path != "/v2/account" else ["not an account"]
        async with booked(books) as edge:
            report = await edge.gateway.read_account(ReadAccount(OPEN_NS, "test"))
        assert report.text
        assert (report.equity_usd, report.positions, report.open_orders, report.fills) == (None, (), (), ())


class TestBroker:
    async def test_strictly_in_order_with_the_askers_sequence(self) -> None:
        heard: list[tuple[int, Any]] = []
        fault = Fault(200, json.dumps(ORDER))
        async with faulty(fault) as edge:
            broker = Broker(
                edge.gateway,
                RateBudget(200, 60),
                lambda n, m: heard.append((n, m)),
                edge.timers.now_ns,
                reads_apart=False,
            )
            broker.put(7, order())
            broker.put(7, SendCancel("t-1", "abc"))
            broker.put(9, LookUpOrder("t-1"))
            broker.put(11, ReadAccount(OPEN_NS, "test"))
            assert broker.in_flight == 4
            task = asyncio.create_task(broker.run())
            async with asyncio.timeout(5):
                while broker.in_flight:  # noqa: ASYNC110 - the worker is on the far side of a socket
                    await asyncio.sleep(0)
            task.cancel()
        names = [(n, type(m).__name__) for n, m in heard]
        assert names == [(7, "SubmitReturned"), (7, "CancelReturned"), (9, "LookUpReturned"), (11, "AccountReported")]
        assert [method for method, _, _ in fault.requests[:3]] == ["POST", "DELETE", "GET"]

    async def test_a_slow_read_does_not_delay_an_order(self) -> None:
        heard: list[str] = []
        release = asyncio.Event()

        async def slow_reads(request: web.Request) -> web.StreamResponse:
            if request.method == "GET":
                await release.wait()
            return web.json_response(ORDER)

        async with serving(("*", "/{path:.*}", slow_reads)) as url, edge_at(url) as edge:
            sink = lambda _, m: heard.append(type(m).__name__)  # noqa: E731 - one line says it
            broker = Broker(edge.gateway, RateBudget(200, 60), sink, edge.timers.now_ns)
            task = asyncio.create_task(broker.run())
            broker.put(1, LookUpOrder("t-1"))
            broker.put(2, order())
            broker.put(3, SendCancel("t-1", "abc"))
            async with asyncio.timeout(5):
                while len(heard) < 2:  # noqa: ASYNC110 - the worker is on the far side of a socket
                    await asyncio.sleep(0)
            assert heard == ["SubmitReturned", "CancelReturned"]
            release.set()
            async with asyncio.timeout(5):
                while broker.in_flight:  # noqa: ASYNC110 - the worker is on the far side of a socket
                    await asyncio.sleep(0)
            task.cancel()
        assert heard[2] == "LookUpReturned"

    async def test_a_used_up_budget_keeps_cancels_and_exits_going(self) -> None:
        heard: list[Any] = []
        fault = Fault(200, json.dumps(ORDER))
        async with faulty(fault) as edge:
            broker = Broker(
                edge.gateway, RateBudget(12, 9), lambda _, m: heard.append(m), edge.timers.now_ns, reads_apart=False
            )
            for n in range(5):
                broker.put(n, order(f"t-{n}"))
            broker.put(5, ReadAccount(OPEN_NS, "test"))
            broker.put(6, SendOrder("exit", occ(600), Side.SELL, False, 1, None, True))
            broker.put(7, SendCancel("t-1", "abc"))
            task = asyncio.create_task(broker.run())
            async with asyncio.timeout(5):
                while broker.in_flight:  # noqa: ASYNC110 - the worker is on the far side of a socket
                    await asyncio.sleep(0)
            task.cancel()
        throttled = [m for m in heard if getattr(m, "outcome", None) is Outcome.THROTTLED]
        assert [(m.client_order_id, m.code) for m in throttled] == [("t-3", "budget"), ("t-4", "budget")]
        assert all("not sent" in m.text for m in throttled)
        assert "budget" in heard[5].text
        assert len(fault.requests) == 5

    async def test_other_effects_are_refused(self) -> None:
        async with edge_at("http://127.0.0.1:9") as edge:
            broker = Broker(edge.gateway, RateBudget(), lambda *_: None, edge.timers.now_ns)
            with pytest.raises(ProtocolError):
                broker.put(1, SetOptionSubscription(()))  # type: ignore[arg-type]

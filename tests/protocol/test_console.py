import asyncio
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from oracle.console.server import Check, Console, Probes
from oracle.core.errors import ConfigurationError, ProtocolError


class World:
    """What the probes measure; tests change it."""

    def __init__(self) -> None:
        self.health: dict[str, Check] = {"loop": Check(True), "core": Check(True)}
        self.readiness: dict[str, Check] = {"reconciled": Check(True), "stock feed": Check(True)}
        self.status: dict[str, Any] = {"equity_usd": Decimal("100000.25"), "unknown": None}
        self.broken = False

    def read_status(self) -> Mapping[str, Any]:
        if self.broken:
            raise ValueError("secret-detail")
        return self.status

    def probes(self) -> Probes:
        return Probes(lambda: b"oracle_up 1\n", lambda: self.health, lambda: self.readiness, self.read_status)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def port(world: World) -> AsyncIterator[int]:
    console = Console(world.probes())
    yield await console.start(0)
    await console.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def raw(port: int, request: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    await writer.drain()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()


async def test_metrics_are_served_as_prometheus_text(port: int, client: aiohttp.ClientSession) -> None:
    async with client.get(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await answer.read() == b"oracle_up 1\n"


async def test_status_is_json_with_exact_amounts(port: int, client: aiohttp.ClientSession) -> None:
    async with client.get(f"http://localhost:{port}/status") as answer:
        assert await answer.json() == {"equity_usd": "100000.25", "unknown": None}


async def test_readiness_needs_every_check(port: int, client: aiohttp.ClientSession, world: World) -> None:
    async with client.get(f"http://127.0.0.1:{port}/readyz") as answer:
        assert (answer.status, (await answer.json())["ready"]) == (200, True)
    world.readiness["stock feed"] = Check(False, "mute for 16 s")
    async with client.get(f"http://127.0.0.1:{port}/readyz") as answer:
        assert answer.status == 503
        assert await answer.json() == {
            "ready": False,
            "checks": {
                "reconciled": {"ok": True, "reason": ""},
                "stock feed": {"ok": False, "reason": "mute for 16 s"},
            },
        }
    async with client.get(f"http://127.0.0.1:{port}/healthz") as answer:
        assert answer.status == 200


async def test_health_fails_with_the_core_and_when_nothing_is_measured(
    port: int, client: aiohttp.ClientSession, world: World
) -> None:
    world.health["core"] = Check(False, "no turn for 31 s")
    async with client.get(f"http://127.0.0.1:{port}/healthz") as answer:
        assert answer.status == 503
    world.health.clear()
    async with client.get(f"http://127.0.0.1:{port}/healthz") as answer:
        assert answer.status == 503


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
async def test_only_get_is_served(port: int, client: aiohttp.ClientSession, method: str) -> None:
    async with client.request(method, f"http://127.0.0.1:{port}/status") as answer:
        assert answer.status == 405
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost", "0.0.0.0:{port}", ""]
)
async def test_foreign_hosts_are_refused(port: int, client: aiohttp.ClientSession, host: str) -> None:
    async with client.get(f"http://127.0.0.1:{port}/status", headers={"Host": host.format(port=port)}) as answer:
        assert answer.status == 403
        assert "equity" not in await answer.text()


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "LOCALHOST:{port}"])
async def test_loopback_hosts_are_served(port: int, client: aiohttp.ClientSession, host: str) -> None:
    async with client.get(f"http://127.0.0.1:{port}/status", headers={"Host": host.format(port=port)}) as answer:
        assert answer.status == 200


async def test_a_missing_or_doubled_host_is_refused(port: int) -> None:
    none = await raw(port, "GET /status HTTP/1.0\r\n\r\n")
    assert "equity" not in none
    assert none.split()[1] in {"400", "403"}
    two = f"GET /status HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil\r\nConnection: close\r\n\r\n"
    answer = await raw(port, two)
    assert "equity" not in answer
    assert answer.split()[1] in {"400", "403"}


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_cross_site_requests_are_refused(
    port: int, client: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    async with client.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as answer:
        assert answer.status == 403


@pytest.mark.parametrize("path", ["/status", "/nothing", "/metrics", "/readyz"])
async def test_every_answer_carries_the_security_headers(port: int, client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(f"http://127.0.0.1:{port}{path}") as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.status == (404 if path == "/nothing" else 200)


async def test_a_probe_that_raises_is_logged_and_says_nothing(
    port: int, client: aiohttp.ClientSession, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.broken = True
    async with client.get(f"http://127.0.0.1:{port}/status") as answer:
        assert answer.status == 500
        assert "secret-detail" not in await answer.text()
    assert "console probe failed" in caplog.text
    world.broken = False
    async with client.get(f"http://127.0.0.1:{port}/status") as answer:
        assert answer.status == 200


async def test_a_taken_port_is_the_operators_to_change(port: int, world: World) -> None:
    second = Console(world.probes())
    with pytest.raises(ConfigurationError, match=r"console\.port"):
        await second.start(port)
    with pytest.raises(ConfigurationError):
        await second.start(70_000)
    await second.stop()


async def test_a_console_starts_once_and_lets_its_port_go(world: World) -> None:
    console = Console(world.probes())
    first = await console.start(0)
    with pytest.raises(ProtocolError):
        await console.start(0)
    await console.stop()
    assert await console.start(first) == first
    await console.stop()

"""The pacing client against a small real server that answers, refuses, vanishes or talks nonsense."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import WSMsgType, web

from oracle import pacing as module
from oracle.core.errors import ConfigurationError, RemoteError
from oracle.pacing import Beat, PacingClient, Welcome

WELCOME = {"type": "welcome", "at_ns": 5, "sessions": [{"date": "2026-01-05"}], "declared": [], "labels": ["synthetic"]}
Script = Callable[[web.WebSocketResponse, list[Any]], Awaitable[None]]


@asynccontextmanager
async def served(script: Script, path: str = "/pacing") -> AsyncIterator[tuple[str, list[Any]]]:
    """A server whose websocket follows a script; gives its URL and what it has heard."""
    heard: list[Any] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await script(ws, heard)
        return ws

    app = web.Application()
    app.router.add_get(path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", heard
    finally:
        await runner.cleanup()


def saying(*answers: Any) -> Script:
    """Answer each message that comes with the next of these, then close."""

    async def script(ws: web.WebSocketResponse, heard: list[Any]) -> None:
        for answer in answers:
            frame = await ws.receive()
            if frame.type is not WSMsgType.TEXT:
                return
            heard.append(orjson.loads(frame.data))
            if isinstance(answer, bytes):
                await ws.send_bytes(answer)
            elif answer is not None:
                await ws.send_str(answer if isinstance(answer, str) else orjson.dumps(answer).decode())
        await ws.receive()

    return script


@asynccontextmanager
async def joined(answers: Sequence[Any]) -> AsyncIterator[tuple[PacingClient, list[Any]]]:
    """A client that has been welcomed; the server goes on with ``answers``."""
    async with served(saying(WELCOME, *answers)) as (url, heard):
        client = PacingClient(url, "K", "S", 2.0)
        await client.connect()
        try:
            yield client, heard
        finally:
            await client.close()


async def test_it_joins_and_speaks_the_protocol() -> None:
    step = {"type": "step", "n": 1, "at_ns": 6, "sent": {"c1": 3}}
    async with served(saying(WELCOME, step, {**step, "type": "more"}, {"type": "end", "at_ns": 9})) as (url, heard):
        client = PacingClient(url + "/", "K", "S", 2.0)
        assert await client.connect() == Welcome(5, WELCOME["sessions"], [], ["synthetic"])  # type: ignore[arg-type]
        await client.ready()
        assert await client.beat() == Beat("step", 1, 6, {"c1": 3})
        assert (await client.sync()).kind == "more"
        await client.handled(1, {"c1": 3}, None)
        assert await client.beat() == Beat("end", 0, 9, {})
        await client.close()
    assert heard == [
        {"type": "hello", "key": "K", "secret": "S", "speed": 2.0},
        {"type": "ready"},
        {"type": "sync"},
        {"type": "handled", "n": 1, "received": {"c1": 3}, "next_timer_ns": None},
    ]


async def test_nobody_listening_names_the_setting_and_the_fix() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError) as found:
            await PacingClient(url, "K", "S", 0).connect()
    assert found.value.field == "sim.url"
    assert "oracle exchange" in found.value.fix


async def test_another_server_at_the_address_is_a_wrong_address() -> None:
    async with served(saying(WELCOME), path="/other") as (url, _):
        with pytest.raises(ConfigurationError, match=r"^sim\.url: "):
            await PacingClient(url, "K", "S", 0).connect()


async def test_a_server_that_accepts_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 0.05)
    async with served(saying(None)) as (url, _):
        with pytest.raises(ConfigurationError, match=r"^sim\.url: "):
            await PacingClient(url, "K", "S", 0).connect()


async def test_a_refused_key_is_the_operators_to_mend_and_does_not_show() -> None:
    async with served(saying({"type": "error", "message": "auth failed"})) as (url, _):
        with pytest.raises(ConfigurationError, match=r"^sim\.key: the exchange refused: auth failed") as found:
            await PacingClient(url, "THE-KEY", "THE-SECRET", 0).connect()
    assert "THE-" not in str(found.value)


@pytest.mark.parametrize(
    "first", ["not json", "[]", "{}", '"text"', b"\x00\x01", '{"type":"welcome"}', {**WELCOME, "at_ns": "soon"}]
)
async def test_a_welcome_that_cannot_be_read_is_no_exchange(first: Any) -> None:
    async with served(saying(first)) as (url, _):
        client = PacingClient(url, "K", "S", 0)
        with pytest.raises(ConfigurationError, match=r"^sim\.url: "):
            await client.connect()
        with pytest.raises(RemoteError, match="not connected"):
            await client.ready()


async def test_an_exchange_that_vanishes_before_its_welcome() -> None:
    async def vanish(ws: web.WebSocketResponse, _heard: list[Any]) -> None:
        await ws.receive()

    async with served(vanish) as (url, _):
        with pytest.raises(ConfigurationError, match=r"^sim\.url: "):
            await PacingClient(url, "K", "S", 0).connect()


@pytest.mark.parametrize(
    "garbage",
    [
        "not json", "[1]", "{}", b"\x00", {"type": "dance"}, {"type": "error", "message": "m"}, {"type": "step"},
        {"type": "step", "n": 1, "at_ns": None}, {"type": "step", "n": 1, "at_ns": 5, "sent": [1]},
        {"type": "step", "n": 1, "at_ns": 5, "sent": {"c": "many"}},
    ],
)  # fmt: skip
async def test_garbage_in_mid_session_is_the_exchanges_fault(garbage: Any) -> None:
    async with joined([garbage]) as (client, _):
        await client.ready()
        with pytest.raises(RemoteError, match="pacing"):
            await client.beat()


async def test_an_exchange_that_vanishes_in_mid_session() -> None:
    async with joined([]) as (client, _):
        await client.ready()  # the script closes after this
        with pytest.raises(RemoteError, match="went away"):
            await client.beat()
        with pytest.raises(RemoteError, match="went away"):
            for _attempt in range(1_000):
                await client.handled(1, {}, None)
                await asyncio.sleep(0)


async def test_closing_twice_is_harmless() -> None:
    async with joined([]) as (client, _):
        await client.close()
        await client.close()
        with pytest.raises(RemoteError, match="not connected"):
            await client.sync()

"""A real exchange on loopback in a thread of its own, and a paced client to move its time."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest
import requests

from oracle.core.sessions import Session, SessionTable
from oracle.sim.config import ExchangeConfig
from oracle.sim.server import serve
from tests.protocol.scripted_source import ScriptedSource, make_sessions

KEY, SECRET = "SIMKEY", "SIMSECRET"
HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}


class Running:
    """A served exchange: its port, its market, and plain HTTP."""

    def __init__(self, config: ExchangeConfig, sessions: tuple[Session, ...]) -> None:
        self.config = config
        self.source = ScriptedSource(sessions)
        self.port = 0
        self.http = requests.Session()
        self.http.headers.update(HEADERS)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._table = SessionTable([*sessions, make_sessions(4)[-1]])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(5), "the exchange did not start"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(serve(self.config, self.source, self._table, self._on_ready))
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _on_ready(self, port: int) -> None:
        self.port = port
        self._ready.set()

    def stop(self) -> None:
        self.http.close()
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(5)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, body: object = None, **query: str) -> requests.Response:
        return self.http.request(method, self.url + path, json=body, params=query, timeout=5)

    def post(self, body: object) -> requests.Response:
        return self.call("POST", "/v2/orders", body)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", "/sim/v1/state").json()
        return found


class Pace:
    """The paced client of a test: every step is asked for by name."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._http = aiohttp.ClientSession()
        self._ws: aiohttp.ClientWebSocketResponse | None = None
        self._last: dict[str, Any] | None = None
        self.welcome: dict[str, Any] = {}

    async def join(self, speed: float = 0) -> "Pace":
        self._ws = await self._http.ws_connect(self._running.ws + "/pacing")
        await self.say({"type": "hello", "key": KEY, "secret": SECRET, "speed": speed})
        self.welcome = await self.hear()
        return self

    async def say(self, message: dict[str, Any]) -> None:
        assert self._ws is not None
        await self._ws.send_json(message)

    async def hear(self) -> dict[str, Any]:
        assert self._ws is not None
        found: dict[str, Any] = await self._ws.receive_json(timeout=5)
        return found

    async def step(self, count: int = 1) -> dict[str, Any]:
        """Play ``count`` steps; the last is left unanswered, so that time stands still after it."""
        for _ in range(count):
            if self._last is None:
                await self.say({"type": "ready"})
            else:
                await self.say({"type": "handled", "n": self._last["n"], "received": {}, "next_timer_ns": None})
            self._last = await self.hear()
        assert self._last is not None
        return self._last

    async def until(self, at_ns: int) -> dict[str, Any]:
        """Play steps up to an instant."""
        last = self._last or {"at_ns": self.welcome["at_ns"]}
        while last["at_ns"] < at_ns:
            last = await self.step()
        return last

    async def close(self) -> None:
        if self._ws is not None:
            await self._ws.close()
        await self._http.close()


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start exchanges: ``start(sessions=..., **settings)``; all are stopped afterwards."""
    running: list[Running] = []

    def make(sessions: tuple[Session, ...] | None = None, **settings: Any) -> Running:
        config = ExchangeConfig(**{"key": KEY, "secret": SECRET, "hold": True, **settings})
        running.append(Running(config, sessions or make_sessions(1, 60)))
        return running[-1]

    yield make
    for one in running:
        one.stop()


@pytest.fixture
def open_market(start: Start) -> Running:
    """An exchange one minute into its session, standing still."""
    running = start(trading_requests_per_min=10_000)
    move_to(running, running.source.sessions[0].open_ns + 60 * 10**9)
    return running


def move_to(running: Running, at_ns: int) -> None:
    """Move an exchange to an instant with a short-lived paced client."""

    async def play() -> None:
        pace = await Pace(running).join()
        await pace.until(at_ns)
        await pace.close()

    # In a thread of its own: asyncio.run would take the event loop of pytest's main thread away.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, play()).result(60)

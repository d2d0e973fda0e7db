"""Paper mode against an exchange that nobody paces: the daemon follows a wall clock at 1x and drains on SIGTERM.

The daemon is a process of its own (this file, run as a module) whose wall clock is shifted to the exchange's day. The
exchange lives in the test's loop and is first paced into the session. Every wait is for a log line or an answer.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from oracle import app, logs
from oracle.config import load
from oracle.core.sessions import NS
from oracle.markets import DEFAULT_DATE, build_market
from oracle.pacing import PacingClient
from oracle.running import Running
from oracle.sim.config import ExchangeConfig
from oracle.sim.server import serve
from oracle.store.journal import JournalReader

ROOT = Path(__file__).resolve().parents[2]
KEY, SECRET = "WALLKEY", "wallsecret"
Line = dict[str, Any]
# The exchange is left this long after the open; the bar of the first minute then closes while the daemon is live.
INTO_SESSION_S = 42
DRAIN_LIMIT_S = 10.0


class ShiftedClock:
    """The operating system's clock, moved by a constant."""

    def __init__(self, shift_ns: int) -> None:
        self._shift_ns = shift_ns

    def now_ns(self) -> int:
        """UTC nanoseconds of the other day."""
        return time.time_ns() + self._shift_ns


def main(url: str, state: str, shift_ns: str) -> None:
    """Be the daemon: print the console's address, then run until stopped."""
    stream_url = url.replace("http", "ws", 1)
    overrides = [
        "mode=paper", f"alpaca.trading_url={url}", f"alpaca.data_url={url}", f"alpaca.stream_url={stream_url}",
        "console.port=0", "logs.format=json", 'strategies.opening_range_breakout.universe=["SPY"]',
    ]  # fmt: skip
    settings = load(None, overrides)
    logs.configure_logging("info", secrets=settings.secrets(), colour=False)

    def on_running(running: Running) -> None:
        print(running.metrics_url, flush=True)

    asyncio.run(app.run(settings, Path(state), on_running=on_running, wall_clock=ShiftedClock(int(shift_ns))))


@contextlib.asynccontextmanager
async def exchange_in_session() -> AsyncIterator[tuple[str, int]]:
    """An exchange on loopback that goes on at 1x from shortly after an open: its URL and what to add to the clock."""
    table, market = build_market(seed=1, date=DEFAULT_DATE, sessions=1, source=None, underlying=None)
    config = ExchangeConfig(key=KEY, secret=SECRET, plan="basic", seed=1, hold=False)
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(config, market, table, bound.set_result))
    try:
        url = f"http://127.0.0.1:{await bound}"
        now_ns = await play_to(url, market.sessions[0].open_ns + INTO_SESSION_S * NS)
        yield url, now_ns - time.time_ns()
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def play_to(url: str, at_ns: int) -> int:
    """Pace the exchange to an instant at full speed and leave it."""
    pacing = PacingClient(url, KEY, SECRET, 0)
    try:
        await pacing.connect()
        await pacing.ready()
        beat = await pacing.beat()
        while beat.at_ns < at_ns:
            await pacing.handled(beat.n, {}, None)
            beat = await pacing.beat()
        return beat.at_ns
    finally:
        await pacing.close()


class Daemon:
    """The daemon's process: its log lines, its console."""

    def __init__(self, process: asyncio.subprocess.Process, http: aiohttp.ClientSession) -> None:
        self._process = process
        self._http = http
        self.lines: list[Line] = []
        self._console = ""

    async def address(self) -> None:
        """Wait for the console's address."""
        assert self._process.stdout is not None
        self._console = (await self._process.stdout.readline()).decode().strip().removesuffix("/metrics")
        assert self._console.startswith("http://127.0.0.1:")

    async def until(self, *wanted: Callable[[Line], bool]) -> None:
        """Read the log until each predicate has held once."""
        missing = [want for want in wanted if not any(want(line) for line in self.lines)]
        while missing:
            line = await self._line()
            assert line is not None, self.lines[-3:]
            missing = [want for want in missing if not want(line)]

    async def stop(self) -> tuple[int, float]:
        """SIGTERM, then its code and how long it took."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        self._process.send_signal(signal.SIGTERM)
        while await self._line() is not None:
            pass
        return await self._process.wait(), loop.time() - started_s

    async def get(self, path: str) -> tuple[int, bytes]:
        """Ask the console."""
        async with self._http.get(self._console + path) as response:
            return response.status, await response.read()

    async def ready(self, limit_s: float = 20.0) -> bytes:
        """Ask until the daemon is ready: the comparison that follows a connection is a request or two away."""
        async with asyncio.timeout(limit_s):
            while True:
                status, body = await self.get("/readyz")
                if status == 200:
                    return body
                await asyncio.sleep(0.1)

    async def _line(self) -> Line | None:
        assert self._process.stderr is not None
        raw = await self._process.stderr.readline()
        if not raw:
            return None
        line: Line = orjson.loads(raw) if raw.startswith(b"{") else {"event": raw.decode().rstrip()}
        self.lines.append(line)
        return line


@contextlib.asynccontextmanager
async def daemon(url: str, shift_ns: int, state: Path, environment: dict[str, str]) -> AsyncIterator[Daemon]:
    """Start the daemon with its keys in the environment; whatever happens, it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, url, str(state), str(shift_ns),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**20,
        env={**environment, "ORACLE_ALPACA__KEY": KEY, "ORACLE_ALPACA__SECRET": SECRET},
        cwd=ROOT,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as http:
            yield Daemon(process, http)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def live(feed: str) -> Callable[[Line], bool]:
    """The core has heard that a feed is live."""
    return lambda line: line["event"] == "feed_changed" and line["feed"] == feed and line["state"] == "live"


def said(event: str) -> Callable[[Line], bool]:
    """A log line of this name."""
    return lambda line: line["event"] == event


@pytest.mark.slow
@pytest.mark.timeout(100)
async def test_paper_at_one_times_becomes_ready_hears_the_market_and_drains(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    state = tmp_path / "state"
    async with exchange_in_session() as (url, shift_ns), daemon(url, shift_ns, state, clean_environment) as it:
        await it.address()
        status, body = await it.get("/readyz")
        assert status == 503
        reasons = [check["reason"] for check in orjson.loads(body)["checks"].values() if not check["ok"]]
        assert reasons
        assert all(reasons)
        await it.until(live("trading"), live("stock"), live("option"), said("reconciled"))
        body = await it.ready()
        assert orjson.loads(body)["ready"] is True
        assert (await it.get("/healthz"))[0] == 200
        # The first closed bar that comes over the stream makes the strategy speak.
        await it.until(said("no_signal"))
        await check_figures(it)
        code, took_s = await it.stop()
    assert code == 0, it.lines[-5:]
    assert took_s < DRAIN_LIMIT_S
    assert not [line for line in it.lines if line.get("level") in ("error", "critical")]
    (path,) = state.rglob("*.oj")
    reader = JournalReader(path)
    inputs = [type(record.input).__name__ for record in reader if hasattr(record, "input")]
    assert reader.complete
    assert {"Quote", "ChainQuotes", "Bar", "AccountReported", "DrainRequested"} <= set(inputs)
    assert it.lines[-1]["inputs_sha256"] == reader.inputs_sha256
    assert (state / "metrics.prom").stat().st_size > 0


async def check_figures(it: Daemon) -> None:
    """/status and /metrics tell of live quotes, each measured."""
    status, body = await it.get("/status")
    found = orjson.loads(body)
    assert status == 200
    assert (found["mode"], found["session"], found["in_session"], found["ready"]) == ("paper", DEFAULT_DATE, True, True)
    assert found["feeds"] == {"stock": "live", "option": "live", "trading": "live"}
    assert found["equity_usd"] == "100000"
    status, text = await it.get("/metrics")
    assert status == 200
    counts = dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#"))
    assert float(counts['oracle_inputs_total{feed="stock",type="Quote"}']) > 3
    assert float(counts['oracle_inputs_total{feed="option",type="ChainQuotes"}']) > 3
    assert SECRET not in text.decode()


if __name__ == "__main__":
    main(*sys.argv[1:])

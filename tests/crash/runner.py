"""Start an exchange in this loop and daemons that are to die as processes of their own.

Inputs: a seed, a plan. Outputs: the exchange itself, to be looked at while it stands still, and ``Run`` records.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec
import orjson
import psutil

from oracle.config import SimSettings
from oracle.markets import build_market
from oracle.sim import server
from oracle.sim.config import ExchangeConfig
from oracle.sim.exchange import Exchange
from tests.crash.victim import Plan

Line = dict[str, Any]
# A half-day is the shortest whole session; the second day finds what the first left: books, latches, a peak.
DATE = "2026-11-27"
POLL_S = 0.02
# A daemon that neither dies, ends nor moves the exchange's time for this long is stuck. Wall seconds.
STUCK_S = 180.0
HASH_SEEDS = ("0", "1", "2")
_BREAKOUT = (
    "range_minutes=5", 'entry_start="09:36"', 'entry_end="15:30"', 'flat_at="15:45"', "min_relative_volume=0.0",
    "zero_dte_on_half_days=true", "warmup_bars=15", "max_entries_per_direction=5",
)  # fmt: skip
# Ways to trade a lot: quick targets that keep the streak of losses short, wide stops, small stops that latch it.
STYLES: tuple[tuple[str, ...], ...] = (
    ("break_fraction=0.0003", "target_fraction=0.08", "stop_fraction=0.5", "breakeven_after_fraction=0.05"),
    ("break_fraction=0.0006", "target_fraction=0.15", "stop_fraction=0.3", "breakeven_after_fraction=0.1"),
    ("break_fraction=0.0", "target_fraction=0.3", "stop_fraction=0.12", "breakeven_after_fraction=0.1"),
)
FEES_USD = ("0", "0.04")


class Run(msgspec.Struct):
    """One process from start to death or end."""

    code: int
    pid: int
    ready_s: float | None
    lines: list[Line]
    cpu_s: float | None = None
    by_wall: bool = False


@asynccontextmanager
async def exchange(
    seed: int, sessions: int = 1, fee_usd: str = "0", behaviour: Mapping[str, Any] = MappingProxyType({})
) -> AsyncIterator[tuple[str, Exchange]]:
    """Serve an exchange in this loop: (address, the exchange itself, to be looked at between steps)."""
    table, market = build_market(seed=seed, date=DATE, sessions=sessions, source=None, underlying=None)
    sim, made, bound = SimSettings(), [], asyncio.get_running_loop().create_future()

    class Kept(Exchange):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    fees = {f"option_{side}_usd_per_contract": fee_usd for side in ("buy", "sell")}
    config = ExchangeConfig.model_validate(
        {
            "port": 0, "hold": True, "seed": seed, "plan": "basic", "fees": fees,
            "behaviour": dict(behaviour),
            "key": sim.key.get_secret_value(), "secret": sim.secret.get_secret_value(),
        }
    )  # fmt: skip
    original, server.Exchange = server.Exchange, Kept  # type: ignore[misc]
    serving = asyncio.create_task(server.serve(config, market, table, bound.set_result))
    try:
        await asyncio.wait((serving, bound), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        yield f"http://127.0.0.1:{bound.result()}", made[0]
    finally:
        server.Exchange = original  # type: ignore[misc]
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Daemon:
    """Starts a victim and sees it to its end."""

    def __init__(self, url: str, market: Exchange, state: Path, style: int) -> None:
        self._url = url
        self._market = market
        self._state = state
        self._style = style
        self._starts = 0

    def _settings(self, port: int) -> list[str]:
        strategy = (*_BREAKOUT, *STYLES[self._style % len(STYLES)])
        values = (
            f"sim.url={self._url}", "sim.speed=0", f"console.port={port}", "logs.format=json", "logs.level=info",
            *(f"strategies.opening_range_breakout.{value}" for value in strategy),
        )  # fmt: skip
        return [part for value in values for part in ("--set", value)]

    async def run(self, plan: Plan, wall_s: float | None = None) -> Run:
        """Run until the plan's point, at the latest ``wall_s`` after it is ready.

        A plan ``none`` that is armed is a kill by the wall clock while starting, ``wall_s`` after the start.
        """
        port, self._starts = free_port(), self._starts + 1
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ORACLE_")}
        environment["PYTHONHASHSEED"] = HASH_SEEDS[self._starts % len(HASH_SEEDS)]
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.crash.victim", msgspec.json.encode(plan).decode(), "run",
            "--state", str(self._state), *self._settings(port),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environment, limit=2**22,
        )  # fmt: skip
        run = Run(0, process.pid, None, [])
        reading = asyncio.create_task(_lines(process, run.lines))
        helpers = [asyncio.create_task(self._watch(process, port, started, run, plan, wall_s))]
        try:
            async with asyncio.timeout(None) as patience:
                helpers.append(asyncio.create_task(self._patience(patience)))
                run.code = await process.wait()
        except TimeoutError:
            run.lines.append({"event": f"stuck: no step of the exchange in {STUCK_S:g} s", "level": "critical"})
        finally:
            for helper in helpers:
                helper.cancel()
            if process.returncode is None:
                process.kill()
            run.code = await process.wait()
            await asyncio.gather(reading, *helpers, return_exceptions=True)
        return run

    async def _watch(
        self, process: "asyncio.subprocess.Process", port: int, started: float, run: Run, plan: Plan,
        wall_s: float | None,
    ) -> None:  # fmt: skip
        """Measure the time to ready, arm the plan then, and kill by the wall clock where that is the plan."""
        if wall_s is not None and plan.armed and plan.point == "none":
            await asyncio.sleep(wall_s)
            process.send_signal(signal.SIGKILL)
            return
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while not await _is_ready(http, port):  # noqa: ASYNC110 - another process, nothing wakes us
                await asyncio.sleep(POLL_S)
        run.ready_s = time.monotonic() - started
        with contextlib.suppress(psutil.NoSuchProcess):
            used = psutil.Process(process.pid).cpu_times()
            run.cpu_s = used.user + used.system
        process.send_signal(signal.SIGUSR1)
        if wall_s is not None:
            await asyncio.sleep(wall_s)
            process.send_signal(signal.SIGKILL)
            run.by_wall = True

    async def _patience(self, patience: asyncio.Timeout) -> None:
        seen = self._market.now_ns
        loop = asyncio.get_running_loop()
        moved = loop.time()
        while True:
            if self._market.now_ns != seen:
                seen, moved = self._market.now_ns, loop.time()
            patience.reschedule(moved + STUCK_S)
            await asyncio.sleep(1.0)


async def _lines(process: "asyncio.subprocess.Process", lines: list[Line]) -> None:
    assert process.stderr is not None
    while raw := await process.stderr.readline():
        try:
            lines.append(orjson.loads(raw))
        except orjson.JSONDecodeError:
            lines.append({"event": raw.decode(errors="replace").rstrip(), "level": "plain"})


async def _is_ready(http: aiohttp.ClientSession, port: int) -> bool:
    """Whether every condition of /readyz holds, but for a breaker that is rightly set."""
    try:
        async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
            found = await answer.json()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
    return all(check["ok"] for name, check in found["checks"].items() if name != "trading")

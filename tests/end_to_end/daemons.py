"""Run ``oracle run`` against an exchange and kill it at a line of its log."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

# A half-day (NYSE closes at 13:00 New York) is the shortest whole session; SPY breaks out at 10:41.
EXCHANGE = ("--hold", "--port", "0", "--seed", "2", "--date", "2026-11-27")
SYMBOL = "SPY"
Line = dict[str, Any]


async def run_daemon(
    url: str, state: Path, environment: dict[str, str], die_at: Callable[[Line], bool], speed: int = 0
) -> tuple[int, list[Line]]:
    """Run ``oracle run`` until it ends, or kill it at the first line for which ``die_at`` holds: (code, its log).

    How far the daemon gets between a line and its death is a race; where that matters, use ``tests.crash.victim``.
    """
    settings = (
        f"sim.url={url}", f"sim.speed={speed}", "console.port=0", "logs.format=json", "logs.level=info",
        f'strategies.opening_range_breakout.universe=["{SYMBOL}"]',
    )  # fmt: skip
    arguments = [part for setting in settings for part in ("--set", setting)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oracle", "run", "--state", str(state), *arguments,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environment, limit=2**20,
    )  # fmt: skip
    lines: list[Line] = []
    try:
        assert process.stderr is not None
        while raw := await process.stderr.readline():
            line = orjson.loads(raw) if raw.startswith(b"{") else {"event": raw.decode().rstrip()}
            lines.append(line)
            if die_at(line):
                process.send_signal(signal.SIGKILL)
                break
        return await process.wait(), lines
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def event(name: str, **fields: str) -> Callable[[Line], bool]:
    """A predicate for a log line."""
    return lambda line: line.get("event") == name and all(line.get(k) == v for k, v in fields.items())

"""The daemon's memory over many simulated sessions: its resident set at the end of each, and the highest by then.

Inputs: how many sessions. Outputs: a row a session and a verdict. Exchange and daemon are processes of their own, as
in operation, at full speed; all three underlyings trade. State goes to a folder that is deleted afterwards.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
MB = 1_000_000
MOST_MB = 400.0
MOST_GROWTH = 0.05
# The first session fills what stays: caches of imported code, chains of all underlyings, the allocator's pools.
COUNTED_FROM = 2
LOOK_S = 0.5
KB = 1024


@dataclass(slots=True)
class Session:
    """One session's figures; megabytes are 10^6 bytes. ``peak_mb`` is the kernel's mark since the process began."""

    date: str
    took_s: float
    rss_mb: float
    peak_mb: float
    journal_mb: float


@dataclass(slots=True)
class Soak:
    """A soak's result."""

    sessions: list[Session] = field(default_factory=list)
    code: int | None = None
    peak_mb: float = 0.0

    @property
    def growth(self) -> float | None:
        """How much the last session's end lies above the second's; None before there are three."""
        if len(self.sessions) <= COUNTED_FROM:
            return None
        return self.sessions[-1].rss_mb / self.sessions[COUNTED_FROM - 1].rss_mb - 1

    def met(self, wanted: int) -> bool:
        """Whether all sessions were played and memory stayed within its limits; an unknown growth did not."""
        grown = self.growth
        whole = self.code == 0 and len(self.sessions) == wanted
        return whole and self.peak_mb < MOST_MB and grown is not None and grown < MOST_GROWTH


async def soak(sessions: int, seed: int, say: Console) -> Soak:
    """Play sessions and measure the daemon.

    Raises:
        RuntimeError: the exchange did not start.
    """
    result = Soak()
    with tempfile.TemporaryDirectory(prefix="oracle-soak-") as folder:
        state = Path(folder) / "state"
        async with _process("exchange", "--port", "0", "--hold", "--json", "--sessions", str(sessions),
                            "--seed", str(seed), "--until-stdin-closes",
                            stdout=asyncio.subprocess.PIPE) as exchange:  # fmt: skip
            assert exchange.stdout is not None
            line = await exchange.stdout.readline()
            if not line:
                raise RuntimeError("the exchange did not start")
            url = orjson.loads(line)["url"]
            async with _process("run", "--state", str(state), "--json", "--set", f"sim.url={url}",
                                "--set", "console.port=0", "--set", "logs.format=json",
                                stderr=asyncio.subprocess.PIPE) as daemon:  # fmt: skip
                await _follow(daemon, state, result, say)
                result.code = await daemon.wait()
    return result


@contextlib.asynccontextmanager
async def _process(
    *arguments: str, stdout: int = asyncio.subprocess.DEVNULL, stderr: int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``oracle`` with arguments; whatever happens, it is gone afterwards. What nobody reads goes nowhere."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORACLE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oracle", *arguments, cwd=ROOT, env=environment, limit=2**22,
        stdin=asyncio.subprocess.PIPE, stdout=stdout, stderr=stderr,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _journal_mb(state: Path) -> float:
    return sum(path.stat().st_size for path in state.rglob("*.oj")) / MB


async def _follow(daemon: asyncio.subprocess.Process, state: Path, result: Soak, say: Console) -> None:
    """Read the daemon's log to its end; a session's end is the moment of its figures."""
    assert daemon.stderr is not None
    status, started_s, rss_mb = Path(f"/proc/{daemon.pid}/status"), time.monotonic(), 0.0
    reading = asyncio.create_task(daemon.stderr.readline())
    while True:
        await asyncio.wait((reading,), timeout=LOOK_S)
        memory = memory_mb(status)
        if memory is not None:
            rss_mb, result.peak_mb = memory
        if not reading.done():
            continue
        raw = reading.result()
        if not raw:
            return
        reading = asyncio.create_task(daemon.stderr.readline())
        line = _line(raw)
        if line.get("event") == "session_closed":
            took_s, started_s = time.monotonic() - started_s, time.monotonic()
            result.sessions.append(Session(str(line.get("date")), took_s, rss_mb, result.peak_mb, _journal_mb(state)))
            done = result.sessions[-1]
            say.print(
                f"{len(result.sessions):>3}  {done.date}  {done.took_s:5.0f} s  {done.rss_mb:6.1f} MB", highlight=False
            )
        elif line.get("level") in ("error", "critical"):
            say.print(f"the daemon says: {line}", highlight=False, soft_wrap=True)


def memory_mb(status: Path) -> tuple[float, float] | None:
    """A process's resident set now and the kernel's mark of its highest; None when it has ended."""
    try:
        rows = dict(line.split(":", 1) for line in status.read_text().splitlines())
        now_kb, highest_kb = (int(rows[name].split()[0]) for name in ("VmRSS", "VmHWM"))
    except (FileNotFoundError, ProcessLookupError, KeyError):
        return None
    return now_kb * KB / MB, highest_kb * KB / MB


def _line(raw: bytes) -> dict[str, Any]:
    line: dict[str, Any] = (
        orjson.loads(raw) if raw.startswith(b"{") else {"event": raw.decode().rstrip(), "level": "error"}
    )
    return line


def report(result: Soak, wanted: int, console: Console) -> None:
    """Print a row a session and the verdict."""
    table = Table(box=None, pad_edge=False)
    for name in ("session", "date", "took s", "RSS MB", "highest MB", "journal MB"):
        table.add_column(name, justify="left" if name == "date" else "right")
    for number, row in enumerate(result.sessions, 1):
        cells = (row.took_s, row.rss_mb, row.peak_mb, row.journal_mb)
        table.add_row(str(number), row.date, *(f"{cell:.1f}" for cell in cells))
    console.print(table)
    growth = "unknown (it needs three sessions)" if result.growth is None else f"{result.growth:+.1%}"
    verdict = "met" if result.met(wanted) else "MISSED"
    console.print(
        f"highest {result.peak_mb:.0f} MB (limit {MOST_MB:.0f}), growth after session {COUNTED_FROM} {growth} "
        f"(limit {MOST_GROWTH:.0%}), exit code {result.code}: {verdict}", highlight=False, soft_wrap=True,
    )  # fmt: skip


def main() -> int:
    """Run from the command line; 1 when a limit is missed."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=20, help="how many sessions (about a minute each on 2 cores)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the generated market")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    asked = parser.parse_args()
    say = Console(stderr=True)
    say.print(
        f"playing {asked.sessions} sessions of three underlyings: about a minute each on 2 cores", highlight=False
    )
    result = asyncio.run(soak(asked.sessions, asked.seed, say))
    if asked.json:
        rows = [asdict(session) for session in result.sessions]
        shown = {
            "sessions": rows,
            "peak_mb": result.peak_mb,
            "growth": result.growth,
            "met": result.met(asked.sessions),
        }
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        report(result, asked.sessions, Console(width=120))
    return 0 if result.met(asked.sessions) else 1


if __name__ == "__main__":
    sys.exit(main())

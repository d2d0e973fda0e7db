"""``scripts/crash``: kill the daemon hundreds of times, check every time, replay every segment, print the figures.

Inputs: options. Outputs: progress on standard error, a table or JSON on standard output; exit code 1 on any violation.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tests.crash.harness import READY_LIMIT_S, Kill, Session

ROOT = Path(__file__).resolve().parents[2]
KILLS_A_SESSION = 20
# Wall seconds for a kill with its start, check and share of a session, on two quiet cores with two at a time.
SECONDS_A_KILL, SECONDS_A_REPLAY = 3.5, 0.7
REPLAY_HASH_SEEDS = ("0", "4242")


class Replayed(msgspec.Struct, frozen=True):
    """What ``oracle replay --check`` said of one state folder under one hash seed."""

    state: str
    hash_seed: str
    code: int
    segments: int
    clean: int
    inputs: int
    text: str


class Campaign:
    """Sessions played by several processes at once until enough kills were made."""

    def __init__(self, kills: int, seed: int, jobs: int, folder: Path) -> None:
        self.wanted = kills
        self.left = kills
        self.jobs = jobs
        self.folder = folder
        self.next_seed = seed * 1000
        self.kills: list[Kill] = []
        self.sessions: list[Session] = []
        self.replays: list[Replayed] = []
        self.faults: list[str] = []
        self.took_s = 0.0

    async def play(self, bar: Progress) -> None:
        """Play until the kills are made."""
        task = bar.add_task("kills", total=self.wanted)
        started = time.monotonic()
        await asyncio.gather(*(self._worker(bar, task) for _ in range(self.jobs)))
        self.took_s = time.monotonic() - started

    async def _worker(self, bar: Progress, task: Any) -> None:
        while self.left > 0 and not self.faults:
            seed, share = self.next_seed, min(KILLS_A_SESSION, self.left)
            self.next_seed += 1
            self.left -= share
            process = await _python("tests.crash.campaign", str(seed), str(share), str(self.folder / str(seed)))
            made = 0
            assert process.stdout is not None
            assert process.stderr is not None
            errors = asyncio.create_task(process.stderr.read())
            try:
                while line := await process.stdout.readline():
                    said = json.loads(line)
                    if "kill" in said:
                        made += 1
                        self.kills.append(msgspec.convert(said["kill"], Kill))
                        bar.advance(task)
                    else:
                        self.sessions.append(msgspec.convert(said["session"], Session))
                if await process.wait() != 0:
                    self.faults.append(f"seed {seed}: the harness failed: {(await errors).decode()[-2000:]}")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await errors
            # A session can be over before its share of kills: another one takes the rest.
            self.left += share - made

    async def replay(self, bar: Progress) -> None:
        """Check every segment of every state folder under two hash seeds."""
        work = [(session.state, seed) for session in self.sessions for seed in REPLAY_HASH_SEEDS]
        task = bar.add_task("replays", total=len(work))
        gate = asyncio.Semaphore(self.jobs)

        async def one(state: str, hash_seed: str) -> None:
            async with gate:
                self.replays.append(await _replay(state, hash_seed))
                bar.advance(task)

        await asyncio.gather(*(one(*item) for item in work))

    @property
    def violations(self) -> list[str]:
        """Everything that must not be, in words."""
        out = [*self.faults, *(text for session in self.sessions for text in session.violations)]
        out += [
            f"replay of {r.state} under PYTHONHASHSEED={r.hash_seed}: code {r.code}, {r.text}"
            for r in self.replays if r.code != 0
        ]  # fmt: skip
        if len(self.kills) < self.wanted:
            out.append(f"only {len(self.kills)} of {self.wanted} kills were made")
        return out


async def _python(module: str, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, cwd=ROOT, env={**os.environ, **environment}, limit=2**24,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _replay(state: str, hash_seed: str) -> Replayed:
    process = await _python("oracle", "replay", state, "--check", "--json", PYTHONHASHSEED=hash_seed)
    out, errors = await process.communicate()
    code = process.returncode or 0
    try:
        segments = json.loads(out)["segments"]
    except (ValueError, KeyError):
        return Replayed(state, hash_seed, code or 1, 0, 0, 0, errors.decode()[-600:] or "no answer")
    good = [s for s in segments if s["verdict"] in ("clean", "cut")]
    bad = "; ".join(f"{s['path']}: {s['verdict']} {s.get('difference')}"[:500] for s in segments if s not in good)
    inputs = sum(s["compared"] for s in segments)
    return Replayed(state, hash_seed, code, len(segments), len(good), inputs, bad)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of the values does not exceed; None without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else None


def figures(campaign: Campaign) -> dict[str, Any]:
    """All figures as plain values."""
    kills, sessions = campaign.kills, campaign.sessions
    starts = [seconds for session in sessions for seconds in session.ready_s]
    cpu = [seconds for session in sessions for seconds in session.ready_cpu_s]
    points = Counter(kill.point.partition(":")[0] for kill in kills)

    def three(values: Sequence[float]) -> dict[str, float | None]:
        found = {"p50": quantile(values, 0.5), "p99": quantile(values, 0.99), "max": max(values, default=None)}
        return {name: None if value is None else round(value, 2) for name, value in found.items()}

    return {
        "kills": len(kills),
        "sessions": len(sessions),
        "struck": {
            "working_orders": sum(k.held.working > 0 for k in kills),
            "live_at_the_exchange": sum(k.held.live > 0 for k in kills),
            "unknown_orders": sum(k.held.unknown > 0 for k in kills),
            "open_trades": sum(k.held.trades > 0 for k in kills),
            "latches_set": sum(k.held.latches > 0 for k in kills),
            "during_start_up": sum(not k.ready for k in kills),
        },
        "points": dict(sorted(points.items())),
        "checked": {
            "orders": sum(s.orders for s in sessions), "fills": sum(s.fills for s in sessions),
            "trades": sum(s.trades for s in sessions), "reconciles": sum(s.compared for s in sessions),
            "memories": sum(s.memories for s in sessions),
            "runs_that_ordered_after_a_kill": sum(s.traded_after_kill for s in sessions),
        },
        "ready_s": {"starts": len(starts), **three(starts)},
        "ready_cpu_s": three(cpu),
        "replay": {
            "segments": sum(r.segments for r in campaign.replays), "clean": sum(r.clean for r in campaign.replays),
            "inputs": sum(r.inputs for r in campaign.replays), "hash_seeds": list(REPLAY_HASH_SEEDS),
        } if campaign.replays else None,
        "took_s": round(campaign.took_s, 1),
        "violations": campaign.violations,
    }  # fmt: skip


def show(found: dict[str, Any], console: Console) -> None:
    """Print the figures as one aligned table, then every violation."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_row("kills", f"{found['kills']:,}", style="bold")
    for name, count in found["struck"].items():
        table.add_row(f"  with {name.replace('_', ' ')}".replace("with during", "during"), f"{count:,}")
    for name, count in found["points"].items():
        table.add_row(f"  at {name}", f"{count:,}")
    table.add_row("sessions", f"{found['sessions']:,}", style="bold")
    for name, count in found["checked"].items():
        table.add_row(f"  {name.replace('_', ' ')}", f"{count:,}")
    ready, cpu = found["ready_s"], found["ready_cpu_s"]
    table.add_row(f"ready after ({ready['starts']} starts, limit {READY_LIMIT_S:g} s)", "", style="bold")
    for name in ("p50", "p99", "max"):
        table.add_row(f"  {name}: wall, CPU", "unknown" if ready[name] is None else f"{ready[name]} s, {cpu[name]} s")
    if found["replay"] is not None:
        replay = found["replay"]
        table.add_row(f"replay under PYTHONHASHSEED {' and '.join(replay['hash_seeds'])}", "", style="bold")
        table.add_row("  segments clean", f"{replay['clean']:,} of {replay['segments']:,}")
        table.add_row("  inputs compared", f"{replay['inputs']:,}")
    table.add_row("time", f"{found['took_s'] / 60:.1f} min", style="bold")
    table.add_row(
        "violations", f"{len(found['violations']):,}", style="bold red" if found["violations"] else "bold green"
    )
    console.print(table, highlight=False)
    for text in found["violations"]:
        console.print(f"- {text}", highlight=False, soft_wrap=True, markup=False)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/crash", description="Kill the daemon again and again, and check.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="exchanges at a time")
    parser.add_argument("--replay", action="store_true", help="then replay every segment under two hash seeds")
    parser.add_argument("--keep", type=Path, help="keep the state folders in this new folder")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Run, print, and end with 1 on any violation."""
    chosen = options()
    console = Console(stderr=True)
    minutes = chosen.kills * (SECONDS_A_KILL + (SECONDS_A_REPLAY if chosen.replay else 0)) / 60
    console.print(f"{chosen.kills} kills take about {math.ceil(minutes)} min on two quiet cores", highlight=False)
    with contextlib.ExitStack() as stack:
        if chosen.keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oracle-crash-")))
        else:
            folder = chosen.keep
            folder.mkdir(parents=True)
        campaign = Campaign(chosen.kills, chosen.seed, chosen.jobs, folder)
        columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=console) as bar:
            asyncio.run(campaign.play(bar))
            if chosen.replay:
                asyncio.run(campaign.replay(bar))
        found = figures(campaign)
    if chosen.json:
        print(json.dumps(found, indent=2))
    else:
        out = Console()
        if not out.is_terminal:
            out.width = 200
        show(found, out)
    sys.exit(1 if found["violations"] else 0)


if __name__ == "__main__":
    main()

"""Every bench of ``scripts/bench``, one table: ours, its floor, the ratio, the target and the verdict.

Inputs: the command line. Outputs: a table or JSON on standard output; exit code 1 when a target is missed.
"""

import argparse
import asyncio
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from tests.bench.bar_to_order import burst, single
from tests.bench.measure import Figure, print_table
from tests.bench.pricing_speed import run as pricing

# Many short rounds: the best one is then a moment in which the machine did nothing else.
EVENTS, ROUNDS, BURSTS = 50, 12, 3
QUICK_EVENTS, QUICK_ROUNDS, QUICK_BURSTS = 20, 3, 1
THROUGHPUT = "tests.bench.backtest_throughput"
QUICK_THROUGHPUT = ("--bars", "20000", "--repeats", "2")
NAMES = ("latency", "burst", "throughput", "pricing")


def latency(quick: bool) -> list[Figure]:
    """From bar to order, one at a time."""
    with tempfile.TemporaryDirectory(prefix="oracle-bench-") as folder:
        return asyncio.run(single(Path(folder), *((QUICK_EVENTS, QUICK_ROUNDS) if quick else (EVENTS, ROUNDS))))


def bursts(quick: bool) -> list[Figure]:
    """Fifty orders from one bar."""
    with tempfile.TemporaryDirectory(prefix="oracle-bench-") as folder:
        return asyncio.run(burst(Path(folder), QUICK_BURSTS if quick else BURSTS))


def throughput(quick: bool) -> list[Figure]:
    """Backtest throughput, in a process of its own so that no bench warms another; nothing where it is not installed.

    Raises:
        RuntimeError: it failed without a figure.
    """
    if importlib.util.find_spec(THROUGHPUT) is None:
        return []
    command = [sys.executable, "-m", THROUGHPUT, "--json", *(QUICK_THROUGHPUT if quick else ())]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    try:
        result: dict[str, Any] = orjson.loads(done.stdout)
    except orjson.JSONDecodeError:
        raise RuntimeError(f"{THROUGHPUT} ended with {done.returncode} and no figures") from None
    return throughput_figures(result)


def throughput_figures(result: dict[str, Any]) -> list[Figure]:
    """A throughput result as figures: the floor with the target, the unchecked floor and the peers without one."""
    speeds, unit = result["bars_per_cpu_s"], "bars/CPU s"
    ours, name = speeds["ours"], "backtest throughput"
    note = f"{result['bars']:,} one-minute bars, {result['trades']} trades"
    # Without equal decisions in every repeat there is no figure to speak of: an unknown floor misses.
    floor = speeds["floor"] if result["repeatable"] else None
    found = [
        Figure(name, ours, floor, unit, result["least_ratio"], "at_least", note),
        Figure(f"{name}, unchecked messages", ours, speeds["bare_floor"], unit, sense="at_least"),
    ]
    for peer, told in result["peers"].items():
        speed = told.get("bars_per_cpu_s")
        why = told.get("absent", "")
        found.append(Figure(f"{name}, beside {peer}", ours, speed, unit, sense="at_least", note=why))
    return found


def run(names: Sequence[str], quick: bool, say: Console) -> list[Figure]:
    """Run benches one after another."""
    found: list[Figure] = []
    for name in names:
        say.print(f"measuring {name}", highlight=False)
        found += {"latency": latency, "burst": bursts, "throughput": throughput, "pricing": pricing}[name](quick)
    return found


def main() -> int:
    """Run from the command line; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure ours beside its floors, in turn.")
    parser.add_argument("only", nargs="*", metavar="BENCH", help=f"one or more of {', '.join(NAMES)}; all without")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.add_argument("--quick", action="store_true", help="a tenth of the events: for a look, not for a verdict")
    asked = parser.parse_args()
    if unknown := set(asked.only) - set(NAMES):
        parser.error(f"no bench is called {', '.join(sorted(unknown))}")
    say = Console(stderr=True)
    takes = "about a minute and a half" if asked.quick else "about eight minutes"
    load = os.getloadavg()[0]
    say.print(f"all benches take {takes} on 2 cores; the load before is {load:.1f}", highlight=False)
    if load > 1.0:
        say.print("other work is running: ratios suffer from it, measure again when it is quiet", highlight=False)
    figures = run(asked.only or NAMES, asked.quick, say)
    missed = [figure.name for figure in figures if figure.met is False]
    if asked.json:
        shown = {"figures": [figure.row() for figure in figures], "missed": missed}
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        print_table(figures, Console(width=130))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Is the readiness score right about how sure it is? Thousands of strategies whose truth is known are judged by it.

Each is judged after every trade from the 100th to the 300th, by the same ``weigh`` and bootstrap as the daemon's
``assess``, until it is first called ready. Run it with ``./scripts/calibrate``; it fails if a bound is broken.
"""

import argparse
import itertools
import json
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import beta

from oracle.metrics.criteria import Criteria, criteria_for
from oracle.metrics.readiness import assess, first_ready
from tests.simulation.tracks import BOUNDARY, FAIR, LONG_REGIMES, NO_EDGE, STRONG, TRADES, Shape, make

GROUP = 50
READY_BY = 250
SHAPES = {shape.name: shape for shape in (*NO_EDGE, LONG_REGIMES, STRONG, FAIR, BOUNDARY)}
# A job is small enough that the bar moves, and large enough that a process is not busy with talking.
_JOB = 25


@dataclass(frozen=True)
class Ask:
    """One question: how often are strategies of these shapes called ready?

    ``limit`` is the most (or, with ``at_least``, the least) that may be; None is only printed. ``sets`` is how many
    sets of parameters each could have been chosen from; ``group`` counts groups of so many, any of which is ready.
    """

    name: str
    shapes: tuple[str, ...]
    count: int
    limit: float | None = None
    at_least: bool = False
    sets: int = 1
    group: int = 1
    upto: int = TRADES
    strategy: str = "default"


@dataclass(frozen=True)
class Answer:
    """How many of how many, the share with its exact 95 % interval, and whether the bound holds."""

    name: str
    ready: int
    of: int
    share: float
    low: float
    high: float
    limit: float | None
    at_least: bool
    holds: bool


def interval(hits: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share."""
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, of - hits + 1))
    return low, 1.0 if hits == of else float(beta.ppf(0.975, hits + 1, of - hits))


def called_ready(ask: Ask, seed: int, number: int) -> int | None:
    """After which trade one strategy is first called ready; None if never."""
    shape = SHAPES[ask.shapes[number % len(ask.shapes)]]
    # Groups have variants of their own; the momentum row judges the same strategies as the default one.
    track = make(shape, (seed, zlib.crc32(shape.name.encode()), ask.sets, number))
    criteria = Criteria() if ask.strategy == "default" else criteria_for(ask.strategy, {})
    return first_ready(
        track.key, track.trades, track.days, criteria, parameter_sets=ask.sets, bound=None, upto=ask.upto
    )


def _job(work: tuple[int, Ask, int, int, int]) -> tuple[int, Counter[str], int]:
    """Judge some strategies, or groups, of one question: ready by shape, and how many of all."""
    place, ask, seed, first, last = work
    found: Counter[str] = Counter()
    for unit in range(first, last):
        for number in range(unit * ask.group, (unit + 1) * ask.group):
            if called_ready(ask, seed, number) is not None:
                found[ask.shapes[number % len(ask.shapes)]] += 1
                if ask.group > 1:
                    found["any"] += 1
                    break
    return place, found, last - first


def five_wins(shape: Shape, seed: int) -> float:
    """The highest score of a record of this shape's wins, after its first five trades."""
    winning = Shape(
        shape.name, shape.words, lambda rng, n: (shape.outcomes(rng, n)[0] | True, _payoff(shape)), shape.worst
    )
    track = make(winning, (seed,), 5)
    highest = 0.0
    for n in range(1, 6):
        days = [day for day in track.days if day.date <= track.trades[n - 1].session]
        made = assess(track.key, track.trades[:n], days, Criteria(), parameter_sets=1, bound=None)
        highest = max(highest, made.score)
    return highest


def _payoff(shape: Shape) -> float:
    return shape.outcomes(np.random.default_rng(1), 2)[1]


def asks(count: int, groups: int, edges: int) -> list[Ask]:
    """The questions; shapes without an edge are asked in equal parts."""
    shapes = tuple(shape.name for shape in NO_EDGE)
    count = -(-count // len(shapes)) * len(shapes)
    each = max(groups // len(shapes), 1)
    return [
        Ask("no edge: ever ready", shapes, count, 0.05),
        Ask("no edge, by the momentum_scalping row", shapes, count, 0.05, strategy="momentum_scalping"),
        Ask(f"not asked: {LONG_REGIMES.words}", (LONG_REGIMES.name,), edges),
        Ask(f"best of {GROUP} without an edge, all shapes", shapes, groups, 0.05, sets=GROUP, group=GROUP),
        *(
            Ask(f"best of {GROUP}: {name}", (name,), each, sets=GROUP, group=GROUP)
            for name in shapes
        ),
        Ask(f"win 0.75, profit factor 3.0: ready by {READY_BY}", (STRONG.name,), edges, 0.80, True, upto=READY_BY),
        Ask(f"win 0.70, profit factor 2.5: ready by {READY_BY}", (FAIR.name,), edges, upto=READY_BY),
        Ask("on the boundary (0.65, 2.0): ever ready", (BOUNDARY.name,), edges, 0.20),
*(
            Ask(f"win 0.75, one of {sets} sets: ever ready", (STRONG.name,), edges * share // 20, sets=sets)
            for sets, share in ((3, 3), (10, 3), (GROUP, 5))
        ),
    ]  # fmt: skip


def answers(ask: Ask, found: Counter[str]) -> Iterator[Answer]:
    """The answer to one question, and for shapes without an edge one for each shape."""
    if ask.group > 1:
        yield _answer(ask.name, found["any"], ask.count, ask.limit, ask.at_least)
        return
    yield _answer(ask.name, sum(found.values()), ask.count, ask.limit, ask.at_least)
    if len(ask.shapes) > 1:
        for name in ask.shapes:
            yield _answer(f"  {SHAPES[name].words}", found[name], ask.count // len(ask.shapes), 0.08, False)


def _answer(name: str, hits: int, of: int, limit: float | None, at_least: bool) -> Answer:
    share = hits / of
    holds = limit is None or (share >= limit if at_least else share <= limit)
    return Answer(name, hits, of, share, *interval(hits, of), limit, at_least, holds)


def run(questions: list[Ask], seed: int, processes: int, *, show: bool) -> list[Counter[str]]:
    """Judge all strategies of all questions, on some processes."""
    jobs = [
        (place, ask, seed, first, min(first + max(_JOB // ask.group, 1), ask.count))
        for place, ask in enumerate(questions)
        for first in range(0, ask.count, max(_JOB // ask.group, 1))
    ]
    found: list[Counter[str]] = [Counter() for _ in questions]
    if processes == 1:
        for place, counted, _ in map(_job, jobs):
            found[place] += counted
        return found
    with ProcessPoolExecutor(processes) as pool:
        for place, counted, _ in _shown(pool.map(_job, jobs), len(jobs), show=show):
            found[place] += counted
    return found


def _shown(
    results: Iterable[tuple[int, Counter[str], int]], total: int, *, show: bool
) -> Iterator[tuple[int, Counter[str], int]]:
    if not show:
        yield from results
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(results, "judging", total=total, console=console, disable=not console.is_terminal)


def main() -> int:
    """Ask everything, print the answers, and say by the exit code whether every bound holds."""
    parser = argparse.ArgumentParser(prog="calibrate", description=__doc__)
    parser.add_argument("--strategies", type=int, default=10_000, help="without an edge (default 10000)")
    parser.add_argument("--groups", type=int, default=420, help=f"of {GROUP} without an edge (default 420)")
    parser.add_argument("--edges", type=int, default=2_000, help="of each kind with an edge (default 2000)")
    parser.add_argument("--five", type=int, default=200, help="records of five wins of each shape (default 200)")
    parser.add_argument("--seed", type=int, default=20_260_105)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    started = time.monotonic()
    questions = asks(options.strategies, options.groups, options.edges)
    found = run(questions, options.seed, options.processes, show=not options.json)
    told = list(itertools.chain.from_iterable(map(answers, questions, found)))
    five = {s.name: max(five_wins(s, options.seed + i) for i in range(options.five)) for s in SHAPES.values()}
    took_s = time.monotonic() - started
    holds = all(answer.holds for answer in told) and max(five.values()) < 20
    if options.json:
        print(json.dumps({
            "seed": options.seed, "took_s": round(took_s, 1), "holds": holds, "answers": [asdict(a) for a in told],
            "five_wins_highest_score": five,
        }))  # fmt: skip
    else:
        _print(told, five, took_s, options.seed)
    return 0 if holds else 1


def _print(told: list[Answer], five: dict[str, float], took_s: float, seed: int) -> None:
    print(f"{'called ready':58}{'of':>8}{'ready':>7}{'share':>9}   95 % interval      asked")
    for one in told:
        asked = "" if one.limit is None else f"{'>=' if one.at_least else '<='} {100 * one.limit:g} %"
        verdict = "" if one.limit is None else "holds" if one.holds else "BROKEN"
        bounds = f"{100 * one.low:6.2f} to {100 * one.high:6.2f} %"
        print(f"{one.name:58}{one.of:8d}{one.ready:7d}{100 * one.share:7.2f} %  {bounds}  {asked:8} {verdict}")
    print("\nfive straight wins: the highest score (under 20 asked)")
    for name, score in five.items():
        print(f"  {name:20}{score:6.1f}  {'holds' if score < 20 else 'BROKEN'}")
    print(f"\nseed {seed}; took {took_s / 60:.1f} minutes")


if __name__ == "__main__":
    sys.exit(main())

"""Play sessions on one exchange that stays alive while the daemon is killed again and again, and check every time.

Inputs: a seed, how many kills, a folder. Outputs: a ``Session`` record with each kill, each start's time to ready and
every violation. The exchange stands still while no daemon is connected, so each death can be examined at leisure.
"""

import random
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import orjson

from oracle.core.errors import ConfigurationError, StoreError
from oracle.recompute import check
from oracle.sim.exchange import Exchange
from oracle.store import read
from oracle.store.loading import Loaded, load
from tests.crash import checks
from tests.crash.moments import draw
from tests.crash.runner import FEES_USD, Daemon, Run, exchange
from tests.crash.victim import Plan

READY_LIMIT_S = 10.0


class Kill(msgspec.Struct, frozen=True):
    """One kill: where it struck, what it struck, and how long the start before it took to be ready (None: never)."""

    session: int
    number: int
    point: str
    at_ns: int
    ready: bool
    ready_s: float | None
    held: checks.Held


class Session(msgspec.Struct):
    """What became of one exchange's sessions."""

    seed: int
    state: str
    kills: list[Kill] = msgspec.field(default_factory=list)
    ready_s: list[float] = msgspec.field(default_factory=list)
    ready_cpu_s: list[float] = msgspec.field(default_factory=list)
    violations: list[str] = msgspec.field(default_factory=list)
    compared: int = 0
    memories: int = 0
    orders: int = 0
    fills: int = 0
    trades: int = 0
    latches: int = 0
    traded_after_kill: int = 0


def books_of(state: Path) -> Loaded:
    """Everything durable, read beside whoever writes."""
    with read.reading(state) as db:
        db.execute("ROLLBACK")
        return load(db)


def reconciliations(state: Path) -> list[tuple[int, str]]:
    """Every comparison that was stored: when, and the differences as JSON."""
    with read.reading(state) as db:
        return [
            (row["at_ns"], row["differences"]) for row in db.execute("SELECT at_ns, differences FROM reconciliations")
        ]


def derived(state: Path) -> list[str]:
    """What ``oracle recompute --check`` finds: rows may be behind at a death, and never wrong."""
    return [f"recompute --check: {fault}" for fault in check(state).faults]


def behind(state: Path) -> list[str]:
    """Rows that are behind; at the end of a run none are."""
    found = check(state).behind
    return [f"{count} rows of {table} are behind at the end" for table, count in found.items() if count > 0]


class Play:
    """One exchange's sessions with kills."""

    def __init__(
        self, seed: int, folder: Path, on_kill: Callable[[Kill], None] | None = None,
        ready_limit_s: float = READY_LIMIT_S, behaviour: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self._rng = random.Random(seed)
        self._seed = seed
        self._folder = folder
        self._state = folder / "state"
        self._on_kill = on_kill
        self._behaviour = behaviour
        self._ready_limit_s = ready_limit_s
        self._start_s = 3.0
        self._before: checks.Truth | None = None
        self._died: Mapping[str, Any] | None = None
        self._books: Loaded | None = None
        self.result = Session(seed, str(self._state))

    async def go(self, kills: int, sessions: int = 1, plans: Sequence[Plan] = ()) -> Session:
        """Kill ``kills`` times at most, as long as the sessions last, then play to the end.

        ``plans`` come first, in their order; the moments after them are drawn.
        """
        script = list(plans)
        self._folder.mkdir(parents=True, exist_ok=True)
        fee = FEES_USD[self._seed % len(FEES_USD)]
        async with exchange(self._seed, sessions, fee, self._behaviour) as (url, market):
            daemon = Daemon(url, market, self._state, self._seed // len(FEES_USD))
            while len(self.result.kills) < kills:
                plan, wall_s = (script.pop(0), None) if script else draw(self._rng, self._start_s)
                run = await daemon.run(msgspec.structs.replace(plan, folder=str(self._folder)), wall_s)
                self._after(run, market, _word(plan, run))
                if run.code == 0:
                    break
            else:
                run = await daemon.run(Plan("none", folder=str(self._folder)))
                self._after(run, market, "end")
            if run.code != 0:
                self._say(f"the last run ended with code {run.code}: {_tail(run)}")
            self._finish(market)
        return self.result

    def _say(self, text: str) -> None:
        self.result.violations.append(f"seed {self._seed}, after kill {len(self.result.kills)}: {text}")

    def _after(self, run: Run, market: Exchange, point: str) -> None:
        """Examine what a run left."""
        truth = checks.truth_of(market)
        for problem in _told(run):
            self._say(problem)
        if run.ready_s is not None:
            self.result.ready_s.append(run.ready_s)
            self.result.ready_cpu_s += [] if run.cpu_s is None else [run.cpu_s]
            self._start_s = min(run.ready_s, 1.5 * self._start_s)
            if run.ready_s > self._ready_limit_s:
                self._say(f"ready after {run.ready_s:.1f} s")
        if self.result.kills and any(line["event"] == "order_submitted" for line in run.lines):
            self.result.traded_after_kill += 1
        books = books_of(self._state) if _has_books(self._state) else None
        if books is not None:
            for problem in checks.at_death(truth, books):
                self._say(problem)
            if run.ready_s is not None and self._before is not None:
                for problem in checks.learnt(self._before.fills, books):
                    self._say(problem)
            for problem in derived(self._state):
                self._say(problem)
        self._compare_memories(run, books)
        if run.code == -signal.SIGKILL:
            held = checks.Held(0, 0, 0, 0, len(truth.live)) if books is None else checks.struck(truth, books)
            number = len(self.result.kills) + 1
            kill = Kill(self._seed, number, point, truth.at_ns, run.ready_s is not None, run.ready_s, held)
            self.result.kills.append(kill)
            if self._on_kill is not None:
                self._on_kill(kill)
        elif run.code != 0:
            self._say(f"a run ended with code {run.code}: {_tail(run)}")
        self._before = truth

    def _compare_memories(self, run: Run, books: Loaded | None) -> None:
        """What the core held when it died, and what the next one holds: by itself and by the store's own rows."""
        born, died = (_read(self._folder / f"{name}-{run.pid}.json") for name in ("born", "died"))
        if born is not None:
            if self._died is not None:
                self.result.memories += 1
                for problem in checks.differences(self._died, born, "restored"):
                    self._say(problem)
            if self._books is not None:
                for problem in checks.restored(self._books, born):
                    self._say(problem)
            # A start that dies before it has changed anything hands the same memory on.
            self._died = None
        if died is not None:
            self._died = died
        self._books = books

    def _finish(self, market: Exchange) -> None:
        truth, books = checks.truth_of(market), books_of(self._state)
        for problem in checks.at_end(truth, books):
            self._say(problem)
        for problem in behind(self._state):
            self._say(problem)
        result = self.result
        rows = reconciliations(self._state)
        result.compared = len(rows)
        for at_ns, found in rows:
            if found != "[]":
                self._say(f"a comparison at {at_ns} found {found}")
        result.orders, result.fills, result.trades = len(truth.orders), len(truth.fills), len(books.closed)
        result.latches = sum(latch.active for latch in books.latch_events)


def _word(plan: Plan, run: Run) -> str:
    """What killed: the plan's point, or the clock."""
    if plan.point == "none":
        return "wall while starting" if plan.armed else "wall"
    return "wall" if run.by_wall else f"{plan.point}:{plan.kind}"


def _has_books(state: Path) -> bool:
    """Whether the database has been made whole: a kill can strike before its schema is there."""
    try:
        with read.reading(state):
            return True
    except (ConfigurationError, StoreError):
        return False


def _read(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    found: Mapping[str, Any] = orjson.loads(path.read_bytes())
    return found


def _told(run: Run) -> list[str]:
    """What the daemon's own log says that must not be said."""
    out = []
    for line in run.lines:
        # A breaker is told as an error because somebody should look; it is no fault of the program's.
        if line.get("level") in ("error", "critical") and line["event"] != "latch_changed":
            out.append(f"logged {line['level']}: {line}"[:600])
    return out


def _tail(run: Run) -> str:
    return "; ".join(str(line["event"]) for line in run.lines[-5:])[-800:]

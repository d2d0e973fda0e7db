"""The metrics actor: keeps the stored statistics and readiness up with the trades, beside the loop and the ledger.

Inputs: turns. Outputs: derived rows in the database, gauges, a log line for a failure. Invariants: at most one refresh
runs and one waits; what happens meanwhile is in the next one; a failure touches no fill and ends no process: the rows
stay behind, which is told and counted, until a later refresh brings them up.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from oracle import derive
from oracle.core.engine import Turn
from oracle.core.messages import CriterionTightened, NoteAdded, SessionClosed, SessionOpened, TradeClosed
from oracle.core.money import MICROS
from oracle.core.trackrecord import ACCOUNT, StrategyKey
from oracle.jobs import Refresh, Refreshed
from oracle.metrics.track import Figure, TrackGauges
from oracle.store import performance, read
from oracle.store.performance import DerivedRow
from oracle.store.rows import QUERIES
from oracle.worker import Worker

log = structlog.get_logger("oracle.statistician")
ACCOUNT_KEY = StrategyKey(ACCOUNT, "")
# How long the end of a run waits for the last refresh.
DRAIN_S = 5.0
EXTREMES, EXTREMES_AT_ONCE = "trade_extremes", 1_000


class DerivedStore(Protocol):
    """What is needed of the store."""

    async def write_derived(self, rows: Sequence[DerivedRow]) -> int:
        """Store derived rows; a failure leaves everything else as it is."""
        ...


class Statistician:
    """One observer of turns, one task at most."""

    def __init__(
        self,
        worker: Worker,
        store: DerivedStore,
        state: Path,
        gauges: TrackGauges,
        shown: Sequence[StrategyKey],
        *,
        date: str,
        bootstrap: bool = True,
    ) -> None:
        """Take the parts.

        Args:
            worker: computes rows.
            store: keeps them.
            state: the folder whose database is meant.
            gauges: where the newest figures are shown.
            shown: the strategies as they are configured; the account is shown too.
            date: the newest session's ISO date at the start.
            bootstrap: whether readiness may resample; needless where only counts are looked at.
        """
        self._worker, self._store, self._state, self._gauges = worker, store, state, gauges
        self._shown = (*shown, ACCOUNT_KEY)
        self._bootstrap, self._date = bootstrap, date
        self._due: set[StrategyKey] = set()
        self._everything = False
        self._task: asyncio.Task[None] | None = None
        # Why the stored statistics are behind the trades; empty while they are not.
        self.fault = ""

    # ---------------------------------------------------------------------------------------------------- turns

    def on_turn(self, turn: Turn, _seconds: float = 0.0) -> None:
        """Note what a turn makes due, and begin."""
        for message in turn.messages:
            match message:
                case TradeClosed(strategy=name, strategy_hash=hash_):
                    self._due |= {StrategyKey(name, hash_), ACCOUNT_KEY}
                case SessionOpened(date=date):
                    self._date = date
                case SessionClosed() | NoteAdded() | CriterionTightened():
                    self._everything = True
                case _:
                    continue
            self._begin()

    async def start(self) -> None:
        """Show what is stored, and bring up what a crash or a program without statistics left behind."""
        try:
            late = await self._show()
        except Exception as error:
            self._failed(error, set(), True)
            return
        if late:
            log.info("statistics_behind")
            self._everything = True
            self._begin()

    async def finish(self, limit_s: float = DRAIN_S, *, everything: bool = False) -> None:
        """Bring up what is due and end; after the limit it is left to the next start.

        Args:
            limit_s: wall seconds.
            everything: refresh all once more, so that what a run leaves does not depend on when refreshes ran.
        """
        if everything:
            self._everything = True
        self._begin()
        task = self._task
        if task is None:
            return
        _, late = await asyncio.wait((task,), timeout=limit_s)
        if late:
            await self.abandon()
            log.warning("statistics_cut_short", limit_s=limit_s)

    async def abandon(self) -> None:
        """Give up what is under way; the next start finds what is behind."""
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait((task,))

    # -------------------------------------------------------------------------------------------------- refreshes

    def _begin(self) -> None:
        """Start the task unless it runs, in which case it finds what is due when it has finished."""
        if (self._due or self._everything) and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._due or self._everything:
            due, everything = self._due, self._everything
            self._due, self._everything = set(), False
            began_s = time.perf_counter()
            try:
                await self._refresh(due, everything)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                # Whatever is wrong with statistics, the trades go on. What failed is due again with the next close.
                self._failed(error, due, everything)
                return
            self.fault = ""
            self._gauges.refreshed(time.perf_counter() - began_s, True)

    async def _refresh(self, due: set[StrategyKey], everything: bool) -> None:
        job = Refresh(str(self._state), tuple(sorted(due)), everything, self._date, self._bootstrap)
        done = await self._worker.run(job)
        assert isinstance(done, Refreshed)
        for part in done.parts:
            await self._store.write_derived(msgspec.msgpack.decode(part, type=list[DerivedRow]))
        await self._show()

    async def _show(self) -> bool:
        """Show the newest stored figures; whether they are behind the trades and sessions."""
        stored, late = await asyncio.to_thread(standing, self._state, self._shown)
        for key, figures in stored.items():
            self._gauges.show(key, figures)
        return late

    def _failed(self, error: Exception, due: set[StrategyKey], everything: bool) -> None:
        self._due |= due
        self._everything |= everything
        self.fault = str(error) or type(error).__name__
        self._gauges.refreshed(0.0, False)
        log.error("statistics_failed", problem=self.fault, strategies=sorted({key.strategy for key in due}))


def refresh(job: Refresh) -> Refreshed:
    """Compute derived rows on a connection of its own: the part of the work that is done beside the loop."""
    with read.reading(Path(job.state)) as db:
        keys = performance.keys(db) if job.everything else list(job.keys)
        rows = derive.refresh(db, keys, now_date=job.date, bootstrap=job.bootstrap)
    return Refreshed(tuple(msgspec.msgpack.encode(part) for part in parts(rows)))


def parts(rows: Sequence[DerivedRow]) -> Iterator[Sequence[DerivedRow]]:
    """Divide rows so that unpacking a part takes the loop a few milliseconds: extremes by the thousand, then the rest.

    Extremes of trades are many only once, on a database without them; the first of them may be stored without the
    others. The rest belongs together and is one part.
    """
    extremes = sorted((row for row in rows if row.table == EXTREMES), key=lambda row: row.values["log_id"])
    for first in range(0, len(extremes), EXTREMES_AT_ONCE):
        yield extremes[first : first + EXTREMES_AT_ONCE]
    rest = [row for row in rows if row.table != EXTREMES]
    if rest:
        yield rest


def standing(state: Path, keys: Sequence[StrategyKey]) -> tuple[dict[StrategyKey, dict[str, Figure]], bool]:
    """Read the stored figures of these keys by name, and whether any statistics are behind what they rest on."""
    with read.reading(state) as db:
        late = db.execute(QUERIES["statistics_behind"]).fetchone()[0] != 0
        return {key: _figures(db, key) for key in keys}, late


def _figures(db: sqlite3.Connection, key: StrategyKey) -> dict[str, Figure]:
    values = {"strategy": key.strategy, "strategy_hash": key.strategy_hash}
    row = db.execute(QUERIES["track_performance"], values).fetchone()
    days = db.execute(QUERIES["track_days"], values).fetchone()
    shown: dict[str, Figure] = {
        "day_pnl_usd": _dollars(days["newest_micros"]),
        "cumulative_pnl_usd": _dollars(days["sum_micros"]),
    }
    if row is None:
        return {**shown, "trades": 0}
    figures: dict[str, Any] = {} if row["figures"] is None else msgspec.json.decode(row["figures"])
    judged: dict[str, Any] = {} if row["assessment"] is None else msgspec.json.decode(row["assessment"])
    # Counts are the store's own, right with each close; the rest is as of the last refresh.
    counted = {"trades": row["trades"], "net_pnl_usd": row["net_pnl_micros"] / MICROS}
    return {
        **shown, **figures, **counted,
        "score": row["score"], "ready": row["ready"], "trades_needed": judged.get("trades_needed"),
    }  # fmt: skip


def _dollars(micros: int | None) -> float | None:
    return None if micros is None else micros / MICROS

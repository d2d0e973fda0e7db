"""The track record of a run, wired: what runs is registered, statistics follow the trades, reports follow the calendar.

Inputs: the composition root's parts. Output: observers of turns and an end. Part of the composition root. Invariant:
whatever fails here is logged and counted; the run goes on.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from oracle.config import Config
from oracle.core.engine import Turn
from oracle.core.errors import DerivedError
from oracle.core.sessions import SessionTable
from oracle.core.trackrecord import StrategyKey
from oracle.metrics.track import TrackGauges
from oracle.periodic import Periodic
from oracle.statistician import DRAIN_S, Statistician
from oracle.store.performance import ParameterSet
from oracle.store.sqlite import Store
from oracle.strategies.base import Strategy
from oracle.strategies.registry import canonical_params, find
from oracle.worker import Aside, Child, Worker

log = structlog.get_logger("oracle.tracking")
# A simulation's end waits for whatever is still computed, so that what it leaves is complete.
COMPLETE_S = 120.0


class Tracking:
    """Statistics and reports beside one run."""

    def __init__(
        self,
        store: Store,
        state: Path,
        table: SessionTable,
        config: Config,
        strategies: Sequence[Strategy],
        gauges: TrackGauges,
        *,
        date: str,
        paced: bool,
    ) -> None:
        """Take the parts.

        Args:
            store, state, table, config, strategies, gauges: of the run.
            date: the newest session's ISO date, or "" before the first.
            paced: the loop may wait: work is done in a thread, and all of it before the end.
        """
        self._store, self._config, self._strategies, self._paced = store, config, tuple(strategies), paced
        make: type[Aside | Child] = Aside if paced else Child
        self._worker: Worker = make()
        self.statistician = Statistician(
            self._worker, store, state, gauges, [StrategyKey(s.name, s.code_hash) for s in strategies], date=date
        )
        self.periodic = Periodic(make, state, table, gauges)

    async def start(self, at_ns: int) -> None:
        """Register what runs and bring up what is behind, before the first turn."""
        await register(self._store, self._config, self._strategies, at_ns)
        await self.statistician.start()

    def on_turn(self, turn: Turn, seconds: float = 0.0) -> None:
        """Show a turn to both; a fault of theirs is told and does not reach the loop that trades."""
        if not turn.messages:
            return
        for follow in (self.statistician.on_turn, self.periodic.on_turn):
            try:
                follow(turn, seconds)
            except Exception as error:
                # Whatever is wrong with statistics, the trades go on.
                log.error("tracking_failed", problem=f"{type(error).__name__}: {error}", seq=turn.stamped.seq)

    async def finish(self) -> None:
        """Do what is left, for a limited time, and end the worker."""
        now_s = asyncio.get_running_loop().time
        until_s = now_s() + (COMPLETE_S if self._paced else DRAIN_S)
        try:
            # One limit for both: a stop must not be held up twice.
            await self.statistician.finish(until_s - now_s(), everything=self._paced)
            await self.periodic.finish(max(0.0, until_s - now_s()))
        finally:
            await self.close()

    async def close(self) -> None:
        """End at once what still works. Harmless when everything has ended."""
        await self.statistician.abandon()
        await self.periodic.abandon()
        await self._worker.close()


async def register(store: Store, config: Config, strategies: Sequence[Strategy], at_ns: int) -> None:
    """Put on record which code and parameters begin now; without it the run goes on, and it is told."""
    try:
        await store.register([_set(one, config) for one in strategies], at_ns)
    except DerivedError as error:
        log.error("strategies_unregistered", problem=str(error))


def _set(strategy: Strategy, config: Config) -> ParameterSet:
    params = find(strategy.name).Params.model_validate(dict(config.strategies[strategy.name]))
    return ParameterSet(strategy.name, strategy.code_hash, msgspec.json.decode(canonical_params(params)))


async def complete(store: Store, state: Path, strategies: Sequence[Strategy], gauges: TrackGauges) -> None:
    """Make all derived rows of a run that is over, as its daemon would have left them."""
    keys = [StrategyKey(one.name, one.code_hash) for one in strategies]
    statistician = Statistician(Aside(), store, state, gauges, keys, date="")
    await statistician.finish(COMPLETE_S, everything=True)

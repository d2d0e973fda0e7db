"""Measure what the daemon is: health, readiness, status, loop lag and queue depth, at the moment of asking.

Inputs: the running parts. Outputs: the console's probes and gauges. Invariant: status is measured, never a constant.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from oracle import __version__
from oracle.console.server import Check, Probes
from oracle.core.errors import StoreError
from oracle.core.messages import Feed, FeedState, TradingState
from oracle.edges import Edges
from oracle.inbox import Inbox
from oracle.metrics.observer import Observer
from oracle.running import Running

EVERY_S = 0.5
# A loop this late cannot be trusted to cancel an order in time.
UNHEALTHY_LAG_S = 5.0
# A store that has not answered for this long is not known to be writable.
STORE_AGE_S = 15.0


class Monitor:
    """Watches the loop and answers the console."""

    def __init__(
        self,
        observer: Observer,
        running: Running,
        edges: Edges,
        inbox: Inbox,
        probe_store: Callable[[], Awaitable[None]],
    ) -> None:
        self._observer = observer
        self._running = running
        self._edges = edges
        self._inbox = inbox
        self._probe_store = probe_store
        self._store_fault = "the store has not been tried yet"
        self._stored_s = float("-inf")
        self._lag_s = 0.0
        self._started_s = asyncio.get_running_loop().time()

    def probes(self) -> Probes:
        """What the console asks."""
        return Probes(self._metrics, self.health, self.readiness, self.status)

    async def run(self) -> None:
        """Measure the loop's lag and whether the store takes a transaction, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._try_store()
            due_s = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self._lag_s = max(0.0, loop.time() - due_s)
            self._observer.observe_loop_lag(self._lag_s)
            self._refresh()

    async def _try_store(self) -> None:
        try:
            await self._probe_store()
        except StoreError as error:
            self._store_fault = str(error)
        else:
            self._store_fault = ""
            self._stored_s = asyncio.get_running_loop().time()

    def _store_check(self) -> Check:
        age_s = asyncio.get_running_loop().time() - self._stored_s
        if self._store_fault:
            return Check(False, self._store_fault)
        return Check(age_s <= STORE_AGE_S, f"the store last took a transaction {age_s:.0f} s ago")

    def health(self) -> Mapping[str, Check]:
        """Whether the process itself is alive; a vendor's outage is not ill health."""
        late = self._lag_s > UNHEALTHY_LAG_S
        edges_down = self._edges.failed.done()
        return {
            "loop": Check(not late, f"the event loop was {self._lag_s:.1f} s late" if late else ""),
            "edges": Check(not edges_down, "an edge's task has failed" if edges_down else ""),
        }

    def readiness(self) -> Mapping[str, Check]:
        """Every condition for trading, each with the reason when it does not hold."""
        context = self._running.core.engine.context()
        checks: dict[str, Check] = {}
        for feed in Feed:
            state = context.market.feed(feed)
            checks[f"feed_{feed.value}"] = Check(state is FeedState.LIVE, f"the {feed.value} feed is {state.value}")
        account = context.account
        checks["reconciled"] = Check(account.reconciled, "ledger and broker have not been found equal")
        checks["store"] = self._store_check()
        gate = self._running.core.gate
        halted = gate.trading_state is TradingState.HALTED
        why = "the daemon is draining" if gate.draining else "trading is halted by a breaker"
        checks["trading"] = Check(not (gate.draining or halted), why)
        return {name: Check(True) if check.ok else check for name, check in checks.items()}

    def status(self) -> Mapping[str, Any]:
        """The daemon at a glance."""
        running, context = self._running, self._running.core.engine.context()
        equity = context.equity
        return {
            "version": __version__,
            "mode": running.config.mode,
            "config_fingerprint": running.config.fingerprint(),
            "market_time_ns": context.at_ns,
            "session": None if context.session is None else context.session.date,
            "in_session": context.in_session,
            "trading_state": running.core.gate.trading_state.value,
            "ready": all(check.ok for check in self.readiness().values()),
            "feeds": {feed.value: context.market.feed(feed).value for feed in Feed},
            "equity_usd": equity.equity_usd,
            "day_start_usd": equity.day_start_usd,
            "realized_today_usd": equity.realized_today_usd,
            "open_trades": len(context.ledger.open_trades()),
            "inputs": running.core.engine.seq,
            "uptime_s": round(asyncio.get_running_loop().time() - self._started_s, 1),
        }

    def _metrics(self) -> bytes:
        self._refresh()
        return self._observer.text()

    def _refresh(self) -> None:
        self._observer.set_inbox_depth(len(self._inbox), self._edges.quotes.pending)
        for source, total in self._edges.malformed.items():
            self._observer.set_invalid(source, total)
        self._observer.set_state(self._state())

    def _state(self) -> str:
        running = self._running
        if running.core.gate.draining:
            return "draining"
        if running.core.gate.trading_state is TradingState.HALTED:
            return "halted"
        if not running.core.engine.context().account.reconciled:
            return "reconciling"
        return "ready" if all(check.ok for check in self.readiness().values()) else "degraded"

"""Measure what the daemon is: health, readiness, status, heartbeats and queue depth, at the moment of asking.

Inputs: the running parts. Outputs: the console's probes, gauges, what the service manager is told. Invariant: status
is measured, never a constant.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from oracle import __version__
from oracle.alpaca.supervisor import Phase
from oracle.console.server import Check, Probes
from oracle.core.errors import StoreError
from oracle.core.vocabulary import Feed, FeedState, TradingState
from oracle.edges import Edges
from oracle.inbox import Inbox
from oracle.metrics.observer import Observer
from oracle.running import Running

EVERY_S = 0.5
# A loop this late cannot be trusted to cancel an order in time.
UNHEALTHY_LAG_S = 5.0
# A store that has not answered for this long is not known to be writable.
STORE_AGE_S = 15.0
# A part that has not got on for this long will not by itself. Connecting and closing have limits of their own that
# add up to less than half of theirs; waiting for a vendor is not being stuck.
STUCK_AFTER_S = 10.0
FEED_STUCK_AFTER_S = 30.0
# How long a start may wait for the vendor before it counts as over; then only /readyz and entries wait on.
START_GRACE_S = 60.0


class Monitor:
    """Watches the loop and answers the console."""

    def __init__(
        self,
        observer: Observer,
        running: Running,
        edges: Edges,
        inbox: Inbox,
        probe_store: Callable[[], Awaitable[None]],
        core_stuck_s: Callable[[], float],
    ) -> None:
        self._observer = observer
        self._running = running
        self._edges = edges
        self._inbox = inbox
        self._probe_store = probe_store
        self._core_stuck_s = core_stuck_s
        self._store_fault = "the store has not been tried yet"
        self._stored_s = float("-inf")
        self._lag_s = 0.0
        self._started_s = self._looped_s = self._answered_s = asyncio.get_running_loop().time()
        self._turned: dict[Feed, tuple[tuple[int, Phase], float]] = {}

    def probes(self) -> Probes:
        """What the console asks."""
        return Probes(self._metrics, self.health, self.readiness, self.status)

    async def run(self) -> None:
        """Measure the loop's lag and whether the store takes a transaction, until cancelled."""
        await asyncio.gather(self._watch_loop(), self._watch_store())

    async def _watch_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self._looped_s = loop.time()
            self._lag_s = max(0.0, self._looped_s - due_s)
            self._observer.observe_loop_lag(self._lag_s)
            self._refresh()

    async def _watch_store(self) -> None:
        while True:
            await self._try_store()
            await asyncio.sleep(EVERY_S)

    async def _try_store(self) -> None:
        try:
            await self._probe_store()
        except StoreError as error:
            self._store_fault = str(error)
        else:
            self._store_fault = ""
            self._stored_s = asyncio.get_running_loop().time()
        # A refusal is an answer too: the writer gets on.
        self._answered_s = asyncio.get_running_loop().time()

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

    def heartbeats_s(self) -> Mapping[str, float]:
        """For how many seconds each part has not got on; about zero while it works or waits for others."""
        now_s = asyncio.get_running_loop().time()
        ages = {"loop": now_s - self._looped_s, "core": self._core_stuck_s(), "writer": now_s - self._answered_s}
        for feed in (self._edges.stock, self._edges.option, self._edges.trading):
            phase = feed.supervisor.phase
            turn = (feed.supervisor.epoch, phase)
            known = self._turned.get(feed.feed)
            if known is None or known[0] != turn:
                known = self._turned[feed.feed] = (turn, now_s)
            # These two phases end within limits of our own, whatever the vendor does; the others wait for it or for
            # a timer, and timers are run by the core's loop.
            busy = phase in (Phase.CONNECTING, Phase.CLOSING)
            ages[feed.feed.value] = now_s - known[1] if busy else 0.0
        return ages

    def stuck(self) -> Mapping[str, float]:
        """The parts that have not got on for too long, by which a restart is due."""
        late: dict[str, float] = {}
        for part, age_s in self.heartbeats_s().items():
            limit_s = FEED_STUCK_AFTER_S if part in tuple(Feed) else STUCK_AFTER_S
            if age_s > limit_s:
                late[part] = round(age_s, 1)
        return late

    def serving(self) -> bool:
        """Whether start-up is over: everything is in order but perhaps a halt, or the vendor has had its time."""
        if asyncio.get_running_loop().time() - self._started_s >= START_GRACE_S:
            return True
        return all(check.ok for name, check in self.readiness().items() if name != "trading")

    def headline(self) -> str:
        """Mode, state, feeds and open trades in one line, for ``systemctl status``."""
        context = self._running.core.engine.context()
        feeds = ", ".join(f"{feed.value} {context.market.feed(feed).value}" for feed in Feed)
        trades = len(context.ledger.open_trades())
        return f"{self._running.config.mode}, {self._state()}; feeds: {feeds}; open trades: {trades}"

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
            "statistics": running.statistics_fault() or "current",
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
        self._observer.set_readiness({name: check.ok for name, check in self.readiness().items()})
        self._observer.set_heartbeats(self.heartbeats_s())
        context = self._running.core.engine.context()
        self._observer.set_clock(max(self._running.clock.now_ns(), context.at_ns), context.in_session)

    def _state(self) -> str:
        running = self._running
        if running.core.gate.draining:
            return "draining"
        if running.core.gate.trading_state is TradingState.HALTED:
            return "halted"
        if not running.core.engine.context().account.reconciled:
            return "reconciling"
        return "ready" if all(check.ok for check in self.readiness().values()) else "degraded"

"""The composition root: the only place that knows every part and which clock is used.

Inputs: a validated Config and a state folder. Output: a finished run. Order of start: store, calendar, core restored
from the store, edges, console; order of stop: edges, console, journal, store.
"""

import asyncio
import datetime as dt
import faulthandler
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from oracle import __version__, logs
from oracle.build import build_core, load_strategies, watched_underlyings
from oracle.calendar import load_sessions
from oracle.config import Config
from oracle.connect import Account, account_of, check_account, make_edges, option_feed
from oracle.console.control import ControlServer, socket_path
from oracle.console.server import Console
from oracle.core.clock import VirtualClock
from oracle.core.engine import Turn
from oracle.core.errors import ConfigurationError, RemoteError
from oracle.core.messages import JournalOpened, OrderFilled, PositionSettled
from oracle.core.sessions import NS, SessionTable
from oracle.daemon import Daemon
from oracle.edges import Edges, fault_of
from oracle.edgetimers import Clock, EdgeTimers
from oracle.evaluations import Evaluations
from oracle.eventlog import EventLog
from oracle.housekeeping import Housekeeping
from oracle.inbox import Inbox, Source
from oracle.metrics.catalogue import Labels
from oracle.metrics.observer import Observer
from oracle.monitor import Monitor
from oracle.notify import Notifier, service_manager
from oracle.opening import opening_record
from oracle.pacing import PacingClient, Welcome
from oracle.risk.rules import RULES
from oracle.running import Core, Running
from oracle.store.journal import JournalWriter, journal_path
from oracle.store.loading import Loaded
from oracle.store.sqlite import Store
from oracle.store.state import require_free
from oracle.strategies.base import Strategy
from oracle.tally import Tally
from oracle.tracking import Tracking

log = structlog.get_logger("oracle.app")
CALENDAR_BEFORE_DAYS, CALENDAR_AFTER_DAYS = 150, 400


class WallClock:
    """UTC from the operating system, never decreasing."""

    def __init__(self) -> None:
        self._last_ns = 0

    def now_ns(self) -> int:
        """UTC nanoseconds."""
        self._last_ns = max(self._last_ns, time.time_ns())
        return self._last_ns


@dataclass(slots=True)
class Result:
    """What a finished run leaves."""

    tally: Tally
    inputs_sha256: str
    decisions_sha256: str
    database: Path
    journal: Path
    metrics_file: Path
    declared: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    labels: Sequence[str] = field(default_factory=tuple)


async def run(
    config: Config,
    state: Path,
    *,
    token: str | None = None,
    on_running: Callable[[Running], None] | None = None,
    wall_clock: Clock | None = None,
) -> Result:
    """Run the daemon until the exchange's end (sim) or a signal.

    Args:
        config: validated settings.
        state: the folder of database and journal; made when missing.
        token: the instance token of a new database; simulations pass one so that order ids repeat.
        on_running: called once everything is connected and before the first step.
        wall_clock: replaces the operating system's in paper mode; a rehearsal on another date's market passes one.

    Raises:
        ConfigurationError: settings, keys, addresses or the state folder are wrong.
        RemoteError: the exchange or broker went away.
        StoreError: something that must last could not be written.
    """
    async with AsyncExitStack() as stack:
        # Everything that can be wrong with settings is found before the state folder is touched.
        strategies, account = load_strategies(config), account_of(config)
        if config.mode != "sim":
            await check_account(account)
        require_free(state)
        pacing, welcome, clock = await _time_source(config, stack, wall_clock or WallClock())
        # One instant for calendar, journal and engine: a replay builds the same core from the opening record.
        start_ns = clock.now_ns()
        table, observer = _calendar(start_ns), _observer(config, strategies, stack)
        store, loaded = await _open_store(config, state, start_ns, token, observer, stack)
        journal = _open_journal(state, opening_record(config, table, loaded, strategies, start_ns), stack)
        core = build_core(config, table, loaded, strategies)
        running = Running(config, core, Tally(), clock, table, welcome, state)
        newest = "" if loaded.session is None else loaded.session.date
        tracking = Tracking(
            store, state, table, config, strategies, observer.track, date=newest, paced=pacing is not None
        )
        stack.push_async_callback(tracking.close)
        running.statistics_fault = lambda: tracking.statistician.fault
        daemon, edges = await _connect(running, account, observer, store, journal, tracking, stack)
        observer.restore(loaded.working, loaded.order_events, loaded.latches, loaded.still_open)
        running.tally.restore(loaded.still_open, loaded.last_equity)
        core.engine.start(start_ns)
        await tracking.start(start_ns)
        observer.set_state("warming")
        await _first_reads(core, edges, table, clock.now_ns(), simulated=pacing is not None)
        edges.start()
        if on_running is not None:
            on_running(running)
        if pacing is not None and isinstance(clock, VirtualClock):
            await daemon.run_paced(pacing, clock.advance)
        else:
            housekeeping = Housekeeping(state, store.backup, config.journal.keep_days)
            housekeeping.start()
            stack.callback(housekeeping.stop)
            await daemon.run_wall(core.prepare)
        await tracking.finish()
        return _result(running, store, journal, observer)


async def _open_store(
    config: Config, state: Path, now_ns: int, token: str | None, observer: Observer, stack: AsyncExitStack
) -> tuple[Store, Loaded]:
    """Open the database, which is closed with the stack, and read what is durable."""
    store = await Store.open(
        state, config.mode, now_ns, token=token, feed=option_feed(config), on_commit_s=observer.observe_commit
    )
    stack.push_async_callback(store.close)
    return store, await store.load()


def _open_journal(state: Path, opened: JournalOpened, stack: AsyncExitStack) -> JournalWriter:
    """Begin a new journal segment; it is closed with the stack."""
    journal = JournalWriter(journal_path(state, time.time_ns()), opened)
    stack.push(_ending(journal))
    return journal


def _ending(journal: JournalWriter) -> Callable[[object, BaseException | None, object], None]:
    """Close a journal: in order when the run ended or the world failed it, without the closing record on a bug."""

    def end(_kind: object, error: BaseException | None, _trace: object) -> None:
        orderly = error is None or isinstance(error, ConfigurationError | RemoteError)
        (journal.close if orderly else journal.abandon)()

    return end


async def _connect(
    running: Running, account: Account, observer: Observer, store: Store, journal: JournalWriter, tracking: Tracking,
    stack: AsyncExitStack,
) -> tuple[Daemon, Edges]:  # fmt: skip
    """Make the edges, the loop and the console around a core."""
    core, inbox = running.core, Inbox()
    timers = EdgeTimers(running.clock, inbox.changed.set)
    edges = await stack.enter_async_context(make_edges(running.config, account, core, running.table, inbox, timers))
    edges.rest.on_request = observer.observe_request
    fee_usd = str(running.config.fees.modelled_per_contract_usd)
    seen = Evaluations({s.name: s.universe for s in core.strategies}, fee_usd)
    views = {"strategies": seen.picture}
    control = ControlServer(socket_path(running.state), lambda request: inbox.put(Source.OPERATOR, request), views)
    daemon = Daemon(
        engine=core.engine, inbox=inbox, edges=edges, store=store, journal=journal, clock=running.clock,
        edge_timers=timers, check_edges=fault_of(edges),
        observers=(
            running.tally.on_turn, _counted(observer), EventLog().on_turn, _held_watch(core, edges), control.on_turn,
            lambda turn, _seconds: seen.take(turn.messages, turn.stamped.at_ns), tracking.on_turn,
        ),
    )  # fmt: skip
    monitor = Monitor(observer, running, edges, inbox, store.probe, lambda: daemon.stuck_s)
    console = Console(monitor.probes())
    port = await console.start(running.config.console.port)
    stack.push_async_callback(console.stop)
    await control.start()
    stack.push_async_callback(control.stop)
    running.metrics_url = f"http://127.0.0.1:{port}/metrics"
    edges.watch(monitor.run())
    _tell_service_manager(monitor, daemon, edges)
    _handle_signals(daemon, stack)
    return daemon, edges


def _result(running: Running, store: Store, journal: JournalWriter, observer: Observer) -> Result:
    metrics_file = running.state / "metrics.prom"
    metrics_file.touch(mode=0o600)
    metrics_file.write_bytes(observer.text())
    journal.close()
    log.info("stopped", inputs=journal.inputs, inputs_sha256=journal.inputs_sha256)
    welcome = running.welcome
    return Result(
        running.tally, journal.inputs_sha256, journal.decisions_sha256, store.path, journal.path, metrics_file,
        welcome.declared if welcome else (), welcome.labels if welcome else (),
    )  # fmt: skip


async def _time_source(
    config: Config, stack: AsyncExitStack, wall_clock: Clock
) -> tuple[PacingClient | None, Welcome | None, Clock]:
    if config.mode != "sim":
        return None, None, wall_clock
    sim = config.sim
    pacing = PacingClient(sim.url, sim.key.get_secret_value(), sim.secret.get_secret_value(), sim.speed)
    welcome = await pacing.connect()
    stack.push_async_callback(pacing.close)
    return pacing, welcome, VirtualClock(welcome.at_ns)


def _calendar(now_ns: int) -> SessionTable:
    today = dt.datetime.fromtimestamp(now_ns // NS, dt.UTC).date()
    before, after = dt.timedelta(days=CALENDAR_BEFORE_DAYS), dt.timedelta(days=CALENDAR_AFTER_DAYS)
    return load_sessions(today - before, today + after)


async def _first_reads(core: Core, edges: Edges, table: SessionTable, now_ns: int, simulated: bool) -> None:
    """Warm up from earlier sessions' bars, so that indicators are ready before the first live one."""
    session = table.current_or_next(now_ns)
    if session is None:
        raise ConfigurationError("date", "no session is known from here on", "update exchange-calendars")
    wanted = max((strategy.warmup_sessions for strategy in core.strategies), default=0)
    earlier = table.before(session.date, wanted)
    if earlier:
        count = await edges.warm_up(earlier[0].open_ns, now_ns)
        log.info("warmed_up", bars=count, sessions=len(earlier))
    if simulated:
        # Only the embedded exchange knows daily IVs; elsewhere they are observed, imported or unknown.
        await edges.read_daily_ivs()
    else:
        await edges.check_clock_and_calendar(session)


def _held_watch(core: Core, edges: Edges) -> Callable[[Turn, float], None]:
    """Tell the conflator which legs are held: those of before a restart now, then whenever a fill changes them."""
    edges.set_held(p.symbol for p in core.ledger.positions())

    def on_turn(turn: Turn, _seconds: float) -> None:
        if any(isinstance(message, OrderFilled | PositionSettled) for message in turn.messages):
            edges.set_held(p.symbol for p in core.ledger.positions())

    return on_turn


def _observer(config: Config, strategies: Sequence[Strategy], stack: AsyncExitStack) -> Observer:
    build = {"version": __version__, "mode": config.mode, "config": config.fingerprint()}
    rules = tuple(sorted(rule.__name__ for rule in RULES))
    names, watched = tuple(sorted(config.strategies)), watched_underlyings(config, strategies)
    observer = Observer(Labels(strategy=names, rule=rules, underlying=watched), build, time.time_ns())
    observer.set_state("starting")
    logs.count_with(observer.observe_log)
    stack.callback(logs.count_with, None)
    return observer


def _counted(observer: Observer) -> Callable[[Turn, float], None]:
    return lambda turn, seconds: observer.observe_turn(turn.stamped, turn.messages, seconds)


def _tell_service_manager(monitor: Monitor, daemon: Daemon, edges: Edges) -> None:
    """Under systemd: report readiness, life and the drain; the SIGABRT of a watchdog leaves the stacks in the log."""
    manager = service_manager()
    if manager is not None:
        faulthandler.enable()
        notifier = Notifier(manager, monitor)
        daemon.on_stop.append(notifier.stopping)
        edges.watch(notifier.run())


def _handle_signals(daemon: Daemon, stack: AsyncExitStack) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.request_stop, "signal", number.name)
        stack.callback(loop.remove_signal_handler, number)

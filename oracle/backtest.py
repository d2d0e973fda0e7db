"""Composition of a backtest: recorded bars or the generated market, the exchange in process, the same core, store and
reports as a live run.

Inputs: settings, a folder of bars or none, dates, a state folder. Output: the ``Result`` of a run. Only virtual time
exists here. Invariant: two runs with the same arguments and files give the same turns, byte for byte.
"""

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from oracle import __version__
from oracle.app import Result
from oracle.backtest_edges import IN_PROCESS, InProcessEdges
from oracle.backtest_run import BacktestRun, OutputsPort, Progress, TurnObserver
from oracle.build import build_core, load_strategies, watched_underlyings
from oracle.calendar import load_sessions
from oracle.config import Config
from oracle.core.errors import ConfigurationError
from oracle.core.message import Message
from oracle.core.sessions import SessionTable
from oracle.daemon import JournalPort, StorePort
from oracle.inbox import Inbox
from oracle.metrics.catalogue import Labels
from oracle.metrics.observer import Observer
from oracle.opening import opening_record
from oracle.risk.rules import RULES
from oracle.running import Core
from oracle.sim.bar_files import BarFolder
from oracle.sim.config import ExchangeConfig
from oracle.sim.exchange import Exchange
from oracle.sim.market import GeneratedMarket, momentum_plants
from oracle.sim.minutes import MinuteMarket
from oracle.sim.pathgen import SPECS
from oracle.sim.planted_options import read_option_plants
from oracle.sim.source import MarketSource
from oracle.store.journal import JournalWriter, journal_path
from oracle.store.loading import Loaded
from oracle.store.sqlite import Store, is_durable
from oracle.store.state import require_free
from oracle.strategies.base import Strategy
from oracle.tally import Tally
from oracle.tracking import complete, register

MODE = "backtest"
# Closes and warm-up bars of before the first date; expiries, LEAPS of recorded chains included, after the last.
BEFORE_DAYS, AFTER_DAYS = 400, 900
RECORDED_CHAIN = "options/quotes_1m"


@dataclass(frozen=True, slots=True)
class Backtest:
    """What to run: where the bars are (None: the generated market), which sessions (ISO dates, inclusive), the opening
    cash, the seed, settings of the exchange by name, and what is planted in the generated market's options. Trades are
    closed before the data end, unless ``leave_open``. The generated market is looked at every ``step_s`` seconds while
    no order works.
    """

    data: Path | None
    first: str
    last: str
    cash_usd: Decimal = Decimal(100_000)
    seed: int = 1
    exchange: Mapping[str, Any] = field(default_factory=dict)
    leave_open: bool = False
    plants: Sequence[str] = ()
    step_s: int = 1


@dataclass(slots=True)
class Outcome:
    """A finished backtest: the run's result, and what the data lacked (one line each)."""

    result: Result
    lacking: tuple[str, ...]
    modelled: bool


def calendar_of(first: str, last: str) -> SessionTable:
    """The NYSE sessions that a backtest of these dates needs.

    Raises:
        ConfigurationError: a date is not one, they are out of order, or no calendar covers them.
    """
    days = []
    for name, text in (("--from", first), ("--to", last)):
        try:
            days.append(dt.date.fromisoformat(text))
        except ValueError:
            raise ConfigurationError(name, f"{text!r} is not a date", "write YYYY-MM-DD") from None
    if days[0] > days[1]:
        raise ConfigurationError("--to", f"{last} is before {first}", "give the later date last")
    return load_sessions(days[0] - dt.timedelta(days=BEFORE_DAYS), days[1] + dt.timedelta(days=AFTER_DAYS))


def symbols_for(folder: BarFolder, strategies: Sequence[Strategy]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The strategies' symbols that the folder has, and those that it lacks.

    Raises:
        ConfigurationError: it has none of them.
    """
    wanted = sorted({symbol for strategy in strategies for symbol in strategy.universe})
    there = tuple(s for s in wanted if s in folder.symbols())
    if not there:
        have = ", ".join(folder.symbols()) or "none"
        names = ", ".join(s.name for s in strategies)
        raise ConfigurationError(
            "--data", f"{folder.root} has no bars of {', '.join(wanted)}, which {names} would trade (it has {have})",
            'set the universe, e.g. --set \'strategies.NAME.universe=["IBM"]\'',
        )  # fmt: skip
    return there, tuple(s for s in wanted if s not in there)


def on_demand_only(strategies: Sequence[Strategy]) -> frozenset[str]:
    """Symbols of which every strategy says when it wants option quotes."""
    always = {x for strategy in strategies if not strategy.options_on_demand for x in strategy.universe}
    return frozenset({x for strategy in strategies for x in strategy.universe} - always)


async def run_backtest(
    config: Config,
    what: Backtest,
    state: Path,
    on_plan: Callable[[int], None] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Trade all sessions between the dates.

    Args:
        config: validated settings.
        what: bars, dates, cash and seed.
        state: the folder of database, journal and metrics; made when missing.
        on_plan: told how many sessions there are.
        progress: told of each session that is over, and how many are.

    Raises:
        ConfigurationError: settings, dates, files or the state folder are wrong.
        StoreError: something that must last could not be written.
    """
    strategies = load_strategies(config)
    table = calendar_of(what.first, what.last)
    market = _generated(what, table, strategies) if what.data is None else _recorded(what, what.data, table, strategies)
    source = market.source
    require_free(state)
    if on_plan is not None:
        on_plan(len(source.sessions))
    async with AsyncExitStack() as stack:
        observer = _observer(config, strategies)
        store = await Store.open(
            state, MODE, source.sessions[0].open_ns, token=f"backtest{what.seed}", feed=market.option_data,
            on_commit_s=observer.observe_commit,
        )  # fmt: skip
        stack.push_async_callback(store.close)
        await store.relax()
        loaded = await store.load()
        exchange = make_exchange(config, source, table, what)
        opened = opening_record(config, table, loaded, strategies, exchange.now_ns)
        journal = JournalWriter(journal_path(state, time.time_ns()), msgspec.structs.replace(opened, mode=MODE))
        stack.callback(journal.abandon)
        tally = Tally()
        core, run = wire(
            config, table, loaded, strategies, exchange, store=store, journal=journal,
            observers=(tally.on_turn, lambda turn, s: observer.observe_turn(turn.stamped, turn.messages, s)),
            leave_open=what.leave_open, step_s=what.step_s,
        )  # fmt: skip
        del core
        await register(store, config, strategies, exchange.now_ns)
        await run.run(progress)
        await complete(store, state, strategies, observer.track)
        journal.close()
        metrics_file = state / "metrics.prom"
        metrics_file.touch(mode=0o600)
        metrics_file.write_bytes(observer.text())
        result = Result(
            tally, journal.inputs_sha256, journal.decisions_sha256, store.path, journal.path, metrics_file,
            source.declared, _labels(what, source),
        )  # fmt: skip
        return Outcome(result, market.lacking(), market.is_modelled())


def make_exchange(config: Config, source: MarketSource, table: SessionTable, what: Backtest) -> Exchange:
    """The exchange of a backtest, with one account."""
    plan = "plus" if config.alpaca.plan == "algo_trader_plus" else "basic"
    settings: dict[str, Any] = {
        "seed": what.seed, "key": IN_PROCESS, "secret": IN_PROCESS, "plan": plan, "starting_cash_usd": what.cash_usd,
        **what.exchange,
    }  # fmt: skip
    try:
        return Exchange(ExchangeConfig.model_validate(settings), source, table)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(n for n in ExchangeConfig.model_fields if n not in ("key", "secret", "port", "hold"))
        raise ConfigurationError(f"--exchange {name}", first["msg"], f"the exchange has these: {known}") from None


def wire(
    config: Config,
    table: SessionTable,
    loaded: Loaded,
    strategies: tuple[Strategy, ...],
    exchange: Exchange,
    *,
    store: StorePort,
    journal: JournalPort | OutputsPort,
    observers: Sequence[TurnObserver],
    is_durable: Callable[[Message], bool] = is_durable,
    leave_open: bool = True,
    step_s: int = 1,
) -> tuple[Core, BacktestRun]:
    """Make the core and the run around it, warmed up and ready for the first instant."""
    core, inbox = build_core(config, table, loaded, strategies), Inbox()
    watched = {*config.volatility.underlyings, *(x for y in strategies for x in y.universe)}
    universe = [s for s in sorted(watched) if s in exchange.source.symbols]
    edges = InProcessEdges(exchange, inbox, universe)
    core.engine.start(exchange.now_ns)
    wanted = max((strategy.warmup_sessions for strategy in strategies), default=0)
    earlier = table.before(exchange.session.date, wanted)
    if earlier:
        edges.warm_up(earlier[0].open_ns, exchange.now_ns)
    edges.read_daily_ivs()
    edges.start()
    run = BacktestRun(
        core=core, exchange=exchange, edges=edges, inbox=inbox, store=store, is_durable=is_durable, journal=journal,
        observers=observers, leave_open=leave_open, step_s=step_s,
    )  # fmt: skip
    return core, run


@dataclass(frozen=True, slots=True)
class _Market:
    """A market to run on, what is kept with each trade about its option quotes, and what is told of it at the end."""

    source: MarketSource
    option_data: str
    lacking: Callable[[], tuple[str, ...]] = tuple
    is_modelled: Callable[[], bool] = bool


def _recorded(what: Backtest, data: Path, table: SessionTable, strategies: Sequence[Strategy]) -> _Market:
    folder = BarFolder(data)
    symbols, absent = symbols_for(folder, strategies)
    source = MinuteMarket(folder, symbols, what.first, what.last, table, what.seed, on_demand_only(strategies))
    return _Market(
        source, _option_data(folder, source), lambda: _lacking(absent, source), lambda: bool(source.modelled_chains)
    )


def _generated(what: Backtest, table: SessionTable, strategies: Sequence[Strategy]) -> _Market:
    """The generated market with entries planted for every kind of strategy.

    Raises:
        ConfigurationError: there is no session between the dates, or it has none of the strategies' symbols.
    """
    dates = [session.date for session in table.sessions if what.first <= session.date <= what.last]
    if not dates:
        raise ConfigurationError("--to", f"NYSE has no session from {what.first} to {what.last}", "give a later date")
    wanted = {symbol for strategy in strategies for symbol in strategy.universe}
    if not wanted & SPECS.keys():
        raise ConfigurationError(
            "--simulated", f"{', '.join(sorted(wanted))} cannot be generated", f"choose among {', '.join(SPECS)}"
        )
    planted = read_option_plants(what.plants, dates)
    market = GeneratedMarket(what.seed, table, dates, momentum_plants(what.seed, table, dates), option_plants=planted)
    return _Market(market, "simulated")


def _labels(what: Backtest, source: MarketSource) -> tuple[str, ...]:
    """What a reader must know of the run; what had to be modelled is known only at its end."""
    return ("backtest", *source.labels, *((f"looked at every {what.step_s} s",) if what.step_s > 1 else ()))


def _observer(config: Config, strategies: Sequence[Strategy]) -> Observer:
    build = {"version": __version__, "mode": MODE, "config": config.fingerprint()}
    rules = tuple(sorted(rule.__name__ for rule in RULES))
    names, watched = tuple(sorted(config.strategies)), watched_underlyings(config, strategies)
    return Observer(Labels(strategy=names, rule=rules, underlying=watched), build, 0)


def has_recorded_chain(folder: BarFolder, what: Backtest) -> bool:
    """Whether a chain of any symbol is recorded between the dates."""
    names = (path.name for path in (folder.root / RECORDED_CHAIN).glob("*/*.csv.gz"))
    return any(what.first <= name.removesuffix(".csv.gz") <= what.last for name in names)


def _option_data(folder: BarFolder, source: MinuteMarket) -> str:
    """What is kept with each trade about its option quotes."""
    pairs = [(x, s.date) for x in source.symbols for s in source.sessions]
    recorded = [folder.recorded and (folder.root / RECORDED_CHAIN / x / f"{d}.csv.gz").exists() for x, d in pairs]
    return "recorded" if all(recorded) else "recorded or modelled" if any(recorded) else "modelled"


def _lacking(absent: Sequence[str], source: MinuteMarket) -> tuple[str, ...]:
    lines = [f"no bars at all of {symbol}" for symbol in absent]
    by_symbol: dict[str, list[str]] = {}
    for symbol, date in source.missing:
        by_symbol.setdefault(symbol, []).append(date)
    for symbol, dates in sorted(by_symbol.items()):
        more = f" and {len(dates) - 5} more" if len(dates) > 5 else ""
        lines.append(f"no bars of {symbol} on {', '.join(dates[:5])}{more}")
    return tuple(lines)

"""What a core consists of: the actors, restored from the store and subscribed in their fixed order.

Inputs: settings, the session table, durable state, strategies. Output: a ``Core``. Live runs, backtests and replays
build theirs here. Invariant: nothing else reaches a core, so the same arguments give the same one.
"""

from collections.abc import Sequence

from oracle.config import Config
from oracle.connect import option_feed
from oracle.core.engine import Engine
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.messages import STRATEGY_DISABLED_LATCH, STRATEGY_FAILED_LATCH
from oracle.core.record import Record
from oracle.core.sessions import SessionTable
from oracle.execution.account import AccountReader
from oracle.execution.desk import Desk
from oracle.execution.foreign import ForeignOrders
from oracle.execution.reconcile import Reconciler
from oracle.execution.works import DeskSettings
from oracle.options.chain import Chains
from oracle.options.iv_observer import LISTED_SESSIONS, VolatilityObserver
from oracle.options.keeper import ChainKeeper
from oracle.options.positioning import INDICATIVE, Positioning
from oracle.risk.gate import Gate
from oracle.risk.limits import DEFAULT_BETAS
from oracle.risk.stored import GateSettings, Stored
from oracle.running import Core
from oracle.store.loading import Loaded
from oracle.strategies import registry
from oracle.strategies.base import Strategy
from oracle.strategies.runner import StrategyRunner

"""PRODUCT section 7: cash interest is not in the P&L; the risk-free rate of discounting is likewise 0."""
RATE_PER_YEAR = 0.0


def load_strategies(config: Config) -> tuple[Strategy, ...]:
    """Make the configured strategies, in order of name.

    Raises:
        ConfigurationError: a strategy is unknown or one of its settings is wrong.
    """
    return tuple(registry.load(name, settings) for name, settings in sorted(config.strategies.items()))


def build_core(config: Config, table: SessionTable, loaded: Loaded, strategies: tuple[Strategy, ...]) -> Core:
    """Make the actors, restore them from the store and subscribe them in their fixed order."""
    age_s = float(config.risk.max_option_quote_age_s)
    market, ledger = MarketState(), Ledger()
    chains = Chains(table, rate_per_year=RATE_PER_YEAR, max_age_s=max(60.0, age_s))
    no_flow = INDICATIVE if option_feed(config) == "indicative" else ""
    positioning = Positioning(chains, table, rate_per_year=RATE_PER_YEAR, no_flow=no_flow)
    marks = Marks(market, chains, age_s, ledger.held)
    equity = EquityKeeper(ledger, marks)
    ahead: dict[str, int] = {}
    always: dict[str, int] = {}
    for strategy in strategies:
        for symbol in strategy.universe:
            ahead[symbol] = max(ahead.get(symbol, 0), strategy.max_expiry_sessions)
            if not strategy.options_on_demand:
                always[symbol] = max(always.get(symbol, 0), strategy.max_expiry_sessions)
    for symbol in config.volatility.underlyings:
        ahead[symbol] = max(ahead.get(symbol, 0), LISTED_SESSIONS)
    keeper = ChainKeeper(
        ahead, config.feeds.option_quotes_limit, on_demand=ahead.keys() - always.keys(), always_ahead=always,
        ahead_of={s.name: s.max_expiry_sessions for s in strategies if s.options_on_demand},
    )  # fmt: skip
    runner = StrategyRunner(strategies)
    gate = Gate(
        GateSettings(
            limits=config.risk,
            ladder=config.ladder,
            betas={**DEFAULT_BETAS, **config.betas},
            abbreviations={s.name: abbreviation(s.name) for s in strategies},
            token=loaded.token,
            next_sequence=loaded.next_order_sequence,
            config_fingerprint=config.fingerprint(),
            live=False,
            caps={s.name: s.caps for s in strategies},
        )
    )
    desk = Desk(DeskSettings(config.fees.modelled_per_contract_usd))
    # At a real broker the account is compared every 30 s, whatever the settings of simulations say.
    reader = AccountReader(config.sim.account_read_every_s) if config.mode == "sim" else AccountReader()
    reconciler = Reconciler()
    ledger.restore(loaded.books)
    equity.restore(loaded.equity, loaded.seed, loaded.latches, loaded.unmarked)
    runner.restore(*(_latched(loaded, prefix) for prefix in (STRATEGY_FAILED_LATCH, STRATEGY_DISABLED_LATCH)))
    for intent in loaded.intents:
        for strategy in strategies:
            if strategy.name == intent.strategy:
                strategy.on_intent_sent(intent.intent_id)
    gate.restore(
        Stored(
            orders=loaded.submits, advanced=loaded.order_events, fills=loaded.fills, ended=loaded.order_ends,
            intents=loaded.intents, opened=loaded.opened, closed=loaded.closed, plans=loaded.phases,
            exits=loaded.triggered, latches=loaded.latches, submitted_ns=loaded.submitted_ns,
            foreign=loaded.foreign, settled=loaded.settled, answers=loaded.operator,
            advanced_ns=loaded.advanced_ns,
        )
    )  # fmt: skip
    _restore_execution(loaded, desk, reader, reconciler)
    volatility = VolatilityObserver(
        chains, table, observed_underlyings(config, strategies), history=loaded.iv_history,
        rate_per_year=RATE_PER_YEAR, max_age_s=max(60.0, age_s),
    )  # fmt: skip
    engine = Engine(table, market, chains, ledger, equity, volatility, positioning)
    foreign = ForeignOrders(loaded.token)
    record = Record(strategy.name for strategy in strategies)
    record.restore(loaded.criteria)
    deciding = (chains, marks, keeper, volatility, positioning, runner, gate, desk, reader, reconciler, foreign)
    for actor in (*deciding, record):
        engine.bus.subscribe(actor.handlers())
    return Core(engine, ledger, market, gate, strategies, lambda: chains.prepare(engine.at_ns))


def _restore_execution(loaded: Loaded, desk: Desk, reader: AccountReader, reconciler: Reconciler) -> None:
    """Bring what works orders and compares accounts back to what the store holds."""
    desk.restore(
        loaded.submits, loaded.order_events, loaded.fills, loaded.order_ends, loaded.foreign, loaded.settlements
    )
    reader.restore(loaded.submits, loaded.order_events, loaded.fills, loaded.order_ends, loaded.marked_ns)
    reconciler.restore(loaded.order_events, loaded.fills, loaded.foreign, loaded.settlements, loaded.settled)
    reconciler.restore_transfers(loaded.books)


def observed_underlyings(config: Config, strategies: Sequence[Strategy]) -> tuple[str, ...]:
    """Whose 30-day volatility is observed each session: those of strategies that need it, and those configured."""
    needed = {symbol for strategy in strategies if strategy.needs_iv_history for symbol in strategy.universe}
    return tuple(sorted(needed | set(config.volatility.underlyings)))


def watched_underlyings(config: Config, strategies: Sequence[Strategy]) -> tuple[str, ...]:
    """The underlyings that the metrics name."""
    universes = {symbol for strategy in strategies for symbol in strategy.universe}
    return tuple(sorted(universes | set(config.volatility.underlyings)))


def _latched(loaded: Loaded, prefix: str) -> list[str]:
    """The strategies whose latch of a kind is set."""
    return [row.latch.removeprefix(prefix) for row in loaded.latches if row.active and row.latch.startswith(prefix)]


def abbreviation(strategy: str) -> str:
    """A short word for order ids: the initials of the name's parts."""
    return "".join(part[0] for part in strategy.split("_"))

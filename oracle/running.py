"""What a running daemon shows of itself: to its console, its live view and its tests. Read-only by convention.

Inputs: none; the composition root fills it. Outputs: the parts that others may look at.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from oracle.config import Config
from oracle.core.engine import Engine
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.sessions import SessionTable
from oracle.edgetimers import Clock
from oracle.pacing import Welcome
from oracle.risk.gate import Gate
from oracle.strategies.base import Strategy
from oracle.tally import Tally


@dataclass(slots=True)
class Core:
    """The actors of one account, wired."""

    engine: Engine
    ledger: Ledger
    market: MarketState
    gate: Gate
    strategies: tuple[Strategy, ...]
    # Computes something that the next decision will need; says whether there was anything.
    prepare: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class Running:
    """What a live view and the console may look at."""

    config: Config
    core: Core
    tally: Tally
    clock: Clock
    table: SessionTable
    welcome: Welcome | None
    state: Path
    metrics_url: str = ""
    # Why stored statistics are behind the trades; "" while they are not.
    statistics_fault: Callable[[], str] = str

"""A volatility shock of known half-life, planted in the generated market, found again in the daily observations.

The market runs in process; each session's chain is quoted to the observer just before 15:45, as the feed would.
"""

import datetime as dt
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.optimize import least_squares

from oracle.calendar import load_sessions
from oracle.core.engine import Engine
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import ChainListed, ChainQuotes, DailyIvObserved, ListedContract, Quote
from oracle.core.sessions import NS, Session, SessionTable
from oracle.options.chain import Chains
from oracle.options.iv_observer import VolatilityObserver
from oracle.sim.market import GeneratedMarket
from oracle.sim.planted_options import PlantedVolShock
from oracle.sim.surface import RATE

SYMBOLS = ("IWM", "QQQ", "SPY")
SHOCKED = "SPY"
FIRST = "2026-01-05"
COUNT, SHOCK_AT, SEED = 40, 4, 7
JUMP, HALF_LIFE = 0.9, 5.0


@pytest.fixture(scope="module")
def table() -> SessionTable:
    return load_sessions(dt.date(2025, 1, 2), dt.date(2026, 7, 31))


class Watch:
    """A market and an observer of it on an engine of its own."""

    def __init__(self, table: SessionTable, seed: int, shocks: Sequence[PlantedVolShock]) -> None:
        dates = [session.date for session in table.sessions if session.date >= FIRST][:COUNT]
        self.market = GeneratedMarket(seed, table, dates, plant=[], symbols=SYMBOLS, option_plants=shocks)
        self.chains = Chains(table, rate_per_year=RATE)
        self.observer = VolatilityObserver(self.chains, table, SYMBOLS, rate_per_year=RATE)
        market, ledger = MarketState(), Ledger()
        equity = EquityKeeper(ledger, Marks(market, self.chains, 15, ledger.held))
        self.engine = Engine(table, market, self.chains, ledger, equity, self.observer)
        for actor in (self.chains, self.observer):
            self.engine.bus.subscribe(actor.handlers())
        self.engine.start(self.market.sessions[0].open_ns)

    def observe(self) -> dict[str, np.ndarray]:
        """Each symbol's 30-day volatility, session by session."""
        found: dict[str, list[float]] = {symbol: [] for symbol in SYMBOLS}
        for session in self.market.sessions:
            at_ns = session.late("15:45") - NS
            self.market.advance(at_ns)
            for symbol in SYMBOLS:
                for message in self._told(symbol, session, at_ns):
                    list(self.engine.handle(at_ns, message))
            for turn in self.engine.advance(at_ns + NS):
                for message in turn.messages:
                    if isinstance(message, DailyIvObserved):
                        found[message.underlying].append(message.iv_30d)
        return {symbol: np.array(values) for symbol, values in found.items()}

    def _told(self, symbol: str, session: Session, at_ns: int) -> tuple[Quote, ChainListed, ChainQuotes]:
        stock = self.market.touch(symbol)
        assert stock is not None
        assert stock.bid is not None
        assert stock.ask is not None
        day = dt.date.fromisoformat(session.date)
        near = [
            row
            for row in self.market.listings(symbol, session.date)
            if 20 <= (dt.date.fromisoformat(row.expiry) - day).days <= 40
            and abs(row.strike_milli / 1000 / stock.bid - 1) < 0.02
        ]
        touches = [self.market.touch(row.symbol) for row in near]
        assert all(touch is not None for touch in touches)
        nan = float("nan")
        rows = ChainListed(symbol, session.date, tuple(ListedContract(r.symbol, None, None, True) for r in near))
        quotes = ChainQuotes(
            symbol, session.date, np.arange(len(near), dtype="<i4").tobytes(),
            np.array([nan if t.bid is None else t.bid for t in touches], "<f8").tobytes(),
            np.array([nan if t.ask is None else t.ask for t in touches], "<f8").tobytes(),
            *(np.ones(len(near), "<i4").tobytes() for _ in range(2)),
            np.full(len(near), at_ns, "<i8").tobytes(),
        )  # fmt: skip
        return Quote(symbol, at_ns, stock.bid, 1, stock.ask, 1), rows, quotes


def shock(table: SessionTable) -> PlantedVolShock:
    """The plan: at the open of the fifth session."""
    date = [session.date for session in table.sessions if session.date >= FIRST][SHOCK_AT]
    return PlantedVolShock(SHOCKED, date, jump=JUMP, half_life_sessions=HALF_LIFE)


def decay(size: float, half_life: float, count: int) -> np.ndarray:
    """A shock that is there from the fifth session on and halves every ``half_life``."""
    path = np.zeros(count)
    path[SHOCK_AT:] = size * np.exp2(-np.arange(count - SHOCK_AT) / half_life)
    return path


def half_life_of(logs: np.ndarray) -> float:
    """Sessions in which a shock of log volatility halves, by least squares on the day's changes.

    Changes, because what volatility does by itself is nearly a random walk: its levels would be mistaken for decay.
    """
    fit = least_squares(
        lambda p: np.diff(logs - decay(p[0], p[1], len(logs))), (0.7, 5.0), bounds=((0.0, 0.5), (3.0, 40.0))
    )
    return float(fit.x[1])


@pytest.fixture(scope="module")
def calm_watch(table: SessionTable) -> Watch:
    """The market without a shock."""
    return Watch(table, SEED, ())


@pytest.fixture(scope="module")
def calm(calm_watch: Watch) -> dict[str, np.ndarray]:
    """What was observed of it."""
    return calm_watch.observe()


@pytest.fixture(scope="module")
def shocked(table: SessionTable) -> dict[str, np.ndarray]:
    """What was observed of the same market with the shock."""
    return Watch(table, SEED, (shock(table),)).observe()


def test_every_session_is_observed_and_near_the_markets_own_figure(
    calm_watch: Watch, calm: dict[str, np.ndarray]
) -> None:
    """The market's figure stands for an average month of 20.7 sessions at the close; real months hold 19 to 22."""
    market = calm_watch.market
    market.advance(market.sessions[-1].close_ns + NS)
    for symbol in SYMBOLS:
        own = dict(market.daily_iv(symbol))
        assert len(calm[symbol]) == COUNT
        ratio = calm[symbol] / np.array([own[session.date] for session in market.sessions])
        assert np.abs(ratio - 1).max() < 0.06
        assert abs(float(np.mean(ratio)) - 1) < 0.02


def test_the_half_life_is_recovered_beside_the_calm_market(
    calm: dict[str, np.ndarray], shocked: dict[str, np.ndarray]
) -> None:
    """Within a twentieth: only ticks and the changing length of the month are in the way."""
    assert np.array_equal(shocked["QQQ"], calm["QQQ"]), "the shock is the SPY's alone"
    assert np.array_equal(shocked[SHOCKED][:SHOCK_AT], calm[SHOCKED][:SHOCK_AT])
    excess = np.log(shocked[SHOCKED] / calm[SHOCKED])
    assert excess[SHOCK_AT] > 0.5 * JUMP
    assert half_life_of(excess) == pytest.approx(HALF_LIFE, rel=0.05)


def test_the_half_life_is_found_without_knowing_the_calm_market(shocked: dict[str, np.ndarray]) -> None:
    """Only the other indices say what volatility would have been; over seeds the estimate scatters by a quarter."""
    logs = {symbol: np.log(values) for symbol, values in shocked.items()}
    assert half_life_of(logs[SHOCKED] - (logs["QQQ"] + logs["IWM"]) / 2) == pytest.approx(HALF_LIFE, rel=0.4)

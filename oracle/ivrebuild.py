"""Daily volatilities, skew and an index from recorded sessions: a journal's chain inputs through a fresh observer.

Inputs: journal files. Outputs: for each session and underlying what the daemon would observe at 15:45 on the chain that
was recorded, or why it would not. Nothing of accounts, orders or strategies is replayed.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from oracle.build import RATE_PER_YEAR, load_strategies
from oracle.config import Config
from oracle.core.engine import Engine, Turn
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import Bar, ChainListed, ChainQuotes, DailyIvMissing, DailyIvObserved, Quote
from oracle.core.ports import NotSelected
from oracle.core.sessions import NS, SessionTable
from oracle.opening import reopen
from oracle.options.chain import Chains
from oracle.options.iv_observer import VolatilityObserver
from oracle.options.vix_style import TermVariance, VixStyle, term_quotes, term_variance, vix_style
from oracle.options.volatility import ConstantMaturity, Skew, skew
from oracle.store.journal import JournalReader

SOURCE = "journal"
MARKET = (Bar, Quote, ChainListed, ChainQuotes)
MINUTE_NS = 60 * NS


class Rebuilt(msgspec.Struct, frozen=True):
    """One underlying's session: its volatility or the reason why there is none; skew and index where there are any.

    ``index_complete`` False: a wing of the index ran out of recorded quotes, so that it reads low.
    """

    underlying: str
    date: str
    iv_30d: float | None
    reason: str
    near: str = ""
    next: str = ""
    skew_slope: float | None = None
    risk_reversal: float | None = None
    index: float | None = None
    index_complete: bool | None = None

    def observation(self) -> DailyIvObserved | None:
        """What is stored of it."""
        return None if self.iv_30d is None else DailyIvObserved(self.underlying, self.date, self.iv_30d, SOURCE)


class _Recorded:
    """Chains and observer of one segment, on an engine of their own."""

    def __init__(self, table: SessionTable, config: Config, at_ns: int) -> None:
        universes = (strategy.universe for strategy in load_strategies(config))
        underlyings = {*config.volatility.underlyings, *(symbol for universe in universes for symbol in universe)}
        age_s = max(60.0, float(config.risk.max_option_quote_age_s))
        market, ledger = MarketState(), Ledger()
        self.table = table
        self.chains = Chains(table, rate_per_year=RATE_PER_YEAR, max_age_s=age_s)
        self.observer = VolatilityObserver(
            self.chains, table, underlyings, rate_per_year=RATE_PER_YEAR, max_age_s=age_s
        )
        self.max_age_ns = round(age_s * NS)
        equity = EquityKeeper(ledger, Marks(market, self.chains, age_s, ledger.held))
        self.engine = Engine(table, market, self.chains, ledger, equity, self.observer)
        for actor in (self.chains, self.observer):
            self.engine.bus.subscribe(actor.handlers())
        self.engine.start(at_ns)

    def told(self, turn: Turn) -> Iterator[Rebuilt]:
        """What a turn says of the day's volatility."""
        for message in turn.messages:
            if isinstance(message, DailyIvObserved):
                yield self._observed(message, turn.stamped.at_ns)
            elif isinstance(message, DailyIvMissing) and message.final:
                because = message.facts.get("because")
                reason = message.what if because is None else f"{message.what}: {because}"
                yield Rebuilt(message.underlying, message.date, None, reason)

    def _observed(self, message: DailyIvObserved, at_ns: int) -> Rebuilt:
        found = Rebuilt(message.underlying, message.date, message.iv_30d, "")
        month = self.observer.month(message.underlying, at_ns)
        if not isinstance(month, ConstantMaturity):
            return found
        near, after = month.near.expiry, month.next.expiry
        smile = self.observer.smile(message.underlying, near, at_ns)
        lean = NotSelected("no_surface", {}) if smile is None else skew(smile)
        index = self._index(message.underlying, near, after, at_ns)
        return msgspec.structs.replace(
            found, near=near, next=after,
            skew_slope=lean.slope if isinstance(lean, Skew) else None,
            risk_reversal=lean.risk_reversal if isinstance(lean, Skew) else None,
            index=None if index is None else index.index, index_complete=None if index is None else index.complete,
        )  # fmt: skip

    def _index(self, underlying: str, near: str, after: str, at_ns: int) -> VixStyle | None:
        columns = self.chains.columns(underlying)
        terms: list[TermVariance] = []
        for expiry in (near, after):
            expires_ns = self.table.expiry_ns(expiry)
            if columns is None or expires_ns is None:
                return None
            quotes = term_quotes(
                columns, expiry, minutes=(expires_ns - at_ns) / MINUTE_NS, rate=RATE_PER_YEAR,
                fresh_since_ns=at_ns - self.max_age_ns,
            )  # fmt: skip
            term = quotes if isinstance(quotes, NotSelected) else term_variance(quotes)
            if isinstance(term, NotSelected):
                return None
            terms.append(term)
        index = vix_style(terms[0], terms[1])
        return None if isinstance(index, NotSelected) else index


def rebuild(path: Path) -> tuple[list[Rebuilt], str]:
    """Observe one journal segment; what was found in order of time, and what is wrong with the file, or nothing.

    Raises:
        ConfigurationError: it is not a journal, or not one of this build.
    """
    reader = JournalReader(path)
    opening = reopen(reader.opened)
    recorded = _Recorded(opening.table, opening.config, opening.at_ns)
    found: list[Rebuilt] = []
    for turn in reader.turns():
        stamped = turn.stamped
        if type(stamped.input) in MARKET:
            turns = recorded.engine.handle(stamped.at_ns, stamped.input)
        else:
            turns = recorded.engine.advance(stamped.at_ns)
        found.extend(one for told in turns for one in recorded.told(told))
    damage = reader.damage
    return found, "" if damage is None else f"read up to input {damage.seq}: {damage.reason}"

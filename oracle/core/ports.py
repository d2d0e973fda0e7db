"""What actors may see of each other: read-only views, and the answers that views give.

Inputs: none. Everything here is a protocol or a frozen struct. Views are valid for the turn in which they are
given; actors keep what they learn from messages, not views. Prices are floats (market data) unless they are owed.
"""

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from oracle.core.ivstanding import IvStanding
from oracle.core.marketdata import ChainListed, Quote
from oracle.core.message import Message
from oracle.core.messages import ExitPlan
from oracle.core.money import ZERO
from oracle.core.positioning import NO_POSITIONING, PositioningView
from oracle.core.sessions import Session, SessionTable
from oracle.core.structurechoice import SelectedStructure, StructureRequest, UsableSlice
from oracle.core.structures import legs_of
from oracle.core.vocabulary import Feed, FeedState, Side


class OptionQuote(msgspec.Struct, frozen=True):
    """The newest known quote of one contract. Each side has the vendor's time; ``received_ns`` is the turn's time.

    None is an absent side. Sizes in contracts.
    """

    symbol: str
    bid: float | None
    bid_size: int
    ask: float | None
    ask_size: int
    quoted_ns: int
    received_ns: int

    @property
    def mid(self) -> float | None:
        """The middle of a two-sided, uncrossed quote, else None."""
        if self.bid is None or self.ask is None or self.bid > self.ask:
            return None
        return (self.bid + self.ask) / 2


class DeltaRequest(msgspec.Struct, frozen=True):
    """Which contract is wanted: the nearest expiry that has one within the |delta| band and the spread rule.

    ``expiries``: ISO dates in order of preference. The spread may be at most
    ``min(max_spread_usd, max_spread_of_mid × mid)``; the quote's age at most ``max_age_s``.
    """

    underlying: str
    expiries: tuple[str, ...]
    is_call: bool
    abs_delta_low: float
    abs_delta_high: float
    max_spread_usd: float
    max_spread_of_mid: float
    max_age_s: float


class Selected(msgspec.Struct, frozen=True):
    """The chosen contract with what the choice rests on. ``forward_source``: ``parity`` or ``spot``."""

    symbol: str
    expiry: str
    quote: OptionQuote
    delta: float
    iv: float
    spot: float
    forward: float
    forward_source: str


class NotSelected(msgspec.Struct, frozen=True):
    """Why no contract could be chosen: a closed snake_case word, and counts per reason."""

    reason: str
    facts: dict[str, float | str | bool | None]


class ChainsView(Protocol):
    """The live option chains."""

    def listed(self, underlying: str) -> ChainListed | None:
        """The contracts of an underlying for this session, or None before they are known."""
        ...

    def spot(self, underlying: str, at_ns: int) -> float | None:
        """The underlying's newest price in dollars, or None when it is unknown or too old."""
        ...

    def option_quote(self, symbol: str) -> OptionQuote | None:
        """The newest quote of a contract, or None."""
        ...

    def delta(self, symbol: str, at_ns: int) -> float | None:
        """Spot delta of a long contract now, or None where no IV exists."""
        ...

    def select(self, request: DeltaRequest, at_ns: int) -> Selected | NotSelected:
        """Choose a contract by delta."""
        ...

    def expiries(self, underlying: str) -> tuple[str, ...]:
        """The listed expiries (ISO dates), nearest first; empty before the chain is known."""
        ...

    def usable(
        self, underlying: str, expiry: str, at_ns: int, max_age_s: float, min_open_interest: int = 0
    ) -> UsableSlice | NotSelected:
        """The contracts of an expiry that can be traded now, or why there is none."""
        ...

    def select_structure(self, request: StructureRequest, at_ns: int) -> SelectedStructure | NotSelected:
        """Choose the legs of a structure of one expiry."""
        ...


class MarketView(Protocol):
    """The newest stock quotes, halts and feed states."""

    def quote(self, symbol: str) -> Quote | None:
        """The newest quote of a stock, or None."""
        ...

    def received_ns(self, symbol: str) -> int | None:
        """When the newest quote of a stock entered the core, or None."""
        ...

    def halted(self, symbol: str) -> bool | None:
        """Whether the stock is halted; None until a status or a trade of this connection tells."""
        ...

    def feed(self, feed: Feed) -> FeedState:
        """A feed's state; CONNECTING until it has said otherwise."""
        ...


class PositionView(msgspec.Struct, frozen=True):
    """One symbol's position as the fold of fills: ``qty`` signed; cost is what was paid for what is held."""

    symbol: str
    qty: int
    avg_price_usd: Decimal


class LegView(msgspec.Struct, frozen=True):
    """What a trade holds of one symbol: ``qty`` signed, never 0; shares that an assignment left count as a leg."""

    symbol: str
    qty: int


class TradeView(msgspec.Struct, frozen=True):
    """An open round trip. ``contracts_open`` ≤ ``contracts_entered``, in units of ``symbol``.

    ``symbol`` is a contract or a structure's name and ``entry_price_usd`` its net price (negative: a credit). ``legs``
    is what is really held, sorted by symbol. ``cash_usd`` is what all its fills and settlements have paid (negative:
    cost) before fees, so that its result is ``cash_usd`` plus what the legs are worth.
    """

    trade_id: str
    strategy: str
    strategy_hash: str
    underlying: str
    symbol: str
    side: Side
    contracts_entered: int
    contracts_open: int
    entry_price_usd: Decimal
    entry_done: bool
    exit_plan: ExitPlan
    planned_risk_usd: Decimal
    worst_case_usd: Decimal
    opened_ns: int
    legs: tuple[LegView, ...] = ()
    cash_usd: Decimal = ZERO

    @property
    def is_whole(self) -> bool:
        """Whether exactly ``contracts_open`` whole units are held, no leg more or less."""
        return not self.beyond

    @property
    def beyond(self) -> tuple[LegView, ...]:
        """What the legs hold more (or, below zero, less) than ``contracts_open`` whole units; sorted by symbol."""
        rest = {leg.symbol: leg.qty for leg in self.legs}
        sign = self.side.sign * self.contracts_open
        for leg in legs_of(self.symbol) if sign != 0 else ():
            rest[leg.symbol] = rest.get(leg.symbol, 0) - sign * leg.signed
        return tuple(LegView(symbol, qty) for symbol, qty in sorted(rest.items()) if qty != 0)


class StrategyCaps(msgspec.Struct, frozen=True):
    """How much of a session one strategy may use, by its own ``Params``; None is no cap of its own.

    Trades are round trips that filled, with entries that still may; losses are net of modelled fees.
    """

    trades_per_session: int | None = None
    losses_in_a_row: int | None = None
    open_trades: int | None = None
    open_per_underlying: int | None = None
    trades_per_underlying_session: int | None = None


class VolatilityView(Protocol):
    """The 30-day volatility of the observed underlyings, now and in the sessions before."""

    def standing(self, underlying: str, at_ns: int) -> IvStanding | NotSelected:
        """The 30-day IV from the chain as it is now and its standing; or why there is no such IV now."""
        ...


class _NoVolatility:
    """What a core without an observer of volatility answers."""

    def standing(self, _underlying: str, _at_ns: int) -> IvStanding | NotSelected:
        return NotSelected("not_observed", {})


NO_VOLATILITY: VolatilityView = _NoVolatility()


class LedgerView(Protocol):
    """Positions, cash and open trades: a fold over fills and nothing else."""

    @property
    def seeded(self) -> bool:
        """Whether the opening cash is known."""
        ...

    @property
    def cash_usd(self) -> Decimal:
        """Cash by the ledger. Raises ProtocolError before it is seeded."""
        ...

    def realized_since(self, at_ns: int) -> Decimal:
        """P&L in dollars of what was closed from ``at_ns`` on, net of the broker's fees."""
        ...

    @property
    def held(self) -> Collection[str]:
        """The symbols that are not flat, in the order in which they came; what is returned follows the ledger."""
        ...

    def position(self, symbol: str) -> int:
        """Signed quantity held; 0 when flat."""
        ...

    def positions(self) -> Sequence[PositionView]:
        """All non-flat positions, sorted by symbol."""
        ...

    def open_trades(self) -> Sequence[TradeView]:
        """All open trades, in order of trade id."""
        ...

    def trade(self, trade_id: str) -> TradeView | None:
        """An open trade, or None."""
        ...


class EquityView(msgspec.Struct, frozen=True):
    """The account's value by ledger and marks. Each field is None while unknown; unknown means no entry."""

    equity_usd: Decimal | None
    day_start_usd: Decimal | None
    peak_usd: Decimal | None
    realized_today_usd: Decimal
    unrealized_usd: Decimal | None
    marks_stale: int


class AccountView(msgspec.Struct, frozen=True):
    """The broker's last account report; None while unknown. ``reconciled`` is the last comparison's verdict."""

    options_buying_power_usd: Decimal | None
    options_level: int | None
    trading_blocked: bool | None
    reconciled: bool
    at_ns: int | None


class Context(msgspec.Struct, frozen=True):
    """What a handler sees beside its message, for one turn. ``session`` is the trading one, else the next.

    Handlers keep no reference to it: the engine uses one for all its turns.
    """

    at_ns: int
    session: Session | None
    table: SessionTable
    market: MarketView
    chains: ChainsView
    ledger: LedgerView
    equity: EquityView
    account: AccountView
    volatility: VolatilityView = NO_VOLATILITY
    positioning: PositioningView = NO_POSITIONING

    @property
    def in_session(self) -> bool:
        """Whether regular trading is on."""
        return self.session is not None and self.session.is_open(self.at_ns)


class Handler(Protocol):
    """A bus handler: a message and the turn's context in, messages out (dispatched after the current one)."""

    def __call__(self, message: Message, context: Context, /) -> Iterable[Message]: ...

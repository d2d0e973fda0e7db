"""What a market source gives the exchange: one contract for the generator and for recorded days.

Times are UTC ns, prices dollars (float: market data), option sizes and volumes contracts, stock volumes shares.
Invariant: the market is a pure function of (source arguments, time). Nothing that is asked of a source (which
contracts are watched, which bars are read, how often) changes what it says.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from oracle.core.sessions import Session


class Touch(msgspec.Struct, frozen=True):
    """Best bid and ask of one symbol. None is an absent side (never zero). Sizes: shares, or contracts."""

    symbol: str
    at_ns: int
    bid: float | None
    bid_size: int
    ask: float | None
    ask_size: int


class Print(msgspec.Struct, frozen=True):
    """One trade on the tape. ``size`` in shares or contracts."""

    symbol: str
    at_ns: int
    price: float
    size: int
    trade_id: int
    exchange: str = "V"
    conditions: str = "@"


class SourceBar(msgspec.Struct, frozen=True):
    """A bar; ``start_ns`` is its first instant. ``trades`` (n) is 0 and ``vwap`` synthetic for recorded files."""

    symbol: str
    start_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    trades: int
    vwap: float


class Listing(msgspec.Struct, frozen=True):
    """A listed option. Open interest is the closing figure of the session dated ``open_interest_date`` (the last before
    the listing's), published before the next open.
    """

    symbol: str
    underlying: str
    expiry: str
    right: str
    strike_milli: int
    open_interest: int | None
    open_interest_date: str | None
    penny_class: bool
    close_price: float | None = None


class Status(msgspec.Struct, frozen=True):
    """A trading status change of a stock (halt, resume), with the tape's codes and words."""

    symbol: str
    at_ns: int
    status_code: str
    status_message: str
    reason_code: str
    reason_message: str


class MarketStep(msgspec.Struct, frozen=True):
    """Everything that happened in ``(previous step, at_ns]``, each list in order of (time, symbol).

    ``option_touches`` holds only watched contracts whose quote changed; bars are those that closed in the step
    (at_ns of the close ≤ the step's end). ``updated_bars`` are re-issues of an earlier bar. ``daily_bars`` are the
    session so far, at most one a minute per symbol.
    """

    at_ns: int
    touches: list[Touch]
    prints: list[Print]
    bars: list[SourceBar]
    updated_bars: list[SourceBar]
    daily_bars: list[SourceBar]
    option_touches: list[Touch]
    option_prints: list[Print]
    statuses: list[Status]


class MarketSource(Protocol):
    """A market that the exchange serves, one session after another, in time order."""

    @property
    def symbols(self) -> Sequence[str]:
        """Stock symbols, sorted."""
        ...

    @property
    def sessions(self) -> Sequence[Session]:
        """The sessions that can be traded, oldest first."""
        ...

    @property
    def declared(self) -> Sequence[Mapping[str, Any]]:
        """Planted truths, JSON-able: kind, symbol, date, at_ns and the figures of each; empty for recorded days."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """What a reader must know of this market, e.g. ``synthetic``, ``recorded``, ``synthetic vwap``."""
        ...

    def listings(self, underlying: str, date: str) -> Sequence[Listing]:
        """Contracts listed for an underlying on a session date, sorted by symbol; empty when there are none."""
        ...

    def watch(self, occ_symbols: Collection[str]) -> None:
        """Set the contracts whose quote changes must be in ``MarketStep.option_touches``."""
        ...

    def watch_trades(self, occ_symbols: Collection[str]) -> None:
        """Set the contracts whose trades must be in ``MarketStep.option_prints``, ``*`` for all.

        Until it is called those of ``watch`` are.
        """
        ...

    def advance(self, to_ns: int) -> MarketStep:
        """Move to ``to_ns`` (never back) and say what happened on the way. Outside sessions the lists are empty."""
        ...

    def touch(self, symbol: str) -> Touch | None:
        """The quote of the moment of a stock or a listed option; None before its first quote of the session."""
        ...

    def last_print(self, symbol: str) -> Print | None:
        """The last trade of the session so far, or None."""
        ...

    def bars(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Sequence[SourceBar]:
        """Bars with start in ``[start_ns, end_ns]`` that have closed by now; timeframe ``1Min`` or ``1Day``.

        Earlier sessions are included (at least 20 of minutes in the generator).
        """
        ...

    def option_bars(
        self, symbols: Collection[str], timeframe: str, start_ns: int, end_ns: int
    ) -> Mapping[str, Sequence[SourceBar]]:
        """``bars`` of option contracts, listed now or once, by symbol; those without any are left out."""
        ...

    def daily_iv(self, underlying: str) -> Sequence[tuple[str, float]]:
        """(ISO date, 30-day at-the-money IV as a fraction) of earlier sessions, oldest first; empty when unknown."""
        ...

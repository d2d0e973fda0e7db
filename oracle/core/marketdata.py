"""Inputs that say what the market does: bars, quotes, trades, listings, volatility of past days, states of feeds.

Units are in names; ``*_ns`` are UTC nanoseconds; ``None`` is unknown. Prices are floats: they feed models. Columns of
many rows are bytes, little-endian. Invariants are checked on construction.
"""

import msgspec

from oracle.core.errors import InvariantError
from oracle.core.message import Message
from oracle.core.vocabulary import Feed, FeedState


class Bar(Message, frozen=True):
    """A closed one-minute bar; ``start_ns`` is its first instant. Back-filled bars warm and never cause an entry."""

    symbol: str
    start_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    trades: int
    vwap: float
    backfilled: bool = False

    def __post_init__(self) -> None:
        prices = (self.open, self.high, self.low, self.close)
        if not all(0 < p < float("inf") for p in prices):
            raise InvariantError(f"bar {self.symbol}: a price is not positive and finite")
        if not (self.low <= min(self.open, self.close) and self.high >= max(self.open, self.close)):
            raise InvariantError(f"bar {self.symbol}: high and low do not hold open and close")
        if self.volume < 0:
            raise InvariantError(f"bar {self.symbol}: volume is negative")


class UpdatedBar(Message, frozen=True):
    """A vendor's re-issue of an earlier bar: recorded, never folded in again."""

    bar: Bar


class Quote(Message, frozen=True):
    """Best bid and ask of a stock, conflated to the newest. None is an absent side. Sizes in shares."""

    symbol: str
    quoted_ns: int
    bid: float | None
    bid_size: int
    ask: float | None
    ask_size: int

    @property
    def mid(self) -> float | None:
        """The middle of a two-sided, uncrossed quote, else None."""
        if self.bid is None or self.ask is None or self.bid > self.ask:
            return None
        return (self.bid + self.ask) / 2


class TradingStatus(Message, frozen=True):
    """A halt or resume of a stock, with the tape's words."""

    symbol: str
    at_ns: int
    code: str
    text: str
    halted: bool


class ListedContract(msgspec.Struct, frozen=True):
    """One listed option as the broker describes it. Open interest is that of ``open_interest_date`` (yesterday's)."""

    symbol: str
    open_interest: int | None
    open_interest_date: str | None
    penny_class: bool
    tradable: bool = True


class ChainListed(Message, frozen=True):
    """An underlying's contracts for a session date, sorted by symbol. Row numbers in ``ChainQuotes`` refer to it."""

    underlying: str
    date: str
    contracts: tuple[ListedContract, ...]


class ChainQuotes(Message, frozen=True):
    """Changed option quotes of one underlying since the last such input, conflated at the edge (columns as bytes).

    ``rows``: int32 indices into ``ChainListed.contracts``; ``bid``, ``ask``: float64 dollars, NaN is an absent side;
    ``bid_size``, ``ask_size``: int32 contracts; ``quoted_ns``: int64. All little-endian, equal lengths, rows ascending.
    """

    underlying: str
    date: str
    rows: bytes
    bid: bytes
    ask: bytes
    bid_size: bytes
    ask_size: bytes
    quoted_ns: bytes

    def __post_init__(self) -> None:
        n = len(self.rows) // 4
        lengths = tuple(map(len, (self.rows, self.bid, self.ask, self.bid_size, self.ask_size, self.quoted_ns)))
        if lengths != (4 * n, 8 * n, 8 * n, 4 * n, 4 * n, 8 * n):
            raise InvariantError(f"chain quotes {self.underlying}: columns differ in length {lengths}")


class OptionTrades(Message, frozen=True):
    """Trades of one underlying's options since the last such input, in order of arrival (columns as bytes).

    ``rows``: int32 indices into ``ChainListed.contracts``; ``price``: float64 dollars; ``size``: int32 contracts;
    ``traded_ns``: int64; ``venue``: one character each, a space when untold; ``bid``, ``ask``: float64 dollars of the
    quote that the edge knew when the trade was made, NaN where unknown. All little-endian, equal lengths. Trades are
    never conflated; ``lost`` counts those that a full edge had to leave out, so that nothing is concluded without them.
    """

    underlying: str
    date: str
    rows: bytes
    price: bytes
    size: bytes
    traded_ns: bytes
    venue: bytes
    bid: bytes
    ask: bytes
    lost: int = 0

    def __post_init__(self) -> None:
        n = len(self.rows) // 4
        columns = (self.rows, self.price, self.size, self.traded_ns, self.venue, self.bid, self.ask)
        lengths = tuple(map(len, columns))
        if lengths != (4 * n, 8 * n, 4 * n, 8 * n, n, 8 * n, 8 * n):
            raise InvariantError(f"option trades {self.underlying}: columns differ in length {lengths}")
        if self.lost < 0:
            raise InvariantError(f"option trades {self.underlying}: {self.lost} lost")


class ChainReadFailed(Message, frozen=True):
    """The contracts of an underlying could not be read; nothing is known of its chain until a later read."""

    underlying: str
    date: str
    text: str


class DailyIvObserved(Message, frozen=True):
    """A 30-day at-the-money implied volatility of one session (fraction, 0.2 = 20 %), and who says so. Durable."""

    underlying: str
    date: str
    iv_30d: float
    source: str

    def __post_init__(self) -> None:
        if not 0 < self.iv_30d < 10:
            raise InvariantError(f"daily IV {self.underlying} {self.date}: {self.iv_30d} is out of range")


class DailyIvRanked(Message, frozen=True):
    """Where a daily observation stands among the sessions before it; ``IvStanding`` says what the fields mean."""

    underlying: str
    date: str
    iv_30d: float
    rank: float | None
    percentile: float | None
    observations: int
    window: int
    reason: str


class DailyIvMissing(Message, frozen=True):
    """Why a session's 30-day volatility could not be observed: a snake_case word, and what was seen.

    ``final``: the session ends without one. Until then it is tried again each minute.
    """

    underlying: str
    date: str
    what: str
    facts: dict[str, float | str | bool | None]
    final: bool


class FeedChanged(Message, frozen=True):
    """A supervised feed changed state. ``epoch`` counts connections; LIVE is subscribed, acknowledged, gap-free."""

    feed: Feed
    epoch: int
    state: FeedState
    reason: str

"""The newest stock quotes, halts and feed states: a fold of market inputs with a read-only view.

Inputs: Quote, TradingStatus, FeedChanged. Outputs: none. Nothing here invents a price: what was never quoted is None.
"""

from collections.abc import Iterable

from oracle.core.bus import HandlerTable
from oracle.core.messages import Feed, FeedChanged, FeedState, Message, Quote, TradingStatus
from oracle.core.ports import Context


class MarketState:
    """The core's picture of stocks and feeds; satisfies ``ports.MarketView``."""

    __slots__ = ("_feeds", "_halted", "_quotes", "_received_ns")

    def __init__(self) -> None:
        self._quotes: dict[str, Quote] = {}
        self._received_ns: dict[str, int] = {}
        self._halted: dict[str, bool] = {}
        self._feeds: dict[Feed, FeedState] = {}

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return ((Quote, self.on_quote), (TradingStatus, self.on_status), (FeedChanged, self.on_feed))

    def on_quote(self, quote: Quote, context: Context) -> Iterable[Message]:
        """Keep the newest quote."""
        self._quotes[quote.symbol] = quote
        self._received_ns[quote.symbol] = context.at_ns
        return ()

    def on_status(self, status: TradingStatus, _context: Context) -> Iterable[Message]:
        """Keep whether trading is halted."""
        self._halted[status.symbol] = status.halted
        return ()

    def on_feed(self, change: FeedChanged, _context: Context) -> Iterable[Message]:
        """Keep the feed's state."""
        self._feeds[change.feed] = change.state
        return ()

    def quote(self, symbol: str) -> Quote | None:
        """The newest quote of a stock, or None."""
        return self._quotes.get(symbol)

    def received_ns(self, symbol: str) -> int | None:
        """When the newest quote entered the core, or None."""
        return self._received_ns.get(symbol)

    def halted(self, symbol: str) -> bool:
        """Whether the tape last said halted."""
        return self._halted.get(symbol, False)

    def feed(self, feed: Feed) -> FeedState:
        """A feed's state; CONNECTING until it has said otherwise."""
        return self._feeds.get(feed, FeedState.CONNECTING)

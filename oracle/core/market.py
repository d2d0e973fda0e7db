"""The newest stock quotes, halts and feed states: a fold of market inputs with a read-only view.

Inputs: Quote, Bar, TradingStatus, FeedChanged. Outputs: none. Nothing here invents a price: what was never quoted is
None. Whether a stock trades is None at each new connection, until a status says so or its trading shows it.
"""

from collections.abc import Iterable

from oracle.core.bus import HandlerTable
from oracle.core.marketdata import Bar, FeedChanged, Quote, TradingStatus
from oracle.core.message import Message
from oracle.core.ports import Context
from oracle.core.vocabulary import Feed, FeedState

_CUT = (FeedState.CONNECTING, FeedState.DOWN)


class MarketState:
    """The core's picture of stocks and feeds; satisfies ``ports.MarketView``."""

    __slots__ = ("_epoch", "_feeds", "_halted", "_quotes", "_received_ns", "_since_ns")

    def __init__(self) -> None:
        self._quotes: dict[str, Quote] = {}
        self._received_ns: dict[str, int] = {}
        self._halted: dict[str, bool] = {}
        self._feeds: dict[Feed, FeedState] = {}
        self._epoch = -1
        self._since_ns: int | None = None

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (Quote, self.on_quote),
            (Bar, self.on_bar),
            (TradingStatus, self.on_status),
            (FeedChanged, self.on_feed),
        )

    def on_quote(self, quote: Quote, context: Context) -> Iterable[Message]:
        """Keep the newest quote; a two-sided one shows that the stock trades."""
        self._quotes[quote.symbol] = quote
        self._received_ns[quote.symbol] = context.at_ns
        if quote.symbol not in self._halted and quote.mid is not None:
            self._shows_trading(quote.symbol, quote.quoted_ns, context)
        return ()

    def on_bar(self, bar: Bar, context: Context) -> Iterable[Message]:
        """A live bar with volume shows that the stock trades."""
        if bar.symbol not in self._halted and not bar.backfilled and bar.volume > 0:
            self._shows_trading(bar.symbol, bar.start_ns, context)
        return ()

    def on_status(self, status: TradingStatus, _context: Context) -> Iterable[Message]:
        """Keep whether trading is halted; nothing but another status changes it in this connection."""
        self._halted[status.symbol] = status.halted
        return ()

    def on_feed(self, change: FeedChanged, context: Context) -> Iterable[Message]:
        """Keep the feed's state; halts and resumes may have been missed before a new stock connection."""
        self._feeds[change.feed] = change.state
        if change.feed is Feed.STOCK and (change.epoch != self._epoch or change.state in _CUT):
            self._epoch, self._since_ns = change.epoch, context.at_ns
            self._halted.clear()
        return ()

    def _shows_trading(self, symbol: str, seen_ns: int, context: Context) -> None:
        session = context.session
        if session is None or self._since_ns is None or seen_ns < self._since_ns or not session.is_open(seen_ns):
            return
        self._halted.setdefault(symbol, False)

    def quote(self, symbol: str) -> Quote | None:
        """The newest quote of a stock, or None."""
        return self._quotes.get(symbol)

    def received_ns(self, symbol: str) -> int | None:
        """When the newest quote entered the core, or None."""
        return self._received_ns.get(symbol)

    def halted(self, symbol: str) -> bool | None:
        """Whether the stock is halted; None until this connection tells."""
        return self._halted.get(symbol)

    def feed(self, feed: Feed) -> FeedState:
        """A feed's state; CONNECTING until it has said otherwise."""
        return self._feeds.get(feed, FeedState.CONNECTING)

"""A market made of what the core was told: the exchange in process trades against a journal's recorded inputs.

Inputs: market messages of a journal with their times, through ``take``. Outputs: the ``MarketSource`` protocol and an
exchange on it. Invariants: the book at an instant is the last quote told by then; nothing is known while a feed is
down, after a restart until it is told again, or of a stock that is halted; no price or size is invented.
"""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from oracle.core.instruments import is_option, multiplier, parse_occ
from oracle.core.marketdata import Bar, ChainListed, ChainQuotes, FeedChanged, Quote, TradingStatus
from oracle.core.message import Message
from oracle.core.sessions import MINUTE_NS, Session
from oracle.core.vocabulary import Feed, FeedState
from oracle.options.columns import ChainColumns
from oracle.sim.accounts import Position
from oracle.sim.exchange import Exchange
from oracle.sim.source import Listing, MarketStep, Print, SourceBar, Touch


class ToldMarket:
    """The market as it was told. ``sizeless`` counts quotes with a price and no size, against which nothing fills."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = tuple(sessions)
        self._chains: dict[str, ChainColumns] = {}
        self._stocks: dict[str, Touch] = {}
        self._prints: dict[str, Print] = {}
        self._halted: set[str] = set()
        self._down: set[Feed] = set()
        self.sizeless = 0

    @property
    def symbols(self) -> Sequence[str]:
        """The stocks that were told of so far, sorted."""
        return sorted({*self._stocks, *self._prints, *self._chains})

    @property
    def sessions(self) -> Sequence[Session]:
        """The sessions from the journal's start on."""
        return self._sessions

    @property
    def declared(self) -> Sequence[Mapping[str, Any]]:
        """Nothing is planted."""
        return ()

    @property
    def labels(self) -> Sequence[str]:
        """That quotes are those which the recorded core was told."""
        return ("recorded inputs",)

    # ---------------------------------------------------------------------------------------- what was told

    def take(self, at_ns: int, message: Message) -> None:
        """Take a market message that the core was told at ``at_ns``.

        Raises:
            InvariantError: quotes have rows that their listing does not.
        """
        match message:
            case Quote():
                self.sizeless += _is_sizeless(message)
                self._stocks[message.symbol] = Touch(
                    message.symbol, message.quoted_ns, message.bid, message.bid_size, message.ask, message.ask_size
                )
            case ChainQuotes():
                chain = self._chains.get(message.underlying)
                if chain is not None and chain.listed.date == message.date:
                    chain.take(message, at_ns)
            case ChainListed():
                chain = ChainColumns.from_listing(message)
                before = self._chains.get(message.underlying)
                if before is not None and before.listed.date == message.date:
                    chain.copy_quotes(before)
                self._chains[message.underlying] = chain
            case Bar():
                end_ns = message.start_ns + MINUTE_NS
                self._prints[message.symbol] = Print(message.symbol, end_ns, message.close, message.volume, 0, "", "")
            case TradingStatus():
                (self._halted.add if message.halted else self._halted.discard)(message.symbol)
            case FeedChanged():
                (self._down.discard if message.state is FeedState.LIVE else self._down.add)(message.feed)
            case _:
                pass

    def forget(self) -> None:
        """Know no quote any more: the recorded process was started anew."""
        self._chains.clear()
        self._stocks.clear()
        self._halted.clear()
        self._down.clear()

    # ------------------------------------------------------------------------------------ what the exchange asks

    def listings(self, underlying: str, date: str) -> Sequence[Listing]:
        """Contracts that were listed for an underlying on a date by now, sorted by symbol; else none."""
        chain = self._chains.get(underlying)
        if chain is None or chain.listed.date != date:
            return ()
        rows = []
        for row in chain.listed.contracts:
            contract = parse_occ(row.symbol)
            rows.append(
                Listing(
                    row.symbol, underlying, contract.expiry, contract.right.value, contract.strike_milli,
                    row.open_interest, row.open_interest_date, row.penny_class,
                )
            )  # fmt: skip
        return sorted(rows, key=lambda listing: listing.symbol)

    def listing(self, symbol: str) -> Listing | None:
        """One contract's listing, or None while it has not been told."""
        chain, row = self._row(symbol)
        if chain is None:
            return None
        told, contract = chain.listed.contracts[row], parse_occ(symbol)
        return Listing(
            symbol, chain.listed.underlying, contract.expiry, contract.right.value, contract.strike_milli,
            told.open_interest, told.open_interest_date, told.penny_class,
        )  # fmt: skip

    def watch(self, occ_symbols: Collection[str]) -> None:
        """Nothing to do: what was told does not depend on what is watched now."""

    def watch_trades(self, occ_symbols: Collection[str]) -> None:
        """Nothing to do, as with ``watch``."""

    def advance(self, to_ns: int) -> MarketStep:
        """Nothing happens by itself: the record brings what happened."""
        return MarketStep(to_ns, [], [], [], [], [], [], [], [])

    def touch(self, symbol: str) -> Touch | None:
        """The last quote told; None before the first, while its feed is down, and while the stock is halted."""
        if not is_option(symbol):
            return None if Feed.STOCK in self._down or symbol in self._halted else self._stocks.get(symbol)
        chain, row = self._row(symbol)
        if chain is None or Feed.OPTION in self._down or chain.listed.underlying in self._halted:
            return None
        quote = chain.quote(row)
        if quote is None:
            return None
        return Touch(symbol, quote.quoted_ns, quote.bid, quote.bid_size, quote.ask, quote.ask_size)

    def last_print(self, symbol: str) -> Print | None:
        """The close of a stock's last bar as a trade, as with recorded days; None for options."""
        return self._prints.get(symbol)

    def bars(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Sequence[SourceBar]:
        """Nothing: the record brings the bars."""
        del symbol, timeframe, start_ns, end_ns
        return ()

    def option_bars(
        self, symbols: Collection[str], timeframe: str, start_ns: int, end_ns: int
    ) -> Mapping[str, Sequence[SourceBar]]:
        """Nothing, as with ``bars``."""
        del symbols, timeframe, start_ns, end_ns
        return {}

    def daily_iv(self, underlying: str) -> Sequence[tuple[str, float]]:
        """Nothing: the record brings them."""
        del underlying
        return ()

    def _row(self, symbol: str) -> tuple[ChainColumns | None, int]:
        """The columns and the row of a contract; None of one that no listing holds."""
        for chain in self._chains.values():
            row = chain.row_of.get(symbol)
            if row is not None:
                return chain, row
        return None, -1


class ToldExchange(Exchange):
    """An exchange on a told market: a contract can be traded from the moment at which its listing was told."""

    source: ToldMarket

    def listing(self, symbol: str) -> Listing | None:
        """The listing of an option symbol by now, or None."""
        return self.source.listing(symbol)

    def begin(self, cash_usd: Decimal, last_equity_usd: Decimal, held: Mapping[str, tuple[int, Decimal]]) -> None:
        """Set the account that a recorded core found: cash, and (signed quantity, average price) by symbol."""
        account = self.account
        account.cash_usd, account.last_equity_usd = cash_usd, last_equity_usd
        for symbol, (quantity, price_usd) in sorted(held.items()):
            cost_usd = quantity * price_usd * multiplier(symbol)
            account.positions[symbol] = Position(symbol, quantity, cost_usd)


def _is_sizeless(quote: Quote) -> bool:
    no_bid_size = quote.bid is not None and quote.bid_size <= 0
    return no_bid_size or (quote.ask is not None and quote.ask_size <= 0)

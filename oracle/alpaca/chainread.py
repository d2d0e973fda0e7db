"""A whole chain and its underlying's price over REST, for looking at it once.

Inputs: a client, an underlying, expiries. Outputs: snapshots and a spot. A request that fails raises
``TransientError``; one malformed row is counted and skipped. An absent side is None, never zero.
"""

from typing import Any

import msgspec

from oracle.alpaca import wire
from oracle.alpaca.fields import MalformedError, instant_ns, mapping_of, price_of
from oracle.alpaca.rejections import Rejections
from oracle.alpaca.rest import RestClient, must
from oracle.alpaca.translate import quote_from
from oracle.core.errors import TransientError

STOCK_LATEST_QUOTES_PATH = "/v2/stocks/quotes/latest"
STOCK_LATEST_TRADES_PATH = "/v2/stocks/trades/latest"
PAGE_LIMIT = 1000
_MAX_PAGES = 200


class OptionSnapshot(msgspec.Struct, frozen=True):
    """One contract's newest quote and the day's volume as the vendor tells them; None is untold or absent."""

    symbol: str
    bid: float | None
    ask: float | None
    quoted_ns: int | None
    volume: int | None


class Spot(msgspec.Struct, frozen=True):
    """A stock's price in dollars, when it was told, and what it is: ``quote`` (its middle) or ``trade``."""

    price: float
    at_ns: int
    source: str


class ChainReader:
    """Reads of one account's data plan."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest
        self.rejections = Rejections("chain_rest")

    async def snapshots(self, underlying: str, expiry_from: str, expiry_to: str) -> list[OptionSnapshot]:
        """The contracts of an underlying that expire in [from, to] (ISO dates), by symbol.

        Raises:
            TransientError: a page could not be read; nothing is concluded from the pages before it.
        """
        path = f"{wire.OPTION_SNAPSHOTS_PATH}/{underlying}"
        query = {
            "feed": self._rest.endpoints.option_feed,
            "expiration_date_gte": expiry_from,
            "expiration_date_lte": expiry_to,
            "limit": str(PAGE_LIMIT),
        }
        found: dict[str, OptionSnapshot] = {}
        token: object = None
        for _ in range(_MAX_PAGES):
            asked = query if token is None else {**query, "page_token": str(token)}
            body = must(await self._rest.data(path, asked), "chain snapshots")
            rows = body.get("snapshots") if isinstance(body, dict) else None
            if not isinstance(rows, dict):
                raise TransientError("chain snapshots: the answer has none")
            for symbol, row in rows.items():
                try:
                    found[symbol] = snapshot_from(symbol, row)
                except MalformedError as error:
                    self.rejections.add(error)
            before, token = token, body.get("next_page_token")
            if not token:
                return [found[symbol] for symbol in sorted(found)]
            if token == before:
                raise TransientError("chain snapshots: the same page was offered twice")
        raise TransientError(f"chain snapshots: more than {_MAX_PAGES} pages")

    async def spot(self, symbol: str) -> Spot | None:
        """A stock's price: the middle of its two-sided quote, else its last trade, else None.

        Raises:
            TransientError: it could not be read.
        """
        query = {"symbols": symbol, "feed": self._rest.endpoints.stock_feed}
        body = must(await self._rest.data(STOCK_LATEST_QUOTES_PATH, query), "stock quote")
        row = _row(body, "quotes", symbol)
        if row is not None:
            try:
                quote = quote_from(row, symbol)
            except MalformedError as error:
                self.rejections.add(error)
            else:
                if quote.mid is not None:
                    return Spot(quote.mid, quote.quoted_ns, "quote")
        body = must(await self._rest.data(STOCK_LATEST_TRADES_PATH, query), "stock trade")
        row = _row(body, "trades", symbol)
        if row is None:
            return None
        try:
            return Spot(price_of(row, "trade", "p"), instant_ns(row.get("t"), "trade", "t"), "trade")
        except MalformedError as error:
            self.rejections.add(error)
            return None


def snapshot_from(symbol: str, row: object) -> OptionSnapshot:
    """A contract's snapshot. A price of zero is an absent side.

    Raises:
        MalformedError: a field is impossible.
    """
    raw = mapping_of(row, "snapshot", "row")
    bid = ask = quoted_ns = volume = None
    if raw.get("latestQuote") is not None:
        quote = quote_from(mapping_of(raw["latestQuote"], "option_quote", "row"), symbol)
        bid, ask, quoted_ns = quote.bid, quote.ask, quote.quoted_ns
    day = raw.get("dailyBar")
    if isinstance(day, dict):
        count = day.get("v")
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise MalformedError("snapshot", "dailyBar.v", "not a count")
        volume = count
    return OptionSnapshot(symbol, bid, ask, quoted_ns, volume)


def _row(body: Any, name: str, symbol: str) -> dict[str, Any] | None:
    group = body.get(name) if isinstance(body, dict) else None
    row = group.get(symbol) if isinstance(group, dict) else None
    return row if isinstance(row, dict) else None

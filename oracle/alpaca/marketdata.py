"""Market data and reference data over REST: bars, contracts, quotes, clock, calendar, the exchange's daily IVs.

Inputs: symbols and instants. Outputs: core messages and small structs. A failed request raises ``TransientError``; one
malformed row is counted and skipped. Answers are followed through all their pages.
"""

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from oracle.alpaca import wire
from oracle.alpaca.fields import MalformedError, instant_ns, mapping_of, positive_of, rfc3339_text, text_of
from oracle.alpaca.rejections import Rejections
from oracle.alpaca.rest import RestClient, must
from oracle.alpaca.translate import bar_from, chain_listed, contract_from, option_touch
from oracle.core.errors import TransientError
from oracle.core.marketdata import Bar, ChainListed, ListedContract

_MAX_PAGES = 2000
MINUTE_NS = 60_000_000_000
OptionTouch = tuple[str, float, int, float, int, int]


class BrokerClock(msgspec.Struct, frozen=True):
    """The broker's clock, in UTC ns."""

    at_ns: int
    is_open: bool
    next_open_ns: int
    next_close_ns: int


class CalendarDay(msgspec.Struct, frozen=True):
    """One trading day of the broker's calendar; ``open`` and ``close`` are New York ``HH:MM``."""

    date: str
    open: str
    close: str


class MarketData:
    """Reads of one account's data plan."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest
        self.rejections = Rejections("data_rest")

    async def bars(
        self, symbols: Collection[str], start_ns: int, end_ns: int, timeframe: str = "1Min", backfilled: bool = True
    ) -> list[Bar]:
        """Bars that start in [start, end], once each, by (start, symbol).

        Raises:
            TransientError: a page could not be read; nothing is concluded from the pages before it.
        """
        if not symbols:
            return []
        query = {
            "symbols": ",".join(sorted(symbols)),
            "timeframe": timeframe,
            "start": rfc3339_text(start_ns),
            "end": rfc3339_text(end_ns),
            "limit": str(wire.BAR_PAGE_LIMIT),
            "adjustment": "split",
            "feed": self._rest.endpoints.stock_feed,
        }
        found: dict[tuple[int, str], Bar] = {}
        for page in await self._pages(wire.STOCK_BARS_PATH, query, "bars", self._rest.data):
            for symbol, rows in self._groups(page, "bars"):
                for row in rows if isinstance(rows, list) else ():
                    try:
                        bar = bar_from(mapping_of(row, "bar", "row"), symbol, backfilled)
                    except MalformedError as error:
                        self.rejections.add(error)
                        continue
                    if start_ns <= bar.start_ns <= end_ns:
                        found[bar.start_ns, symbol] = bar
        return [found[key] for key in sorted(found)]

    async def option_contracts(
        self,
        underlying: str,
        date: str,
        expiries: Sequence[str],
        strike_low_usd: Decimal | None = None,
        strike_high_usd: Decimal | None = None,
    ) -> ChainListed:
        """The contracts of some expiries (ISO dates) within a strike range, as the chain of a session date."""
        if not expiries:
            return ChainListed(underlying, date, ())
        query = {
            "underlying_symbols": underlying,
            "status": "active",
            "expiration_date_gte": min(expiries),
            "expiration_date_lte": max(expiries),
            "limit": str(wire.CONTRACT_PAGE_LIMIT),
        }
        if strike_low_usd is not None:
            query["strike_price_gte"] = format(strike_low_usd, "f")
        if strike_high_usd is not None:
            query["strike_price_lte"] = format(strike_high_usd, "f")
        wanted = frozenset(expiries)
        contracts: list[ListedContract] = []
        for page in await self._pages(wire.CONTRACTS_PATH, query, "option contracts", self._get_trading):
            rows = page.get("option_contracts")
            for row in rows if isinstance(rows, list) else ():
                try:
                    raw = mapping_of(row, "contract", "row")
                    contract = contract_from(raw)
                    if text_of(raw, "contract", "expiration_date") in wanted:
                        contracts.append(contract)
                except MalformedError as error:
                    self.rejections.add(error)
        return chain_listed(underlying, date, contracts)

    async def latest_option_quotes(self, symbols: Collection[str]) -> list[OptionTouch]:
        """The newest quotes of contracts, as ``Conflator.put_option`` takes them; by symbol."""
        ordered = sorted(symbols)
        found: list[OptionTouch] = []
        for first in range(0, len(ordered), wire.SNAPSHOT_SYMBOL_LIMIT):
            part = ordered[first : first + wire.SNAPSHOT_SYMBOL_LIMIT]
            query = {"symbols": ",".join(part), "feed": self._rest.endpoints.option_feed}
            for page in await self._pages(wire.OPTION_SNAPSHOTS_PATH, query, "option snapshots", self._rest.data):
                for symbol, row in self._groups(page, "snapshots"):
                    try:
                        quote = mapping_of(row, "snapshot", "row").get("latestQuote")
                        if quote is not None:
                            found.append(option_touch(mapping_of(quote, "option_quote", "row"), symbol))
                    except MalformedError as error:
                        self.rejections.add(error)
        return sorted(found)

    async def clock(self) -> BrokerClock:
        """The broker's clock. Raises MalformedError or TransientError."""
        kind = "clock"
        raw = mapping_of(must(await self._rest.trading("GET", wire.CLOCK_PATH), kind), kind, "body")
        names = ("timestamp", "next_open", "next_close")
        at_ns, open_ns, close_ns = (instant_ns(raw.get(name), kind, name) for name in names)
        if not isinstance(raw.get("is_open"), bool):
            raise MalformedError(kind, "is_open", "missing or not a truth value")
        return BrokerClock(at_ns, raw["is_open"], open_ns, close_ns)

    async def calendar(self, start: str, end: str) -> list[CalendarDay]:
        """The broker's trading days between two ISO dates. Raises MalformedError or TransientError."""
        kind = "calendar"
        body = must(await self._rest.trading("GET", wire.CALENDAR_PATH, {"start": start, "end": end}), kind)
        if not isinstance(body, list):
            raise MalformedError(kind, "body", "not a list")
        days: list[CalendarDay] = []
        for row in body:
            raw = mapping_of(row, kind, "row")
            days.append(CalendarDay(*(text_of(raw, kind, name) for name in ("date", "open", "close"))))
            try:
                dt.date.fromisoformat(days[-1].date)
            except ValueError:
                raise MalformedError(kind, "date", f"{days[-1].date[:40]!r} is not a date") from None
        return sorted(days, key=lambda day: day.date)

    async def daily_ivs(self, underlying: str) -> list[tuple[str, float]] | None:
        """Daily 30-day at-the-money IVs as (ISO date, IV), oldest first; None where the vendor has no such page.

        Only the embedded exchange knows them: at the vendor this is a 404, which is an unknown and not an empty list.
        """
        kind = "daily_iv"
        reply = await self._rest.trading("GET", f"{wire.DAILY_IV_PATH}/{underlying}")
        if reply.status == 404:
            return None
        body = must(reply, "daily implied volatilities")
        rows = body.get(kind) if isinstance(body, dict) else None
        if not isinstance(rows, list):
            raise TransientError("daily implied volatilities: the answer has no list of them")
        found: list[tuple[str, float]] = []
        for row in rows:
            try:
                raw = mapping_of(row, kind, "row")
                found.append((text_of(raw, kind, "date"), positive_of(raw, kind, "iv")))
            except MalformedError as error:
                self.rejections.add(error)
        return sorted(found)

    async def _get_trading(self, path: str, query: dict[str, str]) -> Any:
        return await self._rest.trading("GET", path, query)

    async def _pages(
        self, path: str, query: dict[str, str], what: str, get: Callable[[str, dict[str, str]], Any]
    ) -> list[dict[str, Any]]:
        pages: list[dict[str, Any]] = []
        token: object = None
        for _ in range(_MAX_PAGES):
            asked = query if token is None else {**query, "page_token": str(token)}
            body = must(await get(path, asked), what)
            if not isinstance(body, dict):
                raise TransientError(f"{what}: the answer is not an object")
            pages.append(body)
            before, token = token, body.get("next_page_token")
            if not token:
                return pages
            if token == before:
                raise TransientError(f"{what}: the same page was offered twice")
        raise TransientError(f"{what}: more than {_MAX_PAGES} pages")

    def _groups(self, page: Any, name: str) -> Iterator[tuple[str, Any]]:
        groups = page.get(name) if isinstance(page, dict) else None
        if groups is None:
            return
        if not isinstance(groups, dict):
            raise TransientError(f"{name}: not an object by symbol")
        yield from groups.items()

"""Bars of option contracts over REST: minute bars of trades, also of contracts that have expired.

Inputs: OCC symbols, instants. Output: (symbol, start, close) rows. The vendor keeps them since February 2024, and has
no history of quotes. A contract that never existed or never traded has no bars, which is no error.
"""

from collections.abc import Collection

from oracle.alpaca import wire
from oracle.alpaca.fields import MalformedError, instant_ns, mapping_of, price_of, rfc3339_text
from oracle.alpaca.marketdata import MarketData

OPTION_BARS_PATH = "/v1beta1/options/bars"
SYMBOL_LIMIT = 100
FIRST_DATE = "2024-02-01"
OptionBarClose = tuple[str, int, float]


class OptionBars(MarketData):
    """Reads of option bars on one account's data plan."""

    async def option_closes(self, symbols: Collection[str], start_ns: int, end_ns: int) -> list[OptionBarClose]:
        """Closes of the minute bars that start in [start, end], by symbol and time.

        Raises:
            TransientError: a page could not be read; nothing is concluded from the pages before it.
        """
        ordered = sorted(set(symbols))
        found: dict[tuple[str, int], float] = {}
        for first in range(0, len(ordered), SYMBOL_LIMIT):
            query = {
                "symbols": ",".join(ordered[first : first + SYMBOL_LIMIT]),
                "timeframe": "1Min",
                "start": rfc3339_text(start_ns),
                "end": rfc3339_text(end_ns),
                "limit": str(wire.BAR_PAGE_LIMIT),
            }
            for page in await self._pages(OPTION_BARS_PATH, query, "option bars", self._rest.data):
                for symbol, rows in self._groups(page, "bars"):
                    for row in rows if isinstance(rows, list) else ():
                        try:
                            raw = mapping_of(row, "option_bar", "row")
                            begun_ns = instant_ns(raw.get("t"), "option_bar", "t")
                            if start_ns <= begun_ns <= end_ns:
                                found[symbol, begun_ns] = price_of(raw, "option_bar", "c")
                        except MalformedError as error:
                            self.rejections.add(error)
        return [(symbol, begun_ns, found[symbol, begun_ns]) for symbol, begun_ns in sorted(found)]

"""Option bars: minutes, hours and days of contracts that are listed now or were once.

Inputs: what the market source keeps. Outputs: Alpaca's JSON. A bar comes only where a contract traded; expired
contracts answer for the time in which they lived, as at the vendor.
"""

from oracle.core.instruments import is_option
from oracle.core.sessions import MINUTE_NS
from oracle.sim.exchange import Exchange
from oracle.sim.rest import Call, Endpoint, Reply
from oracle.sim.rest_option_snapshots import MAX_SYMBOLS, check_feed
from oracle.sim.rest_stocks import aggregate, page, read_range, read_symbols, read_timeframe
from oracle.sim.shapes import bar_json


class OptionBarsApi:
    """GET /v1beta1/options/bars."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> list[tuple[str, str, Endpoint]]:
        """(method, path, endpoint) of each."""
        return [("GET", "/v1beta1/options/bars", self.bars)]

    def bars(self, call: Call) -> Reply:
        """Bars of at most 100 contracts."""
        check_feed(self._exchange, call)
        names, minutes = read_symbols(call, is_option, MAX_SYMBOLS), read_timeframe(call.text("timeframe"))
        start, end = read_range(call, self._exchange)
        width = MINUTE_NS if minutes is None else minutes * MINUTE_NS
        first, last = -(-start // width) * width, end // width * width + width - 1
        source = self._exchange.source
        if minutes is None:
            found = source.option_bars(names, "1Day", start, end)
        else:
            found = source.option_bars(names, "1Min", first, last)
        rows = [
            (symbol, bar.start_ns, bar)
            for symbol in sorted(found)
            for bar in (found[symbol] if width == MINUTE_NS else aggregate(found[symbol], width))
        ]
        return page("bars", rows, call, bar_json)

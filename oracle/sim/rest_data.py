"""Option market-data endpoints: trades, latest trades and quotes; snapshots and bars have files of their own.

There is no historical option quote endpoint, as at the vendor.
"""

from oracle.core.instruments import is_option
from oracle.sim.exchange import Exchange
from oracle.sim.recent import Recent
from oracle.sim.rest import Call, Endpoint, Reply
from oracle.sim.rest_option_snapshots import MAX_SYMBOLS, check_feed
from oracle.sim.rest_stocks import page, read_range, read_symbols
from oracle.sim.shapes import option_quote_json, option_trade_json

EXCHANGES = {"C": "Cboe Options Exchange", "V": "synthetic venue"}


class OptionDataApi:
    """GET /v1beta1/options/..."""

    def __init__(self, exchange: Exchange, recent: Recent) -> None:
        self._exchange = exchange
        self._recent = recent

    def routes(self) -> list[tuple[str, str, Endpoint]]:
        """(method, path, endpoint) of each."""
        return [
            ("GET", "/v1beta1/options/trades", self.trades),
            ("GET", "/v1beta1/options/trades/latest", self.latest_trades),
            ("GET", "/v1beta1/options/quotes/latest", self.latest_quotes),
            ("GET", "/v1beta1/options/meta/exchanges", self.exchanges),
        ]

    def _asked(self, call: Call) -> list[str]:
        check_feed(self._exchange, call)
        return [s for s in read_symbols(call, is_option, MAX_SYMBOLS) if self._exchange.listing(s) is not None]

    def trades(self, call: Call) -> Reply:
        """Trades published lately."""
        names = self._asked(call)
        start, end = read_range(call, self._exchange)
        rows = [(s, p.at_ns, p) for s in names for p in self._recent.prints(s, start, end)]
        return page("trades", rows, call, option_trade_json)

    def latest_trades(self, call: Call) -> Reply:
        """The last trade of the session of each contract."""
        found = {s: self._exchange.source.last_print(s) for s in self._asked(call)}
        return Reply({"trades": {s: option_trade_json(p) for s, p in found.items() if p is not None}})

    def latest_quotes(self, call: Call) -> Reply:
        """The quote of the moment of each contract."""
        found = {s: self._exchange.source.touch(s) for s in self._asked(call)}
        return Reply({"quotes": {s: option_quote_json(t) for s, t in found.items() if t is not None}})

    def exchanges(self, _call: Call) -> Reply:
        """The venues behind the one-letter codes."""
        return Reply(EXCHANGES)

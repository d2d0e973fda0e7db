"""Option market-data endpoints: chain and contract snapshots, bars, trades, their latest.

There is no historical option quote endpoint, as at the vendor. ``impliedVolatility`` and ``greeks`` are left out of
snapshots (the vendor leaves them out for illiquid and expiring contracts); clients compute their own.
"""

from collections.abc import Iterable
from typing import Any

from oracle.core.instruments import is_option
from oracle.sim.errors import RefusedError, bad_data_request
from oracle.sim.exchange import Exchange
from oracle.sim.recent import Recent
from oracle.sim.rest import Call, Endpoint, Reply
from oracle.sim.rest_reference import ContractFilter
from oracle.sim.rest_stocks import bars_of, page, read_range, read_symbols, read_timeframe
from oracle.sim.shapes import bar_json, option_quote_json, option_trade_json

MAX_SYMBOLS = 100
EXCHANGES = {"C": "Cboe Options Exchange", "V": "synthetic venue"}


class OptionDataApi:
    """GET /v1beta1/options/..."""

    def __init__(self, exchange: Exchange, recent: Recent) -> None:
        self._exchange = exchange
        self._recent = recent

    def routes(self) -> list[tuple[str, str, Endpoint]]:
        """(method, path, endpoint) of each."""
        return [
            ("GET", "/v1beta1/options/bars", self.bars),
            ("GET", "/v1beta1/options/trades", self.trades),
            ("GET", "/v1beta1/options/trades/latest", self.latest_trades),
            ("GET", "/v1beta1/options/quotes/latest", self.latest_quotes),
            ("GET", "/v1beta1/options/snapshots", self.snapshots),
            ("GET", "/v1beta1/options/snapshots/{underlying}", self.chain),
            ("GET", "/v1beta1/options/meta/exchanges", self.exchanges),
        ]

    def _check_feed(self, call: Call) -> None:
        feed = call.text("feed")
        if feed not in (None, "opra", "indicative"):
            raise bad_data_request(f"invalid feed: {feed}")
        if feed == "opra" and self._exchange.config.plan == "basic":
            raise RefusedError(403, None, "OPRA agreement is not signed")

    def _asked(self, call: Call) -> list[str]:
        self._check_feed(call)
        return [s for s in read_symbols(call, is_option, MAX_SYMBOLS) if self._exchange.listing(s) is not None]

    def bars(self, call: Call) -> Reply:
        """Bars of contracts, as far as the source keeps them."""
        names, minutes = self._asked(call), read_timeframe(call.text("timeframe"))
        start, end = read_range(call, self._exchange)
        rows = [(s, b.start_ns, b) for s in names for b in bars_of(self._exchange, s, minutes, start, end)]
        return page("bars", rows, call, bar_json)

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

    def snapshots(self, call: Call) -> Reply:
        """Snapshots of at most 100 named contracts."""
        return self._page(self._asked(call), call)

    def chain(self, call: Call) -> Reply:
        """Snapshots of an underlying's whole chain, filtered and paged."""
        self._check_feed(call)
        keep = ContractFilter(call)
        rows = self._exchange.chain(call.path["underlying"]).values()
        return self._page(sorted(r.symbol for r in rows if keep.keeps(r)), call)

    def _page(self, symbols: Iterable[str], call: Call) -> Reply:
        limit = call.whole("limit", 100, 1, 1000)
        token = call.text("page_token") or ""
        left = [s for s in symbols if s > token]
        chosen = left[:limit]
        following = chosen[-1] if len(left) > limit else None
        return Reply({"snapshots": {s: self._snapshot(s) for s in chosen}, "next_page_token": following})

    def _snapshot(self, symbol: str) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if (last := self._exchange.source.last_print(symbol)) is not None:
            body["latestTrade"] = option_trade_json(last)
        if (touch := self._exchange.source.touch(symbol)) is not None:
            body["latestQuote"] = option_quote_json(touch)
        return body

    def exchanges(self, _call: Call) -> Reply:
        """The venues behind the one-letter codes."""
        return Reply(EXCHANGES)

"""Stock market-data endpoints: bars, quotes, trades, their latest, snapshots; and paging for all data endpoints.

Bars come from the source (1Min, 1Day; other minutes and hours are aggregated here); historical quotes and trades are
what was published lately (``recent.py``). A page is ordered by symbol, then time, across all symbols.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from oracle.core.instruments import is_equity
from oracle.core.sessions import MINUTE_NS
from oracle.sim.errors import RefusedError, bad_data_request
from oracle.sim.exchange import Exchange
from oracle.sim.recent import Recent
from oracle.sim.rest import Call, Endpoint, Reply
from oracle.sim.shapes import NEW_YORK, bar_json, new_york, parse_instant, stock_quote_json, stock_trade_json
from oracle.sim.source import SourceBar

_TIMEFRAME = re.compile(r"(\d{1,2})(Min|T|Hour|H|Day|D)")
T = TypeVar("T")
Row = tuple[str, int, T]


def read_timeframe(text: str | None) -> int | None:
    """Minutes of a timeframe such as ``5Min`` or ``1Hour``; None for ``1Day``.

    Raises:
        RefusedError: 400, missing or not served.
    """
    match = _TIMEFRAME.fullmatch(text or "")
    if match is None:
        raise bad_data_request(f"invalid timeframe: {text}")
    count, unit = int(match[1]), match[2]
    if unit in ("Day", "D") and count == 1:
        return None
    if unit in ("Min", "T") and 1 <= count <= 59:
        return count
    if unit in ("Hour", "H") and 1 <= count <= 23:
        return count * 60
    raise bad_data_request(f"invalid timeframe: {text}")


def aggregate(bars: Iterable[SourceBar], width_ns: int) -> list[SourceBar]:
    """Join bars of one symbol into wider ones aligned to the epoch; vwap is weighted by volume."""
    groups: dict[int, list[SourceBar]] = {}
    for bar in bars:
        groups.setdefault(bar.start_ns // width_ns * width_ns, []).append(bar)
    return [_join(start, group) for start, group in groups.items()]


def _join(start_ns: int, group: Sequence[SourceBar]) -> SourceBar:
    volume = sum(b.volume for b in group)
    vwap = sum(b.vwap * b.volume for b in group) / volume if volume else group[-1].close
    return SourceBar(
        symbol=group[0].symbol,
        start_ns=start_ns,
        open=group[0].open,
        high=max(b.high for b in group),
        low=min(b.low for b in group),
        close=group[-1].close,
        volume=volume,
        trades=sum(b.trades for b in group),
        vwap=round(vwap, 6),
    )


def read_range(call: Call, exchange: Exchange) -> tuple[int, int]:
    """``start`` and ``end`` in ns; by default from New York midnight of today to now."""
    start, end = call.text("start"), call.text("end")
    midnight = new_york(exchange.now_ns).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=NEW_YORK)
    start_ns = int(midnight.timestamp()) * 10**9 if start is None else parse_instant(start, "start")
    end_ns = exchange.now_ns if end is None else parse_instant(end, "end", end_of_day=True)
    if end_ns < start_ns:
        raise bad_data_request("end should not be before start")
    return start_ns, min(end_ns, exchange.now_ns)


def read_symbols(call: Call, fits: Callable[[str], bool], most: int = 1000) -> list[str]:
    """The symbols asked for, sorted and unique.

    Raises:
        RefusedError: 400, none, too many, or not of the right shape.
    """
    names = call.symbols()
    if not names:
        raise bad_data_request("symbols is required")
    if len(names) > most:
        raise bad_data_request(f"too many symbols: at most {most}")
    for name in names:
        if not fits(name):
            raise bad_data_request(f"invalid symbol: {name}")
    return sorted(set(names))


def page(key: str, rows: Sequence[Row[T]], call: Call, show: Callable[[T], Any]) -> Reply:
    """One page of (symbol, ns, item) rows under ``key``, with the token of the next; ``show`` makes an item's JSON."""
    if call.text("sort") == "desc":
        rows = _descending(rows)
    start = _place(rows, call.text("page_token"))
    limit = call.whole("limit", 1000, 1, 10_000)
    chosen = rows[start : start + limit]
    body: dict[str, list[Any]] = {}
    for symbol, _, item in chosen:
        body.setdefault(symbol, []).append(show(item))
    last = start + limit
    token = None
    if last < len(rows):
        symbol, at_ns, _ = rows[last - 1]
        same = sum(r[1] == at_ns and r[0] == symbol for r in rows[:last])
        token = base64.urlsafe_b64encode(f"{symbol}|{at_ns}|{same}".encode()).decode()
    return Reply({key: body, "next_page_token": token})


def _descending(rows: Sequence[Row[T]]) -> list[Row[T]]:
    newest_first = sorted(rows, key=lambda r: r[1], reverse=True)
    return sorted(newest_first, key=lambda r: r[0])


def _place(rows: Sequence[Row[T]], token: str | None) -> int:
    if token is None:
        return 0
    try:
        symbol, at_text, same_text = base64.urlsafe_b64decode(token).decode().split("|")
        at_ns, same = int(at_text), int(same_text)
    except (ValueError, binascii.Error):
        raise bad_data_request("invalid page_token") from None
    seen = 0
    for index, row in enumerate(rows):
        seen += row[1] == at_ns and row[0] == symbol
        if seen == same:
            return index + 1
    raise bad_data_request("invalid page_token")


def bars_of(exchange: Exchange, symbol: str, minutes: int | None, start_ns: int, end_ns: int) -> Sequence[SourceBar]:
    """Bars of one symbol in a timeframe (None: daily) with start in the range."""
    if minutes is None:
        return exchange.source.bars(symbol, "1Day", start_ns, end_ns)
    if minutes == 1:
        return exchange.source.bars(symbol, "1Min", start_ns, end_ns)
    width = minutes * MINUTE_NS
    first = -(-start_ns // width) * width
    last = end_ns // width * width + width - 1
    return aggregate(exchange.source.bars(symbol, "1Min", first, last), width)


class StockDataApi:
    """GET /v2/stocks/..."""

    def __init__(self, exchange: Exchange, recent: Recent) -> None:
        self._exchange = exchange
        self._recent = recent

    def routes(self) -> list[tuple[str, str, Endpoint]]:
        """(method, path, endpoint) of each."""
        return [
            ("GET", "/v2/stocks/bars", self.bars),
            ("GET", "/v2/stocks/quotes", self.quotes),
            ("GET", "/v2/stocks/trades", self.trades),
            ("GET", "/v2/stocks/bars/latest", self.latest_bars),
            ("GET", "/v2/stocks/quotes/latest", self.latest_quotes),
            ("GET", "/v2/stocks/trades/latest", self.latest_trades),
            ("GET", "/v2/stocks/snapshots", self.snapshots),
        ]

    def _check_feed(self, call: Call) -> None:
        feed = call.text("feed")
        if feed not in (None, "iex", "sip", "delayed_sip", "otc"):
            raise bad_data_request(f"invalid feed: {feed}")
        if feed == "sip" and self._exchange.config.plan == "basic":
            raise RefusedError(403, None, "subscription does not permit querying recent SIP data")

    def _asked(self, call: Call) -> list[str]:
        self._check_feed(call)
        served = self._exchange.source.symbols
        return [s for s in read_symbols(call, is_equity) if s in served]

    def bars(self, call: Call) -> Reply:
        """Bars of one or more stocks."""
        names, minutes = self._asked(call), read_timeframe(call.text("timeframe"))
        start, end = read_range(call, self._exchange)
        rows = [(s, b.start_ns, b) for s in names for b in bars_of(self._exchange, s, minutes, start, end)]
        return page("bars", rows, call, bar_json)

    def quotes(self, call: Call) -> Reply:
        """Quotes published lately."""
        names = self._asked(call)
        start, end = read_range(call, self._exchange)
        rows = [(s, t.at_ns, t) for s in names for t in self._recent.touches(s, start, end)]
        return page("quotes", rows, call, stock_quote_json)

    def trades(self, call: Call) -> Reply:
        """Trades published lately."""
        names = self._asked(call)
        start, end = read_range(call, self._exchange)
        rows = [(s, p.at_ns, p) for s in names for p in self._recent.prints(s, start, end)]
        return page("trades", rows, call, stock_trade_json)

    def _last_bar(self, symbol: str, timeframe: str) -> SourceBar | None:
        source, session = self._exchange.source, self._exchange.session
        bars = source.bars(symbol, timeframe, session.open_ns, self._exchange.now_ns)
        return bars[-1] if bars else None

    def latest_bars(self, call: Call) -> Reply:
        """The last closed minute bar of the session."""
        found = {s: self._last_bar(s, "1Min") for s in self._asked(call)}
        return Reply({"bars": {s: bar_json(b) for s, b in found.items() if b is not None}})

    def latest_quotes(self, call: Call) -> Reply:
        """The quote of the moment."""
        found = {s: self._exchange.source.touch(s) for s in self._asked(call)}
        return Reply({"quotes": {s: stock_quote_json(t) for s, t in found.items() if t is not None}})

    def latest_trades(self, call: Call) -> Reply:
        """The last trade of the session."""
        found = {s: self._exchange.source.last_print(s) for s in self._asked(call)}
        return Reply({"trades": {s: stock_trade_json(p) for s, p in found.items() if p is not None}})

    def snapshots(self, call: Call) -> Reply:
        """Snapshots, symbols at the top level; parts that do not exist yet are left out."""
        return Reply({s: self._snapshot(s) for s in self._asked(call)})

    def _snapshot(self, symbol: str) -> dict[str, Any]:
        source, session = self._exchange.source, self._exchange.session
        body: dict[str, Any] = {}
        if (last := source.last_print(symbol)) is not None:
            body["latestTrade"] = stock_trade_json(last)
        if (touch := source.touch(symbol)) is not None:
            body["latestQuote"] = stock_quote_json(touch)
        if (minute := self._last_bar(symbol, "1Min")) is not None:
            body["minuteBar"] = bar_json(minute)
        today = aggregate(source.bars(symbol, "1Min", session.open_ns, self._exchange.now_ns), 24 * 60 * MINUTE_NS)
        if today:
            midnight = new_york(session.open_ns).replace(hour=0, minute=0)
            start_ns = int(midnight.timestamp()) * 10**9
            body["dailyBar"] = {**bar_json(today[0]), "t": bar_json(_moved(today[0], start_ns))["t"]}
        earlier = source.bars(symbol, "1Day", 0, session.open_ns - MINUTE_NS)
        before = [b for b in earlier if new_york(b.start_ns).date().isoformat() < session.date]
        if before:
            body["prevDailyBar"] = bar_json(before[-1])
        return body


def _moved(bar: SourceBar, start_ns: int) -> SourceBar:
    return SourceBar(bar.symbol, start_ns, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades, bar.vwap)

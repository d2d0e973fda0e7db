"""Option snapshots: of named contracts, and of an underlying's whole chain, filtered and paged.

Inputs: quotes and last trades of the market. Outputs: Alpaca's JSON. ``impliedVolatility`` and ``greeks`` are computed
from the mid (European, rate 4 %, no dividends; theta a day, vega and rho a percentage point) and, as at the vendor, are
absent where they would mean little: a side missing, a spread above a quarter of the mid, a price that no volatility
explains, a delta within 0.02 of nothing or all, expiry today.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr

from oracle.core.instruments import is_option, parse_occ
from oracle.options.pricing import implied_vol
from oracle.sim.errors import RefusedError, bad_data_request
from oracle.sim.exchange import Exchange
from oracle.sim.noise import Floats
from oracle.sim.rest import Call, Endpoint, Reply
from oracle.sim.rest_reference import ContractFilter
from oracle.sim.rest_stocks import read_symbols
from oracle.sim.shapes import option_quote_json, option_trade_json
from oracle.sim.source import Touch
from oracle.sim.surface import RATE, YEAR_NS

MAX_SYMBOLS = 100
_WIDEST = 0.25  # spread over mid
_LEAST_DELTA = 0.02
_DIGITS = 6
_ROOT_2PI = float(np.sqrt(2.0 * np.pi))


def check_feed(exchange: Exchange, call: Call) -> None:
    """Refuse an option feed that does not exist or that the plan does not pay for.

    Raises:
        RefusedError: 400 or 403.
    """
    feed = call.text("feed")
    if feed not in (None, "opra", "indicative"):
        raise bad_data_request(f"invalid feed: {feed}")
    if feed == "opra" and exchange.config.plan == "basic":
        raise RefusedError(403, None, "OPRA agreement is not signed")


class OptionSnapshotApi:
    """GET /v1beta1/options/snapshots[/{underlying}]."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> list[tuple[str, str, Endpoint]]:
        """(method, path, endpoint) of each."""
        return [
            ("GET", "/v1beta1/options/snapshots", self.snapshots),
            ("GET", "/v1beta1/options/snapshots/{underlying}", self.chain),
        ]

    def snapshots(self, call: Call) -> Reply:
        """Snapshots of at most 100 named contracts."""
        check_feed(self._exchange, call)
        names = read_symbols(call, is_option, MAX_SYMBOLS)
        return self._page([s for s in names if self._exchange.listing(s) is not None], call)

    def chain(self, call: Call) -> Reply:
        """Snapshots of an underlying's whole chain."""
        check_feed(self._exchange, call)
        keep = ContractFilter(call)
        rows = self._exchange.chain(call.path["underlying"]).values()
        return self._page(sorted(r.symbol for r in rows if keep.keeps(r)), call)

    def _page(self, symbols: Iterable[str], call: Call) -> Reply:
        limit = call.whole("limit", 100, 1, 1000)
        token = call.text("page_token") or ""
        left = [s for s in symbols if s > token]
        chosen = left[:limit]
        following = chosen[-1] if len(left) > limit else None
        touches = {s: self._exchange.source.touch(s) for s in chosen}
        known = self._known(touches)
        found = {s: self._snapshot(s, touches[s], known.get(s, {})) for s in chosen}
        return Reply({"snapshots": found, "next_page_token": following})

    def _snapshot(self, symbol: str, touch: Touch | None, known: Mapping[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if (last := self._exchange.source.last_print(symbol)) is not None:
            body["latestTrade"] = option_trade_json(last)
        if touch is not None:
            body["latestQuote"] = option_quote_json(touch)
        return {**body, **known}

    def _known(self, touches: Mapping[str, Touch | None]) -> dict[str, Mapping[str, Any]]:
        """Implied volatility and greeks of the contracts that have them."""
        rows = [row for symbol, touch in touches.items() if (row := self._row(symbol, touch)) is not None]
        if not rows:
            return {}
        figures = greeks(*(np.array([row[n] for row in rows], dtype=np.float64) for n in range(1, 6)))
        return {row[0]: shown for row, shown in zip(rows, figures, strict=True) if shown is not None}

    def _row(self, symbol: str, touch: Touch | None) -> tuple[str, float, float, float, float, bool] | None:
        """(symbol, mid, spot, strike, years, is call) of a contract that may have greeks."""
        if touch is None or touch.bid is None or touch.ask is None:
            return None
        exchange, contract = self._exchange, parse_occ(symbol)
        mid = (touch.bid + touch.ask) / 2
        stock = exchange.source.touch(contract.root)
        expiry_ns = exchange.table.expiry_ns(contract.expiry)
        if stock is None or stock.bid is None or stock.ask is None or expiry_ns is None:
            return None
        if contract.expiry <= exchange.session.date or touch.ask - touch.bid > _WIDEST * mid:
            return None
        years = (expiry_ns - exchange.now_ns) / YEAR_NS
        return symbol, mid, (stock.bid + stock.ask) / 2, contract.strike, years, contract.is_call


def greeks(
    mid: Floats, spot: Floats, strike: Floats, years: Floats, is_call: Floats
) -> Sequence[Mapping[str, Any] | None]:
    """Compute each contract's two keys of a snapshot, None where there is no sensible figure; ``is_call`` is 1 or 0."""
    call = is_call > 0
    discount = np.exp(-RATE * years)
    vol = implied_vol(mid, spot / discount, strike, years, call, discount)
    with np.errstate(all="ignore"):
        root = vol * np.sqrt(years)
        d1 = (np.log(spot / strike) + RATE * years) / root + 0.5 * root
        sign = np.where(call, 1.0, -1.0)
        density = np.exp(-0.5 * d1 * d1) / _ROOT_2PI
        owed = strike * discount * ndtr(sign * (d1 - root))
        delta = sign * ndtr(sign * d1)
        columns = {
            "delta": delta,
            "gamma": density / (spot * root),
            "rho": sign * years * owed / 100.0,
            "theta": (-spot * density * vol / (2.0 * np.sqrt(years)) - sign * RATE * owed) / 365.0,
            "vega": spot * density * np.sqrt(years) / 100.0,
        }
    sensible = np.isfinite(vol) & (np.abs(delta) > _LEAST_DELTA) & (np.abs(delta) < 1.0 - _LEAST_DELTA)
    out: list[Mapping[str, Any] | None] = []
    for n, fits in enumerate(sensible.tolist()):
        shown = {name: round(float(column[n]), _DIGITS) for name, column in columns.items()}
        out.append({"impliedVolatility": round(float(vol[n]), _DIGITS), "greeks": shown} if fits else None)
    return out

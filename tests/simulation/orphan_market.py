"""A small market for thousands of runs: one stock that walks, a dozen strikes priced from it, two short sessions.

Inputs: a seed. Outputs: a ``MarketSource``. Sessions are half-days of 150 minutes, so that every rule that counts from
the close applies; quotes are Black's prices at a flat volatility, in cents, without a bid where nothing is left.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any

from oracle.core.instruments import OptionContract, Right
from oracle.core.sessions import MINUTE_NS, NS, Session, SessionTable
from oracle.sim.source import Listing, MarketStep, Print, SourceBar, Touch

OPEN_NS = 1_767_623_400 * NS  # 2026-01-05 09:30 New York
DATES = ("2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08", "2026-01-09")
LENGTH_MIN = 150
STRIKES = range(590, 611)
YEAR_S = 365 * 86_400
VOLATILITY = 0.6
# Bars are told while an entry is possible: after it nothing asks for them, and each costs a look at the whole chain.
BARS_NS = 65 * MINUTE_NS
TABLE = SessionTable(
    Session(date, OPEN_NS + n * 86_400 * NS, OPEN_NS + n * 86_400 * NS + LENGTH_MIN * MINUTE_NS)
    for n, date in enumerate(DATES)
)


def _normal(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def black(spot: float, strike: float, years: float, is_call: bool) -> float:
    """An option's price without interest; intrinsic value once it has ended."""
    if years <= 0:
        return max(spot - strike if is_call else strike - spot, 0.0)
    deviation = VOLATILITY * math.sqrt(years)
    d1 = math.log(spot / strike) / deviation + deviation / 2
    call = spot * _normal(d1) - strike * _normal(d1 - deviation)
    return call if is_call else call - spot + strike


class SmallMarket:
    """A ``MarketSource`` whose stock walks as the seed says, wilder with some seeds than with others."""

    symbols: Sequence[str] = ("SPY",)
    labels: Sequence[str] = ("orphans",)
    declared: Sequence[Mapping[str, Any]] = ()

    def __init__(self, seed: int) -> None:
        random = Random(f"orphans {seed}")
        self.sessions = TABLE.sessions[:2]
        self.now_ns = OPEN_NS - 600 * NS
        step = 600 * random.choice((0.0002, 0.0006, 0.0012))
        self._closes: dict[str, list[float]] = {}
        price = 600.0
        for session in self.sessions:
            price += random.gauss(0, 2 * step)
            self._closes[session.date] = [price := price + random.gauss(0, step) for _ in range(LENGTH_MIN + 1)]
        self._watched: tuple[str, ...] = ()
        self._contracts = {
            contract.occ: contract
            for date in DATES[:2]
            for right in Right
            for strike in STRIKES
            for contract in (OptionContract("SPY", date, right, strike * 1000),)
        }

    def spot(self, at_ns: int) -> float:
        """The stock's price, between the minutes on a straight line."""
        session = TABLE.latest(at_ns)
        closes = self._closes[(session or self.sessions[0]).date]
        minutes = max(0.0, (at_ns - (session or self.sessions[0]).open_ns) / MINUTE_NS)
        whole = min(int(minutes), LENGTH_MIN)
        after = closes[min(whole + 1, LENGTH_MIN)]
        return closes[whole] + (after - closes[whole]) * min(minutes - whole, 1.0)

    def listings(self, underlying: str, date: str) -> Sequence[Listing]:
        return [
            Listing(s, "SPY", c.expiry, c.right.value, c.strike_milli, 100, None, True)
            for s, c in sorted(self._contracts.items())
            if underlying == "SPY" and c.expiry >= date
        ]

    def watch(self, occ_symbols: Collection[str]) -> None:
        self._watched = tuple(sorted(occ_symbols))

    def watch_trades(self, occ_symbols: Collection[str]) -> None:
        del occ_symbols

    def touch(self, symbol: str) -> Touch | None:
        at_ns = self.now_ns
        if symbol == "SPY":
            mid = round(self.spot(at_ns), 2)
            return Touch(symbol, at_ns, round(mid - 0.01, 2), 10_000, round(mid + 0.01, 2), 10_000)
        contract = self._contracts.get(symbol)
        end_ns = None if contract is None else TABLE.expiry_ns(contract.expiry)
        if contract is None or end_ns is None or at_ns > end_ns:
            return None
        years = (end_ns - at_ns) / NS / YEAR_S
        price = black(self.spot(at_ns), contract.strike, years, contract.is_call)
        half = 0.002 + 0.004 * price
        bid, ask = math.floor((price - half) * 100) / 100, math.ceil((price + half) * 100) / 100
        return Touch(symbol, at_ns, bid if bid > 0 else None, 50 if bid > 0 else 0, ask, 50)

    def last_print(self, symbol: str) -> Print | None:
        del symbol
        return None

    def advance(self, to_ns: int) -> MarketStep:
        before, self.now_ns = self.now_ns, to_ns
        session = TABLE.latest(to_ns)
        if session is None or to_ns > session.close_ns:
            return MarketStep(to_ns, [], [], [], [], [], [], [], [])
        stock = self.touch("SPY")
        bars = [
            self._bar(start_ns)
            for start_ns in range(session.open_ns, min(to_ns, session.open_ns + BARS_NS) - MINUTE_NS + 1, MINUTE_NS)
            if start_ns + MINUTE_NS > before
        ]
        options = [touch for touch in map(self.touch, self._watched) if touch is not None]
        return MarketStep(to_ns, [] if stock is None else [stock], [], bars, [], [], options, [], [])

    def _bar(self, start_ns: int) -> SourceBar:
        first, last = self.spot(start_ns), self.spot(start_ns + MINUTE_NS)
        high, low = max(first, last), min(first, last)
        return SourceBar("SPY", start_ns, first, high, low, last, 10_000, 100, (first + last) / 2)

    def bars(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Sequence[SourceBar]:
        del symbol, timeframe, start_ns, end_ns
        return []

    def option_bars(
        self, symbols: Collection[str], timeframe: str, start_ns: int, end_ns: int
    ) -> Mapping[str, Sequence[SourceBar]]:
        del symbols, timeframe, start_ns, end_ns
        return {}

    def daily_iv(self, underlying: str) -> Sequence[tuple[str, float]]:
        del underlying
        return []

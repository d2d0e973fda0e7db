"""The bench's market: three underlyings that stand still, one expiry of options priced by Black's formula.

Outputs: raw messages as the vendor's streams and REST give them. Prices are constant, so that every event costs the
same; times are the moment's.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from oracle.alpaca.fields import rfc3339_text
from oracle.calendar import load_sessions
from oracle.core.instruments import OptionContract, Right
from oracle.core.sessions import MINUTE_NS, NS, Session, SessionTable
from oracle.options.pricing import black_forward

DATE = "2026-01-05"
EXPIRY = "2026-01-09"
SPOTS = {"SPY": 600.0, "QQQ": 500.0, "IWM": 220.0}
VOL = 0.20
# Strikes on each side of the money; with both rights 66 contracts an underlying, a third of the basic plan's 200.
STRIKES_A_SIDE = 16
HALF_SPREAD_USD = 0.02
YEARS = 4 / 365


@dataclass(frozen=True, slots=True)
class Contract:
    """One listed option and its unchanging quote."""

    symbol: str
    underlying: str
    strike: float
    bid: float
    ask: float


def sessions() -> tuple[SessionTable, Session]:
    """The calendar around the bench's day, and the day."""
    table = load_sessions(dt.date(2025, 10, 1), dt.date(2026, 3, 1))
    day = table.on(DATE)
    assert day is not None
    return table, day


def contracts() -> dict[str, Contract]:
    """Every option by OCC symbol."""
    found: dict[str, Contract] = {}
    for underlying, spot in SPOTS.items():
        strikes = spot + np.arange(-STRIKES_A_SIDE, STRIKES_A_SIDE + 1, dtype=np.float64)
        for right in Right:
            mids = black_forward(spot, strikes, YEARS, VOL, right is Right.CALL)
            for strike, mid in zip(strikes.tolist(), mids.tolist(), strict=True):
                symbol = OptionContract(underlying, EXPIRY, right, round(strike * 1000)).occ
                middle = max(round(mid, 2), 2 * HALF_SPREAD_USD)
                bid, ask = round(middle - HALF_SPREAD_USD, 2), round(middle + HALF_SPREAD_USD, 2)
                found[symbol] = Contract(symbol, underlying, strike, bid, ask)
    return found


def wire_time(at_ns: int) -> msgpack.Timestamp:
    """An instant as the streams encode it."""
    return msgpack.Timestamp(at_ns // NS, at_ns % NS)


def quote_message(symbol: str, at_ns: int, bid: float, ask: float) -> dict[str, Any]:
    """A stream's quote of a stock or an option."""
    return {"T": "q", "S": symbol, "bp": bid, "bs": 10, "ap": ask, "as": 10, "t": wire_time(at_ns)}


def bar_message(symbol: str, start_ns: int, close: float) -> dict[str, Any]:
    """A stream's minute bar."""
    prices = {"o": close, "h": close, "l": close, "c": close, "v": 1000, "n": 10, "vw": close}
    return {"T": "b", "S": symbol, **prices, "t": wire_time(start_ns)}


def rest_bars(symbol: str, start_ns: int, end_ns: int) -> list[dict[str, Any]]:
    """Minute bars that start in [start, end], as REST gives them."""
    first = -(-start_ns // MINUTE_NS) * MINUTE_NS
    rows = []
    for at_ns in range(first, end_ns + 1, MINUTE_NS):
        bar = bar_message(symbol, at_ns, SPOTS[symbol])
        rows.append({**{name: bar[name] for name in ("o", "h", "l", "c", "v", "n", "vw")}, "t": rfc3339_text(at_ns)})
    return rows


def rest_quote(contract: Contract, at_ns: int) -> dict[str, Any]:
    """An option's latest quote, as REST gives it."""
    return {"bp": contract.bid, "bs": 10, "ap": contract.ask, "as": 10, "t": rfc3339_text(at_ns)}


def rest_contract(contract: Contract) -> dict[str, Any]:
    """A listed option, as REST gives it."""
    return {
        "symbol": contract.symbol,
        "expiration_date": EXPIRY,
        "ppind": True,
        "tradable": True,
        "open_interest": "10",
    }

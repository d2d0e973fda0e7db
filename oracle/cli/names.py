"""Symbols as people read them: ``SPY 21 Nov 585p/590p/610c/615c condor`` for the name of a structure.

Input: a symbol or a structure's name. Output: a short label. Plain symbols stay as they are, so that what is copied
from a table can be given to a command; ``--json`` has every name whole.
"""

import datetime as dt

from oracle.core.errors import RemoteError
from oracle.core.instruments import OptionContract, parse_occ
from oracle.core.structures import is_structure, legs_of

Row = tuple[OptionContract, int]
# What these are called says which legs were sold; all other legs are written with their signs.
_UNSIGNED = frozenset(
    ("condor", "long condor", "butterfly", "long butterfly", "straddle", "short straddle", "strangle", "short strangle")
)


def label(symbol: str) -> str:
    """Word a structure's name; any other symbol, and a name that is not one, is returned as it is."""
    if not is_structure(symbol):
        return symbol
    try:
        rows = [(parse_occ(leg.symbol), leg.signed) for leg in legs_of(symbol)]
    except RemoteError:
        return symbol
    rows.sort(key=lambda row: (row[0].strike_milli, row[0].is_call, row[0].expiry))
    kind = _kind(rows)
    root, expiries = rows[0][0].root, {contract.expiry for contract, _ in rows}
    if len(expiries) == 1:
        legs = "/".join(_leg(row, kind not in _UNSIGNED) for row in rows)
        return f"{root} {day(rows[0][0].expiry)} {legs} {kind}".rstrip()
    legs = "/".join(f"{_leg(row, signed=True)} {day(row[0].expiry)}" for row in rows)
    return f"{root} {legs} {kind}".rstrip()


def day(expiry: str) -> str:
    """An ISO date as ``21 Nov``."""
    return dt.date.fromisoformat(expiry).strftime("%-d %b")


def expiry_of(symbol: str) -> str | None:
    """The first expiry of a contract's or structure's legs, ISO; None for a stock."""
    try:
        return min(parse_occ(leg.symbol).expiry for leg in legs_of(symbol))
    except RemoteError:
        return None


def days_to(expiry: str, today: str) -> int:
    """Calendar days between two ISO dates."""
    return (dt.date.fromisoformat(expiry) - dt.date.fromisoformat(today)).days


def _leg(row: Row, signed: bool) -> str:
    contract, n = row
    ratio = f"{abs(n)}x" if abs(n) > 1 else ""
    sign = ("+" if n > 0 else "-") if signed else ""
    return f"{sign}{ratio}{contract.strike_usd.normalize():f}{contract.right.value.lower()}"


def _kind(rows: list[Row]) -> str:
    """What it is called; nothing when it has no common name. ``rows`` by strike, puts first."""
    rights = "".join(contract.right.value for contract, _ in rows)
    signs = tuple(n for _, n in rows)
    strikes = [contract.strike_milli for contract, _ in rows]
    if len({contract.expiry for contract, _ in rows}) > 1:
        same = rights in ("CC", "PP")
        return "" if not same else "calendar" if strikes[0] == strikes[1] else "diagonal"
    if rights == "PPCC" and signs in ((1, -1, -1, 1), (-1, 1, 1, -1)):
        body = "butterfly" if strikes[1] == strikes[2] else "condor"
        return body if signs[0] > 0 else f"long {body}"
    if rights in ("CC", "PP") and sum(signs) == 0:
        return "spread"
    if rights in ("PC", "CP") and signs in ((1, 1), (-1, -1)):
        body = "straddle" if strikes[0] == strikes[1] else "strangle"
        return body if signs[0] > 0 else f"short {body}"
    return ""

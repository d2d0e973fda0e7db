"""The one OCC option-symbol parser and formatter, and what an instrument is.

An OCC symbol here is unpadded, as Alpaca writes it: root, yymmdd, C or P, strike × 1000 in eight digits.
Invariant: ``parse_occ(s).occ == s`` for every s it accepts. Strikes are exact (integer thousandths).
"""

import datetime as dt
import re
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

import msgspec

from oracle.core.errors import RemoteError

CONTRACT_MULTIPLIER = 100
_OCC = re.compile(r"([A-Z][A-Z0-9.]{0,5}?)(\d{6})([CP])(\d{8})")
_EQUITY = re.compile(r"[A-Z][A-Z0-9.]{0,9}")


class Right(StrEnum):
    """Call or put."""

    CALL = "C"
    PUT = "P"


class OptionContract(msgspec.Struct, frozen=True, order=True):
    """A listed option. ``expiry`` is ISO ``YYYY-MM-DD``; ``strike_milli`` is the strike in thousandths of a dollar."""

    root: str
    expiry: str
    right: Right
    strike_milli: int

    @property
    def strike(self) -> float:
        """The strike in dollars, for models."""
        return self.strike_milli / 1000

    @property
    def strike_usd(self) -> Decimal:
        """The strike in dollars, exact."""
        return Decimal(self.strike_milli) / 1000

    @property
    def is_call(self) -> bool:
        """Whether this is a call."""
        return self.right is Right.CALL

    @property
    def occ(self) -> str:
        """The unpadded OCC symbol."""
        y, m, d = self.expiry.split("-")
        return f"{self.root}{y[2:]}{m}{d}{self.right.value}{self.strike_milli:08d}"


@lru_cache(maxsize=65536)
def parse_occ(symbol: str) -> OptionContract:
    """Parse an unpadded OCC symbol.

    Raises:
        RemoteError: the text is not an OCC symbol or its date does not exist. Years are 2000–2099.
    """
    match = _OCC.fullmatch(symbol)
    if match is None:
        raise RemoteError(f"symbol: {symbol!r} is not an OCC option symbol such as SPY260116C00600000")
    root, day, right, strike = match.groups()
    try:
        expiry = dt.date(2000 + int(day[:2]), int(day[2:4]), int(day[4:])).isoformat()
    except ValueError as error:
        raise RemoteError(f"symbol: {symbol!r} has no such expiry date ({error})") from None
    if int(strike) == 0:
        raise RemoteError(f"symbol: {symbol!r} has a strike of zero")
    return OptionContract(root, expiry, Right(right), int(strike))


def is_option(symbol: str) -> bool:
    """Tell an option symbol from a stock symbol by shape alone."""
    return _OCC.fullmatch(symbol) is not None


def is_equity(symbol: str) -> bool:
    """Tell whether the text has the shape of a stock symbol."""
    return _EQUITY.fullmatch(symbol) is not None


@lru_cache(65_536)
def multiplier(symbol: str) -> int:
    """Units of the underlying per contract: 100 for an option or a structure of options, 1 for a stock."""
    return CONTRACT_MULTIPLIER if ":" in symbol or is_option(symbol) else 1

"""Exact money: Decimal in the core, integer micro-dollars in SQL, ticks at the broker.

Floats are market data; they become money only through ``price_from_float`` (which names the tick) and never
silently. ``None`` means unknown; zero is a number.
"""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from oracle.core.errors import InvariantError, RemoteError

MICROS = 1_000_000
CENT = Decimal("0.01")
MICRO = Decimal("0.000001")
ZERO = Decimal(0)


def decimal_from_text(text: object, field: str) -> Decimal:
    """Read a remote's number (text, int or float) exactly; floats go through ``repr``.

    Raises:
        RemoteError: not a finite number; the message names ``field``.
    """
    try:
        value = Decimal(str(text))
    except ArithmeticError:
        raise RemoteError(f"{field}: {text!r} is not a number") from None
    if not value.is_finite():
        raise RemoteError(f"{field}: {text!r} is not a finite number")
    return value


def to_micros(amount: Decimal) -> int:
    """Convert dollars to integer micro-dollars.

    Raises:
        InvariantError: the amount has more than six decimals, so the conversion would lose money.
    """
    scaled = amount * MICROS
    whole = int(scaled)
    if whole != scaled:
        raise InvariantError(f"amount {amount} is finer than a micro-dollar")
    return whole


def from_micros(micros: int) -> Decimal:
    """Convert integer micro-dollars to dollars."""
    return Decimal(micros) / MICROS


def to_tick(price: Decimal, tick: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """Round a price to a multiple of ``tick`` (dollars)."""
    return (price / tick).quantize(Decimal(1), rounding=rounding) * tick


def tick_up(price: Decimal, tick: Decimal) -> Decimal:
    """Round a price up to a multiple of ``tick``."""
    return to_tick(price, tick, ROUND_CEILING)


def tick_down(price: Decimal, tick: Decimal) -> Decimal:
    """Round a price down to a multiple of ``tick``."""
    return to_tick(price, tick, ROUND_FLOOR)


def price_from_float(price: float) -> Decimal:
    """Turn a market-data float into an exact price at 1/10,000 dollar, the finest quote increment in use.

    Raises:
        RemoteError: the float is NaN or infinite.
    """
    if not math.isfinite(price):
        raise RemoteError(f"price: {price} is not a finite number")
    return Decimal(repr(price)).quantize(Decimal("0.0001"), rounding=ROUND_HALF_EVEN).normalize() + ZERO


def option_tick(price: Decimal, penny_class: bool, penny_always: bool) -> Decimal:
    """The minimum price increment of an option at this price, in dollars.

    Standard classes: 0.05 under 3.00 and 0.10 from there; penny classes 0.01 and 0.05; SPY, QQQ and IWM trade in
    0.01 at every price (exchange penny program rules).
    """
    if penny_always:
        return CENT
    if penny_class:
        return CENT if price < 3 else Decimal("0.05")
    return Decimal("0.05") if price < 3 else Decimal("0.10")

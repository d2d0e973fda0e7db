"""Match orders against the quotes of the moment. Pure functions and one small ledger of displayed size.

Inputs: an order's lines (one for a simple order), touches, a limit. Outputs: an ``Execution`` in whole units, or None.
Rules: an arriving order fills at the touch, never worse than its limit; a resting simple order fills at its limit when
the opposite touch crosses it; lines of an mleg fill together at their touches; an absent side never fills; displayed
size is spent once per quote and second.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from oracle.core.errors import InvariantError
from oracle.core.money import ZERO, price_from_float
from oracle.core.sessions import NS
from oracle.sim.source import Touch


class Line(msgspec.Struct, frozen=True):
    """One symbol of an order. ``sign`` is +1 to buy and -1 to sell; ``ratio`` is contracts or shares per unit."""

    symbol: str
    sign: int
    ratio: int


class Shown(msgspec.Struct, frozen=True):
    """The price and the size left on the side of the market that a line would take."""

    price: Decimal
    size: int


class Execution(msgspec.Struct, frozen=True):
    """``units`` of an order done at ``prices``, one per line (USD per share or per contract's share)."""

    units: int
    prices: tuple[Decimal, ...]


class Displayed:
    """What has been taken from each displayed size; a new quote or a new second starts afresh."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[tuple[str, int], tuple[Touch, int, int]] = {}

    def shown(self, touch: Touch | None, sign: int, at_ns: int) -> Shown | None:
        """The opposite side of ``touch`` for a buyer (+1) or seller (-1), less what was taken; None when absent."""
        if touch is None:
            return None
        price, size = (touch.ask, touch.ask_size) if sign > 0 else (touch.bid, touch.bid_size)
        if price is None:
            return None
        left = max(size, 0) - self._spent(touch, sign, at_ns)
        return Shown(price_from_float(price), left) if left > 0 else None

    def take(self, touch: Touch, sign: int, size: int, at_ns: int) -> None:
        """Spend displayed size.

        Raises:
            InvariantError: more is taken than is shown.
        """
        shown = self.shown(touch, sign, at_ns)
        if shown is None or size > shown.size:
            raise InvariantError(f"{size} taken of {touch.symbol}, more than is displayed")
        spent = self._spent(touch, sign, at_ns) + size
        self._taken[(touch.symbol, sign)] = (touch, at_ns // NS, spent)

    def _spent(self, touch: Touch, sign: int, at_ns: int) -> int:
        before = self._taken.get((touch.symbol, sign))
        if before is None or before[1] != at_ns // NS or before[0] != touch:
            return 0
        return before[2]


def net_price(lines: Sequence[Line], prices: Sequence[Decimal]) -> Decimal:
    """The price of one unit: positive is paid, negative is received."""
    return sum((p * line.sign * line.ratio for line, p in zip(lines, prices, strict=True)), ZERO)


def match(
    lines: Sequence[Line], shown: Sequence[Shown | None], units_left: int, net_limit: Decimal | None, resting: bool
) -> Execution | None:
    """Fill what can be filled now.

    Args:
        lines: the order's lines; a simple order has one.
        shown: the side each line would take, in the same order.
        units_left: whole units not yet filled.
        net_limit: most that may be paid per unit (negative: least received, negated); None for a market order.
        resting: the order was already in the book, so a single line fills at its own limit.
    """
    present = [s for s in shown if s is not None]
    if units_left <= 0 or len(present) != len(lines):
        return None
    units = min(units_left, *(s.size // line.ratio for line, s in zip(lines, present, strict=True)))
    if units <= 0:
        return None
    prices = tuple(s.price for s in present)
    if net_limit is None:
        return Execution(units, prices)
    if net_price(lines, prices) > net_limit:
        return None
    if resting and len(lines) == 1 and lines[0].ratio == 1:
        return Execution(units, (abs(net_limit),))
    return Execution(units, prices)


def stop_reached(sign: int, stop: Decimal, touch: Touch | None) -> bool:
    """Whether a stop order triggers: a buy when ask ≥ stop, a sell when bid ≤ stop."""
    if touch is None:
        return False
    if sign > 0:
        return touch.ask is not None and price_from_float(touch.ask) >= stop
    return touch.bid is not None and price_from_float(touch.bid) <= stop

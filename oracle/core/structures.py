"""Structures: option legs that are bought and sold as one, their names, net prices and payoff. Pure and exact.

A structure's name is its whole definition: ``SPY:-260116C610+260116C615+260116P585-260116P590`` is one unit, with the
legs that buying it buys (+) and sells (-); ``+2x`` is a ratio. It stands wherever an order's or a trade's symbol does.
Net prices are dollars per unit and share, positive a debit, negative a credit: a condor that pays 1.00 is bought at
-1.00 and sold again at -0.50. Invariant: ``legs_of(structure_name(legs))`` is ``legs``, sorted.
"""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from math import gcd

import msgspec

from oracle.core.errors import InvariantError, RemoteError
from oracle.core.instruments import CONTRACT_MULTIPLIER, OptionContract, parse_occ
from oracle.core.money import ZERO
from oracle.core.vocabulary import Side

MARK = ":"
MAX_LEGS = 4
_LEG = re.compile(r"([+-])(?:(\d+)x)?(\d{6})([CP])(\d+(?:\.\d{1,3})?)")


class OrderLeg(msgspec.Struct, frozen=True, order=True):
    """One leg of a unit: what buying the unit does in ``symbol``, ``ratio`` contracts at a time."""

    symbol: str
    side: Side
    ratio: int = 1

    @property
    def signed(self) -> int:
        """Contracts of one unit that is held: positive long, negative short."""
        return self.side.sign * self.ratio


def is_structure(symbol: str) -> bool:
    """Tell a structure's name from the symbol of one contract or stock."""
    return MARK in symbol


def structure_name(legs: Iterable[OrderLeg]) -> str:
    """Name what buying these legs together is; a single bought leg of ratio one is its own symbol.

    Raises:
        InvariantError: no leg, more than four, two of one contract, several underlyings, a stock, or ratios not in
            lowest terms.
    """
    ordered = sorted(legs)
    if len(ordered) == 1 and ordered[0].signed == 1:
        return ordered[0].symbol
    if not 1 <= len(ordered) <= MAX_LEGS or len({leg.symbol for leg in ordered}) != len(ordered):
        raise InvariantError(f"a structure of {len(ordered)} legs: one to {MAX_LEGS} different contracts are possible")
    contracts = [parse_occ(leg.symbol) for leg in ordered]
    if len({contract.root for contract in contracts}) != 1:
        raise InvariantError("a structure has legs of several underlyings")
    if min(leg.ratio for leg in ordered) < 1 or gcd(*(leg.ratio for leg in ordered)) != 1:
        raise InvariantError("a structure's ratios are whole, positive and in lowest terms")
    named = (_leg_name(leg, contract) for leg, contract in zip(ordered, contracts, strict=True))
    return contracts[0].root + MARK + "".join(named)


def _leg_name(leg: OrderLeg, contract: OptionContract) -> str:
    year, month, day = contract.expiry.split("-")
    strike = f"{contract.strike_usd.normalize():f}"
    ratio = f"{leg.ratio}x" if leg.ratio > 1 else ""
    return f"{'+' if leg.side is Side.BUY else '-'}{ratio}{year[2:]}{month}{day}{contract.right.value}{strike}"


@lru_cache(maxsize=16384)
def legs_of(symbol: str) -> tuple[OrderLeg, ...]:
    """The legs of a structure's name, sorted by symbol; one bought leg for the symbol of a contract or stock.

    Raises:
        RemoteError: the text has the mark of a structure but is not one.
    """
    if not is_structure(symbol):
        return (OrderLeg(symbol, Side.BUY, 1),)
    root, _, text = symbol.partition(MARK)
    found = list(_LEG.finditer(text))
    if not found or "".join(match.group(0) for match in found) != text:
        raise RemoteError(f"symbol: {symbol!r} is not the name of a structure such as SPY:+260116C600-260116C605")
    legs = []
    for sign, ratio, day, right, strike in (match.groups() for match in found):
        occ = f"{root}{day}{right}{int(Decimal(strike) * 1000):08d}"
        parse_occ(occ)
        legs.append(OrderLeg(occ, Side.BUY if sign == "+" else Side.SELL, int(ratio or 1)))
    return tuple(sorted(legs))


def reduced(quantities: Iterable[tuple[str, int]]) -> tuple[str, int]:
    """Name signed holdings of contracts as the largest number of equal units: (structure or symbol, units).

    Raises:
        InvariantError: nothing is held, or no structure can hold it (see ``structure_name``).
    """
    held = [(symbol, quantity) for symbol, quantity in quantities if quantity != 0]
    if not held:
        raise InvariantError("nothing is held")
    units = gcd(*(abs(quantity) for _, quantity in held))
    legs = [OrderLeg(s, Side.BUY if q > 0 else Side.SELL, abs(q) // units) for s, q in held]
    return structure_name(legs), units


def net_price(legs: Sequence[OrderLeg], prices: Sequence[Decimal]) -> Decimal:
    """Price one unit from one price per leg (same order): positive costs, negative pays."""
    return sum((leg.signed * price for leg, price in zip(legs, prices, strict=True)), ZERO)


class Payoff(msgspec.Struct, frozen=True):
    """What one unit can come to at expiry when bought at a net price, in dollars of the whole unit (x 100).

    ``max_loss_usd`` and ``max_gain_usd`` are None where there is no bound; ``break_evens`` are prices of the
    underlying, ascending. ``covered`` is False when a short is not covered by a long that lives at least as long.
    """

    max_loss_usd: Decimal | None
    max_gain_usd: Decimal | None
    break_evens: tuple[Decimal, ...]
    covered: bool


def payoff(legs: Sequence[OrderLeg], price_usd: Decimal) -> Payoff:
    """Compute the payoff of one unit bought at a net price per share.

    Where legs expire on several dates the bounds are those with every leg at intrinsic value and longs that live on
    counted at intrinsic value too, which is never too much; break-evens are then left out. A short is covered when,
    for its right, longs that expire no earlier are at least as many.
    """
    rows = [(parse_occ(leg.symbol), leg.signed) for leg in legs]
    covered = _is_covered(rows)
    call_slope = sum(n for contract, n in rows if contract.is_call)
    grid = sorted({ZERO, *(contract.strike_usd for contract, _ in rows)})
    values = [_value(rows, spot) - price_usd for spot in grid]
    last_expiry = {contract.expiry for contract, _ in rows}
    single = len(last_expiry) == 1
    # Above the last strike the value moves by the calls' slope for ever.
    max_loss = None if call_slope < 0 or not covered else max(-min(values), ZERO) * CONTRACT_MULTIPLIER
    max_gain = None if call_slope > 0 or not single else max(values) * CONTRACT_MULTIPLIER
    return Payoff(max_loss, max_gain, _zeros(grid, values, call_slope) if single else (), covered)


def _is_covered(rows: Sequence[tuple[OptionContract, int]]) -> bool:
    for is_call in (True, False):
        side = [(contract.expiry, n) for contract, n in rows if contract.is_call is is_call]
        for expiry in {e for e, n in side if n < 0}:
            if sum(n for e, n in side if e >= expiry) < 0 or sum(n for _, n in side) < 0:
                return False
    return True


def _value(rows: Sequence[tuple[OptionContract, int]], spot: Decimal) -> Decimal:
    total = ZERO
    for contract, n in rows:
        gain = spot - contract.strike_usd if contract.is_call else contract.strike_usd - spot
        total += n * max(gain, ZERO)
    return total


def _zeros(grid: Sequence[Decimal], values: Sequence[Decimal], slope_beyond: int) -> tuple[Decimal, ...]:
    """Where a piecewise linear payoff crosses zero, ascending; a stretch that lies on zero gives none."""
    out = []
    for (a, va), (b, vb) in zip(zip(grid, values, strict=True), zip(grid[1:], values[1:], strict=True), strict=False):
        if va * vb < 0:
            out.append(a + (b - a) * va / (va - vb))
        elif va == 0 and vb != 0 and a > 0 and not (out and out[-1] == a):
            out.append(a)
    if slope_beyond != 0 and values[-1] * slope_beyond < 0:
        out.append(grid[-1] - values[-1] / slope_beyond)
    return tuple(price.quantize(Decimal("0.0001")) for price in out)

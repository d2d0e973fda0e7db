"""What short options require: the largest loss of the whole payoff, expiry by expiry. Pure.

Inputs: signed option positions of one underlying and the shares held. Output: USD, or None when the loss has no bound
(uncovered). Method: at each expiry only contracts that still exist count, at intrinsic value, on the grid of zero, all
strikes and beyond (Alpaca's "universal spread" rule as its options documentation describes it).
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from oracle.core.instruments import CONTRACT_MULTIPLIER, OptionContract, is_option, parse_occ
from oracle.core.money import ZERO

SHORT_STOCK_RATE = Decimal("1.5")


def intrinsic(contract: OptionContract, spot: Decimal) -> Decimal:
    """The exercise value per share at ``spot``, never negative."""
    gain = spot - contract.strike_usd if contract.is_call else contract.strike_usd - spot
    return max(ZERO, gain)


def _worst(legs: list[tuple[OptionContract, int]], covered_calls: int) -> Decimal | None:
    """The largest loss in USD of a set of options at one expiry, or None when it has no bound."""
    slope = sum(n for c, n in legs if c.is_call) + covered_calls
    if slope < 0:
        return None
    first_call = min((c.strike_usd for c, n in legs if c.is_call and n < 0), default=None)
    grid = sorted({ZERO, *(c.strike_usd for c, _ in legs)})
    worst = ZERO
    for spot in grid:
        total = sum((intrinsic(c, spot) * n for c, n in legs), ZERO)
        if covered_calls and first_call is not None:
            # Shares that cover short calls gain what the calls lose above the lowest short strike.
            total += max(ZERO, spot - first_call) * covered_calls
        worst = max(worst, -total)
    return worst * CONTRACT_MULTIPLIER


def underlying_requirement(options: Mapping[str, int], shares: int) -> Decimal | None:
    """The requirement in USD of one underlying's options; None when a short is uncovered.

    Args:
        options: signed contracts by OCC symbol.
        shares: long shares that may cover short calls (100 each).
    """
    legs = [(parse_occ(symbol), n) for symbol, n in options.items() if n]
    if all(n > 0 for _, n in legs):
        return ZERO
    worst = ZERO
    lots = max(shares, 0) // CONTRACT_MULTIPLIER
    for expiry in sorted({c.expiry for c, _ in legs}):
        alive = [(c, n) for c, n in legs if c.expiry >= expiry]
        naked = max(0, -sum(n for c, n in alive if c.is_call))
        loss = _worst(alive, min(naked, lots))
        if loss is None:
            return None
        worst = max(worst, loss)
    return worst


def requirement(positions: Mapping[str, int], marks: Mapping[str, Decimal]) -> Decimal | None:
    """The requirement in USD of an account's positions; None when a short option is uncovered.

    Args:
        positions: signed quantity by symbol, stocks and options.
        marks: prices of the short stocks among them.
    """
    by_underlying: dict[str, dict[str, int]] = {}
    total = ZERO
    for symbol, quantity in positions.items():
        if is_option(symbol):
            by_underlying.setdefault(parse_occ(symbol).root, {})[symbol] = quantity
        elif quantity < 0:
            total += -quantity * marks[symbol] * SHORT_STOCK_RATE
    for underlying in sorted(by_underlying):
        need = underlying_requirement(by_underlying[underlying], positions.get(underlying, 0))
        if need is None:
            return None
        total += need
    return total


def combine(positions: Mapping[str, int], changes: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Positions after signed changes; flat symbols are left out."""
    after = dict(positions)
    for symbol, quantity in changes:
        after[symbol] = after.get(symbol, 0) + quantity
    return {symbol: quantity for symbol, quantity in after.items() if quantity}

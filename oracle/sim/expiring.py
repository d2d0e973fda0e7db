"""Which expiring positions the broker must close because their shares could not be carried. Pure.

Inputs: positions, cash, the price of each underlying, marks. Output: symbols. Method: let everything in the money be
exercised and assigned at once; while cash would not cover what the result requires, close what helps most.
Legs that offset each other (a spread's) need nothing, so they are never closed for it.
"""

from collections.abc import Collection, Mapping
from decimal import Decimal

from oracle.core.instruments import CONTRACT_MULTIPLIER, OptionContract
from oracle.core.money import ZERO
from oracle.core.sessions import Session, SessionTable
from oracle.sim.margin import intrinsic, requirement

LEAST_INTRINSIC_USD = Decimal("0.01")


def is_last_day(expiry: str, session: Session, table: SessionTable) -> bool:
    """Whether contracts of an expiry (ISO date; old monthlies are dated Saturday) trade for the last time."""
    if expiry <= session.date:
        return True
    last = table.last_trading(expiry)
    return last is not None and last.date <= session.date


def is_exercised(contract: OptionContract, spot: Decimal) -> bool:
    """Whether a contract is a cent or more in the money, from where on it is exercised unless told otherwise."""
    return intrinsic(contract, spot) >= LEAST_INTRINSIC_USD


def shares_of(contract: OptionContract, quantity: int) -> int:
    """Shares received (negative: delivered) when ``quantity`` signed contracts are exercised or assigned."""
    return quantity * CONTRACT_MULTIPLIER * (1 if contract.is_call else -1)


def after_expiry(
    positions: Mapping[str, int],
    expiring: Mapping[str, OptionContract],
    spots: Mapping[str, Decimal],
    closed: Collection[str] = (),
) -> tuple[dict[str, int], Decimal]:
    """Positions once the expiring ones are gone, and the cash that their shares bring (negative: cost).

    ``closed`` are sold or bought back before; what they bring is not counted.
    """
    left = {symbol: quantity for symbol, quantity in positions.items() if symbol not in expiring}
    cash = ZERO
    for symbol, contract in expiring.items():
        if symbol in closed or not is_exercised(contract, spots[contract.root]):
            continue
        shares = shares_of(contract, positions[symbol])
        left[contract.root] = left.get(contract.root, 0) + shares
        cash -= shares * contract.strike_usd
    return {symbol: quantity for symbol, quantity in left.items() if quantity}, cash


def not_carried(
    positions: Mapping[str, int],
    expiring: Mapping[str, OptionContract],
    *,
    cash_usd: Decimal,
    spots: Mapping[str, Decimal],
    marks: Mapping[str, Decimal],
) -> list[str]:
    """The expiring positions to close, most helpful first; empty when the account can carry everything.

    Args:
        positions: signed quantities of the whole account.
        expiring: those of its options that end now.
        cash_usd: of the account.
        spots: the price of every underlying among ``expiring``.
        marks: of the positions, for short stock.
    """
    prices = {**marks, **spots}

    def room(closed: Collection[str]) -> Decimal | None:
        left, cash = after_expiry(positions, expiring, spots, closed)
        need = requirement(left, prices)
        return None if need is None else cash_usd + cash - need

    chosen: list[str] = []
    best = room(chosen)
    candidates = sorted(s for s, c in expiring.items() if is_exercised(c, spots[c.root]))
    while (best is None or best < 0) and candidates:
        tried = [(symbol, room([*chosen, symbol])) for symbol in candidates]
        known = [(symbol, value) for symbol, value in tried if value is not None and (best is None or value > best)]
        if not known:
            break
        symbol, best = max(known, key=lambda row: row[1])
        chosen.append(symbol)
        candidates.remove(symbol)
    return chosen

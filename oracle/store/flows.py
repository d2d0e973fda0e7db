"""What went in and out of each leg of a round trip, and what its real entry could come to.

Inputs: an open database, a trade's row and its entry's command. Outputs: plain facts. Invariant: the legs' cash sums up
to the trade's gross P&L once it is over.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from oracle.core.instruments import is_option, multiplier
from oracle.core.money import CENT, ZERO, from_micros
from oracle.core.structures import OrderLeg, legs_of, payoff
from oracle.core.vocabulary import Side
from oracle.store.rows import QUERIES

Facts = dict[str, Any]
_MICRO = Decimal("0.000001")


@dataclass(slots=True)
class _Flow:
    """One leg: contracts (or shares) that came and went, and the sums of their prices."""

    symbol: str
    side: Side
    held: int = 0
    entered: int = 0
    entry_usd: Decimal = ZERO
    exited: int = 0
    exit_usd: Decimal = ZERO
    settled: int = 0
    cash_usd: Decimal = ZERO

    def move(self, signed: int, price_usd: Decimal) -> None:
        """Take a movement: towards what is held is an entry, away from it an exit."""
        leaving = min(abs(signed), abs(self.held)) if signed * self.held < 0 else 0
        coming = abs(signed) - leaving
        self.entered += coming
        self.entry_usd += coming * price_usd
        self.exited += leaving
        self.exit_usd += leaving * price_usd
        self.held += signed
        self.cash_usd -= signed * price_usd * multiplier(self.symbol)

    def facts(self) -> Facts:
        return {
            "symbol": self.symbol,
            "side": self.side.value,
            "contracts": self.entered,
            "entry_price_usd": _average(self.entry_usd, self.entered),
            "exited": self.exited,
            "exit_price_usd": _average(self.exit_usd, self.exited),
            "settled": self.settled,
            "cash_usd": self.cash_usd,
        }


def _average(amount_usd: Decimal, contracts: int) -> Decimal | None:
    return None if contracts == 0 else (amount_usd / contracts).quantize(_MICRO)


def trade_legs(db: sqlite3.Connection, log_id: int) -> list[Facts]:
    """The legs of one round trip by symbol, shares included, as fills and settlements moved them.

    ``side`` is what opened the leg; ``contracts`` entered and ``exited`` at their average prices (None: none did);
    ``settled`` of the exited ended without an order; ``cash_usd`` in (+) and out, before fees.

    Args:
        log_id: of the trade's row; a trade that was opened again has one a round trip.
    """
    flows: dict[str, _Flow] = {}
    for row in db.execute(QUERIES["read_trade_flows"], {"log_id": log_id}):
        signed, price = row["signed"], from_micros(row["price_micros"])
        flow = flows.get(row["symbol"])
        if row["leaving"] > 0:
            if flow is None:
                continue  # of a leg that this trade never held: the ledger would have refused it
            signed = -row["leaving"] if flow.held > 0 else row["leaving"]
            flow.settled += row["leaving"]
        elif flow is None:
            flow = flows[row["symbol"]] = _Flow(row["symbol"], Side.BUY if signed > 0 else Side.SELL)
        flow.move(signed, price)
    return [flows[symbol].facts() for symbol in sorted(flows)]


def entered(symbol: str, side: Side, legs: Iterable[Facts]) -> tuple[int, Decimal] | None:
    """Whole units that were entered and their net average price; None when no unit was ever whole."""
    came = {leg["symbol"]: leg for leg in legs}
    wanted = legs_of(symbol)
    if any(leg.symbol not in came for leg in wanted):
        return None
    units = min(came[leg.symbol]["contracts"] // leg.ratio for leg in wanted)
    net = sum((leg.signed * came[leg.symbol]["entry_price_usd"] for leg in wanted), ZERO)
    # A unit that was sold is bought with every leg turned; its price stays that of the unit.
    sides = all(came[leg.symbol]["side"] == (leg.side if side is Side.BUY else leg.side.opposite) for leg in wanted)
    return (units, net) if units > 0 and sides else None


def outcome(symbol: str, side: Side, units: int, price_usd: Decimal) -> Facts | None:
    """What units entered at a net price could come to, in dollars of all of them; None for shares.

    A bound that does not exist is None.
    """
    legs = legs_of(symbol)
    if not all(is_option(leg.symbol) for leg in legs):
        return None
    if side is Side.SELL:
        legs = tuple(OrderLeg(leg.symbol, leg.side.opposite, leg.ratio) for leg in legs)
    found = payoff(legs, side.sign * price_usd)
    return {
        "max_loss_usd": None if found.max_loss_usd is None else (found.max_loss_usd * units).quantize(CENT),
        "max_gain_usd": None if found.max_gain_usd is None else (found.max_gain_usd * units).quantize(CENT),
        "break_evens": list(found.break_evens),
    }

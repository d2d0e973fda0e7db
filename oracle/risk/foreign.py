"""Positions of before the books as executions of others, which an adoption takes over. Pure functions.

Inputs: what the broker held first. Output: ForeignExecution. Invariant: the price is the broker's average.
"""

from decimal import Decimal

from oracle.core.messages import ForeignExecution
from oracle.core.money import MICROS
from oracle.core.reports import BrokerPosition
from oracle.core.vocabulary import Side

MICRO = Decimal(1) / MICROS


def opening(request_id: str, position: BrokerPosition) -> tuple[ForeignExecution, ...]:
    """A position of before the books as one execution at its average price, rounded to a millionth of a dollar."""
    price = position.avg_entry_price_usd.quantize(MICRO)
    side = Side.BUY if position.qty > 0 else Side.SELL
    return (ForeignExecution(f"{request_id}:{position.symbol}", "", position.symbol, side, abs(position.qty), price),)

"""Limit prices from the mid to the far touch, on the tick. Pure.

Inputs: a two-sided quote, the side, the tick rule, ``LadderSettings``. Outputs: a tuple of ``LadderStep``.
Invariant: prices move strictly towards the far touch, never beyond it, and are multiples of the tick; those of a
single contract are positive, a structure's net prices need not be.
"""

from decimal import Decimal
from typing import Final

import msgspec

from oracle.core.messages import LadderStep
from oracle.core.money import option_tick, tick_down, tick_up
from oracle.core.vocabulary import Side
from oracle.risk.limits import LadderSettings

# Exchange penny program: these three trade in 0.01 at every price (alpaca.md section 4).
PENNY_ALWAYS: Final = frozenset({"SPY", "QQQ", "IWM"})


class TickRule(msgspec.Struct, frozen=True):
    """Which minimum increments a contract has."""

    penny_class: bool
    penny_always: bool

    def tick(self, price_usd: Decimal) -> Decimal:
        """The increment at a price, in dollars."""
        return option_tick(price_usd, self.penny_class, self.penny_always)


def build_ladder(
    bid_usd: Decimal, ask_usd: Decimal, side: Side, ticks: TickRule, settings: LadderSettings, *, signed: bool = False
) -> tuple[LadderStep, ...]:
    """Make the steps for one order; equal prices after rounding become one step.

    Rounding is towards the passive side, so that no step pays more than its fraction of the spread. Empty when no
    positive price exists (a sell into no bid). ``signed``: the net price of a structure, which may be zero or negative.
    """
    mid, spread = (bid_usd + ask_usd) / 2, ask_usd - bid_usd
    prices: list[Decimal] = []
    for fraction in settings.fractions:
        raw = mid + side.sign * fraction * spread
        price = tick_down(raw, ticks.tick(raw)) if side is Side.BUY else tick_up(raw, ticks.tick(raw))
        if (signed or price > 0) and (not prices or side.sign * (price - prices[-1]) > 0):
            prices.append(price)
    if not prices:
        return ()
    # The last step is the far touch: it keeps standing there, so that a market that comes back still fills it.
    rest_s = max(settings.stand_s, settings.window_s - settings.stand_s * (len(prices) - 1))
    steps = [LadderStep(limit_usd=price, stand_s=settings.stand_s) for price in prices]
    return (*steps[:-1], LadderStep(limit_usd=prices[-1], stand_s=rest_s))


def market_ladder(settings: LadderSettings) -> tuple[LadderStep, ...]:
    """The one step of a market order."""
    return (LadderStep(limit_usd=None, stand_s=settings.market_stand_s),)


def total_s(ladder: tuple[LadderStep, ...]) -> float:
    """How long a whole ladder stands, in seconds."""
    return sum(step.stand_s for step in ladder)

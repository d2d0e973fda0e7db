"""What is remembered of an open trade whose exit plan is enforced, and the order that is wished for it.

Inputs and outputs: none; plain state of ``exits.py``. Invariant: a
restart can find again all that a watch holds.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from oracle.core.ports import TradeView
from oracle.risk.closing import Closing
from oracle.risk.triggers import Trigger

FLAT_TIMER: Final = "risk:flat:"
RETRY_TIMER: Final = "risk:retry:"


class ExitWish(msgspec.Struct, frozen=True):
    """An order to make now for a trade or a part of it: a limit ladder for a target, else at the market."""

    trade: TradeView
    trigger: Trigger
    closing: Closing


@dataclass(slots=True)
class Watch:
    """What is remembered of one open trade. ``wanted`` is the strongest exit that is due.

    ``refused_ns``: when an exit order was refused, while no account report has been seen since; ``backoff_ns``: when
    the next may leave once one has. ``kept``: the stop that an exit without a plan has taken the place of. ``leaving``:
    an exit has been triggered before; ``orphaned``: it was told that the trade is not whole. ``unknown_delta``: the
    short legs of which it was told that their delta cannot be judged, ``delta_ns`` when deltas were judged last.
    """

    trade_id: str
    symbol: str
    underlying: str
    breakeven: bool = False
    scaled_out: bool = False
    wanted: Trigger | None = None
    kept: Trigger | None = None
    order_id: str | None = None
    next_try_ns: int = 0
    retry_timer_ns: int = 0
    rejections: int = 0
    refused_ns: int | None = None
    backoff_ns: int = 0
    leaving: bool = False
    orphaned: bool = False
    delta_ns: int = 0
    unknown_delta: set[str] = field(default_factory=set)

"""What the gate is built with and rebuilt from.

Inputs: settings from the composition root, facts from the store. Outputs: ``GateSettings`` and ``Stored``. Invariant:
plain data, no rule and no order is made here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from oracle.core.messages import (
    ExitPlanAdvanced,
    ExitTriggered,
    ForeignExecution,
    Intent,
    LatchChanged,
    OperatorAnswered,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.ports import StrategyCaps
from oracle.risk.limits import LadderSettings, RiskLimits


class Stored(msgspec.Struct, frozen=True):
    """What the store gives back after a restart, each list in order of commit.

    ``submitted_ns`` and ``advanced_ns`` tell when each of ``orders`` and ``advanced`` was committed; empty is unknown.
    ``settled`` are executions of others that the books hold; ``answers`` is what operators were told.
    """

    orders: Sequence[SubmitOrder] = ()
    advanced: Sequence[OrderAdvanced] = ()
    fills: Sequence[OrderFilled] = ()
    ended: Sequence[OrderClosed] = ()
    intents: Sequence[Intent] = ()
    opened: Sequence[TradeOpened] = ()
    closed: Sequence[TradeClosed] = ()
    plans: Sequence[ExitPlanAdvanced] = ()
    exits: Sequence[ExitTriggered] = ()
    latches: Sequence[LatchChanged] = ()
    submitted_ns: Sequence[int] = ()
    advanced_ns: Sequence[int] = ()
    foreign: Sequence[ForeignExecution] = ()
    settled: Sequence[str] = ()
    answers: Sequence[OperatorAnswered] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """What the gate is built with.

    ``token`` is the store's instance token, ``next_sequence`` the first order number not used yet, ``abbreviations``
    a short word per strategy for order ids, ``betas`` per underlying. ``live`` only lets half-Kelly refuse.
    ``caps`` are what each strategy allows itself.
    """

    limits: RiskLimits
    ladder: LadderSettings
    betas: Mapping[str, float]
    abbreviations: Mapping[str, str]
    token: str
    next_sequence: int
    config_fingerprint: str
    live: bool
    caps: Mapping[str, StrategyCaps] = field(default_factory=dict)

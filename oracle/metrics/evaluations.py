"""The gauges of a strategy's newest evaluation: what it came to, which conditions held, which figures it saw.

Inputs: verdicts with their facts. Outputs: ``oracle_strategy_last_evaluation``, ``…_condition`` and ``…_value``.
Invariants: a figure that this evaluation did not see is NaN, never the one before; names outside the catalogue's closed
sets are not exported, because the journal has them all.
"""

import math
from collections.abc import Callable
from typing import Any

from oracle.core.messages import Intent, NoData, NoSignal
from oracle.metrics.catalogue import VALUES

OUTCOME, CONDITION, VALUE = (
    "oracle_strategy_last_evaluation", "oracle_strategy_condition", "oracle_strategy_value",
)  # fmt: skip
_HOLDS = {f"{name}_holds": name for name in VALUES["condition"]}
_SEEN = frozenset(VALUES["seen"])
_OUTCOMES = {Intent: "intent", NoSignal: "no_signal", NoData: "no_data"}
Get = Callable[..., Any]


class EvaluationGauges:
    """Sets the gauges of each evaluation. ``get``: a child of a metric by its label values."""

    __slots__ = ("_get", "_set")

    def __init__(self, get: Get) -> None:
        self._get = get
        self._set: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}

    def show(self, verdict: Intent | NoSignal | NoData) -> str:
        """Show one evaluation; returns what it came to."""
        outcome = _OUTCOMES[type(verdict)]
        symbol = verdict.underlying if isinstance(verdict, Intent) else verdict.symbol
        key = (verdict.strategy, symbol)
        for name in _OUTCOMES.values():
            self._get(OUTCOME, *key, name).set(name == outcome)
        now: dict[tuple[str, str], float] = {}
        for fact, value in verdict.facts.items():
            if not isinstance(value, int | float):
                continue
            if fact in _HOLDS:
                now[CONDITION, _HOLDS[fact]] = float(value)
            elif fact in _SEEN:
                now[VALUE, fact] = float(value)
        for metric, name in self._set.get(key, frozenset()) - now.keys():
            self._get(metric, *key, name).set(math.nan)
        for (metric, name), value in now.items():
            self._get(metric, *key, name).set(value)
        self._set[key] = frozenset(now)
        return outcome

"""The filters of a directional strategy by dealers' gamma and by unusual option activity.

Inputs: the view of positioning, a direction, spot. Output: a refusal or what the two add to the confidence, and facts
of all that was seen. Invariants: unknown adds nothing and refuses nothing, unless ``require_gamma`` asks for it; flow
never refuses; levels that nobody needs now are those measured last.
"""

from dataclasses import dataclass

from oracle.core.ports import Context
from oracle.core.positioning import FlowSeen, GammaLevels, NotKnown
from oracle.options.flow import alignment
from oracle.strategies.base import Facts, StrategyParams, param

KNOWN = "known"


class PositioningParams(StrategyParams):
    """What can be set of the two filters, and the confidence that they move."""

    confidence: float = param(0.85, "probability", "Confidence of a signal with every condition met", ge=0.0, le=1.0)
    min_confidence: float = param(0.80, "probability", "Least confidence for an entry", ge=0.0, le=1.0)
    wall_within: float = param(
        0.005, "fraction of spot", "No call this near below the call wall, no put this near above the put wall",
        ge=0.0, le=0.05,
    )  # fmt: skip
    pin_within: float = param(
        0.002, "fraction of spot", "Spot sits on the pin this near it; farther ahead the pin draws", ge=0.0, le=0.05
    )
    pin_confidence: float = param(
        0.05, "probability", "Added when the pin lies ahead, taken off when spot sits on it", ge=0.0, le=0.5
    )
    require_gamma: bool = param(False, "flag", "Whether unknown gamma walls are no data instead of no filter")
    flow_confidence_each: float = param(
        0.03, "probability", "Added for each unusual activity of the direction with more premium", ge=0.0, le=0.5
    )
    flow_confidence_most: float = param(0.10, "probability", "Most that unusual activity adds", ge=0.0, le=0.5)


@dataclass(slots=True, frozen=True)
class Judged:
    """A word why not (None: no objection), whether it means missing data, and the confidence that is left."""

    reason: str | None
    missing: bool
    confidence: float


def judge(
    params: PositioningParams, symbol: str, direction: int, close: float, context: Context, facts: Facts
) -> Judged:
    """Judge a direction (+1 call, -1 put; 0 only notes what is known); facts tell all that was seen.

    Spot is the chain's, and the last bar's ``close`` (dollars) where that knows none.
    """
    known_spot = context.chains.spot(symbol, context.at_ns)
    spot = close if known_spot is None else known_spot
    levels = context.positioning.gamma(symbol, context.at_ns, fresh=direction != 0)
    flow = context.positioning.flow(symbol, context.at_ns)
    facts |= {"spot": spot, "gamma": _known(levels), "flow": _known(flow)}
    if isinstance(levels, GammaLevels):
        facts |= _gamma_facts(levels, spot)
    if isinstance(flow, FlowSeen):
        facts |= {
            "flow_bullish_usd": flow.bullish_usd,
            "flow_bearish_usd": flow.bearish_usd,
            "flow_bullish_n": flow.bullish_n,
            "flow_bearish_n": flow.bearish_n,
        }
    if direction == 0:
        return Judged(None, False, params.confidence)
    if isinstance(levels, NotKnown) and params.require_gamma:
        return Judged("gamma", True, params.confidence)
    refusal = _wall(params, levels, direction, spot) if isinstance(levels, GammaLevels) else None
    by_pin = _pin(params, levels, direction, spot) if isinstance(levels, GammaLevels) else 0.0
    by_flow = _flow(params, flow, direction) if isinstance(flow, FlowSeen) else 0.0
    # Rounded, because 0.85 - 0.05 in floats is below 0.80.
    confidence = round(min(1.0, max(0.0, params.confidence + by_pin + by_flow)), 9)
    facts |= {"confidence_by_pin": by_pin, "confidence_by_flow": by_flow, "confidence": confidence}
    if refusal is None and confidence < params.min_confidence:
        refusal = "confidence_too_low"
    return Judged(refusal, False, confidence)


def _wall(params: PositioningParams, levels: GammaLevels, direction: int, spot: float) -> str | None:
    """Why the way is barred: a wall just ahead, or None."""
    wall = levels.call_wall if direction > 0 else levels.put_wall
    if wall is None or not 0 <= direction * _away(wall, spot) <= params.wall_within:
        return None
    return "below_call_wall" if direction > 0 else "above_put_wall"


def _pin(params: PositioningParams, levels: GammaLevels, direction: int, spot: float) -> float:
    if levels.pin is None:
        return 0.0
    ahead = direction * _away(levels.pin, spot)
    if abs(ahead) <= params.pin_within:
        return -params.pin_confidence
    return params.pin_confidence if ahead > 0 else 0.0


def _flow(params: PositioningParams, flow: FlowSeen, direction: int) -> float:
    return alignment(
        direction, (flow.bearish_usd, flow.bullish_usd), (flow.bearish_n, flow.bullish_n),
        each=params.flow_confidence_each, most=params.flow_confidence_most,
    )  # fmt: skip


def _away(level: float, spot: float) -> float:
    """How far a level lies from spot, as a fraction with 9 digits: a level on the limit is within it."""
    return round(level / spot - 1.0, 9)


def _known(answer: GammaLevels | FlowSeen | NotKnown) -> str:
    return f"no data: {answer.reason}" if isinstance(answer, NotKnown) else KNOWN


def _gamma_facts(levels: GammaLevels, spot: float) -> Facts:
    def away(level: float | None) -> float | None:
        return None if level is None else _away(level, spot)

    return {
        "call_wall": levels.call_wall,
        "put_wall": levels.put_wall,
        "pin": levels.pin,
        "gamma_flip": levels.flip,
        "net_gamma_usd": levels.net_gamma_usd,
        "call_wall_away": away(levels.call_wall),
        "put_wall_away": away(levels.put_wall),
        "pin_away": away(levels.pin),
        "open_interest_date": levels.open_interest_date,
        "gamma_contracts": levels.contracts_used,
    }

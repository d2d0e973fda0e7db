"""Gamma levels and option flow as others see them: the view and its answers.

Inputs: none. Frozen structs and a protocol; market data are floats, in dollars. Invariant: what is not known is a
``NotKnown`` with its reason, never a figure.
"""

from typing import Protocol

import msgspec


class NotKnown(msgspec.Struct, frozen=True):
    """Why nothing is known: a closed snake_case word, and what was there."""

    reason: str
    facts: dict[str, float | str | bool | None] = {}


class GammaLevels(msgspec.Struct, frozen=True):
    """Where dealers' gamma lies, assuming that they are long calls and short puts; dollars of the underlying.

    ``net_gamma_usd`` is per 1 % move. ``call_wall`` is the strike of the largest call-side gamma, ``put_wall`` of the
    largest put-side, ``pin`` of the largest positive net; ``flip`` the spot at which net gamma is zero; None where
    there is none. Open interest is that of ``open_interest_date``; ``open_interest_share`` of it lies in the contracts
    used. ``left_out`` counts the other contracts by reason.
    """

    at_ns: int
    spot: float
    call_wall: float | None
    put_wall: float | None
    pin: float | None
    flip: float | None
    net_gamma_usd: float
    open_interest_date: str | None
    open_interest_share: float
    contracts_used: int
    left_out: dict[str, int]


class FlowSeen(msgspec.Struct, frozen=True):
    """Unusual option activity since ``since_ns``, by direction: premium in dollars and how many activities.

    A sweep is one activity, any other unusual print is one; ``undirected_usd`` is premium between bid and ask.
    """

    since_ns: int
    bullish_usd: float
    bearish_usd: float
    undirected_usd: float
    bullish_n: int
    bearish_n: int


class PositioningView(Protocol):
    """Gamma levels and option flow of underlyings."""

    def gamma(self, underlying: str, at_ns: int, *, fresh: bool = True) -> GammaLevels | NotKnown:
        """The levels of this minute, or without ``fresh`` those measured last; or why there are none."""
        ...

    def flow(self, underlying: str, at_ns: int) -> FlowSeen | NotKnown:
        """Unusual activity of the last 30 minutes; or why nothing is known of it."""
        ...


class _NoPositioning:
    """What a core that does not watch positioning answers."""

    def gamma(self, _underlying: str, _at_ns: int, *, fresh: bool = True) -> GammaLevels | NotKnown:  # noqa: ARG002
        return NotKnown("not_observed")

    def flow(self, _underlying: str, _at_ns: int) -> FlowSeen | NotKnown:
        return NotKnown("not_observed")


NO_POSITIONING: PositioningView = _NoPositioning()

"""What can be traded of an expiry, which structure is wanted, and which one was chosen.

Inputs: none, frozen structs. Prices are floats in dollars (market data); expiries are ISO dates.
"""

import msgspec

from oracle.core.vocabulary import Side


class UsableContract(msgspec.Struct, frozen=True):
    """A contract that can be traded now: both sides in dollars, the delta of a long one, volatility, open interest.

    ``open_interest`` is that of the end of ``open_interest_date``; None is unknown.
    """

    symbol: str
    is_call: bool
    strike: float
    bid: float
    ask: float
    quoted_ns: int
    delta: float
    iv: float
    open_interest: int | None
    open_interest_date: str | None

    @property
    def mid(self) -> float:
        """The middle of the quote."""
        return (self.bid + self.ask) / 2


class OfferedContract(msgspec.Struct, frozen=True):
    """A contract that is freshly offered and that nobody bids for: it can be bought as a wing, and nothing else."""

    symbol: str
    is_call: bool
    strike: float
    ask: float
    quoted_ns: int
    open_interest: int | None
    open_interest_date: str | None

    @property
    def bid(self) -> float:
        """What it would be sold for: nothing."""
        return 0.0

    @property
    def mid(self) -> float:
        """The middle between nothing and the offer."""
        return self.ask / 2

    @property
    def delta(self) -> None:
        """Unknown: without a bid there is no volatility."""

    @property
    def iv(self) -> None:
        """Unknown."""


class UsableSlice(msgspec.Struct, frozen=True):
    """The usable contracts of one expiry by rising strike, and how many others there are by reason.

    ``offered`` are those of the others that can be bought as wings, by strike and symbol.
    """

    underlying: str
    expiry: str
    spot: float
    forward: float
    forward_source: str
    calls: tuple[UsableContract, ...]
    puts: tuple[UsableContract, ...]
    left_out: dict[str, int]
    offered: tuple[OfferedContract, ...] = ()


class LegWanted(msgspec.Struct, frozen=True):
    """One leg of a structure and how its strike is chosen: exactly one of ``abs_delta``, ``moneyness``, ``of_leg``.

    ``abs_delta``: nearest to it within the band. ``moneyness``: strike / forward - 1 nearest to it. ``of_leg``: the
    strike of that earlier leg plus ``offset_usd``, exactly.
    """

    is_call: bool
    side: Side
    ratio: int = 1
    abs_delta: float | None = None
    abs_delta_low: float = 0.0
    abs_delta_high: float = 1.0
    moneyness: float | None = None
    of_leg: int | None = None
    offset_usd: float = 0.0


class StructureRequest(msgspec.Struct, frozen=True):
    """Which structure is wanted: all its legs in the first of ``expiries`` (ISO, by preference) that has them.

    A leg's quote may be ``max_age_s`` old; the legs' spreads together may be at most ``max_spread_usd`` and
    ``max_spread_of_mid`` of the size of the net mid. ``min_open_interest`` above 0 leaves out what has less or unknown.
    """

    underlying: str
    expiries: tuple[str, ...]
    legs: tuple[LegWanted, ...]
    max_age_s: float
    max_spread_usd: float
    max_spread_of_mid: float
    min_open_interest: int = 0


class ChosenLeg(msgspec.Struct, frozen=True):
    """A leg as chosen."""

    contract: UsableContract | OfferedContract
    side: Side
    ratio: int


class SelectedStructure(msgspec.Struct, frozen=True):
    """The chosen legs, in the order of the request, with what the choice rests on."""

    underlying: str
    expiry: str
    legs: tuple[ChosenLeg, ...]
    spot: float
    forward: float
    forward_source: str

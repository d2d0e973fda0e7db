"""Which contracts of an expiry are needed: streamed near the money within a share of the limit, or read at times.

Inputs: an expiry's strikes, where the money is, how many may be streamed or how far they may lie. Outputs: symbols.
Pure functions. Invariants: never more than the share; equal inputs give equal symbols; an option in the money is needed
only near the money, because the other right at its strike carries its volatility.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Strike, symbol, whether it is a call.
Row = tuple[float, str, bool]
# Both rights of so many strikes nearest the money imply the forward; the same least number is read at times.
NEAREST_STRIKES = 8
# Where a whole expiry is read, both rights within this share of spot.
BOTH_WITHIN = 0.02
# An expiry of which many strikes are needed counts so many times in the sharing.
WIDE_WEIGHT = 2


@dataclass(slots=True, frozen=True)
class Slot:
    """One expiry of one underlying that is to be streamed. ``wide``: far strikes are needed, out of the money only."""

    underlying: str
    rows: Sequence[Row]
    centre: float
    wide: bool

    @property
    def weight(self) -> int:
        """How many shares it gets."""
        return WIDE_WEIGHT if self.wide else 1


def share_out(slots: Sequence[Slot], room: int) -> tuple[set[str], dict[str, float]]:
    """Divide the room over the slots, nearest strikes first: symbols, and half the least width by underlying."""
    share = room // max(sum(slot.weight for slot in slots), 1)
    chosen: set[str] = set()
    widths: dict[str, float] = {}
    for slot in slots:
        near = _by_distance(slot)[: share * slot.weight]
        chosen.update(symbol for _, symbol in near)
        width = near[-1][0] if near else 0.0
        widths[slot.underlying] = min(width, widths.get(slot.underlying, width))
    return chosen, widths


def read_at_times(rows: Iterable[Row], centre: float, reach: float | None) -> set[str]:
    """What is read of an expiry at times: strikes within ``reach`` (a share of spot), or all out of the money.

    At least the nearest strikes, both rights.
    """
    near = _nearest_strikes(rows := tuple(rows), centre)
    if reach is not None:
        within = reach * centre
        return {symbol for strike, symbol, _ in rows if strike in near or abs(strike - centre) <= within}
    both = BOTH_WITHIN * centre
    return {
        symbol
        for strike, symbol, is_call in rows
        if strike in near or abs(strike - centre) <= both or _is_out(strike, is_call, centre)
    }


def _by_distance(slot: Slot) -> list[tuple[float, str]]:
    rows: Iterable[Row] = slot.rows
    if slot.wide:
        near = _nearest_strikes(slot.rows, slot.centre)
        rows = (row for row in slot.rows if row[0] in near or _is_out(row[0], row[2], slot.centre))
    return sorted((abs(strike - slot.centre), symbol) for strike, symbol, _ in rows)


def _nearest_strikes(rows: Iterable[Row], centre: float) -> frozenset[float]:
    strikes = sorted({strike for strike, _, _ in rows}, key=lambda strike: (abs(strike - centre), strike))
    return frozenset(strikes[:NEAREST_STRIKES])


def _is_out(strike: float, is_call: bool, centre: float) -> bool:
    return strike >= centre if is_call else strike <= centre

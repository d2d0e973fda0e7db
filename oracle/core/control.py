"""What an operator may ask of a running daemon: one frozen struct for each request, told apart by ``action``.

Inputs: the control socket's JSON, or the journal. Outputs: the ``ask`` of an ``OperatorRequested``. Who asked, and
why, stand beside it. Invariant: plain values only, each with a limit; nothing here can name a price or a size.
"""

from typing import Annotated

import msgspec

# Who flattens, and why, when a backtest's data end with trades open; their exit rule.
BACKTEST, END_OF_DATA = "backtest", "end_of_data"
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
# A structure's name holds its legs.
Instrument = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Fraction = Annotated[float, msgspec.Meta(gt=0, le=1)]
Clock = Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Date = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class _Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="action"):
    """Base of all requests."""


class Halt(_Ask, frozen=True, tag="halt"):
    """Stop entries until a resume, take working entries back, and confirm it from the broker's records."""


class Resume(_Ask, frozen=True, tag="resume"):
    """Clear one latch, or all that an operator may clear."""

    latch: Name | None = None


class Flatten(_Ask, frozen=True, tag="flatten"):
    """Halt, close every open trade, and confirm from the broker's records that nothing is left."""


class Switch(_Ask, frozen=True, tag="switch"):
    """Let a strategy enter trades, or not; its exits go on either way."""

    strategy: Name
    enabled: bool


class Reconcile(_Ask, frozen=True, tag="reconcile"):
    """Read the account now and compare."""


class AdoptPosition(_Ask, frozen=True, tag="adopt_position"):
    """Take what others did in these contracts into the books, with an exit plan for what is held.

    Fractions are of the entry premium. ``flat_at`` is New York time on the contract's last trading day.
    """

    symbols: Annotated[tuple[Instrument, ...], msgspec.Meta(min_length=1, max_length=50)]
    stop_fraction: Fraction
    target_fraction: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None
    flat_at: Clock = "15:00"


class AdoptOrder(_Ask, frozen=True, tag="adopt_order"):
    """Take an order that is not ours under control: it is cancelled, and what it filled can be adopted."""

    client_order_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Evaluate(_Ask, frozen=True, tag="evaluate"):
    """Ask a strategy what it would do now, and risk what it would say. Changes nothing.

    ``structure``: what it would trade whatever the time and its signal, with the state of the house.
    """

    strategy: Name
    symbol: Name | None = None
    structure: bool = False


class Trade(_Ask, frozen=True, tag="trade"):
    """Send what a strategy wants now, if it is still the contract or structure that a person has said yes to."""

    strategy: Name
    symbol: Name
    contract: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Note(_Ask, frozen=True, tag="note"):
    """Write something down with a session: the day's, or the one named by its ISO date."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    session: Date | None = None


class Tighten(_Ask, frozen=True, tag="tighten"):
    """Make a criterion of readiness stricter for one strategy, for good. Names and units: ``core/criteria.py``."""

    strategy: Name
    criterion: Name
    value: float


class Look(_Ask, frozen=True, tag="look"):
    """Show a view of the running daemon. It is answered beside the core and is no input: looking is not recorded."""

    view: Name


Ask = (
    Halt | Resume | Flatten | Switch | Reconcile | AdoptPosition | AdoptOrder | Evaluate | Trade | Note | Tighten | Look
)


def action_of(ask: Ask) -> str:
    """The request's word."""
    return str(type(ask).__struct_config__.tag)

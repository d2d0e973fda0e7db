"""From unknown to known: what an answer, or its absence, says about an order. Pure.

Inputs: look-up results, the command that was sent, how long the doubt has lasted. Outputs: verdicts, delays, events.
Invariants: an order is adopted only when every field matches; while its fate is unknown it is only ever sent again
under the same client order id, and at most once (alpaca.md section 5).
"""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from oracle.core.messages import SendOrder
from oracle.core.money import ZERO
from oracle.core.reports import BrokerOrder, LookUpReturned
from oracle.core.sessions import NS
from oracle.core.structures import OrderLeg, is_structure, legs_of, structure_name
from oracle.core.vocabulary import Outcome, Side
from oracle.execution.orders import OrderEvent

# A look-up soon, then ever later, and never rarer than the last figure.
DELAYS_S: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# The server may commit late: "not found" proves nothing before this.
NOT_FOUND_S: Final = 10
# Clocks of broker and host may differ by this much when creation times are compared.
CLOCK_SLACK_NS: Final = 60 * NS

STATUS_EVENTS: Final[Mapping[str, OrderEvent]] = MappingProxyType(
    {
        "new": OrderEvent.NEW,
        "accepted": OrderEvent.NEW,
        "accepted_for_bidding": OrderEvent.NEW,
        "held": OrderEvent.NEW,
        # Alive and not trading for now: nothing is in doubt, and a cancel may be asked for.
        "suspended": OrderEvent.PENDING,
        "stopped": OrderEvent.PENDING,
        "pending_review": OrderEvent.PENDING,
        "pending_replace": OrderEvent.PENDING,
        "pending_new": OrderEvent.PENDING,
        "pending_cancel": OrderEvent.PENDING,
        "partially_filled": OrderEvent.PARTIAL_FILL,
        "filled": OrderEvent.FILL,
        "canceled": OrderEvent.CANCELED,
        "expired": OrderEvent.EXPIRED,
        "rejected": OrderEvent.REJECTED,
        "done_for_day": OrderEvent.DONE_FOR_DAY,
        "calculated": OrderEvent.DONE_FOR_DAY,
        "replaced": OrderEvent.REPLACED,
    }
)


class Verdict(StrEnum):
    """What a look-up means."""

    ADOPT = "adopt"
    MISMATCH = "mismatch"
    WAIT = "wait"
    RESEND = "resend"
    LOST = "lost"


class Doubt(msgspec.Struct, frozen=True):
    """How things stand with an attempt: since when in doubt (None: the broker held it), sent again, still wanted."""

    since_ns: int | None
    resent: bool
    wanted: bool


def delay_s(looks: int) -> float:
    """Seconds until the next look, after so many."""
    return DELAYS_S[min(looks, len(DELAYS_S) - 1)]


def event_of_status(status: str) -> OrderEvent:
    """The event that explains a status; a word we do not know is UNKNOWN_EVENT."""
    return STATUS_EVENTS.get(status, OrderEvent.UNKNOWN_EVENT)


def mismatch(sent: SendOrder, sent_ns: int, found: BrokerOrder) -> str:
    """Compare the broker's order with the command; empty when every field agrees."""
    symbol, side, limit_usd = as_traded(sent)
    pairs = (
        ("symbol", symbol, found.symbol),
        ("side", side, found.side),
        ("qty", sent.contracts, found.qty),
        ("limit", limit_usd, found.limit_price_usd),
    )
    wrong = [f"{name} {theirs} instead of {ours}" for name, ours, theirs in pairs if ours != theirs]
    if found.created_ns < sent_ns - CLOCK_SLACK_NS:
        wrong.append(f"created {(sent_ns - found.created_ns) // NS} s before it was sent")
    return "; ".join(wrong)


def as_traded(sent: SendOrder) -> tuple[str, Side, Decimal | None]:
    """Symbol, side and limit under which the broker tells of a command.

    It knows no sale of a structure: the legs are all reversed then and bought at the negated net price.
    """
    if not is_structure(sent.symbol):
        return sent.symbol, sent.side, sent.limit_usd
    if sent.side is Side.BUY:
        return structure_name(legs_of(sent.symbol)), sent.side, sent.limit_usd
    reversed_legs = (OrderLeg(leg.symbol, leg.side.opposite, leg.ratio) for leg in legs_of(sent.symbol))
    # Subtracted, so that an even price does not become a negative zero.
    return structure_name(reversed_legs), Side.BUY, None if sent.limit_usd is None else ZERO - sent.limit_usd


def resolve(answer: LookUpReturned, sent: SendOrder, sent_ns: int, doubt: Doubt, at_ns: int) -> Verdict:
    """Judge a look-up.

    Found and equal: adopt. Found and different: mismatch. Not found for ``NOT_FOUND_S`` of doubt: send the same id
    again if it is still wanted and was not, else it never reached the broker. Everything else: look again.
    """
    if answer.outcome is Outcome.ACCEPTED and answer.order is not None:
        return Verdict.MISMATCH if mismatch(sent, sent_ns, answer.order) else Verdict.ADOPT
    if answer.outcome is not Outcome.NOT_FOUND or doubt.since_ns is None:
        return Verdict.WAIT
    if at_ns - doubt.since_ns < NOT_FOUND_S * NS:
        return Verdict.WAIT
    return Verdict.RESEND if doubt.wanted and not doubt.resent else Verdict.LOST

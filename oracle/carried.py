"""What a core would find in its store after a restart, without a store: durable state carried from segment to segment.

Inputs: the state that a start loaded, and the durable messages of what was played since. Output: the state that the
next start loads. Pure. Invariant: carrying a recorded segment's messages gives what the next recorded segment loaded,
in everything that an actor restores itself from (``results`` stay as they were).
"""

from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace

from oracle.core.marketdata import DailyIvObserved
from oracle.core.message import Message
from oracle.core.messages import (
    CashCorrected,
    CashTransferred,
    CriterionTightened,
    EquityMarked,
    ExitPlanAdvanced,
    ExitTriggered,
    FeeCharged,
    ForeignExecution,
    Intent,
    LatchChanged,
    LedgerSeeded,
    OperatorAnswered,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    PositionAdopted,
    PositionSettled,
    SessionOpened,
    StrategyFailed,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.store.loading import Loaded
from oracle.store.rows import order_sequence

M = TypeVar("M", bound=Message)
BOOKED = (
    LedgerSeeded, FeeCharged, CashCorrected, CashTransferred, PositionSettled,
    SubmitOrder, OrderFilled, OrderClosed, ExitTriggered, TradeOpened, TradeClosed,
)  # fmt: skip
Stored = Sequence[tuple[int, Message]]


def carried(before: Loaded, stored: Stored) -> Loaded:
    """Add what has become durable since a start.

    Args:
        before: what that start loaded.
        stored: (UTC ns of the commit, durable message), in order of commit.
    """
    rows = _unpacked(stored)
    submits = [(at_ns, message) for at_ns, message in rows if isinstance(message, SubmitOrder)]
    steps = [(at_ns, message) for at_ns, message in rows if isinstance(message, OrderAdvanced)]
    latches = {row.latch: row for row in before.latches}
    for change in _of(rows, LatchChanged):
        latches.pop(change.latch, None)
        latches[change.latch] = change
    marks = {mark.kind: mark for mark in before.equity}
    for mark in _of(rows, EquityMarked):
        marks.pop(mark.kind, None)
        marks[mark.kind] = mark
    ivs = {(iv.underlying, iv.date): iv for iv in (*before.iv_history, *_of(rows, DailyIvObserved))}
    sessions = _of(rows, SessionOpened)
    session = sessions[-1] if sessions else before.session
    after = replace(
        before,
        next_order_sequence=max(
            [before.next_order_sequence, *(order_sequence(order.order_id) + 1 for _, order in submits)]
        ),
        seed=next(iter(_of(rows, LedgerSeeded)), before.seed),
        session=session,
        books=(*before.books, *(message for _, message in rows if isinstance(message, BOOKED))),
        submits=(*before.submits, *(order for _, order in submits)),
        submitted_ns=(*before.submitted_ns, *(at_ns for at_ns, _ in submits)),
        order_events=(*before.order_events, *(step for _, step in steps)),
        advanced_ns=(*before.advanced_ns, *(at_ns for at_ns, _ in steps)),
        order_ends=(*before.order_ends, *_of(rows, OrderClosed)),
        fills=(*before.fills, *_of(rows, OrderFilled)),
        foreign=(*before.foreign, *_of(rows, ForeignExecution)),
        opened=(*before.opened, *_of(rows, TradeOpened)),
        closed=(*before.closed, *_of(rows, TradeClosed)),
        triggered=(*before.triggered, *_of(rows, ExitTriggered)),
        latch_events=(*before.latch_events, *_of(rows, LatchChanged)),
        latches=tuple(latches.values()),
        equity=tuple(marks.values()),
        intents=_intents(before, rows, session),
        failures=(*before.failures, *_of(rows, StrategyFailed)),
        iv_history=tuple(ivs[key] for key in sorted(ivs)),
        settled=tuple(sorted({*before.settled, *_covered(rows)})),
        operator=(*before.operator, *_of(rows, OperatorAnswered)),
        settlements=(*before.settlements, *_of(rows, PositionSettled)),
        criteria=(*before.criteria, *_of(rows, CriterionTightened)),
        unmarked=_unmarked(before, rows),
    )
    still = {trade.trade_id for trade in after.still_open}
    phases = tuple(p for p in (*before.phases, *_of(rows, ExitPlanAdvanced)) if p.trade_id in still)
    return replace(after, phases=phases)


def _unpacked(stored: Stored) -> list[tuple[int, Message]]:
    """An adopted order stands in the same tables as any other, with its intent before it."""
    rows: list[tuple[int, Message]] = []
    for at_ns, message in stored:
        if isinstance(message, PositionAdopted):
            if message.intent is not None:
                rows.append((at_ns, message.intent))
            rows += [(at_ns, message.order), (at_ns, message)]
        else:
            rows.append((at_ns, message))
    return rows


def _of(rows: Stored, kind: type[M]) -> tuple[M, ...]:
    return tuple(message for _, message in rows if isinstance(message, kind))


def _intents(before: Loaded, rows: Stored, session: SessionOpened | None) -> tuple[Intent, ...]:
    """Those of the newest session, each once."""
    since_ns = 0 if session is None else session.open_ns
    kept = () if session != before.session else before.intents
    found = {intent.intent_id: intent for intent in kept}
    for at_ns, message in rows:
        if isinstance(message, Intent) and at_ns >= since_ns:
            found.setdefault(message.intent_id, message)
    return tuple(found.values())


def _unmarked(before: Loaded, rows: Stored) -> tuple[CashTransferred, ...]:
    """Transfers after the newest equity mark; those before it have moved what it says."""
    marked = max((n for n, (_, message) in enumerate(rows, 1) if isinstance(message, EquityMarked)), default=0)
    kept = () if marked > 0 else before.unmarked
    return (*kept, *_of(rows[marked:], CashTransferred))


def _covered(rows: Stored) -> list[str]:
    """Executions of others that the books hold, and ids that settlements cover."""
    kinds = (PositionAdopted, CashCorrected, PositionSettled)
    return [name for _, message in rows if isinstance(message, kinds) for name in message.covers]

"""What a starting process needs to know: the durable messages that actors rebuild themselves from.

Input: an open database. Output: one frozen struct of message lists in commit order. Nothing is summed up here that
an actor folds itself; the per-strategy results are the one convenience.
"""

import heapq
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

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
    PositionSettled,
    SessionOpened,
    StrategyFailed,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.money import from_micros
from oracle.store.rows import (
    QUERIES,
    answer_of,
    correction_of,
    decoded,
    equity_of,
    intent_of,
    message_of,
    seed_of,
    settlement_of,
)

M = TypeVar("M", bound=Message)
Numbered = list[tuple[int, M]]
# A union, not Message: a journal's snapshot is decoded by these types.
Booked = (
    LedgerSeeded | FeeCharged | CashCorrected | CashTransferred | PositionSettled
    | SubmitOrder | OrderFilled | OrderClosed | ExitTriggered | TradeOpened | TradeClosed
)  # fmt: skip


class StrategyResults(msgspec.Struct, frozen=True):
    """Closed round trips of one strategy hash, by the sign of P&L net of modelled fees. Sums are positive dollars."""

    strategy: str
    strategy_hash: str
    trades: int
    wins: int
    losses: int
    won_usd: Decimal
    lost_usd: Decimal
    gross_pnl_usd: Decimal
    fees_modelled_usd: Decimal


class Loaded(msgspec.Struct, frozen=True):
    """Everything durable that a start needs. All tuples are in commit order.

    ``books``: what the ledger folds (LedgerSeeded, FeeCharged, CashCorrected, CashTransferred, PositionSettled,
    SubmitOrder, OrderFilled, OrderClosed, ExitTriggered, and trades opened and closed) as one sequence.
    ``order_events`` are of all orders, because an execution can be told long after its order's end; ``phases`` are
    those of open trades only; ``intents`` are of the newest session; ``latch_events`` are all changes, ``latches`` the
    newest of each; ``equity`` is the newest mark of each kind.
    ``submitted_ns`` and ``advanced_ns``: when each of ``submits`` and ``order_events`` was committed, UTC ns.
    ``settled``: executions of others that the books hold, and ids that settlements cover, sorted; ``settlements``: all
    of them; ``operator``: every answer to an operator; ``criteria``: what was made stricter, oldest first;
    ``unmarked``: transfers of cash that were booked after the newest equity mark.
    """

    token: str
    mode: str
    created_ns: int
    next_order_sequence: int
    seed: LedgerSeeded | None
    session: SessionOpened | None
    books: tuple[Booked, ...]
    submits: tuple[SubmitOrder, ...]
    order_events: tuple[OrderAdvanced, ...]
    order_ends: tuple[OrderClosed, ...]
    fills: tuple[OrderFilled, ...]
    foreign: tuple[ForeignExecution, ...]
    opened: tuple[TradeOpened, ...]
    closed: tuple[TradeClosed, ...]
    triggered: tuple[ExitTriggered, ...]
    phases: tuple[ExitPlanAdvanced, ...]
    latch_events: tuple[LatchChanged, ...]
    latches: tuple[LatchChanged, ...]
    equity: tuple[EquityMarked, ...]
    intents: tuple[Intent, ...]
    failures: tuple[StrategyFailed, ...]
    iv_history: tuple[DailyIvObserved, ...]
    results: tuple[StrategyResults, ...]
    submitted_ns: tuple[int, ...] = ()
    advanced_ns: tuple[int, ...] = ()
    settled: tuple[str, ...] = ()
    operator: tuple[OperatorAnswered, ...] = ()
    settlements: tuple[PositionSettled, ...] = ()
    criteria: tuple[CriterionTightened, ...] = ()
    unmarked: tuple[CashTransferred, ...] = ()

    @property
    def last_equity(self) -> EquityMarked | None:
        """The newest equity mark of any kind, or None."""
        return self.equity[-1] if len(self.equity) else None

    @property
    def marked_ns(self) -> int | None:
        """When equity was last marked, UTC ns, or None."""
        return None if self.last_equity is None else self.last_equity.at_ns

    @property
    def still_open(self) -> tuple[TradeOpened, ...]:
        """Trades that are open. A late fill can open one again after its end, so ends are counted, not looked up."""
        ends = Counter(trade.trade_id for trade in self.closed)
        out = []
        for trade in self.opened:
            ends[trade.trade_id] -= 1
            if ends[trade.trade_id] < 0:
                out.append(trade)
        return tuple(out)

    @property
    def working(self) -> tuple[SubmitOrder, ...]:
        """Orders that can still fill: submitted and without an end."""
        over = {end.order_id for end in self.order_ends}
        return tuple(submit for submit in self.submits if submit.order_id not in over)


def load(db: sqlite3.Connection) -> Loaded:
    """Read everything in one consistent snapshot.

    Raises:
        StoreError: a row does not hold a valid message.
    """
    db.execute("BEGIN")
    try:
        return _load(db)
    finally:
        db.execute("ROLLBACK")


def _load(db: sqlite3.Connection) -> Loaded:
    seeds = _read(db, "load_seed", seed_of)
    submits = _read(db, "load_submits", lambda row: decoded(SubmitOrder, row["message"]))
    ends = _read(db, "load_order_ends", lambda row: message_of(OrderClosed, row))
    fills = _read(db, "load_fills", lambda row: message_of(OrderFilled, row))
    opened = _read(db, "load_opened", lambda row: message_of(TradeOpened, row))
    closed = _read(db, "load_closed", lambda row: decoded(TradeClosed, row["message"]))
    triggered = _read(db, "load_triggered", lambda row: message_of(ExitTriggered, row))
    fees = _read(db, "load_fees", lambda row: message_of(FeeCharged, row))
    transfers = _read(db, "load_cash_transfers", lambda row: message_of(CashTransferred, row))
    session = db.execute(QUERIES["load_session"]).fetchone()
    corrected = _read(db, "load_cash_corrections", correction_of)
    settlements = _read(db, "load_settlements", settlement_of)
    sources: tuple[Sequence[tuple[int, Booked]], ...] = (
        seeds, submits, ends, fills, opened, closed, triggered, fees, transfers, corrected, settlements,
    )  # fmt: skip
    books = heapq.merge(*sources, key=lambda pair: pair[0])
    return Loaded(
        token=_meta(db, "instance_token"),
        mode=_meta(db, "mode"),
        created_ns=int(_meta(db, "created_ns")),
        next_order_sequence=db.execute(QUERIES["load_next_sequence"]).fetchone()[0],
        seed=seeds[0][1] if seeds else None,
        session=None if session is None else message_of(SessionOpened, session),
        books=tuple(message for _, message in books),
        submits=_messages(submits),
        order_events=_list(db, "load_order_events", OrderAdvanced),
        order_ends=_messages(ends),
        fills=_messages(fills),
        foreign=_list(db, "load_foreign", ForeignExecution),
        opened=_messages(opened),
        closed=_messages(closed),
        triggered=_messages(triggered),
        phases=_list(db, "load_phases", ExitPlanAdvanced),
        latch_events=_list(db, "load_latch_events", LatchChanged),
        latches=_list(db, "load_latches", LatchChanged),
        equity=_messages(_read(db, "load_equity", equity_of)),
        intents=_messages(_read(db, "load_intents", intent_of)),
        failures=_list(db, "load_failures", StrategyFailed),
        iv_history=tuple(message_of(DailyIvObserved, row) for row in db.execute(QUERIES["load_iv"])),
        results=tuple(_results(row) for row in db.execute(QUERIES["load_results"])),
        submitted_ns=_times(db, "load_submits"),
        advanced_ns=_times(db, "load_order_events"),
        settled=tuple(row["execution_id"] for row in db.execute(QUERIES["load_settled"])),
        operator=_messages(_read(db, "load_operator_answers", answer_of)),
        settlements=_messages(settlements),
        criteria=_list(db, "load_criteria", CriterionTightened),
        unmarked=_list(db, "load_unmarked_transfers", CashTransferred),
    )


def _meta(db: sqlite3.Connection, key: str) -> str:
    return str(db.execute(QUERIES["get_meta"], {"key": key}).fetchone()[0])


def _read(db: sqlite3.Connection, name: str, build: Callable[[sqlite3.Row], M]) -> Numbered[M]:
    return [(row["log_id"], build(row)) for row in db.execute(QUERIES[name])]


def _list(db: sqlite3.Connection, name: str, kind: type[M]) -> tuple[M, ...]:
    return tuple(message_of(kind, row) for row in db.execute(QUERIES[name]))


def _times(db: sqlite3.Connection, name: str) -> tuple[int, ...]:
    return tuple(row["recorded_ns"] for row in db.execute(QUERIES[name]))


def _messages(numbered: Numbered[M]) -> tuple[M, ...]:
    return tuple(message for _, message in numbered)


def _results(row: sqlite3.Row) -> StrategyResults:
    return StrategyResults(
        strategy=row["strategy"],
        strategy_hash=row["strategy_hash"],
        trades=row["trades"],
        wins=row["wins"],
        losses=row["losses"],
        won_usd=from_micros(row["won_micros"]),
        lost_usd=from_micros(row["lost_micros"]),
        gross_pnl_usd=from_micros(row["gross_pnl_micros"]),
        fees_modelled_usd=from_micros(row["fees_modelled_micros"]),
    )

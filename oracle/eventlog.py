"""Turn facts into log lines: at most one for each transition, with the ids that tie intent to fill.

Inputs: turns. Outputs: structlog events in a closed vocabulary (docs/logs.md). No line for ticks, bars or quotes.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from oracle.core.engine import Turn
from oracle.core.marketdata import DailyIvMissing, DailyIvRanked, FeedChanged
from oracle.core.message import Message
from oracle.core.messages import (
    CashCorrected,
    CashTransferred,
    CriterionTightened,
    DrainRequested,
    ExitTriggered,
    ExitUnjudged,
    ForeignExecution,
    Intent,
    IntentApproved,
    IntentRefused,
    LatchChanged,
    NoData,
    NoSignal,
    NoteAdded,
    OperatorAnswered,
    OperatorRequested,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    PositionAdopted,
    PositionSettled,
    Reconciled,
    SessionClosed,
    SessionOpened,
    StrategyFailed,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.reports import AccountReported
from oracle.core.vocabulary import Ending, FeedState

log = structlog.get_logger("oracle.core")
Fields = dict[str, Any]


def _refused(m: IntentRefused) -> Fields:
    rules = [f"{r.rule}: {r.observed} (limit {r.limit})" for r in m.refusals]
    return {"intent_id": m.intent_id, "decision_id": m.decision_id, "refusals": rules}


def _submitted(m: SubmitOrder) -> Fields:
    return {
        "order_id": m.order_id, "trade_id": m.trade_id, "decision_id": m.decision_id, "purpose": m.purpose.value,
        "symbol": m.symbol, "side": m.side.value, "contracts": m.contracts, "reason": m.reason,
        "worst_price_usd": None if m.worst_price_usd is None else str(m.worst_price_usd),
        "config_fingerprint": m.config_fingerprint,
    }  # fmt: skip


def _advanced(m: OrderAdvanced) -> Fields:
    return {
        "client_order_id": m.client_order_id, "attempt": m.attempt, "step": m.step, "from_state": m.from_state.value,
        "to_state": m.to_state.value, "filled": m.filled, "text": m.text,
    }  # fmt: skip


def _filled(m: OrderFilled) -> Fields:
    return {
        "trade_id": m.trade_id, "client_order_id": m.client_order_id, "broker_order_id": m.broker_order_id,
        "execution_id": m.execution_id, "symbol": m.symbol, "side": m.side.value, "contracts": m.contracts,
        "price_usd": str(m.price_usd), "purpose": m.purpose.value,
    }  # fmt: skip


def _closed(m: TradeClosed) -> Fields:
    return {
        "trade_id": m.trade_id, "strategy": m.strategy, "symbol": m.symbol, "contracts": m.contracts,
        "gross_pnl_usd": str(m.gross_pnl_usd), "fees_modelled_usd": str(m.fees_modelled_usd), "exit_rule": m.exit_rule,
    }  # fmt: skip


def _approved(m: IntentApproved) -> Fields:
    return {
        "intent_id": m.intent_id, "decision_id": m.decision_id, "contracts": m.contracts, "bound_by": m.bound_by,
        "planned_risk_usd": str(m.planned_risk_usd), "worst_case_usd": str(m.worst_case_usd),
    }  # fmt: skip


def _answered(m: OperatorAnswered) -> Fields:
    return {
        "request_id": m.request_id, "action": m.action, "who": m.who, "why": m.why, "ok": m.ok, "done": m.done,
        "text": m.text,
    }  # fmt: skip


def _iv_ranked(m: DailyIvRanked) -> Fields:
    return {
        "underlying": m.underlying, "date": m.date, "iv_30d": m.iv_30d, "rank": m.rank, "percentile": m.percentile,
        "observations": m.observations, "reason": m.reason,
    }  # fmt: skip


def _tightened(m: CriterionTightened) -> Fields:
    return {"strategy": m.strategy, "criterion": m.criterion, "value": m.value, "before": m.before, "who": m.who}


def _settled(m: PositionSettled) -> Fields:
    shares = {} if m.shares == 0 else {
        "shares": m.shares, "shares_symbol": m.shares_symbol, "share_price_usd": str(m.share_price_usd),
    }  # fmt: skip
    return {
        "settlement_id": m.settlement_id, "trade_id": m.trade_id, "ending": m.ending.value, "symbol": m.symbol,
        "contracts": m.contracts, "price_usd": str(m.price_usd), "source": m.source, **shares,
    }  # fmt: skip


def _transferred(m: CashTransferred) -> Fields:
    return {
        "activity_id": m.activity_id, "kind": m.kind, "amount_usd": str(m.amount_usd), "date": m.date, "text": m.text,
    }  # fmt: skip


# message class -> (event, level, fields)
TABLE: dict[type[Message], tuple[str, str, Callable[[Any], Fields]]] = {
    SessionOpened: ("session_opened", "info", lambda m: {"date": m.date}),
    SessionClosed: ("session_closed", "info", lambda m: {"date": m.date}),
    NoSignal: ("no_signal", "info", lambda m: {"strategy": m.strategy, "symbol": m.symbol, "reason": m.reason}),
    NoData: ("no_data", "info", lambda m: {"strategy": m.strategy, "symbol": m.symbol, "what": m.what}),
    DailyIvRanked: ("iv_ranked", "info", _iv_ranked),
    DailyIvMissing: (
        "iv_missing",
        "warning",
        lambda m: {"underlying": m.underlying, "date": m.date, "what": m.what, "facts": m.facts, "final": m.final},
    ),
    Intent: ("intent", "info", lambda m: {"intent_id": m.intent_id, "reason": m.reason, "confidence": m.confidence}),
    IntentApproved: ("intent_approved", "info", _approved),
    IntentRefused: ("intent_refused", "warning", _refused),
    SubmitOrder: ("order_submitted", "info", _submitted),
    OrderAdvanced: ("order_advanced", "info", _advanced),
    OrderFilled: ("order_filled", "info", _filled),
    OrderClosed: ("order_closed", "info", lambda m: {"order_id": m.order_id, "filled": m.filled, "end": m.end}),
    TradeOpened: ("trade_opened", "info", lambda m: {"trade_id": m.trade_id, "symbol": m.symbol}),
    TradeClosed: ("trade_closed", "info", _closed),
    ExitTriggered: (
        "exit_triggered",
        "info",
        lambda m: {"trade_id": m.trade_id, "rule": m.rule, "observed": m.observed, "limit": m.limit},
    ),
    ExitUnjudged: ("exit_unjudged", "warning", lambda m: {"trade_id": m.trade_id, "rule": m.rule, "what": m.what}),
    LatchChanged: (
        "latch_changed",
        "error",
        lambda m: {"latch": m.latch, "active": m.active, "reason": m.reason, "observed": m.observed},
    ),
    StrategyFailed: ("strategy_failed", "error", lambda m: {"strategy": m.strategy, "error": m.error}),
    OperatorAnswered: ("operator_answered", "warning", _answered),
    PositionAdopted: (
        "position_adopted",
        "warning",
        lambda m: {"request_id": m.request_id, "order_id": m.order.order_id, "symbol": m.order.symbol},
    ),
    CashCorrected: (
        "cash_corrected",
        "warning",
        lambda m: {"request_id": m.request_id, "symbol": m.symbol, "amount_usd": str(m.amount_usd), "who": m.who},
    ),
    CashTransferred: ("cash_transferred", "info", _transferred),
    PositionSettled: ("position_settled", "warning", _settled),
    NoteAdded: ("note_added", "info", lambda m: {"session": m.session, "text": m.text, "who": m.who}),
    CriterionTightened: ("criterion_tightened", "warning", _tightened),
    ForeignExecution: (
        "foreign_execution",
        "error",
        lambda m: {"execution_id": m.execution_id, "symbol": m.symbol, "qty": str(m.qty), "side": m.side.value},
    ),
}


class EventLog:
    """Writes a line for each message in ``TABLE``, and for the inputs that an operator must see."""

    __slots__ = ("_differences",)

    def __init__(self) -> None:
        self._differences: tuple[str, ...] | None = None

    def on_turn(self, turn: Turn, _seconds: float = 0.0) -> None:
        """Log a turn."""
        source = turn.stamped.input
        if isinstance(source, FeedChanged):
            level = "info" if source.state is not FeedState.DOWN else "error"
            self._say(turn, "feed_changed", level, {
                "feed": source.feed.value, "state": source.state.value, "epoch": source.epoch, "reason": source.reason,
            })  # fmt: skip
        elif isinstance(source, DrainRequested):
            self._say(turn, "drain_requested", "info", {"who": source.who, "why": source.why})
        elif isinstance(source, OperatorRequested):
            self._say(turn, "operator_requested", "warning", {
                "request_id": source.request_id, "who": source.who, "why": source.why,
                "ask": msgspec.to_builtins(source.ask),
            })  # fmt: skip
        elif isinstance(source, AccountReported) and source.text:
            self._say(turn, "account_unread", "warning", {"text": source.text})
        for message in turn.messages:
            row = TABLE.get(type(message))
            if row is not None:
                self._say(turn, row[0], _level(message, row[1]), row[2](message))
            elif isinstance(message, Reconciled) and message.differences != self._differences:
                # Only edges: a comparison that stays clean, or stays the same, is not news.
                self._differences = message.differences
                level = "error" if message.differences else "info"
                self._say(turn, "reconciled", level, {"differences": list(message.differences)})

    def _say(self, turn: Turn, event: str, level: str, fields: Fields) -> None:
        stamp = dt.datetime.fromtimestamp(turn.stamped.at_ns // 1_000_000_000, dt.UTC)
        getattr(log, level)(event, seq=turn.stamped.seq, market_time=stamp.isoformat(), **fields)


def _level(message: Message, usual: str) -> str:
    """A latch that is cleared and a contract that simply expired are no alarms; a leg on its own is one."""
    match message:
        case LatchChanged(active=False) | PositionSettled(ending=Ending.EXPIRED):
            return "info"
        case ExitTriggered(rule="orphan_leg"):
            return "error"
        case _:
            return usual

"""Counts what the core did: one observer of turns, on a registry of its own.

Inputs: each turn's input and messages, and figures from the edges. Output: the Prometheus text. Invariants: label
children are made once, at the start; a turn without facts costs a few microseconds; nothing here can change what the
core decides. Amounts become floats here and only for display.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import generate_latest

from oracle.core.marketdata import Bar, DailyIvMissing, DailyIvRanked, FeedChanged, Quote
from oracle.core.message import Message
from oracle.core.messages import (
    CashTransferred,
    EquityMarked,
    ExitTriggered,
    FeeCharged,
    ForeignExecution,
    Intent,
    IntentApproved,
    IntentRefused,
    LatchChanged,
    NoData,
    NoSignal,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    PositioningMeasured,
    PositionSettled,
    Reconciled,
    Reevaluated,
    Stamped,
    StrategyFailed,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.reports import AccountReported
from oracle.core.vocabulary import FeedState, OrderState
from oracle.metrics.catalogue import INPUT_TYPES, OTHER, Labels
from oracle.metrics.evaluations import CONDITION, VALUE, EvaluationGauges
from oracle.metrics.positioning import COUNT, GAUGES, PREMIUM, show
from oracle.metrics.series import Series
from oracle.metrics.track import TrackGauges
from oracle.metrics.volatility import IV_GAUGES, count_missing, show_iv

NS = 1_000_000_000
_BLOCKED_S = 0.25
_LAST = "oracle_feed_last_message_timestamp_seconds"
_MINUTE_NS = 60 * NS
_UNKNOWN_UNTIL_SET = (
    _LAST,
    *("oracle_equity_dollars", "oracle_cash_dollars", "oracle_peak_equity_dollars", "oracle_buying_power_dollars"),
    *("oracle_drawdown_ratio", "oracle_daily_loss_dollars", "oracle_stale_marks", "oracle_reconcile_mismatches"),
    *(*GAUGES, PREMIUM, COUNT, CONDITION, VALUE),
    *IV_GAUGES,
    *("oracle_pnl_dollars", "oracle_reconcile_last_success_timestamp_seconds", "oracle_clock_timestamp_seconds"),
)


class Observer:
    """Build the metrics of the catalogue and keep them."""

    def __init__(self, labels: Labels, build: dict[str, str], started_ns: int) -> None:
        """Make every series.

        Args:
            labels: value sets known to the composition root.
            build: ``version``, ``commit``, ``mode``, ``config`` and the like, for ``oracle_build_info``.
            started_ns: when the process started.
        """
        series = Series(labels)
        self.registry, self._get, self._one, self._children = series.registry, series.get, series.one, series.children
        self.track = TrackGauges(series)
        self._one("oracle_build_info").info(build)
        self._one("oracle_start_timestamp_seconds").set(started_ns / NS)
        for name in _UNKNOWN_UNTIL_SET:
            for child in self._children[name].values():
                child.set(math.nan)
        self._epochs: dict[str, int] = {}
        self._invalid: dict[str, int] = {}
        self._orders: dict[str, tuple[str, int]] = {}
        self._sent_ns: dict[str, int] = {}
        self._latches: set[str] = set()
        self._unknown: set[str] = set()
        self._evaluations = EvaluationGauges(self._get)
        self._handlers = self._table()
        inputs, last = self._children["oracle_inputs_total"], self._children[_LAST]
        self._inputs = {
            name: (inputs[(feed, name)].inc, last[(feed,)].set if (feed,) in last else None)
            for name, feed in INPUT_TYPES.items()
        }
        self._quote_lag = self._get("oracle_event_lag_seconds", "stock").observe
        self._turn_s = self._one("oracle_turn_duration_seconds").observe

    # ------------------------------------------------------------------------------------------------- the core

    def observe_turn(self, stamped: Stamped, messages: Sequence[Message], seconds: float | None = None) -> None:
        """Count one turn; ``seconds`` is how long the core took for it."""
        message, at_ns = stamped.input, stamped.at_ns
        count, seen = self._inputs[type(message).__name__]
        count()
        # A bar that was fetched says nothing about the stream.
        if seen is not None and not (type(message) is Bar and message.backfilled):
            seen(at_ns / NS)
        if type(message) is Quote:
            self._quote_lag(max(0, at_ns - message.quoted_ns) / NS)
        elif type(message) is Bar:
            if not message.backfilled:
                self._quote_lag(max(0, at_ns - message.start_ns - _MINUTE_NS) / NS)
        else:
            handler = self._handlers.get(type(message))
            if handler is not None:
                handler(message, at_ns)
        handlers = self._handlers
        for out in messages:
            handler = handlers.get(type(out))
            if handler is not None:
                handler(out, at_ns)
        if seconds is not None:
            self._turn_s(seconds)

    def restore(
        self,
        working: Iterable[SubmitOrder],
        advanced: Iterable[OrderAdvanced],
        latches: Iterable[LatchChanged],
        opened: Iterable[TradeOpened],
    ) -> None:
        """Set the gauges that a restart must not forget: working orders, what became of them, latches, open trades."""
        for order in working:
            self._orders[order.order_id] = (order.strategy, 0)
        self._one("oracle_open_orders").set(len(self._orders))
        for change in advanced:
            if change.order_id in self._orders:
                self._count_unknown(change.order_id, change.to_state is OrderState.UNKNOWN)
        for latch in latches:
            self._set_latch(latch)
        for trade in opened:
            self._get("oracle_open_trades", trade.strategy).inc()

    # ------------------------------------------------------------------------------------------------ the edges

    def set_state(self, state: str) -> None:
        """Say what the daemon is doing now (``VALUES['state']``)."""
        for (name,), child in self._children["oracle_state"].items():
            child.set(name == state)

    def set_readiness(self, checks: Mapping[str, bool]) -> None:
        """Say which conditions for trading hold now; one whose name is not in the catalogue counts under ``other``."""
        children = self._children["oracle_ready"]
        unnamed = [ok for name, ok in checks.items() if (name,) not in children]
        for (name,), child in children.items():
            child.set(all(unnamed) if name == OTHER else checks.get(name, True))

    def set_clock(self, at_ns: int, market_open: bool) -> None:
        """Say what time it is for the daemon, and whether regular trading is on."""
        self._one("oracle_clock_timestamp_seconds").set(at_ns / NS)
        self._one("oracle_market_open").set(market_open)

    def set_heartbeats(self, ages_s: Mapping[str, float]) -> None:
        """Say how long each part has not got on."""
        for part, age_s in ages_s.items():
            self._get("oracle_heartbeat_age_seconds", part).set(age_s)

    def set_feed_state(self, feed: str, state: FeedState) -> None:
        """Say what a feed is doing now."""
        for (name, value), child in self._children["oracle_feed_state"].items():
            if name == feed:
                child.set(value == state)

    def set_invalid(self, feed: str, total: int) -> None:
        """Say how many of a source's messages have been skipped so far."""
        known = self._invalid.get(feed, 0)
        if total > known:
            self._get("oracle_feed_invalid_messages_total", feed).inc(total - known)
            self._invalid[feed] = total

    def set_inbox_depth(self, ordered: int, conflated: int) -> None:
        """Say how many inputs wait."""
        self._get("oracle_inbox_depth", "ordered").set(ordered)
        self._get("oracle_inbox_depth", "conflated").set(conflated)

    def observe_loop_lag(self, seconds: float) -> None:
        """Count how late the event loop was."""
        self._one("oracle_event_loop_lag_seconds").observe(seconds)
        if seconds > _BLOCKED_S:
            self._one("oracle_event_loop_blocked_total").inc()

    def observe_commit(self, seconds: float) -> None:
        """Count a durable commit; fits ``Store.open(on_commit_s=...)``."""
        self._one("oracle_db_commit_seconds").observe(seconds)

    def observe_request(self, endpoint: str, outcome: str, seconds: float) -> None:
        """Count a request to the broker."""
        known = ("oracle_broker_request_duration_seconds", (endpoint,))
        name = endpoint if known[1] in self._children[known[0]] else OTHER
        self._get("oracle_broker_requests_total", name, outcome).inc()
        self._get("oracle_broker_request_duration_seconds", name).observe(seconds)

    def observe_log(self, level: str) -> None:
        """Count a log line; fits ``configure_logging(on_event=...)``."""
        child = self._children["oracle_log_events_total"].get((level,))
        if child is not None:
            child.inc()

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    # ---------------------------------------------------------------------------------------------- the messages

    def _table(self) -> dict[type[Message], Callable[[Any, int], None]]:
        return {
            FeedChanged: self._on_feed,
            AccountReported: self._on_account,
            Intent: self._on_verdict,
            NoSignal: self._on_verdict,
            NoData: self._on_verdict,
            Reevaluated: lambda m, at: self._on_verdict(m.verdict, at),
            StrategyFailed: lambda m, _: self._get("oracle_strategy_failures_total", m.strategy).inc(),
            IntentApproved: lambda m, _: self._get("oracle_risk_decisions_total", m.strategy, "approved").inc(),
            IntentRefused: self._on_refused,
            ExitTriggered: lambda m, _: self._get("oracle_exits_triggered_total", m.rule).inc(),
            LatchChanged: self._on_latch,
            SubmitOrder: self._on_submit,
            OrderAdvanced: self._on_advanced,
            OrderFilled: self._on_filled,
            FeeCharged: self._on_fee,
            CashTransferred: self._on_transferred,
            OrderClosed: self._on_order_closed,
            ForeignExecution: lambda _m, _: self._one("oracle_foreign_executions_total").inc(),
            PositionSettled: lambda m, _: self._get("oracle_settlements_total", m.ending).inc(),
            TradeOpened: lambda m, _: self._get("oracle_open_trades", m.strategy).inc(),
            TradeClosed: self._on_trade_closed,
            EquityMarked: self._on_equity,
            Reconciled: self._on_reconciled,
            PositioningMeasured: lambda m, _: show(self._get, m),
            DailyIvRanked: lambda m, _: show_iv(self._get, m),
            DailyIvMissing: lambda m, _: count_missing(self._get, m),
        }

    def _on_feed(self, message: FeedChanged, _at_ns: int) -> None:
        self.set_feed_state(message.feed, message.state)
        before = self._epochs.get(message.feed)
        if before is not None and message.epoch > before:
            self._get("oracle_feed_reconnects_total", message.feed).inc(message.epoch - before)
        self._epochs[message.feed] = message.epoch

    def _on_account(self, message: AccountReported, _at_ns: int) -> None:
        power = message.options_buying_power_usd
        self._one("oracle_buying_power_dollars").set(math.nan if power is None else float(power))

    def _on_verdict(self, verdict: Intent | NoSignal | NoData, at_ns: int) -> None:
        outcome = self._evaluations.show(verdict)
        self._get("oracle_evaluations_total", verdict.strategy, outcome).inc()
        self._get("oracle_strategy_last_evaluation_timestamp_seconds", verdict.strategy).set(at_ns / NS)

    def _on_refused(self, message: IntentRefused, _at_ns: int) -> None:
        self._get("oracle_risk_decisions_total", message.strategy, "refused").inc()
        for refusal in message.refusals:
            self._get("oracle_risk_refusals_total", refusal.rule).inc()

    def _on_latch(self, message: LatchChanged, _at_ns: int) -> None:
        if message.active and message.latch not in self._latches:
            self._get("oracle_halts_total", message.latch.partition(":")[0]).inc()
        self._set_latch(message)

    def _set_latch(self, message: LatchChanged) -> None:
        if message.active:
            self._latches.add(message.latch)
        else:
            self._latches.discard(message.latch)
        active = [latch.partition(":")[0] for latch in self._latches]
        children = self._children["oracle_latch_active"]
        known = {name for (name,) in children}
        for (name,), child in children.items():
            child.set(sum((latch if latch in known else OTHER) == name for latch in active))

    def _on_submit(self, message: SubmitOrder, at_ns: int) -> None:
        self._orders[message.order_id] = (message.strategy, at_ns)
        self._get("oracle_orders_total", message.strategy, OrderState.INTENT).inc()
        self._one("oracle_open_orders").set(len(self._orders))

    def _on_advanced(self, message: OrderAdvanced, at_ns: int) -> None:
        strategy, _ = self._orders.get(message.order_id, (OTHER, 0))
        self._get("oracle_orders_total", strategy, message.to_state).inc()
        self._count_unknown(message.order_id, message.to_state is OrderState.UNKNOWN)
        if message.to_state is OrderState.SENT:
            self._sent_ns[message.client_order_id] = at_ns
        else:
            sent_ns = self._sent_ns.pop(message.client_order_id, None)
            if sent_ns is not None and message.to_state is OrderState.ACCEPTED:
                self._one("oracle_order_ack_seconds").observe((at_ns - sent_ns) / NS)

    def _on_filled(self, message: OrderFilled, at_ns: int) -> None:
        self._get("oracle_fills_total", message.strategy, message.side).inc()
        for kind, fee_usd in (("broker", message.fees_broker_usd), ("modelled", message.fees_modelled_usd)):
            if fee_usd > 0:  # a counter cannot fall; a rebate shows in the books
                self._get("oracle_fees_dollars_total", kind).inc(float(fee_usd))
        _, submitted_ns = self._orders.get(message.order_id, (OTHER, 0))
        if submitted_ns:
            self._one("oracle_order_fill_seconds").observe((at_ns - submitted_ns) / NS)

    def _on_fee(self, message: FeeCharged, _at_ns: int) -> None:
        if message.amount_usd > 0 and not message.in_opening_cash:
            self._get("oracle_fees_dollars_total", "broker").inc(float(message.amount_usd))

    def _on_transferred(self, message: CashTransferred, _at_ns: int) -> None:
        kind = "withdrawal" if message.amount_usd < 0 else "interest" if message.kind == "INT" else "deposit"
        self._get("oracle_cash_transfers_dollars_total", kind).inc(abs(float(message.amount_usd)))

    def _on_order_closed(self, message: OrderClosed, _at_ns: int) -> None:
        self._orders.pop(message.order_id, None)
        self._one("oracle_open_orders").set(len(self._orders))
        self._count_unknown(message.order_id, False)

    def _count_unknown(self, order_id: str, unknown: bool) -> None:
        (self._unknown.add if unknown else self._unknown.discard)(order_id)
        self._one("oracle_unknown_orders").set(len(self._unknown))

    def _on_trade_closed(self, message: TradeClosed, _at_ns: int) -> None:
        net = message.net_pnl_usd
        # A scratch is a round trip that moved less than its costs (product rule: |P&L| at most the fees).
        small = abs(message.gross_pnl_usd) <= message.fees_modelled_usd
        result = "scratch" if small else "win" if net > 0 else "loss"
        self._get("oracle_strategy_trades_total", message.strategy, result).inc()
        self._get("oracle_strategy_realized_pnl_dollars", message.strategy).inc(float(net))
        self._get("oracle_open_trades", message.strategy).dec()
        if message.slippage_bps is not None:
            self._get("oracle_slippage_bps", message.strategy).observe(message.slippage_bps)

    def _on_equity(self, message: EquityMarked, _at_ns: int) -> None:
        equity, peak = float(message.equity_usd), float(message.peak_equity_usd)
        self._one("oracle_equity_dollars").set(equity)
        self._one("oracle_cash_dollars").set(float(message.cash_usd))
        self._one("oracle_peak_equity_dollars").set(peak)
        self._one("oracle_drawdown_ratio").set(1 - equity / peak if peak > 0 else math.nan)
        self._one("oracle_daily_loss_dollars").set(float(message.day_start_equity_usd - message.equity_usd))
        self._get("oracle_pnl_dollars", "realized").set(float(message.realized_today_usd))
        self._get("oracle_pnl_dollars", "unrealized").set(float(message.unrealized_usd))
        self._one("oracle_stale_marks").set(message.marks_stale)

    def _on_reconciled(self, message: Reconciled, at_ns: int) -> None:
        self._get("oracle_reconcile_runs_total", "differs" if message.differences else "agreed").inc()
        self._one("oracle_reconcile_mismatches").set(len(message.differences))
        if not message.differences:
            self._one("oracle_reconcile_last_success_timestamp_seconds").set(at_ns / NS)

    # ----------------------------------------------------------------------------------------------- the series

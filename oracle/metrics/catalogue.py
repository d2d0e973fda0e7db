"""Every metric that the program exports, in one table; the observer, the docs and the alerts are checked against it.

Invariants: one prefix, one unit each, closed label values. A label's values are either listed here or come from the
``Labels`` that the composition root passes (strategies, rules, latches); anything else is counted as ``other``.
"""

from collections.abc import Sequence

import msgspec

from oracle.core.trackrecord import ACCOUNT
from oracle.core.vocabulary import Ending, Feed, FeedState, OrderState, Side

COUNTER, GAUGE, HISTOGRAM, INFO = "counter", "gauge", "histogram", "info"
OTHER = "other"

_FAST_S = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
_LAG_S = (0.001, 0.01, 0.05, 0.25, 0.5, 1.0, 2.5, 5.0)
_DISK_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
_DELAY_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
_CALL_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FILL_S = (0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_BPS = (-500.0, -200.0, -100.0, -50.0, -20.0, 0.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


class Metric(msgspec.Struct, frozen=True):
    """One row. ``labels`` name their value sets in ``VALUES`` or ``Labels`` by the same word, or ``label=set``.

    ``late``: a series exists only while its figure is known; all others are there from the start.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    late: bool = False


class Labels(msgspec.Struct, frozen=True):
    """Value sets that only the composition root knows; each gets ``other`` added."""

    strategy: Sequence[str] = ()
    rule: Sequence[str] = ()
    underlying: Sequence[str] = ()
    latch: Sequence[str] = (
        *("day_loss", "loss_streak", "drawdown", "strategy_failed"), *("operator", "flatten", "strategy_disabled"),
    )  # fmt: skip
    exit_rule: Sequence[str] = (
        "target", "scale_out", "stop", "breakeven", "underlying_target", "underlying_stop", "flat", "short_delta",
        "orphan_leg",
    )  # fmt: skip


# Inputs by the feed that brought them; ``broker`` is answers to requests, ``core`` timers and the operator.
INPUT_TYPES: dict[str, str] = {
    "Bar": "stock",
    "UpdatedBar": "stock",
    "Quote": "stock",
    "TradingStatus": "stock",
    "ChainQuotes": "option",
    "OptionTrades": "option",
    "OrderReported": "trading",
    "ExecutionReported": "trading",
    "StructureExecuted": "trading",
    "ChainListed": "broker",
    "ChainReadFailed": "broker",
    "DailyIvObserved": "broker",
    "SubmitReturned": "broker",
    "CancelReturned": "broker",
    "LookUpReturned": "broker",
    "AccountReported": "broker",
    "FeedChanged": "core",
    "TimerFired": "core",
    "DrainRequested": "core",
    "OperatorRequested": "core",
}

VALUES: dict[str, tuple[str, ...]] = {
    "feed": tuple(Feed),
    "source": ("stock", "option", "trading", "broker", "core"),
    "feed_state": tuple(FeedState),
    "order_state": tuple(OrderState),
    "side": tuple(Side),
    "ending": tuple(Ending),
    "state": ("starting", "reconciling", "warming", "ready", "degraded", "halted", "draining"),
    "evaluation": ("intent", "no_signal", "no_data"),
    "condition": ("rsi", "volume", "vwap", "strength", "buy", "sell", "credit"),
    "seen": (
        *("close", "rsi", "relative_volume", "vwap", "strength", "confidence", "iv_rank", "iv_30d", "iv_percentile"),
        *("call_wall_away", "put_wall_away", "pin_away", "call_side_pays_of_width", "put_side_pays_of_width"),
        *("net_mid_usd", "max_loss_usd", "break_even_low", "break_even_high", "net_delta"),
    ),
    "decision": ("approved", "refused"),
    "trade_result": ("win", "loss", "scratch"),
    "pnl": ("realized", "unrealized"),
    "fees": ("broker", "modelled"),
    "transfer": ("deposit", "withdrawal", "interest"),
    "reconcile": ("agreed", "differs"),
    "direction": ("bullish", "bearish"),
    "endpoint": (
        *("submit", "cancel", "look_up", "orders", "positions", "account", "activities", "contracts", "calendar"),
        *("clock", "bars", "snapshots", OTHER),
    ),
    "outcome": ("accepted", "rejected", "throttled", "not_found", "unknown", OTHER),
    "lane": ("ordered", "conflated"),
    "check": (*(f"feed_{feed}" for feed in Feed), "reconciled", "store", "trading", OTHER),
    "part": ("loop", "core", "writer", *Feed),
    "done": ("done", "failed"),
    "report": ("month", "week", "day"),
    "level": ("debug", "info", "warning", "error", "critical"),
}

CATALOGUE: tuple[Metric, ...] = (
    Metric("oracle_build_info", INFO, "Version, commit, mode and configuration fingerprint of the running build."),
    Metric("oracle_start_timestamp_seconds", GAUGE, "When the process started."),
    Metric("oracle_state", GAUGE, "1 for the daemon's present state, 0 for the others.", ("state",)),
    Metric("oracle_ready", GAUGE, "1 while a condition for trading holds, 0 while it does not.", ("check",)),
    Metric("oracle_clock_timestamp_seconds", GAUGE, "The daemon's own time: UTC, or the exchange's time in sim mode."),
    Metric("oracle_market_open", GAUGE, "1 while regular trading is on."),
    Metric("oracle_heartbeat_age_seconds", GAUGE, "How long a part has not got on with its work.", ("part",)),
    Metric("oracle_feed_state", GAUGE, "1 for a feed's present state, 0 for the others.", ("feed", "state=feed_state")),
    Metric("oracle_feed_reconnects_total", COUNTER, "Connections of a feed after its first.", ("feed",)),
    Metric(
        "oracle_feed_last_message_timestamp_seconds", GAUGE, "When a feed last brought an input, unfetched.", ("feed",)
    ),
    Metric(
        "oracle_inputs_total", COUNTER, "Inputs that the core handled (quotes are conflated).", ("feed=source", "type")
    ),
    Metric(
        "oracle_feed_invalid_messages_total", COUNTER, "Messages that could not be used, skipped.", ("feed=source",)
    ),
    Metric("oracle_event_lag_seconds", HISTOGRAM, "Vendor's time to the core, per input.", ("feed",), _DELAY_S),
    Metric("oracle_turn_duration_seconds", HISTOGRAM, "Time to handle one input in the core.", (), _FAST_S),
    Metric("oracle_inbox_depth", GAUGE, "Inputs waiting for the core.", ("lane",)),
    Metric("oracle_event_loop_lag_seconds", HISTOGRAM, "How late the event loop ran a due callback.", (), _LAG_S),
    Metric("oracle_event_loop_blocked_total", COUNTER, "Loop lags above 250 ms."),
    Metric("oracle_evaluations_total", COUNTER, "Strategy evaluations.", ("strategy", "outcome=evaluation")),
    Metric("oracle_strategy_last_evaluation_timestamp_seconds", GAUGE, "Last evaluation.", ("strategy",)),
    Metric(
        "oracle_strategy_last_evaluation",
        GAUGE,
        "1 for what the last evaluation came to, 0 for the others.",
        ("strategy", "symbol=underlying", "outcome=evaluation"),
    ),
    Metric(
        "oracle_strategy_condition",
        GAUGE,
        "1 if a condition of entry held at the last evaluation, 0 if not.",
        ("strategy", "symbol=underlying", "condition"),
    ),
    Metric(
        "oracle_strategy_value",
        GAUGE,
        "A figure that the last evaluation saw; NaN if it did not.",
        ("strategy", "symbol=underlying", "value=seen"),
    ),
    Metric("oracle_strategy_failures_total", COUNTER, "Strategies that raised and were halted.", ("strategy",)),
    Metric("oracle_strategy_trades_total", COUNTER, "Closed round trips.", ("strategy", "result=trade_result")),
    Metric("oracle_strategy_realized_pnl_dollars", GAUGE, "P&L of round trips closed, net of fees.", ("strategy",)),
    Metric("oracle_open_trades", GAUGE, "Open round trips.", ("strategy",)),
    Metric("oracle_risk_decisions_total", COUNTER, "Risk's answers to intents.", ("strategy", "decision")),
    Metric("oracle_risk_refusals_total", COUNTER, "Rules broken by refused intents; one may break many.", ("rule",)),
    Metric("oracle_exits_triggered_total", COUNTER, "Exit rules that fired.", ("rule=exit_rule",)),
    Metric("oracle_latch_active", GAUGE, "Breakers that are set now, by name.", ("latch",)),
    Metric("oracle_halts_total", COUNTER, "Times that a breaker was set.", ("latch",)),
    Metric("oracle_drawdown_ratio", GAUGE, "1 - equity/peak; NaN while unknown."),
    Metric("oracle_daily_loss_dollars", GAUGE, "Start-of-day equity less equity; negative is a gain."),
    Metric("oracle_orders_total", COUNTER, "Order attempts that entered a state.", ("strategy", "state=order_state")),
    Metric("oracle_open_orders", GAUGE, "Orders that can still fill."),
    Metric("oracle_unknown_orders", GAUGE, "Orders whose state at the broker is not known since this start."),
    Metric("oracle_order_ack_seconds", HISTOGRAM, "From sending an attempt to its acceptance.", (), _CALL_S),
    Metric("oracle_order_fill_seconds", HISTOGRAM, "From the order to each of its fills.", (), _FILL_S),
    Metric("oracle_fills_total", COUNTER, "Executions booked.", ("strategy", "side")),
    Metric("oracle_fees_dollars_total", COUNTER, "Fees: charged by the broker, and modelled.", ("kind=fees",)),
    Metric("oracle_cash_transfers_dollars_total", COUNTER, "Cash moved without a trade, unsigned.", ("kind=transfer",)),
    Metric("oracle_slippage_bps", HISTOGRAM, "Slippage of closed trades, positive is cost.", ("strategy",), _BPS),
    Metric("oracle_foreign_executions_total", COUNTER, "Executions of orders that are not ours."),
    Metric("oracle_settlements_total", COUNTER, "Legs that ended without an order of ours.", ("ending",)),
    Metric("oracle_equity_dollars", GAUGE, "Cash and marked positions; NaN while unknown."),
    Metric("oracle_cash_dollars", GAUGE, "Cash by the ledger."),
    Metric("oracle_peak_equity_dollars", GAUGE, "Highest equity so far."),
    Metric("oracle_buying_power_dollars", GAUGE, "Options buying power as the broker last told it."),
    Metric("oracle_pnl_dollars", GAUGE, "The day's P&L before modelled fees.", ("kind=pnl",)),
    Metric("oracle_stale_marks", GAUGE, "Positions marked at a stale or one-sided quote."),
    Metric("oracle_reconcile_runs_total", COUNTER, "Comparisons of ledger and broker.", ("result=reconcile",)),
    Metric("oracle_reconcile_mismatches", GAUGE, "Differences that the last comparison found."),
    Metric("oracle_reconcile_last_success_timestamp_seconds", GAUGE, "Last comparison that agreed."),
    Metric("oracle_broker_requests_total", COUNTER, "Requests to the broker.", ("endpoint", "outcome")),
    Metric("oracle_broker_request_duration_seconds", HISTOGRAM, "Duration of requests.", ("endpoint",), _CALL_S),
    Metric("oracle_iv_30d", GAUGE, "30-day at-the-money volatility last observed (0.2 is 20 %).", ("underlying",)),
    Metric("oracle_iv_rank", GAUGE, "IV rank of the last observation, 0 to 1; NaN if unknown.", ("underlying",)),
    Metric("oracle_iv_percentile", GAUGE, "Share of the window below the last observation.", ("underlying",)),
    Metric("oracle_iv_observations", GAUGE, "Observations in the window of 90 sessions; 60 needed.", ("underlying",)),
    Metric("oracle_iv_missing_total", COUNTER, "Sessions that ended without an observation.", ("underlying",)),
    Metric("oracle_gamma_call_wall_dollars", GAUGE, "Strike of the largest call-side gamma.", ("underlying",)),
    Metric("oracle_gamma_put_wall_dollars", GAUGE, "Strike of the largest put-side gamma.", ("underlying",)),
    Metric("oracle_gamma_pin_dollars", GAUGE, "Strike of the largest positive net gamma.", ("underlying",)),
    Metric("oracle_gamma_flip_dollars", GAUGE, "Spot at which net gamma is zero; NaN if none.", ("underlying",)),
    Metric(
        "oracle_gamma_net_dollars", GAUGE, "Net gamma per 1 % move, dealers long calls, short puts.", ("underlying",)
    ),
    Metric("oracle_flow_premium_dollars", GAUGE, "Unusual option premium of 30 minutes.", ("underlying", "direction")),
    Metric("oracle_flow_activities", GAUGE, "Unusual option activities of 30 minutes.", ("underlying", "direction")),
    Metric("oracle_track_info", INFO, "The hash whose record is shown.", ("strategy=tracked",), late=True),
    Metric("oracle_track_trades", GAUGE, "Closed round trips on record.", ("strategy=tracked",), late=True),
    Metric("oracle_track_win_rate", GAUGE, "Share of trades that won, 0 to 1.", ("strategy=tracked",), late=True),
    Metric("oracle_track_profit_factor", GAUGE, "Gross profit by gross loss.", ("strategy=tracked",), late=True),
    Metric("oracle_track_expectancy_r", GAUGE, "Mean P&L in planned risks.", ("strategy=tracked",), late=True),
    Metric("oracle_track_sharpe_ratio", GAUGE, "Of daily returns, annualised.", ("strategy=tracked",), late=True),
    Metric("oracle_track_max_drawdown_ratio", GAUGE, "Largest fall from a peak.", ("strategy=tracked",), late=True),
    Metric("oracle_track_net_pnl_dollars", GAUGE, "P&L of trades, net of fees.", ("strategy=tracked",), late=True),
    Metric("oracle_track_day_pnl_dollars", GAUGE, "P&L of the last session.", ("strategy=tracked",), late=True),
    Metric("oracle_track_cumulative_pnl_dollars", GAUGE, "P&L of all sessions.", ("strategy=tracked",), late=True),
    Metric("oracle_readiness_score", GAUGE, "Confidence, 0 to 100, of readiness.", ("strategy=tracked",), late=True),
    Metric("oracle_readiness_ready", GAUGE, "1 if ready for live money, 0 if not.", ("strategy=tracked",), late=True),
    Metric("oracle_readiness_trades_needed", GAUGE, "Trades until enough.", ("strategy=tracked",), late=True),
    Metric("oracle_statistics_refreshes_total", COUNTER, "Refreshes of stored statistics.", ("result=done",)),
    Metric("oracle_statistics_refresh_seconds", HISTOGRAM, "From a close to its stored statistics.", (), _DELAY_S),
    Metric("oracle_statistics_stale", GAUGE, "1 while the last refresh of the statistics has failed."),
    Metric("oracle_reports_total", COUNTER, "Reports that the daemon made by itself.", ("report", "result=done")),
    Metric("oracle_db_commit_seconds", HISTOGRAM, "Duration of durable commits.", (), _DISK_S),
    Metric("oracle_log_events_total", COUNTER, "Log lines written.", ("level",)),
)


def label_names(metric: Metric) -> tuple[str, ...]:
    """A metric's label names."""
    return tuple(label.partition("=")[0] for label in metric.labels)


def label_values(metric: Metric, labels: Labels) -> tuple[tuple[str, ...], ...]:
    """The closed set of each label of a metric, in the order of ``label_names``."""
    return tuple(_values(label.partition("=")[2] or label, labels) for label in metric.labels)


def combinations(metric: Metric, labels: Labels) -> list[tuple[str, ...]]:
    """Every combination of label values that may exist, for initialising each to zero."""
    if metric.name == "oracle_inputs_total":
        return [(feed, kind) for kind, feed in INPUT_TYPES.items()]
    rows: list[tuple[str, ...]] = [()]
    for values in label_values(metric, labels):
        rows = [(*row, value) for row in rows for value in values]
    return rows


def markdown() -> str:
    """The catalogue as ``docs/metrics.md``."""
    lines = [
        "# Metrics",
        "",
        "Served at `/metrics` on the loopback console. Generated from `oracle/metrics/catalogue.py`; a test compares.",
        "`process_*` and `python_*` come from prometheus-client. Unknown figures are NaN, never 0. Label values are",
        "closed sets; a value outside its set is counted as `other`. Counters begin at 0 with the process.",
        "Metrics marked with * have no series while their figure is unknown. Those of the track record are the stored",
        "statistics of the present hash of a strategy; `account` stands for all trades, so do not sum over `strategy`.",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    for metric in CATALOGUE:
        names = ", ".join(label_names(metric))
        late = "*" if metric.late else ""
        lines.append(f"| `{metric.name}`{late} | {metric.kind} | {names} | {metric.help} |")
    lines += ["", "| label values | set |", "|---|---|"]
    lines += [f"| {name} | {', '.join(str(value) for value in values)} |" for name, values in sorted(VALUES.items())]
    lines += ["| strategy, rule, latch, exit_rule, underlying | what is configured, and `other` |", ""]
    return "\n".join(lines)


def _values(name: str, labels: Labels) -> tuple[str, ...]:
    if name == "type":
        return tuple(INPUT_TYPES)
    if name == "tracked":
        return (*dict.fromkeys(labels.strategy), ACCOUNT)
    if name in VALUES:
        return tuple(str(value) for value in VALUES[name])
    given: Sequence[str] = getattr(labels, name)
    return (*dict.fromkeys(given), OTHER) if OTHER not in given else tuple(dict.fromkeys(given))

"""Make the dashboards' JSON; it is committed, so that an installation needs no Python.

Inputs: the rows below, limits from ``oracle.risk.limits``, alert thresholds as in deploy/prometheus/rules. Output:
dashboards/overview.json. Usage: ``python -m deploy.grafana.build [--check]``; --check exits 1 when it is not current.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from oracle.risk.limits import RiskLimits

TARGET = Path(__file__).parent / "dashboards" / "overview.json"
UID = "oracle-overview"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
ON = 'job="$job", instance=~"$instance"'
GREEN, AMBER, RED, BLUE = "green", "orange", "red", "blue"
# As in deploy/prometheus/rules/oracle.yml.
STOCK_SILENT_S, RECONCILE_OVERDUE_S = 15, 150
Colours = Sequence[tuple[float | None, str]]


class Query(NamedTuple):
    """One query of a panel and how its series are named."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One panel: ``kind`` is stat, series, bars or table; ``width`` of 24 columns; colours only where a limit is."""

    kind: str
    title: str
    description: str
    unit: str
    width: int
    queries: tuple[Query, ...]
    colours: Colours = ()
    names: bool = False


class Row(NamedTuple):
    """Panels side by side under a heading."""

    title: str
    height: int
    panels: tuple[Panel, ...]


def on(metric: str, more: str = "") -> str:
    """A selector of the chosen daemon's series."""
    return f"{metric}{{{ON}{', ' + more if more else ''}}}"


def age(metric: str, many: bool = False) -> str:
    """How old a time is on the daemon's own clock, seconds; ``many`` series to its one clock."""
    match = "- on (job, instance) group_right ()" if many else "-"
    return f"{on('oracle_clock_timestamp_seconds')} {match} {on(metric)}"


def quantile(q: float, metric: str, by: str = "") -> str:
    """A quantile of a histogram over the last scrapes."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({on(metric + '_bucket')}[$__rate_interval])))"


def counted(metric: str, more: str = "", by: str = "") -> str:
    """How often something happened in the time that is shown."""
    return f"sum {f'by ({by}) ' if by else ''}(increase({on(metric, more)}[$__range]))"


# The account stands where a strategy's name does.
STRATEGIES = 'strategy!="account"'
DRAWDOWN = float(RiskLimits().drawdown_fraction)

ROWS = (
    Row("Now", 4, (
        Panel("stat", "State", "What the daemon does now. Not ready in market hours: /readyz has the reason.",
              "none", 3, (Query(f"max by (state) ({on('oracle_state')} == 1)", "{{state}}"),), names=True),
        Panel("stat", "Mode", "Which account it trades: sim is the embedded exchange, paper is Alpaca's paper account.",
              "none", 3, (Query(f"max by (mode, version) ({on('oracle_build_info')})", "{{mode}} {{version}}"),),
              names=True),
        Panel("stat", "Breakers set", "Above 0 entries are blocked, exits go on. Runbook: OracleHalted.",
              "none", 3, (Query(f"sum({on('oracle_latch_active')})", "set"),), ((None, GREEN), (1, RED))),
        Panel("stat", "Equity", "Cash and marked positions. No value means that a mark is missing.",
              "currencyUSD", 3, (Query(f"max({on('oracle_equity_dollars')})", "equity"),)),
        Panel("stat", "Day's P&L", "Equity less that of the day's start, before modelled fees.",
              "currencyUSD", 3, (Query(f"-max({on('oracle_daily_loss_dollars')})", "P&L"),)),
        Panel("stat", "Drawdown", "Below the highest equity so far; at the limit trading halts until it is resumed.",
              "percentunit", 3, (Query(f"max({on('oracle_drawdown_ratio')})", "drawdown"),),
              ((None, GREEN), (DRAWDOWN * 0.8, AMBER), (DRAWDOWN, RED))),
        Panel("stat", "Open trades", "Round trips that are not closed; their exits need a living daemon.",
              "none", 3, (Query(f"sum({on('oracle_open_trades')})", "open"),)),
        Panel("stat", "Alerts firing", "Above 0: open the table of alerts below and the runbook that it names.",
              "none", 3, (Query('count(ALERTS{job="$job", alertstate="firing"}) or vector(0)', "firing"),),
              ((None, GREEN), (1, RED))),
    )),
    Row("Money", 8, (
        Panel("series", "Equity", "A gap is a time without fresh marks.", "currencyUSD", 12, (
            Query(f"max({on('oracle_equity_dollars')})", "equity"),
            Query(f"max({on('oracle_peak_equity_dollars')})", "peak"))),
        Panel("series", "Day's P&L", "Realized and unrealized since the session's open, before modelled fees.",
              "currencyUSD", 8, (Query(f"max by (kind) ({on('oracle_pnl_dollars')})", "{{kind}}"),)),
        Panel("series", "Open trades", "By strategy.", "none", 4, (
            Query(f"sum by (strategy) ({on('oracle_open_trades')})", "{{strategy}}"),)),
    )),
    Row("Track record", 8, (
        Panel("bars", "Readiness", "Confidence, 0 to 100, that a strategy's code and parameters meet every criterion. "
              "The reasons: oracle readiness.", "none", 6, (
                  Query(f"max by (strategy) ({on('oracle_readiness_score', STRATEGIES)})", "{{strategy}}"),)),
        Panel("table", "On record", "Of each strategy as it is now: trades, ready or not, trades still needed, win "
              "rate, profit factor, Sharpe. What is missing is not known yet.", "none", 10, (
                  Query(f"max by (strategy) ({on('oracle_track_trades')})", "trades"),
                  Query(f"max by (strategy) ({on('oracle_readiness_ready')})", "ready"),
                  Query(f"max by (strategy) ({on('oracle_readiness_trades_needed')})", "needed"),
                  Query(f"max by (strategy) ({on('oracle_track_win_rate')})", "win rate"),
                  Query(f"max by (strategy) ({on('oracle_track_profit_factor')})", "profit factor"),
                  Query(f"max by (strategy) ({on('oracle_track_sharpe_ratio')})", "Sharpe"),
                  Query(f"max by (strategy) ({on('oracle_track_expectancy_r')})", "expectancy R"))),
        Panel("series", "Cumulative P&L", "Marked to market at each session's end, net of modelled fees, by strategy "
              "and for the account.", "currencyUSD", 8, (
                  Query(f"max by (strategy) ({on('oracle_track_cumulative_pnl_dollars')})", "{{strategy}}"),)),
    )),
    Row("Track record in money", 6, (
        Panel("series", "Net P&L of trades", "Of round trips closed, net of modelled fees.", "currencyUSD", 8, (
            Query(f"max by (strategy) ({on('oracle_track_net_pnl_dollars')})", "{{strategy}}"),)),
        Panel("series", "Last session's P&L", "Marked to market, net of modelled fees.", "currencyUSD", 8, (
            Query(f"max by (strategy) ({on('oracle_track_day_pnl_dollars')})", "{{strategy}}"),)),
        Panel("series", "Largest drawdown", "The largest fall from a peak on record.", "percentunit", 4, (
            Query(f"max by (strategy) ({on('oracle_track_max_drawdown_ratio')})", "{{strategy}}"),)),
        Panel("stat", "Statistics", "1: the last refresh failed, and the figures above are older than the trades. The "
              "log says why (statistics_failed).", "none", 4, (
                  Query(f"max({on('oracle_statistics_stale')})", "stale"),), ((None, GREEN), (1, RED))),
    )),
    Row("Feeds and books", 7, (
        Panel("stat", "Feeds", "Each feed's state. Not live in market hours: runbook OracleFeedStale.",
              "none", 5, (Query(f"max by (feed, state) ({on('oracle_feed_state')} == 1)", "{{feed}} {{state}}"),),
              names=True),
        Panel("series", "Time since a feed's last message",
              "On the daemon's own clock. Only the stock feed speaks all the time; the trading feed is quiet without "
              "orders. Stock above the line in market hours: runbook OracleFeedStale.",
              "s", 7, (Query(age("oracle_feed_last_message_timestamp_seconds", many=True), "{{feed}}"),),
              ((None, GREEN), (STOCK_SILENT_S, RED))),
        Panel("series", "Time since the books agreed",
              "Compared with the broker every 30 s of market hours. Above the line: runbook OracleReconcileMismatch.",
              "s", 7, (Query(age("oracle_reconcile_last_success_timestamp_seconds"), "agreed"),),
              ((None, GREEN), (RECONCILE_OVERDUE_S, RED))),
        Panel("stat", "Differences", "Between our books and the broker's at the last comparison, and orders of unknown "
              "fate. Above 0: runbook OracleReconcileMismatch.", "none", 5, (
                  Query(f"max({on('oracle_reconcile_mismatches')})", "differences"),
                  Query(f"max({on('oracle_unknown_orders')})", "unknown orders")), ((None, GREEN), (1, RED))),
    )),
    Row("From signal to fill", 8, (
        Panel("bars", "Signals, orders, fills", "How many got how far in the time shown.", "none", 10, (
            Query(counted("oracle_evaluations_total", 'outcome="intent"'), "signals"),
            Query(counted("oracle_risk_decisions_total", 'decision="approved"'), "approved by risk"),
            Query(counted("oracle_orders_total", 'state="sent"'), "orders sent"),
            Query(counted("oracle_fills_total"), "fills"))),
        Panel("bars", "Refusals by rule", "The ten that refused most in the time shown; a refusal may break many.",
              "none", 14, (Query(f"topk(10, {counted('oracle_risk_refusals_total', by='rule')})", "{{rule}}"),)),
    )),
    Row("Speed", 8, (
        Panel("series", "A turn of the core", "How long one input takes. Rising: look at the inbox.", "s", 8, (
            Query(quantile(0.5, "oracle_turn_duration_seconds"), "p50"),
            Query(quantile(0.99, "oracle_turn_duration_seconds"), "p99"))),
        Panel("series", "A durable commit", "Orders wait for it. Above 0.25 s the disk is at its limit.", "s", 8, (
            Query(quantile(0.5, "oracle_db_commit_seconds"), "p50"),
            Query(quantile(0.99, "oracle_db_commit_seconds"), "p99"))),
        Panel("series", "Event loop's lag", "How late the loop ran what was due. Seconds: the machine is overloaded.",
              "s", 8, (Query(quantile(0.99, "oracle_event_loop_lag_seconds"), "p99"),)),
    )),
    Row("Process", 8, (
        Panel("series", "Heartbeats", "How long a part has not got on. Above 10 s (feeds 30 s) the watchdog is not fed "
              "and the process is restarted.", "s", 8, (
                  Query(f"max by (part) ({on('oracle_heartbeat_age_seconds')})", "{{part}}"),)),
        Panel("series", "Memory", "Resident memory of the daemon; the unit allows 1 GiB.", "bytes", 6, (
            Query(f"max({on('process_resident_memory_bytes')})", "resident"),)),
        Panel("table", "Alerts", "Pending and firing, with severity; each has a runbook of its name.", "none", 10, (
            Query('ALERTS{job="$job"}', ""),)),
    )),
)  # fmt: skip


def build() -> str:
    """The dashboard as JSON."""
    board = (
        dashboard.Dashboard("Trade Oracle: overview")
        .uid(UID)
        .tags(["oracle"])
        .readonly()
        .refresh("10s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_labels("job", "label_values(oracle_build_info, job)"))
        .with_variable(_labels("instance", 'label_values(oracle_build_info{job="$job"}, instance)', many=True))
    )
    number, y = 0, 0
    for row in ROWS:
        number += 1
        heading = models.GridPos(h=1, w=24, x=0, y=y)
        board = board.with_row(dashboard.Row(row.title).id(number).grid_pos(heading))
        x = 0
        for panel in row.panels:
            number += 1
            board = board.with_panel(_panel(panel, number, models.GridPos(h=row.height, w=panel.width, x=x, y=y + 1)))
            x += panel.width
        y += 1 + row.height
    made = json.loads(JSONEncoder().encode(board.build()))
    for variable in made["templating"]["list"]:
        for name in [name for name in variable if name.startswith("auto")]:
            del variable[name]  # the SDK writes an interval variable's fields into every kind
    return json.dumps(made, sort_keys=True, indent=2) + "\n"


def _labels(name: str, query: str, many: bool = False) -> dashboard.QueryVariable:
    made = dashboard.QueryVariable(name).label(name.capitalize()).query(query).datasource(SOURCE)
    made = made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    return made.multi(True).include_all(True).all_value(".+") if many else made


def _panel(panel: Panel, number: int, place: models.GridPos) -> Any:
    """Build one panel. Sets what the SDK leaves out: ids, reference ids, the data source of each query."""
    kinds = {"stat": stat.Panel, "series": timeseries.Panel, "bars": bargauge.Panel, "table": table.Panel}
    made: Any = kinds[panel.kind]()
    made = made.id(number).title(panel.title).description(panel.description).datasource(SOURCE).unit(panel.unit)
    made = made.grid_pos(place)
    for index, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + index))
        target = target.datasource(SOURCE)
        target = target.range() if panel.kind == "series" else target.instant()
        if panel.kind == "table":
            target = target.format(prometheus_models.PromQueryFormat.TABLE)
        made = made.with_target(target)
    if panel.kind == "table" and len(panel.queries) > 1:
        made = _joined(made, panel)
    steps = [models.Threshold(value=at, color=colour) for at, colour in panel.colours or ((None, BLUE),)]
    limits = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    made = made.thresholds(limits)
    if panel.kind == "series" and panel.colours:
        made = made.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    if panel.kind == "stat":
        text = common_models.BigValueTextMode.NAME if panel.names else common_models.BigValueTextMode.VALUE_AND_NAME
        made = made.text_mode(text if panel.names or len(panel.queries) > 1 else common_models.BigValueTextMode.VALUE)
        made = made.graph_mode(common_models.BigValueGraphMode.NONE)
    if panel.kind in ("stat", "bars"):
        made = made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if panel.kind == "bars":
        made = made.orientation(common_models.VizOrientation.HORIZONTAL).min(0).decimals(0)
    return made


def _joined(made: Any, panel: Panel) -> Any:
    """Make one table of several queries: a row for each strategy, a column for each query."""
    names = {f"Value #{chr(ord('A') + n)}": query.legend for n, query in enumerate(panel.queries)}
    hidden = {"Time": True}
    for step, options in (("merge", {}), ("organize", {"excludeByName": hidden, "renameByName": names})):
        made = made.with_transformation(models.DataTransformerConfig(id_val=step, options=options))
    return made


def main(arguments: Sequence[str]) -> int:
    """Write the file, or with --check compare it."""
    made = build()
    if list(arguments) == ["--check"]:
        current = TARGET.exists() and TARGET.read_text() == made
        if not current:
            print(f"{TARGET.name} is not current: run python -m deploy.grafana.build", file=sys.stderr)
        return 0 if current else 1
    if arguments:
        print("usage: python -m deploy.grafana.build [--check]", file=sys.stderr)
        return 2
    TARGET.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

import itertools
import math
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from oracle.core.messages import (
    CashTransferred,
    Input,
    LatchChanged,
    NoSignal,
    PositionSettled,
    Stamped,
    StrategyFailed,
)
from oracle.core.trackrecord import ACCOUNT, StrategyKey
from oracle.core.vocabulary import Ending, FeedState, OrderState
from oracle.metrics.catalogue import CATALOGUE, INPUT_TYPES, Labels, combinations, label_names, label_values, markdown
from oracle.metrics.observer import Observer
from oracle.metrics.track import TRACK_GAUGES
from tests.unit.store_day import PUT, T0, D, S, messages, turns

LABELS = Labels(
    strategy=("opening_range_breakout", "momentum_scalping", "iron_condor"),
    rule=("spread", "quote_age"),
    underlying=("SPY",),
)
FOREIGN_PREFIXES = ("process_", "python_")
KEY = StrategyKey("opening_range_breakout", "abc123")


@pytest.fixture
def observer() -> Observer:
    return Observer(LABELS, {"version": "0.1.0", "mode": "sim"}, T0)


@pytest.fixture
def day(observer: Observer) -> Observer:
    """After a day and everything that the edges tell."""
    for stamped, out in turns():
        observer.observe_turn(stamped, out, 0.0002)
    observer.set_state("ready")
    observer.set_inbox_depth(3, 40)
    observer.set_invalid("stock", 2)
    observer.observe_loop_lag(0.3)
    observer.observe_commit(0.0006)
    observer.observe_request("submit", "accepted", 0.08)
    observer.observe_log("warning")
    observer.set_readiness({"store": False, "reconciled": True})
    observer.set_clock(T0 + S, True)
    observer.set_heartbeats({"core": 0.2})
    return observer


def samples(observer: Observer) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = observer.text().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(observer: Observer, name: str, **labels: str) -> float:
    return samples(observer)[(name, tuple(sorted(labels.items())))]


def test_the_export_is_the_catalogue_and_nothing_else(day: Observer) -> None:
    families = list(text_string_to_metric_families(day.text().decode()))
    exported = set()
    for family in families:
        suffix = "_total" if family.type == "counter" else ""
        exported.add(family.name + suffix)
    own = {name for name in exported if not name.startswith(FOREIGN_PREFIXES)}
    assert own == {metric.name for metric in CATALOGUE}
    assert exported - own


def test_every_metric_is_set_by_a_day(observer: Observer) -> None:
    before = samples(observer)
    again = Observer(LABELS, {"version": "0.1.0", "mode": "sim"}, T0)
    for stamped, out in turns():
        again.observe_turn(stamped, out, 0.0002)
    expired = PositionSettled("s", "t2", Ending.EXPIRED, PUT, 1, D(0), "", 0, None, D(0), "positions", (), T0)
    moved = CashTransferred("csd", "CSD", D(5), "2026-01-20", "", T0)
    again.observe_turn(turns()[-1][0], (expired, moved))
    again.set_state("ready")
    again.set_inbox_depth(3, 40)
    again.set_invalid("stock", 2)
    again.observe_loop_lag(0.3)
    again.observe_commit(0.0006)
    again.observe_request("submit", "accepted", 0.08)
    again.observe_log("warning")
    again.set_readiness({"store": False, "reconciled": True})
    again.set_clock(T0 + S, True)
    again.set_heartbeats({"core": 0.2})
    again.track.show(KEY, dict.fromkeys(TRACK_GAUGES.values(), 0.5))
    again.track.refreshed(0.01, True)
    again.track.refreshed(0.01, False)
    again.track.reported("month", True)
    after = samples(again)
    constant = {"oracle_build_info", "oracle_start_timestamp_seconds"}
    changed = {name for (name, labels), number in after.items() if before.get((name, labels)) != number}
    for metric in CATALOGUE:
        if metric.name not in constant:
            assert {metric.name, f"{metric.name}_count"} & changed, metric.name


def test_label_values_are_closed(day: Observer) -> None:
    allowed = {
        metric.name: dict(zip(label_names(metric), map(set, label_values(metric, LABELS)), strict=True))
        for metric in CATALOGUE
    }
    for name, labels in samples(day):
        metric = next((one for one in (name, name.rsplit("_", 1)[0]) if one in allowed), None)
        if metric is None or metric.endswith("_info"):
            continue
        for label, text in labels:
            if label != "le":
                assert text in allowed[metric][label], (name, label, text)


def test_series_stay_few_and_are_there_from_the_start(observer: Observer) -> None:
    before = set(samples(observer))
    assert len(before) < 3_000
    for stamped, out in turns():
        observer.observe_turn(stamped, out)
    observer.observe_request("no_such", "odd", 1.0)
    assert set(samples(observer)) == before


def test_counts_of_the_day(day: Observer) -> None:
    orb = "opening_range_breakout"
    assert value(day, "oracle_risk_decisions_total", strategy=orb, decision="approved") == 2
    assert value(day, "oracle_risk_refusals_total", rule="spread") == 1
    assert value(day, "oracle_fills_total", strategy=orb, side="buy") == 3
    assert value(day, "oracle_orders_total", strategy=orb, state="unknown") == 1
    assert value(day, "oracle_open_orders") == 1
    assert value(day, "oracle_open_trades", strategy=orb) == 1
    assert value(day, "oracle_strategy_trades_total", strategy=orb, result="win") == 1
    assert value(day, "oracle_strategy_realized_pnl_dollars", strategy=orb) == pytest.approx(75.1)
    assert value(day, "oracle_equity_dollars") == 100060.75
    assert value(day, "oracle_drawdown_ratio") == pytest.approx(1 - 100060.75 / 100400)
    assert value(day, "oracle_daily_loss_dollars") == pytest.approx(-60.5)
    assert value(day, "oracle_latch_active", latch="day_loss") == 1
    assert value(day, "oracle_latch_active", latch="drawdown") == 0
    assert value(day, "oracle_halts_total", latch="drawdown") == 1
    assert value(day, "oracle_feed_reconnects_total", feed="stock") == 1
    assert value(day, "oracle_feed_state", feed="stock", state="stale") == 1
    assert value(day, "oracle_feed_state", feed="stock", state="live") == 0
    assert value(day, "oracle_reconcile_mismatches") == 1
    assert value(day, "oracle_reconcile_last_success_timestamp_seconds") == pytest.approx(T0 / S + 1)
    assert value(day, "oracle_inputs_total", feed="stock", type="Bar") == 2
    assert value(day, "oracle_order_ack_seconds_count") == 1
    assert value(day, "oracle_event_loop_blocked_total") == 1
    assert value(day, "oracle_state", state="ready") == 1
    assert value(day, "oracle_state", state="halted") == 0


def test_what_is_unknown_is_not_zero(observer: Observer) -> None:
    for name in ("oracle_equity_dollars", "oracle_drawdown_ratio", "oracle_reconcile_mismatches"):
        assert math.isnan(value(observer, name))


def test_a_condition_that_is_not_in_the_catalogue_counts_under_other(observer: Observer) -> None:
    observer.set_readiness({"store": True, "feed_stock": False, "made_up": False})
    assert value(observer, "oracle_ready", check="store") == 1
    assert value(observer, "oracle_ready", check="feed_stock") == 0
    assert value(observer, "oracle_ready", check="other") == 0
    observer.set_readiness({"store": True, "made_up": True})
    assert value(observer, "oracle_ready", check="other") == 1


def test_an_order_is_unknown_until_something_is_learnt_of_it(observer: Observer) -> None:
    from oracle.core.messages import OrderAdvanced

    order = next(one for one in messages() if isinstance(one, OrderAdvanced))
    lost, found = (msgspec.structs.replace(order, to_state=state) for state in (OrderState.UNKNOWN, OrderState.FILLED))
    stamped = turns()[0][0]
    observer.observe_turn(stamped, (lost, lost))
    assert value(observer, "oracle_unknown_orders") == 1
    observer.observe_turn(stamped, (found,))
    assert value(observer, "oracle_unknown_orders") == 0


def test_unknown_names_are_counted_as_other(observer: Observer) -> None:
    out = (
        NoSignal("made_up", "SPY", "quiet", {}),
        StrategyFailed("made_up", "x"),
        LatchChanged("strategy_failed:made_up", True, "", "", "", None),
        LatchChanged("new_breaker", True, "", "", "", None),
    )
    observer.observe_turn(msgspec.structs.replace(turns()[0][0]), out)
    assert value(observer, "oracle_evaluations_total", strategy="other", outcome="no_signal") == 1
    assert value(observer, "oracle_strategy_failures_total", strategy="other") == 1
    assert value(observer, "oracle_latch_active", latch="strategy_failed") == 1
    assert value(observer, "oracle_latch_active", latch="other") == 1
    observer.observe_request("no_such", "odd", 1.0)
    assert value(observer, "oracle_broker_requests_total", endpoint="other", outcome="other") == 1


def test_a_restart_keeps_working_orders_latches_and_open_trades(observer: Observer) -> None:
    from oracle.core.messages import SubmitOrder, TradeOpened

    submits = [one for one in messages() if isinstance(one, SubmitOrder)]
    opened = [one for one in messages() if isinstance(one, TradeOpened)]
    observer.restore(submits[-1:], [], [LatchChanged("day_loss", True, "", "", "", None)], opened[-1:])
    assert value(observer, "oracle_open_orders") == 1
    assert value(observer, "oracle_latch_active", latch="day_loss") == 1
    assert value(observer, "oracle_halts_total", latch="day_loss") == 0
    assert value(observer, "oracle_open_trades", strategy="opening_range_breakout") == 1


def test_a_restart_keeps_orders_of_unknown_fate_until_something_is_learnt(observer: Observer) -> None:
    from oracle.core.messages import OrderAdvanced, SubmitOrder

    submit = next(one for one in messages() if isinstance(one, SubmitOrder))
    sent = next(one for one in messages() if isinstance(one, OrderAdvanced))

    def to(state: OrderState, order_id: str) -> OrderAdvanced:
        return msgspec.structs.replace(sent, order_id=order_id, to_state=state)

    lost, other, over = submit.order_id, "found-again", "over-by-now"
    working = [submit, msgspec.structs.replace(submit, order_id=other)]
    advanced = [to(OrderState.UNKNOWN, one) for one in (lost, other, over)] + [to(OrderState.ACCEPTED, other)]
    observer.restore(working, advanced, (), ())
    assert value(observer, "oracle_unknown_orders") == 1
    observer.observe_turn(turns()[0][0], (to(OrderState.ACCEPTED, lost),))
    assert value(observer, "oracle_unknown_orders") == 0


def test_a_bar_that_was_fetched_is_no_sign_of_a_live_stream(observer: Observer) -> None:
    stamped = next(one for one, _ in turns() if type(one.input).__name__ == "Bar")
    fetched = msgspec.structs.replace(stamped.input, backfilled=True)
    observer.observe_turn(msgspec.structs.replace(stamped, input=fetched), ())
    assert math.isnan(value(observer, "oracle_feed_last_message_timestamp_seconds", feed="stock"))
    assert value(observer, "oracle_inputs_total", feed="stock", type="Bar") == 1
    live = msgspec.structs.replace(stamped.input, backfilled=False)
    observer.observe_turn(msgspec.structs.replace(stamped, input=live), ())
    assert value(observer, "oracle_feed_last_message_timestamp_seconds", feed="stock") == stamped.at_ns / S


def test_every_input_type_can_be_counted() -> None:
    import typing

    assert {kind.__name__ for kind in typing.get_args(Input)} == set(INPUT_TYPES)


def test_a_figure_of_the_track_record_is_there_only_while_it_is_known(observer: Observer) -> None:
    orb = KEY.strategy
    assert ("oracle_track_sharpe_ratio", (("strategy", orb),)) not in samples(observer)
    observer.track.show(KEY, {"trades": 3, "sharpe": 1.25, "ready": False, "net_pnl_usd": 0.0})
    assert value(observer, "oracle_track_trades", strategy=orb) == 3
    assert value(observer, "oracle_track_sharpe_ratio", strategy=orb) == 1.25
    assert value(observer, "oracle_readiness_ready", strategy=orb) == 0
    assert value(observer, "oracle_track_net_pnl_dollars", strategy=orb) == 0
    assert value(observer, "oracle_track_info", strategy=orb, strategy_hash="abc123") == 1
    observer.track.show(KEY, {"trades": 4, "sharpe": None})
    shown = {name for name, labels in samples(observer) if labels == (("strategy", orb),) and "_track_" in name}
    assert shown == {"oracle_track_trades"}


def test_a_new_hash_takes_the_place_of_the_old_one(observer: Observer) -> None:
    observer.track.show(KEY, {"trades": 3})
    observer.track.show(StrategyKey(KEY.strategy, "def456"), {"trades": 0})
    hashes = [dict(labels)["strategy_hash"] for name, labels in samples(observer) if name == "oracle_track_info"]
    assert hashes == ["def456"]


def test_the_account_is_shown_and_strangers_are_not(observer: Observer) -> None:
    observer.track.show(StrategyKey(ACCOUNT, ""), {"trades": 5})
    observer.track.show(StrategyKey("of_long_ago", "xyz"), {"trades": 7})
    assert value(observer, "oracle_track_trades", strategy=ACCOUNT) == 5
    assert not [labels for _, labels in samples(observer) if ("strategy", "of_long_ago") in labels]


def test_a_late_edge_of_time_does_not_go_negative(observer: Observer) -> None:
    early = next(stamped for stamped, _ in turns() if type(stamped.input).__name__ == "Quote")
    observer.observe_turn(Stamped(1, T0 - S, early.input), ())
    assert value(observer, "oracle_event_lag_seconds_sum", feed="stock") == 0


def test_a_feeds_state_is_one_of_its_states(observer: Observer) -> None:
    for state in FeedState:
        observer.set_feed_state("option", state)
        assert sum(value(observer, "oracle_feed_state", feed="option", state=one) for one in FeedState) == 1


def test_the_catalogue_is_well_formed() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names)
    for metric in CATALOGUE:
        assert metric.name.startswith("oracle_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(metric.buckets)
        rows = combinations(metric, LABELS)
        assert len(rows) == len(set(rows)) > 0
        if metric.name != "oracle_inputs_total":
            assert len(rows) == len(list(itertools.product(*label_values(metric, LABELS))))


def test_the_documentation_is_the_catalogue() -> None:
    assert (Path(__file__).parents[2] / "docs" / "metrics.md").read_text() == markdown()

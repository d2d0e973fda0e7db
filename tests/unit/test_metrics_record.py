"""The signed readiness record: it says what it rests on, and each way in which it does not hold is named."""

import os
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oracle.core.errors import ConfigurationError
from oracle.core.trackrecord import ClosedTrade, StrategyKey
from oracle.metrics.criteria import Criteria
from oracle.metrics.performance import figures
from oracle.metrics.readiness import assess
from oracle.metrics.record import (
    KEY_NAME,
    ReadinessRecord,
    make_record,
    read_record,
    record_text,
    signing_key,
    trades_sha256,
    verify,
    worst_feed,
)
from tests.simulation.tracks import STRONG, Track, make

NOW_NS = 1_780_000_000_000_000_000
DAY_NS = 86_400_000_000_000
SECRET = b"k" * 32


@pytest.fixture(scope="module")
def track() -> Track:
    return make(STRONG, (7, 1), 180)


@pytest.fixture(scope="module")
def record(track: Track) -> ReadinessRecord:
    return _record(track, track.trades)


def _record(track: Track, trades: list[ClosedTrade], feed: str | None = "opra", mode: str = "paper") -> ReadinessRecord:
    made = assess(track.key, trades, track.days, Criteria(), parameter_sets=1, bound=None)
    told = figures(trades, track.days)
    return make_record(made, told, Decimal("123456.78"), feed, trades, SECRET, NOW_NS, mode=mode)


def wrong(record: ReadinessRecord, **changes: Any) -> tuple[str, ...]:
    asked: dict[str, Any] = {"strategy": "edge-75", "strategy_hash": "7-1", "now_ns": NOW_NS + DAY_NS, **changes}
    return verify(record, asked.pop("key", SECRET), **asked)


def test_a_fresh_record_holds_and_survives_being_written(record: ReadinessRecord, track: Track) -> None:
    assert record.ready
    assert wrong(record) == ()
    again = read_record(record_text(record))
    assert again == record
    assert wrong(again, trades=track.trades[::-1]) == ()
    assert record_text(again) == record_text(record)
    assert again.equity_usd == Decimal("123456.78")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("strategy_hash", "7-2"), ("ready", False), ("score", 99.0), ("reason", "x"), ("confidence", 1.0),
        ("parameter_sets", 7), ("criteria", ()), ("figures", {}), ("equity_usd", Decimal(1)), ("feed", "sip"),
        ("trades", 100), ("trades_sha256", "0" * 64), ("at_ns", NOW_NS + 1), ("valid_days", 700), ("version", 2),
        ("signature", "0" * 64),
    ],
)  # fmt: skip
def test_whatever_is_changed_breaks_the_signature(record: ReadinessRecord, field: str, value: object) -> None:
    (problem,) = wrong(msgspec.structs.replace(record, **{field: value}))
    assert problem.startswith("the signature")


def test_a_changed_figure_in_the_text_breaks_the_signature(record: ReadinessRecord) -> None:
    text = record_text(record)
    (problem,) = wrong(read_record(text.replace('"observed": 180', '"observed": 181')))
    assert problem.startswith("the signature")


def test_another_key_did_not_sign_it(record: ReadinessRecord) -> None:
    assert wrong(record, key=b"j" * 32)[0].startswith("the signature")


def test_a_record_holds_for_seven_days(record: ReadinessRecord) -> None:
    assert wrong(record, now_ns=NOW_NS + 7 * DAY_NS - 1) == ()
    assert wrong(record, now_ns=NOW_NS + 7 * DAY_NS) == ("the record is 7.0 days old and was good for 7",)
    assert "future" in wrong(record, now_ns=NOW_NS - 1)[0]


def test_a_record_holds_for_one_strategy_and_one_hash(record: ReadinessRecord) -> None:
    assert "zero trades" in wrong(record, strategy_hash="7-2")[0]
    assert "edge-75 7-1, not of iron_condor" in wrong(record, strategy="iron_condor")[0]


@pytest.mark.parametrize(("feed", "words"), [("indicative", "indicative feed"), (None, "unknown quality")])
def test_quotes_that_prove_nothing_are_not_accepted_for_live(track: Track, feed: str | None, words: str) -> None:
    made = _record(track, track.trades, feed)
    (problem,) = wrong(made)
    assert words in problem
    assert wrong(made, live=False) == ()


@pytest.mark.parametrize("mode", ["sim", "backtest", "live"])
def test_only_paper_trading_earns_live_capital(track: Track, mode: str) -> None:
    made = _record(track, track.trades, mode=mode)
    (problem,) = wrong(made)
    assert f"mode {mode}" in problem
    assert wrong(made, live=False) == ()


def test_a_strategy_that_was_not_ready_is_named_with_its_reason(track: Track) -> None:
    made = _record(track, track.trades[:60])
    assert any("was not ready: needs 40 more trades" in problem for problem in wrong(made))


def test_other_trades_are_named(record: ReadinessRecord, track: Track) -> None:
    assert wrong(record, trades=track.trades[:-1]) == ("it rests on other trades than those on record",)


def test_every_field_of_every_trade_counts(track: Track) -> None:
    before = trades_sha256(track.trades)
    assert trades_sha256(track.trades[::-1]) == before
    for field, value in (("net_micros", 1), ("feed", None), ("exit_rule", "x"), ("key", StrategyKey("a", "b"))):
        changed = [msgspec.structs.replace(track.trades[0], **{field: value}), *track.trades[1:]]
        assert trades_sha256(changed) != before


def test_an_assessment_is_not_signed_with_other_trades(track: Track) -> None:
    made = assess(track.key, track.trades, track.days, Criteria(), parameter_sets=1, bound=None)
    told = figures(track.trades, track.days)
    for trades in (track.trades[:-1], make(STRONG, (7, 2), 180).trades):
        with pytest.raises(ValueError, match="180 trades"):
            make_record(made, told, Decimal(1), "opra", trades, SECRET, NOW_NS, mode="paper")


def test_the_worst_feed_is_that_of_the_worst_trade(track: Track) -> None:
    one, two, three = track.trades[:3]
    poor, blank = msgspec.structs.replace(two, feed="indicative"), msgspec.structs.replace(three, feed=None)
    assert worst_feed([one, two]) == "opra"
    assert worst_feed([one, poor]) == "indicative"
    assert worst_feed([one, poor, blank]) is None
    assert worst_feed([]) is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": 1, "surprise": 2}', b"\xff"])
def test_what_is_no_record_is_refused(text: str | bytes) -> None:
    with pytest.raises(ConfigurationError, match="no readiness record"):
        read_record(text)


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    assert len(key) == 32
    assert signing_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / KEY_NAME).stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [KEY_NAME]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    signing_key(tmp_path)
    (tmp_path / KEY_NAME).chmod(0o640)
    with pytest.raises(ConfigurationError, match="open to other users"):
        signing_key(tmp_path)


def test_a_key_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / KEY_NAME).write_bytes(b"short")
    (tmp_path / KEY_NAME).chmod(0o600)
    with pytest.raises(ConfigurationError, match="5 bytes"):
        signing_key(tmp_path)


def test_without_a_state_folder_there_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=KEY_NAME):
        signing_key(tmp_path / "missing")

"""Indicators against hand-computed values and against the published figures of one real session."""

import csv
import gzip

import pytest

from oracle.core.errors import InvariantError
from oracle.core.sessions import MINUTE_NS
from oracle.strategies.indicators import (
    Atr,
    Ema,
    OpeningRange,
    Rsi,
    SameMinuteVolume,
    SessionVwap,
    TrailingVolume,
)
from tests.conftest import real_folder


def test_ema_is_seeded_with_the_simple_mean():
    ema = Ema(3)
    values = []
    for close in (1.0, 2.0, 6.0, 5.0, 1.0):
        ema.update(close)
        values.append(ema.value)
    assert values == [None, None, 3.0, 4.0, 2.5]


def test_rsi_by_hand():
    rsi = Rsi(3)
    values = []
    for close in (10.0, 11.0, 10.5, 12.0, 11.0, 11.0):
        rsi.update(close)
        values.append(rsi.value)
    # Differences +1, -0.5, +1.5, -1, 0: seed gain 2.5/3 and loss 0.5/3, then Wilder's smoothing by 1/3.
    assert values[:3] == [None, None, None]
    assert values[3] == pytest.approx(100 * 2.5 / 3.0)
    gain, loss = 2.5 / 3 * 2 / 3, (0.5 / 3 * 2 + 1) / 3
    assert values[4] == pytest.approx(100 * gain / (gain + loss))
    assert values[5] == pytest.approx(values[4])  # no change: both shrink alike


@pytest.mark.parametrize(("closes", "value"), [([1, 2, 3, 4], 100.0), ([4, 3, 2, 1], 0.0), ([5, 5, 5, 5], None)])
def test_rsi_extremes_and_a_price_that_never_moved(closes, value):
    rsi = Rsi(3)
    for close in closes:
        rsi.update(float(close))
    assert rsi.value == value


def test_atr_by_hand():
    atr = Atr(2)
    atr.update(11.0, 9.0, 10.0)
    atr.update(12.0, 11.0, 11.5)  # 12 - 10 (gap up from the close)
    assert atr.value is None
    atr.update(11.0, 10.0, 10.5)  # 11.5 - 10
    assert atr.value == pytest.approx((2.0 + 1.5) / 2)
    atr.update(11.0, 10.0, 10.5)  # 1
    assert atr.value == pytest.approx((1.75 + 1.0) / 2)


def test_session_vwap_resets_at_the_open():
    vwap = SessionVwap()
    assert vwap.value is None
    vwap.update("2025-01-02", 12.0, 9.0, 12.0, 0)
    assert vwap.value is None
    vwap.update("2025-01-02", 12.0, 9.0, 12.0, 100)
    vwap.update("2025-01-02", 15.0, 15.0, 15.0, 300)
    assert vwap.value == pytest.approx((11 * 100 + 15 * 300) / 400)
    vwap.update("2025-01-03", 20.0, 20.0, 20.0, 5)
    assert vwap.value == 20.0


def test_opening_range_is_unknown_until_it_is_over():
    window = OpeningRange(0, 3 * MINUTE_NS)
    for minute, high, low in ((0, 10.0, 9.0), (1, 11.0, 9.5), (2, 10.0, 8.0), (3, 50.0, 1.0)):
        assert window.value((minute + 1) * MINUTE_NS - 1) is None or minute == 3
        window.update(minute * MINUTE_NS, high, low)
    assert window.value(3 * MINUTE_NS - 1) is None
    assert window.value(3 * MINUTE_NS) == (11.0, 8.0)


def test_opening_range_with_a_hole_is_unknown():
    strict, lenient = OpeningRange(0, 3 * MINUTE_NS), OpeningRange(0, 3 * MINUTE_NS, missing_allowed=1)
    for window in (strict, lenient):
        assert window.value(4 * MINUTE_NS) is None
        window.update(0, 10.0, 9.0)
        window.update(2 * MINUTE_NS, 11.0, 9.0)
        assert window.seen == 2
    assert strict.value(4 * MINUTE_NS) is None
    assert lenient.value(4 * MINUTE_NS) == (11.0, 9.0)


def test_trailing_volume_compares_with_the_bars_before():
    volume = TrailingVolume(2)
    values = []
    for shares in (100, 300, 400, 700, 0, 0, 5):
        volume.update(shares)
        values.append(volume.value)
    assert values == [None, None, 2.0, 2.0, 0.0, 0.0, None]  # the last: no volume to compare with


def test_same_minute_volume_compares_with_sessions_and_not_with_minutes():
    volume = SameMinuteVolume(2)
    seen = []
    for first, second in ((100, 10), (200, 30), (300, 10)):
        volume.update(0, first)
        seen.append(volume.value)
        volume.update(1, second)
        seen.append(volume.value)
    assert seen == [None, None, None, None, 2.0, 0.5]
    volume.update(2, 1000)
    assert volume.value is None


@pytest.mark.parametrize("make", [Ema, Rsi, Atr, TrailingVolume, SameMinuteVolume])
def test_a_length_of_zero_is_refused(make):
    with pytest.raises(InvariantError):
        make(0)


def real_bars(date):
    path = real_folder() / "bars" / "1m" / "SPY" / f"{date}.csv.gz"
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            utc = row["t"][11:16]
            if "13:30" <= utc < "20:00":  # regular hours in October
                yield utc, *(float(row[name]) for name in "ohlc"), int(row["v"])


@pytest.mark.real_data
def test_real_session_equals_the_published_figures():
    """SPY 2013-10-10. The published EMA is seeded with the first close: compared once the seed has faded."""
    rsi, vwap, volume, ema9, ema21 = Rsi(14), SessionVwap(), TrailingVolume(20), Ema(9), Ema(21)
    seen, total = {}, 0
    for utc, _, high, low, close, shares in real_bars("2013-10-10"):
        for indicator in (rsi, ema9, ema21):
            indicator.update(close)
        vwap.update("2013-10-10", high, low, close, shares)
        volume.update(shares)
        total += shares
        seen[utc] = (rsi.value, vwap.value, volume.value, ema9.value, ema21.value)
    assert total == 157_839_488
    expected = {
        "14:00": (61.552, 167.6148, 0.936, 167.7611, 167.6904),
        "16:00": (59.003, 167.8539, 0.560, 168.3939, 168.3297),
        "19:59": (70.475, 168.3026, 4.875, 169.0171, 168.9733),
    }
    for utc, figures in expected.items():
        assert seen[utc][0] == pytest.approx(figures[0], abs=5.1e-4)
        assert seen[utc][1] == pytest.approx(figures[1], abs=5.1e-5)
        assert seen[utc][2] == pytest.approx(figures[2], abs=5.1e-4)
        if utc != "14:00":
            assert seen[utc][3:] == pytest.approx(figures[3:], abs=6e-5)


@pytest.mark.real_data
def test_real_opening_ranges_equal_the_published_figures():
    first, half_hour = OpeningRange(0, 15 * MINUTE_NS), OpeningRange(0, 30 * MINUTE_NS)
    broke = None
    for minute, (utc, _, high, low, close, _) in enumerate(real_bars("2013-10-10")):
        for window in (first, half_hour):
            window.update(minute * MINUTE_NS, high, low)
        known = first.value((minute + 1) * MINUTE_NS)
        if known is not None and broke is None and close > known[0]:
            broke = utc
    assert first.value(15 * MINUTE_NS) == (167.76, 167.23)
    assert half_hour.value(30 * MINUTE_NS) == (167.90, 167.23)
    assert broke == "13:53"

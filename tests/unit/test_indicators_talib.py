"""Indicators, bar by bar, against TA-Lib's batch figures and the published ones, on the real SPY minutes."""

import csv
import gzip
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import talib

from oracle.strategies.indicators import Atr, Cross, Ema, Rsi, TrailingVolume
from tests.conftest import real_folder

pytestmark = pytest.mark.real_data
DATES = ("2013-10-04", "2013-10-07", "2013-10-08", "2013-10-09", "2013-10-10")
REFERENCE = "2013-10-10"
Floats = npt.NDArray[np.float64]


def regular_minutes(date: str) -> Iterator[tuple[str, float, float, float, int]]:
    """UTC time, high, low, close and volume of one session's regular hours (13:30 to 20:00 UTC in October)."""
    with gzip.open(real_folder() / "bars" / "1m" / "SPY" / f"{date}.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            if "13:30" <= row["t"][11:16] < "20:00":
                yield row["t"][11:16], float(row["h"]), float(row["l"]), float(row["c"]), int(row["v"])


def columns(dates: tuple[str, ...]) -> tuple[Floats, Floats, Floats]:
    """High, low and close of several sessions, one after the other."""
    rows = [(high, low, close) for date in dates for _, high, low, close, _ in regular_minutes(date)]
    high, low, close = np.array(rows).T.copy()
    return high, low, close


@pytest.mark.parametrize("dates", [*((date,) for date in DATES), DATES], ids=[*DATES, "all"])
@pytest.mark.parametrize("length", [9, 14, 21])
def test_ema_rsi_and_atr_equal_talib(dates: tuple[str, ...], length: int) -> None:
    """From the first value on: both seed alike, so that no warm-up has to be forgiven."""
    high, low, close = columns(dates)
    assert len(close) == 390 * len(dates)
    ema, rsi, atr = Ema(length), Rsi(length), Atr(length)
    ours: list[list[float]] = [[], [], []]
    for h, low_, c in zip(high.tolist(), low.tolist(), close.tolist(), strict=True):
        ema.update(c)
        rsi.update(c)
        atr.update(h, low_, c)
        for seen, value in zip(ours, (ema.value, rsi.value, atr.value), strict=True):
            seen.append(float("nan") if value is None else value)
    theirs = talib.EMA(close, length), talib.RSI(close, length), talib.ATR(high, low, close, length)
    for name, mine, batch, first in zip(("EMA", "RSI", "ATR"), ours, theirs, (length - 1, length, length), strict=True):
        assert np.isnan(mine[:first]).all(), name
        assert not np.isnan(mine[first:]).any(), name
        np.testing.assert_allclose(mine, batch, rtol=0, atol=1e-9, equal_nan=True, err_msg=name)


def seeded_with_first_close(length: int, first: float) -> Ema:
    """An average whose seed, the mean of ``length`` values, is the first close: the published seeding."""
    ema = Ema(length)
    for _ in range(length):
        ema.update(first)
    return ema


def test_published_averages_are_ours_with_their_seed() -> None:
    """With the first close as seed all published figures come out; the seed is all that differs."""
    published = {"14:00": (167.7611, 167.6904), "16:00": (168.3939, 168.3297), "19:59": (169.0171, 168.9733)}
    bars = list(regular_minutes(REFERENCE))
    theirs = [seeded_with_first_close(length, bars[0][3]) for length in (9, 21)]
    ours = [Ema(9), Ema(21)]
    far = {}
    for n, (utc, _, _, close, _) in enumerate(bars):
        for average in (*ours, *(theirs if n else ())):
            average.update(close)
        if utc in published:
            values = [average.value for average in theirs]
            assert values == pytest.approx(published[utc], abs=5.1e-5)
            far[utc] = max(abs(a.value - b.value) for a, b in zip(ours, theirs, strict=True))  # type: ignore[operator]
    # After 31 bars the mean's seed still shows by less than two cents; by noon it is gone.
    assert 1e-4 < far["14:00"] < 0.02
    assert far["16:00"] < 1e-6
    assert far["19:59"] < 1e-9


def test_published_counts_of_the_session() -> None:
    bars = list(regular_minutes(REFERENCE))
    cross = Cross(seeded_with_first_close(9, bars[0][3]), seeded_with_first_close(21, bars[0][3]))
    rsi, volume = Rsi(14), TrailingVolume(20)
    crosses: list[int] = []
    heavy: list[float] = []
    strengths: list[float] = []
    for n, (_, _, _, close, shares) in enumerate(bars):
        if n:
            cross.update(close)
            crosses.append(cross.value or 0)
        rsi.update(close)
        volume.update(shares)
        strengths += [] if rsi.value is None else [rsi.value]
        heavy += [] if volume.value is None else [volume.value]
    # The published 10 crosses up count the first one above the other: from one seed, the averages start out equal.
    assert next(side for side in crosses if side) == -1
    assert (crosses.count(1) + 1, crosses.count(-1)) == (10, 9)
    assert (sum(s > 70 for s in strengths), sum(s < 30 for s in strengths)) == (36, 0)
    assert (sum(h > 1.5 for h in heavy), sum(h > 2 for h in heavy)) == (74, 33)

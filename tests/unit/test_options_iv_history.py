"""Rank and percentile over a window of sessions: what counts, what does not, and when there is no answer."""

import datetime as dt
import random

import pytest

from oracle.calendar import load_sessions
from oracle.core.ivstanding import IvStanding
from oracle.core.marketdata import DailyIvObserved
from oracle.core.sessions import SessionTable
from oracle.options.iv_history import FLAT, TOO_FEW, IvHistory

TODAY = "2025-11-19"


@pytest.fixture(scope="module")
def table() -> SessionTable:
    return load_sessions(dt.date(2025, 1, 2), dt.date(2025, 12, 31))


@pytest.fixture(scope="module")
def dates(table: SessionTable) -> list[str]:
    """The sessions before today, newest first."""
    return [session.date for session in table.before(TODAY, 120)][::-1]


def history(table: SessionTable, values: dict[str, float]) -> IvHistory:
    """Observations by date, told in a random order."""
    found = IvHistory(table)
    rows = [DailyIvObserved("SPY", date, iv, "test") for date, iv in values.items()]
    random.Random(3).shuffle(rows)
    found.add(rows)
    return found


def test_rank_and_percentile_by_their_definitions(table: SessionTable, dates: list[str]) -> None:
    values = {date: 0.10 + 0.001 * n for n, date in enumerate(dates[:90])}  # 0.100 ... 0.189
    stood = history(table, values).standing("SPY", TODAY, 0.145)
    assert stood == IvStanding(0.145, pytest.approx(45 / 89), 45 / 90, 90, 90, "")


def test_a_volatility_beyond_the_window_is_clamped(table: SessionTable, dates: list[str]) -> None:
    found = history(table, {date: 0.10 + 0.001 * n for n, date in enumerate(dates[:90])})
    low, high = found.standing("SPY", TODAY, 0.05), found.standing("SPY", TODAY, 0.50)
    assert (low.rank, low.percentile) == (0.0, 0.0)
    assert (high.rank, high.percentile) == (1.0, 1.0)


def test_equal_observations_are_not_below(table: SessionTable, dates: list[str]) -> None:
    values = dict.fromkeys(dates[:60], 0.2) | {dates[60]: 0.1}
    assert history(table, values).standing("SPY", TODAY, 0.2).percentile == 1 / 61


def test_59_are_too_few_and_60_are_enough(table: SessionTable, dates: list[str]) -> None:
    values = {date: 0.10 + 0.001 * n for n, date in enumerate(dates[:60])}
    enough = history(table, values).standing("SPY", TODAY, 0.12)
    assert (enough.reason, enough.observations) == ("", 60)
    values.pop(dates[30])
    short = history(table, values).standing("SPY", TODAY, 0.12)
    assert (short.rank, short.percentile, short.observations, short.reason) == (None, None, 59, TOO_FEW)


def test_the_window_is_of_sessions_not_of_rows(table: SessionTable, dates: list[str]) -> None:
    """Rows older than 90 sessions do not stand in for missing ones, however many there are."""
    values = {date: 0.2 + 0.001 * n for n, date in enumerate(dates[:50])}
    values |= dict.fromkeys(dates[90:120], 0.9)
    stood = history(table, values).standing("SPY", TODAY, 0.22)
    assert (stood.observations, stood.rank, stood.reason) == (50, None, TOO_FEW)
    values |= dict.fromkeys(dates[50:60], 0.3)
    stood = history(table, values).standing("SPY", TODAY, 0.249)
    assert stood.observations == 60
    assert stood.rank == pytest.approx(0.49)  # 0.2 to 0.3: the 0.9s are older than the window


def test_today_itself_and_days_without_a_session_do_not_count(table: SessionTable, dates: list[str]) -> None:
    values = {date: 0.10 + 0.001 * n for n, date in enumerate(dates[:90])}
    plain = history(table, values).standing("SPY", TODAY, 0.12)
    spiced = values | {TODAY: 5.0, "2025-11-15": 6.0, "2025-11-20": 7.0}
    assert history(table, spiced).standing("SPY", TODAY, 0.12) == plain


def test_a_flat_window_has_a_percentile_and_no_rank(table: SessionTable, dates: list[str]) -> None:
    stood = history(table, dict.fromkeys(dates[:90], 0.2)).standing("SPY", TODAY, 0.25)
    assert (stood.rank, stood.percentile, stood.reason) == (None, 1.0, FLAT)


def test_the_newest_told_of_a_date_counts(table: SessionTable, dates: list[str]) -> None:
    found = IvHistory(table)
    found.add(DailyIvObserved("SPY", dates[0], iv, source) for iv, source in ((0.1, "a"), (0.3, "b")))
    assert found.rows("SPY") == [DailyIvObserved("SPY", dates[0], 0.3, "b")]
    assert found.on("SPY", dates[0]) == DailyIvObserved("SPY", dates[0], 0.3, "b")
    assert found.on("QQQ", dates[0]) is None
    assert found.rows("QQQ") == []


def test_what_the_exchange_tells_at_each_start_replaces_nothing_but_its_own(
    table: SessionTable, dates: list[str]
) -> None:
    found = IvHistory(table)
    for iv, source in ((0.1, "exchange"), (0.2, "chain"), (0.3, "exchange")):
        found.add((DailyIvObserved("SPY", dates[0], iv, source),))
    assert found.on("SPY", dates[0]) == DailyIvObserved("SPY", dates[0], 0.2, "chain")
    for iv in (0.1, 0.15):
        found.add((DailyIvObserved("SPY", dates[1], iv, "exchange"),))
    assert found.on("SPY", dates[1]) == DailyIvObserved("SPY", dates[1], 0.15, "exchange")


def test_an_unknown_underlying_has_no_history(table: SessionTable) -> None:
    assert IvHistory(table).standing("GME", TODAY, 0.2) == IvStanding(0.2, None, None, 0, 90, TOO_FEW)


def test_at_the_tables_beginning_the_sessions_before_it_are_missing() -> None:
    short = load_sessions(dt.date(2025, 10, 1), dt.date(2025, 12, 31))
    rows = {session.date: 0.1 + 0.01 * n for n, session in enumerate(short.before(TODAY, 90))}
    assert len(rows) < 60
    assert history(short, rows).standing("SPY", TODAY, 0.2).reason == TOO_FEW

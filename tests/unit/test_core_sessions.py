"""The session table: half-days, daylight saving, late times, expiries."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from oracle.calendar import load_sessions
from oracle.core.errors import ConfigurationError, InvariantError
from oracle.core.sessions import MINUTE_NS, Session, SessionTable

NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def table() -> SessionTable:
    return load_sessions(dt.date(2025, 10, 1), dt.date(2026, 12, 31))


def wall(ns: int) -> str:
    return dt.datetime.fromtimestamp(ns / 1e9, NEW_YORK).strftime("%Y-%m-%d %H:%M")


@pytest.mark.parametrize("date", ["2025-10-31", "2025-11-03", "2026-03-06", "2026-03-09"])
def test_new_york_times_hold_across_both_clock_changes(table: SessionTable, date: str) -> None:
    session = table.on(date)
    assert session is not None
    assert wall(session.open_ns) == f"{date} 09:30"
    assert wall(session.early("10:30")) == f"{date} 10:30"
    assert wall(session.late("15:00")) == f"{date} 15:00"
    assert wall(session.close_ns) == f"{date} 16:00"
    assert not session.is_half_day


def test_late_times_move_on_half_days_and_early_ones_do_not(table: SessionTable) -> None:
    session = table.on("2026-11-27")
    assert session is not None
    assert session.is_half_day
    assert wall(session.close_ns) == "2026-11-27 13:00"
    assert wall(session.late("15:00")) == "2026-11-27 12:00"
    assert wall(session.late("14:00")) == "2026-11-27 11:00"
    assert wall(session.early("10:30")) == "2026-11-27 10:30"
    assert wall(session.late("09:45")) == "2026-11-27 06:45"


def test_look_ups(table: SessionTable) -> None:
    friday, monday = table.on("2026-01-02"), table.on("2026-01-05")
    assert friday is not None
    assert monday is not None
    assert table.on("2026-01-03") is None
    assert table.open_at(friday.open_ns) == friday
    assert table.open_at(friday.close_ns) is None
    assert table.open_at(friday.open_ns - 1) is None
    assert table.current_or_next(friday.open_ns - 1) == friday
    assert table.current_or_next(friday.close_ns - 1) == friday
    assert table.current_or_next(friday.close_ns) == monday
    assert table.latest(friday.open_ns) == friday
    assert table.latest(0) is None
    assert table.current_or_next(table.sessions[-1].close_ns) is None
    assert table.before("2026-01-05", 2) == (table.on("2025-12-31"), friday)
    assert table.before("2000-01-01") == ()
    assert table.after("2026-01-02") == monday
    assert table.after("2030-01-01") is None
    assert friday.minute_of(friday.open_ns + 61 * MINUTE_NS) == 61


def test_expiries(table: SessionTable) -> None:
    friday = table.on("2026-01-02")
    assert friday is not None
    assert table.expiry_ns("2026-01-02") == friday.close_ns
    assert table.expiry_ns("2026-01-03") == friday.close_ns  # old monthlies are dated Saturday
    assert table.expiry_ns("2031-01-03") is None
    assert table.last_trading("2000-01-01") is None
    assert table.days_to("2026-01-16", "2026-01-02") == 14


def test_a_table_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvariantError):
        SessionTable([])
    with pytest.raises(InvariantError):
        Session("2026-01-02", 10, 10)
    with pytest.raises(InvariantError):
        SessionTable([Session("2026-01-02", 0, 10), Session("2026-01-01", 20, 30)])
    with pytest.raises(ConfigurationError, match="no NYSE calendar"):
        load_sessions(dt.date(2026, 1, 3), dt.date(2026, 1, 3))

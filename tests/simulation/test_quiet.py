"""Calm sessions do not trip the watchdog, and silence does: a small version of ``scripts/quiet``."""

import pytest

from oracle.alpaca.feeds import STALE_AFTER_S
from oracle.alpaca.supervisor import Supervisor
from oracle.core.sessions import NS
from oracle.core.vocabulary import Feed
from tests.simulation.quiet import Quiet, Watch, calendar, calmest, watch_year


@pytest.mark.slow
def test_calm_sessions_do_not_trip_the_watchdog() -> None:
    table, quiet = calendar(), Quiet()
    watch_year(table, 1, calmest(table, 1, 2), quiet)
    assert quiet.sessions == 2
    assert quiet.messages > 100_000
    assert quiet.trips == []
    assert all(0 < longest_s < STALE_AFTER_S / 2 for longest_s in quiet.longest_s.values())


def test_the_same_watch_trips_on_silence() -> None:
    table = calendar()
    session = table.on("2026-01-05")
    assert session is not None
    watch = Watch(Feed.STOCK, Supervisor(Feed.STOCK, table, STALE_AFTER_S, "SPY quote"))
    watch.begin(session.open_ns)
    for second in range(1, 60):
        watch.second(session.open_ns + second * NS, heard=second <= 30)
    assert len(watch.trips) == 1
    assert "12.0 s" in watch.trips[0]


def test_the_calmest_sessions_are_calmer_than_the_year() -> None:
    table = calendar()
    dates = calmest(table, 1, 25)
    assert len(set(dates)) == 25
    assert dates == sorted(dates)
    assert set(dates) <= set(calmest(table, 1, 100))

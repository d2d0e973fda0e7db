"""Daily volatilities written by commands: all or nothing, nothing replaced unasked, and beside a running daemon."""

import sqlite3
import threading
from pathlib import Path

import pytest

from oracle.core.errors import ConfigurationError, StoreError
from oracle.core.marketdata import DailyIvObserved, Quote
from oracle.core.messages import Stamped
from oracle.store import ivs
from oracle.store.sqlite import Store

DAYS = tuple(DailyIvObserved("SPY", f"2026-01-{n:02d}", 0.1 + n / 100, "import:csv") for n in range(5, 10))
T0 = 1_767_600_000_000_000_000


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A state folder whose daemon has stopped."""
    store = await Store.open(tmp_path / "s", "sim", T0, token="t")
    await store.close()
    return tmp_path / "s"


def test_rows_are_added_and_read_back(state: Path) -> None:
    assert ivs.observations(state) == []
    assert ivs.write(state, DAYS) == ivs.Written(5, 0, 0, daemon_running=False)
    assert ivs.observations(state) == list(DAYS)
    assert ivs.write(state, DAYS) == ivs.Written(0, 0, 5, daemon_running=False)


def test_another_value_is_refused_whole_and_replaced_when_asked(state: Path) -> None:
    ivs.write(state, DAYS[:2])
    changed = DailyIvObserved("SPY", DAYS[1].date, 0.5, "journal")
    with pytest.raises(
        ConfigurationError, match=r"SPY 2026-01-06: stored 0\.1600 \(import:csv\), given 0\.5000"
    ) as caught:
        ivs.write(state, (*DAYS[2:], changed))
    assert "--replace" in caught.value.fix
    assert ivs.observations(state) == list(DAYS[:2]), "not even the new ones"
    assert ivs.write(state, (*DAYS[2:], changed), replace=True) == ivs.Written(3, 1, 0, daemon_running=False)
    assert ivs.observations(state)[1] == changed


def test_what_is_stored_is_kept_and_named_when_only_gaps_are_filled(state: Path) -> None:
    ivs.write(state, DAYS[:2])
    changed = DailyIvObserved("SPY", DAYS[1].date, 0.5, "journal")
    done = ivs.write(state, (changed, *DAYS[2:]), keep=True)
    assert (done.added, done.replaced, done.unchanged) == (3, 0, 0)
    assert done.kept == ("SPY 2026-01-06: stored 0.1600 (import:csv), given 0.5000",)
    assert ivs.observations(state) == list(DAYS)


def test_the_same_value_from_another_source_is_no_other_value(state: Path) -> None:
    ivs.write(state, DAYS)
    again = DailyIvObserved("SPY", DAYS[0].date, DAYS[0].iv_30d, "journal")
    assert ivs.write(state, (again,)).unchanged == 1
    assert ivs.observations(state) == list(DAYS), "who said it first"


async def test_what_the_exchange_tells_at_each_start_fills_gaps_alone(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "s", "sim", T0, token="t")
    try:
        ivs.write(tmp_path / "s", DAYS[:1])
        told = tuple(DailyIvObserved("SPY", day.date, 0.4, "exchange") for day in DAYS[:2])
        await store.commit(told, Stamped(1, T0, Quote("SPY", T0, 1.0, 1, 1.1, 1)))
        assert (await store.load()).iv_history == (DAYS[0], told[1])
        later = DailyIvObserved("SPY", DAYS[1].date, 0.3, "chain")
        await store.commit((later,), Stamped(2, T0, Quote("SPY", T0, 1.0, 1, 1.1, 1)))
        assert (await store.load()).iv_history == (DAYS[0], later)
    finally:
        await store.close()


async def test_beside_a_running_daemon_both_write(tmp_path: Path) -> None:
    """The daemon holds the folder's lock; SQLite's own locks order the two writers."""
    store = await Store.open(tmp_path / "s", "sim", T0, token="t")
    try:
        done = ivs.write(tmp_path / "s", DAYS)
        assert done.daemon_running
        own = DailyIvObserved("SPY", "2026-01-12", 0.2, "chain")
        assert await store.commit((own,), Stamped(1, T0, Quote("SPY", T0, 1.0, 1, 1.1, 1))) == 1
        assert (await store.load()).iv_history == (*DAYS, own)
    finally:
        await store.close()


def test_a_database_that_stays_busy_is_told_and_left_alone(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivs, "BUSY_TIMEOUT_S", 0.01)
    other = sqlite3.connect(state / "oracle.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreError, match="nothing was written"):
            ivs.write(state, DAYS)
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert ivs.observations(state) == []


def test_two_commands_at_once_lose_nothing(state: Path) -> None:
    parts = [tuple(DailyIvObserved(u, d.date, 0.2, "import:csv") for d in DAYS) for u in ("QQQ", "IWM", "SPY", "DIA")]
    workers = [threading.Thread(target=ivs.write, args=(state, part)) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(ivs.observations(state)) == 20


def test_without_a_database_it_says_how_to_get_one(tmp_path: Path) -> None:
    for call in (lambda: ivs.observations(tmp_path), lambda: ivs.write(tmp_path, DAYS)):
        with pytest.raises(ConfigurationError, match="does not exist"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_another_programs_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "oracle.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE iv_history (x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="another program"):
        ivs.write(tmp_path, DAYS)
    assert path.read_bytes() == before

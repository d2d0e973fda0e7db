"""What a person adds to the record: over the real socket, across a kill, and the same in a replay, byte for byte."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from oracle.cli.control import ask_daemon
from oracle.core.control import Tighten
from oracle.store.state import DATABASE_NAME
from tests.end_to_end.test_operator import OPEN_S, ORB, desk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


def rows(state: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(state / DATABASE_NAME)) as db:
        return db.execute(sql).fetchall()


async def test_notes_and_stricter_criteria_last_and_replay(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    async with desk(tmp_path, clean_environment) as one:
        await one.run_until(OPEN_S + 5 * 60)
        await one.start(1)
        noted = await one.oracle("note", "the feed was slow")
        assert noted["facts"] == {"session": "2026-11-27", "note": "the feed was slow"}
        assert (await one.oracle("note", "a Sunday", "--session", "2026-11-29", code=1))["ok"] is False
        stricter = await asyncio.to_thread(ask_daemon, one.state, Tighten(ORB, "win_rate", 0.7), "prudence", 10.0)
        assert (stricter.ok, stricter.done) == (True, True)
        await one.kill()

        await one.start(1)
        looser = await asyncio.to_thread(ask_daemon, one.state, Tighten(ORB, "win_rate", 0.68), "", 10.0)
        assert not looser.ok
        assert "0.7" in looser.text
        await one.oracle("note", "after the restart", "--session", "2026-11-27")
        await one.stop()

        found = rows(one.state, "SELECT date, text FROM session_notes ORDER BY log_id")
        assert found == [("2026-11-27", "the feed was slow"), ("2026-11-27", "after the restart")]
        found = rows(one.state, "SELECT strategy, criterion, value, why FROM strategy_criteria")
        assert found == [(ORB, "win_rate", 0.7, "prudence")]
        ((name, params),) = rows(one.state, "SELECT strategy, params FROM parameter_sets")
        assert name == ORB
        assert '"SPY"' in str(params)
        ((notes,),) = rows(one.state, "SELECT notes FROM trading_sessions")
        assert "after the restart" in str(notes)

        refused = await one.run_command("note", "nobody hears", code=69)
        assert refused == b""
        checked = await one.run_command("replay", str(one.state), "--check")
        assert checked.count(b'"verdict": "clean"') + checked.count(b'"verdict": "cut"') == 3

"""Notes and stricter criteria on disk: as they were said, once, and never looser, whoever writes."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from oracle.core.control import Note, Tighten
from oracle.core.messages import CriterionTightened, NoteAdded, OperatorAnswered, OperatorRequested, Stamped
from oracle.core.record import Record
from oracle.store.sqlite import Store
from oracle.store.state import DATABASE_NAME
from tests.unit.builders import DATES, OPEN_NS, TABLE, Chains
from tests.unit.contexts import context_at

ORB = "opening_range_breakout"


async def told(store: Store, record: Record, ask: Note | Tighten, seq: int) -> OperatorAnswered:
    """Ask the actor and commit the turn, as the daemon does."""
    request = OperatorRequested(f"r{seq}", "alice", "because", ask)
    out = record.on_request(request, context_at(TABLE, OPEN_NS + seq, Chains()))
    await store.commit(out, Stamped(seq, OPEN_NS + seq, request))
    answer = out[-1]
    assert isinstance(answer, OperatorAnswered)
    return answer


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as db:
        return db.execute(sql).fetchall()


async def test_a_note_is_a_row_of_its_session(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", OPEN_NS, token="tok")
    assert (await told(store, Record(()), Note("first"), 1)).ok
    assert (await told(store, Record(()), Note('it\'s "quoted"', DATES[2]), 2)).ok
    await store.close()
    assert rows(tmp_path, "SELECT date, who, text, request_id FROM session_notes ORDER BY log_id") == [
        (DATES[0], "alice", "first", "r1"),
        (DATES[2], "alice", 'it\'s "quoted"', "r2"),
    ]


async def test_stricter_criteria_come_back_at_the_next_start(tmp_path: Path) -> None:
    store, record = await Store.open(tmp_path, "sim", OPEN_NS, token="tok"), Record((ORB,))
    for seq, value in enumerate((0.7, 0.75, 0.72), 1):
        answer = await told(store, record, Tighten(ORB, "win_rate", value), seq)
        assert answer.ok == (value != 0.72)
    await told(store, record, Tighten(ORB, "max_drawdown", 0.08), 4)
    loaded = await store.load()
    await store.close()
    assert loaded.criteria == (
        CriterionTightened("r2", ORB, "win_rate", 0.75, 0.7, "alice", "because", OPEN_NS + 2),
        CriterionTightened("r4", ORB, "max_drawdown", 0.08, 0.1, "alice", "because", OPEN_NS + 4),
    )
    again = Record((ORB,))
    again.restore(loaded.criteria)
    request = OperatorRequested("r5", "alice", "", Tighten(ORB, "win_rate", 0.74))
    (refused,) = again.on_request(request, context_at(TABLE, OPEN_NS, Chains()))
    assert isinstance(refused, OperatorAnswered)
    assert not refused.ok


async def test_what_other_hands_made_stricter_meanwhile_stands_and_ends_nothing(tmp_path: Path) -> None:
    store, record = await Store.open(tmp_path, "sim", OPEN_NS, token="tok"), Record((ORB,))
    await told(store, record, Tighten(ORB, "sharpe", 1.6), 1)
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)) as db:
        db.execute('UPDATE strategy_criteria SET value = 2.5, "before" = NULL, request_id = NULL')
    assert (await told(store, record, Tighten(ORB, "sharpe", 2.0), 2)).ok
    loaded = await store.load()
    await store.close()
    assert [(c.value, c.before, c.request_id) for c in loaded.criteria] == [(2.5, 2.5, "")]


async def test_the_database_itself_refuses_what_is_looser(tmp_path: Path) -> None:
    store, record = await Store.open(tmp_path, "sim", OPEN_NS, token="tok"), Record((ORB,))
    await told(store, record, Tighten(ORB, "sharpe", 1.6), 1)
    await store.close()
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as db:
        for statement in ("UPDATE strategy_criteria SET value = 1.5", "DELETE FROM strategy_criteria"):
            with pytest.raises(sqlite3.IntegrityError, match="stricter"):
                db.execute(statement)


async def test_a_log_id_is_never_given_twice(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, "sim", OPEN_NS, token="tok")
    note = NoteAdded("r1", DATES[0], "alone", "alice", OPEN_NS)
    await store.commit([note], Stamped(1, OPEN_NS, OperatorRequested("r1", "alice", "", Note("alone"))))
    await store.close()
    store = await Store.open(tmp_path, "sim", OPEN_NS)
    await told(store, Record(()), Note("after"), 2)
    await store.close()
    ids = rows(tmp_path, "SELECT log_id FROM session_notes UNION ALL SELECT log_id FROM operator_answers")
    assert len(set(ids)) == len(ids) == 3

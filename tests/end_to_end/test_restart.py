"""Kill -9 in mid-session, again and again: the daemon comes back on the same books and the day ends equal to the cent.

The exchange stands still while no daemon is connected. The daemon kills itself at points of its own work (a commit, a
POST), so nothing here waits for a length of time or races a log line. ``scripts/crash`` does the same by the hundred.
"""

from pathlib import Path

import pytest

from oracle.store.journal import JournalReader
from tests.crash.harness import Play, Session
from tests.crash.victim import Plan

LIMIT_S = 600
# How fast a start is, is measured by scripts/crash on a quiet machine; tests share theirs.
BUSY_S = 90.0
# A market in which the eager settings of the harness trade from the first half hour on.
SEED = 6


async def played(folder: Path, *plans: Plan) -> Session:
    """Play a half-day with these deaths; every check of the harness must hold."""
    session = await Play(SEED, folder, ready_limit_s=BUSY_S).go(len(plans), plans=plans)
    assert session.violations == []
    assert [kill.point.partition(":")[0] for kill in session.kills] == [plan.point for plan in plans]
    assert session.compared > 100, "a half-day is compared every half minute"
    return session


def check_journals(session: Session) -> None:
    """Each process left its own segment; the killed ones end where they died, the last one is closed."""
    segments = sorted(Path(session.state).rglob("*.oj"))
    readers = [JournalReader(path) for path in segments]
    assert len(readers) == len(session.kills) + 1
    records = [sum(1 for _ in reader) for reader in readers]
    # A start that dies at once may have written no more than what it opened with.
    assert all(count > 0 for count, kill in zip(records, session.kills, strict=False) if kill.ready)
    assert [reader.complete for reader in readers] == [False] * len(session.kills) + [True]


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
async def test_a_day_killed_at_every_stage_of_a_trade_ends_equal_to_the_exchange(tmp_path: Path) -> None:
    """F6, F8, F14: what worked is adopted, nothing is sent twice, fills and money are equal by id and cent."""
    session = await played(
        tmp_path,
        Plan("post_before"),  # the entry is committed as sent and never left: it is lost, and not sent again
        Plan("post_after"),  # an entry is at the broker and its answer unheard: it is adopted
        Plan("commit_before", 1, armed=True),  # the restart itself dies before it has stored anything
        Plan("commit_within", 1, "fill"),  # in the middle of a fill's transaction: it is heard again
        Plan("commit_after", 1, "exit"),  # an exit is commanded and did not leave: it is sent
    )
    never_left, unheard, starting, filled, leaving = session.kills
    assert (never_left.held.unknown, never_left.held.live) == (1, 0)
    assert unheard.held.unknown == 1
    assert [kill.ready for kill in (never_left, unheard, starting, filled, leaving)] == [True, True, False, True, True]
    assert min(leaving.held.trades, leaving.held.working) >= 1
    assert session.trades >= 1
    assert session.memories >= 1
    check_journals(session)

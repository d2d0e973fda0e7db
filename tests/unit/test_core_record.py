"""Notes and stricter criteria: what is written down, what is refused, and that nothing ever gets looser."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.core import criteria
from oracle.core.control import Ask, Halt, Note, Tighten
from oracle.core.message import Message
from oracle.core.messages import CriterionTightened, NoteAdded, OperatorAnswered, OperatorRequested
from oracle.core.record import Record, session_of
from oracle.core.sessions import MINUTE_NS
from oracle.metrics.criteria import criteria_for
from tests.unit.builders import DATES, DAY_NS, OPEN_NS, TABLE, Chains
from tests.unit.contexts import context_at

OPENED = OPEN_NS + 30 * MINUTE_NS
ORB = "opening_range_breakout"


def ask(record: Record, what: Ask, at_ns: int = OPENED) -> tuple[list[Message], OperatorAnswered]:
    """The facts that a request leaves, and its answer."""
    *facts, answer = record.on_request(
        OperatorRequested("r1", "alice", "because", what), context_at(TABLE, at_ns, Chains())
    )
    assert isinstance(answer, OperatorAnswered)
    assert answer.done
    assert (answer.request_id, answer.who, answer.why, answer.at_ns) == ("r1", "alice", "because", at_ns)
    return facts, answer


def test_a_note_is_kept_with_the_session_that_is_on() -> None:
    facts, answer = ask(Record(()), Note("  the feed\n was slow\x07 "))
    assert facts == [NoteAdded("r1", DATES[0], "the feed was slow", "alice", OPENED)]
    assert answer.ok
    assert answer.action == "note"
    assert DATES[0] in answer.text


@pytest.mark.parametrize(
    ("at_ns", "date"),
    [
        (OPEN_NS - 60 * MINUTE_NS, DATES[0]),  # before the open of the day
        (OPEN_NS + 389 * MINUTE_NS, DATES[0]),
        (OPEN_NS + 450 * MINUTE_NS, DATES[0]),  # in the evening: the day's, not the next
        (OPEN_NS + DAY_NS - 571 * MINUTE_NS, DATES[0]),  # a minute before midnight
        (OPEN_NS + DAY_NS - 570 * MINUTE_NS, DATES[1]),  # midnight
        (OPEN_NS + 30 * DAY_NS, DATES[-1]),  # past the table's end: the last that opened
        (OPEN_NS - 30 * DAY_NS, DATES[0]),  # before its begin: the first that comes
    ],
)
def test_a_note_belongs_to_the_session_of_its_new_york_day(at_ns: int, date: str) -> None:
    assert session_of(TABLE, at_ns) == date


def test_a_note_may_name_its_session_but_not_a_day_without_one() -> None:
    facts, _ = ask(Record(()), Note("early", DATES[3]))
    assert facts == [NoteAdded("r1", DATES[3], "early", "alice", OPENED)]
    facts, answer = ask(Record(()), Note("a Saturday", "2026-01-10"))
    assert facts == []
    assert not answer.ok
    assert "2026-01-10" in answer.text


def test_a_note_of_nothing_printable_is_refused() -> None:
    facts, answer = ask(Record(()), Note(" \x00\n "))
    assert facts == []
    assert not answer.ok


def test_requests_of_others_are_left_to_them() -> None:
    assert (
        Record((ORB,)).on_request(OperatorRequested("r1", "alice", "", Halt()), context_at(TABLE, OPENED, Chains()))
        == ()
    )


def test_a_criterion_gets_stricter_and_the_answer_says_from_what() -> None:
    record = Record((ORB,))
    facts, answer = ask(record, Tighten(ORB, "win_rate", 0.7))
    assert facts == [CriterionTightened("r1", ORB, "win_rate", 0.7, 0.65, "alice", "because", OPENED)]
    assert answer.ok
    assert "0.65" in answer.text
    facts, answer = ask(record, Tighten(ORB, "win_rate", 0.68))
    assert facts == []
    assert not answer.ok
    assert "looser" in answer.text
    facts, answer = ask(record, Tighten(ORB, "win_rate", 0.7))
    assert facts == []  # it is so already: nothing changes
    assert answer.ok


def test_a_drawdown_is_stricter_when_it_is_smaller() -> None:
    record = Record(("momentum_scalping",))
    assert ask(record, Tighten("momentum_scalping", "max_drawdown", 0.13))[0] == []
    facts, _ = ask(record, Tighten("momentum_scalping", "max_drawdown", 0.11))
    assert facts == [
        CriterionTightened("r1", "momentum_scalping", "max_drawdown", 0.11, 0.12, "alice", "because", OPENED)
    ]


@pytest.mark.parametrize(
    ("criterion", "value"),
    [
        ("win_rate", 1.0), ("trades", 150.5), ("trades", 1e9), ("confidence", 100.0), ("max_drawdown", 0.0),
        ("max_drawdown", -1.0), ("sharpe", 1e300),
    ],
)  # fmt: skip
def test_what_could_never_be_met_is_refused_because_it_could_not_be_taken_back(criterion: str, value: float) -> None:
    facts, answer = ask(Record((ORB,)), Tighten(ORB, criterion, value))
    assert facts == []
    assert not answer.ok
    assert "could never be met" in answer.text


def test_unknown_names_are_refused_with_those_that_there_are() -> None:
    _, answer = ask(Record((ORB,)), Tighten("nobody", "win_rate", 0.7))
    assert not answer.ok
    assert ORB in answer.text
    _, answer = ask(Record((ORB,)), Tighten(ORB, "luck", 0.7))
    assert not answer.ok
    assert "profit_factor" in answer.text


def test_a_restart_keeps_what_was_made_stricter() -> None:
    record = Record((ORB,))
    changes = [
        CriterionTightened("a", ORB, "sharpe", 1.7, 1.5, "alice", "", 1),
        CriterionTightened("b", ORB, "sharpe", 2.0, 1.7, "alice", "", 2),
        CriterionTightened("c", "not_configured_now", "sharpe", 2.0, 1.7, "alice", "", 3),
    ]
    record.restore(changes)
    facts, answer = ask(record, Tighten(ORB, "sharpe", 1.8))
    assert facts == []
    assert not answer.ok
    assert "2" in answer.text


@given(st.lists(st.tuples(st.sampled_from(sorted(criteria.DEFAULT)), st.floats(-10, 1000)), min_size=1, max_size=12))
def test_whatever_is_asked_criteria_never_get_looser(asked: list[tuple[str, float]]) -> None:
    record, now = Record((ORB,)), criteria.floors(ORB)
    for criterion, value in asked:
        for fact in ask(record, Tighten(ORB, criterion, value))[0]:
            assert isinstance(fact, CriterionTightened)
            assert fact.before == now[criterion]
            assert criteria.is_stricter(criterion, fact.value, now[criterion])
            now[criterion] = fact.value
    again = Record((ORB,))
    for name, value in now.items():
        again.restore([CriterionTightened("r", ORB, name, value, 0.0, "alice", "", 0)])
    for criterion, value in asked:
        assert bool(ask(again, Tighten(ORB, criterion, value))[0]) == bool(
            ask(record, Tighten(ORB, criterion, value))[0]
        )


def test_the_floors_of_a_strategy_have_all_the_names_of_the_default() -> None:
    for name in criteria.OF_STRATEGY:
        assert criteria.floors(name).keys() == criteria.DEFAULT.keys()
    for one, other in permutations((0.05, 0.1), 2):
        assert criteria.is_stricter("max_drawdown", one, other) == (one < other)
        assert criteria.is_stricter("sharpe", one, other) == (one > other)


@pytest.mark.parametrize("strategy", ["opening_range_breakout", "momentum_scalping", "iron_condor", "some_other"])
def test_what_the_core_accepts_is_what_readiness_asks(strategy: str) -> None:
    floors = criteria.floors(strategy)
    assert criteria_for(strategy, {}).as_dict() == floors
    for name, utmost in criteria.UTMOST.items():
        assert criteria.is_possible(name, utmost)
        assert criteria_for(strategy, {name: utmost}).as_dict()[name] == utmost

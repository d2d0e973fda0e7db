"""The inbox releases in an order that the race between sockets cannot change, and is bounded."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle import inbox as module
from oracle.core.errors import InvariantError
from oracle.core.marketdata import ChainReadFailed
from oracle.core.messages import DrainRequested, Input
from oracle.inbox import Inbox, Source


def note(word: str) -> Input:
    return ChainReadFailed("SPY", "2026-01-05", word)


def words(inbox: Inbox) -> list[str]:
    return [message.text for message in inbox.take() if isinstance(message, ChainReadFailed)]


def test_sources_are_ranked_whatever_came_first() -> None:
    for order in itertools.permutations(Source):
        inbox = Inbox()
        for source in order:
            inbox.put(source, note(source.name))
        assert words(inbox) == ["OPERATOR", "TRADING", "ANSWER", "STOCK", "OPTION"]


def test_answers_are_ordered_by_request_and_streams_by_arrival() -> None:
    inbox = Inbox()
    inbox.put(Source.ANSWER, note("third"), 3)
    inbox.put(Source.ANSWER, note("first"), 1)
    inbox.put(Source.STOCK, note("a"))
    inbox.put(Source.ANSWER, note("second"), 2)
    inbox.put(Source.STOCK, note("b"))
    assert words(inbox) == ["first", "second", "third", "a", "b"]


def test_two_answers_to_one_request_keep_their_order() -> None:
    inbox = Inbox()
    for word in ("a", "b", "c"):
        inbox.put(Source.ANSWER, note(word), 7)
    assert words(inbox) == ["a", "b", "c"]


@given(st.lists(st.tuples(st.sampled_from(Source), st.integers(0, 50)), max_size=30), st.randoms(use_true_random=False))
def test_arrival_order_of_different_sources_never_shows(rows: list[tuple[Source, int]], random: object) -> None:
    numbered = sorted({(source, number) for source, number in rows})
    shuffled = list(numbered)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    inbox = Inbox()
    for source, number in shuffled:
        inbox.put(source, note(f"{source}:{number}"), number)
    assert words(inbox) == [f"{source}:{number}" for source, number in numbered]


def test_taking_empties_it_and_putting_wakes() -> None:
    inbox = Inbox()
    assert len(inbox) == 0
    assert not inbox.changed.is_set()
    inbox.put(Source.OPERATOR, DrainRequested("test", "why"))
    assert len(inbox) == 1
    assert inbox.changed.is_set()
    assert inbox.take() == [DrainRequested("test", "why")]
    assert (len(inbox), inbox.take()) == (0, [])


def test_beyond_the_limit_the_process_must_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 3)
    inbox = Inbox()
    for _ in range(3):
        inbox.put(Source.STOCK, note("x"))
    with pytest.raises(InvariantError, match="3 inputs are waiting"):
        inbox.put(Source.TRADING, note("one more"))
    assert len(inbox.take()) == 3
    inbox.put(Source.TRADING, note("room again"))
    assert len(inbox) == 1

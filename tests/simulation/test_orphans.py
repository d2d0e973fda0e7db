"""A few of the thousand runs of ``scripts/orphans``: what is taken apart leaves no naked short, and the books agree."""

import pytest

from tests.simulation.orphans import Found, orphan_runs


@pytest.fixture(scope="module")
def found() -> list[Found]:
    return orphan_runs(range(1, 13))


def test_no_short_is_left_uncovered_and_the_books_end_as_the_exchanges(found: list[Found]) -> None:
    assert [line for row in found for line in (*row.naked, *row.wrong)] == []


def test_the_runs_try_what_they_are_for(found: list[Found]) -> None:
    assert sum(row.traded > 0 for row in found) >= 6
    assert sum(row.refused for row in found) > 0
    assert sum(row.partial for row in found) > 0
    assert sum(row.sold_out for row in found) > 0
    assert sum(row.orphans for row in found) > 0


def test_a_run_repeats(found: list[Found]) -> None:
    assert orphan_runs([found[7].seed]) == [found[7]]

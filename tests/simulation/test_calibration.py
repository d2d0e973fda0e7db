"""A small calibration: the bounds of the readiness score on strategies whose truth is known, from fixed seeds.

The whole one, with 95 % intervals narrow enough to mean something, is ``./scripts/calibrate``.
"""

import time
from collections import Counter

import pytest

from oracle.metrics.criteria import Criteria
from oracle.metrics.readiness import assess
from tests.simulation.calibration import GROUP, READY_BY, SHAPES, Answer, Ask, answers, asks, five_wins, interval, run
from tests.simulation.tracks import BOUNDARY, NO_EDGE, STRONG, make

SEED = 5
NAMES = tuple(shape.name for shape in NO_EDGE)


def asked(question: Ask) -> list[Answer]:
    return list(answers(question, run([question], SEED, 1, show=False)[0]))


@pytest.mark.parametrize("row", ["default", "momentum_scalping"])
def test_strategies_without_an_edge_are_hardly_ever_called_ready(row: str) -> None:
    overall, *by_shape = asked(Ask("no edge", NAMES, 70 * len(NAMES), 0.05, strategy=row))
    assert overall.holds
    assert len(by_shape) == len(NO_EDGE)
    assert all(answer.holds for answer in by_shape)


def test_the_best_of_fifty_without_an_edge_is_hardly_ever_called_ready() -> None:
    (answer,) = asked(Ask("best", NAMES, 20, 0.05, sets=GROUP, group=GROUP))
    assert answer.holds
    assert answer.of == 20


def test_an_edge_is_found_in_time() -> None:
    (answer,) = asked(Ask("edge", (STRONG.name,), 40, 0.80, at_least=True, upto=READY_BY))
    assert answer.holds


def test_the_boundary_is_rarely_called_ready() -> None:
    (answer,) = asked(Ask("boundary", (BOUNDARY.name,), 60, 0.20))
    assert answer.holds


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_five_straight_wins_score_under_20_in_every_shape(shape: object) -> None:
    assert max(five_wins(shape, seed) for seed in range(5)) < 20  # type: ignore[arg-type]


def test_a_broken_bound_is_told() -> None:
    question = Ask("edge", (STRONG.name,), 10, 0.05)
    (answer,) = answers(question, Counter({STRONG.name: 9}))
    assert not answer.holds
    assert (answer.low, answer.high) == pytest.approx((0.5549839, 0.9974714), abs=1e-6)
    assert interval(0, 10) == (0.0, pytest.approx(0.3084971, abs=1e-6))


def test_the_whole_calibration_asks_what_was_promised() -> None:
    first, *_ = questions = asks(10_000, 420, 2_000)
    assert first.shapes == NAMES
    assert first.count >= 10_000
    assert first.count % len(NAMES) == 0
    assert {question.limit for question in questions if question.limit is not None} == {0.05, 0.20, 0.80}


def test_ten_thousand_trades_are_judged_in_time() -> None:
    track = make(STRONG, (1,), 10_000, 1e-4)

    def best_s(*, bootstrap: bool) -> float:
        took = []
        for _ in range(7):
            started = time.process_time()
            made = assess(
                track.key, track.trades, track.days, Criteria(), parameter_sets=1, bound=None, bootstrap=bootstrap
            )
            took.append(time.process_time() - started)
            assert made.bootstrapped == bootstrap
        return min(took)

    assert best_s(bootstrap=False) < 0.020
    assert best_s(bootstrap=True) < 0.500

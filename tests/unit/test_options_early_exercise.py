"""The early-exercise premium and its marks against QuantLib's finite differences; what is never exercised early."""

import math
import random

import numpy as np
import pytest

from oracle.options.early_exercise import early_exercise_premium, early_exercise_suspect
from oracle.options.forwards import Dividend
from tests.bench.early_exercise import DAYS, DIVIDENDS, SPREADS, Cell, Error, main, measure, table, unmarked

CELLS = [
    Cell(is_call, dividend, days, vol, strike)
    for is_call in (True, False)
    for dividend in range(len(DIVIDENDS))
    for days, vol in ((1, 0.25), (7, 0.12), (45, 0.6), (90, 0.25))
    for strike in (90.0, 98.0, 100.0, 110.0)
]


@pytest.fixture(scope="module")
def errors() -> list[Error]:
    return measure(CELLS)


def test_no_error_above_half_the_spread_is_left_unmarked(errors):
    wrong, missed, extra = unmarked(errors)
    assert wrong > 200
    assert missed == 0
    assert extra < 0.06 * len(errors) * len(SPREADS)


def test_nor_off_the_grid():
    chance = random.Random(7)
    cells = [
        Cell(chance.random() < 0.5, chance.randrange(6), chance.randint(1, 60), chance.uniform(0.08, 1.2),
             round(chance.uniform(75, 130), 2))
        for _ in range(120)
    ]  # fmt: skip
    wrong, missed, _ = unmarked(measure(cells))
    assert wrong > 100
    assert missed == 0


def test_the_tree_equals_quantlib_where_nothing_falls_between_its_steps(errors):
    for error in errors:
        if error.cell.usd == 0:
            assert error.tree_usd == pytest.approx(error.premium_usd, abs=0.012, rel=0.1)


def test_a_call_without_a_dividend_before_expiry_is_never_exercised_early(errors):
    calls = [error for error in errors if error.cell.is_call and DIVIDENDS[error.cell.dividend][2] in (0.0, 2.0)]
    assert calls
    assert all(error.premium_usd < 1e-3 for error in calls)  # QuantLib's own rounding
    assert all(error.tree_usd == 0 for error in calls)
    late = (Dividend(0.2, 5.0),)
    strikes = np.array([50.0, 80.0, 100.0])
    assert not early_exercise_suspect(0.01, 100.0, strikes, 0.1, 0.2, True, 0.04, late).any()
    assert not early_exercise_suspect(0.01, 100.0, strikes, 0.1, math.nan, True, 0.04, late).any()


def test_a_put_without_interest_is_never_exercised_early():
    assert not early_exercise_suspect(0.01, 100.0, [90.0, 120.0], 0.1, 0.2, False, 0.0).any()
    assert early_exercise_suspect(0.01, 100.0, 120.0, 0.1, 0.2, False, 0.05).all()


def test_a_call_on_a_yield_is():
    assert early_exercise_premium(100.0, 80.0, 0.5, 0.2, True, 0.0, (), 0.06) > 1.0
    assert early_exercise_suspect(0.5, 100.0, 80.0, 0.5, 0.2, True, 0.0, (), 0.06)


@pytest.mark.parametrize(
    ("spread", "spot", "vol"), [(math.nan, 100, 0.2), (0.05, math.nan, 0.2), (0.05, 100, math.nan)]
)
def test_what_is_unknown_is_marked(spread, spot, vol):
    assert early_exercise_suspect(spread, spot, 110.0, 0.1, vol, False, 0.04)


def test_unknown_input_gives_no_premium():
    found = early_exercise_premium(
        [100.0, math.nan, 100.0, 100.0], 110.0, [0.1, 0.1, -1, 0.1], [0.2, 0.2, 0.2, 0], False
    )
    assert np.isnan(found).tolist() == [False, True, True, True]


def test_marks_of_a_chain_broadcast_and_do_not_depend_on_neighbours():
    strikes = np.linspace(60, 140, 600)
    arguments = (0.05, 100.0, strikes, 30 / 365, 0.25, False, 0.04, (Dividend(0.04, 0.4),))
    whole = early_exercise_suspect(*arguments)
    assert 0 < whole.sum() < 600
    for i in (0, 300, 450, 599):
        alone = early_exercise_suspect(0.05, 100.0, strikes[i], 30 / 365, 0.25, False, 0.04, (Dividend(0.04, 0.4),))
        assert bool(alone) == whole[i]
    grid = early_exercise_suspect(0.05, 100.0, strikes[:, None], np.array([0.02, 0.08]), 0.25, [True, False], 0.04)
    assert grid.shape == (600, 2)


def test_the_table_leaves_out_rows_without_a_premium(errors, monkeypatch):
    monkeypatch.setattr("tests.bench.early_exercise.STRIKES", (90.0, 98.0, 100.0, 110.0))
    monkeypatch.setattr("tests.bench.early_exercise.DAYS", (1, 90))
    text = table(errors, 0.25)
    assert "| call | none |" not in text
    assert "| call | 1.00 at the end | 90 |" in text
    assert "| put | none | 90 |" in text


@pytest.mark.slow
def test_the_command_prints_its_table_and_succeeds(monkeypatch, capsys):
    monkeypatch.setattr("tests.bench.early_exercise.DAYS", DAYS[:2])
    monkeypatch.setattr("sys.argv", ["early-exercise", "--vol", "0.25"])
    assert main() == 0
    assert "0 of them are not marked" in capsys.readouterr().out

"""Figures agree with quantstats' to 1e-10 where both mean the same; its answers are kept beside the series.

``python -m tests.bench.figures_reference`` asks quantstats itself again (docs/figures.md).
"""

import json
import math
from typing import Any

import pytest

from tests.bench.figures_reference import STORED, differences


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(STORED.read_text())
    return loaded


def test_every_figure_that_both_define_alike_is_the_same(told: dict[str, Any]) -> None:
    compared, differing = differences(told)
    assert differing == []
    assert compared == 76


def test_a_difference_is_said(told: dict[str, Any]) -> None:
    days = told["days"] | {"mixed": told["days"]["mixed"] | {"sharpe": told["days"]["mixed"]["sharpe"] + 1e-8}}
    _, differing = differences(told | {"days": days})
    assert [line.split(" is ")[0] for line in differing] == ["mixed: sharpe"]


def test_where_the_definitions_differ(told: dict[str, Any]) -> None:
    """What docs/figures.md says about the differences is what quantstats does."""
    losing = told["days"]["losing only"]
    assert losing["longest_drawdown"] is None  # it finds no drawdown that begins with the first session
    assert losing["max_drawdown"] == pytest.approx(losing["comp"])  # though the starting capital counts
    # Its win rate of sessions is over the sessions that were not flat.
    pnl = [row[0] for row in told["series"]["days"]["mostly flat"]]
    up, flat = sum(p > 0 for p in pnl), sum(p == 0 for p in pnl)
    assert told["days"]["mostly flat"]["win_rate"] == pytest.approx(up / (len(pnl) - flat))
    assert not math.isclose(told["days"]["mostly flat"]["win_rate"], up / len(pnl), rel_tol=0.1)

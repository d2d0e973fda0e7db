"""Batch, running and prepared forms agree; figures are plain JSON, and every one of them is defined in words."""

import json
import time
from dataclasses import fields
from datetime import date
from decimal import Decimal
from pathlib import Path
from random import Random

import numpy as np
import pytest

from oracle.core.trackrecord import DayResult
from oracle.metrics.arrays import POSITION_CAP, DayArrays, TradeArrays
from oracle.metrics.performance import FIELDS, Accumulator, Figures, equity_curve, figures, monthly, r_multiples
from oracle.risk.limits import RiskLimits
from tests.unit.test_metrics_performance import chain, day, micros, trade


class TestForms:
    def test_the_running_form_refuses_what_comes_before(self) -> None:
        running = Accumulator()
        running.add(trade(5, 1))
        running.add_day(day(5, 1))
        with pytest.raises(ValueError, match="trade T-4: log id 4 is before 5"):
            running.add(trade(4, 1))
        with pytest.raises(ValueError, match="session 2026-01-05 is not after 2026-01-05"):
            running.add_day(day(5, 1))
        assert running.figures().trades == running.figures().sessions == 1

    def test_prepared_columns_give_the_same(self) -> None:
        trades, days = [trade(n, 7 * n - 20) for n in range(9)], chain(0.01, -0.02, 0.03)
        columns = TradeArrays.from_trades(trades)
        assert len(columns) == 9
        assert figures(columns, DayArrays.from_days(days), bound=0.7) == figures(trades, days, bound=0.7)

    def test_a_long_record_is_the_same_in_both_forms_and_quick_from_prepared_columns(self) -> None:
        random = Random(7)
        trades = [
            trade(
                n, random.choice((-150, 90, 0)) + random.randrange(100) / 100, slippage_micros=random.randrange(10**7),
                slippage_bps=random.lognormvariate(1, 3), planned_risk_micros=random.choice((100_000_000, 333_000_001)),
                mae_micros=-random.randrange(10**8), mfe_micros=random.randrange(10**8),
            )
            for n in range(10_000)
        ]  # fmt: skip
        first = date(2000, 1, 1).toordinal()
        days = [
            DayResult(
                date.fromordinal(first + n).isoformat(), random.randrange(-(10**9), 10**9), 10**11 + n, 0, n, 10**9
            )
            for n in range(6_700)
        ]
        columns, sessions, running = TradeArrays.from_trades(trades), DayArrays.from_days(days), Accumulator()
        for one in trades:
            running.add(one)
        for session in days:
            running.add_day(session)
        took_s = []
        for _ in range(10):
            started = time.process_time()
            found = figures(columns, sessions)
            took_s.append(time.process_time() - started)
        assert found == running.figures()
        assert min(took_s) < 0.010  # 2 ms where this was written

    def test_months_are_figures_of_their_own(self) -> None:
        sessions = ("2026-01-30", "2026-02-02", "2026-02-03")
        trades = [trade(n, net, session=sessions[n - 1]) for n, net in ((1, 50), (2, -20), (3, 30))]
        days = [DayResult("2026-01-30", micros(50), micros(10_000), 0, 0, 0), DayResult("2026-03-02", 0, 1, 0, 0, 0)]
        found = monthly(trades, days, bound=0.6)
        assert list(found) == ["2026-01", "2026-02", "2026-03"]
        assert found["2026-02"] == figures(trades[1:], [], bound=0.6)
        assert [f.trades for f in found.values()] == [1, 2, 0]
        assert [f.sessions for f in found.values()] == [1, 0, 1]

    def test_as_dict_is_plain_json(self) -> None:
        found = figures([trade(1, 50), trade(2, -20)], chain(0.01, -0.02), bound=None)
        told = found.as_dict()
        assert tuple(told) == FIELDS == tuple(field.name for field in fields(Figures))
        assert json.loads(json.dumps(told, allow_nan=False)) == told
        assert {type(value) for value in told.values()} == {int, float, type(None)}

    def test_every_figure_is_defined_in_words(self) -> None:
        words = str(Figures.__doc__)
        assert [name for name in FIELDS if name not in words] == []

    def test_curves_are_arrays_of_floats(self) -> None:
        _, index = equity_curve([])
        assert index.tolist() == [1.0]
        assert index.dtype == np.float64
        assert r_multiples([]).shape == (0,)


class TestPage:
    PAGE = (Path(__file__).resolve().parents[2] / "docs" / "figures.md").read_text()

    def test_every_figure_is_on_the_page(self) -> None:
        assert [name for name in FIELDS if f"`{name}`" not in self.PAGE] == []

    def test_the_ceiling_is_that_of_the_risk_rules(self) -> None:
        assert RiskLimits().position_fraction == Decimal(str(POSITION_CAP))

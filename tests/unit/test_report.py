"""The page and its charts from plain values: escaped, self-contained, the same bytes twice, nothing unknown as 0."""

import re
from html import unescape
from typing import Any

import pytest

from oracle.metrics import report_charts
from oracle.metrics.performance import FIELDS, figures
from oracle.metrics.report import render
from oracle.metrics.report_words import FIGURES, UNKNOWN, criterion_required, duration, figure, shown, strategy_label

EVIL = "<img src=x onerror=alert(1)> & 'quotes'"


def row(strategy: str, **changes: Any) -> dict[str, Any]:
    """A row without trades."""
    nothing = figures((), ()).as_dict()
    curve: dict[str, Any] = {"dates": [None], "index": [1.0], "drawdown": [0.0]}
    return {
        "strategy": strategy, "strategy_hash": "" if strategy == "account" else "h" * 64, "current": True,
        "first": "2026-01-05", "last": "2026-01-05", "figures": nothing, "months": {}, "curve": curve,
        "net_pnl_usd": [], "r_multiples": [], **changes,
    }  # fmt: skip


def page(**changes: Any) -> dict[str, Any]:
    """What an empty database says."""
    return {
        "title": "Performance", "mode": "sim", "simulated": "", "only": "", "span": "No session is recorded",
        "period_words": "whole time", "incomplete": "", "performance": [row("account")], "readiness": [],
        "costs": {"account_fees_usd": None, "account_fees": 0, "slippage_unknown": 0}, "breakers": [], "notes": [],
        "worst_days": [], "against_plan": [], "closed_trades": 0, "cut": {"breakers": 0, "against_plan": 0},
        "method": ["as it is"], **changes,
    }  # fmt: skip


def test_the_catalogue_has_every_figure_once() -> None:
    assert sorted(FIGURES) == sorted(FIELDS)
    assert all(one.label and one.meaning for one in FIGURES.values())
    assert len({one.label for one in FIGURES.values()}) == len(FIGURES)


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (None, "usd", UNKNOWN), (float("nan"), "ratio", UNKNOWN), (0.0, "usd", "0.00"), (0, "count", "0"),
        (-1234.5, "signed_usd", "−1,234.50"), (1234.5, "signed_usd", "+1,234.50"), (0.6543, "share", "65.4 %"),
        (-0.0001, "r", "0.00 R"), (0.004, "signed_usd", "0.00"), (-0.31, "r", "−0.31 R"), (1, "sessions", "1 session"),
        (12, "sessions", "12 sessions"), (-3, "streak", "−3"), (0, "streak", "0"), (float("inf"), "ratio", "∞"),
        (0.05, "points", "+5.0 points"), (12.34, "bps", "+12.3 bps"), (59.2, "score", "59"), (89.97, "score", "89"),
        (90.0, "score", "90"), (0.8999, "certainty", "89.9 %"), (0.9, "certainty", "90.0 %"),
        (1.0, "certainty", "100.0 %"), ("paper", "text", "paper"),
    ],
)  # fmt: skip
def test_values_for_people(value: Any, form: str, text: str) -> None:
    assert shown(value, form) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12, "12 s"), (600, "10 min"), (3_660, "1 h 01 min"), (7_170, "2 h 00 min"), (200_000, "2.3 days")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("name", "observed", "required", "text"),
    [
        ("above_break_even", None, 0.05, "≥ +5.0 points"), ("above_break_even", 0.7, 0.604, "≥ 60.4 %"),
        ("max_drawdown", None, 0.1, "≤ 10.0 %"), ("trades", 0, 100, "≥ 100"),
    ],
)  # fmt: skip
def test_what_is_required_before_a_break_even_is_known(
    name: str, observed: float | None, required: float, text: str
) -> None:
    assert criterion_required({"name": name, "observed": observed, "required": required}) == text


def test_names_of_strategies() -> None:
    assert strategy_label("iv_mean_reversion") == "IV mean reversion"
    assert strategy_label("iron_condor") == "Iron condor"


def test_an_empty_page_says_so_and_shows_no_zero_for_what_is_unknown() -> None:
    text = render(page())
    assert "Nothing can be judged" in text
    assert "No curve: fewer than two sessions" in text
    told = dict(re.findall(r'data-figure="account\|\|period\|(\w+)" data-value="[^"]*">([^<]*)<', text))
    nothing = figures((), ()).as_dict()
    assert {name for name, value in told.items() if value == UNKNOWN} == {n for n, v in nothing.items() if v is None}
    assert told["sharpe"] == UNKNOWN
    assert told["trades"] == "0"


def test_everything_from_outside_is_escaped() -> None:
    text = render(
        page(
            title=EVIL, mode=EVIL, span=EVIL, simulated=EVIL, incomplete=EVIL, method=[EVIL],
            performance=[row("account"), row(EVIL)],
            notes=[{"session": EVIL, "text": EVIL, "who": EVIL}],
            breakers=[dict.fromkeys(("at", "what", "why", "observed", "limit", "ended"), EVIL)],
            worst_days=[{"date": EVIL, "pnl_usd": -1.0, "share": None, "by_strategy": [[EVIL, -1.0]]}],
            against_plan=[
                {
                    "closed": EVIL, "strategy": EVIL, "instrument": EVIL, "net_usd": -1.0, "planned_risk_usd": 1.0,
                    "exit_rule": EVIL, "why": [EVIL],
                }
            ],
        )
    )  # fmt: skip
    assert "<img" not in text.lower()
    assert "onerror=alert(1)>" not in text
    assert unescape(text).count("onerror=alert(1)") >= 18


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    text = render(page())
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert "<script" not in text
    addresses = set(re.findall(r'(?:href|src)="([^"]*)"', text)) | set(re.findall(r"url\(([^)]*)\)", text))
    assert all(address.startswith(("#", "data:,")) for address in addresses)
    assert "@import" not in text


def test_the_same_values_make_the_same_bytes() -> None:
    curve = {"dates": [None, "2026-01-05", "2026-01-06"], "index": [1.0, 1.1, 1.05], "drawdown": [0, 0, 0.0454]}
    values = page(performance=[row("account", curve=curve, net_pnl_usd=[1.0, -2.0], r_multiples=[0.1, -0.2])])
    assert render(values) == render(values)


def test_an_equity_curve_tells_its_end_and_its_fall() -> None:
    dates = [None, "2026-01-05", "2026-01-06"]
    drawn = report_charts.equity(dates, [1.0, 1.1, 1.045], [0.0, 0.0, 0.05], "a")
    assert drawn is not None
    assert 'aria-label="Equity from 2026-01-05 to 2026-01-06: from 100 to 104.5; largest drawdown 5.0 %"' in drawn
    assert "<style" not in drawn
    assert report_charts.equity([None, "2026-01-05"], [1.0, 1.1], [0.0, 0.0], "a") is None
    assert report_charts.equity([], [], [], "a") is None


def test_ids_of_two_charts_differ() -> None:
    ids = [
        set(re.findall(r'id="([^"]+)"', report_charts.distribution([1.0, -1.0, 2.0], "R", name) or "")) for name in "ab"
    ]
    assert ids[0]
    assert not ids[0] & ids[1]
    drawn = report_charts.distribution([1.0, -1.0, 2.0], "R", "a") or ""
    assert {f"a-{x}" for x in re.findall(r'(?:href="#|url\(#)a-([^")]+)', drawn)} <= ids[0]


@pytest.mark.parametrize(
    "values",
    [[1.0, 1.0], [0.0, 0.0], [-5.0, -5.0, -4.0], [0.0, 1e9], [-1e-9, 1e-9], [1.0] * 50 + [-70.0], list(range(-50, 51))],
)
def test_a_distribution_counts_every_trade_and_never_mixes_gains_and_losses(values: list[float]) -> None:
    assert report_charts.distribution(values, "USD", "x") is not None
    import numpy as np

    edges = report_charts._edges(np.array(values, dtype=float))
    counts, _ = np.histogram(values, edges)
    assert counts.sum() == len(values)
    assert 0.0 in edges
    assert len(edges) <= report_charts.MOST_BINS + 3
    losses = sum(count for count, right in zip(counts, edges[1:], strict=True) if right <= 0)
    assert losses == sum(value < 0 for value in values)


def test_too_little_for_a_chart_gives_none() -> None:
    assert report_charts.distribution([], "R", "x") is None
    assert report_charts.distribution([1.0], "R", "x") is None
    assert report_charts.distribution([1.0, None, float("nan")], "R", "x") is None
    assert report_charts.months([], [], "x") is None
    assert report_charts.months(["2026-01"], [None], "x") is not None


def test_a_figure_by_name() -> None:
    assert figure("max_drawdown", 0.0123) == "1.2 %"
    assert figure("holding_s", None) == UNKNOWN

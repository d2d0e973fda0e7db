"""A report as one self-contained page: no script, no request, charts and style inside.

Inputs: plain values (what ``oracle/reporting.py`` gathers). Output: HTML text. Invariants: everything from outside is
escaped; each figure carries its exact value (``data-figure``, ``data-value``); an unknown figure is a dash.
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

import jinja2
import orjson

from oracle.metrics import report_charts
from oracle.metrics.report_words import (
    GROUPS,
    criterion_form,
    criterion_label,
    criterion_required,
    figure,
    shown,
    strategy_label,
)

MOST_BYTES: Final = 5_000_000
_MONTHS: Final = (
    ("net_pnl_usd", "Net P&L, USD"), ("total_return", "Return"), ("trades", "Trades"), ("wins", "Wins"),
    ("losses", "Losses"), ("win_rate", "Win rate"), ("profit_factor", "Profit factor"), ("expectancy_r", "Expectancy"),
    ("sharpe", "Sharpe"), ("max_drawdown", "Drawdown"), ("fees_modelled_usd", "Fees, USD"),
)  # fmt: skip
# Of these less than zero is a loss; a negative slippage is none.
_COLOURED: Final = frozenset({"net_pnl_usd", "total_return", "expectancy_usd", "expectancy_r"})


def render(page: Mapping[str, Any]) -> str:
    """Write the page.

    Args:
        page: ``title``, ``mode``, ``span``, ``simulated``, ``only``, ``period_words``, ``incomplete`` (words);
            ``performance`` (rows as of ``oracle performance --json``, the account first), ``readiness`` (assessments
            with ``verdict`` and ``current``), ``costs``, ``breakers``, ``notes``, ``worst_days``, ``against_plan``,
            ``cut``, ``closed_trades``, ``method``: see ``oracle/reporting_page.py``.
    """
    rows = page["performance"]
    charts = [_charts(row, f"c{number}") for number, row in enumerate(rows)]
    return _template().render(
        page=page, rows=rows, charts=charts, groups=GROUPS, month_columns=_MONTHS, coloured=_COLOURED, css=_css()
    )


def _charts(row: Mapping[str, Any], ident: str) -> dict[str, str | None]:
    curve, months = row["curve"], row["months"]
    return {
        "equity": report_charts.equity(curve["dates"], curve["index"], curve["drawdown"], f"{ident}e"),
        "months": report_charts.months(list(months), [m["net_pnl_usd"] for m in months.values()], f"{ident}m"),
        "usd": report_charts.distribution(row["net_pnl_usd"], "USD", f"{ident}d"),
        "r": report_charts.distribution(row["r_multiples"], "R", f"{ident}r"),
    }


def _fee_share(figures: Mapping[str, Any]) -> float | None:
    """Modelled fees over what was won before them; None when nothing was won."""
    won, fees = figures["gross_profit_usd"], figures["fees_modelled_usd"]
    return None if won is None or fees is None or won <= 0 else float(fees / won)


def _sign(value: float | None) -> str:
    """The class of an amount: that of a loss below zero, none for all else."""
    return "loss" if value is not None and value < 0 else ""


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


@cache
def _template() -> jinja2.Template:
    text = resources.files("oracle.metrics").joinpath("report.html.jinja").read_text("utf-8")
    made = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters.update(
        figure=figure, shown=shown, json=_json, label=strategy_label, sign=_sign, fee_share=_fee_share,
        criterion=criterion_label, criterion_form=criterion_form, required=criterion_required,
    )  # fmt: skip
    return made.from_string(text)


@cache
def _css() -> str:
    return resources.files("oracle.metrics").joinpath("report.css").read_text("utf-8")


def oversized(text: str) -> bool:
    """Whether a page is larger than may be sent about (5 MB)."""
    return len(text.encode()) > MOST_BYTES

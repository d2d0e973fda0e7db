"""How figures are called and written: one catalogue for the page and the terminal.

Inputs: names of ``metrics/performance.py`` and their values. Outputs: labels, text, meanings. Invariant: a figure that
is not known is a dash, never 0; text is for people, JSON has the value.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

UNKNOWN: Final = "–"
_LAST_BIT: Final = 1e-9
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400


class Figure(NamedTuple):
    """One figure: its name in ``Figures``, what people call it, its form, and what it means."""

    name: str
    label: str
    form: str
    meaning: str


GROUPS: Final[Mapping[str, tuple[Figure, ...]]] = {
    "Result": (
        Figure("net_pnl_usd", "Net P&L", "signed_usd", "Closed trades, less modelled fees."),
        Figure("total_return", "Return", "signed_share", "Time-weighted: deposits and withdrawals do not count."),
        Figure("trades", "Trades", "count", "Round trips that are over."),
        Figure("wins", "Wins", "count", "Net P&L larger than the trade's modelled fees."),
        Figure("losses", "Losses", "count", "Net loss larger than the trade's modelled fees."),
        Figure("scratches", "Scratches", "count", "Net P&L no larger than the modelled fees, either way."),
        Figure("win_rate", "Win rate", "share", "Wins of all trades; a scratch is not a win."),
        Figure("win_rate_low", "Win rate, 95 % from", "share", "Lower end of its 95 % interval."),
        Figure("win_rate_high", "Win rate, 95 % to", "share", "Upper end of its 95 % interval."),
        Figure("break_even_win_rate", "Break-even win rate", "share", "L/(W+L) of average win W and average loss L."),
        Figure("break_even_bound", "Break-even by the plan", "share", "If each trade ended at its target or stop."),
    ),
    "A trade": (
        Figure("expectancy_usd", "Expectancy", "signed_usd", "Mean net P&L of a trade."),
        Figure("expectancy_r", "Expectancy in R", "r", "Mean net P&L of a trade over its planned risk."),
        Figure("r_trades", "Trades with an R", "count", "Those with a planned risk: what figures in R rest on."),
        Figure("average_win_usd", "Average win", "usd", "Mean P&L of wins."),
        Figure("average_loss_usd", "Average loss", "usd", "Mean size of losses."),
        Figure("largest_win_usd", "Largest win", "usd", "The best trade."),
        Figure("largest_loss_usd", "Largest loss", "usd", "The size of the worst trade."),
        Figure("payoff", "Payoff", "ratio", "Average win over average loss."),
        Figure("gross_profit_usd", "Won in all", "usd", "Sum of what winning trades made."),
        Figure("gross_loss_usd", "Lost in all", "usd", "Sum of what losing trades lost."),
        Figure("profit_factor", "Profit factor", "ratio", "Won in all over lost in all."),
        Figure("sqn", "SQN", "ratio", "√trades (at most 100) × mean R over its deviation."),
        Figure("mae_mean_r", "Mean worst value", "r", "How far trades went against us while open, in R."),
        Figure("mfe_mean_r", "Mean best value", "r", "How far trades went our way while open, in R."),
        Figure("holding_s", "Mean time held", "duration", "From the first fill to the last."),
        Figure("win_streak", "Longest run of wins", "count", "In a row."),
        Figure("loss_streak", "Longest run of losses", "count", "In a row."),
        Figure("streak", "Run now", "streak", "Wins (+) or losses (−) in a row at the end."),
    ),
    "Risk": (
        Figure("sharpe", "Sharpe", "ratio", "Mean daily return over its deviation, × √252."),
        Figure("sortino", "Sortino", "ratio", "As Sharpe, with the deviation of losing days."),
        Figure("annual_volatility", "Volatility a year", "share", "Deviation of daily returns × √252."),
        Figure("max_drawdown", "Largest drawdown", "share", "Deepest fall from a peak of equity, start included."),
        Figure("max_drawdown_usd", "Largest drawdown, USD", "usd", "Largest fall of the summed P&L from its peak."),
        Figure("drawdown_sessions", "Longest drawdown", "sessions", "Sessions below an earlier peak."),
        Figure("current_drawdown", "Drawdown now", "share", "Below the peak at the end."),
        Figure("ulcer_index", "Ulcer index", "share", "Root of the mean squared drawdown."),
        Figure("exposure", "Exposure", "share", "Share of session time with a position."),
        Figure("capacity_usd", "Capacity", "usd", "Mean worst case of a trade that had used the whole 5 % cap."),
        Figure("sessions", "Sessions", "count", "Days on which it ran; flat ones count."),
        Figure("unknown_sessions", "Sessions unknown", "count", "Days without a mark at the close."),
    ),
    "Costs": (
        Figure("fees_modelled_usd", "Fees modelled", "usd", "What statistics reckon with."),
        Figure("fees_broker_usd", "Fees charged", "usd", "What the broker took."),
        Figure("slippage_usd", "Slippage", "signed_usd", "Against the mid at decision; positive is a cost."),
        Figure("slippage_bps", "Slippage, bps", "bps", "Mean over trades, in hundredths of a percent of the mid."),
        Figure("slippage_trades", "Slippage known of", "count", "Trades whose mids at decision were all known."),
        Figure("cost_per_leg_usd", "Cost a leg", "usd", "Modelled fees and slippage, a contract bought or sold."),
    ),
}  # fmt: skip
FIGURES: Final[Mapping[str, Figure]] = {figure.name: figure for rows in GROUPS.values() for figure in rows}
CRITERIA: Final[Mapping[str, tuple[str, str]]] = {
    "trades": ("Trades", "count"),
    "win_rate": ("Win rate", "share"),
    "above_break_even": ("Win rate over break-even", "share"),
    "sharpe": ("Sharpe", "ratio"),
    "profit_factor": ("Profit factor", "ratio"),
    "max_drawdown": ("Drawdown, 250 trades", "share"),
    "confidence": ("Confidence score", "score"),
}


def shown(value: Any, form: str) -> str:
    """Write a value for people; a dash when it is not known.

    ``form``: ``count``, ``sessions``, ``streak``, ``share``, ``signed_share``, ``points`` (of percent), ``usd``,
    ``signed_usd``, ``ratio``, ``r``, ``bps``, ``score``, ``certainty`` (a share), ``duration`` (seconds) or ``text``.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if form == "text":
        return str(value)
    number = float(value)
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    text = _FORMS[form](number)
    # What rounds to zero has no sign.
    signed = any(digit in text for digit in "123456789")
    return text.replace("-", "−") if signed else text.replace("-", "").replace("+", "")


def figure(name: str, value: Any) -> str:
    """Write a figure of the catalogue for people."""
    return shown(value, FIGURES[name].form)


def criterion_label(name: str) -> str:
    """What people call a criterion."""
    return CRITERIA[name][0] if name in CRITERIA else name.replace("_", " ")


def criterion_form(name: str) -> str:
    """The form in which a criterion's value is written."""
    return CRITERIA[name][1] if name in CRITERIA else "ratio"


def criterion_required(row: Mapping[str, Any]) -> str:
    """What a row of readiness asks, with its sign; before a break-even is known, the points above it."""
    points = row["name"] == "above_break_even" and row["observed"] is None
    sign = "≤" if row["name"] == "max_drawdown" else "≥"
    return f"{sign} {shown(row['required'], 'points' if points else criterion_form(row['name']))}"


def strategy_label(strategy: str) -> str:
    """A strategy's name as a heading."""
    words = strategy.replace("_", " ")
    return f"IV{words[2:]}" if words.startswith("iv ") else words.capitalize()


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < _DAY_S:
        hours, minutes = divmod(round(seconds / _MINUTE_S), 60)
        return f"{hours} h {minutes:02d} min"
    return f"{seconds / _DAY_S:.1f} days"


def _sessions(number: float) -> str:
    return f"{number:,.0f} session{'' if number == 1 else 's'}"


_FORMS: Final = {
    "count": "{:,.0f}".format,
    "sessions": _sessions,
    "streak": lambda number: "0" if number == 0 else f"{number:+.0f}",
    "share": lambda number: f"{number * 100:.1f} %",
    "signed_share": lambda number: f"{number * 100:+.2f} %",
    "points": lambda number: f"{number * 100:+.1f} points",
    "usd": "{:,.2f}".format,
    "signed_usd": "{:+,.2f}".format,
    "ratio": "{:.2f}".format,
    "r": "{:+.2f} R".format,
    "bps": "{:+.1f} bps".format,
    # Downwards: 89.7 is not 90, and what is almost certain is not certain.
    "score": lambda number: f"{math.floor(number + _LAST_BIT):.0f}",
    "certainty": lambda number: f"{math.floor(number * 1_000 + _LAST_BIT) / 10:.1f} %",
    "duration": duration,
}

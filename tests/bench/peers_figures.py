"""quantstats on the series of the reference, in the peers' own environment: JSON on standard input and output.

Input: {"days": {name: returns}, "trades": {name: dollars}}. Output: its figures by name of series, with its version.
What quantstats defines otherwise is left as it is; tests/bench/figures_reference.py comes from one to the other.
"""

import json
import math
import sys
import warnings
from importlib.metadata import version

import pandas as pd

warnings.simplefilter("ignore")


def of_days(values: list[float]) -> dict[str, float | None]:
    """Its figures of a series of daily returns; every calendar day is a session, so that its days are sessions."""
    from quantstats import stats

    returns = pd.Series(values, index=pd.date_range("2020-01-01", periods=len(values)))
    details = stats.drawdown_details(stats.to_drawdown_series(returns))
    return {
        "sharpe": number(stats.sharpe(returns)),
        "sortino": number(stats.sortino(returns)),
        "volatility": number(stats.volatility(returns)),
        "comp": number(stats.comp(returns)),
        "max_drawdown": number(stats.max_drawdown(returns)),
        "ulcer_index": number(stats.ulcer_index(returns)),
        "longest_drawdown": None if details.empty else number(details["days"].max()),
        "last_drawdown": number(stats.to_drawdown_series(returns).iloc[-1]),
        "win_rate": number(stats.win_rate(returns)),
    }


def of_trades(values: list[float]) -> dict[str, float | None]:
    """Its figures of a series of trades' dollars, taken for a series of returns."""
    from quantstats import stats

    dollars = pd.Series(values, index=pd.date_range("2020-01-01", periods=len(values)))
    return {
        "win_rate": number(stats.win_rate(dollars, prepare_returns=False)),
        "avg_win": number(stats.avg_win(dollars, prepare_returns=False)),
        "avg_loss": number(stats.avg_loss(dollars, prepare_returns=False)),
        "avg_return": number(stats.avg_return(dollars, prepare_returns=False)),
        "best": number(dollars.max()),
        "worst": number(dollars.min()),
        "payoff_ratio": number(stats.payoff_ratio(dollars, prepare_returns=False)),
        "profit_factor": number(stats.profit_factor(dollars, prepare_returns=False)),
        "consecutive_wins": number(stats.consecutive_wins(dollars, prepare_returns=False)),
        "consecutive_losses": number(stats.consecutive_losses(dollars, prepare_returns=False)),
    }


def number(value: float) -> float | None:
    """A finite float; None for what is not one."""
    return float(value) if math.isfinite(value) else None


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    told = {
        "version": version("quantstats"),
        "days": {name: of_days(values) for name, values in asked["days"].items()},
        "trades": {name: of_trades(values) for name, values in asked["trades"].items()},
    }
    print(json.dumps(told))

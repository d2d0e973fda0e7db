"""Our figures beside quantstats' on the same series: python -m tests.bench.figures_reference [--write].

Inputs: seeded series; quantstats in ``.venv-peers`` (docs/backtest.md says how to make that). Outputs: a line for each
figure that differs by more than 1e-10, exit code 1 if there is one; ``--write`` keeps the series and quantstats'
answers for the tests, which compare with them without quantstats.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

from oracle.core.trackrecord import ClosedTrade, DayResult, StrategyKey
from oracle.metrics.performance import Figures, figures

ROOT = Path(__file__).resolve().parents[2]
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
STORED = ROOT / "tests" / "unit" / "quantstats_reference.json"
TOLERANCE = 1e-10
START = 100_000_000_000
KEY = StrategyKey("reference", "0")


def day(number: int, pnl: int, start: int = START, transfer: int = 0) -> DayResult:
    """One session of calendar day ``number``; micro-dollars."""
    return DayResult((date(2020, 1, 1) + timedelta(days=number)).isoformat(), pnl, start, transfer, 0, 23_400 * 10**9)


def trade(number: int, net: int) -> ClosedTrade:
    """One trade without fees, so that a win is more than nothing, as quantstats has it; micro-dollars."""
    return ClosedTrade(
        log_id=number, trade_id=f"r-{number}", key=KEY, underlying="SPY", symbol="SPY", opened_ns=0, closed_ns=1,
        session="2020-01-02", contracts=1, leg_contracts=2, gross_micros=net, net_micros=net, fees_modelled_micros=0,
        fees_broker_micros=0, slippage_micros=None, slippage_bps=None, planned_risk_micros=100_000_000,
        worst_case_micros=200_000_000, equity_micros=START, mae_micros=None, mfe_micros=None, exit_rule="target",
        feed=None,
    )  # fmt: skip


def account(changes: Sequence[float], transfers: Mapping[int, int]) -> list[DayResult]:
    """An account that earns ``changes``, with deposits and withdrawals in the equity at the start of their day."""
    equity, out = START, []
    for number, change in enumerate(changes):
        transfer = transfers.get(number, 0)
        equity += transfer
        pnl = round(equity * change)
        out.append(day(number, pnl, equity, transfer))
        equity += pnl
    return out


def series() -> dict[str, dict[str, list[list[int]]]]:
    """The series by name, in micro-dollars: sessions as P&L, equity at the start, transfer; trades as net P&L."""
    random = Random(20260105)
    mixed = [random.gauss(0.0008, 0.011) for _ in range(504)]
    sparse = [random.gauss(0.001, 0.02) if random.random() < 0.3 else 0.0 for _ in range(252)]
    rare = [-0.06 if random.random() < 0.04 else 0.0031 * random.random() for _ in range(400)]
    days = {
        "mixed": account(mixed, {}),
        "mostly flat": account(sparse, {}),
        "many small wins and rare losses": account(rare, {}),
        "losing only": account([-0.004 - 0.003 * random.random() for _ in range(60)], {}),
        "loss on the first day": account([-0.05, *(0.001 + 0.0005 * random.random() for _ in range(40))], {}),
        "deposits and withdrawals": account(
            mixed[:250], {20: 50_000_000_000, 90: -120_000_000_000, 200: 1_000_000_000}
        ),
    }
    cents = [random.choice((-150, 90)) * 1_000_000 + random.randrange(-40, 40) * 10_000 for _ in range(300)]
    trades = {
        "two outcomes": cents,
        "with nothing gained": [0 if random.random() < 0.1 else amount for amount in cents],
        "long tail": [round(random.lognormvariate(4, 1) * 1e6) * random.choice((1, -1)) for _ in range(200)],
    }
    return {
        "days": {
            name: [[row.pnl_micros or 0, row.start_equity_micros, row.transfers_micros] for row in rows]
            for name, rows in days.items()
        },
        "trades": {name: [[net] for net in nets] for name, nets in trades.items()},
    }


def agreeing_days(found: Figures, told: Mapping[str, float | None]) -> dict[str, tuple[float | None, float | None]]:
    """Our figure and quantstats' in our definition, by name."""
    worst, ulcer, last = told["max_drawdown"], told["ulcer_index"], told["last_drawdown"]
    assert worst is not None
    assert ulcer is not None
    assert last is not None
    pairs: dict[str, tuple[float | None, float | None]] = {
        "sharpe": (found.sharpe, told["sharpe"]),
        "sortino": (found.sortino, told["sortino"]),
        "annual_volatility": (found.annual_volatility, told["volatility"]),
        "total_return": (found.total_return, told["comp"]),
        # Its drawdowns are negative; its ulcer index divides by one session less.
        "max_drawdown": (found.max_drawdown, -worst),
        "current_drawdown": (found.current_drawdown, -last),
        "ulcer_index": (found.ulcer_index, ulcer * math.sqrt((found.sessions - 1) / found.sessions)),
    }
    # It finds no drawdown that began on the first day when no other follows.
    if told["longest_drawdown"] is not None:
        pairs["drawdown_sessions"] = (found.drawdown_sessions, told["longest_drawdown"])
    return pairs


def agreeing_trades(found: Figures, told: Mapping[str, float | None]) -> dict[str, tuple[float | None, float | None]]:
    """Our figure and quantstats' in our definition, by name."""
    rate, average_loss, worst, average = told["win_rate"], told["avg_loss"], told["worst"], told["avg_return"]
    assert rate is not None
    assert average_loss is not None
    assert worst is not None
    assert average is not None
    decided = found.wins + found.losses
    return {
        # It leaves out trades that brought nothing, from the win rate and from the average.
        "win_rate": (found.win_rate, rate * decided / found.trades),
        "expectancy_usd": (found.expectancy_usd, average * decided / found.trades),
        "average_win_usd": (found.average_win_usd, told["avg_win"]),
        "average_loss_usd": (found.average_loss_usd, -average_loss),
        "largest_win_usd": (found.largest_win_usd, told["best"]),
        "largest_loss_usd": (found.largest_loss_usd, -worst),
        "payoff": (found.payoff, told["payoff_ratio"]),
        "profit_factor": (found.profit_factor, told["profit_factor"]),
        "win_streak": (found.win_streak, told["consecutive_wins"]),
        "loss_streak": (found.loss_streak, told["consecutive_losses"]),
    }


def differences(told: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Count the figures compared, and say which differ by more than the tolerance, relative to quantstats'."""
    compared, out = 0, []
    pairs = {}
    for name, rows in told["series"]["days"].items():
        found = figures([], [day(n, *row) for n, row in enumerate(rows)])
        pairs[name] = agreeing_days(found, told["days"][name])
    for name, rows in told["series"]["trades"].items():
        found = figures([trade(n, *row) for n, row in enumerate(rows)], [])
        pairs[name] = agreeing_trades(found, told["trades"][name])
    for name, of_series in pairs.items():
        for figure, (ours, theirs) in of_series.items():
            compared += 1
            if ours is None or theirs is None:
                same = ours is theirs
            else:
                same = abs(ours - theirs) <= TOLERANCE * max(1.0, abs(theirs))
            if not same:
                out.append(f"{name}: {figure} is {ours!r}, quantstats has {theirs!r}")
    return compared, out


def ask() -> dict[str, Any]:
    """Have quantstats answer, in its own process and with folders of its own; the answers, and the series."""
    given = series()
    asked = {
        "days": {name: [pnl / start for pnl, start, _ in rows] for name, rows in given["days"].items()},
        "trades": {name: [net / 1e6 for (net,) in rows] for name, rows in given["trades"].items()},
    }
    with tempfile.TemporaryDirectory(prefix="oracle-peers-") as folder:
        command = [str(PEERS_PYTHON), str(Path(__file__).with_name("peers_figures.py"))]
        env = {**os.environ, "HOME": folder, "MPLCONFIGDIR": folder, "XDG_CACHE_HOME": folder}
        done = subprocess.run(command, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, env=env, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told | {"series": given}


def main() -> int:
    """Compare, and with ``--write`` keep what quantstats said."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.figures_reference")
    parser.add_argument("--write", action="store_true", help=f"keep the answers in {STORED.relative_to(ROOT)}")
    write = parser.parse_args().write
    if not PEERS_PYTHON.exists():
        print("no .venv-peers; docs/backtest.md says how to make it", file=sys.stderr)
        return 2
    told = ask()
    compared, out = differences(told)
    print("\n".join(out) or f"{compared} figures as quantstats {told['version']} has them, to {TOLERANCE:g}")
    if write:
        STORED.write_text(json.dumps(told, separators=(",", ":")) + "\n")
    return 1 if out else 0


if __name__ == "__main__":
    sys.exit(main())

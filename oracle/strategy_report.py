"""One strategy after another: its state, what it last saw, what it did today, and the win rates that it needs.

Inputs: a picture of evaluations (a daemon's or a journal's) and the store. Output: plain values for ``oracle
strategies``. Invariants: trades and break-evens come from stored fills alone; what is unknown is None.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from oracle.core.control import BACKTEST, END_OF_DATA
from oracle.core.errors import ConfigurationError
from oracle.core.messages import STRATEGY_DISABLED_LATCH, STRATEGY_FAILED_LATCH, ExitPlan
from oracle.core.structures import legs_of, payoff
from oracle.options.breakeven import plan_bound, realised_break_even
from oracle.store import read

Facts = dict[str, Any]
# Latches of single strategies; all others stop every entry.
_NOT_GENERAL = (STRATEGY_FAILED_LATCH, STRATEGY_DISABLED_LATCH)
# The reason of the halt with which a backtest closes what is open when its data end.
_DATA_ENDED = f"{BACKTEST}: {END_OF_DATA}"
MOST_TRADES, MOST_DECISIONS = 10_000, 500


def report(db: sqlite3.Connection, picture: Mapping[str, Any], name: str | None = None) -> list[Facts]:
    """Tell of each configured strategy, or of one.

    Args:
        db: an open store.
        picture: ``Evaluations.picture``.
        name: one strategy; None is all.

    Raises:
        ConfigurationError: no configured strategy has this name.
    """
    rows = picture["evaluations"]
    names = sorted({*picture["strategies"], *(row["strategy"] for row in rows)})
    if name is not None and name not in names:
        raise ConfigurationError("NAME", f"no strategy {name} is configured", f"use one of: {', '.join(names)}")
    latches = {row["latch"]: row["reason"] for row in read.status(db)["latches"]}
    decided = read.decisions(db, limit=MOST_DECISIONS)
    session = read.sessions(db, limit=1)
    return [
        _one(db, strategy, picture, latches, decided, session)
        for strategy in names
        if name is None or strategy == name
    ]  # fmt: skip


def _one(
    db: sqlite3.Connection,
    name: str,
    picture: Mapping[str, Any],
    latches: Mapping[str, str],
    decided: Sequence[Facts],
    session: Sequence[Facts],
) -> Facts:
    date = picture["date"]
    trades = read.trades(db, strategy=name, limit=MOST_TRADES)
    opened_ns = session[0]["open_ns"] if session and session[0]["date"] == date else None
    state, why = _state(name, latches, picture["failed"])
    return {
        "name": name,
        "state": state,
        "why": why,
        "universe": picture["strategies"].get(name, []),
        "evaluations": [row for row in picture["evaluations"] if row["strategy"] == name],
        "intents": [_intent(row) for row in reversed(decided) if row["intent_id"].startswith(f"{name}:{date}:")],
        "trades": [
            _trade(row)
            for row in reversed(trades)
            if row["closed_ns"] is None or (opened_ns is not None and row["closed_ns"] >= opened_ns)
        ],
        "break_even": break_evens(trades, picture["fee_usd"]),
    }


def _state(name: str, latches: Mapping[str, str], failed: Mapping[str, str]) -> tuple[str, str]:
    """``failed``, ``disabled``, ``halted``, ``ended`` or ``enabled``, and why; ``latches`` with their reasons."""
    if f"{STRATEGY_FAILED_LATCH}{name}" in latches:
        return "failed", failed.get(name, "it raised")
    if f"{STRATEGY_DISABLED_LATCH}{name}" in latches:
        return "disabled", "an operator switched it off"
    general = [latch for latch in latches if not latch.startswith(_NOT_GENERAL)]
    if general and all(latches[latch] == _DATA_ENDED for latch in general):
        return "ended", "the backtest's data had ended and what was open was closed"
    return ("halted", ", ".join(general)) if general else ("enabled", "")


def _intent(row: Facts) -> Facts:
    wanted = ("intent_id", "underlying", "reason", "contracts", "bound_by", "equity_needed_usd", "refusals", "facts")
    return {"at_ns": row["recorded_ns"], "approved": bool(row["approved"]), **{name: row[name] for name in wanted}}


def _trade(row: Facts) -> Facts:
    wanted = (
        "trade_id", "symbol", "opened_ns", "closed_ns", "contracts", "entry_price_usd", "exit_price_usd",
        "net_pnl_usd", "exit_rule", "planned_risk_usd", "worst_case_usd", "break_evens",
    )  # fmt: skip
    return {name: row.get(name) for name in wanted}


def break_evens(trades: Sequence[Facts], fee_usd: str | None) -> Facts:
    """Both break-even win rates: of the newest trade's exit plan, and of the realised averages, net of modelled fees.

    ``trades`` newest first. ``bound`` is None without a trade or without a target in its plan; ``realised`` without a
    win and a loss.
    """
    results = [float(row["net_pnl_usd"]) for row in trades if row["net_pnl_usd"] is not None]
    wins = sum(result > 0 for result in results)
    bound = None if not trades or fee_usd is None else _bound(trades[0], Decimal(fee_usd))
    return {
        "bound": bound,
        "realised": realised_break_even(results),
        "win_rate": wins / len(results) if results else None,
        "trades": len(results),
    }


def _bound(trade: Facts, fee_usd: Decimal) -> float | None:
    entry = trade["entry_price_usd"] if trade["entry_price_usd"] is not None else trade["expected_entry_usd"]
    if entry is None or trade["exit_plan"] is None:
        return None
    plan = ExitPlan(**trade["exit_plan"])
    legs = legs_of(trade["symbol"])
    most = payoff(legs, Decimal(str(entry))).max_loss_usd
    found = plan_bound(
        float(entry), plan, contracts=sum(leg.ratio for leg in legs), fee_usd=float(fee_usd),
        max_loss_usd=None if most is None else float(most),
    )  # fmt: skip
    return None if found is None else found.win_rate

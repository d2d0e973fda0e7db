"""What a report's page says, gathered: verdicts, figures, costs, breakers, worst days, trades against plan, method.

Inputs: an open store. Output: plain values for ``metrics/report.py``, or the page itself. Invariants: figures and
readiness are those of ``oracle/reporting.py``; what is left out is counted; nothing here writes the database.
"""

import datetime as dt
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final
from zoneinfo import ZoneInfo

from oracle.core.money import MICROS
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.structures import is_structure
from oracle.core.trackrecord import ACCOUNT, ClosedTrade
from oracle.metrics.report import render
from oracle.metrics.report_words import duration
from oracle.reporting import SIMULATED, Facts, Track, check_month, incomplete, judged, mode_of, rows, tracks
from oracle.store.rows import QUERIES

NEW_YORK = ZoneInfo("America/New_York")
MOST_BREAKERS, MOST_AGAINST, MOST_WORST = 100, 60, 10
# A stop is a market order: how far beyond the planned risk a loss is still what was planned.
LOSS_TOLERANCE: Final = 0.10
FLAT_TOLERANCE_NS: Final = MINUTE_NS
# Ends that an exit plan foresees; each other one is told.
PLANNED: Final = frozenset(
    {"target", "scale_out", "stop", "breakeven", "underlying_target", "underlying_stop", "flat", "short_delta"}
)
AT_EXPIRY: Final = frozenset({"expired", "cash_settled"})
ENDED_BY: Final[Mapping[str, str]] = {
    "orphan_leg": "its legs no longer belonged together, so that it was closed at once",
    "assigned": "the broker assigned a short leg",
    "exercised": "a long leg was exercised",
    "sold_out": "the broker sold it out",
    "operator": "an operator closed it",
    "end_of_data": "the backtest's data ended",
    "": "what ended it is not known",
}


def report(db: sqlite3.Connection, *, month: str | None = None, strategy: str | None = None) -> str:
    """Write the report of a month (YYYY-MM), or of all time, as one page of HTML.

    Raises:
        ConfigurationError: the month or the strategy is not there.
    """
    return render(page(db, month=month, strategy=strategy))


def page(db: sqlite3.Connection, *, month: str | None = None, strategy: str | None = None) -> Facts:
    """Gather what the page says, as plain values.

    Raises:
        ConfigurationError: the month or the strategy is not there.
    """
    found = tracks(db, strategy)
    if month is not None:
        check_month(found, month)
    chosen = [track if month is None else track.within(month, month) for track in found]
    trades = _closed(chosen)
    about = "" if strategy is None else f" of {strategy}"
    against = against_plan(db, trades)
    seen = [row for row in rows(db, found, month) if row["first"] is not None or row["strategy"] == ACCOUNT]
    breakers = _breakers(db, month)
    mode = mode_of(db)
    return {
        "title": f"Trade Oracle: performance{about}, {'all time' if month is None else month}",
        "mode": mode,
        "simulated": SIMULATED.get(mode, ""),
        "only": about,
        "span": _span(chosen),
        "period_words": "whole time" if month is None else f"month {month}",
        "incomplete": incomplete(db, found),
        "performance": seen,
        "readiness": judged(db, found, month),
        "costs": _costs(db, trades, month),
        "breakers": breakers[:MOST_BREAKERS],
        "notes": _notes(db, month),
        "worst_days": _worst_days(chosen),
        "against_plan": against[:MOST_AGAINST],
        "closed_trades": len(trades),
        "cut": {
            "breakers": max(0, len(breakers) - MOST_BREAKERS), "against_plan": max(0, len(against) - MOST_AGAINST),
        },
        "method": _method(mode, chosen, trades),
    }  # fmt: skip


def _closed(chosen: Sequence[Track]) -> list[ClosedTrade]:
    """Each closed trade once: the account has all of them."""
    whole = [track for track in chosen if track.key.strategy == ACCOUNT] or chosen
    return sorted((trade for track in whole for trade in track.trades), key=lambda trade: trade.log_id)


def _span(chosen: Sequence[Track]) -> str:
    spans = [track.span for track in chosen if track.span is not None]
    if not spans:
        return "No session is recorded"
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    sessions = max((len(track.days) for track in chosen), default=0)
    return f"{first} to {last}, {sessions} sessions" if sessions else f"{first} to {last}, sessions not recorded"


# --------------------------------------------------------------------------------------------- what went otherwise


def against_plan(db: sqlite3.Connection, trades: Sequence[ClosedTrade]) -> list[Facts]:
    """Trades that did not end as their entry planned, the largest loss first, each with every reason in words."""
    flat = {row["log_id"]: row["flat_ns"] for row in db.execute(QUERIES["report_plans"])}
    closes = {row["date"]: row["close_ns"] for row in db.execute(QUERIES["report_closes"])}
    out = []
    for trade in trades:
        why = [*_loss(trade), *_late(trade, flat.get(trade.log_id), closes), *_ended(trade)]
        if why:
            out.append((trade.net_micros, trade.log_id, _told(trade, why)))
    return [told for _, _, told in sorted(out, key=lambda row: row[:2])]


def _loss(trade: ClosedTrade) -> list[str]:
    lost, planned, worst = -trade.net_micros, trade.planned_risk_micros, trade.worst_case_micros
    if lost > worst:
        # Fees are no part of the worst case of the position.
        beyond = lost - worst > trade.fees_modelled_micros
        return [f"lost {_usd(lost - worst)} USD more than its worst case of {_usd(worst)}"] if beyond else []
    if lost > planned * (1 + LOSS_TOLERANCE):
        times = f", {lost / planned:.2f} times that" if planned > 0 else ""
        return [f"lost {_usd(lost)} USD where {_usd(planned)} was planned{times}"]
    return []


def _late(trade: ClosedTrade, flat_ns: int | None, closes: Mapping[str, int]) -> list[str]:
    if flat_ns is None or trade.closed_ns <= flat_ns + FLAT_TOLERANCE_NS:
        return []
    close_ns = closes.get(_at(flat_ns, "%Y-%m-%d"))
    # A plan that is flat at the close foresees what expires there.
    if trade.exit_rule in AT_EXPIRY and close_ns is not None and flat_ns >= close_ns - FLAT_TOLERANCE_NS:
        return []
    part = "the last of it was" if is_structure(trade.symbol) else "it was"
    return [f"{part} held {_ago(trade.closed_ns - flat_ns)} past its flat time"]


def _ended(trade: ClosedTrade) -> list[str]:
    if trade.exit_rule in PLANNED or trade.exit_rule in AT_EXPIRY:
        return []
    return [ENDED_BY.get(trade.exit_rule, f"closed by {trade.exit_rule.replace('_', ' ')}")]


def _told(trade: ClosedTrade, why: Sequence[str]) -> Facts:
    return {
        "trade_id": trade.trade_id,
        "closed": _at(trade.closed_ns, "%Y-%m-%d %H:%M"),
        "strategy": trade.key.strategy,
        "instrument": trade.symbol,
        "net_usd": trade.net_micros / MICROS,
        "planned_risk_usd": trade.planned_risk_micros / MICROS,
        "exit_rule": trade.exit_rule.replace("_", " ") or "unknown",
        "why": list(why),
    }


def _worst_days(chosen: Sequence[Track]) -> list[Facts]:
    """Sessions that lost most, of the account or, for one strategy, of its versions."""
    whole = [track for track in chosen if track.key.strategy == ACCOUNT]
    parts = [track for track in chosen if track.key.strategy != ACCOUNT]
    days = [day for track in whole or parts for day in track.days if day.pnl_micros is not None and day.pnl_micros < 0]
    out = []
    for day in sorted(days, key=lambda one: (one.pnl_micros or 0, one.date))[:MOST_WORST]:
        by: dict[str, int] = {}
        for track in parts:
            for other in track.days:
                if other.date == day.date and other.pnl_micros is not None and other.pnl_micros != 0:
                    by[track.key.strategy] = by.get(track.key.strategy, 0) + other.pnl_micros
        pnl = day.pnl_micros or 0
        share = pnl / day.start_equity_micros if day.start_equity_micros > 0 else None
        ranked = sorted(by.items(), key=lambda row: (row[1], row[0]))
        out.append({
            "date": day.date, "pnl_usd": pnl / MICROS, "share": share,
            "by_strategy": [[name, micros / MICROS] for name, micros in ranked],
        })  # fmt: skip
    return out


def _breakers(db: sqlite3.Connection, month: str | None) -> list[Facts]:
    """Breakers that were set, strategies that failed and what operators did, newest first."""
    out = []
    for row in db.execute(QUERIES["report_breakers"]):
        at = _at(row["at_ns"], "%Y-%m-%d %H:%M")
        if month is not None and not at.startswith(month):
            continue
        ended = row["ended_ns"]
        until = "" if row["until_date"] is None else f"by itself on {row['until_date']}"
        stands = "still set" if row["kind"] == "breaker" else ""
        out.append({
            "at": at, "kind": row["kind"], "what": row["what"].replace("_", " ").replace(":", ": "),
            "why": row["why"], "observed": row["observed"], "limit": row["limit"],
            "ended": _at(ended, "%Y-%m-%d %H:%M") if ended is not None else until or stands,
        })  # fmt: skip
    return out


def _notes(db: sqlite3.Connection, month: str | None) -> list[Facts]:
    found = [dict(row) for row in db.execute(QUERIES["report_notes"])]
    return [row for row in found if month is None or row["session"].startswith(month)]


def _costs(db: sqlite3.Connection, trades: Sequence[ClosedTrade], month: str | None) -> Facts:
    charged = [
        row["amount_micros"]
        for row in db.execute(QUERIES["load_fees"])
        if month is None or _at(row["at_ns"], "%Y-%m") == month
    ]
    return {
        "account_fees_usd": sum(charged) / MICROS if charged else None,
        "account_fees": len(charged),
        "slippage_unknown": sum(trade.slippage_micros is None for trade in trades),
    }


# --------------------------------------------------------------------------------------------------------- method


def _method(mode: str, chosen: Sequence[Track], trades: Sequence[ClosedTrade]) -> list[str]:
    """What a reader must know to check the figures, and what is not known."""
    out = [
        "Everything is derived from fills. A trade is a round trip, from the first fill until no leg is held; it counts"
        " in the session in which it ended.",
        "P&L, statistics, streaks and break-evens are net of modelled fees; what the broker charged is in the cash.",
        "A day's return is its marked-to-market P&L, net of modelled fees, over the equity at the day's start, deposits"
        " and withdrawals of that day in it. Flat days count. A year has 252 sessions; the risk-free rate is 0.",
        "Readiness is judged for one code and one set of parameters, over all its trades and sessions here. The score"
        " is 100 times the smallest, over the criteria, of the probability that the criterion truly holds, given what"
        " was seen; profit factor and drawdown are resampled in blocks, with a phantom loss at the stored worst case.",
        _MODE_WORDS[mode],
        _feeds(trades),
    ]
    whole = max(chosen, key=lambda track: len(track.days), default=None)
    unknown = 0 if whole is None else sum(day.pnl_micros is None for day in whole.days)
    if unknown:
        out.append(
            f"{unknown} sessions ended without a known mark of a position; the next known one holds their result."
        )
    marks = sum(trade.mae_micros is None or trade.mfe_micros is None for trade in trades)
    if marks:
        out.append(f"Of {marks} of {len(trades)} trades the worst and the best value while open are not known.")
    out.append(
        "To check it: oracle performance --json has the same figures, oracle export every trade, fill and day, and"
        " oracle recompute --check builds all of it again from the fills."
    )
    return out


_MODE_WORDS: Final[Mapping[str, str]] = {
    "live": "Mode live: a real account. Fills are the broker's.",
    "paper": "Mode paper: the broker simulates fills, usually at the quote; queues, size and market impact are not in"
    " it, and it charges nothing.",
    "sim": "Mode sim: market, options and fills are made by the embedded exchange. It shows that the program works, not"
    " that a strategy does.",
    "backtest": "Mode backtest: fills are made by the exchange in process, from recorded minutes or a generated market;"
    " where no option chain was recorded, options are modelled.",
}


def _feeds(trades: Sequence[ClosedTrade]) -> str:
    if not trades:
        return "No trade has closed, so that nothing rests on option quotes."
    counts: dict[str, int] = {}
    for trade in trades:
        name = "an unknown feed" if trade.feed is None else f"the feed {trade.feed}"
        counts[name] = counts.get(name, 0) + 1
    told = ", ".join(f"{number} on {name}" for name, number in sorted(counts.items()))
    return f"Option quotes of the trades: {told}."


def _at(at_ns: int, form: str) -> str:
    return dt.datetime.fromtimestamp(at_ns // NS, NEW_YORK).strftime(form)


def _ago(span_ns: int) -> str:
    return duration(span_ns / NS)


def _usd(micros: int) -> str:
    return f"{micros / MICROS:,.2f}"

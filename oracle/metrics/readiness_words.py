"""What an assessment says in words: what is missing, what is out of reach, what more trades could tell.

Inputs: a ``Case``, plain numbers of one strategy, and its results by criterion. Outputs: short English sentences and an
expected date. Invariant: words never decide; they follow from the same numbers as the score.
"""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from oracle.metrics.criteria import Criteria
from oracle.metrics.evidence import sharpe_chance, win_rate_chance
from oracle.metrics.performance import SESSIONS_A_YEAR
from oracle.metrics.power import enough, sessions_for_sharpe, trades_for_profit_factor, trades_for_win_rate

if TYPE_CHECKING:
    from oracle.metrics.readiness import CriterionResult

_Z_95: Final = 1.959963984540054
# Closer than this, more trades than anybody will make would be needed.
_MOST_TRADES: Final = 100_000
_DRAWN: Final = ("profit_factor", "max_drawdown")


@dataclass(frozen=True, slots=True)
class Case:
    """The numbers that words and intervals are made of; amounts are micro-dollars, rates fractions.

    ``average_loss`` is the realised one (the phantom's while nothing was lost). ``factor_scatter`` is √n × the standard
    error of the profit factor's logarithm. ``latest`` is the last date in hand, "" if there is none.
    ``lucky`` is how many standard errors the best of all sets of parameters owes to luck. ``unmarked`` counts the
    newest sessions whose result is unknown.
    """

    trades: int
    wins: int
    win_rate: float
    break_even: float
    bound: float | None
    tail_known: bool
    won_anything: bool
    average_win: float
    average_loss: float
    inflation: float
    sharpe: float | None
    sharpe_error: float | None
    profit_factor: float | None
    factor_scatter: float | None
    profitable: bool
    drawdown: float
    sessions: int
    latest: str
    lucky: float
    unmarked: int

    @property
    def break_even_known(self) -> bool:
        """Whether both sides of the payoff are known: something was won, and a worst case is stored."""
        return self.won_anything and self.tail_known

    def implied_win_rate(self, factor: float) -> float | None:
        """Give the win rate p at which p W / ((1 − p) L) is the profit factor; None while W or L is unknown."""
        if not self.break_even_known:
            return None
        return factor * self.average_loss / (self.average_win + factor * self.average_loss)

    def win_rate_interval(self) -> tuple[float, float]:
        """Give Wilson's 95 % interval for as many trades as are independent."""
        n, p = self.trades / self.inflation, self.win_rate
        z2 = _Z_95 * _Z_95 / n
        half = math.sqrt(z2 * (p * (1 - p) + z2 / 4))
        return max((p + z2 / 2 - half) / (1 + z2), 0.0), min((p + z2 / 2 + half) / (1 + z2), 1.0)

    def sharpe_interval(self) -> tuple[float | None, float | None]:
        """Give the Sharpe ratio ± 1.96 standard errors, without the prior; None while there is none."""
        if self.sharpe is None or self.sharpe_error is None:
            return None, None
        return self.sharpe - _Z_95 * self.sharpe_error, self.sharpe + _Z_95 * self.sharpe_error

    def profit_factor_interval(self) -> tuple[float | None, float | None]:
        """Give the profit factor's 95 % interval by the delta method, for as many trades as are independent."""
        if self.profit_factor is None or self.factor_scatter is None:
            return None, None
        spread = math.exp(_Z_95 * self.factor_scatter * math.sqrt(self.inflation / self.trades))
        return self.profit_factor / spread, self.profit_factor * spread


def reasons_of(
    case: Case, results: Sequence["CriterionResult"], criteria: Criteria, score: float, ready: bool, bootstrapped: bool
) -> tuple[str, ...]:
    """Say why a strategy is or is not ready, one short clause for each criterion that is missing."""
    if ready:
        return (f"ready: {case.trades} trades, each criterion at least {math.floor(score)} % certain",)
    clauses = [f"needs {criteria.trades - case.trades} more trades"] if case.trades < criteria.trades else []
    sure = criteria.confidence / 100
    for result in results:
        clause = _below(case, result) or _unsure(result, sure)
        if clause:
            clauses.append(clause)
    if case.unmarked > 0:
        clauses.append(f"the result of its last {_sessions(case.unmarked)} is unknown: what it holds has no mark")
    if not bootstrapped and all(r.probability is None or r.probability >= sure for r in results):
        clauses.append("profit factor and drawdown are not resampled yet")
    return tuple(clauses)


def _below(case: Case, result: "CriterionResult") -> str:
    """Say by how much the figure that was seen misses what is asked; "" if it does not."""
    seen, asked = result.observed, result.required
    if result.name == "above_break_even":
        return _above_break_even(case, result)
    if result.name == "trades" or seen is None:
        return _nothing_seen(case, result)
    if result.name == "max_drawdown":
        return f"drawdown {_percent(seen)} over {_percent(asked)}" if seen >= asked else ""
    if seen >= asked:
        return ""
    if result.name == "win_rate":
        return f"win rate {_percent(seen)} below {_percent(asked)}"
    return f"{_NAMES[result.name]} {_short(seen)} below {_short(asked)}"


def _nothing_seen(case: Case, result: "CriterionResult") -> str:
    if result.name == "sharpe":
        return "Sharpe unknown: no two sessions that differ"
    if result.name == "profit_factor" and not case.profitable:
        return "no profit yet"
    return ""


def _above_break_even(case: Case, result: "CriterionResult") -> str:
    if not case.break_even_known:
        return "no win yet" if case.tail_known else "no worst case is stored, so no break-even is known"
    if case.win_rate < case.break_even:
        costs = f"wins {_percent(case.win_rate)}, needs {100 * case.break_even:.1f} % to break even after costs"
        return costs + (" by its exit plan" if case.bound is not None and case.break_even <= case.bound else "")
    if case.win_rate >= result.required:
        return ""
    points = 100 * (case.win_rate - case.break_even)
    asked = 100 * (result.required - case.break_even)
    return f"wins {points:.1f} points more than its break-even {100 * case.break_even:.1f} %, needs {asked:g}"


def _unsure(result: "CriterionResult", sure: float) -> str:
    """Say how certain a figure is that looks right but is not certain enough; "" if it is, or was not asked."""
    if result.probability is None or result.probability >= sure:
        return ""
    certain = f"only {math.floor(100 * result.probability)} % certain"
    if result.name == "max_drawdown":
        return result.note if result.low is None else f"a drawdown under {_percent(result.required)} {certain}"
    if result.name == "sharpe":
        return f"Sharpe {_short(result.observed)} looks enough, {certain}"
    if result.name == "profit_factor":
        return f"profit factor {_short(result.observed)} looks enough, {certain}"
    return f"a win rate of {100 * result.required:.1f} % {certain}"


def out_of_reach(case: Case, results: Sequence["CriterionResult"]) -> tuple[str, ...]:
    """Name what trades like those seen cannot bring, however many there are."""
    by_name = {result.name: result for result in results}
    found = []
    needed = by_name["above_break_even"].required
    if case.break_even_known and needed >= 1:
        found.append(
            f"win rate: its break-even {100 * case.break_even:.1f} % and the points above it come to 100 % or more"
        )
    implied, highest = case.implied_win_rate(by_name["profit_factor"].required), by_name["win_rate"].high
    if implied is not None and highest is not None and implied > highest:
        found.append(
            f"profit factor {by_name['profit_factor'].required:g}: at this payoff it takes a win rate of "
            f"{100 * implied:.1f} %, and {100 * highest:.1f} % is the most that the trades allow"
        )
    sharpe = by_name["sharpe"]
    if sharpe.high is not None and sharpe.high < sharpe.required:
        found.append(f"Sharpe {sharpe.required:g}: {sharpe.high:.1f} is the most that the sessions allow")
    return tuple(found)


def power_words(case: Case, results: Sequence["CriterionResult"], sure: float) -> str:
    """Say how many more trades would tell the furthest criterion's value from what is asked of it.

    As many as a test of that size takes, or as the prior takes to be overcome by more of the same, if that is more.
    """
    asked = [r for r in results if r.probability is not None and r.observed is not None and r.name != "max_drawdown"]
    if not asked:
        return "nothing to tell apart yet"
    furthest = min(asked, key=lambda result: result.probability or 0.0)
    if furthest.required >= 1 and furthest.name == "above_break_even":
        return "no number of trades can show a win rate of 100 % or more"
    seen, required = furthest.observed or 0.0, furthest.required
    low, high = sorted((seen, required))
    if furthest.name in ("win_rate", "above_break_even"):
        trades = _for_win_rate(case, low, high, required, sure)
        value, pair = "a win rate of " + _percent(seen), f"{_percent(high)} from {_percent(low)}"
    elif furthest.name == "sharpe":
        trades = _for_sharpe(case, low, high, required, sure) * case.trades / max(case.sessions, 1)
        value, pair = f"Sharpe {_short(seen)}", f"Sharpe {_short(high)} from {_short(low)}"
    else:
        trades = trades_for_profit_factor(low, high, case.factor_scatter or math.inf) * case.inflation
        value, pair = f"profit factor {_short(seen)}", f"profit factor {_short(high)} from {_short(low)}"
    if trades > _MOST_TRADES:
        return f"{value} is too close to what is asked ({_asked(furthest)}) to tell apart"
    more = math.ceil(trades) - case.trades
    return f"could tell {pair} with {more} more trades" if more > 0 else f"can tell {pair} with the trades at hand"


def _for_win_rate(case: Case, low: float, high: float, required: float, sure: float) -> float:
    trades = trades_for_win_rate(low, high, case.inflation)
    if case.win_rate < required:
        return trades

    def chance(n: float) -> float:
        return float(win_rate_chance(case.win_rate, n / case.inflation, case.break_even, required, case.lucky))

    return max(trades, enough(chance, sure, _MOST_TRADES))


def _for_sharpe(case: Case, low: float, high: float, required: float, sure: float) -> float:
    sessions, seen = sessions_for_sharpe(low, high), case.sharpe or 0.0
    if seen < required:
        return sessions
    daily = seen / math.sqrt(SESSIONS_A_YEAR)
    return max(sessions, enough(lambda n: float(sharpe_chance(daily, n, required, case.lucky)[1]), sure, _MOST_TRADES))


def _asked(result: "CriterionResult") -> str:
    return _short(result.required) if result.name in _NAMES else _percent(result.required)


def expected_date(case: Case, asked: int) -> str | None:
    """Estimate the weekday on which the trades asked are reached at the present rate a session; None without a rate."""
    missing = asked - case.trades
    if missing <= 0 or case.sessions == 0 or not case.latest:
        return None
    sessions = math.ceil(missing * case.sessions / case.trades)
    day = np.busday_offset(np.datetime64(case.latest, "D"), sessions, roll="backward").astype(dt.date)
    return str(day)


def _sessions(count: int) -> str:
    return "session" if count == 1 else f"{count} sessions"


_NAMES: Final = {"sharpe": "Sharpe", "profit_factor": "profit factor"}


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %".replace(".0 %", " %")


def _short(value: float | None) -> str:
    return "without a loss" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")

"""What every strategy last saw of every underlying, and how often it said what this session: why it did not trade.

Inputs: the messages of turns, live or read back from a journal. Output: rows of plain values. Invariants: every
evaluation counts, told or not; a new session starts the counts anew; nothing here can change what the core decides.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oracle.core.message import Message
from oracle.core.messages import Intent, NoData, NoSignal, Reevaluated, SessionOpened, StrategyFailed

INTENT, NO_SIGNAL, NO_DATA = "intent", "no_signal", "no_data"
HOLDS = "_holds"
# Reasons that say nothing of the market.
IDLE = frozenset(("before_entry_window", "after_entry_window", "no_expiry_allowed", "disabled", "outside_session"))


@dataclass(slots=True)
class Seen:
    """One strategy's newest evaluation of one underlying, and its session's counts by ``outcome:reason``."""

    at_ns: int
    outcome: str
    reason: str
    facts: Mapping[str, Any]
    since_ns: int
    counts: Counter[str] = field(default_factory=Counter)
    # The newest one that judged the market, as a row: not one outside the hours of entry.
    judged: dict[str, Any] | None = None


class Evaluations:
    """A fold over the messages of turns.

    Args:
        universes: what each configured strategy watches, by its name.
        fee_usd: the modelled fee a contract and side, exact text; None is unknown.
    """

    __slots__ = ("_failed", "_fee_usd", "_seen", "_universes", "date")

    def __init__(self, universes: Mapping[str, Sequence[str]] | None = None, fee_usd: str | None = None) -> None:
        self._universes = {name: list(symbols) for name, symbols in sorted((universes or {}).items())}
        self._fee_usd = fee_usd
        self._seen: dict[tuple[str, str], Seen] = {}
        self._failed: dict[str, str] = {}
        self.date = ""

    def take(self, messages: Iterable[Message], at_ns: int) -> None:
        """Fold in what a turn at this time (UTC ns) produced."""
        for message in messages:
            kind = type(message)
            if kind is Reevaluated:
                self._note(message.verdict, at_ns)  # type: ignore[attr-defined]
            elif isinstance(message, Intent | NoSignal | NoData):
                self._note(message, at_ns)
            elif isinstance(message, SessionOpened):
                self._open(message.date)
            elif isinstance(message, StrategyFailed):
                self._failed[message.strategy] = message.error

    def rows(self) -> list[dict[str, Any]]:
        """One row for each strategy and underlying, in that order, of the session whose date is ``date``."""
        return [
            {
                "strategy": strategy,
                "symbol": symbol,
                "at_ns": seen.at_ns,
                "outcome": seen.outcome,
                "reason": seen.reason,
                "since_ns": seen.since_ns,
                "conditions": conditions(seen.facts),
                "facts": dict(seen.facts),
                "judged": seen.judged,
                "session": dict(sorted(seen.counts.items(), key=lambda item: (-item[1], item[0]))),
            }
            for (strategy, symbol), seen in sorted(self._seen.items())
        ]

    def picture(self) -> dict[str, Any]:
        """The rows with their session's date, what is configured, and the errors of strategies that raised."""
        return {
            "date": self.date,
            "evaluations": self.rows(),
            "failed": dict(sorted(self._failed.items())),
            "fee_usd": self._fee_usd,
            "strategies": self._universes,
        }

    def _note(self, verdict: Intent | NoSignal | NoData, at_ns: int) -> None:
        outcome, symbol, reason = _words(verdict)
        key = (verdict.strategy, symbol)
        known = self._seen.get(key)
        if known is None:
            known = self._seen[key] = Seen(at_ns, outcome, reason, verdict.facts, at_ns)
        if (known.outcome, known.reason) != (outcome, reason):
            known.since_ns = at_ns
        known.at_ns, known.outcome, known.reason, known.facts = at_ns, outcome, reason, verdict.facts
        if reason not in IDLE:
            known.judged = {"at_ns": at_ns, "outcome": outcome, "reason": reason, "facts": dict(verdict.facts)}
        known.counts[outcome if outcome == INTENT else f"{outcome}:{reason}"] += 1

    def _open(self, date: str) -> None:
        if date != self.date:
            self.date = date
            self._seen.clear()


def conditions(facts: Mapping[str, Any]) -> dict[str, bool]:
    """The conditions that an evaluation judged, by name: facts called ``NAME_holds``."""
    return {
        name.removesuffix(HOLDS): value for name, value in facts.items() if name.endswith(HOLDS) and value in (0, 1)
    }


def why_not(row: Mapping[str, Any]) -> str:
    """The newest evaluation in a few words."""
    word = str(row["reason"]).replace("_", " ")
    if row["outcome"] == INTENT:
        return f"wants to trade: {row['reason']}"
    return f"no data: {word}" if row["outcome"] == NO_DATA else word


def reasons_in_words(session: Mapping[str, int]) -> Sequence[str]:
    """A session's counts, most frequent first, as ``312x no cross``."""
    return [f"{count}x {_plain(name)}" for name, count in session.items()]


def _plain(name: str) -> str:
    outcome, _, reason = name.partition(":")
    words = reason.replace("_", " ")
    return {INTENT: "intent", NO_DATA: f"no data: {words}"}.get(outcome, words)


def _words(verdict: Intent | NoSignal | NoData) -> tuple[str, str, str]:
    if isinstance(verdict, Intent):
        return INTENT, verdict.underlying, verdict.reason
    if isinstance(verdict, NoSignal):
        return NO_SIGNAL, verdict.symbol, verdict.reason
    return NO_DATA, verdict.symbol, verdict.what

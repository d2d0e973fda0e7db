"""What each session brought each strategy, and how far each trade went, as one fold over the stored rows.

Inputs: an open database; fills, settlements, trades, marks, transfers, sessions, in commit order. Outputs: DayResult
rows by strategy, extremes of trades that are over, the sessions' ends. Invariants: integers alone, so that going on
from where it stood gives the same as beginning anew; a session ends with its closing mark, and what is booked later
counts in the next one; what has no mark is unknown until it is known again.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from oracle.core.errors import StoreError
from oracle.core.instruments import multiplier
from oracle.core.money import MICROS
from oracle.core.trackrecord import ACCOUNT, DayResult, StrategyKey
from oracle.store.rows import QUERIES
from oracle.store.windows import windows

ACCOUNT_KEY = StrategyKey(ACCOUNT, "")
CLOSE, REBASE = "close", "rebase"
_EVENTS: Final = ("fold_flows", "fold_closed", "fold_marks", "fold_money", "fold_wished")
Row = tuple[Any, ...]
_NEVER: Final = 1 << 63


class Extremes(NamedTuple):
    """The worst (at most 0) and best (at least 0) value of a trade over its ``marks``; None when there were none."""

    mae_micros: int | None
    mfe_micros: int | None
    marks: int


class SessionEnd(NamedTuple):
    """Where a session ends among the messages, and what the account was worth there (None: not marked)."""

    date: str
    log_id: int
    cash_micros: int | None
    equity_micros: int | None


@dataclass(slots=True)
class _Round:
    """A round trip that is open, or executions that belong to none."""

    key: StrategyKey
    cash: int = 0
    held: dict[str, int] = field(default_factory=dict)
    low: int = 0
    high: int = 0
    marks: int = 0


@dataclass(slots=True)
class _Book:
    """A strategy, or the account: its cash net of modelled fees, and when it held something since the last session."""

    cash: int = 0
    rounds: dict[str, _Round] = field(default_factory=dict)
    known: int = 0  # cash and value when both were last known
    holding: int = 0
    since_ns: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)
    moved: bool = False

    def hold(self, change: int, at_ns: int) -> None:
        """Count rounds that hold something: the time from the first to the last is open time."""
        before, self.holding = self.holding, self.holding + change
        if before == 0 and self.holding > 0:
            self.since_ns = max(at_ns, self.spans[-1][1] if self.spans else at_ns)
        elif before > 0 and self.holding == 0 and at_ns > self.since_ns:
            self.spans.append((self.since_ns, at_ns))

    def held(self) -> dict[str, int]:
        """All rounds' holdings in one. What is long in one and short in another is not held, and needs no mark."""
        total: dict[str, int] = {}
        for one in self.rounds.values():
            for symbol, quantity in one.held.items():
                total[symbol] = total.get(symbol, 0) + quantity
        return {symbol: quantity for symbol, quantity in total.items() if quantity != 0}

    def open_ns(self, open_ns: int, close_ns: int) -> int:
        """Time between two instants with something held; forgets it."""
        spans = [*self.spans, (self.since_ns, close_ns)] if self.holding > 0 else self.spans
        self.spans = []
        if self.holding > 0:
            self.since_ns = max(self.since_ns, close_ns)
        return sum(max(0, min(end, close_ns) - max(begin, open_ns)) for begin, end in spans)


class DayFold:
    """The fold. ``advance`` reads what is new; the results grow."""

    def __init__(self) -> None:
        self.days: dict[StrategyKey, list[DayResult]] = {ACCOUNT_KEY: []}
        self.extremes: dict[int, Extremes] = {}
        self.ends: list[SessionEnd] = []
        self.log_id = 0
        self._books: dict[StrategyKey, _Book] = {ACCOUNT_KEY: _Book()}
        self._rounds: dict[str, _Round] = {}
        self._keys: dict[str, StrategyKey] = {}
        self._pending: list[sqlite3.Row] = []
        self._sessions: set[str] = set()
        self._newest_ns = -1
        self._due_ns = _NEVER
        self._active: set[StrategyKey] = set()
        self._ran: set[StrategyKey] = set()
        self._start_ns: int | None = None
        self._equity: int | None = None
        self._date = ""
        self._day_start: int | None = None
        self._transfers = 0
        self._transfers_marked = 0
        self._micros: dict[str, int] = {}
        self._units: dict[str, int] = {}
        self._handlers: Mapping[str, Callable[[Row], None]] = {
            "fill": self._on_fill,
            "settlement": self._on_settlement,
            "shares": self._on_shares,
            "intent": self._on_intent,
            "start": self._on_start,
            "closed": self._on_closed,
            "mark": self._on_mark,
            "transfer": self._on_transfer,
            "seed": self._on_seed,
        }

    def advance(self, db: sqlite3.Connection) -> None:
        """Fold what was committed since the last time.

        Raises:
            StoreError: a row does not hold what it must; its log id is named.
        """
        last = self.ends[-1].date if self.ends else ""
        self._pending = list(db.execute(QUERIES["fold_sessions"], {"after": last}))
        self._sessions |= {one["date"] for one in self._pending}
        self._due_ns = self._next_end_ns()
        starts = [tuple(row) for row in db.execute(QUERIES["fold_starts"], {"start_ns": self._start_ns or 0})]
        for up_to, rows in windows(db, _EVENTS, self.log_id):
            due = [row for row in starts if row[0] <= up_to]
            starts = starts[len(due) :]
            self._take(sorted([*rows, *due], key=itemgetter(0, 1)) if due else rows)
        self._take(starts)
        self._end_sessions_before(None)

    def _take(self, rows: Iterable[Row]) -> None:
        handlers = self._handlers
        for row in rows:
            self._newest_ns = max(self._newest_ns, row[3])
            if row[3] >= self._due_ns:
                self._end_sessions_before(row[3])
            try:
                handlers[row[2]](row)
            except (KeyError, TypeError, ValueError, ArithmeticError, msgspec.MsgspecError) as error:
                raise StoreError(f"database: {row[2]} {row[0]} cannot be folded ({error!r})") from error
            self.log_id = max(self.log_id, row[0])

    def is_overtaken(self, db: sqlite3.Connection) -> bool:
        """Whether a session is on record now that began before what was folded without it: then all begins anew."""
        sessions = db.execute(QUERIES["fold_sessions"], {"after": ""})
        return any(row["open_ns"] <= self._newest_ns and row["date"] not in self._sessions for row in sessions)

    # --------------------------------------------------------------------------------------------------- events

    def _on_fill(self, row: Row) -> None:
        _, _, _, _, trade_id, symbol, signed, price, fees, at_ns, strategy, strategy_hash = row
        if trade_id not in self._keys:
            self._keys[trade_id] = StrategyKey(strategy, strategy_hash)
        self._move(trade_id, symbol, signed, price, fees, at_ns)

    def _on_settlement(self, row: Row) -> None:
        """What a settlement takes away is nearer to zero, whichever side was held."""
        _, _, _, _, trade_id, symbol, leaving, price, fees, at_ns, *_ = row
        found = self._rounds.get(trade_id)
        held = 0 if found is None else found.held.get(symbol, 0)
        self._move(trade_id, symbol, -leaving if held > 0 else leaving, price, fees, at_ns)

    def _on_shares(self, row: Row) -> None:
        _, _, _, _, trade_id, symbol, signed, price, fees, at_ns, *_ = row
        self._move(trade_id, symbol, signed, price, fees, at_ns)

    def _move(self, trade_id: str, symbol: str, signed: int, price: int, fees: int, at_ns: int) -> None:
        """Book one movement; modelled fees count in the strategy's result and not in the trade's value."""
        one = self._rounds.get(trade_id)
        if one is None:
            key = self._keys[trade_id]
            one = self._rounds[trade_id] = _Round(key)
            for book in (self._book(key), self._books[ACCOUNT_KEY]):
                book.rounds[trade_id] = one
        paid = signed * price * self._unit(symbol)
        held = one.held
        before, after = bool(held), held.get(symbol, 0) + signed
        if after == 0:
            held.pop(symbol, None)
        else:
            held[symbol] = after
        one.cash -= paid
        turned = before != bool(held)
        for book in (self._book(one.key), self._books[ACCOUNT_KEY]):
            book.cash -= paid + fees
            book.moved = True
            if turned:
                book.hold(-1 if before else 1, at_ns)

    def _unit(self, symbol: str) -> int:
        """Units of the underlying a contract; kept, because a pattern tells it."""
        found = self._units.get(symbol)
        if found is None:
            found = self._units[symbol] = multiplier(symbol)
        return found

    def _on_closed(self, row: Row) -> None:
        log_id, _, _, _, trade_id, gross, at_ns = row
        one = self._rounds.pop(trade_id, None)
        if one is None:
            raise ValueError(f"trade {trade_id} has no fills")
        for book in (self._book(one.key), self._books[ACCOUNT_KEY]):
            book.rounds.pop(trade_id, None)
            if one.held:
                book.hold(-1, at_ns)
        known = one.marks > 0
        low, high = min(one.low, gross), max(one.high, gross)
        self.extremes[log_id] = Extremes(low if known else None, high if known else None, one.marks)

    def _on_mark(self, row: Row) -> None:
        log_id, _, _, recorded_ns, date, kind, cash, equity, day_start, text = row
        if date != self._date:
            self._date, self._day_start, self._transfers_marked = date, day_start, 0
        self._equity = equity
        holding = [one for one in self._rounds.values() if one.held]
        marks = self._marks(text) if holding and text is not None else {}
        for one in holding:
            value = self._value(one.held, marks)
            if value is not None:
                one.low, one.high = min(one.low, one.cash + value), max(one.high, one.cash + value)
                one.marks += 1
        pending = self._pending[0] if self._pending else None
        if pending is None or pending["date"] != date:
            return
        if kind == CLOSE or (kind == REBASE and recorded_ns == pending["ended_ns"]):
            self._end_session(SessionEnd(date, log_id, cash, equity), marks)

    def _marks(self, text: str) -> dict[str, int]:
        return {symbol: self._price(price) for symbol, price in msgspec.json.decode(text).items()}

    def _price(self, text: str) -> int:
        micros = self._micros.get(text)
        if micros is None:
            micros = self._micros[text] = int((Decimal(text) * MICROS).to_integral_value())
        return micros

    def _on_transfer(self, row: Row) -> None:
        self._transfers += row[4]
        self._transfers_marked += row[4]
        if self._equity is not None:
            self._equity += row[4]

    def _on_seed(self, row: Row) -> None:
        self._equity = row[4]

    def _on_intent(self, row: Row) -> None:
        """Without a registry of starts, a strategy runs from its first intent until another set of it has one."""
        key = StrategyKey(row[4], row[5])
        if self._start_ns is None and key not in self._active:
            self._active = {one for one in self._active if one.strategy != key.strategy} | {key}
        self._ran.add(key)

    def _on_start(self, row: Row) -> None:
        """A start replaces what ran; within a session what ran before it ran in the session as well."""
        at_ns, key = row[3], StrategyKey(row[4], row[5])
        if at_ns != self._start_ns:
            self._start_ns, self._active = at_ns, set()
            if not any(one["open_ns"] <= at_ns < one["close_ns"] for one in self._pending[:1]):
                self._ran = set()
        self._active.add(key)
        self._ran.add(key)

    # ------------------------------------------------------------------------------------------------- sessions

    def _end_sessions_before(self, at_ns: int | None) -> None:
        """End sessions that have no closing mark: with their end, or with the next one's open. None: all that did."""
        while self._due_ns < _NEVER and (at_ns is None or at_ns >= self._due_ns):
            self._end_session(SessionEnd(self._pending[0]["date"], self.log_id, None, None), {})

    def _next_end_ns(self) -> int:
        """From when on nothing recorded is the first pending session's any more, its closing mark there or not."""
        ends = [one["ended_ns"] + 1 for one in self._pending[:1] if one["ended_ns"] is not None]
        return min([*ends, *(one["open_ns"] for one in self._pending[1:2])], default=_NEVER)

    def _end_session(self, end: SessionEnd, marks: Mapping[str, int]) -> None:
        session = self._pending.pop(0)
        self._due_ns = self._next_end_ns()
        start, moved = self._start_equity(end.date), self._transfers
        self._transfers = 0
        for key, book in self._books.items():
            if key in self._ran or book.moved or book.holding > 0 or key == ACCOUNT_KEY:
                value, pnl = self._value(book.held(), marks), None
                if value is not None:
                    pnl, book.known = book.cash + value - book.known, book.cash + value
                span = book.open_ns(session["open_ns"], session["close_ns"])
                length = session["close_ns"] - session["open_ns"]
                self.days.setdefault(key, []).append(DayResult(end.date, pnl, start, moved, span, length))
            book.moved, book.spans = False, []
        for key in sorted(self._ran - self._books.keys()):
            length = session["close_ns"] - session["open_ns"]
            self.days.setdefault(key, []).append(DayResult(end.date, 0, start, moved, 0, length))
        self._ran = set(self._active)
        self.ends.append(end)

    def _start_equity(self, date: str) -> int:
        """The account's equity at the start, with the day's transfers in it; 0 when no equity was ever known."""
        if self._date == date and self._day_start is not None:
            return self._day_start + self._transfers_marked
        return 0 if self._equity is None else self._equity

    def _book(self, key: StrategyKey) -> _Book:
        book = self._books.get(key)
        if book is None:
            book = self._books[key] = _Book()
        return book

    def _value(self, held: Mapping[str, int], marks: Mapping[str, int]) -> int | None:
        """What contracts and shares are worth, in micros; None when one has no mark."""
        total = 0
        for symbol, quantity in held.items():
            mark = marks.get(symbol)
            if mark is None:
                return None
            total += quantity * mark * self._unit(symbol)
        return total

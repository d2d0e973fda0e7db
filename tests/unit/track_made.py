"""Made track records: months of trades with every kind of row, booked by the real ledger, stored by the real writers.

Two code paths write the same rows: ``write`` in one transaction, for a hundred thousand trades, and ``Store.commit``
turn by turn. Single options and condors, several strategies and hashes, parts, scratches, expiries, trades held
overnight, closes that were not marked, deposits, breakers, operators and notes.
"""

import datetime as dt
import random
import sqlite3
from collections.abc import Iterable, Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from oracle.core.ledger import Ledger
from oracle.core.marketdata import Quote
from oracle.core.message import Message
from oracle.core.messages import (
    CashTransferred,
    EquityMarked,
    ExitPlan,
    ExitTriggered,
    Intent,
    IntentApproved,
    LadderStep,
    LatchChanged,
    LedgerSeeded,
    Leg,
    OperatorAnswered,
    OrderClosed,
    OrderFilled,
    PositionSettled,
    SessionClosed,
    SessionOpened,
    Stamped,
    SubmitOrder,
)
from oracle.core.structures import legs_of
from oracle.core.vocabulary import Ending, OrderType, Purpose, Side
from oracle.store.rows import QUERIES, WRITERS, Stamp

D = Decimal
NS = 1_000_000_000
MINUTE_NS = 60 * NS
FIRST = dt.date(2024, 1, 2)
CASH = D(1_000_000)
FEE = D("0.65")
CALL = "SPY260116C00600000"
CONDOR = "SPY:-260116C610+260116C615+260116P585-260116P590"
# (strategy, hash, symbol): the second hash of a strategy begins where the first one ends.
SETS = (
    ("opening_range_breakout", "aaaa", CALL),
    ("momentum_scalping", "bbbb", "QQQ260116C00500000"),
    ("iron_condor", "cccc", CONDOR),
)
# By which share of the entry's price (small ones: dollars) a trade ends away from it.
DRIFTS = (D("0.50"), D("0.30"), D("-0.25"), D("-0.40"), D(0), D("0.01"), D("-0.01"))
LATER = ("momentum_scalping", "b2b2", "QQQ260116P00500000")
Turns = Iterator[tuple[int, list[Message]]]


def sessions(count: int) -> list[tuple[str, int]]:
    """Weekdays with the instant of 09:30 in New York at standard time."""
    out: list[tuple[str, int]] = []
    day = FIRST
    while len(out) < count:
        if day.weekday() < 5:
            at = dt.datetime(day.year, day.month, day.day, 14, 30, tzinfo=dt.UTC)
            out.append((day.isoformat(), int(at.timestamp()) * NS))
        day += dt.timedelta(days=1)
    return out


class Maker:
    """Makes turns; ``at_ns`` never decreases."""

    def __init__(
        self, seed: int = 1, *, trades_a_session: int = 4, everything: bool = True, drifts: tuple[D, ...] = DRIFTS
    ) -> None:
        self._random = random.Random(seed)
        self._drifts = drifts
        self._everything = everything
        self._trades_a_session = trades_a_session
        self._ledger = Ledger()
        self._at_ns = 0
        self._sequence = 0
        self._made = 0
        self._peak = CASH
        self._carried: list[SubmitOrder] = []
        self.trades = 0

    def turns(self, trades: int) -> Turns:
        """Sessions until so many trades have ended, and then until nothing is held."""
        for number, (date, open_ns) in enumerate(sessions(100_000)):
            yield from self._session(number, date, open_ns, trades)
            if self.trades >= trades and not self._carried:
                return

    def _session(self, number: int, date: str, open_ns: int, trades: int) -> Turns:
        rng, close_ns = self._random, open_ns + 390 * MINUTE_NS
        self._at_ns = max(self._at_ns, open_ns)
        if number == 0:
            seed = LedgerSeeded(CASH, CASH, self._at_ns)
            yield self._turn([seed, *self._ledger.on_seeded(seed, None)])  # type: ignore[arg-type]
        self._day_start = self._equity(1)
        yield self._turn([SessionOpened(date, open_ns, close_ns), self._mark(date, "open")])
        carried, self._carried = self._carried, []
        for entry in carried:
            yield from self._leave(date, entry, expire=rng.random() < 0.3)
        if self._everything and rng.random() < 0.1:
            yield self._turn(self._transfer(date, number))
        wanted = min(self._trades_a_session, max(0, trades - self.trades))
        step = (close_ns - self._at_ns) // (wanted * 3 + 2)
        for _ in range(wanted):
            self._at_ns += step
            one = rng.choices(SETS, (4, 4, 3 if self._everything else 1))[0]
            if number >= 20 and one[1] == "bbbb":
                one = LATER
            yield from self._trade(date, one, step)
        if self._everything and rng.random() < 0.05:
            yield self._turn([LatchChanged("day_loss", True, "loss", "-3 %", "-3 %", None, self._at_ns)])
            answer = OperatorAnswered(f"r{number}", "resume", "ann", "ok", True, True, "done", {}, self._at_ns)
            yield self._turn([LatchChanged("day_loss", False, "resumed", "", "", None, self._at_ns), answer])
        self._at_ns = max(self._at_ns, close_ns)
        known = not self._everything or rng.random() > 0.03
        yield self._turn([SessionClosed(date, close_ns), *([self._mark(date, "close")] if known else [])])

    def _trade(self, date: str, one: tuple[str, str, str], step: int) -> Turns:
        rng = self._random
        strategy, strategy_hash, symbol = one
        self._made += 1
        contracts = rng.randint(1, 6)
        price = D(rng.randint(80, 260)) / 100 * (-1 if ":" in symbol else 1)
        plan = ExitPlan(0.5, 0.5, 0.3, None, None, 0 if ":" in symbol else 1, self._at_ns + 60 * MINUTE_NS)
        wish = Intent(
            f"{strategy}:{date}:{symbol}:{self._made}", strategy, strategy_hash, symbol[:3],
            (Leg(CALL, Side.BUY, 1, D("1.2"), D("1.3"), self._at_ns),), plan, 0.9, 0.8, "made", {"n": self._made},
            self._at_ns + MINUTE_NS,
        )  # fmt: skip
        risk = abs(price) * contracts * 100
        approved = IntentApproved(
            f"d{self._made}", wish.intent_id, strategy, "SPY", contracts, "planned_loss", risk / 2, risk, CASH, {}
        )
        entry = self._order(f"t{self._made}", one, Purpose.ENTRY, Side.BUY, contracts, price, plan, risk)
        out: list[Message] = [wish, approved, entry]
        self._ledger.on_submit(entry, None)  # type: ignore[arg-type]
        yield self._turn(out)
        yield self._turn([*self._fills(entry, price), *self._end(entry)])
        if self._everything and rng.random() < 0.5:
            self._at_ns += step // 2
            yield self._turn([self._mark(date, "minute")])
        self._at_ns += step
        if self._everything and rng.random() < 0.05:
            self._carried.append(entry)
        else:
            yield from self._leave(date, entry, expire=False)

    def _leave(self, date: str, entry: SubmitOrder, *, expire: bool) -> Turns:
        rng = self._random
        if expire:
            legs = [leg.symbol for leg in legs_of(entry.symbol)]
            out = list[Message]()
            for symbol in legs:
                name = f"s-{entry.trade_id}-{symbol}"
                settled = PositionSettled(
                    name, entry.trade_id, Ending.EXPIRED, symbol, entry.contracts, D(0), "SPY", 0, None, D(0),
                    "activities", (name,), self._at_ns,
                )  # fmt: skip
                out += [settled, *self._ledger.on_settled(settled, None)]  # type: ignore[arg-type]
        else:
            paid = entry.worst_price_usd or D(0)
            drift = rng.choice(self._drifts)
            price = paid + drift * (abs(paid) if abs(drift) > D("0.1") else 1)
            price = price.quantize(D("0.01"))
            rule, purpose = ("target", Purpose.TARGET) if drift > 0 else ("stop", Purpose.STOP)
            fired = ExitTriggered(entry.trade_id, rule, "seen", "limit", purpose)
            self._ledger.on_exit_triggered(fired, None)  # type: ignore[arg-type]
            one = (entry.strategy, entry.strategy_hash, entry.symbol)
            leave = self._order(entry.trade_id, one, purpose, Side.SELL, entry.contracts, price, None, D(0))
            self._ledger.on_submit(leave, None)  # type: ignore[arg-type]
            yield self._turn([fired, leave])
            out = [*self._fills(leave, price), *self._end(leave)]
        self.trades += 1
        yield self._turn([*out, self._mark(date, "trade")])

    def _order(
        self, trade: str, one: tuple[str, str, str], purpose: Purpose, side: Side, contracts: int, price: D,
        plan: ExitPlan | None, risk: D,
    ) -> SubmitOrder:  # fmt: skip
        self._sequence += 1
        strategy, strategy_hash, symbol = one
        decision = f"d{self._made}" if purpose is Purpose.ENTRY else f"exit{self._sequence}"
        mid = price - D("0.01") if self._random.random() < 0.95 else None
        return SubmitOrder(
            f"tok-x-{self._sequence:08d}", trade, decision, strategy, strategy_hash, symbol[:3], purpose, symbol, side,
            contracts, OrderType.LIMIT, (LadderStep(price, 5.0),), price, mid, self._at_ns + MINUTE_NS, plan, risk / 2,
            risk, CASH, "made", "cfg",
        )  # fmt: skip

    def _fills(self, order: SubmitOrder, price: D) -> list[Message]:
        """Executions of every leg, single options in two parts."""
        out = list[Message]()
        legs = legs_of(order.symbol)
        for number, leg in enumerate(legs):
            whole = order.contracts * leg.ratio
            parts = (1, whole - 1) if self._everything and len(legs) == 1 and whole > 1 else (whole,)
            # The first leg pays the net price, the others a dollar in and a dollar out in pairs.
            base = {0: abs(price) + 1, 1: D(1), 2: D(1), 3: D(1)}[number] if len(legs) > 1 else price
            side = leg.side if order.side is Side.BUY else leg.side.opposite
            for part, contracts in enumerate(parts):
                fill = OrderFilled(
                    f"x-{order.order_id}-{number}-{part}", order.order_id, f"{order.order_id}-1", "b", order.trade_id,
                    order.strategy, leg.symbol, side, order.purpose, contracts, base, D("0.04") * contracts,
                    FEE * contracts, self._at_ns,
                )  # fmt: skip
                out += [fill, *self._ledger.on_filled(fill, None)]  # type: ignore[arg-type]
        return out

    def _end(self, order: SubmitOrder) -> list[Message]:
        end = OrderClosed(order.order_id, order.trade_id, order.purpose, order.contracts, order.contracts, "filled")
        context: Any = SimpleNamespace(at_ns=self._at_ns)
        return [end, *self._ledger.on_order_closed(end, context)]

    def _transfer(self, date: str, number: int) -> list[Message]:
        amount = D(self._random.choice((5_000, -2_000)))
        moved = CashTransferred(f"a{number}", "CSD" if amount > 0 else "CSW", amount, date, "", self._at_ns)
        return [moved, *self._ledger.on_transferred(moved, None)]  # type: ignore[arg-type]

    def _prices(self, factor: float) -> dict[str, D]:
        cents = {p.symbol: round(float(p.avg_price_usd) * factor * 100) for p in self._ledger.positions()}
        return {symbol: D(max(n, 1)) / 100 for symbol, n in cents.items()}

    def _equity(self, factor: float) -> D:
        marks = self._prices(factor)
        return self._ledger.cash_usd + sum((p.qty * marks[p.symbol] * 100 for p in self._ledger.positions()), D(0))

    def _mark(self, date: str, kind: str) -> EquityMarked:
        factor = self._random.choice((0.6, 0.9, 1.0, 1.2, 1.5))
        equity = self._equity(factor)
        self._peak = max(self._peak, equity)
        return EquityMarked(
            date, self._at_ns, kind, self._ledger.cash_usd, equity, self._day_start, self._peak, D(0), D(0), 0,
            self._prices(factor),
        )  # fmt: skip

    def _turn(self, messages: list[Message]) -> tuple[int, list[Message]]:
        return self._at_ns, messages


def write(db: sqlite3.Connection, turns: Iterable[tuple[int, list[Message]]], log_id: int = 0) -> int:
    """Store turns with the store's own writers, in one transaction; the newest log id."""
    db.execute("BEGIN IMMEDIATE")
    for seq, (at_ns, messages) in enumerate(turns, 1):
        for message in messages:
            log_id += 1
            WRITERS[type(message)](db, message, Stamp(log_id, seq, at_ns, "opra"))
    db.execute("COMMIT")
    return log_id


def stamped(seq: int, at_ns: int) -> Stamped:
    """An input that is not durable."""
    return Stamped(seq, at_ns, Quote("SPY", at_ns, 1.0, 1, 1.1, 1))


def dump(db: sqlite3.Connection, tables: Iterable[str]) -> dict[str, list[tuple[object, ...]]]:
    """Every byte of some tables."""
    return {name: [tuple(row) for row in db.execute(QUERIES[f"derived_{name}"])] for name in tables}


# ------------------------------------------------------------------------------------------------------- many

# Columns of ids: a copy has ids of its own. Everything else that names a row is a log id, a time or a date.
_IDS = (
    "intent_id", "decision_id", "trade_id", "execution_id", "settlement_id", "activity_id", "request_id",
    "client_order_id",
)  # fmt: skip
_COPIED = (
    "sessions", "intents", "decisions", "orders", "fills", "trades", "exit_events", "position_settlements",
    "cash_transfers", "latch_events", "operator_answers", "equity_snapshots",
)  # fmt: skip
_CLOSING = (
    "closed_log_id", "closed_ns", "contracts", "entry_price_micros", "exit_price_micros", "gross_pnl_micros",
    "fees_broker_micros", "fees_modelled_micros", "slippage_micros", "slippage_bps", "exit_rule", "closed_message",
)  # fmt: skip


def multiply(db: sqlite3.Connection, copies: int) -> None:
    """Repeat everything that is stored so many times, later and later, in one transaction, as if it had been traded.

    What is stored must begin at the first session and end flat. Trades are opened and then closed, so that triggers
    see what they see of a daemon.
    """
    db.execute("BEGIN IMMEDIATE")
    first, last = db.execute("SELECT min(date), max(date) FROM sessions").fetchone()
    days = ((dt.date.fromisoformat(last) - dt.date.fromisoformat(first)).days // 7 + 1) * 7
    numbers = db.execute(QUERIES["newest_log_id"]).fetchone()[0]
    orders = db.execute("SELECT max(sequence) FROM orders").fetchone()[0]
    gain = db.execute("SELECT cash_micros FROM equity_snapshots ORDER BY log_id DESC LIMIT 1").fetchone()[0]
    gain -= db.execute("SELECT cash_micros FROM account_seed").fetchone()[0]
    for copy in range(1, copies):
        values = {"k": copy, "numbers": numbers, "orders": orders, "gain": gain, "ns": days * 86_400 * NS, "days": days}
        for table in _COPIED:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            moved = ", ".join(_moved(table, column) for column in columns)
            names = ", ".join(f'"{column}"' for column in columns)
            bound = "date <= :last" if table == "sessions" else "log_id <= :numbers AND log_id > 1"
            db.execute(
                f"INSERT INTO {table} ({names}) SELECT {moved} FROM {table} WHERE {bound}", {**values, "last": last}
            )
            if table == "trades":
                closing = ", ".join(f"{column} = {_moved('closing', column, 'o.')}" for column in _CLOSING)
                db.execute(
                    f"UPDATE trades SET {closing} FROM trades o "
                    "WHERE o.log_id <= :numbers AND trades.log_id = o.log_id + :k * :numbers", values,
                )  # fmt: skip
    db.execute("COMMIT")


def _moved(table: str, column: str, of: str = "") -> str:
    """How a column of a copy is made."""
    name = f'{of}"{column}"'
    if table == "trades" and column in _CLOSING:
        return "NULL"
    if column in ("order_id", "entry_order_id"):
        return f"'tok-x-' || printf('%08d', CAST(substr({name}, 7) AS INTEGER) + :k * :orders)"
    if column == "sequence":
        return f"{name} + :k * :orders"
    if column in _IDS:
        return f"{name} || '~' || :k"
    if column in ("log_id", "closed_log_id"):
        return f"{name} + :k * :numbers"
    if column.endswith("_ns"):
        return f"{name} + :k * :ns"
    if column == "date":
        return f"date({name}, '+' || (:k * :days) || ' days')"
    if table == "equity_snapshots" and column in ("cash_micros", "equity_micros", "day_start_equity_micros"):
        return f"{name} + :k * :gain"
    if column == "message":
        order = "'tok-x-' || printf('%08d', sequence + :k * :orders)"
        return f"json_set({name}, '$.order_id', {order}, '$.trade_id', trade_id || '~' || :k)"
    if column == "closed_message":
        return (
            f"json_set({name}, '$.trade_id', {of}trade_id || '~' || :k, "
            f"'$.opened_ns', {of}opened_ns + :k * :ns, '$.closed_ns', {of}closed_ns + :k * :ns)"
        )
    return name

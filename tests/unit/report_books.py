"""Books of some months, made through the real store: two strategies, one of them in two versions, breakers and notes.

What people or a broker wrote holds markup, so that whoever shows it must escape it.
"""

import asyncio
import datetime as dt
import random
from decimal import Decimal
from pathlib import Path

from oracle import derive
from oracle.core.marketdata import Quote
from oracle.core.message import Message
from oracle.core.messages import (
    EquityMarked,
    ExitPlan,
    FeeCharged,
    Intent,
    IntentApproved,
    LadderStep,
    LatchChanged,
    LedgerSeeded,
    Leg,
    NoteAdded,
    OperatorAnswered,
    OrderClosed,
    OrderFilled,
    SessionClosed,
    SessionOpened,
    Stamped,
    StrategyFailed,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.vocabulary import OrderType, Purpose, Side
from oracle.store import read
from oracle.store.sqlite import Store

D = Decimal
S = 1_000_000_000
MARKUP = "<script>alert('x')</script> & \"quoted\""
ORB, CONDOR = "opening_range_breakout", "iron_condor"
HASH_OLD, HASH_NEW, HASH_CONDOR = "a" * 64, "b" * 64, "c" * 64
CALL = "SPY260630C00600000"
STRUCTURE = "SPY:+260630P585-260630P590-260630C610+260630C615"
FEED = "indicative"
CASH = D(100_000)


class Books:
    """Writes sessions one after another and keeps cash."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.cash = CASH
        self.number = 0
        self.turn = 0
        self.peak = CASH

    async def put(self, at_ns: int, *messages: Message) -> None:
        """Commit one turn."""
        self.turn += 1
        await self.store.commit(messages, Stamped(self.turn, at_ns, Quote("SPY", at_ns, 600.0, 1, 600.1, 2)))

    def mark(self, date: str, at_ns: int, kind: str, start: Decimal) -> EquityMarked:
        """Equity with nothing open."""
        self.peak = max(self.peak, self.cash)
        return EquityMarked(date, at_ns, kind, self.cash, self.cash, start, self.peak, self.cash - start, D(0), 0)

    async def trade(
        self, strategy: str, hash_: str, at_ns: int, exit_cents: int, rule: str, *, slip: bool = True
    ) -> None:
        """One round trip of two units, bought at 2.00 and sold 20 minutes later."""
        self.number += 1
        n, symbol, count = self.number, CALL if strategy == ORB else STRUCTURE, 2
        flat_ns = at_ns + (600 if rule == "flat" else 7_200) * S
        plan = ExitPlan(0.5, 0.5, None, None, None, 1 if strategy == ORB else 0, flat_ns)
        leg = Leg(CALL, Side.BUY, 1, D("1.98"), D("2.02"), at_ns, 0.5, 0.2)
        wish = Intent(
            f"{strategy}:{n}", strategy, hash_, "SPY", (leg,), plan, 0.9, 0.8, "range left", {}, at_ns + 60 * S
        )
        yes = IntentApproved(
            f"d{n}", wish.intent_id, strategy, "SPY", count, "planned_loss", D(200), D(400), self.cash, {}
        )
        entry = self.order(n * 2, f"t{n}", Purpose.ENTRY, strategy, hash_, symbol, f"d{n}", plan)
        leave = self.order(n * 2 + 1, f"t{n}", Purpose.TARGET, strategy, hash_, symbol, f"e{n}", None)
        out_ns, price = at_ns + 1_200 * S, D(exit_cents) / 100
        bought = fill(entry, f"x{n}a", CALL, Side.BUY, D(2), at_ns + S)
        sold = fill(leave, f"x{n}b", CALL, Side.SELL, price, out_ns)
        gross, fees = (price - 2) * 100 * count, D("2.60")
        over = TradeClosed(
            f"t{n}", strategy, hash_, "SPY", symbol, count, at_ns + S, out_ns, D(2), price, gross, D("0.08"), fees,
            D("3.5") if slip else None, 80.5 if slip else None, rule,
        )  # fmt: skip
        opened = TradeOpened(f"t{n}", strategy, hash_, "SPY", symbol, at_ns + S)
        ends = (OrderClosed(entry.order_id, f"t{n}", Purpose.ENTRY, count, count, "filled"),)
        await self.put(at_ns, wish, yes, entry, bought, opened, *ends)
        self.cash += gross - fees
        await self.put(
            out_ns, leave, sold, OrderClosed(leave.order_id, f"t{n}", Purpose.TARGET, count, count, "filled"), over
        )

    def order(
        self, n: int, trade: str, purpose: Purpose, strategy: str, hash_: str, symbol: str, decision: str,
        plan: ExitPlan | None,
    ) -> SubmitOrder:  # fmt: skip
        """An order of two units."""
        entry = purpose is Purpose.ENTRY
        return SubmitOrder(
            f"tok-{n:06d}", trade, decision, strategy, hash_, "SPY", purpose, symbol, Side.BUY if entry else Side.SELL,
            2, OrderType.LIMIT, (LadderStep(D("2.02"), 5.0),), D("2.02"), D("2.00"), 2**62, plan,
            D(200) if entry else D(0), D(400) if entry else D(0), self.cash, "range left", "cfg",
        )  # fmt: skip


def fill(order: SubmitOrder, execution: str, symbol: str, side: Side, price: Decimal, at_ns: int) -> OrderFilled:
    """All of an order."""
    return OrderFilled(
        execution, order.order_id, f"{order.order_id}-1", "b", order.trade_id, order.strategy, symbol, side,
        order.purpose, 2, price, D("0.04"), D("1.30"), at_ns,
    )  # fmt: skip


async def _make(folder: Path, sessions: int, seed: int, derived: bool, mode: str) -> None:
    store = await Store.open(folder, mode, 1, token="tok", feed=FEED)
    books = Books(store, seed)
    day, made = dt.date(2026, 1, 5), 0
    try:
        while made < sessions:
            if day.weekday() < 5:
                await _session(books, day.isoformat(), made, sessions)
                made += 1
            day += dt.timedelta(days=1)
        if derived:
            with read.reading(folder) as db:
                rows = derive.refresh(db)
            await store.write_derived(rows)
    finally:
        await store.close()


async def _session(books: Books, date: str, made: int, sessions: int) -> None:
    open_ns = int(dt.datetime.fromisoformat(f"{date}T14:30:00+00:00").timestamp()) * S
    close_ns, start = open_ns + 23_400 * S, books.cash
    if made == 0:
        await books.put(open_ns - S, LedgerSeeded(CASH, CASH, open_ns - S))
    await books.put(open_ns, SessionOpened(date, open_ns, close_ns), books.mark(date, open_ns, "open", start))
    hash_ = HASH_OLD if made < sessions // 3 else HASH_NEW
    won = books.random.random() < 0.7
    cents = 200 + books.random.randint(40, 120) if won else 200 - books.random.randint(60, 100)
    await books.trade(ORB, hash_, open_ns + 3_600 * S, cents, "target" if won else "stop", slip=made % 5 != 0)
    if made % 2:
        rule = ("target", "orphan_leg", "flat", "sold_out", "stop")[made // 2 % 5]
        cents = 200 + books.random.randint(-130, 90)
        await books.trade(CONDOR, HASH_CONDOR, open_ns + 7_200 * S, cents, rule)
    if made == 3:
        at = open_ns + 9_000 * S
        await books.put(
            at, LatchChanged("day_loss", True, MARKUP, "-3.1 %", "-3 %", "2026-01-09", at),
            LatchChanged("drawdown", True, "10 %", "10.2 %", "10 %", None, at), StrategyFailed(CONDOR, MARKUP),
            OperatorAnswered("r1", "halt", "alice", MARKUP, True, True, "halted", {}, at),
            NoteAdded("r2", date, MARKUP, "bob", at),
            FeeCharged("fee1", "SPY", D("1.25"), "ORF", at, in_opening_cash=False),
        )  # fmt: skip
        await books.put(at + 60 * S, LatchChanged("drawdown", False, "resumed", "", "", None, at + 60 * S))
    await books.put(close_ns, SessionClosed(date, close_ns), books.mark(date, close_ns, "close", start))


def make_books(folder: Path, *, sessions: int = 45, seed: int = 1, derived: bool = True, mode: str = "sim") -> Path:
    """Make the books of so many sessions from 2026-01-05 on, a trade or two in each; returns the folder."""
    asyncio.run(_make(folder, sessions, seed, derived, mode))
    return folder

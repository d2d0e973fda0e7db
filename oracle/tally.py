"""What a run came to, counted from its turns: the figures that ``oracle demo`` prints.

Inputs: turns, and at a start the trades that the store holds open. Outputs: counts, money as Decimal. Invariant:
every figure is derived from messages; nothing is set.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from oracle.core.engine import Turn
from oracle.core.marketdata import Bar, Quote
from oracle.core.message import Message
from oracle.core.messages import (
    CashCorrected,
    EquityMarked,
    ExitTriggered,
    FeeCharged,
    IntentApproved,
    IntentRefused,
    LatchChanged,
    NoData,
    NoSignal,
    OrderFilled,
    PositionSettled,
    Reconciled,
    SessionClosed,
    SessionOpened,
    StrategyFailed,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.messages import Intent as IntentMessage
from oracle.core.money import ZERO

RECENT = 12
NEVER_NS = 2**63 - 1
SHOWN = (IntentApproved, IntentRefused, OrderFilled, PositionSettled, TradeClosed, LatchChanged, StrategyFailed)
# The exit rule of a trade that lost its balance: legs that no longer belong together.
ORPHAN = "orphan_leg"


@dataclass(slots=True)
class Day:
    """One session's comparisons of ledger and broker, those of the evening after it included."""

    compared: int = 0
    differing: int = 0
    last: tuple[str, ...] | None = None  # None: never compared
    after_close: bool = False


@dataclass(slots=True)
class Tally:
    """Counts of one run, and the last events for the live view as (at_ns, message)."""

    sessions: int = 0
    bars: int = 0
    intents: int = 0
    refusals: int = 0
    orders: int = 0
    fills: int = 0
    realized_pnl_usd: Decimal = ZERO
    fees_broker_usd: Decimal = ZERO
    fees_modelled_usd: Decimal = ZERO
    equity: EquityMarked | None = None
    refusals_by_rule: Counter[str] = field(default_factory=Counter)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    trades: list[TradeClosed] = field(default_factory=list)
    settlements: Counter[str] = field(default_factory=Counter)
    orphans: set[str] = field(default_factory=set)
    days: dict[str, Day] = field(default_factory=dict)
    open_trades: dict[str, TradeOpened] = field(default_factory=dict)
    mids: dict[str, float | None] = field(default_factory=dict)
    recent: deque[tuple[int, Message]] = field(default_factory=lambda: deque(maxlen=RECENT))
    differences: tuple[str, ...] | None = None  # None: ledger and broker were never compared
    at_ns: int = 0
    session_open_ns: int = NEVER_NS
    date: str = ""

    def restore(self, open_trades: Iterable[TradeOpened], equity: EquityMarked | None) -> None:
        """Take over the trades that were open at the start and the last known equity; counts are the run's own."""
        self.open_trades = {trade.trade_id: trade for trade in open_trades}
        self.equity = equity

    def on_turn(self, turn: Turn, _seconds: float = 0.0) -> None:
        """Count a turn."""
        stamped = turn.stamped
        self.at_ns = stamped.at_ns
        source = stamped.input
        if type(source) is Quote:
            self.mids[source.symbol] = source.mid
        elif type(source) is Bar and (not source.backfilled or source.start_ns >= self.session_open_ns):
            # A bar of this session that came by back-fill, after a reconnect, has been processed as well.
            self.bars += 1
        for message in turn.messages:
            self._count(message)
            if isinstance(message, SHOWN):
                self.recent.append((stamped.at_ns, message))

    def _count(self, message: Message) -> None:
        match message:
            case IntentMessage():
                self.intents += 1
            case IntentRefused():
                self.refusals += 1
                self.refusals_by_rule.update(r.rule for r in message.refusals)
            case SubmitOrder():
                self.orders += 1
            case OrderFilled():
                self.fills += 1
                self.fees_broker_usd += message.fees_broker_usd
            case FeeCharged() | CashCorrected():
                self._count_cash(message)
            case TradeOpened():
                self.open_trades[message.trade_id] = message
            case TradeClosed():
                self.open_trades.pop(message.trade_id, None)
                self.trades.append(message)
                self.realized_pnl_usd += message.gross_pnl_usd - message.fees_broker_usd
                self.fees_modelled_usd += message.fees_modelled_usd
            case EquityMarked():
                self.equity = message
            case SessionOpened():
                self.session_open_ns = message.open_ns
                self.date = message.date
                self.days.setdefault(message.date, Day())
            case SessionClosed():
                self.sessions += 1
                self.session_open_ns = NEVER_NS
            case NoSignal() | NoData():
                word = message.reason if isinstance(message, NoSignal) else f"no data: {message.what}"
                self.reasons[message.strategy, message.symbol] = word
            case _:
                self._count_ends(message)

    def _count_ends(self, message: Message) -> None:
        match message:
            case PositionSettled():
                self.settlements[message.ending.value] += 1
            case ExitTriggered(rule=rule) if rule == ORPHAN:
                self.orphans.add(message.trade_id)
            case Reconciled():
                self._compared(message)

    def _compared(self, compared: Reconciled) -> None:
        self.differences = compared.differences
        day = self.days.get(self.date)
        if day is not None:
            day.compared += 1
            day.differing += compared.differences != ()
            day.last = compared.differences
            day.after_close |= self.session_open_ns == NEVER_NS

    def strategies(self) -> dict[str, dict[str, Any]]:
        """Round trips of each strategy: counts, wins, P&L in dollars (net: after modelled fees), ends by rule."""
        rows: dict[str, dict[str, Any]] = {}
        for trade in self.trades:
            row = rows.setdefault(
                trade.strategy, {"trades": 0, "wins": 0, "gross_usd": ZERO, "net_usd": ZERO, "ends": Counter()}
            )
            row["trades"] += 1
            row["wins"] += trade.net_pnl_usd > 0
            row["gross_usd"] += trade.gross_pnl_usd
            row["net_usd"] += trade.net_pnl_usd
            row["ends"][trade.exit_rule] += 1
        return dict(sorted(rows.items()))

    def _count_cash(self, message: FeeCharged | CashCorrected) -> None:
        if isinstance(message, CashCorrected):
            self.realized_pnl_usd += message.amount_usd
        elif not message.in_opening_cash:
            self.fees_broker_usd += message.amount_usd
            self.realized_pnl_usd -= message.amount_usd

    def figures(self) -> dict[str, Any]:
        """The summary as JSON-able values: counts, and dollars as text with exact cents."""
        return {
            "sessions": self.sessions,
            "bars": self.bars,
            "intents": self.intents,
            "refusals": self.refusals,
            "orders": self.orders,
            "fills": self.fills,
            "trades": len(self.trades),
            "realized_pnl": _usd(self.realized_pnl_usd),
            "fees_broker": _usd(self.fees_broker_usd),
            "equity": None if self.equity is None else _usd(self.equity.equity_usd),
        }

    def outcome(self) -> dict[str, Any]:
        """How trades ended and whether the books agreed, session by session, as JSON-able values."""
        return {
            "by_strategy": {
                name: {
                    **row,
                    "gross_usd": _usd(row["gross_usd"]),
                    "net_usd": _usd(row["net_usd"]),
                    "ends": dict(sorted(row["ends"].items())),
                }
                for name, row in self.strategies().items()
            },
            "settlements": dict(sorted(self.settlements.items())),
            "orphans": len(self.orphans),
            "open_trades": sorted(self.open_trades),
            "compared": {
                date: {
                    "times": day.compared,
                    "after_close": day.after_close,
                    "differing": day.differing,
                    "differences": None if day.last is None else list(day.last),
                }
                for date, day in self.days.items()
            },
        }


def _usd(amount: Decimal) -> str:
    return f"{amount:.2f}"

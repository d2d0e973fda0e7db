"""The account's value from the ledger's cash and marks, with the day's start and the peak.

Inputs: closed trades, fees, session edges, its own timer. Output: EquityMarked. Marks are the middle of a fresh
two-sided quote, else the worse side (a long at the bid, a short at the ask); with neither there is no equity and
nothing may be entered. The peak and the day's start survive restarts through EquityMarked.
"""

from collections.abc import Iterable
from decimal import Decimal

from oracle.core.bus import HandlerTable
from oracle.core.instruments import is_option, multiplier
from oracle.core.messages import (
    EquityMarked,
    FeeCharged,
    LedgerSeeded,
    Message,
    SessionClosed,
    SessionOpened,
    SetTimer,
    TimerFired,
    TradeClosed,
)
from oracle.core.money import ZERO, price_from_float
from oracle.core.ports import ChainsView, Context, EquityView, LedgerView, MarketView
from oracle.core.sessions import MINUTE_NS, NS

MARK_TIMER = "equity:mark"


class Marks:
    """Price positions from the newest quotes. ``max_age_s``: beyond it a quote is not fresh."""

    __slots__ = ("_chains", "_market", "_max_age_ns")

    def __init__(self, market: MarketView, chains: ChainsView, max_age_s: float) -> None:
        self._market = market
        self._chains = chains
        self._max_age_ns = round(max_age_s * NS)

    def mark(self, symbol: str, quantity: int, at_ns: int) -> tuple[Decimal, bool] | None:
        """Price one unit: (dollars, whether it is stale or one-sided), or None when there is no side to mark at."""
        if is_option(symbol):
            option = self._chains.option_quote(symbol)
            if option is None:
                return None
            bid, ask, mid, seen_ns = option.bid, option.ask, option.mid, option.received_ns
        else:
            stock = self._market.quote(symbol)
            if stock is None:
                return None
            bid, ask, mid = stock.bid, stock.ask, stock.mid
            seen_ns = self._market.received_ns(symbol) or 0
        fresh = at_ns - seen_ns <= self._max_age_ns
        if mid is not None and fresh:
            return price_from_float(mid), False
        if quantity > 0:
            # A long whose bid has gone is worth nothing to a seller; the worse side is zero, and it says stale.
            return (price_from_float(bid) if bid is not None else ZERO), True
        return None if ask is None else (price_from_float(ask), True)


class EquityKeeper:
    """Day start, peak and present value."""

    __slots__ = ("_date", "_day_start", "_equity", "_ledger", "_marks", "_peak", "_realized", "_stale", "_unrealized")

    def __init__(self, ledger: LedgerView, marks: Marks) -> None:
        self._ledger = ledger
        self._marks = marks
        self._date = ""
        self._day_start: Decimal | None = None
        self._peak: Decimal | None = None
        self._equity: Decimal | None = None
        self._unrealized: Decimal | None = None
        self._realized = ZERO
        self._stale = 0

    def restore(self, last: EquityMarked | None) -> None:
        """Take the peak and the day's figures from the last mark that was stored."""
        if last is not None:
            self._date = last.date
            self._day_start = last.day_start_equity_usd
            self._peak = last.peak_equity_usd
            self._realized = last.realized_today_usd

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (LedgerSeeded, self.on_seeded),
            (SessionOpened, self.on_open),
            (SessionClosed, self.on_close),
            (FeeCharged, self.on_fee),
            (TradeClosed, self.on_trade_closed),
            (TimerFired, self.on_timer),
        )

    def view(self, at_ns: int) -> EquityView:
        """The account's value now."""
        self._revalue(at_ns)
        return EquityView(self._equity, self._day_start, self._peak, self._realized, self._unrealized, self._stale)

    def on_seeded(self, seed: LedgerSeeded, _context: Context) -> Iterable[Message]:
        """The first equity is the first peak."""
        self._peak = seed.equity_usd
        self._day_start = seed.equity_usd
        return ()

    def on_open(self, opened: SessionOpened, context: Context) -> Iterable[Message]:
        """Start the day's count, once a session; a restart within the session keeps the day's start."""
        self._revalue(context.at_ns)
        if opened.date != self._date:
            self._date = opened.date
            self._realized = ZERO
            if self._equity is not None:
                self._day_start = self._equity
        return (*self._snapshot("open", context), SetTimer(MARK_TIMER, context.at_ns + MINUTE_NS))

    def on_close(self, _closed: SessionClosed, context: Context) -> Iterable[Message]:
        """Snapshot the day's end."""
        return self._snapshot("close", context)

    def on_timer(self, timer: TimerFired, context: Context) -> Iterable[Message]:
        """Snapshot each minute of a session."""
        if timer.timer_id != MARK_TIMER or not context.in_session:
            return ()
        return (*self._snapshot("minute", context), SetTimer(MARK_TIMER, context.at_ns + MINUTE_NS))

    def on_fee(self, fee: FeeCharged, _context: Context) -> Iterable[Message]:
        """A fee of the broker is a realised loss of the day."""
        if not fee.in_opening_cash:
            self._realized -= fee.amount_usd
        return ()

    def on_trade_closed(self, closed: TradeClosed, context: Context) -> Iterable[Message]:
        """Count the day's realised P&L (gross of modelled fees, net of the broker's) and snapshot."""
        self._realized += closed.gross_pnl_usd - closed.fees_broker_usd
        return self._snapshot("trade", context)

    def _revalue(self, at_ns: int) -> None:
        if not self._ledger.seeded:
            self._equity = self._unrealized = None
            return
        value = self._ledger.cash_usd
        unrealized = ZERO
        self._stale = 0
        for position in self._ledger.positions():
            marked = self._marks.mark(position.symbol, position.qty, at_ns)
            if marked is None:
                self._equity = self._unrealized = None
                return
            price, stale = marked
            self._stale += stale
            units = position.qty * multiplier(position.symbol)
            value += price * units
            unrealized += (price - position.avg_price_usd) * units
        self._equity, self._unrealized = value, unrealized

    def _snapshot(self, kind: str, context: Context) -> tuple[EquityMarked, ...]:
        self._revalue(context.at_ns)
        if self._equity is None or self._unrealized is None or self._day_start is None or self._peak is None:
            return ()
        self._peak = max(self._peak, self._equity)
        return (
            EquityMarked(
                date=self._date,
                at_ns=context.at_ns,
                kind=kind,
                cash_usd=self._ledger.cash_usd,
                equity_usd=self._equity,
                day_start_equity_usd=self._day_start,
                peak_equity_usd=self._peak,
                realized_today_usd=self._realized,
                unrealized_usd=self._unrealized,
                marks_stale=self._stale,
            ),
        )

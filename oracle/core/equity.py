"""The account's value from the ledger's cash and marks, with the day's start and the peak.

Inputs: the seed, fills, settlements, transfers, quotes of what is held, trades, session edges, a cleared drawdown, its
own timer. Output: EquityMarked. What cannot be marked makes it unknown, and nothing may be entered. The day starts at
the open's equity when every mark is fresh, else at the last known one (the evening's). A stale mark never raises the
peak. A transfer of cash moves the start by its amount, the peak with the equity's share. Both survive restarts.
"""

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from oracle.core.bus import HandlerTable
from oracle.core.instruments import is_option, multiplier
from oracle.core.marketdata import ChainQuotes, Quote
from oracle.core.message import Message
from oracle.core.messages import (
    DRAWDOWN_LATCH,
    CashTransferred,
    EquityMarked,
    LatchChanged,
    LedgerSeeded,
    OrderFilled,
    PositionSettled,
    SessionClosed,
    SessionOpened,
    SetTimer,
    TimerFired,
    TradeClosed,
)
from oracle.core.money import MICRO, ZERO, price_from_float
from oracle.core.ports import ChainsView, Context, EquityView, LedgerView, MarketView, OptionQuote
from oracle.core.sessions import MINUTE_NS, NS, SessionTable
from oracle.core.vocabulary import Purpose

MARK_TIMER = "equity:mark"
# How long the last fresh mark stands in for a side that has gone: a moment of the market, not a price to trade on.
LAST_MARK_S = 60
# An option offered this low without a bid is worth between nothing and this: what is left of a structure's far wings.
NEARLY_NOTHING_USD = 0.10
REBASE = "rebase"


class Marks:
    """Price positions from the newest quotes: the middle when fresh, else a known worse price, never an invented one.

    A quote is as old as the older of the vendor's time and arrival. When it is older than ``max_age_s`` the worse side
    is the mark (a long at the bid, a short at the ask). When that side is absent or the quote is crossed, the last
    middle that was fresh when it arrived stands until ``LAST_MARK_S`` after its arrival, then the price is unknown.
    A long option that nobody bids for and that is offered at ``NEARLY_NOTHING_USD`` or less is then worth nothing.
    Otherwise zero is a mark only if quoted so: what has expired and is not settled has no price but its last quotes.
    Middles are remembered as quotes arrive, of held symbols alone; subscribe it after market, chains and ledger.

    Args:
        market, chains: where quotes are.
        max_age_s: beyond which a quote is not fresh.
        held: the ledger's own view of what is held, which follows it: these handlers run at every quote.
    """

    __slots__ = ("_chains", "_held", "_last", "_market", "_max_age_ns")

    def __init__(self, market: MarketView, chains: ChainsView, max_age_s: float, held: Collection[str]) -> None:
        self._market = market
        self._chains = chains
        self._held = held
        self._max_age_ns = round(max_age_s * NS)
        # A held symbol's newest middle that was fresh when it arrived, and when that was.
        self._last: dict[str, tuple[float, int]] = {}

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (Quote, self.on_quote),
            (ChainQuotes, self.on_chain_quotes),
            (OrderFilled, self.on_filled),
            (PositionSettled, self.on_settled),
        )

    def on_quote(self, quote: Quote, _context: Context) -> Iterable[Message]:
        """Remember the middle of a stock that is held."""
        if quote.symbol in self._held:
            self._remember(quote.symbol)
        return ()

    def on_chain_quotes(self, _quotes: ChainQuotes, _context: Context) -> Iterable[Message]:
        """Remember the middles of the options held."""
        for symbol in self._held:
            if is_option(symbol):
                self._remember(symbol)
        return ()

    def on_filled(self, _fill: OrderFilled, _context: Context) -> Iterable[Message]:
        """What has just been bought was quoted before it was held; what was sold is forgotten."""
        self._follow_held()
        return ()

    def on_settled(self, _settled: PositionSettled, _context: Context) -> Iterable[Message]:
        """Shares that came of a contract were quoted before; the contract is forgotten."""
        self._follow_held()
        return ()

    def _follow_held(self) -> None:
        self._last = {symbol: self._last[symbol] for symbol in self._held if symbol in self._last}
        for symbol in self._held:
            self._remember(symbol)

    def mark(self, symbol: str, quantity: int, at_ns: int) -> tuple[Decimal, bool] | None:
        """Price one unit: (dollars, whether the mark is stale), or None when it is unknown."""
        quote, received_ns = self._newest(symbol)
        if quote is None:
            return None
        mid = quote.mid
        if mid is not None and at_ns - min(quote.quoted_ns, received_ns) <= self._max_age_ns:
            return price_from_float(mid), False
        worse = quote.bid if quantity > 0 else quote.ask
        crossed = quote.bid is not None and quote.ask is not None and quote.bid > quote.ask
        if worse is not None and not crossed:
            return price_from_float(worse), True
        last = self._last.get(symbol)
        if last is not None and at_ns - last[1] <= LAST_MARK_S * NS:
            return price_from_float(last[0]), True
        if quote.bid is None and quote.ask is not None and quote.ask <= NEARLY_NOTHING_USD and is_option(symbol):
            return ZERO, at_ns - min(quote.quoted_ns, received_ns) > self._max_age_ns
        return None

    def _newest(self, symbol: str) -> tuple[Quote | OptionQuote | None, int]:
        """A symbol's newest quote and when it arrived."""
        if is_option(symbol):
            option = self._chains.option_quote(symbol)
            return option, 0 if option is None else option.received_ns
        return self._market.quote(symbol), self._market.received_ns(symbol) or 0

    def _remember(self, symbol: str) -> None:
        quote, received_ns = self._newest(symbol)
        mid = None if quote is None else quote.mid
        if quote is not None and mid is not None and received_ns - quote.quoted_ns <= self._max_age_ns:
            self._last[symbol] = (mid, received_ns)


class _Value(NamedTuple):
    """What the account is worth at a moment; None is unknown."""

    equity_usd: Decimal | None
    unrealized_usd: Decimal | None
    marks: dict[str, Decimal]
    marks_stale: int


class EquityKeeper:
    """Day start, peak and present value. Realised P&L of the day is the ledger's since the session's open."""

    __slots__ = (
        "_date", "_day_start", "_last_known", "_ledger", "_marking", "_marks", "_open_ns", "_peak", "_rebase",
    )  # fmt: skip

    def __init__(self, ledger: LedgerView, marks: Marks) -> None:
        self._ledger = ledger
        self._marks = marks
        self._date = ""
        self._open_ns = 0
        self._day_start: Decimal | None = None
        self._peak: Decimal | None = None
        self._last_known: Decimal | None = None
        self._rebase = False
        self._marking = False

    def restore(
        self,
        marks: Sequence[EquityMarked],
        seed: LedgerSeeded | None = None,
        latches: Sequence[LatchChanged] = (),
        unmarked: Iterable[CashTransferred] = (),
    ) -> None:
        """Take peak and day start from the last mark that was stored, or from the seed when there is none.

        Args:
            marks: the newest of each kind, in order.
            seed: the opening cash.
            latches: the newest change of each; a cleared drawdown that no rebase has followed is rebased yet.
            unmarked: transfers that were booked after the last mark, because equity was unknown.
        """
        rebased_ns = max((mark.at_ns for mark in marks if mark.kind == REBASE), default=-1)
        for change in latches:
            if change.latch == DRAWDOWN_LATCH and change.at_ns is not None:
                self._rebase = not change.active and change.at_ns > rebased_ns
        if marks:
            last = marks[-1]
            self._date = last.date
            self._day_start = last.day_start_equity_usd
            self._peak = last.peak_equity_usd
            self._last_known = last.equity_usd
        elif seed is not None:
            self._day_start = self._peak = self._last_known = seed.equity_usd
        for moved in unmarked:
            self._shift(moved.amount_usd, None)

    def begin(self, table: SessionTable, at_ns: int) -> None:
        """Learn which session's results are the day's, at a start between sessions or within one."""
        latest = table.latest(at_ns)
        self._open_ns = 0 if latest is None else latest.open_ns

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (LedgerSeeded, self.on_seeded),
            (SessionOpened, self.on_open),
            (SessionClosed, self.on_close),
            (OrderFilled, self.on_filled),
            (PositionSettled, self.on_settled),
            (CashTransferred, self.on_transferred),
            (TradeClosed, self.on_trade_closed),
            (LatchChanged, self.on_latch),
            (TimerFired, self.on_timer),
        )

    def view(self, at_ns: int) -> EquityView:
        """The account's value now; looking leaves no trace."""
        equity, unrealized, _, stale = self._value(at_ns)
        realized = self._ledger.realized_since(self._open_ns)
        return EquityView(equity, self._day_start, self._peak, realized, unrealized, stale)

    def on_seeded(self, seed: LedgerSeeded, _context: Context) -> Iterable[Message]:
        """The first equity is the first peak."""
        self._day_start = self._peak = self._last_known = seed.equity_usd
        return ()

    def on_open(self, opened: SessionOpened, context: Context) -> Iterable[Message]:
        """Start the day's count, once a session; a restart within the session keeps the day's start."""
        self._open_ns = opened.open_ns
        if opened.date != self._date:
            self._date = opened.date
            value = self._value(context.at_ns)
            fresh = value.equity_usd is not None and value.marks_stale == 0
            self._day_start = value.equity_usd if fresh else self._last_known
        self._marking = False
        return (*self._snapshot("open", context), *self._mark_on(context))

    def on_close(self, _closed: SessionClosed, context: Context) -> Iterable[Message]:
        """Snapshot the day's end."""
        return self._snapshot("close", context)

    def on_timer(self, timer: TimerFired, context: Context) -> Iterable[Message]:
        """Snapshot each minute of a session while something is held: what is flat has no new value."""
        if timer.timer_id != MARK_TIMER:
            return ()
        self._marking = False
        if not context.in_session or self._is_flat:
            return ()
        return (*self._snapshot("minute", context), *self._mark_on(context))

    def on_filled(self, fill: OrderFilled, context: Context) -> Iterable[Message]:
        """Snapshot what a part of an exit realised; the last part is snapshot with its trade's end."""
        partial = fill.purpose is not Purpose.ENTRY and self._ledger.trade(fill.trade_id) is not None
        marked = self._snapshot("fill", context) if partial else ()
        return (*marked, *self._mark_on(context)) if context.in_session else marked

    def on_settled(self, settled: PositionSettled, context: Context) -> Iterable[Message]:
        """Snapshot what a settlement left of a trade; its end is snapshot with the trade's."""
        marked = self._snapshot("fill", context) if self._ledger.trade(settled.trade_id) is not None else ()
        return (*marked, *self._mark_on(context)) if context.in_session else marked

    def on_transferred(self, moved: CashTransferred, context: Context) -> Iterable[Message]:
        """Cash that came or left is neither gain nor loss: what gains and losses are counted from moves with it."""
        self._shift(moved.amount_usd, self._value(context.at_ns).equity_usd)
        return self._snapshot("transfer", context)

    def on_trade_closed(self, _closed: TradeClosed, context: Context) -> Iterable[Message]:
        """Snapshot the end of a round trip."""
        return self._snapshot("trade", context)

    def on_latch(self, change: LatchChanged, context: Context) -> Iterable[Message]:
        """An operator who resumes after a drawdown starts a new peak; while equity is unknown, at its next mark."""
        if change.latch != DRAWDOWN_LATCH or change.active:
            return ()
        self._rebase = True
        return self._snapshot(REBASE, context)

    def _shift(self, amount_usd: Decimal, equity_usd: Decimal | None) -> None:
        """Move the day's start by an amount, and the peak so that the drawdown stays the share that it was.

        ``equity_usd`` is what the account is worth with the amount in it; while it is unknown the last known one stands
        in for it, as after a restart.
        """
        last = None if self._last_known is None else self._last_known + amount_usd
        after = last if equity_usd is None else equity_usd
        if self._peak is not None:
            self._peak = _moved_peak(self._peak, amount_usd, after)
        self._day_start = None if self._day_start is None else self._day_start + amount_usd
        self._last_known = last

    @property
    def _is_flat(self) -> bool:
        return self._ledger.seeded and not self._ledger.positions()

    def _mark_on(self, context: Context) -> tuple[SetTimer, ...]:
        """Arm the next minute's mark, once, while something is held or nothing is known."""
        if self._marking or self._is_flat:
            return ()
        self._marking = True
        return (SetTimer(MARK_TIMER, context.at_ns + MINUTE_NS),)

    def _value(self, at_ns: int) -> _Value:
        if not self._ledger.seeded:
            return _Value(None, None, {}, 0)
        value, unrealized, marks_stale = self._ledger.cash_usd, ZERO, 0
        marks: dict[str, Decimal] = {}
        for position in self._ledger.positions():
            marked = self._marks.mark(position.symbol, position.qty, at_ns)
            if marked is None:
                return _Value(None, None, marks, marks_stale)
            price, stale = marked
            marks_stale += stale
            marks[position.symbol] = price
            units = position.qty * multiplier(position.symbol)
            value += price * units
            unrealized += (price - position.avg_price_usd) * units
        return _Value(value, unrealized, marks, marks_stale)

    def _snapshot(self, kind: str, context: Context) -> tuple[EquityMarked, ...]:
        equity, unrealized, marks, stale = self._value(context.at_ns)
        if equity is None or unrealized is None or self._day_start is None or self._peak is None:
            return ()
        if self._rebase:
            kind, self._rebase, self._peak = REBASE, False, equity
        elif stale == 0:
            self._peak = max(self._peak, equity)
        self._last_known = equity
        return (
            EquityMarked(
                date=self._date,
                at_ns=context.at_ns,
                kind=kind,
                cash_usd=self._ledger.cash_usd,
                equity_usd=equity,
                day_start_equity_usd=self._day_start,
                peak_equity_usd=self._peak,
                realized_today_usd=self._ledger.realized_since(self._open_ns),
                unrealized_usd=unrealized,
                marks_stale=stale,
                marks=marks,
            ),
        )


def _moved_peak(peak_usd: Decimal, amount_usd: Decimal, after_usd: Decimal | None) -> Decimal:
    """The peak after a transfer, to the micro-dollar: peak x equity after / equity before.

    Of an account that is worth nothing before or after, no share is left to keep: the peak moves by the amount.
    """
    before_usd = None if after_usd is None else after_usd - amount_usd
    if after_usd is None or before_usd is None or after_usd <= 0 or before_usd <= 0:
        return peak_usd + amount_usd
    return (peak_usd * after_usd / before_usd).quantize(MICRO).normalize() + ZERO

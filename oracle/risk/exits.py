"""Enforce exit plans: judge open trades on quotes, closes and the clock, and drive one exit order at a time.

Inputs: open trades, option and stock quotes, bars, timers, ends of orders. Outputs: ExitTriggered, ExitPlanAdvanced,
CancelOrder, timers, and ``ExitWish``es that the gate turns into orders.
Invariants: an exit is never blocked by a limit, a latch or stale data; a stop or forced exit, once triggered, is
wanted until the trade is flat; a target is judged anew after each order.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec

from oracle.core.messages import (
    AccountReported,
    Bar,
    ClearTimer,
    ExitPlanAdvanced,
    ExitTriggered,
    Message,
    OrderClosed,
    Purpose,
    SetTimer,
    TradeClosed,
    TradeOpened,
)
from oracle.core.money import price_from_float
from oracle.core.ports import Context, OptionQuote, TradeView
from oracle.core.sessions import MINUTE_NS, NS
from oracle.risk.book import OrderBook
from oracle.risk.limits import LadderSettings

BREAKEVEN: Final = "breakeven"
FLAT_TIMER: Final = "risk:flat:"
RETRY_TIMER: Final = "risk:retry:"
RANK: Final = {Purpose.TARGET: 1, Purpose.STOP: 2, Purpose.FORCED: 3}


class Trigger(msgspec.Struct, frozen=True):
    """One rule of an exit plan that is met now."""

    purpose: Purpose
    rule: str
    observed: str
    limit: str


class ExitWish(msgspec.Struct, frozen=True):
    """An order that should be made now for a trade: a limit ladder for a target, a market order for the rest."""

    trade: TradeView
    trigger: Trigger


@dataclass(slots=True)
class Watch:
    """What is remembered of one open trade. ``wanted`` is the strongest exit that is due.

    ``refused_ns``: when an exit order was refused, while no account report has been seen since; ``backoff_ns``: when
    the next may leave once one has.
    """

    trade_id: str
    symbol: str
    underlying: str
    breakeven: bool = False
    wanted: Trigger | None = None
    order_id: str | None = None
    next_try_ns: int = 0
    retry_timer_ns: int = 0
    rejections: int = 0
    refused_ns: int | None = None
    backoff_ns: int = 0


def mark_usd(quote: OptionQuote, fresh: bool) -> Decimal | None:
    """Value a long option for its stop: the mid when fresh, else the worse side, which is the bid.

    Without a bid the ask, when fresh, bounds the value from above and is used: a stop then triggers only when even
    that bound is at or under it. Taking "no bid" as zero would sell a sound position at the market on one missing
    side of one quote, into no bid. A stale ask bounds nothing; then time and the underlying's level still exit.
    """
    if fresh and quote.mid is not None:
        return price_from_float(quote.mid)
    if quote.bid is not None:
        return price_from_float(quote.bid)
    return price_from_float(quote.ask) if fresh and quote.ask is not None else None


def _grown(entry_usd: Decimal, fraction: float) -> Decimal:
    return entry_usd * (1 + Decimal(repr(fraction)))


def judge_premium(trade: TradeView, quote: OptionQuote | None, fresh: bool, breakeven: bool) -> Trigger | None:
    """Judge the option's price: the stop (or the entry price, once at break-even) first, then the target by its mid."""
    if quote is None:
        return None
    entry, plan = trade.entry_price_usd, trade.exit_plan
    mark = mark_usd(quote, fresh)
    if mark is None:
        return None
    stop = entry if breakeven else _grown(entry, -plan.stop_fraction)
    if mark <= stop:
        rule = BREAKEVEN if breakeven else "stop"
        return Trigger(Purpose.STOP, rule, f"mark {mark} USD", f"{stop} USD")
    if plan.target_fraction is None or not fresh or quote.mid is None or quote.bid is None or quote.bid <= 0:
        return None
    target = _grown(entry, plan.target_fraction)
    if mark >= target:
        return Trigger(Purpose.TARGET, "target", f"mid {mark} USD", f"{target} USD")
    return None


def breakeven_due(trade: TradeView, quote: OptionQuote | None, fresh: bool) -> bool:
    """Whether the stop moves to the entry price: a fresh mid has gained enough."""
    after = trade.exit_plan.breakeven_after_fraction
    if after is None or quote is None or not fresh or quote.mid is None:
        return False
    return price_from_float(quote.mid) >= _grown(trade.entry_price_usd, after)


def judge_level(trade: TradeView, spot: float | None, quote: OptionQuote | None, fresh: bool) -> Trigger | None:
    """Judge the underlying's target by its mid. The option needs two fresh sides: they make the exit's limits."""
    target = trade.exit_plan.underlying_target
    if target is None or spot is None or not fresh or quote is None:
        return None
    if quote.mid is None or quote.bid is None or quote.bid <= 0:
        return None
    if trade.exit_plan.direction * (spot - target) >= 0:
        return Trigger(Purpose.TARGET, "underlying_target", f"{trade.underlying} {spot} USD", f"{target} USD")
    return None


def judge_close(trade: TradeView, bar: Bar) -> Trigger | None:
    """Judge the underlying's stop on a one-minute close: at the level or back inside it.

    Every close since the entry counts, back-filled ones too: a stop that was crossed while the feed was down is
    still crossed. A bar that ended before the entry says nothing.
    """
    stop = trade.exit_plan.underlying_stop
    if stop is None or bar.start_ns + MINUTE_NS <= trade.opened_ns:
        return None
    if trade.exit_plan.direction * (bar.close - stop) <= 0:
        return Trigger(Purpose.STOP, "underlying_stop", f"{bar.symbol} closed {bar.close} USD", f"{stop} USD")
    return None


def judge_time(trade: TradeView, at_ns: int) -> Trigger | None:
    """Judge the forced exit."""
    flat_ns = trade.exit_plan.flat_ns
    if at_ns < flat_ns:
        return None
    return Trigger(Purpose.FORCED, "flat", f"{(at_ns - flat_ns) / NS:.1f} s after the time to be flat", "flat by then")


class Exits:
    """The watches of all open trades."""

    __slots__ = ("_armed", "_book", "_by_underlying", "_max_age_ns", "_settings", "watches")

    def __init__(self, book: OrderBook, settings: LadderSettings, max_quote_age_s: Decimal) -> None:
        self._book = book
        self._settings = settings
        self._max_age_ns = int(max_quote_age_s * NS)
        self._by_underlying: dict[str, list[Watch]] = {}
        self._armed = True
        self.watches: dict[str, Watch] = {}

    def of(self, underlying: str) -> tuple[Watch, ...]:
        """Watches of one underlying, in order of opening."""
        return tuple(self._by_underlying.get(underlying, ()))

    @property
    def at_breakeven(self) -> frozenset[str]:
        """Trades whose stop has moved to the entry price."""
        return frozenset(watch.trade_id for watch in self.watches.values() if watch.breakeven)

    # ------------------------------------------------------------------------------------ a trade's beginning, end

    def opened(self, opened: TradeOpened, context: Context) -> Iterable[Message]:
        """Watch a trade; a fill that came after the trade's end opens it again."""
        watch = self._add(opened)
        trade = context.ledger.trade(watch.trade_id)
        return () if trade is None else (SetTimer(FLAT_TIMER + watch.trade_id, trade.exit_plan.flat_ns),)

    def closed(self, closed: TradeClosed) -> Iterable[Message]:
        """Stop watching."""
        watch = self.watches.pop(closed.trade_id, None)
        if watch is None:
            return ()
        self._by_underlying[watch.underlying].remove(watch)
        return (ClearTimer(FLAT_TIMER + watch.trade_id), ClearTimer(RETRY_TIMER + watch.trade_id))

    def restore(
        self,
        opened: Iterable[TradeOpened],
        closed: Iterable[TradeClosed],
        advanced: Iterable[ExitPlanAdvanced],
        triggered: Iterable[ExitTriggered],
    ) -> None:
        """Rebuild watches; exit orders still working come from the restored book."""
        # A late fill can open a trade again after its end, so ends are counted, not looked up.
        ends = Counter(trade.trade_id for trade in closed)
        for trade in opened:
            if ends[trade.trade_id] > 0:
                ends[trade.trade_id] -= 1
            else:
                self._add(trade)
        for step in advanced:
            if step.trade_id in self.watches:
                self.watches[step.trade_id].breakeven = True
        for exit_ in triggered:
            watch = self.watches.get(exit_.trade_id)
            if watch is not None and exit_.purpose is not Purpose.TARGET:
                self._want(watch, Trigger(exit_.purpose, exit_.rule, exit_.observed, exit_.limit))
        for record in self._book.working.values():
            watch = self.watches.get(record.order.trade_id)
            if watch is not None and record.order.purpose is not Purpose.ENTRY:
                watch.order_id = record.order.order_id
        self._armed = False

    def arm(self, context: Context) -> Iterable[Message]:
        """Set the timers of restored trades, once."""
        if self._armed:
            return ()
        self._armed = True
        trades = (context.ledger.trade(trade_id) for trade_id in self.watches)
        return [SetTimer(FLAT_TIMER + t.trade_id, t.exit_plan.flat_ns) for t in trades if t is not None]

    def _add(self, opened: TradeOpened) -> Watch:
        watch = Watch(opened.trade_id, opened.symbol, opened.underlying)
        self.watches[watch.trade_id] = watch
        self._by_underlying.setdefault(watch.underlying, []).append(watch)
        return watch

    # -------------------------------------------------------------------------------------------------- judgement

    def judge(
        self, watch: Watch, context: Context, spot: float | None = None, bar: Bar | None = None
    ) -> list[Message | ExitWish]:
        """Judge one trade on everything that is known now, and act on the strongest trigger."""
        trade = context.ledger.trade(watch.trade_id)
        if trade is None:
            return []
        out: list[Message | ExitWish] = []
        quote = context.chains.option_quote(watch.symbol)
        fresh = quote is not None and context.at_ns - min(quote.quoted_ns, quote.received_ns) <= self._max_age_ns
        if not watch.breakeven and breakeven_due(trade, quote, fresh):
            watch.breakeven = True
            out.append(ExitPlanAdvanced(watch.trade_id, BREAKEVEN))
        found = (
            judge_time(trade, context.at_ns),
            None if bar is None else judge_close(trade, bar),
            judge_premium(trade, quote, fresh, watch.breakeven),
            judge_level(trade, spot, quote, fresh),
        )
        met = [trigger for trigger in found if trigger is not None]
        strongest = max(met, key=lambda trigger: RANK[trigger.purpose]) if met else None
        return out + self._act(watch, trade, strongest, context)

    def order_made(self, trade_id: str, order_id: str, at_ns: int) -> None:
        """Remember the exit order that the gate made."""
        watch = self.watches[trade_id]
        watch.order_id, watch.refused_ns = order_id, None
        watch.next_try_ns = at_ns + round(self._settings.retry_s * NS)

    def order_closed(self, end: OrderClosed, context: Context) -> list[Message | ExitWish]:
        """Go on after an order's end: the trade's own exit, or an entry that stood in the way of an exit."""
        own = self.watches.get(end.trade_id)
        out: list[Message | ExitWish] = []
        if own is not None and own.order_id == end.order_id:
            own.order_id = None
            out += self._after_exit(own, end, context.at_ns)
        for watch in self.watches.values():
            if watch.wanted is not None:
                out += self.judge(watch, context)
        return out

    def _after_exit(self, watch: Watch, end: OrderClosed, at_ns: int) -> Iterable[Message]:
        wanted = watch.wanted
        if wanted is None or wanted.purpose is Purpose.TARGET:
            watch.wanted = None
        elif end.purpose is Purpose.TARGET:
            # The target made place for a stop: the spacing between exits is not for this.
            watch.next_try_ns = at_ns
            return ()
        if not end.end.startswith("rejected"):
            watch.rejections = 0
            return ()
        watch.rejections += 1
        settings = self._settings
        wait_s = min(settings.retry_s * 2 ** min(watch.rejections - 1, 16), settings.max_backoff_s)
        watch.refused_ns, watch.backoff_ns = at_ns, at_ns + round(wait_s * NS)
        # A fill that we have not heard of may be why. Without an account the exit is tried again all the same.
        watch.next_try_ns = at_ns + round(settings.max_backoff_s * NS)
        if wanted is None:
            return ()
        seen = f"exit order refused {watch.rejections} times in a row, {end.end}"
        limit = f"again in {wait_s:g} s, after an account report"
        return (ExitTriggered(watch.trade_id, wanted.rule, seen, limit, wanted.purpose),)

    def account_seen(self, report: AccountReported, at_ns: int) -> list[Message]:
        """Let refused exits be tried again. Never in this turn: the report's fills are booked in the course of it."""
        if report.text:
            return []
        out: list[Message] = []
        for watch in self.watches.values():
            if watch.refused_ns is None or report.at_ns < watch.refused_ns:
                continue
            watch.refused_ns = None
            watch.next_try_ns = watch.retry_timer_ns = max(watch.backoff_ns, at_ns + 1)
            out.append(SetTimer(RETRY_TIMER + watch.trade_id, watch.next_try_ns))
        return out

    def _want(self, watch: Watch, trigger: Trigger) -> bool:
        if watch.wanted is not None and RANK[trigger.purpose] <= RANK[watch.wanted.purpose]:
            return False
        watch.wanted = trigger
        return True

    def _act(
        self, watch: Watch, trade: TradeView, trigger: Trigger | None, context: Context
    ) -> list[Message | ExitWish]:
        """Take the next step towards the strongest exit: clear the way, wait, or wish for an order."""
        out: list[Message | ExitWish] = []
        own = None if watch.order_id is None else self._book.working.get(watch.order_id)
        # A sell beside a working buy of the same contract would trade with ourselves or be refused: entries go first.
        blockers = [w for w in self._book.entering() if w.order.symbol == watch.symbol]
        if own is None and not blockers and watch.wanted is not None and watch.wanted.purpose is Purpose.TARGET:
            watch.wanted = None  # it only waited for an entry's end: the quotes of now decide again
        if trigger is not None and trigger.purpose is Purpose.TARGET and not self._may_send(watch, context):
            trigger = None
        if trigger is not None and self._want(watch, trigger):
            out.append(ExitTriggered(watch.trade_id, trigger.rule, trigger.observed, trigger.limit, trigger.purpose))
            if watch.rejections:
                # A stronger exit does not sit out the back-off of a weaker one.
                watch.rejections, watch.refused_ns = 0, None
                watch.next_try_ns = min(watch.next_try_ns, context.at_ns + round(self._settings.retry_s * NS))
        wanted = watch.wanted
        if wanted is None:
            return out
        if own is not None and own.order.purpose is Purpose.TARGET and wanted.purpose is not Purpose.TARGET:
            blockers.append(own)
        out += self._book.cancel(blockers, f"exit by {wanted.rule}")
        if own is not None or blockers or trade.contracts_open <= 0:
            return out
        if self._may_send(watch, context):
            out.append(ExitWish(trade, wanted))
        elif context.in_session and watch.retry_timer_ns != watch.next_try_ns:
            watch.retry_timer_ns = watch.next_try_ns
            out.append(SetTimer(RETRY_TIMER + watch.trade_id, watch.next_try_ns))
        return out

    def _may_send(self, watch: Watch, context: Context) -> bool:
        """Whether an exit order may leave now: options trade in the session only, and exits are spaced."""
        return context.in_session and context.at_ns >= watch.next_try_ns

"""Enforce exit plans: judge open trades on quotes, closes and the clock, and drive one exit order at a time.

Inputs: open trades, option and stock quotes, bars, timers, ends of orders. Outputs: ExitTriggered, ExitPlanAdvanced,
CancelOrder, timers, and ``ExitWish``es that the gate turns into orders.
Invariants: an exit is never blocked by a limit, a latch or stale data; a stop or forced exit, once triggered, is
wanted until the trade is flat; a target is judged anew after each order; a share is scaled out once.
"""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

from oracle.core.instruments import is_option
from oracle.core.marketdata import Bar
from oracle.core.message import Message
from oracle.core.messages import (
    ClearTimer,
    ExitPlanAdvanced,
    ExitTriggered,
    ExitUnjudged,
    OrderClosed,
    PositionSettled,
    SetTimer,
    TradeClosed,
    TradeOpened,
)
from oracle.core.ports import Context, TradeView
from oracle.core.reports import AccountReported
from oracle.core.sessions import NS
from oracle.core.structures import legs_of
from oracle.core.vocabulary import Purpose
from oracle.risk.book import HOLD_BACK_NS, OrderBook
from oracle.risk.closing import LEFT_OUT, ORPHAN, closing, is_whole, judge_remains, symbols_of
from oracle.risk.limits import LadderSettings
from oracle.risk.orders import exit_ladder
from oracle.risk.triggers import (
    BREAKEVEN,
    RANK,
    SCALE_OUT,
    SCALED_OUT,
    Trigger,
    breakeven_due,
    judge_close,
    judge_level,
    judge_premium,
    judge_scale_out,
    judge_short_delta,
    judge_time,
    scale_out_contracts,
    share_is_sold,
)
from oracle.risk.watch import FLAT_TIMER, RETRY_TIMER, ExitWish, Watch
from oracle.risk.worth import held_of, worth_of


class Exits:
    """The watches of all open trades."""

    __slots__ = ("_armed", "_book", "_by_underlying", "_max_age_s", "_settings", "watches")

    def __init__(self, book: OrderBook, settings: LadderSettings, max_quote_age_s: Decimal) -> None:
        self._book = book
        self._settings = settings
        self._max_age_s = max_quote_age_s
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
            watch = self.watches.get(step.trade_id)
            if watch is not None:
                watch.breakeven = watch.breakeven or step.phase == BREAKEVEN
                watch.scaled_out = watch.scaled_out or step.phase == SCALED_OUT
        targets: dict[str, Trigger] = {}
        for exit_ in triggered:
            watch = self.watches.get(exit_.trade_id)
            trigger = Trigger(exit_.purpose, exit_.rule, exit_.observed, exit_.limit)
            if watch is not None:
                watch.leaving = True
                watch.orphaned = watch.orphaned or exit_.rule == ORPHAN
            if watch is not None and exit_.purpose is not Purpose.TARGET:
                self._want(watch, trigger)
            elif watch is not None:
                targets[exit_.trade_id] = trigger
        for record in self._book.working.values():
            watch = self.watches.get(record.order.trade_id)
            if watch is not None and record.order.purpose is not Purpose.ENTRY:
                watch.order_id = record.order.order_id
                if record.order.purpose is Purpose.TARGET and watch.trade_id in targets:
                    self._want(watch, targets[watch.trade_id])  # told already; what waits for no order is judged anew
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
        out: list[Message | ExitWish] = [*self._note_scaled_out(watch, trade)]
        worth = worth_of(trade, context, self._max_age_s)
        if not watch.breakeven and breakeven_due(trade, worth):
            watch.breakeven = True
            out.append(ExitPlanAdvanced(watch.trade_id, BREAKEVEN))
        found = (
            self._remains(watch, trade, context),
            judge_time(trade, context.at_ns),
            None if bar is None else judge_close(trade, bar),
            judge_premium(trade, worth, watch.breakeven),
            self._short_delta(watch, trade, context, out),
            judge_level(trade, spot, worth),
            None if watch.scaled_out else judge_scale_out(trade, worth),
        )
        met = [trigger for trigger in found if trigger is not None]
        strongest = max(met, key=lambda trigger: RANK[trigger.purpose]) if met else None
        if strongest is not None and strongest.purpose is Purpose.TARGET:
            wish = closing(trade, context, _units(trade, strongest))
            if wish is None or not exit_ladder(wish, trade.underlying, self._settings, context):
                strongest = None  # no limits could be made of it
        return out + self._act(watch, trade, strongest, context)

    def _remains(self, watch: Watch, trade: TradeView, context: Context) -> Trigger | None:
        """Judge a trade that is not whole. An orphan is told once, whatever exit is wanted already."""
        if is_whole(trade):
            return None
        worked = any(w.order.trade_id == trade.trade_id for w in self._book.working.values())
        found = judge_remains(trade, watch.leaving, worked, context)
        if found is None:
            return None
        if found.rule == LEFT_OUT:
            if watch.wanted is None or watch.wanted.purpose is Purpose.TARGET:
                watch.wanted = found  # not told: the exit that has left it out is the trade's reason
            return None
        if not watch.orphaned:
            watch.orphaned, watch.wanted = True, None
        return found

    def _short_delta(
        self, watch: Watch, trade: TradeView, context: Context, out: list[Message | ExitWish]
    ) -> Trigger | None:
        """Judge the short legs' deltas once a second at most: a model of the whole chain stands behind them."""
        if trade.exit_plan.short_delta_stop is None or context.at_ns - watch.delta_ns < NS:
            return None
        watch.delta_ns = context.at_ns
        shorts = [leg.symbol for leg in trade.legs if leg.qty < 0 and is_option(leg.symbol)]
        deltas = [(symbol, context.chains.delta(symbol, context.at_ns)) for symbol in shorts]
        for symbol, delta in deltas:
            if delta is None and symbol not in watch.unknown_delta:
                watch.unknown_delta.add(symbol)
                out.append(ExitUnjudged(watch.trade_id, "short_delta", f"the delta of {symbol} is unknown"))
        return judge_short_delta(trade, deltas)

    def settled(self, settled: PositionSettled, context: Context) -> list[Message]:
        """Give up an exit that works for a contract that is gone. More may end in this turn, so the next one judges."""
        watch = self.watches.get(settled.trade_id)
        if watch is None:
            return []
        working = [w for w in self._book.working.values() if w.order.trade_id == settled.trade_id]
        gone = [w for w in working if settled.symbol in symbols_of(w.order)]
        cancels = self._book.cancel(gone, f"{settled.symbol}: {settled.ending.value}")
        watch.retry_timer_ns = 0  # this timer takes the place of one that is set
        return [*cancels, SetTimer(RETRY_TIMER + watch.trade_id, context.at_ns + 1)]

    def force(self, watch: Watch, trigger: Trigger, context: Context) -> list[Message | ExitWish]:
        """Want an exit that no plan asked for, such as an operator's, and take the first step towards it."""
        trade = context.ledger.trade(watch.trade_id)
        return [] if trade is None else self._act(watch, trade, trigger, context)

    def release(self, rule: str, context: Context) -> list[Message | ExitWish]:
        """No longer want the exits that a rule has forced; an order that works goes on, and plans are judged again."""
        out: list[Message | ExitWish] = []
        for watch in self.watches.values():
            if watch.wanted is None or watch.wanted.rule != rule:
                continue
            kept, watch.wanted, watch.kept = watch.kept, None, None
            if kept is not None:
                self._want(watch, kept)
                out.append(ExitTriggered(watch.trade_id, kept.rule, kept.observed, kept.limit, kept.purpose))
            out += self.judge(watch, context)
        return out

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
            trade = context.ledger.trade(own.trade_id)
            out += () if trade is None else self._note_scaled_out(own, trade)
        for watch in self.watches.values():
            if watch.wanted is not None or (watch is own and self._is_torn(watch, context)):
                out += self.judge(watch, context)
        return out

    def _is_torn(self, watch: Watch, context: Context) -> bool:
        """Whether a trade of an entry of ours is not whole."""
        trade = context.ledger.trade(watch.trade_id)
        return trade is not None and watch.trade_id in self._book.entries and not is_whole(trade)

    def _note_scaled_out(self, watch: Watch, trade: TradeView) -> Iterable[Message]:
        """Remember for good that the share is sold, so that no later fill or restart sells it twice."""
        stopping = watch.wanted is not None and watch.wanted.purpose is not Purpose.TARGET
        if watch.scaled_out or stopping or not share_is_sold(trade):
            return ()
        watch.scaled_out = True
        return (ExitPlanAdvanced(watch.trade_id, SCALED_OUT),)

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
        if watch.wanted is not None and watch.wanted.purpose is not Purpose.TARGET:
            watch.kept = watch.wanted
        watch.wanted = trigger
        return True

    def _act(
        self, watch: Watch, trade: TradeView, trigger: Trigger | None, context: Context
    ) -> list[Message | ExitWish]:
        """Take the next step towards the strongest exit: clear the way, wait, or wish for an order."""
        out: list[Message | ExitWish] = []
        own = None if watch.order_id is None else self._book.working.get(watch.order_id)
        # A sell beside a working buy of the same contract would trade with ourselves or be refused: entries go first.
        blockers = list(self._book.entering())
        if blockers:
            symbols = {leg.symbol for leg in legs_of(watch.symbol)}.union(leg.symbol for leg in held_of(trade))
            blockers = [w for w in blockers if not symbols.isdisjoint(symbols_of(w.order))]
        if own is None and not blockers and watch.wanted is not None and watch.wanted.purpose is Purpose.TARGET:
            watch.wanted = None  # it only waited for an entry's end: the quotes of now decide again
        if trigger is not None and trigger.purpose is Purpose.TARGET and not self._may_send(watch, context):
            trigger = None
        if trigger is not None and self._want(watch, trigger):
            watch.leaving = True
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
        asked = self._book.cancel(blockers, f"exit by {wanted.rule}")
        blockers = [w for w in blockers if w is own or self._book.holds_back(w, context.at_ns)]
        if asked:
            out += (*asked, SetTimer(RETRY_TIMER + watch.trade_id, context.at_ns + HOLD_BACK_NS))
        wish = None if own is not None or blockers else closing(trade, context, _units(trade, wanted))
        if wish is None:
            return out
        if self._may_send(watch, context):
            out.append(ExitWish(trade, wanted, wish))
        elif context.in_session and watch.retry_timer_ns != watch.next_try_ns:
            watch.retry_timer_ns = watch.next_try_ns
            out.append(SetTimer(RETRY_TIMER + watch.trade_id, watch.next_try_ns))
        return out

    def _may_send(self, watch: Watch, context: Context) -> bool:
        """Whether an exit order may leave now: options trade in the session only, and exits are spaced."""
        return context.in_session and context.at_ns >= watch.next_try_ns


def _units(trade: TradeView, trigger: Trigger) -> int:
    """How many units an exit is for: what is left of the share to scale out, or all."""
    return scale_out_contracts(trade) if trigger.rule == SCALE_OUT else trade.contracts_open

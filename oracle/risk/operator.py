"""What an operator's request does to risk, and how it is confirmed from the broker's own records.

Inputs: OperatorRequested, account reports, reconciles, its own timer. Outputs: latches, forced exits, account reads,
adoptions for the gate to turn into orders, and OperatorAnswered. Invariants: a halt is never hindered; "confirmed" is
said only of what a broker's report shows; every request gets exactly one answer that is done.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from oracle.core.control import (
    AdoptOrder,
    AdoptPosition,
    Flatten,
    Halt,
    Reconcile,
    Resume,
    Switch,
    action_of,
)
from oracle.core.instruments import multiplier
from oracle.core.messages import (
    AccountReported,
    ForeignExecution,
    LedgerSeeded,
    Message,
    OperatorAnswered,
    OperatorRequested,
    OrderClosed,
    Purpose,
    ReadAccount,
    Reconciled,
    SetTimer,
    TimerFired,
    TradeOpened,
)
from oracle.core.money import ZERO
from oracle.core.ports import Context
from oracle.core.sessions import MINUTE_NS, NS
from oracle.risk.adoption import MICRO, Adoption, AdoptWish, Foreign, opening, plan_adoption
from oracle.risk.book import OrderBook
from oracle.risk.exits import Exits, ExitWish, Watch
from oracle.risk.halts import DAY_LOSS, OPERATOR, STRATEGY_DISABLED, Halts
from oracle.risk.pictures import Picture, is_ours, records
from oracle.risk.triggers import Trigger

POLL_TIMER: Final = "operator:poll"
POLL_NS: Final = NS // 2
GIVE_UP_NS: Final = 10 * NS
FLAT_GIVE_UP_NS: Final = 60 * NS
LOOK_BACK_NS: Final = 10 * MINUTE_NS
NO_PRICE: Final = "the broker's equity or cash is unknown; try again"


Step = Message | ExitWish | AdoptWish


@dataclass(slots=True)
class Pending:
    """A request that waits for the broker's records. ``asked_at`` counts the reports seen when a read was asked for."""

    request: OperatorRequested
    deadline_ns: int
    asked_at: int | None = None
    adopted: bool = False


def answered(
    request: OperatorRequested, at_ns: int, ok: bool, text: str, facts: Picture | None = None, done: bool = True
) -> OperatorAnswered:
    """Build an answer."""
    action = action_of(request.ask)
    return OperatorAnswered(request.request_id, action, request.who, request.why, ok, done, text, facts or {}, at_ns)


@dataclass(slots=True)
class Operator:
    """The gate's part that serves people. ``token`` begins every order id of ours; ``strategies`` are configured."""

    book: OrderBook
    halts: Halts
    exits: Exits
    token: str
    strategies: tuple[str, ...]
    foreign: Foreign = field(default_factory=Foreign)
    _pending: list[Pending] = field(default_factory=list)
    _report: AccountReported | None = None
    _reports: int = 0

    def restore(self, foreign: Iterable[ForeignExecution], settled: Iterable[str]) -> None:
        """Rebuild what is known of others' executions."""
        self.foreign.settle(settled)
        for execution in foreign:
            self.foreign.heard(execution)

    # ------------------------------------------------------------------------------------------------- requests

    def on_request(self, request: OperatorRequested, context: Context) -> list[Step]:
        """Act on a request at once; what needs the broker's records is answered when they are read."""
        at_ns = context.at_ns
        match request.ask:
            case Halt():
                return [*self._halt(request, at_ns), *self._wait(request, GIVE_UP_NS, context)]
            case Flatten():
                return self._flatten(request, context)
            case Resume(latch=latch):
                return self._resume(request, latch, at_ns)
            case Switch(strategy=strategy, enabled=enabled):
                return self._switch(request, strategy, enabled, at_ns)
            case Reconcile() | AdoptPosition():
                return self._wait(request, GIVE_UP_NS, context)
            case AdoptOrder(client_order_id=name):
                orders = () if self._report is None else self._report.open_orders
                others = [o.client_order_id for o in orders if not is_ours(o.client_order_id, self.token)]
                if name not in others:
                    text = f"no open order {name} of others is known; open are: {', '.join(others) or 'none'}"
                    return [answered(request, at_ns, False, text, {"orders": others})]
                return self._wait(request, GIVE_UP_NS, context)
            case _:
                return []  # the runner evaluates; the gate answers what it says

    def _halt(self, request: OperatorRequested, at_ns: int) -> list[Step]:
        entries = [record.order.order_id for record in self.book.entering()]
        text = f"halted; {len(entries)} working entries are being taken back"
        facts = {"entries": entries, "already": OPERATOR in self.halts.active}
        set_ = self.halts.by_operator(OPERATOR, request.who, request.why, at_ns)
        # A latch that is set already has taken entries back once; whatever still works is asked for again.
        again = self.book.cancel(self.book.entering(), "operator") if not set_ else []
        return [*set_, *again, answered(request, at_ns, True, text, facts, done=False)]

    def _flatten(self, request: OperatorRequested, context: Context) -> list[Step]:
        out = self._halt(request, context.at_ns)
        waiting = self._wait(request, FLAT_GIVE_UP_NS, context)
        for watch in tuple(self.exits.watches.values()):
            out += self._force(request, watch, context)
        if self.exits.watches and not context.in_session:
            self._pending = [p for p in self._pending if p.request is not request]
            text = f"halted; options trade in the session only: {len(self.exits.watches)} exits leave at the next open"
            return [*out, answered(request, context.at_ns, False, text, self._shown(context))]
        return [*out, *waiting]

    def _force(self, request: OperatorRequested, watch: Watch, context: Context) -> list[Step]:
        trigger = Trigger(Purpose.FORCED, OPERATOR, f"{request.who}: {request.why}", "flat now")
        return [*self.exits.force(watch, trigger, context)]

    def _resume(self, request: OperatorRequested, latch: str | None, at_ns: int) -> list[Step]:
        clearable = self.halts.clearable
        names = clearable if latch is None else (latch,)
        if latch is not None and latch not in clearable:
            set_ = ", ".join(clearable) or "none"
            text = f"{latch} is not set; an operator can clear: {set_}"
            if latch == DAY_LOSS and latch in self.halts.active:
                text = f"{DAY_LOSS} stands until the next session opens; nobody can clear it"
            elif latch in self.halts.active:
                text = f"{latch} is a switch: enable the strategy instead"
            return [answered(request, at_ns, False, text, {"set": sorted(self.halts.active)})]
        out: list[Step] = []
        for name in names:
            out += self.halts.clear(name, request.who, request.why, at_ns)
        left = sorted(self.halts.active)
        text = f"cleared: {', '.join(names) or 'nothing was set that an operator can clear'}"
        text += f"; still set: {', '.join(left)}" if left else f"; trading is {self.halts.state.value}"
        facts = {"cleared": list(names), "set": left, "state": self.halts.state.value}
        return [*out, answered(request, at_ns, True, text, facts)]

    def _switch(self, request: OperatorRequested, strategy: str, enabled: bool, at_ns: int) -> list[Step]:
        if strategy not in self.strategies:
            text = f"no strategy {strategy} is configured; there are: {', '.join(self.strategies)}"
            return [answered(request, at_ns, False, text, {"strategies": list(self.strategies)})]
        latch = STRATEGY_DISABLED + strategy
        change = self.halts.clear if enabled else self.halts.by_operator
        changed = change(latch, request.who, request.why, at_ns)
        word = "enabled" if enabled else "disabled"
        text = f"{strategy} is {word}" if changed else f"{strategy} was {word} already"
        text += "" if enabled else ": no entries; exits of its open trades go on"
        if enabled and self.halts.failed(strategy):
            text += f"; it has failed and stays halted until: oracle resume --latch strategy_failed:{strategy}"
        return [*changed, answered(request, at_ns, True, text, {"strategy": strategy, "enabled": enabled})]

    # -------------------------------------------------------------------------------------- the broker's records

    def _wait(self, request: OperatorRequested, give_up_ns: int, context: Context) -> list[Step]:
        pending = Pending(request, context.at_ns + give_up_ns)
        self._pending.append(pending)
        return [*self._look([pending], context), SetTimer(POLL_TIMER, context.at_ns + POLL_NS)]

    def _look(self, pending: Iterable[Pending], context: Context) -> list[Step]:
        """Ask for one account read for all that are ready for it; entries that still work would only show."""
        ready = [p for p in pending if p.asked_at is None and self._is_ready(p, context)]
        for one in ready:
            one.asked_at = self._reports
        if not ready:
            return []
        why = ", ".join(action_of(p.request.ask) for p in ready)
        return [ReadAccount(max(0, context.at_ns - LOOK_BACK_NS), f"operator: {why}")]

    def _is_ready(self, pending: Pending, context: Context) -> bool:
        match pending.request.ask:
            case Halt():
                return next(iter(self.book.entering()), None) is None
            case Flatten():
                return not self.book.working and not context.ledger.open_trades()
            case _:
                return True

    def on_timer(self, timer: TimerFired, context: Context) -> list[Step]:
        """Look again, or give up waiting and say what is not confirmed."""
        if timer.timer_id != POLL_TIMER or not self._pending:
            return []
        out: list[Step] = []
        for late in [p for p in self._pending if context.at_ns >= p.deadline_ns]:
            self._pending.remove(late)
            text = "not confirmed by the broker's records in time; look with: oracle reconcile"
            if isinstance(late.request.ask, Flatten):
                text += ", or close everything at the broker with: oracle flatten --direct"
            out.append(answered(late.request, context.at_ns, False, text, self._shown(context)))
        for pending in self._pending:
            if pending.asked_at is not None and self._reports > pending.asked_at:
                pending.asked_at = None  # the report came, but was too old to be compared with
        again: list[Step] = [SetTimer(POLL_TIMER, context.at_ns + POLL_NS)] if self._pending else []
        return [*out, *self._look(self._pending, context), *again]

    def on_order_closed(self, _end: OrderClosed, context: Context) -> list[Step]:
        """What a request waited for may be over: look at once."""
        return self._look(self._pending, context) if self._pending else []

    def on_trade_opened(self, opened: TradeOpened, context: Context) -> list[Step]:
        """An entry that filled before its cancel arrived is closed as well while a flatten is under way."""
        flattening = next((p.request for p in self._pending if isinstance(p.request.ask, Flatten)), None)
        watch = self.exits.watches.get(opened.trade_id)
        return [] if flattening is None or watch is None else self._force(flattening, watch, context)

    def on_report(self, report: AccountReported, context: Context) -> list[Step]:
        """Judge what waits for a report; a failed read is asked for again at the next poll."""
        if not report.text:
            self._report = report
            self._reports += 1
        out: list[Step] = []
        for pending in tuple(self._pending):
            if pending.asked_at is None:
                continue
            if report.text:
                pending.asked_at = None
            elif self._reports > pending.asked_at:
                out += self._judge(pending, report, context)
        return out

    def _judge(self, pending: Pending, report: AccountReported, context: Context) -> list[Step]:
        request, left, facts = pending.request, self._ours_open(report), self._shown(context)
        text = ""
        match request.ask:
            case Halt() if not [name for name in left if not self._is_exit(name)]:
                text = "halted; the broker shows no working entry of ours"
            case Flatten() if not left and not report.positions:
                text = "halted and flat; the broker shows no position and no order of ours"
            case Flatten() if not left and not context.ledger.positions():
                self._pending.remove(pending)
                held = ", ".join(p.symbol for p in report.positions)
                text = f"our trades are closed, but the broker holds {held}: adopt, or run: oracle flatten --direct"
                return [answered(request, context.at_ns, False, text, facts)]
            case AdoptOrder(client_order_id=name) if name not in {o.client_order_id for o in report.open_orders}:
                text = f"{name} is no longer open at the broker; what it filled can be adopted by its contract"
            case Reconcile() | AdoptPosition() if not context.ledger.seeded:
                return self._unseeded(pending, report, context)
            case Reconcile() | AdoptPosition():
                return []  # the comparison comes later in this turn
        if not text:
            pending.asked_at = None
            return []
        self._pending.remove(pending)
        return [answered(request, context.at_ns, True, text, {"confirmed": True, **facts})]

    def on_reconciled(self, result: Reconciled, context: Context) -> list[Step]:
        """Answer with the comparison, or adopt now that everything that was executed has been heard."""
        out: list[Step] = []
        for pending in tuple(self._pending):
            ask = pending.request.ask
            fresh = pending.asked_at is not None and self._reports > pending.asked_at
            if not fresh or not isinstance(ask, Reconcile | AdoptPosition):
                continue
            if isinstance(ask, AdoptPosition) and not pending.adopted:
                out += self._adopt(pending, ask, context)
                continue
            self._pending.remove(pending)
            facts = {**self._shown(context), "differences": list(result.differences)}
            agreed = "ledger and broker agree"
            text = agreed if not result.differences else f"{len(result.differences)} differences"
            if pending.adopted:
                text = f"adopted {', '.join(ask.symbols)}; {text}" if isinstance(ask, AdoptPosition) else text
            out.append(answered(pending.request, context.at_ns, not result.differences, text, facts))
        return out

    # ------------------------------------------------------------------------------------------------- adoptions

    def _adopt(self, pending: Pending, ask: AdoptPosition, context: Context) -> list[Step]:
        report = self._report
        if report is None or report.equity_usd is None:
            self._pending.remove(pending)
            return [answered(pending.request, context.at_ns, False, NO_PRICE)]
        held = {p.symbol: p.qty for p in report.positions}
        found = [
            plan_adoption(s, self.foreign.of(s), held.get(s, ZERO), ask, self.book, context)
            for s in dict.fromkeys(ask.symbols)
        ]
        return self._carry_out(pending, found, report.equity_usd, context)

    def _unseeded(self, pending: Pending, report: AccountReported, context: Context) -> list[Step]:
        """The account held something before the books began: adopting all of it lets them begin."""
        request, ask = pending.request, pending.request.ask
        if not report.positions and not report.open_orders:
            return []  # this very report lets the books begin, later in this turn
        if isinstance(ask, Reconcile):
            self._pending.remove(pending)
            text = "the account holds positions or orders that are not ours; adopt or close them"
            return [answered(request, context.at_ns, False, text, self._shown(context))]
        if not isinstance(ask, AdoptPosition):
            return []
        orders = [o.client_order_id for o in report.open_orders]
        missing = [p.symbol for p in report.positions if p.symbol not in ask.symbols]
        if orders or missing:
            self._pending.remove(pending)
            text = "the books begin with everything adopted at once: "
            text += f"cancel {', '.join(orders)} first" if orders else f"name {', '.join(missing)} as well"
            return [answered(request, context.at_ns, False, text, self._shown(context))]
        if report.cash_usd is None or report.equity_usd is None:
            self._pending.remove(pending)
            return [answered(request, context.at_ns, False, NO_PRICE)]
        found = [
            plan_adoption(p.symbol, opening(request.request_id, p), p.qty, ask, self.book, context)
            for p in report.positions
        ]
        paid = sum(
            (p.qty * p.avg_entry_price_usd.quantize(MICRO) * multiplier(p.symbol) for p in report.positions), ZERO
        )
        # As if they had been bought from it: then the fold over fills gives the broker's cash again.
        seed = LedgerSeeded(report.cash_usd + paid, report.equity_usd, context.at_ns)
        return self._carry_out(pending, found, report.equity_usd, context, seed)

    def _carry_out(
        self,
        pending: Pending,
        found: list[Adoption | str],
        equity_usd: Decimal,
        context: Context,
        seed: LedgerSeeded | None = None,
    ) -> list[Step]:
        """Adopt all or nothing, then look whether the books agree."""
        request = pending.request
        refused = [reason for reason in found if isinstance(reason, str)]
        if refused:
            self._pending.remove(pending)
            return [answered(request, context.at_ns, False, "; ".join(refused), self._shown(context))]
        pending.adopted, pending.asked_at = True, None
        first: list[Step] = [] if seed is None else [seed]
        wish = AdoptWish(request, tuple(a for a in found if isinstance(a, Adoption)), equity_usd)
        for one in wish.adoptions:
            self.foreign.settle(one.covers)
        text = f"adopting {', '.join(a.symbol for a in wish.adoptions)}"
        told = answered(request, context.at_ns, True, text, done=False)
        return [*first, wish, told, *self._look([pending], context)]

    def on_seeded(self) -> None:
        """What others executed before is in the opening cash."""
        self.foreign.seeded(self._report)

    # -------------------------------------------------------------------------------------------------- pictures

    def _ours_open(self, report: AccountReported) -> list[str]:
        return [o.client_order_id for o in report.open_orders if is_ours(o.client_order_id, self.token)]

    def _is_exit(self, client_order_id: str) -> bool:
        record = self.book.working.get(client_order_id.rpartition("-")[0])
        return record is not None and record.order.purpose is not Purpose.ENTRY

    def _shown(self, context: Context) -> Picture:
        return records(self._report, context.ledger, self.foreign.unsettled.values(), self.token)

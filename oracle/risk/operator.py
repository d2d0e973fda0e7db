"""What an operator's request does to risk, and how it is confirmed from the broker's own records.

Inputs: OperatorRequested, account reports, reconciles, its own timer. Outputs: latches, forced exits, account reads,
adoptions for the gate to turn into orders, and OperatorAnswered. Invariants: a halt is never hindered; "confirmed" is
said only of what a report shows that was read after the request; every request gets exactly one answer that is done,
after a restart if need be; what acts or waits is on record before its first effect leaves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from oracle.core.control import (
    BACKTEST,
    END_OF_DATA,
    AdoptOrder,
    AdoptPosition,
    Flatten,
    Halt,
    Reconcile,
    Resume,
    Switch,
    action_of,
)
from oracle.core.foreign import Foreign
from oracle.core.message import Message
from oracle.core.messages import (
    ExitTriggered,
    ForeignExecution,
    OperatorAnswered,
    OperatorRequested,
    OrderClosed,
    ReadAccount,
    Reconciled,
    SetTimer,
    TimerFired,
    TradeOpened,
)
from oracle.core.ports import Context
from oracle.core.reports import AccountReported
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Purpose
from oracle.risk.adoption import AdoptWish
from oracle.risk.book import REPORT_LAG_NS, OrderBook
from oracle.risk.exits import Exits
from oracle.risk.halts import DAY_LOSS, FLATTEN, OPERATOR, STRATEGY_DISABLED, Halts
from oracle.risk.pictures import Picture, is_ours, records
from oracle.risk.requests import Pending, answered, interrupted, is_flatten, left_undone, poll_ns
from oracle.risk.takeover import Takeover, take_everything, take_executions
from oracle.risk.triggers import Trigger
from oracle.risk.watch import ExitWish, Watch

POLL_TIMER: Final = "operator:poll"
GIVE_UP_NS: Final = 10 * NS
FLAT_GIVE_UP_NS: Final = 60 * NS
LOOK_BACK_NS: Final = 10 * MINUTE_NS


Step = Message | ExitWish | AdoptWish


@dataclass(slots=True)
class Operator:
    """The gate's part that serves people. ``token`` begins every order id of ours; ``strategies`` are configured.

    ``reading`` counts the account reads whose report has not come, ``filled_ns`` is the time of our last fill.
    """

    book: OrderBook
    halts: Halts
    exits: Exits
    token: str
    strategies: tuple[str, ...]
    foreign: Foreign = field(default_factory=Foreign)
    reading: int = 0
    filled_ns: int = 0
    _pending: list[Pending] = field(default_factory=list)
    _undone: list[OperatorAnswered] = field(default_factory=list)
    _report: AccountReported | None = None

    def restore(
        self, foreign: Iterable[ForeignExecution], settled: Iterable[str], answers: Iterable[OperatorAnswered] = ()
    ) -> None:
        """Rebuild what is known of others' executions, and which requests were left without their last answer."""
        self.foreign.settle(settled)
        for execution in foreign:
            self.foreign.heard(execution, 0)
        self._undone = left_undone(answers)

    def standing(self, exits: Sequence[ExitTriggered]) -> list[ExitTriggered]:
        """The exits that are still wanted: those of a flatten only as long as its latch is set."""
        return [exit_ for exit_ in exits if exit_.rule != OPERATOR or FLATTEN in self.halts.active]

    def on_start(self, context: Context) -> list[Step]:
        """After a restart: answer what was left undone, and go on with a flatten."""
        undone, self._undone = self._undone, []
        out: list[Step] = []
        for early in undone:
            stands = is_flatten(early.action) and FLATTEN in self.halts.active
            out.append(interrupted(early, context.at_ns, stands))
        for watch in tuple(self.exits.watches.values()):
            trade = context.ledger.trade(watch.trade_id)
            if trade is not None and trade.strategy != OPERATOR and watch.wanted is None:
                out += self._force(watch, context)
        return out

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
                return self._resume(request, latch, context)
            case Switch(strategy=strategy, enabled=enabled):
                return self._switch(request, strategy, enabled, at_ns)
            case AdoptPosition(symbols=symbols):
                other = next((p for p in self._pending if isinstance(p.request.ask, AdoptPosition)), None)
                if other is not None:
                    text = f"an adoption by {other.request.who} is under way; try again when it has been answered"
                    return [answered(request, at_ns, False, text)]
                return self._begin(request, f"looking what there is to adopt in {', '.join(symbols)}", context)
            case Reconcile():
                return self._begin(request, "reading the account", context)
            case AdoptOrder(client_order_id=name):
                orders = () if self._report is None else self._report.open_orders
                others = [o.client_order_id for o in orders if not is_ours(o.client_order_id, self.token)]
                if name not in others:
                    text = f"no open order {name} of others is known; open are: {', '.join(others) or 'none'}"
                    return [answered(request, at_ns, False, text, {"orders": others})]
                return self._begin(request, f"asking the broker to cancel {name}", context)
            case _:
                return []  # the runner evaluates; the gate answers what it says

    def _begin(self, request: OperatorRequested, text: str, context: Context) -> list[Step]:
        """Put on record what is about to be done, then wait for the broker."""
        early = answered(request, context.at_ns, True, text, done=False)
        return [early, *self._wait(request, GIVE_UP_NS, context)]

    def _halt(self, request: OperatorRequested, at_ns: int) -> list[Step]:
        entries = [record.order.order_id for record in self.book.entering()]
        text = f"halted; {len(entries)} working entries are being taken back"
        facts = {"entries": entries, "already": OPERATOR in self.halts.active}
        set_ = self.halts.by_operator(OPERATOR, request.who, request.why, at_ns)
        # A latch that is set already has asked for cancels once, which the desk pursues; this asks for the others.
        rest = self.book.cancel(self.book.entering(), "operator") if not set_ else []
        return [*set_, *rest, answered(request, at_ns, True, text, facts, done=False)]

    def _flatten(self, request: OperatorRequested, context: Context) -> list[Step]:
        out = self._halt(request, context.at_ns)
        # The latch makes it last: over its own time limit and over restarts, until a resume.
        out += self.halts.by_operator(FLATTEN, request.who, request.why, context.at_ns)
        for watch in tuple(self.exits.watches.values()):
            out += self._force(watch, context)
        if self.exits.watches and not context.in_session:
            text = f"halted; options trade in the session only: {len(self.exits.watches)} exits leave at the next open"
            text += ", unless oracle resume takes them back"
            return [*out, answered(request, context.at_ns, False, text, self._shown(context))]
        return [*out, *self._wait(request, FLAT_GIVE_UP_NS, context)]

    def _force(self, watch: Watch, context: Context) -> list[Step]:
        """Want a trade flat, as long as a flatten stands."""
        latch = self.halts.active.get(FLATTEN)
        if latch is None:
            return []
        rule = END_OF_DATA if latch.reason == f"{BACKTEST}: {END_OF_DATA}" else OPERATOR
        return [*self.exits.force(watch, Trigger(Purpose.FORCED, rule, latch.reason, "flat now"), context)]

    def _resume(self, request: OperatorRequested, latch: str | None, context: Context) -> list[Step]:
        clearable, at_ns = self.halts.clearable, context.at_ns
        names = clearable if latch is None else (latch,)
        if latch is not None and latch not in clearable:
            set_ = ", ".join(clearable) or "none"
            text = f"{latch} is not set; an operator can clear: {set_}"
            if latch == DAY_LOSS and latch in self.halts.active:
                text = f"{DAY_LOSS} stands until the next session opens; nobody can clear it"
            elif latch in self.halts.active:
                text = f"{latch} is a switch: enable the strategy instead"
            return [answered(request, at_ns, False, text, {"set": sorted(self.halts.active)})]
        if latch == OPERATOR and FLATTEN in clearable:
            names = (FLATTEN, OPERATOR)
        out: list[Step] = []
        for name in names:
            out += self.halts.clear(name, request.who, request.why, at_ns)
        out += self._supersede(names, request, context)
        left = sorted(self.halts.active)
        text = f"cleared: {', '.join(names) or 'nothing was set that an operator can clear'}"
        text += f"; still set: {', '.join(left)}" if left else f"; trading is {self.halts.state.value}"
        if FLATTEN in names:
            text += "; the flatten's exits that have not left yet are taken back"
        facts = {"cleared": list(names), "set": left, "state": self.halts.state.value}
        return [*out, answered(request, at_ns, True, text, facts)]

    def _supersede(self, cleared: Iterable[str], request: OperatorRequested, context: Context) -> list[Step]:
        """End what a resume undoes: requests that wait for their confirmation, and exits that have not left."""
        out: list[Step] = []
        over = {OPERATOR: Halt, FLATTEN: Flatten}
        for name in cleared:
            for pending in [p for p in self._pending if name in over and isinstance(p.request.ask, over[name])]:
                self._pending.remove(pending)
                text = f"superseded by a resume of {request.who}, not confirmed"
                out.append(answered(pending.request, context.at_ns, False, text))
        return [*out, *self.exits.release(OPERATOR, context)] if FLATTEN in cleared else out

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
        pending = Pending(request, context.at_ns, context.at_ns + give_up_ns)
        self._pending.append(pending)
        return [*self._look([pending], context), SetTimer(POLL_TIMER, poll_ns(self._pending, context.at_ns))]

    def _look(self, pending: Iterable[Pending], context: Context) -> list[Step]:
        """Ask for one account read for all that are ready for it; entries that still work would only show."""
        ready = [p for p in pending if p.behind is None and self._is_ready(p, context)]
        for one in ready:
            # The broker's reads are answered in order, so those under way are the next reports to come.
            one.behind = self.reading
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
            text = self._unconfirmed(late, context)
            out.append(answered(late.request, context.at_ns, False, text, self._shown(context)))
        for pending in self._pending:
            if pending.fresh:  # its report came, but was too old to be compared with
                pending.behind, pending.fresh = None, False
        again = [SetTimer(POLL_TIMER, poll_ns(self._pending, context.at_ns))] if self._pending else []
        return [*out, *self._look(self._pending, context), *again]

    def _unconfirmed(self, pending: Pending, context: Context) -> str:
        """Say what a request that has waited long enough did not come to."""
        report = self._report
        if not isinstance(pending.request.ask, Flatten):
            return "not confirmed by the broker's records in time; look with: oracle reconcile"
        settled = report is not None and report.at_ns >= max(pending.since_ns, self.filled_ns + REPORT_LAG_NS)
        if report is not None and settled and report.positions and not context.ledger.positions():
            held = ", ".join(p.symbol for p in report.positions)
            return f"our trades are closed, but the broker holds {held}: adopt, or run: oracle flatten --direct"
        text = "not confirmed by the broker's records in time; what opens is still closed until oracle resume"
        return f"{text}; look with: oracle reconcile, or close everything at the broker with: oracle flatten --direct"

    def on_order_closed(self, _end: OrderClosed, context: Context) -> list[Step]:
        """What a request waited for may be over: look at once."""
        return self._look(self._pending, context) if self._pending else []

    def on_trade_opened(self, opened: TradeOpened, context: Context) -> list[Step]:
        """An entry that filled before its cancel arrived, or was in doubt, is closed as well.

        What a person adopts after the flatten keeps the exit plan that was given with it.
        """
        watch = self.exits.watches.get(opened.trade_id)
        return [] if watch is None or opened.strategy == OPERATOR else self._force(watch, context)

    def on_report(self, report: AccountReported, context: Context) -> list[Step]:
        """Judge what waits for this report; a failed read is asked for again at the next poll."""
        self.reading = max(0, self.reading - 1)
        if not report.text:
            self._report = report
        out: list[Step] = []
        for pending in tuple(self._pending):
            if pending.behind is None:
                continue
            if pending.behind > 0:
                pending.behind -= 1  # begun before the request, or before what it waits for
            elif report.text:
                pending.behind = None
            else:
                out += self._judge(pending, report, context)
        return out

    def _judge(self, pending: Pending, report: AccountReported, context: Context) -> list[Step]:
        request, left, facts = pending.request, self._ours_open(report), self._shown(context)
        text = ""
        match request.ask:
            case Halt() if not [name for name in left if not self._is_exit(name)]:
                text = "halted; the broker shows no working entry of ours"
            case Flatten() if not left and not report.positions and self._is_ready(pending, context):
                text = "halted and flat; the broker shows no position and no order of ours"
            case AdoptOrder(client_order_id=name) if name not in {o.client_order_id for o in report.open_orders}:
                text = f"{name} is no longer open at the broker; what it filled can be adopted by its contract"
            case Reconcile() | AdoptPosition() if not context.ledger.seeded:
                return self._unseeded(pending, report, context)
            case Reconcile() | AdoptPosition():
                pending.fresh = True
                return []  # the comparison comes later in this turn
        if not text:
            pending.behind = None
            return []
        self._pending.remove(pending)
        return [answered(request, context.at_ns, True, text, {"confirmed": True, **facts})]

    def on_reconciled(self, result: Reconciled, context: Context) -> list[Step]:
        """Answer with the comparison, or adopt now that everything that was executed has been heard."""
        out: list[Step] = []
        if not result.differences:
            self.foreign.agreed(result.at_ns)
        for pending in tuple(self._pending):
            ask = pending.request.ask
            if not pending.fresh or not isinstance(ask, Reconcile | AdoptPosition) or self._report is None:
                continue
            if isinstance(ask, AdoptPosition) and not pending.adopted:
                plan = take_executions(pending.request, ask, self._report, self.foreign, self.book, context)
                out += self._take_over(pending, plan, context)
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

    def _unseeded(self, pending: Pending, report: AccountReported, context: Context) -> list[Step]:
        """The account held something before the books began: adopting all of it lets them begin."""
        request, ask = pending.request, pending.request.ask
        if not report.positions and not report.open_orders:
            pending.fresh = True
            return []  # this very report lets the books begin, later in this turn
        if isinstance(ask, AdoptPosition):
            return self._take_over(pending, take_everything(request, ask, report, self.book, context), context)
        self._pending.remove(pending)
        text = "the account holds positions or orders that are not ours; adopt or close them"
        return [answered(request, context.at_ns, False, text, self._shown(context))]

    def _take_over(self, pending: Pending, plan: Takeover | str, context: Context) -> list[Step]:
        """Adopt all or nothing, then look whether the books agree."""
        request = pending.request
        if isinstance(plan, str):
            self._pending.remove(pending)
            return [answered(request, context.at_ns, False, plan, self._shown(context))]
        pending.adopted, pending.behind, pending.fresh = True, None, False
        first: list[Step] = [] if plan.seed is None else [plan.seed, *plan.fees]
        for one in plan.wish.adoptions:
            self.foreign.settle(one.covers)
        text = f"adopting {', '.join(a.symbol for a in plan.wish.adoptions)}"
        told = answered(request, context.at_ns, True, text, done=False)
        return [*first, plan.wish, told, *self._look([pending], context)]

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

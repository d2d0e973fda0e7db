"""The execution actor: turns risk's commands into order attempts, walks their ladders and books executions.

Inputs: SubmitOrder, CancelOrder, the broker's reports and answers, its own timers. Outputs: SendOrder, SendCancel,
LookUpOrder, ReadAccount, OrderAdvanced, OrderFilled, OrderClosed, PositionSettled, ForeignExecution, timers.
Invariants: at most one attempt of an order can be alive; a new one leaves only when every earlier one is settled; an
execution is booked once; every order ends with exactly one OrderClosed; a ladder is never left.
"""

from collections.abc import Iterable, Sequence

from oracle.core.bus import HandlerTable
from oracle.core.marketdata import FeedChanged
from oracle.core.message import Message
from oracle.core.messages import (
    CancelOrder,
    ForeignExecution,
    LookUpOrder,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    PositionSettled,
    ReadAccount,
    SetTimer,
    SubmitOrder,
    TimerFired,
)
from oracle.core.ports import Context
from oracle.core.reports import (
    AccountReported,
    CancelReturned,
    ExecutionReported,
    LookUpReturned,
    OrderReported,
    StructureExecuted,
    SubmitReturned,
)
from oracle.core.sessions import MINUTE_NS
from oracle.core.vocabulary import Feed, FeedState, OrderState, Outcome, Purpose
from oracle.execution.booking import Booking, legs_of_end, together
from oracle.execution.orders import HELD, TERMINAL, OrderEvent, commanded_ns
from oracle.execution.outcomes import Doubt, Verdict, delay_s, event_of_status, resolve
from oracle.execution.works import LOOK_TIMER, STEP_TIMER, DeskSettings, Work, Works

RESTARTED = "restarted"


class Desk:
    """The execution actor."""

    def __init__(self, settings: DeskSettings) -> None:
        self._works = Works(settings)
        self._booking = Booking(self._works, settings)
        self._restored = False
        # The first news of this process: whatever an earlier one sent had left before.
        self._born_ns: int | None = None

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (SubmitOrder, self.on_submit_order),
            (CancelOrder, self.on_cancel_order),
            (SubmitReturned, self.on_submit_returned),
            (CancelReturned, self.on_cancel_returned),
            (LookUpReturned, self.on_look_up_returned),
            (OrderReported, self.on_order_reported),
            (ExecutionReported, self.on_execution_reported),
            (StructureExecuted, self.on_structure_executed),
            (AccountReported, self.on_account_reported),
            (FeedChanged, self.on_feed_changed),
            (TimerFired, self.on_timer),
        )

    def restore(
        self,
        orders: Sequence[SubmitOrder],
        advanced: Sequence[OrderAdvanced],
        fills: Sequence[OrderFilled],
        ended: Sequence[OrderClosed],
        foreign: Sequence[ForeignExecution] = (),
        settled: Sequence[PositionSettled] = (),
    ) -> None:
        """Rebuild orders from stored facts, each list in order of commit.

        Attempts that had not settled become UNKNOWN and are looked up when the trading stream is next live. Of entries
        nothing is sent any more: what the broker holds may stand until its window ends, or risk takes it back.
        """
        for order in orders:
            give_up = RESTARTED if order.purpose is Purpose.ENTRY else None
            self._works.orders[order.order_id] = Work(order, give_up=give_up)
        done: dict[str, dict[str, int]] = {}
        broker_ids: dict[str, str] = {}
        for fill in fills:
            self._booking.seen.add(fill.execution_id)
            legs = done.setdefault(fill.client_order_id, {})
            legs[fill.symbol] = legs.get(fill.symbol, 0) + fill.contracts
            if fill.broker_order_id:
                self._works.learn(fill.broker_order_id, fill.client_order_id)
                broker_ids[fill.client_order_id] = fill.broker_order_id
        self._booking.seen.update(execution.execution_id for execution in foreign)
        self._booking.seen.update(name for settlement in settled for name in settlement.covers)
        for step in advanced:
            work = self._works.orders[step.order_id]
            known = self._works.by_client(step.client_order_id)
            if known is None:
                work.step = step.step
                attempt = self._works.add(work, commanded_ns(work.order))
                attempt.done = done.get(step.client_order_id, {})
                attempt.broker_order_id = broker_ids.get(step.client_order_id, "")
                work.filled += attempt.booked
            else:
                attempt = known[1]
            attempt.state = step.to_state
        for end in ended:
            self._works.mark_closed(self._works.orders[end.order_id])
        self._restored = True

    # ------------------------------------------------------------------------------------------- risk's commands

    def on_submit_order(self, order: SubmitOrder, context: Context) -> Iterable[Message]:
        """Send the first attempt at the first step of the ladder."""
        work = Work(order)
        self._works.orders[order.order_id] = work
        return self._works.send_next(work, context.at_ns)

    def on_cancel_order(self, command: CancelOrder, context: Context) -> Iterable[Message]:
        """Give an order up; what has filled stands."""
        work = self._works.orders.get(command.order_id)
        if work is None or work.closed:
            return ()
        work.give_up = work.give_up or command.reason
        return self._works.take_back(work, context.at_ns)

    # ------------------------------------------------------------------------------------------ what the broker says

    def on_submit_returned(self, answer: SubmitReturned, context: Context) -> Iterable[Message]:
        """Learn what a POST came to."""
        known = self._works.by_client(answer.client_order_id)
        if known is None:
            return ()
        work, attempt = known
        at_ns = context.at_ns
        if answer.outcome is Outcome.ACCEPTED:
            if answer.order is None:
                return self._works.event(work, attempt, OrderEvent.NEW, at_ns)
            return self._works.told(work, attempt, answer.order, event_of_status(answer.order.status), at_ns)
        if attempt.state is not OrderState.SENT:
            # The stream or a look-up was faster; only a doubt that is still open is looked into again.
            return () if attempt.state in TERMINAL else (LookUpOrder(attempt.client_order_id),)
        text = f"{answer.code} {answer.text}".strip()
        if answer.outcome is Outcome.REJECTED and not attempt.resent:
            return self._works.event(work, attempt, OrderEvent.REJECTED, at_ns, text=text)
        if answer.outcome is Outcome.THROTTLED and not attempt.resent:
            attempt.resend_due = True
            attempt.looks += 1
            return (self._works.look_in(work, delay_s(attempt.looks), at_ns),)
        # Also a refusal of the second POST: the first may be why it was refused, so a look-up decides.
        if answer.outcome is Outcome.THROTTLED:
            attempt.resent = False
        return self._works.event(work, attempt, OrderEvent.LOSE, at_ns, text=text)

    def on_cancel_returned(self, answer: CancelReturned, context: Context) -> Iterable[Message]:
        """A cancel that was not taken is looked into; one that was taken is only a request."""
        known = self._works.by_client(answer.client_order_id)
        if known is None or answer.outcome is Outcome.ACCEPTED or known[1].settled:
            return ()
        if answer.outcome is Outcome.REJECTED:
            return (LookUpOrder(answer.client_order_id),)
        return (self._works.look_in(known[0], delay_s(known[1].looks), context.at_ns),)

    def on_look_up_returned(self, answer: LookUpReturned, context: Context) -> Iterable[Message]:
        """Resolve a doubt, or look again later."""
        known = self._works.by_client(answer.client_order_id)
        if known is None:
            return ()
        work, attempt = known
        at_ns = context.at_ns
        wanted = work.wanted and not attempt.cancel_wanted and at_ns < work.order.window_end_ns
        doubt = Doubt(attempt.doubt_ns, attempt.resent, wanted)
        verdict = resolve(answer, attempt.command, attempt.sent_ns, doubt, at_ns)
        if verdict in (Verdict.ADOPT, Verdict.MISMATCH) and answer.order is not None:
            attempt.told_legs = legs_of_end(attempt, answer.order)
            out = self._works.told(work, attempt, answer.order, event_of_status(answer.order.status), at_ns)
            return out or self._works.push_cancel_again(work, attempt, at_ns)
        if verdict is Verdict.RESEND:
            attempt.resent, attempt.doubt_ns = True, at_ns
            return self._works.resend(work, attempt, at_ns)
        if verdict is Verdict.LOST:
            text = "never reached the broker" if attempt.broker_order_id == "" else "the broker no longer knows it"
            return self._works.event(work, attempt, OrderEvent.REJECTED, at_ns, text=text)
        if answer.outcome is Outcome.NOT_FOUND and attempt.state in HELD:
            # What the broker held and does not find is in doubt from now on, and is never sent again.
            attempt.resent = True
            return self._works.event(work, attempt, OrderEvent.UNKNOWN_EVENT, at_ns, text="not found at the broker")
        # A look-up that came to nothing does not keep a cancel waiting.
        return self._works.push_cancel_again(work, attempt, at_ns)

    def on_order_reported(self, report: OrderReported, context: Context) -> Iterable[Message]:
        """Follow an order's change; orders that are not ours are the reconcile's."""
        known = self._works.find(report.order)
        if known is None:
            return ()
        return self._works.told(*known, report.order, OrderEvent(report.event.value), context.at_ns, text=report.text)

    def on_execution_reported(self, execution: ExecutionReported, context: Context) -> Iterable[Message]:
        """Book an execution once, and never more of an order than was ordered.

        What exceeds the order is told as foreign: entries stop until the account shows whether it was real. What
        exceeds only the broker's own count waits: the account's next report brings it again, with the count of then.
        """
        return self._booking.book([(execution,)], context)

    def on_structure_executed(self, executed: StructureExecuted, context: Context) -> Iterable[Message]:
        """Book what was executed of all legs together, in one turn."""
        return self._booking.book([executed.legs], context)

    def on_account_reported(self, report: AccountReported, context: Context) -> Iterable[Message]:
        """Book executions that the stream did not tell, and adopt open orders that were in doubt.

        A failed read says nothing; nor does an order's absence from the open ones: it may have filled.
        """
        if report.text:
            return []
        out = self._booking.book(together(report.fills), context)
        for order in report.open_orders:
            known = self._works.by_client(order.client_order_id)
            if known is not None and known[1].state in (OrderState.SENT, OrderState.UNKNOWN):
                out += self._works.told(*known, order, event_of_status(order.status), context.at_ns)
        return out

    def on_feed_changed(self, change: FeedChanged, context: Context) -> Iterable[Message]:
        """When the trading stream is live again, look up what may have changed meanwhile."""
        self._born_ns = context.at_ns if self._born_ns is None else self._born_ns
        if change.feed is not Feed.TRADING or change.state is not FeedState.LIVE:
            return ()
        out: list[Message] = []
        for work in self._works.orders.values():
            if self._restored and not work.closed:
                out += self._wake(work, context.at_ns)
            out += [LookUpOrder(attempt.client_order_id) for attempt in work.attempts if not attempt.settled]
        self._restored = False
        return out

    def _wake(self, work: Work, at_ns: int) -> list[Message]:
        """Take up an order of before the restart: its last attempt is UNKNOWN until it has been looked up.

        What the broker held before is adopted or lost, never sent again; a command that may not have left can be, if
        it is an exit and stays unfound for as long as a server may take to commit it.
        """
        out: list[Message] = [SetTimer(STEP_TIMER + work.order.order_id, work.order.window_end_ns)]
        if not work.attempts:
            return out + self._works.next(work, at_ns)
        attempt = work.attempts[-1]
        attempt.doubt_ns = at_ns if self._born_ns is None else self._born_ns
        attempt.resent = attempt.resent or attempt.state in HELD
        out += self._works.event(work, attempt, OrderEvent.UNKNOWN_EVENT, at_ns, text=RESTARTED)
        return [*out, self._works.look_in(work, delay_s(0), at_ns)]

    # ---------------------------------------------------------------------------------------------------- timers

    def on_timer(self, timer: TimerFired, context: Context) -> Iterable[Message]:
        """Walk a ladder, or look into what is silent."""
        for prefix, handler in ((STEP_TIMER, self._on_step), (LOOK_TIMER, self._on_look)):
            if timer.timer_id.startswith(prefix):
                work = self._works.orders.get(timer.timer_id.removeprefix(prefix))
                return () if work is None else handler(work, context.at_ns)
        return ()

    def _on_step(self, work: Work, at_ns: int) -> Iterable[Message]:
        if work.closed:
            return ()
        if at_ns >= work.order.window_end_ns or work.step + 1 >= len(work.order.ladder):
            work.over = True
        else:
            work.step += 1
        return self._works.take_back(work, at_ns)

    def _on_look(self, work: Work, at_ns: int) -> Iterable[Message]:
        """Do what each unsettled attempt needs: send again after a 429, look up, or ask for missing executions."""
        out: list[Message] = []
        for attempt in work.attempts:
            if attempt.settled:
                continue
            attempt.looks += 1
            if attempt.resend_due:
                wanted = work.wanted and not attempt.cancel_wanted
                out += (self._works.resend if wanted else self._works.drop)(work, attempt, at_ns)
            elif attempt.state in TERMINAL:
                why = f"executions of {attempt.client_order_id} are missing"
                out.append(ReadAccount(attempt.sent_ns - MINUTE_NS, why))
                if not attempt.balanced:
                    out.append(LookUpOrder(attempt.client_order_id))  # what does the broker count of each leg?
                out.append(self._works.look_in(work, delay_s(attempt.looks), at_ns))
            else:
                if attempt.state is OrderState.SENT:
                    out += self._works.event(work, attempt, OrderEvent.LOSE, at_ns, text="no answer")
                out.append(LookUpOrder(attempt.client_order_id))
                out.append(self._works.look_again(work, attempt, at_ns))
        return out

"""Orders at work: which attempts exist, and what an order needs after each event. The desk's mechanics.

Inputs: events of attempts, from the desk. Outputs: OrderAdvanced, OrderClosed, SendOrder, SendCancel, timers.
Invariants: at most one attempt of an order can be alive; a new one leaves only when every earlier one is settled;
every order ends with exactly one OrderClosed, and whatever turns out to live after that is cancelled.
"""

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from oracle.core.message import Message
from oracle.core.messages import ClearTimer, OrderAdvanced, OrderClosed, SendCancel, SendOrder, SetTimer, SubmitOrder
from oracle.core.reports import BrokerOrder, ExecutionReported
from oracle.core.sessions import NS
from oracle.core.vocabulary import OrderState, Purpose
from oracle.execution.orders import HELD, TERMINAL, Attempt, OrderEvent, advance
from oracle.execution.outcomes import NOT_FOUND_S, delay_s, event_of_status, mismatch

STEP_TIMER = "desk:step:"
LOOK_TIMER = "desk:look:"
# Closed orders are kept for late reports; older ones than this many are forgotten.
MAX_CLOSED = 10_000
WINDOW_OVER = "window"
REPLACED = "replaced at the broker"
TORN = "the broker filled its legs unevenly"
# How long a cancel may go without its confirmation before it is looked up and asked for again.
CANCEL_CONFIRM_S = 2.0
# How long an ended order waits for executions that the broker counts before the account is read for them.
EXECUTION_WAIT_S = 1.0


@dataclass(slots=True)
class Work:
    """One order of risk's, from command to end."""

    order: SubmitOrder
    attempts: list[Attempt] = field(default_factory=list)
    step: int = 0
    filled: int = 0
    give_up: str | None = None
    over: bool = False
    closed: bool = False

    @property
    def wanted(self) -> bool:
        """Whether more of it should still be bought or sold."""
        return self.give_up is None and not self.over and not self.closed


class DeskSettings(msgspec.Struct, frozen=True):
    """``fee_modelled_usd`` per option contract and side; ``silence_s`` until a quiet order is looked up."""

    fee_modelled_usd: Decimal
    silence_s: float = 8.0


class Works:
    """The register of orders and attempts, with the moves they make."""

    __slots__ = ("_by_client", "_client_of", "_closed", "_settings", "orders")

    def __init__(self, settings: DeskSettings) -> None:
        self._settings = settings
        self._by_client: dict[str, tuple[Work, Attempt]] = {}
        self._client_of: dict[str, str] = {}
        self._closed: deque[str] = deque()
        self.orders: dict[str, Work] = {}

    def by_client(self, client_order_id: str) -> tuple[Work, Attempt] | None:
        """Find our attempt by client order id."""
        return self._by_client.get(client_order_id)

    def find(self, order: BrokerOrder) -> tuple[Work, Attempt] | None:
        """Find our attempt by client order id, or by the broker's id where an answer has only that."""
        client_id = order.client_order_id or self._client_of.get(order.broker_order_id, "")
        return self._by_client.get(client_id)

    def owner(self, execution: ExecutionReported) -> tuple[Work, Attempt] | None:
        """Find the attempt that an execution is of; one of a leg may be told under the leg's own ids."""
        order = execution.order
        return self.find(order) or self._by_client.get(self._client_of.get(order.broker_order_id, ""))

    def note(self, attempt: Attempt, order: BrokerOrder) -> None:
        """Take over the broker's id, and those of the legs."""
        if order.broker_order_id and order.client_order_id in ("", attempt.client_order_id):
            attempt.broker_order_id = order.broker_order_id
            self.learn(order.broker_order_id, attempt.client_order_id)
        for leg in order.legs:
            if leg.broker_order_id:
                self.learn(leg.broker_order_id, attempt.client_order_id)
                attempt.leg_ids.add(leg.broker_order_id)

    def learn(self, broker_order_id: str, client_order_id: str) -> None:
        """Remember whose order a broker's id is; activities name no other."""
        self._client_of[broker_order_id] = client_order_id

    def told(
        self, work: Work, attempt: Attempt, order: BrokerOrder, event: OrderEvent, at_ns: int, *, text: str = ""
    ) -> list[Message]:
        """Take over what the broker says of an attempt: id, filled count and event; a mismatch makes it UNKNOWN."""
        wrong = mismatch(attempt.command, attempt.sent_ns, order)
        if wrong:
            return self.event(work, attempt, OrderEvent.UNKNOWN_EVENT, at_ns, text=f"mismatch: {wrong}")
        self.note(attempt, order)
        attempt.told_filled = max(attempt.told_filled, int(order.filled_qty))
        if event is OrderEvent.FILL:
            attempt.told_filled = max(attempt.told_filled, attempt.command.contracts)
        if event is OrderEvent.UNKNOWN_EVENT:
            event = event_of_status(order.status)  # a word of the stream that we lack can still leave a known status
        if event is OrderEvent.UNKNOWN_EVENT:
            text = f"status {order.status} {text}".strip()
        if event is OrderEvent.REPLACED:
            work.give_up = work.give_up or REPLACED  # its replacement works on: no more of ours beside it
        return self.event(work, attempt, event, at_ns, text=text)

    def event(self, work: Work, attempt: Attempt, event: OrderEvent, at_ns: int, *, text: str = "") -> list[Message]:
        """Move an attempt in the table, then do what its order needs."""
        before, attempt.state = attempt.state, advance(attempt.state, event)
        out: list[Message] = []
        if attempt.state is not before:
            attempt.text = text
            out.append(self._advanced(work, attempt, before))
            attempt.looks = 0
            # Whatever the broker says of it, a 429 is no longer the last word.
            attempt.resend_due = False
            if attempt.state is OrderState.UNKNOWN:
                attempt.doubt_ns = at_ns if attempt.doubt_ns is None else attempt.doubt_ns
                out.append(self.look_in(work, delay_s(0), at_ns))
            elif attempt.state in HELD or attempt.state in TERMINAL:
                attempt.doubt_ns = None
        return out + self.next(work, at_ns)

    def next(self, work: Work, at_ns: int) -> list[Message]:
        """Cancel what should not live, wait for what is not settled, else send the rest or close."""
        out: list[Message] = []
        open_attempts = [attempt for attempt in work.attempts if not attempt.settled]
        if any(attempt.torn for attempt in work.attempts):
            work.give_up = work.give_up or TORN  # nothing is sent on top of a structure that is not whole
        for attempt in open_attempts:
            # A late fill of an earlier attempt can make this one too large; an order that is over may live no more.
            too_large = work.filled + attempt.left > work.order.contracts
            attempt.cancel_wanted = attempt.cancel_wanted or work.closed or too_large
            if attempt.cancel_wanted and self._cancel_due(attempt, at_ns):
                out += self.push_cancel(work, attempt, at_ns)
            elif attempt.state in TERMINAL:
                out.append(self.look_in(work, EXECUTION_WAIT_S, at_ns))  # ended with executions that nobody told us yet
        if open_attempts or work.closed:
            return out
        end = self._end(work, at_ns)
        return out + (self.send_next(work, at_ns) if end is None else self._close(work, end))

    def _end(self, work: Work, at_ns: int) -> str | None:
        """Why an order with nothing alive is over, or None when the rest should be sent."""
        last = work.attempts[-1] if work.attempts else None
        if work.filled >= work.order.contracts:
            return "filled"
        if last is not None and last.state is OrderState.REJECTED:
            return f"rejected: {last.text}"
        if work.give_up is not None:
            return f"canceled: {work.give_up}"
        if work.over or at_ns >= work.order.window_end_ns:
            return WINDOW_OVER
        if last is not None and last.state is OrderState.EXPIRED:
            return "expired"
        if last is not None and not last.cancel_wanted:
            return "canceled: by the broker"
        return None

    def add(self, work: Work, sent_ns: int) -> Attempt:
        """Make the next attempt of what is left, at the present step."""
        order, number = work.order, len(work.attempts) + 1
        entry = order.purpose is Purpose.ENTRY
        command = SendOrder(
            client_order_id=f"{order.order_id}-{number}",
            symbol=order.symbol,
            side=order.side,
            opening=entry,
            contracts=order.contracts - work.filled,
            limit_usd=order.ladder[work.step].limit_usd,
            reducing=not entry,
        )
        attempt = Attempt(command, number, work.step, sent_ns)
        work.attempts.append(attempt)
        self._by_client[command.client_order_id] = (work, attempt)
        return attempt

    def send_next(self, work: Work, at_ns: int) -> list[Message]:
        """Send the next attempt."""
        attempt = self.add(work, at_ns)
        before, attempt.state = attempt.state, advance(attempt.state, OrderEvent.SEND)
        step_ns = min(at_ns + round(work.order.ladder[work.step].stand_s * NS), work.order.window_end_ns)
        return [
            self._advanced(work, attempt, before),
            attempt.command,
            SetTimer(STEP_TIMER + work.order.order_id, step_ns),
            self.look_in(work, self._settings.silence_s, at_ns),
        ]

    def take_back(self, work: Work, at_ns: int) -> list[Message]:
        """Want every live attempt cancelled; one that a 429 kept from the broker is simply over."""
        for attempt in work.attempts:
            if attempt.settled:
                continue
            attempt.cancel_wanted = True
            if attempt.resend_due:
                return self.drop(work, attempt, at_ns)
        return self.next(work, at_ns)

    def drop(self, work: Work, attempt: Attempt, at_ns: int) -> list[Message]:
        """End an attempt that a 429 kept from the broker."""
        attempt.resend_due = False
        return self.event(work, attempt, OrderEvent.CANCELED, at_ns, text="never accepted: throttled")

    def _cancel_due(self, attempt: Attempt, at_ns: int) -> bool:
        """Whether to ask for a wanted cancel now: at once when alive, time and again while in doubt."""
        if attempt.state is OrderState.UNKNOWN and attempt.broker_order_id:
            return at_ns >= attempt.cancel_ns + round(CANCEL_CONFIRM_S * NS)
        return attempt.state in (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED)

    def push_cancel(self, work: Work, attempt: Attempt, at_ns: int) -> list[Message]:
        """Ask for a cancel. Without the broker's id a look-up comes first, and this again after it."""
        look = self.look_in(work, max(CANCEL_CONFIRM_S, delay_s(attempt.looks)), at_ns)
        if not attempt.broker_order_id:
            return [look]
        attempt.cancel_ns = at_ns
        before, attempt.state = attempt.state, advance(attempt.state, OrderEvent.CANCEL)
        moved = [] if before is attempt.state else [self._advanced(work, attempt, before)]
        return [*moved, SendCancel(attempt.client_order_id, attempt.broker_order_id), look]

    def push_cancel_again(self, work: Work, attempt: Attempt, at_ns: int) -> list[Message]:
        """Ask again for a cancel that had no effect, not sooner than its confirmation was due."""
        asked = attempt.state is OrderState.CANCEL_SENT or (
            attempt.state is OrderState.UNKNOWN and attempt.cancel_wanted and attempt.broker_order_id != ""
        )
        if not asked or at_ns < attempt.cancel_ns + round(CANCEL_CONFIRM_S * NS):
            return []
        return self.push_cancel(work, attempt, at_ns)

    def resend(self, work: Work, attempt: Attempt, at_ns: int) -> list[Message]:
        """Send the same command under the same id once more."""
        attempt.resend_due = False
        moved = self.event(work, attempt, OrderEvent.RESEND, at_ns, text="sent again")
        return [*moved, attempt.command, self.look_in(work, self._settings.silence_s, at_ns)]

    def look_again(self, work: Work, attempt: Attempt, at_ns: int) -> SetTimer:
        """Time the next look: soon and ever later in doubt, at the pace of silence for an order that just rests.

        One look falls on the moment from which "not found" proves something, so that no doubt lasts longer.
        """
        resting = attempt.state in HELD and not attempt.cancel_wanted
        after_s = self._settings.silence_s if resting else delay_s(attempt.looks)
        if attempt.state is OrderState.UNKNOWN and attempt.doubt_ns is not None:
            left_s = NOT_FOUND_S - (at_ns - attempt.doubt_ns) / NS
            after_s = left_s if 0 < left_s < after_s else after_s
        return self.look_in(work, after_s, at_ns)

    def look_in(self, work: Work, after_s: float, at_ns: int) -> SetTimer:
        """Time a look at an order."""
        return SetTimer(LOOK_TIMER + work.order.order_id, at_ns + round(after_s * NS))

    def mark_closed(self, work: Work) -> None:
        """Count an order as over; the oldest of too many is forgotten."""
        work.closed = True
        self._closed.append(work.order.order_id)
        if len(self._closed) > MAX_CLOSED:
            self._forget(self._closed.popleft())

    def _close(self, work: Work, end: str) -> list[Message]:
        order = work.order
        self.mark_closed(work)
        return [
            ClearTimer(STEP_TIMER + order.order_id),
            ClearTimer(LOOK_TIMER + order.order_id),
            OrderClosed(order.order_id, order.trade_id, order.purpose, work.filled, order.contracts, end),
        ]

    def _forget(self, order_id: str) -> None:
        for attempt in self.orders.pop(order_id).attempts:
            self._by_client.pop(attempt.client_order_id)
            for broker_id in (attempt.broker_order_id, *attempt.leg_ids):
                self._client_of.pop(broker_id, None)

    def _advanced(self, work: Work, attempt: Attempt, before: OrderState) -> OrderAdvanced:
        return OrderAdvanced(
            order_id=work.order.order_id,
            client_order_id=attempt.client_order_id,
            attempt=attempt.number,
            step=attempt.step,
            from_state=before,
            to_state=attempt.state,
            filled=attempt.booked,
            text=attempt.text,
        )

"""Executions become fills of our orders, once each; what is not ours is told as the broker's sell-out or as foreign.

Inputs: executions from the stream or the account, with the orders that they were told under. Outputs: OrderFilled, the
moves of the attempts, LookUpOrder, PositionSettled, ForeignExecution. Invariants: an execution is booked once and never
more of an order, or of a leg of it, than was ordered; all fills of a group come before what they cause.
"""

from collections.abc import Iterable, Sequence

from oracle.core.message import Message
from oracle.core.messages import ForeignExecution, LookUpOrder, OrderFilled
from oracle.core.money import ZERO
from oracle.core.ports import Context
from oracle.core.reports import BrokerOrder, ExecutionReported
from oracle.execution.endings import modelled_fee, sold_out
from oracle.execution.orders import TERMINAL, Attempt, OrderEvent
from oracle.execution.works import DeskSettings, Work, Works

# A look at an order that ended unevenly is believed only when it is not the first: its executions may be on their way.
PATIENT_LOOKS = 3


class Booking:
    """Books executions for the desk. ``seen`` are the ids of all that were ever told, ours or not."""

    __slots__ = ("_settings", "_works", "seen")

    def __init__(self, works: Works, settings: DeskSettings) -> None:
        self._works = works
        self._settings = settings
        self.seen: set[str] = set()

    def book(self, groups: Iterable[Sequence[ExecutionReported]], context: Context) -> list[Message]:
        """Book groups of executions that happened together."""
        others: list[ExecutionReported] = []
        out = [message for group in groups for message in self._group(group, others, context)]
        return out + self._not_ours(others, context)

    def _group(
        self, executions: Sequence[ExecutionReported], others: list[ExecutionReported], context: Context
    ) -> list[Message]:
        """Book what belongs together: fills first, then what they mean; ``others`` gets those not ours."""
        fills: list[Message] = []
        asked: list[Message] = []
        moved: dict[str, tuple[Work, Attempt]] = {}
        for execution in executions:
            if execution.execution_id in self.seen:
                continue
            known = self._works.owner(execution)
            contracts = int(execution.qty)
            units = None
            if known is not None and contracts == execution.qty:
                units = known[1].units_with(execution.symbol, execution.side, contracts)
            if known is None or units is None:
                self.seen.add(execution.execution_id)
                others.append(execution)
                continue
            work, attempt = known
            if 0 < _counted(attempt, execution) < units:
                asked = [LookUpOrder(attempt.client_order_id)]
                continue
            self.seen.add(execution.execution_id)
            before = attempt.booked
            attempt.book(execution.symbol, contracts)
            work.filled += attempt.booked - before
            self._works.note(attempt, execution.order)
            fills.append(self._fill(work, attempt, execution, contracts))
            moved[attempt.client_order_id] = known
        out = fills
        for work, attempt in moved.values():
            whole = attempt.booked >= attempt.command.contracts
            event = OrderEvent.FILL if whole else OrderEvent.PARTIAL_FILL
            out = out + self._works.event(work, attempt, event, context.at_ns)
        return out + asked

    def _not_ours(self, executions: Sequence[ExecutionReported], context: Context) -> list[Message]:
        """Say what others did: the broker's own sale of what expires today ends a part of a trade, all else is foreign.

        More of an order of ours than was ordered is foreign whatever the hour.
        """
        if not executions:
            return []
        strange = [execution for execution in executions if self._works.owner(execution) is None]
        sold, _ = sold_out(strange, context, self._settings.fee_modelled_usd)
        covered = {name for settled in sold for name in settled.covers}
        out: list[Message] = [*sold]
        for execution in executions:
            if execution.execution_id not in covered:
                out.append(
                    ForeignExecution(
                        execution.execution_id,
                        execution.order.client_order_id,
                        execution.symbol,
                        execution.side,
                        execution.qty,
                        execution.price_usd,
                    )
                )
        return out

    def _fill(self, work: Work, attempt: Attempt, execution: ExecutionReported, contracts: int) -> OrderFilled:
        return OrderFilled(
            execution_id=execution.execution_id,
            order_id=work.order.order_id,
            client_order_id=attempt.client_order_id,
            broker_order_id=attempt.broker_order_id or execution.order.broker_order_id,
            trade_id=work.order.trade_id,
            strategy=work.order.strategy,
            symbol=execution.symbol,
            side=execution.side,
            purpose=work.order.purpose,
            contracts=contracts,
            price_usd=execution.price_usd,
            fees_broker_usd=ZERO,
            fees_modelled_usd=modelled_fee(self._settings.fee_modelled_usd, execution.symbol, contracts),
            at_ns=execution.at_ns,
        )


def _counted(attempt: Attempt, execution: ExecutionReported) -> int:
    """The broker's count of units; a leg told under its own ids counts contracts, which say less."""
    order = execution.order
    parent = order.client_order_id in ("", attempt.client_order_id)
    return max(attempt.told_filled, int(order.filled_qty) if parent else 0)


def together(fills: Iterable[ExecutionReported]) -> list[list[ExecutionReported]]:
    """Executions of one multi-leg order belong together, others stand alone; in order of the first of each."""
    groups: dict[str, list[ExecutionReported]] = {}
    for fill in fills:
        key = fill.order.broker_order_id if fill.order.legs else f"execution:{fill.execution_id}"
        groups.setdefault(key, []).append(fill)
    return list(groups.values())


def legs_of_end(attempt: Attempt, order: BrokerOrder) -> dict[str, int] | None:
    """What the broker counts of each leg of an order that has been over for a while; None: nothing final."""
    if attempt.state not in TERMINAL or attempt.looks <= PATIENT_LOOKS or not order.legs:
        return None
    return {leg.symbol: int(leg.filled_qty) for leg in order.legs if leg.filled_qty > 0}

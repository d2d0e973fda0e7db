"""Take what others executed in a contract into the books: which executions, what they become, or why not.

Inputs: executions that are not ours, the broker's position, the ledger's view. Outputs: an ``Adoption`` that the gate
turns into orders that are over, or a reason in words. Invariants: pure; nothing is adopted that does not explain the
broker's position to the last contract; what is held afterwards is long, listed and has an exit plan.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec

from oracle.core.control import AdoptPosition
from oracle.core.errors import RemoteError
from oracle.core.instruments import CONTRACT_MULTIPLIER, OptionContract, multiplier, parse_occ
from oracle.core.messages import (
    ADOPTED,
    AccountReported,
    BrokerPosition,
    CashCorrected,
    ExitPlan,
    ExitTriggered,
    ForeignExecution,
    Intent,
    IntentApproved,
    LadderStep,
    Leg,
    Message,
    OperatorRequested,
    OrderClosed,
    OrderFilled,
    PositionAdopted,
    SubmitOrder,
)
from oracle.core.money import CENT, MICROS, ZERO
from oracle.core.ports import Context, TradeView
from oracle.core.sessions import MINUTE_NS
from oracle.core.vocabulary import OrderType, Purpose, Side
from oracle.risk.book import OrderBook
from oracle.risk.facts import listed_contract

OPERATOR = "operator"
MICRO = Decimal(1) / MICROS
# An agreement covers what was heard this long before it: the account that was compared is no older.
COVERED_NS = MINUTE_NS


@dataclass(slots=True)
class Foreign:
    """Executions that are not ours and that the books do not hold yet, by the broker's id."""

    unsettled: dict[str, ForeignExecution] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)
    _heard_ns: dict[str, int] = field(default_factory=dict)

    def heard(self, execution: ForeignExecution, at_ns: int) -> None:
        """Remember one that is not settled. ``at_ns`` 0: before a restart."""
        if execution.execution_id not in self._settled:
            self.unsettled[execution.execution_id] = execution
            self._heard_ns[execution.execution_id] = at_ns

    def agreed(self, at_ns: int) -> None:
        """Ledger and broker agree, so what was heard long enough before needs no adoption any more."""
        self.settle([name for name in self.unsettled if self._heard_ns[name] <= at_ns - COVERED_NS])

    def seeded(self, report: AccountReported | None) -> None:
        """The opening cash holds what was heard before, and what the report told that it came from."""
        self.settle(tuple(self.unsettled))
        self.settle(fill.execution_id for fill in (() if report is None else report.fills))

    def settle(self, execution_ids: Iterable[str]) -> None:
        """The books hold these now."""
        for execution_id in execution_ids:
            self._settled.add(execution_id)
            self.unsettled.pop(execution_id, None)
            self._heard_ns.pop(execution_id, None)

    def of(self, symbol: str) -> tuple[ForeignExecution, ...]:
        """What is unsettled in one contract, in the order in which it was heard."""
        return tuple(e for e in self.unsettled.values() if e.symbol == symbol)


class Adoption(msgspec.Struct, frozen=True):
    """One contract's adoption. ``ends`` is the trade of ours that others have closed, in whole or in part.

    ``cash_usd``: no trade is made, this is what a round trip of others has left.
    """

    symbol: str
    underlying: str
    buys: tuple[ForeignExecution, ...]
    sells: tuple[ForeignExecution, ...]
    plan: ExitPlan | None
    ends: TradeView | None
    cash_usd: Decimal | None = None

    @property
    def closes(self) -> bool:
        """Whether what others sold leaves nothing of its trade open."""
        held = sum(int(e.qty) for e in self.buys) if self.ends is None else self.ends.contracts_open
        return sum(int(e.qty) for e in self.sells) >= held

    @property
    def covers(self) -> tuple[str, ...]:
        """The executions that it settles."""
        return _ids((*self.buys, *self.sells))


class AdoptWish(msgspec.Struct, frozen=True):
    """Contracts that should be booked as ours now; ``equity_usd`` is the broker's figure."""

    request: OperatorRequested
    adoptions: tuple[Adoption, ...]
    equity_usd: Decimal


def opening(request_id: str, position: BrokerPosition) -> tuple[ForeignExecution, ...]:
    """A position of before the books as one execution at its average price, rounded to a millionth of a dollar."""
    price = position.avg_entry_price_usd.quantize(MICRO)
    side = Side.BUY if position.qty > 0 else Side.SELL
    return (ForeignExecution(f"{request_id}:{position.symbol}", "", position.symbol, side, abs(position.qty), price),)


def plan_adoption(
    symbol: str,
    executions: tuple[ForeignExecution, ...],
    at_broker: Decimal,
    ask: AdoptPosition,
    book: OrderBook,
    context: Context,
) -> Adoption | str:
    """Decide what a contract's executions become, or say why they cannot be adopted.

    Args:
        at_broker: the position that the broker's newest report shows, signed.
    """
    contract = _option(symbol)
    fraction = any(e.qty != int(e.qty) for e in executions)
    held = context.ledger.position(symbol)
    net = sum((e.side.sign * e.qty for e in executions), ZERO)
    buys = tuple(e for e in executions if e.side is Side.BUY)
    sells = tuple(e for e in executions if e.side is Side.SELL)
    if (contract is None or fraction) and executions and held == net == at_broker == 0:
        left = -sum((e.side.sign * e.qty * e.price_usd for e in executions), ZERO) * multiplier(symbol)
        return Adoption(symbol, symbol, buys, sells, None, None, left.quantize(MICRO))
    if contract is None:
        text = "only single options can be adopted, their stop is judged on option quotes"
        return f"{symbol}: {text}; close it at the broker and adopt again: what is over is booked as cash"
    if fraction:
        return f"{symbol}: a fraction of a contract cannot be adopted; close it at the broker and adopt again"
    if not executions and at_broker == held:
        return f"{symbol}: nothing to adopt, ledger and broker both have {held}"
    if held + net != at_broker:
        known = f"{held} by the ledger and {net:+} by executions that are known"
        return f"{symbol}: {at_broker} at the broker, but {known}; wait for the next report and try again"
    if any(record.order.symbol == symbol for record in book.working.values()):
        return f"{symbol}: an order of ours is working on it; wait for its end"
    trades = [t for t in context.ledger.open_trades() if t.symbol == symbol]
    if trades:
        if buys or len(trades) > 1 or -net > trades[0].contracts_open:
            return f"{symbol}: we hold a trade in it, and others did more than close it; close the rest at the broker"
        return Adoption(symbol, contract.root, (), sells, None, trades[0])
    if held != 0 or net < 0 or not buys:
        return f"{symbol}: neither a short position nor one without a trade can be adopted; close it at the broker"
    plan = _plan(contract, ask, context)
    if net > 0:
        if listed_contract(context.chains, contract.root, symbol) is None:
            return f"{symbol}: not among the listed contracts that are watched, so no exit could be judged; close it"
        if plan is None or plan.flat_ns <= context.at_ns:
            return f"{symbol}: {ask.flat_at} New York on its last trading day is over; choose a later --flat-at"
    # A round trip that is over needs no time to be flat, but a trade has a plan.
    plan = plan or ExitPlan(None, ask.stop_fraction, None, None, None, 1, context.at_ns)
    return Adoption(symbol, contract.root, buys, sells, plan, None)


def _option(symbol: str) -> OptionContract | None:
    try:
        return parse_occ(symbol)
    except RemoteError:
        return None


def _plan(contract: OptionContract, ask: AdoptPosition, context: Context) -> ExitPlan | None:
    last = context.table.last_trading(contract.expiry)
    if last is None:
        return None
    direction = 1 if contract.is_call else -1
    return ExitPlan(ask.target_fraction, ask.stop_fraction, None, None, None, direction, last.late(ask.flat_at))


def terms(
    wish: AdoptWish, one: Adoption, ends: SubmitOrder | None, order_id: str, at_ns: int
) -> dict[str, Any]:  # the fields of a SubmitOrder, which only the gate may make
    """What the order says that others' executions stand for: an entry, or the exit of ``ends``."""
    done = one.buys if ends is None else one.sells
    contracts = sum(int(e.qty) for e in done)
    paid_usd = sum((e.qty * e.price_usd for e in done), ZERO)
    price = (paid_usd / contracts).quantize(MICRO)
    worst = ZERO if ends else paid_usd * CONTRACT_MULTIPLIER
    fraction = ZERO if one.plan is None else Decimal(repr(one.plan.stop_fraction))
    own = f"{OPERATOR}:{wish.request.request_id}:{one.symbol}@{order_id}"
    return {
        "order_id": order_id,
        "trade_id": ends.trade_id if ends else order_id,
        "decision_id": ends.decision_id if ends else own,
        "strategy": ends.strategy if ends else OPERATOR,
        "strategy_hash": ends.strategy_hash if ends else "",
        "underlying": one.underlying,
        "purpose": Purpose.FORCED if ends else Purpose.ENTRY,
        "symbol": one.symbol,
        "side": Side.SELL if ends else Side.BUY,
        "contracts": contracts,
        "order_type": OrderType.LIMIT,
        "ladder": (LadderStep(price, 0.0),),
        "worst_price_usd": price,
        "decision_mid_usd": None,
        "window_end_ns": at_ns,
        "exit_plan": None if ends else one.plan,
        "planned_risk_usd": (worst * fraction).quantize(CENT, rounding=ROUND_CEILING),
        "worst_case_usd": worst,
        "equity_usd": wish.equity_usd,
        "reason": f"adopted by {wish.request.who}: {wish.request.why}",
    }


Maker = Callable[[AdoptWish, Adoption, SubmitOrder | None, Context], SubmitOrder]


def books(wish: AdoptWish, entries: Mapping[str, SubmitOrder], make: Maker, context: Context) -> list[Message]:
    """Everything that an adoption puts into the books; ``make`` is the gate's, which alone makes orders."""
    out: list[Message] = []
    for one in wish.adoptions:
        if one.cash_usd is not None:
            ask = wish.request
            out.append(
                CashCorrected(ask.request_id, one.symbol, one.cash_usd, ask.who, ask.why, one.covers, context.at_ns)
            )
            continue
        if one.ends is None:
            entry = make(wish, one, None, context)
            intent, approved = decision(wish.request, one, entry, context)
            out.append(PositionAdopted(wish.request.request_id, intent, approved, entry, _ids(one.buys)))
            out += past(entry, one.buys, context.at_ns)
        else:
            entry = entries[one.ends.trade_id]
        if one.sells:
            leave = make(wish, one, entry, context)
            if one.closes:  # of a part it would tell a restart to sell the rest
                out.append(ExitTriggered(entry.trade_id, OPERATOR, "sold by others", "adopted", Purpose.FORCED))
            out.append(PositionAdopted(wish.request.request_id, None, None, leave, _ids(one.sells)))
            out += past(leave, one.sells, context.at_ns)
    return out


def _ids(executions: Iterable[ForeignExecution]) -> tuple[str, ...]:
    return tuple(e.execution_id for e in executions)


def decision(
    request: OperatorRequested, adoption: Adoption, order: SubmitOrder, context: Context
) -> tuple[Intent, IntentApproved]:
    """The intent and the decision that an adopted entry has in the books: the operator's own."""
    if order.exit_plan is None or order.worst_price_usd is None:
        raise ValueError(f"order {order.order_id}: an entry without a plan or a price")
    price = order.worst_price_usd
    intent = Intent(
        intent_id=order.decision_id.partition("@")[0],
        strategy=OPERATOR,
        strategy_hash="",
        underlying=adoption.underlying,
        legs=(Leg(adoption.symbol, Side.BUY, 1, price, price, context.at_ns),),
        exit_plan=order.exit_plan,
        confidence=1.0,
        confidence_needed=0.0,
        reason=order.reason,
        facts={"request_id": request.request_id, "who": request.who},
        valid_until_ns=context.at_ns,
    )
    approved = IntentApproved(
        decision_id=order.decision_id,
        intent_id=intent.intent_id,
        strategy=OPERATOR,
        underlying=adoption.underlying,
        contracts=order.contracts,
        bound_by=OPERATOR,
        planned_risk_usd=order.planned_risk_usd,
        worst_case_usd=order.worst_case_usd,
        equity_usd=order.equity_usd,
        headroom={},
    )
    return intent, approved


def past(order: SubmitOrder, executions: tuple[ForeignExecution, ...], at_ns: int) -> list[Message]:
    """The fills and the end of an order that others have executed. Fees are not modelled: the broker's are booked."""
    fills: list[Message] = [
        OrderFilled(
            execution_id=ADOPTED + e.execution_id,
            order_id=order.order_id,
            client_order_id=e.client_order_id,
            broker_order_id="",
            trade_id=order.trade_id,
            strategy=order.strategy,
            symbol=order.symbol,
            side=order.side,
            purpose=order.purpose,
            contracts=int(e.qty),
            price_usd=e.price_usd,
            fees_broker_usd=ZERO,
            fees_modelled_usd=ZERO,
            at_ns=at_ns,
        )
        for e in executions
    ]
    return [
        *fills,
        OrderClosed(order.order_id, order.trade_id, order.purpose, order.contracts, order.contracts, "adopted"),
    ]

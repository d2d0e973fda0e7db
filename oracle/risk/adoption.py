"""Take what others executed in a contract into the books: which executions, what they become, or why not.

Inputs: executions that are not ours, the broker's position, the ledger's view. Outputs: an ``Adoption`` that the gate
turns into orders that are over, or a reason in words. Invariants: pure; nothing is adopted that does not explain the
broker's position to the last contract; what is held afterwards is covered, listed and has an exit plan.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec

from oracle.core.control import AdoptPosition
from oracle.core.errors import RemoteError
from oracle.core.instruments import CONTRACT_MULTIPLIER, OptionContract, multiplier, parse_occ
from oracle.core.message import Message
from oracle.core.messages import (
    ADOPTED,
    CashCorrected,
    ExitPlan,
    ExitTriggered,
    ForeignExecution,
    Intent,
    IntentApproved,
    LadderStep,
    Leg,
    OperatorRequested,
    OrderClosed,
    OrderFilled,
    PositionAdopted,
    SubmitOrder,
)
from oracle.core.money import CENT, ZERO
from oracle.core.ports import Context, TradeView
from oracle.core.structures import is_structure, legs_of, payoff
from oracle.core.vocabulary import OrderType, Purpose, Side
from oracle.risk.book import OrderBook
from oracle.risk.closing import symbols_of
from oracle.risk.foreign import MICRO
from oracle.risk.priced import listed_contract
from oracle.risk.worth import held_of

OPERATOR = "operator"


class Adoption(msgspec.Struct, frozen=True):
    """The adoption of one contract, one structure or one leg. ``ends`` is the trade of ours that others have closed, in
    whole or in part.

    ``entries`` open it, ``exits`` close it again. ``cash_usd``: no trade is made, this is what a round trip of others
    has left. ``units``: how many of a structure were opened.
    """

    symbol: str
    underlying: str
    entries: tuple[ForeignExecution, ...]
    exits: tuple[ForeignExecution, ...]
    plan: ExitPlan | None
    ends: TradeView | None
    cash_usd: Decimal | None = None
    units: int | None = None

    @property
    def closes(self) -> bool:
        """Whether what others did leaves nothing of its trade open that ours should still hold."""
        if self.ends is not None and is_structure(self.ends.symbol):
            return True  # what is left of it is no structure any more
        held = sum(int(e.qty) for e in self.entries) if self.ends is None else _held(self.ends, self.symbol)
        return sum(int(e.qty) for e in self.exits) >= abs(held)

    @property
    def covers(self) -> tuple[str, ...]:
        """The executions that it settles."""
        return _ids((*self.entries, *self.exits))


class AdoptWish(msgspec.Struct, frozen=True):
    """Contracts that should be booked as ours now; ``equity_usd`` is the broker's figure."""

    request: OperatorRequested
    adoptions: tuple[Adoption, ...]
    equity_usd: Decimal


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
    trades = [t for t in context.ledger.open_trades() if _held(t, symbol) != 0]
    if trades and executions:
        return _ending(symbol, executions, at_broker, trades, book, context)
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
        text = "only options and structures of them can be adopted, their stop is judged on option quotes"
        return f"{symbol}: {text}; close it at the broker and adopt again: what is over is booked as cash"
    if fraction:
        return f"{symbol}: a fraction of a contract cannot be adopted; close it at the broker and adopt again"
    if not executions and at_broker == held:
        return f"{symbol}: nothing to adopt, ledger and broker both have {held}"
    if held + net != at_broker:
        known = f"{held} by the ledger and {net:+} by executions that are known"
        return f"{symbol}: {at_broker} at the broker, but {known}; wait for the next report and try again"
    if _is_worked(symbol, book):
        return f"{symbol}: an order of ours is working on it; wait for its end"
    if held != 0 or net < 0 or not buys:
        text = "a short one is adopted with what covers it, by the structure's name; close it at the broker else"
        return f"{symbol}: neither a short position nor one without a trade can be adopted; {text}"
    plan = _plan(contract, ask, context)
    if net > 0:
        if listed_contract(context.chains, contract.root, symbol) is None:
            return f"{symbol}: not among the listed contracts that are watched, so no exit could be judged; close it"
        if plan is None or plan.flat_ns <= context.at_ns:
            return f"{symbol}: {ask.flat_at} New York on its last trading day is over; choose a later --flat-at"
    # A round trip that is over needs no time to be flat, but a trade has a plan.
    plan = plan or ExitPlan(None, ask.stop_fraction, None, None, None, 1, context.at_ns)
    return Adoption(symbol, contract.root, buys, sells, plan, None)


def _ending(
    symbol: str, executions: tuple[ForeignExecution, ...], at_broker: Decimal, trades: list[TradeView], book: OrderBook,
    context: Context,
) -> Adoption | str:  # fmt: skip
    """Decide what others' executions in something that a trade of ours holds become: the end of it, or of a part."""
    held, net = context.ledger.position(symbol), sum((e.side.sign * e.qty for e in executions), ZERO)
    if held + net != at_broker:
        known = f"{held} by the ledger and {net:+} by executions that are known"
        return f"{symbol}: {at_broker} at the broker, but {known}; wait for the next report and try again"
    if _is_worked(symbol, book):
        return f"{symbol}: an order of ours is working on it; wait for its end"
    ours = _held(trades[0], symbol)
    opens = any(e.side.sign * ours > 0 or e.qty != int(e.qty) for e in executions)
    if opens or len(trades) > 1 or abs(net) > abs(ours):
        return f"{symbol}: we hold a trade in it, and others did more than close it; close the rest at the broker"
    return Adoption(symbol, trades[0].underlying, (), executions, None, trades[0])


def plan_structure(
    name: str,
    executions: tuple[ForeignExecution, ...],
    at_broker: Mapping[str, Decimal],
    ask: AdoptPosition,
    book: OrderBook,
    context: Context,
) -> Adoption | str:
    """Decide what executions in all the legs of a structure become: one trade of it, or say why they cannot."""
    legs = legs_of(name)
    net = dict.fromkeys((leg.symbol for leg in legs), 0)
    for e in executions:
        if e.qty != int(e.qty):
            return f"{name}: a fraction of a contract cannot be adopted; close it at the broker and adopt again"
        net[e.symbol] += e.side.sign * int(e.qty)
    for leg in legs:
        held = context.ledger.position(leg.symbol)
        if held != 0 or net[leg.symbol] != at_broker.get(leg.symbol, ZERO):
            known = f"{held} by the ledger and {net[leg.symbol]:+} by executions that are known"
            return f"{leg.symbol}: {at_broker.get(leg.symbol, ZERO)} at the broker, but {known}; it cannot be a leg"
        if _is_worked(leg.symbol, book):
            return f"{leg.symbol}: an order of ours is working on it; wait for its end"
        if any(e.side is not leg.side for e in executions if e.symbol == leg.symbol):
            return f"{leg.symbol}: others have also closed some of it; close the rest at the broker and adopt again"
        if listed_contract(context.chains, parse_occ(leg.symbol).root, leg.symbol) is None:
            return (
                f"{leg.symbol}: not among the listed contracts that are watched, so no exit could be judged; close it"
            )
    units = abs(net[legs[0].symbol]) // legs[0].ratio
    if units == 0 or any(net[leg.symbol] != units * leg.signed for leg in legs):
        return f"{name}: what is held is not a whole number of it: {', '.join(f'{q:+} {s}' for s, q in net.items())}"
    if not payoff(legs, ZERO).covered:
        return f"{name}: a short of it is not covered; buy it back at the broker and adopt again"
    contract = min((parse_occ(leg.symbol) for leg in legs), key=lambda one: one.expiry)
    plan = _plan(contract, ask, context)
    if plan is None or plan.flat_ns <= context.at_ns:
        return f"{name}: {ask.flat_at} New York on its last trading day is over; choose a later --flat-at"
    neutral = msgspec.structs.replace(plan, direction=0)
    return Adoption(name, contract.root, executions, (), neutral, None, units=units)


def _held(trade: TradeView, symbol: str) -> int:
    return sum(leg.qty for leg in held_of(trade) if leg.symbol == symbol)


def _is_worked(symbol: str, book: OrderBook) -> bool:
    return any(symbol in symbols_of(record.order) for record in book.working.values())


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
    done = one.entries if ends is None else one.exits
    contracts = sum(int(e.qty) for e in done) if one.units is None else one.units
    side = done[0].side if one.units is None else Side.BUY
    paid_usd = sum((side.sign * e.side.sign * e.qty * e.price_usd for e in done), ZERO)
    price = (paid_usd / contracts).quantize(MICRO)
    worst = ZERO if ends else paid_usd * CONTRACT_MULTIPLIER
    most = payoff(legs_of(one.symbol), price).max_loss_usd if one.units is not None else None
    worst = worst if most is None else most * contracts
    fraction = ZERO if one.plan is None else Decimal(repr(one.plan.stop_fraction))
    planned = min(abs(price) * contracts * CONTRACT_MULTIPLIER * fraction, worst)
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
        "side": side,
        "contracts": contracts,
        "order_type": OrderType.LIMIT,
        "ladder": (LadderStep(price, 0.0),),
        "worst_price_usd": price,
        "decision_mid_usd": None,
        "window_end_ns": at_ns,
        "exit_plan": None if ends else one.plan,
        "planned_risk_usd": planned.quantize(CENT, rounding=ROUND_CEILING),
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
            out.append(PositionAdopted(wish.request.request_id, intent, approved, entry, _ids(one.entries)))
            out += past(entry, one.entries, context.at_ns)
        else:
            entry = entries[one.ends.trade_id]
        if one.exits:
            leave = make(wish, one, entry, context)
            if one.closes:  # of a part it would tell a restart to sell the rest
                out.append(ExitTriggered(entry.trade_id, OPERATOR, "sold by others", "adopted", Purpose.FORCED))
            out.append(PositionAdopted(wish.request.request_id, None, None, leave, _ids(one.exits)))
            out += past(leave, one.exits, context.at_ns)
    return out


def _ids(executions: Iterable[ForeignExecution]) -> tuple[str, ...]:
    return tuple(e.execution_id for e in executions)


def decision(
    request: OperatorRequested, adoption: Adoption, order: SubmitOrder, context: Context
) -> tuple[Intent, IntentApproved]:
    """The intent and the decision that an adopted entry has in the books: the operator's own."""
    if order.exit_plan is None or order.worst_price_usd is None:
        raise ValueError(f"order {order.order_id}: an entry without a plan or a price")
    if adoption.units is None:
        legs: tuple[Leg, ...] = (_leg(adoption.symbol, Side.BUY, 1, order.worst_price_usd, context.at_ns),)
    else:
        units = adoption.units
        legs = tuple(
            _leg(leg.symbol, leg.side, leg.ratio, _paid_usd(adoption, leg.symbol) / (units * leg.ratio), context.at_ns)
            for leg in legs_of(adoption.symbol)
        )
    intent = Intent(
        intent_id=order.decision_id.partition("@")[0],
        strategy=OPERATOR,
        strategy_hash="",
        underlying=adoption.underlying,
        legs=legs,
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


def _leg(symbol: str, side: Side, ratio: int, price_usd: Decimal, at_ns: int) -> Leg:
    return Leg(symbol, side, ratio, price_usd.quantize(MICRO), price_usd.quantize(MICRO), at_ns)


def _paid_usd(adoption: Adoption, symbol: str) -> Decimal:
    return sum((e.qty * e.price_usd for e in adoption.entries if e.symbol == symbol), ZERO)


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
            symbol=e.symbol,
            side=e.side,
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

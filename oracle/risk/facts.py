"""Assemble the facts that the rules judge, from views and the gate's own memory. Pure reads.

Inputs: an intent, the turn's context, the order book, halts, limits and betas. Output: one ``RiskFacts``.
Invariant: what cannot be known is None; nothing here falls back to an older or another price.
"""

from collections.abc import Collection, Sequence
from decimal import Decimal

import msgspec

from oracle.core.errors import RemoteError
from oracle.core.instruments import parse_occ
from oracle.core.messages import Intent
from oracle.core.money import ZERO
from oracle.core.ports import ChainsView, Context, LedgerView, StrategyCaps
from oracle.core.sessions import Session, SessionTable
from oracle.core.structures import OrderLeg, legs_of
from oracle.core.vocabulary import Feed, Side
from oracle.risk.book import OrderBook
from oracle.risk.exposure import House, committed, legs_delta_usd, net_delta_usd
from oracle.risk.halts import Halts
from oracle.risk.priced import expiries, listed_contract, price, unit_of, wanted_name
from oracle.risk.sheet import RiskFacts


class Memory(msgspec.Struct, frozen=True):
    """The gate's own state at one moment; ``at_breakeven`` are trades whose stop has moved to the entry price."""

    book: OrderBook
    halts: Halts
    at_breakeven: Collection[str]
    draining: bool
    foreign_execution: str | None


def _duplicate(intent: Intent, symbol: str, book: OrderBook) -> str | None:
    if intent.intent_id in book.decided:
        return f"{intent.intent_id} was decided before"
    for record in book.entering():
        if record.order.strategy == intent.strategy and record.order.symbol == symbol:
            return f"{record.order.order_id} works the same entry"
    return None


def _opposite(unit: Sequence[OrderLeg], book: OrderBook) -> tuple[str, ...]:
    """Our working orders that trade the other side of a leg's contract."""
    sides = {leg.symbol: leg.side for leg in unit}
    out = []
    for record in book.working.values():
        buys = record.order.side is Side.BUY
        for leg in legs_of(record.order.symbol):
            if sides.get(leg.symbol) is (leg.side.opposite if buys else leg.side):
                out.append(record.order.order_id)
                break
    return tuple(out)


def _conflicts(unit: Sequence[OrderLeg], ledger: LedgerView) -> tuple[str, ...]:
    """Legs on the other side of what is held of their contract."""
    held = [(leg, ledger.position(leg.symbol)) for leg in unit]
    return tuple(
        f"{leg.side.value} against {position} held of {leg.symbol}"
        for leg, position in held
        if position * leg.signed < 0
    )


def _at_once(strategy: str, context: Context, book: OrderBook, underlying: str | None = None) -> int:
    """A strategy's trades that are open, and those that a working entry may still open; of one underlying or all."""
    held = [(t.trade_id, t.underlying) for t in context.ledger.open_trades() if t.strategy == strategy]
    held += [(w.order.trade_id, w.order.underlying) for w in book.entering() if w.order.strategy == strategy]
    return len({trade_id for trade_id, symbol in held if underlying in (None, symbol)})


class Contracts(msgspec.Struct, frozen=True):
    """What is known of the legs' contracts; ``close_ns`` is the earliest last close, ``today``: one is today's."""

    known: bool
    tradable: bool | None
    close_ns: int | None
    today: bool | None


def _contracts(
    unit: Sequence[OrderLeg], underlying: str, chains: ChainsView, table: SessionTable, session: Session | None
) -> Contracts:
    listed = [listed_contract(chains, underlying, leg.symbol) for leg in unit]
    found = [contract for contract in listed if contract is not None]
    complete = len(found) == len(unit)
    dates = expiries(unit)
    ends = [] if dates is None else [table.last_trading(date) for date in dates]
    known = [end for end in ends if end is not None]
    whole = bool(known) and len(known) == len(unit)
    return Contracts(
        known=complete and all(_root(leg.symbol) == underlying for leg in unit),
        tradable=all(contract.tradable for contract in found) if complete else None,
        close_ns=min(end.close_ns for end in known) if whole else None,
        today=any(end.date == session.date for end in known) if whole and session is not None else None,
    )


def _root(symbol: str) -> str | None:
    try:
        return parse_occ(symbol).root
    except RemoteError:
        return None


def decision_mid_usd(intent: Intent) -> Decimal:
    """The net middle of the quotes that the decision saw."""
    return sum((leg.side.sign * leg.ratio * leg.mid_usd for leg in intent.legs), ZERO)


def assemble(intent: Intent, context: Context, house: House, memory: Memory) -> RiskFacts:
    """Gather all facts about one intent, at the worst price of the ladder it would get."""
    book, halts = memory.book, memory.halts
    since_ns = context.at_ns if context.session is None else context.session.open_ns
    unit, symbol, chains = unit_of(intent), wanted_name(intent), context.chains
    session, account, equity = context.session, context.account, context.equity
    prices = price(intent, chains, house.ladder)
    contracts = _contracts(unit, intent.underlying, chains, context.table, session)
    each_delta = legs_delta_usd(unit, context, house) if expiries(unit) is not None else None
    used = committed(context, house.limits, book, memory.at_breakeven)
    power = account.options_buying_power_usd
    if power is not None:
        power -= book.unreported_usd(account.at_ns or 0)
    return RiskFacts(
        limits=house.limits, at_ns=context.at_ns, strategy=intent.strategy, underlying=intent.underlying,
        # the structure
        unit=unit, symbol=symbol, known_contract=contracts.known, tradable=contracts.tradable,
        confidence=intent.confidence, confidence_needed=intent.confidence_needed,
        valid_until_ns=intent.valid_until_ns, flat_ns=intent.exit_plan.flat_ns,
        expiry_close_ns=contracts.close_ns, expires_today=contracts.today,
        # state of the house
        state=halts.state, draining=memory.draining, strategy_failed=halts.failed(intent.strategy),
        strategy_disabled=halts.disabled(intent.strategy), latches=halts.names,
        losses_in_a_row=halts.losses_in_a_row, feeds=tuple((feed.value, context.market.feed(feed)) for feed in Feed),
        reconciled=account.reconciled, foreign_execution=memory.foreign_execution,
        unknown_orders=tuple(book.unknown), duplicate=_duplicate(intent, symbol, book),
        orders_last_min=book.orders_last_min(context.at_ns), round_trips=book.round_trips(intent.strategy, since_ns),
        caps=house.caps.get(intent.strategy, StrategyCaps()),
        strategy_losses_in_a_row=halts.strategy_losses(intent.strategy, since_ns),
        strategy_open_trades=_at_once(intent.strategy, context, book),
        underlying_trades=book.round_trips(intent.strategy, since_ns, intent.underlying),
        underlying_open_trades=_at_once(intent.strategy, context, book, intent.underlying),
        conflicts=_conflicts(unit, context.ledger), opposite_orders=_opposite(unit, book),
        # the market
        in_session=context.in_session, halted=context.market.halted(intent.underlying),
        bid_usd=prices.sides.bid_usd, ask_usd=prices.sides.ask_usd, quoted_ns=prices.quoted_ns,
        decision_mid_usd=decision_mid_usd(intent), worst_price_usd=prices.worst_usd,
        first_price_usd=prices.first_usd, gross_usd=prices.gross_usd, one_sided=prices.one_sided,
        # the account
        options_level=account.options_level, trading_blocked=account.trading_blocked, buying_power_usd=power,
        equity_usd=equity.equity_usd, day_start_usd=equity.day_start_usd, peak_usd=equity.peak_usd,
        # what is used and what one unit adds
        stop_fraction=Decimal(repr(intent.exit_plan.stop_fraction)), committed_planned_usd=used.planned_usd,
        giveback_usd=used.giveback_usd, committed_worst_usd=used.worst_usd,
        net_delta_usd=net_delta_usd(each_delta, context, house, book), trade_delta_usd=each_delta,
    )  # fmt: skip

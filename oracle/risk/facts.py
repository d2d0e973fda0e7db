"""Assemble the facts that the rules judge, from views and the gate's own memory. Pure reads.

Inputs: an intent, the turn's context, the order book, halts, limits and betas. Output: one ``RiskFacts``.
Invariant: what cannot be known is None; nothing here falls back to an older or another price.
"""

from bisect import bisect_left
from collections.abc import Collection, Mapping
from decimal import Decimal

import msgspec

from oracle.core.errors import RemoteError
from oracle.core.instruments import CONTRACT_MULTIPLIER, OptionContract, is_option, multiplier, parse_occ
from oracle.core.messages import Intent, Leg, ListedContract
from oracle.core.money import CENT, ZERO, price_from_float
from oracle.core.ports import ChainsView, Context, OptionQuote, StrategyCaps, TradeView
from oracle.core.sessions import NS
from oracle.core.vocabulary import Feed
from oracle.risk.book import OrderBook
from oracle.risk.halts import Halts
from oracle.risk.ladder import PENNY_ALWAYS, TickRule, build_ladder
from oracle.risk.limits import LadderSettings, RiskLimits
from oracle.risk.sheet import RiskFacts


class House(msgspec.Struct, frozen=True):
    """What the gate is configured with and the rules need."""

    limits: RiskLimits
    ladder: LadderSettings
    betas: Mapping[str, float]
    caps: Mapping[str, StrategyCaps]


class Memory(msgspec.Struct, frozen=True):
    """The gate's own state at one moment; ``at_breakeven`` are trades whose stop has moved to the entry price."""

    book: OrderBook
    halts: Halts
    at_breakeven: Collection[str]
    draining: bool
    foreign_execution: str | None


def seen_ns(quote: OptionQuote) -> int:
    """The age of a quote counts from the older of the vendor's time and arrival, so no clock can make it younger."""
    return min(quote.quoted_ns, quote.received_ns)


def is_fresh(quote: OptionQuote, at_ns: int, limits: RiskLimits) -> bool:
    """Whether an option's quote is young enough to be a mark."""
    return at_ns - seen_ns(quote) <= limits.max_option_quote_age_s * NS


def money(price: float | None) -> Decimal | None:
    """A quoted side as exact dollars; an absent side stays None."""
    return None if price is None else price_from_float(price)


def listed_contract(chains: ChainsView, underlying: str, symbol: str) -> ListedContract | None:
    """Find a contract in the session's list (sorted by symbol)."""
    listed = chains.listed(underlying)
    if listed is None:
        return None
    at = bisect_left(listed.contracts, symbol, key=lambda contract: contract.symbol)
    found = listed.contracts[at] if at < len(listed.contracts) else None
    return found if found is not None and found.symbol == symbol else None


def ticks_of(chains: ChainsView, underlying: str, symbol: str) -> TickRule:
    """The tick rule of a contract. One that is not listed gets the coarse ticks, which are valid for all classes."""
    listed = listed_contract(chains, underlying, symbol)
    return TickRule(penny_class=listed is not None and listed.penny_class, penny_always=underlying in PENNY_ALWAYS)


def _contract(symbol: str) -> OptionContract | None:
    try:
        return parse_occ(symbol)
    except RemoteError:
        return None


def _spot(symbol: str, context: Context, limits: RiskLimits) -> float | None:
    """The middle of a fresh stock quote, or None."""
    quote, received_ns = context.market.quote(symbol), context.market.received_ns(symbol)
    if quote is None or received_ns is None:
        return None
    if context.at_ns - min(quote.quoted_ns, received_ns) > limits.max_stock_quote_age_s * NS:
        return None
    return quote.mid


def unit_delta_usd(symbol: str, context: Context, house: House) -> Decimal | None:
    """Beta-weighted dollar delta of one long contract (or share): delta × units × spot × beta; None when unknown."""
    option = is_option(symbol)
    underlying = parse_occ(symbol).root if option else symbol
    spot, beta = _spot(underlying, context, house.limits), house.betas.get(underlying)
    delta = context.chains.delta(symbol, context.at_ns) if option else 1.0
    if spot is None or beta is None or delta is None:
        return None
    return Decimal(repr(delta * multiplier(symbol) * spot * beta)).quantize(CENT)


def _net_delta_usd(direction: Decimal | None, context: Context, house: House, book: OrderBook) -> Decimal | None:
    """Net delta of positions, plus those working entries that push the same way as this trade (the worse side)."""
    total = ZERO
    for position in context.ledger.positions():
        each = unit_delta_usd(position.symbol, context, house)
        if each is None:
            return None
        total += each * position.qty
    for record in book.entering():
        each = unit_delta_usd(record.order.symbol, context, house)
        if each is None or direction is None:
            return None
        signed = each * record.left * record.order.side.sign
        total += signed if signed * direction > 0 else ZERO
    return total


class Committed(msgspec.Struct, frozen=True):
    """What open trades and working entries use. ``worst_usd`` is None while a short option is held.

    ``planned_usd`` is the loss still planned, from the mark (at most the entry price) to the stop; ``giveback_usd``
    is the open gains that would be lost on the way to the stops.
    """

    planned_usd: Decimal
    giveback_usd: Decimal
    worst_usd: Decimal | None


def remaining_planned_usd(trade: TradeView, quote: OptionQuote | None, breakeven: bool) -> tuple[Decimal, Decimal]:
    """What an open trade may still lose from its mark to its stop: (planned loss, open gain given back), in dollars.

    A gain does not shrink the planned loss, so the mark counts at most as the entry price; an unknown, stale or
    one-sided market counts at the entry price, which is the whole planned loss.
    """
    entry = trade.entry_price_usd
    stop = entry if breakeven else entry * (1 - Decimal(repr(trade.exit_plan.stop_fraction)))
    mid = None if quote is None else quote.mid
    mark = entry if mid is None else price_from_float(mid)
    units = CONTRACT_MULTIPLIER * trade.contracts_open
    return max(min(mark, entry) - stop, ZERO) * units, max(mark - entry, ZERO) * units


def _committed(context: Context, limits: RiskLimits, book: OrderBook, at_breakeven: Collection[str]) -> Committed:
    """Add up open trades, positions and working entries."""
    planned = sum((w.left * w.planned_each_usd for w in book.entering()), ZERO)
    giveback = ZERO
    for trade in context.ledger.open_trades():
        quote = context.chains.option_quote(trade.symbol)
        usable = quote if quote is not None and is_fresh(quote, context.at_ns, limits) else None
        losing, gained = remaining_planned_usd(trade, usable, trade.trade_id in at_breakeven)
        planned += losing
        giveback += gained
    worst = sum((w.left * w.worst_each_usd for w in book.entering()), ZERO)
    for position in context.ledger.positions():
        if position.qty < 0:
            return Committed(planned, giveback, None)
        worst += position.qty * position.avg_price_usd * multiplier(position.symbol)
    return Committed(planned, giveback, worst)


def _duplicate(intent: Intent, symbol: str, book: OrderBook) -> str | None:
    if intent.intent_id in book.decided:
        return f"{intent.intent_id} was decided before"
    for record in book.entering():
        if record.order.strategy == intent.strategy and record.order.symbol == symbol:
            return f"{record.order.order_id} works the same entry"
    return None


def _opposite(leg: Leg, book: OrderBook) -> tuple[str, ...]:
    """Our working orders on the other side of a contract."""
    orders = (w.order for w in book.working.values())
    return tuple(order.order_id for order in orders if order.symbol == leg.symbol and order.side is not leg.side)


def _at_once(strategy: str, context: Context, book: OrderBook) -> int:
    """A strategy's trades that are open, and those that a working entry may still open."""
    trades = {trade.trade_id for trade in context.ledger.open_trades() if trade.strategy == strategy}
    trades.update(w.order.trade_id for w in book.entering() if w.order.strategy == strategy)
    return len(trades)


class Prices(msgspec.Struct, frozen=True):
    """The option's quote and the worst price of the ladder that it would give; None is unknown."""

    bid_usd: Decimal | None
    ask_usd: Decimal | None
    quoted_ns: int | None
    worst_usd: Decimal | None


def _prices(intent: Intent, context: Context, house: House) -> Prices:
    leg = intent.legs[0]
    quote = context.chains.option_quote(leg.symbol)
    if quote is None:
        return Prices(None, None, None, None)
    bid, ask, worst = money(quote.bid), money(quote.ask), None
    if bid is not None and ask is not None and bid <= ask:
        ticks = ticks_of(context.chains, intent.underlying, leg.symbol)
        steps = build_ladder(bid, ask, leg.side, ticks, house.ladder)
        worst = steps[-1].limit_usd if steps else None
    return Prices(bid, ask, seen_ns(quote), worst)


def assemble(intent: Intent, context: Context, house: House, memory: Memory) -> RiskFacts:
    """Gather all facts about one intent, at the worst price of the ladder it would get."""
    book, halts = memory.book, memory.halts
    since_ns = context.at_ns if context.session is None else context.session.open_ns
    leg, contract = intent.legs[0], _contract(intent.legs[0].symbol)
    listed = listed_contract(context.chains, intent.underlying, leg.symbol)
    prices = _prices(intent, context, house)
    expiry = None if contract is None else context.table.last_trading(contract.expiry)
    session, account, equity = context.session, context.account, context.equity
    each_delta = None if contract is None else unit_delta_usd(leg.symbol, context, house)
    signed_delta = None if each_delta is None else each_delta * leg.side.sign
    committed = _committed(context, house.limits, book, memory.at_breakeven)
    power = account.options_buying_power_usd
    if power is not None:
        power -= book.unreported_usd(account.at_ns or 0)
    return RiskFacts(
        limits=house.limits,
        at_ns=context.at_ns,
        strategy=intent.strategy,
        underlying=intent.underlying,
        legs=len(intent.legs),
        ratio=leg.ratio,
        side=leg.side,
        symbol=leg.symbol,
        known_contract=contract is not None and contract.root == intent.underlying and listed is not None,
        tradable=None if listed is None else listed.tradable,
        confidence=intent.confidence,
        confidence_needed=intent.confidence_needed,
        valid_until_ns=intent.valid_until_ns,
        flat_ns=intent.exit_plan.flat_ns,
        expiry_close_ns=None if expiry is None else expiry.close_ns,
        expires_today=None if expiry is None or session is None else expiry.date == session.date,
        state=halts.state,
        draining=memory.draining,
        strategy_failed=halts.failed(intent.strategy),
        strategy_disabled=halts.disabled(intent.strategy),
        latches=halts.names,
        losses_in_a_row=halts.losses_in_a_row,
        feeds=tuple((feed.value, context.market.feed(feed)) for feed in Feed),
        reconciled=account.reconciled,
        foreign_execution=memory.foreign_execution,
        unknown_orders=tuple(book.unknown),
        duplicate=_duplicate(intent, leg.symbol, book),
        orders_last_min=book.orders_last_min(context.at_ns),
        round_trips=book.round_trips(intent.strategy, since_ns),
        caps=house.caps.get(intent.strategy, StrategyCaps()),
        strategy_losses_in_a_row=halts.strategy_losses(intent.strategy, since_ns),
        strategy_open_trades=_at_once(intent.strategy, context, book),
        position=context.ledger.position(leg.symbol),
        opposite_orders=_opposite(leg, book),
        in_session=context.in_session,
        halted=context.market.halted(intent.underlying),
        bid_usd=prices.bid_usd,
        ask_usd=prices.ask_usd,
        quoted_ns=prices.quoted_ns,
        decision_mid_usd=leg.mid_usd,
        worst_price_usd=prices.worst_usd,
        options_level=account.options_level,
        trading_blocked=account.trading_blocked,
        buying_power_usd=power,
        equity_usd=equity.equity_usd,
        day_start_usd=equity.day_start_usd,
        peak_usd=equity.peak_usd,
        stop_fraction=Decimal(repr(intent.exit_plan.stop_fraction)),
        committed_planned_usd=committed.planned_usd,
        giveback_usd=committed.giveback_usd,
        committed_worst_usd=committed.worst_usd,
        net_delta_usd=_net_delta_usd(signed_delta, context, house, book),
        trade_delta_usd=signed_delta,
    )

"""Add up what open trades and working entries already use: delta, planned loss, worst case. Pure reads.

Inputs: the turn's context, the order book, limits and betas. Outputs: dollars, or None where one part is unknown.
Invariant: a structure counts as one thing, for as long as it is whole; what belongs to no trade counts as what was paid
for it, and a short that belongs to none is unknown.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

import msgspec

from oracle.core.instruments import CONTRACT_MULTIPLIER, is_option, multiplier, parse_occ
from oracle.core.money import CENT, ZERO
from oracle.core.ports import Context, LegView, StrategyCaps, TradeView
from oracle.core.sessions import NS
from oracle.core.structures import OrderLeg, is_structure, legs_of, payoff, reduced
from oracle.risk.book import OrderBook
from oracle.risk.limits import LadderSettings, RiskLimits
from oracle.risk.priced import is_bare_wing
from oracle.risk.worth import has_units, held_of, worth_of


class House(msgspec.Struct, frozen=True):
    """What the gate is configured with and the rules need."""

    limits: RiskLimits
    ladder: LadderSettings
    betas: Mapping[str, float]
    caps: Mapping[str, StrategyCaps]


class Committed(msgspec.Struct, frozen=True):
    """What open trades and working entries use; None where a part of it is unknown.

    ``planned_usd`` is the loss still planned, from the mark (at most the entry price) to the stop; ``giveback_usd``
    is the open gains that would be lost on the way to the stops.
    """

    planned_usd: Decimal | None
    giveback_usd: Decimal
    worst_usd: Decimal | None


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
    delta = context.chains.delta(symbol, context.at_ns) if is_option(symbol) else 1.0
    return None if delta is None else _delta_usd(symbol, delta, context, house)


def _delta_usd(symbol: str, delta: float, context: Context, house: House) -> Decimal | None:
    underlying = parse_occ(symbol).root if is_option(symbol) else symbol
    spot, beta = _spot(underlying, context, house.limits), house.betas.get(underlying)
    if spot is None or beta is None:
        return None
    return Decimal(repr(delta * multiplier(symbol) * spot * beta)).quantize(CENT)


def held_delta_usd(symbol: str, context: Context, house: House) -> tuple[Decimal, Decimal] | None:
    """The least and the most that the delta of one held contract or share can be, beta-weighted; None when unknown.

    A wing that nobody bids for any more has no volatility and so no delta. It has none beyond that of a contract of its
    right and expiry nearer the money, because deltas shrink with every strike away from it: the next one that is known
    bounds it, and nothing is made up.
    """
    exact = unit_delta_usd(symbol, context, house)
    if exact is not None:
        return exact, exact
    near = _nearer_delta(symbol, context) if is_option(symbol) else None
    bound = None if near is None else _delta_usd(symbol, near, context, house)
    return None if bound is None else (min(bound, ZERO), max(bound, ZERO))


def _nearer_delta(symbol: str, context: Context) -> float | None:
    """The delta of the next strike towards the money, or into it, that has one."""
    contract = parse_occ(symbol)
    listed = context.chains.listed(contract.root)
    # Symbols of one root, date and right differ in their last eight digits, the strike, and are listed in its order.
    kin = [] if listed is None else [row.symbol for row in listed.contracts if row.symbol[:-8] == symbol[:-8]]
    below, above = [one for one in kin if one < symbol], [one for one in kin if one > symbol]
    nearer = reversed(below) if contract.is_call else iter(above)
    deltas = (context.chains.delta(one, context.at_ns) for one in nearer)
    return next((delta for delta in deltas if delta is not None), None)


def legs_delta_usd(legs: Iterable[OrderLeg], context: Context, house: House) -> Decimal | None:
    """The same of one unit of a structure that is bought; None when one leg's is unknown.

    Of a wing that nobody bids for the delta is only bounded: then the end counts at which the unit's is larger.
    """
    unit = tuple(legs)
    least = most = ZERO
    for leg in unit:
        quote = context.chains.option_quote(leg.symbol)
        bare = quote is not None and is_bare_wing(leg, quote, unit)
        each = unit_delta_usd(leg.symbol, context, house)
        ends = held_delta_usd(leg.symbol, context, house) if bare else None if each is None else (each, each)
        if ends is None:
            return None
        least, most = least + min(end * leg.signed for end in ends), most + max(end * leg.signed for end in ends)
    return most if abs(most) >= abs(least) else least


def net_delta_usd(direction: Decimal | None, context: Context, house: House, book: OrderBook) -> Decimal | None:
    """Net delta of positions, plus those working entries that push the same way as this trade (the worse side).

    Where a position's own delta is only bounded, its worse end for this trade counts; for one without a direction the
    end at which the net is larger.
    """
    least = most = ZERO
    for position in context.ledger.positions():
        ends = held_delta_usd(position.symbol, context, house)
        if ends is None:
            return None
        held = sorted(end * position.qty for end in ends)
        least, most = least + held[0], most + held[1]
    pushes = most + least if direction is None or direction == 0 else direction
    total = most if pushes >= 0 else least
    for record in book.entering():
        each = legs_delta_usd(legs_of(record.order.symbol), context, house)
        if each is None or direction is None:
            return None
        signed = each * record.left * record.order.side.sign
        total += signed if signed * direction > 0 else ZERO
    return total


def remaining_planned_usd(
    trade: TradeView, mark_usd: Decimal | None, breakeven: bool
) -> tuple[Decimal, Decimal]:  # fmt: skip
    """What an open, whole trade may still lose from its mark to its stop: (planned loss, open gain given back), in USD.

    A gain does not shrink the planned loss, so the mark counts at most as the entry price; an unknown mark counts as
    the entry price, which is the whole planned loss. No structure loses more than its largest loss.
    """
    entry = trade.entry_price_usd
    stop = entry if breakeven else entry - abs(entry) * Decimal(repr(trade.exit_plan.stop_fraction))
    if is_structure(trade.symbol):
        most = payoff(legs_of(trade.symbol), entry).max_loss_usd
        stop = stop if most is None else max(stop, entry - most / CONTRACT_MULTIPLIER)
    mark = entry if mark_usd is None else mark_usd
    units = CONTRACT_MULTIPLIER * trade.contracts_open
    return max(min(mark, entry) - stop, ZERO) * units, max(mark - entry, ZERO) * units


def trade_worst_usd(trade: TradeView) -> Decimal | None:
    """What a structure's trade may still lose: all of it when whole, else what its cash and its legs can come to.

    None: shares, or a short without its cover, are left.
    """
    if trade.is_whole:
        most = payoff(legs_of(trade.symbol), trade.entry_price_usd).max_loss_usd
        return None if most is None else most * trade.contracts_open
    held = held_of(trade)
    if not held:
        return ZERO
    if not all(is_option(leg.symbol) for leg in held):
        return None
    name, units = reduced((leg.symbol, leg.qty) for leg in held)
    return _scaled(payoff(legs_of(name), -trade.cash_usd / (units * CONTRACT_MULTIPLIER)).max_loss_usd, units)


def _scaled(each: Decimal | None, units: int) -> Decimal | None:
    return None if each is None else each * units


def committed(context: Context, limits: RiskLimits, book: OrderBook, at_breakeven: Collection[str]) -> Committed:
    """Add up open trades, positions and working entries."""
    planned: Decimal | None = sum((w.left * w.planned_each_usd for w in book.entering()), ZERO)
    worst: Decimal | None = sum((w.left * w.worst_each_usd for w in book.entering()), ZERO)
    giveback = ZERO
    in_structures: Counter[str] = Counter()
    for trade in context.ledger.open_trades():
        held = held_of(trade)
        losing: Decimal | None
        if not is_structure(trade.symbol) or has_units(trade):
            mark = worth_of(trade, context, limits.max_option_quote_age_s).fresh_mid_usd
            losing, gained = remaining_planned_usd(trade, mark, trade.trade_id in at_breakeven)
            giveback += gained
        else:
            losing = trade_worst_usd(trade)  # it is on its way out, at any price
        planned = None if planned is None or losing is None else planned + losing
        if is_structure(trade.symbol):
            _count(in_structures, held)
            each = trade_worst_usd(trade)
            worst = None if worst is None or each is None else worst + each
    for position in context.ledger.positions():
        rest = position.qty - in_structures[position.symbol]
        if rest < 0 or worst is None:
            return Committed(planned, giveback, None)
        worst += rest * position.avg_price_usd * multiplier(position.symbol)
    return Committed(planned, giveback, worst)


def _count(into: Counter[str], legs: Iterable[LegView]) -> None:
    for leg in legs:
        into[leg.symbol] += leg.qty

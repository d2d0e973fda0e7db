"""How many contracts: the smallest remaining headroom of every rule with a size in it. Pure.

Inputs: ``RiskFacts`` at the ladder's worst price, the strategy's ``Record``. Output: a ``Size``.
Invariants: whole contracts only; unknown input gives no size; n contracts at the worst price break no rule.
Planned loss = stop fraction × price × 100 × contracts, at most the worst case; worst case = the premium at the worst
price, or the largest loss of a structure bought at it. "Contracts" are units of a structure.
"""

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec

from oracle.core.instruments import CONTRACT_MULTIPLIER
from oracle.core.messages import Refusal
from oracle.core.money import CENT, ZERO
from oracle.risk.sheet import UNKNOWN, RiskFacts

KELLY_MIN_TRADES = 30


class Record(msgspec.Struct, frozen=True):
    """A strategy's closed trades, net of modelled fees. USD, ``lost_usd`` positive; ``trades`` includes scratches."""

    trades: int = 0
    wins: int = 0
    losses: int = 0
    won_usd: Decimal = ZERO
    lost_usd: Decimal = ZERO

    def add(self, net_pnl_usd: Decimal) -> "Record":
        """The record with one more trade."""
        return Record(
            self.trades + 1,
            self.wins + (net_pnl_usd > 0),
            self.losses + (net_pnl_usd < 0),
            self.won_usd + max(net_pnl_usd, ZERO),
            self.lost_usd - min(net_pnl_usd, ZERO),
        )

    def kelly(self) -> Decimal | None:
        """Kelly's fraction p − q/(W/L), or None before there are enough trades.

        p and q are wins and losses over all trades, W and L the average win and loss. Without a loss it is p;
        without a win there is no edge and it is −1.
        """
        if self.trades < KELLY_MIN_TRADES:
            return None
        if self.wins == 0:
            return Decimal(-1)
        p = Decimal(self.wins) / self.trades
        if self.losses == 0:
            return p
        q = Decimal(self.losses) / self.trades
        return p - q * (self.lost_usd / self.losses) / (self.won_usd / self.wins)


class Headroom(msgspec.Struct, frozen=True):
    """What one rule leaves: contracts (None = unknown), what it saw, and the equity that one contract would need."""

    rule: str
    contracts: int | None
    observed: str
    limit: str
    equity_needed_usd: Decimal | None = None


class Size(msgspec.Struct, frozen=True):
    """The outcome; 0 contracts is refused, with ``refusals``.

    ``equity_needed_usd`` is the equity at which every rule would allow one contract, ``needed_by`` the rule that asks
    for it; None is unknown.
    """

    contracts: int
    bound_by: str
    headroom: dict[str, int]
    refusals: tuple[Refusal, ...]
    equity_needed_usd: Decimal | None
    needed_by: str | None = None


Measure = Callable[[RiskFacts], Headroom]


def worst_usd(facts: RiskFacts) -> Decimal | None:
    """The worst case of one unit at the worst price: the premium of a contract, the largest loss of a structure.

    None is unknown, or without bound.
    """
    outcome = facts.payoff
    return None if outcome is None else outcome.max_loss_usd


def planned_usd(facts: RiskFacts) -> Decimal | None:
    """The loss of one unit at the planned stop, before fees, never more than its worst case.

    The stop is a fraction of the entry price, so the price of the ladder counts that is farthest from zero: the last
    of one that pays, the first of one that is paid.
    """
    worst, largest = worst_usd(facts), facts.largest_price_usd
    if worst is None or largest is None:
        return None
    return min(largest * CONTRACT_MULTIPLIER * facts.stop_fraction, worst)


def value_usd(facts: RiskFacts) -> Decimal | None:
    """What an order of one unit moves: its net premium, or its worst case where that is more."""
    worst, largest = worst_usd(facts), facts.largest_price_usd
    return None if worst is None or largest is None else max(worst, largest * CONTRACT_MULTIPLIER)


def cost_usd(facts: RiskFacts) -> Decimal | None:
    """What the broker sets aside for one unit: the premium that it costs, or its largest loss where that is more."""
    worst, price = worst_usd(facts), facts.worst_price_usd
    return None if worst is None or price is None else max(worst, price * CONTRACT_MULTIPLIER)


class Base(msgspec.Struct, frozen=True):
    """What a fraction is of: an amount (None = unknown) and its name."""

    usd: Decimal | None
    name: str = "equity"


def _against(rule: str, base: Base, fraction: Decimal, used: Decimal | None, each: Decimal | None) -> Headroom:
    """Headroom under ``used + n × each ≤ fraction × base``."""
    limit = f"{fraction:.2%} of {base.name}"
    if base.usd is None or used is None or each is None or each <= 0:
        return Headroom(rule, None, UNKNOWN, limit)
    left = fraction * base.usd - used
    contracts = max(int((left / each).to_integral_value(ROUND_FLOOR)), 0)
    observed = f"{used:.2f} USD used and {each:.2f} USD a contract, of {fraction * base.usd:.2f} USD"
    needed = max((used + each) / fraction, ZERO).quantize(CENT, rounding=ROUND_CEILING)
    return Headroom(rule, contracts, observed, limit, needed)


def trade_loss(f: RiskFacts) -> Headroom:
    """Loss at the planned stop, per trade."""
    return _against("trade_loss", Base(f.equity_usd), f.limits.trade_loss_fraction, ZERO, planned_usd(f))


def position_worst_case(f: RiskFacts) -> Headroom:
    """Premium paid, or the largest loss of a structure, per trade."""
    return _against("position_worst_case", Base(f.equity_usd), f.limits.position_fraction, ZERO, worst_usd(f))


def day_budget(f: RiskFacts) -> Headroom:
    """The day's loss, what open and working trades may still lose at their stops, and this trade's.

    A day's gain does not extend the budget; and where an open gain hides another trade's loss, giving it back on the
    way to the stop counts, so that with every stop hit the day still ends inside the budget.
    """
    loss, committed, giveback = f.day_loss_usd, f.committed_planned_usd, f.giveback_usd
    used = None
    if loss is not None and committed is not None and giveback is not None:
        used = committed + max(loss + giveback, ZERO)
    base = Base(f.day_start_usd, "start-of-day equity")
    return _against("day_budget", base, f.limits.day_budget_fraction, used, planned_usd(f))


def open_worst_case(f: RiskFacts) -> Headroom:
    """The worst case of all positions and working entries."""
    fraction = f.limits.open_worst_case_fraction
    return _against("open_worst_case", Base(f.equity_usd), fraction, f.committed_worst_usd, worst_usd(f))


def net_delta(f: RiskFacts) -> Headroom:
    """Net beta-weighted dollar delta; a trade that works against the present net has the more room."""
    net, each = f.net_delta_usd, f.trade_delta_usd
    base = Base(f.equity_usd, "equity, beta-weighted")
    if each is not None and each == 0 and net is not None and base.usd is not None:
        return _neutral(f, abs(net), base.usd)
    used = net if net is None or each is None or each > 0 else -net
    return _against("net_delta", base, f.limits.net_delta_fraction, used, None if each is None else abs(each))


def _neutral(f: RiskFacts, net_usd: Decimal, equity_usd: Decimal) -> Headroom:
    """Any number of a structure without delta has room where the net itself has: it adds nothing."""
    fraction, cap = f.limits.net_delta_fraction, f.limits.max_contracts_per_order
    most_usd = fraction * equity_usd
    needed = (net_usd / fraction).quantize(CENT, rounding=ROUND_CEILING)
    observed = f"{net_usd:.2f} USD used and none a contract, of {most_usd:.2f} USD"
    limit = f"{fraction:.2%} of equity, beta-weighted"
    return Headroom("net_delta", cap if net_usd <= most_usd else 0, observed, limit, needed)


def order_contracts(f: RiskFacts) -> Headroom:
    """Contracts per order (FIA 1.1)."""
    cap = f.limits.max_contracts_per_order
    return Headroom("order_contracts", cap, "per order", f"{cap} contracts")


def order_value(f: RiskFacts) -> Headroom:
    """Premium, or worst case, per order (FIA 1.1)."""
    cap, each = f.limits.max_order_value_usd, value_usd(f)
    if each is None or each <= 0:
        return Headroom("order_value", None, UNKNOWN, f"{cap} USD")
    return Headroom("order_value", int(cap // each), f"{each:.2f} USD a contract", f"{cap} USD")


def buying_power(f: RiskFacts) -> Headroom:
    """Options buying power by the broker's last report, less what our working entries may still take."""
    each, power = cost_usd(f), f.buying_power_usd
    limit = "the premium at the worst price" if f.is_single else "the worst case at the worst price"
    if power is None or each is None or each <= 0:
        return Headroom("buying_power", None, UNKNOWN, limit)
    observed = f"{power:.2f} USD for {each:.2f} USD a contract"
    return Headroom("buying_power", max(int(power // each), 0), observed, limit)


MEASURES: tuple[Measure, ...] = (
    trade_loss,
    position_worst_case,
    day_budget,
    open_worst_case,
    net_delta,
    order_contracts,
    order_value,
    buying_power,
)


def half_kelly(f: RiskFacts, record: Record, live: bool) -> Headroom | None:
    """Half of Kelly's fraction on the planned loss, once the strategy has enough closed trades.

    Not live it never goes below one contract, because evidence must be able to come back; live it may refuse.
    """
    fraction = record.kelly()
    if fraction is None:
        return None
    half = (fraction / 2).quantize(Decimal("0.000001"), rounding=ROUND_FLOOR)
    seen = f"half-Kelly {half:.4f} after {record.trades} trades"
    if half <= 0:
        return Headroom("half_kelly", 0 if live else 1, seen, "above 0")
    room = _against("half_kelly", Base(f.equity_usd), half, ZERO, planned_usd(f))
    if room.contracts is None:
        return room
    contracts = room.contracts if live else max(room.contracts, 1)
    return Headroom("half_kelly", contracts, f"{seen}: {room.observed}", room.limit, room.equity_needed_usd)


def size(facts: RiskFacts, record: Record, live: bool) -> Size:
    """Find the most contracts that every rule allows.

    The binding rule is the first, in the order of ``MEASURES`` and then half-Kelly, with the least headroom.
    """
    rooms = [measure(facts) for measure in MEASURES]
    kelly = half_kelly(facts, record, live)
    if kelly is not None:
        rooms.append(kelly)
    known = {room.rule: room.contracts for room in rooms if room.contracts is not None}
    refusals = tuple(Refusal(r.rule, r.observed, r.limit) for r in rooms if r.contracts is None or r.contracts == 0)
    needs = [(room.equity_needed_usd, room.rule) for room in rooms if room.equity_needed_usd is not None]
    contracts = 0 if refusals else min(known.values())
    bound_by = refusals[0].rule if refusals else min(known, key=lambda rule: known[rule])
    all_known = len(known) == len(rooms)
    needed, by = max(needs, key=lambda need: need[0]) if all_known else (None, None)
    return Size(contracts, bound_by, known, refusals, needed, by)

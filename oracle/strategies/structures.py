"""What the strategies that trade several legs share: from chosen contracts to legs, prices and recorded facts.

Inputs: legs as the chain chose them, with live quotes. Outputs: ``Leg``s of an intent, net prices, and the facts that
every structure leaves: credit or debit, width, deltas, greatest loss and gain, break-even prices, and the win rate that
its exit plan needs before fees. Pure functions. Invariant: a unit is bought, so a credit is a negative price.
"""

from collections.abc import Sequence
from decimal import Decimal

from oracle.core.instruments import parse_occ
from oracle.core.messages import ExitPlan, Leg
from oracle.core.money import ZERO, price_from_float
from oracle.core.ports import Context, TradeView
from oracle.core.structurechoice import ChosenLeg
from oracle.core.structures import OrderLeg, Payoff, payoff
from oracle.core.vocabulary import Side
from oracle.options.breakeven import plan_bound
from oracle.strategies.base import Facts


def leg_of(chosen: ChosenLeg) -> Leg:
    """The leg of an intent, with the quote that the decision saw."""
    contract = chosen.contract
    return Leg(
        symbol=contract.symbol,
        side=chosen.side,
        ratio=chosen.ratio,
        bid_usd=price_from_float(contract.bid),
        ask_usd=price_from_float(contract.ask),
        quoted_ns=contract.quoted_ns,
        delta=None if contract.delta is None else round(contract.delta, 9),
        iv=None if contract.iv is None else round(contract.iv, 9),
    )


def order_legs(legs: Sequence[Leg]) -> tuple[OrderLeg, ...]:
    """The legs as a structure's name has them."""
    return tuple(OrderLeg(leg.symbol, leg.side, leg.ratio) for leg in legs)


def net_mid(legs: Sequence[Leg]) -> Decimal:
    """The middle of one unit, dollars a share; negative is a credit."""
    return sum((leg.side.sign * leg.ratio * leg.mid_usd for leg in legs), ZERO)


def net_touch(legs: Sequence[Leg]) -> Decimal:
    """What one unit costs at once, buying at asks and selling at bids; negative is a credit."""
    prices = (leg.ask_usd if leg.side is Side.BUY else leg.bid_usd for leg in legs)
    return sum((leg.side.sign * leg.ratio * price for leg, price in zip(legs, prices, strict=True)), ZERO)


def at_expiry(legs: Sequence[Leg]) -> Payoff:
    """What one unit bought at the net middle can come to."""
    return payoff(order_legs(legs), net_mid(legs))


def open_trades(strategy: str, underlying: str, context: Context) -> list[TradeView]:
    """The open trades of this strategy in this underlying."""
    return [t for t in context.ledger.open_trades() if t.strategy == strategy and t.underlying == underlying]


class Attempts:
    """The intents of a session by key: ids are the key, a hyphen and the minute of the session in which they left."""

    __slots__ = ("_minutes",)

    def __init__(self) -> None:
        self._minutes: dict[str, set[int]] = {}

    def note(self, intent_id: str) -> None:
        """Count an intent; the same one counts once."""
        key, _, minute = intent_id.rpartition("-")
        self._minutes.setdefault(key, set()).add(int(minute))

    def count(self, key: str) -> int:
        """How many intents have left."""
        return len(self._minutes.get(key, ()))

    def waits(self, key: str, minute: int, apart: int) -> bool:
        """Whether the last intent left less than ``apart`` minutes before this minute."""
        sent = self._minutes.get(key)
        return sent is not None and minute - max(sent) < apart

    def keep(self, start: str) -> None:
        """Forget the keys that do not start so."""
        self._minutes = {key: sent for key, sent in self._minutes.items() if key.startswith(start)}


def _net_delta(chosen: Sequence[ChosenLeg]) -> float | None:
    """The delta of one unit; None when a leg's is unknown."""
    total = 0.0
    for leg in chosen:
        if leg.contract.delta is None:
            return None
        total += leg.side.sign * leg.ratio * leg.contract.delta
    return total


def structure_facts(chosen: Sequence[ChosenLeg], legs: Sequence[Leg], plan: ExitPlan) -> Facts:
    """Everything about a structure that a reader of the record wants to see; dollars a share unless ``_usd`` of a unit.

    ``max_loss_usd``, ``max_gain_usd`` and ``break_even_…`` are those of one unit bought at the net middle; None where
    there is no bound. ``break_even_win_rate`` is the two-outcome bound of the exit plan before fees.
    """
    mid, touch, outcome = net_mid(legs), net_touch(legs), at_expiry(legs)
    evens = [float(price) for price in outcome.break_evens]
    bound = plan_bound(
        float(mid), plan, contracts=sum(leg.ratio for leg in legs), fee_usd=0.0,
        max_loss_usd=None if outcome.max_loss_usd is None else float(outcome.max_loss_usd),
    )  # fmt: skip
    strikes = [parse_occ(leg.symbol).strike for leg in legs]
    facts: Facts = {
        "net_mid_usd": float(mid),
        "net_touch_usd": float(touch),
        "credit_usd": float(-mid) if mid < 0 else None,
        "debit_usd": float(mid) if mid >= 0 else None,
        "net_spread_usd": float(sum((leg.ratio * (leg.ask_usd - leg.bid_usd) for leg in legs), ZERO)),
        "strikes_from": min(strikes),
        "strikes_to": max(strikes),
        "max_loss_usd": None if outcome.max_loss_usd is None else float(outcome.max_loss_usd),
        "max_gain_usd": None if outcome.max_gain_usd is None else float(outcome.max_gain_usd),
        "break_even_low": evens[0] if evens else None,
        "break_even_high": evens[-1] if evens else None,
        "break_even_win_rate": None if bound is None else bound.win_rate,
        "net_delta": _net_delta(chosen),
    }
    for number, (leg, one) in enumerate(zip(legs, chosen, strict=True), start=1):
        facts |= {
            f"leg_{number}": f"{leg.side.value} {leg.symbol}",
            f"leg_{number}_delta": leg.delta,
            f"leg_{number}_iv": leg.iv,
            f"leg_{number}_open_interest": one.contract.open_interest,
            f"leg_{number}_open_interest_date": one.contract.open_interest_date,
        }
    return facts

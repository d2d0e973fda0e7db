"""The sheet of facts that rules and sizing judge: one frozen struct per intent.

Inputs: none; ``facts.py`` fills it in. Invariant: what is not known is None, and never a default.
"""

from decimal import Decimal

import msgspec

from oracle.core.errors import InvariantError, RemoteError
from oracle.core.money import ZERO
from oracle.core.ports import StrategyCaps
from oracle.core.structures import OrderLeg, Payoff, payoff, structure_name
from oracle.core.vocabulary import FeedState, Side, TradingState
from oracle.risk.limits import RiskLimits

UNKNOWN = "unknown"


class RiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a rule may know about one intent. ``None`` is unknown; USD are Decimal; times are UTC ns.

    ``quoted_ns`` is the older of the vendor's time and arrival. ``committed_*`` are what open trades and working orders
    already use; ``giveback_usd`` is the open gain that would be lost on the way to the stops. ``net_delta_usd`` is the
    beta-weighted delta in dollars with working orders on the worse side for this trade; ``trade_delta_usd`` that of
    one unit.

    ``unit`` are the legs that are wanted. Prices are of one unit and share, net over its legs: negative ones are paid
    to us. ``quoted_ns`` is then the oldest leg's, ``expiry_close_ns`` the earliest leg's. ``first_price_usd`` and
    ``worst_price_usd`` are the ends of the ladder; ``gross_usd`` is the sum of the legs' mids, whatever their sides.
    """

    limits: RiskLimits
    at_ns: int
    strategy: str
    underlying: str
    # the structure
    unit: tuple[OrderLeg, ...]
    symbol: str
    known_contract: bool
    tradable: bool | None
    confidence: float
    confidence_needed: float
    valid_until_ns: int
    flat_ns: int
    expiry_close_ns: int | None
    expires_today: bool | None
    # state of the house
    state: TradingState
    draining: bool
    strategy_failed: bool
    strategy_disabled: bool = False
    latches: tuple[str, ...]
    losses_in_a_row: int
    feeds: tuple[tuple[str, FeedState], ...]
    reconciled: bool
    foreign_execution: str | None
    unknown_orders: tuple[str, ...]
    duplicate: str | None
    orders_last_min: int
    round_trips: int
    caps: StrategyCaps
    strategy_losses_in_a_row: int
    strategy_open_trades: int
    underlying_trades: int = 0
    underlying_open_trades: int = 0
    conflicts: tuple[str, ...]
    opposite_orders: tuple[str, ...]
    # the market
    in_session: bool
    halted: bool | None
    bid_usd: Decimal | None
    ask_usd: Decimal | None
    quoted_ns: int | None
    decision_mid_usd: Decimal | None
    worst_price_usd: Decimal | None
    first_price_usd: Decimal | None = None
    gross_usd: Decimal | None = None
    one_sided: tuple[str, ...] = ()
    # the account
    options_level: int | None
    trading_blocked: bool | None
    buying_power_usd: Decimal | None
    equity_usd: Decimal | None
    day_start_usd: Decimal | None
    peak_usd: Decimal | None
    # what is used and what one contract adds
    stop_fraction: Decimal
    committed_planned_usd: Decimal | None
    giveback_usd: Decimal | None
    committed_worst_usd: Decimal | None
    net_delta_usd: Decimal | None
    trade_delta_usd: Decimal | None

    @property
    def is_single(self) -> bool:
        """Whether one contract is bought, rather than a structure of several or with a short."""
        return len(self.unit) == 1 and self.unit[0].signed == 1

    @property
    def fault(self) -> str | None:
        """Why the legs are no structure that an order can name, or None when they are one."""
        try:
            structure_name(self.unit)
        except (InvariantError, RemoteError) as error:
            return str(error)
        return None

    @property
    def shorts(self) -> tuple[str, ...]:
        """What is sold to open."""
        return tuple(leg.symbol for leg in self.unit if leg.side is Side.SELL)

    @property
    def payoff(self) -> Payoff | None:
        """What one unit bought at the worst price can come to, or None without a price or a structure."""
        if self.worst_price_usd is None or self.fault is not None:
            return None
        return payoff(self.unit, self.worst_price_usd)

    @property
    def covered(self) -> bool:
        """Whether longs cover every short; legs that are no structure cover nothing."""
        return not self.shorts or (self.fault is None and payoff(self.unit, ZERO).covered)

    @property
    def largest_price_usd(self) -> Decimal | None:
        """The size of the ladder's price that is farthest from zero: the plan's fractions are taken of no more."""
        if self.worst_price_usd is None:
            return None
        first = self.worst_price_usd if self.first_price_usd is None else self.first_price_usd
        return max(abs(self.worst_price_usd), abs(first))

    @property
    def mid_usd(self) -> Decimal | None:
        """The middle of a two-sided, uncrossed quote, else None."""
        if self.bid_usd is None or self.ask_usd is None or self.bid_usd > self.ask_usd:
            return None
        return (self.bid_usd + self.ask_usd) / 2

    @property
    def day_loss_usd(self) -> Decimal | None:
        """What the day has lost, realised and unrealised: start-of-day equity less equity; negative for a gain."""
        if self.equity_usd is None or self.day_start_usd is None:
            return None
        return self.day_start_usd - self.equity_usd

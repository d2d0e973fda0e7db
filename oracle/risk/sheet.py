"""The sheet of facts that rules and sizing judge: one frozen struct per intent.

Inputs: none; ``facts.py`` fills it in. Invariant: what is not known is None, and never a default.
"""

from decimal import Decimal

import msgspec

from oracle.core.ports import StrategyCaps
from oracle.core.vocabulary import FeedState, Side, TradingState
from oracle.risk.limits import RiskLimits

UNKNOWN = "unknown"


class RiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a rule may know about one intent. ``None`` is unknown; USD are Decimal; times are UTC ns.

    ``quoted_ns`` is the older of the vendor's time and arrival. ``committed_*`` are what open trades and working orders
    already use; ``giveback_usd`` is the open gain that would be lost on the way to the stops. ``net_delta_usd`` is the
    beta-weighted delta in dollars with working orders on the worse side for this trade; ``trade_delta_usd`` that of
    one contract.
    """

    limits: RiskLimits
    at_ns: int
    strategy: str
    underlying: str
    # the structure
    legs: int
    ratio: int
    side: Side
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
    position: int
    opposite_orders: tuple[str, ...]
    # the market
    in_session: bool
    halted: bool | None
    bid_usd: Decimal | None
    ask_usd: Decimal | None
    quoted_ns: int | None
    decision_mid_usd: Decimal | None
    worst_price_usd: Decimal | None
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

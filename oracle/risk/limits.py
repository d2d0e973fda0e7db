"""The ceilings of risk, as constants, and the limits that configuration may only tighten.

Inputs: settings written by a person. Outputs: frozen ``RiskLimits`` and ``LadderSettings``.
Invariant: no ``RiskLimits`` can exist that is looser than ``BOUNDS`` in any mode; a test walks every row.
"""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class Bound(msgspec.Struct, frozen=True):
    """How far a limit may go: ``at_most`` is a ceiling, ``at_least`` a floor. ``unit`` is for people."""

    kind: Literal["at_most", "at_least"]
    value: Decimal
    unit: str

    def allows(self, value: Decimal) -> bool:
        """Whether a setting is as tight as the bound, or tighter."""
        return value <= self.value if self.kind == "at_most" else value >= self.value


def _most(value: str, unit: str) -> Bound:
    return Bound("at_most", Decimal(value), unit)


def _least(value: str, unit: str) -> Bound:
    return Bound("at_least", Decimal(value), unit)


# PRODUCT.md section 5 gives the first eight; the rest follow FIA July 2024 controls 1.1, 1.3, 3.1, 3.2 and 3.4.
BOUNDS: Final[Mapping[str, Bound]] = MappingProxyType(
    {
        "trade_loss_fraction": _most("0.02", "of equity"),
        "position_fraction": _most("0.05", "of equity"),
        "day_budget_fraction": _most("0.03", "of start-of-day equity"),
        "day_loss_fraction": _most("0.03", "of start-of-day equity"),
        "consecutive_losses": _most("3", "trades"),
        "open_worst_case_fraction": _most("0.20", "of equity"),
        "net_delta_fraction": _most("2.00", "of equity, beta-weighted"),
        "drawdown_fraction": _most("0.10", "of peak equity"),
        "max_contracts_per_order": _most("500", "contracts"),
        "max_order_value_usd": _most("250000", "USD of premium"),
        "price_collar_fraction": _most("0.25", "of the mid"),
        "price_collar_usd": _most("0.50", "USD"),
        "max_option_quote_age_s": _most("120", "s"),
        "max_stock_quote_age_s": _most("120", "s"),
        "max_spread_fraction": _most("0.25", "of the mid"),
        "max_spread_usd": _most("2.00", "USD"),
        "max_orders_per_min": _most("60", "orders a minute"),
        "max_round_trips_per_session": _most("50", "trades of a strategy a session"),
        "expiry_day_no_open_min": _least("30", "min before the close of expiry day"),
        "min_options_level": _least("2", "options level"),
    }
)


class RiskLimits(BaseModel):
    """Limits in force. Defaults are the ceilings for rules on equity and careful values for the controls.

    Fractions are of the base that ``BOUNDS`` names (0.02 is 2 %). ``restricted_symbols`` are underlyings that may
    not be opened.

    Raises:
        pydantic.ValidationError: a value is not positive, or looser than its ceiling (the text names field, value
            and ceiling), or a setting is unknown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    trade_loss_fraction: Decimal = Decimal("0.02")
    position_fraction: Decimal = Decimal("0.05")
    day_budget_fraction: Decimal = Decimal("0.03")
    day_loss_fraction: Decimal = Decimal("0.03")
    consecutive_losses: int = 3
    open_worst_case_fraction: Decimal = Decimal("0.20")
    net_delta_fraction: Decimal = Decimal("2.00")
    drawdown_fraction: Decimal = Decimal("0.10")
    max_contracts_per_order: int = 100
    max_order_value_usd: Decimal = Decimal(50_000)
    price_collar_fraction: Decimal = Decimal("0.15")
    price_collar_usd: Decimal = Decimal("0.25")
    max_option_quote_age_s: Decimal = Decimal(15)
    max_stock_quote_age_s: Decimal = Decimal(15)
    max_spread_fraction: Decimal = Decimal("0.10")
    max_spread_usd: Decimal = Decimal("0.50")
    max_orders_per_min: int = 20
    max_round_trips_per_session: int = 20
    expiry_day_no_open_min: Decimal = Decimal(30)
    min_options_level: int = 2
    restricted_symbols: tuple[str, ...] = ()

    @field_validator(*BOUNDS)
    @classmethod
    def _only_tighter(cls, value: Any, info: ValidationInfo) -> Any:
        bound = BOUNDS[str(info.field_name)]
        if not value > 0:
            raise ValueError(f"{info.field_name}: {value} is not above zero; to stop trading, halt instead")
        if not bound.allows(Decimal(value)):
            word = "ceiling" if bound.kind == "at_most" else "floor"
            raise ValueError(
                f"{info.field_name}: {value} is looser than the {word} {bound.value} {bound.unit}; limits only tighten"
            )
        return value


# Betas to SPY for the three underlyings that the shipped strategies trade: round figures on the careful (high) side,
# to be replaced by settings. Any other underlying needs a setting: an unknown beta refuses.
DEFAULT_BETAS: Final[Mapping[str, float]] = MappingProxyType({"SPY": 1.0, "QQQ": 1.2, "IWM": 1.15})


class LadderSettings(BaseModel):
    """How limit orders walk from the mid to the far touch, and how long orders may stand.

    ``fractions`` are shares of the spread beyond the mid, rising; 0.5 is the far touch. ``stand_s`` is how long one
    limit stands, ``window_s`` how long the whole order may work: the last step stands until then. ``market_stand_s``
    is how long a market exit may stay unfilled before it is taken back and sent again. ``retry_s`` spaces two exit
    orders of one trade; rejected market exits back off from it up to ``max_backoff_s``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fractions: tuple[Decimal, ...] = (Decimal(0), Decimal("0.25"), Decimal("0.40"), Decimal("0.50"))
    stand_s: float = Field(5.0, gt=0, le=120, allow_inf_nan=False)
    window_s: float = Field(60.0, gt=0, le=600, allow_inf_nan=False)
    market_stand_s: float = Field(60.0, gt=0, le=600, allow_inf_nan=False)
    retry_s: float = Field(3.0, ge=1, le=60, allow_inf_nan=False)
    max_backoff_s: float = Field(60.0, ge=1, le=300, allow_inf_nan=False)

    @field_validator("fractions")
    @classmethod
    def _rises_to_the_touch(cls, value: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
        half = Decimal("0.5")
        if not value or any(not 0 <= f <= half for f in value) or list(value) != sorted(set(value)):
            raise ValueError("fractions: must rise strictly within 0 … 0.5 of the spread (0.5 is the far touch)")
        return value

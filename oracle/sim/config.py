"""What the operator chooses about the embedded exchange: port, account, plan, limits, fees.

Invariant: the exchange listens on loopback only, so there is no host to choose.
"""

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from oracle.sim.behaviour import Behaviour


class FeeSchedule(BaseModel):
    """Fees in USD per contract and per share, by side; zero as on Alpaca paper."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    option_buy_usd_per_contract: Decimal = Field(Decimal(0), ge=0, le=100)
    option_sell_usd_per_contract: Decimal = Field(Decimal(0), ge=0, le=100)
    stock_buy_usd_per_share: Decimal = Field(Decimal(0), ge=0, le=100)
    stock_sell_usd_per_share: Decimal = Field(Decimal(0), ge=0, le=100)

    def per_unit(self, option: bool, buy: bool) -> Decimal:
        """The fee of one contract or one share, in USD."""
        if option:
            return self.option_buy_usd_per_contract if buy else self.option_sell_usd_per_contract
        return self.stock_buy_usd_per_share if buy else self.stock_sell_usd_per_share


class ExchangeConfig(BaseModel):
    """Settings of one exchange process with one account.

    ``port`` 0 picks a free port. ``seed`` makes every id of the exchange; two runs with one seed and the same
    inputs say the same bytes. ``hold`` keeps time still until a paced client is ready (docs/pacing.md). ``until`` ends
    the last session early, at a New York time. ``behaviour`` is what the broker does of its own accord.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: int = Field(0, ge=0, le=65535)
    hold: bool = False
    seed: int = 0
    until: str | None = Field(None, pattern=r"^(09:3[1-9]|09:[45]\d|1[0-5]:[0-5]\d|16:0[0-5])$")
    key: str = Field(min_length=1)
    secret: str = Field(min_length=1)
    account_number: str = "PA3SIM0001"
    starting_cash_usd: Decimal = Field(Decimal(100_000), ge=0)
    options_level: Literal[0, 1, 2, 3] = 3
    options_gtc: bool = False
    mleg_replace: bool = True
    plan: Literal["basic", "plus"] = "plus"
    behaviour: Behaviour = Field(default_factory=lambda: Behaviour.model_validate({}))
    fees: FeeSchedule = Field(default_factory=lambda: FeeSchedule.model_validate({}))
    trading_requests_per_min: int = Field(200, ge=1)
    data_requests_per_min: int | None = Field(None, ge=1)
    auth_timeout_s: float = Field(10.0, gt=0)
    max_body_bytes: int = Field(1 << 20, ge=1024)
    slow_client_bytes: int = Field(4 << 20, ge=1 << 16)

    @property
    def option_quote_limit(self) -> int:
        """Option quote subscriptions the plan allows."""
        return 200 if self.plan == "basic" else 1000

    @property
    def stock_symbol_limit(self) -> int | None:
        """Stock symbols (trades and quotes) the plan allows; None is unlimited."""
        return 30 if self.plan == "basic" else None

    @property
    def data_rate(self) -> int:
        """Market-data requests allowed in a minute of exchange time."""
        if self.data_requests_per_min is not None:
            return self.data_requests_per_min
        return 200 if self.plan == "basic" else 10_000

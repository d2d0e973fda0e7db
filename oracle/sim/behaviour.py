"""What the broker does of its own accord: exercise, assignment, sell-outs, when it tells of them. Switches, all plain.

The defaults are what Alpaca does on every expiry. The random parts (early assignment, a leg taken where a strike is
near) are off, and when on they depend on the exchange's seed, the contract and the date alone.
"""

import datetime as dt
import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Probability = float


def _iso_date(text: str) -> str:
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) and dt.date.fromisoformat(text):
            return text
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a date, write YYYY-MM-DD")


ExDate = Annotated[str, AfterValidator(_iso_date)]
DividendUsd = Annotated[Decimal, Field(ge=0, le=1000)]


def _instant(text: str) -> str:
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}", text) and dt.datetime.fromisoformat(text):
            return text
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a time, write YYYY-MM-DD HH:MM of New York")


class PlannedTransfer(BaseModel):
    """Cash that comes (+) or leaves (-) at a New York time; ``listed``: when its activity is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: Annotated[str, AfterValidator(_instant)]
    kind: Literal["CSD", "CSW", "JNLC", "ACATC", "INT"] = "CSD"
    amount_usd: Annotated[Decimal, Field(ge=-1_000_000_000, le=1_000_000_000)]
    listed: Literal["now", "next_day"] = "now"


class Behaviour(BaseModel):
    """Switches of the broker's own acts; see docs/exchange.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exercise: bool = Field(
        True, description="exercise and assign what is a cent in the money at its last close; off: settle all in cash"
    )
    cash_settled_roots: tuple[str, ...] = Field((), description="option roots that settle in cash, as index options do")
    sell_out: bool = Field(
        True, description="close, in the last 15 minutes, expiring positions that the account could not carry in shares"
    )
    pin_risk_sell_out: Probability = Field(
        0.0, ge=0, le=1, description="chance, per structure that expires, that the broker closes one leg on its own"
    )
    early_assignment: Probability = Field(
        0.0,
        ge=0,
        le=1,
        description="chance, per session, that a short worth exercising is assigned before the open",
    )
    activities_next_day: bool = Field(
        True, description="list expiries, exercises and assignments on the next trading day, as paper does"
    )
    dividends: dict[str, dict[ExDate, DividendUsd]] = Field(
        default_factory=dict, description="USD a share by symbol and ex-date; paid on shares held into that date"
    )
    transfers: tuple[PlannedTransfer, ...] = Field(
        (), description="deposits, withdrawals and interest by New York time; see docs/exchange.md"
    )

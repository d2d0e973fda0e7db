"""Cash that comes to the account or leaves it without a trade: deposits, withdrawals, journals, interest.

Inputs: what ``Behaviour.transfers`` plans, and requests of an administrator. Outputs: changed cash, at once, and an
activity, at once or on the next trading day. Invariants: cash is never drawn below zero; a planned transfer happens
once, at the first step at or after its time; one that cannot be paid then is refused, as the bank would.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import structlog

from oracle.core.errors import RemoteError
from oracle.core.money import CENT, ZERO, decimal_from_text
from oracle.core.sessions import NS
from oracle.sim.errors import RefusedError, invalid, unprocessable
from oracle.sim.shapes import NEW_YORK, make_id

if TYPE_CHECKING:
    from oracle.sim.exchange import Exchange

log = structlog.get_logger(__name__)

WORDS: Final = {
    "CSD": "Cash Deposit",
    "CSW": "Cash Withdrawal",
    "JNLC": "Cash Journal",
    "ACATC": "ACAT Cash",
    "INT": "Interest",
}
"""Activity types that move cash alone, and how they are described."""
NEXT_DAY: Final = "next_day"
LISTED: Final = ("now", NEXT_DAY)
MOST_USD: Final = Decimal(1_000_000_000)


class Transfers:
    """Movements of cash alone, planned and asked for."""

    __slots__ = ("_exchange", "_planned")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        rows = [(instant_ns(row.at), number, row) for number, row in enumerate(exchange.config.behaviour.transfers)]
        self._planned = sorted(rows, key=lambda row: row[:2], reverse=True)

    def on_time(self, at_ns: int) -> None:
        """Make the transfers that are due; cheap when none is."""
        while self._planned and self._planned[-1][0] <= at_ns:
            row = self._planned.pop()[2]
            try:
                self.make(row.kind, row.amount_usd, next_day=row.listed == NEXT_DAY)
            except RefusedError as refusal:
                amount = str(row.amount_usd)
                log.warning("exchange.transfer_refused", kind=row.kind, amount_usd=amount, why=str(refusal))

    def ask(self, body: Any) -> dict[str, Any]:
        """Make what a request's body asks for: ``kind``, ``amount`` (signed USD), ``listed`` (now or next_day).

        Raises:
            RefusedError: 422, a field is wrong or the cash is not there.
        """
        fields = body if isinstance(body, dict) else {}
        if unknown := sorted(set(fields) - {"kind", "amount", "listed"}):
            raise invalid(f"unknown field {unknown[0]}")
        kind, listed = fields.get("kind", "CSD"), fields.get("listed", LISTED[0])
        if kind not in WORDS or listed not in LISTED:
            raise invalid(f"kind must be one of {', '.join(WORDS)}, listed one of {', '.join(LISTED)}")
        try:
            amount_usd = decimal_from_text(fields.get("amount"), "amount")
        except RemoteError as error:
            raise invalid(str(error)) from None
        return self.make(kind, amount_usd, next_day=listed == NEXT_DAY)

    def make(self, kind: str, amount_usd: Decimal, *, next_day: bool = False) -> dict[str, Any]:
        """Move cash now and record the activity; its id, kind and amount come back.

        Raises:
            RefusedError: 422, the amount is none, is finer than a cent or of the wrong sign, or the cash is not there.
        """
        exchange, account = self._exchange, self._exchange.account
        if amount_usd == 0 or abs(amount_usd) > MOST_USD or amount_usd != amount_usd.quantize(CENT):
            raise invalid(f"amount must be whole cents, other than 0 and up to {MOST_USD} USD")
        if (kind == "CSD" and amount_usd < 0) or (kind == "CSW" and amount_usd > 0):
            raise invalid(f"{kind} with an amount of {amount_usd}")
        if amount_usd < 0 and account.cash_usd + amount_usd < ZERO:
            raise unprocessable(f"{-amount_usd} USD asked for, {account.cash_usd} USD there")
        account.cash_usd += amount_usd
        number = len(account.activities) + len(account.unlisted)
        name = make_id(exchange.space, kind, f"{exchange.now_ns}/{number}")
        following = exchange.table.after(exchange.session.date) if next_day else None
        account.record_event(
            kind,
            exchange.now_ns,
            name,
            net_usd=amount_usd,
            description=WORDS[kind],
            due_ns=None if following is None else exchange.starts_ns(following),
        )
        return {"id": name, "activity_type": kind, "net_amount": str(amount_usd)}


def instant_ns(text: str) -> int:
    """UTC ns of a New York date and time, ``YYYY-MM-DD HH:MM``."""
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()) * NS

"""The closed words of the messages: sides, feeds, order states, outcomes, purposes.

Each is a ``StrEnum``: its value is what journal, store and wire hold. Invariant: a value, once written, keeps its
meaning.
"""

from enum import StrEnum


class Side(StrEnum):
    """FIX side."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, −1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> "Side":
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class Feed(StrEnum):
    """The three streams that are supervised."""

    STOCK = "stock"
    OPTION = "option"
    TRADING = "trading"


class FeedState(StrEnum):
    """A feed's health. Entries need LIVE; exits never do."""

    CONNECTING = "connecting"
    BACKFILLING = "backfilling"
    LIVE = "live"
    STALE = "stale"
    DOWN = "down"


class OrderType(StrEnum):
    """What the broker is asked for. MARKET only for stops and forced exits."""

    LIMIT = "limit"
    MARKET = "market"


class Purpose(StrEnum):
    """Why an order exists. ENTRY raises risk; all others lower it."""

    ENTRY = "entry"
    TARGET = "target"
    STOP = "stop"
    FORCED = "forced"


class OrderState(StrEnum):
    """States of one order attempt in ``execution/orders.py``."""

    INTENT = "intent"
    SENT = "sent"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    CANCEL_SENT = "cancel_sent"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """What is known after one attempt of a request (alpaca.md section 5)."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    THROTTLED = "throttled"
    NOT_FOUND = "not_found"
    UNKNOWN = "unknown"


class BrokerEvent(StrEnum):
    """Order events that a broker can report; anything else becomes UNKNOWN_EVENT with its text kept."""

    NEW = "new"
    PARTIAL_FILL = "partial_fill"
    FILL = "fill"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    REPLACED = "replaced"
    DONE_FOR_DAY = "done_for_day"
    PENDING = "pending"
    CANCEL_REJECTED = "cancel_rejected"
    UNKNOWN_EVENT = "unknown_event"


class Ending(StrEnum):
    """How a held contract can end without an order of ours."""

    EXPIRED = "expired"
    EXERCISED = "exercised"
    ASSIGNED = "assigned"
    CASH_SETTLED = "cash_settled"
    SOLD_OUT = "sold_out"


class TradingState(StrEnum):
    """What risk allows account-wide."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"

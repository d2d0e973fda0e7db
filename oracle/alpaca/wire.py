"""Names and shapes of Alpaca's protocol: hosts, paths, headers, codes, words. No I/O, no imports beyond core.

Inputs: none. Everything here is a constant, a frozen struct or a pure look-up; the embedded exchange shares it.
Sources: docs.alpaca.markets (trading, market data and websocket pages) and alpaca-py 0.44.
"""

from enum import StrEnum
from typing import Literal

import msgspec

from oracle.core.vocabulary import BrokerEvent, Side

KEY_HEADER = "APCA-API-KEY-ID"
SECRET_HEADER = "APCA-API-SECRET-KEY"  # noqa: S105 - a header's name
CONNECTION_HEADER = "X-Connection-Id"
RATE_LIMIT_HEADER = "X-Ratelimit-Limit"
RATE_REMAINING_HEADER = "X-Ratelimit-Remaining"
RATE_RESET_HEADER = "X-Ratelimit-Reset"
REQUEST_ID_HEADER = "X-Request-ID"

STOCK_STREAM_PATH = "/v2/{feed}"
OPTION_STREAM_PATH = "/v1beta1/{feed}"
TRADING_STREAM_PATH = "/stream"
ORDERS_PATH = "/v2/orders"
ORDER_BY_CLIENT_ID_PATH = "/v2/orders:by_client_order_id"
ACCOUNT_PATH = "/v2/account"
POSITIONS_PATH = "/v2/positions"
ACTIVITIES_PATH = "/v2/account/activities"
FILL_ACTIVITY, FEE_ACTIVITY, INTEREST_ACTIVITY = "FILL", "FEE", "INT"
OPTION_ACTIVITIES = ("OPASN", "OPCSH", "OPEXC", "OPEXP", "OPTRD")
"""Contracts that ended and the shares or the cash that they became."""
CHARGE_ACTIVITIES = (
    FEE_ACTIVITY, "CFEE", "CIL", "DIV", "DIVCGL", "DIVCGS", "DIVNRA", "DIVROC", "DIVTXEX", "DIVWH", "INT", "PTC", "WH",
)  # fmt: skip
"""What the account is charged or paid for what it holds: fees, dividends, taxes, interest. Booked to the cent.

Interest that is paid to the account is none: cash interest is no P&L, and is booked like a deposit.
"""
OTHER_ACTIVITIES = (
    "ACATC", "ACATS", "CSD", "CSW", "EXTRD", "FXTRD", "INTPNL", "JNLC", "JNLS", "MA", "MEM", "NC", "OCT", "REORG",
    "SPIN", "SPLIT", "SWP", "VOF",
)  # fmt: skip
"""What else moves cash or shares without an order: read so that a difference has a name."""
NON_TRADE_ACTIVITIES = (*CHARGE_ACTIVITIES, *OPTION_ACTIVITIES, *OTHER_ACTIVITIES)
CLOCK_PATH = "/v2/clock"
CALENDAR_PATH = "/v2/calendar"
CONTRACTS_PATH = "/v2/options/contracts"
STOCK_BARS_PATH = "/v2/stocks/bars"
OPTION_SNAPSHOTS_PATH = "/v1beta1/options/snapshots"
DAILY_IV_PATH = "/sim/v1/daily_iv"

BAR_PAGE_LIMIT = 10_000
CONTRACT_PAGE_LIMIT = 10_000
ORDER_PAGE_LIMIT = 500
ACTIVITY_PAGE_LIMIT = 100
SNAPSHOT_SYMBOL_LIMIT = 100

DATA_TYPES = frozenset("tqbudscx")
"""The ``T`` words of market-data messages that the pacing protocol counts (docs/pacing.md, rule 1)."""

StockFeed = Literal["iex", "sip"]
OptionFeed = Literal["indicative", "opra"]


class StreamCode(StrEnum):
    """Error codes of the market-data streams, as text."""

    BAD_SYNTAX = "400"
    NOT_AUTHENTICATED = "401"
    AUTH_FAILED = "402"
    ALREADY_AUTHENTICATED = "403"
    AUTH_TIMEOUT = "404"
    SYMBOL_LIMIT = "405"
    CONNECTION_LIMIT = "406"
    SLOW_CLIENT = "407"
    INSUFFICIENT_SUBSCRIPTION = "409"
    INVALID_FOR_FEED = "410"
    INSUFFICIENT_SCOPE = "411"
    MSGPACK_ONLY = "412"
    STAR_REFUSED = "413"
    INTERNAL = "500"


class RestCode:
    """Codes in the bodies of REST errors that decide an outcome."""

    INVALID_OR_DUPLICATE = "40010001"
    NOT_FOUND = "40410000"
    FORBIDDEN = "40310000"
    UNPROCESSABLE = "42210000"
    THROTTLED = "42910000"


EVENTS: dict[str, BrokerEvent] = {
    "new": BrokerEvent.NEW,
    "fill": BrokerEvent.FILL,
    "partial_fill": BrokerEvent.PARTIAL_FILL,
    "canceled": BrokerEvent.CANCELED,
    "expired": BrokerEvent.EXPIRED,
    "rejected": BrokerEvent.REJECTED,
    "replaced": BrokerEvent.REPLACED,
    "done_for_day": BrokerEvent.DONE_FOR_DAY,
    "accepted": BrokerEvent.PENDING,
    "accepted_for_bidding": BrokerEvent.PENDING,
    "pending_new": BrokerEvent.PENDING,
    "pending_cancel": BrokerEvent.PENDING,
    "pending_replace": BrokerEvent.PENDING,
    "order_cancel_rejected": BrokerEvent.CANCEL_REJECTED,
}
"""Words of the trade-update stream. Any other word is UNKNOWN_EVENT and its text is kept."""

STATUS_EVENTS: dict[str, BrokerEvent] = {
    "new": BrokerEvent.NEW,
    "filled": BrokerEvent.FILL,
    "partially_filled": BrokerEvent.PARTIAL_FILL,
    "canceled": BrokerEvent.CANCELED,
    "expired": BrokerEvent.EXPIRED,
    "rejected": BrokerEvent.REJECTED,
    "replaced": BrokerEvent.REPLACED,
    "done_for_day": BrokerEvent.DONE_FOR_DAY,
    "accepted": BrokerEvent.PENDING,
    "accepted_for_bidding": BrokerEvent.PENDING,
    "pending_new": BrokerEvent.PENDING,
    "pending_cancel": BrokerEvent.PENDING,
    "pending_replace": BrokerEvent.PENDING,
    "held": BrokerEvent.PENDING,
}
"""Words of an order's ``status`` in REST answers, as the event that they amount to."""

HALT_STATUS_CODES = frozenset({"H", "P", "2", "Q"})
"""Status codes under which a stock does not trade: halt (H, 2), pause (P), quotation before resumption (Q)."""

RESUME_STATUS_CODES = frozenset({"T", "3"})
"""Status codes of trading resumption on the C tape and on the A and B tapes."""


class Endpoints(msgspec.Struct, frozen=True):
    """Where one account's REST and streams are. REST roots carry no trailing slash and no version."""

    trading_url: str
    data_url: str
    stock_stream_url: str
    option_stream_url: str
    trading_stream_url: str
    stock_feed: StockFeed
    option_feed: OptionFeed


class Credentials(msgspec.Struct, frozen=True):
    """An API key pair. Its text form hides both, so that no log or traceback can show them."""

    key: str
    secret: str

    def __repr__(self) -> str:
        return "Credentials(key='…', secret='…')"

    __str__ = __repr__


def alpaca_endpoints(paper: bool, stock_feed: StockFeed, option_feed: OptionFeed) -> Endpoints:
    """The vendor's own hosts for a paper or a live account."""
    host = "paper-api.alpaca.markets" if paper else "api.alpaca.markets"
    stream = "wss://stream.data.alpaca.markets"
    return Endpoints(
        f"https://{host}",
        "https://data.alpaca.markets",
        stream + STOCK_STREAM_PATH.format(feed=stock_feed),
        stream + OPTION_STREAM_PATH.format(feed=option_feed),
        f"wss://{host}{TRADING_STREAM_PATH}",
        stock_feed,
        option_feed,
    )


def one_host_endpoints(root_url: str, stock_feed: StockFeed = "sip", option_feed: OptionFeed = "opra") -> Endpoints:
    """Endpoints that all live at one ``http(s)://host:port``, as at the embedded exchange."""
    root = root_url.rstrip("/")
    stream = "ws" + root.removeprefix("http")
    return Endpoints(
        root,
        root,
        stream + STOCK_STREAM_PATH.format(feed=stock_feed),
        stream + OPTION_STREAM_PATH.format(feed=option_feed),
        stream + TRADING_STREAM_PATH,
        stock_feed,
        option_feed,
    )


def position_intent(side: Side, opening: bool) -> str:
    """The ``position_intent`` word of an order."""
    return f"{side.value}_to_{'open' if opening else 'close'}"

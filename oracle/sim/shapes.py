"""How the exchange writes and reads numbers, instants and ids. Pure functions.

Trading replies carry money and quantities as strings, market data as JSON numbers. Instants are RFC 3339 with the
fraction trimmed. Ids have the shape of a UUID but are derived from the exchange's seed, so runs repeat.
"""

import datetime as dt
import uuid
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from oracle.core.sessions import NS
from oracle.sim.errors import RefusedError
from oracle.sim.source import Print, SourceBar, Touch

NEW_YORK = ZoneInfo("America/New_York")
_ROOT = uuid.UUID("5e9c8a52-3f6b-5c1d-9a77-0d3b1c2e4f60")


def namespace(seed: int) -> uuid.UUID:
    """The namespace of every id of an exchange with this seed."""
    return uuid.uuid5(_ROOT, str(seed))


def make_id(space: uuid.UUID, kind: str, name: str) -> str:
    """A UUID-shaped id that depends on the seed, the kind and the name only."""
    return str(uuid.uuid5(space, f"{kind}:{name}"))


def money(value: Decimal) -> str:
    """A Decimal as plain text without an exponent or trailing zeros."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text


@lru_cache(maxsize=4096)
def _second_text(second: int) -> str:
    return dt.datetime.fromtimestamp(second, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def rfc3339(at_ns: int) -> str:
    """A UTC instant as RFC 3339 text with up to nine decimals."""
    second, fraction = divmod(at_ns, NS)
    text = _second_text(second)
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else text + "Z"


def rfc3339_or_none(at_ns: int | None) -> str | None:
    """``rfc3339`` of an instant that may not have come."""
    return None if at_ns is None else rfc3339(at_ns)


def new_york(at_ns: int) -> dt.datetime:
    """The New York wall time of an instant, cut to microseconds."""
    second, fraction = divmod(at_ns, NS)
    return dt.datetime.fromtimestamp(second, NEW_YORK).replace(microsecond=fraction // 1000)


def parse_instant(text: str, field: str, end_of_day: bool = False) -> int:
    """Read an RFC 3339 instant or a New York date as UTC ns (cut to microseconds).

    Raises:
        RefusedError: 400, the text is neither.
    """
    cleaned = text.strip().replace(" ", "+") if "T" in text else text.strip()
    try:
        if len(cleaned) == 10:
            day = dt.datetime.fromisoformat(cleaned).replace(tzinfo=NEW_YORK)
            if end_of_day:
                day = day.replace(hour=23, minute=59, second=59)
            return int(day.timestamp()) * NS
        moment = dt.datetime.fromisoformat(cleaned)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        whole = int(moment.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError):
        raise RefusedError(400, 40010001, f"invalid {field}: {text}") from None
    return whole * NS + moment.microsecond * 1000


def stock_quote_json(touch: Touch) -> dict[str, Any]:
    """A REST stock quote; an absent side is 0 / 0 as at the vendor."""
    return {**_quote(touch, "V"), "c": ["R"], "z": "C"}


def option_quote_json(touch: Touch) -> dict[str, Any]:
    """A REST option quote; an absent side is 0 / 0 as at the vendor."""
    return {**_quote(touch, "C"), "c": "A"}


def _quote(touch: Touch, venue: str) -> dict[str, Any]:
    bid, ask = touch.bid, touch.ask
    return {
        "t": rfc3339(touch.at_ns),
        "ax": venue,
        "ap": 0 if ask is None else ask,
        "as": 0 if ask is None else touch.ask_size,
        "bx": venue,
        "bp": 0 if bid is None else bid,
        "bs": 0 if bid is None else touch.bid_size,
    }


def stock_trade_json(trade: Print) -> dict[str, Any]:
    """A REST stock trade."""
    head = {"t": rfc3339(trade.at_ns), "x": trade.exchange, "p": trade.price, "s": trade.size}
    return {**head, "c": [trade.conditions], "i": trade.trade_id, "z": "C"}


def option_trade_json(trade: Print) -> dict[str, Any]:
    """A REST option trade."""
    head = {"t": rfc3339(trade.at_ns), "x": trade.exchange, "p": trade.price, "s": trade.size}
    return {**head, "c": trade.conditions}


def bar_json(bar: SourceBar) -> dict[str, Any]:
    """A REST bar; ``t`` is its start."""
    head = {"t": rfc3339(bar.start_ns), "o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close}
    return {**head, "v": bar.volume, "n": bar.trades, "vw": bar.vwap}

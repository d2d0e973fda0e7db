"""Reading single fields of a remote's message: numbers, prices, text, instants. Pure.

Inputs: raw dicts from msgpack (times are ``msgpack.Timestamp``) or JSON (times are RFC 3339 text). Outputs: checked
values. Invariant: whatever the remote sent, only ``MalformedError`` is raised, and it names the field.
"""

import datetime as dt
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgpack

from oracle.core.errors import RemoteError
from oracle.core.money import decimal_from_text
from oracle.core.vocabulary import Side

NS = 1_000_000_000
MAX_PRICE = 10_000_000.0
MAX_SIZE = 2**31 - 1
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?(?:([Zz])|([+-])(\d{2}):(\d{2}))", re.ASCII
)
_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
_CUT = 40
Raw = Mapping[str, Any]


class MalformedError(RemoteError):
    """A field of a remote's message that cannot be used. ``kind`` and ``field`` make a bounded reason to count by."""

    def __init__(self, kind: str, field: str, problem: str) -> None:
        super().__init__(f"{kind}.{field}: {problem}")
        self.kind = kind
        self.field = field

    @property
    def reason(self) -> str:
        """Kind and field without the offending value."""
        return f"{self.kind}.{self.field}"


# ------------------------------------------------------------------------------------------------------ instants


@lru_cache(maxsize=1024)
def _day_s(text: str) -> int:
    return (dt.date.fromisoformat(text).toordinal() - _EPOCH_ORDINAL) * 86_400


def rfc3339_ns(text: str, kind: str, field: str) -> int:
    """Read RFC 3339 text as UTC nanoseconds, exactly; digits past the ninth are cut.

    Raises:
        MalformedError: not RFC 3339, or no such instant.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise MalformedError(kind, field, f"{text[:_CUT]!r} is not an RFC 3339 instant")
    day, hour, minute, second, fraction, _, sign, off_hour, off_minute = match.groups()
    hours, minutes, seconds = int(hour), int(minute), int(second)
    offset_s = (int(off_hour) * 3600 + int(off_minute) * 60) * (-1 if sign == "-" else 1) if sign else 0
    if hours > 23 or minutes > 59 or seconds > 59 or (sign and (int(off_hour) > 23 or int(off_minute) > 59)):
        raise MalformedError(kind, field, f"{text[:_CUT]!r} is not a time of day")
    try:
        at_s = _day_s(day) + hours * 3600 + minutes * 60 + seconds - offset_s
    except ValueError:
        raise MalformedError(kind, field, f"{text[:_CUT]!r} has no such date") from None
    return at_s * NS + (int(fraction[:9].ljust(9, "0")) if fraction else 0)


def rfc3339_text(at_ns: int) -> str:
    """Write UTC nanoseconds as RFC 3339 text with nine decimals where there is a fraction."""
    seconds, fraction = divmod(at_ns, NS)
    day = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{day}.{fraction:09d}Z" if fraction else f"{day}Z"


def instant_ns(value: object, kind: str, field: str) -> int:
    """Read a msgpack timestamp or RFC 3339 text as UTC nanoseconds."""
    if isinstance(value, msgpack.Timestamp):
        return int(value.seconds) * NS + int(value.nanoseconds)
    if isinstance(value, str):
        return rfc3339_ns(value, kind, field)
    raise MalformedError(kind, field, f"{type(value).__name__} is not an instant")


# ----------------------------------------------------------------------------------------------------- plain fields


def _number(raw: Raw, kind: str, field: str) -> float:
    value = raw.get(field)
    if type(value) is not float and type(value) is not int:
        raise MalformedError(kind, field, "missing" if value is None else f"{type(value).__name__} is not a number")
    if not 0 <= value < math.inf:
        raise MalformedError(kind, field, f"{value} is negative or not finite")
    return value


def positive_of(raw: Raw, kind: str, field: str) -> float:
    """A number that must be there and above zero."""
    value = _number(raw, kind, field)
    if value == 0:
        raise MalformedError(kind, field, "zero")
    return float(value)


def price_of(raw: Raw, kind: str, field: str) -> float:
    """A price that must be there: positive and below ten million dollars."""
    value = _number(raw, kind, field)
    if not 0 < value < MAX_PRICE:
        raise MalformedError(kind, field, f"{value} is not a price")
    return float(value)


def side_price_of(raw: Raw, kind: str, field: str) -> float | None:
    """A quote's side; the vendor writes an absent one as zero."""
    value = _number(raw, kind, field)
    if value >= MAX_PRICE:
        raise MalformedError(kind, field, f"{value} is not a price")
    return float(value) if value > 0 else None


def count_of(raw: Raw, kind: str, field: str) -> int:
    """A whole number that must be there, zero or more."""
    value = _number(raw, kind, field)
    if value != int(value):
        raise MalformedError(kind, field, f"{value} is not a whole number")
    return int(value)


def text_of(raw: Raw, kind: str, field: str) -> str:
    """A text field that must be there; it may be empty."""
    value = raw.get(field)
    if not isinstance(value, str):
        raise MalformedError(kind, field, "missing" if value is None else f"{type(value).__name__} is not text")
    return value


def symbol_of(raw: Raw, kind: str, field: str = "S") -> str:
    """A text field that must be there and not be empty."""
    value = text_of(raw, kind, field)
    if not value:
        raise MalformedError(kind, field, "empty")
    return value


def decimal_of(raw: Raw, kind: str, field: str) -> Decimal:
    """An exact number that must be there, from text or a JSON number."""
    value = decimal_or_none(raw, kind, field)
    if value is None:
        raise MalformedError(kind, field, "missing")
    return value


def decimal_or_none(raw: Raw, kind: str, field: str) -> Decimal | None:
    """An exact number, or None where the field is absent, null or empty."""
    value = raw.get(field)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float) or len(str(value)) > _CUT:
        raise MalformedError(kind, field, "not a number")
    try:
        return decimal_from_text(value, field)
    except RemoteError as error:
        raise MalformedError(kind, field, str(error)) from None


def mapping_of(value: object, kind: str, field: str) -> Raw:
    """An object that must be there, with text keys."""
    if not isinstance(value, dict):
        raise MalformedError(kind, field, "missing" if value is None else f"{type(value).__name__} is not an object")
    return value


def side_of(word: object) -> Side | None:
    """The side of a word of the broker's, or None where it has none (a multi-leg parent) or we do not know it."""
    return Side(word) if word in ("buy", "sell") else None

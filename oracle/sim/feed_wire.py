"""Market-data messages as the vendor's sockets carry them, and frames of many.

Inputs: a ``MarketStep`` and what a connection subscribed to. Outputs: frames, arrays of at most ``FRAME_MESSAGES``,
as msgpack or JSON. Each message is encoded once per step and codec, whoever reads it. Times are msgpack Timestamps
(ext -1) or RFC 3339 text. An absent side of a quote is price 0 and size 0, as at the vendor.
"""

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from oracle.core.sessions import NS
from oracle.sim.shapes import rfc3339
from oracle.sim.source import MarketStep, Print, SourceBar, Status, Touch

FRAME_MESSAGES = 400
Instant = msgspec.msgpack.Ext | str
Coded = tuple[str, bytes]
_UINT64 = struct.Struct(">Q")
_TIMESTAMP = -1


class StockQuote(msgspec.Struct, tag_field="T", tag="q", rename={"as_": "as"}):
    """A stock quote; sizes in shares."""

    S: str
    bx: str
    bp: float
    bs: int
    ax: str
    ap: float
    as_: int
    c: list[str]
    z: str
    t: Instant


class OptionQuote(msgspec.Struct, tag_field="T", tag="q", rename={"as_": "as"}):
    """An option quote; sizes in contracts, the condition is one text."""

    S: str
    t: Instant
    bx: str
    bp: float
    bs: int
    ax: str
    ap: float
    as_: int
    c: str


class StockTrade(msgspec.Struct, tag_field="T", tag="t"):
    """A stock trade."""

    S: str
    i: int
    x: str
    p: float
    s: int
    c: list[str]
    z: str
    t: Instant


class OptionTrade(msgspec.Struct, tag_field="T", tag="t"):
    """An option trade."""

    S: str
    t: Instant
    p: float
    s: int
    x: str
    c: str


class _BarFields(msgspec.Struct):
    S: str
    o: float
    h: float
    l: float  # noqa: E741 - the vendor's key
    c: float
    v: int
    n: int
    vw: float
    t: Instant


class MinuteBar(_BarFields, tag_field="T", tag="b"):
    """A minute bar."""


class UpdatedBar(_BarFields, tag_field="T", tag="u"):
    """A minute bar sent again after late trades."""


class DailyBar(_BarFields, tag_field="T", tag="d"):
    """The session so far."""


class TradingStatus(msgspec.Struct, tag_field="T", tag="s"):
    """A halt or a resumption."""

    S: str
    sc: str
    sm: str
    rc: str
    rm: str
    z: str
    t: Instant


def packed_time(at_ns: int) -> msgspec.msgpack.Ext:
    """A msgpack Timestamp (64-bit form: nanoseconds above seconds)."""
    second, fraction = divmod(at_ns, NS)
    return msgspec.msgpack.Ext(_TIMESTAMP, _UINT64.pack(fraction << 34 | second))


class Codec:
    """One way to write messages and arrays of them."""

    __slots__ = ("_encode", "is_text", "time")

    def __init__(self, is_text: bool) -> None:
        self.is_text = is_text
        self.time: Callable[[int], Instant] = rfc3339 if is_text else packed_time
        self._encode = msgspec.json.Encoder().encode if is_text else msgspec.msgpack.Encoder().encode

    def encode(self, message: Any) -> bytes:
        """One message."""
        return self._encode(message)

    def join(self, messages: Sequence[bytes]) -> bytes:
        """An array of encoded messages as one frame."""
        if self.is_text:
            return b"[" + b",".join(messages) + b"]"
        count = len(messages)
        head = bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
        return head + b"".join(messages)

    def decode(self, frame: bytes | str) -> Any:
        """Read a client's frame.

        Raises:
            msgspec.DecodeError: it is not of this codec.
        """
        if self.is_text:
            return msgspec.json.decode(frame)
        return msgspec.msgpack.decode(frame.encode() if isinstance(frame, str) else frame)


MSGPACK = Codec(is_text=False)
JSON = Codec(is_text=True)


def _stock_quote(touch: Touch, at: Instant) -> StockQuote:
    bid, ask = touch.bid, touch.ask
    bp, bs = (0.0, 0) if bid is None else (bid, touch.bid_size)
    ap, size = (0.0, 0) if ask is None else (ask, touch.ask_size)
    return StockQuote(touch.symbol, "V", bp, bs, "V", ap, size, ["R"], "C", at)


def _option_quote(touch: Touch, at: Instant) -> OptionQuote:
    bid, ask = touch.bid, touch.ask
    bp, bs = (0.0, 0) if bid is None else (bid, touch.bid_size)
    ap, size = (0.0, 0) if ask is None else (ask, touch.ask_size)
    return OptionQuote(touch.symbol, at, "C", bp, bs, "C", ap, size, "A")


def _stock_trade(trade: Print, at: Instant) -> StockTrade:
    return StockTrade(
        trade.symbol, trade.trade_id, trade.exchange, trade.price, trade.size, [trade.conditions], "C", at
    )


def _option_trade(trade: Print, at: Instant) -> OptionTrade:
    return OptionTrade(trade.symbol, at, trade.price, trade.size, trade.exchange, trade.conditions)


def _bars(kind: type[_BarFields], bars: Sequence[SourceBar], codec: Codec) -> list[Coded]:
    coded = []
    for b in bars:
        at = codec.time(b.start_ns)
        message = kind(b.symbol, b.open, b.high, b.low, b.close, b.volume, b.trades, b.vwap, at)
        coded.append((b.symbol, codec.encode(message)))
    return coded


def _status(s: Status, at: Instant) -> TradingStatus:
    return TradingStatus(s.symbol, s.status_code, s.status_message, s.reason_code, s.reason_message, "C", at)


def stock_messages(step: MarketStep, codec: Codec) -> dict[str, list[Coded]]:
    """A step's stock messages by channel, encoded; channels are in the order in which they are sent."""
    time, encode = codec.time, codec.encode
    return {
        "statuses": [(s.symbol, encode(_status(s, time(s.at_ns)))) for s in step.statuses],
        "trades": [(p.symbol, encode(_stock_trade(p, time(p.at_ns)))) for p in step.prints],
        "quotes": [(q.symbol, encode(_stock_quote(q, time(q.at_ns)))) for q in step.touches],
        "bars": _bars(MinuteBar, step.bars, codec),
        "updatedBars": _bars(UpdatedBar, step.updated_bars, codec),
        "dailyBars": _bars(DailyBar, step.daily_bars, codec),
    }


def option_messages(step: MarketStep, codec: Codec) -> dict[str, list[Coded]]:
    """A step's option messages by channel, encoded."""
    time, encode = codec.time, codec.encode
    return {
        "trades": [(p.symbol, encode(_option_trade(p, time(p.at_ns)))) for p in step.option_prints],
        "quotes": [(q.symbol, encode(_option_quote(q, time(q.at_ns)))) for q in step.option_touches],
    }


def select(messages: Mapping[str, list[Coded]], wanted: Mapping[str, Collection[str]]) -> list[bytes]:
    """The messages that a subscription set asks for, in sending order; ``*`` is every symbol."""
    chosen: list[bytes] = []
    for channel, coded in messages.items():
        symbols = wanted.get(channel)
        if not symbols or not coded:
            continue
        if "*" in symbols:
            chosen.extend(data for _, data in coded)
        else:
            chosen.extend(data for symbol, data in coded if symbol in symbols)
    return chosen

"""Frames of the data streams, and the bars that the exchange makes of minutes."""

import json

import msgpack
import pytest

from oracle.core.sessions import MINUTE_NS, NS
from oracle.sim.errors import RefusedError
from oracle.sim.feed_wire import JSON, MSGPACK, option_messages, select, stock_messages
from oracle.sim.rest_stocks import aggregate, read_timeframe
from oracle.sim.source import MarketStep, Print, SourceBar, Touch

AT_NS = 1_767_623_401_234_567_891


def bar(minute: int, close: float, volume: int) -> SourceBar:
    return SourceBar("SPY", minute * MINUTE_NS, 10.0, close + 1, 9.0, close, volume, 5, close)


def step() -> MarketStep:
    touches = [Touch("QQQ", AT_NS, None, 0, 5.0, 3), Touch("SPY", AT_NS, 1.0, 2, 3.0, 4)]
    prints = [Print("SPY", AT_NS, 2.5, 7, 99)]
    options = [Touch(f"SPY260116C{i:08d}", AT_NS, 1.0, 2, None, 0) for i in range(1, 500)]
    return MarketStep(AT_NS, touches, prints, [bar(0, 11.0, 5)], [], [], options, [], [])


@pytest.mark.parametrize("count", [1, 15, 16, 400])
def test_frames_of_any_size_decode(count: int) -> None:
    coded = [data for _, data in option_messages(step(), MSGPACK)["quotes"][:count]]
    found = msgpack.unpackb(MSGPACK.join(coded))
    assert len(found) == count
    assert found[0]["t"].to_unix_nano() == AT_NS
    assert (found[0]["T"], found[0]["bp"], found[0]["ap"], found[0]["as"], found[0]["c"]) == ("q", 1.0, 0.0, 0, "A")


def test_selection_is_by_channel_and_symbol_in_sending_order() -> None:
    coded = stock_messages(step(), JSON)
    chosen = json.loads(JSON.join(select(coded, {"bars": {"*"}, "quotes": {"QQQ"}, "trades": {"SPY"}})))
    assert [(m["T"], m["S"]) for m in chosen] == [("t", "SPY"), ("q", "QQQ"), ("b", "SPY")]
    assert chosen[0] | {"t": 0} == {
        "T": "t",
        "S": "SPY",
        "i": 99,
        "x": "V",
        "p": 2.5,
        "s": 7,
        "c": ["@"],
        "z": "C",
        "t": 0,
    }
    assert chosen[1]["t"] == "2026-01-05T14:30:01.234567891Z"
    assert chosen[2]["t"] == "1970-01-01T00:00:00Z"
    assert select(coded, {"quotes": {"IWM"}}) == []


def test_wider_bars_join_minutes() -> None:
    [first, second] = aggregate([bar(0, 10.0, 100), bar(4, 13.0, 300), bar(5, 12.0, 0)], 5 * MINUTE_NS)
    assert (first.open, first.high, first.low, first.close, first.volume) == (10.0, 14.0, 9.0, 13.0, 400)
    assert (first.trades, first.vwap) == (10, 12.25)
    assert (second.start_ns, second.vwap) == (300 * NS, 12.0)


@pytest.mark.parametrize(("text", "minutes"), [("1Min", 1), ("15T", 15), ("2Hour", 120), ("1Day", None), ("1D", None)])
def test_timeframes(text: str, minutes: int | None) -> None:
    assert read_timeframe(text) == minutes


@pytest.mark.parametrize("text", [None, "", "0Min", "60Min", "24Hour", "2Day", "1Week", "Min"])
def test_timeframes_that_are_not_served(text: str | None) -> None:
    with pytest.raises(RefusedError):
        read_timeframe(text)

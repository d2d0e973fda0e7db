"""Messages check themselves, and survive the journal's encoding."""

import dataclasses
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core import messages as m
from oracle.core.errors import InvariantError
from oracle.core.marketdata import ChainQuotes, DailyIvObserved, Quote
from oracle.core.message import Message
from oracle.core.reports import BrokerOrder, ExecutionReported
from tests.unit.test_core_ledger import CALL, PLAN, order


def bar(**changes: Any) -> m.Bar:
    fields: dict[str, Any] = {
        "symbol": "SPY", "start_ns": 1, "open": 2.0, "high": 3.0, "low": 1.0, "close": 2.5, "volume": 0,
        "trades": 0, "vwap": 2.0,
    }  # fmt: skip
    return m.Bar(**(fields | changes))


@pytest.mark.parametrize(
    "changes",
    [{"open": float("nan")}, {"close": float("inf")}, {"low": 0.0}, {"high": -1.0}, {"high": 2.4}, {"low": 2.1},
     {"volume": -1}],
)  # fmt: skip
def test_a_bar_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    assert bar().close == 2.5
    with pytest.raises(InvariantError, match="SPY"):
        bar(**changes)


def test_chain_quotes_need_equal_columns() -> None:
    columns = (b"\0" * 4, b"\0" * 8, b"\0" * 8, b"\0" * 4, b"\0" * 4, b"\0" * 8)
    ChainQuotes("SPY", "2026-01-02", *columns)
    with pytest.raises(InvariantError, match="columns"):
        ChainQuotes("SPY", "2026-01-02", *columns[:-1], b"")


def test_ranges() -> None:
    broker = BrokerOrder("c", "b", CALL, m.Side.BUY, "simple", Decimal(1), Decimal(0), None, None, "limit", "new", 1)
    with pytest.raises(InvariantError):
        ExecutionReported("x", broker, CALL, m.Side.BUY, Decimal(0), Decimal(1), 1)
    with pytest.raises(InvariantError):
        DailyIvObserved("SPY", "2026-01-02", 0.0, "test")
    for changes in ({"stop_fraction": 0.0}, {"stop_fraction": 10.1}, {"direction": 2}):
        with pytest.raises(InvariantError):
            msgspec.structs.replace(PLAN, **changes)
    with pytest.raises(InvariantError, match="no legs"):
        m.Intent("i", "s", "h", "SPY", (), PLAN, 1, 1, "r", {}, 1)


def test_orders_that_must_not_exist() -> None:
    good = order("e", m.Purpose.ENTRY, m.Side.BUY)
    market = (m.LadderStep(None, 5),)
    for changes in (
        {"contracts": 0},
        {"ladder": ()},
        {"ladder": market},
        {"ladder": market, "order_type": m.OrderType.MARKET},
        {"ladder": market, "order_type": m.OrderType.MARKET, "purpose": m.Purpose.TARGET},
    ):
        with pytest.raises(InvariantError):
            msgspec.structs.replace(good, **changes)
    stop = msgspec.structs.replace(
        good, ladder=market, order_type=m.OrderType.MARKET, purpose=m.Purpose.STOP, exit_plan=None
    )
    assert stop.purpose is m.Purpose.STOP


def test_sides_and_mids() -> None:
    assert m.Side.BUY.sign == 1
    assert m.Side.SELL.sign == -1
    assert m.Side.BUY.opposite is m.Side.SELL
    assert m.Side.SELL.opposite is m.Side.BUY
    assert m.Leg(CALL, m.Side.BUY, 1, Decimal("1.00"), Decimal("1.05"), 1).mid_usd == Decimal("1.025")


def test_stamped_inputs_survive_encoding() -> None:
    encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(m.Stamped)
    for message in (bar(), m.TimerFired("a:b", 3), m.DrainRequested("w", "y"), Quote("SPY", 1, None, 0, 1.0, 5)):
        stamped = m.Stamped(1, 2, message)
        assert decoder.decode(encoder.encode(stamped)) == stamped


def test_every_message_is_frozen_and_tagged() -> None:
    kinds = Message.__subclasses__()
    assert len(kinds) > 30
    for kind in kinds:
        assert kind.__struct_config__.frozen
        assert kind.__struct_config__.tag == kind.__name__
        assert not dataclasses.is_dataclass(kind)

"""What a strategy allows itself in a session: trades, losses in a row, trades at once, before and after a restart."""

from decimal import Decimal

import pytest

from oracle.core.messages import (
    ExitPlanAdvanced,
    ExitTriggered,
    Intent,
    IntentRefused,
    LatchChanged,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    Refusal,
    SendOrder,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.ports import StrategyCaps
from oracle.core.reports import SubmitReturned
from oracle.core.vocabulary import Outcome
from oracle.risk.gate import Gate
from oracle.risk.halts import Halts
from oracle.risk.limits import RiskLimits
from oracle.risk.stored import GateSettings, Stored
from tests.unit.builders import (
    CALL,
    OPEN_NS,
    OTHER_CALL,
    TABLE,
    House,
    broker_order,
    execution,
    gate_settings,
    intent,
    of,
    one,
)

SMALL = RiskLimits(max_contracts_per_order=1)


def settings(caps: StrategyCaps) -> GateSettings:
    return gate_settings(limits=SMALL, caps={"breakout": caps})


def wish(house: House, n: int, symbol: str = CALL) -> Intent:
    return intent(n, symbol, at_ns=house.at_ns, valid_until_ns=house.at_ns + 60 * 10**9)


def bought(house: House, n: int, symbol: str = CALL) -> None:
    sent = one(SendOrder, house.tell(wish(house, n, symbol)))
    house.tell(SubmitReturned(sent.client_order_id, Outcome.ACCEPTED, broker_order(sent), "", ""))
    house.tell(execution(sent, f"in{n}", 1, 1, "9.98", house.at_ns))


def round_trip(house: House, n: int, price: str) -> None:
    """Buy one contract, and sell it at the market on a stop that was triggered."""
    house.quote(CALL, 9.95, 10.00)
    bought(house, n)
    sent = one(SendOrder, house.quote(CALL, 4.0, 4.1))
    house.tell(execution(sent, f"out{n}", 1, 1, price, house.at_ns))
    house.quote(CALL, 9.95, 10.00)
    house.wait(61)
    house.quote(CALL, 9.95, 10.00)
    house.spot(600.0)


def refusals(house: House, n: int, symbol: str = CALL) -> dict[str, Refusal]:
    refused = of(IntentRefused, house.tell(wish(house, n, symbol)))
    return {refusal.rule: refusal for row in refused for refusal in row.refusals}


def again(house: House, built: GateSettings) -> House:
    """The same house with a new gate that was rebuilt from what a store would have kept."""
    said = house.all
    gate = Gate(built)
    gate.restore(
        Stored(
            orders=of(SubmitOrder, said), advanced=of(OrderAdvanced, said), fills=of(OrderFilled, said),
            ended=of(OrderClosed, said), intents=of(Intent, said), opened=of(TradeOpened, said),
            closed=of(TradeClosed, said), plans=of(ExitPlanAdvanced, said), exits=of(ExitTriggered, said),
            latches=of(LatchChanged, said),
        )
    )  # fmt: skip
    house.gate = gate
    handlers = house.engine.bus._handlers
    for kind, handler in gate.handlers():
        handlers[kind] = [h for h in handlers[kind] if not isinstance(getattr(h, "__self__", None), Gate)] + [handler]
    return house


@pytest.mark.parametrize("restart", [False, True])
def test_a_strategy_stops_after_its_losses_in_a_row(restart: bool) -> None:
    built = settings(StrategyCaps(losses_in_a_row=2))
    house = House(built)
    round_trip(house, 1, "9.00")
    assert house.gate._halts.strategy_losses("breakout", OPEN_NS) == 1
    round_trip(house, 2, "9.98")  # a scratch before fees, a loss after them
    if restart:
        again(house, gate_settings(limits=SMALL, caps=built.caps, next_sequence=100))
    assert refusals(house, 3) == {
        "strategy_losses": Refusal(
            "strategy_losses",
            "2 losing trades of breakout in a row this session",
            "below 2, by the strategy's own parameters",
        )
    }


def test_a_gain_begins_the_count_again() -> None:
    house = House(settings(StrategyCaps(losses_in_a_row=2)))
    for n, price in enumerate(("9.00", "11.00", "9.00"), 1):
        round_trip(house, n, price)
    assert refusals(house, 4) == {}


def test_losses_count_by_strategy_and_session() -> None:
    house = House(settings(StrategyCaps(losses_in_a_row=2)))
    round_trip(house, 1, "9.00")
    round_trip(house, 2, "9.00")
    halts = Halts(RiskLimits())
    halts.restore((), of(TradeClosed, house.all))
    assert halts.strategy_losses("breakout", OPEN_NS) == 2
    assert halts.strategy_losses("breakout", TABLE.sessions[1].open_ns) == 0
    assert halts.strategy_losses("scalp", OPEN_NS) == 0


@pytest.mark.parametrize("restart", [False, True])
def test_trades_of_the_session_are_counted_once_filled(restart: bool) -> None:
    built = settings(StrategyCaps(trades_per_session=2))
    house = House(built)
    round_trip(house, 1, "11.00")
    # An entry at work may still fill and counts; one that ended without a fill does not.
    sent = one(SendOrder, house.tell(wish(house, 2)))
    house.quote(OTHER_CALL, 9.95, 10.00)
    assert refusals(house, 3, OTHER_CALL)["strategy_trades"].observed == "2 trades of breakout this session"
    house.tell(SubmitReturned(sent.client_order_id, Outcome.REJECTED, None, "", "no"))
    house.wait(61)
    house.quote(CALL, 9.95, 10.00)
    house.spot(600.0)
    round_trip(house, 4, "11.00")
    if restart:
        again(house, gate_settings(limits=SMALL, caps=built.caps, next_sequence=100))
    assert list(refusals(house, 5)) == ["strategy_trades"]


@pytest.mark.parametrize("restart", [False, True])
def test_trades_at_once_count_open_ones_and_entries_at_work(restart: bool) -> None:
    built = settings(StrategyCaps(open_trades=2))
    house = House(built)
    bought(house, 1)
    house.quote(OTHER_CALL, 9.95, 10.00)
    sent = one(SendOrder, house.tell(wish(house, 2, OTHER_CALL)))
    assert refusals(house, 3)["strategy_open"].observed == "2 trades of breakout at once"
    house.tell(execution(sent, "in2", 1, 1, "9.98", house.at_ns))
    if restart:
        again(house, gate_settings(limits=SMALL, caps=built.caps, next_sequence=100))
    assert list(refusals(house, 4)) == ["strategy_open"]
    out = one(SendOrder, house.quote(OTHER_CALL, 4.0, 4.1))
    house.tell(execution(out, "out2", 1, 1, "4.00", house.at_ns))
    assert refusals(house, 5) == {}


def test_without_caps_nothing_is_refused() -> None:
    house = House(gate_settings(limits=SMALL))
    round_trip(house, 1, "9.00")
    round_trip(house, 2, "9.00")
    assert refusals(house, 3) == {}
    assert of(TradeClosed, house.all)[0].net_pnl_usd == Decimal("-98.00") - Decimal("1.30")


@pytest.mark.parametrize("restart", [False, True])
def test_caps_of_one_underlying_count_its_trades_only(restart: bool) -> None:
    built = settings(StrategyCaps(open_per_underlying=1, trades_per_underlying_session=2))
    house = House(built)
    round_trip(house, 1, "11.00")
    bought(house, 2)
    house.quote(OTHER_CALL, 9.95, 10.00)
    if restart:
        again(house, gate_settings(limits=SMALL, caps=built.caps, next_sequence=100))
    assert house.gate._book.round_trips("breakout", OPEN_NS, "QQQ") == 0
    refused = refusals(house, 3, OTHER_CALL)
    assert refused["strategy_underlying_trades"].observed == "2 trades of breakout in SPY this session"
    assert refused["strategy_underlying_open"].observed == "1 trades of breakout in SPY at once"

"""Money comes to the exchange's account and leaves it: planned or asked for, once, exact, listed when it should be."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from oracle.alpaca.translate import is_charge
from oracle.core.messages import ReadAccount
from oracle.core.sessions import MINUTE_NS
from oracle.sim.behaviour import Behaviour
from oracle.sim.errors import RefusedError
from oracle.sim.exchange import PRE_OPEN_NS
from oracle.sim.rest import Call
from oracle.sim.rest_reference import SimulatorApi
from oracle.sim.rest_trading import TradingApi
from oracle.sim.transfers import instant_ns
from tests.protocol.scripted_source import DAY_NS, OPEN_NS
from tests.unit.test_backtest_edges import make
from tests.unit.test_sim_exchange import TODAY, World
from tests.unit.test_sim_expiry import world

D = Decimal


def ask(place: World, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = SimulatorApi(place.exchange).transfer(Call({}, {}, body)).body
    return made


def listed(place: World) -> list[tuple[str, str, str]]:
    """(kind, date, cash) of the activities that REST lists."""
    rows = TradingApi(place.exchange).activities(Call({}, {"direction": "asc"})).body
    return [(row["activity_type"], row["date"], row["net_amount"]) for row in rows]


def test_a_request_moves_cash_at_once_and_is_listed_at_once_or_the_next_day() -> None:
    place = world()
    made = ask(place, kind="CSD", amount="2500.05")
    assert (made["activity_type"], made["net_amount"]) == ("CSD", "2500.05")
    assert place.cash == D("102500.05")
    assert listed(place) == [("CSD", TODAY, "2500.05")]
    ask(place, kind="CSW", amount=-500, listed="next_day")
    assert (place.cash, len(listed(place))) == (D("102000.05"), 1)
    assert len({made["id"], ask(place, amount="1")["id"], ask(place, amount="1")["id"]}) == 3
    place.go(OPEN_NS + DAY_NS - PRE_OPEN_NS)
    assert listed(place)[-1] == ("CSW", TODAY, "-500")


@pytest.mark.parametrize(
    "body",
    [
        {}, {"amount": "0"}, {"amount": "a lot"}, {"amount": "0.001"}, {"amount": "NaN"}, {"amount": "1e30"}, None, [],
        {"amount": "-1"}, {"amount": "1", "kind": "CSW"}, {"amount": "1", "kind": "FILL"}, {"amount": "1", "to": "me"},
        {"amount": "1", "listed": "never"}, {"amount": "-100000.01", "kind": "JNLC"},
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_and_changes_nothing(body: Any) -> None:
    place = world()
    with pytest.raises(RefusedError) as refused:
        SimulatorApi(place.exchange).transfer(Call({}, {}, body))
    assert refused.value.status == 422
    assert (place.cash, listed(place)) == (100_000, [])


def test_what_is_planned_happens_once_at_its_time_and_what_cannot_be_paid_does_not() -> None:
    rows = [
        {"at": f"{TODAY} 10:30", "kind": "CSW", "amount_usd": "-70000"},
        {"at": f"{TODAY} 10:00", "amount_usd": "0.05"},
        {"at": f"{TODAY} 10:30", "kind": "CSW", "amount_usd": "-70000"},
        {"at": f"{TODAY} 11:00", "kind": "INT", "amount_usd": "3", "listed": "next_day"},
    ]
    place = world(transfers=rows)
    place.go(OPEN_NS + 30 * MINUTE_NS - 1)
    assert (place.cash, listed(place)) == (100_000, [])
    place.go(OPEN_NS + 30 * MINUTE_NS)
    assert place.cash == D("100000.05")
    place.go(OPEN_NS + 61 * MINUTE_NS)
    assert place.cash == D("30000.05")
    place.go(OPEN_NS + 120 * MINUTE_NS)
    assert place.cash == D("30003.05")
    assert listed(place) == [("CSD", TODAY, "0.05"), ("CSW", TODAY, "-70000")]


@pytest.mark.parametrize("row", [{"at": "10:30"}, {"at": "2026-02-30 10:30"}, {"kind": "FILL"}, {"amount_usd": "x"}])
def test_a_wrong_plan_is_refused(row: dict[str, str]) -> None:
    good = {"at": f"{TODAY} 10:30", "amount_usd": "1"}
    Behaviour.model_validate({"transfers": [good]})
    with pytest.raises(ValidationError):
        Behaviour.model_validate({"transfers": [{**good, **row}]})


def test_a_planned_time_is_new_yorks() -> None:
    assert instant_ns("2026-01-05 09:30") == 1_767_623_400_000_000_000
    assert instant_ns("2026-07-06 09:30") - instant_ns("2026-07-05 09:30") == DAY_NS


async def test_paid_interest_is_no_charge_and_charged_interest_is(tmp_path: Path) -> None:
    exchange, edges = make(tmp_path)
    exchange.transfers.make("INT", D("4.20"))
    exchange.transfers.make("INT", D("-1.10"))
    exchange.account.record_event("DIV", exchange.now_ns, "d", net_usd=D(7), description="Cash dividend", symbol="SPY")
    report = await edges.gateway.read_account(ReadAccount(exchange.now_ns - MINUTE_NS, ""))
    assert sorted((fee.text, fee.amount_usd) for fee in report.fees) == [
        ("DIV Cash dividend", D(-7)), ("INT Interest", D("1.10")),
    ]  # fmt: skip
    assert [(row.kind, row.cash_usd) for row in report.settlements] == [("INT", D("4.20"))]
    assert not is_charge({"activity_type": "CSD", "net_amount": "1"})

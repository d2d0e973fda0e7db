"""What one unit of a structure is worth: legs without a side, stale legs, wings that nobody quotes any more."""

from typing import Any

import pytest

from oracle.risk.worth import Worth, worth_of
from tests.unit.structures_house import LONG_CALL, SHORT_CALL, StructureHouse
from tests.unit.test_risk_structure_exits import NO_WING, USD, trade


@pytest.mark.parametrize(
    ("quotes", "mark", "mid", "sellable"),
    [
        ({}, "-1.00", "-1.00", True),
        # A wing without a bid: its ask bounds it for the stop, and it counts nothing for a gain.
        ({LONG_CALL: NO_WING}, "-1.18", "-1.20", True),
        ({LONG_CALL: (0.0, 0.02)}, "-1.19", "-1.20", True),
        # A short without a bid costs its ask for a gain; what it costs at least bounds it for the stop.
        ({SHORT_CALL: (None, 0.05)}, "-0.35", "-0.35", True),
        ({SHORT_CALL: (0.69, None)}, "-0.99", None, False),
        ({SHORT_CALL: (None, None)}, None, None, False),
        ({SHORT_CALL: (0.71, 0.69)}, "-0.99", None, False),
    ],
)
def test_what_a_condor_is_worth(quotes: Any, mark: str | None, mid: str | None, sellable: bool) -> None:
    house = StructureHouse()
    house.requote(**quotes)
    found = worth_of(trade(), house.engine.context(), USD(15))
    assert found == Worth(None if mark is None else USD(mark), None if mid is None else USD(mid), sellable=sellable)


def test_a_stale_leg_is_marked_at_its_worse_side_and_gives_no_gain() -> None:
    house = StructureHouse()
    house.quote(SHORT_CALL, 0.69, 0.71, age_s=16)
    found = worth_of(trade(), house.engine.context(), USD(15))
    assert (found.mark_usd, found.fresh_mid_usd) == (USD("-1.01"), None)
    del house.chains.quotes[SHORT_CALL]
    assert worth_of(trade(), house.engine.context(), USD(15)).mark_usd is None
    assert worth_of(trade(legs={SHORT_CALL: -1}), house.engine.context(), USD(15)).mark_usd is None


@pytest.mark.parametrize(
    ("bid", "ask", "mark", "mid"),
    [
        (None, 0.05, "-1.20", "-1.20"),
        (0.0, 0.10, "-1.20", "-1.20"),
        # What was offered for more, or bid for, may have come to anything by now.
        (None, 0.11, None, None),
        (0.01, 0.05, "-1.19", None),
        (None, None, None, None),
    ],
)
def test_a_worthless_wing_that_nobody_quotes_any_more_does_not_blind_the_exits(
    bid: float | None, ask: float | None, mark: str | None, mid: str | None
) -> None:
    house = StructureHouse()
    house.quote(LONG_CALL, bid, ask, age_s=600)
    found = worth_of(trade(), house.engine.context(), USD(15))
    assert (found.mark_usd, found.fresh_mid_usd) == (
        None if mark is None else USD(mark),
        None if mid is None else USD(mid),
    )

"""What shorts require: payoffs worked out by hand."""

from decimal import Decimal

import pytest

from oracle.core.instruments import OptionContract, Right
from oracle.sim.margin import combine, requirement, underlying_requirement

D = Decimal


def occ(strike: int, right: str = "C", expiry: str = "2026-01-16") -> str:
    return OptionContract("SPY", expiry, Right(right), strike * 1000).occ


LATER = "2026-02-20"
CASES = [
    ({occ(600): 3, occ(590, "P"): 1}, 0, "0"),  # long only
    ({occ(600): -1, occ(605): 1}, 0, "500"),  # credit call spread: the width
    ({occ(600): 1, occ(605): -1}, 0, "0"),  # debit call spread
    ({occ(590, "P"): 1, occ(595, "P"): -1, occ(605): -1, occ(610): 1}, 0, "500"),  # condor: one side only
    ({occ(590, "P"): 2, occ(595, "P"): -2, occ(605): -2, occ(615): 2}, 0, "2000"),  # the wider side
    ({occ(600, "P"): -1}, 0, "60000"),  # cash-secured put
    ({occ(600): -1}, 0, None),  # naked call
    ({occ(600): -1, occ(605): 1, occ(610): -1}, 0, None),
    ({occ(600): -1}, 100, "0"),  # covered call
    ({occ(600): -2}, 199, None),
    ({occ(600): -1, occ(600, expiry=LATER): 1}, 0, "0"),  # calendar: the far leg covers
    ({occ(600): 1, occ(600, expiry=LATER): -1}, 0, None),  # reverse calendar is naked after the near expiry
    ({occ(600): -1, occ(610, expiry=LATER): 1}, 0, "1000"),  # diagonal
    ({occ(590): 1, occ(600): -2, occ(610): 1}, 0, "0"),  # butterfly
]


@pytest.mark.parametrize(("positions", "shares", "usd"), CASES)
def test_requirement_of_one_underlying(positions: dict[str, int], shares: int, usd: str | None) -> None:
    assert underlying_requirement(positions, shares) == (None if usd is None else D(usd))


def test_account_requirement_adds_underlyings_and_short_stock() -> None:
    other = OptionContract("QQQ", "2026-01-16", Right.PUT, 500_000).occ
    positions = {occ(600): -1, occ(605): 1, other: -1, "IWM": -10}
    assert requirement(positions, {"IWM": D(200)}) == D(500 + 50_000 + 3_000)


def test_combine_drops_what_is_flat() -> None:
    assert combine({"A": 1, "B": -2}, [("A", -1), ("C", 3)]) == {"B": -2, "C": 3}

"""Names, net prices and payoffs of structures."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.core.errors import InvariantError, RemoteError
from oracle.core.instruments import OptionContract, Right, is_option, multiplier, parse_occ
from oracle.core.structures import (
    OrderLeg,
    is_structure,
    legs_of,
    net_price,
    payoff,
    reduced,
    structure_name,
)
from oracle.core.vocabulary import Side

CONDOR = "SPY:-260116C610+260116C615.5+260116P585-260116P590"
EXPIRIES = ("2026-01-16", "2026-01-23", "2026-02-20")

contracts = st.builds(
    OptionContract,
    st.just("SPY"),
    st.sampled_from(EXPIRIES),
    st.sampled_from(list(Right)),
    st.integers(1_000, 1_500).map(lambda k: k * 500),
)


@st.composite
def some_legs(draw: st.DrawFn) -> tuple[OrderLeg, ...]:
    """One to four different contracts with ratios in lowest terms (the first is one)."""
    chosen = draw(st.lists(contracts, min_size=1, max_size=4, unique=True))
    ratios = [1, *draw(st.lists(st.integers(1, 3), min_size=len(chosen) - 1, max_size=len(chosen) - 1))]
    sides = draw(st.lists(st.sampled_from(list(Side)), min_size=len(chosen), max_size=len(chosen)))
    return tuple(OrderLeg(c.occ, side, ratio) for c, side, ratio in zip(chosen, sides, ratios, strict=True))


class TestNames:
    def test_a_condor_reads_back(self) -> None:
        legs = legs_of(CONDOR)
        assert [leg.symbol for leg in legs] == [
            "SPY260116C00610000", "SPY260116C00615500", "SPY260116P00585000", "SPY260116P00590000",
        ]  # fmt: skip
        assert [leg.signed for leg in legs] == [-1, 1, 1, -1]
        assert structure_name(reversed(legs)) == CONDOR
        assert is_structure(CONDOR)
        assert not is_option(CONDOR)
        assert multiplier(CONDOR) == 100

    @given(some_legs())
    def test_every_name_defines_its_legs(self, legs: tuple[OrderLeg, ...]) -> None:
        assert legs_of(structure_name(legs)) == tuple(sorted(legs))

    def test_one_bought_contract_is_its_own_symbol(self) -> None:
        symbol = "SPY260116C00610000"
        assert structure_name([OrderLeg(symbol, Side.BUY)]) == symbol
        assert legs_of(symbol) == (OrderLeg(symbol, Side.BUY, 1),)
        assert legs_of("SPY") == (OrderLeg("SPY", Side.BUY, 1),)

    @pytest.mark.parametrize(
        "text",
        ["SPY:", "SPY:260116C610", "SPY:+260116X610", "SPY:+261316C610", "SPY:+260116C610 ", "spy:+260116C610",
         "SPY:+260116C0", "SPY:+260116C610.0001"],
    )  # fmt: skip
    def test_a_text_that_is_no_structure_is_refused(self, text: str) -> None:
        with pytest.raises(RemoteError):
            legs_of(text)

    @pytest.mark.parametrize(
        "legs",
        [
            [],
            [OrderLeg("SPY260116C00610000", Side.BUY), OrderLeg("SPY260116C00610000", Side.SELL)],
            [OrderLeg("SPY260116C00610000", Side.BUY), OrderLeg("QQQ260116C00610000", Side.SELL)],
            [OrderLeg("SPY260116C00610000", Side.BUY, 2), OrderLeg("SPY260116C00615000", Side.SELL, 2)],
            [OrderLeg("SPY260116C00610000", Side.BUY, 0), OrderLeg("SPY260116C00615000", Side.SELL)],
            [OrderLeg(f"SPY260116C00{k}000", Side.BUY) for k in range(600, 605)],
        ],
    )
    def test_legs_that_are_no_structure_are_refused(self, legs: list[OrderLeg]) -> None:
        with pytest.raises(InvariantError):
            structure_name(legs)

    def test_what_is_held_becomes_units(self) -> None:
        held = [("SPY260116C00600000", 4), ("SPY260116C00610000", -2), ("SPY260116C00620000", 0)]
        assert reduced(held) == ("SPY:+2x260116C600-260116C610", 2)
        assert reduced([("SPY260116C00600000", 3)]) == ("SPY260116C00600000", 3)


class TestPayoff:
    def test_a_condor_sold_for_one_dollar(self) -> None:
        found = payoff(legs_of("SPY:-260116C610+260116C615+260116P585-260116P590"), Decimal("-1.00"))
        assert found.max_loss_usd == 400
        assert found.max_gain_usd == 100
        assert found.break_evens == (Decimal(589), Decimal(611))
        assert found.covered

    def test_a_straddle_has_no_bound_above(self) -> None:
        found = payoff(legs_of("SPY:+260116C600+260116P600"), Decimal("12.50"))
        assert (found.max_loss_usd, found.max_gain_usd) == (1250, None)
        assert found.break_evens == (Decimal("587.5"), Decimal("612.5"))

    def test_a_sold_call_is_uncovered_and_its_loss_unbounded(self) -> None:
        found = payoff([OrderLeg("SPY260116C00610000", Side.SELL)], Decimal("-2"))
        assert found.max_loss_usd is None
        assert not found.covered

    def test_a_sold_put_is_uncovered_although_its_loss_is_bounded(self) -> None:
        assert not payoff([OrderLeg("SPY260116P00590000", Side.SELL)], Decimal("-2")).covered

    def test_a_call_does_not_cover_a_put(self) -> None:
        assert not payoff(legs_of("SPY:+260116C610-260116P590"), Decimal(0)).covered

    def test_a_long_that_dies_first_does_not_cover(self) -> None:
        assert not payoff(legs_of("SPY:+260116C610-260220C610"), Decimal("-2")).covered
        assert payoff(legs_of("SPY:-260116C610+260220C610"), Decimal(2)).covered

    @given(some_legs(), st.integers(-500, 500), st.integers(0, 4_000))
    def test_no_price_of_the_underlying_loses_more_than_the_bound(
        self, legs: tuple[OrderLeg, ...], cents: int, half_dollars: int
    ) -> None:
        price, spot = Decimal(cents) / 100, Decimal(half_dollars) / 2
        found = payoff(legs, price)
        rows = [(parse_occ(leg.symbol), leg.signed) for leg in legs]
        value = sum(
            (n * max(spot - c.strike_usd if c.is_call else c.strike_usd - spot, Decimal(0)) for c, n in rows),
            Decimal(0),
        )
        result_usd = (value - price) * 100
        if found.max_loss_usd is not None:
            assert result_usd >= -found.max_loss_usd
        if found.max_gain_usd is not None:
            assert result_usd <= found.max_gain_usd

    @given(some_legs())
    def test_shorts_without_enough_longs_of_their_right_are_never_covered(self, legs: tuple[OrderLeg, ...]) -> None:
        found = payoff(legs, Decimal(0))
        for right in Right:
            signed = [leg.signed for leg in legs if parse_occ(leg.symbol).right is right]
            if sum(signed) < 0:
                assert not found.covered
                assert found.max_loss_usd is None

    def test_the_net_price_of_legs(self) -> None:
        legs = legs_of("SPY:+2x260116C600-260116C610")
        assert net_price(legs, [Decimal("3.10"), Decimal("1.05")]) == Decimal("5.15")

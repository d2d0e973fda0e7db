"""Limits only tighten, and the error says which field, which value and which ceiling."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from oracle.risk.limits import BOUNDS, LadderSettings, RiskLimits


def test_ceilings_are_those_of_the_product() -> None:
    product = {
        "trade_loss_fraction": "0.02", "position_fraction": "0.05", "day_budget_fraction": "0.03",
        "day_loss_fraction": "0.03", "consecutive_losses": "3", "open_worst_case_fraction": "0.20",
        "net_delta_fraction": "2.00", "drawdown_fraction": "0.10",
    }  # fmt: skip
    for name, ceiling in product.items():
        assert BOUNDS[name].value == Decimal(ceiling)
        assert getattr(RiskLimits(), name) == Decimal(ceiling)


def test_every_limit_has_a_bound_and_no_default_is_looser() -> None:
    assert set(RiskLimits.model_fields) - set(BOUNDS) == {"restricted_symbols"}
    for name, bound in BOUNDS.items():
        assert bound.allows(Decimal(getattr(RiskLimits(), name)))


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_a_looser_value_names_field_value_and_ceiling(name: str) -> None:
    bound = BOUNDS[name]
    looser = int(bound.value) + 1 if bound.kind == "at_most" else int(bound.value) - 1
    with pytest.raises(ValidationError) as caught:
        RiskLimits.model_validate({name: looser})
    for part in (name, str(looser), str(bound.value)):
        assert part in str(caught.value)


@pytest.mark.parametrize("value", ["0", "-1", "NaN", "inf"])
def test_a_limit_that_is_no_limit_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="trade_loss_fraction"):
        RiskLimits.model_validate({"trade_loss_fraction": value})


def test_tighter_is_taken_and_unknown_settings_are_errors() -> None:
    assert RiskLimits.model_validate({"trade_loss_fraction": "0.01"}).trade_loss_fraction == Decimal("0.01")
    assert RiskLimits.model_validate({"min_options_level": 3}).min_options_level == 3
    with pytest.raises(ValidationError, match="tade_loss"):
        RiskLimits.model_validate({"tade_loss": "0.01"})


@pytest.mark.parametrize("fractions", [(), ("0.6",), ("0.25", "0.1"), ("0.1", "0.1"), ("-0.1",)])
def test_ladder_fractions_rise_within_the_touch(fractions: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="fractions"):
        LadderSettings.model_validate({"fractions": fractions})

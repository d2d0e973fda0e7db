"""Sizes: the product's worked example, each measure when it binds, unknown input, and half-Kelly."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.risk.sheet import UNKNOWN, RiskFacts
from oracle.risk.sizing import MEASURES, Record, half_kelly, size
from tests.unit.test_risk_rules import GOOD

USD = Decimal


def facts(equity: int = 100_000, **changes: Any) -> RiskFacts:
    """An account with nothing open, about to buy a 10 USD option with a 50 % stop and hardly any delta."""
    amount = USD(equity)
    base = {
        "equity_usd": amount, "day_start_usd": amount, "peak_usd": amount, "buying_power_usd": amount,
        "trade_delta_usd": USD(100),
    }  # fmt: skip
    return msgspec.structs.replace(GOOD, **{**base, **changes})


@pytest.mark.parametrize(
    ("equity", "by_loss", "by_position", "contracts"),
    [(100_000, 4, 5, 4), (10_000, 0, 0, 0), (1_000_000, 40, 50, 40)],
)
def test_the_worked_example(equity: int, by_loss: int, by_position: int, contracts: int) -> None:
    fits = size(facts(equity), Record(), live=False)
    assert fits.headroom["trade_loss"] == by_loss
    assert fits.headroom["position_worst_case"] == by_position
    assert fits.contracts == contracts
    assert fits.bound_by == "trade_loss"
    assert fits.equity_needed_usd == USD(25_000)


def test_a_refusal_names_what_one_contract_needs() -> None:
    fits = size(facts(10_000), Record(), live=False)
    assert [refusal.rule for refusal in fits.refusals][:2] == ["trade_loss", "position_worst_case"]
    assert fits.refusals[0].observed == "0.00 USD used and 500.00 USD a contract, of 200.00 USD"
    assert size(facts(25_000), Record(), live=False).contracts == 1


@pytest.mark.parametrize(
    ("rule", "changes", "contracts"),
    [
        ("day_budget", {"committed_planned_usd": USD(2_000)}, 2),
        ("day_budget", {"committed_planned_usd": USD(2_501)}, 0),
        ("day_budget", {"equity_usd": USD(98_400)}, 2),
        ("day_budget", {"equity_usd": USD(100_500), "giveback_usd": USD(2_500)}, 2),
        ("open_worst_case", {"committed_worst_usd": USD(18_000)}, 2),
        ("open_worst_case", {"committed_worst_usd": USD(21_000)}, 0),
        ("net_delta", {"trade_delta_usd": USD(60_000)}, 3),
        ("net_delta", {"trade_delta_usd": USD(-60_000)}, 3),
        ("net_delta", {"trade_delta_usd": USD(-60_000), "net_delta_usd": USD(-150_000)}, 0),
        ("order_value", {"worst_price_usd": USD("20.00"), "stop_fraction": USD("0.01")}, 2),
        ("buying_power", {"buying_power_usd": USD(3_500)}, 3),
        ("buying_power", {"buying_power_usd": USD(-1)}, 0),
    ],
)
def test_each_measure_binds_at_its_limit(rule: str, changes: dict[str, Any], contracts: int) -> None:
    fits = size(facts(**changes), Record(), live=False)
    if rule == "order_value":  # the 5 % rule binds first here; the cap is seen in its own headroom
        assert fits.headroom[rule] == 25
        return
    assert (fits.contracts, fits.bound_by) == (contracts, rule)


def test_a_trade_against_the_net_has_more_room() -> None:
    changes = {"trade_delta_usd": USD(-60_000), "net_delta_usd": USD(150_000)}
    assert size(facts(**changes), Record(), live=False).headroom["net_delta"] == 5


@pytest.mark.parametrize(
    "name",
    [
        "worst_price_usd", "equity_usd", "day_start_usd", "committed_planned_usd", "giveback_usd",
        "committed_worst_usd", "net_delta_usd", "trade_delta_usd", "buying_power_usd",
    ],
)  # fmt: skip
def test_unknown_input_is_no_size(name: str) -> None:
    fits = size(facts(**{name: None}), Record(), live=False)
    assert fits.contracts == 0
    assert any(refusal.observed == UNKNOWN for refusal in fits.refusals)


def test_no_equity_needed_is_named_when_no_price_is_known() -> None:
    assert size(facts(worst_price_usd=None), Record(), live=False).equity_needed_usd is None
    assert len(MEASURES) == 8


def test_caps_bind_for_large_accounts() -> None:
    fits = size(facts(100_000_000), Record(), live=False)
    assert (fits.contracts, fits.bound_by) == (50, "order_value")


def record(wins: int, losses: int, win: int, loss: int) -> Record:
    made = Record()
    for _ in range(wins):
        made = made.add(USD(win))
    for _ in range(losses):
        made = made.add(USD(-loss))
    return made


def test_kelly_waits_for_thirty_trades_and_counts_scratches() -> None:
    assert record(20, 9, 100, 100).kelly() is None
    assert record(20, 9, 100, 100).add(USD(0)).kelly() == Decimal(20) / 30 - Decimal(9) / 30
    assert record(18, 12, 200, 100).kelly() == Decimal("0.6") - Decimal("0.4") / 2
    assert record(30, 0, 100, 100).kelly() == 1
    assert record(0, 30, 100, 100).kelly() == -1


def test_half_kelly_sizes_the_planned_loss() -> None:
    thin = record(16, 14, 100, 100)  # f = 2/30, half 1/30 of 100,000: 3,333 USD is six stops of 500 USD
    room = half_kelly(facts(), thin, live=True)
    assert room is not None
    assert room.contracts == 6
    small = half_kelly(facts(10_000), thin, live=True)
    assert small is not None
    assert small.contracts == 0
    assert small.equity_needed_usd is not None
    assert small.equity_needed_usd > 15_000
    kept = half_kelly(facts(10_000), thin, live=False)
    assert kept is not None
    assert kept.contracts == 1


def test_without_an_edge_live_refuses_and_paper_goes_on_with_one() -> None:
    losing = record(10, 20, 100, 100)
    live = size(facts(), losing, live=True)
    assert (live.contracts, live.bound_by) == (0, "half_kelly")
    assert (size(facts(), losing, live=False).contracts, size(facts(), losing, live=False).bound_by) == (
        1,
        "half_kelly",
    )
    unknown = half_kelly(facts(equity_usd=None), record(16, 14, 100, 100), live=False)
    assert unknown is not None
    assert unknown.contracts is None

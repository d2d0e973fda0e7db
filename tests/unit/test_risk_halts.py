"""Latches: set at their limits, cleared only by their session or an operator, rebuilt from stored facts."""

from decimal import Decimal

import pytest

from oracle.core.messages import EquityMarked, LatchChanged, StrategyFailed, TradeClosed
from oracle.core.vocabulary import TradingState
from oracle.risk.halts import Halts
from oracle.risk.limits import RiskLimits
from tests.unit.builders import CALL, DATES, DAY_NS, OPEN_NS, START_NS, TABLE


def marked(equity: str, start: str = "100000", peak: str = "100000") -> EquityMarked:
    amount = Decimal(equity)
    zero = Decimal(0)
    return EquityMarked(DATES[0], START_NS, "minute", amount, amount, Decimal(start), Decimal(peak), zero, zero, 0)


def trade(net: str, n: int = 1, strategy: str = "breakout") -> TradeClosed:
    price, zero = Decimal(1), Decimal(0)
    return TradeClosed(
        trade_id=f"t{n}", strategy=strategy, strategy_hash="h", underlying="SPY", symbol=CALL, contracts=1,
        opened_ns=START_NS, closed_ns=START_NS + n, entry_price_usd=price, exit_price_usd=price,
        gross_pnl_usd=Decimal(net) + Decimal("1.30"), fees_broker_usd=zero, fees_modelled_usd=Decimal("1.30"),
        slippage_usd=None, slippage_bps=None, exit_rule="stop",
    )  # fmt: skip


def test_the_day_loss_latches_at_three_percent_until_the_next_session() -> None:
    halts = Halts(RiskLimits())
    assert halts.on_equity(marked("97000.01"), TABLE) == []
    (change,) = halts.on_equity(marked("97000"), TABLE)
    assert (change.latch, change.active, change.until_date, change.at_ns) == ("day_loss", True, DATES[1], START_NS)
    assert halts.on_equity(marked("96000"), TABLE) == []
    assert halts.state is TradingState.REDUCING
    assert halts.on_session(DATES[0], START_NS) == []
    (cleared,) = halts.on_session(DATES[1], START_NS + DAY_NS)
    assert (cleared.latch, cleared.active) == ("day_loss", False)
    assert halts.state is TradingState.ACTIVE


def test_the_drawdown_halts_until_an_operator() -> None:
    halts = Halts(RiskLimits())
    (change,) = halts.on_equity(marked("90000", start="90000"), TABLE)
    assert (change.latch, change.until_date) == ("drawdown", None)
    assert halts.state is TradingState.HALTED
    assert halts.on_session(DATES[4], OPEN_NS + 4 * DAY_NS) == []
    halts.apply(LatchChanged("drawdown", False, "operator", "", "", None, START_NS))
    assert halts.state is TradingState.ACTIVE


def test_three_losses_in_a_row_net_of_modelled_fees() -> None:
    halts = Halts(RiskLimits())
    assert halts.on_trade_closed(trade("-1", 1), TABLE) == []
    assert halts.on_trade_closed(trade("-0.01", 2, "scalp"), TABLE) == []
    assert halts.on_trade_closed(trade("5", 3), TABLE) == []
    for n in (4, 5):
        assert halts.on_trade_closed(trade("-1", n), TABLE) == []
    (change,) = halts.on_trade_closed(trade("-1", 6), TABLE)
    assert (change.latch, change.until_date, halts.losses_in_a_row) == ("loss_streak", DATES[1], 3)
    assert halts.on_trade_closed(trade("-1", 7), TABLE) == []
    halts.on_session(DATES[1], START_NS + DAY_NS)
    assert (halts.losses_in_a_row, halts.state) == (0, TradingState.ACTIVE)
    assert halts.record("breakout").trades == 6
    assert halts.record("nobody").trades == 0


def test_a_failed_strategy_halts_only_itself() -> None:
    halts = Halts(RiskLimits())
    (change,) = halts.on_strategy_failed(StrategyFailed("scalp", "ValueError"), START_NS)
    assert change.until_date is None
    assert halts.failed("scalp")
    assert not halts.failed("breakout")
    assert halts.state is TradingState.ACTIVE
    assert halts.on_strategy_failed(StrategyFailed("scalp", "again"), START_NS) == []


def test_a_latch_that_nobody_knows_halts() -> None:
    halts = Halts(RiskLimits())
    halts.apply(LatchChanged("operator", True, "halt", "", "", None, START_NS))
    assert (halts.state, halts.names) == (TradingState.HALTED, ("operator",))
    halts.apply(LatchChanged("never_set", False, "", "", "", None, START_NS))
    assert halts.state is TradingState.HALTED


@pytest.mark.parametrize(("cleared_after", "expected"), [(None, 3), (2, 1), (3, 0)])
def test_the_streak_is_rebuilt_from_trades_after_its_last_clearing(cleared_after: int | None, expected: int) -> None:
    latches = [LatchChanged("day_loss", True, "", "", "", DATES[1], START_NS)]
    if cleared_after is not None:
        latches.append(LatchChanged("loss_streak", True, "", "", "", DATES[1], START_NS))
        latches.append(LatchChanged("loss_streak", False, "", "", "", None, START_NS + cleared_after))
    halts = Halts(RiskLimits())
    halts.restore(latches, [trade("-1", 1), trade("-1", 2), trade("-1", 3)])
    assert halts.losses_in_a_row == expected
    assert halts.names == ("day_loss",)
    assert halts.record("breakout").losses == 3

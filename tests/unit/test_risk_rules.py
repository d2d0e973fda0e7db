"""Each rule refuses what it is for, refuses unknown input, and lets the good case pass."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oracle.core.ports import StrategyCaps
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.structures import OrderLeg
from oracle.core.vocabulary import FeedState, Side, TradingState
from oracle.risk.limits import RiskLimits
from oracle.risk.rules import RULES, broken
from oracle.risk.sheet import UNKNOWN, RiskFacts
from oracle.risk.sizing import MEASURES
from tests.unit.builders import CALL, START_NS, TABLE

USD = Decimal
CLOSE_NS = TABLE.sessions[0].close_ns

GOOD = RiskFacts(
    limits=RiskLimits(restricted_symbols=("GME",)), at_ns=START_NS, strategy="breakout", underlying="SPY",
    unit=(OrderLeg(CALL, Side.BUY),), symbol=CALL, known_contract=True, tradable=True, confidence=0.8,
    confidence_needed=0.8, valid_until_ns=START_NS + MINUTE_NS,
    flat_ns=CLOSE_NS - 60 * MINUTE_NS, expiry_close_ns=CLOSE_NS, expires_today=True, state=TradingState.ACTIVE,
    draining=False, strategy_failed=False, latches=(), losses_in_a_row=2, reconciled=True, foreign_execution=None,
    feeds=(("stock", FeedState.LIVE), ("option", FeedState.LIVE), ("trading", FeedState.LIVE)), unknown_orders=(),
    duplicate=None, orders_last_min=19, round_trips=19,
    caps=StrategyCaps(20, 2, 3), strategy_losses_in_a_row=1, strategy_open_trades=2, conflicts=(),
    opposite_orders=(), in_session=True, halted=False,
    bid_usd=USD("9.95"), ask_usd=USD("10.00"), quoted_ns=START_NS - 15 * NS, decision_mid_usd=USD("9.975"),
    worst_price_usd=USD("10.00"), options_level=2, trading_blocked=False, buying_power_usd=USD(100_000),
    equity_usd=USD(97_001), day_start_usd=USD(100_000), peak_usd=USD(107_700), stop_fraction=USD("0.5"),
    committed_planned_usd=USD(0), giveback_usd=USD(0), committed_worst_usd=USD(0), net_delta_usd=USD(0),
    trade_delta_usd=USD(30_000),
)  # fmt: skip

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("trading_state", {"state": TradingState.HALTED, "latches": ("drawdown",)}, "halted (drawdown)"),
    ("trading_state", {"state": TradingState.REDUCING, "latches": ("day_loss",)}, "reducing (day_loss)"),
    ("draining", {"draining": True}, "the process is stopping"),
    ("strategy_failed", {"strategy_failed": True}, "breakout failed"),
    ("strategy_disabled", {"strategy_disabled": True}, "breakout is switched off"),
    ("day_loss", {"equity_usd": USD(97_000)}, "3000.00 USD lost of 100000.00 USD"),
    ("day_loss", {"day_start_usd": None}, UNKNOWN),
    ("day_loss", {"day_start_usd": USD(0), "equity_usd": USD(0), "peak_usd": USD("0.01")}, UNKNOWN),
    ("loss_streak", {"losses_in_a_row": 3}, "3 losing trades in a row"),
    ("drawdown", {"peak_usd": USD("107778.89")}, "10777.89 USD under 107778.89 USD"),
    ("drawdown", {"peak_usd": None}, UNKNOWN),
    ("feeds", {"feeds": (("stock", FeedState.STALE), ("option", FeedState.DOWN))}, "stock stale, option down"),
    ("reconciled", {"reconciled": False}, "not reconciled"),
    ("reconciled", {"foreign_execution": "x9"}, "foreign execution x9"),
    ("order_unknown", {"unknown_orders": ("o1-1", "o2-1")}, "o1-1, o2-1"),
    ("confidence", {"confidence": 0.79}, "0.79"),
    ("confidence", {"confidence": float("nan")}, "nan"),
    ("duplicate_intent", {"duplicate": "decided before"}, "decided before"),
    ("order_rate", {"orders_last_min": 20}, "20 orders in the last minute"),
    ("repeated_execution", {"round_trips": 20}, "20 trades of breakout"),
    ("strategy_trades", {"caps": StrategyCaps(trades_per_session=19)}, "19 trades of breakout this session"),
    ("strategy_losses", {"strategy_losses_in_a_row": 2}, "2 losing trades of breakout in a row this session"),
    ("strategy_open", {"strategy_open_trades": 3}, "3 trades of breakout at once"),
    (
        "strategy_underlying_trades",
        {"caps": StrategyCaps(trades_per_underlying_session=1), "underlying_trades": 1},
        "1 trades of breakout in SPY this session",
    ),
    (
        "strategy_underlying_open",
        {"caps": StrategyCaps(open_per_underlying=2), "underlying_open_trades": 2},
        "2 trades of breakout in SPY at once",
    ),
    ("session_window", {"in_session": False}, "outside the session"),
    ("entry_window", {"valid_until_ns": START_NS - NS}, "1.0 s late"),
    ("expiry_window", {"at_ns": CLOSE_NS - 30 * MINUTE_NS}, "30.0 min before expiry"),
    ("expiry_window", {"expiry_close_ns": None}, UNKNOWN),
    ("expiry_window", {"expires_today": None}, UNKNOWN),
    ("expiry_window", {"expires_today": False, "expiry_close_ns": START_NS}, "0.0 min before expiry"),
    ("exit_plan", {"flat_ns": CLOSE_NS + NS}, f"flat {(CLOSE_NS - START_NS) // NS + 1} s from now"),
    ("exit_plan", {"flat_ns": START_NS}, "flat 0 s from now"),
    ("exit_plan", {"expiry_close_ns": None}, UNKNOWN),
    (
        "structure",
        {"unit": (OrderLeg(CALL, Side.BUY),) * 2},
        "a structure of 2 legs: one to 4 different contracts are possible",
    ),
    (
        "structure",
        {"unit": (OrderLeg(CALL, Side.BUY, 2),)},
        "a structure's ratios are whole, positive and in lowest terms",
    ),
    ("naked_short", {"unit": (OrderLeg(CALL, Side.SELL),)}, f"sell {CALL} to open"),
    ("contract_listed", {"known_contract": False}, UNKNOWN),
    ("contract_listed", {"tradable": None}, UNKNOWN),
    ("contract_listed", {"tradable": False}, f"{CALL} is not tradable"),
    ("restricted_symbol", {"underlying": "GME"}, "GME"),
    ("underlying_halted", {"halted": True}, "SPY is halted"),
    ("quote_age", {"quoted_ns": START_NS - 16 * NS}, "16.0 s"),
    ("quote_age", {"quoted_ns": None}, UNKNOWN),
    ("two_sided", {"bid_usd": None, "ask_usd": None}, UNKNOWN),
    ("two_sided", {"bid_usd": None}, "no bid"),
    ("two_sided", {"ask_usd": None}, "no ask"),
    ("two_sided", {"bid_usd": USD("10.01")}, "bid 10.01 USD, ask 10.00 USD"),
    ("two_sided", {"bid_usd": USD(0), "ask_usd": USD("0.01")}, "bid 0 USD, ask 0.01 USD"),
    ("spread", {"bid_usd": USD("9.00"), "ask_usd": USD("9.51")}, "0.51 USD on a mid of 9.255 USD"),
    ("spread", {"bid_usd": USD("1.00"), "ask_usd": USD("1.12")}, "0.12 USD on a mid of 1.06 USD"),
    ("spread", {"ask_usd": None}, UNKNOWN),
    ("price_collar", {"worst_price_usd": USD("11.48")}, "11.48 USD against a mid of 9.975 USD"),
    ("price_collar", {"decision_mid_usd": USD("8.47")}, "8.47 USD against a mid of 9.975 USD"),
    ("price_collar", {"worst_price_usd": None}, UNKNOWN),
    ("contract_conflict", {"conflicts": (f"buy against -1 held of {CALL}",)}, f"buy against -1 held of {CALL}"),
    ("self_cross", {"opposite_orders": ("o1", "o2")}, "working: o1, o2"),
    ("options_level", {"options_level": 1}, "level 1"),
    ("options_level", {"options_level": None}, UNKNOWN),
    ("account_blocked", {"trading_blocked": True}, "trading is blocked"),
    ("account_blocked", {"trading_blocked": None}, UNKNOWN),
]


def test_the_good_case_passes_every_rule_at_its_edge() -> None:
    assert broken(GOOD) == ()


@pytest.mark.parametrize(("rule", "changes", "observed"), CASES)
def test_a_rule_refuses_with_what_it_saw(rule: str, changes: dict[str, Any], observed: str) -> None:
    refusals = {refusal.rule: refusal for refusal in broken(msgspec.structs.replace(GOOD, **changes))}
    assert refusals[rule].observed == observed
    assert refusals[rule].limit


def test_all_rules_are_tried_and_all_refusals_kept() -> None:
    assert {rule.__name__ for rule in RULES} == {rule for rule, _, _ in CASES}
    bad = msgspec.structs.replace(GOOD, draining=True, halted=True, options_level=None)
    assert [refusal.rule for refusal in broken(bad)] == ["draining", "underlying_halted", "options_level"]


def test_the_page_has_a_row_for_every_rule_measure_and_limit() -> None:
    page = (Path(__file__).parents[2] / "docs" / "risk.md").read_text()
    for name in [function.__name__ for function in (*RULES, *MEASURES)] + ["half_kelly"]:
        assert f"| `{name}` |" in page
    for name in RiskLimits.model_fields:
        assert f"{name}`" in page or f"`{name}" in page, name

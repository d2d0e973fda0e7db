"""What ``oracle positions`` says of contracts that several trades hold, and of what belongs to none."""

from decimal import Decimal
from typing import Any

import pytest

from oracle.cli.held import print_holdings, with_trades

CALL, WING = "SPY260105C00615000", "SPY260105C00620000"


def trade(trade_id: str, units: int) -> dict[str, Any]:
    legs = [
        {"symbol": symbol, "qty": qty, "avg_price_usd": Decimal("0.70"), "mark_usd": Decimal("0.60")}
        for symbol, qty in ((CALL, -units), (WING, units))
    ]
    return {
        "trade_id": trade_id, "symbol": "SPY:-260105C615+260105C620", "legs": legs, "whole": True, "marked_ns": None,
        "contracts_open": units, "entry_price_usd": Decimal("-0.50"), "mark_usd": Decimal("-0.40"),
        "pnl_usd": Decimal(10) * units,
    }  # fmt: skip


def position(symbol: str, qty: int) -> dict[str, Any]:
    return {"symbol": symbol, "qty": qty, "avg_price_usd": Decimal("0.70"), "cost_usd": Decimal(70) * qty}


def test_a_contract_of_several_trades_names_them_all_and_claims_none() -> None:
    rows = with_trades([position(CALL, -3), position(WING, 3)], [trade("a", 1), trade("b", 2)])
    assert [(r["trade_ids"], r["trade_id"], r["structure"]) for r in rows] == [(["a", "b"], None, None)] * 2
    assert rows[0]["mark_usd"] == Decimal("0.60")
    (only,) = with_trades([position(CALL, -1)], [trade("a", 1)])
    assert (only["trade_ids"], only["trade_id"], only["structure"]) == (["a"], "a", "SPY:-260105C615+260105C620")
    (loose,) = with_trades([position("SPY", 5)], [])
    assert (loose["trade_ids"], loose["trade_id"], loose["mark_usd"], loose["expiry"]) == ([], None, None, None)


def test_what_exceeds_the_trades_is_shown_as_of_no_trade(capsys: pytest.CaptureFixture[str]) -> None:
    print_holdings([position(CALL, -5), position(WING, 3)], [trade("a", 1), trade("b", 2)], None)
    shown = capsys.readouterr().out
    assert shown.count("of no trade") == 1
    assert f"{CALL} (of no trade)" in shown
    assert "-2" in next(line for line in shown.splitlines() if "of no trade" in line)

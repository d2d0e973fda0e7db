"""Amounts as micros: prices of our own fills exact or refused, what a remote tells is rounded and never refused."""

from decimal import Decimal

import pytest

from oracle.core.errors import InvariantError
from oracle.core.messages import FeeCharged, ForeignExecution, LedgerSeeded, OrderFilled
from oracle.core.vocabulary import Purpose, Side
from oracle.store.rows import row_of

D = Decimal


def filled(price: str, fee: str = "0") -> OrderFilled:
    return OrderFilled(
        "x", "o-1", "o-1-1", "b", "t", "s", "SPY260105C00600000", Side.BUY, Purpose.ENTRY, 1, D(price), D(fee), D(0), 1
    )


def test_remote_amounts_are_rounded_half_even_to_micros() -> None:
    coin = ForeignExecution("e", "c", "SHIBUSD", Side.BUY, D("1000000.5"), D("0.00001250"))
    assert row_of(coin)["price_micros"] == 12
    assert row_of(coin)["qty"] == "1000000.5"
    seed = row_of(LedgerSeeded(D("97846.08331250"), D("97846.08331350"), 1))
    assert (seed["cash_micros"], seed["equity_micros"]) == (97_846_083_312, 97_846_083_314)
    fee = FeeCharged("f", "", D("-0.0000015"), "rebate", 1, in_opening_cash=False)
    assert row_of(fee)["amount_micros"] == -2
    assert row_of(filled("2.05", "0.0282345"))["fees_broker_micros"] == 28_234


def test_the_price_of_our_own_fill_is_exact_or_refused() -> None:
    assert row_of(filled("2.000001"))["price_micros"] == 2_000_001
    with pytest.raises(InvariantError, match="finer"):
        row_of(filled("2.0000001"))

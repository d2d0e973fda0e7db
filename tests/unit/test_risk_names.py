"""Ids of orders and decisions."""

import pytest

from oracle.core.errors import ProtocolError
from oracle.risk.names import Names
from tests.unit.builders import TABLE, intent


def test_numbers_go_on_and_exits_keep_their_trades_word() -> None:
    names = Names("tok-en", {"breakout": "bo"}, 7)
    session = TABLE.sessions[0]
    assert names.order("breakout", session) == "tok-en-20260105-bo-000007"
    assert names.exit_order("tok-en-20260102-gone-000003", session) == "tok-en-20260105-gone-000008"
    with pytest.raises(ProtocolError, match="session table"):
        names.order("breakout", None)


def test_decisions_of_one_instant_are_told_apart() -> None:
    names = Names("tok", {}, 1)
    made = [names.decision(intent(), at_ns) for at_ns in (5, 5, 6)]
    assert made == ["breakout:2026-01-05:SPY:1@5", "breakout:2026-01-05:SPY:1@5.1", "breakout:2026-01-05:SPY:1@6"]

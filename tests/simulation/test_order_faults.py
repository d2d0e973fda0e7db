"""Each fault of orders, injected into a session of the real exchange: outcomes unknown, late, doubled, out of order.

Seed 2 enters at 09:46 in two attempts (the first is cancelled after five seconds, partly filled) and must leave at
09:48. Every session must end right: books equal to the exchange's to the cent, no order twice, nothing left open.
"""

from pathlib import Path
from typing import Any

import pytest

from oracle.core.messages import OrderAdvanced, Reconciled, SubmitOrder
from oracle.core.sessions import NS
from oracle.core.vocabulary import OrderState
from tests.simulation.rehearsal import Rehearsal, clock_ns, rehearse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(110)]
TRADE = ["trade"]
EXIT = "09:47:30"
READS = ["look_up", "account", "positions", "orders", "order", "activities"]


async def day(tmp_path: Path, *faults: dict[str, Any], trades: int = 1, until: str = "09:53") -> Rehearsal:
    """A session with these faults that ends right."""
    played = await rehearse(tmp_path / "state", faults, seed=2, until=until)
    played.check(trades)
    return played


def states_of(played: Rehearsal, attempt: str) -> list[OrderState]:
    """The states that an attempt went through."""
    return [m.to_state for _, m in played.of(OrderAdvanced) if m.client_order_id.endswith(attempt)]


@pytest.mark.parametrize("reply", [504, "drop"])
async def test_an_answer_lost_after_the_order_was_accepted(tmp_path: Path, reply: int | str) -> None:
    """Every POST's reply is lost: each order is unknown, then found under its own id, and never sent again."""
    played = await day(tmp_path, {"kind": "lose_reply", "reply": reply})
    assert played.injected("lose_reply") == len(played.records["orders"]) == 3
    assert states_of(played, "000002-1")[-1] is OrderState.FILLED


async def test_an_answer_that_never_comes(tmp_path: Path) -> None:
    """The client gives up by itself after ten seconds of wall time."""
    played = await day(tmp_path, {"kind": "lose_reply", "reply": "hang", "count": 1})
    assert len(played.records["orders"]) == 3


async def test_an_entry_refused_with_503_before_it_was_taken_never_was(tmp_path: Path) -> None:
    played = await day(tmp_path, {"kind": "refuse_request", "reply": 503, "count": 1}, trades=0)
    assert states_of(played, "000001-1") == [OrderState.SENT, OrderState.UNKNOWN, OrderState.REJECTED]
    assert played.records["orders"] == []


@pytest.mark.parametrize("count", [1, 3])
async def test_an_exit_refused_with_503_is_sent_again_until_it_is_taken(tmp_path: Path, count: int) -> None:
    played = await day(tmp_path, {"kind": "refuse_request", "reply": 503, "count": count, "from": EXIT})
    assert played.records["positions"] == []


@pytest.mark.parametrize("reply", [401, 403])
async def test_an_exit_that_is_rejected_is_ordered_anew(tmp_path: Path, reply: int) -> None:
    """A readable refusal proves that the order does not exist: the next one is another order."""
    played = await day(tmp_path, {"kind": "refuse_request", "reply": reply, "count": 2, "from": EXIT})
    assert len(played.of(SubmitOrder)) == 4


async def test_429_is_waited_out_with_the_same_order(tmp_path: Path) -> None:
    played = await day(tmp_path, {"kind": "refuse_request", "reply": 429, "count": 2})
    assert len(played.of(SubmitOrder)) == 2
    assert len(played.records["orders"]) == 3


async def test_fills_that_come_before_the_reply(tmp_path: Path) -> None:
    played = await day(tmp_path, {"kind": "fill_before_reply"})
    assert played.injected("fill_before_reply") == 3


@pytest.mark.parametrize("seconds", [0, 2])
async def test_a_fill_after_the_cancels_204(tmp_path: Path, seconds: int) -> None:
    """The cancel is taken and the order fills all the same: it is booked, and no second attempt is sent."""
    played = await day(tmp_path, {"kind": "fill_after_cancel", "seconds": seconds})
    first = states_of(played, "000001-1")
    assert OrderState.CANCEL_SENT in first
    assert first[-1] is OrderState.FILLED
    assert len(played.records["orders"]) == 2


async def test_a_cancel_whose_answer_is_lost(tmp_path: Path) -> None:
    played = await day(tmp_path, {"kind": "lose_reply", "on": ["cancel"]})
    assert played.injected("lose_reply") == 1


async def test_a_cancel_that_is_refused_is_asked_for_again(tmp_path: Path) -> None:
    played = await day(tmp_path, {"kind": "refuse_request", "on": ["cancel"], "reply": 503, "count": 2})
    assert played.injected("refuse_request") == 2


async def test_trade_updates_come_twice(tmp_path: Path) -> None:
    played = await day(tmp_path, {"kind": "duplicate", "on": TRADE})
    assert played.injected("duplicate") > 8


async def test_trade_updates_come_late_and_overtaken(tmp_path: Path) -> None:
    """Half of them four seconds late: a fill before its order is known, a cancel before its fill."""
    await day(tmp_path, {"kind": "delay", "on": TRADE, "seconds": 4, "probability": 0.5})


async def test_trade_updates_come_shuffled(tmp_path: Path) -> None:
    await day(
        tmp_path,
        {"kind": "delay", "on": TRADE, "seconds": 3},
        {"kind": "reorder", "on": TRADE},
    )


async def test_trade_updates_that_cannot_be_decoded(tmp_path: Path) -> None:
    """Any of them may be a fill: the account is read at once."""
    played = await day(tmp_path, {"kind": "garbage", "on": TRADE})
    assert played.injected("garbage") > 8


async def test_the_whole_trading_api_is_down_while_the_exit_is_due(tmp_path: Path) -> None:
    """For 75 s nothing is answered. The exit is sent when that ends, entries stay blocked, and the books agree."""
    played = await day(
        tmp_path,
        {"kind": "refuse_request", "on": ["submit", "cancel", *READS], "from": EXIT, "until": "09:48:45"},
    )
    failed = [at for at, m in played.of(Reconciled) if m.differences]
    assert failed
    assert all(clock_ns(EXIT) <= at < clock_ns("09:49") for at in failed)
    # The next report after the end of the outage agrees again, within one reconcile period.
    agreed = next(at for at, m in played.of(Reconciled) if at >= clock_ns("09:48:45") and not m.differences)
    assert agreed - clock_ns("09:48:45") <= 30 * NS


async def test_an_account_that_cannot_be_read_blocks_entries(tmp_path: Path) -> None:
    played = await day(
        tmp_path,
        {"kind": "refuse_request", "on": ["activities"], "reply": 500, "from": "09:40", "until": "09:52"},
        trades=0,
    )
    assert "reconciled" in played.refusals()
    assert played.entries() == []

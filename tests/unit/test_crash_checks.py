"""The crash harness's checks can fail: each kind of wrong book or wrong order is told."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oracle.core.messages import (
    LatchChanged,
    LedgerSeeded,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    PositionSettled,
    TradeOpened,
)
from oracle.core.structures import reduced
from oracle.core.vocabulary import Ending, OrderState, Purpose, Side
from oracle.store.loading import Loaded
from tests.crash.checks import Fill, Settlement, Truth, at_death, at_end, differences, learnt, restored, struck
from tests.crash.cli import quantile
from tests.unit.builders import CALL, OTHER_CALL, START_NS, entry_order

ORDER = entry_order()
ID = ORDER.order_id
FILL = OrderFilled(
    "x1", ID, f"{ID}-1", "b-1", ORDER.trade_id, "breakout", CALL, Side.BUY, Purpose.ENTRY, 4, Decimal("2.00"),
    Decimal(0), Decimal("2.60"), START_NS,
)  # fmt: skip
SEED = LedgerSeeded(Decimal(100_000), Decimal(100_000), START_NS)


def step(n: int, state: OrderState) -> OrderAdvanced:
    return OrderAdvanced(ID, f"{ID}-{n}", n, 0, OrderState.INTENT, state, 0, "")


def books(**changes: Any) -> Loaded:
    """One entry of four contracts, filled and open."""
    empty: dict[str, Any] = {
        name: () for name in Loaded.__struct_fields__ if name not in ("token", "mode", "seed", "session")
    }
    opened = TradeOpened(ORDER.trade_id, "breakout", "hash", "SPY", CALL, START_NS)
    end = OrderClosed(ID, ORDER.trade_id, Purpose.ENTRY, 4, 4, "filled")
    values = {
        **empty, "token": "tok", "mode": "sim", "created_ns": 0, "next_order_sequence": 2, "seed": SEED,
        "session": None, "submits": (ORDER,), "order_events": (step(1, OrderState.FILLED),), "order_ends": (end,),
        "fills": (FILL,), "opened": (opened,), "books": (SEED, ORDER, FILL, opened, end),
    }  # fmt: skip
    return Loaded(**{**values, **changes})


def attempt(n: int = 1, **changes: Any) -> dict[str, Any]:
    made = {
        "id": f"b-{n}", "client": f"{ID}-{n}", "symbol": CALL, "side": "buy", "qty": 4, "filled": 4 if n == 1 else 0,
        "status": "filled", "working": False, "created_ns": START_NS + n, "ended_ns": START_NS + n,
    }  # fmt: skip
    return {**made, **changes}


def truth(**changes: Any) -> Truth:
    fill = Fill("x1", "b-1", CALL, "buy", 4, Decimal("2.00"))
    made = Truth(START_NS, Decimal(99_200), {CALL: 4}, {"x1": fill}, (attempt(),), Decimal(0))
    return msgspec.structs.replace(made, **changes)


def test_sound_books_have_no_violation_and_a_fill_that_is_still_to_be_heard_is_none() -> None:
    assert at_death(truth(), books()) == []
    assert at_death(truth(), books(fills=(), books=(SEED, ORDER))) == []
    assert learnt(truth().fills, books()) == []


@pytest.mark.parametrize(
    ("found", "held", "words"),
    [
        (truth(orders=(attempt(), attempt())), books(), "2 times"),
        (truth(orders=(attempt(), attempt(client="tok-2-1", id="b-9"))), books(), "not in the store"),
        (truth(orders=(attempt(filled=5),)), books(), "5 filled of 4"),
        (
            truth(orders=(attempt(ended_ns=START_NS + 9), attempt(2))),
            books(order_events=(step(1, OrderState.FILLED), step(2, OrderState.SENT))),
            "while",
        ),
        (
            truth(orders=(attempt(working=True), attempt(2, working=True))),
            books(order_events=(step(1, OrderState.SENT), step(2, OrderState.SENT))),
            "live together",
        ),
        (truth(), books(fills=(FILL, FILL)), "booked 2 times"),
        (truth(fills={}), books(), "not at the exchange"),
        (truth(), books(fills=(msgspec.structs.replace(FILL, contracts=3),)), "booked as"),
        (truth(), books(fills=(msgspec.structs.replace(FILL, side=Side.SELL),)), "more sold than bought"),
        (truth(cash_usd=Decimal("99200.01")), books(), "cash"),
        (truth(positions={CALL: 3}), books(), "positions"),
        (truth(fees_usd=Decimal("0.04")), books(), "cash"),
        (truth(), books(submits=(ORDER, entry_order("tok-20260105-bo-000002"))), "has 2 entry orders"),
    ],
)
def test_every_wrong_is_told(found: Truth, held: Loaded, words: str) -> None:
    assert any(words in text for text in at_death(found, held)), at_death(found, held)


def test_a_fill_that_a_ready_daemon_does_not_know_is_told() -> None:
    assert learnt(truth().fills, books(fills=())) == [
        "fill x1 of before the start was not booked by the time it was ready"
    ]


def test_at_the_end_nothing_may_be_left() -> None:
    told = " ".join(at_end(truth(orders=(attempt(working=True),)), books(order_ends=(), fills=(), books=(SEED, ORDER))))
    for words in ("is not booked", "has no end", "still lives", "never closed", "final cash"):
        assert words in told


def settled(**changes: Any) -> PositionSettled:
    made = PositionSettled(
        "s1", ORDER.trade_id, Ending.EXERCISED, CALL, 4, Decimal(0), "SPY", 400, Decimal(600), Decimal(0),
        "positions", (), START_NS,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


EXERCISED = (Settlement(CALL, -4, Decimal(0)), Settlement("SPY", 400, Decimal(-240_000)))
AFTER = {"cash_usd": Decimal(99_200 - 240_000), "positions": {"SPY": 400}, "settlements": EXERCISED}


def with_settlement(one: PositionSettled) -> Loaded:
    return books(settlements=(one,), books=(*books().books, one))


def test_what_the_exchange_settles_may_be_heard_later_but_is_booked_at_the_end() -> None:
    assert at_death(truth(**AFTER), books()) == []
    assert at_death(truth(**AFTER), with_settlement(settled())) == []
    assert "settlements of" in " ".join(at_end(truth(**AFTER), books()))
    assert "settlements of" not in " ".join(at_end(truth(**AFTER), with_settlement(settled())))
    wrong = with_settlement(settled(shares=300))
    assert "settlements of {'SPY': 100}" in " ".join(at_end(truth(**AFTER), wrong))


def test_the_brokers_own_sale_is_booked_by_the_settlement_that_covers_it() -> None:
    sale = Fill("x2", "b-9", CALL, "sell", 4, Decimal("2.50"))
    found = truth(fills={**truth().fills, "x2": sale}, positions={}, cash_usd=Decimal(100_200))
    sold = settled(
        ending=Ending.SOLD_OUT, price_usd=Decimal("2.50"), shares_symbol="", shares=0, share_price_usd=None,
        covers=("x2",),
    )  # fmt: skip
    assert at_death(found, books()) == []
    assert learnt(found.fills, books()) != []
    assert learnt(found.fills, with_settlement(sold)) == []
    assert at_death(found, with_settlement(sold)) == []
    cheap = with_settlement(msgspec.structs.replace(sold, price_usd=Decimal("2.40")))
    assert "cash" in " ".join(at_death(found, cheap))


def test_a_leg_that_goes_through_zero_is_told_whichever_side_it_was() -> None:
    name, _ = reduced([(CALL, -1), (OTHER_CALL, 1)])
    entry = msgspec.structs.replace(ORDER, symbol=name)
    short = msgspec.structs.replace(FILL, side=Side.SELL)
    back = msgspec.structs.replace(FILL, execution_id="x2", purpose=Purpose.STOP, contracts=5)
    assert "more sold than bought" not in " ".join(at_death(truth(), books(submits=(entry,), fills=(short,))))
    told = at_death(truth(), books(submits=(entry,), fills=(short, back)))
    assert f"trade {ORDER.trade_id}: 1 more sold than bought of {CALL}, or bought back than sold" in told


def test_memories_are_compared_and_counted() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3}, "restored") == ["restored: b was 2, is 3"]
    latch = LatchChanged("loss_streak", True, "r", "o", "l", "2026-01-06", START_NS)
    held = books(latches=(latch,), order_events=(step(1, OrderState.UNKNOWN),), order_ends=())
    was = struck(truth(), held)
    assert (was.working, was.trades, was.unknown, was.latches, was.live) == (1, 1, 1, 1, 0)
    plan = msgspec.json.decode(msgspec.json.encode(ORDER.exit_plan))
    born = {
        "latches": {"loss_streak": "2026-01-06"}, "positions": {CALL: 4},
        "trades": {ORDER.trade_id: {"plan": plan, "open": 4}},
    }  # fmt: skip
    assert restored(held, born) == []
    wrongs: tuple[Callable[[], dict[str, Any]], ...] = (
        lambda: {**born, "latches": {}},
        lambda: {**born, "trades": {}},
        lambda: {**born, "positions": {CALL: 3}},
    )
    assert all(restored(held, wrong()) != [] for wrong in wrongs)


def test_quantiles_are_values_that_occurred() -> None:
    assert [quantile([3.0, 1.0, 2.0, 4.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 2.0, 4.0, 4.0]
    assert quantile([], 0.5) is None

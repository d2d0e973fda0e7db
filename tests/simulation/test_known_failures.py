"""Failures that others have reported of systems like this one, as scenarios against the real exchange.

The numbers are those of the list of known failures. Each session must end right, whatever happens in it.
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from oracle.core.marketdata import Bar
from oracle.core.messages import OrderAdvanced, OrderFilled, Reconciled, SendOrder
from oracle.core.reports import ExecutionReported, LookUpReturned
from oracle.core.sessions import NS
from oracle.core.vocabulary import Feed, FeedState, OrderState, Outcome
from tests.simulation.rehearsal import KEYS, QUICK, Rehearsal, clock_ns, exchange, finish, read, rehearse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(110)]
RECONCILE_S = 30


def sent(played: Rehearsal) -> list[str]:
    """The client order ids of every POST, in order."""
    return [m.client_order_id for _, m in played.of(SendOrder)]


async def test_f1_a_socket_that_stays_open_but_mute(tmp_path: Path) -> None:
    """Nothing on the stock socket from 09:40 on, for ever: noticed within 15 s, replaced, every bar back-filled."""
    played = await rehearse(
        tmp_path / "state", [{"kind": "mute", "on": ["stock"], "count": 1, "from": "09:40"}], seed=4, until="09:45"
    )
    played.check()
    changes = played.states(Feed.STOCK, "09:40")
    assert [m.state for _, m in changes] == [
        FeedState.STALE, FeedState.CONNECTING, FeedState.BACKFILLING, FeedState.LIVE,
    ]  # fmt: skip
    assert changes[0][0] - clock_ns("09:40") <= 15 * NS
    late = [m.start_ns for at, m in played.of(Bar) if m.backfilled and at == changes[-1][0]]
    assert late == [clock_ns("09:39")]


async def test_f4_fills_missed_on_the_stream_are_complete_from_rest(tmp_path: Path) -> None:
    """No execution ever comes on the stream: each is booked from the account within one reconcile period."""
    faults = [{"kind": "drop", "on": ["trade"], "messages": ["fill", "partial_fill"]}]
    played = await rehearse(tmp_path / "state", faults, seed=2, until="09:53")
    played.check()
    assert played.of(ExecutionReported) == []
    booked = played.of(OrderFilled)
    assert len(booked) == played.injected("drop") == len(played.records["fills"]) >= 7
    assert all(at - m.at_ns <= RECONCILE_S * NS for at, m in booked)
    assert all(m.differences == () for _, m in played.of(Reconciled))


async def test_f6_working_orders_are_adopted_after_sigkill(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    """Killed with an order at the broker, its cancel under way: the next process finds it and sees it to its end.

    The cancel is neither answered nor carried out, so that exchange time stands still until the process is dead.
    """
    state = tmp_path / "state"
    faults = [{"kind": "refuse_request", "on": ["cancel"], "reply": "hang", "count": 1}]
    async with exchange(faults, "09:53", seed=2) as url:
        assert await run_and_kill(url, state, clean_environment) == -signal.SIGKILL
        left = (await read(url))["orders"]
        assert [order["status"] for order in left] in (["new"], ["partially_filled"])
        played = await finish(url, state)
    played.check_books()
    played.check_feeds()
    # Restored, it was in doubt; then it was found under its own id. Nothing was sent under that id again.
    first = left[0]["client_order_id"]
    story = [m for _, m in played.of(OrderAdvanced) if m.client_order_id == first]
    assert (story[0].from_state, story[0].to_state) == (OrderState.CANCEL_SENT, OrderState.UNKNOWN)
    assert story[1].from_state is OrderState.UNKNOWN
    assert first not in sent(played)
    assert played.records["positions"] == []


async def run_and_kill(url: str, state: Path, environment: dict[str, str]) -> int:
    """Run ``oracle run`` until it asks for its first cancel, then kill it."""
    settings = {
        "mode": "sim", "sim.url": url, "sim.key": KEYS["key"], "sim.secret": KEYS["secret"], "console.port": 0,
        "logs.format": "json", "logs.level": "info",
        **{f"strategies.opening_range_breakout.{name}": value for name, value in QUICK.items()},
    }  # fmt: skip
    arguments = [part for name, value in settings.items() for part in ("--set", f"{name}={_toml(value)}")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oracle", "run", "--state", str(state), *arguments,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environment, limit=2**20,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        while raw := await process.stderr.readline():
            line = orjson.loads(raw) if raw.startswith(b"{") else {"event": raw.decode()}
            if line["event"] == "order_advanced" and line["to_state"] == "cancel_sent":
                process.send_signal(signal.SIGKILL)
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _toml(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


async def test_f8_a_timed_out_post_is_looked_up_and_never_doubled(tmp_path: Path) -> None:
    """The first POST is carried out and times out; for six seconds a look-up does not find it either."""
    faults: list[dict[str, Any]] = [
        {"kind": "lose_reply", "count": 1},
        {"kind": "hide_order", "seconds": 6},
        {"kind": "drop", "on": ["trade"], "from": "09:46", "until": "09:46:10"},
    ]
    played = await rehearse(tmp_path / "state", faults, seed=2, until="09:53")
    played.check()
    first = "rehearsal-20260105-orb-000001-1"
    assert sent(played).count(first) == 1
    looks = [m.outcome for _, m in played.of(LookUpReturned) if m.client_order_id == first]
    assert looks[:3] == [Outcome.NOT_FOUND] * 3
    assert [order["client_order_id"] for order in played.records["orders"]].count(first) == 1


async def test_f8_a_post_that_never_arrived_is_sent_again_under_the_same_id(tmp_path: Path) -> None:
    """An exit is lost on the way. After ten seconds of not being found it is sent once more, with its own id."""
    faults = [{"kind": "refuse_request", "reply": "drop", "count": 1, "from": "09:47:30"}]
    played = await rehearse(tmp_path / "state", faults, seed=2, until="09:53")
    played.check()
    again = [name for name in sent(played) if "000002" in name]
    assert again == ["rehearsal-20260105-orb-000002-1"] * 2
    times = [at for at, m in played.of(SendOrder) if m.client_order_id == again[0]]
    assert times[1] - times[0] >= 10 * NS
    assert [order["client_order_id"] for order in played.records["orders"]].count(again[0]) == 1


async def test_f17_an_error_was_returned_although_the_order_was_live(tmp_path: Path) -> None:
    """Every POST is answered 500 and every order lives: unknown until looked up, then adopted and worked."""
    played = await rehearse(tmp_path / "state", [{"kind": "lose_reply", "reply": 500}], seed=2, until="09:53")
    played.check()
    assert played.injected("lose_reply") == len(sent(played)) == len(set(sent(played))) == 3
    story = [m.to_state for _, m in played.of(OrderAdvanced) if m.client_order_id.endswith("000001-1")]
    assert OrderState.REJECTED not in story

"""The pacing socket, as docs/pacing.md has it; and runs that repeat byte for byte."""

import asyncio
import json
from typing import Any

import aiohttp

from tests.protocol.conftest import HEADERS, KEY, SECRET, Pace, Running, Start
from tests.protocol.scripted_source import OPEN_NS, make_sessions, occ

NS = 10**9
CALL = occ(600)
BUY = {"symbol": CALL, "qty": 12, "side": "buy", "type": "limit", "time_in_force": "day", "limit_price": "1.30"}


async def listener(http: aiohttp.ClientSession, running: Running) -> tuple[str, aiohttp.ClientWebSocketResponse]:
    """A trade-update connection that listens, and its id."""
    ws = await http.ws_connect(running.ws + "/stream")
    await ws.send_json({"action": "auth", "key": KEY, "secret": SECRET})
    await ws.receive_bytes()
    await ws.send_json({"action": "listen", "data": {"streams": ["trade_updates"]}})
    await ws.receive_bytes()
    return ws._response.headers["X-Connection-Id"], ws


async def test_welcome_says_what_will_be_played(start: Start) -> None:
    running = start(sessions=make_sessions(2, 1))
    pace = await Pace(running).join()
    assert pace.welcome["type"] == "welcome"
    assert pace.welcome["at_ns"] == OPEN_NS - 600 * NS
    assert pace.welcome["session"] == {"date": "2026-01-05", "open_ns": OPEN_NS, "close_ns": OPEN_NS + 60 * NS}
    assert [s["date"] for s in pace.welcome["sessions"]] == ["2026-01-05", "2026-01-06"]
    assert pace.welcome["labels"] == ["scripted"]
    assert pace.welcome["declared"][0]["symbol"] == "SPY"
    await pace.close()


async def test_steps_are_seconds_and_nights_are_jumped(start: Start) -> None:
    running = start(sessions=make_sessions(2, 1))
    pace = await Pace(running).join()
    steps = [await pace.step() for _ in range(600 + 60 + 300)]
    assert [s["n"] for s in steps] == list(range(1, 961))
    assert [s["at_ns"] for s in steps] == [OPEN_NS - 600 * NS + i * NS for i in range(1, 961)]
    night = await pace.step()
    assert night["at_ns"] == OPEN_NS + 86_400 * NS - 600 * NS
    steps = [await pace.step() for _ in range(960)]
    assert steps[-1]["at_ns"] == OPEN_NS + (86_400 + 60 + 300) * NS
    assert await pace.step() == {"type": "end", "at_ns": steps[-1]["at_ns"]}
    assert running.state()["at_ns"] == steps[-1]["at_ns"]
    await pace.close()


async def test_more_follows_when_fills_came_meanwhile(start: Start) -> None:
    running = start()
    pace = await Pace(running).join()
    async with aiohttp.ClientSession() as http:
        name, ws = await listener(http, running)
        last = await pace.until(OPEN_NS + NS)
        assert last["sent"] == {name: 0}
        await asyncio.to_thread(running.post, BUY)
        await pace.say({"type": "handled", "n": last["n"], "received": {name: 0}, "next_timer_ns": None})
        more = await pace.hear()
        assert (more["type"], more["n"], more["at_ns"], more["sent"]) == ("more", last["n"], last["at_ns"], {name: 2})
        await pace.say({"type": "handled", "n": last["n"], "received": {name: 2}, "next_timer_ns": None})
        step = await pace.hear()
        assert (step["type"], step["at_ns"], step["sent"]) == ("step", last["at_ns"] + NS, {name: 3})
        events = [json.loads(await ws.receive_bytes())["data"]["event"] for _ in range(3)]
        assert events == ["new", "partial_fill", "fill"]
    await pace.close()


async def test_a_second_client_and_bad_messages_are_refused(start: Start) -> None:
    running = start()
    pace = await Pace(running).join()
    second = await Pace(running).join()
    assert second.welcome == {"type": "error", "message": "a paced client is already connected"}
    await second.close()
    await pace.say({"type": "handled", "n": 99, "received": {}})
    assert (await pace.hear())["type"] == "error"
    await pace.close()
    async with aiohttp.ClientSession() as http:
        for hello in (
            {"type": "hello", "key": KEY, "secret": "no"},
            {"type": "ready"},
            {"type": "hello", "speed": "x"},
        ):
            async with http.ws_connect(running.ws + "/pacing") as ws:
                await ws.send_json(hello)
                assert (await ws.receive_json())["type"] == "error"
                assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_a_restarted_client_finds_the_same_moment(start: Start) -> None:
    running = start()
    pace = await Pace(running).join()
    last = await pace.until(OPEN_NS + 5 * NS)
    await pace.close()
    again = await Pace(running).join()
    assert again.welcome["at_ns"] == last["at_ns"]
    assert (await again.step())["at_ns"] == last["at_ns"] + NS
    await again.close()


async def test_speed_waits_for_the_wall(start: Start) -> None:
    running = start()
    pace = await Pace(running).join(speed=100)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await pace.step(20)
    assert loop.time() - begin >= 0.19
    await pace.close()


async def test_without_hold_time_moves_by_itself_until_a_paced_client_joins(start: Start) -> None:
    running = start(hold=False)
    async with asyncio.timeout(5):
        while (await asyncio.to_thread(running.state))["at_ns"] == OPEN_NS - 600 * NS:
            pass
    pace = await Pace(running).join()
    assert pace.welcome["at_ns"] == OPEN_NS - 599 * NS
    assert (await pace.step(3))["at_ns"] == OPEN_NS - 596 * NS
    await pace.close()


async def played(running: Running) -> tuple[bytes, list[Any]]:
    """One minute with two orders: every trade update and the account's history, as sent."""
    pace = await Pace(running).join()
    async with aiohttp.ClientSession(headers=HEADERS) as http:
        name, ws = await listener(http, running)
        await pace.until(OPEN_NS + NS)
        for client_id in ("first", "second"):
            body = {**BUY, "client_order_id": client_id}
            async with http.post(running.url + "/v2/orders", json=body) as answer:
                assert answer.status == 200, await answer.text()
        last = await pace.step(10)
        updates = b"".join([await ws.receive_bytes() for _ in range(last["sent"][name])])
        async with http.get(running.url + "/v2/account/activities") as answer:
            history = await answer.json()
    await pace.close()
    return updates, history


async def test_two_runs_say_the_same_bytes(start: Start) -> None:
    one, two, other = await played(start(seed=3)), await played(start(seed=3)), await played(start(seed=4))
    assert one == two
    assert len(one[1]) == 4
    assert one[0] != other[0]

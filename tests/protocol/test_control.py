"""The control socket as it is spoken: who is served, what is refused, what is waited for, and what a client is told."""

import asyncio
import getpass
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from oracle.cli.control import ask_daemon
from oracle.console import control
from oracle.console.control import ControlServer, socket_path, user_name
from oracle.core.control import Halt, Look, Resume
from oracle.core.engine import Turn
from oracle.core.errors import ConfigurationError, RemoteError
from oracle.core.messages import OperatorAnswered, OperatorRequested, Stamped, TimerFired

HALT = {"ask": {"action": "halt"}, "why": "storm", "wait_s": 5}


class Daemon:
    """A stand-in for the loop: it keeps requests, and answers those that a test lets it answer."""

    def __init__(self, path: Path) -> None:
        self.requests: list[OperatorRequested] = []
        self.server = ControlServer(path, self.take)
        self.asked = asyncio.Event()
        self.replies: list[tuple[bool, bool]] = [(True, True)]

    def take(self, request: OperatorRequested) -> None:
        self.requests.append(request)
        self.asked.set()
        asyncio.get_running_loop().call_soon(self.answer, request)

    def answer(self, request: OperatorRequested) -> None:
        out = tuple(
            OperatorAnswered(request.request_id, "halt", request.who, request.why, ok, done, "said", {"n": 1}, 1)
            for ok, done in self.replies
        )
        self.server.on_turn(Turn(Stamped(1, 1, TimerFired("x", 1)), out))


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    one = Daemon(socket_path(tmp_path))
    await one.server.start()
    yield one
    await one.server.stop()


async def say(path: Path, line: bytes) -> dict[str, Any]:
    """Send raw bytes and read the one line that comes back."""
    with control.address(path) as name:
        reader, writer = await asyncio.open_unix_connection(name)
    writer.write(line)
    await writer.drain()
    try:
        answer = await reader.readline()
        assert await reader.read() == b""  # one answer, then the end
    finally:
        writer.close()
    found: dict[str, Any] = json.loads(answer)
    return found


def line(**changes: Any) -> bytes:
    return json.dumps({**HALT, **changes}).encode() + b"\n"


async def test_a_request_reaches_the_core_with_the_user_that_the_kernel_names(daemon: Daemon, tmp_path: Path) -> None:
    answer = await say(socket_path(tmp_path), line())
    (request,) = daemon.requests
    assert (request.who, request.why, request.ask) == (getpass.getuser(), "storm", Halt())
    assert answer == {
        "ok": True, "text": "said", "action": "halt", "done": True, "request_id": request.request_id,
        "who": request.who, "facts": {"n": 1},
    }  # fmt: skip
    assert len(request.request_id) == 16


async def test_only_the_owner_may_open_it(daemon: Daemon, tmp_path: Path) -> None:
    mode = socket_path(tmp_path).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


async def test_another_user_is_refused(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Peer:
        """What the kernel would tell of somebody else."""

        size = control._CREDENTIALS.size

        def unpack(self, _raw: bytes) -> tuple[int, int, int]:
            return (1, 4242, 4242)

    monkeypatch.setattr(control, "_CREDENTIALS", Peer())
    answer = await say(socket_path(tmp_path), line())
    assert not answer["ok"]
    assert "uid 4242 may not control this daemon" in answer["text"]
    assert daemon.requests == []


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"halt\n", "cannot be read"),
        (b"\xff\xfe\n", "cannot be read"),
        (b'{"ask": {"action": "explode"}}\n', "actions are: adopt_order, adopt_position, evaluate, flatten, halt"),
        (b'{"ask": {"action": "halt", "who": "root"}}\n', "who"),
        (b'{"ask": {"action": "halt"}, "who": "root"}\n', "who"),
        (b'{"ask": {"action": "switch", "strategy": "x"}}\n', "enabled"),
        (b'{"ask": {"action": "adopt_position", "symbols": [], "stop_fraction": 0.5}}\n', "symbols"),
        (b'{"ask": {"action": "adopt_position", "symbols": ["X"], "stop_fraction": 2}}\n', "stop_fraction"),
        (b'{"ask": {"action": "halt"}, "wait_s": 1e9}\n', "wait_s"),
        (line(why="x" * 501), "why"),
        (b"[" * 10_000 + b"\n", "cannot be read"),
        (b"x" * 70_000 + b"\n", "65536 bytes at most"),
        (b"\n", "cannot be read"),
    ],
)
async def test_what_cannot_be_read_is_refused_with_the_reason(
    raw: bytes, words: str, daemon: Daemon, tmp_path: Path
) -> None:
    answer = await say(socket_path(tmp_path), raw)
    assert (answer["ok"], words in answer["text"]) == (False, True), answer
    assert daemon.requests == []


async def test_a_client_that_says_nothing_is_cut_off(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "READ_TIMEOUT_S", 0.05)
    assert "no whole request" in (await say(socket_path(tmp_path), b'{"ask"'))["text"]


async def test_too_many_at_once_are_told_so(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(control, "LINGER_S", 0.05)
    _, idle = await asyncio.open_unix_connection(str(socket_path(tmp_path)))
    answer = await say(socket_path(tmp_path), line())
    assert "busy" in answer["text"]
    idle.close()


async def test_the_first_answer_is_not_the_last(daemon: Daemon, tmp_path: Path) -> None:
    daemon.replies = [(True, False), (False, True)]
    assert (await say(socket_path(tmp_path), line()))["ok"] is False
    daemon.replies = [(True, False)]
    answer = await say(socket_path(tmp_path), line(wait_s=0.05))
    assert (answer["ok"], answer["done"], answer["facts"]) == (False, False, {"n": 1})
    assert answer["text"] == "said; not confirmed within 0.05 s"
    daemon.replies = []
    answer = await say(socket_path(tmp_path), line(wait_s=0))
    assert "has not taken the request up" in answer["text"]
    assert daemon.server._waiting == {}


async def test_a_reason_is_one_printable_line_and_never_missing(daemon: Daemon, tmp_path: Path) -> None:
    await say(socket_path(tmp_path), line(why="two\nlines \x1b[31mred"))
    await say(socket_path(tmp_path), line(why="  "))
    assert [request.why for request in daemon.requests] == ["two lines [31mred", "no reason given"]


async def test_those_who_wait_are_told_that_the_daemon_stops(daemon: Daemon, tmp_path: Path) -> None:
    daemon.replies = []
    asked = asyncio.create_task(say(socket_path(tmp_path), line()))
    await daemon.asked.wait()
    await daemon.server.stop()
    assert (await asked)["text"] == "the daemon is stopping"
    assert not socket_path(tmp_path).exists()
    await daemon.server.stop()  # harmless


async def test_a_socket_of_a_dead_process_is_replaced_and_a_living_one_is_not(daemon: Daemon, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="another process listens"):
        await ControlServer(socket_path(tmp_path), lambda _r: None).start()
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    second = Daemon(left)
    await second.server.start()
    assert (await say(left, line()))["ok"]
    await second.server.stop()
    in_the_way = tmp_path / "file"
    in_the_way.write_text("a letter")
    with pytest.raises(ConfigurationError, match="in the way"):
        await ControlServer(in_the_way, lambda _r: None).start()
    assert in_the_way.read_text() == "a letter"


async def test_a_path_longer_than_an_address_works(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 20) / ("er" * 20)
    folder.mkdir(parents=True)
    one = Daemon(socket_path(folder))
    await one.server.start()
    assert len(os.fsencode(socket_path(folder))) > 108
    assert (await say(socket_path(folder), line()))["ok"]
    answer = await asyncio.to_thread(ask_daemon, folder, Resume("drawdown"), "", 5.0)
    assert answer.ok
    assert one.requests[-1].ask == Resume("drawdown")
    await one.server.stop()


async def test_the_client_says_what_to_do_when_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="oracle run --state"):
        ask_daemon(tmp_path, Halt(), "", 1.0)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path(tmp_path)))
    with pytest.raises(RemoteError, match="no daemon answers"):
        ask_daemon(tmp_path, Halt(), "", 1.0)


def test_a_user_without_a_name_is_a_number() -> None:
    assert user_name(4_000_000) == "uid 4000000"
    assert user_name(os.geteuid()) == getpass.getuser()


async def test_looking_is_answered_at_once_and_is_no_input(tmp_path: Path) -> None:
    taken: list[OperatorRequested] = []
    server = ControlServer(socket_path(tmp_path), taken.append, {"strategies": lambda: {"date": "2026-01-05"}})
    await server.start()
    try:
        answer = await asyncio.to_thread(ask_daemon, tmp_path, Look("strategies"), "", 1.0)
        assert (answer.ok, answer.action, answer.facts) == (True, "look", {"date": "2026-01-05"})
        none = await asyncio.to_thread(ask_daemon, tmp_path, Look("money"), "", 1.0)
        assert (none.ok, none.text) == (False, "no view money; there are: strategies")
        assert taken == []
    finally:
        await server.stop()

"""What the service manager is told, on a real datagram socket."""

import asyncio
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import structlog

from oracle.notify import EVERY_S, Notifier, ServiceManager
from tests.unit.test_loop_daemon import VirtualLoop, play


class Manager:
    """The manager's end: a datagram socket that never waits."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(address)

    def heard(self) -> list[list[str]]:
        """The lines of every datagram since the last call."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode().splitlines())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


class Vitals:
    """A daemon's state, set by the test."""

    def __init__(self) -> None:
        self.is_serving = False
        self.late: dict[str, float] = {}
        self.line = "paper, reconciling"

    def serving(self) -> bool:
        return self.is_serving

    def stuck(self) -> Mapping[str, float]:
        return self.late

    def headline(self) -> str:
        return self.line


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def vitals() -> Vitals:
    return Vitals()


@pytest.fixture
def notifier(manager: Manager, vitals: Vitals) -> Iterator[Notifier]:
    service = ServiceManager(manager.address, 30.0)
    yield Notifier(service, vitals)
    service.close()


def test_ready_is_said_once_and_only_when_start_up_is_over(
    notifier: Notifier, manager: Manager, vitals: Vitals
) -> None:
    notifier.beat()
    assert manager.heard() == [["STATUS=paper, reconciling", "WATCHDOG=1"]]
    vitals.is_serving, vitals.line = True, "paper, ready"
    notifier.beat()
    notifier.beat()
    assert manager.heard() == [["READY=1", "STATUS=paper, ready", "WATCHDOG=1"], ["WATCHDOG=1"]]


def test_the_watchdog_is_fed_only_while_every_part_gets_on(
    notifier: Notifier, manager: Manager, vitals: Vitals
) -> None:
    notifier.beat()
    manager.heard()
    vitals.late = {"writer": 12.5}
    with structlog.testing.capture_logs() as logged:
        notifier.beat()
        notifier.beat()
    assert manager.heard() == []
    assert [(line["event"], line["parts"]) for line in logged] == [("watchdog_withheld", {"writer": 12.5})]
    vitals.late = {}
    with structlog.testing.capture_logs() as logged:
        notifier.beat()
    assert manager.heard() == [["WATCHDOG=1"]]
    assert [line["event"] for line in logged] == ["watchdog_fed_again"]


def test_a_status_is_one_line_and_sent_when_it_changes(notifier: Notifier, manager: Manager, vitals: Vitals) -> None:
    vitals.late = {"core": 99.0}
    vitals.line = "paper,\nREADY=1"
    notifier.beat()
    notifier.beat()
    assert manager.heard() == [["STATUS=paper, READY=1"]]


def test_a_drain_is_told_once_and_its_status_stays(notifier: Notifier, manager: Manager, vitals: Vitals) -> None:
    notifier.beat()
    manager.heard()
    notifier.stopping()
    notifier.stopping()
    notifier.beat()
    assert manager.heard() == [["STOPPING=1", "STATUS=draining"], ["WATCHDOG=1"]]


def test_a_manager_that_does_not_listen_is_logged_once_and_told_again_later(tmp_path: Path, vitals: Vitals) -> None:
    address = str(tmp_path / "notify")
    service = ServiceManager(address, 30.0)
    notifier = Notifier(service, vitals)
    vitals.is_serving = True
    with structlog.testing.capture_logs() as logged:
        notifier.beat()
        notifier.beat()
    assert [line["event"] for line in logged] == ["service_manager_unreachable"]
    late = Manager(address)
    notifier.beat()
    assert late.heard() == [["READY=1", "STATUS=paper, reconciling", "WATCHDOG=1"]]
    late.close()
    service.close()


def test_it_beats_often_enough_for_the_limit_and_stops_when_the_loop_stands(manager: Manager, vitals: Vitals) -> None:
    async def work(loop: VirtualLoop) -> None:
        notifier = Notifier(ServiceManager(manager.address, 2.0), vitals)
        assert notifier.every_s == 0.5
        task = asyncio.create_task(notifier.run())
        done = asyncio.Event()
        loop.call_later(2.1, done.set)
        await done.wait()
        assert len(manager.heard()) == 5
        # A loop that is blocked runs nothing: what would have been sent meanwhile is not.
        loop.now_s += 60
        assert manager.heard() == []
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    play(work)


def test_the_environment_says_whom_to_tell(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    whole = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}
    ours = ServiceManager.from_environment(whole, 7)
    others = ServiceManager.from_environment(whole, 8)
    plain = ServiceManager.from_environment({"NOTIFY_SOCKET": address}, 7)
    assert ours is not None
    assert others is not None
    assert plain is not None
    assert (ours.watchdog_s, others.watchdog_s, plain.watchdog_s) == (30.0, None, None)
    assert Notifier(plain, Vitals()).every_s == EVERY_S
    for service in (ours, others, plain):
        service.close()
    assert ServiceManager.from_environment({}, 7) is None


def test_an_address_that_is_no_unix_socket_is_told_in_the_log() -> None:
    with structlog.testing.capture_logs() as logged:
        assert ServiceManager.from_environment({"NOTIFY_SOCKET": "vsock:2:1234"}, 7) is None
    assert [line["event"] for line in logged] == ["notify_socket_unusable"]


def test_an_abstract_socket_is_reached(vitals: Vitals, tmp_path: Path) -> None:
    name = f"oracle-test-{tmp_path.name}-{id(vitals)}"
    manager = Manager(f"\0{name}")
    service = ServiceManager(f"@{name}")
    assert service.tell("READY=1")
    assert manager.heard() == [["READY=1"]]
    manager.close()
    service.close()

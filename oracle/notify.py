"""Tell the service manager how the daemon fares: ready, alive, stopping, and a line for ``systemctl status``.

Inputs: ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC``; what the monitor measures. Outputs: sd_notify datagrams. Invariant:
WATCHDOG=1 leaves only while every part of ours gets on; a vendor's outage withholds nothing.
Written by hand: the protocol is one datagram of ``NAME=value`` lines, and a library would be more than that.
"""

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Protocol

import structlog

log = structlog.get_logger("oracle.notify")
# Often enough for a person who watches the status line.
EVERY_S = 1.0
# sd_watchdog_enabled(3) recommends half of the limit; a quarter survives two datagrams that come late.
PARTS_OF_LIMIT = 4


class Vitals(Protocol):
    """What is told; the monitor measures it."""

    def serving(self) -> bool:
        """Whether start-up is over."""
        ...

    def stuck(self) -> Mapping[str, float]:
        """The parts that have not got on for too long, with the seconds; empty is well."""
        ...

    def headline(self) -> str:
        """Mode, state, feeds and open trades in one line."""
        ...


class ServiceManager:
    """The manager's datagram socket (sd_notify(3)). ``watchdog_s`` is how long it waits for a sign of life."""

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        # A leading @ stands for the zero byte of an abstract socket.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._heard = True

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> "ServiceManager | None":
        """The manager that started process ``pid``, or None when there is none that can be told."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            if address:
                log.warning("notify_socket_unusable", address=address)
            return None
        limit_us = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        return cls(address, int(limit_us) / 1e6 if ours and limit_us.isdigit() and int(limit_us) else None)

    def tell(self, *lines: str) -> bool:
        """Send one datagram; whether it left. A manager that does not listen is logged once and not waited for."""
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if self._heard:
                log.error("service_manager_unreachable", problem=str(error))
            self._heard = False
            return False
        self._heard = True
        return True

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


class Notifier:
    """Tells the manager; ``run`` as a task."""

    def __init__(self, manager: ServiceManager, vitals: Vitals) -> None:
        self._manager = manager
        self._vitals = vitals
        self._ready = False
        self._stopping = False
        self._told = ""
        self._stuck: tuple[str, ...] = ()
        limit_s = manager.watchdog_s
        self.every_s = EVERY_S if limit_s is None else min(EVERY_S, limit_s / PARTS_OF_LIMIT)

    async def run(self) -> None:
        """Tell until cancelled. On the loop on purpose: a loop that stands still sends nothing."""
        try:
            while True:
                self.beat()
                await asyncio.sleep(self.every_s)
        finally:
            self._manager.close()

    def beat(self) -> None:
        """Measure once and send what has changed, with a sign of life when every part gets on."""
        lines: list[str] = []
        if not self._ready and self._vitals.serving():
            lines.append("READY=1")
        status = "draining" if self._stopping else " ".join(self._vitals.headline().split())
        if status != self._told:
            lines.append(f"STATUS={status}")
        stuck = self._vitals.stuck()
        if not stuck:
            lines.append("WATCHDOG=1")
        if tuple(stuck) != self._stuck:
            self._stuck = tuple(stuck)
            say = log.error if stuck else log.info
            say("watchdog_withheld" if stuck else "watchdog_fed_again", parts=dict(stuck))
        if lines and self._manager.tell(*lines):
            self._told = status
            if "READY=1" in lines:
                self._ready = True
                log.info("service_ready", status=status)

    def stopping(self) -> None:
        """Say that the drain has begun; a repeat says nothing."""
        if not self._stopping:
            self._stopping = True
            self._told = "draining"
            self._manager.tell("STOPPING=1", "STATUS=draining")


def service_manager() -> ServiceManager | None:
    """The manager that started this process, or None."""
    return ServiceManager.from_environment(os.environ, os.getpid())

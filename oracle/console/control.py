"""The control socket: one JSON line in, one JSON line out, for the commands that act on a running daemon.

Inputs: requests on a unix socket (mode 0600) in the state folder; turns, in which the core's answers come back. Output:
``OperatorRequested`` inputs. Invariants: ``who`` is the peer's user as the kernel tells it, never what the peer says;
only this daemon's user and root are served; sizes, times and the number of connections have limits.
"""

import asyncio
import contextlib
import errno
import logging
import os
import pwd
import secrets
import socket
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from oracle.core.control import Ask, Look, action_of
from oracle.core.engine import Turn
from oracle.core.errors import ConfigurationError
from oracle.core.messages import OperatorAnswered, OperatorRequested

SOCKET_NAME = "control.sock"
NO_REASON = "no reason given"
MAX_LINE_BYTES = 64 * 1024
READ_TIMEOUT_S = 5.0
LINGER_S = 1.0
MAX_WAIT_S = 300.0
MAX_CONNECTIONS = 16
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
# sun_path holds 108 bytes; a longer path is reached through its folder's descriptor.
_MAX_PATH = 100
_log = logging.getLogger("oracle.control")


class ControlRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client sends. ``wait_s``: how long it waits for a confirmation from the broker's records."""

    ask: Ask
    why: Annotated[str, msgspec.Meta(max_length=500)] = ""
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_WAIT_S)] = 15.0


class ControlAnswer(msgspec.Struct, frozen=True):
    """What a client gets. ``done`` False: accepted, but not confirmed within the wait."""

    ok: bool
    text: str
    action: str = ""
    done: bool = True
    request_id: str = ""
    who: str = ""
    facts: dict[str, Any] = {}


def socket_path(state: Path) -> Path:
    """Where the daemon of a state folder listens."""
    return state / SOCKET_NAME


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """A path that fits a socket address, valid while the context is open."""
    if len(os.fsencode(path)) <= _MAX_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def user_name(uid: int) -> str:
    """The name of an operating-system user, or ``uid N``."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


class ControlServer:
    """Serves one daemon. ``submit`` takes over a request; ``on_turn`` must be called with every turn.

    ``views`` answer ``Look`` requests by name, at once and without an input.
    """

    def __init__(
        self,
        path: Path,
        submit: Callable[[OperatorRequested], None],
        views: Mapping[str, Callable[[], dict[str, Any]]] | None = None,
    ) -> None:
        self._views = dict(views or {})
        self._path = path
        self._submit = submit
        self._server: asyncio.Server | None = None
        self._waiting: dict[str, asyncio.Future[OperatorAnswered]] = {}
        self._accepted: dict[str, OperatorAnswered] = {}
        self._connections = 0
        self._handling: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: another process listens there, or the file cannot be made.
        """
        self._server = await asyncio.start_unix_server(
            self._serve, sock=_listen(self._path), limit=MAX_LINE_BYTES, backlog=MAX_CONNECTIONS
        )

    async def stop(self) -> None:
        """Stop listening and tell those who wait. Harmless when not started."""
        if self._server is None:
            return
        self._server.close()
        for waiting in self._waiting.values():
            waiting.cancel()
        if self._handling:
            _, slow = await asyncio.wait(self._handling, timeout=LINGER_S)
            for task in slow:
                task.cancel()
            if slow:
                await asyncio.wait(slow)
        await self._server.wait_closed()
        self._server = None
        self._path.unlink(missing_ok=True)

    def on_turn(self, turn: Turn, _seconds: float = 0.0) -> None:
        """Hand answers to those who wait for them. Called after the turn's facts are durable."""
        if not self._waiting:
            return
        for message in turn.messages:
            if isinstance(message, OperatorAnswered) and message.request_id in self._waiting:
                waiting = self._waiting[message.request_id]
                if not message.done:
                    self._accepted[message.request_id] = message
                elif not waiting.done():
                    waiting.set_result(message)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)
        self._connections += 1
        try:
            answer = await self._answer(reader, writer)
            writer.write(msgspec.json.encode(answer) + b"\n")
            writer.write_eof()
            # What a client still sends is read and thrown away: closing over it would take the answer back.
            async with asyncio.timeout(LINGER_S):
                while await reader.read(MAX_LINE_BYTES):
                    pass
        except (ConnectionError, TimeoutError):
            _log.debug("a client of the control socket did not close in time")
        except asyncio.CancelledError:
            # Only ``stop`` cancels; asyncio's streams would log it as a fault of the callback.
            _log.info("a client of the control socket was cut off")
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> ControlAnswer:
        if self._connections > MAX_CONNECTIONS:
            return _error(f"busy: {MAX_CONNECTIONS} requests are being served")
        peer: socket.socket = writer.get_extra_info("socket")
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        who = user_name(uid)
        if uid not in (os.geteuid(), 0):
            _log.warning("a request of user %s was refused", who)
            return _error(f"user {who} may not control this daemon; run as {user_name(os.geteuid())} or root")
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                line = await reader.readline()
        except TimeoutError:
            return _error(f"no whole request within {READ_TIMEOUT_S:g} s")
        except ValueError:  # the reader's limit
            return _error(f"a request may have {MAX_LINE_BYTES} bytes at most, in one line")
        try:
            request = msgspec.json.decode(line, type=ControlRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return _error(f"the request cannot be read: {error}; actions are: {', '.join(ACTIONS)}")
        return await self._carry_out(request, who)

    def _look(self, ask: Look, who: str) -> ControlAnswer:
        view = self._views.get(ask.view)
        if view is None:
            return _error(f"no view {ask.view}; there are: {', '.join(sorted(self._views)) or 'none'}")
        return ControlAnswer(True, ask.view, action_of(ask), who=who, facts=view())

    async def _carry_out(self, request: ControlRequest, who: str) -> ControlAnswer:
        if isinstance(request.ask, Look):
            return self._look(request.ask, who)
        request_id, action = secrets.token_hex(8), action_of(request.ask)
        why = " ".join("".join(c if c.isprintable() else " " for c in request.why).split()) or NO_REASON
        waiting: asyncio.Future[OperatorAnswered] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = waiting
        try:
            self._submit(OperatorRequested(request_id, who, why, request.ask))
            async with asyncio.timeout(request.wait_s):
                found = await waiting
        except TimeoutError:
            early = self._accepted.get(request_id)
            text = "the daemon has not taken the request up" if early is None else early.text
            facts = {} if early is None else early.facts
            unconfirmed = f"{text}; not confirmed within {request.wait_s:g} s"
            return ControlAnswer(False, unconfirmed, action, False, request_id, who, facts)
        except asyncio.CancelledError:
            if not waiting.cancelled():
                raise
            return ControlAnswer(False, "the daemon is stopping", action, False, request_id, who)
        finally:
            self._waiting.pop(request_id, None)
            self._accepted.pop(request_id, None)
        return ControlAnswer(found.ok, found.text, action, True, request_id, who, found.facts)


ACTIONS = tuple(sorted(str(kind.__struct_config__.tag) for kind in Ask.__args__))


def _error(text: str) -> ControlAnswer:
    return ControlAnswer(False, text)


def _listen(path: Path) -> socket.socket:
    """A bound socket of mode 0600; one that a dead process left behind is replaced."""
    _clear(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # the file is never open to others, not even for a moment
    try:
        with address(path) as name:
            server.bind(name)
    except OSError as error:
        server.close()
        raise ConfigurationError("state", f"{path} cannot be made ({error.strerror})", "free that path") from error
    finally:
        os.umask(before)
    server.setblocking(False)
    return server


def _clear(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigurationError("state", f"{path} is in the way", "move it away")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial, address(path) as name:
        found = trial.connect_ex(name)
    if found != errno.ECONNREFUSED:
        raise ConfigurationError("state", f"another process listens at {path}", "stop it, or use another state folder")
    path.unlink()

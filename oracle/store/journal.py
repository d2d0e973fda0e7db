"""The record of a process start: every input and every output, framed, in one append-only file.

Inputs: stamped inputs and the messages of their turns. Outputs: ``<state>/journal/<start>.oj`` and two hashes. A
record is u32 length, u32 CRC32 and a payload of one kind byte and msgpack (little-endian). A torn tail is cut by the
reader and reported. It is the record, not the recovery: losing its unwritten end loses no order.
"""

import datetime as dt
import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from types import GenericAlias
from typing import BinaryIO

import msgspec

from oracle.core.errors import ConfigurationError, InvariantError, StoreError
from oracle.core.messages import JournalOpened, Message, Stamped
from oracle.store.state import FILE_MODE, FOLDER_MODE, JOURNAL_FOLDER

MAGIC = b"ORACLEJ\x01"  # the last byte is the format's version
MAX_PAYLOAD = 64 * 1024 * 1024
_HEAD = struct.Struct("<II")
_OPENED, _INPUT, _OUTPUT, _CLOSED = b"\x00", b"\x01", b"\x02", b"\x03"
_ANY_MESSAGE = reduce(or_, [kind for kind in Message.__subclasses__() if kind.__module__ == Message.__module__])
_TURN = GenericAlias(tuple, (int, GenericAlias(tuple, (_ANY_MESSAGE, ...))))


class TurnOutput(msgspec.Struct, frozen=True):
    """What one turn produced; ``seq`` is its input's. Turns without output have no record."""

    seq: int
    messages: tuple[Message, ...]


class JournalClosed(msgspec.Struct, frozen=True):
    """Last record of an orderly end: what the reader must arrive at."""

    inputs: int
    outputs: int
    inputs_sha256: str
    decisions_sha256: str


class Damage(msgspec.Struct, frozen=True):
    """Where reading had to stop, why, and how many bytes were left unread."""

    offset: int
    reason: str
    bytes_cut: int


Record = Stamped | TurnOutput


class JournalWriter:
    """Append records. Buffered: the file is behind by at most ``flush_bytes`` or ``flush_turns`` inputs."""

    def __init__(
        self, path: Path, opened: JournalOpened, *, flush_bytes: int = 256 * 1024, flush_turns: int = 1_000
    ) -> None:
        """Create the file and write its first record.

        Raises:
            StoreError: the file exists or cannot be written.
        """
        self.path = path
        self._flush_bytes = flush_bytes
        self._flush_turns = flush_turns
        self._buffer = bytearray(MAGIC)
        # Sorted keys: equal messages give equal bytes whatever the order in which a dict was filled.
        self._encode = msgspec.msgpack.Encoder(order="deterministic").encode
        self._inputs_hash = hashlib.sha256()
        self._decisions_hash = hashlib.sha256()
        self.inputs = 0
        self.outputs = 0
        self._unflushed_turns = 0
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise StoreError(f"journal {path}: {error.strerror or error}") from error
        self._append(_OPENED, self._encode(opened))
        self.flush()

    def write_input(self, stamped: Stamped) -> None:
        """Record an input as the core saw it."""
        payload = self._encode(stamped)
        self._inputs_hash.update(payload)
        self.inputs += 1
        self._append(_INPUT, payload)
        self._unflushed_turns += 1
        if len(self._buffer) >= self._flush_bytes or self._unflushed_turns >= self._flush_turns:
            self.flush()

    def write_outputs(self, seq: int, messages: Sequence[Message]) -> None:
        """Record all messages of a turn, in order; a turn without any leaves no record."""
        if not messages:
            return
        payload = self._encode((seq, messages))
        self._decisions_hash.update(payload)
        self.outputs += 1
        self._append(_OUTPUT, payload)

    @property
    def inputs_sha256(self) -> str:
        """Hash of all inputs so far; the opening record is not in it."""
        return self._inputs_hash.hexdigest()

    @property
    def decisions_sha256(self) -> str:
        """Hash of all outputs so far."""
        return self._decisions_hash.hexdigest()

    def flush(self) -> None:
        """Hand the buffer to the operating system.

        Raises:
            StoreError: the bytes could not be written (a full disk); the writer must not be used any more.
        """
        if self._fd < 0:
            raise StoreError(f"journal {self.path}: it is closed")
        view = memoryview(self._buffer)
        try:
            done = 0
            while done < len(view):
                done += os.write(self._fd, view[done:])
        except OSError as error:
            os.close(self._fd)
            self._fd = -1
            raise StoreError(f"journal {self.path}: {error.strerror or error}") from error
        finally:
            view.release()
        self._buffer.clear()
        self._unflushed_turns = 0

    def close(self) -> None:
        """Write the closing record, flush and fsync. A second call does nothing.

        Raises:
            StoreError: the end could not be written.
        """
        if self._fd < 0:
            return
        end = JournalClosed(self.inputs, self.outputs, self.inputs_sha256, self.decisions_sha256)
        self._append(_CLOSED, self._encode(end))
        self.flush()
        try:
            os.fsync(self._fd)
            os.close(self._fd)
        except OSError as error:
            raise StoreError(f"journal {self.path}: {error.strerror or error}") from error
        finally:
            self._fd = -1

    def abandon(self) -> None:
        """Flush and close without the closing record: the process did not end in order, and the file shows it."""
        if self._fd < 0:
            return
        self.flush()
        os.close(self._fd)
        self._fd = -1

    def _append(self, kind: bytes, payload: bytes) -> None:
        size = len(payload) + 1
        if size > MAX_PAYLOAD:
            raise InvariantError(f"journal: a record of {size} bytes is above the limit of {MAX_PAYLOAD}")
        buffer = self._buffer
        buffer += _HEAD.pack(size, zlib.crc32(payload, zlib.crc32(kind)))
        buffer += kind
        buffer += payload


class JournalReader:
    """Read a journal once, front to back. After iteration ``damage``, ``closed`` and the hashes say how it ended.

    Iterating yields inputs (``Stamped``) and outputs (``TurnOutput``) in file order and stops at the first record
    that is incomplete, fails its CRC or cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        """Open the file and read its opening record.

        Raises:
            ConfigurationError: there is no such file, or it is not a journal of this format, or its opening record is
                damaged.
        """
        self.path = path
        self.damage: Damage | None = None
        self.closed: JournalClosed | None = None
        self.inputs = 0
        self.outputs = 0
        self._inputs_hash = hashlib.sha256()
        self._decisions_hash = hashlib.sha256()
        self._stamped = msgspec.msgpack.Decoder(Stamped)
        self._messages = msgspec.msgpack.Decoder(_TURN)
        self._offset = len(MAGIC)
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            magic = self._file.read(len(MAGIC))
            if magic[:-1] != MAGIC[: len(magic[:-1])] or len(magic) < len(MAGIC):
                raise self._unusable("it is not a journal")
            if magic != MAGIC:
                raise self._unusable(f"format version {magic[-1]} is not {MAGIC[-1]}")
            first = self._frame()
            if first is None or first[0] != _OPENED[0]:
                why = "it has no opening record" if self.damage is None else self.damage.reason
                raise self._unusable(f"its opening record cannot be read ({why})")
            self.opened = msgspec.msgpack.decode(memoryview(first)[1:], type=JournalOpened)
        except BaseException:
            self._file.close()
            raise

    def __iter__(self) -> Iterator[Record]:
        with self._file:
            while (frame := self._frame()) is not None:
                start = self._offset - len(frame) - _HEAD.size
                try:
                    record = self._decode(frame)
                except (msgspec.MsgspecError, InvariantError) as error:
                    self._stop(start, f"the record does not decode ({error})")
                    return
                if record is not None:
                    yield record

    @property
    def inputs_sha256(self) -> str:
        """Hash of the inputs read so far."""
        return self._inputs_hash.hexdigest()

    @property
    def decisions_sha256(self) -> str:
        """Hash of the outputs read so far."""
        return self._decisions_hash.hexdigest()

    @property
    def complete(self) -> bool:
        """Whether the file ended in order and its closing record agrees with what was read."""
        expected = JournalClosed(self.inputs, self.outputs, self.inputs_sha256, self.decisions_sha256)
        return self.damage is None and self.closed == expected

    def _frame(self) -> bytes | None:
        """The next payload with its kind byte, or None at the end or at damage."""
        start = self._offset
        head = self._file.read(_HEAD.size)
        if not head:
            return None
        if len(head) < _HEAD.size:
            self._stop(start, "the record's head is cut off")
            return None
        size, crc = _HEAD.unpack(head)
        if not 1 <= size <= MAX_PAYLOAD:
            self._stop(start, f"the record's length {size} is impossible")
            return None
        payload = self._file.read(size)
        if len(payload) < size:
            self._stop(start, "the record is cut off")
            return None
        if zlib.crc32(payload) != crc:
            self._stop(start, "the record fails its checksum")
            return None
        self._offset = start + _HEAD.size + size
        return payload

    def _decode(self, frame: bytes) -> Record | None:
        kind, payload = frame[0], memoryview(frame)[1:]
        if self.closed is not None:
            raise InvariantError("it follows the closing record")
        if kind == _INPUT[0]:
            stamped = self._stamped.decode(payload)
            self.inputs += 1
            self._inputs_hash.update(payload)
            return stamped
        if kind == _OUTPUT[0]:
            seq, messages = self._messages.decode(payload)
            self.outputs += 1
            self._decisions_hash.update(payload)
            return TurnOutput(seq, messages)
        if kind == _CLOSED[0]:
            self.closed = msgspec.msgpack.decode(payload, type=JournalClosed)
            return None
        raise InvariantError(f"its kind is {kind}")

    def _stop(self, offset: int, reason: str) -> None:
        self.damage = Damage(offset, reason, self._size - offset)

    def _unusable(self, problem: str) -> ConfigurationError:
        return ConfigurationError("journal", f"{self.path}: {problem}", "name a journal file of this program")


class DecisionHash:
    """The outputs' hash without a file, for simulations and replays: equal to the writer's over the same turns."""

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder(order="deterministic").encode
        self._hash = hashlib.sha256()

    def add(self, seq: int, messages: Sequence[Message]) -> None:
        """Fold in a turn."""
        if messages:
            self._hash.update(self._encode((seq, messages)))

    @property
    def sha256(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()


def journal_path(state_folder: Path, at_ns: int) -> Path:
    """A new file's path for a start at this time; makes the folder.

    The name is the UTC time to the nanosecond, so that names sort by start; a second start at the same (simulated)
    instant gets a suffix.

    Raises:
        StoreError: the folder cannot be made.
    """
    folder = state_folder / JOURNAL_FOLDER
    try:
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except OSError as error:
        raise StoreError(f"journal {folder}: {error.strerror or error}") from error
    seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
    stem = f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y%m%dT%H%M%S}.{nanoseconds:09d}Z"
    path, again = folder / f"{stem}.oj", 1
    while path.exists():
        again += 1
        path = folder / f"{stem}-{again}.oj"
    return path


def write_turns(writer: JournalWriter, turns: Iterable[tuple[Stamped, Sequence[Message]]]) -> None:
    """Record several turns: each input, then its outputs."""
    for stamped, messages in turns:
        writer.write_input(stamped)
        writer.write_outputs(stamped.seq, messages)

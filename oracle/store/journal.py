"""The record of a process start: every input and every output, framed, in one append-only file.

Inputs: stamped inputs and the messages of their turns. Outputs: ``<state>/journal/<start>.oj`` and two hashes. The
checksums of the inputs are noted a second time at every flush, so that a changed input is found even if its own was
mended. A torn tail is cut by the reader and reported. It is the record, not the recovery.
"""

import datetime as dt
import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from types import GenericAlias

import msgspec

from oracle.core.errors import InvariantError, StoreError
from oracle.core.message import Message
from oracle.core.messages import JournalOpened, Stamped
from oracle.store import frames
from oracle.store.frames import Frame
from oracle.store.records import UNDECODABLE, JournalClosed, RecordReader, little_endian
from oracle.store.state import FILE_MODE, FOLDER_MODE, JOURNAL_FOLDER

# The core's own messages; tests make others.
_CORE = Message.__module__.rpartition(".")[0] + "."
_ANY_MESSAGE = reduce(or_, [kind for kind in Message.__subclasses__() if kind.__module__.startswith(_CORE)])
_TURN = GenericAlias(tuple, (int, GenericAlias(tuple, (_ANY_MESSAGE, ...))))


class TurnOutput(msgspec.Struct, frozen=True):
    """What one turn produced; ``seq`` is its input's. Turns without output have no record."""

    seq: int
    messages: tuple[Message, ...]


class RecordedTurn(msgspec.Struct, frozen=True):
    """An input and its outputs as the writer encoded them: ``[seq, messages]``, or nothing when there were none.

    ``unfinished``: the last input of a journal without an end, with no outputs on record; they may have been lost.
    """

    stamped: Stamped
    outputs: bytes | memoryview
    unfinished: bool


class _Times(msgspec.Struct, frozen=True):
    """What of an input is decoded when only its time is asked for."""

    seq: int
    at_ns: int


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
        self._buffer = bytearray(frames.MAGIC)
        self._encode = turn_encoder()
        self._inputs_hash = hashlib.sha256()
        self._decisions_hash = hashlib.sha256()
        self.inputs = 0
        self.outputs = 0
        self._unflushed_turns = 0
        self._unnoted = array("I")
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise StoreError(f"journal {path}: {error.strerror or error}") from error
        self._unnoted.append(self._append_opening(self._encode(opened)))
        self.flush()

    def write_input(self, stamped: Stamped) -> None:
        """Record an input as the core saw it."""
        payload = self._encode(stamped)
        self._inputs_hash.update(payload)
        self.inputs += 1
        self._unnoted.append(self._append(frames.INPUT, payload))
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
        self._append(frames.OUTPUT, payload)

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
        self._note_checksums()
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
        self._note_checksums()
        self._append(frames.CLOSED, self._encode(end))
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

    def _append(self, kind: int, payload: bytes) -> int:
        """Add a record to the buffer; returns its checksum."""
        size = len(payload) + 1
        if size > frames.MAX_PAYLOAD:
            raise InvariantError(f"journal: a record of {size} bytes is above the limit of {frames.MAX_PAYLOAD}")
        crc = frames.checksum(kind, payload)
        buffer = self._buffer
        buffer += frames.HEAD.pack(size, crc)
        buffer.append(kind)
        buffer += payload
        return crc

    def _append_opening(self, payload: bytes) -> int:
        """Add the opening record, which grows with what is durable, in as many pieces as it needs.

        Returns the checksum of the whole.
        """
        room = frames.MAX_PAYLOAD - 1
        last = (len(payload) - 1) // room * room
        for start in range(0, last, room):
            self._append(frames.OPENING_PART, payload[start : start + room])
        self._append(frames.OPENED, payload[last:])
        return frames.checksum(frames.OPENED, payload)

    def _note_checksums(self) -> None:
        if self._unnoted:
            self._append(frames.CHECKS, self._encode(little_endian(self._unnoted)))
            del self._unnoted[:]


class JournalReader(RecordReader):
    """Read a journal once, front to back. After iteration ``damage``, ``closed`` and the hashes say how it ended.

    Iterating yields inputs (``Stamped``) and outputs (``TurnOutput``) in file order.
    """

    def __init__(self, path: Path) -> None:
        """Open the file and read its opening record.

        Raises:
            ConfigurationError: there is no such file, or it is not a journal of this format.
            OpeningLostError: its opening record is torn or damaged.
        """
        self._stamped = msgspec.msgpack.Decoder(Stamped)
        self._messages = msgspec.msgpack.Decoder(_TURN)
        super().__init__(path)

    def __iter__(self) -> Iterator[Record]:
        for frame in self._records():
            kind: Callable[[Frame], Record] = self._input if frame.kind == frames.INPUT else self._output
            record = self._decode(frame, kind)
            if record is None:
                return
            yield record

    def turns(self) -> Iterator[RecordedTurn]:
        """Yield each input with its outputs as bytes: what a replay compares without decoding them."""
        pending: Stamped | None = None
        for frame in self._records():
            if frame.kind == frames.OUTPUT:
                self._count(frame)
                if pending is None:
                    self._stop(frame.offset, "the outputs have no input", self.inputs)
                    return
                yield RecordedTurn(pending, frame.payload, unfinished=False)
                pending = None
                continue
            following = self._decode(frame, self._input)
            if following is None:
                break
            if pending is not None:
                yield RecordedTurn(pending, b"", unfinished=False)
            pending = following
        if pending is not None:
            yield RecordedTurn(pending, b"", unfinished=self.closed is None)

    def times(self) -> Iterator[int]:
        """Yield the time of each input (UTC ns), without decoding more."""
        decoder = msgspec.msgpack.Decoder(_Times)
        for frame in self._records():
            if frame.kind == frames.OUTPUT:
                self._count(frame)
                continue
            times = self._decode(frame, lambda one: decoder.decode(one.payload))
            if times is None:
                return
            yield times.at_ns

    def outputs_of(self, turn: RecordedTurn) -> tuple[Message, ...]:
        """Decode a recorded turn's outputs.

        Raises:
            InvariantError: they do not decode, or are another turn's.
        """
        if not turn.outputs:
            return ()
        try:
            seq, messages = self._messages.decode(turn.outputs)
        except UNDECODABLE as error:
            raise InvariantError(f"the outputs do not decode: {error}") from error
        if seq != turn.stamped.seq:
            raise InvariantError(f"the outputs are of input {seq}")
        return tuple(messages)

    def _input(self, frame: Frame) -> Stamped:
        return self._stamped.decode(frame.payload)

    def _output(self, frame: Frame) -> TurnOutput:
        return TurnOutput(*self._messages.decode(frame.payload))


def turn_encoder() -> Callable[[object], bytes]:
    """The writer's encoding. Sorted keys: equal messages give equal bytes whatever the order of filling a dict."""
    return msgspec.msgpack.Encoder(order="deterministic").encode


class DecisionHash:
    """The outputs' hash without a file, for simulations and replays: equal to the writer's over the same turns."""

    def __init__(self) -> None:
        self._encode = turn_encoder()
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

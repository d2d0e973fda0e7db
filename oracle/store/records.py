"""A journal's records, counted, hashed and checked against what the writer noted of them; their messages undecoded.

Inputs: a journal file. Outputs: the frames of inputs and outputs in file order, then how reading ended. Invariant:
reading stops at the first record that is incomplete, fails its CRC, cannot be decoded, or is not what was noted of it.
"""

import hashlib
import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import msgspec

from oracle.core.errors import ConfigurationError, InvariantError
from oracle.core.messages import JournalOpened
from oracle.store import frames
from oracle.store.frames import Frame, FrameReader

T = TypeVar("T")
# Text that is not UTF-8 is a ValueError to msgspec; invariants are checked by the messages themselves.
UNDECODABLE = (msgspec.MsgspecError, InvariantError, ValueError)


class JournalClosed(msgspec.Struct, frozen=True):
    """Last record of an orderly end: what the reader must arrive at."""

    inputs: int
    outputs: int
    inputs_sha256: str
    decisions_sha256: str


class Damage(msgspec.Struct, frozen=True):
    """Where reading had to stop, why, and how many bytes were left unread.

    ``seq`` is the input that is damaged or whose turn is (0: the opening record). ``torn``: the file only ends too
    early, as after a kill; nothing that is there is wrong.
    """

    offset: int
    reason: str
    bytes_cut: int
    seq: int
    torn: bool


class OpeningLostError(ConfigurationError):
    """A journal without a readable opening record; ``damage`` says whether it was torn (a kill) or changed."""

    def __init__(self, path: Path, damage: Damage) -> None:
        super().__init__("journal", f"{path}: its opening record cannot be read ({damage.reason})", "leave it out")
        self.damage = damage


class RecordReader:
    """Read a journal's records once, front to back."""

    def __init__(self, path: Path) -> None:
        """Open the file and read its opening record.

        Raises:
            ConfigurationError: there is no such file, or it is not a journal of this format.
            OpeningLostError: its opening record is torn or damaged.
        """
        self.path = path
        self.damage: Damage | None = None
        self.closed: JournalClosed | None = None
        self.inputs = 0
        self.outputs = 0
        self._inputs_hash = hashlib.sha256()
        self._decisions_hash = hashlib.sha256()
        self._unnoted = array("I")
        self._noted = 0
        self._frames = FrameReader(path)
        try:
            self.opened = self._opening()
        except BaseException:
            self._frames.close()
            raise

    @property
    def size(self) -> int:
        """The file's length in bytes when it was opened."""
        return self._frames.size

    @property
    def position(self) -> int:
        """How many bytes of it have been read."""
        return self._frames.offset

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
        return self.damage is None and self.closed is not None

    def _opening(self) -> JournalOpened:
        parts: list[memoryview] = []
        while (frame := self._frames.next_frame()) is not None and frame.kind == frames.OPENING_PART:
            parts.append(frame.payload)
        cut = self._frames.cut
        if cut is not None:
            raise OpeningLostError(self.path, Damage(cut.offset, cut.reason, self.size - cut.offset, 0, cut.torn))
        if frame is None:
            raise OpeningLostError(self.path, Damage(self.position, "the file ends before its end", 0, 0, torn=True))
        payload: bytes | memoryview = frame.payload if not parts else b"".join([*parts, frame.payload])
        self._unnoted.append(frames.checksum(frames.OPENED, payload))
        try:
            if frame.kind == frames.OPENED:
                return msgspec.msgpack.decode(payload, type=JournalOpened)
            reason = f"its kind is {frame.kind}"
        except UNDECODABLE as error:
            reason = f"it does not decode: {error}"
        raise OpeningLostError(self.path, Damage(frame.offset, reason, self.size - frame.offset, 0, torn=False))

    def _records(self) -> Iterator[Frame]:
        """Yield inputs and outputs; check the other records, and say why when there are no more."""
        with closing(self._frames):
            while (frame := self._frames.next_frame()) is not None:
                if self.closed is not None:
                    return self._stop(frame.offset, "the record follows the closing record", self.inputs)
                if frame.kind in (frames.INPUT, frames.OUTPUT):
                    yield frame
                elif (wrong := self._decode(frame, self._bookkeeping)) is None:
                    return None
                elif wrong[0]:
                    return self._stop(frame.offset, *wrong)
            if (cut := self._frames.cut) is not None:
                # The outputs follow their input; anything else that cannot be read stands where the next one would.
                seq = self.inputs if cut.kind == frames.OUTPUT else self.inputs + 1
                self._stop(cut.offset, cut.reason, seq, torn=cut.torn)
        return None

    def _decode(self, frame: Frame, decode: Callable[[Frame], T]) -> T | None:
        """Decode a record; one that cannot be is damage, and None."""
        try:
            decoded = decode(frame)
        except UNDECODABLE as error:
            seq = self.inputs if frame.kind == frames.OUTPUT else self.inputs + 1
            self._stop(frame.offset, f"the record does not decode ({error})", seq)
            return None
        self._count(frame)
        return decoded

    def _count(self, frame: Frame) -> None:
        if frame.kind == frames.INPUT:
            self.inputs += 1
            self._inputs_hash.update(frame.payload)
            self._unnoted.append(frame.crc)
        elif frame.kind == frames.OUTPUT:
            self.outputs += 1
            self._decisions_hash.update(frame.payload)

    def _bookkeeping(self, frame: Frame) -> tuple[str, int]:
        """Take the closing record or a note of checksums: what is wrong with it ("": nothing), and the input's seq."""
        if frame.kind == frames.CHECKS:
            return self._compare(msgspec.msgpack.decode(frame.payload, type=bytes))
        if frame.kind != frames.CLOSED:
            raise InvariantError(f"its kind is {frame.kind}")
        self.closed = msgspec.msgpack.decode(frame.payload, type=JournalClosed)
        read = JournalClosed(self.inputs, self.outputs, self.inputs_sha256, self.decisions_sha256)
        return ("" if self.closed == read else "the closing record is of other inputs or outputs"), self.inputs

    def _compare(self, noted: bytes) -> tuple[str, int]:
        """Compare the checksums read since the last note with those that the writer noted."""
        read, first = little_endian(self._unnoted), self._noted
        for at in range(0, max(len(read), len(noted)), 4):
            if read[at : at + 4] != noted[at : at + 4]:
                return "the record was changed after it was written: another checksum was noted of it", first + at // 4
        self._noted += len(self._unnoted)
        del self._unnoted[:]
        return "", 0

    def _stop(self, offset: int, reason: str, seq: int, *, torn: bool = False) -> None:
        self.damage = Damage(offset, reason, self.size - offset, seq, torn)


def little_endian(checksums: "array[int]") -> bytes:
    """The checksums as u32, little-endian, on any machine."""
    turned = array("I", checksums)
    if sys.byteorder == "big":
        turned.byteswap()
    return turned.tobytes()

"""The journal's framing: records of u32 length, u32 CRC32 and a payload of one kind byte and msgpack (little-endian).

Inputs: a journal file. Outputs: its records as bytes, front to back, and where and why reading had to stop. A torn
tail (the process died while it wrote) is told apart from damage (bytes that changed afterwards).
"""

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from oracle.core.errors import ConfigurationError

MAGIC = b"ORACLEJ\x02"  # the last byte is the format's version
# Of one record; what opens a journal goes on over several (``OPENING_PART``, then ``OPENED`` with the rest).
MAX_PAYLOAD = 64 * 1024 * 1024
HEAD = struct.Struct("<II")
OPENED, INPUT, OUTPUT, CLOSED, CHECKS, OPENING_PART = range(6)
_CRC_OF_KIND = tuple(zlib.crc32(bytes((kind,))) for kind in range(6))
# After a record that cannot be whole, a whole one is looked for in this many bytes: a torn tail has none.
RESYNC_BYTES = 4 * 1024 * 1024


class Frame(NamedTuple):
    """One record: where it begins, its kind and checksum, and the msgpack after the kind byte."""

    offset: int
    kind: int
    crc: int
    payload: memoryview


class Cut(msgspec.Struct, frozen=True):
    """Why no further record could be read. ``kind`` is the byte where the record's kind should be, if there is one.

    ``torn``: the file merely ends too early, as after a kill; otherwise its bytes are not those that were written.
    """

    offset: int
    reason: str
    torn: bool
    kind: int | None


def checksum(kind: int, payload: bytes | memoryview) -> int:
    """CRC32 over the kind byte and the msgpack."""
    return zlib.crc32(payload, _CRC_OF_KIND[kind])


class FrameReader:
    """Read records once, front to back. After ``next_frame`` returned None, ``cut`` says if the end was clean."""

    def __init__(self, path: Path) -> None:
        """Open the file and check its first bytes.

        Raises:
            ConfigurationError: there is no such file, or it is not a journal of this format.
        """
        self.path = path
        self.offset = len(MAGIC)
        self.cut: Cut | None = None
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise unusable(path, error.strerror or str(error)) from error
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            magic = self._file.read(len(MAGIC))
            if len(magic) < len(MAGIC) and MAGIC.startswith(magic):
                self.cut = Cut(0, "the file ends in its first bytes", torn=True, kind=None)
            elif magic[:-1] != MAGIC[:-1]:
                raise unusable(path, "it is not a journal")
            elif magic != MAGIC:
                raise unusable(path, f"format version {magic[-1]} is not {MAGIC[-1]}: another build wrote it")
        except OSError as error:
            self._file.close()
            raise unusable(path, error.strerror or str(error)) from error
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def next_frame(self) -> Frame | None:
        """The next record, or None at the end or at a cut."""
        start = self.offset
        head = self._file.read(HEAD.size) if self.cut is None else b""
        if not head:
            return None
        if len(head) < HEAD.size:
            return self._stop(start, "the record's head is cut off", b"", torn=True)
        size, crc = HEAD.unpack(head)
        if not 1 <= size <= MAX_PAYLOAD:
            kind, zeros = self._file.read(1), not any(self._tail(start))
            return self._stop(start, f"the record's length {size} is impossible", kind, torn=zeros)
        payload = self._file.read(size)
        if len(payload) < size:
            if self._record_follows(start):
                reason = f"the record's length {size} goes past the end, and whole records follow"
                return self._stop(start, reason, payload[:1], torn=False)
            return self._stop(start, "the record is cut off", payload[:1], torn=True)
        if zlib.crc32(payload) != crc:
            return self._stop(start, "the record fails its checksum", payload[:1], torn=False)
        self.offset = start + HEAD.size + size
        return Frame(start, payload[0], crc, memoryview(payload)[1:])

    def _stop(self, start: int, reason: str, kind: bytes, *, torn: bool) -> Frame | None:
        """Remember why reading ends here; gives None, which is the end."""
        self.cut = Cut(start, reason, torn, kind[0] if kind else None)
        return None

    def _tail(self, start: int) -> bytes:
        """What follows from here, up to a limit. All zeros is what a power loss leaves of an unwritten block."""
        self._file.seek(start)
        return self._file.read(RESYNC_BYTES)

    def _record_follows(self, start: int) -> bool:
        """Whether a whole record begins somewhere after ``start``: then the one at ``start`` was not written last."""
        tail = self._tail(start)
        for at in range(1, len(tail) - HEAD.size):
            if tail[at + HEAD.size] > OPENING_PART:
                continue
            size, crc = HEAD.unpack_from(tail, at)
            begin = at + HEAD.size
            if 1 < size <= len(tail) - begin and zlib.crc32(memoryview(tail)[begin : begin + size]) == crc:
                return True
        return False


def unusable(path: Path, problem: str) -> ConfigurationError:
    """Word what is wrong with a journal's file."""
    return ConfigurationError("journal", f"{path}: {problem}", "name a journal file of this program")

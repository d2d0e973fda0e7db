"""What strategies last saw, read back from a state folder's journals when no daemon answers.

Inputs: journals, newest first, without decoding what is not needed. Outputs: the picture that a running daemon would
show (``Evaluations.picture``). A torn or damaged tail ends the reading where it begins: what stands before it is told.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import orjson

from oracle.core.message import Message
from oracle.core.messages import Intent, JournalOpened, NoData, NoSignal, Reevaluated, SessionOpened, StrategyFailed
from oracle.evaluations import Evaluations
from oracle.store import frames
from oracle.store.frames import FrameReader
from oracle.store.records import UNDECODABLE
from oracle.store.state import JOURNAL_FOLDER

_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Intent, NoData, NoSignal, Reevaluated, SessionOpened, StrategyFailed)
}
_MARKS = tuple(name.encode() for name in _KINDS)
# Starts that were over before a session began hold nothing; so many are looked through.
MOST_FILES = 20


class _When(msgspec.Struct, frozen=True):
    at_ns: int


class _Tagged(msgspec.Struct, frozen=True):
    T: str


_INPUT = msgspec.msgpack.Decoder(_When)
_TURN = msgspec.msgpack.Decoder(tuple[int, tuple[msgspec.Raw, ...]])
_TAG = msgspec.msgpack.Decoder(_Tagged)
_MESSAGE = {name: msgspec.msgpack.Decoder(kind) for name, kind in _KINDS.items()}


def last_picture(state: Path) -> dict[str, Any] | None:
    """The picture of the newest journal with an evaluation; None where there is none."""
    for path in sorted((state / JOURNAL_FOLDER).glob("*.oj"), reverse=True)[:MOST_FILES]:
        with closing(FrameReader(path)) as reader:
            opened = _opening(reader)
            if opened is None:
                continue
            seen = Evaluations(dict.fromkeys(opened.strategies, ()), _fee(opened.config))
            at_ns = _fold(reader, seen)
        if seen.rows():
            return {**seen.picture(), "at_ns": at_ns, "mode": opened.mode}
    return None


def _opening(reader: FrameReader) -> JournalOpened | None:
    """A journal's opening record, which may go on over several frames; None where it cannot be read."""
    parts: list[bytes] = []
    while (frame := reader.next_frame()) is not None:
        parts.append(bytes(frame.payload))
        if frame.kind == frames.OPENED:
            try:
                return msgspec.msgpack.decode(b"".join(parts), type=JournalOpened)
            except UNDECODABLE:
                return None
        if frame.kind != frames.OPENING_PART:
            return None
    return None


def _fold(reader: FrameReader, seen: Evaluations) -> int:
    """Fold a journal's evaluations; the time of its last input."""
    at_ns = 0
    try:
        while (frame := reader.next_frame()) is not None:
            if frame.kind == frames.INPUT:
                at_ns = _INPUT.decode(frame.payload).at_ns
            elif frame.kind == frames.OUTPUT and any(mark in bytes(frame.payload) for mark in _MARKS):
                _, raws = _TURN.decode(frame.payload)
                tagged = ((_TAG.decode(raw).T, raw) for raw in raws)
                seen.take((_MESSAGE[tag].decode(raw) for tag, raw in tagged if tag in _MESSAGE), at_ns)
    except UNDECODABLE:
        # Damage, or another build's message: what stands before it is told.
        return at_ns
    return at_ns


def _fee(config: bytes) -> str | None:
    """The modelled fee a contract and side that the run was configured with, exact; None where it does not say."""
    settings = orjson.loads(config) if config else {}
    fee = settings.get("fees", {}).get("modelled_per_contract_usd")
    return None if fee is None else str(fee)

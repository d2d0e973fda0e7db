import hashlib
import itertools
import os
import stat
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oracle.core.errors import ConfigurationError, InvariantError, StoreError
from oracle.core.marketdata import Bar, Quote
from oracle.core.message import Message
from oracle.core.messages import Intent, JournalOpened, SetTimer, Stamped, TimerFired
from oracle.store import frames
from oracle.store.frames import MAGIC
from oracle.store.journal import (
    DecisionHash,
    JournalReader,
    JournalWriter,
    TurnOutput,
    journal_path,
    write_turns,
)
from oracle.store.records import OpeningLostError
from tests.unit.store_day import T0, Turns, an_intent, turns

OPENED = JournalOpened("0.1.0", "sim", "cfg", T0, b"\x00state")
SMALL = turns()[2:7]  # a few hundred bytes: every one of them is tried
PRICES = st.floats(0.01, 1e6, allow_nan=False)


def write(path: Path, opened: JournalOpened = OPENED, day: Turns | None = None, **options: int) -> JournalWriter:
    writer = JournalWriter(path, opened, **options)
    write_turns(writer, turns() if day is None else day)
    writer.close()
    return writer


def expected(day: Turns | None = None) -> list[Stamped | TurnOutput]:
    records: list[Stamped | TurnOutput] = []
    for stamped, out in turns() if day is None else day:
        records.append(stamped)
        if out:
            records.append(TurnOutput(stamped.seq, out))
    return records


def starts(data: bytes) -> list[int]:
    """Offsets at which records begin, and the file's end."""
    offsets = [len(MAGIC)]
    while offsets[-1] < len(data):
        offsets.append(offsets[-1] + 8 + int.from_bytes(data[offsets[-1] : offsets[-1] + 4], "little"))
    return offsets


def kinds(data: bytes) -> list[tuple[int, int, int]]:
    """Each whole record: its offset, its end and its kind."""
    return [(start, end, data[start + 8]) for start, end in itertools.pairwise(starts(data))]


def readable(data: bytes, until: int) -> int:
    """How many inputs and outputs end at or before an offset."""
    return sum(1 for _, end, kind in kinds(data) if end <= until and kind in (frames.INPUT, frames.OUTPUT))


def mended(data: bytes, position: int, start: int, end: int) -> bytes:
    """The file with one byte changed and the checksum of its record made right again."""
    changed = bytearray(data)
    changed[position] ^= 0x10
    changed[start + 4 : start + 8] = zlib.crc32(bytes(changed[start + 8 : end])).to_bytes(4, "little")
    return bytes(changed)


def read(path: Path) -> JournalReader:
    reader = JournalReader(path)
    for _ in reader:
        pass
    return reader


def test_a_day_reads_back_equal(tmp_path: Path) -> None:
    writer = write(tmp_path / "a.oj")
    reader = JournalReader(tmp_path / "a.oj")
    assert reader.opened == OPENED
    assert list(reader) == expected()
    assert reader.complete
    assert (reader.inputs_sha256, reader.decisions_sha256) == (writer.inputs_sha256, writer.decisions_sha256)
    assert stat.S_IMODE((tmp_path / "a.oj").stat().st_mode) == 0o600


@pytest.mark.parametrize("snapshot", [0, 1, 199, 200, 201, 1_000])
def test_an_opening_record_above_the_limit_goes_on_over_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: int
) -> None:
    path = tmp_path / "a.oj"
    opened = msgspec.structs.replace(OPENED, snapshot=bytes(n % 251 for n in range(snapshot)))
    with monkeypatch.context() as limited:
        limited.setattr(frames, "MAX_PAYLOAD", 200)
        writer = JournalWriter(path, opened)
        writer.close()
        data = path.read_bytes()
        assert max(end - start for start, end, _ in kinds(data)) <= 8 + 200
        assert [kind for _, _, kind in kinds(data)].count(frames.OPENED) == 1
        assert (next(kind for _, _, kind in kinds(data)) == frames.OPENING_PART) == (snapshot > 150)
        reader = read(path)
        assert (reader.opened, reader.complete) == (opened, True)
    # Cut anywhere within it, the opening is lost as by a kill.
    last = next(end for _, end, kind in kinds(data) if kind == frames.OPENED)
    for cut in {len(MAGIC), *(start for start, _, _ in kinds(data) if start < last), last - 1}:
        path.write_bytes(data[:cut])
        with pytest.raises(OpeningLostError) as lost:
            JournalReader(path)
        assert lost.value.damage.torn
    # Changed with its own checksum made right again, the note of the whole tells.
    start, end, _ = kinds(data)[0]
    if snapshot > 300:
        path.write_bytes(mended(data, end - 5, start, end))
        assert read(path).damage is not None


def test_hashes_hold_the_turns_and_nothing_of_the_process(tmp_path: Path) -> None:
    one = write(tmp_path / "a.oj")
    two = write(tmp_path / "b.oj", JournalOpened("9.9", "paper", "other", T0 + 5, b""), flush_turns=1)
    assert (one.inputs_sha256, one.decisions_sha256) == (two.inputs_sha256, two.decisions_sha256)
    assert one.inputs_sha256 != one.decisions_sha256
    by_hand = DecisionHash()
    for stamped, out in turns():
        by_hand.add(stamped.seq, out)
    assert by_hand.sha256 == one.decisions_sha256


def test_hashes_do_not_depend_on_the_order_in_which_facts_were_put() -> None:
    wish = an_intent(1)
    turned = msgspec.structs.replace(wish, facts=dict(reversed(wish.facts.items())))
    hashes = {DecisionHash().sha256}
    for intent in (wish, turned):
        one = DecisionHash()
        one.add(1, (intent,))
        hashes.add(one.sha256)
    assert len(hashes) == 2


def test_a_tail_torn_at_any_byte_is_cut_and_reported(tmp_path: Path) -> None:
    write(tmp_path / "whole.oj", day=SMALL)
    data = (tmp_path / "whole.oj").read_bytes()
    offsets = starts(data)
    records = expected(SMALL)
    path = tmp_path / "torn.oj"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        if length < offsets[1]:
            with pytest.raises(OpeningLostError) as lost:
                JournalReader(path)
            assert lost.value.damage.torn
            continue
        reader = JournalReader(path)
        whole = max(index for index, offset in enumerate(offsets) if offset <= length)
        assert list(reader) == records[: readable(data, length)]
        assert not reader.complete
        if length == offsets[whole]:
            assert reader.damage is None  # cut between records: only the missing end shows it
        else:
            assert reader.damage is not None
            assert (reader.damage.offset, reader.damage.bytes_cut) == (offsets[whole], length - offsets[whole])
            assert "cut off" in reader.damage.reason
            assert reader.damage.torn


def test_a_flipped_byte_stops_reading_there(tmp_path: Path) -> None:
    write(tmp_path / "whole.oj", day=SMALL)
    data = (tmp_path / "whole.oj").read_bytes()
    offsets = starts(data)
    path = tmp_path / "flipped.oj"
    for position in range(offsets[1], len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        reader = JournalReader(path)
        hit = max(index for index, offset in enumerate(offsets) if offset <= position)
        assert list(reader) == expected(SMALL)[: readable(data, offsets[hit])]
        assert reader.damage is not None
        assert reader.damage.offset == offsets[hit]
        assert not reader.complete
        # Only a length that grew past the file's end with nothing whole behind it looks like a torn tail.
        assert not reader.damage.torn or offsets[hit] == offsets[-2]


def test_damage_names_the_input_that_it_belongs_to(tmp_path: Path) -> None:
    write(tmp_path / "whole.oj", day=SMALL)
    data = (tmp_path / "whole.oj").read_bytes()
    path, seen = tmp_path / "flipped.oj", 0
    for _start, end, kind in kinds(data):
        seen += kind == frames.INPUT
        if kind in (frames.INPUT, frames.OUTPUT):
            path.write_bytes(data[: end - 1] + bytes([data[end - 1] ^ 0x10]) + data[end:])
            damage = read(path).damage
            assert damage is not None
            assert (damage.seq, damage.torn) == (seen, False)
            assert "checksum" in damage.reason


def test_a_changed_input_is_found_even_with_a_mended_checksum(tmp_path: Path) -> None:
    """One byte of each input and of the opening record, with no outputs compared: the second note tells."""
    write(tmp_path / "whole.oj", day=SMALL, flush_turns=2)
    data = (tmp_path / "whole.oj").read_bytes()
    path, seq = tmp_path / "changed.oj", -1
    for start, end, kind in kinds(data):
        if kind not in (frames.OPENED, frames.INPUT):
            continue
        seq += 1
        for position in range(start + 9, end, 3):
            path.write_bytes(mended(data, position, start, end))
            try:
                damage = read(path).damage
            except OpeningLostError as lost:
                damage = lost.damage
            assert damage is not None, position
            assert (damage.seq, damage.torn) == (seq, False)
    assert seq == len(SMALL)


def test_a_changed_output_with_a_mended_checksum_is_seen_by_the_closing_record(tmp_path: Path) -> None:
    write(tmp_path / "a.oj")
    data = (tmp_path / "a.oj").read_bytes()
    start, end = next((start, end) for start, end, kind in kinds(data) if kind == frames.OUTPUT)
    at = data.index(b"SPY", start, end)
    (tmp_path / "a.oj").write_bytes(mended(data, at, start, end))
    reader = read(tmp_path / "a.oj")
    assert reader.damage is not None
    assert reader.damage.reason == "the closing record is of other inputs or outputs"
    assert not reader.complete


def test_zeros_behind_the_last_record_are_a_torn_tail(tmp_path: Path) -> None:
    """A power loss can leave a file longer than what was written to it."""
    path = tmp_path / "a.oj"
    writer = JournalWriter(path, OPENED)
    write_turns(writer, SMALL)
    writer.abandon()
    path.write_bytes(path.read_bytes() + bytes(5_000))
    reader = JournalReader(path)
    assert list(reader) == expected(SMALL)
    assert reader.damage is not None
    assert (reader.damage.torn, reader.damage.bytes_cut) == (True, 5_000)


def test_turns_come_with_their_outputs_as_they_were_encoded(tmp_path: Path) -> None:
    path = tmp_path / "a.oj"
    writer = JournalWriter(path, OPENED)
    write_turns(writer, turns())
    writer.write_input(Stamped(len(turns()) + 1, T0 + 10**12, TimerFired("x:y", T0)))
    writer.abandon()
    reader = JournalReader(path)
    found = list(reader.turns())
    assert [(turn.stamped, reader.outputs_of(turn)) for turn in found[:-1]] == [(one, out) for one, out in turns()]
    assert [turn.unfinished for turn in found] == [False] * len(turns()) + [True]
    assert {bytes(turn.outputs) for turn, (_, out) in zip(found, turns(), strict=False) if not out} <= {b""}
    assert list(JournalReader(path).times()) == [one.at_ns for one, _ in turns()] + [T0 + 10**12]


def test_the_last_turn_of_an_ended_journal_is_finished(tmp_path: Path) -> None:
    write(tmp_path / "a.oj", day=[(Stamped(1, T0, TimerFired("x:y", T0)), ())])
    (turn,) = JournalReader(tmp_path / "a.oj").turns()
    assert not turn.unfinished


def test_outputs_of_another_input_are_refused(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "a.oj", OPENED)
    writer.write_input(Stamped(1, T0, TimerFired("x:y", T0)))
    writer.write_outputs(2, [SetTimer("x:y", T0)])
    writer.write_outputs(2, [SetTimer("x:y", T0)])
    writer.close()
    reader = JournalReader(tmp_path / "a.oj")
    walk = reader.turns()
    with pytest.raises(InvariantError, match="are of input 2"):
        reader.outputs_of(next(walk))
    assert list(walk) == []
    assert reader.damage is not None
    assert "have no input" in reader.damage.reason


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x01\xc1", "does not decode"),
        (b"\x09\x90", "kind is 9"),
        (b"\x01" + msgspec.msgpack.encode({"seq": 1, "at_ns": 1, "input": {"T": "Nobody"}}), "does not decode"),
    ],
)
def test_a_record_that_is_whole_but_not_ours_is_damage(tmp_path: Path, payload: bytes, reason: str) -> None:
    path = tmp_path / "a.oj"
    writer = JournalWriter(path, OPENED)
    writer.flush()
    with path.open("ab") as file:
        file.write(len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little") + payload)
    reader = JournalReader(path)
    assert list(reader) == []
    assert reader.damage is not None
    assert reason in reader.damage.reason
    writer.close()


def test_records_after_the_end_are_damage(tmp_path: Path) -> None:
    write(tmp_path / "a.oj")
    data = (tmp_path / "a.oj").read_bytes()
    offsets = starts(data)
    (tmp_path / "a.oj").write_bytes(data + data[offsets[1] : offsets[2]])
    reader = JournalReader(tmp_path / "a.oj")
    assert list(reader) == expected()
    assert reader.damage is not None
    assert "closing record" in reader.damage.reason


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "ends in its first bytes"),
        (b"ORAC", "ends in its first bytes"),
        (b"ORAX", "not a journal"),
        (b"SQLite format 3\x00", "not a journal"),
        (MAGIC[:-1] + b"\x01", "version 1 is not 2"),
        (MAGIC, "the file ends before it"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ConfigurationError, match=problem):
        JournalReader(tmp_path / "x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.oj"):
        JournalReader(tmp_path / "none.oj")


def test_the_buffer_is_flushed_by_size_and_by_turns(tmp_path: Path) -> None:
    by_turns = JournalWriter(tmp_path / "t.oj", OPENED, flush_turns=3)
    first = by_turns.path.stat().st_size
    for number in (1, 2):
        by_turns.write_input(Stamped(number, T0, TimerFired("x:y", T0)))
    assert by_turns.path.stat().st_size == first
    by_turns.write_input(Stamped(3, T0, TimerFired("x:y", T0)))
    assert by_turns.path.stat().st_size > first
    by_size = JournalWriter(tmp_path / "s.oj", OPENED, flush_bytes=200)
    by_size.write_outputs(1, [SetTimer("x:" + "y" * 300, T0)])
    by_size.write_input(Stamped(1, T0, TimerFired("x:y", T0)))
    assert by_size.path.stat().st_size > 300
    by_turns.close()
    by_size.close()


def test_a_write_error_is_a_store_error_and_ends_the_writer(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "a.oj", OPENED)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._fd)
    os.close(full)
    writer.write_input(Stamped(1, T0, TimerFired("x:y", T0)))
    with pytest.raises(StoreError, match="No space left"):
        writer.flush()
    with pytest.raises(StoreError, match="closed"):
        writer.flush()
    writer.close()  # nothing is left to close


def test_an_existing_file_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "a.oj").write_bytes(b"earlier")
    with pytest.raises(StoreError, match="exists"):
        JournalWriter(tmp_path / "a.oj", OPENED)
    assert (tmp_path / "a.oj").read_bytes() == b"earlier"


def test_a_record_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_PAYLOAD", 1_000)
    writer = JournalWriter(tmp_path / "a.oj", OPENED)
    with pytest.raises(InvariantError, match="above the limit"):
        writer.write_outputs(1, [SetTimer("x" * 1_000, T0)])
    writer.close()


def test_names_sort_by_start_and_never_collide(tmp_path: Path) -> None:
    first = journal_path(tmp_path, T0)
    assert first == tmp_path / "journal" / "20260120T143000.000000000Z.oj"
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    write(first)
    second = journal_path(tmp_path, T0)
    assert second.name == "20260120T143000.000000000Z-2.oj"
    assert journal_path(tmp_path, T0 + 1).name > first.name


def test_hashes_equal_those_of_the_bytes_in_the_file(tmp_path: Path) -> None:
    writer = write(tmp_path / "a.oj")
    data = (tmp_path / "a.oj").read_bytes()
    offsets = starts(data)
    frames = [data[start + 8 : end] for start, end in itertools.pairwise(offsets)]
    inputs = b"".join(frame[1:] for frame in frames if frame[0] == 1)
    assert hashlib.sha256(inputs).hexdigest() == writer.inputs_sha256


QUOTES = st.builds(
    Quote,
    st.text(min_size=1, max_size=8),
    st.integers(0, 2**62),
    st.none() | PRICES,
    st.integers(0, 2**31),
    st.none() | PRICES,
    st.integers(0, 2**31),
)
BARS = st.builds(
    lambda symbol, price, volume: Bar(symbol, T0, price, price, price, price, volume, 1, price),
    st.text(min_size=1, max_size=8),
    PRICES,
    st.integers(0, 2**40),
)
FACTS = st.dictionaries(
    st.text(max_size=10),
    st.none() | st.booleans() | st.text(max_size=10) | st.floats(allow_nan=False, allow_infinity=False),
    max_size=5,
)
INTENTS = FACTS.map(lambda facts: msgspec.structs.replace(an_intent(1), facts=facts))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs=st.lists(QUOTES | BARS, max_size=20), outputs=st.lists(INTENTS, max_size=3))
def test_any_messages_read_back_equal(tmp_path: Path, inputs: list[Quote | Bar], outputs: list[Intent]) -> None:
    path = tmp_path / "h.oj"
    path.unlink(missing_ok=True)
    writer = JournalWriter(path, OPENED, flush_turns=2)
    out: tuple[Message, ...] = tuple(outputs)
    write_turns(writer, ((Stamped(n, T0 + n, one), out) for n, one in enumerate(inputs, 1)))
    writer.close()
    reader = JournalReader(path)
    records = list(reader)
    assert [record.input for record in records if isinstance(record, Stamped)] == inputs
    assert [record.messages for record in records if isinstance(record, TurnOutput)] == [out for _ in inputs if out]
    assert reader.complete

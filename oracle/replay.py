"""Feed a journal's inputs to a freshly built core and compare what comes out with what was recorded, byte for byte.

Inputs: journal segments. Outputs: one report a segment with the first difference explained. Nothing leaves: effects
are only compared. Invariant: the core is built from the opening record alone, not from settings or state of today.
"""

import datetime as dt
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from oracle import difference
from oracle.build import build_core, load_strategies
from oracle.core.engine import Turn
from oracle.core.errors import ConfigurationError, InvariantError, OracleError
from oracle.core.messages import JournalOpened, TimerFired
from oracle.difference import Difference, TurnBefore
from oracle.opening import changes_since, reopen
from oracle.store.journal import JournalReader, RecordedTurn, TurnOutput, turn_encoder
from oracle.store.records import Damage, OpeningLostError
from oracle.store.state import JOURNAL_FOLDER

NEW_YORK = ZoneInfo("America/New_York")
HOUR_NS = 3_600_000_000_000
TURNS_BEFORE = 5
PROGRESS_EVERY = 500

Progress = Callable[[int, int], None]


class Verdict(StrEnum):
    """What a segment came to. ``CUT`` is clean up to where the process was killed; the last two are faults."""

    CLEAN = "clean"
    CUT = "cut"
    DIFFERS = "differs"
    DAMAGED = "damaged"


class Report(msgspec.Struct, frozen=True):
    """A checked segment. ``compared`` counts turns that came out as recorded; hashes are of the records read."""

    path: str
    verdict: Verdict
    build: str
    mode: str
    started_ns: int | None
    ended_ns: int | None
    inputs: int
    outputs: int
    compared: int
    inputs_sha256: str
    decisions_sha256: str
    closed: bool
    seconds: float
    notes: tuple[str, ...]
    damage: Damage | None
    difference: Difference | None

    @property
    def good(self) -> bool:
        """Whether every turn that is on record came out again."""
        return self.verdict in (Verdict.CLEAN, Verdict.CUT)


class Contents(msgspec.Struct, frozen=True):
    """What a segment holds: counts by type of message, times (UTC ns), and how it ends."""

    path: str
    build: str
    mode: str
    config_fingerprint: str
    started_ns: int | None
    ended_ns: int | None
    inputs: dict[str, int]
    outputs: dict[str, int]
    inputs_sha256: str
    decisions_sha256: str
    closed: bool
    damage: Damage | None


class Player:
    """A core built from an opening record, fed one recorded turn at a time."""

    def __init__(self, opened: JournalOpened) -> None:
        """Build and start the core.

        Raises:
            ConfigurationError: this build cannot make that core.
        """
        opening = reopen(opened)
        strategies = load_strategies(opening.config)
        self.notes = changes_since(opened, opening.config, strategies)
        self.compared = 0
        self._engine = build_core(opening.config, opening.table, opening.loaded, strategies).engine
        self._engine.start(opening.at_ns)
        self._encode = turn_encoder()
        self._before: deque[Turn] = deque(maxlen=TURNS_BEFORE)

    def play(self, recorded: RecordedTurn, reader: JournalReader) -> Difference | None:
        """Run a turn; a difference, or None when it comes out as recorded."""
        found = self._play(recorded, reader)
        if found is None:
            self.compared += 1
            return None
        return msgspec.structs.replace(found, before=tuple(map(_before, self._before)))

    def _play(self, recorded: RecordedTurn, reader: JournalReader) -> Difference | None:
        stamped, engine = recorded.stamped, self._engine
        if stamped.seq != engine.seq + 1 or stamped.at_ns < engine.at_ns:
            wanted = f"number {engine.seq + 1} at {engine.at_ns} or later"
            reason = f"{wanted} should follow, not {stamped.seq} at {stamped.at_ns}"
            wrong = difference.of_values(stamped, reason)
            return msgspec.structs.replace(wrong, seq=engine.seq + 1)
        try:
            if type(stamped.input) is TimerFired:
                turn = next(iter(engine.advance(stamped.at_ns)), None)
            else:
                turn = next(iter(engine.handle(stamped.at_ns, stamped.input)))
        except Exception as error:  # whatever the core raises on a recorded input is a finding, not our end
            told = f"the turn raised {type(error).__name__}: {error}"
            if recorded.unfinished:
                self.notes += (f"input {stamped.seq}: {told}; the record ends there too",)
                return None
            return difference.of_values(stamped, told)
        if turn is None:
            return difference.of_values(stamped, "the journal has a timer here, and none is due", stamped.input)
        if turn.stamped.input is not stamped.input and turn.stamped != stamped:
            reason = f"another input is due first: {difference.short(turn.stamped.input)} at {turn.stamped.at_ns}"
            return difference.of_values(stamped, reason, stamped.input, turn.stamped.input)
        outputs = self._encode((stamped.seq, turn.messages)) if len(turn.messages) > 0 else b""
        if outputs == recorded.outputs or recorded.unfinished:
            self._before.append(turn)
            return None
        try:
            expected = reader.outputs_of(recorded)
        except InvariantError as error:
            return difference.of_values(stamped, str(error))
        # Through the decoder as well, or numbers that it widens (1 to 1.0) would look like the difference.
        got = reader.outputs_of(RecordedTurn(stamped, outputs, unfinished=False))
        return difference.of_messages(stamped, expected, got, self._encode)


def check(path: Path, progress: Progress | None = None) -> Report:
    """Replay one segment to its end or its first difference; ``progress`` hears (bytes read, bytes in all).

    Raises:
        ConfigurationError: it is not a journal, or not one that this build can replay.
    """
    began_s = time.perf_counter()
    try:
        reader = JournalReader(path)
    except OpeningLostError as error:
        return _unopened(path, error.damage)
    try:
        player = Player(reader.opened)
    except OracleError:
        # What no core can be built from may be a changed opening record: the first note of checksums tells.
        deque(reader.times(), maxlen=0)
        if reader.damage is None or reader.damage.seq != 0:
            raise
        return _unopened(path, reader.damage)
    found: Difference | None = None
    ended_ns: int | None = None
    for number, recorded in enumerate(reader.turns()):
        if found is None:
            # After a difference only the records are read on: they may tell which input was changed.
            found = player.play(recorded, reader)
            ended_ns = recorded.stamped.at_ns
        if progress is not None and number % PROGRESS_EVERY == 0:
            progress(reader.position, reader.size)
    if progress is not None:
        progress(reader.size, reader.size)
    return Report(
        path=str(path), verdict=_verdict(reader, found), build=reader.opened.build, mode=reader.opened.mode,
        started_ns=reader.opened.at_ns, ended_ns=ended_ns, inputs=reader.inputs, outputs=reader.outputs,
        compared=player.compared, inputs_sha256=reader.inputs_sha256, decisions_sha256=reader.decisions_sha256,
        closed=reader.closed is not None, seconds=time.perf_counter() - began_s, notes=player.notes,
        damage=reader.damage, difference=found,
    )  # fmt: skip


def check_all(paths: tuple[Path, ...], progress: Progress | None = None) -> Iterator[Report]:
    """Check segments one after the other; progress is over all of their bytes."""
    sizes = [path.stat().st_size for path in paths]
    for number, path in enumerate(paths):
        yield check(path, None if progress is None else _share(progress, sum(sizes[:number]), sum(sizes)))


def contents(path: Path) -> Contents:
    """Read what a segment holds, without replaying it.

    Raises:
        ConfigurationError: it is not a journal.
    """
    try:
        reader = JournalReader(path)
    except OpeningLostError as error:
        return Contents(str(path), "", "", "", None, None, {}, {}, "", "", closed=False, damage=error.damage)
    inputs: Counter[str] = Counter()
    outputs: Counter[str] = Counter()
    ended_ns: int | None = None
    for record in reader:
        if isinstance(record, TurnOutput):
            outputs.update(type(message).__name__ for message in record.messages)
        else:
            inputs[type(record.input).__name__] += 1
            ended_ns = record.at_ns
    opened = reader.opened
    return Contents(
        str(path), opened.build, opened.mode, opened.config_fingerprint, opened.at_ns, ended_ns,
        dict(sorted(inputs.items())), dict(sorted(outputs.items())), reader.inputs_sha256, reader.decisions_sha256,
        closed=reader.closed is not None, damage=reader.damage,
    )  # fmt: skip


def segments(session: str, state: Path) -> tuple[Path, ...]:
    """The journal files that SESSION names, in order of start: a file, a state folder, or a New York date in ``state``.

    Raises:
        ConfigurationError: there are none.
    """
    path = Path(session)
    if path.is_file():
        return (path,)
    if path.is_dir():
        return _in_folder(path)
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", session):
        raise ConfigurationError(
            "SESSION", f"{session} is no file, no folder and no date", "name a journal, a state folder or YYYY-MM-DD"
        )
    if not state.is_dir():
        raise ConfigurationError("--state", f"{state} is not a folder", "name the state folder that holds this date")
    found = tuple(one for one in _in_folder(state) if session in dates(one))
    if not found:
        raise ConfigurationError("SESSION", f"{state} holds no turns of {session}", "choose another date or --state")
    return found


def dates(path: Path) -> frozenset[str]:
    """The New York dates of a segment's turns.

    Raises:
        ConfigurationError: it is not a journal.
    """
    try:
        hours = {at_ns // HOUR_NS for at_ns in JournalReader(path).times()}
    except OpeningLostError:
        return frozenset()
    moments = (dt.datetime.fromtimestamp(hour * 3600, NEW_YORK) for hour in hours)
    return frozenset(moment.date().isoformat() for moment in moments)


def _in_folder(folder: Path) -> tuple[Path, ...]:
    inside = folder / JOURNAL_FOLDER
    found = sorted((inside if inside.is_dir() else folder).glob("*.oj"), key=_start_of)
    if not found:
        raise ConfigurationError("SESSION", f"{folder} holds no journal", "name a state folder of this program")
    return tuple(found)


def _start_of(path: Path) -> tuple[str, int]:
    """Order of start: a second file of the same instant has ``-2`` after its time."""
    stem, _, again = path.stem.partition("-")
    return stem, int(again) if again.isdigit() else 1


def _share(progress: Progress, before: int, total: int) -> Progress:
    return lambda at, _size: progress(before + at, total)


def _verdict(reader: JournalReader, found: Difference | None) -> Verdict:
    if reader.damage is not None and not reader.damage.torn:
        return Verdict.DAMAGED
    if found is not None:
        return Verdict.DIFFERS
    return Verdict.CLEAN if reader.closed is not None else Verdict.CUT


def _unopened(path: Path, damage: Damage) -> Report:
    verdict = Verdict.CUT if damage.torn else Verdict.DAMAGED
    return Report(str(path), verdict, "", "", None, None, 0, 0, 0, "", "", False, 0.0, (), damage, None)


def _before(turn: Turn) -> TurnBefore:
    stamped = turn.stamped
    outputs = tuple(type(message).__name__ for message in turn.messages)
    return TurnBefore(stamped.seq, stamped.at_ns, difference.short(stamped.input), outputs)

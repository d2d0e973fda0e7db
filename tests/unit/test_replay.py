"""A journal made by a real core from a scripted morning, replayed whole, wrong, cut, changed and by another build."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from oracle import __version__, opening
from oracle.build import build_core, load_strategies
from oracle.cli.root import app
from oracle.config import Config
from oracle.core.errors import ConfigurationError
from oracle.core.marketdata import Bar, FeedChanged, Quote
from oracle.core.message import Message
from oracle.core.messages import (
    EquityMarked,
    Input,
    JournalOpened,
    NoSignal,
    ReadAccount,
    Reconciled,
    SetTimer,
    Stamped,
    TimerFired,
)
from oracle.core.ports import Context
from oracle.core.reports import AccountReported
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Feed, FeedState
from oracle.opening import opening_record, reopen
from oracle.replay import Report, Verdict, check, check_all, contents, dates, segments
from oracle.running import Core
from oracle.store.journal import JournalReader, JournalWriter
from oracle.store.loading import Loaded
from tests.unit.builders import DATES, OPEN_NS, TABLE
from tests.unit.test_journal import kinds, mended

CONFIG = Config(strategies={"opening_range_breakout": {"universe": ["SPY"]}})
START_NS = OPEN_NS - 10 * MINUTE_NS
Turns = list[tuple[Stamped, tuple[Message, ...]]]
Change = Callable[[Stamped, tuple[Message, ...]], Iterable[tuple[Stamped, Sequence[Message]]]]


def nothing_durable() -> Loaded:
    known: dict[str, Any] = {
        "token": "tok",
        "mode": "sim",
        "created_ns": 0,
        "next_order_sequence": 1,
        "seed": None,
        "session": None,
    }
    names = [field.name for field in msgspec.structs.fields(Loaded) if field.required]
    return Loaded(**{name: known.get(name, ()) for name in names})


def opened(config: Config = CONFIG) -> JournalOpened:
    return opening_record(config, TABLE, nothing_durable(), load_strategies(config), START_NS)


def morning() -> list[tuple[int, Input]]:
    """Feeds come up, the account is told, and fifty minutes trade sideways."""
    found: list[tuple[int, Input]] = [
        (START_NS + NS, FeedChanged(feed, 1, FeedState.LIVE, "up")) for feed in (Feed.STOCK, Feed.OPTION, Feed.TRADING)
    ]
    cash = Decimal("100000.00")
    account = AccountReported(START_NS, cash, cash, cash, cash, 3, False, (), (), (), START_NS)
    found.append((START_NS + 2 * NS, account))
    for minute in range(50):
        begin = OPEN_NS + minute * MINUTE_NS
        price = 600 + minute % 7 / 10
        found.append((begin + 5 * NS, Quote("SPY", begin, price - 0.01, 100, price + 0.01, 100)))
        found.append((begin + MINUTE_NS, Bar("SPY", begin, price, price + 0.2, price - 0.2, price, 1_000, 10, price)))
    return found


def play(record: JournalOpened, inputs: list[tuple[int, Input]]) -> Turns:
    found = reopen(record)
    engine = build_core(found.config, found.table, found.loaded, load_strategies(found.config)).engine
    engine.start(found.at_ns)
    turns = [turn for at_ns, message in inputs for turn in engine.handle(at_ns, message)]
    return [(turn.stamped, turn.messages) for turn in turns]


@pytest.fixture(scope="module")
def turns() -> Turns:
    made = play(opened(), morning())
    told = {type(message) for _, messages in made for message in messages}
    assert {EquityMarked, SetTimer, ReadAccount, Reconciled} <= told
    assert any(isinstance(stamped.input, TimerFired) for stamped, _ in made)
    return made


def write(path: Path, turns: Turns, *, change: Change | None = None, end: bool = True, **options: Any) -> Path:
    writer = JournalWriter(path, options.get("record", opened()))
    for stamped, messages in turns:
        for one, outputs in [(stamped, messages)] if change is None else change(stamped, messages):
            writer.write_input(one)
            writer.write_outputs(one.seq, outputs)
    (writer.close if end else writer.abandon)()
    return path


def core_with(handler: Callable[[FeedChanged, Context], tuple[Message, ...]]) -> Callable[..., Core]:
    """A core in which one more actor hears of the feeds."""

    def build(*parts: Any) -> Core:
        core = build_core(*parts)
        core.engine.bus.subscribe(((FeedChanged, handler),))
        return core

    return build


def differing(report: Report) -> tuple[int, str]:
    assert report.verdict is Verdict.DIFFERS
    assert not report.good
    assert report.damage is None
    assert report.difference is not None
    assert report.compared == report.difference.seq - 1
    return report.difference.seq, report.difference.reason


def first(turns: Turns, kind: type[Message]) -> tuple[int, int]:
    """The seq of the first turn with an output of this kind after the fifth, and the output's place."""
    return next(
        (stamped.seq, place)
        for stamped, messages in turns[5:]
        for place, message in enumerate(messages)
        if type(message) is kind
    )


def at(seq: int, edit: Callable[[Stamped, list[Message]], Stamped | None]) -> Change:
    """Change one turn before it is written: ``edit`` may alter the outputs and return another input."""

    def change(stamped: Stamped, messages: tuple[Message, ...]) -> Iterable[tuple[Stamped, Sequence[Message]]]:
        outputs = list(messages)
        other = edit(stamped, outputs) if stamped.seq == seq else None
        return [(stamped if other is None else other, outputs)]

    return change


# ------------------------------------------------------------------------------------------------------ clean


def test_a_whole_segment_comes_out_as_recorded(tmp_path: Path, turns: Turns) -> None:
    heard: list[tuple[int, int]] = []
    path = write(tmp_path / "a.oj", turns)
    report = check(path, lambda done, total: heard.append((done, total)))
    assert report.verdict is Verdict.CLEAN
    assert report.good
    assert (report.inputs, report.compared) == (len(turns), len(turns))
    assert (report.damage, report.difference, report.notes, report.closed) == (None, None, (), True)
    assert (report.started_ns, report.ended_ns) == (START_NS, turns[-1][0].at_ns)
    assert heard[-1] == (path.stat().st_size, path.stat().st_size)
    reader = JournalReader(path)
    assert sum(1 for _ in reader) == report.inputs + report.outputs
    assert (report.inputs_sha256, report.decisions_sha256) == (reader.inputs_sha256, reader.decisions_sha256)


def test_a_killed_segment_is_cut_and_clean(tmp_path: Path, turns: Turns) -> None:
    path = write(tmp_path / "a.oj", turns, end=False)
    assert check(path).verdict is Verdict.CUT
    data = path.read_bytes()
    for length in (len(data) - 3, len(data) // 2, kinds(data)[1][1], 40, 5, 0):
        path.write_bytes(data[:length])
        report = check(path)
        assert report.verdict is Verdict.CUT, length
        assert report.good
        assert report.compared == report.inputs


def test_outputs_that_a_kill_left_unwritten_are_no_difference(tmp_path: Path, turns: Turns) -> None:
    """An input may reach the disk without its outputs, but only as the last one."""
    seq, _ = first(turns, EquityMarked)
    path = write(tmp_path / "a.oj", turns[: seq - 1], end=False)
    with path.open("ab") as file:
        whole = write(tmp_path / "whole.oj", turns).read_bytes()
        wanted = [(start, end) for start, end, kind in kinds(whole) if kind == 1][seq - 1]
        file.write(whole[slice(*wanted)])
    report = check(path)
    assert (report.verdict, report.inputs, report.compared) == (Verdict.CUT, seq, seq)


def test_the_input_whose_turn_raised_then_raises_now(
    tmp_path: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(message: FeedChanged, context: Context) -> tuple[Message, ...]:
        raise ZeroDivisionError("mid of nothing")

    monkeypatch.setattr("oracle.replay.build_core", core_with(raising))
    path = write(tmp_path / "a.oj", turns[:1], change=lambda stamped, _: [(stamped, ())], end=False)
    report = check(path)
    assert report.verdict is Verdict.CUT
    assert report.notes == ("input 1: the turn raised ZeroDivisionError: mid of nothing; the record ends there too",)
    seq, reason = differing(check(write(tmp_path / "b.oj", turns)))
    assert (seq, reason) == (1, "the turn raised ZeroDivisionError: mid of nothing")


# -------------------------------------------------------------------------------------------------- difference


def test_a_differing_output_is_explained_field_by_field(tmp_path: Path, turns: Turns) -> None:
    seq, place = first(turns, EquityMarked)

    def richer(_: Stamped, outputs: list[Message]) -> None:
        outputs[place] = msgspec.structs.replace(outputs[place], equity_usd=Decimal("123456.78"))

    report = check(write(tmp_path / "a.oj", turns, change=at(seq, richer)))
    told_seq, reason = differing(report)
    assert told_seq == seq
    assert "EquityMarked" in reason
    found = report.difference
    assert found is not None
    assert found.expected is not None
    assert found.got is not None
    assert [(field.path, field.expected) for field in found.fields] == [("equity_usd", "123456.78")]
    assert found.fields[0].got == found.got["equity_usd"] != "123456.78"
    assert found.at_ns == turns[seq - 1][0].at_ns
    assert found.input["T"] == type(turns[seq - 1][0].input).__name__
    assert [turn.seq for turn in found.before] == list(range(seq - 5, seq))


def test_missing_new_and_other_outputs_are_told_apart(tmp_path: Path, turns: Turns) -> None:
    seq, place = first(turns, EquityMarked)
    count = len(turns[seq - 1][1])
    other = SetTimer("nobody:x", 1)
    edits: dict[str, Callable[[list[Message]], object]] = {
        f"message {count + 1}, SetTimer, was recorded and does not come out": lambda out: out.append(other),
        "comes out and was not recorded": lambda out: out.pop(),
        "EquityMarked came out": lambda out: out.__setitem__(place, other),
    }
    for number, (reason, edit) in enumerate(edits.items()):
        path = write(tmp_path / f"{number}.oj", turns, change=at(seq, lambda _, out, edit=edit: edit(out) and None))
        told = differing(check(path))
        assert told[0] == seq
        assert reason in told[1]


def test_numbers_that_decoding_widens_are_not_the_difference(
    tmp_path: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fact may be a whole number in the core and is a float to the decoder; the difference is the message after."""
    told = NoSignal("watcher", "SPY", "quiet", {"bars": 3})
    monkeypatch.setattr("oracle.replay.build_core", core_with(lambda _message, _context: (told,)))
    messages = (*turns[0][1], told)
    assert check(write(tmp_path / "a.oj", [(turns[0][0], messages)])).verdict is Verdict.CLEAN
    path = write(tmp_path / "b.oj", [(turns[0][0], (*messages, SetTimer("nobody:x", 1)))])
    reason = f"message {len(messages) + 1}, SetTimer, was recorded and does not come out"
    assert differing(check(path)) == (1, reason)


def test_a_silent_turn_that_now_speaks_is_a_difference(tmp_path: Path, turns: Turns) -> None:
    seq, _ = first(turns, EquityMarked)
    path = write(tmp_path / "a.oj", turns, change=at(seq, lambda _, out: out.clear()))
    assert differing(check(path))[0] == seq


def test_changed_inputs_are_told_by_their_seq(tmp_path: Path, turns: Turns) -> None:
    """The writer itself wrote these, so no checksum tells: time, number, timers and outputs do."""
    timer = next(stamped.seq for stamped, _ in turns[5:] if isinstance(stamped.input, TimerFired))
    quote = next(stamped.seq for stamped, _ in turns[20:] if isinstance(stamped.input, Quote))
    replace = msgspec.structs.replace
    changes: list[tuple[int, str, Callable[[Stamped], Stamped]]] = [
        (quote, "should follow", lambda one: replace(one, seq=one.seq + 7)),
        (quote, "should follow", lambda one: replace(one, at_ns=START_NS - 1)),
        (quote, "is due first", lambda one: replace(one, at_ns=one.at_ns + 7 * 60 * MINUTE_NS)),
        (timer, "is due first", lambda one: replace(one, input=TimerFired("nobody:x", one.at_ns))),
        (quote, "none is due", lambda one: replace(one, input=TimerFired("nobody:x", one.at_ns))),
        (timer, "is due first", lambda one: replace(one, input=turns[quote - 1][0].input)),
    ]
    for number, (seq, reason, change) in enumerate(changes):
        path = write(tmp_path / f"{number}.oj", turns, change=at(seq, lambda one, _, change=change: change(one)))
        told = differing(check(path))
        assert told[0] == seq, reason
        assert reason in told[1]


# -------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("mend", [False, True], ids=["checksum fails", "checksum mended"])
def test_a_changed_byte_of_an_input_is_reported_with_its_seq(tmp_path: Path, turns: Turns, mend: bool) -> None:
    data = write(tmp_path / "whole.oj", turns).read_bytes()
    inputs = [(start, end) for start, end, kind in kinds(data) if kind == 1]
    path = tmp_path / "changed.oj"
    for seq in range(1, len(turns) + 1, 9):
        start, end = inputs[seq - 1]
        position = start + 9 + (seq * 13) % (end - start - 9)
        changed = data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]
        path.write_bytes(mended(data, position, start, end) if mend else changed)
        report = check(path)
        assert report.verdict is Verdict.DAMAGED
        assert report.damage is not None
        assert (report.damage.seq, report.damage.torn) == (seq, False)


def test_a_changed_opening_record_is_damage_whatever_it_says(tmp_path: Path, turns: Turns) -> None:
    path = write(tmp_path / "a.oj", turns)
    data = path.read_bytes()
    start, end, _ = kinds(data)[0]
    for word in (b"opening_range_breakout", b"SPY", b"per_contract", b"2026-01-0"):
        path.write_bytes(mended(data, data.index(word, start, end), start, end))
        report = check(path)
        assert (report.verdict, report.damage and report.damage.seq) == (Verdict.DAMAGED, 0), word
    path.write_bytes(data[: start + 20] + b"?" + data[start + 21 :])
    assert check(path).verdict is Verdict.DAMAGED


# ------------------------------------------------------------------------------------------------- opening record


def test_the_opening_record_holds_the_settings_without_secrets() -> None:
    secret = "hunter2-hunter2"
    config = Config.model_validate({
        "mode": "paper", "alpaca": {"key": "AKHUNTER", "secret": secret}, "sim": {"key": secret, "secret": secret},
        "risk": {"max_spread_usd": "0.07"}, "strategies": {"opening_range_breakout": {"universe": ["IWM"]}},
    })  # fmt: skip
    record = opened(config)
    raw = msgspec.msgpack.encode(record)
    assert secret.encode() not in raw
    assert b"AKHUNTER" not in raw
    found = reopen(msgspec.msgpack.decode(raw, type=JournalOpened))
    assert found.config.fingerprint() == config.fingerprint() == record.config_fingerprint
    assert found.config.risk.max_spread_usd == Decimal("0.07")
    assert found.config.alpaca.secret is None
    assert found.config.sim.secret == SecretStr("simulated-secret-of-no-value")
    assert found.table.sessions == TABLE.sessions
    assert found.loaded == nothing_durable()


def test_a_journal_without_settings_says_who_can_replay_it(tmp_path: Path, turns: Turns) -> None:
    bare = JournalOpened("0.0.9", "sim", "cfg", START_NS, b"")
    path = write(tmp_path / "a.oj", turns, record=bare)
    with pytest.raises(ConfigurationError, match=r"no settings .* the build that wrote it \(0\.0\.9\)"):
        check(path)
    broken = msgspec.structs.replace(opened(), snapshot=b"\x81\xa1x\x01")
    with pytest.raises(ConfigurationError, match="state does not decode"):
        check(write(tmp_path / "b.oj", turns, record=broken))
    other = msgspec.structs.replace(opened(), config=b'{"no_such": 1}')
    with pytest.raises(ConfigurationError, match="no_such is not one of this build"):
        check(write(tmp_path / "c.oj", turns, record=other))


def test_the_build_is_named_by_what_decides_and_by_its_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "oracle"
    shutil.copytree(Path(opening.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    known = {opening.source_hash(package)}
    assert opening.build_name().startswith(f"{__version__}+{opening.source_hash(package)[:12]} (msgspec ")
    for name in ("build.py", "config.py", "core/equity.py", "risk/limits.py"):
        (package / name).write_text((package / name).read_text() + "# changed\n")
        assert opening.source_hash(package) not in known
        known.add(opening.source_hash(package))
    (package / "monitor.py").write_text("")
    assert opening.source_hash(package) in known
    monkeypatch.setattr(opening, "version", lambda name: f"of {name}")
    assert opening.build_name.__wrapped__().endswith(" (msgspec of msgspec, numpy of numpy, scipy of scipy)")


def test_another_build_or_strategy_is_noted(tmp_path: Path, turns: Turns) -> None:
    record = msgspec.structs.replace(
        opened(), build="0.0.9+abc", config_fingerprint="0" * 16, strategies={"opening_range_breakout": "f" * 64}
    )
    notes = check(write(tmp_path / "a.oj", turns, record=record)).notes
    assert notes[0] == f"build 0.0.9+abc wrote it, this is {opening.build_name()}"
    assert notes[1] == f"its settings {'0' * 16} mean {CONFIG.fingerprint()} to this build"
    assert notes[2].startswith("strategy opening_range_breakout was ffffffffffff, is ")


# ---------------------------------------------------------------------------------------------- which segments


def test_a_session_is_a_file_a_folder_or_a_new_york_date(tmp_path: Path, turns: Turns) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    names = ["20260105T142000.000000000Z.oj", "20260105T142000.000000000Z-2.oj", "20260105T150000.000000000Z.oj"]
    for name in reversed(names):
        write(folder / name, turns)
    paths = tuple(folder / name for name in names)
    assert segments(str(paths[1]), tmp_path) == (paths[1],)
    assert segments(str(tmp_path), tmp_path) == segments(str(folder), tmp_path) == paths
    assert dates(paths[0]) == {DATES[0]}
    assert segments(DATES[0], tmp_path) == paths
    for session, state, problem in (
        (DATES[1], tmp_path, "holds no turns of"),
        (DATES[0], tmp_path / "none", "is not a folder"),
        ("yesterday", tmp_path, "is no file, no folder and no date"),
        (str(tmp_path.parent / "nothing-here"), tmp_path, "is no file"),
    ):
        with pytest.raises(ConfigurationError, match=problem):
            segments(session, state)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="holds no journal"):
        segments(str(tmp_path / "empty"), tmp_path)
    assert [report.verdict for report in check_all(paths)] == [Verdict.CLEAN] * 3


def test_contents_count_by_type(tmp_path: Path, turns: Turns) -> None:
    found = contents(write(tmp_path / "a.oj", turns))
    assert found.inputs["Bar"] == 50
    assert sum(found.inputs.values()) == len(turns)
    assert sum(found.outputs.values()) == sum(len(messages) for _, messages in turns)
    assert (found.closed, found.damage, found.ended_ns) == (True, None, turns[-1][0].at_ns)
    (tmp_path / "torn.oj").write_bytes(b"ORACLEJ")
    torn = contents(tmp_path / "torn.oj")
    assert torn.damage is not None
    assert torn.damage.torn


# ------------------------------------------------------------------------------------------------- the command


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["replay", *arguments])
    return done.exit_code, done.stdout


def test_the_command_tells_clean_different_and_damaged_apart(tmp_path: Path, turns: Turns) -> None:
    seq, place = first(turns, EquityMarked)

    def richer(_: Stamped, outputs: list[Message]) -> None:
        outputs[place] = msgspec.structs.replace(outputs[place], equity_usd=Decimal("123456.78"))

    clean = write(tmp_path / "clean.oj", turns)
    wrong = write(tmp_path / "wrong.oj", turns, change=at(seq, richer))
    data = clean.read_bytes()
    start, end = next((start, end) for start, end, kind in kinds(data) if kind == 1)
    (tmp_path / "damaged.oj").write_bytes(mended(data, end - 1, start, end))
    code, text = run(str(clean), "--check")
    assert (code, "clean" in text, "first difference" in text) == (0, True, False)
    code, text = run(str(wrong), "--check")
    assert code == 1
    for words in (f"first difference at input {seq}", "UTC", "New York", "expected 123456.78", "as recorded:"):
        assert words in text
    code, text = run(str(tmp_path / "damaged.oj"), "--check")
    assert (code, "damaged at input 1:" in text) == (65, True)
    code, text = run(str(wrong), "--check", "--json")
    told = msgspec.json.decode(text)
    assert (code, told["ok"]) == (1, False)
    assert told["segments"][0]["difference"]["seq"] == seq
    assert told["segments"][0]["difference"]["fields"][0]["path"] == "equity_usd"
    code, text = run(str(tmp_path), "--check", "--json")
    assert code == 65
    assert {one["verdict"] for one in msgspec.json.decode(text)["segments"]} == {"clean", "differs", "damaged"}
    code, text = run(str(clean))
    assert code == 0
    assert "ended in order" in text
    assert msgspec.json.decode(run(str(clean), "--json")[1])["segments"][0]["inputs"]["Bar"] == 50

"""Commands of performance on narrow terminals and with wrong arguments: no figure is cut, refusals say what to do."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from oracle import reporting, reporting_page
from oracle.cli.criteria import criteria
from oracle.cli.note import note
from oracle.cli.performance import folded, performance
from oracle.cli.readiness import readiness
from oracle.core.errors import ConfigurationError
from oracle.metrics.report_words import figure
from oracle.store import read
from tests.unit.report_books import CONDOR, ORB, make_books


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_books(tmp_path_factory.mktemp("terminal") / "state", sessions=25)


@pytest.fixture
def db(state: Path) -> Iterator[sqlite3.Connection]:
    with read.reading(state) as found:
        yield found


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    wide = Console

    def terminal(**changes: Any) -> Console:
        return wide(**{"force_terminal": True, "color_system": None, "width": 80, **changes})

    monkeypatch.setattr("rich.console.Console", terminal)


def test_a_terminal_of_fifty_columns_wraps_and_cuts_nothing(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = Console
    monkeypatch.setattr("rich.console.Console", lambda **_: wide(force_terminal=True, color_system=None, width=50))
    performance(None, state=state, json=False)
    readiness(None, state=state, json=False)
    assert "…" not in capsys.readouterr().out


@pytest.mark.usefixtures("narrow")
def test_eighty_columns_cut_no_figure_and_no_word(
    state: Path, db: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    for show in (
        lambda: performance(None, state=state, json=False), lambda: performance(ORB, state=state, json=False),
        lambda: readiness(None, state=state, json=False), lambda: readiness(CONDOR, state=state, json=False),
        lambda: criteria(None, state=state, json=False),
    ):  # fmt: skip
        show()
        shown = lines(capsys)
        assert max(map(len, shown)) <= 80, [line for line in shown if len(line) > 80]
        assert not any("…" in line for line in shown)
    performance(ORB, state=state, json=False)
    text = capsys.readouterr().out
    for row in reporting.performance(db, strategy=ORB)["performance"]:
        for name, value in row["figures"].items():
            assert figure(name, value) in text, name
    readiness(CONDOR, state=state, json=False)
    text = " ".join(capsys.readouterr().out.split())
    assert all(row["note"] in text or "resampled" in row["note"] for row in reporting.readiness(db)[0]["criteria"])


@pytest.mark.parametrize("name", ["opening_range_breakout", "momentum_scalping", "orb", "  earlier 0123abcd"])
def test_a_name_is_broken_after_underscores_alone(name: str) -> None:
    assert folded(name).replace("\n", "") == name
    assert all(line.endswith("_") for line in folded(name).split("\n")[:-1])


def test_readiness_says_on_what_it_rests(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readiness(None, state=state, json=False)
    first = capsys.readouterr().out.splitlines()[0]
    readiness(None, state=state, json=True)
    told = orjson.loads(capsys.readouterr().out)
    assert first.startswith(f"mode {told['mode']}. {reporting.SIMULATED[told['mode']]}")
    assert told["incomplete"] == ""


def test_one_lost_session_is_told_by_performance_readiness_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = make_books(tmp_path / "state", sessions=6)
    with sqlite3.connect(state / "oracle.db") as changed:
        lost = changed.execute("SELECT min(date) FROM strategy_days WHERE strategy = ?", (ORB,)).fetchone()[0]
        changed.execute("DELETE FROM strategy_days WHERE strategy = ? AND date = ?", (ORB, lost))
    changed.close()
    for show in (performance, readiness):
        show(None, state=state, json=False)
        text = " ".join(capsys.readouterr().out.split())
        assert f"no results of sessions of {ORB} ({lost})" in text
        assert "oracle recompute" in text
    with read.reading(state) as db:
        assert lost in reporting_page.page(db)["incomplete"]


def test_a_session_that_still_runs_lacks_nothing(tmp_path: Path) -> None:
    state = make_books(tmp_path / "state", sessions=6)
    with sqlite3.connect(state / "oracle.db") as changed:
        last = changed.execute("SELECT max(date) FROM sessions").fetchone()[0]
        changed.execute("UPDATE sessions SET ended_ns = NULL WHERE date = ?", (last,))
        changed.execute("DELETE FROM strategy_days WHERE date = ?", (last,))
    changed.close()
    with read.reading(state) as db:
        assert reporting.performance(db)["incomplete"] == ""


@pytest.mark.parametrize(("change", "text"), [("max_drawdown=8", "max_drawdown=0.08"), ("win_rate=70", "win_rate=0.7")])
def test_percent_for_a_fraction_is_told(state: Path, change: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        criteria(ORB, [change], state=state)


@pytest.mark.parametrize(
    ("text", "session", "words"),
    [("hi", "monday", "not a date"), ("hi", "2026-02-31", "not a date"), ("", None, "0 characters"),
     ("x" * 1_001, None, "1,001 characters")],
)  # fmt: skip
def test_a_note_that_cannot_be_is_told_without_machinery(
    state: Path, text: str, session: str | None, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as error:
        note(text, session=session, state=state)
    assert "$" not in str(error.value)


def test_a_record_that_cannot_be_written_is_named_and_replaces_whole(tmp_path: Path) -> None:
    copy = make_books(tmp_path / "state", sessions=6)
    with pytest.raises(ConfigurationError, match="--record"):
        readiness(ORB, record=tmp_path / "none" / "r.json", state=copy, json=True)
    readiness(ORB, record=tmp_path / "r.json", state=copy, json=True)
    assert orjson.loads((tmp_path / "r.json").read_bytes())["strategy"] == ORB
    assert sorted(file.name for file in tmp_path.iterdir()) == ["r.json", "state"]

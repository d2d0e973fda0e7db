"""``oracle iv``: what people and machines read, what is stored, and sessions that are observed again."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from oracle.backtest import Backtest, run_backtest
from oracle.cli import iv
from oracle.cli.root import app
from oracle.config import load
from oracle.core.errors import ConfigurationError
from oracle.core.marketdata import DailyIvObserved
from oracle.core.sessions import Session
from oracle.ivbackfill import Backfill, Day
from oracle.ivrebuild import rebuild
from oracle.store import ivs
from oracle.store.sqlite import Store

T0 = 1_767_600_000 * 10**9
HEAD = "underlying,date,iv_30d,source\n"


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    store = await Store.open(tmp_path / "s", "sim", T0, token="t")
    await store.close()
    return tmp_path / "s"


def call(*words: object) -> Result:
    """Run one command; errors of ours come back as exceptions."""
    done = CliRunner().invoke(app, ["iv", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def sessions(count: int) -> list[str]:
    """The newest sessions before 20 November 2025, oldest first."""
    import datetime as dt

    table = iv._table(dt.date(2025, 11, 19))
    return [session.date for session in table.before("2025-11-20", count)]


def csv(tmp_path: Path, count: int) -> Path:
    """A file of SPY's volatilities, rising day by day."""
    file = tmp_path / "iv.csv"
    rows = [f"SPY,{date},{0.10 + 0.001 * n:.3f},me\n" for n, date in enumerate(sessions(count))]
    file.write_text(HEAD + "".join(rows))
    return file


def test_a_file_is_imported_and_shown_with_its_rank(state: Path, tmp_path: Path) -> None:
    done = call("import", csv(tmp_path, 71), "--state", state)
    assert done.output == "71 added, 0 replaced, 0 as they were\n"
    shown = call("show", "SPY", "--state", state, "--limit", 3).output
    assert "SPY 2025-11-19: 30-day IV 17.00%, source import:me" in shown
    assert "rank 1.00, percentile 1.00" in shown
    assert "70 of the 90 sessions before it are observed (60 needed): import:me 70" in shown
    assert "missing: 20" in shown
    assert len(shown.strip().splitlines()) == 5 + 1 + 3


def test_json_has_every_figure_and_unknown_is_null(state: Path, tmp_path: Path) -> None:
    call("import", csv(tmp_path, 62), "--state", state)
    told = json.loads(call("show", "SPY", "--state", state, "--json", "--limit", 2).output)
    newest, before = told["days"]
    assert (newest["rank"], newest["observations"], newest["reason"]) == (1.0, 61, "")
    assert before["observations"] == 60
    assert (told["window"], told["needed"], told["stored"], told["sources"]) == (90, 60, 62, {"import:me": 61})
    call("import", csv(tmp_path, 62), "--state", state)
    told = json.loads(call("show", "SPY", "--state", state, "--json", "--limit", 62).output)
    assert told["days"][-1]["rank"] is None
    assert told["days"][-1]["reason"] == "iv_history"


def test_a_bad_file_is_told_line_by_line_and_leaves_the_store_alone(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "iv.csv"
    file.write_text(HEAD + "SPY,2025-11-18,0.18,\nSPY,2025-11-17,18,\nspy,2025-11-14,0.2,\n")
    with pytest.raises(ConfigurationError, match="2 lines cannot be used"):
        call("import", file, "--state", state)
    assert ivs.observations(state) == []
    done = CliRunner().invoke(app, ["iv", "import", str(file), "--state", str(state)])
    assert f"{file}: line 3: 18 would be 1800%; write a fraction: 0.18 for 18 %" in done.stderr
    assert f"{file}: line 4: 'spy' is not a stock's symbol" in done.stderr


def test_what_is_stored_is_replaced_only_when_asked_and_a_dry_run_writes_nothing(state: Path, tmp_path: Path) -> None:
    ivs.write(state, [DailyIvObserved("SPY", sessions(1)[0], 0.3, "chain")])
    file = csv(tmp_path, 2)
    with pytest.raises(ConfigurationError, match="--replace"):
        call("import", file, "--state", state)
    assert "nothing was written" in call("import", file, "--state", state, "--replace", "--dry-run").output
    assert len(ivs.observations(state)) == 1
    told = json.loads(call("import", file, "--state", state, "--replace", "--json").output)
    assert told["written"] == {"added": 1, "replaced": 1, "unchanged": 0, "daemon_running": False, "kept": []}


async def test_a_running_daemon_is_named(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "s", "sim", T0, token="t")
    try:
        said = call("import", csv(tmp_path, 2), "--state", tmp_path / "s").output
    finally:
        await store.close()
    assert "a daemon is running on this state: it reads them at its next start" in said


def test_a_symbol_without_history_says_what_there_is(state: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no observation of GME is stored \(there are: none\)"):
        call("show", "GME", "--state", state)
    call("import", csv(tmp_path, 1), "--state", state)
    with pytest.raises(ConfigurationError, match="there are: SPY"):
        call("show", "GME", "--state", state)
    shown = call("show", "SPY", "--state", state).output
    assert "rank unknown, percentile unknown (too few observations)" in shown


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--from", "2025-13-01", "--to", "2025-11-18"), "is not a date"),
        (("--from", "2025-11-18", "--to", "2025-11-17"), "is before"),
        (("--from", "2025-11-15", "--to", "2025-11-16"), "no session"),
        (("--from", "20251115", "--to", "2025-11-16"), "is not a date"),
        (("--from", "2025-W46-1", "--to", "2025-11-16"), "is not a date"),
        (("--from", "2025-11-15", "--to", "9999-12-31", "--set", "mode=paper"), "has not ended"),
        (("--from", "2023-11-15", "--to", "2025-11-16", "--set", "mode=paper"), "no option bars before 2024-02-01"),
    ],
)
def test_dates_that_cannot_be_backfilled_are_refused_before_anything_is_asked(
    state: Path, words: tuple[str, ...], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEY", "SECRET"):
        monkeypatch.setenv(f"ORACLE_ALPACA__{name}", "not-a-real-one")
    with pytest.raises(ConfigurationError, match=match):
        call("backfill", "SPY", "--state", state, *words)


@pytest.mark.parametrize("words", [("backfill", "SPY", "--from", "2025-11-17", "--to", "2025-11-18"), ("import",)])
def test_a_folder_without_a_database_is_refused_first_with_the_fix(tmp_path: Path, words: tuple[str, ...]) -> None:
    more = (csv(tmp_path, 1),) if words == ("import",) else ("--set", "sim.url=http://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match=f"oracle run --state {tmp_path / 'none'}") as refused:
        call(*words, *more, "--state", tmp_path / "none")
    assert refused.value.field == "--state"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_backfill_without_any_observation_is_no_data(
    state: Path, monkeypatch: pytest.MonkeyPatch, dry: tuple[str, ...]
) -> None:
    async def nothing(_self: Backfill, sessions: list[Session]) -> AsyncIterator[Day]:
        for session in sessions:
            yield Day(session.date, None, "no trades")

    monkeypatch.setattr(Backfill, "days", nothing)
    done = call("backfill", "ZZZ", "--from", "2025-11-17", "--to", "2025-11-18", "--state", state, *dry)
    assert (done.exit_code, done.stderr) == (1, "no data: no volatility of ZZZ in any of 2 sessions\n")


# --------------------------------------------------------------------------------------------- recorded sessions


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a simulated session in which SPY's volatility was observed."""
    import asyncio

    state = tmp_path_factory.mktemp("iv") / "s"
    settings = [
        "strategies={}", 'strategies.opening_range_breakout.universe=["SPY"]', 'volatility.underlyings=["SPY"]',
    ]  # fmt: skip
    what = Backtest(None, "2026-01-05", "2026-01-05", Decimal(100_000), seed=3)
    asyncio.run(run_backtest(load(None, settings, environment={}), what, state))
    return state


def test_a_recorded_session_gives_what_the_daemon_observed(recorded: Path) -> None:
    (journal,) = (recorded / "journal").glob("*.oj")
    (found,), problem = rebuild(journal)
    (stored,) = (row for row in ivs.observations(recorded) if row.source == "chain")
    assert problem == ""
    assert (found.underlying, found.date, found.iv_30d) == (stored.underlying, stored.date, stored.iv_30d)
    assert found.near < found.next
    assert found.skew_slope is not None
    assert -0.13 < found.skew_slope < -0.06, "the surface's slope is -0.09 a month out"
    assert found.index_complete is False, "strikes far from the money are not quoted"


def test_rebuilding_keeps_the_daemons_own_and_says_its_source(recorded: Path, state: Path) -> None:
    (journal,) = (recorded / "journal").glob("*.oj")
    done = json.loads(call("rebuild", journal, "--state", state, "--json").output)
    (row,) = done["rows"]
    assert (row["underlying"], row["date"], row["source"]) == ("SPY", "2026-01-05", "journal")
    assert done["written"]["added"] == 1
    said = call("rebuild", journal, "--state", recorded).output
    assert "0 added, 0 replaced, 1 as they were" in said
    assert {row.source for row in ivs.observations(recorded) if row.date == "2026-01-05"} == {"chain"}
    shown = call("rebuild", journal, "--state", state, "--dry-run").output
    assert "2026-01-05" in shown


def test_one_bad_journal_among_several_is_named_and_does_not_hide_the_others(
    recorded: Path, state: Path, tmp_path: Path
) -> None:
    (journal,) = (recorded / "journal").glob("*.oj")
    bad = tmp_path / "bad.oj"
    bad.write_bytes(b"not a journal")
    done = call("rebuild", bad, journal, "--state", state, "--json")
    told = json.loads(done.stdout)
    assert told["written"]["added"] == 1
    assert [str(bad) in problem for problem in told["problems"]] == [True]
    assert str(bad) in done.stderr


def test_a_rebuild_fills_gaps_and_names_what_it_leaves_alone(recorded: Path, state: Path) -> None:
    (journal,) = (recorded / "journal").glob("*.oj")
    ivs.write(state, [DailyIvObserved("SPY", "2026-01-05", 0.3, "import:csv")])
    said = call("rebuild", journal, "--state", state).output
    assert "left alone: SPY 2026-01-05: stored 0.3000 (import:csv), given 0." in said
    assert call("rebuild", journal, "--state", state, "--replace").output.endswith(
        "0 added, 1 replaced, 0 as they were\n"
    )


def test_what_is_no_journal_says_so(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.oj"
    file.write_bytes(b"not a journal")
    with pytest.raises(ConfigurationError):
        call("rebuild", file, "--state", state)


def test_the_pause_spreads_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    def twice(pause: Any) -> None:
        async def go() -> None:
            await pause()
            await pause()

        asyncio.run(go())

    twice(iv._pacer(0))
    assert waited == []
    twice(iv._pacer(150))
    assert waited == [0.4, 0.4]


def test_a_session_that_has_not_ended_is_not_backfilled(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime as dt

    for name in ("KEY", "SECRET"):
        monkeypatch.setenv(f"ORACLE_ALPACA__{name}", "not-a-real-one")
    soon = (dt.datetime.now(dt.UTC).date() + dt.timedelta(days=7)).isoformat()
    with pytest.raises(ConfigurationError, match=r"the session of \d{4}-\d\d-\d\d has not ended"):
        call("backfill", "SPY", "--from", "2025-11-17", "--to", soon, "--set", "mode=paper", "--state", state)


@pytest.mark.parametrize("word", ["../x", "SPY,QQQ", "", "SPY260116C00600000", "=1"])
def test_what_is_no_symbol_is_refused_before_anything_is_asked(state: Path, word: str) -> None:
    for words in (("show", word), ("backfill", word, "--from", "2025-11-17", "--to", "2025-11-18")):
        with pytest.raises(ConfigurationError, match="is not a stock symbol"):
            call(*words, "--state", state)


def test_symbols_may_be_written_small(state: Path, tmp_path: Path) -> None:
    call("import", csv(tmp_path, 1), "--state", state)
    assert call("show", "spy", "--state", state).output.startswith("SPY 2025-11-19")

"""What commands and pages tell of a database: figures by version and month, readiness, worst days, broken plans."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import typer

from oracle import reporting, reporting_page
from oracle.cli.criteria import criteria
from oracle.cli.export import export
from oracle.cli.performance import WIDTH, performance, sparkline
from oracle.cli.readiness import EXIT_NOT_READY, readiness
from oracle.cli.report import report
from oracle.core.errors import ConfigurationError, RemoteError
from oracle.core.trackrecord import ACCOUNT, ClosedTrade, StrategyKey
from oracle.metrics.record import read_record, signing_key, verify
from oracle.store import performance as stored
from oracle.store import read
from tests.unit.report_books import CONDOR, HASH_CONDOR, HASH_NEW, HASH_OLD, MARKUP, ORB, make_books

SESSIONS = 45


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_books(tmp_path_factory.mktemp("reporting") / "state", sessions=SESSIONS)


@pytest.fixture
def db(state: Path) -> Iterator[sqlite3.Connection]:
    with read.reading(state) as found:
        yield found


# ------------------------------------------------------------------------------------------------------- figures


def test_each_version_is_told_by_itself_the_newest_first(db: sqlite3.Connection) -> None:
    found = reporting.performance(db)["performance"]
    assert [(row["strategy"], row["strategy_hash"], row["current"]) for row in found] == [
        (ACCOUNT, "", True), (CONDOR, HASH_CONDOR, True), (ORB, HASH_NEW, True), (ORB, HASH_OLD, False),
    ]  # fmt: skip
    counts = [row["figures"]["trades"] for row in found]
    assert counts == [SESSIONS + SESSIONS // 2, SESSIONS // 2, SESSIONS - SESSIONS // 3, SESSIONS // 3]
    assert found[0]["figures"]["sessions"] == SESSIONS


def test_figures_are_those_of_the_stored_rows(db: sqlite3.Connection) -> None:
    for row in reporting.performance(db)["performance"]:
        for month, seen in [("all", row["figures"]), *row["months"].items()]:
            kept = db.execute(
                "SELECT figures FROM strategy_performance WHERE strategy = ? AND strategy_hash = ? AND month = ?",
                (row["strategy"], row["strategy_hash"], month),
            ).fetchone()
            assert msgspec.json.decode(kept["figures"]) == seen, (row["strategy"], month)


def test_a_month_has_its_own_figures_curve_and_trades(db: sqlite3.Connection) -> None:
    whole, month = (reporting.performance(db, month=m)["performance"][0] for m in (None, "2026-02"))
    assert month["figures"] == whole["months"]["2026-02"]
    assert month["months"] == whole["months"]
    assert (month["first"], month["last"]) == ("2026-02-02", "2026-02-27")
    assert month["curve"]["dates"][:2] == [None, "2026-02-02"]
    assert len(month["net_pnl_usd"]) == month["figures"]["trades"] < whole["figures"]["trades"]
    assert sum(month["net_pnl_usd"]) == pytest.approx(month["figures"]["net_pnl_usd"])


def test_the_curve_ends_at_the_return(db: sqlite3.Connection) -> None:
    for row in reporting.performance(db)["performance"]:
        assert row["curve"]["index"][-1] - 1 == pytest.approx(row["figures"]["total_return"], abs=1e-12)
        assert max(row["curve"]["drawdown"]) == row["figures"]["max_drawdown"]


def test_json_holds_all_of_it(db: sqlite3.Connection) -> None:
    told = reporting.performance(db)
    assert orjson.loads(orjson.dumps(told)) == told


@pytest.mark.parametrize(
    ("month", "text"),
    [("2026-13", "not a month"), ("soon", "not a month"), ("2026-1", "not a month"), ("2025-12", "there are: 2026-01")],
)
def test_a_month_that_is_not_there_is_named(db: sqlite3.Connection, month: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        reporting.performance(db, month=month)


def test_a_strategy_that_is_not_there_is_named(db: sqlite3.Connection) -> None:
    with pytest.raises(ConfigurationError, match=f"'nope' has no session.*use one of: {CONDOR}, {ORB}"):
        reporting.performance(db, strategy="nope")


# ----------------------------------------------------------------------------------------------------- readiness


def test_readiness_is_that_of_the_stored_rows(db: sqlite3.Connection) -> None:
    for one in reporting.readiness(db):
        row = db.execute(
            "SELECT score, ready, reason FROM strategy_performance WHERE strategy_hash = ? AND month = 'all'",
            (one["strategy_hash"],),
        ).fetchone()
        assert (row["score"], bool(row["ready"]), row["reason"]) == (one["score"], one["ready"], one["reason"])
        assert one["verdict"] in (reporting.NOT_READY, reporting.OUT_OF_REACH)
        assert one["trades_required"] == 100


def test_a_months_readiness_is_as_it_stood_at_its_end(db: sqlite3.Connection) -> None:
    then = {one["strategy_hash"]: one["trades"] for one in reporting.readiness(db, month="2026-01")}
    now = {one["strategy_hash"]: one["trades"] for one in reporting.readiness(db)}
    assert then[HASH_OLD] == now[HASH_OLD] == SESSIONS // 3
    assert 0 < then[HASH_NEW] < now[HASH_NEW]


@pytest.mark.parametrize(
    ("ready", "out", "word"), [(True, (), "ready"), (False, ("x",), "out of reach"), (False, (), "not ready")]
)
def test_verdicts(ready: bool, out: tuple[str, ...], word: str) -> None:
    class Made:
        pass

    made: Any = Made()
    made.ready, made.out_of_reach = ready, out
    assert reporting.verdict(made) == word


def test_a_signed_record_holds_for_its_version_alone(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    readiness(ORB, record=file, state=state, json=True)
    made, key = read_record(file.read_text()), signing_key(state)
    assert stat.S_IMODE((state / "readiness.key").stat().st_mode) == 0o600
    assert (made.strategy, made.strategy_hash, made.trades) == (ORB, HASH_NEW, SESSIONS - SESSIONS // 3)
    wrong = verify(made, key, strategy=ORB, strategy_hash=HASH_NEW, now_ns=made.at_ns, live=False)
    assert len(wrong) == 1
    assert "not ready" in wrong[0]
    assert "signature" in verify(made, b"x" * 32, strategy=ORB, strategy_hash=HASH_NEW, now_ns=made.at_ns)[0]


# ---------------------------------------------------------------------------------------------- worst, against plan


def trade(net: int, *, planned: int = 100, worst: int = 400, rule: str = "stop", log_id: int = 1) -> ClosedTrade:
    """A trade that is no row of the database."""
    return ClosedTrade(
        log_id, "t", StrategyKey(ORB, "h"), "SPY", "SPY260630C00600000", 0, 10, "2026-01-05", 1, 2, net * 10**6,
        net * 10**6, 0, 0, None, None, planned * 10**6, worst * 10**6, 10**11, None, None, rule, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (trade(-100), None), (trade(-110), None), (trade(-111), "lost 111.00 USD where 100.00 was planned, 1.11 times"),
        (trade(-401), "lost 1.00 USD more than its worst case of 400.00"), (trade(50, rule="target"), None),
        (trade(50, rule="expired"), None), (trade(50, rule="assigned"), "assigned a short leg"),
        (trade(50, rule="sold_out"), "broker sold it out"), (trade(50, rule="operator"), "an operator closed it"),
        (trade(50, rule="end_of_data"), "data ended"), (trade(50, rule=""), "not known"),
        (trade(50, rule="new_rule"), "closed by new rule"), (trade(-1, planned=0), "where 0.00 was planned"),
    ],
)  # fmt: skip
def test_what_is_against_a_plan(db: sqlite3.Connection, made: ClosedTrade, words: str | None) -> None:
    found = reporting_page.against_plan(db, [made])
    if words is None:
        assert found == []
    else:
        assert any(words in why for why in found[0]["why"]), found[0]["why"]


def test_trades_held_past_their_flat_time_are_found(db: sqlite3.Connection) -> None:
    trades = stored.read_trades(db)
    found = {one["trade_id"]: one["why"] for one in reporting_page.against_plan(db, trades)}
    late = [one.trade_id for one in trades if one.exit_rule == "flat"]
    assert late
    assert all(any("held 10 min past its flat time" in why for why in found[one]) for one in late)
    orphans = [one.trade_id for one in trades if one.exit_rule == "orphan_leg"]
    assert all(any("no longer belonged together" in why for why in found[one]) for one in orphans)
    losses = [one["net_usd"] for one in reporting_page.against_plan(db, trades)]
    assert losses == sorted(losses)


def test_a_page_tells_breakers_failures_notes_fees_and_worst_days(db: sqlite3.Connection) -> None:
    told = reporting_page.page(db)
    kinds = {row["kind"] for row in told["breakers"]}
    assert kinds == {"breaker", "failure", "operator"}
    ended = {row["what"]: row["ended"] for row in told["breakers"]}
    assert ended["drawdown"] == "2026-01-08 12:01"
    assert ended["day loss"] == "by itself on 2026-01-09"
    assert [row["text"] for row in told["notes"]] == [MARKUP]
    assert told["costs"] == {"account_fees_usd": 1.25, "account_fees": 1, "slippage_unknown": SESSIONS // 5}
    worst = told["worst_days"]
    assert len(worst) == 10
    assert [row["pnl_usd"] for row in worst] == sorted(row["pnl_usd"] for row in worst)
    for row in worst:
        assert sum(usd for _, usd in row["by_strategy"]) == pytest.approx(row["pnl_usd"])
    assert any("67 on the feed indicative" in line for line in told["method"])


def test_a_months_page_has_that_month_alone(db: sqlite3.Connection) -> None:
    told = reporting_page.page(db, month="2026-02")
    assert told["breakers"] == []
    assert told["notes"] == []
    assert told["costs"]["account_fees_usd"] is None
    assert all(row["date"].startswith("2026-02") for row in told["worst_days"])
    assert [row["strategy_hash"] for row in told["performance"]] == ["", HASH_CONDOR, HASH_NEW]
    assert "2026-02" in told["title"]


def test_a_page_of_one_strategy_has_no_account(db: sqlite3.Connection) -> None:
    told = reporting_page.page(db, strategy=CONDOR)
    assert [row["strategy"] for row in told["performance"]] == [CONDOR]
    text = reporting_page.report(db, strategy=CONDOR)
    assert "The account" not in text
    assert 'aria-label="Readiness of iron_condor"' in text


# ----------------------------------------------------------------------------------------- nothing, or not yet there


def test_an_empty_database_is_told_as_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = make_books(tmp_path / "state", sessions=0)
    for command, text in ((performance, "no trade has closed"), (readiness, "nothing to judge"), (criteria, ORB)):
        command(None, state=state, json=False)
        assert text in capsys.readouterr().out
    report(out=tmp_path / "r.html", state=state)
    assert "Nothing can be judged" in (tmp_path / "r.html").read_text()
    export(out=tmp_path / "csv", form="csv", state=state)
    assert len((tmp_path / "csv" / "trades.csv").read_text().splitlines()) == 1
    with pytest.raises(typer.Exit) as end:
        readiness(None, check=True, state=state, json=True)
    assert end.value.exit_code == EXIT_NOT_READY


def test_without_derived_rows_figures_of_sessions_are_unknown_and_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = make_books(tmp_path / "state", sessions=6, derived=False)
    with read.reading(state) as db:
        seen = reporting.performance(db)["performance"][0]["figures"]
        assert (seen["trades"], seen["sharpe"], seen["max_drawdown"], seen["exposure"]) == (9, None, None, None)
        told = reporting_page.page(db)
    assert "oracle recompute" in told["incomplete"]
    performance(None, state=state, json=False)
    assert "oracle recompute" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------ commands


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_tables_fit_a_hundred_columns_and_a_pipe_has_no_colour(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for show in (
        lambda: performance(None, state=state, json=False), lambda: performance(ORB, state=state, json=False),
        lambda: readiness(None, state=state, json=False), lambda: readiness(CONDOR, state=state, json=False),
        lambda: criteria(None, state=state, json=False), lambda: performance(None, "2026-01", state=state, json=False),
    ):  # fmt: skip
        show()
        shown = lines(capsys)
        assert shown
        assert max(map(len, shown)) <= WIDTH, [line for line in shown if len(line) > WIDTH]
        assert not any("\x1b" in line or "…" in line for line in shown)


def test_json_of_the_commands_is_what_the_functions_tell(
    state: Path, db: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    performance(None, "2026-01", state=state, json=True)
    assert orjson.loads(capsys.readouterr().out) == reporting.performance(db, month="2026-01")
    readiness(None, state=state, json=True)
    told = orjson.loads(capsys.readouterr().out)["readiness"]
    assert told == orjson.loads(orjson.dumps(reporting.readiness(db)))


def test_readiness_check_is_an_exit_code(state: Path) -> None:
    with pytest.raises(typer.Exit) as end:
        readiness(None, check=True, state=state, json=True)
    assert end.value.exit_code == EXIT_NOT_READY


@pytest.mark.parametrize(
    ("index", "line"),
    [([], ""), ([1.0], ""), ([1.0, 1.0, 1.0], "▄▄▄"), ([1.0, 2.0], "▁█"), ([2.0, 1.0, 1.5], "█▁▅")],
)
def test_sparklines(index: list[float], line: str) -> None:
    assert sparkline(index, 16) == line


def test_a_sparkline_ends_where_the_curve_does() -> None:
    assert sparkline([1.0] * 99 + [2.0], 15)[-1] == "█"
    assert len(sparkline([float(i) for i in range(1_000)], 15)) == 15


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"out": Path("x.pdf")}, "does not end in .html"), ({"out": Path("/no/such/folder/x.html")}, "make it first"),
        ({"out": Path("x.html"), "month": "2026-01", "everything": True}, "give one of the two"),
    ],
)  # fmt: skip
def test_what_a_report_cannot_be_is_named(state: Path, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        report(state=state, **arguments)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_report_that_cannot_be_written_is_named(state: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        report(out=tmp_path / "x.html", state=state)


def test_a_report_replaces_the_old_one_whole(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    out.write_text("old")
    report(out=out, state=state)
    assert out.read_text().startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("sharpe=1.4", "1.4 is looser than 1.5"), ("max_drawdown=0.2", "0.2 is looser than 0.1"),
        ("nothing=1", "names no criterion"), ("sharpe", "names no criterion"), ("sharpe=much", "is not a number"),
        ("sharpe=nan", "is not a number"), ("win_rate=0.995", "nothing can meet"),
    ],
)  # fmt: skip
def test_a_looser_criterion_is_refused_with_the_reason(state: Path, change: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        criteria(ORB, [change], state=state)


def test_a_stricter_criterion_needs_the_daemon(state: Path) -> None:
    with pytest.raises(RemoteError, match="through the daemon"):
        criteria(ORB, ["sharpe=2"], state=state)


def test_criteria_show_what_was_made_stricter(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "state"
    copy.mkdir(mode=0o700)
    with sqlite3.connect(copy / "oracle.db") as made, sqlite3.connect(state / "oracle.db") as source:
        source.backup(made)
        made.execute(
            "INSERT INTO strategy_criteria (strategy, criterion, value, who, why, at_ns, log_id, turn_seq, recorded_ns)"
            " VALUES (?, 'sharpe', 2.0, 'bob', '', 1, 1, 1, 1)", (ORB,),
        )  # fmt: skip
    made.close()
    source.close()
    criteria(ORB, state=copy)
    out = capsys.readouterr().out
    assert "*≥ 2.00" in out
    assert "made stricter by an operator" in out
    with pytest.raises(ConfigurationError, match=r"1\.8 is looser than 2"):
        criteria(ORB, ["sharpe=1.8"], state=copy)
    with pytest.raises(ConfigurationError, match="there is no strategy 'nope'"):
        criteria("nope", state=copy)

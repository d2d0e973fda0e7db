"""Bad input: one clear line that names the field and the fix, an exit code that means something, nothing lost."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from oracle.core.errors import ConfigurationError
from oracle.exchange_process import ExchangeProcess
from oracle.store.journal import JournalReader
from oracle.store.state import prepare_folder
from tests.end_to_end.commands import ORACLE, oracle

pytestmark = pytest.mark.timeout(180)
UNAVAILABLE, IO, CONFIG = 69, 74, 78
NOBODY = 65534


def one_line(done: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    """The command ended with the code and said one line with these words, without a traceback."""
    assert done.returncode == code, (done.returncode, done.stderr[-800:])
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("oracle: ")
    for word in words:
        assert word in lines[0], lines[0]
    assert "Traceback" not in done.stderr


class Listening:
    """An exchange of its own process, held still until somebody paces it."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*ORACLE, "exchange", "--port", "0", "--hold", "--json", "--until-stdin-closes", *arguments],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def listening(clean_environment: dict[str, str]) -> Iterator[Listening]:
    exchange = Listening(clean_environment)
    yield exchange
    exchange.close()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("risk.trade_loss_fraction=0.05", ("risk.trade_loss_fraction", "0.05", "ceiling 0.02", "only tighten")),
        ("risk.no_such_rule=1", ("risk.no_such_rule", "no setting has this name", "drawdown_fraction")),
        ("nonsense=1", ("nonsense", "no setting has this name", "strategies")),
        ("strategies.no_such={}", ("strategies.no_such", "opening_range_breakout")),
        ("strategies.opening_range_breakout.range_minutes=1", ("opening_range_breakout.range_minutes", "5")),
        ("strategies.opening_range_breakout.window=1", ("opening_range_breakout.window", "docs/strategies.md")),
        ("console.port=99999", ("console.port", "65535")),
        ("risk", ("--set", "name=value")),
    ],
)
def test_settings(
    setting: str, words: tuple[str, ...], tmp_path: Path, listening: Listening, clean_environment: dict[str, str]
) -> None:
    arguments = ["run", "--state", str(tmp_path / "s"), "--set", f"sim.url={listening.url}", "--set", setting]
    one_line(oracle(*arguments, env=clean_environment), CONFIG, *words)


def test_a_file_that_is_not_toml_and_a_mistyped_variable(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("mode = sim\n")
    one_line(oracle("run", "--config", str(bad), env=clean_environment), CONFIG, "--config", "bad.toml", "line 1")
    missing = tmp_path / "missing.toml"
    one_line(oracle("run", "--config", str(missing), env=clean_environment), CONFIG, "--config", "missing.toml")
    env = {**clean_environment, "ORACLE_RISKS__CONSECUTIVE_LOSSES": "2"}
    one_line(oracle("run", env=env), CONFIG, "risks", "no setting has this name")


def test_wrong_key_and_wrong_url(tmp_path: Path, listening: Listening, clean_environment: dict[str, str]) -> None:
    state = ["run", "--state", str(tmp_path / "s")]
    env = {**clean_environment, "ORACLE_SIM__KEY": "not-the-key-at-all"}
    done = oracle(*state, "--set", f"sim.url={listening.url}", env=env)
    one_line(done, CONFIG, "sim.key", "refused", "check key and secret")
    assert "not-the-key-at-all" not in done.stderr
    done = oracle(*state, "--set", "sim.url=http://127.0.0.1:9", env=clean_environment)
    one_line(done, CONFIG, "sim.url", "127.0.0.1:9", "oracle exchange")
    one_line(oracle(*state, "--mode", "paper", env=clean_environment), CONFIG, "alpaca.key", "ORACLE_ALPACA__KEY")
    assert not (tmp_path / "s" / "journal").exists()


def test_paper_with_a_wrong_key_or_address_says_so_and_ends(
    tmp_path: Path, listening: Listening, clean_environment: dict[str, str]
) -> None:
    paper = ["run", "--mode", "paper", "--state", str(tmp_path / "s")]
    env = {**clean_environment, "ORACLE_ALPACA__KEY": "WRONG-KEY-0123", "ORACLE_ALPACA__SECRET": "wrong-secret-0123"}
    here = [f"alpaca.{name}={listening.url}" for name in ("trading_url", "data_url")]
    here.append(f"alpaca.stream_url=ws{listening.url.removeprefix('http')}")
    done = oracle(*paper, *(part for value in here for part in ("--set", value)), env=env)
    one_line(done, CONFIG, "alpaca.key", "refuses")
    assert "wrong-secret-0123" not in done.stderr
    done = oracle(*paper, "--set", "alpaca.trading_url=http://127.0.0.1:9", env=env)
    one_line(done, UNAVAILABLE, "alpaca.trading_url", "127.0.0.1:9")


def test_state_folder_that_cannot_be_used(
    tmp_path: Path, listening: Listening, clean_environment: dict[str, str]
) -> None:
    url = ["--set", f"sim.url={listening.url}"]
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    done = oracle("run", "--state", str(in_the_way / "s"), *url, env=clean_environment)
    one_line(done, CONFIG, "state", "cannot be used", "choose a folder")
    assert in_the_way.read_text() == "not a folder"
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    (other / "oracle.db").write_bytes(b"this is not a database, it is somebody's letter" * 100)
    done = oracle("run", "--state", str(other), *url, env=clean_environment)
    assert done.returncode in (CONFIG, IO)
    one_line(done, done.returncode, "oracle.db")
    assert (other / "oracle.db").read_bytes().startswith(b"this is not a database")
    done = oracle("status", "--state", str(tmp_path / "nowhere"), env=clean_environment)
    one_line(done, CONFIG, "state", "does not exist")


def test_unreadable_state_folder() -> None:
    """Another user's private folder. Root reads everything, so the child that tries gives its rights up first."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        closed = Path(parent) / "closed"
        closed.mkdir(mode=0o700 if os.geteuid() == 0 else 0o000)
        inlet, outlet = os.pipe()
        child = os.fork()
        if child == 0:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            try:
                prepare_folder(closed)
                os.write(outlet, b"it was accepted")
            except ConfigurationError as error:
                os.write(outlet, str(error).encode())
            finally:
                os._exit(0)
        os.close(outlet)
        with os.fdopen(inlet) as told:
            said = told.read()
        os.waitpid(child, 0)
    assert said.startswith("state: ")
    assert f"{closed} cannot be used (Permission denied); choose a folder" in said


def test_a_database_from_a_newer_version(
    tmp_path: Path, listening: Listening, clean_environment: dict[str, str]
) -> None:
    from oracle.store.sqlite import Store

    state = tmp_path / "s"

    async def make() -> None:
        await (await Store.open(state, "sim", 1)).close()

    asyncio.run(make())
    with sqlite3.connect(state / "oracle.db") as db:
        db.execute("PRAGMA user_version = 9999")
    db.close()
    done = oracle("run", "--state", str(state), "--set", f"sim.url={listening.url}", env=clean_environment)
    one_line(done, CONFIG, "oracle.db", "9999", "newer")
    with sqlite3.connect(state / "oracle.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (9999,)
    db.close()


def wait_for(condition: "object", what: str, seconds: float = 60) -> None:
    """Wait for another process, which no virtual clock governs."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.05)


def start(env: dict[str, str], state: Path, url: str) -> "subprocess.Popen[str]":
    """Start a daemon with a small universe and wait until it trades time."""
    arguments = ["run", "--state", str(state), "--set", f"sim.url={url}", "--set", "console.port=0"]
    arguments += ["--set", "strategies.opening_range_breakout.universe=['SPY']", "--set", "sim.speed=200"]
    daemon = subprocess.Popen(
        [sys.executable, "-m", "oracle", *arguments],
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: daemon.poll() is not None or any(state.glob("journal/*.oj")), "the start")
    return daemon


@pytest.mark.slow
def test_two_daemons_on_one_folder_and_an_exchange_that_vanishes(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    exchange = Listening(clean_environment)
    state = tmp_path / "s"
    daemon = start(clean_environment, state, exchange.url)
    try:
        second = oracle("run", "--state", str(state), "--set", f"sim.url={exchange.url}", env=clean_environment)
        one_line(second, CONFIG, "state", f"in use by process {daemon.pid}")
        elsewhere = ["run", "--state", str(tmp_path / "other"), "--set", f"sim.url={exchange.url}"]
        one_line(oracle(*elsewhere, env=clean_environment), CONFIG, "sim.url", "already connected", "other daemon")
        journal = next(state.glob("journal/*.oj"))
        wait_for(lambda: journal.stat().st_size > 3_000_000, "some trading time")
        exchange.process.send_signal(signal.SIGKILL)
        _, errors = daemon.communicate(timeout=60)
    finally:
        daemon.kill()
        daemon.communicate()
        exchange.close()
    assert daemon.returncode == UNAVAILABLE, errors[-2000:]
    last = [line for line in errors.splitlines() if line.startswith("oracle: ")]
    assert len(last) == 1
    assert "the exchange went away" in last[0]
    assert "Traceback" not in errors
    reader = JournalReader(journal)
    assert sum(1 for _ in reader) > 1000
    assert reader.complete
    shown = oracle("status", "--json", "--state", str(state), env=clean_environment)
    assert json.loads(shown.stdout)["equity"]["equity_usd"] == "100000"


def test_an_exchange_that_cannot_start_says_why(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    done = oracle("demo", "--date", "2026-01-03", "--state", str(tmp_path / "s"), env=clean_environment)
    one_line(done, CONFIG, "--date", "closed on 2026-01-03", "choose a trading day")
    done = oracle(
        "demo", "--source", str(tmp_path), "--underlying", "GOOG", "--date", "2015-12-24", env=clean_environment
    )
    one_line(done, CONFIG, "GOOG")
    done = oracle("demo", "--source", str(tmp_path), env=clean_environment)
    one_line(done, CONFIG, "--underlying")
    done = oracle("exchange", "--cash", "lots", env=clean_environment)
    one_line(done, CONFIG, "--cash")
    done = oracle("exchange", "--fee-per-contract", "lots", env=clean_environment)
    one_line(done, CONFIG, "--fee-per-contract")


def test_the_exchange_ends_with_its_parent() -> None:
    async def main() -> int:
        async with ExchangeProcess(["--port", "0", "--hold"]) as exchange:
            return exchange.pid

    pid = asyncio.run(main())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

"""The systemd unit: valid, hardened, and in step with what the daemon reads. The booted check is scripts/systemd."""

import asyncio
import configparser
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from oracle.__main__ import EXIT_CONFIG
from oracle.config import CREDENTIALS, load
from oracle.daemon import DRAIN_TIMEOUT_S
from oracle.exchange_process import ExchangeProcess
from oracle.monitor import FEED_STUCK_AFTER_S, START_GRACE_S, STUCK_AFTER_S
from oracle.notify import EVERY_S
from oracle.statistician import DRAIN_S
from oracle.worker import END_TIMEOUT_S

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "systemd" / "oracle.service"
PROGRAM = "/opt/trade-oracle/.venv/bin/oracle"
# systemd-analyze counts tenths: 1.2 of 10. What is left is the network and the root directory.
MOST_EXPOSURE = "12"


def analyze() -> str:
    """``systemd-analyze``, or a skip that says so."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("SYSTEMD MISSING: systemd-analyze is not installed; the unit is not checked")
    return found


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    """Every directive with its values, in order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, equals, text = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(text)
    return found


def test_the_unit_is_valid(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    # The command must exist on the machine that checks.
    copy.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))
    done = subprocess.run([analyze(), "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_unit_is_hardened() -> None:
    command = [analyze(), "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LANG": "C.UTF-8"})
    assert done.returncode == 0, done.stdout[-300:]


def test_the_sections_are_systemds() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(UNIT.read_text())
    assert parser.sections() == ["Unit", "Service", "Install"]


def test_it_is_restarted_without_a_limit_but_not_for_wrong_settings(unit: dict[str, list[str]]) -> None:
    assert unit["StartLimitIntervalSec"] == ["0"]
    assert unit["Restart"] == ["on-failure"]
    assert str(EXIT_CONFIG) in unit["RestartPreventExitStatus"][0].split()


def test_the_waits_fit_the_daemons_own(unit: dict[str, list[str]]) -> None:
    watchdog_s = float(unit["WatchdogSec"][0])
    # Two datagrams may be late; a stuck part is found before the manager's patience has ended.
    assert watchdog_s >= 3 * EVERY_S
    assert watchdog_s >= FEED_STUCK_AFTER_S > STUCK_AFTER_S
    assert float(unit["TimeoutStartSec"][0]) > START_GRACE_S
    # The drain, then one limit for statistics and reports together, then the end of their process.
    assert float(unit["TimeoutStopSec"][0]) >= DRAIN_TIMEOUT_S + DRAIN_S + END_TIMEOUT_S + 10


def test_the_credentials_are_those_that_the_daemon_reads(unit: dict[str, list[str]]) -> None:
    assert {line.partition(":")[0] for line in unit["LoadCredential"]} == set(CREDENTIALS)


def test_the_environment_is_settings_that_exist(unit: dict[str, list[str]]) -> None:
    pairs = dict(pair.split("=", 1) for line in unit["Environment"] for pair in line.split())
    config = load(environment={name: text for name, text in pairs.items() if name.startswith("ORACLE_")})
    assert config.logs.sd_prefix
    assert config.logs.colour is False


def test_a_large_host_brings_no_thread_a_core(unit: dict[str, list[str]]) -> None:
    """With TasksMax below a host's cores numpy could not be imported."""
    pairs = dict(pair.split("=", 1) for line in unit["Environment"] for pair in line.split())
    count = "import numpy, os; print(len(os.listdir('/proc/self/task')))"
    environment = {name: text for name, text in pairs.items() if name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", count], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1
    assert environment.keys() == {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}


def test_what_would_break_the_daemon_is_not_in_it(unit: dict[str, list[str]]) -> None:
    assert unit["ProcSubset"] == ["all"]  # pid takes the process_* metrics away
    assert "AF_UNIX" in unit["RestrictAddressFamilies"][0].split()
    assert unit["SystemCallErrorNumber"] == ["EPERM"]
    assert unit["LogRateLimitIntervalSec"] == ["0"]
    assert unit["SyslogIdentifier"] == ["oracle"]
    assert unit["LimitCORE"] == ["0"]
    assert (unit["Type"], unit["NotifyAccess"]) == (["notify"], ["main"])
    assert unit["ExecStart"][0].startswith(f"{PROGRAM} run ")


def test_the_process_beside_the_daemon_can_neither_stop_it_nor_slow_it_down(unit: dict[str, list[str]]) -> None:
    assert unit["OOMPolicy"] == ["continue"]
    # In their order: what is allowed, what is taken from it, what is given back.
    assert unit["SystemCallFilter"] == ["@system-service", "~@privileged @resources", "setpriority"]


@pytest.mark.slow
async def test_a_real_daemon_says_ready_shows_life_and_says_that_it_stops(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    """The protocol end to end, without systemd: that systemd acts on it is what scripts/systemd shows."""
    address, loop = str(tmp_path / "notify"), asyncio.get_running_loop()
    heard: list[str] = []

    async def until(line: str) -> None:
        while line not in heard:
            heard.extend((await loop.sock_recv(manager, 4096)).decode().splitlines())

    environment = {**clean_environment, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        manager.bind(address)
        async with ExchangeProcess(("--hold", "--port", "0", "--seed", "2"), clean_environment) as exchange:
            daemon = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "oracle", "run", "--state", str(tmp_path / "state"),
                "--set", f"sim.url={exchange.url}", "--set", "sim.speed=1", "--set", "console.port=0",
                env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                await until("READY=1")
                status = [line for line in heard if line.startswith("STATUS=")][-1]
                assert status.startswith("STATUS=sim, ready; feeds: stock live, option live, trading live;")
                assert "STOPPING=1" not in heard
                heard.clear()
                await until("WATCHDOG=1")
                assert "READY=1" not in heard
                daemon.terminate()
                await until("STOPPING=1")
                assert await daemon.wait() == 0
            finally:
                if daemon.returncode is None:
                    daemon.kill()
                    await daemon.wait()

"""The exchange as a child process: its mistakes are told in one line, and it never outlives its parent."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from oracle.core.errors import ConfigurationError, RemoteError
from oracle.exchange_process import ExchangeProcess

GONE_S = 15

PARENT = """
import asyncio
from oracle.exchange_process import ExchangeProcess

async def main():
    async with ExchangeProcess(["--hold", "--port", "0"]) as exchange:
        print(exchange.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, clean_environment: dict[str, str]) -> None:
    """Children inherit our environment: it must hold no settings."""
    import os

    for name in set(os.environ) - set(clean_environment):
        monkeypatch.delenv(name)


async def refused(*arguments: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as found:
        async with asyncio.timeout(30), ExchangeProcess(arguments):
            raise AssertionError("it started")
    return found.value


@pytest.mark.parametrize(
    ("date", "problem"),
    [
        ("tomorrow", "'tomorrow' is not a date"),
        ("2026-01-04", "NYSE is closed on 2026-01-04"),
        ("20260104", "NYSE is closed on 2026-01-04"),
        ("0001-01-01", "no NYSE calendar"),
        ("9999-12-31", "no NYSE calendar"),
    ],
)
async def test_a_bad_date_is_one_line_that_names_the_option(date: str, problem: str) -> None:
    error = await refused("--port", "0", "--date", date)
    assert error.field in ("--date", "date")
    assert error.problem.startswith(problem)
    assert error.fix
    assert "\n" not in str(error)


async def test_a_taken_port_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        error = await refused("--port", str(taken.getsockname()[1]))
    assert (error.field, error.fix) == ("--port", "choose another")
    assert "cannot be bound" in error.problem


async def test_a_wrong_use_of_the_command_is_the_callers_fault() -> None:
    with pytest.raises(RemoteError, match=r"ended with code 2"):
        async with ExchangeProcess(["--no-such-option"]):
            raise AssertionError("it started")


async def test_it_starts_answers_and_ends_with_its_block() -> None:
    exchange = ExchangeProcess(["--hold", "--port", "0"])
    with pytest.raises(RemoteError, match="not started"):
        _ = exchange.pid
    async with exchange:
        child = psutil.Process(exchange.pid)
        host, _, port = exchange.url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        await writer.wait_closed()
        assert child.is_running()
    assert not child.is_running()


async def test_a_parent_that_is_killed_takes_the_exchange_with_it(clean_environment: dict[str, str]) -> None:
    root = Path(__file__).resolve().parents[2]  # noqa: ASYNC240
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE, env=clean_environment, cwd=root
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    try:
        await asyncio.to_thread(child.wait, GONE_S)
    finally:
        if child.is_running():
            child.kill()

"""A killed and restarted day is decided again from its journals, and a changed byte in them is told by its number.

One half-day on one symbol: the first daemon is killed with its entry at the broker, the second trades to the close.
"""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from oracle.exchange_process import ExchangeProcess
from oracle.replay import segments
from tests.end_to_end.commands import oracle
from tests.end_to_end.daemons import EXCHANGE, event, run_daemon
from tests.unit.test_journal import kinds, mended

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", name="state")
def killed_and_restarted(tmp_path_factory: pytest.TempPathFactory, clean_environment: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("replay") / "state"

    async def play() -> None:
        async with ExchangeProcess(EXCHANGE) as exchange:
            at_work = event("order_advanced", to_state="accepted")
            code, _ = await run_daemon(exchange.url, folder, clean_environment, at_work)
            assert code == -signal.SIGKILL
            code, lines = await run_daemon(exchange.url, folder, clean_environment, lambda _line: False)
            assert code == 0, lines[-3:]

    asyncio.run(play())
    return folder


def check(*arguments: str, env: dict[str, str]) -> tuple[int, dict[str, Any]]:
    done = oracle("replay", *arguments, "--check", "--json", env=env)
    assert done.returncode in (0, 1, 65), done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_both_segments_are_decided_again(state: Path, clean_environment: dict[str, str], hash_seed: str) -> None:
    code, found = check("2026-11-27", "--state", str(state), env={**clean_environment, "PYTHONHASHSEED": hash_seed})
    first, last = found["segments"]
    assert code == 0, (first, last)
    assert (first["verdict"], last["verdict"]) == ("cut", "clean")
    for one in (first, last):
        assert one["difference"] is None
        assert one["notes"] == []
        assert one["compared"] == one["inputs"] > 1_000
        assert one["outputs"] > 0
    assert (first["closed"], last["closed"]) == (False, True)


def test_a_changed_byte_is_told_by_its_input(state: Path, tmp_path: Path, clean_environment: dict[str, str]) -> None:
    whole = segments(str(state), state)[-1].read_bytes()
    inputs = [(start, end) for start, end, kind in kinds(whole) if kind == 1]
    path = tmp_path / "changed.oj"
    for seq, mend in ((len(inputs) // 2, False), (len(inputs) // 2, True), (len(inputs) - 5, True)):
        start, end = inputs[seq - 1]
        changed = whole[: end - 2] + bytes([whole[end - 2] ^ 0x10]) + whole[end - 1 :]
        path.write_bytes(mended(whole, end - 2, start, end) if mend else changed)
        code, found = check(str(path), env=clean_environment)
        (one,) = found["segments"]
        assert code == 65
        assert (one["verdict"], one["damage"]["seq"]) == ("damaged", seq)

"""The same plan and seed twice: the same inputs and the same decisions, byte for byte, whatever the faults."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oracle.app import run
from oracle.exchange_process import ExchangeProcess
from tests.simulation.rehearsal import Rehearsal, config_for, read, rehearse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(110)]
PLANS: dict[str, list[dict[str, Any]]] = {
    "cut": [{"kind": "cut", "on": ["stock", "option", "trade"], "count": 3, "probability": 0.02, "from": "09:31"}],
    "mute": [{"kind": "mute", "on": ["stock", "option"], "count": 1, "from": "09:36:50"}],
    "delay": [
        {"kind": "delay", "on": ["stock", "option"], "seconds": 6, "from": "09:35", "until": "09:38"},
        {"kind": "delay", "on": ["trade"], "seconds": 3, "probability": 0.5},
    ],
    "bars": [{"kind": "drop", "on": ["stock"], "messages": ["bars"], "probability": 0.3, "from": "09:31"}],
    "504": [
        {"kind": "lose_reply", "on": ["submit"]},
        {"kind": "refuse_request", "on": ["account", "positions", "orders"], "reply": 503, "probability": 0.2},
    ],
}


async def play(folder: Path, plan: list[dict[str, Any]]) -> Rehearsal:
    """A session with an entry at 09:37."""
    faults = [{"until": "09:43", **fault} for fault in plan]
    return await rehearse(folder / "state", faults, seed=4, until="09:44")


@pytest.mark.parametrize("name", PLANS)
async def test_the_same_faults_make_the_same_day(tmp_path: Path, name: str) -> None:
    first, second = await play(tmp_path / "a", PLANS[name]), await play(tmp_path / "b", PLANS[name])
    first.check_books()
    assert first.records["faults"] == second.records["faults"]
    assert all(row["injected"] > 0 for row in first.records["faults"]["faults"])
    assert first.result.inputs_sha256 == second.result.inputs_sha256
    assert first.result.decisions_sha256 == second.result.decisions_sha256


EVERYTHING = """
seed = 3
fault = [
  { kind = "cut", on = ["stock", "option", "trade"], probability = 0.01, count = 6, from = "09:31" },
  { kind = "mute", on = ["stock", "option"], count = 1, from = "09:38" },
  { kind = "delay", seconds = 4, probability = 0.3, from = "09:33", until = "09:37" },
  { kind = "lose_reply", on = ["submit", "cancel"] },
  { kind = "garbage", probability = 0.02 },
  { kind = "drop", on = ["stock"], messages = ["bars"], probability = 0.3 },
  { kind = "oversize", on = ["stock", "option", "trade"], probability = 0.004, count = 1 },
  { kind = "error", code = 407, probability = 0.005, on = ["stock", "option", "trade"], count = 2 },
]
"""


LEFT_OUT = """
seed = 5
fault = [
  { kind = "drop", on = ["stock"], messages = ["bars"], symbols = ["QQQ"], probability = 0.5 },
  { kind = "drop", on = ["stock"], messages = ["bars"], symbols = ["SPY"], probability = 0.1 },
  { kind = "batch", on = ["stock"], messages = ["quotes"], seconds = 3 },
  { kind = "reorder", on = ["stock"], probability = 0.5 },
]
"""


@pytest.mark.parametrize(
    ("text", "universe"), [(EVERYTHING, ["SPY"]), (LEFT_OUT, ["QQQ", "SPY"])], ids=["everything", "bars_left_out"]
)
async def test_with_the_exchange_in_a_process_of_its_own(tmp_path: Path, text: str, universe: list[str]) -> None:
    """Here the races are real: two processes, three streams, cuts in any second, archives asked in between."""
    plan = tmp_path / "plan.toml"
    plan.write_text(text)
    arguments = ["--port", "0", "--hold", "--seed", "4", "--until", "09:42", "--faults", str(plan)]
    keys = {"ORACLE_SIM__KEY": "SIMKEY", "ORACLE_SIM__SECRET": "SIMSECRET"}
    hashes, faults = set(), []
    for name in ("a", "b"):
        async with ExchangeProcess(arguments, keys) as exchange:
            result = await run(config_for(exchange.url, universe=universe), tmp_path / name, token="twice")
            faults.append((await read(exchange.url))["faults"])
        hashes.add((result.inputs_sha256, result.decisions_sha256))
        assert result.tally.differences == ()
    assert faults[0] == faults[1]
    struck = sum(row["injected"] > 0 for row in faults[0]["faults"])
    assert struck >= min(6, len(faults[0]["faults"])), faults[0]
    assert len(hashes) == 1
    for seed in ("0", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-m", "oracle", "replay", str(tmp_path / "a"), "--check", "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: ASYNC221
        assert done.returncode == 0, done.stdout + done.stderr

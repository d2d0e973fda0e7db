"""Run the real command as a user would, and drive a whole session with the exchange still at hand afterwards."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ORACLE = [sys.executable, "-m", "oracle"]


def oracle(
    *arguments: str, env: dict[str, str], cwd: Path | None = None, timeout_s: float = 240
) -> "subprocess.CompletedProcess[str]":
    """Run ``oracle`` to its end; standard input is empty."""
    return subprocess.run(
        [*ORACLE, *arguments],
        env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def demo_json(*arguments: str, env: dict[str, str]) -> dict[str, Any]:
    """Run ``oracle demo --json`` and read what it printed."""
    done = oracle("demo", *arguments, *(() if "--json" in arguments else ("--json",)), env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def settings(strategy: str, values: Sequence[str]) -> list[str]:
    """``--set`` arguments for a strategy's parameters."""
    return [part for value in values for part in ("--set", f"strategies.{strategy}.{value}")]

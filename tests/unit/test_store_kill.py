"""SIGKILL at seeded moments of writing trades and what is derived from them: nothing is ever half there."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from oracle import recompute
from oracle.store import read
from oracle.store.performance import TABLES
from oracle.store.sqlite import Store
from tests.unit.store_victim import TRADES
from tests.unit.track_made import Maker, dump, write

KILLS = 8
# From the first commit to the last refresh takes about a second; a kill can strike anywhere in it.
LATEST_S = 0.8


def killed(folder: Path, seed: int, after_s: float) -> bool:
    """Start a victim and kill it so long after it has opened its books; whether it was killed before its end."""
    command = [sys.executable, "-m", "tests.unit.store_victim", str(folder), str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": "0"})
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


async def test_no_kill_leaves_fills_and_derived_rows_apart(tmp_path: Path) -> None:
    rng, folder, struck = random.Random(5), tmp_path / "state", 0
    for _ in range(KILLS):
        struck += killed(folder, 3, rng.uniform(0.02, LATEST_S))
        found = recompute.check(folder)
        assert found.faults == []
    assert struck > KILLS / 2
    while killed(folder, 3, 60.0):
        pass
    done = recompute.check(folder)
    assert (done.faults, set(done.behind.values())) == ([], {0})
    whole = await Store.open(tmp_path / "whole", "sim", 1, token="tok", feed="opra")
    await whole._call(write, Maker(3).turns(TRADES))
    await whole.close()
    with read.reading(tmp_path / "whole") as db, read.reading(folder) as mine:
        for table in ("fills", "trades", "orders", "equity_snapshots"):
            ours = [tuple(row) for row in mine.execute(f"SELECT log_id, * FROM {table} ORDER BY 1")]
            theirs = [tuple(row) for row in db.execute(f"SELECT log_id, * FROM {table} ORDER BY 1")]
            assert [row[:2] for row in ours] == [row[:2] for row in theirs]
        counts = "SELECT strategy, month, trades, net_pnl_micros, streak FROM strategy_performance ORDER BY 1, 2"
        assert [tuple(r) for r in mine.execute(counts)] == [
            tuple(r) for r in db.execute(counts.replace("strategy_performance", "performance_counts"))
        ]
        assert len(dump(mine, TABLES)["trade_extremes"]) >= TRADES

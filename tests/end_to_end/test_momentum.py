"""Two strategies on one market: the declared momentum entry is traded, scaled out, and the books agree."""

import sqlite3
from pathlib import Path

import pytest

from tests.end_to_end.commands import demo_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SEED = "2"  # its momentum entry goes on to both targets


@pytest.mark.long
def test_a_declared_momentum_entry_is_scaled_out_beside_the_breakouts(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    state = tmp_path / "state"
    both = ("strategies.momentum_scalping={}", "strategies.opening_range_breakout.universe=['QQQ']")
    chosen = [word for setting in both for word in ("--set", setting)]
    found = demo_json("--seed", SEED, "--momentum", "--state", str(state), *chosen, env=clean_environment)
    assert found["differences"] == []
    (told,) = [row for row in found["declared"] if row["kind"] == "momentum_scalping"]
    with sqlite3.connect(f"file:{state / 'oracle.db'}?mode=ro", uri=True) as db:
        trades = db.execute(
            "SELECT t.trade_id, t.underlying, t.contracts, t.exit_rule, t.exit_phase, t.opened_ns FROM trades t"
            " WHERE t.strategy = 'momentum_scalping'"
        ).fetchall()
        ((trade_id, underlying, contracts, rule, phase, opened_ns),) = trades
        sold = db.execute(
            "SELECT contracts, reason FROM orders WHERE trade_id = ? AND purpose = 'target' ORDER BY log_id",
            (trade_id,),
        ).fetchall()
        others = db.execute("SELECT count(*) FROM trades WHERE strategy = 'opening_range_breakout'").fetchone()[0]
    db.close()
    assert underlying == told["symbol"]
    assert 0 <= opened_ns - told["at_ns"] < 60 * 10**9
    assert (rule, phase) == ("target", "scaled_out")
    assert sold[0][0] == contracts // 2
    assert sold[0][1].startswith("scale_out")
    assert sum(row[0] for row in sold) >= contracts
    assert others == 1

"""``oracle backtest``: whole runs by the command, on real minutes and on made ones, and beside the sockets."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
REAL = ("--from", "2013-10-04", "--to", "2013-10-10")
ORB = [
    "--strategy", "opening_range_breakout", "--set", "strategies.opening_range_breakout.volume_mode=trailing",
    "--set", "strategies.opening_range_breakout.warmup_bars=15",
    "--set", "strategies.opening_range_breakout.min_relative_volume=0.5",
]  # fmt: skip
MOMENTUM = ["--strategy", "momentum_scalping"]


def backtest(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORACLE_")} | {"PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-m", "oracle", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=110, check=False,
    )  # fmt: skip


def command(data: Path, state: Path, *more: str) -> list[str]:
    return ["backtest", "--data", str(data), *REAL, *more, "--state", str(state), "--json"]


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(240)
def test_the_real_minutes_with_both_strategies_run_labelled_and_repeat(real_data: Path, tmp_path: Path) -> None:
    first = backtest(*command(real_data, tmp_path / "a", *ORB, *MOMENTUM), hash_seed="0")
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    told: dict[str, Any] = json.loads(first.stdout)
    assert told["sessions"] == 5
    assert told["bars"] == 1950
    assert told["trades"] >= 2
    assert told["differences"] == []
    assert "modelled options" in told["labels"]
    assert "realized_pnl" in told["modelled_options"]
    assert "no bars at all of QQQ" in told["lacking"]
    assert {row["strategy"] for row in told["reasons"]} == {"opening_range_breakout", "momentum_scalping"}
    again = backtest(*command(real_data, tmp_path / "b", *ORB, *MOMENTUM), hash_seed="4242")
    assert again.stdout == first.stdout
    listed = backtest("trades", "--state", str(tmp_path / "a"), "--json")
    assert len(json.loads(listed.stdout)) == told["trades"]
    assert json.loads(backtest("status", "--state", str(tmp_path / "a"), "--json").stdout)["mode"] == "backtest"


@pytest.mark.real_data
def test_the_summary_labels_every_figure_that_rests_on_the_model(real_data: Path, tmp_path: Path) -> None:
    days = ("--from", "2013-10-08", "--to", "2013-10-08")
    done = backtest("backtest", "--data", str(real_data), *days, *ORB, "--state", str(tmp_path / "s"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for start in ("realised P&L", "after modelled fees", "equity", "Trades"):
        assert "modelled options" in next(line for line in lines if line.startswith(start))


@pytest.mark.real_data
def test_a_recorded_chain_is_used_where_there_is_one(real_data: Path, tmp_path: Path) -> None:
    done = backtest(
        "backtest", "--data", str(real_data), "--from", "2015-12-24", "--to", "2015-12-24",
        "--state", str(tmp_path / "s"),
        "--json", "--strategy", "opening_range_breakout", "--set", 'universe=["GOOG"]', "--set", "volume_mode=trailing",
        "--set", "warmup_bars=15",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "recorded options" in told["labels"]
    assert "modelled options" not in told["labels"]
    assert told["modelled_options"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--from", "2013-10-04", "--to", "2013-10-01"), 78, "--to: 2013-10-01 is before 2013-10-04"),
        (("--from", "soon", "--to", "2013-10-01"), 78, "--from: 'soon' is not a date"),
        (("--from", "2013-10-04", "--to", "2013-10-04", "--cash", "much"), 78, "--cash: 'much' is not an amount"),
        (("--from", "2013-10-04", "--to", "2013-10-04"), 78, "SPY.csv, line 3, c: -1 is no price"),
        (("--from", "2013-10-04", "--to", "2013-10-04", "--set", "nonsense=1"), 78, "opening_range_breakout.nonsense"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_codes_of_other_commands(
    tmp_path: Path, arguments: tuple[str, ...], code: int, text: str
) -> None:
    rows = "t,o,h,l,c,v\n2013-10-04T13:30:00Z,1,1,1,1,1\n2013-10-04T13:31:00Z,1,1,1,-1,1\n"
    (tmp_path / "SPY.csv").write_text(rows)
    state = tmp_path / "state"
    done = backtest(
        "backtest", "--data", str(tmp_path), *arguments, "--strategy", "opening_range_breakout", "--state", str(state)
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (state / "oracle.db").exists()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.long
def test_in_process_and_over_sockets_give_the_same_orders_and_fills(tmp_path: Path) -> None:
    """A generated half-day: the driver without sockets against the whole demo."""
    from oracle.backtest import Backtest, make_exchange, wire
    from oracle.build import load_strategies
    from oracle.cli.demo import demo_config
    from oracle.markets import build_market
    from oracle.sim.config import ExchangeConfig
    from oracle.store.journal import JournalReader, TurnOutput
    from oracle.store.sqlite import Store
    from tests.bench.backtest_throughput import never_durable

    date, seed = "2026-11-27", 3
    del ExchangeConfig
    demo = backtest("demo", "--date", date, "--seed", str(seed), "--json", "--state", str(tmp_path / "demo"))
    assert demo.returncode == 0, demo.stderr
    sockets = [
        message
        for record in JournalReader(next((tmp_path / "demo" / "journal").glob("*.oj")))
        if isinstance(record, TurnOutput)
        for message in record.messages
    ]

    class Outputs:
        def __init__(self) -> None:
            self.messages: list[Any] = []

        def write_outputs(self, _seq: int, messages: Any) -> None:
            self.messages.extend(messages)

    async def run() -> list[Any]:
        table, source = build_market(seed=seed, date=date, sessions=1, source=None, underlying=None)
        config = demo_config(None, [], None, None, 0.0)
        store = await Store.open(tmp_path / "in_process", "sim", 0, token=f"demo{seed}")
        loaded = await store.load()
        await store.close()
        exchange = make_exchange(config, source, table, Backtest(tmp_path, date, date, seed=seed))
        outputs = Outputs()
        _, driver = wire(
            config, table, loaded, load_strategies(config), exchange, store=None, journal=outputs, observers=(),  # type: ignore[arg-type]
            is_durable=never_durable,
        )  # fmt: skip
        await driver.run()
        return outputs.messages

    in_process = asyncio.run(run())
    kinds = ("SubmitOrder", "SendOrder", "SendCancel", "OrderFilled", "TradeOpened", "TradeClosed", "ExitTriggered")
    for kind in kinds:
        ours = [m for m in in_process if type(m).__name__ == kind]
        theirs = [m for m in sockets if type(m).__name__ == kind]
        assert ours == theirs, kind
    assert any(type(m).__name__ == "OrderFilled" for m in sockets)

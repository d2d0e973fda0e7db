"""Bars a CPU-second of a backtest through the whole path, against the least that any such system must do.

Inputs: a random walk of 200,000 one-minute bars. Outputs: figures and ratios, as text or ``--json``. The path: engine,
strategy, risk gate, desk, exchange in process, ledger, reconcile, with the settings of ``oracle backtest``; outputs are
journalled, SQLite is off. The floor: the same bars made into the same messages and given to three handlers by type.
Everything takes turns, as often, and the best of each counts; beside them, where installed, backtesting.py and basana.
"""

import argparse
import asyncio
import contextlib
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from examples.ema_cross import EmaCross, EmaCrossParams  # noqa: E402
from oracle.backtest import Backtest, make_exchange, wire  # noqa: E402
from oracle.backtest_run import NoStore  # noqa: E402
from oracle.build import build_core  # noqa: E402, F401 - imported here so that no repeat pays for it
from oracle.cli.backtest import ACCOUNT_READ_EVERY_S, ONE_QUOTE_A_MINUTE  # noqa: E402
from oracle.config import load  # noqa: E402
from oracle.core.marketdata import Bar  # noqa: E402
from oracle.core.message import Message  # noqa: E402
from oracle.core.messages import Stamped  # noqa: E402
from oracle.opening import opening_record  # noqa: E402
from oracle.sim.bar_files import Minutes  # noqa: E402
from oracle.store.journal import JournalWriter  # noqa: E402
from oracle.store.loading import Loaded  # noqa: E402
from oracle.store.sqlite import Store  # noqa: E402
from oracle.strategies.registry import code_hash  # noqa: E402
from oracle.tally import Tally  # noqa: E402
from tests.bench.small_market import make_market  # noqa: E402

BARS, REPEATS, LEAST_RATIO = 200_000, 5, 0.25
FAST, SLOW, HOLD_MINUTES = 390, 1950, 5
PEERS = ("backtesting", "basana")
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


class BareBar(msgspec.Struct, frozen=True):
    """A bar without the checks that ours makes of itself."""

    symbol: str
    start_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: int


def columns_of(minutes: Minutes) -> list[list[Any]]:
    """The bars as plain Python columns: start, open, high, low, close, volume."""
    columns = (minutes.start_ns, minutes.open, minutes.high, minutes.low, minutes.close, minutes.volume)
    return [column.tolist() for column in columns]


def floor(columns: Sequence[Sequence[Any]], bare: bool) -> float:
    """CPU seconds to make each bar's message and call three handlers found by its type."""
    seen, averages = [0], [0.0, 0.0]

    def count(bar: Any) -> None:
        seen[0] += 1

    def fast(bar: Any) -> None:
        averages[0] += 0.005 * (bar.close - averages[0])

    def slow(bar: Any) -> None:
        averages[1] += 0.001 * (bar.close - averages[1])

    handlers: dict[type, tuple[Callable[[Any], None], ...]] = {BareBar: (count, fast, slow), Bar: (count, fast, slow)}
    started_s = time.process_time()
    for start_ns, o, h, low, c, v in zip(*columns, strict=True):
        bar = (
            BareBar("SPY", start_ns, o, h, low, c, v)
            if bare
            else Bar("SPY", start_ns, o, h, low, c, v, 0, (h + low + c) / 3)
        )
        for handle in handlers[type(bar)]:
            handle(bar)
    took_s = time.process_time() - started_s
    assert seen[0] == len(columns[0])
    return took_s


class OutputsOnly:
    """The journal without inputs: a backtest's inputs are its files."""

    def __init__(self, writer: JournalWriter) -> None:
        self.write_outputs = writer.write_outputs


def never_durable(_message: Message) -> bool:
    """SQLite is off."""
    return False


def ours(count: int, folder: Path) -> tuple[float, Tally, str]:
    """CPU seconds of one backtest, what it came to, and the hash of its decisions."""
    table, _, source = make_market(count)
    params = EmaCrossParams(fast=FAST, slow=SLOW, hold_minutes=HOLD_MINUTES)
    strategy = EmaCross(params, code_hash(EmaCross, params))
    config = load(
        None,
        (),
        {},
        base={
            "mode": "sim",
            "strategies": {},
            "risk": dict(ONE_QUOTE_A_MINUTE),
            "sim": {"account_read_every_s": ACCOUNT_READ_EVERY_S},
        },
    )
    loaded = asyncio.run(_empty(folder))
    what = Backtest(folder, "", "")
    exchange = make_exchange(config, source, table, what)
    journal = JournalWriter(
        folder / f"{time.time_ns()}.oj", opening_record(config, table, loaded, [strategy], exchange.now_ns)
    )
    _, run = wire(
        config, table, loaded, (strategy,), exchange, store=NoStore(), is_durable=never_durable,
        journal=OutputsOnly(journal), observers=(),
    )  # fmt: skip
    started_s = time.process_time()
    asyncio.run(run.run())
    took_s = time.process_time() - started_s
    digest = journal.decisions_sha256
    journal.close()
    return took_s, read_tally(journal.path), digest


async def _empty(folder: Path) -> Loaded:
    """What a new database holds."""
    store = await Store.open(Path(tempfile.mkdtemp(dir=folder)), "backtest", 0, token="bench")
    try:
        return await store.load()
    finally:
        await store.close()


def read_tally(path: Path) -> Tally:
    """Count what the journal's outputs say, after the clock has stopped."""
    from oracle.core.engine import Turn
    from oracle.core.messages import TimerFired
    from oracle.store.journal import JournalReader, TurnOutput

    tally = Tally()
    for record in JournalReader(path):
        if isinstance(record, TurnOutput):
            tally.on_turn(Turn(Stamped(record.seq, 0, TimerFired("", 0)), record.messages))
    return tally


def measure(count: int = BARS, repeats: int = REPEATS) -> dict[str, Any]:
    """Run floors, backtests and peers in turn and keep the best of each, in bars a CPU-second."""
    _, minutes, _ = make_market(count)
    columns = columns_of(minutes)
    best = {"floor": 0.0, "bare_floor": 0.0, "ours": 0.0}
    digests: set[str] = set()
    tally = Tally()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        peers = [stack.enter_context(peer_at(peer, minutes, folder)) for peer in PEERS]
        for _ in range(repeats):
            best["floor"] = max(best["floor"], count / floor(columns, bare=False))
            best["bare_floor"] = max(best["bare_floor"], count / floor(columns, bare=True))
            took_s, tally, digest = ours(count, folder)
            best["ours"] = max(best["ours"], count / took_s)
            digests.add(digest)
            for peer in peers:
                peer.turn()
    figures = tally.figures()
    return {
        "bars": count,
        "repeats": repeats,
        "bars_per_cpu_s": {key: round(value) for key, value in best.items()},
        "ratio": round(best["ours"] / best["floor"], 4),
        "ratio_to_bare": round(best["ours"] / best["bare_floor"], 4),
        "least_ratio": LEAST_RATIO,
        "met": best["ours"] >= LEAST_RATIO * best["floor"],
        "repeatable": len(digests) == 1,
        "trades": figures["trades"],
        "orders": figures["orders"],
        "fills": figures["fills"],
        "differences": None if tally.differences is None else list(tally.differences),
        "peers": {peer.name: peer.best for peer in peers},
    }


class Peer:
    """One peer's process, and the best that it has said; without a process ``best`` says why."""

    def __init__(self, name: str, process: subprocess.Popen[str] | None, errors: Path) -> None:
        self.name, self._process, self._errors = name, process, errors
        self.best: dict[str, Any] = {} if process else {"absent": "no .venv-peers; requirements/peers.txt says how"}

    def turn(self) -> None:
        """Run it once."""
        if self._process is None or "absent" in self.best:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: what it said last is read below
            self._process.stdin.write("once more\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            said = self._errors.read_text().strip().splitlines()
            self.best = {"absent": said[-1] if said else f"exit {self._process.wait()}"}
            return
        self.best = max(self.best, json.loads(line), key=lambda told: told.get("bars_per_cpu_s", 0))


@contextlib.contextmanager
def peer_at(name: str, minutes: Minutes, folder: Path) -> Iterator[Peer]:
    """A peer in its own environment on the same bars and rule, warm between its turns as ours is."""
    errors = folder / f"{name}.err"
    if not PEERS_PYTHON.exists():
        yield Peer(name, None, errors)
        return
    path = folder / "bars.csv"
    if not path.exists():
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("start_ns", "o", "h", "l", "c", "v"))
            writer.writerows(zip(*columns_of(minutes), strict=True))
    script, rule = Path(__file__).with_name("peers_throughput.py"), [str(n) for n in (FAST, SLOW, HOLD_MINUTES)]
    with errors.open("w") as said, subprocess.Popen(
        [PEERS_PYTHON, script, name, path, *rule], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
    ) as process:  # fmt: skip
        try:
            yield Peer(name, process, errors)
        finally:
            process.kill()


def print_text(result: dict[str, Any]) -> None:
    """Print the figures for people."""
    best = result["bars_per_cpu_s"]
    print(
        f"{result['bars']:,} one-minute bars, EMA {FAST}/{SLOW}; bars a CPU-second, best of {result['repeats']} in turn"
    )
    print(f"  this program, whole path    {best['ours']:>12,}   {result['trades']} trades, {result['orders']} orders")
    print(f"  floor, the same messages    {best['floor']:>12,}   ratio {result['ratio']:.3f}, at least {LEAST_RATIO}")
    print(
        f"  floor, unchecked messages   {best['bare_floor']:>12,}   ratio {result['ratio_to_bare']:.3f}, not judged:"
        " its bars are not the program's messages, which check themselves"
    )
    for name, peer in result["peers"].items():
        if "absent" in peer:
            print(f"  {name:<26}       absent   {peer['absent']}")
        else:
            speed, times = peer["bars_per_cpu_s"], best["ours"] / peer["bars_per_cpu_s"]
            print(
                f"  {name + ' ' + peer['version']:<26}  {speed:>12,}   {peer['trades']} trades; ours is {times:.2f}x it"
            )
    verdict = "met" if result["met"] else "MISSED"
    print(f"  {verdict}; decisions {'repeat' if result['repeatable'] else 'DIFFER between repeats'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 when the floor's share is reached and the repeats agree."""
    parser = argparse.ArgumentParser(prog="backtest_throughput", description=__doc__.partition("\n")[0])
    parser.add_argument("--bars", type=int, default=BARS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    given = parser.parse_args(arguments)
    result = measure(given.bars, given.repeats)
    if given.json:
        print(json.dumps(result, indent=2))
    else:
        print_text(result)
    return 0 if result["met"] and result["repeatable"] else 1


if __name__ == "__main__":
    sys.exit(main())

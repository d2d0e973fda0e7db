"""What the derived rows cost: ``python -m tests.bench.track_record [--trades 100000]``.

Outputs: each measurement beside its target with PASS or MISS by wall time, and CPU time for what a busy machine adds:
``oracle recompute`` over many trades and whether it changed a byte; the counts of triggers and view there, and every
figure, against ``metrics.performance.figures``; a refresh after a trade at ten thousand, without resampling here and
with it in the worker; commits with and without the triggers that count. Exit code 1 on any MISS.
"""

import argparse
import asyncio
import itertools
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from oracle import derive
from oracle.core.messages import OrderFilled, TradeClosed
from oracle.core.trackrecord import ACCOUNT, StrategyKey
from oracle.jobs import Refresh, Refreshed
from oracle.metrics.performance import figures, monthly
from oracle.rebuilt import COUNTS, KEYS
from oracle.recompute import recompute
from oracle.store import performance, read
from oracle.store.dayfold import ACCOUNT_KEY
from oracle.store.performance import TABLES, DerivedRow, batches, write_batch
from oracle.store.rows import WRITERS, Stamp
from oracle.store.sqlite import Store
from oracle.store.windows import newest_log_id
from oracle.worker import Child
from tests.unit.track_made import Maker, dump, multiply, stamped, write

TEMPLATE, A_SESSION = 2_000, 100
RECOMPUTE_S, REFRESH_MS, RESAMPLED_MS = 10.0, 20.0, 500.0
# Three wins of four at a profit factor near three: good enough for the bootstrap to be asked.
EDGE = (Decimal("0.5"), Decimal("0.45"), Decimal("0.55"), Decimal("-0.5"))
# (what, measured, target, verdict)
Row = tuple[str, str, str, str]


def verdict(good: bool) -> str:
    """In one word."""
    return "PASS" if good else "MISS"


def build(folder: Path, trades: int, **made: Any) -> None:
    """Books of so many trades, by the real ledger and writers, and then by copies of them."""

    async def make() -> None:
        store = await Store.open(folder, "sim", 1, token="tok", feed="opra")
        await store.relax()
        maker = Maker(1, trades_a_session=A_SESSION, everything=False, **made)
        await store._call(write, maker.turns(min(trades, TEMPLATE)))
        await store._call(multiply, max(1, trades // TEMPLATE))
        await store.close()

    asyncio.run(make())


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the wall and of CPU, and what it came to."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def recomputed(folder: Path, trades: int) -> list[Row]:
    """Rebuild twice: the second time nothing may change, bit for bit."""
    build(folder, trades)
    recompute(folder)
    with read.reading(folder) as db:
        before = dump(db, TABLES)
    wall, cpu, done = timed(lambda: recompute(folder))
    with read.reading(folder) as db:
        same = dump(db, TABLES) == before and done.changes == 0
        wall_v, _, apart = timed(lambda: _apart(db))
        wall_f, _, (compared, unlike) = timed(lambda: _unlike_figures(db))
    return [
        (f"recompute over {trades:,} trades", f"{wall:.1f} s, CPU {cpu:.1f} s and a process beside",
         f"< {RECOMPUTE_S:g} s", verdict(wall < RECOMPUTE_S)),
        ("a second recompute", f"{done.changes} changes, bytes {'equal' if same else 'DIFFER'}", "0, equal",
         verdict(same)),
        ("rows where triggers and view differ", f"{apart}, in {wall_v:.1f} s", "0", verdict(apart == 0)),
        (f"values unlike Python's figures, of {compared:,}", f"{unlike}, in {wall_f:.1f} s", "0",
         verdict(unlike == 0 and compared > 0)),
    ]  # fmt: skip


def _apart(db: sqlite3.Connection) -> int:
    columns = ", ".join((*KEYS["strategy_performance"], *COUNTS))
    kept = set(map(tuple, db.execute(f"SELECT {columns} FROM strategy_performance WHERE trades > 0")))
    return len(kept ^ set(map(tuple, db.execute(f"SELECT {columns} FROM performance_counts"))))


def _unlike_figures(db: sqlite3.Connection) -> tuple[int, int]:
    """How many values of strategy_performance there are, and how many are not those of the batch figures."""
    compared = unlike = 0
    for key in performance.keys(db):
        trades, days = performance.read_trades(db, key), performance.read_days(db, key)
        for month, told in {derive.ALL: figures(trades, days), **monthly(trades, days)}.items():
            row = db.execute(
                "SELECT * FROM strategy_performance WHERE strategy = ? AND strategy_hash = ? AND month = ?",
                (key.strategy, key.strategy_hash, month),
            ).fetchone()
            made = told.as_dict()
            kept = msgspec.json.decode(row["figures"])
            pairs = [(kept[name], made[name]) for name in made if name != "break_even_bound"]
            pairs += [(row[name], made[name]) for name in COUNTS if name in made]
            pairs += [(row[f"{name}_micros"] / 1e6, made[f"{name}_usd"]) for name in _AMOUNTS]
            pairs += [
                (row[f"{name}_micros"] / 1e6, made[f"{name}_usd"] or 0.0) for name in ("largest_win", "largest_loss")
            ]
            compared += len(pairs)
            unlike += sum(stored != figure for stored, figure in pairs)
    return compared, unlike


_AMOUNTS = ("gross_profit", "gross_loss", "net_pnl", "fees_modelled", "fees_broker")


def refreshed(folder: Path, trades: int = 10_000, rounds: int = 15) -> list[Row]:
    """Refresh after each of some trades more, with a deriver that has read what was there."""
    build(folder, trades)
    turns = list(Maker(9, trades_a_session=A_SESSION, everything=False).turns(rounds))
    with sqlite3.connect(folder / "oracle.db", isolation_level=None) as db:
        db.row_factory = sqlite3.Row
        _store(db, derive.refresh(db, bootstrap=False))
        log_id, at_ns = newest_log_id(db), db.execute("SELECT max(recorded_ns) FROM trades").fetchone()[0]
        took: list[tuple[float, float]] = []
        for _, messages in turns:
            for message in messages:
                if type(message).__name__ in ("LedgerSeeded", "SessionOpened", "SessionClosed", "EquityMarked"):
                    continue
                log_id += 1
                WRITERS[type(message)](db, _later(message), Stamp(log_id, 1, at_ns, "opra"))
            ended = [message for message in messages if isinstance(message, TradeClosed)]
            if ended:
                keys = [StrategyKey(ended[0].strategy, ended[0].strategy_hash), ACCOUNT_KEY]
                wall, cpu, rows = timed(partial(derive.refresh, db, keys, bootstrap=False))
                took.append((wall, cpu))
                _store(db, rows)
    db.close()
    walls, cpus = (sorted(values) for values in zip(*took, strict=True))
    return [(f"refresh after a trade at {trades:,}", *_spent(walls, cpus), *_within(walls, REFRESH_MS))]


def _spent(walls: list[float], cpus: list[float]) -> tuple[str]:
    told = f"median {statistics.median(walls) * 1000:.1f} ms, best {min(walls) * 1000:.1f} ms"
    return (f"{told}, CPU {min(cpus) * 1000:.1f} ms" if cpus else told,)


def _within(walls: list[float], limit_ms: float) -> tuple[str, str]:
    return f"< {limit_ms:g} ms", verdict(statistics.median(walls) * 1000 < limit_ms)


def resampled(folder: Path, trades: int = 10_000, rounds: int = 7) -> list[Row]:
    """Refresh in the worker, its pipes included, a strategy that is good enough to be resampled."""
    build(folder, trades, drifts=EDGE)
    walls, asked = asyncio.run(_in_worker(folder, rounds))
    what = f"refresh with bootstrap in the worker at {trades:,}"
    return [(what, *_spent(walls, []), *_within(walls, RESAMPLED_MS)),
            ("... of which resampled", f"{asked} of {rounds}", "all", verdict(asked == rounds))]  # fmt: skip


async def _in_worker(folder: Path, rounds: int) -> tuple[list[float], int]:
    with read.reading(folder) as db:
        keys = [key for key in performance.keys(db) if key.strategy != ACCOUNT]
        key = max(keys, key=lambda one: len(performance.read_trades(db, one)))
    worker, walls, asked = Child(), [], 0
    try:
        for number in range(rounds + 1):
            began = time.perf_counter()
            done = await worker.run(Refresh(str(folder), (key, ACCOUNT_KEY), False, "", True))
            if number > 0:  # the first one reads everything
                walls.append(time.perf_counter() - began)
                asked += _was_resampled(done, key)
            else:
                await _keep(folder, done)
    finally:
        await worker.close()
    return walls, asked


async def _keep(folder: Path, done: Any) -> None:
    with sqlite3.connect(folder / "oracle.db", isolation_level=None) as db:
        _store(db, _rows(done))
    db.close()


def _rows(done: Any) -> list[DerivedRow]:
    assert isinstance(done, Refreshed)
    parts = (msgspec.msgpack.decode(part, type=list[DerivedRow]) for part in done.parts)
    return list(itertools.chain.from_iterable(parts))


def _was_resampled(done: Any, key: StrategyKey) -> bool:
    ours = [row.values for row in _rows(done) if row.table == "strategy_performance"]
    found = [values["assessment"] for values in ours if values["strategy"] == key.strategy]
    return any(text is not None and msgspec.json.decode(text)["bootstrapped"] for text in found)


def _store(db: sqlite3.Connection, rows: list[DerivedRow]) -> None:
    for batch in batches(rows):
        write_batch(db, batch)


def _later(message: Any) -> Any:
    """The same message under names that are not taken."""
    names = ("order_id", "trade_id", "decision_id", "intent_id", "execution_id", "client_order_id", "settlement_id")
    own = {n: _renamed(n, getattr(message, n)) for n in names if n in message.__struct_fields__}
    return msgspec.structs.replace(message, **own)


def _renamed(name: str, value: str) -> str:
    if name == "order_id":
        return f"later-{int(value.rpartition('-')[2]) + 50_000_000:08d}"
    return f"later-{value}"


def committed(folder: Path, trades: int = 600) -> list[Row]:
    """Commits of fills and of trades' ends, waiting for the disk, with the counting triggers and without."""
    rows: list[Row] = []
    for name, with_triggers in (("with", True), ("without", False)):
        took = asyncio.run(_commits(folder / name, trades, with_triggers))
        for what, seconds in took.items():
            told = f"median {statistics.median(seconds) * 1e6:.0f} µs"
            rows.append((f"commit of {what}, {name} triggers", told, "", ""))
    return sorted(rows)


async def _commits(folder: Path, trades: int, with_triggers: bool) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {"a fill": [], "a trade's end": []}
    spent: list[float] = []
    store = await Store.open(folder, "sim", 1, token="tok", feed="opra", on_commit_s=spent.append)
    await store.relax()  # the disk's wait is a thousand times what is measured
    if not with_triggers:
        await store._call(lambda db: db.execute("DROP TRIGGER trade_closed_counts"))
    for seq, (at_ns, messages) in enumerate(Maker(2, everything=False).turns(trades), 1):
        await store.commit(messages, stamped(seq, at_ns))
        kinds = {type(message) for message in messages}
        if TradeClosed in kinds:
            took["a trade's end"].append(spent[-1])
        elif OrderFilled in kinds:
            took["a fill"].append(spent[-1])
    await store.close()
    return took


def main() -> int:
    """Measure and print; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="What the derived rows cost.")
    parser.add_argument("--trades", type=int, default=100_000)
    trades = parser.parse_args().trades
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows: list[Row] = []
    for column in ("what", "measured", "target", "verdict"):
        table.add_column(column, no_wrap=True)
    with tempfile.TemporaryDirectory(prefix="oracle-bench-") as name:
        folder = Path(name)
        rows += [*committed(folder), *refreshed(folder / "ten"), *resampled(folder / "good")]
        rows += recomputed(folder / "many", trades)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = 140
    console.print(table, highlight=False)
    return 1 if any(row[3] == "MISS" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

"""What the derived rows cost: ``python -m tests.bench.track_record [--trades 100000]``.

Outputs: seconds of ``oracle recompute`` over many trades and whether it changed a row; a refresh after a trade at ten
thousand, without resampling; commits of a fill and of a trade's end with and without the triggers that count. Wall time
and CPU time, the best of several: a busy machine shows in the first alone. Targets: 10 s, 20 ms, no measurable cost.
"""

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from oracle import derive
from oracle.core.messages import OrderFilled, TradeClosed
from oracle.core.trackrecord import StrategyKey
from oracle.rebuilt import COUNTS, KEYS
from oracle.recompute import recompute
from oracle.store import read
from oracle.store.dayfold import ACCOUNT_KEY
from oracle.store.performance import TABLES, DerivedRow, batches, write_batch
from oracle.store.rows import WRITERS, Stamp
from oracle.store.sqlite import Store
from oracle.store.windows import newest_log_id
from tests.unit.track_made import Maker, dump, multiply, stamped, write

TEMPLATE, A_SESSION = 2_000, 100
Row = tuple[str, str, str]


def build(folder: Path, trades: int) -> None:
    """Books of so many trades, by the real ledger and writers, and then by copies of them."""

    async def make() -> None:
        store = await Store.open(folder, "sim", 1, token="tok", feed="opra")
        await store.relax()
        maker = Maker(1, trades_a_session=A_SESSION, everything=False)
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
    return [
        (f"recompute over {trades:,} trades", f"{wall:.1f} s, CPU {cpu:.1f} s", "same bytes" if same else "CHANGED"),
        ("counts by the view over all of them", f"{wall_v:.1f} s", "equal" if apart == 0 else f"{apart} DIFFER"),
    ]


def _apart(db: sqlite3.Connection) -> int:
    columns = ", ".join((*KEYS["strategy_performance"], *COUNTS))
    kept = set(map(tuple, db.execute(f"SELECT {columns} FROM strategy_performance WHERE trades > 0")))
    return len(kept ^ set(map(tuple, db.execute(f"SELECT {columns} FROM performance_counts"))))


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
    text = (
        f"median {statistics.median(walls) * 1000:.1f} ms, best {walls[0] * 1000:.1f} ms, CPU {cpus[0] * 1000:.1f} ms"
    )
    return [(f"refresh after a trade at {trades:,}", text, "")]


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
            rows.append((f"commit of {what}, {name} triggers", f"median {statistics.median(seconds) * 1e6:.0f} µs", ""))
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What the derived rows cost.")
    parser.add_argument("--trades", type=int, default=100_000)
    trades = parser.parse_args().trades
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("what", "time", "result"):
        table.add_column(column, no_wrap=True)
    with tempfile.TemporaryDirectory(prefix="oracle-bench-") as name:
        folder = Path(name)
        for row in (*committed(folder), *refreshed(folder / "ten"), *recomputed(folder / "many", trades)):
            table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = 140
    console.print(table, highlight=False)


if __name__ == "__main__":
    main()

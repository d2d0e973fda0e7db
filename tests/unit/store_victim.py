"""A process that trades and derives until it is killed: ``python -m tests.unit.store_victim FOLDER SEED``.

It goes on from what is stored, as a daemon does: the turns that a commit did not survive are made again.
"""

import asyncio
import sys
from pathlib import Path

from oracle import derive
from oracle.core.message import Message
from oracle.store import read
from oracle.store.sqlite import Store
from oracle.store.windows import newest_log_id
from tests.unit.track_made import Maker, stamped

TRADES = 60


async def trade(folder: Path, seed: int) -> None:
    """Commit turn by turn, refresh after each turn that ends a trade or a session, and say so on standard output."""
    store = await Store.open(folder, "sim", 1, token="tok", feed="opra")
    with read.reading(folder) as db:
        stored = newest_log_id(db)
    print("open", flush=True)
    count = 0
    for seq, (at_ns, messages) in enumerate(Maker(seed).turns(TRADES), 1):
        count += len(messages)
        if count <= stored:
            continue
        await store.commit(messages, stamped(seq, at_ns))
        if _ends(messages):
            with read.reading(folder) as db:
                rows = derive.refresh(db)
            await store.write_derived(rows)
    await store.close()
    print("end", flush=True)


def _ends(messages: list[Message]) -> bool:
    return any(type(message).__name__ in ("TradeClosed", "SessionClosed") for message in messages)


if __name__ == "__main__":
    asyncio.run(trade(Path(sys.argv[1]), int(sys.argv[2])))

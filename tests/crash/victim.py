"""A daemon that kills itself with SIGKILL at a named point of its work: ``python -m tests.crash.victim PLAN run …``.

Input: a plan as JSON (see ``Plan``) and the arguments of ``oracle``. Outputs: ``born-<pid>.json`` when the core has
been restored, ``died-<pid>.json`` just before the kill: what the core held. The daemon's own code is not changed: its
store, its REST client and its engine are wrapped. SIGUSR1 arms a plan that waits for the daemon to be ready.
"""

import asyncio
import os
import random
import signal
import sqlite3
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from oracle import app
from oracle.__main__ import main as oracle_main
from oracle.alpaca.rest import Reply, RestClient
from oracle.core.engine import Engine, Turn
from oracle.core.message import Message
from oracle.core.messages import CashTransferred, OrderClosed, OrderFilled, Stamped, SubmitOrder
from oracle.core.vocabulary import Purpose
from oracle.running import Core
from oracle.store import sqlite
from oracle.store.rows import QUERIES
from oracle.store.sqlite import Store, durable

# What each watch remembers and a restart need not: when to try again, and how often was refused.
PASSING = frozenset({"next_try_ns", "retry_timer_ns", "rejections", "refused_ns", "backoff_ns"})
KINDS: dict[str, Callable[[Message], bool]] = {
    "any": lambda _message: True,
    "fill": lambda message: isinstance(message, OrderFilled),
    "order": lambda message: isinstance(message, SubmitOrder),
    "exit": lambda message: isinstance(message, SubmitOrder) and message.purpose is not Purpose.ENTRY,
    "transfer": lambda message: isinstance(message, CashTransferred),
    "closed": lambda message: isinstance(message, OrderClosed),
}


class Plan(msgspec.Struct, frozen=True):
    """Where to die: at the ``count``-th time of ``point`` (a commit with a message of ``kind``; a POST; …).

    Points: ``none``, ``turn``, ``commit_before``, ``commit_within``, ``commit_after``, the same of ``derived`` (a write
    of statistics and what else is made from the books), and for POST, DELETE and GET of the trading API
    ``<method>_before``, ``_during`` (the request is on its way) and ``_after`` (its answer was read and not yet told).
    ``armed``: from the start, instead of from SIGUSR1 on. ``seed`` draws the moment within ``during``.
    """

    point: str
    count: int = 1
    kind: str = "any"
    armed: bool = False
    seed: int = 0
    folder: str = ""


def memory_of(core: Core) -> dict[str, Any]:
    """What the core holds that a restart must bring back, as plain values."""
    gate, ledger, equity = core.gate, core.ledger, core.engine._equity
    halts, watches, book = gate._halts, gate._exits.watches, gate._book
    trades = {}
    for trade in ledger.open_trades():
        watch = watches[trade.trade_id]
        fields = {name: getattr(watch, name) for name in watch.__slots__ if name not in PASSING}
        wanted = fields.pop("wanted")
        # A target that was wanted is judged anew on the quotes after the restart; every other exit stands.
        strong = None if wanted is None or wanted.purpose is Purpose.TARGET else [wanted.purpose.value, wanted.rule]
        trades[trade.trade_id] = {
            **fields, "wanted": strong, "plan": trade.exit_plan, "entered": trade.contracts_entered,
            "open": trade.contracts_open, "entry_price": trade.entry_price_usd, "entry_done": trade.entry_done,
        }  # fmt: skip
    held: dict[str, Any] = {
        "seeded": ledger.seeded,
        "cash": ledger.cash_usd if ledger.seeded else None,
        "positions": {p.symbol: p.qty for p in ledger.positions()},
        "trades": trades,
        "latches": {name: change.until_date for name, change in sorted(halts.active.items())},
        "losses_in_a_row": halts.losses_in_a_row,
        "day_start": equity._day_start,
        "peak": equity._peak,
        "working": {i: w.left for i, w in sorted(book.working.items())},
        "booked": sorted(ledger._seen),
    }
    plain: dict[str, Any] = _plain(msgspec.to_builtins(held, builtin_types=(Decimal,)))
    return plain


def _plain(value: Any) -> Any:
    """Amounts as text of their value: 7.36 and 7.360 are the same money."""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


class Death:
    """Counts the points of a plan and dies at the last."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.left = plan.count
        self.armed = plan.armed
        self.core: Core | None = None
        self.committing = False
        signal.signal(signal.SIGUSR1, self._arm)

    def _arm(self, *_: object) -> None:
        self.armed = True

    def due(self, point: str) -> bool:
        """Whether this occurrence of the point is the one."""
        if not self.armed or point != self.plan.point:
            return False
        self.left -= 1
        return self.left == 0

    def die(self) -> None:
        """Write down what the core holds, unless a turn is half stored, and end as by ``kill -9``."""
        if self.core is not None and not self.committing:
            self.note("died")
        os.kill(os.getpid(), signal.SIGKILL)

    def note(self, name: str) -> None:
        """Write what the core holds to a file."""
        if self.core is not None and self.plan.folder:
            path = Path(self.plan.folder) / f"{name}-{os.getpid()}.json"
            path.write_bytes(msgspec.json.encode(memory_of(self.core)))


def wrap_core(death: Death) -> None:
    """Note what a restored core holds; count turns."""
    build, turn = app.build_core, Engine._turn

    def built(*args: Any, **kwargs: Any) -> Core:
        death.core = build(*args, **kwargs)
        death.note("born")
        return death.core

    def turned(self: Engine, at_ns: int, message: Any) -> Turn:
        if death.due("turn"):
            death.die()
        return turn(self, at_ns, message)

    app.build_core = built
    Engine._turn = turned  # type: ignore[method-assign]


def wrap_store(death: Death) -> None:
    """Die before, within or after a transaction."""
    commit, kind = Store.commit, KINDS[death.plan.kind]

    async def committed(self: Store, messages: Any, stamped: Stamped) -> int:
        kept = durable(stamped, messages)
        ours = any(map(kind, kept))
        hit = ours and any(death.due(f"commit_{when}") for when in ("before", "within", "after"))
        death.committing = True
        if hit and death.plan.point == "commit_before":
            death.die()
        if hit and death.plan.point == "commit_within":
            for row in tuple(sqlite.WRITERS):
                sqlite.WRITERS[row] = _dying(death, sqlite.WRITERS[row])
        count = await commit(self, messages, stamped)
        death.committing = False
        if hit:
            death.die()
        return count

    Store.commit = committed  # type: ignore[method-assign]


def wrap_derived(death: Death) -> None:
    """Die before, within or after a write of derived rows."""
    write, batch = Store.write_derived, sqlite.write_batch

    def halved(db: sqlite3.Connection, rows: Any) -> None:
        if death.due("derived_within"):
            db.execute("BEGIN IMMEDIATE")
            for row in rows[: len(rows) // 2 + 1]:
                db.execute(QUERIES[f"put_{row.table}"], row.values)
            death.die()
        batch(db, rows)

    async def written(self: Store, rows: Any) -> int:
        if death.due("derived_before"):
            death.die()
        count = await write(self, rows)
        if death.due("derived_after"):
            death.die()
        return count

    sqlite.write_batch = halved
    Store.write_derived = written  # type: ignore[method-assign]


def _dying(death: Death, write: Any) -> Any:
    def written(*args: Any) -> None:
        write(*args)
        death.die()

    return written


def wrap_rest(death: Death) -> None:
    """Die around a request of the trading API."""
    trading = RestClient.trading
    moment = random.Random(death.plan.seed).uniform(0, 0.004)

    async def asked(self: RestClient, method: str, path: str, *args: Any, **kwargs: Any) -> Reply:
        word = method.lower()
        if death.due(f"{word}_before"):
            death.die()
        if death.due(f"{word}_during"):
            asyncio.get_running_loop().call_later(moment, death.die)
        reply = await trading(self, method, path, *args, **kwargs)
        if death.due(f"{word}_after"):
            death.die()
        return reply

    RestClient.trading = asked  # type: ignore[method-assign]


def main() -> None:
    """Run ``oracle`` with a plan."""
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    sys.argv = ["oracle", *sys.argv[2:]]
    death = Death(plan)
    for wrap in (wrap_core, wrap_store, wrap_derived, wrap_rest):
        wrap(death)
    oracle_main()


if __name__ == "__main__":
    main()

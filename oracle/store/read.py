"""Read-only questions to the database for commands: status, positions, orders, trades, fills, equity.

Inputs: the state folder. Outputs: plain dicts and lists; amounts are Decimal dollars, times UTC nanoseconds. Works
while the daemon writes (own connections, ``mode=ro``, one snapshot each). What is held is in ``store/holdings.py``.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from oracle.core.errors import ConfigurationError, StoreError
from oracle.core.money import from_micros
from oracle.core.structures import legs_of
from oracle.core.vocabulary import Side
from oracle.store.flows import entered, outcome, trade_legs
from oracle.store.holdings import Facts, holdings, positions
from oracle.store.rows import QUERIES
from oracle.store.sqlite import APPLICATION_ID, schema_files
from oracle.store.state import DATABASE_NAME

__all__ = [
    "decisions", "equity", "holdings", "interventions", "order_events", "orders", "positions", "reading", "sessions",
    "settlements", "status", "trades", "unsettled",
]  # fmt: skip
_JSON_COLUMNS = frozenset({"legs", "facts", "exit_plan", "differences", "headroom", "covers", "marks"})
_HIDDEN = frozenset({"log_id", "closed_log_id", "turn_seq", "message", "closed_message", "entry_message"})


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the database of a state folder for reading, in one snapshot.

    Raises:
        ConfigurationError: there is no database, or it is not one of this program's version.
        StoreError: it cannot be read.
    """
    with _opened(folder) as db:
        yield db


@contextmanager
def _opened(folder: Path, *, older: bool = False) -> Iterator[sqlite3.Connection]:
    path = folder / DATABASE_NAME
    if not path.is_file():
        if folder.is_file():
            raise ConfigurationError("state", f"{folder} is a file", "name a state folder")
        others = sorted(folder.parent.glob(f"*/{DATABASE_NAME}"), key=lambda p: p.stat().st_mtime)
        fix = f"try --state {others[-1].parent}" if others else "start the daemon once or name its state folder"
        raise ConfigurationError("state", f"{path} does not exist", fix)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA query_only = ON")
            db.execute("PRAGMA trusted_schema = OFF")
            _check(db, path, older)
            db.execute("BEGIN")
            yield db
    except sqlite3.Error as error:
        raise StoreError(f"database {path}: {error}") from error


def mode_of(folder: Path) -> tuple[str, int]:
    """The mode and time of making of a state folder's database, which may be of an older version.

    Raises:
        ConfigurationError: there is no database of this program.
        StoreError: it cannot be read.
    """
    with _opened(folder, older=True) as db:
        meta = {row["key"]: row["value"] for row in db.execute(QUERIES["read_meta"])}
    return meta["mode"], int(meta["created_ns"])


def orders(db: sqlite3.Connection, *, working_only: bool = False, limit: int = 50) -> list[Facts]:
    """Orders, newest first, with ladders and legs as they are traded; ``filled`` counts units of its symbol."""
    name = "read_working_orders" if working_only else "read_orders"
    found = []
    for row in db.execute(QUERIES[name], {"limit": limit}):
        facts, command = _facts(row), msgspec.json.decode(row["message"])
        facts["ladder"] = command["ladder"]
        facts["legs"] = _legs(row["symbol"], Side(row["side"]))
        for name in ("max_gain_usd", "break_evens"):
            facts[name] = _amounts(command.get(name))
        # Units: the fills are those of the legs.
        facts["filled_legs"] = msgspec.json.decode(row["filled"])
        facts["filled"] = min(facts["filled_legs"].get(x["symbol"], 0) // x["ratio"] for x in facts["legs"])
        found.append(facts)
    return found


def order_events(db: sqlite3.Connection, order_id: str) -> list[Facts]:
    """One order's life, oldest first."""
    return [_facts(row) for row in db.execute(QUERIES["read_order_events"], {"order_id": order_id})]


def trades(
    db: sqlite3.Connection, *, strategy: str | None = None, open_only: bool = False, limit: int = 50
) -> list[Facts]:
    """Round trips with every recorded field, newest first. Open ones have None for what only an end tells.

    ``legs`` are what fills and settlements did (see ``flows.trade_legs``), ``intent_legs`` what was asked for. Units,
    entry, ``max_loss_usd``, ``max_gain_usd`` and ``break_evens`` are those of the real entry, and of the order's worst
    price while no unit is whole; ``worst_case_usd`` is always of the worst price.
    """
    values = {"strategy": strategy, "open_only": int(open_only), "limit": limit}
    found = []
    for row in db.execute(QUERIES["read_trades"], values):
        facts = _facts(row)
        command = msgspec.json.decode(row["entry_message"])
        facts["max_loss_usd"] = facts["worst_case_usd"]
        for name in ("max_gain_usd", "break_evens"):
            facts[name] = _amounts(command.get(name))
        facts["intent_legs"], facts["legs"] = facts["legs"], trade_legs(db, row["log_id"])
        side = Side(row["side"])
        whole = entered(row["symbol"], side, facts["legs"])
        if whole is not None:
            facts.update(outcome(row["symbol"], side, *whole) or {})
            if row["closed_ns"] is None:
                facts["contracts"], facts["entry_price_usd"] = whole
        found.append(facts)
    return found


def settlements(db: sqlite3.Connection, *, trade_id: str | None = None, limit: int = 50) -> list[Facts]:
    """What ended without an order of ours, newest first."""
    rows = db.execute(QUERIES["read_settlements"], {"trade_id": trade_id, "limit": limit})
    return [_facts(row) for row in rows]


def decisions(db: sqlite3.Connection, *, limit: int = 50) -> list[Facts]:
    """Risk's answers, newest first, each with its intent's reason and the rules that said no."""
    found = []
    for row in db.execute(QUERIES["read_decisions"], {"limit": limit}):
        facts = _facts(row)
        refused = db.execute(QUERIES["read_refusals"], {"decision_id": row["decision_id"]})
        facts["refusals"] = [dict(refusal) for refusal in refused]
        found.append(facts)
    return found


def equity(db: sqlite3.Connection, *, since_ns: int = 0) -> list[Facts]:
    """Equity marks since a time, oldest first."""
    return [_facts(row) for row in db.execute(QUERIES["read_equity"], {"since_ns": since_ns})]


def sessions(db: sqlite3.Connection, *, limit: int = 20) -> list[Facts]:
    """Sessions with their counts, newest first."""
    return [_facts(row) for row in db.execute(QUERIES["read_sessions"], {"limit": limit})]


def interventions(db: sqlite3.Connection, *, limit: int = 50) -> list[Facts]:
    """What operators asked for and what it came to, newest first."""
    return [_facts(row) for row in db.execute(QUERIES["read_operator_answers"], {"limit": limit})]


def unsettled(db: sqlite3.Connection, *, limit: int = 50) -> list[Facts]:
    """Executions of others that the books do not hold, newest first: adopting them ends the difference."""
    return [_facts(row) for row in db.execute(QUERIES["read_unsettled"], {"limit": limit})]


def status(db: sqlite3.Connection) -> Facts:
    """What the books say now: mode, newest session and equity, active latches, open work, last reconcile."""
    latest = {name: db.execute(QUERIES[f"read_last_{name}"]).fetchone() for name in ("equity", "session", "reconcile")}
    counts = dict(db.execute(QUERIES["read_counts"]).fetchone())
    meta = {row["key"]: row["value"] for row in db.execute(QUERIES["read_meta"])}
    return {
        "mode": meta["mode"],
        "instance_token": meta["instance_token"],
        **{name: None if row is None else _facts(row) for name, row in latest.items()},
        "latches": [_facts(row) for row in db.execute(QUERIES["read_active_latches"])],
        "transfers": [_facts(row) for row in db.execute(QUERIES["read_cash_transfers"], {"limit": 5})],
        "statistics_behind": bool(db.execute(QUERIES["statistics_behind"]).fetchone()[0]),
        **counts,
    }


def _legs(symbol: str, side: Side) -> list[Facts]:
    """What buying or selling one unit of a symbol does in each of its legs."""
    return [
        {"symbol": leg.symbol, "side": (leg.side if side is Side.BUY else leg.side.opposite).value, "ratio": leg.ratio}
        for leg in legs_of(symbol)
    ]


def _amounts(value: Any) -> Any:
    """Amounts that JSON holds as text; older commands have none."""
    if isinstance(value, list):
        return [Decimal(text) for text in value]
    return None if value is None else Decimal(value)


def _check(db: sqlite3.Connection, path: Path, older: bool) -> None:
    try:
        application_id = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise ConfigurationError("state", f"{path} is not a readable database ({error})", "restore a backup") from error
    newest = schema_files()[-1][0]
    if application_id != APPLICATION_ID:
        raise ConfigurationError("state", f"{path} belongs to another program", "name the daemon's state folder")
    if version > newest or (version < newest and not older):
        fix = "use the version of the daemon that wrote it"
        if version < newest:
            fix = "stop the daemon that uses it, and run oracle recompute: it brings the database up to date"
        raise ConfigurationError("state", f"{path} has schema version {version}, this program knows {newest}", fix)


def _facts(row: sqlite3.Row) -> Facts:
    """A row for people: micros as dollars, JSON decoded, book-keeping columns left out."""
    facts: Facts = {}
    for name in row.keys():  # noqa: SIM118  # sqlite3.Row iterates over values
        value = row[name]
        if name in _HIDDEN:
            continue
        if name.endswith("_micros"):
            facts[f"{name[:-7]}_usd"] = None if value is None else from_micros(value)
        elif name in _JSON_COLUMNS and value is not None:
            facts[name] = msgspec.json.decode(value)
        else:
            facts[name] = value
    return facts

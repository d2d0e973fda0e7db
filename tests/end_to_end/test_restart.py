"""Kill -9 in mid-session, again and again: the daemon comes back on the same books and the day ends equal to the cent.

The exchange is a process of its own that stands still while no daemon is connected. The daemon's own log lines say
when to kill it, so nothing here waits for a length of time.
"""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from oracle.config import SimSettings
from oracle.core.ledger import Ledger
from oracle.exchange_process import ExchangeProcess
from oracle.store.journal import JournalReader
from oracle.store.loading import Loaded
from oracle.store.sqlite import Store

# A half-day (NYSE closes at 13:00 New York) is the shortest whole session; SPY breaks out at 10:41.
EXCHANGE = ("--hold", "--port", "0", "--seed", "2", "--date", "2026-11-27")
LIMIT_S = 115
SYMBOL = "SPY"
Line = dict[str, Any]


async def run_daemon(
    url: str, state: Path, environment: dict[str, str], die_at: Callable[[Line], bool], speed: int = 0
) -> tuple[int, list[Line]]:
    """Run ``oracle run`` until it ends, or kill it at the first line for which ``die_at`` holds: (code, its log)."""
    settings = (
        f"sim.url={url}", f"sim.speed={speed}", "console.port=0", "logs.format=json", "logs.level=info",
        f'strategies.opening_range_breakout.universe=["{SYMBOL}"]',
    )  # fmt: skip
    arguments = [part for setting in settings for part in ("--set", setting)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oracle", "run", "--state", str(state), *arguments,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environment, limit=2**20,
    )  # fmt: skip
    lines: list[Line] = []
    try:
        assert process.stderr is not None
        while raw := await process.stderr.readline():
            line = orjson.loads(raw) if raw.startswith(b"{") else {"event": raw.decode().rstrip()}
            lines.append(line)
            if die_at(line):
                process.send_signal(signal.SIGKILL)
                break
        return await process.wait(), lines
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def event(name: str, **fields: str) -> Callable[[Line], bool]:
    """A predicate for a log line."""
    return lambda line: line.get("event") == name and all(line.get(k) == v for k, v in fields.items())


def either(*predicates: Callable[[Line], bool]) -> Callable[[Line], bool]:
    """One of several lines, whichever comes first."""
    return lambda line: any(holds(line) for holds in predicates)


# Each kills the daemon once: with nothing done; with the entry at the broker and unfilled; with the position open (just
# opened, or opened before the last kill struck); with the exit committed and its POST perhaps under way. How far the
# daemon gets between a line and its death is a race: what is asserted holds however it ends.
# The speeds (times real time; 0 is full) keep the race short of the trade's whole life on a busy machine.
KILLS = (
    (event("no_signal", reason="inside_range"), 0),
    (event("order_advanced", to_state="accepted"), 200),
    (either(event("trade_opened"), event("no_signal", reason="entry_used")), 60),
    (event("exit_triggered"), 200),
)


async def ask(url: str, path: str) -> Any:
    """What the exchange says of the account."""
    sim = SimSettings()
    keys = {"APCA-API-KEY-ID": sim.key.get_secret_value(), "APCA-API-SECRET-KEY": sim.secret.get_secret_value()}
    async with aiohttp.ClientSession(headers=keys) as http, http.get(url + path) as response:
        assert response.status == 200
        return await response.json()


def story(lines: list[Line]) -> str:
    """A run in short, for a failure's message."""
    told = [line for line in lines if not line["event"].startswith("feed")]
    words = (f"{line.get('market_time', '')[11:19]} {line['event']} {line.get('to_state', '')}" for line in told)
    return "; ".join(words)


async def books_of(state: Path) -> Loaded:
    """Everything durable, read as a starting process would."""
    store = await Store.open(state, "sim", 0)
    try:
        return await store.load()
    finally:
        await store.close()


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
async def test_a_day_with_four_kills_ends_equal_to_the_exchange(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    state = tmp_path / "state"
    runs: list[list[Line]] = []
    async with ExchangeProcess(EXCHANGE) as exchange:
        for die_at, speed in KILLS:
            code, lines = await run_daemon(exchange.url, state, clean_environment, die_at, speed)
            assert code == -signal.SIGKILL, story(lines)
            runs.append(lines)
        code, lines = await run_daemon(exchange.url, state, clean_environment, lambda _line: False)
        assert code == 0, lines[-3:]
        runs.append(lines)
        orders = await ask(exchange.url, "/v2/orders?status=all&limit=500")
        account = await ask(exchange.url, "/v2/account")
        positions = await ask(exchange.url, "/v2/positions")
    everything = [line for run in runs for line in run]
    compared = [[line["differences"] for line in run if line["event"] == "reconciled"] for run in runs]
    assert all(found and all(differences == [] for differences in found) for found in compared), compared
    assert not [line for line in everything if line.get("level") in ("error", "critical")]
    books = await books_of(state)
    assert len(books.intents) == 1
    assert len(books.working) == 0
    assert positions == []
    check_orders(orders, books)
    # One round trip, and the money equal to the cent.
    (trade,) = books.closed
    assert [opened.trade_id for opened in books.opened] == [trade.trade_id]
    ledger = Ledger()
    ledger.restore(books.books)
    assert list(ledger.positions()) == []
    assert ledger.cash_usd == Decimal(account["cash"]) == Decimal(100_000) + trade.gross_pnl_usd
    check_journals(state)


def check_orders(orders: list[Line], books: Loaded) -> None:
    """No order twice, none without its record, and every contract that the exchange filled is booked once."""
    ids = [order["client_order_id"] for order in orders]
    assert len(set(ids)) == len(ids)
    assert set(ids) <= {step.client_order_id for step in books.order_events}
    assert {order["status"] for order in orders} <= {"filled", "canceled"}
    at_exchange: Counter[str] = Counter()
    for order in orders:
        at_exchange[order["client_order_id"]] += int(order["filled_qty"])
    booked: Counter[str] = Counter()
    for fill in books.fills:
        booked[fill.client_order_id] += fill.contracts
    assert +at_exchange == +booked
    bought, sold = (sum(int(o["filled_qty"]) for o in orders if o["side"] == side) for side in ("buy", "sell"))
    assert bought == sold > 0


def check_journals(state: Path) -> None:
    """Each process left its own segment; the killed ones end where they died, the last one is closed."""
    segments = sorted(state.rglob("*.oj"))
    assert len(segments) == len(KILLS) + 1
    readers = [JournalReader(path) for path in segments]
    for reader in readers:
        assert sum(1 for _ in reader) > 0
    assert [reader.complete for reader in readers] == [False] * len(KILLS) + [True]

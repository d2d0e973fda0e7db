"""A short day with planned faults: the real daemon against the real exchange over real sockets, and what came of it.

The exchange serves a part of a generated session of SPY; the strategy's opening range is five minutes, so that it
enters at 09:36 and must be flat long before the end. What is asserted comes from the daemon's journal and the
exchange's own records.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from oracle.app import Result, run
from oracle.config import Config, load
from oracle.core.ledger import Ledger
from oracle.core.marketdata import Bar, FeedChanged
from oracle.core.message import Message
from oracle.core.messages import IntentRefused, Reconciled, Stamped, SubmitOrder
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.vocabulary import Feed, FeedState, Purpose
from oracle.markets import table_around
from oracle.replay import check_all
from oracle.sim.config import ExchangeConfig
from oracle.sim.faultplan import FaultPlan, read_plan
from oracle.sim.market import GeneratedMarket
from oracle.sim.server import serve
from oracle.store.journal import JournalReader
from oracle.store.loading import Loaded
from oracle.store.sqlite import Store

DATE, SYMBOL = "2026-01-05", "SPY"
OPEN_NS = 1_767_623_400 * NS
KEYS = {"key": "SIMKEY", "secret": "SIMSECRET"}
HEADERS = {"APCA-API-KEY-ID": "SIMKEY", "APCA-API-SECRET-KEY": "SIMSECRET"}
M = TypeVar("M", bound=Message)
QUICK = {
    "universe": [SYMBOL], "range_minutes": 5, "entry_start": "09:36", "entry_end": "09:50", "flat_at": "09:52",
    "break_fraction": 0.0, "volume_mode": "trailing", "volume_bars": 5, "min_relative_volume": 0.0, "rsi_level": 0.0,
    "warmup_bars": 15, "abs_delta_low": 0.2, "abs_delta_high": 0.8, "max_spread_usd": 1.0, "max_spread_of_mid": 0.5,
    "confidence": 0.9,
}  # fmt: skip


def clock_ns(text: str) -> int:
    """The instant of a New York time of day in the session."""
    hour, minute, *second = map(int, text.split(":"))
    return OPEN_NS + ((hour - 9) * 3600 + (minute - 30) * 60 + sum(second)) * NS


def config_for(url: str, **strategy: Any) -> Config:
    """Settings of the daemon for a rehearsal."""
    base = {
        "mode": "sim", "sim": {"url": url, **KEYS}, "console": {"port": 0}, "logs": {"level": "error"},
        "strategies": {"opening_range_breakout": {**QUICK, **strategy}},
    }  # fmt: skip
    return load(None, [], environment={}, base=base)


@dataclass
class Rehearsal:
    """A finished rehearsal."""

    result: Result
    state: Path
    records: dict[str, Any]
    books: Loaded

    @cached_property
    def journal(self) -> list[tuple[int, Message]]:
        """Inputs and what they caused, with the exchange time of each."""
        out: list[tuple[int, Message]] = []
        reader, at_ns = JournalReader(self.result.journal), 0
        for record in reader:
            if isinstance(record, Stamped):
                at_ns = record.at_ns
                out.append((at_ns, record.input))
            else:
                out += [(at_ns, message) for message in record.messages]
        assert reader.complete
        return out

    def of(self, kind: type[M]) -> list[tuple[int, M]]:
        """The messages of a class, with their times."""
        return [(at_ns, m) for at_ns, m in self.journal if isinstance(m, kind)]

    def states(self, feed: Feed, since: str = "09:20", until: str = "16:00") -> list[tuple[int, FeedChanged]]:
        """A feed's changes within a part of the session."""
        first, last = clock_ns(since), clock_ns(until)
        return [(at, m) for at, m in self.of(FeedChanged) if m.feed is feed and first <= at < last]

    def words(self, feed: Feed, since: str = "09:20", until: str = "16:00") -> list[FeedState]:
        """The same as states only."""
        return [m.state for _, m in self.states(feed, since, until)]

    def entries(self) -> list[int]:
        """When entries were ordered."""
        return [at for at, m in self.of(SubmitOrder) if m.purpose is Purpose.ENTRY]

    def refusals(self) -> set[str]:
        """The rules that refused an intent."""
        return {r.rule for _, m in self.of(IntentRefused) for r in m.refusals}

    def injected(self, kind: str) -> int:
        """How often faults of a kind struck."""
        return sum(row["injected"] for row in self.records["faults"]["faults"] if row["kind"] == kind)

    # -------------------------------------------------------------------------------------- what must always hold

    def check(self, trades: int = 1) -> None:
        """The day ended right: books equal, every bar once, no order twice, everything struck that was planned.

        And it is decided again: each segment of its journal replays clean.
        """
        assert all(row["injected"] > 0 for row in self.records["faults"]["faults"]), self.records["faults"]
        self.check_books()
        self.check_bars()
        self.check_feeds()
        assert [report.verdict for report in check_all((self.result.journal,))] == ["clean"]
        assert len(self.result.tally.trades) == trades, self.story()
        assert len(self.books.opened) == len(self.books.closed) == trades

    def check_books(self) -> None:
        """Ledger, store and exchange agree on cash, positions and fills; no client order id was used twice."""
        orders, fills = self.records["orders"], self.records["fills"]
        ids = [order["client_order_id"] for order in orders]
        assert len(set(ids)) == len(ids)
        ours = Counter((m.symbol, m.side.value, m.contracts, m.price_usd) for m in self.books.fills)
        assert ours == Counter((f["symbol"], f["side"], int(f["qty"]), Decimal(f["price"])) for f in fills)
        assert len({m.execution_id for m in self.books.fills}) == len(fills)
        ledger = Ledger()
        ledger.restore(self.books.books)
        held = {position.symbol: position.qty for position in ledger.positions()}
        assert held == {row["symbol"]: int(row["qty"]) for row in self.records["positions"]}
        assert ledger.cash_usd == Decimal(self.records["account"]["cash"])
        assert self.result.tally.differences == ()
        assert self.of(Reconciled)[-1][1].differences == ()
        assert not [order for order in orders if order["status"] in ("new", "accepted", "partially_filled")]

    def check_bars(self) -> None:
        """Every minute of the session came exactly once and in order, whichever way."""
        last_ns = self.of(FeedChanged)[0][0] if not self.journal else self.journal[-1][0]
        starts = [m.start_ns for _, m in self.of(Bar) if m.symbol == SYMBOL and m.start_ns >= OPEN_NS]
        assert starts == list(range(OPEN_NS, last_ns // MINUTE_NS * MINUTE_NS, MINUTE_NS))

    def check_feeds(self) -> None:
        """At the end every feed is live, and no entry was ordered while one that it needs was not."""
        now: dict[Feed, FeedState] = {}
        for _, message in self.journal:
            if isinstance(message, FeedChanged):
                now[message.feed] = message.state
            elif isinstance(message, SubmitOrder) and message.purpose is Purpose.ENTRY:
                assert set(now.values()) == {FeedState.LIVE}, now
        assert set(now.values()) == {FeedState.LIVE}, now

    def story(self) -> str:
        """What happened, in short, for a failure's message."""
        shown = [
            f"{(at - OPEN_NS) / NS:.0f}s {type(m).__name__} {getattr(m, 'text', '') or getattr(m, 'reason', '')}"
            for at, m in self.journal
            if type(m).__name__
            in ("FeedChanged", "Intent", "IntentRefused", "SubmitOrder", "OrderAdvanced", "OrderFilled")
        ]
        return "\n".join(shown[-60:])


async def read(url: str) -> dict[str, Any]:
    """The exchange's own records."""
    found: dict[str, Any] = {}
    paths = {
        "account": "/v2/account",
        "positions": "/v2/positions",
        "fills": "/v2/account/activities/FILL?page_size=100&direction=asc",
        "orders": "/v2/orders?status=all&limit=500",
        "faults": "/sim/v1/faults",
    }
    async with aiohttp.ClientSession(headers=HEADERS) as http:
        for name, path in paths.items():
            async with http.get(url + path) as reply:
                assert reply.status == 200, await reply.text()
                found[name] = await reply.json()
    return found


async def books_of(state: Path) -> Loaded:
    """Everything durable, read as a starting process would."""
    store = await Store.open(state, "sim", 0)
    try:
        return await store.load()
    finally:
        await store.close()


def plan_of(faults: Sequence[dict[str, Any]], seed: int = 7) -> FaultPlan:
    """A plan from plain dicts."""
    return read_plan({"seed": seed, "fault": list(faults)})


@asynccontextmanager
async def exchange(faults: Sequence[dict[str, Any]], until: str, seed: int) -> AsyncIterator[str]:
    """Serve a part of a session with faults on this loop; yields the address."""
    table = table_around(DATE, DATE)
    market = GeneratedMarket(seed, table, [DATE], plant=(), symbols=(SYMBOL,))
    settings = ExchangeConfig(hold=True, seed=seed, until=until, **KEYS)
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(settings, market, table, ready.set_result, plan_of(faults)))
    try:
        yield f"http://127.0.0.1:{await asyncio.wait_for(ready, 20)}"
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def finish(url: str, state: Path, **strategy: Any) -> Rehearsal:
    """Run the daemon to the exchange's end and collect what is left."""
    result = await run(config_for(url, **strategy), state, token="rehearsal")
    return Rehearsal(result, state, await read(url), await books_of(state))


async def rehearse(
    state: Path, faults: Sequence[dict[str, Any]] = (), *, until: str = "09:56", seed: int = 1, **strategy: Any
) -> Rehearsal:
    """Play a part of a session with faults, to its end."""
    async with exchange(faults, until, seed) as url:
        return await finish(url, state, **strategy)

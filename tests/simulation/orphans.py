"""Structures whose orders are refused, partly filled or taken apart by the broker, and the search for naked shorts.

Each run is one seed: a small market, the exchange in process with faults and early ends that the seed chooses, and the
real core with a strategy that enters one structure. What is judged is the exchange's own account at every instant: a
short that nothing covers must be gone within three minutes of open market, and none be left when the market closes.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import structlog
from rich.console import Console
from rich.table import Table

from oracle.backtest import Backtest, make_exchange, wire
from oracle.backtest_run import BacktestRun, NoStore
from oracle.config import load
from oracle.core.engine import Turn
from oracle.core.errors import OracleError
from oracle.core.instruments import is_option
from oracle.core.marketdata import Bar
from oracle.core.message import Message
from oracle.core.messages import (
    ExitPlan,
    ExitTriggered,
    Intent,
    Leg,
    OrderClosed,
    PositionSettled,
    Reconciled,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.money import price_from_float
from oracle.core.ports import Context
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.structures import OrderLeg, is_structure, payoff
from oracle.core.vocabulary import Ending, Side
from oracle.running import Core
from oracle.sim.exchange import POST_CLOSE_NS, PRE_OPEN_NS, Exchange
from oracle.sim.faultplan import read_plan
from oracle.sim.faults import Faults
from oracle.store.loading import Loaded
from oracle.store.sqlite import Store
from oracle.strategies.base import Strategy, StrategyParams, Verdict, param
from tests.simulation.orphan_market import DATES, LENGTH_MIN, OPEN_NS, TABLE, SmallMarket

PATIENCE_NS = 180 * NS
"""How long a short may stand uncovered while its market is open: two closing orders that the exchange leaves lying."""
LATE_MIN = LENGTH_MIN - 20
LAST_ENTRY_MIN = 50
SHAPES = ("condor", "butterfly", "credit spread", "debit spread")


class OneStructure(Strategy):
    """Enters one structure at a minute of the first session, and again until an entry has filled."""

    name = "one_structure"

    class Params(StrategyParams):
        """Its settings."""

        seed: int = param(0, "", "what chooses the structure")

    def __init__(self, params: StrategyParams, code_hash: str) -> None:
        super().__init__(params, code_hash)
        assert isinstance(params, self.Params)
        random = Random(f"structure {params.seed}")
        self.shape = random.choice(SHAPES)
        self.expiry = random.choice(DATES[:2])
        self.minute = random.randint(3, LAST_ENTRY_MIN)
        self.width = random.choice((2, 3))
        self.away = 0 if self.shape == "butterfly" else random.choice((2, 3, 4))
        self.is_held_to_the_end = random.random() < 0.6
        self._sent = 0

    @property
    def universe(self) -> tuple[str, ...]:
        return ("SPY",)

    @property
    def warmup_sessions(self) -> int:
        return 0

    @property
    def max_expiry_sessions(self) -> int:
        return 1

    def on_warmup_bar(self, bar: Bar, context: Context) -> None:
        """Nothing to warm."""

    def on_intent_sent(self, intent_id: str) -> None:
        self._sent += 1

    def evaluate(self, symbol: str, context: Context) -> Verdict | None:
        session = context.session
        minute = 0 if session is None else session.minute_of(context.at_ns)
        if session is None or session.date != DATES[0] or not self.minute <= minute <= self.minute + 10:
            return None
        if self._sent >= 4 or context.ledger.open_trades():
            return None
        spot = context.chains.spot(symbol, context.at_ns)
        legs = None if spot is None else self._legs(round(spot), context)
        if legs is None:
            return self.no_data(symbol, "quotes", {})
        end = TABLE.expiry_ns(self.expiry) or session.close_ns
        flat_ns = end - 1 if self.is_held_to_the_end else end - 65 * MINUTE_NS
        credit = sum(leg.side.sign * leg.ratio * leg.mid_usd for leg in legs) < 0
        return Intent(
            intent_id=f"{self.name}:{session.date}:{symbol}:{self._sent + 1}", strategy=self.name,
            strategy_hash=self.code_hash, underlying=symbol, legs=legs,
            exit_plan=ExitPlan(
                None if self.is_held_to_the_end else 0.5, 3.0 if credit else 1.0, None, None, None, 0, flat_ns,
                short_delta_stop=None if self.is_held_to_the_end else 0.6,
            ),
            confidence=1.0, confidence_needed=0.5, reason="a test", facts={},
            valid_until_ns=context.at_ns + 2 * MINUTE_NS,
        )  # fmt: skip

    def _legs(self, spot: int, context: Context) -> tuple[Leg, ...] | None:
        rows: list[tuple[str, int, Side]] = []
        if self.shape in ("condor", "butterfly", "credit spread"):
            rows += [("C", spot + self.away, Side.SELL), ("C", spot + self.away + self.width, Side.BUY)]
        if self.shape in ("condor", "butterfly"):
            rows += [("P", spot - self.away, Side.SELL), ("P", spot - self.away - self.width, Side.BUY)]
        if self.shape == "debit spread":
            rows += [("C", spot, Side.BUY), ("C", spot + self.width, Side.SELL)]
        legs = []
        day = self.expiry[2:].replace("-", "")
        for right, strike, side in rows:
            symbol = f"SPY{day}{right}{strike * 1000:08d}"
            quote = context.chains.option_quote(symbol)
            if quote is None or quote.bid is None or quote.ask is None or context.at_ns - quote.received_ns > 12 * NS:
                return None
            bid, ask = price_from_float(quote.bid), price_from_float(quote.ask)
            legs.append(Leg(symbol, side, 1, bid, ask, quote.quoted_ns, 0.1, 0.25))
        return tuple(sorted(legs, key=lambda leg: leg.symbol))


@dataclass
class Found:
    """What one run came to."""

    seed: int
    shape: str
    refused: int = 0
    partial: int = 0
    sold_out: int = 0
    assigned: int = 0
    orphans: int = 0
    traded: int = 0
    longest_naked_s: float = 0.0
    naked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Watched(BacktestRun):
    """A run whose instants are far apart where nothing happens, and which looks for naked shorts at each."""

    def __init__(self, found: Found, entry_min: int, core: Core, exchange: Exchange, **parts: Any) -> None:
        super().__init__(core=core, exchange=exchange, **parts)
        self._found, self._core_of, self._market = found, core, exchange
        self._entry_min = entry_min
        self._naked_ns: int | None = None

    async def run(self, progress: object = None) -> None:
        del progress
        await self._settle(self._market.now_ns)
        for session in self._market.source.sessions:
            at_ns = session.open_ns - PRE_OPEN_NS
            await self._step(at_ns)
            while at_ns < session.close_ns + POST_CLOSE_NS:
                at_ns = min(at_ns + self._gap_ns(at_ns, session.open_ns), session.close_ns + POST_CLOSE_NS)
                if at_ns - NS < session.close_ns <= at_ns:
                    self._look(session.close_ns, closing=True)
                await self._step(at_ns)
                self._look(at_ns)

    def _gap_ns(self, at_ns: int, open_ns: int) -> int:
        if at_ns < open_ns:
            return open_ns - at_ns
        if self._market.book.working or self._naked_ns is not None:
            return NS
        # Quotes are told at every instant, so decisions never rest on old ones; where nothing can happen, few are.
        trades, entry_ns = self._core_of.ledger.open_trades(), OPEN_NS + (self._entry_min - 1) * MINUTE_NS
        if not trades and at_ns < entry_ns:
            return entry_ns - at_ns
        entering = not trades and at_ns < entry_ns + 12 * MINUTE_NS
        gap_ns = 10 * NS if entering else 30 * NS if trades else 5 * MINUTE_NS
        return gap_ns - (at_ns - open_ns) % gap_ns

    def _look(self, at_ns: int, closing: bool = False) -> None:
        held = self._market.account.quantities()
        legs = [OrderLeg(s, Side.BUY if q > 0 else Side.SELL, abs(q)) for s, q in sorted(held.items()) if is_option(s)]
        covered = not legs or payoff(legs, Decimal(0)).covered
        if covered or not self._market.session.is_open(at_ns - 1):
            self._naked_ns = None
            return
        self._naked_ns = at_ns if self._naked_ns is None else self._naked_ns
        lasted_ns = at_ns - self._naked_ns
        self._found.longest_naked_s = max(self._found.longest_naked_s, lasted_ns / NS)
        if lasted_ns > PATIENCE_NS or closing:
            text = f"seed {self._found.seed} at {(at_ns - OPEN_NS) / MINUTE_NS % 1440:.1f} min: {held}"
            if not any(line.startswith(f"seed {self._found.seed} ") for line in self._found.naked):
                self._found.naked.append(text)


def plan_of(seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The faults and the broker's behaviour of a seed."""
    random = Random(f"faults {seed}")
    faults: list[dict[str, Any]] = []
    for kind in ("refuse_mleg", "reject_mleg"):
        if random.random() < 0.35:
            faults.append({"kind": kind, "probability": random.choice((0.3, 0.6)), "count": random.randint(1, 5)})
    if random.random() < 0.5:
        faults.append({"kind": "partial_mleg", "units": random.randint(0, 2), "probability": 0.7, "count": 2})
    if random.random() < 0.5:
        minute = random.randint(LATE_MIN - 30, LENGTH_MIN - 2)
        late = {"from": minute * 60.0, "date": random.choice(DATES[:2]), "side": random.choice(("long", "short"))}
        faults.append({"kind": "sell_out_leg", "count": 1, **late})
    behaviour = {
        "pin_risk_sell_out": random.choice((0.0, 0.0, 1.0)),
        "early_assignment": random.choice((0.0, 0.5, 1.0)),
        "activities_next_day": random.random() < 0.5,
    }
    return faults, behaviour


async def one_run(seed: int, loaded: Loaded) -> Found:
    """Trade one seed and judge it."""
    strategy = OneStructure(OneStructure.Params(seed=seed), "hash")
    faults, behaviour = plan_of(seed)
    # A sell-out before the last hour of a contract is an execution of somebody else's: it is not what is tried here.
    faults = [f for f in faults if f["kind"] != "sell_out_leg" or f["date"] == strategy.expiry]
    found = Found(seed, strategy.shape)
    config = load(base={"mode": "sim", "strategies": {}})
    source = SmallMarket(seed)
    what = Backtest(None, "", "", Decimal(250_000), seed, {"behaviour": behaviour})
    exchange = make_exchange(config, source, TABLE, what)
    Faults(exchange, read_plan({"seed": seed, "fault": faults}))
    log: list[Message] = []

    def observe(turn: Turn, _seconds: float) -> None:
        log.extend(turn.messages)

    core, plain = wire(
        config, TABLE, loaded, (strategy,), exchange, store=NoStore(), journal=_Nothing(), observers=(observe,),
        is_durable=lambda _message: False,
    )  # fmt: skip
    run = Watched(
        found, strategy.minute, core, exchange, edges=plain._edges, inbox=plain._inbox, store=NoStore(),
        journal=_Nothing(), observers=(observe,), is_durable=lambda _message: False,
    )  # fmt: skip
    try:
        await run.run()
    except OracleError as error:
        # One seed that ends the daemon is a finding like any other; the rest are still tried.
        found.wrong.append(f"seed {seed}: the core raised {type(error).__name__}: {error}")
        return found
    _judge(found, log, core, exchange)
    return found


class _Nothing:
    """A journal that keeps nothing."""

    def write_outputs(self, seq: int, messages: Sequence[Message]) -> None:
        del seq, messages


def _judge(found: Found, log: Sequence[Message], core: Core, exchange: Exchange) -> None:
    orders = {m.order_id: m for m in log if isinstance(m, SubmitOrder)}
    for message in log:
        if isinstance(message, OrderClosed) and is_structure(orders[message.order_id].symbol):
            found.refused += message.end.startswith("rejected")
        elif isinstance(message, PositionSettled):
            found.sold_out += message.ending is Ending.SOLD_OUT
            found.assigned += message.ending in (Ending.ASSIGNED, Ending.EXERCISED)
        elif isinstance(message, ExitTriggered):
            found.orphans += message.rule == "orphan_leg"
        elif isinstance(message, TradeOpened):
            found.traded += 1
    found.partial = sum(o.is_mleg and 0 < o.filled < o.qty for o in exchange.book.orders.values())
    entries = Counter(o.trade_id for o in orders.values() if o.purpose.value == "entry")
    if any(count > 1 for count in entries.values()):
        found.wrong.append(f"seed {found.seed}: a trade has several entries")
    if core.ledger.cash_usd != exchange.account.cash_usd:
        found.wrong.append(
            f"seed {found.seed}: cash {core.ledger.cash_usd}, {exchange.account.cash_usd} at the exchange"
        )
    books = {p.symbol: p.qty for p in core.ledger.positions()}
    if books != exchange.account.quantities():
        found.wrong.append(f"seed {found.seed}: books {books}, exchange {exchange.account.quantities()}")
    last = [m for m in log if isinstance(m, Reconciled)][-1]
    if last.differences:
        found.wrong.append(f"seed {found.seed}: {last.differences}")
    done = sum(isinstance(m, TradeClosed) for m in log)
    # What is assigned at the very last close leaves shares, for which no session follows.
    if done != found.traded and any(is_option(s) for s in books):
        found.wrong.append(f"seed {found.seed}: {found.traded} trades opened, {done} closed, {books} left")


async def _empty() -> Loaded:
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(Path(folder), "backtest", 0, token="orphans")
        try:
            return await store.load()
        finally:
            await store.close()


def batched(seeds: range) -> list[range]:
    """Seeds in portions of 25."""
    return [seeds[n : n + 25] for n in range(0, len(seeds), 25)]


def orphan_runs(seeds: Sequence[int]) -> list[Found]:
    """Trade some seeds."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

    async def all_of_them() -> list[Found]:
        loaded = await _empty()
        return [await one_run(seed, loaded) for seed in seeds]

    return asyncio.run(all_of_them())


def main() -> int:
    """Print the table; 1 when a naked short was found or books differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    began = time.monotonic()
    seeds = range(asked.first, asked.first + asked.runs)
    with ProcessPoolExecutor(asked.jobs) as pool:
        found = [row for rows in pool.map(orphan_runs, batched(seeds)) for row in rows]
    figures: dict[str, float] = {
        "runs": len(found),
        "runs that traded": sum(row.traded > 0 for row in found),
        "refusals": sum(row.refused for row in found),
        "partly filled orders": sum(row.partial for row in found),
        "sell-outs": sum(row.sold_out for row in found),
        "exercised or assigned": sum(row.assigned for row in found),
        "orphans closed": sum(row.orphans for row in found),
        "longest time uncovered, s": max(row.longest_naked_s for row in found),
        "naked shorts found": sum(len(row.naked) for row in found),
        "books that differ": sum(bool(row.wrong) for row in found),
        "time, s": round(time.monotonic() - began, 1),
    }
    problems = [line for row in found for line in (*row.naked, *row.wrong)]
    if asked.json:
        sys.stdout.write(json.dumps({**figures, "problems": problems}) + "\n")
        return 1 if problems else 0
    table = Table("what", "count", title="structures taken apart")
    for name, figure in figures.items():
        table.add_row(name, f"{figure:g}")
    console = Console()
    console.print(table)
    for line in problems:
        console.print(line, markup=False, highlight=False)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

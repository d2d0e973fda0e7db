"""From a bar's frame to the order's POST: ours beside a floor, in turn, one event at a time; and a burst of 50.

Inputs: how many events and rounds. Outputs: ``Figure`` rows. The broker runs in this process, every client in one of
its own. The clock starts when the bar's frame is handed to the socket and stops when the whole POST has been read.
Between events business time jumps, so that the real limits hold: orders a minute, quote ages, one entry at a time.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from oracle.alpaca import wire
from oracle.alpaca.broker import ORDERS_AT_ONCE
from oracle.core.sessions import MINUTE_NS, NS
from tests.bench import market
from tests.bench.bench_clock import BenchClock
from tests.bench.broker import Account, Broker
from tests.bench.measure import Figure, best, percentile

ROOT = Path(__file__).resolve().parents[2]
STOCK = wire.STOCK_STREAM_PATH.format(feed="iex")
OPTION = wire.OPTION_STREAM_PATH.format(feed="indicative")
START_MIN = 10
# 20 s of business time from one bar to the next of another underlying: a bar a minute for each of three.
APART_NS = 20 * NS
QUIET_S = 0.025
LOOK_S = 0.005
EVENT_LIMIT_S = 1.0
TRIES = 3
START_LIMIT_S = 60.0
TARGET, BURST_TARGET = 3.0, 5.0
# A repeated event's first try is in no percentile: with more of them the figures would be those of the lucky ones.
MOST_REPEATED = 0.02
BURST = 50


@dataclass(slots=True)
class Client:
    """A process under test and its account; ``clock`` is None for a floor, which needs no business time."""

    name: str
    account: Account
    process: asyncio.subprocess.Process
    clock: BenchClock | None
    at_ns: int
    contracts: Sequence[market.Contract]
    rounds_s: list[list[float]] = field(default_factory=list)
    log: list[bytes] = field(default_factory=list)
    turn: int = 0
    repeated: int = 0

    async def event(self, symbols: Sequence[str], quotes_with_bar: bool = False) -> float:
        """Send one bar and wait for its order; seconds between.

        Args:
            symbols: the underlyings, which take turns.
            quotes_with_bar: send all option quotes anew right in front of the bar, as a busy feed does.

        Raises:
            TimeoutError: no order came.
        """
        symbol = symbols[self.turn % len(symbols)]
        self.turn += 1
        for tries_left in range(TRIES - 1, -1, -1):
            await self.prepare(symbols)
            if quotes_with_bar and self.clock is not None:
                await self._option_quotes(symbols)
            started_s = await self.bar(symbol, market.SPOTS[symbol])
            try:
                return (await self.posts(1))[0] - started_s
            except TimeoutError:
                # A machine too busy to take the quotes before the bar: rightly, nothing is traded on old ones.
                if tries_left == 0:
                    raise
                self.repeated += 1
                self.at_ns += 2 * APART_NS  # the underlying's next minute
        raise AssertionError

    async def prepare(self, symbols: Sequence[str]) -> None:
        """Let business time pass, bring fresh quotes, and wait until all that follows from both is over."""
        await self.quiet()
        self.at_ns += APART_NS
        if self.clock is not None:
            self.clock.move_to(self.at_ns - 2 * NS)
            await self._stock_quotes(symbols)
        await self.quiet()
        if self.clock is not None:
            self.clock.move_to(self.at_ns)
            await self._option_quotes(symbols)
            await self._stock_quotes(symbols)
        await self.quiet()

    async def bar(self, symbol: str, close: float) -> float:
        """Send the bar of the minute that has just ended; when it left."""
        self.account.arrived_s.clear()
        self.account.posted.clear()
        start_ns = self.at_ns // MINUTE_NS * MINUTE_NS - MINUTE_NS
        frame = msgpack.packb([market.bar_message(symbol, start_ns, close)])
        socket = self.account.sockets[STOCK]
        started_s = time.perf_counter()
        await socket.send_bytes(frame)
        return started_s

    async def posts(self, count: int) -> list[float]:
        """When the orders after the bar arrived."""
        try:
            async with asyncio.timeout(EVENT_LIMIT_S):
                while len(self.account.arrived_s) < count:
                    self.account.posted.clear()
                    await self.account.posted.wait()
        except TimeoutError:
            last = b"".join(self.log[-8:]).decode()
            raise TimeoutError(f"{self.name}: {len(self.account.arrived_s)} of {count} orders came\n{last}") from None
        return self.account.arrived_s[:count]

    async def quiet(self, for_s: float = QUIET_S) -> None:
        """Wait until the client has asked for nothing for a while, and all its threads sleep."""
        await asyncio.sleep(for_s)
        while True:
            left_s = self.account.last_request_s + for_s - time.perf_counter()
            if left_s <= 0 and asleep(self.process.pid):
                return
            await asyncio.sleep(max(left_s, LOOK_S))

    async def send(self, path: str, messages: list[dict[str, Any]]) -> None:
        """Send one frame."""
        await self.account.sockets[path].send_bytes(msgpack.packb(messages))

    async def _option_quotes(self, symbols: Sequence[str]) -> None:
        assert self.clock is not None
        now_ns = self.clock.now_ns()
        await self.send(OPTION, [
            market.quote_message(c.symbol, now_ns, c.bid, c.ask) for c in self.contracts if c.underlying in symbols
        ])  # fmt: skip

    async def _stock_quotes(self, symbols: Sequence[str]) -> None:
        assert self.clock is not None
        now_ns = self.clock.now_ns()
        await self.send(STOCK, [
            market.quote_message(s, now_ns, market.SPOTS[s] - 0.01, market.SPOTS[s] + 0.01) for s in symbols
        ])  # fmt: skip


def asleep(pid: int) -> bool:
    """Whether no thread of a process runs, waits for a processor or for the disk; where /proc does not say, yes."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] != "S":
                return False
    return True


class Bench:
    """A broker and the clients at it."""

    def __init__(self, broker: Broker, url: str, folder: Path) -> None:
        self._broker = broker
        self._url = url
        self._folder = folder
        self._begin_ns = market.sessions()[1].open_ns + START_MIN * MINUTE_NS
        self._stack = contextlib.AsyncExitStack()
        self._contracts = tuple(broker.contracts.values())

    async def floor(self, name: str, *arguments: str) -> Client:
        """Start a floor; wait until it has subscribed."""
        state = self._folder / name
        state.mkdir()
        key = f"account-{name}"
        account = self._broker.add(key, lambda: self._begin_ns)
        options = [part.format(state=state) for part in arguments]
        process = await self._start("tests.bench.floor", self._url, key, *options)
        client = Client(name, account, process, None, self._begin_ns, self._contracts)
        await self._wait_for(client, lambda: bool(account.subscribed.get(STOCK)))
        return client

    async def ours(self, name: str, *arguments: str, symbols: Sequence[str], fills: bool = False) -> Client:
        """Start a daemon; wait until it is connected, has read the account and follows the options."""
        state = self._folder / name
        state.mkdir()
        clock = BenchClock.create(self._folder / f"{name}.clock", self._begin_ns)
        key = f"account-{name}"
        account = self._broker.add(key, clock.now_ns, fills)
        process = await self._start(
            "tests.bench.ours", self._url, key, "--state", str(state / "state"),
            "--clock", str(self._folder / f"{name}.clock"), *arguments,
        )  # fmt: skip
        client = Client(name, account, process, clock, self._begin_ns, self._contracts)
        self._keep(client)
        await self._wait_for(client, lambda: {STOCK, OPTION, wire.TRADING_STREAM_PATH} <= account.sockets.keys())
        await self._wait_for(client, lambda: bool(account.subscribed[STOCK]))
        await client.quiet(0.2)
        # The first quotes name the underlyings' spots; the daemon then reads their chains and subscribes.
        await client.prepare(symbols)
        await self._wait_for(client, lambda: bool(account.subscribed[OPTION]))
        await client.quiet(0.2)
        return client

    async def close(self) -> None:
        """End every client."""
        await self._stack.aclose()

    async def _start(self, module: str, *arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *arguments, cwd=ROOT, stderr=asyncio.subprocess.PIPE, limit=2**20
        )
        self._stack.push_async_callback(_end, process)
        return process

    def _keep(self, client: Client) -> None:
        """Keep the daemon's log at hand, for when something does not come."""

        async def read() -> None:
            assert client.process.stderr is not None
            while line := await client.process.stderr.readline():
                client.log.append(line)
                del client.log[:-200]

        task = asyncio.create_task(read())
        self._stack.callback(task.cancel)

    async def _wait_for(self, client: Client, condition: Any) -> None:
        limit_s = time.perf_counter() + START_LIMIT_S
        while not condition():
            if time.perf_counter() > limit_s or client.process.returncode is not None:
                raise RuntimeError(f"{client.name} did not start\n{b''.join(client.log[-20:]).decode()}")
            await asyncio.sleep(0.01)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


@contextlib.asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    """A broker on a free port, and whatever clients are started at it; all gone afterwards."""
    broker = Broker(market.sessions()[1])
    url = await broker.start()
    it = Bench(broker, url, folder)
    try:
        yield it
    finally:
        await it.close()
        await broker.stop()


async def rounds(
    clients: Sequence[Client], symbols: Sequence[str], events: int, count: int, quotes_with_bar: bool = False
) -> None:
    """Let clients take turns, event by event; a few events before the first round are not counted."""
    for client in clients:
        for _ in range(5):
            await client.event(symbols, quotes_with_bar)
        client.rounds_s.clear()
        client.repeated = 0
    for _ in range(count):
        for client in clients:
            client.rounds_s.append([])
        for _ in range(events):
            for client in clients:
                client.rounds_s[-1].append(await client.event(symbols, quotes_with_bar))


def p50_us(client: Client) -> float:
    """The median of the best round, in microseconds."""
    return 1e6 * best([percentile(values, 50) for values in client.rounds_s])


def p99_us(client: Client) -> float:
    """The 99th percentile over all rounds, in microseconds."""
    return 1e6 * percentile([value for values in client.rounds_s for value in values], 99)


def repeats(client: Client, words: str) -> Figure:
    """How many events had to be sent again, of how many."""
    events = sum(map(len, client.rounds_s))
    return Figure(f"{words}, sent again", client.repeated, events, "events", MOST_REPEATED)


async def single(folder: Path, events: int, count: int) -> list[Figure]:
    """One order at a time, without and with the commit."""
    symbols = tuple(sorted(market.SPOTS))
    async with bench(folder) as it:
        floors = [await it.floor(library, "--library", library) for library in ("aiohttp", "websockets")]
        await rounds(floors, symbols, max(events // 4, 5), 1)
        fastest = min(floors, key=p50_us)
        committing = await it.floor("floor-commit", "--library", fastest.name, "--state", "{state}")
        bare = await it.ours("ours-bare", "--no-commit", symbols=symbols)
        whole = await it.ours("ours", symbols=symbols)
        await rounds((fastest, bare, committing, whole), symbols, events, count)
        note = f"floor: {fastest.name}, msgpack, hand-built HTTP; {events} events a round, best of {count} rounds"
        found = []
        for words, ours, floor in (("without commit", bare, fastest), ("with commit", whole, committing)):
            name = f"bar to order, {words}"
            found.append(Figure(f"{name}, p50", p50_us(ours), p50_us(floor), "µs", TARGET, note=note))
            found.append(Figure(f"{name}, p99", p99_us(ours), p99_us(floor), "µs"))
            found.append(repeats(ours, name))
        await rounds((committing, whole), symbols, events, max(1, count // 3), quotes_with_bar=True)
    name, again = "bar to order, quotes with the bar", f"{whole.repeated} events were sent again"
    found.append(Figure(f"{name}, p50", p50_us(whole), p50_us(committing), "µs", note=f"with commit; {again}"))
    found.append(Figure(f"{name}, p99", p99_us(whole), p99_us(committing), "µs"))
    return found


async def burst(folder: Path, count: int) -> list[Figure]:
    """Fifty positions stopped out by one bar: until the last of the fifty orders has arrived."""
    taken: dict[str, list[float]] = {"ours": [], "floor": [], "one": []}
    symbols = ("SPY",)
    async with bench(folder) as it:
        many = ("--burst", str(BURST), "--state", "{state}", "--connections")
        floor = await it.floor("burst-floor", *many, str(ORDERS_AT_ONCE))
        one = await it.floor("burst-floor-one", *many, "1")
        for n in range(count):
            ours = await it.ours(f"burst-{n}", "--burst", str(BURST), symbols=symbols, fills=True)
            for _ in range(BURST):
                ours.at_ns += 2 * APART_NS  # a bar a minute of one underlying
                await ours.event(symbols)
            for client, name in ((floor, "floor"), (one, "one"), (ours, "ours")):
                client.at_ns += 2 * APART_NS
                await client.prepare(symbols)
                started_s = await client.bar("SPY", market.SPOTS["SPY"] * 0.98)
                taken[name].append((await client.posts(BURST))[-1] - started_s)
            await _end(ours.process)
    note = f"{BURST} positions stopped out by one bar, one commit; floor: {ORDERS_AT_ONCE} connections; best of {count}"
    ours_ms, floor_ms, one_ms = (1e3 * best(taken[name]) for name in ("ours", "floor", "one"))
    name = f"burst of {BURST} orders, last"
    return [
        Figure(name, ours_ms, floor_ms, "ms", BURST_TARGET, note=note),
        Figure(f"{name}, beside one connection", ours_ms, one_ms, "ms"),
    ]

"""Do calm sessions trip the watchdog? The feeds' real supervisors against the generator's message times.

Sessions are the calmest of many seeded years (lowest volatility state), with nothing planted. The stock canary is SPY's
quotes; the option canary is any quote of the contracts around the money, fewer than the daemon subscribes to. A few
sessions also go through the whole daemon and real sockets. Run it with ``./scripts/quiet``.
"""

import argparse
import asyncio
import datetime as dt
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from oracle import logs
from oracle.alpaca.failures import Kind
from oracle.alpaca.feeds import STALE_AFTER_S
from oracle.alpaca.supervisor import Action, Close, Supervisor, WaitUntil
from oracle.calendar import load_sessions
from oracle.core.marketdata import FeedChanged
from oracle.core.sessions import MINUTE_NS, NS, Session, SessionTable
from oracle.core.vocabulary import Feed, FeedState
from oracle.sim.days import MOST_HISTORY
from oracle.sim.market import GeneratedMarket
from oracle.sim.pathgen import SPECS, Skeleton
from tests.simulation.rehearsal import Rehearsal, rehearse

SYMBOL = "SPY"
CALMEST_OF_A_YEAR = 25
STRIKES = 5
FIRST, LAST = "2026-01-02", "2026-12-31"


@dataclass
class Watch:
    """One feed's supervisor, and what it went through."""

    feed: Feed
    supervisor: Supervisor
    due_ns: int | None = None
    heard_ns: int = 0
    longest_s: float = 0.0
    trips: list[str] = field(default_factory=list)

    def begin(self, at_ns: int) -> None:
        """Connect, subscribe and catch up, all at once."""
        machine = self.supervisor
        for happened in (machine.start, machine.opened, machine.acked, machine.backfilled):
            self._take(happened(at_ns))
        self.heard_ns = at_ns

    def second(self, at_ns: int, heard: bool) -> None:
        """One step as the daemon makes it: what was heard is noted, then due timers run."""
        if heard:
            self.longest_s = max(self.longest_s, (at_ns - self.heard_ns) / NS)
            self.heard_ns = at_ns
            self.supervisor.canary(at_ns)
        if self.due_ns is not None and at_ns >= self.due_ns:
            self._take(self.supervisor.due(at_ns))

    def _take(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, WaitUntil):
                self.due_ns = action.at_ns
            elif isinstance(action, Close) and action.failure.kind is Kind.STALE:
                self.trips.append(action.failure.text)


@dataclass
class Quiet:
    """What some sessions came to."""

    sessions: int = 0
    messages: int = 0
    longest_s: dict[Feed, float] = field(default_factory=lambda: {Feed.STOCK: 0.0, Feed.OPTION: 0.0})
    trips: list[str] = field(default_factory=list)


def calendar() -> SessionTable:
    """The sessions of a year, its history and its expiries."""
    first, last = dt.date.fromisoformat(FIRST), dt.date.fromisoformat(LAST)
    return load_sessions(first - dt.timedelta(days=260), last + dt.timedelta(days=120))


def calmest(table: SessionTable, seed: int, count: int) -> list[str]:
    """The dates of a seeded year with the lowest volatility state, in order."""
    history = table.before(FIRST, MOST_HISTORY)
    sessions = history + tuple(s for s in table.sessions if FIRST <= s.date <= LAST)
    vol = Skeleton(seed, sessions, [SPECS[SYMBOL]]).vol[SYMBOL]
    ranked = sorted((float(vol[i]), session.date) for i, session in enumerate(sessions) if i >= len(history))
    return sorted(date for _, date in ranked[:count])


def watch_session(market: GeneratedMarket, table: SessionTable, session: Session, quiet: Quiet) -> None:
    """Play one session's message times to both supervisors, second by second."""
    market.advance(session.open_ns)
    market.watch(near_the_money(market, session))
    watches = [
        Watch(Feed.STOCK, Supervisor(Feed.STOCK, table, STALE_AFTER_S, f"{SYMBOL} quote")),
        Watch(Feed.OPTION, Supervisor(Feed.OPTION, table, STALE_AFTER_S, "option quote")),
    ]
    for watch in watches:
        watch.begin(session.open_ns)
    for at_ns, heard in seconds(market, session, quiet):
        for watch, canary in zip(watches, heard, strict=True):
            watch.second(at_ns, canary)
    for watch in watches:
        quiet.longest_s[watch.feed] = max(quiet.longest_s[watch.feed], watch.longest_s)
        quiet.trips += [f"{session.date} {watch.feed.value}: {trip}" for trip in watch.trips]
    quiet.sessions += 1


def seconds(market: GeneratedMarket, session: Session, quiet: Quiet) -> Iterator[tuple[int, tuple[bool, bool]]]:
    """Each second of a session: whether the stock canary and the option canary were heard in it."""
    for start_ns in range(session.open_ns, session.close_ns, MINUTE_NS):
        step = market.advance(start_ns + MINUTE_NS)
        quiet.messages += len(step.touches) + len(step.option_touches)
        stock = {touch.at_ns for touch in step.touches if touch.symbol == SYMBOL}
        option = {touch.at_ns for touch in step.option_touches}
        for at_ns in range(start_ns + NS, start_ns + MINUTE_NS + 1, NS):
            yield at_ns, (at_ns in stock, at_ns in option)


def near_the_money(market: GeneratedMarket, session: Session) -> list[str]:
    """The strikes nearest to the open, both rights, of the nearest expiry; they are not re-centred during the day."""
    rows = market.listings(SYMBOL, session.date)
    touch = market.touch(SYMBOL)
    assert touch is not None
    assert touch.bid is not None
    nearest = min(row.expiry for row in rows)
    mine = sorted(
        (abs(row.strike_milli / 1000 - touch.bid), row.symbol) for row in rows if row.expiry == nearest
    )  # fmt: skip
    return [symbol for _, symbol in mine[: 4 * STRIKES + 2]]


def watch_year(table: SessionTable, seed: int, dates: list[str], quiet: Quiet) -> None:
    """Play chosen sessions of one seed."""
    market = GeneratedMarket(seed, table, dates, plant=(), symbols=(SYMBOL,))
    for session in market.sessions:
        watch_session(market, table, session, quiet)


def trips_of(played: Rehearsal) -> list[str]:
    """Every time that a feed of the whole daemon left LIVE after the start."""
    bad = (FeedState.STALE, FeedState.DOWN, FeedState.BACKFILLING)
    first_ns = played.journal[0][0]
    found = [(at, m) for at, m in played.of(FeedChanged) if m.state in bad and at > first_ns]
    return [f"{m.feed.value} {m.state.value}: {m.reason}" for _, m in found]


async def through_sockets(folder: Path, seed: int) -> tuple[int, list[str]]:
    """Play a whole session through the daemon: its bars and its trips."""
    played = await rehearse(folder / "state", until="16:05", seed=seed, entry_end="15:00", flat_at="15:45")
    return played.result.tally.bars, trips_of(played)


def main() -> int:
    """Play the sessions, print figures, say by the exit code whether anything tripped."""
    parser = argparse.ArgumentParser(prog="scripts/quiet", description=__doc__)
    parser.add_argument("--sessions", type=int, default=250, help="calm sessions for the supervisors")
    parser.add_argument("--sockets", type=int, default=2, help="whole sessions through the daemon and real sockets")
    given = parser.parse_args()
    logs.configure_logging("critical", secrets=(), colour=False, sd_prefix=False)
    started_s, table, quiet = time.perf_counter(), calendar(), Quiet()
    print(f"{given.sessions} calm sessions: about {given.sessions * 1.2 / 60:.0f} minutes on one core", flush=True)
    seed = 0
    while quiet.sessions < given.sessions:
        seed += 1
        watch_year(table, seed, calmest(table, seed, min(CALMEST_OF_A_YEAR, given.sessions - quiet.sessions)), quiet)
        print(
            f"  {quiet.sessions} sessions, {time.perf_counter() - started_s:.0f} s, {len(quiet.trips)} trips",
            flush=True,
        )
    for feed, longest_s in quiet.longest_s.items():
        print(f"longest silence on the {feed.value} feed: {longest_s:.0f} s of {STALE_AFTER_S:.0f} s")
    print(f"{quiet.sessions} sessions, {quiet.messages} quotes, {len(quiet.trips)} trips of the supervisors")
    bad = quiet.trips
    for number in range(1, given.sockets + 1):
        with tempfile.TemporaryDirectory() as folder:
            bars, found = asyncio.run(through_sockets(Path(folder), number))
        bad = bad + found
        print(f"through real sockets: seed {number}, {bars} bars, {len(found)} trips", flush=True)
    for text in bad:
        print(f"TRIP {text}")
    print(f"{time.perf_counter() - started_s:.0f} s in all")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

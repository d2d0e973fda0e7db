"""Play recorded market inputs through a core that trades on the exchange in process, beside the record itself.

Inputs: journal segments in order of start. Outputs: what the recorded core did and what the played one does, as two
records. Invariants: the played core is told every market input and operator's request at its recorded time, nothing of
the recorded broker, and fires its own timers; the book at an instant is what the record told by then.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import cast

from oracle.backtest_edges import IN_PROCESS, InProcessEdges
from oracle.build import build_core, load_strategies
from oracle.carried import carried
from oracle.core.engine import Turn
from oracle.core.errors import ConfigurationError
from oracle.core.message import Message
from oracle.core.messages import Input, ReadChain, ReadOptionQuotes, SetOptionSubscription, Stamped
from oracle.core.reports import AccountReported
from oracle.core.sessions import NS
from oracle.daemon import EFFECTS, Effect
from oracle.divergence_inputs import MARKET, NOT_OURS, OPERATOR
from oracle.divergence_sides import SideRecord, take_all
from oracle.inbox import Inbox, Source
from oracle.opening import Opening, changes_since, reopen
from oracle.running import Core
from oracle.sim.config import ExchangeConfig
from oracle.sim.source import Touch
from oracle.sim.told import ToldExchange, ToldMarket
from oracle.store.journal import JournalReader, Record
from oracle.store.loading import Loaded
from oracle.store.records import Damage, OpeningLostError
from oracle.store.sqlite import durable

# Answered by the record: it holds what the recorded core was told of chains and quotes.
_RECORDED_ANSWERS = (ReadChain, ReadOptionQuotes, SetOptionSubscription)
# These modes ran on an exchange that moves by whole seconds; others follow the wall clock.
_PACED = frozenset(("sim", "backtest"))

TELL_EVERY = 1000
# By the wall clock: after so long without a new quote of its contracts a resting order is matched again.
SILENT_NS = 2 * NS

Progress = Callable[[int, int], None]


class _Edges(InProcessEdges):
    """Orders and account reads go to the exchange; reads of the market are answered by the record."""

    async def _perform(self, effect: Effect) -> Message | None:
        return None if isinstance(effect, _RECORDED_ANSWERS) else await super()._perform(effect)


class Played:
    """Both sides of a session, what was found on the way, and from when to when it was played (UTC ns)."""

    def __init__(self) -> None:
        self.reality, self.replay = SideRecord(), SideRecord()
        self.notes: list[str] = []
        self.modes: list[str] = []
        self.started_ns: int | None = None
        self.ended_ns: int | None = None
        self.inputs = self.operator_requests = self.not_ours = self.sizeless = 0
        self.damaged = False


async def play(paths: Sequence[Path], progress: Progress | None = None) -> Played:
    """Play segments one after the other; ``progress`` hears (bytes read, bytes in all).

    Raises:
        ConfigurationError: a file is no journal or not one for this build, none has a readable opening record, or no
            report of the account tells what it began with.
    """
    player, read = _Player(_first_report(paths)), 0
    total = sum(path.stat().st_size for path in paths)
    for path in paths:
        try:
            reader = JournalReader(path)
        except OpeningLostError as error:
            player.lost(path, error.damage)
            continue
        await player.segment(reader, None if progress is None else _share(progress, read, total))
        read += reader.size
    return player.played


def _first_report(paths: Sequence[Path]) -> AccountReported:
    """The first account that was read.

    Raises:
        ConfigurationError: there is none, or no opening record can be read.
    """
    problem = "no opening record can be read"
    for path in paths:
        try:
            reader = JournalReader(path)
        except OpeningLostError:
            continue
        problem = "the journal holds no report of the account, so what it began with is unknown"
        # Closed by hand: most of the file is left unread.
        with closing(cast("Generator[Record, None, None]", iter(reader))) as records:
            for record in records:
                told = record.input if isinstance(record, Stamped) else None
                if isinstance(told, AccountReported) and not told.text and told.cash_usd is not None:
                    return told
    raise ConfigurationError("SESSION", problem, "choose a session that was connected to a broker")


class _Player:
    """The exchange, which lives on from segment to segment, and the core, which does not."""

    def __init__(self, report: AccountReported) -> None:
        self.played = Played()
        self._report = report
        self._loaded: Loaded | None = None
        self._stored: list[tuple[int, Message]] = []
        # Made with the first segment, before anything is played.
        self._exchange: ToldExchange
        self._core: Core
        self._edges: _Edges
        self._inbox: Inbox
        # Exchange time moves by whole seconds in simulations; with a real broker every instant is one of its own.
        self._is_paced = False
        self._matched_ns = 0
        self._seen: dict[tuple[str, str], Touch | None] = {}

    def lost(self, path: Path, damage: Damage) -> None:
        """Name a segment whose opening record cannot be read."""
        self.played.notes.append(f"{path.name}: left out, its opening record cannot be read ({damage.reason})")
        self.played.damaged |= not damage.torn

    async def segment(self, reader: JournalReader, on_read: Callable[[int], None] | None) -> None:
        """Play one process's life."""
        opening, played = reopen(reader.opened), self.played
        self._start(opening, reader)
        held: list[Input] = []
        held_ns = opening.at_ns
        stamped: Stamped | None = None
        for number, record in enumerate(reader):
            if on_read is not None and number % TELL_EVERY == 0:
                on_read(reader.position)
            if not isinstance(record, Stamped):
                at_ns = held_ns if stamped is None else stamped.at_ns
                take_all(played.reality, at_ns, record.messages)
                played.not_ours += sum(isinstance(message, NOT_OURS) for message in record.messages)
                continue
            stamped = record
            if isinstance(record.input, MARKET + OPERATOR):
                if record.at_ns != held_ns:
                    await self._until(held_ns, held)
                    held, held_ns = [], record.at_ns
                held.append(record.input)
        await self._until(held_ns, held)
        if stamped is not None:
            played.ended_ns = max(stamped.at_ns, played.ended_ns or 0)
            await self._until(stamped.at_ns, ())
        played.inputs += reader.inputs
        self._tell_end(reader)

    # ---------------------------------------------------------------------------------------------- start, end

    def _start(self, opening: Opening, reader: JournalReader) -> None:
        """Build the core of a segment, and before the first one the exchange."""
        played, opened = self.played, reader.opened
        strategies = load_strategies(opening.config)
        name = reader.path.name
        played.notes += [f"{name}: {note}" for note in changes_since(opened, opening.config, strategies)]
        played.modes.append(opened.mode)
        self._is_paced = opened.mode in _PACED
        is_first = self._loaded is None
        if self._loaded is None:
            loaded, played.started_ns = opening.loaded, opening.at_ns
            played.reality.begin(loaded)
            played.replay.begin(loaded)
            if loaded.working:
                count = len(loaded.working)
                played.notes.append(f"{name}: {count} orders worked at the start; the exchange in process has none")
        else:
            loaded = carried(self._loaded, self._stored)
            # A killed process takes its last, unwritten records with it.
            gap_s = (opening.at_ns - (played.ended_ns or opening.at_ns)) / NS
            if gap_s > 0:
                played.notes.append(f"{name}: no input is on record of the {gap_s:,.0f} s before it")
            played.reality.restore(opening.loaded)
        self._loaded, self._stored = loaded, []
        self._core = build_core(opening.config, opening.table, loaded, strategies)
        if is_first:
            self._exchange = self._make_exchange(opening)
        self._exchange.source.forget()
        self._inbox = Inbox()
        self._edges = _Edges(self._exchange, self._inbox, ())
        self._core.engine.start(opening.at_ns)
        self._exchange.step(max(opening.at_ns, self._exchange.now_ns))
        # What ended while no process listened is found by its first reads, as in reality.
        self._exchange.drain()

    def _make_exchange(self, opening: Opening) -> ToldExchange:
        """The exchange with what the ledger held at the start; with an empty ledger, what the first report told."""
        report, ledger = self._report, self._core.ledger
        day = opening.table.current_or_next(opening.at_ns)
        sessions = [s for s in opening.table.sessions if day is None or s.open_ns >= day.open_ns]
        level = {"options_level": report.options_level} if report.options_level in (0, 1, 2, 3) else {}
        settings = {"key": IN_PROCESS, "secret": IN_PROCESS, **level}
        exchange = ToldExchange(ExchangeConfig.model_validate(settings), ToldMarket(sessions), opening.table)
        if ledger.seeded:
            cash_usd = ledger.cash_usd
            held = {p.symbol: (p.qty, p.avg_price_usd) for p in ledger.positions()}
        else:
            cash_usd = _known(report.cash_usd)
            held = {p.symbol: (int(p.qty), p.avg_entry_price_usd) for p in report.positions}
        last_usd = cash_usd if report.last_equity_usd is None else report.last_equity_usd
        exchange.begin(cash_usd, last_usd, held)
        return exchange

    def _tell_end(self, reader: JournalReader) -> None:
        played, damage = self.played, reader.damage
        played.sizeless = self._exchange.source.sizeless
        if damage is not None:
            kind = "torn" if damage.torn else "damaged"
            what = f"{kind} at input {damage.seq}: {damage.reason}; used up to there"
            played.notes.append(f"{reader.path.name}: {what}")
            played.damaged |= not damage.torn

    # ------------------------------------------------------------------------------------------------ the loop

    async def _until(self, to_ns: int, messages: Sequence[Input]) -> None:
        """Come to the instant of recorded inputs, through every instant before it at which something is due."""
        while (next_ns := self._next_ns()) is not None and next_ns < to_ns:
            await self._instant(next_ns, ())
        if messages or self._next_ns() == to_ns:
            await self._instant(to_ns, messages)

    def _next_ns(self) -> int | None:
        """The next timer, or while an order works the next moment at which it is matched without a new quote."""
        exchange, engine, quantum = self._exchange, self._core.engine, NS if self._is_paced else 1
        now_ns, timer_ns = max(exchange.now_ns, engine.at_ns), engine.next_timer_ns
        due = [] if timer_ns is None else [max(now_ns + quantum, -(-timer_ns // quantum) * quantum)]
        if exchange.book.working:
            due.append((now_ns // NS + 1) * NS if self._is_paced else max(now_ns + 1, self._matched_ns + SILENT_NS))
        return min(due, default=None)

    async def _instant(self, at_ns: int, messages: Iterable[Input]) -> None:
        """The book first, then matching, then what both tell the core, until nothing follows any more."""
        exchange, inbox, engine = self._exchange, self._inbox, self._core.engine
        for message in messages:
            exchange.source.take(at_ns, message)
            operator = isinstance(message, OPERATOR)
            self.played.operator_requests += operator
            inbox.put(Source.OPERATOR if operator else Source.STOCK, message)
        self._match(at_ns)
        self._edges.flush()
        while True:
            batch = inbox.take()
            await self._handle(engine.advance(at_ns))
            for message in batch:
                await self._handle(engine.handle(at_ns, message))
            if not await self._edges.perform() and not len(inbox):
                break
        shown = self._shown()
        if shown.keys() != self._seen.keys():
            self._matched_ns = at_ns  # a new order was matched when it came
        self._seen = shown

    def _match(self, at_ns: int) -> None:
        """Let the exchange match. By the wall clock resting orders wait for a new quote of theirs, or for silence.

        Displayed sizes are shown anew each second. A feed's quotes come a little after the second: matched before they
        do, an order would take the same old size twice.
        """
        exchange = self._exchange
        is_silent = at_ns - self._matched_ns >= SILENT_NS
        if self._is_paced or is_silent or not exchange.book.working or self._shown() != self._seen:
            exchange.step(at_ns)
            self._matched_ns = at_ns
        else:
            exchange.now_ns = at_ns

    def _shown(self) -> dict[tuple[str, str], Touch | None]:
        """The quotes that working orders meet, by order and symbol."""
        exchange = self._exchange
        return {
            (order.id, line.symbol): exchange.source.touch(line.symbol)
            for order in exchange.book.working.values()
            for line in order.lines
        }

    async def _handle(self, turns: Iterable[Turn]) -> None:
        for turn in turns:
            at_ns = turn.stamped.at_ns
            take_all(self.played.replay, at_ns, turn.messages)
            self._stored += [(at_ns, message) for message in durable(turn.stamped, turn.messages)]
            for message in turn.messages:
                if isinstance(message, EFFECTS):
                    self._edges.send(message)


def _share(progress: Progress, before: int, total: int) -> Callable[[int], None]:
    return lambda at: progress(before + at, total)


def _known(cash_usd: Decimal | None) -> Decimal:
    assert cash_usd is not None
    return cash_usd

"""Keep the right contracts listed, streamed and read: legs held first, then near the money, within the plan's limit.

Inputs: Quote, ChainListed, ChainReadFailed, OptionsWanted, SubmitOrder, OrderClosed, OrderFilled, its own timers.
Outputs: ReadChain, SetOptionSubscription and ReadOptionQuotes effects. Invariants: the subscription never exceeds the
limit; the same state gives the same set; what is held is listed and streamed, whoever wants what.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from oracle.core.bus import HandlerTable
from oracle.core.instruments import is_option, parse_occ
from oracle.core.marketdata import ChainListed, ChainReadFailed, Quote
from oracle.core.message import Message
from oracle.core.messages import (
    OptionsWanted,
    OrderClosed,
    OrderFilled,
    ReadChain,
    ReadOptionQuotes,
    SetOptionSubscription,
    SetTimer,
    SubmitOrder,
    TimerFired,
)
from oracle.core.ports import Context
from oracle.core.sessions import MINUTE_NS, NS, Session
from oracle.core.structures import legs_of
from oracle.options.needs import Row, Slot, read_at_times, share_out

RETRY_S = 10
READ_BEFORE_OPEN_NS = 15 * MINUTE_NS
# Strikes are listed this far from spot; wide enough for any one-day move that leaves the market open
# (NYSE Rule 7.12 halts trading for the day at -20 %).
LISTED_BAND = Decimal("0.20")
# The subscription follows spot once it has moved by this share of the subscribed half-width.
RECENTRE_SHARE = 0.35
# An expiry that is wanted by name is streamed up to so many sessions ahead. Later ones are read once a minute: the
# strikes that they need are too many for the limit, and they hardly move in between.
STREAMED_AHEAD = 1
READ_TIMER = "quotes:read"
# So late in the minute that the evaluations after its end see quotes a few seconds old.
READ_AT_NS = 56 * NS
# Who wants every listed expiry and is no strategy measures the volatility at the money.
UNNAMED_REACH = 0.01


@dataclass(slots=True)
class _Chain:
    """One underlying's listing for a date: strikes by expiry, and where the subscription is centred (None: nowhere)."""

    asked_date: str = ""
    listed_date: str = ""
    by_expiry: dict[str, list[Row]] = field(default_factory=dict)
    centre: float | None = None
    half_width: float = math.inf


class ChainKeeper:
    """Which chains to read and which quotes to subscribe.

    Args:
        sessions_ahead: per underlying, how many sessions ahead the farthest listed expiry lies (0 = expiring today).
        limit: option quotes that the data plan allows at once (200 or 1,000).
        on_demand: underlyings whose chains are wanted only while some strategy says so; they are listed, and what is
            held is subscribed, for as long as anything of them is held.
        always_ahead: per underlying, how far those look that always want quotes; None: as far as is listed.
        ahead_of: by strategy, how far one looks that wants quotes at times and names no expiry; None: all that is
            listed. Who is not named there gets the strikes at the money, read once a minute.
    """

    __slots__ = ("_ahead", "_ahead_of", "_always", "_chains", "_current", "_limit", "_on_demand", "_wishes", "_working")

    def __init__(
        self,
        sessions_ahead: Mapping[str, int],
        limit: int,
        on_demand: Collection[str] = (),
        *,
        always_ahead: Mapping[str, int] | None = None,
        ahead_of: Mapping[str, int] | None = None,
    ) -> None:
        self._on_demand = frozenset(on_demand)
        self._ahead = dict(sorted(sessions_ahead.items()))
        self._always = dict(self._ahead if always_ahead is None else always_ahead)
        self._ahead_of = None if ahead_of is None else dict(ahead_of)
        self._limit = limit
        self._wishes: dict[str, dict[str, OptionsWanted]] = {}
        self._chains = {symbol: _Chain() for symbol in self._ahead}
        self._current: tuple[str, ...] = ()
        # Legs of entries that can still fill, by order.
        self._working: dict[str, tuple[str, ...]] = {}

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (Quote, self.on_quote),
            (OptionsWanted, self.on_wanted),
            (ChainListed, self.on_listed),
            (ChainReadFailed, self.on_read_failed),
            (TimerFired, self.on_timer),
            (SubmitOrder, self.on_submit),
            (OrderClosed, self.on_order_closed),
            (OrderFilled, self.on_filled),
        )

    def on_quote(self, quote: Quote, context: Context) -> Iterable[Message]:
        """Ask for the chain once spot is known for the coming session; follow spot and what is held afterwards."""
        chain = self._chains.get(quote.symbol)
        mid, session = quote.mid, context.session
        if chain is None or mid is None or session is None:
            return ()
        wanted = self._is_wanted(quote.symbol)
        # Without its listing an option that is held has no price, whether or not its strategy still wants a chain.
        if not wanted and not _holds_option_of(quote.symbol, context):
            return ()
        if chain.asked_date != session.date:
            return self._ask(quote.symbol, mid, context)
        if chain.listed_date != session.date:
            return ()
        if wanted and (chain.centre is None or abs(mid - chain.centre) > RECENTRE_SHARE * chain.half_width):
            chain.centre = mid
            return self._subscribe(context)
        return self._keep_held(context)

    def on_listed(self, listed: ChainListed, context: Context) -> Iterable[Message]:
        """Index the listing and subscribe around spot; while spot is unknown, its next middle does."""
        chain = self._chains.get(listed.underlying)
        if chain is None or context.session is None or listed.date != context.session.date:
            return ()
        quote = context.market.quote(listed.underlying)
        chain.listed_date = listed.date
        if listed.underlying in self._on_demand:
            # Where no chain was wanted, quotes may be old; the last bar's close is spot then.
            chain.centre = context.chains.spot(listed.underlying, context.at_ns)
        elif quote is not None and quote.mid is not None:
            chain.centre = quote.mid
        chain.by_expiry = {}
        for contract in listed.contracts:
            parsed = parse_occ(contract.symbol)
            if parsed.root == listed.underlying:  # another root is an adjusted contract, which delivers something else
                row = (parsed.strike, contract.symbol, parsed.is_call)
                chain.by_expiry.setdefault(parsed.expiry, []).append(row)
        return (*self._subscribe(context), *self._read_now(listed.underlying, context))

    def on_wanted(self, wish: OptionsWanted, context: Context) -> Iterable[Message]:
        """Read and subscribe a chain when a strategy begins to want it, and leave it when the last one ends."""
        chain, session = self._chains.get(wish.underlying), context.session
        wishes = self._wishes.setdefault(wish.underlying, {})
        wishes.pop(wish.strategy, None)
        if wish.wanted:
            wishes[wish.strategy] = wish
        if chain is None or session is None:
            return ()
        spot = context.chains.spot(wish.underlying, context.at_ns)
        if wish.underlying not in self._on_demand or not wish.wanted or spot is None:
            return (*self._subscribe(context), *self._read_now(wish.underlying, context))
        if chain.asked_date != session.date:
            return self._ask(wish.underlying, spot, context)
        chain.centre = spot
        return (*self._subscribe(context), *self._read_now(wish.underlying, context))

    def _is_wanted(self, underlying: str) -> bool:
        return underlying not in self._on_demand or bool(self._wishes.get(underlying))

    def on_read_failed(self, failed: ChainReadFailed, context: Context) -> Iterable[Message]:
        """Try again a little later; until then the chain is unknown and nothing trades on it."""
        return (SetTimer(f"chain:{failed.underlying}", context.at_ns + RETRY_S * NS),)

    def on_timer(self, timer: TimerFired, context: Context) -> Iterable[Message]:
        """Repeat a failed read, and wait on while spot is unknown; read what is not streamed once a minute."""
        if timer.timer_id == READ_TIMER:
            return self._read_all(context)
        owner, _, underlying = timer.timer_id.partition(":")
        chain, session = self._chains.get(underlying), context.session
        if owner != "chain" or chain is None or session is None or chain.listed_date == session.date:
            return ()
        quote = context.market.quote(underlying)
        if quote is None or quote.mid is None:
            return (SetTimer(timer.timer_id, context.at_ns + RETRY_S * NS),)
        return self._ask(underlying, quote.mid, context)

    def on_submit(self, order: SubmitOrder, context: Context) -> Iterable[Message]:
        """The legs of a working order are streamed: its ladder and its exits are judged on their quotes."""
        legs = tuple(leg.symbol for leg in legs_of(order.symbol) if is_option(leg.symbol))
        if set(legs) <= set(self._current):
            self._working[order.order_id] = legs
            return ()
        self._working[order.order_id] = legs
        return self._subscribe(context)

    def on_order_closed(self, closed: OrderClosed, _context: Context) -> Iterable[Message]:
        """Its legs are streamed only as long as they are held or needed otherwise."""
        self._working.pop(closed.order_id, None)
        return ()

    def on_filled(self, _fill: OrderFilled, context: Context) -> Iterable[Message]:
        """A leg held is always subscribed; where chains are wanted at times, one that has gone is left."""
        return self._subscribe(context) if self._on_demand else self._keep_held(context)

    # --------------------------------------------------------------------------------------------------- listing

    def _ask(self, underlying: str, spot: float, context: Context) -> tuple[Message, ...]:
        session = context.session
        if session is None or context.at_ns < session.open_ns - READ_BEFORE_OPEN_NS:
            return ()
        self._chains[underlying].asked_date = session.date
        return self._read(underlying, spot, session, context)

    def _read(self, underlying: str, spot: float, session: Session, context: Context) -> tuple[Message, ...]:
        """Ask for the needed expiries around spot, and as far as what is held reaches."""
        last = _ahead(session, self._ahead[underlying], context)
        price = Decimal(repr(round(spot, 2)))
        low, high = price * (1 - LISTED_BAND), price * (1 + LISTED_BAND)
        held = [c for c in map(parse_occ, _held(context)) if c.root == underlying and c.expiry >= session.date]
        expiry_to = max([last, *(contract.expiry for contract in held)])
        strikes = [contract.strike_usd for contract in held]
        low, high = min([round(low, 2), *strikes]), max([round(high, 2), *strikes])
        return (ReadChain(underlying, session.date, session.date, expiry_to, low, high),)

    # ------------------------------------------------------------------------------------------------- streaming

    def _keep_held(self, context: Context) -> tuple[Message, ...]:
        return () if set(_held(context)) <= set(self._current) else self._subscribe(context)

    def _subscribe(self, context: Context) -> tuple[Message, ...]:
        """Legs held and of working orders first; the rest is shared over the expiries, nearest strikes first."""
        slots = self._slots(context)
        if not slots and not self._on_demand and not self._working:
            return ()
        first = dict.fromkeys((*_held(context), *(s for legs in self._working.values() for s in legs)))
        chosen = set(tuple(first)[: self._limit])
        added, widths = share_out(slots, self._limit - len(chosen))
        chosen.update(added)
        for symbol, chain in self._chains.items():
            # Where nothing is streamed there is nothing to follow spot with.
            chain.half_width = widths.get(symbol, math.inf)
        symbols = tuple(sorted(chosen))
        if symbols == self._current or not (symbols or self._on_demand):
            return ()
        self._current = symbols
        return (SetOptionSubscription(symbols),)

    def _slots(self, context: Context) -> list[Slot]:
        """The expiries that are streamed, of chains that are listed and whose centre is known."""
        session = context.session
        found: list[Slot] = []
        for symbol, chain in self._chains.items():
            centre = chain.centre
            if session is None or centre is None or chain.listed_date != session.date or not self._is_wanted(symbol):
                continue
            plain, wide = self._streamed(symbol, chain, session, context)
            for expiry, rows in chain.by_expiry.items():
                if expiry in plain or expiry in wide:
                    found.append(Slot(symbol, rows, centre, expiry in wide))
        return found

    def _streamed(
        self, underlying: str, chain: _Chain, session: Session, context: Context
    ) -> tuple[set[str], set[str]]:
        """The listed expiries that are streamed near the money, and those of which far strikes are streamed too."""
        listed = chain.by_expiry
        plain: set[str] = set()
        wide: set[str] = set()
        if underlying not in self._on_demand:
            last = _ahead(session, self._always.get(underlying, 0), context)
            plain.update(expiry for expiry in listed if expiry <= last)
        for strategy, wish in self._wishes.get(underlying, {}).items():
            if wish.expiries:
                last = _ahead(session, STREAMED_AHEAD, context)
                near = {expiry for expiry in wish.expiries if expiry in listed and expiry <= last}
                (plain if wish.reach is not None else wide).update(near)
            elif self._ahead_of is None:
                plain.update(listed)
            elif strategy in self._ahead_of:
                last = _ahead(session, self._ahead_of[strategy], context)
                plain.update(expiry for expiry in listed if expiry <= last)
        return plain - wide, wide

    # -------------------------------------------------------------------------------------------------- reading

    def _read_now(self, underlying: str, context: Context) -> tuple[Message, ...]:
        """Read at once what has come to be needed of an underlying, and from then on once a minute."""
        symbols = self._unstreamed(underlying, context)
        if not symbols:
            return ()
        return (ReadOptionQuotes(tuple(sorted(symbols))), self._next_read(context))

    def _read_all(self, context: Context) -> tuple[Message, ...]:
        """Read everything that is needed and not streamed; the timer ends when there is nothing any more."""
        symbols = {symbol for underlying in self._chains for symbol in self._unstreamed(underlying, context)}
        if not symbols:
            return ()
        return (ReadOptionQuotes(tuple(sorted(symbols))), self._next_read(context))

    def _next_read(self, context: Context) -> SetTimer:
        at_ns = context.at_ns - context.at_ns % MINUTE_NS + READ_AT_NS
        return SetTimer(READ_TIMER, at_ns if at_ns > context.at_ns else at_ns + MINUTE_NS)

    def _unstreamed(self, underlying: str, context: Context) -> set[str]:
        """The contracts of an underlying that are wanted and not streamed, while its market is open."""
        chain, session = self._chains[underlying], context.session
        wishes = self._wishes.get(underlying)
        centre = context.chains.spot(underlying, context.at_ns)
        if not wishes or session is None or chain.listed_date != session.date or centre is None:
            return set()
        if not session.is_open(context.at_ns):
            return set()
        plain, wide = self._streamed(underlying, chain, session, context)
        found: set[str] = set()
        for strategy, wish in wishes.items():
            if not wish.expiries and (self._ahead_of is None or strategy in self._ahead_of):
                continue
            reach = wish.reach if wish.expiries else UNNAMED_REACH
            for expiry in wish.expiries or tuple(chain.by_expiry):
                if expiry not in plain and expiry not in wide:
                    found |= read_at_times(chain.by_expiry.get(expiry, ()), centre, reach)
        return found - set(self._current)


def _ahead(session: Session, sessions: int, context: Context) -> str:
    """The date so many sessions ahead, as far as the calendar goes."""
    last = session
    for _ in range(sessions):
        last = context.table.after(last.date) or last
    return last.date


def _held(context: Context) -> list[str]:
    """The contracts held, sorted: by the ledger, which knows them after a restart too."""
    return [p.symbol for p in context.ledger.positions() if is_option(p.symbol)]


def _holds_option_of(underlying: str, context: Context) -> bool:
    return any(is_option(symbol) and parse_occ(symbol).root == underlying for symbol in context.ledger.held)

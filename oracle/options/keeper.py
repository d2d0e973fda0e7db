"""Keep the right contracts listed and subscribed: near the money, within the plan's limit, legs held first.

Inputs: Quote, ChainListed, ChainReadFailed, OrderFilled, its own retry timer. Outputs: ReadChain and
SetOptionSubscription effects. Invariants: the subscription never exceeds the limit; the same state gives the same set.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from oracle.core.bus import HandlerTable
from oracle.core.instruments import is_option, parse_occ
from oracle.core.messages import (
    ChainListed,
    ChainReadFailed,
    Message,
    OptionsWanted,
    OrderFilled,
    Quote,
    ReadChain,
    SetOptionSubscription,
    SetTimer,
    TimerFired,
)
from oracle.core.ports import Context
from oracle.core.sessions import MINUTE_NS, NS, Session

RETRY_S = 10
READ_BEFORE_OPEN_NS = 15 * MINUTE_NS
# Strikes are listed this far from spot; wide enough for any one-day move that leaves the market open
# (NYSE Rule 7.12 halts trading for the day at -20 %).
LISTED_BAND = Decimal("0.20")
# The subscription follows spot once it has moved by this share of the subscribed half-width.
RECENTRE_SHARE = 0.35


@dataclass(slots=True)
class _Chain:
    """One underlying's listing for a date: strikes by expiry, and where the subscription is centred (None: nowhere)."""

    asked_date: str = ""
    listed_date: str = ""
    by_expiry: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    centre: float | None = None
    half_width: float = 0.0


class ChainKeeper:
    """Which chains to read and which quotes to subscribe.

    Args:
        sessions_ahead: per underlying, how many sessions ahead the farthest expiry lies (0 = expiring today).
        limit: option quotes that the data plan allows at once (200 or 1,000).
        on_demand: underlyings whose chains are wanted only while some strategy says so; they are listed, and what is
            held is subscribed, for as long as anything of them is held.
    """

    __slots__ = ("_ahead", "_chains", "_current", "_limit", "_on_demand", "_wanting")

    def __init__(self, sessions_ahead: Mapping[str, int], limit: int, on_demand: Collection[str] = ()) -> None:
        self._on_demand = frozenset(on_demand)
        self._wanting: dict[str, set[str]] = {}
        self._ahead = dict(sorted(sessions_ahead.items()))
        self._limit = limit
        self._chains = {symbol: _Chain() for symbol in self._ahead}
        self._current: tuple[str, ...] = ()

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (Quote, self.on_quote),
            (OptionsWanted, self.on_wanted),
            (ChainListed, self.on_listed),
            (ChainReadFailed, self.on_read_failed),
            (TimerFired, self.on_timer),
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
                chain.by_expiry.setdefault(parsed.expiry, []).append((parsed.strike, contract.symbol))
        return self._subscribe(context)

    def on_wanted(self, wish: OptionsWanted, context: Context) -> Iterable[Message]:
        """Read and subscribe a chain when a strategy begins to want it, and leave it when the last one ends."""
        chain, session = self._chains.get(wish.underlying), context.session
        wanting = self._wanting.setdefault(wish.underlying, set())
        (wanting.add if wish.wanted else wanting.discard)(wish.strategy)
        if chain is None or session is None or wish.underlying not in self._on_demand:
            return ()
        spot = context.chains.spot(wish.underlying, context.at_ns)
        if not wish.wanted or spot is None:
            return self._subscribe(context)
        if chain.asked_date != session.date:
            return self._ask(wish.underlying, spot, context)
        chain.centre = spot
        return self._subscribe(context)

    def _is_wanted(self, underlying: str) -> bool:
        return underlying not in self._on_demand or bool(self._wanting.get(underlying))

    def on_read_failed(self, failed: ChainReadFailed, context: Context) -> Iterable[Message]:
        """Try again a little later; until then the chain is unknown and nothing trades on it."""
        return (SetTimer(f"chain:{failed.underlying}", context.at_ns + RETRY_S * NS),)

    def on_timer(self, timer: TimerFired, context: Context) -> Iterable[Message]:
        """Repeat a failed read, and wait on while spot is unknown."""
        owner, _, underlying = timer.timer_id.partition(":")
        chain, session = self._chains.get(underlying), context.session
        if owner != "chain" or chain is None or session is None or chain.listed_date == session.date:
            return ()
        quote = context.market.quote(underlying)
        if quote is None or quote.mid is None:
            return (SetTimer(timer.timer_id, context.at_ns + RETRY_S * NS),)
        return self._ask(underlying, quote.mid, context)

    def on_filled(self, _fill: OrderFilled, context: Context) -> Iterable[Message]:
        """A leg held is always subscribed; where chains are wanted at times, one that has gone is left."""
        return self._subscribe(context) if self._on_demand else self._keep_held(context)

    def _keep_held(self, context: Context) -> tuple[Message, ...]:
        return () if set(_held(context)) <= set(self._current) else self._subscribe(context)

    def _ask(self, underlying: str, spot: float, context: Context) -> tuple[Message, ...]:
        session = context.session
        if session is None or context.at_ns < session.open_ns - READ_BEFORE_OPEN_NS:
            return ()
        self._chains[underlying].asked_date = session.date
        return self._read(underlying, spot, session, context)

    def _read(self, underlying: str, spot: float, session: Session, context: Context) -> tuple[Message, ...]:
        last = session
        for _ in range(self._ahead[underlying]):
            last = context.table.after(last.date) or last
        price = Decimal(repr(round(spot, 2)))
        low, high = price * (1 - LISTED_BAND), price * (1 + LISTED_BAND)
        return (ReadChain(underlying, session.date, session.date, last.date, round(low, 2), round(high, 2)),)

    def _subscribe(self, context: Context) -> tuple[Message, ...]:
        """Share the limit equally over (underlying, expiry), nearest strikes first."""
        session = context.session
        ready = [
            (chain, chain.centre)
            for symbol, chain in self._chains.items()
            if session
            and self._is_wanted(symbol)
            and chain.listed_date == session.date
            and chain.by_expiry
            and chain.centre is not None
        ]
        slots = sum(len(chain.by_expiry) for chain, _ in ready)
        if slots == 0 and not self._on_demand:
            return ()
        chosen = set(_held(context)[: self._limit])
        share = (self._limit - len(chosen)) // max(slots, 1)
        for chain, centre in ready:
            widths = []
            for rows in chain.by_expiry.values():
                near = sorted((abs(strike - centre), symbol) for strike, symbol in rows)[:share]
                chosen.update(symbol for _, symbol in near)
                widths.append(near[-1][0] if near else 0.0)
            chain.half_width = min(widths)
        symbols = tuple(sorted(chosen))
        if symbols == self._current or not (symbols or self._on_demand):
            return ()
        self._current = symbols
        return (SetOptionSubscription(symbols),)


def _held(context: Context) -> list[str]:
    """The contracts held, sorted: by the ledger, which knows them after a restart too."""
    return [p.symbol for p in context.ledger.positions() if is_option(p.symbol)]


def _holds_option_of(underlying: str, context: Context) -> bool:
    return any(is_option(symbol) and parse_occ(symbol).root == underlying for symbol in context.ledger.held)

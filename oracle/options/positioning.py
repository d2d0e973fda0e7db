"""Gamma levels and option flow of the underlyings whose chains are known: an actor, and the view that others are given.

Inputs: ChainListed, OptionTrades, option subscriptions, feed states, sessions, bars (as the minute's beat). Outputs:
the answers of ``ports.PositioningView``, and PositioningMeasured for people. Gamma is computed when asked, once a
minute; flow is folded as it comes. Invariants: what is not known has a reason and no number; nothing is concluded
across a hole in the trades; the same inputs give the same answers.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from oracle.core.bus import HandlerTable
from oracle.core.errors import InvariantError
from oracle.core.instruments import parse_occ
from oracle.core.marketdata import Bar, ChainListed, FeedChanged, OptionTrades
from oracle.core.message import Message
from oracle.core.messages import PositioningMeasured, SessionClosed, SetOptionSubscription
from oracle.core.ports import Context
from oracle.core.positioning import FlowSeen, GammaLevels, NotKnown
from oracle.core.sessions import MINUTE_NS, NS, SessionTable
from oracle.core.vocabulary import Feed, FeedState
from oracle.options.chain import Chains
from oracle.options.flow import RULES, FlowRules, Ints, SessionFlow, Trades, average_volume
from oracle.options.gamma import GammaRows, LeftOut, gamma_profile
from oracle.options.pricing import Array, Bools
from oracle.options.selection import YEAR_NS

# A volatility moves slowly; a quote that has not changed for this long says nothing of it any more.
MAX_QUOTE_AGE_S = 900.0
# People look at levels that nobody asked for this often.
MEASURE_EVERY_MIN = 5
# A session counts for a contract's average volume when its trades were heard from at least this soon after the open.
WHOLE_FROM_NS = 5 * MINUTE_NS
_MAX_NS = 2**63 - 1
NO_CHAIN, NO_SPOT, NO_OPEN_INTEREST, NO_IMPLIED_VOL = "chain", "spot", "open_interest", "implied_vol"
INDICATIVE, FEED_DOWN, NO_TRADES = "indicative_feed", "option_feed_down", "option_trades"
STALE_QUOTE, NO_MODEL, NOT_MEASURED = "stale_quote", "no_model", "not_measured"


@dataclass(slots=True)
class _Book:
    """One underlying's listing of a session, its flow, and the levels of the minute in which they were last asked."""

    listed: ChainListed
    rows_of: dict[str, Ints]
    strike: Array
    is_call: Bools
    open_interest: Array
    flow: SessionFlow
    since_ns: int
    until_ns: int
    minute: int = -1
    levels: GammaLevels | None = None
    asked: bool = False
    row_of: dict[str, int] = field(default_factory=dict)


class Positioning:
    """The state of all underlyings' positioning.

    Args:
        chains: whose surfaces give volatilities and forwards; it must hear messages before this actor.
        table: sessions, for expiry instants.
        rate_per_year: continuously compounded interest rate, as that of the chains.
        no_flow: why option trades say nothing here (an indicative feed), empty where they do.
        rules: what counts as unusual.
    """

    __slots__ = (
        "_books", "_chains", "_live", "_no_flow", "_past", "_rate", "_rules", "_subscribed", "_table", "lost",
        "misdated",
    )  # fmt: skip

    def __init__(
        self,
        chains: Chains,
        table: SessionTable,
        *,
        rate_per_year: float,
        no_flow: str = "",
        rules: FlowRules = RULES,
    ) -> None:
        self._chains, self._table, self._rate = chains, table, rate_per_year
        self._no_flow, self._rules = no_flow, rules
        self._books: dict[str, _Book] = {}
        self._past: dict[str, deque[int]] = {}
        self._subscribed: dict[str, int] = {}
        self._live = False
        self.lost = 0
        self.misdated = 0

    def handlers(self) -> HandlerTable:
        """What this actor listens to; it must hear it after the chains and before strategies."""
        return (
            (ChainListed, self.on_listed),
            (OptionTrades, self.on_trades),
            (SetOptionSubscription, self.on_subscription),
            (FeedChanged, self.on_feed),
            (SessionClosed, self.on_session_close),
            (Bar, self.on_bar),
        )

    # ------------------------------------------------------------------------------------------------- messages

    def on_listed(self, message: ChainListed, context: Context) -> Iterable[Message]:
        """Take a listing; flow of the same session goes on for contracts that remain."""
        old = self._books.get(message.underlying)
        book = self._book(message, context.at_ns)
        if old is not None and old.listed.date == message.date:
            pairs = [(row, old.row_of[s]) for s, row in book.row_of.items() if s in old.row_of]
            book.flow.take_over(old.flow, {before: new for new, before in pairs})
            book.since_ns = old.since_ns
        self._books[message.underlying] = book
        return ()

    def on_trades(self, message: OptionTrades, context: Context) -> Iterable[Message]:
        """Fold trades in. Those numbered by another session's listing are counted in ``misdated`` and dropped.

        Raises:
            InvariantError: a row number lies outside the listing of that session.
        """
        book = self._books.get(message.underlying)
        if book is None or book.listed.date != message.date:
            self.misdated += 1
            return ()
        rows = np.frombuffer(message.rows, "<i4").astype(np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(book.strike)):
            raise InvariantError(f"option trades {message.underlying}: a row lies outside the listing")
        trades = Trades(
            row=rows,
            price=np.frombuffer(message.price, "<f8"),
            size=np.frombuffer(message.size, "<i4").astype(np.int64),
            # A stamp from the future would stay in the window for too long.
            traded_ns=np.minimum(np.frombuffer(message.traded_ns, "<i8"), context.at_ns),
            venue=message.venue.decode("latin-1"),
            bid=np.frombuffer(message.bid, "<f8"),
            ask=np.frombuffer(message.ask, "<f8"),
        )
        if message.lost:
            self.lost += message.lost
            self._restart(book, context.at_ns)
        book.flow.take(trades)
        return ()

    def on_subscription(self, message: SetOptionSubscription, context: Context) -> Iterable[Message]:
        """Note since when each contract's trades are heard."""
        before = self._subscribed
        self._subscribed = {symbol: before.get(symbol, context.at_ns) for symbol in message.symbols}
        return ()

    def on_feed(self, change: FeedChanged, context: Context) -> Iterable[Message]:
        """A cut of the option stream loses trades: the window begins anew once it is live."""
        if change.feed is Feed.OPTION:
            live = change.state is FeedState.LIVE
            if not live and self._live:
                self._subscribed = {}
            if live and not self._live:
                for book in self._books.values():
                    self._restart(book, context.at_ns)
            self._live = live
        return ()

    def on_session_close(self, message: SessionClosed, context: Context) -> Iterable[Message]:
        """Add the session to the averages of contracts whose trades were heard all through it."""
        session = context.table.on(message.date)
        for book in self._books.values():
            if session is None or book.listed.date != message.date:
                continue
            from_ns = session.open_ns + WHOLE_FROM_NS
            for symbol, since_ns in self._subscribed.items():
                row = book.row_of.get(symbol)
                if row is not None and max(since_ns, book.since_ns) <= from_ns:
                    past = self._past.setdefault(symbol, deque(maxlen=self._rules.average_over))
                    past.append(int(book.flow.volume[row]))
        self._past = {s: past for s, past in self._past.items() if parse_occ(s).expiry > message.date}
        return ()

    def on_bar(self, bar: Bar, context: Context) -> Iterable[Message]:
        """Tell people what is known: when it was asked for since the last bar, else now and then."""
        book = self._books.get(bar.symbol)
        if book is None or bar.backfilled or not context.in_session:
            return ()
        minute = context.at_ns // MINUTE_NS
        if not (book.asked or minute % MEASURE_EVERY_MIN == 0):
            return ()
        measured = self.measured(bar.symbol, context.at_ns)
        book.asked = False
        return (measured,)

    # ----------------------------------------------------------------------------------------------- the answers

    def gamma(self, underlying: str, at_ns: int, *, fresh: bool = True) -> GammaLevels | NotKnown:
        """The levels of this minute; or why there are none: ``chain``, ``spot``, ``open_interest``, ``implied_vol``.

        Without ``fresh`` nothing is computed: those measured last, or ``not_measured`` when that is long ago.
        """
        book = self._current(underlying, at_ns)
        if book is None or not len(book.strike):
            return NotKnown(NO_CHAIN, {})
        if not fresh:
            recent = book.levels is not None and at_ns - book.levels.at_ns <= MEASURE_EVERY_MIN * MINUTE_NS
            return book.levels if recent and book.levels is not None else NotKnown(NOT_MEASURED, {})
        book.asked = True
        if book.levels is not None and book.minute == at_ns // MINUTE_NS:
            return book.levels
        if not bool((book.open_interest > 0).any()):
            return NotKnown(NO_OPEN_INTEREST, {"listed": len(book.strike)})
        spot = self._chains.spot(underlying, at_ns)
        if spot is None:
            return NotKnown(NO_SPOT, {"listed": len(book.strike)})
        rows, left_out = self._rows(underlying, book, at_ns)
        profile = None if rows is None else gamma_profile(rows, spot)
        if profile is None:
            return NotKnown(NO_IMPLIED_VOL, {"listed": len(book.strike)})
        for reason, count in profile.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
        book.minute = at_ns // MINUTE_NS
        book.levels = GammaLevels(
            at_ns=at_ns,
            spot=spot,
            call_wall=profile.call_wall,
            put_wall=profile.put_wall,
            pin=profile.pin,
            flip=None if profile.flip is None else round(profile.flip, 4),
            net_gamma_usd=profile.total_usd,
            open_interest_date=interest_date(book.listed),
            open_interest_share=profile.open_interest_share,
            contracts_used=profile.used,
            left_out={reason: count for reason, count in sorted(left_out.items()) if count},
        )
        return book.levels

    def flow(self, underlying: str, at_ns: int) -> FlowSeen | NotKnown:
        """Unusual activity of the window; or why nothing is known: ``indicative_feed``, ``option_trades``, …"""
        if self._no_flow:
            return NotKnown(self._no_flow, {})
        book = self._current(underlying, at_ns)
        if book is None:
            return NotKnown(NO_CHAIN, {})
        if not self._live:
            return NotKnown(FEED_DOWN, {})
        if book.flow.heard == 0:
            return NotKnown(NO_TRADES, {})
        premium, count = book.flow.window(at_ns)
        return FlowSeen(
            since_ns=max(book.since_ns, at_ns - self._rules.window_ns),
            bullish_usd=float(premium[2]),
            bearish_usd=float(premium[0]),
            undirected_usd=float(premium[1]),
            bullish_n=int(count[2]),
            bearish_n=int(count[0]),
        )

    def measured(self, underlying: str, at_ns: int) -> PositioningMeasured:
        """Both answers as one message."""
        levels, flow = self.gamma(underlying, at_ns), self.flow(underlying, at_ns)
        known = levels if isinstance(levels, GammaLevels) else None
        seen = flow if isinstance(flow, FlowSeen) else None
        return PositioningMeasured(
            underlying=underlying,
            at_ns=at_ns,
            spot=known.spot if known else None,
            call_wall=known.call_wall if known else None,
            put_wall=known.put_wall if known else None,
            pin=known.pin if known else None,
            flip=known.flip if known else None,
            net_gamma_usd=round(known.net_gamma_usd, 2) if known else None,
            open_interest_date=known.open_interest_date if known else None,
            contracts_used=known.contracts_used if known else 0,
            gamma_reason=levels.reason if isinstance(levels, NotKnown) else "",
            bullish_usd=round(seen.bullish_usd, 2) if seen else None,
            bearish_usd=round(seen.bearish_usd, 2) if seen else None,
            bullish_n=seen.bullish_n if seen else None,
            bearish_n=seen.bearish_n if seen else None,
            flow_reason=flow.reason if isinstance(flow, NotKnown) else "",
        )

    # --------------------------------------------------------------------------------------------------- inside

    def _book(self, listed: ChainListed, at_ns: int) -> _Book:
        contracts = [parse_occ(c.symbol) for c in listed.contracts]
        by_expiry: dict[str, list[int]] = {}
        for row, contract in enumerate(contracts):
            if (
                contract.root == listed.underlying
            ):  # another root is an adjusted contract, which delivers something else
                by_expiry.setdefault(contract.expiry, []).append(row)
        is_call = np.array([c.is_call for c in contracts], dtype=np.bool_)
        interest = np.array(
            [math.nan if c.open_interest is None else float(c.open_interest) for c in listed.contracts],
            dtype=np.float64,
        )
        average = [average_volume(tuple(self._past.get(c.symbol, ())), self._rules) for c in listed.contracts]
        return _Book(
            listed=listed,
            rows_of={expiry: np.array(rows, dtype=np.int64) for expiry, rows in by_expiry.items()},
            strike=np.array([c.strike for c in contracts], dtype=np.float64),
            is_call=is_call,
            open_interest=interest,
            flow=SessionFlow(is_call, interest, np.array(average, dtype=np.float64), self._rules),
            since_ns=at_ns,
            until_ns=_MAX_NS if (following := self._table.after(listed.date)) is None else following.open_ns,
            row_of={c.symbol: row for row, c in enumerate(listed.contracts)},
        )

    def _current(self, underlying: str, at_ns: int) -> _Book | None:
        """The book of an underlying, unless a session has opened since its listing."""
        book = self._books.get(underlying)
        return book if book is not None and at_ns < book.until_ns else None

    def _restart(self, book: _Book, at_ns: int) -> None:
        book.flow.forget_window()
        book.since_ns = at_ns

    def _rows(self, underlying: str, book: _Book, at_ns: int) -> tuple[GammaRows | None, dict[str, int]]:
        """The contracts of all expiries that still live, at their volatilities; and those left out before any model."""
        parts: list[GammaRows] = []
        left_out: dict[str, int] = {}
        fresh_since_ns = at_ns - round(MAX_QUOTE_AGE_S * NS)
        for expiry, rows in book.rows_of.items():
            expiry_ns = self._table.expiry_ns(expiry)
            if expiry_ns is None or expiry_ns <= at_ns:
                _add(left_out, LeftOut.EXPIRED.value, len(rows))
                continue
            surface = self._chains.surface(underlying, expiry, at_ns, once=True)
            if surface is None:
                _add(left_out, NO_MODEL, len(rows))
                continue
            stale = ~np.isnan(surface.iv) & (surface.quoted_ns < fresh_since_ns)
            _add(left_out, STALE_QUOTE, int(np.count_nonzero(stale)))
            keep = ~stale
            years = (expiry_ns - at_ns) / YEAR_NS
            n = int(np.count_nonzero(keep))
            parts.append(
                GammaRows(
                    strike=book.strike[rows][keep],
                    is_call=book.is_call[rows][keep],
                    years=np.full(n, years),
                    forward=np.full(n, surface.forward),
                    discount=np.full(n, math.exp(-self._rate * years)),
                    vol=surface.iv[keep],
                    open_interest=book.open_interest[rows][keep],
                )
            )
        return (GammaRows.joined(parts) if parts else None), left_out


def _add(counts: dict[str, int], name: str, count: int) -> None:
    if count:
        counts[name] = counts.get(name, 0) + count


def interest_date(listed: ChainListed) -> str | None:
    """The date that most contracts' open interest carries (the older of equals), or None."""
    dates = [c.open_interest_date for c in listed.contracts if c.open_interest is not None and c.open_interest_date]
    return min(sorted(set(dates)), key=lambda d: -dates.count(d)) if dates else None

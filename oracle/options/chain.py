"""The live option chains: newest quotes per contract, what is usable and why not, implied volatility and delta.

Inputs: ChainListed, ChainQuotes, and stock quotes and bars for spot. Output: the answers of ``ports.ChainsView``.
Volatility and delta are computed when asked, one expiry at a time, as of the chain's last change, and kept until the
next: who asks when, or ``prepare`` in an idle moment, changes no figure. Invariants: what is unknown or too old is None
or a reason, never an older or another number; a vendor's time counts at most as the turn's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from oracle.core.bus import HandlerTable
from oracle.core.instruments import is_option, parse_occ
from oracle.core.marketdata import Bar, ChainListed, ChainQuotes, Quote
from oracle.core.message import Message
from oracle.core.ports import Context, DeltaRequest, NotSelected, OptionQuote, Selected
from oracle.core.sessions import MINUTE_NS, NS, SessionTable
from oracle.core.structurechoice import SelectedStructure, StructureRequest, UsableSlice
from oracle.options.columns import ChainColumns
from oracle.options.selection import Missing, Stopped, Surface, choose, compute_surface
from oracle.options.structure_selection import choose_structure, usable_slice


@dataclass(slots=True)
class _Chain:
    """One underlying: its columns, the surfaces of their present state, and which expiries were ever asked for."""

    columns: ChainColumns
    changed_ns: int
    surfaces: dict[str, Surface] = field(default_factory=dict)
    asked: dict[str, None] = field(default_factory=dict)

    def change(self, at_ns: int) -> None:
        """Note that quotes or spot have changed."""
        self.changed_ns = at_ns
        self.surfaces.clear()


class Chains:
    """The state of all chains: an actor with handlers, and the view that others are given.

    Args:
        table: sessions, for expiry instants.
        rate_per_year: continuously compounded interest rate, for discounting.
        max_age_s: age in seconds of vendor time beyond which an option quote joins no forward and gives no delta.
        spot_max_age_s: age in seconds beyond which the underlying's price is unknown.
    """

    __slots__ = ("_chains", "_max_age_ns", "_rate", "_spot", "_spot_max_age_ns", "_table", "misdated")

    def __init__(
        self,
        table: SessionTable,
        *,
        rate_per_year: float,
        max_age_s: float = 60.0,
        spot_max_age_s: float = 90.0,
    ) -> None:
        self._table = table
        self._rate = rate_per_year
        self._max_age_ns = round(max_age_s * NS)
        self._spot_max_age_ns = round(spot_max_age_s * NS)
        self._chains: dict[str, _Chain] = {}
        self._spot: dict[str, tuple[float, int]] = {}
        self.misdated = 0

    def handlers(self) -> HandlerTable:
        """What this actor listens to; it must hear them before strategies do."""
        return (
            (ChainListed, self.on_listed),
            (ChainQuotes, self.on_quotes),
            (Quote, self.on_stock_quote),
            (Bar, self.on_bar),
        )

    def on_listed(self, message: ChainListed, context: Context) -> Iterable[Message]:
        """Take the contracts of a session; quotes of the same session are kept for contracts that remain."""
        columns = ChainColumns.from_listing(message)
        old = self._chains.get(message.underlying)
        if old is not None and old.columns.listed.date == message.date:
            columns.copy_quotes(old.columns)
        self._chains[message.underlying] = _Chain(columns, context.at_ns)
        return ()

    def on_quotes(self, message: ChainQuotes, context: Context) -> Iterable[Message]:
        """Take changed quotes. Those numbered by another session's listing are counted in ``misdated`` and dropped.

        Raises:
            InvariantError: a row number lies outside the listing of that session.
        """
        chain = self._chains.get(message.underlying)
        if chain is None or chain.columns.listed.date != message.date:
            self.misdated += 1
            return ()
        chain.columns.take(message, context.at_ns)
        chain.change(context.at_ns)
        return ()

    def on_stock_quote(self, quote: Quote, context: Context) -> Iterable[Message]:
        """Take the underlying's quote as spot when it has a middle."""
        if quote.mid is not None:
            self._set_spot(quote.symbol, quote.mid, min(quote.quoted_ns, context.at_ns), context.at_ns)
        return ()

    def on_bar(self, bar: Bar, context: Context) -> Iterable[Message]:
        """Take a bar's close as spot when nothing newer is known."""
        end_ns, at_ns = bar.start_ns + MINUTE_NS, context.at_ns
        self._set_spot(bar.symbol, bar.close, end_ns if end_ns < at_ns else at_ns, at_ns)
        return ()

    def _set_spot(self, symbol: str, price: float, stamped_ns: int, at_ns: int) -> None:
        known = self._spot.get(symbol)
        if known is None or stamped_ns >= known[1]:
            self._spot[symbol] = (price, stamped_ns)
            chain = self._chains.get(symbol)
            if chain is not None:
                chain.change(at_ns)

    @property
    def adjusted(self) -> int:
        """Listed contracts that are left out because their root is not their underlying's."""
        return sum(chain.columns.adjusted for chain in self._chains.values())

    def listed(self, underlying: str) -> ChainListed | None:
        """The contracts of an underlying for its session, or None before they are known."""
        chain = self._chains.get(underlying)
        return None if chain is None else chain.columns.listed

    def columns(self, underlying: str) -> ChainColumns | None:
        """The contracts and newest quotes of an underlying, for analytics of whole chains; not to be changed."""
        chain = self._chains.get(underlying)
        return None if chain is None else chain.columns

    def spot(self, underlying: str, at_ns: int) -> float | None:
        """The underlying's newest price in dollars (quote's middle or bar's close); None when unknown or too old."""
        known = self._spot.get(underlying)
        return known[0] if known is not None and at_ns - known[1] <= self._spot_max_age_ns else None

    def option_quote(self, symbol: str) -> OptionQuote | None:
        """The newest quote of a contract, or None; a stock has none here."""
        if not is_option(symbol):
            return None
        chain = self._chains.get(parse_occ(symbol).root)
        row = None if chain is None else chain.columns.row_of.get(symbol)
        return None if chain is None or row is None else chain.columns.quote(row)

    def delta(self, symbol: str, at_ns: int) -> float | None:
        """Spot delta of a long contract now; None where no volatility exists or the quote behind it is too old."""
        values = self._model(symbol, at_ns)
        return None if values is None else values[1]

    def iv(self, symbol: str, at_ns: int) -> float | None:
        """Implied volatility per square-root year (0.20 is 20 %); None as for ``delta``."""
        values = self._model(symbol, at_ns)
        return None if values is None else values[0]

    def surface(self, underlying: str, expiry: str, at_ns: int, *, once: bool = False) -> Surface | None:
        """Model values of one expiry; None without a listing, spot, such an expiry, or time left.

        ``once``: ``prepare`` need not keep it at hand.
        """
        chain, expiry_ns = self._chains.get(underlying), self._table.expiry_ns(expiry)
        spot = self.spot(underlying, at_ns)
        if chain is None or spot is None or expiry_ns is None or expiry_ns <= at_ns:
            return None
        known = chain.surfaces.get(expiry)
        rows = chain.columns.rows_of.get(expiry) if known is None else None
        if rows is None:
            return known
        if not once:
            chain.asked[expiry] = None
        chain.surfaces[expiry] = known = compute_surface(
            chain.columns,
            rows,
            spot=spot,
            rate_per_year=self._rate,
            expires_in_ns=expiry_ns - chain.changed_ns,
            fresh_since_ns=chain.changed_ns - self._max_age_ns,
        )
        return known

    def prepare(self, at_ns: int) -> bool:
        """Compute one surface that has been asked for before and is out of date; whether there was one to compute.

        For idle moments of a process that follows the wall clock: what the next decision needs is then at hand.
        """
        for underlying, chain in self._chains.items():
            for expiry in chain.asked:
                if expiry not in chain.surfaces and self.surface(underlying, expiry, at_ns) is not None:
                    return True
        return False

    def select(self, request: DeltaRequest, at_ns: int) -> Selected | NotSelected:
        """Choose a contract: the first expiry that has one in the |delta| band, fresh and tight enough.

        When nothing fits, the reason is that of the expiry whose contracts came furthest, with its counts; reasons
        that are members of ``selection.Missing`` mean data that are not there.
        """
        chain = self._chains.get(request.underlying)
        if chain is None:
            return NotSelected(Missing.CHAIN.value, {})
        if self.spot(request.underlying, at_ns) is None:
            return NotSelected(Missing.SPOT.value, {})
        furthest = Stopped(0, {"expiries": " ".join(request.expiries)})
        for expiry in request.expiries:
            surface = self.surface(request.underlying, expiry, at_ns)
            if surface is None:
                continue
            answer = choose(chain.columns, surface, request, expiry, at_ns)
            if isinstance(answer, Selected):
                return answer
            if answer.stage > furthest.stage:
                furthest = answer
        return furthest.answer()

    def expiries(self, underlying: str) -> tuple[str, ...]:
        """The listed expiries (ISO dates), nearest first; empty before the chain is known."""
        chain = self._chains.get(underlying)
        return () if chain is None else tuple(sorted(chain.columns.rows_of))

    def usable(
        self, underlying: str, expiry: str, at_ns: int, max_age_s: float, min_open_interest: int = 0
    ) -> UsableSlice | NotSelected:
        """The contracts of an expiry that can be traded now, or why there is none (see ``usable_slice``)."""
        chain, expiry_ns = self._chains.get(underlying), self._table.expiry_ns(expiry)
        if chain is None:
            return NotSelected(Missing.CHAIN.value, {})
        if self.spot(underlying, at_ns) is None:
            return NotSelected(Missing.SPOT.value, {})
        surface = self.surface(underlying, expiry, at_ns)
        if surface is None or expiry_ns is None:
            return NotSelected(Missing.EXPIRY.value, {"expiry": expiry})
        return usable_slice(
            chain.columns, surface, expiry=expiry, at_ns=at_ns, expires_in_ns=expiry_ns - at_ns,
            rate_per_year=self._rate, max_age_s=max_age_s, min_open_interest=min_open_interest,
        )  # fmt: skip

    def select_structure(self, request: StructureRequest, at_ns: int) -> SelectedStructure | NotSelected:
        """Choose a structure's legs in the first expiry that has them; else the reason of the first expiry."""
        first: NotSelected | None = None
        for expiry in request.expiries:
            one = self.usable(request.underlying, expiry, at_ns, request.max_age_s, request.min_open_interest)
            answer = one if isinstance(one, NotSelected) else choose_structure(one, request)
            if isinstance(answer, SelectedStructure):
                return answer
            first = first or answer
        return first or NotSelected(Missing.EXPIRY.value, {"expiries": ""})

    def _model(self, symbol: str, at_ns: int) -> tuple[float, float] | None:
        contract = parse_occ(symbol)
        chain = self._chains.get(contract.root)
        row = None if chain is None else chain.columns.row_of.get(symbol)
        surface = self.surface(contract.root, contract.expiry, at_ns)
        if row is None or surface is None:
            return None
        i = int(np.searchsorted(surface.rows, row))
        iv, delta = float(surface.iv[i]), float(surface.delta[i])
        if np.isnan(iv) or np.isnan(delta) or at_ns - int(surface.quoted_ns[i]) > self._max_age_ns:
            return None
        return iv, delta

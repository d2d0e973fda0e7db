"""Bars of option contracts over past sessions of the synthetic market, made from the same model as its quotes.

Inputs: the sessions, plants, contracts asked for. Outputs: minute and daily bars of the trades that they had; of the
running session those are the prints that the stream tells. Invariant: a bar depends on its contract and session alone,
so expired contracts can be asked for long after.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence

from oracle.core.errors import RemoteError
from oracle.core.instruments import OptionContract, parse_occ
from oracle.core.sessions import NS, SessionTable
from oracle.sim.days import Days
from oracle.sim.listed import Chain, chain_of, expiries, strikes_around, with_interest
from oracle.sim.option_trades import day_of
from oracle.sim.pathgen import SPECS
from oracle.sim.planted_options import PlantedSweep, PlantedWall, resolve
from oracle.sim.quoting import OptionBook
from oracle.sim.source import SourceBar
from oracle.sim.surface import make_surface
from oracle.sim.tape import MIDNIGHT_NS

_KEPT = 4_000  # contract-sessions of closed sessions remembered at most
Closes = Callable[[str, int], Sequence[float]]
Planted = Callable[[str, str], Sequence[PlantedWall | PlantedSweep]]


class OptionHistory:
    """Option bars of any session of ``days``.

    Args:
        seed: of the market.
        table: sessions, for expiries.
        days: the sessions and their paths.
        closes: closes on which a session's strikes are centred, by symbol and session number; the last is the newest.
        planted: walls and sweeps of a symbol and date, unresolved.
    """

    def __init__(self, seed: int, table: SessionTable, days: Days, closes: Closes, planted: Planted) -> None:
        self._seed, self._table, self._days = seed, table, days
        self._closes, self._planted = closes, planted
        self._kept: OrderedDict[tuple[str, int], list[SourceBar]] = OrderedDict()

    def bars(
        self, symbols: Collection[str], timeframe: str, start_ns: int, end_ns: int, now_ns: int
    ) -> dict[str, list[SourceBar]]:
        """Closed bars with start in the interval by symbol, oldest first; contracts without any are left out.

        ``timeframe`` is ``1Min`` or ``1Day``; a session's daily bar is known at its close.
        """
        out: dict[str, list[SourceBar]] = {}
        for underlying, contracts in _by_underlying(symbols, self._days.specs).items():
            for i, session in enumerate(self._days.sessions):
                begin = session.open_ns - MIDNIGHT_NS if timeframe == "1Day" else session.open_ns
                if begin > end_ns or session.open_ns >= now_ns:
                    break
                last = begin if timeframe == "1Day" else session.close_ns
                if last < start_ns or (timeframe == "1Day" and session.close_ns > now_ns):
                    continue
                alive = [c for c in contracts if c.expiry >= session.date]
                for symbol, rows in self._session(underlying, i, alive, now_ns).items():
                    found = [day_of(rows, session)] if timeframe == "1Day" and rows else rows
                    found = [bar for bar in found if start_ns <= bar.start_ns <= end_ns]
                    if found:
                        out.setdefault(symbol, []).extend(found)
        return out

    def _session(
        self, underlying: str, i: int, contracts: Sequence[OptionContract], now_ns: int
    ) -> dict[str, list[SourceBar]]:
        """Minute bars of one session by symbol, those of closed sessions remembered."""
        session = self._days.sessions[i]
        closed = session.close_ns <= now_ns
        found = {c.occ: self._kept[c.occ, i] for c in contracts if (c.occ, i) in self._kept}
        new = [c for c in contracts if c.occ not in found]
        if not new:
            return found
        listed = self._listed(underlying, i, new)
        until = (min(now_ns, session.close_ns) - session.open_ns) // NS
        made: dict[str, list[SourceBar]] = {c.occ: [] for c in new}
        if listed:
            chain = self._chain(underlying, i, listed)
            states = self._days.log_vol_path(underlying, i)
            spec = SPECS[underlying]
            surface = make_surface(spec, session.open_ns, states, chain.expiry_ns, chain.sessions_ahead)
            book = OptionBook(session, chain, surface, self._days.tape(underlying, i).log_mid)
            made |= {symbol: book.trades.bars(row, until) for symbol, row in chain.index.items()}
        if closed:
            self._kept.update(((symbol, i), rows) for symbol, rows in made.items())
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found | made

    def _listed(self, underlying: str, i: int, contracts: Sequence[OptionContract]) -> list[OptionContract]:
        """Those of the contracts that session i lists; the oldest session has none, for want of a close before it."""
        if not self._table.before(self._days.sessions[i].date):
            return []
        strikes = set().union(*(strikes_around(close) for close in self._closes(underlying, i)))
        dates = {e.date for e, _ in expiries(self._table, self._days.sessions[i])}
        return [
            c
            for c in contracts
            if c.strike_milli % 1000 == 0 and c.strike_milli // 1000 in strikes and c.expiry in dates
        ]

    def _chain(self, underlying: str, i: int, contracts: Sequence[OptionContract]) -> Chain:
        """These contracts as session i lists them, with what is planted in them."""
        session, close = self._days.sessions[i], self._closes(underlying, i)[-1]
        chain = chain_of(
            self._seed, SPECS[underlying], self._table, session,
            contracts=contracts, close=close, log_vol=self._days.log_vol(underlying, i),
        )  # fmt: skip
        planted = self._planted(underlying, session.date)
        if not planted:
            return chain
        dates = [e.date for e, _ in expiries(self._table, session)]
        return with_interest(chain, [resolve(plant, close, dates) for plant in planted], partial=True)


def _by_underlying(symbols: Collection[str], known: Collection[str]) -> dict[str, list[OptionContract]]:
    found: dict[str, list[OptionContract]] = {}
    for symbol in sorted(set(symbols)):
        try:
            contract = parse_occ(symbol)
        except RemoteError:
            continue
        if contract.root in known:
            found.setdefault(contract.root, []).append(contract)
    return found

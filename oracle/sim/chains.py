"""The option side of the synthetic market: chains, quoting books, plants and bars, made on demand and remembered.

Inputs: the sessions and their paths, plants. Outputs: the chain and the book of an underlying and session. Invariant:
what is remembered is only ever a copy of what would be made again.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from oracle.core.sessions import SessionTable
from oracle.sim.days import Days
from oracle.sim.listed import Chain, expiries, make_chain, not_listed, strikes_around
from oracle.sim.noise import Ints
from oracle.sim.option_history import OptionHistory
from oracle.sim.pathgen import SPECS, minutes_in
from oracle.sim.planted_options import (
    OptionPlant,
    PlantedSweep,
    PlantedVolShock,
    PlantedWall,
    check_option_plants,
    declare,
    resolve,
)
from oracle.sim.quoting import OptionBook
from oracle.sim.source import SourceBar
from oracle.sim.surface import make_surface

_CHAINS = 12  # remembered at most


class Chains:
    """Option chains of the sessions of ``days``.

    Raises:
        ConfigurationError: a plan that does not fit the market.
    """

    def __init__(self, seed: int, table: SessionTable, days: Days, plants: Sequence[OptionPlant]) -> None:
        self._seed, self._table, self._days = seed, table, days
        lengths = {days.sessions[i].date: minutes_in(days.sessions[i]) for i in days.traded}
        check_option_plants(plants, tuple(days.specs), lengths)
        self._plants = tuple(plants)
        self._history = OptionHistory(seed, table, days, self.closes, self._planted)
        self._chains: OrderedDict[tuple[str, int], Chain] = OrderedDict()
        self._books: dict[tuple[str, int], OptionBook] = {}
        for plant in self._plants:
            self._check_listed(plant)

    def chain(self, underlying: str, i: int) -> Chain:
        """The chain that session i lists (about 0.1 s when it is new)."""
        found = self._chains.get((underlying, i))
        if found is None:
            session = self._days.sessions[i]
            found = make_chain(
                self._seed, SPECS[underlying], self._table, session,
                closes=self.closes(underlying, i), log_vol=self._days.log_vol(underlying, i),
                planted=self._planted(underlying, session.date),
            )  # fmt: skip
            self._chains[underlying, i] = found
            if len(self._chains) > _CHAINS:
                self._chains.popitem(last=False)
        return found

    def book(self, underlying: str, i: int) -> OptionBook:
        """Quotes and trades of session i; those of earlier sessions are forgotten."""
        found = self._books.get((underlying, i))
        if found is None:
            for old in [k for k in self._books if k[1] < i]:
                del self._books[old]
            chain, session = self.chain(underlying, i), self._days.sessions[i]
            states = self._days.log_vol_path(underlying, i)
            surface = make_surface(SPECS[underlying], session.open_ns, states, chain.expiry_ns, chain.sessions_ahead)
            found = OptionBook(session, chain, surface, self._days.tape(underlying, i).log_mid)
            self._books[underlying, i] = found
        return found

    def rows(self, underlying: str, i: int, symbols: Collection[str]) -> Ints:
        """Row numbers of contracts in session i's chain, rising; ``*`` is all, unknown ones are left out."""
        if not symbols:
            return np.zeros(0, dtype=np.int64)
        index = self.chain(underlying, i).index
        places = range(len(index)) if "*" in symbols else sorted(index[s] for s in symbols if s in index)
        return np.array(places, dtype=np.int64)

    def bars(
        self, symbols: Collection[str], timeframe: str, start_ns: int, end_ns: int, now_ns: int
    ) -> Mapping[str, Sequence[SourceBar]]:
        """Bars of contracts, listed now or once, by symbol; see ``OptionHistory.bars``."""
        return self._history.bars(symbols, timeframe, start_ns, end_ns, now_ns)

    def closes(self, underlying: str, i: int) -> list[float]:
        """The closes on which the strikes of session i are centred, the newest last.

        They are those of every session traded so far: a window of them would unlist contracts that are still held.
        """
        traded = [j for j in self._days.traded if j < i]
        return [self._days.close_before(underlying, j) for j in (*traded, i)]

    def _check_listed(self, plant: OptionPlant) -> None:
        """Refuse at the start what would fail when its session lists its chain; what is left open is always listed."""
        if isinstance(plant, PlantedVolShock):
            return
        i = self._days.index[plant.date]
        expiry = plant.expiry if isinstance(plant, PlantedSweep) else None
        dates = [e.date for e, _ in expiries(self._table, self._days.sessions[i])]
        listed = expiry is None or expiry in dates
        if listed and plant.strike is not None:
            listed = any(plant.strike in strikes_around(close) for close in self.closes(plant.symbol, i))
        if not listed:
            raise not_listed(plant)

    # -- plants -------------------------------------------------------------------------------------------------

    def _planted(self, underlying: str, date: str) -> list[PlantedWall | PlantedSweep]:
        """The walls and sweeps of a symbol and session, as they were asked for."""
        here = (p for p in self._plants if p.symbol == underlying and p.date == date)
        return [p for p in here if not isinstance(p, PlantedVolShock)]

    @property
    def truths(self) -> tuple[OptionPlant, ...]:
        """The plants with the strikes and expiries that were chosen for them."""
        out: list[OptionPlant] = []
        for plant in self._plants:
            if isinstance(plant, PlantedVolShock):
                out.append(plant)
                continue
            i = self._days.index[plant.date]
            dates = [e.date for e, _ in expiries(self._table, self._days.sessions[i])]
            out.append(resolve(plant, self._days.close_before(plant.symbol, i), dates))
        return tuple(out)

    def declared(self) -> list[Mapping[str, Any]]:
        """The plants, JSON-able."""
        return [declare(plant, self._days.sessions[self._days.index[plant.date]]) for plant in self.truths]

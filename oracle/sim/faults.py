"""Which fault strikes now: armed faults, their windows in exchange time, their dice and their counts.

Inputs: a plan, requests of the control endpoint, the exchange's time. Outputs: verdicts for sockets and requests, a
report. Invariant: a fault's dice depend on the plan's seed, the fault's number, the place and how often it was thrown
there; never on other faults or the wall clock.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from oracle.core.instruments import is_option, parse_occ
from oracle.core.sessions import NS
from oracle.sim.exchange import Exchange
from oracle.sim.faultplan import BROKER, MOST_FAULTS, Fault, FaultPlan

log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(slots=True)
class Armed:
    """A fault with its number and what it has done so far, by place."""

    number: int
    fault: Fault
    seed: int
    window_s: tuple[float | None, float | None]
    struck: Counter[str] = field(default_factory=Counter)
    thrown: Counter[str] = field(default_factory=Counter)
    last_ns: int | None = None

    def fraction(self, place: str, n: int) -> float:
        """The n-th throw at a place, in [0, 1)."""
        text = f"{self.seed}/{self.number}/{self.fault.kind}/{place}/{n}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56

    def shuffled(self, place: str, items: list[T]) -> list[T]:
        """The items in an order of this fault's own."""
        n = self.thrown[place]
        return [items[i] for i in sorted(range(len(items)), key=lambda i: self.fraction(f"{place}/{n}", i))]


class Faults:
    """All faults of one exchange. ``add`` and ``remove`` at any time; the rest asks whether one strikes."""

    def __init__(self, exchange: Exchange, plan: FaultPlan | None = None) -> None:
        self._exchange = exchange
        self._armed: dict[int, Armed] = {}
        self._by_place: dict[tuple[str, str], list[Armed]] = {}
        self._number = 0
        self._late_fills: list[tuple[int, int, str]] = []
        self.seed = 0
        exchange.faults = self
        if plan is not None:
            self.add(plan)

    # ----------------------------------------------------------------------------------------------- the operator

    def add(self, plan: FaultPlan) -> list[int]:
        """Arm a plan's faults; its seed is theirs. Returns their numbers.

        Raises:
            ValueError: there would be more than ``MOST_FAULTS``.
        """
        if len(self._armed) + len(plan.fault) > MOST_FAULTS:
            raise ValueError(f"more than {MOST_FAULTS} faults; clear some first")
        self.seed = plan.seed
        numbers = []
        for fault in plan.fault:
            self._number += 1
            self._armed[self._number] = Armed(self._number, fault, plan.seed, fault.window_s)
            numbers.append(self._number)
        self._index()
        return numbers

    def remove(self, number: int | None = None) -> int:
        """Disarm one fault, or all; returns how many there were. What it holds back is still delivered."""
        gone = [n for n in self._armed if number is None or n == number]
        for n in gone:
            del self._armed[n]
        self._index()
        return len(gone)

    def report(self) -> dict[str, Any]:
        """Every armed fault with how often it has struck, by place."""
        rows = [
            {
                "id": armed.number,
                **armed.fault.shown(),
                "injected": armed.struck.total(),
                "injected_on": dict(sorted(armed.struck.items())),
                "last_ns": armed.last_ns,
            }
            for armed in self._armed.values()
        ]
        return {"seed": self.seed, "at_ns": self._exchange.now_ns, "faults": rows}

    def _index(self) -> None:
        self._by_place = {}
        for armed in self._armed.values():
            for place in armed.fault.places:
                self._by_place.setdefault((armed.fault.kind, place), []).append(armed)

    # ----------------------------------------------------------------------------------------------- who is asked

    def has(self, kinds: Iterable[str], place: str) -> bool:
        """Whether any fault of these kinds is armed for a place, whatever the time."""
        return bool(self._armed) and any((kind, place) in self._by_place for kind in kinds)

    def armed(self, kind: str, place: str) -> list[Armed]:
        """Faults of a kind for a place, in order of number, whatever the time."""
        return self._by_place.get((kind, place), [])

    def open(self, kind: str, place: str) -> Iterator[Armed]:
        """Those whose window is open now and whose count is not used up."""
        for armed in self.armed(kind, place):
            if self.is_open(armed) and not self._is_spent(armed, place):
                yield armed

    def is_open(self, armed: Armed) -> bool:
        """Whether exchange time is within a fault's window."""
        session, fault = self._exchange.session, armed.fault
        if fault.date is not None and fault.date != session.date:
            return False
        start_s, stop_s = armed.window_s
        at_s = (self._exchange.now_ns - session.open_ns) / NS
        return (start_s is None or at_s >= start_s) and (stop_s is None or at_s < stop_s)

    def stands(self, armed: Armed) -> bool:
        """Whether a fault is still armed and its window open."""
        return armed.number in self._armed and self.is_open(armed)

    def strikes(self, armed: Armed, place: str) -> bool:
        """Throw a fault's dice at a place; a hit is counted."""
        if self._is_spent(armed, place):
            return False
        armed.thrown[place] += 1
        if armed.fault.probability < 1 and armed.fraction(place, armed.thrown[place]) >= armed.fault.probability:
            return False
        self.count(armed, place)
        return True

    def first(self, kind: str, place: str) -> Fault | None:
        """The first fault of a kind that strikes a place now, counted."""
        for armed in self.open(kind, place):
            if self.strikes(armed, place):
                return armed.fault
        return None

    def count(self, armed: Armed, place: str) -> None:
        """Note that a fault has struck; the first time and each power of two is logged, for some strike every frame."""
        armed.struck[place] += 1
        armed.last_ns = self._exchange.now_ns
        struck = armed.struck[place]
        if struck & (struck - 1) == 0 or armed.fault.limit is not None:
            log.info("exchange.fault", fault=armed.number, kind=armed.fault.kind, place=place, injected=struck)

    @staticmethod
    def _is_spent(armed: Armed, place: str) -> bool:
        limit = armed.fault.limit
        return limit is not None and armed.struck[place] >= limit

    # ------------------------------------------------------------------------------------ orders that act on their own

    def hides(self, place: str, name: str) -> bool:
        """Whether a look-up of an order, by its id or its client's, finds nothing yet because it is too young."""
        order = self._exchange.book.named(name)
        if order is None:
            return False
        age_ns = self._exchange.now_ns - order.created_ns
        return any(
            age_ns < armed.fault.seconds * NS and self.strikes(armed, place) for armed in self.open("hide_order", place)
        )

    def fills_instead(self, order_id: str) -> bool:
        """Whether a cancel is answered 204 and the order then fills. It is remembered until ``fill_due``."""
        order = self._exchange.book.named(order_id)
        if order is None or not order.working:
            return False
        fault = self.first("fill_after_cancel", "cancel")
        if fault is None:
            return False
        due_ns = self._exchange.now_ns + round(fault.seconds * NS)
        self._late_fills.append((due_ns, len(self._late_fills), order.id))
        return True

    def fill_due(self) -> None:
        """Fill the orders whose cancel came too late, by now."""
        if not self._late_fills:
            return
        now_ns = self._exchange.now_ns
        due = sorted(row for row in self._late_fills if row[0] <= now_ns)
        self._late_fills = [row for row in self._late_fills if row[0] > now_ns]
        for _, _, order_id in due:
            self._exchange.fills.fill_rest(self._exchange.book.orders[order_id])

    def take_legs(self) -> None:
        """Let the broker sell or buy back one leg of what the account holds, where a fault says so."""
        exchange = self._exchange
        for armed in self.open("sell_out_leg", BROKER):
            held = exchange.account.quantities()
            sign = 1 if armed.fault.side == "long" else -1
            legs = [s for s in sorted(held) if is_option(s) and held[s] * sign > 0 and _is_about(armed.fault, s)]
            shorts = {parse_occ(s).root for s in held if is_option(s) and held[s] * -sign > 0}
            legs = [s for s in legs if parse_occ(s).root in shorts]
            if legs and self.strikes(armed, BROKER):
                symbol = armed.shuffled(BROKER, legs)[0]
                exchange.sell_out(symbol, abs(held[symbol]), f"fault{armed.number}/{armed.struck[BROKER]}")


def _is_about(fault: Fault, symbol: str) -> bool:
    """Whether a fault that may name symbols is about an option; an underlying stands for its options."""
    return not fault.symbols or symbol in fault.symbols or parse_occ(symbol).root in fault.symbols

"""Option flow: trades folded into per-contract figures, and what of them is unusual.

Inputs: trades as columns with the quote known at each. Outputs: day figures by contract; unusual activities (blocks,
sweeps, trades in contracts of unusual volume) with their direction; premium and counts of a window. Pure.
Invariants: the aggressor comes from the quote at the trade's time and is unknown between bid and ask or without one; a
contract without an average has no unusual volume, unless the caller asks for the test by open interest alone.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from oracle.core.instruments import CONTRACT_MULTIPLIER
from oracle.core.sessions import MINUTE_NS, NS
from oracle.options.pricing import Array, Bools

Ints = npt.NDArray[np.int64]
UNTOLD_VENUE = " "
MAX_PRICE_USD = 1e6
MAX_SIZE = 10_000_000


@dataclass(frozen=True, slots=True)
class FlowRules:
    """What counts as unusual. Defaults are the product's."""

    block_contracts: int = 100
    block_premium_usd: float = 50_000.0
    volume_over_average: float = 2.0
    volume_over_open_interest: float = 0.5
    sweep_prints: int = 3
    sweep_venues: int = 2
    sweep_window_ns: int = NS
    window_ns: int = 30 * MINUTE_NS
    # Sessions that an average needs, and the most that it is taken over.
    average_needs: int = 5
    average_over: int = 20


RULES = FlowRules()


class Kind(StrEnum):
    """Why a trade is unusual; the first that holds."""

    SWEEP = "sweep"
    BLOCK = "block"
    VOLUME = "unusual_volume"


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades as aligned columns in order of arrival.

    ``row``: of the contract in the listing; ``price``, ``bid``, ``ask``: dollars, NaN is unknown; ``size``: contracts;
    ``venue``: one character, a space when untold.
    """

    row: Ints
    price: Array
    size: Ints
    traded_ns: Ints
    venue: str
    bid: Array
    ask: Array

    def __len__(self) -> int:
        return len(self.row)

    def sound(self) -> Bools:
        """Which trades have a price and size that can be: positive, finite, not absurd."""
        price_holds = (self.price > 0) & (self.price <= MAX_PRICE_USD)
        return price_holds & (self.size > 0) & (self.size <= MAX_SIZE) & (self.traded_ns > 0)


@dataclass(frozen=True, slots=True)
class Activity:
    """One unusual trade, or a sweep's trades so far. ``direction``: +1 bullish, -1 bearish, 0 unknown.

    ``counts`` is 1 where an activity begins and 0 where it goes on; a sweep whose first trades were told as unusual
    before takes back what they counted but one, so that their sum is one.
    """

    at_ns: int
    row: int
    kind: Kind
    direction: int
    contracts: int
    premium_usd: float
    counts: int


@dataclass(slots=True)
class _Run:
    """Recent trades of one contract and aggressor: (time, venue, contracts, premium, told already)."""

    recent: deque[tuple[int, str, int, float, bool]] = field(default_factory=deque)
    sweep_until_ns: int = -1


def aggressors(price: Array, bid: Array, ask: Array) -> Ints:
    """+1 where a buyer took the ask, -1 where a seller hit the bid, 0 between or where the quote is unusable."""
    with np.errstate(invalid="ignore"):
        usable = (bid >= 0) & (ask > 0) & (bid < ask)
        bought, sold = usable & (price >= ask), usable & (price <= bid)
    return np.where(bought, 1, np.where(sold, -1, 0)).astype(np.int64)


def directions(aggressor: Ints, is_call: Bools) -> Ints:
    """+1 for a call bought or put sold, -1 for a call sold or put bought, 0 unknown."""
    return np.where(is_call, aggressor, -aggressor).astype(np.int64)


def unusual_volume(
    volume: npt.ArrayLike,
    average: npt.ArrayLike,
    open_interest: npt.ArrayLike,
    rules: FlowRules = RULES,
    *,
    without_average: bool = False,
) -> Bools:
    """Contracts whose volume is above twice its average and above half its open interest.

    Args:
        volume: the session's contracts so far.
        average: contracts a session, NaN where unknown.
        open_interest: contracts, NaN where it was not told: then nothing is unusual.
        rules: the multiples.
        without_average: judge a contract without an average by its open interest alone; for analyses that say so.
    """
    v, a, o = (np.asarray(x, dtype=np.float64) for x in (volume, average, open_interest))
    with np.errstate(invalid="ignore"):
        above = v > rules.volume_over_average * a
        beyond = (v > rules.volume_over_open_interest * o) & (o >= 0) & (v > 0)
    return beyond & (above | (np.isnan(a) & without_average))


class SessionFlow:
    """One underlying's option trades of one session, folded as they come.

    Args:
        is_call: by row of the listing.
        open_interest: contracts by row, NaN where it was not told.
        average: contracts a session by row, NaN where it is unknown.
        rules: what counts as unusual.
        without_average: see ``unusual_volume``.
    """

    __slots__ = (
        "_average", "_interest", "_is_call", "_rules", "_runs", "_without_average", "activities", "bought", "heard",
        "premium_usd", "prints", "refused", "sold", "volume",
    )  # fmt: skip

    def __init__(
        self,
        is_call: Bools,
        open_interest: Array,
        average: Array,
        rules: FlowRules = RULES,
        *,
        without_average: bool = False,
    ) -> None:
        n = len(is_call)
        self._is_call, self._interest, self._average = is_call, open_interest, average
        self._rules, self._without_average = rules, without_average
        self.volume: Ints = np.zeros(n, np.int64)
        self.bought: Ints = np.zeros(n, np.int64)
        self.sold: Ints = np.zeros(n, np.int64)
        self.prints: Ints = np.zeros(n, np.int64)
        self.premium_usd: Array = np.zeros(n)
        self.activities: deque[Activity] = deque()
        self.refused = 0
        self.heard = 0
        self._runs: dict[tuple[int, int], _Run] = {}

    @property
    def unusual(self) -> Bools:
        """The contracts whose volume so far is unusual."""
        return unusual_volume(
            self.volume, self._average, self._interest, self._rules, without_average=self._without_average
        )

    def take(self, trades: Trades) -> list[Activity]:
        """Fold trades in; what of them is unusual, in order of arrival. Impossible ones are counted in ``refused``."""
        sound = trades.sound() & (trades.row >= 0) & (trades.row < len(self.volume))
        self.refused += len(trades) - int(np.count_nonzero(sound))
        where = np.flatnonzero(sound)
        row, size, price = trades.row[where], trades.size[where], trades.price[where]
        self.heard += len(where)
        premium = price * size * CONTRACT_MULTIPLIER
        side = aggressors(price, trades.bid[where], trades.ask[where])
        np.add.at(self.volume, row, size)
        np.add.at(self.bought, row, np.where(side > 0, size, 0))
        np.add.at(self.sold, row, np.where(side < 0, size, 0))
        np.add.at(self.prints, row, 1)
        np.add.at(self.premium_usd, row, premium)
        block = (size >= self._rules.block_contracts) & (premium >= self._rules.block_premium_usd)
        busy = self.unusual[row]
        direction = directions(side, self._is_call[row])
        columns = (row, size, premium, trades.traded_ns[where], side, direction, block, busy)
        found: list[Activity] = []
        for i, (r, n, usd, at_ns, s, d, b, v) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            found += self._judge(Activity(at_ns, r, Kind.BLOCK if b else Kind.VOLUME, d, n, usd, 1), s,
                                 trades.venue[int(where[i])], b or v)  # fmt: skip
        self.activities.extend(found)
        return found

    def take_over(self, old: "SessionFlow", row_of: Mapping[int, int]) -> None:
        """Go on from an earlier listing's flow of the same session; ``row_of`` maps its rows to those of this one."""
        before = np.array(sorted(row_of), dtype=np.int64)
        here = np.array([row_of[row] for row in before.tolist()], dtype=np.int64)
        for name in ("volume", "bought", "sold", "prints", "premium_usd"):
            getattr(self, name)[here] = getattr(old, name)[before]
        kept = (a for a in old.activities if a.row in row_of)
        self.activities = deque(replace(a, row=row_of[a.row]) for a in kept)
        self.heard, self.refused = old.heard, old.refused

    def forget_window(self) -> None:
        """Forget recent activities, as after a hole in the trades; the day's figures stand, as far as they go."""
        self.activities.clear()
        self._runs.clear()

    def window(self, at_ns: int) -> tuple[Array, Ints]:
        """Premium and number of activities of the window up to ``at_ns``, each as (bearish, unknown, bullish)."""
        since_ns = at_ns - self._rules.window_ns
        while self.activities and self.activities[0].at_ns < since_ns:
            self.activities.popleft()
        premium, count = np.zeros(3), np.zeros(3, np.int64)
        for activity in self.activities:
            if since_ns <= activity.at_ns <= at_ns:
                premium[activity.direction + 1] += activity.premium_usd
                count[activity.direction + 1] += activity.counts
        # The window's edge may divide a sweep from the trades whose count it took back.
        return premium, np.maximum(count, 0)

    def _judge(self, alone: Activity, side: int, venue: str, unusual: bool) -> list[Activity]:
        """What one trade adds: to a sweep, or by itself when it is a block or of a busy contract."""
        if side == 0 or venue == UNTOLD_VENUE:
            return [alone] if unusual else []
        run = self._runs.setdefault((alone.row, side), _Run())
        at_ns, rules = alone.at_ns, self._rules
        if at_ns <= run.sweep_until_ns:
            return [Activity(at_ns, alone.row, Kind.SWEEP, alone.direction, alone.contracts, alone.premium_usd, 0)]
        while run.recent and run.recent[0][0] < at_ns - rules.sweep_window_ns:
            run.recent.popleft()
        run.recent.append((at_ns, venue, alone.contracts, alone.premium_usd, unusual))
        venues = {seen for _, seen, _, _, _ in run.recent}
        if len(run.recent) < rules.sweep_prints or len(venues) < rules.sweep_venues:
            return [alone] if unusual else []
        # Trades told before as unusual ones are not told again, and the sweep is then counted already.
        earlier = list(run.recent)[:-1]
        fresh = [(n, usd) for _, _, n, usd, told in earlier if not told] + [(alone.contracts, alone.premium_usd)]
        counted = sum(told for *_, told in earlier)
        run.sweep_until_ns = run.recent[0][0] + rules.sweep_window_ns
        run.recent.clear()
        contracts, premium = sum(n for n, _ in fresh), sum(usd for _, usd in fresh)
        return [Activity(at_ns, alone.row, Kind.SWEEP, alone.direction, contracts, premium, 1 - counted)]


def alignment(
    direction: int, premium_usd: Sequence[float], count: Sequence[int], *, each: float = 0.03, most: float = 0.10
) -> float:
    """What same-direction activity adds to a confidence: ``min(each x n, most)`` where its premium exceeds the other's.

    Args:
        direction: +1 long, -1 short.
        premium_usd: (bearish, bullish) dollars.
        count: (bearish, bullish) activities.
        each: for one activity.
        most: at most.
    """
    same = 1 if direction > 0 else 0
    return min(each * count[same], most) if premium_usd[same] > premium_usd[1 - same] else 0.0


def average_volume(sessions: Sequence[int], rules: FlowRules = RULES) -> float:
    """Mean contracts a session over the trailing whole sessions (oldest first); NaN while there are too few."""
    if len(sessions) < rules.average_needs:
        return float("nan")
    last = sessions[-rules.average_over :]
    return sum(last) / len(last)

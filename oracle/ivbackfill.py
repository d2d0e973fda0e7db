"""Daily 30-day volatilities of past sessions from the vendor's bars of options and of the stock.

Inputs: an account's option bars, a session table that reaches well past the last date. Outputs: one ``Day`` a session,
with its volatility or the reason why it has none. Expiries are the last sessions of weeks, strikes whole dollars and
multiples of five near the stock's price: the vendor lists only what has not expired yet, so names are made, not read.
"""

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from oracle.alpaca.optionbars import OptionBars
from oracle.core.instruments import OptionContract, Right, parse_occ
from oracle.core.marketdata import DailyIvObserved
from oracle.core.ports import NotSelected
from oracle.core.sessions import MINUTE_NS, Session, SessionTable
from oracle.options.bar_iv import BarPoint, OptionClose, point_from_bars
from oracle.options.iv_observer import OBSERVE_AT
from oracle.options.volatility import DAY_NS, DAYS, FARTHEST_DAYS, NEAREST_DAYS, constant_maturity

SOURCE = "backfill:option_bars"
# Trades of this long before the moment of observation are used.
WINDOW_MIN = 30
# On each side of 30 days so many expiries are tried, nearest first.
TRIES = 3
# Fewer than 100 contracts of one expiry: one request.
STRIKES_A_GRID = 24
DIGITS = 9


class Day(msgspec.Struct, frozen=True):
    """One session's volatility, or why it has none; ``near`` and ``next`` are the expiries that it lies between."""

    date: str
    iv_30d: float | None
    reason: str
    trades: int = 0
    near: str = ""
    next: str = ""

    def observation(self, underlying: str) -> DailyIvObserved | None:
        """What is stored of it."""
        return None if self.iv_30d is None else DailyIvObserved(underlying, self.date, self.iv_30d, SOURCE)


async def _at_once() -> None:
    return


class Backfill:
    """Asks for one session after the other.

    Args:
        data: the account's bars.
        table: sessions, at least 80 days past the last date asked for.
        underlying: the stock.
        rate: continuously compounded interest rate per year.
        pause: awaited before each request; paper waits here so as to stay within the plan's rate.
    """

    def __init__(
        self,
        data: OptionBars,
        table: SessionTable,
        underlying: str,
        *,
        rate: float = 0.0,
        pause: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        self._data = data
        self._table = table
        self._underlying = underlying
        self._rate = rate
        self._pause = pause

    async def days(self, sessions: Sequence[Session]) -> AsyncIterator[Day]:
        """Each session's day, in order.

        Raises:
            TransientError: the vendor did not answer; the days before stand.
        """
        for session in sessions:
            yield await self._day(session)

    async def _day(self, session: Session) -> Day:
        at_ns = session.late(OBSERVE_AT)
        start_ns, end_ns = at_ns - WINDOW_MIN * MINUTE_NS, at_ns - MINUTE_NS
        await self._pause()
        spots = {bar.start_ns: bar.close for bar in await self._data.bars((self._underlying,), start_ns, end_ns)}
        if not spots:
            return Day(session.date, None, "no_stock_bars")
        target_ns = at_ns + round(DAYS * DAY_NS)
        rows = week_ends(self._table, at_ns)
        sides = ([row for row in rows if row[0] <= target_ns][::-1], [row for row in rows if row[0] >= target_ns])
        found: list[BarPoint] = []
        for name, side in zip(("before", "after"), sides, strict=True):
            point, why = await self._nearest(side[:TRIES], spots, at_ns)
            if point is None:
                return Day(session.date, None, f"no_iv_{name}_30_days: {why}")
            found.append(point)
        month = constant_maturity([one.point for one in found])
        if isinstance(month, NotSelected):
            return Day(session.date, None, month.reason)
        return Day(
            session.date, round(month.iv, DIGITS), "", sum(one.trades for one in found),
            month.near.expiry, month.next.expiry,
        )  # fmt: skip

    async def _nearest(
        self, expiries: Sequence[tuple[int, str]], spots: dict[int, float], at_ns: int
    ) -> tuple[BarPoint | None, str]:
        why = "no_expiry"
        for number, (expires_ns, expiry) in enumerate(expiries):
            asked = {name: parse_occ(name) for name in contracts_near(self._underlying, expiry, spots[max(spots)])}
            await self._pause()
            closes = [
                OptionClose(begun_ns + MINUTE_NS, asked[name].strike, asked[name].is_call, close, spots[begun_ns])
                for name, begun_ns, close in await self._data.option_closes(asked, min(spots), max(spots))
                if name in asked and begun_ns in spots
            ]
            found = point_from_bars(expiry, closes, at_ns=at_ns, expires_ns=expires_ns, rate=self._rate)
            if isinstance(found, BarPoint):
                return found, ""
            if number == 0:
                why = f"{found.reason} {expiry}"
        return None, why


def week_ends(table: SessionTable, at_ns: int) -> list[tuple[int, str]]:
    """The instants and dates of weekly expiries (the last session of each week) that may stand around 30 days."""
    low_ns, high_ns = at_ns + round(NEAREST_DAYS * DAY_NS), at_ns + round(FARTHEST_DAYS * DAY_NS)
    pairs = zip(table.sessions, table.sessions[1:], strict=False)
    return [(s.close_ns, s.date) for s, after in pairs if low_ns <= s.close_ns <= high_ns and _week(s) != _week(after)]


def contracts_near(underlying: str, expiry: str, spot: float) -> list[str]:
    """Names of calls and puts near a price: on a fine grid of strikes and on one five times as wide."""
    step = 500 if spot < 50 else 1_000  # thousandths of a dollar
    strikes: set[int] = set()
    for grid in (step, 5 * step):
        middle = round(spot * 1000 / grid)
        strikes.update(grid * (middle + n) for n in range(-STRIKES_A_GRID // 2, STRIKES_A_GRID // 2))
    return [
        OptionContract(underlying, expiry, right, strike).occ
        for strike in sorted(strikes)
        if strike > 0
        for right in Right
    ]


def _week(session: Session) -> tuple[int, int]:
    return dt.date.fromisoformat(session.date).isocalendar()[:2]

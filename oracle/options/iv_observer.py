"""Observe each underlying's 30-day volatility once a session, and say where it stands at any time.

Inputs: SessionOpened, its own timers, DailyIvObserved, the live chains. Outputs: DailyIvObserved and DailyIvRanked at
15:45 New York (15 minutes before an early close), or a minute later and so on until the chain has one; DailyIvMissing
with the reason when it has none; OptionsWanted around it. It is the ``VolatilityView`` too. Invariant: there is no
number without an expiry on both sides of 30 days.
"""

from collections.abc import Iterable, Sequence

from oracle.core.bus import HandlerTable
from oracle.core.ivstanding import IvStanding
from oracle.core.marketdata import ChainListed, DailyIvMissing, DailyIvObserved, DailyIvRanked
from oracle.core.message import Message
from oracle.core.messages import OptionsWanted, SessionOpened, SetTimer, TimerFired
from oracle.core.ports import Context, NotSelected
from oracle.core.sessions import MINUTE_NS, NS, Session, SessionTable
from oracle.options.chain import Chains
from oracle.options.iv_history import IvHistory
from oracle.options.selection import YEAR_NS
from oracle.options.volatility import (
    DAY_NS,
    DAYS,
    FARTHEST_DAYS,
    NEAREST_DAYS,
    ConstantMaturity,
    Smile,
    TermPoint,
    atm_iv,
    constant_maturity,
    smile_of,
)

OBSERVER = "volatility"
SOURCE = "chain"
OBSERVE_AT, WANT_AT = "15:45", "15:40"
WANT_TIMER, OBSERVE_TIMER = "iv:want", "iv:observe"
# Strikes within this share of spot hold those around the forward, where strikes are not unusually wide apart.
REACH = 0.02
# Chains are listed so far that the weekly expiry after 30 days is there.
LISTED_SESSIONS = 29
DIGITS = 9


class VolatilityObserver:
    """Daily observations of some underlyings, and the view of their volatility.

    Args:
        chains: the live chains; it must hear messages before this actor does.
        table: sessions, for expiry instants and the window of ranks.
        underlyings: whose volatility is observed each session.
        history: observations of earlier sessions, in the order in which they were told.
        rate_per_year: continuously compounded interest rate, as the chains use it.
        max_age_s: age in seconds of vendor time beyond which a quote says nothing of today's volatility.
    """

    __slots__ = (
        "_chains",
        "_history",
        "_max_age_ns",
        "_pending",
        "_rate",
        "_table",
        "_told",
        "_underlyings",
        "_wanting",
    )

    def __init__(
        self,
        chains: Chains,
        table: SessionTable,
        underlyings: Iterable[str],
        *,
        history: Iterable[DailyIvObserved] = (),
        rate_per_year: float = 0.0,
        max_age_s: float = 60.0,
    ) -> None:
        self._chains = chains
        self._table = table
        self._underlyings = tuple(sorted(set(underlyings)))
        self._rate = rate_per_year
        self._max_age_ns = round(max_age_s * NS)
        self._history = IvHistory(table)
        self._history.add(history)
        self._pending: tuple[str, ...] = ()
        self._wanting = False
        self._told: dict[str, str] = {}

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (DailyIvObserved, self.on_observed),
            (ChainListed, self.on_listed),
            (SessionOpened, self.on_session_open),
            (TimerFired, self.on_timer),
        )

    def on_observed(self, observed: DailyIvObserved, _context: Context) -> Iterable[Message]:
        """Take an observation, whoever made it."""
        self._history.add((observed,))
        return ()

    def on_session_open(self, opened: SessionOpened, context: Context) -> Iterable[Message]:
        """Tell where the last observations stand, and arm the day's timers for underlyings that have none yet."""
        self._told.clear()
        self._wanting = False
        self._pending = tuple(u for u in self._underlyings if self._history.on(u, opened.date) is None)
        known = (self._last(underlying, opened.date) for underlying in self._underlyings)
        out: list[Message] = [self._ranked(row) for row in known if row is not None]
        session = context.session
        if self._pending and session is not None:
            out += [SetTimer(WANT_TIMER, session.late(WANT_AT)), SetTimer(OBSERVE_TIMER, session.late(OBSERVE_AT))]
        return out

    def on_timer(self, timer: TimerFired, context: Context) -> Iterable[Message]:
        """Ask for the chains some minutes before, then observe until each underlying has been or the session ends."""
        session = context.session
        if session is None or not self._pending:
            return ()
        if timer.timer_id == WANT_TIMER:
            self._wanting = True
            return tuple(self._wish(underlying, context.at_ns) for underlying in self._pending)
        return self._observe(session, context.at_ns) if timer.timer_id == OBSERVE_TIMER else ()

    def on_listed(self, listed: ChainListed, context: Context) -> Iterable[Message]:
        """Name the expiries that are wanted, once it is known which there are."""
        wanted = self._wanting and listed.underlying in self._pending
        return (self._wish(listed.underlying, context.at_ns),) if wanted else ()

    # -------------------------------------------------------------------------------------------------- the view

    def standing(self, underlying: str, at_ns: int) -> IvStanding | NotSelected:
        """The 30-day volatility now and its rank among the sessions before this one; or why there is none now."""
        session = self._table.current_or_next(at_ns)
        if session is None:
            return NotSelected("no_session", {})
        found = self.month(underlying, at_ns)
        if isinstance(found, NotSelected):
            return found
        return self._history.standing(underlying, session.date, found.iv)

    def observed(self, underlying: str, at_ns: int) -> Sequence[DailyIvObserved]:
        """The known daily observations up to the session of ``at_ns``, oldest first."""
        session = self._table.current_or_next(at_ns)
        return [row for row in self._history.rows(underlying) if session is not None and row.date <= session.date]

    def month(self, underlying: str, at_ns: int) -> ConstantMaturity | NotSelected:
        """The 30-day at-the-money volatility of the chain as it is now, from the nearest expiries on both sides."""
        listed = self._chains.listed(underlying)
        if listed is None:
            return NotSelected("chain", {})
        if self._chains.spot(underlying, at_ns) is None:
            return NotSelected("spot", {})
        target_ns = at_ns + round(DAYS * DAY_NS)
        usable = self._expiries(underlying, at_ns)
        near, why_near = self._nearest(underlying, at_ns, [row for row in usable[::-1] if row[0] <= target_ns])
        after, why_after = self._nearest(underlying, at_ns, [row for row in usable if row[0] >= target_ns])
        if near is None or after is None:
            side = "before" if near is None else "after"
            why = why_near if near is None else why_after
            return NotSelected(f"no_iv_{side}_30_days", {"because": why})
        return constant_maturity((near, after))

    def smile(self, underlying: str, expiry: str, at_ns: int) -> Smile | None:
        """One expiry's volatilities by strike now; None without a listing, spot, such an expiry, or time left."""
        surface = self._chains.surface(underlying, expiry, at_ns)
        columns, expiry_ns = self._chains.columns(underlying), self._table.expiry_ns(expiry)
        if surface is None or columns is None or expiry_ns is None:
            return None
        return smile_of(
            columns, surface, expiry=expiry, years=(expiry_ns - at_ns) / YEAR_NS, rate=self._rate,
            fresh_since_ns=at_ns - self._max_age_ns,
        )  # fmt: skip

    # --------------------------------------------------------------------------------------------------- inside

    def _last(self, underlying: str, date: str) -> DailyIvObserved | None:
        """The day's observation, else the newest within the window before it: what is older says nothing of today."""
        window = self._history.window(underlying, date)
        return self._history.on(underlying, date) or (window[-1] if window else None)

    def _wish(self, underlying: str, at_ns: int) -> OptionsWanted:
        """The quotes that an observation needs: near the money, of the listed expiries next to 30 days."""
        usable, target_ns = self._expiries(underlying, at_ns), at_ns + round(DAYS * DAY_NS)
        near = [expiry for ns, expiry in usable if ns <= target_ns][-1:]
        after = [expiry for ns, expiry in usable if ns >= target_ns][:1]
        return OptionsWanted(OBSERVER, underlying, True, tuple(sorted({*near, *after})), REACH)

    def _observe(self, session: Session, at_ns: int) -> Iterable[Message]:
        out: list[Message] = []
        left: list[str] = []
        last = at_ns + MINUTE_NS >= session.close_ns
        for underlying in self._pending:
            found = self.month(underlying, at_ns)
            if isinstance(found, ConstantMaturity):
                observed = DailyIvObserved(underlying, session.date, round(found.iv, DIGITS), SOURCE)
                out += [observed, self._ranked(observed)]
            elif last or self._told.get(underlying) != found.reason:
                self._told[underlying] = found.reason
                out.append(DailyIvMissing(underlying, session.date, found.reason, _plain(found), last))
            if isinstance(found, ConstantMaturity) or last:
                out.append(OptionsWanted(OBSERVER, underlying, wanted=False))
            else:
                left.append(underlying)
        self._pending = tuple(left)
        if left:
            out.append(SetTimer(OBSERVE_TIMER, at_ns + MINUTE_NS))
        return out

    def _ranked(self, observed: DailyIvObserved) -> DailyIvRanked:
        stood = self._history.standing(observed.underlying, observed.date, observed.iv_30d)
        return DailyIvRanked(
            observed.underlying, observed.date, stood.iv_30d, _rounded(stood.rank), _rounded(stood.percentile),
            stood.observations, stood.window, stood.reason,
        )  # fmt: skip

    def _expiries(self, underlying: str, at_ns: int) -> list[tuple[int, str]]:
        """The listed expiries that may be used, with their instants, nearest first."""
        columns = self._chains.columns(underlying)
        rows = [] if columns is None else [(self._table.expiry_ns(expiry), expiry) for expiry in columns.rows_of]
        low_ns, high_ns = at_ns + round(NEAREST_DAYS * DAY_NS), at_ns + round(FARTHEST_DAYS * DAY_NS)
        return sorted((ns, expiry) for ns, expiry in rows if ns is not None and low_ns <= ns <= high_ns)

    def _nearest(
        self, underlying: str, at_ns: int, expiries: Iterable[tuple[int, str]]
    ) -> tuple[TermPoint | None, str]:
        """The first of some expiries with an at-the-money volatility; else why the first has none."""
        why = "no_expiry"
        columns = self._chains.columns(underlying)
        for number, (_, expiry) in enumerate(expiries):
            # Most expiries are listed and not quoted: nothing is solved for them.
            if columns is None or not columns.quoted_since(expiry, at_ns - self._max_age_ns):
                why = f"no_fresh_quotes {expiry}" if number == 0 else why
                continue
            one = self.smile(underlying, expiry, at_ns)
            iv = NotSelected("no_surface", {}) if one is None else atm_iv(one)
            if one is not None and not isinstance(iv, NotSelected):
                return TermPoint(expiry, one.years, iv), ""
            if number == 0 and isinstance(iv, NotSelected):
                why = f"{iv.reason} {expiry}"
        return None, why


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, DIGITS)


def _plain(missing: NotSelected) -> dict[str, float | str | bool | None]:
    return {name: round(v, DIGITS) if isinstance(v, float) else v for name, v in missing.facts.items()}

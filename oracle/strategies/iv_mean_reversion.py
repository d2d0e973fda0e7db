"""IV mean reversion: buy volatility when the 30-day IV is low in its own history, sell it when it is high.

Inputs: one-minute bars as the beat, the IV rank of ``context.volatility``, the chain at 30 to 45 days. Output: one
intent (an at-the-money straddle, a single option, or an iron condor), or the reason why not.
Invariants: the rank needs enough observations, else NoData; the nearest expiry of the window that has the structure is
taken; the trade ends at the last session with at least ``exit_days`` days left; no short is naked.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator

from oracle.core.errors import InvariantError
from oracle.core.marketdata import Bar
from oracle.core.message import Message
from oracle.core.messages import ExitPlan, Intent, NoSignal, SessionOpened
from oracle.core.ports import Context, NotSelected, StrategyCaps
from oracle.core.sessions import MINUTE_NS, NS, Session, minutes_of
from oracle.core.structurechoice import LegWanted, SelectedStructure, StructureRequest
from oracle.core.vocabulary import Side
from oracle.options.selection import Missing
from oracle.options.structure_selection import NO_OPEN_INTEREST
from oracle.strategies.base import TIME_OF_DAY, Facts, Strategy, StrategyParams, Universe, Verdict, param, rounded
from oracle.strategies.structures import Attempts, at_expiry, leg_of, net_mid, open_trades, structure_facts

_MISSING = frozenset((*(reason.value for reason in Missing), NO_OPEN_INTEREST))
# The 30-day volatility lies between the expiries on both sides of this term; strikes this near to spot make it.
_TERM_DAYS, _TERM_REACH = 30, 0.01
# An expiry at or beyond the term is listed by then, whatever the window is: weekly ones are at most so far apart.
_TERM_LISTED_DAYS = 38


class IvMeanReversionParams(StrategyParams):
    """Everything that can be set. Late times of day move with an early close (``Session.late``)."""

    universe: Universe = param(("SPY", "QQQ", "IWM"), "symbols", "Underlyings to trade", min_length=1, max_length=20)
    min_days: int = param(30, "days", "Nearest expiry, in calendar days", ge=7, le=120)
    max_days: int = param(45, "days", "Farthest expiry, in calendar days", ge=8, le=180)
    expiries_tried: int = param(
        2, "expiries", "How many of the window are quoted and tried, the nearest first", ge=1, le=6
    )
    rank_buy_below: float = param(0.30, "IV rank", "Volatility is bought below it", ge=0.0, le=1.0)
    rank_sell_above: float = param(0.70, "IV rank", "Volatility is sold above it", ge=0.0, le=1.0)
    buy_structure: Literal["straddle", "call", "put"] = param(
        "straddle", "word", "What buys volatility: both at-the-money options, or one of them"
    )
    short_abs_delta: float = param(0.20, "absolute delta", "The condor's shorts", ge=0.05, le=0.50)
    wing_abs_delta: float = param(0.08, "absolute delta", "The condor's bought wings", ge=0.01, le=0.45)
    abs_delta_tolerance: float = param(
        0.04, "absolute delta", "How far a leg's |delta| may be from the one wanted", ge=0.005, le=0.2
    )
    entry_start: str = param("10:00", "New York time", "First moment of an entry", pattern=TIME_OF_DAY)
    entry_end: str = param("15:30", "New York time", "End of entries (late)", pattern=TIME_OF_DAY)
    long_target_fraction: float = param(0.30, "fraction of the debit", "Target of what is bought", ge=0.05, le=10.0)
    long_stop_fraction: float = param(0.35, "fraction of the debit", "Stop of what is bought", ge=0.05, le=1.0)
    short_target_fraction: float = param(0.50, "fraction of the credit", "Target of the condor", ge=0.05, le=0.95)
    short_stop_fraction: float = param(1.00, "fraction of the credit", "Stop of the condor", ge=0.1, le=10.0)
    exit_days: int = param(21, "days", "Every trade ends with so many days to expiry left", ge=1, le=100)
    exit_at: str = param("15:45", "New York time", "When it ends on that day (late)", pattern=TIME_OF_DAY)
    max_spread_usd: float = param(0.60, "USD per share", "Most that all legs' spreads may come to", ge=0.01, le=20.0)
    max_spread_of_mid: float = param(
        0.10, "fraction of debit or credit", "Most that all legs' spreads may come to", ge=0.001, le=1.0
    )
    min_open_interest: int = param(0, "contracts", "Least open interest of each leg; 0 asks nothing", ge=0, le=100_000)
    max_quote_age_s: float = param(15.0, "seconds", "Oldest option quote", ge=0.5, le=120.0)
    max_bar_age_s: float = param(75.0, "seconds", "Oldest end of the last bar at a decision", ge=1.0, le=300.0)
    max_open_per_underlying: int = param(2, "trades", "Most trades open at once in one underlying", ge=1, le=20)
    max_attempts: int = param(
        3, "intents", "Intents per underlying and session, counted whatever becomes of them", ge=1, le=20
    )
    retry_minutes: int = param(5, "minutes", "Least time between two of these intents", ge=1, le=120)
    confidence: float = param(0.80, "probability", "Confidence of an entry with every condition met", ge=0.0, le=1.0)
    min_confidence: float = param(0.75, "probability", "Least confidence for an entry", ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _order(self) -> Self:
        start, end, flat = (minutes_of(t) for t in (self.entry_start, self.entry_end, self.exit_at))
        if not minutes_of("09:30") <= start < end <= minutes_of("16:00") or flat > minutes_of("16:00"):
            raise ValueError("times must be in order: 09:30, entry_start, entry_end, 16:00; exit_at not after it")
        if not self.exit_days < self.min_days <= self.max_days:
            raise ValueError("exit_days must be below min_days, and min_days not above max_days")
        if not self.rank_buy_below < self.rank_sell_above:
            raise ValueError("rank_buy_below must be below rank_sell_above")
        if not self.wing_abs_delta + 2 * self.abs_delta_tolerance <= self.short_abs_delta + 1e-9:
            raise ValueError("wing_abs_delta must be below short_abs_delta by twice the tolerance or more")
        return self


class IvMeanReversion(Strategy):
    """The strategy; see the module's docstring and ``Params``."""

    name = "iv_mean_reversion"
    Params = IvMeanReversionParams
    options_on_demand = True
    needs_iv_history = True
    helpers = ("oracle.strategies.structures", "oracle.options.structure_selection")

    def __init__(self, params: StrategyParams, code_hash: str) -> None:
        super().__init__(params, code_hash)
        if not isinstance(params, IvMeanReversionParams):
            raise InvariantError("iv_mean_reversion: wrong parameters")
        self.params = params
        self._last: dict[str, Bar] = {}
        self._attempts = Attempts()

    @property
    def universe(self) -> tuple[str, ...]:
        """The underlyings."""
        return self.params.universe

    @property
    def warmup_sessions(self) -> int:
        """One session, so that the feed is known to bring bars; the IV history is the volatility observer's."""
        return 1

    @property
    def max_expiry_sessions(self) -> int:
        """Sessions that hold the farthest expiry of the window, and those that the 30-day volatility needs."""
        return -(-max(self.params.max_days, _TERM_LISTED_DAYS) * 5 // 7) + 1

    @property
    def caps(self) -> StrategyCaps:
        """One entry per underlying and session, and so many trades at once in it."""
        return StrategyCaps(
            open_per_underlying=self.params.max_open_per_underlying, trades_per_underlying_session=1
        )  # fmt: skip

    def on_session_open(self, message: SessionOpened, context: Context) -> Sequence[Message]:
        """Forget earlier sessions' entries."""
        super().on_session_open(message, context)
        self._attempts.keep(f"{self.name}:{message.date}:")
        return ()

    def on_intent_sent(self, intent_id: str) -> None:
        """Use up one attempt of the intent's session and symbol."""
        self._attempts.note(intent_id)

    def on_warmup_bar(self, bar: Bar, context: Context) -> None:  # noqa: ARG002 - the base's signature
        """Remember the newest bar: it tells that the feed is alive."""
        before = self._last.get(bar.symbol)
        if before is None or before.start_ns < bar.start_ns:
            self._last[bar.symbol] = bar

    def on_bar(self, bar: Bar, context: Context) -> Sequence[Message]:
        """Evaluate, then ask for the quotes that the next minute's evaluation needs."""
        self.on_warmup_bar(bar, context)
        verdict = self.evaluate(bar.symbol, context)
        if isinstance(verdict, Intent):
            self.on_intent_sent(verdict.intent_id)
        return [*self._news(bar.symbol, verdict), *self._wishes(bar.symbol, verdict, context)]

    def evaluate(self, symbol: str, context: Context) -> Verdict | None:
        """Judge the rank and the chain of this moment; None outside regular trading hours."""
        session, at_ns, p = context.session, context.at_ns, self.params
        if session is None or not session.is_open(at_ns) or symbol not in self.universe:
            return None
        facts: Facts = {
            "date": session.date,
            "attempts": self._attempts.count(self._key(symbol, session)),
            "open_trades": len(open_trades(self.name, symbol, context)),
        }
        if at_ns < session.early(p.entry_start):
            return self.no_signal(symbol, "before_entry_window", facts)
        if at_ns >= session.late(p.entry_end):
            return self.no_signal(symbol, "after_entry_window", facts)
        last = self._last.get(symbol)
        if last is None or at_ns - (last.start_ns + MINUTE_NS) > p.max_bar_age_s * NS:
            return self.no_data(symbol, "fresh_bar", facts)
        refusal = self._spent(symbol, session, context)
        if refusal is not None:
            return self.no_signal(symbol, refusal, facts)
        rank = self._rank(symbol, context, facts)
        if rank is None:
            return self.no_data(symbol, str(facts["iv_missing"]), facts)
        facts |= {"buy_holds": rank < p.rank_buy_below, "sell_holds": rank > p.rank_sell_above}
        if not (facts["buy_holds"] or facts["sell_holds"]):
            return self.no_signal(symbol, "iv_rank_between", facts)
        if self._attempts.waits(self._key(symbol, session), session.minute_of(at_ns), p.retry_minutes):
            return self.no_signal(symbol, "attempt_under_way", facts)
        if p.confidence < p.min_confidence:
            return self.no_signal(symbol, "confidence_too_low", facts)
        return self._structure(symbol, session, context, facts, buying=bool(facts["buy_holds"]))

    def _spent(self, symbol: str, session: Session, context: Context) -> str | None:
        """Why no further entry is possible in this session whatever the market does, or None."""
        held = open_trades(self.name, symbol, context)
        if any(trade.opened_ns >= session.open_ns for trade in held):
            return "entered_today"
        if len(held) >= self.params.max_open_per_underlying:
            return "open_trades_used"
        return "attempts_used" if self._attempts.count(self._key(symbol, session)) >= self.params.max_attempts else None

    def structure_now(self, symbol: str, context: Context) -> Verdict | None:
        """What it would trade now whatever the time and the rank: it buys where the rank is below a half or unknown."""
        session = context.session
        if session is None or symbol not in self.universe:
            return None
        facts: Facts = {"date": session.date}
        rank = self._rank(symbol, context, facts)
        return self._structure(symbol, session, context, facts, buying=rank is None or rank < 0.5)

    def _rank(self, symbol: str, context: Context, facts: Facts) -> float | None:
        """The IV rank of this moment, or None with ``iv_missing`` among the facts: ``iv_now`` or ``iv_history``."""
        standing = context.volatility.standing(symbol, context.at_ns)
        if isinstance(standing, NotSelected):
            facts |= {f"iv_{name}": value for name, value in standing.facts.items()}
            facts |= {"iv_missing": "iv_now", "iv_reason": standing.reason}
            return None
        facts |= {
            "iv_30d": standing.iv_30d,
            "iv_rank": standing.rank,
            "iv_percentile": standing.percentile,
            "iv_observations": standing.observations,
            "iv_window": standing.window,
        }
        if standing.rank is None:
            facts |= {"iv_missing": "iv_history", "iv_reason": standing.reason}
        return standing.rank

    def _structure(self, symbol: str, session: Session, context: Context, facts: Facts, *, buying: bool) -> Verdict:
        """Find the legs and write the intent, or say why there are none."""
        p = self.params
        facts["buying"] = buying
        expiries = self._window(symbol, session, context)
        if not expiries:
            known = context.chains.listed(symbol) is not None
            return self.no_data(symbol, Missing.EXPIRY.value if known else Missing.CHAIN.value, facts)
        request = StructureRequest(
            symbol, expiries, self._legs_wanted(buying), p.max_quote_age_s, p.max_spread_usd, p.max_spread_of_mid,
            p.min_open_interest,
        )  # fmt: skip
        found = context.chains.select_structure(request, context.at_ns)
        if not isinstance(found, SelectedStructure):
            facts |= {f"option_{name}": value for name, value in found.facts.items()}
            return (self.no_data if found.reason in _MISSING else self.no_signal)(symbol, found.reason, facts)
        facts |= {
            "expiry": found.expiry,
            "days": context.table.days_to(found.expiry, session.date),
            "spot": found.spot,
            "forward": found.forward,
            "forward_source": found.forward_source,
        }
        flat_ns = self._flat_ns(found.expiry, context)
        if flat_ns is None or flat_ns <= session.close_ns:
            return self.no_signal(symbol, "exit_day_too_near", facts)
        legs = tuple(leg_of(leg) for leg in found.legs)
        plan = self._exit_plan(flat_ns, buying)
        facts |= structure_facts(found.legs, legs, plan)
        mid, outcome = net_mid(legs), at_expiry(legs)
        at_risk = outcome.max_loss_usd is not None and outcome.max_loss_usd > 0
        if not (mid > 0 if buying else mid < 0 and outcome.covered and at_risk):
            return self.no_signal(symbol, "price_not_plausible", facts)
        return Intent(
            intent_id=f"{self._key(symbol, session)}-{session.minute_of(context.at_ns)}",
            strategy=self.name,
            strategy_hash=self.code_hash,
            underlying=symbol,
            legs=legs,
            exit_plan=plan,
            confidence=p.confidence,
            confidence_needed=p.min_confidence,
            reason=self._reason(symbol, found, facts, buying),
            facts=rounded(facts),
            valid_until_ns=session.late(p.entry_end),
        )

    def _legs_wanted(self, buying: bool) -> tuple[LegWanted, ...]:
        p = self.params
        if buying:
            call, put = LegWanted(True, Side.BUY, moneyness=0.0), LegWanted(False, Side.BUY, moneyness=0.0)
            # The put of a straddle stands at the call's strike.
            straddle = (call, LegWanted(False, Side.BUY, of_leg=0))
            return {"straddle": straddle, "call": (call,), "put": (put,)}[p.buy_structure]
        near, far = p.abs_delta_tolerance, p.wing_abs_delta
        wing = (far, max(0.0, far - near), far + near)
        short = (p.short_abs_delta, p.short_abs_delta - near, p.short_abs_delta + near)
        return tuple(
            LegWanted(is_call, side, abs_delta=at, abs_delta_low=low, abs_delta_high=high)
            for is_call, side, (at, low, high) in (
                (False, Side.BUY, wing), (False, Side.SELL, short), (True, Side.SELL, short), (True, Side.BUY, wing),
            )
        )  # fmt: skip

    def _exit_plan(self, flat_ns: int, buying: bool) -> ExitPlan:
        p = self.params
        target, stop = p.short_target_fraction, p.short_stop_fraction
        if buying:
            target, stop = p.long_target_fraction, p.long_stop_fraction
        single = {"call": 1, "put": -1}.get(p.buy_structure, 0) if buying else 0
        return ExitPlan(
            target_fraction=target, stop_fraction=stop, breakeven_after_fraction=None, underlying_target=None,
            underlying_stop=None, direction=single, flat_ns=flat_ns,
        )  # fmt: skip

    def _flat_ns(self, expiry: str, context: Context) -> int | None:
        """The forced exit: at ``exit_at`` of the last session with at least ``exit_days`` days to expiry left."""
        latest = (dt.date.fromisoformat(expiry) - dt.timedelta(days=self.params.exit_days)).isoformat()
        last = context.table.last_trading(latest)
        return None if last is None else last.late(self.params.exit_at)

    def _window(self, symbol: str, session: Session, context: Context) -> tuple[str, ...]:
        """The listed expiries of the window that are tried, the nearest first."""
        p, table = self.params, context.table
        inside = [
            e for e in context.chains.expiries(symbol) if p.min_days <= table.days_to(e, session.date) <= p.max_days
        ]
        return tuple(inside[: p.expiries_tried])

    def _around_term(self, symbol: str, context: Context) -> tuple[str, ...]:
        """The listed expiries on both sides of 30 days, of which the 30-day volatility is made."""
        term_ns = context.at_ns + _TERM_DAYS * 24 * 60 * MINUTE_NS
        known = [(context.table.expiry_ns(e), e) for e in context.chains.expiries(symbol)]
        before = [e for ns, e in known if ns is not None and ns <= term_ns]
        after = [e for ns, e in known if ns is not None and ns >= term_ns]
        return tuple(sorted({*before[-1:], *after[:1]}))

    def _wishes(self, symbol: str, verdict: Verdict | None, context: Context) -> Sequence[Message]:
        """At-the-money quotes around 30 days while an entry is possible; the window's too once the rank says so."""
        session = context.session
        if session is None:
            return ()
        soon = session.early(self.params.entry_start) - 5 * MINUTE_NS
        if not soon <= context.at_ns < session.late(self.params.entry_end) or self._spent(symbol, session, context):
            return self._want(symbol, wanted=False)
        term = self._around_term(symbol, context)
        facts: Facts = {} if verdict is None else verdict.facts
        idle = isinstance(verdict, NoSignal) and verdict.reason == "iv_rank_between"
        if facts.get("iv_rank") is None or idle:
            # Before the chain is listed there is nothing to name: the wish is what has it listed.
            return self._want(symbol, True, term or (session.date,), _TERM_REACH)
        return self._want(symbol, True, tuple(sorted({*term, *self._window(symbol, session, context)})))

    def _key(self, symbol: str, session: Session) -> str:
        return f"{self.name}:{session.date}:{symbol}:vol"

    def _reason(self, symbol: str, found: SelectedStructure, facts: Facts, buying: bool) -> str:
        word = self.params.buy_structure if buying else "iron condor"
        rank, iv, price = facts.get("iv_rank"), facts.get("iv_30d"), facts["net_mid_usd"]
        standing = "its IV rank is unknown"
        if isinstance(rank, float) and isinstance(iv, float):
            standing = f"IV {iv:.1%} ranks {rank:.2f} of {facts['iv_observations']} sessions"
        assert isinstance(price, float)
        return (
            f"{symbol}: {standing}; {'buys' if buying else 'sells'} the {word} of {found.expiry} "
            f"({facts['days']} days) at {abs(price):.2f}"
        )

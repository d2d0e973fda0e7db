"""Iron condor on the day of expiry: sell a call spread and a put spread around the money when both pay enough.

Inputs: one-minute bars as the beat, today's option chain. Output: one intent of four legs, or the reason why not.
The credit is judged at the net middle by default (``credit_at``); the order's ladder decides what is really paid.
Invariants: shorts and wings are of today's expiry and wings stand exactly ``wing_usd`` beyond; every figure comes from
live quotes, and an unknown one is NoData. A wing that nobody bids for counts at its offer.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, Self

from pydantic import model_validator

from oracle.core.equity import NEARLY_NOTHING_USD
from oracle.core.errors import InvariantError
from oracle.core.marketdata import Bar
from oracle.core.message import Message
from oracle.core.messages import ExitPlan, Intent, SessionOpened
from oracle.core.ports import Context, NotSelected, StrategyCaps
from oracle.core.sessions import MINUTE_NS, NS, Session, minutes_of
from oracle.core.structurechoice import ChosenLeg, OfferedContract, UsableContract, UsableSlice
from oracle.core.vocabulary import Side
from oracle.options.selection import Missing
from oracle.options.structure_selection import NO_OPEN_INTEREST
from oracle.strategies.base import TIME_OF_DAY, Facts, Strategy, StrategyParams, Universe, Verdict, param, rounded
from oracle.strategies.structures import Attempts, leg_of, net_mid, net_touch, open_trades, structure_facts

_MISSING = frozenset((*(reason.value for reason in Missing), NO_OPEN_INTEREST))
_EVEN = 1e-9  # cents held as floats


class IronCondorParams(StrategyParams):
    """Everything that can be set. Late times of day move with an early close (``Session.late``)."""

    universe: Universe = param(("SPY", "QQQ"), "symbols", "Underlyings to trade", min_length=1, max_length=20)
    entry_start: str = param("09:31", "New York time", "First moment of an entry", pattern=TIME_OF_DAY)
    entry_end: str = param(
        "09:45", "New York time", "End of entries; 10:00 to 11:00 is an alternative", pattern=TIME_OF_DAY
    )
    flat_at: str = param("15:00", "New York time", "Forced exit (late)", pattern=TIME_OF_DAY)
    zero_dte_on_half_days: bool = param(False, "flag", "Whether options expiring on a half-day may be sold on it")
    wing_usd: float = param(5.0, "USD", "How far beyond the shorts the bought wings stand", ge=0.5, le=100.0)
    abs_delta_low: float = param(0.10, "absolute delta", "Least |delta| of a short", ge=0.01, le=0.50)
    abs_delta_high: float = param(0.20, "absolute delta", "Greatest |delta| of a short", ge=0.01, le=0.50)
    min_side_credit_of_width: float = param(
        0.08, "fraction of the width", "What the call side and the put side must each pay", ge=0.0, le=0.5
    )
    min_credit_of_width: float = param(
        0.18, "fraction of the width", "What both sides must pay together", ge=0.0, le=0.9
    )
    credit_at: Literal["mid", "touch"] = param(
        "mid", "word", "Judge credits at the net middle, or at what the quotes pay at once"
    )
    target_fraction: float = param(0.50, "fraction of the credit", "Profit target", ge=0.05, le=0.95)
    stop_fraction: float = param(2.00, "fraction of the credit", "Loss at which the trade is stopped", ge=0.1, le=10.0)
    short_delta_stop: float = param(
        0.40, "absolute delta", "|delta| of a short leg at which the trade is ended", ge=0.05, le=0.95
    )
    max_spread_usd: float = param(0.25, "USD per share", "Most that all legs' spreads may come to", ge=0.01, le=5.0)
    max_spread_of_mid: float = param(
        0.20, "fraction of the credit", "Most that all legs' spreads may come to", ge=0.001, le=1.0
    )
    min_open_interest: int = param(0, "contracts", "Least open interest of each leg; 0 asks nothing", ge=0, le=100_000)
    max_quote_age_s: float = param(10.0, "seconds", "Oldest option quote", ge=0.5, le=120.0)
    max_bar_age_s: float = param(75.0, "seconds", "Oldest end of the last bar at a decision", ge=1.0, le=300.0)
    max_attempts: int = param(
        3, "intents", "Intents per underlying and session, counted whatever becomes of them", ge=1, le=20
    )
    retry_minutes: int = param(5, "minutes", "Least time between two of these intents", ge=1, le=120)
    confidence: float = param(0.80, "probability", "Confidence of an entry with every condition met", ge=0.0, le=1.0)
    min_confidence: float = param(0.75, "probability", "Least confidence for an entry", ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _order(self) -> Self:
        start, end, flat = (minutes_of(t) for t in (self.entry_start, self.entry_end, self.flat_at))
        if not minutes_of("09:30") <= start < end < flat <= minutes_of("16:00"):
            raise ValueError("times must be in order: 09:30, entry_start, entry_end, flat_at, 16:00")
        if not self.abs_delta_low < self.abs_delta_high < self.short_delta_stop:
            raise ValueError("abs_delta_low, abs_delta_high and short_delta_stop must rise")
        return self


class _Side:
    """One spread that could be sold: the short, its wing, and what the two pay."""

    __slots__ = ("credit", "short", "size", "wing")

    def __init__(self, short: UsableContract, wing: UsableContract | OfferedContract, credit: float) -> None:
        self.short, self.wing, self.credit = short, wing, credit
        self.size = abs(short.delta)


class IronCondor(Strategy):
    """The strategy; see the module's docstring and ``Params``."""

    name = "iron_condor"
    Params = IronCondorParams
    options_on_demand = True
    helpers = ("oracle.strategies.structures", "oracle.options.structure_selection")

    def __init__(self, params: StrategyParams, code_hash: str) -> None:
        super().__init__(params, code_hash)
        if not isinstance(params, IronCondorParams):
            raise InvariantError("iron_condor: wrong parameters")
        self.params = params
        self._last: dict[str, Bar] = {}
        self._attempts = Attempts()

    @property
    def universe(self) -> tuple[str, ...]:
        """The underlyings."""
        return self.params.universe

    @property
    def warmup_sessions(self) -> int:
        """One session, so that the feed is known to bring bars; no indicator needs more."""
        return 1

    @property
    def max_expiry_sessions(self) -> int:
        """Today's options only."""
        return 0

    @property
    def caps(self) -> StrategyCaps:
        """One trade in an underlying at a time, and one in a session."""
        return StrategyCaps(open_per_underlying=1, trades_per_underlying_session=1)

    def on_session_open(self, message: SessionOpened, context: Context) -> Sequence[Message]:
        """Forget earlier sessions' entries and ask for today's quotes."""
        super().on_session_open(message, context)
        self._attempts.keep(f"{self.name}:{message.date}:")
        return [wish for symbol in self.universe for wish in self._wishes(symbol, context)]

    def on_intent_sent(self, intent_id: str) -> None:
        """Use up one attempt of the intent's session and symbol."""
        self._attempts.note(intent_id)

    def on_warmup_bar(self, bar: Bar, context: Context) -> None:  # noqa: ARG002 - the base's signature
        """Remember the newest bar: it tells that the feed is alive."""
        before = self._last.get(bar.symbol)
        if before is None or before.start_ns < bar.start_ns:
            self._last[bar.symbol] = bar

    def on_bar(self, bar: Bar, context: Context) -> Sequence[Message]:
        """Evaluate, and ask for quotes as long as an entry is possible."""
        return [*super().on_bar(bar, context), *self._wishes(bar.symbol, context)]

    def evaluate(self, symbol: str, context: Context) -> Verdict | None:
        """Judge the chain of this moment; None outside regular trading hours."""
        session, at_ns, p = context.session, context.at_ns, self.params
        if session is None or not session.is_open(at_ns) or symbol not in self.universe:
            return None
        facts: Facts = {"date": session.date, "attempts": self._attempts.count(self._key(symbol, session))}
        if not self._expiry_allowed(session):
            return self.no_signal(symbol, "no_expiry_allowed", facts)
        if at_ns < session.early(p.entry_start):
            return self.no_signal(symbol, "before_entry_window", facts)
        if at_ns >= self._entry_end_ns(session):
            return self.no_signal(symbol, "after_entry_window", facts)
        last = self._last.get(symbol)
        if last is None or at_ns - (last.start_ns + MINUTE_NS) > p.max_bar_age_s * NS:
            return self.no_data(symbol, "fresh_bar", facts)
        if open_trades(self.name, symbol, context):
            return self.no_signal(symbol, "position_open", facts)
        if self._used(symbol, session):
            return self.no_signal(symbol, "attempts_used", facts)
        if self._attempts.waits(self._key(symbol, session), session.minute_of(at_ns), p.retry_minutes):
            return self.no_signal(symbol, "attempt_under_way", facts)
        return self._structure(symbol, session, context, facts, strict=True)

    def structure_now(self, symbol: str, context: Context) -> Verdict | None:
        """The condor of this moment whatever the time, and even if it pays too little: then the best-paid one."""
        session = context.session
        if session is None or symbol not in self.universe:
            return None
        return self._structure(symbol, session, context, {"date": session.date}, strict=False)

    def _structure(self, symbol: str, session: Session, context: Context, facts: Facts, *, strict: bool) -> Verdict:
        """Find the four legs and write the intent, or say why there are none."""
        p = self.params
        one = context.chains.usable(symbol, session.date, context.at_ns, p.max_quote_age_s, p.min_open_interest)
        if isinstance(one, NotSelected):
            facts |= {f"option_{name}": value for name, value in one.facts.items()}
            return (self.no_data if one.reason in _MISSING else self.no_signal)(symbol, one.reason, facts)
        facts |= {"spot": one.spot, "forward": one.forward, "forward_source": one.forward_source}
        facts |= {f"option_left_out_{reason}": count for reason, count in one.left_out.items()}
        chosen = self._choose(one, facts, strict=strict)
        if isinstance(chosen, str):
            return self.no_signal(symbol, chosen, facts)
        legs = tuple(leg_of(leg) for leg in chosen)
        plan = self._exit_plan(session)
        facts |= {**structure_facts(chosen, legs, plan), "width_usd": p.wing_usd}
        mid, touch = net_mid(legs), net_touch(legs)
        if not -p.wing_usd < mid < 0:
            return self.no_signal(symbol, "credit_not_plausible", facts)
        spread = 2 * (touch - mid)
        if spread > min(p.max_spread_usd, -float(mid) * p.max_spread_of_mid) + _EVEN and strict:
            return self.no_signal(symbol, "net_spread_too_wide", facts)
        if p.confidence < p.min_confidence and strict:
            return self.no_signal(symbol, "confidence_too_low", facts)
        return Intent(
            intent_id=f"{self._key(symbol, session)}-{session.minute_of(context.at_ns)}",
            strategy=self.name,
            strategy_hash=self.code_hash,
            underlying=symbol,
            legs=legs,
            exit_plan=plan,
            confidence=p.confidence,
            confidence_needed=p.min_confidence,
            reason=_reason(symbol, one, chosen, p.wing_usd),
            facts=rounded(facts),
            valid_until_ns=self._entry_end_ns(session),
        )

    def _choose(self, one: UsableSlice, facts: Facts, *, strict: bool) -> tuple[ChosenLeg, ...] | str:
        """The pair of sides that pays enough with no short nearer the money than it has to be.

        Of the pairs whose sides each pay their share of the width and together theirs, the one whose greater |delta| is
        smallest; of equals the one with the smaller sum, then the outer strikes.
        """
        p = self.params
        call_shorts, put_shorts = self._shorts(one.calls), self._shorts(one.puts)
        facts |= {"call_shorts": len(call_shorts), "put_shorts": len(put_shorts)}
        if not call_shorts or not put_shorts:
            return "no_short_in_delta_band"
        cheap = [c for c in one.offered if c.ask <= NEARLY_NOTHING_USD + _EVEN]
        calls = list(self._sides(call_shorts, (*(c for c in cheap if c.is_call), *one.calls), 1))
        puts = list(self._sides(put_shorts, (*(c for c in cheap if not c.is_call), *one.puts), -1))
        for name, sides in (("call", calls), ("put", puts)):
            best = max(sides, key=lambda side: side.credit, default=None)
            facts |= {f"{name}_side_pays_of_width": None if best is None else best.credit / p.wing_usd}
        facts |= {"side_credit_needed": p.min_side_credit_of_width, "credit_needed": p.min_credit_of_width}
        pairs = [(call, put) for call in calls for put in puts if put.short.strike < call.short.strike]
        if not pairs:
            return "no_wing_at_its_strike"
        least, total = p.min_side_credit_of_width * p.wing_usd - _EVEN, p.min_credit_of_width * p.wing_usd - _EVEN
        enough = [(c, q) for c, q in pairs if min(c.credit, q.credit) >= least and c.credit + q.credit >= total]
        facts["credit_holds"] = bool(enough)
        if not enough:
            if strict:
                return "credit_too_small"
            enough = [max(pairs, key=lambda pair: (pair[0].credit + pair[1].credit, pair[0].short.symbol))]
        call, put = min(enough, key=_rank)
        facts |= {"call_credit_usd": call.credit, "put_credit_usd": put.credit}
        return (
            ChosenLeg(put.wing, Side.BUY, 1),
            ChosenLeg(put.short, Side.SELL, 1),
            ChosenLeg(call.short, Side.SELL, 1),
            ChosenLeg(call.wing, Side.BUY, 1),
        )

    def _shorts(self, contracts: Sequence[UsableContract]) -> list[UsableContract]:
        """The contracts in the band of |delta|."""
        low, high = self.params.abs_delta_low, self.params.abs_delta_high
        return [c for c in contracts if low <= abs(c.delta) <= high]

    def _sides(
        self, shorts: Sequence[UsableContract], wings: Sequence[UsableContract | OfferedContract], away: int
    ) -> Iterator[_Side]:
        """The spreads of one right: each short that has its wing exactly so far beyond it."""
        at = {round(c.strike, 3): c for c in wings}
        for short in shorts:
            wing = at.get(round(short.strike + away * self.params.wing_usd, 3))
            if wing is not None:
                yield _Side(short, wing, self._credit(short, wing))

    def _credit(self, short: UsableContract, wing: UsableContract | OfferedContract) -> float:
        """What one side pays; the middle between nothing and an offer is no price, so such a wing costs its offer."""
        if self.params.credit_at == "touch":
            return short.bid - wing.ask
        return short.mid - (wing.ask if isinstance(wing, OfferedContract) else wing.mid)

    def _exit_plan(self, session: Session) -> ExitPlan:
        p = self.params
        return ExitPlan(
            target_fraction=p.target_fraction, stop_fraction=p.stop_fraction, breakeven_after_fraction=None,
            underlying_target=None, underlying_stop=None, direction=0, flat_ns=session.late(p.flat_at),
            short_delta_stop=p.short_delta_stop,
        )  # fmt: skip

    def _expiry_allowed(self, session: Session) -> bool:
        return self.params.zero_dte_on_half_days or not session.is_half_day

    def _entry_end_ns(self, session: Session) -> int:
        """The window counts from the open; on a half-day it cannot outlast the forced exit."""
        return min(session.early(self.params.entry_end), session.late(self.params.flat_at))

    def _used(self, symbol: str, session: Session) -> bool:
        return self._attempts.count(self._key(symbol, session)) >= self.params.max_attempts

    def _key(self, symbol: str, session: Session) -> str:
        return f"{self.name}:{session.date}:{symbol}:condor"

    def _wishes(self, symbol: str, context: Context) -> Sequence[Message]:
        """Today's quotes from the open until no entry is possible any more; what is held is quoted anyway."""
        session = context.session
        wanted = (
            session is not None
            and session.is_open(context.at_ns)
            and self._expiry_allowed(session)
            and context.at_ns < self._entry_end_ns(session)
            and not self._used(symbol, session)
        )
        return self._want(symbol, wanted, () if session is None else (session.date,))


def _rank(pair: tuple[_Side, _Side]) -> tuple[float, float, float, float]:
    call, put = pair
    greater, together = max(call.size, put.size), call.size + put.size
    return round(greater, 9), round(together, 9), -call.short.strike, put.short.strike


def _reason(symbol: str, one: UsableSlice, chosen: Sequence[ChosenLeg], wing_usd: float) -> str:
    put, call = chosen[1].contract, chosen[2].contract
    assert isinstance(put, UsableContract)
    assert isinstance(call, UsableContract)
    credit = -sum(leg.side.sign * leg.contract.mid for leg in chosen)
    return (
        f"{symbol} at {one.spot:.2f}: the condor {put.strike:g}/{call.strike:g} with wings {wing_usd:g} beyond pays "
        f"{credit:.2f}, {credit / wing_usd:.1%} of the width, at deltas {put.delta:.2f} and {call.delta:.2f}"
    )

"""Opening range breakout: buy a short-dated option when a one-minute close leaves the first hour's range.

Inputs: one-minute bars of each underlying, its option chain. Output: one long call above the range or long put below
it per symbol, direction and session, or the reason why not. Up and down are mirror images.
Invariants: every condition is needed; an unknown one is NoData; an intent uses its direction whatever becomes of it.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import model_validator

from oracle.core.errors import InvariantError
from oracle.core.marketdata import Bar
from oracle.core.message import Message
from oracle.core.messages import ExitPlan, Intent, SessionOpened
from oracle.core.ports import Context, DeltaRequest, Selected
from oracle.core.sessions import MINUTE_NS, NS, Session, minutes_of
from oracle.options.selection import Missing
from oracle.strategies.base import TIME_OF_DAY, Facts, StrategyParams, Universe, Verdict, bought, param, rounded
from oracle.strategies.indicators import OpeningRange, Rsi, SameMinuteVolume, TrailingVolume
from oracle.strategies.single import SingleOption

_MISSING = frozenset(reason.value for reason in Missing)
_WORDS = {1: "up", -1: "down"}


class OpeningRangeBreakoutParams(StrategyParams):
    """Everything that can be set. Late times of day move with an early close (``Session.late``)."""

    universe: Universe = param(
        ("SPY", "QQQ", "IWM"), "symbols", "Underlyings to watch and trade", min_length=1, max_length=20
    )
    range_start: str = param("09:30", "New York time", "Start of the opening range", pattern=TIME_OF_DAY)
    range_minutes: int = param(60, "minutes", "Length of the opening range", ge=5, le=180)
    range_missing_minutes: int = param(
        0, "minutes", "Minutes of the range that may have no bar before the range counts as unknown", ge=0, le=5
    )
    break_fraction: float = param(
        0.0015, "fraction of the range's edge", "How far beyond the range a close must be", ge=0.0, le=0.02
    )
    volume_mode: Literal["same_minute", "trailing"] = param(
        "same_minute", "word", "Compare volume with the same minute of earlier sessions, or with the bars before"
    )
    volume_sessions: int = param(20, "sessions", "Baseline of the mode same_minute", ge=5, le=60)
    volume_bars: int = param(20, "bars", "Baseline of the mode trailing", ge=5, le=390)
    min_relative_volume: float = param(
        1.5, "multiple of the baseline", "Least volume of the breaking bar", ge=0.0, le=20.0
    )
    rsi_length: int = param(14, "bars", "Length of the RSI", ge=2, le=100)
    rsi_level: float = param(50.0, "RSI points", "RSI above it for a break up, below it down", ge=0.0, le=100.0)
    warmup_bars: int = param(100, "bars", "Bars before the RSI counts as known", ge=15, le=2000)
    entry_start: str = param("10:30", "New York time", "First moment of an entry", pattern=TIME_OF_DAY)
    entry_end: str = param("14:00", "New York time", "End of entries (late)", pattern=TIME_OF_DAY)
    flat_at: str = param("15:00", "New York time", "Forced exit (late)", pattern=TIME_OF_DAY)
    min_expiry_sessions: int = param(0, "sessions", "Nearest expiry: 0 is today's", ge=0, le=45)
    max_expiry_sessions: int = param(
        1, "sessions", "Farthest expiry, taken when no nearer one has a contract that fits", ge=0, le=45
    )
    zero_dte_on_half_days: bool = param(False, "flag", "Whether options expiring on a half-day may be bought on it")
    abs_delta_low: float = param(0.40, "absolute delta", "Least |delta| of the option", ge=0.05, le=0.95)
    abs_delta_high: float = param(0.60, "absolute delta", "Greatest |delta| of the option", ge=0.05, le=0.95)
    max_spread_usd: float = param(0.08, "USD per share", "Widest spread of the option", ge=0.01, le=5.0)
    max_spread_of_mid: float = param(0.04, "fraction of the mid", "Widest spread of the option", ge=0.001, le=0.5)
    max_quote_age_s: float = param(10.0, "seconds", "Oldest option quote", ge=0.5, le=120.0)
    max_bar_age_s: float = param(75.0, "seconds", "Oldest end of the last bar at a decision", ge=1.0, le=300.0)
    target_range_multiple: float = param(
        1.5, "range widths", "Target of the underlying beyond the broken edge of the range", ge=0.1, le=10.0
    )
    target_fraction: float = param(0.50, "fraction of premium", "Profit target", ge=0.05, le=10.0)
    stop_fraction: float = param(0.40, "fraction of premium", "Loss at which the trade is stopped", ge=0.05, le=1.0)
    breakeven_after_fraction: float = param(
        0.30, "fraction of premium", "Profit after which the stop stands at the entry price", ge=0.05, le=10.0
    )
    max_entries_per_direction: int = param(
        1, "entries", "Intents per symbol, direction and session, counted whatever becomes of them", ge=1, le=5
    )
    confidence: float = param(0.80, "probability", "Confidence of a signal with every condition met", ge=0.0, le=1.0)
    min_confidence: float = param(0.75, "probability", "Least confidence for an entry", ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _order(self) -> Self:
        range_end = minutes_of(self.range_start) + self.range_minutes
        times = (range_end, minutes_of(self.entry_start), minutes_of(self.entry_end), minutes_of(self.flat_at))
        if not (minutes_of("09:30") <= minutes_of(self.range_start) and times[0] <= times[1] < times[2] < times[3]):
            raise ValueError("times must be in order: 09:30, range, entry_start, entry_end, flat_at")
        if times[3] > minutes_of("16:00"):
            raise ValueError("flat_at must not be after 16:00")
        if not self.abs_delta_low < self.abs_delta_high:
            raise ValueError("abs_delta_low must be below abs_delta_high")
        if not self.min_expiry_sessions <= self.max_expiry_sessions:
            raise ValueError("min_expiry_sessions must not be above max_expiry_sessions")
        return self


@dataclass(slots=True)
class _Symbol:
    """What is remembered of one underlying."""

    rsi: Rsi
    same_minute: SameMinuteVolume
    trailing: TrailingVolume
    bars: int = 0
    date: str = ""
    window: OpeningRange | None = None
    last: Bar | None = None


@dataclass(slots=True, frozen=True)
class _View:
    """The known inputs of one evaluation."""

    close: float
    high: float
    low: float
    volume: float
    rsi: float

    @property
    def width(self) -> float:
        return self.high - self.low


class OpeningRangeBreakout(SingleOption):
    """The strategy; see the module's docstring and ``Params``."""

    name = "opening_range_breakout"
    Params = OpeningRangeBreakoutParams
    params: OpeningRangeBreakoutParams

    def __init__(self, params: StrategyParams, code_hash: str) -> None:
        super().__init__(params, code_hash)
        if not isinstance(params, OpeningRangeBreakoutParams):
            raise InvariantError("opening_range_breakout: wrong parameters")
        self.params = p = params
        self._symbols = {
            s: _Symbol(Rsi(p.rsi_length), SameMinuteVolume(p.volume_sessions), TrailingVolume(p.volume_bars))
            for s in p.universe
        }
        self._entries: dict[str, int] = {}

    @property
    def universe(self) -> tuple[str, ...]:
        """The underlyings."""
        return self.params.universe

    @property
    def warmup_sessions(self) -> int:
        """Sessions of bars before today: two more than the volume baseline, for early closes without afternoons."""
        if self.params.volume_mode == "same_minute":
            return self.params.volume_sessions + 2
        return 1 + max(self.params.warmup_bars, self.params.volume_bars) // 200

    @property
    def max_expiry_sessions(self) -> int:
        """Sessions ahead of the farthest expiry."""
        return self.params.max_expiry_sessions

    def on_session_open(self, message: SessionOpened, context: Context) -> tuple[Message, ...]:
        """Forget earlier sessions' entries."""
        super().on_session_open(message, context)
        day = f"{self.name}:{message.date}:"
        self._entries = {key: count for key, count in self._entries.items() if key.startswith(day)}
        return ()

    def on_intent_sent(self, intent_id: str) -> None:
        """Use up one entry of the intent's session, symbol and direction."""
        key = intent_id.rpartition("-")[0]
        self._entries[key] = self._entries.get(key, 0) + 1

    def on_warmup_bar(self, bar: Bar, context: Context) -> None:
        """Take a bar of regular hours into the indicators, each minute once."""
        state = self._symbols[bar.symbol]
        session = context.table.open_at(bar.start_ns)
        if session is None or (state.last is not None and bar.start_ns <= state.last.start_ns):
            return
        if session.date != state.date:
            start_ns = session.early(self.params.range_start)
            end_ns = start_ns + self.params.range_minutes * MINUTE_NS
            state.window = OpeningRange(start_ns, end_ns, self.params.range_missing_minutes)
            state.date = session.date
        if state.window is not None:
            state.window.update(bar.start_ns, bar.high, bar.low)
        state.rsi.update(bar.close)
        state.same_minute.update(session.minute_of(bar.start_ns), bar.volume)
        state.trailing.update(bar.volume)
        state.bars += 1
        state.last = bar

    def evaluate(self, symbol: str, context: Context) -> Verdict | None:
        """Judge the last bar of a symbol; None outside regular trading hours."""
        session, at_ns = context.session, context.at_ns
        if session is None or not session.is_open(at_ns):
            return None
        facts: Facts = {"date": session.date}
        if at_ns < session.early(self.params.entry_start):
            return self.no_signal(symbol, "before_entry_window", facts)
        if at_ns >= session.late(self.params.entry_end):
            return self.no_signal(symbol, "after_entry_window", facts)
        seen = self._see(symbol, session, at_ns, facts)
        if isinstance(seen, str):
            return self.no_data(symbol, seen, facts)
        direction, refusal = self._judge(symbol, session, seen, facts)
        if refusal is not None:
            return self.no_signal(symbol, refusal, facts)
        return self._structure(symbol, session, seen, direction=direction, context=context, facts=facts)

    def _see(self, symbol: str, session: Session, at_ns: int, facts: Facts) -> _View | str:
        """The inputs, all of them known, or the name of the first that is not; facts tell them all."""
        state, p = self._symbols[symbol], self.params
        known = state.window.value(at_ns) if state.window is not None and state.date == session.date else None
        high, low = known if known is not None else (None, None)
        source = state.same_minute if p.volume_mode == "same_minute" else state.trailing
        volume = source.value
        rsi = state.rsi.value if state.bars >= p.warmup_bars else None
        last = state.last
        facts |= {
            "close": None if last is None else last.close,
            "range_high": high,
            "range_low": low,
            "range_minutes_seen": 0 if state.window is None else state.window.seen,
            "relative_volume": volume,
            "rsi": rsi,
            "bars": state.bars,
        }
        if last is None or at_ns - (last.start_ns + MINUTE_NS) > p.max_bar_age_s * NS:
            return "fresh_bar"
        if high is None or low is None:
            return "opening_range"
        if volume is None:
            return "relative_volume"
        if rsi is None:
            return "rsi"
        return _View(last.close, high, low, volume, rsi)

    def _judge(self, symbol: str, session: Session, seen: _View, facts: Facts) -> tuple[int, str | None]:
        """The direction of the break (0 for none), and the first condition that does not hold."""
        p = self.params
        up = seen.close > seen.high * (1.0 + p.break_fraction)
        down = seen.close < seen.low * (1.0 - p.break_fraction)
        direction = int(up) - int(down)
        volume_holds = seen.volume >= p.min_relative_volume
        rsi_holds = direction * (seen.rsi - p.rsi_level) > 0
        facts |= {"direction": direction, "volume_holds": volume_holds, "rsi_holds": rsi_holds}
        if direction == 0:
            inside = seen.low <= seen.close <= seen.high
            return 0, "inside_range" if inside else "break_too_small"
        if self._entries.get(self._key(symbol, session, direction), 0) >= p.max_entries_per_direction:
            return direction, "entry_used"
        if not volume_holds:
            return direction, "volume_too_low"
        if not rsi_holds:
            return direction, "rsi_disagrees"
        if direction * (self._target(seen, direction) - seen.close) <= 0:
            return direction, "target_already_reached"
        if p.confidence < p.min_confidence:
            return direction, "confidence_too_low"
        return direction, None

    def _structure(
        self, symbol: str, session: Session, seen: _View, *, direction: int, context: Context, facts: Facts
    ) -> Verdict:
        """Find the option and write the intent, or say why there is none."""
        p = self.params
        expiries = self._expiries(session, context)
        if not expiries:
            return self.no_signal(symbol, "no_expiry_allowed", facts)
        request = DeltaRequest(
            underlying=symbol,
            expiries=expiries,
            is_call=direction > 0,
            abs_delta_low=p.abs_delta_low,
            abs_delta_high=p.abs_delta_high,
            max_spread_usd=p.max_spread_usd,
            max_spread_of_mid=p.max_spread_of_mid,
            max_age_s=p.max_quote_age_s,
        )
        found = context.chains.select(request, context.at_ns)
        if not isinstance(found, Selected):
            facts |= {f"option_{name}": value for name, value in found.facts.items()}
            make = self.no_data if found.reason in _MISSING else self.no_signal
            return make(symbol, found.reason, facts)
        facts |= {
            "expiry": found.expiry,
            "spot": found.spot,
            "forward": found.forward,
            "forward_source": found.forward_source,
        }
        key = self._key(symbol, session, direction)
        return Intent(
            intent_id=f"{key}-{self._entries.get(key, 0) + 1}",
            strategy=self.name,
            strategy_hash=self.code_hash,
            underlying=symbol,
            legs=(bought(found),),
            exit_plan=self._exit_plan(session, seen, direction),
            confidence=p.confidence,
            confidence_needed=p.min_confidence,
            reason=_reason(symbol, seen, direction),
            facts=rounded(facts),
            valid_until_ns=session.late(p.entry_end),
        )

    def _exit_plan(self, session: Session, seen: _View, direction: int) -> ExitPlan:
        p = self.params
        return ExitPlan(
            target_fraction=p.target_fraction,
            stop_fraction=p.stop_fraction,
            breakeven_after_fraction=p.breakeven_after_fraction,
            underlying_target=round(self._target(seen, direction), 9),
            underlying_stop=seen.high if direction > 0 else seen.low,
            direction=direction,
            flat_ns=session.late(p.flat_at),
        )

    def _target(self, seen: _View, direction: int) -> float:
        edge = seen.high if direction > 0 else seen.low
        return edge + direction * self.params.target_range_multiple * seen.width

    def _expiries(self, session: Session, context: Context) -> tuple[str, ...]:
        """Expiry dates allowed, nearest first; an expiry on a half-day's own date only when a parameter says so."""
        p, day = self.params, session
        found: list[str] = []
        for ahead in range(p.max_expiry_sessions + 1):
            today_is_short = ahead == 0 and session.is_half_day and not p.zero_dte_on_half_days
            if ahead >= p.min_expiry_sessions and not today_is_short:
                found.append(day.date)
            following = context.table.after(day.date)
            if following is None:
                break
            saturday = (dt.date.fromisoformat(day.date) + dt.timedelta(days=1)).isoformat()
            if found and found[-1] == day.date and saturday < following.date:
                # Monthlies before 2015-02 are dated the Saturday after their last trading day.
                found.append(saturday)
            day = following
        return tuple(found)

    def _key(self, symbol: str, session: Session, direction: int) -> str:
        return f"{self.name}:{session.date}:{symbol}:{_WORDS[direction]}"


def _reason(symbol: str, seen: _View, direction: int) -> str:
    edge, side = (seen.high, "above") if direction > 0 else (seen.low, "below")
    beyond = abs(seen.close / edge - 1.0)
    return (
        f"{symbol} closed at {seen.close:.2f}, {beyond:.2%} {side} its opening range {seen.low:.2f} to "
        f"{seen.high:.2f}, on {seen.volume:.2f}x volume with RSI {seen.rsi:.1f}"
    )

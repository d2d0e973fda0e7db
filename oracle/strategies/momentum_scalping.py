"""Momentum scalping: buy today's option when the fast average crosses the slow one on volume, with the market behind.

Inputs: one-minute bars of each underlying and of its peer, its option chain. Output: one long call on a cross up or
long put on a cross down, or the reason why not. Up and down are mirror images.
Invariants: all six conditions are needed; an unknown one is NoData; both indices are judged on the same minute. Gamma
walls and unusual option activity then refuse or move the confidence (``positioning``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import field_validator, model_validator

from oracle.core.errors import InvariantError
from oracle.core.instruments import is_equity
from oracle.core.marketdata import Bar
from oracle.core.message import Message
from oracle.core.messages import ExitPlan, Intent, SessionOpened
from oracle.core.ports import Context, DeltaRequest, Selected, StrategyCaps
from oracle.core.sessions import MINUTE_NS, NS, Session, minutes_of
from oracle.options.selection import Missing
from oracle.strategies.base import TIME_OF_DAY, Facts, StrategyParams, Universe, Verdict, bought, param, rounded
from oracle.strategies.indicators import Cross, Ema, Rsi, SameMinuteVolume, SessionReturns, SessionVwap, TrailingVolume
from oracle.strategies.positioning import PositioningParams, judge
from oracle.strategies.single import SingleOption

_MISSING = frozenset(reason.value for reason in Missing)
_WORDS = {1: "up", -1: "down"}


class MomentumScalpingParams(PositioningParams):
    """Everything that can be set. Late times of day move with an early close (``Session.late``)."""

    universe: Universe = param(("SPY", "QQQ"), "symbols", "Underlyings to trade", min_length=1, max_length=20)
    peers: tuple[str, ...] = param(
        ("SPY:QQQ", "QQQ:SPY"), "symbol:symbol",
        "Whom each underlying is compared with; a peer that is not traded is watched only", min_length=1, max_length=20,
    )  # fmt: skip
    ema_fast: int = param(9, "bars", "Length of the fast average", ge=2, le=200)
    ema_slow: int = param(21, "bars", "Length of the slow average", ge=3, le=400)
    rsi_length: int = param(14, "bars", "Length of the RSI", ge=2, le=100)
    rsi_long_above: float = param(30.0, "RSI points", "A call needs the RSI above it", ge=0.0, le=100.0)
    rsi_short_below: float = param(70.0, "RSI points", "A put needs the RSI below it", ge=0.0, le=100.0)
    warmup_bars: int = param(100, "bars", "Bars before averages and RSI count as known", ge=15, le=2000)
    volume_mode: Literal["same_minute", "trailing"] = param(
        "same_minute", "word", "Compare volume with the same minute of earlier sessions, or with the bars before"
    )
    volume_sessions: int = param(20, "sessions", "Baseline of the mode same_minute", ge=5, le=60)
    volume_bars: int = param(20, "bars", "Baseline of the mode trailing", ge=5, le=390)
    min_relative_volume: float = param(
        2.0, "multiple of the baseline", "Least volume of the crossing bar", ge=0.0, le=20.0
    )
    strength_minutes: int = param(
        30, "minutes", "Span of the relative strength; from the open while the session is younger", ge=5, le=120
    )
    strength_from_minute: int = param(
        10, "minutes since the open", "Relative strength counts as unknown before it", ge=1, le=120
    )
    entry_start: str = param("09:31", "New York time", "First moment of an entry", pattern=TIME_OF_DAY)
    entry_end: str = param("11:30", "New York time", "End of entries (late)", pattern=TIME_OF_DAY)
    flat_at: str = param("11:30", "New York time", "Forced exit (late)", pattern=TIME_OF_DAY)
    zero_dte_on_half_days: bool = param(False, "flag", "Whether options expiring on a half-day may be bought on it")
    abs_delta_low: float = param(0.30, "absolute delta", "Least |delta| of the option", ge=0.05, le=0.95)
    abs_delta_high: float = param(0.50, "absolute delta", "Greatest |delta| of the option", ge=0.05, le=0.95)
    max_spread_usd: float = param(0.10, "USD per share", "Widest spread of the option", ge=0.01, le=5.0)
    max_spread_of_mid: float = param(0.04, "fraction of the mid", "Widest spread of the option", ge=0.001, le=0.5)
    max_quote_age_s: float = param(10.0, "seconds", "Oldest option quote", ge=0.5, le=120.0)
    max_bar_age_s: float = param(75.0, "seconds", "Oldest end of the last bar at a decision", ge=1.0, le=300.0)
    scale_out_share: float = param(
        0.50, "fraction of contracts", "What is sold at the first target, rounded down", ge=0.05, le=0.95
    )
    scale_out_at_fraction: float = param(0.25, "fraction of premium", "First target", ge=0.05, le=10.0)
    target_fraction: float = param(0.50, "fraction of premium", "Profit target of the rest", ge=0.05, le=10.0)
    stop_fraction: float = param(0.50, "fraction of premium", "Loss at which the trade is stopped", ge=0.05, le=1.0)
    breakeven_after_fraction: float = param(
        0.25, "fraction of premium", "Profit after which the stop stands at the entry price", ge=0.05, le=10.0
    )
    max_trades_per_session: int = param(4, "trades", "Most trades in a session", ge=1, le=50)
    max_losses_in_a_row: int = param(2, "trades", "Losing trades in a row that end its session", ge=1, le=50)
    max_open_trades: int = param(3, "trades", "Most trades open or being entered at once", ge=1, le=50)

    @field_validator("peers")
    @classmethod
    def _pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        pairs = [tuple(text.split(":")) for text in value]
        if any(len(p) != 2 or p[0] == p[1] or not all(is_equity(s) for s in p) for p in pairs):
            raise ValueError("peers must be pairs of different stock symbols, such as SPY:QQQ")
        if len({pair[0] for pair in pairs}) != len(pairs):
            raise ValueError("peers must give each symbol one peer")
        return value

    @model_validator(mode="after")
    def _order(self) -> Self:
        alone = [symbol for symbol in self.universe if symbol not in self.peer_of]
        if alone:
            raise ValueError(f"peers must have a pair for {', '.join(alone)}")
        start, end, flat = (minutes_of(t) for t in (self.entry_start, self.entry_end, self.flat_at))
        if not minutes_of("09:30") <= start < end <= flat <= minutes_of("16:00"):
            raise ValueError("times must be in order: 09:30, entry_start, entry_end, flat_at, 16:00")
        if not self.ema_fast < self.ema_slow:
            raise ValueError("ema_fast must be below ema_slow")
        if not self.abs_delta_low < self.abs_delta_high:
            raise ValueError("abs_delta_low must be below abs_delta_high")
        if not self.scale_out_at_fraction < self.target_fraction:
            raise ValueError("scale_out_at_fraction must be below target_fraction")
        if not self.strength_from_minute <= self.strength_minutes:
            raise ValueError("strength_from_minute must not be above strength_minutes")
        return self

    @property
    def peer_of(self) -> dict[str, str]:
        """Each symbol's peer."""
        return dict(text.split(":") for text in self.peers)


@dataclass(slots=True)
class _Symbol:
    """What is remembered of one underlying."""

    cross: Cross
    rsi: Rsi
    same_minute: SameMinuteVolume
    trailing: TrailingVolume
    vwap: SessionVwap = field(default_factory=SessionVwap)
    returns: SessionReturns = field(default_factory=SessionReturns)
    bars: int = 0
    last: Bar | None = None


@dataclass(slots=True, frozen=True)
class _View:
    """The known inputs of one evaluation, of a minute of the session; ``strength`` is the return over the peer's."""

    minute: int
    close: float
    crossed: int
    rsi: float
    volume: float
    vwap: float
    strength: float


class MomentumScalping(SingleOption):
    """The strategy; see the module's docstring and ``Params``."""

    name = "momentum_scalping"
    Params = MomentumScalpingParams
    helpers = ("oracle.strategies.positioning",)
    params: MomentumScalpingParams

    def __init__(self, params: StrategyParams, code_hash: str) -> None:
        super().__init__(params, code_hash)
        if not isinstance(params, MomentumScalpingParams):
            raise InvariantError("momentum_scalping: wrong parameters")
        self.params = p = params
        self._peer_of = {symbol: p.peer_of[symbol] for symbol in p.universe}
        self._universe = tuple(dict.fromkeys((*p.universe, *self._peer_of.values())))
        self._symbols = {
            s: _Symbol(
                Cross(Ema(p.ema_fast), Ema(p.ema_slow)), Rsi(p.rsi_length), SameMinuteVolume(p.volume_sessions),
                TrailingVolume(p.volume_bars),
            )
            for s in self._universe
        }  # fmt: skip
        # Intents of this session: a bar's cross is entered once, by itself or by an operator.
        self._sent: set[str] = set()

    @property
    def universe(self) -> tuple[str, ...]:
        """The underlyings, then peers that are only watched."""
        return self._universe

    @property
    def warmup_sessions(self) -> int:
        """Sessions of bars before today: two more than the volume baseline, for early closes without afternoons."""
        if self.params.volume_mode == "same_minute":
            return self.params.volume_sessions + 2
        return 1 + max(self.params.warmup_bars, self.params.volume_bars) // 200

    @property
    def max_expiry_sessions(self) -> int:
        """Today's options only."""
        return 0

    @property
    def caps(self) -> StrategyCaps:
        """Trades of a session, losses in a row, trades at once."""
        p = self.params
        return StrategyCaps(p.max_trades_per_session, p.max_losses_in_a_row, p.max_open_trades)

    def on_session_open(self, message: SessionOpened, context: Context) -> Sequence[Message]:
        """Forget earlier sessions' entries."""
        super().on_session_open(message, context)
        day = f"{self.name}:{message.date}:"
        self._sent = {intent_id for intent_id in self._sent if intent_id.startswith(day)}
        return ()

    def on_intent_sent(self, intent_id: str) -> None:
        """Remember that this bar's cross is used."""
        self._sent.add(intent_id)

    def on_warmup_bar(self, bar: Bar, context: Context) -> None:
        """Take a bar of regular hours into the indicators, each minute once."""
        state = self._symbols[bar.symbol]
        session = context.table.open_at(bar.start_ns)
        if session is None or (state.last is not None and bar.start_ns <= state.last.start_ns):
            return
        minute = session.minute_of(bar.start_ns)
        state.cross.update(bar.close)
        state.rsi.update(bar.close)
        state.same_minute.update(minute, bar.volume)
        state.trailing.update(bar.volume)
        state.vwap.update(session.date, bar.high, bar.low, bar.close, bar.volume)
        state.returns.update(session.date, minute, bar.open, bar.close)
        state.bars += 1
        state.last = bar

    def on_bar(self, bar: Bar, context: Context) -> Sequence[Message]:
        """Take a live bar, then judge every symbol whose minute it completes: its own, and those it is the peer of.

        The two bars of a minute come one after the other, so the first of them waits for the second; when the second
        has not come by the next bar of the first, that one says so.
        """
        before = self._symbols[bar.symbol].last
        if before is not None and bar.start_ns <= before.start_ns:
            return ()
        self.on_warmup_bar(bar, context)
        out: list[Message] = []
        for symbol, peer in self._peer_of.items():
            if bar.symbol not in (symbol, peer):
                continue
            last, other = self._symbols[symbol].last, self._symbols[peer].last
            together = last is not None and other is not None and last.start_ns == other.start_ns
            overdue = (
                bar.symbol == symbol and before is not None and (other is None or other.start_ns < before.start_ns)
            )
            if overdue or (together and last is not None and not last.backfilled):
                verdict = self.evaluate(symbol, context)
                if isinstance(verdict, Intent):
                    self.on_intent_sent(verdict.intent_id)
                out += self._news(symbol, verdict)
        return out

    def evaluate(self, symbol: str, context: Context) -> Verdict | None:
        """Judge the last bar of a symbol; None outside regular trading hours, and for peers that are only watched."""
        session, at_ns = context.session, context.at_ns
        if session is None or not session.is_open(at_ns) or symbol not in self._peer_of:
            return None
        facts: Facts = {"date": session.date, "peer": self._peer_of[symbol]}
        if at_ns < session.early(self.params.entry_start):
            return self.no_signal(symbol, "before_entry_window", facts)
        if at_ns >= session.late(self.params.entry_end):
            return self.no_signal(symbol, "after_entry_window", facts)
        seen = self._see(symbol, session, at_ns, facts)
        if isinstance(seen, str):
            return self.no_data(symbol, seen, facts)
        filtered = judge(self.params, symbol, seen.crossed, seen.close, context, facts)
        refusal = self._judge(seen, facts)
        if refusal is None and filtered.reason is not None:
            return (self.no_data if filtered.missing else self.no_signal)(symbol, filtered.reason, facts)
        if refusal is not None:
            return self.no_signal(symbol, refusal, facts)
        if self._intent_id(symbol, session, seen) in self._sent:
            return self.no_signal(symbol, "entry_used", facts)
        return self._structure(symbol, session, seen, confidence=filtered.confidence, context=context, facts=facts)

    def _intent_id(self, symbol: str, session: Session, seen: _View) -> str:
        """By session, symbol, direction and the minute of the crossing bar: the same bar gives the same id."""
        return f"{self.name}:{session.date}:{symbol}:{_WORDS[seen.crossed]}-{seen.minute}"

    def _see(self, symbol: str, session: Session, at_ns: int, facts: Facts) -> _View | str:
        """The inputs, all of them known, or the name of the first that is not; facts tell them all."""
        state, peer, p = self._symbols[symbol], self._symbols[self._peer_of[symbol]], self.params
        warm = state.bars >= p.warmup_bars
        crossed = state.cross.value if warm else None
        rsi = state.rsi.value if warm else None
        volume = (state.same_minute if p.volume_mode == "same_minute" else state.trailing).value
        last = state.last
        minute = -1 if last is None else session.minute_of(last.start_ns)
        own_return, peer_return = self._returns(state, session, minute), self._returns(peer, session, minute)
        facts |= {
            "close": None if last is None else last.close,
            "crossed": crossed,
            "ema_fast": state.cross.fast,
            "ema_slow": state.cross.slow,
            "rsi": rsi,
            "relative_volume": volume,
            "vwap": state.vwap.value,
            "own_return": own_return,
            "peer_return": peer_return,
            "bars": state.bars,
        }
        if last is None or at_ns - (last.start_ns + MINUTE_NS) > p.max_bar_age_s * NS:
            return "fresh_bar"
        if crossed is None:
            return "ema"
        if rsi is None:
            return "rsi"
        if volume is None:
            return "relative_volume"
        if state.vwap.value is None:
            return "vwap"
        if peer.last is None or peer.last.start_ns != last.start_ns:
            return "peer_bar"
        if own_return is None or peer_return is None:
            return "relative_strength"
        return _View(minute, last.close, crossed, rsi, volume, state.vwap.value, own_return - peer_return)

    def _returns(self, state: _Symbol, session: Session, minute: int) -> float | None:
        """A symbol's return to the end of a minute: from the open at first, later over the span."""
        ended = minute + 1
        if ended < self.params.strength_from_minute:
            return None
        return state.returns.over(session.date, minute, min(self.params.strength_minutes, ended))

    def _judge(self, seen: _View, facts: Facts) -> str | None:
        """The first condition that does not hold, or None."""
        p, direction = self.params, seen.crossed
        rsi_holds = seen.rsi > p.rsi_long_above if direction > 0 else seen.rsi < p.rsi_short_below
        volume_holds = seen.volume >= p.min_relative_volume
        vwap_holds = direction * (seen.close - seen.vwap) > 0
        strength_holds = direction * seen.strength > 0
        facts |= {
            "direction": direction,
            "strength": seen.strength,
            "rsi_holds": rsi_holds,
            "volume_holds": volume_holds,
            "vwap_holds": vwap_holds,
            "strength_holds": strength_holds,
        }
        if direction == 0:
            return "no_cross"
        if not rsi_holds:
            return "rsi_disagrees"
        if not volume_holds:
            return "volume_too_low"
        if not vwap_holds:
            return "wrong_side_of_vwap"
        if not strength_holds:
            return "peer_is_stronger" if direction > 0 else "peer_is_weaker"
        return None

    def _structure(
        self, symbol: str, session: Session, seen: _View, *, confidence: float, context: Context, facts: Facts
    ) -> Verdict:
        """Find the option and write the intent, or say why there is none."""
        p, direction = self.params, seen.crossed
        if session.is_half_day and not p.zero_dte_on_half_days:
            return self.no_signal(symbol, "no_expiry_allowed", facts)
        request = DeltaRequest(
            underlying=symbol, expiries=(session.date,), is_call=direction > 0, abs_delta_low=p.abs_delta_low,
            abs_delta_high=p.abs_delta_high, max_spread_usd=p.max_spread_usd, max_spread_of_mid=p.max_spread_of_mid,
            max_age_s=p.max_quote_age_s,
        )  # fmt: skip
        found = context.chains.select(request, context.at_ns)
        if not isinstance(found, Selected):
            facts |= {f"option_{name}": value for name, value in found.facts.items()}
            make = self.no_data if found.reason in _MISSING else self.no_signal
            return make(symbol, found.reason, facts)
        facts |= {"spot": found.spot, "forward": found.forward, "forward_source": found.forward_source}
        return Intent(
            intent_id=self._intent_id(symbol, session, seen),
            strategy=self.name,
            strategy_hash=self.code_hash,
            underlying=symbol,
            legs=(bought(found),),
            exit_plan=self._exit_plan(session, direction),
            confidence=confidence,
            confidence_needed=p.min_confidence,
            reason=_reason(symbol, self._peer_of[symbol], seen),
            facts=rounded(facts),
            valid_until_ns=session.late(p.entry_end),
        )

    def _exit_plan(self, session: Session, direction: int) -> ExitPlan:
        p = self.params
        return ExitPlan(
            target_fraction=p.target_fraction, stop_fraction=p.stop_fraction,
            breakeven_after_fraction=p.breakeven_after_fraction, underlying_target=None, underlying_stop=None,
            direction=direction, flat_ns=session.late(p.flat_at), scale_out_share=p.scale_out_share,
            scale_out_at_fraction=p.scale_out_at_fraction,
        )  # fmt: skip


def _reason(symbol: str, peer: str, seen: _View) -> str:
    side, strength = ("above", "ahead of") if seen.crossed > 0 else ("below", "behind")
    return (
        f"{symbol} crossed {_WORDS[seen.crossed]} at {seen.close:.2f}, {side} its VWAP {seen.vwap:.2f} and "
        f"{abs(seen.strength):.2%} {strength} {peer}, on {seen.volume:.2f}x volume with RSI {seen.rsi:.1f}"
    )

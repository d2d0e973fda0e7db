"""A strategy in one file: buy a call when a fast average of closes crosses above a slow one, leave after some minutes.

Inputs: one-minute bars of each underlying; its option chain, asked for only when the next close could cross. Output:
one long call a cross, or why not. Run it: ``python examples/ema_cross.py backtest --strategy ema_cross --data ...``.
It shows how a strategy is written; nothing here says that it earns money.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from oracle.core.marketdata import Bar
from oracle.core.message import Message
from oracle.core.messages import ExitPlan, Intent, OptionsWanted
from oracle.core.ports import Context, DeltaRequest, Selected
from oracle.core.sessions import MINUTE_NS, Session
from oracle.strategies import registry
from oracle.strategies.base import Facts, Strategy, StrategyParams, Verdict, bought, param, rounded


class EmaCrossParams(StrategyParams):
    """What can be set."""

    universe: tuple[str, ...] = param(
        ("SPY",), "symbols", "Underlyings to watch and trade", min_length=1, max_length=20
    )
    fast: int = param(390, "bars", "Length of the fast average", ge=2, le=10_000)
    slow: int = param(1950, "bars", "Length of the slow average", ge=3, le=50_000)
    hold_minutes: int = param(10, "minutes", "Forced exit after the entry", ge=1, le=390)
    stop_fraction: float = param(0.5, "fraction of premium", "Loss at which the trade is stopped", ge=0.05, le=1.0)
    reach: float = param(0.003, "fraction of the price", "Next move that is thought possible", ge=0.0, le=0.1)
    expiry_sessions: int = param(1, "sessions", "How far the option's expiry lies ahead", ge=0, le=10)


@dataclass(slots=True)
class _State:
    """The averages of one underlying, and what was said last."""

    fast: float = 0.0
    slow: float = 0.0
    bars: int = 0
    above: bool = False
    crossed: bool = False
    wants: bool = False
    last_start_ns: int = 0


class EmaCross(Strategy):
    """The strategy; see the module's docstring and ``Params``."""

    name = "ema_cross"
    Params = EmaCrossParams
    options_on_demand = True

    def __init__(self, params: StrategyParams, code_hash: str) -> None:
        super().__init__(params, code_hash)
        assert isinstance(params, EmaCrossParams)
        self.params = params
        self._fast_share, self._slow_share = 2.0 / (params.fast + 1), 2.0 / (params.slow + 1)
        self._universe, self._length = params.universe, params.slow
        self._states = {symbol: _State() for symbol in params.universe}
        self._sent: set[str] = set()

    @property
    def universe(self) -> tuple[str, ...]:
        """The underlyings."""
        return self._universe

    @property
    def warmup_sessions(self) -> int:
        """Sessions of bars that fill the slow average once."""
        return -(-self.params.slow // 390)

    @property
    def max_expiry_sessions(self) -> int:
        """Sessions ahead of the option's expiry."""
        return self.params.expiry_sessions

    def on_intent_sent(self, intent_id: str) -> None:
        """Remember it: one intent a cross."""
        self._sent.add(intent_id)

    def on_warmup_bar(self, bar: Bar, context: Context) -> None:  # noqa: ARG002 - the base's signature
        """Take a close into both averages."""
        state, close = self._states[bar.symbol], bar.close
        fast = state.fast = close if state.bars == 0 else state.fast + self._fast_share * (close - state.fast)
        slow = state.slow = close if state.bars == 0 else state.slow + self._slow_share * (close - state.slow)
        state.bars += 1
        above = fast > slow
        state.crossed = above and not state.above and state.bars > self._length
        state.above = above
        state.last_start_ns = bar.start_ns

    def on_bar(self, bar: Bar, context: Context) -> Sequence[Message]:
        """Take a live bar; ask for option quotes when the next one could cross; enter when it did."""
        self.on_warmup_bar(bar, context)
        state = self._states[bar.symbol]
        wants = not state.above and state.bars >= self._length and self._could_cross(state, bar.close)
        if wants is state.wants and not state.crossed:
            return ()
        out: list[Message] = []
        if state.crossed:
            verdict = self.evaluate(bar.symbol, context)
            if isinstance(verdict, Intent):
                self.on_intent_sent(verdict.intent_id)
            out.extend(self._news(bar.symbol, verdict))
        if wants is not state.wants:
            state.wants = wants
            out.append(OptionsWanted(self.name, bar.symbol, wants))
        return out

    def _could_cross(self, state: _State, close: float) -> bool:
        """Whether a next close within reach would lift the fast average above the slow one."""
        fast, slow = self._fast_share, self._slow_share
        needed = (state.slow * (1.0 - slow) - state.fast * (1.0 - fast)) / (fast - slow)
        return needed <= close * (1.0 + self.params.reach)

    def evaluate(self, symbol: str, context: Context) -> Verdict | None:
        """Judge the last bar of a symbol; None outside regular trading hours."""
        session, state, at_ns = context.session, self._states[symbol], context.at_ns
        if session is None or not session.is_open(at_ns):
            return None
        facts: Facts = {"fast": state.fast, "slow": state.slow}
        intent_id = f"{self.name}:{session.date}:{symbol}:{session.minute_of(state.last_start_ns)}"
        if not state.crossed or intent_id in self._sent:
            return self.no_signal(symbol, "no_cross", facts)
        flat_ns = at_ns + self.params.hold_minutes * MINUTE_NS
        if flat_ns >= session.late("15:55"):
            return self.no_signal(symbol, "too_late", facts)
        found = context.chains.select(self._request(symbol, session, context), at_ns)
        if not isinstance(found, Selected):
            return self.no_data(symbol, found.reason, {**facts, **found.facts})
        return Intent(
            intent_id=intent_id,
            strategy=self.name,
            strategy_hash=self.code_hash,
            underlying=symbol,
            legs=(bought(found),),
            exit_plan=ExitPlan(None, self.params.stop_fraction, None, None, None, 1, flat_ns),
            confidence=1.0,
            confidence_needed=0.5,
            reason=f"{symbol}: average of {self.params.fast} bars crossed above that of {self.params.slow}",
            facts=rounded(facts),
            valid_until_ns=flat_ns,
        )

    def _request(self, symbol: str, session: Session, context: Context) -> DeltaRequest:
        day = session
        for _ in range(self.params.expiry_sessions):
            day = context.table.after(day.date) or day
        return DeltaRequest(
            underlying=symbol, expiries=(day.date,), is_call=True, abs_delta_low=0.25, abs_delta_high=0.75,
            max_spread_usd=0.20, max_spread_of_mid=0.10, max_age_s=75.0,
        )  # fmt: skip


def main() -> None:
    """Run any command of the program with this strategy added to those built in."""
    from oracle.__main__ import main as oracle  # noqa: PLC0415 - the command line is not needed to import the strategy

    registry.BUILT_IN[EmaCross.name] = "ema_cross:EmaCross"
    oracle()


if __name__ == "__main__":
    main()

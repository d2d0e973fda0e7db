"""Run strategies on the bus, and keep one that raises from taking the process with it.

Inputs: Bar, SessionOpened, SessionClosed, LatchChanged, an operator's request. Outputs: what strategies say, and
StrategyFailed once for one that raised: it is halted until an operator clears its latch. One that is switched off
stays warm and says so. Risk goes on working the exits of both.
"""

from collections.abc import Iterable, Sequence

from oracle.core.bus import HandlerTable
from oracle.core.control import Evaluate, Trade, action_of
from oracle.core.marketdata import Bar
from oracle.core.message import Message
from oracle.core.messages import (
    STRATEGY_DISABLED_LATCH,
    STRATEGY_FAILED_LATCH,
    Intent,
    LatchChanged,
    NoData,
    NoSignal,
    OperatorAnswered,
    OperatorRequested,
    Reevaluated,
    SessionClosed,
    SessionOpened,
    StrategyFailed,
    TradeEvaluated,
)
from oracle.core.ports import Context
from oracle.strategies.base import Strategy, Verdict

OUTSIDE = "outside_session"
WATCHED_ONLY = "watched_only"


class StrategyRunner:
    """All configured strategies, in the order given."""

    __slots__ = ("_disabled", "_failed", "_strategies")

    def __init__(self, strategies: Sequence[Strategy]) -> None:
        self._strategies = tuple(strategies)
        self._failed: set[str] = set()
        self._disabled: set[str] = set()

    def restore(self, failed: Iterable[str], disabled: Iterable[str] = ()) -> None:
        """Keep strategies halted or switched off whose latch is still set: names, without those that were cleared."""
        self._failed.update(failed)
        self._disabled.update(disabled)

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (Bar, self.on_message),
            (SessionOpened, self.on_message),
            (SessionClosed, self.on_message),
            (LatchChanged, self.on_latch),
            (OperatorRequested, self.on_operator),
        )

    def on_latch(self, change: LatchChanged, _context: Context) -> Iterable[Message]:
        """A cleared latch lets its strategy run again; a switch takes effect at once."""
        if not change.active and change.latch.startswith(STRATEGY_FAILED_LATCH):
            self._failed.discard(change.latch.removeprefix(STRATEGY_FAILED_LATCH))
        elif change.latch.startswith(STRATEGY_DISABLED_LATCH):
            switch = self._disabled.add if change.active else self._disabled.discard
            switch(change.latch.removeprefix(STRATEGY_DISABLED_LATCH))
        return ()

    def on_message(self, message: Message, context: Context) -> Iterable[Message]:
        """Offer a message to every strategy that has not failed."""
        out: list[Message] = []
        for strategy in self._strategies:
            if self._failed and strategy.name in self._failed:
                continue
            try:
                # All or nothing: what a strategy said before it raised is not to be trusted either.
                if self._disabled and isinstance(message, Bar) and strategy.name in self._disabled:
                    said = tuple(strategy.handle_disabled(message, context))
                else:
                    said = tuple(strategy.handle(message, context))
                if isinstance(strategy, Strategy):
                    # Each evaluation leaves what it saw, also where its reason stays the same.
                    said = (*said, *(Reevaluated(verdict) for verdict in strategy.take_untold()))
            except Exception as error:
                self._failed.add(strategy.name)
                if isinstance(strategy, Strategy):
                    strategy.take_untold()
                said = (StrategyFailed(strategy.name, f"{type(error).__name__}: {error}"),)
            if said:
                out.extend(said)
        return out

    # ------------------------------------------------------------------------------------------------ an operator

    def on_operator(self, request: OperatorRequested, context: Context) -> Iterable[Message]:
        """Say what a strategy would do now, or do it: only these two requests are the runner's."""
        ask = request.ask
        if not isinstance(ask, Evaluate | Trade):
            return ()
        strategy = next((s for s in self._strategies if s.name == ask.strategy), None)
        if strategy is None:
            known = ", ".join(s.name for s in self._strategies)
            return (_no(request, f"no strategy {ask.strategy} is configured; there are: {known}", context),)
        if ask.symbol is not None and ask.symbol not in strategy.universe:
            text = f"{ask.strategy} does not trade {ask.symbol}; it watches: {', '.join(strategy.universe)}"
            return (_no(request, text, context),)
        if strategy.name in self._failed:
            text = f"{ask.strategy} has failed; clear it first: oracle resume --latch strategy_failed:{ask.strategy}"
            return (_no(request, text, context),)
        symbols = strategy.universe if ask.symbol is None else (ask.symbol,)
        try:
            structure = isinstance(ask, Evaluate) and ask.structure
            verdicts = tuple(_verdict(strategy, symbol, context, structure=structure) for symbol in symbols)
        except Exception as error:
            # Looking must not halt anything: the strategy's own next bar decides whether it has failed.
            return (_no(request, f"{ask.strategy} raised {type(error).__name__}: {error}", context),)
        if isinstance(ask, Evaluate):
            return (TradeEvaluated(request, verdicts, sent=False),)
        return self._send(request, ask, strategy, verdicts[0], context)

    def _send(
        self, request: OperatorRequested, ask: Trade, strategy: Strategy, verdict: Verdict, context: Context
    ) -> Iterable[Message]:
        """Let the intent go the way of all intents, if it is still what a person has said yes to."""
        if not isinstance(verdict, Intent):
            reason = verdict.reason if isinstance(verdict, NoSignal) else f"no data: {verdict.what}"
            return (_no(request, f"not sent: {ask.strategy} would not trade {ask.symbol} now ({reason})", context),)
        contract = verdict.symbol
        if contract != ask.contract:
            text = f"not sent: {ask.strategy} now chooses {contract} instead of {ask.contract}; look again"
            return (_no(request, text, context),)
        strategy.on_intent_sent(verdict.intent_id)
        return verdict, TradeEvaluated(request, (verdict,), sent=True)


def _verdict(
    strategy: Strategy, symbol: str, context: Context, *, structure: bool = False
) -> Intent | NoSignal | NoData:
    verdict = (strategy.structure_now if structure else strategy.evaluate)(symbol, context)
    if verdict is not None:
        return verdict
    # Strategies have nothing to say outside the session, and of symbols that they only compare others with.
    return strategy.no_signal(symbol, WATCHED_ONLY if context.in_session else OUTSIDE, {})


def _no(request: OperatorRequested, text: str, context: Context) -> OperatorAnswered:
    action = action_of(request.ask)
    return OperatorAnswered(request.request_id, action, request.who, request.why, False, True, text, {}, context.at_ns)

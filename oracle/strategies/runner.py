"""Run strategies on the bus, and keep one that raises from taking the process with it.

Inputs: Bar, SessionOpened, SessionClosed, LatchChanged. Outputs: what strategies say, and StrategyFailed once for one
that raised: it is halted until an operator clears its latch; risk goes on working its exits.
"""

from collections.abc import Iterable, Sequence

from oracle.core.bus import HandlerTable
from oracle.core.messages import (
    STRATEGY_FAILED_LATCH,
    Bar,
    LatchChanged,
    Message,
    SessionClosed,
    SessionOpened,
    StrategyFailed,
)
from oracle.core.ports import Context
from oracle.strategies.base import Strategy


class StrategyRunner:
    """All configured strategies, in the order given."""

    __slots__ = ("_failed", "_strategies")

    def __init__(self, strategies: Sequence[Strategy]) -> None:
        self._strategies = tuple(strategies)
        self._failed: set[str] = set()

    def restore(self, failed: Iterable[str]) -> None:
        """Keep strategies halted whose latch is still set: names, without those that an operator has resumed."""
        self._failed.update(failed)

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (Bar, self.on_message),
            (SessionOpened, self.on_message),
            (SessionClosed, self.on_message),
            (LatchChanged, self.on_latch),
        )

    def on_latch(self, change: LatchChanged, _context: Context) -> Iterable[Message]:
        """A cleared latch lets its strategy run again."""
        if not change.active and change.latch.startswith(STRATEGY_FAILED_LATCH):
            self._failed.discard(change.latch.removeprefix(STRATEGY_FAILED_LATCH))
        return ()

    def on_message(self, message: Message, context: Context) -> Iterable[Message]:
        """Offer a message to every strategy that has not failed."""
        out: list[Message] = []
        for strategy in self._strategies:
            if strategy.name in self._failed:
                continue
            try:
                # All or nothing: what a strategy said before it raised is not to be trusted either.
                said = tuple(strategy.handle(message, context))
            except Exception as error:
                self._failed.add(strategy.name)
                said = (StrategyFailed(strategy.name, f"{type(error).__name__}: {error}"),)
            out.extend(said)
        return out

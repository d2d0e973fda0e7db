"""Run strategies on the bus, and keep one that raises from taking the process with it.

Inputs: Bar, SessionOpened, SessionClosed. Outputs: what strategies say, and StrategyFailed once for one that raised:
it is halted until an operator looks; risk goes on working its exits.
"""

from collections.abc import Iterable, Sequence

from oracle.core.bus import HandlerTable
from oracle.core.messages import Bar, Message, SessionClosed, SessionOpened, StrategyFailed
from oracle.core.ports import Context
from oracle.strategies.base import Strategy


class StrategyRunner:
    """All configured strategies, in the order given."""

    __slots__ = ("_failed", "_strategies")

    def __init__(self, strategies: Sequence[Strategy]) -> None:
        self._strategies = tuple(strategies)
        self._failed: set[str] = set()

    def restore(self, failed: Iterable[str]) -> None:
        """Keep strategies halted that failed before a restart."""
        self._failed.update(failed)

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return ((Bar, self.on_message), (SessionOpened, self.on_message), (SessionClosed, self.on_message))

    def on_message(self, message: Message, context: Context) -> Iterable[Message]:
        """Offer a message to every strategy that has not failed."""
        out: list[Message] = []
        for strategy in self._strategies:
            if strategy.name in self._failed:
                continue
            try:
                out.extend(strategy.handle(message, context))
            except Exception as error:
                self._failed.add(strategy.name)
                out.append(StrategyFailed(strategy.name, f"{type(error).__name__}: {error}"))
        return out

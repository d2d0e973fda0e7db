"""The typed event bus: one message in, everything it causes out, in a repeatable order.

Handlers are subscribed by message class and called in order of subscription; what they return is dispatched
first-in-first-out after the current message. A handler that raises ends the turn: only strategies are shielded,
by their own runner.
"""

from collections.abc import Callable, Iterable
from typing import Any

from oracle.core.errors import InvariantError
from oracle.core.message import Message
from oracle.core.ports import Context

AnyHandler = Callable[[Any, Context], Iterable[Message]]
HandlerTable = tuple[tuple[type[Message], AnyHandler], ...]

# A turn that causes more than this is a loop between actors, not a market.
MAX_MESSAGES_PER_TURN = 10_000


class Bus:
    """Subscriptions by class and one synchronous dispatch."""

    __slots__ = ("_handlers",)

    def __init__(self) -> None:
        self._handlers: dict[type[Message], list[AnyHandler]] = {}

    def subscribe(self, table: HandlerTable) -> None:
        """Add an actor's handlers; earlier actors hear a message first."""
        for kind, handler in table:
            self._handlers.setdefault(kind, []).append(handler)

    def dispatch(self, message: Message, context: Callable[[], Context]) -> list[Message]:
        """Deliver a message and all that follows from it.

        Args:
            message: what happened.
            context: makes the view.

        Returns:
            Every message that handlers returned, in the order of dispatch (the given one is not among them).

        Raises:
            InvariantError: the turn does not end.
        """
        return self.deliver(message, context())

    def deliver(self, message: Message, view: Context) -> list[Message]:
        """Do what ``dispatch`` does with a view that is one object for the whole turn."""
        caused: list[Message] = []
        find = self._handlers.get
        for handler in find(type(message), ()):
            new = handler(message, view)
            if new:
                caused.extend(new)
        # What was caused is the queue: dispatched first in, first out.
        for current in caused:
            if len(caused) > MAX_MESSAGES_PER_TURN:
                kind = type(message).__name__
                raise InvariantError(f"turn: {kind} caused over {MAX_MESSAGES_PER_TURN} messages")
            for handler in find(type(current), ()):
                new = handler(current, view)
                if new:
                    caused.extend(new)
        return caused

"""Names of decisions and orders: repeatable, unique, and readable by a person.

Inputs: the store's token, a word per strategy, the next order number. Outputs: decision ids and order ids.
Invariant: no order id is ever given twice by one store, because the number never goes back.
"""

from collections.abc import Mapping

from oracle.core.errors import ProtocolError
from oracle.core.messages import Intent
from oracle.core.sessions import Session


class Names:
    """Gives out ids. An order id is token, session date, the strategy's word and the number."""

    __slots__ = ("_abbreviations", "_last_decision", "_sequence", "_token")

    def __init__(self, token: str, abbreviations: Mapping[str, str], next_sequence: int) -> None:
        self._token = token
        self._abbreviations = abbreviations
        self._sequence = next_sequence
        self._last_decision = (0, 0)

    def decision(self, intent: Intent, at_ns: int) -> str:
        """Name a decision; unique even when one intent is offered twice in one turn."""
        last_ns, count = self._last_decision
        count = count + 1 if last_ns == at_ns else 0
        self._last_decision = (at_ns, count)
        return f"{intent.intent_id}@{at_ns}" + (f".{count}" if count else "")

    def order(self, strategy: str, session: Session | None) -> str:
        """Name an entry.

        Raises:
            ProtocolError: the strategy was wired without a word for order ids.
        """
        word = self._abbreviations.get(strategy)
        if word is None:
            raise ProtocolError(f"strategy {strategy} has no abbreviation for order ids")
        return self._next(word, session)

    def exit_order(self, trade_id: str, session: Session | None) -> str:
        """Name an exit with its trade's word: the strategy itself may be gone from the configuration by now."""
        return self._next(trade_id.split("-")[-2], session)

    def _next(self, word: str, session: Session | None) -> str:
        if session is None:
            raise ProtocolError("an order is made past the end of the session table")
        order_id = f"{self._token}-{session.date.replace('-', '')}-{word}-{self._sequence:06d}"
        self._sequence += 1
        return order_id

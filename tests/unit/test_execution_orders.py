"""The life-cycle table: the ways in and out, the odd rows, and what happens to pairs that cannot be."""

import pytest

from oracle.core.errors import ProtocolError
from oracle.core.vocabulary import BrokerEvent, OrderState
from oracle.execution.orders import LIFE, OURS, TERMINAL, OrderEvent, advance

S, E = OrderState, OrderEvent


@pytest.mark.parametrize(
    ("state", "event", "after"),
    [
        (S.SENT, E.FILL, S.FILLED),
        (S.CANCEL_SENT, E.FILL, S.FILLED),
        (S.CANCELED, E.FILL, S.FILLED),
        (S.FILLED, E.NEW, S.FILLED),
        (S.ACCEPTED, E.REJECTED, S.REJECTED),
        (S.FILLED, E.CANCELED, S.UNKNOWN),
        (S.REJECTED, E.NEW, S.UNKNOWN),
        (S.ACCEPTED, E.REPLACED, S.CANCELED),
        (S.CANCEL_SENT, E.REPLACED, S.CANCELED),
        (S.FILLED, E.REPLACED, S.UNKNOWN),
        (S.UNKNOWN, E.CANCEL, S.UNKNOWN),
        (S.CANCELED, E.UNKNOWN_EVENT, S.UNKNOWN),
    ],
)
def test_odd_rows(state: OrderState, event: OrderEvent, after: OrderState) -> None:
    assert advance(state, event) is after


@pytest.mark.parametrize("event", sorted(OURS))
def test_what_we_cause_wrongly_raises(event: OrderEvent) -> None:
    with pytest.raises(ProtocolError, match=event.value):
        advance(OrderState.FILLED, event)


def test_every_word_of_the_broker_is_an_event_and_every_state_can_be_left() -> None:
    assert {event.value for event in BrokerEvent} <= {event.value for event in OrderEvent}
    for state in OrderState:
        assert any(row[0] is state for row in LIFE)
    for state in TERMINAL:
        assert all(after in TERMINAL for (before, _), after in LIFE.items() if before is state)

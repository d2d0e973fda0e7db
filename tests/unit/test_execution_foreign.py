"""Orders of others: cancelled on a person's request, and on nothing else."""

from decimal import Decimal

from oracle.core.control import AdoptOrder, Ask, Halt
from oracle.core.message import Message
from oracle.core.messages import OperatorRequested, SendCancel, SendOrder
from oracle.core.reports import BrokerOrder
from oracle.core.vocabulary import Side
from oracle.execution.foreign import ForeignOrders
from tests.unit.builders import CALL, House, account, broker_order

CONTEXT = House(ready=False).engine.context()


def order(client_order_id: str, broker_order_id: str) -> BrokerOrder:
    sent = SendOrder(client_order_id, CALL, Side.BUY, True, 1, Decimal(1), False)
    return broker_order(sent, broker_order_id=broker_order_id)


def ask(actor: ForeignOrders, what: Ask) -> list[Message]:
    return list(actor.on_operator(OperatorRequested("r1", "alice", "why", what), CONTEXT))


def test_only_an_open_order_of_others_is_cancelled() -> None:
    actor = ForeignOrders("tok")
    assert ask(actor, AdoptOrder("theirs")) == []
    open_orders = (order("theirs", "b1"), order("tok-20260105-bo-000001-1", "b2"))
    assert list(actor.on_report(account(open_orders=open_orders), CONTEXT)) == []
    assert ask(actor, AdoptOrder("theirs")) == [SendCancel("theirs", "b1")]
    assert ask(actor, AdoptOrder("tok-20260105-bo-000001-1")) == []
    assert ask(actor, Halt()) == []


def test_a_failed_read_forgets_nothing_and_a_good_one_forgets_what_is_gone() -> None:
    actor = ForeignOrders("tok")
    actor.on_report(account(open_orders=(order("theirs", "b1"),)), CONTEXT)
    actor.on_report(account(cash=None, text="HTTP 504"), CONTEXT)
    assert ask(actor, AdoptOrder("theirs")) != []
    actor.on_report(account(), CONTEXT)
    assert ask(actor, AdoptOrder("theirs")) == []

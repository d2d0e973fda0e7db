"""A turn's view for tests of single actors: real parts where they matter, empty ones elsewhere."""

from decimal import Decimal
from typing import Any

from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.ports import AccountView, Context, EquityView
from oracle.core.sessions import SessionTable


def context_at(table: SessionTable, at_ns: int, chains: Any, **views: Any) -> Context:
    """The context of an instant with these chains; ``views`` are further fields."""
    return Context(
        at_ns=at_ns,
        session=table.current_or_next(at_ns),
        table=table,
        market=MarketState(),
        chains=chains,
        ledger=Ledger(),
        equity=EquityView(None, None, None, Decimal(0), None, 0),
        account=AccountView(None, None, None, False, None),
        **views,
    )

"""Plan what an operator's adoption takes over: executions of others, or everything an account held at first.

Inputs: the request, the broker's newest report, others' executions, the book. Outputs: a ``Takeover`` or a reason in
words. Invariants: pure; all that was named or nothing.
"""

import msgspec

from oracle.core.control import AdoptPosition
from oracle.core.instruments import multiplier
from oracle.core.messages import AccountReported, LedgerSeeded, OperatorRequested
from oracle.core.money import ZERO
from oracle.core.ports import Context
from oracle.risk.adoption import MICRO, Adoption, AdoptWish, Foreign, opening, plan_adoption
from oracle.risk.book import OrderBook

NO_PRICE = "the broker's equity or cash is unknown; try again"


class Takeover(msgspec.Struct, frozen=True):
    """What to book. ``seed``: the books begin with it."""

    wish: AdoptWish
    seed: LedgerSeeded | None = None


def take_executions(
    request: OperatorRequested, ask: AdoptPosition, report: AccountReported, foreign: Foreign, book: OrderBook,
    context: Context,
) -> Takeover | str:  # fmt: skip
    """Take over what others executed in the contracts that were named."""
    if report.equity_usd is None:
        return NO_PRICE
    held = {p.symbol: p.qty for p in report.positions}
    found = [
        plan_adoption(symbol, foreign.of(symbol), held.get(symbol, ZERO), ask, book, context)
        for symbol in dict.fromkeys(ask.symbols)
    ]
    wish = AdoptWish(request, tuple(a for a in found if isinstance(a, Adoption)), report.equity_usd)
    return _refusals(found) or Takeover(wish)


def take_everything(
    request: OperatorRequested, ask: AdoptPosition, report: AccountReported, book: OrderBook, context: Context
) -> Takeover | str:
    """Take over all that an account held before the books began, which lets them begin."""
    orders = [o.client_order_id for o in report.open_orders]
    missing = [p.symbol for p in report.positions if p.symbol not in ask.symbols]
    if orders or missing:
        fix = f"cancel {', '.join(orders)} first" if orders else f"name {', '.join(missing)} as well"
        return f"the books begin with everything adopted at once: {fix}"
    if report.cash_usd is None or report.equity_usd is None:
        return NO_PRICE
    held = report.positions
    found = [plan_adoption(p.symbol, opening(request.request_id, p), p.qty, ask, book, context) for p in held]
    paid = sum((p.qty * p.avg_entry_price_usd.quantize(MICRO) * multiplier(p.symbol) for p in held), ZERO)
    # As if they had been bought from it: then the fold over fills gives the broker's cash again.
    seed = LedgerSeeded(report.cash_usd + paid, report.equity_usd, context.at_ns)
    wish = AdoptWish(request, tuple(a for a in found if isinstance(a, Adoption)), report.equity_usd)
    return _refusals(found) or Takeover(wish, seed)


def _refusals(found: list[Adoption | str]) -> str:
    return "; ".join(reason for reason in found if isinstance(reason, str))

"""Plan what an operator's adoption takes over: executions of others, or everything an account held at first.

Inputs: the request, the broker's newest report, others' executions, the book. Outputs: a ``Takeover`` or a reason in
words. Invariants: pure; all that was named or nothing.
"""

import msgspec

from oracle.core.control import AdoptPosition
from oracle.core.errors import InvariantError, RemoteError
from oracle.core.foreign import Foreign
from oracle.core.instruments import multiplier
from oracle.core.messages import FeeCharged, LedgerSeeded, OperatorRequested
from oracle.core.money import ZERO
from oracle.core.ports import Context
from oracle.core.reports import AccountReported
from oracle.core.structures import is_structure, legs_of, structure_name
from oracle.risk.adoption import Adoption, AdoptWish, plan_adoption, plan_structure
from oracle.risk.book import OrderBook
from oracle.risk.foreign import MICRO, opening

NO_NAME = "not the name of a structure, such as SPY:+260116C600-260116C605"
NO_PRICE = "the broker's equity or cash is unknown; try again"


class Takeover(msgspec.Struct, frozen=True):
    """What to book. ``seed``: the books begin with it; ``fees`` were charged before and are in its opening cash."""

    wish: AdoptWish
    seed: LedgerSeeded | None = None
    fees: tuple[FeeCharged, ...] = ()


def take_executions(
    request: OperatorRequested, ask: AdoptPosition, report: AccountReported, foreign: Foreign, book: OrderBook,
    context: Context,
) -> Takeover | str:  # fmt: skip
    """Take over what others executed in the contracts that were named."""
    if report.equity_usd is None:
        return NO_PRICE
    held = {p.symbol: p.qty for p in report.positions}
    found: list[Adoption | str] = []
    for symbol in dict.fromkeys(ask.symbols):
        if is_structure(symbol):
            legs = _legs(symbol)
            done = tuple(e for leg in legs for e in foreign.of(leg))
            found.append(plan_structure(symbol, done, held, ask, book, context) if legs else f"{symbol}: {NO_NAME}")
        else:
            found.append(plan_adoption(symbol, foreign.of(symbol), held.get(symbol, ZERO), ask, book, context))
    wish = AdoptWish(request, tuple(a for a in found if isinstance(a, Adoption)), report.equity_usd)
    return _refusals(found) or Takeover(wish)


def take_everything(
    request: OperatorRequested, ask: AdoptPosition, report: AccountReported, book: OrderBook, context: Context
) -> Takeover | str:
    """Take over all that an account held before the books began, which lets them begin."""
    orders = [o.client_order_id for o in report.open_orders]
    names = [name for name in dict.fromkeys(ask.symbols) if is_structure(name)]
    legs = {leg: name for name in names for leg in _legs(name)}
    missing = [p.symbol for p in report.positions if p.symbol not in ask.symbols and p.symbol not in legs]
    if orders or missing:
        fix = f"cancel {', '.join(orders)} first" if orders else f"name {', '.join(missing)} as well"
        return f"the books begin with everything adopted at once: {fix}"
    if report.cash_usd is None or report.equity_usd is None:
        return NO_PRICE
    held = report.positions
    plain = [p for p in held if p.symbol not in legs]
    found = [plan_adoption(p.symbol, opening(request.request_id, p), p.qty, ask, book, context) for p in plain]
    for name in names:
        of_it = [p for p in held if legs.get(p.symbol) == name]
        done = tuple(e for p in of_it for e in opening(request.request_id, p))
        at_broker = {p.symbol: p.qty for p in of_it}
        found.append(plan_structure(name, done, at_broker, ask, book, context) if of_it else f"{name}: {NO_NAME}")
    paid = sum((p.qty * p.avg_entry_price_usd.quantize(MICRO) * multiplier(p.symbol) for p in held), ZERO)
    # As if they had been bought from it: then the fold over fills gives the broker's cash again.
    seed = LedgerSeeded(report.cash_usd + paid, report.equity_usd, context.at_ns, report.cash_activities)
    wish = AdoptWish(request, tuple(a for a in found if isinstance(a, Adoption)), report.equity_usd)
    fees = tuple(
        FeeCharged(fee.activity_id, fee.symbol, fee.amount_usd, fee.text, context.at_ns, in_opening_cash=True)
        for fee in report.fees
    )
    return _refusals(found) or Takeover(wish, seed, fees)


def _legs(name: str) -> tuple[str, ...]:
    """The contracts of a structure's name; none when it is not one."""
    try:
        legs = legs_of(name)
        return tuple(leg.symbol for leg in legs) if structure_name(legs) == name else ()
    except (RemoteError, InvariantError):
        return ()


def _refusals(found: list[Adoption | str]) -> str:
    return "; ".join(reason for reason in found if isinstance(reason, str))

"""What an order may not do: the rules that need the account, the clock or the market. Functions that raise.

Inputs: a well-formed request and a read-only view of the exchange. Output: the legs' intents and the USD to hold for
the order, or a refusal with Alpaca's status, code and words. Order of checks: asset, hours, intent, quantity, level,
wash trade, buying power.
"""

from collections.abc import Sequence
from decimal import Decimal

from oracle.core.instruments import CONTRACT_MULTIPLIER, is_option, multiplier, parse_occ
from oracle.core.money import ZERO, price_from_float
from oracle.core.sessions import MINUTE_NS, Session, SessionTable
from oracle.sim.accounts import Account
from oracle.sim.errors import RefusedError, forbidden, unprocessable
from oracle.sim.expiring import is_last_day
from oracle.sim.intake import LegRequest, OrderRequest
from oracle.sim.margin import combine, requirement
from oracle.sim.matching import Line
from oracle.sim.orders import Order
from oracle.sim.shapes import money
from oracle.sim.source import Touch

EXPIRY_CUTOFF_NS = 30 * MINUTE_NS


def infer_intent(sign: int, held: int) -> str:
    """The position intent that a side has against the quantity held."""
    side = "buy" if sign > 0 else "sell"
    closing = held < 0 if sign > 0 else held > 0
    return f"{side}_to_{'close' if closing else 'open'}"


def resolve_intents(legs: Sequence[LegRequest], account: Account) -> list[str]:
    """Infer each leg's intent and refuse one that was specified otherwise.

    Raises:
        RefusedError: 422 position intent mismatch.
    """
    found = []
    for leg in legs:
        inferred = infer_intent(leg.line.sign, account.quantity(leg.line.symbol))
        if leg.intent is not None and leg.intent != inferred:
            raise unprocessable(f"position intent mismatch, inferred: {inferred}, specified: {leg.intent}")
        found.append(inferred)
    return found


def check_hours(request: OrderRequest, session: Session | None, at_ns: int) -> None:
    """Refuse option market orders while the market is closed."""
    if request.is_option and request.type == "market" and not (session and session.is_open(at_ns)):
        raise unprocessable("options market orders are only allowed during market hours")


def check_expiry(
    legs: Sequence[LegRequest], intents: Sequence[str], session: Session, at_ns: int, table: SessionTable
) -> None:
    """Refuse to open contracts whose last session this is in its last half hour."""
    for leg, intent in zip(legs, intents, strict=True):
        symbol = leg.line.symbol
        if not is_option(symbol) or not intent.endswith("_to_open"):
            continue
        if is_last_day(parse_occ(symbol).expiry, session, table) and at_ns >= session.close_ns - EXPIRY_CUTOFF_NS:
            raise unprocessable(f'contract "{symbol}" expires soon, unable to open new positions')


def check_quantities(request: OrderRequest, intents: Sequence[str], account: Account, orders: Sequence[Order]) -> None:
    """Refuse to close more than is held and not already promised to other orders."""
    for leg, intent in zip(request.legs, intents, strict=True):
        if not intent.endswith("_to_close"):
            continue
        symbol, wanted = leg.line.symbol, request.qty * leg.line.ratio
        existing = abs(account.quantity(symbol))
        held = sum(o.held_units(symbol, leg.line.sign) for o in orders)
        available = existing - held
        if wanted > available:
            raise forbidden(
                f"insufficient qty available for order (requested: {wanted}, available: {available})",
                available=str(available),
                existing_qty=str(existing),
                held_for_orders=str(held),
                symbol=symbol,
            )


def check_level(request: OrderRequest, intents: Sequence[str], level: int) -> None:
    """Refuse what the account's options level does not allow; closing is always allowed."""
    if not request.is_option or all(i.endswith("_to_close") for i in intents):
        return
    if level == 0:
        raise forbidden("account not eligible to trade options")
    if request.is_mleg and level < 3:
        raise forbidden("account not eligible to trade spreads or uncovered contracts")
    if "buy_to_open" in intents and level < 2:
        raise forbidden("account not eligible for level2 options trading")


def check_covered_call(
    request: OrderRequest, intents: Sequence[str], account: Account, orders: Sequence[Order]
) -> None:
    """Refuse a simple short call without 100 free shares per contract."""
    symbol = request.legs[0].line.symbol
    if request.is_mleg or intents[0] != "sell_to_open" or not is_option(symbol):
        return
    contract = parse_occ(symbol)
    if not contract.is_call:
        return
    shares = account.quantity(contract.root)
    short = sum(
        -p.quantity
        for s, p in account.positions.items()
        if p.quantity < 0 and is_option(s) and parse_occ(s).root == contract.root and parse_occ(s).is_call
    )
    working = sum(_short_calls_of(o, contract.root) for o in orders)
    sells = sum(o.held_units(contract.root, -1) for o in orders)
    required = request.qty * CONTRACT_MULTIPLIER
    available = shares - sells - (short + working) * CONTRACT_MULTIPLIER
    if available >= required:
        return
    if shares <= 0:
        raise forbidden("account not eligible to trade uncovered option contracts")
    available = max(0, available)
    raise forbidden(
        f"insufficient underlying qty available for covered call (required: {required}, available: {available})",
        available_qty=str(available),
        required_qty=str(required),
        symbol=contract.root,
    )


def _short_calls_of(order: Order, root: str) -> int:
    leg = order.legs[0]
    if order.is_mleg or leg.intent != "sell_to_open" or not is_option(leg.line.symbol):
        return 0
    contract = parse_occ(leg.line.symbol)
    return order.left if contract.is_call and contract.root == root else 0


def check_wash_trade(request: OrderRequest, orders: Sequence[Order]) -> None:
    """Refuse a simple order that could trade with the account's own order on the other side."""
    if request.is_mleg:
        return
    line = request.legs[0].line
    for order in orders:
        other = order.legs[0].line
        if order.is_mleg or other.symbol != line.symbol or other.sign == line.sign:
            continue
        mine, theirs = request.limit_price, order.limit_price
        apart = mine is not None and theirs is not None and (theirs - mine) * line.sign > 0
        if not apart:
            kind = "limit" if theirs is not None else "market/stop"
            raise forbidden(
                "potential wash trade detected. use complex orders",
                existing_order_id=order.id,
                reject_reason=f"opposite side {kind} order exists",
            )


def unit_cost(request: OrderRequest, touches: Sequence[Touch | None]) -> Decimal:
    """The net price per unit that an order may have to pay: its limit, its stop, or the touch.

    Raises:
        RefusedError: a market order in a symbol without a quote on the side it needs.
    """
    if request.limit_price is not None:
        return request.limit_price if request.is_mleg else request.limit_price * request.legs[0].line.sign
    total = ZERO
    for leg, touch in zip(request.legs, touches, strict=True):
        price = _taken_price(leg.line, touch)
        if request.stop_price is not None:
            price = request.stop_price if price is None else max(price, request.stop_price)
        if price is None:
            raise forbidden(f"no available quote for {leg.line.symbol}, submit a limit order")
        total += price * leg.line.sign * leg.line.ratio
    return total


def _taken_price(line: Line, touch: Touch | None) -> Decimal | None:
    if touch is None:
        return None
    price = touch.ask if line.sign > 0 else touch.bid
    return None if price is None else price_from_float(price)


def check_cover(request: OrderRequest, account: Account, marks: dict[str, Decimal], orders: Sequence[Order]) -> None:
    """Refuse an order that would leave a short uncovered once it and all working sells and mlegs have filled.

    Only the order's own underlying is looked at: one that is uncovered already excuses nothing in another.
    """
    working = [
        (line.symbol, line.sign * line.ratio * o.left) for o in orders for line in o.lines if o.is_mleg or line.sign < 0
    ]
    before = _same_underlying(combine(account.quantities(), working), request)
    if requirement(before, marks) is not None and requirement(combine(before, _changes(request)), marks) is None:
        raise _uncovered(request)


def _changes(request: OrderRequest) -> list[tuple[str, int]]:
    """What the whole fill of a request adds to positions."""
    return [(leg.line.symbol, leg.line.sign * leg.line.ratio * request.qty) for leg in request.legs]


def _same_underlying(positions: dict[str, int], request: OrderRequest) -> dict[str, int]:
    """The positions in the underlying of a request and in its options; a requirement is a sum over underlyings."""
    root = _root(request.legs[0].line.symbol)
    return {symbol: quantity for symbol, quantity in positions.items() if _root(symbol) == root}


def _root(symbol: str) -> str:
    return parse_occ(symbol).root if is_option(symbol) else symbol


def _uncovered(request: OrderRequest) -> RefusedError:
    words = "spreads or uncovered contracts" if request.is_mleg else "uncovered option contracts"
    return forbidden(f"account not eligible to trade {words}")


def hold_for(
    request: OrderRequest,
    unit_price: Decimal,
    account: Account,
    marks: dict[str, Decimal],
    *,
    opens: bool,
    available_usd: Decimal,
) -> Decimal:
    """The USD to hold for an order: what it pays plus what its whole fill adds to the requirement.

    Args:
        request: the order.
        unit_price: net, per share of a unit.
        account: whose positions count.
        marks: of stocks that are or would be held short.
        opens: whether any leg opens a position.
        available_usd: buying power.

    Raises:
        RefusedError: 403, uncovered or too dear for ``available_usd``.
    """
    held = _same_underlying(account.quantities(), request)
    before, after = requirement(held, marks), requirement(combine(held, _changes(request)), marks)
    debit = unit_price * request.qty * multiplier(request.legs[0].line.symbol)
    if after is None and (opens or before is not None):
        raise _uncovered(request)
    if before is None or after is None:
        # The broker took a leg away: what closes, or covers again, must not fail for the power that this took.
        return max(ZERO, debit)
    needed = max(ZERO, debit + after - before)
    if needed > max(available_usd, ZERO):
        raise _too_dear(request, needed, available_usd)
    return needed


def _too_dear(request: OrderRequest, needed: Decimal, available_usd: Decimal) -> RefusedError:
    shown = money(max(available_usd, ZERO))
    if request.is_option:
        return forbidden(
            f"insufficient options buying power (required: {money(needed)}, available: {shown})",
            options_buying_power=shown,
            cost_basis=money(needed),
        )
    return forbidden("insufficient buying power", buying_power=shown, cost_basis=money(needed))

"""Pure translation of Alpaca's raw market data and orders into the core's messages.

Inputs: dicts from msgpack (times are ``msgpack.Timestamp``) or JSON (times are RFC 3339 text). Outputs: messages.
Unknown words are kept; a missing or impossible field raises ``MalformedError`` that names it, and nothing else ever
raises. The caller counts and skips one message, never the rest of its frame.
"""

from collections.abc import Mapping
from decimal import Decimal

from oracle.alpaca import wire
from oracle.alpaca.fields import (
    MalformedError,
    Raw,
    count_of,
    decimal_of,
    decimal_or_none,
    instant_ns,
    mapping_of,
    price_of,
    side_of,
    side_price_of,
    symbol_of,
    text_of,
)
from oracle.core.errors import InvariantError, RemoteError
from oracle.core.instruments import is_option, parse_occ
from oracle.core.marketdata import Bar, ChainListed, ListedContract, Quote, TradingStatus, UpdatedBar
from oracle.core.message import Message
from oracle.core.reports import (
    BrokerFee,
    BrokerLeg,
    BrokerOrder,
    BrokerSettlement,
    ExecutionReported,
    OrderReported,
    StructureExecuted,
)
from oracle.core.structures import OrderLeg, structure_name
from oracle.core.vocabulary import BrokerEvent, Side

_CUT = 40
MLEG = "mleg"


# ------------------------------------------------------------------------------------------------------ market data


def bar_from(raw: Raw, symbol: str | None = None, backfilled: bool = False) -> Bar:
    """A minute bar, from the stream (``S`` inside) or REST (``symbol`` given)."""
    kind = "bar"
    try:
        return Bar(
            symbol_of(raw, kind) if symbol is None else symbol,
            instant_ns(raw.get("t"), kind, "t"),
            price_of(raw, kind, "o"),
            price_of(raw, kind, "h"),
            price_of(raw, kind, "l"),
            price_of(raw, kind, "c"),
            count_of(raw, kind, "v"),
            count_of(raw, kind, "n"),
            price_of(raw, kind, "vw"),
            backfilled,
        )
    except InvariantError as error:
        raise MalformedError(kind, "prices", str(error)) from None


def updated_bar_from(raw: Raw) -> UpdatedBar:
    """A re-issued minute bar."""
    return UpdatedBar(bar_from(raw))


def quote_from(raw: Raw, symbol: str | None = None) -> Quote:
    """A stock quote; a side at zero is absent. Sizes as the vendor gives them (shares since November 2025)."""
    kind = "quote"
    bid, ask = side_price_of(raw, kind, "bp"), side_price_of(raw, kind, "ap")
    return Quote(
        symbol_of(raw, kind) if symbol is None else symbol,
        instant_ns(raw.get("t"), kind, "t"),
        bid,
        count_of(raw, kind, "bs") if bid is not None else 0,
        ask,
        count_of(raw, kind, "as") if ask is not None else 0,
    )


def status_from(raw: Raw) -> TradingStatus | None:
    """A stock's halt or resume; None for a status that is neither (an imbalance, a short-sale restriction).

    A code that we do not know is judged by its words, so that a new kind of halt still counts as one.
    """
    kind = "status"
    symbol, code, at_ns = symbol_of(raw, kind), text_of(raw, kind, "sc"), instant_ns(raw.get("t"), kind, "t")
    words = [raw.get(name) for name in ("sm", "rm", "rc")]
    text = "; ".join(word for word in words if isinstance(word, str) and word)
    heard = text.lower()
    if code in wire.HALT_STATUS_CODES:
        return TradingStatus(symbol, at_ns, code, text, True)
    if code in wire.RESUME_STATUS_CODES or "resum" in heard:
        return TradingStatus(symbol, at_ns, code, text, False)
    if "halt" in heard or "pause" in heard:
        return TradingStatus(symbol, at_ns, code, text, True)
    return None


def option_touch(raw: Raw, symbol: str) -> tuple[str, float, int, float, int, int]:
    """An option quote from REST as (symbol, bid, bid size, ask, ask size, UTC ns); an absent side is 0.0 and 0."""
    quote = quote_from(raw, symbol)
    bid = 0.0 if quote.bid is None else quote.bid
    ask = 0.0 if quote.ask is None else quote.ask
    return symbol, bid, quote.bid_size, ask, quote.ask_size, quote.quoted_ns


def contract_from(raw: Raw) -> ListedContract:
    """One listed option. Open interest is None where the vendor gives none."""
    kind = "contract"
    symbol = text_of(raw, kind, "symbol")
    if not is_option(symbol):
        raise MalformedError(kind, "symbol", f"{symbol[:_CUT]!r} is not an OCC symbol")
    try:
        parse_occ(symbol)
    except RemoteError as error:
        raise MalformedError(kind, "symbol", str(error)) from None
    interest = decimal_or_none(raw, kind, "open_interest")
    if interest is not None and (interest < 0 or interest != int(interest)):
        raise MalformedError(kind, "open_interest", f"{interest} is not a count")
    day = raw.get("open_interest_date")
    return ListedContract(
        symbol,
        None if interest is None else int(interest),
        day if isinstance(day, str) and day else None,
        raw.get("ppind") is True,
        raw.get("tradable") is not False,
    )


def chain_listed(underlying: str, date: str, contracts: list[ListedContract]) -> ChainListed:
    """A chain in order of symbol, each contract once."""
    by_symbol = {contract.symbol: contract for contract in contracts}
    return ChainListed(underlying, date, tuple(by_symbol[symbol] for symbol in sorted(by_symbol)))


# ----------------------------------------------------------------------------------------------------------- orders


def order_from(raw: Raw) -> BrokerOrder:
    """An order from REST or the stream. A notional order has no quantity: then it is what has been filled.

    A multi-leg order is told as the purchase of the structure that its legs are, which is how the vendor prices it. One
    whose legs are no structure of ours (with an equity leg, say) keeps an empty symbol.
    """
    kind = "order"
    done = decimal_or_none(raw, kind, "filled_qty")
    filled = Decimal(0) if done is None else done
    qty = decimal_or_none(raw, kind, "qty")
    order_type = raw.get("order_type") or raw.get("type") or ""
    order_class = raw.get("order_class")
    symbol = raw.get("symbol")
    if filled < 0 or (qty is not None and qty < 0):
        raise MalformedError(kind, "qty", "negative")
    legs = _legs_from(raw, qty)
    name = symbol if isinstance(symbol, str) else ""
    return BrokerOrder(
        text_of(raw, kind, "client_order_id"),
        symbol_of(raw, kind, "id"),
        _structure_of(legs) if legs else name,
        Side.BUY if legs else side_of(raw.get("side")),
        order_class if isinstance(order_class, str) else "",
        filled if qty is None else qty,
        filled,
        decimal_or_none(raw, kind, "filled_avg_price"),
        decimal_or_none(raw, kind, "limit_price"),
        order_type if isinstance(order_type, str) else "",
        text_of(raw, kind, "status"),
        instant_ns(raw.get("created_at"), kind, "created_at"),
        legs,
    )


def _legs_from(raw: Raw, qty: Decimal | None) -> tuple[BrokerLeg, ...]:
    """The legs of a multi-leg order, sorted by symbol; none of any other order."""
    rows = raw.get("legs")
    if raw.get("order_class") != MLEG or not isinstance(rows, list):
        return ()
    return tuple(sorted((_leg_from(row, qty) for row in rows), key=lambda leg: leg.symbol))


def _leg_from(row: object, units: Decimal | None) -> BrokerLeg:
    kind = "leg"
    raw = mapping_of(row, kind, "row")
    side = side_of(raw.get("side"))
    if side is None:
        raise MalformedError(kind, "side", "neither buy nor sell")
    filled = decimal_or_none(raw, kind, "filled_qty")
    ratio = decimal_or_none(raw, kind, "ratio_qty")
    if ratio is None and units is not None and units > 0:
        ratio = decimal_of(raw, kind, "qty") / units
    if ratio is None or ratio < 1 or ratio != int(ratio):
        raise MalformedError(kind, "ratio_qty", f"{ratio} is not a ratio")
    if filled is not None and filled < 0:
        raise MalformedError(kind, "filled_qty", "negative")
    return BrokerLeg(
        symbol_of(raw, kind, "id"),
        symbol_of(raw, kind, "symbol"),
        side,
        int(ratio),
        Decimal(0) if filled is None else filled,
        decimal_or_none(raw, kind, "filled_avg_price"),
    )


def _structure_of(legs: tuple[BrokerLeg, ...]) -> str:
    try:
        return structure_name(OrderLeg(leg.symbol, leg.side, leg.ratio) for leg in legs)
    except (InvariantError, RemoteError):
        return ""


def order_reported(order: BrokerOrder, at_ns: int) -> OrderReported:
    """An order that was read rather than streamed, as a report of its status."""
    event = wire.STATUS_EVENTS.get(order.status, BrokerEvent.UNKNOWN_EVENT)
    return OrderReported(event, order, at_ns, order.status if event is BrokerEvent.UNKNOWN_EVENT else "")


def trade_update(data: object) -> tuple[list[Message], list[MalformedError]]:
    """An update of the trading stream as a report of the order and its executions, and what could not be read.

    A multi-leg fill gives the executions of all its legs, under the parent order, as one message. An unreadable
    execution does not lose the order's report; its filled quantity then tells that something is missing.

    Raises:
        MalformedError: the order itself cannot be read.
    """
    kind = "trade_update"
    raw = mapping_of(data, kind, "data")
    word = text_of(raw, kind, "event")
    parent = mapping_of(raw.get("order"), kind, "order")
    order = order_from(parent)
    stamp = next(
        (raw[name] for name in ("timestamp", "at") if isinstance(raw.get(name), str)), parent.get("updated_at")
    )
    at_ns = order.created_ns if stamp is None else instant_ns(stamp, kind, "timestamp")
    event = wire.EVENTS.get(word, BrokerEvent.UNKNOWN_EVENT)
    reason = raw.get("reject_reason") or raw.get("reason") or parent.get("reject_reason")
    text = word if event is BrokerEvent.UNKNOWN_EVENT else reason if isinstance(reason, str) else ""
    messages: list[Message] = [OrderReported(event, order, at_ns, text)]
    problems: list[MalformedError] = []
    if event in (BrokerEvent.FILL, BrokerEvent.PARTIAL_FILL):
        together: list[ExecutionReported] = []
        for part in _parts(raw, order):
            try:
                together.append(_execution(part, parent, order, at_ns))
            except MalformedError as error:
                problems.append(error)
        if together:
            messages.append(StructureExecuted(tuple(together)) if order.order_class == MLEG else together[0])
    return messages, problems


def _parts(raw: Raw, order: BrokerOrder) -> list[object]:
    """The objects that tell an execution each: the update itself, or its legs. A multi-leg fill without any tells none.

    Its own price and quantity are those of whole units, which nothing is booked by.
    """
    if order.order_class != MLEG:
        return [raw]
    legs = raw.get("legs")
    return list(legs) if isinstance(legs, list) and legs else [None]


def _execution(part: object, parent: Raw, order: BrokerOrder, at_ns: int) -> ExecutionReported:
    kind = "execution"
    raw = mapping_of(part, kind, "legs")
    symbol = raw.get("symbol")
    leg = _leg(parent, raw.get("order_id"), symbol)
    side = side_of((leg or parent).get("side"))
    if side is None:
        raise MalformedError(kind, "side", "missing")
    name = symbol if isinstance(symbol, str) and symbol else order.symbol
    stamp = raw.get("timestamp")
    try:
        return ExecutionReported(
            symbol_of(raw, kind, "execution_id"),
            order,
            name if name else symbol_of(parent, kind, "symbol"),
            side,
            decimal_of(raw, kind, "qty"),
            decimal_of(raw, kind, "price"),
            at_ns if stamp is None else instant_ns(stamp, kind, "timestamp"),
        )
    except InvariantError as error:
        raise MalformedError(kind, "qty", str(error)) from None


def _leg(parent: Raw, order_id: object, symbol: object) -> Raw | None:
    legs = parent.get("legs")
    rows = [leg for leg in legs if isinstance(leg, dict)] if isinstance(legs, list) else []
    by_id = next((leg for leg in rows if order_id and leg.get("id") == order_id), None)
    return by_id or next((leg for leg in rows if symbol and leg.get("symbol") == symbol), None)


def is_charge(raw: Raw) -> bool:
    """Whether an activity belongs to what the account did or held. Interest that is paid to it does not."""
    word = raw.get("activity_type")
    if word == wire.INTEREST_ACTIVITY:
        return decimal_of(raw, "fee", "net_amount") <= 0
    return word in wire.CHARGE_ACTIVITIES


def fee_from(raw: Raw) -> BrokerFee:
    """A fee, dividend, interest or tax. Its net amount is negative when it was charged; it names no order."""
    kind = "fee"
    symbol = raw.get("symbol")
    word, text = raw.get("activity_type"), raw.get("description")
    if isinstance(word, str) and word != wire.FEE_ACTIVITY:
        text = f"{word} {text if isinstance(text, str) else ''}".rstrip()
    return BrokerFee(
        text_of(raw, kind, "id"),
        symbol if isinstance(symbol, str) else "",
        -decimal_of(raw, kind, "net_amount"),
        text if isinstance(text, str) else "",
    )


def fill_from(raw: Raw, orders: Mapping[str, BrokerOrder]) -> ExecutionReported:
    """A FILL activity as the execution that the stream told, or should have told.

    ``orders`` maps broker order ids (of legs too) to the order to report under. The activity's id ends in the
    stream's execution id.
    """
    kind = "fill"
    order = orders.get(text_of(raw, kind, "order_id"))
    if order is None:
        raise MalformedError(kind, "order_id", "the order of this fill is not known")
    # Short sales are told as sell_short by this endpoint.
    side = Side.SELL if raw.get("side") == "sell_short" else side_of(raw.get("side"))
    if side is None:
        raise MalformedError(kind, "side", "neither buy nor sell")
    try:
        return ExecutionReported(
            symbol_of(raw, kind, "id").rpartition("::")[2],
            order,
            symbol_of(raw, kind, "symbol"),
            side,
            decimal_of(raw, kind, "qty"),
            decimal_of(raw, kind, "price"),
            instant_ns(raw.get("transaction_time"), kind, "transaction_time"),
        )
    except InvariantError as error:
        raise MalformedError(kind, "qty", str(error)) from None


def settlement_from(raw: Raw) -> BrokerSettlement:
    """An activity that no order caused: contracts that ended, shares or cash that came, or any other movement."""
    kind = "settlement"
    qty, cash = decimal_or_none(raw, kind, "qty"), decimal_or_none(raw, kind, "net_amount")
    symbol, day, text = raw.get("symbol"), raw.get("date"), raw.get("description")
    return BrokerSettlement(
        symbol_of(raw, kind, "id"),
        symbol_of(raw, kind, "activity_type"),
        symbol if isinstance(symbol, str) else "",
        Decimal(0) if qty is None else qty,
        decimal_or_none(raw, kind, "price"),
        Decimal(0) if cash is None else cash,
        day if isinstance(day, str) else "",
        text if isinstance(text, str) else "",
    )

"""Read order requests: JSON in, an ``OrderRequest`` or a refusal in Alpaca's words out. Pure; knows no account.

Numbers may come as text, integers or floats (alpaca-py sends floats); quantities must be whole.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from oracle.core.errors import RemoteError
from oracle.core.instruments import is_equity, is_option, parse_occ
from oracle.core.money import decimal_from_text, option_tick
from oracle.sim.errors import invalid, unprocessable
from oracle.sim.matching import Line

TYPES = ("market", "limit", "stop", "stop_limit")
INTENTS = ("buy_to_open", "buy_to_close", "sell_to_open", "sell_to_close")
PENNY_ALWAYS = frozenset({"SPY", "QQQ", "IWM"})
MAX_QTY = 1_000_000
MAX_PRICE = Decimal(1_000_000)
MAX_DECIMALS = 12


class LegRequest(msgspec.Struct, frozen=True):
    """One leg as asked for; ``intent`` None is inferred from the position."""

    line: Line
    intent: str | None


class OrderRequest(msgspec.Struct, frozen=True):
    """A well-formed order request. ``qty`` is shares, contracts or mleg units."""

    legs: tuple[LegRequest, ...]
    order_class: str
    type: str
    tif: str
    qty: int
    limit_price: Decimal | None
    stop_price: Decimal | None
    client_order_id: str | None
    extended_hours: bool

    @property
    def is_mleg(self) -> bool:
        """Whether several legs fill together."""
        return self.order_class == "mleg"

    @property
    def is_option(self) -> bool:
        """Whether any leg is an option."""
        return is_option(self.legs[0].line.symbol)


def read_qty(value: object, field: str = "qty") -> int:
    """Read a whole positive quantity.

    Raises:
        RefusedError: missing, fractional, not positive or absurd.
    """
    if value is None:
        raise invalid(f"{field} is required")
    try:
        number = decimal_from_text(value, field)
    except RemoteError:
        raise invalid(f"invalid {field}") from None
    if number <= 0:
        raise unprocessable(f"{field} must be > 0")
    if number > MAX_QTY:
        raise unprocessable(f"{field} must be <= {MAX_QTY}")
    if number != int(number):
        raise unprocessable(f"{field} must be a whole number")
    return int(number)


def read_price(value: object, field: str) -> Decimal | None:
    """Read an optional price; its sign is judged by the order's class.

    Raises:
        RefusedError: not a finite number of a sensible size.
    """
    if value is None or value == "":
        return None
    try:
        number = decimal_from_text(value, field)
    except RemoteError:
        raise invalid(f"invalid {field}") from None
    exponent = number.as_tuple().exponent
    if abs(number) > MAX_PRICE or not isinstance(exponent, int) or exponent < -MAX_DECIMALS:
        raise invalid(f"invalid {field}")
    return number


def read_client_id(value: object) -> str | None:
    """Read an optional client_order_id of at most 128 characters."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 128:
        raise invalid("client_order_id must be no more than 128 characters")
    return value


def read_order(body: object, options_gtc: bool) -> OrderRequest:
    """Read the body of POST /v2/orders.

    Raises:
        RefusedError: 422 in Alpaca's words.
    """
    if not isinstance(body, Mapping):
        raise invalid("request body format is invalid")
    order_class = body.get("order_class") or "simple"
    kind, tif = body.get("type"), body.get("time_in_force")
    if order_class not in ("simple", "mleg", "bracket", "oco", "oto"):
        raise invalid("invalid order_class")
    if order_class not in ("simple", "mleg"):
        raise unprocessable("complex orders not supported for options trading")
    if kind not in TYPES:
        raise invalid("invalid order type" if kind else "type is required")
    if body.get("notional") is not None:
        raise unprocessable("notional orders are not supported")
    request = OrderRequest(
        legs=_mleg_legs(body.get("legs")) if order_class == "mleg" else (_simple_leg(body),),
        order_class=order_class,
        type=kind,
        tif=tif if isinstance(tif, str) else "",
        qty=read_qty(body.get("qty")),
        limit_price=read_price(body.get("limit_price"), "limit_price"),
        stop_price=read_price(body.get("stop_price"), "stop_price"),
        client_order_id=read_client_id(body.get("client_order_id")),
        extended_hours=body.get("extended_hours") is True,
    )
    _check_time_in_force(request, options_gtc)
    _check_type(request)
    return request


def _check_time_in_force(request: OrderRequest, options_gtc: bool) -> None:
    if request.tif not in ("day", "gtc", "opg", "cls", "ioc", "fok"):
        raise invalid("invalid time_in_force")
    if request.is_option:
        if request.tif != "day" and not (request.tif == "gtc" and options_gtc):
            raise unprocessable("order_time_in_force provided not supported for options trading")
        if request.extended_hours:
            raise unprocessable("extended hours orders are not supported for options trading")
    elif request.tif not in ("day", "gtc"):
        raise unprocessable(f"time_in_force {request.tif} is not supported")
    elif request.extended_hours:
        raise unprocessable("extended hours orders are not supported")


def _check_type(request: OrderRequest) -> None:
    wants_limit, wants_stop = "limit" in request.type, "stop" in request.type
    if request.is_mleg and request.type not in ("market", "limit"):
        raise unprocessable(f"invalid order type {request.type} for multi-leg orders")
    if wants_limit and request.limit_price is None:
        raise unprocessable(f"{request.type} orders require a limit price")
    if wants_stop and request.stop_price is None:
        raise unprocessable(f"{request.type} orders require a stop price")
    if not wants_limit and request.limit_price is not None:
        raise unprocessable(f"{request.type} orders must not have a limit price")
    if not wants_stop and request.stop_price is not None:
        raise unprocessable(f"{request.type} orders must not have a stop price")
    if not request.is_mleg:
        for name, price in (("limit_price", request.limit_price), ("stop_price", request.stop_price)):
            if price is not None and price <= 0:
                raise unprocessable(f"{name} must be > 0")


def _simple_leg(body: Mapping[str, Any]) -> LegRequest:
    if body.get("legs"):
        raise unprocessable("legs are only allowed for multi-leg orders")
    symbol = body.get("symbol")
    if not symbol:
        raise invalid("symbol is required")
    side = body.get("side")
    if side not in ("buy", "sell"):
        raise invalid("invalid side" if side else "side is required")
    intent = body.get("position_intent") or None
    if intent is not None and (intent not in INTENTS or not intent.startswith(side)):
        raise invalid("invalid position_intent")
    return LegRequest(Line(_symbol(symbol), 1 if side == "buy" else -1, 1), intent)


def _symbol(value: object) -> str:
    if not isinstance(value, str) or not (is_equity(value) or is_option(value)):
        raise unprocessable(f'asset "{value}" not found')
    return value


def _mleg_legs(value: object) -> tuple[LegRequest, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise unprocessable("legs are required for multi-leg orders")
    if not 2 <= len(value) <= 4:
        raise unprocessable("multi-leg orders require between 2 and 4 legs")
    legs = tuple(_one_leg(i, leg) for i, leg in enumerate(value))
    symbols = [leg.line.symbol for leg in legs]
    if len(set(symbols)) != len(symbols):
        raise unprocessable("leg symbols must be unique")
    if not all(is_option(s) for s in symbols):
        raise unprocessable("equity legs are allowed only with a corresponding amount of call contracts")
    if len({parse_occ(s).root for s in symbols}) != 1:
        raise unprocessable("all legs must have the same underlying symbol")
    ratios = [leg.line.ratio for leg in legs]
    common = math.gcd(*ratios)
    if common != 1:
        shown = " ".join(str(r) for r in ratios)
        raise unprocessable(f"leg ratio quantities should be relatively prime: GCD[{shown}] = {common}")
    return legs


def _one_leg(index: int, leg: object) -> LegRequest:
    if not isinstance(leg, Mapping):
        raise invalid(f"invalid leg.{index}")
    side, intent = leg.get("side"), leg.get("position_intent")
    if intent is not None and intent not in INTENTS:
        raise unprocessable(f"leg.{index} position intent is invalid")
    if side is None and intent is not None:
        side = intent.split("_")[0]
    if side not in ("buy", "sell"):
        raise unprocessable(f"leg.{index} position intent is required")
    if intent is not None and not intent.startswith(side):
        raise unprocessable(f"leg.{index} side and position intent do not agree")
    ratio = read_qty(leg.get("ratio_qty"), f"leg.{index} ratio_qty")
    return LegRequest(Line(_symbol(leg.get("symbol")), 1 if side == "buy" else -1, ratio), intent)


def check_increment(symbol: str | None, price: Decimal | None, penny_class: bool, field: str) -> None:
    """Refuse prices off the increment: 0.01 for mleg (symbol None), the class's tick for options, stocks by price.

    Raises:
        RefusedError: 422, naming the increment.
    """
    if price is None:
        return
    if symbol is None:
        tick = Decimal("0.01")
    elif is_option(symbol):
        tick = option_tick(price, penny_class, parse_occ(symbol).root in PENNY_ALWAYS)
    else:
        tick = Decimal("0.01") if price >= 1 else Decimal("0.0001")
    if price % tick == 0:
        return
    if symbol is not None and not is_option(symbol):
        raise unprocessable(f"invalid {field} {price}. sub-penny increment does not fulfill minimum pricing criteria")
    raise unprocessable(f"invalid {field} {price}. the minimum price increment is {tick}")

"""Orders and the account over REST: one attempt each, answered with an outcome that says what is known.

Inputs: effects of the core. Outputs: their result messages. Nothing is retried, resent or adopted here: that is
decided in ``execution``. Invariants: never raises for anything the remote does; UNKNOWN means the order may be live.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from oracle.alpaca import wire
from oracle.alpaca.fields import MalformedError, decimal_of, decimal_or_none, mapping_of, rfc3339_text, text_of
from oracle.alpaca.rejections import Rejections
from oracle.alpaca.rest import Reply, RestClient, must
from oracle.alpaca.translate import MLEG, fee_from, fill_from, is_charge, order_from, settlement_from
from oracle.core.errors import ProtocolError, RemoteError, TransientError
from oracle.core.instruments import is_option
from oracle.core.messages import LookUpOrder, ReadAccount, SendCancel, SendOrder
from oracle.core.money import ZERO
from oracle.core.reports import (
    AccountReported,
    BrokerOrder,
    BrokerPosition,
    BrokerSettlement,
    CancelReturned,
    ExecutionReported,
    LookUpReturned,
    SubmitReturned,
)
from oracle.core.structures import MAX_LEGS, is_structure, legs_of
from oracle.core.vocabulary import Outcome, Side

_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,63}")
_NOT_A_REJECTION = frozenset({408, 409, 429})
_CONSISTENT_READS = 3
_MAX_PAGES = 50
_MAX_SINGLE_READS = 20
_DAY_NS = 86_400_000_000_000
# A fee is told by its date alone, mostly on the day after: it is asked for by whole days, and known by its id.
_FEE_DAYS = 7


class Gateway:
    """Orders and account reads of one account.

    Args:
        rest: an open REST client.
        now_ns: business time, for the moment of an account report.
    """

    def __init__(self, rest: RestClient, now_ns: Callable[[], int]) -> None:
        self._rest = rest
        self._now_ns = now_ns
        self.rejections = Rejections("trading_rest")

    async def submit(self, request: SendOrder) -> SubmitReturned:
        """POST one order attempt, once."""
        reply = await self._rest.trading("POST", wire.ORDERS_PATH, body=order_body(request))
        outcome = submit_outcome(reply)
        order: BrokerOrder | None = None
        text = reply.text
        if outcome is Outcome.ACCEPTED:
            try:
                order = self._order(reply.body, request.client_order_id)
                text = ""
            except MalformedError as error:
                self.rejections.add(error)
                outcome, text = Outcome.UNKNOWN, f"accepted, but the answer cannot be read: {error}"
        elif outcome is Outcome.THROTTLED:
            text = f"{text} (resets at {reply.headers.get(wire.RATE_RESET_HEADER, 'an unknown time')})"
        return SubmitReturned(request.client_order_id, outcome, order, reply.code, text)

    async def cancel(self, request: SendCancel) -> CancelReturned:
        """Ask once that an order be canceled."""
        name = request.broker_order_id
        # An empty id would make the path that cancels every order of the account.
        if _ID.fullmatch(name) is None:
            text = f"not sent: {name!r} is not a broker order id"
            return CancelReturned(request.client_order_id, Outcome.UNKNOWN, "", text)
        reply = await self._rest.trading("DELETE", f"{wire.ORDERS_PATH}/{name}")
        outcome = cancel_outcome(reply)
        text = "" if outcome is Outcome.ACCEPTED else reply.text
        return CancelReturned(request.client_order_id, outcome, reply.code, text)

    async def look_up(self, request: LookUpOrder) -> LookUpReturned:
        """Read one order by its client order id, once."""
        name = request.client_order_id
        reply = await self._rest.trading("GET", wire.ORDER_BY_CLIENT_ID_PATH, {"client_order_id": name})
        outcome = look_up_outcome(reply)
        if outcome is not Outcome.ACCEPTED:
            return LookUpReturned(name, outcome, None, reply.text)
        try:
            return LookUpReturned(name, outcome, self._order(reply.body, name), "")
        except MalformedError as error:
            self.rejections.add(error)
            return LookUpReturned(name, Outcome.UNKNOWN, None, f"the answer cannot be read: {error}")

    async def read_account(self, request: ReadAccount) -> AccountReported:
        """Read account, positions, open orders and fills as of one moment.

        The fills are read before and after the rest; when they differ, something was executed meanwhile and all is
        read again, at most three times.
        """
        problem = "the account kept changing while it was read"
        try:
            rows = await self._activities((wire.FILL_ACTIVITY,), request.fills_since_ns)
            for _ in range(_CONSISTENT_READS):
                account, positions, orders, others = await asyncio.gather(
                    self._rest.trading("GET", wire.ACCOUNT_PATH),
                    self._rest.trading("GET", wire.POSITIONS_PATH),
                    self._open_orders(),
                    self._activities(wire.NON_TRADE_ACTIVITIES, fees_since_ns(request.fills_since_ns)),
                )
                again = await self._activities((wire.FILL_ACTIVITY,), request.fills_since_ns)
                if len(again) == len(rows):
                    return await self._report(account, positions, orders, [*again, *others], request.fills_since_ns)
                rows = again
        except RemoteError as error:
            if isinstance(error, MalformedError):
                self.rejections.add(error)
            problem = str(error)
        return _unread(self._now_ns(), request.fills_since_ns, problem)

    async def _report(
        self,
        account: Reply,
        positions: Reply,
        orders: list[Any],
        activities: list[Mapping[str, Any]],
        since_ns: int,
    ) -> AccountReported:
        kind = "account"
        figures = mapping_of(must(account, "account"), kind, "body")
        held = _rows(must(positions, "positions"), "position")
        fills: list[Mapping[str, Any]] = []
        fees: list[Mapping[str, Any]] = []
        others: list[Mapping[str, Any]] = []
        for row in activities:
            word = text_of(row, "activity", "activity_type")
            (fills if word == wire.FILL_ACTIVITY else fees if is_charge(row) else others).append(row)
        executions = await self._executions(fills, since_ns)
        blocked = [figures.get(name) for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")]
        flags = [flag for flag in blocked if isinstance(flag, bool)]
        level = decimal_or_none(figures, kind, "options_trading_level")
        return AccountReported(
            self._now_ns(),
            decimal_or_none(figures, kind, "equity"),
            decimal_or_none(figures, kind, "last_equity"),
            decimal_or_none(figures, kind, "cash"),
            decimal_or_none(figures, kind, "options_buying_power"),
            None if level is None else int(level),
            any(flags) if flags else None,
            tuple(sorted((position_from(row) for row in held), key=lambda p: p.symbol)),
            tuple(sorted(map(order_from, orders), key=lambda o: (o.created_ns, o.broker_order_id))),
            executions,
            since_ns,
            fees=tuple(sorted(map(fee_from, fees), key=lambda fee: fee.activity_id)),
            settlements=self._settlements(others),
        )

    def _settlements(self, rows: list[Mapping[str, Any]]) -> tuple[BrokerSettlement, ...]:
        """Activities without an order, sorted by id. An unreadable one is counted: it is evidence, and no money."""
        out = []
        for row in rows:
            try:
                out.append(settlement_from(row))
            except MalformedError as error:
                self.rejections.add(error)
        return tuple(sorted(out, key=lambda settlement: settlement.activity_id))

    async def _open_orders(self) -> list[Any]:
        query = {"status": "open", "nested": "true", "limit": str(wire.ORDER_PAGE_LIMIT), "direction": "asc"}
        rows = _rows(must(await self._rest.trading("GET", wire.ORDERS_PATH, query), "open orders"), "order")
        if len(rows) >= wire.ORDER_PAGE_LIMIT:
            raise TransientError(f"open orders: {len(rows)} fill the page, there may be more")
        return rows

    async def _activities(self, kinds: Sequence[str], since_ns: int) -> list[Mapping[str, Any]]:
        """Activities of some kinds after ``since_ns``, oldest first, through all pages."""
        query = {
            "activity_types": ",".join(kinds),
            "after": rfc3339_text(since_ns),
            "direction": "asc",
            "page_size": str(wire.ACTIVITY_PAGE_LIMIT),
        }
        found: dict[str, Mapping[str, Any]] = {}
        for _ in range(_MAX_PAGES):
            page = _rows(must(await self._rest.trading("GET", wire.ACTIVITIES_PATH, query), "activities"), "activity")
            ours = [row for row in page if text_of(row, "activity", "activity_type") in kinds]
            fresh = {text_of(row, "activity", "id"): row for row in ours}
            known = len(found)
            found.update(fresh)
            if len(page) < wire.ACTIVITY_PAGE_LIMIT or (fresh and len(found) == known):
                return list(found.values())
            query["page_token"] = text_of(page[-1], "activity", "id")
        raise TransientError(f"activities: more than {_MAX_PAGES} pages since {rfc3339_text(since_ns)}")

    async def _executions(self, fills: list[Mapping[str, Any]], since_ns: int) -> tuple[ExecutionReported, ...]:
        """The fills with the orders that they belong to; a leg's fill is told under its parent order."""
        if not fills:
            return ()
        query = {
            "status": "all",
            "nested": "true",
            "limit": str(wire.ORDER_PAGE_LIMIT),
            "direction": "desc",
            "after": rfc3339_text(max(0, since_ns - _DAY_NS)),
        }
        orders: dict[str, BrokerOrder] = {}
        for row in _rows(must(await self._rest.trading("GET", wire.ORDERS_PATH, query), "orders"), "order"):
            _index(row, orders)
        wanted = sorted({text_of(row, "fill", "order_id") for row in fills} - orders.keys())
        if len(wanted) > _MAX_SINGLE_READS:
            raise TransientError(f"fills: {len(wanted)} belong to orders that are not in the list of recent orders")
        for name in wanted:
            if _ID.fullmatch(name) is None:
                raise MalformedError("fill", "order_id", f"{name[:40]!r} is not an order id")
            _index(must(await self._rest.trading("GET", f"{wire.ORDERS_PATH}/{name}"), f"order {name}"), orders)
        told = [fill_from(row, orders) for row in fills]
        return tuple(sorted(told, key=lambda e: (e.at_ns, e.execution_id)))

    def _order(self, body: Any, client_order_id: str) -> BrokerOrder:
        order = order_from(mapping_of(body, "order", "body"))
        if order.client_order_id != client_order_id:
            raise MalformedError("order", "client_order_id", f"{order.client_order_id[:40]!r} is not what was asked")
        return order


def order_body(request: SendOrder) -> dict[str, Any]:
    """The JSON of an order: exact numbers as text, a day order, never extended hours.

    A structure is bought as its name says, or with every leg reversed at the negated net price: Alpaca's net limit is
    positive for a debit and negative for a credit, whichever way the legs go. Shares carry no position intent.

    Raises:
        ProtocolError: a structure of one leg, which is an order in that leg's own symbol.
    """
    body: dict[str, Any] = {
        "qty": str(request.contracts),
        "type": "market" if request.limit_usd is None else "limit",
        "time_in_force": "day",
        "client_order_id": request.client_order_id,
    }
    limit_usd = request.limit_usd
    if is_structure(request.symbol):
        body |= {"order_class": MLEG, "legs": _legs_body(request)}
        # Subtracted, so that an even price does not become a negative zero.
        limit_usd = limit_usd if limit_usd is None or request.side is Side.BUY else ZERO - limit_usd
    else:
        body |= {"symbol": request.symbol, "side": request.side.value}
        if is_option(request.symbol):
            body["position_intent"] = wire.position_intent(request.side, request.opening)
    if limit_usd is not None:
        body["limit_price"] = format(limit_usd, "f")
    return body


def _legs_body(request: SendOrder) -> list[dict[str, str]]:
    legs = legs_of(request.symbol)
    if not 2 <= len(legs) <= MAX_LEGS:
        raise ProtocolError(f"order {request.client_order_id}: {request.symbol} has {len(legs)} legs")
    rows = []
    for leg in legs:
        side = leg.side if request.side is Side.BUY else leg.side.opposite
        intent = wire.position_intent(side, request.opening)
        rows.append({"symbol": leg.symbol, "ratio_qty": str(leg.ratio), "side": side.value, "position_intent": intent})
    return rows


def fees_since_ns(fills_since_ns: int) -> int:
    """From when on fees are asked for: midnight UTC some days before the fills' window, in UTC ns."""
    return max(0, fills_since_ns // _DAY_NS - _FEE_DAYS) * _DAY_NS


def submit_outcome(reply: Reply) -> Outcome:
    """What is known of an order after its POST: only a readable refusal proves that it does not exist.

    40010001 (invalid, or the id exists already) may be the echo of a first attempt that got through.
    """
    if reply.ok:
        return Outcome.ACCEPTED if isinstance(reply.body, dict) else Outcome.UNKNOWN
    if reply.status == 429:
        return Outcome.THROTTLED
    if _refused(reply) and reply.code != wire.RestCode.INVALID_OR_DUPLICATE:
        return Outcome.REJECTED
    return Outcome.UNKNOWN


def cancel_outcome(reply: Reply) -> Outcome:
    """What is known after a cancel request. ACCEPTED: asked for, not yet canceled."""
    if reply.ok:
        return Outcome.ACCEPTED
    if reply.status == 429:
        return Outcome.THROTTLED
    if reply.status == 404:
        return Outcome.NOT_FOUND if _refused(reply) else Outcome.UNKNOWN
    return Outcome.REJECTED if _refused(reply) else Outcome.UNKNOWN


def look_up_outcome(reply: Reply) -> Outcome:
    """What is known after a look-up. Only the vendor's own 404 says that there is no such order (yet)."""
    if reply.ok:
        return Outcome.ACCEPTED if isinstance(reply.body, dict) else Outcome.UNKNOWN
    if reply.status == 429:
        return Outcome.THROTTLED
    return Outcome.NOT_FOUND if reply.status == 404 and _refused(reply) else Outcome.UNKNOWN


def _refused(reply: Reply) -> bool:
    """Whether this is the vendor's own, readable refusal. 401 carries no code at Alpaca."""
    if not 400 <= reply.status < 500 or reply.status in _NOT_A_REJECTION or not isinstance(reply.body, dict):
        return False
    return bool(reply.code) or (reply.status == 401 and "message" in reply.body)


def position_from(row: Mapping[str, Any]) -> BrokerPosition:
    """A position with a signed quantity, whichever way the vendor writes a short one."""
    kind = "position"
    qty = decimal_of(row, kind, "qty")
    if row.get("side") == "short":
        qty = -abs(qty)
    return BrokerPosition(text_of(row, kind, "symbol"), qty, decimal_of(row, kind, "avg_entry_price"))


def _index(row: Any, orders: dict[str, BrokerOrder]) -> None:
    raw = mapping_of(row, "order", "row")
    parent = order_from(raw)
    orders[parent.broker_order_id] = parent
    legs = raw.get("legs")
    for leg in legs if isinstance(legs, list) else ():
        if isinstance(leg, dict) and isinstance(leg.get("id"), str):
            orders[leg["id"]] = parent


def _rows(body: Any, kind: str) -> list[Mapping[str, Any]]:
    if not isinstance(body, list):
        raise MalformedError(kind, "body", f"{type(body).__name__} is not a list")
    return [mapping_of(row, kind, "row") for row in body]


def _unread(at_ns: int, since_ns: int, text: str) -> AccountReported:
    nothing: Decimal | None = None
    return AccountReported(at_ns, nothing, nothing, nothing, nothing, None, None, (), (), (), since_ns, text)

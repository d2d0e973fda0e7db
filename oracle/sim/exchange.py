"""The exchange: accepts, matches, settles. Pure state, no I/O, no clock but the one it is told.

Inputs: request bodies and ``step(at_ns)`` after the market source has advanced. Outputs: reply bodies and, through
``drain``, trade-update messages in order. Invariants: ids depend on the seed and the client's ids only; the same inputs
give the same outputs; an order posted is matched at once against the quote of the moment, resting ones after each step.
"""

from bisect import bisect_right
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from oracle.core.instruments import is_option, parse_occ
from oracle.core.sessions import NS, Session, SessionTable
from oracle.sim import checks
from oracle.sim.accounts import Account
from oracle.sim.book import OrderBook
from oracle.sim.config import ExchangeConfig
from oracle.sim.errors import RefusedError, invalid, not_found, unprocessable
from oracle.sim.faultplan import Fault
from oracle.sim.fills import Fills
from oracle.sim.intake import (
    LegRequest,
    OrderRequest,
    check_increment,
    read_client_id,
    read_order,
    read_price,
    read_qty,
)
from oracle.sim.matching import Line
from oracle.sim.orders import Order, OrderLeg, order_json
from oracle.sim.settlement import SessionEnd
from oracle.sim.shapes import make_id, namespace
from oracle.sim.source import Listing, MarketSource
from oracle.sim.transfers import Transfers
from oracle.sim.valuation import Valuation

if TYPE_CHECKING:
    from oracle.sim.faults import Faults

PRE_OPEN_NS = 600 * NS
POST_CLOSE_NS = 300 * NS
GTC_LIFE_NS = 90 * 86_400 * NS


class Exchange:
    """One account trading against one market source. ``now_ns`` is exchange time."""

    def __init__(self, config: ExchangeConfig, source: MarketSource, table: SessionTable) -> None:
        self.config = config
        self.source = source
        self.table = table
        self.space = namespace(config.seed)
        self.session: Session = source.sessions[0]
        self.now_ns = self.session.open_ns - PRE_OPEN_NS
        cash = config.starting_cash_usd
        account_id = make_id(self.space, "account", config.account_number)
        self.account = Account(account_id, config.account_number, self.now_ns, cash, cash)
        self.book = OrderBook()
        self.valuation = Valuation(self.account, source, self.space)
        self._end = SessionEnd(self)
        self.transfers = Transfers(self)
        self.fills = Fills(self)
        self.faults: Faults | None = None  # set by the faults themselves, when there are any
        self._listings: dict[str, dict[str, Listing]] = {}
        self._listings_date = ""
        self._waiting_for_open = False

    # -- time ---------------------------------------------------------------------------------------------------

    def step(self, at_ns: int) -> None:
        """Move exchange time to ``at_ns`` after the source has advanced there: open, match, expire, settle."""
        self.now_ns = at_ns
        if at_ns > self.session.close_ns:
            sessions = self.source.sessions
            later = bisect_right(sessions, at_ns, key=lambda s: s.open_ns - PRE_OPEN_NS)
            if later and sessions[later - 1] is not self.session:
                self._end.finish(self.session)
                self.session = sessions[later - 1]
                self.account.reveal(at_ns)
                self._end.begin(self.session)
        if self.session.is_open(at_ns):
            if self._waiting_for_open:
                self._open_session()
            if self.book.working:
                self._match_resting()
            if self.faults is not None:
                self.faults.take_legs()
        self._end.on_time(at_ns)
        self.transfers.on_time(at_ns)

    @staticmethod
    def starts_ns(session: Session) -> int:
        """When a session's day begins here: before it nothing of that day happens or is told."""
        return session.open_ns - PRE_OPEN_NS

    def drain(self) -> list[dict[str, Any]]:
        """Trade updates (the ``data`` of the stream's messages) since the last call, in order."""
        return self.fills.drain()

    @property
    def is_open(self) -> bool:
        """Whether regular trading is on."""
        return self.session.is_open(self.now_ns)

    def _open_session(self) -> None:
        self._waiting_for_open = False
        for order in list(self.book.working.values()):
            if order.status == "accepted":
                self.fills.apply(order, "new")

    def _match_resting(self) -> None:
        for order in list(self.book.working.values()):
            self.fills.attempt(order)

    # -- instruments --------------------------------------------------------------------------------------------

    def chain(self, underlying: str) -> dict[str, Listing]:
        """Listings of an underlying on the session's date by symbol; empty when there are none."""
        if self._listings_date != self.session.date:
            self._listings, self._listings_date = {}, self.session.date
        found = self._listings.get(underlying)
        if found is None:
            rows = self.source.listings(underlying, self.session.date) if underlying in self.source.symbols else ()
            found = self._listings[underlying] = {row.symbol: row for row in rows}
        return found

    def listing(self, symbol: str) -> Listing | None:
        """The listing of an option symbol today, or None."""
        return self.chain(parse_occ(symbol).root).get(symbol)

    def is_tradable(self, symbol: str) -> bool:
        """Whether a stock is served or an option is listed today."""
        return self.listing(symbol) is not None if is_option(symbol) else symbol in self.source.symbols

    def asset_id(self, symbol: str) -> str:
        """The id of a stock or option."""
        return make_id(self.space, "asset", symbol)

    # -- orders -------------------------------------------------------------------------------------------------

    def submit(self, body: object) -> dict[str, Any]:
        """Accept an order: the reply's body, before any event of its life.

        Raises:
            RefusedError: the order is refused and leaves no trace.
        """
        request = read_order(body, self.config.options_gtc)
        if request.client_order_id is not None:
            self.book.check_client_id(request.client_order_id)
        return self._accept(request)

    def _accept(self, request: OrderRequest, replaced: Order | None = None) -> dict[str, Any]:
        others = [o for o in self.book.working.values() if o is not replaced]
        if request.is_mleg and self._strikes("refuse_mleg") is not None:
            raise RefusedError(403, 40310000, "submit mleg order is disabled")
        intents, hold = self._check(request, others)
        order = self._make(request, intents, hold)
        if replaced is not None:
            order.replaces, replaced.replaced_by = replaced.id, order.id
            self.fills.apply(replaced, "replaced")
        self.book.add(order)
        reply = order_json(order)
        if request.is_mleg:
            capped = self._strikes("partial_mleg")
            order.most = None if capped is None else capped.units
        if request.is_mleg and self._strikes("reject_mleg") is not None:
            self.fills.apply(order, "rejected")
        elif order.status == "pending_new":
            self.fills.apply(order, "new")
            self.fills.attempt(order)
        else:
            self._waiting_for_open = True
        return reply

    def _strikes(self, kind: str) -> Fault | None:
        """The fault of a kind that strikes a submission now, or None."""
        return None if self.faults is None else self.faults.first(kind, "submit")

    def _check(self, request: OrderRequest, others: list[Order]) -> tuple[list[str], Decimal]:
        symbols = [leg.line.symbol for leg in request.legs]
        for symbol in symbols:
            if not self.is_tradable(symbol):
                raise unprocessable(f'asset "{symbol}" not found')
        self._check_increments(request)
        checks.check_hours(request, self.session, self.now_ns)
        intents = checks.resolve_intents(request.legs, self.account)
        checks.check_expiry(request.legs, intents, self.session, self.now_ns, self.table)
        checks.check_quantities(request, intents, self.account, others)
        checks.check_level(request, intents, self.config.options_level)
        checks.check_wash_trade(request, others)
        checks.check_covered_call(request, intents, self.account, others)
        unit = checks.unit_cost(request, [self.source.touch(s) for s in symbols])
        marks = self.valuation.marks()
        for symbol in {*symbols, *(line.symbol for o in others for line in o.lines)} - marks.keys():
            if not is_option(symbol):
                found = self.valuation.mark(symbol)
                marks[symbol] = abs(unit) if found is None else found
        checks.check_cover(request, self.account, marks, others)
        hold = checks.hold_for(
            request, unit, self.account, marks,
            opens=any(intent.endswith("_to_open") for intent in intents),
            available_usd=self.valuation.buying_power(others),
        )  # fmt: skip
        return intents, hold

    def _check_increments(self, request: OrderRequest) -> None:
        symbol = None if request.is_mleg else request.legs[0].line.symbol
        row = self.listing(symbol) if symbol is not None and is_option(symbol) else None
        penny = row.penny_class if row is not None else False
        check_increment(symbol, request.limit_price, penny, "limit_price")
        check_increment(symbol, request.stop_price, penny, "stop_price")

    def _make(self, request: OrderRequest, intents: list[str], hold_usd: Decimal) -> Order:
        sequence = len(self.book.orders) + 1
        client_id = request.client_order_id or make_id(self.space, "client", str(sequence))
        order_id = make_id(self.space, "order", client_id)
        legs = []
        for index, (leg, intent) in enumerate(zip(request.legs, intents, strict=True)):
            own = f"{client_id}/{index}"
            leg_id = make_id(self.space, "leg", own) if request.is_mleg else order_id
            leg_client = make_id(self.space, "leg-client", own) if request.is_mleg else client_id
            legs.append(OrderLeg(leg_id, leg_client, self.asset_id(leg.line.symbol), leg.line, intent))
        session = self.table.current_or_next(self.now_ns)
        close_ns = self.now_ns if session is None else session.close_ns
        return Order(
            id=order_id,
            client_order_id=client_id,
            sequence=sequence,
            order_class=request.order_class,
            type=request.type,
            tif=request.tif,
            qty=request.qty,
            legs=legs,
            limit_price=request.limit_price,
            stop_price=request.stop_price,
            extended_hours=request.extended_hours,
            status="pending_new" if self.is_open else "accepted",
            created_ns=self.now_ns,
            updated_ns=self.now_ns,
            expires_ns=close_ns if request.tif == "day" else self.now_ns + GTC_LIFE_NS,
            hold_usd=hold_usd,
        )

    def replace(self, order_id: str, body: object) -> dict[str, Any]:
        """Replace a working order by a new one with a new id; its quantity is what is asked for less what was filled.

        Raises:
            RefusedError: 404 unknown, 403 mleg replace switched off, 422 not replaceable or nothing changed.
        """
        if not isinstance(body, Mapping):
            raise invalid("request body format is invalid")
        if self.book.is_leg(order_id):
            raise unprocessable("leg orders cannot be replaced")
        old = self.book.find(order_id)
        self._check_replaceable(old)
        client_id = read_client_id(body.get("client_order_id"))
        if client_id is not None:
            self.book.check_client_id(client_id)
        qty = old.qty if body.get("qty") is None else read_qty(body.get("qty"))
        limit = read_price(body.get("limit_price"), "limit_price")
        stop = read_price(body.get("stop_price"), "stop_price")
        limit = old.limit_price if limit is None else limit
        stop = old.stop_price if stop is None else stop
        tif = body.get("time_in_force") or old.tif
        if (qty, limit, stop, tif) == (old.qty, old.limit_price, old.stop_price, old.tif):
            raise unprocessable("order parameters are not changed")
        if qty <= old.filled:
            raise unprocessable("qty must be > filled_qty")
        shape: dict[str, Any] = {
            "order_class": old.order_class,
            "type": old.type,
            "time_in_force": tif,
            "qty": qty - old.filled,
            "limit_price": limit,
            "stop_price": stop,
        }
        if client_id is not None:
            shape["client_order_id"] = client_id
        request = read_order({**shape, **_legs_body(old)}, self.config.options_gtc)
        return self._accept(request, replaced=old)

    def _check_replaceable(self, old: Order) -> None:
        if old.is_mleg and not self.config.mleg_replace:
            raise RefusedError(403, 40310000, "replace mleg order is disabled")
        if old.status == "replaced":
            raise unprocessable("order already replaced")
        if old.status not in ("new", "partially_filled"):
            raise unprocessable(f"cannot replace order in {old.status} status")

    def cancel(self, order_id: str) -> None:
        """Cancel a working order at once.

        Raises:
            RefusedError: 404 unknown, 422 a leg or a done order.
        """
        if self.book.is_leg(order_id):
            raise unprocessable("leg orders cannot be canceled individually")
        order = self.book.find(order_id)
        if not order.working:
            raise unprocessable(f'order is already in "{order.status}" state')
        self.fills.apply(order, "canceled")

    def cancel_all(self) -> list[dict[str, Any]]:
        """Cancel every working order; one row each, as a 207 body."""
        rows = []
        for order in list(self.book.working.values()):
            self.fills.apply(order, "canceled")
            rows.append({"id": order.id, "status": 200})
        return rows

    def cancel_closing(self, symbol: str) -> None:
        """Cancel the client's orders that would close what the broker closes or what is assigned."""
        for order in list(self.book.working.values()):
            if order.held_units(symbol, 1) or order.held_units(symbol, -1):
                self.fills.apply(order, "canceled")

    def close_position(self, symbol: str, qty: int | None) -> dict[str, Any]:
        """Send a market order that closes a position (or ``qty`` of it).

        Raises:
            RefusedError: 404 no position, or whatever refuses the order.
        """
        held = self.account.positions.get(symbol)
        if held is None:
            raise not_found("position does not exist")
        side = "sell" if held.quantity > 0 else "buy"
        quantity = abs(held.quantity) if qty is None else qty
        body = {"symbol": symbol, "qty": quantity, "side": side, "type": "market", "time_in_force": "day"}
        return self.submit(body)

    def sell_out(self, symbol: str, quantity: int, tag: str) -> None:
        """Place the broker's own market order to close, in place of the client's; its updates are like any other's."""
        self.cancel_closing(symbol)
        sign = -1 if self.account.quantity(symbol) > 0 else 1
        request = OrderRequest(
            legs=(LegRequest(Line(symbol, sign, 1), None),),
            order_class="simple",
            type="market",
            tif="day",
            qty=quantity,
            limit_price=None,
            stop_price=None,
            client_order_id=make_id(self.space, "broker", f"{tag}/{symbol}/{len(self.book.orders)}"),
            extended_hours=False,
        )
        intent = checks.infer_intent(sign, self.account.quantity(symbol))
        order = self._make(request, [intent], Decimal(0))
        order.source = "liquidation"
        self.book.add(order)
        self.fills.apply(order, "new")
        self.fills.attempt(order)


def _legs_body(old: Order) -> dict[str, Any]:
    """The legs of an order as a request body would write them."""
    if not old.is_mleg:
        return {"symbol": old.legs[0].line.symbol, "side": old.legs[0].side}
    rows = [{"symbol": g.line.symbol, "ratio_qty": g.line.ratio, "side": g.side} for g in old.legs]
    return {"legs": rows}

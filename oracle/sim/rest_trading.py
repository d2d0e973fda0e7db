"""Trading endpoints: orders, positions, account, activities. Reads requests, asks the exchange, writes shapes."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from oracle.core.errors import RemoteError
from oracle.core.money import decimal_from_text
from oracle.core.sessions import NS
from oracle.sim.accounts import Activity
from oracle.sim.errors import RefusedError, invalid, not_found
from oracle.sim.exchange import Exchange
from oracle.sim.intake import read_qty
from oracle.sim.rest import Call, Endpoint, Reply
from oracle.sim.shapes import new_york, parse_instant

DEFAULT_CONFIGURATION: dict[str, Any] = {
    "dtbp_check": "entry",
    "trade_confirm_email": "none",
    "suspend_trade": False,
    "no_shorting": False,
    "fractional_trading": False,
    "max_margin_multiplier": "1",
    "pdt_check": "entry",
    "ptp_no_exception_entry": False,
}


class TradingApi:
    """The account's endpoints."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> list[tuple[str, str, Endpoint]]:
        """(method, path, endpoint) of each."""
        return [
            ("POST", "/v2/orders", self.submit),
            ("GET", "/v2/orders", self.orders),
            ("DELETE", "/v2/orders", self.cancel_all),
            ("GET", "/v2/orders:by_client_order_id", self.order_by_client_id),
            ("GET", "/v2/orders/{order_id}", self.order),
            ("PATCH", "/v2/orders/{order_id}", self.replace),
            ("DELETE", "/v2/orders/{order_id}", self.cancel),
            ("GET", "/v2/positions", self.positions),
            ("DELETE", "/v2/positions", self.close_all),
            ("GET", "/v2/positions/{symbol}", self.position),
            ("DELETE", "/v2/positions/{symbol}", self.close),
            ("GET", "/v2/account", self.account),
            ("GET", "/v2/account/configurations", self.configuration),
            ("GET", "/v2/account/portfolio/history", self.portfolio_history),
            ("GET", "/v2/account/activities", self.activities),
            ("GET", "/v2/account/activities/{kind}", self.activities),
        ]

    # -- orders -------------------------------------------------------------------------------------------------

    def submit(self, call: Call) -> Reply:
        """POST /v2/orders."""
        return Reply(self._exchange.submit(call.body))

    def orders(self, call: Call) -> Reply:
        """GET /v2/orders; mleg orders are always rolled up."""
        direction = call.text("direction") or "desc"
        if direction not in ("asc", "desc"):
            raise invalid("invalid direction")
        after, until = call.text("after"), call.text("until")
        rows = self._exchange.book.query(
            status=call.text("status") or "open",
            limit=call.whole("limit", 50, 1, 500),
            after_ns=None if after is None else parse_instant(after, "after"),
            until_ns=None if until is None else parse_instant(until, "until"),
            newest_first=direction == "desc",
            side=call.text("side"),
            symbols=call.symbols(),
        )
        return Reply(rows)

    def order(self, call: Call) -> Reply:
        """GET /v2/orders/{id}."""
        return Reply(self._exchange.book.show(call.path["order_id"]))

    def order_by_client_id(self, call: Call) -> Reply:
        """GET /v2/orders:by_client_order_id."""
        name = call.text("client_order_id")
        if name is None:
            raise invalid("client_order_id is required")
        return Reply(self._exchange.book.show_by_client_id(name))

    def replace(self, call: Call) -> Reply:
        """PATCH /v2/orders/{id}."""
        return Reply(self._exchange.replace(call.path["order_id"], call.body))

    def cancel(self, call: Call) -> Reply:
        """DELETE /v2/orders/{id}."""
        self._exchange.cancel(call.path["order_id"])
        return Reply(None, 204)

    def cancel_all(self, _call: Call) -> Reply:
        """DELETE /v2/orders."""
        return Reply(self._exchange.cancel_all(), 207)

    # -- positions ----------------------------------------------------------------------------------------------

    def _symbol(self, name: str) -> str:
        """A position's symbol, by symbol or asset id."""
        held = self._exchange.account.positions
        if name in held:
            return name
        for symbol in held:
            if self._exchange.asset_id(symbol) == name.lower():
                return symbol
        raise not_found("position does not exist")

    def _position_json(self, symbol: str) -> dict[str, Any]:
        position = self._exchange.account.positions[symbol]
        sign = -1 if position.quantity > 0 else 1
        held = sum(o.held_units(symbol, sign) for o in self._exchange.book.working.values())
        return self._exchange.valuation.position_json(position, held)

    def positions(self, _call: Call) -> Reply:
        """GET /v2/positions."""
        return Reply([self._position_json(s) for s in sorted(self._exchange.account.positions)])

    def position(self, call: Call) -> Reply:
        """GET /v2/positions/{symbol or asset id}."""
        return Reply(self._position_json(self._symbol(call.path["symbol"])))

    def close(self, call: Call) -> Reply:
        """DELETE /v2/positions/{symbol or asset id}?qty or percentage."""
        symbol = self._symbol(call.path["symbol"])
        qty, share = call.text("qty"), call.text("percentage")
        if qty is not None and share is not None:
            raise invalid("only one of qty and percentage is allowed")
        units = None if qty is None else read_qty(qty)
        if share is not None:
            units = self._share(symbol, share)
        return Reply(self._exchange.close_position(symbol, units))

    def _share(self, symbol: str, text: str) -> int:
        try:
            percent = decimal_from_text(text, "percentage")
        except RemoteError:
            raise invalid("invalid percentage") from None
        if not 0 < percent <= 100:
            raise invalid("percentage must be above 0 and at most 100")
        units = int(abs(self._exchange.account.quantity(symbol)) * percent / Decimal(100))
        if units == 0:
            raise RefusedError(422, 42210000, "percentage is less than one whole unit")
        return units

    def close_all(self, call: Call) -> Reply:
        """DELETE /v2/positions?cancel_orders; shorts first, so that no short loses its cover on the way."""
        if (call.text("cancel_orders") or "").lower() == "true":
            self._exchange.cancel_all()
        held = self._exchange.account.positions
        rows = []
        for symbol in sorted(held, key=lambda s: (held[s].quantity > 0, s)):
            try:
                rows.append({"symbol": symbol, "status": 200, "body": self._exchange.close_position(symbol, None)})
            except RefusedError as refusal:
                rows.append({"symbol": symbol, "status": refusal.status, "body": refusal.body()})
        return Reply(rows, 207)

    # -- account ------------------------------------------------------------------------------------------------

    def account(self, _call: Call) -> Reply:
        """GET /v2/account."""
        working = self._exchange.book.working.values()
        return Reply(self._exchange.valuation.account_json(working, self._exchange.config.options_level))

    def configuration(self, _call: Call) -> Reply:
        """GET /v2/account/configurations."""
        return Reply({**DEFAULT_CONFIGURATION, "max_options_trading_level": self._exchange.config.options_level})

    def portfolio_history(self, _call: Call) -> Reply:
        """GET /v2/account/portfolio/history: closing equity per session and the present, timeframe 1D."""
        exchange = self._exchange
        base = exchange.config.starting_cash_usd
        rows = [*exchange.account.equity_history]
        if not rows or rows[-1][0] < exchange.now_ns:
            rows.append((exchange.now_ns, exchange.valuation.equity()))
        gains = [equity - base for _, equity in rows]
        return Reply(
            {
                "timestamp": [at // NS for at, _ in rows],
                "equity": [float(equity) for _, equity in rows],
                "profit_loss": [float(g) for g in gains],
                "profit_loss_pct": [float(g / base) if base != 0 else None for g in gains],
                "base_value": float(base),
                "base_value_asof": new_york(exchange.account.created_ns).date().isoformat(),
                "timeframe": "1D",
            }
        )

    def activities(self, call: Call) -> Reply:
        """GET /v2/account/activities[/{type}]?after&until&date&direction&page_size&page_token&activity_types."""
        kind = call.path.get("kind")
        kinds = call.symbols("activity_types") if kind is None else [kind]
        direction = call.text("direction") or "desc"
        if direction not in ("asc", "desc"):
            raise invalid("invalid direction")
        rows = [a for a in _within(call, self._exchange.account.activities) if kinds is None or a.kind in kinds]
        if direction == "desc":
            rows.reverse()
        token = call.text("page_token")
        if token is not None:
            place = next((i for i, a in enumerate(rows) if a.id == token), None)
            if place is None:
                raise invalid("invalid page_token")
            rows = rows[place + 1 :]
        return Reply([a.body for a in rows[: call.whole("page_size", 100, 1, 100)]])


def _within(call: Call, activities: Sequence[Activity]) -> Iterable[Activity]:
    """Activities of the asked interval, oldest first."""
    after, until, date = call.text("after"), call.text("until"), call.text("date")
    first = 0 if after is None else bisect_right(activities, parse_instant(after, "after"), key=_at_ns)
    end = len(activities) if until is None else bisect_left(activities, parse_instant(until, "until"), key=_at_ns)
    rows = activities[first:end]
    return rows if date is None else [a for a in rows if _date(a) == date]


def _date(activity: Activity) -> str:
    """The New York date of an activity: its own for what is not a trade, which may be told later."""
    return str(activity.body.get("date") or new_york(activity.at_ns).date().isoformat())


def _at_ns(activity: Activity) -> int:
    return activity.at_ns

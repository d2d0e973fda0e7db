"""Reference endpoints: clock, calendar, assets, option contracts; and the simulator's own (``/sim/v1``)."""

import datetime as dt
from decimal import Decimal
from typing import Any

from oracle.core.errors import RemoteError
from oracle.core.instruments import is_option, parse_occ
from oracle.core.money import decimal_from_text
from oracle.core.sessions import Session
from oracle.sim.errors import RefusedError, invalid, not_found
from oracle.sim.exchange import Exchange
from oracle.sim.rest import Call, Endpoint, Reply
from oracle.sim.shapes import money, new_york, rfc3339
from oracle.sim.source import Listing


def read_date(call: Call, name: str) -> str | None:
    """An ISO date parameter (a longer instant is cut to its date), None when absent.

    Raises:
        RefusedError: 422, not a date.
    """
    text = call.text(name)
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text[:10]).isoformat()
    except ValueError:
        raise invalid(f"invalid {name}: {text}") from None


def _read_strike(call: Call, name: str) -> Decimal | None:
    text = call.text(name)
    if text is None:
        return None
    try:
        return decimal_from_text(text, name)
    except RemoteError:
        raise invalid(f"invalid {name}: {text}") from None


class ContractFilter:
    """The filters that contracts and chain snapshots share: type, strikes, expiries, root."""

    def __init__(self, call: Call) -> None:
        kind = call.text("type")
        if kind not in (None, "call", "put"):
            raise invalid(f"invalid type: {kind}")
        self._right = None if kind is None else kind[0].upper()
        self._root = call.text("root_symbol")
        self._low = _read_strike(call, "strike_price_gte")
        self._high = _read_strike(call, "strike_price_lte")
        self._on = read_date(call, "expiration_date")
        self._from = read_date(call, "expiration_date_gte")
        self._to = read_date(call, "expiration_date_lte")

    @property
    def names_expiry(self) -> bool:
        """Whether any expiry filter was given."""
        return any(d is not None for d in (self._on, self._from, self._to))

    def until(self, date: str) -> None:
        """Set the latest expiry where the request names none."""
        self._to = date

    def keeps(self, row: Listing) -> bool:
        """Whether a listing passes."""
        strike = Decimal(row.strike_milli) / 1000
        return (
            (self._right is None or row.right == self._right)
            and (self._root is None or parse_occ(row.symbol).root == self._root)
            and (self._low is None or strike >= self._low)
            and (self._high is None or strike <= self._high)
            and (self._on is None or row.expiry == self._on)
            and (self._from is None or row.expiry >= self._from)
            and (self._to is None or row.expiry <= self._to)
        )


class ReferenceApi:
    """Endpoints of the trading API that describe the market rather than the account."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> list[tuple[str, str, Endpoint]]:
        """(method, path, endpoint) of each."""
        return [
            ("GET", "/v2/clock", self.clock),
            ("GET", "/v2/calendar", self.calendar),
            ("GET", "/v2/assets", self.assets),
            ("GET", "/v2/assets/{symbol}", self.asset),
            ("GET", "/v2/options/contracts", self.contracts),
            ("GET", "/v2/options/contracts/{symbol}", self.contract),
        ]

    def clock(self, _call: Call) -> Reply:
        """GET /v2/clock, in exchange time."""
        now, table = self._exchange.now_ns, self._exchange.table
        trading = table.open_at(now)
        coming = table.current_or_next(now)
        following = table.after(trading.date) if trading is not None else coming
        return Reply(
            {
                "timestamp": new_york(now).isoformat(),
                "is_open": trading is not None,
                "next_open": None if following is None else new_york(following.open_ns).isoformat(),
                "next_close": None if coming is None else new_york(coming.close_ns).isoformat(),
            }
        )

    def calendar(self, call: Call) -> Reply:
        """GET /v2/calendar?start&end (both inclusive)."""
        start, end = read_date(call, "start") or "0000", read_date(call, "end") or "9999"
        days = [s for s in self._exchange.table.sessions if start <= s.date <= end]
        return Reply([self._day_json(s) for s in days])

    def _day_json(self, session: Session) -> dict[str, Any]:
        settles = self._exchange.table.after(session.date)
        return {
            "date": session.date,
            "open": new_york(session.open_ns).strftime("%H:%M"),
            "close": new_york(session.close_ns).strftime("%H:%M"),
            "session_open": "0400",
            "session_close": "1700" if session.is_half_day else "2000",
            "settlement_date": None if settles is None else settles.date,
        }

    # -- assets -------------------------------------------------------------------------------------------------

    def assets(self, call: Call) -> Reply:
        """GET /v2/assets?status&asset_class: the stocks that the source serves."""
        if call.text("status") == "inactive" or call.text("asset_class") not in (None, "us_equity"):
            return Reply([])
        return Reply([self._asset_json(s) for s in self._exchange.source.symbols])

    def asset(self, call: Call) -> Reply:
        """GET /v2/assets/{symbol or id}."""
        name = call.path["symbol"]
        for symbol in self._exchange.source.symbols:
            if name in (symbol, self._exchange.asset_id(symbol)):
                return Reply(self._asset_json(symbol))
        if is_option(name) and self._exchange.listing(name) is not None:
            return Reply(self._asset_json(name))
        raise not_found(f"asset not found for {name}")

    def _asset_json(self, symbol: str) -> dict[str, Any]:
        option = is_option(symbol)
        has_options = not option and bool(self._exchange.chain(symbol))
        return {
            "id": self._exchange.asset_id(symbol),
            "class": "us_option" if option else "us_equity",
            "exchange": "OPRA" if option else "ARCA",
            "symbol": symbol,
            "name": symbol,
            "status": "active",
            "tradable": True,
            "marginable": False,
            "maintenance_margin_requirement": 100,
            "shortable": not option,
            "easy_to_borrow": not option,
            "fractionable": False,
            "attributes": ["has_options"] if has_options else [],
        }

    # -- contracts ----------------------------------------------------------------------------------------------

    def contracts(self, call: Call) -> Reply:
        """GET /v2/options/contracts; without an expiry filter, expiries up to the coming weekend as at the vendor."""
        keep = ContractFilter(call)
        if not keep.names_expiry:
            today = dt.date.fromisoformat(self._exchange.session.date)
            keep.until((today + dt.timedelta(days=6 - today.weekday())).isoformat())
        limit = call.whole("limit", 100, 1, 10_000)
        names = call.symbols("underlying_symbols")
        underlyings = sorted(self._exchange.source.symbols if names is None else set(names))
        if call.text("status") == "inactive":
            underlyings = []
        token = call.text("page_token") or ""
        rows = [r for u in underlyings for r in self._exchange.chain(u).values() if keep.keeps(r)]
        rows = sorted((r for r in rows if r.symbol > token), key=lambda r: r.symbol)
        page = rows[:limit]
        following = page[-1].symbol if len(rows) > limit else None
        return Reply({"option_contracts": [self._contract_json(r) for r in page], "next_page_token": following})

    def contract(self, call: Call) -> Reply:
        """GET /v2/options/contracts/{symbol or id}."""
        name = call.path["symbol"]
        if is_option(name):
            row = self._exchange.listing(name)
            if row is not None:
                return Reply(self._contract_json(row))
        else:
            for underlying in self._exchange.source.symbols:
                for row in self._exchange.chain(underlying).values():
                    if self._exchange.asset_id(row.symbol) == name.lower():
                        return Reply(self._contract_json(row))
        raise not_found(f"option contract not found for {name}")

    def _contract_json(self, row: Listing) -> dict[str, Any]:
        contract = parse_occ(row.symbol)
        expiry = dt.date.fromisoformat(row.expiry)
        strike = money(contract.strike_usd)
        word = "call" if contract.is_call else "put"
        earlier = self._exchange.table.before(self._exchange.session.date)
        closed_on = earlier[-1].date if earlier else None
        return {
            "id": self._exchange.asset_id(row.symbol),
            "symbol": row.symbol,
            "name": f"{row.underlying} {expiry:%b %d %Y} {strike} {word.title()}",
            "status": "active",
            "tradable": True,
            "expiration_date": row.expiry,
            "root_symbol": contract.root,
            "underlying_symbol": row.underlying,
            "underlying_asset_id": self._exchange.asset_id(row.underlying),
            "type": word,
            "style": "american",
            "strike_price": strike,
            "multiplier": "100",
            "size": "100",
            "open_interest": None if row.open_interest is None else str(row.open_interest),
            "open_interest_date": row.open_interest_date,
            "close_price": None if row.close_price is None else str(row.close_price),
            "close_price_date": None if row.close_price is None else closed_on,
            "ppind": row.penny_class,
        }


class SimulatorApi:
    """What no vendor has: planted truths, daily IV, a summary of the account for tests and demonstrations."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> list[tuple[str, str, Endpoint]]:
        """(method, path, endpoint) of each."""
        return [
            ("GET", "/sim/v1/state", self.state),
            ("GET", "/sim/v1/declared", self.declared),
            ("GET", "/sim/v1/daily_iv/{underlying}", self.daily_iv),
            ("POST", "/sim/v1/transfers", self.transfer),
        ]

    def state(self, _call: Call) -> Reply:
        """GET /sim/v1/state."""
        exchange = self._exchange
        account, orders = exchange.account, exchange.book.orders
        return Reply(
            {
                "at_ns": exchange.now_ns,
                "at": rfc3339(exchange.now_ns),
                "session": exchange.session.date,
                "is_open": exchange.is_open,
                "cash": money(account.cash_usd),
                "equity": money(exchange.valuation.equity()),
                "fees": money(account.fees_usd),
                "positions": {s: str(q) for s, q in sorted(account.quantities().items())},
                "orders": len(orders),
                "open_orders": len(exchange.book.working),
                "fills": sum(a.kind == "FILL" for a in account.activities),
            }
        )

    def transfer(self, call: Call) -> Reply:
        """POST /sim/v1/transfers: a deposit or withdrawal now, as a bank would make it."""
        return Reply(self._exchange.transfers.ask(call.body))

    def declared(self, _call: Call) -> Reply:
        """GET /sim/v1/declared."""
        source = self._exchange.source
        return Reply({"declared": list(source.declared), "labels": list(source.labels)})

    def daily_iv(self, call: Call) -> Reply:
        """GET /sim/v1/daily_iv/{underlying}: 30-day at-the-money IV of earlier sessions, oldest first."""
        underlying = call.path["underlying"]
        if underlying not in self._exchange.source.symbols:
            raise RefusedError(404, 40410000, f"asset not found for {underlying}")
        rows = self._exchange.source.daily_iv(underlying)
        return Reply({"underlying": underlying, "daily_iv": [{"date": d, "iv": v} for d, v in rows]})

"""What the account is worth and may spend, and Alpaca's JSON of account and positions. Reads, never changes.

Marks: the mid when both sides are quoted, else the session's last trade, else the last mark known, else the average
entry. Equity = cash + quantity × mark × multiplier. Options buying power = cash − requirement of shorts − holds of
working orders. The account borrows nothing (multiplier 1), so stock buying power is the same figure.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from oracle.core.instruments import is_option, multiplier
from oracle.core.money import ZERO, price_from_float
from oracle.sim.accounts import Account, Position
from oracle.sim.margin import requirement
from oracle.sim.orders import Order
from oracle.sim.shapes import make_id, money, rfc3339
from oracle.sim.source import MarketSource

_SIX = Decimal("0.000001")


class Valuation:
    """Marks of an account's positions, remembered where the market falls silent."""

    __slots__ = ("_account", "_last_close", "_marks", "_source", "_space")

    def __init__(self, account: Account, source: MarketSource, space: Any) -> None:
        self._account = account
        self._source = source
        self._space = space
        self._marks: dict[str, Decimal] = {}
        self._last_close: dict[str, Decimal] = {}

    def mark(self, symbol: str) -> Decimal | None:
        """The mark of any symbol by the rules above, or None when nothing is known of it."""
        touch = self._source.touch(symbol)
        if touch is not None and touch.bid is not None and touch.ask is not None:
            self._marks[symbol] = (price_from_float(touch.bid) + price_from_float(touch.ask)) / 2
        elif symbol not in self._marks:
            last = self._source.last_print(symbol)
            if last is not None:
                return price_from_float(last.price)
            held = self._account.positions.get(symbol)
            return None if held is None else held.average_price
        elif (last := self._source.last_print(symbol)) is not None:
            return price_from_float(last.price)
        return self._marks[symbol]

    def marks(self) -> dict[str, Decimal]:
        """Marks of all positions."""
        return {s: self._position_mark(p) for s, p in self._account.positions.items()}

    def _position_mark(self, position: Position) -> Decimal:
        found = self.mark(position.symbol)
        return position.average_price if found is None else found

    def value(self, position: Position) -> Decimal:
        """Signed market value in USD."""
        return self._position_mark(position) * position.quantity * multiplier(position.symbol)

    def equity(self) -> Decimal:
        """Cash plus market value."""
        return self._account.cash_usd + sum((self.value(p) for p in self._account.positions.values()), ZERO)

    def required(self) -> Decimal:
        """What short positions require; uncovered ones count with the whole cash."""
        need = requirement(self._account.quantities(), self.marks())
        return self._account.cash_usd if need is None else need

    def buying_power(self, working: Iterable[Order]) -> Decimal:
        """Cash less requirement less holds; may be negative after losses."""
        held = sum((o.hold_usd * o.left / o.qty for o in working), ZERO)
        return (self._account.cash_usd - self.required() - held).quantize(Decimal("0.01"))

    def close_day(self) -> None:
        """Remember closing marks and equity as the prior day's."""
        self._last_close = self.marks()
        self._account.last_equity_usd = self.equity()

    def account_json(self, working: Iterable[Order], level: int) -> dict[str, Any]:
        """Alpaca's account."""
        account = self._account
        values = [self.value(p) for p in account.positions.values()]
        equity = account.cash_usd + sum(values, ZERO)
        spendable = money(max(self.buying_power(working), ZERO))
        need = money(self.required())
        return {
            "id": account.id,
            "account_number": account.number,
            "status": "ACTIVE",
            "crypto_status": "INACTIVE",
            "currency": "USD",
            "buying_power": spendable,
            "regt_buying_power": spendable,
            "non_marginable_buying_power": spendable,
            "options_buying_power": spendable,
            "options_approved_level": level,
            "options_trading_level": level,
            "cash": money(account.cash_usd),
            "accrued_fees": "0",
            "portfolio_value": money(equity),
            "trading_blocked": False,
            "transfers_blocked": False,
            "account_blocked": False,
            "created_at": rfc3339(account.created_ns),
            "trade_suspended_by_user": False,
            "multiplier": "1",
            "shorting_enabled": True,
            "equity": money(equity),
            "last_equity": money(account.last_equity_usd),
            "long_market_value": money(sum((v for v in values if v > 0), ZERO)),
            "short_market_value": money(sum((v for v in values if v < 0), ZERO)),
            "initial_margin": need,
            "maintenance_margin": need,
            "last_maintenance_margin": "0",
            "sma": "0",
        }

    def position_json(self, position: Position, held_for_orders: int) -> dict[str, Any]:
        """Alpaca's position; quantities and values of shorts are negative."""
        symbol = position.symbol
        option = is_option(symbol)
        mark, value = self._position_mark(position), self.value(position)
        gain = value - position.cost_usd
        ratio = gain / abs(position.cost_usd) if position.cost_usd != 0 else ZERO
        before = self._last_close.get(symbol)
        free = abs(position.quantity) - held_for_orders
        change = ZERO if before is None or before == 0 else mark / before - 1
        return {
            "asset_id": make_id(self._space, "asset", symbol),
            "symbol": symbol,
            "exchange": "" if option else "ARCA",
            "asset_class": "us_option" if option else "us_equity",
            "asset_marginable": False,
            "qty": str(position.quantity),
            "qty_available": str(free if position.quantity > 0 else -free),
            "avg_entry_price": money(position.average_price.quantize(_SIX)),
            "side": "long" if position.quantity > 0 else "short",
            "market_value": money(value),
            "cost_basis": money(position.cost_usd),
            "unrealized_pl": money(gain),
            "unrealized_plpc": money(ratio.quantize(_SIX)),
            "unrealized_intraday_pl": money(gain),
            "unrealized_intraday_plpc": money(ratio.quantize(_SIX)),
            "current_price": money(mark),
            "lastday_price": money(mark if before is None else before),
            "change_today": money(change.quantize(_SIX)),
        }

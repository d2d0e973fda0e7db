"""Round trips folded once more from orders, fills, settlements and exits, against what their rows keep of them.

Inputs: an open database. Outputs: the ledger's own TradeClosed for each trade that is over; faults that name their row.
Invariant: the arithmetic is ``core/trades.py`` alone; one bad row is told and left out, and the rest is folded on.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, Final, cast

import msgspec

from oracle.core.errors import InvariantError, OracleError
from oracle.core.messages import OrderFilled, SubmitOrder, TradeClosed
from oracle.core.money import from_micros
from oracle.core.structures import legs_of
from oracle.core.trades import Trade
from oracle.core.vocabulary import Purpose, Side
from oracle.store.rows import QUERIES, rounded_micros, row_of, settlement_of
from oracle.store.windows import newest_log_id, windows


class _Exit(msgspec.Struct, frozen=True):
    """What a trade must know of the order that ends it."""

    order_id: str
    trade_id: str
    strategy: str
    purpose: Purpose
    symbol: str
    side: Side
    contracts: int
    decision_mid_usd: Decimal | None


# What of a closed trade's row is a cache of its fold, by column.
CACHED: Final = (
    "closed_ns", "contracts", "entry_price_micros", "exit_price_micros", "gross_pnl_micros", "fees_broker_micros",
    "fees_modelled_micros", "slippage_micros", "slippage_bps", "exit_rule",
)  # fmt: skip
_PLAIN: Final = (
    "closed_ns",
    "contracts",
    "slippage_bps",
    "exit_rule",
    "strategy",
    "strategy_hash",
    "underlying",
    "symbol",
)
# What statistics read of an order's row, as its command says it.
_OF_ORDER: Final = (
    "purpose", "trade_id", "strategy", "strategy_hash", "planned_risk_micros", "worst_case_micros", "equity_micros",
)  # fmt: skip
_EVENTS: Final = ("check_fills", "check_settlements", "check_order_ends", "check_exits")
_EXIT: Final = msgspec.json.Decoder(_Exit)
_ORDER: Final = msgspec.json.Decoder(SubmitOrder)
_CLOSED: Final = msgspec.json.Decoder(TradeClosed)
# Prices and fees repeat.
_usd: Final = lru_cache(65_536)(from_micros)
_SIDES: Final = {side.value: side for side in Side}  # a tenth of what Side(text) takes
Row = tuple[Any, ...]
_NAMED: Final = ("strategy", "strategy_hash", "underlying", "symbol")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a stored row: its table, the row by its name and its log id, and what in words."""

    table: str
    row: str
    problem: str
    log_id: int | None = None

    def __str__(self) -> str:
        return f"{self.table} {self.row}: {self.problem}"


@dataclass(slots=True)
class RoundTrips:
    """The fold of all orders and executions; ``closed`` by trade id and opening."""

    closed: dict[tuple[str, int], TradeClosed] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    thorough: bool = False  # read every command whole, to find those that are no message
    _orders: dict[str, SubmitOrder] = field(default_factory=dict)
    _over: set[str] = field(default_factory=set)
    _open: dict[str, Trade] = field(default_factory=dict)

    def fold(self, db: sqlite3.Connection, progress: Callable[[int, int], None] = lambda *_: None) -> "RoundTrips":
        """Fold everything, telling which message of how many is done."""
        handlers: Mapping[str, Callable[[Row], None]] = {
            "order": self._on_order, "fill": self._on_fill, "settlement": partial(self._on_settlement, db),
            "end": self._on_end, "exit": self._on_exit,
        }  # fmt: skip
        total = newest_log_id(db)
        orders = "check_orders_whole" if self.thorough else "check_orders"
        for up_to, rows in windows(db, (orders, *_EVENTS)):
            for row in rows:
                try:
                    handlers[row[2]](row)
                except (OracleError, msgspec.MsgspecError, ArithmeticError, KeyError, ValueError, TypeError) as error:
                    text = str(error) if isinstance(error, OracleError) else f"{type(error).__name__}: {error}"
                    self.faults.append(Fault(_TABLES[row[2]], row[3], text, row[0]))
            progress(up_to, total)
        return self

    def _on_order(self, row: Row) -> None:
        # Of what ends a trade its few words are enough, and read in half the time.
        whole = row[5] == Purpose.ENTRY or self.thorough
        order = _ORDER.decode(row[4]) if whole else cast("SubmitOrder", _EXIT.decode(row[4]))
        self._orders[row[3]] = order
        if order.order_id != row[3]:
            raise InvariantError(f"its command is that of order {order.order_id}")
        if self.thorough:
            told = row_of(order)
            kept = dict(zip(_OF_ORDER, row[5:], strict=True))
            wrong = [
                f"{name} is {kept[name]!r}, by its command {told[name]!r}" for name in kept if kept[name] != told[name]
            ]
            if wrong:
                raise InvariantError("; ".join(wrong))

    def _on_fill(self, row: Row) -> None:
        (
            _, _, _, execution_id, order_id, trade_id, strategy, symbol, side, purpose, contracts, price, fees_broker,
            fees_modelled, at_ns,
        ) = row  # fmt: skip
        order = self._orders.get(order_id)
        if order is None:
            raise InvariantError(f"its order {order_id} is not on record, or not readable")
        if contracts <= 0:
            raise InvariantError(f"{contracts} contracts were executed")
        if order.trade_id != trade_id:
            raise InvariantError(f"it is booked to trade {trade_id}, its order belongs to {order.trade_id}")
        if (purpose, strategy) != (order.purpose, order.strategy) or not _is_leg(symbol, order.symbol):
            raise InvariantError(
                f"it is {purpose} of {symbol} by {strategy}, "
                f"its order {order.purpose} of {order.symbol} by {order.strategy}"
            )
        trade = self._open.get(trade_id)
        if trade is None:
            if order.purpose is not Purpose.ENTRY or order.exit_plan is None:
                return  # more than was held: the account's, not a trade's
            trade = self._open[trade_id] = Trade(order, order.exit_plan, at_ns, order_id in self._over)
        fill = OrderFilled(
            execution_id, order_id, "", "", trade_id, strategy, symbol, _SIDES[side],
            order.purpose, contracts, _usd(price), _usd(fees_broker), _usd(fees_modelled), at_ns,
        )  # fmt: skip
        trade.fill(order, fill)
        self._close_if_flat(trade, at_ns)

    def _on_settlement(self, db: sqlite3.Connection, row: Row) -> None:
        settled = settlement_of(db.execute(QUERIES["check_settlement"], {"log_id": row[0]}).fetchone())
        trade = self._open.get(settled.trade_id)
        if trade is None:
            return
        held = trade.held.get(settled.symbol, 0)
        if settled.contracts > abs(held):
            raise InvariantError(f"it settles {settled.contracts} of {held} held of {settled.symbol}")
        trade.settle(settled)
        self._close_if_flat(trade, settled.at_ns)

    def _on_end(self, row: Row) -> None:
        _, _, _, order_id, trade_id, at_ns = row
        self._over.add(order_id)
        trade = self._open.get(trade_id)
        if trade is not None:
            trade.end_entry()
            self._close_if_flat(trade, at_ns)

    def _on_exit(self, row: Row) -> None:
        trade = self._open.get(row[3])
        if trade is not None:
            trade.note_exit(row[4])

    def _close_if_flat(self, trade: Trade, at_ns: int) -> None:
        if trade.entry_over and trade.is_flat:
            del self._open[trade.entry.trade_id]
            self.closed[trade.entry.trade_id, trade.opened_ns] = trade.closed(at_ns)

    @property
    def open(self) -> set[tuple[str, int]]:
        """Trades that are open by the fold, by trade id and opening."""
        return {(trade_id, trade.opened_ns) for trade_id, trade in self._open.items()}


def differences(db: sqlite3.Connection, folded: RoundTrips) -> Iterator[tuple[Fault, dict[str, Any] | None]]:
    """Compare the rows of trades with the fold: each fault, and the values that would mend it, if any would."""
    left, still_open = dict(folded.closed), folded.open
    for row in db.execute(QUERIES["check_trades"]):
        name = (row["trade_id"], row["opened_ns"])
        told = left.pop(name, None)
        if row["closed_log_id"] is None:
            if name not in still_open:
                what = "is flat by its fills and has no end" if told is not None else "has no fills that opened it"
                yield Fault("trades", row["trade_id"], what, row["log_id"]), None
        elif told is None:
            what = "is over, and by its fills it is open" if name in still_open else "has no fills that make it"
            yield Fault("trades", row["trade_id"], what, row["log_id"]), None
        else:
            if _matches(row, told):
                continue
            values = {**row_of(told), "message": msgspec.json.encode(told).decode(), "log_id": row["log_id"]}
            wrong = [
                f"{name} is {row[name]!r}, by its orders and fills {values[name]!r}"
                for name in (*CACHED, *_NAMED)
                if row[name] != values[name]
            ]
            wrong += [] if _same(row["closed_message"], told) else ["its message is not what its fills make"]
            if wrong:
                # What it is called is no cache: nothing is mended that may be another fault.
                mendable = all(row[name] == values[name] for name in _NAMED)
                yield Fault("trades", row["trade_id"], "; ".join(wrong), row["log_id"]), values if mendable else None
    for trade_id, opened_ns in left:
        yield Fault("trades", trade_id, f"its fills of {opened_ns} make a round trip that has no row"), None


def _matches(row: sqlite3.Row, told: TradeClosed) -> bool:
    """Whether a row is that of a round trip, as most are: quicker than naming what is not."""
    slippage = told.slippage_usd
    return (
        _same(row["closed_message"], told)
        and row["gross_pnl_micros"] == rounded_micros(told.gross_pnl_usd)
        and row["entry_price_micros"] == rounded_micros(told.entry_price_usd)
        and row["exit_price_micros"] == rounded_micros(told.exit_price_usd)
        and row["fees_broker_micros"] == rounded_micros(told.fees_broker_usd)
        and row["fees_modelled_micros"] == rounded_micros(told.fees_modelled_usd)
        and row["slippage_micros"] == (None if slippage is None else rounded_micros(slippage))
        and all(row[name] == getattr(told, name) for name in _PLAIN)
    )


def _is_leg(symbol: str, of: str) -> bool:
    return symbol == of or any(leg.symbol == symbol for leg in legs_of(of))


def _same(text: str | None, told: TradeClosed) -> bool:
    """Whether a stored message is this one: by value, because 7.36 and 7.360 are the same money."""
    try:
        return text is not None and _CLOSED.decode(text) == told
    except msgspec.MsgspecError:
        return False


_TABLES: Final = {
    "order": "orders", "fill": "fills", "settlement": "position_settlements", "end": "orders", "exit": "exit_events",
}  # fmt: skip

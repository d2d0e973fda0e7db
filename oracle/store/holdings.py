"""What is held by the stored fills and settlements: positions by symbol, and the open trades that they belong to.

Inputs: an open database. Outputs: plain dicts, and trades folded with the ledger's own arithmetic. Nothing is cached:
every question folds again, so that an answer cannot be older than the rows.
"""

import sqlite3
from typing import Any

from oracle.core.instruments import multiplier
from oracle.core.messages import OrderFilled, SubmitOrder
from oracle.core.money import from_micros
from oracle.core.ports import TradeView
from oracle.core.trades import Trade
from oracle.store.rows import QUERIES, decoded, equity_of, message_of, settlement_of

Facts = dict[str, Any]


def positions(db: sqlite3.Connection) -> list[Facts]:
    """Non-flat positions by symbol: signed ``qty`` and the average price of what is held."""
    held: dict[str, tuple[int, int]] = {}  # quantity, cost in micros x quantity
    for row in db.execute(QUERIES["read_flows"]):
        quantity, cost = held.get(row["symbol"], (0, 0))
        # What a settlement takes away is nearer to zero, whichever side was held.
        signed = row["signed"] + (-row["leaving"] if quantity > 0 else row["leaving"])
        price = row["price_micros"]
        after = quantity + signed
        if quantity * signed >= 0:
            cost += signed * price
        elif quantity * after >= 0:
            cost = cost * after // quantity
        else:
            cost = after * price
        held[row["symbol"]] = (after, cost)
    return [
        {
            "symbol": symbol,
            "qty": quantity,
            "avg_price_usd": from_micros(round(cost / quantity)),
            "cost_usd": from_micros(cost * multiplier(symbol)),
        }
        for symbol, (quantity, cost) in sorted(held.items())
        if quantity != 0
    ]


def open_trades(db: sqlite3.Connection) -> list[TradeView]:
    """The trades that are open, in order of their ids, as the ledger would fold them.

    Raises:
        StoreError: a row does not hold a valid message.
    """
    trades: dict[str, Trade] = {}
    for row in db.execute(QUERIES["read_open_entries"]):
        entry = decoded(SubmitOrder, row["message"])
        if entry.exit_plan is not None:
            trades[entry.trade_id] = Trade(entry, entry.exit_plan, row["opened_ns"], bool(row["entry_over"]))
    flows: list[tuple[int, sqlite3.Row, bool]] = [
        *((row["log_id"], row, False) for row in db.execute(QUERIES["read_open_fills"])),
        *((row["log_id"], row, True) for row in db.execute(QUERIES["read_open_settlements"])),
    ]
    for _, row, settles in sorted(flows, key=lambda flow: flow[0]):
        trade = trades[row["trade_id"]]
        if settles:
            trade.settle(settlement_of(row))
        else:
            trade.fill(decoded(SubmitOrder, row["message"]), message_of(OrderFilled, row))
    return [trade.view() for trade in trades.values()]


def holdings(db: sqlite3.Connection) -> list[Facts]:
    """The open trades with what each of their legs was last valued at, and what they would come to at that.

    ``mark_usd`` is the net price of a whole unit, ``pnl_usd`` all cash of the trade and the value of what it holds,
    before fees; both None while a leg has no mark. ``marked_ns`` is when the marks were taken.
    """
    row = db.execute(QUERIES["read_last_equity"]).fetchone()
    last = None if row is None else equity_of(row)
    marks = {} if last is None else last.marks
    average = {position["symbol"]: position["avg_price_usd"] for position in positions(db)}
    out = []
    for trade in open_trades(db):
        known = all(leg.symbol in marks for leg in trade.legs)
        value = sum(leg.qty * marks[leg.symbol] * multiplier(leg.symbol) for leg in trade.legs) if known else None
        whole = value is not None and trade.is_whole and trade.contracts_open > 0
        out.append(
            {
                "trade_id": trade.trade_id, "strategy": trade.strategy, "underlying": trade.underlying,
                "symbol": trade.symbol, "side": trade.side.value, "contracts_open": trade.contracts_open,
                "contracts_entered": trade.contracts_entered, "whole": trade.is_whole,
                "entry_price_usd": trade.entry_price_usd, "cash_usd": trade.cash_usd,
                "worst_case_usd": trade.worst_case_usd, "opened_ns": trade.opened_ns,
                "mark_usd": value / (trade.side.sign * trade.contracts_open * multiplier(trade.symbol))
                if value is not None and whole else None,
                "pnl_usd": None if value is None else trade.cash_usd + value,
                "marked_ns": None if last is None or not known else last.at_ns,
                "legs": [
                    {
                        "symbol": leg.symbol, "qty": leg.qty, "avg_price_usd": average.get(leg.symbol),
                        "mark_usd": marks.get(leg.symbol),
                    }
                    for leg in trade.legs
                ],
            }
        )  # fmt: skip
    return out

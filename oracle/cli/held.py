"""The table of ``oracle positions``: what is held, by the trade that it belongs to.

Inputs: positions and open trades as the store's readers give them. Outputs: a table; rows for JSON. Marks are those of
the last valuation of the account, which is stored: nothing here asks for a quote.
"""

from collections import Counter
from decimal import Decimal
from typing import Any

from oracle.cli.names import day, days_to, expiry_of, label
from oracle.cli.newyork import new_york
from oracle.cli.show import net, print_table
from oracle.core.structures import is_structure

Facts = dict[str, Any]


def with_trades(positions: list[Facts], trades: list[Facts]) -> list[Facts]:
    """Positions by symbol, each with the trades that hold it, its expiry and its last mark.

    ``trade_id`` and ``structure`` are of the only trade that holds it; None: of none, or of several.
    """
    out = []
    for row in positions:
        holders = [(trade, leg) for trade in trades for leg in trade["legs"] if leg["symbol"] == row["symbol"]]
        first = holders[0] if holders else None
        only = holders[0][0] if len(holders) == 1 else None
        out.append(
            {
                **row,
                "trade_id": None if only is None else only["trade_id"],
                "structure": None if only is None else only["symbol"],
                "trade_ids": [trade["trade_id"] for trade, _ in holders],
                "expiry": expiry_of(row["symbol"]),
                "mark_usd": None if first is None else first[1]["mark_usd"],
                "marked_ns": None if first is None else first[0]["marked_ns"],
            }
        )
    return out


def print_holdings(positions: list[Facts], trades: list[Facts], today: str | None) -> None:
    """Print trades with their legs, then what belongs to none.

    Args:
        positions, trades: from ``store.read``.
        today: the newest session's ISO date, from which days to expiry count; None is unknown.
    """
    from rich.table import Table

    if not positions:
        print("no positions")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("held", "n", "entry", "mark", "P&L USD", "expires"):
        left = name in ("held", "expires")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "held")
    known: Counter[str] = Counter()
    for trade in trades:
        _add_trade(table, trade, today)
        for leg in trade["legs"]:
            known[leg["symbol"]] += leg["qty"]
    for row in positions:
        rest = row["qty"] - known[row["symbol"]]
        if rest != 0:
            what = f"{row['symbol']} (of no trade)"
            table.add_row(what, f"{rest:+d}", net(row["avg_price_usd"]), "", "", _expires(row["symbol"], today))
    print_table(table)
    marked = [trade["marked_ns"] for trade in trades if trade["marked_ns"] is not None]
    if marked:
        print(f"marks of {new_york(max(marked), '%Y-%m-%d %H:%M:%S')} New York; P&L before fees")


def _add_trade(table: Any, trade: Facts, today: str | None) -> None:
    legs = trade["legs"]
    pnl = "unknown" if trade["pnl_usd"] is None else f"{trade['pnl_usd']:+,.2f}"
    simple = not is_structure(trade["symbol"]) and [leg["symbol"] for leg in legs] == [trade["symbol"]]
    name = trade["symbol"] if simple else label(trade["symbol"])
    if not trade["whole"]:
        name += " (legs do not match)"
    held = f"{legs[0]['qty']:+d}" if simple else str(trade["contracts_open"])
    table.add_row(
        name, held, net(trade["entry_price_usd"]), _price(trade["mark_usd"]), pnl, _expires(trade["symbol"], today)
    )
    for leg in () if simple else legs:
        entry, mark = _price(leg["avg_price_usd"]), _price(leg["mark_usd"])
        table.add_row(f"  {leg['symbol']}", f"{leg['qty']:+d}", entry, mark, "", "")


def _price(amount: Decimal | None) -> str:
    return "unknown" if amount is None else net(amount)


def _expires(symbol: str, today: str | None) -> str:
    expiry = expiry_of(symbol)
    if expiry is None:
        return ""
    return day(expiry) if today is None else f"{day(expiry)}, {days_to(expiry, today)} d"

"""``oracle status|positions|orders|trades``: what the store holds, while the daemon runs or after.

Inputs: a state folder. Outputs: aligned tables for people, JSON for machines. Nothing here writes.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.names import label
from oracle.cli.newyork import new_york
from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption
from oracle.core.structures import is_structure

if TYPE_CHECKING:
    from rich.table import Table

SHORT = "%m-%d %H:%M"
NUMERIC = frozenset(("qty", "average", "cost USD", "filled", "worst", "n", "entry", "exit", "no.", "net P&L"))
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many, newest first.")]


def status(state: StateOption = DEFAULT_STATE, json: JsonOption = False) -> None:
    """Show the account, the session, breakers, working orders and the last comparison with the broker."""
    from oracle.store import read

    with read.reading(state) as db:
        facts = {**read.status(db), "not_ours": read.unsettled(db), "interventions": read.interventions(db, limit=5)}
        facts["holdings"] = read.holdings(db)
    if json:
        _print_json(facts)
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    equity, session, compared = facts["equity"], facts["session"], facts["reconcile"]
    table.add_row("mode", facts["mode"])
    if session is not None:
        table.add_row("session", f"{session['date']}  trades closed {session['trades_closed']}")
    if equity is not None:
        table.add_row("equity", f"{_usd(equity['equity_usd'])} USD at {_when(equity['at_ns'])}")
        table.add_row(
            "day start, peak", f"{_usd(equity['day_start_equity_usd'])}, {_usd(equity['peak_equity_usd'])} USD"
        )
        table.add_row("realised today", "before modelled fees: " + f"{equity['realized_today_usd']:+,.2f} USD")
    for moved in facts["transfers"]:
        what = f"{moved['amount_usd']:+,.2f} USD {moved['kind']} {moved['text']}".rstrip()
        table.add_row("transfer", f"{what} ({_when(moved['at_ns'])})")
    for name in ("open_trades", "closed_trades", "working_orders", "unknown_orders", "foreign_executions"):
        table.add_row(name.replace("_", " "), str(facts[name]))
    for held in facts["holdings"]:
        pnl = "P&L unknown" if held["pnl_usd"] is None else f"P&L {held['pnl_usd']:+,.2f} USD before fees"
        broken = "" if held["whole"] else ", its legs do not match"
        table.add_row("holds", f"{held['contracts_open']} {label(held['symbol'])}: {pnl}{broken}")
    if facts["settlements"] > 0:
        table.add_row("settlements", f"{facts['settlements']} legs ended without an order of ours")
    for latch in facts["latches"]:
        table.add_row("breaker set", f"{latch['latch']}: {latch['reason']}")
    if not facts["latches"]:
        table.add_row("breakers set", "none")
    if facts["statistics_behind"]:
        table.add_row("statistics", "behind the trades; the log says why (statistics_failed), a session's end mends it")
    for row in facts["not_ours"]:
        what = f"{row['side']} {row['qty']} {row['symbol']} at {_price(row['price_usd'])}"
        table.add_row("not ours", f"{what}; see oracle adopt --help")
    if compared is not None:
        verdict = "; ".join(compared["differences"]) or "ledger and broker agree"
        table.add_row("compared", f"{verdict} ({_when(compared['at_ns'])})")
    print_table(table)


def positions(state: StateOption = DEFAULT_STATE, json: JsonOption = False) -> None:
    """Show what is held by trade, with its legs: net price, last mark, P&L before fees, expiry."""
    from oracle.store import read

    with read.reading(state) as db:
        rows, others, trades = read.positions(db), read.unsettled(db), read.holdings(db)
        session = read.status(db)["session"]
    from oracle.cli.held import print_holdings, with_trades

    if json:
        _print_json(with_trades(rows, trades))
        return
    print_holdings(rows, trades, None if session is None else session["date"])
    if others:
        print(f"others traded {', '.join(sorted({row['symbol'] for row in others}))}; see oracle reconcile")


def orders(
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
    working: Annotated[bool, typer.Option("--working", help="Only those that can still fill.")] = False,
    limit: LimitOption = 50,
) -> None:
    """Show orders with their ladder, newest first."""
    from oracle.store import read

    with read.reading(state) as db:
        rows = read.orders(db, working_only=working, limit=limit)
    # Numbers, not ids: a row fits 80 columns; --json has everything.
    _show(rows, json, "no orders", {
        "no.": lambda r: str(r["sequence"]), "when": lambda r: _when(r["recorded_ns"], SHORT),
        "why": lambda r: r["purpose"], "side": lambda r: r["side"], "contract": lambda r: label(r["symbol"]),
        "filled": lambda r: f"{r['filled']}/{r['contracts']}",
        "worst": lambda r: "market" if r["worst_price_usd"] is None else net(r["worst_price_usd"]),
        "state": lambda r: r["end_reason"] or r["state"],
    })  # fmt: skip


def trades(state: StateOption = DEFAULT_STATE, json: JsonOption = False, limit: LimitOption = 50) -> None:
    """Show round trips, newest first: prices, P&L net of modelled fees, and why each ended.

    A structure has its net prices (cr: a credit), and what its real entry could lose at most and breaks even at.
    """
    from oracle.store import read

    with read.reading(state) as db:
        rows = read.trades(db, limit=limit)
    _show(rows, json, "no trades", {
        "contract": _traded, "opened": lambda r: _when(r["opened_ns"], SHORT),
        "closed": _closed,
        "n": lambda r: _or_unknown(r["contracts"], str), "entry": lambda r: _or_unknown(r["entry_price_usd"], net),
        "exit": lambda r: _at_end(r, "exit_price_usd", net),
        "net P&L": lambda r: _at_end(r, "net_pnl_usd", lambda v: f"{v:+,.2f}"),
        "ended by": lambda r: (r["exit_rule"] or "").replace("_", " "),
    })  # fmt: skip


def _closed(row: dict[str, Any]) -> str:
    """When it was closed; with the date unless it was on the day that it was opened."""
    if row["closed_ns"] is None:
        return "open"
    same = _when(row["opened_ns"], "%Y-%m-%d") == _when(row["closed_ns"], "%Y-%m-%d")
    return _when(row["closed_ns"], "%H:%M" if same else SHORT)


def _at_end(row: dict[str, Any], name: str, form: Any) -> str:
    """What only the end of a trade tells."""
    return "open" if row["closed_ns"] is None else _or_unknown(row[name], form)


def _traded(row: dict[str, Any]) -> str:
    """What was traded; of a structure also what it could come to."""
    if not is_structure(row["symbol"]):
        return str(row["symbol"])
    even = "/".join(_price(price) for price in row["break_evens"] or ())
    lost = f"max loss {'unbounded' if row['max_loss_usd'] is None else _usd(row['max_loss_usd'])}"
    return f"{label(row['symbol'])}\n  {lost}{', even at ' + even if even else ''}"


def _show(rows: list[dict[str, Any]], json: bool, nothing: str, columns: dict[str, Any]) -> None:
    if json:
        _print_json(rows)
        return
    if not rows:
        print(nothing)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        numeric = name in NUMERIC
        wraps = name in ("ended by", "state", "contract")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=not wraps)
    for row in rows:
        table.add_row(*(str(make(row)) for make in columns.values()))
    print_table(table)


def print_table(table: "Table") -> None:
    """Print to the terminal's width; whole rows into a pipe."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        # A pipe has no width: rows stay whole for grep and awk.
        console = Console(width=240)
    console.print(table)


def _print_json(value: Any) -> None:
    import orjson

    print(orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2).decode())


def _plain(value: Any) -> str:
    """Decimals are written as exact text: JSON numbers are read as floats."""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _when(at_ns: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    return new_york(at_ns, form)


def _usd(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def _price(amount: Decimal) -> str:
    return f"{amount:.4f}".rstrip("0").rstrip(".") if amount % Decimal("0.01") else f"{amount:.2f}"


def net(amount: Decimal) -> str:
    """A price of one unit; a credit says so."""
    return _price(amount) if amount >= 0 else f"{_price(-amount)} cr"


def _or_unknown(value: Any, form: Any) -> str:
    return "unknown" if value is None else form(value)

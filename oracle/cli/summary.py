"""The demo's closing page: figures, trades, refusals by rule, planted events and where the records are."""

from rich.console import Console
from rich.table import Table

from oracle.app import Result
from oracle.cli.live import usd
from oracle.cli.newyork import new_york

MODELLED = "modelled options"


def print_summary(result: Result, console: Console) -> None:
    """Print what a run came to, for people; fits 80 columns."""
    tally = result.tally
    console.print(f"[bold]What it came to[/bold]  ({', '.join(result.labels) or 'market unlabelled'})\n")
    _figures(result, console)
    _trades(result, console)
    if tally.refusals_by_rule:
        table = _table("Refusals", "rule", "times")
        for rule, times in sorted(tally.refusals_by_rule.items(), key=lambda row: (-row[1], row[0])):
            table.add_row(rule, str(times))
        console.print(table, "")
    _declared(result, console)
    if tally.differences is None:
        console.print("[red]ledger and exchange were not compared: the run ended too early[/red]")
    elif tally.differences:
        console.print("[red]ledger and exchange differ:[/red] " + "; ".join(tally.differences))
    else:
        console.print("ledger and exchange agree to the cent")
    for name, path in (("database", result.database), ("journal", result.journal), ("metrics", result.metrics_file)):
        console.print(f"{name:9} {path}", highlight=False, soft_wrap=True)
    console.print(f"inputs    sha256 {result.inputs_sha256}", highlight=False, soft_wrap=True)
    console.print(f"decisions sha256 {result.decisions_sha256}", highlight=False, soft_wrap=True)
    console.print(f"look closer: oracle trades --state {result.database.parent}", highlight=False, soft_wrap=True)


def _figures(result: Result, console: Console) -> None:
    tally, figures = result.tally, result.tally.figures()
    table = Table(box=None, show_header=False, pad_edge=False)
    net = tally.realized_pnl_usd + tally.fees_broker_usd - tally.fees_modelled_usd
    equity = "unknown" if tally.equity is None else f"{tally.equity.equity_usd:,.2f} USD"
    names = ("bars", "intents", "refusals", "orders", "fills")
    table.add_row("sessions", f"{figures['sessions']}  (" + ", ".join(f"{figures[n]} {n}" for n in names) + ")")
    rests = f"  ({MODELLED})" if MODELLED in result.labels else ""
    realised = f"{usd(tally.realized_pnl_usd)} USD, broker's fees {tally.fees_broker_usd:.2f}"
    table.add_row("realised P&L", realised + rests)
    table.add_row("after modelled fees", f"{usd(net)} USD{rests}")
    table.add_row("equity", equity + rests)
    console.print(table, "", highlight=False)


def _table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return table


def _trades(result: Result, console: Console) -> None:
    numbers = ("n", "entry", "exit", "P&L USD")
    title = f"Trades ({MODELLED})" if MODELLED in result.labels else "Trades"
    table = _table(title, "contract", "n", "in", "out", "entry", "exit", "P&L USD", "ended by", right=numbers)
    clock = "%H:%M" if result.tally.sessions <= 1 else "%Y-%m-%d %H:%M"
    for trade in result.tally.trades:
        style = "green" if trade.gross_pnl_usd > 0 else "red"
        table.add_row(
            trade.symbol, str(trade.contracts), new_york(trade.opened_ns, clock), new_york(trade.closed_ns, clock),
            f"{trade.entry_price_usd:.2f}", f"{trade.exit_price_usd:.2f}",
            f"[{style}]{usd(trade.gross_pnl_usd)}[/{style}]", trade.exit_rule.replace("_", " "),
        )  # fmt: skip
    console.print(table if result.tally.trades else "no trades", "", highlight=False)


def _declared(result: Result, console: Console) -> None:
    if not result.declared:
        return
    table = _table("Planted by the exchange, and declared", "event", "symbol", "when", "direction", "goes on")
    for row in result.declared:
        goes_on = "yes" if row.get("follow_through") else "no, it fails"
        when = new_york(row["at_ns"], "%Y-%m-%d %H:%M")
        table.add_row(str(row["kind"]).replace("_", " "), row["symbol"], when, str(row.get("direction", "")), goes_on)
    console.print(table, "", highlight=False)

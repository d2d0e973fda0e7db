"""The demo's closing page: figures, trades, refusals by rule, planted events and where the records are."""

from rich.console import Console
from rich.table import Table

from oracle.app import Result
from oracle.cli.live import usd
from oracle.cli.newyork import new_york


def print_summary(result: Result, console: Console) -> None:
    """Print what a run came to, for people."""
    tally = result.tally
    console.print(f"\n[bold]What it came to[/bold]  ({', '.join(result.labels) or 'market unlabelled'})")
    figures = tally.figures()
    equity = "unknown" if tally.equity is None else f"{tally.equity.equity_usd:,.2f} USD"
    counts = "  ".join(
        f"{name} {figures[name]}" for name in ("sessions", "bars", "intents", "refusals", "orders", "fills")
    )
    console.print(counts, highlight=False)
    net = tally.realized_pnl_usd + tally.fees_broker_usd - tally.fees_modelled_usd
    console.print(
        f"trades {len(tally.trades)}  realised {usd(tally.realized_pnl_usd)} USD  broker fees "
        f"{tally.fees_broker_usd:.2f}  net of modelled fees {usd(net)} USD  equity {equity}",
        highlight=False,
    )
    _trades(result, console)
    if tally.refusals_by_rule:
        table = Table("rule that refused", "times", title="Refusals", title_justify="left")
        for rule, times in sorted(tally.refusals_by_rule.items(), key=lambda row: (-row[1], row[0])):
            table.add_row(rule, str(times))
        console.print(table)
    _declared(result, console)
    if tally.differences:
        console.print("[red]ledger and exchange differ:[/red] " + "; ".join(tally.differences))
    else:
        console.print("ledger and exchange agree to the cent")
    for name, path in (("database", result.database), ("journal", result.journal), ("metrics", result.metrics_file)):
        console.print(f"{name:9} {path}", highlight=False, soft_wrap=True)
    console.print(f"inputs    sha256 {result.inputs_sha256}", highlight=False, soft_wrap=True)
    console.print(f"decisions sha256 {result.decisions_sha256}", highlight=False, soft_wrap=True)
    console.print(f"look closer: oracle trades --state {result.database.parent}", highlight=False, soft_wrap=True)


def _trades(result: Result, console: Console) -> None:
    table = Table(title="Trades", title_justify="left")
    for name in ("contract", "n", "in", "out", "entry", "exit", "P&L USD", "slippage", "ended by"):
        table.add_column(name, justify="left" if name in ("contract", "ended by") else "right")
    for trade in result.tally.trades:
        style = "green" if trade.gross_pnl_usd > 0 else "red"
        table.add_row(
            trade.symbol, str(trade.contracts), new_york(trade.opened_ns), new_york(trade.closed_ns),
            f"{trade.entry_price_usd:.2f}", f"{trade.exit_price_usd:.2f}",
            f"[{style}]{usd(trade.gross_pnl_usd)}[/{style}]",
            "unknown" if trade.slippage_usd is None else f"{trade.slippage_usd:.2f}", trade.exit_rule,
        )  # fmt: skip
    console.print(table if result.tally.trades else "no trades")


def _declared(result: Result, console: Console) -> None:
    if not result.declared:
        return
    table = Table(title="Planted in the market (declared by the exchange)", title_justify="left")
    for name in ("event", "symbol", "date", "New York", "direction", "goes on"):
        table.add_column(name)
    for row in result.declared:
        at = new_york(row["at_ns"], "%H:%M")
        direction, goes_on = str(row.get("direction", "")), "yes" if row.get("follow_through") else "no, it fails"
        table.add_row(str(row["kind"]).replace("_", " "), row["symbol"], row["date"], at, direction, goes_on)
    console.print(table)

"""The demo's closing page: figures, trades, refusals by rule, planted events and where the records are."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from oracle.app import Result
from oracle.cli.live import usd
from oracle.cli.names import label
from oracle.cli.newyork import new_york
from oracle.core.control import END_OF_DATA

MODELLED = "modelled options"


def print_summary(result: Result, console: Console) -> None:
    """Print what a run came to, for people; fits 80 columns."""
    tally = result.tally
    console.print(f"[bold]What it came to[/bold]  ({', '.join(result.labels) or 'market unlabelled'})\n")
    _figures(result, console)
    _trades(result, console)
    _strategies(result, console)
    _ends(result, console)
    if tally.refusals_by_rule:
        table = _table("Refusals", "rule", "times")
        for rule, times in sorted(tally.refusals_by_rule.items(), key=lambda row: (-row[1], row[0])):
            table.add_row(rule, str(times))
        console.print(table, "")
    _declared(result, console)
    _days(result, console)
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
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name != "contract")
    return table


def _trades(result: Result, console: Console) -> None:
    numbers = ("n", "entry", "exit", "P&L USD")
    title = f"Trades ({MODELLED})" if MODELLED in result.labels else "Trades"
    table = _table(title, "contract", "n", "in", "out", "entry", "exit", "P&L USD", "ended by", right=numbers)
    table.collapse_padding = True
    table.columns[0].min_width = 19  # the strikes of a condor in one line
    table.columns[-1].no_wrap = False
    clock = "%H:%M" if result.tally.sessions <= 1 else "%m-%d %H:%M"
    for trade in result.tally.trades:
        style = "green" if trade.gross_pnl_usd > 0 else "red"
        table.add_row(
            label(trade.symbol), str(trade.contracts),
            new_york(trade.opened_ns, clock), new_york(trade.closed_ns, clock),
            f"{trade.entry_price_usd:.2f}", f"{trade.exit_price_usd:.2f}",
            f"[{style}]{usd(trade.gross_pnl_usd)}[/{style}]", trade.exit_rule.replace("_", " "),
        )  # fmt: skip
    console.print(table if result.tally.trades else "no trades", "", highlight=False)


def _strategies(result: Result, console: Console) -> None:
    """What each strategy came to, and how its trades ended."""
    rows = result.tally.strategies()
    if not rows:
        return
    numbers = ("trades", "won", "net P&L USD")
    table = _table("Strategies, net of modelled fees", "strategy", *numbers, "ended by", right=numbers)
    table.columns[-1].no_wrap = False
    for name, row in rows.items():
        ends = ", ".join(f"{rule.replace('_', ' ') or 'unknown'} {n}" for rule, n in row["ends"].most_common())
        table.add_row(name, str(row["trades"]), str(row["wins"]), usd(row["net_usd"]), ends)
    console.print(table, "", highlight=False)


def _ends(result: Result, console: Console) -> None:
    """What ended by itself, what lost its balance, and what the end of the data did."""
    tally, lines = result.tally, []
    if tally.settlements:
        ended = ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in sorted(tally.settlements.items()))
        lines.append(f"legs that ended without an order of ours: {ended}")
    if tally.settlements or tally.orphans:
        lines.append(f"trades whose legs no longer belonged together, closed at once: {len(tally.orphans)}")
    cut = sum(trade.exit_rule == END_OF_DATA for trade in tally.trades)
    if cut:
        lines.append(f"closed because the data end: {cut}")
    if tally.open_trades:
        held = ", ".join(label(trade.symbol) for trade in tally.open_trades.values())
        lines.append(f"still open: {len(tally.open_trades)} ({held})")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    if lines:
        console.print()


def _days(result: Result, console: Console) -> None:
    """Whether ledger and exchange agreed in each session of several."""
    days = result.tally.days
    if len(days) < 2:
        return
    trades = Counter(new_york(trade.closed_ns, "%Y-%m-%d") for trade in result.tally.trades)
    numbers = ("closed", "compared")
    table = _table("Ledger and exchange, session by session", "date", *numbers, "at the close", right=numbers)
    table.columns[-1].no_wrap = False
    for date, day in days.items():
        verdict = "not compared after the close"
        if day.after_close and day.last is not None:
            verdict = "; ".join(day.last) or "agree to the cent"
        if day.differing and not day.last:
            verdict += f", differed {day.differing} times before"
        table.add_row(date, str(trades[date]), str(day.compared), verdict)
    console.print(table, "", highlight=False)


def _declared(result: Result, console: Console) -> None:
    if not result.declared:
        return
    table = _table("Planted by the exchange, and declared", "event", "symbol", "when", "direction", "goes on")
    for row in result.declared:
        goes_on = "" if "follow_through" not in row else "yes" if row["follow_through"] else "no, it fails"
        when = new_york(row["at_ns"], "%Y-%m-%d %H:%M")
        table.add_row(str(row["kind"]).replace("_", " "), row["symbol"], when, str(row.get("direction", "")), goes_on)
    console.print(table, "", highlight=False)

"""The demo's view while a session runs: a live screen on a terminal, one line per half hour when piped.

Inputs: a Running and its Tally. Output: text on standard error, so that ``--json`` keeps standard output clean.
"""

import asyncio
from collections.abc import Callable
from decimal import Decimal

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from oracle.cli.names import label
from oracle.cli.newyork import new_york
from oracle.core.message import Message
from oracle.core.messages import (
    IntentApproved,
    IntentRefused,
    LatchChanged,
    OrderFilled,
    PositionSettled,
    StrategyFailed,
    TradeClosed,
)
from oracle.running import Running

REFRESH_S = 0.25
LINE_EVERY_NS = 30 * 60 * 1_000_000_000


def usd(amount: Decimal) -> str:
    """Dollars with sign and thousands, e.g. ``+1,234.50``."""
    return f"{amount:+,.2f}"


def _money(amount: Decimal) -> Text:
    return Text(usd(amount), style="green" if amount > 0 else "red" if amount < 0 else "")


def describe(message: Message) -> str:
    """One line on an event."""
    match message:
        case OrderFilled():
            return (
                f"{message.side.value} {message.contracts} {message.symbol} at {message.price_usd} ({message.purpose})"
            )
        case PositionSettled():
            shares = f", {message.shares:+d} {message.shares_symbol}" if message.shares != 0 else ""
            return f"{message.ending.value.replace('_', ' ')} {message.contracts} {message.symbol}{shares}"
        case TradeClosed():
            return f"closed {label(message.symbol)} {usd(message.gross_pnl_usd)} USD by {message.exit_rule}"
        case IntentApproved():
            return f"approved {message.underlying}: {message.contracts} contracts, bound by {message.bound_by}"
        case IntentRefused():
            return f"refused {message.underlying}: {', '.join(r.rule for r in message.refusals)}"
        case LatchChanged():
            return f"latch {message.latch} {'set' if message.active else 'cleared'}: {message.reason}"
        case StrategyFailed():
            return f"strategy {message.strategy} failed: {message.error}"
        case _:
            return type(message).__name__


class LiveView:
    """Shows a run until ``stop`` is called."""

    def __init__(self, running: Running, console: Console) -> None:
        self._running = running
        self._console = console
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the view after a last picture."""
        self._stopping.set()

    async def show(self) -> None:
        """Draw until stopped."""
        if not self._console.is_terminal:
            await self._lines()
            return
        with Live(self._picture(), console=self._console, refresh_per_second=8, transient=True) as live:
            while not self._stopping.is_set():
                live.update(self._picture())
                await self._pause()
            live.update(self._picture())

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(REFRESH_S):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _lines(self) -> None:
        """When piped: a line for each half hour of the session and each closed trade, no control codes."""
        shown_ns, trades = 0, 0
        while True:
            tally = self._running.tally
            for trade in tally.trades[trades:]:
                self._console.print(f"{new_york(trade.closed_ns)} {describe(trade)}", highlight=False)
            trades = len(tally.trades)
            if self._stopping.is_set():
                return
            if tally.at_ns - shown_ns >= LINE_EVERY_NS:
                shown_ns = tally.at_ns - tally.at_ns % LINE_EVERY_NS
                equity = "unknown" if tally.equity is None else f"{tally.equity.equity_usd:,.2f}"
                when = new_york(tally.at_ns, "%Y-%m-%d %H:%M")
                line = f"{when} New York  bars {tally.bars}  orders {tally.orders}  fills {tally.fills}"
                self._console.print(f"{line}  equity {equity}", highlight=False)
            await self._pause()

    def _picture(self) -> Group:
        return Group(self._header(), self._market(), self._events())

    def _header(self) -> Panel:
        running, tally = self._running, self._running.tally
        session = running.table.current_or_next(tally.at_ns) if tally.at_ns else None
        done = 0.0
        if session is not None:
            done = max(0.0, (tally.at_ns - session.open_ns) / (session.close_ns - session.open_ns))
        grid = Table.grid(padding=(0, 2), expand=True)
        for _ in range(2):
            grid.add_column()
        when = new_york(tally.at_ns, "%Y-%m-%d %H:%M:%S New York") if tally.at_ns else "connecting"
        grid.add_row(Text(when, style="bold"), ProgressBar(total=1.0, completed=min(done, 1.0)))
        return Panel(grid, title=f"Trade Oracle · {running.config.mode} · no money", border_style="cyan")

    def _market(self) -> Table:
        tally = self._running.tally
        table = Table(expand=True, box=None, pad_edge=False)
        for name in ("symbol", "mid", "what the strategy says"):
            table.add_column(name, justify="right" if name == "mid" else "left")
        words = {symbol: reason for (_, symbol), reason in tally.reasons.items()}
        for symbol in sorted(tally.mids):
            mid = tally.mids[symbol]
            held = [label(t.symbol) for t in tally.open_trades.values() if t.underlying == symbol]
            text = f"holds {', '.join(held)}" if held else words.get(symbol, "").replace("_", " ")
            table.add_row(symbol, "unknown" if mid is None else f"{mid:,.2f}", text)
        equity = tally.equity
        figures = Text("equity unknown" if equity is None else f"equity {equity.equity_usd:,.2f}")
        table.add_row("account", figures, Text("realised ") + _money(tally.realized_pnl_usd))
        return table

    def _events(self) -> Panel:
        lines = [f"{new_york(at_ns)}  {describe(message)}" for at_ns, message in self._running.tally.recent]
        return Panel("\n".join(lines) or "waiting for the first intent", title="events", border_style="dim")


ViewFactory = Callable[[Running], LiveView]

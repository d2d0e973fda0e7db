"""The tree of commands. Each family is a small file; heavy imports stay inside the commands."""

from typing import Annotated

import typer

from oracle import __version__
from oracle.cli import (
    backtest,
    breakeven,
    chain,
    control,
    criteria,
    demo,
    divergence,
    exchange,
    export,
    gamma,
    iv,
    note,
    performance,
    preflight,
    readiness,
    recompute,
    replay,
    report,
    run,
    show,
    strategies,
    trade,
)

app = typer.Typer(
    name="oracle",
    help="A trading daemon for options at Alpaca that proves a strategy on paper before a dollar is at risk.",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    """A trading daemon for options at Alpaca that proves a strategy on paper before a dollar is at risk."""
    if version:
        print(f"trade-oracle {__version__}")
        raise typer.Exit


app.command("demo")(demo.demo)
app.command("backtest")(backtest.backtest)
app.command("exchange")(exchange.exchange)
app.command("run")(run.run)
app.command("replay")(replay.replay)
app.command("recompute")(recompute.recompute)
app.command("divergence")(divergence.divergence)
app.command("status")(show.status)
app.command("positions")(show.positions)
app.command("orders")(show.orders)
app.command("trades")(show.trades)
app.command("halt")(control.halt)
app.command("resume")(control.resume)
app.command("flatten")(control.flatten)
app.command("enable")(control.enable)
app.command("disable")(control.disable)
app.command("reconcile")(control.reconcile)
app.command("adopt")(control.adopt)
app.command("note")(note.note)
app.command("trade")(trade.trade)
app.command("performance")(performance.performance)
app.command("readiness")(readiness.readiness)
app.command("report")(report.report)
app.command("export")(export.export)
app.command("criteria")(criteria.criteria)
app.command("preflight")(preflight.preflight)
app.command("chain")(chain.chain)
app.command("gamma")(gamma.gamma)
app.add_typer(iv.app, name="iv")
app.command("strategies")(strategies.strategies)
app.command("breakeven")(breakeven.breakeven)

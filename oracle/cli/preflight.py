"""``oracle preflight``: what today's structures need, and whether account, feeds and clock let a session begin.

Inputs: the running daemon: its strategies, live quotes and rules. Outputs: tables, or one JSON object.
Exit codes: 0 go, 1 no-go with the reasons, 69 no daemon answers.
"""

from typing import TYPE_CHECKING

import typer

from oracle.cli.control import EXIT_NO, ask_daemon
from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption

if TYPE_CHECKING:
    from rich.console import Console

    from oracle.preflight import Need, Report

_WAIT_S = 15.0


def preflight(state: StateOption = DEFAULT_STATE, json: JsonOption = False) -> None:
    """Show the smallest equity for each strategy and symbol, and whether a session may begin.

    Asks the running daemon for the structure that each strategy would trade now, whatever the time and its signal, from
    live quotes, and for its account, feeds and clock. Changes nothing and sends nothing. Without a daemon nothing is
    known: start one first (oracle run).
    """
    import msgspec
    import orjson

    from oracle.core.control import Evaluate, Look
    from oracle.core.errors import RemoteError
    from oracle.preflight import report

    # The daemon knows what it runs with; the settings of this shell may be others.
    seen = ask_daemon(state, Look("strategies"), "", _WAIT_S)
    if not seen.ok:
        raise RemoteError(f"the daemon did not show its strategies: {seen.text}")
    told = {}
    for strategy in seen.facts["strategies"]:
        answer = ask_daemon(state, Evaluate(strategy, structure=True), "preflight", _WAIT_S)
        told[strategy] = (answer.ok, answer.text, answer.facts)
    found = report(told)
    if json:
        print(orjson.dumps(msgspec.to_builtins(found), option=orjson.OPT_INDENT_2).decode())
    else:
        _show(found)
    if not found.go:
        raise typer.Exit(EXIT_NO)


def _show(found: "Report") -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for check in found.checks:
        text = f"{check.name}: {check.seen}" + ("" if check.ok else f"; needs {check.needed}")
        word, style = ("ok ", "green") if check.ok else ("NO ", "red")
        console.print(f"{word} {text}", style=style, markup=False)
    for need in found.needs:
        _need(console, need)
    if found.go:
        extent = f", with {len(found.not_checked)} not checked" if found.not_checked else ""
        console.print(f"go{extent}{':' if extent else ''}", style="bold green")
        for one in found.not_checked:
            console.print(f"  not checked: {one}", markup=False)
        return
    console.print("no-go:", style="bold red")
    for reason in found.reasons:
        console.print(f"  {reason}", markup=False)
    for one in found.not_checked:
        console.print(f"  not checked: {one}", markup=False)


def _need(console: "Console", need: "Need") -> None:
    """One strategy's structure in one underlying: what it is, what it may lose, what it needs."""
    title = f"{need.strategy} {need.symbol}"
    if not need.checked:
        when = f"; {need.priced_when}" if need.priced_when else ""
        console.print(f"??  {title}: could not be priced now ({need.why}){when}", style="yellow", markup=False)
        return
    if need.structure is None:
        console.print(f"--  {title}: no structure now ({need.why})", markup=False)
        return
    needed = "unknown" if need.equity_needed_usd is None else f"{need.equity_needed_usd} USD (by {need.needed_by})"
    word, style = ("ok ", "green") if need.fits else ("NO ", "red")
    console.print(f"{word} {title}: needs an equity of {needed}", style=style, markup=False)
    levels = f", breaks even at {' and '.join(need.break_evens)}" if need.break_evens else ""
    worst, planned, mid = (
        "unknown" if usd is None else f"{usd} USD"
        for usd in (need.max_loss_usd, need.planned_loss_usd, need.net_mid_usd)
    )
    text = f"{need.structure}: net mid {mid}, worst case {worst}, planned loss {planned} a unit{levels}"
    console.print(f"      {text}", markup=False)
    if need.why:
        console.print(f"      risk refuses it now: {need.why}", markup=False)

"""``oracle strategies``: the state of each strategy, what it last saw, and why it did or did not trade today.

Inputs: a state folder; the running daemon over its control socket, else its last journal. Outputs: tables for people,
one JSON object for machines. Nothing here changes anything.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.names import label
from oracle.cli.newyork import new_york
from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

SHORT = "%H:%M:%S"
STYLE = {"enabled": "green", "disabled": "yellow", "halted": "red", "failed": "red", "ended": "dim"}


def strategies(
    name: Annotated[
        str | None, typer.Argument(help="One strategy, with everything that it saw.", show_default=False)
    ] = None,
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Show each strategy: its state, its last evaluation of each underlying, today's reasons, intents and trades.

    From the running daemon, else from the last journal of the state folder. The break-even win rates are those of the
    exit plan (every trade ends at its target or its stop) and of realised averages, both net of modelled fees.
    """
    from oracle.store import read
    from oracle.strategy_report import report

    picture = _picture(state)
    with read.reading(state) as db:
        rows = report(db, picture, name)
    if json:
        _print_json({"date": picture["date"], "source": picture["source"], "strategies": rows})
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(f"session {picture['date'] or 'unknown'}, from {picture['source']}", markup=False)
    for row in rows:
        _show(console, row, whole=name is not None)


def _picture(state: Path) -> dict[str, Any]:
    """What the daemon shows, or what its last journal holds.

    Raises:
        ConfigurationError: there is neither.
    """
    from oracle.cli.control import NoDaemonError, ask_daemon
    from oracle.core.control import Look
    from oracle.core.errors import ConfigurationError, RemoteError
    from oracle.evaluated import last_picture

    try:
        answer = ask_daemon(state, Look("strategies"), "", 5.0)
    except NoDaemonError:
        found = last_picture(state)
        if found is None:
            raise ConfigurationError(
                "--state", f"{state} holds no evaluation of any strategy", "start the daemon, or name its state folder"
            ) from None
        told = f"the journal, last input {new_york(found['at_ns'], '%Y-%m-%d %H:%M:%S')}; no daemon runs"
        return {**found, "source": told}
    if not answer.ok:
        raise RemoteError(f"the daemon did not show its strategies: {answer.text}")
    return {**answer.facts, "source": "the running daemon"}


def _show(console: "Console", row: dict[str, Any], *, whole: bool) -> None:
    why = f" ({row['why']})" if row["why"] else ""
    console.print()
    console.print(f"{row['name']}: {row['state']}{why}", style=f"bold {STYLE[row['state']]}", markup=False)
    for seen in row["evaluations"]:
        _evaluation(console, seen, whole)
    if not row["evaluations"]:
        console.print("  no evaluation yet", markup=False)
    for intent in row["intents"]:
        console.print(f"  intent {new_york(intent['at_ns'], SHORT)}  {intent['reason']}", markup=False)
        for line in _decision(intent):
            console.print(f"    {line}", markup=False)
    for trade in row["trades"]:
        console.print(f"  trade {_trade(trade)}", markup=False)
    console.print(f"  {_break_even(row['break_even'])}", markup=False)


def _evaluation(console: "Console", seen: dict[str, Any], whole: bool) -> None:
    from oracle.evaluations import conditions, reasons_in_words, why_not

    since = "" if seen["since_ns"] == seen["at_ns"] else f", so since {new_york(seen['since_ns'], SHORT)}"
    console.print(f"  {seen['symbol']} {new_york(seen['at_ns'], SHORT)}  {why_not(seen)}{since}", markup=False)
    conditions_seen = conditions((seen["judged"] or seen)["facts"])
    if conditions_seen:
        held = (f"{name.replace('_', ' ')} {'yes' if holds else 'no'}" for name, holds in conditions_seen.items())
        console.print(f"    conditions: {', '.join(held)}", markup=False)
    judged = seen["judged"]
    if judged is not None and judged["at_ns"] != seen["at_ns"]:
        console.print(f"    last judged {new_york(judged['at_ns'], SHORT)}: {why_not(judged)}", markup=False)
    console.print(f"    this session: {', '.join(reasons_in_words(seen['session']))}", markup=False)
    if whole:
        for fact, value in sorted((judged or seen)["facts"].items()):
            console.print(f"      {fact.replace('_', ' ')}: {_plain(value)}", markup=False)


def _decision(intent: "Mapping[str, Any]") -> list[str]:
    if intent["approved"]:
        return [f"risk: yes, {intent['contracts']} (bound by {intent['bound_by']})"]
    lines = [f"risk: {r['rule']}: {r['observed']} (limit {r['limit']})" for r in intent["refusals"]]
    if intent["equity_needed_usd"] is not None:
        lines.append(f"one unit needs an equity of {intent['equity_needed_usd']} USD")
    return lines


def _trade(trade: "Mapping[str, Any]") -> str:
    ends = "open" if trade["closed_ns"] is None else new_york(trade["closed_ns"], SHORT)
    result = trade["net_pnl_usd"]
    net = "" if result is None else f", net {result:+,.2f} USD, ended by {str(trade['exit_rule']).replace('_', ' ')}"
    count = "" if trade["contracts"] is None else f"{trade['contracts']} x "
    price = trade["entry_price_usd"]
    at = "" if price is None else f" at {price:.2f}"
    return f"{new_york(trade['opened_ns'], SHORT)} to {ends}  {count}{label(trade['symbol'])}{at}{net}"


def _break_even(figures: "Mapping[str, Any]") -> str:
    bound, realised, rate = (
        "unknown" if figures[name] is None else f"{figures[name]:.1%}" for name in ("bound", "realised", "win_rate")
    )
    return (
        f"break-even win rate: {bound} by its exit plan, {realised} realised; won {rate} of {figures['trades']} trades"
    )


def _plain(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print_json(value: Any) -> None:
    from decimal import Decimal

    import orjson

    def plain(one: Any) -> str:
        if isinstance(one, Decimal):
            return f"{one.normalize():f}"
        raise TypeError(f"{type(one).__name__} has no JSON form")

    print(orjson.dumps(value, default=plain, option=orjson.OPT_INDENT_2).decode())

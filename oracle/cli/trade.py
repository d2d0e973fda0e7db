"""``oracle trade``: ask a strategy and risk what they would do now, and send it on a yes.

Inputs: a strategy's name, the running daemon. Outputs: the intent, the decision with every figure, and after a yes what
became of it. Nothing is sent without a yes on a terminal or ``--yes``.
"""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.control import EXIT_NO, WhyOption, ask_daemon, show
from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from oracle.console.control import ControlAnswer


def trade(
    strategy: Annotated[str, typer.Argument(help="Its name, e.g. opening_range_breakout.")],
    symbol: Annotated[
        str | None, typer.Option("--symbol", help="One underlying; default all that it watches.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking; for scripts.")] = False,
    why: WhyOption = "",
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Evaluate a strategy now, show its intent and the risk decision, and send it on a yes.

    Looking changes nothing. What is sent goes through the same risk gate again, on the prices of that moment; if the
    strategy has chosen another contract by then, nothing is sent. --json asks nothing: it sends only with --yes, and
    prints one object; when several were sent, each one's answer is in facts.answers.
    """
    from rich.console import Console

    from oracle.core.control import Evaluate, Trade

    console = Console(highlight=False, soft_wrap=True)
    seen = ask_daemon(state, Evaluate(strategy, symbol), why, 15.0)
    verdicts = seen.facts.get("verdicts", [])
    ready = [v for v in verdicts if v["verdict"] == "intent" and v["decision"]["approved"]]
    if not seen.ok or (json and not (yes and ready)):
        show(seen, json)
        if yes:
            raise typer.Exit(EXIT_NO)
        return
    if not json:
        console.print(seen.text, markup=False)
        for verdict in verdicts:
            _picture(console, verdict)
    if not ready:
        if yes:
            raise typer.Exit(EXIT_NO)
        return
    answers = []
    for verdict in ready:
        if _is_wanted(verdict, yes):
            answers.append(ask_daemon(state, Trade(strategy, verdict["symbol"], verdict["contract"]), why, 15.0))
            if not json:
                _tell(answers[-1])
    if json:
        show(_together(answers), json)
    if not all(answer.ok and answer.done for answer in answers):
        raise typer.Exit(EXIT_NO)


def _tell(answer: "ControlAnswer") -> None:
    """Print an answer; a no to one underlying does not keep the next from being asked."""
    with suppress(typer.Exit):
        show(answer, json=False)


def _together(answers: "Sequence[ControlAnswer]") -> "ControlAnswer":
    """One answer for a script: the only one as it is, several with each of them under ``answers``."""
    import msgspec

    from oracle.console.control import ControlAnswer

    if len(answers) == 1:
        return answers[0]
    return ControlAnswer(
        ok=all(answer.ok for answer in answers),
        text="; ".join(answer.text for answer in answers),
        action=answers[0].action,
        done=all(answer.done for answer in answers),
        who=answers[0].who,
        facts={"answers": [msgspec.to_builtins(answer) for answer in answers]},
    )


def _is_wanted(verdict: dict[str, Any], yes: bool) -> bool:
    """Whether a person says yes; without a terminal and without --yes the answer is no."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print(f"not sent: no terminal to ask on; add --yes to send {verdict['contract']}")
        return False
    return typer.confirm(f"send it: buy {verdict['decision']['contracts']} {verdict['contract']}?", default=False)


def _legs(console: "Console", verdict: dict[str, Any]) -> None:
    """A structure's legs, its net price and what one unit of it can come to at the worst price."""
    legs, outcome = verdict.get("legs", []), verdict.get("prospects")
    if len(legs) > 1:
        for leg in legs:
            ratio = f"{leg['ratio']} " if leg["ratio"] > 1 else ""
            delta = "unknown" if leg["delta"] is None else f"{leg['delta']:.2f}"
            quote = f"{leg['bid_usd']} x {leg['ask_usd']}"
            console.print(f"      {leg['side']} {ratio}{leg['symbol']}, {quote}, delta {delta}", markup=False)
    if outcome is None or outcome["max_loss_usd"] is None:
        return
    gain = "unbounded" if outcome["max_gain_usd"] is None else f"{outcome['max_gain_usd']} USD"
    levels = f"; breaks even at {' and '.join(outcome['break_evens'])}" if outcome["break_evens"] else ""
    console.print(f"    a unit: max loss {outcome['max_loss_usd']} USD, max gain {gain}{levels}", markup=False)


def _picture(console: "Console", verdict: dict[str, Any]) -> None:
    """One underlying: why not, or what, at what size and what it may cost."""
    if verdict["verdict"] != "intent":
        word = verdict["reason"].replace("_", " ")
        missing = "no data: " if verdict["verdict"] == "no_data" else ""
        console.print(f"  {verdict['symbol']}: {missing}{word}", markup=False)
        return
    decision, plan = verdict["decision"], verdict["exit_plan"]
    console.print(f"  {verdict['symbol']}: {verdict['reason']}", style="bold", markup=False)
    quote = f"{verdict['bid_usd']} x {verdict['ask_usd']}"
    console.print(
        f"    {verdict['side']} {verdict['contract']}, quoted {quote}, confidence {verdict['confidence']:g}",
        markup=False,
    )
    _legs(console, verdict)
    target, delta = plan["target_fraction"], plan.get("short_delta_stop")
    of_what = " of the credit" if verdict["ask_usd"] is not None and verdict["ask_usd"].startswith("-") else ""
    ends = f"stop -{plan['stop_fraction']:.0%}" + ("" if target is None else f", target +{target:.0%}") + of_what
    ends += "" if delta is None else f", a short leg's delta at {delta:g}"
    console.print(f"    exits: {ends}", markup=False)
    if decision["approved"]:
        console.print(
            f"    risk says yes: {decision['contracts']} contracts (bound by {decision['bound_by']}), at most "
            f"{decision['worst_price_usd']} USD each; planned risk {decision['planned_risk_usd']} USD, worst case "
            f"{decision['worst_case_usd']} USD of {decision['equity_usd']} USD", style="green", markup=False,
        )  # fmt: skip
        return
    console.print("    risk says no:", style="red")
    for refusal in decision["refusals"]:
        console.print(f"      {refusal['rule']}: {refusal['observed']} (limit {refusal['limit']})", markup=False)
    if decision["equity_needed_usd"] is not None:
        console.print(f"      one contract needs an equity of {decision['equity_needed_usd']} USD", markup=False)

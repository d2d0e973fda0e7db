"""``oracle halt|resume|flatten|enable|disable|reconcile|adopt``: act on the running daemon over its control socket.

Inputs: arguments; the state folder names the daemon. Outputs: what the daemon answers, from the broker's own records
where it says so. Exit codes: 0 done and confirmed, 1 the answer is no or not confirmed, 69 no daemon answers.
"""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.options import DEFAULT_STATE, ConfigOption, JsonOption, SetOption, StateOption
from oracle.core.errors import ConfigurationError, RemoteError

if TYPE_CHECKING:
    from oracle.console.control import ControlAnswer
    from oracle.core.control import Ask

EXIT_NO = 1
# Beyond the wait that the daemon grants: it answers in any case, unless it is stuck.
GRACE_S = 5.0

WhyOption = Annotated[
    str, typer.Option("--why", help="The reason, for the record beside your user name.", show_default=False)
]
WaitOption = Annotated[
    float, typer.Option("--wait", min=0, max=300, help="Seconds to wait for the broker's confirmation.")
]


class NoDaemonError(RemoteError):
    """Nothing listens on the control socket."""


def ask_daemon(state: Path, ask: "Ask", why: str, wait_s: float) -> "ControlAnswer":
    """Send one request and wait for its answer.

    Raises:
        NoDaemonError: no daemon answers there.
        RemoteError: it did not answer in time.
        ConfigurationError: the socket may not be used, or the daemon cannot read the request.
    """
    import msgspec

    from oracle.console.control import ControlAnswer, ControlRequest, address, socket_path

    path = socket_path(state)
    line = msgspec.json.encode(ControlRequest(ask, why, wait_s)) + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire, address(path) as name:
            wire.settimeout(wait_s + GRACE_S)
            wire.connect(name)
            wire.sendall(line)
            with wire.makefile("rb") as heard:
                answer = heard.readline()
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        fix = f"start it with: oracle run --state {state}, or name its folder with --state"
        raise NoDaemonError(f"no daemon answers at {path}; {fix}") from None
    except PermissionError:
        raise ConfigurationError("--state", f"{path} is another user's", "run as the daemon's user") from None
    except (TimeoutError, OSError) as error:
        raise RemoteError(f"the daemon at {path} did not answer ({error or 'timed out'})") from None
    if not answer:
        raise RemoteError(f"the daemon at {path} closed the connection without an answer; is it stopping?")
    return msgspec.json.decode(answer, type=ControlAnswer)


def show(answer: "ControlAnswer", json: bool) -> None:
    """Print an answer; one that is not a yes ends with exit code 1."""
    import msgspec
    import orjson

    if json:
        print(orjson.dumps(msgspec.to_builtins(answer), option=orjson.OPT_INDENT_2).decode())
    else:
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True)
        console.print(answer.text, style="green" if answer.ok and answer.done else "red", markup=False)
        for line in details(answer.facts):
            console.print(f"  {line}", markup=False)
    if not (answer.ok and answer.done):
        raise typer.Exit(EXIT_NO)


def details(facts: dict[str, Any]) -> list[str]:
    """What the broker shows, one thing a line, and every difference."""
    lines = [f"difference: {line}" for line in facts.get("differences", ())]
    for position in facts.get("positions") or ():
        whose = position["trade_id"] or ("ours" if position["ours"] else "not ours")
        lines.append(f"position: {position['qty']} {position['symbol']} at {position['avg_price_usd']} ({whose})")
    for order in facts.get("orders") or ():
        if isinstance(order, str):
            lines.append(f"order of others: {order}")
            continue
        whose = "ours" if order["ours"] else "not ours"
        what = f"{order['side']} {order['qty']} {order['symbol']}"
        lines.append(f"order: {what}, {order['status']}, {order['client_order_id']} ({whose})")
    for done in facts.get("executions") or ():
        what = f"{done['side']} {done['qty']} {done['symbol']} at {done['price_usd']}"
        lines.append(f"execution of others: {what} ({done['execution_id']})")
    return lines


def halt(
    why: WhyOption = "", wait: WaitOption = 15.0, state: StateOption = DEFAULT_STATE, json: JsonOption = False
) -> None:
    """Stop entries now and take working entries back; exits of open trades go on.

    Waits until the broker's own records show no working entry. It lasts, also over restarts, until oracle resume.
    """
    from oracle.core.control import Halt

    show(ask_daemon(state, Halt(), why, wait), json)


def resume(
    latch: Annotated[
        str | None, typer.Option("--latch", help="Only this breaker; see oracle status.", show_default=False)
    ] = None,
    why: WhyOption = "",
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Clear a halt and the breakers that wait for a person, and say which were cleared.

    These are operator, drawdown (the peak starts anew), loss_streak and strategy_failed:NAME. A day's loss stands
    until the next session.
    """
    from oracle.core.control import Resume

    show(ask_daemon(state, Resume(latch), why, 15.0), json)


def flatten(
    direct: Annotated[
        bool, typer.Option("--direct", help="Without the daemon: cancel and close everything at the broker.")
    ] = False,
    why: WhyOption = "",
    wait: WaitOption = 90.0,
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
    mode: Annotated[
        str | None,
        typer.Option("--mode", help="With --direct: sim or paper; else the setting.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Halt, close every open trade at the market, and wait until the broker shows nothing.

    --direct needs no daemon, only the keys (ORACLE_ALPACA__KEY and ORACLE_ALPACA__SECRET for paper): it cancels every
    order and closes every position of the account, whoever made them.
    """
    from oracle.core.control import Flatten

    if not direct:
        try:
            show(ask_daemon(state, Flatten(), why, wait), json)
        except NoDaemonError as error:
            raise RemoteError(f"{error}; to close the whole account without it: oracle flatten --direct") from None
        return
    import asyncio

    from oracle import logs
    from oracle.config import load
    from oracle.connect import account_of
    from oracle.direct import flatten_account

    settings = load(config, [*(set_ or ()), *(() if mode is None else (f"mode={mode}",))])
    logs.configure_logging("error", secrets=settings.secrets(), colour=settings.logs.colour)
    show(asyncio.run(flatten_account(account_of(settings), wait)), json)


def enable(
    strategy: Annotated[str, typer.Argument(help="Its name, e.g. opening_range_breakout.")],
    why: WhyOption = "",
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Let a strategy enter trades again."""
    _switch(strategy, True, why, state, json)


def disable(
    strategy: Annotated[str, typer.Argument(help="Its name, e.g. opening_range_breakout.")],
    why: WhyOption = "",
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Stop one strategy's entries, also over restarts; exits of its open trades go on."""
    _switch(strategy, False, why, state, json)


def _switch(strategy: str, enabled: bool, why: str, state: Path, json: bool) -> None:
    from oracle.core.control import Switch

    show(ask_daemon(state, Switch(strategy, enabled), why, 15.0), json)


def reconcile(
    why: WhyOption = "", wait: WaitOption = 15.0, state: StateOption = DEFAULT_STATE, json: JsonOption = False
) -> None:
    """Read the account now and compare it with the books; exit code 1 when they differ."""
    from oracle.core.control import Reconcile

    show(ask_daemon(state, Reconcile(), why, wait), json)


def adopt(
    position: Annotated[
        list[str] | None,
        typer.Option("--position", help="A contract that others traded. Repeatable.", show_default=False),
    ] = None,
    order: Annotated[
        str | None, typer.Option("--order", help="A client order id of others: it is cancelled.", show_default=False)
    ] = None,
    stop_fraction: Annotated[
        float | None,
        typer.Option("--stop-fraction", help="Loss of premium at which it is sold, e.g. 0.5.", show_default=False),
    ] = None,
    target_fraction: Annotated[
        float | None, typer.Option("--target-fraction", help="Gain of premium at which it is sold.", show_default=False)
    ] = None,
    flat_at: Annotated[
        str, typer.Option("--flat-at", help="Sold at this time, New York, on its last trading day.")
    ] = "15:00",
    why: WhyOption = "",
    wait: WaitOption = 15.0,
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Take what others did in the account into the books, so that ledger and broker agree again.

    A position (single long options) becomes a trade of strategy "operator" with the exit plan given; a sale by hand of
    what a strategy holds ends that trade. An order of others is cancelled.
    """
    import msgspec

    from oracle.core.control import AdoptOrder, AdoptPosition

    if order is not None and not position:
        show(ask_daemon(state, AdoptOrder(order), why, wait), json)
        return
    if not position or order is not None:
        raise ConfigurationError("adopt", "name what to adopt", "give either --position SYMBOL or --order ID")
    if stop_fraction is None:
        raise ConfigurationError("--stop-fraction", "an adopted position needs a stop", "e.g. --stop-fraction 0.5")
    plain = {
        "action": "adopt_position", "symbols": position, "stop_fraction": stop_fraction,
        "target_fraction": target_fraction, "flat_at": flat_at,
    }  # fmt: skip
    try:
        ask = msgspec.convert(plain, AdoptPosition)
    except msgspec.ValidationError as error:
        raise ConfigurationError("adopt", str(error), "see oracle adopt --help") from None
    show(ask_daemon(state, ask, why, wait), json)

"""``oracle exchange``: the embedded Alpaca-compatible exchange as a process of its own, on loopback."""

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.options import (
    BehaviourOption,
    DateOption,
    JsonOption,
    MomentumOption,
    PlanOption,
    PlantOption,
    SeedOption,
    SessionsOption,
    SourceOption,
    UnderlyingOption,
)
from oracle.core.errors import ConfigurationError

if TYPE_CHECKING:
    from oracle.sim.config import ExchangeConfig


def exchange(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 8787,
    seed: SeedOption = 1,
    date: DateOption = None,
    sessions: SessionsOption = 1,
    momentum: MomentumOption = False,
    plant: PlantOption = None,
    behaviour: BehaviourOption = None,
    source: SourceOption = None,
    underlying: UnderlyingOption = None,
    plan: PlanOption = "basic",
    cash: Annotated[str, typer.Option(help="Starting cash in USD.")] = "100000",
    fee_per_contract: Annotated[str, typer.Option(help="Fee in USD per contract and side (paper charges 0).")] = "0",
    hold: Annotated[bool, typer.Option(help="Stand still until a paced client is ready.")] = False,
    until: Annotated[
        str | None, typer.Option(help="End the last session at this New York time, HH:MM.", show_default=False)
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(help="A plan of faults in TOML; see docs/faults.md.", show_default=False)
    ] = None,
    json: JsonOption = False,
    until_stdin_closes: Annotated[bool, typer.Option(help="End when standard input closes.", hidden=True)] = False,
) -> None:
    """Serve REST and the three websockets of Alpaca for a generated or recorded market.

    Prints its address once it answers. Key and secret are the settings sim.key and sim.secret.
    """
    import asyncio

    from oracle import logs
    from oracle.config import load
    from oracle.markets import build_market
    from oracle.sim.faultplan import load_plan
    from oracle.sim.server import serve

    settings = load()
    fault_plan = None if faults is None else load_plan(faults)
    table, market = build_market(
        seed=seed, date=date, sessions=sessions, source=source, underlying=underlying, momentum=momentum,
        plants=plant or (),
    )  # fmt: skip
    config = _config({
        "port": port, "hold": hold, "seed": seed, "plan": plan, "starting_cash_usd": cash, "until": until,
        "key": settings.sim.key.get_secret_value(), "secret": settings.sim.secret.get_secret_value(),
        "behaviour": _behaviour(behaviour or []),
        "fees": {f"option_{side}_usd_per_contract": fee_per_contract for side in ("buy", "sell")},
    })  # fmt: skip
    logs.configure_logging(
        settings.logs.level, secrets=settings.secrets(), colour=settings.logs.colour, sd_prefix=settings.logs.sd_prefix
    )
    serving = serve(config, market, table, lambda bound_port: _say(bound_port, json), fault_plan)
    try:
        asyncio.run(_until_over(serving, until_stdin_closes))
    except OSError as error:
        raise ConfigurationError("--port", f"{port} cannot be bound ({error.strerror})", "choose another") from None


def _say(port: int, json: bool) -> None:
    """Print where the exchange answers, at once."""
    import orjson

    url = f"http://127.0.0.1:{port}"
    sys.stdout.write((orjson.dumps({"url": url}).decode() if json else f"exchange listens at {url}") + "\n")
    sys.stdout.flush()


async def _until_over(serve: Coroutine[Any, Any, None], until_stdin_closes: bool) -> None:
    """Serve until the market is over or, if asked for, standard input closes."""
    import asyncio
    import contextlib

    serving = asyncio.create_task(serve)
    waiting: set[asyncio.Task[None]] = {serving}
    if until_stdin_closes:
        # A parent that dies takes its exchange with it: the pipe closes whatever killed the parent.
        waiting.add(asyncio.create_task(_stdin_closed()))
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting - {serving}:
        task.cancel()
    if serving.done():
        await serving
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _stdin_closed() -> None:
    """Wait until standard input closes. The thread is a daemon, or a failed start would hang until then."""
    import asyncio
    import contextlib
    import os
    import threading

    closed, loop = asyncio.Event(), asyncio.get_running_loop()

    def watch() -> None:
        # Not sys.stdin.read(): its lock, held at the end of the process, is a fatal error.
        while os.read(sys.stdin.fileno(), 4096):
            pass
        with contextlib.suppress(RuntimeError):  # the loop has ended first
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=watch, daemon=True).start()
    await closed.wait()


def _behaviour(items: list[str]) -> dict[str, Any]:
    """The broker's switches as written; the settings' own checks come after."""
    from oracle.config import read_value

    pairs = [item.partition("=") for item in items]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise ConfigurationError("--behaviour", f"{name!r} is not name=value", "write e.g. pin_risk_sell_out=0.5")
    return {name: read_value(text) for name, _, text in pairs}


def _config(fields: dict[str, Any]) -> "ExchangeConfig":
    """Validate the exchange's settings; an error names the option that the user gave."""
    from pydantic import ValidationError

    from oracle.sim.config import ExchangeConfig

    try:
        return ExchangeConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0])
        option = {"starting_cash_usd": "--cash", "fees": "--fee-per-contract"}.get(field, f"--{field}")
        if field == "behaviour":
            option = f"--behaviour {'.'.join(str(part) for part in first['loc'][1:])}"
        raise ConfigurationError(option, first["msg"], "see oracle exchange --help") from None

"""``oracle demo``: the exchange, the daemon and a whole session at speed, then what it came to."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.options import (
    BehaviourOption,
    ConfigOption,
    DateOption,
    JsonOption,
    MomentumOption,
    PlantOption,
    SeedOption,
    SessionsOption,
    SetOption,
    SourceOption,
    UnderlyingOption,
)
from oracle.core.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from oracle.app import Result
    from oracle.config import Config

# The books do not agree with the exchange: never a success.
EXIT_DIFFERS = 1
# A recorded day has one quote a minute and one chain: these settings follow from that, and --set overrides each.
RECORDED: Mapping[str, Any] = {
    "feeds": {"stale_after_s": 600.0},
    "risk": {
        "max_option_quote_age_s": "120", "max_stock_quote_age_s": "120", "max_spread_usd": "2.00",
        "max_spread_fraction": "0.25",
    },
    "strategies": {
        "opening_range_breakout": {
            "volume_mode": "trailing", "volume_bars": 20, "max_quote_age_s": 120.0, "warmup_bars": 15,
        }
    },
}  # fmt: skip


def demo(
    seed: SeedOption = 1,
    sessions: SessionsOption = 1,
    momentum: MomentumOption = False,
    plant: PlantOption = None,
    behaviour: BehaviourOption = None,
    date: DateOption = None,
    source: SourceOption = None,
    underlying: UnderlyingOption = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Folder for database and journal (default: a new one in state/).")
    ] = None,
    speed: Annotated[float, typer.Option(min=0, help="Times real time; 0 is as fast as it can.")] = 0.0,
    json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Trade whole simulated sessions on the embedded exchange; needs no account and no network.

    The market is generated from the seed, with planted breakouts that the summary declares, or a recorded day with
    --source, --underlying and --date. Two runs with the same arguments print the same JSON.
    """
    import asyncio

    from rich.console import Console

    if source is None and underlying is not None:
        raise ConfigurationError("--underlying", "it names a recorded day's stock", "add --source and --date")
    if state is not None and (state / "oracle.db").exists():
        raise ConfigurationError(
            "--state", f"{state} holds an earlier run, and a demo starts a market of its own",
            "choose a new folder, or leave it out",
        )  # fmt: skip
    settings = demo_config(config, set_ or [], source, underlying, speed)
    plan = "plus" if settings.alpaca.plan == "algo_trader_plus" else "basic"
    arguments = ["--port", "0", "--hold", "--seed", str(seed), "--sessions", str(sessions), "--plan", plan]
    for name, value in (("--date", date), ("--source", source), ("--underlying", underlying)):
        if value is not None:
            arguments += [name, str(value)]
    if momentum:
        arguments.append("--momentum")
    for name, texts in (("--plant", plant), ("--behaviour", behaviour)):
        for text in texts or ():
            arguments += [name, text]
    folder = state if state is not None else _new_folder()
    console = Console(stderr=True)
    result = asyncio.run(_play(settings, folder, arguments, f"demo{seed}", console))
    if json:
        import orjson

        print(orjson.dumps(summary_json(result, seed), option=orjson.OPT_INDENT_2).decode())
    else:
        from oracle.cli.summary import print_summary

        print_summary(result, Console(file=sys.stdout))
    if result.tally.differences:
        raise typer.Exit(EXIT_DIFFERS)


def demo_config(
    file: Path | None, overrides: list[str], source: Path | None, underlying: str | None, speed: float
) -> "Config":
    """Settings of a demo: defaults, what a recorded day needs, the file, the environment, --set."""
    from oracle.config import load

    base: dict[str, Any] = {"mode": "sim", "sim": {"speed": speed}, "console": {"port": 0}, "logs": {"level": "error"}}
    if source is not None and underlying is not None:
        base.update({name: dict(value) for name, value in RECORDED.items()})
        orb = {**RECORDED["strategies"]["opening_range_breakout"], "universe": [underlying]}
        base["strategies"] = {"opening_range_breakout": orb}
        base["feeds"] = {**RECORDED["feeds"], "canary_symbol": underlying}
        # An unknown beta refuses every entry. 1.0 is what the market as a whole has; a better figure goes in --set.
        base["betas"] = {underlying: 1.0}
    return load(file, overrides, base=base)


async def _play(settings: "Config", folder: Path, arguments: list[str], token: str, console: "Console") -> "Result":
    import asyncio

    from oracle import logs
    from oracle.app import run
    from oracle.cli.live import LiveView
    from oracle.exchange_process import ExchangeProcess
    from oracle.running import Running

    logs.configure_logging(
        settings.logs.level, secrets=settings.secrets(), colour=settings.logs.colour, sd_prefix=settings.logs.sd_prefix
    )
    views: list[tuple[LiveView, asyncio.Task[None]]] = []

    def on_running(running: Running) -> None:
        view = LiveView(running, console)
        views.append((view, asyncio.create_task(view.show())))

    keys = {
        "ORACLE_SIM__KEY": settings.sim.key.get_secret_value(),
        "ORACLE_SIM__SECRET": settings.sim.secret.get_secret_value(),
    }
    async with ExchangeProcess(arguments, keys) as exchange:
        sim = settings.sim.model_copy(update={"url": exchange.url})
        try:
            return await run(settings.model_copy(update={"sim": sim}), folder, token=token, on_running=on_running)
        finally:
            for view, task in views:
                view.stop()
                await task


def _new_folder() -> Path:
    """``state/demo-001`` and so on: a finished demo's records are never written over."""
    Path("state").mkdir(mode=0o700, exist_ok=True)
    taken = {path.name for path in Path("state").glob("demo-*")}
    return Path("state") / next(name for n in range(1, 10_000) if (name := f"demo-{n:03d}") not in taken)


def summary_json(result: "Result", seed: int) -> dict[str, Any]:
    """The one JSON object of ``--json``; nothing in it depends on the machine, the folder or the wall clock."""
    tally = result.tally
    return {
        **tally.figures(),
        "inputs_sha256": result.inputs_sha256,
        "decisions_sha256": result.decisions_sha256,
        "seed": seed,
        "refusals_by_rule": dict(sorted(tally.refusals_by_rule.items())),
        **tally.outcome(),
        "declared": [dict(row) for row in result.declared],
        "labels": list(result.labels),
        "differences": None if tally.differences is None else list(tally.differences),
    }

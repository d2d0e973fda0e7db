"""``oracle breakeven``: the win rate that the 0DTE condor's exit plan needs, simulated, beside its two-outcome bound.

Inputs: the strategy's settings, a symbol, how many paths, a seed. Outputs: a table for people, JSON for machines; a
progress bar on a terminal. Nothing is read from or written to a state folder.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.options import ConfigOption, JsonOption, SeedOption, SetOption

if TYPE_CHECKING:
    from oracle.breakeven_run import Simulated

STRATEGY = "iron_condor"


def breakeven(
    strategy: Annotated[str, typer.Argument(help="Only iron_condor is simulated.")] = STRATEGY,
    symbol: Annotated[str, typer.Option("--symbol", help="SPY, QQQ or IWM of the generated market.")] = "SPY",
    paths: Annotated[int, typer.Option("--paths", min=100, max=1_000_000, help="Days with a trade.")] = 20_000,
    slippage_usd: Annotated[
        float,
        typer.Option("--slippage", min=0, max=5, help="USD a share that a unit's price is worse than its middle."),
    ] = 0.02,
    seed: SeedOption = 1,
    json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Simulate the condor's target, stop, delta exit and clock over many days and show the break-even they come to.

    The bound takes every trade to end at its target or its stop. Days follow the generator's volatility, with drift 0
    and options dearer than what realises; fees are the modelled ones. Settings of strategies.iron_condor apply.
    """
    from oracle.breakeven_run import simulate
    from oracle.config import load
    from oracle.core.errors import ConfigurationError
    from oracle.sim.pathgen import SPECS
    from oracle.strategies import registry
    from oracle.strategies.iron_condor import IronCondorParams

    if strategy != STRATEGY:
        raise ConfigurationError("STRATEGY", f"{strategy} has no simulation", f"use {STRATEGY}")
    if symbol not in SPECS:
        raise ConfigurationError("--symbol", f"{symbol} is not generated", f"use one of: {', '.join(sorted(SPECS))}")
    settings = load(config, set_ or ())
    params = registry.load(STRATEGY, settings.strategies.get(STRATEGY, {})).params  # type: ignore[attr-defined]
    assert isinstance(params, IronCondorParams)
    with _bar(paths, json) as advance:
        try:
            found = simulate(
                params, symbol, paths=paths, seed=seed, fee_usd=float(settings.fees.modelled_per_contract_usd),
                slippage_usd=slippage_usd, progress=advance,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigurationError("iron_condor", str(error), "see docs/strategies.md") from None
    if json:
        print_json(found)
    else:
        _show(found)


def _bar(paths: int, json: bool) -> Any:
    """A progress bar on standard error, where that is a terminal; gives what tells it how far it is."""
    import contextlib
    import sys

    from rich.console import Console
    from rich.progress import Progress

    @contextlib.contextmanager
    def shown() -> Any:
        if json or not sys.stderr.isatty():
            yield lambda _done: None
            return
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(f"{paths:,} days", total=paths)
            yield lambda done: progress.update(task, completed=done)

    return shown()


def print_json(found: "Simulated") -> None:
    """Print the run as one JSON object."""
    from dataclasses import asdict

    import orjson

    plain = {**asdict(found), "bound_win_rate": None if found.bound is None else found.bound.win_rate}
    print(orjson.dumps(plain, option=orjson.OPT_INDENT_2).decode())


def _show(found: "Simulated") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    share = found.paths / found.days
    console.print(
        f"{found.symbol}: {found.paths:,} condors on {found.days:,} days (the rule finds one on {share:.0%}), "
        f"seed {found.seed}, average credit {found.credit_usd:.2f}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("exit plan", "break-even", "won", "average win", "average loss", "a trade", "ended by"):
        table.add_column(name, justify="left" if name in ("exit plan", "ended by") else "right")
    for name, one in (("with delta exit", found.with_delta_exit), ("without delta exit", found.without_delta_exit)):
        ends = ", ".join(f"{rule.replace('_', ' ')} {part:.0%}" for rule, part in one.exits.items() if part > 0)
        table.add_row(
            name, _rate(one.break_even), _rate(one.win_rate), _usd(one.average_win_usd),
            _usd(None if one.average_loss_usd is None else one.average_loss_usd), _usd(one.expectancy_usd), ends,
        )  # fmt: skip
    if found.bound is not None:
        bound = found.bound
        table.add_row(
            "two-outcome bound", _rate(bound.win_rate), "", _usd(bound.gain_usd), _usd(-bound.loss_usd), "", ""
        )
    console.print(table)
    console.print("USD a unit, net of modelled fees and slippage; break-even is L / (W + L)")


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _usd(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+,.2f}"

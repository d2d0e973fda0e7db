"""``oracle backtest``: trade recorded bars on the exchange in process, in virtual time, then say what it came to."""

import sys
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.options import ConfigOption, JsonOption, PlantOption, SeedOption
from oracle.core.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from oracle.backtest import Backtest, Outcome
    from oracle.config import Config

EXIT_DIFFERS = 1
# Files of minutes hold one quote a minute, which is up to a minute old by the next.
ONE_QUOTE_A_MINUTE = {"max_option_quote_age_s": "75", "max_stock_quote_age_s": "75"}
# In process nothing can be lost on the way: the account is compared at the open, the close and after orders.
ACCOUNT_READ_EVERY_S = 1800.0
ON_MODELLED = ("intents", "refusals", "orders", "fills", "trades", "realized_pnl", "equity")


def backtest(
    first: Annotated[str, typer.Option("--from", help="First session, YYYY-MM-DD.", metavar="DATE")],
    last: Annotated[str, typer.Option("--to", help="Last session, YYYY-MM-DD.", metavar="DATE")],
    strategy: Annotated[list[str], typer.Option("--strategy", help="A strategy to run. Repeatable.", metavar="NAME")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of minute bars; see docs/backtest.md.")
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Trade the generated market of --seed instead of a folder.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE",
            help="A setting, or a parameter of the only strategy, e.g. --set rsi_length=7. Repeatable.",
        ),
    ] = None,
    plant: PlantOption = None,
    step: Annotated[
        int, typer.Option(min=1, max=60, help="Seconds between looks at the generated market while no order works.")
    ] = 1,
    exchange: Annotated[
        list[str] | None,
        typer.Option(
            "--exchange", metavar="NAME=VALUE",
            help="A setting of the exchange in process, e.g. options_level=2. Repeatable.",
        ),
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Folder for database and journal (default: a new one in state/).")
    ] = None,
    cash: Annotated[str, typer.Option(help="Opening cash in USD.")] = "100000",
    leave_open: Annotated[
        bool, typer.Option("--leave-open", help="Leave trades open at the last close, instead of closing them before.")
    ] = False,
    seed: SeedOption = 1,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:  # fmt: skip
    """Trade recorded minute bars, or the generated market, with any strategies, as fast as it goes.

    Needs no account and no network.

    Options come from recorded chains where the folder has them, else from a stated model, and then every figure that
    depends on it is labelled. Two runs with the same arguments and files print the same JSON.
    """
    import asyncio
    import time

    from rich.console import Console

    from oracle import logs
    from oracle.backtest import Backtest, run_backtest

    _check(state, data, simulated=simulated, step=step, plant=plant)
    what = Backtest(data, first, last, _cash(cash), seed, _exchange(exchange or []), leave_open, plant or [], step)
    settings = backtest_config(config, set_ or [], what, strategy)
    logs.configure_logging(settings.logs.level, secrets=settings.secrets())
    folder = state if state is not None else _new_folder()
    bar, began_s = _Bar(Console(stderr=True)), time.monotonic()
    try:
        outcome = asyncio.run(run_backtest(settings, what, folder, bar.start, bar.on_session))
    finally:
        bar.stop()
    if json:
        import orjson

        print(orjson.dumps(outcome_json(outcome, what, settings), option=orjson.OPT_INDENT_2).decode())
    else:
        _print(outcome, began_s)
    if outcome.result.tally.differences:
        raise typer.Exit(EXIT_DIFFERS)


def _check(state: Path | None, data: Path | None, *, simulated: bool, step: int, plant: list[str] | None) -> None:
    """Refuse options that do not go together, and a folder that holds an earlier run."""
    if state is not None and (state / "oracle.db").exists():
        raise ConfigurationError(
            "--state", f"{state} holds an earlier run, and a backtest starts books of its own",
            "choose a new folder, or leave it out",
        )  # fmt: skip
    if (data is None) is not simulated:
        problem = "a backtest needs a market" if data is None else "--data and --simulated are two markets"
        raise ConfigurationError("--data", problem, "give either --data FOLDER or --simulated")
    if step > 1 and not simulated:
        raise ConfigurationError("--step", "recorded minutes have their own instants", "leave it out")
    if plant and not simulated:
        raise ConfigurationError("--plant", "nothing is planted in recorded bars", "leave it out, or use --simulated")


def _print(outcome: "Outcome", began_s: float) -> None:
    """Say for people what it came to, what it cost, and what was lacking."""
    from rich.console import Console

    from oracle.cli.summary import print_summary

    console = Console(file=sys.stdout)
    print_summary(outcome.result, console)
    _cost(console, began_s)
    for line in outcome.lacking:
        console.print(f"[yellow]{line}[/yellow]", highlight=False, soft_wrap=True)


def backtest_config(file: Path | None, overrides: list[str], what: "Backtest", names: list[str]) -> "Config":
    """Settings of a backtest: defaults, what files of minutes need, the file, the environment, --set."""
    from oracle.backtest import has_recorded_chain
    from oracle.cli.demo import RECORDED
    from oracle.config import Config, load
    from oracle.risk.limits import DEFAULT_BETAS
    from oracle.sim.bar_files import BarFolder

    risk: Mapping[str, Any] = {}
    betas: dict[str, float] = {}
    if what.data is not None:
        folder = BarFolder(what.data)
        risk = RECORDED["risk"] if has_recorded_chain(folder, what) else ONE_QUOTE_A_MINUTE
        # An unknown beta refuses every entry. 1.0 is what the market as a whole has; a better figure goes in --set.
        betas = {symbol: 1.0 for symbol in folder.symbols() if symbol not in DEFAULT_BETAS}
    base: dict[str, Any] = {
        "mode": "sim", "console": {"port": 0}, "logs": {"level": "error"}, "risk": dict(risk), "betas": betas,
        "sim": {"account_read_every_s": ACCOUNT_READ_EVERY_S},
        "strategies": {name: {} for name in names},
    }  # fmt: skip
    settings = load(file, [_full_name(item, names, set(Config.model_fields)) for item in overrides], base=base)
    chosen = {name: settings.strategies[name] for name in sorted(set(names))}
    return settings.model_copy(update={"strategies": chosen})


def _full_name(item: str, names: list[str], sections: set[str]) -> str:
    """A bare name is a parameter of the only strategy."""
    name = item.partition("=")[0]
    if "." in name or name in sections or "=" not in item:
        return item
    if len(set(names)) != 1:
        raise ConfigurationError(
            f"--set {name}", "with several strategies it is not clear whose parameter it is",
            f"write strategies.{names[0]}.{name}=…",
        )  # fmt: skip
    return f"strategies.{names[0]}.{item}"


def _exchange(items: list[str]) -> dict[str, Any]:
    """Settings of the exchange by name, as written; ``make_exchange`` checks them."""
    from oracle.config import read_value

    pairs = [item.partition("=") for item in items]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise ConfigurationError("--exchange", f"{name!r} is not name=value", "write e.g. options_level=2")
    return {name: read_value(text) for name, _, text in pairs}


def _cash(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not (amount.is_finite() and amount >= 0):
        raise ConfigurationError("--cash", f"{text!r} is not an amount of dollars", "write e.g. --cash 50000")
    return amount


def _cost(console: "Console", began_s: float) -> None:
    """Say how long the run took and the most memory that the process has held."""
    import resource
    import time

    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts kilobytes
    console.print(f"took {time.monotonic() - began_s:.1f} s, {peak_mb:.0f} MB at most", highlight=False)


class _Bar:
    """A progress bar on standard error; nothing when that is not a terminal."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task: Any = None

    def start(self, sessions: int) -> None:
        """Show it."""
        self._progress.start()
        self._task = self._progress.add_task("sessions", total=sessions)

    def on_session(self, session: Any, done: int) -> None:
        """A session is over."""
        self._progress.update(self._task, completed=done, description=session.date)

    def stop(self) -> None:
        """Take it away."""
        self._progress.stop()


def _new_folder() -> Path:
    """``state/backtest-001`` and so on: a finished run's records are never written over."""
    Path("state").mkdir(mode=0o700, exist_ok=True)
    taken = {path.name for path in Path("state").glob("backtest-*")}
    return Path("state") / next(name for n in range(1, 10_000) if (name := f"backtest-{n:03d}") not in taken)


def outcome_json(outcome: "Outcome", what: "Backtest", settings: "Config") -> dict[str, Any]:
    """The one JSON object of ``--json``; nothing in it depends on the machine, the folder or the wall clock."""
    from oracle.cli.demo import summary_json

    return {
        **summary_json(outcome.result, what.seed),
        "from": what.first,
        "to": what.last,
        "strategies": {name: dict(values) for name, values in settings.strategies.items()},
        "modelled_options": list(ON_MODELLED) if outcome.modelled else [],
        "lacking": list(outcome.lacking),
        "reasons": [
            {"strategy": name, "symbol": symbol, "last": word}
            for (name, symbol), word in sorted(outcome.result.tally.reasons.items())
        ],
    }

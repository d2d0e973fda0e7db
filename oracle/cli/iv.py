"""``oracle iv import|show|term|backfill|rebuild``: the history of 30-day volatility that IV rank rests on.

Inputs: CSV files, the vendor's option bars, journals, the state folder. Outputs: tables for people, JSON for machines,
rows of the store: all of a command's or none. Invariant: each row says its source.
"""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oracle.cli.ivstate import check_state
from oracle.cli.ivterm import term
from oracle.cli.newyork import NEW_YORK
from oracle.cli.options import DEFAULT_STATE, ConfigOption, JsonOption, SetOption, StateOption
from oracle.cli.pictures import EXIT_NO_DATA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oracle.core.marketdata import DailyIvObserved
    from oracle.core.sessions import SessionTable
    from oracle.ivbackfill import Day
    from oracle.ivrebuild import Rebuilt
    from oracle.store.ivs import Written

app = typer.Typer(
    name="iv", help="Daily 30-day volatility: its history, rank and percentile.", no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
SHOWN_LINES = 40
# Requests a minute that a plan of 200 leaves to a daemon beside it.
REQUESTS_PER_MIN = 150
CALENDAR_YEARS = 6
# A simulated session lies at most so far ahead.
AHEAD_DAYS = 1100
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace what is stored of the same dates.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be stored; write nothing.")]


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV with the columns underlying,date,iv_30d and perhaps source.")],
    state: StateOption = DEFAULT_STATE,
    replace: ReplaceOption = False,
    dry_run: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Take daily volatilities from a CSV file: all of its lines or none.

    iv_30d is a fraction (0.185 for 18.5 %). The stored source is "import:" and the file's own. A file with a date that
    is stored with another value is refused, unless --replace is given. Exit code 78 when nothing was taken.
    """
    from oracle.ivfile import BadFileError, read_file

    check_state(state, dry_run=dry_run)
    today = _today()
    try:
        rows = read_file(file, _table(today, years=CALENDAR_YEARS), today.isoformat())
    except BadFileError as error:
        for line in error.lines[:SHOWN_LINES]:
            typer.echo(f"{file}: {line}", err=True)
        if len(error.lines) > SHOWN_LINES:
            typer.echo(f"{file}: and {len(error.lines) - SHOWN_LINES} more", err=True)
        raise
    _store(rows, state, replace, dry_run, json)


@app.command()
def show(
    symbol: Annotated[str, typer.Argument(help="The underlying.")],
    state: StateOption = DEFAULT_STATE,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many days, newest first.")] = 20,
    json: JsonOption = False,
) -> None:
    """Show an underlying's observations, newest first, each with its rank among the 90 sessions before it."""
    import msgspec

    from oracle.core.errors import ConfigurationError
    from oracle.options.iv_history import NEEDED_OBSERVATIONS, WINDOW_SESSIONS, IvHistory
    from oracle.store.ivs import observations

    symbol = _symbol(symbol)
    stored = observations(state)
    rows = [row for row in stored if row.underlying == symbol]
    if not rows:
        have = ", ".join(sorted({row.underlying for row in stored})) or "none"
        raise ConfigurationError("SYMBOL", f"no observation of {symbol} is stored (there are: {have})", _HOW)
    newest = rows[-1]
    table = _table(dt.date.fromisoformat(newest.date), since=dt.date.fromisoformat(rows[0].date))
    history = IvHistory(table)
    history.add(rows)
    stood = {row.date: history.standing(symbol, row.date, row.iv_30d) for row in rows[-limit:]}
    sources: dict[str, int] = {}
    for row in history.window(symbol, newest.date):
        sources[row.source] = sources.get(row.source, 0) + 1
    missing = [s.date for s in table.before(newest.date, WINDOW_SESSIONS) if history.on(symbol, s.date) is None]
    if json:
        days = [
            {**msgspec.structs.asdict(row), **msgspec.structs.asdict(stood[row.date])} for row in rows[-limit:][::-1]
        ]
        _print_json({
            "underlying": symbol, "days": days, "window": WINDOW_SESSIONS, "needed": NEEDED_OBSERVATIONS,
            "sources": sources, "missing": missing, "stored": len(rows),
        })  # fmt: skip
        return
    last = stood[newest.date]
    print(f"{symbol} {newest.date}: 30-day IV {newest.iv_30d:.2%}, source {newest.source}")
    print(f"rank {_share(last.rank)}, percentile {_share(last.percentile)}{_why(last.reason)}")
    told = ", ".join(f"{name} {count}" for name, count in sorted(sources.items())) or "none"
    print(
        f"window: {last.observations} of the {last.window} sessions before it are observed "
        f"({NEEDED_OBSERVATIONS} needed): {told}"
    )
    if missing:
        print(f"missing: {len(missing)}, the newest {', '.join(missing[-3:])}")
    print()
    _print_rows(
        ("date", "30-day IV", "rank", "percentile", "observed", "source"),
        [
            (
                row.date, f"{row.iv_30d:.2%}", _share(stood[row.date].rank), _share(stood[row.date].percentile),
                str(stood[row.date].observations), row.source,
            )
            for row in rows[-limit:][::-1]
        ],
    )  # fmt: skip


@app.command()
def backfill(
    symbol: Annotated[str, typer.Argument(help="The underlying.")],
    first: Annotated[str, typer.Option("--from", help="First date, YYYY-MM-DD; 2024-02-01 at the earliest.")],
    last: Annotated[str, typer.Option("--to", help="Last date, YYYY-MM-DD.")],
    state: StateOption = DEFAULT_STATE,
    replace: ReplaceOption = False,
    dry_run: DryOption = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Estimate past sessions' volatility from the vendor's bars of options near the close, and store them.

    Each session takes about three requests; on paper they are spread to 150 a minute. A session without enough trades
    is told with the reason and left out. The stored source is "backfill:option_bars". Dates that are stored with
    another value are left alone and named, unless --replace is given. Exit code 1 when no session has a volatility.
    """
    import asyncio

    from oracle.config import load

    settings = load(config, set_ or ())
    check_state(state, dry_run=dry_run)
    asyncio.run(_backfill(settings, _symbol(symbol), first, last, (state, replace, dry_run, json)))


@app.command()
def rebuild(
    journals: Annotated[list[Path], typer.Argument(help="Journal files (*.oj) of recorded sessions.")],
    state: StateOption = DEFAULT_STATE,
    replace: ReplaceOption = False,
    dry_run: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Observe recorded sessions again at 15:45, from the chains that their journals hold, and store the volatilities.

    Beside them: the skew of the nearer expiry and the VIX-style index of the recorded strikes ("+" where a wing ran out
    of recorded quotes, so that the index reads low). The stored source is "journal". Dates that are stored with another
    value are left alone and named, unless --replace is given. A file that is no journal of this build is named and
    passed over; exit code 78 when all are.
    """
    import msgspec

    check_state(state, dry_run=dry_run)
    found, notes = _observed_again(journals)
    for note in notes:
        typer.echo(note, err=True)
    if not json:
        _print_rows(
            ("underlying", "date", "30-day IV", "between", "skew", "25d put-call", "index", "problem"),
            [
                (
                    one.underlying, one.date, _percent(one.iv_30d), f"{one.near} {one.next}".strip(),
                    "" if one.skew_slope is None else f"{one.skew_slope:+.3f}", _percent(one.risk_reversal),
                    "" if one.index is None else f"{one.index:.2f}{'' if one.index_complete else '+'}", one.reason,
                )
                for one in found
            ],
        )  # fmt: skip
    # A later journal of the same session counts.
    by_day = {(row.underlying, row.date): row for one in found if (row := one.observation()) is not None}
    more = {"sessions": [msgspec.to_builtins(one) for one in found], "problems": notes}
    _store(list(by_day.values()), state, replace, dry_run, json, more, keep=True)


app.command()(term)

# ------------------------------------------------------------------------------------------------------------ inside

_HOW = "see oracle iv import, backfill and rebuild"
Asked = tuple[Path, bool, bool, bool]


def _observed_again(journals: "Sequence[Path]") -> "tuple[list[Rebuilt], list[str]]":
    """What each file's sessions come to, and what is to be said of files.

    Raises:
        ConfigurationError: none of them is a journal of this build.
    """
    from oracle.core.errors import ConfigurationError
    from oracle.ivrebuild import rebuild as observe

    found: list[Rebuilt] = []
    notes: list[str] = []
    refused = 0
    for path in journals:
        try:
            rows, problem = observe(path)
        except ConfigurationError as error:
            refused += 1
            if refused == len(journals):
                raise
            notes.append(f"{path}: passed over: {error}")
            continue
        found += rows
        if problem:
            notes.append(f"{path}: {problem}")
        if not rows:
            notes.append(f"{path}: no session in it reaches 15:45 with a chain")
    return found, notes


def _symbol(text: str) -> str:
    from oracle.core.errors import ConfigurationError
    from oracle.core.instruments import is_equity

    if not is_equity(text.upper()):
        raise ConfigurationError("SYMBOL", f"{text!r} is not a stock symbol", "write e.g. SPY")
    return text.upper()


async def _backfill(config: Any, symbol: str, first: str, last: str, asked: "Asked") -> None:
    import msgspec

    from oracle.alpaca.optionbars import FIRST_DATE, OptionBars
    from oracle.alpaca.rest import RestClient
    from oracle.build import RATE_PER_YEAR
    from oracle.connect import account_of
    from oracle.core.errors import ConfigurationError, TransientError
    from oracle.ivbackfill import Backfill

    begin, end = _dates(first, last)
    live = config.mode != "sim"
    if live and first < FIRST_DATE:
        raise ConfigurationError("--from", f"the vendor has no option bars before {FIRST_DATE}", "begin there")
    if end > _today() + dt.timedelta(days=AHEAD_DAYS):
        raise ConfigurationError("--to", f"{last} has not ended", "give an earlier date")
    table = _table(end, since=begin, after_days=80)
    sessions = [one for one in table.sessions if first <= one.date <= last]
    if not sessions:
        raise ConfigurationError("--to", f"NYSE has no session from {first} to {last}", "give other dates")
    # Half a session's trades would be taken for those before its close. The embedded exchange has a clock of its own.
    if live and sessions[-1].close_ns > dt.datetime.now(dt.UTC).timestamp() * 1e9:
        raise ConfigurationError("--to", f"the session of {sessions[-1].date} has not ended", "give an earlier date")
    days: list[Day] = []
    stopped = ""
    async with RestClient(*account_of(config)) as rest:
        work = Backfill(
            OptionBars(rest), table, symbol, rate=RATE_PER_YEAR, pause=_pacer(REQUESTS_PER_MIN if live else 0)
        )
        try:
            async for day in work.days(sessions):
                days.append(day)
        except TransientError as error:
            if not days:
                raise
            stopped = (
                f"stopped before {sessions[len(days)].date}: {error}; repeat with --from {sessions[len(days)].date}"
            )
    state, replace, dry_run, json = asked
    if not json:
        _print_rows(
            ("date", "30-day IV", "between", "trades", "problem"),
            [(d.date, _percent(d.iv_30d), f"{d.near} {d.next}".strip(), str(d.trades), d.reason) for d in days],
        )
    if stopped:
        typer.echo(stopped, err=True)
    rows = [row for day in days if (row := day.observation(symbol)) is not None]
    more = {"days": [msgspec.to_builtins(day) for day in days], "stopped": stopped}
    _store(rows, state, replace, dry_run, json, more, keep=True)
    if not rows:
        typer.echo(f"no data: no volatility of {symbol} in any of {len(days)} sessions", err=True)
        raise typer.Exit(EXIT_NO_DATA)


def _pacer(per_min: int) -> Any:
    """Wait long enough before each request; not at all for 0."""
    import asyncio

    async def pause() -> None:
        if per_min:
            await asyncio.sleep(60 / per_min)

    return pause


def _store(
    rows: "Sequence[DailyIvObserved]", state: Path, replace: bool, dry_run: bool, json: bool, more: Any = None,
    *, keep: bool = False,
) -> None:  # fmt: skip
    """Write observations and say what became of them; ``keep``: what is stored with another value is left alone."""
    import msgspec

    from oracle.store.ivs import write

    done: Written | None = None if dry_run or not rows else write(state, rows, replace=replace, keep=keep)
    if json:
        _print_json({
            "rows": [msgspec.structs.asdict(row) for row in rows], "dry_run": dry_run,
            "written": None if done is None else msgspec.structs.asdict(done), **(more or {}),
        })  # fmt: skip
        return
    if done is None:
        print(f"{len(rows)} observations; nothing was written")
        return
    for kept in done.kept[:SHOWN_LINES]:
        print(f"left alone: {kept}")
    if len(done.kept) > SHOWN_LINES:
        print(f"left alone: {len(done.kept) - SHOWN_LINES} more")
    print(f"{done.added} added, {done.replaced} replaced, {done.unchanged} as they were")
    if done.daemon_running:
        print("a daemon is running on this state: it reads them at its next start")


def _today() -> dt.date:
    return dt.datetime.now(NEW_YORK).date()


def _dates(first: str, last: str) -> tuple[dt.date, dt.date]:
    from oracle.core.errors import ConfigurationError

    days = []
    for name, text in (("--from", first), ("--to", last)):
        try:
            day = dt.date.fromisoformat(text)
        except ValueError:
            raise ConfigurationError(name, f"{text!r} is not a date", "write YYYY-MM-DD") from None
        if day.isoformat() != text:  # 20250602 and 2025-W23-1 are dates too, but sort elsewhere
            raise ConfigurationError(name, f"{text!r} is not a date", f"write {day.isoformat()}")
        days.append(day)
    if days[0] > days[1]:
        raise ConfigurationError("--to", f"{last} is before {first}", "give the later date last")
    return days[0], days[1]


def _table(last: dt.date, *, years: int = 0, since: dt.date | None = None, after_days: int = 10) -> "SessionTable":
    """Sessions up to some days after ``last``, with those of the window before ``since``."""
    from oracle.calendar import load_sessions

    begin = (since or last) - dt.timedelta(days=366 * years + 150)
    return load_sessions(begin, last + dt.timedelta(days=after_days))


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _why(reason: str) -> str:
    words = {"iv_history": "too few observations", "iv_history_flat": "all observations are equal"}
    return f" ({words.get(reason, reason)})" if reason else ""


def _print_rows(names: tuple[str, ...], rows: "Sequence[tuple[str, ...]]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        numeric = name in ("30-day IV", "rank", "percentile", "observed", "trades", "skew", "25d put-call", "index")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=name not in ("problem", "source"))
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        # A pipe has no width: rows stay whole for grep and awk.
        console = Console(width=240)
    console.print(table, highlight=False)


def _print_json(value: Any) -> None:
    import orjson

    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())

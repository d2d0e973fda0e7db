"""What ``oracle chain`` and ``oracle gamma`` share: where the chain comes from, saying "no data", writing plots.

Inputs: options of the command line. Outputs: a ``ChainModel``, a file. Exit code 1 means that there are no data.
"""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from oracle.core.errors import ConfigurationError, TransientError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oracle.picture import ChainModel

EXIT_NO_DATA = 1
_START = "; start an exchange there: oracle exchange --hold, or read a recorded day: --data FOLDER --date --time"
BEFORE_DAYS, AFTER_DAYS = 10, 1200
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="A folder of recorded days instead of the configured venue.", show_default=False),
]
DateOption = Annotated[str | None, typer.Option("--date", help="The recorded session, YYYY-MM-DD.", show_default=False)]
TimeOption = Annotated[str | None, typer.Option("--time", help="New York time of that day, HH:MM.", show_default=False)]
ExpiryOption = Annotated[str | None, typer.Option("--expiry", help="Only this expiry, YYYY-MM-DD.", show_default=False)]
RateOption = Annotated[float, typer.Option("--rate", min=-0.05, max=0.25, help="Interest rate a year, 0.04 is 4 %.")]
DividendOption = Annotated[
    list[str] | None,
    typer.Option("--dividend", metavar="EX-DATE=USD", help="A cash dividend, e.g. 2026-03-20=1.75. Repeatable."),
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="Also draw it into this .html or .png file.", show_default=False)
]


def load_model(
    symbol: str,
    *,
    data: Path | None,
    date: str | None,
    time: str | None,
    expiry: str | None,
    rate: float,
    config: Path | None,
    set_: list[str] | None,
    dividend: list[str] | None = None,
) -> "ChainModel":
    """Read a chain from files or from the configured venue, and compute its model values.

    Raises:
        ConfigurationError: options or settings are wrong.
        NoDataError: there is no chain or no price.
        RemoteError: the venue cannot be reached.
    """
    import asyncio

    from oracle.calendar import load_sessions
    from oracle.config import load
    from oracle.connect import account_of
    from oracle.core.instruments import is_equity
    from oracle.picture import model, read_live, read_recorded

    if not is_equity(symbol):
        raise ConfigurationError("SYMBOL", f"{symbol!r} is not a stock symbol", "write e.g. SPY")
    for name, text in (("--expiry", expiry), ("--date", date)):
        if text is not None:
            _day(name, text)
    paid = [_dividend(text) for text in dividend or ()]
    if data is not None:
        if date is None or time is None:
            raise ConfigurationError("--data", "needs --date and --time", "write e.g. --date 2026-01-05 --time 11:00")
        day = _day("--date", date)
        table = load_sessions(day - dt.timedelta(days=BEFORE_DAYS), day + dt.timedelta(days=AFTER_DAYS))
        _check_sessions(paid, table)
        return model(read_recorded(data, symbol, date, time, table), table, rate=rate, dividends=paid)
    if date is not None or time is not None:
        raise ConfigurationError("--date, --time", "are for recorded days", "give --data FOLDER too")
    settings = load(config, set_ or ())
    account = account_of(settings)
    # The venue's clock may be an exchange's own: the calendar covers whatever it says.
    try:
        return asyncio.run(_live(account, symbol, expiry, rate, load_sessions, model, read_live, paid))
    except TransientError as error:
        fix = _START if settings.mode == "sim" and "cannot connect" in str(error) else ""
        raise TransientError(f"{account[0].trading_url}: {error}{fix}") from error


async def _live(
    account: Any, symbol: str, expiry: str | None, rate: float, load_sessions: Any, model: Any, read_live: Any,
    paid: list[tuple[str, float]],
) -> "ChainModel":  # fmt: skip
    from oracle.alpaca.marketdata import MarketData
    from oracle.alpaca.rest import RestClient

    async with RestClient(*account) as rest:
        at_ns = (await MarketData(rest).clock()).at_ns
    today = dt.datetime.fromtimestamp(at_ns // 1_000_000_000, dt.UTC).date()
    table = load_sessions(today - dt.timedelta(days=BEFORE_DAYS), today + dt.timedelta(days=400))
    _check_sessions(paid, table)
    picture = await read_live(account, symbol, table, expiry)
    found: ChainModel = model(picture, table, rate=rate, max_age_s=86_400.0, dividends=paid)
    return found


@contextmanager
def saying_no_data(json: bool) -> Iterator[None]:
    """End with exit code 1, and why, when there is no chain or no price to be read."""
    from oracle.picture import NoDataError

    try:
        yield
    except NoDataError as error:
        no_data(str(error), json)


def no_data(text: str, json: bool) -> NoReturn:
    """Say that there are no data and why, and end with exit code 1."""
    import sys

    if json:
        print_json({"no_data": text})
    print(f"no data: {text}", file=sys.stderr)
    raise typer.Exit(EXIT_NO_DATA)


def print_json(value: Any) -> None:
    """Print JSON for machines; NaN is null."""
    import orjson

    print(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode())


def number(value: float, digits: int = 6) -> float | None:
    """A float for JSON: rounded, None when it is not a number."""
    import math

    return round(float(value), digits) if math.isfinite(value) else None


def shown(value: float, form: str) -> str:
    """A float for people: a dash when it is not a number."""
    import math

    return format(value, form) if math.isfinite(value) else "-"


def check_plot(path: Path | None) -> None:
    """Refuse a plot file whose kind is unknown, before anything is read.

    Raises:
        ConfigurationError: the name ends in neither .html nor .png, or its folder does not exist.
    """
    if path is None:
        return
    if path.suffix.lower() not in (".html", ".png"):
        raise ConfigurationError("--plot", f"{path} is neither .html nor .png", "choose one of the two")
    if not path.resolve().parent.is_dir():
        raise ConfigurationError("--plot", f"{path.parent} is not a folder", "make it first")


def write_plot(figure: "Figure", title: str, notes: list[str], path: Path) -> None:
    """Write a figure as PNG, or as one self-contained page with the drawing inside.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    import html
    import io

    import matplotlib as mpl

    try:
        if path.suffix.lower() == ".png":
            figure.savefig(path, dpi=140, format="png")
            return
        buffer = io.StringIO()
        # Without a fixed salt and date the same picture would differ from run to run.
        with mpl.rc_context({"svg.hashsalt": "oracle", "svg.fonttype": "path"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        drawing = buffer.getvalue()
        drawing = drawing[drawing.index("<svg") :]
        lines = "".join(f"<p>{html.escape(note)}</p>\n" for note in notes)
        path.write_text(
            f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
            "<style>body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
            "svg{width:100%;height:auto}p{margin:.3rem 0;color:#444}</style>\n"
            f"<h1>{html.escape(title)}</h1>\n{drawing}\n{lines}</html>\n",
            encoding="utf-8",
        )
    except OSError as error:
        raise ConfigurationError("--plot", f"{path} cannot be written ({error.strerror})", "choose another") from None


def _dividend(text: str) -> tuple[str, float]:
    import math

    date, _, amount = text.partition("=")
    try:
        usd = float(amount)
    except ValueError:
        usd = math.nan
    if not 0 < usd < math.inf:
        raise ConfigurationError("--dividend", f"{text!r} is no date and dollars", "write e.g. 2026-03-20=1.75")
    return _day("--dividend", date).isoformat(), usd


def _check_sessions(paid: list[tuple[str, float]], table: Any) -> None:
    for date, _ in paid:
        if table.on(date) is None:
            raise ConfigurationError("--dividend", f"{date} is not a session around then", "write the ex-date")


def _day(name: str, text: str) -> dt.date:
    from oracle.markets import FIRST_YEAR, LAST_YEAR

    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        day = None
    # fromisoformat also takes 20260105, which would then be no file's and no contract's date.
    if day is None or day.isoformat() != text:
        raise ConfigurationError(name, f"{text!r} is not a date", "write YYYY-MM-DD")
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ConfigurationError(name, f"no NYSE calendar for {text}", f"choose {FIRST_YEAR} to {LAST_YEAR}")
    return day

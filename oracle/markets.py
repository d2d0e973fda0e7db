"""Edge: choose the exchange's market source and the calendar that it needs.

Inputs: seed and dates, or a folder of recorded files. Outputs: the session table and a market source.
"""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from oracle.calendar import load_sessions
from oracle.core.errors import ConfigurationError

if TYPE_CHECKING:
    from oracle.core.sessions import SessionTable
    from oracle.sim.source import MarketSource

DEFAULT_DATE = "2026-01-05"
# Generated history: 120 sessions of daily bars before the first, options listed 60 days beyond the last.
BEFORE_DAYS, AFTER_DAYS = 260, 120
# Beyond these the rules of the NYSE's holidays are not known well enough to call a day a session.
FIRST_YEAR, LAST_YEAR = 1990, 2060


def table_around(first: str, last: str) -> "SessionTable":
    """The calendar from well before the first session to beyond the last listed expiry."""
    before = dt.date.fromisoformat(first) - dt.timedelta(days=BEFORE_DAYS)
    return load_sessions(before, dt.date.fromisoformat(last) + dt.timedelta(days=AFTER_DAYS))


def build_market(
    *,
    seed: int,
    date: str | None,
    sessions: int,
    source: Path | None,
    underlying: str | None,
    momentum: bool = False,
    plants: Sequence[str] = (),
) -> tuple["SessionTable", "MarketSource"]:
    """Make the market that an exchange serves.

    ``momentum`` plants entries of ``momentum_scalping`` as well, ``plants`` walls, volatility shocks and sweeps.

    Raises:
        ConfigurationError: a date is not a session, or files are missing; names the option and the fix.
    """
    first = date if date is not None else DEFAULT_DATE
    try:
        start = dt.date.fromisoformat(first)
    except ValueError:
        raise ConfigurationError("--date", f"{first!r} is not a date", "write YYYY-MM-DD") from None
    if not FIRST_YEAR <= start.year <= LAST_YEAR:
        raise ConfigurationError(
            "--date", f"no NYSE calendar for {first}", f"choose a day from {FIRST_YEAR} to {LAST_YEAR}"
        )
    first = start.isoformat()  # fromisoformat also takes 20260105 and 2026-W02-1
    if source is not None and momentum:
        raise ConfigurationError("--momentum", "nothing is planted in a recorded day", "leave it out")
    if source is not None and plants:
        raise ConfigurationError("--plant", "nothing is planted in a recorded day", "leave it out")
    if source is not None:
        return _recorded(source, underlying, None if date is None else first)
    last = start + dt.timedelta(days=2 * sessions + 10)
    table = table_around(first, last.isoformat())
    if table.on(first) is None:
        raise ConfigurationError("--date", f"NYSE is closed on {first}", "choose a trading day")
    from oracle.sim.market import GeneratedMarket, momentum_plants  # noqa: PLC0415 - scipy comes with it
    from oracle.sim.planted_options import read_option_plants  # noqa: PLC0415 - as above

    dates = [s.date for s in table.sessions if s.date >= first][:sessions]
    planted = momentum_plants(seed, table, dates) if momentum else None
    return table, GeneratedMarket(seed, table, dates, planted, option_plants=read_option_plants(plants, dates))


def _recorded(source: Path, underlying: str | None, date: str | None) -> tuple["SessionTable", "MarketSource"]:
    if underlying is None or date is None:
        missing = "--underlying" if underlying is None else "--date"
        raise ConfigurationError(missing, "a recorded day needs it", "e.g. --underlying GOOG --date 2015-12-24")
    from oracle.sim.history import RecordedMarket  # noqa: PLC0415 - generated days need none

    # Old chains list LEAPS: expiries two years out need sessions that far.
    before = dt.date.fromisoformat(date) - dt.timedelta(days=BEFORE_DAYS)
    table = load_sessions(before, dt.date.fromisoformat(date) + dt.timedelta(days=900))
    if table.on(date) is None:
        raise ConfigurationError("--date", f"NYSE is closed on {date}", "choose a recorded trading day")
    return table, RecordedMarket(source, underlying, date, table)

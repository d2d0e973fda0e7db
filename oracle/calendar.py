"""Edge: load the NYSE calendar into the core's session table. The only importer of exchange-calendars."""

import datetime as dt
import warnings

from oracle.core.errors import ConfigurationError
from oracle.core.sessions import Session, SessionTable


def load_sessions(first: dt.date, last: dt.date) -> SessionTable:
    """Load XNYS sessions from ``first`` to ``last`` inclusive (about a second: pandas comes with it).

    Raises:
        ConfigurationError: the range holds no session or the calendar does not cover it.
    """
    import exchange_calendars  # noqa: PLC0415 - pandas costs a second; commands that need no calendar skip it

    try:
        with warnings.catch_warnings():
            # exchange-calendars 4.13 uses what pandas 3.1 deprecates; nothing here can act on that.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            calendar = exchange_calendars.get_calendar("XNYS", start=first.isoformat(), end=last.isoformat())
            schedule = calendar.schedule
    except ValueError as error:
        raise ConfigurationError(
            "date", f"no NYSE calendar for {first} to {last} ({error})", "choose other dates"
        ) from None
    opens = schedule["open"].dt.as_unit("ns").astype("int64").tolist()
    closes = schedule["close"].dt.as_unit("ns").astype("int64").tolist()
    days = [stamp.date().isoformat() for stamp in schedule.index]
    return SessionTable(Session(d, o, c) for d, o, c in zip(days, opens, closes, strict=True))

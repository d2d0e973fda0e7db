"""Instants as people in New York read them."""

import datetime as dt
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")


def new_york(at_ns: int, form: str = "%H:%M:%S") -> str:
    """A UTC instant (ns) as New York time."""
    return dt.datetime.fromtimestamp(at_ns // 1_000_000_000, NEW_YORK).strftime(form)

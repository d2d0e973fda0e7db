"""What is computed beside the event loop, as plain requests and results that a pipe can carry.

Inputs: a job that names a state folder. Outputs: its result. Everything is read from the database through connections
of its own; only reports are written, as files. Invariant: nothing here touches the books.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import msgspec

from oracle.core.trackrecord import StrategyKey


class Refresh(msgspec.Struct, frozen=True, tag=True):
    """Compute the derived rows of these keys; of all when ``everything``. ``date`` is the newest session's."""

    state: str
    keys: tuple[StrategyKey, ...]
    everything: bool
    date: str
    bootstrap: bool


class Refreshed(msgspec.Struct, frozen=True, tag=True):
    """Rows to be stored, packed in parts, each to be written before the next."""

    parts: tuple[bytes, ...]


class Summarise(msgspec.Struct, frozen=True, tag=True):
    """Say what the session of a date came to."""

    state: str
    date: str


class Summary(msgspec.Struct, frozen=True, tag=True):
    """The facts of a session's line in the log: plain values."""

    facts: dict[str, Any]


class MakeReports(msgspec.Struct, frozen=True, tag=True):
    """Write what is missing of the months and weeks that are over on this date; ``week_over``: its week is too."""

    state: str
    date: str
    week_over: bool


class Made(msgspec.Struct, frozen=True):
    """One report: ``kind`` is month or week, ``file`` its path; a problem when it could not be written."""

    kind: str
    name: str
    file: str
    facts: dict[str, Any] = {}
    problem: str = ""


class Reports(msgspec.Struct, frozen=True, tag=True):
    """What was made, or failed."""

    made: tuple[Made, ...]


Job = Refresh | Summarise | MakeReports
Result = Refreshed | Summary | Reports


# Who does a job. Named, because reports need libraries that a daemon can do without.
_WORK: Mapping[type[Job], str] = {
    Refresh: "oracle.statistician:refresh",
    Summarise: "oracle.reviews:summarise",
    MakeReports: "oracle.reviews:make_missing",
}


def carry_out(job: Job) -> Result:
    """Do a job; whatever is wrong is raised."""
    module, _, function = _WORK[type(job)].partition(":")
    done: Result = getattr(import_module(module), function)(job)
    return done

"""``oracle note``: write something down with a session, through the running daemon.

Inputs: a text, perhaps a session's date. Output: the session it is kept with. Exit codes as those of ``oracle halt``.
A stopped daemon takes no notes: a note is an input like any other, and only the daemon journals and stores inputs.
"""

from typing import Annotated

import typer

from oracle.cli.control import NoDaemonError, ask_daemon, show
from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption
from oracle.core.errors import ConfigurationError, RemoteError

WAIT_S = 15.0


def note(
    text: Annotated[str, typer.Argument(help="What to write down, up to 1000 characters.")],
    session: Annotated[
        str | None,
        typer.Option("--session", metavar="DATE", help="Which session it is about (default: today's, or the last)."),
    ] = None,
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Write something down with a session: it stands in the session's record and in reports.

    It is kept with your user name and cannot be taken back; it changes nothing that is traded.
    """
    import msgspec

    from oracle.core.control import Note

    if session is not None:
        _check_date(session)
    try:
        ask = msgspec.convert({"action": "note", "text": text, "session": session}, Note)
    except msgspec.ValidationError:
        problem = f"the text has {len(text):,} characters"
        raise ConfigurationError("note", problem, "give 1 to 1000") from None
    try:
        show(ask_daemon(state, ask, "", WAIT_S), json)
    except NoDaemonError as error:
        why = "the daemon takes notes, because it journals and stores them"
        raise RemoteError(f"{error}; {why}: note it again once it runs, with --session for the day meant") from None


def _check_date(text: str) -> None:
    import datetime as dt

    try:
        known = dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        known = False
    if not known:
        raise ConfigurationError("--session", f"{text!r} is not a date", "write YYYY-MM-DD")

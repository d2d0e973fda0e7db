"""``oracle report``: one page of HTML with verdicts, curves, months, distributions, costs and what went wrong.

Inputs: a state folder, while the daemon runs or after. Output: a self-contained file that opens offline and prints.
Exit codes: 0 done, 78 no such month or strategy, or a file that cannot be written. Nothing here changes the database.
"""

from pathlib import Path
from typing import Annotated

import typer

from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption
from oracle.cli.performance import MonthOption
from oracle.core.errors import ConfigurationError


def report(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page to write, ending in .html.")],
    month: MonthOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All time, which is the default.")] = False,
    strategy: Annotated[
        str | None, typer.Option("--strategy", metavar="NAME", help="Only this strategy.", show_default=False)
    ] = None,
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Write a report as one page of HTML: verdict first, then figures, curves, costs, breakers and worst days.

    The page has no script and loads nothing: it opens offline and on a phone, and it prints. Its figures
    are those of oracle performance --json, its verdicts those of oracle readiness --json. An existing file is replaced.

    Examples: oracle report --out report.html; oracle report --month 2026-01 --out january.html
    """
    from oracle.reporting_page import report as write
    from oracle.store import read

    if month is not None and everything:
        raise ConfigurationError("--all", "--month is one month, --all is all time", "give one of the two")
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigurationError("--out", f"{out} does not end in .html", "name it e.g. report.html")
    if not out.resolve().parent.is_dir():
        raise ConfigurationError("--out", f"{out.resolve().parent} is not a folder", "make it first")
    with read.reading(state) as db:
        text = write(db, month=month, strategy=strategy)
    write_file(out, text.encode())
    if json:
        from oracle.cli.performance import print_json

        print_json({"file": str(out), "bytes": len(text.encode()), "month": month, "strategy": strategy})
        return
    print(f"{out}: {len(text.encode()) / 1000:,.0f} kB")


def write_file(path: Path, content: bytes, option: str = "--out") -> None:
    """Put a file in place whole: a reader sees the old one or the new one.

    Raises:
        ConfigurationError: it cannot be written.
    """
    import os

    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        problem = f"{path} cannot be written ({error.strerror})"
        raise ConfigurationError(option, problem, "choose another file") from None

"""``oracle export``: trades, fills, settlements, days and snapshots as CSV or Parquet.

Inputs: a state folder, while the daemon runs or after. Outputs: one file a table. Exit codes: 0 done, 78 a format, a
folder or a package is wrong. Nothing here changes the database.
"""

from pathlib import Path
from typing import Annotated

import typer

from oracle.cli.options import DEFAULT_STATE, JsonOption, StateOption


def export(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the files go; made when missing.")],
    form: Annotated[str, typer.Option("--format", metavar="csv|parquet", help="csv or parquet.")] = "csv",
    force: Annotated[bool, typer.Option("--force", help="Replace files of an earlier export.")] = False,
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
) -> None:
    """Write trades, fills, settlements, days and snapshots into a folder, one file each, for other programs.

    Amounts are exact decimal dollars, times UTC with nanoseconds. An empty field (CSV) or a null (Parquet) is unknown.
    Parquet needs pyarrow. Files of an earlier export are replaced with --force alone.

    Examples: oracle export --out export; oracle export --format parquet --out /data/oracle --force
    """
    from oracle.export import export as write
    from oracle.store import read

    with read.reading(state) as db:
        counts = write(db, out, form, force=force)
    if json:
        from oracle.cli.performance import print_json

        print_json({"folder": str(out), "rows": counts})
        return
    for name, rows in counts.items():
        print(f"{rows:>9,}  {out / name}")

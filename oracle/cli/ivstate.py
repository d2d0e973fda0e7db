"""Whether a state folder can take rows of ``oracle iv``: looked at before a command reads files or asks the vendor.

Input: the folder. Output: none, or the error with its fix.
"""

from pathlib import Path

from oracle.core.errors import ConfigurationError


def check_state(state: Path, *, dry_run: bool) -> None:
    """Refuse a state folder that cannot take rows, before anything is read or asked for; a dry run needs none.

    Raises:
        ConfigurationError: there is no database in it, or not one of this program's version.
        StoreError: it cannot be read.
    """
    from oracle.store.read import reading
    from oracle.store.state import DATABASE_NAME

    if dry_run:
        return
    if not state.is_file() and not (state / DATABASE_NAME).is_file():
        raise ConfigurationError(
            "--state", f"{state} has no {DATABASE_NAME}: a daemon makes it at its first start",
            f"start one there once, with the settings that it is to trade with, and stop it: oracle run --state {state}"
            " (or try this command with --dry-run)",
        )  # fmt: skip
    with reading(state):
        pass

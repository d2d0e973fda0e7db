"""``oracle run``: the daemon itself."""

from pathlib import Path
from typing import Annotated

import typer

from oracle.cli.options import DEFAULT_STATE, ConfigOption, JsonOption, SetOption, StateOption


def run(
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode", help="sim: the embedded exchange; paper: Alpaca paper. Default: the setting.", show_default=False
        ),
    ] = None,
    state: StateOption = DEFAULT_STATE,
    json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Trade until stopped (SIGTERM or Ctrl-C drain), or until the embedded exchange has played its sessions.

    In sim mode an exchange must be listening: start one with `oracle exchange --hold`. Paper needs keys, from the
    environment (ORACLE_ALPACA__KEY, ORACLE_ALPACA__SECRET) or systemd credentials (alpaca-key, alpaca-secret).
    """
    import asyncio

    from oracle import app, logs
    from oracle.config import load

    overrides = [*(set_ or ()), *(() if mode is None else (f"mode={mode}",))]
    settings = load(config, overrides)
    logs.configure_logging(
        settings.logs.level, secrets=settings.secrets(), colour=settings.logs.colour, sd_prefix=settings.logs.sd_prefix
    )
    result = asyncio.run(app.run(settings, Path(state)))
    if json:
        import orjson

        hashes = {"inputs_sha256": result.inputs_sha256, "decisions_sha256": result.decisions_sha256}
        print(orjson.dumps({**result.tally.figures(), **hashes}, option=orjson.OPT_INDENT_2).decode())

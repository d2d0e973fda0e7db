"""Options that several commands share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

StateOption = Annotated[
    Path, typer.Option("--state", help="Folder of database and journal.", envvar=[], show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines on standard output.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings in TOML; see docs/configuration.md.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, e.g. --set risk.consecutive_losses=2. Repeatable.", metavar="NAME=VALUE"),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the generated market.")]
MomentumOption = Annotated[
    bool, typer.Option("--momentum", help="Plant a momentum entry of SPY or QQQ a session, in place of its breakout.")
]
PlantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plant", metavar="KIND:SYMBOL[:NAME=VALUE,...]",
        help="Plant a wall, a vol_shock or a sweep in the options, e.g. vol_shock:SPY:session=3,jump=0.6. Repeatable.",
    ),
]  # fmt: skip
BehaviourOption = Annotated[
    list[str] | None,
    typer.Option(
        "--behaviour", metavar="NAME=VALUE",
        help="What the broker does of its own accord, e.g. pin_risk_sell_out=0.5; see docs/exchange.md. Repeatable.",
    ),
]  # fmt: skip
SessionsOption = Annotated[int, typer.Option("--sessions", min=1, max=260, help="How many trading days.")]
DateOption = Annotated[
    str | None, typer.Option("--date", help="First session, YYYY-MM-DD (default 2026-01-05).", show_default=False)
]
SourceOption = Annotated[
    Path | None,
    typer.Option("--source", help="Replay a recorded day from this folder instead.", show_default=False),
]
UnderlyingOption = Annotated[
    str | None, typer.Option("--underlying", help="The recorded day's underlying.", show_default=False)
]
PlanOption = Annotated[str, typer.Option("--plan", help="Data plan: basic (200 option quotes) or plus (1,000).")]

DEFAULT_STATE = Path("state/daemon")

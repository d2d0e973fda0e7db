"""One frozen tree of settings, read once: defaults, TOML file, environment, credentials, command line.

Inputs: ``oracle.toml``, ``ORACLE_*`` variables (nesting by ``__``), files in ``$CREDENTIALS_DIRECTORY``, ``--set``.
Outputs: a validated ``Config`` and its fingerprint. An unknown setting or variable is an error that names it.
The sources are merged by hand: pydantic-settings passes over a mistyped variable and knows no ``--set``.
"""

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from oracle.core.errors import ConfigurationError
from oracle.risk.limits import LadderSettings, RiskLimits

PAPER_HOSTS = {
    "trading_url": "paper-api.alpaca.markets",
    "data_url": "data.alpaca.markets",
    "stream_url": "stream.data.alpaca.markets",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ENV_PREFIX = "ORACLE_"
# Variables with our prefix that are not settings: they belong to the tests and the scripts.
NOT_SETTINGS = frozenset({"ORACLE_REAL_DATA", "ORACLE_REQUIRE_PROM"}) | {
    # A database client of the same name uses these.
    *("ORACLE_BASE", "ORACLE_HOME", "ORACLE_HOSTNAME", "ORACLE_PATH", "ORACLE_PDB_SID", "ORACLE_SID", "ORACLE_TERM"),
    "ORACLE_UNQNAME",
}
CREDENTIALS = {"alpaca-key": ("alpaca", "key"), "alpaca-secret": ("alpaca", "secret")}
# Text as it is written, even where it looks like a number.
SECRETS = frozenset({("alpaca", "key"), ("alpaca", "secret"), ("sim", "key"), ("sim", "secret")})


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class AlpacaSettings(_Section):
    """The broker account and data plan. Keys come from credentials or the environment, never from arguments."""

    key: SecretStr | None = Field(None, description="the account's key id")
    secret: SecretStr | None = Field(None, description="its secret")
    plan: Literal["basic", "algo_trader_plus"] = Field(
        "basic", description="`basic` (IEX, indicative options) or `algo_trader_plus` (SIP, OPRA)"
    )
    trading_url: str = Field(
        "https://paper-api.alpaca.markets", pattern=r"^https?://[^/]+$", description="the trading API's host"
    )
    data_url: str = Field(
        "https://data.alpaca.markets", pattern=r"^https?://[^/]+$", description="the market-data API's host"
    )
    stream_url: str = Field(
        "wss://stream.data.alpaca.markets", pattern=r"^wss?://[^/]+$", description="the market-data streams' host"
    )
    trading_requests_per_min: int = Field(
        200, ge=70, le=10_000, description="the trading API's limit; 60 of it are kept for cancels and exits"
    )


class SimSettings(_Section):
    """Where the embedded exchange listens. The key and secret open nothing but a simulation on this machine."""

    url: str = Field(
        "http://127.0.0.1:8787",
        pattern=r"^http://(127\.0\.0\.1|localhost|\[::1\]):\d{1,5}$",
        description="where the embedded exchange listens",
    )
    key: SecretStr = Field(SecretStr("SIMULATED-KEY"), description="its key")
    secret: SecretStr = Field(SecretStr("simulated-secret-of-no-value"), description="its secret")
    speed: float = Field(0.0, ge=0, le=1e6, description="times real time; 0 is as fast as the daemon can follow")
    account_read_every_s: float = Field(
        30.0, ge=30, le=86_400, description="seconds between comparisons with the simulated account in a quiet session"
    )


class FeedSettings(_Section):
    """Supervision of the streams. ``canary_symbol`` is quoted so often that silence means a mute socket."""

    canary_symbol: str = Field(
        "SPY", pattern=r"^[A-Z][A-Z0-9.]{0,9}$", description="the stock whose quotes prove that the feed is not mute"
    )
    stale_after_s: float = Field(
        12.0, gt=0, le=900, description="seconds of session time without a quote that mean a mute socket"
    )
    option_quotes_limit: int = Field(200, ge=2, le=1000, description="option quotes that the plan allows at once")


class FeeSettings(_Section):
    """Fees for statistics: paper charges nothing, so they are modelled."""

    modelled_per_contract_usd: Decimal = Field(
        Decimal("0.65"), ge=0, le=10, description="per contract and side, in statistics, streaks and break-evens"
    )


class VolatilitySettings(_Section):
    """The daily observation of 30-day volatility, on which IV rank rests."""

    underlyings: tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9.]{0,9}$")], ...] = Field(
        (), description="observed at 15:45 beside those of strategies that need IV rank"
    )


class ConsoleSettings(_Section):
    """The loopback listener for health and metrics. Port 0 takes a free one."""

    port: int = Field(9911, ge=0, le=65535, description="on 127.0.0.1; 0 takes a free one")


class LogSettings(_Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least level written")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`json`, `console` (colours), or by whether standard error is a terminal"
    )
    sd_prefix: bool = Field(False, description="a journald priority before each JSON line, for systemd")

    @property
    def colour(self) -> bool | None:
        """Whether people read it: None leaves it to whether standard error is a terminal."""
        return {"auto": None, "json": False, "console": True}[self.format]


class JournalSettings(_Section):
    """The record of what the core saw. The vendor keeps no history of option quotes, so nothing is deleted unasked."""

    keep_days: int = Field(0, ge=0, le=36_500, description="days after which a segment is deleted; 0 keeps all")


class Config(_Section):
    """Everything that can be set."""

    mode: Literal["sim", "paper"] = Field("sim", description="`sim` (embedded exchange) or `paper` (Alpaca paper)")
    alpaca: AlpacaSettings = AlpacaSettings()
    sim: SimSettings = SimSettings()
    feeds: FeedSettings = FeedSettings()
    strategies: dict[str, dict[str, Any]] = {"opening_range_breakout": {}}
    risk: RiskLimits = RiskLimits()
    ladder: LadderSettings = LadderSettings()
    betas: dict[str, float] = Field(
        {}, description="beta to SPY by underlying; SPY, QQQ and IWM have defaults, any other unknown one refuses"
    )
    fees: FeeSettings = FeeSettings()
    volatility: VolatilitySettings = VolatilitySettings()
    console: ConsoleSettings = ConsoleSettings()
    logs: LogSettings = LogSettings()
    journal: JournalSettings = JournalSettings()

    @model_validator(mode="after")
    def _paper_is_paper(self) -> Self:
        """Mode paper reaches only the paper account and the vendor's data, encrypted, or this machine.

        Live trading has a gate of its own; and a key must not go to a stranger, nor in clear.
        """
        if self.mode != "paper":
            return self
        for name, host in PAPER_HOSTS.items():
            url = urlsplit(getattr(self.alpaca, name))
            if url.hostname in LOOPBACK:
                continue
            if url.hostname != host:
                raise ValueError(f"alpaca.{name}: {url.hostname} is not the host for paper trading; use {host}")
            if url.scheme not in ("https", "wss"):
                raise ValueError(f"alpaca.{name}: {url.scheme} would send the key in clear; use https or wss")
        return self

    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any setting but secrets, ports, logging and what is kept."""
        shown = self.model_dump(
            mode="json", exclude={"console": True, "logs": True, "journal": True, "sim": {"url", "key", "secret"}}
        )
        shown["alpaca"].pop("key")
        shown["alpaca"].pop("secret")
        return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:16]

    def secrets(self) -> tuple[str, ...]:
        """Every secret's text, for the log's redaction."""
        found = (self.alpaca.key, self.alpaca.secret, self.sim.key, self.sim.secret)
        return tuple(s.get_secret_value() for s in found if s is not None)


def load(
    file: Path | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Read settings; later sources win: ``base``, file, credentials, environment, ``--set name=value``.

    Raises:
        ConfigurationError: names the setting or variable, what is wrong and the fix.
    """
    env = os.environ if environment is None else environment
    tree: dict[str, Any] = {}
    _merge(tree, base or {})
    if file is not None:
        _merge(tree, _read_toml(file))
    _merge(tree, _credentials(env.get("CREDENTIALS_DIRECTORY")))
    for name in sorted(n for n in env if n.startswith(ENV_PREFIX) and n not in NOT_SETTINGS):
        path = name[len(ENV_PREFIX) :].lower().split("__")
        _put(tree, path, env[name] if tuple(path) in SECRETS else read_value(env[name]), name)
    for item in overrides:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise ConfigurationError(
                "--set", f"{item!r} is not name=value", "write e.g. --set risk.consecutive_losses=2"
            )
        path = name.split(".")
        if tuple(path) in CREDENTIALS.values():
            variable = ENV_PREFIX + "__".join(path).upper()
            raise ConfigurationError(
                f"--set {name}", "arguments are visible to every process of the machine", f"use {variable}"
            )
        _put(tree, path, text if tuple(path) in SECRETS else read_value(text), f"--set {name}")
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise _explain(error) from None


def _explain(error: ValidationError) -> ConfigurationError:
    """Turn the first of pydantic's complaints into one line. Input values are left out: they may be secrets."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if not first["loc"]:
        # A rule over several settings names them itself: "setting: problem; fix".
        name, _, rest = first["msg"].removeprefix("Value error, ").partition(": ")
        problem, _, fix = rest.partition("; ")
        return ConfigurationError(name, problem, fix)
    if first["type"] == "extra_forbidden":
        section: Any = Config
        for part in first["loc"][:-1]:
            section = section.model_fields[str(part)].annotation
        return ConfigurationError(where, "no setting has this name", f"use one of: {', '.join(section.model_fields)}")
    problem = first["msg"].removeprefix("Value error, ").removeprefix(f"{where.rpartition('.')[2]}: ")
    return ConfigurationError(where, problem, "correct it and start again")


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            "--config", f"{file} cannot be read ({error.strerror})", "give a readable file"
        ) from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, numbers or nesting beyond reason
        raise ConfigurationError("--config", f"{file} is not TOML ({error})", "correct that line") from None


def _credentials(folder: str | None) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    if folder is None:
        return tree
    for name, path in CREDENTIALS.items():
        file = Path(folder) / name
        if file.exists():
            try:
                text = file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                raise ConfigurationError(
                    name, f"the credential cannot be read ({why})", "check LoadCredential"
                ) from None
            _put(tree, list(path), text, name)
    return tree


def _merge(tree: dict[str, Any], new: Mapping[str, Any]) -> None:
    for name, value in new.items():
        if isinstance(value, Mapping) and isinstance(tree.get(name), dict):
            _merge(tree[name], value)
        else:
            tree[name] = deepcopy(value)


def _put(tree: dict[str, Any], path: list[str], value: Any, source: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigurationError(source, f"{part} is a value, not a section", "shorten the name")
    tree[path[-1]] = value


def read_value(text: str) -> Any:
    """Read a command-line or environment value: a TOML value where it is one, else the text itself."""
    try:
        table = tomllib.loads(f"v = {text}")
    except (ValueError, RecursionError):
        return text
    return table["v"] if len(table) == 1 else text


def markdown() -> str:
    """The table of settings for docs/configuration.md: name, default, meaning. Limits and parameters have pages."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, _Section):
            for inner, leaf in kind.model_fields.items():
                rows.append(_row(f"{name}.{inner}", leaf.default, leaf.description))
        elif name not in ("risk", "ladder", "strategies"):
            rows.append(_row(name, field.default, field.description))
    return "\n".join(rows) + "\n"


def _row(name: str, default: Any, meaning: str | None) -> str:
    shown = "***" if isinstance(default, SecretStr) else "" if default is None else f"`{default}`"
    return f"| `{name}` | {shown} | {meaning or ''} |"

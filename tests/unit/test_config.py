"""Settings: order of sources, every way to be wrong in one clear line, and secrets that never show."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from oracle.config import Config, load
from oracle.core.errors import ConfigurationError

SECRET = "s3cr3t-of-the-account"
Env = Mapping[str, str]


def refusal(*overrides: str, env: Env | None = None, file: Path | None = None) -> ConfigurationError:
    """The error that loading ends with."""
    with pytest.raises(ConfigurationError) as found:
        load(file, overrides, env or {})
    assert "\n" not in str(found.value)
    assert found.value.fix
    return found.value


def toml(folder: Path, text: str) -> Path:
    file = folder / "oracle.toml"
    file.write_text(text, encoding="utf-8")
    return file


# ------------------------------------------------------------------------------------------------------ precedence


def test_defaults_need_nothing() -> None:
    config = load(environment={})
    assert config == Config()
    assert (config.mode, config.sim.url, config.alpaca.key) == ("sim", "http://127.0.0.1:8787", None)


def test_later_sources_win(tmp_path: Path) -> None:
    base = {"console": {"port": 1}, "feeds": {"stale_after_s": 1.0}}
    file = toml(tmp_path, "[console]\nport = 2\n")
    assert load(environment={}, base=base).console.port == 1
    assert load(file, environment={}, base=base).console.port == 2
    env = {"ORACLE_CONSOLE__PORT": "3"}
    assert load(file, environment=env, base=base).console.port == 3
    config = load(file, ["console.port=4", "console.port=5"], env, base)
    assert config.console.port == 5
    assert config.feeds.stale_after_s == 1.0, "a source must not erase its section's other settings"


def test_the_environment_is_stronger_than_credentials_and_these_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "alpaca-key").write_text("from-credential\n")
    (tmp_path / "alpaca-secret").write_text(SECRET + "\n")
    file = toml(tmp_path, '[alpaca]\nkey = "from-file"\n')
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    config = load(file, environment=env)
    assert config.secrets()[:2] == ("from-credential", SECRET)
    config = load(file, environment={**env, "ORACLE_ALPACA__KEY": "from-environment"})
    assert config.secrets()[:2] == ("from-environment", SECRET)
    assert load(file, environment={}).secrets()[0] == "from-file"


def test_loading_changes_nothing_that_it_was_given() -> None:
    base: dict[str, Any] = {"strategies": {"opening_range_breakout": {"universe": ["SPY"]}}, "betas": {"SPY": 1.0}}
    before = deepcopy(base)
    overrides = ['strategies.opening_range_breakout.universe=["QQQ"]', "betas.SPY=2"]
    config = load(overrides=overrides, environment={"ORACLE_BETAS__QQQ": "1.5"}, base=base)
    assert config.strategies["opening_range_breakout"]["universe"] == ["QQQ"]
    assert base == before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("logs.level=debug", "debug"), ('logs.level="debug"', "debug"), ("logs.sd_prefix=true", True),
        ("sim.speed=2.5", 2.5), ("console.port=0", 0), ("risk.trade_loss_fraction=0.01", "0.01"),
        ('risk.restricted_symbols=["GME"]', ("GME",)), ("alpaca.stream_url=wss://a.example", "wss://a.example"),
        ("sim.url=http://127.0.0.1:1?x=", None),
    ],
)  # fmt: skip
def test_forms_of_set(text: str, value: Any) -> None:
    name = text.partition("=")[0]
    if value is None:
        assert refusal(text).field == name
        return
    section, _, field = name.partition(".")
    found = getattr(getattr(load(overrides=[text], environment={}), section), field)
    assert (str(found) if isinstance(value, str) else found) == value


# --------------------------------------------------------------------------------------------------- ways to be wrong


@pytest.mark.parametrize(
    ("override", "field", "says"),
    [
        ("nonsense=1", "nonsense", "no setting has this name"),
        ("risk.nonsense=1", "risk.nonsense", "no setting has this name"),
        ("ladder.nonsense=1", "ladder.nonsense", "no setting has this name"),
        ("alpaca.keys.one=1", "alpaca.keys", "no setting has this name"),
        (".=1", "", "no setting has this name"),
        ("mode=live", "mode", "'sim' or 'paper'"),
        ("risk=5", "risk", "valid dictionary"),
        ("console.port=70000", "console.port", "65535"),
        ("console.port=many", "console.port", "valid integer"),
        ("sim.url=http://example.com:80", "sim.url", "match pattern"),
        ("alpaca.trading_url=ftp://x", "alpaca.trading_url", "match pattern"),
        ("sim.speed=-1", "sim.speed", "greater than or equal to 0"),
        ("sim.speed=nan", "sim.speed", "finite"),
        ("sim.speed=inf", "sim.speed", "finite"),
        ("feeds.stale_after_s=nan", "feeds.stale_after_s", "finite"),
        ("betas.SPY=nan", "betas.SPY", "finite"),
        ("betas.SPY=inf", "betas.SPY", "finite"),
        ("fees.modelled_per_contract_usd=nan", "fees.modelled_per_contract_usd", "finite"),
        ("risk.trade_loss_fraction=nan", "risk.trade_loss_fraction", "finite"),
        ("strategies.opening_range_breakout=5", "strategies.opening_range_breakout", "valid dictionary"),
    ],
)  # fmt: skip
def test_each_wrong_setting_is_named(override: str, field: str, says: str) -> None:
    error = refusal(override)
    assert error.field == field
    assert says in error.problem


def test_an_unknown_setting_lists_the_known_ones_of_its_section() -> None:
    assert "trade_loss_fraction" in refusal("risk.trade_los_fraction=0.01").fix
    assert "option_quotes_limit" not in refusal("risk.x=1").fix
    assert "feeds" in refusal("feed.x=1").fix


@pytest.mark.parametrize(
    ("name", "value", "ceiling"),
    [
        ("trade_loss_fraction", "0.021", "0.02"), ("position_fraction", "0.06", "0.05"),
        ("consecutive_losses", "4", "3"), ("drawdown_fraction", "0.11", "0.10"),
        ("expiry_day_no_open_min", "29", "floor 30"), ("min_options_level", "1", "floor 2"),
    ],
)  # fmt: skip
def test_a_looser_limit_names_field_value_and_ceiling(name: str, value: str, ceiling: str) -> None:
    error = refusal(f"risk.{name}={value}")
    assert error.field == f"risk.{name}"
    assert value in error.problem
    assert ceiling in error.problem


def test_a_limit_of_zero_does_not_mean_none() -> None:
    assert "halt instead" in refusal("risk.trade_loss_fraction=0").problem


@pytest.mark.parametrize("item", ["risk", "", "=5", "risk.consecutive_losses"])
def test_set_needs_a_name_and_a_value(item: str) -> None:
    assert "name=value" in str(refusal(item))


def test_a_value_is_not_a_section() -> None:
    error = refusal("mode=sim", "mode.x=1")
    assert (error.field, error.problem) == ("--set mode.x", "mode is a value, not a section")
    assert refusal(env={"ORACLE_MODE": "sim", "ORACLE_MODE__X": "1"}).field == "ORACLE_MODE__X"


@pytest.mark.parametrize("value", ["[" * 5_000, "1" * 5_000, "{" * 5_000, "2026-13-45", "1_", "v = 1", "1\nmode = 2"])
def test_a_value_that_is_no_toml_is_text(value: str) -> None:
    error = refusal(f"console.port={value}")
    assert error.field == "console.port"
    assert "integer" in error.problem
    assert load(overrides=[f"strategies.x.y={value}"], environment={}).strategies["x"]["y"] == value


@pytest.mark.parametrize(
    "name", ["ORACLE_CONSOLE_PORT", "ORACLE_MOOD", "ORACLE_RISK__TRADE_LOSS", "ORACLE_", "ORACLE___", "ORACLE_X__Y"]
)
def test_a_mistyped_variable_is_an_error(name: str) -> None:
    assert refusal(env={name: "1"}).problem == "no setting has this name"


def test_variables_of_tests_and_of_others_are_left_alone() -> None:
    env = {"ORACLE_REAL_DATA": "x", "ORACLE_HOME": "/opt/client", "ORACLEISH": "1", "oracle_mode": "x", "PATH": "/bin"}
    assert load(environment=env) == Config()


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    error = refusal(file=missing)
    assert error.field == "--config"
    assert str(missing) in error.problem
    assert "No such file" in error.problem
    assert "directory" in refusal(file=tmp_path).problem


@pytest.mark.parametrize("text", ["mode = ", "mode = 'sim'\nmode = 'sim'", "[risk", "= 1", "a = " + "[" * 5_000])
def test_a_file_that_is_not_toml(tmp_path: Path, text: str) -> None:
    assert "is not TOML" in refusal(file=toml(tmp_path, text)).problem


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b"\xff\xfe\x00")
    assert "is not TOML" in refusal(file=file).problem


def test_a_wrong_setting_in_a_file_is_named(tmp_path: Path) -> None:
    assert refusal(file=toml(tmp_path, "[risk]\nconsecutive_losses = 9\n")).field == "risk.consecutive_losses"


# ------------------------------------------------------------------------------------------------------------ secrets


def secret_config(tmp_path: Path) -> Config:
    (tmp_path / "alpaca-key").write_text("AKEY")
    (tmp_path / "alpaca-secret").write_text(f"  {SECRET}\n")
    return load(environment={"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_secrets_show_nowhere(tmp_path: Path) -> None:
    config = secret_config(tmp_path)
    assert config.alpaca.secret is not None
    assert config.alpaca.secret.get_secret_value() == SECRET
    for text in (repr(config), str(config), repr(config.alpaca), config.model_dump_json()):
        assert SECRET not in text
    assert {SECRET, "AKEY"} <= set(config.secrets())


def test_the_fingerprint_follows_settings_but_not_secrets_ports_or_logs(tmp_path: Path) -> None:
    plain = load(environment={}).fingerprint()
    assert len(plain) == 16
    assert secret_config(tmp_path).fingerprint() == plain
    for same in ("console.port=1", "logs.level=debug", "sim.url=http://127.0.0.1:1"):
        assert load(overrides=[same], environment={}).fingerprint() == plain
    differing = ("mode=paper", "risk.consecutive_losses=2", "betas.SPY=1.1", "strategies.x.y=1", "sim.speed=3")
    marks = {load(overrides=[other], environment={}).fingerprint() for other in differing}
    assert len(marks | {plain}) == len(differing) + 1


@pytest.mark.parametrize("value", ["12345", "true", "1e5", "2026-01-05", '["a"]', "'quoted'", "0x10"])
def test_a_secret_is_taken_as_it_is_written(value: str) -> None:
    env = {"ORACLE_ALPACA__SECRET": value, "ORACLE_SIM__KEY": value}
    config = load(environment=env)
    assert config.alpaca.secret is not None
    assert config.alpaca.secret.get_secret_value() == value
    assert config.sim.key.get_secret_value() == value


def test_errors_do_not_show_secrets(tmp_path: Path) -> None:
    env = {"ORACLE_ALPACA__SECRET": SECRET, "ORACLE_ALPACA__SECRETS": SECRET, "ORACLE_SIM__URL": SECRET}
    assert SECRET not in str(refusal(env=env))
    assert SECRET not in str(refusal(env={"ORACLE_ALPACA__SECRET__X": SECRET, "ORACLE_ALPACA__SECRET": SECRET}))
    assert SECRET not in str(refusal(env={"ORACLE_ALPACA": SECRET}))
    assert SECRET not in str(refusal(file=toml(tmp_path, f'[alpaca]\nsecret = ["{SECRET}"]\n')))


@pytest.mark.parametrize("name", ["alpaca.key", "alpaca.secret"])
def test_an_account_key_is_no_argument(name: str) -> None:
    error = refusal(f"{name}={SECRET}")
    assert error.field == f"--set {name}"
    assert "every process" in error.problem
    assert f"ORACLE_{name.upper().replace('.', '__')}" in error.fix
    assert SECRET not in str(error)


def test_a_credential_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "alpaca-key").mkdir()
    error = refusal(env={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert error.field == "alpaca-key"
    (tmp_path / "alpaca-key").rmdir()
    (tmp_path / "alpaca-key").write_bytes(b"\xff\xfe")
    assert refusal(env={"CREDENTIALS_DIRECTORY": str(tmp_path)}).field == "alpaca-key"


def test_a_folder_without_credentials_is_fine(tmp_path: Path) -> None:
    assert load(environment={"CREDENTIALS_DIRECTORY": str(tmp_path)}) == Config()

"""The opening record of a journal: what a core was built from, so that the segment replays alone.

Inputs: settings, calendar, durable state and strategies of a start. Outputs: the record, and from a record all of
them again, and what differs between the build that wrote it and this one. Secrets are left out.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import msgspec
import orjson
from pydantic import SecretStr, ValidationError

from oracle import __version__
from oracle.config import Config
from oracle.core.errors import ConfigurationError, InvariantError
from oracle.core.messages import JournalOpened
from oracle.core.sessions import SessionTable
from oracle.store.loading import Loaded
from oracle.strategies.base import Strategy

# The code that decides, and what builds a core of it. What stands at the edges can change without changing a decision.
DECIDING = ("core", "options", "strategies", "risk", "execution")
BUILDING = ("build.py", "config.py")
# Whose numbers and encodings decisions rest on.
LIBRARIES = ("msgspec", "numpy", "scipy")


class Opening(msgspec.Struct, frozen=True):
    """What to build a core from, and the time to start it at."""

    at_ns: int
    config: Config
    table: SessionTable
    loaded: Loaded


@cache
def build_name() -> str:
    """The version, twelve hex digits of the source text of all code that decides, and the libraries it counts with."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"{__version__}+{source_hash(files('oracle'))[:12]} ({libraries})"


def source_hash(package: Traversable) -> str:
    """Sha256, in hex, of the deciding files of a package's folder."""
    digest = hashlib.sha256()
    for name in BUILDING:
        digest.update(f"{name}\0".encode() + package.joinpath(name).read_bytes() + b"\0")
    for folder in DECIDING:
        for source in sorted(package.joinpath(folder).iterdir(), key=_name):
            if source.name.endswith(".py"):
                digest.update(f"{folder}/{source.name}\0".encode() + source.read_bytes() + b"\0")
    return digest.hexdigest()


def opening_record(
    config: Config, table: SessionTable, loaded: Loaded, strategies: Sequence[Strategy], at_ns: int
) -> JournalOpened:
    """Record what a core is about to be built from; ``at_ns`` is what its engine is started with."""
    return JournalOpened(
        build=build_name(),
        mode=config.mode,
        config_fingerprint=config.fingerprint(),
        at_ns=at_ns,
        snapshot=msgspec.msgpack.encode(loaded),
        config=orjson.dumps(_without_secrets(config.model_dump()), default=str, option=orjson.OPT_SORT_KEYS),
        sessions=table.sessions,
        strategies={strategy.name: strategy.code_hash for strategy in strategies},
    )


def reopen(opened: JournalOpened) -> Opening:
    """Read a journal's opening record.

    Raises:
        ConfigurationError: it holds no settings, or settings or state that this build does not know.
    """
    if not opened.config or not opened.sessions:
        raise _unknown(opened, "it holds no settings or no calendar")
    try:
        config = Config.model_validate(orjson.loads(opened.config))
        loaded = msgspec.msgpack.decode(opened.snapshot, type=Loaded)
        table = SessionTable(opened.sessions)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _unknown(opened, f"its setting {where} is not one of this build ({first['msg']})") from error
    except (msgspec.MsgspecError, InvariantError, ValueError) as error:
        raise _unknown(opened, f"its state does not decode ({error})") from error
    return Opening(opened.at_ns, config, table, loaded)


def changes_since(opened: JournalOpened, config: Config, strategies: Sequence[Strategy]) -> tuple[str, ...]:
    """Say in words what of the deciding code is not as it was when the journal was written."""
    changes = []
    if opened.build != build_name():
        changes.append(f"build {opened.build} wrote it, this is {build_name()}")
    if opened.config_fingerprint != config.fingerprint():
        changes.append(f"its settings {opened.config_fingerprint} mean {config.fingerprint()} to this build")
    here = {strategy.name: strategy.code_hash for strategy in strategies}
    for name, then in sorted(opened.strategies.items()):
        now = here.get(name, "absent")
        if now != then:
            changes.append(f"strategy {name} was {then[:12]}, is {now[:12]}")
    return tuple(changes)


def _without_secrets(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _without_secrets(value) for name, value in tree.items() if not isinstance(value, SecretStr)}
    return tree


def _unknown(opened: JournalOpened, problem: str) -> ConfigurationError:
    return ConfigurationError("journal", problem, f"replay it with the build that wrote it ({opened.build})")


def _name(source: Traversable) -> str:
    return source.name

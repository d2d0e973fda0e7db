"""Which strategies exist, and how one named in the configuration is made.

Inputs: a name and its settings. Output: a ready ``Strategy`` whose hash covers its module's source text and its
parameters. Nothing is imported before it is named. Outside packages add strategies by the entry-point group
``oracle.strategies``; they cannot take a built-in or reserved name.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from oracle.core.errors import ConfigurationError
from oracle.strategies.base import Strategy, StrategyParams

ENTRY_POINT_GROUP = "oracle.strategies"
BUILT_IN: dict[str, str] = {
    "iron_condor": "oracle.strategies.iron_condor:IronCondor",
    "iv_mean_reversion": "oracle.strategies.iv_mean_reversion:IvMeanReversion",
    "momentum_scalping": "oracle.strategies.momentum_scalping:MomentumScalping",
    "opening_range_breakout": "oracle.strategies.opening_range_breakout:OpeningRangeBreakout",
}
# Adopted trades stand under the first in the books, the account as a whole under the second in statistics.
RESERVED = frozenset({"operator", "account"})


def known() -> tuple[str, ...]:
    """Names that can be loaded, sorted: built in and from installed packages."""
    offered = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    return tuple(sorted({*BUILT_IN, *offered} - RESERVED))


def find(name: str) -> type[Strategy]:
    """Import the class of a strategy.

    Raises:
        ConfigurationError: no strategy has this name, or what has it is not a strategy of that name.
    """
    if name in RESERVED:
        raise ConfigurationError(
            f"strategies.{name}", "the name is reserved for others than strategies", "rename the strategy"
        )
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found = getattr(import_module(module), attribute)
    else:
        points = [p for p in entry_points(group=ENTRY_POINT_GROUP) if p.name == name]
        if not points:
            raise ConfigurationError(
                f"strategies.{name}", "no strategy has this name", f"use one of: {', '.join(known())}"
            )
        if len(points) > 1:
            raise ConfigurationError(f"strategies.{name}", "several packages offer it", "uninstall all of them but one")
        found = points[0].load()
    if not (inspect.isclass(found) and issubclass(found, Strategy) and found.name == name):
        raise ConfigurationError(
            f"strategies.{name}",
            f"{found!r} is not a Strategy called {name}",
            "correct the package's entry point",
        )
    return found


def load(name: str, settings: Mapping[str, Any]) -> Strategy:
    """Make the strategy of this name with these settings of its ``Params``.

    Raises:
        ConfigurationError: the name is unknown or a setting is wrong; the message names the first one.
    """
    kind = find(name)
    try:
        params = kind.Params.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(("strategies", name, *(str(part) for part in first["loc"])))
        raise ConfigurationError(where, first["msg"], f"see the parameters of {name} in docs/strategies.md") from error
    return kind(params, code_hash(kind, params))


def canonical_params(params: StrategyParams) -> str:
    """Parameters as JSON that is the same for equal parameters: sorted names, no spaces, every field."""
    return json.dumps(params.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)


def code_hash(kind: type[Strategy], params: StrategyParams) -> str:
    """Sha256, in hex, of the module's source text, that of its helpers, and the canonical parameters.

    It is what a readiness record binds.
    """
    module = inspect.getmodule(kind)
    source = inspect.getsource(module) if module is not None else inspect.getsource(kind)
    parts = [source, *(inspect.getsource(import_module(name)) for name in kind.helpers), canonical_params(params)]
    return hashlib.sha256(b"\0".join(part.encode() for part in parts)).hexdigest()

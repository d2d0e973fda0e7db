"""What can be made to go wrong at the embedded exchange: one fault as people write it, and plans of many in TOML.

Inputs: a TOML file or a JSON body. Outputs: checked ``Fault`` settings. Invariant: a field that its kind does not know,
or a kind that its place cannot do, is an error that names the fault, the field and the fix.
"""

import datetime as dt
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from oracle.core.errors import ConfigurationError

Kind = Literal[
    "drop", "mute", "delay", "batch", "duplicate", "reorder", "garbage", "fragment", "cut", "error", "oversize",
    "refuse_upgrade", "refuse_login",
    "refuse_request", "lose_reply", "hide_order", "fill_before_reply", "fill_after_cancel",
    "refuse_mleg", "reject_mleg", "partial_mleg", "sell_out_leg",
]  # fmt: skip
STREAMS = ("stock", "option", "trade")
REQUESTS = (
    "submit", "cancel", "look_up", "order", "orders", "account", "positions", "activities", "contracts", "bars",
    "stock_data", "option_data", "other",
)  # fmt: skip
BROKER = "broker"
"""The place of what the broker does of its own accord, without a request."""
MESSAGES: Mapping[str, tuple[str, ...]] = {
    "stock": ("bars", "quotes", "trades", "updatedBars", "dailyBars", "statuses"),
    "option": ("quotes", "trades"),
    "trade": ("new", "partial_fill", "fill", "canceled", "expired", "replaced", "rejected"),
}
"""What a stream carries: channels, and events of orders."""
LOGIN_CODES = (402, 404, 406, 409, 411, 500)
OPEN_CODES = (400, 405, 410, 412, 413)
"""Error codes that answer a message and leave the connection open; after every other one it is closed."""
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_OPEN_S = 9 * 3600 + 30 * 60
_MOST_BYTES = 64 << 20
MOST_FAULTS = 1_000
# Numbers that nothing counts up to, and that every reader of the exchange's JSON can hold.
_MOST_SEED, _MOST_COUNT = 2**63 - 1, 10**12


class Rule:
    """What one kind of fault may name: places and fields, with defaults."""

    __slots__ = ("count", "fields", "needs", "on")

    def __init__(
        self, on: tuple[str, ...], fields: str = "", needs: str = "", count: int | None = None, default: str = ""
    ) -> None:
        self.on = (default.split() or list(on), on)
        self.needs = frozenset(needs.split())
        self.fields = frozenset(fields.split()) | self.needs
        self.count = count


RULES: Mapping[str, Rule] = {
    "drop": Rule(STREAMS, "symbols messages"),
    "mute": Rule(STREAMS),
    "delay": Rule(STREAMS, "symbols messages", "seconds"),
    "batch": Rule(STREAMS, "symbols messages", "seconds", default="stock option"),
    "duplicate": Rule(STREAMS, "symbols messages"),
    "reorder": Rule(STREAMS, "symbols messages"),
    "garbage": Rule(STREAMS),
    "fragment": Rule(STREAMS),
    "cut": Rule(STREAMS, "how", count=1),
    "error": Rule(STREAMS, "", "code", count=1),
    "oversize": Rule(STREAMS, "bytes", count=1),
    "refuse_upgrade": Rule(STREAMS, "status"),
    "refuse_login": Rule(STREAMS, "code"),
    "refuse_request": Rule(REQUESTS, "reply", default="submit"),
    "lose_reply": Rule(REQUESTS, "reply", default="submit"),
    "hide_order": Rule(("look_up", "order"), "", "seconds"),
    "fill_before_reply": Rule(("submit",)),
    "fill_after_cancel": Rule(("cancel",), "seconds"),
    "refuse_mleg": Rule(("submit",)),
    "reject_mleg": Rule(("submit",)),
    "partial_mleg": Rule(("submit",), "units"),
    "sell_out_leg": Rule((BROKER,), "symbols side", count=1),
}
_SPECIAL = frozenset({"symbols", "messages", "seconds", "code", "status", "reply", "how", "bytes", "units", "side"})


def second_of_session(value: object) -> float:
    """Read a moment of a session: New York ``HH:MM[:SS]``, or seconds after 09:30. Result: seconds after 09:30.

    Raises:
        ValueError: neither.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 86_400:
        return float(value)
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is no moment: write HH:MM:SS New York in quotes, or seconds after 09:30")
    return int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3] or 0) - _OPEN_S


class Fault(BaseModel):
    """One fault. ``on`` names streams or requests; ``from`` and ``until`` are moments of each session (or of ``date``).

    ``count`` is the most often that it strikes on each place of ``on``; None is no limit. The effect of every field is
    in docs/faults.md.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    kind: Kind
    on: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    date: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    from_: str | float | None = Field(None, alias="from")
    until: str | float | None = None
    probability: float = Field(1.0, gt=0, le=1)
    count: int | None = Field(None, ge=1, le=_MOST_COUNT)
    seconds: float = Field(0.0, ge=0, le=86_400)
    code: int = 406
    status: int = Field(429, ge=400, le=599)
    reply: int | Literal["drop", "hang"] = 504
    how: Literal["abort", "close"] = "abort"
    bytes: int = Field((16 << 20) + 1, ge=1024, le=_MOST_BYTES)
    units: int = Field(1, ge=0, le=_MOST_COUNT)
    side: Literal["long", "short"] = "long"

    @property
    def window_s(self) -> tuple[float | None, float | None]:
        """From and until as seconds after the session's 09:30."""
        start = None if self.from_ is None else second_of_session(self.from_)
        return start, None if self.until is None else second_of_session(self.until)

    @property
    def places(self) -> tuple[str, ...]:
        """Where it strikes, the kind's own places by default."""
        return self.on or tuple(RULES[self.kind].on[0])

    @property
    def limit(self) -> int | None:
        """``count``, or what the kind has without one: what ends a connection strikes once."""
        return self.count if self.count is not None else RULES[self.kind].count

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rule = RULES[self.kind]
        wrong = [name for name in self.on if name not in rule.on[1]]
        if wrong:
            raise ValueError(f"on: {self.kind} cannot strike {wrong[0]!r}; choose among {', '.join(rule.on[1])}")
        for name in ("on", "symbols", "messages"):
            values = getattr(self, name)
            twice = [value for value in values if values.count(value) > 1]
            if twice:
                raise ValueError(f"{name}: {twice[0]!r} stands twice; name it once")
        if self.date is not None:
            _check_date(self.date)
        self._check_messages()
        given = self.model_fields_set & _SPECIAL
        if given - rule.fields:
            usable = ", ".join(sorted(rule.fields)) or "none of the special fields"
            raise ValueError(f"{min(given - rule.fields)}: {self.kind} does not have it; it takes {usable}")
        if rule.needs - given:
            raise ValueError(f"{min(rule.needs - given)}: {self.kind} needs it")
        if self.kind == "refuse_login" and self.code not in LOGIN_CODES:
            raise ValueError(f"code: {self.code} does not answer a login; choose among {LOGIN_CODES}")
        if self.kind == "error" and not 400 <= self.code <= 599:
            raise ValueError(f"code: {self.code} is no error code; 406 and 407 are the usual ones")
        if isinstance(self.reply, int) and not 400 <= self.reply <= 599:
            raise ValueError(f'reply: {self.reply} is no error status; write 400 to 599, "drop" or "hang"')
        start, stop = self.window_s
        if start is not None and stop is not None and not start < stop:
            raise ValueError("until: it must be later than from")
        return self

    def _check_messages(self) -> None:
        """Raise ValueError for a message that none of the streams carries: the fault could never strike it."""
        streams = [place for place in self.places if place in MESSAGES]
        carried = [name for place in streams for name in MESSAGES[place]]
        wrong = [name for name in self.messages if name not in carried]
        if wrong and streams:
            usable = ", ".join(dict.fromkeys(carried))
            raise ValueError(f"messages: {' and '.join(streams)} never carry {wrong[0]!r}; choose among {usable}")

    def shown(self) -> dict[str, Any]:
        """The settings that matter, as JSON."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"on": list(self.places)}


class FaultPlan(BaseModel):
    """A seed and its faults, as in the TOML file: ``seed = 7`` and tables ``[[fault]]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, le=_MOST_SEED)
    fault: tuple[Fault, ...] = Field((), max_length=MOST_FAULTS)


def _check_date(text: str) -> None:
    """Raise ValueError when the calendar has no such day."""
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"date: {text!r} is no day of the calendar; write it as 2026-01-05") from None


def read_plan(values: object) -> FaultPlan:
    """Check a plan.

    Raises:
        ConfigurationError: names the fault by its place in the plan, the field and the fix.
    """
    try:
        return FaultPlan.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = list(first["loc"])
        where = ".".join(str(part) for part in path if not isinstance(part, int)) or "plan"
        if len(path) > 1 and isinstance(path[1], int):
            where = ".".join([f"fault[{path[1] + 1}]", *(str(part) for part in path[2:3])])
        text = first["msg"].removeprefix("Value error, ")
        if first["type"] == "literal_error" and path[-1:] == ["kind"]:
            text = f"unknown; choose among {', '.join(KINDS)}"
        raise ConfigurationError(f"faults: {where}", text, "see docs/faults.md") from None


def load_plan(path: Path) -> FaultPlan:
    """Read a plan from a TOML file.

    Raises:
        ConfigurationError: it cannot be read or is not a plan.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError("--faults", f"{path}: {error.strerror or error}", "name a readable file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError("--faults", f"{path} is not TOML ({error})", "see docs/faults.md") from None
    except RecursionError:
        raise ConfigurationError("--faults", f"{path} is nested too deeply", "see docs/faults.md") from None
    except ValueError:  # Python reads no number of thousands of digits
        raise ConfigurationError("--faults", f"{path} holds a number that is too long", "shorten it") from None
    return read_plan(values)


KINDS: tuple[str, ...] = get_args(Kind)

"""How a replayed turn differs from the journalled one, in words and field by field.

Inputs: a turn's messages as recorded and as they came out now. Outputs: the first difference with its input and the
turns before it, as plain values that print and serialise. Pure.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from oracle.core.message import Message
from oracle.core.messages import Stamped

ABSENT = "(absent)"
TEXT_CHARS = 160


class FieldDifference(msgspec.Struct, frozen=True):
    """One field that is not as recorded; ``path`` is like ``ladder[0].limit_usd``."""

    path: str
    expected: str
    got: str


class TurnBefore(msgspec.Struct, frozen=True):
    """A turn that came out as recorded, for context."""

    seq: int
    at_ns: int
    input: str
    outputs: tuple[str, ...]


class Difference(msgspec.Struct, frozen=True):
    """The first turn that is not as recorded. ``expected`` is the journal's message, ``got`` the replay's."""

    seq: int
    at_ns: int
    reason: str
    input: dict[str, Any]
    expected: dict[str, Any] | None = None
    got: dict[str, Any] | None = None
    fields: tuple[FieldDifference, ...] = ()
    before: tuple[TurnBefore, ...] = ()


def of_messages(
    stamped: Stamped, expected: Sequence[Message], got: Sequence[Message], encode: Callable[[object], bytes]
) -> Difference:
    """Find the first message of a turn that differs; ``encode`` decides what is equal, as it decided the hash."""
    for number, (one, other) in enumerate(zip(expected, got, strict=False), 1):
        if encode(one) != encode(other):
            reason = f"message {number} of {len(expected)} is another: {_kind(one)}"
            if type(one) is not type(other):
                reason += f" was recorded, {_kind(other)} came out"
            return of_values(stamped, reason, one, other)
    number = min(len(expected), len(got))
    if number < len(expected):
        missing = expected[number]
        return of_values(
            stamped, f"message {number + 1}, {_kind(missing)}, was recorded and does not come out", missing
        )
    if number < len(got):
        new = got[number]
        return of_values(stamped, f"message {number + 1}, {_kind(new)}, comes out and was not recorded", None, new)
    return of_values(stamped, "the messages are equal, but their bytes in the journal are not")


def of_values(
    stamped: Stamped, reason: str, expected: msgspec.Struct | None = None, got: msgspec.Struct | None = None
) -> Difference:
    """Put a difference together; with both values, also field by field."""
    left = None if expected is None else plain(expected)
    right = None if got is None else plain(got)
    fields = () if left is None or right is None else tuple(_fields("", left, right))
    return Difference(stamped.seq, stamped.at_ns, reason, plain(stamped.input), left, right, fields)


def plain(value: msgspec.Struct) -> dict[str, Any]:
    """A message as plain values: its type under ``T``, amounts as text, columns of bytes by their length."""
    found: dict[str, Any] = _without_bytes(msgspec.to_builtins(value, builtin_types=(bytes,)))
    return found


def short(value: msgspec.Struct) -> str:
    """A message in one line, cut where it gets long."""
    fields = plain(value)
    text = ", ".join(f"{name}={_text(field)}" for name, field in fields.items() if name != "T")
    return f"{_kind(value)}({text})" if len(text) <= TEXT_CHARS else f"{_kind(value)}({text[: TEXT_CHARS - 1]}…)"


def _fields(path: str, left: Any, right: Any) -> list[FieldDifference]:
    if isinstance(left, dict) and isinstance(right, dict):
        found = []
        for name in [*left, *(name for name in right if name not in left)]:
            inner = f"{path}.{name}" if path else str(name)
            found += _fields(inner, left.get(name, ABSENT), right.get(name, ABSENT))
        return found
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        found = []
        for index in range(max(len(left), len(right))):
            one, other = (side[index] if index < len(side) else ABSENT for side in (left, right))
            found += _fields(f"{path}[{index}]", one, other)
        return found
    # Types too: 1 and 1.0 are other bytes.
    if type(left) is type(right) and left == right:
        return []
    return [FieldDifference(path, _text(left), _text(right))]


def _without_bytes(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, dict):
        return {str(name): _without_bytes(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_bytes(inner) for inner in value]
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _kind(value: object) -> str:
    return type(value).__name__

"""What faults make of the messages of one connection: dropped, doubled, shuffled, held back, cut short. Pure.

Inputs: the messages of a moment as (channel or event, symbol, bytes). Outputs: frames as lists of messages, and the
bytes of websocket frames that a library would not send. Invariant: what was held back goes out in order of its due
time, before the messages of that moment.
"""

from collections.abc import Sequence

import msgspec

from oracle.core.sessions import NS
from oracle.sim.faults import Armed, Faults

MESSAGE_KINDS = ("drop", "mute", "delay", "batch", "duplicate", "reorder")
HOLDING = ("delay", "batch")
_TEXT, _BINARY, _CONTINUATION, _CLOSE, _FIN = 0x1, 0x2, 0x0, 0x8, 0x80
FRAGMENTS = 5


class Item(msgspec.Struct, frozen=True):
    """One message: its channel (``bars``) or event (``fill``), its symbol, its bytes."""

    name: str
    symbol: str
    data: bytes


class _Held(msgspec.Struct, frozen=True):
    due_ns: int
    order: int
    armed: Armed
    item: Item


class Line:
    """What faults have done to one connection so far."""

    __slots__ = ("_asked", "_faults", "_held", "_muted_by", "_order", "_place")

    def __init__(self, faults: Faults, place: str) -> None:
        self._faults = faults
        self._place = place
        self._held: list[_Held] = []
        self._order = 0
        self._muted_by: Armed | None = None
        self._asked: set[int] = set()

    @property
    def idle(self) -> bool:
        """Whether messages can pass by: nothing is held and no fault of messages is armed."""
        return not self._held and not self._faults.has(MESSAGE_KINDS, self._place)

    def shape(self, items: Sequence[Item], now_ns: int) -> list[list[Item]]:
        """The frames that really leave now: what was due, then what is left of the moment's own messages."""
        if self._is_mute():
            return []
        passing: list[Item] = []
        drops, doubles = (list(self._faults.open(kind, self._place)) for kind in ("drop", "duplicate"))
        known = [armed for kind in HOLDING for armed in self._faults.armed(kind, self._place)]
        holders = [armed for armed in known if self._may_hold(armed)]
        for item in items:
            if any(self._hit(armed, item) for armed in drops):
                continue
            holder = self._holder(holders, item)
            copies = 1 + sum(self._hit(armed, item) for armed in doubles)
            for _ in range(copies):
                if holder is None:
                    passing.append(item)
                else:
                    self._hold(holder, item, now_ns)
        late, batches = self._due(now_ns)
        leaving = [*late, *passing]
        for armed in self._faults.open("reorder", self._place):
            leaving = self._shuffle(armed, leaving)
        frames = [*batches, leaving]
        return [frame for frame in frames if frame]

    def _is_mute(self) -> bool:
        if self._muted_by is not None and not self._faults.stands(self._muted_by):
            self._muted_by = None
        if self._muted_by is None:
            for armed in self._faults.open("mute", self._place):
                if armed.number not in self._asked:
                    self._asked.add(armed.number)
                    if self._faults.strikes(armed, self._place):
                        self._muted_by = armed
                        break
        if self._muted_by is None:
            return False
        self._held.clear()
        return True

    def _hit(self, armed: Armed, item: Item) -> bool:
        return _concerns(armed, item) and self._faults.strikes(armed, self._place)

    def _may_hold(self, armed: Armed) -> bool:
        """Whether a fault can hold messages back now. A stream that is late stays in order until it has caught up."""
        late = armed.fault.kind == "delay" and armed.fault.probability >= 1 and self._waits(armed)
        return self._faults.is_open(armed) or late

    def _holder(self, holders: Sequence[Armed], item: Item) -> Armed | None:
        for armed in holders:
            catching_up = not self._faults.is_open(armed) and _concerns(armed, item)
            if catching_up or self._hit(armed, item):
                return armed
        return None

    def _waits(self, armed: Armed) -> bool:
        return any(held.armed is armed for held in self._held)

    def _hold(self, armed: Armed, item: Item, now_ns: int) -> None:
        mine = [held.due_ns for held in self._held if held.armed is armed]
        due_ns = now_ns + round(armed.fault.seconds * NS)
        if armed.fault.kind == "batch" and mine:
            due_ns = mine[0]
        elif mine and not self._faults.is_open(armed):
            due_ns = max(mine)
        self._order += 1
        self._held.append(_Held(due_ns, self._order, armed, item))

    def _due(self, now_ns: int) -> tuple[list[Item], list[list[Item]]]:
        """What is due: late messages in order, and batches, each to be one frame."""
        if not self._held:
            return [], []
        due = sorted((held for held in self._held if held.due_ns <= now_ns), key=lambda held: (held.due_ns, held.order))
        self._held = [held for held in self._held if held.due_ns > now_ns]
        late = [held.item for held in due if held.armed.fault.kind == "delay"]
        batches: dict[int, list[Item]] = {}
        for held in due:
            if held.armed.fault.kind == "batch":
                batches.setdefault(held.armed.number, []).append(held.item)
        return late, list(batches.values())

    def _shuffle(self, armed: Armed, items: list[Item]) -> list[Item]:
        """Shuffle the messages that a fault concerns among their places."""
        places = [i for i, item in enumerate(items) if _concerns(armed, item)]
        if len(places) < 2 or not self._faults.strikes(armed, self._place):
            return items
        out = list(items)
        for place, item in zip(places, armed.shuffled(self._place, [items[i] for i in places]), strict=True):
            out[place] = item
        return out


def _concerns(armed: Armed, item: Item) -> bool:
    fault = armed.fault
    if fault.messages and item.name not in fault.messages:
        return False
    # The underlying's name stands for its options.
    return not fault.symbols or any(
        item.symbol == symbol or (len(item.symbol) > 14 and item.symbol[:-15] == symbol) for symbol in fault.symbols
    )


# ----------------------------------------------------------------------------------------- frames made by hand


def websocket_frame(payload: bytes, opcode: int, final: bool = True) -> bytes:
    """One unmasked websocket frame (RFC 6455 section 5.2), as a server sends it."""
    head = bytes([(_FIN if final else 0) | opcode])
    size = len(payload)
    if size < 126:
        return head + bytes([size]) + payload
    length = b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big")
    return head + length + payload


def whole_frame(payload: bytes, text: bool) -> bytes:
    """A message in one websocket frame."""
    return websocket_frame(payload, _TEXT if text else _BINARY)


def fragments(payload: bytes, text: bool) -> bytes:
    """A message as several websocket frames, one of them empty."""
    size = max(1, -(-len(payload) // (FRAGMENTS - 1)))
    parts = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    parts.insert(1, b"")
    last = len(parts) - 1
    opcode = _TEXT if text else _BINARY
    return b"".join(
        websocket_frame(part, opcode if i == 0 else _CONTINUATION, final=i == last) for i, part in enumerate(parts)
    )


def close_frame(code: int, reason: str) -> bytes:
    """The frame that closes a connection."""
    return websocket_frame(code.to_bytes(2, "big") + reason.encode(), _CLOSE)


def oversized(size: int, text: bool) -> bytes:
    """A websocket message of ``size`` bytes that holds one long text in an array."""
    if text:
        return websocket_frame(b'["' + b"x" * (size - 4) + b'"]', _TEXT)
    body = size - 6
    return websocket_frame(b"\x91\xdb" + body.to_bytes(4, "big") + b"x" * body, _BINARY)

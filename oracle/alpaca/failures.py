"""Classes of failure of a stream and how each is retried. Pure.

Inputs: the vendor's codes and HTTP statuses. Outputs: a class, a policy, a wait in business ns. Invariant: the wait
is repeatable; its jitter comes from the feed and its epoch.
"""

import zlib
from enum import StrEnum

import msgspec

from oracle.alpaca.wire import StreamCode
from oracle.core.vocabulary import Feed

NS = 1_000_000_000


class Kind(StrEnum):
    """Classes of failure; each has a row in ``POLICIES``."""

    CREDENTIALS = "credentials"
    PLAN = "plan"
    CONNECTION_LIMIT = "connection_limit"
    THROTTLED = "throttled"
    SLOW_CLIENT = "slow_client"
    CLOSED = "closed"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    STALE = "stale"
    PROTOCOL = "protocol"
    SERVER = "server"


class Failure(msgspec.Struct, frozen=True):
    """Why a connection ended, in words that may be shown."""

    kind: Kind
    text: str


class Policy(msgspec.Struct, frozen=True):
    """How a class of failure is retried: doubling from ``first_s`` to ``cap_s``, never below ``floor_s``."""

    first_s: float
    cap_s: float
    floor_s: float
    alarm: bool


POLICIES: dict[Kind, Policy] = {
    # Only an operator can mend these two, so they are asked rarely and say so.
    Kind.CREDENTIALS: Policy(60, 300, 30, alarm=True),
    Kind.PLAN: Policy(60, 300, 30, alarm=True),
    # The vendor frees a lost connection's slot slowly: an early return only prolongs it.
    Kind.CONNECTION_LIMIT: Policy(20, 60, 10, alarm=False),
    Kind.THROTTLED: Policy(30, 120, 15, alarm=False),
    # We were too slow: the reconnect is quick, but somebody should look.
    Kind.SLOW_CLIENT: Policy(1, 30, 0, alarm=True),
    Kind.CLOSED: Policy(1, 30, 0, alarm=False),
    Kind.UNREACHABLE: Policy(1, 30, 0, alarm=False),
    Kind.TIMEOUT: Policy(1, 30, 0, alarm=False),
    Kind.STALE: Policy(1, 30, 0, alarm=False),
    Kind.PROTOCOL: Policy(5, 60, 0, alarm=True),
    Kind.SERVER: Policy(2, 60, 0, alarm=False),
}

_KINDS_BY_CODE: dict[str, Kind] = {
    StreamCode.NOT_AUTHENTICATED: Kind.CREDENTIALS,
    StreamCode.AUTH_FAILED: Kind.CREDENTIALS,
    StreamCode.AUTH_TIMEOUT: Kind.TIMEOUT,
    StreamCode.CONNECTION_LIMIT: Kind.CONNECTION_LIMIT,
    StreamCode.SLOW_CLIENT: Kind.SLOW_CLIENT,
    StreamCode.INSUFFICIENT_SUBSCRIPTION: Kind.PLAN,
    StreamCode.INSUFFICIENT_SCOPE: Kind.PLAN,
    StreamCode.INTERNAL: Kind.SERVER,
}


def kind_of_code(code: str) -> Kind | None:
    """The class of a stream error that ends the connection; None for one that answers a subscription."""
    return _KINDS_BY_CODE.get(code)


def kind_of_status(status: int) -> Kind:
    """The class of an HTTP status that refused the websocket upgrade."""
    if status in (401, 403):
        return Kind.CREDENTIALS
    if status == 402:
        return Kind.PLAN
    if status == 429:
        return Kind.THROTTLED
    return Kind.SERVER if status >= 500 else Kind.PROTOCOL


def backoff_ns(feed: Feed, epoch: int, failures: int, policy: Policy) -> int:
    """How long to wait before the next attempt: doubling, capped, with jitter in its upper half.

    The jitter comes from the feed and epoch, so that a replayed day waits equally long.
    """
    wish_s = min(policy.cap_s, policy.first_s * 2.0 ** min(failures - 1, 16))
    fraction = zlib.crc32(f"{feed.value}:{epoch}".encode()) / 2**32
    return round(max(policy.floor_s, wish_s * (1 + fraction) / 2) * NS)

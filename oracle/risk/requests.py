"""What waits for the broker's records, and how it is answered.

Inputs: an operator's request, its moment. Outputs: ``Pending``, OperatorAnswered. Invariant: plain state and words; no
rule is asked and nothing is sent here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from oracle.core.control import Flatten, action_of
from oracle.core.messages import OperatorAnswered, OperatorRequested
from oracle.core.sessions import NS
from oracle.risk.pictures import Picture

# A confirmation is looked for often at first; a read costs the broker's budget six requests or more. Up to this age of
# a request (ns), look again after so long.
POLLS: Final = ((2 * NS, NS // 2), (10 * NS, 2 * NS), (60 * NS, 5 * NS))
INTERRUPTED: Final = "interrupted by a restart, so not confirmed; look with: oracle reconcile"
STANDS: Final = "; the flatten stands until oracle resume: every trade that is open or opens is closed"


@dataclass(slots=True)
class Pending:
    """A request that waits for the broker's records.

    ``behind`` is how many reports were still coming when a read was asked for: those before its own. None: no read is
    asked for. ``fresh``: its report has come, the comparison has not.
    """

    request: OperatorRequested
    since_ns: int
    deadline_ns: int
    behind: int | None = None
    fresh: bool = False
    adopted: bool = False


def poll_ns(pending: Sequence[Pending], at_ns: int) -> int:
    """When to look again; never later than somebody's deadline."""
    age_ns = at_ns - max(one.since_ns for one in pending)
    wait_ns = next((wait for until, wait in POLLS if age_ns < until), POLLS[-1][1])
    return min(at_ns + wait_ns, *(one.deadline_ns for one in pending))


def answered(
    request: OperatorRequested, at_ns: int, ok: bool, text: str, facts: Picture | None = None, done: bool = True
) -> OperatorAnswered:
    """Build an answer."""
    action = action_of(request.ask)
    return OperatorAnswered(request.request_id, action, request.who, request.why, ok, done, text, facts or {}, at_ns)


def left_undone(answers: Iterable[OperatorAnswered]) -> list[OperatorAnswered]:
    """The newest answer to each request that never got its last one."""
    newest = {answer.request_id: answer for answer in answers}
    return [answer for answer in newest.values() if not answer.done]


def interrupted(early: OperatorAnswered, at_ns: int, stands: bool) -> OperatorAnswered:
    """The last answer to a request that a restart cut off. ``stands``: what it asked for is still being done."""
    text = INTERRUPTED + (STANDS if stands else "")
    return OperatorAnswered(early.request_id, early.action, early.who, early.why, False, True, text, {}, at_ns)


def is_flatten(action: str) -> bool:
    """Whether an answer is one to a flatten."""
    return action == Flatten.__struct_config__.tag

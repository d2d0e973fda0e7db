"""What people add to the record of a run: notes on sessions, and criteria of readiness made stricter.

Inputs: OperatorRequested. Outputs: NoteAdded, CriterionTightened and the answers. Invariants: nothing here changes what
is traded; a criterion only ever gets stricter, also over restarts; every request gets exactly one answer.
"""

from collections.abc import Iterable, Sequence

from oracle.core.bus import HandlerTable
from oracle.core.control import Note, Tighten, action_of
from oracle.core.criteria import floors, is_possible, is_stricter
from oracle.core.message import Message
from oracle.core.messages import CriterionTightened, NoteAdded, OperatorAnswered, OperatorRequested
from oracle.core.ports import Context
from oracle.core.sessions import MINUTE_NS, REGULAR_OPEN_MIN, SessionTable


class Record:
    """The actor. ``strategies`` are the configured ones."""

    __slots__ = ("_criteria",)

    def __init__(self, strategies: Iterable[str]) -> None:
        self._criteria = {name: floors(name) for name in sorted(strategies)}

    def restore(self, tightened: Iterable[CriterionTightened]) -> None:
        """Take over what was made stricter before; of strategies that are not configured now, nothing is asked."""
        for change in tightened:
            known = self._criteria.get(change.strategy)
            if known is not None and is_stricter(change.criterion, change.value, known[change.criterion]):
                known[change.criterion] = change.value

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return ((OperatorRequested, self.on_request),)

    def on_request(self, request: OperatorRequested, context: Context) -> Sequence[Message]:
        """Write down a note or a stricter criterion; other requests are not this actor's."""
        match request.ask:
            case Note(text=text, session=session):
                return _note(request, text, session, context)
            case Tighten(strategy=strategy, criterion=criterion, value=value):
                return self._tighten(request, strategy, criterion, value, context.at_ns)
            case _:
                return ()

    def _tighten(
        self, request: OperatorRequested, strategy: str, criterion: str, value: float, at_ns: int
    ) -> Sequence[Message]:
        known = self._criteria.get(strategy)
        if known is None:
            there = ", ".join(self._criteria) or "none"
            return (_answer(request, at_ns, False, f"no strategy {strategy} is configured; there are: {there}"),)
        if criterion not in known:
            text = f"no criterion {criterion}; there are: {', '.join(known)}"
            return (_answer(request, at_ns, False, text),)
        before = known[criterion]
        facts = {"strategy": strategy, "criterion": criterion, "before": before, "value": value}
        if value == before:
            return (_answer(request, at_ns, True, f"{strategy}: {criterion} is {before:g} already", facts),)
        if not is_stricter(criterion, value, before):
            text = f"{strategy}: {criterion} is {before:g}; {value:g} would be looser, and criteria only get stricter"
            return (_answer(request, at_ns, False, text, facts),)
        if not is_possible(criterion, value):
            text = f"{strategy}: {criterion} of {value:g} could never be met, and it could not be taken back"
            return (_answer(request, at_ns, False, text, facts),)
        known[criterion] = value
        changed = CriterionTightened(
            request.request_id, strategy, criterion, value, before, request.who, request.why, at_ns
        )
        text = f"{strategy}: {criterion} is {value:g} now, it was {before:g}; it cannot be made looser again"
        return changed, _answer(request, at_ns, True, text, facts)


def _note(request: OperatorRequested, text: str, wanted: str | None, context: Context) -> Sequence[Message]:
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not words:
        return (_answer(request, context.at_ns, False, "the note is empty"),)
    session = session_of(context.table, context.at_ns) if wanted is None else wanted
    if session is None or context.table.on(session) is None:
        why = "no session is known" if session is None else f"{session} is no session of the calendar that is loaded"
        return (_answer(request, context.at_ns, False, f"{why}; name one with --session YYYY-MM-DD"),)
    added = NoteAdded(request.request_id, session, words, request.who, context.at_ns)
    told = _answer(request, context.at_ns, True, f"noted with session {session}", {"session": session, "note": words})
    return added, told


def session_of(table: SessionTable, at_ns: int) -> str | None:
    """The session that a note made at this time is about: that of the New York day, else the last that opened."""
    last, coming = table.latest(at_ns), table.current_or_next(at_ns)
    # It is on, or opens later this New York day; after the close ``coming`` is a later day's.
    today = coming is not None and at_ns >= coming.open_ns - REGULAR_OPEN_MIN * MINUTE_NS
    about = coming if today or last is None else last
    return None if about is None else about.date


def _answer(
    request: OperatorRequested, at_ns: int, ok: bool, text: str, facts: dict[str, object] | None = None
) -> OperatorAnswered:
    action = action_of(request.ask)
    return OperatorAnswered(request.request_id, action, request.who, request.why, ok, True, text, facts or {}, at_ns)

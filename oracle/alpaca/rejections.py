"""Counts of what a remote sent and could not be used, with one log line for each reason.

Inputs: ``MalformedError`` from ``translate``. Outputs: a counter by reason for metrics. Reasons are bounded.
"""

from collections import Counter

import structlog

from oracle.alpaca.fields import MalformedError

_MAX_REASONS = 200
_log = structlog.get_logger(__name__)


class Rejections:
    """Skipped messages by reason (kind and field), e.g. ``quote.bp``."""

    __slots__ = ("counts", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.counts: Counter[str] = Counter()

    def add(self, error: MalformedError) -> None:
        """Count a malformed message; its first of each reason is logged with the offending value."""
        self.note(error.reason, str(error))

    def note(self, reason: str, text: str) -> None:
        """Count by a reason of our own. Past the limit of reasons, the rest share ``other``."""
        if reason not in self.counts and len(self.counts) >= _MAX_REASONS:
            reason = "other"
        self.counts[reason] += 1
        if self.counts[reason] == 1:
            _log.warning("remote_message_skipped", source=self.source, reason=reason, detail=text)

    @property
    def total(self) -> int:
        """All skipped messages."""
        return self.counts.total()

"""Logging: one JSON object a line on stderr, or colours for a person at a terminal.

Inputs: structlog events, standard-library records and warnings. Output: stderr, so that stdout stays for ``--json``.
Invariants: UTC ISO times; tracebacks without locals; no loaded secret leaves, whatever path it takes: keys that name
secrets are blanked, and the secrets' own text is looked for in every value and again in the finished line.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, TextIO
from urllib.parse import quote

import orjson
import structlog
from structlog.typing import EventDict, Processor

from oracle.core.errors import ConfigurationError

LEVELS = ("debug", "info", "warning", "error", "critical")
HIDDEN = "***"
_MIN_SECRET = 6
_SECRET_KEYS = re.compile(
    r"(^|[_-])(key|apikey|secret|token|passw(or)?d|authorization|cookie|credentials?)([_-]?id)?$|^apca-|api[_-]?key|secret",
    re.IGNORECASE,
)
# sd-daemon priorities: journald takes them off the line and files it under the level.
_PRIORITIES = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}
_CHATTY = ("aiohttp.access", "aiosqlite", "apscheduler", "asyncio", "alpaca", "urllib3", "websockets")


class Redactor:
    """Hide secrets by key and by value, at any depth."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Take the loaded secrets' text.

        Raises:
            ConfigurationError: a secret is too short to be told from ordinary words.
        """
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) < _MIN_SECRET:
                raise ConfigurationError(
                    "credentials", f"a secret is shorter than {_MIN_SECRET} characters", "check the credential files"
                )
            # As typed, as in a URL, and as inside JSON or repr, where quotes and backslashes are escaped.
            forms |= {secret, quote(secret, safe=""), orjson.dumps(secret).decode()[1:-1], repr(secret)[1:-1]}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._found = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def text(self, text: str) -> str:
        """Hide secrets in a text."""
        return text if self._found is None else self._found.sub(HIDDEN, text)

    def value(self, value: object) -> object:
        """Hide secrets in plain values and containers; other objects become their redacted repr."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self.text(str(value))
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._entry(str(key), entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(entry) for entry in value]
        if isinstance(value, set | frozenset):
            return sorted(self.text(str(entry)) for entry in value)
        if isinstance(value, BaseException):
            return self.text(repr(value))
        return self.text(str(value))

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        """Redact a whole event (structlog processor)."""
        internal = {"_record", "_from_structlog"}
        return {key: entry if key in internal else self._entry(key, entry) for key, entry in event.items()}

    def _entry(self, key: str, value: object) -> object:
        if value is not None and key != "exc_info" and _SECRET_KEYS.search(key):
            return HIDDEN
        return value if key == "exc_info" else self.value(value)


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """The last look at a finished line, and the priority in front of it."""

    def __init__(self, redactor: Redactor, priority: bool, **options: Any) -> None:
        super().__init__(**options)
        self._redactor = redactor
        self._priority = priority

    def format(self, record: logging.LogRecord) -> str:
        line = self._redactor.text(super().format(record))
        return _PRIORITIES.get(record.levelname.lower(), "<6>") + line if self._priority else line


def configure_logging(
    level: str = "info",
    *,
    secrets: Iterable[str] = (),
    sd_prefix: bool = False,
    stream: TextIO | None = None,
    colour: bool | None = None,
) -> None:
    """Set up logging for the process; a second call replaces the first.

    Args:
        level: one of ``LEVELS``.
        secrets: the loaded credentials' text; nothing that contains one is written.
        sd_prefix: put ``<3>``…``<7>`` before each line, for journald.
        stream: where to write; stderr by default.
        colour: for people (True) or JSON (False); None decides by whether the stream is a terminal.

    Raises:
        ConfigurationError: the level is not one, or a secret is too short.
    """
    if level not in LEVELS:
        raise ConfigurationError("log_level", f"{level!r} is not a level", f"use one of {', '.join(LEVELS)}")
    out = sys.stderr if stream is None else stream
    people = out.isatty() if colour is None else colour
    redactor = Redactor(secrets)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.UnicodeDecoder(),
        _count,
    ]
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        _Formatter(
            redactor, sd_prefix and not people, foreign_pre_chain=shared, processors=_rendering(people, redactor)
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=False,
    )


def _rendering(people: bool, redactor: Redactor) -> list[Processor]:
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if people:
        # The default traceback of a terminal shows locals, and locals hold keys.
        plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback, timestamp_key="ts")
        return [strip, redactor, plain]
    tracebacks = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=30)
    )
    return [strip, tracebacks, redactor, structlog.processors.JSONRenderer(serializer=_dumps)]


def _dumps(event: MutableMapping[str, Any], **_options: object) -> str:
    # Time, level and event lead the line, for people who tail it.
    first = {key: event[key] for key in ("ts", "level", "event", "logger") if key in event}
    return orjson.dumps({**first, **event}, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class _Counting:
    """Who is told of each line's level; a process counts in one place."""

    to: Callable[[str], None] | None = None


def count_with(on_event: Callable[[str], None] | None) -> None:
    """Tell ``on_event`` the level of each line from here on; None tells nobody."""
    _Counting.to = on_event


def _count(_logger: object, _method: str, event: EventDict) -> EventDict:
    if _Counting.to is not None:
        _Counting.to(str(event.get("level", "info")))
    return event


def reset_logging() -> None:
    """Undo ``configure_logging``, for tests."""
    logging.captureWarnings(False)
    logging.getLogger().handlers.clear()
    structlog.reset_defaults()

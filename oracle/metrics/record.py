"""A signed, dated statement of what a strategy has shown: what the gate to live capital reads.

Inputs: an assessment, figures, the trades that they rest on, a key. Outputs: a record, its text, and what is wrong with
one. Invariants: a record holds for one code and one set of parameters, for seven days; one changed byte breaks the
signature; a record says what it was earned on (equity, quality of the quotes).
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from oracle.core.errors import ConfigurationError
from oracle.core.trackrecord import ClosedTrade, StrategyKey
from oracle.metrics.performance import Figures
from oracle.metrics.readiness import Assessment

KEY_NAME: Final = "readiness.key"
VALID_DAYS: Final = 7
INDICATIVE: Final = "indicative"
# The only mode in which a strategy can earn live capital: the others' markets or fills are made up.
PAPER: Final = "paper"
_KEY_BYTES: Final = 32
_DAY_NS: Final = 86_400_000_000_000
_VERSION: Final = 1


class ReadinessRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a strategy has shown, and until when that may be relied on.

    ``criteria`` are those asked, with what was seen of each; ``mode`` is that of the books; ``trades_sha256`` is over
    the rows of the trades that they rest on; ``equity_usd`` is the account's when the record was made; ``feed`` is the
    worst quality of option quotes among the trades, None when that of any is unknown. ``signature`` is HMAC-SHA256
    over the rest, in hexadecimal.
    """

    version: int
    strategy: str
    strategy_hash: str
    mode: str
    ready: bool
    score: float
    reason: str
    confidence: float
    parameter_sets: int
    criteria: tuple[dict[str, Any], ...]
    figures: dict[str, Any]
    equity_usd: Decimal
    feed: str | None
    trades: int
    trades_sha256: str
    at_ns: int
    valid_days: int
    signature: str = ""

    @property
    def until_ns(self) -> int:
        """The first instant at which the record no longer holds."""
        return self.at_ns + self.valid_days * _DAY_NS


def make_record(
    assessment: Assessment,
    figures: Figures | Mapping[str, Any],
    equity_usd: Decimal,
    feed: str | None,
    trades: Sequence[ClosedTrade],
    key: bytes,
    at_ns: int,
    *,
    mode: str,
) -> ReadinessRecord:
    """Make the signed record of an assessment.

    Args:
        figures: of the same trades.
        feed: the worst quality of quotes among them (``worst_feed``).
        trades: those that the assessment rests on, in any order.
        key: from ``signing_key``.
        at_ns: now, UTC.
        mode: of the books that hold the trades.

    Raises:
        ValueError: the trades are not those of the assessment.
    """
    own = StrategyKey(assessment.strategy, assessment.strategy_hash)
    if len(trades) != assessment.trades or any(trade.key != own for trade in trades):
        raise ValueError(f"the assessment rests on {assessment.trades} trades of {own}, not on these {len(trades)}")
    told = assessment.as_dict()
    unsigned = ReadinessRecord(
        version=_VERSION, strategy=assessment.strategy, strategy_hash=assessment.strategy_hash, mode=mode,
        ready=assessment.ready, score=assessment.score, reason=assessment.reason, confidence=assessment.confidence,
        parameter_sets=assessment.parameter_sets, criteria=tuple(told["criteria"]),
        figures=dict(figures) if isinstance(figures, Mapping) else figures.as_dict(), equity_usd=equity_usd, feed=feed,
        trades=len(trades), trades_sha256=trades_sha256(trades), at_ns=at_ns, valid_days=VALID_DAYS,
    )  # fmt: skip
    return msgspec.structs.replace(unsigned, signature=_signature(unsigned, key))


def verify(
    record: ReadinessRecord,
    key: bytes,
    *,
    strategy: str,
    strategy_hash: str,
    now_ns: int,
    live: bool = True,
    trades: Sequence[ClosedTrade] | None = None,
) -> tuple[str, ...]:
    """Name all that is wrong with a record, in words; nothing when it may be relied on.

    Args:
        strategy, strategy_hash: what is about to trade.
        live: real money: only paper trading earns it, and quotes of indicative or unknown quality prove nothing.
        trades: where given, the record must rest on exactly these.
    """
    if not hmac.compare_digest(record.signature, _signature(record, key)):
        return ("the signature is not of this record and this key: it was changed, or made elsewhere",)
    problems = []
    if record.version != _VERSION:
        problems.append(f"the record is of version {record.version}, not {_VERSION}")
    if (record.strategy, record.strategy_hash) != (strategy, strategy_hash):
        problems.append(
            f"the record is of {record.strategy} {record.strategy_hash}, not of {strategy} {strategy_hash}: "
            "another code or parameter starts from zero trades"
        )
    if not record.ready:
        problems.append(f"the strategy was not ready: {record.reason}")
    if now_ns >= record.until_ns:
        days = (now_ns - record.at_ns) / _DAY_NS
        problems.append(f"the record is {days:.1f} days old and was good for {record.valid_days}")
    if now_ns < record.at_ns:
        problems.append("the record is dated in the future: a clock is wrong")
    if live and record.mode != PAPER:
        problems.append(f"it was earned in mode {record.mode}, and only paper trading is accepted for live capital")
    if live and (record.feed is None or record.feed == INDICATIVE):
        quality = "unknown quality" if record.feed is None else "the indicative feed"
        problems.append(f"it was earned on quotes of {quality}, which is not accepted for live capital")
    if trades is not None and trades_sha256(trades) != record.trades_sha256:
        problems.append("it rests on other trades than those on record")
    return tuple(problems)


def trades_sha256(trades: Sequence[ClosedTrade]) -> str:
    """Give the SHA-256 of the trades' rows: each as one line of JSON, every field by name, ordered by log id."""
    digest = hashlib.sha256()
    for trade in sorted(trades, key=lambda one: one.log_id):
        digest.update(msgspec.json.encode(trade, order="sorted") + b"\n")
    return digest.hexdigest()


def worst_feed(trades: Sequence[ClosedTrade]) -> str | None:
    """Give the worst quality of quotes among trades: None if any is unknown, indicative if any was, else theirs."""
    feeds = {trade.feed for trade in trades}
    if None in feeds or not feeds:
        return None
    return INDICATIVE if INDICATIVE in feeds else max(feed for feed in feeds if feed is not None)


def record_text(record: ReadinessRecord) -> str:
    """Write a record as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n"


def read_record(text: str | bytes, name: str = "readiness record") -> ReadinessRecord:
    """Read a record that ``record_text`` wrote; whether it holds is for ``verify``.

    Raises:
        ConfigurationError: it is no record; the message has what is wrong and where.
    """
    try:
        return msgspec.json.decode(text, type=ReadinessRecord)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(name, f"is no readiness record ({error})", "make it again: oracle readiness") from None


def signing_key(state: Path) -> bytes:
    """Read the key of a state folder; make it, with mode 0600, on first use.

    Raises:
        ConfigurationError: it cannot be read or made, is open to others, or has the wrong length.
    """
    path = state / KEY_NAME
    try:
        with contextlib.suppress(FileExistsError):
            _make_key(path)
        mode, key = stat.S_IMODE(path.stat().st_mode), path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            KEY_NAME, f"{path}: {error.strerror}", "fix the state folder's owner and mode"
        ) from error
    if mode & 0o077:
        raise ConfigurationError(KEY_NAME, f"{path} is open to other users", f"run: chmod 600 {path}")
    if len(key) != _KEY_BYTES:
        raise ConfigurationError(
            KEY_NAME, f"{path} has {len(key)} bytes, not {_KEY_BYTES}", "remove it; records made with it end to hold"
        )
    return key


def _make_key(path: Path) -> None:
    """Write a new key whole or not at all, and never over an old one."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link fails if another process was first; a rename would replace its key.
        os.link(draft, path)
    finally:
        draft.unlink()


def _signature(record: ReadinessRecord, key: bytes) -> str:
    unsigned = msgspec.structs.replace(record, signature="")
    return hmac.new(key, msgspec.json.encode(unsigned, order="sorted"), hashlib.sha256).hexdigest()

"""Messages to rows and back: one small writer for each durable message type, and the generic conversions.

Inputs: messages, a stamp. Outputs: SQL statements run on an open transaction. Invariants: ``x_usd`` becomes
``x_micros``; nested values become JSON; prices of our own fills are exact or refused, all else is rounded half even.
"""

import sqlite3
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from importlib import resources
from typing import Any, NamedTuple, TypeVar

import msgspec

from oracle.core.errors import InvariantError, StoreError
from oracle.core.marketdata import DailyIvObserved
from oracle.core.message import Message
from oracle.core.messages import (
    CashCorrected,
    CashTransferred,
    CriterionTightened,
    EquityMarked,
    ExitPlanAdvanced,
    ExitTriggered,
    FeeCharged,
    ForeignExecution,
    Intent,
    IntentApproved,
    IntentRefused,
    LatchChanged,
    LedgerSeeded,
    NoteAdded,
    OperatorAnswered,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    PositionAdopted,
    PositionSettled,
    Reconciled,
    SessionClosed,
    SessionOpened,
    StrategyFailed,
    SubmitOrder,
    TradeClosed,
    TradeOpened,
)
from oracle.core.money import MICROS, from_micros, to_micros

M = TypeVar("M", bound=Message)
Row = dict[str, Any]
# Only the prices of our own fills must be whole micros; a remote may tell other amounts finer, and is not refused.
_EXACT: Mapping[type[Message], frozenset[str]] = {
    OrderFilled: frozenset({"price_usd"}),
    PositionSettled: frozenset({"price_usd", "share_price_usd"}),
}


class Stamp(NamedTuple):
    """Where a message stands: its number in the database, its turn and time, and the feed's quality at that time."""

    log_id: int
    turn_seq: int
    recorded_ns: int
    feed: str | None


def load_queries() -> dict[str, str]:
    """Read ``queries.sql``: statements by the name in their ``-- name:`` header."""
    text = resources.files("oracle.store").joinpath("queries.sql").read_text("utf-8")
    parts = text.split("-- name: ")[1:]
    queries = {part.partition("\n")[0].strip(): part.partition("\n")[2].strip() for part in parts}
    if len(queries) != len(parts):
        raise InvariantError("queries.sql: a name is used twice")
    return queries


QUERIES: Mapping[str, str] = load_queries()


def rounded_micros(amount: Decimal) -> int:
    """Convert an estimate, an average or a remote's amount in dollars to micros, half even."""
    return int((amount * MICROS).to_integral_value(ROUND_HALF_EVEN))


def row_of(message: Message) -> Row:
    """Turn a message into named SQL parameters."""
    row: Row = {}
    exact = _EXACT.get(type(message), frozenset())
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if name.endswith("_usd"):
            convert = to_micros if name in exact else rounded_micros
            row[f"{name[:-4]}_micros"] = None if value is None else convert(value)
        elif isinstance(value, tuple | dict | msgspec.Struct):
            row[name] = msgspec.json.encode(value).decode()
        elif isinstance(value, Decimal):
            row[name] = str(value)
        else:
            row[name] = value
    return row


def message_of(kind: type[M], row: sqlite3.Row) -> M:
    """Rebuild a message from a row that has all of its columns.

    Raises:
        StoreError: the row does not hold a valid message.
    """
    values: Row = {}
    for field in msgspec.structs.fields(kind):
        if field.name.endswith("_usd"):
            micros = row[f"{field.name[:-4]}_micros"]
            values[field.name] = None if micros is None else from_micros(micros)
        else:
            values[field.name] = row[field.name]
    return converted(kind, values)


def converted(kind: type[M], values: Row) -> M:
    """Validate plain values as a message.

    Raises:
        StoreError: they are not one.
    """
    try:
        return msgspec.convert(values, kind, strict=False)
    except (msgspec.ValidationError, InvariantError) as error:
        raise StoreError(f"database: a stored {kind.__name__} is not valid ({error})") from error


def decoded(kind: type[M], text: str) -> M:
    """Rebuild a message that is stored whole as JSON.

    Raises:
        StoreError: the text is not one.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, InvariantError) as error:
        raise StoreError(f"database: a stored {kind.__name__} is not valid ({error})") from error


def intent_of(row: sqlite3.Row) -> Intent:
    """Rebuild an intent, whose nested parts are JSON columns."""
    values = {name: row[name] for name in Intent.__struct_fields__}
    for name in ("legs", "exit_plan", "facts"):
        values[name] = msgspec.json.decode(values[name])
    return converted(Intent, values)


def answer_of(row: sqlite3.Row) -> OperatorAnswered:
    """Rebuild an operator's answer, whose facts are JSON."""
    values = {name: row[name] for name in OperatorAnswered.__struct_fields__}
    return converted(OperatorAnswered, {**values, "facts": msgspec.json.decode(values["facts"])})


def correction_of(row: sqlite3.Row) -> CashCorrected:
    """Rebuild a correction of cash, whose covered executions are JSON."""
    values = {name: row[name] for name in CashCorrected.__struct_fields__ if name != "amount_usd"}
    covers = msgspec.json.decode(values["covers"])
    return converted(CashCorrected, {**values, "covers": covers, "amount_usd": from_micros(row["amount_micros"])})


def seed_of(row: sqlite3.Row) -> LedgerSeeded:
    """Rebuild the opening cash, whose listed movements are JSON; earlier versions kept none."""
    holds = [] if row["holds"] is None else msgspec.json.decode(row["holds"])
    amounts = {f"{name}_usd": from_micros(row[f"{name}_micros"]) for name in ("cash", "equity")}
    return converted(LedgerSeeded, {**amounts, "at_ns": row["at_ns"], "holds": holds})


def settlement_of(row: sqlite3.Row) -> PositionSettled:
    """Rebuild a settlement, whose covered ids are JSON."""
    values = {name: row[name] for name in PositionSettled.__struct_fields__ if not name.endswith("_usd")}
    for name in ("price", "share_price", "fees_modelled"):
        micros = row[f"{name}_micros"]
        values[f"{name}_usd"] = None if micros is None else from_micros(micros)
    return converted(PositionSettled, {**values, "covers": msgspec.json.decode(values["covers"])})


def equity_of(row: sqlite3.Row) -> EquityMarked:
    """Rebuild an equity mark, whose prices are JSON; earlier versions kept none."""
    values = {name: row[name] for name in EquityMarked.__struct_fields__ if not name.endswith("_usd")}
    for name in (n for n in EquityMarked.__struct_fields__ if n.endswith("_usd")):
        values[name] = from_micros(row[f"{name[:-4]}_micros"])
    marks = {} if row["marks"] is None else msgspec.json.decode(row["marks"])
    return converted(EquityMarked, {**values, "marks": marks})


# ----------------------------------------------------------------------------------------------------- writers


def _run(db: sqlite3.Connection, name: str, row: Row) -> None:
    db.execute(QUERIES[name], row)


def _change_one(db: sqlite3.Connection, name: str, row: Row, what: str) -> None:
    if db.execute(QUERIES[name], row).rowcount != 1:
        raise StoreError(f"database: {name} found no {what}")


def _plain(name: str) -> "Writer":
    """A writer whose statement takes the message's own fields."""

    def write(db: sqlite3.Connection, message: Message, stamp: Stamp) -> None:
        _run(db, name, {**row_of(message), **stamp._asdict()})

    return write


def _write_approved(db: sqlite3.Connection, message: IntentApproved, stamp: Stamp) -> None:
    _run(db, "insert_decision", {**row_of(message), **stamp._asdict(), "approved": 1, "equity_needed_micros": None})


def _write_refused(db: sqlite3.Connection, message: IntentRefused, stamp: Stamp) -> None:
    unsized = dict.fromkeys(("contracts", "bound_by", "planned_risk_micros", "worst_case_micros", "headroom"))
    _run(db, "insert_decision", {**unsized, **row_of(message), **stamp._asdict(), "approved": 0})
    for position, refusal in enumerate(message.refusals):
        _run(
            db,
            "insert_refusal",
            {"decision_id": message.decision_id, "position": position, **msgspec.structs.asdict(refusal)},
        )


def order_sequence(order_id: str) -> int:
    """The persisted sequence at the end of an order id.

    Raises:
        InvariantError: the id does not end in ``-`` and digits.
    """
    digits = order_id.rpartition("-")[2]
    if not (digits.isascii() and digits.isdigit()):
        raise InvariantError(f"order {order_id}: the id does not end in a sequence number")
    return int(digits)


def _write_submit(db: sqlite3.Connection, message: SubmitOrder, stamp: Stamp) -> None:
    row = {**row_of(message), **stamp._asdict(), "sequence": order_sequence(message.order_id)}
    row["message"] = msgspec.json.encode(message).decode()
    _run(db, "insert_order", row)


def _write_advanced(db: sqlite3.Connection, message: OrderAdvanced, stamp: Stamp) -> None:
    row = {**row_of(message), **stamp._asdict()}
    _run(db, "insert_order_event", row)
    _run(db, "advance_order", row)


def _write_order_closed(db: sqlite3.Connection, message: OrderClosed, stamp: Stamp) -> None:
    _change_one(db, "close_order", {**row_of(message), **stamp._asdict()}, f"order {message.order_id}")


def _write_trade_closed(db: sqlite3.Connection, message: TradeClosed, stamp: Stamp) -> None:
    row = {**row_of(message), **stamp._asdict(), "message": msgspec.json.encode(message).decode()}
    _change_one(db, "close_trade", row, f"open trade {message.trade_id}")


def _write_triggered(db: sqlite3.Connection, message: ExitTriggered, stamp: Stamp) -> None:
    _run(db, "insert_exit_event", {**row_of(message), **stamp._asdict(), "phase": None})


def _write_phase(db: sqlite3.Connection, message: ExitPlanAdvanced, stamp: Stamp) -> None:
    untriggered = dict.fromkeys(("rule", "observed", "limit", "purpose"))
    row = {**untriggered, **row_of(message), **stamp._asdict()}
    _run(db, "insert_exit_event", row)
    _run(db, "set_exit_phase", row)


def _write_latch(db: sqlite3.Connection, message: LatchChanged, stamp: Stamp) -> None:
    row = {**row_of(message), **stamp._asdict()}
    _run(db, "insert_latch_event", row)
    _run(db, "set_latch", row)


def _write_adopted(db: sqlite3.Connection, message: PositionAdopted, stamp: Stamp) -> None:
    """An adopted order has its decision in the same tables as any other; its fills and end follow as messages."""
    if message.intent is not None and message.approved is not None:
        _plain("insert_intent")(db, message.intent, stamp)
        _write_approved(db, message.approved, stamp)
    _write_submit(db, message.order, stamp)
    for execution_id in message.covers:
        row = {"execution_id": execution_id, "log_id": stamp.log_id, "order_id": message.order.order_id}
        _run(db, "insert_adopted_execution", row)


Writer = Callable[[sqlite3.Connection, Any, Stamp], None]

WRITERS: Mapping[type[Message], Writer] = {
    LedgerSeeded: _plain("insert_seed"),
    FeeCharged: _plain("insert_fee"),
    CashTransferred: _plain("insert_cash_transfer"),
    Intent: _plain("insert_intent"),
    IntentApproved: _write_approved,
    IntentRefused: _write_refused,
    SubmitOrder: _write_submit,
    OrderAdvanced: _write_advanced,
    OrderFilled: _plain("insert_fill"),
    OrderClosed: _write_order_closed,
    ForeignExecution: _plain("insert_foreign_execution"),
    TradeOpened: _plain("open_trade"),
    TradeClosed: _write_trade_closed,
    ExitTriggered: _write_triggered,
    ExitPlanAdvanced: _write_phase,
    LatchChanged: _write_latch,
    EquityMarked: _plain("insert_equity"),
    SessionOpened: _plain("open_session"),
    SessionClosed: _plain("close_session"),
    DailyIvObserved: _plain("put_iv"),
    Reconciled: _plain("insert_reconciliation"),
    StrategyFailed: _plain("insert_strategy_failure"),
    OperatorAnswered: _plain("insert_operator_answer"),
    NoteAdded: _plain("insert_session_note"),
    CriterionTightened: _plain("tighten_criterion"),
    PositionAdopted: _write_adopted,
    CashCorrected: _plain("insert_cash_correction"),
    PositionSettled: _plain("insert_settlement"),
}

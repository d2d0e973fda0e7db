"""The dictionary of the system: what enters the core from time and people, crosses it and leaves it.

What the market and the broker tell is in ``marketdata`` and ``reports``.

Data are nouns, events past tense, commands imperative. All are frozen msgspec structs with a tag, so that the
journal can hold them. Units are in names; ``*_ns`` are UTC nanoseconds; ``None`` is unknown. Market data are
floats, amounts ordered, owned or owed are Decimal. Invariants are checked on construction.
"""

from decimal import Decimal
from typing import Any

import msgspec

from oracle.core.control import Ask
from oracle.core.errors import InvariantError
from oracle.core.marketdata import (
    Bar,
    ChainListed,
    ChainQuotes,
    ChainReadFailed,
    DailyIvObserved,
    FeedChanged,
    OptionTrades,
    Quote,
    TradingStatus,
    UpdatedBar,
)
from oracle.core.message import Message
from oracle.core.reports import (
    AccountReported,
    CancelReturned,
    ExecutionReported,
    LookUpReturned,
    OrderReported,
    StructureExecuted,
    SubmitReturned,
)
from oracle.core.sessions import Session
from oracle.core.structures import OrderLeg, structure_name
from oracle.core.vocabulary import (
    Ending,
    OrderState,
    OrderType,
    Purpose,
    Side,
)

# ------------------------------------------------------------------------------------- inputs: time, operator


class TimerFired(Message, frozen=True):
    """A core timer came due. ``timer_id`` is ``owner:key``."""

    timer_id: str
    due_ns: int


class DrainRequested(Message, frozen=True):
    """The process was asked to stop: no new entries from here; ``who`` and ``why`` are recorded."""

    who: str
    why: str


class OperatorRequested(Message, frozen=True):
    """A person asked for something. ``who`` is the operating system's user, which the control socket found out."""

    request_id: str
    who: str
    why: str
    ask: Ask


# --------------------------------------------------------------------------------------------- strategy's wish


class Leg(msgspec.Struct, frozen=True):
    """One leg of a structure. ``ratio`` ≥ 1; ``mid_usd`` is the middle of the quote that the decision saw."""

    symbol: str
    side: Side
    ratio: int
    bid_usd: Decimal
    ask_usd: Decimal
    quoted_ns: int
    delta: float | None = None
    iv: float | None = None

    @property
    def mid_usd(self) -> Decimal:
        """Middle of bid and ask, exact."""
        return (self.bid_usd + self.ask_usd) / 2


class ExitPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the trade ends; the same plan sizes it, watches it and gives its break-even win rate.

    Fractions are of the premium paid or, for a structure that pays, of the credit received, per unit: target 0.5 is a
    gain of half of it, stop 0.4 a loss of 40 %, stop 2 (only possible with a credit) a loss of twice the credit.
    Underlying levels are dollars; ``underlying_stop`` is judged on one-minute closes (inside the range again),
    ``underlying_target`` on the quote's middle. ``direction`` is +1 when the trade gains from a rise, −1 from a fall,
    0 from neither. A short leg whose |delta| reaches ``short_delta_stop`` ends the trade. ``flat_ns`` is the forced
    exit. At ``scale_out_at_fraction`` the share ``scale_out_share`` of the contracts is sold, rounded down, once.
    """

    target_fraction: float | None
    stop_fraction: float
    breakeven_after_fraction: float | None
    underlying_target: float | None
    underlying_stop: float | None
    direction: int
    flat_ns: int
    scale_out_share: float | None = None
    scale_out_at_fraction: float | None = None
    short_delta_stop: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.stop_fraction <= 10:
            raise InvariantError("exit plan: stop_fraction must be above 0 and at most 10")
        if self.direction not in (-1, 0, 1):
            raise InvariantError("exit plan: direction must be +1, -1 or 0")
        if self.direction == 0 and (self.underlying_target is not None or self.underlying_stop is not None):
            raise InvariantError("exit plan: levels of the underlying need a direction")
        if self.short_delta_stop is not None and not 0 < self.short_delta_stop < 1:
            raise InvariantError("exit plan: short_delta_stop must be above 0 and below 1")
        share, at = self.scale_out_share, self.scale_out_at_fraction
        if (share is None) != (at is None):
            raise InvariantError("exit plan: scale_out_share and scale_out_at_fraction belong together")
        if share is not None and not 0 < share < 1:
            raise InvariantError("exit plan: scale_out_share must be above 0 and below 1")
        if at is not None and not 0 < at < (float("inf") if self.target_fraction is None else self.target_fraction):
            raise InvariantError("exit plan: scale_out_at_fraction must be above 0 and below the target")


class Intent(Message, frozen=True):
    """What a strategy would like; it has no authority. Quantity is risk's to decide.

    ``intent_id`` = ``strategy:date:symbol:n``, unique and repeatable. ``facts`` are what the evaluation saw, rounded
    to 9 digits. ``valid_until_ns`` ends the entry window.
    """

    intent_id: str
    strategy: str
    strategy_hash: str
    underlying: str
    legs: tuple[Leg, ...]
    exit_plan: ExitPlan
    confidence: float
    confidence_needed: float
    reason: str
    facts: dict[str, float | str | bool | None]
    valid_until_ns: int

    def __post_init__(self) -> None:
        if not self.legs:
            raise InvariantError(f"intent {self.intent_id} has no legs")

    @property
    def symbol(self) -> str:
        """What it would like to buy: the symbol of one bought contract, else the name of the structure."""
        return structure_name(OrderLeg(leg.symbol, leg.side, leg.ratio) for leg in self.legs)


class NoSignal(Message, frozen=True):
    """A strategy evaluated and does not want to trade; ``reason`` is a closed snake_case word per strategy."""

    strategy: str
    symbol: str
    reason: str
    facts: dict[str, float | str | bool | None]


class NoData(Message, frozen=True):
    """A strategy could not evaluate; ``what`` names the missing input."""

    strategy: str
    symbol: str
    what: str
    facts: dict[str, float | str | bool | None]


class Reevaluated(Message, frozen=True):
    """A strategy evaluated again and its reason has not changed since it was told: what it saw this time."""

    verdict: NoSignal | NoData


class OptionsWanted(Message, frozen=True):
    """A strategy that needs option quotes only at times says when: ``wanted`` until it says otherwise.

    From one that never says it, they are always wanted; what is held is quoted whatever it says. ``expiries`` are the
    ISO dates that it needs (empty: all that are listed for it); ``reach`` how far from spot the strikes may lie that it
    needs, as a share of spot (None: as far as the plan allows).
    """

    strategy: str
    underlying: str
    wanted: bool
    expiries: tuple[str, ...] = ()
    reach: float | None = None


class PositioningMeasured(Message, frozen=True):
    """Gamma levels and option flow of an underlying as the core sees them now; for people and metrics, not durable.

    Levels in dollars of the underlying, None where there is none; ``net_gamma_usd`` per 1 % move. With an unknown
    half its ``*_reason`` is not empty and its figures are None. Flow figures are of the last 30 minutes.
    """

    underlying: str
    at_ns: int
    spot: float | None
    call_wall: float | None
    put_wall: float | None
    pin: float | None
    flip: float | None
    net_gamma_usd: float | None
    open_interest_date: str | None
    contracts_used: int
    gamma_reason: str
    bullish_usd: float | None
    bearish_usd: float | None
    bullish_n: int | None
    bearish_n: int | None
    flow_reason: str


class StrategyFailed(Message, frozen=True):
    """A strategy's handler raised: it is halted (latched), its exits go on."""

    strategy: str
    error: str


# ------------------------------------------------------------------------------------------------------- risk


class Refusal(msgspec.Struct, frozen=True):
    """One rule that said no: its name, what it saw and what it allows, in words with units."""

    rule: str
    observed: str
    limit: str


class IntentApproved(Message, frozen=True):
    """Risk lets an intent through at a size. ``bound_by`` names the rule with the least headroom."""

    decision_id: str
    intent_id: str
    strategy: str
    underlying: str
    contracts: int
    bound_by: str
    planned_risk_usd: Decimal
    worst_case_usd: Decimal
    equity_usd: Decimal
    headroom: dict[str, int]


class IntentRefused(Message, frozen=True):
    """Risk says no, with every rule that was broken and the equity that one contract would need (None = unknown)."""

    decision_id: str
    intent_id: str
    strategy: str
    underlying: str
    refusals: tuple[Refusal, ...]
    equity_usd: Decimal | None
    equity_needed_usd: Decimal | None


class ExitTriggered(Message, frozen=True):
    """An exit plan's rule fired for an open trade. ``rule``: target, scale_out, stop, breakeven, …, flat."""

    trade_id: str
    rule: str
    observed: str
    limit: str
    purpose: Purpose


# Latches whose clearing others than risk act on: a drawdown's re-bases the peak, a strategy's lets it run again.
DRAWDOWN_LATCH = "drawdown"
STRATEGY_FAILED_LATCH = "strategy_failed:"
STRATEGY_DISABLED_LATCH = "strategy_disabled:"
# Executions that were adopted carry this before the broker's own id: they are booked, but not of our orders.
ADOPTED = "adopted:"


class LatchChanged(Message, frozen=True):
    """A breaker was set or cleared. ``until_date`` is the session that clears it; None = an operator must.

    ``at_ns`` is the moment of the change; a restart needs it to know which losses came after a cleared streak.
    """

    latch: str
    active: bool
    reason: str
    observed: str
    limit: str
    until_date: str | None
    at_ns: int | None = None


class ExitPlanAdvanced(Message, frozen=True):
    """An open trade's exit plan moved on. Durable: a restart must not forget it.

    ``phase``: ``breakeven`` (the stop went to the entry price) or ``scaled_out`` (the share was sold).
    """

    trade_id: str
    phase: str


class ExitUnjudged(Message, frozen=True):
    """A rule of an open trade's exit plan cannot be judged now, because ``what`` is unknown. Told once a leg."""

    trade_id: str
    rule: str
    what: str


class LadderStep(msgspec.Struct, frozen=True):
    """One limit price and how long it may stand. ``limit_usd`` None is a market order."""

    limit_usd: Decimal | None
    stand_s: float


class SubmitOrder(Message, frozen=True):
    """Risk's command to the desk: made only in ``risk/gate.py``. It carries its whole ladder.

    ``order_id`` is store token + date + strategy + sequence; attempts append ``-n``. ``symbol`` is a contract, a stock
    (shares that an assignment left) or a structure's name; ``contracts`` counts units of it, and buying or selling
    (``side``) a structure does in each leg what its name says, or the opposite. All prices are then net per unit: a
    positive one is paid by the buyer, a negative one by the seller. ``worst_price_usd`` is the price at which the
    rules were run; the desk may only walk inside it (None for market exits). ``decision_mid_usd`` is the mid at
    decision, for slippage. ``break_evens`` are prices of the underlying.
    """

    order_id: str
    trade_id: str
    decision_id: str
    strategy: str
    strategy_hash: str
    underlying: str
    purpose: Purpose
    symbol: str
    side: Side
    contracts: int
    order_type: OrderType
    ladder: tuple[LadderStep, ...]
    worst_price_usd: Decimal | None
    decision_mid_usd: Decimal | None
    window_end_ns: int
    exit_plan: ExitPlan | None
    planned_risk_usd: Decimal
    worst_case_usd: Decimal
    equity_usd: Decimal
    reason: str
    config_fingerprint: str
    max_gain_usd: Decimal | None = None
    break_evens: tuple[Decimal, ...] = ()

    def __post_init__(self) -> None:
        if self.contracts <= 0:
            raise InvariantError(f"order {self.order_id}: contracts must be positive")
        if not self.ladder:
            raise InvariantError(f"order {self.order_id}: the ladder is empty")
        market = any(step.limit_usd is None for step in self.ladder)
        if market and (self.purpose in (Purpose.ENTRY, Purpose.TARGET) or self.order_type is not OrderType.MARKET):
            raise InvariantError(f"order {self.order_id}: only stops and forced exits may be market orders")


class CancelOrder(Message, frozen=True):
    """Risk's command to the desk: give an order up (its fills stand)."""

    order_id: str
    reason: str


# ---------------------------------------------------------------------------------------------------- operator


class TradeEvaluated(Message, frozen=True):
    """What a strategy would do now, because an operator asked. ``sent``: its intent is in this turn."""

    request: OperatorRequested
    verdicts: tuple[Intent | NoSignal | NoData, ...]
    sent: bool


class PositionAdopted(Message, frozen=True):
    """What others executed becomes an order of ours that is over; its OrderFilled and OrderClosed follow. Durable.

    ``intent`` and ``approved`` stand for the decision of an entry (None: the order ends a trade of ours). ``covers``
    are the broker's execution ids that are settled by this. The order is never sent.
    """

    request_id: str
    intent: Intent | None
    approved: IntentApproved | None
    order: SubmitOrder
    covers: tuple[str, ...]


class CashCorrected(Message, frozen=True):
    """What others bought and sold again in one instrument, as the cash that it left. Durable; the ledger folds it.

    ``who`` asked for it and ``why``; ``covers`` are the broker's execution ids that are settled by this.
    """

    request_id: str
    symbol: str
    amount_usd: Decimal
    who: str
    why: str
    covers: tuple[str, ...]
    at_ns: int


class PositionSettled(Message, frozen=True):
    """Part of a trade ended without an order of ours: by expiry, exercise, assignment or the broker's sale. Durable.

    ``contracts`` of ``symbol`` (positive) leave the trade at ``price_usd`` each, which is 0 unless cash was paid for
    them. ``shares`` (signed) of ``shares_symbol`` come into it at ``share_price_usd``. ``source`` is where it was seen
    first: ``positions``, ``activities`` or ``execution``; ``covers`` are the broker's ids that this settles.
    """

    settlement_id: str
    trade_id: str
    ending: Ending
    symbol: str
    contracts: int
    price_usd: Decimal
    shares_symbol: str
    shares: int
    share_price_usd: Decimal | None
    fees_modelled_usd: Decimal
    source: str
    covers: tuple[str, ...]
    at_ns: int

    def __post_init__(self) -> None:
        if self.contracts <= 0:
            raise InvariantError(f"settlement {self.settlement_id}: contracts must be positive")
        if (self.shares != 0) != (self.share_price_usd is not None):
            raise InvariantError(f"settlement {self.settlement_id}: shares and their price belong together")


class OperatorAnswered(Message, frozen=True):
    """What a request came to, in words and plain values. Durable. ``done`` False: its confirmation follows."""

    request_id: str
    action: str
    who: str
    why: str
    ok: bool
    done: bool
    text: str
    facts: dict[str, Any]
    at_ns: int


class NoteAdded(Message, frozen=True):
    """A person wrote something down with the session of this ISO date. Durable; changes nothing."""

    request_id: str
    session: str
    text: str
    who: str
    at_ns: int


class CriterionTightened(Message, frozen=True):
    """A criterion of readiness got stricter for a strategy, for good (units: ``core/criteria.py``). Durable."""

    request_id: str
    strategy: str
    criterion: str
    value: float
    before: float
    who: str
    why: str
    at_ns: int


# ------------------------------------------------------------------------------------------------- execution


class OrderAdvanced(Message, frozen=True):
    """An order attempt moved in the life-cycle table. Durable. ``step`` is the ladder step, ``attempt`` starts at 1."""

    order_id: str
    client_order_id: str
    attempt: int
    step: int
    from_state: OrderState
    to_state: OrderState
    filled: int
    text: str


class OrderFilled(Message, frozen=True):
    """An execution booked once. ``contracts`` positive; fees are the broker's charge, and the modelled one."""

    execution_id: str
    order_id: str
    client_order_id: str
    broker_order_id: str
    trade_id: str
    strategy: str
    symbol: str
    side: Side
    purpose: Purpose
    contracts: int
    price_usd: Decimal
    fees_broker_usd: Decimal
    fees_modelled_usd: Decimal
    at_ns: int


class ForeignExecution(Message, frozen=True):
    """An execution of an order that is not ours: shown, counted, and entries are blocked until reconciled."""

    execution_id: str
    client_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    price_usd: Decimal


class OrderClosed(Message, frozen=True):
    """An order is over for good (all attempts): no part of it can fill any more."""

    order_id: str
    trade_id: str
    purpose: Purpose
    filled: int
    contracts: int
    end: str


class SendOrder(Message, frozen=True):
    """Effect: POST one order attempt, once. ``limit_usd`` None is a market order; a structure's is net and signed."""

    client_order_id: str
    symbol: str
    side: Side
    opening: bool
    contracts: int
    limit_usd: Decimal | None
    reducing: bool


class SendCancel(Message, frozen=True):
    """Effect: ask the broker to cancel, once."""

    client_order_id: str
    broker_order_id: str


class LookUpOrder(Message, frozen=True):
    """Effect: read one order by client order id, once."""

    client_order_id: str


class ReadAccount(Message, frozen=True):
    """Effect: read account, positions, open orders and fills since ``fills_since_ns``."""

    fills_since_ns: int
    reason: str


class SetOptionSubscription(Message, frozen=True):
    """Effect: subscribe the option feed to exactly these contracts (sorted, within the plan's limit)."""

    symbols: tuple[str, ...]


class ReadOptionQuotes(Message, frozen=True):
    """Effect: read the quotes of these contracts (sorted) once; they come as ChainQuotes, as streamed ones do."""

    symbols: tuple[str, ...]


class ReadChain(Message, frozen=True):
    """Effect: read the contracts of an underlying with these expiries (ISO, inclusive) and strikes (dollars)."""

    underlying: str
    date: str
    expiry_from: str
    expiry_to: str
    strike_from_usd: Decimal
    strike_to_usd: Decimal


class SetTimer(Message, frozen=True):
    """Ask the engine for a TimerFired at ``at_ns``; the same id replaces."""

    timer_id: str
    at_ns: int


class ClearTimer(Message, frozen=True):
    """Drop a timer; unknown ids are ignored."""

    timer_id: str


# --------------------------------------------------------------------------------------- ledger and sessions


class LedgerSeeded(Message, frozen=True, omit_defaults=True):
    """The ledger's opening cash, from the first account read of an empty database. Durable; happens once.

    ``holds``: ids of the broker's movements of cash that were listed by then; the opening cash has them in it.
    """

    cash_usd: Decimal
    equity_usd: Decimal
    at_ns: int
    holds: tuple[str, ...] = ()


class FeeCharged(Message, frozen=True):
    """A fee that the broker charged the account, booked once by ``activity_id``. Durable.

    The broker's line names no order, so it belongs to the account. ``in_opening_cash``: charged before the ledger
    was seeded, so that its opening cash holds it already.
    """

    activity_id: str
    symbol: str
    amount_usd: Decimal
    text: str
    at_ns: int
    in_opening_cash: bool


class CashTransferred(Message, frozen=True):
    """Cash that came (+) or left (-) without a trade: deposit, withdrawal, interest. Durable, once by ``activity_id``.

    No P&L of ours: the day's start moves by it, the peak keeps the drawdown's share. ``kind``, ``date``, ``text``: the
    broker's own.
    """

    activity_id: str
    kind: str
    amount_usd: Decimal
    date: str
    text: str
    at_ns: int


class TradeOpened(Message, frozen=True):
    """The first fill of an intent's entry."""

    trade_id: str
    strategy: str
    strategy_hash: str
    underlying: str
    symbol: str
    at_ns: int


class TradeClosed(Message, frozen=True):
    """A round trip is flat. P&L is derived from its fills. Slippage is signed: positive cost, against decision mids."""

    trade_id: str
    strategy: str
    strategy_hash: str
    underlying: str
    symbol: str
    contracts: int
    opened_ns: int
    closed_ns: int
    entry_price_usd: Decimal
    exit_price_usd: Decimal
    gross_pnl_usd: Decimal
    fees_broker_usd: Decimal
    fees_modelled_usd: Decimal
    slippage_usd: Decimal | None
    slippage_bps: float | None
    exit_rule: str

    @property
    def net_pnl_usd(self) -> Decimal:
        """P&L net of modelled fees: what statistics, streaks and break-evens use."""
        return self.gross_pnl_usd - self.fees_modelled_usd


class SessionOpened(Message, frozen=True):
    """Regular trading began."""

    date: str
    open_ns: int
    close_ns: int


class SessionClosed(Message, frozen=True):
    """Regular trading ended."""

    date: str
    close_ns: int


class EquityMarked(Message, frozen=True):
    """Equity from the ledger's cash and marks. ``marks_stale`` counts positions marked at the worse or last side.

    ``kind``: open, minute, fill, trade, transfer, close, or rebase (the peak starts anew at this equity). With stale
    marks the figure is shown but nothing may be latched on it. ``marks``: the price at which each symbol was valued.
    """

    date: str
    at_ns: int
    kind: str
    cash_usd: Decimal
    equity_usd: Decimal
    day_start_equity_usd: Decimal
    peak_equity_usd: Decimal
    realized_today_usd: Decimal
    unrealized_usd: Decimal
    marks_stale: int
    marks: dict[str, Decimal] = msgspec.field(default_factory=dict)


class Reconciled(Message, frozen=True):
    """Ledger and broker were compared. ``differences`` is empty when they agree; each is one line in words."""

    at_ns: int
    reason: str
    differences: tuple[str, ...]


class JournalOpened(Message, frozen=True):
    """First record of a journal segment: enough to replay it alone.

    ``at_ns`` is the engine's start; ``snapshot`` the durable state that was loaded (msgpack); ``config`` the settings
    without secrets (JSON); ``sessions`` the calendar that was used; ``strategies`` the code hash of each by name.
    """

    build: str
    mode: str
    config_fingerprint: str
    at_ns: int
    snapshot: bytes
    config: bytes = b""
    sessions: tuple[Session, ...] = ()
    strategies: dict[str, str] = msgspec.field(default_factory=dict)


Input = (
    Bar
    | UpdatedBar
    | Quote
    | TradingStatus
    | ChainListed
    | ChainQuotes
    | OptionTrades
    | ChainReadFailed
    | DailyIvObserved
    | FeedChanged
    | OrderReported
    | ExecutionReported
    | StructureExecuted
    | SubmitReturned
    | CancelReturned
    | LookUpReturned
    | AccountReported
    | TimerFired
    | DrainRequested
    | OperatorRequested
)

Effect = SendOrder | SendCancel | LookUpOrder | ReadAccount | ReadChain | ReadOptionQuotes | SetOptionSubscription


class Stamped(msgspec.Struct, frozen=True):
    """One input as the core saw it: ``seq`` from 1 without gaps, ``at_ns`` never decreasing."""

    seq: int
    at_ns: int
    input: Input

"""The dictionary of the system: every message that enters, crosses or leaves the core.

Data are nouns, events past tense, commands imperative. All are frozen msgspec structs with a tag, so that the
journal can hold them. Units are in names; ``*_ns`` are UTC nanoseconds; ``None`` is unknown. Market data are
floats, amounts ordered, owned or owed are Decimal. Invariants are checked on construction.
"""

from decimal import Decimal
from typing import Any

import msgspec

from oracle.core.control import Ask
from oracle.core.errors import InvariantError
from oracle.core.sessions import Session
from oracle.core.vocabulary import BrokerEvent, Feed, FeedState, OrderState, OrderType, Outcome, Purpose, Side


class Message(msgspec.Struct, frozen=True, tag_field="T", tag=True):
    """Base of all messages."""


# ----------------------------------------------------------------------------------------- inputs: market data


class Bar(Message, frozen=True):
    """A closed one-minute bar; ``start_ns`` is its first instant. Back-filled bars warm and never cause an entry."""

    symbol: str
    start_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    trades: int
    vwap: float
    backfilled: bool = False

    def __post_init__(self) -> None:
        prices = (self.open, self.high, self.low, self.close)
        if not all(0 < p < float("inf") for p in prices):
            raise InvariantError(f"bar {self.symbol}: a price is not positive and finite")
        if not (self.low <= min(self.open, self.close) and self.high >= max(self.open, self.close)):
            raise InvariantError(f"bar {self.symbol}: high and low do not hold open and close")
        if self.volume < 0:
            raise InvariantError(f"bar {self.symbol}: volume is negative")


class UpdatedBar(Message, frozen=True):
    """A vendor's re-issue of an earlier bar: recorded, never folded in again."""

    bar: Bar


class Quote(Message, frozen=True):
    """Best bid and ask of a stock, conflated to the newest. None is an absent side. Sizes in shares."""

    symbol: str
    quoted_ns: int
    bid: float | None
    bid_size: int
    ask: float | None
    ask_size: int

    @property
    def mid(self) -> float | None:
        """The middle of a two-sided, uncrossed quote, else None."""
        if self.bid is None or self.ask is None or self.bid > self.ask:
            return None
        return (self.bid + self.ask) / 2


class TradingStatus(Message, frozen=True):
    """A halt or resume of a stock, with the tape's words."""

    symbol: str
    at_ns: int
    code: str
    text: str
    halted: bool


class ListedContract(msgspec.Struct, frozen=True):
    """One listed option as the broker describes it. Open interest is that of ``open_interest_date`` (yesterday's)."""

    symbol: str
    open_interest: int | None
    open_interest_date: str | None
    penny_class: bool
    tradable: bool = True


class ChainListed(Message, frozen=True):
    """An underlying's contracts for a session date, sorted by symbol. Row numbers in ``ChainQuotes`` refer to it."""

    underlying: str
    date: str
    contracts: tuple[ListedContract, ...]


class ChainQuotes(Message, frozen=True):
    """Changed option quotes of one underlying since the last such input, conflated at the edge (columns as bytes).

    ``rows``: int32 indices into ``ChainListed.contracts``; ``bid``, ``ask``: float64 dollars, NaN is an absent side;
    ``bid_size``, ``ask_size``: int32 contracts; ``quoted_ns``: int64. All little-endian, equal lengths, rows ascending.
    """

    underlying: str
    date: str
    rows: bytes
    bid: bytes
    ask: bytes
    bid_size: bytes
    ask_size: bytes
    quoted_ns: bytes

    def __post_init__(self) -> None:
        n = len(self.rows) // 4
        lengths = tuple(map(len, (self.rows, self.bid, self.ask, self.bid_size, self.ask_size, self.quoted_ns)))
        if lengths != (4 * n, 8 * n, 8 * n, 4 * n, 4 * n, 8 * n):
            raise InvariantError(f"chain quotes {self.underlying}: columns differ in length {lengths}")


class ChainReadFailed(Message, frozen=True):
    """The contracts of an underlying could not be read; nothing is known of its chain until a later read."""

    underlying: str
    date: str
    text: str


class DailyIvObserved(Message, frozen=True):
    """A 30-day at-the-money implied volatility of one session (fraction, 0.2 = 20 %), and who says so. Durable."""

    underlying: str
    date: str
    iv_30d: float
    source: str

    def __post_init__(self) -> None:
        if not 0 < self.iv_30d < 10:
            raise InvariantError(f"daily IV {self.underlying} {self.date}: {self.iv_30d} is out of range")


class FeedChanged(Message, frozen=True):
    """A supervised feed changed state. ``epoch`` counts connections; LIVE is subscribed, acknowledged, gap-free."""

    feed: Feed
    epoch: int
    state: FeedState
    reason: str


# --------------------------------------------------------------------------------------------- inputs: broker


class BrokerOrder(msgspec.Struct, frozen=True):
    """An order as the broker tells it. ``status`` is the broker's own word, kept even when unknown to us."""

    client_order_id: str
    broker_order_id: str
    symbol: str
    side: Side | None
    order_class: str
    qty: Decimal
    filled_qty: Decimal
    filled_avg_price_usd: Decimal | None
    limit_price_usd: Decimal | None
    order_type: str
    status: str
    created_ns: int


class OrderReported(Message, frozen=True):
    """The broker told of an order's change, on the stream or in an answer."""

    event: BrokerEvent
    order: BrokerOrder
    at_ns: int
    text: str = ""


class ExecutionReported(Message, frozen=True):
    """One execution. Idempotent by ``execution_id``. ``qty`` in shares or contracts of this execution, positive."""

    execution_id: str
    order: BrokerOrder
    symbol: str
    side: Side
    qty: Decimal
    price_usd: Decimal
    at_ns: int

    def __post_init__(self) -> None:
        if not (self.qty > 0 and self.price_usd >= 0):
            raise InvariantError(f"execution {self.execution_id}: quantity or price out of range")


class SubmitReturned(Message, frozen=True):
    """What one POST of an order came to. UNKNOWN means that the order may be live."""

    client_order_id: str
    outcome: Outcome
    order: BrokerOrder | None
    code: str
    text: str


class CancelReturned(Message, frozen=True):
    """What one cancel request came to. ACCEPTED means requested, not canceled."""

    client_order_id: str
    outcome: Outcome
    code: str
    text: str


class LookUpReturned(Message, frozen=True):
    """What a look-up by client order id found. ``order`` is None with NOT_FOUND, and with UNKNOWN."""

    client_order_id: str
    outcome: Outcome
    order: BrokerOrder | None
    text: str


class BrokerPosition(msgspec.Struct, frozen=True):
    """A position as the broker tells it; ``qty`` is signed."""

    symbol: str
    qty: Decimal
    avg_entry_price_usd: Decimal


class BrokerFee(msgspec.Struct, frozen=True):
    """A fee as the broker's activities tell it: ``amount_usd`` positive is charged, negative a rebate."""

    activity_id: str
    symbol: str
    amount_usd: Decimal
    text: str


class AccountReported(Message, frozen=True):
    """The broker's account, open orders, positions and the fills since a moment: one consistent read at the edge.

    ``fills_since_ns`` is the activity window's start. ``text`` is non-empty when the read failed: then the
    figures are None and nothing may be concluded from the empty lists.
    """

    at_ns: int
    equity_usd: Decimal | None
    last_equity_usd: Decimal | None
    cash_usd: Decimal | None
    options_buying_power_usd: Decimal | None
    options_level: int | None
    trading_blocked: bool | None
    positions: tuple[BrokerPosition, ...]
    open_orders: tuple[BrokerOrder, ...]
    fills: tuple[ExecutionReported, ...]
    fills_since_ns: int
    text: str = ""
    fees: tuple[BrokerFee, ...] = ()


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

    Fractions are of the entry premium per contract: target 0.5 = +50 %, stop 0.4 = −40 %. Underlying levels are
    dollars; ``underlying_stop`` is judged on one-minute closes (inside the range again), ``underlying_target`` on
    the quote's middle. ``direction`` is +1 when the trade gains from a rise. ``flat_ns`` is the forced exit.
    At ``scale_out_at_fraction`` the share ``scale_out_share`` of the contracts is sold, rounded down, once.
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

    def __post_init__(self) -> None:
        if not 0 < self.stop_fraction <= 1:
            raise InvariantError("exit plan: stop_fraction must be above 0 and at most 1")
        if self.direction not in (-1, 1):
            raise InvariantError("exit plan: direction must be +1 or -1")
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


class OptionsWanted(Message, frozen=True):
    """A strategy that needs option quotes only at times says when: ``wanted`` until it says otherwise.

    From one that never says it, they are always wanted; what is held is quoted whatever it says.
    """

    strategy: str
    underlying: str
    wanted: bool


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


class LadderStep(msgspec.Struct, frozen=True):
    """One limit price and how long it may stand. ``limit_usd`` None is a market order."""

    limit_usd: Decimal | None
    stand_s: float


class SubmitOrder(Message, frozen=True):
    """Risk's command to the desk: made only in ``risk/gate.py``. It carries its whole ladder.

    ``order_id`` is store token + date + strategy + sequence; attempts append ``-n``. ``contracts`` counts structures
    (or contracts of a single leg). ``worst_price_usd`` is the price at which the rules were run; the desk may only
    walk inside it (None for market exits). ``decision_mid_usd`` is the mid at decision, for slippage.
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
    """Effect: POST one order attempt, once. ``limit_usd`` None is a market order."""

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


class LedgerSeeded(Message, frozen=True):
    """The ledger's opening cash, from the first account read of an empty database. Durable; happens once."""

    cash_usd: Decimal
    equity_usd: Decimal
    at_ns: int


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

    ``kind``: open, minute, fill, trade, close, or rebase (the peak starts anew at this equity). With stale marks the
    figure is shown but nothing may be latched on it.
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
    strategies: dict[str, str] = {}


Input = (
    Bar
    | UpdatedBar
    | Quote
    | TradingStatus
    | ChainListed
    | ChainQuotes
    | ChainReadFailed
    | DailyIvObserved
    | FeedChanged
    | OrderReported
    | ExecutionReported
    | SubmitReturned
    | CancelReturned
    | LookUpReturned
    | AccountReported
    | TimerFired
    | DrainRequested
    | OperatorRequested
)

Effect = SendOrder | SendCancel | LookUpOrder | ReadAccount | ReadChain | SetOptionSubscription


class Stamped(msgspec.Struct, frozen=True):
    """One input as the core saw it: ``seq`` from 1 without gaps, ``at_ns`` never decreasing."""

    seq: int
    at_ns: int
    input: Input

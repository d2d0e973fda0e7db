"""The risk actor: the only maker of ``SubmitOrder``. Judges intents, sizes them, and enforces exits.

Inputs: intents, quotes, bars, timers, trades, order ends, equity marks, sessions, feeds. Outputs: IntentApproved or
IntentRefused, SubmitOrder, CancelOrder, exit facts, latches, timers.
Invariants: every intent gets exactly one answer; entries pass all rules at their worst price; exits pass always.
"""

from collections.abc import Iterable

from oracle.core.bus import HandlerTable
from oracle.core.control import Evaluate
from oracle.core.errors import ProtocolError
from oracle.core.marketdata import Bar, ChainQuotes, FeedChanged, Quote
from oracle.core.message import Message
from oracle.core.messages import (
    DrainRequested,
    EquityMarked,
    ForeignExecution,
    Intent,
    IntentApproved,
    IntentRefused,
    LatchChanged,
    LedgerSeeded,
    OperatorRequested,
    OrderAdvanced,
    OrderClosed,
    OrderFilled,
    PositionSettled,
    ReadAccount,
    Reconciled,
    Refusal,
    SessionOpened,
    StrategyFailed,
    SubmitOrder,
    TimerFired,
    TradeClosed,
    TradeEvaluated,
    TradeOpened,
)
from oracle.core.ports import Context
from oracle.core.reports import AccountReported
from oracle.core.vocabulary import TradingState
from oracle.risk import adoption, answers, orders, pictures
from oracle.risk.adoption import OPERATOR, Adoption, AdoptWish
from oracle.risk.book import OrderBook
from oracle.risk.exits import Exits
from oracle.risk.exposure import House
from oracle.risk.facts import Memory, assemble
from oracle.risk.halts import OF_A_STRATEGY, Halts
from oracle.risk.names import Names
from oracle.risk.operator import Operator, Step
from oracle.risk.requests import answered
from oracle.risk.rules import broken
from oracle.risk.sheet import RiskFacts
from oracle.risk.sizing import Size, size
from oracle.risk.stored import GateSettings, Stored
from oracle.risk.watch import FLAT_TIMER, RETRY_TIMER, ExitWish, Watch

NOTHING: tuple[Message, ...] = ()


class Gate:
    """The risk actor."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._house = House(settings.limits, settings.ladder, settings.betas, settings.caps)
        self._names = Names(settings.token, {OPERATOR: "op", **settings.abbreviations}, settings.next_sequence)
        self._book = OrderBook()
        self._halts = Halts(settings.limits)
        self._exits = Exits(self._book, settings.ladder, settings.limits.max_option_quote_age_s)
        known = tuple(sorted(settings.abbreviations))
        self._operator = Operator(self._book, self._halts, self._exits, settings.token, known)
        self._decided: IntentApproved | IntentRefused | None = None
        self._draining = False
        self._foreign: str | None = None

    def handlers(self) -> HandlerTable:
        """What this actor listens to."""
        return (
            (Intent, self.on_intent),
            (ChainQuotes, self.on_chain_quotes),
            (Quote, self.on_quote),
            (Bar, self.on_bar),
            (TimerFired, self.on_timer),
            (TradeOpened, self.on_trade_opened),
            (TradeClosed, self.on_trade_closed),
            (OrderAdvanced, self.on_order_advanced),
            (OrderFilled, self.on_order_filled),
            (OrderClosed, self.on_order_closed),
            (PositionSettled, self.on_position_settled),
            (EquityMarked, self.on_equity_marked),
            (LatchChanged, self.on_latch_changed),
            (SessionOpened, self.on_session_opened),
            (FeedChanged, self.on_feed_changed),
            (StrategyFailed, self.on_strategy_failed),
            (ForeignExecution, self.on_foreign_execution),
            (AccountReported, self.on_account_reported),
            (Reconciled, self.on_reconciled),
            (DrainRequested, self.on_drain_requested),
            (OperatorRequested, self.on_operator_requested),
            (TradeEvaluated, self.on_trade_evaluated),
            (LedgerSeeded, self.on_ledger_seeded),
            (ReadAccount, self.on_read_account),
        )

    @property
    def trading_state(self) -> TradingState:
        """What is allowed account-wide, for those who only look."""
        return self._halts.state

    @property
    def draining(self) -> bool:
        """Whether the process was asked to stop."""
        return self._draining

    def restore(self, stored: Stored) -> None:
        """Rebuild state from stored facts; timers follow with the first FeedChanged or SessionOpened."""
        self._book.rebuild(stored)
        self._halts.restore(stored.latches, stored.closed)
        self._exits.restore(stored.opened, stored.closed, stored.plans, self._operator.standing(stored.exits))
        self._operator.restore(stored.foreign, stored.settled, stored.answers)

    # ---------------------------------------------------------------------------------------------------- entries

    def on_intent(self, intent: Intent, context: Context) -> Iterable[Message]:
        """Answer an intent: refused with every broken rule, or approved at a size, with its order."""
        book = self._book
        facts, fits, refusals = self._weigh(intent, context)
        book.decided.add(intent.intent_id)
        decision_id = self._names.decision(intent, context.at_ns)
        if refusals or facts.equity_usd is None:
            self._decided = answers.refused(decision_id, intent, refusals, facts.equity_usd, fits)
            return (self._decided,)
        order_id = self._names.order(intent.strategy, context.session)
        terms = orders.entry_terms(intent, order_id, facts, fits, self._settings.ladder, context)
        order = SubmitOrder(decision_id=decision_id, config_fingerprint=self._settings.config_fingerprint, **terms)
        book.add(order, context.at_ns)
        self._decided = answers.approved(intent, order, fits)
        return self._decided, order

    def _weigh(self, intent: Intent, context: Context) -> tuple[RiskFacts, Size, tuple[Refusal, ...]]:
        """Judge and size an intent on what is known now; nothing is remembered."""
        memory = Memory(self._book, self._halts, self._exits.at_breakeven, self._draining, self._foreign)
        facts = assemble(intent, context, self._house, memory)
        fits = size(facts, self._halts.record(intent.strategy), self._settings.live)
        return facts, fits, broken(facts) + fits.refusals

    # ------------------------------------------------------------------------------------------------------ exits

    def on_chain_quotes(self, quotes: ChainQuotes, context: Context) -> Iterable[Message]:
        """Judge open trades of the underlying on new option quotes. Called about 70,000 times a session."""
        if not self._exits.watches:
            return NOTHING
        return self._judge(self._exits.of(quotes.underlying), context)

    def on_quote(self, quote: Quote, context: Context) -> Iterable[Message]:
        """Judge open trades on the underlying's quote."""
        if not self._exits.watches:
            return NOTHING
        return self._judge(self._exits.of(quote.symbol), context, spot=quote.mid)

    def on_bar(self, bar: Bar, context: Context) -> Iterable[Message]:
        """Judge open trades on the underlying's one-minute close."""
        if not self._exits.watches:
            return NOTHING
        return self._judge(self._exits.of(bar.symbol), context, bar=bar)

    def on_timer(self, timer: TimerFired, context: Context) -> Iterable[Message]:
        """Force a trade flat, or try an exit again."""
        for prefix in (FLAT_TIMER, RETRY_TIMER):
            if timer.timer_id.startswith(prefix):
                watch = self._exits.watches.get(timer.timer_id.removeprefix(prefix))
                return NOTHING if watch is None else self._judge((watch,), context)
        return self._make_orders(self._operator.on_timer(timer, context), context)

    def on_trade_opened(self, opened: TradeOpened, context: Context) -> Iterable[Message]:
        """Watch the trade's exit plan."""
        self._book.trade_opened(opened)
        out = [*self._exits.opened(opened, context)]
        return out + self._make_orders(self._operator.on_trade_opened(opened, context), context)

    def on_trade_closed(self, closed: TradeClosed, context: Context) -> Iterable[Message]:
        """Stop watching, and count the result towards streak and record."""
        return (*self._exits.closed(closed), *self._halts.on_trade_closed(closed, context.table))

    def _judge(
        self, watches: Iterable[Watch], context: Context, spot: float | None = None, bar: Bar | None = None
    ) -> list[Message]:
        out: list[Message] = []
        for watch in watches:
            out += self._make_orders(self._exits.judge(watch, context, spot, bar), context)
        return out

    def _make_orders(self, steps: Iterable[Step], context: Context) -> list[Message]:
        """Turn wishes for exits and adoptions into orders; all else passes."""
        out: list[Message] = []
        for step in steps:
            if isinstance(step, AdoptWish):
                out += adoption.books(step, self._book.entries, self._past_order, context)
            else:
                out.append(self._exit_order(step, context) if isinstance(step, ExitWish) else step)
        return out

    def _exit_order(self, wish: ExitWish, context: Context) -> SubmitOrder:
        """Make the order of an exit: a ladder for a target, else a market order. No rule is asked."""
        trade = wish.trade
        entry = self._book.entries.get(trade.trade_id)
        if entry is None:
            raise ProtocolError(f"trade {trade.trade_id} is open without its entry order")
        order_id = self._names.exit_order(trade.trade_id, context.session)
        terms = orders.exit_terms(wish, entry, order_id, self._settings.ladder, context)
        order = SubmitOrder(config_fingerprint=self._settings.config_fingerprint, **terms)
        self._book.add(order, context.at_ns)
        self._exits.order_made(trade.trade_id, order.order_id, context.at_ns)
        return order

    # ----------------------------------------------------------------------------------------------------- orders

    def on_order_advanced(self, step: OrderAdvanced, context: Context) -> Iterable[Message]:
        """Follow attempts: how many, and which are unknown."""
        self._book.advanced(step, context.at_ns)
        return NOTHING

    def on_order_filled(self, fill: OrderFilled, context: Context) -> Iterable[Message]:
        """Shrink what is still working."""
        self._book.filled(fill)
        self._operator.filled_ns = context.at_ns
        return NOTHING

    def on_order_closed(self, end: OrderClosed, context: Context) -> Iterable[Message]:
        """Free an order's exposure, and go on with exits that waited for its end."""
        self._book.closed(end)
        steps: list[Step] = [*self._exits.order_closed(end, context), *self._operator.on_order_closed(end, context)]
        return self._make_orders(steps, context)

    def on_position_settled(self, settled: PositionSettled, context: Context) -> Iterable[Message]:
        """Part of a trade ended without an order of ours: what works for it is given up, what is left judged anew."""
        return self._exits.settled(settled, context)

    # ------------------------------------------------------------------------------------------------- the house

    def on_equity_marked(self, marked: EquityMarked, context: Context) -> Iterable[Message]:
        """Latch the day's loss and the drawdown."""
        return self._halts.on_equity(marked, context.table)

    def on_latch_changed(self, change: LatchChanged, _context: Context) -> Iterable[Message]:
        """Take over a latch set here or elsewhere; one that is set takes back the entries it forbids."""
        self._halts.apply(change)
        if not change.active:
            return NOTHING
        strategy = change.latch.partition(":")[2] if change.latch.startswith(OF_A_STRATEGY) else None
        records = [w for w in self._book.entering() if strategy is None or w.order.strategy == strategy]
        return self._book.cancel(records, f"latch {change.latch}")

    def on_session_opened(self, opened: SessionOpened, context: Context) -> Iterable[Message]:
        """Clear what ends with a new session, and go on with exits that waited for it."""
        self._book.prune(opened.date, opened.open_ns, (trade.trade_id for trade in context.ledger.open_trades()))
        out: list[Message] = [*self._halts.on_session(opened.date, context.at_ns), *self._exits.arm(context)]
        return out + self._judge(tuple(self._exits.watches.values()), context)

    def on_feed_changed(self, _change: FeedChanged, context: Context) -> Iterable[Message]:
        """After a restart this is the first thing heard: arm timers, and take back entries that a latch forbids."""
        halts, halted = self._halts, self._halts.state is not TradingState.ACTIVE
        records = [w for w in self._book.entering() if halted or halts.barred(w.order.strategy)]
        steps = self._operator.on_start(context)
        return (*self._exits.arm(context), *self._book.cancel(records, "latched"), *self._make_orders(steps, context))

    def on_strategy_failed(self, failed: StrategyFailed, context: Context) -> Iterable[Message]:
        """Halt a strategy that raised; its exits go on."""
        return self._halts.on_strategy_failed(failed, context.at_ns)

    def on_foreign_execution(self, execution: ForeignExecution, context: Context) -> Iterable[Message]:
        """Somebody else traded: no entries until a reconcile agrees."""
        self._operator.foreign.heard(execution, context.at_ns)
        self._foreign = execution.execution_id
        return NOTHING

    def on_account_reported(self, report: AccountReported, context: Context) -> Iterable[Message]:
        """Let exits that were refused be tried again, now that the books are as new as the account."""
        steps = self._operator.on_report(report, context)
        return [*self._exits.account_seen(report, context.at_ns), *self._make_orders(steps, context)]

    def on_reconciled(self, result: Reconciled, context: Context) -> Iterable[Message]:
        """An agreement between ledger and broker covers foreign executions of before."""
        if not result.differences:
            self._foreign = None
        return self._make_orders(self._operator.on_reconciled(result, context), context)

    def on_drain_requested(self, _request: DrainRequested, _context: Context) -> Iterable[Message]:
        """Open nothing more, and take back entries: what fills now might be left without a watch."""
        self._draining = True
        return self._book.cancel(self._book.entering(), "drain")

    # ------------------------------------------------------------------------------------------------- an operator

    def on_operator_requested(self, request: OperatorRequested, context: Context) -> Iterable[Message]:
        """Do what a person asks for."""
        return self._make_orders(self._operator.on_request(request, context), context)

    def on_ledger_seeded(self, _seed: LedgerSeeded, _context: Context) -> Iterable[Message]:
        """What others executed before is in the opening cash."""
        self._operator.on_seeded()
        return NOTHING

    def on_read_account(self, _read: ReadAccount, _context: Context) -> Iterable[Message]:
        """Count reads that are under way: an answer to an earlier one proves nothing to whoever asks now."""
        self._operator.reading += 1
        return NOTHING

    def on_trade_evaluated(self, told: TradeEvaluated, context: Context) -> Iterable[Message]:
        """Show what risk says of what a strategy would do now, or what became of the intent that was sent."""
        shown = []
        for verdict in told.verdicts:
            picture = pictures.verdict(verdict)
            if isinstance(verdict, Intent) and not told.sent:
                facts, fits, refusals = self._weigh(verdict, context)
                picture["decision"] = pictures.judgement(facts, fits, refusals)
                picture["prospects"] = pictures.prospects(facts, fits)
            shown.append(picture)
        ok, text = pictures.outcome(told, self._decided)
        answer: pictures.Picture = {"verdicts": shown}
        if isinstance(told.request.ask, Evaluate) and told.request.ask.structure:
            halts, symbols = self._halts, [picture["symbol"] for picture in shown]
            answer["house"] = pictures.house(context, halts.state, halts.names, symbols)
        return (answered(told.request, context.at_ns, ok, text, answer),)

    def _past_order(self, wish: AdoptWish, one: Adoption, ends: SubmitOrder | None, context: Context) -> SubmitOrder:
        """The order that others' executions stand for: an entry, or the exit of ``ends``. It is over."""
        names = self._names
        order_id = names.exit_order(ends.trade_id, context.session) if ends else names.order(OPERATOR, context.session)
        terms = adoption.terms(wish, one, ends, order_id, context.at_ns)
        order = SubmitOrder(config_fingerprint=self._settings.config_fingerprint, **terms)
        self._book.restore(order)
        return order

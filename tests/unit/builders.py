"""Builders shared by the tests of risk and execution: one house of real core parts around the gate and the desk.

``House`` feeds inputs to a real engine (ledger, equity, market, timers) with the gate, the desk and the reconciler
subscribed; only the chains are a settable stand-in, because quotes are what tests choose.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from oracle.core.engine import Engine
from oracle.core.equity import EquityKeeper, Marks
from oracle.core.ledger import Ledger
from oracle.core.market import MarketState
from oracle.core.marketdata import Bar, ChainListed, ChainQuotes, FeedChanged, ListedContract, Quote
from oracle.core.message import Message
from oracle.core.messages import ExitPlan, Intent, LadderStep, Leg, SendOrder, SubmitOrder
from oracle.core.ports import OptionQuote
from oracle.core.reports import AccountReported, BrokerOrder, BrokerPosition, ExecutionReported
from oracle.core.sessions import MINUTE_NS, NS, Session, SessionTable
from oracle.core.vocabulary import Feed, FeedState, OrderType, Purpose, Side
from oracle.execution.desk import Desk
from oracle.execution.reconcile import Reconciler
from oracle.execution.works import DeskSettings
from oracle.risk.gate import Gate
from oracle.risk.limits import DEFAULT_BETAS, LadderSettings, RiskLimits
from oracle.risk.stored import GateSettings

DAY_NS = 24 * 60 * MINUTE_NS
OPEN_NS = 1_767_623_400 * NS  # 2026-01-05 09:30 New York
DATES = ("2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08", "2026-01-09")
TABLE = SessionTable(
    Session(date, OPEN_NS + n * DAY_NS, OPEN_NS + n * DAY_NS + 390 * MINUTE_NS) for n, date in enumerate(DATES)
)
START_NS = OPEN_NS + 30 * MINUTE_NS
CALL = "SPY260105C00600000"
OTHER_CALL = "SPY260105C00601000"
PUT = "SPY260105P00600000"
LATER_CALL = "SPY260109C00600000"
NICKEL_CALL = "XYZ260105C00050000"
FEE = Decimal("0.65")


class Chains:
    """A settable chains view: quotes, deltas and listings are what a test says."""

    def __init__(self) -> None:
        self.quotes: dict[str, OptionQuote] = {}
        self.deltas: dict[str, float | None] = {}
        self.spots: dict[str, float] = {}
        self.tradable = True
        self.symbols = (CALL, OTHER_CALL, LATER_CALL, PUT)

    def listed(self, underlying: str) -> ChainListed | None:
        if underlying != "SPY":
            return None
        rows = (ListedContract(s, 10, "2026-01-02", True, self.tradable) for s in sorted(self.symbols))
        return ChainListed(underlying, DATES[0], tuple(rows))

    def spot(self, underlying: str, at_ns: int) -> float | None:
        return self.spots.get(underlying)

    def option_quote(self, symbol: str) -> OptionQuote | None:
        return self.quotes.get(symbol)

    def delta(self, symbol: str, at_ns: int) -> float | None:
        return self.deltas.get(symbol)

    def select(self, request: Any, at_ns: int) -> Any:
        raise AssertionError(f"only strategies choose contracts, and none is on this stage: {request} at {at_ns}")


def plan(**changes: Any) -> ExitPlan:
    """An exit plan: +50 %, −50 %, break-even after +30 %, flat at 15:00 New York."""
    made = ExitPlan(0.5, 0.5, 0.3, None, None, 1, TABLE.sessions[0].late("15:00"))
    return msgspec.structs.replace(made, **changes)


def intent(
    n: int = 1, symbol: str = CALL, *, at_ns: int = START_NS, bid: str = "9.95", ask: str = "10.00", **changes: Any
) -> Intent:
    """An intent to buy one option."""
    leg = Leg(symbol, Side.BUY, 1, Decimal(bid), Decimal(ask), at_ns)
    made = Intent(
        intent_id=f"breakout:2026-01-05:SPY:{n}", strategy="breakout", strategy_hash="hash", underlying="SPY",
        legs=(leg,), exit_plan=plan(), confidence=0.9, confidence_needed=0.8, reason="it broke out", facts={},
        valid_until_ns=at_ns + MINUTE_NS,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def gate_settings(**changes: Any) -> GateSettings:
    """Settings of a gate that is not live, with the limits at their defaults."""
    values: dict[str, Any] = {
        "limits": RiskLimits(), "ladder": LadderSettings(), "betas": DEFAULT_BETAS,
        "abbreviations": {"breakout": "bo", "scalp": "ms"}, "token": "tok", "next_sequence": 1,
        "config_fingerprint": "fp", "live": False,
    }  # fmt: skip
    return GateSettings(**{**values, **changes})


def entry_order(order_id: str = "tok-20260105-bo-000001", contracts: int = 4, **changes: Any) -> SubmitOrder:
    """A command to buy, with a ladder of three steps of 5 s."""
    prices = ("2.00", "2.01", "2.02")
    made = SubmitOrder(
        order_id=order_id, trade_id=order_id, decision_id="d1", strategy="breakout", strategy_hash="hash",
        underlying="SPY", purpose=Purpose.ENTRY, symbol=CALL, side=Side.BUY, contracts=contracts,
        order_type=OrderType.LIMIT, ladder=tuple(LadderStep(Decimal(p), 5.0) for p in prices),
        worst_price_usd=Decimal("2.02"), decision_mid_usd=Decimal("2.00"), window_end_ns=START_NS + 15 * NS,
        exit_plan=plan(), planned_risk_usd=Decimal(404), worst_case_usd=Decimal(808), equity_usd=Decimal(100_000),
        reason="r", config_fingerprint="fp",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def broker_order(sent: SendOrder, status: str = "new", filled: int = 0, **changes: Any) -> BrokerOrder:
    """The broker's picture of an attempt."""
    made = BrokerOrder(
        client_order_id=sent.client_order_id, broker_order_id=f"b-{sent.client_order_id}", symbol=sent.symbol,
        side=sent.side, order_class="simple", qty=Decimal(sent.contracts), filled_qty=Decimal(filled),
        filled_avg_price_usd=None, limit_price_usd=sent.limit_usd, order_type="limit", status=status,
        created_ns=START_NS,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def execution(
    sent: SendOrder, name: str, qty: int, filled: int, price: str = "2.00", at_ns: int = START_NS
) -> ExecutionReported:
    """One execution of an attempt; ``filled`` is the broker's cumulative count after it."""
    status = "filled" if filled == sent.contracts else "partially_filled"
    order = broker_order(sent, status, filled)
    return ExecutionReported(name, order, sent.symbol, sent.side, Decimal(qty), Decimal(price), at_ns)


def account(at_ns: int = START_NS, cash: str | None = "100000", **changes: Any) -> AccountReported:
    """An account report without positions, orders or fills."""
    amount = None if cash is None else Decimal(cash)
    made = AccountReported(
        at_ns=at_ns, equity_usd=amount, last_equity_usd=amount, cash_usd=amount, options_buying_power_usd=amount,
        options_level=3, trading_blocked=False, positions=(), open_orders=(), fills=(), fills_since_ns=OPEN_NS,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def chain_quotes(underlying: str = "SPY") -> ChainQuotes:
    """A wake-up: the quotes themselves are in ``Chains``."""
    return ChainQuotes(underlying, DATES[0], b"", b"", b"", b"", b"", b"")


def bar(close: float, start_ns: int, symbol: str = "SPY", *, backfilled: bool = False) -> Bar:
    """A one-minute bar that closes at ``close``."""
    return Bar(symbol, start_ns, close, close, close, close, 100, 1, close, backfilled)


class House:
    """A real engine around gate, desk and reconciler. ``sent`` and ``effects`` are what would leave to the broker."""

    def __init__(self, settings: GateSettings | None = None, cash: str = "100000", *, ready: bool = True) -> None:
        self.chains = Chains()
        self.market = MarketState()
        self.ledger = Ledger()
        marks = Marks(self.market, self.chains, 15, self.ledger.held)
        equity = EquityKeeper(self.ledger, marks)
        self.engine = Engine(TABLE, self.market, self.chains, self.ledger, equity)
        self.gate = Gate(settings or gate_settings())
        self.desk = Desk(DeskSettings(FEE))
        self.reconciler = Reconciler()
        for actor in (marks, self.gate, self.desk, self.reconciler):
            self.engine.bus.subscribe(actor.handlers())
        self.at_ns = START_NS
        self.all: list[Message] = []
        self.engine.start(OPEN_NS)
        if ready:
            self.get_ready(cash)

    def get_ready(self, cash: str = "100000") -> None:
        """Feeds live, account read and reconciled, SPY quoted at 600, CALL at 9.95 x 10.00."""
        for feed in Feed:
            self.tell(FeedChanged(feed, 1, FeedState.LIVE, "connected"))
        self.tell(account(self.at_ns, cash))
        self.spot(600.0)
        self.quote(CALL, 9.95, 10.00)

    def tell(self, message: Any, after_s: float = 0) -> list[Message]:
        """Give an input (or an intent) to the engine some seconds from now; all that came of it."""
        self.at_ns += round(after_s * NS)
        out = [m for turn in self.engine.handle(self.at_ns, message) for m in turn.messages]
        self.all += out
        return out

    def wait(self, seconds: float) -> list[Message]:
        """Let time pass; what due timers caused."""
        self.at_ns += round(seconds * NS)
        out = [m for turn in self.engine.advance(self.at_ns) for m in turn.messages]
        self.all += out
        return out

    def spot(self, price: float, symbol: str = "SPY") -> list[Message]:
        """Quote a stock two cents wide."""
        return self.tell(Quote(symbol, self.at_ns, price - 0.01, 100, price + 0.01, 100))

    def quote(
        self, symbol: str, bid: float | None, ask: float | None, delta: float | None = 0.1, age_s: float = 0
    ) -> list[Message]:
        """Quote an option and wake the gate."""
        seen_ns = self.at_ns - round(age_s * NS)
        self.chains.quotes[symbol] = OptionQuote(symbol, bid, 50, ask, 50, seen_ns, seen_ns)
        self.chains.deltas[symbol] = delta
        return self.tell(chain_quotes())

    def position(self, symbol: str, qty: int) -> BrokerPosition:
        """A position as the broker would tell it."""
        return BrokerPosition(symbol, Decimal(qty), Decimal(10))


def of(kind: type[Any], messages: Iterable[Message]) -> list[Any]:
    """The messages of one class."""
    return [message for message in messages if type(message) is kind]


def one(kind: type[Any], messages: Iterable[Message]) -> Any:
    """The only message of a class."""
    found = of(kind, messages)
    assert len(found) == 1, f"{len(found)} {kind.__name__}"
    return found[0]

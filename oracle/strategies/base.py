"""What a strategy is: one file with a docstring, ``Params``, and handlers that are state in and messages out.

Inputs: bars and sessions with the turn's read-only context. Outputs: Intent, NoSignal or NoData, never an order.
Invariants: back-filled bars warm and never cause an entry; a reason is told once until it changes; facts are plain
values rounded to 9 digits.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from oracle.core.errors import InvariantError
from oracle.core.instruments import is_equity
from oracle.core.marketdata import Bar
from oracle.core.message import Message
from oracle.core.messages import Intent, Leg, NoData, NoSignal, OptionsWanted, SessionClosed, SessionOpened
from oracle.core.money import price_from_float
from oracle.core.ports import Context, Selected, StrategyCaps
from oracle.core.vocabulary import Side

Facts = dict[str, float | str | bool | None]
Verdict = Intent | NoSignal | NoData
TIME_OF_DAY = r"^([01]\d|2[0-3]):[0-5]\d$"


def _different_stocks(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value) or not all(is_equity(symbol) for symbol in value):
        raise ValueError("universe must be different stock symbols")
    return value


Universe = Annotated[tuple[str, ...], AfterValidator(_different_stocks)]


class StrategyParams(BaseModel):
    """Base of every strategy's ``Params``: frozen, no unknown fields, each field with description, unit and bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def param(default: Any, unit: str, description: str, **bounds: Any) -> Any:
    """Declare a field of ``Params``: its default, unit, description and bounds (``ge``, ``le``, ``pattern``, …)."""
    return Field(default=default, description=description, json_schema_extra={"unit": unit}, **bounds)


def rounded(facts: Facts) -> Facts:
    """Facts as they are recorded: floats with 9 digits after the point.

    Raises:
        InvariantError: a value is not a plain number, text, flag or None, or a number is not finite.
    """
    out: Facts = {}
    for name, value in facts.items():
        if value is not None and type(value) not in (float, int, str, bool):
            raise InvariantError(f"fact {name}: {type(value).__name__} cannot be recorded")
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise InvariantError(f"fact {name}: {value} is not finite")
        out[name] = round(value, 9) if isinstance(value, float) else value
    return out


def bought(found: Selected) -> Leg:
    """The leg that buys one of a chosen contract, with the quote that the decision saw."""
    quote = found.quote
    if quote.bid is None or quote.ask is None:
        raise InvariantError(f"{found.symbol} was chosen without a two-sided quote")
    return Leg(
        symbol=found.symbol,
        side=Side.BUY,
        ratio=1,
        bid_usd=price_from_float(quote.bid),
        ask_usd=price_from_float(quote.ask),
        quoted_ns=quote.quoted_ns,
        delta=round(found.delta, 9),
        iv=round(found.iv, 9),
    )


class Strategy(ABC):
    """Base of all strategies. A subclass sets ``name`` and ``Params`` and implements the abstract handlers.

    Args:
        params: an instance of the class's ``Params``.
        code_hash: sha256 over the module's source and the canonical parameters, made by the registry.
    """

    name: ClassVar[str]
    Params: ClassVar[type[StrategyParams]]
    # Whether chains are listed and quoted only while it says so (OptionsWanted) or holds something.
    options_on_demand: ClassVar[bool] = False
    # Whether it looks at IV rank: then the 30-day volatility of its universe is observed each session.
    needs_iv_history: ClassVar[bool] = False
    # Modules beside its own whose source is a part of what it is: its hash covers them.
    helpers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: StrategyParams, code_hash: str) -> None:
        if not isinstance(params, self.Params):
            raise InvariantError(f"strategy {self.name}: parameters of type {type(params).__name__}")
        self.code_hash = code_hash
        self._told: dict[str, tuple[str, str]] = {}
        self._wanted: dict[str, OptionsWanted] = {}
        self._untold: list[NoSignal | NoData] = []

    @property
    @abstractmethod
    def universe(self) -> tuple[str, ...]:
        """The underlyings it watches and trades, in order."""

    @property
    @abstractmethod
    def warmup_sessions(self) -> int:
        """How many whole sessions of back-filled bars before today it needs to be warm."""

    @property
    @abstractmethod
    def max_expiry_sessions(self) -> int:
        """How many sessions ahead its farthest option expiry lies (0 is today's)."""

    @property
    def caps(self) -> StrategyCaps:
        """What it allows itself in a session; risk judges it, because only risk knows fills and results."""
        return StrategyCaps()

    @abstractmethod
    def on_warmup_bar(self, bar: Bar, context: Context) -> None:
        """Take a bar into the indicators without evaluating."""

    @abstractmethod
    def evaluate(self, symbol: str, context: Context) -> Verdict | None:
        """Say what it would do now with what it knows; changes nothing. None when there is nothing to say."""

    def structure_now(self, symbol: str, context: Context) -> Verdict | None:
        """Say what it would trade now whatever the time and the signal: what a preflight sizes. Changes nothing."""
        return self.evaluate(symbol, context)

    def on_bar(self, bar: Bar, context: Context) -> Sequence[Message]:
        """Take a live bar, then evaluate."""
        self.on_warmup_bar(bar, context)
        verdict = self.evaluate(bar.symbol, context)
        if isinstance(verdict, Intent):
            self.on_intent_sent(verdict.intent_id)
        return self._news(bar.symbol, verdict)

    @abstractmethod
    def on_intent_sent(self, intent_id: str) -> None:
        """Note that an intent left. On recovery it is called once for each of today's intents in the store."""

    def on_session_open(self, message: SessionOpened, context: Context) -> Sequence[Message]:  # noqa: ARG002
        """A session began: reasons are told anew."""
        self._told.clear()
        return ()

    def on_session_close(self, message: SessionClosed, context: Context) -> Sequence[Message]:  # noqa: ARG002
        """A session ended."""
        return ()

    def handle(self, message: Message, context: Context) -> Iterable[Message]:
        """Route a message to its handler; bars of other symbols are ignored."""
        if isinstance(message, Bar):
            if message.symbol not in self.universe:
                return ()
            if message.backfilled:
                self.on_warmup_bar(message, context)
                return ()
            return self.on_bar(message, context)
        if isinstance(message, SessionOpened):
            return self.on_session_open(message, context)
        if isinstance(message, SessionClosed):
            return self.on_session_close(message, context)
        return ()

    def handle_disabled(self, bar: Bar, context: Context) -> Iterable[Message]:
        """Stay warm while switched off, and say once that this is why it does not trade."""
        if bar.symbol not in self.universe:
            return ()
        self.on_warmup_bar(bar, context)
        return () if bar.backfilled else self._news(bar.symbol, self.no_signal(bar.symbol, "disabled", {}))

    def no_signal(self, symbol: str, reason: str, facts: Facts) -> NoSignal:
        """Build the fact that it does not want to trade."""
        return NoSignal(self.name, symbol, reason, rounded(facts))

    def no_data(self, symbol: str, what: str, facts: Facts) -> NoData:
        """Build the fact that it cannot evaluate."""
        return NoData(self.name, symbol, what, rounded(facts))

    def _news(self, symbol: str, verdict: Verdict | None) -> Sequence[Message]:
        """An intent always; a reason only when it differs from the last one told for the symbol."""
        if verdict is None:
            return ()
        if isinstance(verdict, Intent):
            self._told.pop(symbol, None)
            return (verdict,)
        word = verdict.reason if isinstance(verdict, NoSignal) else verdict.what
        told = (type(verdict).__name__, word)
        if self._told.get(symbol) == told:
            self._untold.append(verdict)
            return ()
        self._told[symbol] = told
        return (verdict,)

    def take_untold(self) -> tuple[NoSignal | NoData, ...]:
        """The evaluations since the last call that were not told because their reason was the same as before."""
        untold = tuple(self._untold)
        self._untold.clear()
        return untold

    def _want(
        self, symbol: str, wanted: bool, expiries: tuple[str, ...] = (), reach: float | None = None
    ) -> Sequence[Message]:
        """Say which option quotes it wants from now on, when that is not what it said last."""
        wish = OptionsWanted(self.name, symbol, wanted, expiries, reach) if wanted else None
        before = self._wanted.get(symbol)
        if wish == before:
            return ()
        if wish is None:
            del self._wanted[symbol]
            return (OptionsWanted(self.name, symbol, wanted=False),)
        self._wanted[symbol] = wish
        return (wish,)

"""The yes-or-no rules of entry: a list of small pure functions over one frozen struct of facts.

Inputs: ``RiskFacts``, assembled by the gate. Outputs: a ``Refusal`` for every broken rule (all are evaluated).
Invariants: an unknown, stale or missing input refuses with observed "unknown"; rule names are stable snake_case
(they become metric labels). Rules with a size in them live in ``sizing.py``. Exits are never judged here.
"""

from collections.abc import Callable

from oracle.core.instruments import parse_occ
from oracle.core.messages import Refusal
from oracle.core.sessions import MINUTE_NS, NS
from oracle.core.structures import MAX_LEGS
from oracle.core.vocabulary import FeedState, TradingState
from oracle.risk.sheet import UNKNOWN, RiskFacts

# What the broker calls the right to trade spreads (alpaca.md section 4).
STRUCTURES_LEVEL = 3

Rule = Callable[[RiskFacts], Refusal | None]


def trading_state(f: RiskFacts) -> Refusal | None:
    """Entries need ACTIVE."""
    if f.state is TradingState.ACTIVE:
        return None
    return Refusal("trading_state", f"{f.state.value} ({', '.join(f.latches)})", "active")


def draining(f: RiskFacts) -> Refusal | None:
    """A process that was asked to stop opens nothing."""
    return Refusal("draining", "the process is stopping", "running") if f.draining else None


def strategy_failed(f: RiskFacts) -> Refusal | None:
    """A strategy that raised stays halted."""
    return Refusal("strategy_failed", f"{f.strategy} failed", "not failed") if f.strategy_failed else None


def strategy_disabled(f: RiskFacts) -> Refusal | None:
    """A strategy that an operator has switched off enters nothing."""
    return Refusal("strategy_disabled", f"{f.strategy} is switched off", "enabled") if f.strategy_disabled else None


def day_loss(f: RiskFacts) -> Refusal | None:
    """The day's loss has not reached its limit."""
    limit = f"below {f.limits.day_loss_fraction:.2%} of start-of-day equity"
    loss = f.day_loss_usd
    if loss is None or f.day_start_usd is None or f.day_start_usd <= 0:
        return Refusal("day_loss", UNKNOWN, limit)
    if loss >= f.limits.day_loss_fraction * f.day_start_usd:
        return Refusal("day_loss", f"{loss:.2f} USD lost of {f.day_start_usd:.2f} USD", limit)
    return None


def loss_streak(f: RiskFacts) -> Refusal | None:
    """Not too many losing trades in a row, account-wide."""
    if f.losses_in_a_row < f.limits.consecutive_losses:
        return None
    return Refusal("loss_streak", f"{f.losses_in_a_row} losing trades in a row", f"below {f.limits.consecutive_losses}")


def drawdown(f: RiskFacts) -> Refusal | None:
    """Equity is near enough to its peak."""
    limit = f"below {f.limits.drawdown_fraction:.2%} of peak equity"
    if f.equity_usd is None or f.peak_usd is None or f.peak_usd <= 0:
        return Refusal("drawdown", UNKNOWN, limit)
    if f.peak_usd - f.equity_usd >= f.limits.drawdown_fraction * f.peak_usd:
        return Refusal("drawdown", f"{f.peak_usd - f.equity_usd:.2f} USD under {f.peak_usd:.2f} USD", limit)
    return None


def feeds(f: RiskFacts) -> Refusal | None:
    """Stock, option and trading streams are live."""
    bad = [f"{name} {state.value}" for name, state in f.feeds if state is not FeedState.LIVE]
    return Refusal("feeds", ", ".join(bad), "all live") if bad else None


def reconciled(f: RiskFacts) -> Refusal | None:
    """Ledger and broker agree, and nobody else traded since."""
    if f.foreign_execution is not None:
        return Refusal("reconciled", f"foreign execution {f.foreign_execution}", "none since the last reconcile")
    return None if f.reconciled else Refusal("reconciled", "not reconciled", "ledger and broker agree")


def order_unknown(f: RiskFacts) -> Refusal | None:
    """Every order's fate is known."""
    return Refusal("order_unknown", ", ".join(f.unknown_orders), "none in doubt") if f.unknown_orders else None


def confidence(f: RiskFacts) -> Refusal | None:
    """The strategy is as sure as it says that it must be; a confidence that is no number is not."""
    if f.confidence >= f.confidence_needed:
        return None
    return Refusal("confidence", f"{f.confidence:g}", f"at least {f.confidence_needed:g}")


def duplicate_intent(f: RiskFacts) -> Refusal | None:
    """An intent is decided once, and a strategy works one entry per contract."""
    return None if f.duplicate is None else Refusal("duplicate_intent", f.duplicate, "each intent once")


def order_rate(f: RiskFacts) -> Refusal | None:
    """Not too many orders in the last minute (FIA 3.4). Exits count and are never blocked."""
    if f.orders_last_min < f.limits.max_orders_per_min:
        return None
    return Refusal(
        "order_rate", f"{f.orders_last_min} orders in the last minute", f"below {f.limits.max_orders_per_min}"
    )


def repeated_execution(f: RiskFacts) -> Refusal | None:
    """Not too many round trips of one strategy in a session (FIA 3.2)."""
    if f.round_trips < f.limits.max_round_trips_per_session:
        return None
    allowed = f"below {f.limits.max_round_trips_per_session} a session"
    return Refusal("repeated_execution", f"{f.round_trips} trades of {f.strategy}", allowed)


def _capped(rule: str, observed: int, cap: int | None, of_what: str) -> Refusal | None:
    if cap is None or observed < cap:
        return None
    return Refusal(rule, f"{observed} {of_what}", f"below {cap}, by the strategy's own parameters")


def strategy_trades(f: RiskFacts) -> Refusal | None:
    """The strategy's cap on its trades of a session; entries that may still fill count."""
    return _capped("strategy_trades", f.round_trips, f.caps.trades_per_session, f"trades of {f.strategy} this session")


def strategy_losses(f: RiskFacts) -> Refusal | None:
    """The strategy's cap on its losing trades in a row, net of modelled fees; it ends with the session."""
    seen = f"losing trades of {f.strategy} in a row this session"
    return _capped("strategy_losses", f.strategy_losses_in_a_row, f.caps.losses_in_a_row, seen)


def strategy_open(f: RiskFacts) -> Refusal | None:
    """The strategy's cap on its trades at once; entries at work count."""
    return _capped("strategy_open", f.strategy_open_trades, f.caps.open_trades, f"trades of {f.strategy} at once")


def strategy_underlying_trades(f: RiskFacts) -> Refusal | None:
    """The strategy's cap on its trades of a session in one underlying; entries that may still fill count."""
    seen = f"trades of {f.strategy} in {f.underlying} this session"
    return _capped("strategy_underlying_trades", f.underlying_trades, f.caps.trades_per_underlying_session, seen)


def strategy_underlying_open(f: RiskFacts) -> Refusal | None:
    """The strategy's cap on its trades at once in one underlying; entries at work count."""
    seen = f"trades of {f.strategy} in {f.underlying} at once"
    return _capped("strategy_underlying_open", f.underlying_open_trades, f.caps.open_per_underlying, seen)


def session_window(f: RiskFacts) -> Refusal | None:
    """Entries only while regular trading is on."""
    return None if f.in_session else Refusal("session_window", "outside the session", "09:30 to the close, New York")


def entry_window(f: RiskFacts) -> Refusal | None:
    """The intent has not expired."""
    if f.at_ns < f.valid_until_ns:
        return None
    return Refusal("entry_window", f"{(f.at_ns - f.valid_until_ns) / NS:.1f} s late", "before the window's end")


def expiry_window(f: RiskFacts) -> Refusal | None:
    """Nothing is opened late on expiry day: the broker refuses from 15:30 and may sell out soon after."""
    limit = f"at least {f.limits.expiry_day_no_open_min} min before the close of expiry day"
    if f.expiry_close_ns is None or f.expires_today is None:
        return Refusal("expiry_window", UNKNOWN, limit)
    left_ns = f.expiry_close_ns - f.at_ns
    if left_ns <= 0 or (f.expires_today and left_ns <= f.limits.expiry_day_no_open_min * MINUTE_NS):
        return Refusal("expiry_window", f"{left_ns / MINUTE_NS:.1f} min before expiry", limit)
    return None


def exit_plan(f: RiskFacts) -> Refusal | None:
    """The forced exit lies ahead, and not after the contract has ceased to exist."""
    if f.expiry_close_ns is None:
        return Refusal("exit_plan", UNKNOWN, "flat before expiry")
    if f.at_ns < f.flat_ns <= f.expiry_close_ns:
        return None
    return Refusal("exit_plan", f"flat {(f.flat_ns - f.at_ns) / NS:.0f} s from now", "ahead, and before expiry")


def structure(f: RiskFacts) -> Refusal | None:
    """One to four legs of one underlying that one order can name, at a price that has one sign and a loss.

    A short expires with the first leg, because the worst case is taken at one price of the underlying. Where the ladder
    crosses zero, fractions of the price say nothing; a unit that cannot lose is quoted wrongly, and the stop of one
    that cannot gain is nothing beside its loss.
    """
    limit = f"1 to {MAX_LEGS} different contracts of one underlying, ratios in lowest terms, that may gain and may lose"
    if f.fault is not None:
        return Refusal("structure", f.fault, limit)
    if f.is_single:
        return None
    outlives = [leg for leg in f.shorts if parse_occ(leg).expiry > min(parse_occ(one.symbol).expiry for one in f.unit)]
    if outlives:
        return Refusal("structure", f"{', '.join(outlives)} outlives another leg", "shorts expire with the first leg")
    worst, first, outcome = f.worst_price_usd, f.first_price_usd, f.payoff
    if worst is None or first is None or outcome is None:
        return Refusal("structure", UNKNOWN, limit)
    if worst * first <= 0:
        return Refusal("structure", f"a net price from {first} to {worst} USD", "a price that is paid, or is received")
    if outcome.max_loss_usd is not None and outcome.max_loss_usd <= 0:
        return Refusal("structure", f"no loss is possible at {worst} USD: the quotes cannot be right", limit)
    if outcome.max_gain_usd is not None and outcome.max_gain_usd <= 0:
        return Refusal("structure", f"no gain is possible at {worst} USD", limit)
    return None


def naked_short(f: RiskFacts) -> Refusal | None:
    """No option is sold to open unless a long of the same order covers it to its end."""
    return None if f.covered else Refusal("naked_short", f"sell {', '.join(f.shorts)} to open", "never")


def contract_listed(f: RiskFacts) -> Refusal | None:
    """Every contract is in the broker's list for the underlying and tradable."""
    if not f.known_contract or f.tradable is None:
        return Refusal("contract_listed", UNKNOWN, "listed and tradable")
    return None if f.tradable else Refusal("contract_listed", f"{f.symbol} is not tradable", "listed and tradable")


def restricted_symbol(f: RiskFacts) -> Refusal | None:
    """The underlying is not on the restricted list."""
    if f.underlying not in f.limits.restricted_symbols:
        return None
    return Refusal("restricted_symbol", f.underlying, "not restricted")


def underlying_halted(f: RiskFacts) -> Refusal | None:
    """The tape has not halted the underlying, and it is known to trade in this connection."""
    if f.halted is None:
        return Refusal("underlying_halted", UNKNOWN, "not halted")
    return Refusal("underlying_halted", f"{f.underlying} is halted", "not halted") if f.halted else None


def quote_age(f: RiskFacts) -> Refusal | None:
    """The option's quote is fresh."""
    limit = f"at most {f.limits.max_option_quote_age_s} s"
    if f.quoted_ns is None:
        return Refusal("quote_age", UNKNOWN, limit)
    if f.at_ns - f.quoted_ns > f.limits.max_option_quote_age_s * NS:
        return Refusal("quote_age", f"{(f.at_ns - f.quoted_ns) / NS:.1f} s", limit)
    return None


def two_sided(f: RiskFacts) -> Refusal | None:
    """The option has a bid and an ask, not crossed; of a structure every leg but wings offered at next to nothing."""
    limit = "a bid below or at the ask"
    if f.one_sided:
        return Refusal("two_sided", "; ".join(f.one_sided), f"{limit}, in every leg")
    if f.bid_usd is None and f.ask_usd is None:
        return Refusal("two_sided", UNKNOWN, limit)
    if f.bid_usd is None or f.ask_usd is None:
        return Refusal("two_sided", f"no {'bid' if f.bid_usd is None else 'ask'}", limit)
    if f.bid_usd > f.ask_usd or (f.is_single and f.bid_usd <= 0):
        return Refusal("two_sided", f"bid {f.bid_usd} USD, ask {f.ask_usd} USD", limit)
    return None


def spread(f: RiskFacts) -> Refusal | None:
    """The spread is narrow enough to leave again.

    Of a structure it is the sum of its legs' spreads, against that many times the dollars and the sum of their mids.
    """
    limits, contracts = f.limits, sum(leg.ratio for leg in f.unit)
    widest = limits.max_spread_usd * contracts
    of_what = "the mid" if f.is_single else "the legs' mids"
    limit = f"at most {widest} USD and {limits.max_spread_fraction:.0%} of {of_what}"
    mid = f.mid_usd if f.is_single else f.gross_usd
    if mid is None or f.bid_usd is None or f.ask_usd is None:
        return Refusal("spread", UNKNOWN, limit)
    wide = f.ask_usd - f.bid_usd
    if wide > min(widest, limits.max_spread_fraction * mid):
        return Refusal("spread", f"{wide} USD on {'a mid' if f.is_single else 'mids'} of {mid} USD", limit)
    return None


def price_collar(f: RiskFacts) -> Refusal | None:
    """The worst price we would pay, and the mid the strategy decided on, lie near the fresh mid (FIA 1.3)."""
    limits = f.limits
    limit = f"within {limits.price_collar_fraction:.0%} or {limits.price_collar_usd} USD of the mid"
    if f.mid_usd is None or f.worst_price_usd is None or f.decision_mid_usd is None:
        return Refusal("price_collar", UNKNOWN, limit)
    mid = f.mid_usd
    room = max(limits.price_collar_fraction * abs(mid), limits.price_collar_usd)
    far = max((f.worst_price_usd, f.decision_mid_usd), key=lambda price: abs(price - mid))
    if abs(far - mid) > room:
        return Refusal("price_collar", f"{far} USD against a mid of {mid} USD", limit)
    return None


def contract_conflict(f: RiskFacts) -> Refusal | None:
    """No leg opposite to one that is held: the broker nets per account."""
    return Refusal("contract_conflict", "; ".join(f.conflicts), "never") if f.conflicts else None


def self_cross(f: RiskFacts) -> Refusal | None:
    """No working order of ours on the other side of the same contract (FIA 3.5)."""
    if not f.opposite_orders:
        return None
    return Refusal("self_cross", f"working: {', '.join(f.opposite_orders)}", "no opposite working order")


def options_level(f: RiskFacts) -> Refusal | None:
    """The account may buy options; structures need level 3."""
    needed = f.limits.min_options_level if f.is_single else max(f.limits.min_options_level, STRUCTURES_LEVEL)
    limit = f"level {needed} or more"
    if f.options_level is None:
        return Refusal("options_level", UNKNOWN, limit)
    return Refusal("options_level", f"level {f.options_level}", limit) if f.options_level < needed else None


def account_blocked(f: RiskFacts) -> Refusal | None:
    """The broker has not blocked trading."""
    if f.trading_blocked is None:
        return Refusal("account_blocked", UNKNOWN, "not blocked")
    return Refusal("account_blocked", "trading is blocked", "not blocked") if f.trading_blocked else None


RULES: tuple[Rule, ...] = (
    trading_state,
    draining,
    strategy_failed,
    strategy_disabled,
    day_loss,
    loss_streak,
    drawdown,
    feeds,
    reconciled,
    order_unknown,
    confidence,
    duplicate_intent,
    order_rate,
    repeated_execution,
    strategy_trades,
    strategy_losses,
    strategy_open,
    strategy_underlying_trades,
    strategy_underlying_open,
    session_window,
    entry_window,
    expiry_window,
    exit_plan,
    structure,
    naked_short,
    contract_listed,
    restricted_symbol,
    underlying_halted,
    quote_age,
    two_sided,
    spread,
    price_collar,
    contract_conflict,
    self_cross,
    options_level,
    account_blocked,
)


def broken(facts: RiskFacts) -> tuple[Refusal, ...]:
    """Evaluate every rule and return every refusal, in the order of ``RULES``."""
    return tuple(refusal for rule in RULES if (refusal := rule(facts)) is not None)

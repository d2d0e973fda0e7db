"""What people are shown, as plain values that JSON and the store can hold: the broker's records, a trade's preview.

Inputs: an account report, the ledger's view, facts and size of an intent. Outputs: dicts. Invariants: amounts are
exact decimal text; unknown is None; nothing is decided or changed here.
"""

from collections.abc import Iterable
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec

from oracle.core.messages import (
    ForeignExecution,
    Intent,
    IntentApproved,
    IntentRefused,
    Leg,
    NoData,
    NoSignal,
    Refusal,
    TradeEvaluated,
)
from oracle.core.money import CENT
from oracle.core.ports import Context, LedgerView
from oracle.core.reports import AccountReported
from oracle.core.sessions import NS
from oracle.core.vocabulary import Feed, Side, TradingState
from oracle.risk.priced import net_sides, wanted_name
from oracle.risk.sheet import RiskFacts
from oracle.risk.sizing import Size, planned_usd, worst_usd
from oracle.risk.worth import held_of

Picture = dict[str, Any]


def is_ours(client_order_id: str, token: str) -> bool:
    """Whether an order id was given by this database."""
    return client_order_id.startswith(f"{token}-")


def records(
    report: AccountReported | None, ledger: LedgerView, foreign: Iterable[ForeignExecution], token: str
) -> Picture:
    """What the broker's newest report shows: whose each thing is, and which executions the books do not hold."""
    if report is None:
        return {"positions": None, "orders": None, "executions": []}
    trades = {leg.symbol: t.trade_id for t in ledger.open_trades() for leg in held_of(t)}
    positions = [
        {
            "symbol": p.symbol,
            "qty": f"{p.qty:f}",
            "avg_price_usd": f"{p.avg_entry_price_usd:f}",
            "by_ledger": ledger.position(p.symbol),
            "trade_id": trades.get(p.symbol),
            "ours": ledger.position(p.symbol) == p.qty,
        }
        for p in report.positions
    ]
    orders = [
        {
            "client_order_id": o.client_order_id,
            "symbol": o.symbol,
            "qty": f"{o.qty:f}",
            "side": None if o.side is None else o.side.value,
            "status": o.status,
            "ours": is_ours(o.client_order_id, token),
        }
        for o in report.open_orders
    ]
    executions = [
        {
            "execution_id": e.execution_id,
            "symbol": e.symbol,
            "side": e.side.value,
            "qty": f"{e.qty:f}",
            "price_usd": f"{e.price_usd:f}",
        }
        for e in foreign
    ]
    return {"positions": positions, "orders": orders, "executions": executions}


def verdict(told: Intent | NoSignal | NoData) -> Picture:
    """What a strategy says: its intent, or the reason why there is none."""
    if isinstance(told, NoSignal):
        return {"symbol": told.symbol, "verdict": "no_signal", "reason": told.reason, "facts": told.facts}
    if isinstance(told, NoData):
        return {"symbol": told.symbol, "verdict": "no_data", "reason": told.what, "facts": told.facts}
    symbol, single = wanted_name(told), len(told.legs) == 1
    signed = [leg.side.sign * leg.ratio for leg in told.legs]
    sides = net_sides((n, leg.bid_usd, leg.ask_usd) for n, leg in zip(signed, told.legs, strict=True))
    return {
        "symbol": told.underlying,
        "verdict": "intent",
        "reason": told.reason,
        "facts": told.facts,
        "intent_id": told.intent_id,
        "contract": symbol,
        "side": told.legs[0].side.value if single else Side.BUY.value,
        "bid_usd": text(sides.bid_usd),
        "ask_usd": text(sides.ask_usd),
        "legs": [_leg(leg) for leg in told.legs],
        "confidence": told.confidence,
        "exit_plan": msgspec.to_builtins(told.exit_plan),
    }


def _leg(leg: Leg) -> Picture:
    return {
        "symbol": leg.symbol, "side": leg.side.value, "ratio": leg.ratio, "bid_usd": text(leg.bid_usd),
        "ask_usd": text(leg.ask_usd), "delta": leg.delta, "iv": leg.iv,
    }  # fmt: skip


def prospects(facts: RiskFacts, fits: Size) -> Picture:
    """What one unit can come to at the worst price, and the equity that it needs with the rule that asks for it."""
    outcome = facts.payoff
    return {
        "max_loss_usd": None if outcome is None else text(outcome.max_loss_usd),
        "max_gain_usd": None if outcome is None else text(outcome.max_gain_usd),
        "break_evens": [] if outcome is None else [text(level) for level in outcome.break_evens],
        "net_mid_usd": text(facts.mid_usd),
        "worst_price_usd": text(facts.worst_price_usd),
        "planned_loss_usd": text(planned_usd(facts)),
        "equity_needed_usd": text(fits.equity_needed_usd),
        "needed_by": fits.needed_by,
    }


def house(context: Context, state: TradingState, latches: Iterable[str], symbols: Iterable[str]) -> Picture:
    """What a careful operator looks at before the session, as the daemon has it: account, feeds, clock, calendar."""
    account, session, market = context.account, context.session, context.market
    quotes = {}
    for symbol in sorted(set(symbols)):
        quote, received_ns = market.quote(symbol), market.received_ns(symbol)
        quotes[symbol] = None if quote is None or received_ns is None else {
            "age_s": round((context.at_ns - quote.quoted_ns) / NS, 3),
            "received_s_ago": round((context.at_ns - received_ns) / NS, 3),
        }  # fmt: skip
    return {
        "at_ns": context.at_ns,
        "trading_state": state.value,
        "latches": sorted(latches),
        "feeds": {feed.value: market.feed(feed).value for feed in Feed},
        "reconciled": account.reconciled,
        "options_level": account.options_level,
        "trading_blocked": account.trading_blocked,
        "options_buying_power_usd": text(account.options_buying_power_usd),
        "account_age_s": None if account.at_ns is None else round((context.at_ns - account.at_ns) / NS, 3),
        "equity_usd": text(context.equity.equity_usd),
        "in_session": context.in_session,
        "session": None if session is None else {
            "date": session.date, "open_ns": session.open_ns, "close_ns": session.close_ns,
        },
        "quotes": quotes,
    }  # fmt: skip


def judgement(facts: RiskFacts, fits: Size, refusals: tuple[Refusal, ...]) -> Picture:
    """What risk says of an intent now: the size and what bound it, or every rule that says no."""
    refused = bool(refusals) or facts.equity_usd is None
    contracts = 0 if refused else fits.contracts
    planned, worst = planned_usd(facts), worst_usd(facts)
    if planned is not None:
        planned = (planned * contracts).quantize(CENT, rounding=ROUND_CEILING)
    return {
        "approved": not refused,
        "contracts": contracts,
        "bound_by": None if refused else fits.bound_by,
        "worst_price_usd": text(facts.worst_price_usd),
        "planned_risk_usd": text(planned),
        "worst_case_usd": None if worst is None else text(worst * contracts),
        "equity_usd": text(facts.equity_usd),
        "equity_needed_usd": text(fits.equity_needed_usd),
        "refusals": [msgspec.to_builtins(refusal) for refusal in refusals],
    }


def outcome(told: TradeEvaluated, decided: IntentApproved | IntentRefused | None) -> tuple[bool, str]:
    """Whether an evaluation came to what was asked, in words; of an intent that was sent, what risk decided."""
    first = told.verdicts[0] if told.verdicts else None
    if not told.sent:
        wanted = [v.underlying for v in told.verdicts if isinstance(v, Intent)]
        return True, f"it would trade {', '.join(wanted)}" if wanted else "it would not trade now"
    if not isinstance(first, Intent) or decided is None or decided.intent_id != first.intent_id:
        return False, "not sent"
    if isinstance(decided, IntentApproved):
        return True, f"sent: {decided.contracts} of {wanted_name(first)}, bound by {decided.bound_by}"
    return False, f"refused: {', '.join(r.rule for r in decided.refusals)}"


def text(amount: Decimal | None) -> str | None:
    """Exact text of an amount; unknown stays None."""
    return None if amount is None else f"{amount:f}"

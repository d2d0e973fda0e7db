"""What people are shown, as plain values that JSON and the store can hold: the broker's records, a trade's preview.

Inputs: an account report, the ledger's view, facts and size of an intent. Outputs: dicts. Invariants: amounts are
exact decimal text; unknown is None; nothing is decided or changed here.
"""

from collections.abc import Iterable
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec

from oracle.core.messages import (
    AccountReported,
    ForeignExecution,
    Intent,
    IntentApproved,
    IntentRefused,
    NoData,
    NoSignal,
    Refusal,
    TradeEvaluated,
)
from oracle.core.money import CENT
from oracle.core.ports import LedgerView
from oracle.risk.sheet import RiskFacts
from oracle.risk.sizing import Size, planned_usd, premium_usd

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
    trades = {t.symbol: t.trade_id for t in ledger.open_trades()}
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
    leg = told.legs[0]
    return {
        "symbol": told.underlying,
        "verdict": "intent",
        "reason": told.reason,
        "facts": told.facts,
        "intent_id": told.intent_id,
        "contract": leg.symbol,
        "side": leg.side.value,
        "bid_usd": str(leg.bid_usd),
        "ask_usd": str(leg.ask_usd),
        "confidence": told.confidence,
        "exit_plan": msgspec.to_builtins(told.exit_plan),
    }


def judgement(facts: RiskFacts, fits: Size, refusals: tuple[Refusal, ...]) -> Picture:
    """What risk says of an intent now: the size and what bound it, or every rule that says no."""
    refused = bool(refusals) or facts.equity_usd is None
    contracts = 0 if refused else fits.contracts
    planned, premium = planned_usd(facts), premium_usd(facts)
    if planned is not None:
        planned = (planned * contracts).quantize(CENT, rounding=ROUND_CEILING)
    return {
        "approved": not refused,
        "contracts": contracts,
        "bound_by": None if refused else fits.bound_by,
        "worst_price_usd": text(facts.worst_price_usd),
        "planned_risk_usd": text(planned),
        "worst_case_usd": None if premium is None else text(premium * contracts),
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
        return True, f"sent: {decided.contracts} of {first.legs[0].symbol}, bound by {decided.bound_by}"
    return False, f"refused: {', '.join(r.rule for r in decided.refusals)}"


def text(amount: Decimal | None) -> str | None:
    """Exact text of an amount; unknown stays None."""
    return None if amount is None else f"{amount:f}"

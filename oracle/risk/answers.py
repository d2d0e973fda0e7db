"""The two answers to an intent, as messages. Pure: no state, no order is made here.

Inputs: the intent, the rules' refusals and the size. Outputs: IntentRefused or IntentApproved.
"""

from decimal import Decimal

from oracle.core.messages import Intent, IntentApproved, IntentRefused, Refusal, SubmitOrder
from oracle.risk.sizing import Size


def refused(
    decision_id: str, intent: Intent, refusals: tuple[Refusal, ...], equity_usd: Decimal | None, fits: Size
) -> IntentRefused:
    """Say no, with every rule that was broken and the equity that one contract would need."""
    return IntentRefused(
        decision_id=decision_id,
        intent_id=intent.intent_id,
        strategy=intent.strategy,
        underlying=intent.underlying,
        refusals=refusals,
        equity_usd=equity_usd,
        equity_needed_usd=fits.equity_needed_usd,
    )


def approved(intent: Intent, order: SubmitOrder, fits: Size) -> IntentApproved:
    """Say yes to the order that was made, at its size."""
    return IntentApproved(
        decision_id=order.decision_id,
        intent_id=intent.intent_id,
        strategy=intent.strategy,
        underlying=intent.underlying,
        contracts=fits.contracts,
        bound_by=fits.bound_by,
        planned_risk_usd=order.planned_risk_usd,
        worst_case_usd=order.worst_case_usd,
        equity_usd=order.equity_usd,
        headroom=fits.headroom,
    )

"""The terms of an entry and of an exit: every field of a ``SubmitOrder``, which only the gate may make. Pure.

Inputs: an intent with its facts and size, or an exit that is wished for. Outputs: dicts of fields. Invariant: an
entry's ladder ends at the worst price at which the rules were run.
"""

from decimal import ROUND_CEILING
from typing import Any

from oracle.core.errors import ProtocolError
from oracle.core.messages import Intent, LadderStep, SubmitOrder
from oracle.core.money import CENT, ZERO
from oracle.core.ports import Context
from oracle.core.sessions import NS
from oracle.core.structures import is_structure, legs_of
from oracle.core.vocabulary import OrderType, Purpose, Side
from oracle.risk.closing import Closing, sides_of
from oracle.risk.ladder import build_ladder, market_ladder, total_s
from oracle.risk.limits import LadderSettings
from oracle.risk.priced import ticks_of
from oracle.risk.sheet import RiskFacts
from oracle.risk.sizing import Size, planned_usd, worst_usd
from oracle.risk.watch import ExitWish

Terms = dict[str, Any]


def entry_terms(
    intent: Intent, order_id: str, facts: RiskFacts, fits: Size, settings: LadderSettings, context: Context
) -> Terms:
    """The fields of an entry at the size that fits; the gate adds what names it.

    Raises:
        ProtocolError: the intent was sized without a price or equity.
    """
    bid, ask, planned, worst, outcome = facts.bid_usd, facts.ask_usd, planned_usd(facts), worst_usd(facts), facts.payoff
    if bid is None or ask is None or planned is None or worst is None or outcome is None or facts.equity_usd is None:
        raise ProtocolError(f"intent {intent.intent_id}: sized without a price or equity")
    ticks = ticks_of(context.chains, intent.underlying, facts.unit)
    ladder = build_ladder(bid, ask, Side.BUY, ticks, settings, signed=not facts.is_single)
    gain = outcome.max_gain_usd
    return {
        "order_id": order_id,
        "trade_id": order_id,
        "strategy": intent.strategy,
        "strategy_hash": intent.strategy_hash,
        "underlying": intent.underlying,
        "purpose": Purpose.ENTRY,
        "symbol": facts.symbol,
        "side": Side.BUY,
        "contracts": fits.contracts,
        "order_type": OrderType.LIMIT,
        "ladder": ladder,
        "worst_price_usd": facts.worst_price_usd,
        "decision_mid_usd": facts.decision_mid_usd,
        "window_end_ns": min(intent.valid_until_ns, context.at_ns + round(total_s(ladder) * NS)),
        "exit_plan": intent.exit_plan,
        "planned_risk_usd": (planned * fits.contracts).quantize(CENT, rounding=ROUND_CEILING),
        "worst_case_usd": worst * fits.contracts,
        "equity_usd": facts.equity_usd,
        "reason": intent.reason,
        "max_gain_usd": None if gain is None else gain * fits.contracts,
        "break_evens": outcome.break_evens,
    }


def exit_ladder(
    closing: Closing, underlying: str, settings: LadderSettings, context: Context
) -> tuple[LadderStep, ...]:
    """The limits of a target's exit; none without two uncrossed sides, or where every price would be zero."""
    sides = sides_of(closing, context.chains)
    if sides.bid_usd is None or sides.ask_usd is None or sides.mid_usd is None:
        return ()
    ticks, signed = ticks_of(context.chains, underlying, legs_of(closing.symbol)), is_structure(closing.symbol)
    return build_ladder(sides.bid_usd, sides.ask_usd, closing.side, ticks, settings, signed=signed)


def exit_terms(wish: ExitWish, entry: SubmitOrder, order_id: str, settings: LadderSettings, context: Context) -> Terms:
    """The fields of an exit: a ladder for a target, else a market order.

    Raises:
        ProtocolError: a target was judged without a market to make limits of.
    """
    trade, target, closing = wish.trade, wish.trigger.purpose is Purpose.TARGET, wish.closing
    sides = sides_of(closing, context.chains)
    ladder = exit_ladder(closing, trade.underlying, settings, context) if target else market_ladder(settings)
    if not ladder:
        raise ProtocolError(f"trade {trade.trade_id}: a target was judged without a price to name")
    return {
        "order_id": order_id,
        "trade_id": trade.trade_id,
        "decision_id": entry.decision_id,
        "strategy": trade.strategy,
        "strategy_hash": trade.strategy_hash,
        "underlying": trade.underlying,
        "purpose": wish.trigger.purpose,
        "symbol": closing.symbol,
        "side": closing.side,
        "contracts": closing.contracts,
        "order_type": OrderType.LIMIT if target else OrderType.MARKET,
        "ladder": ladder,
        "worst_price_usd": ladder[-1].limit_usd,
        "decision_mid_usd": sides.mid_usd,
        "window_end_ns": context.at_ns + round(total_s(ladder) * NS),
        "exit_plan": None,
        "planned_risk_usd": ZERO,
        "worst_case_usd": ZERO,
        "equity_usd": entry.equity_usd if context.equity.equity_usd is None else context.equity.equity_usd,
        "reason": f"{wish.trigger.rule}: {wish.trigger.observed}, {wish.trigger.limit}",
    }
